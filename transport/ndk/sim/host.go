package sim

import (
	"net/netip"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// host is one device of the network. Its fields are guarded by World.mu.
type host struct {
	sub     subject
	addrs   []netip.Addr
	removed bool
	ends    []*connector // with a connection, in the order of their making
	lists   []*listener  // that listen
}

// pair is a direction between two addresses.
type pair struct{ from, to netip.Addr }

func (w *World) addHost(addrs []netip.Addr) *host {
	h := &host{sub: w.number(subHost), addrs: addrs}
	w.hosts = append(w.hosts, h)
	for _, a := range addrs {
		w.owners[a] = h
	}
	return h
}

// hostFor is the device that an adapter opens; nil if there is none.
func (w *World) hostFor(a netip.Addr) *host {
	a = a.Unmap().WithZone("")
	if !a.IsValid() || a.IsUnspecified() {
		if len(w.hosts) > 0 {
			return w.hosts[0]
		}
		return w.addHost([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()})
	}
	if h := w.owners[a]; h != nil {
		return h
	}
	if len(w.cfg.Hosts) > 0 || a.IsMulticast() {
		return nil
	}
	return w.addHost([]netip.Addr{a})
}

// has reports whether the device has the address.
func (h *host) has(a netip.Addr) bool {
	for _, b := range h.addrs {
		if a == b {
			return true
		}
	}
	return false
}

// family is the first address of the device in the family of a.
func (h *host) family(a netip.Addr) (netip.Addr, bool) {
	for _, b := range h.addrs {
		if a.Is4() == b.Is4() {
			return b, true
		}
	}
	return netip.Addr{}, false
}

// source is the address from which a reaches dst if the consumer names none: the
// one that it was opened with, or dst itself if the device has it, or the first of
// its family.
func (a *adapter) source(dst netip.Addr) (netip.Addr, bool) {
	switch {
	case a.local.IsValid() && a.local.Is4() == dst.Is4():
		return a.local, true
	case a.host.has(dst):
		return dst, true
	}
	return a.host.family(dst)
}

// Block makes what the device of one address sends to that of the other vanish,
// in this direction, until Unblock: a Connect runs into its timeout, and a
// connection stands still.
func (w *World) Block(from, to netip.Addr) {
	w.mu.Lock()
	w.blocks[pair{from.Unmap(), to.Unmap()}] = true
	w.mu.Unlock()
}

// Unblock undoes Block; packets of connections that stood still go on.
func (w *World) Unblock(from, to netip.Addr) {
	w.mu.Lock()
	delete(w.blocks, pair{from.Unmap(), to.Unmap()})
	for _, h := range w.hosts {
		for _, c := range h.ends {
			if c.wire != nil {
				c.wire.dir[0].kick()
				c.wire.dir[1].kick()
			}
		}
	}
	w.mu.Unlock()
}

// Remove takes the device with the address out of its machine: its connections
// are lost, its listeners hear nothing, and what it is asked for fails with
// DeviceRemoved. Open fails with DeviceNotReady until Restore. Objects are closed
// as ever.
func (w *World) Remove(a netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h := w.owners[a.Unmap()]; h != nil {
		w.removeLocked(h)
	}
}

func (w *World) removeLocked(h *host) {
	if h.removed {
		return
	}
	h.removed = true
	w.note(h.sub, "removed").end()
	for _, l := range h.lists {
		l.refuseAll()
	}
	for len(h.ends) > 0 {
		n := len(h.ends)
		h.ends[0].cut(ReasonRemoved, ntstatus.DeviceRemoved)
		if len(h.ends) == n {
			h.ends = h.ends[1:]
		}
	}
}

// Restore undoes Remove for adapters that are opened from now on, and for
// listeners.
func (w *World) Restore(a netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h := w.owners[a.Unmap()]; h != nil && h.removed {
		h.removed = false
		w.note(h.sub, "restored").end()
	}
}

// ports are the local addresses in use. It has a lock of its own, which nothing
// is called under, as an object may be closed by whoever lets go of it last.
type ports struct {
	mu   sync.Mutex
	used map[netip.AddrPort]*binding // guarded by mu
}

// binding is the use of a port on some addresses of one device.
type binding struct {
	at       []netip.AddrPort
	listener *listener // who listens there
	peer     netip.AddrPort
	dests    map[netip.AddrPort]bool // of a shared endpoint; guarded by ports.mu
}

// bind reserves a port of the addresses, or one of the range for 0.
func (w *World) bind(addrs []netip.Addr, port uint16, b *binding) (uint16, ndk.Status) {
	first, n := int(port), 1
	start := 0
	if port == 0 {
		first, n = int(w.cfg.FirstPort), int(w.cfg.LastPort)-int(w.cfg.FirstPort)+1
		start = w.s.intN(n)
	}
	p := &w.ports
	p.mu.Lock()
	defer p.mu.Unlock()
next:
	for i := range n {
		port := uint16(first + (start+i)%n)
		for _, a := range addrs {
			if p.used[netip.AddrPortFrom(a, port)] != nil {
				continue next
			}
		}
		for _, a := range addrs {
			at := netip.AddrPortFrom(a, port)
			b.at = append(b.at, at)
			p.used[at] = b
		}
		return port, ntstatus.Success
	}
	if port == 0 {
		return 0, ntstatus.TooManyAddresses
	}
	for _, a := range addrs {
		if o := p.used[netip.AddrPortFrom(a, port)]; o != nil && b.peer.IsValid() && o.peer == b.peer {
			return 0, ntstatus.AddressAlreadyExists // the same two ends
		}
	}
	return 0, ntstatus.SharingViolation
}

// unbind gives the port back. It may be called twice.
func (w *World) unbind(b *binding) {
	if b == nil {
		return
	}
	p := &w.ports
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range b.at {
		if p.used[a] == b {
			delete(p.used, a)
		}
	}
	b.at = nil
}

// share notes a connection from the address of a shared endpoint; false if there
// is one to the same destination.
func (w *World) share(b *binding, dst netip.AddrPort) bool {
	w.ports.mu.Lock()
	defer w.ports.mu.Unlock()
	if b.dests[dst] {
		return false
	}
	b.dests[dst] = true
	return true
}

// unshare undoes share.
func (w *World) unshare(b *binding, dst netip.AddrPort) {
	w.ports.mu.Lock()
	delete(b.dests, dst)
	w.ports.mu.Unlock()
}

// at is who listens at an address; nil if nobody does.
func (w *World) at(a netip.AddrPort) *listener {
	w.ports.mu.Lock()
	defer w.ports.mu.Unlock()
	if b := w.ports.used[a]; b != nil {
		return b.listener
	}
	return nil
}
