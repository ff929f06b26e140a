package smbdtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"unsafe"

	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// What the initiator under test lends of its memory and does with ours, and how its
// connection ends.

// lend registers memory of the initiator's user and tells the peer, so that the
// registration is in force.
func (c *Call) lend(p []byte, a transport.Access) (transport.Registration, []wire.Descriptor) {
	reg, err := c.Conn.RDMA().Register(c.t.ctx, p, a)
	c.t.Must("Register", err)
	c.Tells(8)
	var ds []wire.Descriptor
	for _, d := range reg.Descriptors() {
		ds = append(ds, wire.Descriptor(d))
	}
	return reg, ds
}

// takeBack ends a registration.
func (c *Call) takeBack(reg transport.Registration) {
	c.t.Must("Deregister", reg.Deregister(c.t.ctx, 0, false))
}

// The memory of a case: a buffer in the middle of others.
const (
	lentSize  = 8000
	lentFront = 100
)

func lentMemory() (whole, lent []byte) {
	whole = bytes.Repeat([]byte{guardByte}, lentFront+lentSize+100)
	return whole, whole[lentFront : lentFront+lentSize : lentFront+lentSize]
}

var _ = register(
	initiatorCase("Lends", "3.1.4.3, 2.2.3.1",
		"Registered memory is reached by the descriptor that the initiator gives: written where the peer may write, read where it may read, to its ends and not beyond.",
		rows("SD-07", "SD-100", "SD-102"), func(t *T) {
			c := t.Meet(PeerConfig{}, Response())
			whole, lent := lentMemory()
			reg, ds := c.lend(lent, transport.PeerWrites)
			Want(t, "descriptors", len(ds), 1)
			Want(t, "Length", ds[0].Length, lentSize)
			want := pattern(lentSize, 1)
			t.Must("write", c.WriteRemote(t.ctx, ds[0], want[:4000]))
			second := ds[0]
			second.Offset += 4000
			t.Must("write", c.WriteRemote(t.ctx, second, want[4000:]))
			c.Hears(1) // it is in place when this has come
			c.takeBack(reg)
			t.Check(bytes.Equal(lent, want), "what was written is not there")
			guard := bytes.Repeat([]byte{guardByte}, 100)
			t.Check(bytes.Equal(whole[:lentFront], guard) && bytes.Equal(whole[lentFront+lentSize:], guard), "memory beside it was written")

			reg, ds = c.lend(lent, transport.PeerReads)
			got, err := c.ReadRemote(t.ctx, ds[0])
			t.Must("read", err)
			t.Check(bytes.Equal(got, want), "what was read is not what is there")
			c.takeBack(reg)
			c.Talks()
		}),
	initiatorCase("LendsMuch", "3.1.4.3",
		"The descriptors of a buffer that needs several registrations are in its order and add up to it.",
		rows("SD-101"), func(t *T) {
			r := Response()
			r.MaxReadWriteSize = 8 << 20
			c := t.Meet(PeerConfig{}, r)
			n := c.Conn.RDMA().MaxReadWriteSize()
			lent := make([]byte, n+ndk.PageSize)
			lent = lent[ndk.PageSize-int(uintptr(unsafe.Pointer(unsafe.SliceData(lent)))%ndk.PageSize)-1:][:n] // one byte before a page
			reg, ds := c.lend(lent, transport.PeerWrites)
			t.Logf("%d bytes: %d descriptors", n, len(ds))
			want, at := pattern(n, 3), 0
			for _, d := range ds {
				for off := 0; off < int(d.Length); off += 1 << 20 {
					k := min(1<<20, int(d.Length)-off)
					t.Must("write", c.WriteRemote(t.ctx, wire.Descriptor{Offset: d.Offset + uint64(off), Token: d.Token, Length: uint32(k)}, want[at:at+k]))
					at += k
				}
			}
			Want(t, "bytes of the descriptors", at, n)
			c.Hears(1)
			c.takeBack(reg)
			t.Check(bytes.Equal(lent, want), "what was written is not there, or not in order")

			_, err := c.Conn.RDMA().Register(t.ctx, make([]byte, n+1), transport.PeerReads)
			t.Check(errors.Is(err, smbdirect.ErrTooLarge), "a byte more than MaxReadWriteSize: %v", err)
			_, err = c.Conn.RDMA().Register(t.ctx, nil, transport.PeerReads)
			t.Check(errors.Is(err, smbdirect.ErrTooLarge), "no byte: %v", err)
			_, err = c.Conn.RDMA().Register(t.ctx, lent[:1], 0)
			t.Check(err != nil, "memory without a right was registered")
			c.Talks()
		}),
	initiatorCase("RemoteInvalidation", "3.1.5.8, 3.1.4.2",
		"A token that the peer invalidates with its message is dead when the message is delivered, and the memory is taken back at no cost; another stays in force until it is taken back.",
		rows("SD-109", "SD-110"), func(t *T) {
			c := t.Meet(PeerConfig{}, Response())
			if !c.Conn.RDMA().RemoteInvalidation() {
				t.Skipf("the initiator's memory cannot be invalidated")
			}
			for _, which := range []string{"its own", "another's", "none"} {
				_, a := lentMemory()
				_, b := lentMemory()
				first, fd := c.lend(a, transport.PeerWrites)
				second, sd := c.lend(b, transport.PeerWrites)
				t.Must("credit", c.WaitCredits(2, t.Times.React))
				m := Encode(c.Header(4, 0), pattern(4, 1))
				c.Credits--
				c.Granted, c.Owed = c.Granted+c.Owed, 0
				switch which {
				case "its own":
					t.Must("send", c.SendInvalidate(m, ndk.Token(fd[0].Token)))
				case "another's":
					t.Must("send", c.SendInvalidate(m, ndk.Token(sd[0].Token)))
				default:
					t.Must("send", c.SendRaw(m))
				}
				// The first is taken back as if the answer had its token, or not.
				got := c.taken()
				t.Check(got.HasInvalidated == (which != "none"), "%s: invalidated %v", which, got.HasInvalidated)
				t.Must("Deregister", first.Deregister(t.ctx, got.Invalidated, got.HasInvalidated))
				if which == "its own" {
					t.Must("write to the other", c.WriteRemote(t.ctx, sd[0], []byte{1}))
					c.Hears(1)
					t.Check(b[0] == 1, "the other token is dead too")
				}
				t.Must("Deregister", second.Deregister(t.ctx, got.Invalidated, got.HasInvalidated))
				got.Release()
				Want(t, "registrations", c.Conn.Stats().Registrations, 0)
			}
			c.Talks()
		}),
	initiatorCase("ReachesOut", "3.1.4.5, 3.1.4.6",
		"The initiator's own Write and Read go through an array of descriptors in order, from an offset on, with the first and last trimmed, and touch nothing else.",
		rows("SD-103", "SD-104"), func(t *T) {
			c := t.Meet(PeerConfig{}, Response())
			for _, cuts := range [][]int{{9000}, {1, 4095, 0, 100, 4804}, {9000, 5}, {3000, 3000, 3000}} {
				g, err := c.Register(t.ctx, 9005, ndk.AllowRemoteWrite|ndk.AllowRemoteRead)
				t.Must("register", err)
				var ds []transport.Descriptor
				at := 0
				for _, n := range cuts {
					ds = append(ds, transport.Descriptor(g.Part(at, n)))
					at += n
				}
				const n = 8500
				b, err := c.Conn.RDMA().Lease(t.ctx, n)
				t.Must("Lease", err)
				want := pattern(n, byte(len(cuts)))
				copy(b.Bytes(), want)
				t.Must("Write", wait(t, "Write", later(func() error { return c.Conn.RDMA().Write(t.ctx, b, n, ds) }), t.Times.React))
				c.Tells(1) // it is in place when this has come
				t.Check(bytes.Equal(g.Bytes[:n], want), "%v: what was written is not there", cuts)
				t.Check(bytes.Equal(g.Bytes[n:], make([]byte, len(g.Bytes)-n)), "%v: bytes behind it were written", cuts)
				clear(b.Bytes())
				t.Must("Read", wait(t, "Read", later(func() error { return c.Conn.RDMA().Read(t.ctx, b, n, ds) }), t.Times.React))
				t.Check(bytes.Equal(b.Bytes()[:n], want), "%v: what was read is not what is there", cuts)
				// From an offset on, which lies in one of them or between two.
				part := c.Conn.RDMA().(transport.OffsetRDMA)
				for _, at := range []int{0, 1, 4095, 4096, 4196, 6000} {
					copy(b.Bytes(), pattern(300, byte(at)))
					copy(want[at:], pattern(300, byte(at)))
					t.Must("WriteAt", wait(t, "WriteAt", later(func() error { return part.WriteAt(t.ctx, b, 300, ds, uint64(at)) }), t.Times.React))
				}
				clear(b.Bytes())
				t.Must("ReadAt", wait(t, "ReadAt", later(func() error { return part.ReadAt(t.ctx, b, 8000, ds, 77) }), t.Times.React))
				t.Check(bytes.Equal(b.Bytes()[:8000], want[77:8077]), "%v: what was read from an offset is not what is there", cuts)
				for _, at := range []uint64{uint64(len(g.Bytes)) - 299, 1 << 40, 1<<64 - 1} {
					err := part.WriteAt(t.ctx, b, 300, ds, at)
					t.Check(errors.Is(err, transport.ErrDescriptors), "WriteAt %d: %v", at, err)
				}
				b.Release()
				t.Must("guards", g.CheckGuards())
				t.Must("deregister", g.Deregister(t.ctx))
			}
			c.Talks()
		}),
	initiatorCase("LocalErrors", "3.1.4.5, 3.1.4.6",
		"A transfer that does not fit the descriptors or MaxReadWriteSize, or whose descriptors overflow, fails with the initiator; the peer is not touched.",
		rows("SD-104", "SD-105"), func(t *T) {
			r := Response()
			r.MaxReadWriteSize = 65536
			c := t.Meet(PeerConfig{}, r)
			rdma := c.Conn.RDMA()
			Want(t, "MaxReadWriteSize", rdma.MaxReadWriteSize(), 65536)
			_, err := rdma.Lease(t.ctx, 65537)
			t.Check(errors.Is(err, smbdirect.ErrTooLarge), "Lease of a byte too many: %v", err)
			b, err := rdma.Lease(t.ctx, 65536)
			t.Must("Lease", err)
			defer b.Release()
			d := func(off uint64, n uint32) []transport.Descriptor {
				return []transport.Descriptor{{Offset: off, Token: 0x77, Length: n}}
			}
			for _, x := range []struct {
				what string
				n    int
				ds   []transport.Descriptor
				is   error
			}{
				{"longer than the descriptors", 101, append(d(0, 50), d(0, 50)...), transport.ErrDescriptors},
				{"no descriptors", 1, nil, transport.ErrDescriptors},
				{"an address that wraps", 16, d(1<<64-8, 16), transport.ErrDescriptors},
				{"too many descriptors", 1, make([]transport.Descriptor, smbdirect.MaxDescriptors+1), transport.ErrDescriptors},
				{"more than MaxReadWriteSize", 65537, d(0, 1<<20), smbdirect.ErrTooLarge},
				{"nothing", 0, d(0, 10), smbdirect.ErrTooLarge},
			} {
				err := rdma.Write(t.ctx, b, x.n, x.ds)
				t.Check(errors.Is(err, x.is), "Write, %s: %v", x.what, err)
				err = rdma.Read(t.ctx, b, x.n, x.ds)
				t.Check(errors.Is(err, x.is), "Read, %s: %v", x.what, err)
			}
			c.Talks()
		}),
	initiatorCase("ReadDepth", "3.1.4.6, 6.1",
		"The initiator lets the peer read; and of the peer's memory it has no more reads under way than the peer takes.",
		rows("SD-113"), func(t *T) {
			c := t.Meet(PeerConfig{InboundReadLimit: 1, OutboundReadLimit: 1}, Response())
			_, outbound := c.ReadLimits()
			t.Check(outbound >= 1, "the peer may have %d reads under way", outbound)
			_, lent := lentMemory()
			reg, ds := c.lend(lent, transport.PeerReads)
			_, err := c.ReadRemote(t.ctx, ds[0])
			t.Must("read", err)
			c.takeBack(reg)
			g, err := c.Register(t.ctx, 64*100, ndk.AllowRemoteRead)
			t.Must("register", err)
			copy(g.Bytes, pattern(6400, 2))
			var parts []transport.Descriptor
			for i := range 64 { // one more than one at a time ends the connection
				parts = append(parts, transport.Descriptor(g.Part(100*i, 100)))
			}
			b, err := c.Conn.RDMA().Lease(t.ctx, 6400)
			t.Must("Lease", err)
			t.Must("Read", wait(t, "Read", later(func() error { return c.Conn.RDMA().Read(t.ctx, b, 6400, parts) }), t.Times.React))
			t.Check(bytes.Equal(b.Bytes()[:6400], pattern(6400, 2)), "what was read is not what is there")
			b.Release()
			c.Talks()
		}),
	initiatorCase("ReadDepthHeader", "6.1",
		"On iWARP the private data of the request begins with IRD and ORD, each above 0, in network order.",
		rows("SD-111"), func(t *T) {
			c := t.Pick(PeerConfig{})
			t.onIWARP(c)
			b := c.Private()
			if len(b) < 8 {
				t.Fatalf("private data of %d bytes", len(b))
			}
			for _, v := range []uint32{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])} {
				t.Check(v >= 1 && v <= 255, "IRD and ORD are % x", b[:8])
			}
		}),
	initiatorCase("Disconnect", "3.1.7.1",
		"The end that the peer makes reaches the user once, behind what came before it, as the end of the stream; everything that waits fails.",
		rows("SD-114"), func(t *T) {
			c, waiters := t.busy()
			t.Must("send", c.SendHeader(c.Header(4, 0), pattern(4, 1)))
			t.Must("disconnect", c.Disconnect(t.ctx))
			c.HasHeard(pattern(4, 1))
			c.allFail(waiters)
			for range 2 {
				_, err := c.Conn.Receive(t.ctx)
				t.Check(errors.Is(err, io.EOF), "Receive: %v", err)
			}
		}),
	initiatorCase("ClosedByTheUser", "3.1.4.8",
		"Close ends the connection for the peer, and everything that waits fails.",
		rows("SD-114"), func(t *T) {
			c, waiters := t.busy()
			t.Must("Close", c.Conn.Close())
			c.allFail(waiters)
			t.EndsAnyhow(c.Stream, "Close", t.Times.React)
			_, err := c.Conn.Receive(t.ctx)
			t.Check(errors.Is(err, net.ErrClosed), "Receive: %v", err)
		}),
)

// busy is a connection without send credits where a Send, a Receive and a Register
// wait.
func (t *T) busy() (*Call, map[string]<-chan error) {
	r := Response()
	r.CreditsGranted = 1
	c := t.Pick(PeerConfig{})
	c.Respond(r)
	c.Dialed()
	c.FirstGrant()
	rdma := c.Conn.RDMA()
	var held []transport.Registration
	for { // until there is no more
		reg, err := rdma.(transport.TryRegisterer).TryRegister(t.ctx, make([]byte, 10), transport.PeerReads)
		t.Must("Register", err)
		if reg == nil {
			break
		}
		held = append(held, reg)
	}
	waiters := map[string]<-chan error{
		"Send": c.post(&transport.Message{Parts: [][]byte{{1}}}),
		"Register": later(func() error {
			_, err := rdma.Register(t.ctx, make([]byte, 10), transport.PeerReads)
			return err
		}),
	}
	t.Cleanup(func() {
		for _, reg := range held {
			if err := reg.Deregister(context.Background(), 0, false); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Errorf("Deregister: %v", err)
			}
		}
	})
	return c, waiters
}

// allFail waits for the waiters, each of which has to fail with the connection.
func (c *Call) allFail(waiters map[string]<-chan error) {
	for what, done := range waiters {
		if err := wait(c.t, what, done, c.t.Times.React); !errors.Is(err, net.ErrClosed) {
			c.t.Errorf("%s: %v", what, err)
		}
	}
}

// onIWARP skips the case on other transports, which carry the read depths by
// themselves.
func (t *T) onIWARP(c *Call) {
	info, err := c.Adapter().Info(t.ctx)
	t.Must("adapter", err)
	if info.Technology != ndk.TechnologyIWARP {
		t.Skipf("the read depths are in private data on iWARP alone")
	}
}

// replies have the read depths of 6.2 in every form that is about.
var _ = func() struct{} {
	for _, d := range []struct {
		name    string
		private []byte
		limit   int // reads of ours that it leaves; 0: what the transport says
	}{
		{"None", []byte{}, 0},
		{"FromItsSide", ReadDepths(1, 8), 1},
		{"FromOurSide", ReadDepths(8, 1), 1},
		{"HostOrder", binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 4), 4), 4},
		{"Zero", make([]byte, 8), 0},
		{"Absurd", bytes.Repeat([]byte{0xff}, 8), 0},
		{"Short", []byte{0, 0, 0, 1}, 0},
		{"MoreBehind", append(ReadDepths(2, 2), make([]byte, 100)...), 2},
	} {
		register(initiatorCase("ReadDepthReply_"+d.name, "6.2",
			"Whatever read depths the reply has, from whichever side and in whichever order, the connection works and the lesser of them is kept.",
			rows("SD-111", "SD-112"), func(t *T) {
				c := t.Pick(PeerConfig{Private: d.private})
				t.onIWARP(c)
				c.Respond(Response())
				c.Dialed()
				c.FirstGrant()
				c.Window = 8
				limit := c.parameters().ReadLimit
				t.Check(d.limit == 0 && limit > 1 || limit == d.limit, "read limit %d, want %d", limit, d.limit)
				g, err := c.Register(t.ctx, 100, ndk.AllowRemoteRead)
				t.Must("register", err)
				b, err := c.Conn.RDMA().Lease(t.ctx, 100)
				t.Must("Lease", err)
				t.Must("Read", wait(t, "Read", later(func() error {
					return c.Conn.RDMA().Read(t.ctx, b, 100, []transport.Descriptor{transport.Descriptor(g.Descriptor())})
				}), t.Times.React))
				b.Release()
				c.Talks()
			}))
	}
	return struct{}{}
}()

// trespasses reach for memory of the initiator's that they have no right to.
var _ = func() struct{} {
	for _, x := range []struct {
		name   string
		rows   []string
		access transport.Access
		read   bool
		change func(*wire.Descriptor)
		before string // what happens to the registration first
	}{
		{"ReadWhatMayBeWritten", rows("SD-100", "SD-108"), transport.PeerWrites, true, nil, ""},
		{"WriteWhatMayBeRead", rows("SD-100", "SD-108"), transport.PeerReads, false, nil, ""},
		{"Deregistered", rows("SD-102", "SD-108"), transport.PeerWrites, false, nil, "deregister"},
		{"DeregisteredRead", rows("SD-102", "SD-108"), transport.PeerReads, true, nil, "deregister"},
		{"Invalidated", rows("SD-109"), transport.PeerWrites, false, nil, "invalidate"},
		{"InvalidatedAndRegisteredAgain", rows("SD-109", "SD-102"), transport.PeerWrites, false, nil, "again"},
		{"WrongToken", rows("SD-108"), transport.PeerWrites, false, func(d *wire.Descriptor) { d.Token ^= 0x100 }, ""},
		{"TokenZero", rows("SD-108"), transport.PeerWrites, true, func(d *wire.Descriptor) { d.Token = 0 }, ""},
		{"ByteBefore", rows("SD-100", "SD-108"), transport.PeerWrites, false, func(d *wire.Descriptor) { d.Offset-- }, ""},
		{"ByteBehind", rows("SD-100", "SD-108"), transport.PeerReads, true, func(d *wire.Descriptor) { d.Length++ }, ""},
		{"AddressWraps", rows("SD-108"), transport.PeerWrites, false, func(d *wire.Descriptor) { d.Offset = 1<<64 - 16 }, ""},
		{"OtherConnection", rows("SD-100"), transport.PeerWrites, false, nil, "other"},
	} {
		register(initiatorCase("Trespass_"+x.name, "3.1.4.3, 3.1.4.4, 3.1.4.5",
			"An access to memory of the initiator's that it did not give ends the connection, and moves nothing.",
			x.rows, func(t *T) {
				c := t.Meet(PeerConfig{}, Response())
				whole, lent := lentMemory()
				reg, ds := c.lend(lent, x.access)
				d := ds[0]
				live := true
				if x.change != nil {
					x.change(&d)
				}
				switch x.before {
				case "deregister":
					c.takeBack(reg)
					live = false
				case "invalidate", "again":
					if !c.Conn.RDMA().RemoteInvalidation() {
						t.Skipf("the initiator's memory cannot be invalidated")
					}
					t.Must("credit", c.WaitCredits(2, t.Times.React))
					t.Must("send", c.SendInvalidate(Encode(c.Header(4, 0), pattern(4, 1)), ndk.Token(d.Token)))
					c.HasHeard(pattern(4, 1))
					if x.before == "again" {
						t.Must("Deregister", reg.Deregister(t.ctx, d.Token, true))
						reg, _ = c.lend(lent, x.access) // the same memory, another token
					}
				case "other":
					other := t.Meet(PeerConfig{}, Response())
					defer other.Talks() // it has nothing to do with it
					reg2, ds2 := other.lend(lent, x.access)
					defer other.takeBack(reg2)
					d = ds2[0]
				}
				content := bytes.Clone(whole)
				if x.read {
					got, err := c.ReadRemote(t.ctx, d)
					t.Check(err != nil, "%d bytes were read", len(got))
				} else if err := c.WriteRemote(t.ctx, d, bytes.Repeat([]byte{0xee}, 32)); err != nil {
					t.Logf("%v", err) // that it worked means nothing, RFC 5040 section 5.4
				}
				err := c.Lost(x.name, t.Times.React)
				t.Check(errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF), "Receive: %v", err)
				if live {
					// The end of the connection is what gives the memory back.
					err := reg.Deregister(t.ctx, 0, false)
					t.Check(err == nil || errors.Is(err, net.ErrClosed), "Deregister: %v", err)
				}
				t.Check(bytes.Equal(whole, content), "memory was written")
			}))
	}
	return struct{}{}
}()
