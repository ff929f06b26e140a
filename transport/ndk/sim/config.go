package sim

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Order says which of several events that are due at the same virtual time comes
// first.
type Order uint8

const (
	// InOrder: the one that was scheduled first.
	InOrder Order = iota
	// Shuffled: the seed decides. What belongs to one queue of one QP, or to one
	// direction of one connection, stays in order.
	Shuffled
)

// Faults has a probability for each Point.
type Faults [numPoints]float64

// Config of a World. The zero value is a world without faults, in manual mode.
type Config struct {
	// Seed decides every random choice. 0 is a seed like others.
	Seed uint64
	// Auto makes the world go by itself, on a goroutine of its own: for consumers
	// that have goroutines and wait for callbacks. What they do when is then no
	// longer decided by the seed. Without it, a call that blocks drives the world,
	// and so do Step, Run, RunUntil and Advance.
	Auto bool
	// Paced, with Auto, makes the virtual clock keep to that of the machine, so that
	// time limits mean what they say to goroutines. Without it the clock jumps to
	// the next event.
	Paced bool
	// Hosts are the devices of the simulated network, each with its addresses; an
	// address has one device. None: each address that an adapter is opened with
	// gets a device, and an unspecified one opens that of 127.0.0.1 and ::1.
	Hosts [][]netip.Addr
	// Order is that of events at the same time.
	Order Order
	// Latency is what a packet takes from end to end, Jitter the most that is
	// drawn in addition, for packets and for the start of requests. Latency 0 is 1
	// µs; negative is none. Packets of one direction never overtake each other.
	Latency, Jitter time.Duration
	// BytesPerSecond is the rate of each direction of a connection; 0 is no limit.
	BytesPerSecond int64
	// Info changes what the adapters report and are held to, from what DefaultInfo
	// returns. nil changes nothing.
	Info func(*ndk.AdapterInfo)
	// MaxObjects bounds the objects of each kind of an adapter; 0 is 65536.
	MaxObjects int
	// AckedSends makes a Send or Write complete when the peer's adapter has it;
	// else it completes when it is on its way.
	AckedSends bool
	// WaitForReceive makes a message that finds no receive wait for one, and all
	// behind it, as InfiniBand does when it retries for ever; else it ends the
	// connection. With an SRQ it always waits. What waits is dropped when the sender
	// is gone.
	WaitForReceive bool
	// EarlyAccept makes Accept end when its answer is on its way; else it ends
	// with the peer's CompleteConnect.
	EarlyAccept bool
	// PadPrivateData shows private data padded with zeros to MaxCallerData or
	// MaxCalleeData, as transports with a fixed field do.
	PadPrivateData bool
	// Backlog is how many requests of a listener may wait for its callback; 0 is
	// 128. More are refused.
	Backlog int
	// FirstPort and LastPort are the range for port 0; 0 is 49152 and 65535.
	FirstPort, LastPort uint16
	// ConnectTimeout is when a Connect, Accept or Disconnect whose message or
	// answer was lost gives up; 0 is 10 s. The time that a consumer takes to answer
	// does not count.
	ConnectTimeout time.Duration
	// AnswerTimeout, if not 0, is how long a Connect waits for the peer to answer,
	// and an Accept for the peer's CompleteConnect. With Auto it needs Paced, as a
	// clock that jumps does not wait for goroutines.
	AnswerTimeout time.Duration
	// Faults has, for each Point, the probability in [0, 1] that something goes
	// wrong there.
	Faults Faults
	// MaxDelay bounds the drawn delays of PointNotify, PointSlow and PointDelay.
	// 0 is 1 ms.
	MaxDelay time.Duration
	// StrictQueues counts a request to the depth of its queue until its completion
	// is polled, or for a silent one, that of a later request of the queue is: as
	// hardware does, and as consumers have to size their queues for. Else the place
	// is free when the request is done.
	StrictQueues bool
	// CheckBuffers compares the source of each Send and Write with what it was at
	// the post, and reports a difference. It costs a pass over the data.
	CheckBuffers bool
	// Report is told of mistakes of the consumer that no call or completion can
	// tell: posts to one queue at the same time, a LAM released in use, a buffer
	// changed while posted, objects left open. It may be called by any goroutine,
	// and calls nothing of the world. nil drops them.
	Report func(string)
	// TraceBytes is how much of the trace is kept; 0 is 1 MiB. With a negative one
	// there is no trace, and less to do.
	TraceBytes int
}

const (
	defaultLatency    = time.Microsecond
	defaultBacklog    = 128
	defaultTimeout    = 10 * time.Second
	defaultMaxDelay   = time.Millisecond
	defaultTraceBytes = 1 << 20
	defaultFirstPort  = 49152
	defaultLastPort   = 65535
)

// DefaultInfo is what the adapters of a world report if Config.Info changes
// nothing: everything that the interface has, within limits that are easy to
// reach.
func DefaultInfo() ndk.AdapterInfo {
	return ndk.AdapterInfo{
		Version:                ndk.Version21,
		MaxRegistrationSize:    1 << 30,
		MaxWindowSize:          1 << 30,
		FRMRPageCount:          2048,
		MaxInitiatorRequestSGE: 16,
		MaxReceiveRequestSGE:   16,
		MaxReadRequestSGE:      16,
		MaxTransferLength:      1 << 30,
		MaxInlineDataSize:      512,
		MaxInboundReadLimit:    32,
		MaxOutboundReadLimit:   32,
		MaxReceiveQueueDepth:   4096,
		MaxInitiatorQueueDepth: 4096,
		MaxSRQDepth:            4096,
		MaxCQDepth:             1 << 16,
		LargeRequestThreshold:  4096,
		MaxCallerData:          56,
		MaxCalleeData:          148,
		Flags: ndk.FlagInOrderDMA | ndk.FlagRDMAReadSinkNotRequired | ndk.FlagCQInterruptModeration | ndk.FlagMultiEngine |
			ndk.FlagRDMAReadLocalInvalidate | ndk.FlagCQResize | ndk.FlagLoopbackConnections,
		Technology: ndk.TechnologyUndefined,
	}
}

// withDefaults returns c with its defaults in place, and the adapters' Info.
func (c Config) withDefaults() (Config, ndk.AdapterInfo, error) {
	info := DefaultInfo()
	bad := func(field string, format string, args ...any) (Config, ndk.AdapterInfo, error) {
		return Config{}, ndk.AdapterInfo{}, fail("new world", ntstatus.InvalidParameter, fmt.Errorf("%s: "+format, append([]any{field}, args...)...))
	}
	for p, q := range c.Faults {
		if !(q >= 0 && q <= 1) {
			return bad("Faults", "probability %v of %v", q, Point(p))
		}
	}
	if c.Auto && !c.Paced && c.AnswerTimeout != 0 {
		return bad("AnswerTimeout", "with Auto it needs Paced")
	}
	if c.Paced && !c.Auto {
		return bad("Paced", "it needs Auto")
	}
	if c.Order > Shuffled {
		return bad("Order", "%d", c.Order)
	}
	for _, f := range []struct {
		name string
		v    int64
	}{
		{"Jitter", int64(c.Jitter)}, {"BytesPerSecond", c.BytesPerSecond}, {"Backlog", int64(c.Backlog)}, {"MaxObjects", int64(c.MaxObjects)},
		{"ConnectTimeout", int64(c.ConnectTimeout)}, {"AnswerTimeout", int64(c.AnswerTimeout)}, {"MaxDelay", int64(c.MaxDelay)},
	} {
		if f.v < 0 {
			return bad(f.name, "%d is negative", f.v)
		}
	}
	switch {
	case c.Latency == 0:
		c.Latency = defaultLatency
	case c.Latency < 0:
		c.Latency = 0
	}
	if c.Backlog == 0 {
		c.Backlog = defaultBacklog
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = defaultTimeout
	}
	if c.MaxDelay == 0 {
		c.MaxDelay = defaultMaxDelay
	}
	if c.TraceBytes == 0 {
		c.TraceBytes = defaultTraceBytes
	}
	if c.FirstPort == 0 {
		c.FirstPort = defaultFirstPort
	}
	if c.LastPort == 0 {
		c.LastPort = defaultLastPort
	}
	if c.FirstPort > c.LastPort {
		return bad("FirstPort", "%d is above LastPort, %d", c.FirstPort, c.LastPort)
	}
	seen := map[netip.Addr]bool{}
	c.Hosts = slices.Clone(c.Hosts)
	for i, h := range c.Hosts {
		h = slices.Clone(h)
		c.Hosts[i] = h
		if len(h) == 0 {
			return bad("Hosts", "host %d has no address", i)
		}
		for k, a := range h {
			h[k] = a.Unmap().WithZone("")
			if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || seen[h[k]] {
				return bad("Hosts", "address %v of host %d is invalid or there twice", a, i)
			}
			seen[h[k]] = true
		}
	}
	if c.Info != nil {
		c.Info(&info)
	}
	for _, f := range []struct {
		name     string
		v        int64
		min, max int64
	}{
		{"FRMRPageCount", int64(info.FRMRPageCount), 0, 1 << 24},
		{"MaxInitiatorRequestSGE", int64(info.MaxInitiatorRequestSGE), 1, 255},
		{"MaxReceiveRequestSGE", int64(info.MaxReceiveRequestSGE), 1, 255},
		{"MaxReadRequestSGE", int64(info.MaxReadRequestSGE), 1, 255},
		{"MaxTransferLength", int64(min(info.MaxTransferLength, 1<<62)), 1, 1<<32 - 1},
		{"MaxInlineDataSize", int64(info.MaxInlineDataSize), 0, 1 << 20},
		{"MaxInboundReadLimit", int64(info.MaxInboundReadLimit), 0, 1 << 16},
		{"MaxOutboundReadLimit", int64(info.MaxOutboundReadLimit), 0, 1 << 16},
		{"MaxReceiveQueueDepth", int64(info.MaxReceiveQueueDepth), 1, 1 << 24},
		{"MaxInitiatorQueueDepth", int64(info.MaxInitiatorQueueDepth), 1, 1 << 24},
		{"MaxSRQDepth", int64(info.MaxSRQDepth), 0, 1 << 24},
		{"MaxCQDepth", int64(info.MaxCQDepth), 1, 1 << 24},
		{"MaxCallerData", int64(info.MaxCallerData), 0, 1 << 16},
		{"MaxCalleeData", int64(info.MaxCalleeData), 0, 1 << 16},
	} {
		if f.v < f.min || f.v > f.max {
			return bad("Info", "%s %d is outside %d to %d", f.name, f.v, f.min, f.max)
		}
	}
	return c, info, nil
}
