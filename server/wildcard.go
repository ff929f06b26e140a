package server

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxPattern bounds a search pattern in characters; no name is longer.
const maxPattern = 1024

// pattern is a search pattern of QUERY_DIRECTORY, [MS-FSA] 2.1.4.4:
//
//	?   exactly one character
//	*   any number of characters
//	<   DOS_STAR: any number of characters, but never the last dot of the name
//	>   DOS_QM: one character but a dot; nothing before a dot and at the end
//	"   DOS_DOT: a dot, or nothing at the end
//
// Comparison ignores case, on storage with case too: patterns are made by
// clients that do. Matching is not safe for concurrent use.
type pattern struct {
	runes []rune // in capitals
	all   bool   // matches everything
	plain string // the pattern if it has no wildcard, else ""
	// cur and next are the sets of positions that have been reached.
	cur, next []bool
}

// wildcards are the characters with a meaning.
const wildcards = `*?<>"`

// newPattern compiles a pattern; the empty one means everything. ok is false if
// no name can have the characters in it.
func newPattern(s string) (p pattern, ok bool) {
	if s == "" {
		s = "*"
	}
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > maxPattern || strings.ContainsAny(s, "\\/\x00") {
		return pattern{}, false
	}
	if s == "*" {
		return pattern{all: true}, true
	}
	for _, r := range s {
		p.runes = append(p.runes, unicode.ToUpper(r))
	}
	if !strings.ContainsAny(s, wildcards) {
		p.plain = s
	}
	p.cur, p.next = make([]bool, len(p.runes)+1), make([]bool, len(p.runes)+1)
	return p, true
}

// match reports whether a name is one that the pattern asks for. It walks all
// ways through the pattern at once, so that time is bounded by the product of
// the lengths.
func (p *pattern) match(name string) bool {
	if p.all {
		return true
	}
	if p.plain != "" {
		return strings.EqualFold(p.plain, name)
	}
	cur, next := p.cur, p.next
	clear(cur)
	cur[0] = true
	lastDot := strings.LastIndexByte(name, '.')
	end := len(p.runes)
	for k, c := range name {
		c = unicode.ToUpper(c)
		clear(next)
		alive := false
		to := func(i int) { next[i], alive = true, true }
		// Steps that take no character lead to later positions of the same set, so
		// that going up through it finds them all.
		for i, r := range p.runes {
			if !cur[i] {
				continue
			}
			switch r {
			case '*':
				cur[i+1] = true
				to(i)
			case '<':
				cur[i+1] = true
				if c != '.' || k != lastDot {
					to(i)
				}
			case '>':
				if c == '.' {
					cur[i+1] = true
				} else {
					to(i + 1)
				}
			case '"':
				if c == '.' {
					to(i + 1)
				}
			case '?':
				to(i + 1)
			default:
				if r == c {
					to(i + 1)
				}
			}
		}
		if !alive {
			return false
		}
		cur, next = next, cur
	}
	for i, r := range p.runes {
		if cur[i] && strings.ContainsRune(`*<>"`, r) {
			cur[i+1] = true
		}
	}
	return cur[end]
}
