package job

import (
	"fmt"
	"slices"
	"strings"
)

// arg is what an option is set to.
type arg struct {
	text string
	bare bool // there is no =
}

// setter puts an option's value into a job.
type setter func(s *state, a arg) error

// wants says whether an option has a value.
type wants int

const (
	wantsValue   wants = iota
	wantsNothing       // or 0 or 1
	wantsMaybe         // a name, with a default
)

// option is a row of the table. One of set, harmless and refused says what becomes of it.
type option struct {
	name    string
	aliases []string
	wants   wants
	// prio is fio's: options of a section are carried out by falling priority, not in
	// the order in which they stand.
	prio int
	set  setter
	// harmless is why leaving the option out changes nothing of what is measured.
	harmless string
	// words are the values that a harmless option may have; empty: any.
	words []string
	// refused is why it is refused, unless it has one of the values that say what is so
	// anyway (neutral).
	refused string
	neutral []string
	// engines are those that take it; empty: all, as it is an option of jobs.
	engines []Engine
}

// options is the table of all options of jobs that fio 3.33 knows, and of the engines here.
var options = slices.Concat(whoOptions, sizeOptions, fileOptions, paceOptions, randomOptions, verifyOptions, reportOptions, engineOptions, otherOptions, foreignOptions)

// byName finds options by their names and aliases.
var byName = func() map[string]*option {
	m := map[string]*option{}
	for i := range options {
		o := &options[i]
		for _, n := range append([]string{o.name}, o.aliases...) {
			if m[n] != nil {
				panic("two options are called " + n)
			}
			m[n] = o
		}
	}
	return m
}()

// find looks an option up; rdma-threshold is rdma_threshold too.
func find(name string) *option {
	if o := byName[name]; o != nil {
		return o
	}
	if o := byName[strings.ReplaceAll(name, "-", "_")]; o != nil && len(o.engines) > 0 {
		return o
	}
	return nil
}

// apply carries out one option.
func (o *option) apply(s *state, a arg) error {
	switch {
	case a.bare && o.wants == wantsValue && o.set != nil:
		return fmt.Errorf("a value is missing: %s=...", o.name)
	case !a.bare && a.text == "" && o.wants != wantsMaybe:
		return fmt.Errorf("the value is empty")
	case o.refused != "":
		if slices.Contains(o.neutral, a.text) {
			return nil
		}
		return fmt.Errorf("%s", o.refused)
	case o.harmless != "":
		if len(o.words) > 0 && !slices.Contains(o.words, a.text) {
			return fmt.Errorf("%q is not one of %s", a.text, strings.Join(o.words, ", "))
		}
		s.note(o.name + " has no effect: " + o.harmless)
		return nil
	}
	if err := o.set(s, a); err != nil {
		return err
	}
	s.given[o.name] = true
	if s.own != nil {
		s.own[o.name] = true
	}
	return nil
}

// nearest is the known name that is most like name; empty if none is.
func nearest(name string, among []string) string {
	best, least := "", (len(name)+1)/2+1
	for _, k := range among {
		if d := distance(name, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is how many letters have to be changed, put in or left out (Levenshtein).
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j := range b {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// unknown is the error for an option that is in no table.
func unknown(name string) error {
	var all []string
	for n := range byName {
		all = append(all, n)
	}
	slices.Sort(all)
	if n := nearest(name, all); n != "" {
		return fmt.Errorf("there is no such option; the nearest is %s", n)
	}
	return fmt.Errorf("there is no such option")
}
