package iwarp

import (
	"context"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// pd implements ndk.PD.
type pd struct {
	object
	privileged *tokenSlot
	writable   atomic.Int32 // registrations and bindings that a peer may write to
}

// CreatePD implements ndk.Adapter.
func (a *adapter) CreatePD(context.Context) (ndk.PD, error) {
	const op = "create PD"
	s, ok := a.tokens.alloc(nil, tokenPrivileged)
	if !ok {
		return nil, wrap(op, ntstatus.InsufficientResources, nil)
	}
	p := &pd{privileged: s}
	if err := p.init(ndk.ObjectPD, a, func() { a.tokens.release(s) }, &a.object); err != nil {
		a.tokens.release(s)
		return nil, wrap(op, ndk.StatusOf(err), nil)
	}
	return p, nil
}

// PrivilegedToken implements ndk.PD.
func (p *pd) PrivilegedToken() ndk.Token { return ndk.Token(p.privileged.token) }

// CreateSRQ implements ndk.PD.
func (p *pd) CreateSRQ(context.Context, ndk.SRQConfig) (ndk.SRQ, error) {
	return nil, wrap("create SRQ", ntstatus.NotSupported, nil)
}

// CreateQPWithSRQ implements ndk.PD.
func (p *pd) CreateQPWithSRQ(context.Context, ndk.QPConfig, ndk.SRQ) (ndk.QP, error) {
	return nil, wrap("create QP with SRQ", ntstatus.NotSupported, nil)
}
