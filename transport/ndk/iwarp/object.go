package iwarp

import (
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// object counts who needs an object: its owner until Close, its successors, and
// the goroutines and callbacks that work for it. At zero it is closed and lets
// go of its antecedents.
type object struct {
	kind    ndk.ObjectKind
	adapter *adapter
	refs    atomic.Int32
	closing atomic.Bool
	done    chan struct{}
	// last runs once when refs got to zero, before done is closed; then the
	// antecedents are released.
	last    func()
	parents []*object
}

// init readies o with one reference, that of its owner, and holds its
// antecedents. It fails if one of them is being closed.
func (o *object) init(kind ndk.ObjectKind, a *adapter, last func(), parents ...*object) error {
	for i, p := range parents {
		if !p.hold() {
			for _, q := range parents[:i] {
				q.release()
			}
			return ntstatus.InvalidDeviceState
		}
	}
	o.kind, o.adapter, o.last, o.parents = kind, a, last, parents
	o.done = make(chan struct{})
	o.refs.Store(1)
	return nil
}

// hold adds a reference; false if the object is closed already.
func (o *object) hold() bool {
	for {
		n := o.refs.Load()
		if n == 0 || o.closing.Load() {
			return false
		}
		if o.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// retain adds a reference on behalf of a holder that has one already.
func (o *object) retain() { o.refs.Add(1) }

func (o *object) release() {
	switch n := o.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic("iwarp: object released too often")
	}
	if o.last != nil {
		o.last()
	}
	close(o.done)
	for _, p := range o.parents {
		p.release()
	}
}

// beginClose reports whether this is the first call.
func (o *object) beginClose() bool { return o.closing.CompareAndSwap(false, true) }

// Kind implements ndk.Object.
func (o *object) Kind() ndk.ObjectKind { return o.kind }

// Version implements ndk.Object.
func (o *object) Version() ndk.Version { return o.adapter.version }

// Extension implements ndk.Object; only a QP has one.
func (o *object) Extension(ndk.GUID, ndk.Version) (any, error) {
	return nil, wrap("query extension", ntstatus.NotSupported, nil)
}

// Close implements ndk.Object for objects whose close has nothing to stop.
func (o *object) Close() {
	if o.beginClose() {
		o.release()
	}
}

// Closed implements ndk.Object.
func (o *object) Closed() <-chan struct{} { return o.done }
