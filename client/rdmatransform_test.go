package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server"
)

// TestSM07 is the rule of [MS-SMB2] 3.2.4.6 and 3.2.4.7 for data that is long enough
// for RDMA: by RDMA plain, signed or encrypted, or inline.
func TestSM07(t *testing.T) {
	all := []uint16{1, 2}
	for _, c := range []struct {
		rdma    bool
		dialect Dialect
		ids     []uint16 // the server's
		sign    bool
		encrypt bool
		want    DataPath
	}{
		{true, SMB311, nil, false, false, PathRDMA},
		{true, SMB311, nil, true, false, PathInline},
		{true, SMB311, nil, false, true, PathInline},
		{true, SMB311, nil, true, true, PathInline},
		{true, SMB311, []uint16{1}, false, false, PathRDMA},
		{true, SMB311, []uint16{1}, true, false, PathInline},
		{true, SMB311, []uint16{1}, false, true, PathRDMAEncrypted},
		{true, SMB311, []uint16{1}, true, true, PathRDMAEncrypted},
		{true, SMB311, []uint16{2}, false, false, PathRDMA},
		{true, SMB311, []uint16{2}, true, false, PathRDMASigned},
		{true, SMB311, []uint16{2}, false, true, PathInline},
		{true, SMB311, []uint16{2}, true, true, PathInline},
		{true, SMB311, all, false, false, PathRDMA},
		{true, SMB311, all, true, false, PathRDMASigned},
		{true, SMB311, all, false, true, PathRDMAEncrypted},
		{true, SMB311, all, true, true, PathRDMAEncrypted},
		{true, SMB302, all, false, false, PathRDMA},
		{true, SMB302, all, true, false, PathInline},
		{true, SMB302, all, false, true, PathInline},
		{true, SMB300, all, false, false, PathRDMA},
		{true, SMB300, all, true, false, PathInline},
		{true, SMB300, all, false, true, PathInline},
		{false, SMB311, all, false, false, PathInline},
		{false, SMB311, all, true, false, PathInline},
		{false, SMB311, all, false, true, PathInline},
	} {
		t.Run(fmt.Sprintf("RDMA %v, %v, ids %v, sign %v, encrypt %v", c.rdma, c.dialect, c.ids, c.sign, c.encrypt), func(t *testing.T) {
			s := newSite(t, linkConfig{rdma: c.rdma}, func(cfg *server.Config) {
				cfg.Signing = server.PolicyOffered
				cfg.RDMATransforms = append([]uint16{}, c.ids...)
			})
			cfg := Config{MaxDialect: c.dialect}
			if c.sign {
				cfg.Signing = SigningRequired
			}
			if c.encrypt {
				cfg.Encryption = EncryptRequired
			}
			sh := s.mount(t, cfg)
			if got := sh.DataPath(); got != c.want {
				t.Errorf("path %v, want %v", got, c.want)
			}
			used, why := sh.RDMAStatus()
			if used != (c.want != PathInline) || used != (why == "") || (c.want.Cost() != "") != (c.want >= PathRDMASigned) {
				t.Errorf("RDMAStatus %v, %q, cost %q", used, why, c.want.Cost())
			}
			// What is said is what is done.
			ctx := context.Background()
			must(t, sh.WriteFile(ctx, "f", random(100_000), 0o666))
			got, err := sh.ReadFile(ctx, "f")
			must(t, err)
			if !bytes.Equal(got, random(100_000)) {
				t.Error("other bytes")
			}
			st := sh.Session().Stats()
			want := map[DataPath][4]uint64{
				PathInline:        {0, 0, 0, 200_000},
				PathRDMA:          {200_000, 0, 0, 0},
				PathRDMASigned:    {200_000, 200_000, 0, 0},
				PathRDMAEncrypted: {200_000, 0, 200_000, 0},
			}[c.want]
			if have := [4]uint64{st.RDMABytesRead + st.RDMABytesWritten, st.RDMABytesSigned, st.RDMABytesEncrypted,
				st.InlineBytesRead + st.InlineBytesWritten}; have != want {
				t.Errorf("bytes by RDMA, signed, encrypted, inline: %v, want %v", have, want)
			}
		})
	}
	// A share that encrypts, in a session that does not.
	for _, c := range []struct {
		server func(*server.Config)
		want   DataPath
	}{{nil, PathRDMAEncrypted}, {noTransforms, PathInline}} {
		s := newSite(t, linkConfig{rdma: true}, func(cfg *server.Config) {
			cfg.Signing = server.PolicyOffered
			if c.server != nil {
				c.server(cfg)
			}
		})
		sess := s.dial(t, Config{})
		sh, err := sess.Mount(context.Background(), "sealed")
		must(t, err)
		used, why := sh.RDMAStatus()
		if sh.DataPath() != c.want || used != (c.want != PathInline) || used != (why == "") {
			t.Errorf("share that encrypts: %v, %v, %q, want %v", sh.DataPath(), used, why, c.want)
		}
		if used, _ := sess.RDMAStatus(); !used {
			t.Error("the session does not use RDMA because of one share")
		}
	}
}

// TestSM22 is [MS-SMB2] 3.2.5.2: the server's answer to the offer of transforms.
func TestSM22(t *testing.T) {
	words := func(ws ...uint16) []byte {
		var b []byte
		for _, w := range ws {
			b = binary.LittleEndian.AppendUint16(b, w)
		}
		return b
	}
	for _, c := range []struct {
		name  string
		offer []RDMATransform
		data  [][]byte // contexts in the answer
		want  []RDMATransform
		bad   bool
	}{
		{"none", nil, nil, nil, false},
		{"both", nil, [][]byte{words(2, 0, 0, 0, 1, 2)}, []RDMATransform{RDMAEncryption, RDMASigning}, false},
		{"signing", nil, [][]byte{words(1, 0, 0, 0, 2)}, []RDMATransform{RDMASigning}, false},
		{"NONE", nil, [][]byte{words(1, 0, 0, 0, 0)}, nil, false},
		{"NONE among others", nil, [][]byte{words(2, 0, 0, 0, 0, 1)}, nil, true},
		{"count 0", nil, [][]byte{words(0, 0, 0, 0)}, nil, true},
		{"more than offered", nil, [][]byte{words(3, 0, 0, 0, 1, 2, 1)}, nil, true},
		{"an id that was not offered", nil, [][]byte{words(1, 0, 0, 0, 3)}, nil, true},
		{"a known id that was not offered", []RDMATransform{RDMASigning}, [][]byte{words(1, 0, 0, 0, 1)}, nil, true},
		{"nothing was offered", []RDMATransform{}, [][]byte{words(1, 0, 0, 0, 1)}, nil, true},
		{"twice", nil, [][]byte{words(1, 0, 0, 0, 1), words(1, 0, 0, 0, 2)}, nil, true},
		{"DataLength 7", nil, [][]byte{make([]byte, 7)}, nil, true},
		{"fewer ids than TransformCount", nil, [][]byte{words(2, 0, 0, 0, 1)}, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l := newFake(t, linkConfig{rdma: true})
			f.contexts = func(cs []smb2.NegotiateContext) []smb2.NegotiateContext {
				for _, d := range c.data {
					cs = append(cs, smb2.NegotiateContext{Type: smb2.ContextRDMATransformCapabilities, Data: d})
				}
				return cs
			}
			var offered []byte
			f.on[smb2.CommandNegotiate] = func(f *fake, h smb2.Header, msg []byte) bool {
				m, err := smb2.ParseNegotiateRequest(msg)
				if err != nil {
					t.Error(err)
				}
				d, _ := smb2.FindNegotiateContext(m.Contexts, smb2.ContextRDMATransformCapabilities)
				offered = bytes.Clone(d)
				return false
			}
			s, err := f.start(l, Config{RDMATransforms: c.offer})
			if c.bad {
				var pe *ProtocolError
				if !errors.As(err, &pe) {
					t.Errorf("got %v, want a ProtocolError", err)
				}
				return
			}
			must(t, err)
			if got := s.Info().RDMATransforms; !slices.Equal(got, c.want) {
				t.Errorf("agreed on %v, want %v", got, c.want)
			}
			if want := words(2, 0, 0, 0, 1, 2); !bytes.Equal(offered, want) {
				t.Errorf("offered %x, want %x", offered, want)
			}
		})
	}
	if _, err := (Config{RDMATransforms: []RDMATransform{0}}).withDefaults(); err == nil {
		t.Error("NONE can be offered")
	}
}

// protectedFake is a server with a file whose data is protected on its way.
func protectedFake(t *testing.T, seal bool) (*fake, *link, Config) {
	f, l := newFake(t, linkConfig{rdma: true})
	f.auth, f.cipher, f.alg = true, smbcrypto.AES128GCM, smbcrypto.AESGMAC
	f.transforms = []smb2.RDMATransformID{1, 2}
	cfg := Config{RDMAThreshold: 1, Signing: SigningRequired}
	if seal {
		cfg = Config{RDMAThreshold: 1, Encryption: EncryptRequired}
	}
	return f, l, cfg
}

// placedRead is the answer to a READ that a test spoils.
type placedRead struct {
	typ        uint16
	sig, nonce []byte
	data       []byte // what goes by RDMA
	remaining  int    // DataRemaining
	flags      uint32
	transform  []byte // replaces the transform
}

// placing answers READs with data that is protected as the request is.
func placing(plain []byte, spoil func(*placedRead)) handler {
	return func(f *fake, h smb2.Header, msg []byte) bool {
		m, err := smb2.ParseReadRequest(msg)
		if err != nil || m.Channel == smb2.ChannelNone {
			f.t.Errorf("READ with Channel %d, %v", m.Channel, err)
			return false
		}
		data := append(make([]byte, 0, len(plain)+smbcrypto.PayloadRoom), plain...)
		r := &placedRead{typ: 2, data: data, remaining: len(data), flags: 1}
		var tag smbcrypto.PayloadTag
		if f.sealed {
			r.typ = 1
			if tag, err = f.sealer.SealPayload(data, data); err != nil {
				f.t.Error(err)
			}
		} else {
			tag = f.signer.SignPayload(data)
		}
		r.sig, r.nonce = tag.Signature[:], tag.Nonce[:tag.NonceSize]
		spoil(r)
		ds := f.descriptors(m.ChannelInfo)
		f.buf.p = r.data
		if err := f.l.RDMA().Write(context.Background(), f.buf, len(r.data), ds); err != nil {
			f.t.Errorf("RDMA write: %v", err)
		}
		if r.transform == nil {
			r.transform = rawTransform(0, r.typ, r.sig, r.nonce, nil)
		}
		f.replyRDMA(h, &smb2.ReadResponse{DataRemaining: uint32(r.remaining), Flags: r.flags, Data: r.transform}, m.Channel, ds)
		return true
	}
}

// rawTransform is SMB2_RDMA_TRANSFORM with one SMB2_RDMA_CRYPTO_TRANSFORM, written
// out from [MS-SMB2] 2.2.43.
func rawTransform(channel, typ uint16, sig, nonce, descs []byte) []byte {
	off := (24 + len(sig) + len(nonce) + 7) &^ 7
	at := uint16(off)
	if len(descs) == 0 {
		at = 0
	}
	var b []byte
	for _, w := range []uint16{at, uint16(len(descs)), channel, 0, 1, 0, 0, 0, typ, uint16(len(sig)), uint16(len(nonce)), 0} {
		b = binary.LittleEndian.AppendUint16(b, w)
	}
	b = append(append(b, sig...), nonce...)
	return append(append(b, make([]byte, off-len(b))...), descs...)
}

// TestSM30 is [MS-SMB2] 3.2.5.11: what a client does with the answer to a READ whose
// data came by RDMA and was to be protected. The caller never gets a byte that was
// not verified, and none is left in its buffer.
func TestSM30(t *testing.T) {
	count := func(n byte) func(*placedRead) {
		return func(r *placedRead) { r.transform = rawTransform(0, r.typ, r.sig, r.nonce, nil); r.transform[8] = n }
	}
	const (
		ok       = iota
		tampered // the request fails
		broken   // the connection ends
	)
	for _, c := range []struct {
		name  string
		spoil func(*placedRead)
		want  [2]int // signed, encrypted
	}{
		{"as it should be", func(r *placedRead) {}, [2]int{ok, ok}},
		{"first octet changed", func(r *placedRead) { r.data[0] ^= 1 }, [2]int{tampered, tampered}},
		{"last octet changed", func(r *placedRead) { r.data[len(r.data)-1] ^= 1 }, [2]int{tampered, tampered}},
		{"wrong signature", func(r *placedRead) { r.sig[0]++ }, [2]int{tampered, tampered}},
		{"other nonce", func(r *placedRead) { r.nonce[0]++ }, [2]int{tampered, tampered}},
		{"size other than DataRemaining: less said", func(r *placedRead) { r.remaining-- }, [2]int{tampered, tampered}},
		{"size other than DataRemaining: less sent", func(r *placedRead) { r.data = r.data[:len(r.data)-1] }, [2]int{tampered, tampered}},
		{"nothing sent", func(r *placedRead) { r.data = nil }, [2]int{tampered, tampered}},
		{"DataRemaining above what was asked for", func(r *placedRead) { r.remaining = 5001 }, [2]int{broken, broken}},
		{"no transform", func(r *placedRead) { r.flags, r.transform = 0, []byte{} }, [2]int{broken, broken}},
		{"transform without the flag", func(r *placedRead) { r.flags = 0 }, [2]int{broken, broken}},
		{"flag without a transform", func(r *placedRead) { r.transform = []byte{} }, [2]int{broken, broken}},
		{"transform cut short", func(r *placedRead) { r.transform = rawTransform(0, r.typ, r.sig, r.nonce, nil)[:51] }, [2]int{broken, broken}},
		{"TransformCount 0", count(0), [2]int{broken, broken}},
		{"TransformCount 2", count(2), [2]int{broken, broken}},
		{"the other type", func(r *placedRead) { r.typ = 3 - r.typ }, [2]int{broken, broken}},
		{"an unknown type", func(r *placedRead) { r.typ = 3 }, [2]int{broken, broken}},
		{"signature of 17 octets", func(r *placedRead) { r.sig = append(r.sig[:16:16], 0) }, [2]int{tampered, broken}},
		{"signature of 15 octets", func(r *placedRead) { r.sig = r.sig[:15] }, [2]int{tampered, broken}},
		{"nonce of 13 octets", func(r *placedRead) { r.nonce = append(r.nonce[:12:12], 0) }, [2]int{tampered, broken}},
		{"nonce of 11 octets", func(r *placedRead) { r.nonce = r.nonce[:11] }, [2]int{tampered, broken}},
		{"no nonce", func(r *placedRead) { r.nonce = nil }, [2]int{tampered, broken}},
	} {
		for i, how := range []string{"signed", "encrypted"} {
			t.Run(c.name+", "+how, func(t *testing.T) {
				f, l, cfg := protectedFake(t, how == "encrypted")
				data := random(5000)
				f.on[smb2.CommandRead] = placing(data, c.spoil)
				file := f.open(l, cfg)
				sess := file.Share().Session()
				p := bytes.Repeat([]byte{0xAA}, 5100)
				n, err := file.ReadAt(p[50:5050], 0)
				if !bytes.Equal(p[:50], bytes.Repeat([]byte{0xAA}, 50)) || !bytes.Equal(p[5050:], bytes.Repeat([]byte{0xAA}, 50)) {
					t.Error("octets around the buffer were changed")
				}
				if n := l.Stats().Registrations; n != 0 {
					t.Errorf("%d registrations left", n)
				}
				if c.want[i] == ok {
					if n != 5000 || err != nil || !bytes.Equal(p[50:5050], data) {
						t.Fatalf("%d octets, %v", n, err)
					}
					return
				}
				if n != 0 || err == nil {
					t.Fatalf("%d octets, %v", n, err)
				}
				if rest := bytes.Trim(p, "\xAA"); len(bytes.Trim(rest, "\x00")) != 0 {
					t.Error("octets that were not verified are left in the buffer")
				}
				if c.want[i] == broken {
					ended(t, sess, err)
					return
				}
				st := []ntstatus.Status{ntstatus.InvalidSignature, ntstatus.AuthTagMismatch}[i]
				var e *Error
				if !errors.Is(err, st) || !errors.As(err, &e) || e.Status != st || errors.Is(err, net.ErrClosed) {
					t.Errorf("got %v, want %v", err, st)
				}
				must(t, sess.Echo(context.Background()))
			})
		}
	}
	t.Run("transform on a connection without RDMA", func(t *testing.T) {
		f, l := newFake(t, linkConfig{})
		f.on[smb2.CommandRead] = raw(0, &smb2.ReadResponse{Data: make([]byte, 10), Flags: 1}, func(b []byte) []byte { return b })
		file := f.open(l, Config{})
		_, err := file.ReadAt(make([]byte, 10), 0)
		if ended(t, file.Share().Session(), err); !errors.Is(err, ntstatus.InvalidNetworkResponse) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("transform that was not negotiated", func(t *testing.T) {
		f, l := newFake(t, linkConfig{rdma: true})
		f.auth, f.sign = true, true
		f.on[smb2.CommandRead] = placing(random(5000), func(*placedRead) {})
		file := f.open(l, Config{})
		_, err := file.ReadAt(make([]byte, 5000), 0)
		if ended(t, file.Share().Session(), err); !errors.Is(err, ntstatus.InvalidNetworkResponse) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("signed data in an encrypted answer", func(t *testing.T) {
		f, l, cfg := protectedFake(t, false)
		f.on[smb2.CommandRead] = placing(random(5000), func(*placedRead) { f.sealed, f.sign = true, true })
		file := f.open(l, cfg)
		_, err := file.ReadAt(make([]byte, 5000), 0)
		if ended(t, file.Share().Session(), err); !errors.Is(err, ntstatus.InvalidNetworkResponse) {
			t.Errorf("got %v", err)
		}
	})
	// A session that need not sign, and a server that signs data all the same: that is
	// worth something only in a message that is signed.
	for _, c := range []struct {
		name  string
		sign  bool
		spoil func(*placedRead)
		ok    bool
		err   ntstatus.Status
	}{
		{"data signed unasked", true, func(*placedRead) {}, true, 0},
		{"data signed unasked, in an unsigned message", false, func(*placedRead) {}, false, ntstatus.InvalidNetworkResponse},
		{"data signed unasked, and changed", true, func(r *placedRead) { r.data[7] ^= 1 }, false, ntstatus.InvalidSignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l, _ := protectedFake(t, false)
			f.sign = c.sign
			f.on[smb2.CommandRead] = placing(random(5000), c.spoil)
			file := f.open(l, Config{})
			if p := file.Share().DataPath(); p != PathRDMA {
				t.Fatalf("path %v", p)
			}
			p := make([]byte, 5000)
			n, err := file.ReadAt(p, 0)
			if c.ok {
				if n != 5000 || !bytes.Equal(p, random(5000)) {
					t.Errorf("%d octets, %v", n, err)
				}
				return
			}
			if n != 0 || !errors.Is(err, c.err) {
				t.Errorf("%d octets, %v, want %v", n, err, c.err)
			}
			if c.err == ntstatus.InvalidSignature && !bytes.Equal(p, make([]byte, 5000)) {
				t.Error("octets that were not verified are left in the buffer")
			}
		})
	}
	t.Run("below 3.1.1 the flags are reserved", func(t *testing.T) {
		f, l := newFake(t, linkConfig{})
		f.dialect = smb2.DialectSMB302
		f.on[smb2.CommandRead] = raw(0, &smb2.ReadResponse{Data: make([]byte, 10), Flags: 1}, func(b []byte) []byte { return b })
		file := f.open(l, Config{})
		if n, err := file.ReadAt(make([]byte, 10), 0); n != 10 {
			t.Errorf("%d octets, %v", n, err)
		}
	})
}

// TestSM25 is [MS-SMB2] 3.2.4.7: a WRITE with Channel 3, field for field, and the
// caller's bytes as they were.
func TestSM25(t *testing.T) {
	for _, seal := range []bool{false, true} {
		for _, channel := range []uint32{2, 1} {
			t.Run(fmt.Sprintf("encrypted %v, channel %d", seal, channel), func(t *testing.T) {
				f, l, cfg := protectedFake(t, seal)
				l.cfg.noInvalidate = channel == 1
				data := random(5000)
				sent := bytes.Clone(data)
				var nonces []string
				f.on[smb2.CommandWrite] = func(f *fake, h smb2.Header, msg []byte) bool {
					le := binary.LittleEndian
					// DataOffset 0, Length 0, Channel 3, RemainingBytes 5000, WriteChannelInfoOffset 112, its length.
					if le.Uint16(msg[66:]) != 0 || le.Uint32(msg[68:]) != 0 || le.Uint32(msg[96:]) != 3 || le.Uint32(msg[100:]) != 5000 ||
						le.Uint16(msg[104:]) != 112 || le.Uint16(msg[106:]) != 56+16 || len(msg) != 112+56+16 {
						t.Errorf("WRITE %x", msg[64:])
					}
					typ := uint16(2)
					if seal {
						typ = 1
					}
					info := msg[112:]
					sig, nonce, desc := info[24:40], info[40:52], info[56:]
					if want := rawTransform(uint16(channel), typ, sig, nonce, desc); !bytes.Equal(info, want) {
						t.Errorf("channel information %x, want %x", info, want)
					}
					if slices.Contains(nonces, string(nonce)) {
						t.Error("nonce used twice")
					}
					nonces = append(nonces, string(nonce))
					ds := f.descriptors(desc)
					if len(ds) != 1 || ds[0].Length != 5000 {
						t.Errorf("descriptors %+v", ds)
					}
					buf := leased(make([]byte, 5000, 5000+smbcrypto.PayloadRoom))
					if err := f.l.RDMA().Read(context.Background(), buf, 5000, ds); err != nil {
						t.Error(err)
					}
					var err error
					if seal {
						if bytes.Equal(buf, sent) {
							t.Error("the data went in the clear")
						}
						err = f.opener.OpenPayload(buf, buf, sig, nonce)
					} else {
						err = f.signer.VerifyPayload(sig, nonce, buf)
					}
					if err != nil || !bytes.Equal(buf, sent) {
						t.Errorf("payload: %v", err)
					}
					f.replyRDMA(h, &smb2.WriteResponse{Count: 5000}, smb2.Channel(channel), ds)
					return true
				}
				file := f.open(l, cfg)
				for range 3 {
					if n, err := file.WriteAt(data, 0); n != 5000 || err != nil {
						t.Fatal(n, err)
					}
				}
				if !bytes.Equal(data, sent) {
					t.Error("the caller's bytes were changed")
				}
				if n := l.Stats().Registrations; n != 0 {
					t.Errorf("%d registrations left", n)
				}
			})
		}
	}
}

// The RDMA channel of a session that signs or encrypts dies again and again: what was
// under way is sent again, protected afresh, on whichever channel there is, and no
// byte ever goes by RDMA without protection.
func TestProtectedFailover(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		path DataPath
	}{
		{Config{Signing: SigningRequired}, PathRDMASigned},
		{Config{Encryption: EncryptRequired}, PathRDMAEncrypted},
	} {
		t.Run(c.path.String(), func(t *testing.T) {
			m := newMultiSite(t, nil)
			cfg := c.cfg
			cfg.Window, cfg.MaxIOSize = 3, 60_000
			sh := m.share(t, cfg)
			s := sh.Session()
			if p := sh.DataPath(); p != c.path {
				t.Fatalf("path %v, want %v", p, c.path)
			}
			f, err := sh.OpenFile(context.Background(), "f", os.O_RDWR|os.O_CREATE, 0o666)
			must(t, err)
			cuts := 0
			storm(t, f, func(stop <-chan struct{}) { cuts = m.cutAgainAndAgain(s, true, 5, stop) })
			if t.Failed() {
				return
			}
			must(t, f.Close())
			st := s.Stats()
			moved := map[DataPath]uint64{c.path: st.RDMABytesRead + st.RDMABytesWritten}
			if cuts == 0 || st.Failovers == 0 || moved[c.path] == 0 ||
				st.RDMABytesSigned != moved[PathRDMASigned] || st.RDMABytesEncrypted != moved[PathRDMAEncrypted] {
				t.Errorf("%d cuts, %+v", cuts, st)
			}
		})
	}
}
