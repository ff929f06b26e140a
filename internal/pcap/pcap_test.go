package pcap

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

var (
	at     = time.Unix(1_700_000_000, 123_456_789)
	local4 = netip.MustParseAddrPort("192.0.2.1:5445")
	peer4  = netip.MustParseAddrPort("192.0.2.2:40000")
	local6 = netip.MustParseAddrPort("[fe80::1%lo]:5445")
	peer6  = netip.MustParseAddrPort("[2001:db8::2]:40000")
)

// packet is what a test looks at.
type packet struct {
	from       uint16 // port
	seq, ack   uint32
	flags      string
	payload    []byte
	onWire     int // octets of payload
	ci         gopacket.CaptureInfo
	checksumOK bool
}

func decode(t *testing.T, file []byte) (out []packet) {
	t.Helper()
	r, err := pcapgo.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	for {
		b, ci, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		p := gopacket.NewPacket(b, r.LinkType(), gopacket.Default)
		x, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if !ok {
			t.Fatalf("packet %d is no TCP: %v", len(out), p)
		}
		var n int
		switch ip := p.NetworkLayer().(type) {
		case *layers.IPv4:
			n = int(ip.Length) - 20
		case *layers.IPv6:
			n = int(ip.Length)
		}
		n -= int(x.DataOffset) * 4
		if want := 14 + len(p.NetworkLayer().LayerContents()) + int(x.DataOffset)*4 + n; ci.Length != want {
			t.Errorf("packet %d has %d octets and its record says %d", len(out), want, ci.Length)
		}
		var f strings.Builder
		for _, b := range []struct {
			on bool
			c  byte
		}{{x.SYN, 'S'}, {x.FIN, 'F'}, {x.PSH, 'P'}, {x.ACK, 'A'}} {
			if b.on {
				f.WriteByte(b.c)
			}
		}
		if err := x.SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
			t.Fatal(err)
		}
		err, bad := p.VerifyChecksums()
		out = append(out, packet{uint16(x.SrcPort), x.Seq, x.Ack, f.String(), x.Payload, n, ci, err == nil && len(bad) == 0})
	}
}

func file(t *testing.T, c *Capture) []byte {
	t.Helper()
	c.End()
	var b bytes.Buffer
	if err := c.Copy(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestConversation(t *testing.T) {
	for name, a := range map[string][2]netip.AddrPort{"IPv4": {local4, peer4}, "IPv6": {local6, peer6}} {
		t.Run(name, func(t *testing.T) {
			c, err := NewCapture(0, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			x := c.Open(a[0], a[1], false, at)
			x.Vital(at, false, []byte("request"))
			x.Data(at, true, []byte("an answer of 21 bytes"), 21)
			x.Data(at.Add(time.Microsecond), false, []byte("!"), 1)
			x.Close(at)
			x.Close(at)
			x.Data(at, true, []byte("late"), 4)
			got := decode(t, file(t, c))
			want := []packet{ // the peer, port 40000, connects
				{from: 40000, seq: 0, ack: 0, flags: "S"},
				{from: 5445, seq: 0, ack: 1, flags: "SA"},
				{from: 40000, seq: 1, ack: 1, flags: "A"},
				{from: 40000, seq: 1, ack: 1, flags: "PA", payload: []byte("request")},
				{from: 5445, seq: 1, ack: 8, flags: "PA", payload: []byte("an answer of 21 bytes")},
				{from: 40000, seq: 8, ack: 22, flags: "PA", payload: []byte("!")},
				{from: 5445, seq: 22, ack: 9, flags: "FA"},
				{from: 40000, seq: 9, ack: 23, flags: "FA"},
				{from: 5445, seq: 23, ack: 10, flags: "A"},
			}
			if len(got) != len(want) {
				t.Fatalf("%d packets, want %d", len(got), len(want))
			}
			for i, w := range want {
				g := got[i]
				if g.from != w.from || g.seq != w.seq || g.ack != w.ack || g.flags != w.flags || !bytes.Equal(g.payload, w.payload) || g.onWire != len(w.payload) {
					t.Errorf("packet %d: %+v\nwant %+v", i, g, w)
				}
				if !g.checksumOK {
					t.Errorf("packet %d: wrong checksum", i)
				}
			}
			if ts := got[5].ci.Timestamp; !ts.Equal(at.Add(time.Microsecond)) {
				t.Errorf("time %v, want %v", ts, at.Add(time.Microsecond))
			}
			if s := c.Stats(); s != (Stats{Packets: 9}) {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A packet that is cut says how long it was, and what follows is in its place.
func TestSnap(t *testing.T) {
	c, err := NewCapture(10, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	x := c.Open(local4, peer4, true, at)
	x.Data(at, true, bytes.Repeat([]byte{'a'}, 1000), 1000)
	x.Data(at, true, []byte("bcd"), 5000) // the caller had no more
	x.Data(at, true, []byte("e"), 1)
	got := decode(t, file(t, c))[3:]
	for i, w := range []struct {
		payload string
		onWire  int
		seq     uint32
	}{{"aaaaaaaaaa", 1000, 1}, {"bcd", 5000, 1001}, {"e", 1, 6001}} {
		if g := got[i]; string(g.payload) != w.payload || g.onWire != w.onWire || g.seq != w.seq {
			t.Errorf("packet %d: %q of %d at %d; want %q of %d at %d", i, g.payload, g.onWire, g.seq, w.payload, w.onWire, w.seq)
		}
	}
}

// What is longer than IP allows becomes more packets.
func TestLongData(t *testing.T) {
	c, err := NewCapture(0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	x := c.Open(local4, peer4, true, at)
	p := bytes.Repeat([]byte("0123456789abcdef"), 5000)
	x.Data(at, true, p, len(p))
	var all []byte
	got := decode(t, file(t, c))[3:]
	for _, g := range got {
		all = append(all, g.payload...)
	}
	if !bytes.Equal(all, p) || len(got) != 2 || got[1].seq != 1+65495 {
		t.Errorf("%d octets in %d packets", len(all), len(got))
	}
}

// Who does not take what was captured costs packets, and nobody waits for him. The
// handshake of a connection finds room even so.
func TestSlowReader(t *testing.T) {
	c, err := NewCapture(0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	x := c.Open(local4, peer4, true, at)
	p := make([]byte, 1000)
	for range 20 {
		x.Data(at, true, p, len(p))
	}
	y := c.Open(local6, peer6, true, at)
	s := c.Stats()
	if s.Dropped != 20-s.Packets+6 || s.Dropped < 10 || s.Packets < 6+8 {
		t.Errorf("%+v", s)
	}
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- c.Copy(context.Background(), pw); pw.Close() }()
	first := make([]byte, 24)
	if _, err := io.ReadFull(pr, first); err != nil {
		t.Fatal(err)
	}
	// The buffer was taken: there is room again while the reader is stuck in it.
	y.Data(at, true, p, len(p))
	if n := c.Stats(); n.Dropped != s.Dropped || n.Packets != s.Packets+1 {
		t.Errorf("%+v after %+v", n, s)
	}
	c.End()
	rest, err := io.ReadAll(pr)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := decode(t, append(first, rest...)); uint64(len(got)) != s.Packets+1 {
		t.Errorf("%d packets in the file, %d counted", len(got), s.Packets+1)
	}
}

func TestCopyEndsWithItsContext(t *testing.T) {
	c, err := NewCapture(0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var b bytes.Buffer
	if err := c.Copy(ctx, &b); !errors.Is(err, context.Canceled) || b.Len() != 24 {
		t.Errorf("%v with %d bytes; want the header of the file", err, b.Len())
	}
	if _, err := NewCapture(-1, 1); err == nil {
		t.Error("a negative snap length passed")
	}
	if _, err := NewCapture(0, 0); err == nil {
		t.Error("a limit of 0 passed")
	}
}
