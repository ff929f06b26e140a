package smbdtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// Upper is the layer above SMB Direct at the end under test, as far as the cases
// need it: it answers messages.
type Upper interface {
	// Open makes an established connection ready, or ends the case.
	Open(t *T, s *Stream) Talk
}

// Talk is the upper layer of one connection.
type Talk interface {
	// Prepare sees that Fetch(n), and Message, need no messages of their own.
	Prepare(n int)
	// Message returns a message of n bytes, or of as many as it needs at least, that
	// gets one answer, and what checks the answer.
	Message(n int) (b []byte, check func(answer []byte) error)
	// Fetch returns a message whose answer has n bytes or more.
	Fetch(n int) (b []byte, check func(answer []byte) error)
}

// Echo is an upper layer that sends back what it gets, see ServeEcho.
type Echo struct{}

// Open implements Upper.
func (Echo) Open(*T, *Stream) Talk { return &echoTalk{} }

type echoTalk struct{ seq byte }

// Prepare implements Talk.
func (*echoTalk) Prepare(int) {}

// Message implements Talk.
func (e *echoTalk) Message(n int) ([]byte, func([]byte) error) {
	b := make([]byte, max(n, 1))
	e.seq++
	for i := range b {
		b[i] = byte(i>>8) ^ byte(i)*31 ^ e.seq
	}
	return b, func(answer []byte) error {
		if !bytes.Equal(answer, b) {
			return fmt.Errorf("the echo of %d bytes is %d bytes and not the same", len(b), len(answer))
		}
		return nil
	}
}

// Fetch implements Talk.
func (e *echoTalk) Fetch(n int) ([]byte, func([]byte) error) { return e.Message(n) }

// ServeEcho answers every message of every connection of l with itself, until l
// is closed. Then it closes the connections, waits for them and returns.
func ServeEcho(l transport.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for {
		c, err := l.Accept(ctx)
		if errors.Is(err, net.ErrClosed) {
			break
		}
		if err != nil {
			continue
		}
		wg.Go(func() {
			defer func() { _ = c.Close() }() // it has ended, or is to end
			for {
				m, err := c.Receive(ctx)
				if err != nil {
					return
				}
				err = c.Send(ctx, &transport.Message{Parts: [][]byte{m.Data}})
				m.Release()
				if err != nil {
					return
				}
			}
		})
	}
	cancel()
	wg.Wait()
}
