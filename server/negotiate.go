package server

import (
	"crypto/rand"
	"slices"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/ntlm"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/internal/spnego"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// dialects in the order in which they are preferred.
var dialects = []uint16{Dialect311, Dialect302, Dialect300, Dialect210, Dialect202}

// noMultiCreditSize bounds I/O where there is no multi-credit.
const noMultiCreditSize = 64 << 10

// hasDialect reports whether the server would speak d on this connection. SMB
// Direct needs 3.0, [MS-SMB2] 2.1. Where answers cannot invalidate tokens it stays
// at that: from 3.0.2 on Linux's client counts on it and registers the memory
// again without a look.
func (c *conn) hasDialect(d uint16) bool {
	cfg := &c.srv.cfg
	if d < cfg.MinDialect || d > cfg.MaxDialect {
		return false
	}
	return c.rdma == nil || d == Dialect300 || d > Dialect300 && c.rdma.RemoteInvalidation()
}

// choose returns the greatest dialect that is offered and spoken here, or 0.
func (c *conn) choose(offered []smb2.Dialect) uint16 {
	for _, d := range dialects {
		if c.hasDialect(d) && slices.Contains(offered, smb2.Dialect(d)) {
			return d
		}
	}
	return 0
}

// signingPolicy reports whether the connection requires signing,
// RequireMessageSigning. By default SMB Direct does where the client can sign RDMA
// data too; with others it is left to them, as signing would keep their data off
// RDMA.
func (c *conn) signingPolicy() bool {
	switch c.srv.cfg.Signing {
	case PolicyRequired:
		return true
	case PolicyOffered:
		return false
	}
	return c.rdma == nil || c.transforms.has(transformSigning)
}

// smb1Negotiate is [MS-SMB2] 3.3.5.3: a client that also speaks SMB1 asks by
// which protocol to go on. Only an SMB2 dialect will do.
func (c *conn) smb1Negotiate(msg []byte) bool {
	m, err := smb2.ParseSMB1Negotiate(msg)
	if err != nil || c.dialect != 0 || c.negotiatedOnce || !c.window.take(0, 1) {
		c.fail("SMB1 message, [MS-SMB2] 3.3.5.3", "err", err)
		return false
	}
	revision := smb2.DialectWildcard
	switch {
	case m.HasDialect(smb2.SMB1DialectSMB2Unknown) && c.srv.cfg.MaxDialect > Dialect202:
		c.negotiatedOnce = true
		c.multiCredit = true
		c.sizes(maxIOSize)
	case m.HasDialect(smb2.SMB1DialectSMB2002) && c.hasDialect(Dialect202):
		revision = smb2.DialectSMB202
		c.dialect = Dialect202
		c.sizes(noMultiCreditSize)
		c.negotiated.Store(true)
	default:
		c.fail("client speaks SMB1 only")
		return false
	}
	resp, st := c.negotiateResponse(revision, nil)
	if st != ntstatus.Success {
		c.fail("NEGOTIATE cannot be answered", "status", st)
		return false
	}
	h := smb2.Header{
		Command: smb2.CommandNegotiate, Flags: smb2.FlagServerToRedir,
		Credits: c.window.grant(1, unauthCredits),
	}
	c.send(&transport.Message{Parts: [][]byte{h.Append(nil), resp}})
	return true
}

// negotiate is [MS-SMB2] 3.3.5.4. The receive goroutine calls it, so nothing
// else is under way.
func negotiate(r *request) ntstatus.Status {
	c := r.conn
	if c.dialect != 0 {
		c.fail("second NEGOTIATE, [MS-SMB2] 3.3.5.4")
		return ntstatus.InvalidParameter
	}
	if r.hdr.IsSigned() || r.hdr.IsRelated() {
		return ntstatus.InvalidParameter // 3.3.5.2.4
	}
	req, err := smb2.ParseNegotiateRequest(r.msg)
	if err != nil || len(req.Dialects) == 0 {
		return ntstatus.InvalidParameter
	}
	chosen := c.choose(req.Dialects)
	if chosen == 0 {
		c.log.Info("no common dialect", "client", req.Dialects)
		return ntstatus.NotSupported
	}
	var contexts []smb2.NegotiateContext
	c.cipher, c.signing, c.transforms = 0, smbcrypto.DefaultSigning(chosen), 0
	if chosen == Dialect311 {
		var st ntstatus.Status
		if contexts, st = c.negotiateContexts(req.Contexts); st != ntstatus.Success {
			return st
		}
		c.preauth.Update(r.msg)
	}
	cfg := &c.srv.cfg
	c.clientCaps, c.clientMode, c.clientGUID = req.Capabilities, req.SecurityMode, req.ClientGUID
	c.clientDialects = slices.Clone(req.Dialects)
	c.shouldSign = req.SecurityMode&smb2.NegotiateSigningRequired != 0
	c.multiCredit = chosen >= Dialect210
	c.sizes(noMultiCreditSize)
	c.serverCaps = 0
	if c.multiCredit {
		c.sizes(maxIOSize)
		c.serverCaps |= smb2.GlobalCapLargeMTU | smb2.GlobalCapLeasing
	}
	if chosen >= Dialect300 {
		// Clients that do not know directory leases do not expect to be told of them:
		// impacket stumbles over it.
		c.serverCaps |= req.Capabilities & smb2.GlobalCapDirectoryLeasing
		if cfg.Interfaces != nil {
			c.serverCaps |= req.Capabilities & smb2.GlobalCapMultiChannel
		}
		if c.srv.hasPersistent() {
			c.serverCaps |= req.Capabilities & smb2.GlobalCapPersistentHandles
		}
		if chosen != Dialect311 && cfg.Encryption != PolicyDisabled &&
			slices.Contains(cfg.Ciphers, uint16(smbcrypto.AES128CCM)) &&
			req.Capabilities&smb2.GlobalCapEncryption != 0 {
			c.serverCaps |= smb2.GlobalCapEncryption
			c.cipher = smbcrypto.AES128CCM
		}
	}
	out, st := c.negotiateResponse(smb2.Dialect(chosen), contexts)
	if st != ntstatus.Success {
		return st
	}
	r.out = append(r.out, out...)
	c.dialect = chosen
	if chosen == Dialect311 {
		r.onSend = c.preauth.Update
		if c.cipher != 0 {
			c.serverCaps |= smb2.GlobalCapEncryption // after the response, 3.3.5.4
		}
	}
	c.negotiated.Store(true)
	if c.serverMode&smb2.NegotiateSigningRequired != 0 {
		c.noteCost("signing", transformSigning)
	}
	c.log.Debug("negotiated", "dialect", smb2.Dialect(chosen), "cipher", c.cipher, "signing", c.signing)
	return ntstatus.Success
}

// negotiateResponse builds the body of the answer and keeps what it said.
func (c *conn) negotiateResponse(d smb2.Dialect, contexts []smb2.NegotiateContext) ([]byte, ntstatus.Status) {
	hint, err := spnego.Hint(ntlm.OID)
	if err != nil {
		c.log.Error("SPNEGO hint", "err", err)
		return nil, ntstatus.InternalError
	}
	caps := c.serverCaps
	if d == smb2.DialectWildcard {
		caps = smb2.GlobalCapLargeMTU
	}
	c.serverMode = smb2.NegotiateSigningEnabled
	if c.signingPolicy() {
		c.serverMode |= smb2.NegotiateSigningRequired
	}
	resp := smb2.NegotiateResponse{
		SecurityMode:    c.serverMode,
		DialectRevision: d,
		ServerGUID:      c.srv.cfg.GUID,
		Capabilities:    caps,
		MaxTransactSize: uint32(c.maxTransact),
		MaxReadSize:     uint32(c.maxRead),
		MaxWriteSize:    uint32(c.maxWrite),
		SystemTime:      smb2.FiletimeOf(time.Now()),
		SecurityBuffer:  hint,
		Contexts:        contexts,
	}
	out, err := resp.AppendBinary(nil)
	if err != nil {
		c.log.Error("NEGOTIATE response", "err", err)
		return nil, ntstatus.InternalError
	}
	return out, ntstatus.Success
}

// negotiateContexts answers the contexts of a 3.1.1 client. Those for which
// there is no support (compression and transport capabilities)
// are ignored and get no answer, as 3.3.5.4 has it.
func (c *conn) negotiateContexts(in []smb2.NegotiateContext) ([]smb2.NegotiateContext, ntstatus.Status) {
	for _, t := range []smb2.NegotiateContextType{
		smb2.ContextEncryptionCapabilities, smb2.ContextCompressionCapabilities,
		smb2.ContextRDMATransformCapabilities, smb2.ContextSigningCapabilities,
	} {
		if _, n := smb2.FindNegotiateContext(in, t); n > 1 {
			return nil, ntstatus.InvalidParameter
		}
	}
	data, n := smb2.FindNegotiateContext(in, smb2.ContextPreauthIntegrityCapabilities)
	if n != 1 {
		return nil, ntstatus.InvalidParameter
	}
	pre, err := smb2.ParsePreauthIntegrityCapabilities(data)
	if err != nil {
		return nil, ntstatus.InvalidParameter
	}
	if !slices.Contains(pre.HashAlgorithms, smb2.HashSHA512) {
		return nil, ntstatus.SMBNoPreauthIntegrityHashOverlap
	}
	var salt [32]byte
	rand.Read(salt[:]) // never fails: it ends the program first
	var out []smb2.NegotiateContext
	add := func(t smb2.NegotiateContextType, b []byte, err error) {
		if err != nil {
			c.log.Error("negotiate context", "err", err)
			return
		}
		out = append(out, smb2.NegotiateContext{Type: t, Data: b})
	}
	b, err := (&smb2.PreauthIntegrityCapabilities{
		HashAlgorithms: []smb2.HashAlgorithm{smb2.HashSHA512}, Salt: salt[:],
	}).AppendBinary(nil)
	add(smb2.ContextPreauthIntegrityCapabilities, b, err)

	cfg := &c.srv.cfg
	if data, n := smb2.FindNegotiateContext(in, smb2.ContextEncryptionCapabilities); n == 1 && cfg.Encryption != PolicyDisabled {
		m, err := smb2.ParseEncryptionCapabilities(data)
		if err != nil || len(m.Ciphers) == 0 {
			return nil, ntstatus.InvalidParameter
		}
		for _, id := range cfg.Ciphers {
			if slices.Contains(m.Ciphers, smb2.Cipher(id)) {
				c.cipher = smbcrypto.Cipher(id)
				break
			}
		}
		b, err := (&smb2.EncryptionCapabilities{Ciphers: []smb2.Cipher{smb2.Cipher(c.cipher)}}).AppendBinary(nil)
		add(smb2.ContextEncryptionCapabilities, b, err)
	}
	if data, n := smb2.FindNegotiateContext(in, smb2.ContextRDMATransformCapabilities); n == 1 && len(cfg.RDMATransforms) > 0 {
		b, err := c.negotiateTransforms(data)
		if err != nil {
			return nil, ntstatus.InvalidParameter
		}
		add(smb2.ContextRDMATransformCapabilities, b, nil)
	}
	if data, n := smb2.FindNegotiateContext(in, smb2.ContextPosixExtensions); n == 1 && !cfg.NoPOSIXExtensions &&
		string(data) == smb2.PosixExtensionsTag {
		c.posix = true
		add(smb2.ContextPosixExtensions, []byte(smb2.PosixExtensionsTag), nil)
	}
	if data, n := smb2.FindNegotiateContext(in, smb2.ContextSigningCapabilities); n == 1 {
		m, err := smb2.ParseSigningCapabilities(data)
		if err != nil || len(m.SigningAlgorithms) == 0 {
			return nil, ntstatus.InvalidParameter
		}
		for _, id := range cfg.SigningAlgorithms {
			if slices.Contains(m.SigningAlgorithms, smb2.SigningAlgorithm(id)) {
				c.signing = smbcrypto.SigningAlgorithm(id)
				break
			}
		}
		b, err := (&smb2.SigningCapabilities{SigningAlgorithms: []smb2.SigningAlgorithm{smb2.SigningAlgorithm(c.signing)}}).AppendBinary(nil)
		add(smb2.ContextSigningCapabilities, b, err)
	}
	return out, ntstatus.Success
}
