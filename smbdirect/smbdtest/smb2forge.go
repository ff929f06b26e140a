package smbdtest

import (
	"bytes"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// WRITEs with RDMA transforms that a server refuses, [MS-SMB2] 3.3.5.13.

// forged is one WRITE with a transform that is wrong.
type forged struct {
	name    string
	kind    uint16 // of the transform that is made; typeEncryption if 0
	channel smb2.Channel
	change  func(p *smb2Peer, m *rdmaTransform)
	memory  func(b []byte)                 // changes the payload after it was protected
	info    func(b []byte) []byte          // changes the channel information
	io      func(io *rdmaIO)               // changes the request
	want    []ntstatus.Status              // STATUS_INVALID_PARAMETER if empty
	unless  func(p *smb2Peer) (why string) // leaves the row out
}

// forge sends forged WRITEs, and checks after each that the file and the
// connection are as before.
func (p *smb2Peer) forge(rows []forged) {
	const n = 8192 // and never what is in the file
	content := octets(40, n)
	id := p.create(content)
	for _, row := range rows {
		if row.unless != nil {
			if why := row.unless(p); why != "" {
				p.t.LeaveOut("%s: %s", row.name, why)
				continue
			}
		}
		p.t.Logf("%s", row.name)
		kind, inner := row.kind, row.channel
		if kind == 0 {
			kind = typeEncryption
		}
		if inner == 0 {
			inner = smb2.ChannelRDMAV1
		}
		io, r := p.transformed(kind, inner, octets(41, n), func(m *rdmaTransform) {
			if row.change != nil {
				row.change(p, m)
			}
		})
		if row.memory != nil {
			row.memory(r.Bytes)
		}
		if row.info != nil {
			io.info = row.info(io.info)
		}
		if row.io != nil {
			row.io(&io)
		}
		want := row.want
		if len(want) == 0 {
			want = []ntstatus.Status{ntstatus.InvalidParameter}
		}
		a := p.write(id, io)
		p.expect(a, "WRITE with "+row.name, want...)
		if a.lost != nil {
			p.t.Fatalf("WRITE with %s: the connection is gone", row.name)
		}
		if a.invalidated && (inner != smb2.ChannelRDMAV1Invalidate || a.token != uint32(r.Token)) {
			p.t.Errorf("WRITE with %s: the answer invalidated token %#x", row.name, a.token)
		}
		p.expectAlive("a WRITE with " + row.name)
	}
	p.same("file", p.content(id, n), content)
}

func forgeCase(name string, microsoft bool, rows []string, doc string, o smb2Options, list ...forged) Case {
	c := Case{Name: "Smb2OverRdmaChannelTransform_" + name, Spec: "[MS-SMB2] 3.3.5.13", Rows: rows, Doc: doc}
	if microsoft {
		c.Microsoft = []string{c.Name}
	}
	return smb2Case(c, o, func(p *smb2Peer) { p.forge(list) })
}

// oneMore repeats a crypto transform, for lists of two.
func oneMore(kind uint16) func(p *smb2Peer, m *rdmaTransform) {
	return func(p *smb2Peer, m *rdmaTransform) {
		c := m.crypto[0]
		if c.kind != kind {
			c = cryptoTransform{kind: kind, signature: random(16), nonce: random(p.payloadNonce(kind))}
		}
		m.crypto, m.count = append(m.crypto, c), 2
	}
}

func count(n uint16) func(p *smb2Peer, m *rdmaTransform) {
	return func(_ *smb2Peer, m *rdmaTransform) { m.count = n }
}

func nonceBy(d int) func(p *smb2Peer, m *rdmaTransform) {
	return func(_ *smb2Peer, m *rdmaTransform) {
		c := &m.crypto[0]
		c.nonce = append(c.nonce, 0)[:len(c.nonce)+d]
	}
}

func kindIs(k uint16) func(p *smb2Peer, m *rdmaTransform) {
	return func(_ *smb2Peer, m *rdmaTransform) { m.crypto[0].kind = k }
}

var (
	tagMismatch  = []ntstatus.Status{ntstatus.AuthTagMismatch}
	badSignature = []ntstatus.Status{ntstatus.InvalidSignature}
	// badData is what becomes of a payload that is not what its tag is of: the size
	// is judged by STATUS_BAD_DATA, and a failure of the algorithm by the tag.
	badData = []ntstatus.Status{ntstatus.BadData, ntstatus.AuthTagMismatch}
)

// layout are structures that are no list of one transform and its descriptors.
func layout(kind uint16) []forged {
	move := func(d int) func(b []byte) []byte {
		return func(b []byte) []byte { // the descriptors, with the offset that says so
			at := int(b[0]) | int(b[1])<<8
			put16(0, uint16(at+d))(b)
			return append(append(bytes.Clone(b[:at]), make([]byte, d)...), b[at:]...)
		}
	}
	field := func(off int, v uint16) func(b []byte) []byte {
		return func(b []byte) []byte { put16(off, v)(b); return b }
	}
	rows := []forged{
		{name: "15 octets of channel information", info: func(b []byte) []byte { return b[:15] }},
		{name: "a transform alone", info: func(b []byte) []byte { return b[:16] }},
		{name: "channel information that ends in the crypto transform", info: func(b []byte) []byte { return b[:23] }},
		{name: "channel information that ends in the signature", info: func(b []byte) []byte { return b[:30] }},
		{name: "no descriptor", info: func(b []byte) []byte { return b[:len(b)-16] }},
		{name: "half a descriptor", info: func(b []byte) []byte { return b[:len(b)-8] }},
		{name: "RdmaDescriptorOffset 0", info: field(0, 0)},
		{name: "RdmaDescriptorOffset 16, in the crypto transform", info: field(0, 16)},
		{name: "RdmaDescriptorOffset 8 more, descriptors at the second aligned offset", info: move(8)},
		{name: "RdmaDescriptorOffset 4 more", info: move(4)},
		{name: "RdmaDescriptorOffset 0xFFF8", info: field(0, 0xFFF8)},
		{name: "RdmaDescriptorLength 0", info: field(2, 0)},
		{name: "RdmaDescriptorLength 15", info: field(2, 15)},
		{name: "RdmaDescriptorLength 32, beyond the message", info: field(2, 32)},
		{name: "RdmaDescriptorLength 0xFFF0", info: field(2, 0xFFF0)},
		{name: "TransformCount 0xFFFF", change: count(0xFFFF)},
		{name: "TransformCount 2 of one", change: count(2)},
		{name: "transform type 0", change: kindIs(0)},
		{name: "transform type 3", change: kindIs(3)},
		{name: "transform type 0x102", change: kindIs(0x102)},
		{name: "inner Channel 0", change: func(_ *smb2Peer, m *rdmaTransform) { m.channel = 0 }},
		{name: "inner Channel 3", change: func(_ *smb2Peer, m *rdmaTransform) { m.channel = 3 }},
		{name: "inner Channel 0x10001", change: func(_ *smb2Peer, m *rdmaTransform) { m.channel = 0x10001 }},
		{name: "NonceLength 0xFFFF, beyond the message", info: field(20, 0xFFFF),
			want: []ntstatus.Status{ntstatus.InvalidParameter, ntstatus.AuthTagMismatch, ntstatus.InvalidSignature}},
		{name: "a first descriptor of length 0", info: func(b []byte) []byte { put32(len(b)-4, 0)(b); return b }},
		{name: "a descriptor that is an octet short", info: func(b []byte) []byte { put32(len(b)-4, 8191)(b); return b }},
		{name: "Length 16", io: func(io *rdmaIO) { io.change = put32(writeLengthAt, 16) }},
		{name: "DataOffset 112", io: func(io *rdmaIO) { io.change = put16(writeDataOffsetAt, 112) }},
		{name: "RemainingBytes 0", io: func(io *rdmaIO) { io.change = put32(writeRemaining, 0) }},
		{name: "RemainingBytes 0xFFFFFFFF", io: func(io *rdmaIO) { io.change = put32(writeRemaining, 0xFFFFFFFF) }},
		{name: "no WriteChannelInfoOffset", io: func(io *rdmaIO) { io.change = put16(writeInfoOffset, 0) }},
		{name: "no WriteChannelInfoLength", io: func(io *rdmaIO) { io.change = put16(writeInfoLength, 0) }},
		{name: "nothing wrong, and a first descriptor of length 0 on Channel 2", channel: smb2.ChannelRDMAV1Invalidate,
			info: func(b []byte) []byte { put32(len(b)-4, 0)(b); return b }},
	}
	for i := range rows {
		rows[i].kind = kind
	}
	return rows
}

var _ = register(forgedTransforms()...)

func forgedTransforms() (cases []Case) {
	const enc, sign = "Encryption_WriteLargeFile_", "Signing_WriteLargeFile_"
	sm26, sm27 := []string{"SM-26"}, []string{"SM-27"}
	ccm := func(ids ...smb2.RDMATransformID) smb2Options { return encrypting(smb2.CipherAES128CCM, ids...) }
	gcm := func(ids ...smb2.RDMATransformID) smb2Options { return encrypting(smb2.CipherAES128GCM, ids...) }
	gmac := func(ids ...smb2.RDMATransformID) smb2Options { return signing(smb2.SigningAESGMAC, ids...) }
	encryption, signingID := smb2.RDMATransformEncryption, smb2.RDMATransformSigning
	cases = append(cases,
		forgeCase(enc+"NoTransformIds_Fails", true, sm26, "Channel 3 on an encrypted session without negotiated transforms.", ccm(),
			forged{name: "an encrypted payload"}),
		forgeCase(enc+"ZeroTransformCount_Fails", true, sm26, "TransformCount 0.", ccm(encryption),
			forged{name: "TransformCount 0", change: count(0)}),
		forgeCase(enc+"MultipleEncryptionStructure_Fails", true, sm26, "Two crypto transforms of type encryption.", ccm(encryption),
			forged{name: "two encryptions", change: oneMore(typeEncryption)}),
		forgeCase(enc+"EncryptionAndSigningStructure_Fails", true, sm26, "A crypto transform of each type.", ccm(allTransforms...),
			forged{name: "encryption and signing", change: oneMore(typeSigning)},
			forged{name: "signing and encryption", change: func(p *smb2Peer, m *rdmaTransform) {
				oneMore(typeSigning)(p, m)
				m.crypto[0], m.crypto[1] = m.crypto[1], m.crypto[0]
			}}),
		forgeCase(enc+"BufferNotAligned_Fails", true, sm26, "Descriptors that begin where the crypto transform ends, which is not at a multiple of 8.", gcm(encryption),
			forged{name: "no padding", change: func(_ *smb2Peer, m *rdmaTransform) { m.noPadding = true }}),
		forgeCase(enc+"IncreaseSignatureLength_Fails", true, sm27, "SignatureLength above 16 is STATUS_AUTH_TAG_MISMATCH.", gcm(encryption),
			forged{name: "SignatureLength 17", want: tagMismatch, change: func(_ *smb2Peer, m *rdmaTransform) {
				m.crypto[0].signature = append(m.crypto[0].signature, 0)
			}},
			forged{name: "SignatureLength 32", want: tagMismatch, change: func(_ *smb2Peer, m *rdmaTransform) {
				m.crypto[0].signature = append(m.crypto[0].signature, make([]byte, 16)...)
			}}),
	)
	for _, c := range ciphers {
		o := encrypting(c.id, encryption)
		cases = append(cases,
			forgeCase(enc+"IncreaseNonceLength_"+c.name+"_Fails", true, sm27, "A nonce that is an octet too long is STATUS_AUTH_TAG_MISMATCH.", o,
				forged{name: "a long nonce", want: tagMismatch, change: nonceBy(1)}),
			forgeCase(enc+"DecreaseNonceLength_"+c.name+"_Fails", true, sm27, "A nonce that is an octet too short is STATUS_AUTH_TAG_MISMATCH.", o,
				forged{name: "a short nonce", want: tagMismatch, change: nonceBy(-1)}),
			forgeCase(enc+"Tampered_"+c.name+"_Fails", false, sm27, "A payload, tag or nonce that was changed under way, or a size that is not the payload's, is refused and not written.", o,
				forged{name: "its first octet changed", want: badData, memory: func(b []byte) { b[0] ^= 1 }},
				forged{name: "its last octet changed", want: badData, memory: func(b []byte) { b[len(b)-1] ^= 0x80 }},
				forged{name: "its tag changed", want: badData, change: func(_ *smb2Peer, m *rdmaTransform) { m.crypto[0].signature[15] ^= 1 }},
				forged{name: "another nonce", want: badData, change: func(_ *smb2Peer, m *rdmaTransform) { m.crypto[0].nonce[0] ^= 1 }},
				forged{name: "no tag", want: append(badData, ntstatus.InvalidParameter), change: func(_ *smb2Peer, m *rdmaTransform) { m.crypto[0].signature = nil }},
				forged{name: "a tag of 15 octets", want: append(badData, ntstatus.InvalidParameter), change: func(_ *smb2Peer, m *rdmaTransform) { m.crypto[0].signature = m.crypto[0].signature[:15] }},
				forged{name: "no nonce", want: tagMismatch, change: func(_ *smb2Peer, m *rdmaTransform) { m.crypto[0].nonce = nil }},
				forged{name: "RemainingBytes an octet less than was encrypted", want: badData, io: func(io *rdmaIO) { io.change = put32(writeRemaining, 8191) }},
				forged{name: "a payload in the clear", want: badData, memory: func(b []byte) { copy(b, octets(41, len(b))) }},
				forged{name: "its last octet changed, on Channel 2", want: badData, channel: smb2.ChannelRDMAV1Invalidate, memory: func(b []byte) { b[len(b)-1] ^= 0x80 }},
			))
	}
	requiresSigning := func(p *smb2Peer) string {
		if p.neg.SecurityMode&smb2.NegotiateSigningRequired != 0 {
			return "the server refuses requests that are neither signed nor encrypted"
		}
		return ""
	}
	plain := func(io *rdmaIO) { io.protect = inClear }
	bySignature := func(io *rdmaIO) { io.protect = signed }
	plainRefused := []ntstatus.Status{ntstatus.InvalidParameter, ntstatus.AccessDenied} // or for want of encryption
	cases = append(cases,
		forgeCase("Encryption_WriteNotEncrypted_Fails", false, sm26, "A transform of type encryption in a request that is signed, or plain.", smb2Options{
			ciphers: []smb2.Cipher{smb2.CipherAES128GCM}, transforms: allTransforms, sign: true},
			forged{name: "encryption in a signed request", io: bySignature},
			forged{name: "encryption in a plain request", io: plain, unless: requiresSigning}),
		forgeCase("Encryption_WriteLayout_Fails", false, []string{"SM-26", "SM-24", "SM-17"}, "Structures that are not one transform, one crypto transform and descriptors behind it, on an encrypted session.", gcm(allTransforms...),
			layout(typeEncryption)...),
		forgeCase("Encryption_WriteEncryptedPlainDescriptors_Fails", false, sm26, "Channel 3 with plain descriptors and no transform.", gcm(encryption),
			forged{name: "descriptors for a transform", io: func(io *rdmaIO) { io.info = nil }}),
		forgeCase(sign+"FlagsSignedNotSet_Fails", true, sm26, "A transform of type signing in a request that is encrypted and has no signature, or plain.", smb2Options{
			ciphers: []smb2.Cipher{smb2.CipherAES128CCM}, transforms: []smb2.RDMATransformID{signingID}, seal: true},
			forged{name: "signing in an encrypted request", kind: typeSigning},
			forged{name: "signing in a plain request", kind: typeSigning, io: plain, unless: requiresSigning, want: plainRefused}),
		forgeCase(sign+"SigningStructure_EncryptionId_Fails", true, sm26, "A transform of type signing where encryption alone was negotiated.", smb2Options{
			ciphers: []smb2.Cipher{smb2.CipherAES128CCM}, transforms: []smb2.RDMATransformID{encryption}, seal: true},
			forged{name: "signing that was not negotiated", kind: typeSigning},
			forged{name: "signing that was not negotiated, in a signed request", kind: typeSigning, io: bySignature, want: plainRefused}),
		forgeCase("Encryption_WriteLargeFile_EncryptionStructure_SigningId_Fails", false, sm26, "A transform of type encryption where signing alone was negotiated.", ccm(signingID),
			forged{name: "encryption that was not negotiated"}),
		forgeCase(sign+"NoTransformIds_Fails", true, sm26, "Channel 3 on a session that signs, without negotiated transforms.", gmac(),
			forged{name: "a signed payload", kind: typeSigning}),
		forgeCase(sign+"ZeroTransformCount_Fails", true, sm26, "TransformCount 0.", gmac(signingID),
			forged{name: "TransformCount 0", kind: typeSigning, change: count(0)}),
		forgeCase("Signing_WriteMultipleStructures_Fails", false, sm26, "Two crypto transforms of type signing, and one of each.", smb2Options{
			ciphers: []smb2.Cipher{smb2.CipherAES128GCM}, signing: []smb2.SigningAlgorithm{smb2.SigningAESGMAC}, transforms: allTransforms, sign: true},
			forged{name: "two signatures", kind: typeSigning, change: oneMore(typeSigning)},
			forged{name: "signing and encryption", kind: typeSigning, change: oneMore(typeEncryption)}),
		forgeCase("Signing_WriteLayout_Fails", false, []string{"SM-26", "SM-24", "SM-17"}, "Structures that are not one transform, one crypto transform and descriptors behind it, on a session that signs.", gmac(signingID),
			layout(typeSigning)...),
		forgeCase(sign+"InvalidSignature_Fails", true, sm27, "A wrong signature is STATUS_INVALID_SIGNATURE, and nothing is written.", signing(smb2.SigningAESCMAC, signingID),
			wrongSignatures()...),
		forgeCase("Signing_WriteInvalidSignature_AES_GMAC_Fails", false, sm27, "The same with AES-GMAC.", gmac(signingID),
			append(wrongSignatures(),
				forged{name: "another nonce", kind: typeSigning, want: badSignature, change: func(_ *smb2Peer, m *rdmaTransform) { m.crypto[0].nonce[0] ^= 1 }},
				forged{name: "a nonce of 11 octets", kind: typeSigning, want: append(badSignature, ntstatus.InvalidParameter), change: nonceBy(-1)},
				forged{name: "no nonce", kind: typeSigning, want: append(badSignature, ntstatus.InvalidParameter), change: func(_ *smb2Peer, m *rdmaTransform) { m.crypto[0].nonce = nil }},
			)...),
		smb2Case(Case{
			Name: "Smb2OverRdmaChannelTransform_Read_Channel3_Fails", Spec: "[MS-SMB2] 3.3.5.12", Rows: []string{"SM-03", "SM-09"},
			Doc: "Channel 3 in a READ is STATUS_INVALID_PARAMETER, also where transforms were negotiated.",
		}, gmac(signingID), func(p *smb2Peer) {
			p.refuse("READ", []refused{{name: "Channel 3", change: put32(readChannelAt, 3)}})
		}),
	)
	return cases
}

// wrongSignatures are signatures that are not those of the payload.
func wrongSignatures() []forged {
	return []forged{
		{name: "two octets of the signature exchanged", kind: typeSigning, want: badSignature, change: func(_ *smb2Peer, m *rdmaTransform) {
			s := m.crypto[0].signature
			s[2], s[3] = s[3], s[2]^1 // also where the two are the same
		}},
		{name: "its last octet changed", kind: typeSigning, want: badSignature, memory: func(b []byte) { b[len(b)-1] ^= 1 }},
		{name: "its last octet changed, on Channel 2", kind: typeSigning, channel: smb2.ChannelRDMAV1Invalidate, want: badSignature, memory: func(b []byte) { b[len(b)-1] ^= 1 }},
		{name: "RemainingBytes an octet less than was signed", kind: typeSigning, want: badSignature, io: func(io *rdmaIO) { io.change = put32(writeRemaining, 8191) }},
		{name: "a signature of 17 octets", kind: typeSigning, want: append(badSignature, ntstatus.InvalidParameter), change: func(_ *smb2Peer, m *rdmaTransform) {
			m.crypto[0].signature = append(m.crypto[0].signature, 0)
		}},
		{name: "a signature of 8 octets", kind: typeSigning, want: append(badSignature, ntstatus.InvalidParameter), change: func(_ *smb2Peer, m *rdmaTransform) {
			m.crypto[0].signature = m.crypto[0].signature[:8]
		}},
		{name: "no signature", kind: typeSigning, want: append(badSignature, ntstatus.InvalidParameter), change: func(_ *smb2Peer, m *rdmaTransform) {
			m.crypto[0].signature = nil
		}},
	}
}
