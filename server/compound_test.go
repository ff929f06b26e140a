package server

import (
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// part is an element of a compound: a command, its body, and whether it is
// related to the one before.
type part struct {
	cmd     smb2.Command
	m       body
	related bool
	change  func(*smb2.Header)
}

// compound sends the parts as one message, each element signed if p signs, and
// returns their responses' statuses and octets.
func (p *peer) compound(parts ...part) ([]ntstatus.Status, [][]byte) {
	p.t.Helper()
	p.transmit(p.compoundMessage(parts...))
	var sts []ntstatus.Status
	var msgs [][]byte
	for len(sts) < len(parts) {
		for _, el := range p.receive() {
			h, _ := smb2.ParseHeader(el)
			if h.Status == ntstatus.Pending {
				continue
			}
			sts, msgs = append(sts, h.Status), append(msgs, el)
		}
	}
	return sts, msgs
}

func (p *peer) compoundMessage(parts ...part) []byte {
	p.t.Helper()
	var b []byte
	last := -1
	starts := []int{}
	for _, x := range parts {
		if last >= 0 {
			b = smb2.PadCompound(b, 0, last)
		}
		last = len(b)
		starts = append(starts, last)
		h := p.header(x.cmd)
		if x.related {
			h.Flags |= smb2.FlagRelatedOperations
			h.SessionID, h.TreeID = ^uint64(0), ^uint32(0)
		}
		if x.change != nil {
			x.change(&h)
		}
		p.use(h)
		b = append(b, p.element(h, x.m)...)
	}
	if p.seal {
		return p.protect(b)
	}
	if p.sign {
		for i, s := range starts {
			end := len(b)
			if i+1 < len(starts) {
				end = starts[i+1]
			}
			if err := p.signer.Sign(b[s:end]); err != nil {
				p.t.Fatal(err)
			}
		}
	}
	return b
}

func statuses(t *testing.T, what string, got []ntstatus.Status, want ...ntstatus.Status) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d responses %v, want %v", what, len(got), got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%s, element %d: got %v, want %v", what, i, got[i], want[i])
		}
	}
}

// 3.3.5.2.7.2: session, tree and file are handed on, and so are failures to have
// one.
func TestCompoundRelated(t *testing.T) {
	any := smb2.AnyFileID
	read := part{smb2.CommandRead, &smb2.ReadRequest{FileID: any, Length: 3}, true, nil}
	write := part{smb2.CommandWrite, &smb2.WriteRequest{FileID: any, Data: []byte("xyz")}, true, nil}
	closing := part{smb2.CommandClose, &smb2.CloseRequest{FileID: any}, true, nil}
	query := part{smb2.CommandQueryInfo, &smb2.QueryInfoRequest{FileID: any, InfoType: smb2.InfoFile, FileInfoClass: 5, OutputBufferLength: 100}, true, nil}
	open := func(name string, d smb2.CreateDisposition) part {
		return part{smb2.CommandCreate, createRequest(name, d), false, nil}
	}
	reader := createRequest("f", smb2.FileOpen)
	reader.DesiredAccess = smb2.FileReadData | smb2.FileReadAttributes
	const ok = ntstatus.Success
	for _, c := range []struct {
		name  string
		parts []part
		st    []ntstatus.Status
	}{
		{"create, write, read, close", []part{open("n", smb2.FileOverwriteIf), write, read, closing}, []ntstatus.Status{ok, ok, ok, ok}},
		{"create, query, close", []part{open("f", smb2.FileOpen), query, closing}, []ntstatus.Status{ok, ok, ok}},
		{"create fails, all fail alike", []part{open("no", smb2.FileOpen), read, query, closing},
			[]ntstatus.Status{ntstatus.ObjectNameNotFound, ntstatus.ObjectNameNotFound, ntstatus.ObjectNameNotFound, ntstatus.ObjectNameNotFound}},
		{"one in the middle fails, the file is still there", []part{{smb2.CommandCreate, reader, false, nil}, write, read, closing},
			[]ntstatus.Status{ok, ntstatus.AccessDenied, ok, ok}},
		{"after close there is no file", []part{open("f", smb2.FileOpen), closing, read}, []ntstatus.Status{ok, ok, ntstatus.FileClosed}},
		{"nothing has named a file", []part{{smb2.CommandEcho, &smb2.EchoRequest{}, false, nil}, {smb2.CommandRead, &smb2.ReadRequest{FileID: any, Length: 3}, true, nil}},
			[]ntstatus.Status{ok, ntstatus.InvalidHandle}},
		{"the first is related to nothing", []part{{smb2.CommandCreate, createRequest("f", smb2.FileOpen), true, nil}, read, closing},
			[]ntstatus.Status{ntstatus.InvalidParameter, ntstatus.InvalidParameter, ntstatus.InvalidParameter}},
		{"unrelated, then related", []part{open("f", smb2.FileOpen), {smb2.CommandEcho, &smb2.EchoRequest{}, false, nil}, read},
			[]ntstatus.Status{ok, ok, ntstatus.InvalidHandle}},
		{"two chains", []part{open("f", smb2.FileOpen), read, closing, open("f", smb2.FileOpen), read, closing},
			[]ntstatus.Status{ok, ok, ok, ok, ok, ok}},
		{"session lost, nothing to go on with", []part{{smb2.CommandCreate, createRequest("f", smb2.FileOpen), false, func(h *smb2.Header) { h.SessionID = 1 }}, read, closing},
			[]ntstatus.Status{ntstatus.UserSessionDeleted, ntstatus.InvalidParameter, ntstatus.InvalidParameter}},
		{"tree connect, create, close", []part{
			{smb2.CommandTreeConnect, &smb2.TreeConnectRequest{Path: smb2.EncodeUTF16(`\\x\data`)}, false, func(h *smb2.Header) { h.TreeID = 0 }},
			{smb2.CommandCreate, createRequest("f", smb2.FileOpen), true, nil}, closing}, []ntstatus.Status{ok, ok, ok}},
		{"tree connect fails", []part{
			{smb2.CommandTreeConnect, &smb2.TreeConnectRequest{Path: smb2.EncodeUTF16(`\\x\no`)}, false, func(h *smb2.Header) { h.TreeID = 0 }},
			{smb2.CommandCreate, createRequest("f", smb2.FileOpen), true, nil}, closing},
			[]ntstatus.Status{ntstatus.BadNetworkName, ntstatus.InvalidParameter, ntstatus.InvalidParameter}},
	} {
		for _, how := range []string{"plain", "signed", "encrypted"} {
			t.Run(c.name+", "+how, func(t *testing.T) {
				s := newSite(t, memconn.Config{RDMA: true}, nil)
				s.write("f", []byte("abc"))
				p := s.login(smb2.DialectSMB302).mustConnect("data")
				p.sign, p.seal = how == "signed", how == "encrypted"
				if how == "encrypted" && (c.name == "session lost, nothing to go on with" || c.name == "the first is related to nothing") {
					t.Skip("ends the connection when encrypted, 3.3.5.2.1.1")
				}
				if how == "signed" && (c.name == "session lost, nothing to go on with" || c.name == "the first is related to nothing") {
					t.Skip("names no session with a key")
				}
				sts, msgs := p.compound(c.parts...)
				statuses(t, c.name, sts, c.st...)
				for i, m := range msgs {
					h, _ := smb2.ParseHeader(m)
					if h.IsRelated() != c.parts[i].related {
						t.Errorf("element %d: FLAGS_RELATED_OPERATIONS is %v", i, h.IsRelated())
					}
					if i+1 < len(msgs) && h.NextCommand%8 != 0 {
						t.Errorf("element %d: NextCommand %d", i, h.NextCommand)
					}
					if how == "signed" && !h.IsSigned() {
						t.Errorf("element %d is not signed", i)
					}
				}
				if n := s.srv.Stats().Opens; n > 2 {
					t.Errorf("%d opens left", n)
				}
			})
		}
	}
}

// 3.3.5.2.1.1: an encrypted compound holds one session's requests.
func TestCompoundEncryptedMixed(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	p := s.login(smb2.DialectSMB311)
	p.seal = true
	p.transmit(p.compoundMessage(part{smb2.CommandEcho, &smb2.EchoRequest{}, false, nil},
		part{smb2.CommandEcho, &smb2.EchoRequest{}, false, func(h *smb2.Header) { h.SessionID = 1 }}))
	p.gone()
}

// Two invalidations do not fit one message: the responses go separately.
func TestCompoundInvalidations(t *testing.T) {
	s := newSite(t, memconn.Config{RDMA: true}, nil)
	s.write("f", octets(64))
	p := s.login(smb2.DialectSMB302).mustConnect("data")
	f := p.openFile("f")
	var parts []part
	want := map[uint32]bool{}
	for range 3 {
		g, ci := p.register(make([]byte, 64), transport.PeerWrites)
		want[g.Descriptors()[0].Token] = true
		parts = append(parts, part{smb2.CommandRead, &smb2.ReadRequest{FileID: f, Length: 64, Channel: 2, ChannelInfo: ci}, false, nil})
	}
	p.transmit(p.compoundMessage(parts...))
	for range parts {
		h, _ := p.answer()
		if h.Status != ntstatus.Success || p.lastInv == nil || !want[*p.lastInv] {
			t.Errorf("%v, invalidated %v", h.Status, p.lastInv)
			continue
		}
		delete(want, *p.lastInv)
	}
}

// More responses than fit one message go in several.
func TestCompoundLongerThanMessage(t *testing.T) {
	s := newSite(t, memconn.Config{MaxMessage: 131072 + 512}, nil)
	s.write("f", octets(65536))
	p := s.login(smb2.DialectSMB302).mustConnect("data")
	f := p.openFile("f")
	var parts []part
	for range 5 {
		parts = append(parts, part{smb2.CommandRead, &smb2.ReadRequest{FileID: f, Length: 65536}, false, nil})
	}
	sts, msgs := p.compound(parts...)
	statuses(t, "READs", sts, 0, 0, 0, 0, 0)
	for _, m := range msgs {
		if r, err := smb2.ParseReadResponse(m); err != nil || len(r.Data) != 65536 {
			t.Errorf("%d octets, %v", len(r.Data), err)
		}
	}
}

func TestCompoundLimit(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Limits.CompoundElements = 3 })
	p := s.login(smb2.DialectSMB311)
	e := part{smb2.CommandEcho, &smb2.EchoRequest{}, false, nil}
	sts, _ := p.compound(e, e, e)
	statuses(t, "three", sts, 0, 0, 0)
	p.transmit(p.compoundMessage(e, e, e, e))
	p.gone()
}

// waiting makes a LOCK that has to wait for another's, and returns its MessageId
// and AsyncId.
func (p *peer) waiting(f smb2.FileID) (mid, async uint64) {
	p.t.Helper()
	mid = p.post(p.header(smb2.CommandLock), &smb2.LockRequest{FileID: f, Locks: []smb2.LockElement{
		{Offset: 0, Length: 1, Flags: smb2.LockFlagExclusiveLock}}})
	h, _ := p.answer()
	if h.Status != ntstatus.Pending || !h.IsAsync() || h.AsyncID == 0 || h.MessageID != mid || h.IsSigned() {
		p.t.Fatalf("interim response %+v, 3.3.4.2", h)
	}
	return mid, h.AsyncID
}

// locked is two clients' opens of a file, locked by the first.
func locked(t *testing.T, change func(*Config)) (s *site, p, q *peer, f, g smb2.FileID) {
	s = newSite(t, memconn.Config{}, change)
	p, q = s.login(smb2.DialectSMB311).mustConnect("data"), s.login(smb2.DialectSMB311).mustConnect("data")
	f, g = p.openFile("f"), q.openFile("f")
	st, _ := p.do(smb2.CommandLock, &smb2.LockRequest{FileID: f, Locks: []smb2.LockElement{
		{Offset: 0, Length: 1, Flags: smb2.LockFlagExclusiveLock | smb2.LockFlagFailImmediately}}})
	want(t, "LOCK", st, ntstatus.Success)
	return s, p, q, f, g
}

// 3.3.5.16, and everything else that ends a request which waits.
func TestCancel(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(q *peer, g smb2.FileID, mid, async uint64)
		st   ntstatus.Status
		two  bool // the answer of what do sent comes as well
	}{
		{"CANCEL by AsyncId", func(q *peer, _ smb2.FileID, mid, async uint64) { q.sendCancel(0, async) }, ntstatus.Cancelled, false},
		{"CANCEL by MessageId", func(q *peer, _ smb2.FileID, mid, async uint64) { q.sendCancel(mid, 0) }, ntstatus.Cancelled, false},
		{"CANCEL of something else first", func(q *peer, _ smb2.FileID, mid, async uint64) {
			q.sendCancel(mid+99, 0)
			q.sendCancel(0, async+99)
			q.sendCancel(0, async)
		}, ntstatus.Cancelled, false},
		{"LOGOFF", func(q *peer, _ smb2.FileID, mid, async uint64) {
			q.post(q.header(smb2.CommandLogoff), &smb2.LogoffRequest{})
		}, ntstatus.Cancelled, true},
		{"TREE_DISCONNECT", func(q *peer, _ smb2.FileID, mid, async uint64) {
			q.post(q.header(smb2.CommandTreeDisconnect), &smb2.TreeDisconnectRequest{})
		}, ntstatus.Cancelled, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _, q, _, g := locked(t, nil)
			mid, async := q.waiting(g)
			held := q.credits
			c.do(q, g, mid, async)
			n := 1
			if c.two {
				n = 2
			}
			seen := false
			for range n {
				h, _ := q.answer()
				if h.MessageID != mid {
					want(t, c.name, h.Status, ntstatus.Success)
					continue
				}
				seen = true
				if h.Status != ntstatus.Cancelled && h.Status != ntstatus.RangeNotLocked || h.AsyncID != async || !h.IsAsync() || h.Credits != 0 {
					t.Errorf("final response %+v, want %v, AsyncId %d, no credits (3.3.4.4)", h, c.st, async)
				}
			}
			if !seen {
				t.Error("the waiting request has no final response")
			}
			if !c.two && q.credits != held {
				t.Errorf("credits went from %d to %d", held, q.credits)
			}
			_ = s
		})
	}
	t.Run("of another session", func(t *testing.T) {
		_, p, q, f, g := locked(t, nil)
		mid, async := q.waiting(g)
		p.sendCancel(mid, 0)
		p.sendCancel(0, async)
		st, _ := p.do(smb2.CommandLock, &smb2.LockRequest{FileID: f, Locks: []smb2.LockElement{{Length: 1, Flags: smb2.LockFlagUnlock}}})
		want(t, "unlock", st, ntstatus.Success)
		h, _ := q.answer()
		if h.Status != ntstatus.Success || h.MessageID != mid || h.AsyncID != async {
			t.Errorf("final response %+v, want success", h)
		}
	})
	t.Run("with a wrong signature", func(t *testing.T) {
		_, p, q, f, g := locked(t, nil)
		mid, async := q.waiting(g)
		right := q.signer
		wrong, err := smbcrypto.NewSigner(q.alg, make([]byte, 16), smbcrypto.RoleClient)
		if err != nil {
			t.Fatal(err)
		}
		q.signer = wrong
		q.sendCancel(0, async)
		q.signer = right
		st, _ := p.do(smb2.CommandLock, &smb2.LockRequest{FileID: f, Locks: []smb2.LockElement{{Length: 1, Flags: smb2.LockFlagUnlock}}})
		want(t, "unlock", st, ntstatus.Success)
		h, _ := q.answer()
		if h.Status != ntstatus.Success || h.MessageID != mid {
			t.Errorf("final response %+v, want success", h)
		}
	})
}

// sendCancel sends a CANCEL, which has no answer.
func (p *peer) sendCancel(mid, async uint64) {
	p.t.Helper()
	h := smb2.Header{Command: smb2.CommandCancel, MessageID: mid, SessionID: p.sid}
	if async != 0 {
		h.Flags |= smb2.FlagAsyncCommand
		h.AsyncID = async
	}
	p.transmit(p.protect(p.element(h, &smb2.CancelRequest{})))
}

// Requests that wait are bounded.
func TestAsyncLimit(t *testing.T) {
	_, _, q, _, g := locked(t, func(c *Config) { c.Limits.AsyncPerConn = 2 })
	_, first := q.waiting(g)
	q.waiting(g)
	st, _ := q.do(smb2.CommandLock, &smb2.LockRequest{FileID: g, Locks: []smb2.LockElement{{Length: 1, Flags: smb2.LockFlagExclusiveLock}}})
	want(t, "a third", st, ntstatus.InsufficientResources)
	q.sendCancel(0, first)
	h, _ := q.answer()
	want(t, "cancelled", h.Status, ntstatus.Cancelled)
	q.waiting(g)
}

// The end of a connection ends what waits on it, and closes its files.
func TestDisconnectWithWork(t *testing.T) {
	s, p, q, f, g := locked(t, nil)
	q.waiting(g)
	q.c.Close()
	st, _ := p.do(smb2.CommandLock, &smb2.LockRequest{FileID: f, Locks: []smb2.LockElement{{Length: 1, Flags: smb2.LockFlagUnlock}}})
	want(t, "unlock", st, ntstatus.Success)
	s.srv.Close()
	if st := s.srv.Stats(); st.Connections != 0 || st.Sessions != 0 || st.Opens != 0 {
		t.Errorf("left after Close: %+v", st)
	}
}

// A command that there is not is refused behind another request, which is answered;
// alone it ends the connection. What is related to a request of no session has none
// that could verify it either.
func TestCompoundWithoutSense(t *testing.T) {
	_, p := disk(t)
	f := p.openFile("f")
	echo := part{smb2.CommandEcho, &smb2.EchoRequest{}, false, nil}
	unknown := part{smb2.CommandEcho, &smb2.EchoRequest{}, true, func(h *smb2.Header) { h.Command = 0xFF }}
	got, _ := p.compound(echo, unknown)
	statuses(t, "unknown command", got, ntstatus.Success, ntstatus.InvalidParameter)

	stranger := func(h *smb2.Header) { h.SessionID++ }
	closing := &smb2.CloseRequest{FileID: smb2.AnyFileID}
	got, _ = p.compound(part{smb2.CommandClose, closing, false, stranger}, part{smb2.CommandClose, closing, true, nil})
	statuses(t, "of no session", got, ntstatus.UserSessionDeleted, ntstatus.InvalidParameter)
	p.close(f)
}
