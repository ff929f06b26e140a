package tcp

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/internal/socket"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// A connection whose peer takes its time lasts where no descriptor is left to wait by.
func TestSendWithoutDescriptors(t *testing.T) {
	a, b := pair(t, Config{})
	want := pattern(8<<20, 1)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := unix.Rlimit{Cur: 0, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}()
	sent := make(chan error, 1)
	go func() { sent <- a.Send(t.Context(), &transport.Message{Parts: [][]byte{want}}) }()
	select {
	case err := <-sent:
		t.Fatalf("sent before anybody has received: %v", err)
	case <-time.After(4 * socket.GatelessWait):
	}
	m, err := b.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.Data, want) {
		t.Error("the message differs")
	}
	m.Release()
	if err := <-sent; err != nil {
		t.Error(err)
	}
}
