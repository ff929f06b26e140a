package smbconf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Bounds of what is read.
const (
	maxFileSize = 4 << 20
	maxFiles    = 64 // with what is included
	maxDepth    = 16 // of inclusion
	maxSections = 8192
	maxParams   = 1 << 17
)

// Pos is a place in a file. Line counts from 1.
type Pos struct {
	File string
	Line int
}

func (p Pos) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// param is a line "name = value".
type param struct {
	name  string // as written
	value string
	pos   Pos
}

// rawSection is a section as it stands in the file, all its occurrences together.
type rawSection struct {
	name   string
	pos    Pos // of the first
	params []param
}

// fold is the form in which names of parameters are compared: Samba's strwicmp knows
// neither case nor white space.
func fold(name string) string {
	return strings.ToLower(strings.Join(strings.Fields(name), ""))
}

// squeeze makes every run of white space one space.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

// reader puts the sections of a file and what it includes together.
type reader struct {
	open     func(name string) (io.ReadCloser, error)
	vars     vars
	sections []*rawSection
	byName   map[string]*rawSection
	current  *rawSection
	files    []string
	params   int
	report   func(Severity, Pos, string, ...any)
}

func openFile(name string) (io.ReadCloser, error) { return os.Open(name) }

// section makes the section the current one.
func (r *reader) section(name string, pos Pos) error {
	name = squeeze(name)
	key := strings.ToLower(name)
	if key == "globals" {
		key = "global"
	}
	if s := r.byName[key]; s != nil {
		r.current = s
		return nil
	}
	if len(r.sections) >= maxSections {
		return fmt.Errorf("%v: more than %d sections", pos, maxSections)
	}
	s := &rawSection{name: name, pos: pos}
	r.byName[key] = s
	r.sections = append(r.sections, s)
	r.current = s
	return nil
}

// file reads one file. The error is one of the file, or of a bound.
func (r *reader) file(name string, depth int) error {
	if len(r.files) >= maxFiles || depth > maxDepth {
		return fmt.Errorf("%s: more than %d files, or one within another more than %d deep: does a file include itself?", name, maxFiles, maxDepth)
	}
	f, err := r.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	r.files = append(r.files, name)
	limited := &io.LimitedReader{R: f, N: maxFileSize + 1}
	in := bufio.NewReader(limited)
	for line := 0; ; {
		text, first, err := logicalLine(in, &line)
		if text != "" {
			if err := r.line(text, Pos{name, first}, depth); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if limited.N <= 0 {
		return fmt.Errorf("%s: longer than %d octets", name, maxFileSize)
	}
	return nil
}

// logicalLine joins a line with those that continue it and says where it begins. Blank
// lines and comments give "". A comment is not continued.
func logicalLine(in *bufio.Reader, line *int) (text string, first int, err error) {
	var b strings.Builder
	continuing := false
	for {
		s, err := in.ReadString('\n')
		if s != "" {
			*line++
			if first == 0 {
				first = *line
			}
		}
		s = strings.TrimRight(s, " \t\r\n\v\f")
		if !continuing {
			s = strings.TrimLeft(s, " \t\r\v\f")
			if s == "" || s[0] == '#' || s[0] == ';' {
				return "", first, err
			}
		}
		// What follows is joined without a space, unless there is one.
		s, continuing = strings.CutSuffix(s, `\`)
		b.WriteString(s)
		if !continuing || err != nil {
			return squeeze(b.String()), first, err
		}
	}
}

func (r *reader) line(text string, pos Pos, depth int) error {
	if text[0] == '[' {
		name, rest, ok := strings.Cut(text[1:], "]")
		if !ok || squeeze(name) == "" {
			r.report(Error, pos, "%q is not a section: [NAME]", text)
			return nil
		}
		if rest = strings.TrimSpace(rest); rest != "" && rest[0] != '#' && rest[0] != ';' {
			r.report(Warning, pos, "%q behind the section's name is ignored", rest)
		}
		return r.section(name, pos)
	}
	name, value, ok := strings.Cut(text, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if !ok || name == "" {
		r.report(Warning, pos, "%q is ignored: it is neither a section nor \"name = value\"", text)
		return nil
	}
	if r.current == nil {
		if err := r.section("global", pos); err != nil {
			return err
		}
	}
	switch fold(name) {
	case "include":
		return r.include(value, pos, depth)
	case "configfile":
		r.report(Warning, pos, "%q is not supported: name the file on the command line, or include it", name)
		return nil
	}
	if r.params++; r.params > maxParams {
		return fmt.Errorf("%v: more than %d parameters", pos, maxParams)
	}
	r.current.params = append(r.current.params, param{name, value, pos})
	return nil
}

// include reads a file in the place of the line. One that is not there is skipped, as
// Samba does: it is how a file for each host is made optional.
func (r *reader) include(name string, pos Pos, depth int) error {
	if name == "" {
		return nil
	}
	if strings.EqualFold(name, "registry") {
		r.report(Warning, pos, "include = registry is not supported: there is no registry")
		return nil
	}
	path, left := r.vars.expand(name, perClient)
	if left != "" {
		r.report(Warning, pos, "include = %s is skipped: %s is not known before somebody connects", name, left)
		return nil
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(pos.File), path)
	}
	err := r.file(path, depth+1)
	if errors.Is(err, fs.ErrNotExist) {
		r.report(Warning, pos, "include = %s is skipped: there is no such file", path)
		return nil
	}
	return err
}
