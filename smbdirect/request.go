package smbdirect

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// requestKind is what a caller wants of the owner.
type requestKind uint8

const (
	reqSend requestKind = iota + 1
	reqWrite
	reqWriteFile
	reqRead
	reqRegister
	reqInvalidate
	reqCancel
	reqFlight
)

// String names the kind for errors and the recorder.
func (k requestKind) String() string {
	switch k {
	case reqSend:
		return "send"
	case reqWrite:
		return "write"
	case reqWriteFile:
		return "write file"
	case reqRead:
		return "read"
	case reqRegister:
		return "register"
	case reqInvalidate:
		return "invalidate"
	case reqFlight:
		return "flight recorder"
	}
	return "cancel"
}

// The states of a request.
const (
	stateOut     uint32 = iota // at work
	stateWaiting               // at work, and the caller waits for done
	stateOver
)

// errCancelled is how the owner says that it gave up a request in time.
var errCancelled = errors.New("smbdirect: cancelled")

// request goes from a caller to the owner of the connection, whose it is until
// finished says otherwise or done is signalled.
type request struct {
	kind    requestKind
	state   atomic.Uint32
	done    chan struct{} // one signal, if somebody waits for it
	err     error         // set before the end
	home    *requestPool  // where it goes when it is free
	cancels *request      // of reqCancel; its owner waits for both
	why     error         // of reqCancel
	next    *request      // in a list of the owner

	n int // bytes

	// reqSend
	id       uint64
	parts    [][]byte
	part     int // position in parts
	partOff  int
	token    uint32
	hasToken bool
	more     bool // it may be kept back until a Flush

	// transfers
	buf      *lease
	os       *os.File
	fileOff  int64
	remote   []transport.Descriptor
	desc     int    // position in remote
	descOff  uint32 // in remote[desc]
	pos      int    // bytes posted
	out      int    // requests posted and not completed
	fromFile int
	wait     func() // called before its caller waits; may be nil

	// reqRegister, reqInvalidate
	reg   *registration
	part0 int // position in its parts

	flight flight // of reqFlight
}

// requestPool has requests that are free. Connections of one device share it.
type requestPool struct{ of sync.Pool }

func (p *requestPool) get(k requestKind) *request {
	r, ok := p.of.Get().(*request)
	if !ok {
		r = &request{done: make(chan struct{}, 1), home: p}
	}
	r.kind = k
	return r
}

// cancelOf makes the request to give up another because of err.
func cancelOf(r *request, err error) *request {
	q := r.home.get(reqCancel)
	q.cancels, q.why = r, err
	return q
}

// free gives a request back. Its done channel is empty again by then.
func (r *request) free() {
	*r = request{done: r.done, home: r.home}
	r.home.of.Put(r)
}

// finish hands a request back to its caller, and reports whether he waits.
func (r *request) finish(err error) (woken bool) {
	r.err = err
	woken = r.state.Swap(stateOver) == stateWaiting
	if woken {
		r.done <- struct{}{}
	}
	return woken
}

// finished reports whether the request is over. If not, done is signalled when
// it is.
func (r *request) finished() bool { return !r.state.CompareAndSwap(stateOut, stateWaiting) }

// copyTo copies the next len(dst) bytes of the message.
func (r *request) copyTo(dst []byte) {
	for len(dst) > 0 {
		k := copy(dst, r.parts[r.part][r.partOff:])
		dst = dst[k:]
		if r.partOff += k; r.partOff == len(r.parts[r.part]) {
			r.part++
			r.partOff = 0
		}
	}
}

// rest is a message in the place of one that was begun: what is left of that, copied, and
// nobody waits for it. It is left to the garbage collector.
func (r *request) rest() *request {
	q := &request{kind: reqSend, id: r.id, n: r.n, token: r.token, hasToken: r.hasToken, next: r.next}
	left := make([]byte, 0, r.n)
	for i := r.part; i < len(r.parts); i++ {
		p := r.parts[i]
		if i == r.part {
			p = p[r.partOff:]
		}
		left = append(left, p...)
	}
	q.parts = [][]byte{left}
	return q
}

// posted reports whether all requests of a transfer or invalidation were posted.
// One that is not is in a list of the owner.
func (r *request) posted() bool {
	if r.kind == reqInvalidate {
		return r.part0 == len(r.reg.parts)
	}
	return r.pos == r.n
}

// list is a queue of requests.
type list struct{ head, tail *request }

func (l *list) push(r *request) {
	r.next = nil
	if l.tail == nil {
		l.head = r
	} else {
		l.tail.next = r
	}
	l.tail = r
}

func (l *list) pop() *request {
	r := l.head
	if l.head = r.next; l.head == nil {
		l.tail = nil
	}
	r.next = nil
	return r
}

// contains reports whether r is in the list.
func (l *list) contains(r *request) bool {
	for q := l.head; q != nil; q = q.next {
		if q == r {
			return true
		}
	}
	return false
}

// remove takes r out and reports whether it was in the list.
func (l *list) remove(r *request) bool {
	var prev *request
	for q := l.head; q != nil; prev, q = q, q.next {
		if q != r {
			continue
		}
		if prev == nil {
			l.head = q.next
		} else {
			prev.next = q.next
		}
		if l.tail == q {
			l.tail = prev
		}
		q.next = nil
		return true
	}
	return false
}
