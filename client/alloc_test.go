//go:build !race

package client

import (
	"context"
	"os"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// A READ or WRITE of 1 MiB allocates nothing on the heap in the steady state: the
// limit is 10, what is measured is the client and a server in memory together.
func TestTransferAllocations(t *testing.T) {
	const limit = 0.5
	for _, c := range []struct {
		name string
		link linkConfig
		cfg  Config
		size int
		auth bool
	}{
		{name: "rdma", link: linkConfig{rdma: true}, size: 1 << 20},
		{name: "rdma-pieces", link: linkConfig{rdma: true, maxRDMA: 65536}, size: 1 << 20},
		{name: "inline", size: 1 << 20},
		{name: "inline-small", size: 4096},
		{name: "inline-pieces", cfg: Config{MaxIOSize: 65536}, size: 1 << 20},
		{name: "signed", size: 65536, auth: true, cfg: Config{Signing: SigningRequired}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l := newFake(t, c.link)
			f.auth = c.auth
			f.data = random(c.size)
			f.seen = make([]smb2.Header, 0, 2000)
			// WRITEs are counted and dropped, as the fake would allocate for them.
			f.on[smb2.CommandWrite] = func(f *fake, h smb2.Header, msg []byte) bool {
				m, err := smb2.ParseWriteRequest(msg)
				if err != nil {
					t.Error(err)
				}
				if m.Channel != smb2.ChannelNone {
					f.writeM.Count = m.RemainingBytes
					f.replyRDMA(h, &f.writeM, m.Channel, f.descriptors(m.ChannelInfo))
				} else {
					f.writeM.Count = uint32(len(m.Data))
					f.reply(h, 0, &f.writeM)
				}
				return true
			}
			file := f.open(l, c.cfg)
			p := make([]byte, c.size)
			read := func() {
				if n, err := file.ReadAtContext(context.Background(), p, 0); n != len(p) {
					t.Fatal(n, err)
				}
			}
			write := func() {
				if n, err := file.WriteAtContext(context.Background(), p, 0); n != len(p) {
					t.Fatal(n, err)
				}
			}
			// The CMAC library allocates its 16 bytes: twice at each end.
			library := 0.0
			if c.auth {
				library = 4
			}
			for range 20 {
				read()
				write()
			}
			if n := testing.AllocsPerRun(100, read) - library; n > limit {
				t.Errorf("read of %d bytes: %.1f allocations", c.size, n)
			}
			if n := testing.AllocsPerRun(100, write) - library; n > limit {
				t.Errorf("write of %d bytes: %.1f allocations", c.size, n)
			}
		})
	}
}

// By RDMA, signed or encrypted, client and server of this module together allocate
// no more for 1 MiB than without: the payloads cost nothing. The CMAC library
// allocates its 16 bytes for the message and the payload, at each end twice.
func TestProtectedTransferAllocations(t *testing.T) {
	measure := func(cfg Config) (read, write float64) {
		s := newSite(t, linkConfig{rdma: true}, leaveSigning)
		sh := s.mount(t, cfg)
		ctx := context.Background()
		must(t, sh.WriteFile(ctx, "f", random(1<<20), 0o666))
		f, err := sh.OpenFile(ctx, "f", os.O_RDWR, 0)
		must(t, err)
		p := make([]byte, 1<<20)
		r := func() {
			if n, err := f.ReadAtContext(ctx, p, 0); n != len(p) {
				t.Fatal(n, err)
			}
		}
		w := func() {
			if n, err := f.WriteAtContext(ctx, p, 0); n != len(p) {
				t.Fatal(n, err)
			}
		}
		for range 20 {
			r()
			w()
		}
		read, write = testing.AllocsPerRun(100, r), testing.AllocsPerRun(100, w)
		must(t, f.Close())
		return read, write
	}
	read, write := measure(Config{})
	for _, c := range []struct {
		name  string
		cfg   Config
		extra float64
	}{
		{"AES-GMAC", Config{Signing: SigningRequired}, 0},
		{"AES-CMAC", Config{Signing: SigningRequired, SigningAlgorithms: []SigningAlgorithm{AESCMAC}}, 6},
		{"AES-128-GCM", Config{Encryption: EncryptRequired}, 0},
		// A key stream each for the request, the answer and the payload, at each end.
		{"AES-128-CCM", Config{Encryption: EncryptRequired, Ciphers: []Cipher{AES128CCM}}, 6},
		{"AES-256-GCM", Config{Encryption: EncryptRequired, Ciphers: []Cipher{AES256GCM}}, 0},
	} {
		r, w := measure(c.cfg)
		t.Logf("%s: read %.1f, plain %.1f; write %.1f, plain %.1f", c.name, r, read, w, write)
		if r > read+c.extra+0.5 || w > write+c.extra+0.5 {
			t.Errorf("%s: read %.1f allocations, plain %.1f; write %.1f, plain %.1f", c.name, r, read, w, write)
		}
	}
}
