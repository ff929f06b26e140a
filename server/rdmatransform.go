package server

import (
	"errors"
	"slices"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// A leased buffer has room for the tag.
var _ [transport.BufferRoom - smbcrypto.PayloadRoom]struct{}

// rdmaTransforms is a set of RDMA transforms: Connection.RDMATransformIds.
type rdmaTransforms uint8

const (
	transformEncryption rdmaTransforms = 1 << iota
	transformSigning
)

// has reports whether all of want are in the set.
func (t rdmaTransforms) has(want rdmaTransforms) bool { return t&want == want }

// negotiateTransforms takes the client's SMB2_RDMA_TRANSFORM_CAPABILITIES and
// returns the answer, [MS-SMB2] 3.3.5.4: the common transforms, in the client's
// order, or NONE.
func (c *conn) negotiateTransforms(data []byte) ([]byte, error) {
	m, err := smb2.ParseRDMATransformCapabilities(data)
	if err != nil {
		return nil, err
	}
	if len(m.RDMATransformIDs) == 0 {
		return nil, errors.New("TransformCount is 0")
	}
	var ids []smb2.RDMATransformID
	for _, id := range m.RDMATransformIDs {
		if !slices.Contains(c.srv.cfg.RDMATransforms, uint16(id)) || slices.Contains(ids, id) {
			continue
		}
		ids = append(ids, id)
		switch id {
		case smb2.RDMATransformEncryption:
			c.transforms |= transformEncryption
		case smb2.RDMATransformSigning:
			c.transforms |= transformSigning
		}
	}
	if len(ids) == 0 {
		ids = append(ids, smb2.RDMATransformNone)
	}
	return (&smb2.RDMATransformCapabilities{RDMATransformIDs: ids}).AppendBinary(nil)
}

// noteCost tells the operator what it costs on this connection that signing or
// encryption is required.
func (c *conn) noteCost(what string, t rdmaTransforms) {
	switch {
	case c.rdma == nil:
	case c.transforms.has(t):
		c.log.Info(what + " is required, of RDMA data too: each byte of it passes through the processor, and none is sent from the page cache")
	default:
		c.log.Warn(what + " is required, and the client cannot do that to RDMA data: it has to send and get all of it in messages")
	}
}

// payloadGuard is what protects the data of a READ or WRITE while RDMA moves it.
type payloadGuard uint8

const (
	guardNone payloadGuard = iota
	guardSigned
	guardEncrypted
)

// guard says what must protect data that goes by RDMA for this request,
// [MS-SMB2] 3.3.5.12: what protects the request, if that was negotiated. Who has
// asked for protection does not get data without it, so an encrypted request, or
// one of a session that has to sign, is refused where there is no such transform;
// a client that knows its duties ([MS-SMB2] 3.2.4.6) names no channel then. One
// that signs of its own will, but reads and writes by RDMA regardless, may.
func (r *request) guard() (payloadGuard, ntstatus.Status) {
	t := r.conn.transforms
	switch {
	case r.encrypted && t.has(transformEncryption):
		return guardEncrypted, ntstatus.Success
	case r.encrypted:
		return 0, ntstatus.InvalidParameter
	case r.signedOK && t.has(transformSigning):
		return guardSigned, ntstatus.Success
	case r.ch.mustSign:
		return 0, ntstatus.InvalidParameter
	}
	return guardNone, ntstatus.Success
}

// rdmaWrite is where a WRITE's data is, and what protects it there.
type rdmaWrite struct {
	descs  []transport.Descriptor
	guard  payloadGuard
	crypto smb2.RDMACryptoTransform // with a guard; borrows the message
}

// parseWriteChannel applies the rules of [MS-SMB2] 3.3.5.13 to the channel
// information of a WRITE by RDMA.
func (r *request) parseWriteChannel(req *smb2.WriteRequest) (w rdmaWrite, st ntstatus.Status) {
	info := req.ChannelInfo
	n := uint64(req.RemainingBytes)
	if req.Channel == smb2.ChannelRDMATransform {
		t, err := smb2.ParseRDMATransform(info)
		if err != nil || t.Channel != smb2.ChannelRDMAV1 && t.Channel != smb2.ChannelRDMAV1Invalidate {
			return w, ntstatus.InvalidParameter
		}
		ids := r.conn.transforms
		switch typ := t.Crypto.TransformType; {
		case typ == smb2.RDMATransformTypeEncryption && ids.has(transformEncryption) && r.encrypted:
			w.guard = guardEncrypted
		case typ == smb2.RDMATransformTypeSigning && ids.has(transformSigning) && r.signedOK:
			w.guard = guardSigned
		default:
			return w, ntstatus.InvalidParameter
		}
		info, w.crypto = t.Descriptors, t.Crypto
	} else if r.encrypted || r.ch.mustSign {
		return w, ntstatus.InvalidParameter // see guard
	}
	var ok bool
	if w.descs, ok = r.chain.descriptors(info); !ok || w.descs[0].Length == 0 || transport.DescriptorsLen(w.descs) < n {
		return w, ntstatus.InvalidParameter
	}
	if w.guard == guardEncrypted && transport.DescriptorsLen(w.descs) != n {
		return w, ntstatus.BadData // the data is as long decrypted as encrypted
	}
	return w, ntstatus.Success
}

// fetch moves the n octets of a WRITE into leased memory, and verifies or decrypts
// them there. On Success the caller releases the buffer.
func (r *request) fetch(w *rdmaWrite, n int) (transport.Buffer, ntstatus.Status) {
	c := r.conn
	r.chain.mayWait()
	b, err := c.rdma.Lease(c.ctx, n)
	if err != nil {
		return nil, r.rdmaStatus(err)
	}
	var st ntstatus.Status
	if err := c.rdma.Read(c.ctx, b, n, w.descs); err != nil {
		st = r.rdmaStatus(err)
	} else if st = r.unguard(w, b.Bytes()[:n]); st != ntstatus.Success {
		c.log.Warn("RDMA payload of a WRITE is not what the client sent", "mid", r.hdr.MessageID, "len", n, "status", st)
	}
	if st != ntstatus.Success {
		b.Release()
		return nil, st
	}
	return b, st
}

// unguard lifts the protection of data that was fetched.
func (r *request) unguard(w *rdmaWrite, data []byte) ntstatus.Status {
	switch w.guard {
	case guardSigned:
		if err := r.ch.signer.VerifyPayload(w.crypto.Signature, w.crypto.Nonce, data); err != nil {
			return ntstatus.InvalidSignature
		}
		r.srv.count.rdmaSigned.Add(uint64(len(data)))
	case guardEncrypted:
		// Lengths of signature and nonce that do not fit the cipher fail here too.
		if err := r.sess.opener.OpenPayload(data, data, w.crypto.Signature, w.crypto.Nonce); err != nil {
			return ntstatus.AuthTagMismatch
		}
		r.srv.count.rdmaEncrypted.Add(uint64(len(data)))
	}
	return ntstatus.Success
}

// place signs or encrypts the first n octets of b where they lie, writes them to
// the client's memory, and appends the response of a READ: [MS-SMB2] 3.3.5.12.
func (r *request) place(b transport.Buffer, n int, descs []transport.Descriptor, g payloadGuard) ntstatus.Status {
	c := r.conn
	data := b.Bytes()[:n]
	resp := smb2.ReadResponse{DataRemaining: uint32(n)}
	t := smb2.RDMATransform{Channel: smb2.ChannelNone}
	var tag smbcrypto.PayloadTag
	var err error
	switch g {
	case guardSigned:
		tag = r.ch.signer.SignPayload(data)
		t.Crypto.TransformType = smb2.RDMATransformTypeSigning
		r.srv.count.rdmaSigned.Add(uint64(n))
	case guardEncrypted:
		if tag, err = r.sess.sealer.SealPayload(data, data); err != nil {
			c.fail("RDMA payload cannot be encrypted", "err", err)
			return ntstatus.InternalError
		}
		t.Crypto.TransformType = smb2.RDMATransformTypeEncryption
		r.srv.count.rdmaEncrypted.Add(uint64(n))
	}
	if err := c.rdma.Write(c.ctx, b, n, descs); err != nil {
		return r.rdmaStatus(err)
	}
	if g == guardNone {
		r.out, err = resp.AppendBinary(r.out)
		return r.appended(err)
	}
	t.Crypto.Signature, t.Crypto.Nonce = tag.Signature[:], tag.Nonce[:tag.NonceSize]
	resp.Flags, resp.DataLength = smb2.ReadFlagResponseRDMATransform, uint32(t.Len())
	if r.out, err = resp.AppendBinary(r.out); err == nil {
		r.out, err = t.AppendBinary(r.out)
	}
	return r.appended(err)
}
