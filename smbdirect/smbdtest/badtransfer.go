package smbdtest

import (
	"context"
	"fmt"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// violation is one way to break a rule: what is sent on an established connection
// whose end has no send credit yet, so that nothing can come before it ends.
type violation struct {
	what string
	send func(t *T, s *Stream)
}

// ends makes a case of violations: each ends its connection without an answer.
func ends(name string, rows []string, doc string, all ...violation) Case {
	return Case{
		Name: name, Rows: append(rows, "SD-79"), Spec: "[MS-SMBD] 3.1.5.8", Role: Acceptor, Doc: doc,
		Run: func(_ context.Context, t *T) {
			for _, v := range all {
				s := t.Negotiate(PeerConfig{}, Request())
				// A receive that is not granted: a message would break SD-41 too.
				t.Must("post", s.PostReceives(2, s.RecvSize))
				v.send(t, s)
				t.Ends(s, v.what, t.Times.React)
				s.Close()
			}
		},
	}
}

// header is a violation by one message with n bytes of payload whose header is
// changed.
func header(what string, n int, change func(h *wire.DataTransfer, s *Stream)) violation {
	return violation{what, func(t *T, s *Stream) {
		h := wire.DataTransfer{CreditsRequested: 10, DataOffset: wire.PayloadOffset, DataLength: uint32(n)}
		if n == 0 {
			h.DataOffset = 0
		}
		change(&h, s)
		t.Logf("%s: %+v", what, h)
		t.Must("send", s.SendHeader(h, make([]byte, n)))
	}}
}

// fragments is a violation in the header of fragment bad of a message.
func fragments(what string, bad func(all int) int, change func(h *wire.DataTransfer)) violation {
	return violation{what, func(t *T, s *Stream) {
		const size, count = 256, 6
		for i := range count {
			h := wire.DataTransfer{CreditsRequested: 10, DataOffset: wire.PayloadOffset, DataLength: size, RemainingDataLength: uint32(size * (count - i - 1))}
			if i == bad(count) {
				change(&h)
			}
			t.Must("send", s.SendHeader(h, make([]byte, size)))
			if i == bad(count) {
				return
			}
		}
	}}
}

var _ = register(
	ends("SmbdDataTransfer_UncompletedMessage", []string{"SD-61"},
		"A Data Transfer message of 19 bytes, and an empty one, end the connection.",
		violation{"19 bytes", func(t *T, s *Stream) {
			t.Must("send", s.SendRaw(Encode(wire.DataTransfer{CreditsRequested: 10}, nil)[:19]))
		}},
		violation{"no bytes", func(t *T, s *Stream) { t.Must("send", s.SendRaw(nil)) }},
	),
	ends("SmbdCreditMgmt_NegativeParameter_CreditRequested", []string{"SD-60", "SD-17"},
		"CreditsRequested 0 in a Data Transfer message, empty or not, ends the connection.",
		header("CreditsRequested 0, empty", 0, func(h *wire.DataTransfer, _ *Stream) { h.CreditsRequested = 0 }),
		header("CreditsRequested 0", 8, func(h *wire.DataTransfer, _ *Stream) { h.CreditsRequested = 0 }),
	),
	ends("SmbdDataTransfer_NegativeParameter_DataOffset_Against8ByteAligned", []string{"SD-62"},
		"DataOffset 23 and 25 end the connection.",
		header("DataOffset 23", 100, func(h *wire.DataTransfer, _ *Stream) { h.DataOffset = 23 }),
		header("DataOffset 25", 100, func(h *wire.DataTransfer, _ *Stream) { h.DataOffset, h.DataLength = 25, 99 }),
	),
	ends("SmbdDataTransfer_NegativeParameter_DataOffset_AgainstMessageLength", []string{"SD-63"},
		"A DataOffset that puts the end of the payload beyond the message ends the connection: 32, 2^32-8, and 2^32-1.",
		header("DataOffset 32", 100, func(h *wire.DataTransfer, _ *Stream) { h.DataOffset = 32 }),
		header("DataOffset 0xfffffff8", 100, func(h *wire.DataTransfer, _ *Stream) { h.DataOffset = 0xfffffff8 }),
		header("DataOffset 0xffffffff", 100, func(h *wire.DataTransfer, _ *Stream) { h.DataOffset = 0xffffffff }),
		header("DataOffset 0xfffffff8 with DataLength 8", 8, func(h *wire.DataTransfer, _ *Stream) { h.DataOffset = 0xfffffff8 }),
		header("DataOffset 8, inside the header", 8, func(h *wire.DataTransfer, _ *Stream) { h.DataOffset = 8 }),
	),
	ends("SmbdDataTransfer_NegativeParameter_DataLength_AgainstMessageLength", []string{"SD-63"},
		"A DataLength that puts the end of the payload beyond the message ends the connection: one more, the full size, and 2^32-1.",
		header("DataLength + 1", 100, func(h *wire.DataTransfer, _ *Stream) { h.DataLength++ }),
		header("DataLength of a full message", 100, func(h *wire.DataTransfer, s *Stream) { h.DataLength = uint32(s.SendSize) }),
		header("DataLength 0xffffffff", 100, func(h *wire.DataTransfer, _ *Stream) { h.DataLength = 0xffffffff }),
		header("DataLength 0xffffffe0 at 32", 100, func(h *wire.DataTransfer, _ *Stream) { h.DataOffset, h.DataLength = 32, 0xffffffe0 }),
	),
	ends("SmbdDataTransfer_NegativeParameter_RemainingDataLength_AgainstMaxFragmentedSize", []string{"SD-65"},
		"DataLength + RemainingDataLength above MaxFragmentedSize ends the connection, with and without payload.",
		header("MaxFragmentedSize + 1, empty", 0, func(h *wire.DataTransfer, s *Stream) { h.RemainingDataLength = uint32(s.MaxMessage + 1) }),
		header("0xffffffff, empty", 0, func(h *wire.DataTransfer, _ *Stream) { h.RemainingDataLength = 0xffffffff }),
		header("MaxFragmentedSize + 1", 100, func(h *wire.DataTransfer, s *Stream) { h.RemainingDataLength = uint32(s.MaxMessage - 99) }),
		header("a sum of 2^32", 100, func(h *wire.DataTransfer, _ *Stream) { h.RemainingDataLength = 0xffffffff - 99 }),
	),
	ends("SmbdDataTransfer_NegativeParameter_RemainingDataLength_Zero", []string{"SD-69"},
		"RemainingDataLength 0 with payload while bytes are missing ends the connection, in the second fragment and in the last but one.",
		fragments("second fragment", func(int) int { return 1 }, func(h *wire.DataTransfer) { h.RemainingDataLength = 0 }),
		fragments("last fragment but one", func(n int) int { return n - 2 }, func(h *wire.DataTransfer) { h.RemainingDataLength = 0 }),
	),
	ends("SmbdDataTransfer_NegativeParameter_RemainingDataLength_AgainstFragmentReassemblyRemaining", []string{"SD-68"},
		"A later fragment whose DataLength is above what is missing, or whose RemainingDataLength is not what is left, ends the connection.",
		fragments("RemainingDataLength + 1", func(int) int { return 1 }, func(h *wire.DataTransfer) { h.RemainingDataLength++ }),
		fragments("RemainingDataLength - 1", func(int) int { return 1 }, func(h *wire.DataTransfer) { h.RemainingDataLength-- }),
		fragments("RemainingDataLength + 1 in the last", func(n int) int { return n - 1 }, func(h *wire.DataTransfer) { h.RemainingDataLength++ }),
		violation{"more than is missing", func(t *T, s *Stream) {
			t.Must("send", s.SendHeader(s.Header(100, 50), make([]byte, 100)))
			t.Must("send", s.SendHeader(s.Header(100, 0), make([]byte, 100)))
		}},
	),
	Case{
		Name: "SmbdDataTransfer_NegativeParameter_DataLength_AgainstMaxReceiveSize",
		Rows: []string{"SD-64", "SD-46"},
		Spec: "[MS-SMBD] 3.1.5.8",
		Role: Acceptor,
		Doc:  "A message longer than the other end's MaxReceiveSize is an error of the stream; one of exactly that size is taken.",
		Run: func(_ context.Context, t *T) {
			r := with(func(r *wire.NegotiateRequest) { r.PreferredSendSize = 8136 })
			s := t.Negotiate(PeerConfig{}, r)
			n := int(s.Response.MaxReceiveSize)
			t.Must("post", s.PostReceives(2, s.RecvSize))
			t.Must("send", s.SendHeader(s.Header(n+1-wire.PayloadOffset, 0), make([]byte, n+1-wire.PayloadOffset)))
			t.Ends(s, fmt.Sprintf("a message of %d bytes", n+1), t.Times.React)
			s.Close()
			s = t.Establish(PeerConfig{}, r)
			b, check := t.Talk(s).Message(n - wire.PayloadOffset)
			if len(b) != n-wire.PayloadOffset {
				t.Skipf("the upper layer has no message of %d bytes", n-wire.PayloadOffset)
			}
			t.Must("send", s.SendMessage(b, t.Times.React))
			if err := answer(t, s, len(b), check); err != nil {
				t.Fatalf("%v", err)
			}
		},
	},
	Case{
		Name: "SmbdDataTransfer_NegativeParameter_AgainstMaxFragmentedSize",
		Rows: []string{"SD-65"},
		Spec: "[MS-SMBD] 3.1.5.8",
		Role: Acceptor,
		Doc:  "A message of MaxFragmentedSize + 1 bytes ends the connection; one of exactly MaxFragmentedSize is taken.",
		Run: func(_ context.Context, t *T) {
			r := with(func(r *wire.NegotiateRequest) { r.PreferredSendSize, r.MaxFragmentedSize = 8136, 64<<20 })
			s := t.Establish(PeerConfig{}, r)
			b := make([]byte, s.MaxMessage+1)
			err := s.SendMessage(b, t.Times.React)
			t.EndsAnyhow(s, fmt.Sprintf("a message of %d bytes (%v)", len(b), err), t.Times.React)
			s.Close()
			s = t.Establish(PeerConfig{}, r)
			b, check := t.Talk(s).Message(s.MaxMessage)
			t.Must("send", s.SendMessage(b, t.Times.React))
			if err := answer(t, s, len(b), check); err != nil {
				t.Fatalf("%v", err)
			}
			if len(b) != s.MaxMessage {
				t.Logf("the upper layer takes %d bytes in one message; %d are MaxFragmentedSize", len(b), s.MaxMessage)
			}
		},
	},
	Case{
		Name: "SmbdDataTransfer_NothingAfterAViolation",
		Rows: []string{"SD-79"},
		Spec: "[MS-SMBD] 3.1.5.5, 3.1.5.8",
		Role: Acceptor,
		Doc:  "Good messages behind a bad one are not processed: no answer comes, though there are credits for it.",
		Run: func(_ context.Context, t *T) {
			s := t.Establish(PeerConfig{}, Request())
			talk := t.Talk(s)
			t.Must("wait", s.WaitCredits(3, t.Times.React))
			good, _ := talk.Message(smallSize)
			seen := len(s.Headers)
			t.Must("bad", s.SendHeader(wire.DataTransfer{CreditsRequested: 10, DataOffset: 23, DataLength: 8}, make([]byte, 8)))
			_ = s.SendHeader(s.Header(len(good), 0), good) // may have ended
			for {
				f, err := s.Fragment(t.Times.React)
				if err != nil {
					break
				}
				t.Check(f.DataLength == 0, "a message with %d bytes came behind the violation", f.DataLength)
			}
			t.EndsAnyhow(s, "a violation", t.Times.React)
			t.Logf("%d messages behind it", len(s.Headers)-seen)
		},
	},
)
