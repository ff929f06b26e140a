// Package memory keeps a share in RAM: a vfs.FS for scratch space and tests, with
// every power that needs no operating system.
//
//	fsys, err := memory.New(memory.Config{MaxBytes: 1 << 30})
//	if err != nil {
//		return err
//	}
//	defer fsys.Close()
//
// Nothing outlives the process; Sync does nothing. What the files take, content
// and names and attributes alike, is counted against Config.MaxBytes, and what
// would exceed it gives ENOSPC. Content is kept in chunks of up to 64 KiB, whose
// absence is a hole and which copies share until one of them is written to. The
// storage of a removed file is given back when its last handle is closed.
//
// Objects belong to the user of the process. Owners and permission bits are kept
// and not enforced. Where case does not matter in names, it still does in the targets
// of symbolic links, as on other storage. Reading does not move access times.
//
// # Locks
//
// store.names guards the tree: it is read-locked to resolve a name and locked to
// change one. node.mu guards the metadata and the streams of an object and comes
// after it. content.mu guards data; it may be taken with node.mu held, two of them
// in the order of content.id. dir.mu comes before store.names. None is held for longer than copying memory takes.
package memory
