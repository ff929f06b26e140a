package job

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The job files of Debian's fio-examples, and what is refused of each; the others run.
var refusedExamples = map[string]string{
	"butterfly.fio":               "flow=2: jobs are not weighed",
	"cmdprio-bssplit.fio":         "log_prio=1: I/Os have no priorities",
	"cmdprio-percentage.fio":      "log_prio=1: I/Os have no priorities",
	"cpp_null.fio":                "ioengine=cpp_null: this engine",
	"cpuio.fio":                   "ioengine=cpuio: burning",
	"dedupe-global.fio":           "dedupe_mode=working_set: equal blocks",
	"dev-dax.fio":                 "ioengine=dev-dax: this engine",
	"dfs.fio":                     "ioengine=dfs: this engine",
	"disk-zone-profile.fio":       "zonemode=strided: zoned",
	"e4defrag.fio":                "ioengine=e4defrag: this engine",
	"e4defrag2.fio":               "ioengine=e4defrag: this engine",
	"enospc-pressure.fio":         "rw=randtrim: nothing is trimmed",
	"exec.fio":                    "ioengine=exec: no programs",
	"falloc.fio":                  "ioengine=falloc: this engine",
	"filecreate-ioengine.fio":     "ioengine=filecreate: operations on names",
	"filedelete-ioengine.fio":     "ioengine=filedelete: operations on names",
	"filestat-ioengine.fio":       "ioengine=filestat: operations on names",
	"flow.fio":                    "flow_sleep=1000: jobs are not weighed",
	"ftruncate.fio":               "ioengine=ftruncate: this engine",
	"gfapi.fio":                   "ioengine=gfapi: GlusterFS",
	"gpudirect-rdmaio-client.fio": "ioengine=rdma: ioengine=rdma is ndk-write",
	"gpudirect-rdmaio-server.fio": "ioengine=rdma: ioengine=rdma is ndk-write",
	"http-s3-crypto.fio":          "ioengine=http: this engine",
	"http-s3-storage-class.fio":   "ioengine=http: this engine",
	"http-s3.fio":                 "ioengine=http: this engine",
	"http-swift.fio":              "ioengine=http: this engine",
	"http-webdav.fio":             "ioengine=http: this engine",
	"ime.fio":                     "ioengine=ime_psync: this engine",
	"libcufile-cufile.fio":        "ioengine=libcufile: this engine",
	"libcufile-posix.fio":         "ioengine=libcufile: this engine",
	"libhdfs.fio":                 "ioengine=libhdfs: this engine",
	"libiscsi.fio":                "ioengine=libiscsi: this engine",
	"libpmem.fio":                 "ioengine=libpmem: this engine",
	"librpma_apm-client.fio":      "ioengine=librpma_apm_client: this engine",
	"librpma_apm-server.fio":      "ioengine=librpma_apm_server: this engine",
	"librpma_gpspm-client.fio":    "ioengine=librpma_gpspm_client: this engine",
	"librpma_gpspm-server.fio":    "ioengine=librpma_gpspm_server: this engine",
	"libzbc-rand-write.fio":       "zonemode=zbd: zoned",
	"libzbc-seq-read.fio":         "zonemode=zbd: zoned",
	"mtd.fio":                     "ioengine=mtd: this engine",
	"nbd.fio":                     "ioengine=nbd: this engine",
	"netio.fio":                   "ioengine=net: bare sockets",
	"netio_multicast.fio":         "ioengine=net: bare sockets",
	"nfs.fio":                     "ioengine=nfs: NFS is measured",
	"numa.fio":                    "numa_cpu_nodes=0: jobs are not bound",
	"pmemblk.fio":                 "ioengine=pmemblk: this engine",
	"rados.fio":                   "ioengine=rados: this engine",
	"rbd.fio":                     "ioengine=rbd: this engine",
	"rdmaio-client.fio":           "ioengine=rdma: ioengine=rdma is ndk-write",
	"rdmaio-server.fio":           "ioengine=rdma: ioengine=rdma is ndk-write",
	"sg_verify-fail.fio":          "ioengine=sg: this engine",
	"sg_verify.fio":               "ioengine=sg: this engine",
	"sg_write_same_ndob.fio":      "ioengine=sg: this engine",
	"steadystate.fio":             "ss=iops:10%: a steady state",
	"surface-scan.fio":            "verify=meta: this checksum",
	"uring-cmd-ng.fio":            "ioengine=io_uring_cmd: this engine",
	"uring-cmd-zoned.fio":         "ioengine=io_uring_cmd: this engine",
	"xnvme-compare.fio":           "rw=${FIO_RW}: the value is empty; is the variable set?",
	"xnvme-zoned.fio":             "zonemode=zbd: zoned",
	"zbd-rand-write.fio":          "zonemode=zbd: zoned",
	"zbd-seq-read.fio":            "zonemode=zbd: zoned",
}

// Every example of fio's runs, or is refused in one line with the option or engine.
func TestExamples(t *testing.T) {
	dir := os.Getenv("FIO_EXAMPLES")
	if dir == "" {
		dir = "/usr/share/doc/fio/examples"
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.fio"))
	if len(files) == 0 {
		t.Skipf("no job files in %s: install fio-examples, or say in FIO_EXAMPLES where they are", dir)
	}
	env := System()
	env.Getenv = func(string) string { return "" }
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want := refusedExamples[filepath.Base(file)]
			plan, err := Parse([]string{file}, env)
			if err == nil {
				if want != "" {
					t.Errorf("it runs, but %q should be refused", want)
				}
				if len(plan.Jobs) == 0 {
					t.Error("it has no jobs")
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Line == 0 || e.Option == "" || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: one line with file, line and option is wanted", err)
			}
			if want == "" || !strings.Contains(err.Error(), want) {
				t.Errorf("got %q, want %q in it", err, want)
			}
		})
	}
}
