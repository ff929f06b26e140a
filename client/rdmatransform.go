package client

import (
	"fmt"
	"math/bits"
	"slices"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// RDMATransform is an RDMATransformId of [MS-SMB2] 2.2.3.1.6: what can be done to
// the bytes of files while RDMA moves them.
type RDMATransform uint16

// The RDMA transforms.
const (
	RDMAEncryption RDMATransform = 0x0001
	RDMASigning    RDMATransform = 0x0002
)

// String gives "encryption" or "signing".
func (t RDMATransform) String() string {
	switch t {
	case RDMAEncryption:
		return "encryption"
	case RDMASigning:
		return "signing"
	}
	return fmt.Sprintf("RDMA transform 0x%04X", uint16(t))
}

// DataPath is how the bytes of READ and WRITE travel if they are long enough for
// RDMA.
type DataPath uint8

const (
	// PathInline: in messages, which are signed and encrypted as the session is.
	PathInline DataPath = iota
	// PathRDMA: by RDMA as they are.
	PathRDMA
	// PathRDMASigned: by RDMA, with a signature in the message.
	PathRDMASigned
	// PathRDMAEncrypted: by RDMA, encrypted and with a tag in the message.
	PathRDMAEncrypted
)

// String gives "inline", "RDMA", "signed RDMA" or "encrypted RDMA".
func (p DataPath) String() string {
	switch p {
	case PathInline:
		return "inline"
	case PathRDMA:
		return "RDMA"
	case PathRDMASigned:
		return "signed RDMA"
	case PathRDMAEncrypted:
		return "encrypted RDMA"
	}
	return fmt.Sprintf("DataPath(%d)", uint8(p))
}

// Cost says in words for the user what the protection of RDMA data costs, "" where
// there is none.
func (p DataPath) Cost() string {
	switch p {
	case PathRDMASigned:
		return "RDMA data is signed: each byte passes through the processor once at both ends, " +
			"and the server cannot send files from its page cache"
	case PathRDMAEncrypted:
		return "RDMA data is encrypted: each byte passes through the processor once at both ends, " +
			"and the server cannot send files from its page cache"
	}
	return ""
}

// choosePath is the rule of [MS-SMB2] 3.2.4.6 and 3.2.4.7 for a connection that has
// RDMA: data of requests that are encrypted or signed goes by RDMA only with the
// transform that does the same to it, and inline without. ids are those that were
// negotiated, which dialects before 3.1.1 cannot do. Encryption is not replaced by a
// signature, as the bytes would be seen.
func choosePath(ids []RDMATransform, sign, encrypt bool) DataPath {
	switch {
	case encrypt && slices.Contains(ids, RDMAEncryption):
		return PathRDMAEncrypted
	case encrypt:
		return PathInline
	case sign && slices.Contains(ids, RDMASigning):
		return PathRDMASigned
	case sign:
		return PathInline
	}
	return PathRDMA
}

// takeTransforms checks the server's SMB2_RDMA_TRANSFORM_CAPABILITIES, [MS-SMB2]
// 3.2.5.2.
func (n *negotiated) takeTransforms(c *conn, cfg *Config, cs []smb2.NegotiateContext) error {
	data, count := smb2.FindNegotiateContext(cs, smb2.ContextRDMATransformCapabilities)
	if count == 0 {
		return nil
	}
	if count > 1 {
		return c.protocolError("3.2.5.2", "%d RDMA transform contexts", count)
	}
	m, err := smb2.ParseRDMATransformCapabilities(data)
	if err != nil {
		return c.badBody(smb2.CommandNegotiate, err)
	}
	ids := m.RDMATransformIDs
	switch {
	case len(cfg.RDMATransforms) == 0:
		return c.protocolError("3.2.5.2", "RDMA transforms %v, and none were offered", ids)
	case len(ids) == 1 && ids[0] == smb2.RDMATransformNone:
		return nil
	case len(ids) == 0 || len(ids) > len(cfg.RDMATransforms):
		return c.protocolError("3.2.5.2", "%d RDMA transforms for the %d that were offered", len(ids), len(cfg.RDMATransforms))
	}
	for _, id := range ids {
		if !slices.Contains(cfg.RDMATransforms, RDMATransform(id)) {
			return c.protocolError("3.2.5.2", "RDMA transform 0x%04X was not offered", uint16(id))
		}
		n.transforms = append(n.transforms, RDMATransform(id))
	}
	return nil
}

// scratch is memory that RDMA moves encrypted bytes to and from. It never holds
// plain ones: they are encrypted on the way into it and decrypted on the way out.
type scratch struct {
	b     []byte // of its class's length, with room for the tag
	class int
}

// scratchPools has a pool for each power of two.
var scratchPools [32]sync.Pool

// getScratch leases scratch memory for n bytes, at least 1.
func getScratch(n int) *scratch {
	class := bits.Len(uint(n - 1))
	if s, _ := scratchPools[class].Get().(*scratch); s != nil {
		return s
	}
	size := 1 << class
	return &scratch{b: make([]byte, size, size+smbcrypto.PayloadRoom), class: class}
}

func (s *scratch) put() { scratchPools[s.class].Put(s) }

// memory is what the server may reach for a chunk: the caller's own bytes, or where
// they are encrypted.
func (c *chunk) memory() []byte {
	if c.scratch != nil {
		return c.scratch.b[:len(c.p)]
	}
	return c.p
}

// dropScratch gives scratch memory back that the server cannot reach any more.
func (c *chunk) dropScratch() {
	if c.scratch != nil {
		c.scratch.put()
		c.scratch = nil
	}
}

// protectWrite signs or encrypts the bytes of a WRITE and turns its channel
// information, descriptors, into an SMB2_RDMA_TRANSFORM: [MS-SMB2] 3.2.4.7. A
// signature is of the caller's bytes where they lie; encryption fills the chunk's
// scratch memory.
func (c *chunk) protectWrite(channel smb2.Channel, info []byte) ([]byte, error) {
	sec := c.c.sec.Load()
	m := smb2.RDMATransform{Channel: channel, Descriptors: info}
	var tag smbcrypto.PayloadTag
	switch c.path {
	case PathRDMASigned:
		m.Crypto.TransformType = smb2.RDMATransformTypeSigning
		tag = sec.signer.SignPayload(c.p)
	case PathRDMAEncrypted:
		m.Crypto.TransformType = smb2.RDMATransformTypeEncryption
		var err error
		if tag, err = sec.sealer.SealPayload(c.memory(), c.p); err != nil {
			return info, err
		}
	}
	m.Crypto.Signature, m.Crypto.Nonce = tag.Signature[:], tag.Nonce[:tag.NonceSize]
	n := len(info)
	out, err := m.AppendBinary(info)
	if err != nil {
		return info, err
	}
	return append(out[:0], out[n:]...), nil
}

// placed takes a READ's data that the server has placed, [MS-SMB2] 3.2.5.11, and
// returns its length: verified where it lies, or decrypted into the caller's memory.
// The server's access has been revoked.
func (c *chunk) placed(k *call, m *smb2.ReadResponse) (int, error) {
	conn := c.c
	flagged := conn.neg.dialect == SMB311 && m.Flags&smb2.ReadFlagResponseRDMATransform != 0
	if uint64(m.DataRemaining) > uint64(len(c.p)) || len(m.Data) != 0 && !flagged {
		return 0, conn.protocolError("3.2.5.11", "%d bytes in the message and %d by RDMA for %d asked for",
			len(m.Data), m.DataRemaining, len(c.p))
	}
	n := int(m.DataRemaining)
	if c.pipe != nil && c.pipe.Torn {
		return 0, conn.protocolError("3.2.5.11", "%d bytes were written by RDMA, some of them twice", n)
	}
	if n == 0 {
		return 0, nil
	}
	if !flagged {
		if c.path != PathRDMA {
			return 0, c.c.badTransform("none, for data that was to be %v", c.path)
		}
		return n, nil
	}
	if err := c.unprotect(k, m, n); err != nil {
		return 0, err
	}
	return n, nil
}

// unprotect verifies or decrypts the n bytes of a READ.
func (c *chunk) unprotect(k *call, m *smb2.ReadResponse, n int) error {
	sec := c.c.sec.Load()
	tr, err := smb2.ParseRDMATransform(m.Data)
	if err != nil {
		return c.c.badTransform("%v", err)
	}
	sig, nonce := tr.Crypto.Signature, tr.Crypto.Nonce
	switch typ := tr.Crypto.TransformType; {
	case typ == smb2.RDMATransformTypeEncryption && c.path == PathRDMAEncrypted: // so was the answer, or it were none
		if len(sig) != smbcrypto.SignatureSize || len(nonce) != sec.opener.NonceSize() {
			return c.c.badTransform("signature of %d and nonce of %d bytes", len(sig), len(nonce))
		}
		if sec.opener.OpenPayload(c.p[:n], c.scratch.b[:n], sig, nonce) != nil {
			return c.c.tampered(k, n, ntstatus.AuthTagMismatch)
		}
		return nil
	case typ == smb2.RDMATransformTypeSigning && c.path != PathRDMAEncrypted && !k.answerSealed &&
		k.resp.IsSigned() && sec.signer != nil && slices.Contains(c.c.neg.transforms, RDMASigning):
		if sec.signer.VerifyPayload(sig, nonce, c.p[:n]) != nil {
			clear(c.p)
			return c.c.tampered(k, n, ntstatus.InvalidSignature)
		}
		return nil
	}
	return c.c.badTransform("type %d for data that was to be %v, in a message that was signed: %v, encrypted: %v",
		uint16(tr.Crypto.TransformType), c.path, k.resp.IsSigned(), k.answerSealed)
}

// badTransform is the answer of a server that does not keep to [MS-SMB2] 3.2.5.11.
// Its connection has ended then.
func (conn *conn) badTransform(format string, args ...any) error {
	err := conn.fail(&ProtocolError{Section: "3.2.5.11", Problem: "the READ's RDMA transform: " + fmt.Sprintf(format, args...),
		Err: ntstatus.InvalidNetworkResponse})
	conn.log.Warn("server broke the protocol", "conn", conn.tr.RemoteAddr(), "err", err)
	return err
}

// tampered is the error for bytes that are not those that the server has protected:
// somebody has changed them on the way. The connection, whose messages are another
// matter, lives on.
func (conn *conn) tampered(k *call, n int, st ntstatus.Status) error {
	conn.log.Warn("RDMA payload of a READ is not what the server sent", "conn", conn.tr.RemoteAddr(), "mid", k.resp.MessageID, "len", n, "status", st)
	return fmt.Errorf("%d bytes that came by RDMA are not those that the server sent: %w", n, st)
}

// wipe leaves nothing in the caller's memory that was not verified.
func (c *chunk) wipe(write bool, n int) {
	if c.path == PathRDMASigned && !write {
		clear(c.p[n:])
	}
}

// path is how READ and WRITE of the share travel on a connection that are long
// enough for RDMA; declined says that it is inline although the connection has
// RDMA, because of signing or encryption.
func (sh *Share) path(c *conn) (p DataPath, declined bool) {
	if sh.kind != smb2.ShareTypeDisk || c.rdma == nil || sh.s.cfg.RDMAThreshold < 0 {
		return PathInline, false
	}
	p = c.dataPath(sh.protect&protectEncrypt != 0)
	return p, p == PathInline
}

// DataPath says how READ and WRITE of this share travel that are long enough for
// RDMA; RDMAStatus says why, if they do not use it.
func (sh *Share) DataPath() DataPath {
	p, _ := sh.path(sh.s.best())
	return p
}

// dataPath is how READ and WRITE on this connection travel that are long enough for
// RDMA, of a share that encrypts of its own or does not.
func (conn *conn) dataPath(encrypt bool) DataPath {
	if conn.rdma == nil || conn.sess.cfg.RDMAThreshold < 0 {
		return PathInline
	}
	sec := conn.sec.Load()
	return choosePath(conn.neg.transforms, sec.sign, encrypt || sec.encrypt)
}

// RDMAStatus says whether READ and WRITE of this session use RDMA, and if not,
// why, in words for the user.
func (s *Session) RDMAStatus() (used bool, why string) {
	c := s.best()
	if used, why = c.rdmaStatus(false); !used && c.rdma == nil && s.keeper.on {
		why = s.keeper.why()
	}
	return used, why
}

// rdmaStatus says whether READ and WRITE on this connection use RDMA, and if not,
// why, of a share that encrypts of its own or does not.
func (conn *conn) rdmaStatus(encrypt bool) (used bool, why string) {
	cfg := &conn.sess.cfg
	switch {
	case conn.rdma == nil:
		return false, "the connection is not SMB Direct"
	case cfg.RDMAThreshold < 0:
		return false, "RDMAThreshold is negative"
	case conn.dataPath(encrypt) != PathInline:
		return true, ""
	case conn.sec.Load().encrypt:
		return false, "the session is encrypted, and RDMA data can't be: " + conn.lacks(RDMAEncryption)
	case encrypt:
		return false, "the share is encrypted, and RDMA data can't be: " + conn.lacks(RDMAEncryption)
	case cfg.Signing == SigningRequired:
		return false, "signing is required here, and RDMA data can't be signed: " + conn.lacks(RDMASigning)
	}
	return false, "the server requires signing, and RDMA data can't be signed: " + conn.lacks(RDMASigning)
}

// lacks says why a transform was not agreed on.
func (conn *conn) lacks(t RDMATransform) string {
	switch {
	case conn.neg.dialect != SMB311:
		return fmt.Sprintf("dialect %v has no RDMA transforms", conn.neg.dialect)
	case !slices.Contains(conn.sess.cfg.RDMATransforms, t):
		return fmt.Sprintf("the transform for %v is turned off here", t)
	}
	return fmt.Sprintf("the server has no RDMA transform for %v", t)
}

// RDMAStatus is that of the session, with the share's own encryption considered.
func (sh *Share) RDMAStatus() (used bool, why string) {
	if used, why = sh.s.RDMAStatus(); !used {
		return false, why
	}
	if sh.kind != smb2.ShareTypeDisk {
		return false, "the share is not a disk"
	}
	return sh.s.best().rdmaStatus(sh.protect&protectEncrypt != 0)
}
