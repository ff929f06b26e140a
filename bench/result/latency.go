package result

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// MaxLatency is the longest latency that is told from longer ones, in nanoseconds.
const MaxLatency = 3600 * 1e9

const digits = 3

// Latency is how long many operations took. The zero value has none.
type Latency struct {
	n        int64
	min, max int64
	sum, sq  float64
	h        *hdrhistogram.Histogram // nil while there is nothing
}

// Record adds an operation of so many nanoseconds. A clock that went backwards counts
// as 0.
func (l *Latency) Record(ns int64) {
	if l.h == nil {
		l.h = hdrhistogram.New(1, MaxLatency, digits)
		l.min = math.MaxInt64
	}
	ns = max(ns, 0)
	l.min, l.max = min(l.min, ns), max(l.max, ns)
	l.n++
	f := float64(ns)
	l.sum += f
	l.sq += f * f
	_ = l.h.RecordValue(min(ns, MaxLatency)) // in range
}

// Count is how many operations there were.
func (l *Latency) Count() int64 { return l.n }

// Min is the shortest, 0 if there was none.
func (l *Latency) Min() int64 {
	if l.n == 0 {
		return 0
	}
	return l.min
}

// Max is the longest.
func (l *Latency) Max() int64 { return l.max }

// Mean is the arithmetic mean.
func (l *Latency) Mean() float64 {
	if l.n == 0 {
		return 0
	}
	return l.sum / float64(l.n)
}

// Deviation is the standard deviation of the sample.
func (l *Latency) Deviation() float64 {
	if l.n < 2 {
		return 0
	}
	n := float64(l.n)
	return math.Sqrt(max(0, (l.sq-l.sum*l.sum/n)/(n-1)))
}

// Percentile is the latency that p percent (0 to 100) of the operations did not exceed,
// to three digits. It is never beyond Max.
func (l *Latency) Percentile(p float64) int64 {
	if l.n == 0 {
		return 0
	}
	return min(l.h.ValueAtPercentile(p), l.max)
}

// Merge adds what another one has.
func (l *Latency) Merge(o *Latency) {
	if o.n == 0 {
		return
	}
	if l.h == nil {
		l.h = hdrhistogram.New(1, MaxLatency, digits)
		l.min = math.MaxInt64
	}
	l.min, l.max = min(l.min, o.min), max(l.max, o.max)
	l.n += o.n
	l.sum += o.sum
	l.sq += o.sq
	l.h.Merge(o.h) // of the same geometry: nothing is dropped
}

// Clone is a copy that shares nothing.
func (l *Latency) Clone() Latency {
	var c Latency
	c.Merge(l)
	return c
}

// Reset forgets everything and keeps the memory.
func (l *Latency) Reset() {
	h := l.h
	*l = Latency{}
	if h != nil {
		h.Reset()
		l.h, l.min = h, math.MaxInt64
	}
}

// Bin is a range of latencies that are not told apart.
type Bin struct {
	From, To int64 // nanoseconds, both inclusive
	Count    int64
}

// Bins are those that have something, shortest first.
func (l *Latency) Bins() []Bin {
	if l.n == 0 {
		return nil
	}
	var bins []Bin
	for _, b := range l.h.Distribution() {
		if b.Count > 0 {
			bins = append(bins, Bin{b.From, b.To, b.Count})
		}
	}
	return bins
}

// encoded is a Latency in JSON. Histogram is HdrHistogram's compressed form in base 64,
// which its tools read.
type encoded struct {
	Count     int64   `json:"count"`
	Min       int64   `json:"min"`
	Max       int64   `json:"max"`
	Sum       float64 `json:"sum"`
	Squares   float64 `json:"sum_of_squares"`
	Histogram []byte  `json:"hdr,omitempty"`
}

// MarshalJSON writes everything, the histogram included.
func (l *Latency) MarshalJSON() ([]byte, error) {
	e := encoded{Count: l.n, Min: l.Min(), Max: l.max, Sum: l.sum, Squares: l.sq}
	if l.n > 0 {
		var err error
		if e.Histogram, err = l.h.Encode(hdrhistogram.V2CompressedEncodingCookieBase); err != nil {
			return nil, fmt.Errorf("encode a histogram: %w", err)
		}
	}
	return json.Marshal(e)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (l *Latency) UnmarshalJSON(b []byte) error {
	var e encoded
	if err := json.Unmarshal(b, &e); err != nil {
		return err
	}
	if e.Count < 0 || e.Min < 0 || e.Max < e.Min {
		return fmt.Errorf("a histogram of %d values from %d to %d ns", e.Count, e.Min, e.Max)
	}
	if *l = (Latency{}); e.Count == 0 {
		return nil
	}
	h, err := hdrhistogram.Decode(e.Histogram)
	if err != nil {
		return fmt.Errorf("decode a histogram: %w", err)
	}
	fresh := hdrhistogram.New(1, MaxLatency, digits)
	if dropped := fresh.Merge(h); dropped > 0 || fresh.TotalCount() != e.Count {
		return fmt.Errorf("a histogram has %d values within an hour, and says that it has %d", fresh.TotalCount(), e.Count)
	}
	*l = Latency{n: e.Count, min: e.Min, max: e.Max, sum: e.Sum, sq: e.Squares, h: fresh}
	return nil
}
