package tcp

import "github.com/smbd-rdma/smbd-rdma/transport"

// # Messages whose end belongs elsewhere
//
// The octets of a long message that a transport.PlaceFunc has found a place for are read
// there from the socket; but for those that came along with its beginning.

// minPlaced is the shortest message that is asked about, in octets: a copy of less costs
// no more than asking.
const minPlaced = 16 << 10

// placing is what a connection knows of it; owned as receiver is.
type placing struct {
	ask    transport.PlaceFunc
	next   int                  // length of a message that is to be asked about; 0 without
	to     *transport.Placement // of the current message; nil without
	n      int                  // its octets that belong there
	copied int
	waste  *[]byte // of aheadPools: for what has lost its place
}

// SetPlace implements transport.Placer.
func (c *Conn) SetPlace(f transport.PlaceFunc) { c.rx.place.ask = f }

// done forgets the message.
func (l *placing) done() {
	l.next, l.to, l.n, l.copied = 0, nil, 0, 0
	if l.waste != nil {
		aheadPools[len(aheadPools)-1].Put(l.waste)
		l.waste = nil
	}
}

// placeMessage begins a message of n octets whose prefix was read. It reports whether its
// end has a place.
func (c *Conn) placeMessage(n int) (bool, error) {
	x := &c.rx
	if x.place.ask == nil || c.sock == nil || n < minPlaced {
		return false, nil
	}
	x.place.next = n
	for x.w-x.r < transport.PlaceHead {
		if err := c.readAhead(); err != nil && x.w-x.r < transport.PlaceHead {
			return false, err
		}
	}
	x.place.next = 0
	head := x.buf[x.r:x.w]
	head = head[:min(len(head), n)]
	at, to := x.place.ask(head, n)
	if to == nil || at < transport.PlaceHead || at > len(head) {
		return false, nil
	}
	x.cur, x.curLen = c.pool.get(at), n
	copy(x.cur.buf, head[:at])
	x.place.copied = placeHead(to, head[at:])
	x.place.to, x.place.n = to, n-at
	x.r += len(head)
	x.got = len(head)
	x.want = 0
	return true, nil
}

// placeHead places what came along with the beginning, and returns how much was copied.
func placeHead(to *transport.Placement, b []byte) int {
	p, pipe := to.Begin(0)
	defer to.End()
	n := 0
	if pipe != nil && len(b) > 0 {
		n = fillPipe(pipe, b[:min(len(b), len(p))])
	}
	return n + copy(p[n:], b[n:])
}

// target is where to read to now, of a message whose end has a place, which is held
// until End. What has lost its place goes where nobody looks.
func (x *receiver) target() ([]byte, *transport.Pipe) {
	left := x.curLen - x.got
	if p, pipe := x.place.to.Begin(x.place.n - left); len(p) > 0 {
		return p[:min(len(p), left)], pipe
	}
	if x.place.waste == nil {
		b, _ := aheadPools[len(aheadPools)-1].Get().(*[]byte)
		if b == nil {
			s := make([]byte, aheadSizes[len(aheadSizes)-1])
			b = &s
		}
		x.place.waste = b
	}
	return (*x.place.waste)[:min(len(*x.place.waste), left)], nil
}
