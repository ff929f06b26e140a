//go:build linux

package posix

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// Streams as others may have left them: by Samba with other settings, or by hand.
func TestStreamsOfOthers(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "f")
	must(t, os.WriteFile(path, []byte("main"), 0o644))
	for name, value := range map[string]string{
		"user.DosStream.usual:$DATA":  "12345\x00",
		"user.DosStream.untyped":      "123\x00", // streams_xattr:store_stream_type = no
		"user.DosStream.empty:$DATA":  "\x00",
		"user.DosStream.bare:$DATA":   "",          // not even the NUL
		"user.DosStream.long:$DATA":   "start\x01", // goes on in another attribute
		"user.DosStream.Case:$DATA":   "upper\x00",
		"user.DosStream.case:$DATA":   "lower\x00",
		"user.DosStream.:$DATA":       "no name\x00",
		"user.DosStream.a/b:$DATA":    "no name that a client can spell\x00",
		"user.DosStream.\xff:$DATA":   "nor this\x00",
		"user.DosStreamExt.1.long":    "and the rest",
		"user.SAMBA_PAI":              "x",
		"user.NTACL":                  "x",
		"user.plain":                  "x",
		"user.DosStreams are no such": "x",
	} {
		if err := unix.Setxattr(path, name, []byte(value), 0); err != nil {
			t.Skipf("no such attributes here: %v", err)
		}
	}
	f := mustNew(t, root, Config{})
	ctx := t.Context()
	h, _, err := f.Open(ctx, "f", vfs.OpenOptions{Access: rw})
	must(t, err)
	defer h.Close()
	st := h.(vfs.StreamHolder)
	list, err := st.Streams(ctx)
	must(t, err)
	sizes := map[string]int64{}
	for _, i := range list {
		sizes[i.Name] = i.Size
	}
	for name, want := range map[string]int64{"usual": 5, "untyped": 3, "empty": 0, "bare": 0, "long": 5, "Case": 5, "case": 5} {
		if got, ok := sizes[name]; !ok || got != want {
			t.Errorf("stream %q is listed with %d bytes (%v), want %d", name, got, ok, want)
		}
		delete(sizes, name)
	}
	if len(sizes) != 0 {
		t.Errorf("also listed: %v", sizes)
	}
	open := func(name string, access vfs.Access) vfs.File {
		t.Helper()
		s, _, err := st.OpenStream(ctx, name, vfs.OpenOptions{Access: access})
		must(t, err)
		t.Cleanup(func() { s.Close() })
		return s
	}
	for name, want := range map[string]string{"USUAL": "12345", "Untyped": "123", "empty": "", "bare": "", "Case": "upper", "case": "lower"} {
		b := make([]byte, 10)
		if n, err := open(name, rw).ReadAt(b, 0); err != io.EOF || string(b[:n]) != want {
			t.Errorf("stream %q reads %q, %v; want %q", name, b[:n], err, want)
		}
	}
	// One that cannot be read whole is not changed either.
	long := open("long", rw)
	_, rerr := long.ReadAt(make([]byte, 1), 0)
	_, werr := long.WriteAt([]byte("x"), 0)
	for what, err := range map[string]error{"reading": rerr, "writing": werr, "truncating": long.Truncate(ctx, 1)} {
		if !errors.Is(err, vfs.ErrNotSupported) {
			t.Errorf("%s a stream in several attributes: got %v, want ErrNotSupported", what, err)
		}
	}
	// What is written stays where it was found.
	if _, err := open("untyped", rw).WriteAt([]byte("4"), 3); err != nil {
		t.Errorf("writing: %v", err)
	}
	if _, err := open("bare", rw).WriteAt([]byte("1"), 0); err != nil {
		t.Errorf("writing: %v", err)
	}
	for name, want := range map[string]string{"user.DosStream.untyped": "1234\x00", "user.DosStream.bare:$DATA": "1\x00"} {
		b := make([]byte, 20)
		if n, err := unix.Getxattr(path, name, b); err != nil || string(b[:n]) != want {
			t.Errorf("%s is now %q, %v; want %q", name, b[:max(n, 0)], err, want)
		}
	}
	names, err := h.(vfs.Xattrer).ListXattr(ctx)
	if err != nil || len(names) != 2 {
		t.Errorf("clients see the attributes %q, %v; want plain and the one that is no stream", names, err)
	}
	for _, name := range []string{"DOSATTRIB", "dosattrib", "NTACL", "SAMBA_PAI", "DosStream.usual:$DATA", "DOSSTREAM.x", "DosStreamExt.1.long"} {
		if err := h.(vfs.Xattrer).SetXattr(ctx, name, []byte("x")); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("SetXattr(%q): got %v, want EINVAL", name, err)
		}
	}
	// Another process removes a stream that is open.
	s := open("usual", rw)
	must(t, unix.Removexattr(path, "user.DosStream.usual:$DATA"))
	if _, err := s.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("writing to what is gone: got %v, want ESTALE", err)
	}
}

// Where there is no room for a stream beside itself, renaming it says so and
// changes nothing.
func TestRenameOfStreamWithoutRoom(t *testing.T) {
	f := mustNew(t, t.TempDir(), Config{})
	if !f.metaBlocks {
		t.Skip("the storage is not ext4, whose room for attributes is known")
	}
	ctx := t.Context()
	h, _, err := f.Open(ctx, "f", vfs.OpenOptions{Access: rw, Disposition: vfs.CreateNew})
	must(t, err)
	defer h.Close()
	st := h.(vfs.StreamHolder)
	s, _, err := st.OpenStream(ctx, "s", vfs.OpenOptions{Access: rw, Disposition: vfs.CreateNew})
	must(t, err)
	defer s.Close()
	size := 0
	for ; err == nil; size += 100 {
		_, err = s.WriteAt(make([]byte, 100), int64(size))
	}
	size -= 100
	if size > 1<<14 {
		t.Skip("attributes have inodes of their own here")
	}
	if err := st.RenameStream(ctx, "s", "t", false); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("renaming: got %v, want ENOSPC", err)
	}
	list, err := st.Streams(ctx)
	if err != nil || len(list) != 1 || list[0].Name != "s" || list[0].Size != int64(size) {
		t.Errorf("after that, there is %+v, %v; want s with %d bytes", list, err, size)
	}
}
