package iwarp

import (
	"errors"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// startSend checks a segment of queue 0, and takes a receive for a new message. If
// that has to come from an SRQ which is empty, it waits, and err says that it
// waits no longer.
func (rx *receiver) startSend(s *segment, payload int) (c cause, bad bool, err error) {
	if s.msn != rx.msn {
		return causeMSN, true, nil
	}
	if !rx.inSend {
		if s.mo != 0 {
			return causeMO, true, nil
		}
		if rx.first && rx.q.rtrSend && s.op() == opSend && payload == 0 && s.last() {
			return cause{}, false, nil // the ready-to-receive message; see finish
		}
		if rx.q.srq != nil {
			if err := rx.takeShared(); err != nil {
				return cause{}, false, err
			}
		} else if !rx.takeReceive() {
			return causeNoBuffer, true, nil
		}
	} else if s.mo != rx.mo {
		return causeMO, true, nil
	}
	if uint64(rx.mo)+uint64(payload) > rx.total {
		off := &offender{valid: true, seg: *s, ulpdu: payload + untaggedLen}
		return cause{}, false, rx.failReceive(ntstatus.BufferOverflow, uint32(ndk.RuleReceiveSize), &protocolError{causeTooLong, off})
	}
	return cause{}, false, nil
}

// takeReceive copies the oldest posted receive; it stays in the queue until it
// completes.
func (rx *receiver) takeReceive() bool {
	q := rx.q
	q.rmu.Lock()
	if q.rhead == q.rtail || q.rclosed {
		q.rmu.Unlock()
		return false
	}
	slot := q.rhead & uint32(len(q.recvs)-1)
	w := &q.recvs[slot]
	rx.total = w.total
	n := copy(rx.recvBuf[:], q.recvSGEs[int(slot)*q.maxRecvSGE:][:w.nsge])
	q.rmu.Unlock()
	rx.recvDst = target{sges: rx.recvBuf[:n]}
	rx.inSend, rx.mo = true, 0
	return true
}

// errStopped ends the receive loop of a QP that is to wait no longer for a buffer.
var errStopped = errors.New("iwarp: the connection was ended while a message waited for a shared receive")

// takeShared takes the oldest receive of the SRQ. While there is none nothing is
// read, so that TCP holds up the peer, and nobody else.
func (rx *receiver) takeShared() error {
	q := rx.q
	for {
		ok, fire := q.srq.Take(q, &rx.shared)
		if fire {
			q.srq.Notify()
		}
		if ok {
			break
		}
		if rx.first {
			// The peer is in full operation, which is what the fence waits for.
			rx.first = false
			q.accepted()
		}
		if err := rx.waitShared(); err != nil {
			q.srq.Leave(q)
			return err
		}
	}
	q.rmu.Lock()
	q.taken, q.isTaken = rx.shared.RequestContext, true
	q.rmu.Unlock()
	rx.shared.RequestContext = nil
	rx.total = rx.shared.Total
	rx.recvDst = target{sges: rx.shared.SGEs}
	rx.inSend, rx.mo = true, 0
	return nil
}

// waitShared returns when it may be the turn of the QP to take a buffer, and fails
// when there is no use in one any more. A FIN of the peer is told to the consumer
// at once; the messages in front of it wait on.
func (rx *receiver) waitShared() error {
	q := rx.q
	q.mu.Lock()
	q.rxWaits = !q.posted && !q.flushWanted && !q.leaving
	wait := q.rxWaits
	q.mu.Unlock()
	fin := rx.fin
	rx.err = nil
	rx.notify()
	for waited := error(nil); wait && waited == nil; {
		if waited = q.raw.Read(rx.waitFn); waited != nil || rx.err != nil || rx.fin && !fin {
			break
		}
		// Who ends it by the deadline said why, under mu.
		if fin {
			waited = q.conn.WaitError()
		} else {
			waited = q.conn.WaitHangup()
		}
	}
	q.mu.Lock()
	q.rxWaits = false
	stop := q.flushWanted || q.leaving
	if q.posted && wait && !stop {
		_ = q.conn.SetReadDeadline(time.Time{})
	}
	q.posted = false
	q.mu.Unlock()
	switch {
	case stop:
		return errStopped
	case rx.err != nil:
		return rx.err
	case rx.fin && !fin:
		q.connector.lost(q.connector.disconnecting(), 0)
	}
	return nil
}

// watch looks whether the peer has ended the connection.
func (rx *receiver) watch(fd uintptr) bool {
	fin, errno := hungUp(fd)
	if errno != 0 {
		rx.err = errno
	}
	rx.fin = rx.fin || fin && errno == 0
	return true
}

// failReceive ends the current receive in error, and returns why. The Terminate is
// on its way before the consumer hears of it, who may close everything then.
func (rx *receiver) failReceive(st ndk.Status, perr uint32, why *protocolError) error {
	q := rx.q
	q.mu.Lock()
	q.failLocked(why.cause, why.off)
	q.mu.Unlock()
	rx.inSend = false
	rx.completeReceive(ndk.ResultEx{Result: ndk.Result{Status: st}, Type: ndk.OpReceive, ProviderError: perr}, false)
	return why
}

func (rx *receiver) completeReceive(e ndk.ResultEx, solicited bool) {
	q := rx.q
	rx.news = true
	q.rmu.Lock()
	fire := false
	switch {
	case q.isTaken:
		fire = q.completeTakenLocked(e, solicited)
	case q.rhead != q.rtail:
		fire = q.completeReceiveLocked(e, solicited)
	}
	q.rmu.Unlock()
	if fire {
		rx.fire(q.rcq)
	}
}
