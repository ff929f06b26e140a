package pattern

import (
	"fmt"
	"math"
)

// Shape is how often which block is met.
type Shape int

const (
	Uniform Shape = iota // each as often as any other
	Zipf                 // the k-th most popular in proportion to 1/k^theta
	Pareto               // a share of the blocks gets the rest of the accesses: 0.2 is 80/20
	Normal               // a bell of a standard deviation in percent of the blocks
)

// Distribution is a Shape with its parameter: Zipf's theta, above 0 and not 1; Pareto's
// share, above 0 and below 1; Normal's deviation in percent, 0 to 100.
type Distribution struct {
	Shape Shape
	Param float64
	// Centre is where the most popular block is, 0 to 1 of the range; negative: somewhere.
	Centre float64
}

func (d Distribution) check() error {
	switch p := d.Param; {
	case d.Centre > 1 || d.Centre != d.Centre:
		return fmt.Errorf("centre %g of a distribution is not 0 to 1", d.Centre)
	case d.Shape == Zipf && !(p > 0 && p != 1 && p < 100):
		return fmt.Errorf("theta %g of zipf is not above 0, below 100 and other than 1", p)
	case d.Shape == Pareto && !(p > 0 && p < 1):
		return fmt.Errorf("share %g of pareto is not between 0 and 1", p)
	case d.Shape == Normal && !(p >= 0 && p <= 100):
		return fmt.Errorf("deviation %g of normal is not 0 to 100", p)
	}
	return nil
}

// sampler draws ranks of 0 to n-1, 0 the most popular (of Normal: the place, n/2 the
// most popular).
type sampler struct {
	shape Shape
	n     uint64
	f     float64
	// Of Zipf: what rejection-inversion (Hörmann and Derflinger, 1996) needs, which takes
	// the same time for any n and draws from the very distribution.
	theta, low, high, squeeze float64
	pow                       float64 // of Pareto
}

func newSampler(d Distribution, n uint64) sampler {
	s := sampler{shape: d.Shape, n: n, f: float64(n), theta: d.Param}
	switch d.Shape {
	case Zipf:
		s.high = s.integral(s.f + 0.5)
		s.low = s.integral(1.5) - 1
		s.squeeze = 2 - s.inverse(s.integral(2.5)-math.Pow(2, -s.theta))
	case Pareto:
		s.pow = math.Log(d.Param) / math.Log(1-d.Param)
	case Normal:
		s.f = d.Param / 100 * float64(n)
	}
	return s
}

// integral of 1/x^theta, and its inverse.
func (s *sampler) integral(x float64) float64 {
	return (math.Pow(x, 1-s.theta) - 1) / (1 - s.theta)
}

func (s *sampler) inverse(y float64) float64 {
	return math.Pow(max(0, 1+y*(1-s.theta)), 1/(1-s.theta))
}

func (s *sampler) draw(r *Random) uint64 {
	switch s.shape {
	case Zipf:
		for {
			u := s.high + r.Float()*(s.low-s.high)
			x := s.inverse(u)
			k := min(max(math.Floor(x+0.5), 1), s.f)
			if k-x <= s.squeeze || u >= s.integral(k+0.5)-math.Pow(k, -s.theta) {
				return uint64(k) - 1
			}
		}
	case Pareto:
		return min(uint64(s.f*math.Pow(r.Float(), s.pow)), s.n-1)
	case Normal:
		for {
			// Box and Muller
			z := math.Sqrt(-2*math.Log(1-r.Float())) * math.Cos(2*math.Pi*r.Float())
			if x := float64(s.n)/2 + z*s.f; x >= 0 && x < float64(s.n) {
				return uint64(x)
			}
		}
	}
	return r.Below(s.n)
}
