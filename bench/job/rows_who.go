package job

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// MaxJobs is how many jobs a plan may have, clones included.
const MaxJobs = 4096

// localEngines are fio's engines for local files, which are all EnginePosix here; true
// are those that have one I/O under way at a time whatever iodepth says.
var localEngines = map[string]bool{
	"sync": true, "psync": true, "vsync": true, "pvsync": true, "pvsync2": true,
	"libaio": false, "io_uring": false, "posixaio": false, "posix": false, "mount": false,
}

var ownEngines = []Engine{EngineNull, EngineSMB, EngineSMBDirect, EngineGoSMB2, EngineNDKWrite, EngineNDKRead, EngineNDKSend}

// elsewhere are fio's engines that have no counterpart here, with what to do.
var elsewhere = map[string]string{
	"rdma":       "ioengine=rdma is ndk-write, ndk-read or ndk-send here",
	"net":        "bare sockets are not measured here; use iperf3",
	"netsplice":  "bare sockets are not measured here; use iperf3",
	"mmap":       "memory-mapped I/O is not measured here; posix reads and writes",
	"cpuio":      "burning processor time is no I/O",
	"exec":       "no programs are run from job files",
	"nfs":        "NFS is measured through a mount: ioengine=posix",
	"gfapi":      "GlusterFS is measured through a mount: ioengine=posix",
	"filecreate": "operations on names are not measured here", "filestat": "operations on names are not measured here", "filedelete": "operations on names are not measured here",
}

var foreign = strings.Fields(`cpp_null cuda dev-dax dfs e4defrag external falloc filecreate filedelete filestat ftruncate gfapi_async
	guasi http ime_aio ime_psync ime_psyncv io_uring_cmd libblkio libcufile libhdfs libiscsi libpmem librpma_apm librpma_apm_client
	librpma_apm_server librpma_gpspm librpma_gpspm_client librpma_gpspm_server libzbc mtd nbd pmemblk rados rbd sg solarisaio
	splice windowsaio xnvme`)

func setEngine(s *state, a arg) error {
	if _, ok := localEngines[a.text]; ok {
		s.j.Engine, s.j.EngineWord = EnginePosix, a.text
		return nil
	}
	if e := Engine(a.text); slices.Contains(ownEngines, e) {
		s.j.Engine, s.j.EngineWord = e, a.text
		return nil
	}
	known := slices.Collect(maps.Keys(localEngines))
	for _, e := range ownEngines {
		known = append(known, string(e))
	}
	slices.Sort(known)
	name, _, _ := cutSuffix(a.text)
	if why := elsewhere[name]; why != "" {
		return errors.New(why)
	}
	if slices.Contains(foreign, name) {
		return fmt.Errorf("this engine of fio's is not here; there are %s", strings.Join(known, ", "))
	}
	if n := nearest(name, known); n != "" {
		return fmt.Errorf("there is no such engine; the nearest is %s", n)
	}
	return fmt.Errorf("there is no such engine; there are %s", strings.Join(known, ", "))
}

var modes = map[string]RW{
	"read": {Reads: true}, "write": {Writes: true}, "rw": {Reads: true, Writes: true}, "readwrite": {Reads: true, Writes: true},
	"randread": {Reads: true, Random: true}, "randwrite": {Writes: true, Random: true}, "randrw": {Reads: true, Writes: true, Random: true},
}

// setRW reads a mode and what may follow it: after how many I/Os a random job jumps, or
// what is between I/Os of a sequential one.
func setRW(s *state, a arg) error {
	word, rest, has := cutSuffix(a.text)
	m, ok := modes[word]
	if !ok {
		if strings.Contains(word, "trim") {
			return errors.New("nothing is trimmed here; modes are read, write, rw, randread, randwrite and randrw")
		}
		return notAWord(word, slices.Sorted(maps.Keys(modes)))
	}
	run, add := 1, int64(0)
	var err error
	switch {
	case has && m.Random:
		var n uint64
		n, err = parseNumber(rest, s.j.KBBase, 1, maxInt)
		run = int(n)
	case has:
		add, err = parseSigned(rest, s.j.KBBase)
	}
	if err == nil {
		s.j.RW, s.j.SeqRun, s.j.SeqAdd = m, run, add
	}
	return err
}

func setStartDelay(s *state, a arg) error {
	lo, hi := parseRange(a.text)
	from, err := parseTime(lo, time.Second)
	if err != nil {
		return err
	}
	to, err := parseTime(hi, time.Second)
	if err != nil {
		return err
	}
	s.j.StartDelay, s.j.StartDelayMax = min(from, to), max(from, to)
	return nil
}

// whoOptions say what a job is and when it runs.
var whoOptions = []option{
	{name: "description", set: textTo(func(j *Job) *string { return &j.Description })},
	{name: "name", set: textTo(func(j *Job) *string { return &j.Name })},
	{name: "ioengine", prio: 2, set: setEngine},
	{name: "rw", aliases: []string{"readwrite"}, set: setRW},
	{name: "rw_sequencer", set: wordTo(func(j *Job) *bool { return &j.SeqSame }, map[string]bool{"sequential": false, "identical": true})},
	{name: "rwmixread", set: setMix("rwmixwrite", false)},
	{name: "rwmixwrite", set: setMix("rwmixread", true)},
	{name: "numjobs", set: intTo(func(j *Job) *int { return &j.NumJobs }, 1, MaxJobs)},
	{name: "stonewall", aliases: []string{"wait_for_previous"}, wants: wantsNothing, set: flagTo(func(j *Job) *bool { return &j.Stonewall })},
	{name: "wait_for", set: textTo(func(j *Job) *string { return &j.WaitFor })},
	{name: "new_group", wants: wantsNothing, set: func(s *state, a arg) (err error) {
		s.newGroup = true
		if !a.bare {
			s.newGroup, err = parseBool(a.text)
		}
		return err
	}},
	{name: "group_reporting", wants: wantsNothing, set: flagTo(func(j *Job) *bool { return &j.GroupReporting })},
	{name: "exitall", wants: wantsNothing, set: flagTo(func(j *Job) *bool { return &j.ExitAll })},
	{name: "exitall_on_error", wants: wantsNothing, set: flagTo(func(j *Job) *bool { return &j.ExitAllOnError })},
	{name: "exit_what", set: wordTo(func(j *Job) *ExitWhat { return &j.ExitWhat }, map[string]ExitWhat{"group": ExitGroup, "stonewall": ExitStonewall, "all": ExitEverything})},
	{name: "startdelay", set: setStartDelay},
	{name: "runtime", aliases: []string{"timeout"}, set: timeTo(func(j *Job) *time.Duration { return &j.Runtime }, time.Second)},
	{name: "time_based", wants: wantsNothing, set: flagTo(func(j *Job) *bool { return &j.TimeBased })},
	{name: "ramp_time", set: timeTo(func(j *Job) *time.Duration { return &j.RampTime }, time.Second)},
	{name: "loops", set: func(s *state, a arg) error {
		err := intTo(func(j *Job) *int { return &j.Loops }, 0, maxInt)(s, a)
		s.j.Loops = max(s.j.Loops, 1)
		return err
	}},
	{name: "number_ios", set: bytesTo(func(j *Job) *uint64 { return &j.NumberIOs }, 0, maxBytes)},
	{name: "thread", wants: wantsNothing, harmless: "each job is a goroutine"},
}

// setMix sets the share of reads. A job that says both, and not the same, contradicts itself;
// one may say otherwise than its [global].
func setMix(other string, writes bool) func(*state, arg) error {
	return func(s *state, a arg) error {
		n, err := parseNumber(a.text, s.j.KBBase, 0, 100)
		if err != nil {
			return err
		}
		reads := int(n)
		if writes {
			reads = 100 - reads
		}
		if s.own[other] && s.j.RWMixRead != reads {
			return fmt.Errorf("it contradicts %s of the same job: give one of them", other)
		}
		s.j.RWMixRead = reads
		return nil
	}
}
