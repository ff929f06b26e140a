package dcerpc

import (
	"encoding/binary"
	"fmt"
	"unicode/utf16"
)

// reader decodes NDR 2.0, [C706] chapter 14, little endian. It remembers that it
// ran out or met something that can't be, so a decoder reads like the IDL and asks
// for err once at the end. Offsets are relative to the stub, as alignment is.
type reader struct {
	b   []byte
	off int
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
	}
}

// take returns the next n bytes, or nil once the reader has failed.
func (r *reader) take(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.b)-r.off {
		r.fail("%d bytes at %d in a stub of %d", n, r.off, len(r.b))
		return nil
	}
	b := r.b[r.off : r.off+n]
	r.off += n
	return b
}

func (r *reader) align(n int) {
	if pad := -r.off & (n - 1); pad != 0 {
		r.take(pad)
	}
}

func (r *reader) u32() uint32 {
	r.align(4)
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u16() uint16 {
	r.align(2)
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

// pointer reads a referent and reports whether something is behind it. Full
// pointers, which could be aliases, are not in the interfaces here.
func (r *reader) pointer() bool { return r.u32() != 0 }

// str reads a conformant varying string of UTF-16 with its terminating null.
func (r *reader) str() string {
	limit, first, n := r.u32(), r.u32(), r.u32()
	if r.err != nil {
		return ""
	}
	if first != 0 || n > limit || uint64(n)*2 > uint64(len(r.b)-r.off) {
		r.fail("string of %d from %d of %d", n, first, limit)
		return ""
	}
	b := r.take(int(n) * 2)
	u := make([]uint16, 0, n)
	for i := 0; i+1 < len(b); i += 2 {
		c := binary.LittleEndian.Uint16(b[i:])
		if c == 0 {
			break
		}
		u = append(u, c)
	}
	return string(utf16.Decode(u))
}

// optStr reads a unique pointer to a string, both at this place, as a parameter is.
func (r *reader) optStr() string {
	if !r.pointer() {
		return ""
	}
	return r.str()
}

// ustring is the part of an RPC_UNICODE_STRING ([MS-DTYP] 2.3.10) in a structure; what
// it points to comes later.
type ustring struct{ there bool }

func (r *reader) ustring() ustring {
	r.align(4)
	length, size := r.u16(), r.u16()
	if length > size || length%2 != 0 {
		r.fail("string of %d bytes in %d", length, size)
	}
	return ustring{r.pointer()}
}

// text reads what u points to: a conformant varying array of UTF-16 without an end.
func (r *reader) text(u ustring) string {
	if !u.there {
		return ""
	}
	return r.str()
}

// ustr reads a string whose two parts follow each other, as a parameter is.
func (r *reader) ustr() string { return r.text(r.ustring()) }

// maxEntries bounds the names and SIDs of one call, [MS-LSAT] 3.1.4.5 and others.
const maxEntries = 1024

// count reads the size of a conformant array of elements of at least size bytes, which
// has to be n.
func (r *reader) count(n uint32, size int) int {
	m := r.u32()
	if r.err != nil {
		return 0
	}
	if m != n || n > maxEntries || uint64(n)*uint64(size) > uint64(len(r.b)-r.off) {
		r.fail("array of %d with %d elements", m, n)
		return 0
	}
	return int(n)
}

// varying reads the size of a conformant varying array likewise.
func (r *reader) varying(n uint32, size int) int {
	limit, first, m := r.u32(), r.u32(), r.u32()
	if r.err != nil {
		return 0
	}
	if first != 0 || m != n || m > limit || n > maxEntries || uint64(n)*uint64(size) > uint64(len(r.b)-r.off) {
		r.fail("array of %d from %d of %d with %d elements", m, first, limit, n)
		return 0
	}
	return int(n)
}

// sid reads an RPC_SID, [MS-DTYP] 2.4.2.3.
func (r *reader) sid() SID {
	n := r.u32()
	b := r.take(8)
	if r.err != nil {
		return ""
	}
	if b[0] != 1 || uint32(b[1]) != n || n > 15 {
		r.fail("SID of revision %d with %d of %d sub-authorities", b[0], b[1], n)
		return ""
	}
	return SID(b) + SID(r.take(int(n)*4))
}

// handle reads a context handle, [C706] 14.3.
func (r *reader) handle() (h contextHandle) {
	r.align(4)
	copy(h[:], r.take(len(h)))
	return h
}

// writer encodes NDR 2.0. What a pointer in a structure points to comes after the
// structure, or after the array that it is in; such things wait in later.
type writer struct {
	b        []byte
	referent uint32
	later    []func()
}

func (w *writer) align(n int) {
	for len(w.b)%n != 0 {
		w.b = append(w.b, 0)
	}
}

func (w *writer) u32(v uint32) {
	w.align(4)
	w.b = binary.LittleEndian.AppendUint32(w.b, v)
}

func (w *writer) u16(v uint16) {
	w.align(2)
	w.b = binary.LittleEndian.AppendUint16(w.b, v)
}

func (w *writer) u8(v uint8) { w.b = append(w.b, v) }

// time writes a FILETIME or OLD_LARGE_INTEGER: two halves, aligned as those are.
func (w *writer) time(v uint64) {
	w.u32(uint32(v))
	w.u32(uint32(v >> 32))
}

func (w *writer) handle(h contextHandle) {
	w.align(4)
	w.b = append(w.b, h[:]...)
}

// ustr writes an RPC_UNICODE_STRING in a structure.
func (w *writer) ustr(s string) {
	u := utf16.Encode([]rune(s))
	if len(u) > 0x7FFE {
		u = u[:0x7FFE]
	}
	w.align(4)
	w.u16(uint16(2 * len(u)))
	w.u16(uint16(2 * len(u)))
	if len(u) == 0 {
		w.null()
		return
	}
	w.deferred(func() {
		w.u32(uint32(len(u)))
		w.u32(0)
		w.u32(uint32(len(u)))
		for _, c := range u {
			w.b = binary.LittleEndian.AppendUint16(w.b, c)
		}
	})
}

// sid writes an RPC_SID.
func (w *writer) sid(s SID) {
	w.u32(uint32(s[1]))
	w.b = append(w.b, s...)
}

// sidPtr writes a pointer to a SID in a structure; null for none.
func (w *writer) sidPtr(s SID) {
	if s == "" {
		w.null()
		return
	}
	w.deferred(func() { w.sid(s) })
}

// array writes the number of elements and a pointer to a conformant array of them.
func (w *writer) array(n int, put func(i int)) {
	w.u32(uint32(n))
	if n == 0 {
		w.null()
		return
	}
	w.deferred(func() {
		w.u32(uint32(n))
		for i := range n {
			put(i)
		}
	})
}

// pointer writes a referent for something that the caller writes at once.
func (w *writer) pointer() {
	const firstReferent = 0x00020000 // as Windows counts, for who reads traces
	w.referent += 4
	w.u32(firstReferent + w.referent - 4)
}

// null writes a pointer to nothing.
func (w *writer) null() { w.u32(0) }

// deferred writes a referent for what put will write at the next flush.
func (w *writer) deferred(put func()) {
	w.pointer()
	w.later = append(w.later, put)
}

// flush writes what has been deferred, and what that defers.
func (w *writer) flush() {
	for len(w.later) > 0 {
		now := w.later
		w.later = nil
		for _, put := range now {
			put()
			w.flush()
		}
	}
}

// str writes a conformant varying string.
func (w *writer) str(s string) {
	u := append(utf16.Encode([]rune(s)), 0)
	w.u32(uint32(len(u)))
	w.u32(0)
	w.u32(uint32(len(u)))
	for _, c := range u {
		w.b = binary.LittleEndian.AppendUint16(w.b, c)
	}
}

// strPtr writes a pointer to a string in a structure.
func (w *writer) strPtr(s string) { w.deferred(func() { w.str(s) }) }

// optStr writes a unique pointer and the string behind it, as a parameter is.
func (w *writer) optStr(s string) {
	if s == "" {
		w.null()
		return
	}
	w.pointer()
	w.str(s)
}

// bytesPtr writes a pointer to a conformant array of bytes, null if there are none.
func (w *writer) bytesPtr(b []byte) {
	if len(b) == 0 {
		w.null()
		return
	}
	w.deferred(func() {
		w.u32(uint32(len(b)))
		w.b = append(w.b, b...)
	})
}
