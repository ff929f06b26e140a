//go:build linux

package posix

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// 1970-01-01 is 11,644,473,600 s after 1601; the samples were born
// 1,577,836,800 s later, on 2020-01-01 at 00:00:00 UTC.
var born = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// (11644473600+1577836800) * 10^7 = 132223104000000000 = 0x01D5C03669050000
const bornNT = "00000569 36c0d501"

// samples has the versions as Samba 4.17's own marshalling writes them for
// attributes 0x22 (hidden, archive), fields in Samba's order.
var samples = []struct {
	name string
	hex  string
	want dosInfo
}{
	{"text alone", "3078323200", dosInfo{0x22, true, time.Time{}}},
	{"text alone, without NUL", "30783232", dosInfo{0x22, true, time.Time{}}},
	{"version 1", "3078323200 00 0100 0100 0000" + "22000000 00000000 0700000000000000 0010000000000000" +
		bornNT + "02000569 36c0d501", dosInfo{0x22, true, born}},
	{"version 2", "3078323200 00 0200 0200 0000" + "01000000 22000000 00000000 0000000000000000 0000000000000000" +
		bornNT + "02000569 36c0d501 03000569 36c0d501 6e00", dosInfo{0x22, true, born}},
	{"version 3", "3078323200 00 0300 0300 0000" + "11000000 22000000 00000000 0000000000000000 0000000000000000" +
		bornNT + "0000000000000000", dosInfo{0x22, true, born}},
	{"version 3 without creation time", "00 00 0300 0300 0000" + "01000000 22000000 00000000 0000000000000000 0000000000000000" +
		bornNT + "0000000000000000", dosInfo{0x22, true, time.Time{}}},
	{"version 4", "00 00 0400 0400 0000" + "51000000 22000000 01000569 36c0d501" + bornNT, dosInfo{0x22, true, born}},
	{"version 5", "00 00 0500 0500 0000" + "11000000 22000000" + bornNT, dosInfo{0x22, true, born}},
	{"version 5 without attributes", "00 00 0500 0500 0000" + "10000000 22000000" + bornNT, dosInfo{0, false, born}},
	{"a version yet unknown, with text", "3078323200 00 0900 0900", dosInfo{0x22, true, time.Time{}}},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseDOSInfo(t *testing.T) {
	for _, c := range samples {
		got, err := parseDOSInfo(unhex(t, c.hex))
		if err != nil || got.attrib != c.want.attrib || got.hasAttrib != c.want.hasAttrib || !got.created.Equal(c.want.created) {
			t.Errorf("%s: %+v, %v; want %+v", c.name, got, err, c.want)
		}
	}
	for _, c := range samples[2:9] {
		// Cut anywhere, it is refused or says less; it never says something else.
		b := unhex(t, c.hex)
		for n := range b {
			got, err := parseDOSInfo(b[:n])
			if err == nil && (got.hasAttrib && got.attrib != 0x22 && got.attrib != 2 || !got.created.IsZero() && !got.created.Equal(born)) {
				t.Errorf("%s cut to %d bytes: %+v", c.name, n, got)
			}
		}
	}
	for name, s := range map[string]string{
		"nothing":                     "",
		"empty text":                  "00",
		"text without 0x":             "323200",
		"text that is no number":      "30787a7a00",
		"text too large":              "307831323334353637383900",
		"half a version":              "00000300",
		"versions that differ":        "0000030004000000",
		"a version unknown, no text":  "0000090009000000",
		"version 5 without its times": "00000500050000001100000022000000",
	} {
		if got, err := parseDOSInfo(unhex(t, s)); !errors.Is(err, errDOSAttrib) {
			t.Errorf("%s: %+v, %v; want it refused", name, got, err)
		}
	}
}

func TestAppendDOSInfo(t *testing.T) {
	for _, c := range samples {
		if !strings.HasPrefix(c.name, "version 3") || c.want.created.IsZero() {
			continue
		}
		if got := c.want.appendBinary(nil); !bytes.Equal(got, unhex(t, c.hex)) {
			t.Errorf("%s: wrote\n%x, want\n%x", c.name, got, unhex(t, c.hex))
		}
	}
	got := (dosInfo{0x22, true, born}).appendBinary([]byte("odd"))
	if !bytes.Equal(got, append([]byte("odd"), unhex(t, samples[4].hex)...)) {
		t.Errorf("appended to other bytes, it is aligned differently: %x", got)
	}
}

func TestNTTime(t *testing.T) {
	for _, c := range []struct {
		nt uint64
		t  time.Time
	}{
		{116444736000000000, time.Unix(0, 0)},
		{116444736000000001, time.Unix(0, 100)},
		{116444735999999999, time.Unix(-1, 999999900)},
		{132223104000000000, born},
		{1, time.Date(1601, 1, 1, 0, 0, 0, 100, time.UTC)},
	} {
		if got := fromNTTime(c.nt); !got.Equal(c.t) {
			t.Errorf("fromNTTime(%d) = %v, want %v", c.nt, got, c.t)
		}
		if got := toNTTime(c.t); got != c.nt {
			t.Errorf("toNTTime(%v) = %d, want %d", c.t, got, c.nt)
		}
	}
	for _, nt := range []uint64{0, 1 << 63, 1<<64 - 1} {
		if got := fromNTTime(nt); !got.IsZero() {
			t.Errorf("fromNTTime(%d) = %v, want none", nt, got)
		}
	}
	for _, c := range []struct {
		t    time.Time
		want uint64
	}{
		{time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC), 1},
		{time.Date(1601, 1, 1, 0, 0, 0, 0, time.UTC), 1},
		{time.Date(99999, 1, 1, 0, 0, 0, 0, time.UTC), 1<<63 - 1},
	} {
		if got := toNTTime(c.t); got != c.want {
			t.Errorf("toNTTime(%v) = %d, want %d", c.t, got, c.want)
		}
	}
}

// What Samba left on a file is understood, and what it keeps there beyond our
// attributes survives a change.
func TestSambaInterchange(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "f")
	must(t, os.WriteFile(path, nil, 0o644))
	f := mustNew(t, root, Config{})
	ctx := t.Context()
	if st, err := f.Statfs(ctx); err != nil || !st.Attributes {
		t.Skipf("no extended attributes here (%v)", err)
	}
	for _, c := range samples {
		must(t, unix.Setxattr(path, xattrDOSAttrib, unhex(t, c.hex), 0))
		info, err := f.Stat(ctx, "f")
		must(t, err)
		if c.want.hasAttrib && info.Attributes != vfs.AttrHidden|vfs.AttrArchive {
			t.Errorf("%s: attributes are %#x, want 0x22", c.name, info.Attributes)
		}
		if !c.want.created.IsZero() && !info.BirthTime.Equal(born) {
			t.Errorf("%s: born %v, want %v", c.name, info.BirthTime, born)
		}
	}
	// 0x200 is a sparse file: not a user's attribute, but kept.
	must(t, unix.Setxattr(path, xattrDOSAttrib, []byte("0x222"), 0))
	h, _, err := f.Open(ctx, "f", vfs.OpenOptions{})
	must(t, err)
	defer h.Close()
	must(t, h.SetAttr(ctx, vfs.SetAttr{Set: vfs.SetAttributes, Attributes: vfs.AttrSystem}))
	buf := make([]byte, 256)
	n, err := unix.Getxattr(path, xattrDOSAttrib, buf)
	must(t, err)
	got, err := parseDOSInfo(buf[:n])
	if err != nil || got.attrib != 0x204 {
		t.Errorf("stored attributes are %#x, %v; want 0x204", got.attrib, err)
	}
	// Garbage counts as nothing and can be replaced.
	must(t, unix.Setxattr(path, xattrDOSAttrib, []byte("garbage"), 0))
	if info, err := f.Stat(ctx, "f"); err != nil || info.Attributes != 0 {
		t.Errorf("with garbage stored, attributes are %#x, %v; want none", info.Attributes, err)
	}
}

func TestDotFilesAreHidden(t *testing.T) {
	for _, show := range []bool{false, true} {
		root := t.TempDir()
		for _, name := range []string{".dot", "plain"} {
			must(t, os.WriteFile(filepath.Join(root, name), nil, 0o644))
		}
		f := mustNew(t, root, Config{ShowDotFiles: show})
		ctx := t.Context()
		h, _, err := f.Open(ctx, ".dot", vfs.OpenOptions{})
		must(t, err)
		defer h.Close()
		byName, err := f.Lstat(ctx, ".dot")
		must(t, err)
		byHandle, err := h.Stat(ctx)
		must(t, err)
		want := vfs.AttrHidden
		if show {
			want = 0
		}
		if byName.Attributes != want || byHandle.Attributes != want {
			t.Errorf("shown %v: a dot file's attributes are %#x by name, %#x by handle; want %#x", show, byName.Attributes, byHandle.Attributes, want)
		}
		for _, name := range []string{"plain", "."} {
			if info, err := f.Stat(ctx, name); err != nil || info.Attributes != 0 {
				t.Errorf("%q has attributes %#x, %v; want none", name, info.Attributes, err)
			}
		}
		// Stored attributes count for more than the name.
		if st, err := f.Statfs(ctx); err != nil || !st.Attributes {
			continue
		}
		must(t, h.SetAttr(ctx, vfs.SetAttr{Set: vfs.SetAttributes, Attributes: vfs.AttrArchive}))
		if info, err := f.Stat(ctx, ".dot"); err != nil || info.Attributes != vfs.AttrArchive {
			t.Errorf("with attributes stored, a dot file has %#x, %v; want archive", info.Attributes, err)
		}
	}
}

// Whatever is read, writing it and reading that again gives the same.
func FuzzDOSInfo(f *testing.F) {
	for _, c := range samples {
		f.Add(unhex(f, c.hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDOSInfo(b)
		if err != nil {
			return
		}
		again, err := parseDOSInfo(d.appendBinary(nil))
		if err != nil || again.attrib != d.attrib || again.hasAttrib != d.hasAttrib || !again.created.Equal(d.created) {
			t.Errorf("%x is %+v; written and read again, %+v, %v", b, d, again, err)
		}
	})
}
