package result

import (
	"math"
	"slices"
	"time"
)

// maxPoints bounds what is kept of the course of a run. Where there is more, two
// neighbours become one.
const maxPoints = 4096

// Point is a mean over a stretch of time that ends at At, since the start.
type Point struct {
	At    time.Duration
	Value float64
}

// Samples are what was measured again and again. The zero value has none.
type Samples struct {
	n        int64
	min, max float64
	sum, sq  float64
	Points   []Point
	merged   int // neighbours in a Point beyond the first
	open     int // of the last
}

// Add appends one.
func (s *Samples) Add(at time.Duration, v float64) {
	if s.n == 0 {
		s.min = math.Inf(1)
	}
	s.n++
	s.min, s.max = min(s.min, v), max(s.max, v)
	s.sum += v
	s.sq += v * v
	if k := len(s.Points); k > 0 && s.open < s.merged {
		p := &s.Points[k-1]
		s.open++
		p.At, p.Value = at, p.Value+(v-p.Value)/float64(s.open+1)
		return
	}
	if len(s.Points) == maxPoints {
		for i := range maxPoints / 2 {
			a, b := s.Points[2*i], s.Points[2*i+1]
			s.Points[i] = Point{b.At, (a.Value + b.Value) / 2}
		}
		s.Points = s.Points[:maxPoints/2]
		s.merged = 2*s.merged + 1
	}
	s.Points = append(s.Points, Point{at, v})
	s.open = 0
}

// Count is how many samples there were. It, Min, Max, Mean and Deviation are of all, also
// of those whose points have been merged.
func (s *Samples) Count() int64 { return s.n }

func (s *Samples) Min() float64 {
	if s.n == 0 {
		return 0
	}
	return s.min
}

func (s *Samples) Max() float64 { return s.max }

func (s *Samples) Mean() float64 {
	if s.n == 0 {
		return 0
	}
	return s.sum / float64(s.n)
}

func (s *Samples) Deviation() float64 {
	if s.n < 2 {
		return 0
	}
	n := float64(s.n)
	return math.Sqrt(max(0, (s.sq-s.sum*s.sum/n)/(n-1)))
}

// Merge adds those of a job that ran at the same time, as fio does: counts add up,
// minimum, maximum and mean are sums of what jobs had side by side.
func (s *Samples) Merge(o *Samples) {
	if o.n == 0 {
		return
	}
	if s.n == 0 {
		*s = o.clone()
		return
	}
	mean := s.Mean() + o.Mean()
	dev := math.Hypot(s.Deviation(), o.Deviation()) // of a sum of independent ones
	s.min += o.min
	s.max += o.max
	s.n += o.n
	n := float64(s.n)
	s.sum = mean * n
	s.sq = dev*dev*(n-1) + s.sum*s.sum/n
	// The course of the sum: at the moments of the longer one, both as they were then.
	a, b := s.Points, o.Points
	if len(b) > len(a) {
		a, b = slices.Clone(b), a
	}
	k := 0
	for i := range a {
		for k < len(b)-1 && b[k].At < a[i].At-time.Millisecond {
			k++
		}
		if len(b) > 0 && a[i].At <= b[len(b)-1].At+time.Second {
			a[i].Value += b[k].Value
		}
	}
	s.Points = a
}

func (s *Samples) clone() Samples {
	c := *s
	c.Points = slices.Clone(s.Points)
	return c
}
