package smbdirect

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// device is an adapter with what its connections share: the protection domain,
// the leased buffers, the pool of messages. It is closed when the last of its
// users has gone: the Listener, connections, leases, registrations.
//
// The connections of a Listener share one. Each of a Dialer has its own: a token is
// good on every connection of its protection domain, and what is lent to one server
// is no other's to reach ([MS-SMBD] 3.1.4.3).
type device struct {
	adapter  ndk.Adapter
	done     func() // with the adapter; nil if it is the caller's
	info     ndk.AdapterInfo
	pd       ndk.PD
	name     string
	fast     bool // the adapter has fast registration
	messages messagePool
	requests requestPool
	refs     atomic.Int64
	closed   chan struct{} // closed when everything is gone

	// Leased buffers. memory has the bytes that may still be leased; its waiters
	// are served in order.
	memory *semaphore.Weighted
	limit  int64
	mu     sync.Mutex
	free   [32][]*lease // guarded by mu; by class
	total  int64        // guarded by mu; bytes allocated, free ones included
}

// openDevice opens the adapter that owns the local address.
func openDevice(ctx context.Context, p ndk.Provider, name string, local netip.Addr, memory int64) (*device, error) {
	a, err := p.Open(ctx, local, ndk.Version12)
	if err != nil {
		return nil, fmt.Errorf("smbdirect: open %s adapter of %v: %w", name, local, err)
	}
	d, err := newDevice(ctx, a, name, memory)
	if err != nil {
		a.Close()
		return nil, err
	}
	d.done = a.Close
	return d, nil
}

// newDevice makes a device of an adapter that stays the caller's. It has one
// reference, the caller's.
func newDevice(ctx context.Context, a ndk.Adapter, name string, memory int64) (*device, error) {
	info, err := a.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("smbdirect: query %s adapter: %w", name, err)
	}
	pd, err := a.CreatePD(ctx)
	if err != nil {
		return nil, fmt.Errorf("smbdirect: %w", err)
	}
	d := &device{
		adapter: a, info: info, pd: pd, name: name,
		memory: semaphore.NewWeighted(memory), limit: memory, closed: make(chan struct{}),
	}
	d.refs.Store(1)
	if info.FRMRPageCount > 1 {
		mr, err := pd.CreateMR(ctx, true)
		if d.fast = err == nil; d.fast {
			mr.Close()
		}
	}
	return d, nil
}

// retain adds a user; it reports false if the last one has gone.
func (d *device) retain() bool {
	for {
		n := d.refs.Load()
		if n == 0 {
			return false
		}
		if d.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release takes a user away. The last one closes everything, and waits for it.
func (d *device) release() {
	switch n := d.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic("smbdirect: device released too often")
	}
	for class := range d.free {
		for _, l := range d.free[class] {
			l.destroy()
		}
		d.free[class] = nil
	}
	d.pd.Close()
	<-d.pd.Closed()
	if d.done != nil {
		d.done()
	}
	close(d.closed)
}

// port is the port of SMB Direct on this device.
func (d *device) port() uint16 {
	if d.info.Technology == ndk.TechnologyIWARP {
		return DefaultIWARPPort
	}
	return DefaultPort
}

// region is memory of the adapter's kind under a registration without remote
// rights.
type region struct {
	mem  []byte
	mr   ndk.MR
	base uint64
	tok  ndk.Token
	free func()
}

// newRegion allocates and registers n bytes, with room bytes of capacity behind
// them that are not registered.
func (d *device) newRegion(ctx context.Context, n, room int, f ndk.MRFlags) (*region, error) {
	mem, free, err := d.adapter.Alloc(n + room)
	if err != nil {
		return nil, fmt.Errorf("smbdirect: %w", err)
	}
	mem = mem[: n : n+room]
	mr, err := d.pd.CreateMR(ctx, false)
	if err != nil {
		free()
		return nil, fmt.Errorf("smbdirect: %w", err)
	}
	r := &region{mem: mem, mr: mr, free: free}
	if err := mr.Register(ctx, ndk.Memory{mem}, len(mem), f); err != nil {
		r.close()
		return nil, fmt.Errorf("smbdirect: %w", err)
	}
	r.base, r.tok = mr.Base(), mr.LocalToken()
	return r, nil
}

// close frees the region when no access is under way any more.
func (r *region) close() {
	r.mr.Close()
	<-r.mr.Closed()
	r.free()
}

// sge is the range of n bytes from off.
func (r *region) sge(off, n int) ndk.SGE {
	return ndk.SGE{Addr: r.base + uint64(off), Length: uint32(n), Token: r.tok}
}

// lease is a leased buffer. It keeps its memory and registration while it waits
// in the pool.
type lease struct {
	*region
	dev   *device
	class int
	conn  *Conn // that leased it; nil while in the pool
	out   atomic.Bool
}

// Bytes implements transport.Buffer.
func (l *lease) Bytes() []byte { return l.mem }

// Release implements transport.Buffer.
func (l *lease) Release() {
	if !l.out.Swap(false) {
		panic("smbdirect: buffer released twice")
	}
	l.conn.leased.Add(-1)
	l.conn = nil
	d := l.dev
	d.mu.Lock()
	d.free[l.class] = append(d.free[l.class], l)
	d.mu.Unlock()
	d.memory.Release(int64(len(l.mem)))
	d.release()
}

// destroy frees a buffer that is in no list.
func (l *lease) destroy() { l.region.close() }

// lease takes a buffer of n bytes; the caller has acquired its size from memory.
// The device is retained by the caller for the lease.
func (d *device) lease(ctx context.Context, n int) (*lease, error) {
	class := classOf(n)
	size := int64(classSize(n))
	var evict []*lease
	d.mu.Lock()
	if f := d.free[class]; len(f) > 0 {
		l := f[len(f)-1]
		d.free[class] = f[:len(f)-1]
		d.mu.Unlock()
		return l, nil
	}
	// Make room: what is leased fits the limit together with this one, so
	// enough of the rest is free.
	d.total += size
	for c := range d.free {
		for d.total > d.limit && len(d.free[c]) > 0 {
			f := d.free[c]
			evict = append(evict, f[len(f)-1])
			d.free[c] = f[:len(f)-1]
			d.total -= int64(1) << (minClass + c)
		}
	}
	d.mu.Unlock()
	for _, l := range evict {
		l.destroy()
	}
	r, err := d.newRegion(ctx, int(size), transport.BufferRoom, ndk.MRAllowLocalWrite|ndk.MRRDMAReadSink)
	if err != nil {
		d.mu.Lock()
		d.total -= size
		d.mu.Unlock()
		return nil, err
	}
	return &lease{region: r, dev: d, class: class}, nil
}
