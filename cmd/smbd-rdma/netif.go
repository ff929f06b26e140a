package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// servedAddrs are the addresses that listeners are on; those that are unspecified
// stand for all of their family.
type servedAddrs struct{ plain, rdma []netip.Addr }

// add takes note of a listener.
func (s *servedAddrs) add(l transport.Listener, rdma bool) {
	ap, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil {
		return
	}
	if rdma {
		s.rdma = append(s.rdma, ap.Addr())
	} else {
		s.plain = append(s.plain, ap.Addr())
	}
}

// covered reports whether one of the addresses that are listened on is ip, or any.
// A socket on :: takes IPv4 too.
func covered(listening []netip.Addr, ip netip.Addr) bool {
	for _, l := range listening {
		if l.Unmap() == ip || l == netip.IPv6Unspecified() || l == netip.IPv4Unspecified() && ip.Is4() {
			return true
		}
	}
	return false
}

// networkInterfaces lists the addresses of this machine that clients may use for
// more connections, as they are now: each once where TCP is served on it and, where
// SMB Direct is, once more for RDMA. Loopback is among them: whom it is told to is
// the server's to say.
func networkInterfaces(served servedAddrs, only *interfaceFilter) []server.Interface {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var out []server.Interface
	for _, i := range ifs {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagRunning == 0 {
			continue
		}
		as, err := i.Addrs()
		if err != nil {
			continue
		}
		speed, queues := linkSpeed(i.Name), rxQueues(i.Name)
		for _, a := range as {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			ip, ok := netip.AddrFromSlice(n.IP)
			if ip = ip.Unmap(); !ok || ip.IsLinkLocalUnicast() || !only.has(i.Name, ip) {
				continue
			}
			e := server.Interface{Index: uint32(i.Index), Speed: speed, Addr: ip}
			if covered(served.plain, ip) {
				e.RSS = queues > 1
				out = append(out, e)
			}
			if covered(served.rdma, ip) {
				// Each queue pair has a queue of its own. cifs.ko makes more than one
				// channel only where both are set.
				e.RSS, e.RDMA = true, true
				out = append(out, e)
			}
		}
	}
	return out
}

// defaultSpeed is told of virtual devices, which have no speed, in bits a second.
const defaultSpeed = 10e9

// sysNet is where the kernel tells of network devices.
const sysNet = "/sys/class/net"

// linkSpeed is what the kernel says of a device, in bits a second.
func linkSpeed(name string) uint64 {
	var mbit int64
	b, err := os.ReadFile(filepath.Join(sysNet, name, "speed"))
	if err == nil {
		_, _ = fmt.Sscanf(string(b), "%d", &mbit) // stays 0 for what is no number
	}
	if mbit <= 0 {
		return defaultSpeed
	}
	return uint64(mbit) * 1e6
}

// rxQueues is how many receive queues a device has: with several of them several
// connections are spread over processors.
func rxQueues(name string) int {
	qs, err := filepath.Glob(filepath.Join(sysNet, name, "queues", "rx-*"))
	if err != nil {
		return 0
	}
	return len(qs)
}
