package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// A request is its head, descriptors, and octets that fill makes:
//
//	kind(1) flags(1) count(2) id(8) n(4) | offset(8) token(4) length(4) ... | payload
//
// An answer has the same head; that of an echo the octets of fill(id+1).
const headSize = 16

const (
	flagInvalidate = 1
	flagClose      = 2
	flagBad        = 4 // of an answer: the transfer failed
)

type head struct {
	kind  opKind
	flags byte
	id    uint64
	n     int
	ds    []transport.Descriptor
}

func (h *head) append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, byte(h.kind), h.flags)
	b = le.AppendUint16(b, uint16(len(h.ds)))
	b = le.AppendUint64(b, h.id)
	b = le.AppendUint32(b, uint32(h.n))
	for _, d := range h.ds {
		b = le.AppendUint64(b, d.Offset)
		b = le.AppendUint32(b, d.Token)
		b = le.AppendUint32(b, d.Length)
	}
	return b
}

// parse reads a head and returns the payload behind it.
func (h *head) parse(b []byte) ([]byte, error) {
	if len(b) < headSize {
		return nil, fmt.Errorf("a message of %d octets", len(b))
	}
	le := binary.LittleEndian
	h.kind, h.flags, h.id, h.n = opKind(b[0]), b[1], le.Uint64(b[4:]), int(le.Uint32(b[12:]))
	n := int(le.Uint16(b[2:]))
	b = b[headSize:]
	if h.kind >= opKinds || len(b) < 16*n {
		return nil, fmt.Errorf("a message of kind %d with %d descriptors", h.kind, n)
	}
	for range n {
		h.ds = append(h.ds, transport.Descriptor{Offset: le.Uint64(b), Token: le.Uint32(b[8:]), Length: le.Uint32(b[12:])})
		b = b[16:]
	}
	return b, nil
}

// answer is what the client's receiver hands to the worker that waits.
type answer struct {
	head
	token uint32
	has   bool
}

// client is the application at the initiator.
type client struct {
	*run
	conn transport.Conn
	rdma transport.RDMA

	mu    sync.Mutex
	waits map[uint64]chan answer // guarded by mu; nil when the connection is gone
}

// apps runs both applications until every worker is through.
func (r *run) apps(ctx context.Context, c, s transport.Conn) {
	var server, receiver, workers sync.WaitGroup
	server.Go(func() { r.serve(ctx, s) })
	cl := &client{run: r, conn: c, rdma: c.RDMA(), waits: map[uint64]chan answer{}}
	rctx, stop := context.WithCancel(ctx)
	receiver.Go(func() { cl.receive(rctx) })
	for i, ops := range r.s.workers {
		workers.Go(func() {
			for k, o := range ops {
				id := uint64(i+1)<<32 | uint64(k)<<8
				if !r.ended(fmt.Sprintf("worker %d, operation %d of kind %d, %d octets", i, k, o.kind, o.n), cl.do(ctx, id, o)) {
					return
				}
			}
		})
	}
	workers.Wait()
	// The server ends with a message that says so, or with the connection.
	bye := head{kind: opClose, flags: flagClose}
	if err := c.Send(ctx, &transport.Message{Parts: [][]byte{bye.append(nil)}}); err != nil || r.s.Faulty {
		_ = s.Close()
	}
	server.Wait()
	stop()
	receiver.Wait()
}

// receive hands answers to who waits for them.
func (c *client) receive(ctx context.Context) {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, w := range c.waits {
			close(w)
		}
		c.waits = nil
	}()
	for {
		m, err := c.conn.Receive(ctx)
		if err != nil {
			return
		}
		var a answer
		p, err := a.parse(m.Data)
		a.token, a.has = m.Invalidated, m.HasInvalidated
		switch {
		case err != nil:
			c.failf("client: %w", err)
		case !filled(p, a.id+1):
			c.failf("client: answer %#x: %d octets are not those that were sent", a.id, len(p))
		}
		m.Release()
		c.mu.Lock()
		w, ok := c.waits[a.id]
		delete(c.waits, a.id)
		c.mu.Unlock()
		if !ok {
			c.failf("client: an answer to %#x, which nobody waits for", a.id)
			continue
		}
		w <- a // has room for it
	}
}

var errGone = errors.New("the connection ended before the answer")

// await sends a request and waits for the answer.
func (c *client) await(ctx context.Context, h *head, payload []byte) (answer, error) {
	w := make(chan answer, 1)
	c.mu.Lock()
	if c.waits == nil {
		c.mu.Unlock()
		return answer{}, errGone
	}
	c.waits[h.id] = w
	c.mu.Unlock()
	err := c.conn.Send(ctx, &transport.Message{Parts: [][]byte{h.append(nil), payload}})
	if err != nil {
		c.mu.Lock()
		delete(c.waits, h.id)
		c.mu.Unlock()
		return answer{}, err
	}
	select {
	case a, ok := <-w:
		if !ok {
			return a, errGone
		}
		return a, nil
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

// do is one operation.
func (c *client) do(ctx context.Context, id uint64, o op) error {
	h := head{kind: o.kind, id: id, n: o.n}
	if o.inval && c.rdma.RemoteInvalidation() {
		h.flags |= flagInvalidate
	}
	switch o.kind {
	case opEcho, opNotify:
		p := make([]byte, o.n)
		fill(p, id)
		if o.kind == opNotify {
			return c.conn.Send(ctx, &transport.Message{Parts: [][]byte{h.append(nil), p}})
		}
		a, err := c.await(ctx, &h, p)
		if err == nil && a.n != o.n {
			err = fmt.Errorf("an answer for %d octets, %d were sent", a.n, o.n)
		}
		return err
	case opCancel:
		// Given up before it is begun, nothing of it arrives; a message that was
		// begun would cost the connection.
		gone, cancel := context.WithCancel(ctx)
		cancel()
		p := make([]byte, o.n)
		if err := c.conn.Send(gone, &transport.Message{Parts: [][]byte{h.append(nil), p}}); !errors.Is(err, context.Canceled) && !c.s.Faulty {
			return fmt.Errorf("a send whose context has ended: %w", err)
		}
		return nil
	case opClose:
		if o.close {
			h.flags |= flagClose
			return c.conn.Send(ctx, &transport.Message{Parts: [][]byte{h.append(nil)}})
		}
		return c.conn.Close()
	}
	return c.transfer(ctx, &h, o)
}

// transfer registers memory for the server to write or read.
func (c *client) transfer(ctx context.Context, h *head, o op) error {
	const margin = 64 // on both sides, where nothing may change
	mem := make([]byte, margin+o.n+margin)
	access := transport.PeerWrites
	if o.kind == opRead {
		access = transport.PeerReads
		fill(mem[margin:margin+o.n], h.id)
	}
	reg, err := c.rdma.Register(ctx, mem[margin:margin+o.n:margin+o.n], access)
	if err != nil {
		return err
	}
	h.ds = reg.Descriptors()
	token := h.ds[0].Token
	a, err := c.await(ctx, h, nil)
	// Whatever came of it, the memory is ours again after this.
	derr := reg.Deregister(ctx, a.token, a.has)
	if err == nil {
		err = derr
	}
	if err != nil {
		return err
	}
	before := append([]byte(nil), mem...)
	switch {
	case a.flags&flagBad != 0:
		return errors.New("the server could not")
	case a.has != (h.flags&flagInvalidate != 0):
		return fmt.Errorf("a token was invalidated: %v", a.has)
	case a.has && a.token != token:
		return fmt.Errorf("token %#x was invalidated, %#x was asked for", a.token, token)
	case !filled(mem[margin:margin+o.n], h.id):
		c.failf("%d octets of %#x are not those of the transfer", o.n, h.id)
	}
	for _, edge := range [][]byte{before[:margin], before[margin+o.n:]} {
		for _, b := range edge {
			if b != 0 {
				c.failf("memory beside %#x was changed", h.id)
				break
			}
		}
	}
	return nil
}

// serve is the application at the acceptor.
func (r *run) serve(ctx context.Context, conn transport.Conn) {
	var all sync.WaitGroup
	defer all.Wait()
	room := make(chan struct{}, 8)
	for {
		m, err := conn.Receive(ctx)
		if err != nil {
			return
		}
		var h head
		p, err := h.parse(m.Data)
		switch {
		case err != nil:
			r.failf("server: %w", err)
		case (h.kind == opEcho || h.kind == opNotify) && (len(p) != h.n || !filled(p, h.id)):
			r.failf("server: request %#x: %d octets are not those that were sent", h.id, len(p))
		case h.kind == opCancel:
			r.failf("server: message %#x was given up", h.id)
		}
		m.Release()
		if h.kind == opClose {
			if r.s.Faulty {
				_ = conn.Close()
			}
			return
		}
		if h.kind == opNotify {
			continue
		}
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			r.answer(ctx, conn, h)
		})
	}
}

// answer does what a request asks for.
func (r *run) answer(ctx context.Context, conn transport.Conn, h head) {
	var payload []byte
	if h.kind == opEcho {
		payload = make([]byte, h.n)
		fill(payload, h.id+1)
	} else if err := r.move(ctx, conn.RDMA(), &h); err != nil {
		h.flags |= flagBad
		if !r.s.Faulty {
			r.failf("server: transfer %#x of %d octets: %w", h.id, h.n, err)
		}
	}
	m := transport.Message{}
	if h.flags&flagInvalidate != 0 && len(h.ds) > 0 {
		m.Invalidate, m.HasInvalidate = h.ds[0].Token, true
	}
	h.ds = nil
	m.Parts = [][]byte{h.append(nil), payload}
	if err := conn.Send(ctx, &m); err != nil && !r.s.Faulty {
		r.failf("server: answer %#x: %w", h.id, err)
	}
}

// move is the RDMA transfer of a request.
func (r *run) move(ctx context.Context, rdma transport.RDMA, h *head) error {
	b, err := rdma.Lease(ctx, h.n)
	if err != nil {
		return err
	}
	defer b.Release()
	if h.kind == opWrite {
		fill(b.Bytes()[:h.n], h.id)
		return rdma.Write(ctx, b, h.n, h.ds)
	}
	if err := rdma.Read(ctx, b, h.n, h.ds); err != nil {
		return err
	}
	if !filled(b.Bytes()[:h.n], h.id) {
		r.failf("server: %d octets read of %#x are not those of the client", h.n, h.id)
	}
	return nil
}
