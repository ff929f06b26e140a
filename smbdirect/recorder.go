package smbdirect

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/core"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// recorderSize is the number of events that a flight recorder keeps, a power of
// two. They take 10 KiB of each connection, whose receive buffers take 512 KiB.
const recorderSize = 256

// eventKind is the kind of a recorded event.
type eventKind uint8

const (
	evPost        eventKind = iota + 1 // x receives of y bytes
	evNegotiateTx                      // a, b and y: the first 20 octets, x bytes
	evNegotiateRx                      // the same
	evSend                             // the same; code 1: with a token b of the peer to invalidate
	evReceive                          // a, b and y: the header, x bytes
	evTransfer                         // code is the operation: x bytes, token y, peer's address a
	evRegister                         // x bytes, token y, address a
	evInvalidate                       // token y
	evInvalidated                      // by the peer: token y
	evComplete                         // code is the operation, x the status, y requests under way
	evHold                             // code 1: no more credits are granted, the application is behind
	evState                            // established: sizes x and y, a read/write
	evTimer
	evClose // Close was called
	evEnd   // of the connection; why is recorder.cause
)

// event is what a flight recorder keeps: numbers only, so that recording neither
// allocates nor keeps anything alive.
type event struct {
	at            time.Duration
	a, b          uint64
	x, y          uint32
	send, receive uint16 // credits behind the event, at most 65535
	kind          eventKind
	code          uint8
}

// recorder keeps the last events of a connection. It belongs to the owner of
// the connection, as a lock would cost what recording does; others ask the owner for a copy.
type recorder struct {
	ring  [recorderSize]event
	n     uint64 // events so far
	cause error  // of evEnd
}

// flight is a copy of a recorder.
type flight struct {
	events []event // oldest first
	n      uint64
	cause  error
}

// note records an event. The time is that of the last look at the clock.
func (l *loop) note(k eventKind, code uint8, a, b uint64, x, y uint32) {
	r := &l.rec
	e := &r.ring[r.n%recorderSize]
	r.n++
	s, v := l.eng.Credits()
	*e = event{at: l.at, kind: k, code: code, a: a, b: b, x: x, y: y, send: uint16(min(s, 0xFFFF)), receive: uint16(min(v, 0xFFFF))}
}

// noteMessage records a message by its first 20 octets, as far as there are as
// many: what was wrong with it is to be seen.
func (l *loop) noteMessage(k eventKind, msg []byte) {
	n := uint32(len(msg))
	if len(msg) < wire.DataTransferSize {
		var b [wire.DataTransferSize]byte
		copy(b[:], msg)
		msg = b[:]
	}
	le := binary.LittleEndian
	l.note(k, 0, le.Uint64(msg), le.Uint64(msg[8:]), n, le.Uint32(msg[16:]))
}

// snapshot copies the recorder.
func (l *loop) snapshot() flight {
	r := &l.rec
	f := flight{n: r.n, cause: r.cause}
	first := uint64(0)
	if r.n > recorderSize {
		first = r.n - recorderSize
	}
	f.events = make([]event, 0, r.n-first)
	for i := first; i < r.n; i++ {
		f.events = append(f.events, r.ring[i%recorderSize])
	}
	return f
}

// flight returns what was recorded, while the connection lives by asking its owner.
func (c *Conn) flight() flight {
	q := c.dev.requests.get(reqFlight)
	if !c.request(q) {
		q.free()
		<-c.done // nobody owns the connection any more
		return c.l.snapshot()
	}
	if !q.finished() {
		<-q.done
	}
	f := q.flight
	q.free()
	return f
}

// FlightRecorder implements transport.FlightRecorder: it prints the last events
// of the connection with the credits behind each, the oldest first. It may be
// called at any time, also after Close.
func (c *Conn) FlightRecorder(w io.Writer) error { return c.flight().writeTo(w) }

// writeTo prints the events, one a line: the seconds since the connection was
// begun, send and receive credits, and what happened.
func (f flight) writeTo(w io.Writer) error {
	var b bytes.Buffer
	if k := f.n - uint64(len(f.events)); k > 0 {
		fmt.Fprintf(&b, "(%d earlier events)\n", k)
	}
	for i := range f.events {
		e := &f.events[i]
		fmt.Fprintf(&b, "%12.6f credits %5d/%-5d %s\n", e.at.Seconds(), e.send, e.receive, f.text(e))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// String is writeTo for a log attribute.
func (f flight) String() string {
	var b bytes.Buffer
	_ = f.writeTo(&b) // a Buffer takes everything
	return b.String()
}

// message is the first 20 octets of a message that was recorded.
func (e *event) message() []byte {
	le := binary.LittleEndian
	b := le.AppendUint64(nil, e.a)
	b = le.AppendUint64(b, e.b)
	return le.AppendUint32(b, e.y)
}

// text says what an event was.
func (f flight) text(e *event) string {
	switch e.kind {
	case evPost:
		return fmt.Sprintf("post %d receives of %d bytes", e.x, e.y)
	case evNegotiateTx, evNegotiateRx:
		verb := "send"
		if e.kind == evNegotiateRx {
			verb = "receive"
		}
		return fmt.Sprintf("%s negotiate message of %d bytes: % x", verb, e.x, e.message()[:min(e.x, wire.DataTransferSize)])
	case evSend, evReceive:
		return e.transferText()
	case evTransfer:
		return fmt.Sprintf("post %v of %d bytes, token %#08x, peer's address %#x", ndk.OpType(e.code), e.x, e.y, e.a)
	case evRegister:
		return fmt.Sprintf("register %d bytes, token %#08x, address %#x", e.x, e.y, e.a)
	case evInvalidate:
		return fmt.Sprintf("invalidate token %#08x", e.y)
	case evInvalidated:
		return fmt.Sprintf("peer invalidated token %#08x", e.y)
	case evComplete:
		return fmt.Sprintf("complete %v: %v, %d requests under way", ndk.OpType(e.code), ntstatus.Status(e.x), e.y)
	case evHold:
		if e.code == 1 {
			return "hold back credits: the application is behind with messages"
		}
		return "grant credits again"
	case evState:
		return fmt.Sprintf("established: send %d, receive %d, read/write %d bytes", e.x, e.y, e.a)
	case evTimer:
		return "timer"
	case evClose:
		return "close"
	case evEnd:
		if f.cause == nil {
			return "end: closed by us"
		}
		return fmt.Sprintf("end: %v", f.cause)
	}
	return fmt.Sprintf("event %d", e.kind)
}

// transferText prints a Data Transfer message.
func (e *event) transferText() string {
	verb := "send"
	if e.kind == evReceive {
		verb = "receive"
	}
	if e.x < wire.DataTransferSize {
		return fmt.Sprintf("%s %d bytes: % x", verb, e.x, e.message()[:e.x])
	}
	h, _ := wire.ParseDataTransfer(e.message()) // is as long as it must be
	s := fmt.Sprintf("%s %d bytes: request %d, grant %d, payload %d at %d, remaining %d",
		verb, e.x, h.CreditsRequested, h.CreditsGranted, h.DataLength, h.DataOffset, h.RemainingDataLength)
	if h.Flags&wire.FlagResponseRequested != 0 {
		s += ", keepalive"
	}
	if h.Flags&^wire.FlagResponseRequested != 0 {
		s += fmt.Sprintf(", flags %#04x", h.Flags)
	}
	if e.code == 1 {
		s += ", with a token of the peer's to invalidate"
	}
	return s
}

// Death tells of a connection that died of an error: a mistake of the peer, a loss,
// a timer that ran out.
type Death struct {
	Local, Remote Addr
	// Provider as it was named to Listen or NewDialer.
	Provider string
	// Initiator: we made the connection.
	Initiator bool
	// Began is when, Lasted for how long there was a connection.
	Began  time.Time
	Lasted time.Duration
	Cause  error
	// Parameters are zero if the connection died before they were negotiated.
	Parameters Parameters
	Stats      transport.Stats
	// Flight has the last events, as [Conn.FlightRecorder] prints them.
	Flight string
}

// Rule returns the section of [MS-SMBD] and the field that the peer broke; ok is
// false if it died of something else.
func (d *Death) Rule() (section, field string, ok bool) {
	pe, ok := asProtocolError(d.Cause)
	if !ok {
		return "", "", false
	}
	return pe.Section, pe.Field, true
}

// tellDeath gives Config.OnDeath what it asked for. It runs at the end of the
// loop, when everybody who waited was told.
func (c *Conn) tellDeath() {
	l := &c.l
	if c.cfg.OnDeath == nil || !l.ran || !isError(l.rec.cause) {
		return
	}
	c.cfg.OnDeath(&Death{
		Local: c.local, Remote: c.remote, Provider: c.dev.name, Initiator: c.role == core.Active,
		Began: c.start, Lasted: l.deadAt, Cause: l.rec.cause,
		Parameters: l.params, Stats: c.Stats(), Flight: l.snapshot().String(),
	})
}
