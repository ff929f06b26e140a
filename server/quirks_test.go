package server

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// cifsFragmentedSize is the longest message that Linux's client takes over SMB
// Direct, its MaxFragmentedSize.
const cifsFragmentedSize = 173910

// TestQuirks plays clients as they are. The names begin with the subject of
// docs/interop.md, "Peer profiles".
func TestQuirks(t *testing.T) {
	t.Run("6 answers fit the MaxFragmentedSize of cifs.ko", quirkAnswersFit)
	t.Run("7 READ of cifs.ko leaves RemainingBytes 0", quirkRemainingBytes)
	t.Run("7 INVALIDATE on every final answer", quirkInvalidateAlways)
	t.Run("7 no INVALIDATE on an interim answer", quirkInterim)
	t.Run("7 dialect 3.0 where answers cannot invalidate", quirkNoInvalidation)
	t.Run("7 no RDMA channel on TCP", quirkChannelOnTCP)
	t.Run("8 signing is not required on SMB Direct", quirkSigningPolicy)
}

// What the server offers and what it sends stay below the longest message, also
// where a client asks for more.
func quirkAnswersFit(t *testing.T) {
	s := newSite(t, memconn.Config{RDMA: true, MaxMessage: cifsFragmentedSize}, nil)
	s.write("f", octets(400_000))
	if err := os.Mkdir(filepath.Join(s.dir, "d"), 0o777); err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		name := fmt.Sprintf("%s-%04d", strings.Repeat("n", 100), i)
		if err := os.WriteFile(filepath.Join(s.dir, "d", name), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	if n := p.neg.MaxTransactSize; n > cifsFragmentedSize || n < 131072 {
		t.Errorf("MaxTransactSize %d", n)
	}
	// cifs.ko asks for what MaxTransactSize says; memconn refuses an answer that
	// is longer than the client takes.
	id := p.openDir("d")
	entries, st := p.list(id, smb2.ClassFileIDFullDirectoryInformation, "*", 0, p.neg.MaxTransactSize)
	if st != ntstatus.Success || len(entries) < 300 {
		t.Errorf("QUERY_DIRECTORY: %d entries, %v", len(entries), st)
	}
	f := p.openFile("f")
	for range 3 { // one after another, as the messages are reused
		st, msg := p.doSized(smb2.CommandRead, 400_000, &smb2.ReadRequest{FileID: f, Length: 400_000})
		want(t, "READ", st, ntstatus.Success)
		m, err := smb2.ParseReadResponse(msg)
		if err != nil || len(m.Data) < 131072 || len(m.Data) > cifsFragmentedSize {
			t.Errorf("READ: %d octets, %v", len(m.Data), err)
		}
	}
}

// [MS-SMB2] 2.2.19 has the length there; Length counts all the same.
func quirkRemainingBytes(t *testing.T) {
	s := newSite(t, memconn.Config{RDMA: true}, nil)
	content := octets(100_000)
	s.write("f", content)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	f := p.openFile("f")
	for _, n := range []int{4096, 65536, 100_000} {
		buf := make([]byte, n)
		g, ci := p.register(buf, transport.PeerWrites)
		st, msg := p.doSized(smb2.CommandRead, n, &smb2.ReadRequest{FileID: f, Length: uint32(n), Channel: smb2.ChannelRDMAV1Invalidate, ChannelInfo: ci})
		want(t, "READ", st, ntstatus.Success)
		// cifs.ko takes the length from DataRemaining.
		if m, err := smb2.ParseReadResponse(msg); err != nil || m.DataRemaining != uint32(n) || !bytes.Equal(buf, content[:n]) {
			t.Errorf("%d octets: %+v, %v", n, m, err)
		}
		g.Deregister(s.ctx, 0, false)
	}
}

// cifs.ko takes the token for dead whatever the status, so the second request with
// the same memory would fail at its own adapter. Not on the interim answer, after
// which the data still moves.
func quirkInvalidateAlways(t *testing.T) {
	s := newSite(t, memconn.Config{RDMA: true}, nil)
	s.write("f", octets(5000))
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	f := p.openFile("f")
	for _, c := range []struct {
		name string
		cmd  smb2.Command
		m    func(ci []byte) body
		st   ntstatus.Status
	}{
		{"READ", smb2.CommandRead, func(ci []byte) body {
			return &smb2.ReadRequest{FileID: f, Length: 4096, Channel: 2, ChannelInfo: ci}
		}, ntstatus.Success},
		{"READ beyond the end", smb2.CommandRead, func(ci []byte) body {
			return &smb2.ReadRequest{FileID: f, Offset: 5000, Length: 4096, Channel: 2, ChannelInfo: ci}
		}, ntstatus.EndOfFile},
		{"READ of a closed file", smb2.CommandRead, func(ci []byte) body {
			return &smb2.ReadRequest{FileID: smb2.FileID{Persistent: 99}, Length: 4096, Channel: 2, ChannelInfo: ci}
		}, ntstatus.FileClosed},
		{"WRITE", smb2.CommandWrite, func(ci []byte) body {
			return &smb2.WriteRequest{FileID: f, RemainingBytes: 4096, Channel: 2, ChannelInfo: ci}
		}, ntstatus.Success},
		{"WRITE of a closed file", smb2.CommandWrite, func(ci []byte) body {
			return &smb2.WriteRequest{FileID: smb2.FileID{Persistent: 99}, RemainingBytes: 4096, Channel: 2, ChannelInfo: ci}
		}, ntstatus.FileClosed},
	} {
		g, ci := p.register(make([]byte, 4096), transport.PeerReads|transport.PeerWrites)
		st, _ := p.do(c.cmd, c.m(ci))
		want(t, c.name, st, c.st)
		if p.lastInv == nil || *p.lastInv != g.Descriptors()[0].Token {
			t.Errorf("%s: invalidated %v, want %#x", c.name, p.lastInv, g.Descriptors()[0].Token)
		}
		g.Deregister(s.ctx, 0, false)
	}
}

// The data of a request that waits still has to find its way.
func quirkInterim(t *testing.T) {
	s := newSite(t, memconn.Config{RDMA: true}, nil)
	p := s.login(smb2.DialectSMB311).mustConnect("IPC$")
	id := p.create(createRequest("srvsvc", smb2.FileOpen))
	g, ci := p.register(make([]byte, 4096), transport.PeerWrites)
	defer g.Deregister(s.ctx, 0, false)
	// Nothing was written to the pipe, so the READ waits until that is closed.
	read := p.post(p.header(smb2.CommandRead), &smb2.ReadRequest{FileID: id, Length: 100, Channel: smb2.ChannelRDMAV1Invalidate, ChannelInfo: ci})
	h, _ := p.answer()
	if h.MessageID != read || h.Status != ntstatus.Pending || p.lastInv != nil {
		t.Errorf("interim: message %d, %v, invalidated %v", h.MessageID, h.Status, p.lastInv)
	}
	p.post(p.header(smb2.CommandClose), &smb2.CloseRequest{FileID: id})
	for range 2 {
		h, _ := p.answer()
		switch token := g.Descriptors()[0].Token; {
		case h.MessageID == read && (h.Status != ntstatus.PipeBroken || p.lastInv == nil || *p.lastInv != token):
			t.Errorf("final: %v, invalidated %v, want %#x", h.Status, p.lastInv, token)
		case h.MessageID != read && p.lastInv != nil:
			t.Errorf("CLOSE: invalidated %v", p.lastInv)
		}
	}
}

func quirkNoInvalidation(t *testing.T) {
	s := newSite(t, memconn.Config{RDMA: true, NoInvalidation: true}, nil)
	s.write("f", octets(100))
	p := s.dial()
	p.negotiate(smb2.DialectSMB300, smb2.DialectSMB302, smb2.DialectSMB311)
	if p.neg.DialectRevision != smb2.DialectSMB300 {
		t.Fatalf("dialect %v", p.neg.DialectRevision)
	}
	if st := p.logon("ann", "secret"); st != ntstatus.Success {
		t.Fatal(st)
	}
	p.mustConnect("data")
	f := p.openFile("f")
	g, ci := p.register(make([]byte, 100), transport.PeerWrites)
	defer g.Deregister(s.ctx, 0, false)
	for range 2 { // the token lives on
		st, _ := p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: f, Length: 100, Channel: smb2.ChannelRDMAV1, ChannelInfo: ci})
		want(t, "READ", st, ntstatus.Success)
	}
	// A client without 3.0 finds nothing.
	p = s.dial()
	st, _ := p.negotiateWith(&smb2.NegotiateRequest{SecurityMode: 1, Dialects: []smb2.Dialect{smb2.DialectSMB302}})
	want(t, "NEGOTIATE of 3.0.2", st, ntstatus.NotSupported)
}

func quirkChannelOnTCP(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	s.write("f", octets(100))
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	f := p.openFile("f")
	ci := info(transport.Descriptor{Offset: 4096, Token: 1, Length: 100})
	for _, ch := range []smb2.Channel{smb2.ChannelRDMAV1, smb2.ChannelRDMAV1Invalidate} {
		st, _ := p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: f, Length: 100, Channel: ch, ChannelInfo: ci})
		want(t, "READ", st, ntstatus.InvalidParameter)
		st, _ = p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: f, RemainingBytes: 100, Channel: ch, ChannelInfo: ci})
		want(t, "WRITE", st, ntstatus.InvalidParameter)
	}
}

// Stock cifs.ko places no data by RDMA once signing is required.
func quirkSigningPolicy(t *testing.T) {
	for _, rdma := range []bool{false, true} {
		s := newSite(t, memconn.Config{RDMA: rdma}, func(c *Config) { c.Signing = PolicyDefault })
		p := s.dial()
		p.negotiate(smb2.DialectSMB311)
		if required := p.neg.SecurityMode&smb2.NegotiateSigningRequired != 0; required == rdma || p.neg.SecurityMode&smb2.NegotiateSigningEnabled == 0 {
			t.Errorf("RDMA %v: security mode %#x", rdma, p.neg.SecurityMode)
		}
	}
}
