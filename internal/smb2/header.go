package smb2

import (
	"fmt"
	"iter"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// HeaderSize is the size of the SMB2 header, in octets ([MS-SMB2] 2.2.1).
const HeaderSize = 64

// ProtocolID is the first four octets of a message, read little-endian.
type ProtocolID uint32

const (
	ProtocolSMB1        ProtocolID = 0x424D53FF // SMB 1 header
	ProtocolSMB2        ProtocolID = 0x424D53FE // SMB2 header, 2.2.1
	ProtocolTransform   ProtocolID = 0x424D53FD // TRANSFORM_HEADER, 2.2.41
	ProtocolCompression ProtocolID = 0x424D53FC // COMPRESSION_TRANSFORM_HEADER, 2.2.42
)

// PeekProtocolID returns the protocol of a transport message, and 0 for one of
// fewer than four octets.
func PeekProtocolID(b []byte) ProtocolID {
	if len(b) < 4 {
		return 0
	}
	return ProtocolID(le.Uint32(b))
}

// Command is the command code of a header, [MS-SMB2] 2.2.1.
type Command uint16

const (
	CommandNegotiate                  Command = 0x0000
	CommandSessionSetup               Command = 0x0001
	CommandLogoff                     Command = 0x0002
	CommandTreeConnect                Command = 0x0003
	CommandTreeDisconnect             Command = 0x0004
	CommandCreate                     Command = 0x0005
	CommandClose                      Command = 0x0006
	CommandFlush                      Command = 0x0007
	CommandRead                       Command = 0x0008
	CommandWrite                      Command = 0x0009
	CommandLock                       Command = 0x000A
	CommandIoctl                      Command = 0x000B
	CommandCancel                     Command = 0x000C
	CommandEcho                       Command = 0x000D
	CommandQueryDirectory             Command = 0x000E
	CommandChangeNotify               Command = 0x000F
	CommandQueryInfo                  Command = 0x0010
	CommandSetInfo                    Command = 0x0011
	CommandOplockBreak                Command = 0x0012
	CommandServerToClientNotification Command = 0x0013
)

var commandNames = [...]string{
	"NEGOTIATE", "SESSION_SETUP", "LOGOFF", "TREE_CONNECT", "TREE_DISCONNECT",
	"CREATE", "CLOSE", "FLUSH", "READ", "WRITE", "LOCK", "IOCTL", "CANCEL", "ECHO",
	"QUERY_DIRECTORY", "CHANGE_NOTIFY", "QUERY_INFO", "SET_INFO", "OPLOCK_BREAK",
	"SERVER_TO_CLIENT_NOTIFICATION",
}

// String gives the name in [MS-SMB2] without its SMB2 prefix.
func (c Command) String() string {
	if int(c) < len(commandNames) {
		return commandNames[c]
	}
	return fmt.Sprintf("command 0x%04X", uint16(c))
}

// Flags are the Flags of a header, [MS-SMB2] 2.2.1.
type Flags uint32

const (
	FlagServerToRedir     Flags = 0x00000001 // a response
	FlagAsyncCommand      Flags = 0x00000002 // AsyncID in place of TreeID
	FlagRelatedOperations Flags = 0x00000004
	FlagSigned            Flags = 0x00000008
	FlagPriorityMask      Flags = 0x00000070 // 3.1.1 only; shift right by 4
	FlagDFSOperations     Flags = 0x10000000
	FlagReplayOperation   Flags = 0x20000000 // 3.x only
)

// NoMessageID is the MessageID of oplock and lease break notifications
// ([MS-SMB2] 3.3.4.6).
const NoMessageID = ^uint64(0)

// Offsets into the header, for the functions that patch one in place.
const (
	offCreditCharge = 6
	offStatus       = 8
	offCommand      = 12
	offCredits      = 14
	offFlags        = 16
	offNextCommand  = 20
	offMessageID    = 24
	offAsyncID      = 32
	offTreeID       = 36
	offSessionID    = 40
	offSignature    = 48
)

// Header is the SMB2 header, sync and async, [MS-SMB2] 2.2.1:
//
//	 0 ProtocolId   4 StructureSize 64   6 CreditCharge
//	 8 Status (response), or ChannelSequence and Reserved (request)
//	12 Command     14 CreditRequest/CreditResponse
//	16 Flags       20 NextCommand
//	24 MessageId
//	32 AsyncId, or Reserved (ProcessId of old) and 36 TreeId
//	40 SessionId
//	48 Signature
type Header struct {
	CreditCharge    uint16
	Status          ntstatus.Status // responses: present if FlagServerToRedir is set
	ChannelSequence uint16          // requests: present if FlagServerToRedir is clear
	Command         Command
	Credits         uint16 // CreditRequest in a request, CreditResponse in a response
	Flags           Flags
	NextCommand     uint32 // octets from this header to the next one, 0 for the last
	MessageID       uint64
	ProcessID       uint32 // Reserved in the specification; only without FlagAsyncCommand
	TreeID          uint32 // only without FlagAsyncCommand
	AsyncID         uint64 // only with FlagAsyncCommand
	SessionID       uint64
	Signature       [16]byte
}

// IsResponse reports whether FlagServerToRedir is set.
func (h *Header) IsResponse() bool { return h.Flags&FlagServerToRedir != 0 }

// IsAsync reports whether FlagAsyncCommand is set.
func (h *Header) IsAsync() bool { return h.Flags&FlagAsyncCommand != 0 }

// IsRelated reports whether FlagRelatedOperations is set.
func (h *Header) IsRelated() bool { return h.Flags&FlagRelatedOperations != 0 }

// IsSigned reports whether FlagSigned is set.
func (h *Header) IsSigned() bool { return h.Flags&FlagSigned != 0 }

// ParseHeader decodes the header at the start of b. It checks ProtocolId and
// StructureSize; NextCommand is checked by Compound.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, short("SMB2 header", len(b), HeaderSize)
	}
	if id := le.Uint32(b); id != uint32(ProtocolSMB2) {
		return Header{}, bad("SMB2 header", "ProtocolId", uint64(id), uint64(ProtocolSMB2))
	}
	if n := le.Uint16(b[4:]); n != HeaderSize {
		return Header{}, bad("SMB2 header", "StructureSize", uint64(n), HeaderSize)
	}
	h := Header{
		CreditCharge: le.Uint16(b[offCreditCharge:]),
		Command:      Command(le.Uint16(b[offCommand:])),
		Credits:      le.Uint16(b[offCredits:]),
		Flags:        Flags(le.Uint32(b[offFlags:])),
		NextCommand:  le.Uint32(b[offNextCommand:]),
		MessageID:    le.Uint64(b[offMessageID:]),
		SessionID:    le.Uint64(b[offSessionID:]),
		Signature:    [16]byte(b[offSignature:HeaderSize]),
	}
	if h.IsResponse() {
		h.Status = ntstatus.Status(le.Uint32(b[offStatus:]))
	} else {
		h.ChannelSequence = le.Uint16(b[offStatus:])
	}
	if h.IsAsync() {
		h.AsyncID = le.Uint64(b[offAsyncID:])
	} else {
		h.ProcessID = le.Uint32(b[offAsyncID:])
		h.TreeID = le.Uint32(b[offTreeID:])
	}
	return h, nil
}

// Put writes the header into the first HeaderSize octets of b, which must have
// them (it panics otherwise).
func (h *Header) Put(b []byte) {
	_ = b[HeaderSize-1]
	le.PutUint32(b, uint32(ProtocolSMB2))
	le.PutUint16(b[4:], HeaderSize)
	le.PutUint16(b[offCreditCharge:], h.CreditCharge)
	if h.IsResponse() {
		le.PutUint32(b[offStatus:], uint32(h.Status))
	} else {
		le.PutUint32(b[offStatus:], uint32(h.ChannelSequence))
	}
	le.PutUint16(b[offCommand:], uint16(h.Command))
	le.PutUint16(b[offCredits:], h.Credits)
	le.PutUint32(b[offFlags:], uint32(h.Flags))
	le.PutUint32(b[offNextCommand:], h.NextCommand)
	le.PutUint64(b[offMessageID:], h.MessageID)
	if h.IsAsync() {
		le.PutUint64(b[offAsyncID:], h.AsyncID)
	} else {
		le.PutUint32(b[offAsyncID:], h.ProcessID)
		le.PutUint32(b[offTreeID:], h.TreeID)
	}
	le.PutUint64(b[offSessionID:], h.SessionID)
	copy(b[offSignature:HeaderSize], h.Signature[:])
}

// Append appends the 64 octets of the header.
func (h *Header) Append(b []byte) []byte {
	b = zeros(b, HeaderSize)
	h.Put(b[len(b)-HeaderSize:])
	return b
}

// AppendBinary is Append as encoding.BinaryAppender; the error is always nil.
func (h *Header) AppendBinary(b []byte) ([]byte, error) { return h.Append(b), nil }

// The functions below patch a header in place. msg begins with the header and
// must have all of it; they panic otherwise.

// SetSignature stores the signature. To clear it, pass the zero value.
func SetSignature(msg []byte, sig [16]byte) { copy(msg[offSignature:HeaderSize], sig[:]) }

// SetNextCommand stores the distance to the next header, in octets, a multiple of 8.
func SetNextCommand(msg []byte, n uint32) { le.PutUint32(msg[offNextCommand:HeaderSize], n) }

// SetStatus stores the status of a response.
func SetStatus(msg []byte, s ntstatus.Status) { le.PutUint32(msg[offStatus:HeaderSize], uint32(s)) }

// SetCredits stores CreditRequest or CreditResponse.
func SetCredits(msg []byte, n uint16) { le.PutUint16(msg[offCredits:HeaderSize], n) }

// SetCreditCharge stores CreditCharge.
func SetCreditCharge(msg []byte, n uint16) { le.PutUint16(msg[offCreditCharge:HeaderSize], n) }

// SetFlags stores Flags.
func SetFlags(msg []byte, f Flags) { le.PutUint32(msg[offFlags:HeaderSize], uint32(f)) }

// SetMessageID stores MessageId.
func SetMessageID(msg []byte, id uint64) { le.PutUint64(msg[offMessageID:HeaderSize], id) }

// SetSessionID stores SessionId.
func SetSessionID(msg []byte, id uint64) { le.PutUint64(msg[offSessionID:HeaderSize], id) }

// Compound yields the messages of a transport message (after decryption), each
// with its header; the slices borrow msg. NextCommand must be a multiple of 8,
// at least HeaderSize, and leave room for another header ([MS-SMB2] 3.2.4.1.4,
// 3.3.5.2.7); the last message runs to the end. At the first fault it yields a
// nil slice with an error and stops; the messages before were sound.
//
// Except for the last, a slice includes the padding that aligns its successor:
// signatures cover that too (3.1.4.1).
func Compound(msg []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for {
			if len(msg) < HeaderSize {
				yield(nil, short("SMB2 header", len(msg), HeaderSize))
				return
			}
			if id := le.Uint32(msg); id != uint32(ProtocolSMB2) {
				yield(nil, bad("SMB2 header", "ProtocolId", uint64(id), uint64(ProtocolSMB2)))
				return
			}
			next := uint64(le.Uint32(msg[offNextCommand:]))
			if next == 0 {
				yield(msg, nil)
				return
			}
			switch {
			case next%8 != 0:
				yield(nil, bad("SMB2 header", "NextCommand", next, next&^7))
				return
			case next < HeaderSize:
				yield(nil, bad("SMB2 header", "NextCommand", next, HeaderSize))
				return
			case next+HeaderSize > uint64(len(msg)):
				yield(nil, bad("SMB2 header", "NextCommand", next, uint64(len(msg))))
				return
			}
			if !yield(msg[:next:next], nil) {
				return
			}
			msg = msg[next:]
		}
	}
}

// PadCompound pads b with zeros so that the next header of a compound, whose
// first header is at b[start], begins at a multiple of 8, and stores
// NextCommand in the message that begins at b[last]. Both must be indices of
// headers in b.
func PadCompound(b []byte, start, last int) []byte {
	b = pad(b, start, 8)
	SetNextCommand(b[last:], uint32(len(b)-last))
	return b
}

// CreditCharge returns the credits that a request costs whose payload, sent or
// expected in return (the larger of the two), is n octets: one for each 64 KiB
// begun, at least 1 ([MS-SMB2] 3.1.5.2). Negative n counts as 0; the result
// stops at 65535.
func CreditCharge(n int) uint16 {
	if n <= 0 {
		return 1
	}
	return uint16(min((n-1)/65536+1, 0xFFFF))
}

// MaxPayload returns the largest payload, in octets, that a credit charge pays
// for: the inverse of CreditCharge. A charge of 0 counts as 1 (3.3.5.2.5).
func MaxPayload(charge uint16) int { return max(int(charge), 1) * 65536 }
