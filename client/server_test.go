package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"

	"go.uber.org/goleak"

	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a server of this module with the writable share "data", over a link.
type site struct {
	dir  string // what the share holds
	d    transport.Dialer
	addr string
}

func newSite(t testing.TB, lc linkConfig, change func(*server.Config)) *site {
	t.Helper()
	l := listenLink(lc)
	return newSiteOn(t, l, l, change)
}

// newSiteOn serves what l accepts; d reaches it.
func newSiteOn(t testing.TB, l transport.Listener, d transport.Dialer, change func(*server.Config)) *site {
	t.Helper()
	dir := t.TempDir()
	fsys, err := posix.New(dir, posix.Config{})
	if err != nil {
		t.Fatal(err)
	}
	users, err := server.ParseUsers("ann%secret")
	if err != nil {
		t.Fatal(err)
	}
	cfg := server.Config{
		Shares: []server.Share{{Name: "data", FS: fsys, Comment: "all of it"}, {Name: "sealed", FS: fsys, Encrypt: true}},
		Users:  users, ServerName: "NAS",
	}
	if change != nil {
		change(&cfg)
	}
	srv, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{dir: dir, d: d, addr: l.Addr().String()}
	served := make(chan struct{})
	go func() { // ended by srv.Close below, which waits
		defer close(served)
		_ = srv.Serve(context.Background(), l)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-served
		fsys.Close()
	})
	return s
}

func (s *site) dial(t testing.TB, cfg Config) *Session {
	t.Helper()
	if cfg.User == "" {
		cfg.User, cfg.Password = "ann", "secret"
	}
	sess, err := Dial(context.Background(), s.d, s.addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sess.Close() })
	return sess
}

func (s *site) mount(t testing.TB, cfg Config) *Share {
	t.Helper()
	sh, err := s.dial(t, cfg).Mount(context.Background(), "data")
	if err != nil {
		t.Fatal(err)
	}
	return sh
}

func (s *site) file(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o666); err != nil {
		t.Fatal(err)
	}
}

func random(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(p)
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// [MS-SMB2] 3.2.4.6, 3.2.4.7 (SM-04, SM-06, SM-07, SM-08, SM-20): long READ and
// WRITE go by RDMA and copy nothing, short ones go inline; a session that signs or
// encrypts does so with RDMA data if the server can, else sends all inline; every
// registration is given back.
func TestReadWriteOverRDMA(t *testing.T) {
	for _, c := range []struct {
		name     string
		link     linkConfig
		cfg      Config
		server   func(*server.Config)
		path     DataPath
		declined bool
	}{
		{name: "tcp-like"},
		{name: "invalidate", link: linkConfig{rdma: true}, path: PathRDMA},
		{name: "no-invalidation", link: linkConfig{rdma: true, noInvalidate: true}, path: PathRDMA},
		{name: "3.0", link: linkConfig{rdma: true}, cfg: Config{MaxDialect: SMB300}, path: PathRDMA},
		{name: "3.0.2", link: linkConfig{rdma: true}, cfg: Config{MaxDialect: SMB302}, path: PathRDMA},
		{name: "many-descriptors", link: linkConfig{rdma: true, split: 300_000}, path: PathRDMA},
		{name: "small-transfers", link: linkConfig{rdma: true, maxRDMA: 65536}, path: PathRDMA},
		{name: "threshold-negative", link: linkConfig{rdma: true}, cfg: Config{RDMAThreshold: -1}},
		{name: "signed", link: linkConfig{rdma: true}, cfg: Config{Signing: SigningRequired}, path: PathRDMASigned},
		{name: "encrypted", link: linkConfig{rdma: true}, cfg: Config{Encryption: EncryptRequired}, path: PathRDMAEncrypted},
		{name: "signed, many descriptors", link: linkConfig{rdma: true, split: 300_000}, cfg: Config{Signing: SigningRequired}, path: PathRDMASigned},
		{name: "encrypted, many descriptors", link: linkConfig{rdma: true, split: 300_000}, cfg: Config{Encryption: EncryptRequired}, path: PathRDMAEncrypted},
		{name: "encrypted, small transfers", link: linkConfig{rdma: true, maxRDMA: 65536}, cfg: Config{Encryption: EncryptRequired}, path: PathRDMAEncrypted},
		{name: "server-signs", link: linkConfig{rdma: true}, server: func(c *server.Config) { c.Signing = server.PolicyRequired }, path: PathRDMASigned},
		{name: "server's default", link: linkConfig{rdma: true}, server: func(*server.Config) {}, path: PathRDMASigned},
		{name: "server's default in 3.0.2", link: linkConfig{rdma: true}, cfg: Config{MaxDialect: SMB302}, server: func(*server.Config) {}, path: PathRDMA},
		{name: "server's default, client without transforms", link: linkConfig{rdma: true}, cfg: Config{RDMATransforms: []RDMATransform{}}, server: func(*server.Config) {}, path: PathRDMA},
		{name: "server-encrypts", link: linkConfig{rdma: true}, server: func(c *server.Config) { c.Encryption = server.PolicyRequired }, path: PathRDMAEncrypted},
		{name: "old server, signed", link: linkConfig{rdma: true}, cfg: Config{Signing: SigningRequired}, server: noTransforms, declined: true},
		{name: "old server, encrypted", link: linkConfig{rdma: true}, cfg: Config{Encryption: EncryptRequired}, server: noTransforms, declined: true},
		{name: "old server, plain", link: linkConfig{rdma: true}, server: noTransforms, path: PathRDMA},
		{name: "3.0.2, signed", link: linkConfig{rdma: true}, cfg: Config{MaxDialect: SMB302, Signing: SigningRequired}, declined: true},
		{name: "small-window", link: linkConfig{rdma: true}, cfg: Config{Window: 1, MaxIOSize: 100_000}, path: PathRDMA},
		{name: "few-credits", link: linkConfig{rdma: true}, cfg: Config{MaxCredits: 4}, path: PathRDMA},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.server == nil {
				c.server = leaveSigning
			}
			s := newSite(t, c.link, c.server)
			ctx := context.Background()
			sh := s.mount(t, c.cfg)
			sess := sh.Session()
			wantRDMA := c.path != PathInline
			if used, why := sh.RDMAStatus(); used != wantRDMA || used != (why == "") || sh.DataPath() != c.path {
				t.Fatalf("RDMAStatus %v, %q; %v", used, why, sh.DataPath())
			}
			data := random(3<<20 + 12345)
			f, err := sh.Create(ctx, "f")
			must(t, err)
			if n, err := f.WriteAt(data, 7); n != len(data) || err != nil {
				t.Fatal(n, err)
			}
			if n, err := f.WriteAt([]byte("1234567"), 0); n != 7 || err != nil {
				t.Fatal(n, err)
			}
			disk, err := os.ReadFile(filepath.Join(s.dir, "f"))
			must(t, err)
			if !bytes.Equal(disk[:7], []byte("1234567")) || !bytes.Equal(disk[7:], data) {
				t.Fatal("what is on disk is not what was written")
			}
			got := make([]byte, len(disk)+100)
			if n, err := f.ReadAt(got, 0); n != len(disk) || err != io.EOF {
				t.Fatal(n, err)
			}
			if !bytes.Equal(got[:len(disk)], disk) || !bytes.Equal(got[len(disk):], make([]byte, 100)) {
				t.Fatal("what was read is not what is on disk")
			}
			if n, err := f.ReadAt(got[:5], int64(len(disk))-5); n != 5 || !bytes.Equal(got[:5], disk[len(disk)-5:]) {
				t.Fatal(n, err)
			}
			if n, err := f.ReadAt(make([]byte, 5000), int64(len(disk))); n != 0 || err != io.EOF {
				t.Fatal(n, err)
			}
			must(t, f.Close())
			st := sess.Stats()
			if wantRDMA {
				copied := st.InlineBytesRead
				if c.path != PathRDMA { // messages are joined to be signed, or encrypted
					copied += st.InlineBytesWritten
				}
				// What is below the threshold is inline: 7 bytes written, 5 read,
				// and the ends of the transfers that are cut into pieces.
				if st.BytesCopied != copied || st.RDMABytesWritten+st.InlineBytesWritten != uint64(len(disk)) ||
					st.RDMABytesRead+st.InlineBytesRead != uint64(len(disk)+5) || st.InlineBytesRead > 5+4096 || st.InlineBytesWritten > 7+4096 {
					t.Fatalf("%+v", st)
				}
			} else if st.RDMAReads+st.RDMAWrites != 0 || st.InlineBytesRead != uint64(len(disk)+5) {
				t.Fatalf("%+v", st)
			}
			moved := map[DataPath]uint64{c.path: st.RDMABytesRead + st.RDMABytesWritten}
			if st.RDMABytesSigned != moved[PathRDMASigned] || st.RDMABytesEncrypted != moved[PathRDMAEncrypted] {
				t.Fatalf("%+v", st)
			}
			if c.declined != (st.RDMADeclined > 0) {
				t.Fatalf("declined %d", st.RDMADeclined)
			}
			if n := sess.TransportStats().Registrations; n != 0 {
				t.Fatalf("%d registrations left", n)
			}
			if st.InFlight != 0 {
				t.Fatalf("%d in flight", st.InFlight)
			}
		})
	}
}

// leaveSigning makes a server that leaves signing to the client, where by default it
// requires what our client can do by RDMA.
func leaveSigning(c *server.Config) { c.Signing = server.PolicyOffered }

// noTransforms makes a server as they were before RDMA transforms.
func noTransforms(c *server.Config) { c.RDMATransforms = []uint16{} }

// Many goroutines share the connection's credits.
func TestConcurrentReadsAndWrites(t *testing.T) {
	// With fewer registrations than windows ask for nobody may wait for ever.
	for _, lc := range []linkConfig{{}, {rdma: true}, {rdma: true, registrations: 3}} {
		s := newSite(t, lc, nil)
		sh := s.mount(t, Config{MaxCredits: 40, Window: 3, MaxIOSize: 200_000})
		ctx := context.Background()
		data := random(1 << 20)
		s.file(t, "f", data)
		f, err := sh.OpenFile(ctx, "f", os.O_RDWR, 0)
		must(t, err)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(i), 1))
				p := make([]byte, 400_000)
				for range 10 {
					off := r.IntN(len(data))
					n, err := f.ReadAt(p, int64(off))
					want := min(len(p), len(data)-off)
					if n != want || err != nil && err != io.EOF || !bytes.Equal(p[:n], data[off:off+n]) {
						t.Errorf("read at %d: %d bytes, want %d: %v", off, n, want, err)
						return
					}
					at := r.IntN(len(data) - 5000)
					if _, err := f.WriteAt(data[at:at+5000], int64(at)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		must(t, f.Close())
	}
}

func TestShareAsFS(t *testing.T) {
	s := newSite(t, linkConfig{}, nil)
	sh := s.mount(t, Config{})
	must(t, os.MkdirAll(filepath.Join(s.dir, "d/e"), 0o777))
	s.file(t, "a", nil)
	s.file(t, "d/b", random(100))
	s.file(t, "d/e/ünïcode 😀", random(3000))
	must(t, fstest.TestFS(sh.FS(), "a", "d/b", "d/e/ünïcode 😀"))
	sub, err := fs.Sub(sh.FS(), "d")
	must(t, err)
	must(t, fstest.TestFS(sub, "b", "e/ünïcode 😀"))
	// Links are listed as such with the POSIX extensions; else as what they lead to.
	must(t, sh.Symlink(context.Background(), "d/b", "link"))
	must(t, fstest.TestFS(s.mount(t, Config{POSIX: POSIXRequired}).FS(), "a", "d/b", "link"))
	must(t, sh.Symlink(context.Background(), "e/none", "d/dangling"))
	if names, err := fs.Glob(sub, "*/ü*"); err != nil || len(names) != 1 {
		t.Error(names, err)
	}
	if target, err := fs.ReadLink(sub, "dangling"); target != "e/none" || err != nil {
		t.Error(target, err)
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := fs.ReadFile(sh.FSContext(over), "a"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A context that ends stops the wait; the connection and the file live on.
func TestCancelLock(t *testing.T) {
	s := newSite(t, linkConfig{}, nil)
	sh := s.mount(t, Config{})
	ctx := context.Background()
	a, err := sh.Create(ctx, "f")
	must(t, err)
	b, err := sh.OpenFile(ctx, "f", os.O_RDWR, 0)
	must(t, err)
	must(t, a.Lock(ctx, 0, 10, LockOptions{}))
	short, cancel := context.WithCancel(ctx)
	got := make(chan error)
	go func() { got <- b.Lock(short, 0, 10, LockOptions{Wait: true}) }()
	for sh.Session().Stats().InFlight == 0 {
		if _, err := a.Stat(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	must(t, a.Unlock(ctx, 0, 10))
	must(t, b.Lock(ctx, 0, 10, LockOptions{Wait: true}))
}

func TestListSharesAndInterfaces(t *testing.T) {
	s := newSite(t, linkConfig{}, nil)
	sess := s.dial(t, Config{})
	list, err := sess.ListShares(context.Background())
	must(t, err)
	if len(list) != 3 || list[1] != (ShareInfo{"data", ShareDisk, "all of it"}) {
		t.Fatalf("%+v", list)
	}
	if _, err := sess.NetworkInterfaces(context.Background()); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
	must(t, sess.Logoff(context.Background()))
	if err := sess.Echo(context.Background()); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

// Calls under way end when the session is closed.
func TestCloseWithWorkInFlight(t *testing.T) {
	s := newSite(t, linkConfig{}, nil)
	sh := s.mount(t, Config{})
	w, err := sh.Watch(context.Background(), "", WatchOptions{})
	must(t, err)
	got := make(chan error)
	go func() { _, err := w.Next(context.Background()); got <- err }()
	for sh.Session().Stats().InFlight == 0 {
		if _, err := sh.Stat(context.Background(), ""); err != nil {
			t.Fatal(err)
		}
	}
	must(t, sh.Session().Close())
	if err := <-got; !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if _, err := sh.Stat(context.Background(), "x"); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	must(t, sh.Session().Close())
}

// Names go by the documented rules.
func TestNames(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""}, {".", ""}, {"/", ""}, {"a/b", `a\b`}, {`\a\b`, `a\b`}, {"/a//b/", `a\b`}, {"a/../b", "b"}, {"f:stream", "f:stream"},
	} {
		if got, err := wireName(c.in); got != c.want || err != nil {
			t.Errorf("wireName(%q) = %q, %v; want %q", c.in, got, err, c.want)
		}
	}
	for _, in := range []string{"..", "a/../..", "../a", "a\x00b", `..\x`} {
		if got, err := wireName(in); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("wireName(%q) = %q, %v; want fs.ErrInvalid", in, got, err)
		}
	}
}
