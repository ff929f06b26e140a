// Package wire is the codec of SMB Direct, [MS-SMBD] 2.2: three messages and the
// buffer descriptors that travel inside SMB2 messages. All numbers are unsigned
// and little-endian.
//
// It knows shape only: sizes, and offsets that must lie inside a message. What a
// value may be depends on the connection and is judged by package core.
// Reserved fields are ignored on reading and zero on writing.
//
// AppendBinary appends to the caller's slice and fails never; Parse functions
// return values that share nothing with their input, except Payload, which
// returns a part of it. All functions may be called at the same time.
package wire
