package client

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// [MS-SMB2] 3.2.4.1.5: the MessageIds of one request are consecutive. Those that
// came back from requests that were not sent still count as credits, so a request
// that does not fit in between must not begin so late that it ends outside the
// server's window.
func TestMessageIdsStayInTheWindow(t *testing.T) {
	c := &conn{credits: 10, nextID: 10, owing: 1} // the window is 10..19
	first, second, large, small := &call{need: 3}, &call{need: 3}, &call{need: 5}, &call{need: 4}
	if !c.take(first) || first.id != 10 || !c.take(second) || second.id != 13 {
		t.Fatalf("ids %d and %d, want 10 and 13", first.id, second.id)
	}
	c.putBack(first.id, first.need)
	if c.credits != 7 {
		t.Fatalf("%d credits, want 7", c.credits)
	}
	if c.take(large) {
		t.Fatalf("5 MessageIds from %d: the last one that may be used is 19", large.id)
	}
	if !c.take(small) || small.id != 16 {
		t.Fatalf("4 MessageIds from %d, want 16", small.id)
	}
	if again := (&call{need: 3}); !c.take(again) || again.id != 10 || c.credits != 0 {
		t.Fatalf("3 MessageIds from %d and %d credits left, want 10 and 0", again.id, c.credits)
	}
}

// An answer before its question is refused: what the question's protection will
// be, and so what the answer's must be, is not decided yet.
func TestAnswerBeforeTheRequest(t *testing.T) {
	f, l := newFake(t, linkConfig{})
	f.auth = true
	s, err := f.start(l, Config{Signing: SigningRequired})
	must(t, err)
	c := s.main()
	k := c.newCall(smb2.CommandEcho)
	must(t, k.encode(&smb2.EchoRequest{}))
	must(t, c.acquire(context.Background(), k, 1, k.self[:]))
	h := smb2.Header{Command: smb2.CommandEcho, Flags: smb2.FlagServerToRedir, Credits: 1, MessageID: k.id}
	msg, err := (&smb2.EchoResponse{}).AppendBinary(h.Append(nil))
	must(t, err)
	in := newInbound(transport.NewReceived(func(*transport.Received) {}).Lend())
	err = c.answer(in, msg, h, c.sec.Load(), false)
	var pe *ProtocolError
	if !errors.As(err, &pe) || pe.Section != "3.2.5.1.2" {
		t.Fatalf("unsigned answer to a request that was not sent: %v", err)
	}
	in.release()
}

// countingLink knows how many messages of it were not released, and holds Send
// back until after returns.
type countingLink struct {
	*link
	out   atomic.Int64
	after atomic.Pointer[func(h smb2.Header)]
}

func (l *countingLink) Receive(ctx context.Context) (*transport.Received, error) {
	r, err := l.link.Receive(ctx)
	return l.count(r), err
}

func (l *countingLink) ReceivePromptly() (*transport.Received, error) {
	r, err := l.link.ReceivePromptly()
	return l.count(r), err
}

func (l *countingLink) count(r *transport.Received) *transport.Received {
	if r == nil {
		return nil
	}
	l.out.Add(1)
	mine := transport.NewReceived(func(*transport.Received) { r.Release(); l.out.Add(-1) })
	mine.Data, mine.Placed, mine.Invalidated, mine.HasInvalidated = r.Data, r.Placed, r.Invalidated, r.HasInvalidated
	return mine.Lend()
}

func (l *countingLink) Send(ctx context.Context, m *transport.Message) error {
	h, perr := smb2.ParseHeader(m.Parts[0])
	err := l.link.Send(ctx, m)
	if after := l.after.Load(); after != nil && perr == nil {
		(*after)(h)
	}
	return err
}

// The CLOSE of an open whose CREATE was abandoned has nobody who waits: its answer
// is released all the same, also if it comes before Send has returned.
func TestOrphansAnswerIsReleased(t *testing.T) {
	f, inner := newFake(t, linkConfig{})
	l := &countingLink{link: inner}
	go f.serve()
	t.Cleanup(func() { f.l.Close(); <-f.done })
	s, err := New(context.Background(), l, Config{User: "ann", Password: "secret"})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	must(t, s.Echo(context.Background()))
	c := s.main()
	c.mu.Lock()
	c.orphans = append(c.orphans, orphan{id: smb2.FileID{Persistent: 8, Volatile: 9}})
	c.mu.Unlock()
	answered := func(h smb2.Header) {
		for h.Command == smb2.CommandClose && s.Stats().InFlight > 0 && s.Err() == nil {
			runtime.Gosched()
		}
	}
	l.after.Store(&answered)
	c.closeOrphans(context.Background())
	if n := f.requests(smb2.CommandClose); n != 1 {
		t.Fatalf("%d CLOSE, want 1", n)
	}
	must(t, s.Echo(context.Background())) // the reader is past the answer
	must(t, s.Close())
	if n := l.out.Load(); n != 0 {
		t.Fatalf("%d messages were not released", n)
	}
}
