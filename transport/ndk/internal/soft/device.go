package soft

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"golang.org/x/sys/unix"
)

// Env is what the objects of a device run on. The zero value is goroutines, the
// clock of the machine and random numbers that nobody can guess.
type Env struct {
	// Go runs f at some time after it returned, and never inside the call: it is
	// called with locks held. nil starts a goroutine.
	Go func(f func())
	// AfterFunc is time.AfterFunc with the duration on the provider's clock. It
	// must not run f inside the call. nil is time.AfterFunc.
	AfterFunc func(d time.Duration, f func()) Timer
	// Seed makes tokens reproducible; nil draws a seed. Tokens that a peer can
	// guess are for simulation only.
	Seed *[32]byte
	// LeftoverFires is asked when a CQ is armed that holds only completions older
	// than the last notification, in which case a notification is allowed and
	// not required. nil never fires.
	LeftoverFires func() bool
}

// Timer is what AfterFunc returns, as *time.Timer.
type Timer interface {
	Stop() bool
	Reset(d time.Duration) bool
}

// Config of a Device.
type Config struct {
	// Info has the limits that the objects of the device are held to, and the
	// capabilities they have: CQ resize and moderation, whether the sink of a
	// Read needs RDMAReadSink, shared receive queues, windows, fast registration.
	Info ndk.AdapterInfo
	// MaxObjects bounds the objects of each kind; 0 is 65536. See Limit.
	MaxObjects int
	// MaxTokens bounds the tokens in use, of which a PD and a window have one and
	// an MR has two; 0 is 1 Mi, and more is not possible.
	MaxTokens int
	// Pipes says that the provider knows ndk.PipeExtension.
	Pipes bool
	Env   Env
}

const defaultMaxObjects = 1 << 16

// Device is one adapter instance as far as it is the same for all software
// providers: its limits, its tokens and mappings, and the count of its objects.
// It implements the methods of ndk.Adapter that need no wire.
type Device struct {
	Object
	info          ndk.AdapterInfo
	env           Env
	counts        [ndk.ObjectMax]atomic.Int32
	most          [ndk.ObjectMax]atomic.Int32
	registered    atomic.Int64
	tokens        tokenTable
	lams          lamTable
	sinkAnywhere  bool // FlagRDMAReadSinkNotRequired
	pipes         bool
	maxMappedSize uint64
}

// Init readies d. Close of the adapter that embeds it is that of d.
func (d *Device) Init(c Config) {
	d.info, d.env, d.pipes = c.Info, c.Env, c.Pipes
	if d.env.Go == nil {
		d.env.Go = func(f func()) { go f() } // f says who waits for it
	}
	if d.env.AfterFunc == nil {
		d.env.AfterFunc = func(t time.Duration, f func()) Timer { return time.AfterFunc(t, f) }
	}
	if c.MaxObjects <= 0 {
		c.MaxObjects = defaultMaxObjects
	}
	if c.MaxTokens <= 0 || c.MaxTokens > maxTokens {
		c.MaxTokens = maxTokens
	}
	for i := range d.most {
		d.most[i].Store(int32(min(c.MaxObjects, 1<<30)))
	}
	d.sinkAnywhere = c.Info.Flags&ndk.FlagRDMAReadSinkNotRequired != 0
	d.maxMappedSize = min(c.Info.MaxRegistrationSize, 1<<lamOffsetBits-ndk.PageSize)
	d.tokens.init(c.Env.Seed, uint32(c.MaxTokens))
	d.lams.init()
	_ = d.Object.Init(ndk.ObjectAdapter, c.Info.Version, nil) // has no antecedent that could refuse
}

// InitObject readies an object of the device: Object.Init, and a place among
// those of its kind, which it gives back when it is closed. Errors:
// InsufficientResources if there is none left, InvalidDeviceState if an
// antecedent is being closed. The device is an antecedent only if it is named.
func (d *Device) InitObject(o *Object, kind ndk.ObjectKind, last func(), parents ...*Object) error {
	n := &d.counts[kind]
	if n.Add(1) > d.most[kind].Load() {
		n.Add(-1)
		return ntstatus.InsufficientResources
	}
	err := o.Init(kind, d.info.Version, func() {
		if last != nil {
			last()
		}
		n.Add(-1)
	}, parents...)
	if err != nil {
		n.Add(-1)
	}
	return err
}

// Count is the number of objects of a kind that are not closed.
func (d *Device) Count(kind ndk.ObjectKind) int { return int(d.counts[kind].Load()) }

// Limit bounds the objects of a kind at n from now on, until restore. Those that
// are there stay.
func (d *Device) Limit(kind ndk.ObjectKind, n int) (restore func()) {
	old := d.most[kind].Swap(int32(min(max(n, 0), 1<<30)))
	return func() { d.most[kind].Store(old) }
}

// LimitMappings is Limit for BuildLAM.
func (d *Device) LimitMappings(n int) (restore func()) {
	old := d.lams.most.Swap(uint32(min(max(n, 0), lamSlots-1)))
	return func() { d.lams.most.Store(old) }
}

// Registered is the number of bytes under a token or a mapping. Bytes that are
// so twice count twice.
func (d *Device) Registered() int64 { return d.registered.Load() }

// Tokens is the number of tokens in use.
func (d *Device) Tokens() int { return d.tokens.inUse() }

// Random returns a number of the device's source that is not 0.
func (d *Device) Random() uint32 { return d.tokens.random() }

// Close implements ndk.Object. It blocks.
func (d *Device) Close() {
	d.Object.Close()
	<-d.done
}

// Info implements ndk.Adapter.
func (d *Device) Info(context.Context) (ndk.AdapterInfo, error) { return d.info, nil }

// Limits is Info without the formalities.
func (d *Device) Limits() *ndk.AdapterInfo { return &d.info }

// Alloc implements ndk.Adapter.
func (d *Device) Alloc(n int) ([]byte, func(), error) {
	const op = "alloc"
	if n <= 0 || uint64(n) > d.info.MaxRegistrationSize {
		return nil, nil, fail(op, ntstatus.InvalidParameter, nil)
	}
	size := (n + ndk.PageSize - 1) &^ (ndk.PageSize - 1)
	m, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, nil, fail(op, ntstatus.InsufficientResources, err)
	}
	var once sync.Once
	return m[:n], func() { once.Do(func() { _ = unix.Munmap(m) }) }, nil
}

// fail makes the error of a slow call.
func fail(op string, st ndk.Status, err error) error {
	return &ndk.Error{Op: op, Status: st, Err: err}
}

// refuse makes the error of a slow call that broke the rule of e.
func refuse(op string, e *ndk.PostError) error {
	return &ndk.Error{Op: op, Status: e.Status, ProviderError: uint32(e.Rule)}
}

func hasFlag(i *ndk.AdapterInfo, f ndk.AdapterFlags) bool { return i.Flags&f != 0 }
