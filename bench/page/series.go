package page

import (
	"cmp"
	"fmt"
	"image/color"
	"slices"

	"github.com/smbd-rdma/smbd-rdma/bench/result"
	"github.com/smbd-rdma/smbd-rdma/bench/saved"
)

// series is one direction of one job: a row of the tables, a line of the charts.
type series struct {
	job     *saved.Job
	traffic *saved.Traffic
	dir     result.Direction
	label   string
	color   color.RGBA
	dashed  bool
}

// colors are told apart by the colour-blind too (Okabe and Ito).
var colors = []color.RGBA{
	{0x00, 0x72, 0xb2, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff}, {0xcc, 0x79, 0xa7, 0xff},
	{0xe6, 0x9f, 0x00, 0xff}, {0x56, 0xb4, 0xe9, 0xff}, {0x33, 0x33, 0x33, 0xff}, {0x8c, 0x6d, 0x31, 0xff},
}

// Color is how HTML names it.
func (s *series) Color() string {
	return fmt.Sprintf("#%02x%02x%02x", s.color.R, s.color.G, s.color.B)
}

func gather(docs []*saved.Document) []*series {
	var all []*series
	for _, d := range docs {
		for _, j := range d.Jobs {
			for _, dir := range j.Directions() {
				s := &series{job: j, traffic: &j.Traffic[dir], dir: dir, label: j.Name}
				if len(docs) > 1 {
					s.label = d.Label + ": " + j.Name
				}
				if len(j.Directions()) > 1 {
					s.label += ", " + dir.String()
				}
				n := len(all)
				s.color, s.dashed = colors[n%len(colors)], n/len(colors)%2 == 1
				all = append(all, s)
			}
		}
	}
	return all
}

// load is what makes figures comparable: the same work for another engine.
type load struct {
	rw      string
	dir     result.Direction
	size    string
	depth   int
	numJobs int
}

func (s *series) load() load {
	return load{s.job.RW, s.dir, s.job.BlockSize, s.job.Depth, s.job.NumJobs}
}

// small says that I/Os a second matter more than bytes.
func (l load) small() bool {
	n := (&saved.Job{BlockSize: l.size}).Bytes()
	return n > 0 && n < 64<<10
}

func (l load) String() string {
	text := l.rw
	if l.rw != l.dir.String() && l.rw != "rand"+l.dir.String() {
		text += " (" + l.dir.String() + ")"
	}
	text += fmt.Sprintf(", %s, %d in flight", size(l.size), l.depth)
	if l.numJobs > 1 {
		text += fmt.Sprintf(", %d jobs", l.numJobs)
	}
	return text
}

// size writes bytes with a binary prefix where they are a multiple of it.
func size(s string) string {
	n := (&saved.Job{BlockSize: s}).Bytes()
	if n == 0 {
		return s
	}
	for _, u := range []struct {
		n    int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n%u.n == 0 {
			return fmt.Sprintf("%d %s", n/u.n, u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// groups are series that did the same work, best first, in the order of their first.
func groups(all []*series) (out [][]*series) {
	place := make(map[load]int)
	for _, s := range all {
		l := s.load()
		i, seen := place[l]
		if !seen {
			i = len(out)
			place[l] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], s)
	}
	for _, g := range out {
		slices.SortStableFunc(g, func(a, b *series) int { return cmp.Compare(b.traffic.Bandwidth, a.traffic.Bandwidth) })
	}
	return out
}
