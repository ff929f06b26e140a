package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// overIWARP is a server behind SMB Direct on iWARP on the loopback address.
func overIWARP(t testing.TB) *site {
	t.Helper()
	p, err := iwarp.New(iwarp.Config{})
	must(t, err)
	l, err := smbdirect.Listen(context.Background(), p, "iwarp", "127.0.0.1:0", smbdirect.Config{})
	must(t, err)
	d, err := smbdirect.NewDialer(p, "iwarp", smbdirect.Config{})
	must(t, err)
	return newSiteOn(t, l, d, leaveSigning)
}

// overTCP is a server behind direct hosting.
func overTCP(t testing.TB) *site {
	t.Helper()
	l, err := tcp.Listen(context.Background(), "127.0.0.1:0", tcp.Config{})
	must(t, err)
	d, err := tcp.NewDialer(tcp.Config{})
	must(t, err)
	return newSiteOn(t, l, d, nil)
}

// The whole stack: bytes arrive unchanged by every path, and over SMB Direct those
// of long requests are copied by nobody in this package.
func TestWholeStack(t *testing.T) {
	for _, c := range []struct {
		name string
		site func(testing.TB) *site
		cfg  Config
		path DataPath
	}{
		{"tcp", overTCP, Config{}, PathInline},
		{"tcp encrypted", overTCP, Config{Encryption: EncryptRequired}, PathInline},
		{"iwarp", overIWARP, Config{}, PathRDMA},
		{"iwarp everything", overIWARP, Config{RDMAThreshold: 1}, PathRDMA},
		{"iwarp small requests", overIWARP, Config{MaxIOSize: 40_000}, PathRDMA},
		{"iwarp 3.0", overIWARP, Config{MaxDialect: SMB300}, PathRDMA},
		{"iwarp signed", overIWARP, Config{Signing: SigningRequired}, PathRDMASigned},
		{"iwarp signed by AES-CMAC", overIWARP, Config{Signing: SigningRequired, SigningAlgorithms: []SigningAlgorithm{AESCMAC}}, PathRDMASigned},
		{"iwarp signed by HMAC-SHA256", overIWARP, Config{Signing: SigningRequired, SigningAlgorithms: []SigningAlgorithm{HMACSHA256}}, PathRDMASigned},
		{"iwarp encrypted", overIWARP, Config{Encryption: EncryptRequired}, PathRDMAEncrypted},
		{"iwarp AES-256-GCM", overIWARP, Config{Encryption: EncryptRequired, Ciphers: []Cipher{AES256GCM}}, PathRDMAEncrypted},
		{"iwarp AES-128-CCM", overIWARP, Config{Encryption: EncryptRequired, Ciphers: []Cipher{AES128CCM}}, PathRDMAEncrypted},
		{"iwarp AES-256-CCM", overIWARP, Config{Encryption: EncryptRequired, Ciphers: []Cipher{AES256CCM}}, PathRDMAEncrypted},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.site(t)
			sh := s.mount(t, c.cfg)
			ctx := context.Background()
			rdma := c.path != PathInline
			if used, why := sh.RDMAStatus(); used != rdma || sh.DataPath() != c.path {
				t.Fatal(used, why, sh.DataPath())
			}
			part := 500_000 // bytes of each of 16 readers and writers
			if raceEnabled {
				part = 100_000
			}
			data := random(18*part + 4321)
			must(t, sh.WriteFile(ctx, "f", data, 0o666))
			got, err := sh.ReadFile(ctx, "f")
			must(t, err)
			if !bytes.Equal(got, data) {
				t.Fatal("what was read is not what was written")
			}
			f, err := sh.OpenFile(ctx, "f", os.O_RDWR, 0)
			must(t, err)
			var wg sync.WaitGroup
			for i := range 16 {
				wg.Go(func() {
					p := make([]byte, part)
					off := i * part
					for range 3 {
						if n, err := f.ReadAt(p, int64(off)); n != len(p) || err != nil && err != io.EOF || !bytes.Equal(p, data[off:off+n]) {
							t.Errorf("%d bytes: %v", n, err)
							return
						}
						if n, err := f.WriteAt(p, int64(off)); n != len(p) || err != nil {
							t.Errorf("%d bytes: %v", n, err)
							return
						}
					}
				})
			}
			wg.Wait()
			must(t, f.Close())
			st := sh.Session().Stats()
			copied := st.InlineBytesRead
			if c.path != PathRDMA {
				copied += st.InlineBytesWritten
			}
			if rdma != (st.RDMABytesRead > uint64(40*part)) || rdma && (st.BytesCopied > 100_000 || st.BytesCopied > copied) {
				t.Fatalf("%+v", st)
			}
			if n := sh.Session().TransportStats().Registrations; n != 0 {
				t.Fatalf("%d registrations left", n)
			}
		})
	}
}

// Cancelling over a real transport leaves the connection in use.
func TestWholeStackCancel(t *testing.T) {
	s := overIWARP(t)
	sh := s.mount(t, Config{})
	ctx := context.Background()
	must(t, sh.WriteFile(ctx, "f", random(4<<20), 0o666))
	f, err := sh.Open(ctx, "f")
	must(t, err)
	for i := range 20 {
		short, cancel := context.WithCancel(ctx)
		done := make(chan error)
		p := make([]byte, 4<<20)
		go func() { _, err := f.ReadAtContext(short, p, 0); done <- err }()
		for range i * 100 { // a different moment each time
			_ = sh.Session().Stats()
		}
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if err := sh.Session().Err(); err != nil {
		t.Fatal(err)
	}
	must(t, sh.Session().Echo(ctx))
	must(t, f.Close())
}

var _ transport.Dialer = (*linkListener)(nil)

// BenchmarkRead reads 1 MiB over loopback: the stack as it is, not RDMA hardware.
func BenchmarkRead(b *testing.B) {
	for _, c := range []struct {
		name string
		site func(testing.TB) *site
	}{{"tcp", overTCP}, {"iwarp", overIWARP}} {
		b.Run(c.name, func(b *testing.B) {
			s := c.site(b)
			sh := s.mount(b, Config{})
			ctx := context.Background()
			must(b, sh.WriteFile(ctx, "f", random(64<<20), 0o666))
			f, err := sh.Open(ctx, "f")
			must(b, err)
			p := make([]byte, 1<<20)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for off := int64(0); b.Loop(); off = (off + 1<<20) % (64 << 20) {
				if n, err := f.ReadAt(p, off); n != len(p) {
					b.Fatal(n, err)
				}
			}
			must(b, f.Close())
		})
	}
}

// A session outlives its connections over real transports, and the server that listens
// on their port.
func TestReconnectOverWholeStack(t *testing.T) {
	p, err := iwarp.New(iwarp.Config{})
	must(t, err)
	overRDMA, err := smbdirect.NewDialer(p, "iwarp", smbdirect.Config{})
	must(t, err)
	plain, err := tcp.NewDialer(tcp.Config{})
	must(t, err)
	for _, c := range []struct {
		name   string
		d      transport.Dialer
		listen func(addr string) (transport.Listener, error)
		path   DataPath
	}{
		{"tcp", plain, func(addr string) (transport.Listener, error) {
			return tcp.Listen(context.Background(), addr, tcp.Config{})
		}, PathInline},
		{"iwarp", overRDMA, func(addr string) (transport.Listener, error) {
			return smbdirect.Listen(context.Background(), p, "iwarp", addr, smbdirect.Config{})
		}, PathRDMA},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			addr := "127.0.0.1:0"
			start := func() (stop func()) {
				l, err := c.listen(addr)
				for errors.Is(err, syscall.EADDRINUSE) { // the one before is still closing
					time.Sleep(time.Millisecond)
					l, err = c.listen(addr)
				}
				must(t, err)
				addr = l.Addr().String()
				return serveDir(t, dir, l, leaveSigning)
			}
			stop := start()
			cfg := again(ReopenSameTrusting)
			cfg.User, cfg.Password = "ann", "secret"
			s, err := Dial(context.Background(), c.d, addr, cfg)
			must(t, err)
			defer s.Close()
			sh, err := s.Mount(context.Background(), "data")
			must(t, err)
			f, err := sh.Create(context.Background(), "f")
			must(t, err)
			data := random(2 << 20)
			for range 3 {
				_, err := f.WriteAt(data, 0)
				must(t, err)
				stop()
				stop = start()
				if sh.DataPath() != c.path {
					t.Fatal(sh.DataPath())
				}
				got := make([]byte, len(data))
				if n, err := f.ReadAt(got, 0); n != len(got) || err != nil || !bytes.Equal(got, data) {
					t.Fatal(n, err)
				}
			}
			must(t, f.Close())
			if n := s.TransportStats().Registrations; n != 0 || s.Stats().Reconnects < 3 {
				t.Fatalf("%d registrations left, %d reconnections", n, s.Stats().Reconnects)
			}
			stop()
		})
	}
}
