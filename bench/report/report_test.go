package report

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// A number has at most so many characters, a decimal point among them.
func TestNumber(t *testing.T) {
	for _, c := range []struct {
		n      uint64
		binary bool
		unit   string
		want   string
	}{
		{0, false, "", "0"},
		{9999, false, "", "9999"},
		{15030, false, "", "15.0k"},
		{8799000, false, "", "8799k"},
		{2031616, true, "B", "1984KiB"},
		{61558497, true, "B/s", "58.7MiB/s"},
		{61558497, false, "B/s", "61.6MB/s"},
		{4194304, true, "B", "4096KiB"},
		{36 << 30, true, "B/s", "36.0GiB/s"},
		{1 << 30, false, "B", "1074MB"},
	} {
		if got := number(c.n, 4, c.binary, c.unit); got != c.want {
			t.Errorf("number(%d, binary %v): %s, want %s", c.n, c.binary, got, c.want)
		}
	}
}

// fio's bins: each value below 128 has one, and above there are 64 for each doubling,
// which stand for their middle.
func TestBins(t *testing.T) {
	for _, c := range []struct{ v, stands int64 }{
		{0, 0}, {127, 127}, {128, 129}, {129, 129}, {130, 131}, {255, 255},
		{256, 258}, {259, 258}, {260, 262}, {45878, 45824}, {6383647, 6389760},
	} {
		if got := fioValue(fioBin(c.v)); got != c.stands {
			t.Errorf("%d ns stands for %d, want %d", c.v, got, c.stands)
		}
	}
}

// What a job had of the bandwidth is a part of that of its group.
func TestShareOfTheGroup(t *testing.T) {
	in := sample()
	alone := *in.Plan.Jobs[0]
	alone.Group = 1
	in.Plan.Jobs = append(in.Plan.Jobs, in.Plan.Jobs[0], &alone)
	in.Results = append(in.Results, in.Results[0], in.Results[0])
	// Samples of 2000 KiB/s in the mean, of 2000 KiB/s (4,096,000 bytes in 2 s) that each
	// job has in the whole.
	for i, want := range []json.Number{"50.000000", "50.000000", "100.000000"} {
		job := decode(t, write(t, job.FormatJSON, in))["jobs"].([]any)[i].(map[string]any)
		if got := job["read"].(map[string]any)["bw_agg"]; got != want {
			t.Errorf("job %d: %v%%, want %v", i, got, want)
		}
	}
	if text := string(write(t, job.FormatNormal, in)); strings.Count(text, "per=50.00%") != 4 || strings.Count(text, "per=100.00%") != 2 {
		t.Error(text)
	}
	if text := string(write(t, job.FormatTerse, in)); strings.Count(text, ";50.000000%;2000") != 4 {
		t.Error(text)
	}
	if got := in.sums(7); got != [result.Directions]float64{} {
		t.Errorf("a group of nobody: %v", got)
	}
}
