package main

import (
	"golang.org/x/sys/unix"
)

var mapCalls = map[string]call{
	"mmap": {weight: 12, needs: "mmap", uses: "sol",
		gen: func(g *generator, o *op) { o.Off, o.Len = max(0, int64(g.IntN(16))-8)*4096, int64(1+g.IntN(16))*4096 },
		// What is mapped is what is there: pages behind the end of a file fault.
		do: func(a *actor, o op) result {
			f := a.files[o.Slot]
			if f == nil {
				return failed(unix.EBADF)
			}
			f.unmap()
			var st unix.Stat_t
			if err := unix.Fstat(f.fd, &st); err != nil {
				return failed(err)
			}
			if st.Mode&unix.S_IFMT != unix.S_IFREG {
				return failed(unix.ENODEV)
			}
			if o.Len = min(o.Len, st.Size-o.Off); o.Len <= 0 {
				return failed(unix.ENXIO)
			}
			flags, err := unix.FcntlInt(uintptr(f.fd), unix.F_GETFL, 0)
			if err != nil {
				return failed(err)
			}
			prot := unix.PROT_READ
			if flags&unix.O_ACCMODE == unix.O_RDWR {
				prot |= unix.PROT_WRITE
			}
			p, err := unix.Mmap(f.fd, o.Off, int(o.Len), prot, unix.MAP_SHARED)
			if err != nil {
				return failed(err)
			}
			f.mapped, f.at = p, o.Off
			return result{N: o.Len}
		}},
	"mread": {weight: 12, needs: "mmap", uses: "sol",
		gen: func(g *generator, o *op) {
			o.Slot = g.mappedSlot()
			o.Off, o.Len = int64(g.IntN(8)*g.IntN(5000)), int64(1+g.IntN(20000))
		},
		do: func(a *actor, o op) result {
			p, err := a.window(o, false)
			if err != nil {
				return failed(err)
			}
			return result{N: int64(len(p)), Bytes: append([]byte(nil), p...)}
		}},
	"mwrite": {weight: 12, needs: "mmap", uses: "solf", flags: bits([]bit{{unix.MS_SYNC, "MS_SYNC"}}),
		gen: func(g *generator, o *op) {
			o.Slot = g.mappedSlot()
			o.Off, o.Len, o.Seed = int64(g.IntN(8)*g.IntN(5000)), int64(1+g.IntN(20000)), g.Uint64()
			o.Flags = []int{0, unix.MS_SYNC}[g.IntN(2)]
		},
		do: func(a *actor, o op) result {
			p, err := a.window(o, true)
			if err != nil {
				return failed(err)
			}
			copy(p, o.data())
			a.files[o.Slot].unsynced = o.Flags == 0
			if o.Flags != 0 {
				return failed(unix.Msync(a.files[o.Slot].mapped, o.Flags))
			}
			return result{N: int64(len(p))}
		}},
	// POSIX leaves open when between a write through a map and msync the time of
	// modification becomes that of the write: this is made before anybody looks.
	"msync": {do: func(a *actor, _ op) result {
		for _, f := range a.files {
			if f == nil || !f.unsynced {
				continue
			}
			f.unsynced = false
			if err := unix.Msync(f.mapped, unix.MS_SYNC); err != nil {
				return failed(err)
			}
		}
		return result{}
	}},
	"munmap": {weight: 4, needs: "mmap", uses: "s",
		do: func(a *actor, o op) result {
			f := a.files[o.Slot]
			if f == nil || f.mapped == nil {
				return failed(unix.EINVAL)
			}
			f.unmap()
			return result{}
		}},
}

// window is a part of a map, cut to what the file still has.
func (a *actor) window(o op, write bool) ([]byte, error) {
	f := a.files[o.Slot]
	if f == nil || f.mapped == nil {
		return nil, unix.EINVAL
	}
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return nil, err
	}
	flags, err := unix.FcntlInt(uintptr(f.fd), unix.F_GETFL, 0)
	if err != nil {
		return nil, err
	}
	if write && flags&unix.O_ACCMODE != unix.O_RDWR {
		return nil, unix.EACCES
	}
	end := min(int64(len(f.mapped)), st.Size-f.at, o.Off+o.Len)
	if o.Off >= end {
		return nil, unix.ENXIO
	}
	return f.mapped[o.Off:end], nil
}
