package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// negotiated is what NEGOTIATE has settled. It is immutable afterwards.
type negotiated struct {
	dialect      Dialect
	serverGUID   smb2.GUID
	serverMode   smb2.SecurityMode
	capabilities smb2.Capabilities
	maxTransact  int
	maxRead      int
	maxWrite     int
	token        []byte // the server's GSS token
	cipher       smbcrypto.Cipher
	signing      smbcrypto.SigningAlgorithm
	transforms   []RDMATransform
	posix        bool // the POSIX extensions were agreed on
	preauth      smbcrypto.Preauth

	// What was offered, for FSCTL_VALIDATE_NEGOTIATE_INFO.
	clientMode     smb2.SecurityMode
	clientCaps     smb2.Capabilities
	clientDialects []smb2.Dialect
}

// clientCapabilities are offered with dialects 3.x. MULTI_CHANNEL is there so that
// the server lists its interfaces.
const clientCapabilities = smb2.GlobalCapLargeMTU | smb2.GlobalCapMultiChannel | smb2.GlobalCapLeasing | smb2.GlobalCapDirectoryLeasing

// minTransact is the least that [MS-SMB2] 3.2.5.2 accepts for the server's sizes.
const minTransact = 65536

// negotiate sends NEGOTIATE and checks the answer, [MS-SMB2] 3.2.4.2.2 and 3.2.5.2.
func negotiate(ctx context.Context, c *conn, cfg *Config, serverName string) (*negotiated, error) {
	n := &negotiated{clientMode: smb2.NegotiateSigningEnabled}
	if cfg.Signing == SigningRequired {
		n.clientMode |= smb2.NegotiateSigningRequired
	}
	low := cfg.MinDialect
	if c.rdma != nil {
		low = max(low, SMB300) // [MS-SMB2] 2.1
	}
	for _, d := range allDialects {
		if d >= low && d <= cfg.MaxDialect {
			n.clientDialects = append(n.clientDialects, smb2.Dialect(d))
		}
	}
	if len(n.clientDialects) == 0 {
		return nil, fmt.Errorf("dialect %v and below do not run on RDMA: %w", cfg.MaxDialect, errors.ErrUnsupported)
	}
	req := smb2.NegotiateRequest{SecurityMode: n.clientMode, Dialects: n.clientDialects}
	if cfg.MaxDialect > SMB202 {
		req.ClientGUID = cfg.ClientGUID
	}
	if cfg.MaxDialect >= SMB300 {
		req.Capabilities = clientCapabilities
		if cfg.Encryption != EncryptOff {
			req.Capabilities |= smb2.GlobalCapEncryption
		}
	}
	if cfg.MaxDialect == SMB311 {
		req.Capabilities |= smb2.GlobalCapNotifications
		var err error
		if req.Contexts, err = negotiateContexts(cfg, serverName); err != nil {
			return nil, err
		}
	}
	n.clientCaps = req.Capabilities

	k := c.newCall(smb2.CommandNegotiate)
	defer k.free()
	k.protect = protectRaw
	if err := k.encode(&req); err != nil {
		return nil, err
	}
	if err := c.start(ctx, k.self[:]); err != nil {
		return nil, err
	}
	n.preauth.Update(k.buf)
	if err := c.wait(ctx, k); err != nil {
		return nil, err
	}
	if k.resp.Status != ntstatus.Success {
		return nil, k.resp.Status
	}
	n.preauth.Update(k.msg)
	resp, err := smb2.ParseNegotiateResponse(k.msg)
	if err != nil {
		return nil, c.badBody(k.cmd, err)
	}
	if err := n.take(c, cfg, &resp); err != nil {
		return nil, err
	}
	if cfg.POSIX == POSIXRequired && !n.posix {
		return nil, fmt.Errorf("the server has no POSIX extensions in dialect %v: %w", n.dialect, errors.ErrUnsupported)
	}
	return n, nil
}

func negotiateContexts(cfg *Config, serverName string) ([]smb2.NegotiateContext, error) {
	var cs []smb2.NegotiateContext
	add := func(t smb2.NegotiateContextType, m body) error {
		b, err := m.AppendBinary(nil)
		cs = append(cs, smb2.NegotiateContext{Type: t, Data: b})
		return err
	}
	salt := make([]byte, 32)
	rand.Read(salt) // never fails: it ends the program first
	err := add(smb2.ContextPreauthIntegrityCapabilities, &smb2.PreauthIntegrityCapabilities{
		HashAlgorithms: []smb2.HashAlgorithm{smb2.HashSHA512}, Salt: salt})
	if cfg.Encryption != EncryptOff && len(cfg.Ciphers) > 0 {
		var ids []smb2.Cipher
		for _, v := range cfg.Ciphers {
			ids = append(ids, smb2.Cipher(v))
		}
		err = errors.Join(err, add(smb2.ContextEncryptionCapabilities, &smb2.EncryptionCapabilities{Ciphers: ids}))
	}
	if len(cfg.SigningAlgorithms) > 0 {
		var ids []smb2.SigningAlgorithm
		for _, v := range cfg.SigningAlgorithms {
			ids = append(ids, smb2.SigningAlgorithm(v))
		}
		err = errors.Join(err, add(smb2.ContextSigningCapabilities, &smb2.SigningCapabilities{SigningAlgorithms: ids}))
	}
	if len(cfg.RDMATransforms) > 0 {
		var ids []smb2.RDMATransformID
		for _, v := range cfg.RDMATransforms {
			ids = append(ids, smb2.RDMATransformID(v))
		}
		err = errors.Join(err, add(smb2.ContextRDMATransformCapabilities, &smb2.RDMATransformCapabilities{RDMATransformIDs: ids}))
	}
	if cfg.POSIX != POSIXOff {
		cs = append(cs, smb2.NegotiateContext{Type: smb2.ContextPosixExtensions, Data: []byte(smb2.PosixExtensionsTag)})
	}
	if serverName != "" {
		err = errors.Join(err, add(smb2.ContextNetnameNegotiate, &smb2.NetnameContext{NetName: serverName}))
	}
	return cs, err
}

// take checks and stores the server's choice.
func (n *negotiated) take(c *conn, cfg *Config, r *smb2.NegotiateResponse) error {
	if !slices.Contains(n.clientDialects, r.DialectRevision) {
		return c.protocolError("3.2.5.2", "dialect 0x%04X was not offered", uint16(r.DialectRevision))
	}
	n.dialect = Dialect(r.DialectRevision)
	n.serverGUID, n.serverMode, n.capabilities = r.ServerGUID, r.SecurityMode, r.Capabilities
	if r.MaxTransactSize < minTransact || r.MaxReadSize < minTransact || r.MaxWriteSize < minTransact {
		return c.protocolError("3.2.5.2", "sizes below 64 KiB: transact %d, read %d, write %d",
			r.MaxTransactSize, r.MaxReadSize, r.MaxWriteSize)
	}
	n.maxTransact = int(min(r.MaxTransactSize, maxIO))
	n.maxRead = int(min(r.MaxReadSize, maxIO))
	n.maxWrite = int(min(r.MaxWriteSize, maxIO))
	n.token = slices.Clone(r.SecurityBuffer)
	n.signing = smbcrypto.DefaultSigning(uint16(n.dialect))
	c.multiCredit = n.dialect >= SMB210 && n.capabilities&smb2.GlobalCapLargeMTU != 0
	if !c.multiCredit {
		n.maxTransact, n.maxRead, n.maxWrite = minTransact, minTransact, minTransact
	}
	switch {
	case n.dialect == SMB311:
		return n.takeContexts(c, cfg, r.Contexts)
	case n.dialect >= SMB300 && cfg.Encryption != EncryptOff && n.capabilities&smb2.GlobalCapEncryption != 0:
		n.cipher = smbcrypto.AES128CCM
	}
	return nil
}

// maxIO bounds what is believed of the server's sizes: 16 MiB, beyond every known
// server's 8.
const maxIO = 16 << 20

// takeContexts checks the negotiate contexts of 3.1.1, [MS-SMB2] 3.2.5.2.
func (n *negotiated) takeContexts(c *conn, cfg *Config, cs []smb2.NegotiateContext) error {
	data, count := smb2.FindNegotiateContext(cs, smb2.ContextPreauthIntegrityCapabilities)
	if count != 1 {
		return c.protocolError("3.2.5.2", "%d preauthentication contexts", count)
	}
	hash, err := smb2.ParsePreauthIntegrityCapabilities(data)
	if err != nil {
		return c.badBody(smb2.CommandNegotiate, err)
	}
	if len(hash.HashAlgorithms) != 1 || hash.HashAlgorithms[0] != smb2.HashSHA512 {
		return c.protocolError("3.2.5.2", "preauthentication hashes %v", hash.HashAlgorithms)
	}
	data, count = smb2.FindNegotiateContext(cs, smb2.ContextEncryptionCapabilities)
	if count > 1 {
		return c.protocolError("3.2.5.2", "%d encryption contexts", count)
	}
	if count == 1 {
		enc, err := smb2.ParseEncryptionCapabilities(data)
		if err != nil {
			return c.badBody(smb2.CommandNegotiate, err)
		}
		if len(enc.Ciphers) != 1 {
			return c.protocolError("3.2.5.2", "%d ciphers chosen", len(enc.Ciphers))
		}
		if id := Cipher(enc.Ciphers[0]); id != 0 {
			if cfg.Encryption == EncryptOff || !slices.Contains(cfg.Ciphers, id) {
				return c.protocolError("3.2.5.2", "cipher 0x%04X was not offered", uint16(id))
			}
			n.cipher = smbcrypto.Cipher(id)
		}
	}
	data, count = smb2.FindNegotiateContext(cs, smb2.ContextSigningCapabilities)
	if count > 1 {
		return c.protocolError("3.2.5.2", "%d signing contexts", count)
	}
	if count == 1 {
		sig, err := smb2.ParseSigningCapabilities(data)
		if err != nil {
			return c.badBody(smb2.CommandNegotiate, err)
		}
		if len(sig.SigningAlgorithms) != 1 || !slices.Contains(cfg.SigningAlgorithms, SigningAlgorithm(sig.SigningAlgorithms[0])) {
			return c.protocolError("3.2.5.2", "signing algorithms %v chosen", sig.SigningAlgorithms)
		}
		n.signing = smbcrypto.SigningAlgorithm(sig.SigningAlgorithms[0])
	}
	if err := n.takePosix(c, cfg, cs); err != nil {
		return err
	}
	return n.takeTransforms(c, cfg, cs)
}
