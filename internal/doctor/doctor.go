package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Limits in time.
const (
	// PortTime is what a port may cost that swallows everything; they are tried at once.
	PortTime = 3 * time.Second
	// connectTime bounds the RDMA connection, negotiateTime the answer to the
	// negotiation of SMB Direct, and that of SMB2 with its connection.
	connectTime, negotiateTime = 3 * time.Second, 5 * time.Second
	// requestTime bounds a step of SMB2, ioTime the I/O by one path.
	requestTime, ioTime = 10 * time.Second, 20 * time.Second
	// moveTime is how long a session on TCP is given to move.
	moveTime = 15 * time.Second
	// DefaultTimeout bounds everything.
	DefaultTimeout = 90 * time.Second
)

// maxAddrs bounds the addresses of a host that are tried, and those of the list of
// its interfaces.
const maxAddrs = 8

// Device is an RDMA or network device of this machine.
type Device struct {
	Name, Technology, State, Provider string
	Netdevs, Addresses                []string
	RDMA                              bool
}

// Fabric is a way to move memory.
type Fabric struct {
	// Name is that of the provider, as "iwarp".
	Name string
	// OverTCP says that its ports are TCP ports, which can be tried without it.
	OverTCP bool
	// Ports to try at the host; nil stands for those of SMB Direct on the kind of
	// adapter, [MS-SMBD] 1.9.
	Ports []uint16
	// Open returns the adapter that owns a local address; the doctor closes it.
	Open func(ctx context.Context, local netip.Addr) (ndk.Adapter, error)
	// Dialer is what the client uses, with addresses HOST:PORT.
	Dialer transport.Dialer
	// Startup returns the MPA startup frames of the last connection to a peer; nil
	// where there are none.
	Startup func(peer netip.AddrPort) (request, reply []byte)
	// Missing says why the fabric can't be used from here; nil if it can. Change says
	// what to do about that.
	Missing error
	Change  string
}

// Config says what is looked at. Fields without a remark must be set.
type Config struct {
	Host, Share string
	// Dir is where on the share the files for the measurement go; "" is its root.
	Dir string
	// Resolve finds the addresses of Host, Source the local address on the way to one.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	Source  func(dst netip.Addr) (netip.Addr, error)
	Devices []Device // may be empty
	// DevicesErr says why Devices is not complete; nil if it is.
	DevicesErr error
	// Fabrics in the order in which the client would use them.
	Fabrics []Fabric
	// RDMAPorts are the TCP ports on which SMB Direct may be, with iWARP.
	RDMAPorts []uint16
	// TCP makes connections of direct hosting; TCPPort is their port.
	TCP     transport.Dialer
	TCPPort uint16
	// Client has the credentials and what the client wants; Channels is not looked at.
	Client client.Config
	// Interface connects to an interface that the server lists, as the client does
	// when a session moves; nil if the client does not begin on TCP.
	Interface func(ctx context.Context, i client.NetworkInterface) (transport.Conn, error)
	// NoWrite leaves the share alone: a file that is there is read.
	NoWrite bool
	// Timeout bounds everything; 0 is DefaultTimeout.
	Timeout time.Duration
	// Progress is told the title of each step as it begins; nil for nobody.
	Progress func(title string)
}

// doctor is one run.
type doctor struct {
	cfg Config
	rep *Report

	ips    []netip.Addr
	probes []probe
	tried  map[string]*attempt // the best of each fabric
	best   *attempt            // by which the client goes; nil if there is none

	spoke    bool           // SMB2 was negotiated by best
	tcpAddr  netip.AddrPort // where SMB over TCP is spoken; zero if nowhere
	direct   *client.Session
	plain    *client.Session
	share    *client.Share // on direct, else on plain
	path     client.DataPath
	hash     map[int64][32]byte // of the beginning of a file that was read, by length
	measured string             // what the verdict says of io.rdma
}

// Run makes a report. It returns also if ctx ends; the steps after that then say so.
func Run(ctx context.Context, cfg Config) *Report {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	d := &doctor{cfg: cfg, rep: &Report{Target: cut("//" + cfg.Host + "/" + cfg.Share)}, tried: map[string]*attempt{}}
	d.cfg.Client.ServerName = cfg.Host
	d.cfg.Client.Channels = client.ChannelConfig{}
	d.cfg.Client.Timeout = min(max(cfg.Client.Timeout, time.Millisecond), requestTime)
	if cfg.Client.Timeout <= 0 {
		d.cfg.Client.Timeout = requestTime
	}
	defer d.close()
	d.devices()
	if d.name(ctx) {
		d.route()
		d.ports(ctx)
		d.fabrics(ctx)
		d.dialect(ctx)
		d.logon(ctx)
		d.interfaces(ctx)
		d.mount(ctx)
		d.protection()
		d.move(ctx)
		d.measure(ctx)
		d.memory(ctx)
	}
	d.decide(ctx)
	return d.rep
}

func (d *doctor) close() {
	for _, s := range []*client.Session{d.direct, d.plain} {
		if s != nil {
			_ = s.Close()
		}
	}
}

// begin adds a step.
func (d *doctor) begin(id, title string) *Step {
	if d.cfg.Progress != nil {
		d.cfg.Progress(title)
	}
	s := &Step{ID: id, Title: title, Values: Values{}, began: time.Now()}
	d.rep.Steps = append(d.rep.Steps, s)
	return s
}

// step returns a step by its ID, nil if there is none.
func (d *doctor) step(id string) *Step {
	for _, s := range d.rep.Steps {
		if s.ID == id {
			return s
		}
	}
	return nil
}

// failed reports whether there is a step with a problem.
func (d *doctor) failed(id string) bool {
	s := d.step(id)
	return s != nil && s.Outcome == Problem
}

// overTCP is the fabric that is made of TCP; nil if there is none.
func (d *doctor) overTCP() *Fabric {
	for i := range d.cfg.Fabrics {
		if f := &d.cfg.Fabrics[i]; f.OverTCP && f.Missing == nil {
			return f
		}
	}
	return nil
}

func (d *doctor) name(ctx context.Context) bool {
	s := d.begin(StepName, "name")
	ctx, cancel := context.WithTimeout(ctx, requestTime/2)
	defer cancel()
	ips, err := d.cfg.Resolve(ctx, d.cfg.Host)
	if err == nil && len(ips) == 0 {
		err = errors.New("it has no address")
	}
	if err != nil {
		s.fail("see to the name (DNS, /etc/hosts), or give the address of the server in place of its name", "%s: %v", d.cfg.Host, err)
		return false
	}
	for _, ip := range ips {
		if ip = ip.Unmap(); !slices.Contains(d.ips, ip) && len(d.ips) < maxAddrs {
			d.ips = append(d.ips, ip)
		}
	}
	var told []string
	for _, ip := range d.ips {
		told = append(told, ip.String())
	}
	s.quiet("addresses", told)
	s.end(OK, "%s is %s", d.cfg.Host, strings.Join(told, " and "))
	return true
}

func (d *doctor) devices() {
	s := d.begin(StepDevices, "RDMA devices of this machine")
	var rdma []string
	for _, v := range d.cfg.Devices {
		if v.RDMA {
			rdma = append(rdma, fmt.Sprintf("%s (%s on %s, %s, by %s)", v.Name, v.Technology, or(strings.Join(v.Netdevs, "+"), "no network device"), v.State, v.Provider))
		}
	}
	s.quiet("rdma_devices", rdma)
	switch {
	case d.cfg.DevicesErr != nil:
		s.fail("see to what the error says; iwarp needs no device", "the devices can't be listed: %v", d.cfg.DevicesErr)
	case len(rdma) == 0 && d.overTCP() != nil:
		s.end(OK, "none; iwarp goes over any TCP network, in user space")
	case len(rdma) == 0:
		s.fail("leave out --transport verbs: iwarp goes over any TCP network", "no RDMA device")
	default:
		s.end(OK, "%s", strings.Join(rdma, ", "))
	}
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// route says which device packets to the host leave by.
func (d *doctor) route() {
	s := d.begin(StepRoute, "route")
	var told, errs []string
	for _, ip := range d.ips {
		local, err := d.cfg.Source(ip)
		if err != nil {
			errs = append(errs, fmt.Sprintf("%v: %v", ip, err))
			continue
		}
		told = append(told, fmt.Sprintf("to %v from %v %s", ip, local, d.deviceOf(local)))
	}
	s.quiet("ways", told)
	if len(told) == 0 {
		s.fail("see to the routes of this machine (ip route)", "no way to the host: %s", strings.Join(errs, "; "))
		return
	}
	s.end(OK, "%s", strings.Join(told, "; "))
}

// deviceOf says what an address is on.
func (d *doctor) deviceOf(local netip.Addr) string {
	for _, v := range d.cfg.Devices {
		if !slices.Contains(v.Addresses, local.WithZone("").String()) {
			continue
		}
		on := strings.Join(v.Netdevs, "+")
		if !v.RDMA {
			return "on " + on + ", which has no RDMA device"
		}
		return fmt.Sprintf("on %s with the RDMA device %s (%s, %s)", on, v.Name, v.Technology, v.State)
	}
	return "on a device that is not known"
}
