package smbdirect

import "github.com/smbd-rdma/smbd-rdma/transport"

var _ transport.Deliverer = (*Conn)(nil)

// Delivery implements transport.Deliverer. How much has arrived an adapter does not tell,
// so something is known only when the connection has come to its end: then ok and Ended
// are true.
func (c *Conn) Delivery() (d transport.Delivery, ok bool) {
	c.mu.Lock()
	gone := c.sealed || c.flags.lost
	c.mu.Unlock()
	gone = gone || c.err() != nil || c.hangup != nil && c.hangup.HungUp()
	return transport.Delivery{Ended: gone}, gone
}
