package client

import (
	"context"
	"io"
	"io/fs"
	"math"
)

// Read reads at the file position: up to len(p) bytes, io.EOF at the end. When several
// in a row are short, what follows is read ahead, as Config.ReadAhead says.
func (f *File) Read(p []byte) (int, error) { return f.ReadContext(context.Background(), p) }

// ReadContext is Read with a context.
func (f *File) ReadContext(ctx context.Context, p []byte) (int, error) {
	f.posMu.Lock()
	defer f.posMu.Unlock()
	n, err := f.readNext(ctx, p)
	f.pos += int64(n)
	if f.readEnd == f.pos-int64(n) {
		f.inRow++
	} else {
		f.inRow = 1
	}
	f.readEnd = f.pos
	if n > 0 && err == io.EOF {
		err = nil
		f.inRow = 0 // there is nothing to read ahead
	}
	return n, f.readError(err)
}

// Write writes at the file position, or at the end of a file opened with O_APPEND
// (where it is found by asking, so another writer may be in between).
func (f *File) Write(p []byte) (int, error) { return f.WriteContext(context.Background(), p) }

// WriteContext is Write with a context.
func (f *File) WriteContext(ctx context.Context, p []byte) (int, error) {
	f.posMu.Lock()
	defer f.posMu.Unlock()
	if err := f.toEnd(ctx); err != nil {
		return 0, wrap("write", f.name, err)
	}
	n, err := f.transfer(ctx, p, f.pos, true)
	f.pos += int64(n)
	return n, wrap("write", f.name, err)
}

// WriteString implements io.StringWriter.
func (f *File) WriteString(s string) (int, error) { return f.Write([]byte(s)) }

// toEnd moves the position of an appending file. Called with posMu held.
func (f *File) toEnd(ctx context.Context) error {
	if !f.append {
		return nil
	}
	size, err := f.size(ctx)
	if err == nil {
		f.pos = size
	}
	return err
}

// Seek sets the file position, in bytes.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	return f.SeekContext(context.Background(), offset, whence)
}

// SeekContext is Seek with a context, which only io.SeekEnd needs.
func (f *File) SeekContext(ctx context.Context, offset int64, whence int) (int64, error) {
	f.posMu.Lock()
	defer f.posMu.Unlock()
	base := int64(0)
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		base = f.pos
	case io.SeekEnd:
		var err error
		if base, err = f.size(ctx); err != nil {
			return 0, wrap("seek", f.name, err)
		}
	default:
		return 0, wrap("seek", f.name, fs.ErrInvalid)
	}
	if offset > 0 && base > 1<<63-1-offset || base+offset < 0 {
		return 0, wrap("seek", f.name, fs.ErrInvalid)
	}
	f.pos = base + offset
	return f.pos, nil
}

// streamChunk is how many bytes ReadFrom and WriteTo move in one transfer, some of which
// they keep going.
const streamChunk = 1 << 20

// ReadFrom writes all of r at the file position. While one piece is written the
// next is read from r. What is a File of the same session is copied on the server.
func (f *File) ReadFrom(r io.Reader) (int64, error) {
	return f.ReadFromContext(context.Background(), r)
}

// ReadFromContext is ReadFrom with a context, which does not reach r.
func (f *File) ReadFromContext(ctx context.Context, r io.Reader) (total int64, err error) {
	limited, _ := r.(*io.LimitedReader)
	src, _ := r.(*File)
	n := int64(math.MaxInt64)
	if limited != nil {
		src, _ = limited.R.(*File)
		n = limited.N
	}
	switch {
	case src == f:
		return 0, wrap("copy", f.name, fs.ErrInvalid)
	case src != nil:
		total, ok, err := f.copyFrom(ctx, src, n)
		if limited != nil {
			limited.N -= total
		}
		if ok {
			return total, err
		}
	}
	f.posMu.Lock()
	defer f.posMu.Unlock()
	if err := f.toEnd(ctx); err != nil {
		return 0, wrap("write", f.name, err)
	}
	var bufs [2][]byte
	var going *transfer
	want := 0
	// finish ends the transfer that is going.
	finish := func() error {
		if going == nil {
			return nil
		}
		n, err := going.finish(ctx)
		going = nil
		f.pos += int64(n)
		total += int64(n)
		if err == nil && n < want {
			err = io.ErrShortWrite
		}
		return wrap("write", f.name, err)
	}
	for i := 0; ; i++ {
		if bufs[i%2] == nil {
			bufs[i%2] = make([]byte, streamChunk)
		}
		n, rerr := io.ReadFull(r, bufs[i%2])
		if err := finish(); err != nil {
			return total, err
		}
		if n > 0 {
			want = n
			going = f.begin(ctx, bufs[i%2][:n], f.pos, true)
		}
		if rerr != nil {
			err := finish()
			if err == nil && rerr != io.EOF && rerr != io.ErrUnexpectedEOF {
				err = rerr
			}
			return total, err
		}
	}
}

// WriteTo reads from the file position to the end into w. While w takes one piece
// the next are read, as many as Config.ReadAhead has room for. Into a File of the same
// session it is copied on the server.
func (f *File) WriteTo(w io.Writer) (int64, error) { return f.WriteToContext(context.Background(), w) }

// WriteToContext is WriteTo with a context, which does not reach w.
func (f *File) WriteToContext(ctx context.Context, w io.Writer) (total int64, err error) {
	if dst, _ := w.(*File); dst == f {
		return 0, wrap("copy", f.name, fs.ErrInvalid)
	} else if dst != nil {
		if total, ok, err := dst.copyFrom(ctx, f, math.MaxInt64); ok {
			return total, err
		}
	}
	f.posMu.Lock()
	defer f.posMu.Unlock()
	// A ring of pieces: n from head are being read, in the order of the file.
	type piece struct {
		t   *transfer
		buf []byte
	}
	ring := make([]piece, max(f.readAhead()/streamChunk, 1)+1)
	head, n, next := 0, 0, f.pos
	more := func() {
		p := &ring[(head+n)%len(ring)]
		if p.buf == nil {
			p.buf = make([]byte, streamChunk)
		}
		p.t = f.begin(ctx, p.buf, next, false)
		next += streamChunk
		n++
	}
	defer func() { // read ahead for nothing
		for ; n > 0; n-- {
			_, _ = ring[head].t.finish(ctx)
			head = (head + 1) % len(ring)
		}
	}()
	for depth := 1; ; depth++ { // one more with every piece, so that a short file takes little
		for n < min(depth, len(ring)-1) {
			more()
		}
		p := &ring[head]
		got, err := p.t.finish(ctx)
		head, n = (head+1)%len(ring), n-1
		if err == nil {
			more() // this takes the place beside p: there is one more than are read
		}
		if got > 0 {
			m, werr := w.Write(p.buf[:got])
			f.pos += int64(m)
			total += int64(m)
			if werr == nil && m < got {
				werr = io.ErrShortWrite
			}
			if werr != nil {
				return total, werr
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, f.readError(err)
		}
	}
}
