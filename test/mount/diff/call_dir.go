package main

import (
	"encoding/binary"
	"fmt"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

var directoryCalls = map[string]call{
	"readdir": {weight: 25, uses: "plo",
		gen: func(g *generator, o *op) {
			o.Path, o.Len, o.Off = g.path(aDirectory), []int64{600, 4096, 65536}[g.IntN(3)], int64(g.IntN(20))
		},
		do: func(a *actor, o op) result {
			fd, err := unix.Open(a.path(o.Path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return failed(err)
			}
			defer unix.Close(fd)
			return listing(fd, int(o.Len), int(o.Off))
		}},
	// Of a directory that has been open for a while, and may be gone by now.
	"rewinddir": {weight: 8, uses: "sl",
		gen: func(g *generator, o *op) { o.Len = 4096 },
		do: func(a *actor, o op) result {
			fd := a.fd(o.Slot)
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil {
				return failed(err)
			}
			if st.Mode&unix.S_IFMT != unix.S_IFDIR {
				return failed(unix.ENOTDIR)
			}
			if _, err := unix.Seek(fd, 0, 0); err != nil {
				return failed(err)
			}
			return listing(fd, int(o.Len), 0)
		}},
	// rm does this: it removes what it has read before it reads on.
	"empty": {weight: 1, uses: "p",
		gen: func(g *generator, o *op) { o.Path = g.path(aDirectory) },
		do: func(a *actor, o op) result {
			fd, err := unix.Open(a.path(o.Path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return failed(err)
			}
			defer unix.Close(fd)
			removed, buf := 0, make([]byte, 600)
			for {
				es, err := getdents(fd, buf)
				if err != nil {
					return failed(err)
				}
				if len(es) == 0 {
					break
				}
				for _, e := range es {
					if e.name != "." && e.name != ".." && e.kind != unix.DT_DIR && unix.Unlinkat(fd, e.name, 0) == nil {
						removed++
					}
				}
			}
			if _, err := unix.Seek(fd, 0, 0); err != nil {
				return failed(err)
			}
			r := listing(fd, 4096, 0)
			r.N = int64(removed)
			return r
		}},
	// A directory of many entries, which takes several answers of a server.
	"crowd": {weight: 1, uses: "pl",
		gen: func(g *generator, o *op) { o.Path, o.Len = g.path(aDirectory), int64(50+g.IntN(400)) },
		do: func(a *actor, o op) result {
			dir := a.path(o.Path) + "/crowd"
			if err := unix.Mkdir(dir, 0o755); err != nil {
				return failed(err)
			}
			name := func(i int64) string { return fmt.Sprintf("%s/entry-%0*d", dir, int(1+i*7%200), i) }
			for i := range o.Len {
				fd, err := unix.Open(name(i), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
				if err != nil {
					return failed(err)
				}
				unix.Close(fd)
			}
			fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return failed(err)
			}
			defer unix.Close(fd)
			r := listing(fd, 4096, int(o.Len/2))
			for i := range o.Len {
				if err := unix.Unlink(name(i)); err != nil {
					return failed(err)
				}
			}
			if err := unix.Rmdir(dir); err != nil {
				return failed(err)
			}
			return r
		}},
}

type entry struct {
	name string
	kind byte
	next int64 // where the one after it is found
}

func getdents(fd int, buf []byte) ([]entry, error) {
	n, err := unix.Getdents(fd, buf)
	if err != nil {
		return nil, err
	}
	var es []entry
	for b := buf[:n]; len(b) > 0; {
		size := binary.NativeEndian.Uint16(b[16:])
		name, _, _ := strings.Cut(string(b[19:size]), "\x00")
		es = append(es, entry{name, b[18], int64(binary.NativeEndian.Uint64(b[8:]))})
		b = b[size:]
	}
	return es, nil
}

func readAll(fd int, buf []byte) ([]entry, error) {
	var all []entry
	for {
		es, err := getdents(fd, buf)
		if err != nil {
			return nil, err
		}
		if len(es) == 0 {
			return all, nil
		}
		all = append(all, es...)
	}
}

// listing reads a directory from where it stands, with a buffer of size bytes; then it
// goes back to behind the entry of number again, from where the same has to follow.
func listing(fd, size, again int) result {
	buf := make([]byte, size)
	all, err := readAll(fd, buf)
	if err != nil {
		return failed(err)
	}
	names := make([]string, 0, len(all))
	seen := map[string]bool{}
	for _, e := range all {
		if seen[e.name] {
			return result{Text: fmt.Sprintf("%q is there twice", e.name)}
		}
		seen[e.name] = true
		if strings.Contains(e.name, "/") || e.name == "" {
			return result{Text: fmt.Sprintf("%q is no name", e.name)}
		}
		names = append(names, fmt.Sprintf("%q %s", e.name, kindOf(e.kind)))
	}
	if len(all) > 0 {
		again %= len(all)
		if _, err := unix.Seek(fd, all[again].next, 0); err != nil {
			return failed(err)
		}
		rest, err := readAll(fd, buf)
		if err != nil {
			return failed(err)
		}
		if len(rest) != len(all)-again-1 {
			return result{Text: fmt.Sprintf("after seekdir to behind entry %d of %d there are %d", again, len(all), len(rest))}
		}
		for i, e := range rest {
			if e.name != all[again+1+i].name {
				return result{Text: fmt.Sprintf("after seekdir: %q where %q was", e.name, all[again+1+i].name)}
			}
		}
	}
	sort.Strings(names)
	return result{N: int64(len(names)), Text: strings.Join(names, "\n")}
}

func kindOf(k byte) string {
	switch k {
	case unix.DT_REG:
		return "file"
	case unix.DT_DIR:
		return "directory"
	case unix.DT_LNK:
		return "link"
	}
	return fmt.Sprint("type ", k)
}
