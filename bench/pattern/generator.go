package pattern

import (
	"errors"
	"fmt"
)

// Service is how the file of an I/O is chosen.
type Service int

const (
	RoundRobin   Service   = iota // one after the other
	InSequence                    // a file to its end, then the next
	RandomFile                    // any that is not done
	SampledFile                   // from Config.ServiceShape
	maxMapBlocks = 1 << 32        // half a gigabyte
)

// Region is the part of a file that is worked on, in bytes.
type Region struct{ Start, Size int64 }

// Zone is a part of each Region and its share of the accesses, in percent.
type Zone struct {
	Access int
	Size   float64 // share of the region, 0 to 1; those of all zones are 1 together
}

// Config says what a Generator does. Arrays are for reads and writes.
type Config struct {
	Seed uint64
	// Reads and Writes say which there are. Of both, ReadPercent are reads.
	Reads, Writes bool
	ReadPercent   int
	Random        bool
	// RandomPercent of the I/Os of a random job are at random places; the others follow
	// the last one.
	RandomPercent [2]int
	// Run is how many I/Os go one after the other before a new random place is taken, and
	// of sequential ones, with Same, how many go to one place; at least 1.
	Run  int
	Same bool
	// Stride is left out behind each sequential I/O; negative goes backwards.
	Stride int64
	Sizes  [2]Sizes
	// Align is what random offsets are multiples of; 0 means the smallest size.
	Align [2]int64
	Files []Region
	// NoMap lets random I/O meet blocks again before others had their turn. Without it,
	// and where Distribution is Uniform, all blocks have theirs.
	NoMap        bool
	Distribution Distribution
	Zones        []Zone // nil: none; else Distribution is of no meaning
	Service      Service
	ServiceShape Distribution
	// ServiceRun is after how many I/Os another file is chosen; at least 1.
	ServiceRun int
	// Total bytes end the generator; 0 means all Files once, negative never.
	Total int64
}

// IO is where an I/O goes.
type IO struct {
	Write  bool
	File   int
	Offset int64
	Size   int64
}

// Generator makes I/Os. It is its user's alone.
type Generator struct {
	cfg    Config
	rand   *Random
	files  []file
	picker sampler
	unit   int64 // the smallest size of both directions

	issued int64 // bytes
	done   int   // files that have had all
	cur    int   // file of the last I/O
	run    int   // I/Os to go before another is chosen
	pass   uint64
}

// file is where a Generator is in a Region.
type file struct {
	Region
	left   int64 // bytes of this pass
	done   bool
	last   [2]int64  // where the next sequential I/O begins
	same   [2]int    // I/Os to go at the place
	blocks [2]uint64 // of Align, where an I/O may begin

	order   Permutation // of random I/O where all are of one size
	next    uint64
	taken   *blockMap // of random I/O of different sizes
	sampler [2]sampler
	spread  [2]Permutation
	shift   [2]uint64
	zones   [2][]zone
}

type zone struct {
	upTo  int    // percent, accumulated
	first uint64 // blocks
	n     uint64
}

// New checks the configuration and makes a Generator at its start.
func New(cfg Config) (*Generator, error) {
	g := &Generator{rand: NewRandom(cfg.Seed, 1)}
	if !cfg.Reads && !cfg.Writes {
		return nil, errors.New("neither reads nor writes")
	}
	for d, on := range []bool{cfg.Reads, cfg.Writes} {
		if !on {
			continue
		}
		if err := cfg.Sizes[d].check(); err != nil {
			return nil, err
		}
		if cfg.Align[d] == 0 {
			cfg.Align[d] = cfg.Sizes[d].Min
		}
		if cfg.Align[d] < 1 {
			return nil, fmt.Errorf("alignment of %d bytes", cfg.Align[d])
		}
		if g.unit == 0 || cfg.Sizes[d].Min < g.unit {
			g.unit = cfg.Sizes[d].Min
		}
	}
	if len(cfg.Files) == 0 {
		return nil, errors.New("no files")
	}
	if err := errors.Join(cfg.Distribution.check(), cfg.ServiceShape.check()); err != nil {
		return nil, err
	}
	access := 0
	for _, z := range cfg.Zones {
		access += z.Access
		if z.Access < 0 || !(z.Size >= 0 && z.Size <= 1) {
			return nil, fmt.Errorf("a zone of %g of the file with %d %% of the accesses", z.Size, z.Access)
		}
	}
	if len(cfg.Zones) > 0 && access != 100 {
		return nil, fmt.Errorf("zones have %d %% of the accesses, not 100", access)
	}
	cfg.Run, cfg.ServiceRun = max(cfg.Run, 1), max(cfg.ServiceRun, 1)
	g.cfg = cfg
	total := int64(0)
	for i, r := range cfg.Files {
		f := file{Region: r}
		if r.Start < 0 || r.Size < g.unit || r.Start > 1<<62-r.Size {
			return nil, fmt.Errorf("%d bytes at %d of a file have no room for a block of %d", r.Size, r.Start, g.unit)
		}
		total += r.Size
		for d, on := range []bool{cfg.Reads, cfg.Writes} {
			if on {
				if err := g.prepare(&f, d, uint64(i)); err != nil {
					return nil, err
				}
			}
		}
		g.files = append(g.files, f)
	}
	if g.cfg.Total == 0 {
		g.cfg.Total = total
	}
	if cfg.Service == SampledFile {
		g.picker = newSampler(cfg.ServiceShape, uint64(len(g.files)))
	}
	g.restart()
	return g, nil
}

// prepare sets up what random I/O of a direction needs in a file.
func (g *Generator) prepare(f *file, d int, seed uint64) error {
	c := &g.cfg
	if f.Size < c.Sizes[d].Min {
		return fmt.Errorf("%d bytes of a file have no room for a block of %d", f.Size, c.Sizes[d].Min)
	}
	f.blocks[d] = uint64((f.Size-c.Sizes[d].Min)/c.Align[d]) + 1
	if !c.Random {
		return nil
	}
	n := f.blocks[d]
	switch {
	case len(c.Zones) > 0:
		at, upTo := 0.0, 0
		for _, z := range c.Zones {
			upTo += z.Access
			first := min(uint64(at*float64(n)), n-1)
			at += z.Size
			end := max(min(uint64(at*float64(n)+0.5), n), first+1)
			f.zones[d] = append(f.zones[d], zone{upTo, first, end - first})
		}
	case c.Distribution.Shape != Uniform:
		f.sampler[d] = newSampler(c.Distribution, n)
		f.spread[d] = NewPermutation(n, c.Seed^seed<<8)
		f.shift[d] = NewRandom(c.Seed, 100+seed).Below(n)
		if at := c.Distribution.Centre; at >= 0 {
			f.shift[d] = min(uint64(at*float64(n)), n-1)
		} else if c.Distribution.Shape == Normal {
			f.shift[d] = n / 2
		}
	case c.NoMap:
	default:
		// Of both directions there is one map.
		if b := uint64(f.Size / g.unit); !g.uniform() && f.taken == nil {
			if b > maxMapBlocks {
				return fmt.Errorf("a map of %d blocks does not fit into memory: set norandommap, or one block size", b)
			}
			f.taken = newBlockMap(b)
		}
	}
	return nil
}

// uniform says that all I/Os are of one size, and lie in a grid of it.
func (g *Generator) uniform() bool {
	c := &g.cfg
	for d, on := range []bool{c.Reads, c.Writes} {
		if on && (c.Sizes[d].Min != g.unit || c.Sizes[d].Max != g.unit || c.Align[d] != g.unit) {
			return false
		}
	}
	return c.RandomPercent == [2]int{100, 100} && c.Run == 1
}

// mapped says that every block of random I/O has one turn.
func (g *Generator) mapped() bool {
	return g.cfg.Random && !g.cfg.NoMap && g.cfg.Distribution.Shape == Uniform && len(g.cfg.Zones) == 0
}

// Restart begins anew with the same places in the same order.
func (g *Generator) Restart() {
	g.rand.Seed(g.cfg.Seed, 1)
	g.pass, g.issued, g.cur, g.run = 0, 0, 0, 0
	g.restart()
}

// Extend makes the generator go on after its end, for so many more bytes: where it was
// with sequential I/O, over all blocks again with random.
func (g *Generator) Extend(bytes int64) {
	if g.cfg.Total >= 0 {
		g.cfg.Total = g.issued + bytes
	}
}

func (g *Generator) restart() {
	g.done = 0
	for i := range g.files {
		f := &g.files[i]
		f.done = false
		f.left = f.Size / g.unit * g.unit
		f.next = 0
		for d := range f.last {
			f.last[d], f.same[d] = f.Start, 0
			if g.cfg.Stride < 0 {
				f.last[d] = f.Start + f.Size - g.cfg.Sizes[d].Max
			}
		}
		if f.taken != nil {
			f.taken.reset()
		} else if g.mapped() {
			f.order = NewPermutation(f.blocks[g.direction0()], g.cfg.Seed^(uint64(i)<<32|g.pass+1)*0x9e3779b97f4a7c15)
		}
	}
	g.pass++
}

func (g *Generator) direction0() int {
	if g.cfg.Reads {
		return 0
	}
	return 1
}

// Next makes the next I/O. It returns false at the end.
func (g *Generator) Next(io *IO) bool { return !g.over() && g.NextOf(io, g.Direction()) }

func (g *Generator) over() bool { return g.cfg.Total >= 0 && g.issued >= g.cfg.Total }

// Direction draws what the next I/O is to do: 0 reads, 1 writes.
func (g *Generator) Direction() int {
	if g.cfg.Reads && g.cfg.Writes && int(g.rand.Below(100)) >= g.cfg.ReadPercent {
		return 1
	}
	return g.direction0()
}

// NextOf is Next for who says himself what is to be done, of what the configuration has.
func (g *Generator) NextOf(io *IO, d int) bool {
	if g.over() {
		return false
	}
	i := g.choose()
	f := &g.files[i]
	size, at := g.place(f, d)
	io.Write, io.File, io.Offset, io.Size = d == 1, i, at, size
	g.issued += size
	f.left -= size
	if f.left < g.unit || f.taken != nil && f.taken.left == 0 {
		f.done = true
		if g.done++; g.done == len(g.files) {
			g.restart()
		}
	}
	return true
}

// choose picks a file that is not done.
func (g *Generator) choose() int {
	if len(g.files) == 1 {
		return 0
	}
	if g.run > 0 && !g.files[g.cur].done {
		g.run--
		return g.cur
	}
	g.run = g.cfg.ServiceRun - 1
	n := len(g.files)
	switch g.cfg.Service {
	case RandomFile:
		g.cur = int(g.rand.Below(uint64(n)))
	case SampledFile:
		g.cur = int(g.picker.draw(g.rand))
	case InSequence:
	default:
		if g.issued > 0 {
			g.cur = (g.cur + 1) % n
		}
	}
	for g.files[g.cur].done {
		g.cur = (g.cur + 1) % n
	}
	return g.cur
}

// place is the length and offset of an I/O in a file.
func (g *Generator) place(f *file, d int) (size, at int64) {
	c := &g.cfg
	s := &c.Sizes[d]
	random := c.Random
	if random && c.Run > 1 {
		random = f.same[d] == 0
		if random {
			f.same[d] = c.Run
		}
		f.same[d]--
	}
	if random && c.RandomPercent[d] < 100 {
		random = int(g.rand.Below(100)) < c.RandomPercent[d]
	}
	if !random {
		return g.follow(f, d)
	}
	switch {
	case f.taken != nil:
		b := f.taken.free(g.rand.Below(f.taken.n))
		at = int64(b) * g.unit
		size = s.draw(g.rand, max(min(f.Size-at, f.left), s.Min))
		size = int64(f.taken.take(b, uint64((size+g.unit-1)/g.unit))) * g.unit
		at += f.Start
	case g.mapped() && !c.NoMap:
		at = f.Start + int64(f.order.At(f.next))*c.Align[d]
		f.next++
		size = s.Min
	default:
		at = int64(g.sampled(f, d)) * c.Align[d]
		size = s.draw(g.rand, f.Size-at)
		at += f.Start
	}
	f.last[d] = at + size
	return size, at
}

// sampled is a block of a file by the distribution.
func (g *Generator) sampled(f *file, d int) uint64 {
	n := f.blocks[d]
	if z := f.zones[d]; z != nil {
		p := int(g.rand.Below(100))
		for i := range z {
			if p < z[i].upTo {
				return z[i].first + g.rand.Below(z[i].n)
			}
		}
	}
	switch g.cfg.Distribution.Shape {
	case Uniform:
		return g.rand.Below(n)
	case Normal:
		return (f.sampler[d].draw(g.rand) + f.shift[d] + n - n/2) % n
	}
	// The most popular block is where the centre is, and the others anywhere.
	p := &f.spread[d]
	return (p.At(f.sampler[d].draw(g.rand)) + n - p.At(0) + f.shift[d]) % n
}

// follow is the place behind the last I/O, and the start of the region behind its end.
func (g *Generator) follow(f *file, d int) (size, at int64) {
	c := &g.cfg
	s := &c.Sizes[d]
	end := f.Start + f.Size
	at = f.last[d]
	if at < f.Start || at > end-s.Min {
		if at = f.Start; c.Stride < 0 {
			at = end - s.Max
		}
		at = max(at, f.Start)
	}
	limit := end - at
	if !c.Random {
		limit = max(min(limit, f.left), s.Min) // the bytes of the pass
		limit = min(limit, end-at)
	}
	size = s.draw(g.rand, limit)
	if f.taken != nil {
		f.taken.take(min(uint64(at-f.Start)/uint64(g.unit), f.taken.n-1), uint64((size+g.unit-1)/g.unit))
	}
	if c.Same && !c.Random && c.Run > 1 {
		if f.same[d]++; f.same[d] < c.Run {
			return size, at
		}
		f.same[d] = 0
	}
	f.last[d] = at + size + c.Stride
	return size, at
}
