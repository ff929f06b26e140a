//go:build peers

package fio

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The tools that come with fio read what the bench leaves, and find in it what it says.
// (Debian's fiologparser is not among them: it wants lines of four numbers, and can't read
// those of five that fio 3.33 itself writes.)
func TestToolsOfFio(t *testing.T) {
	bin := os.Getenv("SMBD_RDMA_BIN")
	if bin == "" {
		t.Fatal("SMBD_RDMA_BIN does not say where smbd-rdma is")
	}
	dir := t.TempDir()
	run := func(t *testing.T, name string, words ...string) {
		t.Helper()
		cmd := exec.Command(name, words...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
		}
	}
	read := func(t *testing.T, name string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	job := []string{"--ioengine=null", "--rw=randrw", "--bs=4k", "--size=1g", "--number_ios=50000", "--iodepth=4", "--rate_iops=100k,50k",
		"--write_bw_log=x", "--write_iops_log=x", "--log_avg_msec=50", "--output-format=json+", "--name=a"}
	run(t, bin, append([]string{"bench", "--output=bench.json"}, job...)...)
	run(t, "fio", append([]string{"--output=fio.json"}, append(job[:len(job)-1:len(job)-1], "--write_bw_log=y", "--write_iops_log=y", "--name=a")...)...)

	t.Run("fio_jsonplus_clat2csv", func(t *testing.T) {
		var doc struct {
			Jobs []struct {
				Read, Write struct {
					IOs int64 `json:"total_ios"`
				}
			}
		}
		if err := json.Unmarshal([]byte(read(t, "bench.json")), &doc); err != nil {
			t.Fatal(err)
		}
		tables := map[string][][]string{}
		for _, who := range []string{"bench", "fio"} {
			run(t, "fio_jsonplus_clat2csv", who+".json", who+".csv")
			r := csv.NewReader(strings.NewReader(read(t, who+"_job0.csv")))
			r.TrimLeadingSpace = true
			rows, err := r.ReadAll()
			if err != nil || len(rows) < 2 {
				t.Fatalf("%s: %d lines, %v", who, len(rows), err)
			}
			tables[who] = rows
		}
		got, want := tables["bench"], tables["fio"]
		if fmt.Sprint(got[0]) != fmt.Sprint(want[0]) {
			t.Errorf("columns %q, of fio's own answer %q", got[0], want[0])
		}
		for name, ios := range map[string]int64{"read_clat_ns": doc.Jobs[0].Read.IOs, "write_clat_ns": doc.Jobs[0].Write.IOs} {
			last, before := int64(0), -1.0
			for _, row := range got[1:] {
				for i, head := range got[0] {
					if head == name+"_cumulative" && row[i] != "" {
						last, _ = strconv.ParseInt(row[i], 10, 64)
					}
				}
				ns, err := strconv.ParseFloat(row[0], 64)
				if err != nil || ns <= before {
					t.Fatalf("%s: latency %q behind %g", name, row[0], before)
				}
				before = ns
			}
			if last != ios || ios == 0 {
				t.Errorf("%s: %d I/Os in the table, %d in the answer", name, last, ios)
			}
		}
	})
	t.Run("fio2gnuplot", func(t *testing.T) {
		for flag, kind := range map[string]string{"-b": "bw", "-i": "iops"} {
			run(t, "fio2gnuplot", flag, "-p", "x_"+kind+"*.log")
			sum, n := 0.0, 0
			for line := range strings.Lines(read(t, "x_"+kind+".1.log")) {
				v, err := strconv.ParseFloat(strings.TrimSpace(strings.Split(line, ",")[1]), 64)
				if err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				sum, n = sum+v, n+1
			}
			text := read(t, "x_"+kind+".global")
			var found float64
			count := 0
			for line := range strings.Lines(text) {
				line = strings.TrimSpace(line)
				if v, ok := strings.CutPrefix(line, "avg="); ok {
					found, _ = strconv.ParseFloat(v, 64)
				}
				if v, ok := strings.CutPrefix(line, "values_count="); ok {
					count, _ = strconv.Atoi(v)
				}
			}
			if n == 0 || count != n || math.Abs(found-sum/float64(n)) > 0.01 {
				t.Errorf("%s: the log has %d values of %.2f in the mean, and fio2gnuplot finds\n%s", kind, n, sum/float64(n), text)
			}
		}
	})
}
