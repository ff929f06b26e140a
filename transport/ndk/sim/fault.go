package sim

import (
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Point is a place where the simulator can do otherwise than well.
type Point uint8

// The points. What stands behind each is what happens there by default; an
// Injection may say another status where one is named.
const (
	// PointOpen: Provider.Open fails with DeviceNotReady.
	PointOpen Point = iota
	// PointCreate: a Create call fails with InsufficientResources.
	PointCreate
	// PointRequest: Register, InitializeFastRegister, BuildLAM, Alloc, Resize or
	// Modify fails with InsufficientResources.
	PointRequest
	// PointPost: a post to an initiator queue is refused with NoMoreEntries, as
	// if the queue were full. The status cannot be another.
	PointPost
	// PointPostReceive: so is a post to a receive queue or an SRQ.
	PointPostReceive
	// PointInitiator: an initiator request fails when its turn comes, with one of
	// the statuses that its operation may have.
	PointInitiator
	// PointReceive: the receive that an incoming message takes fails, likewise.
	PointReceive
	// PointDeferred: a deferred request that was accepted fails when the chain is
	// handed on, with InternalError.
	PointDeferred
	// PointEarly: a post executes what it can before it returns, so that the
	// completion can be polled before the post came back. Not an error.
	PointEarly
	// PointLeftover: a CQ that is armed while it holds only completions from
	// before its last notification notifies. Not an error.
	PointLeftover
	// PointNotify: a callback comes late, by Delay.
	PointNotify
	// PointOverrun: a CQ overruns with this completion.
	PointOverrun
	// PointFatalCQ: a CQ fails with InternalError in place of this completion.
	PointFatalCQ
	// PointFatalSRQ: an SRQ fails with InternalError when a message takes a receive.
	PointFatalSRQ
	// PointSlow: a QP starts its next request late, by Delay.
	PointSlow
	// PointDelay: a packet is late by Delay, and those behind it on its way wait.
	PointDelay
	// PointLoss: the connection is lost with this packet. Of it, and in an
	// Injection of all that the side sends from now on, Bytes still arrive.
	PointLoss
	// PointConnect: Connect fails at once with TooManyAddresses.
	PointConnect
	// PointConnectRequest: what a Connect sends is refused (ConnectionRefused),
	// lost (IOTimeout) or cut off (ConnectionAborted).
	PointConnectRequest
	// PointReply: so is the answer of an Accept or Reject; refused is lost here.
	PointReply
	// PointReady: so is the message of a CompleteConnect.
	PointReady
	// PointComplete: CompleteConnect fails with IOTimeout or ConnectionAborted.
	PointComplete
	// PointFin: the farewell of a Disconnect, or its answer, is lost.
	PointFin
	// PointInvalidate: the token of an incoming SendAndInvalidate counts as bad.
	PointInvalidate
	// PointRemoval: the device of the side that posts is removed.
	PointRemoval

	numPoints
)

var pointNames = [numPoints]string{
	"Open", "Create", "Request", "Post", "PostReceive", "Initiator", "Receive", "Deferred", "Early", "Leftover", "Notify",
	"Overrun", "FatalCQ", "FatalSRQ", "Slow", "Delay", "Loss", "Connect", "ConnectRequest", "Reply", "Ready", "Complete",
	"Fin", "Invalidate", "Removal",
}

// String names the point.
func (p Point) String() string {
	if p < numPoints {
		return pointNames[p]
	}
	return strconv.Itoa(int(p))
}

// Injection is one fault at one point, once.
type Injection struct {
	Point Point
	// Object, if not nil, limits it to what happens to that object: the QP of a
	// post, packet or request, the CQ of a completion or callback, the SRQ, the
	// connector of a handshake, the object whose method is called, the adapter of a
	// CQ that is armed. For handshake points the QP of the connector will do too,
	// and for calls the adapter.
	Object ndk.Object
	// Kind, for PointCreate, limits it to the creation of such objects.
	Kind ndk.ObjectKind
	// Op, for PointPost, PointInitiator and PointDeferred, limits it to such
	// requests.
	Op ndk.OpType
	// Call, for points of calls, limits it to the call that fails with an error of
	// this Op: "create CQ", "register MR".
	Call string
	// After is how many times the point is passed before. 0 is the next time.
	After int
	// Times is how many times it strikes; 0 is once, negative is whenever it can.
	Times int
	// Status is what happens where the point has a choice; 0 draws or is the
	// default.
	Status ndk.Status
	// Delay is for the points that delay; 0 draws up to Config.MaxDelay.
	Delay time.Duration
	// Bytes is for PointLoss.
	Bytes int
}

// faults decides what goes wrong. It is guarded by sched.mu.
type faults struct {
	any      atomic.Bool // there is something; stays set
	prob     [numPoints]float64
	maxDelay time.Duration
	script   []scripted // in the order they were injected
	serial   uint64
}

type scripted struct {
	Injection
	serial uint64
}

func (f *faults) init(c *Config) {
	for p := range numPoints {
		f.prob[p] = c.Faults[p]
		if f.prob[p] > 0 {
			f.any.Store(true)
		}
	}
	f.maxDelay = c.MaxDelay
}

// what a point was passed with.
type passing struct {
	point Point
	who   subject
	o1    ndk.Object // either may be what an Injection names; nil matches none
	o2    ndk.Object
	kind  ndk.ObjectKind
	op    ndk.OpType
	call  string
}

// Inject adds a fault to those to come. Several for one point are looked at in
// the order of their injection, and at most one strikes at a time. undo takes it
// away again if it is still there. The error is InvalidParameter, for a field
// with a value that the point does not know.
func (w *World) Inject(i Injection) (undo func(), err error) {
	if i.Point >= numPoints || i.After < 0 || i.Delay < 0 || i.Bytes < 0 || !i.Point.allows(i.Op, i.Status) {
		return nil, fail("inject", ntstatus.InvalidParameter, nil)
	}
	if i.Object != nil {
		i.Object = ndk.Unwrap(i.Object)
	}
	if i.Times == 0 {
		i.Times = 1
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	f := &w.s.faults
	f.serial++
	serial := f.serial
	f.script = append(f.script, scripted{i, serial})
	f.any.Store(true)
	return func() {
		w.s.mu.Lock()
		defer w.s.mu.Unlock()
		f.script = slices.DeleteFunc(f.script, func(c scripted) bool { return c.serial == serial })
	}, nil
}

// Statuses that a failed request may have (Network Direct SPI, as the digest of
// the header has it), but for those of a flush.
var (
	localFailures   = []ndk.Status{ntstatus.InvalidDeviceRequest, ntstatus.InternalError}
	dataFailures    = []ndk.Status{ntstatus.InvalidDeviceRequest, ntstatus.InternalError, ntstatus.DataOverrun, ntstatus.AccessViolation, ntstatus.IOTimeout, ntstatus.RemoteResources}
	receiveFailures = []ndk.Status{ntstatus.InvalidDeviceRequest, ntstatus.InternalError, ntstatus.BufferOverflow, ntstatus.AccessViolation, ntstatus.IOTimeout, ntstatus.RemoteResources}
	handshakeFaults = []ndk.Status{ntstatus.ConnectionRefused, ntstatus.IOTimeout, ntstatus.ConnectionAborted}
	completeFaults  = []ndk.Status{ntstatus.IOTimeout, ntstatus.ConnectionAborted}
	connectFaults   = []ndk.Status{ntstatus.TooManyAddresses, ntstatus.InsufficientResources, ntstatus.NetworkUnreachable, ntstatus.HostUnreachable, ntstatus.ConnectionRefused, ntstatus.IOTimeout}
)

// choices are the statuses that can strike at p, nil if there is no choice.
func (p Point) choices(op ndk.OpType) []ndk.Status {
	switch p {
	case PointInitiator:
		switch op {
		case ndk.OpFastRegister, ndk.OpBind, ndk.OpInvalidate:
			return localFailures
		}
		return dataFailures
	case PointReceive:
		return receiveFailures
	case PointConnectRequest, PointReply, PointReady:
		return handshakeFaults
	case PointComplete:
		return completeFaults
	}
	return nil
}

// allows reports whether an Injection at p may name st.
func (p Point) allows(op ndk.OpType, st ndk.Status) bool {
	if st == ntstatus.Success {
		return true
	}
	switch p {
	case PointOpen, PointCreate, PointRequest:
		return st.IsError()
	case PointConnect:
		return slices.Contains(connectFaults, st)
	}
	return slices.Contains(p.choices(op), st)
}

// faulty reports whether anything can go wrong at all. Points that every request
// passes ask it first.
func (w *World) faulty() bool { return w.s.faults.any.Load() }

// strike decides whether something goes wrong where p says, and how.
func (w *World) strike(p passing) (i Injection, hit bool) {
	s := &w.s
	if !w.faulty() {
		return i, false
	}
	s.mu.Lock()
	f := &s.faults
	for k := range f.script {
		c := &f.script[k]
		if c.Point != p.point || c.Kind != 0 && c.Kind != p.kind || c.Op != 0 && c.Op != p.op || c.Call != "" && c.Call != p.call ||
			c.Object != nil && c.Object != p.o1 && c.Object != p.o2 {
			continue
		}
		if c.After > 0 {
			c.After--
			continue
		}
		if hit {
			continue
		}
		i, hit = c.Injection, true
		if c.Times > 0 {
			c.Times--
		}
	}
	if hit {
		f.script = slices.DeleteFunc(f.script, func(c scripted) bool { return c.Times == 0 })
	} else if q := f.prob[p.point]; q > 0 && s.rng.Float64() < q {
		i, hit = Injection{Point: p.point, Op: p.op}, true
		if p.point == PointLoss {
			i.Bytes = -1 // drawn by whoever knows the size
		}
	}
	if !hit {
		s.mu.Unlock()
		return i, false
	}
	if i.Status == 0 {
		if list := p.point.choices(p.op); list != nil {
			i.Status = list[s.rng.IntN(len(list))]
		}
	}
	switch p.point {
	case PointNotify, PointSlow, PointDelay:
		if i.Delay == 0 && f.maxDelay > 0 {
			i.Delay = time.Duration(s.rng.Int64N(int64(f.maxDelay) + 1))
		}
	}
	s.mu.Unlock()
	w.note(p.who, "fault").text(p.point.String()).status(i.Status).end()
	return i, true
}

// fails is strike for points that make a call fail with a status.
func (w *World) fails(op string, who subject, point Point, o, o2 ndk.Object, kind ndk.ObjectKind, st ndk.Status) error {
	i, hit := w.strike(passing{point: point, who: who, o1: o, o2: o2, kind: kind, call: op})
	if !hit {
		return nil
	}
	if i.Status != 0 {
		st = i.Status
	}
	return fail(op, st, nil)
}

func fail(op string, st ndk.Status, err error) error {
	return &ndk.Error{Op: op, Status: st, Err: err}
}

// breaks is the error of a slow call that broke the rule of e.
func breaks(op string, e *ndk.PostError) error {
	return &ndk.Error{Op: op, Status: e.Status, ProviderError: uint32(e.Rule)}
}
