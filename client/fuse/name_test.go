package fuse

import (
	"errors"
	"strings"
	"syscall"
	"testing"
)

func TestNamesThatSMBReserves(t *testing.T) {
	for _, c := range []struct{ local, wire string }{
		{"plain", "plain"},
		{"日本語", "日本語"},
		{"a b", "a b"},
		{".hidden", ".hidden"},
		{`a:b*c?d"e<f>g|h\i`, "a\uF022b\uF021c\uF025d\uF020e\uF023f\uF024g\uF027h\uF026i"},
		{"bell\a", "bell\uF007"},
		{"\x01", "\uF001"},
		{"dot.", "dot\uF029"},
		{"dots...", "dots..\uF029"},
		{"space ", "space\uF028"},
		{" .", " \uF029"},
	} {
		wire, err := toServer(c.local)
		if err != nil || wire != c.wire {
			t.Errorf("toServer(%q) = %q, %v; want %q", c.local, wire, err, c.wire)
		}
		if local, ok := fromServer(c.wire); !ok || local != c.local {
			t.Errorf("fromServer(%q) = %q, %v; want %q", c.wire, local, ok, c.local)
		}
	}
}

func TestNamesThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		want error
	}{
		{"\xff", syscall.EILSEQ},
		{strings.Repeat("a", 256), syscall.ENAMETOOLONG},
		{strings.Repeat("a", 255), nil},
		{strings.Repeat("語", 255), nil},                  // 255 units; the server may have another limit
		{strings.Repeat("🙂", 128), syscall.ENAMETOOLONG}, // of two units each
		{strings.Repeat("a", 254) + "🙂", syscall.ENAMETOOLONG},
	} {
		if _, err := toServer(c.name); !errors.Is(err, c.want) {
			t.Errorf("toServer(%.20q of %d) = %v, want %v", c.name, len(c.name), err, c.want)
		}
	}
	for _, wire := range []string{"", ".", "..", "a/b", "a\x00", "\xff", "a\uFFFD", "\uF029", ".\uF029", "\uF029\uF029"} {
		if local, ok := fromServer(wire); ok {
			t.Errorf("fromServer(%q) = %q, want it left out", wire, local)
		}
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"plain", "a:b", "dot.", "\x01\x1f", "\uF022", "語 "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
			return // the kernel does not ask for those
		}
		wire, err := toServer(name)
		if err != nil {
			return
		}
		if strings.ContainsAny(wire, "\"*:<>?\\|") || strings.HasSuffix(wire, ".") || strings.HasSuffix(wire, " ") {
			t.Fatalf("toServer(%q) = %q, which SMB reserves", name, wire)
		}
		local, ok := fromServer(wire)
		if strings.ContainsFunc(name, isStandIn) || strings.ContainsRune(name, '\uFFFD') {
			return // stands for something else
		}
		if !ok || local != name {
			t.Fatalf("%q came back from %q as %q, %v", name, wire, local, ok)
		}
	})
}
