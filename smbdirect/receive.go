package smbdirect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// # Who receives polls
//
// While messages follow each other closely, who is in Receive does not wait for somebody
// else to bring one: where the provider lets it (ndk.Poller), it moves the connection on
// itself, and what the adapter then tells is dealt with in its goroutine, up to the message
// that it returns. As anybody may own the state of the connection just then (drive.go), it
// waits for the one who does to leave.

// promptTime bounds ReceivePromptly.
const promptTime = 900 * time.Microsecond

// Receive implements transport.Conn. Messages that came before the end of the
// connection are returned before the error; those that nobody took before Close
// are gone.
func (c *Conn) Receive(ctx context.Context) (*transport.Received, error) {
	for {
		r, busy, err := c.next()
		if r != nil || err != nil {
			return r, err
		}
		if !busy && c.brisk && ctx.Err() == nil {
			if c.brisk = c.move(); c.brisk {
				continue
			}
		}
		select {
		case <-c.recvReady:
			continue
		default:
		}
		began := time.Now()
		select {
		case <-c.recvReady:
			if c.poller != nil && !busy {
				c.brisk = c.poller.PollWorth(time.Since(began))
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("smbdirect: receive: %w", context.Cause(ctx))
		case <-c.closed:
			if err := c.ended(); err != nil {
				return nil, err
			}
		}
	}
}

// ReceivePromptly implements transport.Prompter.
func (c *Conn) ReceivePromptly() (*transport.Received, error) {
	var began time.Time
	for {
		r, busy, err := c.next()
		switch {
		case r != nil || err != nil:
			return r, err
		case busy:
			select {
			case <-c.recvReady: // soon: an owner does not wait for anything
				continue
			case <-c.closed:
				if err := c.ended(); err != nil {
					return nil, err
				}
				continue
			}
		case !c.brisk:
			return nil, nil
		case began.IsZero():
			began = time.Now()
		case time.Since(began) > promptTime:
			return nil, nil
		}
		select {
		case <-c.closed:
			if err := c.ended(); err != nil {
				return nil, err
			}
			continue
		default:
		}
		if c.brisk = c.poller.Poll(); !c.brisk {
			r, _, err := c.next()
			return r, err
		}
	}
}

// move polls, after those whose transfers are done have had the processor: who waits on a
// thread keeps it.
func (c *Conn) move() bool {
	if c.woken.Load() && c.woken.Swap(false) {
		runtime.Gosched()
	}
	return c.poller.Poll()
}

// next takes the next message, if there is one. busy says that there is an owner, whose
// leaving who receives is told of; never without a poller.
func (c *Conn) next() (r *transport.Received, busy bool, err error) {
	c.mu.Lock()
	if c.flags.closing {
		c.mu.Unlock()
		<-c.closed
		return nil, false, c.err()
	}
	if c.recvq.n == 0 {
		busy = c.driving && c.poller != nil
		c.waits = busy
		c.mu.Unlock()
		return nil, busy, nil
	}
	m := c.recvq.pop()
	c.backlog -= len(m.rx.Data)
	wake := c.resume && c.backlog <= c.cfg.ReceiveBacklog/2
	if wake {
		c.resume = false
	}
	c.mu.Unlock()
	if wake {
		c.poke()
	}
	return m.rx.Lend(), false, nil
}

// ended is how a closed connection answers who receives; nil if there are messages still.
func (c *Conn) ended() error {
	c.mu.Lock()
	n := c.recvq.n
	c.mu.Unlock()
	if n > 0 {
		return nil
	}
	err := c.err()
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return err
}

// Buffered implements transport.Batcher.
func (c *Conn) Buffered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recvq.n > 0
}

// Prompt implements transport.Prompter.
func (c *Conn) Prompt() bool { return c.brisk && c.poller.PollRoom() }

// Flush implements transport.Batcher. It does not wait, so ctx is not needed.
func (c *Conn) Flush(context.Context) error {
	c.tell(func(f *flags) { f.flush = true })
	select {
	case <-c.closed:
		return c.err()
	default:
		return nil
	}
}
