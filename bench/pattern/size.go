package pattern

import "fmt"

// Sizes are the lengths of I/Os in bytes: one of Min to Max in steps of Min (of Step if it
// is not 0), or of Split.
type Sizes struct {
	Min, Max int64
	// Step is what lengths are multiples of; 0 means Min. 1 is fio's bs_unaligned.
	Step int64
	// Split is which length has which share of the I/Os, in percent, 100 together.
	Split []Share
}

// Share is one length of a split.
type Share struct {
	Size    int64
	Percent int
}

const maxSize = 1 << 30

func (s *Sizes) check() error {
	if s.Step == 0 {
		s.Step = s.Min
	}
	total := 0
	for i, e := range s.Split {
		if e.Percent < 0 {
			return fmt.Errorf("block size %d has a share of %d %%", e.Size, e.Percent)
		}
		total += e.Percent
		if i == 0 {
			s.Min, s.Max = e.Size, e.Size
		}
		s.Min, s.Max = min(s.Min, e.Size), max(s.Max, e.Size)
		s.Step = 1
	}
	switch {
	case len(s.Split) > 0 && total != 100:
		return fmt.Errorf("shares of block sizes are %d %% together, not 100", total)
	case s.Min < 1 || s.Max < s.Min || s.Max > maxSize:
		return fmt.Errorf("block sizes of %d to %d bytes are not 1 to %d", s.Min, s.Max, maxSize)
	case s.Step < 1 || s.Step > s.Min:
		return fmt.Errorf("block sizes in steps of %d bytes", s.Step)
	}
	return nil
}

// draw is a length of at most limit, which is at least Min.
func (s *Sizes) draw(r *Random, limit int64) int64 {
	if s.Min == s.Max {
		return s.Min
	}
	if len(s.Split) == 0 {
		n := s.Min + int64(r.Below(uint64((min(s.Max, limit)-s.Min)/s.Step+1)))*s.Step
		return n
	}
	for {
		p := int(r.Below(100))
		for _, e := range s.Split {
			if p -= e.Percent; p < 0 {
				if e.Size <= limit {
					return e.Size
				}
				break
			}
		}
		if limit < s.Max {
			// What does not fit gives its share to the largest that does.
			best := s.Min
			for _, e := range s.Split {
				if e.Size <= limit && e.Size > best {
					best = e.Size
				}
			}
			return best
		}
	}
}
