//go:build !(verbs && linux && cgo)

package verbs

import (
	"fmt"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var errUnavailable = fmt.Errorf("verbs: built without verbs (make build VERBS=1; needs libibverbs-dev and librdmacm-dev): %w", ndk.ErrNotSupported)

// Available reports whether this build has the provider.
const Available = false

// New answers that this build has no verbs; the error matches
// ndk.ErrNotSupported. A Config with a value out of range is reported first.
func New(c Config) (ndk.Provider, error) {
	if _, err := c.withDefaults(); err != nil {
		return nil, err
	}
	return nil, errUnavailable
}

// Devices answers that this build has no verbs.
func Devices() ([]DeviceInfo, error) { return nil, errUnavailable }
