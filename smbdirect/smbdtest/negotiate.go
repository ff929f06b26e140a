package smbdtest

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

const (
	notSupported          = 0xC00000BB // STATUS_NOT_SUPPORTED
	insufficientResources = 0xC000009A // STATUS_INSUFFICIENT_RESOURCES
)

// judgeResponse checks a success Response to r, [MS-SMBD] 3.1.5.3 and 3.1.5.6, but
// for what is granted: ends that grant more than was asked for fail the cases that
// are about it, not all.
func judgeResponse(t *T, r wire.NegotiateRequest, resp wire.NegotiateResponse, raw []byte) {
	Want(t, "length of the Response", len(raw), wire.NegotiateResponseSize)
	Want(t, "Status", resp.Status, 0)
	Want(t, "MinVersion", resp.MinVersion, 0x0100)
	Want(t, "MaxVersion", resp.MaxVersion, 0x0100)
	Want(t, "NegotiatedVersion", resp.NegotiatedVersion, 0x0100)
	Want(t, "Reserved", binary.LittleEndian.Uint16(raw[6:]), 0)
	t.Check(resp.CreditsRequested > 0, "CreditsRequested is 0")
	t.Check(resp.CreditsGranted > 0, "CreditsGranted is 0")
	if most := t.Limits.ReceiveCreditMax; most > 0 {
		t.Check(int(resp.CreditsGranted) <= most, "CreditsGranted is %d, above ReceiveCreditMax %d", resp.CreditsGranted, most)
	}
	t.Check(resp.MaxReadWriteSize >= 1<<20, "MaxReadWriteSize is %d, below 1048576", resp.MaxReadWriteSize)
	t.Check(resp.PreferredSendSize >= 128, "PreferredSendSize is %d, below 128", resp.PreferredSendSize)
	t.Check(resp.PreferredSendSize <= r.MaxReceiveSize, "PreferredSendSize is %d, above our MaxReceiveSize %d", resp.PreferredSendSize, r.MaxReceiveSize)
	t.Check(resp.MaxReceiveSize >= 128, "MaxReceiveSize is %d, below 128", resp.MaxReceiveSize)
	most := max(128, r.PreferredSendSize)
	t.Check(resp.MaxReceiveSize <= most, "MaxReceiveSize is %d, above what our PreferredSendSize %d allows", resp.MaxReceiveSize, r.PreferredSendSize)
	t.Check(resp.MaxFragmentedSize >= 131072, "MaxFragmentedSize is %d, below 131072", resp.MaxFragmentedSize)
}

// negotiated sends r on a connection of its own and checks the Response.
func negotiated(t *T, r wire.NegotiateRequest) (*Stream, wire.NegotiateResponse) {
	s := t.Connect(PeerConfig{}, 0, 0)
	resp, raw, err := s.Negotiate(r, t.Times.React)
	if err != nil {
		t.Fatalf("%+v: no Response: %v (%v)", r, err, s.End())
	}
	t.Logf("%+v: %+v", r, resp)
	if len(raw) < wire.NegotiateResponseSize {
		t.Fatalf("a Response of %d bytes", len(raw))
	}
	judgeResponse(t, r, resp, raw)
	return s, resp
}

// refusedRequest sends r on a connection of its own, which has to end without an answer.
func refusedRequest(t *T, what string, r wire.NegotiateRequest) {
	s := t.Connect(PeerConfig{}, 1, minNegotiateReceive)
	b, _ := r.AppendBinary(nil)
	t.Must("send", s.SendRaw(b))
	t.Ends(s, what, t.Times.React)
	s.Close()
}

// with returns Request with one change.
func with(change func(*wire.NegotiateRequest)) wire.NegotiateRequest {
	r := Request()
	change(&r)
	return r
}

var _ = register(
	Case{
		Name: "BVT_SmbdNegotiate_Basic",
		Rows: []string{"SD-03", "SD-26", "SD-27", "SD-23"},
		Spec: "[MS-SMBD] 3.1.5.6, 3.1.5.3",
		Role: Acceptor,
		Doc:  "A Negotiate Request with the usual values gets a Response of 32 bytes with Status 0 in which every field is in its range.",
		Run: func(_ context.Context, t *T) {
			r := wire.NegotiateRequest{
				MinVersion: wire.Version, MaxVersion: wire.Version, CreditsRequested: 10,
				PreferredSendSize: 1024, MaxReceiveSize: 1024, MaxFragmentedSize: 1 << 17,
			}
			_, resp := negotiated(t, r)
			t.Check(resp.CreditsGranted <= r.CreditsRequested, "CreditsGranted is %d, above the %d requested", resp.CreditsGranted, r.CreditsRequested)
		},
	},
	Case{
		Name: "SmbdNegotiate_Reserved",
		Rows: []string{"SD-01", "SD-06"},
		Spec: "[MS-SMBD] 2.2",
		Role: Acceptor,
		Doc:  "Reserved fields that are not 0 and unknown Flags are ignored, in a Negotiate Request and in Data Transfer messages; none is sent.",
		Run: func(_ context.Context, t *T) {
			s := t.Connect(PeerConfig{}, 1, minNegotiateReceive)
			r := Request()
			b, _ := r.AppendBinary(nil)
			b[4], b[5] = 0xff, 0xff
			t.Must("send", s.SendRaw(b))
			m, err := s.Next(t.Times.React)
			t.Must("Response to a Request with Reserved 0xffff", err)
			resp, err := wire.ParseNegotiateResponse(m.Data)
			t.Must("Response", err)
			judgeResponse(t, r, resp, m.Data)
			s.adoptResponse(r, resp)
			t.established(s)
			talk := t.Talk(s)
			b, check := talk.Message(400)
			h := s.Header(len(b), 0)
			h.Flags = 0xfffe
			raw := Encode(h, b)
			raw[6], raw[7] = 0xff, 0xff
			t.Must("send", s.sendBytes(h, raw))
			if err := answer(t, s, len(b), check); err != nil {
				t.Fatalf("%v", err)
			}
			t.Clean(s, "SD-01", "SD-06")
		},
	},
	Case{
		Name:      "SmbdNegotiate_PreferredSendSizeWithZero",
		Microsoft: []string{"S1_SmbdNegotiate_PreferredSendSizeWithZero"},
		Rows:      []string{"SD-21"},
		Spec:      "[MS-SMBD] 3.1.5.6",
		Role:      Acceptor,
		Doc:       "PreferredSendSize 0 is accepted and gives MaxReceiveSize 128.",
		Run: func(_ context.Context, t *T) {
			_, resp := negotiated(t, with(func(r *wire.NegotiateRequest) { r.PreferredSendSize = 0 }))
			Want(t, "MaxReceiveSize", resp.MaxReceiveSize, 128)
		},
	},
	Case{
		Name:      "SmbdNegotiate_PreferredSendSizeLessThan128",
		Microsoft: []string{"S1_SmbdNegotiate_PreferredSendSizeLessThan128"},
		Rows:      []string{"SD-21"},
		Spec:      "[MS-SMBD] 3.1.5.6",
		Role:      Acceptor,
		Doc:       "PreferredSendSize 127 and 128 are accepted and give MaxReceiveSize 128; messages of that size work.",
		Run: func(_ context.Context, t *T) {
			for _, n := range []uint32{127, 128} {
				s, resp := negotiated(t, with(func(r *wire.NegotiateRequest) { r.PreferredSendSize = n }))
				Want(t, fmt.Sprintf("MaxReceiveSize for PreferredSendSize %d", n), resp.MaxReceiveSize, 128)
				s.SendSize = 128
				t.established(s)
				t.Exchange(s, t.Talk(s), 1000)
				s.Close()
			}
		},
	},
	Case{
		Name:      "SmbdNegotiate_PreferredSendSizeMaxValue",
		Microsoft: []string{"S1_SmbdNegotiate_PreferredSendSizeMaxValue"},
		Rows:      []string{"SD-22"},
		Spec:      "[MS-SMBD] 3.1.5.6",
		Role:      Acceptor,
		Doc:       "PreferredSendSize 2^32-1 is accepted and capped; 8136 is as well. (Windows Server 2012 R2 and later answer STATUS_INSUFFICIENT_RESOURCES above 8136.)",
		Run: func(_ context.Context, t *T) {
			s, _ := negotiated(t, with(func(r *wire.NegotiateRequest) { r.PreferredSendSize = 8136 }))
			s.Close()
			negotiated(t, with(func(r *wire.NegotiateRequest) { r.PreferredSendSize = 1<<32 - 1 }))
		},
	},
	Case{
		Name: "SmbdNegotiate_WindowsValues",
		Rows: []string{"SD-39"},
		Spec: "[MS-SMBD] 3.1.1.1 notes 3, 8",
		Role: Acceptor,
		Doc:  "What Windows offers is accepted: 255 credits, messages of 1364 and 8192 bytes, 1 MiB fragmented. The Response has values with which Windows works.",
		Run: func(_ context.Context, t *T) {
			r := wire.NegotiateRequest{
				MinVersion: wire.Version, MaxVersion: wire.Version, CreditsRequested: 255,
				PreferredSendSize: 1364, MaxReceiveSize: 8192, MaxFragmentedSize: 1 << 20,
			}
			s, resp := negotiated(t, r)
			t.Check(resp.CreditsRequested <= 255, "CreditsRequested is %d", resp.CreditsRequested)
			Want(t, "MaxReadWriteSize modulo 4096", resp.MaxReadWriteSize%4096, 0)
			t.established(s)
			talk := t.Talk(s)
			t.Exchange(s, talk, 200)
			t.Exchange(s, talk, 100000)
		},
	},
	Case{
		Name:      "SmbdNegotiate_Redundancy",
		Microsoft: []string{"S1_SmbdNegotiate_Redundancy"},
		Rows:      []string{"SD-16", "SD-11"},
		Spec:      "[MS-SMBD] 3.1.5.6",
		Role:      Acceptor,
		Doc:       "A Negotiate Request in a message of 512 bytes, sent as soon as the connection is up, is accepted: the receive for it was posted before.",
		Run: func(_ context.Context, t *T) {
			s := t.Connect(PeerConfig{}, 1, minNegotiateReceive)
			r := Request()
			b, _ := r.AppendBinary(nil)
			t.Must("send", s.SendRaw(append(b, make([]byte, 492)...)))
			m, err := s.Next(t.Times.React)
			t.Must("Response", err)
			resp, err := wire.ParseNegotiateResponse(m.Data)
			t.Must("Response", err)
			judgeResponse(t, r, resp, m.Data)
		},
	},
	Case{
		Name: "SmbdNegotiate_DisconnectAfterNegotiate",
		Rows: []string{"SD-114"},
		Spec: "[MS-SMBD] 3.1.7.1",
		Role: Acceptor,
		Doc:  "An initiator that disconnects after the negotiation, or in the middle of a message, leaves nothing behind, and the next connection is served.",
		Run: func(ctx context.Context, t *T) {
			s, _ := negotiated(t, Request())
			t.Must("disconnect", s.Disconnect(ctx))
			s.Close()
			s = t.Negotiate(PeerConfig{}, Request())
			t.Must("send", s.SendHeader(s.Header(8, 1000), make([]byte, 8)))
			s.Close() // without a word
			s, _ = negotiated(t, Request())
			t.established(s)
			t.Exchange(s, t.Talk(s), 100)
		},
	},
	Case{
		Name: "SmbdNegotiate_UncompletedMessage",
		Rows: []string{"SD-15"},
		Spec: "[MS-SMBD] 3.1.5.6",
		Role: Acceptor,
		Doc:  "A Negotiate Request of 19 bytes, and an empty one, end the connection without an answer.",
		Run: func(_ context.Context, t *T) {
			b, _ := Request().AppendBinary(nil)
			for _, n := range []int{19, 0} {
				s := t.Connect(PeerConfig{}, 1, minNegotiateReceive)
				t.Must("send", s.SendRaw(b[:n]))
				t.Ends(s, fmt.Sprintf("a request of %d bytes", n), t.Times.React)
				s.Close()
			}
			negotiated(t, Request())
		},
	},
	Case{
		Name: "SmbdNegotiate_NegativeParameter_MinVersion",
		Microsoft: []string{
			"SmbdNegotiate_VersionRangeNotCover0x0100_LessThanMinVersion", "SmbdNegotiate_VersionRangeCover0x0100_EqualMinVersion",
			"SmbdNegotiate_VersionRangeCover0x0100_EqualMinVersionAndMaxVersion",
		},
		Rows: []string{"SD-24"},
		Spec: "[MS-SMBD] 3.1.5.6, 3.1.5.3",
		Role: Acceptor,
		Doc:  "A version range above 0x0100 gets a failure Response with STATUS_NOT_SUPPORTED, every other field 0, and the end; one that begins with 0x0100 is accepted. (Windows refuses any but 0x0100 to 0x0100.)",
		Run: func(_ context.Context, t *T) {
			wrongVersion(t, 0x0101, 0xffff)
			versions(t, 0x0100, 0xffff)
			versions(t, 0x0100, 0x0100)
		},
	},
	Case{
		Name: "SmbdNegotiate_NegativeParameter_MaxVersion",
		Microsoft: []string{
			"SmbdNegotiate_VersionRangeNotCover0x0100_LargerThanMaxVersion", "SmbdNegotiate_VersionRangeCover0x0100_EqualMaxVersion",
			"SmbdNegotiate_VersionRangeCover0x0100_InMiddle",
		},
		Rows: []string{"SD-24"},
		Spec: "[MS-SMBD] 3.1.5.6, 3.1.5.3",
		Role: Acceptor,
		Doc:  "A version range below 0x0100 gets a failure Response with STATUS_NOT_SUPPORTED, every other field 0, and the end; one that ends with 0x0100 or goes around it is accepted.",
		Run: func(_ context.Context, t *T) {
			wrongVersion(t, 0, 0x00ff)
			versions(t, 0, 0x0100)
			versions(t, 0x00ff, 0x0101)
		},
	},
	Case{
		Name: "SmbdNegotiate_NegativeParameter_CreditsRequested",
		Rows: []string{"SD-17"},
		Spec: "[MS-SMBD] 3.1.5.6",
		Role: Acceptor,
		Doc:  "CreditsRequested 0 ends the connection without an answer; 1 and 65535 are accepted, and the grant is bounded.",
		Run: func(_ context.Context, t *T) {
			refusedRequest(t, "CreditsRequested 0", with(func(r *wire.NegotiateRequest) { r.CreditsRequested = 0 }))
			for _, n := range []uint16{1, 65535} {
				s, resp := negotiated(t, with(func(r *wire.NegotiateRequest) { r.CreditsRequested = n }))
				t.Check(resp.CreditsGranted <= n, "CreditsGranted is %d, above the %d requested", resp.CreditsGranted, n)
				s.Close()
			}
		},
	},
	Case{
		Name: "SmbdNegotiate_NegativeParameter_MaxReceiveSize",
		Rows: []string{"SD-19", "SD-23"},
		Spec: "[MS-SMBD] 3.1.5.6",
		Role: Acceptor,
		Doc:  "MaxReceiveSize 127 ends the connection without an answer; 128 and 2^32-1 are accepted, and with 128 no longer message comes.",
		Run: func(_ context.Context, t *T) {
			for _, n := range []uint32{127, 0} {
				refusedRequest(t, fmt.Sprintf("MaxReceiveSize %d", n), with(func(r *wire.NegotiateRequest) { r.MaxReceiveSize = n }))
			}
			s, resp := negotiated(t, with(func(r *wire.NegotiateRequest) { r.MaxReceiveSize = 1<<32 - 1 }))
			t.Check(resp.PreferredSendSize <= 8136, "PreferredSendSize is %d", resp.PreferredSendSize)
			s.Close()
			s, resp = negotiated(t, with(func(r *wire.NegotiateRequest) { r.MaxReceiveSize = 128 }))
			Want(t, "PreferredSendSize", resp.PreferredSendSize, 128)
			s.RecvSize = 128
			t.established(s)
			t.Exchange(s, t.Talk(s), 700)
			t.Clean(s, "SD-46")
		},
	},
	Case{
		Name: "SmbdNegotiate_NegativeParameter_MaxFragmentedSize",
		Rows: []string{"SD-20"},
		Spec: "[MS-SMBD] 3.1.5.6",
		Role: Acceptor,
		Doc:  "MaxFragmentedSize 131071 ends the connection without an answer; 131072 and 2^32-1 are accepted.",
		Run: func(_ context.Context, t *T) {
			for _, n := range []uint32{131071, 0} {
				refusedRequest(t, fmt.Sprintf("MaxFragmentedSize %d", n), with(func(r *wire.NegotiateRequest) { r.MaxFragmentedSize = n }))
			}
			for _, n := range []uint32{131072, 1<<32 - 1} {
				s, _ := negotiated(t, with(func(r *wire.NegotiateRequest) { r.MaxFragmentedSize = n }))
				s.Close()
			}
		},
	},
	Case{
		Name:   "SmbdNegotiate_NegotiationTimer",
		Rows:   []string{"SD-12", "SD-11"},
		Spec:   "[MS-SMBD] 3.1.6.1",
		Role:   Acceptor,
		Timers: true,
		Doc:    "A Negotiate Request a second before the 5 s are over is answered.",
		Run: func(_ context.Context, t *T) {
			s := t.Connect(PeerConfig{}, 0, 0)
			t.Waits(t.Times.Negotiate)
			t.Quiet(s, "before the request", t.Times.Negotiate-t.Times.Slack)
			if _, _, err := s.Negotiate(Request(), t.Times.React); err != nil {
				t.Fatalf("%v before the limit: %v (%v)", t.Times.Slack, err, s.End())
			}
		},
	},
	Case{
		Name:   "SmbdNegotiate_NegotiationTimer_Timeout",
		Rows:   []string{"SD-12", "SD-11"},
		Spec:   "[MS-SMBD] 3.1.6.1",
		Role:   Acceptor,
		Timers: true,
		Doc:    "A connection without a Negotiate Request ends after 5 s, without a message.",
		Run: func(_ context.Context, t *T) {
			s := t.Connect(PeerConfig{}, 1, minNegotiateReceive)
			t.Waits(t.Times.Negotiate)
			t.Ends(s, "no request", t.Times.Negotiate+t.Times.React)
			t.Check(t.Elapsed() >= t.Times.Negotiate-t.Times.Slack, "it ended after %v already", t.Elapsed())
		},
	},
	Case{
		Name:   "SmbdNegotiate_Established",
		Rows:   []string{"SD-28"},
		Spec:   "[MS-SMBD] 3.1.5.6",
		Role:   Acceptor,
		Timers: true,
		Doc:    "After the Response the negotiation timer is off: the connection is of use when its time is long over.",
		Run: func(_ context.Context, t *T) {
			t.Waits(2 * t.Times.Negotiate)
			s := t.Establish(PeerConfig{}, Request())
			t.Must("grant", s.SendEmpty(0)) // it may have to probe
			t.StaysUp(s, "past the negotiation timer", 2*t.Times.Negotiate)
			t.Exchange(s, t.Talk(s), 100)
		},
	},
	Case{
		Name: "SmbdNegotiate_SecondRequest",
		Rows: []string{"SD-14"},
		Spec: "[MS-SMBD] 2.2, 3.1.5.4",
		Role: Acceptor,
		Doc:  "A second Negotiate Request is read as a Data Transfer message, which it makes a bad one of: the connection ends without a second Response.",
		Run: func(_ context.Context, t *T) {
			s := t.Negotiate(PeerConfig{}, Request())
			t.Must("post", s.PostReceives(2, s.RecvSize))
			b, _ := Request().AppendBinary(nil)
			t.Must("send", s.SendRaw(b))
			t.Ends(s, "a second Negotiate Request", t.Times.React)
		},
	},
	Case{
		Name: "SmbdNegotiate_MessageBeforeResponse",
		Rows: []string{"SD-14"},
		Spec: "[MS-SMBD] 2.2",
		Role: Acceptor,
		Doc:  "A second message before the Response has been sent finds no receive, or is none: the connection ends, and the acceptor lives on.",
		Run: func(_ context.Context, t *T) {
			s := t.Connect(PeerConfig{}, 4, minNegotiateReceive)
			b, _ := Request().AppendBinary(nil)
			// Two in a row, a data message as the first word, and a negotiation with
			// a credit spent before there was one.
			t.Must("send", s.SendRaw(b))
			_ = s.SendRaw(b) // may have ended
			t.EndsAnyhow(s, "two requests in a row", t.Times.React)
			s.Close()
			s = t.Connect(PeerConfig{}, 1, minNegotiateReceive)
			t.Must("send", s.SendRaw(Encode(wire.DataTransfer{CreditsRequested: 10, CreditsGranted: 1}, nil)))
			if m, err := s.Next(t.Times.React); err == nil {
				// Its fields are a version range that begins with 10 and ends with 1.
				resp, err := wire.ParseNegotiateResponse(m.Data)
				t.Must("Response", err)
				Want(t, "Status", resp.Status, notSupported)
			}
			t.EndsAnyhow(s, "a Data Transfer message first", t.Times.React)
		},
	},
)

// versions sends a version range that is acceptable.
func versions(t *T, lo, hi uint16) {
	s, _ := negotiated(t, with(func(r *wire.NegotiateRequest) { r.MinVersion, r.MaxVersion = lo, hi }))
	t.established(s)
	t.Exchange(s, t.Talk(s), 100)
	s.Close()
}

// wrongVersion sends a version range that is not.
func wrongVersion(t *T, lo, hi uint16) {
	s := t.Connect(PeerConfig{}, 2, minNegotiateReceive)
	b, _ := with(func(r *wire.NegotiateRequest) { r.MinVersion, r.MaxVersion = lo, hi }).AppendBinary(nil)
	t.Must("send", s.SendRaw(b))
	m, err := s.Next(t.Times.React)
	if err != nil {
		t.Fatalf("versions %#x to %#x: no Response: %v (%v)", lo, hi, err, s.End())
	}
	resp, err := wire.ParseNegotiateResponse(m.Data)
	t.Must("Response", err)
	Want(t, fmt.Sprintf("Response to versions %#x to %#x", lo, hi), resp,
		wire.NegotiateResponse{MinVersion: 0x0100, MaxVersion: 0x0100, Status: notSupported})
	// What comes behind it gets no answer.
	_ = s.SendRaw(Encode(wire.DataTransfer{CreditsRequested: 1, Flags: wire.FlagResponseRequested}, nil))
	t.Ends(s, "after the failure Response", t.Times.React)
	s.Close()
}
