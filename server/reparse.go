package server

import (
	"context"
	"io/fs"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// # Reparse points
//
// Symbolic links are the only ones. A link is made of a file that was just created,
// and a file of a link, by putting one in the place of the other: the storage cannot
// turn them. The open then tells of what has the name now. Where a link leads is the
// client's to say; that nobody leaves the share by it is the storage's to see to.

const (
	// maxReparse bounds a reparse point in octets, [MS-FSA] 2.1.5.10.37.
	maxReparse = 16384
	// maxLink bounds the target of a link in octets, as POSIX does.
	maxLink = 4095
)

// became is what has the name of an open's file since its reparse point was set or
// deleted through the open; nil if that has not happened.
type became struct{ atomic.Pointer[vfs.File] }

// getReparsePoint is FSCTL_GET_REPARSE_POINT, [MS-FSA] 2.1.5.10.14: the target of a
// symbolic link that was opened itself.
func (c *fileControl) getReparsePoint(ctx context.Context) ([]byte, ntstatus.Status) {
	links, ok := c.o.fs.(vfs.Symlinker)
	if info, err := c.o.stat(ctx); err != nil || !ok || info.Mode&fs.ModeSymlink == 0 {
		return nil, ntstatus.NotAReparsePoint
	}
	target, err := links.Readlink(ctx, c.o.path())
	if err != nil {
		return nil, ntstatus.FromError(err)
	}
	m := smb2.SymbolicLinkReparseBuffer{SubstituteName: linkToWire(target)}
	if !strings.HasPrefix(target, "/") {
		m.Flags = smb2.SymlinkFlagRelative
	}
	m.PrintName = m.SubstituteName
	out, err := m.AppendBinary(nil)
	if err != nil {
		return nil, ntstatus.IOReparseDataInvalid
	}
	if len(out) > c.maxOut {
		if c.maxOut < 8 {
			return nil, ntstatus.BufferTooSmall
		}
		return out[:c.maxOut], ntstatus.BufferOverflow
	}
	return out, ntstatus.Success
}

// linkToWire spells the target of a link for clients. Bytes that are not UTF-8
// become U+FFFD.
func linkToWire(target string) string {
	target = strings.ToValidUTF8(target, "\uFFFD")
	parts := strings.Split(target, "/")
	for i, p := range parts {
		parts[i] = toWire(p)
	}
	return strings.Join(parts, `\`)
}

// linkFromWire spells the relative target of a Windows link for the storage.
func linkFromWire(target string) (string, bool) {
	parts := strings.Split(target, `\`)
	for i, p := range parts {
		if p == "." || p == ".." || p == "" && i > 0 {
			continue
		}
		var ok bool
		if parts[i], ok = fromWire(p); !ok {
			return "", false
		}
	}
	return strings.Join(parts, "/"), true
}

// mayReparse are the checks that setting and deleting have in common.
func (c *fileControl) mayReparse() ntstatus.Status {
	o := c.o
	switch {
	case o.access&(smb2.FileWriteData|smb2.FileWriteAttributes) == 0:
		return ntstatus.AccessDenied
	case o.tree.readOnly():
		return ntstatus.MediaWriteProtected
	case o.isStream():
		return ntstatus.InvalidParameter
	case len(c.in) < 8 || len(c.in) > maxReparse:
		return ntstatus.IOReparseDataInvalid
	case o.path() == vfs.Root || o.deletePending():
		return ntstatus.AccessDenied
	}
	return ntstatus.Success
}

// setReparsePoint is FSCTL_SET_REPARSE_POINT, [MS-FSA] 2.1.5.10.37, for symbolic links.
func (c *fileControl) setReparsePoint(ctx context.Context) ([]byte, ntstatus.Status) {
	o := c.o
	if st := c.mayReparse(); st != ntstatus.Success {
		return nil, st
	}
	links, ok := o.fs.(vfs.Symlinker)
	if !ok {
		return nil, ntstatus.NotSupported
	}
	tag, target, relative, isLink, err := smb2.LinkTarget(c.in)
	switch {
	case err != nil:
		return nil, ntstatus.IOReparseDataInvalid
	case !isLink:
		return nil, ntstatus.NotSupported
	}
	if tag == smb2.ReparseTagSymlink {
		if !relative { // a drive or a server, which mean nothing here
			return nil, ntstatus.IOReparseDataInvalid
		}
		if target, ok = linkFromWire(target); !ok {
			return nil, ntstatus.IOReparseDataInvalid
		}
	}
	if target == "" || len(target) > maxLink || !utf8.ValidString(target) || strings.IndexByte(target, 0) >= 0 {
		return nil, ntstatus.IOReparseDataInvalid
	}
	info, err := o.stat(ctx)
	switch {
	case err != nil:
		return nil, ntstatus.FromError(err)
	case o.isDir:
		if st := o.isEmpty(ctx); st != ntstatus.Success {
			return nil, st
		}
	case info.Mode.IsRegular() && info.Size > 0:
		return nil, ntstatus.IOReparseDataInvalid
	case !info.Mode.IsRegular() && info.Mode&fs.ModeSymlink == 0:
		return nil, ntstatus.NotSupported // a FIFO, socket or device
	}
	ctx = context.WithoutCancel(ctx) // what is removed is to be replaced
	return nil, o.become(ctx, &info, func(name string) error { return links.Symlink(ctx, target, name) })
}

// deleteReparsePoint is FSCTL_DELETE_REPARSE_POINT, [MS-FSA] 2.1.5.10.3: of a link stays
// an empty file.
func (c *fileControl) deleteReparsePoint(ctx context.Context) ([]byte, ntstatus.Status) {
	o := c.o
	if st := c.mayReparse(); st != ntstatus.Success {
		return nil, st
	}
	info, err := o.stat(ctx)
	switch {
	case err != nil:
		return nil, ntstatus.FromError(err)
	case info.Mode&fs.ModeSymlink == 0:
		return nil, ntstatus.NotAReparsePoint
	}
	if m, err := smb2.ParseReparseDataBuffer(c.in); err != nil || m.ReparseTag != smb2.ReparseTagSymlink {
		return nil, ntstatus.IOReparseTagMismatch
	}
	ctx = context.WithoutCancel(ctx)
	return nil, o.become(ctx, &info, func(name string) error {
		f, _, err := o.fs.Open(ctx, name, vfs.OpenOptions{
			Disposition: vfs.CreateNew, Kind: vfs.KindFile, NoFollow: true, Perm: o.tree.share.filePerm(0o666),
		})
		if err != nil {
			return err
		}
		return f.Close()
	})
}

// become removes the open's file, which info describes, and makes something else by its
// name. Nobody else may have it open.
func (o *open) become(ctx context.Context, info *vfs.Info, with func(name string) error) ntstatus.Status {
	t := &o.srv.files
	name := o.path()
	if t.othersOpen(o) {
		return ntstatus.SharingViolation
	}
	// It is another object that the directory gets, without the descriptor of this one.
	if st := o.mayRemove(ctx, name); st != ntstatus.Success {
		return st
	}
	if st := o.mayAdd(ctx, name, false); st != ntstatus.Success {
		return st
	}
	if err := o.fs.RemoveIf(ctx, name, info.ID); err != nil {
		return ntstatus.FromError(err)
	}
	t.changed()
	if err := with(name); err != nil {
		return ntstatus.FromError(err)
	}
	t.changed()
	f, _, err := o.fs.Open(ctx, name, vfs.OpenOptions{NoFollow: true})
	if err != nil {
		return ntstatus.FromError(err)
	}
	if old := o.became.Swap(&f); old != nil {
		_ = (*old).Close()
	}
	o.changed(smb2.FileNotifyChangeAttributes)
	o.changedIn(ctx)
	return ntstatus.Success
}

// othersOpen reports whether the object of o, or one of its streams, is open otherwise.
func (t *openTable) othersOpen(o *open) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := false
	t.opensLocked(o.state.key.id, func(p *open) bool {
		found = p != o
		return !found
	})
	return found
}
