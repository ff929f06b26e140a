package saved

import (
	"cmp"
	"slices"
)

// Join makes one document of several runs of the same jobs: of each job, by its name, the
// run whose bandwidth is the median, with the figures of all in Traffic.Runs. What was
// not in all of them is joined of those that have it.
func Join(docs []*Document) *Document {
	if len(docs) == 0 {
		return nil
	}
	out := *docs[0]
	out.Jobs = nil
	byName := make(map[string][]*Job)
	var order []string
	for _, d := range docs {
		for _, j := range d.Jobs {
			if byName[j.Name] == nil {
				order = append(order, j.Name)
			}
			byName[j.Name] = append(byName[j.Name], j)
		}
	}
	for _, name := range order {
		runs := byName[name]
		sorted := slices.Clone(runs)
		dir := runs[0].Direction()
		slices.SortStableFunc(sorted, func(a, b *Job) int {
			return cmp.Compare(a.Traffic[dir].Bandwidth, b.Traffic[dir].Bandwidth)
		})
		median := *sorted[len(sorted)/2]
		for d := range median.Traffic {
			var all Runs
			for _, r := range runs {
				all.Append(&r.Traffic[d].Runs)
			}
			median.Traffic[d].Runs = all
		}
		out.Jobs = append(out.Jobs, &median)
	}
	return &out
}
