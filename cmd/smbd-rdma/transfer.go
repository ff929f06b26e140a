package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// chunk is the size of the pieces in which a file is moved, in bytes: one READ
// or WRITE each, several of them in flight.
const chunk = 1 << 20

// mover moves trees between a share and the local file system.
type mover struct {
	sh       *client.Share
	parallel int // files at a time
	perFile  int // pieces of one file at a time
	progress *progress
	buffers  sync.Pool // *[]byte of chunk
	// keepOn: what fails does not stop the rest.
	keepOn bool

	files, bytes atomic.Int64
	failures     *failures
}

// failures are what went wrong in a tree while the rest was moved.
type failures struct {
	mu    sync.Mutex
	errs  []error // the first maxFailures; guarded by mu
	count int     // guarded by mu
}

// maxFailures bounds how many are named.
const maxFailures = 100

func (f *failures) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count++; f.count <= maxFailures {
		f.errs = append(f.errs, err)
	}
}

// print names them on w if they are several, and returns one error for all.
func (f *failures) print(w io.Writer, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch f.count {
	case 0:
		return nil
	case 1:
		return f.errs[0]
	}
	for _, err := range f.errs {
		fmt.Fprintf(w, "smbd-rdma %s: %s\n", name, oneLine(err))
	}
	return fmt.Errorf("%d files or directories failed", f.count)
}

func newMover(sh *client.Share, parallel int) *mover {
	m := &mover{sh: sh, parallel: parallel, perFile: 4, progress: &progress{}, failures: &failures{}}
	m.buffers.New = func() any { b := make([]byte, chunk); return &b }
	return m
}

// item is one thing to move: the name relative to the root of the tree.
type item struct {
	rel  string
	size int64
	mode fs.FileMode
	mod  time.Time
}

// put copies the local tree at root to dir on the share, which is created.
// Symbolic links are followed where they lead to files and left out otherwise.
func (m *mover) put(ctx context.Context, root, dir string, items []item) error {
	items, err := m.mkdirs(ctx, items, func(it item) error {
		if err := sendable(it.rel); err != nil {
			return err
		}
		return m.sh.MkdirAll(ctx, path.Join(dir, it.rel))
	})
	if err != nil {
		return err
	}
	return m.each(ctx, items, func(ctx context.Context, it item) error {
		return m.putFile(ctx, filepath.Join(root, filepath.FromSlash(it.rel)), path.Join(dir, it.rel), it)
	})
}

// get copies the items below dir on the share to the local directory root.
func (m *mover) get(ctx context.Context, dir, root string, items []item) error {
	items, err := m.mkdirs(ctx, items, func(it item) error {
		return os.MkdirAll(filepath.Join(root, filepath.FromSlash(it.rel)), 0o777)
	})
	if err != nil {
		return err
	}
	return m.each(ctx, items, func(ctx context.Context, it item) error {
		return m.getFile(ctx, path.Join(dir, it.rel), filepath.Join(root, filepath.FromSlash(it.rel)), it)
	})
}

// sendable refuses local names that would be other names on a share: in SMB a
// backslash separates elements, a colon begins the name of a stream, and names are
// UTF-16.
func sendable(rel string) error {
	switch {
	case strings.Contains(rel, `\`):
		return fmt.Errorf("%q: a name on a share has no backslash", rel)
	case strings.Contains(rel, ":"):
		return fmt.Errorf("%q: a name on a share has no colon", rel)
	case !utf8.ValidString(rel):
		return fmt.Errorf("%q: the name is not UTF-8", rel)
	}
	return nil
}

// mkdirs makes the directories among items, which come before what is in them,
// and returns the files. With keepOn, what is below a directory that could not be
// made is left out.
func (m *mover) mkdirs(ctx context.Context, items []item, mkdir func(item) error) (files []item, err error) {
	missing := map[string]bool{}
	for _, it := range items {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if len(missing) > 0 && it.rel != "" && (missing[""] || missing[parent(it.rel)]) {
			missing[it.rel] = it.mode.IsDir()
			continue
		}
		if !it.mode.IsDir() {
			files = append(files, it)
			continue
		}
		if err := mkdir(it); err != nil {
			if !m.keepOn || m.lost() {
				return nil, err
			}
			missing[it.rel] = true
			m.failures.add(err)
		}
	}
	return files, nil
}

// parent is the directory of a relative name, "" for the root.
func parent(rel string) string {
	if d := path.Dir(rel); d != "." {
		return d
	}
	return ""
}

// lost reports whether the connection has ended.
func (m *mover) lost() bool { return m.sh.Session().Err() != nil }

// each runs work for the files among items, several at a time.
func (m *mover) each(ctx context.Context, items []item, work func(context.Context, item) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(m.parallel)
	for _, it := range items {
		if it.mode.IsDir() {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if err := work(ctx, it); err != nil {
				if !m.keepOn || m.lost() || ctx.Err() != nil {
					return err
				}
				m.failures.add(err)
				return nil
			}
			m.files.Add(1)
			return nil
		})
	}
	return g.Wait()
}

// putFile writes one local file to the share. The name appears only under its
// own name: an interrupted put leaves a short file, which a second put replaces.
func (m *mover) putFile(ctx context.Context, local, remote string, it item) (err error) {
	if err := sendable(it.rel); err != nil {
		return err
	}
	src, err := os.Open(local)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := m.sh.Create(ctx, remote)
	if err != nil {
		return err
	}
	defer func() {
		if err == nil && !it.mod.IsZero() {
			err = dst.Chtimes(ctx, time.Time{}, it.mod)
		}
		err = errors.Join(err, dst.Close())
	}()
	return m.pieces(ctx, it.size, m.perFile, func(ctx context.Context, b []byte, off int64) (int, error) {
		n, err := src.ReadAt(b, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return n, err
		}
		if n < len(b) {
			return n, fmt.Errorf("%s: became shorter while it was read", local)
		}
		return dst.WriteAtContext(ctx, b, off)
	})
}

// getFile reads one file of the share into a local one, by way of a temporary
// name, so that a file under its own name is whole.
func (m *mover) getFile(ctx context.Context, remote, local string, it item) (err error) {
	src, err := m.sh.Open(ctx, remote)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := createLocal(local)
	if err != nil {
		return err
	}
	defer func() { err = dst.finish(err, it.mod) }()
	parallel := m.perFile
	if dst.stream {
		parallel = 1
	}
	return m.pieces(ctx, it.size, parallel, func(ctx context.Context, b []byte, off int64) (int, error) {
		n, err := src.ReadAtContext(ctx, b, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return n, err
		}
		if n < len(b) {
			return n, fmt.Errorf("%s: became shorter while it was read", remote)
		}
		if dst.stream {
			return dst.Write(b)
		}
		return dst.WriteAt(b, off)
	})
}

// localFile is a local file on its way to being whole.
type localFile struct {
	*os.File
	target  string // the name that it gets
	special bool   // is no regular file: written to as it is, as /dev/null
	stream  bool   // can't be written to but in order
	perm    fs.FileMode
}

// createLocal makes a file that will have a name when it is finished. What is
// there and no regular file is opened; a symbolic link is followed.
func createLocal(name string) (*localFile, error) {
	f := &localFile{target: name}
	if t, err := filepath.EvalSymlinks(name); err == nil {
		f.target = t
	}
	var err error
	switch i, serr := os.Stat(name); {
	case serr != nil:
	case i.Mode().IsRegular():
		f.perm = i.Mode().Perm()
	default:
		f.special = true
		if f.File, err = os.OpenFile(name, os.O_WRONLY, 0); err == nil {
			_, serr := f.Seek(0, io.SeekCurrent)
			f.stream = serr != nil
		}
		return f, err
	}
	// The name is short, so that it fits where the other one does.
	temp := filepath.Join(filepath.Dir(f.target), ".smbd-rdma-"+rand.Text()[:12])
	if f.File, err = os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666); err != nil {
		return f, f.named(err)
	}
	return f, nil
}

// named is err about the name that the file is to have.
func (f *localFile) named(err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("%s: %w", f.target, err)
}

// finish closes the file and gives it its name, or removes it if something has
// failed.
func (f *localFile) finish(failed error, mod time.Time) error {
	if pe := (*fs.PathError)(nil); errors.As(failed, &pe) && pe.Path == f.Name() {
		failed = f.named(failed)
	}
	err := f.Close()
	if f.special {
		return errors.Join(failed, err)
	}
	if err == nil && failed == nil && f.perm != 0 {
		err = os.Chmod(f.Name(), f.perm)
	}
	if err == nil && failed == nil && !mod.IsZero() {
		err = os.Chtimes(f.Name(), time.Time{}, mod)
	}
	if err == nil && failed == nil {
		if err = os.Rename(f.Name(), f.target); err == nil {
			return nil
		}
		if le := (*os.LinkError)(nil); errors.As(err, &le) {
			err = le.Err
		}
	}
	if err != nil {
		err = f.named(err)
	}
	os.Remove(f.Name())
	return errors.Join(failed, err)
}

// pieces runs move for every piece of a file of size bytes, up to parallel at a time.
func (m *mover) pieces(ctx context.Context, size int64, parallel int, move func(ctx context.Context, b []byte, off int64) (int, error)) error {
	one := func(ctx context.Context, off int64) error {
		p := m.buffers.Get().(*[]byte)
		defer m.buffers.Put(p)
		n, err := move(ctx, (*p)[:min(chunk, size-off)], off)
		m.bytes.Add(int64(n))
		m.progress.add(n)
		return err
	}
	if size <= chunk {
		if size == 0 {
			return nil
		}
		return one(ctx, 0)
	}
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range parallel {
		g.Go(func() error {
			for {
				off := next.Add(chunk) - chunk
				if off >= size {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := one(ctx, off); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// localItems lists a local file or tree. The root is an item with an empty name,
// and the only one if it is a file. What can't be looked at below it goes to
// failed, or ends the listing if that is nil.
func localItems(root string, failed *failures) (items []item, total int64, err error) {
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil && failed != nil && p != root {
			failed.add(err)
			return nil
		}
		if err != nil {
			return err
		}
		i, err := d.Info()
		if err == nil && i.Mode()&fs.ModeSymlink != 0 {
			if i, err = os.Stat(p); errors.Is(err, fs.ErrNotExist) {
				return nil // a dangling link has no bytes to move
			} else if err == nil && i.IsDir() && p != root {
				return nil // may lead around in a circle
			}
		}
		if err != nil && failed != nil && p != root {
			failed.add(err)
			return nil
		}
		if err != nil {
			return err
		}
		if !i.Mode().IsRegular() && !i.IsDir() {
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if rel == "." {
			rel = ""
		}
		it := item{rel: filepath.ToSlash(rel), mode: i.Mode(), mod: i.ModTime()}
		if i.Mode().IsRegular() {
			it.size = i.Size()
			total += it.size
		}
		items = append(items, it)
		return nil
	})
	return items, total, err
}

// remoteItems lists a file or tree of a share likewise.
func remoteItems(ctx context.Context, sh *client.Share, root string, failed *failures) (items []item, total int64, err error) {
	i, err := sh.Stat(ctx, root)
	if err != nil {
		return nil, 0, err
	}
	if !i.IsDir() {
		return []item{{size: i.Size(), mode: i.Mode(), mod: i.ModTime()}}, i.Size(), nil
	}
	items = append(items, item{mode: fs.ModeDir})
	dirs := []string{""}
	for len(dirs) > 0 {
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		entries, err := sh.ReadDir(ctx, path.Join(root, dir))
		if err != nil && dir != "" && ctx.Err() == nil && sh.Session().Err() == nil {
			failed.add(err)
		} else if err != nil {
			return nil, 0, err
		}
		for _, e := range entries {
			// A name of the server's becomes a local path: it must be one element.
			if e.Name() == "" || e.Name() == "." || e.Name() == ".." || filepath.Base(e.Name()) != e.Name() {
				return nil, 0, fmt.Errorf("%s: the server lists %q, which is not a file name", path.Join(root, dir), e.Name())
			}
			i, err := e.Info()
			if err != nil {
				return nil, 0, err
			}
			it := item{rel: path.Join(dir, e.Name()), mode: i.Mode(), mod: i.ModTime()}
			switch {
			case e.IsDir():
				dirs = append(dirs, it.rel)
			case i.Mode()&fs.ModeSymlink != 0:
				continue
			default:
				it.size = i.Size()
				total += it.size
			}
			items = append(items, it)
		}
	}
	return items, total, nil
}

// transferFlags are those of get and put.
type transferFlags struct {
	recursive bool
	parallel  int
	json      bool
}

func (f *transferFlags) register(c *cobra.Command) {
	c.Flags().BoolVarP(&f.recursive, "recursive", "r", false, "a directory and all in it")
	c.Flags().IntVar(&f.parallel, "parallel", 8, "files to move at a time, 1 to 64")
	c.Flags().BoolVar(&f.json, "json", false, "print what was moved as one JSON object")
}

// report is what get and put print with --json.
type report struct {
	Files     int64   `json:"files"`
	Bytes     int64   `json:"bytes"`
	Seconds   float64 `json:"seconds"`
	RDMABytes uint64  `json:"rdma_bytes"`
	Provider  string  `json:"provider,omitempty"`
}

func (a *app) finish(m *mover, start time.Time, asJSON bool, name string, err error) error {
	err = errors.Join(err, m.failures.print(a.stderr, name))
	took := time.Since(start).Seconds()
	st := m.sh.Session().Stats()
	r := report{m.files.Load(), m.bytes.Load(), took, st.RDMABytesRead + st.RDMABytesWritten, m.sh.Session().Info().RDMAProvider}
	if asJSON {
		return errors.Join(err, a.printJSON(r))
	}
	a.log.Info("moved", "files", r.Files, "bytes", r.Bytes, "seconds", fmt.Sprintf("%.2f", took),
		"MB/s", fmt.Sprintf("%.0f", float64(r.Bytes)/1e6/max(took, 1e-9)), "rdma_bytes", r.RDMABytes)
	return err
}

func (a *app) putCommand() *cobra.Command {
	var f transferFlags
	c := &cobra.Command{
		Use:   "put LOCAL //HOST/SHARE[/PATH]",
		Short: "copy a local file, or with -r a tree, to a share",
		Long: `Copies LOCAL to PATH. A file goes into PATH under its own name if PATH is a
directory or ends in a slash. With -r what is in the directory LOCAL goes into the
directory PATH, which is created; if PATH exists and ends in a slash, LOCAL goes
into it under its own name. What fails is named, and the rest is copied. Links to
directories, links that lead nowhere, and devices are left out.`,
		Example: `  smbd-rdma put report.txt //server/data/ -U alice%secret
  smbd-rdma put -r ./photos //server/data/photos -U alice%secret`,
		Args: checkArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.parallel < 1 || f.parallel > 64 {
				return usagef("--parallel %d is not in 1 to 64", f.parallel)
			}
			if isTarget(args[0]) {
				return usagef("%s is not a local name; to copy from a share use get", args[0])
			}
			root := filepath.Clean(args[0])
			i, err := os.Stat(root)
			if err != nil {
				return err
			}
			if i.IsDir() && !f.recursive {
				return usagef("%s is a directory; use put -r", root)
			}
			if !i.IsDir() && !i.Mode().IsRegular() {
				return fmt.Errorf("%s is neither a file nor a directory", root)
			}
			// What "." is called says the directory above it.
			base := root
			if full, err := filepath.Abs(root); err == nil {
				base = full
			}
			base = filepath.Base(base)
			failed := &failures{}
			items, total, err := localItems(root, failed)
			if err != nil {
				return err
			}
			return a.onShare(cmd, args[1], func(sh *client.Share, t target) error {
				dst := t.path
				if d, err := sh.Stat(cmd.Context(), dst); err == nil && d.IsDir() && (!i.IsDir() || endsInSlash(args[1])) {
					dst = path.Join(dst, base)
				} else if errors.Is(err, fs.ErrNotExist) && endsInSlash(args[1]) && !i.IsDir() {
					return fmt.Errorf("%s: %w", args[1], err)
				}
				m := newMover(sh, f.parallel)
				m.progress = newProgress(a.stderr, "put", total)
				start := time.Now()
				m.keepOn, m.failures = true, failed
				err := m.put(cmd.Context(), root, dst, items)
				m.progress.done()
				return a.finish(m, start, f.json, "put", err)
			})
		},
	}
	f.register(c)
	a.conn.register(c)
	return c
}

func (a *app) getCommand() *cobra.Command {
	var f transferFlags
	c := &cobra.Command{
		Use:   "get //HOST/SHARE/PATH [LOCAL]",
		Short: "copy a file, or with -r a tree, of a share",
		Long: `Copies PATH to LOCAL, by default the last element of PATH in the current
directory. A file goes into LOCAL if that is a directory. With -r what is in the
directory PATH goes into the directory LOCAL, which is created; if LOCAL exists
and ends in a slash, PATH goes into it under its own name. What fails is named,
and the rest is copied.`,
		Example: `  smbd-rdma get //server/data/report.txt -U alice%secret
  smbd-rdma get -r //server/data/photos ./photos -U alice%secret`,
		Args: checkArgs(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.parallel < 1 || f.parallel > 64 {
				return usagef("--parallel %d is not in 1 to 64", f.parallel)
			}
			if len(args) == 2 && isTarget(args[1]) {
				return usagef("%s is not a local name; to copy to a share use put", args[1])
			}
			return a.onShare(cmd, args[0], func(sh *client.Share, t target) error {
				failed := &failures{}
				items, total, err := remoteItems(cmd.Context(), sh, t.path, failed)
				if err != nil {
					return err
				}
				dir := items[0].mode.IsDir()
				if dir && !f.recursive {
					return usagef("%s is a directory; use get -r", t)
				}
				base := path.Base(t.path)
				if t.path == "" {
					base = t.share
				}
				dst := base
				if len(args) == 2 {
					dst = args[1]
					if i, err := os.Stat(dst); err == nil && i.IsDir() && (!dir || endsInSlash(dst)) {
						dst = filepath.Join(dst, base)
					}
				}
				m := newMover(sh, f.parallel)
				m.progress = newProgress(a.stderr, "get", total)
				start := time.Now()
				m.keepOn, m.failures = true, failed
				err = m.get(cmd.Context(), t.path, dst, items)
				m.progress.done()
				return a.finish(m, start, f.json, "get", err)
			})
		},
	}
	f.register(c)
	a.conn.register(c)
	return c
}

func endsInSlash(s string) bool {
	return s != "" && (s[len(s)-1] == '/' || s[len(s)-1] == '\\')
}
