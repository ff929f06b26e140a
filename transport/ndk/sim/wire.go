package sim

import (
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// packetKind says what a packet is.
type packetKind uint8

const (
	pkRequest packetKind = iota // of Connect
	pkReply                     // of Accept
	pkReject                    // of Reject, or of a provider that refuses
	pkReady                     // of CompleteConnect
	pkReset                     // the sender gave up or closed
	pkFin                       // of Disconnect
	pkFinAck
	pkTerminate // a request of the receiver, or of the sender, broke a rule
	pkSend
	pkWrite
	pkReadRequest
	pkReadResponse
	pkAck // of a Send or Write
)

var packetNames = [...]string{"request", "reply", "reject", "ready", "reset", "fin", "finack", "terminate", "send", "write", "readreq", "readresp", "ack"}

// packet is one message between the two ends of a connection.
type packet struct {
	kind       packetKind
	invalidate bool   // of pkSend: token is to be invalidated
	solicited  bool   // of pkSend
	padded     bool   // of pkReply and pkReject: see Config.PadPrivateData
	cut        bool   // only keep bytes of it arrive, and nothing behind it
	has        bool   // of pkTerminate: seq is meant
	seq        uint32 // the position of the request in the initiator queue of its owner
	token      uint32
	length     uint32 // of pkReadRequest
	reason     Reason
	in, out    int // read limits of a handshake
	addr       uint64
	keep       int
	buf        []byte // payload or private data
	at         time.Duration
	next       *packet
}

// headerSize is what a packet counts beside its payload.
const headerSize = 48

func (p *packet) size() int { return headerSize + len(p.buf) }

// packet takes a packet of the free ones; its buf is empty.
func (w *World) packet(k packetKind) *packet {
	p := w.packets
	if p == nil {
		p = &packet{}
	} else {
		w.packets = p.next
	}
	*p = packet{kind: k, buf: p.buf[:0]}
	return p
}

func (w *World) free(p *packet) {
	p.next = w.packets
	w.packets = p
}

// wire is what two connectors have between them. All of it is guarded by
// World.mu.
type wire struct {
	w    *World
	ends [2]*connector // active and passive; nil: not there yet, or gone
	dir  [2]link       // dir[i] is from end i to the other
}

// link is one direction of a wire: packets arrive in the order in which they
// were sent.
type link struct {
	event
	w       *World
	wire    *wire
	from    int
	path    pair
	head    *packet
	tail    *packet
	last    time.Duration // when the newest one arrives
	busy    time.Duration // until when the sending side puts bytes out
	left    int           // bytes that still get through; -1: no limit
	lost    bool
	stalled bool // the receiver is not ready for the first one
}

func (w *World) newWire(active *connector, path pair) *wire {
	x := &wire{w: w}
	x.ends[0] = active
	for i := range x.dir {
		l := &x.dir[i]
		l.w, l.wire, l.from, l.left, l.path = w, x, i, -1, path
		path.from, path.to = path.to, path.from
		l.run = l.deliver
	}
	return x
}

// limit lets only n more bytes through.
func (l *link) limit(n int) { l.left = n }

// send puts p on its way. qp is the QP that sends, or nil in a handshake.
func (l *link) send(p *packet) {
	w := l.w
	if l.lost {
		w.free(p)
		return
	}
	size := p.size()
	var delay time.Duration
	if w.faulty() {
		delay = l.strike(size)
	}
	if l.left >= 0 {
		if l.left < size {
			p.cut, p.keep, l.lost = true, l.left, true
		}
		l.left = max(l.left-size, 0)
	}
	if !w.direct { // which takes no time
		l.busy = max(l.busy, w.s.clock())
	}
	if r := w.cfg.BytesPerSecond; r > 0 {
		l.busy += time.Duration(float64(size) / float64(r) * 1e9)
	}
	p.at = max(l.last, l.busy+w.cfg.Latency+w.s.upTo(w.cfg.Jitter)+delay)
	l.last = p.at
	if l.tail == nil {
		l.head = p
	} else {
		l.tail.next = p
	}
	p.next = nil
	l.tail = p
	if l.over() {
		l.stalled = false
	}
	l.kick()
}

// strike lets a packet be late or the link break under it.
func (l *link) strike(size int) (delay time.Duration) {
	w, who := l.w, l.who()
	if i, hit := w.strike(passing{point: PointDelay, who: who, o1: l.qp(), o2: l.end()}); hit {
		delay = i.Delay
	}
	if i, hit := w.strike(passing{point: PointLoss, who: who, o1: l.qp(), o2: l.end()}); hit {
		if i.Bytes < 0 {
			i.Bytes = w.s.intN(size)
		}
		l.limit(i.Bytes)
	}
	return delay
}

// over reports whether the news are on their way that the sender is gone. Messages
// that wait for a receive do not hold them up: nobody sends those again.
func (l *link) over() bool {
	return l.tail != nil && (l.tail.kind == pkReset || l.tail.kind == pkTerminate)
}

func (l *link) who() subject {
	if c := l.wire.ends[l.from]; c != nil {
		if c.q != nil {
			return c.q.sub
		}
		return c.sub
	}
	return subject{}
}

// qp is the QP that sends, as what an Injection names.
func (l *link) qp() ndk.Object {
	if c := l.wire.ends[l.from]; c != nil && c.q != nil {
		return c.q
	}
	return nil
}

func (l *link) end() ndk.Object {
	if c := l.wire.ends[l.from]; c != nil {
		return c
	}
	return nil
}

// kick sees to it that the first packet arrives when its time has come.
func (l *link) kick() {
	if l.head == nil || l.stalled || len(l.w.blocks) > 0 && l.w.blocks[l.path] {
		return
	}
	if l.w.direct {
		l.w.ready = append(l.w.ready, l)
	} else {
		l.w.s.at(&l.event, l.head.at)
	}
}

// resume goes on after the receiver was not ready.
func (l *link) resume() {
	if l.stalled {
		l.stalled = false
		l.kick()
	}
}

// purge drops what is on its way.
func (l *link) purge() {
	for p := l.head; p != nil; {
		next := p.next
		l.w.free(p)
		p = next
	}
	l.head, l.tail, l.lost, l.stalled = nil, nil, true, false
	l.w.s.cancel(&l.event)
}

// deliver is the arrival of the first packet.
func (l *link) deliver() {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.deliverLocked()
}

func (l *link) deliverLocked() {
	w := l.w
	p := l.head
	if p == nil || l.stalled || len(w.blocks) > 0 && w.blocks[l.path] {
		return
	}
	c := l.wire.ends[1-l.from]
	if c != nil && !c.ready(p) {
		if !l.over() || c.state == connAccepted {
			l.stalled = true
			w.note(c.sub, "stall").text(packetNames[p.kind]).end()
			return
		}
		w.note(c.sub, "drop").text(packetNames[p.kind]).end()
		c.q.leaveLine()
		c = nil
	}
	if l.head = p.next; l.head == nil {
		l.tail = nil
	}
	if p.cut {
		l.arriveCut(c, p)
	} else {
		l.arrive(c, p)
	}
	w.free(p)
	l.kick()
}

func (l *link) arrive(c *connector, p *packet) {
	switch {
	case p.kind == pkRequest:
		l.w.request(l.wire, p)
	case c != nil:
		c.receive(p)
	}
}

// arriveCut is the arrival of a packet whose end is missing, with the news that
// the connection is lost.
func (l *link) arriveCut(c *connector, p *packet) {
	if c != nil && c.q != nil && p.keep > headerSize {
		c.q.placePart(p, p.buf[:p.keep-headerSize])
	}
	l.wire.lose(ReasonLink, ntstatus.IOTimeout)
}

// lose ends the connection for both sides. The oldest request of each completes
// with st.
func (x *wire) lose(r Reason, st ndk.Status) {
	x.dir[0].purge()
	x.dir[1].purge()
	for _, c := range x.ends {
		if c != nil {
			c.lost(r, st)
		}
	}
}
