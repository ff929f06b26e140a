package server

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"os"
	"sync"
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// open is a file, directory or pipe that a client holds open: Open of
// [MS-SMB2] 3.3.1.10.
//
// Fields without a remark are set by CREATE before the open can be found and
// never change. The open is found by its FileID in the session's openSet; what
// files share between opens is in fileState.
//
// id, sess, tree and sequence change when the open is claimed by another session
// after its own has ended. That happens with openTable.mu held, while nobody has
// another reference: who got the open from its session reads them freely, who got it
// from a fileState reads them with openTable.mu held.
type open struct {
	id     smb2.FileID
	number uint64 // its ID in Status
	srv    *Server
	sess   *session
	tree   *tree
	fs     vfs.FS // nil for a pipe

	file    vfs.File         // nil for a pipe
	cached  vfs.CachedReader // file, if it is one
	osFiler vfs.OSFiler      // file, if there may be a descriptor for data behind it
	dir     vfs.Dir          // file, if it is a directory opened for listing

	isDir, isPipe bool
	isLink        bool            // a symbolic link opened itself
	posix         bool            // it has the POSIX extensions
	mayDelete     bool            // a stored descriptor gives the right to delete
	snapshot      bool            // of an earlier state of the share: nothing changes
	became        became          // what a change of the reparse point has made of the file
	access        smb2.AccessMask // granted, without generic bits
	shareAccess   smb2.ShareAccess
	options       smb2.CreateOptions
	writeThrough  bool

	state   *fileState // nil for a pipe
	caching *caching   // nil for none; the same as long as the open lives
	// parentLease is the lease that the client says it has of the directory; zero
	// without one.
	parentLease leaseKey
	name        string // in the share, guarded by openTable.mu; see path
	// stream is the named stream of name that is open, empty for none; guarded by
	// openTable.mu.
	stream string

	// closing is closed when the open is being closed: what waits on its behalf
	// (locks, notifications) ends.
	closing   chan struct{}
	closeOnce sync.Once
	refs      atomic.Int32 // the openSet's or durableTable's, and one for each user
	durable   durability

	deleteOnClose bool // guarded by openTable.mu

	sequence      *channelSequence // at first, firstSequence
	firstSequence channelSequence
	action        smb2.CreateAction // what CREATE did
	// replayable is Open.IsReplayEligible: known by its CreateGuid, replayKey.
	replayable atomic.Bool
	replayKey  replayKey // set before replayable
	search     searchState
	notify     notifyState
	times      timeState
	pipe       *pipe
	nlocks     atomic.Int32 // byte-range locks held or waited for

	flock vfs.FileLocker // what has the lock of lockShareMode; nil without it

	// storageLocks is held while the storage's locks follow the table's, see
	// lockStorage.
	storageLocks sync.Mutex

	lockMu   sync.Mutex
	lockSeqs lockSeqs // guarded by lockMu

	pos     atomic.Int64  // CurrentByteOffset, FilePositionInformation
	mode    atomic.Uint32 // FileModeInformation
	eaIndex atomic.Int32  // where an enumeration of extended attributes goes on
}

// acquire takes a reference, unless the last one is gone.
func (o *open) acquire() bool {
	for {
		n := o.refs.Load()
		if n <= 0 {
			return false
		}
		if o.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release drops a reference. The file is closed with the last one, so that an
// operation under way when CLOSE came ends on the file it began on.
func (o *open) release() {
	switch n := o.refs.Add(-1); {
	case n < 0:
		panic("server: open released too often")
	case n == 0 && o.file != nil:
		// The close error of a file whose writes were answered already has nobody
		// to go to; FLUSH is what reports them.
		if l := o.became.Load(); l != nil {
			defer l.file.Close()
		}
		_ = o.file.Close()
	default:
		o.durable.released()
	}
}

// osFile is the descriptor behind the file, nil if it has none for data. Asking
// for it costs the first time, which CREATE leaves to the operation that needs it.
func (o *open) osFile() *os.File {
	if o.osFiler == nil {
		return nil
	}
	return o.osFiler.OSFile()
}

// path is the name in the share by which the object was opened, as renames have
// changed it since.
func (o *open) path() string {
	o.srv.files.mu.Lock()
	defer o.srv.files.mu.Unlock()
	return o.name
}

// shut ends the open: nobody finds it any more, waiters are woken, locks and
// share modes are given up, and a file that was to be deleted on close is
// deleted if this was its last open. The first call does it all and reports
// true; the others report false and may return before the first is done.
//
// shut drops the reference of the openSet. Callers hold one of their own.
func (o *open) shut(ctx context.Context) bool {
	var gone func()
	o.closeOnce.Do(func() {
		close(o.closing) // before it is looked for in the set, which addOpen may be about to put it in
		// Here, so that whoever is not the first finds it leaving, see awaitGone.
		_, gone = o.sess.opens.remove(o)
	})
	if gone == nil {
		return false
	}
	// All that others could wait for is given up even if the storage panics meanwhile.
	defer gone()
	defer o.durable.letStorage()
	defer o.release()
	o.endReplay()
	if o.durable.detached.Load() {
		o.srv.durables.forget(o)
	}
	if !o.isPipe && o.state != nil {
		defer o.leave(ctx)
	}
	o.notify.close()
	if !o.isPipe {
		if o.hasWritten() {
			o.contentSettles()
		}
		o.settleTimes(ctx)
	}
	return true
}

// leave gives up what the open has of its object's.
func (o *open) leave(ctx context.Context) {
	defer o.srv.files.leave(ctx, o)
	defer func() {
		if o.hasWritten() {
			o.changedIn(ctx)
		}
	}()
	defer o.unlockShareMode()
	o.releaseLocks()
}

// setDeleteOnClose makes the object be deleted when this open is closed, and all
// others are.
func (o *open) setDeleteOnClose() {
	o.srv.files.mu.Lock()
	o.deleteOnClose = true
	o.srv.files.mu.Unlock()
}

// ending reports whether the open, or its tree or session, is being closed.
func (o *open) ending() bool {
	select {
	case <-o.closing:
		return true
	default:
		return o.tree.gone.Load() || o.sess.gone.Load()
	}
}

// openSet holds the opens of a session by their FileIDs. The zero value is
// ready.
type openSet struct {
	mu sync.RWMutex
	// guarded by mu
	m        map[uint64]*open
	reserved int // opens to be added
	closed   bool
	leaving  map[smb2.FileID]chan struct{} // opens being closed, until they are

	watches atomic.Int32 // CHANGE_NOTIFY watches of the opens
}

// get finds an open and takes a reference to it; nil if there is none. The
// caller checks that it belongs to the tree of the request.
func (s *openSet) get(id smb2.FileID) *open {
	s.mu.RLock()
	o := s.m[id.Volatile]
	s.mu.RUnlock()
	if o == nil || o.id.Persistent != id.Persistent || !o.acquire() {
		return nil
	}
	return o
}

// reserve makes room for an open, if with it there are no more than limit. It is
// asked before CREATE changes anything. add or unreserve must follow.
func (s *openSet) reserve(limit int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.m)+s.reserved >= limit {
		return false
	}
	s.reserved++
	return true
}

// unreserve gives the room back: there is no open after all.
func (s *openSet) unreserve() {
	s.mu.Lock()
	s.reserved--
	s.mu.Unlock()
}

// add makes an open for which there is room reserved known by its FileID, unless the
// session has been closed. One that has been there before keeps what is persistent of
// its FileID, and gets a new volatile part.
func (s *openSet) add(o *open) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved--
	if s.closed {
		return false
	}
	if s.m == nil {
		s.m = make(map[uint64]*open)
	}
	for o.id.Volatile == 0 || s.m[o.id.Volatile] != nil {
		o.id.Volatile = newFileID().Volatile
	}
	s.m[o.id.Volatile] = o
	return true
}

// remove makes the open unknown; there is false if it is not in the set. gone is to be
// called when it is closed.
func (s *openSet) remove(o *open) (there bool, gone func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[o.id.Volatile] != o {
		return false, func() {}
	}
	delete(s.m, o.id.Volatile)
	if s.leaving == nil {
		s.leaving = make(map[smb2.FileID]chan struct{})
	}
	done := make(chan struct{})
	s.leaving[o.id] = done
	return true, func() {
		s.mu.Lock()
		delete(s.leaving, o.id)
		s.mu.Unlock()
		close(done)
	}
}

// awaitGone waits for an open that is being closed to be closed, and the file to be
// deleted if it goes with it.
func (s *openSet) awaitGone(ctx context.Context, id smb2.FileID) {
	s.mu.RLock()
	done := s.leaving[id]
	s.mu.RUnlock()
	if done == nil {
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// len is the number of opens.
func (s *openSet) len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.m)
}

// take returns the opens of a tree, or all of them for nil, each with a
// reference. With final no open can be added any more.
func (s *openSet) take(of *tree, final bool) []*open {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = s.closed || final
	var os []*open
	for _, o := range s.m {
		if (of == nil || o.tree == of) && o.acquire() {
			os = append(os, o)
		}
	}
	return os
}

// newFileID makes a FileID that nobody can guess: a client that learns of one
// in another session gains nothing from it, and can't hit one by chance. Neither part
// is 0 or all ones.
func newFileID() smb2.FileID {
	for {
		var b [16]byte
		_, _ = rand.Read(b[:]) // never fails, crypto/rand
		id := smb2.FileID{
			Persistent: binary.LittleEndian.Uint64(b[:8]),
			Volatile:   binary.LittleEndian.Uint64(b[8:]),
		}
		if id.Persistent+1 > 1 && id.Volatile+1 > 1 {
			return id
		}
	}
}

// closeSessionOpens closes what a session has open, for good: LOGOFF, or the
// loss of its last connection ([MS-SMB2] 3.3.5.6, 3.3.7.1). Opens that are to outlive
// it are detached if keep says so. It returns when the others are gone; operations
// under way on them may end later.
func (s *Server) closeSessionOpens(sess *session, keep bool) {
	for _, o := range sess.opens.take(nil, true) {
		s.callAside(func() {
			defer o.release()
			if !keep || !s.detach(o) {
				o.shut(context.Background())
			}
		})
	}
}

// closeTreeOpens closes what was opened in a tree ([MS-SMB2] 3.3.5.8).
func (s *Server) closeTreeOpens(t *tree) {
	shutAll(t.sess.opens.take(t, false))
}

func shutAll(opens []*open) {
	for _, o := range opens {
		o.putAway("closing a share's files")
	}
}
