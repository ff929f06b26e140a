package server

import (
	"context"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// # Leases of directories
//
// A client with a lease of a directory answers listings, and looks for names, from
// what it remembers. So the lease ends when anything in the directory changes: names
// come, go or change, sizes, times and attributes do. Who does that by an open whose
// ParentLeaseKey is the directory's lease knows it anyway and takes nothing ([MS-FSA]
// 2.1.4.12, PARENT_OBJECT). What is written shows in listings when the file is closed.
//
// Of what local processes do, names that come, go or change are noticed where the
// storage tells (vfs.Watcher), but not what becomes of the files' content: each of the
// server's own WRITEs would come back from there. A share with KernelOplocks has no
// leases of directories.

// changedIn takes the leases of the directory that name is in. by is the open that
// changed something, nil for none. It costs nothing where no directory is leased.
func (s *Server) changedIn(ctx context.Context, fsys vfs.FS, name string, by *open) {
	t := &s.files
	if t.dirLeases.Load() == 0 || name == vfs.Root {
		return
	}
	dir, _ := vfs.Split(name)
	info, err := fsys.Stat(context.WithoutCancel(ctx), dir)
	if err != nil {
		return
	}
	var b breaks
	t.mu.Lock()
	if st := t.files[objectKey{id: info.ID}]; st != nil {
		for _, c := range st.cachings {
			if by == nil || by.parentLease == (leaseKey{}) || c.key != by.parentLease {
				t.breakLocked(c, 0, &b)
			}
		}
	}
	t.mu.Unlock()
	s.sendBreaks(&b)
}

// changedIn is Server.changedIn for what the open is of.
func (o *open) changedIn(ctx context.Context) {
	if o.srv.files.dirLeases.Load() != 0 {
		o.srv.changedIn(ctx, o.fs, o.path(), o)
	}
}

// watchLease begins to watch a directory that has just been leased for what local
// processes do. The watches of a session are limited; beyond that there is no lease.
func (o *open) watchLease() {
	c, t := o.caching, &o.srv.files
	if c == nil || !c.isLease || !o.isDir {
		return
	}
	t.mu.Lock()
	if c.watch != nil || c.held == 0 {
		t.mu.Unlock()
		return
	}
	if o.sess.opens.watches.Add(1) > int32(o.srv.cfg.Limits.WatchesPerConn) {
		o.sess.opens.watches.Add(-1)
		t.endBreakLocked(c, 0, nil)
		t.mu.Unlock()
		return
	}
	w := &dirWatch{
		hub: &o.srv.notify, fs: vfs.Base(o.fs),
		filter: smb2.FileNotifyChangeFileName | smb2.FileNotifyChangeDirName,
		heard:  func() { t.breakUnasked(o.srv, c) },
	}
	c.watch, c.counted = w, &o.sess.opens
	t.mu.Unlock()
	w.hub.add(w, o)
	o.watchLocally(w)
}

// isListed reports whether a SET_INFO changes what listings of the directory say.
func (o *open) isListed(q *smb2.SetInfoRequest) bool {
	if o.isPipe || q.InfoType != smb2.InfoFile {
		return false
	}
	switch smb2.FileInfoClass(q.FileInfoClass) {
	case smb2.ClassFileBasicInformation, smb2.ClassFileEndOfFileInformation, smb2.ClassFileAllocationInformation,
		smb2.ClassFileFullEaInformation:
		return true
	}
	return false
}

// hasWritten reports whether the open has changed the file's content.
func (o *open) hasWritten() bool {
	o.times.mu.Lock()
	defer o.times.mu.Unlock()
	return o.times.written
}
