package smbdirect

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// That the peer has gone is told before its messages have been received, so that who needs
// what it had open does not take it for there.
func TestDeliveryTellsTheEnd(t *testing.T) {
	for _, c := range []struct {
		name     string
		messages int
		size     int
		server   Config
	}{
		{"nothing sent", 0, 0, Config{}},
		{"a message nobody has received", 1, 100, Config{}},
		// The server asks for no more than that before it was received.
		{"more than is taken in", 3, 4000, Config{ReceiveBacklog: 4096}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			client, server := pair(t, Config{}, c.server)
			for _, end := range []transport.Deliverer{client, server} {
				if d, ok := end.Delivery(); ok || d.Ended {
					t.Fatalf("%+v, %v of a connection that is up", d, ok)
				}
			}
			for i := range c.messages {
				if err := client.Send(ctx, msg(bytes.Repeat([]byte{byte(i)}, c.size))); err != nil {
					t.Fatal(err)
				}
			}
			client.Close()
			if d, ok := client.Delivery(); !ok || !d.Ended {
				t.Errorf("closed: %+v, %v", d, ok)
			}
			for d, ok := server.Delivery(); !ok || !d.Ended; d, ok = server.Delivery() {
				select {
				case <-ctx.Done():
					t.Fatal("the server is not told that the client has gone")
				case <-time.After(time.Millisecond):
				}
			}
			for i := range c.messages {
				m, err := server.Receive(ctx)
				if err != nil {
					t.Fatalf("message %d: %v", i, err)
				}
				if b := m.Data; len(b) != c.size || b[0] != byte(i) {
					t.Errorf("message %d: %d bytes of %d", i, len(b), b[0])
				}
				m.Release()
			}
			if _, err := server.Receive(ctx); err == nil {
				t.Error("a message behind the end")
			}
		})
	}
}
