package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// drainTime bounds how long requests under way may take after SIGTERM, reloadTime how
// long trees that end with a reload are waited for, openTime how long the storage of a
// share is before the others are served without it.
const (
	drainTime  = 10 * time.Second
	reloadTime = 30 * time.Second
	openTime   = 10 * time.Second
)

// serveFlags are the flags of serve.
type serveFlags struct {
	config  string
	strict  bool
	shares  []string
	users   []string
	tcp     []string
	rdma    []string
	http    string
	pprof   bool
	control string
	flights string
	audit   string
	signing string
	encrypt string
	name    string
	guest   bool
}

func (a *app) serveCommand() *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use:   "serve",
		Short: "serve directories over SMB 3.1.1 on TCP and on SMB Direct",
		Long: `Serves directories. One line "listening on SCHEME://ADDR" for each listener and
then "ready" go to standard output. SIGTERM and SIGINT let requests under way
finish, close the connections and end with exit status 0. SIGHUP and "smbd-rdma
reload" read the configuration file again, without dropping a connection.`,
		Example: `  smbd-rdma serve --share data=/srv/data --share pub=/srv/pub,ro --user alice%secret
  smbd-rdma serve -c /etc/smbd-rdma/smb.conf --http 127.0.0.1:9445`,
		Args: checkArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context(), f) },
	}
	fs := c.Flags()
	fs.StringVarP(&f.config, "config", "c", "", "smb.conf with [global] and share sections; flags add to it and win")
	fs.BoolVar(&f.strict, "strict", false, "refuse a configuration with parameters that are unknown or not supported")
	fs.StringArrayVar(&f.shares, "share", nil, "NAME=PATH[,ro][,guest]: a directory to serve; may be repeated")
	fs.StringArrayVar(&f.users, "user", nil, "NAME%PASSWORD: who may log on; may be repeated")
	fs.StringArrayVar(&f.tcp, "tcp", nil, "address for SMB over TCP, or none (default :445); may be repeated")
	fs.StringArrayVar(&f.rdma, "rdma", nil, "iwarp://ADDR or verbs://ADDR for SMB Direct, or none (default iwarp://:5445, and verbs on every RDMA device); may be repeated")
	fs.StringVar(&f.http, "http", "", "address for /metrics (Prometheus) and /healthz; off by default")
	fs.BoolVar(&f.pprof, "pprof", false, "serve Go's profiles below /debug/pprof/ of --http")
	fs.StringVar(&f.control, "control", "", "Unix socket for status, close, reload and trace, or none (default: one in $XDG_RUNTIME_DIR/smbd-rdma, of root without that in /run/smbd-rdma)")
	fs.StringVar(&f.flights, "flight-dir", "", "directory for the last events of SMB Direct connections that die of an error (default: in the log)")
	fs.StringVar(&f.audit, "audit", "", "file for a line of JSON for each logon, connect to a share and refusal, or log")
	fs.StringVar(&f.signing, "signing", "", "default (required but for SMB Direct clients that cannot sign RDMA data), offered (files then go from the page cache), or required (those clients then do without RDMA)")
	fs.StringVar(&f.encrypt, "encryption", "", "offered (default), desired, required (SMB Direct clients that cannot encrypt RDMA data then do without RDMA), or off")
	fs.StringVar(&f.name, "name", "", "name of the server (default: the host's)")
	fs.BoolVar(&f.guest, "guest", false, "admit guests to shares with ,guest")
	return c
}

// daemon is a running serve.
type daemon struct {
	a        *app
	flags    serveFlags
	srv      *server.Server
	accounts *accounts
	audit    *auditLog
	stores   stores
	probes   probes
	systemd  notifier
	closed   atomic.Pointer[[]shareSettings] // shares that could not be opened

	mu      sync.Mutex // one reload at a time
	set     *settings  // guarded by mu: in force
	release func()     // guarded by mu: of its shares
}

func (a *app) serve(ctx context.Context, f serveFlags) (err error) {
	s := &daemon{a: a, flags: f, systemd: newNotifier(), audit: &auditLog{log: a.log}}
	set, err := a.settings(f)
	if err != nil {
		return err
	}
	a.setLogLevel(set)
	// What is created has the bits that its share lets through, and no others but for
	// those: as with Samba.
	defer syscall.Umask(syscall.Umask(0))
	s.set, s.accounts = set, newAccounts(a.log, set.users)
	cfg := set.server
	cfg.Users, cfg.Logger, cfg.Audit = s.accounts, a.log, s.audit.event
	if cfg.Shares, cfg.Homes, s.release, err = a.openShares(ctx, set, &s.stores); err != nil {
		return err
	}
	s.closed.Store(&set.closed)
	defer func() { s.release() }()
	if err := s.audit.open(set.audit); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.audit.close()) }()

	flights, err := newFlightLog(a.log, f.flights)
	if err != nil {
		return err
	}
	fab := a.fabric()
	fab.onDeath, fab.inlineData = flights.died, set.inline
	if fab.tap == nil {
		fab.tap = iwarp.NewTap()
	}
	sockets, err := inheritedSockets()
	if err != nil {
		return err
	}
	listeners, served, err := a.listen(ctx, set, fab, sockets)
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	if err != nil {
		return err
	}
	if set.multiChan {
		cfg.Interfaces = func() []server.Interface { return networkInterfaces(served, &set.interfaces) }
	}
	if s.srv, err = server.New(cfg); err != nil {
		return err
	}
	srv := s.srv
	defer srv.Close()
	stopHTTP, err := a.serveHTTP(set.http, sockets["http"], serverCollector{srv, flights}, s.healthy, f.pprof)
	if err != nil {
		return err
	}
	defer stopHTTP()
	stopControl, err := a.serveControl(set.control, &control{
		srv: srv, tap: fab.tap, flights: flights, reload: s.reload, started: time.Now(), traces: map[string]context.CancelFunc{},
	})
	if err != nil {
		return err
	}
	defer stopControl()

	// Each goroutine ends when its listener is closed by Shutdown or Close, and
	// is waited for below.
	var serving sync.WaitGroup
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		fmt.Fprintf(a.stdout, "listening on %s://%s\n", l.Scheme(), l.Addr())
		serving.Go(func() {
			if err := srv.Serve(ctx, l); err != nil && !errors.Is(err, net.ErrClosed) && ctx.Err() == nil {
				failed <- fmt.Errorf("%s://%s: %w", l.Scheme(), l.Addr(), err)
			}
		})
	}
	a.warnOfRights(set)
	a.takesHangups.Store(true)
	defer a.takesHangups.Store(false)
	fmt.Fprintln(a.stdout, "ready")
	s.tell("READY=1")

	err = s.wait(ctx, failed)
	s.tell("STOPPING=1")
	drain, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if e := srv.Shutdown(drain); e != nil {
		a.log.Warn("drain cut short", "err", e)
	}
	srv.Close()
	serving.Wait()
	if e := s.stores.wait(drain); e != nil {
		a.log.Warn("storage of a share still hangs in being opened", "err", e)
	}
	st := srv.Stats()
	a.log.Info("served", "rdma_read_bytes", st.ReadRDMA, "rdma_write_bytes", st.WriteRDMA,
		"inline_read_bytes", st.ReadInline, "inline_write_bytes", st.WriteInline, "bytes_copied", st.BytesCopied)
	return err
}

// wait returns when the service is to end: with nil if it was told to.
func (s *daemon) wait(ctx context.Context, failed <-chan error) error {
	var watchdog <-chan time.Time
	if d := watchdogInterval(); d > 0 {
		t := time.NewTicker(d)
		defer t.Stop()
		watchdog = t.C
	}
	// A reload waits for storage and for what it ends, and the watchdog does not: it has a
	// goroutine, one at a time, which the end waits for.
	hangups, reloaded := s.a.hangups, make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		if hangups == nil && s.a.hangups != nil {
			<-reloaded
		}
	}()
	for {
		select {
		case <-ctx.Done():
			s.a.log.Info("draining", "limit", drainTime)
			return nil
		case err := <-failed:
			return err
		case <-hangups:
			hangups = nil // one that comes now is kept until this reload is over
			go func() { reloaded <- s.reload(ctx) }()
		case err := <-reloaded:
			hangups = s.a.hangups
			if err != nil {
				s.a.log.Error("reload: the configuration stays as it was", "err", err)
			}
		case <-watchdog:
			// A server whose locks are not to be had does not get here.
			s.srv.Stats()
			s.tell("WATCHDOG=1")
		}
	}
}

// tell tells the service manager, if there is one.
func (s *daemon) tell(state string) {
	if err := s.systemd.notify(state); err != nil {
		s.a.log.Warn("service manager", "err", err)
	}
}

// reload reads the configuration again and puts it into force; on an error all stays as
// it was.
func (s *daemon) reload(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.systemd.reloading(); err != nil {
		s.a.log.Warn("service manager", "err", err)
	}
	defer s.tell("READY=1")
	set, err := s.a.settings(s.flags)
	if err != nil {
		return err
	}
	cfg := set.server
	var release func()
	if cfg.Shares, cfg.Homes, release, err = s.a.openShares(ctx, set, &s.stores); err != nil {
		return err
	}
	if err := s.audit.open(set.audit); err != nil {
		release()
		return err
	}
	before := s.accounts.conf.Swap(set.users)
	ctx, cancel := context.WithTimeout(ctx, reloadTime)
	defer cancel()
	switch err := s.srv.Reload(ctx, cfg); {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		// It is in force; trees that are to end may still be there.
		s.a.log.Warn("reload: not everything that is gone has ended in time", "err", err)
	case err != nil:
		s.accounts.conf.Store(before)
		release()
		return err
	}
	s.closed.Store(&set.closed)
	s.release()
	s.release = release
	if later := restartOnly(s.set, set); len(later) > 0 {
		s.a.log.Warn("reload: what has changed here takes effect when the server is started again", "parameters", strings.Join(later, ", "))
	}
	s.a.setLogLevel(set)
	// Those stay in force: they are compared with the next time, too.
	s.set = set.withRestartOnly(s.set)
	s.a.log.Info("reloaded", "shares", len(set.shares))
	return nil
}

// setLogLevel sets what the file says, unless --log-level does.
func (a *app) setLogLevel(s *settings) {
	if a.levelChosen || s.logLevel < 0 {
		return
	}
	a.level.Set(logLevelOf(s.logLevel))
}

// listen opens the listeners.
func (a *app) listen(ctx context.Context, set *settings, fab fabric, sockets map[string][]*net.TCPListener) (listeners []transport.Listener, served servedAddrs, err error) {
	add := func(rdma bool, ls ...transport.Listener) {
		for _, l := range ls {
			listeners = append(listeners, l)
			served.add(l, rdma)
		}
	}
	conf := tcp.Config{Logger: a.log}
	for _, ln := range sockets["tcp"] {
		l, err := tcp.NewListener(ln, conf)
		if err != nil {
			return listeners, served, fmt.Errorf("inherited socket %v: %w", ln.Addr(), err)
		}
		add(false, l)
	}
	fab.inherited = sockets["iwarp"]
	for _, ln := range fab.inherited {
		ls, err := listenRDMA(ctx, "iwarp://"+ln.Addr().String(), fab)
		if err != nil {
			return listeners, served, fmt.Errorf("inherited socket %v: %w", ln.Addr(), err)
		}
		add(true, ls...)
	}
	if len(sockets["tcp"]) == 0 {
		for _, addr := range set.tcp {
			l, err := tcp.Listen(ctx, addr, conf)
			if err != nil {
				return listeners, served, fmt.Errorf("--tcp %s: %w", addr, err)
			}
			add(false, l)
		}
	}
	for _, addr := range set.rdma {
		if strings.HasPrefix(addr, "iwarp:") && len(sockets["iwarp"]) > 0 {
			continue
		}
		ls, err := listenRDMA(ctx, addr, fab)
		if err != nil {
			return listeners, served, fmt.Errorf("--rdma %s: %w", addr, err)
		}
		add(true, ls...)
	}
	if set.rdmaDevices {
		add(true, listenDefaultVerbs(ctx, set.bound, fab)...)
	}
	if len(listeners) == 0 {
		return nil, served, usagef("nothing to listen on: give --tcp or --rdma")
	}
	return listeners, served, nil
}

// restartOnly names what is different and is only looked at when the server starts.
func restartOnly(old, now *settings) (names []string) {
	differ := func(name string, same bool) {
		if !same {
			names = append(names, name)
		}
	}
	o, n := &old.server, &now.server
	differ("netbios name", o.ServerName == n.ServerName)
	differ("workgroup", o.Domain == n.Domain)
	differ("server string", o.Comment == n.Comment)
	differ("server min protocol", o.MinDialect == n.MinDialect)
	differ("server max protocol", o.MaxDialect == n.MaxDialect)
	differ("server signing", o.Signing == n.Signing)
	differ("server smb encrypt in [global]", o.Encryption == n.Encryption)
	differ("server smb3 encryption algorithms", slices.Equal(o.Ciphers, n.Ciphers))
	differ("server smb3 signing algorithms", slices.Equal(o.SigningAlgorithms, n.SigningAlgorithms))
	differ("smb3 unix extensions in [global]", o.NoPOSIXExtensions == n.NoPOSIXExtensions)
	differ("map to guest", o.Guest == n.Guest)
	differ("deadtime", o.IdleTimeout == n.IdleTimeout)
	differ("limits", o.Limits == n.Limits)
	differ("smbd-rdma:durable time", o.MaxDurableTimeout == n.MaxDurableTimeout)
	differ("server smb encrypt, where it gives SMB Direct the room for data in messages", old.inline || !now.inline)
	differ("smb ports", slices.Equal(old.tcp, now.tcp))
	differ("smbd-rdma:rdma", slices.Equal(old.rdma, now.rdma))
	differ("server multi channel support", old.multiChan == now.multiChan)
	differ("smbd-rdma:http", old.http == now.http)
	differ("smbd-rdma:control", old.control == now.control)
	for i := range old.shares {
		for j := range now.shares {
			if a, b := &old.shares[i], &now.shares[j]; isMemory(a.path) && isMemory(b.path) && strings.EqualFold(a.Name, b.Name) {
				differ("the size of ["+b.Name+"]", a.path == b.path)
				differ("case sensitive of ["+b.Name+"]", a.caseSensitive == b.caseSensitive)
			}
		}
	}
	return names
}

// withRestartOnly is s with what is in force of old.
func (s *settings) withRestartOnly(old *settings) *settings {
	c := *s
	shares, hosts, deny := c.server.Shares, c.server.HostsAllow, c.server.HostsDeny
	c.server = old.server
	c.server.Shares, c.server.HostsAllow, c.server.HostsDeny = shares, hosts, deny
	c.tcp, c.rdma, c.rdmaDevices, c.interfaces = old.tcp, old.rdma, old.rdmaDevices, old.interfaces
	c.multiChan, c.http, c.control, c.inline = old.multiChan, old.http, old.control, old.inline
	return &c
}

// listenRDMA listens on PROVIDER://ADDR, which may be several addresses.
func listenRDMA(ctx context.Context, s string, fab fabric) ([]transport.Listener, error) {
	provider, addr, ok := strings.Cut(s, "://")
	if !ok {
		return nil, usagef("%q is not of the form PROVIDER://ADDR", s)
	}
	switch provider {
	case "iwarp":
		p, err := iwarp.New(fab.iwarp())
		if err != nil {
			return nil, err
		}
		l, err := smbdirect.Listen(ctx, p, provider, addr, fab.direct())
		if err != nil {
			return nil, err
		}
		return []transport.Listener{l}, nil
	case "verbs":
		return listenVerbs(ctx, addr, fab)
	}
	return nil, usagef("provider %q is not iwarp or verbs", provider)
}
