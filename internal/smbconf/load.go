package smbconf

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Severity says what a problem means.
type Severity uint8

const (
	// Note: the parameter has no meaning here, and nothing is lost.
	Note Severity = iota
	// Warning: something that the file says is not done.
	Warning
	// Error: the file does not say what to do.
	Error
)

func (s Severity) String() string { return [...]string{"note", "warning", "error"}[s] }

// Problem is what is to be said of a line.
type Problem struct {
	Severity Severity
	Pos      Pos
	Text     string
}

func (p Problem) String() string { return fmt.Sprintf("%v: %v: %s", p.Pos, p.Severity, p.Text) }

// Options changes how a file is read. The zero value is the usual.
type Options struct {
	// Strict makes errors of warnings.
	Strict bool
	// Open opens files; nil is os.Open.
	Open func(name string) (io.ReadCloser, error)
	// Version is the value of %v.
	Version string
}

// Config is a file that has been read.
type Config struct {
	Global   *Section
	Shares   []*Section // in the order of the file
	Homes    *Section   // [homes], nil if there is none
	Problems []Problem  // in the order of the lines of each file
	Files    []string   // that were read
}

// Failed reports whether the file has errors.
func (c *Config) Failed() bool {
	return slices.ContainsFunc(c.Problems, func(p Problem) bool { return p.Severity == Error })
}

// Share finds a share by name; nil if there is none.
func (c *Config) Share(name string) *Section {
	for _, s := range c.Shares {
		if strings.EqualFold(s.Name, name) {
			return s
		}
	}
	return nil
}

// Load reads a file and what it includes. An error is one of reading; what the file
// says wrong is in Problems.
func Load(name string, o Options) (*Config, error) {
	c := &Config{}
	v := newVars()
	v.version = o.Version
	r := &reader{open: o.Open, vars: v, byName: map[string]*rawSection{}}
	if r.open == nil {
		r.open = openFile
	}
	r.report = func(sev Severity, pos Pos, format string, args ...any) {
		if sev == Warning && o.Strict {
			sev = Error
		}
		c.Problems = append(c.Problems, Problem{sev, pos, fmt.Sprintf(format, args...)})
	}
	if err := r.file(name, 0); err != nil {
		return nil, err
	}
	c.Files = r.files
	c.build(r)
	slices.SortStableFunc(c.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(slices.Index(c.Files, a.Pos.File), slices.Index(c.Files, b.Pos.File)), cmp.Compare(a.Pos.Line, b.Pos.Line))
	})
	return c, nil
}

// build makes sections of what was read.
func (c *Config) build(r *reader) {
	c.Global = &Section{Name: "global", values: map[*Key]Value{}}
	if g := r.byName["global"]; g != nil {
		c.Global.Pos = g.pos
		for _, p := range g.params {
			c.set(r, c.Global, p)
		}
	}
	done := map[string]*Section{}
	for _, raw := range r.sections {
		key := strings.ToLower(raw.name)
		switch key {
		case "global", "globals":
			continue
		case "printers", "print$", "ipc$":
			r.report(Warning, raw.pos, "[%s] is not supported: %s", raw.name, specialSections[key])
			continue
		}
		s := &Section{Name: raw.name, Pos: raw.pos, global: c.Global, values: map[*Key]Value{}}
		for _, p := range raw.params {
			if fold(p.name) != "copy" {
				c.set(r, s, p)
				continue
			}
			from := done[strings.ToLower(squeeze(p.value))]
			if from == nil {
				r.report(Error, p.pos, "copy = %s: no such section stands before this one", p.value)
				continue
			}
			for k, v := range from.values {
				if k.Name != "copy" {
					s.values[k] = v
				}
			}
		}
		done[key] = s
		if key == "homes" {
			c.Homes = s
			continue
		}
		c.Shares = append(c.Shares, s)
	}
	for _, s := range c.all() {
		c.finish(r, s)
	}
}

var specialSections = map[string]string{
	"printers": "there are no printers",
	"print$":   "there are no printers",
	"ipc$":     "the server has its own, for all who may connect to it; \"hosts allow\" in [global] says who that is",
}

// all are the sections, as they are shown.
func (c *Config) all() []*Section {
	all := []*Section{c.Global}
	if c.Homes != nil {
		all = append(all, c.Homes)
	}
	return append(all, c.Shares...)
}

// set takes one line over.
func (c *Config) set(r *reader, s *Section, p param) {
	k, inverse := lookup(p.name)
	if k == nil {
		reason, sev := unsupported(p.name)
		r.report(sev, p.pos, "%q %s", squeeze(p.name), reason)
		return
	}
	if !k.Share && s != c.Global {
		r.report(Warning, p.pos, "%q is ignored: it belongs in [global]", squeeze(p.name))
		return
	}
	value, err := k.canonical(p.value)
	if len(k.Fixed) > 0 {
		if err != nil || !slices.ContainsFunc(k.Fixed, func(f string) bool { return strings.EqualFold(f, value) }) {
			r.report(Warning, p.pos, "%s = %s is not supported: %s", squeeze(p.name), p.value, k.Text)
		}
		return
	}
	if err != nil {
		r.report(Error, p.pos, "%s: %v", squeeze(p.name), err)
		return
	}
	if inverse {
		value = map[string]string{"yes": "no", "no": "yes"}[value]
	}
	k.check(value, func(format string, args ...any) { r.report(Warning, p.pos, format, args...) })
	s.values[k] = Value{value, p.pos}
}

// finish replaces variables and looks at what only the whole section shows.
func (c *Config) finish(r *reader, s *Section) {
	v := r.vars
	if name := c.Global.String("netbios name"); name != "" {
		v.netbios = strings.ToUpper(name)
	}
	if s != c.Global {
		if v.service = s.Name; s == c.Homes {
			v.service = "%S" // the user's
		}
		// What [global] says for all shares is expanded with the name of each.
		for k, value := range c.Global.values {
			if _, own := s.values[k]; k.Share && !own && strings.Contains(value.Text, "%") {
				s.values[k] = value
			}
		}
	}
	for k, value := range s.values {
		if k.Kind != String && k.Kind != List && k.Kind != Patterns || s == c.Global && k.Share {
			continue
		}
		out, left := v.expand(value.Text, k.Dynamic)
		if left != "" && !among(left, k.Dynamic) {
			if !k.shownOnly() {
				r.report(Error, value.Pos, "%s: %s has no meaning here", k.Name, left)
				continue
			}
			r.report(Warning, value.Pos, "%s: %s has no meaning here, and is shown as it stands", k.Name, left)
		}
		if k.Dynamic == "" {
			out = strings.ReplaceAll(out, "%%", "%")
		}
		s.values[k] = Value{out, value.Pos}
	}
}
