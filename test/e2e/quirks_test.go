package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	smbdwire "github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// TestQuirkMPAOnDirectPort has what cifs.ko does on iWARP when nobody answers on 5445:
// it tries 445, where direct hosting listens, and waits up to five seconds if it is
// not shut out at once.
func TestQuirkMPAOnDirectPort(t *testing.T) {
	w := newTown(t, options{})
	c, err := net.Dial("tcp", w.addr("tcp"))
	must(t, err)
	defer c.Close()
	// With the private data that it has: depths in the order of its host.
	_, err = c.Write(mpaRequest(0x10, 2, []byte{0x80, 32, 0, 0, 32, 0, 0, 0, 1, 0, 0, 0}))
	must(t, err)
	must(t, c.SetReadDeadline(time.Now().Add(patience)))
	b, err := io.ReadAll(c)
	if len(b) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("answered with % x, %v", b, err)
	}
}

// fewPages is a provider whose adapters take four pages in a registration.
type fewPages struct{ ndk.Provider }

type fewPagesAdapter struct{ ndk.Adapter }

func (p fewPages) Open(ctx context.Context, local netip.Addr, v ndk.Version) (ndk.Adapter, error) {
	a, err := p.Provider.Open(ctx, local, v)
	if err != nil {
		return nil, err
	}
	return fewPagesAdapter{a}, nil
}

func (a fewPagesAdapter) Info(ctx context.Context) (ndk.AdapterInfo, error) {
	i, err := a.Adapter.Info(ctx)
	i.FRMRPageCount = 4
	return i, err
}

// TestQuirkEightDescriptors has our client on an adapter with small registrations:
// ksmbd, which hangs on more than nine descriptors, gets eight at most; others get
// what their MaxReadWriteSize takes.
func TestQuirkEightDescriptors(t *testing.T) {
	windows := func(q smbdwire.NegotiateRequest) smbdwire.NegotiateResponse {
		r := linuxServer(q)
		r.MaxReceiveSize, r.MaxFragmentedSize, r.MaxReadWriteSize = 8192, 1<<20, 1<<20
		return r
	}
	for _, c := range []struct {
		name     string
		response func(smbdwire.NegotiateRequest) smbdwire.NegotiateResponse
		most     int // bytes in a transfer
	}{
		{"ksmbd", linuxServer, 8 * 3 * 4096}, // three whole pages of four at any alignment
		{"Windows", windows, 1 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			fabrics(t, func(t *testing.T, p ndk.Provider, host netip.Addr) {
				l, _ := oddSite(t, p, host, manner{response: c.response, refillAt: 31})
				d, err := smbdirect.NewDialer(fewPages{p}, "rdma", smbdirect.Config{})
				must(t, err)
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				conn, err := d.Dial(ctx, l.Addr().String())
				must(t, err)
				s, err := client.New(ctx, conn, client.Config{User: "ann", Password: "secret", Signing: client.SigningOff})
				must(t, err)
				defer s.Close()
				if got := conn.RDMA().MaxReadWriteSize(); got != c.most {
					t.Errorf("MaxReadWriteSize %d, want %d", got, c.most)
				}
				sh, err := s.Mount(ctx, "data")
				must(t, err)
				data := octets(3, 700_001)
				must(t, sh.WriteFile(ctx, "f", data, 0o666))
				got, err := sh.ReadFile(ctx, "f")
				must(t, err)
				if !bytes.Equal(got, data) {
					t.Error("what was read is not what was written")
				}
				reg, err := conn.RDMA().Register(ctx, data[1:][:min(c.most, len(data)-1)], transport.PeerReads)
				must(t, err)
				if n := len(reg.Descriptors()); c.name == "ksmbd" && n > 8 {
					t.Errorf("%d descriptors", n)
				} else if c.name != "ksmbd" && n <= 8 {
					t.Errorf("%d descriptors: the adapter is not as it should be for this test", n)
				}
				must(t, reg.Deregister(ctx, 0, false))
			})
		})
	}
}
