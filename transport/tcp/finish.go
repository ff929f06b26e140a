package tcp

import (
	"context"
	"fmt"
	"net"
	"time"
)

// # Messages that are given up while they are sent
//
// The peer has read the beginning of such a message, and takes what follows for the rest
// of it. To end the connection would take away from all who use it what one has given up.
// So the rest is copied, and sent by a goroutine, which has the right to write until then;
// Send returns, as the buffers of the message are free.

// finishTime is how long the peer has to take the rest.
const finishTime = 30 * time.Second

// leave copies what is left of the parts, of which written octets are gone, for doneSending.
// It reports whether there is a connection still that it can be sent on.
func (c *Conn) leave(parts net.Buffers, written int64) bool {
	n := -written
	for _, p := range parts {
		n += int64(len(p))
	}
	rest := make([]byte, 0, n)
	for _, p := range parts {
		k := min(written, int64(len(p)))
		written -= k
		rest = append(rest, p[k:]...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return false
	}
	c.rest, c.finished = rest, make(chan struct{})
	return true
}

// doneSending gives up the right to write, if need be to who sends the rest.
func (c *Conn) doneSending() {
	if c.rest == nil {
		<-c.sending
		return
	}
	go c.finish() // ended by finishTime and fail; Close waits
}

// finish sends the rest.
func (c *Conn) finish() {
	defer close(c.finished)
	_ = c.sendCtx.arm(context.Background()) // the context that has ended is forgotten
	// Of a closed connection the deadline can't be set; then write says so.
	_ = c.nc.SetWriteDeadline(time.Now().Add(finishTime))
	c.sendArray = append(c.sendArray[:0], c.rest)
	_, err := c.write(c.sendArray, nil)
	clear(c.sendArray)
	c.rest = nil
	if err != nil {
		_ = c.fail(fmt.Errorf("write the rest of a message: %w", err))
	} else {
		_ = c.nc.SetWriteDeadline(time.Time{})
	}
	<-c.sending
}

// awaitFinish waits for finish on a connection that has ended.
func (c *Conn) awaitFinish() {
	c.mu.Lock()
	finished := c.finished
	c.mu.Unlock()
	if finished != nil {
		<-finished
	}
}
