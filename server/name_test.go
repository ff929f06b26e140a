package server

import (
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// [MS-FSCC] 2.1.5 and [MS-SMB2] 2.2.13.
func TestParseName(t *testing.T) {
	const ok = ntstatus.Success
	for _, c := range []struct {
		in   string
		want wireName
		st   ntstatus.Status
	}{
		{"", wireName{path: "."}, ok},
		{"a", wireName{path: "a"}, ok},
		{`a\b\c`, wireName{path: "a/b/c"}, ok},
		{`a\\b\`, wireName{path: "a/b", slash: true}, ok},
		{`\a`, wireName{}, ntstatus.InvalidParameter},
		{`a\.\b`, wireName{path: "a/b"}, ok},
		{`a\..\b`, wireName{path: "b"}, ok},
		{`a\..`, wireName{path: "."}, ok},
		{`..\a`, wireName{}, ntstatus.ObjectPathSyntaxBad},
		{`a\..\..\b`, wireName{}, ntstatus.ObjectPathSyntaxBad},
		{"a*", wireName{}, ntstatus.ObjectNameInvalid},
		{"a?", wireName{}, ntstatus.ObjectNameInvalid},
		{"a<", wireName{}, ntstatus.ObjectNameInvalid},
		{`a"`, wireName{}, ntstatus.ObjectNameInvalid},
		{"a|b", wireName{}, ntstatus.ObjectNameInvalid},
		{`a/b\c/`, wireName{path: "a/b/c", slash: true}, ok},
		{"/a", wireName{}, ntstatus.InvalidParameter},
		{"a/../../b", wireName{}, ntstatus.ObjectPathSyntaxBad},
		{"a\x1f", wireName{}, ntstatus.ObjectNameInvalid},
		{"a\x00b", wireName{}, ntstatus.ObjectNameInvalid},
		{"a\xed\xa0\x80b", wireName{}, ntstatus.ObjectNameInvalid}, // half a surrogate pair
		{"a::$DATA", wireName{path: "a", dataStream: true}, ok},
		{"a::$data", wireName{path: "a", dataStream: true}, ok},
		{"a:s", wireName{path: "a", stream: "s"}, ok},
		{":s", wireName{path: ".", stream: "s"}, ok},
		{`a\:s`, wireName{}, ntstatus.ObjectNameInvalid},
		{".:s", wireName{}, ntstatus.ObjectNameInvalid},
		{`a\..:s`, wireName{}, ntstatus.ObjectNameInvalid},
		{"a:s:$DATA", wireName{path: "a", stream: "s"}, ok},
		{"a::$INDEX_ALLOCATION", wireName{path: "a", dirStream: true}, ok},
		{"a:$I30:$INDEX_ALLOCATION", wireName{path: "a", dirStream: true}, ok},
		{"a:", wireName{}, ntstatus.ObjectNameInvalid},
		{"a::", wireName{}, ntstatus.ObjectNameInvalid},
		{"a::$BITMAP", wireName{}, ntstatus.ObjectNameInvalid},
		{"a:b:c:d", wireName{}, ntstatus.ObjectNameInvalid},
		{`a:s\b`, wireName{}, ntstatus.ObjectNameInvalid},
		{"a:\x01 *?\"<>|", wireName{path: "a", stream: "\x01 *?\"<>|"}, ok}, // a stream may have other characters
		{"a:s/b", wireName{}, ntstatus.ObjectNameInvalid},
		{"a:" + strings.Repeat("s", 255), wireName{path: "a", stream: strings.Repeat("s", 255)}, ok},
		{"a:" + strings.Repeat("s", 256), wireName{}, ntstatus.ObjectNameInvalid},
		{strings.Repeat("x", 255), wireName{path: strings.Repeat("x", 255)}, ok},
		{strings.Repeat("x", 256), wireName{}, ntstatus.ObjectNameInvalid},
		{strings.Repeat("𝄞", 128), wireName{}, ntstatus.ObjectNameInvalid}, // 256 code units
		// What Linux and Mac clients send for characters that Windows reserves.
		{"a\uf022b", wireName{path: "a:b"}, ok},
		{"\uf001\uf020\uf021\uf023\uf024\uf025\uf027", wireName{path: "\x01\"*<>?|"}, ok},
		{"a\uf029", wireName{path: "a."}, ok},
		{"\uf029a", wireName{path: "\uf029a"}, ok},
		{"\uf029", wireName{}, ntstatus.ObjectNameInvalid}, // would be "."
		{".\uf029", wireName{}, ntstatus.ObjectNameInvalid},
		{"a.", wireName{path: "a."}, ok},
	} {
		got, st := parseName(smb2.EncodeUTF16(c.in), false)
		if st != c.st || st == ok && got != c.want {
			t.Errorf("%q: got %+v, %v; want %+v, %v", c.in, got, st, c.want, c.st)
		}
	}
	if got, st := parseName(smb2.EncodeUTF16(`\a`), true); st != ok || got.path != "a" {
		t.Errorf("leading backslash where it is allowed: got %+v, %v", got, st)
	}
}

// What a listing shows must lead back to the file.
func TestNamesRoundTrip(t *testing.T) {
	for _, name := range []string{"plain", "a:b", `x"*:<>?|y`, "tab\there", "ünïcödé", "end.", "end "} {
		wire := toWire(name)
		if wire != name && isReservedIn(wire) {
			t.Errorf("%q shown as %q", name, wire)
		}
		got, st := parseName(smb2.EncodeUTF16(wire), false)
		if st != ntstatus.Success || got.path != name {
			t.Errorf("%q shown as %q leads to %q, %v", name, wire, got.path, st)
		}
	}
}

func isReservedIn(s string) bool { return strings.ContainsFunc(s, isReserved) }

func FuzzParseName(f *testing.F) {
	for _, s := range []string{`a\b`, "a:b:$DATA", "\uf022", `..\..`, "a::$INDEX_ALLOCATION"} {
		f.Add(smb2.EncodeUTF16(s), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, leading bool) {
		n, st := parseName(b, leading)
		if st != ntstatus.Success {
			return
		}
		for comp := range strings.SplitSeq(n.path, "/") {
			if comp == ".." || comp == "" || comp == "." && n.path != "." {
				t.Errorf("%x gave %q", b, n.path)
			}
		}
	})
}
