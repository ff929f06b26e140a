package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(childServer())
	}
	goleak.VerifyTestMain(m)
}

// patience bounds what a test waits for; it is reached only when a test fails.
const patience = 20 * time.Second

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await returns when cond does not object any more.
func await(t testing.TB, cond func() error) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		err := cond()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("never came true: %v", err)
		}
	}
}

// options of a site.
type options struct {
	iwarp  iwarp.Config
	direct smbdirect.Config
	server func(*server.Config)
	// wrap stands between the server and a connection that it accepts.
	wrap func(transport.Conn) transport.Conn
}

// site is a server on both transports.
type site struct {
	t        testing.TB
	dir      string // what the share "data" holds
	srv      *server.Server
	adapter  ndk.Adapter
	tcp, rdm *watched
	served   chan error
}

// watched is a listener whose connections are looked after.
type watched struct {
	transport.Listener
	wrap func(transport.Conn) transport.Conn

	mu    sync.Mutex
	conns map[*watchedConn]struct{} // guarded by mu: accepted, and not closed with nothing left
}

type watchedConn struct {
	transport.Conn
	l      *watched
	closed atomic.Bool
}

func (l *watched) Accept(ctx context.Context) (transport.Conn, error) {
	c, err := l.Listener.Accept(ctx)
	if err != nil {
		return nil, err
	}
	if l.wrap != nil {
		c = l.wrap(c)
	}
	w := &watchedConn{Conn: c, l: l}
	l.mu.Lock()
	l.conns[w] = struct{}{}
	l.mu.Unlock()
	return w, nil
}

func (c *watchedConn) Close() error {
	err := c.Conn.Close()
	c.closed.Store(true)
	return err
}

// holds counts connections, and what is leased and registered on them.
func (l *watched) holds() (conns, leased, registered int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		st := c.Stats()
		leased += st.LeasedBuffers
		registered += st.Registrations
		if c.closed.Load() {
			conns--
			if st.LeasedBuffers == 0 && st.Registrations == 0 {
				delete(l.conns, c)
			}
		}
		conns++
	}
	return conns, leased, registered
}

const user, password = "ann", "secret"

// newSite starts a server with the writable share "data". With the test it ends,
// and everything that it made of the RDMA adapter must be gone then.
func newSite(t testing.TB, o options) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), served: make(chan error, 2)}
	fsys, err := posix.New(s.dir, posix.Config{})
	must(t, err)
	users, err := server.ParseUsers(user + "%" + password)
	must(t, err)
	cfg := server.Config{
		Shares: []server.Share{{Name: "data", FS: fsys}, {Name: "sealed", FS: fsys, Encrypt: true}},
		Users:  users, ServerName: "NAS",
	}
	if os.Getenv("E2E_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
		o.direct.Logger, o.iwarp.Logger = cfg.Logger, cfg.Logger
	}
	if o.server != nil {
		o.server(&cfg)
	}
	s.srv, err = server.New(cfg)
	must(t, err)
	ctx := context.Background()
	tl, err := tcp.Listen(ctx, "127.0.0.1:0", tcp.Config{})
	must(t, err)
	p, err := iwarp.New(o.iwarp)
	must(t, err)
	s.adapter, err = p.Open(ctx, netip.MustParseAddr("127.0.0.1"), ndk.Version12)
	must(t, err)
	dl, err := smbdirect.NewListener(ctx, s.adapter, "iwarp", "127.0.0.1:0", o.direct)
	must(t, err)
	s.tcp = &watched{Listener: tl, wrap: o.wrap, conns: map[*watchedConn]struct{}{}}
	s.rdm = &watched{Listener: dl, wrap: o.wrap, conns: map[*watchedConn]struct{}{}}
	for _, l := range []transport.Listener{s.tcp, s.rdm} {
		go func() { s.served <- s.srv.Serve(ctx, l) }() // ended by Close below, which waits
	}
	t.Cleanup(func() {
		s.srv.Close()
		for range 2 {
			if err := <-s.served; !errors.Is(err, server.ErrServerClosed) {
				t.Errorf("Serve: %v", err)
			}
		}
		fsys.Close()
		for _, l := range []*watched{s.tcp, s.rdm} {
			if n, leased, regs := l.holds(); n+leased+regs > 0 {
				t.Errorf("%s: %d connections, %d leased, %d registered", l.Scheme(), n, leased, regs)
			}
		}
		s.adapter.Close()
		select { // it closes when its last object has
		case <-s.adapter.Closed():
		case <-time.After(patience):
			t.Error("objects of the RDMA adapter are left")
		}
	})
	return s
}

// dialer reaches a listener of the site.
func dialer(t testing.TB, scheme string) transport.Dialer {
	t.Helper()
	if scheme == "tcp" {
		d, err := tcp.NewDialer(tcp.Config{})
		must(t, err)
		return d
	}
	p, err := iwarp.New(iwarp.Config{})
	must(t, err)
	d, err := smbdirect.NewDialer(p, "iwarp", smbdirect.Config{})
	must(t, err)
	return d
}

func (s *site) addr(scheme string) string {
	if scheme == "tcp" {
		return s.tcp.Addr().String()
	}
	return s.rdm.Addr().String()
}

// mount logs on at addr, which is the site's or leads there.
func mount(ctx context.Context, d transport.Dialer, addr string, cfg client.Config) (*client.Share, error) {
	cfg.User, cfg.Password = user, password
	sess, err := client.Dial(ctx, d, addr, cfg)
	if err != nil {
		return nil, err
	}
	sh, err := sess.Mount(ctx, "data")
	if err != nil {
		sess.Close()
		return nil, err
	}
	return sh, nil
}

// good is a client that does it right, all the time.
type good struct {
	scheme   string
	sh       *client.Share
	f        *client.File
	round    uint64
	buf, got []byte
}

const goodSize = 100_000 // by RDMA where there is that

func (s *site) good(scheme string) *good {
	s.t.Helper()
	ctx := context.Background()
	sh, err := mount(ctx, dialer(s.t, scheme), s.addr(scheme), client.Config{})
	must(s.t, err)
	s.t.Cleanup(func() { sh.Session().Close() })
	f, err := sh.Create(ctx, "good-"+scheme)
	must(s.t, err)
	return &good{scheme: scheme, sh: sh, f: f, buf: make([]byte, goodSize), got: make([]byte, goodSize)}
}

// work writes something new and reads it back, long and short.
func (g *good) work() error {
	g.round++
	rand.NewChaCha8([32]byte{byte(g.round), byte(g.round >> 8), byte(len(g.scheme))}).Read(g.buf)
	for _, n := range []int{goodSize, 100} {
		clear(g.got)
		if _, err := g.f.WriteAt(g.buf[:n], 0); err != nil {
			return fmt.Errorf("%s client writes %d: %w", g.scheme, n, err)
		}
		if _, err := g.f.ReadAt(g.got[:n], 0); err != nil {
			return fmt.Errorf("%s client reads %d: %w", g.scheme, n, err)
		}
		if !bytes.Equal(g.got[:n], g.buf[:n]) {
			return fmt.Errorf("%s client reads %d octets, and others than it wrote", g.scheme, n)
		}
	}
	return nil
}

// town is a site with a good client on each transport, and what there is while
// they alone are there.
type town struct {
	*site
	goods []*good
	fds   int
	stack map[string]int
}

func newTown(t testing.TB, o options) *town {
	t.Helper()
	w := &town{site: newSite(t, o)}
	w.goods = []*good{w.good("tcp"), w.good("iwarp")}
	for range 3 {
		for _, g := range w.goods {
			must(t, g.work())
		}
	}
	// The first connections make what stays, as pools and pollers.
	for _, scheme := range []string{"tcp", "iwarp"} {
		sh, err := mount(context.Background(), dialer(t, scheme), w.addr(scheme), client.Config{})
		must(t, err)
		must(t, sh.Session().Close())
	}
	await(t, w.onlyGood)
	w.fds, w.stack = descriptors(t), goroutines()
	return w
}

// onlyGood objects while others than the good clients hold something.
func (w *town) onlyGood() error {
	n := len(w.goods)
	if st := w.srv.Stats(); st.Connections != n || st.Sessions != n || st.Trees != n || st.Opens != n {
		return fmt.Errorf("server holds %d connections, %d sessions, %d trees, %d opens; want %d of each", st.Connections, st.Sessions, st.Trees, st.Opens, n)
	}
	for _, l := range []*watched{w.tcp, w.rdm} {
		if c, leased, regs := l.holds(); c != 1 || leased+regs != 0 {
			return fmt.Errorf("%s: %d connections, %d leased, %d registered", l.Scheme(), c, leased, regs)
		}
	}
	for _, g := range w.goods {
		if st := g.sh.Session().TransportStats(); st.LeasedBuffers+st.Registrations != 0 {
			return fmt.Errorf("good client on %s holds %+v", g.scheme, st)
		}
	}
	return nil
}

// check has the good clients work, and waits until everything is as it was.
func (w *town) check(t testing.TB) {
	t.Helper()
	for _, g := range w.goods {
		must(t, g.work())
	}
	await(t, func() error {
		if err := w.onlyGood(); err != nil {
			return err
		}
		if n := descriptors(t); n > w.fds {
			return fmt.Errorf("%d descriptors, want %d", n, w.fds)
		}
		for k, n := range goroutines() {
			if n > w.stack[k] {
				return fmt.Errorf("%d goroutines of %s, want %d", n, k, w.stack[k])
			}
		}
		return nil
	})
}

func descriptors(t testing.TB) int {
	t.Helper()
	d, err := os.Open("/proc/self/fd")
	must(t, err)
	defer d.Close()
	names, err := d.Readdirnames(-1)
	must(t, err)
	return len(names)
}

// goroutines counts them by what made them. Those that live connections and
// the runtime keep and drop as the work goes are left out: the workers of a
// connection, which goleak sees when they outlive it, and the senders of a QP,
// which are there while the socket is full.
func goroutines() map[string]int {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	count := map[string]int{}
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		_, made, ok := strings.Cut(g, "\ncreated by ")
		if !ok {
			continue
		}
		made, _, _ = strings.Cut(made, "\n")
		made, _, _ = strings.Cut(made, " in goroutine")
		if strings.Contains(made, "server.(*conn).dispatch") || strings.HasPrefix(made, "testing.") || strings.HasPrefix(made, "runtime.") {
			continue
		}
		count[made]++
	}
	return count
}

func (s *site) read(name string) []byte {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	must(s.t, err)
	return b
}

// octets are n octets that depend on the seed.
func octets(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}
