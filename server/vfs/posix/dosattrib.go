//go:build linux

package posix

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// xattrDOSAttrib is where Samba keeps DOS attributes.
const xattrDOSAttrib = "user.DOSATTRIB"

var xattrDOSAttribC = cString(xattrDOSAttrib)

// The value is NDR, little-endian, everything aligned to its size but at most
// to 4:
//
//	attrib_hex   NUL-terminated text, "0x" and hexadecimal digits, or empty
//	version      uint16, at the next even offset
//	switch       uint16, the version again
//	the version's structure, at the next multiple of 4:
//
//	1: attrib u32, ea_size u32, size u64, alloc_size u64, create_time, change_time
//	2: flags u32, then as 1, then write_time and a name
//	3: valid_flags u32, then as 1
//	4: valid_flags u32, attrib u32, itime, create_time
//	5: valid_flags u32, attrib u32, create_time
//
// Times are 64 bits in units of 100 ns since 1601. The oldest form, and Samba's
// version 0xFFFF, is the text alone.
const (
	dosValidAttrib     = 0x01
	dosValidCreateTime = 0x10

	// maxDOSAttrib bounds what is read; real values take 24 to 70 bytes.
	maxDOSAttrib = 512
)

// dosInfo is what of it matters here.
type dosInfo struct {
	attrib    uint32
	hasAttrib bool
	created   time.Time // zero if not stored
}

var errDOSAttrib = errors.New("malformed DOS attributes")

// parseDOSInfo reads any version. It keeps nothing of b.
func parseDOSInfo(b []byte) (dosInfo, error) {
	var d dosInfo
	end := bytes.IndexByte(b, 0)
	text := b
	if end >= 0 {
		text = b[:end]
	}
	if len(text) > 0 {
		hex, ok := strings.CutPrefix(string(text), "0x")
		v, err := strconv.ParseUint(hex, 16, 32)
		if !ok || err != nil {
			// As a string: else b would be on the heap in every call.
			return dosInfo{}, fmt.Errorf("%w: text %q", errDOSAttrib, string(text))
		}
		d.attrib, d.hasAttrib = uint32(v), true
	}
	if end < 0 || end+1 == len(b) {
		if !d.hasAttrib {
			return dosInfo{}, fmt.Errorf("%w: empty", errDOSAttrib)
		}
		return d, nil
	}
	at := (end + 2) &^ 1
	if len(b) < at+4 {
		return dosInfo{}, fmt.Errorf("%w: %d bytes", errDOSAttrib, len(b))
	}
	version := binary.LittleEndian.Uint16(b[at:])
	if again := binary.LittleEndian.Uint16(b[at+2:]); again != version {
		return dosInfo{}, fmt.Errorf("%w: versions %d and %d", errDOSAttrib, version, again)
	}
	at = (at + 4 + 3) &^ 3
	var valid uint32 = dosValidAttrib | dosValidCreateTime
	var attribAt, createAt int
	switch version {
	case 1:
		attribAt, createAt = at, at+24
	case 2:
		attribAt, createAt = at+4, at+28
	case 3:
		attribAt, createAt = at+4, at+28
	case 4:
		attribAt, createAt = at+4, at+16
	case 5:
		attribAt, createAt = at+4, at+8
	default:
		if d.hasAttrib {
			return d, nil
		}
		return dosInfo{}, fmt.Errorf("%w: version %d", errDOSAttrib, version)
	}
	if len(b) < createAt+8 {
		return dosInfo{}, fmt.Errorf("%w: %d bytes for version %d", errDOSAttrib, len(b), version)
	}
	if version >= 3 {
		valid = binary.LittleEndian.Uint32(b[at:])
	}
	if valid&dosValidAttrib != 0 {
		d.attrib, d.hasAttrib = binary.LittleEndian.Uint32(b[attribAt:]), true
	}
	if valid&dosValidCreateTime != 0 {
		d.created = fromNTTime(binary.LittleEndian.Uint64(b[createAt:]))
	}
	return d, nil
}

// appendBinary writes version 3, which every Samba since 3.5 and ksmbd read.
func (d dosInfo) appendBinary(b []byte) []byte {
	start := len(b)
	var valid uint32
	if d.hasAttrib {
		valid |= dosValidAttrib
		b = append(b, "0x"...)
		b = strconv.AppendUint(b, uint64(d.attrib), 16)
	}
	b = append(b, 0)
	if (len(b)-start)%2 != 0 {
		b = append(b, 0)
	}
	b = binary.LittleEndian.AppendUint16(b, 3)
	b = binary.LittleEndian.AppendUint16(b, 3)
	for (len(b)-start)%4 != 0 {
		b = append(b, 0)
	}
	var created uint64
	if !d.created.IsZero() {
		valid |= dosValidCreateTime
		created = toNTTime(d.created)
	}
	b = binary.LittleEndian.AppendUint32(b, valid)
	b = binary.LittleEndian.AppendUint32(b, d.attrib)
	b = binary.LittleEndian.AppendUint32(b, 0) // ea_size
	b = binary.LittleEndian.AppendUint64(b, 0) // size
	b = binary.LittleEndian.AppendUint64(b, 0) // alloc_size
	b = binary.LittleEndian.AppendUint64(b, created)
	return binary.LittleEndian.AppendUint64(b, 0) // change_time
}

const (
	// ntEpoch is 1970 in units of 100 ns since 1601 ([MS-DTYP] 2.3.3).
	ntEpoch = 116444736000000000
	// ntSecond is a second in those units.
	ntSecond = 10_000_000
)

// fromNTTime gives the zero Time for 0 and for what no signed NTTIME can hold.
func fromNTTime(t uint64) time.Time {
	if t == 0 || t > math.MaxInt64 {
		return time.Time{}
	}
	d := int64(t) - ntEpoch
	return time.Unix(d/ntSecond, d%ntSecond*100)
}

// toNTTime clamps to the times that mean something: above 0, and signed.
func toNTTime(t time.Time) uint64 {
	switch s := t.Unix(); {
	case s < -ntEpoch/ntSecond:
		return 1
	case s >= (math.MaxInt64-ntEpoch)/ntSecond:
		return math.MaxInt64
	default:
		return uint64(max(1, s*ntSecond+int64(t.Nanosecond())/100+ntEpoch))
	}
}

// knownDOSInfo is readDOSInfo for the object that info describes, from the cache if it
// has that.
func (f *FS) knownDOSInfo(info *vfs.Info, fd int, data bool, name string) (dosInfo, bool) {
	if r, ok := f.attrs.get(info); ok && r.known&knowsDOS != 0 {
		return r.dosInfo()
	}
	d, err := readDOSAttrib(fd, data, name)
	if err == nil || err == unix.ENODATA || errors.Is(err, errDOSAttrib) {
		f.attrs.add(info, dosRecord(d, err == nil))
	}
	return d, err == nil
}

// readDOSInfo is readDOSAttrib where whatever is missing, unsupported or malformed counts
// as not stored.
func readDOSInfo(fd int, data bool, name string) (dosInfo, bool) {
	d, err := readDOSAttrib(fd, data, name)
	return d, err == nil
}

// readDOSAttrib reads the attribute of fd, or of its entry name. data says that fd
// is no O_PATH descriptor.
func readDOSAttrib(fd int, data bool, name string) (dosInfo, error) {
	var buf [maxDOSAttrib]byte
	var n int
	var err error
	if name != "" { // the entry may be exchanged for a link
		n, err = entryXattr(fd, name, xattrDOSAttribC, buf[:])
	} else {
		n, err = retry(func() (int, error) {
			if data {
				return unix.Fgetxattr(fd, xattrDOSAttrib, buf[:])
			}
			return unix.Getxattr(procPath(fd), xattrDOSAttrib, buf[:])
		})
	}
	if err != nil {
		return dosInfo{}, err
	}
	return parseDOSInfo(buf[:n])
}

// with returns d with what a changes.
func (d dosInfo) with(a vfs.SetAttr) dosInfo {
	if a.Set&vfs.SetAttributes != 0 {
		d.attrib = d.attrib&^uint32(vfs.AttrMask) | uint32(a.Attributes&vfs.AttrMask)
		d.hasAttrib = true
	}
	flag := func(set vfs.SetMask, attr vfs.Attributes, on bool) {
		if a.Set&set == 0 {
			return
		}
		d.attrib &^= uint32(attr)
		if on {
			d.attrib |= uint32(attr)
		}
		d.hasAttrib = true
	}
	flag(vfs.SetSparse, vfs.AttrSparse, a.Sparse)
	flag(vfs.SetCompressed, vfs.AttrCompressed, a.Compressed)
	if a.Set&vfs.SetBirthTime != 0 {
		d.created = a.BirthTime
	}
	return d
}

// changeDOSInfo replaces attributes, creation time or both of the object fd,
// and keeps the rest of what is stored. defaults are the attributes it has while
// none are stored. Missing support is not an error.
func (f *FS) changeDOSInfo(fd int, data bool, a vfs.SetAttr, defaults vfs.Attributes) error {
	if f.cfg.NoDOSAttributes {
		return nil
	}
	_, mode, err := idOf(fd, "")
	if err != nil {
		return err
	}
	if !mode.IsRegular() && !mode.IsDir() {
		return nil // user attributes go on nothing else
	}
	d, _ := readDOSInfo(fd, data, "")
	if !d.hasAttrib {
		d.attrib = uint32(defaults) // which storing anything replaces
	}
	return f.writeDOSInfo(fd, data, d.with(a))
}

func (f *FS) writeDOSInfo(fd int, data bool, d dosInfo) error {
	if f.cfg.NoDOSAttributes {
		return nil
	}
	value := d.appendBinary(make([]byte, 0, 64))
	_, err := retry(func() (int, error) {
		if data {
			return 0, unix.Fsetxattr(fd, xattrDOSAttrib, value, 0)
		}
		return 0, unix.Setxattr(procPath(fd), xattrDOSAttrib, value, 0)
	})
	if err == unix.EOPNOTSUPP {
		return nil
	}
	return err
}

// hasXattrs reports whether the storage of fd keeps users' attributes.
func hasXattrs(fd int) bool {
	_, err := retry(func() (int, error) { return unix.Getxattr(procPath(fd), xattrDOSAttrib, nil) })
	return err == nil || err == unix.ENODATA
}
