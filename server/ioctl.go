package server

import (
	"context"
	"slices"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// ioctl is [MS-SMB2] 3.3.5.15.
func ioctl(ctx context.Context, r *request) ntstatus.Status {
	req, err := smb2.ParseIoctlRequest(r.msg)
	if err != nil {
		return ntstatus.InvalidParameter
	}
	c := r.conn
	if req.Flags != smb2.IoctlFlagIsFsctl {
		return ntstatus.NotSupported
	}
	if limit := uint64(c.maxTransact); uint64(len(req.Input)) > limit ||
		uint64(req.MaxInputResponse) > limit || uint64(req.MaxOutputResponse) > limit {
		return ntstatus.InvalidParameter
	}
	maxOut := min(int(req.MaxOutputResponse), r.room())
	var out []byte
	var st ntstatus.Status
	switch req.CtlCode {
	case smb2.FsctlDFSGetReferrals, smb2.FsctlDFSGetReferralsEx, smb2.FsctlQueryNetworkInterfaceInfo,
		smb2.FsctlValidateNegotiateInfo, smb2.FsctlPipeWait:
		if req.FileID != smb2.AnyFileID {
			return ntstatus.InvalidParameter
		}
		out, st = r.fsctl(&req, maxOut)
	default:
		o, st2 := r.open(req.FileID)
		if st2 != ntstatus.Success {
			return st2
		}
		defer o.release()
		req.FileID = o.id
		if req.CtlCode == smb2.FsctlPipeTransceive || req.CtlCode == smb2.FsctlPipePeek {
			if !o.isPipe {
				return ntstatus.NotSupported
			}
		}
		if req.CtlCode == smb2.FsctlPipeTransceive {
			out, st = o.pipeTransact(ctx, r, req.Input, maxOut)
		} else {
			out, st = r.srv.fsctlFile(ctx, r, uint32(req.CtlCode), o, req.Input, maxOut)
		}
	}
	if st != ntstatus.Success && st != ntstatus.BufferOverflow && !r.warnData {
		return st
	}
	if len(out) > maxOut {
		return ntstatus.BufferTooSmall
	}
	resp := smb2.IoctlResponse{CtlCode: req.CtlCode, FileID: req.FileID, Output: out}
	if r.out, err = resp.AppendBinary(r.out); err != nil {
		return r.appended(err)
	}
	return st
}

// fsctl serves the FSCTLs that are about the server, not a file.
func (r *request) fsctl(req *smb2.IoctlRequest, maxOut int) ([]byte, ntstatus.Status) {
	switch req.CtlCode {
	case smb2.FsctlQueryNetworkInterfaceInfo:
		return r.conn.interfaceInfo(maxOut)
	case smb2.FsctlValidateNegotiateInfo:
		return r.conn.validateNegotiate(req, maxOut)
	case smb2.FsctlDFSGetReferrals, smb2.FsctlDFSGetReferralsEx:
		// 3.3.5.15.2. Samba's clients ask on IPC$ before every tree connect and take
		// this for "no DFS", as Windows' do.
		return nil, ntstatus.FSDriverRequired
	case smb2.FsctlPipeWait:
		// The pipes that there are always have an instance free; 3.3.5.15.10.
		return nil, ntstatus.Success
	}
	return nil, ntstatus.NotSupported
}

// validateNegotiate is [MS-SMB2] 3.3.5.15.12: what was negotiated is compared
// with what the client says, under a signature, that it sent. A difference is an
// attacker's doing and ends the connection. Of the dialects only the one they lead
// to counts for a server without 3.1.1: what the Linux client says here is then not
// the list that it sent.
func (c *conn) validateNegotiate(req *smb2.IoctlRequest, maxOut int) ([]byte, ntstatus.Status) {
	m, err := smb2.ParseValidateNegotiateInfoRequest(req.Input)
	switch {
	case c.dialect == Dialect311:
		c.fail("VALIDATE_NEGOTIATE_INFO in dialect 3.1.1")
	case err != nil, maxOut < 24:
		c.fail("malformed VALIDATE_NEGOTIATE_INFO", "err", err)
	case c.srv.cfg.MaxDialect >= Dialect311 && !slices.Equal(m.Dialects, c.clientDialects),
		c.choose(m.Dialects) != c.dialect, m.GUID != c.clientGUID,
		m.SecurityMode != c.clientMode, m.Capabilities != c.clientCaps:
		c.fail("NEGOTIATE was tampered with, [MS-SMB2] 3.3.5.15.12")
	default:
		resp := smb2.ValidateNegotiateInfoResponse{
			Capabilities: c.serverCaps, GUID: c.srv.cfg.GUID,
			SecurityMode: c.serverMode, Dialect: smb2.Dialect(c.dialect),
		}
		out, err := resp.AppendBinary(nil)
		if err != nil {
			return nil, ntstatus.InternalError
		}
		return out, ntstatus.Success
	}
	return nil, ntstatus.AccessDenied
}
