//go:build verbs && linux && cgo

package verbs

/*
#include <netinet/in.h>
#include <sys/socket.h>
*/
import "C"

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"unsafe"
)

// The ports that NDK picks from when it is asked for port 0. The kernel's own
// range is another.
const (
	ephemeralFirst = 49152
	ephemeralLast  = 65535
	// portAttempts bounds the search for a free port: about twice the range, at
	// random.
	portAttempts = 2 * (ephemeralLast - ephemeralFirst + 1)
)

func randomPort() uint16 {
	return ephemeralFirst + uint16(rand.Uint32N(ephemeralLast-ephemeralFirst+1))
}

// toSockaddr makes the C form of an address. An address of no family is the
// unspecified IPv4 address.
func toSockaddr(a netip.AddrPort) (ss C.struct_sockaddr_storage) {
	var port []byte
	ip := a.Addr().Unmap()
	if ip.Is6() {
		in6 := (*C.struct_sockaddr_in6)(unsafe.Pointer(&ss))
		in6.sin6_family = C.AF_INET6
		port = (*[2]byte)(unsafe.Pointer(&in6.sin6_port))[:]
		b := ip.As16()
		copy((*[16]byte)(unsafe.Pointer(&in6.sin6_addr))[:], b[:])
		in6.sin6_scope_id = C.uint32_t(zoneIndex(ip.Zone()))
	} else {
		in := (*C.struct_sockaddr_in)(unsafe.Pointer(&ss))
		in.sin_family = C.AF_INET
		port = (*[2]byte)(unsafe.Pointer(&in.sin_port))[:]
		if ip.IsValid() {
			b := ip.As4()
			copy((*[4]byte)(unsafe.Pointer(&in.sin_addr))[:], b[:])
		}
	}
	binary.BigEndian.PutUint16(port, a.Port())
	return ss
}

// fromSockaddr is the reverse of toSockaddr; the zero value for a family that is
// not IP.
func fromSockaddr(ss *C.struct_sockaddr_storage) netip.AddrPort {
	switch ss.ss_family {
	case C.AF_INET:
		in := (*C.struct_sockaddr_in)(unsafe.Pointer(ss))
		ip := netip.AddrFrom4(*(*[4]byte)(unsafe.Pointer(&in.sin_addr)))
		return netip.AddrPortFrom(ip, binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&in.sin_port))[:]))
	case C.AF_INET6:
		in6 := (*C.struct_sockaddr_in6)(unsafe.Pointer(ss))
		ip := netip.AddrFrom16(*(*[16]byte)(unsafe.Pointer(&in6.sin6_addr))).Unmap()
		if in6.sin6_scope_id != 0 && ip.IsLinkLocalUnicast() {
			ip = ip.WithZone(strconv.Itoa(int(in6.sin6_scope_id)))
		}
		return netip.AddrPortFrom(ip, binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&in6.sin6_port))[:]))
	}
	return netip.AddrPort{}
}

// zoneIndex is the interface index that a zone names; 0 for none.
func zoneIndex(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	if i, err := net.InterfaceByName(zone); err == nil {
		return uint32(i.Index)
	}
	return 0
}
