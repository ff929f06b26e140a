package wire

import (
	"bytes"
	"encoding"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var (
	_ encoding.BinaryAppender = NegotiateRequest{}
	_ encoding.BinaryAppender = NegotiateResponse{}
	_ encoding.BinaryAppender = DataTransfer{}
	_ encoding.BinaryAppender = Descriptor{}
)

// vector reads testdata/name.hex: hexadecimal octets, lines with # are comments.
func vector(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	var sb strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			sb.WriteString(strings.Join(strings.Fields(line), ""))
		}
	}
	b, err := hex.DecodeString(sb.String())
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return b
}

func appended(t testing.TB, a encoding.BinaryAppender) []byte {
	t.Helper()
	b, err := a.AppendBinary([]byte("before"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimPrefix(b, []byte("before"))
}

// SD-02: the request of [MS-SMBD] 4.1.
func TestSD02NegotiateRequest(t *testing.T) {
	b := vector(t, "smbd-neg-req")
	want := NegotiateRequest{0x0100, 0x0100, 10, 1024, 1024, 131072}
	got, err := ParseNegotiateRequest(b)
	if err != nil || got != want {
		t.Fatalf("got %+v, %v, want %+v", got, err, want)
	}
	if enc := appended(t, want); !bytes.Equal(enc, b) {
		t.Errorf("encoded % x, want % x", enc, b)
	}
	for n := range b {
		if _, err := ParseNegotiateRequest(b[:n]); err != ErrShort {
			t.Errorf("%d octets: %v", n, err)
		}
	}
	// SD-16, SD-01: more octets and the Reserved field change nothing.
	longer := append(bytes.Clone(b), make([]byte, 492)...)
	longer[4], longer[5] = 0xff, 0xff
	if got, err := ParseNegotiateRequest(longer); err != nil || got != want {
		t.Errorf("longer: got %+v, %v", got, err)
	}
}

// SD-03: the responses of [MS-SMBD] 4.1 and 3.1.5.3.
func TestSD03NegotiateResponse(t *testing.T) {
	for name, want := range map[string]NegotiateResponse{
		"smbd-neg-rsp":      {0x0100, 0x0100, 0x0100, 10, 10, 0, 1048576, 1024, 1024, 131072},
		"smbd-neg-rsp-fail": {MinVersion: 0x0100, MaxVersion: 0x0100, Status: 0xC00000BB},
	} {
		b := vector(t, name)
		got, err := ParseNegotiateResponse(b)
		if err != nil || got != want {
			t.Fatalf("%s: got %+v, %v, want %+v", name, got, err, want)
		}
		if enc := appended(t, want); !bytes.Equal(enc, b) {
			t.Errorf("%s: encoded % x, want % x", name, enc, b)
		}
		for n := range b {
			if _, err := ParseNegotiateResponse(b[:n]); err != ErrShort {
				t.Errorf("%s: %d octets: %v", name, n, err)
			}
		}
		b[6], b[7] = 0xff, 0xff // Reserved, SD-01
		if got, _ := ParseNegotiateResponse(b); got != want {
			t.Errorf("%s: Reserved field is read: %+v", name, got)
		}
	}
}

// SD-04, SD-05, SD-06.
func TestSD04DataTransfer(t *testing.T) {
	for _, tc := range []struct {
		name    string
		want    DataTransfer
		payload int
	}{
		{"smbd-data-one", DataTransfer{10, 10, 0, 0, 24, 108}, 108},
		{"smbd-data-frag1", DataTransfer{10, 1, 0, 24, 24, 104}, 104},
		{"smbd-data-frag2", DataTransfer{10, 0, 0, 0, 24, 24}, 24},
		{"smbd-credit-grant", DataTransfer{255, 10, 0, 0, 0, 0}, 0},
		{"smbd-keepalive", DataTransfer{255, 0, FlagResponseRequested, 0, 0, 0}, 0},
	} {
		b := vector(t, tc.name)
		got, err := ParseDataTransfer(b)
		if err != nil || got != tc.want {
			t.Fatalf("%s: got %+v, %v, want %+v", tc.name, got, err, tc.want)
		}
		p, ok := got.Payload(b)
		if !ok || len(p) != tc.payload || !got.Aligned() {
			t.Fatalf("%s: payload %d, %v", tc.name, len(p), ok)
		}
		if enc := append(appended(t, tc.want), p...); !bytes.Equal(enc, b) {
			t.Errorf("%s: encoded % x, want % x", tc.name, enc, b)
		}
		for n := range DataTransferSize {
			if _, err := ParseDataTransfer(b[:n]); err != ErrShort {
				t.Errorf("%s: %d octets: %v", tc.name, n, err)
			}
		}
	}
	both := append(vector(t, "smbd-data-frag1")[24:], vector(t, "smbd-data-frag2")[24:]...)
	if string(both[:4]) != "\xfeSMB" || len(both) != 128 {
		t.Error("the two fragments are not the SMB2 message of the vectors")
	}
}

// SD-62, SD-63: offsets of the Microsoft test cases, in a message of 128 octets.
func TestSD63PayloadBounds(t *testing.T) {
	msg := make([]byte, 128)
	for _, tc := range []struct {
		off, n      uint32
		aligned, ok bool
	}{
		{24, 104, true, true},
		{24, 105, true, false},
		{24, 0xffffffff, true, false},
		{23, 8, false, true},
		{25, 8, false, true},
		{32, 0xffffffe0, true, false}, // sum is 2^32
		{32, 0xfffffff8, true, false},
		{0xfffffff8, 8, true, false},
		{0xfffffff8, 0, true, false},
		{128, 0, true, true},
		{136, 0, true, false},
		{0, 0, true, true},
		{16, 8, true, false}, // inside the header
		{0, 128, true, false},
	} {
		d := DataTransfer{DataOffset: tc.off, DataLength: tc.n}
		p, ok := d.Payload(msg)
		if d.Aligned() != tc.aligned || ok != tc.ok || ok && len(p) != int(tc.n) {
			t.Errorf("offset %d length %d: aligned %v, ok %v, %d octets", tc.off, tc.n, d.Aligned(), ok, len(p))
		}
	}
	if n := (DataTransfer{RemainingDataLength: 0xffffffff, DataLength: 2}).MessageLength(); n != 1<<32+1 {
		t.Errorf("MessageLength is %d", n)
	}
}

// SD-07: the descriptor of [MS-SMBD] 4.4.
func TestSD07Descriptors(t *testing.T) {
	b := vector(t, "smbd-bufdesc-v1")
	want := Descriptor{0xABCDE012, 0x1A00BC56, 1048576}
	got, err := ParseDescriptors(nil, b)
	if err != nil || len(got) != 1 || got[0] != want {
		t.Fatalf("got %+v, %v", got, err)
	}
	if enc := appended(t, want); !bytes.Equal(enc, b) {
		t.Errorf("encoded % x, want % x", enc, b)
	}
	many := bytes.Repeat(b, 4095)
	if got, err = ParseDescriptors(got[:0], many); err != nil || len(got) != 4095 || got[4094] != want {
		t.Errorf("4095 descriptors: %d, %v", len(got), err)
	}
	for n := 1; n < len(b); n++ {
		if _, err := ParseDescriptors(nil, many[:32+n]); err != ErrDescriptors {
			t.Errorf("%d octets: %v", 32+n, err)
		}
	}
	if got, err := ParseDescriptors(nil, nil); err != nil || len(got) != 0 {
		t.Errorf("empty list: %v, %v", got, err)
	}
}

func TestHotPathAllocatesNothing(t *testing.T) {
	buf := make([]byte, 0, 64)
	msg := vector(t, "smbd-data-one")
	if n := testing.AllocsPerRun(100, func() {
		d, _ := ParseDataTransfer(msg)
		buf, _ = d.AppendBinary(buf[:0])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzParse reads octets as every message: what was read is written and read
// again the same, and a payload lies inside the message.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.hex")
	for _, name := range files {
		f.Add(vector(f, strings.TrimSuffix(filepath.Base(name), ".hex")))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseNegotiateRequest(b); err == nil {
			if again, _ := ParseNegotiateRequest(appended(t, r)); again != r {
				t.Errorf("request %+v became %+v", r, again)
			}
		}
		if r, err := ParseNegotiateResponse(b); err == nil {
			if again, _ := ParseNegotiateResponse(appended(t, r)); again != r {
				t.Errorf("response %+v became %+v", r, again)
			}
		}
		if d, err := ParseDataTransfer(b); err == nil {
			if p, ok := d.Payload(b); ok {
				if uint64(len(p)) != uint64(d.DataLength) || len(p) > len(b) {
					t.Errorf("payload of %d octets, header %+v", len(p), d)
				}
				again, _ := ParseDataTransfer(appended(t, d))
				if again != d {
					t.Errorf("header %+v became %+v", d, again)
				}
			}
		}
		if ds, err := ParseDescriptors(nil, b); err == nil {
			var enc []byte
			for _, d := range ds {
				enc, _ = d.AppendBinary(enc)
			}
			if !bytes.Equal(enc, b) {
				t.Errorf("descriptors % x became % x", b, enc)
			}
		}
	})
}
