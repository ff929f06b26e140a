package smbdtest

import (
	"context"
	"errors"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// idle makes a connection on which nothing waits: one message was answered, the
// other end has send credits, and no grant is due.
func idle(t *T) *Stream {
	s := t.Establish(PeerConfig{}, Request())
	t.Exchange(s, t.Talk(s), smallSize)
	// What is owed goes out now, so that the clock starts with this message.
	t.Must("wait", s.WaitCredits(3, t.Times.React))
	t.Must("grant", s.SendEmpty(0))
	return s
}

// oneCredit makes a connection on which nothing waits and the other end has one
// send credit. No more is granted by itself.
func oneCredit(t *T) (*Stream, Talk) {
	s := t.Negotiate(PeerConfig{}, Request())
	s.Window = 1
	t.Must("post", s.Post(1))
	talk := t.Talk(s)
	t.Exchange(s, talk, 60)
	t.StaysUp(s, "before the idle time", min(t.Times.Quiet, t.Times.Keepalive/4))
	s.fragments = nil
	s.Window = 0
	if n := 1 - s.Granted; n > 0 {
		t.Must("grant", s.Grant(n))
	}
	return s, talk
}

// probe waits for a message with SMB_DIRECT_RESPONSE_REQUESTED, at most d; what
// comes before it is dropped.
func probe(t *T, s *Stream, d time.Duration) Fragment {
	begin := time.Now()
	for {
		f, err := s.Fragment(d - time.Since(begin))
		if err != nil {
			t.Fatalf("no keepalive message within %v: %v (%v)", d, err, s.End())
		}
		if f.Flags&wire.FlagResponseRequested != 0 {
			t.Logf("keepalive message after %v: %+v", time.Since(begin).Round(time.Millisecond), f.DataTransfer)
			t.Check(f.CreditsRequested > 0, "CreditsRequested of the keepalive message is 0")
			Want(t, "Flags of the keepalive message", f.Flags, wire.FlagResponseRequested)
			Want(t, "DataLength of the keepalive message", f.DataLength, 0)
			Want(t, "DataOffset of the keepalive message", f.DataOffset, 0)
			Want(t, "RemainingDataLength of the keepalive message", f.RemainingDataLength, 0)
			return f
		}
	}
}

var _ = register(
	Case{
		Name: "SmbdDataTransfer_IdleConnection_Client",
		Rows: []string{"SD-94", "SD-71", "SD-50"},
		Spec: "[MS-SMBD] 3.1.5.8",
		Role: Acceptor,
		Doc:  "A message with SMB_DIRECT_RESPONSE_REQUESTED is answered promptly, with an empty message whose Flags are 0, as nothing waits.",
		Run: func(_ context.Context, t *T) {
			s := idle(t)
			for range 3 {
				// What was under way is not the answer.
				t.StaysUp(s, "before the request", t.Times.Quiet)
				s.fragments = nil
				t.Must("wait", s.WaitCredits(1, t.Times.React))
				t.Must("send", s.SendHeader(wire.DataTransfer{CreditsRequested: 10, Flags: wire.FlagResponseRequested}, nil))
				f, err := s.Fragment(t.Times.React)
				if err != nil {
					t.Fatalf("no answer: %v (%v)", err, s.End())
				}
				t.Logf("answer: %+v", f.DataTransfer)
				t.Check(f.CreditsGranted > 0, "CreditsGranted of the answer is 0")
				Want(t, "Flags of the answer", f.Flags, 0)
				Want(t, "DataLength of the answer", f.DataLength, 0)
				Want(t, "DataOffset of the answer", f.DataOffset, 0)
				Want(t, "RemainingDataLength of the answer", f.RemainingDataLength, 0)
			}
			t.Clean(s, senderRows...)
		},
	},
	Case{
		Name:   "SmbdDataTransfer_IdleConnection_Server",
		Rows:   []string{"SD-91", "SD-90", "SD-95"},
		Spec:   "[MS-SMBD] 3.1.6.2, 3.1.5.5",
		Role:   Acceptor,
		Timers: true,
		Doc:    "A connection idle for the keepalive interval gets a message with SMB_DIRECT_RESPONSE_REQUESTED; an answer a second before the limit keeps it up. An answer that carries the flag counts too and is answered once, with Flags 0.",
		Run: func(_ context.Context, t *T) {
			t.Waits(t.Times.Keepalive)
			s := idle(t)
			begin := time.Now()
			probe(t, s, t.Times.Keepalive+t.Times.React)
			t.Check(time.Since(begin) >= t.Times.Keepalive-t.Times.Slack, "it came after %v", time.Since(begin))
			t.StaysUp(s, "before the answer", t.Times.KeepaliveAnswer-t.Times.Slack)
			t.Must("post", s.Post(1))
			t.Must("answer", s.SendEmpty(0))
			// The timer runs anew: the next one comes an interval later.
			begin = time.Now()
			probe(t, s, t.Times.Keepalive+t.Times.React)
			t.Check(time.Since(begin) >= t.Times.Keepalive-t.Times.Slack, "the second came after %v", time.Since(begin))
			s.fragments = nil
			t.Must("post", s.Post(1))
			t.Must("answer with the flag", s.SendEmpty(wire.FlagResponseRequested))
			f, err := s.Fragment(t.Times.React)
			if err != nil {
				t.Fatalf("an answer with the flag was not answered: %v (%v)", err, s.End())
			}
			Want(t, "Flags of the answer to the answer", f.Flags, 0)
			n := len(s.Headers)
			t.StaysUp(s, "after it", min(t.Times.Quiet, t.Times.Keepalive/2))
			for _, h := range s.Headers[n:] {
				t.Check(h.Flags == 0, "the flag bounces: %+v", h)
			}
		},
	},
	Case{
		Name:   "SmbdDataTransfer_IdleConnection_AnyMessage",
		Rows:   []string{"SD-90", "SD-93"},
		Spec:   "[MS-SMBD] 3.1.5.5",
		Role:   Acceptor,
		Timers: true,
		Doc:    "Every message restarts the idle timer: with one at half of the interval no keepalive message comes before one and a half. One with payload answers it.",
		Run: func(_ context.Context, t *T) {
			t.Waits(2 * t.Times.Keepalive)
			s := t.Establish(PeerConfig{}, Request())
			talk := t.Talk(s)
			t.Exchange(s, talk, smallSize)
			t.StaysUp(s, "half of the interval", t.Times.Keepalive/2)
			t.Must("post", s.Post(1))
			t.Must("a message", s.SendEmpty(0))
			begin := time.Now()
			probe(t, s, t.Times.Keepalive+t.Times.React)
			t.Check(time.Since(begin) >= t.Times.Keepalive-t.Times.Slack, "it came %v after a message", time.Since(begin))
			t.Exchange(s, talk, smallSize)
			t.StaysUp(s, "after an answer with payload", t.Times.KeepaliveAnswer)
			t.Exchange(s, talk, smallSize)
		},
	},
	Case{
		Name:   "SmbdDataTransfer_IdleConnection_Server_Timeout",
		Rows:   []string{"SD-93", "SD-92"},
		Spec:   "[MS-SMBD] 3.1.6.2, 3.1.5.1 note 4",
		Role:   Acceptor,
		Timers: true,
		Doc:    "A keepalive message that gets no answer ends the connection after 5 s.",
		Run: func(_ context.Context, t *T) {
			t.Waits(t.Times.Keepalive + t.Times.KeepaliveAnswer)
			s := idle(t)
			probe(t, s, t.Times.Keepalive+t.Times.React)
			s.Window = 0 // no message of ours by itself
			begin := time.Now()
			t.EndsAnyhow(s, "no answer to a keepalive message", t.Times.KeepaliveAnswer+t.Times.React)
			t.Check(time.Since(begin) >= t.Times.KeepaliveAnswer-t.Times.Slack, "it ended after %v already", time.Since(begin))
		},
	},
	Case{
		Name:   "SmbdDataTransfer_IdleConnection_LastCredit",
		Rows:   []string{"SD-91", "SD-42"},
		Spec:   "[MS-SMBD] 3.1.6.2, 3.1.5.1",
		Role:   Acceptor,
		Timers: true,
		Doc:    "With one send credit left the keepalive message comes all the same, and carries a grant.",
		Run: func(_ context.Context, t *T) {
			t.Waits(t.Times.Keepalive)
			s, talk := oneCredit(t)
			// With one more it answers this, and with the answer it grants what it has:
			// the keepalive message needs a receive of its own to grant.
			t.Must("grant", s.Grant(1))
			t.Exchange(s, talk, 60)
			if s.Granted == 0 {
				t.Must("grant", s.Grant(1))
			}
			begin := time.Now()
			for {
				f, err := s.Fragment(t.Times.Keepalive + t.Times.React)
				if err != nil {
					t.Fatalf("no keepalive message: %v (%v)", err, s.End())
				}
				t.Check(f.CreditsGranted > 0, "the last credit went without a grant: %+v", f.DataTransfer)
				if f.Flags&wire.FlagResponseRequested != 0 {
					break
				}
				// An end that grants at once has spent the credit; it gets another.
				t.Must("grant", s.Grant(1))
				begin = time.Now()
			}
			t.Check(time.Since(begin) >= t.Times.Keepalive-t.Times.Slack, "it came after %v", time.Since(begin))
		},
	},
	Case{
		Name:   "SmbdDataTransfer_IdleConnection_NoCredit",
		Rows:   []string{"SD-91", "SD-85"},
		Spec:   "[MS-SMBD] 3.1.6.2",
		Role:   Acceptor,
		Timers: true,
		Doc:    "A keepalive message needs a send credit: without one none comes, and the connection ends.",
		Run: func(_ context.Context, t *T) {
			t.Waits(t.Times.Keepalive + max(t.Times.KeepaliveAnswer, t.Times.Credit))
			s, talk := oneCredit(t)
			// Its answer to this takes its last credit.
			t.Exchange(s, talk, 60)
			Want(t, "the credits of the other end", s.Granted, 0)
			begin := time.Now()
			// Receives that were not granted: a message would be seen.
			t.Must("post", s.PostReceives(4, s.RecvSize))
			m, err := s.Next(t.Times.Keepalive + max(t.Times.KeepaliveAnswer, t.Times.Credit) + t.Times.React)
			switch {
			case err == nil:
				t.Errorf("a message without a credit: % x", head(m.Data))
			case errors.Is(err, ErrSilent):
				t.Errorf("the connection is up")
			}
			t.Check(time.Since(begin) >= t.Times.Keepalive-t.Times.Slack, "it ended after %v already", time.Since(begin))
		},
	},
)
