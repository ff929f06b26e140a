package main

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var metaCalls = map[string]call{
	"stat": {weight: 50, times: true, uses: "p",
		gen: func(g *generator, o *op) { o.Path = g.path(anything) },
		do: func(a *actor, o op) result {
			var st unix.Stat_t
			if err := unix.Stat(a.path(o.Path), &st); err != nil {
				return failed(err)
			}
			return result{Text: describe(&st, o.Mode == allBits)}
		}},
	"lstat": {weight: 30, times: true, uses: "p",
		gen: func(g *generator, o *op) { o.Path = g.path(anything) },
		do: func(a *actor, o op) result {
			var st unix.Stat_t
			if err := unix.Lstat(a.path(o.Path), &st); err != nil {
				return failed(err)
			}
			return result{Text: describe(&st, o.Mode == allBits)}
		}},
	"fstat": {weight: 30, times: true, uses: "s",
		do: func(a *actor, o op) result {
			var st unix.Stat_t
			if err := unix.Fstat(a.fd(o.Slot), &st); err != nil {
				return failed(err)
			}
			return result{Text: describe(&st, o.Mode == allBits)}
		}},
	"sameino": {weight: 8, uses: "pP",
		gen: func(g *generator, o *op) { o.Path, o.Path2 = g.path(anything), g.path(anything) },
		do: func(a *actor, o op) result {
			var s, t unix.Stat_t
			if err := unix.Lstat(a.path(o.Path), &s); err != nil {
				return failed(err)
			}
			if err := unix.Lstat(a.path(o.Path2), &t); err != nil {
				return failed(err)
			}
			return result{Text: fmt.Sprint("one file: ", s.Ino == t.Ino && s.Dev == t.Dev)}
		}},
	"chmod": {weight: 10, needs: "chmod", uses: "pm",
		gen: func(g *generator, o *op) {
			o.Path, o.Mode = g.path(aFile), []uint32{0o644, 0o644, 0o444}[g.IntN(3)]
			if g.on["posix-modes"] {
				o.Mode = uint32(g.IntN(0o1000)) | 0o400
			}
		},
		// Of files only: a directory's read-only attribute does not mean that.
		do: func(a *actor, o op) result {
			var st unix.Stat_t
			if err := unix.Stat(a.path(o.Path), &st); err != nil {
				return failed(err)
			}
			if st.Mode&unix.S_IFMT != unix.S_IFREG {
				return failed(unix.EISDIR)
			}
			return failed(unix.Chmod(a.path(o.Path), o.Mode))
		}},
	"fchmod": {weight: 4, needs: "chmod", uses: "sm",
		gen: func(g *generator, o *op) { o.Mode = []uint32{0o644, 0o444}[g.IntN(2)] },
		do: func(a *actor, o op) result {
			var st unix.Stat_t
			if err := unix.Fstat(a.fd(o.Slot), &st); err != nil {
				return failed(err)
			}
			if st.Mode&unix.S_IFMT != unix.S_IFREG {
				return failed(unix.EISDIR)
			}
			return failed(unix.Fchmod(a.fd(o.Slot), o.Mode))
		}},
	"utimens": {weight: 15, needs: "times", times: true, uses: "pfo", flags: bits([]bit{{unix.AT_SYMLINK_NOFOLLOW, "NOFOLLOW"}}),
		gen: func(g *generator, o *op) {
			o.Path = g.path(anything)
			// In units of SMB's clock, and old enough to be told from the time of a change.
			o.Off = g.oldTime()
			switch g.IntN(6) {
			case 0:
				o.Off = unix.UTIME_NOW
			case 1:
				o.Off = unix.UTIME_OMIT
			case 2:
				o.Flags = unix.AT_SYMLINK_NOFOLLOW
			}
		},
		do: func(a *actor, o op) result {
			t := timespec(o.Off)
			return failed(unix.UtimesNanoAt(unix.AT_FDCWD, a.path(o.Path), []unix.Timespec{t, t}, o.Flags))
		}},
	"futimens": {weight: 6, needs: "times", times: true, uses: "so",
		gen: func(g *generator, o *op) { o.Off = g.oldTime() },
		do: func(a *actor, o op) result {
			if a.files[o.Slot] == nil {
				return failed(unix.EBADF)
			}
			t := timespec(o.Off)
			return failed(unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprint("/proc/self/fd/", a.fd(o.Slot)), []unix.Timespec{t, t}, 0))
		}},
	// make does this: it compares what was changed first with what was changed then.
	"order": {weight: 4, needs: "order", times: true, uses: "pP",
		gen: func(g *generator, o *op) { o.Path, o.Path2 = g.path(aFile), g.path(aFile) },
		do: func(a *actor, o op) result {
			var st [2]unix.Stat_t
			for _, p := range []string{o.Path, o.Path2} {
				fd, err := unix.Open(a.path(p), unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o644)
				if err != nil {
					return failed(err)
				}
				_, err = unix.Write(fd, []byte("x"))
				if e := unix.Close(fd); err == nil {
					err = e
				}
				if err != nil {
					return failed(err)
				}
			}
			for i, p := range []string{o.Path, o.Path2} {
				if err := unix.Stat(a.path(p), &st[i]); err != nil {
					return failed(err)
				}
			}
			before := time.Unix(st[0].Mtim.Unix()).Sub(time.Unix(st[1].Mtim.Unix()))
			if o.Path != o.Path2 && before > 0 {
				return result{Text: fmt.Sprintf("what was changed first has the later time, by %v", before)}
			}
			return result{Text: "in order"}
		}},
	"statfs": {weight: 3, uses: "p",
		gen: func(g *generator, o *op) { o.Path = g.path(anything) },
		do: func(a *actor, o op) result {
			var st unix.Statfs_t
			if err := unix.Statfs(a.path(o.Path), &st); err != nil {
				return failed(err)
			}
			if st.Bsize <= 0 || st.Blocks == 0 || st.Bfree > st.Blocks || st.Bavail > st.Bfree || st.Namelen != 255 {
				return result{Text: fmt.Sprintf("not plausible: %+v", st)}
			}
			return result{Text: "plausible"}
		}},
	"setxattr": {weight: 10, needs: "xattrs", uses: "pPfl", flags: bits([]bit{{unix.XATTR_CREATE, "CREATE"}, {unix.XATTR_REPLACE, "REPLACE"}}),
		gen: func(g *generator, o *op) {
			o.Path, o.Path2, o.Seed = g.favourite(), g.attribute(), g.Uint64()
			o.Len = []int64{1, 10, 100, 500}[g.IntN(4)]
			if g.on["empty-xattr"] && g.IntN(5) == 0 {
				o.Len = 0
			}
			o.Flags = []int{0, 0, unix.XATTR_CREATE, unix.XATTR_REPLACE}[g.IntN(4)]
		},
		do: func(a *actor, o op) result {
			return failed(unix.Setxattr(a.path(o.Path), o.Path2, o.data(), o.Flags))
		}},
	"getxattr": {weight: 10, needs: "xattrs", uses: "pPl",
		gen: func(g *generator, o *op) {
			o.Path, o.Path2, o.Len = g.favourite(), g.attribute(), []int64{0, 5, 4096}[g.IntN(3)]
		},
		do: func(a *actor, o op) result {
			p := make([]byte, o.Len)
			n, err := unix.Getxattr(a.path(o.Path), o.Path2, p)
			if err != nil {
				return failed(err)
			}
			return result{N: int64(n), Bytes: p[:min(n, len(p))]}
		}},
	"listxattr": {weight: 5, needs: "xattrs", uses: "p",
		gen: func(g *generator, o *op) { o.Path = g.favourite() },
		do: func(a *actor, o op) result {
			names, err := userAttributes(a.path(o.Path))
			if err != nil {
				return failed(err)
			}
			return result{N: int64(len(names)), Text: strings.Join(names, " ")}
		}},
	"removexattr": {weight: 5, needs: "xattrs", uses: "pP",
		gen: func(g *generator, o *op) { o.Path, o.Path2 = g.favourite(), g.attribute() },
		do:  func(a *actor, o op) result { return failed(unix.Removexattr(a.path(o.Path), o.Path2)) }},
}

// allBits in the mode of a stat asks for all permission bits to be compared.
const allBits = 0o7777

// recent is after every time that a call sets.
const recent = 1_400_000_000

// timespec reads the time of utimens and futimens.
func timespec(v int64) unix.Timespec {
	if v == unix.UTIME_NOW || v == unix.UTIME_OMIT {
		return unix.Timespec{Nsec: v}
	}
	return unix.NsecToTimespec(v)
}

// describe is what has to be the same in both trees (see blanks).
func describe(st *unix.Stat_t, modes bool) string {
	var b strings.Builder
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		b.WriteString("file")
	case unix.S_IFDIR:
		b.WriteString("directory")
	case unix.S_IFLNK:
		b.WriteString("link")
	default:
		fmt.Fprintf(&b, "type %#o", st.Mode&unix.S_IFMT)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		if modes {
			fmt.Fprintf(&b, " %#o", st.Mode&0o777)
		} else if st.Mode&0o200 == 0 {
			b.WriteString(" read-only")
		}
		fmt.Fprintf(&b, " links=%d", st.Nlink)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		fmt.Fprintf(&b, " size=%d", st.Size)
	}
	if t := time.Unix(st.Mtim.Unix()); t.Unix() < recent {
		fmt.Fprintf(&b, " mtime=%s", t.UTC().Format("2006-01-02T15:04:05.0000000"))
	} else if d := time.Since(t); d < -5*time.Minute || d > 24*time.Hour {
		fmt.Fprintf(&b, " mtime is off by %v", d)
	}
	return b.String()
}

// userAttributes are the names of user.*, sorted.
func userAttributes(path string) ([]string, error) {
	p := make([]byte, 64<<10)
	n, err := unix.Listxattr(path, p)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range strings.SplitSeq(string(p[:n]), "\x00") {
		if strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.cifs.") && !strings.HasPrefix(name, "user.DOSATTRIB") {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names, nil
}
