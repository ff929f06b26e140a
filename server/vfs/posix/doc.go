// Package posix serves a local directory as a vfs.FS. It needs Linux 4.11 or
// later with /proc mounted.
//
//	fsys, err := posix.New("/srv/data", posix.Config{})
//	if err != nil {
//		return err
//	}
//	defer fsys.Close()
//	f, _, err := fsys.Open(ctx, "report.txt", vfs.OpenOptions{Access: vfs.AccessRead})
//
// # Staying beneath the root
//
// The root is held as a descriptor, and every name is resolved beneath it by
// openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_MAGICLINKS. A symbolic link
// that stays beneath the root is followed, one that leaves it (an absolute one
// always does) gives vfs.ErrOutside. Where the kernel has no openat2, or a
// sandbox forbids it, names are walked one component at a time from descriptor
// to descriptor, links being expanded by hand, with the same results;
// FS.Resolver says which is in use. Changes are made to the last component
// relative to its directory's descriptor and without following it, so no
// exchange of a directory for a link in between leads elsewhere. A file is
// opened through the descriptor that its name resolved to.
//
// Other file systems mounted beneath the root are served with it.
//
// # What is served
//
// Regular files, directories and symbolic links. FIFOs, sockets and devices are
// shown and can be renamed and removed, but opening one gives vfs.ErrSpecial
// without touching it. Names that are not UTF-8 or contain a backslash cannot
// be spelled by a client: listings and watches skip them. A directory that
// holds one cannot be removed by clients until it has been removed locally.
//
// # Users
//
// All access happens with this process's own rights, but through a view that FS.As
// makes when the process runs as root (on Linux 5.8 or later): what looks at names then runs on a thread
// that has the user's fsuid, fsgid and groups, and none of the capabilities that
// pass over permissions, so that the kernel decides, with ACLs and all. A thread
// that cannot be given the process's rights back ends. What the view opens keeps
// the rights in its descriptor. Changing rights there and back costs some 10 µs a
// call. Limits that the kernel looks up when data is written (disk quotas, blocks
// reserved for root) are this process's: a server that is to keep to users' quotas
// runs without CAP_SYS_RESOURCE.
//
// # Case
//
// Unless Config.CaseSensitive is set, a name that is not there as spelled is
// looked up again ignoring case (Unicode simple folding, as strings.EqualFold).
// The exact spelling always wins. Creation, linking and renaming respect the
// folded names: "FOO" is not created beside "foo". A replaced target keeps its
// spelling. Local processes may still create names that differ
// only by case; each is reachable by its exact spelling.
//
// That no spelling of a name exists is known without reading the directory where
// a cache has its names: of up to 128 directories, 32 MiB in all, on ext4, xfs,
// btrfs, f2fs and tmpfs. It is kept up to date by inotify(7), whose queue is
// emptied before every answer, so it knows whatever another process has done by
// then. Elsewhere (9p, NFS, FUSE, overlayfs), and in a directory too large for
// it, every name that is not there as spelled costs a scan: creating n files
// looks at n²/2 entries. Config.CaseSensitive does away with both.
//
// # DOS attributes and creation time
//
// Both are kept in the extended attribute user.DOSATTRIB in Samba's format,
// readable by Samba and ksmbd and written in the version (3) that all of them
// know. Without support for extended attributes, setting them does nothing.
//
// # Streams, security records
//
// Alternate streams are extended attributes user.DosStream.NAME:$DATA, as those of
// Samba's streams_xattr: at most 64 KiB each, and on ext4 some 4 KiB for all
// attributes of a file together (unless it was made with -O ea_inode). Writing to
// one replaces it whole.
//
// Security records are kept in security.NTACL where the process may write it
// (CAP_SYS_ADMIN), and in user.NTACL otherwise. Neither is among the attributes
// that clients see.
//
// # Leases and locks
//
// F_SETLEASE, whose breaks are learnt of by SIGIO, locks of open file descriptions
// and flock(2). Opening never waits: a file that somebody has a lease on gives
// EAGAIN, and the lease begins to be broken.
//
// # Snapshots
//
// Config.SnapshotDir names a directory of earlier states, each a directory
// @GMT-YYYY.MM.DD-HH.MM.SS, as Samba's shadow_copy2 has them.
//
// # Limits of atomicity
//
// RemoveIf compares and removes in one step with respect to this FS; another
// local process may exchange the name between fstatat(2) and unlinkat(2).
// Rename without replace is one renameat2(2) where the storage has
// RENAME_NOREPLACE (ext4, xfs, btrfs, tmpfs), and a check before the rename
// elsewhere, exact with respect to this FS only. So is the comparison of folded
// names.
//
// # Locks
//
// FS.names serialises changes of names. It is held for a few system calls on
// directories, never for transfers. foldCache.mu comes after it and is held for no
// reading of directories; watcher.mu comes after it, too, and before the lock of a
// watch's queue. streamShard.mu does for the names of streams what FS.names does for
// those of files, and openStream.mu, which comes after it, covers the content of one
// stream, which is read and written whole. dir.mu covers one read of a directory,
// regular.osMu the making of an os.File, leaseMonitor.mu the taking of a lease, and
// snapshots.mu the opening of a snapshot; they come last.
package posix
