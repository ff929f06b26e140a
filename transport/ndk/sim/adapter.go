package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// adapter implements ndk.Adapter.
type adapter struct {
	soft.Device
	w     *World
	host  *host
	local netip.Addr // that it was opened with; invalid: any
	sub   subject
	qps   []*qp // guarded by World.mu, as placed; those that are not closed
	// placed counts what the adapter wrote to memory of the consumer.
	placed uint64
}

// newAdapter is called under World.mu.
func (w *World) newAdapter(h *host, local netip.Addr, v ndk.Version) *adapter {
	a := &adapter{w: w, host: h, sub: w.number(subAdapter)}
	if h.has(local) {
		a.local = local
	}
	info := w.info
	info.Version = v
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], w.cfg.Seed)
	binary.LittleEndian.PutUint64(seed[8:], uint64(a.sub.n))
	a.Device.Init(soft.Config{
		Info: info, MaxObjects: w.cfg.MaxObjects,
		Env: soft.Env{
			Go:            func(f func()) { w.soon(f, 0) },
			AfterFunc:     w.afterFunc,
			Seed:          &seed,
			LeftoverFires: a.leftover,
		},
	})
	w.adapters++
	w.note(a.sub, "open").of("at", h.sub).end()
	return a
}

func (w *World) afterFunc(d time.Duration, f func()) soft.Timer {
	t := &timer{w: w}
	t.run = func() { w.call(f) }
	w.s.after(&t.event, d)
	return t
}

func (a *adapter) leftover() bool {
	_, hit := a.w.strike(passing{point: PointLeftover, who: a.sub, o1: a})
	return hit
}

// Close implements ndk.Object. It drives the world until every successor is
// closed. If that will never be, as nothing is left to happen in manual mode or the
// world is closed, it reports and returns.
func (a *adapter) Close() {
	w := a.w
	if !a.BeginClose() {
		return
	}
	w.note(a.sub, "close").end()
	w.mu.Lock()
	w.adapters--
	w.mu.Unlock()
	a.Release()
	if err := w.Wait(context.Background(), a.Closed()); err != nil {
		left := ""
		for k := ndk.ObjectQP; k < ndk.ObjectMax; k++ {
			if n := a.Count(k); n > 0 {
				left += fmt.Sprintf(" %d %v", n, k)
			}
		}
		w.report(fmt.Sprintf("Adapter.Close: not closed:%s (%v)", left, err))
	}
}

// creating is what all Create calls have in common.
func (a *adapter) creating(op string, k ndk.ObjectKind) error {
	if err := a.alive(op); err != nil {
		return err
	}
	return a.w.fails(op, a.sub, PointCreate, a, nil, k, ntstatus.InsufficientResources)
}

// alive fails if the device is gone. Calls that do not wait take no notice of
// their context.
func (a *adapter) alive(op string) error {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	if a.host.removed {
		return fail(op, ntstatus.DeviceRemoved, nil)
	}
	return nil
}

// requesting is what all other calls that may take resources have in common. o
// is whose method it is.
func (a *adapter) requesting(op string, o ndk.Object) error {
	if err := a.alive(op); err != nil {
		return err
	}
	return a.w.fails(op, a.sub, PointRequest, o, a, 0, ntstatus.InsufficientResources)
}

// Info implements ndk.Adapter.
func (a *adapter) Info(ctx context.Context) (ndk.AdapterInfo, error) {
	if err := a.alive("query adapter info"); err != nil {
		return ndk.AdapterInfo{}, err
	}
	return a.Device.Info(ctx)
}

// BuildLAM implements ndk.Adapter.
func (a *adapter) BuildLAM(ctx context.Context, m ndk.Memory, length int, l *ndk.LAM) (uint32, error) {
	if err := a.requesting("build LAM", a); err != nil {
		return 0, err
	}
	return a.Device.BuildLAM(ctx, m, length, l)
}

// ReleaseLAM implements ndk.Adapter. A mapping that a request names which is
// under way is reported.
func (a *adapter) ReleaseLAM(l *ndk.LAM) {
	if l != nil && len(l.Pages) > 0 {
		a.w.mu.Lock()
		q := a.usesPages(l.Pages)
		a.w.mu.Unlock()
		if q != nil {
			a.w.report(fmt.Sprintf("ReleaseLAM: a request of %v%d that uses the mapping is under way", q.Kind(), q.sub.n))
		}
	}
	a.Device.ReleaseLAM(l)
}

// usesPages is a QP with a request under way that names an address of the pages;
// nil if there is none.
func (a *adapter) usesPages(pages []ndk.LogicalAddress) *qp {
	first, last := uint64(pages[0]), uint64(pages[len(pages)-1])+ndk.PageSize
	for _, q := range a.qps {
		t := uint32(q.pd.PrivilegedToken())
		for s := q.head; s != q.tail; s++ {
			for _, g := range q.wrSGEs(s) {
				if g.Token == t && g.Addr >= first && g.Addr < last {
					return q
				}
			}
		}
		for s := q.rhead; s != q.rtail; s++ {
			for _, g := range q.recvSGEs(s) {
				if g.Token == t && g.Addr >= first && g.Addr < last {
					return q
				}
			}
		}
	}
	return nil
}

// Alloc implements ndk.Adapter.
func (a *adapter) Alloc(n int) ([]byte, func(), error) {
	if err := a.requesting("alloc", a); err != nil {
		return nil, nil, err
	}
	return a.Device.Alloc(n)
}
