package job

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	// maxInclude is how deep job files may include each other.
	maxInclude = 8
	// maxSectionName in bytes, as in fio.
	maxSectionName = 255
)

// setting is an option as it was written.
type setting struct {
	name string
	arg  arg
	raw  string // as in the file, for messages
	file string // empty: the command line
	line int
}

// section of a job file, or of a command line.
type section struct {
	name     string
	file     string
	line     int
	settings []setting
}

// global says that it holds for what follows: as in fio, any name that begins so is.
func (s *section) global() bool { return strings.HasPrefix(s.name, "global") }

// source is a job file that is read, with those that it includes.
type source struct {
	env      Env
	left     int // bytes that may still be read
	sections []section
}

// read adds the lines of a file to the sections. depth is 0 for the job file itself.
func (src *source) read(name string, depth int, from *setting) error {
	fail := func(line int, msg string, err error) error {
		e := &Error{File: name, Line: line, Msg: msg, Err: err}
		if len(src.sections) > 0 {
			e.Section = src.sections[len(src.sections)-1].name
		}
		return e
	}
	b, err := src.env.ReadFile(name)
	if err != nil {
		if from != nil {
			return &Error{File: from.file, Line: from.line, Option: from.raw, Msg: err.Error(), Err: err}
		}
		return &Error{File: name, Msg: "cannot be read: " + err.Error(), Err: err}
	}
	if src.left -= len(b); src.left < 0 {
		return fail(0, fmt.Sprintf("it is longer than %d bytes with what it includes", MaxFile), nil)
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return fail(0, "it is no text", nil)
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		text := line
		if i := strings.IndexAny(text, ";#"); i >= 0 {
			text = text[:i]
		}
		text = strings.TrimSpace(text)
		switch {
		case text == "":
		case text[0] == '[':
			header, ok := strings.CutSuffix(text[1:], "]")
			switch {
			case depth > 0:
				return fail(n, "a file that is included has no sections", nil)
			case !ok || header == "":
				return fail(n, fmt.Sprintf("%s is not a section like [job]", text), nil)
			case len(header) > maxSectionName:
				return fail(n, fmt.Sprintf("the name of the section is longer than %d bytes", maxSectionName), nil)
			}
			src.sections = append(src.sections, section{name: header, file: name, line: n})
		case len(src.sections) == 0:
			return fail(n, fmt.Sprintf("%s stands before the first section; begin with [global] or [job]", text), nil)
		default:
			s := newSetting(src.env, text)
			s.file, s.line = name, n
			if what, ok := strings.CutPrefix(text, "include"); ok && strings.TrimLeft(what, " \t=") != what {
				if err := src.include(name, strings.TrimLeft(what, " \t="), depth, &s); err != nil {
					return err
				}
				continue
			}
			last := &src.sections[len(src.sections)-1]
			last.settings = append(last.settings, s)
		}
	}
	return nil
}

// include reads a file that is named relative to where we are, or to who includes it.
func (src *source) include(by, name string, depth int, from *setting) error {
	if depth+1 > maxInclude {
		return &Error{File: from.file, Line: from.line, Option: from.raw, Msg: fmt.Sprintf("files include each other more than %d deep", maxInclude)}
	}
	if dir := filepath.Dir(by); !src.env.Exists(name) && dir != "." && !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	return src.read(name, depth+1, from)
}

// newSetting splits an option from its value, and puts in what ${NAME} and $words stand
// for.
func newSetting(env Env, text string) setting {
	s := setting{raw: text}
	text = substitute(env, text)
	name, value, has := strings.Cut(text, "=")
	s.name, s.arg = strings.TrimSpace(name), arg{text: strings.TrimSpace(value), bare: !has}
	words := strings.NewReplacer("$pagesize", strconv.Itoa(env.PageSize), "$mb_memory", strconv.Itoa(env.MemoryMB), "$ncpus", strconv.Itoa(env.CPUs))
	if replaced := words.Replace(s.arg.text); replaced != s.arg.text {
		s.arg.text = replaced
		if sum, ok := sums(replaced); ok {
			s.arg.text = sum
		}
	}
	return s
}

// sums calculates 8*4096 where a word stood for a number and there is an operator.
func sums(s string) (string, bool) {
	if !strings.ContainsAny(s, "+-*/") || strings.Trim(s, "0123456789+-*/()%^. ") != "" {
		return "", false
	}
	v, err := calculate(s, false)
	if err != nil {
		return "", false
	}
	n, err := v.whole()
	return strconv.FormatUint(n, 10), err == nil
}

// substitute puts in the values of environment variables.
func substitute(env Env, s string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(s, "${")
		name, after, closed := strings.Cut(rest, "}")
		if !ok || !closed {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(before)
		b.WriteString(env.Getenv(name))
		s = after
	}
}
