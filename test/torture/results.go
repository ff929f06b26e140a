package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
)

// outcome is what became of a test.
type outcome string

const (
	pass    outcome = "pass"
	fail    outcome = "fail"
	skip    outcome = "skip"
	timeout outcome = "timeout"
	crash   outcome = "crash"  // of smbtorture
	broken  outcome = "broken" // it could not be run
)

// result is a test that was run.
type result struct {
	Name    string
	Outcome outcome
	Seconds float64
	Why     string
	Again   bool // passed when run a second time, alone
}

func (r result) failed() bool { return r.Outcome != pass && r.Outcome != skip }

func (r result) String() string {
	s := fmt.Sprintf("%-7s %6.1fs  %s", r.Outcome, r.Seconds, r.Name)
	if r.Again {
		s += "  (at the second try)"
	}
	if r.Why != "" {
		s += "  (" + r.Why + ")"
	}
	return s
}

// tally counts outcomes.
type tally map[outcome]int

func count(results map[string]result) tally {
	t := tally{}
	for _, r := range results {
		t[r.Outcome]++
	}
	return t
}

func (t tally) String() string {
	var b strings.Builder
	n := 0
	for _, k := range []outcome{pass, fail, skip, timeout, crash, broken} {
		if n += t[k]; t[k] > 0 {
			fmt.Fprintf(&b, ", %d %s", t[k], k)
		}
	}
	return fmt.Sprintf("%d tests%s", n, b.String())
}

// compare fails if what passed before does not.
func compare(results, old map[string]result) error {
	var worse []string
	for _, n := range slices.Sorted(maps.Keys(results)) {
		if r := results[n]; old[n].Outcome == pass && r.Outcome != pass {
			worse = append(worse, r.String())
		}
	}
	if len(results) == 0 {
		return errors.New("no test was run")
	}
	if len(worse) > 0 {
		return fmt.Errorf("%d tests do not pass any more:\n%s", len(worse), strings.Join(worse, "\n"))
	}
	return nil
}

func writeResults(file string, results map[string]result) error {
	var b bytes.Buffer
	b.WriteString("#test\tresult\tseconds\tfirst line of the failure\n")
	for _, n := range slices.Sorted(maps.Keys(results)) {
		r := results[n]
		fmt.Fprintf(&b, "%s\t%s\t%.1f\t%s\n", r.Name, r.Outcome, r.Seconds, r.Why)
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

func readResults(file string) (map[string]result, error) {
	out := map[string]result{}
	err := eachLine(file, 4, func(f []string) error {
		s, err := strconv.ParseFloat(f[2], 64)
		out[f[0]] = result{Name: f[0], Outcome: outcome(f[1]), Seconds: s, Why: f[3]}
		return err
	})
	return out, err
}

// peer is what others make of a test.
type peer struct {
	samba, dittofs outcome
	ksmbd          bool // it is in the CI of ksmbd
}

func (p peer) passes() bool { return p.samba == pass || p.dittofs == pass }

func readPeers(file string) (map[string]peer, error) {
	out := map[string]peer{}
	err := eachLine(file, 5, func(f []string) error {
		out[f[0]] = peer{samba: outcome(f[1]), ksmbd: f[3] == "yes", dittofs: outcome(f[4])}
		return nil
	})
	return out, err
}

// eachLine calls f with the n fields of each line of a file of tab-separated values.
func eachLine(file string, n int, f func([]string) error) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	i := 0
	for line := range strings.Lines(string(b)) {
		i++
		line = strings.TrimRight(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(line, "\t")
		if len(fields) != n {
			return fmt.Errorf("%s:%d: %d fields, want %d", file, i, len(fields), n)
		}
		if err := f(fields); err != nil {
			return fmt.Errorf("%s:%d: %w", file, i, err)
		}
	}
	return nil
}
