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
// Local processes are not noticed. A share with KernelOplocks, where they matter, has
// no leases of directories.

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
