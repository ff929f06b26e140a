package model

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// script is a hand-written run. Both ends have a maximum of 8 receives and a
// target of 4, messages of 128 bytes (104 octets of payload), 3 sends under way
// and 2 messages in SendQueue.
type script struct {
	t   *testing.T
	m   *Model
	now time.Duration
	err error
}

func endOf(r Role) End {
	return End{
		Role: r, Prompt: true, Deliveries: true, ReceiveCreditMax: 8, SendCreditTarget: 4, MaxSendSize: 128, MaxReceiveSize: 512, MaxFragmentedSize: 131072,
		SendDepth: 3, QueueDepth: 2, NegotiateTimeout: 5 * time.Second, KeepaliveInterval: 120 * time.Second, CreditTimeout: time.Minute, GrantDelay: 5 * time.Millisecond,
	}
}

func (s *script) ev(end Side, ev Event) *script {
	ev.At, ev.End = s.now, end
	if err := s.m.Apply(&ev); err != nil && s.err == nil {
		s.err = err
	}
	return s
}

func (s *script) at(d time.Duration) *script { s.now = time.Second + d; return s }
func (s *script) post(e Side, n, asked int, size uint32) *script {
	return s.ev(e, Event{Kind: Post, N: n, Asked: asked, Size: size})
}
func (s *script) rest(e Side) *script { return s.ev(e, Event{Kind: Rest}) }
func (s *script) tick() *script       { return s.ev(A, Event{Kind: Tick}) }
func (s *script) still() *script      { return s.ev(A, Event{Kind: Still}) }
func (s *script) done(e Side, n int) *script {
	return s.ev(e, Event{Kind: Complete, N: n})
}
func (s *script) end(e Side, c Cause) *script { return s.ev(e, Event{Kind: Terminate, Cause: c}) }
func (s *script) submit(e Side, id uint64, p []byte, r Result) *script {
	return s.ev(e, Event{Kind: Submit, ID: id, Bytes: p, Result: r})
}
func (s *script) arrive(e Side, b []byte) *script { return s.ev(e, Event{Kind: Arrive, Bytes: b}) }
func (s *script) send(e Side, id uint64, b []byte) *script {
	return s.ev(e, Event{Kind: Send, ID: id, Bytes: b})
}

// pass is send and arrive of a message without payload.
func (s *script) pass(e Side, b []byte) *script {
	return s.send(e, 0, b).arrive(e.Other(), b)
}

func (s *script) deliver(e Side, p []byte, off, total uint32, last bool) *script {
	return s.ev(e, Event{Kind: Deliver, Bytes: p, Offset: off, Total: total, Last: last})
}

// data is a Data Transfer message with all fields as they are on the wire.
func data(req, grant, flags uint16, remaining, offset, length uint32, payload []byte) []byte {
	b, _ := wire.DataTransfer{CreditsRequested: req, CreditsGranted: grant, Flags: flags, RemainingDataLength: remaining}.AppendBinary(nil)
	b[12], b[13], b[14], b[15] = byte(offset), byte(offset>>8), byte(offset>>16), byte(offset>>24)
	b[16], b[17], b[18], b[19] = byte(length), byte(length>>8), byte(length>>16), byte(length>>24)
	if len(payload) > 0 {
		b = append(append(b, 0, 0, 0, 0), payload...)
	}
	return b
}

func empty(grant, flags uint16) []byte { return data(4, grant, flags, 0, 0, 0, nil) }
func full(grant uint16, p []byte) []byte {
	return data(4, grant, 0, 0, 24, uint32(len(p)), p)
}

func request(credits uint16) []byte {
	b, _ := wire.NegotiateRequest{MinVersion: 0x100, MaxVersion: 0x100, CreditsRequested: credits, PreferredSendSize: 128, MaxReceiveSize: 512, MaxFragmentedSize: 131072}.AppendBinary(nil)
	return b
}

func response(grant uint16) []byte {
	b, _ := wire.NegotiateResponse{
		MinVersion: 0x100, MaxVersion: 0x100, NegotiatedVersion: 0x100, CreditsRequested: 4, CreditsGranted: grant, MaxReadWriteSize: 1 << 20,
		PreferredSendSize: 128, MaxReceiveSize: 128, MaxFragmentedSize: 131072,
	}.AppendBinary(nil)
	return b
}

func newScript(t *testing.T) *script {
	s := &script{t: t, m: New(endOf(Initiator), endOf(Acceptor)), now: time.Second}
	for _, e := range []Side{A, B} {
		s.ev(e, Event{Kind: Start}).post(e, 1, 1, 512)
	}
	return s
}

func (s *script) connected(e Side) *script {
	return s.ev(e, Event{Kind: Connected, Interval: 120 * time.Second, Timeout: 5 * time.Second}).rest(e)
}

// negotiated: B granted 4, A has posted 4 and granted none.
func negotiated(t *testing.T) *script {
	s := newScript(t).send(A, 0, request(4)).arrive(B, request(4)).post(B, 4, 4, 128)
	return s.send(B, 0, response(4)).connected(B).arrive(A, response(4)).post(A, 4, 4, 128).connected(A).done(A, 1).done(B, 1)
}

// open: A granted its 4 with an empty message; A has 3 credits, B 4.
func open(t *testing.T) *script {
	return negotiated(t).pass(A, empty(4, 0)).rest(A).rest(B).done(A, 1)
}

// spent: B used 3 of its 4 credits for "abc", of which A delivered each octet and
// gave nothing back, as it is behind.
func spent(t *testing.T) *script {
	s := open(t).ev(A, Event{Kind: HoldOn})
	// The first takes along the receive that A's message freed.
	grant := uint16(1)
	for i, c := range "abc" {
		p := []byte{byte(c)}
		s.submit(B, uint64(i+1), p, Accepted)
		if grant == 1 {
			s.post(B, 1, 1, 128)
		}
		s.send(B, uint64(i+1), full(grant, p)).rest(B).arrive(A, full(grant, p)).deliver(A, p, 0, 1, true).rest(A).done(B, 1)
		grant = 0
	}
	return s
}

// stuck: B has no credit left, and message 5 waits.
func stuck(t *testing.T) *script {
	s := spent(t).submit(B, 4, []byte("d"), Accepted).post(B, 1, 1, 128).send(B, 4, full(1, []byte("d"))).rest(B).done(B, 1)
	return s.submit(B, 5, []byte("e"), Accepted).rest(B)
}

// wide: the request of an initiator that wants more than B's maximum has arrived.
func wide(t *testing.T) *script {
	a := endOf(Initiator)
	a.SendCreditTarget = 100
	s := &script{t: t, m: New(a, endOf(Acceptor)), now: time.Second}
	for _, e := range []Side{A, B} {
		s.ev(e, Event{Kind: Start}).post(e, 1, 1, 512)
	}
	return s.send(A, 0, request(100)).arrive(B, request(100))
}

var tenOctets = []byte("0123456789")

// TestLaws has, for each law, a run that breaks it in its last event, and the same
// with that event as it should be.
func TestLaws(t *testing.T) {
	octets := func(n int) []byte {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(i * 7)
		}
		return p
	}
	long := octets(150) // 104 and 46 octets
	judged := map[Law]bool{}
	for _, c := range []struct {
		name string
		law  Law
		run  func(*testing.T) *script
		bad  func(*script) *script
		good func(*script) *script
	}{
		{"a message at no credit", Credit, func(t *testing.T) *script {
			// B spends its last with the spare receive of A's making.
			return spent(t).submit(B, 4, []byte("d"), Accepted).post(B, 1, 1, 128).send(B, 4, full(1, []byte("d"))).rest(B).done(B, 1).submit(B, 5, []byte("e"), Accepted)
		}, func(s *script) *script { return s.send(B, 5, full(0, []byte("e"))) }, func(s *script) *script { return s.rest(B) }},
		{"a credit that the end did not get", Conservation, open,
			func(s *script) *script {
				return s.ev(A, Event{Kind: Rest, Claim: Claim{Valid: true, SendCredits: 4, ReceiveCredits: 4, Target: 4, SendSize: 128, ReceiveSize: 128, FragSend: 131072}})
			},
			func(s *script) *script {
				return s.ev(A, Event{Kind: Rest, Claim: Claim{Valid: true, SendCredits: 3, ReceiveCredits: 4, Target: 4, SendSize: 128, ReceiveSize: 128, FragSend: 131072}})
			}},
		{"a receive that is not there", Conservation, open,
			func(s *script) *script {
				return s.ev(B, Event{Kind: Rest, Claim: Claim{Valid: true, SendCredits: 4, ReceiveCredits: 4, Target: 4, SendSize: 128, ReceiveSize: 128, FragSend: 131072}})
			},
			func(s *script) *script {
				return s.ev(B, Event{Kind: Rest, Claim: Claim{Valid: true, SendCredits: 4, ReceiveCredits: 3, Target: 4, SendSize: 128, ReceiveSize: 128, FragSend: 131072}})
			}},
		{"a grant of more than is posted", PostedFirst, negotiated,
			func(s *script) *script { return s.send(A, 0, empty(5, 0)) }, func(s *script) *script { return s.send(A, 0, empty(4, 0)) }},
		{"a response that grants before the post", PostedFirst, func(t *testing.T) *script {
			return newScript(t).send(A, 0, request(4)).arrive(B, request(4)).post(B, 4, 4, 128)
		}, func(s *script) *script { return s.send(B, 0, response(5)) }, func(s *script) *script { return s.send(B, 0, response(4)) }},
		{"more receives than ReceiveCreditMax", Limit, func(t *testing.T) *script {
			return wide(t)
		}, func(s *script) *script { return s.post(B, 9, 9, 128).send(B, 0, response(9)).connected(B) },
			func(s *script) *script { return s.post(B, 8, 8, 128).send(B, 0, response(8)).connected(B) }},
		{"the last credit without a grant", LastCredit, func(t *testing.T) *script {
			return spent(t).submit(B, 4, []byte("d"), Accepted)
		}, func(s *script) *script { return s.send(B, 4, full(0, []byte("d"))) },
			func(s *script) *script { return s.post(B, 1, 1, 128).send(B, 4, full(1, []byte("d"))) }},
		{"a receive that is not announced", Announced, func(t *testing.T) *script {
			return open(t).submit(B, 1, []byte("a"), Accepted).post(B, 1, 1, 128)
		}, func(s *script) *script { return s.send(B, 1, full(0, []byte("a"))) }, func(s *script) *script { return s.send(B, 1, full(1, []byte("a"))) }},
		{"the target is not raised to", Target, func(t *testing.T) *script {
			return open(t).submit(B, 1, []byte("a"), Accepted)
		}, func(s *script) *script { return s.send(B, 1, full(0, []byte("a"))) },
			func(s *script) *script { return s.post(B, 1, 1, 128).send(B, 1, full(1, []byte("a"))) }},
		{"more than the target", Target, open,
			func(s *script) *script { return s.post(B, 2, 2, 128) }, func(s *script) *script { return s.post(B, 1, 1, 128) }},
		{"CreditsRequested is another than the target", Request, negotiated,
			func(s *script) *script { return s.send(A, 0, data(5, 4, 0, 0, 0, 0, nil)) }, func(s *script) *script { return s.send(A, 0, empty(4, 0)) }},
		{"CreditsRequested 0", Request, negotiated,
			func(s *script) *script { return s.send(A, 0, data(0, 4, 0, 0, 0, 0, nil)) }, func(s *script) *script { return s.send(A, 0, empty(4, 0)) }},
		{"a request for another number of credits", Request, newScript,
			func(s *script) *script { return s.send(A, 0, request(5)) }, func(s *script) *script { return s.send(A, 0, request(4)) }},
		{"a message that nobody sent", OneReceive, open,
			func(s *script) *script { return s.arrive(A, empty(1, 0)) }, func(s *script) *script { return s.post(B, 1, 1, 128).pass(B, empty(1, 0)) }},
		{"a message that overtakes", OneReceive, func(t *testing.T) *script {
			return open(t).submit(B, 1, []byte("a"), Accepted).post(B, 1, 1, 128).send(B, 1, full(1, []byte("a"))).submit(B, 2, []byte("b"), Accepted).send(B, 2, full(0, []byte("b")))
		}, func(s *script) *script { return s.arrive(A, full(0, []byte("b"))) }, func(s *script) *script { return s.arrive(A, full(1, []byte("a"))) }},
		{"a receive of another size", OneReceive, open,
			func(s *script) *script { return s.post(B, 1, 1, 512) }, func(s *script) *script { return s.post(B, 1, 1, 128) }},
		{"a response without a grant", FirstGrant, func(t *testing.T) *script {
			return newScript(t).send(A, 0, request(4)).arrive(B, request(4)).post(B, 4, 4, 128)
		}, func(s *script) *script { return s.send(B, 0, response(0)) }, func(s *script) *script { return s.send(B, 0, response(4)) }},
		{"a message that could go and does not", Progress, func(t *testing.T) *script {
			return open(t).submit(B, 1, []byte("a"), Accepted)
		}, func(s *script) *script { return s.rest(B) }, func(s *script) *script { return s.post(B, 1, 1, 128).send(B, 1, full(1, []byte("a"))).rest(B) }},
		{"the spare receive is not used", Progress, func(t *testing.T) *script {
			return spent(t).submit(B, 4, []byte("d"), Accepted)
		}, func(s *script) *script { return s.rest(B) },
			func(s *script) *script { return s.post(B, 1, 1, 128).send(B, 4, full(1, []byte("d"))).rest(B) }},
		{"a deadlock", Progress, func(t *testing.T) *script {
			s := spent(t).submit(B, 4, []byte("d"), Accepted).post(B, 1, 1, 128).send(B, 4, full(1, []byte("d"))).rest(B).done(B, 1)
			s.arrive(A, full(1, []byte("d"))).deliver(A, []byte("d"), 0, 1, true).rest(A)
			return s.submit(B, 5, []byte("e"), Accepted).rest(B).ev(A, Event{Kind: HoldOff})
		}, func(s *script) *script { return s.at(time.Second).still() },
			func(s *script) *script { return s.post(A, 4, 4, 128).send(A, 0, empty(4, 0)).rest(A).still() }},
		{"two ends that do not fall silent", Quiet, func(t *testing.T) *script {
			s := open(t)
			for i := range quietRun - 1 {
				e := Side((i + 1) % 2)
				s.post(e, 1, 1, 128).pass(e, empty(1, 0)).done(e, 1)
			}
			return s
		}, func(s *script) *script { return s.post(A, 1, 1, 128).pass(A, empty(1, 0)) },
			func(s *script) *script {
				return s.submit(A, 1, []byte("a"), Accepted).post(A, 1, 1, 128).send(A, 1, full(1, []byte("a")))
			}},
		{"an octet that is not the message's", Octets, func(t *testing.T) *script {
			return open(t).submit(A, 1, tenOctets, Accepted)
		}, func(s *script) *script { return s.send(A, 1, full(0, []byte("0123456788"))) }, func(s *script) *script { return s.send(A, 1, full(0, tenOctets)) }},
		{"RemainingDataLength is wrong", Octets, func(t *testing.T) *script {
			return open(t).submit(A, 1, long, Accepted)
		}, func(s *script) *script { return s.send(A, 1, data(4, 0, 0, 45, 24, 104, long[:104])) },
			func(s *script) *script { return s.send(A, 1, data(4, 0, 0, 46, 24, 104, long[:104])) }},
		{"a fragment that is not full", Octets, func(t *testing.T) *script {
			return open(t).submit(A, 1, long, Accepted)
		}, func(s *script) *script { return s.send(A, 1, data(4, 0, 0, 47, 24, 103, long[:103])) },
			func(s *script) *script { return s.send(A, 1, data(4, 0, 0, 46, 24, 104, long[:104])) }},
		{"an empty message between fragments", Octets, func(t *testing.T) *script {
			return open(t).submit(A, 1, long, Accepted).send(A, 1, data(4, 0, 0, 46, 24, 104, long[:104]))
		}, func(s *script) *script { return s.send(A, 0, empty(0, 0)) },
			func(s *script) *script { return s.post(B, 1, 1, 128).rest(B) }},
		{"messages out of order", Octets, func(t *testing.T) *script {
			return open(t).submit(A, 1, []byte("a"), Accepted).submit(A, 2, []byte("b"), Accepted)
		}, func(s *script) *script { return s.send(A, 2, full(0, []byte("b"))) }, func(s *script) *script { return s.send(A, 1, full(0, []byte("a"))) }},
		{"a message that is delivered twice", Octets, func(t *testing.T) *script {
			return open(t).submit(A, 1, tenOctets, Accepted).send(A, 1, full(0, tenOctets)).arrive(B, full(0, tenOctets)).deliver(B, tenOctets, 0, 10, true)
		}, func(s *script) *script { return s.deliver(B, tenOctets, 0, 10, true) }, func(s *script) *script { return s }},
		{"a message that is not delivered", Octets, func(t *testing.T) *script {
			return open(t).submit(A, 1, tenOctets, Accepted).send(A, 1, full(0, tenOctets)).rest(A).arrive(B, full(0, tenOctets))
		}, func(s *script) *script { return s.rest(B) },
			func(s *script) *script {
				return s.deliver(B, tenOctets, 0, 10, true).post(B, 2, 2, 128).send(B, 0, empty(2, 0)).rest(B)
			}},
		{"a fragment at the wrong place", Octets, func(t *testing.T) *script {
			b := data(4, 0, 0, 46, 24, 104, long[:104])
			e := data(4, 0, 0, 0, 24, 46, long[104:])
			return open(t).submit(A, 1, long, Accepted).send(A, 1, b).arrive(B, b).deliver(B, long[:104], 0, 150, false).send(A, 1, e).arrive(B, e)
		}, func(s *script) *script { return s.deliver(B, long[104:], 103, 150, true) }, func(s *script) *script { return s.deliver(B, long[104:], 104, 150, true) }},
		{"a token with the first fragment", Token, func(t *testing.T) *script {
			return open(t).ev(A, Event{Kind: Submit, ID: 1, Bytes: long, Token: 7, HasToken: true})
		}, func(s *script) *script {
			return s.ev(A, Event{Kind: Send, ID: 1, Bytes: data(4, 0, 0, 46, 24, 104, long[:104]), Token: 7, HasToken: true})
		}, func(s *script) *script {
			return s.send(A, 1, data(4, 0, 0, 46, 24, 104, long[:104])).ev(A, Event{Kind: Send, ID: 1, Bytes: data(4, 0, 0, 0, 24, 46, long[104:]), Token: 7, HasToken: true})
		}},
		{"a token that is lost", Token, func(t *testing.T) *script {
			return open(t).ev(A, Event{Kind: Submit, ID: 1, Bytes: tenOctets, Token: 7, HasToken: true})
		}, func(s *script) *script { return s.send(A, 1, full(0, tenOctets)) },
			func(s *script) *script {
				return s.ev(A, Event{Kind: Send, ID: 1, Bytes: full(0, tenOctets), Token: 7, HasToken: true})
			}},
		{"a token that is reported twice", Token, func(t *testing.T) *script {
			s := open(t).ev(A, Event{Kind: Submit, ID: 1, Bytes: []byte("a"), Token: 7, HasToken: true}).submit(A, 2, []byte("b"), Accepted)
			s.ev(A, Event{Kind: Send, ID: 1, Bytes: full(0, []byte("a")), Token: 7, HasToken: true}).send(A, 2, full(0, []byte("b")))
			s.ev(B, Event{Kind: Arrive, Bytes: full(0, []byte("a")), Token: 7, HasToken: true})
			s.ev(B, Event{Kind: Deliver, Bytes: []byte("a"), Total: 1, Last: true, Token: 7, HasToken: true})
			return s.arrive(B, full(0, []byte("b")))
		}, func(s *script) *script {
			return s.ev(B, Event{Kind: Deliver, Bytes: []byte("b"), Total: 1, Last: true, Token: 7, HasToken: true})
		}, func(s *script) *script { return s.deliver(B, []byte("b"), 0, 1, true) }},
		{"a message after the end", AfterEnd, func(t *testing.T) *script { return open(t).ev(A, Event{Kind: Lost}) },
			func(s *script) *script { return s.send(A, 0, empty(1, 0)) }, func(s *script) *script { return s.submit(A, 1, tenOctets, Closed) }},
		{"a message that is taken after the end", AfterEnd, func(t *testing.T) *script { return open(t).ev(A, Event{Kind: Lost}) },
			func(s *script) *script { return s.submit(A, 1, tenOctets, Accepted) }, func(s *script) *script { return s.rest(A) }},
		{"no probe", Keepalive, func(t *testing.T) *script { return open(t).at(121 * time.Second) },
			func(s *script) *script { return s.tick() },
			func(s *script) *script {
				return s.at(120*time.Second).post(B, 1, 1, 128).pass(B, empty(1, 1)).rest(B).post(A, 1, 1, 128).send(A, 0, empty(1, 0)).rest(A).tick()
			}},
		{"a probe too early", Keepalive, func(t *testing.T) *script { return open(t).at(119 * time.Second) },
			func(s *script) *script { return s.send(A, 0, empty(0, 1)) }, func(s *script) *script { return s.at(120*time.Second).send(A, 0, empty(0, 1)) }},
		{"a probe that is bounced", Keepalive, func(t *testing.T) *script {
			return open(t).at(120*time.Second).pass(A, empty(0, 1)).post(B, 2, 2, 128)
		}, func(s *script) *script { return s.send(B, 0, empty(2, 1)) }, func(s *script) *script { return s.send(B, 0, empty(2, 0)).rest(B) }},
		{"a probe that is not answered", Keepalive, func(t *testing.T) *script {
			return open(t).at(120*time.Second).pass(A, empty(0, 1))
		}, func(s *script) *script { return s.rest(B) }, func(s *script) *script { return s.post(B, 2, 2, 128).send(B, 0, empty(2, 0)).rest(B) }},
		{"a dead peer is waited for", Keepalive, func(t *testing.T) *script {
			return open(t).ev(B, Event{Kind: Lost}).at(120*time.Second).send(A, 0, empty(0, 1)).rest(A).at(126 * time.Second)
		}, func(s *script) *script { return s.tick() }, func(s *script) *script { return s.end(A, IdleTimeout).tick() }},
		{"a message longer than negotiated", Size, func(t *testing.T) *script {
			return open(t).submit(A, 1, long, Accepted)
		}, func(s *script) *script { return s.send(A, 1, data(4, 0, 0, 45, 24, 105, long[:105])) },
			func(s *script) *script { return s.send(A, 1, data(4, 0, 0, 46, 24, 104, long[:104])) }},
		{"a negotiation without an end", Deadline, func(t *testing.T) *script { return newScript(t).send(A, 0, request(4)).at(5*time.Second + 1) },
			func(s *script) *script { return s.tick() }, func(s *script) *script { return s.end(A, NegotiateTimeout).end(B, NegotiateTimeout).tick() }},
		{"credits are waited for without an end", Deadline, func(t *testing.T) *script {
			return stuck(t).at(time.Minute + 1)
		}, func(s *script) *script { return s.tick() }, func(s *script) *script { return s.end(B, CreditTimeout).tick() }},
		{"the credit timer is too short", Deadline, func(t *testing.T) *script {
			return stuck(t).at(59 * time.Second)
		}, func(s *script) *script { return s.end(B, CreditTimeout) }, func(s *script) *script { return s.at(time.Minute).end(B, CreditTimeout) }},
		{"a first grant that does not come", Deadline, func(t *testing.T) *script { return negotiated(t).rest(A).at(6 * time.Millisecond) },
			func(s *script) *script { return s.tick() }, func(s *script) *script { return s.send(A, 0, empty(4, 0)).rest(A).tick() }},
		{"a forbidden message is taken", Reaction, func(t *testing.T) *script {
			return open(t).ev(A, Event{Kind: Tamper}).arrive(B, data(0, 1, 0, 0, 0, 0, nil))
		}, func(s *script) *script { return s.rest(B) }, func(s *script) *script { return s.end(B, Protocol).rest(B) }},
		{"a good message is taken for forbidden", Reaction, func(t *testing.T) *script {
			return open(t).pass(A, empty(0, 0))
		}, func(s *script) *script { return s.end(B, Protocol) }, func(s *script) *script { return s.rest(B) }},
		{"a forbidden request is answered", Reaction, func(t *testing.T) *script {
			return newScript(t).ev(A, Event{Kind: Tamper}).arrive(B, request(0))
		}, func(s *script) *script { return s.send(B, 0, response(1)) }, func(s *script) *script { return s.end(B, Protocol) }},
		{"receives are posted for a user who is behind", Hold, func(t *testing.T) *script { return open(t).ev(B, Event{Kind: HoldOn}) },
			func(s *script) *script { return s.post(B, 1, 1, 128) }, func(s *script) *script { return s.ev(B, Event{Kind: HoldOff}).post(B, 1, 1, 128) }},
		{"too many sends under way", Queues, func(t *testing.T) *script {
			s := wide(t).post(B, 8, 8, 128).send(B, 0, response(8)).connected(B).arrive(A, response(8)).post(A, 4, 4, 128).connected(A)
			return s.send(A, 0, data(100, 4, 0, 0, 0, 0, nil)).send(A, 0, data(100, 0, 0, 0, 0, 0, nil)) // with the request three
		}, func(s *script) *script { return s.send(A, 0, data(100, 0, 0, 0, 0, 0, nil)) },
			func(s *script) *script { return s.done(A, 1).send(A, 0, data(100, 0, 0, 0, 0, 0, nil)) }},
		{"a full queue takes a message", Queues, func(t *testing.T) *script {
			return stuck(t).submit(B, 6, []byte("f"), Accepted).rest(B)
		}, func(s *script) *script { return s.submit(B, 7, []byte("g"), Accepted) }, func(s *script) *script { return s.submit(B, 7, []byte("g"), Full) }},
		{"a message longer than the peer takes", Queues, open,
			func(s *script) *script { return s.submit(A, 1, make([]byte, 131073), Accepted) }, func(s *script) *script { return s.submit(A, 1, make([]byte, 131073), TooLong) }},
		{"a message that was begun is cancelled", Queues, func(t *testing.T) *script {
			return open(t).submit(A, 1, long, Accepted).send(A, 1, data(4, 0, 0, 46, 24, 104, long[:104]))
		}, func(s *script) *script { return s.ev(A, Event{Kind: Cancel, ID: 1, Result: Accepted}) },
			func(s *script) *script { return s.ev(A, Event{Kind: Cancel, ID: 1, Result: NotFound}) }},
		{"more completions than sends", Queues, open,
			func(s *script) *script { return s.done(A, 1) }, func(s *script) *script { return s.send(A, 0, empty(0, 0)).done(A, 1) }},
		{"a response with another size", Negotiation, func(t *testing.T) *script {
			return newScript(t).send(A, 0, request(4)).arrive(B, request(4)).post(B, 4, 4, 128)
		}, func(s *script) *script { b := response(4); b[20] = 129; return s.send(B, 0, b) }, func(s *script) *script { return s.send(B, 0, response(4)) }},
		{"no answer to a version", Negotiation, func(t *testing.T) *script {
			b := request(4)
			b[0], b[2] = 1, 1 // 0x0101 to 0x0101
			return newScript(t).ev(A, Event{Kind: Tamper}).arrive(B, b)
		}, func(s *script) *script { return s.send(B, 0, response(4)) }, func(s *script) *script {
			b := response(0)
			b[12] = 0xbb
			return s.send(B, 0, b).end(B, Refused)
		}},
		{"a peer that sends payload is not refilled", Refill, func(t *testing.T) *script {
			p := []byte("a")
			return open(t).submit(A, 1, p, Accepted).send(A, 1, full(0, p)).arrive(B, full(0, p)).deliver(B, p, 0, 1, true)
		}, func(s *script) *script { return s.rest(B) }, func(s *script) *script { return s.post(B, 2, 2, 128).send(B, 0, empty(2, 0)).rest(B) }},
	} {
		judged[c.law] = true
		t.Run(fmt.Sprintf("%v: %s", c.law, c.name), func(t *testing.T) {
			s := c.run(t)
			if s.err != nil {
				t.Fatalf("before the event in question: %v", s.err)
			}
			s = c.bad(s)
			if v, ok := errors.AsType[*Violation](s.err); !ok || v.Law != c.law {
				t.Errorf("got %v, want a breach of %v", s.err, c.law)
			} else if s.m.Err() != s.err || !strings.Contains(s.err.Error(), lawNames[c.law]) {
				t.Errorf("Err is %v, of %v", s.m.Err(), s.err)
			}
			if s = c.good(c.run(t)); s.err != nil {
				t.Errorf("the event as it should be: %v", s.err)
			}
		})
	}
	for _, l := range Laws() {
		if !judged[l] {
			t.Errorf("%v has no test", l)
		}
	}
}

// A change of an event changes the digest, and the same events have the same.
func TestHash(t *testing.T) {
	a, b, c := open(t), open(t), open(t).tick()
	if a.err != nil || a.m.Hash() != b.m.Hash() || a.m.Hash() == c.m.Hash() {
		t.Errorf("%v; digests %x, %x, %x", a.err, a.m.Hash(), b.m.Hash(), c.m.Hash())
	}
}

// Once broken, the model says so for ever, with the event and both ends.
func TestViolation(t *testing.T) {
	s := negotiated(t).send(A, 0, empty(5, 0))
	want := s.err
	if s.rest(A); s.m.Err() != want || s.m.Apply(&Event{Kind: Tick}) != want {
		t.Errorf("%v, then %v", want, s.m.Err())
	}
	for _, part := range []string{"law 3 (posted first)", "event 16 (1s A send req=4 grant=5", "5 granted in all, 4 posted", "A: established S=1", "B: established S=0"} {
		if !strings.Contains(want.Error(), part) {
			t.Errorf("%q is not in %q", part, want)
		}
	}
}

// A foreign end is judged by nobody; a message that it sends is.
func TestForeign(t *testing.T) {
	s := &script{t: t, m: New(End{Role: Initiator, Foreign: true}, endOf(Acceptor)), now: time.Second}
	s.ev(B, Event{Kind: Start}).post(B, 1, 1, 512).arrive(B, request(4)).post(B, 4, 4, 128).send(B, 0, response(4)).connected(B)
	for range 4 {
		s.arrive(B, empty(0, 0)).rest(B) // its last credit without a grant, and B has none to answer
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
	s.ev(B, Event{Kind: Arrive, Bytes: empty(0, 0)})
	if v, ok := errors.AsType[*Violation](s.err); !ok || v.Law != OneReceive {
		t.Errorf("a fifth message of four: %v", s.err)
	}
}

func TestStats(t *testing.T) {
	var sum Stats
	if n := len(sum.Missing()); n != len(sum.fields()) {
		t.Errorf("%d of %d counters are missing", n, len(sum.fields()))
	}
	s := open(t)
	sum.Add(s.m.Stats())
	sum.Add(s.m.Stats())
	if sum.Sends != 2 || sum.Grants != 8 || slices.Contains(sum.Missing(), "sends") || !strings.Contains(sum.String(), "sends 2, receives 2") {
		t.Errorf("%s", sum.String())
	}
}
