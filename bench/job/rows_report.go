package job

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxPercentiles is how many entries percentile_list has at most, as in fio.
const maxPercentiles = 20

func setPercentiles(s *state, a arg) error {
	var list []float64
	precision := 0
	for entry := range strings.SplitSeq(a.text, ":") {
		f, err := parseFloat(entry, 0, 100)
		if err != nil {
			return err
		}
		if list = append(list, f); len(list) > maxPercentiles {
			return fmt.Errorf("there are more than %d percentiles", maxPercentiles)
		}
		if _, frac, ok := strings.Cut(strings.TrimSpace(entry), "."); ok {
			precision = max(precision, len(frac))
		}
	}
	s.j.PercentileList, s.j.PercentilePrecision = list, precision
	return nil
}

// logTo is of options that ask for a log, with or without a name.
func logTo(field func(*Job) *string, wanted func(*state) *bool) setter {
	return func(s *state, a arg) error {
		*wanted(s) = true
		if !a.bare {
			*field(&s.j) = a.text
		}
		return nil
	}
}

// errnos are those that have names in ignore_error.
var errnos = map[string]syscall.Errno{
	"EPERM": syscall.EPERM, "ENOENT": syscall.ENOENT, "ESRCH": syscall.ESRCH, "EINTR": syscall.EINTR, "EIO": syscall.EIO,
	"ENXIO": syscall.ENXIO, "E2BIG": syscall.E2BIG, "ENOEXEC": syscall.ENOEXEC, "EBADF": syscall.EBADF, "ECHILD": syscall.ECHILD,
	"EAGAIN": syscall.EAGAIN, "ENOMEM": syscall.ENOMEM, "EACCES": syscall.EACCES, "EFAULT": syscall.EFAULT, "ENOTBLK": syscall.ENOTBLK,
	"EBUSY": syscall.EBUSY, "EEXIST": syscall.EEXIST, "EXDEV": syscall.EXDEV, "ENODEV": syscall.ENODEV, "ENOTDIR": syscall.ENOTDIR,
	"EISDIR": syscall.EISDIR, "EINVAL": syscall.EINVAL, "ENFILE": syscall.ENFILE, "EMFILE": syscall.EMFILE, "ENOTTY": syscall.ENOTTY,
	"ETXTBSY": syscall.ETXTBSY, "EFBIG": syscall.EFBIG, "ENOSPC": syscall.ENOSPC, "ESPIPE": syscall.ESPIPE, "EROFS": syscall.EROFS,
	"EMLINK": syscall.EMLINK, "EPIPE": syscall.EPIPE, "EDOM": syscall.EDOM, "ERANGE": syscall.ERANGE,
}

// setIgnoreError reads READ,WRITE,VERIFY, each a list of errnos with colons, which ends where
// there is nothing between two. Errors that do not count do not end the job either.
func setIgnoreError(s *state, a arg) error {
	kinds := strings.Split(a.text, ",")
	if len(kinds) > 3 {
		return fmt.Errorf("%q has more than three parts (reads, writes, verification)", a.text)
	}
	for i, kind := range kinds {
		var list []int
		for name := range strings.SplitSeq(kind, ":") {
			if name == "" {
				break
			}
			n, ok := errnos[name]
			if v, err := strconv.Atoi(strings.TrimPrefix(name, "-")); err == nil && v > 0 && v < 4096 {
				n, ok = syscall.Errno(v), true
			}
			if !ok {
				return fmt.Errorf("%q is not an error like EIO, or its number", name)
			}
			list = append(list, int(n))
		}
		if len(list) > 0 {
			s.j.IgnoreErrors[i] = list
			s.j.ContinueOnError |= 1 << i
		}
	}
	return nil
}

var continues = map[string]ErrorKinds{
	"none": 0, "0": 0, "read": ErrorRead, "write": ErrorWrite, "io": ErrorRead | ErrorWrite, "verify": ErrorVerify,
	"all": ErrorRead | ErrorWrite | ErrorVerify, "1": ErrorRead | ErrorWrite | ErrorVerify,
}

// setReduce is gtod_reduce=1: no latencies, no samples of the rate.
func setReduce(s *state, a arg) error {
	v, err := parseBool(a.text)
	if err == nil && v {
		s.j.DisableLat, s.j.DisableClat, s.j.DisableSlat, s.j.DisableBW = true, true, true, true
		s.j.ClatPercentiles, s.j.LatPercentiles, s.j.SlatPercentiles = false, false, false
	}
	return err
}

var (
	plainLogs  = "logs are plain text"
	histograms = "histograms are not logged; --output-format=json+ has them"
)

// reportOptions say what is reported.
var reportOptions = []option{
	{name: "clat_percentiles", set: boolTo(func(j *Job) *bool { return &j.ClatPercentiles })},
	{name: "lat_percentiles", set: boolTo(func(j *Job) *bool { return &j.LatPercentiles })},
	{name: "slat_percentiles", set: boolTo(func(j *Job) *bool { return &j.SlatPercentiles })},
	{name: "percentile_list", set: setPercentiles},
	{name: "significant_figures", set: intTo(func(j *Job) *int { return &j.SignificantFigures }, 1, 10)},
	{name: "gtod_reduce", set: setReduce},
	{name: "disable_lat", set: boolTo(func(j *Job) *bool { return &j.DisableLat })},
	{name: "disable_clat", set: boolTo(func(j *Job) *bool { return &j.DisableClat })},
	{name: "disable_slat", set: boolTo(func(j *Job) *bool { return &j.DisableSlat })},
	{name: "disable_bw_measurement", aliases: []string{"disable_bw"}, set: boolTo(func(j *Job) *bool { return &j.DisableBW })},
	{name: "bwavgtime", set: millisTo(func(j *Job) *time.Duration { return &j.BWAvgTime })},
	{name: "iopsavgtime", set: millisTo(func(j *Job) *time.Duration { return &j.IOPSAvgTime })},
	{name: "write_bw_log", wants: wantsMaybe, set: logTo(func(j *Job) *string { return &j.Logs.BW }, func(s *state) *bool { return &s.logs.bw })},
	{name: "write_lat_log", wants: wantsMaybe, set: logTo(func(j *Job) *string { return &j.Logs.Lat }, func(s *state) *bool { return &s.logs.lat })},
	{name: "write_iops_log", wants: wantsMaybe, set: logTo(func(j *Job) *string { return &j.Logs.IOPS }, func(s *state) *bool { return &s.logs.iops })},
	{name: "write_hist_log", wants: wantsMaybe, set: logTo(func(j *Job) *string { return &j.Logs.Hist }, func(s *state) *bool { return &s.logs.hist })},
	{name: "log_avg_msec", set: millisTo(func(j *Job) *time.Duration { return &j.Logs.Avg })},
	{name: "log_hist_msec", refused: histograms, neutral: []string{"0"}},
	{name: "log_hist_coarseness", refused: histograms, neutral: []string{"0"}},
	{name: "log_max_value", set: boolTo(func(j *Job) *bool { return &j.Logs.Max })},
	{name: "log_offset", set: boolTo(func(j *Job) *bool { return &j.Logs.Offset })},
	{name: "log_unix_epoch", set: boolTo(func(j *Job) *bool { return &j.Logs.Epoch })},
	{name: "log_alternate_epoch", refused: "use log_unix_epoch", neutral: []string{"0"}},
	{name: "log_alternate_epoch_clock_id", refused: "use log_unix_epoch"},
	{name: "log_prio", refused: "I/Os have no priorities", neutral: []string{"0"}},
	{name: "per_job_logs", set: boolTo(func(j *Job) *bool { return &j.Logs.PerJob })},
	{name: "log_entries", harmless: "logs grow as they need"},
	{name: "log_compression", refused: plainLogs},
	{name: "log_compression_cpus", refused: plainLogs},
	{name: "log_store_compressed", refused: plainLogs, neutral: []string{"0"}},
	{name: "unified_rw_reporting", set: wordTo(func(j *Job) *Unified { return &j.Unified }, map[string]Unified{"none": UnifiedNone, "0": UnifiedNone, "mixed": UnifiedMixed, "1": UnifiedMixed, "both": UnifiedBoth, "2": UnifiedBoth})},
	{name: "stats", set: boolTo(func(j *Job) *bool { return &j.Stats })},
	{name: "kb_base", prio: 1, set: wordTo(func(j *Job) *int { return &j.KBBase }, map[string]int{"1024": 1024, "1000": 1000})},
	{name: "unit_base", prio: 1, set: wordTo(func(j *Job) *int { return &j.UnitBase }, map[string]int{"0": 0, "8": 8, "1": 1})},
	{name: "continue_on_error", set: wordTo(func(j *Job) *ErrorKinds { return &j.ContinueOnError }, continues)},
	{name: "ignore_error", set: setIgnoreError},
	{name: "error_dump", harmless: "errors are in the answer, once"},
	{name: "block_error_percentiles", refused: "blocks of flash memory are not counted", neutral: []string{"0"}},
	{name: "disk_util", harmless: "there are no statistics of disks"},
}
