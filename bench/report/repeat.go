package report

import (
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// repeats are the figures of all repetitions, in their order, for who compares them.
func (e *entry) repeats() object {
	var o object
	o.add("runs", len(e.runs))
	for d := range result.Trim {
		if e.res.Traffic[d].IOs == 0 {
			continue
		}
		of := func(f func(*result.Traffic) float64) list {
			var l list
			for _, r := range e.runs {
				l = append(l, f(&r.Traffic[d]))
			}
			return l
		}
		percentile := func(p float64) list {
			return of(func(t *result.Traffic) float64 { return float64(t.Total.Percentile(p)) })
		}
		var t object
		t.add("bw_bytes", of((*result.Traffic).BytesPerSecond))
		t.add("iops", of((*result.Traffic).PerSecond))
		t.add("lat_mean_ns", of(func(t *result.Traffic) float64 { return t.Total.Mean() }))
		t.add("p50_ns", percentile(50))
		t.add("p99_ns", percentile(99))
		t.add("p99.9_ns", percentile(99.9))
		o.add(d.String(), t)
	}
	var client, server list
	for _, r := range e.runs {
		client = append(client, perGiB(r.CPU.User+r.CPU.System, r.Bytes()))
		if r.CPU.ServerSeen {
			server = append(server, perGiB(r.CPU.ServerUser+r.CPU.ServerSystem, r.Bytes()))
		}
	}
	o.add("client_cpu_seconds_per_gib", client)
	if len(server) == len(e.runs) {
		o.add("server_cpu_seconds_per_gib", server)
	}
	return o
}

// blockSize is in bytes, or FROM-TO where it varies.
func (e *entry) blockSize() string {
	d := 0
	if !e.job.RW.Reads {
		d = 1
	}
	from, to := e.job.MinBS[d], e.job.MaxBS[d]
	if from == to {
		return strconv.FormatUint(from, 10)
	}
	return strconv.FormatUint(from, 10) + "-" + strconv.FormatUint(to, 10)
}

// circumstances are where and how it ran. Names of machines are not among them.
func (in *Input) circumstances() object {
	var machine, versions, o object
	if v := procField("/proc/cpuinfo", "model name"); v != "" {
		machine.add("cpu", v)
	}
	machine.add("cpus", runtime.NumCPU())
	machine.add("os", runtime.GOOS+"/"+runtime.GOARCH)
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		machine.add("kernel", strings.TrimSpace(string(b)))
	}
	if kib, err := strconv.ParseInt(strings.TrimSuffix(procField("/proc/meminfo", "MemTotal"), " kB"), 10, 64); err == nil {
		machine.add("memory_bytes", kib<<10)
	}
	versions.add("smbd-rdma", in.Version)
	versions.add("go", runtime.Version())
	o.add("machine", machine)
	o.add("versions", versions)
	o.add("command", in.Command)
	return o
}

// procField is the first value of a name in a file of lines NAME: VALUE.
func procField(file, name string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if n, v, found := strings.Cut(line, ":"); found && strings.TrimSpace(n) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
