package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// treeCalls look at everything. They are calls like the others so that a list of calls
// which makes trees differ can be made short and run again.
var treeCalls = map[string]call{
	"tree": {times: true, do: func(a *actor, o op) result {
		var out []string
		if err := snapshot(a.root, "", o.Mode == allBits, &out); err != nil {
			return result{Errno: unix.EIO, Text: err.Error()}
		}
		sort.Strings(out)
		return result{N: int64(len(out)), Text: strings.Join(out, "\n")}
	}},
	"closeall": {do: func(a *actor, o op) result {
		for i := range a.files {
			_ = a.close(i)
		}
		return result{}
	}},
}

func snapshot(root, dir string, modes bool, out *[]string) error {
	es, err := os.ReadDir(filepath.Join(root, dir))
	if err != nil {
		return err
	}
	for _, e := range es {
		name := dir + "/" + e.Name()
		p := root + name
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return fmt.Errorf("%q is listed: %w", name, err)
		}
		line := fmt.Sprintf("%q %s", name, describe(&st, modes))
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			if e.Name() != farName {
				sum, err := digest(p)
				if err != nil {
					return fmt.Errorf("%q: %w", name, err)
				}
				line += " " + sum
			}
			fallthrough
		case unix.S_IFDIR:
			names, err := userAttributes(p)
			if err != nil && err != unix.EOPNOTSUPP {
				return fmt.Errorf("attributes of %q: %w", name, err)
			}
			for _, n := range names {
				v := make([]byte, 4096)
				size, err := unix.Getxattr(p, n, v)
				if err != nil {
					return fmt.Errorf("%q of %q: %w", n, name, err)
				}
				line += fmt.Sprintf(" %s=%x", n, sha256.Sum256(v[:size]))[:len(n)+10]
			}
		case unix.S_IFLNK:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" to %q", to)
		}
		*out = append(*out, line)
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if err := snapshot(root, name, modes, out); err != nil {
				return err
			}
		}
	}
	return nil
}

func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return fmt.Sprintf("%d:%x", n, h.Sum(nil)[:8]), err
}
