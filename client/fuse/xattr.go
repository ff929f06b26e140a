package fuse

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// userPrefix is the namespace of attributes that SMB has. The rest, security and
// trusted and what belongs to the kernel, stays on the machine that it is about.
const userPrefix = "user."

// eaName is the extended attribute of SMB for one of POSIX.
func eaName(attr string) (string, bool) {
	name, ok := strings.CutPrefix(attr, userPrefix)
	return name, ok && name != ""
}

// GetXAttr implements getxattr(2). Of a namespace that is not here it says so, as file
// systems without labels and lists do: ls -l, which wants to know two such attributes of
// each file, then asks once and not again.
func (f *filesystem) GetXAttr(cancel <-chan struct{}, h *gofuse.InHeader, attr string, dest []byte) (uint32, gofuse.Status) {
	ctx := f.begin(cancel, h)
	defer ctx.end()
	name, ok := eaName(attr)
	if !ok {
		return 0, gofuse.ENOTSUP
	}
	n := f.t.get(h.NodeId)
	if n == nil {
		return 0, gofuse.Status(syscall.ESTALE)
	}
	value, err := f.getEA(ctx, n, name)
	if err != nil {
		return 0, status(err)
	}
	return fit(dest, value)
}

// fit copies an answer into the room that the caller has for it.
func fit(dest, value []byte) (uint32, gofuse.Status) {
	if len(value) > len(dest) {
		return uint32(len(value)), gofuse.ERANGE
	}
	return uint32(copy(dest, value)), gofuse.OK
}

func (f *filesystem) getEA(ctx context.Context, n *inode, name string) (value []byte, err error) {
	err = f.onFile(ctx, n, func(p string) (err error) {
		value, err = f.sh.EA(ctx, p, name)
		return err
	}, func(file *client.File) (err error) {
		value, err = file.EA(ctx, name)
		return err
	})
	return value, err
}

// ListXAttr implements listxattr(2).
func (f *filesystem) ListXAttr(cancel <-chan struct{}, h *gofuse.InHeader, dest []byte) (uint32, gofuse.Status) {
	ctx := f.begin(cancel, h)
	defer ctx.end()
	n := f.t.get(h.NodeId)
	if n == nil {
		return 0, gofuse.Status(syscall.ESTALE)
	}
	var list []client.EA
	err := f.onFile(ctx, n, func(p string) (err error) {
		list, err = f.sh.EAs(ctx, p)
		return err
	}, func(file *client.File) (err error) {
		list, err = file.EAs(ctx)
		return err
	})
	if errors.Is(err, errors.ErrUnsupported) {
		return 0, gofuse.OK
	}
	if err != nil {
		return 0, status(err)
	}
	var names []byte
	for _, ea := range list {
		if strings.IndexByte(ea.Name, 0) < 0 {
			names = append(append(append(names, userPrefix...), ea.Name...), 0)
		}
	}
	return fit(dest, names)
}

// SetXAttr implements setxattr(2).
func (f *filesystem) SetXAttr(cancel <-chan struct{}, in *gofuse.SetXAttrIn, attr string, data []byte) gofuse.Status {
	ctx := f.begin(cancel, &in.InHeader)
	defer ctx.end()
	name, ok := eaName(attr)
	if !ok {
		return gofuse.ENOTSUP
	}
	n := f.t.get(in.NodeId)
	if n == nil {
		return gofuse.Status(syscall.ESTALE)
	}
	if in.Flags&(unix.XATTR_CREATE|unix.XATTR_REPLACE) != 0 {
		switch _, err := f.getEA(ctx, n, name); {
		case err == nil && in.Flags&unix.XATTR_CREATE != 0:
			return gofuse.Status(syscall.EEXIST)
		case errors.Is(err, syscall.ENODATA) && in.Flags&unix.XATTR_REPLACE != 0:
			return gofuse.ENODATA
		case err != nil && !errors.Is(err, syscall.ENODATA):
			return status(err)
		}
	}
	data = slices.Clone(data)
	return status(f.whole(ctx, func(ctx context.Context) error {
		defer f.changed(n)
		return f.onFile(ctx, n, func(p string) error { return f.sh.SetEA(ctx, p, name, data) },
			func(file *client.File) error { return file.SetEA(ctx, name, data) })
	}, n))
}

// RemoveXAttr implements removexattr(2).
func (f *filesystem) RemoveXAttr(cancel <-chan struct{}, h *gofuse.InHeader, attr string) gofuse.Status {
	ctx := f.begin(cancel, h)
	defer ctx.end()
	name, ok := eaName(attr)
	if !ok {
		return gofuse.ENODATA
	}
	n := f.t.get(h.NodeId)
	if n == nil {
		return gofuse.Status(syscall.ESTALE)
	}
	// Servers do not say whether there was one.
	if _, err := f.getEA(ctx, n, name); err != nil {
		return status(err)
	}
	return status(f.whole(ctx, func(ctx context.Context) error {
		defer f.changed(n)
		return f.onFile(ctx, n, func(p string) error { return f.sh.RemoveEA(ctx, p, name) },
			func(file *client.File) error { return file.RemoveEA(ctx, name) })
	}, n))
}
