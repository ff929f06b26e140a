package server

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// hostRule says which addresses may connect, in the words of hosts_access(5) as
// Samba has them: "10.0.0.0/8 EXCEPT 10.1.", "192.168.1.7", "fe80::/10", "ALL".
// Names are not looked up, as whoever answers for an address would then decide.
type hostRule struct{ allow, deny hostList }

// hostList is alternatives, each with its exceptions.
type hostList []hostEntry

type hostEntry struct {
	any    bool
	prefix netip.Prefix
	except hostList // on the last entry of a list: of all of them
}

func newHostRule(allow, deny []string) (hostRule, error) {
	a, err := parseHosts(allow)
	if err != nil {
		return hostRule{}, fmt.Errorf("HostsAllow: %w", err)
	}
	d, err := parseHosts(deny)
	if err != nil {
		return hostRule{}, fmt.Errorf("HostsDeny: %w", err)
	}
	return hostRule{a, d}, nil
}

// CheckHosts reports what is wrong with a list of hosts.
func CheckHosts(list []string) error {
	_, err := parseHosts(list)
	return err
}

// parseHosts reads the words of a list. What follows EXCEPT is taken from all that
// stands before it.
func parseHosts(words []string) (hostList, error) {
	var l hostList
	for i, w := range words {
		if strings.EqualFold(w, "EXCEPT") {
			if len(l) == 0 || i+1 == len(words) {
				return nil, fmt.Errorf("EXCEPT stands between two lists of hosts")
			}
			except, err := parseHosts(words[i+1:])
			if err != nil {
				return nil, err
			}
			l[len(l)-1].except = except
			return l, nil
		}
		es, err := parseHost(w)
		if err != nil {
			return nil, err
		}
		l = append(l, es...)
	}
	return l, nil
}

// parseHost reads ALL, localhost, an address, a network as ADDRESS/BITS or
// ADDRESS/MASK, or the beginning of an IPv4 address that ends with a dot.
func parseHost(w string) (hostList, error) {
	bad := func() (hostList, error) {
		return nil, fmt.Errorf("%q is not ALL, EXCEPT, localhost, an address, a network (10.0.0.0/8, 10.0.0.0/255.0.0.0, fe80::/10) or the beginning of an address (10.0.); names are not looked up", w)
	}
	switch {
	case strings.EqualFold(w, "ALL"):
		return hostList{{any: true}}, nil
	case strings.EqualFold(w, "localhost"):
		return hostList{{prefix: netip.MustParsePrefix("127.0.0.0/8")}, {prefix: netip.MustParsePrefix("::1/128")}}, nil
	}
	if head, ok := strings.CutSuffix(w, "."); ok { // 10.0.
		n := strings.Count(head, ".") + 1
		if n > 3 {
			return bad()
		}
		a, err := netip.ParseAddr(head + strings.Repeat(".0", 4-n))
		if err != nil {
			return bad()
		}
		return hostList{{prefix: netip.PrefixFrom(a, 8*n)}}, nil
	}
	addr, mask, isNet := strings.Cut(w, "/")
	a, err := netip.ParseAddr(addr)
	if err != nil || a.Zone() != "" {
		return bad()
	}
	bits := a.BitLen()
	if isNet {
		if m, err := netip.ParseAddr(mask); err == nil {
			ones, size := net.IPMask(m.AsSlice()).Size()
			if size != a.BitLen() {
				return bad()
			}
			bits = ones
		} else if p, err := netip.ParsePrefix(w); err == nil {
			bits = p.Bits()
		} else {
			return bad()
		}
	}
	p := netip.PrefixFrom(a, bits)
	if a.Is4In6() {
		if bits < 96 {
			return bad()
		}
		p = netip.PrefixFrom(a.Unmap(), bits-96)
	}
	return hostList{{prefix: p.Masked()}}, nil
}

func (l hostList) match(a netip.Addr) bool {
	found := false
	for _, e := range l {
		found = found || e.any || e.prefix.Contains(a)
		if e.except != nil {
			return found && !e.except.match(a)
		}
	}
	return found
}

// admits decides for a peer: who is on the allow list may connect; else who is on the
// deny list may not; who is on neither may unless there is an allow list alone. This
// machine's own address may unless it is denied and not allowed. A peer without an IP
// address, as on a transport in memory, is admitted where there is no rule.
func (r hostRule) admits(peer net.Addr) bool {
	if len(r.allow) == 0 && len(r.deny) == 0 {
		return true
	}
	if peer == nil {
		return false
	}
	ap, err := netip.ParseAddrPort(peer.String())
	if err != nil {
		return false
	}
	a := ap.Addr().Unmap().WithZone("")
	switch {
	case r.allow.match(a):
		return true
	case r.deny.match(a):
		return false
	case a == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || a == netip.IPv6Loopback():
		return true
	}
	return len(r.deny) > 0
}
