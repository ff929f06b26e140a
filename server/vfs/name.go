package vfs

import (
	"io/fs"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Root is the name of a share's root directory.
const Root = "."

// ValidName reports whether name is one that methods of FS accept: valid for
// io/fs.ValidPath (UTF-8, slash-separated, relative, no empty, "." or ".."
// component; "." alone is the root) and free of NUL and backslash, which a
// client of the share would take for a separator. Lengths are the storage's
// to check.
func ValidName(name string) bool {
	return fs.ValidPath(name) && strings.IndexByte(name, 0) < 0 && strings.IndexByte(name, '\\') < 0
}

// ValidComponent reports whether name is valid and a single component, as the
// entries of a directory are.
func ValidComponent(name string) bool {
	return name != Root && ValidName(name) && strings.IndexByte(name, '/') < 0
}

// Split divides a valid name into its directory and its last component. The
// root has neither: Split(Root) is Root, Root.
func Split(name string) (dir, last string) {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return Root, name
}

// Join puts a component, or a name of several, beneath a directory. Both must
// be valid.
func Join(dir, name string) string {
	switch {
	case dir == Root:
		return name
	case name == Root:
		return dir
	}
	return dir + "/" + name
}

// AppendFold appends what names equal to s but for case, and no others, have in
// common: the least rune that each folds to, in lower case if it is ASCII.
func AppendFold(b []byte, s string) []byte {
	for _, r := range s {
		if r < utf8.RuneSelf {
			if 'A' <= r && r <= 'Z' {
				r |= 0x20
			}
			b = append(b, byte(r))
			continue
		}
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		if 'A' <= least && least <= 'Z' {
			least |= 0x20
		}
		b = utf8.AppendRune(b, least)
	}
	return b
}
