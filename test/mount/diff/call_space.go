package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

var spaceCalls = map[string]call{
	"truncate": {weight: 12, uses: "po",
		gen: func(g *generator, o *op) { o.Path, o.Off = g.path(anything), g.offset() },
		do:  func(a *actor, o op) result { return failed(unix.Truncate(a.path(o.Path), o.Off)) }},
	"ftruncate": {weight: 15, uses: "so",
		gen: func(g *generator, o *op) { o.Off = g.offset() },
		do:  func(a *actor, o op) result { return failed(unix.Ftruncate(a.fd(o.Slot), o.Off)) }},
	"fallocate": {weight: 18, needs: "holes", uses: "sfol",
		flags: bits([]bit{{unix.FALLOC_FL_KEEP_SIZE, "KEEP_SIZE"}, {unix.FALLOC_FL_PUNCH_HOLE, "PUNCH_HOLE"}, {unix.FALLOC_FL_ZERO_RANGE, "ZERO_RANGE"}}),
		gen: func(g *generator, o *op) {
			o.Flags = []int{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
				unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE}[g.IntN(6)]
			o.Off, o.Len = g.offset(), 1+g.size()
		},
		// Whether a hole behind the end changes the time of modification is each kernel's choice.
		do: func(a *actor, o op) result {
			var st unix.Stat_t
			if o.Flags&unix.FALLOC_FL_PUNCH_HOLE != 0 && unix.Fstat(a.fd(o.Slot), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && o.Off >= st.Size {
				if o.Off = 0; st.Size == 0 {
					return failed(unix.EINVAL)
				}
			}
			return failed(unix.Fallocate(a.fd(o.Slot), uint32(o.Flags), o.Off, o.Len))
		}},
	"hole": {weight: 15, needs: "holes", uses: "sfo",
		flags: bits([]bit{{unix.SEEK_DATA, "SEEK_DATA"}, {unix.SEEK_HOLE, "SEEK_HOLE"}}),
		gen: func(g *generator, o *op) {
			o.Flags, o.Off = []int{unix.SEEK_DATA, unix.SEEK_HOLE}[g.IntN(2)], g.offset()
		},
		do: hole},
	"copy_range": {weight: 12, needs: "copy", uses: "sSoOl",
		gen: func(g *generator, o *op) {
			o.Slot2, o.Off, o.Off2, o.Len = g.slot(), g.offset(), g.offset(), g.size()
		},
		do: copyRange},
	"sendfile": {weight: 4, uses: "sSol",
		gen: func(g *generator, o *op) { o.Slot2, o.Off, o.Len = g.slot(), g.offset(), g.size() },
		do: func(a *actor, o op) result {
			if o.Slot == o.Slot2 || a.same(o.Slot, o.Slot2) {
				return failed(unix.EINVAL) // what one reads while it is written is anybody's guess
			}
			// How much one call moves is the kernel's choice.
			off, sum := o.Off, int64(0)
			for sum < o.Len {
				n, err := unix.Sendfile(a.fd(o.Slot2), a.fd(o.Slot), &off, int(o.Len-sum))
				if err != nil {
					return result{Errno: failed(err).Errno, N: sum}
				}
				if n == 0 {
					break
				}
				sum += int64(n)
			}
			return result{N: sum}
		}},
}

// same is true of descriptors of one file.
func (a *actor) same(x, y int) bool {
	var s, t unix.Stat_t
	return unix.Fstat(a.fd(x), &s) == nil && unix.Fstat(a.fd(y), &t) == nil && s.Ino == t.Ino && s.Dev == t.Dev
}

// copyRange copies all that there is, as one call may do less.
func copyRange(a *actor, o op) result {
	if o.Slot2 == o.Slot {
		o.Off2 += o.Off + o.Len // else it would be refused or not, by who checks first
	} else if a.same(o.Slot, o.Slot2) {
		return failed(unix.EINVAL)
	}
	in, out, sum := o.Off, o.Off2, int64(0)
	for sum < o.Len {
		n, err := unix.CopyFileRange(a.fd(o.Slot), &in, a.fd(o.Slot2), &out, int(o.Len-sum), 0)
		if err != nil {
			return result{Errno: failed(err).Errno, N: sum}
		}
		if n == 0 {
			break
		}
		sum += int64(n)
	}
	return result{N: sum}
}

// hole asks for data or a hole and checks the answer against the content: which holes
// there are is the file system's choice, that nothing but zeros is in one is not.
func hole(a *actor, o op) result {
	fd := a.fd(o.Slot)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return failed(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return failed(unix.EISDIR)
	}
	var acc int
	if acc, _ = unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); acc&unix.O_ACCMODE == unix.O_WRONLY {
		return result{} // can't be checked
	}
	was, err := unix.Seek(fd, 0, 1)
	if err != nil {
		return failed(err)
	}
	at, err := unix.Seek(fd, o.Off, o.Flags)
	if _, err := unix.Seek(fd, was, 0); err != nil {
		return failed(err)
	}
	switch {
	case err == unix.ENXIO && o.Off >= st.Size:
		return failed(err)
	case err == unix.ENXIO && o.Flags == unix.SEEK_DATA:
		at = st.Size // all the rest is a hole
	case err != nil:
		return failed(err)
	case at < o.Off || at > st.Size:
		return result{Text: fmt.Sprintf("found at %d, of %d", at, st.Size)}
	}
	from, to := o.Off, at
	if o.Flags == unix.SEEK_HOLE {
		from, to = at, min(at+1, st.Size)
	}
	if to-from > 32<<20 {
		to = from + 32<<20
	}
	p := make([]byte, 256<<10)
	for from < to {
		n, err := unix.Pread(fd, p[:min(int64(len(p)), to-from)], from)
		if err != nil || n == 0 {
			return result{Errno: unix.EIO, Text: fmt.Sprintf("reading the hole at %d: %d, %v", from, n, err)}
		}
		for i, b := range p[:n] {
			if b != 0 {
				return result{Text: fmt.Sprintf("%#x at %d is in a hole", b, from+int64(i))}
			}
		}
		from += int64(n)
	}
	return result{Text: "a hole"}
}
