package e2e

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"

	"github.com/smbd-rdma/smbd-rdma/server"
)

// descriptorLimit raises RLIMIT_NOFILE as far as it goes and returns it.
func descriptorLimit(t testing.TB) int {
	t.Helper()
	var l syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l))
	l.Cur = l.Max
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l))
	return int(min(l.Cur, 1<<20))
}

// Ten thousand connections to each listener that never say a word: those who talk
// are served, new ones too, what the silent ones hold is bounded, and nothing of
// it stays.
func TestSilentFlood(t *testing.T) {
	const total, atOnce = 10_000, 4000
	// In descriptors: the default of 1024 connections, of two each on TCP, and of 256 that
	// are being set up.
	const bound = 2*1024 + 2*256 + 64
	wave := min(atOnce, (descriptorLimit(t)-bound-500)/2)
	if wave < 100 {
		t.Skipf("%d descriptors are too few", descriptorLimit(t))
	}
	w := newTown(t, options{})
	begin := time.Now()
	most := 0
	for done := 0; done < total; {
		n := min(wave, total-done)
		done += n
		mute := make([]net.Conn, 0, 2*n)
		for i := range n {
			for _, scheme := range []string{"tcp", "iwarp"} {
				c, err := net.Dial("tcp", w.addr(scheme))
				must(t, err)
				mute = append(mute, c)
			}
			if i%500 == 0 {
				for _, g := range w.goods {
					must(t, g.work())
				}
			}
		}
		// What was refused is closed in its own time.
		await(t, func() error {
			n := descriptors(t) - w.fds - len(mute)
			most = max(most, n)
			if n > bound {
				return fmt.Errorf("%d descriptors are held for silent peers, want at most %d", n, bound)
			}
			return nil
		})
		for _, scheme := range []string{"tcp", "iwarp"} {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			sh, err := mount(ctx, dialer(t, scheme), w.addr(scheme), client.Config{})
			if err != nil {
				t.Errorf("a new client on %s: %v", scheme, err)
			} else {
				must(t, sh.Session().Close())
			}
			cancel()
		}
		for _, g := range w.goods {
			must(t, g.work())
		}
		for _, c := range mute {
			_ = c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}
	w.check(t)
	t.Logf("%d connects to each of two listeners, %d open at once: %v; at most %d held by the server", total, 2*wave, time.Since(begin).Round(time.Millisecond), most)
}

// Peers that fall silent on the way are cut off, wherever they stopped.
func TestSilentPeers(t *testing.T) {
	const short = time.Second
	w := newTown(t, options{
		iwarp:  iwarp.Config{NegotiateTimeout: short},
		direct: smbdirect.Config{NegotiateTimeout: short},
		server: func(c *server.Config) { c.NegotiateTimeout, c.AuthTimeout = short, short },
	})
	raw := func(scheme string, b []byte) func() net.Conn {
		return func() net.Conn {
			c := dialTCP(t, w.addr(scheme))
			_, err := c.Write(b)
			must(t, err)
			return c
		}
	}
	direct := func(f func(r *rawIWARP)) func() net.Conn {
		return func() net.Conn { r := dialRaw(t, w.addr("iwarp"), false); f(r); return r.c }
	}
	smb := func(scheme string, f func(p *peer)) func() net.Conn {
		return func() net.Conn {
			if scheme == "tcp" {
				h := dialHosting(t, w.addr(scheme))
				f(newPeer(t, h))
				return h.c
			}
			d := dialDirect(t, w.addr(scheme), false)
			f(newPeer(t, d))
			return d.c
		}
	}
	begun := func(p *peer) { // half of a log-on
		p.negotiate()
		must(t, p.c.Send(p.element(p.header(1), setupRequest)))
		_, _ = p.status()
	}
	conns := map[string]net.Conn{} // all are silent at the same time
	for name, dial := range map[string]func() net.Conn{
		"tcp: nothing":                   raw("tcp", nil),
		"tcp: half a prefix":             raw("tcp", []byte{0, 0}),
		"tcp: half a message":            raw("tcp", append([]byte{0, 0, 1, 0}, "\xfeSMB@\x00"...)),
		"tcp: NEGOTIATE":                 smb("tcp", (*peer).negotiate),
		"tcp: half a log-on":             smb("tcp", begun),
		"iwarp: nothing":                 raw("iwarp", nil),
		"iwarp: half an MPA Request":     raw("iwarp", mpaRequest(0x10, 2, enhanced)[:10]),
		"iwarp: private data missing":    raw("iwarp", mpaRequest(0x10, 2, make([]byte, 300))[:100]),
		"iwarp: MPA startup":             direct(func(*rawIWARP) {}),
		"iwarp: half an FPDU":            direct(func(r *rawIWARP) { must(t, r.write(r.sendFrame(goodNegotiate)[:30])) }),
		"iwarp: SMB Direct":              smb("iwarp", func(*peer) {}),
		"iwarp: SMB Direct, half a FPDU": smb("iwarp", func(p *peer) { must(t, p.c.(*rawDirect).write([]byte{0})) }),
		"iwarp: half a message": smb("iwarp", func(p *peer) {
			must(t, p.c.(*rawDirect).rawIWARP.send(data(255, 255, 0, 100, 24, 8, make([]byte, 8))))
		}),
		"iwarp: NEGOTIATE":     smb("iwarp", (*peer).negotiate),
		"iwarp: half a log-on": smb("iwarp", begun),
	} {
		conns[name] = dial()
	}
	for name, c := range conns {
		t.Run(name, func(t *testing.T) { closed(t, c) })
	}
	w.check(t)
}
