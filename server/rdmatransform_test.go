package server

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/dcerpc"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// words is data of 16-bit values in wire order.
func words(ws ...uint16) []byte {
	var b []byte
	for _, w := range ws {
		b = binary.LittleEndian.AppendUint16(b, w)
	}
	return b
}

// transformContext is an SMB2_RDMA_TRANSFORM_CAPABILITIES, [MS-SMB2] 2.2.3.1.6:
// count, three reserved words, ids.
func transformContext(ids ...uint16) smb2.NegotiateContext {
	return smb2.NegotiateContext{Type: smb2.ContextRDMATransformCapabilities,
		Data: words(append([]uint16{uint16(len(ids)), 0, 0, 0}, ids...)...)}
}

// TestSM21And22 is [MS-SMB2] 3.3.5.4: what is said of RDMA transforms in NEGOTIATE.
func TestSM21And22(t *testing.T) {
	raw := func(b []byte) []smb2.NegotiateContext {
		return []smb2.NegotiateContext{{Type: smb2.ContextRDMATransformCapabilities, Data: b}}
	}
	one := func(ids ...uint16) []smb2.NegotiateContext {
		return []smb2.NegotiateContext{transformContext(ids...)}
	}
	for _, c := range []struct {
		name   string
		in     []smb2.NegotiateContext
		server []uint16 // Config.RDMATransforms
		st     ntstatus.Status
		want   []byte // the answer's data, nil for no context
	}{
		{"BVT_Negotiate_SMB311_RdmaTransformCapabilities_IsSupported", one(1, 2), nil, 0, words(2, 0, 0, 0, 1, 2)},
		{"the client's order", one(2, 1), nil, 0, words(2, 0, 0, 0, 2, 1)},
		{"encryption alone", one(1), nil, 0, words(1, 0, 0, 0, 1)},
		{"signing alone", one(2), nil, 0, words(1, 0, 0, 0, 2)},
		{"one of them is not known", one(7, 2), nil, 0, words(1, 0, 0, 0, 2)},
		{"the same twice", one(2, 2), nil, 0, words(1, 0, 0, 0, 2)},
		{"NONE alone: NONE", one(0), nil, 0, words(1, 0, 0, 0, 0)},
		{"none known: NONE", one(3, 9), nil, 0, words(1, 0, 0, 0, 0)},
		{"none in common: NONE", one(1), []uint16{2}, 0, words(1, 0, 0, 0, 0)},
		{"reserved fields are ignored", raw(words(1, 5, 6, 7, 1)), nil, 0, words(1, 0, 0, 0, 1)},
		{"more data than ids", raw(words(1, 0, 0, 0, 1, 2)), nil, 0, words(1, 0, 0, 0, 1)},
		{"no context, no answer", nil, nil, 0, nil},
		{"a server without support does not answer", one(1, 2), []uint16{}, 0, nil},
		{"a server without support ignores a bad one", raw(nil), []uint16{}, 0, nil},
		{"Negotiate_SMB311_RdmaTransformCapabilities_EmptyTransformIds", one(), nil, ntstatus.InvalidParameter, nil},
		{"Negotiate_SMB311_RdmaTransformCapabilities_InvalidDataLength", raw(words(2, 0, 0, 0, 1)), nil, ntstatus.InvalidParameter, nil},
		{"DataLength 7", raw(make([]byte, 7)), nil, ntstatus.InvalidParameter, nil},
		{"DataLength 0", raw(nil), nil, ntstatus.InvalidParameter, nil},
		{"the context twice", append(one(1), one(2)...), nil, ntstatus.InvalidParameter, nil},
	} {
		for _, rdma := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, RDMA %v", c.name, rdma), func(t *testing.T) {
				p := newSite(t, memconn.Config{RDMA: rdma}, func(cfg *Config) { cfg.RDMATransforms = c.server }).dial()
				st, resp := p.negotiateWith(&smb2.NegotiateRequest{SecurityMode: 1, ClientGUID: p.guid,
					Dialects: []smb2.Dialect{smb2.DialectSMB311}, Contexts: append(p.contexts(), c.in...)})
				want(t, "NEGOTIATE", st, c.st)
				got, n := smb2.FindNegotiateContext(resp.Contexts, smb2.ContextRDMATransformCapabilities)
				if n > 1 || (n == 1) != (c.want != nil) || !bytes.Equal(got, c.want) {
					t.Errorf("answer has %d contexts, %x, want %x", n, got, c.want)
				}
			})
		}
	}
}

// protected is what a test of RDMA transforms negotiates.
type protected struct {
	ids    []uint16
	cipher uint16 // 0: AES-128-GCM
	alg    uint16 // 0: AES-GMAC
	seal   bool   // requests are encrypted, else they are signed
}

// loginProtected makes a session on a connection with RDMA.
func (s *site) loginProtected(c protected) *peer {
	s.t.Helper()
	if c.cipher == 0 {
		c.cipher = uint16(smbcrypto.AES128GCM)
	}
	if c.alg == 0 {
		c.alg = uint16(smbcrypto.AESGMAC)
	}
	p := s.dial()
	cs := []smb2.NegotiateContext{
		p.contexts()[0],
		{Type: smb2.ContextEncryptionCapabilities, Data: words(1, c.cipher)},
		{Type: smb2.ContextSigningCapabilities, Data: words(1, c.alg)},
	}
	if len(c.ids) > 0 {
		cs = append(cs, transformContext(c.ids...))
	}
	st, resp := p.negotiateWith(&smb2.NegotiateRequest{SecurityMode: p.mode, Capabilities: p.caps, ClientGUID: p.guid,
		Dialects: []smb2.Dialect{smb2.DialectSMB311}, Contexts: cs})
	if st != ntstatus.Success {
		s.t.Fatalf("NEGOTIATE: %v", st)
	}
	if uint16(p.cipher) != c.cipher || uint16(p.alg) != c.alg {
		s.t.Fatalf("cipher %v, signing %v", p.cipher, p.alg)
	}
	p.neg = resp
	if st := p.logon("ann", "secret"); st != ntstatus.Success {
		s.t.Fatalf("logon: %v", st)
	}
	p.seal = c.seal
	return p.mustConnect("data")
}

// offered makes a server on which a client may do without signing.
func offered(c *Config) { c.Signing = PolicyOffered }

var bothTransforms = []uint16{1, 2}

// everyProtection is each cipher and each signing algorithm of 3.1.1.
var everyProtection = []struct {
	name string
	protected
	nonce int
}{
	{"Encryption_AES128CCM", protected{bothTransforms, 1, 0, true}, 11},
	{"Encryption_AES128GCM", protected{bothTransforms, 2, 0, true}, 12},
	{"Encryption_AES256CCM", protected{bothTransforms, 3, 0, true}, 11},
	{"Encryption_AES256GCM", protected{bothTransforms, 4, 0, true}, 12},
	{"Encryption alone", protected{[]uint16{1}, 2, 0, true}, 12},
	{"Signing_AES_GMAC", protected{bothTransforms, 0, 2, false}, 12},
	{"Signing_AES_CMAC", protected{bothTransforms, 0, 1, false}, 0},
	{"Signing alone", protected{[]uint16{2}, 0, 2, false}, 12},
}

// TestSM29 is [MS-SMB2] 3.3.5.12: the data of a READ is encrypted or signed before
// the RDMA Write, and the response says how.
func TestSM29(t *testing.T) {
	for _, c := range everyProtection {
		t.Run("Smb2OverRdmaChannelTransform_ReadLargeFile_"+c.name, func(t *testing.T) {
			s := newSite(t, memconn.Config{RDMA: true}, offered)
			content := octets(1<<20 + 300)
			s.write("f", content)
			p := s.loginProtected(c.protected)
			f := p.openFile("f")
			nonces := map[string]bool{}
			for _, r := range []struct{ off, length, want int }{{0, 1 << 20, 1 << 20}, {5, 1000, 1000}, {1 << 20, 5000, 300}, {0, 1, 1}} {
				buf := bytes.Repeat([]byte{0xEE}, r.length+smbcrypto.PayloadRoom)
				g, ci := p.register(buf[:r.length], transport.PeerWrites)
				st, msg := p.doSized(smb2.CommandRead, r.length, &smb2.ReadRequest{FileID: f, Offset: uint64(r.off),
					Length: uint32(r.length), Channel: smb2.ChannelRDMAV1Invalidate, ChannelInfo: ci})
				want(t, "READ", st, ntstatus.Success)
				if p.lastInv == nil || *p.lastInv != g.Descriptors()[0].Token {
					t.Errorf("invalidated %v", p.lastInv)
				}
				g.Deregister(s.ctx, 0, false)
				if st != ntstatus.Success {
					continue
				}
				// READ response: DataOffset 80, DataLength, DataRemaining, Flags 1.
				le := binary.LittleEndian
				size := (16 + 8 + 16 + c.nonce + 7) &^ 7
				if msg[66] != 80 || le.Uint32(msg[68:]) != uint32(size) || le.Uint32(msg[72:]) != uint32(r.want) ||
					le.Uint32(msg[76:]) != 1 || len(msg) != 80+size {
					t.Fatalf("response %x", msg[64:])
				}
				// SMB2_RDMA_TRANSFORM: no descriptors, Channel 0, one transform.
				typ := uint16(2)
				if c.seal {
					typ = 1
				}
				head := append(words(0, 0, 0, 0, 1, 0, 0, 0), words(typ, 16, uint16(c.nonce), 0)...)
				if !bytes.Equal(msg[80:104], head) || !bytes.Equal(msg[120+c.nonce:], make([]byte, size-40-c.nonce)) {
					t.Errorf("transform %x, want %x and padding of zeros", msg[80:], head)
				}
				sig, nonce := msg[104:120], msg[120:120+c.nonce]
				if c.nonce > 0 && nonces[string(nonce)] {
					t.Errorf("nonce %x used twice", nonce)
				}
				nonces[string(nonce)] = true
				data, plain := buf[:r.want], content[r.off:r.off+r.want]
				if c.seal {
					if r.want > 100 && bytes.Contains(data, plain[:100]) {
						t.Error("the data went in the clear")
					}
					if err := p.opener.OpenPayload(data, data, sig, nonce); err != nil {
						t.Error(err)
					}
				} else if err := p.signer.VerifyPayload(sig, nonce, data); err != nil {
					t.Error(err)
				}
				if !bytes.Equal(data, plain) {
					t.Error("wrong octets in the buffer")
				}
				if !c.seal && !bytes.Equal(buf[r.want:], bytes.Repeat([]byte{0xEE}, len(buf)-r.want)) {
					t.Error("octets behind the data were changed")
				}
			}
			st := s.srv.Stats()
			guarded := map[bool]uint64{c.seal: 1<<20 + 1000 + 300 + 1}
			if st.RDMAEncrypted != guarded[true] || st.RDMASigned != guarded[false] || st.ReadFromFile != 0 ||
				st.ReadRDMA != guarded[c.seal] || st.BytesCopied != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// rawTransform is SMB2_RDMA_TRANSFORM with one SMB2_RDMA_CRYPTO_TRANSFORM and
// descriptors, written out from [MS-SMB2] 2.2.43.
func rawTransform(channel, typ uint16, sig, nonce, descs []byte) []byte {
	off := (24 + len(sig) + len(nonce) + 7) &^ 7
	b := words(uint16(off), uint16(len(descs)), channel, 0, 1, 0, 0, 0, typ, uint16(len(sig)), uint16(len(nonce)), 0)
	b = append(append(b, sig...), nonce...)
	return append(append(b, make([]byte, off-len(b))...), descs...)
}

// writer is a WRITE with Channel 3 that a test spoils.
type writer struct {
	channel, typ     uint16 // of the transform
	sig, nonce, desc []byte
	data             []byte // what lies in the registered memory
	req              smb2.WriteRequest
	info             []byte // replaces the channel information
}

// write3 sends a WRITE of data by RDMA that p protects as it protects requests.
func (p *peer) write3(f smb2.FileID, data []byte, spoil func(*writer)) ntstatus.Status {
	p.t.Helper()
	buf := append(make([]byte, 0, len(data)+smbcrypto.PayloadRoom), data...)
	w := &writer{channel: 2, typ: 2, data: buf}
	if p.seal {
		w.typ = 1
		tag, err := p.sealer.SealPayload(buf, buf)
		if err != nil {
			p.t.Fatal(err)
		}
		w.sig, w.nonce = tag.Signature[:], tag.Nonce[:tag.NonceSize]
	} else {
		tag := p.signer.SignPayload(buf)
		w.sig, w.nonce = tag.Signature[:], tag.Nonce[:tag.NonceSize]
	}
	g, ci := p.register(buf, transport.PeerReads)
	defer g.Deregister(p.s.ctx, 0, false)
	w.desc = ci
	w.req = smb2.WriteRequest{FileID: f, RemainingBytes: uint32(len(data)), Channel: smb2.ChannelRDMATransform}
	if spoil != nil {
		spoil(w)
	}
	if w.req.ChannelInfo = w.info; w.info == nil {
		w.req.ChannelInfo = rawTransform(w.channel, w.typ, w.sig, w.nonce, w.desc)
	}
	st, _ := p.doSized(smb2.CommandWrite, len(data), &w.req)
	// 3.3.5.13: the token of the first descriptor is invalidated if the transform's
	// Channel asks for it, after errors too.
	if w.info == nil && (p.lastInv != nil) != (w.channel == 2) {
		p.t.Errorf("channel %d in the transform, invalidated %v", w.channel, p.lastInv)
	}
	return st
}

// TestSM25And27 is [MS-SMB2] 3.3.5.13: WRITE with Channel 3, as it should be and
// with payloads that are not what the client protected.
func TestSM25And27(t *testing.T) {
	for _, c := range everyProtection {
		t.Run("Smb2OverRdmaChannelTransform_WriteLargeFile_"+c.name, func(t *testing.T) {
			s := newSite(t, memconn.Config{RDMA: true}, offered)
			p := s.loginProtected(c.protected)
			f := p.openFile("f")
			data := octets(1<<20 + 77)
			want(t, "WRITE", p.write3(f, data, nil), ntstatus.Success)
			if !bytes.Equal(s.read("f"), data) {
				t.Error("the file has not what was written")
			}
			want(t, "WRITE, no invalidation", p.write3(f, data[:1], func(w *writer) { w.channel = 1 }), ntstatus.Success)
			stats := s.srv.Stats()
			guarded := map[bool]uint64{c.seal: uint64(len(data)) + 1}
			if stats.RDMAEncrypted != guarded[true] || stats.RDMASigned != guarded[false] || stats.WriteRDMA != guarded[c.seal] || stats.BytesCopied != 0 {
				t.Errorf("%+v", stats)
			}
			failed := ntstatus.InvalidSignature
			if c.seal {
				failed = ntstatus.AuthTagMismatch
			}
			type row struct {
				name  string
				spoil func(*writer)
				st    ntstatus.Status
			}
			rows := []row{
				{"payload changed in its first octet", func(w *writer) { w.data[0] ^= 1 }, failed},
				{"payload changed in its last octet", func(w *writer) { w.data[len(w.data)-1] ^= 0x80 }, failed},
				{"InvalidSignature", func(w *writer) { w.sig[15]++ }, failed},
				{"IncreaseSignatureLength", func(w *writer) { w.sig = append(w.sig[:16:16], 0) }, failed},
				{"DecreaseSignatureLength", func(w *writer) { w.sig = w.sig[:15] }, failed},
				{"no signature", func(w *writer) { w.sig = nil }, failed},
				{"cut short", func(w *writer) { w.req.RemainingBytes-- }, failed},
			}
			if c.nonce > 0 {
				rows = append(rows,
					row{"other nonce", func(w *writer) { w.nonce[3]++ }, failed},
					row{"IncreaseNonceLength", func(w *writer) { w.nonce = append(w.nonce[:len(w.nonce):len(w.nonce)], 0) }, failed},
					row{"DecreaseNonceLength", func(w *writer) { w.nonce = w.nonce[:len(w.nonce)-1] }, failed},
					row{"no nonce", func(w *writer) { w.nonce = nil }, failed})
			}
			for i := range rows {
				if c.seal && rows[i].name == "cut short" {
					rows[i].st = ntstatus.BadData
				}
			}
			before := s.read("f")
			for _, r := range rows {
				want(t, r.name, p.write3(f, bytes.Repeat([]byte("evil"), 2000), r.spoil), r.st)
				if !bytes.Equal(s.read("f"), before) {
					t.Fatalf("%s: the file has changed", r.name)
				}
			}
			want(t, "a good WRITE after those", p.write3(f, data, nil), ntstatus.Success)
			if n := s.srv.Stats().Errors["WRITE"]; n != uint64(len(rows)) {
				t.Errorf("%d WRITEs failed, want %d", n, len(rows))
			}
		})
	}
}

// TestSM26 is [MS-SMB2] 3.3.5.13: channel information with Channel 3 that does not
// fit what was negotiated, or its own structure.
func TestSM26(t *testing.T) {
	sealed, signed := protected{ids: bothTransforms, seal: true}, protected{ids: bothTransforms}
	spoil := func(f func(b []byte) []byte) func(*writer) {
		return func(w *writer) { w.info = f(rawTransform(w.channel, w.typ, w.sig, w.nonce, w.desc)) }
	}
	// second puts another crypto transform between the first and the descriptors.
	second := func(count, typ uint16) func(*writer) {
		return spoil(func(b []byte) []byte {
			first := slices.Clone(b[:56])
			binary.LittleEndian.PutUint16(first[8:], count)
			other := slices.Clone(b[16:56])
			binary.LittleEndian.PutUint16(other, typ)
			binary.LittleEndian.PutUint16(first, 96)
			return append(append(first, other...), b[56:]...)
		})
	}
	for _, c := range []struct {
		name string
		protected
		spoil func(*writer)
	}{
		{"Encryption_NoTransformIds", protected{seal: true}, nil},
		{"Signing_NoTransformIds", protected{}, nil},
		{"Encryption_ZeroTransformCount", sealed, spoil(func(b []byte) []byte { b[8] = 0; return b })},
		{"Signing_ZeroTransformCount", signed, spoil(func(b []byte) []byte { b[8] = 0; return b })},
		{"Encryption_MultipleEncryptionStructure", sealed, second(2, 1)},
		{"Encryption_MultipleEncryptionStructure, counted as one", sealed, second(1, 1)},
		{"Encryption_EncryptionAndSigningStructure", sealed, second(2, 2)},
		{"Signing, two structures", signed, second(2, 2)},
		{"Encryption_BufferNotAligned", sealed, spoil(func(b []byte) []byte {
			b[0] = 60
			return append(append(b[:56:56], 0, 0, 0, 0), b[56:]...)
		})},
		{"descriptors later than the first aligned offset", sealed, spoil(func(b []byte) []byte {
			b[0] = 64
			return append(append(b[:56:56], make([]byte, 8)...), b[56:]...)
		})},
		{"Signing_FlagsSignedNotSet", signed, func(w *writer) {}}, // unsigned below
		{"encryption in a request that is not encrypted", signed, func(w *writer) { w.typ = 1 }},
		{"Signing_SigningStructure_EncryptionId", protected{ids: []uint16{1}}, nil},
		{"encryption structure, signing negotiated", protected{ids: []uint16{2}, seal: true}, nil},
		{"signing in an encrypted request", sealed, func(w *writer) { w.typ = 2 }},
		{"an unknown transform", sealed, func(w *writer) { w.typ = 3 }},
		{"transform type 0", signed, func(w *writer) { w.typ = 0 }},
		{"shorter than SMB2_RDMA_TRANSFORM", sealed, spoil(func(b []byte) []byte { return b[:15] })},
		{"shorter than the crypto transform", sealed, spoil(func(b []byte) []byte { return b[:40] })},
		{"SMB2_RDMA_TRANSFORM alone", sealed, spoil(func(b []byte) []byte { return b[:16] })},
		{"no channel", sealed, func(w *writer) { w.channel = 0 }},
		{"channel 3 within", sealed, func(w *writer) { w.channel = 3 }},
		{"no descriptors", sealed, func(w *writer) { w.desc, w.channel = nil, 1 }},
		{"half a descriptor", sealed, func(w *writer) { w.desc, w.channel = w.desc[:8], 1 }},
		{"descriptors beyond the end", sealed, spoil(func(b []byte) []byte { b[2] = 32; return b })},
		{"SM-17: Length of the first descriptor 0", sealed, func(w *writer) { clear(w.desc[12:16]) }},
		{"SM-17: descriptors shorter than RemainingBytes", sealed, func(w *writer) { w.req.RemainingBytes++ }},
		{"SM-16: RemainingBytes 0", sealed, func(w *writer) { w.req.RemainingBytes = 0 }},
		{"SM-17: RemainingBytes above MaxWriteSize", sealed, func(w *writer) { w.req.RemainingBytes = 8<<20 + 1 }},
		{"SM-16: no channel information", sealed, func(w *writer) { w.info = []byte{} }},
		{"plain channel in an encrypted request", sealed, func(w *writer) { w.req.Channel, w.info = 1, w.desc }},
	} {
		t.Run("Smb2OverRdmaChannelTransform_WriteLargeFile_"+c.name, func(t *testing.T) {
			s := newSite(t, memconn.Config{RDMA: true}, offered)
			p := s.loginProtected(c.protected)
			f := p.openFile("f")
			if c.name == "Signing_FlagsSignedNotSet" {
				p.sign = false
			}
			data := octets(5000)
			if c.spoil == nil {
				c.spoil = func(w *writer) { w.info = rawTransform(w.channel, w.typ, w.sig, w.nonce, w.desc) }
			}
			st := p.write3(f, data, c.spoil)
			want(t, "WRITE", st, ntstatus.InvalidParameter)
			if len(s.read("f")) != 0 {
				t.Error("the file has changed")
			}
		})
	}
	t.Run("3.0.2 has no Channel 3", func(t *testing.T) {
		s := newSite(t, memconn.Config{RDMA: true}, offered)
		p := s.login(smb2.DialectSMB302).mustConnect("data")
		f := p.openFile("f")
		st := p.write3(f, octets(5000), func(w *writer) { w.info = rawTransform(1, w.typ, w.sig, w.nonce, w.desc) })
		want(t, "WRITE", st, ntstatus.InvalidParameter)
	})
	t.Run("Channel 3 without RDMA", func(t *testing.T) {
		s := newSite(t, memconn.Config{}, offered)
		p := s.loginProtected(signed)
		f := p.openFile("f")
		st, _ := p.doSized(smb2.CommandWrite, 100, &smb2.WriteRequest{FileID: f, RemainingBytes: 100, Channel: 3,
			ChannelInfo: rawTransform(1, 2, make([]byte, 16), make([]byte, 12), make([]byte, 16))})
		want(t, "WRITE", st, ntstatus.InvalidParameter)
	})
}

// What the server accepts of READ and WRITE by RDMA: data is protected as its
// request is, and never less than the session must be.
func TestRDMAProtectionRule(t *testing.T) {
	const (
		plain, signed, sealed = 0, 1, 2
		refused               = -1
	)
	for _, c := range []struct {
		ids      []uint16
		request  int // how the request is protected
		mustSign bool
		read     int // how the data of a READ comes
		plain    int // what becomes of a WRITE with Channel 1
	}{
		{nil, plain, false, plain, plain},
		{nil, signed, false, plain, plain},
		{nil, signed, true, refused, refused},
		{nil, sealed, false, refused, refused},
		{[]uint16{1}, plain, false, plain, plain},
		{[]uint16{1}, signed, false, plain, plain},
		{[]uint16{1}, signed, true, refused, refused},
		{[]uint16{1}, sealed, false, sealed, refused},
		{[]uint16{2}, plain, false, plain, plain},
		{[]uint16{2}, signed, false, signed, plain},
		{[]uint16{2}, signed, true, signed, refused},
		{[]uint16{2}, sealed, false, refused, refused},
		{bothTransforms, plain, false, plain, plain},
		{bothTransforms, signed, false, signed, plain},
		{bothTransforms, signed, true, signed, refused},
		{bothTransforms, sealed, false, sealed, refused},
		{bothTransforms, sealed, true, sealed, refused},
	} {
		t.Run(fmt.Sprintf("ids %v, request %d, must sign %v", c.ids, c.request, c.mustSign), func(t *testing.T) {
			s := newSite(t, memconn.Config{RDMA: true}, func(cfg *Config) {
				if cfg.Signing = PolicyOffered; c.mustSign {
					cfg.Signing = PolicyRequired
				}
			})
			s.write("f", octets(5000))
			p := s.loginProtected(protected{ids: c.ids})
			f := p.openFile("f")
			p.sign, p.seal = c.request == signed, c.request == sealed
			buf := make([]byte, 5000, 5000+smbcrypto.PayloadRoom)
			g, ci := p.register(buf, transport.PeerWrites|transport.PeerReads)
			defer g.Deregister(s.ctx, 0, false)
			st, msg := p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: f, Length: 5000, Channel: 1, ChannelInfo: ci})
			got := refused
			if st == ntstatus.Success {
				m, err := smb2.ParseReadResponse(msg)
				if err != nil || m.DataRemaining != 5000 {
					t.Fatalf("%+v, %v", m, err)
				}
				got = plain
				if m.Flags == smb2.ReadFlagResponseRDMATransform {
					tr, err := smb2.ParseRDMATransform(m.Data)
					if err != nil {
						t.Fatal(err)
					}
					got = map[smb2.RDMATransformType]int{1: sealed, 2: signed}[tr.Crypto.TransformType]
				}
			} else {
				want(t, "READ", st, ntstatus.InvalidParameter)
				if !bytes.Equal(buf, make([]byte, 5000)) {
					t.Error("a READ that was refused has written")
				}
			}
			if got != c.read {
				t.Errorf("READ: %d, want %d", got, c.read)
			}
			st, _ = p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: f, RemainingBytes: 5000, Channel: 1, ChannelInfo: ci})
			wantSt := ntstatus.Success
			if c.plain == refused {
				wantSt = ntstatus.InvalidParameter
			}
			want(t, "WRITE with Channel 1", st, wantSt)
		})
	}
}

// bindRequest is the first message of RPC over a pipe.
func bindRequest(t *testing.T) (msg []byte) {
	_, err := dcerpc.Dial(dcerpc.SRVSVC, func(in []byte) ([]byte, bool, error) {
		msg = bytes.Clone(in)
		return nil, false, io.EOF
	})
	if msg == nil {
		t.Fatal(err)
	}
	return msg
}

// A pipe's data is protected like a file's.
func TestRDMATransformOnPipe(t *testing.T) {
	for _, seal := range []bool{false, true} {
		s := newSite(t, memconn.Config{RDMA: true}, offered)
		p := s.loginProtected(protected{ids: bothTransforms, seal: seal}).mustConnect("IPC$")
		f := p.openFile("srvsvc")
		want(t, "WRITE", p.write3(f, bindRequest(t), func(w *writer) { w.data[0] ^= 1 }),
			map[bool]ntstatus.Status{true: ntstatus.AuthTagMismatch, false: ntstatus.InvalidSignature}[seal])
		want(t, "WRITE", p.write3(f, bindRequest(t), nil), ntstatus.Success)
		buf := make([]byte, 1024, 1024+smbcrypto.PayloadRoom)
		g, ci := p.register(buf, transport.PeerWrites)
		st, msg := p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: f, Length: 1024, Channel: 1, ChannelInfo: ci})
		want(t, "READ", st, ntstatus.Success)
		g.Deregister(s.ctx, 0, false)
		m, err := smb2.ParseReadResponse(msg)
		if err != nil || m.Flags != 1 {
			t.Fatalf("%+v, %v", m, err)
		}
		tr, err := smb2.ParseRDMATransform(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		data := buf[:m.DataRemaining]
		if seal {
			err = p.opener.OpenPayload(data, data, tr.Crypto.Signature, tr.Crypto.Nonce)
		} else {
			err = p.signer.VerifyPayload(tr.Crypto.Signature, tr.Crypto.Nonce, data)
		}
		if err != nil || len(data) < 16 || data[0] != 5 || data[2] != 12 { // version 5, bind_ack
			t.Errorf("encrypted %v: %x, %v", seal, data, err)
		}
	}
}

// Who requires protection is told what it costs on a connection with RDMA.
func TestCostIsLogged(t *testing.T) {
	for _, c := range []struct {
		rdma    bool
		ids     []uint16
		signing Policy
		encrypt Policy
		want    string // in the log; empty for nothing
	}{
		{true, bothTransforms, PolicyDefault, 0, "signing is required, of RDMA data too"},
		{true, []uint16{2}, PolicyRequired, 0, "signing is required, of RDMA data too"},
		{true, nil, PolicyRequired, 0, "signing is required, and the client cannot do that to RDMA data"},
		{true, bothTransforms, PolicyOffered, PolicyRequired, "encryption is required, of RDMA data too"},
		{true, []uint16{2}, PolicyOffered, PolicyRequired, "encryption is required, and the client cannot do that to RDMA data"},
		{true, bothTransforms, PolicyOffered, 0, ""},
		{true, nil, PolicyDefault, 0, ""},
		{false, bothTransforms, PolicyRequired, PolicyRequired, ""},
	} {
		var log bytes.Buffer
		s := newSite(t, memconn.Config{RDMA: c.rdma}, func(cfg *Config) {
			cfg.Signing, cfg.Encryption = c.signing, c.encrypt
			cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		s.loginProtected(protected{ids: c.ids, seal: c.encrypt == PolicyRequired})
		s.srv.Close() // nobody writes any more
		got := log.String()
		if said := strings.Contains(got, "is required"); said != (c.want != "") || !strings.Contains(got, c.want) {
			t.Errorf("%+v: the log says %q", c, got)
		}
	}
}
