package smb2

import "iter"

// ErrorID names the kind of an error context, [MS-SMB2] 2.2.2.1.
type ErrorID uint32

const (
	ErrorIDDefault       ErrorID = 0x00000000
	ErrorIDShareRedirect ErrorID = 0x72645253
)

// ErrorResponse is the SMB2 ERROR response, [MS-SMB2] 2.2.2:
//
//	0 StructureSize 9   2 ErrorContextCount   3 Reserved   4 ByteCount   8 ErrorData
type ErrorResponse struct {
	ErrorContextCount uint8  // 3.1.1: the number of contexts in ErrorData
	ErrorData         []byte // borrowed when parsed
}

const errorResponseSize = 8

// AppendBinary appends the body. Without ErrorData one zero octet follows, as
// 2.2.2 requires.
func (m *ErrorResponse) AppendBinary(b []byte) ([]byte, error) {
	if uint64(len(m.ErrorData)) > 0xFFFFFFFF {
		return b, tooLong("ERROR response", "ErrorData", len(m.ErrorData))
	}
	b = le.AppendUint16(b, 9)
	b = append(b, m.ErrorContextCount, 0)
	b = le.AppendUint32(b, uint32(len(m.ErrorData)))
	return appendBuffer(b, m.ErrorData), nil
}

// ParseErrorResponse decodes a response; msg includes the header.
func ParseErrorResponse(msg []byte) (ErrorResponse, error) {
	const name = "ERROR response"
	body, err := bodyOf(msg, name, 9, errorResponseSize)
	if err != nil {
		return ErrorResponse{}, err
	}
	data, err := section(body, name, "ErrorData", errorResponseSize, uint64(le.Uint32(body[4:])), errorResponseSize)
	if err != nil {
		return ErrorResponse{}, err
	}
	return ErrorResponse{ErrorContextCount: body[2], ErrorData: data}, nil
}

// ErrorContext is one SMB2 ERROR Context, [MS-SMB2] 2.2.2.1:
// ErrorDataLength (4), ErrorId (4), ErrorContextData.
type ErrorContext struct {
	ErrorID ErrorID
	Data    []byte // borrowed when parsed
}

const errorContextSize = 8

// AppendErrorContext appends a context to data, the ErrorData of a 3.1.1
// response so far, at the next multiple of 8. The caller counts them.
func AppendErrorContext(data []byte, id ErrorID, content []byte) ([]byte, error) {
	if uint64(len(content)) > 0xFFFFFFFF {
		return data, tooLong("ERROR context", "ErrorContextData", len(content))
	}
	data = pad(data, 0, 8)
	data = le.AppendUint32(data, uint32(len(content)))
	data = le.AppendUint32(data, uint32(id))
	return append(data, content...), nil
}

// Contexts yields the error contexts of a 3.1.1 response; at the first fault
// it yields an error and stops. Without contexts (ErrorContextCount 0) it yields nothing
// and ErrorData is the data itself.
func (m *ErrorResponse) Contexts() iter.Seq2[ErrorContext, error] {
	const name = "ERROR context"
	return func(yield func(ErrorContext, error) bool) {
		off := uint64(0)
		for range m.ErrorContextCount {
			off = (off + 7) &^ 7
			if off+errorContextSize > uint64(len(m.ErrorData)) {
				yield(ErrorContext{}, bad(name, "end", off+errorContextSize, uint64(len(m.ErrorData))))
				return
			}
			n := uint64(le.Uint32(m.ErrorData[off:]))
			data, err := section(m.ErrorData, name, "ErrorContextData", off+errorContextSize, n, errorContextSize)
			if err != nil {
				yield(ErrorContext{}, err)
				return
			}
			if !yield(ErrorContext{ErrorID(le.Uint32(m.ErrorData[off+4:])), data}, nil) {
				return
			}
			off += errorContextSize + n
		}
	}
}

// Data returns the data of an error of the given kind, whether it stands in a
// context (3.1.1) or alone (ErrorIDDefault of other dialects); nil if there is
// none.
func (m *ErrorResponse) Data(id ErrorID) ([]byte, error) {
	if m.ErrorContextCount == 0 {
		if id == ErrorIDDefault {
			return m.ErrorData, nil
		}
		return nil, nil
	}
	for c, err := range m.Contexts() {
		if err != nil {
			return nil, err
		}
		if c.ErrorID == id {
			return c.Data, nil
		}
	}
	return nil, nil
}

// SymlinkFlagRelative says that the substitute name is relative.
const SymlinkFlagRelative uint32 = 0x00000001

const (
	symlinkErrorTag  = 0x4C4D5953 // "SYML"
	symlinkErrorSize = 28
)

// SymbolicLinkErrorResponse goes with STATUS_STOPPED_ON_SYMLINK, [MS-SMB2] 2.2.2.2.1:
//
//	 0 SymLinkLength   4 SymLinkErrorTag   8 ReparseTag
//	12 ReparseDataLength                  14 UnparsedPathLength
//	16 SubstituteNameOffset, SubstituteNameLength
//	20 PrintNameOffset, PrintNameLength   24 Flags   28 PathBuffer
type SymbolicLinkErrorResponse struct {
	UnparsedPathLength uint16 // octets at the end of the requested name not yet looked at
	Flags              uint32 // SymlinkFlagRelative
	SubstituteName     []byte // UTF-16LE; borrowed when parsed
	PrintName          []byte // UTF-16LE; borrowed when parsed
}

// AppendBinary appends the structure, the ErrorData or error context data.
func (m *SymbolicLinkErrorResponse) AppendBinary(b []byte) ([]byte, error) {
	// ReparseDataLength counts from SubstituteNameOffset.
	n := 12 + len(m.SubstituteName) + len(m.PrintName)
	if n > 0xFFFF {
		return b, tooLong("symbolic link error", "PathBuffer", n)
	}
	b = le.AppendUint32(b, uint32(symlinkErrorSize-4+n-12))
	b = le.AppendUint32(b, symlinkErrorTag)
	b = le.AppendUint32(b, uint32(ReparseTagSymlink))
	b = le.AppendUint16(b, uint16(n))
	b = le.AppendUint16(b, m.UnparsedPathLength)
	b = le.AppendUint16(b, 0)
	b = le.AppendUint16(b, uint16(len(m.SubstituteName)))
	b = le.AppendUint16(b, uint16(len(m.SubstituteName)))
	b = le.AppendUint16(b, uint16(len(m.PrintName)))
	b = le.AppendUint32(b, m.Flags)
	b = append(b, m.SubstituteName...)
	return append(b, m.PrintName...), nil
}

// ParseSymbolicLinkErrorResponse decodes the structure.
func ParseSymbolicLinkErrorResponse(b []byte) (SymbolicLinkErrorResponse, error) {
	const name = "symbolic link error"
	var m SymbolicLinkErrorResponse
	if len(b) < symlinkErrorSize {
		return m, short(name, len(b), symlinkErrorSize)
	}
	if n := uint64(le.Uint32(b)); n < symlinkErrorSize-4 || n > uint64(len(b))-4 {
		return m, bad(name, "SymLinkLength", n, uint64(len(b))-4)
	}
	if tag := le.Uint32(b[4:]); tag != symlinkErrorTag {
		return m, bad(name, "SymLinkErrorTag", uint64(tag), symlinkErrorTag)
	}
	if tag := le.Uint32(b[8:]); tag != uint32(ReparseTagSymlink) {
		return m, bad(name, "ReparseTag", uint64(tag), uint64(ReparseTagSymlink))
	}
	path := b[symlinkErrorSize:]
	subst, err := nameSection(path, name, "SubstituteName", uint64(le.Uint16(b[16:])), uint64(le.Uint16(b[18:])), 0)
	if err != nil {
		return m, err
	}
	print, err := nameSection(path, name, "PrintName", uint64(le.Uint16(b[20:])), uint64(le.Uint16(b[22:])), 0)
	if err != nil {
		return m, err
	}
	return SymbolicLinkErrorResponse{
		UnparsedPathLength: le.Uint16(b[14:]),
		Flags:              le.Uint32(b[24:]),
		SubstituteName:     subst,
		PrintName:          print,
	}, nil
}
