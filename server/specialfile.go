package server

import (
	"context"
	"io/fs"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// specialFile stands for a FIFO, socket or device, which a vfs shows but does not
// open: clients open what they want to describe, rename or delete. It works by
// name; rename and removal compare what they find with the object's identity.
type specialFile struct {
	fs   vfs.FS
	open *open
	// first is the name before the open has one of its own.
	first string
}

func (f *specialFile) name() string {
	if n := f.open.path(); n != "" {
		return n
	}
	return f.first
}

// Stat implements vfs.File.
func (f *specialFile) Stat(ctx context.Context) (vfs.Info, error) {
	return f.fs.Stat(ctx, f.name())
}

// SetAttr implements vfs.File: there is no handle to do it with.
func (f *specialFile) SetAttr(context.Context, vfs.SetAttr) error { return f.refuse("setattr") }

// ReadAt implements vfs.File.
func (f *specialFile) ReadAt([]byte, int64) (int, error) { return 0, f.refuse("read") }

// WriteAt implements vfs.File.
func (f *specialFile) WriteAt([]byte, int64) (int, error) { return 0, f.refuse("write") }

// Truncate implements vfs.File.
func (f *specialFile) Truncate(context.Context, int64) error { return f.refuse("truncate") }

// Sync implements vfs.File.
func (f *specialFile) Sync(context.Context) error { return nil }

// Close implements vfs.File.
func (f *specialFile) Close() error { return nil }

func (f *specialFile) refuse(op string) error {
	return &fs.PathError{Op: op, Path: f.name(), Err: syscall.EACCES}
}

var _ vfs.File = (*specialFile)(nil)
