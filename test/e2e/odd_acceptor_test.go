package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	smbdwire "github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/sim"
)

// fabrics are the providers under which odd acceptors are met.
func fabrics(t *testing.T, f func(t *testing.T, p ndk.Provider, host netip.Addr)) {
	t.Run("iwarp", func(t *testing.T) {
		p, err := iwarp.New(iwarp.Config{})
		must(t, err)
		f(t, p, netip.MustParseAddr("127.0.0.1"))
	})
	t.Run("sim", func(t *testing.T) {
		w, err := sim.New(sim.Config{Auto: true, Report: func(s string) { t.Errorf("reported: %s", s) }})
		must(t, err)
		t.Cleanup(w.Close)
		f(t, w, netip.MustParseAddr("10.0.0.2"))
	})
}

// oddSite is a good server behind odd SMB Direct, and a dialer of ours.
func oddSite(t *testing.T, p ndk.Provider, host netip.Addr, m manner) (*oddListener, *smbdirect.Dialer) {
	t.Helper()
	a, err := p.Open(context.Background(), host, ndk.Version12)
	must(t, err)
	fsys, err := posix.New(t.TempDir(), posix.Config{})
	must(t, err)
	users, err := server.ParseUsers("ann%secret")
	must(t, err)
	srv, err := server.New(server.Config{Shares: []server.Share{{Name: "data", FS: fsys}}, Users: users, ServerName: "ODD", Signing: server.PolicyOffered})
	must(t, err)
	l := listenOddly(t, a, host, m)
	served := make(chan struct{})
	go func() { // ended by srv.Close, waited for below
		defer close(served)
		_ = srv.Serve(context.Background(), l)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-served
		a.Close()
		fsys.Close()
	})
	d, err := smbdirect.NewDialer(p, "rdma", smbdirect.Config{})
	must(t, err)
	return l, d
}

// linuxServer is what ksmbd says; it asks for no more and gives no more than it has.
func linuxServer(q smbdwire.NegotiateRequest) smbdwire.NegotiateResponse {
	r := min(1364, q.PreferredSendSize)
	return smbdwire.NegotiateResponse{
		MinVersion: 0x100, MaxVersion: 0x100, NegotiatedVersion: 0x100, CreditsRequested: 255, CreditsGranted: 254,
		MaxReadWriteSize: 8 << 20, PreferredSendSize: min(1364, q.MaxReceiveSize), MaxReceiveSize: r, MaxFragmentedSize: 255 * r / 2,
	}
}

// TestQuirks has our client work with a server whose SMB Direct is as that of
// others is. The names begin with the subject of docs/interop.md, "Peer profiles".
func TestQuirks(t *testing.T) {
	ksmbd := manner{response: linuxServer, refillAt: 31, first: 80, tokenFirst: true, extra: true}
	between := ksmbd
	between.between = true
	forgetful := ksmbd
	forgetful.noToken = true
	for _, c := range []struct {
		name    string
		m       manner
		profile string
	}{
		{"3 4 6 7 ksmbd: late refills, uneven fragments, token first", ksmbd, "ksmbd"},
		{"6 empty messages between fragments", between, "ksmbd"},
		{"7 a server that invalidates nothing", forgetful, "ksmbd"},
		{"3 4 Windows: batches of credits, longer messages", manner{refillAt: 64, response: func(q smbdwire.NegotiateRequest) smbdwire.NegotiateResponse {
			r := linuxServer(q)
			r.CreditsGranted, r.MaxReceiveSize, r.MaxFragmentedSize, r.MaxReadWriteSize = 255, 8192, 1<<20, 1<<20
			return r
		}}, "any"},
		{"3 as small as may be", manner{refillAt: 2, response: func(q smbdwire.NegotiateRequest) smbdwire.NegotiateResponse {
			r := linuxServer(q)
			r.CreditsGranted, r.CreditsRequested, r.MaxReceiveSize, r.PreferredSendSize = 5, 4, 128, 128
			r.MaxFragmentedSize, r.MaxReadWriteSize = 131072, 4096
			return r
		}}, "any"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fabrics(t, func(t *testing.T, p ndk.Provider, host netip.Addr) {
				l, d := oddSite(t, p, host, c.m)
				ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
				defer cancel()
				conn, err := d.Dial(ctx, l.Addr().String())
				must(t, err)
				if got := conn.(*smbdirect.Conn).Parameters().Peer; got != c.profile {
					t.Errorf("taken for %q, want %q", got, c.profile)
				}
				s, err := client.New(ctx, conn, client.Config{User: "ann", Password: "secret", Signing: client.SigningOff})
				must(t, err)
				defer s.Close()
				sh, err := s.Mount(ctx, "data")
				must(t, err)
				if used, why := sh.RDMAStatus(); !used {
					t.Fatal(why)
				}
				for _, n := range []int{100, 3000, 200_000, 1<<20 + 77} {
					data := octets(byte(n), n)
					must(t, sh.WriteFile(ctx, "f", data, 0o666))
					got, err := sh.ReadFile(ctx, "f")
					must(t, err)
					if !bytes.Equal(got, data) {
						t.Fatalf("%d octets came back as %d, not the same", n, len(got))
					}
				}
				for i := range 40 {
					must(t, sh.Mkdir(ctx, fmt.Sprintf("dir%d", i)))
				}
				list, err := sh.ReadDir(ctx, ".")
				must(t, err)
				if len(list) != 41 {
					t.Errorf("%d entries, want 41", len(list))
				}
				if st := s.Stats(); st.RDMABytesRead < 1<<20 || st.RDMABytesWritten < 1<<20 {
					t.Errorf("by RDMA: %+v", st)
				}
				if n := s.TransportStats().Registrations; n != 0 {
					t.Errorf("%d registrations are left", n)
				}
			})
		})
	}
}

// TestHostileAcceptors has a server's SMB Direct break a rule in the middle of the
// client's work: the call under way fails in time, with an error that says so, and
// nothing is left; the next connection works.
func TestHostileAcceptors(t *testing.T) {
	const nth = 12 // message that is spoilt: logon, tree and file are behind
	send := func(c *oddConn, change func(h *smbdwire.DataTransfer), n int) error {
		h := c.s.Header(n, 0)
		change(&h)
		_ = c.s.SendHeader(h, make([]byte, n)) // that it cannot be sent shows soon enough
		return nil
	}
	violation := func(field string) func(*testing.T, error) {
		return func(t *testing.T, err error) {
			var pe *smbdirect.ProtocolError
			if !errors.As(err, &pe) || pe.Field != field {
				t.Errorf("%v; want an error about %s", err, field)
			}
		}
	}
	for _, c := range []struct {
		name  string
		spoil func(c *oddConn) error
		check func(*testing.T, error)
	}{
		{"SD-60 CreditsRequested 0", func(c *oddConn) error {
			return send(c, func(h *smbdwire.DataTransfer) { h.CreditsRequested = 0 }, 8)
		}, violation("CreditsRequested")},
		{"SD-61 short", func(c *oddConn) error { return c.s.SendRaw(make([]byte, 19)) }, violation("length")},
		{"SD-62 DataOffset 25", func(c *oddConn) error { return send(c, func(h *smbdwire.DataTransfer) { h.DataOffset = 25 }, 40) }, violation("DataOffset")},
		{"SD-63 DataLength", func(c *oddConn) error {
			return send(c, func(h *smbdwire.DataTransfer) { h.DataLength = 0xffffffff }, 40)
		}, violation("DataOffset + DataLength")},
		{"SD-64 too long", func(c *oddConn) error { return c.s.SendRaw(make([]byte, 4000)) }, func(t *testing.T, err error) {
			var le *smbdirect.LostError
			if !errors.As(err, &le) {
				t.Errorf("%v; want that the connection is lost", err)
			}
		}},
		{"SD-65 longer than we take", func(c *oddConn) error {
			return send(c, func(h *smbdwire.DataTransfer) { h.RemainingDataLength = 1 << 24 }, 40)
		}, violation("DataLength + RemainingDataLength")},
		{"SD-68 longer than announced", func(c *oddConn) error {
			_ = send(c, func(h *smbdwire.DataTransfer) { h.RemainingDataLength = 10 }, 40)
			return send(c, func(h *smbdwire.DataTransfer) {}, 40)
		}, violation("DataLength")},
		{"SD-69 cut short", func(c *oddConn) error {
			_ = send(c, func(h *smbdwire.DataTransfer) { h.RemainingDataLength = 100 }, 40)
			return send(c, func(h *smbdwire.DataTransfer) {}, 40)
		}, violation("RemainingDataLength")},
		{"SD-114 gone", func(c *oddConn) error {
			c.ended = true
			c.s.Close()
			return errOdd
		}, func(*testing.T, error) {}},
		{"SM-20 a token that nobody gave", func(c *oddConn) error { return c.s.SendInvalidate(make([]byte, 20), 0xdead00) }, func(*testing.T, error) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fabrics(t, func(t *testing.T, p ndk.Provider, host netip.Addr) {
				spoilt := false
				m := manner{response: linuxServer, refillAt: 31}
				m.spoil = func(oc *oddConn, n int) error {
					if n != nth || spoilt {
						return nil
					}
					spoilt = true
					return c.spoil(oc)
				}
				l, d := oddSite(t, p, host, m)
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				cfg := client.Config{User: "ann", Password: "secret", Signing: client.SigningOff}
				s, err := client.Dial(ctx, d, l.Addr().String(), cfg)
				must(t, err)
				defer s.Close()
				sh, err := s.Mount(ctx, "data")
				must(t, err)
				data := octets(1, 256<<10)
				var failed error
				for range 40 {
					if failed = sh.WriteFile(ctx, "f", data, 0o666); failed != nil {
						break
					}
					if _, failed = sh.ReadFile(ctx, "f"); failed != nil {
						break
					}
				}
				if !errors.Is(failed, net.ErrClosed) || ctx.Err() != nil {
					t.Fatalf("the call: %v", failed)
				}
				c.check(t, s.Err())
				select {
				case <-s.Done():
				case <-time.After(patience):
					t.Error("the session does not end")
				}
				s.Close()
				if st := s.TransportStats(); st.Registrations != 0 || st.LeasedBuffers != 0 {
					t.Errorf("left: %+v", st)
				}
				again, err := client.Dial(ctx, d, l.Addr().String(), cfg)
				must(t, err)
				defer again.Close()
				if sh, err = again.Mount(ctx, "data"); err != nil {
					t.Fatal(err)
				}
				if _, err := sh.ReadFile(ctx, "f"); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Error(err)
				}
			})
		})
	}
}
