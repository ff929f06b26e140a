package smb2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// le is the byte order of everything in this package.
var le = binary.LittleEndian

// ErrMalformed matches, with errors.Is, every error of a Parse function and of
// an iterator.
var ErrMalformed = errors.New("malformed SMB structure")

// ErrTooLong matches every error of an AppendBinary method: something is too
// long, or has too many elements, for the length field that announces it.
var ErrTooLong = errors.New("too long for its length field")

// ParseError says what in a structure from the wire is wrong.
// It matches ErrMalformed and ntstatus.InvalidParameter.
type ParseError struct {
	Struct string // name in the specification
	Field  string // the field found wrong
	Got    uint64 // its value, or the end of what it describes
	Want   uint64 // the value it must have, or the limit it breaks
}

// Error implements error.
func (e *ParseError) Error() string {
	return fmt.Sprintf("malformed %s: %s %d, want or limit %d", e.Struct, e.Field, e.Got, e.Want)
}

// Unwrap makes errors.Is match.
func (e *ParseError) Unwrap() []error { return []error{ErrMalformed, ntstatus.InvalidParameter} }

func bad(name, field string, got, want uint64) error {
	return &ParseError{Struct: name, Field: field, Got: got, Want: want}
}

func short(name string, got, want int) error {
	return &ParseError{Struct: name, Field: "length", Got: uint64(got), Want: uint64(want)}
}

func tooLong(name, field string, n int) error {
	return fmt.Errorf("%s.%s of %d: %w", name, field, n, ErrTooLong)
}

// bodyOf returns the body of msg after checking that it holds the header and
// fixed octets more, and that the body's StructureSize is size.
func bodyOf(msg []byte, name string, size uint16, fixed int) ([]byte, error) {
	if len(msg) < HeaderSize+fixed {
		return nil, short(name, len(msg), HeaderSize+fixed)
	}
	body := msg[HeaderSize:]
	if got := le.Uint16(body); got != size {
		return nil, bad(name, "StructureSize", uint64(got), uint64(size))
	}
	return body, nil
}

// section returns b[off:off+n] for an offset and length from the wire. An
// empty section is nil whatever its offset; any other must begin at or after
// low and end within b.
func section(b []byte, name, field string, off, n uint64, low int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	if off < uint64(low) {
		return nil, bad(name, field+" offset", off, uint64(low))
	}
	// Neither is ever wider than 32 bits on the wire, so the sum can't wrap.
	if end := off + n; end > uint64(len(b)) {
		return nil, bad(name, field+" end", end, uint64(len(b)))
	}
	return b[off : off+n : off+n], nil
}

// nameSection is section for a UTF-16LE name: its length must be even.
func nameSection(b []byte, name, field string, off, n uint64, low int) ([]byte, error) {
	if n%2 != 0 {
		return nil, bad(name, field+" length", n, n-1)
	}
	return section(b, name, field, off, n, low)
}

// zeros appends n zero octets.
func zeros(b []byte, n int) []byte {
	old := len(b)
	b = slices.Grow(b, n)[:old+n]
	clear(b[old:])
	return b
}

// pad appends zero octets until len(b)-start is a multiple of align.
func pad(b []byte, start, align int) []byte {
	if r := (len(b) - start) % align; r != 0 {
		return zeros(b, align-r)
	}
	return b
}

// alignUp rounds n up to a multiple of align, a power of two.
func alignUp(n, align int) int { return (n + align - 1) &^ (align - 1) }

// GUID is a GUID in wire order ([MS-DTYP] 2.3.4.2); also used for lease keys
// and other 16-octet identifiers. It is comparable.
type GUID [16]byte

// String gives the registry form, as 6ba7b810-9dad-11d1-80b4-00c04fd430c8.
func (g GUID) String() string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(g[0:]), le.Uint16(g[4:]), le.Uint16(g[6:]), g[8:10], g[10:16])
}

// FileID is SMB2_FILEID of [MS-SMB2] 2.2.14.1. It is comparable.
type FileID struct {
	Persistent uint64
	Volatile   uint64
}

// AnyFileID is all ones: "no file" in IOCTL requests ([MS-SMB2] 2.2.31) and
// "the file of the previous request" in related compounds (3.3.5.2.7.2).
var AnyFileID = FileID{^uint64(0), ^uint64(0)}

func parseFileID(b []byte) FileID { return FileID{le.Uint64(b), le.Uint64(b[8:])} }

func (f FileID) append(b []byte) []byte {
	b = le.AppendUint64(b, f.Persistent)
	return le.AppendUint64(b, f.Volatile)
}
