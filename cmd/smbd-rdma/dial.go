package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// connFlags say how a client command reaches its server. The names are those of
// smbclient where it has them.
type connFlags struct {
	user        string
	credentials string
	noPass      bool
	port        int
	rdmaPort    int
	maxChannels int
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
	fs.IntVarP(&f.port, "port", "p", 0, "port of the server, of TCP; with --transport iwarp or verbs of SMB Direct, unless --rdma-port says that (default 445 on TCP, RoCE and InfiniBand, 5445 on iWARP)")
	fs.IntVar(&f.rdmaPort, "rdma-port", 0, "port of the server's SMB Direct (default as above)")
	fs.IntVar(&f.maxChannels, "max-channels", 0, fmt.Sprintf("connections for file bytes, at most %d; 0 is one for each RDMA interface of the server, up to %d, or one on TCP; beside RDMA there is one more on TCP to fall back on, but not with --transport iwarp or verbs and 0 or 1, which is a single connection", client.MaxChannels, client.DefaultRDMAChannels))
	fs.StringVar(&f.transport, "transport", "auto", "auto, tcp, iwarp or verbs; auto begins on TCP, moves to the RDMA that the server lists and back if that dies; without such a list it tries SMB Direct at its port")
	fs.IntVar(&f.threshold, "rdma-threshold", 0, "bytes from which a read or write goes by RDMA; 1 is always, 0 what suits the adapter: 4096 and with iWARP in software 16384")
	fs.DurationVar(&f.timeout, "timeout", client.DefaultTimeout, "limit for the answer to one request")
	fs.StringVar(&f.sign, "signing", "if-required", "if-required, required or off; RDMA data is signed too where the server can, else goes in messages")
	fs.BoolVar(&f.encrypt, "encrypt", false, "encrypt everything, or fail; RDMA data too where the server can, else it goes in messages")
}

// ports says where TCP is, and SMB Direct (0: at the port of the kind of device), and
// whether sessions begin on SMB Direct.
func (f *connFlags) ports() (plain, rdma int, direct bool) {
	plain, rdma = tcp.DefaultPort, f.rdmaPort
	direct = f.transport == "iwarp" || f.transport == "verbs" || f.transport == "rdma" ||
		f.transport == "auto" && f.port == smbdirect.DefaultIWARPPort && rdma == 0 // registered for that alone
	switch {
	case direct && rdma == 0:
		rdma = f.port
	case f.port != 0:
		plain = f.port
	}
	return plain, rdma, direct
}

// config makes the client's configuration of the flags.
func (a *app) clientConfig() (client.Config, error) {
	f := &a.conn
	c := client.Config{RDMAThreshold: f.threshold, Timeout: f.timeout, Logger: a.log}
	if f.threshold < 0 {
		return c, usagef("--rdma-threshold %d is below 0", f.threshold)
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
		var err error
		if password, err = a.askPassword(user, fmt.Sprintf("-U %s%%PASSWORD, -A FILE, PASSWD in the environment, or -N", user)); err != nil {
			return c, err
		}
	}
	c.User, c.Password = user, password
	return c, nil
}

// askPassword takes the password from the environment, or asks for it on a terminal.
// other says how else it can be given.
func (a *app) askPassword(user, other string) (string, error) {
	if p, ok := os.LookupEnv("PASSWD"); ok {
		return p, nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return "", usagef("no password for %s: use %s", user, other)
	}
	fmt.Fprintf(a.stderr, "Password for %s: ", user)
	p, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(a.stderr)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return string(p), nil
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
