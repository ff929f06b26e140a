package iwarp

import (
	"net/netip"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// Limits of an adapter. They cost memory only when used.
const (
	maxRegistrationSize = 1 << 36 // octets
	frmrPageCount       = 4096    // 16 MiB: one request of 8 MiB at any alignment fits well
	maxSGE              = 16
	maxTransferLength   = 1 << 30
	maxInlineData       = 1024
	maxReadLimit        = 128 // siw lowers greater ones to this
	maxQueueDepth       = 16384
	maxSRQDepth         = 1 << 16
	maxCQDepth          = 1 << 18
	largeRequest        = 8192 // octets: about where a Write with its Send beats a copy
	// maxPrivate is what remains of the 256 octets that siw takes, beside the
	// enhanced data (MPA-08).
	maxPrivate = 252
)

// adapter implements ndk.Adapter.
type adapter struct {
	soft.Device
	cfg    Config
	local  netip.Addr // invalid: any
	ports  portRange
	tuples *tuples // of the provider
}

func newAdapter(p *provider, local netip.Addr, v ndk.Version) *adapter {
	a := &adapter{cfg: p.cfg, local: local, ports: ephemeral, tuples: &p.tuples}
	a.Device.Init(soft.Config{Info: info(v, p.cfg.RequireReadSink), MaxObjects: p.cfg.MaxObjects, Pipes: true})
	return a
}

// info is what an adapter of the version reports.
func info(v ndk.Version, needSink bool) ndk.AdapterInfo {
	i := ndk.AdapterInfo{
		Version:                v,
		MaxRegistrationSize:    maxRegistrationSize,
		MaxWindowSize:          maxRegistrationSize,
		FRMRPageCount:          frmrPageCount,
		MaxInitiatorRequestSGE: maxSGE,
		MaxReceiveRequestSGE:   maxSGE,
		MaxReadRequestSGE:      maxSGE,
		MaxTransferLength:      maxTransferLength,
		MaxInlineDataSize:      maxInlineData,
		MaxInboundReadLimit:    maxReadLimit,
		MaxOutboundReadLimit:   maxReadLimit,
		MaxReceiveQueueDepth:   maxQueueDepth,
		MaxInitiatorQueueDepth: maxQueueDepth,
		MaxSRQDepth:            maxSRQDepth,
		MaxCQDepth:             maxCQDepth,
		LargeRequestThreshold:  largeRequest,
		MaxCallerData:          maxPrivate,
		MaxCalleeData:          maxPrivate,
		Flags: ndk.FlagMultiEngine | ndk.FlagRDMAReadLocalInvalidate | ndk.FlagCQResize | ndk.FlagCQInterruptModeration |
			ndk.FlagLoopbackConnections,
		Technology: ndk.TechnologyIWARP,
	}
	if !needSink {
		i.Flags |= ndk.FlagRDMAReadSinkNotRequired
	}
	return i
}
