//go:build verbs && linux && cgo

package verbs

/*
#cgo CFLAGS: -O2
#cgo LDFLAGS: -ldl
#include "shim.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Available reports whether this build has the provider.
const Available = true

// loadLibraries opens both libraries at the first call. They stay.
var loadLibraries = sync.OnceValue(func() error {
	var msg [256]C.char
	if C.vs_load(&msg[0], C.size_t(len(msg))) != 0 {
		return fmt.Errorf("verbs: %s: %w", C.GoString(&msg[0]), ndk.ErrNotSupported)
	}
	return nil
})

// errno makes the result of a shim function an error; nil for 0.
func errno(rc C.int) error {
	if rc == 0 {
		return nil
	}
	return syscall.Errno(rc)
}

// created is the error of a shim function that returned NULL, from the second
// result of its call.
func created(err error) error {
	var e syscall.Errno
	if errors.As(err, &e) && e != 0 {
		return e
	}
	return syscall.ENOMEM
}
