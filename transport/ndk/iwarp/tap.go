package iwarp

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Tap shows what the connections of a provider send and receive, as it is on the
// wire, to sinks that may come and go while connections live. One is given to any
// number of providers as Config.Tap. Without a sink it costs a look at a pointer
// for each FPDU received and each batch sent.
//
// FPDUs are shown when they are handed to the socket, which is before the peer has
// them, and when they are complete on arrival. Of a connection that breaks the last
// ones shown as sent may never have left.
type Tap struct {
	sinks atomic.Pointer[tapSinks] // nil when there are none

	mu    sync.Mutex
	conns map[*tapped]struct{} // guarded by mu; live
	ids   uint64               // guarded by mu
}

// tapSinks is not changed any more once it is in a Tap.
type tapSinks struct {
	list []TapSink
	snap int // octets of a frame that one of them wants
}

// NewTap returns a Tap without sinks.
func NewTap() *Tap { return &Tap{conns: map[*tapped]struct{}{}} }

// TapConn is a connection as a sink sees it.
type TapConn struct {
	// ID is unique within the Tap.
	ID          uint64
	Local, Peer netip.AddrPort
	// Initiator: this end made the connection.
	Initiator bool
	Opened    time.Time
	// Request and Reply are the startup frames. Reply is nil if there was none.
	Request, Reply []byte
	// Markers: what is sent has markers, and frames of it are not single FPDUs.
	Markers bool
}

// TapFrame is a run of octets of one direction of a connection: an FPDU.
type TapFrame struct {
	At   time.Time
	Sent bool // by this end
	// Data are the first octets, valid during the call. Len is how many there are.
	Data []byte
	Len  int
}

// TapSink is shown connections and frames, in order for each direction of a
// connection. Its methods are called by the goroutines that move data, some with
// locks held: they must neither block nor call back. A connection that existed before
// the sink may have its first frame shown before it, and may be opened twice; nothing
// comes after Closed.
type TapSink interface {
	Opened(c *TapConn)
	Frame(c *TapConn, f *TapFrame)
	Closed(c *TapConn)
	// Snap is how many octets of a frame it wants; it is asked once.
	Snap() int
}

// Attach shows s all connections there are and will be. What was sent or received
// of an FPDU before is not shown: each direction starts with the next one. The
// function it returns ends that; calls of s may still be under way then.
func (t *Tap) Attach(s TapSink) (detach func()) {
	t.mu.Lock()
	t.setLocked(append(t.listLocked(), s))
	for c := range t.conns { // none of them can be closed before it was opened
		s.Opened(&c.TapConn)
	}
	t.mu.Unlock()
	return sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		list := t.listLocked()
		for i, x := range list {
			if x == s {
				t.setLocked(append(list[:i], list[i+1:]...))
				return
			}
		}
	})
}

// listLocked is a copy of the list of sinks.
func (t *Tap) listLocked() []TapSink {
	if s := t.sinks.Load(); s != nil {
		return append([]TapSink(nil), s.list...)
	}
	return nil
}

func (t *Tap) setLocked(list []TapSink) {
	if len(list) == 0 {
		t.sinks.Store(nil)
		return
	}
	s := &tapSinks{list: list}
	for _, x := range list {
		s.snap = max(s.snap, x.Snap())
	}
	t.sinks.Store(s)
}

// tapped is a connection under a Tap.
type tapped struct {
	TapConn
	tap *Tap
	tx  cutter // owned by the transmitter
	rx  cutter // owned by the receiver, as is fresh
	// fresh: the receiver is between FPDUs, with nothing read of the next one.
	fresh bool
}

// open enters a connection whose startup frames were exchanged. A frame that is nil
// was not.
func (t *Tap) open(c *connector, conn net.Conn, reply *startup, markers bool) *tapped {
	request := &c.ours
	if c.passive {
		request = &c.frame
	}
	d := &tapped{tap: t, TapConn: TapConn{
		Local: unmapped(conn.LocalAddr()), Peer: unmapped(conn.RemoteAddr()),
		Initiator: !c.passive, Opened: time.Now(), Markers: markers,
	}}
	// What was encoded, or decoded, can be encoded.
	d.Request, _ = request.AppendBinary(nil)
	if reply != nil {
		d.Reply, _ = reply.AppendBinary(nil)
	}
	d.tx = cutter{d: d, sent: true, raw: markers}
	d.rx = cutter{d: d}
	t.mu.Lock()
	t.ids++
	d.ID = t.ids
	t.conns[d] = struct{}{}
	t.mu.Unlock()
	if s := t.sinks.Load(); s != nil {
		for _, x := range s.list {
			x.Opened(&d.TapConn)
		}
	}
	return d
}

// close is called when neither engine has anything to show any more.
func (d *tapped) close() {
	t := d.tap
	t.mu.Lock()
	delete(t.conns, d)
	t.mu.Unlock()
	if s := t.sinks.Load(); s != nil {
		for _, x := range s.list {
			x.Closed(&d.TapConn)
		}
	}
	d.tx.stop()
	d.rx.stop()
}

// ended shows a connection that came to nothing: it was refused, or the peer did
// not answer.
func (t *Tap) ended(c *connector, conn net.Conn, reply *startup) {
	if t != nil {
		t.open(c, conn, reply, false).close()
	}
}

// cutter cuts one direction of a connection into FPDUs.
type cutter struct {
	d     *tapped
	sent  bool
	raw   bool // no FPDUs can be told in it: what comes is shown as it comes
	on    bool // it is in step with the stream
	buf   *[maxFPDU]byte
	have  int // octets of the FPDU so far
	total int // octets of the FPDU; 0 as long as the length field is not complete
	frame TapFrame
}

var tapPool = sync.Pool{New: func() any { return new([maxFPDU]byte) }}

// start is called between FPDUs. It reports whether there is anybody to show the
// next one to.
func (k *cutter) start() bool {
	s := k.d.tap.sinks.Load()
	switch {
	case s == nil && k.on:
		k.stop()
	case s != nil && !k.on:
		k.on = true
		k.have, k.total = 0, 0
		k.buf = tapPool.Get().(*[maxFPDU]byte)
	}
	return k.on
}

func (k *cutter) stop() {
	if k.buf != nil {
		tapPool.Put(k.buf)
	}
	k.on, k.buf = false, nil
}

// feed takes the next octets of the stream.
func (k *cutter) feed(p []byte) {
	if k.raw {
		for len(p) > 0 {
			n := min(len(p), 32<<10)
			k.show(p[:n], n)
			p = p[n:]
		}
		return
	}
	for len(p) > 0 && k.on {
		want := k.total - k.have
		if k.total == 0 {
			want = lenField - k.have
		}
		n := min(want, len(p))
		copy(k.buf[k.have:], p[:n])
		p = p[n:]
		k.pass(n)
	}
}

// pass notes that n more octets of the FPDU are there, in buf.
func (k *cutter) pass(n int) {
	k.have += n
	if k.total == 0 {
		if k.have < lenField {
			return
		}
		k.total = fpduLen(int(binary.BigEndian.Uint16(k.buf[:])))
	}
	if k.have < k.total {
		return
	}
	n = k.total
	k.have, k.total = 0, 0
	k.show(k.buf[:n], n)
}

// show hands a frame to the sinks.
func (k *cutter) show(data []byte, n int) {
	s := k.d.tap.sinks.Load()
	if s == nil {
		k.stop() // here it is between FPDUs
		return
	}
	k.frame = TapFrame{At: time.Now(), Sent: k.sent, Data: data[:min(len(data), s.snap)], Len: n}
	for _, x := range s.list {
		x.Frame(&k.d.TapConn, &k.frame)
	}
	k.frame.Data = nil
}

// file takes the payload of an FPDU whose header was fed, n octets of f from off,
// which goes from the file to the socket: what is wanted of it is read for the
// tap, zeros where the file has ended or cannot be read.
func (k *cutter) file(f *os.File, off int64, n int) {
	p := k.buf[k.have : k.have+n]
	if s := k.d.tap.sinks.Load(); s != nil {
		p = p[:min(len(p), max(s.snap-k.have, 0))]
	}
	got := 0
	if len(p) > 0 {
		var err error
		if got, err = f.ReadAt(p, off); err != nil && !errors.Is(err, io.EOF) {
			got = 0
		}
	}
	clear(p[got:])
	k.pass(n)
}

// batch shows a batch that is about to be written for the first time. The regions
// are pinned one by one; if one is gone, the write fails on it too.
func (d *tapped) batch(b *txBatch) {
	skip := 0
	if !d.tx.on {
		skip = b.trailer
	}
	if !d.tx.start() {
		return
	}
	for i := range b.n {
		o := &b.own[i]
		if o.region != nil && !o.region.Repin(o.gen) {
			return
		}
		p := unsafe.Slice(b.iov[i].Base, int(b.iov[i].Len))
		k := min(skip, len(p))
		skip -= k
		d.tx.feed(p[k:])
		if o.region != nil {
			o.region.Unpin()
		}
	}
}

// fileFPDU shows an FPDU that goes out by sendfile, up to its pad and CRC. head is
// what the last one still lacked, trailer octets, and the headers of this one.
func (d *tapped) fileFPDU(head []byte, trailer int, f *os.File, off int64, n int) {
	if !d.tx.on {
		head = head[trailer:]
	}
	if d.tx.start() {
		d.tx.feed(head)
		d.tx.file(f, off, n)
	}
}

// between is called at the start of an FPDU that is not shown so far, of which
// unread is there.
func (d *tapped) between(unread []byte) {
	d.fresh = len(unread) == 0
	if d.rx.start() {
		d.rx.feed(unread)
	}
}

// received shows the first k octets that a call to the kernel put into iov.
func (d *tapped) received(rx *receiver, k int) {
	fresh := d.fresh
	d.fresh = false
	if !d.rx.on && !(fresh && d.rx.start()) {
		return
	}
	for i := 0; k > 0; i++ {
		n := min(k, int(rx.iov[i].Len))
		d.rx.feed(unsafe.Slice(rx.iov[i].Base, n))
		k -= n
	}
}
