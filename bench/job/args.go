package job

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// runOption is an option of the command line that is not of a job.
type runOption struct {
	name    string
	wants   wants
	set     func(p *parser, value string) error
	refused string
}

func second(p *time.Duration, least time.Duration) func(*parser, string) error {
	return func(_ *parser, v string) error {
		d, err := parseTime(v, time.Second)
		if err == nil && d < least {
			err = fmt.Errorf("%v is less than %v", d, least)
		}
		if err == nil {
			*p = d
		}
		return err
	}
}

func formats(v string) ([]Format, error) {
	var out []Format
	for word := range strings.SplitSeq(v, ",") {
		f := Format(word)
		switch f {
		case "minimal", "csv":
			f = FormatTerse
		case FormatNormal, FormatTerse, FormatJSON, FormatJSONPlus:
		default:
			return nil, notAWord(word, []string{"normal", "terse", "json", "json+"})
		}
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out, nil
}

// runOptions are the words of fio's command line that are not of jobs, and ours.
func (p *parser) runOptions() []runOption {
	s := &p.plan.Settings
	yes := func(b *bool) func(*parser, string) error {
		return func(*parser, string) error { *b = true; return nil }
	}
	text := func(t *string) func(*parser, string) error {
		return func(_ *parser, v string) error { *t = v; return nil }
	}
	number := func(n *int, lo, hi int) func(*parser, string) error {
		return func(_ *parser, v string) error {
			i, err := strconv.Atoi(v)
			if err != nil || i < lo || i > hi {
				return fmt.Errorf("%q is not a number in %d to %d", v, lo, hi)
			}
			*n = i
			return nil
		}
	}
	return []runOption{
		{name: "output", set: text(&s.Output)},
		{name: "output-format", set: func(p *parser, v string) (err error) { s.Formats, err = formats(v); return err }},
		{name: "minimal", wants: wantsNothing, set: func(*parser, string) error { s.Formats = []Format{FormatTerse}; return nil }},
		{name: "append-terse", wants: wantsNothing, set: func(*parser, string) error {
			if !slices.Contains(s.Formats, FormatTerse) {
				s.Formats = append(s.Formats, FormatTerse)
			}
			return nil
		}},
		{name: "terse-version", set: number(&s.TerseVersion, 2, 5)},
		{name: "eta", set: func(_ *parser, v string) error {
			if !slices.Contains([]string{"always", "never", "auto"}, v) {
				return notAWord(v, []string{"always", "never", "auto"})
			}
			s.ETA = v
			return nil
		}},
		{name: "eta-interval", set: second(&s.ETAInterval, 250*time.Millisecond)},
		{name: "eta-newline", set: second(&s.ETANewline, time.Millisecond)},
		{name: "status-interval", set: second(&s.StatusInterval, time.Millisecond)},
		{name: "section", set: func(p *parser, v string) error {
			if v == "global" {
				return errors.New("[global] is no job")
			}
			p.only = append(p.only, v)
			return nil
		}},
		{name: "readonly", wants: wantsNothing, set: yes(&s.ReadOnly)},
		{name: "parse-only", wants: wantsNothing, set: yes(&s.ParseOnly)},
		{name: "warnings-fatal", wants: wantsNothing, set: yes(&s.WarningsFatal)},
		{name: "allow-overwrite", wants: wantsNothing, set: yes(&s.AllowOverwrite)},
		{name: "repeat", set: number(&s.Repeat, 1, 1000)},
		{name: "html", set: text(&s.HTML)},
		{name: "plot", set: text(&s.Plot)},
		{name: "max-jobs", set: func(*parser, string) error { return nil }}, // of no effect in fio either
		{name: "alloc-size", set: func(*parser, string) error { return nil }},
		{name: "aux-path", refused: "logs are written where write_bw_log and others say"},
		{name: "bandwidth-log", wants: wantsNothing, refused: "use write_bw_log"},
		{name: "latency-log", refused: "use write_lat_log"},
		{name: "client", refused: "there is one process; name a server with server="},
		{name: "remote-config", refused: "there is one process"},
		{name: "daemonize", refused: "there is one process; name a server with server="},
		{name: "debug", refused: "use --log-level debug"},
		{name: "idle-prof", refused: "processor time is in every report"},
		{name: "inflate-log", refused: "logs are plain text"},
		{name: "cmdhelp", wants: wantsMaybe, refused: "fio --cmdhelp explains options; docs/bench.md says what there is of each"},
		{name: "enghelp", wants: wantsMaybe, refused: "docs/bench.md lists the engines"},
		{name: "version", wants: wantsNothing, refused: "smbd-rdma version tells it"},
		{name: "showcmd", wants: wantsNothing, refused: "fio --showcmd writes command lines of job files"},
		{name: "cpuclock-test", wants: wantsNothing, refused: "there is one clock, the monotonic one"},
		{name: "crctest", wants: wantsMaybe, refused: "checksums are not measured here"},
		{name: "memcpytest", wants: wantsMaybe, refused: "copying memory is not measured here"},
		{name: "trigger-file", refused: "there are no triggers"},
		{name: "trigger-timeout", refused: "there are no triggers"},
		{name: "trigger", refused: "there are no triggers"},
		{name: "trigger-remote", refused: "there are no triggers"},
		{name: "merge-blktrace-only", wants: wantsNothing, refused: "logs of I/O are not replayed"},
	}
}

// word is an option of the command line, of the run or of a job.
type word struct {
	name string
	run  *runOption
	job  *option
}

// lookUp finds what a word of the command line means: its whole name, or the beginning of
// only one.
func lookUp(run []runOption, name string) (word, error) {
	for i := range run {
		if run[i].name == name {
			return word{name: name, run: &run[i]}, nil
		}
	}
	if o := find(name); o != nil {
		return word{name: name, job: o}, nil
	}
	var found []word
	for i := range run {
		if strings.HasPrefix(run[i].name, name) {
			found = append(found, word{name: run[i].name, run: &run[i]})
		}
	}
	for full, o := range byName {
		if strings.HasPrefix(full, name) && !slices.ContainsFunc(found, func(w word) bool { return w.job == o }) {
			found = append(found, word{name: o.name, job: o})
		}
	}
	switch len(found) {
	case 0:
		names := make([]string, 0, len(run)+len(byName))
		for i := range run {
			names = append(names, run[i].name)
		}
		for n := range byName {
			names = append(names, n)
		}
		slices.Sort(names)
		if n := nearest(name, names); n != "" {
			return word{}, fmt.Errorf("there is no such option; the nearest is --%s", n)
		}
		return word{}, errors.New("there is no such option")
	case 1:
		return found[0], nil
	}
	names := make([]string, len(found))
	for i, w := range found {
		names[i] = "--" + w.name
	}
	slices.Sort(names)
	if len(names) > 5 {
		names = append(names[:5], "...")
	}
	return word{}, fmt.Errorf("it may be %s", strings.Join(names, ", "))
}

// takesNext says whether a value follows in the next word. Words of fio that choose from
// a list want theirs after =, but have none that could be left out.
func (w word) takesNext() bool {
	if w.run != nil {
		return w.run.wants == wantsValue
	}
	return w.job.wants == wantsValue
}

// commandLine reads the words of a command line: settings of the run, sections, and the
// names of job files.
func (p *parser) commandLine(args []string) (sections []section, files []string, err error) {
	run := p.runOptions()
	sections = []section{{name: "global"}}
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			return sections, append(files, args[i+1:]...), nil
		}
		if len(a) < 2 || a[0] != '-' {
			files = append(files, a)
			continue
		}
		name, value, has := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(a, "-"), "-"), "=")
		w, err := lookUp(run, name)
		fail := func(err error) error {
			e := &Error{Option: name, Msg: err.Error(), Err: err}
			if s := sections[len(sections)-1]; !s.global() {
				e.Section = s.name
			}
			return e
		}
		if err != nil {
			return nil, nil, fail(err)
		}
		if !has && w.takesNext() && i+1 < len(args) {
			i++
			value, has = args[i], true
		}
		if r := w.run; r != nil {
			switch {
			case r.refused != "":
				err = errors.New(r.refused)
			case has && r.wants == wantsNothing:
				err = errors.New("it has no value")
			case r.wants == wantsValue && value == "":
				err = errors.New("a value is missing")
			default:
				err = r.set(p, value)
			}
			if err != nil {
				return nil, nil, fail(err)
			}
			continue
		}
		if w.job.name == "name" && has {
			if value == "" || len(value) > maxSectionName {
				return nil, nil, fail(fmt.Errorf("the name of a job has 1 to %d bytes", maxSectionName))
			}
			sections = append(sections, section{name: value})
			continue
		}
		last := &sections[len(sections)-1]
		raw := w.name
		if has {
			raw += "=" + value
		}
		last.settings = append(last.settings, setting{name: w.name, arg: arg{text: value, bare: !has}, raw: raw})
	}
	return sections, files, nil
}
