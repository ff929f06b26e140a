//go:build verbs && linux && cgo

package verbs

// #include "shim.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"unsafe"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// provider implements ndk.Provider.
type provider struct{ cfg Config }

// New returns a provider. It fails on a Config with a value out of range, and
// with ndk.ErrNotSupported where rdma-core is not installed.
func New(c Config) (ndk.Provider, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := loadLibraries(); err != nil {
		return nil, err
	}
	return &provider{cfg: c}, nil
}

// Open implements ndk.Provider.
func (p *provider) Open(_ context.Context, local netip.Addr, min ndk.Version) (ndk.Adapter, error) {
	const op = "open adapter"
	var v ndk.Version
	switch {
	case min.Major == 1 && !ndk.Version12.Less(min):
		v = ndk.Version12
	case min.Major == 2 && !ndk.Version21.Less(min):
		v = ndk.Version21
	default:
		return nil, wrap(op, ntstatus.NotSupported, fmt.Errorf("version %v", min))
	}
	local = local.Unmap()
	if local.IsUnspecified() {
		local = netip.Addr{}
	}
	name, port, err := p.find(local)
	if err != nil {
		return nil, wrap(op, ntstatus.DeviceNotReady, err)
	}
	a, err := openAdapter(p.cfg, local, v, name, port)
	if err != nil {
		return nil, wrap(op, openStatus(err), err)
	}
	return a, nil
}

func openStatus(err error) ndk.Status {
	if errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.EMFILE) {
		return ntstatus.InsufficientResources
	}
	return ntstatus.DeviceNotReady
}

// find returns the device and port that serve the local address.
func (p *provider) find(local netip.Addr) (name string, port uint8, err error) {
	if local.IsValid() {
		name, port, err := deviceOf(local)
		if err != nil {
			return "", 0, fmt.Errorf("no RDMA device owns %v: %w", local, err)
		}
		if p.cfg.Device != "" && p.cfg.Device != name {
			return "", 0, fmt.Errorf("%v belongs to RDMA device %s, not %s", local, name, p.cfg.Device)
		}
		return name, port, nil
	}
	names, err := deviceNames()
	if err != nil {
		return "", 0, err
	}
	for _, n := range names {
		if p.cfg.Device != "" && p.cfg.Device != n {
			continue
		}
		ctx, err := openContext(n)
		if err != nil {
			continue
		}
		port := activePort(ctx)
		C.vs_close_device(ctx)
		if port != 0 {
			return n, port, nil
		}
	}
	if p.cfg.Device != "" {
		return "", 0, fmt.Errorf("no RDMA device %s with an active port", p.cfg.Device)
	}
	return "", 0, errors.New("no RDMA device with an active port")
}

// deviceOf asks the connection manager which device owns an address.
func deviceOf(local netip.Addr) (name string, port uint8, err error) {
	var buf [64]C.char
	var n C.uint8_t
	var sa syscall.RawSockaddrInet6 // the larger of the two
	if local.Is4() {
		v4 := (*syscall.RawSockaddrInet4)(unsafe.Pointer(&sa))
		v4.Family, v4.Addr = syscall.AF_INET, local.As4()
	} else {
		sa.Family, sa.Addr = syscall.AF_INET6, local.As16()
		sa.Scope_id = zoneIndex(local.Zone())
	}
	if err := errno(C.vs_device_of((*C.struct_sockaddr)(unsafe.Pointer(&sa)), &buf[0], C.size_t(len(buf)), &n)); err != nil {
		return "", 0, err
	}
	return C.GoString(&buf[0]), uint8(n), nil
}

// deviceNames lists the RDMA devices in the order of the library.
func deviceNames() ([]string, error) {
	var names []string
	err := eachDevice(func(name string, _ *C.struct_ibv_device) bool {
		names = append(names, name)
		return true
	})
	return names, err
}

// eachDevice calls f for the devices until it returns false. A machine without
// RDMA has none, which is no error.
func eachDevice(f func(name string, d *C.struct_ibv_device) bool) error {
	var n C.int
	list, err := C.vs_get_device_list(&n)
	if list == nil {
		if e := created(err); !errors.Is(e, syscall.ENOSYS) && !errors.Is(e, syscall.ENOENT) {
			return fmt.Errorf("list RDMA devices: %w", e)
		}
		return nil
	}
	defer C.vs_free_device_list(list)
	for _, d := range unsafe.Slice(list, int(n)) {
		if !f(C.GoString(C.vs_device_name(d)), d) {
			break
		}
	}
	return nil
}

// openContext opens the device of that name.
func openContext(name string) (ctx *C.struct_ibv_context, err error) {
	cause := error(syscall.ENODEV)
	err = eachDevice(func(n string, d *C.struct_ibv_device) bool {
		if n != name {
			return true
		}
		var e error
		if ctx, e = C.vs_open_device(d); ctx == nil {
			cause = created(e)
		}
		return false
	})
	if err == nil && ctx == nil {
		err = fmt.Errorf("open RDMA device %s: %w", name, cause)
	}
	return ctx, err
}

// activePort is the first port that is up, 0 if none is.
func activePort(ctx *C.struct_ibv_context) uint8 {
	var dev C.struct_ibv_device_attr_ex
	if C.vs_query_device(ctx, &dev) != 0 {
		return 0
	}
	for port := C.uint8_t(1); port <= dev.orig_attr.phys_port_cnt && port != 0; port++ {
		var attr C.struct_ibv_port_attr
		if C.vs_query_port(ctx, port, &attr) == 0 && attr.state == C.IBV_PORT_ACTIVE {
			return uint8(port)
		}
	}
	return 0
}
