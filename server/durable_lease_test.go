package server

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// durable1 and durable2 ask for a durable open.
func durable1(t testing.TB, m *smb2.CreateRequest) *smb2.CreateRequest {
	return withContext(t, m, smb2.CreateContextDurableHandle, &smb2.DurableHandleRequest{})
}

func durable2(t testing.TB, m *smb2.CreateRequest, guid byte, timeout uint32) *smb2.CreateRequest {
	return withContext(t, m, smb2.CreateContextDurableHandleV2, &smb2.DurableHandleRequestV2{CreateGUID: smb2.GUID{guid}, Timeout: timeout})
}

func oplocked(m *smb2.CreateRequest, l smb2.OplockLevel) *smb2.CreateRequest {
	m.RequestedOplockLevel = l
	return m
}

// leased asks for a lease of version 1 or 2.
func leased(t testing.TB, m *smb2.CreateRequest, version int, key byte, state smb2.LeaseState) *smb2.CreateRequest {
	m.RequestedOplockLevel = smb2.OplockLevelLease
	return withContext(t, m, smb2.CreateContextLease, &smb2.Lease{Version: version, LeaseKey: smb2.GUID{key}, LeaseState: state})
}

// as logs on with a ClientGuid of choice.
func (s *site) as(guid smb2.GUID, d smb2.Dialect) *peer {
	s.t.Helper()
	p := s.dial()
	p.guid = guid
	p.negotiate(d)
	want(s.t, "logon", p.logon("ann", "secret"), ntstatus.Success)
	return p.mustConnect("data")
}

// 3.3.5.9.6 and 3.3.5.9.10: an open is durable if its client keeps the handle, with a
// batch oplock or a lease with H.
func TestDurableGrant(t *testing.T) {
	for _, c := range []struct {
		name    string
		level   smb2.OplockLevel
		lease   smb2.LeaseState
		dir     bool
		granted bool
	}{
		{"nothing", smb2.OplockLevelNone, 0, false, false},
		{"level II", smb2.OplockLevelII, 0, false, false},
		{"exclusive", smb2.OplockLevelExclusive, 0, false, false},
		{"batch", smb2.OplockLevelBatch, 0, false, true},
		{"lease R", smb2.OplockLevelLease, cacheR, false, false},
		{"lease RW", smb2.OplockLevelLease, cacheR | cacheW, false, false},
		{"lease RH", smb2.OplockLevelLease, cacheR | cacheH, false, true},
		{"lease RWH", smb2.OplockLevelLease, cacheRWH, false, true},
		{"lease RH of a directory", smb2.OplockLevelLease, cacheR | cacheH, true, false},
	} {
		s := newSite(t, memconn.Config{}, func(c *Config) {
			c.Shares[1].ReadOnly, c.Shares[1].NoDurable = false, true
		})
		p := s.login(smb2.DialectSMB311).mustConnect("data")
		q := s.login(smb2.DialectSMB311).mustConnect("ro")
		ask := func(name string) *smb2.CreateRequest {
			m := oplocked(createRequest(name, smb2.FileOpenIf), c.level)
			if c.dir {
				m.CreateOptions = smb2.FileDirectoryFile
			}
			if c.level == smb2.OplockLevelLease {
				leased(t, m, 2, name[0], c.lease)
			}
			return m
		}
		granted := func(p *peer, m *smb2.CreateRequest, context string) bool {
			t.Helper()
			st, resp := p.created(m)
			want(t, c.name, st, ntstatus.Success)
			_, found, err := smb2.FindCreateContext(resp.Contexts, context)
			if err != nil {
				t.Fatal(err)
			}
			return found
		}
		if got := granted(p, durable1(t, ask("1")), smb2.CreateContextDurableHandle); got != c.granted {
			t.Errorf("%s, version 1: granted %v, want %v", c.name, got, c.granted)
		}
		if got := granted(p, durable2(t, ask("2"), 1, 0), smb2.CreateContextDurableHandleV2); got != c.granted {
			t.Errorf("%s, version 2: granted %v, want %v", c.name, got, c.granted)
		}
		if granted(q, durable1(t, ask("3")), smb2.CreateContextDurableHandle) {
			t.Errorf("%s: granted in a share without durable opens", c.name)
		}
	}
}

// 3.3.5.9.10: the time that is granted, in milliseconds.
func TestDurableTimeout(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	for i, c := range []struct{ asked, granted uint32 }{
		{0, 60000}, {1, 1}, {299999, 299999}, {300000, 300000}, {300001, 300000}, {0xFFFFFFFF, 300000},
	} {
		m := oplocked(createRequest(fmt.Sprint(i), smb2.FileCreate), smb2.OplockLevelBatch)
		_, resp := p.created(durable2(t, m, byte(i+1), c.asked))
		if g := grant2(t, resp); g == nil || g.Timeout != c.granted || g.Flags != 0 {
			t.Errorf("%d asked for: %+v, want %d", c.asked, g, c.granted)
		}
	}
}

// 3.3.4.6, 3.3.4.7: a durable open whose client is gone is closed by whatever would
// break its oplock or lease, and by nothing else.
func TestDurableGivesWay(t *testing.T) {
	const statOnly = smb2.FileReadAttributes | smb2.Synchronize
	for _, c := range []struct {
		name   string
		share  smb2.ShareAccess
		lease  smb2.LeaseState // 0 for a batch oplock
		delete bool
		rival  *smb2.CreateRequest
		status ntstatus.Status
		action smb2.CreateAction
		kept   bool
	}{
		{name: "attributes", rival: &smb2.CreateRequest{DesiredAccess: statOnly}, action: smb2.FileOpened, kept: true},
		{name: "attributes, lease", lease: cacheRWH, rival: &smb2.CreateRequest{DesiredAccess: statOnly}, action: smb2.FileOpened, kept: true},
		{name: "reader", share: validShare, rival: &smb2.CreateRequest{DesiredAccess: smb2.FileReadData}, action: smb2.FileOpened},
		{name: "reader that is not shared with", rival: &smb2.CreateRequest{DesiredAccess: smb2.FileReadData}, action: smb2.FileOpened},
		{name: "reader beside a lease with W", share: validShare, lease: cacheRWH, rival: &smb2.CreateRequest{DesiredAccess: smb2.FileReadData}, action: smb2.FileOpened},
		{name: "reader beside a lease without", share: validShare, lease: cacheR | cacheH, rival: &smb2.CreateRequest{DesiredAccess: smb2.FileReadData}, action: smb2.FileOpened, kept: true},
		{name: "writer that does not share", share: validShare, lease: cacheR | cacheH, rival: &smb2.CreateRequest{DesiredAccess: smb2.FileReadData | smb2.FileWriteData, ShareAccess: smb2.FileShareRead}, action: smb2.FileOpened},
		{name: "overwriting", share: validShare, lease: cacheR | cacheH, rival: &smb2.CreateRequest{DesiredAccess: smb2.FileWriteData, CreateDisposition: smb2.FileOverwriteIf}, action: smb2.FileOverwritten},
		{name: "the file goes with it", delete: true, rival: &smb2.CreateRequest{DesiredAccess: smb2.FileReadData}, status: ntstatus.ObjectNameNotFound},
		{name: "the file goes with it and comes anew", delete: true, rival: &smb2.CreateRequest{DesiredAccess: smb2.FileReadData, CreateDisposition: smb2.FileOpenIf}, action: smb2.FileCreated},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, memconn.Config{}, nil)
			s.srv.files.breakTimeout = time.Hour // nobody waits for that
			p := s.login(smb2.DialectSMB311).mustConnect("data")
			m := oplocked(createRequest("f", smb2.FileOpenIf), smb2.OplockLevelBatch)
			m.ShareAccess = c.share
			if c.delete {
				m.CreateOptions = smb2.FileDeleteOnClose
			}
			if c.lease != 0 {
				leased(t, m, 1, 1, c.lease)
			}
			id := p.create(durable1(t, m))
			guid := p.guid
			p.lose()

			rival := s.login(smb2.DialectSMB311).mustConnect("data")
			c.rival.Name = smb2.EncodeUTF16("f")
			if c.rival.CreateDisposition == smb2.FileSupersede {
				c.rival.CreateDisposition = smb2.FileOpen
			}
			if c.rival.ShareAccess == 0 {
				c.rival.ShareAccess = validShare
			}
			st, resp := rival.created(c.rival)
			want(t, "rival", st, c.status)
			if st == ntstatus.Success && resp.CreateAction != c.action {
				t.Errorf("rival: action %v, want %v", resp.CreateAction, c.action)
			}
			status := ntstatus.ObjectNameNotFound
			if c.kept {
				status = ntstatus.Success
			}
			again := reconnect1(t, "f", id)
			if c.lease != 0 {
				leased(t, again, 1, 1, c.lease)
			}
			st, _ = s.as(guid, smb2.DialectSMB311).created(again)
			want(t, "reconnect", st, status)
		})
	}
}

// 3.3.5.9.7 and 3.3.5.9.12: what a reconnect has to say about the lease, and what it
// learns.
func TestReconnectLease(t *testing.T) {
	for version := 1; version <= 2; version++ {
		s := newSite(t, memconn.Config{}, nil)
		p := s.login(smb2.DialectSMB311).mustConnect("data")
		m := leased(t, createRequest(`F`, smb2.FileOpenIf), version, 1, cacheRWH)
		id := p.create(durable2(t, m, 9, 0))
		guid := p.guid
		p.lose()
		q, stranger := s.as(guid, smb2.DialectSMB311), s.login(smb2.DialectSMB311).mustConnect("data")
		ask := smb2.DurableHandleReconnectV2{FileID: id, CreateGUID: smb2.GUID{9}}
		flagged := ask
		flagged.Flags = smb2.DHandleFlagPersistent
		for _, c := range []struct {
			name string
			p    *peer
			m    *smb2.CreateRequest
			want ntstatus.Status
		}{
			{"no lease", q, reconnect2(t, "f", ask), ntstatus.ObjectNameNotFound},
			{"another lease", q, leased(t, reconnect2(t, "f", ask), version, 2, cacheRWH), ntstatus.ObjectNameNotFound},
			{"another version", q, leased(t, reconnect2(t, "f", ask), 3-version, 1, cacheRWH), ntstatus.ObjectNameNotFound},
			{"another client", stranger, leased(t, reconnect2(t, "f", ask), version, 1, cacheRWH), ntstatus.ObjectNameNotFound},
			{"another name", q, leased(t, reconnect2(t, "g", ask), version, 1, cacheRWH), ntstatus.InvalidParameter},
			{"as a persistent one", q, leased(t, reconnect2(t, "f", flagged), version, 1, cacheRWH), ntstatus.InvalidParameter},
		} {
			st, _ := c.p.created(c.m)
			want(t, c.name, st, c.want)
		}
		st, resp := q.created(leased(t, reconnect2(t, "f", ask), version, 1, cacheR))
		want(t, "reconnect", st, ntstatus.Success)
		data, found, err := smb2.FindCreateContext(resp.Contexts, smb2.CreateContextLease)
		if err != nil || !found {
			t.Fatal("no lease in the answer", err)
		}
		l, err := smb2.ParseLease(data)
		if err != nil || resp.OplockLevel != smb2.OplockLevelLease || l.LeaseKey != (smb2.GUID{1}) || l.LeaseState != cacheRWH {
			t.Errorf("answer: %v %+v, %v", resp.OplockLevel, l, err)
		}
		if g := grant2(t, resp); g != nil {
			t.Errorf("a reconnect is granted %+v", *g)
		}
	}
}

// waiting has ann's first session hold the file with a batch oplock that it does not
// give up, and sends a CREATE of another client's that has to wait for it.
func waiting(t *testing.T, s *site) (holder, p *peer, held smb2.FileID, m *smb2.CreateRequest) {
	s.srv.files.breakTimeout = time.Hour
	holder = s.login(smb2.DialectSMB311).mustConnect("data")
	held = holder.create(oplocked(createRequest("f", smb2.FileOpenIf), smb2.OplockLevelBatch))
	p = s.login(smb2.DialectSMB311).mustConnect("data")
	m = durable2(t, createRequest("f", smb2.FileOpen), 1, 0)
	p.sign = true
	p.post(p.header(smb2.CommandCreate), m)
	if h, _ := p.answer(); h.Status != ntstatus.Pending {
		t.Fatalf("CREATE beside an oplock: %v, want that it waits", h.Status)
	}
	if h, _ := holder.answer(); h.Command != smb2.CommandOplockBreak {
		t.Fatalf("the holder hears %v, want of the break", h.Command)
	}
	return holder, p, held, m
}

// 3.3.5.9: a CREATE that waits for a break goes on when its channel is lost, and who
// sends it again on another is told to wait, and gets its open in the end.
func TestCreateOutlivesItsChannel(t *testing.T) {
	s := newSite(t, memconn.Config{}, multichannel)
	holder, p, held, m := waiting(t, s)
	q := p.bound()
	replay := func() (ntstatus.Status, []byte) { return q.doHeader(q.at(1, true, smb2.CommandCreate), m) }
	st, _ := replay()
	want(t, "replay while the first one waits", st, ntstatus.FileNotAvailable)
	st, _ = q.doHeader(q.at(1, false, smb2.CommandCreate), m)
	want(t, "the same number without the flag", st, ntstatus.DuplicateObjectID)
	p.c.Close()
	sess := s.srv.findSession(p.sid)
	s.until("the session has lost the channel", func() bool { return len(sess.conns()) == 1 })
	st, _ = replay()
	want(t, "replay when the channel of the first one is lost", st, ntstatus.FileNotAvailable)
	st, _ = holder.do(smb2.CommandClose, &smb2.CloseRequest{FileID: held})
	want(t, "the holder's CLOSE", st, ntstatus.Success)
	var msg []byte
	s.until("the first CREATE is done", func() bool { st, msg = replay(); return st != ntstatus.FileNotAvailable })
	want(t, "replay after that", st, ntstatus.Success)
	resp, err := smb2.ParseCreateResponse(msg)
	if err != nil {
		t.Fatal(err)
	}
	if _, opens := s.srv.files.counts(); opens != 1 {
		t.Errorf("%d opens, want 1", opens)
	}
	st, _ = q.do(smb2.CommandClose, &smb2.CloseRequest{FileID: resp.FileID})
	want(t, "CLOSE", st, ntstatus.Success)
}

// It ends with the last channel, with LOGOFF, TREE_DISCONNECT and the server, and by
// CANCEL: nobody waits for a break that may take its time.
func TestCreateThatWaitsEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(s *site, p, q *peer)
	}{
		{"both channels", func(s *site, p, q *peer) { p.c.Close(); q.c.Close() }},
		{"the other one first", func(s *site, p, q *peer) { q.c.Close(); p.c.Close() }},
		{"LOGOFF", func(s *site, p, q *peer) { q.do(smb2.CommandLogoff, &smb2.LogoffRequest{}) }},
		{"LOGOFF after its channel", func(s *site, p, q *peer) { p.c.Close(); q.do(smb2.CommandLogoff, &smb2.LogoffRequest{}) }},
		{"TREE_DISCONNECT", func(s *site, p, q *peer) { q.do(smb2.CommandTreeDisconnect, &smb2.TreeDisconnectRequest{}) }},
		{"the server", func(s *site, p, q *peer) { s.srv.Close() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, memconn.Config{}, multichannel)
			_, p, _, _ := waiting(t, s)
			c.end(s, p, p.bound())
			s.until("the CREATE ends", func() bool {
				s.srv.replays.mu.Lock()
				defer s.srv.replays.mu.Unlock()
				return len(s.srv.replays.m) == 0
			})
		})
	}
}

// 3.3.5.9: a CREATE that is sent again is answered with the level that it asks for,
// and may name no other lease than that of its open.
func TestReplayedCaching(t *testing.T) {
	none := func(m *smb2.CreateRequest) *smb2.CreateRequest { return m }
	batch := func(m *smb2.CreateRequest) *smb2.CreateRequest { return oplocked(m, smb2.OplockLevelBatch) }
	lease := func(key byte) func(m *smb2.CreateRequest) *smb2.CreateRequest {
		return func(m *smb2.CreateRequest) *smb2.CreateRequest { return leased(t, m, 2, key, cacheRWH) }
	}
	for _, c := range []struct {
		name          string
		first, second func(*smb2.CreateRequest) *smb2.CreateRequest
		want          ntstatus.Status
		level         smb2.OplockLevel
		durable       bool
	}{
		{"the same oplock", batch, batch, ntstatus.Success, smb2.OplockLevelBatch, true},
		{"without the oplock", batch, none, ntstatus.Success, smb2.OplockLevelNone, false},
		{"a lease for the oplock", batch, lease(1), ntstatus.AccessDenied, 0, false},
		{"the same lease", lease(1), lease(1), ntstatus.Success, smb2.OplockLevelLease, true},
		{"another lease", lease(1), lease(2), ntstatus.AccessDenied, 0, false},
	} {
		s := newSite(t, memconn.Config{}, nil)
		p := s.login(smb2.DialectSMB311).mustConnect("data")
		create := func() *smb2.CreateRequest { return durable2(t, createRequest("f", smb2.FileOpenIf), 1, 0) }
		p.create(c.first(create()))
		st, msg := p.doHeader(p.at(0, true, smb2.CommandCreate), c.second(create()))
		want(t, c.name, st, c.want)
		if st != ntstatus.Success {
			continue
		}
		resp, err := smb2.ParseCreateResponse(msg)
		if err != nil || resp.OplockLevel != c.level || (grant2(t, resp) != nil) != c.durable {
			t.Errorf("%s: level %v, durable %v, %v; want %v, %v", c.name, resp.OplockLevel, grant2(t, resp) != nil, err, c.level, c.durable)
		}
	}
}

// 3.3.5.9.13: an application that has moved takes its files along.
func TestAppInstance(t *testing.T) {
	type version struct{ high, low uint64 }
	for _, c := range []struct {
		name       string
		sameClient bool
		id         byte
		old, now   *version
		dialect    smb2.Dialect
		status     ntstatus.Status
	}{
		{name: "from another client", id: 1},
		{name: "another application", id: 2, status: ntstatus.SharingViolation},
		{name: "the same client", id: 1, sameClient: true, status: ntstatus.SharingViolation},
		{name: "a newer one, high", id: 1, old: &version{1, 9}, now: &version{2, 0}},
		{name: "a newer one, low", id: 1, old: &version{1, 9}, now: &version{1, 10}},
		{name: "the same one", id: 1, old: &version{1, 9}, now: &version{1, 9}, status: ntstatus.FileForcedClosed},
		{name: "an older one, low", id: 1, old: &version{1, 9}, now: &version{1, 8}, status: ntstatus.FileForcedClosed},
		{name: "an older one, high", id: 1, old: &version{2, 0}, now: &version{1, 9}, status: ntstatus.FileForcedClosed},
		{name: "without a version, where there was one", id: 1, old: &version{1, 9}, status: ntstatus.FileForcedClosed},
		{name: "with a version, where there was none", id: 1, now: &version{1, 9}},
		{name: "an older one, in a dialect without versions", id: 1, old: &version{2, 0}, now: &version{1, 9}, dialect: smb2.DialectSMB302},
		{name: "dialect 2.1 has no instances", id: 1, dialect: smb2.DialectSMB210, status: ntstatus.SharingViolation},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.dialect == 0 {
				c.dialect = smb2.DialectSMB311
			}
			s := newSite(t, memconn.Config{}, nil)
			ask := func(id byte, v *version) *smb2.CreateRequest {
				m := createRequest("f", smb2.FileOpenIf)
				m.ShareAccess = 0
				withContext(t, m, smb2.CreateContextAppInstanceID, &smb2.AppInstanceIDContext{AppInstanceID: smb2.GUID{id}})
				if v != nil {
					withContext(t, m, smb2.CreateContextAppInstanceVersion, &smb2.AppInstanceVersionContext{AppInstanceVersionHigh: v.high, AppInstanceVersionLow: v.low})
				}
				return m
			}
			p := s.login(smb2.DialectSMB311).mustConnect("data")
			id := p.create(ask(1, c.old))
			q := p
			if !c.sameClient {
				q = s.login(c.dialect).mustConnect("data")
			}
			st, _ := q.created(ask(c.id, c.now))
			want(t, "CREATE of the one that has moved", st, c.status)
			status := ntstatus.Success
			if c.status == ntstatus.Success {
				status = ntstatus.FileClosed
			}
			st, _ = p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: id, Data: []byte("x")})
			want(t, "WRITE from where it was", st, status)
		})
	}
}

// 3.3.5.9.13: only who may read a file takes it from others.
func TestAppInstanceOfAStranger(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	ask := func() *smb2.CreateRequest {
		return withContext(t, createRequest("f", smb2.FileOpenIf), smb2.CreateContextAppInstanceID, &smb2.AppInstanceIDContext{AppInstanceID: smb2.GUID{1}})
	}
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	req := ask()
	req.DesiredAccess |= smb2.WriteDAC
	id := p.create(req)
	ann := s.srv.newToken("ann", nil, false).User
	sd := smb2.SecurityDescriptor{DACL: &smb2.ACL{ACEs: []smb2.ACE{{SID: ann, Mask: smb2.FileAllAccess}}}}
	want(t, "setting a DACL", p.setSecurityOf(id, sd, smb2.DACLSecurityInformation), ntstatus.Success)

	bob := s.dial()
	bob.negotiate(smb2.DialectSMB311)
	want(t, "bob's logon", bob.logon("bob", "hunter2"), ntstatus.Success)
	st, _ := bob.mustConnect("data").tryCreate(ask())
	want(t, "bob's CREATE", st, ntstatus.AccessDenied)
	st, _ = p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: id, Data: []byte("x")})
	want(t, "ann's WRITE", st, ntstatus.Success)
}

// An open is kept once, whoever finds that its session has ended: what somebody has
// claimed meanwhile is not put back for others to close.
func TestKeptOnce(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	id, _, _ := p.openAsking(durable1(t, oplocked(createRequest("f", smb2.FileOpenIf), smb2.OplockLevelBatch)))
	p.lose()
	o := s.srv.durables.claim(id.Persistent)
	if o == nil {
		t.Fatal("the open is not kept")
	}
	if !s.srv.detach(o) {
		t.Error("who comes late is to close it")
	}
	if n := s.srv.durables.len(); n != 0 {
		t.Errorf("%d opens can be claimed, want none: it is claimed", n)
	}
	s.srv.restore(o)
	if !o.acquire() {
		t.Fatal("it was closed")
	}
	if !s.srv.detach(o) {
		t.Error("who comes late is to close it")
	}
	o.release()
	if n := s.srv.durables.len(); n != 1 {
		t.Errorf("%d opens are kept, want 1", n)
	}
}

// An operator closes a share while an open is put back that was closed when it was
// claimed for nothing.
func TestCloseShareOfWhatIsBeingClosed(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	id, _, _ := p.openAsking(durable1(t, oplocked(createRequest("f", smb2.FileOpenIf), smb2.OplockLevelBatch)))
	p.lose()
	tab := &s.srv.durables
	o := tab.claim(id.Persistent)
	if o == nil {
		t.Fatal("the open is not kept")
	}
	o.shut(context.Background())
	tab.mu.Lock()
	kept := tab.addLocked(o, time.Now().Add(time.Minute), &s.srv.cfg.Limits)
	tab.mu.Unlock()
	if _, err := s.srv.CloseShare(context.Background(), "data"); err != nil {
		t.Error(err)
	}
	o.checkDetached()
	o.release()
	if n := tab.len(); !kept || n != 0 {
		t.Errorf("put back: %v, %d opens are left, want none", kept, n)
	}
}

// The break of an oplock that was claimed comes after the answer that says what the open
// is called now.
func TestBreakAfterReconnect(t *testing.T) {
	var g *gate
	s := newSite(t, memconn.Config{}, func(c *Config) { g = newGate(c) })
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	id, _, _ := p.openAsking(durable1(t, oplocked(createRequest("f", smb2.FileOpenIf), smb2.OplockLevelBatch)))
	p.lose()
	p = s.login(smb2.DialectSMB311).mustConnect("data")
	g.close()
	p.transmit(p.compoundMessage(
		part{smb2.CommandCreate, reconnect1(t, "f", id), false, nil},
		part{smb2.CommandWrite, &smb2.WriteRequest{FileID: smb2.AnyFileID, Data: []byte("x")}, true, nil}))
	<-g.in // the open is the session's, and nothing has been answered
	other := s.login(smb2.DialectSMB311).mustConnect("data")
	other.begin(smb2.CommandCreate, createRequest("f", smb2.FileOpen))
	g.open()
	got := p.receive()
	if len(got) != 2 {
		t.Fatalf("%d messages in the answer, want 2", len(got))
	}
	resp, err := smb2.ParseCreateResponse(got[0])
	if err != nil {
		t.Fatal(err)
	}
	_, ack, _ := p.nextBreak()
	if named := ack.(*smb2.OplockBreakAcknowledgment).FileID; named != resp.FileID {
		t.Errorf("the break is of %v, want %v", named, resp.FileID)
	}
	st, _ := p.do(smb2.CommandOplockBreak, ack)
	want(t, "acknowledgment", st, ntstatus.Success)
	if h, _ := other.answer(); h.Status != ntstatus.Success {
		t.Errorf("CREATE: %v", h.Status)
	}
}

// haltedFS has the first lock of share modes wait, the last that CREATE does to a file.
type haltedFS struct {
	vfs.FS
	halted  atomic.Bool
	in, out chan struct{}
}

type haltedFile struct {
	vfs.File
	fs *haltedFS
}

func (h *haltedFS) Open(ctx context.Context, name string, o vfs.OpenOptions) (vfs.File, vfs.OpenResult, error) {
	f, res, err := h.FS.Open(ctx, name, o)
	if err == nil {
		f = haltedFile{f, h}
	}
	return f, res, err
}

func (f haltedFile) LockFile(context.Context, bool) error {
	if !f.fs.halted.Swap(true) {
		f.fs.in <- struct{}{}
		<-f.fs.out
	}
	return nil
}

func (haltedFile) UnlockFile(context.Context) error { return nil }

// What is closed from elsewhere before its CREATE is done is not left with the session.
func TestClosedBeforeItIsOpen(t *testing.T) {
	h := &haltedFS{in: make(chan struct{}), out: make(chan struct{})}
	s := newSite(t, memconn.Config{}, func(c *Config) {
		h.FS = c.Shares[0].FS
		c.Shares[0].FS, c.Shares[0].KernelShareModes = h, true
	})
	s.write("f", []byte("content"))
	ask := func() *smb2.CreateRequest {
		m := createRequest("f", smb2.FileOpen)
		m.ShareAccess = 0
		return withContext(t, m, smb2.CreateContextAppInstanceID, &smb2.AppInstanceIDContext{AppInstanceID: smb2.GUID{1}})
	}
	p, q := s.login(smb2.DialectSMB311).mustConnect("data"), s.login(smb2.DialectSMB311).mustConnect("data")
	mid := p.post(p.header(smb2.CommandCreate), ask())
	<-h.in
	q.close(q.create(ask())) // the application has moved here
	sess := s.srv.findSession(p.sid)
	h.out <- struct{}{}
	a, _ := p.answer()
	if a.MessageID != mid || !a.Status.IsError() {
		t.Errorf("CREATE: %v, want an error", a.Status)
	}
	if n := sess.opens.len(); n != 0 {
		t.Errorf("the session has %d opens, want none", n)
	}
}

// unheeding is as for a client that does not answer breaks.
func (s *site) unheeding(guid smb2.GUID, d smb2.Dialect) *peer {
	s.t.Helper()
	p := s.dial()
	p.guid, p.unheedful = guid, true
	p.negotiate(d)
	want(s.t, "logon", p.logon("ann", "secret"), ntstatus.Success)
	return p.mustConnect("data")
}

// Clients that lose their connections and come back, rivals that take their files, an
// operator who looks on and closes some, and time: in the end every open is somebody's
// or closed.
func TestDurableUnrest(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	s.srv.files.breakTimeout = time.Hour
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	var wg sync.WaitGroup
	for client := range 3 {
		wg.Go(func() {
			guid := smb2.GUID{byte(client + 1)}
			for round := range rounds {
				p := s.unheeding(guid, smb2.DialectSMB311)
				m := createRequest("f", smb2.FileOpenIf)
				again := createRequest("f", smb2.FileOpen)
				if round%2 == 0 {
					oplocked(m, smb2.OplockLevelBatch)
				} else {
					leased(t, m, 2, byte(client+1), cacheRWH)
					leased(t, again, 2, byte(client+1), cacheRWH)
				}
				durable2(t, m, byte(round+1), uint32(1+round%3*1000))
				id := smb2.FileID{}
				if st, msg := p.do(smb2.CommandCreate, m); st == ntstatus.Success {
					resp, _ := smb2.ParseCreateResponse(msg)
					id = resp.FileID
				}
				p.c.Close()
				q := s.unheeding(guid, smb2.DialectSMB311)
				withContext(t, again, smb2.CreateContextDurableHandleV2Reconn,
					&smb2.DurableHandleReconnectV2{FileID: id, CreateGUID: smb2.GUID{byte(round + 1)}})
				if st, msg := q.do(smb2.CommandCreate, again); st == ntstatus.Success {
					resp, _ := smb2.ParseCreateResponse(msg)
					q.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: resp.FileID, Data: []byte("x")})
				}
				q.c.Close()
			}
		})
	}
	over := make(chan struct{})
	var operator sync.WaitGroup
	operator.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-over:
				return
			default:
			}
			st := s.srv.Status(100)
			if n%8 == 0 {
				if _, err := s.srv.CloseShare(context.Background(), "data"); err != nil {
					t.Error(err)
				}
			}
			if len(st.Detached) > 0 && n%4 == 0 {
				s.srv.CloseByID(CloseOpen, st.Detached[0].ID)
			}
		}
	})
	wg.Wait()
	close(over)
	operator.Wait()
	s.until("every open is closed or kept", func() bool {
		_, opens := s.srv.files.counts()
		return s.srv.Stats().Sessions == 0 && opens == s.srv.durables.len()
	})
	s.srv.Close()
	if files, opens := s.srv.files.counts(); files != 0 || opens != 0 {
		t.Errorf("%d opens of %d files are left", opens, files)
	}
}
