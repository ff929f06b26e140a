package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// road leads to a listener of the server, and breaks: each connection on it after a
// number of octets that the seed says, by FIN, by RST, or by going silent.
type road struct {
	l  net.Listener
	to string
	wg sync.WaitGroup

	mu sync.Mutex
	// guarded by mu
	r      *rand.Rand
	breaks int             // how many more connections break
	least  int             // octets that one carries before, at least,
	most   int             // and at most
	silent bool            // they go silent
	conns  map[*lane]error // open ones
	broken int             // how many broke
}

// lane is one connection on a road.
type lane struct {
	a, b net.Conn
	mu   sync.Mutex
	left int  // guarded by mu: octets until it breaks; negative: never
	mute bool // guarded by mu: it has gone silent
}

func newRoad(t testing.TB, to string, seed uint64, breaks, least, most int, silent bool) *road {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &road{l: l, to: to, r: rand.New(rand.NewPCG(seed, 5)), breaks: breaks, least: least, most: most, silent: silent,
		conns: map[*lane]error{}}
	r.wg.Go(r.run) // ends with l; close waits
	t.Cleanup(r.close)
	return r
}

func (r *road) run() {
	for {
		a, err := r.l.Accept()
		if err != nil {
			return
		}
		b, err := net.Dial("tcp", r.to)
		if err != nil {
			a.Close()
			continue
		}
		n := &lane{a: a, b: b, left: -1}
		r.mu.Lock()
		if r.breaks > 0 {
			r.breaks--
			n.left = r.least + r.r.IntN(r.most-r.least)
		}
		r.conns[n] = nil
		r.mu.Unlock()
		r.wg.Go(func() { r.pump(n, a, b) }) // both end when either breaks
		r.wg.Go(func() { r.pump(n, b, a) })
	}
}

func (r *road) pump(n *lane, dst, src net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		m, err := src.Read(buf)
		n.mu.Lock()
		breaks := false
		switch {
		case n.mute:
			m = 0
		case n.left >= 0 && m >= n.left:
			m, breaks = n.left, true
			if r.silent {
				n.mute, breaks = true, false
				r.mu.Lock()
				r.broken++
				r.mu.Unlock()
			}
		case n.left >= 0:
			n.left -= m
		}
		n.mu.Unlock()
		if _, werr := dst.Write(buf[:m]); werr != nil || err != nil || breaks {
			r.end(n, breaks)
			return
		}
	}
}

func (r *road) end(n *lane, broken bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, open := r.conns[n]; !open {
		return
	}
	delete(r.conns, n)
	if broken {
		r.broken++
		if r.r.IntN(2) == 0 {
			_ = n.a.(*net.TCPConn).SetLinger(0)
			_ = n.b.(*net.TCPConn).SetLinger(0)
		}
	}
	n.a.Close()
	n.b.Close()
}

// cut breaks all connections that are on the road now.
func (r *road) cut() {
	r.mu.Lock()
	var all []*lane
	for n := range r.conns {
		all = append(all, n)
	}
	r.mu.Unlock()
	for _, n := range all {
		r.end(n, true)
	}
}

func (r *road) close() {
	r.l.Close()
	r.cut()
	r.wg.Wait()
}

func (r *road) brokenNow() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broken
}

// crossroads is a site with a road to each of its listeners, and a session that
// began on TCP.
type crossroads struct {
	*site
	tcpRoad, rdmaRoad *road
	sess              *client.Session
	sh                *client.Share
}

// lists is what a server with both listeners on loopback tells.
func lists(c *server.Config) {
	lo := netip.MustParseAddr("127.0.0.1")
	c.Interfaces = func() []server.Interface {
		return []server.Interface{{Index: 1, RSS: true, Addr: lo}, {Index: 1, RSS: true, RDMA: true, Addr: lo}}
	}
}

func newCrossroads(t testing.TB, cfg client.Config, tcpRoad, rdmaRoad func(to string) *road) *crossroads {
	t.Helper()
	x := &crossroads{site: newSite(t, options{server: lists})}
	x.tcpRoad, x.rdmaRoad = tcpRoad(x.addr("tcp")), rdmaRoad(x.addr("iwarp"))
	plain, rdma := dialer(t, "tcp"), dialer(t, "iwarp")
	cfg.Channels.Dial = func(ctx context.Context, i client.NetworkInterface) (transport.Conn, error) {
		if i.RDMA {
			return rdma.Dial(ctx, x.rdmaRoad.l.Addr().String())
		}
		return plain.Dial(ctx, x.tcpRoad.l.Addr().String())
	}
	if cfg.Channels.Retry == 0 {
		cfg.Channels.Retry = 5 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	x.sh, err = mount(ctx, plain, x.tcpRoad.l.Addr().String(), cfg)
	must(t, err)
	x.sess = x.sh.Session()
	t.Cleanup(func() { x.sess.Close() })
	x.sess.AwaitChannels(ctx)
	if used, why := x.sess.RDMAStatus(); !used {
		t.Fatalf("RDMA is not used: %s", why)
	}
	return x
}

// pattern is an endless stream of octets of which each says where it belongs.
type pattern struct{ at, size int64 }

func (p *pattern) Read(b []byte) (int, error) {
	n := int(min(int64(len(b)), p.size-p.at))
	if n == 0 {
		return 0, io.EOF
	}
	fillPattern(b[:n], p.at)
	p.at += int64(n)
	return n, nil
}

// fillPattern fills b with the octets from off on: the number of each group of
// eight, times an odd constant.
func fillPattern(b []byte, off int64) {
	var w [8]byte
	for i := 0; i < len(b); {
		binary.LittleEndian.PutUint64(w[:], uint64(off/8+1)*0x9E3779B97F4A7C15)
		n := copy(b[i:], w[off%8:])
		i += n
		off += int64(n)
	}
}

// Write checks what comes against the pattern.
func (p *pattern) Write(b []byte) (int, error) {
	want := make([]byte, len(b))
	fillPattern(want, p.at)
	if string(want) != string(b) {
		for i := range b {
			if b[i] != want[i] {
				return 0, fmt.Errorf("octet %d is 0x%02x, want 0x%02x", p.at+int64(i), b[i], want[i])
			}
		}
	}
	p.at += int64(len(b))
	return len(b), nil
}

// bulk is how much the tests of long transfers move: 1 GiB, but what is enough for
// the race detector and for -short.
func bulk() int64 {
	if raceEnabled || testing.Short() {
		return 96 << 20
	}
	return 1 << 30
}

// 1 GiB to the server and back while the RDMA connection is cut again and again in
// the middle of it ([MS-SMB2] 3.2.7.1): each octet arrives, there is no error, and
// the session comes back to RDMA.
func TestSM33LongTransferOverBrokenRDMA(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			size := bulk() >> (2 * seed) // the second for other breaks, not for more octets
			x := newCrossroads(t, client.Config{},
				func(to string) *road { return newRoad(t, to, seed, 0, 0, 0, false) },
				func(to string) *road { return newRoad(t, to, seed, 12, 100, int(size/8), false) })
			x.moveBothWays(size)
			st := x.sess.Stats()
			if st.Failovers < 2 || st.RDMABytesWritten+st.RDMABytesRead == 0 {
				t.Fatalf("%d roads broke, %+v", x.rdmaRoad.brokenNow(), st)
			}
			t.Logf("%d breaks, %d failovers, %d bindings, %d MB by RDMA, %d MB by TCP", x.rdmaRoad.brokenNow(), st.Failovers, st.Bindings,
				(st.RDMABytesRead+st.RDMABytesWritten)>>20, (st.InlineBytesRead+st.InlineBytesWritten)>>20)
			await(t, func() error {
				if used, why := x.sess.RDMAStatus(); !used {
					return errors.New(why)
				}
				return nil
			})
		})
	}
}

// The same while TCP is what breaks: everything goes on by RDMA.
func TestLongTransferOverBrokenTCP(t *testing.T) {
	size := bulk() / 4
	x := newCrossroads(t, client.Config{},
		func(to string) *road { return newRoad(t, to, 3, 20, 2000, 20000, false) },
		func(to string) *road { return newRoad(t, to, 3, 0, 0, 0, false) })
	x.moveBothWays(size)
	x.tcpRoad.cut()
	await(t, func() error { // also with what only TCP has carried until now
		if st := x.sess.Stats(); st.Failovers == 0 {
			return errors.New("no failover")
		}
		return nil
	})
	_, err := x.sh.Stat(context.Background(), "bulk")
	must(t, err)
	st := x.sess.Stats()
	if st.RDMABytesWritten+st.InlineBytesWritten < uint64(size) || st.InlineBytesWritten > uint64(size)/2 {
		t.Fatalf("%+v", st)
	}
}

// The same while the RDMA connection goes silent: nobody is told, and both ends find
// out by themselves.
func TestLongTransferOverSilentRDMA(t *testing.T) {
	size := bulk() / 8
	x := newCrossroads(t, client.Config{Channels: client.ChannelConfig{Stall: time.Second}},
		func(to string) *road { return newRoad(t, to, 4, 0, 0, 0, false) },
		func(to string) *road { return newRoad(t, to, 4, 2, 100_000, int(size/4), true) })
	x.moveBothWays(size)
	if st := x.sess.Stats(); st.Failovers == 0 || x.rdmaRoad.brokenNow() == 0 {
		t.Fatalf("%+v", st)
	}
}

// moveBothWays puts a file and gets it, and looks at it on the server.
func (x *crossroads) moveBothWays(size int64) {
	t := x.t
	t.Helper()
	f, err := x.sh.OpenFile(context.Background(), "bulk", os.O_RDWR|os.O_CREATE, 0o666)
	must(t, err)
	n, err := f.ReadFrom(&pattern{size: size})
	if err != nil || n != size {
		t.Fatalf("put: %d of %d octets: %v", n, size, err)
	}
	disk, err := os.Open(filepath.Join(x.dir, "bulk"))
	must(t, err)
	defer disk.Close()
	check := &pattern{}
	if n, err := io.Copy(struct{ io.Writer }{check}, struct{ io.Reader }{disk}); err != nil || n != size {
		t.Fatalf("on the server: %d of %d octets: %v", n, size, err)
	}
	_, err = f.Seek(0, io.SeekStart)
	must(t, err)
	check = &pattern{}
	if n, err := f.WriteTo(check); err != nil || n != size {
		t.Fatalf("get: %d of %d octets: %v", n, size, err)
	}
	must(t, f.Close())
}

// Either connection is cut, again and again, while the other lives: writers that
// change the same octets over and over read back what they wrote last, and no buffer
// is touched after its call returned.
func TestNothingStaleAfterFailover(t *testing.T) {
	const workers, region = 4, 400_000
	rounds := 150
	if raceEnabled || testing.Short() {
		rounds = 40
	}
	whole := func(to string) *road { return newRoad(t, to, 0, 0, 0, 0, false) }
	x := newCrossroads(t, client.Config{Window: 3, MaxIOSize: 70_000}, whole, whole)
	f, err := x.sh.OpenFile(context.Background(), "f", os.O_RDWR|os.O_CREATE, 0o666)
	must(t, err)
	stop := make(chan struct{})
	var trouble, wg sync.WaitGroup
	cuts := 0
	trouble.Go(func() {
		r := rand.New(rand.NewPCG(11, 11))
		dying := map[string]bool{} // local addresses of connections that were cut
		for {
			until := x.sess.Stats().Requests + uint64(1+r.IntN(40))
			for ready := false; !ready || x.sess.Stats().Requests < until; {
				select {
				case <-stop:
					return
				case <-time.After(200 * time.Microsecond):
				}
				kinds := map[bool]bool{}
				ready = true
				for _, c := range x.sess.Channels() {
					kinds[c.RDMAProvider != ""] = true
					ready = ready && !dying[c.Local.String()]
				}
				ready = ready && len(kinds) == 2
			}
			clear(dying)
			rdma := cuts%2 == 0
			for _, c := range x.sess.Channels() {
				if (c.RDMAProvider != "") == rdma {
					dying[c.Local.String()] = true
				}
			}
			if rdma {
				x.rdmaRoad.cut()
			} else {
				x.tcpRoad.cut()
			}
			cuts++
		}
	})
	for w := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 3))
			want, got, buf := make([]byte, region), make([]byte, region), make([]byte, region)
			if _, err := f.WriteAt(want, int64(w*region)); err != nil {
				t.Errorf("writer %d: %v", w, err)
				return
			}
			for i := range rounds {
				off := r.IntN(region)
				n := 1 + r.IntN(region-off)
				for k := range n {
					want[off+k] = byte(i + k/7 + w)
				}
				copy(buf, want[off:off+n])
				if m, err := f.WriteAt(buf[:n], int64(w*region+off)); m != n || err != nil {
					t.Errorf("writer %d, round %d: %d of %d octets: %v", w, i, m, n, err)
					return
				}
				for k := range n { // whoever reads it late writes this
					buf[k] = stale
				}
				m, err := f.ReadAt(got, int64(w*region))
				if m != region || err != nil && err != io.EOF {
					t.Errorf("writer %d, round %d: %d octets read: %v", w, i, m, err)
					return
				}
				if string(got) != string(want) {
					t.Errorf("writer %d, round %d: what is read is not what was written last", w, i)
					return
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	trouble.Wait()
	if t.Failed() {
		return
	}
	must(t, f.Close())
	if st := x.sess.Stats(); cuts < 2 || st.Failovers < 2 {
		t.Fatalf("%d cuts, %d failovers", cuts, st.Failovers)
	}
}

// With both roads gone the error comes at once, says why, and leaves nothing behind.
func TestBothChannelsCut(t *testing.T) {
	whole := func(to string) *road { return newRoad(t, to, 0, 0, 0, 0, false) }
	x := newCrossroads(t, client.Config{}, whole, whole)
	f, err := x.sh.Create(context.Background(), "f")
	must(t, err)
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			p := make([]byte, 1<<20)
			for {
				if _, err := f.WriteAt(p, int64(w)<<20); err != nil {
					if !errors.Is(err, net.ErrClosed) {
						t.Errorf("writer %d: %v", w, err)
					}
					return
				}
			}
		})
	}
	x.rdmaRoad.l.Close()
	x.tcpRoad.l.Close()
	x.rdmaRoad.cut()
	x.tcpRoad.cut()
	wg.Wait()
	<-x.sess.Done()
	if err := x.sess.Err(); !errors.Is(err, net.ErrClosed) || errors.Is(err, client.ErrClosed) {
		t.Errorf("Err: %v", err)
	}
	must(t, x.sess.Close())
}
