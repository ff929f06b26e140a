package client

import (
	"context"

	"sync"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// aheadChunk is how much is read ahead in one transfer, in bytes. A Read of that much
// goes straight to the caller's buffer, in several requests as it is.
const aheadChunk = 256 << 10

var aheadBuffers = sync.Pool{New: func() any { return new([aheadChunk]byte) }}

// ahead is what is read of a file before it is asked for: transfers one behind the other.
// It belongs to who has taken it from the File.
type ahead struct {
	off    int64 // of the first byte that is left
	next   int64 // where the next transfer begins
	parts  []aheadPart
	depth  int    // how many to keep going; it grows as they are used
	seen   uint64 // of File.changes
	failed bool   // a transfer ended early: what is behind it is void
}

type aheadPart struct {
	t    *transfer // nil once it has ended
	buf  *[aheadChunk]byte
	left []byte // of buf, once it has ended
}

// takeAhead takes what was read ahead, nil if there is nothing.
func (f *File) takeAhead() *ahead {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.ahead
	f.ahead = nil
	return a
}

// putAhead gives it back, or ends it if the file or the session has been closed: who
// closes drops what he finds, so that one of the two does it.
func (f *File) putAhead(a *ahead) {
	s := f.sh.s
	s.aheads.Store(f, struct{}{})
	f.mu.Lock()
	f.ahead = a
	over := f.closed
	f.mu.Unlock()
	if over || s.Err() != nil {
		f.dropAhead()
	}
}

// dropAhead ends what is being read ahead and waits for it, as the server may be writing
// into its memory.
func (f *File) dropAhead() {
	f.takeAhead().drop()
	f.sh.s.aheads.Delete(f)
}

// dropAheads is for a session that has ended.
func (s *Session) dropAheads() {
	s.aheads.Range(func(f, _ any) bool {
		f.(*File).dropAhead()
		return true
	})
}

func (a *ahead) drop() {
	if a == nil {
		return
	}
	for i := range a.parts {
		if t := a.parts[i].t; t != nil {
			_, _ = t.finish(context.Background())
		}
		aheadBuffers.Put(a.parts[i].buf)
	}
	a.parts = nil
}

// readAhead is how many bytes may be read ahead now. Over SMB Direct none are: what waits
// for its reader would hold registrations, or receive buffers of the connection, of which
// there are few and without which nobody gets on; and there reads are short and go to the
// caller's own buffer.
func (f *File) readAhead() int {
	if f.dir || f.sh.kind != smb2.ShareTypeDisk || f.sh.s.best().rdma != nil {
		return 0
	}
	return f.sh.s.cfg.ReadAhead
}

// readNext reads at the position. Called with posMu held.
func (f *File) readNext(ctx context.Context, p []byte) (int, error) {
	most := f.readAhead() / aheadChunk
	a := f.takeAhead()
	if a != nil && (a.off != f.pos || a.seen != f.changes.Load()) {
		a.drop()
		a = nil
		f.sh.s.aheads.Delete(f)
	}
	if len(p) == 0 || len(p) >= aheadChunk || most < 1 {
		a.drop() // and who reads in large pieces from now on needs none
		return f.transfer(ctx, p, f.pos, false)
	}
	if a == nil {
		if f.inRow < 2 || f.readEnd != f.pos {
			return f.transfer(ctx, p, f.pos, false)
		}
		a = &ahead{off: f.pos, next: f.pos, depth: 1, seen: f.changes.Load()}
	}
	n := f.fromAhead(ctx, a, p, most)
	if a.failed && len(a.parts) == 0 || n == 0 {
		a.drop()
		f.sh.s.aheads.Delete(f)
	} else {
		f.putAhead(a)
	}
	if n == 0 { // the end, or an error: it is asked for, and may be over
		return f.transfer(ctx, p, f.pos, false)
	}
	return n, nil
}

// fromAhead copies what there is into p, waiting for it, and keeps up to most parts going.
func (f *File) fromAhead(ctx context.Context, a *ahead, p []byte, most int) (n int) {
	for n < len(p) {
		for !a.failed && len(a.parts) < min(a.depth, most) {
			buf := aheadBuffers.Get().(*[aheadChunk]byte)
			a.parts = append(a.parts, aheadPart{t: f.begin(ctx, buf[:], a.next, false), buf: buf})
			a.next += aheadChunk
		}
		if len(a.parts) == 0 {
			break
		}
		part := &a.parts[0]
		if part.t != nil {
			got, err := part.t.finish(ctx)
			part.t, part.left = nil, part.buf[:got]
			if err != nil || got < aheadChunk {
				a.failed = true
				a.keepFirst()
				part = &a.parts[0]
			}
		}
		c := copy(p[n:], part.left)
		part.left = part.left[c:]
		n += c
		a.off += int64(c)
		if len(part.left) == 0 {
			aheadBuffers.Put(part.buf)
			a.parts = append(a.parts[:0], a.parts[1:]...)
			a.depth = min(2*a.depth, most)
		}
	}
	return n
}

// keepFirst drops all parts but the first, which has ended early.
func (a *ahead) keepFirst() {
	rest := ahead{parts: a.parts[1:]}
	rest.drop()
	a.parts = a.parts[:1]
}
