package main

import (
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/server"
)

// --transport auto begins on TCP and moves the session to the SMB Direct that the
// server lists, without a word.
func TestAutoMovesToRDMA(t *testing.T) {
	s := newSite(t)
	local := t.TempDir()
	data := strings.Repeat("moves over RDMA ", 1<<16)
	writeFile(t, filepath.Join(local, "f"), data)
	to := []string{"-U", "alice%secret", "-p", s.port["tcp"], "--rdma-port", s.port["iwarp"], "--log-level", "debug"}
	code, _, stderr := execute(append([]string{"put", filepath.Join(local, "f"), "//127.0.0.1/data/f"}, to...)...)
	if code != exitDone || !strings.Contains(stderr, "channel added") || !strings.Contains(stderr, "rdma=true") || strings.Contains(stderr, "level=WARN") {
		t.Fatalf("put: exit status %d, %s", code, stderr)
	}
	code, _, stderr = execute(append([]string{"get", "//127.0.0.1/data/f", filepath.Join(local, "g")}, to...)...)
	if code != exitDone {
		t.Fatalf("get: exit status %d, %s", code, stderr)
	}
	if got, err := os.ReadFile(filepath.Join(local, "g")); err != nil || string(got) != data {
		t.Fatalf("%d bytes came back, %v", len(got), err)
	}
	_, log := s.stop()
	if strings.Contains(log, "rdma_write_bytes=0") || !strings.Contains(log, "inline_write_bytes=0") {
		t.Errorf("the server says %s", log)
	}
}

// Further connections go where the first one went, and the one to fall back on to the
// port of TCP.
func TestPortsOfChannels(t *testing.T) {
	for _, c := range []struct {
		transport   string
		port, rdma  int
		plain, want int
		begins      bool
	}{
		{"auto", 0, 0, 445, 0, false},
		{"auto", 1445, 0, 1445, 0, false},
		{"auto", 1445, 2445, 1445, 2445, false},
		{"auto", 5445, 0, 445, 5445, true},
		{"auto", 5445, 2445, 5445, 2445, false},
		{"tcp", 5445, 0, 5445, 0, false},
		{"iwarp", 0, 0, 445, 0, true},
		{"iwarp", 2445, 0, 445, 2445, true},
		{"iwarp", 1445, 2445, 1445, 2445, true},
		{"verbs", 0, 2445, 445, 2445, true},
	} {
		f := connFlags{transport: c.transport, port: c.port, rdmaPort: c.rdma}
		if plain, rdma, begins := f.ports(); plain != c.plain || rdma != c.want || begins != c.begins {
			t.Errorf("--transport %s -p %d --rdma-port %d: TCP at %d, SMB Direct at %d, begins there: %v; want %d, %d, %v",
				c.transport, c.port, c.rdma, plain, rdma, begins, c.plain, c.want, c.begins)
		}
	}
	s := newSite(t)
	writeFile(t, filepath.Join(s.dir, "f"), strings.Repeat("x", 1<<20))
	a := &app{log: newLogger(io.Discard, levelOfDoctor), stderr: io.Discard}
	a.conn = connFlags{user: "alice%secret", transport: "iwarp", maxChannels: 2, threshold: 4096, timeout: 20 * time.Second, sign: "if-required"}
	for flag, to := range map[*int]string{&a.conn.port: s.port["tcp"], &a.conn.rdmaPort: s.port["iwarp"]} {
		var err error
		if *flag, err = strconv.Atoi(to); err != nil {
			t.Fatal(err)
		}
	}
	sess, err := a.dial(t.Context(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close()
	waitFor(t, "two connections of SMB Direct and one of TCP", func() bool {
		var n [2]int
		for _, c := range s.report().Connections {
			if c.Transport == "iwarp" {
				n[0]++
			} else {
				n[1]++
			}
		}
		return n == [2]int{2, 1}
	})
}

// A port of SMB Direct that swallows everything does not keep a command waiting.
func TestAutoDoesNotWaitForAFirewall(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and is silent
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	s := newSite(t)
	code, _, stderr := execute("ls", "//127.0.0.1/data", "-U", "alice%secret", "-p", s.port["tcp"], "--rdma-port", port)
	if code != exitDone || !strings.Contains(stderr, "falling back to TCP") {
		t.Fatalf("exit status %d, %s", code, stderr)
	}
	if !strings.Contains(stderr, "is being tried") {
		t.Errorf("the attempt at SMB Direct was over: %s", stderr)
	}
}

// Where only SMB Direct is served it is found.
func TestAutoFindsSMBDirectAlone(t *testing.T) {
	s := newSite(t, "--tcp", "none")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(closed.Addr().String())
	closed.Close()
	for _, args := range [][]string{
		{"-p", port, "--rdma-port", s.port["iwarp"]},
		{"-p", s.port["iwarp"]},
	} {
		code, _, stderr := execute(append([]string{"ls", "//127.0.0.1/data", "-U", "alice%secret"}, args...)...)
		if code != exitDone {
			t.Errorf("%v: exit status %d, %s", args, code, stderr)
		}
	}
}

// A server on TCP that knows the user is not left for one at the port of SMB Direct
// that would take anybody, and may be anybody's.
func TestAutoDoesNotBecomeAGuest(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "smb.conf")
	writeFile(t, conf, "[global]\nserver max protocol = SMB2_10\n") // which has no multichannel
	known := newSite(t, "--user", "bob%known", "--rdma", "none", "-c", conf)
	writeFile(t, filepath.Join(known.dir, "real"), "")
	rogue := newSite(t, "--guest")
	writeFile(t, filepath.Join(rogue.dir, "rogue"), "")
	code, out, stderr := execute("ls", "//127.0.0.1/data", "-U", "bob%known", "-p", known.port["tcp"], "--rdma-port", rogue.port["iwarp"])
	if code != exitDone || !strings.Contains(out, "real") || !strings.Contains(stderr, "guest") {
		t.Errorf("exit status %d, %q, %s", code, out, stderr)
	}
}

// A wrong password is tried once.
func TestAutoTriesAPasswordOnce(t *testing.T) {
	s := newSite(t)
	code, _, stderr := execute("ls", "//127.0.0.1/data", "-U", "alice%wrong", "-p", s.port["tcp"], "--rdma-port", s.port["iwarp"])
	if code != exitFailed || strings.Count(stderr, "STATUS_LOGON_FAILURE") != 1 || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit status %d, %q", code, stderr)
	}
}

// SM-32: what is listed is what is listened on.
func TestSM32NetworkInterfaces(t *testing.T) {
	any4, any6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	lo := netip.MustParseAddr("127.0.0.1")
	of := func(list []server.Interface, ip netip.Addr) (kinds []bool) {
		for _, i := range list {
			if i.Addr == ip {
				kinds = append(kinds, i.RDMA)
			}
			if i.Index == 0 || i.Speed == 0 || i.Addr.Zone() != "" || i.Addr.IsLinkLocalUnicast() || i.RDMA && !i.RSS {
				t.Errorf("listed: %+v", i)
			}
		}
		return kinds
	}
	for _, c := range []struct {
		name   string
		served servedAddrs
		want   []bool // of 127.0.0.1, by RDMA
	}{
		{"nothing", servedAddrs{}, nil},
		{"TCP on any", servedAddrs{plain: []netip.Addr{any4}}, []bool{false}},
		{"TCP on any of IPv6, which takes IPv4", servedAddrs{plain: []netip.Addr{any6}}, []bool{false}},
		{"both on the address", servedAddrs{plain: []netip.Addr{lo}, rdma: []netip.Addr{lo}}, []bool{false, true}},
		{"SMB Direct alone", servedAddrs{rdma: []netip.Addr{any6}}, []bool{true}},
		{"on another", servedAddrs{plain: []netip.Addr{netip.MustParseAddr("192.0.2.77")}}, nil},
	} {
		if got := of(networkInterfaces(c.served, &interfaceFilter{}), lo); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	six := netip.MustParseAddr("::1")
	if covered([]netip.Addr{any4}, six) || !covered([]netip.Addr{any6}, six) || !covered([]netip.Addr{netip.MustParseAddr("::ffff:127.0.0.1")}, lo) {
		t.Error("what an unspecified address stands for")
	}
}
