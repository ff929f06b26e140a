package page

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"gonum.org/v1/plot"

	"github.com/smbd-rdma/smbd-rdma/bench/saved"
)

// ErrNothing is matched where the documents have nothing that could be shown.
var ErrNothing = errors.New("nothing was measured")

//go:embed page.html
var text string

var page = template.Must(template.New("page").Parse(text))

// Options are those of a page.
type Options struct {
	Title string // empty: made of the names of the jobs
}

// The model that the template shows.
type (
	model struct {
		Title    string
		Runs     []runModel
		Findings []finding
		Head     []string
		Columns  int
		Rows     []rowModel
		MoreHead []string
		Charts   []chartModel
		Settings []settingModel
		Errors   []string
		Profiles []profileModel
	}
	runModel struct {
		Label, Program, Time, Command string
		Facts                         []string
	}
	rowModel struct {
		Label, Color, Dash string
		Best               bool
		Load               string
		Cells, More        []cell
	}
	cell struct {
		Name, Text, Note string
		Value            string // exact; empty: not known
	}
	chartModel struct {
		Title, Note string
		Legend      []legendModel
		Picture     template.HTML
	}
	legendModel  struct{ Label, Color, Dash string }
	settingModel struct {
		Job        string
		Options    []saved.Option
		Negotiated []saved.Option
	}
	profileModel struct {
		Job   string
		Parts []saved.Option
	}
)

// perCent are shares with one decimal.
func perCent(parts []saved.Option) []saved.Option {
	out := slices.Clone(parts)
	for i := range out {
		if v, err := strconv.ParseFloat(out[i].Value, 64); err == nil {
			out[i].Value = strconv.FormatFloat(v, 'f', 1, 64)
		}
	}
	return out
}

// Write writes the page.
func Write(w io.Writer, docs []*saved.Document, o Options) error {
	all := gather(docs)
	if len(all) == 0 {
		return fmt.Errorf("%w: no job of %d documents read or wrote", ErrNothing, len(docs))
	}
	m := model{Title: o.Title, Findings: findings(all)}
	if m.Title == "" {
		m.Title = title(all)
	}
	for _, d := range docs {
		m.Runs = append(m.Runs, runModel{d.Label, d.Program, d.Time.UTC().Format(time.DateTime) + " UTC", d.Command, facts(d)})
		for _, j := range d.Jobs {
			m.Settings = append(m.Settings, settingModel{j.Name, j.Options, j.Negotiated})
			if j.Error != "" {
				m.Errors = append(m.Errors, j.Name+": "+j.Error)
			}
			if len(j.Profile) > 0 {
				m.Profiles = append(m.Profiles, profileModel{j.Name, perCent(j.Profile)})
			}
		}
	}
	for _, g := range groups(all) {
		for i, s := range g {
			m.Rows = append(m.Rows, rowModel{Label: s.label, Color: s.Color(), Dash: dash(s), Best: i == 0 && len(g) > 1,
				Load: s.load().String(), Cells: cells(s), More: more(s)})
		}
	}
	for _, c := range m.Rows[0].Cells {
		m.Head = append(m.Head, c.Name)
	}
	for _, c := range m.Rows[0].More {
		m.MoreHead = append(m.MoreHead, c.Name)
	}
	m.Columns = len(m.Head) + 1
	var err error
	if m.Charts, err = charts(all); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := page.Execute(&b, &m); err != nil {
		return err
	}
	_, err = w.Write(b.Bytes())
	return err
}

// facts are what is known of the machine, without what the program's version has said.
func facts(d *saved.Document) (out []string) {
	said := strings.Fields(d.Program)
	for _, o := range d.Machine {
		n, err := strconv.ParseFloat(o.Value, 64)
		switch {
		case o.Value == d.Program, slices.Contains(said, o.Value):
		case o.Name == "cpus":
			out = append(out, o.Value+" processors")
		case o.Name == "memory_bytes" && err == nil:
			out = append(out, fmt.Sprintf("%.1f GiB of memory", n/(1<<30)))
		default:
			out = append(out, o.Name+" "+o.Value)
		}
	}
	return out
}

func title(all []*series) string {
	var names []string
	for _, s := range all {
		if !slices.Contains(names, s.job.Engine) {
			names = append(names, s.job.Engine)
		}
	}
	return "Bench of " + enumerate(names)
}

func dash(s *series) string {
	if s.dashed {
		return "dashed"
	}
	return "solid"
}

// figure is a cell of a value, below nothing where it is not known, and of what it was in
// several runs.
func figure(name string, u saved.Unit, v float64, runs []float64) cell {
	c := cell{Name: name}
	if v < 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		c.Text = "–"
		return c
	}
	c.Text, c.Value = u.Format(v), strconv.FormatFloat(v, 'g', -1, 64)
	if len(runs) > 1 {
		c.Note = fmt.Sprintf("%s to %s in %d runs", u.Format(slices.Min(runs)), u.Format(slices.Max(runs)), len(runs))
	}
	return c
}

// percentile is a cell of a percentile.
func percentile(l *saved.Latency, p float64, runs []float64) cell {
	v, known := l.Percentile(p)
	if !known {
		v = -1
	}
	return figure("p"+strconv.FormatFloat(p, 'g', -1, 64), saved.Nanoseconds, float64(v), runs)
}

// cells are the figures of a row, the same for all.
func cells(s *series) []cell {
	t, j := s.traffic, s.job
	out := []cell{
		figure("bandwidth", saved.BytesPerSecond, t.Bandwidth, t.Runs.Bandwidth),
		figure("IOPS", saved.PerSecond, t.IOPS, t.Runs.IOPS),
		figure("mean", saved.Nanoseconds, t.Latency.Mean, t.Runs.Mean),
	}
	for _, p := range []struct {
		p    float64
		runs []float64
	}{{50, t.Runs.P50}, {99, t.Runs.P99}, {99.9, t.Runs.P999}} {
		out = append(out, percentile(&t.Latency, p.p, p.runs))
	}
	out = append(out,
		figure("client CPU", saved.SecondsPerGiB, j.ClientCPU, t.Runs.CPU),
		figure("server CPU", saved.SecondsPerGiB, j.ServerCPU, t.Runs.ServerCPU),
		figure("by RDMA", saved.Percent, j.RDMAPercent, nil),
		figure("allocations for each I/O", saved.PerSecond, j.Allocations, nil))
	return out
}

// more are figures of a second table: what was done, by which it can be judged how much a
// percentile far out is worth, and the rest of the latencies.
func more(s *series) []cell {
	t := s.traffic
	l := &t.Latency
	least, most := -1., -1.
	if l.Count > 0 {
		least, most = float64(l.Min), float64(l.Max)
	}
	out := []cell{
		{Name: "moved", Text: strings.TrimSuffix(saved.BytesPerSecond.Format(float64(t.Bytes)), "/s")},
		{Name: "I/Os", Text: strconv.FormatInt(t.IOs, 10)},
		{Name: "in", Text: fmt.Sprintf("%.1f s", t.Runtime.Seconds())},
		figure("shortest", saved.Nanoseconds, least, nil),
	}
	for _, p := range []float64{1, 10, 90, 95, 99.5, 99.99} {
		out = append(out, percentile(l, p, nil))
	}
	return append(out, figure("longest", saved.Nanoseconds, most, nil))
}

// charts are those for which there is something to draw.
func charts(all []*series) ([]chartModel, error) {
	var out []chartModel
	legend := func(lines []*series) (l []legendModel) {
		for _, s := range lines {
			l = append(l, legendModel{s.label, s.Color(), dash(s)})
		}
		return l
	}
	var failed error
	add := func(title, note string, p *plot.Plot, lines []*series) {
		if p == nil || failed != nil {
			return
		}
		picture, err := inline(p)
		if err != nil {
			failed = err
			return
		}
		// The picture is drawn by us, and its text is escaped there.
		out = append(out, chartModel{title, note, legend(lines), template.HTML(picture)})
	}
	for _, part := range parts(all) {
		const since = "Each from where its job began to measure."
		if !part.alone || !part.lines[0].load().small() {
			add("Bandwidth over time"+part.of, since, course(part.lines, "", saved.BytesPerSecond, bandwidths), part.lines)
		}
		if !part.alone || part.lines[0].load().small() {
			add("IOPS over time"+part.of, since, course(part.lines, "", saved.PerSecond, rates), part.lines)
		}
		add("Latency by percentile"+part.of, "Equally far for each further nine; the scale of latency is logarithmic.", percentiles(part.lines), part.lines)
		add("Distribution of latency"+part.of, "The share of the I/Os that took no longer.", distribution(part.lines), part.lines)
	}
	p, lines := sweep(all, "", saved.BytesPerSecond, bandwidth)
	add("Bandwidth by block size", "", p, lines)
	p, lines = sweep(all, "", saved.PerSecond, iops)
	add("IOPS by block size", "", p, lines)
	p, lines = processor(all)
	add("Processor time for each GiB", "User and system, of the whole process.", p, lines)
	return out, failed
}

// maxLines is how many lines of a chart are told from each other.
const maxLines = 6

// part is what one chart shows.
type part struct {
	of    string // what the title says of it
	alone bool   // it is of one kind of work, of which there are others
	lines []*series
}

// parts are the series of each chart: all, or where that is too many, those of one kind of
// work, which are what is to be compared.
func parts(all []*series) (out []part) {
	gs := groups(all)
	if len(all) <= maxLines || len(gs) < 2 {
		return []part{{lines: all}}
	}
	for _, g := range gs {
		out = append(out, part{": " + g[0].load().String(), true, g})
	}
	return out
}

// Of says which latencies a page shows, for its text.
func (m *model) Of() string {
	return "Latencies are from the moment at which an I/O was due to its completion (lat); those of fio's own runs are from its submission (clat) where it wrote percentiles of that only."
}

// Loads are the rows, those of the same work together.
func (m *model) Loads() (out []loadModel) {
	for _, r := range m.Rows {
		if n := len(out); n == 0 || out[n-1].Load != r.Load {
			out = append(out, loadModel{Load: r.Load})
		}
		g := &out[len(out)-1]
		g.Rows = append(g.Rows, r)
	}
	return out
}

type loadModel struct {
	Load string
	Rows []rowModel
}
