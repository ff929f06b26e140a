package client

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// A transfer moves one slice of the caller's to or from a file: in chunks that one
// READ or WRITE each takes, up to Config.Window of them in flight. It has a begin
// and an end, so that ReadFrom and WriteTo can keep two of them going. Transfers
// are pooled, and allocate nothing.
type transfer struct {
	f     *File
	write bool
	p     []byte
	off   int64
	pipe  *transport.Pipe // for the beginning of what is read; nil without

	ring       [maxWindow]chunk
	head, n    int  // the chunks in flight: n from ring[head], in file order
	issued     int  // bytes of p in chunks that were started
	done       int  // bytes of p that are done, without a gap
	stop       bool // start no more chunks
	eof        bool
	err        error // of the chunk at done
	limit      int   // bytes in a chunk, lowered when credits are short
	top        int   // bytes of p that were ever in a chunk: below it a WRITE is a replay
	again      retry // of the chunk at done
	retried    bool  // the session was renewed for the chunk at done
	seen       uint64
	sinceGrace bool // the server had its time to answer after a cancel
}

// chunk is one request of a transfer.
type chunk struct {
	k       *call
	c       *conn
	p       []byte
	reg     transport.Registration // nil if the bytes are in the message
	pipe    *transport.Pipe        // for the beginning of what is read; nil without
	path    DataPath
	scratch *scratch // of PathRDMAEncrypted
}

var transferPool = sync.Pool{New: func() any { return new(transfer) }}

// begin starts a transfer of p at off and sends as many of its requests as the
// window takes. It must be ended by finish, and p is the transfer's until then.
func (f *File) begin(ctx context.Context, p []byte, off int64, write bool) *transfer {
	return f.beginPiped(ctx, p, off, write, nil)
}

func (f *File) beginPiped(ctx context.Context, p []byte, off int64, write bool, pipe *transport.Pipe) *transfer {
	t := transferPool.Get().(*transfer)
	t.f, t.write, t.p, t.off = f, write, p, off
	t.head, t.n, t.issued, t.done = 0, 0, 0, 0
	t.stop, t.eof, t.err, t.retried, t.sinceGrace = false, false, nil, false, false
	t.limit, t.top, t.again = math.MaxInt, 0, retry{}
	t.pipe = pipe
	switch {
	case off < 0 || off > math.MaxInt64-int64(len(p)):
		t.err, t.stop = fs.ErrInvalid, true
	case len(p) > 0:
		t.fill(ctx)
	}
	return t
}

// finish waits for the rest. n bytes of p are done; err is io.EOF if a read came
// to the end of the file, and tells why if n is short.
func (t *transfer) finish(ctx context.Context) (n int, err error) {
	for {
		for t.n > 0 {
			t.take(ctx)
			t.fill(ctx)
		}
		if t.err == nil && !t.eof && t.done < len(t.p) {
			// A short answer that is not the end: go on behind it.
			t.stop, t.issued = false, t.done
			t.fill(ctx)
			if t.n > 0 {
				continue
			}
		}
		break
	}
	n, err = t.done, t.err
	if err == nil && t.eof {
		err = io.EOF
	}
	t.f, t.p, t.pipe, t.err = nil, nil, nil, nil
	transferPool.Put(t)
	return n, err
}

// fill starts chunks while there is room in the window and something to move.
func (t *transfer) fill(ctx context.Context) {
	window := t.f.sh.s.cfg.Window
	for !t.stop && t.n < window && t.issued < len(t.p) {
		s := t.f.sh.s
		c := &t.ring[(t.head+t.n)%maxWindow]
		c.c = s.best()
		size, path := t.f.chunkSize(c.c, len(t.p)-t.issued, t.write)
		size = min(size, t.limit)
		c.p, c.path = t.p[t.issued:t.issued+size], path
		t.seen = s.counters.reauths.Load()
		err := t.start(ctx, c, t.off+int64(t.issued))
		if errors.Is(err, errTooFewCredits) && size > 65536 {
			t.limit = max(65536, size/2/65536*65536)
			continue
		}
		if errors.Is(err, errWindow) {
			return
		}
		if err != nil {
			if t.n == 0 && s.failover(ctx, c.c, &t.again) != nil {
				continue
			}
			if t.again.err != nil {
				err = t.again.err
			}
			// Chunks before this one may still succeed; it counts once they have.
			t.stop = true
			if t.n == 0 {
				t.err = err
			}
			return
		}
		t.n++
		t.issued += size
		t.top = max(t.top, t.issued)
	}
}

// chunkSize says how many of n bytes one request on a connection may move, and how.
func (f *File) chunkSize(c *conn, n int, write bool) (size int, path DataPath) {
	cfg := &f.sh.s.cfg
	limit := c.neg.maxRead
	if write {
		limit = c.neg.maxWrite
	}
	if n >= c.rdmaFrom {
		path, _ = f.sh.path(c)
	}
	if path != PathInline {
		size = min(n, limit, cfg.MaxIOSize, c.rdma.MaxReadWriteSize())
	} else if write {
		size = min(n, c.maxWrite())
	} else {
		size = min(n, c.maxRead())
	}
	if size > 65536 {
		size = min(size, smb2.MaxPayload(uint16(min(c.creditLimit(), math.MaxUint16))))
	}
	return size, path
}

// start sends the request of a chunk.
func (t *transfer) start(ctx context.Context, c *chunk, off int64) error {
	id, err := t.f.handle()
	if err != nil {
		return err
	}
	cmd := smb2.CommandRead
	if t.write {
		cmd = smb2.CommandWrite
	}
	k := t.f.call(cmd)
	k.changes = t.write
	if t.write && t.issued < t.top {
		k.replay()
	}
	if c.c.multiCredit {
		k.charge = smb2.CreditCharge(len(c.p))
	}
	channel := smb2.ChannelNone
	k.info = k.info[:0]
	c.pipe = t.pipeFor(c)
	if c.path != PathInline {
		if c.path == PathRDMAEncrypted {
			c.scratch = getScratch(len(c.p))
		}
		access := transport.PeerWrites
		if t.write {
			access = transport.PeerReads
		}
		if c.reg, err = t.register(ctx, c, access); err != nil {
			c.dropScratch()
			k.free()
			if !errors.Is(err, errWindow) {
				err = c.c.transportError(ctx, "register", err)
			}
			return err
		}
		for _, d := range c.reg.Descriptors() {
			k.info = smb2.BufferDescriptor{Offset: d.Offset, Token: d.Token, Length: d.Length}.Append(k.info)
		}
		k.hold = true
		// [MS-SMB2] 3.2.4.6, 3.2.4.7.
		channel = smb2.ChannelRDMAV1
		if c.c.neg.dialect >= SMB302 && c.c.rdma.RemoteInvalidation() {
			channel = smb2.ChannelRDMAV1Invalidate
		}
		if t.write && c.path != PathRDMA {
			k.info, err = c.protectWrite(channel, k.info)
			channel = smb2.ChannelRDMATransform
		}
	}
	switch {
	case err != nil:
	case t.write:
		m := smb2.WriteRequest{Offset: uint64(off), FileID: id, Channel: channel, ChannelInfo: k.info}
		if c.path != PathInline {
			m.RemainingBytes = uint32(len(c.p))
		} else {
			m.Length = uint32(len(c.p))
			k.payload = c.p
		}
		k.buf, err = m.AppendBinary(k.buf)
	default:
		m := smb2.ReadRequest{Padding: smb2.ReadDataOffset, Length: uint32(len(c.p)), Offset: uint64(off),
			FileID: id, Channel: channel, ChannelInfo: k.info}
		if c.path != PathInline {
			m.RemainingBytes = uint32(len(c.p))
		} else {
			k.lend(c.p, c.pipe)
		}
		k.buf, err = m.AppendBinary(k.buf)
	}
	if err == nil {
		err = c.c.start(ctx, k.self[:])
	}
	if err != nil {
		t.revoke(c, nil)
		c.dropScratch()
		k.takeBack()
		k.free()
		return err
	}
	c.k = k
	c.c.flying.Add(int64(len(c.p)))
	return nil
}

// pipeFor is the pipe for a chunk that is started: the first one gets it, if nobody has to
// see what comes. When that is sent again what has gone there of the first answer has no
// meaning, whichever way it comes then.
func (t *transfer) pipeFor(c *chunk) *transport.Pipe {
	if t.pipe == nil || t.issued > 0 || t.pipe.Spoilt {
		return nil
	}
	if t.pipe.N > 0 {
		t.pipe.Spoilt = true
		return nil
	}
	if c.path != PathInline && c.path != PathRDMA {
		return nil
	}
	return t.pipe
}

// errWindow says that no more chunks can be started before one has ended.
var errWindow = errors.New("client: no registration is free")

// register makes a chunk's memory reachable. Registrations are limited, so only a
// transfer that holds none waits for one: if several held some and waited for more
// none of them would come to an end.
func (t *transfer) register(ctx context.Context, c *chunk, a transport.Access) (transport.Registration, error) {
	rdma, p := c.c.rdma, c.memory()
	if c.pipe != nil {
		if piped, ok := rdma.(transport.PipeRegisterer); ok {
			return piped.RegisterPiped(ctx, p, c.pipe)
		}
	}
	if t.n == 0 {
		return rdma.Register(ctx, p, a)
	}
	try, ok := rdma.(transport.TryRegisterer)
	if !ok {
		return nil, errWindow
	}
	reg, err := try.TryRegister(ctx, p, a)
	if reg == nil && err == nil {
		err = errWindow
	}
	return reg, err
}

// revoke ends the server's access to the chunk's memory.
func (t *transfer) revoke(c *chunk, k *call) {
	if c.reg == nil {
		return
	}
	token, ok := uint32(0), false
	if k != nil && k.in != nil && k.in.r.HasInvalidated {
		token, ok = k.in.r.Invalidated, true
	}
	// No context: this does not wait for the server, and must be done.
	if err := c.reg.Deregister(context.Background(), token, ok); err != nil {
		_ = c.c.fail(err)
	}
	c.reg = nil
}

// take waits for the oldest chunk and counts what it did.
func (t *transfer) take(ctx context.Context) {
	c := &t.ring[t.head]
	t.head = (t.head + 1) % maxWindow
	t.n--
	k := c.k
	if t.sinceGrace {
		k.hold = false
	}
	err := c.c.wait(ctx, k)
	c.c.flying.Add(-int64(len(c.p)))
	if k.gone && k.hold {
		t.sinceGrace = true
	}
	t.revoke(c, k)
	n := 0
	if err != nil {
		k.takeBack()
	} else {
		n, err = t.result(c, k)
	}
	c.dropScratch()
	c.wipe(t.write, n)
	// After a gap nothing counts: t.err is that of the chunk at done.
	if t.err == nil && !t.eof && t.doneIs(c) {
		switch {
		case err == io.EOF:
			t.eof, t.stop = true, true
		case errors.Is(err, ntstatus.NetworkSessionExpired) && !t.retried:
			t.retried, t.stop = true, true
			t.err = t.f.sh.s.reauth(ctx, t.seen)
		case err != nil && t.sendAgain(ctx, c, k):
			t.stop = true // finish goes on from done
		case err != nil:
			if t.again.err != nil {
				err = t.again.err
			}
			t.err, t.stop = err, true
		case c.pipe != nil && c.pipe.N > n && n < len(c.p):
			// A file that became shorter meanwhile is made up for with zeros: the pipe has
			// them in front of what is read behind the end that it had.
			c.pipe.Spoilt, t.stop = true, true // finish reads it again, to memory
		default:
			t.done += n
			t.retried, t.again = false, retry{}
			t.count(c, n)
			if n < len(c.p) {
				t.stop = true // finish goes on behind it
			}
		}
	}
	k.free()
	c.k, c.c, c.p, c.pipe = nil, nil, nil, nil
}

// sendAgain says whether the chunk at done, which failed, is to be sent once more:
// because its channel was lost while another lives, or because the server waits
// for requests of a lost channel to end. What was behind it is sent again too.
func (t *transfer) sendAgain(ctx context.Context, c *chunk, k *call) bool {
	s := t.f.sh.s
	if c.c.failed() != nil {
		if s.failover(ctx, c.c, &t.again) == nil {
			return false
		}
		s.counters.replays.Add(1)
		return true
	}
	// One that was given up is its connection's, whose end may answer it just now.
	return !k.gone && k.err == nil && s.busy(ctx, k, &t.again)
}

// doneIs reports whether a chunk begins where everything before it is done.
func (t *transfer) doneIs(c *chunk) bool {
	return len(c.p) > 0 && t.done < len(t.p) && &t.p[t.done] == &c.p[0]
}

// count adds a chunk's bytes to the statistics.
func (t *transfer) count(c *chunk, n int) {
	sh := t.f.sh
	st := &c.c.counters
	switch {
	case c.path != PathInline && t.write:
		st.rdmaWrites.Add(1)
		st.rdmaWritten.Add(uint64(n))
	case c.path != PathInline:
		st.rdmaReads.Add(1)
		st.rdmaRead.Add(uint64(n))
	case t.write:
		st.inlineWrites.Add(1)
		st.inlineWrit.Add(uint64(n))
	default:
		st.inlineReads.Add(1)
		st.inlineRead.Add(uint64(n))
	}
	switch c.path {
	case PathRDMASigned:
		st.rdmaSigned.Add(uint64(n))
	case PathRDMAEncrypted:
		st.rdmaEncrypted.Add(uint64(n))
	case PathInline:
		if len(c.p) < c.c.rdmaFrom {
			break
		}
		if _, declined := sh.path(c.c); declined {
			st.declined.Add(1)
		}
	}
}

// result reads the answer of a chunk: how many of its bytes are done.
func (t *transfer) result(c *chunk, k *call) (int, error) {
	conn := c.c
	switch k.resp.Status {
	case ntstatus.Success:
	case ntstatus.BufferOverflow: // a message of a pipe that is longer
		if t.write {
			return 0, k.resp.Status
		}
	case ntstatus.EndOfFile:
		if !t.write {
			return 0, io.EOF
		}
		return 0, k.resp.Status
	default:
		return 0, k.resp.Status
	}
	if t.write {
		m, err := smb2.ParseWriteResponse(k.msg)
		if err != nil {
			return 0, conn.badBody(k.cmd, err)
		}
		if uint64(m.Count) > uint64(len(c.p)) {
			return 0, conn.protocolError("3.2.5.12", "%d bytes written of %d", m.Count, len(c.p))
		}
		if m.Count == 0 {
			return 0, io.ErrShortWrite
		}
		return int(m.Count), nil
	}
	if n, ok := k.readPlaced(); ok {
		return n, nil
	}
	m, err := smb2.ParseReadResponse(k.msg)
	if err != nil {
		return 0, conn.badBody(k.cmd, err)
	}
	if c.path != PathInline {
		n, err := c.placed(k, &m)
		if n == 0 && err == nil {
			err = io.EOF
		}
		return n, err
	}
	if conn.neg.dialect == SMB311 && m.Flags&smb2.ReadFlagResponseRDMATransform != 0 {
		return 0, conn.badTransform("for data that is in the message")
	}
	if len(m.Data) > len(c.p) {
		return 0, conn.protocolError("3.2.5.11", "%d bytes read of %d asked for", len(m.Data), len(c.p))
	}
	if len(m.Data) == 0 {
		return 0, io.EOF
	}
	conn.counters.copied.Add(uint64(len(m.Data)))
	return copy(c.p, m.Data), nil
}

// transfer moves all of p.
func (f *File) transfer(ctx context.Context, p []byte, off int64, write bool) (int, error) {
	return f.begin(ctx, p, off, write).finish(ctx)
}
