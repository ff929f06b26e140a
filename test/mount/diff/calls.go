package main

import (
	"strings"

	"golang.org/x/sys/unix"
)

// call is a kind of call: how often it is generated, how its arguments are chosen, and
// how it is made.
type call struct {
	weight int
	needs  string // a feature, if any
	times  bool   // sets or shows times of modification
	uses   string // which of an op's arguments mean something: s S p P f m o O l
	flags  func(int) string
	gen    func(g *generator, o *op)
	do     func(a *actor, o op) result
}

// calls are those of all the call_*.go files.
var calls map[string]call

func init() {
	calls = map[string]call{}
	for _, group := range []map[string]call{fileCalls, spaceCalls, nameCalls, directoryCalls, metaCalls, lockCalls, mapCalls, treeCalls} {
		for name, c := range group {
			calls[name] = c
		}
	}
}

type bit struct {
	value int
	name  string
}

// bits prints a value by the names of its bits.
func bits(table []bit) func(int) string {
	return func(v int) string {
		var out []string
		for _, b := range table {
			if v&b.value == b.value && b.value != 0 {
				out = append(out, b.name)
				v &^= b.value
			}
		}
		if v != 0 || len(out) == 0 {
			out = append(out, strings.TrimSpace(hex(v)))
		}
		return strings.Join(out, "|")
	}
}

func hex(v int) string {
	const digits = "0123456789abcdef"
	if v == 0 {
		return "0"
	}
	s := ""
	for ; v != 0; v = int(uint(v) >> 4) {
		s = string(digits[v&15]) + s
	}
	return "0x" + s
}

var openFlags = bits([]bit{
	{unix.O_RDWR, "O_RDWR"}, {unix.O_WRONLY, "O_WRONLY"}, {unix.O_CREAT, "O_CREAT"}, {unix.O_EXCL, "O_EXCL"},
	{unix.O_TRUNC, "O_TRUNC"}, {unix.O_APPEND, "O_APPEND"}, {unix.O_DIRECTORY, "O_DIRECTORY"},
	{unix.O_NOFOLLOW, "O_NOFOLLOW"}, {unix.O_DIRECT, "O_DIRECT"}, {unix.O_SYNC, "O_SYNC"}, {unix.O_DSYNC, "O_DSYNC"},
})
