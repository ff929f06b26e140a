package vfs

import (
	"errors"
	"fmt"
	"syscall"
)

var (
	// ErrOutside is the error for a name that would leave the share, through a
	// symbolic link. It matches fs.ErrPermission.
	ErrOutside = fmt.Errorf("leads outside the share: %w", syscall.EACCES)

	// ErrSpecial is the error for opening a FIFO, socket or device. Such files are
	// shown and can be renamed and removed, not opened. It matches fs.ErrPermission.
	ErrSpecial = fmt.Errorf("not a regular file, directory or link: %w", syscall.EACCES)

	// ErrChanged is RemoveIf's error when the name now means another object. It
	// matches fs.ErrNotExist, as the object asked for is not there.
	ErrChanged = fmt.Errorf("name refers to another object: %w", syscall.ENOENT)

	// ErrNotCached says that a file has to be waited for; see CachedReader.
	ErrNotCached = errors.New("not in memory")

	// ErrNotSupported is for a power that the backend, or its storage, lacks. It
	// matches errors.ErrUnsupported.
	ErrNotSupported error = syscall.EOPNOTSUPP

	// ErrOverflow is Watch.Next's error when events were lost.
	ErrOverflow = errors.New("events lost")
)
