package main

import (
	"net/url"
	"strings"
)

// target is what //HOST/SHARE/PATH names.
type target struct {
	host  string
	share string // empty: the host itself
	path  string // slash-separated, without a slash at its ends; empty is the root
}

// parseTarget understands //HOST[/SHARE[/PATH]], the same with backslashes, and
// smb://HOST/SHARE/PATH with percent escapes.
func parseTarget(s string) (target, error) {
	rest, isURL := strings.CutPrefix(s, "smb://")
	if !isURL {
		s2 := strings.ReplaceAll(s, `\`, "/")
		var ok bool
		if rest, ok = strings.CutPrefix(s2, "//"); !ok {
			return target{}, usagef("%q is not of the form //HOST/SHARE/PATH", s)
		}
	} else if u, err := url.PathUnescape(rest); err != nil {
		return target{}, usagef("%q: %v", s, err)
	} else {
		rest = u
	}
	host, rest, _ := strings.Cut(rest, "/")
	share, path, _ := strings.Cut(rest, "/")
	t := target{host: host, share: share}
	if host == "" {
		return t, usagef("%q names no host", s)
	}
	var parts []string
	for p := range strings.SplitSeq(path, "/") {
		switch p {
		case "", ".":
		case "..":
			return t, usagef("%q: \"..\" has no meaning on a share", s)
		default:
			parts = append(parts, p)
		}
	}
	t.path = strings.Join(parts, "/")
	if share == "" && t.path != "" {
		return t, usagef("%q names no share", s)
	}
	return t, nil
}

// parseShareTarget is parseTarget for commands that need a share.
func parseShareTarget(s string) (target, error) {
	t, err := parseTarget(s)
	if err == nil && t.share == "" {
		err = usagef("%q names no share", s)
	}
	return t, err
}

// isTarget tells a remote name from a local one.
func isTarget(s string) bool {
	return strings.HasPrefix(s, "//") || strings.HasPrefix(s, `\\`) || strings.HasPrefix(s, "smb://")
}

func (t target) String() string {
	s := "//" + t.host + "/" + t.share
	if t.path != "" {
		s += "/" + t.path
	}
	return s
}
