package vfs_test

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

func TestValidName(t *testing.T) {
	for _, c := range []struct {
		name             string
		valid, component bool
	}{
		{".", true, false},
		{"a", true, true},
		{"a/b", true, false},
		{"...", true, true},
		{"a:b*?", true, true}, // streams and wildcards are the server's business
		{"日本", true, true},
		{strings.Repeat("n", 5000), true, true}, // lengths are the storage's
		{"", false, false},
		{"/", false, false},
		{"/a", false, false},
		{"a/", false, false},
		{"a//b", false, false},
		{"..", false, false},
		{"a/..", false, false},
		{"./a", false, false},
		{`a\b`, false, false},
		{"a\x00", false, false},
		{"\xff", false, false},
	} {
		if got := vfs.ValidName(c.name); got != c.valid {
			t.Errorf("ValidName(%q) = %v, want %v", c.name, got, c.valid)
		}
		if got := vfs.ValidComponent(c.name); got != c.component {
			t.Errorf("ValidComponent(%q) = %v, want %v", c.name, got, c.component)
		}
	}
}

func TestSplitJoin(t *testing.T) {
	for _, c := range []struct{ name, dir, last string }{
		{"a", ".", "a"},
		{"a/b", "a", "b"},
		{"a/b/c", "a/b", "c"},
		{".", ".", "."},
	} {
		if dir, last := vfs.Split(c.name); dir != c.dir || last != c.last {
			t.Errorf("Split(%q) = %q, %q; want %q, %q", c.name, dir, last, c.dir, c.last)
		}
		if got := vfs.Join(c.dir, c.last); got != c.name {
			t.Errorf("Join(%q, %q) = %q, want %q", c.dir, c.last, got, c.name)
		}
	}
	if got := vfs.Join("a/b", "."); got != "a/b" {
		t.Errorf("Join(a/b, .) = %q, want a/b", got)
	}
}

// The rim finds both the io/fs sentinel and the errno.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		err, sentinel error
		errno         syscall.Errno
	}{
		{vfs.ErrOutside, fs.ErrPermission, syscall.EACCES},
		{vfs.ErrSpecial, fs.ErrPermission, syscall.EACCES},
		{vfs.ErrChanged, fs.ErrNotExist, syscall.ENOENT},
		{vfs.ErrNotSupported, errors.ErrUnsupported, syscall.EOPNOTSUPP},
	} {
		wrapped := &fs.PathError{Op: "open", Path: "x", Err: c.err}
		var errno syscall.Errno
		if !errors.Is(wrapped, c.err) || !errors.Is(wrapped, c.sentinel) || !errors.As(wrapped, &errno) || errno != c.errno {
			t.Errorf("%v: matches %v: %v, errno %v; want errno %v", c.err, c.sentinel, errors.Is(wrapped, c.sentinel), errno, c.errno)
		}
	}
}
