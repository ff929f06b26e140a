package main

import (
	"strings"
	"testing"
)

// What the bench says is told, and not the password that it was given.
func TestBench(t *testing.T) {
	for _, c := range []struct {
		name, script string
		rate         float64
		err          string
	}{
		{"reads", `echo '{"jobs": [{"read": {"bw_bytes": 7}, "write": {"bw_bytes": 0}}]}'`, 7, ""},
		{"writes", `echo '{"jobs": [{"read": {"bw_bytes": 0}, "write": {"bw_bytes": 8}}]}'`, 8, ""},
		{"fails", `echo no such share >&2; exit 2`, 0, "no such share"},
		{"nothing", `echo '{"jobs": []}'`, 0, "0 jobs"},
		{"no answer", `echo oops`, 0, "invalid character"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rate, err := bench(t.Context(), "sh", []string{"-c", c.script, "bench", "--user=guest%SeCrEt"})
			if (err != nil) != (c.err != "") || rate != c.rate {
				t.Fatalf("%v, %v; want %v, %q", rate, err, c.rate, c.err)
			}
			if err != nil && (!strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "SeCrEt")) {
				t.Error(err)
			}
		})
	}
}

// The table has medians, and what the library's is of each, of the same direction.
func TestRenderWithout(t *testing.T) {
	got := map[string][]float64{}
	for i, r := range withoutRows {
		got[r.name] = []float64{4e9, 1e9, 2e9}
		if r.write {
			got[r.name] = []float64{1e9 * float64(i)}
		}
	}
	text := renderWithout(got)
	for _, want := range []string{
		"| library, read | `--ioengine=smbdirect --rw=read` | 2000 | |\n",
		"| RDMA Read of a few buffers | `--ioengine=ndk-read --rw=read` | 2000 | 1.00 of it |\n",
		"| library, write | `--ioengine=smbdirect --rw=write` | 4000 | |\n",
		"| RDMA Write to memory as long as the file | `--ioengine=ndk-write --rw=write --peer_memory=size` | 5000 | 0.80 of it |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
