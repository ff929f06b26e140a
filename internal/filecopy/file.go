package filecopy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

const (
	// chunk is the size in bytes of the pieces in which a file is moved: one READ or
	// WRITE each.
	chunk = 1 << 20
	// serverChunk is that of the pieces that a server copies by itself.
	serverChunk = 16 << 20
)

// linger is how long what is under way goes on after an interruption. A message that is
// cut off in being sent takes the connection with it, and with that the means to clean up.
const linger = 5 * time.Second

// lingering returns a context that ends that long after another one.
func lingering(ctx context.Context) (context.Context, context.CancelFunc) {
	long, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	var mu sync.Mutex
	var timer *time.Timer // guarded by mu
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		timer = time.AfterFunc(linger, func() { cancel(context.Cause(ctx)) })
	})
	return long, func() {
		stop()
		cancel(nil)
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
	}
}

// task is the copying of one file. Its methods have the context that lingers.
type task struct {
	c        *Copier
	stop     context.Context // when it ends nothing more is begun
	rel      string
	e        Entry // of the source
	src      Reader
	dst      Writer
	told     func(int64)
	bytes    atomic.Int64
	onServer atomic.Bool // the server may be able to copy
	sparse   bool        // what is not written is a hole; set before there are pieces
	marks    marks
	journal  *journal // nil without Config.Continue
}

// copyFile copies one file and reports that.
func (c *Copier) copyFile(ctx context.Context, rel string, e Entry) error {
	start := time.Now()
	r := Result{Action: ActionCopy, From: c.from.Path(rel), To: c.to.Path(rel), Size: e.Size}
	long, cancel := lingering(ctx)
	defer cancel()
	t := &task{c: c, stop: ctx, rel: rel, e: e, told: c.cfg.Progress.File(r.From, e.Size)}
	if c.cfg.Continue && c.whole(long, ctx, rel, e) {
		r.Action = ActionSkip
		t.told(e.Size)
	} else {
		r.SHA256, r.Err = t.run(long)
		r.Bytes, r.Resumed = t.bytes.Load(), t.marks.from
	}
	t.told(-1)
	r.Took = time.Since(start)
	return c.report(ctx, r)
}

// whole reports whether an earlier run has copied a file.
func (c *Copier) whole(ctx, stop context.Context, rel string, e Entry) bool {
	old, err := c.to.Stat(ctx, rel, false)
	if err != nil || !old.Mode.IsRegular() || old.Size != e.Size || !sameTime(old.Mod, e.Mod, 0) {
		return false
	}
	if !c.cfg.Verify {
		return true
	}
	same, err := c.sameContent(ctx, stop, rel, e.Size)
	return err == nil && same
}

func (t *task) run(ctx context.Context) (sum string, err error) {
	c := t.c
	if t.src, err = c.from.Open(ctx, t.rel); err != nil {
		return "", err
	}
	defer t.src.Close()
	temp, keep := "", false
	switch {
	case c.cfg.InPlace:
	case c.cfg.Continue && t.e.Size >= continueFrom:
		temp, keep = partialName(c.from.Path(t.rel), t.rel, t.e), true
	default:
		temp = newTemp()
	}
	if t.dst, err = c.to.Create(ctx, t.rel, temp, keep); err != nil {
		return "", err
	}
	usable := keep // what there is may be gone on with
	defer func() {
		if err == nil {
			err = t.dst.Commit(ctx, t.e.Mod)
			usable = false
		}
		if err != nil {
			if usable {
				usable = t.journal.rescue(ctx, t)
			}
			t.dst.Abort(ctx, usable)
		}
		t.journal.close(ctx, usable && err != nil)
	}()
	if keep && !t.dst.InOrder() {
		if t.journal, err = openJournal(ctx, t, temp); err != nil {
			t.dst.Abort(ctx, true) // the next run may have more luck with it
			return "", err
		}
	}
	if err := t.move(ctx); err != nil {
		return "", err
	}
	if t.journal != nil || c.cfg.Verify {
		now, err := t.src.Stat(ctx)
		if err != nil {
			return "", err
		}
		if now.Size != t.e.Size || !now.Mod.Equal(t.e.Mod) {
			usable = false
			return "", fmt.Errorf("%s: has changed while it was copied", c.from.Path(t.rel))
		}
	}
	if c.cfg.Verify {
		if t.dst.InOrder() {
			return "", fmt.Errorf("%s: can't be read back to verify it", c.to.Path(t.rel))
		}
		h := sha256.New()
		same, err := c.compareBytes(ctx, t.stop, t.src, t.dst, t.e.Size, h)
		if err != nil {
			return "", err
		}
		if !same {
			usable = false
			return "", fmt.Errorf("%s: what was written differs from %s", c.to.Path(t.rel), c.from.Path(t.rel))
		}
		sum = hex.EncodeToString(h.Sum(nil))
	}
	if t.journal != nil {
		err = t.dst.Sync(ctx)
	}
	return sum, err
}

// move copies the bytes from where marks begins.
func (t *task) move(ctx context.Context) error {
	size := t.e.Size
	off := t.marks.from
	t.told(off)
	ranges := t.c.cfg.Ranges
	sparse := t.e.Disk < size && size > chunk
	if t.dst.InOrder() {
		ranges, sparse = 1, false
	}
	if sparse {
		// Without, the holes take room where the server says so, and are the same bytes.
		if err := t.dst.SetSparse(ctx); err != nil && t.c.lost() {
			return err
		}
		if err := t.dst.Truncate(ctx, size); err != nil {
			return err
		}
		t.sparse = true
	}
	t.onServer.Store(t.dst.CopiesFrom(t.src))
	if size <= chunk {
		if size == 0 {
			return nil
		}
		return t.piece(ctx, t.stop, 0, size)
	}
	g, stop := errgroup.WithContext(t.stop)
	g.SetLimit(ranges)
	err := t.dispatch(ctx, stop, g, off, sparse)
	if gerr := g.Wait(); gerr != nil {
		err = gerr
	}
	return err
}

// dispatch has every piece from off copied by a goroutine of g, which move waits for,
// until stop.
func (t *task) dispatch(ctx, stop context.Context, g *errgroup.Group, off int64, sparse bool) error {
	size := t.e.Size
	for off < size {
		x := Extent{off, size - off}
		if sparse {
			var err error
			if x, err = t.src.NextData(ctx, off, size); err != nil {
				return err
			}
			if x.Off > off || x.Len == 0 {
				t.told(x.Off - off)
				t.marks.done(off, x.Off)
			}
			if x.Len == 0 {
				return nil
			}
		}
		for at, end := x.Off, x.Off+x.Len; at < end; {
			if stop.Err() != nil {
				return context.Cause(stop)
			}
			n := int64(chunk)
			if t.onServer.Load() {
				n = serverChunk
			}
			n = min(n, end-at)
			start := at
			g.Go(func() error { return t.piece(ctx, stop, start, n) })
			at += n
		}
		off = x.Off + x.Len
	}
	return nil
}

// piece copies n bytes at off.
func (t *task) piece(ctx, stop context.Context, off, n int64) error {
	end := off + n
	for at := off; at < end; {
		if stop.Err() != nil {
			return context.Cause(stop)
		}
		if t.onServer.Load() {
			m, err := t.dst.CopyFrom(ctx, at, t.src, at, end-at)
			at += t.count(m)
			switch {
			case err == nil:
				continue
			case m == 0 && (errors.Is(err, errors.ErrUnsupported) || errors.Is(err, ntstatus.InvalidParameter)):
				t.onServer.Store(false)
			case errors.Is(err, io.ErrUnexpectedEOF):
				return t.shorter()
			default:
				return err
			}
		}
		m, err := t.throughHere(ctx, stop, at, min(chunk, end-at))
		at += t.count(int64(m))
		if err != nil {
			return err
		}
	}
	t.marks.done(off, end)
	return t.journal.progress(ctx, t)
}

func (t *task) count(n int64) int64 {
	t.bytes.Add(n)
	t.told(n)
	return n
}

func (t *task) throughHere(ctx, stop context.Context, off, n int64) (int, error) {
	p, err := t.c.buffer(stop)
	if err != nil {
		return 0, err
	}
	defer t.c.free(p)
	b := (*p)[:n]
	m, err := t.src.ReadAt(ctx, b, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if m < len(b) {
		return 0, t.shorter()
	}
	// Servers may call holes data, as Samba does.
	if t.sparse && bytes.Equal(b, zeros[:n]) {
		return len(b), nil
	}
	return t.dst.WriteAt(ctx, b, off)
}

// zeros are what is read of a hole.
var zeros [chunk]byte

func (t *task) shorter() error {
	return fmt.Errorf("%s: became shorter while it was read", t.c.from.Path(t.rel))
}

// buffer takes one of the buffers, of chunk bytes. Nobody who has one waits for another.
func (c *Copier) buffer(ctx context.Context) (*[]byte, error) {
	select {
	case p := <-c.pieces:
		if p == nil {
			b := make([]byte, chunk)
			p = &b
		}
		return p, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (c *Copier) free(p *[]byte) { c.pieces <- p }

// readerAt is what Reader and Writer have in common.
type readerAt interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// sameContent compares the file of both places.
func (c *Copier) sameContent(ctx, stop context.Context, rel string, size int64) (bool, error) {
	a, err := c.from.Open(ctx, rel)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := c.to.Open(ctx, rel)
	if err != nil {
		return false, err
	}
	defer b.Close()
	return c.compareBytes(ctx, stop, a, b, size, nil)
}

// errDiffer ends a comparison.
var errDiffer = errors.New("filecopy: files differ")

// compareBytes reads size bytes of both files, several pieces at a time, and gives
// them to h, if that is not nil, in order. It ends early with stop.
func (c *Copier) compareBytes(ctx, stop context.Context, a, b readerAt, size int64, h hash.Hash) (bool, error) {
	const half = chunk / 2 // both sides share a buffer
	outer := stop
	g, stop := errgroup.WithContext(stop)
	g.SetLimit(c.cfg.Ranges)
	before := make(chan struct{})
	close(before)
	for off := int64(0); off < size && stop.Err() == nil; off += half {
		n := min(half, size-off)
		turn, next := before, make(chan struct{})
		before = next
		g.Go(func() error {
			p, err := c.buffer(stop)
			if err != nil {
				return err
			}
			defer c.free(p)
			x, y := (*p)[:n], (*p)[half:half+n]
			if err := readFull(ctx, a, x, off); err != nil {
				return err
			}
			if err := readFull(ctx, b, y, off); err != nil {
				return err
			}
			if !bytes.Equal(x, y) {
				return errDiffer
			}
			if h == nil {
				return nil
			}
			select {
			case <-turn:
				h.Write(x) // never fails
				close(next)
				return nil
			case <-stop.Done():
				return context.Cause(stop)
			}
		})
	}
	err := g.Wait()
	if errors.Is(err, errDiffer) {
		return false, nil
	}
	if err == nil && outer.Err() != nil { // not all was begun
		err = context.Cause(outer)
	}
	return err == nil, err
}

// readFull fills p; a file that ends before that differs.
func readFull(ctx context.Context, r readerAt, p []byte, off int64) error {
	n, err := r.ReadAt(ctx, p, off)
	if n < len(p) && (err == nil || errors.Is(err, io.EOF)) {
		return errDiffer
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
