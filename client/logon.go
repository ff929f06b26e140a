package client

import (
	"context"
	"fmt"
	"os"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/internal/spnego"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// maxAuthRounds bounds a server that never has enough.
const maxAuthRounds = 8

// logon is one authentication, [MS-SMB2] 3.2.4.2.3 and 3.2.5.3: of a new session,
// again of one that has expired, whose keys stay as they are, or of a further
// channel of a session, which gets a signing key of its own.
type logon struct {
	s    *Session
	c    *conn
	bind bool
	auth *spnego.Initiator
	hash smbcrypto.Preauth
	old  *security // nil for a new session
	in   []byte    // the server's last token
}

func (s *Session) logon(ctx context.Context, c *conn, bind bool) error {
	workstation := s.cfg.Workstation
	if workstation == "" {
		workstation, _ = os.Hostname() // without a name there is none
	}
	l := &logon{s: s, c: c, bind: bind, hash: c.neg.preauth, old: c.sec.Load()}
	if bind {
		// 3.2.4.2.3.1: the requests are signed with the session's own key.
		base := s.base.Load()
		c.sec.Store(&security{sessionID: base.sessionID, signer: base.signer})
	}
	mech, err := s.mechanism(ctx, workstation)
	if err != nil {
		return fmt.Errorf("authentication: %w", err)
	}
	l.auth = spnego.NewInitiator(c.neg.token, mech)
	for range maxAuthRounds {
		if done, err := l.round(ctx); done || err != nil {
			return err
		}
	}
	return c.protocolError("3.2.5.3", "authentication is not over after %d rounds", maxAuthRounds)
}

// round sends one SESSION_SETUP.
func (l *logon) round(ctx context.Context) (done bool, err error) {
	c := l.c
	token, _, err := l.auth.Step(l.in)
	if err != nil {
		return false, fmt.Errorf("authentication: %w", err)
	}
	k := c.newCall(smb2.CommandSessionSetup)
	defer k.free()
	req := smb2.SessionSetupRequest{SecurityBuffer: token}
	switch {
	case l.bind:
		k.protect = protectBind
		req.Flags = smb2.SessionSetupFlagBinding
	case l.old == nil:
		k.protect = protectRaw
		req.PreviousSessionID = l.s.sessionID.Load() // [MS-SMB2] 3.2.4.2.3: of a session made anew
	}
	mode := c.neg.clientMode
	if mode&smb2.NegotiateSigningRequired != 0 {
		mode = smb2.NegotiateSigningRequired // one bit or the other, 2.2.5
	}
	req.SecurityMode = mode
	if err := k.encode(&req); err != nil {
		return false, err
	}
	if err := c.start(ctx, k.self[:]); err != nil {
		return false, err
	}
	l.hash.Update(k.buf)
	if err := c.wait(ctx, k); err != nil {
		return false, err
	}
	switch k.resp.Status {
	case ntstatus.Success, ntstatus.MoreProcessingRequired:
	default:
		return false, k.resp.Status
	}
	m, err := smb2.ParseSessionSetupResponse(k.msg)
	if err != nil {
		return false, c.badBody(k.cmd, err)
	}
	if k.resp.Status == ntstatus.MoreProcessingRequired {
		if l.bind && k.resp.IsSigned() {
			if err := l.s.base.Load().signer.Verify(k.msg); err != nil {
				return false, c.protocolError("3.2.5.3.3", "a SESSION_SETUP answer of a binding: %v", err)
			}
		}
		l.hash.Update(k.msg)
		l.in = append([]byte(nil), m.SecurityBuffer...)
		if l.old == nil && !l.bind {
			// From the first answer on the session has an id.
			c.sec.Store(&security{sessionID: k.resp.SessionID})
		}
		return false, nil
	}
	guest := m.SessionFlags&smb2.SessionFlagIsGuest != 0
	if !guest { // a server that takes anybody has no token to end with
		if _, done, err := l.auth.Step(m.SecurityBuffer); err != nil || !done {
			return false, fmt.Errorf("authentication: the server's last token (over: %v): %w", done, orIncomplete(err))
		}
	}
	if l.bind {
		return true, l.bound(k, m.SessionFlags)
	}
	if l.old != nil {
		return true, nil
	}
	return true, l.finish(k, m.SessionFlags)
}

// bound is [MS-SMB2] 3.2.5.3.3: the channel gets its key. The last answer is signed
// with it, which proves that both ends saw the same messages on this connection.
func (l *logon) bound(k *call, flags smb2.SessionFlags) error {
	s, c, n := l.s, l.c, l.c.neg
	if flags&(smb2.SessionFlagIsGuest|smb2.SessionFlagIsNull) != 0 {
		return c.protocolError("3.2.5.3.3", "a binding made the user a guest")
	}
	key, err := smbcrypto.ChannelSigningKey(uint16(n.dialect), l.auth.Mechanism().SessionKey(), l.hash[:])
	if err != nil {
		return err
	}
	base := s.base.Load()
	sec := &security{sessionID: base.sessionID, sealer: base.sealer, opener: base.opener, encrypt: base.encrypt}
	if sec.signer, err = smbcrypto.NewSigner(n.signing, key, smbcrypto.RoleClient); err != nil {
		return err
	}
	if !k.resp.IsSigned() {
		return c.protocolError("3.2.5.3.3", "the last SESSION_SETUP answer of a binding is not signed")
	}
	if err := sec.signer.Verify(k.msg); err != nil {
		return c.protocolError("3.2.5.3.3", "the last SESSION_SETUP answer of a binding: %v", err)
	}
	// What this connection's server demands: it may leave SMB Direct to us.
	sec.sign = n.serverMode&smb2.NegotiateSigningRequired != 0 || s.cfg.Signing == SigningRequired
	c.sec.Store(sec)
	return nil
}

// orIncomplete stands in for a mechanism that has neither failed nor ended.
func orIncomplete(err error) error {
	if err == nil {
		return ntstatus.InvalidNetworkResponse
	}
	return err
}

// finish checks what became of the session against what was asked for, and
// installs its keys.
func (l *logon) finish(k *call, flags smb2.SessionFlags) error {
	s, n, cfg := l.s, l.c.neg, &l.s.cfg
	guest := flags&smb2.SessionFlagIsGuest != 0
	anonymous := flags&smb2.SessionFlagIsNull != 0 || cfg.User == "" && cfg.Auth == nil
	s.guest.Store(guest)
	s.anonymous.Store(anonymous)
	s.sessionID.Store(k.resp.SessionID)
	sec := &security{sessionID: k.resp.SessionID}
	serverSigns := n.serverMode&smb2.NegotiateSigningRequired != 0
	encrypt := flags&smb2.SessionFlagEncryptData != 0
	if guest || anonymous {
		// There is no key that others do not know: nothing is protected
		// ([MS-SMB2] 3.2.5.3.1).
		switch {
		case cfg.Signing == SigningRequired:
			return fmt.Errorf("signing is required, and the server took the user for %s: %w", s.who(), ntstatus.AccessDenied)
		case cfg.Encryption == EncryptRequired:
			return fmt.Errorf("encryption is required, and the server took the user for %s: %w", s.who(), ntstatus.AccessDenied)
		}
		l.c.sec.Store(sec)
		return nil
	}
	key := l.auth.Mechanism().SessionKey()
	keys, err := smbcrypto.DeriveKeys(uint16(n.dialect), key, l.hash[:], uint16(n.cipher))
	if err != nil {
		return err
	}
	if sec.signer, err = smbcrypto.NewSigner(n.signing, keys.Signing, smbcrypto.RoleClient); err != nil {
		return err
	}
	// [MS-SMB2] 3.2.5.3.1: in 3.1.1 the last answer is signed, which proves that
	// both ends saw the same messages.
	sec.sign = serverSigns || cfg.Signing == SigningRequired
	switch {
	case k.resp.IsSigned():
		if err := sec.signer.Verify(k.msg); err != nil {
			return l.c.protocolError("3.2.5.3.1", "the last SESSION_SETUP answer: %v", err)
		}
	case n.dialect == SMB311 || sec.sign:
		return l.c.protocolError("3.2.5.3.1", "the last SESSION_SETUP answer is not signed")
	}
	if n.cipher != 0 {
		if sec.sealer, err = smbcrypto.NewSealer(n.cipher, keys.ClientToServer); err != nil {
			return err
		}
		if sec.opener, err = smbcrypto.NewOpener(n.cipher, keys.ServerToClient); err != nil {
			return err
		}
	}
	switch {
	case serverSigns && cfg.Signing == SigningOff:
		return fmt.Errorf("the server requires signing, which is off here: %w", ntstatus.AccessDenied)
	case encrypt && n.cipher == 0:
		return fmt.Errorf("the server requires encryption, and no cipher was agreed on: %w", ntstatus.AccessDenied)
	case cfg.Encryption == EncryptRequired && n.cipher == 0:
		return fmt.Errorf("encryption is required, and the server has none in dialect %v: %w", n.dialect, ntstatus.NotSupported)
	}
	sec.encrypt = encrypt || cfg.Encryption == EncryptRequired
	s.base.Store(sec)
	l.c.sec.Store(sec)
	return nil
}

func (s *Session) who() string {
	if s.guest.Load() {
		return "a guest"
	}
	return "nobody"
}
