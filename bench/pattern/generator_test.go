package pattern

import (
	"fmt"
	"math"
	"testing"
)

const kib = 1 << 10

func fixed(n int64) [2]Sizes { return [2]Sizes{{Min: n, Max: n}, {Min: n, Max: n}} }

var all = [2]int{100, 100}

func generate(t testing.TB, c Config) *Generator {
	t.Helper()
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// list is the I/Os of a generator as "r0@4096+4096": direction, file, offset and length.
func list(g *Generator, limit int) []string {
	var out []string
	var io IO
	for len(out) < limit && g.Next(&io) {
		d := "r"
		if io.Write {
			d = "w"
		}
		out = append(out, fmt.Sprintf("%s%d@%d+%d", d, io.File, io.Offset, io.Size))
	}
	return out
}

// The orders that have no chance in them.
func TestSequences(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"from front to back", Config{Reads: true, Sizes: fixed(4), Files: []Region{{0, 16}}}, "[r0@0+4 r0@4+4 r0@8+4 r0@12+4]"},
		{"a part of a file", Config{Writes: true, Sizes: fixed(4), Files: []Region{{100, 8}}}, "[w0@100+4 w0@104+4]"},
		{"a tail that is no block", Config{Reads: true, Sizes: fixed(4), Files: []Region{{0, 11}}, Total: 8}, "[r0@0+4 r0@4+4]"},
		{"more than the file", Config{Reads: true, Sizes: fixed(4), Files: []Region{{0, 8}}, Total: 16}, "[r0@0+4 r0@4+4 r0@0+4 r0@4+4]"},
		{"with holes", Config{Reads: true, Sizes: fixed(4), Stride: 4, Files: []Region{{0, 16}}, Total: 12}, "[r0@0+4 r0@8+4 r0@0+4]"},
		{"backwards", Config{Reads: true, Sizes: fixed(4), Stride: -8, Files: []Region{{0, 12}}}, "[r0@8+4 r0@4+4 r0@0+4]"},
		{"each place twice", Config{Reads: true, Sizes: fixed(4), Run: 2, Same: true, Files: []Region{{0, 16}}}, "[r0@0+4 r0@0+4 r0@4+4 r0@4+4]"},
		{"files in turn", Config{Reads: true, Sizes: fixed(4), Files: []Region{{0, 8}, {0, 8}}}, "[r0@0+4 r1@0+4 r0@4+4 r1@4+4]"},
		{"files in turn by two", Config{Reads: true, Sizes: fixed(4), Files: []Region{{0, 16}, {0, 8}}, ServiceRun: 2}, "[r0@0+4 r0@4+4 r1@0+4 r1@4+4 r0@8+4 r0@12+4]"},
		{"a file to its end", Config{Reads: true, Sizes: fixed(4), Files: []Region{{0, 8}, {0, 8}}, Service: InSequence}, "[r0@0+4 r0@4+4 r1@0+4 r1@4+4]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := fmt.Sprint(list(generate(t, c.cfg), 100)); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// With a map every block has one turn in a pass, in whatever sizes and directions I/Os
// come, and in the next pass again in another order.
func TestEachBlockOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
	}{
		{"one size", Config{Reads: true, Sizes: fixed(4 * kib)}},
		{"both ways", Config{Reads: true, Writes: true, ReadPercent: 30, Sizes: fixed(4 * kib)}},
		{"a range", Config{Reads: true, Sizes: [2]Sizes{{Min: 4 * kib, Max: 64 * kib}}}},
		{"a split", Config{Writes: true, Sizes: [2]Sizes{{}, {Split: []Share{{4 * kib, 50}, {16 * kib, 30}, {64 * kib, 20}}}}}},
		{"sizes that differ by direction", Config{Reads: true, Writes: true, ReadPercent: 50, Sizes: [2]Sizes{{Min: 4 * kib, Max: 4 * kib}, {Min: 16 * kib, Max: 16 * kib}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			const blocks = 1021 // a prime: no power of two helps
			c.cfg.Random, c.cfg.RandomPercent, c.cfg.Seed = true, all, 7
			c.cfg.Files = []Region{{8 * kib, blocks * 4 * kib}}
			g := generate(t, c.cfg)
			var orders [2]string
			for pass := range orders {
				seen := make(map[int64]int)
				var io IO
				for len(seen) < blocks && g.Next(&io) {
					orders[pass] += fmt.Sprint(io.Offset, " ")
					if io.Offset < 8*kib || io.Offset+io.Size > (8+blocks*4)*kib || io.Size%(4*kib) != 0 {
						t.Fatalf("%+v is not in the region", io)
					}
					for b := int64(0); b < io.Size; b += 4 * kib {
						if at := io.Offset + b; seen[at] > 0 {
							t.Fatalf("block at %d for the second time after %d blocks", at, len(seen))
						} else {
							seen[at]++
						}
					}
				}
				if len(seen) != blocks {
					t.Fatalf("%d blocks of %d", len(seen), blocks)
				}
				g.Extend(blocks * 4 * kib)
			}
			if orders[0] == orders[1] {
				t.Error("both passes have the same order")
			}
		})
	}
}

// The same seed makes the same I/Os, another one others.
func TestSeeds(t *testing.T) {
	c := Config{Reads: true, Writes: true, ReadPercent: 70, Random: true, RandomPercent: all, Sizes: [2]Sizes{{Min: 512, Max: 4096}, {Min: 512, Max: 4096}},
		Files: []Region{{0, 1 << 20}, {0, 1 << 20}}, Service: RandomFile, Seed: 1}
	g := generate(t, c)
	first := fmt.Sprint(list(g, 500))
	g.Restart()
	if fmt.Sprint(list(g, 500)) != first || fmt.Sprint(list(generate(t, c), 500)) != first {
		t.Error("the same seed makes other I/Os")
	}
	c.Seed = 2
	if fmt.Sprint(list(generate(t, c), 500)) == first {
		t.Error("another seed makes the same I/Os")
	}
}

// chiSquare is how far counts are from what is expected, in standard deviations of the
// chi-square distribution, which is near enough to normal for this many classes.
func chiSquare(got []int, want []float64) float64 {
	x := 0.0
	for i, n := range got {
		d := float64(n) - want[i]
		x += d * d / want[i]
	}
	k := float64(len(got) - 1)
	return (x - k) / math.Sqrt(2*k)
}

// far is a distance that one good generator in some ten million would reach; seeds are
// fixed, so the test either passes always or never.
const far = 5

// Uniform offsets, with and without a map (of whose first quarter of a pass), a mix of
// directions and a split of sizes are as often as they should be.
func TestUniform(t *testing.T) {
	const blocks, draws = 1 << 16, 1 << 14
	for _, noMap := range []bool{false, true} {
		g := generate(t, Config{Reads: true, Random: true, RandomPercent: all, NoMap: noMap, Sizes: fixed(1), Files: []Region{{0, blocks}}, Seed: 3})
		counts, want := make([]int, 64), make([]float64, 64)
		gaps, wantGaps := make([]int, 64), make([]float64, 64)
		var io IO
		last := int64(0)
		for range draws {
			g.Next(&io)
			counts[io.Offset*64/blocks]++
			gaps[(io.Offset-last+blocks)%blocks*64/blocks]++
			last = io.Offset
		}
		for i := range want {
			want[i], wantGaps[i] = draws/64, draws/64
		}
		if x := chiSquare(counts, want); x > far {
			t.Errorf("map %v: offsets are %.1f deviations from uniform", !noMap, x)
		}
		if x := chiSquare(gaps, wantGaps); x > far {
			t.Errorf("map %v: steps from one to the next are %.1f deviations from uniform", !noMap, x)
		}
	}
	g := generate(t, Config{Reads: true, Writes: true, ReadPercent: 70, Random: true, RandomPercent: all, NoMap: true, Seed: 4, Files: []Region{{0, 1 << 30}},
		Sizes: [2]Sizes{{Split: []Share{{4096, 50}, {8192, 30}, {65536, 20}}}, {Split: []Share{{4096, 50}, {8192, 30}, {65536, 20}}}}})
	directions, sizes := make([]int, 2), make([]int, 3)
	var io IO
	for range draws {
		g.Next(&io)
		if io.Write {
			directions[1]++
		} else {
			directions[0]++
		}
		sizes[map[int64]int{4096: 0, 8192: 1, 65536: 2}[io.Size]]++
	}
	if x := chiSquare(directions, []float64{0.7 * draws, 0.3 * draws}); x > far {
		t.Errorf("reads and writes: %d, %.1f deviations from 70 to 30", directions, x)
	}
	if x := chiSquare(sizes, []float64{0.5 * draws, 0.3 * draws, 0.2 * draws}); x > far {
		t.Errorf("sizes: %d, %.1f deviations from 50 to 30 to 20", sizes, x)
	}
}

// The k-th most popular block of zipf is met in proportion to 1/k^theta.
func TestZipf(t *testing.T) {
	const blocks, draws = 1000, 200_000
	for _, theta := range []float64{0.5, 0.9, 1.1, 1.8} {
		s := newSampler(Distribution{Shape: Zipf, Param: theta}, blocks)
		r := NewRandom(5, 5)
		counts := make([]int, 40)
		for range draws {
			if k := s.draw(r); k < uint64(len(counts)-1) {
				counts[k]++
			} else {
				counts[len(counts)-1]++
			}
		}
		sum, want := 0.0, make([]float64, len(counts))
		for k := 1; k <= blocks; k++ {
			p := math.Pow(float64(k), -theta)
			sum += p
			want[min(k, len(counts))-1] += p
		}
		for i := range want {
			want[i] *= draws / sum
		}
		if x := chiSquare(counts, want); x > far {
			t.Errorf("theta %g: %.1f deviations away: %d, want %.0f", theta, x, counts[:8], want[:8])
		}
	}
}

// pareto:0.2 is 80/20: a fifth of the blocks has four fifths of the accesses, and a fifth
// of that fifth four fifths of those.
func TestPareto(t *testing.T) {
	const blocks, draws = 100_000, 100_000
	for _, h := range []float64{0.1, 0.2, 0.4} {
		s := newSampler(Distribution{Shape: Pareto, Param: h}, blocks)
		r := NewRandom(6, 6)
		counts := make([]int, 3)
		for range draws {
			switch k := float64(s.draw(r)); {
			case k < h*h*blocks:
				counts[0]++
			case k < h*blocks:
				counts[1]++
			default:
				counts[2]++
			}
		}
		q := 1 - h
		if x := chiSquare(counts, []float64{draws * q * q, draws * q * h, draws * h}); x > far {
			t.Errorf("h %g: %d, %.1f deviations away", h, counts, x)
		}
	}
}

// A bell: 68.27 % within a deviation of the middle, 95.45 % within two.
func TestNormal(t *testing.T) {
	const blocks, draws = 100_000, 100_000
	g := generate(t, Config{Reads: true, Random: true, RandomPercent: all, Sizes: fixed(1), Files: []Region{{0, blocks}}, Seed: 8,
		Distribution: Distribution{Shape: Normal, Param: 10, Centre: -1}, Total: -1})
	counts := make([]int, 3)
	var io IO
	for range draws {
		g.Next(&io)
		counts[min(int(math.Abs(float64(io.Offset)-blocks/2)/(blocks/10)), 2)]++
	}
	if x := chiSquare(counts, []float64{0.6827 * draws, 0.2718 * draws, 0.0455 * draws}); x > far {
		t.Errorf("%d, %.1f deviations away", counts, x)
	}
}

// Distributions reach every block, and have their centre where it is said to be.
func TestCentre(t *testing.T) {
	const blocks = 101
	for _, shape := range []Distribution{{Zipf, 1.2, 0.5}, {Pareto, 0.2, 0.5}, {Normal, 15, 0.5}} {
		g := generate(t, Config{Reads: true, Random: true, RandomPercent: all, Sizes: fixed(1), Files: []Region{{0, blocks}}, Seed: 9, Distribution: shape, Total: -1})
		counts := make([]int, blocks)
		var io IO
		for range 200_000 {
			g.Next(&io)
			counts[io.Offset]++
		}
		best, least := 0, counts[0]
		for i, n := range counts {
			least = min(least, n)
			if n > counts[best] {
				best = i
			}
		}
		if d := best - blocks/2; least == 0 || d < -5 || d > 5 || shape.Shape != Normal && d != 0 {
			t.Errorf("shape %d: most at %d, one block %d times", shape.Shape, best, least)
		}
	}
}

// Zones have the accesses that they are given.
func TestZones(t *testing.T) {
	const draws = 50_000
	g := generate(t, Config{Reads: true, Random: true, RandomPercent: all, Sizes: fixed(1), Files: []Region{{0, 1000}}, Seed: 10, Total: -1,
		Zones: []Zone{{60, 0.1}, {30, 0.2}, {10, 0.7}}})
	counts := make([]int, 3)
	var io IO
	for range draws {
		g.Next(&io)
		switch {
		case io.Offset < 100:
			counts[0]++
		case io.Offset < 300:
			counts[1]++
		default:
			counts[2]++
		}
	}
	if x := chiSquare(counts, []float64{0.6 * draws, 0.3 * draws, 0.1 * draws}); x > far {
		t.Errorf("%d, %.1f deviations away", counts, x)
	}
}

// A permutation has every number once, for sizes around powers of two too.
func TestPermutation(t *testing.T) {
	for _, n := range []uint64{1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 1000, 4096, 4097} {
		p := NewPermutation(n, n)
		seen := make([]bool, n)
		for i := range n {
			v := p.At(i)
			if v >= n || seen[v] {
				t.Fatalf("%d numbers: %d in place %d for the second time", n, v, i)
			}
			seen[v] = true
		}
	}
}

// What can't be is refused.
func TestRefused(t *testing.T) {
	ok := Config{Reads: true, Sizes: fixed(4), Files: []Region{{0, 16}}}
	for name, change := range map[string]func(*Config){
		"no direction":          func(c *Config) { c.Reads = false },
		"no files":              func(c *Config) { c.Files = nil },
		"a block of nothing":    func(c *Config) { c.Sizes = fixed(0) },
		"a block that is huge":  func(c *Config) { c.Sizes = fixed(1 << 40) },
		"no room":               func(c *Config) { c.Files = []Region{{0, 3}} },
		"a negative offset":     func(c *Config) { c.Files = []Region{{-4, 16}} },
		"an end that overflows": func(c *Config) { c.Files = []Region{{1 << 62, 1 << 62}} },
		"shares beyond 100":     func(c *Config) { c.Sizes[0].Split = []Share{{4, 60}, {8, 60}} },
		"theta of 1":            func(c *Config) { c.Distribution = Distribution{Shape: Zipf, Param: 1} },
		"theta that is none":    func(c *Config) { c.Distribution = Distribution{Shape: Zipf, Param: math.NaN()} },
		"a centre outside":      func(c *Config) { c.Distribution = Distribution{Shape: Pareto, Param: 0.2, Centre: 2} },
		"zones of less":         func(c *Config) { c.Zones = []Zone{{50, 1}} },
	} {
		c := ok
		c.Files = append([]Region(nil), ok.Files...)
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	for name, c := range map[string]Config{
		"sequential": {Reads: true}, "random": {Reads: true, Random: true}, "norandommap": {Reads: true, Random: true, NoMap: true},
		"zipf": {Reads: true, Random: true, Distribution: Distribution{Shape: Zipf, Param: 1.2, Centre: -1}},
	} {
		b.Run(name, func(b *testing.B) {
			c.Sizes, c.Files, c.Total, c.RandomPercent = fixed(4096), []Region{{0, 1 << 40}}, -1, all
			g := generate(b, c)
			b.ReportAllocs()
			var io IO
			for b.Loop() {
				g.Next(&io)
			}
		})
	}
}
