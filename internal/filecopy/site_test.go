package filecopy

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a server with one share, a client on it, and a local directory.
type site struct {
	t      *testing.T
	served string // what the share holds
	local  string
	sh     *client.Share
	srv    *server.Server
}

func newSite(t *testing.T, cfg posix.Config) *site {
	t.Helper()
	s := &site{t: t, served: t.TempDir(), local: t.TempDir()}
	fsys, err := posix.New(s.served, cfg)
	if err != nil {
		t.Fatal(err)
	}
	users := server.UserMap{}
	users.Add("ann", "secret")
	if s.srv, err = server.New(server.Config{Shares: []server.Share{{Name: "data", FS: fsys}}, Users: users}); err != nil {
		t.Fatal(err)
	}
	l, err := tcp.Listen(t.Context(), "127.0.0.1:0", tcp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { // ended by Close below, which waits
		defer close(served)
		_ = s.srv.Serve(context.Background(), l)
	}()
	d, err := tcp.NewDialer(tcp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	sess, err := client.Dial(t.Context(), d, l.Addr().String(), client.Config{User: "ann", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	if s.sh, err = sess.Mount(t.Context(), "data"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		sess.Close()
		s.srv.Close()
		<-served
		fsys.Close()
	})
	return s
}

// place is a directory or file of the share, or of the local directory, as "share:x"
// and "local:x" say.
func (s *site) place(name string) Place {
	kind, dir, _ := strings.Cut(name, ":")
	if kind == "share" {
		return OnShare(s.sh, dir, name)
	}
	return Local(filepath.Join(s.local, dir))
}

// file is where such a name's bytes are.
func (s *site) file(name string) string {
	kind, dir, _ := strings.Cut(name, ":")
	if kind == "share" {
		return filepath.Join(s.served, dir)
	}
	return filepath.Join(s.local, dir)
}

func (s *site) write(name string, data []byte) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(s.file(name)), 0o777); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.file(name), data, 0o666); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) wantFile(name string, want []byte) {
	s.t.Helper()
	got, err := os.ReadFile(s.file(name))
	if err != nil || !bytes.Equal(got, want) {
		s.t.Errorf("%s: %d bytes, want %d others (%v)", name, len(got), len(want), err)
	}
}

// wantTree compares what is in a directory: the names of files, and of directories with
// a slash.
func (s *site) wantTree(name string, want ...string) {
	s.t.Helper()
	var got []string
	root := s.file(name)
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		if d.IsDir() {
			rel += "/"
		}
		got = append(got, rel)
		return nil
	})
	slices.Sort(got)
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		s.t.Errorf("%s has %q, want %q (%v)", name, got, want, err)
	}
}

// run copies and returns what was reported.
func (s *site) run(from, to Place, c Config, work func(*Copier) error) ([]Result, error) {
	s.t.Helper()
	var rs []Result
	c.Report = func(r Result) { rs = append(rs, r) }
	k, err := New(from, to, c)
	if err != nil {
		s.t.Fatal(err)
	}
	err = work(k)
	if err := errors.Join(from.Close(), to.Close()); err != nil {
		s.t.Error(err)
	}
	return rs, err
}

// must is run for what has to go well.
func (s *site) must(from, to Place, c Config, work func(*Copier) error) []Result {
	s.t.Helper()
	rs, err := s.run(from, to, c, work)
	for _, r := range rs {
		err = errors.Join(err, r.Err)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return rs
}

func (s *site) tree(k *Copier) error { return k.Tree(s.t.Context()) }
func (s *site) one(k *Copier) error  { return k.File(s.t.Context()) }

// noise is size bytes that are the same for the same seed.
func noise(seed byte, size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// directions are the ways in which files go.
var directions = []struct{ name, from, to string }{
	{"put", "local:from", "share:to"}, {"get", "share:from", "local:to"}, {"cp", "share:from", "share:to"},
}

// faulty is a place that has something happen at a file's bytes.
type faulty struct {
	Place
	listing func(fn func([]Entry) error) error
	reading func(off int64) error
	writing func(p []byte, off int64)
}

func (p *faulty) Open(ctx context.Context, rel string) (Reader, error) {
	r, err := p.Place.Open(ctx, rel)
	if err != nil || p.reading == nil {
		return r, err
	}
	return &faultyReader{r, p}, nil
}

func (p *faulty) Create(ctx context.Context, rel, temp string, keep bool) (Writer, error) {
	w, err := p.Place.Create(ctx, rel, temp, keep)
	if err != nil || p.writing == nil {
		return w, err
	}
	return &faultyWriter{w, p}, nil
}

func (p *faulty) List(ctx context.Context, rel string, whole bool, fn func([]Entry) error) error {
	if p.listing == nil {
		return p.Place.List(ctx, rel, whole, fn)
	}
	return p.listing(fn)
}

type faultyReader struct {
	Reader
	p *faulty
}

func (r *faultyReader) ReadAt(ctx context.Context, b []byte, off int64) (int, error) {
	if err := r.p.reading(off); err != nil {
		return 0, err
	}
	return r.Reader.ReadAt(ctx, b, off)
}

type faultyWriter struct {
	Writer
	p *faulty
}

func (w *faultyWriter) CopiesFrom(Reader) bool { return false }

func (w *faultyWriter) WriteAt(ctx context.Context, b []byte, off int64) (int, error) {
	b = bytes.Clone(b)
	w.p.writing(b, off)
	return w.Writer.WriteAt(ctx, b, off)
}
