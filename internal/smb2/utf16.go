package smb2

import (
	"unicode/utf16"
	"unicode/utf8"
)

// AppendUTF16 appends s in UTF-16LE, without a terminator. Characters beyond
// U+FFFF become surrogate pairs. An unpaired surrogate in WTF-8 form (as
// DecodeUTF16 makes it) becomes that code unit again; any other octet that is
// not UTF-8 becomes U+FFFD.
func AppendUTF16(b []byte, s string) []byte {
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			b = append(b, c, 0)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if n == 1 { // not UTF-8: perhaps a surrogate
			if u, ok := surrogateAt(s[i:]); ok {
				b = le.AppendUint16(b, u)
				i += 3
				continue
			}
		}
		i += n
		if r < 0x10000 {
			b = le.AppendUint16(b, uint16(r))
			continue
		}
		hi, lo := utf16.EncodeRune(r)
		b = le.AppendUint16(b, uint16(hi))
		b = le.AppendUint16(b, uint16(lo))
	}
	return b
}

// surrogateAt decodes a three-octet WTF-8 surrogate, ED A0..BF 80..BF.
func surrogateAt(s string) (uint16, bool) {
	if len(s) < 3 || s[0] != 0xED || s[1]&0xE0 != 0xA0 || s[2]&0xC0 != 0x80 {
		return 0, false
	}
	return 0xD000 | uint16(s[1]&0x3F)<<6 | uint16(s[2]&0x3F), true
}

// UTF16Len returns the number of octets that AppendUTF16 appends for s.
func UTF16Len(s string) int {
	n := 0
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			n += 2
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if size == 1 {
			if _, ok := surrogateAt(s[i:]); ok {
				size = 3
			}
		}
		if r >= 0x10000 {
			n += 2
		}
		n += 2
		i += size
	}
	return n
}

// EncodeUTF16 is AppendUTF16 to a new slice.
func EncodeUTF16(s string) []byte { return AppendUTF16(make([]byte, 0, UTF16Len(s)), s) }

// DecodeUTF16 converts UTF-16LE to a Go string. Unpaired surrogates, which
// file names may hold, are kept in WTF-8 form (three octets ED xx xx, so the
// string is not valid UTF-8 then), and AppendUTF16 gives them back unchanged.
// An odd octet at the end is dropped. NULs are kept.
func DecodeUTF16(b []byte) string { return string(AppendUTF8(make([]byte, 0, len(b)/2+8), b)) }

// AppendUTF8 appends to dst what DecodeUTF16 returns for the UTF-16LE in src.
func AppendUTF8(dst, src []byte) []byte {
	for ; len(src) >= 2; src = src[2:] {
		u := le.Uint16(src)
		switch {
		case u < utf8.RuneSelf:
			dst = append(dst, byte(u))
			continue
		case u&0xFC00 == 0xD800 && len(src) >= 4:
			if lo := le.Uint16(src[2:]); lo&0xFC00 == 0xDC00 {
				dst = utf8.AppendRune(dst, utf16.DecodeRune(rune(u), rune(lo)))
				src = src[2:]
				continue
			}
		}
		if u&0xF800 == 0xD800 {
			dst = append(dst, 0xED, 0x80|byte(u>>6)&0x3F, 0x80|byte(u)&0x3F)
			continue
		}
		dst = utf8.AppendRune(dst, rune(u))
	}
	return dst
}
