package smbconf

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// Value is what a section says of a key: in the canonical spelling, with where it
// stands.
type Value struct {
	Text string
	Pos  Pos
}

// Section is [global] or a share. Its accessors take the Name of a key of the table
// and panic if there is none of that kind: which keys there are is known when the
// program is written.
type Section struct {
	Name   string
	Pos    Pos
	global *Section // of a share
	values map[*Key]Value
}

// Lookup returns what is said of a key in the section, or in [global] for all shares;
// ok is false if nothing is, and the value then its default.
func (s *Section) Lookup(name string) (v Value, ok bool) { return s.lookup(s.key(name)) }

func (s *Section) lookup(k *Key) (v Value, ok bool) {
	if v, ok = s.values[k]; ok {
		return v, true
	}
	if s.global != nil {
		return s.global.lookup(k)
	}
	return Value{Text: k.Default}, false
}

// Set reports whether the file says something of the key.
func (s *Section) Set(name string) bool {
	_, ok := s.Lookup(name)
	return ok
}

func (s *Section) key(name string, kinds ...Kind) *Key {
	k := table()[fold(name)].key
	if k == nil || k.Name != name || len(k.Fixed) > 0 {
		panic(fmt.Sprintf("smbconf: no key %q", name))
	}
	for _, kind := range kinds {
		if k.Kind == kind {
			return k
		}
	}
	if len(kinds) > 0 {
		panic(fmt.Sprintf("smbconf: key %q is a %v", name, k.Kind))
	}
	return k
}

func (s *Section) text(name string, kinds ...Kind) string {
	v, _ := s.lookup(s.key(name, kinds...))
	return v.Text
}

// String returns the value of a String or Enum.
func (s *Section) String(name string) string { return s.text(name, String, Enum) }

// Bool returns the value of a Bool.
func (s *Section) Bool(name string) bool { return s.text(name, Bool) == "yes" }

// Int returns the value of an Int or Size.
func (s *Section) Int(name string) int64 {
	n, err := strconv.ParseInt(s.text(name, Int, Size), 10, 64)
	if err != nil {
		panic(err) // checked when it was read
	}
	return n
}

// Mode returns the value of an Octal as the permission bits of fs.FileMode.
func (s *Section) Mode(name string) fs.FileMode {
	n, err := strconv.ParseUint(s.text(name, Octal), 8, 32)
	if err != nil {
		panic(err) // checked when it was read
	}
	return fs.FileMode(n) & fs.ModePerm
}

// List returns the words of a List.
func (s *Section) List(name string) []string { return splitList(s.text(name, List)) }

// Patterns returns the patterns of a Patterns.
func (s *Section) Patterns(name string) []string {
	var out []string
	for _, p := range strings.Split(s.text(name, Patterns), "/") {
		if p != "" {
			out = append(out, p)
		}
	}
	return out
}
