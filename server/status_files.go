package server

import (
	"cmp"
	"encoding/hex"
	"slices"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// OpenStatus is an open file, directory or pipe.
type OpenStatus struct {
	// ID is its number: CloseByID takes it.
	ID    uint64 `json:"id"`
	Share string `json:"share"`
	Name  string `json:"name"`
	// Stream is the alternate data stream that is open, empty for the main data.
	Stream    string `json:"stream,omitempty"`
	Directory bool   `json:"directory"`
	// Access is the mask that was granted, [MS-SMB2] 2.2.13.1; Sharing what others may
	// do meanwhile, 2.2.13.
	Access  uint32 `json:"access"`
	Sharing uint32 `json:"sharing"`
	// Caching says what the client may cache: an oplock level ("level II", "exclusive",
	// "batch"), or "lease " and its letters; empty for nothing.
	Caching string `json:"caching,omitempty"`
	// Durable says how the open outlives its connection: "durable", "resilient" or
	// "persistent"; empty if it does not.
	Durable string `json:"durable,omitempty"`
	// Locks is how many byte-range locks it holds or waits for.
	Locks int `json:"locks"`
	// DeletePending says that the file goes with its last open.
	DeletePending bool `json:"delete_pending,omitempty"`
}

// DetachedStatus is an open whose client has lost its connection and may come again.
type DetachedStatus struct {
	OpenStatus
	User string `json:"user"`
	// Until is when it is closed if nobody does.
	Until time.Time `json:"until"`
}

// LockStatus is a byte-range lock.
type LockStatus struct {
	Open   uint64 `json:"open"` // ID of who holds it, or waits for it
	Share  string `json:"share"`
	Name   string `json:"name"`
	Offset uint64 `json:"offset,string"`
	Length uint64 `json:"length,string"`
	// Exclusive locks keep others from reading, shared ones from writing.
	Exclusive bool `json:"exclusive"`
	Waiting   bool `json:"waiting"`
}

// LeaseStatus is a lease, of all opens that a client has by its key.
type LeaseStatus struct {
	Client  string   `json:"client"` // ClientGuid, in hexadecimal
	Key     string   `json:"key"`    // LeaseKey, likewise
	State   string   `json:"state"`  // its letters, of R, W and H
	Version int      `json:"version"`
	Epoch   uint16   `json:"epoch"`
	Share   string   `json:"share"`
	Name    string   `json:"name"`
	Opens   []uint64 `json:"opens"` // IDs
	// Breaking says that the client has yet to acknowledge that it lost some of it.
	Breaking bool `json:"breaking"`
}

// status describes an open. The caller has a reference.
func (o *open) status() OpenStatus {
	st := OpenStatus{
		ID: o.number, Directory: o.isDir, Access: uint32(o.access), Sharing: uint32(o.shareAccess),
		Locks: int(o.nlocks.Load()), Durable: o.durableStatus(),
	}
	if o.isPipe {
		st.Share, st.Name = o.tree.share.Name, o.name
		return st
	}
	st.Caching = o.cachingStatus()
	t := &o.srv.files
	t.mu.Lock()
	defer t.mu.Unlock()
	st.Share, st.Name = o.tree.share.Name, o.name
	if o.state != nil {
		st.Stream, st.DeletePending = o.state.key.stream, o.pendingLocked()
	}
	return st
}

// detachedStatus are at most limit of the opens whose clients may come again.
func (s *Server) detachedStatus(limit int) []DetachedStatus {
	t := &s.durables
	var opens []*open
	until := map[*open]time.Time{}
	t.mu.Lock()
	for _, o := range t.opens {
		if len(opens) >= limit {
			break
		}
		if o.acquire() {
			opens = append(opens, o)
			until[o] = o.durable.deadline
		}
	}
	t.mu.Unlock()
	out := make([]DetachedStatus, 0, len(opens))
	for _, o := range opens {
		out = append(out, DetachedStatus{OpenStatus: o.status(), User: o.durable.owner, Until: until[o]})
		o.release()
	}
	slices.SortFunc(out, func(a, b DetachedStatus) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// lockStatus are at most limit of the byte-range locks of all files.
func (s *Server) lockStatus(limit int) []LockStatus {
	var states []*fileState
	s.files.mu.Lock()
	for _, st := range s.files.files {
		states = append(states, st)
	}
	s.files.mu.Unlock()
	var out []LockStatus
	var owners []*open
	for _, st := range states {
		t := &st.locks
		t.mu.Lock()
		add := func(l *byteLock, waiting bool) {
			if len(out) < limit {
				out = append(out, LockStatus{Offset: l.off, Length: l.n, Exclusive: l.exclusive, Waiting: waiting})
				owners = append(owners, l.owner)
			}
		}
		for i := range t.held {
			add(&t.held[i], false)
		}
		for _, w := range t.waiting {
			add(&w.byteLock, true)
		}
		t.mu.Unlock()
	}
	s.files.mu.Lock()
	for i, o := range owners {
		out[i].Open, out[i].Share, out[i].Name = o.number, o.tree.share.Name, o.name
	}
	s.files.mu.Unlock()
	slices.SortFunc(out, func(a, b LockStatus) int {
		return cmp.Or(cmp.Compare(a.Share, b.Share), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Open, b.Open))
	})
	return out
}

// leaseStatus are at most limit of the leases.
func (s *Server) leaseStatus(limit int) []LeaseStatus {
	var out []LeaseStatus
	t := &s.files
	t.mu.Lock()
	for k, c := range t.leases {
		if len(out) >= limit {
			break
		}
		l := LeaseStatus{
			Client: guidText(k.client), Key: guidText(k.key), State: c.held.String(), Version: c.version, Epoch: c.epoch, Breaking: c.breaking,
		}
		for _, o := range c.opens {
			l.Opens = append(l.Opens, o.number)
			l.Share, l.Name = o.tree.share.Name, o.name
		}
		out = append(out, l)
	}
	t.mu.Unlock()
	slices.SortFunc(out, func(a, b LeaseStatus) int {
		return cmp.Or(cmp.Compare(a.Share, b.Share), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Key, b.Key))
	})
	return out
}

func guidText(g smb2.GUID) string { return hex.EncodeToString(g[:]) }
