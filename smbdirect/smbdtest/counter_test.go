package smbdtest

import "sync"

// counter is a number that somebody waits for to be zero.
type counter struct {
	mu   sync.Mutex
	n    int           // guarded by mu
	wait chan struct{} // guarded by mu; closed at zero
}

func (c *counter) add(d int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n += d; c.n == 0 && c.wait != nil {
		close(c.wait)
		c.wait = nil
	}
}

func (c *counter) value() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// zero is closed when the number is zero.
func (c *counter) zero() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wait == nil {
		c.wait = make(chan struct{})
		if c.n == 0 {
			defer func() { close(c.wait); c.wait = nil }()
		}
	}
	return c.wait
}
