package smbdirect

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"
)

// recorderSize is the number of events that a flight recorder keeps.
const recorderSize = 64

// eventKind is the kind of a recorded event.
type eventKind uint8

const (
	evPost eventKind = iota + 1
	evSend
	evReceive
	evComplete
	evTransfer
	evRegister
	evInvalidate
	evInvalidated
	evState
	evTimer
	evEnd
)

// event is what a flight recorder keeps: four numbers and a word, so that
// recording allocates nothing.
type event struct {
	at      time.Duration
	kind    eventKind
	word    string
	a, b, c uint64
	err     error
}

func (e *event) String() string {
	switch e.kind {
	case evPost:
		return fmt.Sprintf("post %d receives of %d", e.a, e.b)
	case evSend:
		return fmt.Sprintf("send %d bytes, grant %d, remaining %d", e.a, e.b, e.c)
	case evReceive:
		return fmt.Sprintf("receive %d bytes, send credits now %d, receive credits %d", e.a, e.b, e.c)
	case evComplete:
		return fmt.Sprintf("complete %s, %d requests under way", e.word, e.a)
	case evTransfer:
		return fmt.Sprintf("%s %d bytes, token %#x", e.word, e.a, e.b)
	case evRegister:
		return fmt.Sprintf("register %d bytes, token %#x", e.a, e.b)
	case evInvalidate:
		return fmt.Sprintf("invalidate token %#x", e.a)
	case evInvalidated:
		return fmt.Sprintf("peer invalidated token %#x", e.a)
	case evState:
		return fmt.Sprintf("%s: send %d, receive %d, read/write %d", e.word, e.a, e.b, e.c)
	case evTimer:
		return "timer"
	case evEnd:
		return fmt.Sprintf("end: %v", e.err)
	}
	return fmt.Sprintf("event %d", e.kind)
}

// recorder keeps the last events of a connection.
type recorder struct {
	mu   sync.Mutex
	ring [recorderSize]event // guarded by mu
	n    uint64              // guarded by mu; events so far
}

func (r *recorder) add(e event) {
	r.mu.Lock()
	r.ring[r.n%recorderSize] = e
	r.n++
	r.mu.Unlock()
}

// writeTo prints the events, the oldest first, one a line with the seconds since
// the start of the connection.
func (r *recorder) writeTo(w io.Writer) error {
	r.mu.Lock()
	events, n := r.ring, r.n
	r.mu.Unlock()
	var b bytes.Buffer
	first := uint64(0)
	if n > recorderSize {
		first = n - recorderSize
		fmt.Fprintf(&b, "(%d earlier events)\n", first)
	}
	for i := first; i < n; i++ {
		e := &events[i%recorderSize]
		fmt.Fprintf(&b, "%12.6f %s\n", e.at.Seconds(), e)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// String is writeTo for a log attribute.
func (r *recorder) String() string {
	var b bytes.Buffer
	_ = r.writeTo(&b) // a Buffer takes everything
	return b.String()
}
