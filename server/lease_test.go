package server

import (
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
)

// asking is a CREATE that asks for an oplock, or with a lease for that.
func asking(m *smb2.CreateRequest, level smb2.OplockLevel, l *smb2.Lease) *smb2.CreateRequest {
	m.RequestedOplockLevel = level
	if l != nil {
		m.RequestedOplockLevel = smb2.OplockLevelLease
		data, _ := l.AppendBinary(nil)
		m.Contexts, _ = smb2.AppendCreateContext(m.Contexts, smb2.CreateContextLease, data)
	}
	return m
}

// lease asks for rights by a key of one octet.
func lease(key byte, rights smb2.LeaseState) *smb2.Lease {
	return &smb2.Lease{Version: 1, LeaseKey: smb2.GUID{key}, LeaseState: rights}
}

// lease2 is lease, version 2.
func lease2(key byte, rights smb2.LeaseState, epoch uint16) *smb2.Lease {
	return &smb2.Lease{Version: 2, LeaseKey: smb2.GUID{key}, LeaseState: rights, Epoch: epoch}
}

// grantOf is what a CREATE response grants: the rights of a lease, or those that the
// oplock level amounts to.
func grantOf(t *testing.T, m *smb2.CreateResponse) (rights smb2.LeaseState, l smb2.Lease) {
	t.Helper()
	switch m.OplockLevel {
	case smb2.OplockLevelII:
		return cacheR, l
	case smb2.OplockLevelExclusive:
		return cacheR | cacheW, l
	case smb2.OplockLevelBatch:
		return cacheRWH, l
	case smb2.OplockLevelLease:
		for c, err := range smb2.CreateContexts(m.Contexts) {
			if err == nil && string(c.Name) == smb2.CreateContextLease {
				l, err = smb2.ParseLease(c.Data)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return l.LeaseState, l
	}
	return 0, l
}

// openAsking opens a file and returns what was granted.
func (p *peer) openAsking(m *smb2.CreateRequest) (smb2.FileID, smb2.LeaseState, smb2.Lease) {
	p.t.Helper()
	st, resp := p.tryCreate(m)
	if st != ntstatus.Success {
		p.t.Fatalf("CREATE: %v", st)
	}
	rights, l := grantOf(p.t.(*testing.T), &resp)
	return resp.FileID, rights, l
}

// broken is a break notification as both kinds have it.
type broken struct {
	to  smb2.LeaseState
	ack bool
}

// nextBreak receives a break notification and returns how to acknowledge it.
func (p *peer) nextBreak() (b broken, ack body, epoch uint16) {
	p.t.Helper()
	h, msg := p.answer()
	if h.Command != smb2.CommandOplockBreak || h.MessageID != smb2.NoMessageID || h.IsSigned() {
		p.t.Fatalf("got %v %d, signed %v, want a break notification", h.Command, h.MessageID, h.IsSigned())
	}
	if smb2.IsLeaseBreak(msg) {
		m, err := smb2.ParseLeaseBreakNotification(msg)
		if err != nil {
			p.t.Fatal(err)
		}
		return broken{m.NewLeaseState, m.Flags&smb2.NotifyBreakLeaseFlagAckRequired != 0},
			&smb2.LeaseBreakAcknowledgment{LeaseKey: m.LeaseKey, LeaseState: m.NewLeaseState}, m.NewEpoch
	}
	m, err := smb2.ParseOplockBreakNotification(msg)
	if err != nil {
		p.t.Fatal(err)
	}
	b.ack = true // the notification does not say: level II is not acknowledged
	if m.OplockLevel == smb2.OplockLevelII {
		b.to = cacheR
	}
	return b, &smb2.OplockBreakAcknowledgment{OplockLevel: m.OplockLevel, FileID: m.FileID}, 0
}

// quiet fails the test if the server has sent anything unasked.
func (p *peer) quiet() {
	p.t.Helper()
	if st, _ := p.do(smb2.CommandEcho, &smb2.EchoRequest{}); st != ntstatus.Success {
		p.t.Fatalf("ECHO: %v", st)
	}
}

// What an open takes of what another client has, what it waits for, and what it gets
// itself: [MS-FSA] 2.1.4.12, 2.1.5.18.
func TestBreakByOpen(t *testing.T) {
	const (
		r, w, h = cacheR, cacheW, cacheH
		all     = smb2.FileShareRead | smb2.FileShareWrite | smb2.FileShareDelete
		rd      = smb2.FileReadData
		attr    = smb2.FileReadAttributes | smb2.Synchronize
		oplock2 = smb2.OplockLevelII
		excl    = smb2.OplockLevelExclusive
		batch   = smb2.OplockLevelBatch
		keep    = smb2.FileOpen
		over    = smb2.FileOverwrite
	)
	none := (*broken)(nil)
	for _, c := range []struct {
		name string
		// the holder asks for an oplock, or rights by a lease
		level  smb2.OplockLevel
		rights smb2.LeaseState
		share  smb2.ShareAccess
		// the other one's access and disposition; it asks for a lease of RWH
		access smb2.AccessMask
		how    smb2.CreateDisposition

		brk   *broken // what the holder is told
		waits bool    // until the holder has answered
		want  ntstatus.Status
		gets  smb2.LeaseState
	}{
		{"RWH, reader", 0, r | w | h, all, rd, keep, &broken{r | h, true}, true, ntstatus.Success, r | h},
		{"RW, reader", 0, r | w, all, rd, keep, &broken{r, true}, true, ntstatus.Success, r | h},
		{"RH, reader", 0, r | h, all, rd, keep, none, false, ntstatus.Success, r | h},
		{"R, reader", 0, r, all, rd, keep, none, false, ntstatus.Success, r | h},
		{"RWH, for attributes", 0, r | w | h, all, attr, keep, none, false, ntstatus.Success, r | h},
		{"RWH, for attributes and the descriptor", 0, r | w | h, all, attr | smb2.ReadControl, keep, none, false, ntstatus.Success, r | h},
		{"RWH, overwritten", 0, r | w | h, all, rd, over, &broken{0, true}, true, ntstatus.Success, r | h},
		{"RWH, overwritten for attributes", 0, r | w | h, all, attr, over, &broken{0, true}, true, ntstatus.Success, r | h},
		{"RH, overwritten", 0, r | h, all, rd, over, &broken{0, true}, false, ntstatus.Success, r | h},
		{"R, overwritten", 0, r, all, rd, over, &broken{0, false}, false, ntstatus.Success, r | h},
		{"RWH, not shared", 0, r | w | h, 0, rd, keep, &broken{r | w, true}, true, ntstatus.SharingViolation, 0},
		{"RH, not shared", 0, r | h, 0, rd, keep, &broken{r, true}, true, ntstatus.SharingViolation, 0},
		{"RW, not shared", 0, r | w, 0, rd, keep, none, false, ntstatus.SharingViolation, 0},
		{"batch, reader", batch, 0, all, rd, keep, &broken{r, true}, true, ntstatus.Success, r},
		{"batch, for attributes", batch, 0, all, attr, keep, none, false, ntstatus.Success, r},
		{"batch, for the descriptor", batch, 0, all, smb2.ReadControl, keep, &broken{r, true}, true, ntstatus.Success, r},
		{"batch, overwritten", batch, 0, all, rd, over, &broken{0, true}, true, ntstatus.Success, r | h},
		{"batch, not shared", batch, 0, 0, rd, keep, &broken{r, true}, true, ntstatus.SharingViolation, 0},
		{"exclusive, reader", excl, 0, all, rd, keep, &broken{r, true}, true, ntstatus.Success, r},
		{"exclusive, not shared", excl, 0, 0, rd, keep, none, false, ntstatus.SharingViolation, 0},
		{"level II, reader", oplock2, 0, all, rd, keep, none, false, ntstatus.Success, r},
		{"level II, overwritten", oplock2, 0, all, rd, over, &broken{0, false}, false, ntstatus.Success, r | h},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, memconn.Config{}, nil)
			s.write("f", []byte("content"))
			holder := s.login(smb2.DialectSMB311).mustConnect("data")
			other := s.login(smb2.DialectSMB311).mustConnect("data")

			m := createRequest("f", smb2.FileOpen)
			m.ShareAccess = c.share
			var l *smb2.Lease
			if c.rights != 0 {
				l = lease(1, c.rights)
			}
			f, got, _ := holder.openAsking(asking(m, c.level, l))
			if asked := (&cachingRequest{level: c.level}).wanted(); l == nil && got != asked || l != nil && got != c.rights {
				t.Fatalf("holder got %v", got)
			}

			m = createRequest("f", c.how)
			m.DesiredAccess = c.access
			mid := other.post(other.header(smb2.CommandCreate), asking(m, 0, lease(2, r|w|h)))
			var ack body
			if c.brk != nil {
				var b broken
				b, ack, _ = holder.nextBreak()
				if c.rights == 0 && c.level == oplock2 {
					b.ack = false
				}
				if b != *c.brk {
					t.Fatalf("break to %v, acknowledged %v, want %v, %v", b.to, b.ack, c.brk.to, c.brk.ack)
				}
			}
			hdr, msg := other.answer()
			if waited := hdr.Status == ntstatus.Pending; waited != c.waits {
				t.Fatalf("answered %v, want it to wait: %v", hdr.Status, c.waits)
			}
			if c.waits {
				if st, _ := holder.do(smb2.CommandOplockBreak, ack); st != ntstatus.Success {
					t.Fatalf("acknowledgment: %v", st)
				}
				hdr, msg = other.answer()
			}
			if hdr.MessageID != mid || hdr.Status != c.want {
				t.Fatalf("CREATE %d: %v, want %d: %v", hdr.MessageID, hdr.Status, mid, c.want)
			}
			if c.want == ntstatus.Success {
				resp, err := smb2.ParseCreateResponse(msg)
				if err != nil {
					t.Fatal(err)
				}
				if got, _ := grantOf(t, &resp); got != c.gets {
					t.Errorf("granted %v, want %v", got, c.gets)
				}
			}
			holder.quiet()
			holder.close(f)
		})
	}
}

// A client that closes the handle it has cached makes room, [MS-FSA] 2.1.5.1.2.
func TestBreakOfHandleMakesRoom(t *testing.T) {
	for _, c := range []struct {
		name  string
		level smb2.OplockLevel
		lease *smb2.Lease
	}{
		{"lease", 0, lease(1, cacheR|cacheH)},
		{"batch oplock", smb2.OplockLevelBatch, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, memconn.Config{}, nil)
			holder := s.login(smb2.DialectSMB210).mustConnect("data")
			other := s.login(smb2.DialectSMB210).mustConnect("data")
			m := createRequest("f", smb2.FileCreate)
			m.ShareAccess = 0
			f, _, _ := holder.openAsking(asking(m, c.level, c.lease))
			other.begin(smb2.CommandCreate, createRequest("f", smb2.FileOpen))
			holder.nextBreak()
			holder.close(f)
			if h, _ := other.answer(); h.Status != ntstatus.Success {
				t.Errorf("after the handle was closed: %v", h.Status)
			}
		})
	}
}

// What changes the content ends what others cache of it, and does not wait; what the
// client does by its own lease ends nothing.
func TestBreakByChange(t *testing.T) {
	change := map[string]func(p *peer, f smb2.FileID) ntstatus.Status{
		"WRITE": func(p *peer, f smb2.FileID) ntstatus.Status {
			st, _ := p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: f, Data: []byte("x")})
			return st
		},
		"end of file": func(p *peer, f smb2.FileID) ntstatus.Status {
			return p.set(f, smb2.ClassFileEndOfFileInformation, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		},
		"allocation": func(p *peer, f smb2.FileID) ntstatus.Status {
			return p.set(f, smb2.ClassFileAllocationInformation, []byte{0, 0, 1, 0, 0, 0, 0, 0})
		},
		"LOCK": func(p *peer, f smb2.FileID) ntstatus.Status {
			return p.lock(f, smb2.LockElement{Length: 1, Flags: smb2.LockFlagExclusiveLock | smb2.LockFlagFailImmediately})
		},
	}
	for name, do := range change {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, memconn.Config{}, nil)
			s.write("f", []byte("content"))
			reader := s.login(smb2.DialectSMB311).mustConnect("data")
			cacher := s.login(smb2.DialectSMB311).mustConnect("data")
			writer := s.login(smb2.DialectSMB311).mustConnect("data")
			_, got, _ := reader.openAsking(asking(createRequest("f", smb2.FileOpen), 0, lease(1, cacheR)))
			_, got2, _ := cacher.openAsking(asking(createRequest("f", smb2.FileOpen), 0, lease(2, cacheR|cacheH)))
			f, got3, _ := writer.openAsking(asking(createRequest("f", smb2.FileOpen), 0, lease(3, cacheR)))
			if got != cacheR || got2 != cacheR|cacheH || got3 != cacheR {
				t.Fatalf("granted %v, %v, %v", got, got2, got3)
			}
			want(t, name, do(writer, f), ntstatus.Success)
			if b, _, _ := reader.nextBreak(); b != (broken{0, false}) {
				t.Errorf("reader: break to %v, acknowledged %v", b.to, b.ack)
			}
			b, ack, _ := cacher.nextBreak()
			if b != (broken{0, true}) {
				t.Errorf("who caches the handle, too: break to %v, acknowledged %v", b.to, b.ack)
			}
			st, _ := cacher.do(smb2.CommandOplockBreak, ack)
			want(t, "acknowledgment", st, ntstatus.Success)
			writer.quiet()
		})
	}
}

// A level II oplock does not outlive its own client's changes, [MS-FSA] 2.1.4.12.
func TestLevelIIAndOwnWrite(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	f, got, _ := p.openAsking(asking(createRequest("f", smb2.FileCreate), smb2.OplockLevelII, nil))
	if got != cacheR {
		t.Fatalf("granted %v", got)
	}
	p.post(p.header(smb2.CommandWrite), &smb2.WriteRequest{FileID: f, Data: []byte("x")})
	if b, _, _ := p.nextBreak(); b.to != 0 {
		t.Errorf("break to %v, want none", b.to)
	}
	if h, _ := p.answer(); h.Status != ntstatus.Success {
		t.Errorf("WRITE: %v", h.Status)
	}
	st, _ := p.do(smb2.CommandOplockBreak, &smb2.OplockBreakAcknowledgment{FileID: f})
	want(t, "acknowledgment that nobody asked for", st, ntstatus.InvalidOplockProtocol)
}

// Opens by one lease share it: they take nothing from it, may raise it, and the last
// one ends it. [MS-SMB2] 3.3.5.9.8, 3.3.5.9.11.
func TestLeaseShared(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	for i, c := range []struct {
		ask   *smb2.Lease
		want  smb2.LeaseState
		epoch uint16
	}{
		{lease2(1, cacheR, 7), cacheR, 8},
		{lease2(1, cacheR|cacheH, 0), cacheR | cacheH, 9},
		{lease2(1, cacheR|cacheW, 0), cacheR | cacheH, 9}, // not a superset
		{lease2(1, cacheRWH, 0), cacheRWH, 10},
		{lease2(1, cacheR, 0), cacheRWH, 10},
	} {
		_, got, l := p.openAsking(asking(createRequest("f", smb2.FileOpenIf), 0, c.ask))
		if got != c.want || l.Epoch != c.epoch {
			t.Errorf("open %d: %v, epoch %d, want %v, %d", i, got, l.Epoch, c.want, c.epoch)
		}
	}
	// A key is of one file.
	st, _ := p.tryCreate(asking(createRequest("g", smb2.FileCreate), 0, lease(1, cacheR)))
	want(t, "the key for another file", st, ntstatus.InvalidParameter)
	if s.exists("g") {
		t.Error("the other file has been made")
	}
	// Another client's is another lease.
	other := s.login(smb2.DialectSMB311).mustConnect("data")
	other.begin(smb2.CommandCreate, asking(createRequest("f", smb2.FileOpen), 0, lease(1, cacheR)))
	b, ack, epoch := p.nextBreak()
	if b != (broken{cacheR | cacheH, true}) || epoch != 11 {
		t.Fatalf("break to %v, epoch %d", b.to, epoch)
	}
	// While it is being broken it is not raised, and the client is told so.
	_, got, l := p.openAsking(asking(createRequest("f", smb2.FileOpen), 0, lease2(1, cacheRWH, 0)))
	if got != cacheRWH || l.Flags != smb2.LeaseFlagBreakInProgress {
		t.Errorf("during the break: %v, flags %#x", got, l.Flags)
	}
	st, _ = p.do(smb2.CommandOplockBreak, &smb2.LeaseBreakAcknowledgment{LeaseKey: smb2.GUID{1}, LeaseState: cacheRWH})
	want(t, "to keep more than asked", st, ntstatus.RequestNotAccepted)
	st, _ = p.do(smb2.CommandOplockBreak, ack)
	want(t, "acknowledgment", st, ntstatus.Success)
	st, _ = p.do(smb2.CommandOplockBreak, ack)
	want(t, "once more", st, ntstatus.Unsuccessful)
	if h, _ := other.answer(); h.Status != ntstatus.Success {
		t.Errorf("other client: %v", h.Status)
	}
}

// Who breaks more while a break is under way has the client told when it has answered
// the first: write caching goes first, then handles and reading.
func TestBreakWhileBreaking(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	holder := s.login(smb2.DialectSMB311).mustConnect("data")
	reader := s.login(smb2.DialectSMB311).mustConnect("data")
	eraser := s.login(smb2.DialectSMB311).mustConnect("data")
	holder.openAsking(asking(createRequest("f", smb2.FileCreate), 0, lease(1, cacheRWH)))
	reader.begin(smb2.CommandCreate, createRequest("f", smb2.FileOpen))
	for i, c := range []broken{{cacheR | cacheH, true}, {cacheR, true}, {0, false}} {
		b, ack, _ := holder.nextBreak()
		if b != c {
			t.Fatalf("break %d to %v, acknowledged %v, want %v, %v", i, b.to, b.ack, c.to, c.ack)
		}
		if i == 0 {
			eraser.begin(smb2.CommandCreate, createRequest("f", smb2.FileOverwrite))
		}
		if c.ack {
			st, _ := holder.do(smb2.CommandOplockBreak, ack)
			want(t, "acknowledgment", st, ntstatus.Success)
		}
	}
	for _, p := range []*peer{reader, eraser} {
		if h, _ := p.answer(); h.Status != ntstatus.Success {
			t.Errorf("CREATE: %v", h.Status)
		}
	}
}

// A client that does not answer loses what it had, [MS-SMB2] 3.3.6.1.
func TestBreakTimeout(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.BreakTimeout = 10 * time.Millisecond })
	holder := s.login(smb2.DialectSMB311).mustConnect("data")
	other := s.login(smb2.DialectSMB311).mustConnect("data")
	f, _, _ := holder.openAsking(asking(createRequest("f", smb2.FileCreate), smb2.OplockLevelBatch, nil))
	_, got, _ := other.openAsking(asking(createRequest("f", smb2.FileOpen), 0, lease(1, cacheR|cacheH)))
	if got != cacheR|cacheH {
		t.Errorf("granted %v", got)
	}
	holder.nextBreak()
	st, _ := holder.do(smb2.CommandOplockBreak, &smb2.OplockBreakAcknowledgment{FileID: f, OplockLevel: smb2.OplockLevelII})
	want(t, "late acknowledgment", st, ntstatus.InvalidOplockProtocol)
}

// On an encrypted session the break of an oplock is encrypted, with the SessionId that
// its transform header has. That of a lease has none, and goes in the clear: [MS-SMB2]
// 3.3.4.7, 3.2.5.1.1.1.
func TestBreakOfEncryptedSession(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Encryption = PolicyRequired })
	for _, c := range []struct {
		name      string
		level     smb2.OplockLevel
		lease     *smb2.Lease
		encrypted bool
	}{
		{"oplock", smb2.OplockLevelBatch, nil, true},
		{"lease", 0, lease(1, cacheRWH), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			holder := s.login(smb2.DialectSMB311).mustConnect("data")
			other := s.login(smb2.DialectSMB311).mustConnect("data")
			f, _, _ := holder.openAsking(asking(createRequest(c.name, smb2.FileCreate), c.level, c.lease))
			other.begin(smb2.CommandCreate, createRequest(c.name, smb2.FileOpen))
			m, err := holder.c.Receive(s.ctx)
			if err != nil {
				t.Fatal(err)
			}
			data := m.Data
			sid := uint64(0)
			if got := smbcrypto.IsTransform(data); got != c.encrypted {
				t.Fatalf("encrypted %v, want %v", got, c.encrypted)
			} else if got {
				sid = holder.sid
				if data, err = holder.opener.Open(data); err != nil {
					t.Fatal(err)
				}
			}
			h, err := smb2.ParseHeader(data)
			if err != nil || h.Command != smb2.CommandOplockBreak || h.SessionID != sid || h.TreeID != 0 {
				t.Errorf("%v of session %#x, tree %d, %v, want session %#x", h.Command, h.SessionID, h.TreeID, err, sid)
			}
			m.Release()
			holder.close(f)
			if h, _ := other.answer(); h.Status != ntstatus.Success {
				t.Errorf("CREATE: %v", h.Status)
			}
		})
	}
}

// A CREATE that waits can be cancelled, and ends with its session.
func TestCancelWaitingCreate(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	holder := s.login(smb2.DialectSMB311).mustConnect("data")
	other := s.login(smb2.DialectSMB311).mustConnect("data")
	f, _, _ := holder.openAsking(asking(createRequest("f", smb2.FileCreate), smb2.OplockLevelBatch, nil))
	mid, async := other.begin(smb2.CommandCreate, createRequest("f", smb2.FileOpen))
	holder.nextBreak()
	other.sendCancel(mid, async)
	if h, _ := other.answer(); h.Status != ntstatus.Cancelled {
		t.Errorf("cancelled CREATE: %v", h.Status)
	}
	other.begin(smb2.CommandCreate, createRequest("f", smb2.FileOpen))
	other.post(other.header(smb2.CommandLogoff), &smb2.LogoffRequest{})
	for range 2 {
		if h, _ := other.answer(); h.Command == smb2.CommandCreate && h.Status != ntstatus.Cancelled {
			t.Errorf("CREATE of a session that ended: %v", h.Status)
		}
	}
	holder.close(f)
}

// Renaming, deleting and replacing wait for those who keep a handle for no user of
// their own: [MS-FSA] 2.1.4.12, case SET_INFORMATION.
func TestBreakByRename(t *testing.T) {
	rename := func(to string, replace byte) []byte {
		b := make([]byte, 20)
		b[0] = replace
		n := smb2.EncodeUTF16(to)
		b[16] = byte(len(n))
		return append(b, append(n, make([]byte, 8)...)...)
	}
	for _, c := range []struct {
		name  string
		class smb2.FileInfoClass
		buf   []byte
		held  string // what the holder has open
	}{
		{"renamed", smb2.ClassFileRenameInformation, rename("h", 0), "f"},
		{"deleted", smb2.ClassFileDispositionInformation, []byte{1}, "f"},
		{"replaced", smb2.ClassFileRenameInformation, rename("g", 1), "g"},
		{"in a directory that is renamed", smb2.ClassFileRenameInformation, rename("h", 0), `d\g`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, memconn.Config{}, nil)
			s.mkdir("d")
			s.write("f", nil)
			s.write("g", nil)
			s.write("d/g", nil)
			holder := s.login(smb2.DialectSMB311).mustConnect("data")
			other := s.login(smb2.DialectSMB311).mustConnect("data")
			held, _, _ := holder.openAsking(asking(createRequest(c.held, smb2.FileOpen), 0, lease(1, cacheR|cacheH)))
			name := "f"
			if c.held == `d\g` {
				name = "d"
			}
			m := createRequest(name, smb2.FileOpen)
			m.DesiredAccess = smb2.Delete | smb2.FileReadAttributes
			f := other.create(m)
			other.begin(smb2.CommandSetInfo, &smb2.SetInfoRequest{InfoType: smb2.InfoFile, FileInfoClass: uint8(c.class), FileID: f, Buffer: c.buf})
			if b, _, _ := holder.nextBreak(); b != (broken{cacheR, true}) {
				t.Errorf("break to %v, acknowledged %v", b.to, b.ack)
			}
			holder.close(held)
			if h, _ := other.answer(); h.Status != ntstatus.Success {
				t.Errorf("SET_INFO: %v", h.Status)
			}
		})
	}
}

// A lease of a directory ends when something in it changes by another's hand, [MS-FSA]
// 2.1.4.12, PARENT_OBJECT; what is written shows when the file is closed.
func TestDirectoryLease(t *testing.T) {
	// Without a storage that tells of what the server did itself, too: under load that
	// may come too late to be known for it.
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Shares[0].FS = hideOS{c.Shares[0].FS} })
	s.mkdir("d")
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	dir := func() (smb2.FileID, smb2.LeaseState) {
		m := createRequest("d", smb2.FileOpen)
		m.DesiredAccess, m.CreateOptions = smb2.FileReadData|smb2.FileReadAttributes, smb2.FileDirectoryFile
		f, got, _ := p.openAsking(asking(m, 0, lease2(1, cacheRWH, 0)))
		return f, got
	}
	if _, got := dir(); got != cacheR|cacheH {
		t.Fatalf("granted %v", got)
	}
	// By an open that says that it knows of the lease.
	l := lease2(2, cacheRWH, 0)
	l.Flags, l.ParentLeaseKey = smb2.LeaseFlagParentLeaseKeySet, smb2.GUID{1}
	f, _, got := p.openAsking(asking(createRequest(`d\own`, smb2.FileCreate), 0, l))
	if got.Flags != smb2.LeaseFlagParentLeaseKeySet || got.ParentLeaseKey != (smb2.GUID{1}) {
		t.Errorf("parent's key: flags %#x, %v", got.Flags, got.ParentLeaseKey)
	}
	p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: f, Data: []byte("x")})
	p.close(f)
	p.quiet()

	other := s.login(smb2.DialectSMB311).mustConnect("data")
	f = other.openFile(`d\own`)
	p.quiet()
	taken := func(by string) {
		t.Helper()
		b, ack, _ := p.nextBreak()
		if b != (broken{0, true}) {
			t.Errorf("%s: break to %v, acknowledged %v", by, b.to, b.ack)
		}
		st, _ := p.do(smb2.CommandOplockBreak, ack)
		want(t, "acknowledgment", st, ntstatus.Success)
		if _, got := dir(); got != cacheR|cacheH {
			t.Errorf("%s: granted again: %v", by, got)
		}
	}
	other.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: f, Data: []byte("y")})
	p.quiet()
	other.close(f)
	taken("CLOSE after WRITE")
	f = other.openFile(`d\new`)
	taken("CREATE")
	want(t, "rename", other.rename(f, `d\newer`, false), ntstatus.Success)
	// It is both the old and the new directory.
	b, ack, _ := p.nextBreak()
	if b != (broken{0, true}) {
		t.Errorf("rename: break to %v", b.to)
	}
	st, _ := p.do(smb2.CommandOplockBreak, ack)
	want(t, "acknowledgment", st, ntstatus.Success)
	dir()
	want(t, "delete", other.set(f, smb2.ClassFileDispositionInformation, []byte{1}), ntstatus.Success)
	p.quiet()
	other.close(f)
	taken("deletion")
}

// It ends when a local process makes, renames or removes a name, too.
func TestDirectoryLeaseAndLocalChange(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	s.mkdir("d")
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	m := createRequest("d", smb2.FileOpen)
	m.DesiredAccess, m.CreateOptions = smb2.FileReadData|smb2.FileReadAttributes, smb2.FileDirectoryFile
	f, got, _ := p.openAsking(asking(m, 0, lease2(1, cacheR|cacheH, 0)))
	if got != cacheR|cacheH {
		t.Fatalf("granted %v", got)
	}
	s.write("d/local", nil)
	if b, _, _ := p.nextBreak(); b != (broken{0, true}) {
		t.Errorf("break to %v, acknowledged %v", b.to, b.ack)
	}
	p.close(f)
}

// The break of a lease goes by another connection of the client's when one has gone;
// [MS-SMB2] 3.3.4.7.
func TestBreakFailover(t *testing.T) {
	s := newSite(t, memconn.Config{}, multichannel)
	for _, c := range []struct {
		name  string
		level smb2.OplockLevel
		lease *smb2.Lease
	}{
		{"lease", 0, lease(1, cacheRWH)},
		{"oplock", smb2.OplockLevelBatch, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			first := s.login(smb2.DialectSMB311).mustConnect("data")
			second := first.bound()
			f, got, _ := first.openAsking(asking(createRequest(c.name, smb2.FileCreate), c.level, c.lease))
			if got != cacheRWH {
				t.Fatalf("granted %v", got)
			}
			other := s.login(smb2.DialectSMB311).mustConnect("data")
			other.begin(smb2.CommandCreate, createRequest(c.name, smb2.FileOpen))
			first.nextBreak()
			// The client may not have seen it: it is told again.
			first.c.Close()
			_, ack, _ := second.nextBreak()
			st, _ := second.do(smb2.CommandOplockBreak, ack)
			want(t, "acknowledgment", st, ntstatus.Success)
			if h, _ := other.answer(); h.Status != ntstatus.Success {
				t.Errorf("CREATE: %v", h.Status)
			}
			second.close(f)
		})
	}
}

// A client that takes no notifications loses its connection: it would go on using what it
// has cached, and nobody could tell it.
func TestBreaksThatAreNotTaken(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	s.write("f", []byte("old"))
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	if _, got, _ := p.openAsking(asking(createRequest("f", smb2.FileOpen), 0, lease(1, cacheR))); got != cacheR {
		t.Fatalf("granted %v", got)
	}
	s.srv.mu.Lock()
	for c := range s.srv.conns {
		// As if the sender had been stuck in the first of them.
		c.breaks.mu.Lock()
		c.breaks.running = true
		all := newBatch(maxBreakQueue)
		for range maxBreakQueue {
			c.breaks.list = append(c.breaks.list, &notice{c: &caching{}, batch: all})
		}
		c.breaks.mu.Unlock()
	}
	s.srv.mu.Unlock()
	q := s.login(smb2.DialectSMB311).mustConnect("data")
	f := q.openFile("f")
	st, _ := q.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: f, Data: []byte("new")})
	want(t, "WRITE", st, ntstatus.Success)
	s.until("the connection ends", func() bool { return s.srv.findSession(p.sid) == nil })
	q.close(f)
}
