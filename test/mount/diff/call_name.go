package main

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

var nameCalls = map[string]call{
	"mkdir": {weight: 25, uses: "p",
		gen: func(g *generator, o *op) { o.Path = g.path(anything) },
		do:  func(a *actor, o op) result { return failed(unix.Mkdir(a.path(o.Path), 0o755)) }},
	"rmdir": {weight: 14, uses: "p",
		gen: func(g *generator, o *op) { o.Path = g.path(anything) },
		do:  func(a *actor, o op) result { return failed(unix.Rmdir(a.path(o.Path))) }},
	"unlink": {weight: 30, uses: "p",
		gen: func(g *generator, o *op) { o.Path = g.path(anything) },
		do:  func(a *actor, o op) result { return failed(unix.Unlink(a.path(o.Path))) }},
	"rename": {weight: 30, uses: "pPf", flags: renameFlags,
		gen: func(g *generator, o *op) {
			o.Path, o.Path2 = g.path(anything), g.path(anything)
			if g.IntN(4) == 0 {
				o.Flags = unix.RENAME_NOREPLACE
			}
		},
		do: rename},
	"exchange": {weight: 4, needs: "exchange", uses: "pPf", flags: renameFlags,
		gen: func(g *generator, o *op) {
			o.Path, o.Path2, o.Flags = g.path(anything), g.path(anything), unix.RENAME_EXCHANGE
		},
		do: rename},
	"link": {weight: 12, needs: "links", uses: "pP",
		gen: func(g *generator, o *op) { o.Path, o.Path2 = g.path(aFile), g.fresh() },
		do:  func(a *actor, o op) result { return failed(unix.Link(a.path(o.Path), a.path(o.Path2))) }},
	"symlink": {weight: 10, needs: "symlinks", uses: "pP",
		gen: func(g *generator, o *op) {
			o.Path = g.path([]kind{aFile, anything}[g.IntN(2)])
			if g.IntN(2) == 0 {
				o.Path = g.fresh()
			}
			if o.Path2 = g.name(); g.IntN(3) == 0 {
				o.Path2 += "/" + g.name()
			}
		},
		do: func(a *actor, o op) result { return failed(unix.Symlink(o.Path2, a.path(o.Path))) }},
	"readlink": {weight: 8, uses: "p",
		gen: func(g *generator, o *op) { o.Path = g.path([]kind{aLink, aLink, anything}[g.IntN(3)]) },
		do: func(a *actor, o op) result {
			p := make([]byte, 5000)
			return read(p, func() (int, error) { return unix.Readlink(a.path(o.Path), p) })
		}},
	"mkfifo": {weight: 2, needs: "special", uses: "p",
		gen: func(g *generator, o *op) { o.Path = g.path(anything) },
		do:  func(a *actor, o op) result { return failed(unix.Mkfifo(a.path(o.Path), 0o644)) }},
	"access": {weight: 4, uses: "pm",
		gen: func(g *generator, o *op) { o.Path, o.Mode = g.path(anything), unix.F_OK },
		do:  func(a *actor, o op) result { return failed(unix.Access(a.path(o.Path), o.Mode)) }},
	// rm -r, also of directories in which files are open.
	"wipe": {weight: 2, uses: "p",
		gen: func(g *generator, o *op) { o.Path = g.path(aDirectory) },
		do: func(a *actor, o op) result {
			if o.Path == "." || o.Path == "" || strings.HasSuffix(o.Path, "/.") {
				return failed(unix.EINVAL)
			}
			err := os.RemoveAll(a.path(o.Path))
			var e unix.Errno
			if errors.As(err, &e) {
				return failed(e)
			}
			return failed(err)
		}},
	// Saved as editors do: a new file over an old one that somebody may have open.
	"save": {weight: 6, uses: "pPl",
		gen: func(g *generator, o *op) {
			o.Path, o.Len, o.Seed = g.path(aFile), g.size(), g.Uint64()
			o.Path2 = g.path(aFile)
		},
		do: func(a *actor, o op) result {
			fd, err := unix.Open(a.path(o.Path2), unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC, 0o644)
			if err != nil {
				return failed(err)
			}
			n, err := unix.Write(fd, o.data())
			if err == nil {
				err = unix.Fsync(fd)
			}
			if e := unix.Close(fd); err == nil {
				err = e
			}
			if err == nil {
				err = unix.Rename(a.path(o.Path2), a.path(o.Path))
			}
			r := failed(err)
			r.N = int64(n)
			return r
		}},
	// A temporary file that has no name while it is used.
	"temporary": {weight: 5, uses: "pl",
		gen: func(g *generator, o *op) { o.Path, o.Len, o.Seed = g.path(aFile), g.size(), g.Uint64() },
		do: func(a *actor, o op) result {
			fd, err := unix.Open(a.path(o.Path), unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
			if err != nil {
				return failed(err)
			}
			defer unix.Close(fd)
			if err := unix.Unlink(a.path(o.Path)); err != nil {
				return failed(err)
			}
			if _, err := unix.Write(fd, o.data()); err != nil {
				return failed(err)
			}
			if err := unix.Ftruncate(fd, o.Len+10); err != nil {
				return failed(err)
			}
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil {
				return failed(err)
			}
			p := make([]byte, o.Len+100)
			r := read(p, func() (int, error) { return unix.Pread(fd, p, 0) })
			r.Text = describe(&st, o.Mode == allBits)
			return r
		}},
}

var renameFlags = bits([]bit{{unix.RENAME_NOREPLACE, "NOREPLACE"}, {unix.RENAME_EXCHANGE, "EXCHANGE"}})

func rename(a *actor, o op) result {
	return failed(unix.Renameat2(unix.AT_FDCWD, a.path(o.Path), unix.AT_FDCWD, a.path(o.Path2), uint(o.Flags)))
}
