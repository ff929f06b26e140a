package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"unicode"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// SymlinkForm is how a symbolic link, FIFO, socket or device is written.
type SymlinkForm uint8

const (
	// SymlinkAuto writes symbolic links with a relative target as Windows does and all
	// else as Services for NFS does. The default.
	SymlinkAuto SymlinkForm = iota
	// SymlinkNative is the form of Windows, IO_REPARSE_TAG_SYMLINK ([MS-FSCC] 2.1.2.4).
	// It has no FIFOs, sockets and devices.
	SymlinkNative
	// SymlinkNFS is IO_REPARSE_TAG_NFS ([MS-FSCC] 2.1.2.6), the first choice of Linux.
	SymlinkNFS
	// SymlinkWSL is that of the Windows Subsystem for Linux, IO_REPARSE_TAG_LX_SYMLINK
	// and its like ([MS-FSCC] 2.1.2.1) with extended attributes "$LXMOD" and "$LXDEV".
	SymlinkWSL
)

const (
	// maxReparse bounds a reparse point, [MS-FSCC] 2.1.2: the data of 16 KiB and a header.
	maxReparse = 16384 + 24
	// maxTarget bounds the target of a link in octets of UTF-8: as long as reparse data.
	maxTarget = 16384
)

// The kinds of [MS-FSCC] 2.1.2.6, the first eight octets of the data.
const (
	nfsLink   = smb2.NFSReparseLink
	nfsChar   = 0x0000000000524843
	nfsBlock  = 0x00000000004B4C42
	nfsFIFO   = 0x000000004F464946
	nfsSocket = 0x000000004B434F53
)

// Special is what a reparse point stands for.
type Special struct {
	Tag uint32 // [MS-FSCC] 2.1.2.1
	// Mode has the type: fs.ModeSymlink, ModeNamedPipe, ModeSocket, ModeDevice,
	// ModeDevice|ModeCharDevice; ModeIrregular for all others.
	Mode fs.FileMode
	// Target of a symbolic link or mount point, as POSIX spells it.
	Target string
	// Major and Minor are the numbers of a device.
	Major, Minor uint32
}

// Symlink makes newName a symbolic link to target, which is spelled with slashes and not
// looked at. Config.Symlinks says in which form. fs.ErrExist if the name is taken;
// errors.ErrUnsupported from servers that have no such links.
func (sh *Share) Symlink(ctx context.Context, target, newName string) error {
	return wrap("symlink", newName, sh.symlink(ctx, target, newName))
}

func (sh *Share) symlink(ctx context.Context, target, newName string) error {
	if target == "" || len(target) > maxTarget || strings.IndexByte(target, 0) >= 0 {
		return fmt.Errorf("a target has 1 to %d octets, none of them NUL: %w", maxTarget, fs.ErrInvalid)
	}
	form := sh.s.cfg.Symlinks
	if form == SymlinkAuto {
		form = SymlinkNative
		if !windowsTarget(target) {
			form = SymlinkNFS
		}
	}
	var m body
	switch form {
	case SymlinkNFS:
		m = &smb2.ReparseDataBuffer{ReparseTag: smb2.ReparseTagNFS, Data: smb2.AppendUTF16(le.AppendUint64(nil, nfsLink), target)}
	case SymlinkWSL:
		m = &smb2.ReparseDataBuffer{ReparseTag: smb2.ReparseTagLXSymlink, Data: append(le.AppendUint32(nil, 2), target...)}
	default:
		l := &smb2.SymbolicLinkReparseBuffer{SubstituteName: strings.ReplaceAll(target, "/", `\`)}
		l.PrintName = l.SubstituteName
		if target[0] != '/' {
			l.Flags = smb2.SymlinkFlagRelative
		}
		m = l
	}
	return sh.makeReparse(ctx, newName, m, nil)
}

// windowsTarget reports whether a target is relative and means the same in a link of
// Windows, which has no names with its reserved characters, and none that end in a space
// or a full stop ([MS-FSCC] 2.1.5.2).
func windowsTarget(target string) bool {
	if target[0] == '/' || strings.ContainsAny(target, `\:*?"<>|`) || strings.ContainsFunc(target, unicode.IsControl) {
		return false
	}
	for elem := range strings.SplitSeq(target, "/") {
		if elem != "." && elem != ".." && strings.TrimRight(elem, " .") != elem {
			return false
		}
	}
	return true
}

// Mknod makes a FIFO, socket or device: mode is fs.ModeNamedPipe, ModeSocket, ModeDevice
// (for blocks) or ModeDevice|ModeCharDevice, and only devices have major and minor
// numbers. Its permission bits do not travel. They are things to other clients like
// this one; the server does nothing with them, and errors.ErrUnsupported comes from
// servers that do not keep them.
func (sh *Share) Mknod(ctx context.Context, name string, mode fs.FileMode, major, minor uint32) error {
	return wrap("mknod", name, sh.mknod(ctx, name, mode.Type(), major, minor))
}

func (sh *Share) mknod(ctx context.Context, name string, kind fs.FileMode, major, minor uint32) error {
	i := -1
	for j := range specials {
		if specials[j].mode == kind {
			i = j
		}
	}
	switch {
	case i < 0 || kind == fs.ModeSymlink:
		return fmt.Errorf("mode %v is no FIFO, socket or device: %w", kind, fs.ErrInvalid)
	case kind&fs.ModeDevice == 0 && (major != 0 || minor != 0):
		return fmt.Errorf("numbers of what is no device: %w", fs.ErrInvalid)
	case sh.s.cfg.Symlinks == SymlinkNative:
		return fmt.Errorf("Windows has no form for it: %w", errors.ErrUnsupported)
	}
	sp := &specials[i]
	numbers := le.AppendUint32(le.AppendUint32(nil, major), minor)
	if sh.s.cfg.Symlinks == SymlinkWSL {
		eas := smb2.NewEntryList(nil, maxEASet)
		eas.AppendEa(smb2.FileFullEaInformation{EaName: eaMode, EaValue: le.AppendUint32(nil, sp.unix|0o644)})
		if kind&fs.ModeDevice != 0 {
			eas.AppendEa(smb2.FileFullEaInformation{EaName: eaDevice, EaValue: numbers})
		}
		return sh.makeReparse(ctx, name, &smb2.ReparseDataBuffer{ReparseTag: sp.wsl}, encoded(eas.Bytes()))
	}
	data := le.AppendUint64(nil, sp.nfs)
	if kind&fs.ModeDevice != 0 {
		data = append(data, numbers...)
	}
	return sh.makeReparse(ctx, name, &smb2.ReparseDataBuffer{ReparseTag: smb2.ReparseTagNFS, Data: data}, nil)
}

// The extended attributes of WSL's forms: st_mode, and the two numbers of a device.
const (
	eaMode   = "$LXMOD"
	eaDevice = "$LXDEV"
)

// specials are the kinds by their forms; unix is the type in st_mode.
var specials = [...]struct {
	mode fs.FileMode
	wsl  smb2.ReparseTag
	nfs  uint64
	unix uint32
}{
	{fs.ModeSymlink, smb2.ReparseTagLXSymlink, nfsLink, 0o120000},
	{fs.ModeNamedPipe, smb2.ReparseTagLXFifo, nfsFIFO, 0o010000},
	{fs.ModeSocket, smb2.ReparseTagAFUnix, nfsSocket, 0o140000},
	{fs.ModeDevice, smb2.ReparseTagLXBlk, nfsBlock, 0o060000},
	{fs.ModeDevice | fs.ModeCharDevice, smb2.ReparseTagLXChr, nfsChar, 0o020000},
}

// encoded is bytes that are a body as they are.
type encoded []byte

// AppendBinary implements body.
func (e encoded) AppendBinary(b []byte) ([]byte, error) { return append(b, e...), nil }

// makeReparse makes a file, gives it extended attributes if there are any, and makes it
// a reparse point; if that fails it is removed again.
func (sh *Share) makeReparse(ctx context.Context, name string, m, eas body) error {
	f, err := sh.create(ctx, name, CreateOptions{
		Access:      AccessWriteAttributes | AccessReadAttributes | AccessWriteEA | AccessWriteData | AccessDelete | AccessSynchronize,
		Disposition: CreateNew, Options: OptNonDirectory | OptOpenReparsePoint,
	})
	if err != nil {
		return err
	}
	if eas != nil {
		err = f.set(ctx, smb2.ClassFileFullEaInformation, eas)
	}
	if err == nil {
		err = f.control(ctx, smb2.FsctlSetReparsePoint, m)
		if errors.Is(err, ntstatus.NotAReparsePoint) { // so says Samba before 4.18
			err = fmt.Errorf("the server keeps no reparse points: %w: %w", errors.ErrUnsupported, err)
		}
	}
	if err != nil {
		// Not with ctx, which may be why.
		undo, stop := context.WithTimeout(context.Background(), max(sh.s.cfg.CancelGrace, DefaultCancelGrace))
		defer stop()
		if uerr := f.set(undo, smb2.ClassFileDispositionInformation, &smb2.FileDispositionInformation{DeletePending: true}); uerr != nil {
			err = fmt.Errorf("%w (and the empty file stays: %w)", err, uerr)
		}
	}
	return errors.Join(err, f.Close())
}

// Readlink returns the target of a symbolic link as it is stored, of whatever form, with
// slashes. A name that is no link is an error that matches syscall.EINVAL, as it is of
// readlink(2).
func (sh *Share) Readlink(ctx context.Context, name string) (string, error) {
	sp, err := sh.special(ctx, name)
	switch {
	case errors.Is(err, ntstatus.NotAReparsePoint):
		err = fmt.Errorf("not a symbolic link: %w: %w", syscall.EINVAL, err)
	case err == nil && sp.Target == "":
		err = fmt.Errorf("not a symbolic link but a reparse point with tag 0x%08X: %w", sp.Tag, syscall.EINVAL)
	}
	if err != nil {
		return "", wrap("readlink", name, err)
	}
	return sp.Target, nil
}

// Special tells what a reparse point stands for: FileInfo knows its tag alone, and those
// of Services for NFS have all the same. ntstatus.NotAReparsePoint for other files.
func (sh *Share) Special(ctx context.Context, name string) (*Special, error) {
	sp, err := sh.special(ctx, name)
	if err != nil {
		return nil, wrap("get reparse point", name, err)
	}
	return sp, nil
}

func (sh *Share) special(ctx context.Context, name string) (*Special, error) {
	raw, err := sh.reparse(ctx, name)
	if err != nil {
		return nil, err
	}
	sp, err := specialOf(raw)
	if err != nil {
		// What a file holds is not the server's doing.
		return nil, fmt.Errorf("the reparse point is damaged: %w: %w", ntstatus.IOReparseDataInvalid, err)
	}
	if sp.Mode&fs.ModeDevice != 0 && smb2.ReparseTag(sp.Tag) != smb2.ReparseTagNFS {
		numbers, err := sh.EA(ctx, name, eaDevice)
		if err != nil || len(numbers) != 8 {
			return nil, fmt.Errorf("a device without %s: %w", eaDevice, errors.Join(ntstatus.IOReparseDataInvalid, err))
		}
		sp.Major, sp.Minor = le.Uint32(numbers), le.Uint32(numbers[4:])
	}
	return sp, nil
}

// specialOf reads a REPARSE_DATA_BUFFER. The numbers of WSL's devices are not in it.
func specialOf(raw []byte) (*Special, error) {
	r, err := smb2.ParseReparseDataBuffer(raw)
	if err != nil {
		return nil, err
	}
	sp := &Special{Tag: uint32(r.ReparseTag), Mode: fs.ModeIrregular}
	if r.ReparseTag == smb2.ReparseTagMountPoint {
		m, err := smb2.ParseMountPointReparseBuffer(raw)
		sp.Target = posixTarget(m.SubstituteName)
		return sp, err
	}
	_, target, _, isLink, err := smb2.LinkTarget(raw)
	switch {
	case err != nil:
		return nil, err
	case isLink && (target == "" || strings.IndexByte(target, 0) >= 0):
		return nil, fmt.Errorf("the target %q: %w", target, smb2.ErrMalformed)
	case isLink && r.ReparseTag == smb2.ReparseTagSymlink:
		target = posixTarget(target)
		fallthrough
	case isLink:
		sp.Mode, sp.Target = fs.ModeSymlink, target
		return sp, nil
	}
	for _, k := range specials {
		switch {
		case r.ReparseTag == k.wsl:
			sp.Mode = k.mode
		case r.ReparseTag == smb2.ReparseTagNFS && le.Uint64(r.Data) == k.nfs: // LinkTarget has seen that there are eight
			sp.Mode = k.mode
			if k.mode&fs.ModeDevice != 0 {
				if len(r.Data) < 16 {
					return nil, fmt.Errorf("a device in %d octets: %w", len(r.Data), smb2.ErrMalformed)
				}
				sp.Major, sp.Minor = le.Uint32(r.Data[8:]), le.Uint32(r.Data[12:])
			}
		}
	}
	return sp, nil
}

// posixTarget spells the substitute name of a Windows link with slashes: of a drive as
// C:/x, of a server as //server/share/x, and what has neither stays absolute or relative.
func posixTarget(target string) string {
	switch rest, nt := strings.CutPrefix(target, `\??\`); {
	case nt && len(rest) >= 4 && strings.EqualFold(rest[:4], `UNC\`):
		target = `\\` + rest[4:]
	case nt:
		target = rest
	}
	return strings.ReplaceAll(target, `\`, "/")
}

// ReparsePoint returns the tag of a reparse point and the data behind its header,
// FSCTL_GET_REPARSE_POINT ([MS-FSCC] 2.3.26). ntstatus.NotAReparsePoint for other files.
func (sh *Share) ReparsePoint(ctx context.Context, name string) (tag uint32, data []byte, err error) {
	raw, err := sh.reparse(ctx, name)
	if err != nil {
		return 0, nil, wrap("get reparse point", name, err)
	}
	m, err := smb2.ParseReparseDataBuffer(raw)
	if err != nil {
		return 0, nil, wrap("get reparse point", name, fmt.Errorf("%w: %w", ntstatus.InvalidNetworkResponse, err))
	}
	return uint32(m.ReparseTag), m.Data, nil
}

// SetReparsePoint makes an existing file or directory without content a reparse point, or
// changes the data of one with that tag, FSCTL_SET_REPARSE_POINT ([MS-FSCC] 2.3.81). The
// data are those behind the header, at most 16 KiB.
func (sh *Share) SetReparsePoint(ctx context.Context, name string, tag uint32, data []byte) error {
	return wrap("set reparse point", name,
		sh.changeReparse(ctx, name, smb2.FsctlSetReparsePoint, &smb2.ReparseDataBuffer{ReparseTag: smb2.ReparseTag(tag), Data: data}))
}

// RemoveReparsePoint makes a file or directory of a reparse point with that tag,
// FSCTL_DELETE_REPARSE_POINT ([MS-FSCC] 2.3.5).
func (sh *Share) RemoveReparsePoint(ctx context.Context, name string, tag uint32) error {
	return wrap("remove reparse point", name,
		sh.changeReparse(ctx, name, smb2.FsctlDeleteReparsePoint, &smb2.ReparseDataBuffer{ReparseTag: smb2.ReparseTag(tag)}))
}

func (sh *Share) changeReparse(ctx context.Context, name string, code smb2.CtlCode, m body) error {
	f, err := sh.create(ctx, name, CreateOptions{
		Access: AccessWriteAttributes | AccessWriteData | AccessSynchronize, Options: OptOpenReparsePoint})
	if err != nil {
		return err
	}
	return errors.Join(f.control(ctx, code, m), f.Close())
}

// reparse returns the REPARSE_DATA_BUFFER of a file, in one round trip.
func (sh *Share) reparse(ctx context.Context, name string) ([]byte, error) {
	room := min(maxReparse, sh.s.maxAnswer())
	k := sh.call(smb2.CommandIoctl)
	defer k.free()
	if err := k.encode(&smb2.IoctlRequest{CtlCode: smb2.FsctlGetReparsePoint, FileID: smb2.AnyFileID,
		MaxOutputResponse: uint32(room), Flags: smb2.IoctlFlagIsFsctl}); err != nil {
		return nil, err
	}
	if err := sh.on(ctx, name, CreateOptions{Access: AccessReadAttributes | AccessSynchronize, Options: OptOpenReparsePoint}, k); err != nil {
		return nil, err
	}
	m, err := smb2.ParseIoctlResponse(k.msg)
	if err != nil {
		return nil, k.badBody(err)
	}
	if len(m.Output) > room {
		return nil, k.protocolError("3.2.5.14", "%d bytes of output, %d asked for", len(m.Output), room)
	}
	return append([]byte(nil), m.Output...), nil
}

var le = binary.LittleEndian
