//go:build !linux

package tcp

import "github.com/smbd-rdma/smbd-rdma/transport"

// Delivery implements transport.Deliverer: this system does not tell.
func (c *Conn) Delivery() (transport.Delivery, bool) { return transport.Delivery{}, false }
