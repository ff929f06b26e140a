package server

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"unicode/utf8"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// # POSIX extensions
//
// A client that negotiates the POSIX extensions of SMB 3.1.1, as Linux does with the
// mount option posix, may open files with the create context
// 93AD2550-9CB4-11E7-B423-83DE968BCD7C. Such an open (open.posix)
//
//   - has a name in which case matters and every character but a slash, a backslash
//     and NUL stands for itself (stand-ins for reserved ones are understood, too),
//   - does not follow a symbolic link at the end of the name: STATUS_STOPPED_ON_SYMLINK
//     comes with the target,
//   - creates with the permission bits of the context, and inherits no descriptor,
//   - takes its name away when it deletes, although others have the file open, as long
//     as these opens are such opens, too, and replaces what is open when it renames,
//   - renames a directory although something in it is open, by such an open, too.
//
// The classes 100 of QUERY_INFO and QUERY_DIRECTORY tell owner, mode and number of
// links. There is no specification but those of the implementations.

// maxPosixMode is the most that the mode of a create context may be to count: Linux
// sends all ones where it does not create.
const maxPosixMode = 0o7777

// parsePosix takes the create context, on a connection that has negotiated it.
func (x *createContexts) parsePosix(data []byte) error {
	m, err := smb2.ParsePosixCreateRequest(data)
	if err != nil {
		return err
	}
	x.posix = true
	if m.Mode <= maxPosixMode {
		x.posixMode, x.hasPosixMode = fs.FileMode(m.Mode&0o777), true
	}
	return nil
}

// posixName is parseName for the name of such an open.
func posixName(b []byte) (wireName, ntstatus.Status) {
	s := smb2.DecodeUTF16(b)
	if !utf8.ValidString(s) {
		return wireName{}, ntstatus.ObjectNameInvalid // an unpaired surrogate
	}
	isSlash := func(r rune) bool { return r == '/' || r == '\\' }
	n := wireName{slash: s != "" && isSlash(rune(s[len(s)-1]))}
	var path []string
	for comp := range strings.FieldsFuncSeq(s, isSlash) {
		switch comp {
		case ".":
			continue
		case "..":
			if len(path) == 0 {
				return n, ntstatus.ObjectPathSyntaxBad
			}
			path = path[:len(path)-1]
			continue
		}
		c, ok := fromPrivate(comp)
		if !ok || smb2.UTF16Len(comp) > 2*maxComponent {
			return n, ntstatus.ObjectNameInvalid
		}
		path = append(path, c)
	}
	n.path = strings.Join(path, "/")
	if n.path == "" {
		n.path = vfs.Root
	}
	if !vfs.ValidName(n.path) {
		return n, ntstatus.ObjectNameInvalid
	}
	return n, ntstatus.Success
}

// posixFS is what the open's tree holds, with names in which case matters.
func posixFS(fsys vfs.FS) vfs.FS {
	if v, ok := fsys.(vfs.CaseView); ok {
		return v.CaseSensitive()
	}
	return fsys
}

// stopOnLink answers an open that came upon a symbolic link which it does not open
// itself, [MS-SMB2] 2.2.2.2.1. The target is told as it is stored.
func (c *creation) stopOnLink(ctx context.Context, fsys vfs.FS) ntstatus.Status {
	l, ok := fsys.(vfs.Symlinker)
	if !ok {
		return ntstatus.AccessDenied
	}
	target, err := l.Readlink(ctx, c.name.path)
	if err != nil {
		return ntstatus.FromError(err)
	}
	name := smb2.EncodeUTF16(linkToWire(target))
	m := smb2.SymbolicLinkErrorResponse{SubstituteName: name, PrintName: name}
	if !strings.HasPrefix(target, "/") {
		m.Flags = smb2.SymlinkFlagRelative
	}
	if b, err := m.AppendBinary(nil); err == nil {
		c.r.errData = b
	}
	return ntstatus.StoppedOnSymlink
}

// setPosixMode gives a new file the permission bits that its creator asked for,
// whatever the process's umask let through.
func (c *creation) setPosixMode(ctx context.Context, o *open) ntstatus.Status {
	if !c.ctxs.hasPosixMode || !o.posix {
		return ntstatus.Success
	}
	info, err := o.file.Stat(ctx)
	if err != nil {
		return ntstatus.FromError(err)
	}
	perm := o.tree.share.filePerm(c.ctxs.posixMode)
	if o.isDir {
		perm = o.tree.share.dirPerm(c.ctxs.posixMode)
	}
	if info.Mode.Perm() == perm {
		return ntstatus.Success
	}
	if err := o.file.SetAttr(ctx, vfs.SetAttr{Set: vfs.SetMode, Mode: perm | info.Mode&inheritedBits, Privileged: true}); err != nil && !errors.Is(err, fs.ErrPermission) {
		return ntstatus.FromError(err)
	}
	return ntstatus.Success
}

// inheritedBits are those that a new object may have of its directory.
const inheritedBits = fs.ModeSetgid

// posixCreateResponse is what both the create context and the information classes
// tell.
func posixCreateResponse(info *vfs.Info) smb2.PosixCreateResponse {
	return smb2.PosixCreateResponse{
		HardLinks:  info.Nlink,
		ReparseTag: reparseTag(info),
		Mode:       wireMode(info.Mode),
		Owner:      smb2.SIDUnixUser(info.UID),
		Group:      smb2.SIDUnixGroup(info.GID),
	}
}

// Types in a mode on the wire: the number behind the 12 lower bits.
const (
	wireSymlink = 2 << 12
	wireCharDev = 3 << 12
	wireBlkDev  = 4 << 12
	wireFIFO    = 5 << 12
	wireSocket  = 6 << 12
)

// wireMode is a mode as it travels: permission and special bits, and the type of what
// is neither a file nor a directory. A directory would be 1, which newer clients read
// but the others take for a part of st_mode; both know it by its attribute.
func wireMode(m fs.FileMode) uint32 {
	w := unixMode(m) & maxPosixMode
	switch m.Type() {
	case fs.ModeSymlink:
		w |= wireSymlink
	case fs.ModeDevice | fs.ModeCharDevice:
		w |= wireCharDev
	case fs.ModeDevice:
		w |= wireBlkDev
	case fs.ModeNamedPipe:
		w |= wireFIFO
	case fs.ModeSocket:
		w |= wireSocket
	}
	return w
}

// posixInfo is ClassFilePosixInformation of an object with these attributes.
func posixInfo(info *vfs.Info, attrs smb2.FileAttributes) smb2.FilePosixInformation {
	t := timesOf(info)
	return smb2.FilePosixInformation{
		CreationTime: t.CreationTime, LastAccessTime: t.LastAccessTime,
		LastWriteTime: t.LastWriteTime, ChangeTime: t.ChangeTime,
		EndOfFile: uint64(info.Size), AllocationSize: allocationSize(info),
		DosAttributes: attrs, Inode: info.ID.Ino,
		DeviceID:            uint32(info.ID.Dev>>32)<<20 ^ uint32(info.ID.Dev),
		PosixCreateResponse: posixCreateResponse(info),
	}
}

// posixFsInfo is ClassFileFsPosixInformation.
func posixFsInfo(sf *vfs.Statfs) smb2.FileFsPosixInformation {
	return smb2.FileFsPosixInformation{
		OptimalTransferSize: sf.BlockSize, BlockSize: sf.BlockSize,
		TotalBlocks: sf.Total, BlocksAvail: sf.Free, UserBlocksAvail: sf.Avail,
		TotalFileNodes: sf.Files, FreeFileNodes: sf.FilesFree,
		FileSysIdentifier: sf.ID,
	}
}

// openWithoutPosix reports whether somebody has the object open who does not expect
// its name to go.
func (t *openTable) openWithoutPosix(id vfs.FileID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := false
	t.opensLocked(id, func(o *open) bool { found = !o.posix; return !found })
	return found
}

// onlyPosix reports whether all of these opens have the POSIX extensions.
func onlyPosix(opens []*open) bool {
	for _, o := range opens {
		if !o.posix {
			return false
		}
	}
	return true
}
