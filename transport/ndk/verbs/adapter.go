//go:build verbs && linux && cgo

package verbs

// #include "shim.h"
import "C"

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
	"golang.org/x/sys/unix"
)

// adapter implements ndk.Adapter. It has a device context of its own; the
// connection manager finds the device again by itself, and QPs by their number.
//
// Lock order, outermost first: qp.tx, cq.pumping, adapter.qpsMu, qp.mu or srq.mu,
// mr.mu, mw.mu, adapter.regionMu, arena.mu, the lock of a soft.CQ.
type adapter struct {
	soft.Device
	cfg     Config
	local   netip.Addr // invalid: any
	version ndk.Version
	ctx     *C.struct_ibv_context
	device  string // its name
	port    uint8  // of the device, from 1
	quirks
	info   ndk.AdapterInfo
	cm     *cmChannel
	events *events
	sentry sentry
	page   []byte // a page of the adapter's own, for keys that nobody can use

	qpsMu sync.RWMutex
	qps   []*qp // guarded by qpsMu; by the slot in a work request id
	free  []uint32
	byNum map[uint32]*qp // guarded by qpsMu

	regionMu sync.RWMutex
	regions  map[ndk.Token]*region     // guarded by regionMu; by local token
	remotes  map[ndk.Token]invalidatee // guarded by regionMu; what a peer may invalidate

	arenas arenaTable
	lams   lamTable

	keptMu sync.Mutex
	kept   []ndk.Memory // guarded by keptMu; registered for as long as ctx is open
}

// quirks are what a device does in its own way.
type quirks struct {
	iwarp bool
	// windows says that the device has memory windows of type 2.
	windows bool
	// sinkRemote says that the sink of a Read is named on the wire, so that its
	// key needs the right of remote write (RFC 5040 §5.2).
	sinkRemote bool
	// readsOvertaken says that the completion of a request may come before that
	// of a Read posted earlier, and proves nothing about it.
	readsOvertaken bool
	// plainEvents says that a CQ armed for solicited completions never notifies.
	plainEvents bool
	// noIOVA says that a region has the address of its memory, whatever was asked.
	noIOVA bool
	// oneSGE says that a receive without an SGE is refused.
	oneSGE bool
	// freeAgain says that the kernel does not survive the invalidation of a window
	// that is invalid already, by its peer for one. A window is invalidated by
	// having another one take its place.
	freeAgain bool
	// looseWindows says that a peer reaches through a window all of the region that
	// it is bound to.
	looseWindows bool
	// invalidated is the flag of a receive whose message invalidated a token.
	invalidated C.uint
	// tooLong is what a receive fails with whose message is longer.
	tooLong C.enum_ibv_wc_status
}

// Linux's software iWARP and software RoCE.
const (
	siwVendor = 0x626d74
	rxeVendor = 0xFFFFFF
)

// openAdapter opens the device.
func openAdapter(cfg Config, local netip.Addr, v ndk.Version, device string, port uint8) (*adapter, error) {
	ctx, err := openContext(device)
	if err != nil {
		return nil, err
	}
	a := &adapter{
		cfg: cfg, local: local, version: v, ctx: ctx, device: device, port: port,
		byNum: make(map[uint32]*qp), regions: make(map[ndk.Token]*region), remotes: make(map[ndk.Token]invalidatee),
	}
	fail := func(err error) (*adapter, error) {
		if a.cm != nil {
			a.cm.close()
		}
		if a.page != nil {
			_ = unix.Munmap(a.page)
		}
		C.vs_close_device(ctx)
		return nil, err
	}
	if a.info, a.quirks, err = query(ctx, v, port); err != nil {
		return fail(fmt.Errorf("query RDMA device %s: %w", device, err))
	}
	if a.page, err = unix.Mmap(-1, 0, ndk.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON); err != nil {
		return fail(fmt.Errorf("map a page: %w", err))
	}
	if a.cm, err = openCM(cfg.Logger); err != nil {
		return fail(err)
	}
	if a.events, err = watch(a); err != nil {
		return fail(fmt.Errorf("asynchronous events of RDMA device %s: %w", device, err))
	}
	a.sentry.a = a
	a.lams.init()
	a.Device.Init(soft.Config{Info: a.info})
	return a, nil
}

// Close implements ndk.Object. It blocks until every successor is closed.
func (a *adapter) Close() {
	first := a.BeginClose()
	if first {
		a.Release()
	}
	<-a.Closed()
	if first {
		a.cm.close()
		a.events.close()
		_ = unix.Munmap(a.page)
		if err := errno(C.vs_close_device(a.ctx)); err != nil {
			a.cfg.Logger.Warn("close RDMA device", slog.String("device", a.device), slog.Any("err", err))
		}
	}
}

// Info implements ndk.Adapter.
func (a *adapter) Info(context.Context) (ndk.AdapterInfo, error) { return a.info, nil }

// Limits that a device does not set, or sets above what is of use.
const (
	maxRegistrationSize = 1 << 36 // bytes; a logical address has room for 1 << 40
	frmrPageCount       = 4096    // 16 MiB
	maxTransferLength   = 1 << 30
	maxInlineTried      = 1024
	maxQueueDepth       = 16384
	maxCQDepth          = 1 << 18
	maxSGE              = 32
	maxReadLimit        = 255 // the connection manager has 8 bits
	largeRequest        = 4096
	privateConnect      = 56  // InfiniBand and RoCE: of 92 bytes the address header takes 36
	privateAnswer       = 148 // of a rejection; an acceptance has room for 196
	privateIWARP        = 251 // with 4 of read limits for MPA revision 2, what siw counts in 8 bits

	// hiddenSlack is room in a completion queue of the device for completions
	// that the consumer does not see, beside half of its depth.
	hiddenSlack = 64
)

// hardwareDepth is how deep a CQ of the device is for one of the consumer's.
func hardwareDepth(depth int) int { return depth + depth/2 + hiddenSlack }

// query finds out what the device can do.
func query(ctx *C.struct_ibv_context, v ndk.Version, port uint8) (i ndk.AdapterInfo, q quirks, err error) {
	var dev C.struct_ibv_device_attr_ex
	if err := errno(C.vs_query_device(ctx, &dev)); err != nil {
		return i, q, err
	}
	var p C.struct_ibv_port_attr
	if err := errno(C.vs_query_port(ctx, C.uint8_t(port), &p)); err != nil {
		return i, q, err
	}
	d := &dev.orig_attr
	q.iwarp = ctx.device.transport_type == C.IBV_TRANSPORT_IWARP
	q.windows = d.device_cap_flags&(C.IBV_DEVICE_MEM_WINDOW_TYPE_2A|C.IBV_DEVICE_MEM_WINDOW_TYPE_2B) != 0
	q.readsOvertaken = q.iwarp
	siw := q.iwarp && d.vendor_id == siwVendor
	q.plainEvents, q.noIOVA, q.oneSGE = siw, siw, siw
	q.sinkRemote = q.iwarp && !siw // siw looks at the right of local write only
	q.invalidated, q.tooLong = C.IBV_WC_WITH_INV, C.IBV_WC_LOC_LEN_ERR
	if !q.iwarp && d.vendor_id == rxeVendor {
		q.freeAgain, q.looseWindows = true, true
		q.invalidated |= 1 << 2 // what it is in the kernel
		q.tooLong = C.IBV_WC_LOC_QP_OP_ERR
	}

	i = ndk.AdapterInfo{
		Version:                v,
		VendorID:               uint32(d.vendor_id),
		DeviceID:               uint32(d.vendor_part_id),
		MaxRegistrationSize:    min(uint64(d.max_mr_size), maxRegistrationSize),
		FRMRPageCount:          frmrPageCount,
		MaxInitiatorRequestSGE: min(int(d.max_sge), maxSGE),
		MaxReceiveRequestSGE:   min(int(d.max_sge), maxSGE),
		MaxReadRequestSGE:      min(int(d.max_sge), maxSGE),
		MaxTransferLength:      min(uint64(p.max_msg_sz), maxTransferLength),
		MaxInboundReadLimit:    min(int(d.max_qp_rd_atom), maxReadLimit),
		MaxOutboundReadLimit:   min(int(d.max_qp_init_rd_atom), maxReadLimit),
		MaxReceiveQueueDepth:   min(int(d.max_qp_wr)-1, maxQueueDepth),
		MaxInitiatorQueueDepth: min(int(d.max_qp_wr)-1, maxQueueDepth),
		MaxCQDepth:             min((int(d.max_cqe)-hiddenSlack)*2/3, maxCQDepth),
		LargeRequestThreshold:  largeRequest,
		MaxCallerData:          privateConnect,
		MaxCalleeData:          privateAnswer,
		Flags:                  ndk.FlagCQInterruptModeration | ndk.FlagLoopbackConnections,
	}
	if d.max_sge_rd > 0 {
		i.MaxReadRequestSGE = min(int(d.max_sge_rd), i.MaxReadRequestSGE)
	}
	if d.max_srq > 0 && d.max_srq_wr > 1 && !q.iwarp {
		i.MaxSRQDepth = min(int(d.max_srq_wr)-1, maxQueueDepth)
		n := min(i.MaxReceiveRequestSGE, int(d.max_srq_sge))
		i.MaxReceiveRequestSGE, i.MaxInitiatorRequestSGE, i.MaxReadRequestSGE = n, n, min(n, i.MaxReadRequestSGE)
	}
	if q.windows {
		i.MaxWindowSize = i.MaxRegistrationSize
	}
	if !q.sinkRemote {
		i.Flags |= ndk.FlagRDMAReadSinkNotRequired
	}
	switch {
	case q.iwarp:
		i.Technology = ndk.TechnologyIWARP
		i.MaxReadRequestSGE = 1 // its one sink is named on the wire
		i.MaxCallerData, i.MaxCalleeData = privateIWARP, privateIWARP
	case p.link_layer != C.IBV_LINK_LAYER_ETHERNET:
		i.Technology = ndk.TechnologyInfiniBand
	default:
		i.Technology = ndk.TechnologyRoCE
		for g := C.uint32_t(0); g < C.uint32_t(p.gid_tbl_len); g++ {
			var e C.struct_ibv_gid_entry
			if C.vs_query_gid(ctx, C.uint8_t(port), g, &e) == 0 && e.gid_type == C.IBV_GID_TYPE_ROCE_V2 {
				i.Technology = ndk.TechnologyRoCEv2
				break
			}
		}
	}
	return i, q, try(ctx, &i)
}

// try makes a CQ and QPs to find out what no query tells.
func try(ctx *C.struct_ibv_context, i *ndk.AdapterInfo) error {
	pd, err := C.vs_alloc_pd(ctx)
	if pd == nil {
		return created(err)
	}
	defer C.vs_dealloc_pd(pd)
	cq, err := C.vs_create_cq(ctx, 4, nil)
	if cq == nil {
		return created(err)
	}
	defer C.vs_destroy_cq(cq)
	if C.vs_resize_cq(cq, 8) == 0 {
		i.Flags |= ndk.FlagCQResize
	}
	// The size that is asked for may be more than the device has, or the one that
	// it answers more than it takes together with the most SGEs.
	for size := maxInlineTried; ; size /= 2 {
		var attr C.struct_ibv_qp_init_attr
		attr.send_cq, attr.recv_cq, attr.qp_type = cq, cq, C.IBV_QPT_RC
		attr.cap.max_send_wr, attr.cap.max_recv_wr = 2, 2
		attr.cap.max_send_sge, attr.cap.max_recv_sge = C.uint32_t(i.MaxInitiatorRequestSGE), C.uint32_t(i.MaxReceiveRequestSGE)
		attr.cap.max_inline_data = C.uint32_t(size)
		qp, err := C.vs_create_qp(pd, &attr)
		if qp != nil {
			if C.vs_in_order(qp) != 0 {
				i.Flags |= ndk.FlagInOrderDMA
			}
			C.vs_destroy_qp(qp)
			i.MaxInlineDataSize = min(int(attr.cap.max_inline_data), maxInlineTried)
			if size == 0 {
				i.MaxInlineDataSize = 0
			}
			return nil
		}
		if size == 0 {
			return created(err)
		}
		if size < 16 {
			size = 1 // the next one is 0
		}
	}
}

// wrap makes the error of a slow call.
func wrap(op string, st ndk.Status, err error) error {
	return &ndk.Error{Op: op, Status: st, Err: err}
}

// refuse makes the error of a slow call that broke the rule of e.
func refuse(op string, e *ndk.PostError) error {
	return &ndk.Error{Op: op, Status: e.Status, ProviderError: uint32(e.Rule)}
}

// addQP gives q a slot.
func (a *adapter) addQP(q *qp) uint32 {
	a.qpsMu.Lock()
	defer a.qpsMu.Unlock()
	slot := uint32(len(a.qps))
	if n := len(a.free); n > 0 {
		slot, a.free = a.free[n-1], a.free[:n-1]
		a.qps[slot] = q
	} else {
		a.qps = append(a.qps, q)
	}
	return slot
}

// dropQP undoes addQP, when no completion of q is in a queue of the device.
func (a *adapter) dropQP(q *qp) {
	a.qpsMu.Lock()
	a.qps[q.slot] = nil
	a.free = append(a.free, q.slot)
	a.qpsMu.Unlock()
}

// numberQP makes q findable by the number of its hardware; 0 undoes that.
func (a *adapter) numberQP(q *qp, old, num uint32) {
	a.qpsMu.Lock()
	if a.byNum[old] == q {
		delete(a.byNum, old)
	}
	if num != 0 {
		a.byNum[num] = q
	}
	a.qpsMu.Unlock()
}
