package client

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/smbd-rdma/smbd-rdma/internal/dcerpc"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// ShareType is the type of a share, [MS-SRVS] 2.2.2.4.
type ShareType uint32

// The types, and the flag of administrative shares.
const (
	ShareDisk    ShareType = 0
	SharePrinter ShareType = 1
	ShareDevice  ShareType = 2
	ShareIPC     ShareType = 3
	ShareHidden  ShareType = 0x80000000
)

// String names the type as smbclient does.
func (t ShareType) String() string {
	switch t &^ (ShareHidden | 0x40000000) {
	case ShareDisk:
		return "Disk"
	case SharePrinter:
		return "Printer"
	case ShareDevice:
		return "Device"
	case ShareIPC:
		return "IPC"
	}
	return "unknown"
}

// ShareInfo is one share as the server lists it.
type ShareInfo struct {
	Name    string
	Type    ShareType
	Comment string
}

// ListShares lists the shares of the server, sorted by name, by NetrShareEnum of
// [MS-SRVS] over the pipe srvsvc of IPC$.
func (s *Session) ListShares(ctx context.Context) ([]ShareInfo, error) {
	list, err := s.listShares(ctx)
	return list, wrap("list shares of", s.server, err)
}

func (s *Session) listShares(ctx context.Context) ([]ShareInfo, error) {
	for try := 0; ; try++ {
		failovers := s.counters.failovers.Load()
		list, err := s.listSharesOnce(ctx)
		// A conversation on a pipe can't go on in the middle on another channel.
		if err == nil || try == maxReplays || s.counters.failovers.Load() == failovers || s.Err() != nil || ctx.Err() != nil {
			return list, err
		}
	}
}

func (s *Session) listSharesOnce(ctx context.Context) ([]ShareInfo, error) {
	sh, err := s.mount(ctx, "IPC$")
	if err != nil {
		return nil, err
	}
	defer sh.unmountQuietly(ctx)
	f, err := sh.create(ctx, "srvsvc", CreateOptions{Access: accessRead | accessWrite})
	if err != nil {
		return nil, err
	}
	list, err := f.shareEnum(ctx)
	return list, errors.Join(err, f.Close())
}

func (f *File) shareEnum(ctx context.Context) ([]ShareInfo, error) {
	c, err := dcerpc.Dial(dcerpc.SRVSVC, func(in []byte) ([]byte, bool, error) { return f.transact(ctx, in) })
	if err != nil {
		return nil, err
	}
	shares, err := c.ShareEnum(f.sh.s.server)
	if err != nil {
		return nil, err
	}
	var list []ShareInfo
	for _, sh := range shares {
		list = append(list, ShareInfo{Name: sh.Name, Type: ShareType(sh.Type), Comment: sh.Comment})
	}
	slices.SortFunc(list, func(a, b ShareInfo) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// transact sends a message into a pipe and returns the one that answers, or reads
// the next part without a message to send. more says that the message goes on
// ([MS-SMB2] 3.2.4.20.3).
func (f *File) transact(ctx context.Context, in []byte) (out []byte, more bool, err error) {
	id, err := f.handle()
	if err != nil {
		return nil, false, err
	}
	size := f.sh.s.maxAnswer()
	if in != nil {
		k, out, err := f.ioctl(ctx, smb2.FsctlPipeTransceive, in, size, protectOnce, ntstatus.BufferOverflow)
		if err != nil {
			return nil, false, err
		}
		defer k.free()
		return slices.Clone(out), k.resp.Status == ntstatus.BufferOverflow, nil
	}
	k := f.call(smb2.CommandRead)
	defer k.free()
	k.once = true
	if err := k.encode(&smb2.ReadRequest{Padding: smb2.ReadDataOffset, Length: uint32(size), FileID: id}); err != nil {
		return nil, false, err
	}
	if err := f.sh.s.do(ctx, k, ntstatus.BufferOverflow); err != nil {
		return nil, false, err
	}
	m, err := smb2.ParseReadResponse(k.msg)
	if err != nil {
		return nil, false, k.badBody(err)
	}
	if len(m.Data) > size {
		return nil, false, k.protocolError("3.2.5.11", "%d bytes read of %d asked for", len(m.Data), size)
	}
	return slices.Clone(m.Data), k.resp.Status == ntstatus.BufferOverflow, nil
}
