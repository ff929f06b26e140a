package tcp

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// States of tcp(7), TCP_INFO, in which the peer has sent a FIN or a RST.
const (
	tcpTimeWait  = 6
	tcpClose     = 7
	tcpCloseWait = 8
	tcpLastAck   = 9
	tcpClosing   = 11
)

func ended(state uint8) bool {
	switch state {
	case tcpTimeWait, tcpClose, tcpCloseWait, tcpLastAck, tcpClosing:
		return true
	}
	return false
}

// Delivery implements transport.Deliverer.
func (c *Conn) Delivery() (d transport.Delivery, ok bool) {
	if c.sock == nil {
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
					Ended:        ended(info.State),
				}
				ok = true
				return
			}
		}
	})
	return d, ok && err == nil
}
