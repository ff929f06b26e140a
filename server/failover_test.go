package server

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// gate holds up the WRITEs of a file system while it is shut.
type gate struct {
	vfs.FS
	mu   sync.Mutex
	shut chan struct{} // guarded by mu; nil while it is open
	in   chan struct{} // has an element for each WRITE that came while it was shut
}

type gatedFile struct {
	vfs.File
	g *gate
}

func newGate(c *Config) *gate {
	g := &gate{FS: c.Shares[0].FS, in: make(chan struct{}, 16)}
	c.Shares[0].FS = g
	return g
}

func (g *gate) close() {
	g.mu.Lock()
	g.shut = make(chan struct{})
	g.mu.Unlock()
}

func (g *gate) open() {
	g.mu.Lock()
	close(g.shut)
	g.shut = nil
	g.mu.Unlock()
}

func (g *gate) Open(ctx context.Context, name string, o vfs.OpenOptions) (vfs.File, vfs.OpenResult, error) {
	f, res, err := g.FS.Open(ctx, name, o)
	if err == nil {
		f = gatedFile{f, g}
	}
	return f, res, err
}

func (f gatedFile) WriteAt(p []byte, off int64) (int, error) {
	f.g.mu.Lock()
	shut := f.g.shut
	f.g.mu.Unlock()
	if shut != nil {
		f.g.in <- struct{}{}
		<-shut
	}
	return f.File.WriteAt(p, off)
}

func multichannel(c *Config) { c.Interfaces = func() []Interface { return nil } }

// bound is a second channel of p's session.
func (p *peer) bound() *peer {
	p.t.Helper()
	q := p.s.dial()
	q.guid = p.guid
	q.negotiate(p.dialect)
	q.sign, q.signer, q.sealer, q.opener = true, p.signer, p.sealer, p.opener
	want(p.t, "binding", q.setup("ann", "secret", p.sid, smb2.SessionSetupRequest{SecurityMode: 1, Flags: smb2.SessionSetupFlagBinding}), ntstatus.Success)
	q.tid = p.tid
	return q
}

// at is a request with a ChannelSequence, as a replay or not.
func (p *peer) at(n uint16, replay bool, cmd smb2.Command) smb2.Header {
	h := p.header(cmd)
	h.ChannelSequence = n
	if replay {
		h.Flags |= smb2.FlagReplayOperation
	}
	return h
}

// 3.3.5.2.10: a WRITE that was under way on a channel that died is not overtaken by
// its repetition, and one that comes late from there is not carried out.
func TestNoStaleWriteAfterFailover(t *testing.T) {
	for _, d := range allDialects[2:] {
		t.Run(d.String(), func(t *testing.T) {
			var g *gate
			s := newSite(t, memconn.Config{}, func(c *Config) { multichannel(c); g = newGate(c) })
			p := s.login(d).mustConnect("data")
			f := p.openFile("f")
			q := p.bound()
			first := &smb2.WriteRequest{FileID: f, Data: []byte("first")}
			g.close()
			p.sign = true
			p.post(p.at(0, false, smb2.CommandWrite), first)
			<-g.in // it is being carried out
			for range 3 {
				st, _ := q.doHeader(q.at(1, true, smb2.CommandWrite), first)
				want(t, "repetition while the first is under way", st, ntstatus.FileNotAvailable)
			}
			st, _ := q.doHeader(q.at(1, false, smb2.CommandRead), &smb2.ReadRequest{FileID: f, Length: 1})
			want(t, "READ meanwhile", st, ntstatus.EndOfFile)
			g.open()
			h, _ := p.answer()
			want(t, "the first", h.Status, ntstatus.Success)
			st, _ = q.doHeader(q.at(1, true, smb2.CommandWrite), first)
			want(t, "repetition after it", st, ntstatus.Success)
			st, _ = q.doHeader(q.at(1, false, smb2.CommandWrite), &smb2.WriteRequest{FileID: f, Data: []byte("newer")})
			want(t, "the next WRITE", st, ntstatus.Success)
			st, _ = p.doHeader(p.at(0, false, smb2.CommandWrite), first)
			want(t, "one from the dead channel", st, ntstatus.FileNotAvailable)
			if got := string(s.read("f")); got != "newer" {
				t.Errorf("the file has %q", got)
			}
		})
	}
}

// A connection whose requests hold up their repetitions for too long is ended.
func TestStragglersAreEnded(t *testing.T) {
	var g *gate
	s := newSite(t, memconn.Config{}, func(c *Config) { multichannel(c); g = newGate(c) })
	s.srv.stragglerGrace = time.Nanosecond
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	f := p.openFile("f")
	other := p.openFile("g")
	q := p.bound()
	bystander := p.bound()
	g.close()
	p.sign = true
	w := &smb2.WriteRequest{FileID: f, Data: []byte("first")}
	p.post(p.at(0, false, smb2.CommandWrite), w)
	<-g.in
	for range 2 { // the first refusal starts the clock
		st, _ := q.doHeader(q.at(1, true, smb2.CommandWrite), w)
		want(t, "repetition", st, ntstatus.FileNotAvailable)
	}
	p.gone()
	g.open()
	for deadline := time.Now().Add(patience); ; {
		st, _ := q.doHeader(q.at(1, true, smb2.CommandWrite), w)
		if st == ntstatus.Success {
			break
		}
		if st != ntstatus.FileNotAvailable || time.Now().After(deadline) {
			t.Fatal(st)
		}
	}
	st, _ := bystander.doHeader(bystander.at(1, false, smb2.CommandWrite), &smb2.WriteRequest{FileID: other, Data: []byte("x")})
	want(t, "WRITE on a channel that has nothing to do with it", st, ntstatus.Success)
}

// A LOCK that waits on one channel does not hold up the repetitions of others.
func TestWaitingLockHoldsUpNoReplay(t *testing.T) {
	s := newSite(t, memconn.Config{}, multichannel)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	f, holder := p.openFile("f"), p.openFile("f")
	q := p.bound()
	exclusive := []smb2.LockElement{{Offset: 100, Length: 1, Flags: smb2.LockFlagExclusiveLock}}
	st, _ := p.do(smb2.CommandLock, &smb2.LockRequest{FileID: holder, Locks: exclusive})
	want(t, "LOCK", st, ntstatus.Success)
	p.sign = true
	p.post(p.header(smb2.CommandLock), &smb2.LockRequest{FileID: f, Locks: exclusive})
	if h, _ := p.answer(); h.Status != ntstatus.Pending {
		t.Fatalf("LOCK that has to wait: %v", h.Status)
	}
	st, _ = q.doHeader(q.at(1, true, smb2.CommandWrite), &smb2.WriteRequest{FileID: f, Data: []byte("x")})
	want(t, "replay of a WRITE", st, ntstatus.Success)
}

// 3.3.5.14: a LOCK that comes again while the first still waits gets what that gets,
// and does not wait for the lock that the first has taken for the same open.
func TestLockThatWaitsIsReplayed(t *testing.T) {
	s := newSite(t, memconn.Config{}, multichannel)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	f, holder := p.openFile("f"), p.openFile("f")
	q, other := p.bound(), p.bound()
	p.sign = true
	do := func(c *peer, id smb2.FileID, number uint8, flags smb2.LockFlags, status ntstatus.Status) {
		t.Helper()
		m := &smb2.LockRequest{FileID: id, LockSequenceNumber: number, Locks: []smb2.LockElement{{Offset: 100, Length: 1, Flags: flags}}}
		if id == f {
			m.LockSequenceIndex = 3
		}
		if status == ntstatus.Pending {
			c.post(c.at(0, false, smb2.CommandLock), m)
			if h, _ := c.answer(); h.Status != status {
				t.Fatalf("LOCK that has to wait: %v", h.Status)
			}
			return
		}
		st, _ := c.doHeader(c.at(0, false, smb2.CommandLock), m)
		want(t, "LOCK", st, status)
	}
	const exclusive = smb2.LockFlagExclusiveLock
	for round, end := range []func(){
		func() { // the first gets its lock, and the answer is lost with its channel
			do(other, holder, 0, smb2.LockFlagUnlock, ntstatus.Success)
			h, _ := p.answer()
			want(t, "the first", h.Status, ntstatus.Success)
		},
		func() { // the first ends with its channel
			p.c.Close()
			for deadline := time.Now().Add(patience); s.srv.Stats().Connections > 2; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the connection stays")
				}
			}
			do(other, holder, 0, smb2.LockFlagUnlock, ntstatus.Success)
		},
	} {
		n := uint8(3 * round)
		do(other, holder, 0, exclusive|smb2.LockFlagFailImmediately, ntstatus.Success)
		do(p, f, n+1, exclusive, ntstatus.Pending)
		do(q, f, n+1, exclusive, ntstatus.Pending)
		end()
		h, _ := q.answer()
		want(t, "the repetition", h.Status, ntstatus.Success)
		do(q, f, n+2, smb2.LockFlagUnlock, ntstatus.Success)
		do(q, f, n+3, smb2.LockFlagUnlock, ntstatus.RangeNotLocked) // it was locked once
	}
}

// createWith is a CREATE with a CreateGuid.
func createWith(t testing.TB, name string, d smb2.CreateDisposition, guid byte) *smb2.CreateRequest {
	t.Helper()
	m := createRequest(name, d)
	data, err := (&smb2.DurableHandleRequestV2{CreateGUID: smb2.GUID{guid}}).AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	if m.Contexts, err = smb2.AppendCreateContext(nil, smb2.CreateContextDurableHandleV2, data); err != nil {
		t.Fatal(err)
	}
	return m
}

// 3.3.5.9 and 3.3.5.9.10: a CREATE that is sent again finds the open that it made.
func TestCreateReplay(t *testing.T) {
	s := newSite(t, memconn.Config{}, multichannel)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	q := p.bound()
	creates := func(p *peer, n uint16, replay bool, m *smb2.CreateRequest) (ntstatus.Status, smb2.CreateResponse) {
		t.Helper()
		st, msg := p.doHeader(p.at(n, replay, smb2.CommandCreate), m)
		if st != ntstatus.Success {
			return st, smb2.CreateResponse{}
		}
		resp, err := smb2.ParseCreateResponse(msg)
		if err != nil {
			t.Fatal(err)
		}
		return st, resp
	}
	m := createWith(t, "new", smb2.FileCreate, 1)
	st, first := creates(p, 0, false, m)
	want(t, "CREATE", st, ntstatus.Success)
	st, _ = creates(q, 0, false, m)
	want(t, "the same without the flag", st, ntstatus.DuplicateObjectID)
	st, again := creates(q, 1, true, m)
	if st != ntstatus.Success || again.FileID != first.FileID || again.CreateAction != smb2.FileCreated {
		t.Fatalf("replay: %v, %v %v, want %v %v", st, again.FileID, again.CreateAction, first.FileID, smb2.FileCreated)
	}
	if len(again.Contexts) != 0 {
		t.Error("the replay grants something")
	}
	stranger := s.login(smb2.DialectSMB311).mustConnect("data")
	st, _ = creates(stranger, 0, true, m)
	want(t, "replay of another client, which is no replay", st, ntstatus.ObjectNameCollision)
	// Another session of the same client.
	other := s.dial()
	other.guid = p.guid
	other.negotiate(smb2.DialectSMB311)
	want(t, "logon", other.logon("ann", "secret"), ntstatus.Success)
	other.mustConnect("data")
	st, _ = creates(other, 0, true, m)
	want(t, "replay in another session", st, ntstatus.DuplicateObjectID)
	st, _ = q.doHeader(q.at(1, false, smb2.CommandWrite), &smb2.WriteRequest{FileID: first.FileID, Data: []byte("x")})
	want(t, "WRITE", st, ntstatus.Success)
	st, _ = creates(q, 1, true, m)
	want(t, "replay after the open was used", st, ntstatus.ObjectNameCollision)
	st, _ = p.do(smb2.CommandClose, &smb2.CloseRequest{FileID: first.FileID})
	want(t, "CLOSE", st, ntstatus.Success)
	// A failure is not remembered, nor is what was closed.
	m = createWith(t, `dir\file`, smb2.FileCreate, 2)
	st, _ = creates(p, 0, false, m)
	want(t, "CREATE without a directory", st, ntstatus.ObjectPathNotFound)
	m = createWith(t, "third", smb2.FileOpenIf, 3)
	_, first = creates(p, 0, false, m)
	st, _ = p.do(smb2.CommandClose, &smb2.CloseRequest{FileID: first.FileID})
	want(t, "CLOSE", st, ntstatus.Success)
	st, again = creates(q, 1, true, m)
	if st != ntstatus.Success || again.FileID == first.FileID || again.CreateAction != smb2.FileOpened {
		t.Fatalf("replay after CLOSE: %v, %v", st, again.CreateAction)
	}
	p.c.Close()
	q.c.Close()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		s.srv.replays.mu.Lock()
		n := len(s.srv.replays.m)
		s.srv.replays.mu.Unlock()
		if n == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d CREATEs are remembered after their sessions", n)
		}
	}
}

// What a compound does with the open that it has made is no sign that the client has
// had the answer: sent again, it finds that open, until it is used by its FileId.
func TestCompoundReplay(t *testing.T) {
	s := newSite(t, memconn.Config{}, multichannel)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	q := p.bound()
	m := createWith(t, "file", smb2.FileOpenIf, 1)
	query := &smb2.QueryInfoRequest{FileID: smb2.AnyFileID, InfoType: smb2.InfoFile, FileInfoClass: 5, OutputBufferLength: 100}
	sts, msgs := p.compound(part{smb2.CommandCreate, m, false, nil}, part{smb2.CommandQueryInfo, query, true, nil})
	statuses(t, "compound", sts, ntstatus.Success, ntstatus.Success)
	first, err := smb2.ParseCreateResponse(msgs[0])
	if err != nil {
		t.Fatal(err)
	}
	st, msg := q.doHeader(q.at(1, true, smb2.CommandCreate), m)
	want(t, "CREATE that is sent again", st, ntstatus.Success)
	if again, err := smb2.ParseCreateResponse(msg); err != nil || again.FileID != first.FileID {
		t.Fatalf("FileId %v, want %v: %v", again.FileID, first.FileID, err)
	}
	query.FileID = first.FileID
	st, _ = q.do(smb2.CommandQueryInfo, query)
	want(t, "QUERY_INFO", st, ntstatus.Success)
	st, msg = q.doHeader(q.at(1, true, smb2.CommandCreate), m)
	want(t, "CREATE that is sent again late", st, ntstatus.Success)
	if again, err := smb2.ParseCreateResponse(msg); err != nil || again.FileID == first.FileID {
		t.Fatalf("FileId %v after it was used: %v", again.FileID, err)
	}
}

// A CREATE of a lost channel that is served after what was sent again opens nothing,
// as nobody would close it. What is remembered for that is bounded.
func TestCreateAfterItsReplay(t *testing.T) {
	s := newSite(t, memconn.Config{}, multichannel)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	q := p.bound()
	m := createWith(t, "file", smb2.FileOpenIf, 1)
	st, msg := q.doHeader(q.at(1, true, smb2.CommandCreate), m)
	want(t, "CREATE that is sent again", st, ntstatus.Success)
	resp, err := smb2.ParseCreateResponse(msg)
	if err != nil {
		t.Fatal(err)
	}
	st, _ = q.do(smb2.CommandClose, &smb2.CloseRequest{FileID: resp.FileID})
	want(t, "CLOSE", st, ntstatus.Success)
	st, _ = p.doHeader(p.at(0, false, smb2.CommandCreate), m)
	want(t, "the first, late", st, ntstatus.DuplicateObjectID)
	st, _ = q.doHeader(q.at(1, true, smb2.CommandCreate), m)
	want(t, "once more sent again", st, ntstatus.Success)

	var table replayTable
	key := func(i int) replayKey {
		return replayKey{create: smb2.GUID{byte(i), byte(i >> 8)}}
	}
	for i := range 2*maxLateCreates + 1 {
		table.expect(key(i + 1))
		table.expect(key(i + 1))
	}
	_, oldest := table.late[key(maxLateCreates+2)]
	_, older := table.late[key(maxLateCreates+1)]
	if n := len(table.late); n != maxLateCreates || !oldest || older {
		t.Fatalf("%d are remembered, want %d: the oldest %v, the one before %v", n, maxLateCreates, oldest, older)
	}
}

// LOGOFF on one channel ends them all; the end of the last ends the session. There
// are at most maxChannels.
func TestChannelsOfASession(t *testing.T) {
	s := newSite(t, memconn.Config{}, multichannel)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	qs := []*peer{p.bound()}
	for len(qs) < maxChannels-1 {
		qs = append(qs, p.bound())
	}
	q := s.dial()
	q.guid = p.guid
	q.negotiate(smb2.DialectSMB311)
	q.sign, q.signer = true, p.signer
	want(t, "one channel too many", q.setup("ann", "secret", p.sid,
		smb2.SessionSetupRequest{SecurityMode: 1, Flags: smb2.SessionSetupFlagBinding}), ntstatus.InsufficientResources)
	st, _ := qs[0].do(smb2.CommandLogoff, &smb2.LogoffRequest{})
	want(t, "LOGOFF", st, ntstatus.Success)
	p.sign = false
	st, _ = p.do(smb2.CommandTreeDisconnect, &smb2.TreeDisconnectRequest{})
	want(t, "on the first channel after LOGOFF on another", st, ntstatus.UserSessionDeleted)
	if n := s.srv.Stats().Sessions; n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// SM-32, 3.3.5.15.11: which addresses are told to whom.
func TestSM32ListedInterfaces(t *testing.T) {
	a := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	lo, lan := Interface{Index: 1, Addr: a("127.0.0.1")}, Interface{Index: 2, Addr: a("192.0.2.1"), Speed: 25e9}
	rdma := lan
	rdma.RDMA, rdma.RSS = true, true
	var flood []Interface
	for i := range 1000 {
		flood = append(flood, Interface{Index: uint32(i + 1), Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})})
	}
	for _, c := range []struct {
		name string
		list []Interface
		want string // addresses, with R for RDMA and S for RSS
	}{
		{"loopback beside others", []Interface{lo, lan}, "192.0.2.1"},
		{"loopback alone", []Interface{lo}, "127.0.0.1"},
		{"with and without RDMA", []Interface{lan, rdma}, "192.0.2.1 192.0.2.1RS"},
		{"no index, no address, any, multicast", []Interface{{Addr: a("192.0.2.9")}, {Index: 3}, {Index: 4, Addr: a("::")}, {Index: 5, Addr: a("ff02::1")}, lan}, "192.0.2.1"},
		{"zones and mapped addresses", []Interface{{Index: 6, Addr: a("2001:db8::1%eth0")}, {Index: 6, Addr: a("::ffff:192.0.2.2")}}, "2001:db8::1 192.0.2.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			given := slices.Clone(c.list)
			s := newSite(t, memconn.Config{}, func(cfg *Config) { cfg.Interfaces = func() []Interface { return c.list } })
			p := s.login(smb2.DialectSMB311).mustConnect("IPC$")
			var got []string
			for _, i := range p.interfaces() {
				e := i.Addr.String()
				if i.Capability&smb2.InterfaceRDMACapable != 0 {
					e += "R"
				}
				if i.Capability&smb2.InterfaceRSSCapable != 0 {
					e += "S"
				}
				got = append(got, e)
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("listed %q, want %q", s, c.want)
			}
			if !slices.Equal(given, c.list) {
				t.Error("the caller's list was changed")
			}
		})
	}
	s := newSite(t, memconn.Config{}, func(cfg *Config) { cfg.Interfaces = func() []Interface { return flood } })
	if n := len(s.login(smb2.DialectSMB311).mustConnect("IPC$").interfaces()); n != maxInterfaces {
		t.Errorf("%d of 1000 are listed, want %d", n, maxInterfaces)
	}
}

// interfaces asks for the server's.
func (p *peer) interfaces() (list []smb2.NetworkInterfaceInfo) {
	p.t.Helper()
	st, msg := p.do(smb2.CommandIoctl, &smb2.IoctlRequest{CtlCode: smb2.FsctlQueryNetworkInterfaceInfo,
		FileID: smb2.AnyFileID, Flags: smb2.IoctlFlagIsFsctl, MaxOutputResponse: 65536})
	want(p.t, "FSCTL_QUERY_NETWORK_INTERFACE_INFO", st, ntstatus.Success)
	m, err := smb2.ParseIoctlResponse(msg)
	if err != nil {
		p.t.Fatal(err)
	}
	for i, err := range smb2.NetworkInterfaceInfos(m.Output) {
		if err != nil {
			p.t.Fatal(err)
		}
		list = append(list, i)
	}
	return list
}

// 3.3.5.5.3: who logs on in the place of a session whose WRITE is under way is answered
// when that has ended: it would come after what he writes next.
func TestNoStaleWriteAfterANewSession(t *testing.T) {
	var g *gate
	s := newSite(t, memconn.Config{}, func(c *Config) { g = newGate(c) })
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	id := p.openFile("f")
	var old *conn
	for _, c := range s.srv.allConns() {
		old = c
	}
	g.close()
	p.post(p.header(smb2.CommandWrite), &smb2.WriteRequest{FileID: id, Data: []byte("old")})
	<-g.in
	q := s.dial()
	q.negotiate(smb2.DialectSMB311)
	done := make(chan ntstatus.Status)
	go func() {
		done <- q.setup("ann", "secret", 0, smb2.SessionSetupRequest{SecurityMode: 1, PreviousSessionID: p.sid})
	}()
	s.until("the new session waits for the WRITE", func() bool {
		old.reqMu.Lock()
		defer old.reqMu.Unlock()
		return old.settled != nil
	})
	g.open()
	want(t, "the new session", <-done, ntstatus.Success)
	q.mustConnect("data")
	if got := string(s.read("f")); got != "old" {
		t.Errorf("the file has %q when the new session is there, want what the old one has written", got)
	}
}
