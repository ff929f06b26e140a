package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// Share is a connected share.
type Share struct {
	s       *Session
	name    string
	treeID  atomic.Uint32
	kind    smb2.ShareType
	protect protection // of every request: protectEncrypt if the share wants that
	closed  atomic.Bool
	noPosix bool // the share has no POSIX extensions though the session has
	// continuous: IsCAShare, opens can be persistent.
	continuous bool
	// lost is why it could not be connected to again, after it was.
	lost atomic.Pointer[error]
	// cluster is what cloneUnit has found out: bytes, -1 for none, 0 before.
	cluster atomic.Int64
}

// lostErr is why the share is not there any more.
func (sh *Share) lostErr() error {
	if p := sh.lost.Load(); p != nil {
		return *p
	}
	return nil
}

// tree is the TreeId for a request.
func (sh *Share) tree() (uint32, error) {
	if err := sh.lostErr(); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrStale, err)
	}
	return sh.treeID.Load(), nil
}

// Mount connects to a share of the server, by its name alone, as "data". Errors:
// fs.ErrNotExist, fs.ErrPermission, ErrDFS ([MS-SMB2] 3.2.4.2.4).
func (s *Session) Mount(ctx context.Context, share string) (*Share, error) {
	sh, err := s.mount(ctx, share)
	return sh, wrap("mount", share, err)
}

func (s *Session) mount(ctx context.Context, share string) (*Share, error) {
	if share == "" || strings.ContainsAny(share, "\\/\x00") {
		return nil, fmt.Errorf("not the name of a share: %w", ntstatus.InvalidParameter)
	}
	sh := &Share{s: s, name: share}
	k := s.newCall(smb2.CommandTreeConnect)
	defer k.free()
	for entered := false; !entered; entered = s.enter(k.conn, sh, nil) {
		k.dropAnswer() // of a session that is gone
		m, err := s.treeConnect(ctx, s.main(), k, sh)
		if err != nil {
			return nil, err
		}
		sh.treeID.Store(k.resp.TreeID)
		sh.kind, sh.continuous = m.ShareType, m.Capabilities&smb2.ShareCapContinuousAvailability != 0
		if m.ShareFlags&smb2.ShareFlagDFSRoot != 0 || m.Capabilities&smb2.ShareCapDFS != 0 {
			sh.unmountQuietly(ctx)
			return nil, ErrDFS
		}
		if sh.protect, err = sh.protectionFor(k.conn, &m); err != nil {
			sh.unmountQuietly(ctx)
			return nil, err
		}
	}
	if err := s.validateNegotiate(ctx, k.conn, sh); err != nil {
		// What is lost with its channel need not be validated; the one that is left
		// has been, when it was bound.
		if pe := (*ProtocolError)(nil); errors.As(err, &pe) || !s.survives(ctx, k) {
			return nil, err
		}
	}
	if err := sh.probePosix(ctx); err != nil {
		sh.unmountQuietly(ctx)
		return nil, err
	}
	return sh, nil
}

// treeConnect sends TREE_CONNECT.
func (s *Session) treeConnect(ctx context.Context, c *conn, k *call, sh *Share) (m smb2.TreeConnectResponse, err error) {
	path := smb2.EncodeUTF16(`\\` + s.server + `\` + sh.name)
	if len(path) > 0xFFFF {
		return m, ntstatus.InvalidParameter
	}
	if k.protect = 0; c.neg.dialect == SMB311 {
		k.protect = protectSign // [MS-SMB2] 3.2.4.2.4: signed or encrypted
	}
	k.buf = k.buf[:smb2.HeaderSize]
	if err := k.encode(&smb2.TreeConnectRequest{Path: path}); err != nil {
		return m, err
	}
	if err := s.doOn(ctx, c, k); err != nil {
		return m, err
	}
	if m, err = smb2.ParseTreeConnectResponse(k.msg); err != nil {
		return m, k.badBody(err)
	}
	return m, nil
}

// protectionFor is what requests to the share need, as its server says.
func (sh *Share) protectionFor(c *conn, m *smb2.TreeConnectResponse) (protection, error) {
	switch {
	case m.ShareFlags&smb2.ShareFlagEncryptData == 0 || c.neg.dialect < SMB300:
		return 0, nil
	case c.sec.Load().sealer == nil:
		return 0, fmt.Errorf("the share requires encryption, and this session has none: %w", ntstatus.AccessDenied)
	}
	return protectEncrypt, nil
}

// validateNegotiate asks the server, in a signed message, what was negotiated, and
// ends the connection if somebody has tampered with that ([MS-SMB2] 3.2.5.5 and
// 3.2.5.14.12). Dialect 3.1.1 has its preauthentication integrity instead. It is
// done once for a connection, which is lost if it is not done.
func (s *Session) validateNegotiate(ctx context.Context, c *conn, sh *Share) error {
	n := c.neg
	if n.dialect == SMB311 || s.cfg.MaxDialect < SMB300 || c.sec.Load().signer == nil {
		return nil
	}
	c.validate.Lock()
	defer c.validate.Unlock()
	if c.valid {
		return nil
	}
	req := smb2.ValidateNegotiateInfoRequest{
		Capabilities: n.clientCaps, GUID: s.cfg.ClientGUID, SecurityMode: n.clientMode, Dialects: n.clientDialects,
	}
	in, err := req.AppendBinary(nil)
	if err != nil {
		return err
	}
	k, out, err := sh.ioctlOn(ctx, c, smb2.FsctlValidateNegotiateInfo, smb2.AnyFileID, in, 24, protectSign|protectStay)
	var st ntstatus.Status
	switch {
	case errors.As(err, &st) && st.IsError() && c.failed() == nil && st != ntstatus.AccessDenied:
		// A server older than the request refuses it, and has signed that.
		c.valid = true
		return nil
	case err != nil:
		return err
	}
	defer k.free()
	r, err := smb2.ParseValidateNegotiateInfoResponse(out)
	if err != nil {
		return k.badBody(err)
	}
	if r.Capabilities != n.capabilities || r.GUID != n.serverGUID || r.SecurityMode != n.serverMode || Dialect(r.Dialect) != n.dialect {
		return k.protocolError("3.2.5.14.12", "the negotiation was tampered with: the server meant dialect %v, capabilities 0x%x, mode 0x%x",
			r.Dialect, uint32(r.Capabilities), uint16(r.SecurityMode))
	}
	c.valid = true
	return nil
}

// Name is the name of the share as given to Mount.
func (sh *Share) Name() string { return sh.name }

// Session is the session that the share belongs to.
func (sh *Share) Session() *Session { return sh.s }

// Encrypted says whether requests to this share are encrypted.
func (sh *Share) Encrypted() bool {
	return sh.protect&protectEncrypt != 0 || sh.s.main().sec.Load().encrypt
}

// Unmount disconnects the share; the server closes its files. A second call fails
// with ErrClosed.
func (sh *Share) Unmount(ctx context.Context) error {
	if sh.closed.Swap(true) {
		return wrap("unmount", sh.name, ErrClosed)
	}
	sh.s.leave(sh, nil)
	k := sh.call(smb2.CommandTreeDisconnect)
	defer k.free()
	k.session = sh.s.current()
	if err := k.encode(&smb2.TreeDisconnectRequest{}); err != nil {
		return wrap("unmount", sh.name, err)
	}
	err := sh.s.do(ctx, k)
	if errors.Is(err, errSessionChanged) || errors.Is(err, ErrStale) {
		err = nil // it has ended with its session
	}
	return wrap("unmount", sh.name, err)
}

// unmountQuietly is for shares that the caller has not seen.
func (sh *Share) unmountQuietly(ctx context.Context) {
	if err := sh.Unmount(ctx); err != nil {
		sh.s.cfg.Logger.Debug("unmount", "share", sh.name, "err", err)
	}
}

// call leases a call for this share.
func (sh *Share) call(cmd smb2.Command) *call {
	k := sh.s.newCall(cmd)
	k.sh, k.treeID, k.protect = sh, sh.treeID.Load(), sh.protect
	return k
}

// ioctl sends an FSCTL with at most maxOut bytes of output, which is part of the
// call's answer: the caller frees the call once done with it. Statuses in also are
// successes. On an error there is no call to free.
func (sh *Share) ioctl(ctx context.Context, code smb2.CtlCode, id smb2.FileID, in []byte, maxOut int, p protection,
	also ...ntstatus.Status) (*call, []byte, error) {
	return sh.ioctlOn(ctx, sh.s.main(), code, id, in, maxOut, p, also...)
}

// ioctlOn is ioctl on a connection of the caller's choice.
func (sh *Share) ioctlOn(ctx context.Context, c *conn, code smb2.CtlCode, id smb2.FileID, in []byte, maxOut int, p protection,
	also ...ntstatus.Status) (*call, []byte, error) {
	return sh.ioctlCall(ctx, c, sh.call(smb2.CommandIoctl), code, id, in, maxOut, p, also...)
}

// ioctl is Share.ioctl about the open.
func (f *File) ioctl(ctx context.Context, code smb2.CtlCode, in []byte, maxOut int, p protection,
	also ...ntstatus.Status) (*call, []byte, error) {
	id, err := f.handle()
	if err != nil {
		return nil, nil, err
	}
	return f.sh.ioctlCall(ctx, f.sh.s.main(), f.call(smb2.CommandIoctl), code, id, in, maxOut, p, also...)
}

// ioctlIn is ioctl with something in its input that is good in one session, which current
// has returned. In another it fails with errSessionChanged.
func (f *File) ioctlIn(ctx context.Context, session uint64, code smb2.CtlCode, in []byte, maxOut int,
	also ...ntstatus.Status) (*call, []byte, error) {
	id, err := f.handle()
	if err != nil {
		return nil, nil, err
	}
	k := f.call(smb2.CommandIoctl)
	k.session = session
	return f.sh.ioctlCall(ctx, f.sh.s.main(), k, code, id, in, maxOut, 0, also...)
}

// ioctlCall does so with a call, which it frees if there is an error.
func (sh *Share) ioctlCall(ctx context.Context, c *conn, k *call, code smb2.CtlCode, id smb2.FileID, in []byte, maxOut int, p protection,
	also ...ntstatus.Status) (*call, []byte, error) {
	k.protect |= p &^ (protectOnce | protectStay)
	k.once, k.stay = p&protectOnce != 0, p&protectStay != 0
	switch code {
	case smb2.FsctlSrvCopychunkWrite, smb2.FsctlDuplicateExtentsToFile, smb2.FsctlSetZeroData, smb2.FsctlSetSparse, smb2.FsctlSetCompression:
		k.changes = true
	}
	err := k.encode(&smb2.IoctlRequest{
		CtlCode: code, FileID: id, MaxOutputResponse: uint32(maxOut), Flags: smb2.IoctlFlagIsFsctl, Input: in,
	})
	if err == nil {
		err = sh.s.doOn(ctx, c, k, also...)
	}
	if err != nil {
		k.free()
		return nil, nil, err
	}
	m, err := smb2.ParseIoctlResponse(k.msg)
	switch {
	case err != nil && k.resp.Status != ntstatus.Success:
		err = k.resp.Status // an ERROR response: the status is all there is
	case err != nil:
		err = k.badBody(err)
	case len(m.Output) > maxOut:
		err = k.protocolError("3.2.5.14", "%d bytes of output, %d asked for", len(m.Output), maxOut)
	case m.CtlCode != code:
		err = k.protocolError("3.2.5.14", "CtlCode 0x%08X in the answer to 0x%08X", uint32(m.CtlCode), uint32(code))
	}
	if err != nil {
		k.free()
		return nil, nil, err
	}
	return k, m.Output, nil
}
