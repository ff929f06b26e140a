package server

import (
	"context"
	"encoding/binary"
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
	ipc   bool
	// maxAccess is TreeConnect.MaximalAccess, an ACCESS_MASK.
	maxAccess uint32
	// encrypt refuses requests that did not come encrypted.
	encrypt bool
	// gone is set when the tree ends, before its opens are closed: who adds an
	// open after that must take it back.
	gone atomic.Bool
}

// fs is what the share holds, nil for IPC$.
func (t *tree) fs() vfs.FS { return t.share.FS }

// readOnly reports whether changes are refused.
func (t *tree) readOnly() bool { return t.share.ReadOnly }

var ipcShare = Share{Name: "IPC$", Comment: "Remote IPC", Hidden: true}

// Access masks of shares, [MS-SMB2] 2.2.13.1.
const (
	accessShareAll  uint32 = 0x001F01FF
	accessShareRead uint32 = 0x001200A9
)

// findShare looks a share up by name; nil if there is none.
func (s *Server) findShare(name string) *Share {
	key := foldName(name)
	if key == "IPC$" {
		return &ipcShare
	}
	return s.shares[key]
}

// admits reports whether the session's user may connect to the share.
func (sh *Share) admits(sess *session) bool {
	if sh == &ipcShare {
		return true
	}
	if sess.anonymous || sess.guest {
		return sh.Guest && len(sh.Users) == 0
	}
	for _, u := range sh.Users {
		if foldName(u) == foldName(sess.user) {
			return true
		}
	}
	return len(sh.Users) == 0
}

// treeConnect is [MS-SMB2] 3.3.5.7.
func treeConnect(ctx context.Context, r *request) ntstatus.Status {
	c, sess := r.conn, r.sess
	if c.dialect == Dialect311 && !sess.anonymous && !sess.guest && !r.signedOK && !r.encrypted {
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
	share := c.srv.findShare(name)
	if share == nil {
		return ntstatus.BadNetworkName
	}
	encrypt := share.Encrypt || sess.encryptData
	if share.Encrypt && sess.sealer == nil {
		return ntstatus.AccessDenied
	}
	if !share.admits(sess) {
		return ntstatus.AccessDenied
	}
	t := &tree{sess: sess, share: share, ipc: share == &ipcShare, encrypt: encrypt, maxAccess: accessShareAll}
	if share.ReadOnly {
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
	sess.mu.Unlock()

	r.setTree(t)
	resp := smb2.TreeConnectResponse{ShareType: smb2.ShareTypeDisk, MaximalAccess: smb2.AccessMask(t.maxAccess)}
	if t.ipc {
		resp.ShareType = smb2.ShareTypePipe
		resp.ShareFlags = smb2.ShareFlagNoCaching
	}
	if share.Encrypt && c.dialect >= Dialect300 {
		resp.ShareFlags |= smb2.ShareFlagEncryptData
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
	t.sess.mu.Lock()
	if t.sess.trees[t.id] != t {
		t.sess.mu.Unlock()
		return ntstatus.NetworkNameDeleted
	}
	delete(t.sess.trees, t.id)
	t.sess.mu.Unlock()
	t.gone.Store(true)
	for _, c := range t.sess.conns() {
		c.cancelWhere(func(o *request) bool { return o.tree == t && o != r })
	}
	r.srv.closeTreeOpens(t)
	r.out = appendEmpty4(r.out)
	return ntstatus.Success
}

// appendEmpty4 appends a response body that is its StructureSize of 4 and two
// reserved octets: ECHO, LOGOFF, TREE_DISCONNECT, FLUSH.
func appendEmpty4(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, 4) }
