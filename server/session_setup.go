package server

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"

	"github.com/smbd-rdma/smbd-rdma/internal/ntlm"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/internal/spnego"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// authentication is an exchange of GSS tokens under way.
type authentication struct {
	acceptor *spnego.Acceptor
	ntlm     *ntlm.ServerContext
}

func (s *Server) newAuthentication() (*authentication, error) {
	n, err := s.ntlm.NewContext()
	if err != nil {
		return nil, err
	}
	return &authentication{acceptor: spnego.NewAcceptor(n), ntlm: n}, nil
}

// maxChannels is how many connections a session can be bound to, as on Windows.
const maxChannels = 32

// binding is a session's authentication on a further connection, and
// PreauthSession of [MS-SMB2] 3.3.1.15.
type binding struct {
	auth    *authentication
	preauth smbcrypto.Preauth
	busy    bool // a SESSION_SETUP of it is served
}

// lookupUser is ntlm's view of Config.Users.
func (s *Server) lookupUser(user, domain string) (hash [16]byte, ok bool) {
	if s.cfg.Users == nil {
		return hash, false
	}
	h, err := s.cfg.Users.NTHash(s.ctx, domain, user)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return hash, false
	case err != nil:
		// Not one who could be taken for a guest, but nobody knows the password.
		s.log.Warn("user cannot log on", "user", user, "err", err)
		rand.Read(hash[:]) // never fails: it ends the program first
		return hash, true
	}
	return h, true
}

// authStatus is what a client is told of a failed authentication.
func authStatus(err error) ntstatus.Status {
	if err == errGivenUp {
		return ntstatus.Cancelled
	}
	if errors.Is(err, ntlm.ErrLogon) || errors.Is(err, ntlm.ErrWeak) || errors.Is(err, spnego.ErrMIC) {
		return ntstatus.LogonFailure
	}
	return ntstatus.InvalidParameter
}

func isBinding(msg []byte) bool {
	m, err := smb2.ParseSessionSetupRequest(msg)
	return err == nil && m.Flags&smb2.SessionSetupFlagBinding != 0
}

// sessionSetup is [MS-SMB2] 3.3.5.5.
func sessionSetup(ctx context.Context, r *request) ntstatus.Status {
	c := r.conn
	req, err := smb2.ParseSessionSetupRequest(r.msg)
	if err != nil {
		return ntstatus.InvalidParameter
	}
	if c.srv.cfg.Encryption == PolicyRequired && c.cipher == 0 {
		return ntstatus.AccessDenied
	}
	if req.Flags&smb2.SessionSetupFlagBinding != 0 && r.hdr.SessionID != 0 {
		return bindSession(ctx, r, &req)
	}
	var ch *channel
	if r.hdr.SessionID == 0 {
		sess, st := c.newSession()
		if st != ntstatus.Success {
			return st
		}
		ch = c.channel(sess.id)
	} else if ch = c.channel(r.hdr.SessionID); ch == nil {
		return ntstatus.UserSessionDeleted
	}
	if ch == nil {
		return ntstatus.UserSessionDeleted // ended in the same moment
	}
	sess := ch.sess
	r.setSession(ch)

	sess.mu.Lock()
	if sess.state == sessionGone {
		sess.mu.Unlock()
		return ntstatus.UserSessionDeleted
	}
	if sess.busy {
		sess.mu.Unlock()
		return ntstatus.RequestNotAccepted
	}
	again := sess.state == sessionValid // reauthentication, 3.3.5.5.2
	if sess.auth == nil {
		if sess.auth, err = c.srv.newAuthentication(); err != nil {
			sess.mu.Unlock()
			c.log.Error("authentication", "err", err)
			c.srv.endSession(sess, r)
			return ntstatus.InternalError
		}
		if again {
			sess.auth.ntlm.AllowAnonymous() // who has logged on may become less
		}
	}
	auth := sess.auth
	sess.busy = true
	if c.dialect == Dialect311 && !again {
		sess.preauth.Update(r.msg)
	}
	hash := sess.preauth
	sess.mu.Unlock()

	token, done, err := c.stepSession(ctx, sess, auth, req.SecurityBuffer)
	if err != nil {
		c.refused("logon", auth, err)
		// Who was about to show again who he is, and lost this channel, is who he was.
		if !again || err != errGivenUp {
			c.srv.endSession(sess, r)
		}
		return authStatus(err)
	}
	resp := smb2.SessionSetupResponse{SecurityBuffer: token}
	if !done {
		if c.dialect == Dialect311 && !again {
			r.onSend = func(parts ...[]byte) {
				sess.mu.Lock()
				defer sess.mu.Unlock()
				sess.preauth.Update(parts...)
			}
		}
		if r.out, err = resp.AppendBinary(r.out); err != nil {
			return r.appended(err)
		}
		return ntstatus.MoreProcessingRequired
	}

	who := auth.ntlm.Result()
	if again {
		if st := c.reauthenticated(sess, who); st != ntstatus.Success {
			c.srv.endSession(sess, r)
			return st
		}
		r.signer = ch.signer // keys stay as they are; nil for guests
		resp.SessionFlags = sess.flags
		r.out, err = resp.AppendBinary(r.out)
		return r.appended(err)
	}
	established, st := c.establish(sess, &req, who, hash[:])
	if st != ntstatus.Success {
		c.srv.endSession(sess, r)
		return st
	}
	c.srv.introduced(c)
	r.setSession(established)
	r.signer = established.signer
	if prev := req.PreviousSessionID; prev != 0 && prev != sess.id {
		c.endPrevious(sess, prev, r)
	}
	resp.SessionFlags = sess.flags
	c.srv.audit(c, AuditEvent{Kind: AuditSession, User: sess.userName()})
	c.log.Info("logged on", "user", who.User, "guest", who.Guest, "anonymous", who.Anonymous,
		"dialect", smb2.Dialect(c.dialect), "sid", sess.id)
	r.out, err = resp.AppendBinary(r.out)
	return r.appended(err)
}

// step is a step of an authentication. The answer to the last one waits for its turn
// if the client, or another from there, has guessed passwords.
func (c *conn) step(ctx context.Context, auth *authentication, in []byte) (out []byte, done bool, err error) {
	out, done, err = auth.acceptor.Step(in)
	user := foldName(auth.ntlm.User())
	if user == "" {
		return out, done, err // nobody's password
	}
	if err := c.awaitSlot(ctx, user); err != nil {
		return nil, true, err
	}
	switch {
	case err == nil && done:
		c.guessed(user, true)
	case errors.Is(err, ntlm.ErrLogon):
		c.guessed(user, false)
	}
	return out, done, err
}

// stepSession is step for a session that was made busy. An exchange that panics is over:
// the session may have other channels.
func (c *conn) stepSession(ctx context.Context, sess *session, auth *authentication, in []byte) (out []byte, done bool, err error) {
	over := true
	defer func() {
		sess.mu.Lock()
		defer sess.mu.Unlock()
		sess.busy = false
		if over {
			sess.auth = nil
		}
	}()
	out, done, err = c.step(ctx, auth, in)
	over = done || err != nil
	return out, done, err
}

// refused notes an authentication that failed.
func (c *conn) refused(what string, auth *authentication, err error) {
	if err == errGivenUp {
		c.log.Info(what+" given up", "user", auth.ntlm.User())
		return
	}
	c.srv.count.logonFailures.Add(1)
	c.log.Info(what+" refused", "user", auth.ntlm.User(), "err", err)
	c.srv.audit(c, AuditEvent{Kind: AuditSession, User: auth.ntlm.User(), Status: authStatus(err)})
}

// reauthenticated makes who has shown who he is the session's user: [MS-SMB2]
// 3.3.5.5.2. Trees and files stay open, and keys what they are. On trees that
// another user has connected to, he acts for himself: see [tree.token].
func (c *conn) reauthenticated(sess *session, who *ntlm.Result) ntstatus.Status {
	token, err := c.srv.logonToken(c.srv.ctx, who.User, who.Guest, who.Anonymous)
	if err != nil {
		c.log.Error("account", "user", who.User, "err", err)
		return ntstatus.FromError(err)
	}
	before, now := sess.who(), &logon{who.User, who.Domain, token, who.Guest, who.Anonymous}
	sess.as.Store(now)
	if !now.same(before) {
		c.log.Info("session is another user's", "was", before.user, "user", who.User, "anonymous", who.Anonymous, "sid", sess.id)
	}
	c.srv.audit(c, AuditEvent{Kind: AuditSession, User: sess.userName()})
	return ntstatus.Success
}

// sessionFlags are the SessionFlags of somebody who has logged on.
func sessionFlags(who *logon, encrypt bool) (f smb2.SessionFlags) {
	if who.guest {
		f |= smb2.SessionFlagIsGuest
	}
	if who.anonymous {
		f |= smb2.SessionFlagIsNull
	}
	if encrypt {
		f |= smb2.SessionFlagEncryptData
	}
	return f
}

// establish makes the session valid, with its keys: [MS-SMB2] 3.3.5.5.3. It
// returns the session's channel on this connection.
func (c *conn) establish(sess *session, req *smb2.SessionSetupRequest, who *ntlm.Result, hash []byte) (*channel, ntstatus.Status) {
	policy := c.srv.cfg.Encryption
	noKeys := who.Guest || who.Anonymous
	if noKeys && (!c.srv.cfg.Guest || policy == PolicyRequired) {
		return nil, ntstatus.AccessDenied
	}
	ch := &channel{sess: sess, conn: c}
	var sealer *smbcrypto.Sealer
	var opener *smbcrypto.Opener
	var application []byte
	wantsSigning := false
	if !noKeys {
		keys, err := smbcrypto.DeriveKeys(c.dialect, who.SessionKey[:], hash, uint16(c.cipher))
		if err == nil {
			ch.signer, err = c.newSigner(keys.Signing, who.SessionKey[:], hash)
		}
		if err == nil && c.cipher != 0 {
			if sealer, err = smbcrypto.NewSealer(c.cipher, keys.ServerToClient); err == nil {
				opener, err = smbcrypto.NewOpener(c.cipher, keys.ClientToServer)
			}
		}
		if err != nil {
			c.log.Error("session keys", "err", err)
			return nil, ntstatus.InternalError
		}
		application = keys.Application
		wantsSigning = req.SecurityMode&smb2.NegotiateSigningRequired != 0 || c.shouldSign
		ch.mustSign = wantsSigning || c.signingPolicy()
	}
	token, err := c.srv.logonToken(c.srv.ctx, who.User, who.Guest, who.Anonymous)
	if err != nil {
		c.log.Error("account", "user", who.User, "err", err)
		return nil, ntstatus.FromError(err)
	}
	sess.mu.Lock()
	defer sess.mu.Unlock()
	if sess.state != sessionInProgress {
		return nil, ntstatus.UserSessionDeleted
	}
	sess.as.Store(&logon{who.User, who.Domain, token, who.Guest, who.Anonymous})
	sess.signer, sess.sealer, sess.opener = ch.signer, sealer, opener
	if sess.encryptData = policy == PolicyRequired || policy == PolicyDesired && sealer != nil; sess.encryptData {
		c.noteCost("encryption", transformEncryption)
	}
	sess.applicationKey = application
	sess.cipher, sess.signing, sess.wantsSigning = c.cipher, c.signing, wantsSigning
	sess.flags = sessionFlags(sess.who(), sess.encryptData)
	if !c.replaceChannel(ch) {
		return nil, ntstatus.UserSessionDeleted
	}
	sess.channels[c] = ch
	sess.state = sessionValid
	return ch, ntstatus.Success
}

// newSigner returns the signer of a channel: with key, which [MS-SMB2] 3.3.5.5.3 has
// derived from sessionKey and hash, or with the key that the Linux client derives in
// its place if a 256-bit cipher was negotiated, as the first signed request shows.
func (c *conn) newSigner(key, sessionKey, hash []byte) (*smbcrypto.Signer, error) {
	s, err := smbcrypto.NewSigner(c.signing, key, smbcrypto.RoleServer)
	if err != nil {
		return nil, err
	}
	alt, err := smbcrypto.AltSigningKey(c.dialect, sessionKey, hash, uint16(c.cipher))
	if err != nil {
		return nil, err
	}
	return s, s.AcceptAlso(alt)
}

// endPrevious ends the session that the client had before its connection was
// lost, if it is the same user's.
func (c *conn) endPrevious(sess *session, id uint64, r *request) {
	old := c.srv.findSession(id)
	if old == nil || old == sess || old.currentState() == sessionInProgress || old.userKey() == "" || old.userKey() != sess.userKey() {
		return
	}
	c.srv.endSession(old, r)
	// The loss of its connection may have been noticed at the same time: what it leaves
	// to be claimed has to be there when this is answered.
	select {
	case <-old.left:
	case <-c.ctx.Done():
	}
	// What the old session has begun to write must not come after what the client, which
	// opens its files again by name, writes when this is answered.
	ctx, cancel := context.WithTimeout(c.ctx, reclaimGrace)
	defer cancel()
	for _, o := range c.srv.allConns() {
		o.awaitRequests(ctx, r, func(q *request) bool { return q.sess == old && q.chain != r.chain })
	}
}

// bindSession makes this connection a further channel of a session:
// [MS-SMB2] 3.3.5.5 with SMB2_SESSION_FLAG_BINDING.
func bindSession(ctx context.Context, r *request, req *smb2.SessionSetupRequest) ntstatus.Status {
	c := r.conn
	sess := c.srv.findSession(r.hdr.SessionID)
	if sess != nil && r.signedOK {
		r.signer = sess.signer // also of a refusal: there is no other key yet
	}
	switch {
	case sess == nil, sess.gone.Load():
		return ntstatus.UserSessionDeleted
	case !sess.isValid():
		return ntstatus.RequestNotAccepted
	case sess.who().anonymous || sess.who().guest:
		return ntstatus.NotSupported
	// As on Windows: AES-GMAC needs a key of its own kind on all channels.
	case sess.signing == smbcrypto.AESGMAC && c.signing != sess.signing:
		return ntstatus.RequestOutOfSequence
	case c.signing == smbcrypto.AESGMAC && c.signing != sess.signing:
		return ntstatus.NotSupported
	case c.dialect < Dialect300 || c.serverCaps&smb2.GlobalCapMultiChannel == 0:
		return ntstatus.RequestNotAccepted
	case sess.dialect != c.dialect, !r.signedOK:
		return ntstatus.InvalidParameter
	case sess.cipher != c.cipher:
		return ntstatus.InvalidParameter // its messages could not be decrypted here
	case c.channel(sess.id) != nil:
		return ntstatus.RequestNotAccepted
	}
	r.signer = sess.signer // also of a refusal
	b, st := c.beginBinding(sess)
	if st != ntstatus.Success {
		return st
	}
	if c.dialect == Dialect311 {
		b.preauth.Update(r.msg)
	}
	token, done, err := c.step(ctx, b.auth, req.SecurityBuffer)
	if err != nil {
		c.endBinding(sess.id, b)
		c.refused("binding", b.auth, err)
		return authStatus(err)
	}
	resp := smb2.SessionSetupResponse{SecurityBuffer: token}
	if !done {
		r.onSend = func(parts ...[]byte) {
			b.preauth.Update(parts...)
			c.chanMu.Lock()
			b.busy = false
			c.chanMu.Unlock()
		}
		if r.out, err = resp.AppendBinary(r.out); err != nil {
			return r.appended(err)
		}
		return ntstatus.MoreProcessingRequired
	}
	c.endBinding(sess.id, b)
	who := b.auth.ntlm.Result()
	if who.Guest || who.Anonymous || foldName(who.User) != foldName(sess.who().user) {
		c.log.Info("binding as another user", "user", sess.who().user, "as", who.User)
		return ntstatus.NotSupported
	}
	key, err := smbcrypto.ChannelSigningKey(c.dialect, who.SessionKey[:], b.preauth[:])
	ch := &channel{sess: sess, conn: c}
	if err == nil {
		ch.signer, err = c.newSigner(key, who.SessionKey[:], b.preauth[:])
	}
	if err != nil {
		c.log.Error("channel key", "err", err)
		return ntstatus.InternalError
	}
	// What the client wants of a session it says when it makes it, 3.3.1.8.
	ch.mustSign = sess.wantsSigning || c.signingPolicy()
	sess.mu.Lock()
	if sess.state != sessionValid {
		sess.mu.Unlock()
		return ntstatus.UserSessionDeleted
	}
	if len(sess.channels) >= maxChannels {
		sess.mu.Unlock()
		return ntstatus.InsufficientResources
	}
	sess.channels[c] = ch
	sess.cut.Store(false)
	sess.mu.Unlock()
	c.setChannel(ch)
	if sess.gone.Load() { // ended in between, before it could see this channel
		c.dropSession(sess)
		return ntstatus.UserSessionDeleted
	}
	c.srv.introduced(c)
	r.setSession(ch)
	r.signer = ch.signer
	resp.SessionFlags = sess.flags
	c.log.Info("session bound", "user", sess.who().user, "sid", sess.id)
	r.out, err = resp.AppendBinary(r.out)
	return r.appended(err)
}

// beginBinding returns the binding of a session under way, or a new one, for
// one request at a time.
func (c *conn) beginBinding(sess *session) (*binding, ntstatus.Status) {
	c.chanMu.Lock()
	defer c.chanMu.Unlock()
	b := c.binding[sess.id]
	if b == nil {
		if len(c.binding)+len(c.channels) >= c.srv.cfg.Limits.SessionsPerConn {
			return nil, ntstatus.InsufficientResources
		}
		auth, err := c.srv.newAuthentication()
		if err != nil {
			c.log.Error("authentication", "err", err)
			return nil, ntstatus.InternalError
		}
		b = &binding{auth: auth, preauth: c.preauth}
		c.binding[sess.id] = b
	}
	if b.busy {
		return nil, ntstatus.RequestNotAccepted
	}
	b.busy = true
	return b, ntstatus.Success
}

func (c *conn) endBinding(id uint64, b *binding) {
	c.chanMu.Lock()
	defer c.chanMu.Unlock()
	if c.binding[id] == b {
		delete(c.binding, id)
	}
}
