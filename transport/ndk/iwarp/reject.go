package iwarp

import (
	"fmt"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// Reject implements ndk.Connector. On the active side the private data has no
// place on the wire and is dropped.
func (c *connector) Reject(private []byte) error {
	const op = "reject"
	if len(private) > maxPrivate {
		return wrap(op, ntstatus.InvalidBufferSize, fmt.Errorf("%d bytes of private data", len(private)))
	}
	c.mu.Lock()
	state, conn, q := c.state, c.conn, c.q
	if state != connRequest && state != connAccepted {
		c.mu.Unlock()
		return wrap(op, ntstatus.InvalidDeviceState, nil)
	}
	c.state = connFailed
	c.mu.Unlock()
	gone := peerGone(conn)
	if state == connRequest {
		if err := c.refuse(conn, private); err != nil {
			gone = true
		}
	} else {
		c.giveUp(conn)
		q.unreserve()
	}
	if gone {
		return wrap(op, ntstatus.ConnectionAborted, nil)
	}
	return nil
}
