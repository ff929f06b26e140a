package main

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// Locks are of files that nothing else is done with: SMB's are mandatory, a read or
// write by another than their holder is refused, which POSIX's never do. flock
// and fcntl have files of their own, as SMB has one kind of lock for both.
var lockCalls = map[string]call{
	"lockfile": {weight: 12, needs: "locks", uses: "spf", flags: openFlags,
		gen: func(g *generator, o *op) {
			o.Path, o.Slot = fmt.Sprint("lock", g.IntN(3)), g.lockSlot()
			if g.IntN(2) == 0 {
				o.Path, o.Slot = fmt.Sprint("flock", g.IntN(3)), g.flockSlot()
			}
			o.Flags = []int{unix.O_RDWR, unix.O_RDWR, unix.O_RDONLY}[g.IntN(3)] | unix.O_CREAT
		},
		do: func(a *actor, o op) result {
			_ = a.close(o.Slot)
			fd, err := unix.Open(a.path(o.Path), o.Flags|unix.O_CLOEXEC, 0o644)
			if err != nil {
				return failed(err)
			}
			a.files[o.Slot] = &file{fd: fd}
			return result{}
		}},
	"flock": {weight: 12, needs: "locks", uses: "sf", flags: bits([]bit{{unix.LOCK_SH, "LOCK_SH"}, {unix.LOCK_EX, "LOCK_EX"}, {unix.LOCK_UN, "LOCK_UN"}}),
		gen: func(g *generator, o *op) {
			o.Slot, o.Flags = g.flockSlot(), []int{unix.LOCK_SH, unix.LOCK_EX, unix.LOCK_UN}[g.IntN(3)]
		},
		do: func(a *actor, o op) result { return failed(unix.Flock(a.fd(o.Slot), o.Flags|unix.LOCK_NB)) }},
	"setlk": {weight: 25, needs: "locks", uses: "sfol", flags: lockType,
		gen: func(g *generator, o *op) { g.lockRange(o) },
		do: func(a *actor, o op) result {
			return failed(unix.FcntlFlock(uintptr(a.fd(o.Slot)), unix.F_SETLK, flockOf(o)))
		}},
	"getlk": {weight: 10, needs: "locks", uses: "sfol", flags: lockType,
		gen: func(g *generator, o *op) {
			if g.lockRange(o); o.Flags == unix.F_UNLCK {
				o.Flags = unix.F_WRLCK
			}
		},
		do: func(a *actor, o op) result {
			l := flockOf(o)
			if err := unix.FcntlFlock(uintptr(a.fd(o.Slot)), unix.F_GETLK, l); err != nil {
				return failed(err)
			}
			if l.Type == unix.F_UNLCK {
				return result{Text: "free"}
			}
			end := func(from, n int64) int64 {
				if n == 0 {
					return math.MaxInt64
				}
				return from + n
			}
			if l.Start >= end(o.Off, o.Len) || o.Off >= end(l.Start, l.Len) || o.Flags == unix.F_RDLCK && l.Type != unix.F_WRLCK {
				return result{Text: fmt.Sprintf("%s of %d+%d is not in the way", lockType(int(l.Type)), l.Start, l.Len)}
			}
			return result{Text: "locked"}
		}},
	"lockedio": {weight: 8, needs: "locks", uses: "sol",
		gen: func(g *generator, o *op) { g.lockRange(o); o.Flags, o.Len, o.Seed = 0, 1+int64(g.IntN(50)), g.Uint64() },
		// Whoever has the lock may write and read, through the descriptor that got it.
		do: func(a *actor, o op) result {
			fd := a.fd(o.Slot)
			l := flockOf(o)
			l.Type = unix.F_WRLCK
			if err := unix.FcntlFlock(uintptr(fd), unix.F_SETLK, l); err != nil {
				return failed(err)
			}
			p := make([]byte, o.Len)
			_, err := unix.Pwrite(fd, o.data(), o.Off)
			var r result
			if err == nil {
				r = read(p, func() (int, error) { return unix.Pread(fd, p, o.Off) })
			} else {
				r = failed(err)
			}
			l = flockOf(o)
			l.Type = unix.F_UNLCK
			if err := unix.FcntlFlock(uintptr(fd), unix.F_SETLK, l); err != nil {
				return failed(err)
			}
			return r
		}},
}

func lockType(t int) string {
	switch t {
	case unix.F_RDLCK:
		return "F_RDLCK"
	case unix.F_WRLCK:
		return "F_WRLCK"
	}
	return "F_UNLCK"
}

func flockOf(o op) *unix.Flock_t {
	return &unix.Flock_t{Type: int16(o.Flags), Start: o.Off, Len: o.Len}
}

func (g *generator) lockRange(o *op) {
	o.Slot, o.Flags = g.lockSlot(), []int{unix.F_RDLCK, unix.F_WRLCK, unix.F_UNLCK, unix.F_UNLCK}[g.IntN(4)]
	o.Off, o.Len = int64(g.IntN(40)), int64(g.IntN(20)) // no length is to the end of all files
}
