package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

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

	files, bytes atomic.Int64
}

func newMover(sh *client.Share, parallel int) *mover {
	m := &mover{sh: sh, parallel: parallel, perFile: 4, progress: &progress{}}
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
	for _, it := range items {
		if it.mode.IsDir() {
			if err := m.sh.MkdirAll(ctx, path.Join(dir, it.rel)); err != nil {
				return err
			}
		}
	}
	return m.each(ctx, items, func(ctx context.Context, it item) error {
		return m.putFile(ctx, filepath.Join(root, filepath.FromSlash(it.rel)), path.Join(dir, it.rel), it)
	})
}

// get copies the items below dir on the share to the local directory root.
func (m *mover) get(ctx context.Context, dir, root string, items []item) error {
	for _, it := range items {
		if it.mode.IsDir() {
			if err := os.MkdirAll(filepath.Join(root, filepath.FromSlash(it.rel)), 0o777); err != nil {
				return err
			}
		}
	}
	return m.each(ctx, items, func(ctx context.Context, it item) error {
		return m.getFile(ctx, path.Join(dir, it.rel), filepath.Join(root, filepath.FromSlash(it.rel)), it)
	})
}

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
				return err
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
	return m.pieces(ctx, it.size, func(ctx context.Context, b []byte, off int64) (int, error) {
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
	// What is there and no regular file, as /dev/null, is written to as it is.
	special := false
	if i, err := os.Stat(local); err == nil {
		special = !i.Mode().IsRegular()
	}
	var dst *os.File
	if special {
		dst, err = os.OpenFile(local, os.O_WRONLY, 0)
	} else {
		dst, err = os.CreateTemp(filepath.Dir(local), "."+filepath.Base(local)+".*")
	}
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, dst.Close())
		if special {
			return
		}
		if err == nil {
			err = os.Chmod(dst.Name(), 0o644)
		}
		if err == nil && !it.mod.IsZero() {
			err = os.Chtimes(dst.Name(), time.Time{}, it.mod)
		}
		if err == nil {
			err = os.Rename(dst.Name(), local)
		}
		if err != nil {
			os.Remove(dst.Name())
		}
	}()
	return m.pieces(ctx, it.size, func(ctx context.Context, b []byte, off int64) (int, error) {
		n, err := src.ReadAtContext(ctx, b, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return n, err
		}
		if n < len(b) {
			return n, fmt.Errorf("%s: became shorter while it was read", remote)
		}
		return dst.WriteAt(b, off)
	})
}

// pieces runs move for every piece of a file of size bytes, m.perFile at a time.
func (m *mover) pieces(ctx context.Context, size int64, move func(ctx context.Context, b []byte, off int64) (int, error)) error {
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
	for range m.perFile {
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
// and the only one if it is a file.
func localItems(root string) (items []item, total int64, err error) {
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
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
func remoteItems(ctx context.Context, sh *client.Share, root string) (items []item, total int64, err error) {
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
		if err != nil {
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

func (a *app) finish(m *mover, start time.Time, asJSON bool) error {
	took := time.Since(start).Seconds()
	st := m.sh.Session().Stats()
	r := report{m.files.Load(), m.bytes.Load(), took, st.RDMABytesRead + st.RDMABytesWritten, m.sh.Session().Info().RDMAProvider}
	if asJSON {
		return a.printJSON(r)
	}
	a.log.Info("moved", "files", r.Files, "bytes", r.Bytes, "seconds", fmt.Sprintf("%.2f", took),
		"MB/s", fmt.Sprintf("%.0f", float64(r.Bytes)/1e6/max(took, 1e-9)), "rdma_bytes", r.RDMABytes)
	return nil
}

func (a *app) putCommand() *cobra.Command {
	var f transferFlags
	c := &cobra.Command{
		Use:   "put LOCAL //HOST/SHARE[/PATH]",
		Short: "copy a local file, or with -r a tree, to a share",
		Long: `Copies LOCAL to PATH. If PATH is a directory, or ends in a slash, LOCAL goes into
it under its own name.`,
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
			items, total, err := localItems(root)
			if err != nil {
				return err
			}
			return a.onShare(cmd, args[1], func(sh *client.Share, t target) error {
				dst := t.path
				if d, err := sh.Stat(cmd.Context(), dst); err == nil && d.IsDir() && (!i.IsDir() || endsInSlash(args[1])) {
					dst = path.Join(dst, filepath.Base(root))
				} else if errors.Is(err, fs.ErrNotExist) && endsInSlash(args[1]) && !i.IsDir() {
					return fmt.Errorf("%s: %w", args[1], err)
				}
				m := newMover(sh, f.parallel)
				m.progress = newProgress(a.stderr, "put", total)
				start := time.Now()
				err := m.put(cmd.Context(), root, dst, items)
				m.progress.done()
				return errors.Join(err, a.finish(m, start, f.json))
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
directory. If LOCAL is a directory and PATH a file, it goes into it.`,
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
				items, total, err := remoteItems(cmd.Context(), sh, t.path)
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
				err = m.get(cmd.Context(), t.path, dst, items)
				m.progress.done()
				return errors.Join(err, a.finish(m, start, f.json))
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
