package server

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// tree is a connection of a session to a share: [MS-SMB2] 3.3.1.9. Its fields
// do not change.
type tree struct {
	id    uint32
	sess  *session
	share *Share // never nil; that of IPC$ has no FS
	// user is who files are used as; nil stands for the session's user, on IPC$.
	user *accessToken
	// as is who has connected. If the session has become another user's since, that
	// one acts for himself.
	as  *logon
	ipc bool
	// maxAccess is TreeConnect.MaximalAccess, an ACCESS_MASK.
	maxAccess uint32
	// encrypt refuses requests that did not come encrypted.
	encrypt bool
	// peer is where the client connected from.
	peer net.Addr
	// view is what the share holds, with the rights of the tree's user; nil for IPC$.
	view vfs.FS
	// release gives back what Share.Open has found; nil without.
	release func()
	holds   atomic.Int32 // beside the tree's own; below 0 when it has been given back
	// readOnlyNow is what readOnly reports; a change of the configuration changes it.
	readOnlyNow atomic.Bool
	// gone is set when the tree ends, before its opens are closed: who adds an
	// open after that must take it back.
	gone atomic.Bool
}

// fs is what the share holds, nil for IPC$.
func (t *tree) fs() vfs.FS { return t.view }

// readOnly reports whether changes are refused.
func (t *tree) readOnly() bool { return t.readOnlyNow.Load() }

// rights are those that opens may have now: the tree's, as far as the share still
// takes changes.
func (t *tree) rights() smb2.AccessMask {
	if t.readOnly() {
		return smb2.AccessMask(t.maxAccess & accessShareRead)
	}
	return smb2.AccessMask(t.maxAccess)
}

// end says that the tree is gone. The opens of it may still be closed.
func (t *tree) end() {
	if !t.gone.Swap(true) {
		t.drop()
	}
}

// hold keeps what the tree holds beyond its end, until drop is called.
func (t *tree) hold() { t.holds.Add(1) }

func (t *tree) drop() {
	if t.holds.Add(-1) < 0 && t.release != nil {
		t.release()
	}
}

var ipcShare = Share{Name: "IPC$", Comment: "Remote IPC", Hidden: true}

// Access masks of shares, [MS-SMB2] 2.2.13.1.
const (
	accessShareAll  uint32 = 0x001F01FF
	accessShareRead uint32 = 0x001200A9
)

// treeConnect is [MS-SMB2] 3.3.5.7.
func treeConnect(ctx context.Context, r *request) ntstatus.Status {
	c, sess := r.conn, r.sess
	if c.dialect == Dialect311 && !sess.who().anonymous && !sess.who().guest && !r.signedOK && !r.encrypted {
		r.conn.fail("TREE_CONNECT neither signed nor encrypted, [MS-SMB2] 3.3.5.7")
		return ntstatus.AccessDenied
	}
	req, err := smb2.ParseTreeConnectRequest(r.msg)
	if err != nil {
		return ntstatus.InvalidParameter
	}
	path := smb2.DecodeUTF16(req.Path)
	// \\server\share, 2.2.9. Which name of ours the client used does not matter.
	rest, ok := strings.CutPrefix(path, `\\`)
	host, name, ok2 := strings.Cut(rest, `\`)
	if !ok || !ok2 || host == "" || name == "" || strings.Contains(name, `\`) {
		return ntstatus.InvalidParameter
	}
	conf := c.srv.live.Load()
	share := c.srv.findShare(sess, name)
	if share == nil {
		return ntstatus.BadNetworkName
	}
	refuse := func(why string, st ntstatus.Status) ntstatus.Status {
		c.log.Info("tree connect refused", "user", sess.who().user, "share", share.Name, "why", why)
		c.srv.audit(c, AuditEvent{Kind: AuditTree, User: sess.userName(), Share: share.Name, Status: st})
		return st
	}
	if share.Encrypt && sess.sealer == nil {
		return refuse("the share wants encryption", ntstatus.AccessDenied)
	}
	encrypt := share.Encrypt || sess.encryptData || share.EncryptionDesired && sess.sealer != nil ||
		share.RequireSigning && r.encrypted // then it stays so
	if share.RequireSigning && !encrypt && !(r.signedOK && r.ch.mustSign) {
		return refuse("the share wants signing", ntstatus.AccessDenied)
	}
	t := &tree{sess: sess, as: sess.who(), share: share, ipc: share == &ipcShare, encrypt: encrypt, maxAccess: accessShareAll, peer: c.tc.RemoteAddr()}
	grant, st := c.srv.admit(ctx, t.as, t.peer, share)
	if st != ntstatus.Success {
		return refuse("the user or his address may not", st)
	}
	if !t.ipc {
		if st := t.attach(ctx, t.as, grant); st != ntstatus.Success {
			return refuse("what it holds cannot be reached", st)
		}
	}
	entered := false
	defer func() {
		if !entered {
			t.end()
		}
	}()
	t.user = c.srv.treeToken(t.as, grant)
	t.readOnlyNow.Store(grant.readOnly)
	if grant.readOnly {
		t.maxAccess = accessShareRead
	}
	sess.mu.Lock()
	if sess.state != sessionValid {
		sess.mu.Unlock()
		return ntstatus.UserSessionDeleted
	}
	if len(sess.trees) >= c.srv.cfg.Limits.TreesPerSession {
		sess.mu.Unlock()
		return ntstatus.InsufficientResources
	}
	for {
		sess.nextTree++
		if _, used := sess.trees[sess.nextTree]; !used && sess.nextTree != 0 && sess.nextTree != ^uint32(0) {
			break
		}
	}
	t.id = sess.nextTree
	sess.trees[t.id] = t
	entered = true
	sess.mu.Unlock()
	// A Reload that has not seen the tree has put its configuration there before.
	if c.srv.live.Load() != conf && !c.srv.admitsNow(ctx, t) {
		c.srv.endTree(t, r)
		return refuse("the configuration has changed", ntstatus.AccessDenied)
	}
	if !t.ipc {
		c.srv.audit(c, AuditEvent{Kind: AuditTree, User: sess.userName(), Share: share.Name, Account: grant.account.Name})
	}

	r.setTree(t)
	resp := smb2.TreeConnectResponse{ShareType: smb2.ShareTypeDisk, MaximalAccess: smb2.AccessMask(t.maxAccess)}
	if t.ipc {
		resp.ShareType = smb2.ShareTypePipe
		resp.ShareFlags = smb2.ShareFlagNoCaching
	}
	if (share.Encrypt || share.EncryptionDesired && sess.sealer != nil) && c.dialect >= Dialect300 {
		resp.ShareFlags |= smb2.ShareFlagEncryptData
	}
	if share.HideUnreadable {
		resp.ShareFlags |= smb2.ShareFlagAccessBasedDirectoryEnum
	}
	if t.continuous(c) {
		resp.Capabilities |= smb2.ShareCapContinuousAvailability
	}
	r.out, err = resp.AppendBinary(r.out)
	return r.appended(err)
}

// treeDisconnect is [MS-SMB2] 3.3.5.8.
func treeDisconnect(ctx context.Context, r *request) ntstatus.Status {
	if _, err := smb2.ParseTreeDisconnectRequest(r.msg); err != nil {
		return ntstatus.InvalidParameter
	}
	t := r.tree
	if !r.srv.endTree(t, r) {
		return ntstatus.NetworkNameDeleted
	}
	r.out = appendEmpty4(r.out)
	return ntstatus.Success
}

// endTree takes a tree out of its session, cancels its requests but for self and closes
// what it has open; false if it has ended already.
func (s *Server) endTree(t *tree, self *request) bool {
	if !s.cutTree(t, self) {
		return false
	}
	defer t.drop() // when the opens are closed
	s.closeTreeOpens(t)
	return true
}

// cutTree is the part of endTree that waits for nobody: no request finds the tree any
// more, and those under way but for self are cancelled. The caller closes what is open
// in it, and then drops the hold that it has on the tree; there is neither if it has
// ended already.
func (s *Server) cutTree(t *tree, self *request) bool {
	t.sess.mu.Lock()
	if t.sess.trees[t.id] != t {
		t.sess.mu.Unlock()
		return false
	}
	delete(t.sess.trees, t.id)
	t.sess.mu.Unlock()
	t.hold()
	t.end()
	for _, c := range t.sess.conns() {
		c.cancelWhere(func(o *request) bool { return o.tree == t && o != self })
	}
	t.sess.mu.Lock()
	t.sess.cancelLastingLocked(func(o *request) bool { return o.tree == t && o != self })
	t.sess.mu.Unlock()
	return true
}

// attach finds what the share holds, as the user sees it.
func (t *tree) attach(ctx context.Context, user *logon, a *admission) ntstatus.Status {
	fsys := t.share.FS
	if t.share.Open != nil {
		var err error
		if fsys, t.release, err = t.share.Open(ctx, t.client(user, a)); err != nil {
			t.release = nil
			t.sess.srv.log.Error("share cannot be opened", "share", t.share.Name, "user", t.sess.who().user, "err", err)
			if errors.Is(err, fs.ErrNotExist) {
				return ntstatus.BadNetworkName
			}
			return ntstatus.FromError(err)
		}
	}
	view, err := asUser(fsys, a)
	if err != nil {
		if t.release != nil {
			t.release()
			t.release = nil
		}
		t.sess.srv.log.Error("cannot act as the user", "share", t.share.Name, "user", t.sess.who().user, "uid", a.account.UID, "err", err)
		return ntstatus.AccessDenied
	}
	t.view = view
	return ntstatus.Success
}

// client says who connects, as he was admitted.
func (t *tree) client(user *logon, a *admission) Client {
	c := clientOf(t.share, user, a, t.peer)
	c.Dialect = t.sess.dialect
	return c
}

// holdsFor reports whether the share holds the same for who is admitted now as for who
// has connected.
func (t *tree) holdsFor(ctx context.Context, user *logon, a *admission) bool {
	if t.share.Open == nil {
		return true
	}
	fsys, release, err := t.share.Open(ctx, t.client(user, a))
	if err != nil {
		return false
	}
	defer release()
	return vfs.Base(fsys) == vfs.Base(t.view)
}

// viewNow is the view of the session's user as of now, who may be another than who has
// connected: he has what a connect of his own would give him, if that is not less than
// the tree promises.
func (t *tree) viewNow(ctx context.Context) (vfs.FS, ntstatus.Status) {
	who := t.sess.who()
	if t.as == nil || t.as.same(who) {
		return t.view, ntstatus.Success
	}
	grant, st := t.sess.srv.admit(ctx, who, t.peer, t.share)
	if st != ntstatus.Success || grant.readOnly && !t.readOnly() || !t.holdsFor(ctx, who, grant) {
		return nil, ntstatus.AccessDenied
	}
	view, err := asUser(vfs.Base(t.view), grant)
	if err != nil {
		t.sess.srv.log.Error("cannot act as the user", "share", t.share.Name, "user", t.sess.who().user, "uid", grant.account.UID, "err", err)
		return nil, ntstatus.AccessDenied
	}
	return view, ntstatus.Success
}

// asUser is a view of fsys with the rights of who was admitted: his own where the server
// can give him those, the server's where the operating system does not know him, or he
// is an administrator of the share.
func asUser(fsys vfs.FS, a *admission) (vfs.FS, error) {
	if !a.known || a.admin {
		return fsys, nil
	}
	if own, ok := fsys.(vfs.OwnerView); ok {
		return own.OwnedBy(a.account.UID, a.account.GID), nil
	}
	imp, ok := fsys.(vfs.Impersonator)
	if !ok || os.Geteuid() != 0 {
		return fsys, nil
	}
	return imp.As(vfs.Credentials{UID: a.account.UID, GID: a.account.GID, Groups: a.account.GIDs})
}

// appendEmpty4 appends a response body that is its StructureSize of 4 and two
// reserved octets: ECHO, LOGOFF, TREE_DISCONNECT, FLUSH.
func appendEmpty4(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, 4) }
