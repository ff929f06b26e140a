//go:build verbs && linux && cgo

package verbs

// #include "shim.h"
import "C"

import (
	"net/netip"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// adapter implements ndk.Adapter. It has a device context of its own; the
// connection manager finds the device again by itself, and QPs by their number.
type adapter struct {
	soft.Object
	cfg     Config
	local   netip.Addr // invalid: any
	version ndk.Version
	ctx     *C.struct_ibv_context
	device  string // its name
	port    uint8  // of the device, from 1
	iwarp   bool
	info    ndk.AdapterInfo
}

// wrap makes the error of a slow call.
func wrap(op string, st ndk.Status, err error) error {
	return &ndk.Error{Op: op, Status: st, Err: err}
}
