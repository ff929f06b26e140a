package iwarp

import "encoding/binary"

// DDP segment headers, RFC 5041 §4.2 and §4.3, with the RDMAP control octet of
// RFC 5040 §4.1 behind the DDP one:
//
//	tagged (14)   |T L 0000 DV|RV 00 op|  STag (4)  |        TO (8)        |
//	untagged (18) |T L 0000 DV|RV 00 op| inval (4) |  QN (4)  | MSN (4) | MO (4) |
const (
	taggedLen   = 14
	untaggedLen = 18

	ddpTagged  = 0x80
	ddpLast    = 0x40
	ddpVerMask = 0x03
	ddpVersion = 1

	queueSend      = 0
	queueReadReq   = 1
	queueTerminate = 2
)

// segment is a DDP segment header. Which of the fields count depends on tagged.
type segment struct {
	ddp, rdmap byte
	stag       uint32 // tagged: STag; untagged: the STag to invalidate
	to         uint64 // tagged
	qn         uint32 // untagged, as msn and mo
	msn        uint32
	mo         uint32
}

func (s *segment) tagged() bool { return s.ddp&ddpTagged != 0 }
func (s *segment) last() bool   { return s.ddp&ddpLast != 0 }
func (s *segment) op() byte     { return s.rdmap & rdmapOpMask }

// length is that of the header.
func (s *segment) length() int {
	if s.tagged() {
		return taggedLen
	}
	return untaggedLen
}

// put writes the header to b, which has room for it, and returns its length.
func (s *segment) put(b []byte) int {
	b[0], b[1] = s.ddp, s.rdmap
	binary.BigEndian.PutUint32(b[2:], s.stag)
	if s.tagged() {
		binary.BigEndian.PutUint64(b[6:], s.to)
		return taggedLen
	}
	binary.BigEndian.PutUint32(b[6:], s.qn)
	binary.BigEndian.PutUint32(b[10:], s.msn)
	binary.BigEndian.PutUint32(b[14:], s.mo)
	return untaggedLen
}

// parseSegment reads the header at the start of a ULPDU; ok is false if b is too
// short for it.
func parseSegment(b []byte) (s segment, ok bool) {
	if len(b) < taggedLen {
		return s, false
	}
	s.ddp, s.rdmap = b[0], b[1]
	s.stag = binary.BigEndian.Uint32(b[2:])
	if s.tagged() {
		s.to = binary.BigEndian.Uint64(b[6:])
		return s, true
	}
	if len(b) < untaggedLen {
		return s, false
	}
	s.qn = binary.BigEndian.Uint32(b[6:])
	s.msn = binary.BigEndian.Uint32(b[10:])
	s.mo = binary.BigEndian.Uint32(b[14:])
	return s, true
}
