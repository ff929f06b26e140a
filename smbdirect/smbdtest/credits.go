package smbdtest

import (
	"context"
	"errors"
	"fmt"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// creditCase makes an exchange of many fragments with so many credits each way.
func creditCase(name string, credits uint16, rows ...string) Case {
	return Case{
		Name: name, Rows: rows, Spec: "[MS-SMBD] 3.1.5.9, 3.1.5.1", Role: Acceptor,
		Doc: fmt.Sprintf("Messages of many fragments go both ways with a credit target of %d at each end.", credits),
		Run: func(_ context.Context, t *T) {
			r := with(func(r *wire.NegotiateRequest) { r.CreditsRequested = credits })
			s := t.Negotiate(PeerConfig{}, r)
			s.Window = int(credits)
			t.Must("post", s.Post(s.Window))
			talk := t.Talk(s)
			most := s.Credits
			for _, n := range []int{smallSize, 20000, smallSize} {
				t.Exchange(s, talk, n)
				most = max(most, s.Credits)
			}
			b, check := talk.Fetch(20000)
			t.Must("send", s.SendMessage(b, t.Times.React))
			if err := answer(t, s, len(b), check); err != nil {
				t.Fatalf("%v", err)
			}
			// One above the target may be given so that a last credit can be spent.
			t.Check(most <= int(credits)+1, "%d send credits at once; %d were asked for", most, credits)
			t.Clean(s, senderRows...)
		},
	}
}

// lastCredit checks that no message was sent with the last credit unless it grants.
// granted are the credits that the other end had before the first of headers.
func lastCredit(t *T, headers []wire.DataTransfer, granted int) {
	for i, h := range headers {
		if granted-i == 1 && h.CreditsGranted == 0 {
			t.Errorf("SD-42: message %d took the last credit and grants nothing: %+v", i+1, h)
		}
	}
}

var _ = register(
	creditCase("BVT_SmbdCreditMgmt_OperationWithMinimumCredits", 1, "SD-80"),
	creditCase("SmbdCreditMgmt_OperationWithLimitedCredits", 10, "SD-81", "SD-27", "SD-45"),
	Case{
		Name: "SmbdCreditMgmt_ConsumeAllSendCredits",
		Rows: []string{"SD-74", "SD-50", "SD-43", "SD-45", "SD-73"},
		Spec: "[MS-SMBD] 3.1.5.8, 3.1.5.9",
		Role: Acceptor,
		Doc:  "After all send credits are spent on empty messages an empty message comes by itself and grants more, again and again; all of them together never exceed what was asked for.",
		Run: func(_ context.Context, t *T) {
			s := t.Negotiate(PeerConfig{}, Request())
			total := s.Credits
			sent := 0
			for round := range 5 {
				for s.Credits > 0 {
					t.Must("post", s.Post(1))
					t.Must("send", s.SendEmpty(0))
					sent++
				}
				f, err := s.Fragment(t.Times.React)
				for ; err == nil && f.CreditsGranted == 0; f, err = s.Fragment(t.Times.React) {
				}
				if err != nil {
					t.Fatalf("no grant in round %d: %v (%v)", round, err, s.End())
				}
				t.Logf("%d credits in %+v", f.CreditsGranted, f.DataTransfer)
				Want(t, "DataLength of the grant", f.DataLength, 0)
				Want(t, "DataOffset of the grant", f.DataOffset, 0)
				Want(t, "RemainingDataLength of the grant", f.RemainingDataLength, 0)
				Want(t, "Flags of the grant", f.Flags, 0)
				t.Check(f.CreditsRequested > 0, "CreditsRequested of the grant is 0")
				total += int(f.CreditsGranted)
				// An increment: what was granted in all is within what was used and asked.
				t.Check(total <= sent+int(Request().CreditsRequested)+1, "%d credits were granted in all, %d used, and %d asked for", total, sent, Request().CreditsRequested)
			}
			t.Clean(s, senderRows...)
		},
	},
	Case{
		Name: "SmbdCreditMgmt_Burst",
		Rows: []string{"SD-82", "SD-73", "SD-81"},
		Spec: "[MS-SMBD] 3.1.5.9",
		Role: Acceptor,
		Doc:  "All credits that were granted, spent at once as soon as they are there, find a receive each, with messages of the full size.",
		Run: func(_ context.Context, t *T) {
			r := with(func(r *wire.NegotiateRequest) { r.CreditsRequested = 65535 })
			s := t.Negotiate(PeerConfig{}, r)
			s.Requested = 65535
			if most := t.Limits.ReceiveCreditMax; most > 0 {
				t.Check(s.Credits <= most, "%d credits, above ReceiveCreditMax %d", s.Credits, most)
			}
			s.Window = 64
			t.Must("post", s.Post(s.Window))
			talk := t.Talk(s)
			for round := range 4 {
				// A message that takes all the credits but those that SMB Direct keeps.
				n := s.Credits * (s.SendSize - wire.PayloadOffset)
				t.Logf("round %d: %d credits", round, s.Credits)
				t.Exchange(s, talk, min(n, s.MaxMessage, 1<<17-4096))
				if most := t.Limits.ReceiveCreditMax; most > 0 {
					t.Check(s.Credits <= most, "%d credits, above ReceiveCreditMax %d", s.Credits, most)
				}
			}
		},
	},
	Case{
		Name: "SmbdCreditMgmt_ConsumeAllReceiveCredits",
		Rows: []string{"SD-41", "SD-42", "SD-84", "SD-76", "SD-80"},
		Spec: "[MS-SMBD] 3.1.5.1, 3.1.5.9",
		Role: Acceptor,
		Doc:  "An answer that needs more credits than were granted stops when they are spent, the last of them on a message that grants; it goes on with the next grant and is whole in the end.",
		Run: func(_ context.Context, t *T) {
			s := t.Negotiate(PeerConfig{}, Request())
			const window = 10
			t.Must("post", s.Post(window))
			talk := t.talkWith(s, window)
			b, check := talk.Fetch(moderateSize)
			if err := s.SendMessage(b, t.Times.React); err != nil {
				t.Fatalf("send: %v (%v)", err, s.End())
			}
			pauses, pause := 0, t.Times.Quiet
			for {
				granted, at := s.Granted, len(s.Headers)
				m, err := s.Message(pause)
				if errors.Is(err, ErrSilent) && s.Granted > 0 {
					m, err = s.Message(t.Times.React) // it was slow
				}
				lastCredit(t, s.Headers[at:], granted)
				if err == nil {
					if err = check(m.Data); err == nil {
						break
					}
					if !errors.Is(err, errInterim) {
						t.Fatalf("the answer: %v", err)
					}
					continue
				}
				if !errors.Is(err, ErrSilent) {
					t.Fatalf("after %d pauses: %v (%v)", pauses, err, s.End())
				}
				t.Check(s.Granted == 0, "SD-80: nothing comes, and the other end has %d credits", s.Granted)
				if pauses == 0 {
					t.Quiet(s, "without credits", max(t.Times.Quiet, min(4*t.Times.Quiet, t.Times.React)))
				}
				pause = t.Times.Quiet / 5
				if pauses++; pauses > moderateSize {
					t.Fatalf("no end after %d grants", pauses)
				}
				n := window - s.Granted
				t.Must("post", s.Post(n))
				t.Must("grant", s.SendEmpty(0))
			}
			t.Check(pauses > 0, "the answer never waited for credits")
			t.Clean(s, senderRows...)
		},
	},
	Case{
		Name:   "SmbdCreditMgmt_ConsumeAllCreditServer_Timeout",
		Rows:   []string{"SD-85"},
		Spec:   "[MS-SMBD] 3.1.6.2",
		Role:   Acceptor,
		Timers: true,
		Doc:    "An initiator that grants no more while an answer waits is dropped, at the latest after the keepalive interval.",
		Run: func(_ context.Context, t *T) {
			s := t.Negotiate(PeerConfig{}, Request())
			const window = 10
			t.Must("post", s.Post(window))
			talk := t.talkWith(s, window)
			b, _ := talk.Fetch(moderateSize)
			if err := s.SendMessage(b, t.Times.React); err != nil {
				t.Fatalf("send: %v (%v)", err, s.End())
			}
			t.Waits(t.Times.Credit)
			t.EndsAnyhow(s, "no credits", t.Times.Credit+t.Times.React)
			t.Check(!t.Times.creditKnown || t.Elapsed() >= t.Times.Credit-t.Times.Slack, "it ended after %v already", t.Elapsed())
		},
	},
	Case{
		Name: "SmbdCreditMgmt_NoSendCredit",
		Rows: []string{"SD-41"},
		Spec: "[MS-SMBD] 3.1.5.1",
		Role: Acceptor,
		Doc:  "More messages than there were credits for end the connection: there is no receive for them.",
		Run: func(_ context.Context, t *T) {
			s := t.Negotiate(PeerConfig{}, with(func(r *wire.NegotiateRequest) { r.CreditsRequested = 2 }))
			t.Must("post", s.PostReceives(4, s.RecvSize))
			// It has no credit to grant us more with, so the credits are what they are.
			for i := range s.Credits + 3 {
				if err := s.SendHeader(wire.DataTransfer{CreditsRequested: 2}, nil); err != nil {
					t.Logf("message %d: %v", i, err)
					break
				}
			}
			t.Ends(s, "messages without a credit", t.Times.React)
		},
	},
	Case{
		Name: "SmbdCreditMgmt_TargetChanges",
		Rows: []string{"SD-75"},
		Spec: "[MS-SMBD] 3.1.5.8",
		Role: Acceptor,
		Doc:  "A lower CreditsRequested takes back no credit that was granted: all can be spent. A higher one raises the credits.",
		Run: func(_ context.Context, t *T) {
			s := t.Establish(PeerConfig{}, with(func(r *wire.NegotiateRequest) { r.CreditsRequested = 20 }))
			talk := t.Talk(s)
			s.Requested = 1
			t.Must("lower", s.SendEmpty(0))
			n := s.Credits
			s.sending = true
			for range n - 1 {
				t.Must("post", s.Post(1))
				t.Must("send", s.SendEmpty(0))
			}
			s.sending = false
			t.Exchange(s, talk, smallSize)
			s.Requested = 40
			for range 3 {
				t.Exchange(s, talk, smallSize)
			}
			t.Check(s.Credits > 20, "%d credits after 40 were asked for", s.Credits)
			t.Check(s.Credits <= 41, "%d credits after 40 were asked for", s.Credits)
		},
	},
	Case{
		Name: "SmbdCreditMgmt_ManyGrants",
		Rows: []string{"SD-76"},
		Spec: "[MS-SMBD] 3.1.5.8",
		Role: Acceptor,
		Doc:  "Grants that add up to far more than 65535 are added without wrapping, or end the connection; either way the acceptor lives on.",
		Run: func(_ context.Context, t *T) {
			s := t.Establish(PeerConfig{}, Request())
			talk := t.Talk(s)
			for i := range 300 {
				if err := s.WaitCredits(2, t.Times.React); err != nil {
					t.Check(errors.Is(err, ErrEnded), "message %d: %v", i, err)
					t.Logf("ended after %d grants of 65535", i)
					return
				}
				h := s.Header(0, 0)
				owed := s.Owed
				h.CreditsGranted = 65535
				if err := s.SendHeader(h, nil); err != nil {
					t.Logf("ended after %d grants of 65535", i)
					return
				}
				// What is posted is what counts for us.
				s.Owed, s.Granted = 0, s.Granted-65535+owed
			}
			t.Exchange(s, talk, smallSize)
		},
	},
)

// talkWith opens the upper layer on a stream whose window the case keeps itself:
// what the opening uses is granted again.
func (t *T) talkWith(s *Stream, window int) Talk {
	s.Window = window
	talk := t.Talk(s)
	talk.Prepare(moderateSize)
	s.Window = 0
	if n := window - s.Granted - s.Owed; n > 0 {
		t.Must("post", s.Post(n))
	}
	return talk
}
