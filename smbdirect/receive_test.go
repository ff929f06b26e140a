package smbdirect

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

// A message that is given up when it was begun is finished from a copy: the peer gets it
// as it was, whatever the caller does with his memory, and the connection goes on.
func TestBegunMessageIsFinished(t *testing.T) {
	a, b := pair(t, Config{}, Config{ReceiveCreditMax: 4, ReceiveBacklog: 1})
	first, last := []byte("first"), []byte("last")
	whole := pattern(100<<10, 1) // in 75 fragments and more
	if err := a.Send(t.Context(), msg(first)); err != nil {
		t.Fatal(err)
	}
	// Nobody receives, so the peer gives no credits, and a few fragments leave.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	parts := [][]byte{bytes.Clone(whole[:1000]), bytes.Clone(whole[1000:50000]), bytes.Clone(whole[50000:])}
	if err := a.Send(ctx, msg(parts...)); err != nil {
		t.Fatalf("a message that was begun: %v", err)
	}
	if ctx.Err() == nil {
		t.Fatal("all of the message has left")
	}
	for _, p := range parts {
		clear(p)
	}
	sent := make(chan error, 1)
	go func() { sent <- a.Send(t.Context(), msg(last)) }()
	for _, want := range [][]byte{first, whole, last} {
		m := receive(t, b)
		if !bytes.Equal(m.Data, want) {
			t.Errorf("%d octets that differ, want %d", len(m.Data), len(want))
		}
		m.Release()
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// A message that says More waits for others, but not when there is much of them.
func TestMore(t *testing.T) {
	a, b := pair(t, Config{}, Config{})
	more := func(n int) {
		t.Helper()
		m := msg(pattern(n, int64(n)))
		m.More = true
		if err := a.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	kept := func() bool {
		own(a)
		defer a.drive(driveRounds)
		a.l.lazy = true // as who looks is no reason to send
		return a.l.hasHeld
	}
	// What the peer or a timer brings meanwhile takes along what is kept: now and then it
	// is not seen.
	tries := 1
	for more(10); !kept() && tries < 100; tries++ {
		more(10)
	}
	if tries == 100 {
		t.Error("a message that says More is not kept back")
	}
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if kept() {
		t.Error("it is after a Flush")
	}
	for range tries - 1 {
		receive(t, b).Release()
	}
	more(20)
	if err := a.Send(t.Context(), msg(pattern(30, 30))); err != nil {
		t.Fatal(err)
	}
	const many, size = 100, 1000 // more than is kept back
	for range many {
		more(size)
	}
	for _, want := range []int{10, 20, 30, size} {
		m := receive(t, b) // without a Flush
		if !bytes.Equal(m.Data, pattern(want, int64(want))) {
			t.Errorf("%d octets, want %d", len(m.Data), want)
		}
		m.Release()
	}
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range many - 1 {
		receive(t, b).Release()
	}
	if b.Buffered() {
		t.Error("there is a message more")
	}
}

// ReceivePromptly brings what comes soon, gives up without a loss, and tells the end.
func TestReceivePromptly(t *testing.T) {
	a, b := pair(t, Config{}, Config{})
	if r, err := b.ReceivePromptly(); r != nil || err != nil {
		t.Errorf("on a quiet connection: %v, %v", r, err)
	}
	if b.Prompt() {
		t.Error("a quiet connection is prompt")
	}
	promptly := func() *transport.Received {
		for {
			b.brisk = true
			if r, err := b.ReceivePromptly(); r != nil || err != nil {
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
		}
	}
	for i := range 200 {
		want := pattern(1+i*50, int64(i)) // up to eight fragments
		go func() { _ = a.Send(context.Background(), msg(want)) }()
		if i%3 == 0 {
			r := receive(t, b) // in turns with Receive
			if !bytes.Equal(r.Data, want) {
				t.Fatalf("message %d: %d octets, want %d", i, len(r.Data), len(want))
			}
			r.Release()
			continue
		}
		r := promptly()
		if !bytes.Equal(r.Data, want) {
			t.Fatalf("message %d: %d octets, want %d", i, len(r.Data), len(want))
		}
		r.Release()
	}
	a.Close()
	var err error
	for err == nil {
		b.brisk = true
		var r *transport.Received
		if r, err = b.ReceivePromptly(); r != nil {
			t.Fatal("a message from nowhere")
		}
	}
	b.Close()
	if _, err := b.ReceivePromptly(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// Where RDMA is software it pays later.
func TestThreshold(t *testing.T) {
	a, _ := pair(t, Config{}, Config{})
	if n := a.RDMA().(transport.Thresholder).Threshold(); n != 16<<10 {
		t.Errorf("%d, want %d", n, 16<<10)
	}
	if b, _ := simPair(t, Config{}); b.RDMA().(transport.Thresholder).Threshold() != 4096 { // as hardware
		t.Errorf("over sim %d, want 4096", b.RDMA().(transport.Thresholder).Threshold())
	}
}

// A message that is given up when the connection is dead already is ended with it, and so
// are those before it.
func TestGivenUpOnDeadConnection(t *testing.T) {
	a, _ := pair(t, Config{}, Config{})
	own(a)
	var sends [3]*request
	for i := range sends {
		sends[i] = a.dev.requests.get(reqSend)
		sends[i].parts, sends[i].n = [][]byte{{1, 2, 3}}, 3
		a.l.sends.push(sends[i]) // as the engine has sent them, and the connection ended meanwhile
	}
	a.die(&LostError{Err: errors.New("lost")}, false)
	a.cancel(sends[2], context.Canceled)
	a.drive(driveRounds)
	for i, r := range sends {
		if !r.finished() {
			select {
			case <-r.done:
			case <-time.After(20 * time.Second):
				t.Fatalf("message %d: its sender waits for ever", i)
			}
		}
		if !errors.Is(r.err, net.ErrClosed) {
			t.Errorf("message %d: %v", i, r.err)
		}
	}
}
