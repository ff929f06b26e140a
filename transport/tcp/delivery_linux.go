package tcp

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// Delivery implements transport.Deliverer.
func (c *Conn) Delivery() (d transport.Delivery, ok bool) {
	if c.raw == nil {
		return d, false
	}
	err := c.raw.Control(func(fd uintptr) {
		for { // until nothing was acknowledged between the two questions
			var info, after *unix.TCPInfo
			var queued int
			var err error
			if info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err != nil {
				return
			}
			if queued, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err != nil {
				return
			}
			if after, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err != nil {
				return
			}
			if info.Bytes_acked == after.Bytes_acked {
				d = transport.Delivery{
					Acknowledged: info.Bytes_acked,
					Sent:         info.Bytes_acked + uint64(max(queued, 0)),
					Patience:     time.Duration(info.Rto) * time.Microsecond,
				}
				ok = true
				return
			}
		}
	})
	return d, ok && err == nil
}
