package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// cutter is a link to the server that breaks when so many octets went one way.
type cutter struct {
	l     net.Listener
	wg    sync.WaitGroup
	to    string
	up    atomic.Int64 // octets that may still go to the server
	down  atomic.Int64
	reset bool // by RST, not FIN

	mu    sync.Mutex
	conns []net.Conn // guarded by mu
}

const unlimited = 1 << 40

func newCutter(t testing.TB, to string, reset bool) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	c := &cutter{l: l, to: to, reset: reset}
	c.up.Store(unlimited)
	c.down.Store(unlimited)
	c.wg.Go(c.run) // ends with l; close waits
	return c
}

func (c *cutter) run() {
	for {
		a, err := c.l.Accept()
		if err != nil {
			return
		}
		b, err := net.Dial("tcp", c.to)
		if err != nil {
			a.Close()
			continue
		}
		c.mu.Lock()
		c.conns = append(c.conns, a, b)
		c.mu.Unlock()
		c.wg.Go(func() { c.pump(b, a, &c.up) }) // both end when either breaks
		c.wg.Go(func() { c.pump(a, b, &c.down) })
	}
}

func (c *cutter) pump(dst, src net.Conn, left *atomic.Int64) {
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		m := n
		if rest := left.Add(-int64(n)); rest < 0 {
			m = int(max(0, rest+int64(n)))
			err = io.EOF
		}
		if _, werr := dst.Write(buf[:m]); werr != nil || err != nil {
			c.cut()
			return
		}
	}
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		if c.reset {
			_ = conn.(*net.TCPConn).SetLinger(0)
		}
		conn.Close()
	}
	c.conns = nil
}

func (c *cutter) close() {
	c.l.Close()
	c.cut()
	c.wg.Wait()
}

// ledger is what writers of one file know: which blocks were acknowledged, and
// which were tried and failed.
type ledger struct {
	mu    sync.Mutex
	acked map[int]byte // guarded by mu; block to seed
	tried map[int]byte // guarded by mu; written, not acknowledged
}

const (
	block = 512 << 10
	// stale fills the buffers after their call has returned: whoever reads or
	// writes one later is seen.
	stale = 0xA5
)

// keep writes blocks from first on, step apart, until something fails. Every block
// is written and flushed; then its buffer is spoilt.
func (l *ledger) keep(ctx context.Context, f *client.File, first, step int, goOn func(acked int) bool) error {
	for i := first; ; i += step {
		p := octets(byte(i), block)
		l.mu.Lock()
		l.tried[i] = byte(i)
		l.mu.Unlock()
		_, err := f.WriteAtContext(ctx, p, int64(i)*block)
		for k := range p {
			p[k] = stale
		}
		if err == nil {
			err = f.Sync(ctx)
		}
		if err != nil {
			return err
		}
		l.mu.Lock()
		delete(l.tried, i)
		l.acked[i] = byte(i)
		n := len(l.acked)
		l.mu.Unlock()
		if !goOn(n) {
			return nil
		}
	}
}

// judge compares the file with the ledger: an acknowledged block is there, one
// that failed is there as a whole or not at all.
func (l *ledger) judge(got []byte) error {
	at := func(i int) []byte {
		lo, hi := min(i*block, len(got)), min((i+1)*block, len(got))
		return got[lo:hi]
	}
	for i, seed := range l.acked {
		if !bytes.Equal(at(i), octets(seed, block)) {
			return fmt.Errorf("block %d was acknowledged, and is lost", i)
		}
	}
	for i, seed := range l.tried {
		if b := at(i); !bytes.Equal(b, octets(seed, block)) && len(bytes.Trim(b, "\x00")) > 0 {
			return fmt.Errorf("block %d was refused, and is there by half: %d octets", i, len(b))
		}
	}
	return nil
}

// The connection breaks in the middle of RDMA Reads and Writes, at points chosen
// by a seed, in both directions: no acknowledged write is lost, no write is done by
// half, no buffer is touched after its call returned, nothing is left behind.
func TestCutConnections(t *testing.T) {
	w := newTown(t, options{})
	ctx := context.Background()
	const rounds = 60
	acked := 0
	for _, scheme := range []string{"iwarp", "tcp"} {
		d := dialer(t, scheme)
		for round := range rounds {
			name := fmt.Sprintf("%s-%d", scheme, round)
			r := rand.New(rand.NewPCG(uint64(round), 7))
			c := newCutter(t, w.addr(scheme), round%2 == 0)
			sh, err := mount(ctx, d, c.l.Addr().String(), client.Config{})
			must(t, err)
			source := octets(byte(round), 4*block)
			must(t, sh.WriteFile(ctx, name+"-r", source, 0o666))
			f, err := sh.Create(ctx, name)
			must(t, err)
			in, err := sh.Open(ctx, name+"-r")
			must(t, err)

			// From here on the link breaks after some octets, half of the time
			// within the first transfers.
			n := r.Int64N(8 << 20)
			if round%4 < 2 {
				n = r.Int64N(block)
			}
			if round%3 == 0 {
				c.down.Store(n)
			} else {
				c.up.Store(n)
			}
			l := &ledger{acked: map[int]byte{}, tried: map[int]byte{}}
			var wg sync.WaitGroup
			for i := range 2 {
				wg.Go(func() { _ = l.keep(ctx, f, i, 2, func(int) bool { return true }) })
			}
			var spoilt [][]byte
			for i := range 2 {
				wg.Go(func() {
					var err error
					for k := i; err == nil; k++ {
						p := make([]byte, block)
						if _, err = in.ReadAt(p, int64(k%4)*block); err == nil && !bytes.Equal(p, source[k%4*block:][:block]) {
							t.Errorf("%s: read other octets than were written", name)
						}
						for j := range p {
							p[j] = stale
						}
						l.mu.Lock()
						if len(spoilt) < 16 {
							spoilt = append(spoilt, p)
						} else {
							spoilt[r.IntN(16)] = p
						}
						l.mu.Unlock()
					}
				})
			}
			wg.Wait()
			if err := sh.Session().Err(); err == nil {
				t.Errorf("%s: the link broke, and the session lives", name)
			}
			must(t, sh.Session().Close())
			c.close()
			if st := sh.Session().TransportStats(); st.Registrations != 0 || st.LeasedBuffers != 0 {
				t.Errorf("%s: left behind: %+v", name, st)
			}
			// The server may still be about to write what nobody waits for.
			await(t, w.onlyGood)
			if err := l.judge(w.read(name)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for _, p := range spoilt {
				if bytes.Count(p, []byte{stale}) != len(p) {
					t.Errorf("%s: a buffer was touched after its call had returned", name)
				}
			}
			acked += len(l.acked)
			must(t, w.goods[0].sh.Remove(ctx, name))
			must(t, w.goods[0].sh.Remove(ctx, name+"-r"))
		}
	}
	w.check(t)
	t.Logf("%d connections cut, %d blocks of %d KiB acknowledged", 2*rounds, acked, block>>10)
	if acked == 0 {
		t.Error("nothing was acknowledged: the cuts came too early to prove anything")
	}
}
