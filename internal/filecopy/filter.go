package filecopy

import (
	"fmt"
	"path"
	"strings"
)

// Filter says which files of a tree are taken. The patterns are path.Match's, with **
// for any number of elements. One without a slash matches the last element of a name,
// wherever that is; one with a slash matches the whole name below the tree, and one that
// ends in a slash matches directories only.
type Filter struct {
	// Top, unless nil: of what is in the directory itself, only the names that it takes.
	Top func(name string) bool
	// Include, unless empty: only files that one of these matches, and directories only
	// where there are such in them.
	Include []string
	// Exclude: not what one of these matches, with all below it. It overrules Include.
	Exclude []string
}

// check finds patterns that are none.
func (f *Filter) check() error {
	for _, list := range [][]string{f.Include, f.Exclude} {
		for _, p := range list {
			if _, err := path.Match(p, ""); err != nil || strings.Trim(p, "/") == "" {
				return fmt.Errorf("%q is no pattern: %w", p, path.ErrBadPattern)
			}
		}
	}
	return nil
}

// empty reports whether all is taken.
func (f *Filter) empty() bool { return f.Top == nil && len(f.Include) == 0 && len(f.Exclude) == 0 }

// takes reports whether a file is copied, or a directory looked into.
func (f *Filter) takes(rel string, dir bool) bool {
	if f.Top != nil {
		if top, _, _ := strings.Cut(rel, "/"); !f.Top(top) {
			return false
		}
	}
	for _, p := range f.Exclude {
		if matches(p, rel, dir) {
			return false
		}
	}
	if dir || len(f.Include) == 0 {
		return true
	}
	for _, p := range f.Include {
		if matches(p, rel, dir) {
			return true
		}
	}
	return false
}

func matches(pattern, rel string, dir bool) bool {
	if p, only := strings.CutSuffix(pattern, "/"); only {
		if !dir {
			return false
		}
		pattern = p
	}
	if !strings.Contains(pattern, "/") {
		ok, _ := path.Match(pattern, path.Base(rel)) // check has seen the pattern
		return ok
	}
	return matchElements(strings.Split(strings.TrimPrefix(pattern, "/"), "/"), strings.Split(rel, "/"))
}

// matchElements matches element by element. It keeps the last ** to come back to, so
// that its time is bounded by the product of the lengths.
func matchElements(pattern, name []string) bool {
	p, n := 0, 0
	backP, backN := -1, 0
	for n < len(name) {
		if p < len(pattern) && pattern[p] == "**" {
			backP, backN = p, n
			p++
			continue
		}
		if p < len(pattern) {
			if ok, _ := path.Match(pattern[p], name[n]); ok {
				p, n = p+1, n+1
				continue
			}
		}
		if backP < 0 {
			return false
		}
		backN++
		p, n = backP+1, backN
	}
	for p < len(pattern) && pattern[p] == "**" {
		p++
	}
	return p == len(pattern)
}
