package filecopy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// share is a Place on a share.
type share struct {
	sh   *client.Share
	dir  string
	name string
}

// OnShare is the file or directory dir of a share, which people know as name. It need
// not exist.
func OnShare(sh *client.Share, dir, name string) Place {
	return &share{sh: sh, dir: dir, name: strings.TrimRight(name, "/")}
}

// at is the name on the share.
func (p *share) at(rel string) string { return path.Join(p.dir, rel) }

func (p *share) Path(rel string) string {
	if rel == "" {
		return p.name
	}
	return p.name + "/" + rel
}

func (p *share) Lost() error { return p.sh.Session().Err() }

func (p *share) Close() error { return nil }

func shareEntry(i *client.FileInfo) Entry {
	e := Entry{Name: i.Name(), Mode: i.Mode(), Mod: i.ModTime(), ID: i.FileID()}
	if i.Mode().IsRegular() {
		e.Size, e.Disk = i.Size(), i.AllocationSize()
	}
	return e
}

func (p *share) Stat(ctx context.Context, rel string, follow bool) (Entry, error) {
	stat := p.sh.Lstat
	if follow {
		stat = p.sh.Stat
	}
	i, err := stat(ctx, p.at(rel))
	if err != nil {
		return Entry{}, err
	}
	return shareEntry(i), nil
}

func (p *share) List(ctx context.Context, rel string, whole bool, fn func([]Entry) error) error {
	f, err := p.sh.CreateFile(ctx, p.at(rel), client.CreateOptions{Options: client.OptDirectory})
	if err != nil {
		return err
	}
	open := true
	defer func() {
		if open {
			f.Close() // the listing has said what there is to say
		}
	}()
	var all []Entry
	for {
		ds, err := f.ReadDirContext(ctx, batch)
		es := make([]Entry, 0, len(ds))
		for _, d := range ds {
			i, ok := d.(*client.FileInfo)
			// A name of the server's becomes a path, also a local one.
			if n := d.Name(); !ok || n == "" || n == "." || n == ".." || strings.ContainsAny(n, "/\\\x00") {
				return fmt.Errorf("%s: the server lists %q, which is no file name", p.Path(rel), n)
			}
			es = append(es, shareEntry(i))
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
			return err
		}
	}
	if len(all) == 0 {
		return nil
	}
	open = false
	if err := f.Close(); err != nil {
		return err
	}
	return fn(all)
}

func (p *share) Open(ctx context.Context, rel string) (Reader, error) {
	f, err := p.sh.CreateFile(ctx, p.at(rel), client.CreateOptions{Options: client.OptNonDirectory})
	if err != nil {
		return nil, err
	}
	return &shareReader{f: f}, nil
}

type shareReader struct {
	f *client.File

	mu    sync.Mutex
	known []client.Range // the ranges with data in [from, to); guarded by mu
	from  int64          // guarded by mu
	to    int64          // guarded by mu
}

func (r *shareReader) ReadAt(ctx context.Context, b []byte, off int64) (int, error) {
	return r.f.ReadAtContext(ctx, b, off)
}

// extentWindow is for how much of a file the ranges with data are asked at a time,
// which bounds how many come: 65536, of 64 KiB, which is how servers count.
const extentWindow = 4 << 30

func (r *shareReader) NextData(ctx context.Context, off, end int64) (Extent, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for off < end {
		if off < r.from || off >= r.to {
			to := off + min(extentWindow, end-off)
			known, err := r.f.AllocatedRanges(ctx, off, to-off)
			if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrInvalid) {
				return Extent{off, end - off}, nil
			} else if err != nil {
				return Extent{}, err
			}
			r.known, r.from, r.to = known, off, to
		}
		for i, k := range r.known {
			if k.Offset+k.Length <= off {
				continue
			}
			start := max(off, k.Offset)
			r.known = r.known[i:]
			return Extent{start, min(k.Offset+k.Length, end) - start}, nil
		}
		off = r.to
	}
	return Extent{Off: end}, nil
}

func (r *shareReader) Stat(ctx context.Context) (Entry, error) {
	i, err := r.f.StatContext(ctx)
	if err != nil {
		return Entry{}, err
	}
	return shareEntry(i), nil
}

func (r *shareReader) Close() error { return r.f.Close() }

func (p *share) Mkdir(ctx context.Context, rel string) error { return p.sh.MkdirAll(ctx, p.at(rel)) }

func (p *share) Remove(ctx context.Context, rel string, tree bool) error {
	if tree {
		return p.sh.RemoveAll(ctx, p.at(rel))
	}
	return p.sh.Remove(ctx, p.at(rel))
}

func (p *share) Chtimes(ctx context.Context, rel string, mod time.Time) error {
	return p.sh.Chtimes(ctx, p.at(rel), time.Time{}, mod)
}

func (p *share) Readlink(ctx context.Context, rel string) (string, error) {
	return p.sh.Readlink(ctx, p.at(rel))
}

func (p *share) Symlink(ctx context.Context, target, rel string) error {
	temp := path.Join(path.Dir(p.at(rel)), newTemp())
	if err := p.sh.Symlink(ctx, target, temp); err != nil {
		return about(err, p.at(rel))
	}
	err := p.sh.Rename(ctx, temp, p.at(rel), true)
	if err != nil {
		_ = p.sh.Remove(ctx, temp) // the rename is what has failed
	}
	return about(err, p.at(rel))
}

// Check refuses local names that would be other names on a share: in SMB a backslash
// separates elements, a colon begins the name of a stream, and names are UTF-16.
func (p *share) Check(rel string) error {
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

func (p *share) FoldsCase(ctx context.Context) (bool, error) {
	lower, upper := caseProbe()
	f, err := p.sh.CreateFile(ctx, p.at(lower), client.CreateOptions{
		Access: client.AccessDelete | client.AccessReadAttributes | client.AccessSynchronize, Disposition: client.CreateNew,
		Options: client.OptNonDirectory | client.OptDeleteOnClose})
	if err != nil {
		return true, err
	}
	_, err = p.sh.Lstat(ctx, p.at(upper))
	cerr := f.Close()
	if errors.Is(err, fs.ErrNotExist) {
		return false, cerr
	}
	return true, errors.Join(err, cerr)
}

// about is err with the name that the caller used.
func about(err error, name string) error {
	if e := (*client.Error)(nil); errors.As(err, &e) {
		return &client.Error{Op: e.Op, Path: name, Status: e.Status, Err: e.Err}
	}
	return err
}

// shareWriter is a file of a share on its way to being whole.
type shareWriter struct {
	f      *client.File
	target string
	temp   bool
	closed bool
}

// access is what writing, reading back and giving a name need.
const access = client.AccessReadData | client.AccessReadAttributes | client.AccessWriteData | client.AccessAppendData |
	client.AccessWriteAttributes | client.AccessSynchronize

func (p *share) Create(ctx context.Context, rel, temp string, keep bool) (Writer, error) {
	w := &shareWriter{target: p.at(rel), temp: temp != ""}
	name := w.target
	o := client.CreateOptions{Access: access, Options: client.OptNonDirectory, Disposition: client.OverwriteIf}
	if w.temp {
		name = path.Join(path.Dir(w.target), temp)
		o.Access |= client.AccessDelete
		o.Disposition = client.CreateNew
		if keep {
			o.Disposition, o.Share = client.OpenIf, client.ShareRead
		}
	}
	var err error
	if w.f, err = p.sh.CreateFile(ctx, name, o); err != nil {
		if ctx.Err() != nil && w.temp && !keep && p.Lost() == nil { // it may have been made all the same
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
			defer cancel()
			_ = p.sh.Remove(ctx, name)
		}
		return nil, about(err, w.target)
	}
	return w, nil
}

func (w *shareWriter) WriteAt(ctx context.Context, b []byte, off int64) (int, error) {
	n, err := w.f.WriteAtContext(ctx, b, off)
	return n, about(err, w.target)
}

func (w *shareWriter) ReadAt(ctx context.Context, b []byte, off int64) (int, error) {
	n, err := w.f.ReadAtContext(ctx, b, off)
	if err != io.EOF {
		err = about(err, w.target)
	}
	return n, err
}

func (w *shareWriter) Size(ctx context.Context) (int64, error) {
	i, err := w.f.StatContext(ctx)
	if err != nil {
		return 0, about(err, w.target)
	}
	return i.Size(), nil
}

func (w *shareWriter) Truncate(ctx context.Context, size int64) error {
	return about(w.f.Truncate(ctx, size), w.target)
}

func (w *shareWriter) SetSparse(ctx context.Context) error {
	return about(w.f.SetSparse(ctx, true), w.target)
}

func (w *shareWriter) Sync(ctx context.Context) error { return about(w.f.Sync(ctx), w.target) }

func (w *shareWriter) InOrder() bool { return false }

// CopiesFrom implements Writer: both files have to be of one session.
func (w *shareWriter) CopiesFrom(src Reader) bool {
	r, ok := src.(*shareReader)
	return ok && r.f.Share().Session() == w.f.Share().Session()
}

// CopyFrom has the server copy.
func (w *shareWriter) CopyFrom(ctx context.Context, off int64, src Reader, srcOff, n int64) (int64, error) {
	r, ok := src.(*shareReader)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	return w.f.CopyRange(ctx, off, r.f, srcOff, n)
}

func (w *shareWriter) Commit(ctx context.Context, mod time.Time) error {
	var err error
	if !mod.IsZero() {
		err = w.f.Chtimes(ctx, time.Time{}, mod)
	}
	if err == nil && w.temp {
		err = w.f.Rename(ctx, w.target, true)
	}
	if err != nil {
		w.Abort(ctx, false)
		return about(err, w.target)
	}
	w.closed = true
	return about(w.f.Close(), w.target)
}

// cleanup is how long it may take to remove what was begun, after an interruption.
const cleanup = 10 * time.Second

func (w *shareWriter) Abort(ctx context.Context, keep bool) {
	if w.closed {
		return
	}
	w.closed = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
	defer cancel()
	_ = w.f.Close() // has failed, or is given up
	if w.temp && !keep {
		_ = w.f.Share().Remove(ctx, w.f.Name())
	}
}
