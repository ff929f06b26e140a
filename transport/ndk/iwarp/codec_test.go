package iwarp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// vector reads a golden file: lines of hexadecimal octets, comments with #.
func vector(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".hex"))
	must(t, err)
	var b []byte
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		o, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(line), " ", ""))
		must(t, err)
		b = append(b, o...)
	}
	if len(b) == 0 {
		t.Fatalf("%s is empty", name)
	}
	return b
}

func vectors(t testing.TB, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", pattern+".hex"))
	must(t, err)
	if len(files) == 0 {
		t.Fatalf("no file matches %s", pattern)
	}
	for i := range files {
		files[i] = strings.TrimSuffix(filepath.Base(files[i]), ".hex")
	}
	return files
}

// RFC 5044 §7.1.1, RFC 6581 §9: MPA-01, -02, -07, -08, V2-01, -02, -12, -13.
func TestStartupVectors(t *testing.T) {
	siwBlob := []byte{0x20, 0, 0, 0, 1, 0, 0, 0}
	for _, tc := range []struct {
		name string
		want startup
	}{
		{"mpa-req-v1", startup{Flags: flagCRC, Revision: 1}},
		{"mpa-rep-v1", startup{Reply: true, Flags: flagCRC, Revision: 1}},
		{"mpa-rep-v1-reject", startup{Reply: true, Flags: flagCRC | flagReject, Revision: 1}},
		{"mpa-req-v1-nocrc-markers", startup{Flags: flagMarkers, Revision: 1}},
		{"mpa-req-v1-irdord", startup{Flags: flagCRC, Revision: 1, Private: []byte{0, 0, 0, 16, 0, 0, 0, 16}}},
		{"mpa-rep-v1-irdord", startup{Reply: true, Flags: flagCRC, Revision: 1, Private: []byte{0, 0, 0, 8, 0, 0, 0, 8}}},
		{"mpa-req-v2", startup{Flags: flagCRC | flagEnhanced, Revision: 2, IRD: 32}},
		{"mpa-rep-v2", startup{Reply: true, Flags: flagCRC | flagEnhanced, Revision: 2, IRD: 1, ORD: 8}},
		{"mpa-req-v2-irdord", startup{Flags: flagCRC | flagEnhanced, Revision: 2, IRD: 32, Private: siwBlob}},
		{"mpa-req-v2-p2p", startup{Flags: flagCRC | flagEnhanced, Revision: 2, PeerToPeer: true, RTR: RTRWrite | RTRRead, IRD: 16, ORD: 16}},
		{"mpa-rep-v2-p2p", startup{Reply: true, Flags: flagCRC | flagEnhanced, Revision: 2, PeerToPeer: true, RTR: RTRWrite, IRD: 16, ORD: 16}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := vector(t, tc.name)
			got, err := parseStartup(b, tc.want.Reply)
			must(t, err)
			if got.Reply != tc.want.Reply || got.Flags != tc.want.Flags || got.Revision != tc.want.Revision || got.PeerToPeer != tc.want.PeerToPeer ||
				got.RTR != tc.want.RTR || got.IRD != tc.want.IRD || got.ORD != tc.want.ORD || !bytes.Equal(got.Private, tc.want.Private) {
				t.Errorf("parsed %+v, want %+v", got, tc.want)
			}
			out, err := tc.want.AppendBinary(nil)
			must(t, err)
			if !bytes.Equal(out, b) {
				t.Errorf("built %x, want %x", out, b)
			}
			for n := range b {
				if _, err := parseStartup(b[:n], tc.want.Reply); err == nil {
					t.Errorf("the first %d of %d octets parse", n, len(b))
				}
			}
		})
	}
}

func TestStartupRefusals(t *testing.T) {
	frame := func(change func(b []byte) []byte) []byte { return change(vector(t, "mpa-req-v2")) }
	for _, tc := range []struct {
		name string
		b    []byte
		want error
	}{
		{"MPA-03 a Reply where a Request is due", vector(t, "mpa-rep-v1"), errBadKey},
		{"MPA-03 one wrong letter", frame(func(b []byte) []byte { b[15] ^= 1; return b }), errBadKey},
		{"MPA-03 wrong from the first octet", []byte("\x00"), errBadKey},
		{"MPA-07 revision 3", frame(func(b []byte) []byte { b[17] = 3; return b }), errBadRevision},
		{"MPA-08 513 octets of private data", frame(func(b []byte) []byte { b[18], b[19] = 2, 1; return append(b, make([]byte, 509)...) }), errBadPDLen},
		{"MPA-08 length and data differ", frame(func(b []byte) []byte { return append(b, 0) }), errShort},
		{"V2-03 enhanced data of 3 octets", frame(func(b []byte) []byte { b[19] = 3; return b[:23] }), errEnhanced},
	} {
		if _, err := parseStartup(tc.b, false); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	// V2-05 and revision 1: S means nothing there.
	b := vector(t, "mpa-req-v1")
	b[16] |= flagEnhanced
	if s, err := parseStartup(b, false); err != nil || s.Flags&flagEnhanced != 0 {
		t.Errorf("revision 1 with the reserved bit: %+v, %v", s, err)
	}
	// V2-12: without A the kinds count for nothing.
	b = vector(t, "mpa-req-v2")
	b[20], b[22] = 0x40, 0xC0
	if s, err := parseStartup(b, false); err != nil || s.RTR != 0 || s.PeerToPeer {
		t.Errorf("kinds without A: %+v, %v", s, err)
	}
}

// RFC 5044 §4.5, MPA-31.
func TestMULPDU(t *testing.T) {
	for _, tc := range []struct {
		emss    int
		markers bool
		want    int
	}{
		{1460, false, 1454}, {1460, true, 1442}, {1461, false, 1454}, {100, false, minMULPDU}, {100, true, minMULPDU},
		{70000, false, maxULPDU},
	} {
		if got := mulpdu(tc.emss, tc.markers); got != tc.want {
			t.Errorf("mulpdu(%d, %v) = %d, want %d", tc.emss, tc.markers, got, tc.want)
		}
	}
	for n := range 10 {
		if (lenField+n+padLen(n))%4 != 0 || padLen(n) > 3 {
			t.Errorf("padLen(%d) = %d", n, padLen(n))
		}
	}
}

// RFC 5044 §4.1, §4.4: every vector without markers is one FPDU whose CRC and
// length hold, and whose header comes out of the codec as it went in. MPA-19 to
// -23, DDP-01 to -03, RDMAP-01, -03.
func TestFPDUVectors(t *testing.T) {
	for _, name := range vectors(t, "fpdu-*") {
		if strings.Contains(name, "marker") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			b := vector(t, name)
			n := int(b[0])<<8 | int(b[1])
			if fpduLen(n) != len(b) {
				t.Fatalf("fpduLen(%d) = %d, want %d", n, fpduLen(n), len(b))
			}
			body := b[:len(b)-crcField]
			crcOn := !strings.Contains(name, "nocrc")
			// Off the marker grid nothing is inserted.
			if got := appendMarked(nil, 4, body, crcOn); len(b) < 500 && !bytes.Equal(got, b) {
				t.Errorf("framed %x, want %x", got, b)
			}
			if crcOn {
				for i := range len(body) * 8 { // MPA-22
					body[i/8] ^= 1 << (i % 8)
					if crc32.Checksum(body, castagnoli) == leUint32(b[len(body):]) {
						t.Errorf("bit %d does not count", i)
					}
					body[i/8] ^= 1 << (i % 8)
				}
			}
			s, ok := parseSegment(b[lenField : lenField+n])
			if !ok {
				t.Fatal("no header")
			}
			var h [untaggedLen]byte
			if k := s.put(h[:]); !bytes.Equal(h[:k], b[lenField:lenField+k]) {
				t.Errorf("header %x, want %x", h[:k], b[lenField:lenField+k])
			}
			if s.ddp&ddpVerMask != ddpVersion || s.rdmap&rdmapVerMask != rdmapVersion {
				t.Errorf("versions of %+v", s)
			}
			for k := range s.length() {
				if _, ok := parseSegment(b[lenField : lenField+k]); ok {
					t.Errorf("a header of %d octets parses", k)
				}
			}
		})
	}
}

func leUint32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

// unmark takes the markers out of a stream and returns the FPDUs without CRC, and
// the CRCs as they were.
func unmark(t *testing.T, b []byte) (bodies [][]byte, crcs [][]byte) {
	t.Helper()
	var plain []byte
	for i := 0; i < len(b); {
		if i%markerSpacing == 0 {
			i += markerLen
			continue
		}
		n := min(len(b), (i/markerSpacing+1)*markerSpacing) - i
		plain = append(plain, b[i:i+n]...)
		i += n
	}
	for len(plain) > 0 {
		n := int(plain[0])<<8 | int(plain[1])
		k := fpduLen(n)
		bodies = append(bodies, plain[:k-crcField])
		crcs = append(crcs, plain[k-crcField:k])
		plain = plain[k:]
	}
	return bodies, crcs
}

// RFC 5044 §4.3, §4.4: MPA-25 to -29.
func TestMarkerVectors(t *testing.T) {
	names := append(vectors(t, "stream-*"), vectors(t, "fpdu-marker-*")...)
	for _, name := range names {
		if name == "fpdu-marker-inside" {
			continue // not at the start of a stream; see below
		}
		t.Run(name, func(t *testing.T) {
			b := vector(t, name)
			bodies, _ := unmark(t, b)
			var out []byte
			for _, body := range bodies {
				out = appendMarked(out, uint64(len(out)), body, true)
			}
			// appendMarked counts pos from the stream, not from dst.
			if !bytes.Equal(out, b) {
				t.Errorf("%d FPDUs framed as %x\nwant %x", len(bodies), out, b)
			}
		})
	}
	t.Run("fpdu-marker-inside", func(t *testing.T) {
		b := vector(t, "fpdu-marker-inside")
		// The marker is in the middle of the FPDU: find where, from its FPDUPTR.
		n := int(b[0])<<8 | int(b[1])
		at := 0
		for i := 4; i+4 <= len(b); i += 4 {
			if b[i] == 0 && b[i+1] == 0 && int(b[i+2])<<8|int(b[i+3]) == i {
				at = i
				break
			}
		}
		if at == 0 {
			t.Fatal("no marker found")
		}
		body := append(bytes.Clone(b[:at]), b[at+markerLen:len(b)-crcField]...)
		if len(body) != fpduLen(n)-crcField {
			t.Fatalf("%d octets without marker, want %d", len(body), fpduLen(n)-crcField)
		}
		if got := appendMarked(nil, uint64(markerSpacing-at), body, true); !bytes.Equal(got, b) {
			t.Errorf("framed %x\nwant %x", got, b)
		}
	})
}

// RFC 5040 §4.4, RDMAP-07.
func TestReadRequestVector(t *testing.T) {
	b := vector(t, "fpdu-read-req")
	got := parseReadRequest(b[lenField+untaggedLen:])
	want := readRequest{sinkSTag: 0x200, sinkTO: 0x7000, size: 48, srcSTag: 0x1A00BC56, srcTO: 0xABCDE012}
	if got != want {
		t.Errorf("parsed %+v, want %+v", got, want)
	}
	var h [readRequestLen]byte
	want.put(h[:])
	if !bytes.Equal(h[:], b[lenField+untaggedLen:lenField+untaggedLen+readRequestLen]) {
		t.Errorf("built %x", h)
	}
}

// RFC 5040 §4.8: RDMAP-26 to -29, and the form of siw.
func TestTerminateVectors(t *testing.T) {
	write := segment{ddp: 0xC1, rdmap: 0x40, stag: 0xDEAD0100, to: 64}
	rreq := &offender{valid: true, ulpdu: 46, hasRead: true,
		seg:  segment{ddp: 0x41, rdmap: 0x41, qn: 1, msn: 3},
		read: readRequest{sinkSTag: 0x200, size: 4096, srcSTag: 0x1A00BC56}}
	for _, tc := range []struct {
		name string
		want cause
		off  *offender
		siw  bool
	}{
		{"fpdu-term-ddp-stag", causeTaggedSTag, &offender{valid: true, seg: write, ulpdu: 46}, false},
		{"fpdu-term-llp-crc", causeMPACRC, nil, false},
		{"fpdu-term-llp-ird", causeMPAIRD, nil, false},
		{"fpdu-term-rdmap-access", causeReadAccess, rreq, false},
		{"fpdu-term-rdmap-catastrophic", causeLocal, nil, false},
		{"fpdu-term-siw-ddp-stag", causeTaggedSTag, nil, true},
		{"fpdu-term-siw-llp-crc", causeMPACRC, nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := vector(t, tc.name)
			n := int(b[0])<<8 | int(b[1])
			p := b[lenField+untaggedLen : lenField+n]
			if got, ok := parseTerminate(p); !ok || got != tc.want {
				t.Errorf("parsed %v %v, want %v", got, ok, tc.want)
			}
			if tc.siw {
				return
			}
			if got := appendTerminate(nil, tc.want, tc.off); !bytes.Equal(got, p) {
				t.Errorf("built %x, want %x", got, p)
			}
		})
	}
	if _, ok := parseTerminate([]byte{0x11, 0, 0}); ok {
		t.Error("3 octets parse as a Terminate")
	}
}
