//go:build verbs && linux && cgo

package verbs

import "time"

// firstMessageLimit is how long the passive side of an iWARP connection waits for
// the first message before it sends all the same. By then the active side has read
// the reply, for sure on any network that is of use.
const firstMessageLimit = 500 * time.Millisecond

// awaitFirst keeps initiator requests from the device until the first message
// arrives, or for firstMessageLimit. The passive side of an iWARP connection must
// not send before the active one did (RFC 5044 §7.1): what it sends may come so
// close behind the reply that the other end takes it for a part of that, which siw
// answers by breaking the connection. No driver waits by itself, and none tells
// of a first message that is a Write or Read, hence the limit. It is called before
// setConnected.
func (q *qp) awaitFirst() {
	heard := make(chan struct{})
	q.tx.Lock()
	q.mu.Lock()
	q.holding, q.heard = true, heard
	q.mu.Unlock()
	q.tx.Unlock()
	q.Retain()
	go func() { // ends with the message, the end of the connection or the limit; the QP waits for it
		defer q.Release()
		t := time.NewTimer(firstMessageLimit)
		defer t.Stop()
		select {
		case <-heard:
		case <-t.C:
		}
		q.tx.Lock()
		q.letGoLocked()
		q.ringLocked()
		q.tx.Unlock()
	}()
}

// letGoLocked ends awaitFirst; tx is held.
func (q *qp) letGoLocked() {
	q.holding = false
	q.mu.Lock()
	q.hearLocked()
	q.mu.Unlock()
}

// hearLocked notes that a message came, or that none will; mu is held.
func (q *qp) hearLocked() {
	if q.heard != nil {
		close(q.heard)
		q.heard = nil
	}
}
