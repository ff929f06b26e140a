package doctor

import (
	"encoding/binary"
	"encoding/hex"
)

// startup is an MPA startup frame, RFC 5044 §7.1.1 and RFC 6581 §6.
type startup struct {
	revision       int
	markers, crc   bool
	rejected       bool
	enhanced, peer bool
	ird, ord       int
	data           []byte // the private data
}

// parseStartup reads a frame; it is false for one that is cut off.
func parseStartup(b []byte) (startup, bool) {
	if len(b) < 20 {
		return startup{}, false
	}
	s := startup{revision: int(b[17]), markers: b[16]&0x80 != 0, crc: b[16]&0x40 != 0, rejected: b[16]&0x20 != 0}
	n := int(binary.BigEndian.Uint16(b[18:]))
	s.data = b[20:]
	if len(s.data) < n {
		return startup{}, false
	}
	s.data = s.data[:n]
	if s.revision >= 2 && b[16]&0x10 != 0 && n >= 4 {
		w0, w1 := binary.BigEndian.Uint16(s.data), binary.BigEndian.Uint16(s.data[2:])
		s.enhanced, s.peer = true, w0&0x8000 != 0
		s.ird, s.ord = int(w0&0x3FFF), int(w1&0x3FFF)
		s.data = s.data[4:]
	}
	return s, true
}

// Whose startup frame it is.
const (
	mpaOurs = "mpa_ours"
	mpaPeer = "mpa_peer"
)

// addStartup notes what a frame says.
func (s *Step) addStartup(who string, frame []byte) {
	f, ok := parseStartup(frame)
	if !ok {
		return
	}
	add := s.add
	if who == mpaOurs {
		add = s.quiet
	}
	add(who+"_revision", f.revision)
	add(who+"_crc", f.crc)
	add(who+"_markers", f.markers)
	if f.enhanced {
		add(who+"_ird", f.ird)
		add(who+"_ord", f.ord)
		add(who+"_peer_to_peer", f.peer)
	}
	if len(f.data) > 0 {
		s.quiet(who+"_private_data", hex.EncodeToString(f.data[:min(len(f.data), 64)]))
	}
	if f.rejected {
		add(who+"_rejected", true)
	}
}
