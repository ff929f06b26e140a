package server

import (
	"math/rand/v2"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
)

// 3.3.1.1: what may be received, and that nothing may be twice.
func TestCreditWindow(t *testing.T) {
	var w creditWindow
	w.init(16)
	if w.take(1, 1) {
		t.Error("id 1 is taken from the window { 0 }")
	}
	if !w.take(0, 0) || w.take(0, 1) {
		t.Error("id 0 must be taken once")
	}
	if n := w.grant(0, 16); n != 1 {
		t.Errorf("client without credits asks for none and gets %d, want 1", n)
	}
	if n := w.grant(9, 16); n != 9 {
		t.Errorf("granted %d, want 9", n)
	}
	// Held: ids 1 to 10.
	for _, c := range []struct {
		id     uint64
		charge uint16
		ok     bool
	}{
		{3, 1, true}, {3, 1, false}, {2, 2, false}, {9, 3, false}, {9, 2, true}, {10, 1, false},
		{11, 1, false}, {4, 5, true}, {1, 2, true}, {0, 1, false}, {^uint64(0), 2, false}, {11, 0xFFFF, false},
	} {
		if got := w.take(c.id, c.charge); got != c.ok {
			t.Errorf("take(%d, %d) is %v, want %v", c.id, c.charge, got, c.ok)
		}
	}
	if w.low != 11 || w.high != 11 || w.held != 0 {
		t.Errorf("window %d to %d, held %d, want 11 to 11 and 0", w.low, w.high, w.held)
	}
	if n := w.grant(100, 16); n != 16 {
		t.Errorf("granted %d, want the limit of 16", n)
	}
	if n := w.grant(100, 16); n != 0 {
		t.Errorf("granted %d beyond the limit", n)
	}
}

// An old id that is never used must not make the window grow without bound.
func TestCreditWindowStuck(t *testing.T) {
	var w creditWindow
	w.init(16)
	w.take(0, 1)
	w.grant(16, 16) // ids 1 to 16; 1 is never used
	next, granted := uint64(2), 0
	for w.take(next, 1) {
		next++
		n := int(w.grant(1, 16))
		if granted += n; granted > 1000 {
			t.Fatal("window grows without bound")
		}
	}
	if span := w.high - w.low; span > w.span() {
		t.Errorf("window of %d ids, bitmap of %d", span, w.span())
	}
	if !w.take(1, 1) {
		t.Error("the old id is refused")
	}
	if n := w.grant(16, 16); n == 0 {
		t.Error("no credits after the old id came")
	}
}

// Against a model: a set of ids.
func TestCreditWindowModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var w creditWindow
	w.init(64)
	open, high := map[uint64]bool{0: true}, uint64(1)
	for i := range 20000 {
		id := high - uint64(r.IntN(int(min(high, 80)))) - 1 + uint64(r.IntN(3))
		charge := uint16(r.IntN(4))
		ok := true
		for j := range uint64(max(charge, 1)) {
			ok = ok && open[id+j]
		}
		if got := w.take(id, charge); got != ok {
			t.Fatalf("step %d: take(%d, %d) is %v, model says %v", i, id, charge, got, ok)
		}
		if ok {
			for j := range uint64(max(charge, 1)) {
				delete(open, id+j)
			}
		}
		n := w.grant(uint16(r.IntN(6)), 64)
		for range n {
			open[high] = true
			high++
		}
		if w.held != len(open) || w.held < 1 || w.held > 64 {
			t.Fatalf("step %d: held %d, model %d, want 1 to 64", i, w.held, len(open))
		}
	}
}

// 3.3.4.1.2, 3.3.1.2: what a client gets, before and after logging on.
func TestCreditGrant(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Limits.CreditsPerConn = 100 })
	p := s.dial()
	p.negotiate(allDialects...)
	if p.credits < 1 || p.credits > unauthCredits {
		t.Errorf("%d credits before logging on, want 1 to %d", p.credits, unauthCredits)
	}
	p.logon("ann", "secret")
	for range 5 {
		h := p.header(smb2.CommandEcho)
		h.Credits = 1000
		p.doHeader(h, &smb2.EchoRequest{})
	}
	if p.credits != 100 {
		t.Errorf("%d credits, want the limit of 100", p.credits)
	}
	for range 150 {
		h := p.header(smb2.CommandEcho)
		h.Credits = 0
		p.doHeader(h, &smb2.EchoRequest{})
	}
	if p.credits != 1 {
		t.Errorf("%d credits after asking for none, want 1", p.credits)
	}
}

// 3.3.1.2: who has logged on gets spare credits once, and with each answer those that the
// request has cost beside the first: what go-smb2 lives on, which does not charge itself
// for the requests of its logon.
func TestCreditsBeyondTheRequest(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	f := p.openFile("f")
	for _, c := range []struct {
		charge, want uint16
		got          int
	}{{1, 1, 1}, {1, 5, 5}, {3, 3, 5}, {3, 1, 3}, {3, 0, 0}} {
		before := p.credits
		h := p.header(smb2.CommandRead)
		h.CreditCharge, h.Credits = c.charge, c.want
		p.doHeader(h, &smb2.ReadRequest{FileID: f, Length: 100})
		if got := p.credits - before + int(c.charge); got != c.got {
			t.Errorf("request that costs %d and asks for %d: granted %d, want %d", c.charge, c.want, got, c.got)
		}
	}
}

// 3.3.5.2.5: credits must pay for the payload, either way.
func TestCreditCharge(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	f := p.openFile("f")
	for _, c := range []struct {
		name   string
		cmd    smb2.Command
		charge uint16
		m      body
		st     ntstatus.Status
	}{
		{"READ of 64 KiB for 0", smb2.CommandRead, 0, &smb2.ReadRequest{FileID: f, Length: 65536}, ntstatus.EndOfFile},
		{"READ of 64 KiB + 1 for 0", smb2.CommandRead, 0, &smb2.ReadRequest{FileID: f, Length: 65537}, ntstatus.InvalidParameter},
		{"READ of 64 KiB + 1 for 1", smb2.CommandRead, 1, &smb2.ReadRequest{FileID: f, Length: 65537}, ntstatus.InvalidParameter},
		{"READ of 64 KiB + 1 for 2", smb2.CommandRead, 2, &smb2.ReadRequest{FileID: f, Length: 65537}, ntstatus.EndOfFile},
		{"WRITE of 64 KiB + 1 for 1", smb2.CommandWrite, 1, &smb2.WriteRequest{FileID: f, Data: make([]byte, 65537)}, ntstatus.InvalidParameter},
		{"WRITE of 64 KiB + 1 for 2", smb2.CommandWrite, 2, &smb2.WriteRequest{FileID: f, Data: make([]byte, 65537)}, ntstatus.Success},
		{"IOCTL with 64 KiB + 1 out for 1", smb2.CommandIoctl, 1, &smb2.IoctlRequest{
			FileID: f, CtlCode: smb2.FsctlGetCompression, Flags: 1, MaxOutputResponse: 65537}, ntstatus.InvalidParameter},
		{"QUERY_INFO with 64 KiB + 1 for 1", smb2.CommandQueryInfo, 1, &smb2.QueryInfoRequest{
			FileID: f, InfoType: smb2.InfoFile, FileInfoClass: 5, OutputBufferLength: 65537}, ntstatus.InvalidParameter},
	} {
		h := p.header(c.cmd)
		h.CreditCharge = c.charge
		st, _ := p.doHeader(h, c.m)
		want(t, c.name, st, c.st)
	}
}
