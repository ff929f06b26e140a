package tcp

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// What was sent has arrived when the peer's machine has acknowledged it, whether or
// not the peer reads; where there is no TCP nothing is known.
func TestDelivery(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	c, err := NewConn(nc, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	before, ok := c.Delivery()
	if !ok || before.Patience <= 0 {
		t.Fatalf("%+v, %v", before, ok)
	}
	if err := c.Send(context.Background(), &transport.Message{Parts: [][]byte{make([]byte, 996)}}); err != nil {
		t.Fatal(err)
	}
	sent, ok := c.Delivery()
	if !ok || sent.Sent != before.Sent+1000 { // with the prefix of 4
		t.Fatalf("%+v after %+v and 1000 octets, %v", sent, before, ok)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if d, _ := c.Delivery(); d.Acknowledged >= sent.Sent {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("never acknowledged")
		}
	}
	if sent.Ended {
		t.Error("the peer has ended the connection before it has")
	}
	peer.Close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if d, ok := c.Delivery(); ok && d.Ended { // nobody has received that
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the peer's end is never known")
		}
	}

	a, b := net.Pipe()
	defer b.Close()
	p, err := NewConn(a, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if d, ok := p.Delivery(); ok {
		t.Errorf("a pipe knows %+v", d)
	}
}
