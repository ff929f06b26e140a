package pcap

import (
	"net"
	"net/netip"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

const (
	ethernet = 14
	ipv4     = 20
	ipv6     = 40
	tcp      = 20
	// headers is the most in front of the payload.
	headers = ethernet + ipv6 + tcp
	// maxPayload fits the 16-bit length of an IPv4 packet, header and all.
	maxPayload = 65535 - ipv4 - tcp
	// window is the receive window in all packets, to be shifted by windowScale: no
	// direction of a connection ever seems to fill it.
	window      = 65535
	windowScale = 14
)

// Conn is a connection of a capture.
type Conn struct {
	c        *Capture
	src, dst [2]netip.AddrPort // of packets by the remote end, and by the local
	mac      [2]net.HardwareAddr
	seq      [2]uint32 // next, by direction
	closed   bool
}

// index of a direction.
const (
	fromRemote = iota
	fromLocal
)

// Open adds the three-way handshake of a connection between two addresses. initiator
// says that the local end made it.
func (c *Capture) Open(local, remote netip.AddrPort, initiator bool, at time.Time) *Conn {
	local, remote = plain(local), plain(remote)
	x := &Conn{
		c:   c,
		src: [2]netip.AddrPort{remote, local},
		dst: [2]netip.AddrPort{local, remote},
		// Locally administered; the last octet tells which end is which.
		mac: [2]net.HardwareAddr{{2, 0, 0, 0, 0, 2}, {2, 0, 0, 0, 0, 1}},
	}
	active := fromRemote
	if initiator {
		active = fromLocal
	}
	passive := 1 - active
	c.mu.Lock()
	x.packet(at, active, flags{syn: true}, nil, 0)
	x.seq[active]++
	x.packet(at, passive, flags{syn: true, ack: true}, nil, 0)
	x.seq[passive]++
	x.packet(at, active, flags{ack: true}, nil, 0)
	c.mu.Unlock()
	c.signal()
	return x
}

// plain is an address as IP has it, without a zone and not mapped.
func plain(a netip.AddrPort) netip.AddrPort {
	ip := a.Addr().Unmap().WithZone("")
	if !ip.IsValid() {
		ip = netip.IPv4Unspecified()
	}
	return netip.AddrPortFrom(ip, a.Port())
}

// Data adds n octets of payload that one end sent, of which data are the first. It
// is one packet if IP allows; more of it is cut to the snap length of the capture.
func (x *Conn) Data(at time.Time, local bool, data []byte, n int) { x.data(at, local, data, n, false) }

// Vital is Data for what nothing else can be decoded without.
func (x *Conn) Vital(at time.Time, local bool, data []byte) { x.data(at, local, data, len(data), true) }

func (x *Conn) data(at time.Time, local bool, data []byte, n int, vital bool) {
	dir := fromRemote
	if local {
		dir = fromLocal
	}
	x.c.mu.Lock()
	for n > 0 && !x.closed {
		k := min(n, maxPayload)
		have := data[:min(k, len(data), x.c.snap)]
		x.packet(at, dir, flags{ack: true, psh: true, vital: vital}, have, k)
		x.seq[dir] += uint32(k)
		n -= k
		data = data[min(k, len(data)):]
	}
	x.c.mu.Unlock()
	x.c.signal()
}

// Close adds the FINs of both ends. A second call does nothing.
func (x *Conn) Close(at time.Time) {
	x.c.mu.Lock()
	if !x.closed {
		x.closed = true
		for _, dir := range []int{fromLocal, fromRemote} {
			x.packet(at, dir, flags{fin: true, ack: true}, nil, 0)
			x.seq[dir]++
		}
		x.packet(at, fromLocal, flags{ack: true}, nil, 0)
	}
	x.c.mu.Unlock()
	x.c.signal()
}

type flags struct{ syn, ack, psh, fin, vital bool }

// packet adds one packet with a payload of n octets, of which have is there. c.mu
// is held.
func (x *Conn) packet(at time.Time, dir int, f flags, have []byte, n int) {
	src, dst := x.src[dir], x.dst[dir]
	t := layers.TCP{
		SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()),
		Seq: x.seq[dir], DataOffset: tcp / 4, Window: window,
		SYN: f.syn, ACK: f.ack, PSH: f.psh, FIN: f.fin,
	}
	options := 0
	if f.syn {
		t.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindWindowScale, OptionLength: 3, OptionData: []byte{windowScale}}, {OptionType: layers.TCPOptionKindNop}}
		t.DataOffset++
		options = 4
		n += options // no payload, but all the same to IP
	}
	if f.ack {
		t.Ack = x.seq[1-dir]
	}
	e := layers.Ethernet{SrcMAC: x.mac[dir], DstMAC: x.mac[1-dir]}
	var ip interface {
		gopacket.NetworkLayer
		gopacket.SerializableLayer
	}
	length := ethernet + tcp + n
	if src.Addr().Is4() && dst.Addr().Is4() {
		e.EthernetType = layers.EthernetTypeIPv4
		length += ipv4
		ip = &layers.IPv4{
			Version: 4, IHL: ipv4 / 4, Length: uint16(ipv4 + tcp + n), TTL: 64, Flags: layers.IPv4DontFragment,
			Protocol: layers.IPProtocolTCP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice(),
		}
	} else {
		s, d := src.Addr().As16(), dst.Addr().As16()
		e.EthernetType = layers.EthernetTypeIPv6
		length += ipv6
		ip = &layers.IPv6{
			Version: 6, Length: uint16(tcp + n), HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: s[:], DstIP: d[:],
		}
	}
	// It fails for other network layers only.
	_ = t.SetNetworkLayerForChecksum(ip)
	// The lengths are those of the wire, so they are not to be fixed.
	err := gopacket.SerializeLayers(x.c.pack, gopacket.SerializeOptions{ComputeChecksums: true}, &e, ip, &t, gopacket.Payload(have))
	if err == nil {
		// Without the padding that the layer of Ethernet gives short ones.
		x.c.put(at, x.c.pack.Bytes()[:length-n+options+len(have)], length, f.syn || f.vital)
	}
}
