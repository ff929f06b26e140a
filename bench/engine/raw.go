package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// What the engines of ndk ask their peer (ServeRaw) for goes with the Connect, and what
// it has for them comes with the Accept, in big-endian words.
const (
	rawMagic   = 0x736d6462
	rawAsk     = 6 * 4 // magic, engine, size, depth, Reads under way, memory to go through or 0
	rawOffer   = 16    // address, token and length of its memory
	rawDepth   = 4096
	rawMemory  = 1 << 30
	rawReads   = 128
	rawPrivate = 512
	rawPolls   = 16 // completions taken at a time
)

// What a connection is for.
const (
	rawWrite = iota + 1
	rawRead
	rawSend
)

// raw is an RDMA connection without SMB. ndk-write writes into the peer's memory and
// ndk-read reads it; ndk-send sends a message of the I/O's length for a write, and is
// answered by one of no length, and the other way about for a read, so that an I/O is a
// round trip. Buffers are the connection's own memory: what is in them is of no meaning.
//
// An I/O goes to the peer's memory of its slot, so that a few buffers are used again and
// again, and stay in the caches. With peer_memory=size it goes to where its file and offset
// say, in memory as long as the job's files, as I/O to files does. With source=FILE
// ndk-write takes the data from that place of a file instead of its buffers.
type raw struct {
	name  string
	kind  uint32
	a     ndk.Adapter
	at    netip.AddrPort
	ctx   context.Context
	stop  context.CancelFunc
	depth int
	size  int
	end   *rawEnd
	addr  uint64 // of the peer's memory
	token ndk.Token
	span  uint64 // of the peer's memory by offset; 0: by slot
	each  uint64 // of that, for each of the job's files

	source *os.File // nil: memory
	length uint64   // of source
	file   ndk.FileWriter
}

func newRaw(ctx context.Context, e *Env, s Spec) (Target, error) {
	a, at, err := e.Adapter(ctx, &s.Remote)
	if err != nil {
		return nil, err
	}
	r := &raw{name: string(s.Engine), a: a, at: at, depth: s.Depth, size: max(s.MaxSize, 1)}
	r.kind = map[job.Engine]uint32{job.EngineNDKWrite: rawWrite, job.EngineNDKRead: rawRead, job.EngineNDKSend: rawSend}[s.Engine]
	r.ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	if r.each = s.Size / uint64(max(s.Files, 1)); s.Remote.PeerMemory == "size" {
		r.span = min(max(s.Size, uint64(r.size)), rawMemory/2)
	}
	if err := r.open(s.Remote.Source); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if err := r.connect(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s with %s: %w", s.Engine, at, err), r.Close())
	}
	return r, nil
}

// open opens the file that data comes from, if there is one.
func (r *raw) open(source string) (err error) {
	if source == "" {
		return nil
	}
	st, err := os.Stat(source) // before it is opened: a pipe would wait for who writes to it
	switch {
	case err != nil:
		return fmt.Errorf("source: %w", err)
	case !st.Mode().IsRegular() || st.Size() < int64(r.size):
		return fmt.Errorf("source=%s is no file of %d bytes or more: %w", source, r.size, ErrRefused)
	}
	if r.source, err = os.Open(source); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	r.length = uint64(st.Size())
	return nil
}

func (r *raw) connect(ctx context.Context) (err error) {
	reads := min(r.depth, rawReads)
	if r.end, err = newRawEnd(ctx, r.a, r.depth, r.size, 0, nil); err != nil {
		return err
	}
	if r.source != nil {
		x, err := r.end.qp.Extension(ndk.FileWriterExtension, ndk.Version{Major: 1})
		if r.file, _ = x.(ndk.FileWriter); r.file == nil {
			return fmt.Errorf("source: this provider sends no files: %w", errors.Join(ErrRefused, err))
		}
	}
	if r.end.c, err = r.a.CreateConnector(ctx); err != nil {
		return err
	}
	if r.kind == rawSend {
		for i := range r.depth {
			if err := r.end.receive(i); err != nil {
				return err
			}
		}
	}
	ask := make([]byte, 0, rawAsk)
	for _, w := range []uint32{rawMagic, r.kind, uint32(r.size), uint32(r.depth), uint32(reads), uint32(r.span)} {
		ask = binary.BigEndian.AppendUint32(ask, w)
	}
	p := ndk.ConnParams{InboundReadLimit: reads, OutboundReadLimit: reads, Private: ask}
	if err := r.end.c.Connect(ctx, r.end.qp, netip.AddrPort{}, r.at, p); err != nil {
		return err
	}
	offer := make([]byte, rawPrivate)
	d, err := r.end.c.ConnectionData(offer)
	if err != nil {
		return err
	}
	if d.RequiredDataSize < rawOffer {
		return fmt.Errorf("the peer offers %d bytes, not %d: it is no end of this bench", d.RequiredDataSize, rawOffer)
	}
	r.addr, r.token = binary.BigEndian.Uint64(offer), ndk.Token(binary.BigEndian.Uint32(offer[8:]))
	if has := uint64(binary.BigEndian.Uint32(offer[12:])); has < max(r.span, uint64(r.depth)*uint64(r.size)) {
		return fmt.Errorf("the peer offers %d bytes of memory, too few", has)
	}
	return r.end.c.CompleteConnect(ctx, r.stop)
}

func (*raw) Stat(_ context.Context, name string) (int64, error) {
	return 0, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}
func (*raw) Open(context.Context, int, string, OpenFlags) error { return nil }
func (*raw) CloseFile(int) error                                { return nil }
func (*raw) Truncate(context.Context, int, int64) error         { return nil }
func (*raw) Remove(context.Context, string) error               { return nil }
func (*raw) Forget(int) error                                   { return nil }

// Do is not used: there is a Queue.
func (r *raw) Do(u *Unit) {
	u.N, u.Err = 0, fmt.Errorf("%s has I/Os in a queue alone: %w", r.name, ErrRefused)
}

func (r *raw) Interrupt() { r.stop() }

func (r *raw) Stats() result.Engine {
	return result.Engine{Name: r.name, Facts: []result.Option{{Name: "server", Value: r.at.String()}, {Name: "buffers", Value: strconv.Itoa(r.depth)},
		{Name: "peer memory", Value: strconv.FormatUint(max(r.span, uint64(r.depth)*uint64(r.size)), 10)}}}
}

// within is where n bytes of a job's place lie in something of length bytes, which is gone
// through again and again.
func within(at, n, length uint64) uint64 {
	return min(at%length, length-n)
}

func (r *raw) Close() error {
	r.stop()
	r.end.close()
	r.a.Close()
	if r.source != nil {
		return r.source.Close()
	}
	return nil
}

// Queue is the connection.
func (r *raw) Queue(depth, size int) (Queue, error) {
	if depth > r.depth || size > r.size {
		return nil, fmt.Errorf("%d I/Os of %d bytes on a connection for %d of %d", depth, size, r.depth, r.size)
	}
	return &rawQueue{r: r, order: make([]*Unit, 0, depth), timer: time.NewTimer(time.Hour), asks: make([]any, depth)}, nil
}

// rawQueue is the raw engines' Queue.
type rawQueue struct {
	r     *raw
	n     int // under way
	order []*Unit
	asks  []any // the units as contexts of requests, by slot: made once
	timer *time.Timer
	res   [rawPolls]ndk.ResultEx
	sgl   [1]ndk.SGE
}

func (q *rawQueue) Submit(us []*Unit) (int, error) {
	r := q.r
	for i, u := range us {
		if u.Slot < 0 || u.Slot >= len(q.asks) || len(u.Buf) > r.size || u.Op > Write {
			return i, fmt.Errorf("an I/O of %d bytes in slot %d: %w", len(u.Buf), u.Slot, ErrRefused)
		}
		if q.asks[u.Slot] == nil {
			q.asks[u.Slot] = u
		}
		var f ndk.OpFlags
		if i < len(us)-1 {
			f = ndk.Defer
		}
		q.sgl[0] = r.end.sge(u.Slot, len(u.Buf))
		remote, place := r.addr+uint64(u.Slot)*uint64(r.size), uint64(u.File)*r.each+uint64(u.Offset)
		if r.span > 0 {
			remote = r.addr + within(place, uint64(len(u.Buf)), r.span)
		}
		var err error
		switch {
		case r.file != nil:
			from := ndk.FileRange{File: r.source, Offset: int64(within(place, uint64(len(u.Buf)), r.length)), Length: uint32(len(u.Buf))}
			err = r.file.WriteFile(q.asks[u.Slot], from, remote, r.token, f)
		case r.kind == rawWrite:
			err = r.end.qp.Write(q.asks[u.Slot], q.sgl[:], remote, r.token, f)
		case r.kind == rawRead:
			err = r.end.qp.Read(q.asks[u.Slot], q.sgl[:], remote, r.token, f)
		default:
			// The first byte says who sends so many: a read is a message of five bytes.
			p := r.end.at(u.Slot)
			p[0] = byte(u.Op)
			binary.BigEndian.PutUint32(p[1:], uint32(len(u.Buf)))
			if u.Op == Read {
				q.sgl[0].Length = rawHead
			} else {
				q.sgl[0].Length = uint32(max(len(u.Buf), rawHead))
			}
			err = r.end.qp.Send(nil, q.sgl[:], f|r.end.quiet())
			q.order = append(q.order, u)
		}
		if err != nil {
			return i, err
		}
		q.n++
	}
	return len(us), nil
}

func (q *rawQueue) Reap(out []*Unit, least int, wait time.Duration) (int, error) {
	least = min(least, q.n, len(out))
	got := 0
	var deadline time.Time
	if wait > 0 {
		deadline = time.Now().Add(wait)
	}
	for {
		n := q.r.end.cq.PollEx(q.res[:min(len(q.res), len(out)-got)])
		for i := range n {
			res := &q.res[i]
			if err := res.Err(); err != nil {
				return got, fmt.Errorf("%s: %w", q.r.name, err)
			}
			switch {
			case res.Type == ndk.OpReceive && q.r.kind == rawSend:
				slot, _ := res.RequestContext.(*rawSlot)
				if slot == nil || len(q.order) == 0 {
					return got, fmt.Errorf("%s: an answer to nothing", q.r.name)
				}
				if err := q.r.end.receive(slot.i); err != nil {
					return got, err
				}
				u := q.order[0]
				q.order = q.order[:copy(q.order, q.order[1:])]
				u.N, u.Err = len(u.Buf), nil
				out[got] = u
				got++
				q.n--
			case res.Type == ndk.OpWrite || res.Type == ndk.OpRead:
				u, _ := res.RequestContext.(*Unit)
				if u == nil {
					return got, fmt.Errorf("%s: a completion of nothing", q.r.name)
				}
				u.N, u.Err = len(u.Buf), nil
				out[got] = u
				got++
				q.n--
			}
		}
		if got >= least || got == len(out) {
			return got, nil
		}
		if n > 0 {
			continue
		}
		if wait == 0 {
			return got, nil
		}
		q.r.end.cq.Arm(ndk.ArmAny)
		if wait > 0 {
			left := time.Until(deadline)
			if left <= 0 {
				return got, nil
			}
			q.timer.Reset(left)
			select {
			case <-q.r.end.ev.C():
				q.timer.Stop()
			case <-q.timer.C:
			case <-q.r.ctx.Done():
				return got, fmt.Errorf("%s: the connection has ended", q.r.name)
			}
			continue
		}
		select {
		case <-q.r.end.ev.C():
		case <-q.r.ctx.Done():
			return got, fmt.Errorf("%s: the connection has ended", q.r.name)
		}
	}
}

func (q *rawQueue) Close() error {
	q.timer.Stop()
	var errs []error
	out := make([]*Unit, rawPolls)
	for q.n > 0 && len(errs) == 0 {
		if _, err := q.Reap(out, 1, -1); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
