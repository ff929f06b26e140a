//go:build verbs && linux && cgo

package verbs

// #include "shim.h"
import "C"

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// pd implements ndk.PD.
type pd struct {
	soft.Object
	adapter *adapter
	hw      *C.struct_ibv_pd
	// none is the key of a page that nobody has: of the privileged token, of
	// empty SGEs, and of receives that are to fail when their message comes.
	none    *C.struct_ibv_mr
	noneKey uint32
}

// CreatePD implements ndk.Adapter.
func (a *adapter) CreatePD(context.Context) (ndk.PD, error) {
	const op = "create PD"
	if !a.Hold() {
		return nil, refuse(op, ndk.ErrClosed)
	}
	defer a.Release()
	p := &pd{adapter: a}
	var err error
	if p.hw, err = C.vs_alloc_pd(a.ctx); p.hw == nil {
		return nil, wrap(op, resourceStatus(created(err)), created(err))
	}
	if p.none, err = p.powerlessKey(); err != nil {
		C.vs_dealloc_pd(p.hw)
		return nil, wrap(op, resourceStatus(err), err)
	}
	p.noneKey = uint32(p.none.lkey)
	if err := a.InitObject(&p.Object, ndk.ObjectPD, p.destroy, &a.Object); err != nil {
		p.destroy()
		return nil, wrap(op, ndk.StatusOf(err), nil)
	}
	a.arenas.addPD(p)
	return p, nil
}

// powerlessKey registers the page of the adapter with no rights at all: a key
// that is taken, so that no peer can reach anything with it.
func (p *pd) powerlessKey() (*C.struct_ibv_mr, error) {
	at := C.uint64_t(soft.AddressOf(p.adapter.page))
	m, err := C.vs_reg_mr(p.hw, at, ndk.PageSize, at, 0)
	if m == nil {
		return nil, created(err)
	}
	return m, nil
}

// destroy runs when the last successor is gone.
func (p *pd) destroy() {
	p.adapter.arenas.dropPD(p)
	p.adapter.deregister(p.none, nil)
	p.adapter.destroyed("protection domain", C.vs_dealloc_pd(p.hw))
}

// PrivilegedToken implements ndk.PD.
func (p *pd) PrivilegedToken() ndk.Token { return ndk.Token(p.noneKey) }

// deregister ends a registration of the device; nil is none. A device that does
// not let go of the memory keeps it: the heap must not have it for something else.
func (a *adapter) deregister(m *C.struct_ibv_mr, of ndk.Memory) {
	if m == nil {
		return
	}
	rc := C.vs_dereg_mr(m)
	a.destroyed("memory region", rc)
	if rc != 0 && of != nil {
		a.keptMu.Lock()
		a.kept = append(a.kept, slices.Clone(of))
		a.keptMu.Unlock()
	}
}

// destroyed notes that the device kept something that we believe to be unused.
func (a *adapter) destroyed(what string, rc C.int) {
	if err := errno(rc); err != nil {
		a.cfg.Logger.Warn("the device keeps a "+what, slog.String("device", a.device), slog.Any("err", err))
	}
}

// resourceStatus is the status of a device that could not make something.
func resourceStatus(err error) ndk.Status {
	switch {
	case errors.Is(err, syscall.EINVAL):
		return ntstatus.InvalidParameter
	case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOSYS):
		return ntstatus.NotSupported
	case errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.EIO):
		return ntstatus.DeviceRemoved
	case errors.Is(err, syscall.EFAULT):
		return ntstatus.AccessViolation
	}
	return ntstatus.InsufficientResources
}
