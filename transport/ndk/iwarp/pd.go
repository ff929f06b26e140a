package iwarp

import (
	"context"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// pd implements ndk.PD.
type pd struct {
	soft.PD
	adapter *adapter
}

// CreatePD implements ndk.Adapter.
func (a *adapter) CreatePD(context.Context) (ndk.PD, error) {
	p := &pd{adapter: a}
	if err := p.PD.Init(&a.Device); err != nil {
		return nil, err
	}
	return p, nil
}
