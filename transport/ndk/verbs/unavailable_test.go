//go:build !(verbs && linux && cgo)

package verbs

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// A build without the provider says so, and how to get one with it.
func TestUnavailable(t *testing.T) {
	_, err := New(Config{})
	_, derr := Devices()
	for _, err := range []error{err, derr} {
		if !errors.Is(err, ndk.ErrNotSupported) || !strings.Contains(err.Error(), "make build VERBS=1") {
			t.Errorf("%v; want NotSupported, and how to build it", err)
		}
	}
	if Available {
		t.Error("Available")
	}
	if _, err := New(Config{ConnectTimeout: -time.Second}); err == nil || !strings.Contains(err.Error(), "ConnectTimeout") {
		t.Errorf("a timeout below 0: %v", err)
	}
}
