package smb2

import (
	"bytes"
	"testing"
	"time"
)

func TestUTF16(t *testing.T) {
	for _, r := range []struct {
		name, s, wire string
		back          string // what decoding gives, if not s
	}{
		{"empty", "", "", ""},
		{"ASCII", "aZ", "6100 5a00", ""},
		{"two and three octets of UTF-8", "é€", "e900 ac20", ""},
		{"surrogate pair, U+1F600", "😀", "3dd8 00de", ""},
		{"NUL is kept", "a\x00b", "6100 0000 6200", ""},
		{"last before the surrogates, first behind", "\ud7ff\ue000", "ffd7 00e0", ""},
		{"U+FFFF and U+10FFFF", "\uffff\U0010ffff", "ffff ffdb ffdf", ""},
		{"lone high surrogate", "a\xed\xa0\x80b", "6100 00d8 6200", ""},
		{"lone low surrogate at the end", "\xed\xbf\xbf", "ffdf", ""},
		{"low before high", "\xed\xb0\x80\xed\xa0\x80", "00dc 00d8", ""},
		{"not UTF-8", "a\xffb", "6100 fdff 6200", "a\ufffdb"},
		{"cut short", "\xe2\x82", "fdff fdff", "\ufffd\ufffd"},
		{"surrogate cut short", "\xed\xa0", "fdff fdff", "\ufffd\ufffd"},
		{"halves of a pair in WTF-8 join", "\xed\xa0\xbd\xed\xb8\x80", "3dd8 00de", "😀"},
	} {
		want := unhex(t, r.wire)
		if got := EncodeUTF16(r.s); !bytes.Equal(got, want) {
			t.Errorf("%s: EncodeUTF16(%q) = %x, want %x", r.name, r.s, got, want)
		}
		if got := UTF16Len(r.s); got != len(want) {
			t.Errorf("%s: UTF16Len(%q) = %d, want %d", r.name, r.s, got, len(want))
		}
		back := r.back
		if back == "" {
			back = r.s
		}
		if got := DecodeUTF16(want); got != back {
			t.Errorf("%s: DecodeUTF16(%x) = %q, want %q", r.name, want, got, back)
		}
	}
	if got := DecodeUTF16([]byte{'a', 0, 'b'}); got != "a" {
		t.Errorf("odd length: %q, want %q", got, "a")
	}
}

// [MS-DTYP] 2.3.3; the first row is the CreationTime of [MS-SMB2] 4.5.
func TestFiletime(t *testing.T) {
	for _, r := range []struct {
		f Filetime
		t time.Time
	}{
		{127972992877715232, time.Date(2006, 7, 13, 21, 21, 27, 771523200, time.UTC)},
		{116444736000000000, time.Unix(0, 0).UTC()},
		{1, time.Date(1601, 1, 1, 0, 0, 0, 100, time.UTC)},
		{FiletimeMax, time.Date(30828, 9, 14, 2, 48, 5, 477580700, time.UTC)},
		{FiletimeNone, time.Time{}},
	} {
		if got := r.f.Time(); !got.Equal(r.t) {
			t.Errorf("%d.Time() = %v, want %v", r.f, got, r.t)
		}
		if got := FiletimeOf(r.t); got != r.f {
			t.Errorf("FiletimeOf(%v) = %d, want %d", r.t, got, r.f)
		}
	}
	for _, r := range []struct {
		name string
		t    time.Time
		want Filetime
	}{
		{"100 ns are the unit", time.Date(1601, 1, 1, 0, 0, 0, 199, time.UTC), 1},
		{"before 1601", time.Date(1600, 12, 31, 23, 59, 59, 999999999, time.UTC), FiletimeNone},
		{"just too late", time.Date(30828, 9, 14, 2, 48, 5, 477580800, time.UTC), FiletimeMax},
		{"far too late", time.Date(292277026596, 1, 1, 0, 0, 0, 0, time.UTC), FiletimeMax},
		{"far too early", time.Date(-292277022399, 1, 1, 0, 0, 0, 0, time.UTC), FiletimeNone},
		{"other zone", time.Date(1970, 1, 1, 1, 0, 0, 0, time.FixedZone("", 3600)), 116444736000000000},
	} {
		if got := FiletimeOf(r.t); got != r.want {
			t.Errorf("%s: FiletimeOf(%v) = %d, want %d", r.name, r.t, got, r.want)
		}
	}
	// The largest number there is does not overflow: 2^64-1 ticks are
	// 1844674407370 s and 9551615 ticks.
	if got := FiletimeNoChange.Time(); got.Unix() != 1844674407370-11644473600 || got.Nanosecond() != 955161500 {
		t.Errorf("FiletimeNoChange.Time() = %v", got)
	}
	for f, want := range map[Filetime]bool{FiletimeNone: false, FiletimeNoChange: false, FiletimeResume: false, 1: true, FiletimeMax: true} {
		if f.IsSet() != want {
			t.Errorf("%d.IsSet() = %v", f, !want)
		}
	}
}

// [MS-SMB2] 4.1: the multi-protocol negotiate of a client, its dialects and
// header fields.
func TestSMB1Negotiate(t *testing.T) {
	dialects := []string{"PC NETWORK PROGRAM 1.0", "LANMAN1.0", "Windows for Workgroups 3.1a", "LM1.2X002", "LANMAN2.1", "NT LM 0.12", SMB1DialectSMB2002}
	wire := unhex(t, `ff534d42 72 00000000 18 53c8 0000 0000000000000000 0000 ffff fffe 0000 0000 00 6d00`)
	for _, d := range dialects {
		wire = append(wire, 2)
		wire = append(wire, d...)
		wire = append(wire, 0)
	}
	// ByteCount in 4.1 is 109 (0x6D).
	m, err := ParseSMB1Negotiate(wire)
	if err != nil || len(m.Dialects) != 7 || !m.HasDialect("NT LM 0.12") || !m.HasDialect(SMB1DialectSMB2002) || m.HasDialect(SMB1DialectSMB2Unknown) {
		t.Fatalf("got %q, %v", m.Dialects, err)
	}
	if b, err := m.AppendBinary(nil); err != nil || !bytes.Equal(b, wire) {
		t.Errorf("AppendBinary\n got %x, %v\nwant %x", b, err, wire)
	}
	if PeekProtocolID(wire) != ProtocolSMB1 || PeekProtocolID(wire[:3]) != 0 {
		t.Error("PeekProtocolID")
	}
	for n := range wire {
		_, err := ParseSMB1Negotiate(wire[:n:n])
		wantMalformed(t, err, "truncated")
	}
	for name, spoil := range map[string]func([]byte){
		"another command": func(b []byte) { b[4] = 0x73 },
		"a response":      func(b []byte) { b[9] |= 0x80 },
		"WordCount":       func(b []byte) { b[32] = 0xFF },
		"BufferFormat":    func(b []byte) { b[35] = 4 },
		"no NUL":          func(b []byte) { b[len(b)-1] = 'x' },
	} {
		b := bytes.Clone(wire)
		spoil(b)
		_, err := ParseSMB1Negotiate(b)
		wantMalformed(t, err, name)
	}
	b, err := (&SMB1Negotiate{Dialects: []string{SMB1DialectSMB2002, SMB1DialectSMB2Unknown}}).AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := ParseSMB1Negotiate(b); err != nil || len(m.Dialects) != 2 || m.Dialects[1] != SMB1DialectSMB2Unknown {
		t.Errorf("own request: %q, %v", m.Dialects, err)
	}
}

// [MS-SMB2] 2.2.41.
func TestTransformHeader(t *testing.T) {
	h := TransformHeader{Signature: [16]byte(guidA), Nonce: [16]byte(guidB), OriginalMessageSize: 64, Flags: TransformFlagEncrypted, SessionID: 5}
	payload := bytes.Repeat([]byte{0xcc}, 64)
	want := append(unhex(t, `fd534d42`+hexA+hexB+`40000000 0000 0100 0500000000000000`), payload...)
	msg := append(h.Append(nil), payload...)
	if !bytes.Equal(msg, want) {
		t.Fatalf("got %x\nwant %x", msg, want)
	}
	got, rest, err := ParseTransformHeader(append(bytes.Clone(msg), 1, 2, 3))
	if err != nil || got != h || !bytes.Equal(rest, payload) {
		t.Errorf("got %+v, %x, %v", got, rest, err)
	}
	for n := range msg {
		_, _, err := ParseTransformHeader(msg[:n:n])
		wantMalformed(t, err, "truncated")
	}
	small := bytes.Clone(msg)
	small[36] = 63
	_, _, err = ParseTransformHeader(small)
	wantMalformed(t, err, "smaller than a header")
	// 3.1.4.3: the header without ProtocolId and Signature.
	if aad := TransformAAD(msg); len(aad) != 32 || !bytes.Equal(aad, msg[20:52]) {
		t.Errorf("AAD %x", aad)
	}
	SetTransformSignature(msg, [16]byte(guidB))
	if !bytes.Equal(msg[4:20], guidB[:]) {
		t.Errorf("signature %x", msg[4:20])
	}
}

// [MS-SMB2] 2.2.42.1.
func TestCompressionHeader(t *testing.T) {
	h := CompressionHeader{OriginalCompressedSegmentSize: 0x1000, CompressionAlgorithm: CompressionLZ77, Offset: 2}
	want := unhex(t, `fc534d42 00100000 0200 0000 02000000 aabbcc`)
	if got := append(h.Append(nil), 0xaa, 0xbb, 0xcc); !bytes.Equal(got, want) {
		t.Errorf("got %x\nwant %x", got, want)
	}
	got, rest, err := ParseCompressionHeader(want)
	if err != nil || got != h || len(rest) != 3 || got.IsChained() {
		t.Errorf("got %+v, %x, %v", got, rest, err)
	}
	for n := range 18 {
		_, _, err := ParseCompressionHeader(want[:n:n])
		wantMalformed(t, err, "truncated")
	}
}

func TestIsLeaseBreak(t *testing.T) {
	for _, r := range []struct {
		v    encoder
		want bool
	}{{&OplockBreakNotification{}, false}, {&LeaseBreakNotification{}, true}, {&LeaseBreakAcknowledgment{}, true}} {
		msg, _ := r.v.AppendBinary(anyHeader())
		if IsLeaseBreak(msg) != r.want {
			t.Errorf("%T: %v", r.v, !r.want)
		}
	}
	if IsLeaseBreak(anyHeader()) {
		t.Error("no body")
	}
}
