//go:build linux

package posix

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// A record belongs to the object: of files and directories, opened for data or not;
// it survives renaming and is none of the clients' attributes.
func TestSecurityRecord(t *testing.T) {
	ctx := context.Background()
	root := t.TempDir()
	f, err := New(root, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range []struct {
		name string
		open vfs.OpenOptions
	}{
		{"file", vfs.OpenOptions{Access: vfs.AccessRead | vfs.AccessWrite, Disposition: vfs.OpenOrCreate}},
		{"bare", vfs.OpenOptions{Disposition: vfs.OpenOrCreate}},
		{"dir", vfs.OpenOptions{Access: vfs.AccessRead, Disposition: vfs.OpenOrCreate, Kind: vfs.KindDir}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file, _, err := f.Open(ctx, c.name, c.open)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			h := file.(vfs.SecurityHolder)
			if _, err := h.SecurityRecord(ctx); !errors.Is(err, syscall.ENODATA) {
				t.Errorf("at first: %v, want ENODATA", err)
			}
			for _, n := range []int{1, 512, 2000} {
				want := bytes.Repeat([]byte{byte(n)}, n)
				if err := h.SetSecurityRecord(ctx, want); err != nil {
					t.Skipf("no attributes here: %v", err)
				}
				if got, err := h.SecurityRecord(ctx); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d octets: got %d, %v", n, len(got), err)
				}
			}
			if err := f.Rename(ctx, c.name, c.name+"2", false); err != nil {
				t.Fatal(err)
			}
			if got, err := h.SecurityRecord(ctx); err != nil || len(got) != 2000 {
				t.Errorf("renamed: %d octets, %v", len(got), err)
			}
			if x, ok := file.(vfs.Xattrer); ok {
				if names, err := x.ListXattr(ctx); err != nil || len(names) != 0 {
					t.Errorf("clients see attributes %q, %v", names, err)
				}
				if _, err := x.Xattr(ctx, "NTACL"); !errors.Is(err, syscall.EINVAL) {
					t.Errorf("clients read NTACL: %v", err)
				}
			}
			if err := h.SetSecurityRecord(ctx, make([]byte, 64<<10+1)); !errors.Is(err, syscall.E2BIG) {
				t.Errorf("too large: %v, want E2BIG", err)
			}
			for range 2 { // there, and not there
				if err := h.SetSecurityRecord(ctx, nil); err != nil {
					t.Errorf("removal: %v", err)
				}
			}
			access, def, err := file.(vfs.ACLHolder).POSIXACL(ctx)
			if err != nil || access != nil || def != nil {
				t.Errorf("POSIX ACLs %x, %x, %v, want none", access, def, err)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(root, "file2")); err != nil {
		t.Error(err)
	}
}

// A share that must not change keeps its records.
func TestSecurityRecordReadOnly(t *testing.T) {
	f, err := New(t.TempDir(), Config{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	file, _, err := f.Open(context.Background(), vfs.Root, vfs.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.(vfs.SecurityHolder).SetSecurityRecord(context.Background(), []byte{1}); !errors.Is(err, syscall.EROFS) {
		t.Errorf("got %v, want EROFS", err)
	}
}

// A POSIX ACL brings the permission bits with it, and goes without a trace.
func TestPOSIXACL(t *testing.T) {
	ctx := context.Background()
	f, err := New(t.TempDir(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range []struct {
		name string
		kind vfs.Kind
	}{{"file", vfs.KindFile}, {"dir", vfs.KindDir}} {
		file, _, err := f.Open(ctx, c.name, vfs.OpenOptions{Disposition: vfs.CreateNew, Kind: c.kind})
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		h := file.(vfs.ACLHolder)
		// user::rw- user:1:r-x group::r-- mask::r-x other::---
		acl := []byte("\x02\x00\x00\x00" +
			"\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x05\x00\x01\x00\x00\x00" + "\x04\x00\x04\x00\xff\xff\xff\xff" +
			"\x10\x00\x05\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff")
		if err := h.SetPOSIXACL(ctx, acl); err != nil {
			if errors.Is(err, syscall.EOPNOTSUPP) {
				t.Skip("no ACLs here")
			}
			t.Fatal(err)
		}
		access, def, err := h.POSIXACL(ctx)
		if err != nil || !bytes.Equal(access, acl) || def != nil {
			t.Errorf("%s: %x, %x, %v; want %x", c.name, access, def, err, acl)
		}
		if info, err := file.Stat(ctx); err != nil || info.Mode.Perm() != 0o650 {
			t.Errorf("%s: mode %v, %v, want 0650 (the mask stands for the group)", c.name, info.Mode, err)
		}
		for range 2 {
			if err := h.SetPOSIXACL(ctx, nil); err != nil {
				t.Errorf("%s: removal: %v", c.name, err)
			}
		}
		if access, _, err := h.POSIXACL(ctx); err != nil || access != nil {
			t.Errorf("%s: %x, %v after removal", c.name, access, err)
		}
		if err := h.SetPOSIXACL(ctx, []byte{1, 2, 3}); !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.EOPNOTSUPP) {
			t.Errorf("%s: nonsense: %v, want EINVAL", c.name, err)
		}
	}
}
