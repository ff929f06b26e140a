package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

var fileCalls = map[string]call{
	"open": {weight: 100, uses: "spfm", flags: openFlags,
		gen: func(g *generator, o *op) {
			o.Path, o.Mode = g.path([]kind{aFile, aFile, aFile, aLink, anything}[g.IntN(5)]), 0o644
			o.Slot = g.IntN(slots - 4)
			o.Flags = []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_RDWR, unix.O_RDWR}[g.IntN(5)]
			for _, f := range []struct{ flag, of int }{{unix.O_CREAT, 2}, {unix.O_EXCL, 8}, {unix.O_TRUNC, 6}, {unix.O_APPEND, 6},
				{unix.O_NOFOLLOW, 20}, {unix.O_DIRECTORY, 20}, {unix.O_SYNC, 30}, {unix.O_DSYNC, 30}} {
				if g.IntN(f.of) == 0 {
					o.Flags |= f.flag
				}
			}
			if g.IntN(8) == 0 {
				o.Path, o.Flags = g.path(aDirectory), unix.O_RDONLY|unix.O_DIRECTORY
			}
			if o.Flags&unix.O_CREAT == 0 {
				o.Flags &^= unix.O_EXCL // has no meaning alone
			}
			if o.Flags&unix.O_ACCMODE == unix.O_RDONLY {
				o.Flags &^= unix.O_TRUNC // nor that
			}
		},
		do: func(a *actor, o op) result {
			fd, err := unix.Open(a.path(o.Path), o.Flags|unix.O_CLOEXEC, o.Mode)
			if err != nil {
				return failed(err)
			}
			_ = a.close(o.Slot)
			a.files[o.Slot] = &file{fd: fd}
			return result{}
		}},
	"close": {weight: 15, uses: "s", do: func(a *actor, o op) result { return failed(a.close(o.Slot)) }},
	"read": {weight: 25, uses: "sl",
		gen: func(g *generator, o *op) { o.Len = g.size() },
		do: func(a *actor, o op) result {
			p := make([]byte, o.Len)
			if a.isDirectory(o.Slot) { // whose position is the file system's own business
				return read(p, func() (int, error) { return unix.Pread(a.fd(o.Slot), p, 0) })
			}
			return read(p, func() (int, error) { return unix.Read(a.fd(o.Slot), p) })
		}},
	"pread": {weight: 60, uses: "sol",
		gen: func(g *generator, o *op) { o.Off, o.Len = g.offset(), g.size() },
		do: func(a *actor, o op) result {
			p := make([]byte, o.Len)
			return read(p, func() (int, error) { return unix.Pread(a.fd(o.Slot), p, o.Off) })
		}},
	"write": {weight: 35, uses: "sl",
		gen: func(g *generator, o *op) { o.Len, o.Seed = g.size(), g.Uint64() },
		do:  func(a *actor, o op) result { return count(unix.Write(a.fd(o.Slot), o.data())) }},
	"pwrite": {weight: 60, uses: "sol",
		gen: func(g *generator, o *op) { o.Off, o.Len, o.Seed = g.offset(), g.size(), g.Uint64() },
		do:  func(a *actor, o op) result { return count(unix.Pwrite(a.fd(o.Slot), o.data(), o.Off)) }},
	"readv": {weight: 5, uses: "sol",
		gen: func(g *generator, o *op) { o.Off, o.Len = g.offset(), g.size() },
		do: func(a *actor, o op) result {
			p := make([]byte, o.Len)
			third := len(p) / 3
			return read(p, func() (int, error) {
				return unix.Preadv(a.fd(o.Slot), [][]byte{p[:third], p[third : 2*third], p[2*third:]}, o.Off)
			})
		}},
	"lseek": {weight: 15, uses: "sof", flags: func(w int) string { return []string{"SEEK_SET", "SEEK_CUR", "SEEK_END"}[w] },
		gen: func(g *generator, o *op) {
			o.Flags, o.Off = g.IntN(3), g.offset()
			if g.IntN(4) == 0 {
				o.Off = -o.Off
			}
		},
		do: func(a *actor, o op) result {
			if a.isDirectory(o.Slot) {
				return failed(unix.EISDIR)
			}
			n, err := unix.Seek(a.fd(o.Slot), o.Off, o.Flags)
			if err != nil {
				return failed(err)
			}
			return result{N: n}
		}},
	"fsync":     {weight: 8, uses: "s", do: func(a *actor, o op) result { return failed(unix.Fsync(a.fd(o.Slot))) }},
	"fdatasync": {weight: 4, uses: "s", do: func(a *actor, o op) result { return failed(unix.Fdatasync(a.fd(o.Slot))) }},
	// A file that is opened past the page cache, written or read, and closed: the other
	// descriptors, which have it cached, have to see that.
	"direct": {weight: 12, needs: "direct", uses: "pfol", flags: openFlags,
		gen: func(g *generator, o *op) {
			o.Path, o.Seed = g.path(aFile), g.Uint64()
			o.Flags = unix.O_DIRECT | []int{unix.O_RDONLY, unix.O_RDWR}[g.IntN(2)]
			o.Off, o.Len = int64(g.IntN(64))*4096, int64(1+g.IntN(32))*4096
		},
		do: func(a *actor, o op) result {
			fd, err := unix.Open(a.path(o.Path), o.Flags|unix.O_CLOEXEC, 0)
			if err != nil {
				return failed(err)
			}
			defer unix.Close(fd)
			p := aligned(int(o.Len))
			if o.Flags&unix.O_ACCMODE == unix.O_RDONLY {
				return read(p, func() (int, error) { return unix.Pread(fd, p, o.Off) })
			}
			copy(p, o.data())
			return count(unix.Pwrite(fd, p, o.Off))
		}},
	// Far beyond what 32 bits hold; such a file is not compared whole.
	"far": {weight: 3, uses: "pol",
		gen: func(g *generator, o *op) {
			o.Path, o.Len, o.Seed = farName, int64(1+g.IntN(10000)), g.Uint64()
			o.Off = []int64{1 << 31, 1 << 32, 1 << 40}[g.IntN(3)] - int64(g.IntN(8192))
		},
		do: func(a *actor, o op) result {
			fd, err := unix.Open(a.path(o.Path), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
			if err != nil {
				return failed(err)
			}
			defer unix.Close(fd)
			before := make([]byte, o.Len+100)
			n, err := unix.Pread(fd, before, o.Off-50)
			if err != nil {
				return failed(err)
			}
			if _, err := unix.Pwrite(fd, o.data(), o.Off); err != nil {
				return failed(err)
			}
			after := make([]byte, o.Len+100)
			m, err := unix.Pread(fd, after, o.Off-50)
			if err != nil {
				return failed(err)
			}
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil {
				return failed(err)
			}
			return result{N: st.Size, Bytes: append(before[:n], after[:m]...)}
		}},
}

// farName has holes too large to be read through.
const farName = "far"

func (a *actor) isDirectory(slot int) bool {
	var st unix.Stat_t
	return unix.Fstat(a.fd(slot), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

func count(n int, err error) result {
	if err != nil {
		return failed(err)
	}
	return result{N: int64(n)}
}

func read(p []byte, call func() (int, error)) result {
	n, err := call()
	if err != nil {
		return failed(err)
	}
	return result{N: int64(n), Bytes: p[:n]}
}

// aligned is memory as O_DIRECT wants it.
func aligned(n int) []byte {
	p := make([]byte, n+4096)
	skip := int(-uintptr(unsafe.Pointer(&p[0])) & 4095)
	return p[skip : skip+n]
}
