package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/internal/doctor"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/verbs"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// levelOfDoctor is at what doctor logs without --log-level: what is tried and comes to
// nothing is on its page.
const levelOfDoctor = slog.LevelError

// doctorFlags are the flags of doctor beside those of every client.
type doctorFlags struct {
	json    bool
	noWrite bool
}

func (a *app) doctorCommand() *cobra.Command {
	var f doctorFlags
	c := &cobra.Command{
		Use:   "doctor //HOST/SHARE[/DIR]",
		Short: "whether RDMA is used between here and a share, and if not, why not",
		Long: `Walks the whole way to a share as a client does and prints one page: first whether
file bytes go by RDMA and, if not, which step decided that and what to change; then
each step (ok, problem, not possible, not tried) with what was found: the name, RDMA
devices, route, ports, the RDMA connection and SMB Direct by each provider, SMB2's
dialect, the logon, the interfaces that the server lists, the share, signing and
encryption, whether a session that begins on TCP moves, a timed write and read by
each path, and how memory is registered.

With the flags of get and put it judges what these would do. The file that it writes
is removed; --no-write reads one that is there. --json prints the same as one object;
docs/doctor.md has its names. It needs no root.

Exit status: 0 if RDMA is used, 1 if not, 2 for a mistake on the command line.`,
		Example: `  smbd-rdma doctor //server/data -U alice%secret
  smbd-rdma doctor //server/data -U alice%secret --transport verbs --json`,
		Args: checkArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return a.doctor(cmd.Context(), args[0], f) },
	}
	a.conn.register(c)
	fs := c.Flags()
	fs.BoolVar(&f.json, "json", false, "print one JSON object")
	fs.BoolVar(&f.noWrite, "no-write", false, "write nothing on the share")
	return c
}

func (a *app) doctor(ctx context.Context, where string, f doctorFlags) error {
	cfg, err := a.doctorConfig(ctx, where, f)
	if err != nil {
		return err
	}
	r := doctor.Run(ctx, *cfg)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if f.json {
		err = a.printJSON(r)
	} else {
		err = r.Print(a.stdout)
	}
	if err == nil && !r.Used {
		err = exitCode(exitFailed) // the page has said why
	}
	return err
}

// doctorConfig is what the flags ask for.
func (a *app) doctorConfig(ctx context.Context, where string, f doctorFlags) (*doctor.Config, error) {
	t, err := parseShareTarget(where)
	if err != nil {
		return nil, err
	}
	by := a.conn.transport
	switch by {
	case "auto", "iwarp", "verbs":
	case "tcp":
		return nil, usagef("--transport tcp never uses RDMA; doctor takes auto, iwarp or verbs")
	default:
		return nil, usagef("--transport %q is not auto, iwarp or verbs", by)
	}
	if a.level.Level() == slog.LevelInfo { // nobody asked for more
		a.log = newLogger(a.stderr, levelOfDoctor)
	}
	frames := newStartupFrames()
	if a.tap == nil {
		a.tap = iwarp.NewTap()
	}
	a.tap.Attach(frames) // it ends with the command
	w, err := a.newWays()
	if err != nil {
		return nil, err
	}
	cl, err := a.clientConfig()
	if err != nil {
		return nil, err
	}
	if cl.RDMAThreshold == 0 { // RDMA is what is examined, if the file at hand is short too
		cl.RDMAThreshold = client.DefaultRDMAThreshold
	}
	cfg := &doctor.Config{
		Host: strings.Trim(t.host, "[]"), Share: t.share, Dir: t.path,
		Resolve: lookup, Source: sourceFor,
		TCP: w.plain.Dialer, TCPPort: uint16(w.plain.port), Client: cl, NoWrite: f.noWrite,
	}
	if out, ok := a.stderr.(*os.File); ok && term.IsTerminal(int(out.Fd())) {
		cfg.Progress = func(title string) { fmt.Fprintf(out, "%s ...\n", title) }
	}
	// The ports of SMB Direct, as auto takes them.
	cfg.RDMAPorts = []uint16{uint16(w.iwarp.port)}
	if w.rdmaPort == 0 && a.conn.port != 0 && a.conn.port != tcp.DefaultPort {
		cfg.RDMAPorts = append(cfg.RDMAPorts, uint16(a.conn.port))
	}
	if !w.begins {
		cfg.Interface = w.dialInterface
	}
	a.doctorDevices(cfg)
	if by != "iwarp" {
		cfg.Fabrics = append(cfg.Fabrics, a.doctorVerbs(ctx, cfg, w.rdmaPort, by == "verbs"))
	}
	if by != "verbs" {
		p, err := iwarp.New(a.fabric().iwarp())
		if err != nil {
			return nil, err
		}
		d, err := smbdirect.NewDialer(p, "iwarp", a.fabric().direct())
		if err != nil {
			return nil, err
		}
		cfg.Fabrics = append(cfg.Fabrics, doctor.Fabric{
			Name: "iwarp", OverTCP: true, Dialer: d, Startup: frames.of,
			Open: func(ctx context.Context, local netip.Addr) (ndk.Adapter, error) {
				return p.Open(ctx, local, ndk.Version12)
			},
		})
	}
	return cfg, nil
}

// doctorDevices lists the devices of this machine.
func (a *app) doctorDevices(cfg *doctor.Config) {
	rows, err := a.listDevices()
	cfg.DevicesErr = err
	for _, r := range rows {
		cfg.Devices = append(cfg.Devices, doctor.Device{
			Name: r.Name, Technology: r.Technology, State: r.State, Provider: r.Provider,
			Netdevs: r.Netdevs, Addresses: r.Addresses, RDMA: r.Name != "-",
		})
	}
}

// doctorVerbs is the fabric of RDMA devices, with why it can't be used if so.
func (a *app) doctorVerbs(ctx context.Context, cfg *doctor.Config, port int, asked bool) doctor.Fabric {
	f := doctor.Fabric{Name: "verbs"}
	if port != 0 {
		f.Ports = []uint16{uint16(port)}
	}
	has := slices.ContainsFunc(cfg.Devices, func(d doctor.Device) bool { return d.RDMA })
	switch {
	case !has:
		f.Missing = errors.New("this machine has no RDMA device")
		if asked {
			f.Change = "use --transport auto or iwarp, which need none"
		}
		return f
	case !verbs.Available:
		f.Missing = errors.New("there are RDMA devices, and this binary was built without the verbs provider")
		f.Change = "make build VERBS=1"
		return f
	case !asked && !rdmaTo(ctx, cfg.Host):
		f.Missing = errors.New("no RDMA device is on the way to the host")
		f.Change = "reach the host by an address of the network that the RDMA device is on"
		return f
	}
	d, err := newVerbsDialer(a.fabric())
	if err != nil {
		f.Missing, f.Change = err, "install rdma-core (libibverbs, librdmacm)"
		return f
	}
	f.Dialer = d
	f.Open = func(ctx context.Context, local netip.Addr) (ndk.Adapter, error) {
		return d.provider.Open(ctx, local, ndk.Version12)
	}
	return f
}

// startupFrames keeps the MPA startup frames of the last connection to each peer.
type startupFrames struct {
	mu   sync.Mutex
	last map[netip.AddrPort][2][]byte // guarded by mu
}

// maxStartupFrames bounds the peers that are kept.
const maxStartupFrames = 64

func newStartupFrames() *startupFrames {
	return &startupFrames{last: map[netip.AddrPort][2][]byte{}}
}

// Opened implements iwarp.TapSink.
func (s *startupFrames) Opened(c *iwarp.TapConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.last) >= maxStartupFrames {
		clear(s.last)
	}
	s.last[c.Peer] = [2][]byte{c.Request, c.Reply}
}

// Frame implements iwarp.TapSink.
func (*startupFrames) Frame(*iwarp.TapConn, *iwarp.TapFrame) {}

// Closed implements iwarp.TapSink.
func (*startupFrames) Closed(*iwarp.TapConn) {}

// Snap implements iwarp.TapSink.
func (*startupFrames) Snap() int { return 0 }

func (s *startupFrames) of(peer netip.AddrPort) (request, reply []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.last[peer]
	return f[0], f[1]
}
