package result

import (
	"encoding/json"
	"math"
	"testing"
	"time"
)

func latencies(values ...int64) *Latency {
	l := new(Latency)
	for _, v := range values {
		l.Record(v)
	}
	return l
}

// Count, minimum, maximum, mean and deviation are exact; percentiles have three digits
// and never pass the maximum.
func TestLatency(t *testing.T) {
	for _, c := range []struct {
		values    []int64
		min, max  int64
		mean, dev float64
		p50, p100 int64
	}{
		{nil, 0, 0, 0, 0, 0, 0},
		{[]int64{7}, 7, 7, 7, 0, 7, 7},
		{[]int64{2, 4, 4, 4, 5, 5, 7, 9}, 2, 9, 5, 2.1380899, 4, 9},
		{[]int64{-5, 1}, 0, 1, 0.5, 0.7071068, 0, 1}, // a clock that went backwards
		{[]int64{1000, 2 * MaxLatency}, 1000, 2 * MaxLatency, MaxLatency + 500, 5.0911688e12, 1000, 2 * MaxLatency},
	} {
		l := latencies(c.values...)
		p100 := l.Percentile(100)
		if c.max > MaxLatency { // which is as far as the histogram goes
			p100 = max(p100, c.p100)
		}
		if l.Count() != int64(len(c.values)) || l.Min() != c.min || l.Max() != c.max || l.Mean() != c.mean || math.Abs(l.Deviation()-c.dev) > c.dev*1e-6 || l.Percentile(50) != c.p50 || p100 != c.p100 {
			t.Errorf("%d: %d %d %d %g %g %d %d", c.values, l.Count(), l.Min(), l.Max(), l.Mean(), l.Deviation(), l.Percentile(50), l.Percentile(100))
		}
	}
}

// What is added up is as if one had recorded it all, and JSON loses nothing.
func TestMergeAndJSON(t *testing.T) {
	all, a, b := new(Latency), new(Latency), new(Latency)
	for i := range int64(10_000) {
		v := i * i % 977 * 1000
		all.Record(v)
		if i%3 == 0 {
			a.Record(v)
		} else {
			b.Record(v)
		}
	}
	a.Merge(b)
	a.Merge(new(Latency))
	text, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var back Latency
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	clone := a.Clone()
	a.Record(1)
	for name, l := range map[string]*Latency{"merged": &clone, "read back": &back} {
		if l.Count() != all.Count() || l.Min() != all.Min() || l.Max() != all.Max() || l.Mean() != all.Mean() || math.Abs(l.Deviation()-all.Deviation()) > 1e-6*all.Deviation() {
			t.Errorf("%s: %d %d %d %g %g", name, l.Count(), l.Min(), l.Max(), l.Mean(), l.Deviation())
		}
		for p := 0.0; p <= 100; p += 2.5 {
			if l.Percentile(p) != all.Percentile(p) {
				t.Errorf("%s: percentile %g: %d, want %d", name, p, l.Percentile(p), all.Percentile(p))
			}
		}
	}
	all.Reset()
	if all.Count() != 0 || all.Percentile(99) != 0 || all.Bins() != nil {
		t.Error("something is left after Reset")
	}
}

// JSON that lies is refused.
func TestBadJSON(t *testing.T) {
	for _, s := range []string{`{"count":-1}`, `{"count":1,"min":5,"max":4}`, `{"count":1,"min":1,"max":1}`, `{"count":1,"min":1,"max":1,"hdr":"AAAA"}`, `[]`} {
		var l Latency
		if err := json.Unmarshal([]byte(s), &l); err == nil {
			t.Errorf("%s is accepted", s)
		}
	}
}

func TestNoAllocationPerRecord(t *testing.T) {
	l := latencies(1)
	if n := testing.AllocsPerRun(1000, func() { l.Record(12345) }); n != 0 {
		t.Errorf("%g allocations", n)
	}
}

// Samples keep their figures exactly and their course within bounds.
func TestSamples(t *testing.T) {
	var s Samples
	const n = 3*maxPoints + 17
	for i := range n {
		s.Add(time.Duration(i)*time.Second, float64(i%10))
	}
	if s.Count() != n || s.Min() != 0 || s.Max() != 9 || math.Abs(s.Mean()-4.5) > 0.01 || len(s.Points) > maxPoints || len(s.Points) < maxPoints/4 {
		t.Errorf("%d samples, %g to %g, mean %g, %d points", s.Count(), s.Min(), s.Max(), s.Mean(), len(s.Points))
	}
	for i := 1; i < len(s.Points); i++ {
		if s.Points[i].At <= s.Points[i-1].At {
			t.Fatalf("point %d is at %v, after %v", i, s.Points[i].At, s.Points[i-1].At)
		}
	}
	if last := s.Points[len(s.Points)-1].At; last != (n-1)*time.Second {
		t.Errorf("the last is at %v", last)
	}
}

// Of jobs that ran side by side bandwidths are added, at each moment too.
func TestSamplesMerge(t *testing.T) {
	var a, b Samples
	for i := 1; i <= 4; i++ {
		a.Add(time.Duration(i)*time.Second, 100)
		b.Add(time.Duration(i)*time.Second+time.Millisecond/2, float64(10*i))
	}
	a.Merge(&b)
	if a.Count() != 8 || a.Min() != 110 || a.Max() != 140 || a.Mean() != 125 {
		t.Errorf("%d samples, %g to %g, mean %g", a.Count(), a.Min(), a.Max(), a.Mean())
	}
	for i, p := range a.Points {
		if want := 100 + 10*float64(i+1); p.Value != want {
			t.Errorf("at %v: %g, want %g", p.At, p.Value, want)
		}
	}
}

// fio's classes of depths and of batches.
func TestClasses(t *testing.T) {
	for n, want := range map[int]int{0: 0, 1: 0, 2: 1, 3: 1, 4: 2, 7: 2, 8: 3, 16: 4, 31: 4, 32: 5, 63: 5, 64: 6, 1000: 6} {
		if got := DepthClass(n); got != want {
			t.Errorf("depth %d is in class %d, want %d", n, got, want)
		}
	}
	for n, want := range map[int]int{0: 0, 1: 1, 4: 1, 5: 2, 8: 2, 9: 3, 16: 3, 32: 4, 64: 5, 65: 6} {
		if got := BatchClass(n); got != want {
			t.Errorf("batch %d is in class %d, want %d", n, got, want)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	l := latencies(1)
	v := int64(1)
	b.ReportAllocs()
	for b.Loop() {
		v = v*6364136223846793005 + 1442695040888963407
		l.Record(v >> 44 & 0xfffff)
	}
}
