package doctor

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/smbdtest"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// How far an attempt came.
type stage int

const (
	stageNone stage = iota // there is nothing to try it with
	stageOpen              // the adapter is open
	stageConnected
	stageNegotiated
)

// attempt is SMB Direct at one address by one fabric, up to its negotiation.
type attempt struct {
	fabric *Fabric
	dst    netip.AddrPort
	stage  stage
	err    error // why it came no further; nil if it is negotiated
	speaks string

	info              ndk.AdapterInfo
	connect           time.Duration
	inbound, outbound int
	private           []byte
	request, reply    []byte // of MPA
	offer             wire.NegotiateRequest
	answer            wire.NegotiateResponse
}

// offered is the request of the client's own SMB Direct with its defaults.
func offered() wire.NegotiateRequest {
	return wire.NegotiateRequest{
		MinVersion: wire.Version, MaxVersion: wire.Version, CreditsRequested: 255,
		PreferredSendSize: 1364, MaxReceiveSize: 2048, MaxFragmentedSize: 1<<20 + 64<<10,
	}
}

// try makes a connection with nothing above it.
func (d *doctor) try(ctx context.Context, f *Fabric, dst netip.AddrPort) *attempt {
	a := &attempt{fabric: f, dst: dst, offer: offered()}
	local, err := d.cfg.Source(dst.Addr())
	if err != nil {
		a.err = err
		return a
	}
	ad, err := f.Open(ctx, local)
	if err != nil {
		a.err = err
		return a
	}
	defer func() {
		ad.Close()
		<-ad.Closed()
	}()
	a.stage = stageOpen
	if a.info, err = ad.Info(ctx); err != nil {
		a.err = err
		return a
	}
	p, err := smbdtest.NewPeer(ctx, ad, smbdtest.PeerConfig{Receives: 4, Sends: 4, InboundReadLimit: 32, OutboundReadLimit: 32})
	if err != nil {
		a.err = err
		return a
	}
	defer p.Close()
	connectCtx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	began := time.Now()
	err = p.Connect(connectCtx, dst)
	a.connect = time.Since(began)
	if f.Startup != nil {
		a.request, a.reply = f.Startup(dst)
	}
	if err != nil {
		if a.err = errors.Unwrap(err); a.err == nil { // without the words of the peer's end
			a.err = err
		}
		if f.OverTCP && ctx.Err() == nil {
			a.speaks = identify(ctx, dst)
		}
		return a
	}
	a.stage = stageConnected
	a.inbound, a.outbound = p.ReadLimits()
	a.private = p.Private()
	a.answer, _, err = smbdtest.NewStream(p).Negotiate(a.offer, negotiateTime)
	switch {
	case errors.Is(err, smbdtest.ErrSilent):
		a.err = fmt.Errorf("no answer to the negotiation in %v", negotiateTime)
	case errors.Is(err, smbdtest.ErrEnded):
		a.err = fmt.Errorf("the peer ended the connection when SMB Direct was negotiated (%v)", p.End())
	case err != nil:
		a.err = fmt.Errorf("the answer is none of SMB Direct: %w", err)
	case a.answer.Status != 0:
		a.err = fmt.Errorf("the server refuses: %w", ntstatus.Status(a.answer.Status))
	case a.answer.NegotiatedVersion != wire.Version:
		a.err = fmt.Errorf("the server chose version 0x%04X", a.answer.NegotiatedVersion)
	case a.answer.CreditsGranted == 0 || a.answer.CreditsRequested == 0 || a.answer.MaxReceiveSize < 128 || a.answer.MaxFragmentedSize < 131072:
		a.err = errors.New("the answer breaks [MS-SMBD] 3.1.5.7")
	default:
		a.stage = stageNegotiated
	}
	// What is left of the connection is the peer's to notice.
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = p.Disconnect(bye)
	return a
}

// portsOf are the ports to try by a fabric.
func portsOf(f *Fabric, tech ndk.RDMATechnology) []uint16 {
	switch {
	case f.Ports != nil:
		return f.Ports
	case tech == ndk.TechnologyIWARP:
		return []uint16{smbdirect.DefaultIWARPPort}
	}
	return []uint16{smbdirect.DefaultPort, smbdirect.DefaultIWARPPort}
}

// technology asks the adapter on the way to ip.
func (d *doctor) technology(ctx context.Context, f *Fabric, ip netip.Addr) (ndk.RDMATechnology, error) {
	local, err := d.cfg.Source(ip)
	if err != nil {
		return 0, err
	}
	ad, err := f.Open(ctx, local)
	if err != nil {
		return 0, err
	}
	defer func() {
		ad.Close()
		<-ad.Closed()
	}()
	info, err := ad.Info(ctx)
	return info.Technology, err
}

// targets are where SMB Direct may be at an address, by a fabric.
func (d *doctor) targets(ctx context.Context, f *Fabric, ip netip.Addr) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	if f.OverTCP {
		for _, p := range d.cfg.RDMAPorts {
			out = append(out, netip.AddrPortFrom(ip, p))
		}
		return out, nil
	}
	tech, err := d.technology(ctx, f, ip)
	if err != nil {
		return nil, err
	}
	for _, p := range portsOf(f, tech) {
		out = append(out, netip.AddrPortFrom(ip, p))
	}
	return out, nil
}

// fabrics tries them all, each wherever it may be. The best is the first that
// negotiates.
func (d *doctor) fabrics(ctx context.Context) {
	for i := range d.cfg.Fabrics {
		f := &d.cfg.Fabrics[i]
		s := d.begin(StepConnect+f.Name, "RDMA connection by "+f.Name)
		a := d.tryAll(ctx, f)
		d.tried[f.Name] = a
		d.tellConnect(s, a)
		if a.stage >= stageConnected {
			d.tellNegotiation(a)
		}
		if a.stage == stageNegotiated && d.best == nil {
			d.best = a
		}
	}
	if s := d.step(StepPorts); d.best != nil && !d.best.fabric.OverTCP && s.Outcome == Problem {
		s.Outcome, s.Change = OK, ""
		s.Summary = cut(s.Summary + "; " + d.best.fabric.Name + " needs no TCP port")
	}
}

// tryAll returns the attempt that came furthest.
func (d *doctor) tryAll(ctx context.Context, f *Fabric) *attempt {
	none := &attempt{fabric: f, err: f.Missing}
	if f.Missing != nil {
		return none
	}
	var list []netip.AddrPort
	for _, ip := range d.ips {
		t, err := d.targets(ctx, f, ip)
		if err != nil {
			none.err = errors.Join(none.err, fmt.Errorf("to %v: %w", ip, err))
		}
		for _, a := range t {
			if !f.OverTCP || d.isOpen(a) {
				list = append(list, a)
			}
		}
	}
	if len(list) == 0 {
		if none.err == nil {
			none.err = errors.New("no port of SMB Direct is open")
		}
		return none
	}
	all := make([]*attempt, len(list))
	each(len(list), func(i int) { all[i] = d.try(ctx, f, list[i]) })
	best := all[0]
	for _, a := range all[1:] {
		if a.stage > best.stage {
			best = a
		}
	}
	return best
}

func (d *doctor) isOpen(a netip.AddrPort) bool {
	for _, p := range d.probes {
		if p.addr == a {
			return p.state == portOpen
		}
	}
	return false
}

// tellConnect is the step of MPA or CM.
func (d *doctor) tellConnect(s *Step, a *attempt) {
	f := a.fabric
	how := "CM"
	if f.OverTCP {
		how = "MPA"
	}
	if a.stage == stageNone {
		s.end(NotPossible, "%v", a.err)
		s.Change = cut(f.Change)
		return
	}
	s.quiet("address", a.dst.String())
	s.add("technology", a.info.Technology.String())
	s.addStartup(mpaOurs, a.request)
	s.addStartup(mpaPeer, a.reply)
	if a.stage >= stageConnected {
		s.quiet("inbound_read_limit", a.inbound)
		s.quiet("outbound_read_limit", a.outbound)
		private := a.private
		if a.info.Technology != ndk.TechnologyIWARP {
			private = bytes.TrimRight(private, "\x00") // the CM pads it
		}
		if len(private) > 0 {
			s.add("private_data", hex.EncodeToString(private[:min(len(private), 64)]))
		}
		s.quiet("connect_seconds", a.connect)
		s.end(OK, "%s at %v in %v", how, a.dst, a.connect.Round(time.Microsecond))
		return
	}
	s.add("speaks", a.speaks)
	why := fmt.Sprintf("%s fails at %v", how, a.dst)
	change := fmt.Sprintf("see to what listens on port %d there; the server's log says more", a.dst.Port())
	switch {
	case a.speaks != "" && a.speaks != speaksMPA:
		why = fmt.Sprintf("at %v is %s, no iWARP", a.dst, a.speaks)
		change = fmt.Sprintf("name the port that the server has for SMB Direct with --rdma-port, or start SMB Direct there (smbd-rdma serve --rdma iwarp://:%d)", smbdirect.DefaultIWARPPort)
	case errors.Is(a.err, ntstatus.ConnectionRefused) && !f.OverTCP:
		why = fmt.Sprintf("the machine at %v refuses the RDMA connection: nobody listens for SMB Direct on that device and port", a.dst)
		change = "start SMB Direct on the RDMA device of the server (smbd-rdma serve --rdma verbs://ADDR; ksmbd: make the device before it starts), or name its port with --rdma-port"
	case errors.Is(a.err, ntstatus.IOTimeout) && !f.OverTCP:
		change = "see whether the server has an RDMA device of the same kind on this network, and whether UDP port 4791 (RoCE v2) or the TCP port (iWARP) passes the firewalls"
	}
	s.fail(change, "%s: %v", why, a.err)
}

// tellNegotiation is the step of SMB Direct.
func (d *doctor) tellNegotiation(a *attempt) {
	s := d.begin(StepSMBDirect+a.fabric.Name, "SMB Direct by "+a.fabric.Name)
	s.quiet("ours_credits_requested", a.offer.CreditsRequested)
	s.quiet("ours_preferred_send_size", a.offer.PreferredSendSize)
	s.quiet("ours_max_receive_size", a.offer.MaxReceiveSize)
	s.quiet("ours_max_fragmented_size", a.offer.MaxFragmentedSize)
	if a.stage < stageNegotiated {
		s.fail("see whether it is an SMB server that listens there (name the port with --rdma-port), and what its log says", "no SMB Direct at %v: %v", a.dst, a.err)
		return
	}
	r := a.answer
	s.quiet("version", fmt.Sprintf("0x%04x", r.NegotiatedVersion))
	s.quiet("peer_credits_requested", r.CreditsRequested)
	s.quiet("peer_credits_granted", r.CreditsGranted)
	s.quiet("peer_preferred_send_size", r.PreferredSendSize)
	s.quiet("peer_max_receive_size", r.MaxReceiveSize)
	s.add("peer_max_fragmented_size", r.MaxFragmentedSize)
	s.quiet("peer_max_read_write_size", r.MaxReadWriteSize)
	s.end(OK, "at %v, %d credits, messages of %d bytes out and %d in, RDMA up to %d bytes", a.dst,
		r.CreditsGranted, min(r.MaxReceiveSize, a.offer.PreferredSendSize), min(r.PreferredSendSize, a.offer.MaxReceiveSize), r.MaxReadWriteSize)
}
