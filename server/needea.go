package server

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// needEAs is an attribute of the server's own, which clients do not see: the names of
// those that were set with FILE_NEED_EA ([MS-FSCC] 2.4.16), with NUL between. Nobody who
// says that he knows nothing of attributes opens a file that has some.
const needEAs = "smbd-rdma.need_ea"

// neededEAs are the names of the attributes with FILE_NEED_EA.
func neededEAs(ctx context.Context, x vfs.Xattrer) []string {
	v, err := x.Xattr(ctx, needEAs)
	if err != nil || len(v) == 0 {
		return nil
	}
	return strings.Split(string(v), "\x00")
}

// needing is the list with the name, or without it.
func needing(list []string, name string, need bool) []string {
	i := slices.Index(list, name)
	switch {
	case need && i < 0:
		return append(list, name)
	case !need && i >= 0:
		return slices.Delete(list, i, i+1)
	}
	return list
}

func setNeededEAs(ctx context.Context, x vfs.Xattrer, list []string) ntstatus.Status {
	var err error
	if len(list) == 0 {
		if err = x.RemoveXattr(ctx, needEAs); errors.Is(err, syscall.ENODATA) {
			err = nil
		}
	} else {
		err = x.SetXattr(ctx, needEAs, []byte(strings.Join(list, "\x00")))
	}
	if err != nil {
		return eaError(err)
	}
	return ntstatus.Success
}

// eaFlags are the Flags of an attribute; one that is not there has none.
func eaFlags(needed []string, name string, value []byte) uint8 {
	if len(value) > 0 && slices.Contains(needed, name) {
		return smb2.FileNeedEA
	}
	return 0
}

// checkEAs refuses a file whose attributes one has to know of to who does not: [MS-FSA]
// 2.1.5.1.2.
func (c *creation) checkEAs(ctx context.Context, o *open, action vfs.Action) ntstatus.Status {
	if c.req.CreateOptions&smb2.FileNoEAKnowledge == 0 || action == vfs.Created || o.isStream() || o.tree.share.NoEAs {
		return ntstatus.Success
	}
	x, ok := o.file.(vfs.Xattrer)
	if !ok {
		return ntstatus.Success
	}
	for _, name := range neededEAs(ctx, x) {
		// One that a local process has removed is still on the list.
		if v, err := x.Xattr(ctx, name); len(v) > 0 || err != nil && !errors.Is(err, syscall.ENODATA) {
			return ntstatus.AccessDenied
		}
	}
	return ntstatus.Success
}
