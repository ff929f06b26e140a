package job

import (
	"fmt"
	"strings"
)

// Error is a mistake in a job file or on a command line.
type Error struct {
	File    string // empty: the command line
	Line    int    // in File, from 1; 0: none in particular
	Section string // job; empty: none
	Option  string // as it was written, with its value; empty: none
	Msg     string // what is wrong and what to do
	Err     error  // what it comes of, if it is another error
}

// Error has all of it in one line.
func (e *Error) Error() string {
	var b strings.Builder
	switch {
	case e.File == "":
		b.WriteString("command line: ")
	case e.Line == 0:
		fmt.Fprintf(&b, "%s: ", e.File)
	default:
		fmt.Fprintf(&b, "%s:%d: ", e.File, e.Line)
	}
	if e.Section != "" {
		fmt.Fprintf(&b, "[%s] ", e.Section)
	}
	if e.Option != "" {
		if e.File == "" {
			b.WriteString("--")
		}
		b.WriteString(e.Option + ": ")
	}
	b.WriteString(e.Msg)
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, b.String())
}

// Unwrap returns what the mistake comes of.
func (e *Error) Unwrap() error { return e.Err }
