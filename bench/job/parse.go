package job

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// state is a job while its options are read.
type state struct {
	j         Job
	bs        [Directions]uint64
	filenames []string
	newGroup  bool
	openFiles int  // 0: not given
	byChance  bool // the seed is
	logs      struct{ bw, lat, iops, hist bool }
	given     map[string]bool // options by their main names, of the job or its globals
	own       map[string]bool // those of the job; nil while [global] is read
	env       Env
	notes     *[]string
}

// note adds a line about something that has no effect, once.
func (s *state) note(line string) {
	if !slices.Contains(*s.notes, line) {
		*s.notes = append(*s.notes, line)
	}
}

// parser is what Parse works with.
type parser struct {
	env      Env
	plan     Plan
	only     []string // --section
	defaults state    // with what [global] said so far
	group    int
	inGroup  int // jobs in it so far
	files    int // of all jobs
}

// Parse reads a command line: job files, and options as fio has them. Job files after the
// first begin with fio's defaults again, and after all jobs before them have ended. Errors
// are *Error.
func Parse(args []string, env Env) (*Plan, error) {
	p := &parser{env: env}
	p.plan.Settings = Settings{Formats: []Format{FormatNormal}, TerseVersion: 3, ETA: "auto", ETAInterval: time.Second, Repeat: 1}
	p.reset()
	sections, files, err := p.commandLine(args)
	if err == nil {
		err = p.add(sections, false)
	}
	for i, name := range files {
		if err != nil {
			return nil, err
		}
		if i > 0 {
			p.reset()
		}
		src := source{env: env, left: MaxFile}
		if err = src.read(name, 0, nil); err == nil {
			err = p.add(src.sections, i > 0)
		}
	}
	if err == nil {
		err = p.finish()
	}
	if err != nil {
		return nil, err
	}
	return &p.plan, nil
}

// reset forgets what [global] said.
func (p *parser) reset() {
	p.defaults = state{env: p.env, notes: &p.plan.Notes, given: map[string]bool{}, bs: [Directions]uint64{4096, 4096}}
	p.defaults.j = Job{
		NumJobs: 1, Loops: 1, Engine: EnginePosix, EngineWord: "psync",
		Remote: EngineOptions{Signing: "if-required", Encryption: "off"},
		RW:     RW{Reads: true}, RWMixRead: 50, SeqRun: 1, PercentageRandom: [Directions]int{100, 100},
		FilenameFormat: "$jobname.$jobnum.$filenum", NrFiles: 1, FileService: Distribution{Kind: RoundRobin, Center: -1, Run: 1},
		Fallocate: FallocateNative, Fadvise: "auto", CreateFsync: true, CreateSerialize: true, AllowFileCreate: true, Invalidate: true,
		IODepth: 1, IODepthBatch: 1, IODepthBatchCompleteMin: 1,
		RateCycle: time.Second, ThinkTimeBlocks: 1, LatencyPercentile: 100,
		RandSeed: 0x89, Distribution: Distribution{Center: -1, Run: 1},
		DoVerify: true, ScrambleBuffers: true, CompressChunk: 512,
		ClatPercentiles: true, PercentilePrecision: 2, SignificantFigures: 4,
		PercentileList: []float64{1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 99.5, 99.9, 99.95, 99.99},
		BWAvgTime:      500 * time.Millisecond, IOPSAvgTime: 500 * time.Millisecond,
		Logs: Logs{PerJob: true}, Stats: true, KBBase: 1024,
	}
}

// add makes jobs of sections, or takes them for the defaults of those that follow.
func (p *parser) add(sections []section, stonewall bool) error {
	for i := range sections {
		sec := &sections[i]
		if sec.global() {
			if sec.name != "global" {
				p.defaults.note(fmt.Sprintf("[%s] is no job: what begins with global holds for those that follow", sec.name))
			}
			if err := p.defaults.settings(sec, &p.defaults.j.Inherited); err != nil {
				return err
			}
			continue
		}
		if len(p.only) > 0 && !slices.Contains(p.only, sec.name) {
			continue
		}
		s := p.defaults
		s.given, s.own = maps.Clone(s.given), map[string]bool{}
		s.j.Inherited = slices.Clip(s.j.Inherited)
		s.j.Name, s.j.File, s.j.Line = sec.name, sec.file, sec.line
		if stonewall {
			s.j.Stonewall, stonewall = true, false
		}
		if err := s.settings(sec, &s.j.Options); err != nil {
			return err
		}
		if err := s.settle(); err != nil {
			return sec.fail("", err)
		}
		if err := p.multiply(&s, sec); err != nil {
			return err
		}
	}
	return nil
}

// fail is an error of a section as a whole, or of one of its options.
func (sec *section) fail(option string, err error) error {
	e := &Error{File: sec.file, Line: sec.line, Section: sec.name, Option: option, Msg: err.Error(), Err: err}
	if sec.file == "" && sec.global() {
		e.Section = ""
	}
	for _, s := range sec.settings { // where the option is, if it is this section's
		if o := find(s.name); o != nil && option != "" && o.name == option {
			e.File, e.Line = s.file, s.line
		}
	}
	return e
}

// settings carries out the options of a section, those with a higher priority first.
func (s *state) settings(sec *section, record *[]Option) error {
	order := slices.Clone(sec.settings)
	slices.SortStableFunc(order, func(a, b setting) int { return cmp.Compare(priority(b), priority(a)) })
	for _, set := range order {
		o := find(set.name)
		err := unknown(set.name)
		if o != nil {
			err = o.apply(s, set.arg)
		}
		if err != nil {
			e := &Error{File: set.file, Line: set.line, Section: sec.name, Option: set.raw, Msg: err.Error(), Err: err}
			if set.file == "" && sec.global() {
				e.Section = ""
			}
			if set.arg.text == "" && strings.Contains(set.raw, "${") {
				e.Msg += "; is the variable set?"
			}
			return e
		}
		*record = append(*record, Option{Name: o.name, Value: WithoutSecret(o.name, set.arg.text), Bare: set.arg.bare})
	}
	return nil
}

// WithoutSecret is the value of an option as reports may show it: no password.
func WithoutSecret(name, value string) string {
	switch user, _, has := strings.Cut(value, "%"); {
	case name == "password":
		return secret
	case name == "user" && has:
		return user + "%" + secret
	}
	return value
}

// secret stands for a password.
const secret = "********"

func priority(s setting) int {
	if o := find(s.name); o != nil {
		return o.prio
	}
	return -2
}

// multiply adds a job to the plan as often as numjobs says.
func (p *parser) multiply(s *state, sec *section) error {
	j := &s.j
	if j.NumJobs > MaxJobs-len(p.plan.Jobs) {
		return sec.fail("numjobs", fmt.Errorf("there are more than %d jobs in all", MaxJobs))
	}
	if p.plan.Settings.ReadOnly && j.RW.Writes {
		return sec.fail("rw", errors.New("the job writes, and --readonly forbids it"))
	}
	if err := p.checkWait(j); err != nil {
		return sec.fail("wait_for", err)
	}
	if (j.Stonewall || s.newGroup) && p.inGroup > 0 {
		p.group++
		p.inGroup = 0
	}
	for i := range j.NumJobs {
		clone := *j
		if i > 0 {
			clone.Clone = j.NumJobs - i
			clone.Stonewall = false
		}
		clone.Number, clone.Group = len(p.plan.Jobs)+1, p.group
		clone.Files = s.names(clone.Clone, sec.name)
		if p.files += len(clone.Files); p.files > MaxFiles {
			return sec.fail("nrfiles", fmt.Errorf("there are more than %d files in all", MaxFiles))
		}
		p.inGroup++
		p.plan.Jobs = append(p.plan.Jobs, &clone)
	}
	return nil
}

// checkWait looks for who is waited for, among the jobs that are there.
func (p *parser) checkWait(j *Job) error {
	if j.WaitFor == "" {
		return nil
	}
	if j.WaitFor == j.Name {
		return errors.New("a job cannot wait for itself")
	}
	n := 0
	for _, other := range p.plan.Jobs {
		if other.Clone == 0 && other.Name == j.WaitFor {
			n++
		}
	}
	switch n {
	case 0:
		return fmt.Errorf("no job before it is called %q", j.WaitFor)
	case 1:
		return nil
	}
	return fmt.Errorf("%d jobs before it are called %q", n, j.WaitFor)
}

// finish checks what concerns all jobs.
func (p *parser) finish() error {
	jobs := p.plan.Jobs
	if len(jobs) == 0 {
		if len(p.only) > 0 {
			return &Error{Option: "section", Msg: "no job is called " + strings.Join(p.only, " or ")}
		}
		return &Error{Msg: "there is no job; give a job file, or --name=JOB with options"}
	}
	exit := slices.ContainsFunc(jobs, func(j *Job) bool { return j.ExitAll })
	first := map[int]*Job{}
	for _, j := range jobs {
		j.ExitAll = exit // of one job it is of all, as in fio
		other := first[j.Group]
		if other == nil {
			first[j.Group] = j
		} else if j.GroupReporting && j.Stats && j.LatPercentiles != other.LatPercentiles {
			return &Error{File: j.File, Line: j.Line, Section: j.Name, Option: "lat_percentiles", Msg: "it differs in one reporting group"}
		}
	}
	if p.plan.Settings.WarningsFatal && len(p.plan.Notes) > 0 {
		return &Error{Option: "warnings-fatal", Msg: p.plan.Notes[0]}
	}
	return nil
}
