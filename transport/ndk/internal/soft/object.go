package soft

import (
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Object counts who needs an object: its owner until Close, its successors, and
// the goroutines and callbacks that work for it. At zero it is closed and lets
// go of its antecedents. Providers embed it in each of their objects.
type Object struct {
	kind    ndk.ObjectKind
	version ndk.Version
	refs    atomic.Int32
	closing atomic.Bool
	done    chan struct{}
	// last runs once when refs got to zero, before done is closed; then the
	// antecedents are released.
	last    func()
	parents []*Object
}

// Init readies o with one reference, that of its owner, and holds its
// antecedents. It fails with InvalidDeviceState if one of them is being closed.
func (o *Object) Init(kind ndk.ObjectKind, v ndk.Version, last func(), parents ...*Object) error {
	for i, p := range parents {
		if !p.Hold() {
			for _, q := range parents[:i] {
				q.Release()
			}
			return ntstatus.InvalidDeviceState
		}
	}
	o.kind, o.version, o.last, o.parents = kind, v, last, parents
	o.done = make(chan struct{})
	o.refs.Store(1)
	return nil
}

// Hold adds a reference; false if the object is closed or being closed.
func (o *Object) Hold() bool {
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

// Retain adds a reference on behalf of a holder that has one already.
func (o *Object) Retain() { o.refs.Add(1) }

// Release gives a reference back.
func (o *Object) Release() {
	switch n := o.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic("soft: object released too often")
	}
	if o.last != nil {
		o.last()
	}
	close(o.done)
	for _, p := range o.parents {
		p.Release()
	}
}

// BeginClose reports whether this is the first call.
func (o *Object) BeginClose() bool { return o.closing.CompareAndSwap(false, true) }

// Closing reports whether Close was called.
func (o *Object) Closing() bool { return o.closing.Load() }

// Attach makes p an antecedent of o after Init. It fails if p is being closed.
// The caller keeps o from being released meanwhile.
func (o *Object) Attach(p *Object) bool {
	if !p.Hold() {
		return false
	}
	o.parents = append(o.parents, p)
	return true
}

// Kind implements ndk.Object.
func (o *Object) Kind() ndk.ObjectKind { return o.kind }

// Version implements ndk.Object.
func (o *Object) Version() ndk.Version { return o.version }

// Extension implements ndk.Object for objects that have none.
func (o *Object) Extension(ndk.GUID, ndk.Version) (any, error) {
	return nil, &ndk.Error{Op: "query extension", Status: ntstatus.NotSupported}
}

// Close implements ndk.Object for objects whose close has nothing to stop.
func (o *Object) Close() {
	if o.BeginClose() {
		o.Release()
	}
}

// Closed implements ndk.Object.
func (o *Object) Closed() <-chan struct{} { return o.done }
