package compare

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/bench/result"
	"github.com/smbd-rdma/smbd-rdma/bench/saved"
)

func document(label, job string, bandwidth, p99 []float64) *saved.Document {
	j := &saved.Job{Name: job}
	j.Traffic[result.Read] = saved.Traffic{IOs: 1, Runs: saved.Runs{Bandwidth: bandwidth, P99: p99}}
	return &saved.Document{Label: label, Jobs: []*saved.Job{j}}
}

// p of four and four that do not overlap is 2/C(8,4) = 2/70.
func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		name     string
		a, b     []float64
		verdict  Verdict
		p, delta float64
	}{
		{"apart, faster", []float64{1, 2, 3, 4}, []float64{5, 6, 7, 8}, Better, 2. / 70, 6.5/2.5 - 1},
		{"apart, slower", []float64{5, 6, 7, 8}, []float64{1, 2, 3, 4}, Worse, 2. / 70, 2.5/6.5 - 1},
		{"interleaved", []float64{1, 3, 5, 7}, []float64{2, 4, 6, 8}, Noise, 48. / 70, 0.25},
		{"three runs", []float64{1, 2, 3}, []float64{5, 6, 7}, TooFew, 0.1, 2},
		{"one run", []float64{1}, []float64{5}, TooFew, 1, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			tab, err := Documents([]*saved.Document{document("a", "j", c.a, nil)}, []*saved.Document{document("b", "j", c.b, nil)})
			if err != nil {
				t.Fatal(err)
			}
			r := tab.Rows[0]
			if len(tab.Rows) != 1 || r.Verdict != c.verdict || math.Abs(r.Comparison.P-c.p) > 1e-9 || math.Abs(r.Delta-c.delta) > 1e-9 {
				t.Fatalf("%v, p %v, delta %v", r.Verdict, r.Comparison.P, r.Delta)
			}
		})
	}
}

// Less latency is better.
func TestLowerIsBetter(t *testing.T) {
	tab, err := Documents([]*saved.Document{document("a", "j", []float64{1, 2, 3, 4}, []float64{10, 11, 12, 13})},
		[]*saved.Document{document("b", "j", []float64{1, 2, 3, 4}, []float64{1, 2, 3, 4})})
	if err != nil {
		t.Fatal(err)
	}
	if tab.Rows[0].Verdict != Noise || tab.Rows[1].Figure != "p99" || tab.Rows[1].Verdict != Better {
		t.Fatalf("%+v", tab.Rows)
	}
}

// Several documents of a side are repetitions; jobs of one side are named.
func TestDocuments(t *testing.T) {
	var a, b []*saved.Document
	for i := range 5 {
		a = append(a, document("a.json", "j", []float64{float64(100 + i)}, nil))
		b = append(b, document("b.json", "j", []float64{float64(200 + i)}, nil))
	}
	a = append(a, document("c.json", "old", []float64{1}, nil))
	b = append(b, document("d.json", "new", []float64{1}, nil))
	tab, err := Documents(a, b)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := tab.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"B is better", "+98.0%", "p=0.008 n=5", "only in A: old (read)", "only in B: new (read)",
		"Of 1: B is faster in 1.", "102 B/s", "202 B/s"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	_, err = Documents(a[5:], b[5:])
	if !errors.Is(err, ErrNothingInCommon) {
		t.Error(err)
	}
}
