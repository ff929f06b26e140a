package smb2

const (
	reparseDataSize    = 8
	symlinkReparseSize = 12
)

// ReparseDataBuffer is REPARSE_DATA_BUFFER, [MS-FSCC] 2.1.2.2, the output of
// FSCTL_GET_REPARSE_POINT and input of FSCTL_SET_REPARSE_POINT: ReparseTag (4),
// ReparseDataLength (2), Reserved (2), DataBuffer.
type ReparseDataBuffer struct {
	ReparseTag ReparseTag
	Data       []byte // borrowed when parsed
}

// AppendBinary appends the structure.
func (m *ReparseDataBuffer) AppendBinary(b []byte) ([]byte, error) {
	if len(m.Data) > 0xFFFF {
		return b, tooLong("REPARSE_DATA_BUFFER", "DataBuffer", len(m.Data))
	}
	b = le.AppendUint32(b, uint32(m.ReparseTag))
	b = le.AppendUint16(b, uint16(len(m.Data)))
	b = zeros(b, 2)
	return append(b, m.Data...), nil
}

// ParseReparseDataBuffer decodes the structure.
func ParseReparseDataBuffer(b []byte) (ReparseDataBuffer, error) {
	const name = "REPARSE_DATA_BUFFER"
	if len(b) < reparseDataSize {
		return ReparseDataBuffer{}, short(name, len(b), reparseDataSize)
	}
	data, err := section(b, name, "DataBuffer", reparseDataSize, uint64(le.Uint16(b[4:])), reparseDataSize)
	if err != nil {
		return ReparseDataBuffer{}, err
	}
	return ReparseDataBuffer{ReparseTag(le.Uint32(b)), data}, nil
}

// SymbolicLinkReparseBuffer is the Symbolic Link Reparse Data Buffer, [MS-FSCC]
// 2.1.2.4, a REPARSE_DATA_BUFFER with ReparseTagSymlink:
//
//	0 ReparseTag   4 ReparseDataLength   6 Reserved
//	8 SubstituteNameOffset, SubstituteNameLength   12 PrintNameOffset, PrintNameLength
//	16 Flags      20 PathBuffer
type SymbolicLinkReparseBuffer struct {
	SubstituteName string
	PrintName      string
	Flags          uint32 // SymlinkFlagRelative
}

// AppendBinary appends the structure.
func (m *SymbolicLinkReparseBuffer) AppendBinary(b []byte) ([]byte, error) {
	subst, print := UTF16Len(m.SubstituteName), UTF16Len(m.PrintName)
	n := symlinkReparseSize + subst + print
	if n > 0xFFFF {
		return b, tooLong("symbolic link reparse buffer", "PathBuffer", n)
	}
	b = le.AppendUint32(b, uint32(ReparseTagSymlink))
	b = le.AppendUint16(b, uint16(n))
	b = zeros(b, 4) // Reserved, and SubstituteNameOffset 0
	b = le.AppendUint16(b, uint16(subst))
	b = le.AppendUint16(b, uint16(subst))
	b = le.AppendUint16(b, uint16(print))
	b = le.AppendUint32(b, m.Flags)
	b = AppendUTF16(b, m.SubstituteName)
	return AppendUTF16(b, m.PrintName), nil
}

// ParseSymbolicLinkReparseBuffer decodes the structure; another reparse tag is
// an error.
func ParseSymbolicLinkReparseBuffer(b []byte) (SymbolicLinkReparseBuffer, error) {
	const name = "symbolic link reparse buffer"
	r, err := ParseReparseDataBuffer(b)
	if err != nil {
		return SymbolicLinkReparseBuffer{}, err
	}
	if r.ReparseTag != ReparseTagSymlink {
		return SymbolicLinkReparseBuffer{}, bad(name, "ReparseTag", uint64(r.ReparseTag), uint64(ReparseTagSymlink))
	}
	d := r.Data
	if len(d) < symlinkReparseSize {
		return SymbolicLinkReparseBuffer{}, short(name, len(d), symlinkReparseSize)
	}
	path := d[symlinkReparseSize:]
	subst, err := nameSection(path, name, "SubstituteName", uint64(le.Uint16(d)), uint64(le.Uint16(d[2:])), 0)
	if err != nil {
		return SymbolicLinkReparseBuffer{}, err
	}
	print, err := nameSection(path, name, "PrintName", uint64(le.Uint16(d[4:])), uint64(le.Uint16(d[6:])), 0)
	if err != nil {
		return SymbolicLinkReparseBuffer{}, err
	}
	return SymbolicLinkReparseBuffer{DecodeUTF16(subst), DecodeUTF16(print), le.Uint32(d[8:])}, nil
}

const mountPointReparseSize = 8

// MountPointReparseBuffer is the Mount Point Reparse Data Buffer, [MS-FSCC] 2.1.2.5: as
// SymbolicLinkReparseBuffer, with another tag and without Flags.
type MountPointReparseBuffer struct {
	SubstituteName string
	PrintName      string
}

// ParseMountPointReparseBuffer decodes the structure; another reparse tag is an error.
func ParseMountPointReparseBuffer(b []byte) (MountPointReparseBuffer, error) {
	const name = "mount point reparse buffer"
	r, err := ParseReparseDataBuffer(b)
	if err != nil {
		return MountPointReparseBuffer{}, err
	}
	if r.ReparseTag != ReparseTagMountPoint {
		return MountPointReparseBuffer{}, bad(name, "ReparseTag", uint64(r.ReparseTag), uint64(ReparseTagMountPoint))
	}
	d := r.Data
	if len(d) < mountPointReparseSize {
		return MountPointReparseBuffer{}, short(name, len(d), mountPointReparseSize)
	}
	path := d[mountPointReparseSize:]
	subst, err := nameSection(path, name, "SubstituteName", uint64(le.Uint16(d)), uint64(le.Uint16(d[2:])), 0)
	if err != nil {
		return MountPointReparseBuffer{}, err
	}
	print, err := nameSection(path, name, "PrintName", uint64(le.Uint16(d[4:])), uint64(le.Uint16(d[6:])), 0)
	if err != nil {
		return MountPointReparseBuffer{}, err
	}
	return MountPointReparseBuffer{DecodeUTF16(subst), DecodeUTF16(print)}, nil
}

// NFSReparseLink is NFS_SPECFILE_LNK, [MS-FSCC] 2.1.2.6, the first eight octets of an
// NFS reparse point that is a symbolic link.
const NFSReparseLink = 0x00000000014B4E4C

// LinkTarget returns the target of a reparse point that is a symbolic link of any make,
// as its maker spells it: with backslashes for ReparseTagSymlink, else with slashes.
// relative is told by the flag of ReparseTagSymlink, and unknown for the others. ok is
// false for all other reparse points.
func LinkTarget(b []byte) (tag ReparseTag, target string, relative, ok bool, err error) {
	r, err := ParseReparseDataBuffer(b)
	if err != nil {
		return 0, "", false, false, err
	}
	const name = "symbolic link reparse buffer"
	switch r.ReparseTag {
	case ReparseTagSymlink:
		m, err := ParseSymbolicLinkReparseBuffer(b)
		return r.ReparseTag, m.SubstituteName, m.Flags&SymlinkFlagRelative != 0, err == nil, err
	case ReparseTagNFS:
		if len(r.Data) < 8 {
			return r.ReparseTag, "", false, false, short(name, len(r.Data), 8)
		}
		if le.Uint64(r.Data) != NFSReparseLink {
			return r.ReparseTag, "", false, false, nil
		}
		if len(r.Data)%2 != 0 {
			return r.ReparseTag, "", false, false, bad(name, "ReparseDataLength", uint64(len(r.Data)), 2)
		}
		return r.ReparseTag, DecodeUTF16(r.Data[8:]), false, true, nil
	case ReparseTagLXSymlink:
		if len(r.Data) < 4 {
			return r.ReparseTag, "", false, false, short(name, len(r.Data), 4)
		}
		if v := le.Uint32(r.Data); v != 2 {
			return r.ReparseTag, "", false, false, bad(name, "Version", uint64(v), 2)
		}
		return r.ReparseTag, string(r.Data[4:]), false, true, nil
	}
	return r.ReparseTag, "", false, false, nil
}
