package doctor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// portState is what a TCP port does.
type portState string

const (
	portOpen        portState = "open"
	portRefused     portState = "refused"
	portFiltered    portState = "filtered" // nothing comes back
	portUnreachable portState = "unreachable"
)

// probe is one port of one address.
type probe struct {
	addr  netip.AddrPort
	state portState
}

func (p probe) String() string { return fmt.Sprintf("%v %s", p.addr, p.state) }

// tryPort connects once, by the address that the routes choose.
func tryPort(ctx context.Context, a netip.AddrPort) probe {
	ctx, cancel := context.WithTimeout(ctx, PortTime)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", a.String())
	if err == nil {
		_ = c.Close()
	}
	return probe{a, stateAfter(err)}
}

// stateAfter says what the error of a dial means.
func stateAfter(err error) portState {
	switch {
	case err == nil:
		return portOpen
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return portRefused
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return portFiltered
	}
	return portUnreachable
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// each runs f for every index at once and waits for all.
func each(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) }) // ends by its limits in time
	}
	wg.Wait()
}

// ports tries the TCP ports of SMB and, if a fabric is made of TCP, of SMB Direct.
func (d *doctor) ports(ctx context.Context) {
	s := d.begin(StepPorts, "TCP ports")
	var list []netip.AddrPort
	for _, ip := range d.ips {
		list = append(list, netip.AddrPortFrom(ip, d.cfg.TCPPort))
		if d.overTCP() != nil {
			for _, p := range d.cfg.RDMAPorts {
				list = append(list, netip.AddrPortFrom(ip, p))
			}
		}
	}
	slices.SortFunc(list, netip.AddrPort.Compare)
	list = slices.Compact(list)
	d.probes = make([]probe, len(list))
	each(len(list), func(i int) { d.probes[i] = tryPort(ctx, list[i]) })
	d.tellPorts(s)
}

// tellPorts ends the step of the ports.
func (d *doctor) tellPorts(s *Step) {
	var told []string
	for _, p := range d.probes {
		told = append(told, p.String())
	}
	s.quiet("tcp_port", int(d.cfg.TCPPort))
	var ports []string
	for _, p := range d.cfg.RDMAPorts {
		ports = append(ports, fmt.Sprint(p))
	}
	s.quiet("smbdirect_tcp_ports", ports)
	s.quiet("states", told)
	text := strings.Join(told, ", ")
	if d.overTCP() == nil || d.stateOf(d.cfg.RDMAPorts) == portOpen {
		s.end(OK, "%s", text)
		return
	}
	which := "ports " + strings.Join(ports, " and ")
	if len(ports) == 1 {
		which = "port " + ports[0]
	}
	start := "start SMB Direct on the server there (smbd-rdma serve --rdma iwarp://:" + ports[0] +
		"; ksmbd: make the iWARP device before ksmbd starts; Windows: an iWARP adapter with RDMA enabled), or name the port that it has with --rdma-port"
	var why, change string
	switch d.stateOf(d.cfg.RDMAPorts) {
	case portRefused:
		why, change = "nobody listens on TCP "+which+" of SMB Direct", start
	case portFiltered:
		why, change = "TCP "+which+" of SMB Direct let nothing come back: a firewall, or no such host", "let TCP "+which+" through the firewalls between here and the server; where nobody listens there, "+start
	default:
		why, change = "TCP "+which+" of SMB Direct can't be reached", "see to the network between here and the server; then "+start
	}
	if d.stateOf([]uint16{d.cfg.TCPPort}) != portOpen {
		why += fmt.Sprintf("; SMB over TCP, port %d, is %s too", d.cfg.TCPPort, d.stateOf([]uint16{d.cfg.TCPPort}))
		change = "see whether the server runs, and on which ports (-p, --rdma-port); " + change
	}
	s.fail(change, "%s (%s)", why, text)
}

// stateOf is the best state of any of the ports at any address.
func (d *doctor) stateOf(ports []uint16) portState {
	for _, want := range []portState{portOpen, portRefused, portFiltered} {
		for _, p := range d.probes {
			if p.state == want && slices.Contains(ports, p.addr.Port()) {
				return want
			}
		}
	}
	return portUnreachable
}

// firstOpen is an address whose TCP port is open.
func (d *doctor) firstOpen(port uint16) (netip.AddrPort, bool) {
	for _, ip := range d.ips { // the resolver's order
		for _, p := range d.probes {
			if p.addr == netip.AddrPortFrom(ip, port) && p.state == portOpen {
				return p.addr, true
			}
		}
	}
	return netip.AddrPort{}, false
}

// greetTime is how long a service is given to say something.
const greetTime = time.Second

// identify finds out what speaks on a port, from what it answers to an MPA request
// and to the first message of SMB over TCP.
func identify(ctx context.Context, a netip.AddrPort) string {
	mpa := append([]byte("MPA ID Req Frame"), 0, 1, 0, 0)
	said, closed := greet(ctx, a, mpa)
	if what := recognise(said); what != "" {
		return what
	}
	msg := firstMessage()
	tcp := binary.BigEndian.AppendUint32(nil, uint32(len(msg)))
	more, closedToo := greet(ctx, a, append(tcp, msg...))
	if what := recognise(more); what != "" {
		return what
	}
	switch {
	case len(said) > 0:
		return fmt.Sprintf("a protocol that is not known here; its first octets are %s", quote(said))
	case len(more) > 0:
		return fmt.Sprintf("a protocol that is not known here; its first octets are %s", quote(more))
	case closed && closedToo:
		return "a service that closes the connection without a word"
	}
	return "a service that takes connections and says nothing"
}

// greet sends b and returns the first octets that come back.
func greet(ctx context.Context, a netip.AddrPort, b []byte) (said []byte, closed bool) {
	ctx, cancel := context.WithTimeout(ctx, greetTime)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", a.String())
	if err != nil {
		return nil, false
	}
	defer c.Close()
	if t, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(t)
	}
	if _, err := c.Write(b); err != nil {
		return nil, true
	}
	buf := make([]byte, 64)
	for n := 0; ; {
		k, err := c.Read(buf[n:])
		if n += k; err != nil || n >= 20 {
			return buf[:n], err != nil && !isTimeout(err)
		}
	}
}

// The protocols that belong here.
const (
	speaksMPA = "iWARP (MPA)"
	speaksSMB = "SMB over TCP"
)

// recognise names a protocol by the first octets of a server.
func recognise(b []byte) string {
	has := func(at int, s string) bool { return len(b) >= at+len(s) && string(b[at:at+len(s)]) == s }
	switch {
	case has(0, "MPA ID Rep Frame"):
		return speaksMPA
	case has(4, "\xfeSMB"), has(4, "\xffSMB"), has(4, "\xfdSMB"):
		return speaksSMB
	case has(0, "HTTP/"), has(0, "<!DOCTYPE"), has(0, "<html"):
		return "HTTP"
	case has(0, "SSH-"):
		return "SSH"
	case len(b) >= 3 && (b[0] == 0x15 || b[0] == 0x16) && b[1] == 3:
		return "TLS"
	case len(b) >= 4 && b[0] >= 0x81 && b[0] <= 0x85 && b[1] == 0:
		return "NetBIOS sessions (SMB1)"
	}
	return ""
}

func quote(b []byte) string { return fmt.Sprintf("%.48q", b[:min(len(b), 24)]) }

// firstMessage is an SMB2 NEGOTIATE for all dialects before 3.1.1.
func firstMessage() []byte {
	h := smb2.Header{Command: smb2.CommandNegotiate, Credits: 1}
	req := smb2.NegotiateRequest{SecurityMode: smb2.NegotiateSigningEnabled, Dialects: []smb2.Dialect{smb2.DialectSMB202, smb2.DialectSMB210, smb2.DialectSMB300, smb2.DialectSMB302}}
	b, _ := req.AppendBinary(h.Append(nil)) // four dialects can be encoded
	return b
}
