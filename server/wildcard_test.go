package server

import (
	"strings"
	"testing"
	"unicode"
)

// [MS-FSA] 2.1.4.4.
func TestPatternMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "", true},
		{"", "anything", true},
		{"abc", "ABC", true},
		{"abc", "abcd", false},
		{"a*c", "abbbc", true},
		{"a*c", "ac", true},
		{"a*c", "acd", false},
		{"*.txt", "report.txt", true},
		{"*.txt", "report.txt.bak", false},
		{"*.*", "noext", false},
		{"*.*", "a.b", true},
		{"a?c", "abc", true},
		{"a?c", "ac", false},
		{"???", "ab", false},
		{"*a*b*c*", "xxaxxbxxcxx", true},
		{"*a*b*c*", "xxaxxcxxbxx", false},
		{"ä*", "ÄRGER", true},
		{"..", "..", true},
		// DOS_STAR: everything up to the last dot, and with it what has none.
		{"<", "noext", true},
		{"<", "a.b", false},
		{"<.", "a.", true},
		{"<.txt", "a.b.txt", true},
		{"<.txt", "a.txt.b", false},
		{"<\"*", "noext", true},
		{"<\"*", "a.b.c", true},
		// DOS_QM: one character, or none before a dot and at the end.
		{"a>>", "a", true},
		{"a>>", "abc", true},
		{"a>>", "abcd", false},
		{">>>.txt", "a.txt", true},
		{">>>.txt", "abcd.txt", false},
		{">.>", "a.b", true},
		{">", ".", false},
		// DOS_DOT: a dot, or the end.
		{"a\"", "a", true},
		{"a\"", "a.", true},
		{"a\"", "ab", false},
		{"a\"b", "a.b", true},
		{"a\"b", "ab", false},
	} {
		p, ok := newPattern(c.pattern)
		if !ok {
			t.Errorf("pattern %q refused", c.pattern)
			continue
		}
		// Twice: a match must leave nothing behind.
		for range 2 {
			if got := p.match(c.name); got != c.want {
				t.Errorf("pattern %q, name %q: got %v, want %v", c.pattern, c.name, got, c.want)
			}
		}
	}
	for _, s := range []string{"a/b", `a\b`, "a\x00", strings.Repeat("*", maxPattern+1), "\xed\xa0\x80"} {
		if _, ok := newPattern(s); ok {
			t.Errorf("pattern %q accepted", s)
		}
	}
}

// naiveMatch is the definition, one character of the pattern after the other.
func naiveMatch(p, n []rune) bool {
	if len(p) == 0 {
		return len(n) == 0
	}
	dotLater := func() bool {
		for _, r := range n[1:] {
			if r == '.' {
				return true
			}
		}
		return false
	}
	switch p[0] {
	case '*':
		return naiveMatch(p[1:], n) || len(n) > 0 && naiveMatch(p, n[1:])
	case '<':
		return naiveMatch(p[1:], n) || len(n) > 0 && (n[0] != '.' || dotLater()) && naiveMatch(p, n[1:])
	case '>':
		if len(n) == 0 || n[0] == '.' {
			return naiveMatch(p[1:], n)
		}
		return naiveMatch(p[1:], n[1:])
	case '"':
		return len(n) == 0 && naiveMatch(p[1:], n) || len(n) > 0 && n[0] == '.' && naiveMatch(p[1:], n[1:])
	case '?':
		return len(n) > 0 && naiveMatch(p[1:], n[1:])
	}
	return len(n) > 0 && p[0] == n[0] && naiveMatch(p[1:], n[1:])
}

func FuzzPattern(f *testing.F) {
	for _, s := range [][2]string{{"*.txt", "a.txt"}, {"<.>>\"", "a.b.c"}, {"a*b?c", "axxbyc"}, {">>>>", ".."}, {"<<\"*?", "x.y."}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pat, name string) {
		p, ok := newPattern(pat)
		if !ok {
			return
		}
		got := p.match(name)
		if len(pat) > 8 || len(name) > 12 || pat == "" || strings.ToValidUTF8(name, "") != name {
			return // the definition takes exponential time
		}
		upper := func(s string) []rune { return []rune(strings.Map(unicode.ToUpper, s)) }
		if p.plain != "" {
			return // compared by folding, which knows more equals than capitals do
		}
		if want := naiveMatch(upper(pat), upper(name)); got != want {
			t.Errorf("pattern %q, name %q: got %v, want %v", pat, name, got, want)
		}
	})
}
