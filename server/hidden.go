package server

import (
	"context"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// hides reports whether a name alone makes a file hidden: a component, as the storage
// spells it.
func (s *Share) hides(name string) bool {
	return s.HideDotFiles && len(name) > 1 && name[0] == '.' || matchesAny(s.HideFiles, name)
}

// vetoed is the status for a path with a component that does not exist for clients:
// Success if there is none.
func (s *Share) vetoed(path string) ntstatus.Status {
	if len(s.VetoFiles) == 0 || path == vfs.Root {
		return ntstatus.Success
	}
	for {
		comp, rest, more := strings.Cut(path, "/")
		switch {
		case !matchesAny(s.VetoFiles, comp):
		case more:
			return ntstatus.ObjectPathNotFound
		default:
			return ntstatus.ObjectNameNotFound
		}
		if !more {
			return ntstatus.Success
		}
		path = rest
	}
}

// vetoed reports whether a symbolic link has led to what does not exist for clients.
func (o *open) vetoed(ctx context.Context, f vfs.File) bool {
	if len(o.tree.share.VetoFiles) == 0 {
		return false
	}
	n, ok := f.(vfs.RealNamer)
	if !ok {
		return false
	}
	name, err := n.RealName(ctx)
	return err != nil || vetoed(o.tree.share.VetoFiles, name)
}

// vetoed reports whether a path has a component that matches one of the patterns.
func vetoed(patterns []string, path string) bool {
	if len(patterns) == 0 {
		return false
	}
	for comp := range strings.SplitSeq(path, "/") {
		if matchesAny(patterns, comp) {
			return true
		}
	}
	return false
}

// present makes of what the storage says of the open's file what clients are to see.
func (o *open) present(info *vfs.Info) {
	o.showTimes(info)
	if s := o.tree.share; s.HideDotFiles || len(s.HideFiles) > 0 {
		if _, last := vfs.Split(o.path()); s.hides(last) {
			info.Attributes |= vfs.AttrHidden
		}
	}
}

func matchesAny(patterns []string, name string) bool {
	for _, p := range patterns {
		if matchFold(p, name) {
			return true
		}
	}
	return false
}

// matchFold reports whether a name matches a pattern of * and ?, without regard to
// case. It takes at most the product of the lengths.
func matchFold(pattern, name string) bool {
	retry, from := "", "" // behind the last star, and where it began to take
	starred := false
	for {
		p, pn := utf8.DecodeRuneInString(pattern)
		c, cn := utf8.DecodeRuneInString(name)
		switch {
		case pn > 0 && p == '*':
			pattern = pattern[pn:]
			retry, from, starred = pattern, name, true
			continue
		case cn == 0 && pn == 0:
			return true
		case pn > 0 && cn > 0 && (p == '?' || unicode.ToUpper(p) == unicode.ToUpper(c)):
			pattern, name = pattern[pn:], name[cn:]
			continue
		case !starred || from == "":
			return false
		}
		_, n := utf8.DecodeRuneInString(from)
		from = from[n:]
		pattern, name = retry, from
	}
}
