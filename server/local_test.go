//go:build linux

package server

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
)

// local opens a file of the share as a local process would.
func (s *site) local(name string, flags int) *os.File {
	s.t.Helper()
	f, err := os.OpenFile(filepath.Join(s.dir, name), flags, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { f.Close() })
	return f
}

// localLock locks or unlocks a range as a local process would; false if somebody else's
// lock is in the way.
func localLock(t *testing.T, f *os.File, typ int16, off, n int64) bool {
	t.Helper()
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: typ, Start: off, Len: n})
	if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
		t.Fatal(err)
	}
	return err == nil
}

// Byte-range locks hold between clients and local processes, both ways.
func TestPosixLocking(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Shares[0].PosixLocking = true })
	s.write("f", make([]byte, 100))
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	f := p.openFile("f")
	there := s.local("f", os.O_RDWR)
	const (
		rd, wr, un = unix.F_RDLCK, unix.F_WRLCK, unix.F_UNLCK
		now        = smb2.LockFlagFailImmediately
		ex, sh     = smb2.LockFlagExclusiveLock, smb2.LockFlagSharedLock
	)
	probe := func(what string, typ int16, off, n int64, free bool) {
		t.Helper()
		got := localLock(t, there, typ, off, n)
		if got {
			localLock(t, there, un, off, n)
		}
		if got != free {
			t.Errorf("%s: local lock of %d+%d: %v, want %v", what, off, n, got, free)
		}
	}
	do := func(what string, off, n uint64, flags smb2.LockFlags, st ntstatus.Status) {
		t.Helper()
		want(t, what, p.lock(f, smb2.LockElement{Offset: off, Length: n, Flags: flags}), st)
	}

	do("exclusive", 10, 10, ex|now, ntstatus.Success)
	probe("exclusive", rd, 19, 1, false)
	probe("beside exclusive", wr, 20, 1, true)
	// A shared lock of its own within it, and its end, leave the exclusive one.
	do("shared within", 12, 2, sh|now, ntstatus.Success)
	probe("shared within", rd, 12, 1, false)
	do("end of shared", 12, 2, smb2.LockFlagUnlock, ntstatus.Success)
	probe("end of shared", rd, 12, 1, false)
	do("end of exclusive", 10, 10, smb2.LockFlagUnlock, ntstatus.Success)
	probe("end of exclusive", wr, 10, 10, true)

	do("shared", 0, 10, sh|now, ntstatus.Success)
	probe("shared", rd, 0, 10, true)
	probe("shared", wr, 0, 10, false)
	// All of a request or nothing: the second is taken here.
	localLock(t, there, wr, 50, 1)
	want(t, "two, one refused", p.lock(f, smb2.LockElement{Offset: 30, Length: 1, Flags: ex | now},
		smb2.LockElement{Offset: 50, Length: 1, Flags: ex | now}), ntstatus.LockNotGranted)
	probe("after that", wr, 30, 1, true)

	// One that may wait waits for a local process.
	p.begin(smb2.CommandLock, &smb2.LockRequest{FileID: f, Locks: []smb2.LockElement{{Offset: 50, Length: 1, Flags: ex}}})
	localLock(t, there, un, 50, 1)
	if h, _ := p.answer(); h.Status != ntstatus.Success {
		t.Errorf("LOCK that waited: %v", h.Status)
	}
	probe("lock that waited", rd, 50, 1, false)
	// What is beyond the storage's ranges is locked among clients.
	do("beyond 2^63", 1<<63, 10, ex|now, ntstatus.Success)
	do("the last byte of the storage's", 1<<63-1, 1, ex|now, ntstatus.Success)
	do("across that", 1<<63-3, 3, ex|now, ntstatus.LockNotGranted)
	do("before that", 1<<63-3, 2, ex|now, ntstatus.Success)
	do("up to the last byte", 1<<63-5, 1<<63, ex|now, ntstatus.LockNotGranted)
	p.close(f)
	probe("after CLOSE", wr, 0, 100, true)
}

// A local process that opens a file waits while its oplock is broken; what is not
// exclusive is not granted. [MS-SMB2] 3.3.4.6 says how the client is told.
func TestKernelOplocks(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Shares[0].KernelOplocks = true })
	s.write("f", nil)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	for _, c := range []struct {
		name  string
		level smb2.OplockLevel
		lease *smb2.Lease
		want  smb2.LeaseState
	}{
		{"batch", smb2.OplockLevelBatch, nil, cacheRWH},
		{"exclusive", smb2.OplockLevelExclusive, nil, cacheR | cacheW},
		{"level II", smb2.OplockLevelII, nil, 0},
		{"lease", 0, lease(1, cacheRWH), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.t, s.t = t, t
			s.write(c.name, nil)
			f, got, _ := p.openAsking(asking(createRequest(c.name, smb2.FileOpen), c.level, c.lease))
			if got != c.want {
				t.Fatalf("granted %v, want %v", got, c.want)
			}
			defer p.close(f)
			if c.want == 0 {
				s.local(c.name, os.O_RDONLY)
				p.quiet()
				return
			}
			opened := make(chan error, 1)
			go func() { // ends when the oplock has been broken
				l, err := os.Open(filepath.Join(s.dir, c.name))
				if err == nil {
					l.Close()
				}
				opened <- err
			}()
			b, ack, _ := p.nextBreak()
			if b.to != 0 {
				t.Errorf("break to %v, want none", b.to)
			}
			select {
			case err := <-opened:
				t.Errorf("opened before the break was acknowledged: %v", err)
			default:
			}
			st, _ := p.do(smb2.CommandOplockBreak, ack)
			want(t, "acknowledgment", st, ntstatus.Success)
			if err := <-opened; err != nil {
				t.Error(err)
			}
		})
	}
	// A file that a local process has open is not for one alone.
	s.t, p.t = t, t
	s.local("f", os.O_RDONLY)
	f, got, _ := p.openAsking(asking(createRequest("f", smb2.FileOpen), smb2.OplockLevelBatch, nil))
	if got != 0 {
		t.Errorf("beside a local process: granted %v", got)
	}
	p.close(f)
}

// Another client breaks such an oplock as any other.
func TestKernelOplockAndClient(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Shares[0].KernelOplocks = true })
	s.write("f", nil)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	q := s.login(smb2.DialectSMB311).mustConnect("data")
	f, _, _ := p.openAsking(asking(createRequest("f", smb2.FileOpen), smb2.OplockLevelBatch, nil))
	q.begin(smb2.CommandCreate, asking(createRequest("f", smb2.FileOpen), smb2.OplockLevelBatch, nil))
	b, ack, _ := p.nextBreak()
	if b.to != 0 {
		t.Errorf("break to %v, want none", b.to)
	}
	st, _ := p.do(smb2.CommandOplockBreak, ack)
	want(t, "acknowledgment", st, ntstatus.Success)
	h, msg := q.answer()
	if h.Status != ntstatus.Success {
		t.Fatalf("CREATE: %v", h.Status)
	}
	if resp, err := smb2.ParseCreateResponse(msg); err != nil || resp.OplockLevel != smb2.OplockLevelNone {
		t.Errorf("granted %v, %v, want none", resp.OplockLevel, err)
	}
	p.close(f)
}

// What an open does not share it does not share with local processes either that use
// flock(2).
func TestKernelShareModes(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Shares[0].KernelShareModes = true })
	s.write("f", nil)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	for _, c := range []struct {
		name   string
		access smb2.AccessMask
		share  smb2.ShareAccess
		// whether a local process may have the lock with others, and alone
		shared, alone bool
	}{
		{"shares all", smb2.FileReadData | smb2.FileWriteData, smb2.FileShareRead | smb2.FileShareWrite, true, true},
		{"shares reading", smb2.FileReadData, smb2.FileShareRead, true, false},
		{"shares nothing", smb2.FileReadData | smb2.FileWriteData, 0, false, false},
		{"for attributes, shares nothing", smb2.FileReadAttributes, 0, true, true},
		{"to delete, shares nothing", smb2.Delete, 0, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.t, s.t = t, t
			m := createRequest("f", smb2.FileOpen)
			m.DesiredAccess, m.ShareAccess = c.access, c.share
			there := s.local("f", os.O_RDONLY)
			for _, l := range []struct {
				how  int
				free bool
			}{{unix.LOCK_SH, c.shared}, {unix.LOCK_EX, c.alone}} {
				f := p.create(m)
				err := unix.Flock(int(there.Fd()), l.how|unix.LOCK_NB)
				if free := err == nil; free != l.free {
					t.Errorf("flock %d beside the open: %v, want free: %v", l.how, err, l.free)
				}
				unix.Flock(int(there.Fd()), unix.LOCK_UN)
				p.close(f)
				if err := unix.Flock(int(there.Fd()), l.how|unix.LOCK_NB); err != nil {
					t.Errorf("flock %d after CLOSE: %v", l.how, err)
				}
				st, resp := p.tryCreate(m)
				if l.free {
					want(t, "open beside the lock", st, ntstatus.Success)
					p.close(resp.FileID)
				} else {
					want(t, "open beside the lock", st, ntstatus.SharingViolation)
				}
				unix.Flock(int(there.Fd()), unix.LOCK_UN)
			}
		})
	}
}

// [MS-FSA] 2.1.5.1.2: what keeps those out who know nothing of extended attributes is one
// with FILE_NEED_EA that is there, not one that a local process has removed.
func TestNeededEARemovedLocally(t *testing.T) {
	s, p := streamDisk(t)
	req := createRequest("f", smb2.FileCreate)
	req.DesiredAccess |= smb2.FileWriteEA
	f := p.create(req)
	l := smb2.NewEntryList(nil, 4096)
	l.AppendEa(smb2.FileFullEaInformation{Flags: smb2.FileNeedEA, EaName: "a", EaValue: []byte("1")})
	want(t, "setting it", p.set(f, smb2.ClassFileFullEaInformation, l.Bytes()), ntstatus.Success)
	p.close(f)
	req = createRequest("f", smb2.FileOpen)
	req.CreateOptions = smb2.FileNoEAKnowledge
	st, _ := p.tryCreate(req)
	want(t, "while it is there", st, ntstatus.AccessDenied)
	if err := unix.Removexattr(filepath.Join(s.dir, "f"), "user.a"); err != nil {
		t.Fatal(err)
	}
	st, _ = p.tryCreate(req)
	want(t, "when it is gone", st, ntstatus.Success)
}
