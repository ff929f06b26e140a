package server

import (
	"context"
	"io/fs"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// lose cuts the connection and waits until the server knows that.
func (p *peer) lose() {
	p.t.Helper()
	p.c.Close()
	p.s.until("the session ends with its connection", func() bool { return p.s.srv.findSession(p.sid) == nil })
}

// until waits for something that happens in the background.
func (s *site) until(what string, f func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("never: %s", what)
		}
	}
}

// resilient asks for an open to be resilient for that long.
func (p *peer) resilient(id smb2.FileID, timeout time.Duration) ntstatus.Status {
	p.t.Helper()
	in, err := (&smb2.NetworkResiliencyRequest{Timeout: uint32(timeout.Milliseconds())}).AppendBinary(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	_, st := p.fsctl(smb2.FsctlLMRRequestResiliency, id, in, 0)
	return st
}

// withContext adds a create context.
func withContext(t testing.TB, m *smb2.CreateRequest, name string, data body) *smb2.CreateRequest {
	t.Helper()
	b, err := data.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	if m.Contexts, err = smb2.AppendCreateContext(m.Contexts, name, b); err != nil {
		t.Fatal(err)
	}
	return m
}

// reconnect1 and reconnect2 are CREATEs that ask for an open that there is.
func reconnect1(t testing.TB, name string, id smb2.FileID) *smb2.CreateRequest {
	return withContext(t, createRequest(name, smb2.FileOpen), smb2.CreateContextDurableHandleReconnect, &smb2.DurableHandleReconnect{FileID: id})
}

func reconnect2(t testing.TB, name string, m smb2.DurableHandleReconnectV2) *smb2.CreateRequest {
	return withContext(t, createRequest(name, smb2.FileOpen), smb2.CreateContextDurableHandleV2Reconn, &m)
}

// created sends a CREATE and takes its answer apart.
func (p *peer) created(m *smb2.CreateRequest) (ntstatus.Status, smb2.CreateResponse) {
	p.t.Helper()
	st, msg := p.do(smb2.CommandCreate, m)
	if st != ntstatus.Success {
		return st, smb2.CreateResponse{}
	}
	resp, err := smb2.ParseCreateResponse(msg)
	if err != nil {
		p.t.Fatal(err)
	}
	return st, resp
}

// [MS-SMB2] 3.3.5.15.9: what an open may ask for.
func TestResiliencyRequest(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.MaxDurableTimeout = time.Minute })
	for _, d := range allDialects {
		p := s.login(d).mustConnect("data")
		f := p.openFile("f")
		dir := createRequest("dir", smb2.FileOpenIf)
		dir.CreateOptions = smb2.FileDirectoryFile
		min := ntstatus.Success
		if d == smb2.DialectSMB202 {
			min = ntstatus.InvalidDeviceRequest
		}
		want(t, "no time given", p.resilient(f, 0), min)
		want(t, "the longest time", p.resilient(f, time.Minute), min)
		if d == smb2.DialectSMB202 {
			continue
		}
		want(t, "a longer time", p.resilient(f, time.Minute+time.Millisecond), ntstatus.InvalidParameter)
		want(t, "a directory", p.resilient(p.create(dir), 0), ntstatus.NotSupported)
		_, st := p.fsctl(smb2.FsctlLMRRequestResiliency, f, make([]byte, 7), 0)
		want(t, "too short", st, ntstatus.InvalidParameter)
	}
}

// 3.3.7.1 and 3.3.5.9.7: a resilient open has everything that it had when its client
// comes again.
func TestReconnect(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	p := s.login(smb2.DialectSMB210).mustConnect("data")
	m := createRequest("f", smb2.FileOpenIf)
	m.ShareAccess = 0
	id := p.create(m)
	want(t, "resiliency", p.resilient(id, time.Minute), ntstatus.Success)
	st, _ := p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: id, Data: []byte("kept")})
	want(t, "WRITE", st, ntstatus.Success)
	st, _ = p.do(smb2.CommandLock, &smb2.LockRequest{FileID: id, LockSequenceIndex: 1, LockSequenceNumber: 5,
		Locks: []smb2.LockElement{{Offset: 1, Length: 2, Flags: smb2.LockFlagExclusiveLock | smb2.LockFlagFailImmediately}}})
	want(t, "LOCK", st, ntstatus.Success)
	p.lose()
	if n := s.srv.durables.len(); n != 1 {
		t.Fatalf("%d opens are kept, want 1", n)
	}
	bystander := s.login(smb2.DialectSMB311).mustConnect("data")
	st, _ = bystander.created(createRequest("f", smb2.FileOpen))
	want(t, "another client while it is away", st, ntstatus.SharingViolation)

	bob := s.dial()
	bob.negotiate(smb2.DialectSMB311)
	want(t, "bob's logon", bob.logon("bob", "hunter2"), ntstatus.Success)
	bob.mustConnect("data")
	q := s.login(smb2.DialectSMB210).mustConnect("data")
	other := id
	other.Persistent++
	for _, c := range []struct {
		name string
		p    *peer
		m    *smb2.CreateRequest
		want ntstatus.Status
	}{
		{"by another user", bob, reconnect1(t, "f", id), ntstatus.AccessDenied},
		{"of no open", q, reconnect1(t, "f", other), ntstatus.ObjectNameNotFound},
		{"in another share", s.login(smb2.DialectSMB210).mustConnect("ro"), reconnect1(t, "f", id), ntstatus.ObjectNameNotFound},
		{"by a CreateGuid that it has not", s.login(smb2.DialectSMB300).mustConnect("data"),
			reconnect2(t, "f", smb2.DurableHandleReconnectV2{FileID: id, CreateGUID: smb2.GUID{1}}), ntstatus.ObjectNameNotFound},
	} {
		st, _ := c.p.created(c.m)
		want(t, "reconnect "+c.name, st, c.want)
	}
	st, resp := q.created(reconnect1(t, "any name", id))
	want(t, "reconnect", st, ntstatus.Success)
	if resp.FileID.Persistent != id.Persistent || resp.FileID.Volatile == id.Volatile || resp.CreateAction != smb2.FileOpened || resp.EndOfFile != 4 {
		t.Fatalf("reconnect: %+v of %v", resp, id)
	}
	st, _ = q.created(reconnect1(t, "f", id))
	want(t, "reconnect to what is connected", st, ntstatus.ObjectNameNotFound)
	st, _ = q.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: id, Data: []byte("x")})
	want(t, "WRITE by the old FileId", st, ntstatus.FileClosed)
	id = resp.FileID
	st, msg := q.do(smb2.CommandRead, &smb2.ReadRequest{FileID: id, Length: 10})
	want(t, "READ", st, ntstatus.Success)
	if r, err := smb2.ParseReadResponse(msg); err != nil || string(r.Data) != "kept" {
		t.Fatalf("READ: %q, %v", r.Data, err)
	}
	lock := &smb2.LockRequest{FileID: id, LockSequenceIndex: 1, LockSequenceNumber: 5,
		Locks: []smb2.LockElement{{Offset: 1, Length: 2, Flags: smb2.LockFlagExclusiveLock | smb2.LockFlagFailImmediately}}}
	st, _ = q.do(smb2.CommandLock, lock)
	want(t, "LOCK that is sent again", st, ntstatus.Success)
	lock.LockSequenceIndex, lock.Locks[0].Flags = 0, smb2.LockFlagUnlock
	st, _ = q.do(smb2.CommandLock, lock)
	want(t, "unlock", st, ntstatus.Success)
	st, _ = q.do(smb2.CommandLock, lock)
	want(t, "unlock of what was locked once", st, ntstatus.RangeNotLocked)
	st, _ = q.do(smb2.CommandClose, &smb2.CloseRequest{FileID: id})
	want(t, "CLOSE", st, ntstatus.Success)
	st, _ = bystander.created(createRequest("f", smb2.FileOpen))
	want(t, "another client after that", st, ntstatus.Success)
}

// What ends a session, and what becomes of its opens: 3.3.5.6, 3.3.5.8, 3.3.7.1,
// 3.3.5.5.3.
func TestWhatOutlivesASession(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(t *testing.T, s *site, p *peer, id smb2.FileID)
		kept bool
	}{
		{"loss of the connection", func(t *testing.T, s *site, p *peer, id smb2.FileID) { p.lose() }, true},
		{"LOGOFF", func(t *testing.T, s *site, p *peer, id smb2.FileID) {
			st, _ := p.do(smb2.CommandLogoff, &smb2.LogoffRequest{})
			want(t, "LOGOFF", st, ntstatus.Success)
		}, true},
		{"a session in its place", func(t *testing.T, s *site, p *peer, id smb2.FileID) {
			q := s.dial()
			q.negotiate(smb2.DialectSMB311)
			want(t, "logon", q.setup("ann", "secret", 0, smb2.SessionSetupRequest{SecurityMode: 1, PreviousSessionID: p.sid}), ntstatus.Success)
		}, true},
		{"TREE_DISCONNECT", func(t *testing.T, s *site, p *peer, id smb2.FileID) {
			st, _ := p.do(smb2.CommandTreeDisconnect, &smb2.TreeDisconnectRequest{})
			want(t, "TREE_DISCONNECT", st, ntstatus.Success)
		}, false},
		{"CLOSE", func(t *testing.T, s *site, p *peer, id smb2.FileID) {
			st, _ := p.do(smb2.CommandClose, &smb2.CloseRequest{FileID: id})
			want(t, "CLOSE", st, ntstatus.Success)
			p.lose()
		}, false},
		{"an administrator", func(t *testing.T, s *site, p *peer, id smb2.FileID) { s.srv.CloseByID(CloseSession, p.sid) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, memconn.Config{}, nil)
			p := s.login(smb2.DialectSMB311).mustConnect("data")
			m := createRequest("f", smb2.FileOpenIf)
			m.CreateOptions = smb2.FileDeleteOnClose
			id := p.create(m)
			want(t, "resiliency", p.resilient(id, time.Minute), ntstatus.Success)
			c.end(t, s, p, id)
			q := s.login(smb2.DialectSMB311).mustConnect("data")
			status, again := ntstatus.ObjectNameNotFound, ntstatus.ObjectNameNotFound
			if c.kept {
				status, again = ntstatus.Success, ntstatus.DeletePending
			}
			st, resp := q.created(reconnect1(t, "f", id))
			want(t, "reconnect", st, status)
			if c.kept { // it is still to be deleted with its last open
				st, _ = q.do(smb2.CommandClose, &smb2.CloseRequest{FileID: resp.FileID})
				want(t, "CLOSE", st, ntstatus.Success)
				again = ntstatus.ObjectNameNotFound
			}
			st, _ = q.created(createRequest("f", smb2.FileOpen))
			want(t, "the file that is deleted on close", st, again)
			if n := s.srv.durables.len(); n != 0 {
				t.Errorf("%d opens are still kept", n)
			}
		})
	}
}

// 3.3.6.4: an open that nobody comes back for is closed when its time is over.
func TestScavenger(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	short, long := p.openFile("short"), p.openFile("long")
	want(t, "resiliency", p.resilient(long, time.Minute), ntstatus.Success)
	want(t, "resiliency", p.resilient(short, time.Millisecond), ntstatus.Success)
	p.lose()
	s.until("the first open is closed", func() bool { return s.srv.durables.len() == 1 })
	q := s.login(smb2.DialectSMB311).mustConnect("data")
	st, _ := q.created(reconnect1(t, "short", short))
	want(t, "reconnect after its time", st, ntstatus.ObjectNameNotFound)
	st, _ = q.created(reconnect1(t, "long", long))
	want(t, "reconnect in time", st, ntstatus.Success)
}

// What clients may leave behind is bounded, for all and for each user. What there is
// goes with the server.
func TestDurableLimits(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits Limits
		users  []string // the first leaves 3 opens behind, the others 1
		kept   int
	}{
		{"room for all", Limits{}, []string{"ann", "bob"}, 4},
		{"of a user", Limits{DurableOpensPerUser: 2}, []string{"ann", "bob"}, 3},
		{"of the server", Limits{DurableOpens: 2}, []string{"ann", "bob"}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, memconn.Config{}, func(cfg *Config) { cfg.Limits = c.limits })
			for i, u := range c.users {
				p := s.dial()
				p.negotiate(smb2.DialectSMB311)
				want(t, "logon", p.logon(u, map[string]string{"ann": "secret", "bob": "hunter2"}[u]), ntstatus.Success)
				p.mustConnect("data")
				for range 3 - 2*i {
					want(t, "resiliency", p.resilient(p.openFile("f"), time.Minute), ntstatus.Success)
				}
				p.lose()
			}
			s.until("what there is no room for is closed", func() bool {
				_, opens := s.srv.files.counts()
				return opens == c.kept
			})
			if n := s.srv.durables.len(); n != c.kept {
				t.Errorf("%d opens are kept, want %d", n, c.kept)
			}
			s.srv.Close()
			if files, opens := s.srv.files.counts(); files != 0 || opens != 0 {
				t.Errorf("%d opens of %d files are left after Close", opens, files)
			}
		})
	}
}

// What the old connection had under way ends before the open is handed over: a WRITE
// of then is not carried out after one of now.
func TestReconnectAwaitsOldRequests(t *testing.T) {
	var g *gate
	s := newSite(t, memconn.Config{}, func(c *Config) { g = newGate(c) })
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	p.sign = true
	id := p.openFile("f")
	want(t, "resiliency", p.resilient(id, time.Minute), ntstatus.Success)
	g.close()
	p.post(p.header(smb2.CommandWrite), &smb2.WriteRequest{FileID: id, Data: []byte("old")})
	<-g.in
	q := s.dial()
	q.negotiate(smb2.DialectSMB311)
	want(t, "logon in the place of the old session",
		q.setup("ann", "secret", 0, smb2.SessionSetupRequest{SecurityMode: 1, PreviousSessionID: p.sid}), ntstatus.Success)
	q.mustConnect("data")
	q.sign = true
	q.post(q.header(smb2.CommandCreate), reconnect1(t, "f", id))
	s.until("the reconnect has claimed the open", func() bool { return s.srv.durables.len() == 0 })
	g.open()
	h, msg := q.answer()
	want(t, "reconnect", h.Status, ntstatus.Success)
	resp, err := smb2.ParseCreateResponse(msg)
	if err != nil {
		t.Fatal(err)
	}
	st, _ := q.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: resp.FileID, Data: []byte("new")})
	want(t, "WRITE", st, ntstatus.Success)
	if got := string(s.read("f")); got != "new" {
		t.Errorf("the file has %q", got)
	}
}

func continuous(c *Config) { c.Shares[0].ContinuousAvailability = true }

// persistentCreate asks for a persistent open.
func persistentCreate(t testing.TB, name string, guid byte) *smb2.CreateRequest {
	return withContext(t, createRequest(name, smb2.FileOpenIf), smb2.CreateContextDurableHandleV2,
		&smb2.DurableHandleRequestV2{Timeout: 10000, Flags: smb2.DHandleFlagPersistent, CreateGUID: smb2.GUID{guid}})
}

// grant2 is what a response says about a durable open of version 2, nil for nothing.
func grant2(t testing.TB, resp smb2.CreateResponse) *smb2.DurableHandleResponseV2 {
	t.Helper()
	data, found, err := smb2.FindCreateContext(resp.Contexts, smb2.CreateContextDurableHandleV2)
	if err != nil {
		t.Fatal(err)
	}
	if !found {
		return nil
	}
	m, err := smb2.ParseDurableHandleResponseV2(data)
	if err != nil {
		t.Fatal(err)
	}
	return &m
}

// 3.3.5.9.10, 3.3.5.9.12: persistent opens of a share that is continuously available.
func TestPersistentOpen(t *testing.T) {
	s := newSite(t, memconn.Config{}, continuous)
	p := s.dial()
	p.caps |= smb2.GlobalCapPersistentHandles
	p.negotiate(smb2.DialectSMB311)
	want(t, "logon", p.logon("ann", "secret"), ntstatus.Success)
	p.mustConnect("data")
	st, resp := p.created(persistentCreate(t, "f", 1))
	want(t, "CREATE", st, ntstatus.Success)
	if g := grant2(t, resp); g == nil || *g != (smb2.DurableHandleResponseV2{Timeout: 10000, Flags: smb2.DHandleFlagPersistent}) {
		t.Fatalf("granted %+v", g)
	}
	id := resp.FileID
	guid := p.guid
	p.lose()
	again := func() *peer {
		q := s.dial()
		q.guid, q.caps = guid, q.caps|smb2.GlobalCapPersistentHandles
		q.negotiate(smb2.DialectSMB311)
		want(t, "logon", q.logon("ann", "secret"), ntstatus.Success)
		return q.mustConnect("data")
	}
	q := again()
	st, _ = q.created(createRequest("f", smb2.FileOpen))
	want(t, "another open while it is away", st, ntstatus.FileNotAvailable)
	ask := smb2.DurableHandleReconnectV2{FileID: id, CreateGUID: smb2.GUID{1}}
	st, _ = q.created(reconnect2(t, "f", ask))
	want(t, "reconnect without the flag", st, ntstatus.ObjectNameNotFound)
	ask.Flags = smb2.DHandleFlagPersistent
	ask.CreateGUID[0] = 2
	st, _ = q.created(reconnect2(t, "f", ask))
	want(t, "reconnect with another CreateGuid", st, ntstatus.ObjectNameNotFound)
	ask.CreateGUID[0] = 1
	st, resp = q.created(reconnect2(t, "f", ask))
	want(t, "reconnect", st, ntstatus.Success)
	if resp.FileID.Persistent != id.Persistent {
		t.Fatalf("FileId %v, want that of %v", resp.FileID, id)
	}
	q.lose()

	// By the CreateGuid alone, and by a CREATE whose answer was lost.
	q = again()
	ask.FileID = smb2.FileID{}
	st, _ = q.created(reconnect2(t, "f", ask))
	want(t, "reconnect by the CreateGuid", st, ntstatus.Success)
	q.lose()
	q = again()
	m := persistentCreate(t, "f", 1)
	st, _ = q.do(smb2.CommandCreate, m)
	want(t, "its CREATE without the flag of a replay", st, ntstatus.FileNotAvailable)
	m.ShareAccess = 0
	st, _ = q.doHeader(q.at(0, true, smb2.CommandCreate), m)
	want(t, "a replay that is another CREATE", st, ntstatus.ContextMismatch)
	st, msg := q.doHeader(q.at(0, true, smb2.CommandCreate), persistentCreate(t, "f", 1))
	want(t, "replay", st, ntstatus.Success)
	if resp, err := smb2.ParseCreateResponse(msg); err != nil || resp.FileID.Persistent != id.Persistent || resp.CreateAction != smb2.FileCreated || grant2(t, resp) == nil {
		t.Fatalf("replay: %+v, %v", resp, err)
	}
}

// Where a share is not continuously available, or the client is not one for it, no
// open is persistent, nor durable without an oplock or lease.
func TestNoPersistentOpen(t *testing.T) {
	for _, c := range []struct {
		name string
		conf func(*Config)
		caps smb2.Capabilities
	}{
		{"share", nil, smb2.GlobalCapPersistentHandles},
		{"client", continuous, 0},
		{"server", func(c *Config) { continuous(c); c.MaxDurableTimeout = -1 }, smb2.GlobalCapPersistentHandles},
	} {
		s := newSite(t, memconn.Config{}, c.conf)
		p := s.dial()
		p.caps = p.caps&^smb2.GlobalCapPersistentHandles | c.caps
		p.negotiate(smb2.DialectSMB311)
		want(t, "logon", p.logon("ann", "secret"), ntstatus.Success)
		p.mustConnect("data")
		st, resp := p.created(persistentCreate(t, "f", 1))
		want(t, c.name, st, ntstatus.Success)
		if g := grant2(t, resp); g != nil {
			t.Errorf("%s: granted %+v", c.name, *g)
		}
	}
}

// 3.3.5.9.6, .7, .10 and .12: contexts that exclude each other.
func TestDurableContexts(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	old := s.login(smb2.DialectSMB210).mustConnect("data")
	data := map[string]body{
		smb2.CreateContextDurableHandle:          &smb2.DurableHandleRequest{},
		smb2.CreateContextDurableHandleV2:        &smb2.DurableHandleRequestV2{CreateGUID: smb2.GUID{7}},
		smb2.CreateContextDurableHandleReconnect: &smb2.DurableHandleReconnect{FileID: smb2.FileID{Persistent: 1, Volatile: 1}},
		smb2.CreateContextDurableHandleV2Reconn:  &smb2.DurableHandleReconnectV2{FileID: smb2.FileID{Persistent: 1, Volatile: 1}},
	}
	const (
		q1, q2 = smb2.CreateContextDurableHandle, smb2.CreateContextDurableHandleV2
		c1, c2 = smb2.CreateContextDurableHandleReconnect, smb2.CreateContextDurableHandleV2Reconn
	)
	for _, c := range []struct {
		name  string
		p     *peer
		ctxs  []string
		short string
		want  ntstatus.Status
	}{
		{"request 1", p, []string{q1}, "", ntstatus.Success},
		{"request 2", p, []string{q2}, "", ntstatus.Success},
		{"both requests", p, []string{q1, q2}, "", ntstatus.InvalidParameter},
		{"reconnect 1", p, []string{c1}, "", ntstatus.ObjectNameNotFound},
		{"reconnect 1 with request 1, which is ignored", p, []string{q1, c1}, "", ntstatus.ObjectNameNotFound},
		{"reconnect 1 with request 2", p, []string{c1, q2}, "", ntstatus.InvalidParameter},
		{"both reconnects", p, []string{c1, c2}, "", ntstatus.InvalidParameter},
		{"reconnect 2", p, []string{c2}, "", ntstatus.ObjectNameNotFound},
		{"reconnect 2 with request 1", p, []string{q1, c2}, "", ntstatus.InvalidParameter},
		{"reconnect 2 with request 2", p, []string{q2, c2}, "", ntstatus.InvalidParameter},
		{"version 2 in an old dialect is unknown", old, []string{q2, c2}, "", ntstatus.Success},
		{"request 1 too short", p, nil, q1, ntstatus.InvalidParameter},
		{"request 2 too short", p, nil, q2, ntstatus.InvalidParameter},
		{"reconnect 1 too short", p, nil, c1, ntstatus.InvalidParameter},
		{"reconnect 2 too short", p, nil, c2, ntstatus.InvalidParameter},
		{"version 2 too short, in an old dialect", old, nil, q2, ntstatus.Success},
	} {
		m := createRequest("f", smb2.FileOpenIf)
		for _, name := range c.ctxs {
			withContext(t, m, name, data[name])
		}
		if c.short != "" {
			m.Contexts, _ = smb2.AppendCreateContext(nil, c.short, make([]byte, 7))
		}
		st, resp := c.p.created(m)
		want(t, c.name, st, c.want)
		if st == ntstatus.Success {
			st, _ = c.p.do(smb2.CommandClose, &smb2.CloseRequest{FileID: resp.FileID})
			want(t, "CLOSE", st, ntstatus.Success)
		}
	}
}

// fewFiles is a file system that has descriptors for so many files at a time.
type fewFiles struct {
	vfs.FS
	left atomic.Int32
}

type countedFile struct {
	vfs.File
	of *fewFiles
}

func (f *fewFiles) Open(ctx context.Context, name string, o vfs.OpenOptions) (vfs.File, vfs.OpenResult, error) {
	if f.left.Add(-1) < 0 {
		f.left.Add(1)
		return nil, vfs.OpenResult{}, &fs.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
	}
	file, res, err := f.FS.Open(ctx, name, o)
	if err != nil {
		f.left.Add(1)
		return nil, res, err
	}
	return countedFile{file, f}, res, nil
}

func (f countedFile) Close() error {
	f.of.left.Add(1)
	return f.File.Close()
}

// Where descriptors run out, opens that nobody has are closed for those that somebody
// will have: those first whose time is over first.
func TestDescriptorsOfDetachedOpens(t *testing.T) {
	few := &fewFiles{}
	few.left.Store(3)
	s := newSite(t, memconn.Config{}, func(c *Config) { few.FS = c.Shares[0].FS; c.Shares[0].FS = few })
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	a, b := p.openFile("a"), p.openFile("b")
	want(t, "resiliency", p.resilient(a, 2*time.Minute), ntstatus.Success)
	want(t, "resiliency", p.resilient(b, time.Minute), ntstatus.Success)
	p.lose()
	q := s.login(smb2.DialectSMB311).mustConnect("data")
	q.openFile("c")
	q.openFile("d")
	st, _ := q.created(reconnect1(t, "b", b))
	want(t, "the one that had less time", st, ntstatus.ObjectNameNotFound)
	st, _ = q.created(reconnect1(t, "a", a))
	want(t, "the other", st, ntstatus.Success)
	st, _ = q.created(createRequest("e", smb2.FileOpenIf))
	want(t, "one more, when there is nothing to be closed", st, ntstatus.TooManyOpenedFiles)
}

// What is open of a share that is no more is closed, also if no session has it.
func TestReloadClosesDetachedOpens(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	want(t, "resiliency", p.resilient(p.openFile("f"), time.Minute), ntstatus.Success)
	p.lose()
	cfg := s.srv.cfg
	for _, c := range []struct {
		shares []Share
		kept   int
	}{{cfg.Shares, 1}, {cfg.Shares[1:], 0}} {
		cfg.Shares = c.shares
		if err := s.srv.Reload(s.ctx, cfg); err != nil {
			t.Fatal(err)
		}
		if n := s.srv.Stats().DetachedOpens; n != c.kept {
			t.Errorf("with %d shares: %d opens are kept, want %d", len(c.shares), n, c.kept)
		}
	}
}

// Status tells which opens outlive their connections, and which of them have; an
// operator can close these, too.
func TestDurableStatus(t *testing.T) {
	s := newSite(t, memconn.Config{}, continuous)
	p := s.dial()
	p.caps |= smb2.GlobalCapPersistentHandles
	p.negotiate(smb2.DialectSMB311)
	want(t, "logon", p.logon("ann", "secret"), ntstatus.Success)
	p.mustConnect("data")
	p.openFile("1")
	p.create(oplocked(durable1(t, createRequest("2", smb2.FileOpenIf)), smb2.OplockLevelBatch))
	want(t, "resiliency", p.resilient(p.openFile("3"), 0), ntstatus.Success)
	p.create(persistentCreate(t, "4", 1))
	says := func(o OpenStatus) string { return o.Name + ":" + o.Caching + ":" + o.Durable }
	var got []string
	for _, o := range s.srv.Status(100).Sessions[0].Opens {
		got = append(got, says(o))
	}
	if w := []string{"1::", "2:batch:durable", "3::resilient", "4::persistent"}; !slices.Equal(got, w) {
		t.Errorf("status has %q, want %q", got, w)
	}
	p.lose()
	got = nil
	st := s.srv.Status(100)
	for _, o := range st.Detached {
		got = append(got, says(o.OpenStatus))
		if o.User != "ANN" || o.Until.IsZero() {
			t.Errorf("%s is kept for %q until %v", o.Name, o.User, o.Until)
		}
	}
	if w := []string{"2:batch:durable", "3::resilient", "4::persistent"}; !slices.Equal(got, w) {
		t.Errorf("status has %q without a session, want %q", got, w)
	}
	if n := len(s.srv.Status(2).Detached); n != 2 || st.Totals.DetachedOpens != 3 {
		t.Errorf("%d of %d are listed, want 2 of 3", n, st.Totals.DetachedOpens)
	}
	if !s.srv.CloseByID(CloseOpen, st.Detached[1].ID) || s.srv.CloseByID(CloseOpen, st.Detached[1].ID) {
		t.Error("an open without a session is not closed once")
	}
	if _, err := s.srv.CloseShare(context.Background(), "DATA"); err != nil {
		t.Error(err)
	}
	if files, opens := s.srv.files.counts(); files != 0 || opens != 0 {
		t.Errorf("%d opens of %d files are left of the share", opens, files)
	}
}
