package smbdtest

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// RDMA payloads that are encrypted or signed, [MS-SMB2] 2.2.43, 3.3.5.12 and
// 3.3.5.13: what works. smb2forge.go has what is refused.

// ciphers and macs are those of 3.1.1, by the names that Microsoft's cases have
// for them.
var (
	ciphers = []struct {
		name string
		id   smb2.Cipher
	}{
		{"AES128CCM", smb2.CipherAES128CCM},
		{"AES128GCM", smb2.CipherAES128GCM},
		{"AES256CCM", smb2.CipherAES256CCM},
		{"AES256GCM", smb2.CipherAES256GCM},
	}
	macs = []struct {
		name string
		id   smb2.SigningAlgorithm
	}{
		{"AES_GMAC", smb2.SigningAESGMAC},
		{"AES_CMAC", smb2.SigningAESCMAC},
	}
)

// encrypting and signing are the options of connections whose sessions encrypt or
// sign, with these transforms.
func encrypting(c smb2.Cipher, ids ...smb2.RDMATransformID) smb2Options {
	return smb2Options{ciphers: []smb2.Cipher{c}, transforms: ids, seal: true}
}

func signing(a smb2.SigningAlgorithm, ids ...smb2.RDMATransformID) smb2Options {
	return smb2Options{signing: []smb2.SigningAlgorithm{a}, transforms: ids, sign: true}
}

// payloadNonce is how long the nonce of a payload is here, in octets.
func (p *smb2Peer) payloadNonce(kind uint16) int {
	switch {
	case kind == typeEncryption:
		return nonceSize(p.cipher)
	case p.alg == smbcrypto.AESGMAC:
		return 12
	}
	return 0
}

// protect makes the payload of a WRITE in place and its crypto transform.
func (p *smb2Peer) protect(kind uint16, data []byte) cryptoTransform {
	c := cryptoTransform{kind: kind, nonce: random(p.payloadNonce(kind))}
	if kind == typeEncryption {
		c.signature = sealPayload(p.cipher, p.keys.ClientToServer, c.nonce, data)
	} else {
		c.signature = signPayload(p.alg, p.keys.Signing, c.nonce, data)
	}
	return c
}

// transformed makes a WRITE of content by RDMA with a transform of this type, and
// returns the memory as well. The case may change the transform.
func (p *smb2Peer) transformed(kind uint16, inner smb2.Channel, content []byte, change func(m *rdmaTransform)) (rdmaIO, *Region) {
	r := p.source(content)
	io := rdmaIO{channel: smb2.ChannelRDMATransform, n: len(content), at: descriptors(r)}
	m := rdmaTransform{channel: uint32(inner), count: 1, descriptors: io.channelInfo(),
		crypto: []cryptoTransform{p.protect(kind, r.Bytes)}}
	if change != nil {
		change(&m)
	}
	if inner == smb2.ChannelRDMAV1Invalidate && !r.fast {
		p.t.Skipf("our adapter has no registration of %d octets that another end can invalidate", len(content))
	}
	io.info = m.append(nil)
	return io, r
}

// checkTransformRead checks the response to a READ of n octets that came with a
// transform of this type into r, and turns the memory into the plaintext. [MS-SMB2]
// 2.2.20, 3.3.5.12.
func (p *smb2Peer) checkTransformRead(a *smb2Answer, kind uint16, r *Region, want []byte) bool {
	if !p.expect(a, "READ by RDMA", ntstatus.Success) {
		return false
	}
	le := binary.LittleEndian
	nonce := p.payloadNonce(kind)
	size := (16 + 8 + 16 + nonce + 7) &^ 7
	body := a.msg[smb2.HeaderSize:]
	if len(body) < 16+size {
		p.t.Errorf("READ response: %d octets behind the header, want %d", len(body), 16+size)
		return false
	}
	b := body[16:]
	ok := true
	for _, f := range []struct {
		name      string
		got, want int
	}{
		{"StructureSize", int(le.Uint16(body)), 17},
		{"DataOffset", int(body[2]), smb2.HeaderSize + 16},
		{"DataLength", int(le.Uint32(body[4:])), size},
		{"DataRemaining", int(le.Uint32(body[8:])), len(want)},
		{"Flags", int(le.Uint32(body[12:])), 1},
		{"RdmaDescriptorOffset", int(le.Uint16(b)), 0},
		{"RdmaDescriptorLength", int(le.Uint16(b[2:])), 0},
		{"Channel of the transform", int(le.Uint32(b[4:])), 0},
		{"TransformCount", int(le.Uint16(b[8:])), 1},
		{"Reserved1", int(le.Uint16(b[10:])), 0},
		{"Reserved2", int(le.Uint32(b[12:])), 0},
		{"TransformType", int(le.Uint16(b[16:])), int(kind)},
		{"SignatureLength", int(le.Uint16(b[18:])), 16},
		{"NonceLength", int(le.Uint16(b[20:])), nonce},
		{"Reserved of the crypto transform", int(le.Uint16(b[22:])), 0},
	} {
		if f.got != f.want {
			p.t.Errorf("READ response: %s is %d, want %d", f.name, f.got, f.want)
			ok = false
		}
	}
	if !ok {
		return false
	}
	for _, v := range b[40+nonce : size] {
		if v != 0 {
			p.t.Errorf("READ response: padding % x, want zeros", b[40+nonce:size])
			break
		}
	}
	tag, iv, data := b[24:40], b[40:40+nonce], r.Bytes[:len(want)]
	p.freshNonce(kind, iv, a.hdr.MessageID)
	if kind == typeSigning {
		p.same("memory", data, want)
		p.same("signature", tag, signPayload(p.alg, p.keys.Signing, iv, data))
		return true
	}
	if !a.sealed {
		p.t.Errorf("an encrypted payload, and the response is in the clear")
	}
	if string(data) == string(want) {
		p.t.Errorf("the payload crossed the wire in the clear")
	}
	if err := openPayload(p.cipher, p.keys.ServerToClient, iv, tag, data); err != nil {
		p.t.Errorf("decrypting the payload: %v", err)
	}
	p.same("decrypted memory", data, want)
	return true
}

// freshNonce checks that the server used a nonce for the first time, in payloads
// and in messages under the same key, 2.2.43.1. Signed messages by AES-GMAC have a
// nonce that 3.1.4.1 makes of their MessageId.
func (p *smb2Peer) freshNonce(kind uint16, nonce []byte, id uint64) {
	if len(nonce) == 0 {
		return
	}
	if kind == typeSigning {
		message := binary.LittleEndian.AppendUint64(nil, id)
		for _, end := range []byte{0, 1} {
			if string(nonce) == string(append(message[:8:8], end, 0, 0, 0)) {
				p.t.Errorf("the payload has the nonce % x of a message", nonce)
			}
		}
	}
	key := fmt.Sprintf("%d %x", kind, nonce)
	if p.nonces[key] {
		p.t.Errorf("the nonce % x was used before", nonce)
	}
	p.nonces[key] = true
}

// readTransformed reads the file in count READs and checks each.
func (p *smb2Peer) readTransformed(kind uint16, count int, channel smb2.Channel) {
	n := p.largest(channel) / count
	want := octets(30, count*n)
	id := p.create(want)
	for i := range count {
		r := p.sink(n)
		a := p.read(id, rdmaIO{channel: channel, off: uint64(i * n), n: n, at: descriptors(r)})
		if !p.checkTransformRead(a, kind, r, want[i*n:][:n]) {
			return
		}
		if channel == smb2.ChannelRDMAV1Invalidate {
			p.checkDead(a, r)
		} else {
			p.checkAlive(a, r)
			p.deregister(r)
		}
	}
}

// writeTransformed writes a file in count WRITEs and checks it.
func (p *smb2Peer) writeTransformed(kind uint16, count int, inner smb2.Channel) {
	n := p.largest(inner) / count
	want := octets(31, count*n)
	id := p.create(nil)
	for i := range count {
		io, r := p.transformed(kind, inner, want[i*n:][:n], nil)
		io.off = uint64(i * n)
		a := p.write(id, io)
		if !p.checkWrite(a, n) {
			return
		}
		if inner == smb2.ChannelRDMAV1Invalidate {
			p.checkDead(a, r)
		} else {
			p.checkAlive(a, r)
			p.deregister(r)
		}
	}
	p.same("file", p.content(id, len(want)), want)
}

var _ = register(goodTransforms()...)

func goodTransforms() (cases []Case) {
	const read, write = "[MS-SMB2] 3.3.5.12", "[MS-SMB2] 3.2.4.7, 3.3.5.13"
	add := func(name, spec string, rows []string, doc string, o smb2Options, run func(p *smb2Peer)) {
		c := Case{Name: name, Spec: spec, Rows: rows, Doc: doc}
		if !strings.Contains(name, "_Own_") {
			c.Microsoft = []string{name}
		} else {
			c.Name = strings.Replace(name, "_Own_", "_", 1)
		}
		cases = append(cases, smb2Case(c, o, run))
	}
	const encryption, sign = "Smb2OverRdmaChannelTransform_Encryption_", "Smb2OverRdmaChannelTransform_Signing_"
	first := encrypting(smb2.CipherAES128CCM, smb2.RDMATransformEncryption)
	for _, c := range ciphers {
		o := encrypting(c.id, smb2.RDMATransformEncryption)
		bvt := ""
		if c.id == smb2.CipherAES128CCM {
			bvt = "BVT_"
		}
		add(bvt+encryption+"ReadLargeFile_"+c.name, read, []string{"SM-24", "SM-29"},
			"A READ of the most that one may move is encrypted before the RDMA Write; the response has the transform.",
			o, func(p *smb2Peer) { p.readTransformed(typeEncryption, 1, smb2.ChannelRDMAV1) })
		add(bvt+encryption+"WriteLargeFile_"+c.name, write, []string{"SM-24", "SM-25"},
			"A WRITE of the most that one may move is decrypted behind the RDMA Read.",
			o, func(p *smb2Peer) { p.writeTransformed(typeEncryption, 1, smb2.ChannelRDMAV1) })
	}
	add(encryption+"ReadMultipleOperation", read, []string{"SM-29"},
		"64 READs, no nonce twice.", first, func(p *smb2Peer) { p.readTransformed(typeEncryption, 64, smb2.ChannelRDMAV1) })
	add(encryption+"WriteMultipleOperation", write, []string{"SM-24", "SM-25"},
		"64 WRITEs.", first, func(p *smb2Peer) { p.writeTransformed(typeEncryption, 64, smb2.ChannelRDMAV1) })
	for _, a := range macs {
		o := signing(a.id, smb2.RDMATransformSigning)
		add(sign+"ReadLargeFile_"+a.name, read, []string{"SM-24", "SM-29"},
			"A READ of the most that one may move is signed; the response has the transform.",
			o, func(p *smb2Peer) { p.readTransformed(typeSigning, 1, smb2.ChannelRDMAV1) })
		add(sign+"WriteLargeFile_"+a.name, write, []string{"SM-24", "SM-25", "SM-12"},
			"A WRITE of the most that one may move is verified behind the RDMA Read, and the inner Channel 2 invalidates the descriptor's token.",
			o, func(p *smb2Peer) { p.writeTransformed(typeSigning, 1, smb2.ChannelRDMAV1Invalidate) })
		add(sign+"Own_ReadMultipleOperation_"+a.name, read, []string{"SM-29", "SM-12"},
			"64 READs on Channel 2, no nonce twice.",
			o, func(p *smb2Peer) { p.readTransformed(typeSigning, 64, smb2.ChannelRDMAV1Invalidate) })
	}
	both := encrypting(smb2.CipherAES128GCM, allTransforms...)
	add(encryption+"Own_BothTransforms", read, []string{"SM-29", "SM-25"},
		"Where encryption and signing were negotiated, an encrypted session has its payloads encrypted, both ways, on Channel 2.",
		both, func(p *smb2Peer) {
			p.readTransformed(typeEncryption, 4, smb2.ChannelRDMAV1Invalidate)
			p.writeTransformed(typeEncryption, 4, smb2.ChannelRDMAV1Invalidate)
		})
	add(sign+"Own_BothTransforms", read, []string{"SM-29", "SM-25"},
		"Where encryption and signing were negotiated, a session that signs has its payloads signed, both ways.",
		signing(smb2.SigningAESGMAC, allTransforms...), func(p *smb2Peer) {
			if p.opt.seal {
				p.t.Skipf("the server demands encryption")
			}
			p.readTransformed(typeSigning, 4, smb2.ChannelRDMAV1)
			p.writeTransformed(typeSigning, 4, smb2.ChannelRDMAV1)
		})
	for _, o := range []struct {
		name string
		kind uint16
		opt  smb2Options
	}{{encryption, typeEncryption, both}, {sign, typeSigning, signing(smb2.SigningAESGMAC, smb2.RDMATransformSigning)}} {
		add(o.name+"Own_BufferDescriptorList", write, []string{"SM-25", "SM-29", "SD-103"},
			"Payloads with a transform in many uneven buffers, and READs that meet the end of the file.",
			o.opt, func(p *smb2Peer) { p.unevenTransformed(o.kind) })
	}
	return cases
}

// unevenTransformed moves a payload in pieces and over the end of the file.
func (p *smb2Peer) unevenTransformed(kind uint16) {
	const n, size = 40_001, 10_003
	want := octets(32, n)
	id := p.create(nil)
	data := append([]byte(nil), want...)
	m := rdmaTransform{channel: uint32(smb2.ChannelRDMAV1Invalidate), count: 1, crypto: []cryptoTransform{p.protect(kind, data)}}
	var rs []*Region
	for part := range slices.Chunk(data, 9973) {
		rs = append(rs, p.source(part))
	}
	io := rdmaIO{channel: smb2.ChannelRDMATransform, n: n, at: descriptors(rs...)}
	m.descriptors = io.channelInfo()
	io.info = m.append(nil)
	a := p.write(id, io)
	if p.checkWrite(a, n) {
		p.checkDead(a, rs[0])
		p.oneDied(rs)
	}
	p.same("file", p.content(id, n), want)

	id = p.create(want[:size])
	out := p.sink(n)
	p.checkTransformRead(p.read(id, rdmaIO{channel: smb2.ChannelRDMAV1, off: 3, n: n, at: descriptors(out)}), kind, out, want[3:size])
	p.same("memory behind what was read", out.Bytes[size-3:], make([]byte, n-size+3))
	out = p.sink(n)
	p.expect(p.read(id, rdmaIO{channel: smb2.ChannelRDMAV1, off: size, n: n, at: descriptors(out)}), "READ at the end", ntstatus.EndOfFile)
	p.untouched(out)
}
