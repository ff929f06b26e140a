package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/internal/filecopy"
	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
)

// demoResult is what demo prints. Bytes counts every file byte that was moved,
// in both directions; the other byte counts are parts of it.
type demoResult struct {
	Files               int64   `json:"files"`
	Bytes               int64   `json:"bytes"`
	RDMABytes           uint64  `json:"rdma_bytes"`
	BytesCopied         uint64  `json:"bytes_copied"`
	AllocsPerIO         float64 `json:"allocs_per_io"`
	ReadBytesPerSecond  float64 `json:"read_bytes_per_second"`
	WriteBytesPerSecond float64 `json:"write_bytes_per_second"`
	Provider            string  `json:"provider"`
	TreeBytes           int64   `json:"tree_bytes"`
	LargeBytes          int64   `json:"large_bytes"`
	TreePutSeconds      float64 `json:"tree_put_seconds"`
	TreeGetSeconds      float64 `json:"tree_get_seconds"`
	BytesRead           uint64  `json:"bytes_read"`
	BytesFromPageCache  uint64  `json:"bytes_from_page_cache"`
	FilesComparedBySHA  int64   `json:"files_compared_by_sha256"`
	RemoteInvalidation  bool    `json:"remote_invalidation"`
	Dialect             string  `json:"dialect"`
}

type demoFlags struct {
	dir      string
	large    int64
	parallel int
	json     bool
}

func (a *app) demoCommand() *cobra.Command {
	var f demoFlags
	c := &cobra.Command{
		Use:   "demo",
		Short: "server and client on loopback move a real tree through RDMA, checked, with figures",
		Long: `Starts a server and a client on loopback, joined by SMB Direct over the iwarp
provider. The client puts a directory tree and one large file on the server and
gets them back, every byte by RDMA READ or RDMA WRITE, and compares every file by
SHA-256 at all three places. Nothing is left behind.`,
		Example: `  smbd-rdma demo
  smbd-rdma demo --dir /usr/share/doc --large 1024 --json`,
		Args: checkArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.large < 1 || f.large > 1<<20 {
				return usagef("--large %d is not in 1 to 1048576", f.large)
			}
			if f.parallel < 1 || f.parallel > 64 {
				return usagef("--parallel %d is not in 1 to 64", f.parallel)
			}
			r, err := a.demo(cmd.Context(), f)
			if err != nil {
				return err
			}
			if f.json {
				return a.printJSON(r)
			}
			return r.print(a.stdout)
		},
	}
	c.Flags().StringVar(&f.dir, "dir", "", "the tree to move (default: the source of the Go toolchain if there is one, else /usr/share)")
	c.Flags().Int64Var(&f.large, "large", 256, "size of the large file in MiB")
	c.Flags().IntVar(&f.parallel, "parallel", 8, "files to move at a time, 1 to 64")
	c.Flags().BoolVar(&f.json, "json", false, "print the figures as one JSON object")
	return c
}

func (r *demoResult) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "provider\t%s (SMB %s, send-and-invalidate: %v)\n", r.Provider, r.Dialect, r.RemoteInvalidation)
	fmt.Fprintf(t, "files\t%d, each compared by SHA-256 at %d places\n", r.Files, 3)
	fmt.Fprintf(t, "bytes moved\t%d (tree of %.1f MB and a file of %.1f MB, there and back)\n", r.Bytes, float64(r.TreeBytes)/1e6, float64(r.LargeBytes)/1e6)
	fmt.Fprintf(t, "by RDMA\t%.2f %%\n", 100*float64(r.RDMABytes)/float64(max(r.Bytes, 1)))
	fmt.Fprintf(t, "straight from the page cache\t%.2f %% of what was read\n", 100*float64(r.BytesFromPageCache)/float64(max(r.BytesRead, 1)))
	fmt.Fprintf(t, "copied in user space\t%d bytes\n", r.BytesCopied)
	fmt.Fprintf(t, "write, large file\t%.2f GB/s\n", r.WriteBytesPerSecond/1e9)
	fmt.Fprintf(t, "read, large file\t%.2f GB/s\n", r.ReadBytesPerSecond/1e9)
	fmt.Fprintf(t, "tree\tput in %.2f s, got in %.2f s\n", r.TreePutSeconds, r.TreeGetSeconds)
	fmt.Fprintf(t, "heap allocations\t%.2f per 1 MiB I/O, client and server together\n", r.AllocsPerIO)
	return t.Flush()
}

// demoTree finds a tree that is worth moving.
func demoTree(ctx context.Context) string {
	if out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output(); err == nil {
		src := filepath.Join(strings.TrimSpace(string(out)), "src")
		if i, err := os.Stat(src); err == nil && i.IsDir() {
			return src
		}
	}
	return "/usr/share"
}

func (a *app) demo(ctx context.Context, f demoFlags) (r *demoResult, err error) {
	if f.dir == "" {
		f.dir = demoTree(ctx)
	}
	// The root may itself be a link, as GOROOT often is.
	if f.dir, err = filepath.EvalSymlinks(f.dir); err != nil {
		return nil, err
	}
	files, treeBytes, err := demoFiles(f.dir)
	if err != nil {
		return nil, err
	}
	// The tree twice, and the large file three times.
	if err := checkSpace(os.TempDir(), 2*treeBytes+3*f.large<<20); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "smbd-rdma-demo-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	served, fetched := filepath.Join(work, "served"), filepath.Join(work, "fetched")
	largeDir := filepath.Join(work, "large")
	for _, d := range []string{served, fetched, largeDir} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, err
		}
	}
	if err := randomFile(filepath.Join(largeDir, "large.bin"), f.large<<20); err != nil {
		return nil, err
	}

	pair, err := a.demoPair(ctx, served)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, pair.close()) }()

	share, sess := pair.share, pair.share.Session()
	r = &demoResult{
		TreeBytes: treeBytes, LargeBytes: f.large << 20, Provider: sess.Info().RDMAProvider,
		RemoteInvalidation: pair.remoteInvalidation,
	}
	const large = "large.bin"
	prog := newProgress(a.stderr, "demo", 2*(treeBytes+r.LargeBytes))
	defer prog.done()
	m := &demoMover{cfg: filecopy.Config{Jobs: f.parallel, Stop: true, Progress: prog}}
	m.cfg.Report = func(r filecopy.Result) { m.failed = errors.Join(m.failed, r.Err) }
	start := time.Now()
	if err := m.tree(ctx, filecopy.Local(f.dir), filecopy.OnShare(share, "tree", "tree")); err != nil {
		return nil, fmt.Errorf("put: %w", err)
	}
	r.TreePutSeconds = time.Since(start).Seconds()
	start = time.Now()
	if err := m.tree(ctx, filecopy.OnShare(share, "tree", "tree"), filecopy.Local(filepath.Join(fetched, "tree"))); err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	r.TreeGetSeconds = time.Since(start).Seconds()

	if err := a.demoLarge(ctx, m, r, share, filepath.Join(largeDir, large), filepath.Join(fetched, large), large); err != nil {
		return nil, err
	}
	r.Files = int64(len(files)) + 1
	r.Bytes = m.bytes
	st := sess.Stats()
	r.RDMABytes = st.RDMABytesRead + st.RDMABytesWritten
	srvStats := pair.srv.Stats()
	r.BytesCopied = st.BytesCopied + srvStats.BytesCopied
	r.BytesFromPageCache = srvStats.ReadFromFile
	r.BytesRead = srvStats.ReadRDMA + srvStats.ReadInline
	r.Dialect = dialectName(sess.Info().Dialect)

	prog.done()
	n, err := compareTrees(ctx, files, f.dir, filepath.Join(served, "tree"), filepath.Join(fetched, "tree"))
	if err != nil {
		return nil, err
	}
	k, err := compareTrees(ctx, []string{large}, largeDir, served, fetched)
	if err != nil {
		return nil, err
	}
	r.FilesComparedBySHA = n + k
	return r, nil
}

func dialectName(d client.Dialect) string {
	switch d {
	case client.SMB202:
		return "2.0.2"
	case client.SMB210:
		return "2.1"
	case client.SMB300:
		return "3.0"
	case client.SMB302:
		return "3.0.2"
	}
	return "3.1.1"
}

// demoLarge moves the large file and measures: rates over the whole file, and
// heap allocations per I/O of the client and server, which share the process, in
// a steady state of 1 MiB reads and writes.
func (a *app) demoLarge(ctx context.Context, m *demoMover, r *demoResult, share *client.Share, local, fetched, remote string) error {
	size := r.LargeBytes
	start := time.Now()
	if err := m.file(ctx, filecopy.Local(local), filecopy.OnShare(share, remote, remote)); err != nil {
		return fmt.Errorf("put: %w", err)
	}
	r.WriteBytesPerSecond = float64(size) / time.Since(start).Seconds()
	start = time.Now()
	if err := m.file(ctx, filecopy.OnShare(share, remote, remote), filecopy.Local(fetched)); err != nil {
		return fmt.Errorf("get: %w", err)
	}
	r.ReadBytesPerSecond = float64(size) / time.Since(start).Seconds()

	const chunk = 1 << 20
	f, err := share.OpenFile(ctx, remote, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, chunk)
	const warm, counted = 16, 64
	var before, after runtime.MemStats
	for i := range warm + counted {
		if i == warm {
			runtime.ReadMemStats(&before)
		}
		off := int64(i) % max(size/chunk, 1) * chunk
		n, err := f.ReadAtContext(ctx, b[:min(chunk, size)], off)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := f.WriteAtContext(ctx, b[:n], off); err != nil {
			return err
		}
		m.bytes += int64(2 * n)
	}
	runtime.ReadMemStats(&after)
	r.AllocsPerIO = float64(after.Mallocs-before.Mallocs) / (2 * counted)
	return nil
}

// demoPair is a server on loopback and a client on it, joined by SMB Direct.
type demoPair struct {
	share              *client.Share
	srv                *server.Server
	remoteInvalidation bool

	fsys     *posix.FS
	listener transport.Listener
	served   chan error // from the goroutine that serves
	sess     *client.Session
}

// demoPair starts a server of dir and connects a client to it.
func (a *app) demoPair(ctx context.Context, dir string) (p *demoPair, err error) {
	// What goes as it should is not worth a line in a demo.
	log := newLogger(a.stderr, max(slog.LevelWarn, a.level.Level()))
	p = &demoPair{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
			p = nil
		}
	}()
	if p.fsys, err = posix.New(dir, posix.Config{}); err != nil {
		return p, err
	}
	password := rand.Text()
	users := server.UserMap{}
	users.Add("demo", password)
	p.srv, err = server.New(server.Config{
		Shares: []server.Share{{Name: "demo", FS: p.fsys}}, Users: users, Logger: log,
		// The path without a copy is what is shown: who signs has no page cache on it.
		Signing: server.PolicyOffered,
	})
	if err != nil {
		return p, err
	}
	provider, err := iwarp.New(iwarp.Config{Logger: log})
	if err != nil {
		return p, err
	}
	p.listener, err = smbdirect.Listen(ctx, provider, "iwarp", "127.0.0.1:0", smbdirect.Config{Logger: log})
	if err != nil {
		return p, err
	}
	p.served = make(chan error, 1)
	go func() { p.served <- p.srv.Serve(context.WithoutCancel(ctx), p.listener) }() // ended and waited for by close
	d, err := smbdirect.NewDialer(provider, "iwarp", smbdirect.Config{Logger: log})
	if err != nil {
		return p, err
	}
	conn, err := d.Dial(ctx, p.listener.Addr().String())
	if err != nil {
		return p, err
	}
	p.remoteInvalidation = conn.RDMA().RemoteInvalidation()
	p.sess, err = client.New(ctx, conn, client.Config{
		User: "demo", Password: password, ServerName: "127.0.0.1", RDMAThreshold: 1, Logger: log,
	})
	if err != nil {
		return p, err
	}
	if used, why := p.sess.RDMAStatus(); !used {
		return p, fmt.Errorf("RDMA is not used: %s", why)
	}
	p.share, err = p.sess.Mount(ctx, "demo")
	return p, err
}

// close ends client and server and waits for both.
func (p *demoPair) close() (err error) {
	if p.sess != nil {
		p.sess.Close()
	}
	if p.listener != nil {
		p.listener.Close()
	}
	if p.srv != nil {
		err = p.srv.Close()
	}
	if p.served != nil {
		if e := <-p.served; e != nil && !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	if p.fsys != nil {
		err = errors.Join(err, p.fsys.Close())
	}
	return err
}

// checkSpace fails if less than need bytes are free at dir.
func checkSpace(dir string, need int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if free := float64(st.Bavail) * float64(st.Bsize); free < float64(need) {
		return fmt.Errorf("%s has %.0f MB free and %.0f MB are needed: set TMPDIR, or give a smaller --large or --dir",
			dir, free/1e6, float64(need)/1e6)
	}
	return nil
}

// randomFile writes size bytes that no compression or zero page helps with.
func randomFile(name string, size int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	var seed [32]byte
	rand.Read(seed[:])
	_, err = io.CopyN(f, mathrand.NewChaCha8(seed), size)
	return errors.Join(err, f.Close())
}

// demoMover copies trees and files, and counts the bytes.
type demoMover struct {
	cfg    filecopy.Config
	bytes  int64
	failed error
}

func (m *demoMover) tree(ctx context.Context, from, to filecopy.Place) error {
	return m.run(from, to, func(c *filecopy.Copier) error { return c.Tree(ctx) })
}

func (m *demoMover) file(ctx context.Context, from, to filecopy.Place) error {
	return m.run(from, to, func(c *filecopy.Copier) error { return c.File(ctx) })
}

func (m *demoMover) run(from, to filecopy.Place, work func(*filecopy.Copier) error) error {
	c, err := filecopy.New(from, to, m.cfg)
	if err != nil {
		return err
	}
	err = work(c)
	m.bytes += c.Stats().Bytes
	return errors.Join(err, m.failed, from.Close(), to.Close())
}

// demoFiles are the files that a copy of a tree has, links to files among them, and
// their sizes together in bytes.
func demoFiles(root string) (files []string, total int64, err error) {
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i, err := os.Stat(p)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil || !i.Mode().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(root, p)
		files, total = append(files, rel), total+i.Size()
		return err
	})
	return files, total, err
}

// compareTrees compares the files of that name below the given roots by SHA-256
// and says how many they are.
func compareTrees(ctx context.Context, files []string, roots ...string) (int64, error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	n := int64(0)
	for _, rel := range files {
		n++
		g.Go(func() error {
			var first [sha256.Size]byte
			for i, root := range roots {
				if err := ctx.Err(); err != nil {
					return err
				}
				sum, err := fileSum(filepath.Join(root, rel))
				if err != nil {
					return err
				}
				if i == 0 {
					first = sum
				} else if sum != first {
					return fmt.Errorf("%s: SHA-256 differs between %s and %s", rel, roots[0], root)
				}
			}
			return nil
		})
	}
	return n, g.Wait()
}

func fileSum(name string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(name)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	return sum, nil
}
