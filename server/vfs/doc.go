// Package vfs is what a share is made of: the interface between the SMB server
// and whatever stores the files. Package posix implements it on a local
// directory, and package vfstest checks any implementation.
//
// The interface speaks contexts, io/fs and errnos. It knows nothing of SMB: no
// NTSTATUS, no wire structure. The required part ([FS], [File], and [Dir] for
// directories) is small; whatever a backend can do beyond it, it offers by
// implementing more interfaces, found by type assertion:
//
//	on an FS    Linker, Symlinker, Watcher, Impersonator, OwnerView, Snapshotter
//	on a File   OSFiler, Allocator, HoleSeeker, Cloner, RangeCopier, Xattrer,
//	            RealNamer, XattrPeeker, StreamHolder, SecurityHolder, Leaser, RangeLocker, FileLocker
//
// A minimal use:
//
//	f, res, err := fsys.Open(ctx, "dir/report.txt", vfs.OpenOptions{
//		Access:      vfs.AccessRead | vfs.AccessWrite,
//		Disposition: vfs.OpenOrCreate,
//		Kind:        vfs.KindFile,
//	})
//	if err != nil {
//		return err
//	}
//	defer f.Close()
//	if res.Action == vfs.Created {
//		_, err = f.WriteAt([]byte("new"), 0)
//	}
//
// # Names
//
// A name is relative to the root of the share, slash-separated and UTF-8, in
// the form [ValidName] accepts; "." is the root itself. Every method refuses
// other names with EINVAL (which, in Go, does not match fs.ErrInvalid). Names
// are never cleaned: "a/../b" is refused, not resolved. Case may or may not
// matter, see Statfs.CaseSensitive; it is always preserved.
//
// # Errors
//
// Errors wrap a syscall.Errno wherever one describes the failure, usually
// inside an *fs.PathError or *os.LinkError, so that both errors.Is(err,
// fs.ErrNotExist) and errors.As(err, &errno) work. These have a meaning that
// every backend keeps:
//
//	ENOENT        the last component, or one before it, does not exist
//	ENOTDIR       a component before the last, or the name with KindDir, is no directory
//	EISDIR        the name is a directory, and KindFile or data access was asked for
//	EEXIST        an exclusive create, Mkdir, Link, or Rename without replace found the name taken
//	ENOTEMPTY     removal or replacement of a directory with entries
//	EINVAL        invalid name or argument, or a directory moved beneath itself
//	EACCES,EPERM  refused by the storage; see also ErrOutside and ErrSpecial
//	EROFS         a change to a read-only share
//	ELOOP         too many symbolic links
//	ENAMETOOLONG  a component is longer than Statfs.NameMax
//	EOPNOTSUPP    the backend, or its storage, lacks this power (ErrNotSupported)
//	ESTALE        the stream of the handle is no more
//	EAGAIN        somebody else's lock or lease is in the way
//	ENOSPC,EDQUOT no room
//	fs.ErrClosed  the handle or the file system has been closed
//
// # Concurrency
//
// All methods of an FS may be called at any time from any goroutine, and so may
// all methods of a File except where one says otherwise. Close may overlap
// with other calls: those that got hold of the file before it finish normally,
// later ones fail with fs.ErrClosed. Byte-range locks, share modes, leases and
// delete-on-close are the server's business and are not known here.
//
// A context that ends makes a call return early where the backend can; a
// change it had already made stays made. ReadAt and WriteAt take no context:
// they are io.ReaderAt and io.WriterAt, and a local transfer, once begun,
// cannot be cancelled.
package vfs
