package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

const (
	rawHead = 5 // bytes of a message of ndk-send that say what it asks for
	// rawPeers bounds the connections of ServeRaw, and with them its memory.
	rawPeers = 16
	rawQuiet = 16
)

// rawSlot is a buffer that is posted.
type rawSlot struct{ i int }

// rawEnd is one end of a connection: a queue pair with memory that the peer can reach,
// in as many parts as I/Os may be under way, and as many again to receive into.
type rawEnd struct {
	pd     ndk.PD
	cq     ndk.CQ
	ev     *ndk.Event
	qp     ndk.QP
	mr     ndk.MR
	mem    []byte
	free   func()
	c      ndk.Connector
	depth  int
	size   int // of a part
	span   int // of what the peer reaches
	slots  []rawSlot
	posted [1]ndk.SGE // of receive
	sends  int
	stride int
}

// newRawEnd makes an end, with at least span bytes of memory besides what is received
// into. notify is told of completions; nil is the end's event.
func newRawEnd(ctx context.Context, a ndk.Adapter, depth, size, span int, notify func(ndk.Status)) (*rawEnd, error) {
	e := &rawEnd{ev: ndk.NewEvent(), depth: depth, size: size, stride: max(size, rawHead), slots: make([]rawSlot, depth)}
	if depth < 1 || depth > rawDepth || size < 1 || e.stride > rawMemory/2/depth || span < 0 || span > rawMemory/2 {
		return e, fmt.Errorf("%d I/Os of %d bytes: at most %d, and %d bytes of memory", depth, size, rawDepth, rawMemory)
	}
	for i := range e.slots {
		e.slots[i].i = i
	}
	if notify == nil {
		notify = e.ev.Notify
	}
	info, err := a.Info(ctx)
	if err != nil {
		return e, err
	}
	if e.pd, err = a.CreatePD(ctx); err != nil {
		return e, err
	}
	if e.cq, err = a.CreateCQ(ctx, ndk.CQConfig{Depth: 4*depth + 2*rawQuiet, Notify: notify}); err != nil {
		return e, err
	}
	if e.qp, err = e.pd.CreateQP(ctx, ndk.QPConfig{ReceiveCQ: e.cq, InitiatorCQ: e.cq, ReceiveQueueDepth: depth + 1, InitiatorQueueDepth: 2*depth + 2*rawQuiet,
		MaxReceiveSGE: 1, MaxInitiatorSGE: 1, InlineDataSize: min(64, info.MaxInlineDataSize)}); err != nil {
		return e, err
	}
	e.span = max(span, depth*e.stride)
	if e.mem, e.free, err = a.Alloc(e.span + depth*e.stride); err != nil {
		return e, err
	}
	for i := 0; i < len(e.mem); i += ndk.PageSize { // present before a clock starts
		e.mem[i] = 1
	}
	if e.mr, err = e.pd.CreateMR(ctx, false); err != nil {
		return e, err
	}
	return e, e.mr.Register(ctx, ndk.Memory{e.mem}, len(e.mem), ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite|ndk.MRRDMAReadSink)
}

func (e *rawEnd) close() {
	if e == nil {
		return
	}
	for _, o := range []ndk.Object{e.c, e.qp, e.mr, e.cq, e.pd} {
		if o != nil {
			o.Close()
		}
	}
	if e.mr != nil {
		<-e.mr.Closed()
	}
	if e.free != nil {
		e.free()
	}
}

// at is the i-th part.
func (e *rawEnd) at(i int) []byte { return e.mem[i*e.stride:][:e.stride] }

// received is the i-th of those to receive into, behind what the peer reaches.
func (e *rawEnd) received(i int) []byte { return e.mem[e.span+i*e.stride:][:e.stride] }

func (e *rawEnd) sge(i, n int) ndk.SGE {
	return ndk.SGE{Addr: e.mr.Base() + uint64(i)*uint64(e.stride), Length: uint32(n), Token: e.mr.LocalToken()}
}

// receive posts the i-th of the parts to receive into.
func (e *rawEnd) receive(i int) error {
	e.posted[0] = e.sge(i, e.stride)
	e.posted[0].Addr += uint64(e.span)
	return e.qp.Receive(&e.slots[i], e.posted[:])
}

// quiet is for a Send, whose end nobody waits for: each sixteenth is reported, so that
// the queue does not fill.
func (e *rawEnd) quiet() ndk.OpFlags {
	if e.sends++; e.sends%rawQuiet == 0 {
		return 0
	}
	return ndk.SilentSuccess
}

// ServeRaw is the other end of the engines of ndk: it listens at an address of the
// adapter, calls ready with where that is, and serves until ctx ends, a few peers at a
// time. What it has is memory, which any peer may read and overwrite: of no value, and
// its own for each connection.
func ServeRaw(ctx context.Context, a ndk.Adapter, at netip.AddrPort, ready func(netip.AddrPort)) error {
	asked := make(chan ndk.Connector, rawPeers)
	l, err := a.CreateListener(ctx, func(c ndk.Connector) {
		select {
		case asked <- c:
		default:
			c.Close() // enough are waiting
		}
	})
	if err != nil {
		return err
	}
	var peers sync.WaitGroup
	defer peers.Wait()
	defer l.Close()
	if err := l.Listen(ctx, at); err != nil {
		return err
	}
	if at, err = l.LocalAddr(); err != nil {
		return err
	}
	ready(at)
	room := make(chan struct{}, rawPeers)
	for {
		select {
		case c := <-asked:
			select {
			case room <- struct{}{}:
			default:
				c.Close()
				continue
			}
			peers.Go(func() { // ends with its connection, or with ctx
				defer func() { <-room }()
				_ = serveRaw(ctx, a, c) // a failure ends the connection, which the peer sees
			})
		case <-ctx.Done():
			return nil
		}
	}
}

func serveRaw(ctx context.Context, a ndk.Adapter, c ndk.Connector) (err error) {
	ask := make([]byte, rawPrivate)
	d, err := c.ConnectionData(ask)
	var w [rawAsk / 4]uint32
	for i := range w {
		w[i] = binary.BigEndian.Uint32(ask[4*i:])
	}
	if err != nil || d.RequiredDataSize < rawAsk || w[0] != rawMagic || w[1] < rawWrite || w[1] > rawSend || w[2] > rawMemory || w[3] > rawDepth || w[4] > rawReads || w[5] > rawMemory/2 {
		c.Close()
		return errors.Join(err, errors.New("a peer asks for nothing that there is"))
	}
	e, err := newRawEnd(ctx, a, int(w[3]), int(w[2]), int(w[5]), nil)
	defer e.close()
	e.c = c
	if err != nil {
		return err
	}
	for i := range e.depth {
		if err := e.receive(i); err != nil {
			return err
		}
	}
	lost := make(chan struct{})
	offer := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, e.mr.Base()), uint32(e.mr.RemoteToken()))
	offer = binary.BigEndian.AppendUint32(offer, uint32(e.span))
	if err := c.Accept(ctx, e.qp, ndk.ConnParams{InboundReadLimit: int(w[4]), OutboundReadLimit: int(w[4]), Private: offer}, func() { close(lost) }); err != nil {
		return err
	}
	var res [rawPolls]ndk.ResultEx
	var sgl [1]ndk.SGE
	for {
		n := e.cq.PollEx(res[:])
		for i := range n {
			if err := res[i].Err(); err != nil {
				return err
			}
			slot, _ := res[i].RequestContext.(*rawSlot)
			if res[i].Type != ndk.OpReceive || slot == nil {
				continue
			}
			// The length of the answer is checked before it is used.
			p := e.received(slot.i)
			want := uint64(binary.BigEndian.Uint32(p[1:]))
			if res[i].Bytes < rawHead || want > uint64(e.size) {
				return fmt.Errorf("a message of %d bytes asks for %d", res[i].Bytes, want)
			}
			if op := Op(p[0]); op != Read {
				want = 0
			}
			if err := e.receive(slot.i); err != nil {
				return err
			}
			sgl[0] = e.sge(slot.i, int(want))
			if err := e.qp.Send(nil, sgl[:], e.quiet()); err != nil {
				return err
			}
		}
		if n > 0 {
			continue
		}
		e.cq.Arm(ndk.ArmAny)
		select {
		case <-e.ev.C():
		case <-lost:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}
