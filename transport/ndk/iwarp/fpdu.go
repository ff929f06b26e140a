package iwarp

import (
	"encoding/binary"
	"hash/crc32"
)

// An FPDU, RFC 5044 §4.1:
//
//	+---------+--------------+----------+---------+
//	| len (2) | ULPDU (len)  | pad 0..3 | CRC (4) |
//	+---------+--------------+----------+---------+
//
// The pad brings length field, ULPDU and pad to a multiple of 4. The CRC is
// CRC-32C over all before it, least significant octet first; without CRC it is
// sent as zero and not looked at.
const (
	lenField      = 2
	crcField      = 4
	maxULPDU      = 65535
	maxFPDU       = lenField + maxULPDU + 3 + crcField
	minMULPDU     = 128 // RFC 5044 §4.5
	markerSpacing = 512 // RFC 5044 §4.3
	markerLen     = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// padLen is the number of pad octets behind a ULPDU of n octets.
func padLen(n int) int { return -(lenField + n) & 3 }

// fpduLen is the length of the FPDU of a ULPDU of n octets, without markers.
func fpduLen(n int) int { return lenField + n + padLen(n) + crcField }

// mulpdu is the longest ULPDU whose FPDU fits one TCP segment of emss octets,
// RFC 5044 §4.5.
func mulpdu(emss int, markers bool) int {
	n := emss - 6 - emss%4
	if markers {
		n = emss - (6 + 4*((emss+markerSpacing-1)/markerSpacing) + emss%4)
	}
	return min(max(n, minMULPDU), maxULPDU)
}

// appendMarked appends to dst the FPDU whose octets from the length field to the
// pad are in body, with markers inserted (RFC 5044 §4.3) and the CRC behind. pos
// is the position of the FPDU in the stream; the length of the result over that
// of dst is how far the stream moves on. crcOn false leaves the CRC field zero.
//
// A marker at the very start and one between pad and CRC belong to this FPDU;
// one behind the CRC to the next (RFC 5044 §4.4, rules 1 and 2).
func appendMarked(dst []byte, pos uint64, body []byte, crcOn bool) []byte {
	from := len(dst)
	base := from // of FPDUPTR: where the length field went
	for off := 0; ; {
		at := int((pos + uint64(len(dst)-from)) % markerSpacing)
		if at == 0 {
			ptr := 0
			if off > 0 {
				ptr = len(dst) - base
			}
			dst = binary.BigEndian.AppendUint32(dst, uint32(ptr)&0xFFFC)
			if off == 0 {
				base = len(dst)
			}
		}
		if off == len(body) {
			break
		}
		n := min(len(body)-off, markerSpacing-int((pos+uint64(len(dst)-from))%markerSpacing))
		dst = append(dst, body[off:off+n]...)
		off += n
	}
	var crc uint32
	if crcOn {
		crc = crc32.Checksum(dst[from:], castagnoli)
	}
	return binary.LittleEndian.AppendUint32(dst, crc)
}
