package smbdtest

import (
	"errors"
	"math"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// What an acceptor may say in the negotiation, and what an initiator makes of it.

var _ = register(
	initiatorCase("NegotiateRequest", "2.2.1, 3.1.4.1, 3.1.5.2",
		"The first message is one Negotiate Request of 20 bytes with the usual values, and nothing follows it before the Response.",
		rows("SD-02", "SD-13", "SD-22", "SD-39"), func(t *T) {
			c := t.Pick(PeerConfig{})
			Want(t, "length", len(c.Raw), 20)
			r := c.Request
			Want(t, "MinVersion", r.MinVersion, 0x0100)
			Want(t, "MaxVersion", r.MaxVersion, 0x0100)
			Want(t, "Reserved", [2]byte(c.Raw[4:6]), [2]byte{})
			Want(t, "CreditsRequested", r.CreditsRequested, 255)
			// That of Windows, or in software one that holds 4 KiB of data; both below 8136.
			t.Check(r.PreferredSendSize == 1364 || r.PreferredSendSize == 4352, "PreferredSendSize is %d, want 1364 or 4352", r.PreferredSendSize)
			t.Check(r.MaxReceiveSize > 128, "MaxReceiveSize %d is refused by ksmbd", r.MaxReceiveSize)
			t.Check(r.MaxFragmentedSize > 131072, "MaxFragmentedSize %d is refused by ksmbd", r.MaxFragmentedSize)
			t.Must("post", c.PostReceives(4, 4096))
			t.Quiet(c.Stream, "before the Response", min(t.Times.Quiet, t.Times.Negotiate/4))
		}),
	timerCase("NegotiationTimer_Timeout", "3.1.4.1, 3.1.6.1",
		"Without a Response the attempt fails when the negotiation timer expires.",
		rows("SD-10", "SD-12"), func(t *T) {
			t.Waits(t.Times.Negotiate)
			begin := time.Now()
			c := t.Pick(PeerConfig{})
			err := c.Refused(t.Times.Negotiate + t.Times.React)
			t.TimedOut("no Response", err)
			if took := time.Since(begin); t.virtual() {
				t.Check(took >= t.Times.Negotiate-time.Second && took <= t.Times.Negotiate+time.Second, "given up after %v, want %v", took, t.Times.Negotiate)
			}
			t.EndsAnyhow(c.Stream, "no Response", t.Times.React)
		}),
	timerCase("NegotiationTimer", "3.1.4.1, 3.1.6.1",
		"A Response shortly before the negotiation timer expires makes a connection.",
		rows("SD-12"), func(t *T) {
			t.Waits(t.Times.Negotiate)
			c := t.Pick(PeerConfig{})
			t.Quiet(c.Stream, "before the Response", t.Times.Negotiate/2)
			c.Respond(Response())
			c.Dialed()
			t.Must("first grant", c.WaitCredits(1, t.Times.React))
			c.Window = 8
			c.Talks()
		}),
	initiatorCase("Response_Redundancy", "3.1.4.1, 3.1.5.7",
		"A Response of 512 bytes fits the first receive; what follows the 32 bytes is ignored.",
		rows("SD-10", "SD-29"), func(t *T) {
			c := t.Pick(PeerConfig{})
			b, _ := Response().AppendBinary(nil)
			c.RespondWith(Response(), append(b, make([]byte, 480)...))
			c.Dialed()
			t.Must("first grant", c.WaitCredits(1, t.Times.React))
			c.Window = 8
			c.Talks()
			c.KeptTheRules()
		}),
	initiatorCase("ResponseTwice", "2.2, 3.1.5.8",
		"A second Response is judged as a Data Transfer message, which it is not: the connection ends.",
		rows("SD-14"), func(t *T) {
			c := t.Meet(PeerConfig{}, Response())
			b, _ := Response().AppendBinary(nil)
			t.Must("send", c.SendRaw(b))
			// Its MaxReadWriteSize stands where DataLength does.
			t.Blames("a second Response", c.Lost("a second Response", t.Times.React), "3.1.5.8", "DataOffset + DataLength")
		}),
	initiatorCase("DisconnectAfterRequest", "3.1.7.1",
		"An acceptor that goes away after the Request makes the attempt fail at once.",
		rows("SD-114"), func(t *T) {
			c := t.Pick(PeerConfig{})
			t.Must("disconnect", c.Disconnect(t.ctx))
			c.Refused(t.Times.React)
		}),
	initiatorCase("Adopts", "3.1.5.7, 3.1.4.7",
		"The initiator takes over the sizes and credits of the Response, within its own limits, and reports them.",
		rows("SD-37", "SD-115"), func(t *T) {
			r := Response()
			r.MaxReceiveSize, r.PreferredSendSize, r.MaxFragmentedSize = 700, 900, 200000
			r.MaxReadWriteSize, r.CreditsGranted, r.CreditsRequested = 81920, 7, 5
			c := t.Meet(PeerConfig{}, r)
			Want(t, "MaxSendSize", c.Conn.MaxSendSize(), 200000)
			Want(t, "MaxReceiveSize", c.Conn.MaxReceiveSize(), int(c.Request.MaxFragmentedSize))
			Want(t, "MaxReadWriteSize", c.Conn.RDMA().MaxReadWriteSize(), 81920)
			Want(t, "credits of the first grant", c.Credits, 5)
			p := c.parameters()
			Want(t, "max send size", p.MaxSendSize, 700)
			Want(t, "max fragmented send size", p.MaxFragmentedSendSize, 200000)
			Want(t, "max receive size", p.MaxReceiveSize, 900)
			Want(t, "max fragmented receive size", p.MaxFragmentedRecvSize, int(c.Request.MaxFragmentedSize))
			Want(t, "max read/write size", p.MaxReadWriteSize, 81920)
			Want(t, "keepalive interval", p.KeepaliveInterval, t.Times.Keepalive)
			c.Talks()
			c.Tells(200000)
			for _, h := range c.Headers {
				t.Check(h.DataLength <= 700-24, "a fragment of %d bytes", h.DataLength)
			}
			c.KeptTheRules()
		}),
	initiatorCase("OwnLimits", "3.1.5.7",
		"A Response with sizes as large as they can be is bounded by the initiator's own limits.",
		rows("SD-37", "SD-01"), func(t *T) {
			r := Response()
			r.MaxReceiveSize, r.MaxFragmentedSize, r.MaxReadWriteSize = math.MaxUint32, math.MaxUint32, math.MaxUint32
			r.PreferredSendSize = 0 // raised to 128
			b, _ := r.AppendBinary(nil)
			b[6], b[7] = 0xff, 0xff // Reserved
			c := t.Pick(PeerConfig{})
			c.RespondWith(r, b)
			c.Dialed()
			c.Window = 8
			t.Must("first grant", c.WaitCredits(1, t.Times.React))
			p := c.parameters()
			Want(t, "max send size", p.MaxSendSize, int(c.Request.PreferredSendSize))
			Want(t, "max receive size", p.MaxReceiveSize, 128)
			t.Check(p.MaxReadWriteSize > 0 && p.MaxReadWriteSize <= 64<<20, "max read/write size %d", p.MaxReadWriteSize)
			t.Check(p.MaxFragmentedSendSize > 1<<20, "max fragmented send size %d", p.MaxFragmentedSendSize)
			c.Talks()
			c.KeptTheRules()
		}),
)

// badResponses break one rule of 3.1.5.7 each.
var _ = func() struct{} {
	for _, b := range []struct {
		name, row, field string
		change           func(*wire.NegotiateResponse)
		cut              int // length, if not 32
		status           ntstatus.Status
	}{
		{"Empty", "SD-29", "length", nil, -1, 0},
		{"OneByte", "SD-29", "length", nil, 1, 0},
		{"UncompletedMessage", "SD-29", "length", nil, 31, 0},
		{"Version0", "SD-29", "NegotiatedVersion", func(r *wire.NegotiateResponse) { r.NegotiatedVersion = 0 }, 0, 0},
		{"Version0x0101", "SD-29", "NegotiatedVersion", func(r *wire.NegotiateResponse) { r.NegotiatedVersion = 0x0101 }, 0, 0},
		{"Version0xFFFF", "SD-29", "NegotiatedVersion", func(r *wire.NegotiateResponse) { r.NegotiatedVersion = 0xffff }, 0, 0},
		{"MaxReceiveSize0", "SD-31", "MaxReceiveSize", func(r *wire.NegotiateResponse) { r.MaxReceiveSize = 0 }, 0, 0},
		{"MaxReceiveSize127", "SD-31", "MaxReceiveSize", func(r *wire.NegotiateResponse) { r.MaxReceiveSize = 127 }, 0, 0},
		{"MaxFragmentedSize0", "SD-31", "MaxFragmentedSize", func(r *wire.NegotiateResponse) { r.MaxFragmentedSize = 0 }, 0, 0},
		{"MaxFragmentedSize131071", "SD-31", "MaxFragmentedSize", func(r *wire.NegotiateResponse) { r.MaxFragmentedSize = 131071 }, 0, 0},
		{"CreditsGranted0", "SD-33", "CreditsGranted", func(r *wire.NegotiateResponse) { r.CreditsGranted = 0 }, 0, 0},
		{"CreditsRequested0", "SD-33", "CreditsRequested", func(r *wire.NegotiateResponse) { r.CreditsRequested = 0 }, 0, 0},
		{"PreferredSendSizeAboveMaxReceiveSize", "SD-35", "PreferredSendSize", func(r *wire.NegotiateResponse) { r.PreferredSendSize = 1 << 21 }, 0, 0},
		{"PreferredSendSizeMaxValue", "SD-35", "PreferredSendSize", func(r *wire.NegotiateResponse) { r.PreferredSendSize = math.MaxUint32 }, 0, 0},
		{"StatusNotSupported", "SD-36", "Status", func(r *wire.NegotiateResponse) {
			*r = wire.NegotiateResponse{MinVersion: 0x100, MaxVersion: 0x100, Status: 0xc00000bb}
		}, 0, ntstatus.NotSupported},
		{"StatusInsufficientResources", "SD-36", "Status", func(r *wire.NegotiateResponse) { r.Status = 0xc000009a }, 0, ntstatus.InsufficientResources},
	} {
		register(initiatorCase("Response_"+b.name, "3.1.5.7",
			caseName("A Response that is wrong in %s makes the attempt fail with an error that names it; the connection ends and nothing is sent on it.", b.field),
			rows(b.row), func(t *T) {
				c := t.Pick(PeerConfig{})
				r := Response()
				if b.change != nil {
					b.change(&r)
				}
				m, _ := r.AppendBinary(nil)
				if b.cut != 0 {
					m = m[:max(b.cut, 0)]
				}
				t.Must("post", c.PostReceives(4, 4096))
				t.Must("send", c.SendRaw(m))
				err := c.Refused(t.Times.React)
				t.Blames(b.name, err, "3.1.5.7", b.field)
				t.Check(b.status == 0 || errors.Is(err, b.status), "the error %v does not match %v", err, b.status)
				t.Ends(c.Stream, b.name, t.Times.React)
			}))
	}
	return struct{}{}
}()

// goodResponses lie at the edge of what 3.1.5.7 allows.
var _ = func() struct{} {
	for _, g := range []struct {
		name   string
		rows   []string
		change func(*wire.NegotiateResponse, wire.NegotiateRequest)
	}{
		{"MaxReceiveSize128", rows("SD-31"), func(r *wire.NegotiateResponse, _ wire.NegotiateRequest) { r.MaxReceiveSize = 128 }},
		{"MaxFragmentedSize131072", rows("SD-31"), func(r *wire.NegotiateResponse, _ wire.NegotiateRequest) { r.MaxFragmentedSize = 131072 }},
		{"OneCreditGranted", rows("SD-33"), func(r *wire.NegotiateResponse, _ wire.NegotiateRequest) { r.CreditsGranted = 1 }},
		{"OneCreditRequested", rows("SD-33"), func(r *wire.NegotiateResponse, _ wire.NegotiateRequest) { r.CreditsRequested = 1 }},
		{"MoreCreditsThanRequested", rows("SD-33"), func(r *wire.NegotiateResponse, _ wire.NegotiateRequest) { r.CreditsGranted = 65535 }},
		{"PreferredSendSizeIsMaxReceiveSize", rows("SD-35"), func(r *wire.NegotiateResponse, q wire.NegotiateRequest) { r.PreferredSendSize = q.MaxReceiveSize }},
		{"OtherVersionsToo", rows("SD-29"), func(r *wire.NegotiateResponse, _ wire.NegotiateRequest) { r.MinVersion, r.MaxVersion = 0, 0xffff }},
	} {
		register(initiatorCase("Response_"+g.name, "3.1.5.7",
			"A Response at the edge of what is allowed makes a connection that works.",
			g.rows, func(t *T) {
				c := t.Pick(PeerConfig{})
				r := Response()
				g.change(&r, c.Request)
				c.Respond(r)
				c.Dialed()
				c.Window = min(int(r.CreditsGranted), defaultWindow)
				t.Must("first grant", c.WaitCredits(1, t.Times.React))
				c.Talks()
				c.KeptTheRules()
			}))
	}
	return struct{}{}
}()
