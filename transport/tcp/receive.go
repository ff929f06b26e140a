package tcp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// # Reading ahead
//
// Small messages that follow each other closely are read together: what is read
// ahead goes into a buffer that grows while they do not fit, and that a connection
// gives back before it waits for long. Of a message longer than maxCopied only what
// came along with its prefix is copied; the rest is read where it stays.

const (
	// fewBytes is what a connection reads ahead that is not busy.
	fewBytes = 512
	// maxCopied is the longest message that is read ahead, in bytes.
	maxCopied = 64 << 10
)

// aheadSizes are those of the buffers beyond fewBytes.
var aheadSizes = [...]int{4 << 10, 16 << 10, 64 << 10}

// aheadPools recycle them, by size.
var aheadPools [len(aheadSizes)]sync.Pool

// receiver is the receiving side of a connection.
type receiver struct {
	few   [fewBytes]byte
	buf   []byte  // few or *big
	big   *[]byte // of aheadPools[class-1]; nil without
	class int     // of big
	want  int     // the class that the messages of late ask for; 0 is few
	r, w  int     // what is read ahead and not yet a message: buf[r:w]

	cur    *message // message being read; nil between messages
	curLen int
	got    int // bytes of cur that are in
	trust  int // length of the last complete message
	seen   bool

	place placing
	rawReceive
}

// Receive implements transport.Conn. A call that ctx ended loses nothing: the
// next one goes on where it stopped.
func (c *Conn) Receive(ctx context.Context) (*transport.Received, error) {
	if err := c.err(); err != nil {
		return nil, err
	}
	if err := c.recvCtx.arm(ctx); err != nil {
		return nil, fmt.Errorf("tcp: receive: %w", err)
	}
	return c.receive()
}

// receive is Receive without a context.
func (c *Conn) receive() (*transport.Received, error) {
	x := &c.rx
	err := c.readMessage()
	if err == nil {
		m := x.cur
		n := x.curLen - x.place.n
		m.rx.Data = m.buf[:n:n]
		m.rx.Placed, m.rx.Copied = x.place.n, x.place.copied
		x.place.done()
		m.rx.Invalidated, m.rx.HasInvalidated = 0, false
		x.trust = x.curLen
		x.cur = nil
		c.received.Add(1)
		c.receivedBytes.Add(uint64(x.curLen))
		return m.rx.Lend(), nil
	}
	if err == errNotYet {
		return nil, nil
	}
	if cerr := c.recvCtx.ended(err); cerr != nil {
		return nil, fmt.Errorf("tcp: receive: %w", cerr)
	}
	if x.cur != nil || x.place.next != 0 {
		if x.cur != nil {
			c.pool.put(x.cur)
			x.cur = nil
		}
		x.place.done()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
	}
	x.r, x.w = 0, 0
	x.giveBack()
	var pe *ProtocolError
	if errors.As(err, &pe) {
		c.cfg.Logger.Debug("connection dropped", "conn", c.nc.RemoteAddr(), "err", err)
	} else if !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read: %w", err)
	}
	if closed := c.fail(err); !errors.Is(err, io.EOF) {
		return nil, closed
	}
	if own := c.err(); !errors.Is(own, io.EOF) {
		return nil, own // somebody else ended it before
	}
	return nil, io.EOF
}

// errNotYet is for a message that is not there yet.
var errNotYet = errors.New("tcp: not yet")

// Buffered implements transport.Batcher.
func (c *Conn) Buffered() bool {
	x := &c.rx
	have := x.w - x.r
	if x.cur != nil || x.place.next != 0 || have < prefixSize || x.buf[x.r] != typeMessage {
		return false
	}
	n := int(binary.BigEndian.Uint32(x.buf[x.r:]) & 0xffffff)
	return n > 0 && have-prefixSize >= n
}

// readMessage reads until rx.cur is complete.
func (c *Conn) readMessage() error {
	x := &c.rx
	for x.cur == nil {
		n := x.place.next
		if n == 0 {
			var err error
			if n, err = c.readPrefix(); err != nil {
				return err
			}
		}
		if n == 0 {
			continue
		}
		if placed, err := c.placeMessage(n); err != nil {
			return err
		} else if placed {
			break
		}
		// The memory is bounded by what has arrived: 64 KiB, or as much as the
		// last message really had.
		x.cur, x.curLen, x.got = c.pool.get(min(n, max(firstClass, x.trust))), n, 0
		x.take()
		x.adapt()
	}
	for x.got < x.curLen {
		if x.place.to != nil {
			if err := c.readPlaced(); err != nil {
				return err
			}
			continue
		}
		if x.got == len(x.cur.buf) {
			bigger := c.pool.get(min(x.curLen, 4*len(x.cur.buf)))
			copy(bigger.buf, x.cur.buf)
			c.pool.put(x.cur)
			x.cur = bigger
		}
		if x.curLen <= maxCopied && x.want > 0 {
			// The next messages come along with the rest of this one.
			err := c.readAhead()
			x.take()
			if err != nil && x.got < x.curLen {
				return err
			}
			continue
		}
		n, err := c.read(x.cur.buf[x.got:min(x.curLen, len(x.cur.buf))])
		x.got += n
		if err != nil && x.got < x.curLen {
			return err
		}
	}
	return nil
}

// take moves what is there of the current message into it.
func (x *receiver) take() {
	k := copy(x.cur.buf[x.got:min(x.curLen, len(x.cur.buf))], x.buf[x.r:x.w])
	x.r += k
	x.got += k
}

// adapt decides what to read ahead, by the message that begins.
func (x *receiver) adapt() {
	switch {
	case x.got == x.curLen:
	case x.curLen > maxCopied:
		x.want = 0
	case x.want < len(aheadSizes):
		x.want++
	}
}

// room is where to read ahead to. There is some.
func (x *receiver) room() []byte {
	if x.r == x.w {
		x.r, x.w = 0, 0
		if x.want != x.class {
			x.giveBack()
			x.borrow()
		}
	} else if x.r > 0 && len(x.buf)-x.w < fewBytes {
		x.w = copy(x.buf, x.buf[x.r:x.w])
		x.r = 0
	}
	return x.buf[x.w:]
}

// borrow takes a buffer of the size that is wanted.
func (x *receiver) borrow() {
	if x.want == 0 {
		return
	}
	b, _ := aheadPools[x.want-1].Get().(*[]byte)
	if b == nil {
		s := make([]byte, aheadSizes[x.want-1])
		b = &s
	}
	x.big, x.class, x.buf = b, x.want, *b
}

// giveBack gives the buffer back, if nothing is in it.
func (x *receiver) giveBack() {
	if x.big == nil || x.r != x.w {
		return
	}
	aheadPools[x.class-1].Put(x.big)
	x.big, x.class, x.buf, x.r, x.w = nil, 0, x.few[:], 0, 0
}

// readPrefix reads one prefix and acts on it. It returns the length of the
// message that follows, 0 if the frame was none.
func (c *Conn) readPrefix() (int, error) {
	x := &c.rx
	for x.w-x.r < prefixSize {
		if x.w > x.r && x.buf[x.r] == typeMPA && !x.seen {
			break // four octets may never come: the other side waits for us
		}
		if err := c.readAhead(); err != nil && x.w-x.r < prefixSize {
			if x.w > x.r && errors.Is(err, io.EOF) {
				return 0, io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
	typ := x.buf[x.r]
	n := 0
	if x.w-x.r >= prefixSize {
		n = int(binary.BigEndian.Uint32(x.buf[x.r:]) & 0xffffff)
	}
	first := !x.seen
	x.seen = true
	x.r += min(prefixSize, x.w-x.r)
	switch {
	case typ == typeMessage && n == 0:
		return 0, &ProtocolError{typ, n, errors.New("empty message")}
	case typ == typeMessage && n > c.cfg.MaxReceiveSize:
		return 0, &ProtocolError{typ, n, fmt.Errorf("%w, limit %d", ErrTooLarge, c.cfg.MaxReceiveSize)}
	case typ == typeMessage:
		return n, nil
	case typ == typeKeepAlive && n == maxKeepAliveLength:
		return 0, nil
	case typ == typeRequest && first:
		c.refuse()
		return 0, &ProtocolError{typ, n, errors.New("NetBIOS session request refused")}
	case typ == typeMPA && first:
		return 0, &ProtocolError{typ, n, ErrMPA}
	}
	return 0, &ProtocolError{typ, n, errors.New("unknown frame")}
}

// refuse sends a negative session response if nobody is writing.
func (c *Conn) refuse() {
	select {
	case c.sending <- struct{}{}:
		// The connection is new, so the five octets fit; if not, so be it.
		_ = c.nc.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.nc.Write([]byte{negativeResponse, 0, 0, 1, unspecifiedError})
		<-c.sending
	default:
	}
}

// readAheadPlain is readAhead by the methods of net.Conn.
func (c *Conn) readAheadPlain() error {
	c.rx.want = 0 // the wait would keep a larger buffer
	n, err := c.nc.Read(c.rx.room())
	c.rx.w += n
	return err
}
