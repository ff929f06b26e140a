package iwarp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Config of a provider. The zero value is ready to use.
type Config struct {
	// CRC asks for the CRC of MPA. It is in force if either side asks. The RFC
	// has it on by default (RFC 5044 §4.4), Linux siw off, and so do we: it costs
	// a copy of what is received and a pass over what is sent, and TCP has a
	// checksum of its own.
	CRC bool
	// Revision of the MPA Request: 2, with read limits (RFC 6581), or 1; 0 is 2.
	// A responder answers with the revision of the request. An initiator of
	// revision 2 does not fall back to 1 by itself.
	Revision int
	// RTR are the kinds of ready-to-receive message an initiator offers; 0, as
	// with Linux siw, asks for client-server mode, where Accept of the peer ends
	// before our CompleteConnect. A responder agrees to any kind it is asked for.
	RTR RTR
	// SendBeforeReceive lets a responder without a ready-to-receive message send
	// what was posted after that time, even if the initiator sent nothing yet; 0
	// holds it until then, as RFC 5044 §7.1.2 demands. Linux siw sends at once, and
	// there are consumers (ucmatose) whose initiator waits for that.
	SendBeforeReceive time.Duration
	// NegotiateTimeout bounds the wait for the Request of a peer that connected,
	// and for its ready-to-receive message; 0 is 5 s.
	NegotiateTimeout time.Duration
	// ConnectTimeout bounds TCP connect and the wait for the Reply, together; 0
	// is 10 s. A shorter context wins.
	ConnectTimeout time.Duration
	// LingerTimeout bounds the graceful end of a connection: sending what was
	// posted or a Terminate, and the wait for the peer's FIN; 0 is 2 s.
	LingerTimeout time.Duration
	// MaxHalfOpen bounds, per listener, the TCP connections whose Request is not
	// complete; 0 is 256. The oldest one makes room for a new one.
	MaxHalfOpen int
	// MaxFPDU bounds the FPDUs sent, in octets, beside the segment size of the
	// connection; 0 is no bound. Least 256.
	MaxFPDU int
	// SendBuffer and ReceiveBuffer are socket buffer sizes in octets; 0 leaves
	// them to the kernel, which adapts them to the traffic, but for SendBuffer
	// between two ends on one machine, where it is 256 KiB.
	SendBuffer, ReceiveBuffer int
	// RequireReadSink makes the adapter ask for RDMAReadSink in the registration of
	// the sinks of Reads, as most NICs do, and not report
	// FlagRDMAReadSinkNotRequired. It is there to try a consumer; the provider has
	// no use for it, as the token of a sink stays on this machine.
	RequireReadSink bool
	// MaxObjects bounds the objects of each kind that an adapter has at a time;
	// above it, create calls fail with InsufficientResources, and connection
	// requests are dropped. 0 is 65536.
	MaxObjects int
	// Inherited are sockets that listen already, as a service manager hands them over.
	// A listener on the address of one takes it instead of a socket of its own, and
	// closes it as one.
	Inherited []*net.TCPListener
	// Tap shows the traffic of the provider's connections to whom it concerns; nil
	// to nobody.
	Tap *Tap
	// Logger gets connection errors at level Debug; nil discards them.
	Logger *slog.Logger
}

const (
	defaultNegotiateTimeout = 5 * time.Second
	defaultConnectTimeout   = 10 * time.Second
	defaultLingerTimeout    = 2 * time.Second
	defaultMaxHalfOpen      = 256
	minMaxFPDU              = 256
)

// withDefaults returns c with every zero replaced, or an error that names the
// field.
func (c Config) withDefaults() (Config, error) {
	bad := func(field string, v any, want string) (Config, error) {
		return c, fmt.Errorf("iwarp: config %s is %v, want %s", field, v, want)
	}
	switch {
	case c.Revision < 0 || c.Revision > revEnhanced:
		return bad("Revision", c.Revision, "0, 1 or 2")
	case c.RTR&^(RTRSend|RTRWrite|RTRRead) != 0:
		return bad("RTR", c.RTR, "a set of RTRSend, RTRWrite, RTRRead")
	case c.RTR != 0 && c.Revision == revBase:
		return bad("RTR", c.RTR, "0 with Revision 1")
	case c.SendBeforeReceive < 0:
		return bad("SendBeforeReceive", c.SendBeforeReceive, "0 or more")
	case c.NegotiateTimeout < 0:
		return bad("NegotiateTimeout", c.NegotiateTimeout, "0 or more")
	case c.ConnectTimeout < 0:
		return bad("ConnectTimeout", c.ConnectTimeout, "0 or more")
	case c.LingerTimeout < 0:
		return bad("LingerTimeout", c.LingerTimeout, "0 or more")
	case c.MaxHalfOpen < 0:
		return bad("MaxHalfOpen", c.MaxHalfOpen, "0 or more")
	case c.MaxFPDU != 0 && c.MaxFPDU < minMaxFPDU:
		return bad("MaxFPDU", c.MaxFPDU, "0 or at least 256")
	case c.MaxObjects < 0:
		return bad("MaxObjects", c.MaxObjects, "0 or more")
	case c.SendBuffer < 0:
		return bad("SendBuffer", c.SendBuffer, "0 or more")
	case c.ReceiveBuffer < 0:
		return bad("ReceiveBuffer", c.ReceiveBuffer, "0 or more")
	}
	if c.Revision == 0 {
		c.Revision = revEnhanced
	}
	if c.NegotiateTimeout == 0 {
		c.NegotiateTimeout = defaultNegotiateTimeout
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = defaultConnectTimeout
	}
	if c.LingerTimeout == 0 {
		c.LingerTimeout = defaultLingerTimeout
	}
	if c.MaxHalfOpen == 0 {
		c.MaxHalfOpen = defaultMaxHalfOpen
	}
	if c.MaxFPDU == 0 {
		c.MaxFPDU = maxFPDU
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// provider implements ndk.Provider.
type provider struct {
	cfg    Config
	tuples tuples
}

// New returns a provider. It fails on a Config with a value out of range.
func New(c Config) (ndk.Provider, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	return &provider{cfg: c}, nil
}

// Open implements ndk.Provider.
func (p *provider) Open(_ context.Context, local netip.Addr, min ndk.Version) (ndk.Adapter, error) {
	const op = "open adapter"
	var v ndk.Version
	switch {
	case min.Major == 1 && !ndk.Version12.Less(min):
		v = ndk.Version12
	case min.Major == 2 && !ndk.Version21.Less(min):
		v = ndk.Version21
	default:
		return nil, &ndk.Error{Op: op, Status: ntstatus.NotSupported, Err: fmt.Errorf("version %v", min)}
	}
	local = local.Unmap()
	if local.IsValid() && !local.IsUnspecified() {
		if err := probeLocal(local); err != nil {
			return nil, &ndk.Error{Op: op, Status: ntstatus.DeviceNotReady, Err: err}
		}
	} else {
		local = netip.Addr{}
	}
	return newAdapter(p, local, v), nil
}

// wrap makes the error of a slow call.
func wrap(op string, st ndk.Status, err error) error {
	return &ndk.Error{Op: op, Status: st, Err: err}
}

// refused makes the error of a slow call that broke the rule of e.
func refused(op string, e *ndk.PostError) error {
	return &ndk.Error{Op: op, Status: e.Status, ProviderError: uint32(e.Rule)}
}

// socketStatus maps the error of a socket call to the status of NDK.
func socketStatus(err error) ndk.Status {
	var st ndk.Status
	if errors.As(err, &st) {
		return st
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		switch errno {
		case syscall.EADDRINUSE:
			return ntstatus.SharingViolation
		case syscall.EADDRNOTAVAIL:
			return ntstatus.InvalidAddress
		case syscall.ENETUNREACH, syscall.EAFNOSUPPORT:
			return ntstatus.NetworkUnreachable
		case syscall.EHOSTUNREACH, syscall.EHOSTDOWN:
			return ntstatus.HostUnreachable
		case syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE:
			return ntstatus.ConnectionRefused
		case syscall.ETIMEDOUT:
			return ntstatus.IOTimeout
		case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM:
			return ntstatus.InsufficientResources
		}
	}
	return ndk.StatusOf(err)
}
