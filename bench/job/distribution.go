package job

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

func setDistribution(s *state, a arg) error {
	d, err := parseDistribution(a.text, s.j.KBBase, false)
	if err == nil {
		s.j.Distribution = d
	}
	return err
}

func setFileService(s *state, a arg) error {
	d, err := parseDistribution(a.text, s.j.KBBase, true)
	if err == nil {
		s.j.FileService = d
	}
	return err
}

// parseDistribution reads word:parameter:center, or zones.
func parseDistribution(text string, base int, files bool) (Distribution, error) {
	word, rest, has := cutSuffix(text)
	d := Distribution{Center: -1, Run: 1}
	kinds := map[string]DistributionKind{"random": Uniform, "zipf": Zipf, "pareto": Pareto, "normal": Normal}
	if files {
		kinds["gauss"], kinds["roundrobin"], kinds["sequential"] = Normal, RoundRobin, Sequential
	} else {
		kinds["zoned"], kinds["zoned_abs"] = Zoned, Zoned
	}
	kind, ok := kinds[word]
	if !ok {
		names := []string{}
		for n := range kinds {
			names = append(names, n)
		}
		slices.Sort(names)
		return d, notAWord(word, names)
	}
	d.Kind = kind
	switch kind {
	case Uniform, RoundRobin, Sequential:
		if !has {
			return d, nil
		}
		if !files {
			return d, fmt.Errorf("%s has no parameter", word)
		}
		n, err := parseNumber(rest, base, 1, maxInt)
		d.Run = int(n)
		return d, err
	case Zoned:
		if !has {
			return d, errors.New("zones are missing: zoned:ACCESS/SIZE:ACCESS/SIZE")
		}
		return d, d.parseZones(rest, base, word == "zoned_abs")
	case Zipf:
		d.Param = 1.1
	case Pareto:
		d.Param = 0.2
	}
	if !has {
		return d, nil
	}
	param, center, has := cutSuffix(rest)
	var err error
	if d.Param, err = parseFloat(param, 0, 1e6); err != nil {
		return d, err
	}
	if has {
		if d.Center, err = parseFloat(center, 0, 1); err != nil {
			return d, fmt.Errorf("center: %w", err)
		}
	}
	switch {
	case kind == Zipf && (d.Param == 1 || d.Param == 0):
		err = errors.New("theta of zipf is above 0 and not 1")
	case kind == Pareto && (d.Param <= 0 || d.Param >= 1):
		err = errors.New("the parameter of pareto is above 0 and below 1")
	case kind == Normal && d.Param >= 100:
		err = errors.New("the deviation of normal is in per cent, below 100")
	}
	return d, err
}

// parseZones reads ACCESS/SIZE:ACCESS/SIZE, SIZE being per cent of the file, or bytes.
func (d *Distribution) parseZones(text string, base int, absolute bool) error {
	return eachDirection(text, func(dir Direction, t string) error {
		var zones []Zone
		var access, sizes []*int
		for entry := range strings.SplitSeq(strings.TrimSuffix(t, ":"), ":") {
			ac, size, _ := strings.Cut(entry, "/")
			p, err := parsePercent(ac)
			if err != nil {
				return err
			}
			z, share := Zone{Access: p}, missing
			if absolute {
				if size != "" {
					if z.Size.Bytes, err = parseNumber(size, base, 0, maxBytes); err != nil {
						return err
					}
				}
			} else if share, err = parsePercent(size); err != nil {
				return err
			}
			if zones = append(zones, z); len(zones) > maxSplit*4 {
				return fmt.Errorf("there are more than %d zones", maxSplit*4)
			}
			sizes = append(sizes, &share)
		}
		sum := 0
		for i := range zones {
			access = append(access, &zones[i].Access)
		}
		if err := shareOut(access); err != nil {
			return err
		}
		for _, z := range zones {
			sum += z.Access
		}
		if sum != 100 {
			return fmt.Errorf("the accesses add up to %d per cent, not 100", sum)
		}
		if !absolute {
			if err := shareOut(sizes); err != nil {
				return err
			}
			for i := range zones {
				zones[i].Size.Percent = uint8(*sizes[i])
			}
		}
		d.Zones[dir] = zones
		return nil
	})
}
