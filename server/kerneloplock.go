package server

import (
	"context"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// # Oplocks that local processes break
//
// On a share with KernelOplocks an exclusive or batch oplock is backed by a lease of
// the storage's (vfs.Leaser, F_SETLEASE): when a local process opens the file it waits
// while the client is asked to give up the oplock. The storage has nothing that would
// do the same for level II and leases, so that there are none on such a share, as with
// Samba's "kernel oplocks".

const (
	// leasePoll is how often an open is tried again that a lease of the storage keeps
	// out, if there is no oplock behind it to wait for.
	leasePoll = 250 * time.Millisecond
	// leaseTries bounds how often: as long as breakTimeout.
	leaseTries = int(breakTimeout / leasePoll)
)

// backOplock takes the storage's lease for an oplock that has just been granted; where
// that is not to be had, there is no oplock. Named streams need none: no local process
// opens them.
func (o *open) backOplock(ctx context.Context) {
	c, t := o.caching, &o.srv.files
	if c == nil || c.isLease || !o.tree.share.KernelOplocks || o.isStream() {
		return
	}
	l, ok := o.file.(vfs.Leaser)
	if ok {
		t.mu.Lock()
		c.backing = l
		t.mu.Unlock()
		ok = l.Lease(ctx, vfs.LeaseWrite, func() { t.breakUnasked(o.srv, c) }) == nil
	}
	if !ok {
		t.mu.Lock()
		c.backing = nil
		t.endBreakLocked(c, 0, nil)
		t.mu.Unlock()
	}
}

// breakUnasked is called when somebody who is not a client of ours wants the file, or
// has changed the directory.
func (t *openTable) breakUnasked(s *Server, c *caching) {
	var b breaks
	t.mu.Lock()
	t.breakLocked(c, 0, &b)
	t.mu.Unlock()
	s.postBreaks(&b)
}

// releaseBacking gives the storage's lease up, and lets those try again who wait for that.
func (c *caching) releaseBacking(t *openTable, l vfs.Leaser) {
	_ = l.Unlease(context.Background()) // an error is of a file that is closed, and its lease with it
	t.mu.Lock()
	c.state.wakeLocked()
	t.mu.Unlock()
}

// awaitLease waits until a file may be tried again whose lease is being broken: one of ours,
// or of a local process.
func (c *creation) awaitLease(ctx context.Context, o *open) ntstatus.Status {
	if c.leaseTries++; c.leaseTries > leaseTries {
		return ntstatus.SharingViolation
	}
	info, err := o.fs.Stat(ctx, c.name.path)
	if err != nil {
		return nameError(ctx, o.fs, c.name.path, err)
	}
	var b breaks
	var wait <-chan struct{}
	t := &o.srv.files
	t.mu.Lock()
	if st := t.files[objectKey{id: info.ID}]; st != nil {
		for _, p := range st.cachings {
			if p.backing != nil {
				t.breakLocked(p, 0, &b)
			}
		}
		wait = st.awaitLocked()
	}
	t.mu.Unlock()
	o.srv.sendBreaks(&b)
	again := make(chan struct{})
	poll := time.AfterFunc(leasePoll, func() { close(again) })
	defer poll.Stop()
	if wait == nil {
		wait = again
	}
	return c.r.awaitAny(&c.r.ctx, wait, again)
}
