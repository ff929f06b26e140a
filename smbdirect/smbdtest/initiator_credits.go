package smbdtest

import (
	"bytes"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// Credits and keepalives of the initiator under test.

var _ = register(
	initiatorCase("FirstGrant", "3.1.5.7, 3.1.5.9",
		"The first Data Transfer message of the initiator grants, by itself, what the Response asked for, and the receives are there.",
		rows("SD-38", "SD-50", "SD-82"), func(t *T) {
			r := Response()
			r.CreditsRequested = 100
			c := t.Pick(PeerConfig{})
			c.Respond(r)
			c.Dialed()
			f, err := c.Fragment(t.Times.React)
			t.Must("first message", err)
			Want(t, "CreditsGranted", f.CreditsGranted, 100)
			Want(t, "payload", f.DataLength, 0)
			for i := range 100 { // all at once
				t.Must("send", c.SendHeader(wire.DataTransfer{CreditsRequested: 100, DataOffset: 24, DataLength: 4}, pattern(4, byte(i))))
			}
			for i := range 100 {
				c.HasHeard(pattern(4, byte(i)))
			}
			c.Window = 8
			c.Talks()
			c.KeptTheRules()
		}),
	initiatorCase("ConsumeAllSendCredits", "3.1.5.1, 3.1.5.9",
		"Credits that were used come back, as many as were used and never more than receives are posted, round after round.",
		rows("SD-43", "SD-45", "SD-73", "SD-74", "SD-82"), func(t *T) {
			c := t.Meet(PeerConfig{}, Response())
			for round := range 20 {
				n := c.Credits
				t.Check(n >= 1 && n <= 10, "round %d: %d credits where 10 were asked for", round, n)
				for i := range n {
					h := c.Header(4, 0)
					t.Must("send", c.SendHeader(h, pattern(4, byte(i))))
				}
				for i := range n {
					c.HasHeard(pattern(4, byte(i)))
				}
				t.Must("new credits", c.WaitCredits(1, t.Times.React))
				t.Check(c.Credits <= 10, "round %d: %d credits", round, c.Credits)
			}
			c.Talks()
			c.KeptTheRules()
		}),
	initiatorCase("Silence", "3.1.5.8",
		"When nothing is to be said the initiator falls silent, whatever empty messages it got.",
		rows("SD-74"), func(t *T) {
			r := Response()
			r.CreditsGranted, r.CreditsRequested = 100, 100
			c := t.Meet(PeerConfig{}, r)
			c.Window = 0
			for range 3 {
				t.Must("send", c.SendEmpty(0))
			}
			for range 20 { // what it says to that dies out
				if _, err := c.Fragment(t.Times.Quiet); err != nil {
					break
				}
				t.Must("send", c.SendEmpty(0))
			}
			t.Quiet(c.Stream, "nothing to say", t.Times.Quiet)
			c.Window = 8
			c.Talks()
		}),
	initiatorCase("ConsumeAllReceiveCredits", "3.1.5.1",
		"With its send credits used up the initiator sends nothing, and goes on with the first grant, in order; the last credit went with a grant.",
		rows("SD-41", "SD-42", "SD-84"), func(t *T) {
			r := Response()
			r.CreditsGranted = 6
			c := t.Meet(PeerConfig{}, r) // the first grant took one of them
			c.Window = 0
			t.Must("post", c.Post(40))
			done := later(func() error {
				for i := range 30 {
					if err := c.Conn.Send(t.ctx, &transport.Message{Parts: [][]byte{pattern(4, byte(i))}}); err != nil {
						return err
					}
				}
				return nil
			})
			got := 0
			take := func(what string) (f Fragment) {
				f, err := c.Fragment(t.Times.React)
				t.Must(what, err)
				if f.DataLength > 0 {
					t.Check(bytes.Equal(f.Payload, pattern(4, byte(got))), "message %d is % x", got, f.Payload)
					got++
				}
				return f
			}
			// One credit is left after four messages. It may go only with a grant.
			for c.Granted > 1 {
				take("message")
			}
			last := Fragment{}
			if f, err := c.Fragment(t.Times.Quiet); err == nil {
				last = f
				if f.DataLength > 0 {
					got++
				}
				t.Check(last.CreditsGranted > 0, "the last credit went without a grant: %+v", last.DataTransfer)
			}
			t.Quiet(c.Stream, "no send credit", t.Times.Quiet)
			before := got
			t.Must("send", c.SendEmpty(0)) // grants the 40
			for got < 30 {
				take("message after the grant")
			}
			t.Check(before < 30, "30 messages with 6 credits")
			t.Must("Send", wait(t, "Send", done, t.Times.React))
			c.Window = 8
			c.KeptTheRules()
		}),
	initiatorCase("OneCreditEachWay", "3.1.5.9",
		"With one credit in each direction messages still pass, both ways.",
		rows("SD-80", "SD-42"), func(t *T) {
			r := Response()
			r.CreditsGranted, r.CreditsRequested = 1, 1
			c := t.Pick(PeerConfig{})
			c.Respond(r)
			c.Dialed()
			c.FirstGrant()
			for i := range 20 {
				t.Must("post", c.Post(1))
				c.Hears(4 + i) // with our one credit, and a grant
				t.Must("a credit", c.WaitCredits(1, t.Times.React))
				c.fragments = nil
				b := pattern(3+i, byte(i))
				done := c.post(&transport.Message{Parts: [][]byte{b}})
				for got := false; !got; {
					t.Must("grant", c.Grant(1))
					f, err := c.Fragment(t.Times.React) // the message, or a grant that was quicker
					t.Must("message", err)
					if got = f.DataLength > 0; got {
						t.Check(bytes.Equal(f.Payload, b), "message %d is % x", i, f.Payload)
					}
					Want(t, "credits", c.Credits, 1)
				}
				t.Must("Send", wait(t, "Send", done, t.Times.React))
			}
			c.KeptTheRules()
		}),
	initiatorCase("OperationWithLimitedCredits", "3.1.5.9",
		"However many credits are asked for, no more are given at a time than the initiator has receives.",
		rows("SD-81"), func(t *T) {
			r := Response()
			r.CreditsRequested = 65535
			c := t.Meet(PeerConfig{}, r)
			most := t.Limits.ReceiveCreditMax
			if most == 0 {
				t.Skipf("the initiator's limit is not known")
			}
			for range 5 {
				t.Check(c.Credits <= most, "%d credits; the initiator has %d receives", c.Credits, most)
				n := c.Credits
				for range n {
					t.Must("send", c.SendHeader(c.Header(1, 0), []byte{1}))
				}
				for range n {
					c.HasHeard([]byte{1})
				}
				t.Must("new credits", c.WaitCredits(1, t.Times.React))
			}
			c.KeptTheRules()
		}),
	initiatorCase("TargetMoves", "3.1.5.8",
		"The target follows CreditsRequested: more are granted when it rises; when it falls what was granted stays good.",
		rows("SD-75"), func(t *T) {
			c := t.Meet(PeerConfig{}, Response())
			had := c.Credits
			h := c.Header(4, 0)
			h.CreditsRequested = 1
			t.Must("send", c.SendHeader(h, pattern(4, 0)))
			c.HasHeard(pattern(4, 0))
			for i := range had - 1 { // all that it had granted before
				t.Must("send", c.SendHeader(h, pattern(4, byte(i))))
				c.HasHeard(pattern(4, byte(i)))
			}
			t.Must("a new credit", c.WaitCredits(1, t.Times.React))
			h.CreditsRequested = 40
			t.Must("send", c.SendHeader(h, pattern(4, 1)))
			c.HasHeard(pattern(4, 1))
			t.Must("more credits", c.WaitCredits(30, t.Times.React))
			t.Check(c.Credits <= 40, "%d credits where 40 were asked for", c.Credits)
			c.Talks()
		}),
	initiatorCase("GrantsAddUp", "3.1.5.8",
		"Grants as large as they can be, again and again, do no harm.",
		rows("SD-76"), func(t *T) {
			c := t.Meet(PeerConfig{}, Response())
			for range 400 {
				t.Must("credit", c.WaitCredits(2, t.Times.React))
				h := c.Header(1, 0)
				h.CreditsGranted = 65535
				owed := c.Owed
				t.Must("send", c.SendHeader(h, []byte{7}))
				c.Owed, c.Granted = 0, c.Granted-65535+owed
				c.HasHeard([]byte{7})
			}
			c.Talks()
		}),
	initiatorCase("MoreMessagesThanCredits", "3.1.5.1",
		"Messages that nobody gave a credit for end the connection.",
		rows("SD-41"), func(t *T) {
			r := Response()
			r.CreditsRequested = 1
			c := t.Meet(PeerConfig{}, r)
			for range 20 { // one credit; a grant to an empty message takes some ms
				if c.SendRaw(Encode(wire.DataTransfer{CreditsRequested: 1}, nil)) != nil {
					break
				}
			}
			c.Lost("20 messages on one credit", t.Times.React)
		}),
	timerCase("NoCreditsForTheWaiting", "3.1.6.2",
		"An acceptor that gives no credits while messages wait is dropped after the time for that; who waits is told.",
		rows("SD-85"), func(t *T) {
			t.Waits(t.Times.Credit)
			r := Response()
			r.CreditsGranted = 1
			c := t.Pick(PeerConfig{})
			c.Respond(r)
			c.Dialed()
			c.FirstGrant() // for its one credit
			done := c.post(&transport.Message{Parts: [][]byte{{1}}})
			t.EndsAnyhow(c.Stream, "no credits", t.Times.Credit+t.Times.React)
			err := wait(t, "Send", done, t.Times.React)
			t.Check(err != nil, "Send worked without a credit")
			t.TimedOut("no credits", err)
		}),

	timerCase("IdleConnection_Server", "3.1.6.2, 3.1.5.1",
		"After the keepalive interval without a message the initiator probes, with Flags 1 and no payload; any message is an answer, after which it probes again.",
		rows("SD-90", "SD-91", "SD-93"), func(t *T) {
			t.Waits(3 * t.Times.Keepalive)
			c := t.Meet(PeerConfig{}, Response())
			for i := range 3 {
				began := time.Now()
				f, err := c.Fragment(t.Times.Keepalive + t.Times.React)
				t.Must("probe", err)
				t.Check(f.Flags == wire.FlagResponseRequested && f.DataLength == 0, "probe %d is %+v", i, f.DataTransfer)
				if took := time.Since(began); t.virtual() {
					t.Check(took > t.Times.Keepalive-time.Second && took < t.Times.Keepalive+time.Second, "probe after %v, want %v", took, t.Times.Keepalive)
				}
				if i == 1 { // a message is as good as an empty one
					c.Hears(5)
				} else {
					t.Must("answer", c.SendEmpty(0))
				}
			}
			c.KeptTheRules()
		}),
	timerCase("IdleConnection_Server_Timeout", "3.1.6.2, 3.1.5.1",
		"A probe that gets no answer within the short time ends the connection.",
		rows("SD-92", "SD-93"), func(t *T) {
			t.Waits(t.Times.Keepalive + t.Times.KeepaliveAnswer)
			c := t.Meet(PeerConfig{}, Response())
			f, err := c.Fragment(t.Times.Keepalive + t.Times.React)
			t.Must("probe", err)
			Want(t, "Flags", f.Flags, wire.FlagResponseRequested)
			began := time.Now()
			err = c.Lost("no answer", t.Times.KeepaliveAnswer+t.Times.React)
			t.TimedOut("no answer", err)
			if took := time.Since(began); t.virtual() {
				t.Check(took > t.Times.KeepaliveAnswer-time.Second && took < t.Times.KeepaliveAnswer+time.Second, "ended after %v, want %v", took, t.Times.KeepaliveAnswer)
			}
		}),
	initiatorCase("IdleConnection_Client", "3.1.5.8",
		"A probe is answered promptly with a message whose Flags are 0, also while nobody takes what was delivered.",
		rows("SD-50", "SD-94", "SD-95"), func(t *T) {
			c := t.Meet(PeerConfig{}, Response())
			t.Must("send", c.SendMessage(pattern(2000, 1), t.Times.React)) // which nobody takes
			for range 5 {
				t.Must("credit", c.WaitCredits(2, t.Times.React))
				t.Must("probe", c.SendEmpty(wire.FlagResponseRequested))
				f, err := c.Fragment(t.Times.React)
				t.Must("answer", err)
				Want(t, "Flags", f.Flags, 0)
				Want(t, "payload", f.DataLength, 0)
			}
			c.HasHeard(pattern(2000, 1))
			c.Talks()
			c.KeptTheRules()
		}),
	timerCase("ProbesCross", "3.1.5.8",
		"A probe that comes while the initiator's own is out counts as its answer, and is answered with Flags 0; nothing goes back and forth.",
		rows("SD-95"), func(t *T) {
			t.Waits(t.Times.Keepalive)
			c := t.Meet(PeerConfig{}, Response())
			f, err := c.Fragment(t.Times.Keepalive + t.Times.React)
			t.Must("probe", err)
			Want(t, "Flags", f.Flags, wire.FlagResponseRequested)
			t.Must("probe", c.SendEmpty(wire.FlagResponseRequested))
			f, err = c.Fragment(t.Times.React)
			t.Must("answer", err)
			Want(t, "Flags of the answer", f.Flags, 0)
			t.Quiet(c.Stream, "after the answer", min(t.Times.Quiet, t.Times.Keepalive/4))
			c.Talks()
		}),
)
