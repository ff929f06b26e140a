package fuse

import (
	"context"
	"slices"
	"sync"
)

// closings knows what is being closed: after the last use of a handle it does not count as
// open here any more, while on the server it is for a moment. Servers without the POSIX
// extensions keep the name of a file that is deleted for as long, so who deletes it waits.
type closings struct {
	mu  sync.Mutex // the last lock that is taken
	all []*closing // guarded by mu
}

// closing is files of an inode that are being closed.
type closing struct {
	n    *inode
	over chan struct{}
	// do closes them, once, and waits until they are; nil where who began is at it.
	do func()
}

// begin notes that files of an inode are about to be closed. It is called with n.mu held,
// as they are taken off the inode: who sees them there no more finds this.
func (c *closings) begin(n *inode) *closing {
	x := &closing{n: n, over: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, x)
	return x
}

// later is begin for what is still to be closed: by who calls do first. The minder would
// do so when it has told the kernel something else, for which that may wait for who waits here.
func (c *closings) later(n *inode, shut func()) *closing {
	x := &closing{n: n, over: make(chan struct{})}
	x.do = sync.OnceFunc(func() {
		shut()
		c.end(x)
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, x)
	return x
}

// end notes that they are closed.
func (c *closings) end(x *closing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.all, x); i >= 0 {
		c.all = slices.Delete(c.all, i, i+1)
		close(x.over)
	}
}

// wait returns when what is being closed of a file or directory is closed, or ctx has ended.
func (c *closings) wait(ctx context.Context, n *inode) error {
	// The kernel may have forgotten it and found it again: then it was another inode.
	_, err := c.waitFor(ctx, func(x *closing) bool { return x.n == n || x.n.key == n.key })
	return err
}

// waitFor is wait for those that count, and says whether there were any.
func (c *closings) waitFor(ctx context.Context, counts func(*closing) bool) (any bool, err error) {
	c.mu.Lock()
	var before []*closing
	for _, x := range c.all {
		if counts(x) {
			before = append(before, x)
		}
	}
	c.mu.Unlock()
	for _, x := range before {
		if x.do != nil {
			x.do()
		}
		select {
		case <-x.over:
		case <-ctx.Done():
			return true, context.Cause(ctx)
		}
	}
	return len(before) > 0, nil
}
