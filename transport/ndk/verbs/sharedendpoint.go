//go:build verbs && linux && cgo

package verbs

import (
	"context"
	"net/netip"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// sharedEndpoint implements ndk.SharedEndpoint. Its id does nothing but hold the
// port; those of the connectors share the address with it.
type sharedEndpoint struct {
	soft.Object
	adapter *adapter
	id      *cmID
	addr    netip.AddrPort
}

// onEvent implements sink: nothing happens to an id that only holds a port.
func (e *sharedEndpoint) onEvent(*cmEvent) {}

// CreateSharedEndpoint implements ndk.Adapter.
func (a *adapter) CreateSharedEndpoint(_ context.Context, local netip.AddrPort) (ndk.SharedEndpoint, error) {
	const op = "create shared endpoint"
	if !a.Hold() {
		return nil, refuse(op, ndk.ErrClosed)
	}
	defer a.Release()
	local = unmap(local)
	if !local.Addr().IsValid() || local.Addr().IsUnspecified() {
		if !a.local.IsValid() {
			return nil, wrap(op, ntstatus.InvalidAddress, nil) // of which device is not known
		}
		local = netip.AddrPortFrom(a.local, local.Port())
	}
	e := &sharedEndpoint{adapter: a}
	id, err := a.cm.newID(e)
	if err != nil {
		return nil, wrap(op, ntstatus.InsufficientResources, err)
	}
	// The address is bound alone, which proves that nobody else has it, and
	// shared from then on.
	if err = a.bindHere(id, local); err == nil {
		if errno := id.shareAddr(); errno != 0 {
			err = failCM("rdma_set_option", errno)
		}
	}
	if err == nil {
		e.id = id
		e.addr, _ = id.addrs()
		err = a.InitObject(&e.Object, ndk.ObjectSharedEndpoint, id.destroy, &a.Object)
	}
	if err != nil {
		id.destroy()
		return nil, wrap(op, ndk.StatusOf(err), err)
	}
	return e, nil
}

// LocalAddr implements ndk.SharedEndpoint.
func (e *sharedEndpoint) LocalAddr() netip.AddrPort { return e.addr }
