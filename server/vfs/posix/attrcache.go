//go:build linux

package posix

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

const (
	// attrAge is how long an object must have been left alone before what is known of
	// its extended attributes is kept. It is well above the grain of the times of any
	// storage that is trusted, the coarsest of which is a second.
	attrAge = 2 * time.Second
	// attrShards is the number of locks, attrRoom how many objects each has room for,
	// twice: some 130,000 in all, in 10 MiB.
	attrShards = 16
	attrRoom   = 4096
)

// attrCache knows what extended attributes say of objects that have not changed of
// late, which saves listings two system calls out of three.
//
// Setting an attribute sets the time of the object's last change, so what was read is
// good as long as that time is the same. Two changes may bear the same time, if they
// come within the grain of the clock; so nothing is kept of an object that has changed
// less than attrAge before its time was read: what changes it after that gives it
// another. It is used only on storage whose times come from this kernel's clock.
//
// What is known is the same for all users, also for those who may not read the object and
// so could not read its attributes: who lists a directory may see what Windows shows there.
type attrCache struct {
	dev     uint64 // the device whose objects are known
	enabled bool   // set before use, as are dev and now
	now     func() time.Time
	shards  [attrShards]attrShard
}

// attrShard has two generations: when the younger is full the older is forgotten.
type attrShard struct {
	mu         sync.Mutex
	young, old map[uint64]attrRecord // guarded by mu; by inode number
}

// attrRecord has no pointers, so that the garbage collector passes the maps over.
type attrRecord struct {
	changed int64 // the object's ChangeTime, in ns since 1970
	created int64 // in units of dosInfo.created's 100 ns since 1601; 0 for none
	attrib  uint32
	known   attrKnown
}

type attrKnown uint8

const (
	knowsDOS  attrKnown = 1 << iota // whether there are DOS attributes
	hasDOS                          // there are; attrib and created are part of the record
	hasAttrib                       // attrib is one of them
	knowsEAs                        // whether there are users' attributes
	hasEAs                          // there are
)

// keyOf returns the shard for an object; nil if nothing is kept of it.
func (c *attrCache) keyOf(info *vfs.Info) *attrShard {
	if !c.enabled || info.ID.Dev != c.dev {
		return nil
	}
	return &c.shards[info.ID.Ino%attrShards]
}

// get returns what is known of the object in its present state.
func (c *attrCache) get(info *vfs.Info) (attrRecord, bool) {
	s := c.keyOf(info)
	if s == nil {
		return attrRecord{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.young[info.ID.Ino]
	if !ok {
		if r, ok = s.old[info.ID.Ino]; !ok {
			return attrRecord{}, false
		}
		s.put(info.ID.Ino, r)
	}
	return r, r.changed == info.ChangeTime.UnixNano()
}

// add keeps what was read of the object since info told its ChangeTime, beside what is
// known already.
func (c *attrCache) add(info *vfs.Info, r attrRecord) {
	s := c.keyOf(info)
	if s == nil {
		return
	}
	if c.now().Sub(info.ChangeTime) < attrAge {
		return
	}
	r.changed = info.ChangeTime.UnixNano()
	s.mu.Lock()
	defer s.mu.Unlock()
	if was, ok := s.young[info.ID.Ino]; ok && was.changed == r.changed {
		if r.known&knowsDOS == 0 {
			r.created, r.attrib = was.created, was.attrib
		}
		r.known |= was.known
	}
	s.put(info.ID.Ino, r)
}

// put is called with mu held.
func (s *attrShard) put(ino uint64, r attrRecord) {
	if _, there := s.young[ino]; !there && len(s.young) >= attrRoom || s.young == nil {
		s.young, s.old = make(map[uint64]attrRecord), s.young
	}
	s.young[ino] = r
}

// dosInfo is what the record says of DOS attributes; ok is false if there are none.
func (r *attrRecord) dosInfo() (d dosInfo, ok bool) {
	d = dosInfo{attrib: r.attrib, hasAttrib: r.known&hasAttrib != 0}
	if r.created != 0 {
		d.created = fromNTTime(uint64(r.created))
	}
	return d, r.known&hasDOS != 0
}

// dosRecord is the record of DOS attributes that were read.
func dosRecord(d dosInfo, ok bool) attrRecord {
	r := attrRecord{known: knowsDOS}
	if !ok {
		return r
	}
	r.known |= hasDOS
	if d.hasAttrib {
		r.attrib, r.known = d.attrib, r.known|hasAttrib
	}
	if !d.created.IsZero() {
		r.created = int64(toNTTime(d.created))
	}
	return r
}

// localStorage reports whether everything on the storage of fd changes through this
// kernel.
func localStorage(fd int) bool {
	var st unix.Statfs_t
	if _, err := retry(func() (int, error) { return 0, unix.Fstatfs(fd, &st) }); err != nil {
		return false
	}
	switch uint32(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC:
		return true
	}
	return false
}
