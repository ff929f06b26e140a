package client

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// A link that is made in any form is one in the storage, and read back as it was made.
func TestSymlink(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name   string
		form   SymlinkForm
		target string
		back   string // as the server spells it: characters that Windows forbids are mapped
		err    error  // of a server that has no link to an absolute Windows name
	}{
		{"auto", SymlinkAuto, "../d/f", "../d/f", nil},
		{"auto, absolute", SymlinkAuto, "/usr/bin/env", "/usr/bin/env", nil},
		{"auto, no name of Windows", SymlinkAuto, "a:b?*", "a\uf022b\uf025\uf021", nil},
		{"auto, a backslash in a name", SymlinkAuto, `a\b/c`, "a\uf026b/c", nil},
		{"auto, at the end a space", SymlinkAuto, "a /b.", "a /b.", nil},
		{"native", SymlinkNative, "d/f", "d/f", nil},
		{"native, absolute", SymlinkNative, "/usr", "", ntstatus.IOReparseDataInvalid},
		{"NFS", SymlinkNFS, "d/ünïcode 😀", "d/ünïcode 😀", nil},
		{"WSL", SymlinkWSL, "/d/ünïcode 😀", "/d/ünïcode 😀", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, linkConfig{}, nil)
			sh := s.mount(t, Config{Symlinks: c.form})
			err := sh.Symlink(ctx, c.target, "link")
			if !errors.Is(err, c.err) {
				t.Fatal(err)
			}
			if c.err != nil {
				if _, err := sh.Lstat(ctx, "link"); !errors.Is(err, fs.ErrNotExist) {
					t.Fatal("what could not be made is there:", err)
				}
				return
			}
			if disk, err := os.Readlink(filepath.Join(s.dir, "link")); err != nil || disk != c.target {
				t.Fatalf("%q, %v", disk, err)
			}
			if got, err := sh.Readlink(ctx, "link"); err != nil || got != c.back {
				t.Fatalf("%q, %v", got, err)
			}
			if fi, err := sh.Lstat(ctx, "link"); err != nil || fi.Mode().Type() != fs.ModeSymlink {
				t.Fatal(fi, err)
			}
			if err := sh.Symlink(ctx, "x", "link"); !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
			must(t, sh.Remove(ctx, "link"))
		})
	}
}

func TestNoSymlink(t *testing.T) {
	ctx := context.Background()
	sh := newSite(t, linkConfig{}, nil).mount(t, Config{})
	must(t, sh.WriteFile(ctx, "f", nil, 0o666))
	must(t, sh.Mkdir(ctx, "d"))
	for _, name := range []string{"f", "d"} {
		if got, err := sh.Readlink(ctx, name); !errors.Is(err, syscall.EINVAL) || !errors.Is(err, ntstatus.NotAReparsePoint) {
			t.Error(got, err)
		}
	}
	if got, err := sh.Readlink(ctx, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(got, err)
	}
	for _, target := range []string{"", "a\x00b", strings.Repeat("x", maxTarget+1)} {
		if err := sh.Symlink(ctx, target, "link"); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%.20q: %v", target, err)
		}
	}
	for _, mode := range []fs.FileMode{0, fs.ModeDir, fs.ModeSymlink, fs.ModeCharDevice} {
		if err := sh.Mknod(ctx, "node", mode, 0, 0); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%v: %v", mode, err)
		}
	}
	// A server without them: nothing stays behind.
	if err := sh.Mknod(ctx, "node", fs.ModeNamedPipe, 0, 0); err != nil {
		if _, serr := sh.Lstat(ctx, "node"); !errors.Is(err, errors.ErrUnsupported) || !errors.Is(serr, fs.ErrNotExist) {
			t.Error(err, serr)
		}
	}
}

// The forms of reparse points, octet by octet as [MS-FSCC] 2.1.2 has them.
func TestSpecialForms(t *testing.T) {
	buffer := func(tag uint32, data string) []byte {
		b := le.AppendUint16(le.AppendUint32(nil, tag), uint16(len(data)))
		return append(b, "\x00\x00"+data...)
	}
	utf16 := func(s string) string { return string(smb2.EncodeUTF16(s)) }
	for _, c := range []struct {
		name string
		raw  []byte
		want Special
		bad  bool
	}{
		{name: "relative", raw: buffer(0xA000000C, "\x00\x00\x06\x00\x06\x00\x00\x00\x01\x00\x00\x00"+utf16(`a\b`)),
			want: Special{Mode: fs.ModeSymlink, Target: "a/b"}},
		{name: "a drive", raw: buffer(0xA000000C, "\x00\x00\x0e\x00\x0e\x00\x00\x00\x00\x00\x00\x00"+utf16(`\??\C:\`)),
			want: Special{Mode: fs.ModeSymlink, Target: "C:/"}},
		{name: "a server", raw: buffer(0xA000000C, "\x00\x00\x16\x00\x16\x00\x00\x00\x00\x00\x00\x00"+utf16(`\??\UNC\s\t`)),
			want: Special{Mode: fs.ModeSymlink, Target: "//s/t"}},
		{name: "absolute", raw: buffer(0xA000000C, "\x00\x00\x04\x00\x04\x00\x00\x00\x00\x00\x00\x00"+utf16(`\x`)),
			want: Special{Mode: fs.ModeSymlink, Target: "/x"}},
		{name: "mount point", raw: buffer(0xA0000003, "\x00\x00\x10\x00\x12\x00\x00\x00"+utf16(`\??\D:\y`)+"\x00\x00\x00\x00"),
			want: Special{Mode: fs.ModeIrregular, Target: "D:/y"}},
		{name: "WSL link", raw: buffer(0xA000001D, "\x02\x00\x00\x00/a/ü"), want: Special{Mode: fs.ModeSymlink, Target: "/a/ü"}},
		{name: "WSL FIFO", raw: buffer(0x80000024, ""), want: Special{Mode: fs.ModeNamedPipe}},
		{name: "WSL character device", raw: buffer(0x80000025, ""), want: Special{Mode: fs.ModeDevice | fs.ModeCharDevice}},
		{name: "WSL block device", raw: buffer(0x80000026, ""), want: Special{Mode: fs.ModeDevice}},
		{name: "socket", raw: buffer(0x80000023, ""), want: Special{Mode: fs.ModeSocket}},
		{name: "NFS link", raw: buffer(0x80000014, "LNK\x01\x00\x00\x00\x00"+utf16("/a")), want: Special{Mode: fs.ModeSymlink, Target: "/a"}},
		{name: "NFS FIFO", raw: buffer(0x80000014, "FIFO\x00\x00\x00\x00"), want: Special{Mode: fs.ModeNamedPipe}},
		{name: "NFS socket", raw: buffer(0x80000014, "SOCK\x00\x00\x00\x00"), want: Special{Mode: fs.ModeSocket}},
		{name: "NFS character device", raw: buffer(0x80000014, "CHR\x00\x00\x00\x00\x00\x05\x00\x00\x00\x01\x00\x00\x00"),
			want: Special{Mode: fs.ModeDevice | fs.ModeCharDevice, Major: 5, Minor: 1}},
		{name: "NFS block device", raw: buffer(0x80000014, "BLK\x00\x00\x00\x00\x00\x08\x00\x00\x00\x02\x00\x00\x00"),
			want: Special{Mode: fs.ModeDevice, Major: 8, Minor: 2}},
		{name: "of another kind", raw: buffer(0x80000013, "data"), want: Special{Mode: fs.ModeIrregular}},

		{name: "nothing", bad: true},
		{name: "cut", raw: buffer(0x80000024, "")[:7], bad: true},
		{name: "shorter than it says", raw: buffer(0xA000001D, "\x02\x00\x00\x00abc")[:12], bad: true},
		{name: "link without names", raw: buffer(0xA000000C, "\x00\x00"), bad: true},
		{name: "name beyond the end", raw: buffer(0xA000000C, "\x02\x00\x06\x00\x06\x00\x00\x00\x01\x00\x00\x00"+utf16(`a\b`)), bad: true},
		{name: "empty target", raw: buffer(0xA000000C, "\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00"), bad: true},
		{name: "NUL in the target", raw: buffer(0xA000001D, "\x02\x00\x00\x00a\x00b"), bad: true},
		{name: "WSL link of another version", raw: buffer(0xA000001D, "\x03\x00\x00\x00a"), bad: true},
		{name: "NFS device without numbers", raw: buffer(0x80000014, "CHR\x00\x00\x00\x00\x00\x05\x00"), bad: true},
		{name: "NFS without a kind", raw: buffer(0x80000014, "CHR"), bad: true},
		{name: "mount point beyond the end", raw: buffer(0xA0000003, "\x00\x00\xFF\x00\x12\x00\x00\x00"), bad: true},
	} {
		got, err := specialOf(c.raw)
		if c.bad {
			if err == nil {
				t.Errorf("%s: no error but %+v", c.name, got)
			}
			continue
		}
		c.want.Tag = le.Uint32(c.raw)
		if err != nil || *got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", c.name, got, err, c.want)
		}
	}
}

// Where a link leads on which the server stopped, [MS-SMB2] 2.2.2.2.1.
func TestFollowLink(t *testing.T) {
	for _, c := range []struct {
		name     string
		unparsed int // octets
		target   string
		absolute bool
		want     string // "" for nowhere on this share
	}{
		{"link", 0, "f", false, "f"},
		{"d/link", 0, "f", false, "d/f"},
		{"d/link", 0, `..\f`, false, "f"},
		{"d/link/a/b", 8, `..\e`, false, "e/a/b"},
		{"d/link/ü/😀", 10, `e`, false, "d/e/ü/😀"},
		{"link", 0, `..\f`, false, ""},
		{"d/link", 0, `..\..\f`, false, ""},
		{"link", 0, `\??\C:\x`, true, ""},
		{"link", 0, `\??\UNC\nas\data\x\y`, true, "x/y"},
		{"link/z", 4, `\??\UNC\NAS\Data`, true, "z"},
		{"link", 0, `\??\UNC\nas\other\x`, true, ""},
		{"link", 0, `\??\UNC\nas\database\x`, true, ""},
		{"link", 0, `\x`, true, ""},
		{"d/link", 0, `\x`, false, "x"}, // from the root of the share
	} {
		wire, err := wireName(c.name)
		must(t, err)
		done, rest, ok := splitUnparsed(wire, c.unparsed)
		if !ok {
			t.Errorf("%s: %d octets unparsed are refused", c.name, c.unparsed)
			continue
		}
		sh := &Share{name: "data", s: &Session{server: "nas"}}
		if got := sh.linked(done, c.target, !c.absolute, rest); got != c.want {
			t.Errorf("%s to %s: %q, want %q", c.name, c.target, got, c.want)
		}
	}
	for _, n := range []int{1, 2, 3, 8, 100} { // half a unit, parts of elements, more than there is
		if done, rest, ok := splitUnparsed(`ab\cd`, n); ok {
			t.Errorf("%d octets unparsed: %q, %q", n, done, rest)
		}
	}
}

// A server that stops on links: they are followed by everything that opens by name, so
// often as Linux does and no more.
func TestServerThatStopsOnLinks(t *testing.T) {
	ctx := context.Background()
	// links are the names on which this server stops.
	stopping := func(t *testing.T, links map[string]string) *Share {
		f, l := newFake(t, linkConfig{})
		f.on[smb2.CommandCreate] = func(f *fake, h smb2.Header, msg []byte) bool {
			m, err := smb2.ParseCreateRequest(msg)
			must(t, err)
			target, is := links[smb2.DecodeUTF16(m.Name)]
			if !is {
				return false
			}
			b, err := (&smb2.SymbolicLinkErrorResponse{Flags: smb2.SymlinkFlagRelative, SubstituteName: smb2.EncodeUTF16(target)}).AppendBinary(nil)
			must(t, err)
			b, err = smb2.AppendErrorContext(nil, smb2.ErrorIDDefault, b)
			must(t, err)
			f.reply(h, ntstatus.StoppedOnSymlink, &smb2.ErrorResponse{ErrorContextCount: 1, ErrorData: b})
			return true
		}
		s, err := f.start(l, Config{})
		must(t, err)
		sh, err := s.Mount(ctx, "data")
		must(t, err)
		return sh
	}
	t.Run("two links", func(t *testing.T) {
		sh := stopping(t, map[string]string{"link": `d\second`, `d\second`: "f"})
		f, err := sh.Open(ctx, "link")
		must(t, err)
		if f.Name() != "link" {
			t.Error(f.Name())
		}
		must(t, f.Close())
	})
	t.Run("a loop", func(t *testing.T) {
		sh := stopping(t, map[string]string{"a": "b", "b": "a"})
		for what, err := range map[string]error{
			"Open":  func() error { _, err := sh.Open(ctx, "a"); return err }(),
			"Mkdir": sh.Mkdir(ctx, "a"),
		} {
			if !errors.Is(err, syscall.ELOOP) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
	t.Run("away from the share", func(t *testing.T) {
		sh := stopping(t, map[string]string{"a": `..\..\etc`})
		if _, err := sh.Open(ctx, "a"); !errors.Is(err, ntstatus.StoppedOnSymlink) || !strings.Contains(err.Error(), "../../etc") {
			t.Error(err)
		}
	})
}
