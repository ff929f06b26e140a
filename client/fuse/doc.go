// Package fuse shows a share as a local file system of Linux, through FUSE.
//
//	share, err := session.Mount(ctx, "data")
//	m, err := fuse.New(ctx, share, "/mnt/data", fuse.Config{Source: "//server/data"})
//	defer m.Unmount()
//	m.Wait()
//
// It needs /dev/fuse, and root or the program fusermount3. The kernel's requests
// become requests to the server one by one, many at a time; a read's bytes are read
// from the wire into the memory that the kernel takes them from.
//
// # What is like a local file system and what is not
//
// A file that is deleted or replaced while it is open stays readable and writable for
// who has it open, and its name is free at once. Appending is atomic among the
// clients that append by this package. Names may have every character but a slash and
// NUL: those that SMB reserves travel in the way that cifs.ko calls mapposix.
//
// SMB has no owners and one permission bit: everything belongs to Config.UID and
// Config.GID, chmod sets whether a file may be written to, and chown does nothing,
// without an error. Servers find names without regard to case, if they are told to.
//
// # Locks
//
// The mutexes, where one is taken with another held: filesystem.mu, then table.mu or inode.mu;
// inode.appending, then others; dirHandle.mu, then table.mu; table.mu and inode.mu,
// then nothing; device.mu and buffers.mu, then nothing. Four are held across I/O: inode.appending, as the end of the file must
// not move, dirHandle.mu, as a listing has one position, and inode.lockOpen and lockTable.op,
// as the locks on the server must be what the table says; only who appends to the
// same file, reads the same open directory, or locks in the same file waits for them.
package fuse
