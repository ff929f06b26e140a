package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/smbd-rdma/smbd-rdma/bench/engine"
	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/verbs"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// benchEnv is how engines reach servers. Who is to log on is known when it returns: what
// is not in a job is read from files and asked for here, once for each name.
func (a *app) benchEnv(plan *job.Plan) (*engine.Env, error) {
	passwords := map[string]string{}
	for _, j := range plan.Jobs {
		r := &j.Remote
		switch j.Engine {
		case job.EngineSMB, job.EngineSMBDirect, job.EngineGoSMB2:
		default:
			continue
		}
		if r.Credentials != "" {
			user, password, domain, err := readCredentials(r.Credentials)
			if err != nil {
				return nil, usageError{&job.Error{File: j.File, Line: j.Line, Section: j.Name, Option: "credentials=" + r.Credentials, Msg: err.Error(), Err: err}}
			}
			if domain != "" {
				user = domain + "/" + user
			}
			r.User, r.Password, r.Credentials = user, password, ""
			continue
		}
		user, password, given := strings.Cut(r.User, "%")
		r.User = user
		switch known, ok := passwords[user]; {
		case given:
			r.Password = password
		case r.Password != "" || user == "":
		case ok:
			r.Password = known
		default:
			p, err := a.askPassword(user, "password= or credentials= of the job, or PASSWD in the environment")
			if err != nil {
				return nil, err
			}
			r.Password, passwords[user] = p, p
		}
	}
	return &engine.Env{Session: a.benchSession, Stream: a.benchStream, Adapter: a.benchAdapter}, nil
}

// benchSession is engine.Env.Session.
func (a *app) benchSession(ctx context.Context, o *job.EngineOptions, direct bool) (*client.Session, error) {
	host, port, err := serverAddr(o.Server)
	if err != nil {
		return nil, err
	}
	sub := &app{stdin: a.stdin, stdout: a.stdout, stderr: a.stderr, log: a.log, tap: a.tap, conn: connFlags{
		noPass: true, transport: "tcp", port: port, maxChannels: o.Channels, threshold: o.RDMAThreshold,
		timeout: client.DefaultTimeout, sign: o.Signing, encrypt: o.Encryption == "required",
	}}
	if direct { // and nothing else: what moved the bytes is what is measured
		sub.conn.transport = o.Transport
	}
	cfg, err := sub.clientConfig()
	if err != nil {
		return nil, err
	}
	cfg.Domain, cfg.User = splitDomain(o.User)
	cfg.Password = o.Password
	return sub.dialAs(ctx, host, cfg)
}

// benchStream is engine.Env.Stream.
func (a *app) benchStream(ctx context.Context, o *job.EngineOptions) (conn net.Conn, domain, user, password string, err error) {
	host, port, err := serverAddr(o.Server)
	if err != nil {
		return nil, "", "", "", err
	}
	if port == 0 {
		port = tcp.DefaultPort
	}
	domain, user = splitDomain(o.User)
	conn, err = new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	return conn, domain, user, o.Password, err
}

// serverAddr splits HOST or HOST:PORT; port is 0 if there is none.
func serverAddr(s string) (host string, port int, err error) {
	if strings.Count(s, ":") > 1 && !strings.HasPrefix(s, "[") { // a bare address of IPv6
		return s, 0, nil
	}
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		return strings.Trim(s, "[]"), 0, nil
	}
	if port, err = strconv.Atoi(text); err != nil || port < 1 || port > 65535 || host == "" {
		return "", 0, fmt.Errorf("server=%s is not HOST or HOST:PORT", s)
	}
	return host, port, nil
}

// splitDomain splits DOMAIN/NAME or DOMAIN\NAME.
func splitDomain(s string) (domain, user string) {
	if d, u, ok := strings.Cut(strings.ReplaceAll(s, `\`, "/"), "/"); ok {
		return d, u
	}
	return "", s
}

// peerPort is where bench peer listens unless it is told otherwise: the port of perftest.
const peerPort = 18515

// benchAdapter is engine.Env.Adapter.
func (a *app) benchAdapter(ctx context.Context, o *job.EngineOptions) (ndk.Adapter, netip.AddrPort, error) {
	host, port, err := serverAddr(o.Server)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	ips, err := lookup(ctx, host)
	if err != nil {
		return nil, netip.AddrPort{}, fmt.Errorf("server=%s: %w", o.Server, err)
	}
	at := netip.AddrPortFrom(ips[0], uint16(cmp.Or(port, peerPort)))
	local, err := sourceFor(at.Addr())
	if err != nil {
		return nil, at, err
	}
	adapter, err := a.openAdapter(ctx, o.Provider, local)
	return adapter, at, err
}

// openAdapter opens the adapter of a provider that has an address of this machine.
func (a *app) openAdapter(ctx context.Context, provider string, local netip.Addr) (ndk.Adapter, error) {
	var p ndk.Provider
	var err error
	if provider == "verbs" {
		p, err = verbs.New(verbs.Config{Logger: a.log})
	} else {
		p, err = iwarp.New(a.fabric().iwarp())
	}
	if err != nil {
		return nil, err
	}
	return p.Open(ctx, local, ndk.Version12)
}

func (a *app) benchPeerCommand() *cobra.Command {
	var provider string
	c := &cobra.Command{
		Use:   "peer ADDRESS[:PORT]",
		Short: "the other end of the bench's engines ndk-write, ndk-read and ndk-send",
		Long: fmt.Sprintf(`Serves the engines ndk-write, ndk-read and ndk-send, which measure RDMA without SMB,
until it is interrupted. Who can reach the address may read and overwrite its memory,
which is of no value: up to 1 GiB for each of up to 16 peers. Port %d unless another is
given; 0 is any.`, peerPort),
		Example: "  smbd-rdma bench peer 192.0.2.1\n  smbd-rdma bench --ioengine=ndk-write --server=192.0.2.1 --name=w --rw=write --bs=1m --size=10g",
		Args:    checkArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if provider != "iwarp" && provider != "verbs" {
				return usagef("--provider %q is not iwarp or verbs", provider)
			}
			host, text, err := net.SplitHostPort(args[0])
			if err != nil {
				host, text = strings.Trim(args[0], "[]"), strconv.Itoa(peerPort)
			}
			ip, err := netip.ParseAddr(host)
			port, perr := strconv.ParseUint(text, 10, 16)
			if err != nil || perr != nil {
				return usagef("%q is not an address of this machine, with or without a port", args[0])
			}
			adapter, err := a.openAdapter(cmd.Context(), provider, ip)
			if err != nil {
				return err
			}
			defer adapter.Close()
			return engine.ServeRaw(cmd.Context(), adapter, netip.AddrPortFrom(ip, uint16(port)), func(at netip.AddrPort) {
				fmt.Fprintf(a.stdout, "listening on %s://%s\n", provider, at)
			})
		},
	}
	c.Flags().StringVar(&provider, "provider", "iwarp", "iwarp or verbs")
	return c
}
