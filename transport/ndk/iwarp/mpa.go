package iwarp

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Startup frames, RFC 5044 §7.1.1 and RFC 6581 §6, §9:
//
//	 0                16  17  18       20
//	+------------------+---+---+--------+----------------------------------+
//	| key (16)         |flg|rev| PD_Len | [enhanced data 4] private data   |
//	+------------------+---+---+--------+----------------------------------+
//	 flg: M 80  C 40  R 20  S 10
//	 enhanced data: |A 8000 B 4000 IRD 3fff|C 8000 D 4000 ORD 3fff|
const (
	requestKey = "MPA ID Req Frame"
	replyKey   = "MPA ID Rep Frame"

	startupLen  = 20 // octets before the private data
	enhancedLen = 4
	maxPDLen    = 512 // RFC 5044 §7.1.1

	flagMarkers  = 0x80 // M: the receiver of this frame shall insert markers
	flagCRC      = 0x40 // C
	flagReject   = 0x20 // R, in a Reply
	flagEnhanced = 0x10 // S, RFC 6581 §6

	revBase     = 1
	revEnhanced = 2

	// depthNotNegotiated as IRD or ORD leaves the limit of the peer alone, RFC
	// 6581 §9.1.
	depthNotNegotiated = 0x3FFF
)

// RTR is a set of kinds of ready-to-receive message, RFC 6581 §9.2.
type RTR uint8

// Kinds of ready-to-receive message.
const (
	RTRSend  RTR = 1 << iota // B: zero-length Send
	RTRWrite                 // C: zero-length RDMA Write
	RTRRead                  // D: zero-length RDMA Read
)

// Errors of startup frames. All of them cost the peer its connection, without an
// answer (RFC 5044 §7.1.1).
var (
	errBadKey      = errors.New("mpa: not the expected startup key")
	errBadRevision = errors.New("mpa: unknown revision")
	errBadPDLen    = errors.New("mpa: private data longer than 512 octets")
	errShort       = errors.New("mpa: frame shorter than its length fields say")
	errEnhanced    = errors.New("mpa: enhanced data does not fit the private data")
)

// startup is an MPA Request or Reply.
type startup struct {
	Reply    bool
	Flags    byte // M, C, R, S; the rest is zero on send and ignored on receive
	Revision byte
	// The enhanced data, in use if flagEnhanced is set.
	PeerToPeer bool // A
	RTR        RTR  // B, C, D; meaningless without A
	IRD, ORD   int  // 14 bits each
	Private    []byte
}

// AppendBinary appends the frame. Private holds at most 512 octets, 508 with
// enhanced data.
func (s *startup) AppendBinary(b []byte) ([]byte, error) {
	n := len(s.Private)
	if s.Flags&flagEnhanced != 0 {
		n += enhancedLen
		if s.IRD < 0 || s.IRD > depthNotNegotiated || s.ORD < 0 || s.ORD > depthNotNegotiated {
			return b, errEnhanced
		}
	}
	if n > maxPDLen {
		return b, errBadPDLen
	}
	key := requestKey
	if s.Reply {
		key = replyKey
	}
	b = append(b, key...)
	b = append(b, s.Flags, s.Revision)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	if s.Flags&flagEnhanced != 0 {
		w0, w1 := uint16(s.IRD), uint16(s.ORD)
		if s.PeerToPeer {
			w0 |= 0x8000
			if s.RTR&RTRSend != 0 {
				w0 |= 0x4000
			}
			if s.RTR&RTRWrite != 0 {
				w1 |= 0x8000
			}
			if s.RTR&RTRRead != 0 {
				w1 |= 0x4000
			}
		}
		b = binary.BigEndian.AppendUint16(b, w0)
		b = binary.BigEndian.AppendUint16(b, w1)
	}
	return append(b, s.Private...), nil
}

// parseStartupHeader checks the first 20 octets of a frame and returns how many
// octets of private data follow. It can fail early on fewer than 20 octets when
// the key is already wrong: n is then 0 and err is not errShort.
func parseStartupHeader(b []byte, reply bool) (n int, err error) {
	key := requestKey
	if reply {
		key = replyKey
	}
	if k := min(len(b), len(key)); string(b[:k]) != key[:k] {
		return 0, errBadKey
	}
	if len(b) < startupLen {
		return 0, errShort
	}
	// MPA-07: revision 0 was used by pre-standard peers and siw takes it too.
	if b[17] > revEnhanced {
		return 0, fmt.Errorf("%w %d", errBadRevision, b[17])
	}
	n = int(binary.BigEndian.Uint16(b[18:]))
	if n > maxPDLen {
		return 0, errBadPDLen
	}
	return n, nil
}

// parseStartup parses a whole frame. Private borrows b. Octets behind the frame
// are an error: the caller reads exactly what the header announces (MPA-09).
func parseStartup(b []byte, reply bool) (startup, error) {
	n, err := parseStartupHeader(b, reply)
	if err != nil {
		return startup{}, err
	}
	if len(b) != startupLen+n {
		return startup{}, errShort
	}
	s := startup{Reply: reply, Flags: b[16] & (flagMarkers | flagCRC | flagReject | flagEnhanced), Revision: b[17], Private: b[startupLen:]}
	if s.Revision < revEnhanced {
		s.Flags &^= flagEnhanced // a reserved bit in revision 1
	}
	if s.Flags&flagEnhanced != 0 {
		if n < enhancedLen {
			return s, errEnhanced // V2-03
		}
		w0, w1 := binary.BigEndian.Uint16(b[20:]), binary.BigEndian.Uint16(b[22:])
		s.IRD, s.ORD = int(w0&0x3FFF), int(w1&0x3FFF)
		s.PeerToPeer = w0&0x8000 != 0
		if s.PeerToPeer { // V2-12: B, C, D count only with A
			if w0&0x4000 != 0 {
				s.RTR |= RTRSend
			}
			if w1&0x8000 != 0 {
				s.RTR |= RTRWrite
			}
			if w1&0x4000 != 0 {
				s.RTR |= RTRRead
			}
		}
		s.Private = s.Private[enhancedLen:]
	}
	return s, nil
}
