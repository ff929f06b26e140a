//go:build verbs && linux && cgo

package verbs

// #include "shim.h"
import "C"

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/Mellanox/rdmamap"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Devices describes the RDMA devices of this machine, in the order of rdma-core.
// It opens each of them for a moment. One that cannot be opened or asked has a
// name and nothing else; a machine without any is no error. It fails with
// ndk.ErrNotSupported where rdma-core is not installed.
func Devices() ([]DeviceInfo, error) {
	if err := loadLibraries(); err != nil {
		return nil, err
	}
	names, err := deviceNames()
	if err != nil {
		return nil, err
	}
	netdevs := networkDevices()
	out := make([]DeviceInfo, 0, len(names))
	for _, n := range names {
		d := DeviceInfo{Name: n}
		for _, i := range netdevs[n] {
			d.NetDevices = append(d.NetDevices, i.Name)
			d.Addresses = append(d.Addresses, interfaceAddrs(i)...)
		}
		describe(&d)
		out = append(out, d)
	}
	return out, nil
}

// describe asks the device.
func describe(d *DeviceInfo) {
	ctx, err := openContext(d.Name)
	if err != nil {
		return
	}
	defer C.vs_close_device(ctx)
	port := activePort(ctx)
	d.Active = port != 0
	info, quirks, err := query(ctx, ndk.Version21, max(port, 1))
	if err != nil {
		return
	}
	d.Info, d.MemoryWindows = info, quirks.windows
	d.Driver = fmt.Sprintf("%#x:%d", info.VendorID, info.DeviceID)
	var dev C.struct_ibv_device_attr_ex
	if C.vs_query_device(ctx, &dev) == 0 {
		d.Firmware = C.GoString(&dev.orig_attr.fw_ver[0])
	}
}

// networkDevices has, for each RDMA device, the network interfaces of its ports.
func networkDevices() map[string][]net.Interface {
	out := make(map[string][]net.Interface)
	if _, err := os.Stat(rdmamap.RdmaClassDir); err != nil {
		return out // rdmamap would say so on standard error
	}
	ifs, err := net.Interfaces()
	if err != nil {
		return out
	}
	for _, i := range ifs {
		if dev, err := rdmamap.GetRdmaDeviceForNetdevice(i.Name); err == nil && dev != "" {
			out[dev] = append(out[dev], i)
		}
	}
	return out
}

// interfaceAddrs are the IP addresses of an interface, link-local ones with
// their zone.
func interfaceAddrs(i net.Interface) []netip.Addr {
	as, err := i.Addrs()
	if err != nil {
		return nil
	}
	var out []netip.Addr
	for _, a := range as {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		if ip, ok := netip.AddrFromSlice(n.IP); ok {
			if ip = ip.Unmap(); ip.Is6() && ip.IsLinkLocalUnicast() {
				ip = ip.WithZone(i.Name)
			}
			out = append(out, ip)
		}
	}
	return out
}
