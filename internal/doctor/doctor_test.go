package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// RFC 5044 §7.1.1 and RFC 6581 §6, §9, by hand.
func TestParseStartup(t *testing.T) {
	key := "MPA ID Rep Frame"
	for _, c := range []struct {
		name  string
		frame string
		want  startup
		ok    bool
	}{
		{"revision 1 with CRC", key + "\x40\x01\x00\x00", startup{revision: 1, crc: true}, true},
		{"revision 1 knows no enhanced data", key + "\x10\x01\x00\x04abcd", startup{revision: 1, data: []byte("abcd")}, true},
		{"markers, rejected", key + "\xa0\x01\x00\x02xy", startup{revision: 1, markers: true, rejected: true, data: []byte("xy")}, true},
		{"revision 2, peer to peer, IRD 32, ORD 7, private data", key + "\x50\x02\x00\x06\x80\x20\x40\x07pq",
			startup{revision: 2, crc: true, enhanced: true, peer: true, ird: 32, ord: 7, data: []byte("pq")}, true},
		{"enhanced data that is cut", key + "\x10\x02\x00\x02\x00\x20", startup{revision: 2, data: []byte("\x00\x20")}, true},
		{"octets behind the frame", key + "\x00\x01\x00\x01ab", startup{revision: 1, data: []byte("a")}, true},
		{"private data that is cut", key + "\x00\x01\x00\x03ab", startup{}, false},
		{"a header that is cut", key + "\x00\x01\x00", startup{}, false},
		{"nothing", "", startup{}, false},
	} {
		got, ok := parseStartup([]byte(c.frame))
		if ok != c.ok || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", c.want) {
			t.Errorf("%s: %+v, %v; want %+v, %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

func TestRecognise(t *testing.T) {
	for said, want := range map[string]string{
		"MPA ID Rep Frame\x00\x01\x00\x00":   "iWARP (MPA)",
		"MPA ID Req Frame\x00\x01\x00\x00":   "",
		"\x00\x00\x00\x80\xfeSMB\x40\x00":    "SMB over TCP",
		"\x00\x00\x00\x80\xffSMB\x72":        "SMB over TCP",
		"HTTP/1.0 400 Bad Request":           "HTTP",
		"<html><body>":                       "HTTP",
		"SSH-2.0-x":                          "SSH",
		"\x15\x03\x03\x00\x02":               "TLS",
		"\x83\x00\x00\x01\x8f":               "NetBIOS sessions (SMB1)",
		"\x15\x04":                           "",
		"":                                   "",
		"220 mail.example.com ESMTP Postfix": "",
	} {
		if got := recognise([]byte(said)); got != want {
			t.Errorf("%q is %q, want %q", said, got, want)
		}
	}
}

func TestStateAfterADial(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for _, c := range []struct {
		err  error
		want portState
	}{
		{nil, portOpen},
		{dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), portRefused},
		{dial(os.NewSyscallError("connect", syscall.ETIMEDOUT)), portFiltered},
		{dial(os.ErrDeadlineExceeded), portFiltered},
		{dial(context.DeadlineExceeded), portFiltered},
		{dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), portUnreachable},
		{dial(os.NewSyscallError("connect", syscall.ENETUNREACH)), portUnreachable},
	} {
		if got := stateAfter(c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}

// What a port is told of in the step, by the best of the states of all addresses.
func TestPortsStep(t *testing.T) {
	a := netip.MustParseAddr("192.0.2.1")
	for _, c := range []struct {
		tcp, rdma portState
		reason    string
		change    string
	}{
		{portOpen, portRefused, "nobody listens on TCP port 5445", "start SMB Direct on the server"},
		{portRefused, portRefused, "SMB over TCP, port 445, is refused too", "see whether the server runs"},
		{portFiltered, portFiltered, "let nothing come back: a firewall", "let TCP port 5445 through the firewalls"},
		{portUnreachable, portUnreachable, "can't be reached", "see to the network"},
	} {
		d := &doctor{rep: &Report{}, cfg: Config{TCPPort: 445, RDMAPorts: []uint16{5445}, Fabrics: []Fabric{{Name: "f", OverTCP: true}}}}
		d.probes = []probe{{netip.AddrPortFrom(a, 445), c.tcp}, {netip.AddrPortFrom(a, 5445), c.rdma}}
		s := d.begin(StepPorts, "TCP ports")
		d.tellPorts(s)
		if s.Outcome != Problem || !strings.Contains(s.Summary, c.reason) || !strings.Contains(s.Change, c.change) {
			t.Errorf("%s, %s: %+v; want %q, %q", c.tcp, c.rdma, s, c.reason, c.change)
		}
	}
}

// What a server says does nothing to a terminal, and is of bounded length.
func TestReportIsBounded(t *testing.T) {
	evil := "\x1b[2J\r\n\a\u202e\xff" + strings.Repeat("x", 10_000)
	list := make([]string, 5000)
	for i := range list {
		list[i] = evil
	}
	s := &Step{ID: "a", Title: "a", Values: Values{}}
	for i := range 500 {
		s.add(fmt.Sprint("v", i), list)
	}
	s.fail(evil, "%s", evil)
	r := &Report{Verdict: cut(evil), Steps: []*Step{s}}
	var page strings.Builder
	if err := r.Print(&page); err != nil {
		t.Fatal(err)
	}
	// 64 values of 32 texts, and three more texts, each with its indent and its end.
	const most = (maxValues*maxList + 3) * (maxText + 400)
	if n := page.Len(); n > most {
		t.Errorf("the page has %d octets, want at most %d", n, most)
	}
	for i, r := range page.String() {
		if r != '\n' && (r < ' ' || r == '\u202e' || r == utf8.RuneError) {
			t.Fatalf("the page has %q at %d", r, i)
		}
	}
	for l := range strings.SplitSeq(page.String(), "\n") {
		if utf8.RuneCountInString(l) > width+maxText {
			t.Fatalf("a line has %d characters", utf8.RuneCountInString(l))
		}
	}
	b, err := json.Marshal(r)
	if err != nil || len(b) > most {
		t.Errorf("%d octets of JSON, %v", len(b), err)
	}
	var back map[string]any
	if err := json.Unmarshal(b, &back); err != nil {
		t.Error(err)
	}
}

func TestPage(t *testing.T) {
	s := &Step{ID: "io.tcp", Title: "t", Values: Values{}}
	s.add("a_b", true)
	s.add("list", []string{"x", "y"})
	s.add("none", "")
	s.quiet("hidden", 1)
	s.fail("do this", "%s", strings.Repeat("word ", 20))
	r := &Report{Verdict: "RDMA is NOT used.", Steps: []*Step{s}}
	var page strings.Builder
	if err := r.Print(&page); err != nil {
		t.Fatal(err)
	}
	want := `RDMA is NOT used.

problem       io.tcp          word word word word word word word word word word word word word word
                              word word word word word word
                              To change that: do this
                              a b yes, list x and y, none none
`
	if page.String() != want {
		t.Errorf("got\n%s\nwant\n%s", page.String(), want)
	}
	b, err := json.Marshal(s.Values)
	if err != nil || string(b) != `{"a_b":true,"list":["x","y"],"none":"","hidden":1}` {
		t.Errorf("%s, %v", b, err)
	}
}

// A name without addresses ends the walk.
func TestNameWithoutAddresses(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{{nil, "no address"}, {errors.New("no such host"), "no such host"}} {
		r := Run(t.Context(), Config{Host: "h", Share: "s", Resolve: func(context.Context, string) ([]netip.Addr, error) { return nil, c.err }})
		if r.Used || r.DecidedBy != StepName || !strings.Contains(r.Verdict, c.want) || len(r.Steps) != 2 {
			t.Errorf("%+v", r)
		}
	}
}

// The step that decided is that of the fabric that came furthest.
func TestTheFurthestFabricDecides(t *testing.T) {
	for _, c := range []struct {
		verbs, iwarp stage
		ports        Outcome
		want         string
	}{
		{stageNone, stageNone, Problem, "ports"},
		{stageNone, stageOpen, OK, "connect.iwarp"},
		{stageNone, stageConnected, OK, "smbdirect.iwarp"},
		{stageOpen, stageNone, Problem, "connect.verbs"},
		{stageOpen, stageConnected, OK, "smbdirect.iwarp"},
		{stageConnected, stageOpen, OK, "smbdirect.verbs"},
		{stageOpen, stageOpen, OK, "connect.verbs"},
	} {
		d := &doctor{rep: &Report{}, ips: []netip.Addr{netip.IPv4Unspecified()}, tried: map[string]*attempt{}, cfg: Config{Fabrics: []Fabric{{Name: "verbs"}, {Name: "iwarp", OverTCP: true}}}}
		d.begin(StepPorts, "p").Outcome = c.ports
		for i, st := range []stage{c.verbs, c.iwarp} {
			f := &d.cfg.Fabrics[i]
			d.tried[f.Name] = &attempt{fabric: f, stage: st}
			d.begin(StepConnect+f.Name, "c")
			d.begin(StepSMBDirect+f.Name, "s")
		}
		if got := d.decider(); got == nil || got.ID != c.want {
			t.Errorf("%+v: %+v decided", c, got)
		}
	}
}
