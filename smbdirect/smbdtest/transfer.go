package smbdtest

import (
	"context"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

const (
	smallSize    = 400      // bytes of a message of one fragment
	moderateSize = 64 << 10 // of one with many
)

// senderRows are the rows that every message of the other end has to keep.
var senderRows = []string{"SD-01", "SD-05", "SD-06", "SD-41", "SD-44", "SD-46", "SD-47", "SD-48"}

var _ = register(
	Case{
		Name: "BVT_SmbdDataTransfer_Basic_SendSmallBytesOfData",
		Rows: []string{"SD-04", "SD-05", "SD-44", "SD-77"},
		Spec: "[MS-SMBD] 2.2.3, 3.1.5.4, 3.1.5.8",
		Role: Acceptor,
		Doc:  "A message of one fragment is delivered and answered; the answer has a header of 20 bytes, payload at a multiple of 8 and CreditsRequested above 0.",
		Run: func(_ context.Context, t *T) {
			s := t.Establish(PeerConfig{}, Request())
			talk := t.Talk(s)
			for range 3 {
				t.Exchange(s, talk, smallSize)
			}
			t.Clean(s, senderRows...)
		},
	},
	Case{
		Name: "BVT_SmbdDataTransfer_Basic_SendModerateBytesData",
		Rows: []string{"SD-47", "SD-48", "SD-40"},
		Spec: "[MS-SMBD] 3.1.5.4, 3.1.5.8",
		Role: Acceptor,
		Doc:  "A message of many fragments is put together; so is the answer, whose fragments follow each other with no other message between them and count RemainingDataLength down.",
		Run: func(_ context.Context, t *T) {
			s := t.Establish(PeerConfig{}, Request())
			talk := t.Talk(s)
			t.Exchange(s, talk, moderateSize)
			b, check := talk.Fetch(moderateSize)
			t.Must("send", s.SendMessage(b, t.Times.React))
			if err := answer(t, s, len(b), check); err != nil {
				t.Fatalf("%v", err)
			}
			t.Clean(s, append(senderRows, "SD-40")...)
		},
	},
	Case{
		Name: "SmbdDataTransfer_VariableLengthSegment",
		Rows: []string{"SD-70"},
		Spec: "[MS-SMBD] 3.1.5.8",
		Role: Acceptor,
		Doc:  "A message in fragments of 0, 128, 127 .. 0, 1, 2 .. bytes, the empty ones with a RemainingDataLength, is put together.",
		Run: func(_ context.Context, t *T) {
			s := t.Establish(PeerConfig{}, Request())
			talk := t.Talk(s)
			b, check := talk.Message(moderateSize)
			n := len(b)
			t.Must("empty first fragment", s.SendFragment(nil, uint32(n), t.Times.React))
			size, step := 128, -1
			for rest := b; len(rest) > 0; {
				k := min(size, len(rest), s.SendSize-wire.PayloadOffset)
				t.Must("fragment", s.SendFragment(rest[:k], uint32(len(rest)-k), t.Times.React))
				rest = rest[k:]
				if size == 0 {
					step = 1
				}
				size += step
			}
			if err := answer(t, s, n, check); err != nil {
				t.Fatalf("%v", err)
			}
		},
	},
	Case{
		Name: "SmbdDataTransfer_SmallLengthSegment",
		Rows: []string{"SD-70", "SD-67", "SD-73"},
		Spec: "[MS-SMBD] 3.1.5.8",
		Role: Acceptor,
		Doc:  "A message in fragments of one byte, each padded to the full size of a message, is put together.",
		Run: func(_ context.Context, t *T) {
			s := t.Establish(PeerConfig{}, Request())
			b, check := t.Talk(s).Message(4000)
			s.sending = true
			for i := range b {
				t.Must("wait", s.WaitCredits(1, t.Times.React))
				h := s.Header(1, uint32(len(b)-i-1))
				raw := Encode(h, b[i:i+1])
				t.Must("fragment", s.sendBytes(h, append(raw, make([]byte, s.SendSize-len(raw))...)))
			}
			s.sending = false
			if err := answer(t, s, len(b), check); err != nil {
				t.Fatalf("%v", err)
			}
		},
	},
	Case{
		Name: "SmbdDataTransfer_Redundancy",
		Rows: []string{"SD-67"},
		Spec: "[MS-SMBD] 3.1.5.8",
		Role: Acceptor,
		Doc:  "Bytes behind the payload, up to the full size of a message, are ignored.",
		Run: func(_ context.Context, t *T) {
			s := t.Establish(PeerConfig{}, Request())
			b, check := t.Talk(s).Message(smallSize)
			h := s.Header(len(b), 0)
			raw := Encode(h, b)
			t.Must("send", s.sendBytes(h, append(raw, make([]byte, s.SendSize-len(raw))...)))
			if err := answer(t, s, len(b), check); err != nil {
				t.Fatalf("%v", err)
			}
		},
	},
	Case{
		Name: "SmbdDataTransfer_DataOffset",
		Rows: []string{"SD-62", "SD-05"},
		Spec: "[MS-SMBD] 3.1.5.4, 3.1.5.8",
		Role: Acceptor,
		Doc:  "Payload at any multiple of 8 behind the header is taken: 24, 32, and the last that fits.",
		Run: func(_ context.Context, t *T) {
			s := t.Establish(PeerConfig{}, Request())
			talk := t.Talk(s)
			for _, off := range []int{24, 32, (s.SendSize - smallSize) &^ 7} {
				b, check := talk.Message(smallSize)
				h := s.Header(len(b), 0)
				h.DataOffset = uint32(off)
				head, _ := wire.DataTransfer{
					CreditsRequested: h.CreditsRequested, CreditsGranted: h.CreditsGranted, DataOffset: h.DataOffset, DataLength: h.DataLength,
				}.AppendBinary(nil)
				t.Must("wait", s.WaitCredits(1, t.Times.React))
				t.Must("send", s.sendBytes(h, append(head, b...)))
				if err := answer(t, s, len(b), check); err != nil {
					t.Fatalf("DataOffset %d: %v", off, err)
				}
			}
		},
	},
	Case{
		Name: "SmbdDataTransfer_ReceiveMaxReceiveSize",
		Rows: []string{"SD-77", "SD-46", "SD-47"},
		Spec: "[MS-SMBD] 3.1.5.4",
		Role: Acceptor,
		Doc:  "An answer of as many bytes as one message of ours holds comes in fragments, as the header takes 24 of them; each is within the size, and the sum is right.",
		Run: func(_ context.Context, t *T) {
			s := t.Establish(PeerConfig{}, Request())
			b, check := t.Talk(s).Fetch(s.RecvSize)
			before := len(s.Headers)
			t.Must("send", s.SendMessage(b, t.Times.React))
			if err := answer(t, s, len(b), check); err != nil {
				t.Fatalf("%v", err)
			}
			fragments := 0
			for _, h := range s.Headers[before:] {
				if h.DataLength > 0 {
					fragments++
					t.Check(h.End() <= uint64(s.RecvSize), "a fragment that ends at %d of %d", h.End(), s.RecvSize)
				}
			}
			t.Check(fragments >= 2, "it came in %d fragments", fragments)
			t.Clean(s, senderRows...)
		},
	},
	Case{
		Name: "SmbdDataTransfer_EmptyMessages",
		Rows: []string{"SD-71", "SD-04"},
		Spec: "[MS-SMBD] 3.1.5.8",
		Role: Acceptor,
		Doc:  "Empty messages with RemainingDataLength 0, alone and between the fragments of a message, deliver nothing and leave the reassembly as it is.",
		Run: func(_ context.Context, t *T) {
			s := t.Establish(PeerConfig{}, Request())
			b, check := t.Talk(s).Message(5000)
			for range 3 {
				t.Must("wait", s.WaitCredits(1, t.Times.React))
				t.Must("empty", s.SendEmpty(0))
			}
			for rest := b; len(rest) > 0; {
				k := min(900, len(rest))
				t.Must("fragment", s.SendFragment(rest[:k], uint32(len(rest)-k), t.Times.React))
				rest = rest[k:]
				t.Must("wait", s.WaitCredits(1, t.Times.React))
				t.Must("empty", s.SendEmpty(0))
			}
			if err := answer(t, s, len(b), check); err != nil {
				t.Fatalf("%v", err)
			}
		},
	},
)
