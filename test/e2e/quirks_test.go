package e2e

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// TestQuirkMPAOnDirectPort has what cifs.ko does on iWARP when nobody answers on 5445:
// it tries 445, where direct hosting listens, and waits up to five seconds if it is
// not shut out at once.
func TestQuirkMPAOnDirectPort(t *testing.T) {
	w := newTown(t, options{})
	c, err := net.Dial("tcp", w.addr("tcp"))
	must(t, err)
	defer c.Close()
	// With the private data that it has: depths in the order of its host.
	_, err = c.Write(mpaRequest(0x10, 2, []byte{0x80, 32, 0, 0, 32, 0, 0, 0, 1, 0, 0, 0}))
	must(t, err)
	must(t, c.SetReadDeadline(time.Now().Add(patience)))
	b, err := io.ReadAll(c)
	if len(b) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("answered with % x, %v", b, err)
	}
}
