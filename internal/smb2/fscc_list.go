package smb2

import "iter"

// EntryList builds the lists of [MS-FSCC] whose entries begin with a 32-bit
// NextEntryOffset: directory entries, notifications, streams, extended
// attributes. Entries are appended to a slice up to a limit; one that does not
// fit changes nothing and is reported. All entries of one list are of one
// kind. Nothing is allocated while the slice has room.
type EntryList struct {
	buf  []byte
	base int // where the list begins in buf
	max  int // limit of the list's length
	last int // where the last entry begins in buf, -1 for none
	n    int
}

// NewEntryList starts a list behind the octets of b, of at most max octets.
func NewEntryList(b []byte, max int) EntryList {
	return EntryList{buf: b, base: len(b), max: max, last: -1}
}

// Bytes returns the slice given to NewEntryList with the list appended.
func (l *EntryList) Bytes() []byte { return l.buf }

// Len returns the length of the list in octets.
func (l *EntryList) Len() int { return len(l.buf) - l.base }

// Count returns the number of entries.
func (l *EntryList) Count() int { return l.n }

// begin makes room for an entry of size octets at the next multiple of align,
// links the one before to it, and returns the entry, zeroed; nil if it does
// not fit. The padding before an entry counts, padding after the last does not.
func (l *EntryList) begin(size, align int) []byte {
	off := alignUp(l.Len(), align)
	if off > l.max || size > l.max-off {
		return nil
	}
	l.buf = zeros(l.buf, off-l.Len())
	start := len(l.buf)
	if l.last >= 0 {
		le.PutUint32(l.buf[l.last:], uint32(start-l.last))
	}
	l.buf = zeros(l.buf, size)
	l.last = start
	l.n++
	return l.buf[start:]
}

// entries yields the entries of a list, each from its NextEntryOffset to the
// start of the next one (or the end). min is the size of the fixed part of an
// entry. At the first fault it yields a nil slice with an error and stops. An
// empty b has no entries.
func entries(b []byte, name string, min int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for len(b) > 0 {
			if len(b) < min {
				yield(nil, short(name, len(b), min))
				return
			}
			next := uint64(le.Uint32(b))
			if next == 0 {
				yield(b, nil)
				return
			}
			// min > 0, so every step shortens b.
			if next < uint64(min) || next >= uint64(len(b)) {
				yield(nil, bad(name, "NextEntryOffset", next, uint64(len(b))))
				return
			}
			if !yield(b[:next:next], nil) {
				return
			}
			b = b[next:]
		}
	}
}

// NotifyAction is the Action of FILE_NOTIFY_INFORMATION, [MS-FSCC] 2.7.1.
type NotifyAction uint32

const (
	FileActionAdded                NotifyAction = 0x00000001
	FileActionRemoved              NotifyAction = 0x00000002
	FileActionModified             NotifyAction = 0x00000003
	FileActionRenamedOldName       NotifyAction = 0x00000004
	FileActionRenamedNewName       NotifyAction = 0x00000005
	FileActionAddedStream          NotifyAction = 0x00000006
	FileActionRemovedStream        NotifyAction = 0x00000007
	FileActionModifiedStream       NotifyAction = 0x00000008
	FileActionRemovedByDelete      NotifyAction = 0x00000009
	FileActionIDNotTunnelled       NotifyAction = 0x0000000A
	FileActionTunnelledIDCollision NotifyAction = 0x0000000B
)

// FileNotifyInformation is FILE_NOTIFY_INFORMATION, [MS-FSCC] 2.7.1:
// NextEntryOffset (4), Action (4), FileNameLength (4), FileName. Entries are at
// multiples of 4.
type FileNotifyInformation struct {
	Action   NotifyAction
	FileName string // relative to the watched directory, with backslashes
}

const fileNotifySize = 12

// AppendNotify adds an entry and reports whether it fitted.
func (l *EntryList) AppendNotify(n FileNotifyInformation) bool {
	size := UTF16Len(n.FileName)
	e := l.begin(fileNotifySize+size, 4)
	if e == nil {
		return false
	}
	le.PutUint32(e[4:], uint32(n.Action))
	le.PutUint32(e[8:], uint32(size))
	AppendUTF16(e[:fileNotifySize], n.FileName)
	return true
}

// FileNotifyInformations yields the entries of a CHANGE_NOTIFY response's
// buffer; at the first fault it yields an error and stops.
func FileNotifyInformations(b []byte) iter.Seq2[FileNotifyInformation, error] {
	const name = "FILE_NOTIFY_INFORMATION"
	return func(yield func(FileNotifyInformation, error) bool) {
		for e, err := range entries(b, name, fileNotifySize) {
			var file []byte
			if err == nil {
				file, err = nameSection(e, name, "FileName", fileNotifySize, uint64(le.Uint32(e[8:])), fileNotifySize)
			}
			if err != nil {
				yield(FileNotifyInformation{}, err)
				return
			}
			if !yield(FileNotifyInformation{NotifyAction(le.Uint32(e[4:])), DecodeUTF16(file)}, nil) {
				return
			}
		}
	}
}

// FileStreamInformation is an entry of FileStreamInformation, [MS-FSCC] 2.4.49:
// NextEntryOffset (4), StreamNameLength (4), StreamSize (8),
// StreamAllocationSize (8), StreamName. Entries are at multiples of 8.
type FileStreamInformation struct {
	StreamSize           uint64
	StreamAllocationSize uint64
	StreamName           string // such as "::$DATA"
}

const fileStreamSize = 24

// AppendStream adds an entry and reports whether it fitted.
func (l *EntryList) AppendStream(s FileStreamInformation) bool {
	size := UTF16Len(s.StreamName)
	e := l.begin(fileStreamSize+size, 8)
	if e == nil {
		return false
	}
	le.PutUint32(e[4:], uint32(size))
	le.PutUint64(e[8:], s.StreamSize)
	le.PutUint64(e[16:], s.StreamAllocationSize)
	AppendUTF16(e[:fileStreamSize], s.StreamName)
	return true
}

// FileStreamInformations yields the entries of a list; at the first fault it
// yields an error and stops.
func FileStreamInformations(b []byte) iter.Seq2[FileStreamInformation, error] {
	const name = "FileStreamInformation"
	return func(yield func(FileStreamInformation, error) bool) {
		for e, err := range entries(b, name, fileStreamSize) {
			var file []byte
			if err == nil {
				file, err = nameSection(e, name, "StreamName", fileStreamSize, uint64(le.Uint32(e[4:])), fileStreamSize)
			}
			if err != nil {
				yield(FileStreamInformation{}, err)
				return
			}
			if !yield(FileStreamInformation{le.Uint64(e[8:]), le.Uint64(e[16:]), DecodeUTF16(file)}, nil) {
				return
			}
		}
	}
}

// FileNeedEA is the flag of FileFullEaInformation.
const FileNeedEA uint8 = 0x80

// FileFullEaInformation is an entry of FileFullEaInformation, [MS-FSCC] 2.4.16,
// also the data of the "ExtA" create context: NextEntryOffset (4), Flags (1),
// EaNameLength (1), EaValueLength (2), EaName, NUL, EaValue. Entries are at
// multiples of 4.
type FileFullEaInformation struct {
	Flags   uint8
	EaName  string // 8-bit characters, at most 255
	EaValue []byte // at most 65535 octets; borrowed when parsed
}

const fileFullEaSize = 8

// AppendEa adds an entry and reports whether it fitted. A name or value too
// long for its field does not fit.
func (l *EntryList) AppendEa(ea FileFullEaInformation) bool {
	if len(ea.EaName) > 0xFF || len(ea.EaValue) > 0xFFFF {
		return false
	}
	e := l.begin(fileFullEaSize+len(ea.EaName)+1+len(ea.EaValue), 4)
	if e == nil {
		return false
	}
	e[4] = ea.Flags
	e[5] = uint8(len(ea.EaName))
	le.PutUint16(e[6:], uint16(len(ea.EaValue)))
	copy(e[fileFullEaSize:], ea.EaName)
	copy(e[fileFullEaSize+len(ea.EaName)+1:], ea.EaValue)
	return true
}

// FileFullEaInformations yields the entries of a list; at the first fault it
// yields an error and stops. NextEntryOffset must be a multiple of 4 and names
// end in NUL ([MS-FSCC] 2.4.16).
func FileFullEaInformations(b []byte) iter.Seq2[FileFullEaInformation, error] {
	const name = "FileFullEaInformation"
	return func(yield func(FileFullEaInformation, error) bool) {
		for e, err := range entries(b, name, fileFullEaSize+1) {
			if err != nil {
				yield(FileFullEaInformation{}, err)
				return
			}
			n, v := int(e[5]), int(le.Uint16(e[6:]))
			end := fileFullEaSize + n + 1
			switch {
			case le.Uint32(e)%4 != 0:
				err = bad(name, "NextEntryOffset", uint64(le.Uint32(e)), uint64(le.Uint32(e)&^3))
			case end+v > len(e):
				err = bad(name, "entry end", uint64(end+v), uint64(len(e)))
			case e[end-1] != 0:
				err = bad(name, "EaName terminator", uint64(e[end-1]), 0)
			}
			if err != nil {
				yield(FileFullEaInformation{}, err)
				return
			}
			if !yield(FileFullEaInformation{e[4], string(e[fileFullEaSize : end-1]), e[end : end+v : end+v]}, nil) {
				return
			}
		}
	}
}

const fileGetEaSize = 5

// AppendGetEa adds a FILE_GET_EA_INFORMATION, [MS-FSCC] 2.4.16.1, which asks for
// one attribute: NextEntryOffset (4), EaNameLength (1), EaName, NUL; entries at
// multiples of 4. It reports whether it fitted.
func (l *EntryList) AppendGetEa(name string) bool {
	if len(name) > 0xFF {
		return false
	}
	e := l.begin(fileGetEaSize+len(name)+1, 4)
	if e == nil {
		return false
	}
	e[4] = uint8(len(name))
	copy(e[fileGetEaSize:], name)
	return true
}

// FileGetEaInformations yields the names of a FILE_GET_EA_INFORMATION list; at
// the first fault it yields an error and stops.
func FileGetEaInformations(b []byte) iter.Seq2[string, error] {
	const name = "FILE_GET_EA_INFORMATION"
	return func(yield func(string, error) bool) {
		for e, err := range entries(b, name, fileGetEaSize+1) {
			if err != nil {
				yield("", err)
				return
			}
			end := fileGetEaSize + int(e[4])
			if end+1 > len(e) {
				yield("", bad(name, "EaName end", uint64(end+1), uint64(len(e))))
				return
			}
			if !yield(string(e[fileGetEaSize:end]), nil) {
				return
			}
		}
	}
}
