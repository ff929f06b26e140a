package iwarp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// memorySink keeps what it is shown.
type memorySink struct {
	snap           int
	mu             sync.Mutex
	opened, closed []*TapConn
	sent, received [][]byte
	lengths        []int // of what was sent
}

func (s *memorySink) Snap() int { return s.snap }

func (s *memorySink) Opened(c *TapConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = append(s.opened, c)
}

func (s *memorySink) Closed(c *TapConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = append(s.closed, c)
}

func (s *memorySink) Frame(_ *TapConn, f *TapFrame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !f.Sent {
		s.received = append(s.received, bytes.Clone(f.Data))
		return
	}
	s.sent = append(s.sent, bytes.Clone(f.Data))
	s.lengths = append(s.lengths, f.Len)
}

// traffic has the client send, write, write from a file and read, and the server
// answer.
type traffic struct {
	c, s    *end
	file    *os.File
	content []byte
}

func newTraffic(t *testing.T, c, s *end) *traffic {
	content := bytes.Repeat([]byte("a file of 23 octets...\n"), 30_000)
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, content, 0o600))
	f, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return &traffic{c, s, f, content}
}

func (w *traffic) run(t *testing.T) {
	t.Helper()
	x, err := w.c.qp.Extension(ndk.FileWriterExtension, ndk.Version{Major: 1})
	must(t, err)
	must(t, w.s.qp.Receive(nil, []ndk.SGE{w.s.sge(0, 4096)}))
	must(t, w.c.qp.Receive(nil, []ndk.SGE{w.c.sge(0, 4096)}))
	base, token := w.s.mr.Base(), w.s.mr.RemoteToken()
	must(t, w.c.qp.Write(nil, []ndk.SGE{w.c.sge(8192, 200_001)}, base+8192, token, 0))
	for _, n := range []uint32{150_001, 7, 0} { // behind each other, and behind the trailer of another
		must(t, x.(ndk.FileWriter).WriteFile(nil, ndk.FileRange{File: w.file, Offset: int64(len(w.content)) - 100_000, Length: n}, base+8192, token, 0))
	}
	must(t, w.c.qp.Send(nil, []ndk.SGE{w.c.sge(8192, 1000)}, 0))
	must(t, w.c.qp.Read(nil, []ndk.SGE{w.c.sge(8192, 100_003)}, base+8192, token, 0))
	must(t, w.s.qp.Send(nil, []ndk.SGE{w.s.sge(8192, 33)}, 0))
	for range 7 {
		if r := w.c.wait(); r.Status != ntstatus.Success {
			t.Fatalf("client: %v", r.Status)
		}
	}
	for range 2 {
		if r := w.s.wait(); r.Status != ntstatus.Success {
			t.Fatalf("server: %v", r.Status)
		}
	}
}

// What one end shows as sent is what the other shows as received, FPDU by FPDU,
// with every octet: also of memory that the socket is given and of files, with and
// without CRC, in FPDUs of any size.
func TestTapShowsWhatIsOnTheWire(t *testing.T) {
	for _, cfg := range []Config{{}, {CRC: true}, {MaxFPDU: 1460}, {CRC: true, MaxFPDU: 512}} {
		t.Run(fmt.Sprintf("crc %v fpdu %d", cfg.CRC, cfg.MaxFPDU), func(t *testing.T) {
			cc, sc := cfg, cfg
			cc.Tap, sc.Tap = NewTap(), NewTap()
			a, b := &memorySink{snap: 1 << 20}, &memorySink{snap: 1 << 20}
			cc.Tap.Attach(a)
			sc.Tap.Attach(b)
			c, s := pair(t, cc, sc, 1<<20)
			newTraffic(t, c, s).run(t)
			c.close()
			s.close()
			compareTaps(t, a, b, cfg.CRC)
			for _, x := range []*memorySink{a, b} {
				if len(x.opened) != 1 || len(x.closed) != 1 || x.opened[0] != x.closed[0] {
					t.Fatalf("opened %v, closed %v", x.opened, x.closed)
				}
			}
			o, p := a.opened[0], b.opened[0]
			if !o.Initiator || p.Initiator || o.Local != p.Peer || o.Peer != p.Local || !bytes.Equal(o.Request, p.Request) || !bytes.Equal(o.Reply, p.Reply) ||
				!bytes.HasPrefix(o.Request, []byte("MPA ID Req Frame")) || !bytes.HasPrefix(o.Reply, []byte("MPA ID Rep Frame")) {
				t.Errorf("the ends differ:\n%+v\n%+v", o, p)
			}
		})
	}
}

// compareTaps checks that every frame is one FPDU and that both sides have the same.
func compareTaps(t *testing.T, a, b *memorySink, crc bool) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range []struct {
		name string
		x, y [][]byte
	}{{"client to server", a.sent, b.received}, {"server to client", b.sent, a.received}} {
		if len(d.x) == 0 || len(d.x) != len(d.y) {
			t.Fatalf("%s: %d FPDUs sent, %d received", d.name, len(d.x), len(d.y))
		}
		for i := range d.x {
			if !bytes.Equal(d.x[i], d.y[i]) {
				t.Fatalf("%s: FPDU %d of %d octets sent and %d received differs", d.name, i, len(d.x[i]), len(d.y[i]))
			}
			n := int(binary.BigEndian.Uint16(d.x[i]))
			if len(d.x[i]) != fpduLen(n) {
				t.Fatalf("%s: FPDU %d of %d octets says %d", d.name, i, len(d.x[i]), n)
			}
		}
	}
}

// A sink that comes to a connection with traffic starts with whole FPDUs, wherever
// the stream was, and nothing is missing from then on.
func TestTapAttachedToALiveConnection(t *testing.T) {
	cc, sc := Config{Tap: NewTap()}, Config{Tap: NewTap()}
	c, s := pair(t, cc, sc, 1<<20)
	w := newTraffic(t, c, s)
	w.run(t) // ends behind a file's trailer, as all of it was completed
	for range 3 {
		a, b := &memorySink{snap: 1 << 20}, &memorySink{snap: 1 << 20}
		da, db := cc.Tap.Attach(a), sc.Tap.Attach(b)
		w.run(t)
		if len(a.opened) != 1 || len(a.opened[0].Request) == 0 || len(a.opened[0].Reply) == 0 {
			t.Fatal("the connection is not shown with its startup frames")
		}
		compareTaps(t, a, b, false)
		da()
		db()
		w.run(t)
	}
	c.close()
	s.close()
}

// A file that ends another FPDU's trailer into the next batch is in step when a
// sink comes in between.
func TestTapAttachedBehindAFile(t *testing.T) {
	tap := NewTap()
	c, s := pair(t, Config{Tap: tap}, Config{}, 1<<20)
	w := newTraffic(t, c, s)
	x, err := c.qp.Extension(ndk.FileWriterExtension, ndk.Version{Major: 1})
	must(t, err)
	file := func() {
		t.Helper()
		must(t, x.(ndk.FileWriter).WriteFile(nil, ndk.FileRange{File: w.file, Length: 5001}, s.mr.Base(), s.mr.RemoteToken(), 0))
		c.wait()
	}
	file()
	a := &memorySink{snap: 1 << 20}
	tap.Attach(a)
	file()
	must(t, s.qp.Receive(nil, []ndk.SGE{s.sge(0, 64)}))
	must(t, c.qp.Send(nil, []ndk.SGE{c.sge(0, 64)}, 0))
	c.wait()
	s.wait()
	c.close()
	s.close()
	if len(a.sent) == 0 {
		t.Fatal("nothing is shown")
	}
	for i, f := range a.sent {
		if n := int(binary.BigEndian.Uint16(f)); fpduLen(n) != len(f) {
			t.Errorf("FPDU %d of %d octets says %d", i, len(f), n)
		}
	}
	last := a.sent[len(a.sent)-1]
	if last[lenField+1]&rdmapOpMask != opSend {
		t.Errorf("the last FPDU is % x", last[:20])
	}
}

// Frames are cut to what the sink wants, and say how long they were.
func TestTapSnap(t *testing.T) {
	tap := NewTap()
	a := &memorySink{snap: 40}
	tap.Attach(a)
	c, s := pair(t, Config{Tap: tap}, Config{}, 1<<20)
	newTraffic(t, c, s).run(t)
	c.close()
	s.close()
	total := 0
	for i, f := range a.sent {
		if len(f) > 40 || len(f) != min(40, a.lengths[i]) || a.lengths[i] != fpduLen(int(binary.BigEndian.Uint16(f))) {
			t.Fatalf("frame %d has %d of %d octets", i, len(f), a.lengths[i])
		}
		total += a.lengths[i]
	}
	if want := 200_001 + 150_001 + 7 + 1000; total < want {
		t.Errorf("%d octets in all, want at least %d", total, want)
	}
}

// A connection that the peer refuses is shown with its startup frames.
func TestTapShowsARefusal(t *testing.T) {
	tap := NewTap()
	a := &memorySink{snap: 100}
	tap.Attach(a)
	cfg := Config{Tap: tap}
	c := newEnd(t, cfg, 4096)
	defer c.close()
	s := newEnd(t, Config{}, 4096)
	defer s.close()
	rejected := make(chan error, 1)
	l, err := s.a.CreateListener(t.Context(), func(c ndk.Connector) {
		go func() { // the test waits for it
			err := c.Reject(nil)
			c.Close()
			rejected <- err
		}()
	})
	must(t, err)
	must(t, l.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0")))
	defer l.Close()
	addr, err := l.LocalAddr()
	must(t, err)
	c.c, err = c.a.CreateConnector(t.Context())
	must(t, err)
	if err := c.c.Connect(t.Context(), c.qp, netip.AddrPort{}, addr, ndk.ConnParams{}); err == nil {
		t.Fatal("it was not refused")
	}
	must(t, <-rejected)
	if len(a.opened) != 1 || len(a.closed) != 1 || len(a.opened[0].Request) == 0 || len(a.opened[0].Reply) == 0 || a.opened[0].Reply[16]&flagReject == 0 {
		t.Errorf("shown are %+v", a.opened)
	}
}

// What a Tap without sinks costs, beside none at all.
func BenchmarkTap(b *testing.B) {
	for _, row := range []struct {
		name string
		tap  *Tap
		sink bool
	}{{"none", nil, false}, {"idle", NewTap(), false}, {"attached", NewTap(), true}} {
		b.Run(row.name, func(b *testing.B) {
			if row.sink {
				row.tap.Attach(discardSink{})
			}
			c, s := pair(b, Config{Tap: row.tap}, Config{Tap: row.tap}, 1<<16)
			b.ReportAllocs()
			for b.Loop() {
				must(b, s.qp.Receive(nil, []ndk.SGE{s.sge(0, 64)}))
				must(b, c.qp.Send(nil, []ndk.SGE{c.sge(0, 64)}, 0))
				c.wait()
				s.wait()
			}
			b.StopTimer()
			c.close()
			s.close()
		})
	}
}

type discardSink struct{}

func (discardSink) Opened(*TapConn)           {}
func (discardSink) Frame(*TapConn, *TapFrame) {}
func (discardSink) Closed(*TapConn)           {}
func (discardSink) Snap() int                 { return 1 << 16 }

// To a peer that wants markers the tap shows the stream with them, as it went out.
func TestTapShowsMarkers(t *testing.T) {
	for _, crc := range []bool{false, true} {
		tap := NewTap()
		a := &memorySink{snap: 1 << 20}
		tap.Attach(a)
		_, stream := markedSend(t, Config{CRC: crc, Tap: tap}, []int{0, 1, 100, 511, 512, 513, 9001, 60_000})
		a.mu.Lock()
		var got []byte
		for _, f := range a.sent {
			got = append(got, f...)
		}
		marked := slices.ContainsFunc(a.opened, func(c *TapConn) bool { return c.Markers })
		a.mu.Unlock()
		if !marked || !bytes.Equal(got, stream) {
			t.Errorf("crc %v: %d octets shown of %d sent; said to be marked: %v", crc, len(got), len(stream), marked)
		}
	}
}
