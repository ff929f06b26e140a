package smbconf

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// UserMap is a file of "username map": who a client's user is on this machine. The
// zero value maps nobody. It is not changed once it is made.
type UserMap struct{ rules []mapRule }

type mapRule struct {
	unix  string
	stop  bool // a match ends the search
	names []string
}

const maxMapRules = 1 << 16

// ParseUserMap reads lines "UNIXNAME = NAME NAME ...", with "!" before those that end
// the search. Lines that are something else are named in bad.
func ParseUserMap(r io.Reader) (m *UserMap, bad []error, err error) {
	m = &UserMap{}
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for n := 1; s.Scan(); n++ {
		text := strings.TrimSpace(s.Text())
		if text == "" || text[0] == '#' || text[0] == ';' {
			continue
		}
		unix, names, ok := strings.Cut(text, "=")
		unix, stop := strings.CutPrefix(strings.TrimSpace(unix), "!")
		unix = strings.TrimSpace(unix)
		rule := mapRule{unix: unix, stop: stop, names: splitList(names)}
		if !ok || unix == "" || len(rule.names) == 0 {
			bad = append(bad, fmt.Errorf("line %d: %q is not \"UNIXNAME = NAME ...\"", n, text))
			continue
		}
		if len(m.rules) >= maxMapRules {
			return nil, nil, fmt.Errorf("more than %d lines", maxMapRules)
		}
		m.rules = append(m.rules, rule)
	}
	return m, bad, s.Err()
}

// Map returns the UNIX name of a user; mapped is false if no line names him, and the
// name then the one that was given. As with Samba the last line that matches holds, or
// the first one that begins with "!". inGroup reports whether a UNIX user is in a group
// of UNIX; it is asked about the name that was given.
func (m *UserMap) Map(name string, inGroup func(user, group string) bool) (unix string, mapped bool) {
	unix = name
	for _, r := range m.rules {
		if r.matches(name, inGroup) {
			unix, mapped = r.unix, true
			if r.stop {
				break
			}
		}
	}
	return unix, mapped
}

func (r *mapRule) matches(name string, inGroup func(user, group string) bool) bool {
	for _, n := range r.names {
		switch {
		case n == "*", strings.EqualFold(n, name):
			return true
		case len(n) > 1 && strings.IndexByte("@+&", n[0]) >= 0:
			if inGroup(name, n[1:]) {
				return true
			}
		}
	}
	return false
}
