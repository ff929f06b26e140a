package server

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestHostRules(t *testing.T) {
	for _, c := range []struct {
		allow, deny string
		yes, no     string
	}{
		{"", "", "192.0.2.1 127.0.0.1 2001:db8::1", ""},
		{"192.0.2.", "", "192.0.2.1 192.0.2.255 127.0.0.1 ::1", "192.0.3.1 2001:db8::1 127.0.0.2"},
		{"10.", "", "10.255.0.1", "11.0.0.1"},
		{"192.0.2.0/25", "", "192.0.2.127", "192.0.2.128"},
		{"192.0.2.0/255.255.255.128", "", "192.0.2.127", "192.0.2.128"},
		{"192.0.2.1", "", "192.0.2.1 ::ffff:192.0.2.1", "192.0.2.2"},
		{"::ffff:192.0.2.0/120", "", "192.0.2.7", "192.0.3.7"},
		{"2001:db8::/32", "", "2001:db8::1", "2001:db9::1 192.0.2.1"},
		{"fe80::/10", "", "fe80::1%eth0", "2001:db9::1"},
		{"", "192.0.2.", "192.0.3.1 127.0.0.1", "192.0.2.1"},
		{"192.0.2.7", "ALL", "192.0.2.7", "192.0.2.8 127.0.0.1 ::1"},
		{"192.0.2.7", "192.0.2.", "192.0.2.7 192.0.3.1", "192.0.2.8"}, // on neither list
		{"192.0.2. EXCEPT 192.0.2.7 192.0.2.8", "", "192.0.2.6", "192.0.2.7 192.0.2.8"},
		{"ALL EXCEPT 10. EXCEPT 10.1.", "", "192.0.2.1 10.1.0.1", "10.2.0.1"},
		{"localhost", "ALL", "127.0.0.1 127.9.9.9 ::1", "192.0.2.1"},
	} {
		r, err := newHostRule(strings.Fields(c.allow), strings.Fields(c.deny))
		if err != nil {
			t.Errorf("allow %q deny %q: %v", c.allow, c.deny, err)
			continue
		}
		for _, l := range []struct {
			addrs string
			want  bool
		}{{c.yes, true}, {c.no, false}} {
			for _, a := range strings.Fields(l.addrs) {
				peer := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(a), 4711))
				if got := r.admits(peer); got != l.want {
					t.Errorf("allow %q deny %q: %s admitted: %v, want %v", c.allow, c.deny, a, got, l.want)
				}
			}
		}
	}
	r, err := newHostRule([]string{"ALL"}, nil)
	if err != nil || r.admits(&net.UnixAddr{Name: "x"}) || r.admits(nil) {
		t.Errorf("a peer without an IP address is admitted by a rule (%v)", err)
	}
}

func TestHostRulesRefused(t *testing.T) {
	for _, s := range []string{
		"EXCEPT 10.", "10. EXCEPT", "example.org", ".example.org", "@netgroup", "LOCAL", "10.0.0.0/33", "10.0.0.0/255.0.255.0",
		"10.0.0.0/ffff::", "1.2.3.4.", "300.", "10.0", "fe80::1%eth0", "::ffff:10.0.0.0/8", "10.0.0.0/", "/8", ".",
	} {
		if _, err := newHostRule(nil, strings.Fields(s)); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}
