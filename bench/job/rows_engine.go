package job

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

var (
	smbEngines = []Engine{EngineSMB, EngineSMBDirect, EngineGoSMB2}
	ndkEngines = []Engine{EngineNDKWrite, EngineNDKRead, EngineNDKSend}
	ourEngines = []Engine{EngineSMB, EngineSMBDirect}
	rdmaOnly   = []Engine{EngineSMBDirect}
	remotes    = []Engine{EngineSMB, EngineSMBDirect, EngineGoSMB2, EngineNDKWrite, EngineNDKRead, EngineNDKSend}
)

// oneOf is of words that stand for themselves.
func oneOf(field func(*Job) *string, words ...string) setter {
	return func(s *state, a arg) error {
		for _, w := range words {
			if a.text == w {
				*field(&s.j) = w
				return nil
			}
		}
		return notAWord(a.text, words)
	}
}

func setServer(s *state, a arg) error {
	if strings.ContainsAny(a.text, "/\\ ") {
		return errors.New("a host, or host:port, is asked for; the share is share=")
	}
	s.j.Remote.Server = a.text
	return nil
}

func setShare(s *state, a arg) error {
	if strings.ContainsAny(a.text, "/\\") {
		return errors.New("the name of a share is asked for; where in it is directory=")
	}
	s.j.Remote.Share = a.text
	return nil
}

func setMetrics(s *state, a arg) error {
	u, err := url.Parse(a.text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%q is not a URL like http://server:9090/metrics", a.text)
	}
	s.j.Remote.Metrics = a.text
	return nil
}

// MaxChannels is how many connections an engine may be asked for.
const MaxChannels = 32

// engineOptions are those that only some engines of ours take.
var engineOptions = []option{
	{name: "server", engines: remotes, set: setServer},
	{name: "share", engines: smbEngines, set: setShare},
	{name: "user", engines: smbEngines, set: textTo(func(j *Job) *string { return &j.Remote.User })},
	{name: "password", engines: smbEngines, set: textTo(func(j *Job) *string { return &j.Remote.Password })},
	{name: "credentials", engines: smbEngines, set: textTo(func(j *Job) *string { return &j.Remote.Credentials })},
	{name: "transport", engines: smbEngines, set: oneOf(func(j *Job) *string { return &j.Remote.Transport }, "tcp", "iwarp", "verbs")},
	{name: "provider", engines: ndkEngines, set: oneOf(func(j *Job) *string { return &j.Remote.Provider }, "iwarp", "verbs")},
	{name: "peer_memory", engines: []Engine{EngineNDKWrite, EngineNDKRead}, set: oneOf(func(j *Job) *string { return &j.Remote.PeerMemory }, "iodepth", "size")},
	{name: "source", engines: []Engine{EngineNDKWrite}, set: textTo(func(j *Job) *string { return &j.Remote.Source })},
	{name: "channels", engines: ourEngines, set: intTo(func(j *Job) *int { return &j.Remote.Channels }, 0, MaxChannels)},
	{name: "signing", engines: smbEngines, set: oneOf(func(j *Job) *string { return &j.Remote.Signing }, "if-required", "required", "off")},
	{name: "encryption", engines: ourEngines, set: oneOf(func(j *Job) *string { return &j.Remote.Encryption }, "off", "required")},
	{name: "rdma_threshold", engines: rdmaOnly, set: intTo(func(j *Job) *int { return &j.Remote.RDMAThreshold }, 1, MaxBlock)},
	{name: "metrics", engines: smbEngines, set: setMetrics},
}

var (
	submission = "local files are not read and written by this engine's system calls"
	priorities = "I/Os have no priorities"
)

// otherOptions are of fio's process, of its machine, and of its engines for local files.
var otherOptions = []option{
	{name: "mem", aliases: []string{"iomem"}, harmless: "engines allocate the memory that they need"},
	{name: "iomem_align", aliases: []string{"mem_align"}, harmless: "buffers are aligned to pages"},
	{name: "hugepage-size", harmless: "engines allocate the memory that they need"},
	{name: "clocksource", harmless: "there is one clock, the monotonic one"},
	{name: "gtod_cpu", harmless: "there is one clock, the monotonic one"},
	{name: "cpus_allowed_policy", harmless: "jobs are not bound to processors"},
	{name: "cpumask", refused: "jobs are not bound to processors; start the bench with taskset"},
	{name: "cpus_allowed", refused: "jobs are not bound to processors; start the bench with taskset"},
	{name: "numa_cpu_nodes", refused: "jobs are not bound to nodes; start the bench with numactl"},
	{name: "numa_mem_policy", refused: "jobs are not bound to nodes; start the bench with numactl"},
	{name: "nice", refused: "start the bench with nice", neutral: []string{"0"}},
	{name: "prio", refused: "I/Os have no priorities; start the bench with ionice"},
	{name: "prioclass", refused: "I/Os have no priorities; start the bench with ionice"},
	{name: "cgroup", refused: "start the bench in a cgroup"},
	{name: "cgroup_nodelete", refused: "start the bench in a cgroup", neutral: []string{"0"}},
	{name: "cgroup_weight", refused: "start the bench in a cgroup"},
	{name: "uid", refused: "start the bench as that user"},
	{name: "gid", refused: "start the bench as that group"},
	{name: "lockmem", refused: "memory is not locked", neutral: []string{"0"}},
	{name: "ioscheduler", refused: "the scheduler of a device is not changed"},
	{name: "exec_prerun", refused: "no programs are run from job files"},
	{name: "exec_postrun", refused: "no programs are run from job files"},
	{name: "profile", refused: "there are no profiles; use a job file"},
	{name: "gpu_dev_id", refused: "no memory of a GPU is used"},
	{name: "read_iolog", refused: "logs of I/O are not replayed"},
	{name: "read_iolog_chunked", refused: "logs of I/O are not replayed", neutral: []string{"0"}},
	{name: "write_iolog", refused: "logs of I/O are not written; use write_lat_log with log_offset"},
	{name: "replay_no_stall", refused: "logs of I/O are not replayed", neutral: []string{"0"}},
	{name: "replay_redirect", refused: "logs of I/O are not replayed"},
	{name: "replay_scale", refused: "logs of I/O are not replayed", neutral: []string{"1"}},
	{name: "replay_align", refused: "logs of I/O are not replayed"},
	{name: "replay_time_scale", refused: "logs of I/O are not replayed", neutral: []string{"100"}},
	{name: "replay_skip", refused: "logs of I/O are not replayed"},
	{name: "merge_blktrace_file", refused: "logs of I/O are not replayed"},
	{name: "merge_blktrace_scalars", refused: "logs of I/O are not replayed"},
	{name: "merge_blktrace_iters", refused: "logs of I/O are not replayed"},
	{name: "rwmixcycle", refused: "it is gone from fio too"},
	// Of libaio, io_uring and pvsync2.
	{name: "userspace_reap", wants: wantsNothing, harmless: submission},
	{name: "fixedbufs", wants: wantsNothing, harmless: submission},
	{name: "registerfiles", wants: wantsNothing, harmless: submission},
	{name: "sqthread_poll", wants: wantsNothing, harmless: submission},
	{name: "sqthread_poll_cpu", harmless: submission},
	{name: "nonvectored", harmless: submission},
	{name: "force_async", harmless: submission},
	{name: "hipri", wants: wantsNothing, refused: "completions are not polled for", neutral: []string{"0"}},
	{name: "hipri_percentage", refused: "completions are not polled for"},
	{name: "nowait", refused: "requests that would wait are not refused", neutral: []string{"0"}},
	{name: "uncached", refused: "use direct=1", neutral: []string{"0"}},
	{name: "cmdprio", refused: priorities},
	{name: "cmdprio_bssplit", refused: priorities},
	{name: "cmdprio_class", refused: priorities},
	{name: "cmdprio_percentage", refused: priorities, neutral: []string{"0"}},
}

// foreignOptions are of engines of fio's that are not here.
var foreignOptions = func() []option {
	var rows []option
	for _, group := range []struct{ engines, names string }{
		{"net", "listen interface mss nodelay pingpong protocol ttl window_size"},
		{"net and rdma", "hostname port"},
		{"rdma", "bindname verb"},
		{"cpuio", "cpuload cpuchunks cpumode exit_on_io_done"},
		{"exec", "program arguments grace_time std_redirect"},
		{"rados and rbd", "busy_poll clientname clustername conf pool rbdname touch_objects"},
		{"gfapi", "brick volume single-instance"},
		{"e4defrag", "donorname inplace"},
		{"sg", "readfua writefua sg_write_mode stream_id"},
		{"filestat", "stat_type"},
		{"io_uring_cmd", "cmd_type"},
		{"mmap", "thp"},
		{"mtd", "skip_bad"},
		{"nbd", "uri"},
	} {
		for name := range strings.FieldsSeq(group.names) {
			rows = append(rows, option{name: name, refused: "it belongs to fio's engine " + group.engines + ", which is not here"})
		}
	}
	// A job file with it runs in fio, where it has no effect without the profile.
	return append(rows, option{name: "threads", harmless: "it is of fio's profile tiobench"})
}()
