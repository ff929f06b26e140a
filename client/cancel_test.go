package client

import (
	"context"
	"errors"
	"net"
	"runtime"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// A READ that is given up in the moment in which its connection ends.
func TestCancelAsTheConnectionEnds(t *testing.T) {
	for range 50 {
		f, l := newFake(t, linkConfig{})
		f.on[smb2.CommandRead] = func(*fake, smb2.Header, []byte) bool { return true } // no answer
		file := f.open(l, Config{CancelGrace: -1})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { _, err := file.ReadAtContext(ctx, make([]byte, 100), 0); done <- err }() // ends with ctx; the test receives
		for file.sh.s.Stats().InFlight == 0 {
			runtime.Gosched()
		}
		go cancel() // returns at once
		l.Close()
		if err := <-done; !errors.Is(err, context.Canceled) && !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	}
}
