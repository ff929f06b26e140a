package smbdtest

import (
	"bytes"
	"errors"
	"math"

	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Data Transfer messages between an acceptor of ours and the initiator under test.

var _ = register(
	initiatorCase("SendSizes", "2.2.3, 3.1.5.4",
		"Messages of every size arrive in fragments whose headers are right.",
		rows("SD-04", "SD-05", "SD-06", "SD-44", "SD-46", "SD-47"), func(t *T) {
			c := t.Meet(PeerConfig{}, Response())
			for _, n := range []int{1, 2, 7, 8, 999, 1000, 1001, 2000, 2001, 65535, 1 << 17} {
				at := len(c.Headers)
				c.Tells(n)
				left := uint32(n)
				for _, h := range c.Headers[at:] {
					if h.DataLength == 0 {
						continue // a grant before or behind it
					}
					want := min(left, 1000)
					left -= min(want, left)
					t.Check(h.DataOffset == 24 && h.DataLength == want && h.RemainingDataLength == left,
						"%d bytes: a fragment %+v; want %d bytes and %d to follow", n, h, want, left)
				}
				Want(t, "bytes that did not come", left, 0)
			}
			c.KeptTheRules()
		}),
	initiatorCase("ReceiveSizes", "3.1.5.8",
		"Messages of every size, in fragments of any size, are delivered once and as they are.",
		rows("SD-70", "SD-77"), func(t *T) {
			c := t.Meet(PeerConfig{}, Response())
			for _, n := range []int{1, 999, 1000, 1001, 5000} {
				c.Hears(n)
			}
			for _, in := range []int{1, 3, 500, 1000} {
				b := pattern(700, byte(in))
				t.Must("send", c.SendMessageIn(b, in, t.Times.React))
				c.HasHeard(b)
			}
			c.Talks()
		}),
	initiatorCase("LongestMessage", "3.1.4.2, 3.1.5.8",
		"A message of the negotiated MaxFragmentedSize passes each way; one byte more is refused where it is sent.",
		rows("SD-40", "SD-65"), func(t *T) {
			c := t.Meet(PeerConfig{}, Response())
			c.Tells(1 << 17)
			err := wait(t, "Send", c.post(&transport.Message{Parts: [][]byte{make([]byte, 1<<17), {1}}}), t.Times.React)
			t.Check(errors.Is(err, smbdirect.ErrTooLong), "a byte too many: %v", err)
			err = wait(t, "Send", c.post(&transport.Message{}), t.Times.React)
			t.Check(errors.Is(err, smbdirect.ErrTooLong), "an empty message: %v", err)
			t.Quiet(c.Stream, "what was refused", t.Times.Quiet)
			c.Hears(int(c.Request.MaxFragmentedSize))
			c.Talks()
			c.KeptTheRules()
		}),
	initiatorCase("Fragments_EmptyOnes", "3.1.5.8",
		"Fragments without payload that announce more, at the start and in the middle, belong to the message; those that announce nothing do not.",
		rows("SD-70", "SD-71"), func(t *T) {
			c := t.Meet(PeerConfig{}, Response())
			b := pattern(20, 3)
			for _, f := range []struct {
				from, to int
				left     uint32
			}{{0, 0, 20}, {0, 5, 15}, {5, 5, 15}, {5, 5, 0}, {5, 6, 14}, {6, 6, 0}, {6, 20, 0}} {
				t.Must("credit", c.WaitCredits(2, t.Times.React))
				h := c.Header(f.to-f.from, f.left)
				if f.from == f.to {
					h.DataOffset = 0
				}
				t.Must("send", c.SendHeader(h, b[f.from:f.to]))
			}
			c.HasHeard(b)
			t.Must("credit", c.WaitCredits(2, t.Times.React))
			t.Must("send", c.SendEmpty(0))
			c.Talks() // nothing was delivered before
		}),
	initiatorCase("Redundancy", "3.1.5.8",
		"Bytes behind the payload are ignored, and so are a payload that begins late, Reserved and unknown Flags.",
		rows("SD-01", "SD-06", "SD-62", "SD-67"), func(t *T) {
			c := t.Meet(PeerConfig{}, Response())
			b := pattern(100, 9)
			send := func(h wire.DataTransfer, body []byte, change func(m []byte)) {
				t.Must("credit", c.WaitCredits(2, t.Times.React))
				m := Encode(h, body)
				if change != nil {
					change(m)
				}
				t.Must("send", c.sendBytes(h, m))
				c.HasHeard(b)
			}
			send(c.Header(100, 0), append(bytes.Clone(b), make([]byte, 900)...), nil)
			late := c.Header(100, 0)
			late.DataOffset = 512
			send(late, append(make([]byte, 512-24), b...), nil)
			send(c.Header(100, 0), b, func(m []byte) { m[6], m[7] = 0xff, 0xff })
			flags := c.Header(100, 0)
			flags.Flags = 0xfffe
			send(flags, b, nil)
			c.Talks()
		}),
	initiatorCase("NothingBetweenFragments", "3.1.5.4",
		"Grants and answers that are due while a message is on its way ride on its fragments.",
		rows("SD-48"), func(t *T) {
			r := Response()
			r.CreditsGranted = 2
			c := t.Meet(PeerConfig{}, r)
			c.Window = 0
			b := pattern(30000, 1)
			done := c.post(&transport.Message{Parts: [][]byte{b}})
			got := 0
			for i := 0; got < len(b); i++ {
				f, err := c.Fragment(t.Times.React)
				t.Must("fragment", err)
				t.Check(f.DataLength > 0 || got == 0 || f.RemainingDataLength > 0, "a message without payload after %d bytes", got)
				got += int(f.DataLength)
				t.Must("post", c.Post(1))
				t.Must("credit", c.WaitCredits(1, t.Times.React))
				flags := uint16(0)
				if i%3 == 0 {
					flags = wire.FlagResponseRequested
				}
				t.Must("send", c.SendEmpty(flags))
			}
			t.Must("Send", wait(t, "Send", done, t.Times.React))
			c.Window = 2
			c.Talks()
			c.KeptTheRules()
		}),
	initiatorCase("LocalInvalidateOnce", "3.1.4.2, 3.1.5.4",
		"A token that the user wants invalidated goes with exactly one fragment of the message, and is dead then.",
		rows("SD-49", "SD-109"), func(t *T) {
			c := t.Meet(PeerConfig{}, Response())
			if !c.Conn.RDMA().RemoteInvalidation() {
				t.Skipf("the initiator cannot invalidate")
			}
			for _, n := range []int{10, 5000} {
				g, err := c.Register(t.ctx, 4096, ndk.AllowRemoteWrite)
				t.Must("register", err)
				done := c.post(&transport.Message{Parts: [][]byte{pattern(n, 1)}, Invalidate: uint32(g.Token), HasInvalidate: true})
				left, times := n, 0
				for left > 0 {
					f, err := c.Fragment(t.Times.React)
					t.Must("fragment", err)
					left -= int(f.DataLength)
					if f.Invalidated {
						times++
						Want(t, "token", f.Token, g.Token)
					}
				}
				t.Must("Send", wait(t, "Send", done, t.Times.React))
				Want(t, "fragments that invalidate", times, 1)
				t.Check(g.Invalidated(), "the token is alive")
			}
			c.Talks()
		}),
	initiatorCase("InvalidatedByAnyFragment", "3.1.5.8",
		"A token that a fragment invalidates is reported with the message; with several the last one wins.",
		rows("SD-77", "SD-78"), func(t *T) {
			c := t.Meet(PeerConfig{}, Response())
			rdma := c.Conn.RDMA()
			if !rdma.RemoteInvalidation() {
				t.Skipf("the initiator's memory cannot be invalidated")
			}
			for _, fragments := range [][]bool{{true, false, false}, {false, true, false}, {false, false, true}, {true, true, false}, {false, false, false}} {
				var regs []transport.Registration
				var last uint32
				has := false
				b := pattern(30, 5)
				t.Must("credit", c.WaitCredits(4, t.Times.React))
				for i, inv := range fragments {
					m := Encode(c.Header(10, uint32(20-10*i)), b[10*i:10*i+10])
					c.Credits--
					c.Granted, c.Owed = c.Granted+c.Owed, 0
					if !inv {
						t.Must("send", c.SendRaw(m))
						continue
					}
					reg, err := rdma.Register(t.ctx, make([]byte, 4096), transport.PeerWrites)
					t.Must("Register", err)
					regs = append(regs, reg)
					last, has = reg.Descriptors()[0].Token, true
					c.Tells(1) // it is in force when this has arrived
					t.Must("send", c.SendInvalidate(m, ndk.Token(last)))
				}
				m := c.taken()
				t.Check(bytes.Equal(m.Data, b) && m.HasInvalidated == has && (!has || m.Invalidated == last),
					"%v: %d bytes, token %#x %v; want %#x %v", fragments, len(m.Data), m.Invalidated, m.HasInvalidated, last, has)
				for _, reg := range regs {
					t.Must("Deregister", reg.Deregister(t.ctx, m.Invalidated, m.HasInvalidated))
				}
				m.Release()
			}
			c.Talks()
		}),
	initiatorCase("LongerThanTheReceive", "3.1.5.8",
		"A message longer than the negotiated size breaks the stream below SMB Direct.",
		rows("SD-64"), func(t *T) {
			c := t.Meet(PeerConfig{}, Response())
			t.Must("send", c.SendRaw(Encode(c.Header(1001, 0), make([]byte, 1001))))
			err := c.Lost("1025 bytes", t.Times.React)
			var lost *smbdirect.LostError
			t.Check(errors.As(err, &lost), "the error is %v; want that the connection is lost", err)
		}),
	initiatorCase("NothingAfterAViolation", "3.1.5.5",
		"Messages behind one that breaks a rule are not processed: none is delivered.",
		rows("SD-79"), func(t *T) {
			c := t.Meet(PeerConfig{}, Response())
			bad := c.Header(4, 0)
			bad.CreditsRequested = 1
			t.Must("send", c.SendHeader(bad, pattern(4, 1)))
			c.HasHeard(pattern(4, 1)) // the last that counts
			bad.CreditsRequested = 0
			t.Must("send", c.SendHeader(bad, pattern(4, 1)))
			for range 3 {
				if c.SendHeader(c.Header(4, 0), pattern(4, 2)) != nil {
					break // it has ended already
				}
			}
			t.Blames("CreditsRequested 0", c.Lost("CreditsRequested 0", t.Times.React), "3.1.5.8", "CreditsRequested")
		}),
)

// violations are Data Transfer messages that the initiator has to end the
// connection for.
var _ = func() struct{} {
	one := func(change func(h *wire.DataTransfer)) func(*Call) [][]byte {
		return func(c *Call) [][]byte {
			h := c.Header(8, 0)
			change(&h)
			return [][]byte{Encode(h, make([]byte, 40))}
		}
	}
	then := func(first, second wire.DataTransfer) func(*Call) [][]byte {
		return func(*Call) [][]byte {
			first.CreditsRequested, second.CreditsRequested = 10, 10
			first.DataOffset, second.DataOffset = 24, 24
			return [][]byte{Encode(first, make([]byte, first.DataLength)), Encode(second, make([]byte, second.DataLength))}
		}
	}
	for _, v := range []struct {
		name, row, section, field string
		messages                  func(c *Call) [][]byte
	}{
		{"CreditsRequested0", "SD-60", "3.1.5.8", "CreditsRequested", one(func(h *wire.DataTransfer) { h.CreditsRequested = 0 })},
		{"UncompletedMessage", "SD-61", "3.1.5.8", "length", func(c *Call) [][]byte { return [][]byte{Encode(c.Header(0, 0), nil)[:19]} }},
		{"OneByte", "SD-61", "3.1.5.8", "length", func(*Call) [][]byte { return [][]byte{{1}} }},
		{"NoBytes", "SD-61", "3.1.5.8", "length", func(*Call) [][]byte { return [][]byte{{}} }},
		{"DataOffset23", "SD-62", "3.1.5.8", "DataOffset", one(func(h *wire.DataTransfer) { h.DataOffset = 23 })},
		{"DataOffset25", "SD-62", "3.1.5.8", "DataOffset", one(func(h *wire.DataTransfer) { h.DataOffset = 25 })},
		{"DataOffset28", "SD-62", "3.1.5.8", "DataOffset", one(func(h *wire.DataTransfer) { h.DataOffset = 28 })},
		{"DataOffsetInTheHeader", "SD-62", "2.2.3", "DataOffset", one(func(h *wire.DataTransfer) { h.DataOffset = 16 })},
		{"DataOffsetBehindTheMessage", "SD-63", "3.1.5.8", "DataOffset + DataLength", one(func(h *wire.DataTransfer) { h.DataOffset = 64 })},
		{"DataOffsetMaxValue", "SD-63", "3.1.5.8", "DataOffset + DataLength", one(func(h *wire.DataTransfer) { h.DataOffset = 0xfffffff8 })},
		{"DataLengthOneTooMany", "SD-63", "3.1.5.8", "DataOffset + DataLength", one(func(h *wire.DataTransfer) { h.DataLength = 41 })},
		{"DataLengthMaxValue", "SD-63", "3.1.5.8", "DataOffset + DataLength", one(func(h *wire.DataTransfer) { h.DataLength = math.MaxUint32 })},
		{"DataOffsetAndLengthWrap", "SD-63", "3.1.5.8", "DataOffset + DataLength", one(func(h *wire.DataTransfer) { h.DataOffset, h.DataLength = 32, 0xffffffe0 })},
		{"RemainingAboveMaxFragmentedSize", "SD-65", "3.1.5.8", "DataLength + RemainingDataLength", func(c *Call) [][]byte {
			return [][]byte{Encode(c.Header(8, c.Request.MaxFragmentedSize-7), make([]byte, 8))}
		}},
		{"RemainingMaxValue", "SD-65", "3.1.5.8", "DataLength + RemainingDataLength", one(func(h *wire.DataTransfer) { h.RemainingDataLength = math.MaxUint32 })},
		{"RemainingAboveMaxFragmentedSizeEmpty", "SD-65", "3.1.5.8", "DataLength + RemainingDataLength", func(c *Call) [][]byte {
			return [][]byte{Encode(c.Header(0, c.Request.MaxFragmentedSize+1), nil)}
		}},
		{"LaterFragmentTooLong", "SD-68", "3.1.5.8", "DataLength", then(wire.DataTransfer{DataLength: 8, RemainingDataLength: 4}, wire.DataTransfer{DataLength: 5})},
		{"LaterFragmentAnnouncesMore", "SD-68", "3.1.5.8", "RemainingDataLength", then(wire.DataTransfer{DataLength: 8, RemainingDataLength: 8}, wire.DataTransfer{DataLength: 4, RemainingDataLength: 5})},
		{"LaterFragmentAnnouncesLess", "SD-68", "3.1.5.8", "RemainingDataLength", then(wire.DataTransfer{DataLength: 8, RemainingDataLength: 8}, wire.DataTransfer{DataLength: 4, RemainingDataLength: 3})},
		{"RemainingZeroTooEarly", "SD-69", "3.1.5.8", "RemainingDataLength", then(wire.DataTransfer{DataLength: 8, RemainingDataLength: 8}, wire.DataTransfer{DataLength: 4})},
	} {
		register(initiatorCase("Data_"+v.name, "3.1.5.8",
			caseName("A message whose %s breaks a rule ends the connection with an error that names it; nothing is delivered.", v.field),
			rows(v.row), func(t *T) {
				c := t.Meet(PeerConfig{}, Response())
				c.Talks()
				t.Must("credit", c.WaitCredits(3, t.Times.React))
				for _, m := range v.messages(c) {
					t.Must("send", c.SendRaw(m))
				}
				t.Blames(v.name, c.Lost(v.name, t.Times.React), v.section, v.field)
				c.KeptTheRules()
			}))
	}
	return struct{}{}
}()
