package client

import (
	"context"
	"errors"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// message takes one message from the transport apart, [MS-SMB2] 3.2.5.1. An error
// means that the connection has ended.
func (c *conn) message(in *inbound) error {
	msg := in.r.Data
	sec := c.sec.Load()
	encrypted := false
	switch id := smb2.PeekProtocolID(msg); id {
	case smb2.ProtocolSMB2:
	case smb2.ProtocolTransform:
		sid, ok := smbcrypto.TransformSessionID(msg)
		if !ok || sec == nil || sec.opener == nil || sid != sec.sessionID {
			return c.protocolError("3.2.5.1.1", "encrypted message for session 0x%x, which has no key here", sid)
		}
		plain, err := sec.opener.Open(msg)
		if err != nil {
			return c.protocolError("3.2.5.1.1", "encrypted message: %v", err)
		}
		msg, encrypted = plain, true
	default:
		return c.protocolError("3.2.5.1", "message with ProtocolId 0x%08X", uint32(id))
	}
	for m, err := range smb2.Compound(msg) {
		if err != nil {
			return c.protocolError("3.2.5.1.9", "%v", err)
		}
		h, err := smb2.ParseHeader(m)
		if err != nil {
			return c.protocolError("3.2.5.1", "%v", err)
		}
		if err := c.answer(in, m, h, sec, encrypted); err != nil {
			return err
		}
	}
	return nil
}

// answer hands one answer to its call.
func (c *conn) answer(in *inbound, msg []byte, h smb2.Header, sec *security, encrypted bool) error {
	if !h.IsResponse() {
		return c.protocolError("3.2.5.1", "a request from the server: %v", h.Command)
	}
	if encrypted && h.SessionID != sec.sessionID {
		return c.protocolError("3.2.5.1.1", "encrypted message has session 0x%x inside", h.SessionID)
	}
	if h.MessageID == smb2.NoMessageID {
		return c.unsolicited(msg, h, sec)
	}
	c.mu.Lock()
	k := c.pending[h.MessageID]
	if k == nil || k.cmd != h.Command {
		lost := c.err
		c.mu.Unlock()
		if lost != nil {
			return lost
		}
		if k == nil {
			return c.protocolError("3.2.5.1.2", "answer to message %d, which is not outstanding", h.MessageID)
		}
		return c.protocolError("3.2.5.1.2", "%v answer to %v message %d", h.Command, k.cmd, h.MessageID)
	}
	if !k.onWire {
		c.mu.Unlock()
		return c.protocolError("3.2.5.1.2", "answer to message %d, which was not sent yet", h.MessageID)
	}
	raw, wantSigned, wantEncrypted, lease := k.protect&(protectRaw|protectBind) != 0, k.signed, k.encrypted, k.lease
	c.mu.Unlock()

	interim := h.Status == ntstatus.Pending && h.IsAsync()
	// [MS-SMB2] 3.2.5.1.3: interim answers may be unsigned; answers of a session
	// set-up are checked by who knows the keys.
	switch {
	case raw || encrypted:
	case wantEncrypted:
		return c.unprotected(h, "not encrypted")
	case h.IsSigned() && sec != nil && sec.signer != nil:
		if err := sec.signer.Verify(msg); err != nil {
			if h.Status == ntstatus.UserSessionDeleted { // servers without a key return the request's
				return c.unprotected(h, "not signed with the session's key")
			}
			return c.protocolError("3.2.5.1.3", "%v answer to message %d: %v", h.Command, h.MessageID, err)
		}
	case wantSigned && !interim:
		return c.unprotected(h, "not signed")
	}
	if h.Status == ntstatus.UserSessionDeleted && c.sess.reconnects() && h.Command != smb2.CommandLogoff && c.isChannel() {
		return c.sess.closedByServer(c)
	}
	if lease != nil {
		if err := c.sess.granted(c, lease, h, msg); err != nil {
			return c.protocolError("3.2.5.7.5", "%v", err)
		}
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if c.pending[h.MessageID] != k {
		// It could not be sent after all, so this answers nothing. The request
		// may be another one by now.
		return nil
	}
	c.credits = min(c.credits+int(h.Credits), maxGranted)
	if !k.async { // an interim answer has brought the credits already
		c.owing--
		c.owed -= int(k.charge)
	}
	if interim {
		k.async, k.asyncID = true, h.AsyncID
		c.pump()
		return nil
	}
	delete(c.pending, h.MessageID)
	if k.changes && k.file != nil {
		k.file.changes.Add(1) // before the connection can fail
	}
	c.pump()
	c.counters.responses.Add(1)
	if k.gone {
		k.forsaken()
		c.lateAnswer(k, msg, h)
		return nil
	}
	in.refs.Add(1)
	k.resp, k.msg, k.in, k.answerSealed, k.state = h, msg, in, encrypted, callAnswered
	if k.parked {
		c.unpark(k)
		k.woken = true
		c.woken.Add(1)
	}
	k.wake()
	return nil
}

// unprotected ends the connection over an answer that lacks the protection that
// its request had. A server that has deleted the session has no keys any more to
// do better, so that is said by name.
func (c *conn) unprotected(h smb2.Header, how string) error {
	if h.Status == ntstatus.UserSessionDeleted || h.Status == ntstatus.NetworkNameDeleted {
		return c.fail(&ProtocolError{Section: "3.2.5.1.3", Problem: how, Err: h.Status})
	}
	return c.protocolError("3.2.5.1.3", "%v answer to message %d is %s", h.Command, h.MessageID, how)
}

// unsolicited deals with messages that answer nothing: breaks of leases, of oplocks,
// which this client never takes, and notifications.
func (c *conn) unsolicited(msg []byte, h smb2.Header, sec *security) error {
	switch h.Command {
	case smb2.CommandOplockBreak: // unsigned by [MS-SMB2] 3.3.4.6, 3.3.4.7
		if smb2.IsLeaseBreak(msg) {
			n, err := smb2.ParseLeaseBreakNotification(msg)
			if err != nil {
				return c.badBody(h.Command, err)
			}
			c.sess.leaseBroken(c, &n)
			return nil
		}
		c.log.Debug("oplock break ignored", "conn", c.tr.RemoteAddr())
		return nil
	case smb2.CommandServerToClientNotification: // 3.2.5.1.10
		n, err := smb2.ParseServerToClientNotification(msg)
		if err != nil {
			return c.badBody(h.Command, err)
		}
		if n.NotificationType == smb2.NotifySessionClosed && sec != nil && h.SessionID == sec.sessionID {
			return c.sess.closedByServer(c) // on all channels
		}
		return nil
	}
	return c.protocolError("3.2.5.1.2", "unsolicited %v", h.Command)
}

var errSessionClosed = errors.New("the server closed the session")

// lateAnswer looks at the answer to an abandoned call: what a CREATE has opened
// meanwhile must be closed. Called with mu held.
func (c *conn) lateAnswer(k *call, msg []byte, h smb2.Header) {
	if k.cmd != smb2.CommandCreate || h.Status != ntstatus.Success || len(c.orphans) >= maxOrphans {
		return
	}
	if m, err := smb2.ParseCreateResponse(msg); err == nil {
		c.orphans = append(c.orphans, orphan{k.treeID, k.protect, m.FileID})
	}
}

// disown has what a CREATE has opened closed, where its caller has no use for it.
func (k *call) disown() {
	if k.gone || k.msg == nil {
		return // there is no answer yet, or none that its caller may look at
	}
	k.conn.mu.Lock()
	defer k.conn.mu.Unlock()
	k.conn.lateAnswer(k, k.msg, k.resp)
}

// closeOrphans sends a CLOSE for every open whose CREATE was abandoned. Nobody
// waits for the answers.
func (c *conn) closeOrphans(ctx context.Context) {
	for {
		c.mu.Lock()
		n := len(c.orphans)
		if n == 0 || c.owing == 0 && c.credits == 0 {
			c.mu.Unlock()
			return
		}
		o := c.orphans[n-1]
		c.orphans = c.orphans[:n-1]
		c.mu.Unlock()
		k := c.newCall(smb2.CommandClose)
		k.treeID, k.protect = o.treeID, o.protect
		if k.encode(&smb2.CloseRequest{FileID: o.id}) == nil && c.start(ctx, k.self[:]) == nil {
			c.mu.Lock()
			k.gone = k.state != callAnswered // else it is ours, with its answer
			c.mu.Unlock()
		}
		k.free()
	}
}
