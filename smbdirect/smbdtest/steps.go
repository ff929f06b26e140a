package smbdtest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// Request is the Negotiate Request of an initiator that is not odd, and whose values
// every end takes: 10 credits, and messages of sizes that nobody refuses, which those of
// Microsoft's suite are for ksmbd. They are not Linux's: an end that knows its
// peers would take this one for cifs.ko.
func Request() wire.NegotiateRequest {
	return wire.NegotiateRequest{
		MinVersion: wire.Version, MaxVersion: wire.Version, CreditsRequested: 10,
		PreferredSendSize: 1364, MaxReceiveSize: 2048, MaxFragmentedSize: 1 << 18,
	}
}

// defaultWindow is how many receives a Stream of a case keeps granted.
const defaultWindow = 16

// Negotiate sends r on a new connection and returns the Stream and the response,
// which is a success.
func (t *T) Negotiate(c PeerConfig, r wire.NegotiateRequest) *Stream {
	s := t.Connect(c, 0, 0)
	resp, raw, err := s.Negotiate(r, t.Times.React)
	if err != nil {
		t.Fatalf("%+v: %v (%v)", r, err, s.End())
	}
	t.Logf("negotiated: %+v", resp)
	if resp.Status != 0 {
		t.Fatalf("%+v: a response with status %#x: % x", r, resp.Status, raw)
	}
	return s
}

// Establish is Negotiate with a Stream that keeps the rules by itself.
func (t *T) Establish(c PeerConfig, r wire.NegotiateRequest) *Stream {
	return t.established(t.Negotiate(c, r))
}

// Talk opens the upper layer on s.
func (t *T) Talk(s *Stream) Talk {
	if t.Upper == nil {
		t.Skipf("nothing is known of the upper layer")
	}
	talk := t.Upper.Open(t, s)
	talk.Prepare(0)
	return talk
}

// established gives s, which was negotiated with care, what a Stream of Establish
// has.
func (t *T) established(s *Stream) *Stream {
	s.Window = defaultWindow
	t.Must("post", s.Post(s.Window))
	return s
}

// exchange sends a message of n bytes and checks its answer.
func exchange(t *T, s *Stream, talk Talk, n int) error {
	b, check := talk.Message(n)
	if err := s.SendMessage(b, t.Times.React); err != nil {
		return fmt.Errorf("send %d bytes: %w (%v)", len(b), err, s.End())
	}
	return answer(t, s, len(b), check)
}

// answer waits for the answer to a message of n bytes and checks it.
func answer(t *T, s *Stream, n int, check func([]byte) error) error {
	for {
		m, err := s.Message(t.Times.React)
		if err != nil {
			return fmt.Errorf("no answer to a message of %d bytes: %w (%v)", n, err, s.End())
		}
		switch err := check(m.Data); {
		case err == nil:
			return nil
		case !errors.Is(err, errInterim):
			return fmt.Errorf("answer to a message of %d bytes: %w", n, err)
		}
	}
}

// Exchange sends a message of n bytes of the upper layer and checks the answer.
func (t *T) Exchange(s *Stream, talk Talk, n int) {
	if err := exchange(t, s, talk, n); err != nil {
		t.Fatalf("%v", err)
	}
	t.Logf("a message of %d bytes was answered", n)
}

// Ends fails the case if the connection is up after d, or if a message comes
// before it ends. what is what the other end has to end it for.
func (t *T) Ends(s *Stream, what string, d time.Duration) {
	begin := time.Now()
	m, err := s.Next(d)
	took := time.Since(begin).Round(time.Millisecond)
	switch {
	case err == nil:
		t.Errorf("%s: a message came, % x; the connection has to end without one", what, head(m.Data))
	case errors.Is(err, ErrSilent):
		t.Errorf("%s: the connection is up after %v; it has to end", what, took)
	default:
		t.Logf("%s: ended after %v", what, took)
	}
}

// EndsAnyhow is Ends for where messages may come before the end, as the answer to
// what was sent before, or a grant.
func (t *T) EndsAnyhow(s *Stream, what string, d time.Duration) {
	begin := time.Now()
	if !s.Wait(d) {
		t.Errorf("%s: the connection is up after %v; it has to end", what, d)
		return
	}
	t.Logf("%s: ended after %v", what, time.Since(begin).Round(time.Millisecond))
}

// Quiet fails the case if a message comes or the connection ends within d.
func (t *T) Quiet(s *Stream, what string, d time.Duration) {
	switch m, err := s.Next(d); {
	case err == nil:
		t.Errorf("%s: a message came, % x", what, head(m.Data))
	case !errors.Is(err, ErrSilent):
		t.Errorf("%s: %v", what, s.End())
	default:
		t.Logf("%s: nothing for %v", what, d)
	}
}

// StaysUp waits d, keeps the books of what comes, answers keepalive messages, and
// fails the case if the connection ends.
func (t *T) StaysUp(s *Stream, what string, d time.Duration) {
	for end := time.Now().Add(d); ; {
		f, err := s.receive(time.Until(end))
		switch {
		case err == nil:
			s.fragments = append(s.fragments, f)
			if f.Flags&wire.FlagResponseRequested != 0 && s.Credits > 0 {
				t.Must("post", s.Post(1))
				t.Must("answer", s.SendEmpty(0))
			}
		case errors.Is(err, ErrSilent):
			t.Logf("%s: up for %v", what, d)
			return
		default:
			t.Fatalf("%s: %v (%v)", what, err, s.End())
		}
	}
}

// Clean fails the case for every breach of the rows.
func (t *T) Clean(s *Stream, rows ...string) {
	for _, b := range s.Breaches {
		if slices.Contains(rows, b.Row) {
			t.Errorf("%s: %s", b.Row, b.What)
		}
	}
}

// Want fails the case if got is not want.
func Want[V comparable](t *T, what string, got, want V) {
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// Check fails the case if ok is false.
func (t *T) Check(ok bool, format string, args ...any) {
	if !ok {
		t.Errorf(format, args...)
	}
}

// head is the beginning of a message, for logs.
func head(b []byte) []byte { return b[:min(len(b), 40)] }
