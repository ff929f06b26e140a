package smbdtest

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// An SMB2 client whose RDMA payloads are encrypted or signed, [MS-SMB2] 2.2.43,
// 3.2.4.7, 3.2.5.2 and 3.2.5.11.

// refusesNegotiation checks that the client gives up when it has the answer to its
// NEGOTIATE.
func (s *smb2Server) refusesNegotiation(what string) {
	for s.step() != smb2.CommandNegotiate {
	}
	select {
	case r := <-s.opened:
		s.opened <- r
		s.t.Check(r.err != nil, "%s: the client goes on", what)
		s.t.Logf("%s: %v", what, r.err)
	case <-time.After(s.t.Times.React):
		s.t.Errorf("%s: the client has not given up", what)
	}
}

// transformServers are the servers whose clients protect payloads: by every cipher
// and signing algorithm.
type transformServer struct {
	name string
	kind uint16
	opt  serverOptions
}

func transformServers() (out []transformServer) {
	for _, c := range ciphers {
		out = append(out, transformServer{c.name, typeEncryption, serverOptions{cipher: c.id, seal: true, transforms: allTransforms[:1]}})
	}
	for _, a := range macs {
		out = append(out, transformServer{a.name, typeSigning, serverOptions{alg: a.id, sign: true, transforms: allTransforms[1:]}})
	}
	return append(out,
		transformServer{"AES_CMAC without a signing context", typeSigning, serverOptions{sign: true, transforms: allTransforms[1:]}},
		transformServer{"AES128GCM, both transforms", typeEncryption, serverOptions{cipher: smb2.CipherAES128GCM, alg: smb2.SigningAESGMAC, seal: true, transforms: allTransforms}},
		transformServer{"AES_GMAC, both transforms", typeSigning, serverOptions{cipher: smb2.CipherAES128GCM, alg: smb2.SigningAESGMAC, sign: true, transforms: allTransforms}},
	)
}

// payloadNonce is how long the nonce of a payload is here, in octets.
func (s *smb2Server) payloadNonce(kind uint16) int {
	switch {
	case kind == typeEncryption:
		return nonceSize(s.cipher)
	case s.alg == smbcrypto.AESGMAC:
		return 12
	}
	return 0
}

// protect makes the payload of a READ in place and its crypto transform.
func (s *smb2Server) protect(kind uint16, data []byte) cryptoTransform {
	c := cryptoTransform{kind: kind, nonce: random(s.payloadNonce(kind))}
	if kind == typeEncryption {
		c.signature = sealPayload(s.cipher, s.keys.ServerToClient, c.nonce, data)
	} else {
		c.signature = signPayload(s.alg, s.keys.Signing, c.nonce, data)
	}
	return c
}

// takeWrite checks a WRITE of content with a transform, octet by octet, fetches
// the payload and answers.
func (s *smb2Server) takeWrite(what string, kind uint16, off uint64, content []byte) {
	t, n := s.t, len(content)
	r := s.next()
	s.wantHeader(r, smb2.CommandWrite, n)
	t.Check(r.sealed == (kind == typeEncryption) && r.hdr.IsSigned() == (kind == typeSigning), "%s: the request is encrypted: %v, signed: %v", what, r.sealed, r.hdr.IsSigned())
	channel, info := r.channelInfo()
	if channel != smb2.ChannelRDMATransform {
		t.Fatalf("%s: WRITE on Channel %d, want 3", what, channel)
	}
	s.wantBody("WRITE", r, writeRequestBody(off, smb2.ChannelRDMATransform, n, info, nil))
	size := s.payloadNonce(kind)
	at := (16 + 8 + 16 + size + 7) &^ 7
	if len(info) < at+wire.DescriptorSize {
		t.Fatalf("%s: %d octets of channel information, want %d", what, len(info), at+wire.DescriptorSize)
	}
	tag, nonce := info[24:40], info[40:40+size]
	want := rdmaTransform{channel: uint32(smb2.ChannelRDMAV1Invalidate), count: 1, descriptors: info[at:],
		crypto: []cryptoTransform{{kind: kind, signature: tag, nonce: nonce}}}
	if b := want.append(nil); !bytes.Equal(info, b) {
		t.Fatalf("%s: channel information\ngot  % x\nwant % x", what, info, b)
	}
	ds := s.parseDescriptors(info[at:], n)
	data := s.get(ds)
	if kind == typeEncryption {
		s.fresh("encryption", nonce)
		t.Check(!bytes.Equal(data, content), "%s: the payload is in the clear", what)
		err := openPayload(s.cipher, s.keys.ClientToServer, nonce, tag, data)
		t.Check(err == nil, "%s: %v", what, err)
	} else {
		if len(nonce) > 0 {
			s.fresh("signing", nonce)
			id := binary.LittleEndian.AppendUint64(nil, r.hdr.MessageID)
			for _, end := range []byte{0, 1} {
				t.Check(!bytes.Equal(nonce, append(id[:8:8], end, 0, 0, 0)), "%s: the payload has the nonce % x of a message", what, nonce)
			}
		}
		t.Check(bytes.Equal(tag, signPayload(s.alg, s.keys.Signing, nonce, data)), "%s: the signature does not fit the payload", what)
	}
	t.Check(bytes.Equal(data, content), "%s: the payload is not what the user wrote", what)
	s.replyWrite(r, n, smb2.ChannelRDMAV1Invalidate, ds)
}

// giveRead answers a READ of n octets with what make makes of the memory, a copy of
// content, and the transform that belongs to it.
func (s *smb2Server) giveRead(n int, content []byte, make func(data []byte) readAnswer) {
	s.giveReadTo(s.next(), n, content, make)
}

// giveReadTo does that to a READ, which says how the response is protected.
func (s *smb2Server) giveReadTo(r clientRequest, n int, content []byte, make func(data []byte) readAnswer) {
	s.wantHeader(r, smb2.CommandRead, n)
	_, info := r.channelInfo()
	off := binary.LittleEndian.Uint64(r.msg[72:])
	s.wantBody("READ", r, readRequestBody(n, off, smb2.ChannelRDMAV1Invalidate, n, info))
	ds := s.descriptors(r, n)
	data := bytes.Clone(content)
	m := make(data)
	s.put(ds, data)
	s.replyToken(r, ntstatus.Success, m, smb2.ChannelRDMAV1Invalidate, ds)
}

// withTransform is the response with a transform.
func withTransform(n int, m rdmaTransform) readAnswer {
	b := m.append(nil)
	return readAnswer{dataLength: uint32(len(b)), remaining: uint32(n), flags: 1, data: b}
}

var _ = register(
	clientCase("TransformCapabilities", "3.2.5.2", "A response context with an id that was not offered, more ids than were offered, that is too short, or that comes twice, ends the negotiation. NONE alone is no error: data of sessions that sign is in the messages then.",
		rows("SM-22"), func(t *T) {
			short := func(n int) smb2.NegotiateContext {
				c := rdmaCapabilities(2, allTransforms...)
				c.Data = c.Data[:n]
				return c
			}
			for _, row := range []struct {
				name     string
				contexts []smb2.NegotiateContext
			}{
				{"id 3", []smb2.NegotiateContext{rdmaCapabilities(1, 3)}},
				{"id 1 and 0x7FFF", []smb2.NegotiateContext{rdmaCapabilities(2, 1, 0x7FFF)}},
				{"three ids", []smb2.NegotiateContext{rdmaCapabilities(3, 1, 2, 1)}},
				{"no octets", []smb2.NegotiateContext{short(0)}},
				{"7 octets", []smb2.NegotiateContext{short(7)}},
				{"8 octets, TransformCount 2", []smb2.NegotiateContext{short(8)}},
				{"11 octets, TransformCount 2", []smb2.NegotiateContext{short(11)}},
				{"the context twice", []smb2.NegotiateContext{rdmaCapabilities(2, allTransforms...), rdmaCapabilities(2, allTransforms...)}},
			} {
				s := meetSMB2(t, serverOptions{alg: smb2.SigningAESGMAC, contexts: row.contexts})
				s.refusesNegotiation(row.name)
			}
			s := serveFile(t, serverOptions{alg: smb2.SigningAESGMAC, sign: true, contexts: []smb2.NegotiateContext{rdmaCapabilities(1, smb2.RDMATransformNone)}})
			c := s.readAt(make([]byte, 8192), 0)
			r := s.next()
			channel, _ := r.channelInfo()
			t.Check(channel == smb2.ChannelNone, "NONE: READ on Channel %d of a session that signs", channel)
			s.reply(r, ntstatus.Success, readAnswer{dataLength: 8192, data: make([]byte, 8192)})
			got := s.done(c)
			t.Check(got.n == 8192 && got.err == nil, "NONE: ReadAt: %d, %v", got.n, got.err)
		}),
	clientCase("TransformWrite", "3.2.4.7, 2.2.43", "Every octet of a WRITE with a transform, by every cipher and signing algorithm: Channel 3, one transform, one crypto transform, the descriptors behind them; the payload decrypts or verifies, no nonce comes twice, and the user's buffer is not changed.",
		rows("SM-24", "SM-25", "SM-08"), func(t *T) {
			for _, ts := range transformServers() {
				t.Logf("%s", ts.name)
				s := serveFile(t, ts.opt)
				for i, n := range []int{4096, 8191, 65_537, 4096} {
					content := octets(uint64(70+i), n)
					p := bytes.Clone(content)
					c := s.writeAt(p, int64(i)<<20)
					s.takeWrite(ts.name, ts.kind, uint64(i)<<20, content)
					got := s.done(c)
					t.Check(got.n == n && got.err == nil, "%s: WriteAt: %d, %v", ts.name, got.n, got.err)
					t.Check(bytes.Equal(p, content), "%s: WriteAt changed the user's buffer", ts.name)
				}
			}
		}),
	clientCase("TransformRead", "3.2.5.11, 2.2.43", "A READ whose response has a transform, by every cipher and signing algorithm, gives the user the plaintext; a short one too.",
		rows("SM-24", "SM-30"), func(t *T) {
			for _, ts := range transformServers() {
				t.Logf("%s", ts.name)
				s := serveFile(t, ts.opt)
				for i, n := range []int{4096, 8191, 65_537} {
					content := octets(uint64(80+i), n)
					p := make([]byte, n)
					c := s.readAt(p, int64(i)<<20)
					s.giveRead(n, content, func(data []byte) readAnswer {
						return withTransform(n, rdmaTransform{count: 1, crypto: []cryptoTransform{s.protect(ts.kind, data)}})
					})
					got := s.done(c)
					t.Check(got.n == n && got.err == nil && bytes.Equal(p, content), "%s: ReadAt: %d, %v, the content is right: %v", ts.name, got.n, got.err, bytes.Equal(p, content))
				}
				const n, there = 8192, 5003
				content := octets(90, there)
				p := bytes.Repeat([]byte{0x77}, n)
				c := s.readAt(p, 0)
				s.giveRead(n, content, func(data []byte) readAnswer {
					return withTransform(there, rdmaTransform{count: 1, crypto: []cryptoTransform{s.protect(ts.kind, data)}})
				})
				s.reply(s.next(), ntstatus.EndOfFile, &smb2.ErrorResponse{})
				got := s.done(c)
				t.Check(got.n == there && bytes.Equal(p[:there], content), "%s: short ReadAt: %d, %v", ts.name, got.n, got.err)
			}
		}),
	clientCase("BadTransformRead", "3.2.5.11", "A READ response whose transform does not fit what was negotiated or how the response was protected is STATUS_INVALID_NETWORK_RESPONSE, one whose signature is wrong STATUS_INVALID_SIGNATURE, and what does not decrypt or has another size an error: the user gets no octet.",
		rows("SM-30", "SM-20"), badTransformReads),
)

// forgedRead is one response to a READ that is wrong.
type forgedRead struct {
	name string
	// make changes a transform and memory that fit each other; n is DataRemaining.
	make func(s *smb2Server, kind uint16, m *rdmaTransform, data []byte, n *int)
	// answer changes the response.
	answer func(a *readAnswer)
	// want is the status; 0 is any error.
	want ntstatus.Status
	// other protects the response in the other way than the request was: by a
	// signature instead of encryption, or the reverse.
	other bool
}

func badTransformReads(t *T) {
	const n = 8192
	badResponse := ntstatus.InvalidNetworkResponse
	crypto := func(f func(c *cryptoTransform)) func(*smb2Server, uint16, *rdmaTransform, []byte, *int) {
		return func(_ *smb2Server, _ uint16, m *rdmaTransform, _ []byte, _ *int) { f(&m.crypto[0]) }
	}
	structures := []forgedRead{
		{"TransformCount 0", func(_ *smb2Server, _ uint16, m *rdmaTransform, _ []byte, _ *int) { m.count = 0 }, nil, badResponse, false},
		{"TransformCount 2 of one", func(_ *smb2Server, _ uint16, m *rdmaTransform, _ []byte, _ *int) { m.count = 2 }, nil, badResponse, false},
		{"two transforms of the type", func(_ *smb2Server, _ uint16, m *rdmaTransform, _ []byte, _ *int) {
			m.count, m.crypto = 2, append(m.crypto, m.crypto[0])
		}, nil, badResponse, false},
		{"a transform of each type", func(s *smb2Server, kind uint16, m *rdmaTransform, _ []byte, _ *int) {
			other := typeEncryption + typeSigning - kind
			m.count, m.crypto = 2, append(m.crypto, cryptoTransform{kind: other, signature: random(16), nonce: random(12)})
		}, nil, badResponse, false},
		{"a transform of the other type", func(s *smb2Server, kind uint16, m *rdmaTransform, data []byte, _ *int) {
			other := typeEncryption + typeSigning - kind
			copy(data, octets(91, len(data)))
			if other == typeEncryption && s.cipher == 0 { // which nobody has a key for
				m.crypto = []cryptoTransform{{kind: other, signature: random(16), nonce: random(12)}}
				return
			}
			m.crypto = []cryptoTransform{s.protect(other, data)}
		}, nil, badResponse, false},
		{"transform type 0", crypto(func(c *cryptoTransform) { c.kind = 0 }), nil, badResponse, false},
		{"transform type 3", crypto(func(c *cryptoTransform) { c.kind = 3 }), nil, badResponse, false},
		{"no crypto transform", func(_ *smb2Server, _ uint16, m *rdmaTransform, _ []byte, _ *int) { m.crypto = nil }, nil, badResponse, false},
		{"15 octets of transform", nil, func(a *readAnswer) { a.data, a.dataLength = a.data[:15], 15 }, badResponse, false},
		{"a transform without an octet", nil, func(a *readAnswer) { a.data, a.dataLength = nil, 0 }, badResponse, false},
		{"a signature that the response does not reach", nil, func(a *readAnswer) { a.data, a.dataLength = a.data[:30], 30 }, badResponse, false},
		{"no transform, payload as it is in the file", func(_ *smb2Server, _ uint16, _ *rdmaTransform, data []byte, _ *int) {
			copy(data, octets(91, len(data)))
		}, func(a *readAnswer) { *a = readAnswer{remaining: a.remaining} }, 0, false},
		{"the response protected in the other way", nil, nil, 0, true},
		{"DataRemaining above Length", func(_ *smb2Server, _ uint16, _ *rdmaTransform, _ []byte, m *int) { *m = n + 1 }, nil, 0, false},
	}
	tampered := []forgedRead{
		{"its first octet changed", func(_ *smb2Server, _ uint16, _ *rdmaTransform, data []byte, _ *int) { data[0] ^= 1 }, nil, 0, false},
		{"its last octet changed", func(_ *smb2Server, _ uint16, _ *rdmaTransform, data []byte, _ *int) { data[n-1] ^= 0x80 }, nil, 0, false},
		{"its tag changed", crypto(func(c *cryptoTransform) { c.signature[7] ^= 1 }), nil, 0, false},
		{"DataRemaining an octet less", func(_ *smb2Server, _ uint16, _ *rdmaTransform, _ []byte, m *int) { *m = n - 1 }, nil, 0, false},
	}
	for _, ts := range transformServers() {
		list := append([]forgedRead(nil), structures...)
		for _, row := range tampered {
			if ts.kind == typeSigning {
				row.want = ntstatus.InvalidSignature
			}
			list = append(list, row)
		}
		if ts.kind == typeEncryption {
			list = append(list,
				forgedRead{"SignatureLength 17", crypto(func(c *cryptoTransform) { c.signature = append(c.signature, 0) }), nil, badResponse, false},
				forgedRead{"a nonce that is an octet too long", crypto(func(c *cryptoTransform) { c.nonce = append(c.nonce, 0) }), nil, badResponse, false},
				forgedRead{"a nonce that is an octet too short", crypto(func(c *cryptoTransform) { c.nonce = c.nonce[1:] }), nil, badResponse, false},
				forgedRead{"no nonce", crypto(func(c *cryptoTransform) { c.nonce = nil }), nil, badResponse, false},
				forgedRead{"another nonce", crypto(func(c *cryptoTransform) { c.nonce[3] ^= 1 }), nil, 0, false},
				forgedRead{"a tag of 15 octets", crypto(func(c *cryptoTransform) { c.signature = c.signature[:15] }), nil, 0, false},
			)
		} else {
			list = append(list,
				forgedRead{"a signature of 15 octets", crypto(func(c *cryptoTransform) { c.signature = c.signature[:15] }), nil, 0, false},
				forgedRead{"no signature", crypto(func(c *cryptoTransform) { c.signature = nil }), nil, 0, false},
			)
		}
		for _, row := range list {
			if row.other && ts.opt.cipher == 0 {
				continue // there is no key for it
			}
			t.Logf("%s: %s", ts.name, row.name)
			s := serveFile(t, ts.opt)
			content := octets(91, n)
			var sent []byte
			p := make([]byte, n)
			c := s.readAt(p, 0)
			r := s.next()
			if row.other {
				r.sealed, r.hdr.Flags = !r.sealed, r.hdr.Flags^smb2.FlagSigned
			}
			s.giveReadTo(r, n, content, func(data []byte) readAnswer {
				m := rdmaTransform{count: 1, crypto: []cryptoTransform{s.protect(ts.kind, data)}}
				remaining := n
				if row.make != nil {
					row.make(s, ts.kind, &m, data, &remaining)
				}
				a := withTransform(remaining, m)
				if row.answer != nil {
					row.answer(&a)
				}
				sent = data
				return a
			})
			got := s.done(c)
			switch {
			case got.n != 0 || got.err == nil:
				t.Errorf("%s: %s: ReadAt: %d, %v, want an error", ts.name, row.name, got.n, got.err)
			case row.want != 0 && !isStatus(got.err, row.want):
				t.Errorf("%s: %s: ReadAt: %v, want %v", ts.name, row.name, got.err, row.want)
			}
			t.Check(!bytes.Equal(p, content) && !bytes.Equal(p, sent), "%s: %s: the user's buffer holds what was not verified", ts.name, row.name)
			s.call.Close()
		}
	}
}
