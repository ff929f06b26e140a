package smbdtest

import (
	"slices"
	"strings"
	"testing"
)

// Every row that a case names is there, and one applies to the case's role: the
// others may be about what the case's own end of the conversation does.
func TestCasesNameRows(t *testing.T) {
	rows := make(map[string]Row)
	for _, r := range Rows() {
		rows[r.ID] = r
	}
	for _, role := range []Role{Acceptor, Initiator} {
		for _, c := range Cases(role) {
			applies := false
			for i, id := range c.Rows {
				r, ok := rows[id]
				if !ok {
					t.Errorf("%s %s: %s is no row", role, c.Name, id)
				}
				applies = applies || role == Acceptor && r.Acceptor || role == Initiator && r.Initiator
				if slices.Contains(c.Rows[:i], id) {
					t.Errorf("%s %s: row %s twice", role, c.Name, id)
				}
			}
			if !applies {
				t.Errorf("%s %s: none of %v applies to it", role, c.Name, c.Rows)
			}
		}
	}
}

// Every case of Microsoft's suite that a row names has its counterpart.
func TestMicrosoftCases(t *testing.T) {
	have := make(map[string]bool)
	for _, c := range Cases(Acceptor) {
		have[c.Name] = true
		for _, m := range c.Microsoft {
			have[m] = true
		}
	}
	played := func(name string) bool {
		// "all SmbdX_*" stands for a family, "<cipher>" for one of several.
		name = strings.TrimPrefix(name, "all ")
		before, after, open := strings.Cut(name, "<")
		if family, ok := strings.CutSuffix(name, "*"); ok {
			before, after, open = family, "", true
		} else if open {
			_, after, _ = strings.Cut(after, ">")
		}
		if !open {
			return have[name]
		}
		for h := range have {
			if strings.HasPrefix(h, before) && strings.HasSuffix(h, after) {
				return true
			}
		}
		return false
	}
	for _, r := range Rows() {
		for _, m := range r.Microsoft {
			for _, name := range expand(m) {
				if !played(name) {
					t.Errorf("%s: no case plays %s", r.ID, name)
				}
			}
		}
	}
}

// expand resolves the alternatives of "a_{b,c}_d".
func expand(name string) []string {
	before, rest, ok := strings.Cut(name, "{")
	if !ok {
		return []string{name}
	}
	list, after, _ := strings.Cut(rest, "}")
	var out []string
	for _, alt := range strings.Split(list, ",") {
		out = append(out, expand(before+alt+after)...)
	}
	return out
}
