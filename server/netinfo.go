package server

import (
	"net/netip"
	"slices"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// networkInfoSize is the size of a NETWORK_INTERFACE_INFO, [MS-SMB2] 2.2.32.5.
const networkInfoSize = 152

// defaultLinkSpeed is told of interfaces that do not know theirs, in bits a
// second.
const defaultLinkSpeed = 1_000_000_000

// maxInterfaces bounds how many addresses a client is told.
const maxInterfaces = 256

// interfaceInfo is [MS-SMB2] 3.3.5.15.11. Loopback addresses are for clients that
// came by one, or where there is nothing else.
func (c *conn) interfaceInfo(maxOut int) ([]byte, ntstatus.Status) {
	list := c.srv.cfg.Interfaces
	if c.dialect < Dialect300 || list == nil {
		return nil, ntstatus.NotSupported
	}
	known := slices.DeleteFunc(slices.Clone(list()), func(i Interface) bool {
		return i.Index == 0 || !i.Addr.IsValid() || i.Addr.IsUnspecified() || i.Addr.IsMulticast()
	})
	loopback := func(i Interface) bool { return i.Addr.Unmap().IsLoopback() }
	if ap, err := netip.ParseAddrPort(addrString(c.tc.LocalAddr())); (err != nil || !ap.Addr().Unmap().IsLoopback()) &&
		slices.ContainsFunc(known, func(i Interface) bool { return !loopback(i) }) {
		known = slices.DeleteFunc(known, loopback)
	}
	var infos []smb2.NetworkInterfaceInfo
	for _, i := range known[:min(len(known), maxInterfaces)] {
		info := smb2.NetworkInterfaceInfo{IfIndex: i.Index, LinkSpeed: i.Speed, Addr: i.Addr.Unmap().WithZone("")}
		if info.LinkSpeed == 0 {
			info.LinkSpeed = defaultLinkSpeed
		}
		if i.RSS {
			info.Capability |= smb2.InterfaceRSSCapable
		}
		if i.RDMA {
			info.Capability |= smb2.InterfaceRDMACapable
		}
		infos = append(infos, info)
	}
	if len(infos)*networkInfoSize > maxOut {
		return nil, ntstatus.BufferTooSmall
	}
	return smb2.AppendNetworkInterfaceInfos(nil, infos), ntstatus.Success
}
