package fuse

import (
	"syscall"
	"testing"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// TestWhoReadsPastThePages: what an open of a file with a lease tells the kernel of its
// pages, by the flags of open(2).
func TestWhoReadsPastThePages(t *testing.T) {
	const parallel = gofuse.FOPEN_DIRECT_IO | gofuse.FOPEN_PARALLEL_DIRECT_WRITES
	for _, c := range []struct {
		name     string
		flags    uint32
		coherent bool // of the kernel
		want     uint32
	}{
		{"through the pages", syscall.O_RDWR, true, gofuse.FOPEN_KEEP_CACHE},
		{"past them, side by side", syscall.O_RDWR | syscall.O_DIRECT, true, parallel | gofuse.FOPEN_KEEP_CACHE},
		{"past them, by a kernel that would leave old ones", syscall.O_RDWR | syscall.O_DIRECT, false, gofuse.FOPEN_KEEP_CACHE},
		{"at the end, wherever that is", syscall.O_WRONLY | syscall.O_APPEND, true, parallel},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKernel(t, newNAS(t).share(t, client.Config{}), Config{})
			k.fs.coherent = c.coherent
			id, fh := k.create("file", "content")
			k.close(fh)
			k.close(k.open(id, syscall.O_RDONLY)) // the first one to have pages
			var out gofuse.OpenOut
			k.ok(k.fs.Open(nil, &gofuse.OpenIn{InHeader: head(id), Flags: c.flags}, &out))
			k.close(out.Fh)
			if out.OpenFlags != c.want {
				t.Errorf("flags %#x, want %#x", out.OpenFlags, c.want)
			}
		})
	}
}

// TestWrote: what the kernel is told of a write that was cut short. It asks for the rest
// of a program's, and not of pages that it writes back.
func TestWrote(t *testing.T) {
	for _, c := range []struct {
		name   string
		n      int
		back   bool
		err    error
		want   uint32
		status gofuse.Status
	}{
		{"all", 8192, false, nil, 8192, gofuse.OK},
		{"all of the pages", 8192, true, nil, 8192, gofuse.OK},
		{"nothing", 0, false, syscall.ENOSPC, 0, gofuse.Status(syscall.ENOSPC)},
		{"a part", 4096, false, syscall.ENOSPC, 4096, gofuse.OK},
		{"a part of the pages", 4096, true, syscall.ENOSPC, 0, gofuse.Status(syscall.ENOSPC)},
	} {
		if n, st := wrote(c.n, c.back, c.err); n != c.want || st != c.status {
			t.Errorf("%s: %d, %v; want %d, %v", c.name, n, st, c.want, c.status)
		}
	}
}
