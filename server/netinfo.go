package server

import (
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// networkInfoSize is the size of a NETWORK_INTERFACE_INFO, [MS-SMB2] 2.2.32.5.
const networkInfoSize = 152

// defaultLinkSpeed is told of interfaces that do not know theirs, in bits a
// second.
const defaultLinkSpeed = 1_000_000_000

// interfaceInfo is [MS-SMB2] 3.3.5.15.11.
func (c *conn) interfaceInfo(maxOut int) ([]byte, ntstatus.Status) {
	list := c.srv.cfg.Interfaces
	if c.dialect < Dialect300 || list == nil {
		return nil, ntstatus.NotSupported
	}
	var infos []smb2.NetworkInterfaceInfo
	for _, i := range list() {
		if i.Index == 0 || !i.Addr.IsValid() {
			continue
		}
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
