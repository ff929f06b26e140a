package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// How long the ways to a server may take.
const (
	// tryTime bounds an attempt after which there is another way.
	tryTime = 5 * time.Second
	// directTime bounds the attempts at SMB Direct once TCP works: a firewall may
	// swallow what goes to its port.
	directTime = time.Second
	// moveTime is how long a command waits for the session to move to RDMA before it
	// begins on TCP. It moves later too.
	moveTime = 250 * time.Millisecond
)

// ways are the dialers towards a server.
type ways struct {
	app   *app
	plain way
	iwarp way
	// rdmaPort is that of SMB Direct, 0 for that of the kind of device; begins says
	// that sessions begin there.
	rdmaPort int
	begins   bool
}

// newWays makes the dialers, with the ports that the flags say, and checks those.
func (a *app) newWays() (*ways, error) {
	f := &a.conn
	for _, p := range []struct {
		flag string
		n    int
	}{{"port", f.port}, {"rdma-port", f.rdmaPort}} {
		if p.n < 0 || p.n > 65535 {
			return nil, usagef("--%s %d is not a port", p.flag, p.n)
		}
	}
	if f.maxChannels < 0 || f.maxChannels > client.MaxChannels {
		return nil, usagef("--max-channels %d is not 0 to %d", f.maxChannels, client.MaxChannels)
	}
	provider, err := iwarp.New(a.fabric().iwarp())
	if err != nil {
		return nil, err
	}
	d, err := smbdirect.NewDialer(provider, "iwarp", a.fabric().direct())
	if err != nil {
		return nil, err
	}
	t, err := tcp.NewDialer(tcp.Config{Logger: a.log})
	if err != nil {
		return nil, err
	}
	plain, rdma, begins := f.ports()
	return &ways{app: a, plain: way{t, plain}, iwarp: way{d, cmp.Or(rdma, smbdirect.DefaultIWARPPort)}, rdmaPort: rdma, begins: begins}, nil
}

// direct returns the ways by SMB Direct to a host, on port unless that is 0.
func (w *ways) direct(ctx context.Context, host string, port int) []way {
	var out []way
	if rdmaTo(ctx, host) {
		if v, err := newVerbsDialer(w.app.fabric()); err == nil {
			out = append(out, way{v, port})
		} else {
			w.app.log.Debug("no verbs", "err", err)
		}
	}
	i := w.iwarp
	if port != 0 {
		i.port = port
	}
	return append(out, i)
}

// dialInterface is client.ChannelConfig.Dial.
func (w *ways) dialInterface(ctx context.Context, i client.NetworkInterface) (transport.Conn, error) {
	host := i.Addr.String()
	if !i.RDMA {
		return w.plain.Dial(ctx, w.plain.addr(host))
	}
	var errs []error
	for _, d := range w.direct(ctx, host, w.rdmaPort) {
		c, err := d.Dial(ctx, d.addr(host))
		if err == nil {
			return c, nil
		}
		errs = append(errs, fmt.Errorf("%s://%s: %w", d.Scheme(), d.addr(host), err))
	}
	return nil, errors.Join(errs...)
}

// dial connects and logs on to a host. What it falls back to is said on stderr.
func (a *app) dial(ctx context.Context, host string) (*client.Session, error) {
	cfg, err := a.clientConfig()
	if err != nil {
		return nil, err
	}
	return a.dialAs(ctx, host, cfg)
}

// dialAs is dial with a configuration of the caller's.
func (a *app) dialAs(ctx context.Context, host string, cfg client.Config) (*client.Session, error) {
	host = strings.Trim(host, "[]")
	w, err := a.newWays()
	if err != nil {
		return nil, err
	}
	f := &a.conn
	if cfg.ServerName == "" {
		cfg.ServerName = host
	}
	channels := client.ChannelConfig{Dial: w.dialInterface, Max: f.maxChannels}
	if f.maxChannels > 1 {
		cfg.Channels = channels
	}
	switch f.transport {
	case "tcp":
		if f.maxChannels > 1 {
			cfg.RDMAThreshold = -1 // more of TCP is all that is wanted
		}
		return w.open(ctx, host, cfg, []way{w.plain})
	case "iwarp":
		return w.open(ctx, host, cfg, []way{w.iwarp})
	case "rdma": // whichever there is
		return w.open(ctx, host, cfg, w.direct(ctx, host, w.rdmaPort))
	case "verbs":
		v, err := newVerbsDialer(a.fabric())
		if err != nil {
			return nil, fmt.Errorf("--transport verbs: %w", err)
		}
		return w.open(ctx, host, cfg, []way{{v, w.rdmaPort}})
	case "auto":
	default:
		return nil, usagef("--transport %q is not auto, tcp, iwarp or verbs", f.transport)
	}
	if w.begins {
		return w.open(ctx, host, cfg, w.direct(ctx, host, w.rdmaPort))
	}
	cfg.Channels = channels
	return w.auto(ctx, host, cfg)
}

// auto begins on TCP. A server that lists its interfaces has the session moved to
// RDMA; at others SMB Direct is tried at its port, and so it is where TCP does not
// answer.
func (w *ways) auto(ctx context.Context, host string, cfg client.Config) (*client.Session, error) {
	log, port := w.app.log, w.rdmaPort
	if port == 0 && w.app.conn.port != 0 && w.app.conn.port != tcp.DefaultPort {
		port = w.app.conn.port
	}
	try, stop := context.WithTimeout(ctx, tryTime)
	s, err := w.open(try, host, cfg, []way{w.plain})
	stop()
	if err != nil {
		if isFinal(err) || ctx.Err() != nil {
			return nil, err
		}
		log.Debug("no session on TCP, trying SMB Direct", "host", host, "err", err)
		cfg.Channels = client.ChannelConfig{}
		d, derr := w.open(ctx, host, cfg, w.direct(ctx, host, port))
		if derr != nil {
			return nil, errors.Join(err, derr)
		}
		return d, nil
	}
	if s.Info().MultiChannel && !s.Info().Guest && !s.Info().Anonymous {
		wait, stop := context.WithTimeout(ctx, moveTime)
		s.AwaitChannels(wait)
		stop()
		if used, why := s.RDMAStatus(); !used {
			log.Warn("no SMB Direct, falling back to TCP", "host", host, "why", strings.ReplaceAll(why, "\n", "; "))
		}
		return s, nil
	}
	_, why := s.RDMAStatus()
	try, stop = context.WithTimeout(ctx, directTime)
	defer stop()
	cfg.Channels = client.ChannelConfig{}
	d, err := w.open(try, host, cfg, w.direct(try, host, port))
	if err == nil {
		if err = proved(s.Info(), d.Info()); err == nil {
			log.Debug("SMB Direct at its own port", "host", host, "why", why)
			s.Close()
			return d, nil
		}
		d.Close()
	}
	log.Warn("no SMB Direct, falling back to TCP", "host", host, "why", strings.ReplaceAll(why, "\n", "; "), "err", oneLine(err))
	return s, nil
}

// proved says whether who answers at the port of SMB Direct, which any user of the
// server may listen on, has shown as much as the server on TCP did: that it knows the
// user. One that makes everybody a guest needs to know nothing.
func proved(tcp, direct client.Info) error {
	if (direct.Guest || direct.Anonymous) && !tcp.Guest && !tcp.Anonymous {
		return errors.New("who answers there takes the user for a guest, and on TCP the server knows the user")
	}
	return nil
}

// open tries ways in order until one leads to a session.
func (w *ways) open(ctx context.Context, host string, cfg client.Config, by []way) (*client.Session, error) {
	log := w.app.log
	if cfg.Reconnect.Enabled {
		cfg.Reconnect.Dial = func(ctx context.Context) (transport.Conn, error) {
			var errs []error
			for _, d := range by {
				c, err := d.Dial(ctx, d.addr(host))
				if err == nil {
					return c, nil
				}
				errs = append(errs, fmt.Errorf("%s://%s: %w", d.Scheme(), d.addr(host), err))
			}
			return nil, errors.Join(errs...)
		}
	}
	var errs []error
	for i, d := range by {
		addr := d.addr(host)
		last := i+1 == len(by)
		try, stop := ctx, context.CancelFunc(func() {})
		if !last {
			try, stop = context.WithTimeout(ctx, tryTime)
		}
		conn, err := d.Dial(try, addr)
		stop()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s://%s: %w", d.Scheme(), addr, err))
			if ctx.Err() != nil {
				break
			}
			if !last {
				log.Warn("no SMB Direct by this way, trying the next", "addr", addr, "transport", d.Scheme(), "next", by[i+1].Scheme(), "err", err)
			}
			continue
		}
		s, err := client.New(ctx, conn, cfg)
		if err != nil {
			return nil, fmt.Errorf("%s://%s: %w", d.Scheme(), addr, err)
		}
		used, why := s.RDMAStatus()
		log.Debug("connected", "addr", addr, "transport", d.Scheme(), "rdma", used, "why", why)
		if conn.RDMA() != nil && !used {
			log.Warn("file bytes will not go by RDMA", "why", why)
		}
		return s, nil
	}
	return nil, errors.Join(errs...)
}

// isFinal reports whether a failed logon would fail by every way, and must not be
// tried again: servers count.
func isFinal(err error) bool {
	var st ntstatus.Status
	if !errors.As(err, &st) {
		return false
	}
	switch st {
	case ntstatus.LogonFailure, ntstatus.AccountRestriction, ntstatus.AccountDisabled, ntstatus.PasswordExpired:
		return true
	}
	return false
}

// addr is what to dial for a host.
func (w way) addr(host string) string {
	if w.port == 0 {
		return host
	}
	return net.JoinHostPort(host, strconv.Itoa(w.port))
}

// way is one way to a server.
type way struct {
	transport.Dialer
	port int // 0: that of the device
}
