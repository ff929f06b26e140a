package job

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

const (
	// MaxBlock is the largest I/O in bytes.
	MaxBlock = 1 << 30
	// MaxDepth is how many I/Os a job may have under way.
	MaxDepth = 1 << 16
	// maxSplit is how many entries a split may have, as in fio.
	maxSplit = 64
)

func setBlockSize(s *state, a arg) error {
	return eachDirection(a.text, func(d Direction, t string) error {
		n, err := parseNumber(t, s.j.KBBase, 1, MaxBlock)
		if err == nil {
			s.bs[d] = n
		}
		return err
	})
}

func setBlockRange(s *state, a arg) error {
	return eachDirection(a.text, func(d Direction, t string) error {
		lo, hi := parseRange(t)
		if lo == t {
			return fmt.Errorf("%q is not a range like 4k-64k", t)
		}
		from, err := parseNumber(lo, s.j.KBBase, 1, MaxBlock)
		if err != nil {
			return err
		}
		to, err := parseNumber(hi, s.j.KBBase, 1, MaxBlock)
		if err != nil {
			return err
		}
		s.j.MinBS[d], s.j.MaxBS[d] = min(from, to), max(from, to)
		return nil
	})
}

// missing marks an entry of a split that has no percentage.
const missing = -1

// shareOut gives entries without a percentage equal parts of what is left.
func shareOut(percents []*int) error {
	sum, without := 0, 0
	for _, p := range percents {
		if *p == missing {
			without++
		} else {
			sum += *p
		}
	}
	if sum > 100 {
		return fmt.Errorf("the percentages add up to %d", sum)
	}
	for _, p := range percents {
		if *p == missing {
			*p = (100 - sum) / without
		}
	}
	return nil
}

// parsePercent reads what follows the / of an entry; nothing is a missing percentage.
func parsePercent(s string) (int, error) {
	if s == "" {
		return missing, nil
	}
	n, err := parseNumber(s, 1024, 0, 100)
	return int(n), err
}

// setSplit reads size/percent:size/percent.
func setSplit(s *state, a arg) error {
	return eachDirection(a.text, func(d Direction, t string) error {
		var split []Split
		for entry := range strings.SplitSeq(strings.TrimSuffix(t, ":"), ":") {
			size, percent, _ := strings.Cut(entry, "/")
			n, err := parseNumber(size, s.j.KBBase, 1, MaxBlock)
			if err != nil {
				return err
			}
			p, err := parsePercent(percent)
			if err != nil {
				return err
			}
			if p == 0 && percent != "" { // fio takes 0 for not given
				p = missing
			}
			if split = append(split, Split{n, p}); len(split) > maxSplit {
				return fmt.Errorf("there are more than %d entries", maxSplit)
			}
		}
		var percents []*int
		lo, hi := split[0].Size, split[0].Size
		for i := range split {
			percents = append(percents, &split[i].Percent)
			lo, hi = min(lo, split[i].Size), max(hi, split[i].Size)
		}
		if err := shareOut(percents); err != nil {
			return err
		}
		slices.SortStableFunc(split, func(a, b Split) int { return cmp.Compare(a.Percent, b.Percent) })
		s.j.BSSplit[d], s.j.MinBS[d], s.j.MaxBS[d] = split, lo, hi
		return nil
	})
}

func setFileSize(s *state, a arg) error {
	lo, hi := parseRange(a.text)
	from, err := parseNumber(lo, s.j.KBBase, 1, maxBytes)
	if err != nil {
		return err
	}
	to, err := parseNumber(hi, s.j.KBBase, 1, maxBytes)
	if err != nil {
		return err
	}
	s.j.FileSizeMin, s.j.FileSizeMax = min(from, to), max(from, to)
	return nil
}

var errZoned = "zoned block devices are not measured here"

// sizeOptions say how large I/Os and files are.
var sizeOptions = []option{
	{name: "bs", aliases: []string{"blocksize"}, set: setBlockSize},
	{name: "ba", aliases: []string{"blockalign"}, set: perDirection(func(j *Job) *[Directions]uint64 { return &j.BA }, 1, MaxBlock)},
	{name: "bsrange", aliases: []string{"blocksize_range"}, set: setBlockRange},
	{name: "bssplit", set: setSplit},
	{name: "bs_unaligned", aliases: []string{"blocksize_unaligned"}, wants: wantsNothing, set: flagTo(func(j *Job) *bool { return &j.BSUnaligned })},
	{name: "bs_is_seq_rand", set: boolTo(func(j *Job) *bool { return &j.BSIsSeqRand })},
	{name: "size", set: amountTo(func(j *Job) *Amount { return &j.Size })},
	{name: "io_size", aliases: []string{"io_limit"}, set: amountTo(func(j *Job) *Amount { return &j.IOSize })},
	{name: "filesize", set: setFileSize},
	{name: "fill_device", aliases: []string{"fill_fs"}, set: boolTo(func(j *Job) *bool { return &j.FillDevice })},
	{name: "offset", aliases: []string{"fileoffset"}, set: amountTo(func(j *Job) *Amount { return &j.Offset })},
	{name: "offset_increment", set: amountTo(func(j *Job) *Amount { return &j.OffsetIncrement })},
	{name: "offset_align", set: bytesTo(func(j *Job) *uint64 { return &j.OffsetAlign }, 0, maxInt)},
	{name: "iodepth", set: intTo(func(j *Job) *int { return &j.IODepth }, 1, MaxDepth)},
	{name: "iodepth_batch", aliases: []string{"iodepth_batch_submit"}, set: intTo(func(j *Job) *int { return &j.IODepthBatch }, 0, MaxDepth)},
	{name: "iodepth_batch_complete_min", aliases: []string{"iodepth_batch_complete"}, set: intTo(func(j *Job) *int { return &j.IODepthBatchCompleteMin }, 0, MaxDepth)},
	{name: "iodepth_batch_complete_max", set: intTo(func(j *Job) *int { return &j.IODepthBatchCompleteMax }, 0, MaxDepth)},
	{name: "iodepth_low", set: intTo(func(j *Job) *int { return &j.IODepthLow }, 0, MaxDepth)},
	{name: "serialize_overlap", set: boolTo(func(j *Job) *bool { return &j.SerializeOverlap })},
	{name: "io_submit_mode", set: wordTo(func(j *Job) *bool { return &j.Offload }, map[string]bool{"inline": false, "offload": true})},
	{name: "zonemode", refused: errZoned, neutral: []string{"none"}},
	{name: "zonesize", refused: errZoned, neutral: []string{"0"}},
	{name: "zonecapacity", refused: errZoned, neutral: []string{"0"}},
	{name: "zonerange", refused: errZoned, neutral: []string{"0"}},
	{name: "zoneskip", refused: errZoned, neutral: []string{"0"}},
	{name: "read_beyond_wp", refused: errZoned, neutral: []string{"0"}},
	{name: "max_open_zones", refused: errZoned, neutral: []string{"0"}},
	{name: "job_max_open_zones", refused: errZoned, neutral: []string{"0"}},
	{name: "ignore_zone_limits", refused: errZoned, neutral: []string{"0"}},
	{name: "zone_reset_threshold", refused: errZoned},
	{name: "zone_reset_frequency", refused: errZoned},
}
