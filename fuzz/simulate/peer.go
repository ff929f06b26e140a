package simulate

import (
	"bytes"

	"github.com/smbd-rdma/smbd-rdma/fuzz/model"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// peer is an end that keeps only the rules that Linux keeps: it may spend its last
// credit without a grant, grants late and more than it was asked for, puts empty
// messages between fragments, varies the size of fragments, and leaves probes
// without an answer. It never sends without a credit. One that the engine knows for
// Linux, and that gave it as many credits as Linux does, may leave it without any
// for a while, three grants long, and keep the receives of a message until it has
// all of it; another sees to it that the engine can always grant again, as nothing
// else could save the two.
type peer struct {
	w       *world
	p       *port
	up      bool
	credits int // what it may send
	given   int // what the other end has of it, or is on the way there
	most    int // that the other end ever had
	unpaid  int // messages that granted since it granted itself
	kept    int // receives of the message that has come in part
	left    uint32
	fresh   uint32 // where in contents its messages come from

	want    []uint64       // messages of the other end that are to come, in order
	sizes   map[uint64]int // their lengths
	partial []byte
	missing uint32
}

func newPeer(w *world, p *port) *peer { return &peer{w: w, p: p, sizes: map[uint64]int{}} }

func (q *peer) emit(b []byte) {
	q.w.send(q.p, packet{bytes: b}, 0)
}

func (q *peer) start() {
	if q.p.side != model.A {
		return
	}
	b, _ := wire.NegotiateRequest{
		MinVersion: wire.Version, MaxVersion: wire.Version, CreditsRequested: q.p.set.SendCreditTarget,
		PreferredSendSize: q.p.set.MaxSendSize, MaxReceiveSize: q.p.set.MaxReceiveSize, MaxFragmentedSize: q.p.set.MaxFragmentedSize,
	}.AppendBinary(nil)
	q.emit(b)
}

// forget takes a message out of what is to come.
func (q *peer) forget(id uint64) {
	for i, w := range q.want {
		if w == id {
			q.want = append(q.want[:i:i], q.want[i+1:]...)
			return
		}
	}
}

// hear takes a message.
func (q *peer) hear(b []byte) {
	if !q.up {
		q.negotiate(b)
		return
	}
	h, err := wire.ParseDataTransfer(b)
	if err != nil {
		return // it was changed on the way
	}
	q.given--
	q.credits += int(h.CreditsGranted)
	if h.CreditsGranted > 0 {
		q.unpaid++
	}
	if h.DataLength > 0 && q.keeps() {
		q.kept++
	}
	if h.RemainingDataLength == 0 {
		q.kept = 0
	}
	p, ok := h.Payload(b)
	if !ok || h.DataLength == 0 || q.w.odd {
		return
	}
	if len(q.partial) == 0 {
		q.missing = h.DataLength + h.RemainingDataLength
	}
	q.partial = append(q.partial, p...)
	if q.missing -= h.DataLength; q.missing != h.RemainingDataLength {
		q.w.fail("%v: RemainingDataLength %d, %d are missing", model.Octets, h.RemainingDataLength, q.missing)
	}
	if q.missing > 0 {
		return
	}
	if len(q.want) == 0 || !bytes.Equal(q.partial, octets(q.want[0], q.sizes[q.want[0]])) {
		q.w.fail("%v: a message of %d octets is not the next that was submitted", model.Octets, len(q.partial))
		return
	}
	q.partial, q.want = q.partial[:0], q.want[1:]
}

func (q *peer) negotiate(b []byte) {
	set := &q.p.set
	if q.p.side == model.A {
		r, err := wire.ParseNegotiateResponse(b)
		if err != nil || r.Status != 0 {
			return
		}
		q.up, q.p.up = true, true
		q.credits = int(r.CreditsGranted)
		return
	}
	r, err := wire.ParseNegotiateRequest(b)
	if err != nil || r.CreditsRequested == 0 {
		return
	}
	q.up, q.p.up = true, true
	q.gave(min(int(set.ReceiveCreditMax), int(r.CreditsRequested)))
	recv := max(128, min(set.MaxReceiveSize, r.PreferredSendSize))
	res, _ := wire.NegotiateResponse{
		MinVersion: wire.Version, MaxVersion: wire.Version, NegotiatedVersion: wire.Version, CreditsRequested: set.SendCreditTarget, CreditsGranted: uint16(q.given),
		MaxReadWriteSize: 1 << 20, PreferredSendSize: min(set.MaxSendSize, r.MaxReceiveSize), MaxReceiveSize: recv, MaxFragmentedSize: set.MaxFragmentedSize,
	}.AppendBinary(nil)
	q.emit(res)
}

// mostUnpaid is how many times a Linux peer gets credits before it gives some: its
// receives come back when it has taken what was in them, and then each message of
// its own grants all there are.
const mostUnpaid = 3

// reckless reports whether it may go to its last credit as Linux does.
func (q *peer) reckless() bool {
	return q.most >= 128 && q.w.other(q.p).eng.Profile().ReserveCredits > 0
}

// keeps reports whether it holds on to the receives of a message, as cifs.ko does:
// half of them hold the longest one.
func (q *peer) keeps() bool {
	c := q.w.other(q.p).eng.Connection()
	return q.reckless() && uint64(c.MaxSendSize-wire.PayloadOffset)*uint64(q.p.set.ReceiveCreditMax)/2 >= uint64(c.MaxFragmentedSendSize)
}

// owed is how many receives it has that the other end was not told of.
func (q *peer) owed() int { return max(int(q.p.set.ReceiveCreditMax)-q.given-q.kept, 0) }

// grant is how many credits it gives now; how decides whether it is in the mood.
func (q *peer) grant(how uint32) int {
	switch {
	case q.given <= 1 && !q.reckless():
		return max(q.owed(), 1)
	case q.unpaid >= mostUnpaid && q.reckless():
		return q.owed()
	case how%4 == 0 && q.keeps():
		return q.owed()
	case how%4 == 0:
		return q.owed() + int(how>>2)%3 // more than it was asked for
	case how%4 == 1:
		return min(q.owed(), 1)
	}
	return 0
}

func (q *peer) gave(n int) {
	if n > 0 {
		q.unpaid = 0
	}
	q.given += n
	q.most = max(q.most, q.given)
}

// speak sends something if it may.
func (q *peer) speak(how, change uint32) {
	e := q.w.other(q.p).eng
	if !q.up || q.credits == 0 || e == nil {
		return
	}
	c := e.Connection()
	if c.MaxReceiveSize < wire.PayloadOffset {
		return
	}
	h := wire.DataTransfer{CreditsRequested: q.p.set.SendCreditTarget}
	g := q.grant(how)
	if q.credits == 1 && g == 0 && q.given < 2 && !q.reckless() {
		g = 1
	}
	h.CreditsGranted = uint16(min(g, 65535))
	h.Flags = uint16(how>>4) % 8 / 7
	var payload []byte
	if how>>8%3 != 0 {
		room := min(q.p.set.MaxSendSize, c.MaxReceiveSize) - wire.PayloadOffset
		n := 1 + (how>>10)%room
		if q.left == 0 {
			q.left = 1 + (how>>12)%6000
		}
		n = min(n, q.left)
		if how>>8%7 == 0 {
			n = 0 // an empty fragment
		}
		q.left -= n
		h.DataLength, h.RemainingDataLength = n, q.left
		if n > 0 {
			h.DataOffset = wire.PayloadOffset
		}
		q.fresh = (q.fresh + 977) % (1 << 20)
		payload = contents[q.fresh : q.fresh+n]
	}
	b, _ := h.AppendBinary(nil)
	b = append(b, payload...)
	q.credits--
	q.gave(int(h.CreditsGranted))
	if change != 0 {
		q.w.tamper()
		b = mutate(b, change)
	}
	q.emit(b)
}

// flood sends up to n fragments of long messages and grants nothing that it need
// not.
func (q *peer) flood(n int) {
	for ; n > 0 && q.credits > 0; n-- {
		if q.left == 0 {
			q.left = min(100_000, q.p.set.MaxFragmentedSize)
		}
		q.speak(2|1<<8|(1<<10*1339), 0)
	}
}

// settle does what a well-meaning peer does in the end: it finishes its message
// and grants. It reports whether it sent anything.
func (q *peer) settle() bool {
	if !q.up || q.credits == 0 {
		return false
	}
	if q.left == 0 && q.owed() <= int(q.p.set.ReceiveCreditMax)/2 {
		return false
	}
	if q.left == 0 {
		g := q.owed()
		b, _ := wire.DataTransfer{CreditsRequested: q.p.set.SendCreditTarget, CreditsGranted: uint16(g)}.AppendBinary(nil)
		q.credits--
		q.gave(g)
		q.emit(b)
		return true
	}
	q.speak(1<<8|1<<10*31, 0)
	return true
}

// wire24 is a small Data Transfer message that an open end would take.
func wire24() []byte {
	b, _ := wire.DataTransfer{CreditsRequested: 1, CreditsGranted: 1, DataOffset: wire.PayloadOffset, DataLength: 1}.AppendBinary(nil)
	return append(b, 1)
}
