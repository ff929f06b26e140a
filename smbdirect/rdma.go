package smbdirect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"golang.org/x/sync/semaphore"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/core"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// rdmaSide implements transport.RDMA for its Conn.
type rdmaSide struct{ c *Conn }

var (
	_ transport.RDMA        = (*rdmaSide)(nil)
	_ transport.OffsetRDMA  = (*rdmaSide)(nil)
	_ transport.Thresholder = (*rdmaSide)(nil)
	_ transport.WaitTeller  = (*rdmaSide)(nil)

	_ transport.TryRegisterer  = (*rdmaSide)(nil)
	_ transport.PipeRegisterer = (*rdmaSide)(nil)
)

// Provider implements transport.RDMA.
func (s *rdmaSide) Provider() string { return s.c.dev.name }

// MaxReadWriteSize implements transport.RDMA. It is 0 with a peer that offers
// none.
func (s *rdmaSide) MaxReadWriteSize() int { return s.c.maxReadWrite }

// RemoteInvalidation implements transport.RDMA. What the peer's adapter can do is
// not negotiated; every one that [MS-SMBD] runs on can invalidate.
func (s *rdmaSide) RemoteInvalidation() bool { return s.c.invalidation }

// Thresholds of RDMA in bytes. In software RDMA takes the way of messages, with a request
// more: reads and writes of 8 KiB, 32 at a time over iWARP on loopback, took a third of the
// processor time in messages, of 16 KiB four fifths, of 32 KiB twice as much.
const (
	threshold         = 4096 // that of Windows
	softwareThreshold = 16 << 10
)

// Threshold implements transport.Thresholder.
func (s *rdmaSide) Threshold() int {
	if s.c.poller != nil { // which an adapter in hardware has no use for
		return softwareThreshold
	}
	return threshold
}

// ShortReads implements transport.RDMA.
func (s *rdmaSide) ShortReads() bool { return s.c.shortReads }

// acquire waits for n units of a semaphore, but not beyond the end of the
// connection.
func (c *Conn) acquire(ctx context.Context, what string, s *semaphore.Weighted, n int64) error {
	if s.TryAcquire(n) {
		return nil
	}
	waitCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	go func() { // ends with this call, which waits for it
		defer close(ended)
		select {
		case <-c.closed:
			cancel()
		case <-waitCtx.Done():
		}
	}()
	err := s.Acquire(waitCtx, n)
	cancel()
	<-ended
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("smbdirect: %s: %w", what, context.Cause(ctx))
	}
	return c.err()
}

// Lease implements transport.RDMA. Waiting calls are served in order. Errors:
// ErrTooLarge, that of ctx, one that matches net.ErrClosed, that of the provider.
func (s *rdmaSide) Lease(ctx context.Context, n int) (transport.Buffer, error) {
	c := s.c
	if n <= 0 || n > c.maxReadWrite {
		return nil, fmt.Errorf("smbdirect: lease of %d bytes: %w", n, ErrTooLarge)
	}
	l, err := c.lease(ctx, n)
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (c *Conn) lease(ctx context.Context, n int) (*lease, error) {
	size := int64(classSize(n))
	d := c.dev
	if err := c.acquire(ctx, "lease", d.memory, size); err != nil {
		return nil, err
	}
	if err := c.err(); err != nil || !d.retain() {
		d.memory.Release(size)
		return nil, c.err()
	}
	l, err := d.lease(ctx, n)
	if err != nil {
		d.memory.Release(size)
		d.release()
		return nil, err
	}
	l.conn = c
	l.out.Store(true)
	c.leased.Add(1)
	return l, nil
}

// checkTransfer checks what the caller and the peer's descriptors say, before
// anything is sent (SD-104, SD-105).
func (c *Conn) checkTransfer(n int, remote []transport.Descriptor, at uint64) error {
	if n <= 0 || n > c.maxReadWrite {
		return fmt.Errorf("smbdirect: transfer of %d bytes: %w", n, ErrTooLarge)
	}
	if len(remote) > MaxDescriptors {
		return fmt.Errorf("smbdirect: %d descriptors: %w", len(remote), transport.ErrDescriptors)
	}
	if sum := transport.DescriptorsLen(remote); sum < at || sum-at < uint64(n) {
		return fmt.Errorf("smbdirect: %d bytes from %d on to descriptors of %d: %w", n, at, sum, transport.ErrDescriptors)
	}
	for _, d := range remote {
		if d.Length > 0 && d.Offset > math.MaxUint64-uint64(d.Length-1) {
			return fmt.Errorf("smbdirect: descriptor at %#x of %d bytes: %w", d.Offset, d.Length, transport.ErrDescriptors)
		}
	}
	return nil
}

// transfer runs a Write or Read of the first n bytes of b, from at on in the peer's
// buffers.
func (c *Conn) transfer(ctx context.Context, k requestKind, b transport.Buffer, n int, remote []transport.Descriptor, at uint64) error {
	if err := c.checkTransfer(n, remote, at); err != nil {
		return err
	}
	l, ok := b.(*lease)
	if !ok || !l.out.Load() || l.dev != c.dev || n > len(l.mem) {
		return fmt.Errorf("smbdirect: %v of %d bytes: not a buffer leased from this connection's pool", k, n)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("smbdirect: %v: %w", k, context.Cause(ctx))
	}
	r := c.dev.requests.get(k)
	r.buf, r.n, r.remote = l, n, remote
	for at >= uint64(remote[r.desc].Length) { // checkTransfer made sure that more follow
		at -= uint64(remote[r.desc].Length)
		r.desc++
	}
	r.descOff = uint32(at)
	_, err := c.do(ctx, r)
	return err
}

// Write implements transport.RDMA.
func (s *rdmaSide) Write(ctx context.Context, b transport.Buffer, n int, remote []transport.Descriptor) error {
	return s.c.transfer(ctx, reqWrite, b, n, remote, 0)
}

// WriteAt implements transport.OffsetRDMA.
func (s *rdmaSide) WriteAt(ctx context.Context, b transport.Buffer, n int, remote []transport.Descriptor, at uint64) error {
	return s.c.transfer(ctx, reqWrite, b, n, remote, at)
}

// Read implements transport.RDMA. Errors: those of Write, and ErrReadLimits if the
// peer takes no reads.
func (s *rdmaSide) Read(ctx context.Context, b transport.Buffer, n int, remote []transport.Descriptor) error {
	return s.ReadAt(ctx, b, n, remote, 0)
}

// ReadAt implements transport.OffsetRDMA.
func (s *rdmaSide) ReadAt(ctx context.Context, b transport.Buffer, n int, remote []transport.Descriptor, at uint64) error {
	if s.c.readLimit == 0 {
		return fmt.Errorf("smbdirect: read: %w", ErrReadLimits)
	}
	return s.c.transfer(ctx, reqRead, b, n, remote, at)
}

// WriteFile implements transport.RDMA. Without support of the provider the file
// is read into a leased buffer.
func (s *rdmaSide) WriteFile(ctx context.Context, f *os.File, off int64, n int, remote []transport.Descriptor) (int, error) {
	return s.WriteFileTelling(ctx, nil, f, off, n, remote)
}

// WriteFileTelling implements transport.WaitTeller.
func (s *rdmaSide) WriteFileTelling(ctx context.Context, wait func(), f *os.File, off int64, n int, remote []transport.Descriptor) (int, error) {
	c := s.c
	if err := c.checkTransfer(n, remote, 0); err != nil {
		return 0, err
	}
	if off < 0 || off > math.MaxInt64-int64(n) {
		return 0, fmt.Errorf("smbdirect: write file from %d: %w", off, os.ErrInvalid)
	}
	if c.file == nil {
		if wait != nil {
			wait()
		}
		return c.writeFileByBuffer(ctx, f, off, n, remote)
	}
	if ctx.Err() != nil {
		return 0, fmt.Errorf("smbdirect: write file: %w", context.Cause(ctx))
	}
	r := c.dev.requests.get(reqWriteFile)
	r.os, r.fileOff, r.n, r.remote, r.wait = f, off, n, remote, wait
	return c.do(ctx, r)
}

func (c *Conn) writeFileByBuffer(ctx context.Context, f *os.File, off int64, n int, remote []transport.Descriptor) (int, error) {
	b, err := c.lease(ctx, n)
	if err != nil {
		return 0, err
	}
	defer b.Release()
	k, err := f.ReadAt(b.mem[:n], off)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("smbdirect: write file: %w", err)
	}
	clear(b.mem[k:n])
	return k, c.transfer(ctx, reqWrite, b, n, remote, 0)
}

// pushTransfers posts what waits, as far as the shares of the initiator queue and
// the read limit go.
func (c *Conn) pushTransfers() {
	l := &c.l
	if l.wait {
		return
	}
	for r := l.regs.head; r != nil && l.out[classRegister] < l.depth[classRegister] && !l.dead && !l.wait; r = l.regs.head {
		c.pushRegistration(r)
	}
	for r := l.writes.head; r != nil && l.out[classWrite] < l.depth[classWrite] && !l.dead && !l.wait; r = l.writes.head {
		if c.pushPiece(r, classWrite); r.pos == r.n {
			l.writes.pop()
		}
	}
	for r := l.reads.head; r != nil && l.out[classRead] < l.depth[classRead] && !l.dead && !l.wait; r = l.reads.head {
		if c.pushPiece(r, classRead); r.pos == r.n {
			l.reads.pop()
		}
	}
}

// pushPiece posts the next part of a transfer: as much as lies in one descriptor
// (3.1.4.5, 3.1.4.6).
func (c *Conn) pushPiece(r *request, k class) {
	d := r.remote[r.desc]
	for d.Length == r.descOff { // checkTransfer made sure that more follow
		r.desc++
		r.descOff = 0
		d = r.remote[r.desc]
	}
	n := min(d.Length-r.descOff, uint32(r.n-r.pos))
	if most := c.dev.info.MaxTransferLength; uint64(n) > most {
		n = uint32(most)
	}
	e := c.newEntry(k)
	e.req, e.bytes = r, n
	w := &work{op: ndk.OpWrite, entry: e, addr: d.Offset + uint64(r.descOff), token: ndk.Token(d.Token)}
	if r.kind == reqWriteFile {
		e.file = true
		w.file = ndk.FileRange{File: r.os, Offset: r.fileOff + int64(r.pos), Length: n}
	} else {
		w.sge = r.buf.sge(r.pos, int(n))
	}
	r.out++
	r.pos += int(n)
	r.descOff += n
	// Reads report each, for the read limit; pieces of a file, for the bytes
	// that came from it.
	w.signal = c.due(k) || k == classRead || e.file || r.pos == r.n
	if k == classRead {
		w.op = ndk.OpRead
	}
	c.watchTransfers()
	c.l.note(evTransfer, uint8(w.op), w.addr, 0, n, d.Token)
	c.post(w)
}

// transfersOut is how many transfers are posted and not completed.
func (l *loop) transfersOut() int { return l.out[classRead] + l.out[classWrite] }

// watchTransfers notes that a transfer is posted.
func (c *Conn) watchTransfers() {
	l := &c.l
	if l.transfersOut() == 1 {
		l.moved = l.at
	}
	if !l.watching {
		l.watching = true
		l.stall.Reset(c.cfg.TransferTimeout)
	}
}

// stallDue ends the connection if transfers do not move, and else looks again
// when they might have stood still for long enough.
func (c *Conn) stallDue() {
	l := &c.l
	if l.watching = l.transfersOut() > 0; !l.watching {
		return
	}
	if left := c.cfg.TransferTimeout - (l.at - l.moved); left > 0 {
		l.stall.Reset(left)
		return
	}
	c.die(&core.TimeoutError{Section: "3.1.4.5, 3.1.4.6", Waiting: "completion of an RDMA transfer"}, false)
}
