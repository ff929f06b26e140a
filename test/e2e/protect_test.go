package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server"
)

// tap stands between an iWARP client and the server. It sees what RDMA moves, and
// changes it if told to. The link has no CRC, so nobody below SMB notices.
type tap struct {
	t      testing.TB
	l      net.Listener
	to     string
	change atomic.Bool
	wg     sync.WaitGroup

	mu      sync.Mutex
	conns   []net.Conn // guarded by mu
	closed  bool       // guarded by mu
	marker  []byte     // set before use
	seen    int        // guarded by mu: segments that held the marker
	changed int        // guarded by mu: segments
}

func newTap(t testing.TB, to string, marker []byte) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &tap{t: t, l: l, to: to, marker: marker}
	p.wg.Go(p.accept) // ended by close, which waits
	t.Cleanup(p.close)
	return p
}

func (p *tap) close() {
	p.mu.Lock()
	p.closed = true
	for _, c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.l.Close()
	p.wg.Wait()
}

// keep reports whether c may be used; close closes it.
func (p *tap) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.Close()
		return false
	}
	p.conns = append(p.conns, c)
	return true
}

func (p *tap) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("tcp", p.to)
		if err != nil {
			c.Close()
			p.t.Error(err)
			return
		}
		if !p.keep(c) || !p.keep(s) {
			return
		}
		p.wg.Go(func() { p.pass(c, s) })
		p.wg.Go(func() { p.pass(s, c) })
	}
}

// pass copies one direction: the MPA startup frame, then FPDUs.
func (p *tap) pass(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	head := make([]byte, 20)
	if _, err := io.ReadFull(from, head); err != nil {
		return
	}
	if head[16]&0xC0 != 0 {
		p.t.Errorf("markers or CRC are on: flags %#x", head[16])
	}
	if _, err := to.Write(head); err != nil {
		return
	}
	if _, err := io.CopyN(to, from, int64(binary.BigEndian.Uint16(head[18:]))); err != nil {
		return
	}
	b := make([]byte, 2+65536+3+4)
	for {
		if _, err := io.ReadFull(from, b[:2]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(b))
		all := b[:(2+n+3)&^3+4]
		if _, err := io.ReadFull(from, all[2:]); err != nil {
			return
		}
		p.look(all[2 : 2+n])
		if _, err := to.Write(all); err != nil {
			return
		}
	}
}

// look sees one segment; a tagged one is of an RDMA Write or Read Response.
func (p *tap) look(ulpdu []byte) {
	const taggedHeader = 14 // control, STag, offset: RFC 5041 §4.2
	if len(ulpdu) <= taggedHeader || ulpdu[0]&0x80 == 0 {
		return
	}
	payload := ulpdu[taggedHeader:]
	p.mu.Lock()
	defer p.mu.Unlock()
	if bytes.Contains(payload, p.marker) {
		p.seen++
	}
	if p.change.Load() {
		payload[len(payload)/2] ^= 0x20
		p.changed++
	}
}

// protections are the ways in which what goes by RDMA is protected, or not.
var protections = []struct {
	name string
	cfg  client.Config
	path client.DataPath
	st   ntstatus.Status // of a payload that was changed
}{
	{"plain", client.Config{}, client.PathRDMA, 0},
	{"signed", client.Config{Signing: client.SigningRequired}, client.PathRDMASigned, ntstatus.InvalidSignature},
	{"signed by AES-CMAC", client.Config{Signing: client.SigningRequired, SigningAlgorithms: []client.SigningAlgorithm{client.AESCMAC}},
		client.PathRDMASigned, ntstatus.InvalidSignature},
	{"encrypted", client.Config{Encryption: client.EncryptRequired}, client.PathRDMAEncrypted, ntstatus.AuthTagMismatch},
	{"encrypted by AES-256-CCM", client.Config{Encryption: client.EncryptRequired, Ciphers: []client.Cipher{client.AES256CCM}},
		client.PathRDMAEncrypted, ntstatus.AuthTagMismatch},
}

func offeredSigning(c *server.Config) { c.Signing = server.PolicyOffered }

// Somebody on the way sees and changes what RDMA moves. Signed payloads can be seen
// and not changed, encrypted ones neither; both ends notice (SM-27, SM-30), with the
// status of each case, the file and the caller's buffer do not get a byte of it, and
// the session goes on. Plain payloads show that the test can fail.
func TestTamperedPayload(t *testing.T) {
	for _, c := range protections {
		t.Run(c.name, func(t *testing.T) {
			marker := []byte("what nobody else may see")
			s := newSite(t, options{server: offeredSigning})
			p := newTap(t, s.rdm.Addr().String(), marker)
			ctx := context.Background()
			sh, err := mount(ctx, dialer(t, "iwarp"), p.l.Addr().String(), c.cfg)
			must(t, err)
			defer sh.Session().Close()
			if sh.DataPath() != c.path {
				t.Fatalf("path %v", sh.DataPath())
			}
			data := bytes.Repeat(append([]byte("----"), marker...), 10_000)
			f, err := sh.Create(ctx, "f")
			must(t, err)
			_, err = f.WriteAt(data, 0)
			must(t, err)
			got := make([]byte, len(data))
			if _, err := f.ReadAt(got, 0); err != nil && err != io.EOF || !bytes.Equal(got, data) {
				t.Fatal("what was read is not what was written:", err)
			}
			p.mu.Lock()
			if hidden := c.path == client.PathRDMAEncrypted; p.seen > 0 == hidden {
				t.Errorf("%d segments could be read", p.seen)
			}
			p.mu.Unlock()

			p.change.Store(true)
			other := bytes.Repeat([]byte("evil"), len(data)/4)
			clear(got)
			n, err := f.ReadAt(got, 0)
			_, werr := f.WriteAt(other, 0)
			p.change.Store(false)
			p.mu.Lock()
			if p.changed < 2 {
				t.Errorf("%d segments were changed", p.changed)
			}
			p.mu.Unlock()
			disk := s.read("f")
			if c.st == 0 {
				if err != nil && err != io.EOF || werr != nil || bytes.Equal(got, data) || bytes.Equal(disk, other) {
					t.Errorf("plain payloads were not changed: %v, %v", err, werr)
				}
				return
			}
			if n != 0 || !errors.Is(err, c.st) {
				t.Errorf("ReadAt: %d octets, %v, want %v", n, err, c.st)
			}
			if !bytes.Equal(got, make([]byte, len(got))) {
				t.Error("octets that were not verified are in the caller's buffer")
			}
			if !errors.Is(werr, c.st) {
				t.Errorf("WriteAt: %v, want %v", werr, c.st)
			}
			if !bytes.Equal(disk, data) {
				t.Error("a WRITE that was not verified has changed the file")
			}
			_, err = f.WriteAt(other, 0)
			must(t, err)
			if !bytes.Equal(s.read("f")[:len(other)], other) {
				t.Error("the WRITE after those is not in the file")
			}
			must(t, f.Close())
		})
	}
}

// A tree of files of many sizes, written and read with each protection: all of it
// goes by RDMA, and protected.
func TestProtectedTree(t *testing.T) {
	sizes := []int{1, 2, 15, 16, 17, 4095, 4096, 4097, 65535, 65536, 65537, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3<<20 + 5}
	for _, c := range protections {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, options{server: offeredSigning})
			cfg := c.cfg
			cfg.RDMAThreshold = 1
			ctx := context.Background()
			sh, err := mount(ctx, dialer(t, "iwarp"), s.addr("iwarp"), cfg)
			must(t, err)
			defer sh.Session().Close()
			total := uint64(0)
			for i, n := range sizes {
				dir := fmt.Sprintf("d%d/e%d", i%3, i%2)
				must(t, sh.MkdirAll(ctx, dir))
				name := fmt.Sprintf("%s/f%d", dir, n)
				data := octets(byte(i), n)
				must(t, sh.WriteFile(ctx, name, data, 0o666))
				if !bytes.Equal(s.read(name), data) {
					t.Errorf("%s: the file has not what was written", name)
				}
				got, err := sh.ReadFile(ctx, name)
				must(t, err)
				if !bytes.Equal(got, data) {
					t.Errorf("%s: what was read is not what was written", name)
				}
				total += 2 * uint64(n)
			}
			guarded := map[client.DataPath]uint64{c.path: total}
			st, sv := sh.Session().Stats(), s.srv.Stats()
			if st.InlineBytesRead+st.InlineBytesWritten != 0 || st.RDMABytesRead+st.RDMABytesWritten != total || st.BytesCopied != 0 ||
				st.RDMABytesSigned != guarded[client.PathRDMASigned] || st.RDMABytesEncrypted != guarded[client.PathRDMAEncrypted] {
				t.Errorf("client: %+v", st)
			}
			if sv.ReadInline+sv.WriteInline != 0 || sv.ReadRDMA+sv.WriteRDMA != total || sv.BytesCopied != 0 ||
				sv.RDMASigned != guarded[client.PathRDMASigned] || sv.RDMAEncrypted != guarded[client.PathRDMAEncrypted] {
				t.Errorf("server: %+v", sv)
			}
			if c.path != client.PathRDMA && sv.ReadFromFile != 0 {
				t.Errorf("%d octets went past their protection", sv.ReadFromFile)
			}
		})
	}
}

// A server without RDMA transforms, as ksmbd and older Windows are, and a client
// without, as cifs.ko is: what has to be protected goes in messages.
func TestProtectionWithoutTransforms(t *testing.T) {
	for _, who := range []string{"server", "client"} {
		for _, c := range protections {
			t.Run(who+", "+c.name, func(t *testing.T) {
				s := newSite(t, options{server: func(cfg *server.Config) {
					if who == "server" {
						cfg.RDMATransforms = []uint16{}
					}
				}})
				cfg := c.cfg
				if who == "client" {
					cfg.RDMATransforms = []client.RDMATransform{}
				}
				ctx := context.Background()
				sh, err := mount(ctx, dialer(t, "iwarp"), s.addr("iwarp"), cfg)
				must(t, err)
				defer sh.Session().Close()
				data := octets(3, 300_000)
				must(t, sh.WriteFile(ctx, "f", data, 0o666))
				got, err := sh.ReadFile(ctx, "f")
				must(t, err)
				if !bytes.Equal(got, data) {
					t.Error("what was read is not what was written")
				}
				want := client.PathInline
				if c.path == client.PathRDMA {
					want = client.PathRDMA // no signing is asked of such a client
				}
				sv := s.srv.Stats()
				if sh.DataPath() != want || (want == client.PathInline) != (sv.ReadRDMA+sv.WriteRDMA == 0) || sv.RDMASigned+sv.RDMAEncrypted != 0 {
					t.Errorf("path %v, %+v", sh.DataPath(), sv)
				}
				if used, why := sh.RDMAStatus(); used == (why != "") || used != (want == client.PathRDMA) {
					t.Errorf("RDMAStatus %v, %q", used, why)
				}
			})
		}
	}
}

// BenchmarkProtected reads and writes 1 MiB requests over loopback, the ways beside
// each other. Loopback stands for no network; what it shows is the processor's part.
func BenchmarkProtected(b *testing.B) {
	tcpSealed := protections[3]
	tcpSealed.name, tcpSealed.path = "tcp, encrypted", client.PathInline
	tcpSigned := protections[1]
	tcpSigned.name, tcpSigned.path = "tcp, signed", client.PathInline
	for _, c := range append([]struct {
		name string
		cfg  client.Config
		path client.DataPath
		st   ntstatus.Status
	}{tcpSigned, tcpSealed}, protections...) {
		for _, write := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/write=%v", c.name, write), func(b *testing.B) {
				s := newSite(b, options{server: offeredSigning})
				scheme := "iwarp"
				if c.path == client.PathInline {
					scheme = "tcp"
				}
				ctx := context.Background()
				sh, err := mount(ctx, dialer(b, scheme), s.addr(scheme), c.cfg)
				must(b, err)
				defer sh.Session().Close()
				if sh.DataPath() != c.path {
					b.Fatalf("path %v", sh.DataPath())
				}
				const span = 64 << 20
				must(b, sh.WriteFile(ctx, "f", octets(1, span), 0o666))
				f, err := sh.OpenFile(ctx, "f", os.O_RDWR, 0)
				must(b, err)
				p := octets(2, 8<<20)
				b.SetBytes(int64(len(p)))
				b.ReportAllocs()
				for off := int64(0); b.Loop(); off = (off + int64(len(p))) % span {
					if write {
						_, err = f.WriteAt(p, off)
					} else {
						_, err = f.ReadAt(p, off)
					}
					if err != nil && err != io.EOF {
						b.Fatal(err)
					}
				}
				must(b, f.Close())
			})
		}
	}
}
