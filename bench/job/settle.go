package job

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settle works out what options imply for each other, as fio's fixup_options does, and
// finds those that contradict each other.
func (s *state) settle() error {
	for _, f := range []func(*state) error{
		(*state).settleEngine, (*state).settleSizes, (*state).settleDepth, (*state).settlePace,
		(*state).settleBuffers, (*state).settleVerify, (*state).settleReport,
	} {
		if err := f(s); err != nil {
			return err
		}
	}
	return nil
}

// settleEngine checks that the engine takes the options that the job itself has, and has
// those that it needs. What comes from [global] may be for others.
func (s *state) settleEngine() error {
	j := &s.j
	for i := range options {
		o := &options[i]
		if len(o.engines) > 0 && s.own[o.name] && !slices.Contains(o.engines, j.Engine) {
			return fmt.Errorf("%s is an option of %s, not of ioengine=%s", o.name, engineList(o.engines), j.EngineWord)
		}
	}
	if slices.Contains(smbEngines, j.Engine) {
		if j.Remote.Server == "" || j.Remote.Share == "" {
			return fmt.Errorf("ioengine=%s needs server= and share=", j.Engine)
		}
		if j.Remote.Credentials != "" && (j.Remote.User != "" || j.Remote.Password != "") {
			return fmt.Errorf("credentials= excludes user= and password=")
		}
	}
	transports := map[Engine][]string{EngineSMB: {"tcp"}, EngineGoSMB2: {"tcp"}, EngineSMBDirect: {"iwarp", "verbs"}}
	if t, allowed := j.Remote.Transport, transports[j.Engine]; t == "" && len(allowed) > 0 {
		j.Remote.Transport = allowed[0]
	} else if len(allowed) > 0 && !slices.Contains(allowed, t) {
		return fmt.Errorf("transport=%s is not one of ioengine=%s: %s", t, j.Engine, strings.Join(allowed, ", "))
	}
	if slices.Contains(ndkEngines, j.Engine) {
		if j.Remote.Server == "" {
			return fmt.Errorf("ioengine=%s needs server=, where smbd-rdma bench peer runs", j.Engine)
		}
		if j.Remote.Provider == "" {
			j.Remote.Provider = "iwarp"
		}
	}
	return nil
}

func engineList(engines []Engine) string {
	words := make([]string, len(engines))
	for i, e := range engines {
		words[i] = string(e)
	}
	return strings.Join(words, ", ")
}

func (s *state) settleSizes() error {
	j := &s.j
	for d := range Directions {
		if j.MinBS[d] == 0 {
			j.MinBS[d], j.MaxBS[d] = s.bs[d], s.bs[d]
		}
		if j.BA[d] == 0 || !j.RW.Random {
			j.BA[d] = j.MinBS[d]
		}
		if j.BA[d] != j.MinBS[d] && !j.NoRandomMap {
			j.NoRandomMap = true
			s.note("blockalign turns norandommap on")
		}
	}
	if j.Distribution.Kind != Uniform {
		j.NoRandomMap = true
	}
	if j.Distribution.Kind == Zoned && j.Distribution.Zones[Read] == nil && j.Distribution.Zones[Write] == nil {
		return fmt.Errorf("random_distribution=zoned has no zones")
	}
	least := min(j.MinBS[Read], j.MinBS[Write])
	if b := j.Size.Bytes; b > 0 && b < least {
		return fmt.Errorf("size=%d is less than a block of %d", b, least)
	}
	if s.byChance && !s.given["randseed"] {
		j.RandSeed = s.env.Chance()
	}
	j.NamesGiven = len(s.filenames) > 0
	if j.NamesGiven {
		j.NrFiles = len(s.filenames)
	}
	if s.openFiles > 0 && s.openFiles < j.NrFiles {
		return fmt.Errorf("openfiles=%d is less than nrfiles=%d: all files of a job are open together", s.openFiles, j.NrFiles)
	}
	if j.PreRead {
		j.Invalidate = false
	}
	if j.RW.Reads { // must find something
		j.Overwrite = true
	}
	return nil
}

func (s *state) settleDepth() error {
	j := &s.j
	if localEngines[j.EngineWord] && j.IODepth > 1 {
		s.note(fmt.Sprintf("ioengine=%s has one I/O under way, whatever iodepth says; ioengine=posix has more", j.EngineWord))
		j.IODepth = 1
	}
	if j.IODepthLow == 0 || j.IODepthLow > j.IODepth {
		j.IODepthLow = j.IODepth
	}
	if j.IODepthBatch == 0 || j.IODepthBatch > j.IODepth {
		j.IODepthBatch = j.IODepth
	}
	j.IODepthBatchCompleteMin = min(j.IODepthBatchCompleteMin, j.IODepth)
	j.IODepthBatchCompleteMax = min(max(j.IODepthBatchCompleteMax, j.IODepthBatchCompleteMin), j.IODepth)
	if !j.RW.Writes || j.IODepth == 1 && !j.Offload {
		j.SerializeOverlap = false
	}
	return nil
}

func (s *state) settlePace() error {
	j := &s.j
	both := func(v [Directions]uint64) bool { return v[Read]|v[Write] != 0 }
	if both(j.Rate) && both(j.RateIOPS) || both(j.RateMin) && both(j.RateIOPSMin) {
		return fmt.Errorf("rate and rate_iops exclude each other")
	}
	for d := range Directions {
		if j.Rate[d] > 0 && j.Rate[d] < j.RateMin[d] || j.RateIOPS[d] > 0 && j.RateIOPS[d] < j.RateIOPSMin[d] {
			return fmt.Errorf("the least rate of %ss is above the rate", Direction(d))
		}
	}
	if j.TimeBased && j.Runtime == 0 {
		s.note("time_based has no effect without runtime")
		j.TimeBased = false
	}
	j.ThinkTimeSpin = min(j.ThinkTimeSpin, j.ThinkTime)
	j.StartDelayMax = max(j.StartDelayMax, j.StartDelay)
	if j.LatencyTarget > 0 && j.LatencyWindow == 0 {
		j.LatencyWindow = defaultLatencyWindow
	}
	return nil
}

// defaultLatencyWindow is what latency_target is judged in unless latency_window says so.
const defaultLatencyWindow = time.Second

func (s *state) settleBuffers() error {
	j := &s.j
	if len(j.BufferPattern.Bytes) > 0 {
		j.RefillBuffers = j.CompressPercentage > 0 || j.RW.Reads
		j.ScrambleBuffers, j.ZeroBuffers = false, false
	}
	if j.DedupePercentage > 0 {
		j.RefillBuffers = true
	}
	switch {
	case j.CompressPercentage == 100:
		j.ZeroBuffers, j.CompressPercentage = true, 0
	case j.CompressPercentage > 0 && !s.given["refill_buffers"]:
		j.RefillBuffers = true
	}
	return nil
}

func (s *state) settleVerify() error {
	j := &s.j
	if j.Verify == VerifyNone {
		if j.VerifyOnly {
			return fmt.Errorf("verify_only needs verify=")
		}
		return nil
	}
	if j.Verify == VerifyPattern && len(j.VerifyPattern.Bytes) == 0 {
		return fmt.Errorf("verify=pattern needs verify_pattern=")
	}
	lo, hi := j.MinBS[Write], j.MaxBS[Write]
	fixed := lo == hi && j.MinBS[Read] == j.MaxBS[Read] && lo == j.MinBS[Read]
	if j.NoRandomMap && !fixed {
		s.note("norandommap with blocks of several sizes limits what verify finds")
	}
	if j.RW.Writes && j.DoVerify && j.NumJobs > 1 && j.NamesGiven {
		s.note("several jobs write the same files, so that verify finds what another has overwritten")
	}
	if j.RW.Writes && !j.RW.Reads && j.DoVerify && j.TimeBased && j.VerifyBacklog == 0 {
		s.note("verify never reads back: with time_based, writing takes all of runtime")
	}
	if !s.given["refill_buffers"] {
		j.RefillBuffers = true
	}
	v := j.VerifyInterval
	if hi != lo && v == 0 {
		v = lo
	}
	if v > lo {
		v = lo
	} else if j.RW.Reads && v > j.MinBS[Read] {
		v = j.MinBS[Read]
	}
	if v == 0 || lo%v != 0 || hi%v != 0 {
		v = gcd(lo, hi)
	}
	j.VerifyInterval = v
	return nil
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func (s *state) settleReport() error {
	j := &s.j
	j.LatPercentiles = j.LatPercentiles && !j.DisableLat
	j.ClatPercentiles = j.ClatPercentiles && !j.DisableClat
	j.SlatPercentiles = j.SlatPercentiles && !j.DisableSlat
	j.PercentileList = slices.Sorted(slices.Values(j.PercentileList))
	for _, l := range []struct {
		wanted bool
		name   *string
	}{{s.logs.bw, &j.Logs.BW}, {s.logs.lat, &j.Logs.Lat}, {s.logs.iops, &j.Logs.IOPS}, {s.logs.hist, &j.Logs.Hist}} {
		if l.wanted && *l.name == "" {
			*l.name = j.Name
		}
	}
	samples := func(wanted bool, option string, interval *time.Duration) {
		switch {
		case !wanted:
		case s.given[option]:
			*interval = min(*interval, j.Logs.Avg)
		default:
			*interval = j.Logs.Avg
		}
	}
	samples(s.logs.bw, "bwavgtime", &j.BWAvgTime)
	samples(s.logs.iops, "iopsavgtime", &j.IOPSAvgTime)
	return nil
}

// names are the files of a clone. section is that of the job, whose name they have.
func (s *state) names(clone int, section string) []string {
	j := &s.j
	in := func(dir int, name string) string {
		if len(j.Directory) == 0 {
			return name
		}
		return j.Directory[dir%len(j.Directory)] + "/" + name
	}
	var names []string
	for _, name := range s.filenames { // fio has all clones in the first directory
		names = append(names, in(0, name))
	}
	if len(names) > 0 {
		return names
	}
	if j.NrFiles == 1 && j.Engine == EnginePosix && s.env.Special(section) {
		return []string{in(clone, section)}
	}
	for n := range j.NrFiles {
		names = append(names, in(clone, fileName(j.FilenameFormat, section, clone, n)))
	}
	return names
}

// fileName puts words into a format. They may be in capitals.
func fileName(format, job string, clone, file int) string {
	var b strings.Builder
	words := []struct{ word, value string }{
		{"$jobname", job}, {"$jobnum", strconv.Itoa(clone)}, {"$filenum", strconv.Itoa(file)}, {"$clientuid", ""},
	}
next:
	for format != "" {
		for _, w := range words {
			if len(format) >= len(w.word) && strings.EqualFold(format[:len(w.word)], w.word) {
				b.WriteString(w.value)
				format = format[len(w.word):]
				continue next
			}
		}
		b.WriteByte(format[0])
		format = format[1:]
	}
	return b.String()
}
