package job

import (
	"errors"
	"time"
)

var steady = "a steady state is not waited for; use ramp_time, runtime and --repeat"

// paceOptions say how fast a job goes, and with which random numbers.
var paceOptions = []option{
	{name: "rate", set: perDirection(func(j *Job) *[Directions]uint64 { return &j.Rate }, 0, maxBytes)},
	{name: "rate_min", aliases: []string{"ratemin"}, set: perDirection(func(j *Job) *[Directions]uint64 { return &j.RateMin }, 0, maxBytes)},
	{name: "rate_iops", set: perDirection(func(j *Job) *[Directions]uint64 { return &j.RateIOPS }, 0, maxInt)},
	{name: "rate_iops_min", set: perDirection(func(j *Job) *[Directions]uint64 { return &j.RateIOPSMin }, 0, maxInt)},
	{name: "rate_process", set: wordTo(func(j *Job) *bool { return &j.RatePoisson }, map[string]bool{"linear": false, "poisson": true})},
	{name: "rate_cycle", aliases: []string{"ratecycle"}, set: millisTo(func(j *Job) *time.Duration { return &j.RateCycle })},
	{name: "rate_ignore_thinktime", set: boolTo(func(j *Job) *bool { return &j.RateIgnoreThinkTime })},
	{name: "thinktime", set: timeTo(func(j *Job) *time.Duration { return &j.ThinkTime }, time.Microsecond)},
	{name: "thinktime_spin", set: timeTo(func(j *Job) *time.Duration { return &j.ThinkTimeSpin }, time.Microsecond)},
	{name: "thinktime_blocks", set: intTo(func(j *Job) *int { return &j.ThinkTimeBlocks }, 1, maxInt)},
	{name: "thinktime_blocks_type", refused: "blocks are counted when they are complete", neutral: []string{"complete"}},
	{name: "thinktime_iotime", set: timeTo(func(j *Job) *time.Duration { return &j.ThinkTimeIOTime }, time.Second)},
	{name: "max_latency", set: func(s *state, a arg) error {
		return eachDirection(a.text, func(d Direction, t string) error {
			v, err := parseTime(t, time.Microsecond)
			if err == nil {
				s.j.MaxLatency[d] = v
			}
			return err
		})
	}},
	{name: "latency_target", set: timeTo(func(j *Job) *time.Duration { return &j.LatencyTarget }, time.Microsecond)},
	{name: "latency_window", set: timeTo(func(j *Job) *time.Duration { return &j.LatencyWindow }, time.Microsecond)},
	{name: "latency_percentile", set: func(s *state, a arg) (err error) {
		s.j.LatencyPercentile, err = parseFloat(a.text, 0, 100)
		return err
	}},
	{name: "latency_run", set: boolTo(func(j *Job) *bool { return &j.LatencyRun })},
	{name: "flow", refused: "jobs are not weighed against each other; use rate or rate_iops", neutral: []string{"0"}},
	{name: "flow_id", refused: "jobs are not weighed against each other; use rate or rate_iops", neutral: []string{"0"}},
	{name: "flow_sleep", refused: "jobs are not weighed against each other; use rate or rate_iops", neutral: []string{"0"}},
	{name: "flow_watermark", refused: "jobs are not weighed against each other; use rate or rate_iops"},
	{name: "steadystate", aliases: []string{"ss"}, refused: steady},
	{name: "steadystate_duration", aliases: []string{"ss_dur"}, refused: steady, neutral: []string{"0"}},
	{name: "steadystate_ramp_time", aliases: []string{"ss_ramp"}, refused: steady, neutral: []string{"0"}},
}

// randomOptions say where random I/Os go.
var randomOptions = []option{
	{name: "randrepeat", set: func(s *state, a arg) error {
		repeat, err := parseBool(a.text)
		s.byChance = !repeat
		return err
	}},
	{name: "allrandrepeat", harmless: "all random numbers follow from one seed"},
	{name: "randseed", set: bytesTo(func(j *Job) *uint64 { return &j.RandSeed }, 0, 1<<64-1)},
	{name: "norandommap", wants: wantsNothing, set: flagTo(func(j *Job) *bool { return &j.NoRandomMap })},
	{name: "softrandommap", set: boolTo(func(j *Job) *bool { return &j.SoftRandomMap })},
	{name: "random_generator", set: wordTo(func(j *Job) *Generator { return &j.Generator }, map[string]Generator{"tausworthe": Tausworthe, "lfsr": LFSR, "tausworthe64": Tausworthe64})},
	{name: "random_distribution", set: setDistribution},
	{name: "percentage_random", set: func(s *state, a arg) error {
		return eachDirection(a.text, func(d Direction, t string) error {
			n, err := parseNumber(t, s.j.KBBase, 0, 100)
			if err == nil {
				s.j.PercentageRandom[d] = int(n)
			}
			return err
		})
	}},
	{name: "percentage_sequential", refused: "it is gone from fio too; use percentage_random"},
}

var noTrim = "nothing is trimmed here"

// verifyMethods are those of verify=. fio's others are in refusedMethods.
var verifyMethods = map[string]VerifyMethod{
	"0": VerifyNone, "md5": VerifyMD5, "crc32": VerifyCRC32, "crc32c": VerifyCRC32C, "crc32c-intel": VerifyCRC32C,
	"sha1": VerifySHA1, "sha256": VerifySHA256, "sha512": VerifySHA512, "xxhash": VerifyXXHash, "pattern": VerifyPattern,
}

var refusedMethods = map[string]string{
	"meta": "headers alone are not checked; use crc32c", "null": "there is no empty check; use crc32c",
	"crc7": "use crc32c", "crc16": "use crc32c", "crc64": "use crc32c or xxhash",
	"sha3-224": "use sha256", "sha3-256": "use sha256", "sha3-384": "use sha512", "sha3-512": "use sha512",
}

func setVerify(s *state, a arg) error {
	if why := refusedMethods[a.text]; why != "" {
		return errors.New("this checksum is not here; " + why)
	}
	return wordTo(func(j *Job) *VerifyMethod { return &j.Verify }, verifyMethods)(s, a)
}

// verifyOptions say how data is checked and what is written.
var verifyOptions = []option{
	{name: "verify", set: setVerify},
	{name: "do_verify", set: boolTo(func(j *Job) *bool { return &j.DoVerify })},
	{name: "verify_only", wants: wantsNothing, set: flagTo(func(j *Job) *bool { return &j.VerifyOnly })},
	{name: "verify_interval", set: bytesTo(func(j *Job) *uint64 { return &j.VerifyInterval }, 1, MaxBlock)},
	{name: "verify_offset", set: bytesTo(func(j *Job) *uint64 { return &j.VerifyOffset }, 0, MaxBlock)},
	{name: "verify_pattern", set: setVerifyPattern},
	{name: "verify_fatal", set: boolTo(func(j *Job) *bool { return &j.VerifyFatal })},
	{name: "verify_dump", set: boolTo(func(j *Job) *bool { return &j.VerifyDump })},
	{name: "verify_backlog", set: bytesTo(func(j *Job) *uint64 { return &j.VerifyBacklog }, 0, maxBytes)},
	{name: "verify_backlog_batch", refused: "what was written is read back at the end", neutral: []string{"0"}},
	{name: "verify_async", harmless: "blocks are checked by the goroutine of their job"},
	{name: "verify_async_cpus", harmless: "blocks are checked by the goroutine of their job"},
	{name: "verify_state_save", harmless: "no state of a verification is kept"},
	{name: "verify_state_load", refused: "no state of a verification is kept", neutral: []string{"0"}},
	{name: "verifysort", harmless: "it is gone from fio too"},
	{name: "verifysort_nr", harmless: "it is gone from fio too"},
	{name: "experimental_verify", refused: "use verify=", neutral: []string{"0"}},
	{name: "trim_percentage", refused: noTrim, neutral: []string{"0"}},
	{name: "trim_verify_zero", harmless: noTrim},
	{name: "trim_backlog", refused: noTrim, neutral: []string{"0"}},
	{name: "trim_backlog_batch", refused: noTrim, neutral: []string{"0"}},
	{name: "zero_buffers", wants: wantsNothing, set: flagTo(func(j *Job) *bool { return &j.ZeroBuffers })},
	{name: "refill_buffers", wants: wantsNothing, set: flagTo(func(j *Job) *bool { return &j.RefillBuffers })},
	{name: "scramble_buffers", set: boolTo(func(j *Job) *bool { return &j.ScrambleBuffers })},
	{name: "buffer_pattern", set: setBufferPattern},
	{name: "buffer_compress_percentage", set: intTo(func(j *Job) *int { return &j.CompressPercentage }, 0, 100)},
	{name: "buffer_compress_chunk", set: intTo(func(j *Job) *int { return &j.CompressChunk }, 0, MaxBlock)},
	{name: "dedupe_percentage", set: intTo(func(j *Job) *int { return &j.DedupePercentage }, 0, 100)},
	{name: "dedupe_global", refused: "equal blocks are a job's own", neutral: []string{"0"}},
	{name: "dedupe_mode", refused: "equal blocks are repeated ones; there is no working set", neutral: []string{"repeat"}},
	{name: "dedupe_working_set_percentage", refused: "equal blocks are repeated ones; there is no working set"},
}
