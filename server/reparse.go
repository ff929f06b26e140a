package server

import (
	"context"
	"errors"
	"fmt"
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
// Symbolic links, and what a POSIX system keeps beside files: FIFOs, sockets and devices.
// Clients may make all of these but devices, by which a local process would reach
// hardware. A link is made of a file that was just created,
// and a file of a link, by renaming one over the other: the storage cannot turn them. What
// a link cannot have, streams and extended attributes, is not lost by that, as it is
// refused where there is any; a link has no descriptor of its own. Others who want to open
// the file meanwhile wait. The open then tells of what has the name now. Where a link
// leads is the client's to say; that nobody leaves the share by it is the storage's to see
// to. A FIFO or socket is made in the same way, is one for local processes too, and shows
// as a reparse point of the Subsystem for Linux, whatever the form was that it was made by.

const (
	// maxReparse bounds a reparse point in octets, [MS-FSA] 2.1.5.10.37.
	maxReparse = 16384
	// maxLink bounds the target of a link in octets, as POSIX does.
	maxLink = 4095
)

// became is what has the name of an open's file since its reparse point was set or
// deleted through the open; nil if that has not happened.
type became struct{ atomic.Pointer[successor] }

type successor struct {
	file vfs.File
	id   vfs.FileID
}

// getReparsePoint is FSCTL_GET_REPARSE_POINT, [MS-FSA] 2.1.5.10.14: the target of a
// symbolic link that was opened itself.
func (c *fileControl) getReparsePoint(ctx context.Context) ([]byte, ntstatus.Status) {
	links, ok := c.o.fs.(vfs.Symlinker)
	info, err := c.o.stat(ctx)
	tag := reparseTag(&info)
	switch {
	case err != nil, tag == 0:
		return nil, ntstatus.NotAReparsePoint
	case tag != smb2.ReparseTagSymlink: // [MS-FSCC] 2.1.2.1: its tag says it all
		out, _ := (&smb2.ReparseDataBuffer{ReparseTag: tag}).AppendBinary(nil)
		if len(out) > c.maxOut {
			return nil, ntstatus.BufferTooSmall
		}
		return out, ntstatus.Success
	case !ok:
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

// linkToWire spells the target of a link for clients: a backslash, which a target may
// have and no name of the vfs, has its stand-in as other reserved characters have. Bytes
// that are not UTF-8 become U+FFFD.
func linkToWire(target string) string {
	target = strings.ReplaceAll(strings.ToValidUTF8(target, "\uFFFD"), `\`, "\uF026")
	return strings.ReplaceAll(toWire(target), "/", `\`)
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
	if kind, is := specialKind(c.in); is {
		return nil, c.makeSpecial(ctx, kind)
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
	ctx = context.WithoutCancel(ctx) // all of it or nothing
	return nil, o.become(ctx, func(info *vfs.Info) ntstatus.Status {
		switch {
		case o.isDir:
			if st := o.isEmpty(ctx); st != ntstatus.Success {
				return st
			}
			return o.hasNothingBeside(ctx)
		case info.Mode&fs.ModeSymlink != 0:
			return ntstatus.Success
		}
		return o.isNew(ctx, info)
	}, func(name string) error { return links.Symlink(ctx, target, name) })
}

// isNew refuses to make something else of a file that has anything in it.
func (o *open) isNew(ctx context.Context, info *vfs.Info) ntstatus.Status {
	switch {
	case !info.Mode.IsRegular():
		return ntstatus.NotSupported // a FIFO, socket or device
	case info.Size > 0:
		return ntstatus.IOReparseDataInvalid
	}
	return o.hasNothingBeside(ctx)
}

// Kinds of [MS-FSCC] 2.1.2.6 that are made, the first eight octets of the data.
const (
	nfsFIFO   = 0x000000004F464946
	nfsSocket = 0x000000004B434F53
)

// specialKind is what a reparse point stands for that is a FIFO or a socket, in the form
// of Services for NFS, which is the first choice of Linux, or of the Subsystem for Linux.
func specialKind(b []byte) (kind fs.FileMode, ok bool) {
	m, err := smb2.ParseReparseDataBuffer(b)
	if err != nil {
		return 0, false
	}
	switch {
	case m.ReparseTag == smb2.ReparseTagLXFifo && len(m.Data) == 0:
		return fs.ModeNamedPipe, true
	case m.ReparseTag == smb2.ReparseTagAFUnix && len(m.Data) == 0:
		return fs.ModeSocket, true
	case m.ReparseTag != smb2.ReparseTagNFS || len(m.Data) != 8:
		return 0, false
	}
	switch le.Uint64(m.Data) {
	case nfsFIFO:
		return fs.ModeNamedPipe, true
	case nfsSocket:
		return fs.ModeSocket, true
	}
	return 0, false
}

// makeSpecial makes a FIFO or socket of a file that was just created.
func (c *fileControl) makeSpecial(ctx context.Context, kind fs.FileMode) ntstatus.Status {
	o := c.o
	nodes, ok := o.fs.(vfs.Mknoder)
	switch {
	case !ok:
		return ntstatus.NotSupported
	case o.isDir:
		return ntstatus.IOReparseDataInvalid
	}
	ctx = context.WithoutCancel(ctx) // all of it or nothing
	perm := fs.FileMode(0)
	return o.become(ctx, func(info *vfs.Info) ntstatus.Status {
		perm = info.Mode.Perm()
		return o.isNew(ctx, info)
	}, func(name string) error { return nodes.Mknod(ctx, name, kind|perm) })
}

// hasNothingBeside refuses what has extended attributes or streams, which a link could not
// keep.
func (o *open) hasNothingBeside(ctx context.Context) ntstatus.Status {
	f := o.object()
	if n := o.became.Load(); n != nil {
		f = n.file
	}
	if x, ok := f.(vfs.Xattrer); ok {
		names, err := x.ListXattr(ctx)
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return ntstatus.FromError(err)
		}
		for _, n := range names {
			if !describesSpecial(n) {
				return ntstatus.EANotSupported
			}
		}
	}
	if h, ok := f.(vfs.StreamHolder); ok {
		switch streams, err := h.Streams(ctx); {
		case err != nil && !errors.Is(err, errors.ErrUnsupported):
			return ntstatus.FromError(err)
		case len(streams) > 0:
			return ntstatus.NotSupported
		}
	}
	return ntstatus.Success
}

// describesSpecial reports whether an extended attribute is one in which the Subsystem for
// Linux, and Linux in its place, keep the owner and mode of what they make a reparse
// point of. The storage has those itself.
func describesSpecial(name string) bool {
	switch strings.ToUpper(name) {
	case "$LXUID", "$LXGID", "$LXMOD", "$LXDEV":
		return true
	}
	return false
}

// deleteReparsePoint is FSCTL_DELETE_REPARSE_POINT, [MS-FSA] 2.1.5.10.3: of a link stays
// an empty file.
func (c *fileControl) deleteReparsePoint(ctx context.Context) ([]byte, ntstatus.Status) {
	o := c.o
	if st := c.mayReparse(); st != ntstatus.Success {
		return nil, st
	}
	ctx = context.WithoutCancel(ctx)
	return nil, o.become(ctx, func(info *vfs.Info) ntstatus.Status {
		if info.Mode&fs.ModeSymlink == 0 {
			return ntstatus.NotAReparsePoint
		}
		if m, err := smb2.ParseReparseDataBuffer(c.in); err != nil || m.ReparseTag != smb2.ReparseTagSymlink {
			return ntstatus.IOReparseTagMismatch
		}
		return ntstatus.Success
	}, func(name string) error {
		f, _, err := o.fs.Open(ctx, name, vfs.OpenOptions{
			Disposition: vfs.CreateNew, Kind: vfs.KindFile, NoFollow: true, Perm: o.tree.share.filePerm(0o666),
		})
		if err != nil {
			return err
		}
		return f.Close()
	})
}

// become puts something else in the place of the open's file if may, which is given what
// that is now, finds nothing against it. make makes it by a name that it is given. Nobody
// else may have the file open; who wants to meanwhile waits.
func (o *open) become(ctx context.Context, may func(*vfs.Info) ntstatus.Status, make func(name string) error) ntstatus.Status {
	t := &o.srv.files
	if !t.beginReplacing(o) {
		return ntstatus.SharingViolation
	}
	defer t.endReplacing(ctx, o)
	info, err := o.stat(ctx)
	if err != nil {
		return ntstatus.FromError(err)
	}
	if st := may(&info); st != ntstatus.Success {
		return st
	}
	name := o.path()
	// It is another object that the directory gets, without the descriptor of this one.
	if st := o.mayRemove(ctx, name); st != ntstatus.Success {
		return st
	}
	if st := o.mayAdd(ctx, name, false); st != ntstatus.Success {
		return st
	}
	next, err := o.replaceBy(ctx, name, &info, make)
	if err != nil {
		return ntstatus.FromError(err)
	}
	t.changed()
	if old := o.became.Swap(next); old != nil {
		_ = old.file.Close()
	}
	o.changed(smb2.FileNotifyChangeAttributes)
	o.changedIn(ctx)
	return ntstatus.Success
}

// replaceBy makes something by a name of its own and renames it over name, which info
// describes: what cannot be made costs nobody a file.
func (o *open) replaceBy(ctx context.Context, name string, info *vfs.Info, make func(name string) error) (next *successor, err error) {
	dir, _ := vfs.Split(name)
	between := nameBetween(dir)
	if err := make(between); err != nil {
		return nil, err
	}
	next = &successor{}
	defer func() {
		if err != nil {
			_ = o.fs.Remove(ctx, between, vfs.KindFile)
			if next.file != nil {
				_ = next.file.Close()
			}
		}
	}()
	var made vfs.Info
	switch next.file, _, err = o.fs.Open(ctx, between, vfs.OpenOptions{NoFollow: true}); {
	case errors.Is(err, vfs.ErrSpecial):
		next.file = &specialFile{fs: o.fs, open: o}
		made, err = o.fs.Lstat(ctx, between)
	case err == nil:
		made, err = next.file.Stat(ctx)
	}
	if err != nil {
		return nil, err
	}
	next.id = made.ID
	if info.IsDir() {
		// Nothing is renamed over a directory but another one.
		if err := o.fs.RemoveIf(ctx, name, info.ID); err != nil {
			return nil, err
		}
		if err := o.fs.Rename(ctx, between, name, false); err != nil {
			if e := o.fs.Mkdir(ctx, name, info.Mode.Perm()); e != nil {
				o.srv.log.Error("a directory that was to become a link is lost", "share", o.tree.share.Name, "name", name, "err", e)
			}
			return nil, err
		}
		return next, nil
	}
	switch now, err := o.fs.Lstat(ctx, name); {
	case err != nil:
		return nil, err
	case now.ID != info.ID:
		return nil, vfs.ErrChanged
	}
	return next, o.fs.Rename(ctx, between, name, true)
}

// nameBetween is a name in a directory for what gets another at once.
func nameBetween(dir string) string {
	id := newFileID()
	return vfs.Join(dir, fmt.Sprintf(".link-%016x%016x", id.Persistent, id.Volatile))
}

// beginReplacing makes CREATEs of the object of o wait until endReplacing; false if it, or
// one of its streams, is open otherwise, or is being replaced already.
func (t *openTable) beginReplacing(o *open) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	alone := !o.state.replacing
	t.opensLocked(o.state.key.id, func(p *open) bool {
		alone = alone && p == o
		return alone
	})
	if alone {
		o.state.replacing = true
	}
	return alone
}

// endReplacing ends what beginReplacing has begun, and does what was left to be done when
// o was closed meanwhile.
func (t *openTable) endReplacing(ctx context.Context, o *open) {
	st := o.state
	t.mu.Lock()
	defer t.mu.Unlock()
	st.replacing = false
	st.wakeLocked()
	if st.pending != nil {
		st.pending.became(o)
	}
	if len(st.opens) == 0 {
		t.settleLocked(ctx, st, o)
	}
}
