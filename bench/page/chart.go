package page

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/smbd-rdma/smbd-rdma/bench/saved"
)

// The size of a chart, in points: a column of a telephone at its own scale.
const (
	width  = 330 * vg.Length(1)
	height = 220 * vg.Length(1)
)

var (
	ink  = color.Gray{0x55}
	grid = color.Gray{0xe4}
)

// blank is a chart without data.
func blank(x, y string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = color.Transparent
	p.X.Label.Text, p.Y.Label.Text = x, y
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Color, a.Tick.Color, a.Label.TextStyle.Color, a.Tick.Label.Color = ink, ink, ink, ink
		a.Label.TextStyle.Font = font.Font{Typeface: "Liberation", Variant: "Sans", Size: 10}
		a.Tick.Label.Font = font.Font{Typeface: "Liberation", Variant: "Sans", Size: 9}
		a.Tick.Length = 3
		a.Padding = 2
	}
	p.Legend.TextStyle.Font = font.Font{Typeface: "Liberation", Variant: "Sans", Size: 9}
	g := plotter.NewGrid()
	g.Vertical.Color, g.Horizontal.Color = grid, grid
	p.Add(g)
	return p
}

// line draws a series, if it has two points at least.
func line(p *plot.Plot, s *series, xys plotter.XYs) bool {
	if len(xys) < 2 {
		return false
	}
	l, err := plotter.NewLine(xys)
	if err != nil {
		return false // not a number, or infinite
	}
	l.Color, l.Width = s.color, 1.6
	if s.dashed {
		l.Dashes = []vg.Length{4, 2}
	}
	p.Add(l)
	p.Legend.Add(s.label, l)
	return true
}

// bounded sets an axis to begin at nothing and end a little above the data.
func bounded(a *plot.Axis) {
	a.Min = 0
	if !(a.Max > 0) || math.IsInf(a.Max, 0) {
		a.Max = 1
	}
	a.Max *= 1.05
}

// course is a figure over time.
func course(all []*series, label string, scale saved.Unit, points func(*saved.Traffic) []saved.Point) *plot.Plot {
	p, some := blank("seconds", label), false
	for _, s := range all {
		var xys plotter.XYs
		for _, at := range points(s.traffic) {
			xys = append(xys, plotter.XY{X: at.At.Seconds(), Y: at.Value})
		}
		drawn := line(p, s, xys)
		if len(xys) <= fewPoints { // a line of one is none, and of a few says little
			if d := dots(p, s, xys); d != nil && !drawn {
				p.Legend.Add(s.label, d)
				drawn = true
			}
		}
		some = drawn || some
	}
	if !some {
		return nil
	}
	p.X.Min = 0
	bounded(&p.Y)
	p.Y.Tick.Marker = units(scale)
	return p
}

// fewPoints is how many are seen one by one on a chart.
const fewPoints = 12

// dots marks the points of a line; nil if there are none.
func dots(p *plot.Plot, s *series, xys plotter.XYs) *plotter.Scatter {
	d, err := plotter.NewScatter(xys)
	if err != nil || len(xys) == 0 {
		return nil
	}
	d.Color, d.Shape, d.Radius = s.color, draw.CircleGlyph{}, 2
	p.Add(d)
	return d
}

// nines is where a percentile has its place: equally far for each further nine.
func nines(share float64) float64 { return -math.Log10(1 - share) }

var ninesTicks = plot.ConstantTicks{
	{Value: 0, Label: "0"}, {Value: nines(.5), Label: "50"}, {Value: 1, Label: "90"}, {Value: 2, Label: "99"},
	{Value: 3, Label: "99.9"}, {Value: 4, Label: "99.99"}, {Value: 5, Label: "99.999"}, {Value: 6, Label: "99.9999"},
}

// percentiles is latency by percentile.
func percentiles(all []*series) *plot.Plot {
	p, some := blank("percentile", "latency"), false
	for _, s := range all {
		var xys plotter.XYs
		s.traffic.Latency.Steps(func(share float64, ns int64) {
			if share < 1 && ns > 0 {
				xys = append(xys, plotter.XY{X: nines(share), Y: float64(ns)})
			}
		})
		some = line(p, s, thin(xys)) || some
	}
	if !some {
		return nil
	}
	p.X.Min, p.X.Tick.Marker = 0, ninesTicks
	logarithmic(&p.Y)
	return p
}

// distribution is the share of I/Os that took no longer than so much.
func distribution(all []*series) *plot.Plot {
	p, some := blank("latency", "share of I/Os, %"), false
	for _, s := range all {
		var xys plotter.XYs
		s.traffic.Latency.Steps(func(share float64, ns int64) {
			if ns > 0 {
				xys = append(xys, plotter.XY{X: float64(ns), Y: 100 * share})
			}
		})
		some = line(p, s, thin(xys)) || some
	}
	if !some {
		return nil
	}
	p.Y.Min, p.Y.Max = 0, 100
	logarithmic(&p.X)
	return p
}

// maxPoints bounds a line: more are not seen on a chart of this size.
const maxPoints = 400

func thin(xys plotter.XYs) plotter.XYs {
	if len(xys) <= maxPoints {
		return xys
	}
	out := make(plotter.XYs, 0, maxPoints+1)
	for i := range maxPoints {
		out = append(out, xys[i*len(xys)/maxPoints])
	}
	return append(out, xys[len(xys)-1])
}

// logarithmic sets an axis of nanoseconds, whose limits must be positive.
func logarithmic(a *plot.Axis) {
	a.Min = math.Pow(10, math.Floor(math.Log10(max(a.Min, 1))))
	a.Max = math.Pow(10, math.Ceil(math.Log10(max(a.Max, a.Min*1.01))))
	if a.Max <= a.Min {
		a.Max = 10 * a.Min
	}
	a.Scale = plot.LogScale{}
	a.Tick.Marker = plot.TickerFunc(func(lo, hi float64) (ticks []plot.Tick) {
		for v := lo; v <= hi*1.001 && len(ticks) < 1000; v *= 10 {
			ticks = append(ticks, plot.Tick{Value: v, Label: short(v)})
			for k := 2.; k < 10 && k*v < hi; k++ {
				ticks = append(ticks, plot.Tick{Value: k * v})
			}
		}
		return ticks
	})
}

// short writes a power of ten of nanoseconds.
func short(ns float64) string {
	for _, u := range []struct {
		n    float64
		name string
	}{{1e9, "s"}, {1e6, "ms"}, {1e3, "µs"}} {
		if ns >= u.n*0.999 {
			return strconv.FormatFloat(ns/u.n, 'g', 3, 64) + " " + u.name
		}
	}
	return strconv.FormatFloat(ns, 'g', 3, 64) + " ns"
}

// units marks an axis with a unit's prefixes.
func units(u saved.Unit) plot.Ticker {
	return plot.TickerFunc(func(lo, hi float64) []plot.Tick {
		ticks := plot.DefaultTicks{}.Ticks(lo, hi)
		for i := range ticks {
			if ticks[i].Label != "" {
				ticks[i].Label = u.Format(ticks[i].Value)
			}
		}
		return ticks
	})
}

// sweep is a figure by block size, a line for each engine and kind of work, where there
// are two sizes at least.
func sweep(all []*series, label string, unit saved.Unit, figure func(*saved.Traffic) float64) (*plot.Plot, []*series) {
	type kind struct {
		engine, rw, dir string
		depth, numJobs  int
	}
	points := make(map[kind]map[int64]float64)
	var order []kind
	for _, s := range all {
		n := s.job.Bytes()
		if n <= 0 {
			continue
		}
		k := kind{s.job.Engine, s.job.RW, s.dir.String(), s.job.Depth, s.job.NumJobs}
		if points[k] == nil {
			points[k] = make(map[int64]float64)
			order = append(order, k)
		}
		points[k][n] = max(points[k][n], figure(s.traffic))
	}
	p := blank("block size", label)
	var lines []*series
	var sizes []int64
	for _, k := range order {
		if len(points[k]) < 2 {
			continue
		}
		var xys plotter.XYs
		for n, v := range points[k] {
			xys = append(xys, plotter.XY{X: math.Log2(float64(n)), Y: v})
			sizes = append(sizes, n)
		}
		slices.SortFunc(xys, func(a, b plotter.XY) int { return int(math.Copysign(1, a.X-b.X)) })
		text := k.engine + ", " + k.rw
		if k.rw != k.dir && k.rw != "rand"+k.dir {
			text += " (" + k.dir + ")"
		}
		s := &series{label: fmt.Sprintf("%s, %d in flight", text, k.depth), color: colors[len(lines)%len(colors)], dashed: len(lines)/len(colors)%2 == 1}
		if line(p, s, xys) {
			dots(p, s, xys)
			lines = append(lines, s)
		}
	}
	if len(lines) == 0 {
		return nil, nil
	}
	bounded(&p.Y)
	p.Y.Tick.Marker = units(unit)
	slices.Sort(sizes)
	sizes = slices.Compact(sizes)
	var ticks plot.ConstantTicks
	for i, n := range sizes {
		t := plot.Tick{Value: math.Log2(float64(n))}
		if every := (len(sizes) + 5) / 6; i%every == 0 {
			t.Label = size(strconv.FormatInt(n, 10))
		}
		ticks = append(ticks, t)
	}
	p.X.Tick.Marker = ticks
	return p, lines
}

// processor is the time of client and server for each GiB, as bars.
func processor(all []*series) (*plot.Plot, []*series) {
	var client, server plotter.Values
	var names []string
	known := false
	seen := make(map[*saved.Job]bool)
	for _, s := range slices.Backward(all) { // bars go upwards
		if s.job.ClientCPU < 0 || seen[s.job] {
			continue
		}
		seen[s.job] = true
		known = known || s.job.ServerCPU >= 0
		client, server = append(client, s.job.ClientCPU), append(server, max(s.job.ServerCPU, 0))
		names = append(names, elide(s.job.Name, 18))
	}
	if len(client) == 0 || slices.Max(client) <= 0 && slices.Max(server) <= 0 {
		return nil, nil
	}
	p := blank("seconds a GiB", "")
	thick := min(18, 150/vg.Length(len(client)))
	a, err := plotter.NewBarChart(client, thick)
	if err != nil {
		return nil, nil
	}
	a.Color, a.Horizontal, a.LineStyle.Width = colors[0], true, 0
	p.Add(a)
	bars := []*series{{label: "client", color: colors[0]}}
	if known {
		b, err := plotter.NewBarChart(server, thick)
		if err != nil {
			return nil, nil
		}
		b.Color, b.Horizontal, b.LineStyle.Width = colors[4], true, 0
		b.StackOn(a)
		p.Add(b)
		bars = append(bars, &series{label: "server", color: colors[4]})
	}
	p.NominalY(names...)
	p.X.Min = 0
	p.X.Max *= 1.1
	return p, bars
}

func elide(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// svg draws a chart.
func svg(p *plot.Plot, w, h vg.Length) (_ []byte, err error) {
	defer func() { // what the library makes of odd limits of an axis
		if v := recover(); v != nil {
			err = fmt.Errorf("draw %q: %v", p.Y.Label.Text, v)
		}
	}()
	c := vgsvg.New(w, h)
	p.Draw(draw.New(c))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// inline is a chart for a page: without the prologue of a file, as wide as its place.
func inline(p *plot.Plot) ([]byte, error) {
	p.Legend = plot.NewLegend() // the page has one
	text, err := svg(p, width, height)
	if err != nil {
		return nil, err
	}
	i := bytes.Index(text, []byte("<svg"))
	j := bytes.Index(text, []byte("viewBox"))
	if i < 0 || j < i {
		return nil, fmt.Errorf("draw %q: no SVG came of it", p.Y.Label.Text)
	}
	return append([]byte(`<svg role="img" `), text[j:]...), nil
}

// Plot writes bandwidth over time, or, where no course was saved, latency by percentile,
// as an SVG file of its own, 6.5 by 4 inches, with a legend.
func Plot(w io.Writer, docs []*saved.Document) error {
	all := gather(docs)
	p, _ := sweep(all, "bandwidth", saved.BytesPerSecond, bandwidth)
	if p == nil {
		p = course(all, "bandwidth", saved.BytesPerSecond, bandwidths)
	}
	if p == nil {
		p = percentiles(all)
	}
	if p == nil {
		return fmt.Errorf("%w: neither sizes nor a course nor percentiles", ErrNothing)
	}
	p.BackgroundColor = color.White
	p.Legend.Top = true
	text, err := svg(p, 6.5*vg.Inch, 4*vg.Inch)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

func bandwidth(t *saved.Traffic) float64        { return t.Bandwidth }
func iops(t *saved.Traffic) float64             { return t.IOPS }
func bandwidths(t *saved.Traffic) []saved.Point { return t.Bandwidths }
func rates(t *saved.Traffic) []saved.Point      { return t.Rates }
