package server

import (
	"slices"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// # Breaks that do not arrive
//
// A path may go silent without either end being told, and a client that has other
// channels would lose what it caches when the time for an answer is over. So where the
// transport knows what has arrived, a notification that has not, when the transport
// would have sent it again several times, goes by another connection too. One that the
// client gets twice it answers once, or finds to be over.

const (
	// deliveryPatience is how many of the transport's own timeouts a notification has to
	// arrive, but at least and at most so long.
	deliveryPatience                         = 6
	minDeliveryPatience, maxDeliveryPatience = time.Second, 10 * time.Second
	// deliveryPoll is the time between two looks.
	deliveryPoll = 50 * time.Millisecond
)

// delivery is a notification that has been sent and may not have arrived.
type delivery struct {
	n        *notice
	end      uint64 // has arrived when so much was acknowledged
	deadline time.Time
}

// deliveries are owned by the goroutine that sends a connection's breaks.
type deliveries []delivery

// add notes that a notification which needs an answer was sent, if there is a way to
// know whether it arrives.
func (ds deliveries) add(c *conn, n *notice) deliveries {
	t, ok := c.tc.(transport.Deliverer)
	if !ok || !n.ack {
		return ds
	}
	d, ok := t.Delivery()
	if !ok || d.Acknowledged == d.Sent {
		return ds
	}
	patience := min(max(deliveryPatience*d.Patience, minDeliveryPatience), maxDeliveryPatience)
	return append(ds, delivery{n, d.Sent, time.Now().Add(patience)})
}

// awaitDelivery waits a moment for what was sent to arrive, or for there to be more to
// send, and returns what has not arrived yet. What is overdue goes by another
// connection, if there is one.
func (c *conn) awaitDelivery(sent deliveries) deliveries {
	tick := time.NewTimer(deliveryPoll)
	defer tick.Stop()
	select {
	case <-tick.C:
	case <-c.breaks.wake:
	case <-c.ctx.Done():
		return nil // closeBreaks sees to the rest
	}
	d, ok := c.tc.(transport.Deliverer).Delivery()
	now := time.Now()
	return slices.DeleteFunc(sent, func(s delivery) bool {
		switch {
		case !ok || d.Acknowledged >= s.end:
			return true
		case now.Before(s.deadline):
			return false
		}
		c.log.Debug("break notification does not arrive")
		again := *s.n
		again.tried = slices.Clone(again.tried)
		again.batch = newBatch(1)
		c.srv.routeOn(&again)
		return true
	})
}
