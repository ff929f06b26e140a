package filecopy

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
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// local is a Place in the local file system.
type local struct {
	name string

	mu   sync.Mutex
	root *os.Root // of what is written to; guarded by mu
}

// Local is the local file or directory of that name, which need not exist.
func Local(name string) Place { return &local{name: name} }

func (p *local) Path(rel string) string { return filepath.Join(p.name, filepath.FromSlash(rel)) }

func (p *local) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.root == nil {
		return nil
	}
	err := p.root.Close()
	p.root = nil
	return err
}

// within is the directory that everything written is kept in.
func (p *local) within() (*os.Root, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	if p.root == nil {
		p.root, err = os.OpenRoot(p.name)
	}
	return p.root, err
}

// named is err about what people know by rel.
func (p *local) named(rel string, err error) error {
	var pe *fs.PathError
	var le *os.LinkError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &pe):
		err = pe.Err
	case errors.As(err, &le):
		err = le.Err
	}
	return fmt.Errorf("%s: %w", p.Path(rel), err)
}

func entryOf(i fs.FileInfo) Entry {
	e := Entry{Name: i.Name(), Mode: i.Mode(), Mod: i.ModTime()}
	if i.Mode().IsRegular() {
		e.Size, e.Disk = i.Size(), i.Size()
		if st, ok := i.Sys().(*syscall.Stat_t); ok {
			e.Disk = st.Blocks * 512
		}
	}
	return e
}

func (p *local) Stat(_ context.Context, rel string, follow bool) (Entry, error) {
	stat := os.Lstat
	if follow {
		stat = os.Stat
	}
	i, err := stat(p.Path(rel))
	if err != nil {
		return Entry{}, p.named(rel, err)
	}
	return entryOf(i), nil
}

func (p *local) List(ctx context.Context, rel string, whole bool, fn func([]Entry) error) error {
	f, err := os.Open(p.Path(rel))
	if err != nil {
		return p.named(rel, err)
	}
	defer f.Close()
	var all []Entry
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		ds, err := f.ReadDir(batch)
		es := make([]Entry, 0, len(ds))
		for _, d := range ds {
			i, err := d.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed since
			} else if err != nil {
				return p.named(path.Join(rel, d.Name()), err)
			}
			es = append(es, entryOf(i))
		}
		if whole {
			all = append(all, es...)
		} else if len(es) > 0 {
			if err := fn(es); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return p.named(rel, err)
		}
	}
	if len(all) == 0 {
		return nil
	}
	f.Close()
	return fn(all)
}

func (p *local) Open(_ context.Context, rel string) (Reader, error) {
	f, err := os.Open(p.Path(rel))
	if err != nil {
		return nil, p.named(rel, err)
	}
	return &localReader{f: f, place: p, rel: rel}, nil
}

type localReader struct {
	f     *os.File
	place *local
	rel   string
}

func (r *localReader) ReadAt(_ context.Context, b []byte, off int64) (int, error) {
	n, err := r.f.ReadAt(b, off)
	if err != nil && err != io.EOF {
		err = r.place.named(r.rel, err)
	}
	return n, err
}

func (r *localReader) NextData(_ context.Context, off, end int64) (Extent, error) {
	fd := int(r.f.Fd())
	from, err := unix.Seek(fd, off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // a hole up to the end
		return Extent{Off: end}, nil
	case err != nil: // no such thing here
		return Extent{off, end - off}, nil
	case from >= end:
		return Extent{Off: end}, nil
	}
	to, err := unix.Seek(fd, from, unix.SEEK_HOLE)
	if err != nil {
		to = end
	}
	return Extent{from, min(to, end) - from}, nil
}

func (r *localReader) Stat(context.Context) (Entry, error) {
	i, err := r.f.Stat()
	if err != nil {
		return Entry{}, r.place.named(r.rel, err)
	}
	return entryOf(i), nil
}

func (r *localReader) Close() error { return r.f.Close() }

func (p *local) Mkdir(_ context.Context, rel string) error {
	if rel == "" {
		return p.named(rel, os.MkdirAll(p.name, 0o777))
	}
	r, err := p.within()
	if err == nil {
		err = r.MkdirAll(filepath.FromSlash(rel), 0o777)
	}
	return p.named(rel, err)
}

func (p *local) Remove(_ context.Context, rel string, tree bool) error {
	r, err := p.within()
	if err == nil {
		if tree {
			err = r.RemoveAll(filepath.FromSlash(rel))
		} else {
			err = r.Remove(filepath.FromSlash(rel))
		}
	}
	return p.named(rel, err)
}

func (p *local) Chtimes(_ context.Context, rel string, mod time.Time) error {
	r, err := p.within()
	if err == nil {
		err = r.Chtimes(filepath.FromSlash(rel), time.Time{}, mod)
	}
	return p.named(rel, err)
}

func (p *local) Readlink(_ context.Context, rel string) (string, error) {
	s, err := os.Readlink(p.Path(rel))
	return s, p.named(rel, err)
}

func (p *local) Symlink(_ context.Context, target, rel string) error {
	r, err := p.within()
	if err != nil {
		return p.named(rel, err)
	}
	name := filepath.FromSlash(rel)
	temp := filepath.Join(filepath.Dir(name), newTemp())
	if err := r.Symlink(target, temp); err != nil {
		return p.named(rel, err)
	}
	if err = r.Rename(temp, name); err != nil {
		r.Remove(temp)
	}
	return p.named(rel, err)
}

// Check implements Place: here all is well that is one element.
func (p *local) Check(rel string) error {
	if name := filepath.FromSlash(rel); rel != "" && !filepath.IsLocal(name) {
		return fmt.Errorf("%q is no local name", rel)
	}
	return nil
}

func (p *local) FoldsCase(context.Context) (bool, error) {
	r, err := p.within()
	if err != nil {
		return true, p.named("", err)
	}
	lower, upper := caseProbe()
	f, err := r.OpenFile(lower, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return true, p.named("", err)
	}
	f.Close()
	defer r.Remove(lower)
	_, err = r.Lstat(upper)
	return err == nil, nil
}

func (p *local) Lost() error { return nil }

// localWriter is a local file on its way to being whole.
type localWriter struct {
	place  *local
	rel    string
	f      *os.File
	root   *os.Root // the directory that the names are in; nil for the process's own view
	temp   string   // its name; empty: it has the final one
	target string   // the name that it gets
	perm   fs.FileMode
	order  bool // can't be written to but in order
	closed bool
}

// Create implements Place. What is there and no regular file is opened and written to,
// as /dev/null. The place itself, if it is a link, is followed.
func (p *local) Create(_ context.Context, rel, temp string, keep bool) (_ Writer, fail error) {
	w := &localWriter{place: p, rel: rel}
	w.target = filepath.FromSlash(rel)
	stat, lstat := os.Stat, os.Lstat
	open := os.OpenFile
	if rel == "" {
		w.target = p.name
		if t, err := filepath.EvalSymlinks(p.name); err == nil {
			w.target = t
		}
	} else {
		top, err := p.within()
		if err != nil {
			return nil, p.named(rel, err)
		}
		// The way there is gone once.
		if w.root, err = top.OpenRoot(filepath.Dir(w.target)); err != nil {
			return nil, p.named(rel, err)
		}
		defer func() {
			if fail != nil {
				w.root.Close()
			}
		}()
		w.target = filepath.Base(w.target)
		stat, lstat, open = w.root.Stat, w.root.Lstat, w.root.OpenFile
	}
	name := w.target
	switch i, err := stat(w.target); {
	case err != nil && rel == "" && special(p.name): // as /dev/stdout, which leads to no name
		name, temp = p.name, ""
		w.order = true
	case err != nil:
	case i.Mode().IsRegular():
		w.perm = i.Mode().Perm()
	case i.IsDir():
		return nil, p.named(rel, syscall.EISDIR)
	default:
		temp, w.order = "", true
	}
	flag := os.O_RDWR | os.O_CREATE
	switch {
	case w.order:
		flag = os.O_WRONLY
	case temp == "":
		flag |= os.O_TRUNC
	default:
		// The name is short, so that it fits where the other one does.
		w.temp = filepath.Join(filepath.Dir(w.target), temp)
		name = w.temp
		flag |= syscall.O_NOFOLLOW
		if !keep {
			flag |= os.O_EXCL
		}
	}
	var err error
	if w.f, err = open(name, flag, 0o666); err != nil {
		return nil, p.named(rel, err)
	}
	if keep {
		if err := ours(w.f, lstat, name); err != nil {
			w.f.Close()
			return nil, fmt.Errorf("%s: %w", p.Path(rel), err)
		}
		if err := unix.Flock(int(w.f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			w.f.Close()
			return nil, fmt.Errorf("%s: somebody else is writing it: %w", p.Path(rel), err)
		}
	}
	return w, nil
}

// ours says why a file that was there is not to be gone on with. Its name can be guessed,
// and where others may make files, one of theirs would be let in unseen, or a link of
// theirs would lead to another file.
func ours(f *os.File, lstat func(string) (fs.FileInfo, error), name string) error {
	i, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := lstat(name)
	if err != nil {
		return err
	}
	st, ok := i.Sys().(*syscall.Stat_t)
	if !os.SameFile(i, named) || !i.Mode().IsRegular() || ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s, where it is copied to at first, is not a file of this user's; remove it: %w", filepath.Base(name), fs.ErrPermission)
	}
	return nil
}

// special reports whether a name that has no target leads to something open.
func special(name string) bool {
	i, err := os.Stat(name)
	return err == nil && !i.Mode().IsRegular() && !i.IsDir()
}

func (w *localWriter) WriteAt(_ context.Context, b []byte, off int64) (n int, err error) {
	if w.order {
		n, err = w.f.Write(b)
	} else {
		n, err = w.f.WriteAt(b, off)
	}
	return n, w.place.named(w.rel, err)
}

func (w *localWriter) ReadAt(_ context.Context, b []byte, off int64) (int, error) {
	n, err := w.f.ReadAt(b, off)
	if err != nil && err != io.EOF {
		err = w.place.named(w.rel, err)
	}
	return n, err
}

func (w *localWriter) Size(context.Context) (int64, error) {
	i, err := w.f.Stat()
	if err != nil {
		return 0, w.place.named(w.rel, err)
	}
	return i.Size(), nil
}

func (w *localWriter) Truncate(_ context.Context, size int64) error {
	return w.place.named(w.rel, w.f.Truncate(size))
}

func (w *localWriter) SetSparse(context.Context) error { return nil }

func (w *localWriter) Sync(context.Context) error { return w.place.named(w.rel, w.f.Sync()) }

func (w *localWriter) InOrder() bool { return w.order }

func (w *localWriter) CopiesFrom(Reader) bool { return false }

func (w *localWriter) CopyFrom(context.Context, int64, Reader, int64, int64) (int64, error) {
	return 0, errors.ErrUnsupported
}

func (w *localWriter) Commit(ctx context.Context, mod time.Time) (err error) {
	name := w.temp
	if name == "" {
		name = w.target
	}
	if w.perm != 0 && w.temp != "" {
		err = w.f.Chmod(w.perm)
	}
	if err == nil && !w.order && !mod.IsZero() {
		t := unix.NsecToTimespec(mod.UnixNano())
		err = unix.UtimesNanoAt(int(w.f.Fd()), "", []unix.Timespec{{Nsec: unix.UTIME_OMIT}, t}, unix.AT_EMPTY_PATH)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOSYS) { // before Linux 5.8
			err = w.chtimes(name, mod)
		}
	}
	if err == nil {
		w.closed = true
		err = w.f.Close()
	}
	if err == nil && w.temp != "" {
		if w.root != nil {
			err = w.root.Rename(w.temp, w.target)
		} else {
			err = os.Rename(w.temp, w.target)
		}
	}
	if err != nil {
		w.Abort(ctx, false)
		return w.place.named(w.rel, err)
	}
	w.temp = ""
	w.leave()
	return nil
}

// leave gives back the directory.
func (w *localWriter) leave() {
	if w.root != nil {
		w.root.Close()
		w.root = nil
	}
}

func (w *localWriter) chtimes(name string, mod time.Time) error {
	if w.root != nil {
		return w.root.Chtimes(name, time.Time{}, mod)
	}
	return os.Chtimes(name, time.Time{}, mod)
}

func (w *localWriter) Abort(_ context.Context, keep bool) {
	defer w.leave()
	if !w.closed {
		w.closed = true
		w.f.Close()
	}
	switch {
	case w.temp == "" || keep:
	case w.root != nil:
		w.root.Remove(w.temp)
	default:
		os.Remove(w.temp)
	}
	w.temp = ""
}
