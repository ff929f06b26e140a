// Package smb2 is the SMB 2 and 3 wire codec of [MS-SMB2] section 2.2, with the
// structures of [MS-FSCC] and [MS-DTYP] that travel in it. Server and client
// share it. It is pure: no input or output, no clock, no state, no reflection;
// everything is little-endian.
//
// # Encoding
//
// Every message type has AppendBinary, which appends the message body (what
// follows the 64-octet header) to a slice and returns the longer slice, as
// encoding.BinaryAppender does. Nothing is allocated while the slice has room.
// Offsets that the protocol counts from the start of the SMB2 header are
// computed as if the header were the [HeaderSize] octets just before the body:
//
//	b = hdr.Append(b[:0])
//	b, err = req.AppendBinary(b)
//
// Where a structure has an odd StructureSize and nothing in its buffer, one
// zero octet stands for it in requests, as Windows and Samba want.
//
// READ responses and WRITE requests (and the responses of QUERY_DIRECTORY,
// QUERY_INFO and CHANGE_NOTIFY) may be appended without their payload: leave
// the payload nil and set the length field, then send exactly that many octets
// after the body (from a registered buffer, say).
//
// # Decoding
//
// ParseX takes a whole message, header included: one element of a compound as
// [Compound] yields it. It checks StructureSize and every offset, length and
// count in 64 bits before use. Slices in the result borrow the input. Names are
// []byte in UTF-16LE; [DecodeUTF16] and [AppendUTF16] convert. Every error of
// a Parse function matches both [ErrMalformed] and ntstatus.InvalidParameter,
// the answer that [MS-SMB2] 3.3.5 prescribes.
//
// The codec checks shape only. Rules that need state, such as which flags a
// dialect has, are for its users. Reserved fields are ignored on read and zero
// on write.
package smb2
