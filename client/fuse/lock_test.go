package fuse

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// lockServer has the byte-range locks of a file as [MS-FSA] 2.1.5.8 has them: an
// exclusive lock conflicts with every other one, also of the same open, and a range is
// unlocked exactly as it was locked.
type lockServer struct {
	t    *testing.T
	held []heldLock
}

type heldLock struct {
	by         *lockOpen
	start, end uint64
	exclusive  bool
}

type lockOpen struct{ s *lockServer }

func (o *lockOpen) Lock(_ context.Context, off, length uint64, lo client.LockOptions) error {
	n := heldLock{o, off, off + length - 1, !lo.Shared}
	for _, h := range o.s.held {
		if h.start <= n.end && n.start <= h.end && (h.exclusive || n.exclusive) {
			return &client.Error{Op: "lock", Err: ntstatus.LockNotGranted}
		}
	}
	o.s.held = append(o.s.held, n)
	return nil
}

func (o *lockOpen) Unlock(_ context.Context, off, length uint64) error {
	for i, h := range o.s.held {
		if h.by == o && h.start == off && h.end == off+length-1 {
			o.s.held = slices.Delete(o.s.held, i, i+1)
			return nil
		}
	}
	o.s.t.Errorf("unlock of %d bytes at %d, which is not locked so", length, off)
	return ntstatus.RangeNotLocked
}

// at is what two mounts' owners have of one byte according to POSIX.
type posixLocks map[int][16]byte // by owner: 0, 'r' or 'w'

func (p posixLocks) conflicts(owner, start, end int, w bool) bool {
	for o, bytes := range p {
		if o == owner {
			continue
		}
		for i := start; i <= end; i++ {
			if bytes[i] == 'w' || bytes[i] == 'r' && w {
				return true
			}
		}
	}
	return false
}

// Locks of processes on two mounts are at every moment what POSIX says, whatever they do,
// and the server has no more locked than they have.
func TestLocksAreThoseOfPOSIX(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		srv := &lockServer{t: t}
		opens := [2]*lockOpen{{srv}, {srv}}
		var tables [2]lockTable
		model := posixLocks{}
		var trace []string
		for range 60 {
			owner, mount := rnd.IntN(6), 0
			if owner >= 3 {
				mount = 1
			}
			start := rnd.IntN(16)
			end := start + rnd.IntN(16-start)
			kind := []byte{'r', 'w', 0}[rnd.IntN(3)]
			s := segment{owner: uint64(owner), start: uint64(start), end: uint64(end), exclusive: kind == 'w'}
			var err, want error
			if kind == 0 {
				tables[mount].unlock(t.Context(), opens[mount], s.owner, s.start, s.end)
			} else {
				if model.conflicts(owner, start, end, kind == 'w') {
					want = syscall.EAGAIN
				}
				err = tables[mount].lock(t.Context(), atOnce, opens[mount], s, false)
			}
			trace = append(trace, fmt.Sprintf("owner %d of mount %d: %q %d-%d: %v", owner, mount, kind, start, end, err))
			if !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Fatalf("seed %d: got %v, want %v:\n%v", seed, err, want, trace)
			}
			if err == nil {
				m := model[owner]
				for i := start; i <= end; i++ {
					m[i] = kind
				}
				model[owner] = m
			}
			checkServer(t, seed, srv, opens, model, trace)
		}
	}
}

// checkServer compares what is locked on the server with what the owners of each mount
// have together.
func checkServer(t *testing.T, seed uint64, srv *lockServer, opens [2]*lockOpen, model posixLocks, trace []string) {
	t.Helper()
	for i := range 16 {
		for mount, o := range opens {
			var want, got byte
			for owner, m := range model {
				if owner/3 == mount {
					want = max(want, m[i])
				}
			}
			for _, h := range srv.held {
				if h.by == o && h.start <= uint64(i) && uint64(i) <= h.end {
					got = max(got, 'r')
					if h.exclusive {
						got = 'w'
					}
				}
			}
			if got != want {
				t.Fatalf("seed %d: byte %d of mount %d is locked %q on the server, want %q:\n%v", seed, i, mount, got, want, trace)
			}
		}
	}
}

// Who waits gets the lock when another process here gives it up, and stops with its
// context.
func TestWaitingForLocks(t *testing.T) {
	srv := &lockServer{t: t}
	o := &lockOpen{srv}
	var table lockTable
	if err := table.lock(t.Context(), atOnce, o, segment{owner: 1, end: 9, exclusive: true}, false); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	got := make(chan error)
	go func() { got <- table.lock(ctx, atOnce, o, segment{owner: 2, start: 5, end: 5}, true) }()
	stop()
	if err := <-got; err != syscall.EINTR {
		t.Errorf("after an interrupt: %v, want EINTR", err)
	}
	go func() { got <- table.lock(t.Context(), atOnce, o, segment{owner: 2, start: 5, end: 5}, true) }()
	table.unlock(t.Context(), o, 1, 0, 9)
	if err := <-got; err != nil {
		t.Error(err)
	}
	if len(srv.held) != 1 || srv.held[0].start != 5 || srv.held[0].end != 5 || srv.held[0].exclusive {
		t.Errorf("locked on the server: %v, want byte 5 shared", srv.held)
	}
}

// An append waits for those of others, but a signal ends that, and the next append of the
// same mount then has its turn.
func TestAppendThatIsInterrupted(t *testing.T) {
	s := newNAS(t)
	k := newKernel(t, s.share(t, client.Config{}), Config{})
	_, fh := k.create("f", "old ")
	other, err := s.share(t, client.Config{}).CreateFile(t.Context(), "f", client.CreateOptions{Access: client.AccessReadData | client.AccessWriteData})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Lock(t.Context(), appendLock, 1, client.LockOptions{}); err != nil {
		t.Fatal(err)
	}
	signal := make(chan struct{})
	close(signal)
	in := &gofuse.WriteIn{Fh: fh, Flags: syscall.O_APPEND}
	for range 2 {
		if n, st := k.fs.Write(signal, in, []byte("never")); syscall.Errno(st) != syscall.EINTR {
			t.Errorf("%d bytes, %v; want EINTR", n, st)
		}
	}
	if err := other.Close(); err != nil { // with its lock
		t.Fatal(err)
	}
	_, st := k.fs.Write(nil, in, []byte("new"))
	k.ok(st)
	if got := k.read(fh); got != "old new" {
		t.Errorf("the file is %q", got)
	}
	k.close(fh)
}

// atOnce is an aside that waits for what it does.
func atOnce(ctx context.Context, do func(ctx context.Context)) (over <-chan struct{}, done bool) {
	do(ctx)
	return nil, true
}

// Locks of POSIX do not keep from writing and cutting: what is locked here is changed on
// the server, and is still locked for others.
func TestChangeOfWhatIsLocked(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   uint32
		change func(k *kernel, id, fh uint64) gofuse.Status
		want   string
	}{
		{"written, locked shared", syscall.F_RDLCK, func(k *kernel, id, fh uint64) gofuse.Status {
			_, st := k.fs.Write(nil, &gofuse.WriteIn{InHeader: head(id), Fh: fh, Offset: 4, WriteFlags: gofuse.WRITE_CACHE}, []byte("xyz"))
			return st
		}, "0123xyz789"},
		{"cut, locked shared", syscall.F_RDLCK, cut, "0123"},
		{"cut, locked exclusively", syscall.F_WRLCK, cut, "0123"},
		{"zeros, locked shared", syscall.F_RDLCK, func(k *kernel, id, fh uint64) gofuse.Status {
			return k.fs.Fallocate(nil, &gofuse.FallocateIn{InHeader: head(id), Fh: fh, Offset: 4, Length: 3, Mode: unix.FALLOC_FL_ZERO_RANGE})
		}, "0123\x00\x00\x00789"},
	} {
		t.Run(c.name, func(t *testing.T) {
			kernels(t, func(t *testing.T, s *nas, k *kernel) {
				id, fh := k.create("f", "0123456789")
				lock := gofuse.LkIn{InHeader: head(id), Fh: fh, Owner: 1, Lk: gofuse.FileLock{Start: 2, End: 5, Typ: c.kind}}
				k.ok(k.fs.SetLk(nil, &lock))
				k.ok(c.change(k, id, fh))
				if got, err := os.ReadFile(filepath.Join(s.dir, "f")); err != nil || string(got) != c.want {
					t.Errorf("the server has %q, %v; want %q", got, err, c.want)
				}
				other, err := s.share(t, client.Config{}).OpenFile(t.Context(), "f", os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer other.Close()
				if _, err := other.WriteAt([]byte("!"), 2); !errors.Is(err, ntstatus.FileLockConflict) {
					t.Errorf("another client writes where it is locked: %v", err)
				}
				k.close(fh)
			})
		})
	}
}

func cut(k *kernel, id, fh uint64) gofuse.Status {
	in := gofuse.SetAttrIn{SetAttrInCommon: gofuse.SetAttrInCommon{InHeader: head(id), Valid: gofuse.FATTR_SIZE | gofuse.FATTR_FH, Fh: fh, Size: 4}}
	return k.fs.SetAttr(nil, &in, new(gofuse.AttrOut))
}
