package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// drainTime bounds how long requests under way may take after SIGTERM.
const drainTime = 10 * time.Second

// serveFlags are the flags of serve.
type serveFlags struct {
	config  string
	shares  []string
	users   []string
	tcp     []string
	rdma    []string
	http    string
	control string
	flights string
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
finish, close the connections and end with exit status 0.`,
		Example: `  smbd-rdma serve --share data=/srv/data --share pub=/srv/pub,ro --user alice%secret
  smbd-rdma serve -c /etc/smbd-rdma/smb.conf --http 127.0.0.1:9445`,
		Args: checkArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context(), f) },
	}
	fs := c.Flags()
	fs.StringVarP(&f.config, "config", "c", "", "smb.conf with [global] and share sections; flags add to it and win")
	fs.StringArrayVar(&f.shares, "share", nil, "NAME=PATH[,ro][,guest]: a directory to serve; may be repeated")
	fs.StringArrayVar(&f.users, "user", nil, "NAME%PASSWORD: who may log on; may be repeated")
	fs.StringArrayVar(&f.tcp, "tcp", nil, "address for SMB over TCP, or none (default :445); may be repeated")
	fs.StringArrayVar(&f.rdma, "rdma", nil, "iwarp://ADDR or verbs://ADDR for SMB Direct, or none (default iwarp://:5445, and verbs on every RDMA device); may be repeated")
	fs.StringVar(&f.http, "http", "", "address for /metrics (Prometheus) and /healthz; off by default")
	fs.StringVar(&f.control, "control", "", "Unix socket for status and trace, or none (default: one in $XDG_RUNTIME_DIR/smbd-rdma, of root in /run/smbd-rdma)")
	fs.StringVar(&f.flights, "flight-dir", "", "directory for the last events of SMB Direct connections that die of an error (default: in the log)")
	fs.StringVar(&f.signing, "signing", "", "default (required but for SMB Direct clients that cannot sign RDMA data), offered (files then go from the page cache), or required (those clients then do without RDMA)")
	fs.StringVar(&f.encrypt, "encryption", "", "offered (default), required (SMB Direct clients that cannot encrypt RDMA data then do without RDMA), or off")
	fs.StringVar(&f.name, "name", "", "name of the server (default: the host's)")
	fs.BoolVar(&f.guest, "guest", false, "admit guests to shares with ,guest")
	return c
}

func (a *app) serve(ctx context.Context, f serveFlags) error {
	set, err := a.settings(f)
	if err != nil {
		return err
	}
	cfg := server.Config{
		Users: set.users, Guest: set.guest, ServerName: set.name, Domain: set.domain,
		Signing: set.signing, Encryption: set.encryption,
		MinDialect: set.minDialect, MaxDialect: set.maxDialect, Logger: a.log,
	}
	for _, sh := range set.shares {
		fsys, err := posix.New(sh.path, posix.Config{ReadOnly: sh.readOnly, CaseSensitive: sh.caseSensitive})
		if err != nil {
			return fmt.Errorf("share %s: %w", sh.name, err)
		}
		defer fsys.Close()
		cfg.Shares = append(cfg.Shares, server.Share{
			Name: sh.name, FS: fsys, Comment: sh.comment, ReadOnly: sh.readOnly,
			Guest: sh.guest, Hidden: sh.hidden, Encrypt: sh.encrypt, Users: sh.validUsers,
		})
	}

	flights, err := newFlightLog(a.log, f.flights)
	if err != nil {
		return err
	}
	fab := a.fabric()
	fab.onDeath = flights.died
	if fab.tap == nil {
		fab.tap = iwarp.NewTap()
	}
	var listeners []transport.Listener
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	var served servedAddrs
	for _, addr := range set.tcp {
		l, err := tcp.Listen(ctx, addr, tcp.Config{Logger: a.log})
		if err != nil {
			return fmt.Errorf("--tcp %s: %w", addr, err)
		}
		listeners = append(listeners, l)
		served.add(l, false)
	}
	rdma := func(ls []transport.Listener) {
		for _, l := range ls {
			listeners = append(listeners, l)
			served.add(l, true)
		}
	}
	for _, addr := range set.rdma {
		ls, err := listenRDMA(ctx, addr, fab)
		if err != nil {
			return fmt.Errorf("--rdma %s: %w", addr, err)
		}
		rdma(ls)
	}
	if set.rdmaDevices {
		rdma(listenDefaultVerbs(ctx, fab))
	}
	if len(listeners) == 0 {
		return usagef("nothing to listen on: give --tcp or --rdma")
	}
	cfg.Interfaces = func() []server.Interface { return networkInterfaces(served) }
	srv, err := server.New(cfg)
	if err != nil {
		return err
	}
	stopHTTP, err := a.serveHTTP(f.http, serverCollector{srv, flights})
	if err != nil {
		return err
	}
	defer stopHTTP()
	stopControl, err := a.serveControl(f.control, &control{srv: srv, tap: fab.tap, flights: flights, started: time.Now(), traces: map[string]context.CancelFunc{}})
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
	fmt.Fprintln(a.stdout, "ready")

	select {
	case <-ctx.Done():
		a.log.Info("draining", "limit", drainTime)
	case err = <-failed:
	}
	drain, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if e := srv.Shutdown(drain); e != nil {
		a.log.Warn("drain cut short", "err", e)
	}
	srv.Close()
	serving.Wait()
	st := srv.Stats()
	a.log.Info("served", "rdma_read_bytes", st.ReadRDMA, "rdma_write_bytes", st.WriteRDMA,
		"inline_read_bytes", st.ReadInline, "inline_write_bytes", st.WriteInline, "bytes_copied", st.BytesCopied)
	return err
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
