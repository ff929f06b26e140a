package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// connFlags say how a client command reaches its server. The names are those of
// smbclient where it has them.
type connFlags struct {
	user        string
	credentials string
	noPass      bool
	port        int
	transport   string
	threshold   int
	timeout     time.Duration
	sign        string
	encrypt     bool
}

func (f *connFlags) register(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVarP(&f.user, "user", "U", "", "[DOMAIN/]NAME[%PASSWORD]; the password is asked for if it is not given")
	fs.StringVarP(&f.credentials, "authentication-file", "A", "", "file with lines username=, password= and domain=")
	fs.BoolVarP(&f.noPass, "no-pass", "N", false, "do not ask for a password")
	fs.IntVarP(&f.port, "port", "p", 0, "port of the server (default 445 on TCP, RoCE and InfiniBand, 5445 on iWARP)")
	fs.StringVar(&f.transport, "transport", "auto", "auto, tcp, iwarp or verbs; auto tries verbs where an RDMA device is on the way, iwarp, then tcp, and says so")
	fs.IntVar(&f.threshold, "rdma-threshold", client.DefaultRDMAThreshold, "bytes from which a read or write goes by RDMA; 1 is always")
	fs.DurationVar(&f.timeout, "timeout", client.DefaultTimeout, "limit for the answer to one request")
	fs.StringVar(&f.sign, "signing", "if-required", "if-required, required or off")
	fs.BoolVar(&f.encrypt, "encrypt", false, "encrypt everything, or fail; RDMA is not used then")
}

// config makes the client's configuration of the flags.
func (a *app) clientConfig() (client.Config, error) {
	f := &a.conn
	c := client.Config{RDMAThreshold: f.threshold, Timeout: f.timeout, Logger: a.log}
	if f.threshold < 1 {
		return c, usagef("--rdma-threshold %d is below 1", f.threshold)
	}
	switch f.sign {
	case "if-required":
	case "required":
		c.Signing = client.SigningRequired
	case "off":
		c.Signing = client.SigningOff
	default:
		return c, usagef("--signing %q is not if-required, required or off", f.sign)
	}
	if f.encrypt {
		c.Encryption = client.EncryptRequired
	}
	user, password, given := strings.Cut(f.user, "%")
	if f.credentials != "" {
		if f.user != "" {
			return c, usagef("-U and -A exclude each other")
		}
		var err error
		if user, password, c.Domain, err = readCredentials(f.credentials); err != nil {
			return c, err
		}
		given = true
	}
	if d, n, ok := strings.Cut(strings.ReplaceAll(user, `\`, "/"), "/"); ok {
		c.Domain, user = d, n
	}
	if user != "" && !given && !f.noPass {
		if p, ok := os.LookupEnv("PASSWD"); ok {
			password = p
		} else if term.IsTerminal(int(os.Stdin.Fd())) {
			fmt.Fprintf(a.stderr, "Password for %s: ", user)
			p, err := term.ReadPassword(int(os.Stdin.Fd()))
			fmt.Fprintln(a.stderr)
			if err != nil {
				return c, fmt.Errorf("read the password: %w", err)
			}
			password = string(p)
		} else {
			return c, usagef("no password for %s: use -U %s%%PASSWORD, -A FILE, PASSWD in the environment, or -N", user, user)
		}
	}
	c.User, c.Password = user, password
	return c, nil
}

// readCredentials reads a file as smbclient's and mount.cifs's: key = value lines.
func readCredentials(name string) (user, password, domain string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", "", "", err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		k, v, ok := strings.Cut(s.Text(), "=")
		if !ok {
			continue
		}
		v = strings.TrimSpace(v)
		switch strings.TrimSpace(k) {
		case "username", "user":
			user = v
		case "password", "pass":
			password = v
		case "domain", "dom", "workgroup":
			domain = v
		}
	}
	if err := s.Err(); err != nil {
		return "", "", "", err
	}
	if user == "" {
		return "", "", "", fmt.Errorf("%s: no line username=NAME", name)
	}
	return user, password, domain, nil
}

// way is one way to a server.
type way struct {
	transport.Dialer
	port int // 0: that of the device
}

// addr is what to dial for a host.
func (w way) addr(host string) string {
	if w.port == 0 {
		return host
	}
	return net.JoinHostPort(host, strconv.Itoa(w.port))
}

// ways returns what --transport allows towards a host, in the order of trying.
func (a *app) ways(ctx context.Context, host string) ([]way, error) {
	f := &a.conn
	if f.port < 0 || f.port > 65535 {
		return nil, usagef("--port %d is not a port", f.port)
	}
	provider, err := iwarp.New(iwarp.Config{Logger: a.log})
	if err != nil {
		return nil, err
	}
	d, err := smbdirect.NewDialer(provider, "iwarp", smbdirect.Config{Logger: a.log})
	if err != nil {
		return nil, err
	}
	t, err := tcp.NewDialer(tcp.Config{Logger: a.log})
	if err != nil {
		return nil, err
	}
	rdma, plain := way{d, smbdirect.DefaultIWARPPort}, way{t, tcp.DefaultPort}
	if f.port != 0 {
		rdma.port, plain.port = f.port, f.port
	}
	switch f.transport {
	case "tcp":
		return []way{plain}, nil
	case "iwarp":
		return []way{rdma}, nil
	case "verbs":
		v, err := newVerbsDialer(a.log)
		if err != nil {
			return nil, fmt.Errorf("--transport verbs: %w", err)
		}
		return []way{{v, f.port}}, nil
	case "auto":
		var out []way
		if rdmaTo(ctx, host) {
			if v, err := newVerbsDialer(a.log); err == nil {
				out = append(out, way{v, f.port})
			} else {
				a.log.Debug("no verbs", "err", err)
			}
		}
		// The ports that are registered for one transport are that one's.
		switch f.port {
		case smbdirect.DefaultIWARPPort:
			return append(out, rdma), nil
		case tcp.DefaultPort:
			return append(out, plain), nil
		}
		return append(out, rdma, plain), nil
	}
	return nil, usagef("--transport %q is not auto, tcp, iwarp or verbs", f.transport)
}

// tryTime bounds an attempt after which there is another way: a firewall may
// swallow what goes to SMB Direct's port.
const tryTime = 5 * time.Second

// dial connects and logs on to a host. What it falls back to is said on stderr.
func (a *app) dial(ctx context.Context, host string) (*client.Session, error) {
	host = strings.Trim(host, "[]")
	ways, err := a.ways(ctx, host)
	if err != nil {
		return nil, err
	}
	cfg, err := a.clientConfig()
	if err != nil {
		return nil, err
	}
	cfg.ServerName = host
	var errs []error
	for i, d := range ways {
		addr := d.addr(host)
		last := i+1 == len(ways)
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
				next := ways[i+1]
				if next.Scheme() == "tcp" {
					a.log.Warn("no SMB Direct, falling back to TCP", "addr", addr, "err", err)
				} else {
					a.log.Warn("no SMB Direct by this way, trying the next", "addr", addr, "transport", d.Scheme(), "next", next.Scheme(), "err", err)
				}
			}
			continue
		}
		s, err := client.New(ctx, conn, cfg)
		if err != nil {
			return nil, fmt.Errorf("%s://%s: %w", d.Scheme(), addr, err)
		}
		used, why := s.RDMAStatus()
		a.log.Debug("connected", "addr", addr, "transport", d.Scheme(), "rdma", used, "why", why)
		if conn.RDMA() != nil && !used {
			a.log.Warn("file bytes will not go by RDMA", "why", why)
		}
		return s, nil
	}
	return nil, errors.Join(errs...)
}
