package main

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// interfaceFilter is a list of "interfaces": which addresses of this machine are meant.
// The zero value is all but loopback.
type interfaceFilter struct {
	names    []string // patterns
	addrs    []netip.Addr
	networks []netip.Prefix
}

func newInterfaceFilter(list []string) (f interfaceFilter, err error) {
	for _, w := range list {
		w, _, _ = strings.Cut(w, ";")
		if a, err := netip.ParseAddr(w); err == nil {
			f.addrs = append(f.addrs, a.Unmap())
			continue
		}
		if host, mask, ok := strings.Cut(w, "/"); ok {
			p, err := netip.ParsePrefix(w)
			if err != nil {
				a, err1 := netip.ParseAddr(host)
				m, err2 := netip.ParseAddr(mask)
				if err1 != nil || err2 != nil || a.BitLen() != m.BitLen() {
					return f, fmt.Errorf("%q is not a network", w)
				}
				ones, size := net.IPMask(m.AsSlice()).Size()
				if size == 0 {
					return f, fmt.Errorf("%q: the mask has holes", w)
				}
				p = netip.PrefixFrom(a, ones)
			}
			f.networks = append(f.networks, p.Masked())
			continue
		}
		if _, err := path.Match(w, ""); err != nil || w == "" {
			return f, fmt.Errorf("%q is not the name of an interface, an address or a network", w)
		}
		f.names = append(f.names, w)
	}
	return f, nil
}

// empty reports whether there is no list.
func (f *interfaceFilter) empty() bool { return len(f.names)+len(f.addrs)+len(f.networks) == 0 }

// has reports whether the list has an address of an interface.
func (f *interfaceFilter) has(name string, a netip.Addr) bool {
	if f.empty() {
		return true
	}
	if slices.Contains(f.addrs, a) || slices.ContainsFunc(f.networks, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return true
	}
	return slices.ContainsFunc(f.names, func(p string) bool {
		ok, err := path.Match(p, name)
		return ok && err == nil
	})
}

// hosts are the addresses of this machine that the list has.
func (f *interfaceFilter) hosts() ([]string, error) {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, i := range ifs {
		if f.empty() && i.Flags&net.FlagLoopback != 0 {
			continue
		}
		as, err := i.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range as {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			ip, ok := netip.AddrFromSlice(n.IP)
			if ip = ip.Unmap(); ok && !ip.IsLinkLocalUnicast() && f.has(i.Name, ip) {
				out = append(out, ip.String())
			}
		}
	}
	return out, nil
}

// hostOf is the IP address of an address.
func hostOf(a net.Addr) string {
	if ap, err := netip.ParseAddrPort(a.String()); err == nil {
		return ap.Addr().Unmap().WithZone("").String()
	}
	return ""
}
