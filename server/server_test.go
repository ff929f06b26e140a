package server

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// Shutdown lets what is under way finish and cancels what only waits.
func TestShutdown(t *testing.T) {
	s, p, q, _, g := locked(t, nil)
	mid, _ := q.waiting(g)
	done := make(chan error, 1)
	go func() { done <- s.srv.Shutdown(s.ctx) }()
	h, _ := q.answer()
	if h.MessageID != mid || h.Status != ntstatus.Cancelled {
		t.Errorf("waiting request is answered %+v", h)
	}
	p.gone()
	q.gone()
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if _, err := s.l.Dial(s.ctx); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Dial after Shutdown: %v", err)
	}
	if err := s.srv.Serve(s.ctx, memconn.Listen(memconn.Config{})); !errors.Is(err, ErrServerClosed) || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
	if st := s.srv.Stats(); st.Connections != 0 || st.Sessions != 0 || st.Opens != 0 {
		t.Errorf("left after Shutdown: %+v", st)
	}
	s.srv.Close()
}

// Shutdown gives up waiting when its context ends.
func TestShutdownImpatient(t *testing.T) {
	s := newSite(t, memconn.Config{Queue: 1}, nil)
	p := s.login(smb2.DialectSMB311)
	for range 8 { // the client takes no answers
		p.post(p.header(smb2.CommandEcho), &smb2.EchoRequest{})
	}
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	if err := s.srv.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v, want context.Canceled", err)
	}
}

func TestConnectionLimit(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Limits.Connections = 2 })
	p := s.login(smb2.DialectSMB311)
	s.login(smb2.DialectSMB311)
	s.dial().gone()
	p.c.Close()
	for s.srv.Stats().Connections > 1 {
		<-p.c.Done() // closed already: the server needs a moment to see it
	}
	s.login(smb2.DialectSMB311)
	if st := s.srv.Stats(); st.ConnectionsRefused != 1 || st.ConnectionsAccepted != 3 {
		t.Errorf("refused %d, accepted %d, want 1 and 3", st.ConnectionsRefused, st.ConnectionsAccepted)
	}
}

// One who logs on is let in though others hold every place without a word; the
// oldest of those goes. One who has logged on keeps its place.
func TestStrangersMakeRoom(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Limits.Connections = 4 })
	first := s.login(smb2.DialectSMB311)
	var mute []*peer
	for range 3 {
		mute = append(mute, s.dial())
	}
	mute[1].negotiate(smb2.DialectSMB311)
	for i := range mute {
		p := s.login(smb2.DialectSMB311)
		mute[i].gone()
		for s.srv.Stats().Connections > 4 {
			time.Sleep(time.Millisecond) // its place is free once the server has ended it
		}
		p.mustConnect("data")
	}
	s.dial().gone()
	if st, _ := first.do(smb2.CommandEcho, &smb2.EchoRequest{}); st != ntstatus.Success {
		t.Errorf("ECHO of the first: %v", st)
	}
	if st := s.srv.Stats(); st.ConnectionsRefused != 1 || st.ConnectionsFailed != 3 {
		t.Errorf("refused %d, ended %d, want 1 and 3", st.ConnectionsRefused, st.ConnectionsFailed)
	}
}

func TestSessionAndTreeLimits(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Limits.SessionsPerConn, c.Limits.TreesPerSession = 2, 3 })
	p := s.login(smb2.DialectSMB302)
	for i := range 4 {
		st := ntstatus.Success
		if i == 3 {
			st = ntstatus.InsufficientResources
		}
		want(t, "TREE_CONNECT", p.connect("data"), st)
	}
	want(t, "second session", p.logon("bob", "hunter2"), ntstatus.Success)
	want(t, "third session", p.logon("bob", "hunter2"), ntstatus.InsufficientResources)
}

// Connections that do not take part are closed in time, on a clock of the test's.
func TestTimeouts(t *testing.T) {
	type stage func(*peer)
	for _, c := range []struct {
		name string
		do   stage
		live time.Duration // is still there
		dead time.Duration // is gone
	}{
		{"no NEGOTIATE", func(p *peer) {}, 50 * time.Second, 70 * time.Second},
		{"nobody logs on", func(p *peer) { p.negotiate(smb2.DialectSMB311) }, 100 * time.Second, 115 * time.Second},
		{"idle", func(p *peer) { p.negotiate(smb2.DialectSMB311); p.logon("ann", "secret") }, 14 * time.Minute, 16 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				users, _ := ParseUsers("ann%secret")
				srv, err := New(Config{Users: users})
				if err != nil {
					t.Fatal(err)
				}
				l := memconn.Listen(memconn.Config{})
				served := make(chan error)
				go func() { served <- srv.Serve(t.Context(), l) }()
				s := &site{t: t, srv: srv, l: l, ctx: t.Context()}
				p := s.dial()
				c.do(p)
				time.Sleep(c.live) // of the bubble's clock, which costs nothing
				synctest.Wait()
				select {
				case <-p.c.Done():
					t.Errorf("closed before %v", c.live)
				default:
				}
				time.Sleep(c.dead - c.live)
				synctest.Wait()
				select {
				case <-p.c.Done():
				default:
					t.Errorf("open after %v", c.dead)
				}
				srv.Close()
				<-served
			})
		})
	}
}

// An authentication that is begun and not finished is forgotten.
func TestAuthTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		users, _ := ParseUsers("ann%secret")
		srv, err := New(Config{Users: users})
		if err != nil {
			t.Fatal(err)
		}
		l := memconn.Listen(memconn.Config{})
		served := make(chan error)
		go func() { served <- srv.Serve(t.Context(), l) }()
		s := &site{t: t, srv: srv, l: l, ctx: t.Context()}
		p := s.dial()
		p.negotiate(smb2.DialectSMB302)
		p.logon("ann", "secret")
		p.sign = false
		h := p.header(smb2.CommandSessionSetup)
		h.SessionID = 0
		st, msg := p.doHeader(h, &smb2.SessionSetupRequest{SecurityMode: 1})
		want(t, "SESSION_SETUP without a token", st, ntstatus.MoreProcessingRequired)
		half, _ := smb2.ParseHeader(msg)
		time.Sleep(time.Minute)
		synctest.Wait()
		h = p.header(smb2.CommandSessionSetup)
		h.SessionID = half.SessionID
		st, _ = p.doHeader(h, &smb2.SessionSetupRequest{SecurityMode: 1})
		want(t, "going on a minute later", st, ntstatus.UserSessionDeleted)
		srv.Close()
		<-served
	})
}

// 3.3.5.15 and the FSCTLs that are about the server.
func TestIoctl(t *testing.T) {
	ifs := []Interface{}
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Interfaces = func() []Interface { return ifs } })
	p := s.login(smb2.DialectSMB302).mustConnect("data")
	any := smb2.AnyFileID
	f := p.openFile("f")
	info := smb2.ValidateNegotiateInfoRequest{Capabilities: p.caps, GUID: p.guid, SecurityMode: p.mode, Dialects: []smb2.Dialect{smb2.DialectSMB302}}
	in, err := info.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		m    smb2.IoctlRequest
		st   ntstatus.Status
		n    int
	}{
		{"not an FSCTL", smb2.IoctlRequest{CtlCode: smb2.FsctlPipeWait, FileID: any}, ntstatus.NotSupported, 0},
		{"DFS referrals, 3.3.5.15.2", smb2.IoctlRequest{CtlCode: smb2.FsctlDFSGetReferrals, FileID: any, Flags: 1, MaxOutputResponse: 100}, ntstatus.FSDriverRequired, 0},
		{"DFS referrals on a file", smb2.IoctlRequest{CtlCode: smb2.FsctlDFSGetReferrals, FileID: f, Flags: 1}, ntstatus.InvalidParameter, 0},
		{"interfaces on a file, SM-32", smb2.IoctlRequest{CtlCode: smb2.FsctlQueryNetworkInterfaceInfo, FileID: f, Flags: 1}, ntstatus.InvalidParameter, 0},
		{"above MaxTransactSize", smb2.IoctlRequest{CtlCode: smb2.FsctlPipeWait, FileID: any, Flags: 1, MaxOutputResponse: 8<<20 + 1}, ntstatus.InvalidParameter, 0},
		{"pipe transaction on a file", smb2.IoctlRequest{CtlCode: smb2.FsctlPipeTransceive, FileID: f, Flags: 1}, ntstatus.NotSupported, 0},
		{"unknown file", smb2.IoctlRequest{CtlCode: smb2.FsctlSetSparse, FileID: smb2.FileID{Volatile: 1}, Flags: 1}, ntstatus.FileClosed, 0},
		{"VALIDATE_NEGOTIATE_INFO", smb2.IoctlRequest{CtlCode: smb2.FsctlValidateNegotiateInfo, FileID: any, Flags: 1, MaxOutputResponse: 24, Input: in}, 0, 24},
		{"no interfaces", smb2.IoctlRequest{CtlCode: smb2.FsctlQueryNetworkInterfaceInfo, FileID: any, Flags: 1, MaxOutputResponse: 1000}, 0, 0},
	} {
		h := p.header(smb2.CommandIoctl)
		h.CreditCharge = smb2.CreditCharge(int(c.m.MaxOutputResponse))
		st, msg := p.doHeader(h, &c.m)
		want(t, c.name, st, c.st)
		if st != ntstatus.Success {
			continue
		}
		m, err := smb2.ParseIoctlResponse(msg)
		if err != nil || len(m.Output) != c.n || m.CtlCode != c.m.CtlCode || m.FileID != any {
			t.Errorf("%s: %+v, %v, want %d octets", c.name, m, err, c.n)
		}
		if c.n == 24 {
			v, err := smb2.ParseValidateNegotiateInfoResponse(m.Output)
			if err != nil || v.Dialect != smb2.DialectSMB302 || v.SecurityMode != p.neg.SecurityMode ||
				v.Capabilities != p.neg.Capabilities || v.GUID != p.neg.ServerGUID {
				t.Errorf("%+v, %v, negotiated %+v", v, err, p.neg)
			}
		}
	}
}

// SM-31, SM-32: the list of interfaces, octet for octet.
func TestNetworkInterfaceInfo(t *testing.T) {
	addr := func(s string) (a Interface) { a.Addr.UnmarshalText([]byte(s)); return a }
	four, six, none := addr("192.0.2.7"), addr("fe80::1"), addr("192.0.2.9")
	four.Index, four.RSS, four.Speed = 2, true, 25_000_000_000
	six.Index, six.RSS, six.RDMA = 3, true, true
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Interfaces = func() []Interface { return []Interface{four, none, six} } })
	p := s.login(smb2.DialectSMB311).mustConnect("IPC$")
	ask := func(max uint32) (ntstatus.Status, []byte) {
		return p.do(smb2.CommandIoctl, &smb2.IoctlRequest{CtlCode: smb2.FsctlQueryNetworkInterfaceInfo,
			FileID: smb2.AnyFileID, Flags: 1, MaxOutputResponse: max})
	}
	st, _ := ask(303)
	want(t, "too little room", st, ntstatus.BufferTooSmall)
	st, msg := ask(304)
	want(t, "IOCTL", st, ntstatus.Success)
	m, err := smb2.ParseIoctlResponse(msg)
	if err != nil || len(m.Output) != 304 {
		t.Fatalf("%d octets, %v, want 304", len(m.Output), err)
	}
	first := "98000000" + "02000000" + "01000000" + "00000000" + "00ba1dd205000000" + "0200" + "0000" + "c0000207"
	second := "00000000" + "03000000" + "03000000" + "00000000" + "00ca9a3b00000000" + "1700" + "0000" + "00000000" +
		"fe800000000000000000000000000001" + "00000000"
	for i, w := range []string{first, second} {
		if got := hexOf(m.Output[i*152:][:len(w)/2]); got != w {
			t.Errorf("entry %d:\n got %s\nwant %s", i, got, w)
		}
	}
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s []byte
	for _, c := range b {
		s = append(s, digits[c>>4], digits[c&15])
	}
	return string(s)
}

// 3.3.5.15.12: what a man in the middle changed ends the connection.
func TestValidateNegotiateInfoTampered(t *testing.T) {
	good := func(p *peer) smb2.ValidateNegotiateInfoRequest {
		return smb2.ValidateNegotiateInfoRequest{Capabilities: p.caps, GUID: p.guid, SecurityMode: p.mode, Dialects: []smb2.Dialect{smb2.DialectSMB302}}
	}
	for name, change := range map[string]func(*smb2.ValidateNegotiateInfoRequest){
		"capabilities": func(m *smb2.ValidateNegotiateInfoRequest) { m.Capabilities ^= 1 },
		"GUID":         func(m *smb2.ValidateNegotiateInfoRequest) { m.GUID[0] ^= 1 },
		"mode":         func(m *smb2.ValidateNegotiateInfoRequest) { m.SecurityMode ^= 2 },
		"dialects":     func(m *smb2.ValidateNegotiateInfoRequest) { m.Dialects = append(m.Dialects, smb2.DialectSMB311) },
		"dialect":      func(m *smb2.ValidateNegotiateInfoRequest) { m.Dialects = []smb2.Dialect{smb2.DialectSMB300} },
	} {
		t.Run(name, func(t *testing.T) {
			p := newSite(t, memconn.Config{}, nil).login(smb2.DialectSMB302).mustConnect("IPC$")
			m := good(p)
			change(&m)
			in, _ := m.AppendBinary(nil)
			p.post(p.header(smb2.CommandIoctl), &smb2.IoctlRequest{CtlCode: smb2.FsctlValidateNegotiateInfo,
				FileID: smb2.AnyFileID, Flags: 1, MaxOutputResponse: 24, Input: in})
			p.gone()
		})
	}
}

// 3.3.5.15.12: a server without 3.1.1 looks at the dialect that the list leads to,
// not at the list, as clients forget those that cannot have been chosen.
func TestValidateNegotiateInfoBelow311(t *testing.T) {
	for _, c := range []struct {
		name string
		ds   []smb2.Dialect
		ok   bool
	}{
		{"the list", []smb2.Dialect{smb2.DialectSMB210, smb2.DialectSMB300, smb2.DialectSMB311}, true},
		{"the one chosen", []smb2.Dialect{smb2.DialectSMB300}, true},
		{"a lower one", []smb2.Dialect{smb2.DialectSMB210}, false},
		{"a higher one", []smb2.Dialect{smb2.DialectSMB300, smb2.DialectSMB302}, false},
		{"none that is spoken", []smb2.Dialect{smb2.DialectSMB311}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newSite(t, memconn.Config{}, func(c *Config) { c.MaxDialect = Dialect302 }).dial()
			p.negotiate(smb2.DialectSMB210, smb2.DialectSMB300, smb2.DialectSMB311)
			want(t, "logon", p.logon("ann", "secret"), ntstatus.Success)
			p.mustConnect("IPC$")
			m := smb2.ValidateNegotiateInfoRequest{Capabilities: p.caps, GUID: p.guid, SecurityMode: p.mode, Dialects: c.ds}
			in, err := m.AppendBinary(nil)
			if err != nil {
				t.Fatal(err)
			}
			req := &smb2.IoctlRequest{CtlCode: smb2.FsctlValidateNegotiateInfo,
				FileID: smb2.AnyFileID, Flags: 1, MaxOutputResponse: 24, Input: in}
			if !c.ok {
				p.post(p.header(smb2.CommandIoctl), req)
				p.gone()
				return
			}
			st, _ := p.do(smb2.CommandIoctl, req)
			want(t, "VALIDATE_NEGOTIATE_INFO", st, ntstatus.Success)
		})
	}
}

// BenchmarkIO is one client's I/O of 1 MiB in memory: what the server itself
// costs.
func BenchmarkIO(b *testing.B) {
	const n = 1 << 20
	for _, c := range []struct {
		name  string
		rdma  bool
		write bool
	}{{"read-rdma", true, false}, {"write-rdma", true, true}, {"read-inline", false, false}, {"write-inline", false, true}} {
		b.Run(c.name, func(b *testing.B) {
			s, msg := newIO(b, c.rdma, c.write, n)
			b.SetBytes(n)
			b.ReportAllocs()
			for b.Loop() {
				s.roundTrip(msg)
			}
		})
	}
}

// TestIOAllocations keeps the data paths free of garbage: what remains is the
// occasional refill of a pool.
func TestIOAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops pooled objects at random")
	}
	for _, c := range []struct {
		name        string
		rdma, write bool
	}{{"read-rdma", true, false}, {"write-rdma", true, true}, {"read-inline", false, false}, {"write-inline", false, true}} {
		s, msg := newIO(t, c.rdma, c.write, 1<<20)
		for range 20 {
			s.roundTrip(msg)
		}
		if got := testing.AllocsPerRun(200, func() { s.roundTrip(msg) }); got > 3 {
			t.Errorf("%s: %v allocations per I/O of 1 MiB, want 3 at most", c.name, got)
		}
	}
}

// ioClient sends the same request again and again, with new ids, and nothing of
// its own to allocate.
type ioClient struct {
	p   *peer
	out transport.Message
}

func newIO(t testing.TB, rdma, write bool, n int) (*ioClient, []byte) {
	s := newSite(t, memconn.Config{RDMA: rdma}, func(c *Config) { c.Signing = PolicyOffered })
	s.write("f", octets(n))
	p := s.login(smb2.DialectSMB302).mustConnect("data")
	f := p.openFile("f")
	var m body
	cmd := smb2.CommandRead
	buf := octets(n)
	var ci []byte
	channel := smb2.ChannelNone
	if rdma {
		_, ci = p.register(buf, transport.PeerReads|transport.PeerWrites)
		channel = smb2.ChannelRDMAV1
	}
	switch {
	case write && rdma:
		cmd, m = smb2.CommandWrite, &smb2.WriteRequest{FileID: f, Channel: channel, ChannelInfo: ci, RemainingBytes: uint32(n)}
	case write:
		cmd, m = smb2.CommandWrite, &smb2.WriteRequest{FileID: f, Data: buf}
	default:
		m = &smb2.ReadRequest{FileID: f, Length: uint32(n), Channel: channel, ChannelInfo: ci}
	}
	h := p.header(cmd)
	h.CreditCharge = smb2.CreditCharge(n)
	msg := p.element(h, m)
	return &ioClient{p: p, out: transport.Message{Parts: [][]byte{msg}}}, msg
}

func (c *ioClient) roundTrip(msg []byte) {
	p := c.p
	smb2.SetMessageID(msg, p.mid)
	p.mid += 16
	if err := p.c.Send(context.Background(), &c.out); err != nil {
		p.t.Fatal(err)
	}
	m, err := p.c.Receive(context.Background())
	if err != nil {
		p.t.Fatal(err)
	}
	if h, _ := smb2.ParseHeader(m.Data); h.Status != ntstatus.Success {
		p.t.Fatalf("status %v", h.Status)
	}
	m.Release()
}
