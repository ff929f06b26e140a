//go:build linux

package posix

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

const (
	// maxFoldDirs and maxFoldCost bound what a foldCache keeps: directories, each
	// of them a watch of the kernel's, and bytes, some 400,000 names.
	maxFoldDirs = 128
	maxFoldCost = 32 << 20
	// foldNameCost is what a name takes besides its bytes.
	foldNameCost = 64
	// maxFoldReads bounds the reads of events for one lookup, should somebody make
	// them as fast as they are read.
	maxFoldReads = 64
	// maxEvent is the longest inotify_event.
	maxEvent = unix.SizeofInotifyEvent + unix.NAME_MAX + 1
)

// foldCache knows, for some directories, the folded names of all their entries,
// so that a name's absence costs no scan.
//
// Times of directories cannot validate it, as two changes may bear the same
// time. Events do: the kernel queues one for every new name before the system
// call that made it returns, no matter whose. A lookup takes what is queued
// before it answers, and so knows of every name there was when it began. What
// it says of a name being absent holds; a name it has may have gone, and is
// looked at. It is used only on storage whose every change passes through this
// kernel, and on no encrypted directory, whose names change with the keys.
type foldCache struct {
	disabled bool // set before use

	mu     sync.Mutex
	fd     int                // guarded by mu; an inotify instance, if dirs is not nil
	closed bool               // guarded by mu
	dirs   map[int32]*foldDir // guarded by mu; by watch descriptor, which tells inodes apart
	cost   int                // guarded by mu; sum over dirs
	clock  uint64             // guarded by mu; counts lookups
	buf    []byte             // guarded by mu
}

// foldDir is one directory, guarded by foldCache.mu.
type foldDir struct {
	wd    int32
	state foldState
	used  uint64 // when it was last of use, on foldCache.clock
	cost  int
	adds  uint64 // counts the names that events added
	// names has every entry's folded name with its spelling, or with "" where
	// there are several. Names that have gone may still be there.
	names map[string]string
}

type foldState uint8

const (
	foldFilling foldState = iota // some lookup is reading the directory
	foldReady
	foldRefused // too large, or the storage is not to be trusted
)

// foldMask leaves out IN_MOVED_FROM: a name that was moved may still be there, as
// a whiteout. IN_MASK_ADD matters to a directory that is watched already: without, the
// kernel has the mask empty for a moment, and loses what happens in it.
const foldMask = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_TO | unix.IN_ONLYDIR | unix.IN_MASK_ADD

// find is findFold with the help of the cache.
func (c *foldCache) find(dir int, want string) (string, error) {
	if c.disabled {
		return findFold(dir, want, nil)
	}
	var space [256]byte
	key := vfs.AppendFold(space[:0], want)
	// A name that has gone may have come back in another spelling: ask again.
	for range 3 {
		d, spelling, adds, state := c.ask(dir, key)
		switch {
		case d == nil || state == foldRefused:
			return findFold(dir, want, nil)
		case state == foldFilling:
			return c.fill(d, dir, want)
		case adds == foldAbsent:
			return "", nil
		case spelling == "":
			return findFold(dir, want, nil)
		}
		var st unix.Stat_t
		_, err := retry(func() (int, error) {
			return 0, unix.Fstatat(dir, spelling, &st, unix.AT_SYMLINK_NOFOLLOW)
		})
		if err != unix.ENOENT {
			return spelling, err
		}
		c.gone(d, key, spelling, adds)
	}
	return findFold(dir, want, nil)
}

// foldAbsent is in place of foldDir.adds for a name that is not there.
const foldAbsent = ^uint64(0)

// ask brings the cache up to date and returns what it has for a folded name:
// nil if the directory is not known. foldFilling is returned to one caller only,
// who owes a fill.
func (c *foldCache) ask(dir int, key []byte) (d *foldDir, spelling string, adds uint64, state foldState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.start() {
		return nil, "", 0, 0
	}
	// For a directory that is watched already, this finds out which it is.
	n, err := retry(func() (int, error) { return unix.InotifyAddWatch(c.fd, procPath(dir), foldMask) })
	if err != nil {
		return nil, "", 0, 0
	}
	wd := int32(n)
	if !c.drain() {
		c.reset()
		c.unwatch(wd)
		return nil, "", 0, 0
	}
	c.clock++
	d = c.dirs[wd]
	if d == nil {
		if len(c.dirs) == maxFoldDirs {
			c.drop(c.oldest(nil))
		}
		d = &foldDir{wd: wd, used: c.clock, names: make(map[string]string)}
		c.dirs[wd] = d
		return d, "", 0, foldFilling
	}
	d.used = c.clock
	if d.state == foldFilling {
		return nil, "", 0, 0 // by somebody else
	}
	spelling, ok := d.names[string(key)]
	if !ok {
		return d, "", foldAbsent, d.state
	}
	return d, spelling, d.adds, d.state
}

// start makes sure that there is an inotify instance. c.mu is held.
func (c *foldCache) start() bool {
	if c.closed || c.dirs != nil {
		return !c.closed
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return false
	}
	c.fd, c.dirs, c.buf = fd, make(map[int32]*foldDir), make([]byte, 16<<10)
	return true
}

// close is for when no lookup is in progress, nor will be.
func (c *foldCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dirs != nil {
		unix.Close(c.fd)
	}
	c.dirs, c.buf, c.closed = nil, nil, true
}

// drain applies the events queued so far. It fails if some have been lost. c.mu
// is held.
func (c *foldCache) drain() bool {
	for range maxFoldReads {
		n, err := retry(func() (int, error) { return unix.Read(c.fd, c.buf) })
		if err == unix.EAGAIN {
			return true
		}
		if err != nil || !c.apply(c.buf[:n]) {
			return false
		}
		if n <= len(c.buf)-maxEvent {
			return true // it ended for want of events, not of room
		}
	}
	return false
}

func (c *foldCache) apply(b []byte) bool {
	for len(b) >= unix.SizeofInotifyEvent {
		var raw notice
		var name []byte
		if raw, name, b = nextNotice(b); b == nil || raw.mask&unix.IN_Q_OVERFLOW != 0 {
			return false
		}
		d := c.dirs[raw.wd]
		switch {
		case d == nil:
		case raw.mask&unix.IN_IGNORED != 0:
			c.forget(d)
		case d.state == foldRefused:
		case raw.mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0:
			d.adds++
			c.add(d, string(name))
			if c.cost > maxFoldCost {
				c.drop(c.oldest(nil))
			}
		case raw.mask&unix.IN_DELETE != 0:
			var space [256]byte
			key := vfs.AppendFold(space[:0], string(name))
			if d.names[string(key)] == string(name) {
				c.remove(d, string(key), string(name))
			}
		}
	}
	return true
}

func (c *foldCache) add(d *foldDir, name string) {
	if !vfs.ValidComponent(name) {
		return // nobody can ask for it
	}
	var space [256]byte
	folded := vfs.AppendFold(space[:0], name)
	old, ok := d.names[string(folded)]
	switch {
	case ok && old == name, ok && old == "":
	case ok:
		d.names[string(folded)] = ""
	default:
		key := name
		if string(folded) != name {
			key = string(folded)
		}
		d.names[key] = name
		d.cost += foldNameCost + len(name)
		c.cost += foldNameCost + len(name)
	}
}

func (c *foldCache) remove(d *foldDir, key, name string) {
	delete(d.names, key)
	d.cost -= foldNameCost + len(name)
	c.cost -= foldNameCost + len(name)
}

// gone removes a name that turned out not to be there, unless that may have
// changed since.
func (c *foldCache) gone(d *foldDir, key []byte, spelling string, adds uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dirs[d.wd] == d && d.adds == adds && d.names[string(key)] == spelling {
		c.remove(d, string(key), spelling)
	}
}

// fill reads the directory into d and returns what findFold would. The lock is
// not held meanwhile; events that others take go to d.names all the same. An
// entry read here may be out of date by then, which a name that is there may be.
func (c *foldCache) fill(d *foldDir, dir int, want string) (string, error) {
	var names []string
	cost, refused := 0, !trustworthy(dir)
	found, err := findFold(dir, want, func(name []byte) {
		if refused {
			return
		}
		cost += foldNameCost + len(name)
		if refused = cost > maxFoldCost; refused {
			names = nil
			return
		}
		names = append(names, string(name))
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dirs[d.wd] != d {
		return found, err // dropped meanwhile
	}
	switch {
	case err != nil:
		c.drop(d)
	case refused:
		c.cost -= d.cost
		d.state, d.names, d.cost = foldRefused, nil, 0
	default:
		for _, name := range names {
			c.add(d, name)
		}
		d.state = foldReady
		for c.cost > maxFoldCost && len(c.dirs) > 1 {
			c.drop(c.oldest(d))
		}
	}
	return found, err
}

// oldest returns the directory that has been of no use for longest, other than
// keep.
func (c *foldCache) oldest(keep *foldDir) (old *foldDir) {
	for _, d := range c.dirs {
		if d != keep && (old == nil || d.used < old.used) {
			old = d
		}
	}
	return old
}

func (c *foldCache) reset() {
	for _, d := range c.dirs {
		c.drop(d)
	}
}

func (c *foldCache) drop(d *foldDir) {
	c.forget(d)
	c.unwatch(d.wd)
}

func (c *foldCache) forget(d *foldDir) {
	c.cost -= d.cost
	delete(c.dirs, d.wd)
}

func (c *foldCache) unwatch(wd int32) { _, _ = unix.InotifyRmWatch(c.fd, uint32(wd)) }

// trustworthy reports whether every change of the directory's names makes an
// event. Names on the network, in user space, in another kernel or beneath an
// overlay change without.
func trustworthy(dir int) bool {
	if !localStorage(dir) {
		return false
	}
	var stx unix.Statx_t
	_, err := retry(func() (int, error) { return 0, unix.Statx(dir, "", unix.AT_EMPTY_PATH, unix.STATX_TYPE, &stx) })
	return err == nil && stx.Attributes&unix.STATX_ATTR_ENCRYPTED == 0
}

// nextNotice splits an inotify_event off b, its name as bytes of b; the rest is
// nil if it is malformed.
//
//	0    4    8      12   16
//	+----+----+------+----+-------- - -
//	| wd |mask|cookie| len| name, NULs
//	+----+----+------+----+-------- - -
func nextNotice(b []byte) (n notice, name, rest []byte) {
	size := uint64(binary.NativeEndian.Uint32(b[12:]))
	if size > uint64(len(b)-unix.SizeofInotifyEvent) {
		return n, nil, nil
	}
	name = b[unix.SizeofInotifyEvent : unix.SizeofInotifyEvent+size]
	for i, x := range name {
		if x == 0 {
			name = name[:i]
			break
		}
	}
	n.wd = int32(binary.NativeEndian.Uint32(b))
	n.mask = binary.NativeEndian.Uint32(b[4:])
	n.cookie = binary.NativeEndian.Uint32(b[8:])
	return n, name, b[unix.SizeofInotifyEvent+size:]
}
