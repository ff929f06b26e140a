package soft

import "github.com/smbd-rdma/smbd-rdma/transport/ndk"

// notifier keeps the notifications of one object from overlapping: one that
// becomes due while another runs is run behind it, by the same goroutine. Its
// fields are guarded by the lock of the object.
type notifier struct {
	notify  func(ndk.Status)
	running bool
	pending bool
}

// due notes that a notification is to be run, and reports whether the caller has
// to see to it, with a reference to the object taken for that.
func (n *notifier) due(o *Object) (fire bool) {
	if n.notify == nil {
		return false
	}
	n.pending = true
	if n.running {
		return false // who runs it goes on with this one
	}
	n.running = true
	o.Retain()
	return true
}
