package tcp

import (
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/internal/socket"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

var (
	_ transport.Prompter = (*Conn)(nil)
	_ transport.Placer   = (*Conn)(nil)
)

// rawReceive is what receiving on a descriptor takes; owned as receiver is.
type rawReceive struct {
	step   func(fd uintptr) bool // made once
	direct []byte                // where to read to; nil for reading ahead
	n      int
	err    error
	wait   bool // there is nothing

	brisk  bool
	hasty  bool // not to wait for long
	waiter socket.Brisk
}

// read reads into p.
func (c *Conn) read(p []byte) (int, error) {
	if c.sock == nil {
		return c.nc.Read(p)
	}
	c.rx.direct = p
	err := c.receiveRaw()
	c.rx.direct = nil
	return c.rx.n, err
}

// readAhead reads what there is, at least a byte.
func (c *Conn) readAhead() error {
	if c.sock == nil {
		return c.readAheadPlain()
	}
	err := c.receiveRaw()
	c.rx.w += c.rx.n
	return err
}

// readPlaced reads some of what has a place.
func (c *Conn) readPlaced() error {
	x := &c.rx
	err := c.receiveRaw()
	x.got += x.n
	if x.got == x.curLen {
		return nil
	}
	return err
}

// ReceivePromptly implements transport.Prompter.
func (c *Conn) ReceivePromptly() (*transport.Received, error) {
	if err := c.err(); err != nil {
		return nil, err
	}
	if c.sock == nil {
		return nil, nil
	}
	c.rx.hasty = true
	r, err := c.receive()
	c.rx.hasty = false
	return r, err
}

// Prompt implements transport.Prompter.
func (c *Conn) Prompt() bool {
	return c.rx.brisk && socket.BriskRoom()
}

func (c *Conn) receiveRaw() error {
	x := &c.rx
	for {
		// The deadline ends waiting alone, and a peer that never lets us wait would have
		// us receive a long message to its end.
		if !x.hasty && c.recvCtx.over.Load() {
			x.n = 0
			return os.ErrDeadlineExceeded
		}
		if err := c.raw.Read(x.step); err != nil {
			x.n = 0
			return err
		}
		if !x.wait {
			return x.err
		}
		if x.direct == nil && x.place.to == nil {
			x.giveBack()
		}
		began := time.Now()
		if err := c.sock.WaitIn(); err != nil {
			return err
		}
		if x.brisk = socket.Took(time.Since(began)); x.brisk {
			socket.ReleasePoller()
		}
	}
}

// receiveStep reads once, or finds that it has to wait for long.
func (c *Conn) receiveStep(fd uintptr) bool {
	x := &c.rx
	x.n, x.err, x.wait = 0, nil, false
	for {
		n, err := x.readOnce(int(fd))
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			if x.waitBriskly(fd) {
				continue
			}
			if x.hasty {
				x.err = errNotYet
			} else {
				x.wait = true
			}
		case err != nil:
			x.err = os.NewSyscallError("read", err)
		case n == 0:
			x.err = io.EOF
		default:
			x.n = n
		}
		return true
	}
}

// readOnce reads to where the octets belong.
func (x *receiver) readOnce(fd int) (int, error) {
	switch {
	case x.place.to != nil:
		defer x.place.to.End()
		p, pipe := x.target()
		if pipe != nil {
			if n, err := spliceInto(pipe, fd, len(p)); !pipe.Over {
				return n, err
			}
		}
		return unix.Read(fd, p)
	case x.direct != nil:
		return unix.Read(fd, x.direct)
	}
	return unix.Read(fd, x.room())
}

// fillPipe puts a copy of the first octets into a pipe, and returns how many.
func fillPipe(pipe *transport.Pipe, b []byte) int {
	n, err := unix.Write(pipe.W, b)
	n = max(n, 0)
	pipe.N += n
	pipe.Over = n < len(b) || err != nil
	return n
}

// spliceInto is socket.Splice into a pipe that counts.
func spliceInto(pipe *transport.Pipe, fd, n int) (int, error) {
	k, over, err := socket.Splice(pipe.W, fd, n)
	pipe.N += k
	pipe.Over = pipe.Over || over
	return k, err
}

// waitBriskly reports whether there may be something to read, after a short wait.
func (x *receiver) waitBriskly(fd uintptr) bool {
	if !x.brisk {
		return false
	}
	came, waited := x.waiter.Wait(fd)
	if waited {
		x.brisk = came
	}
	return came
}
