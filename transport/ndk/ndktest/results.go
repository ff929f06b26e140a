package ndktest

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Outcome is what a run of the suite found about one statement.
type Outcome string

// The outcomes.
const (
	Pass       Outcome = "pass"        // proved
	NotOffered Outcome = "not offered" // the device lacks it; the reason says what
	Failed     Outcome = "fail"        // not proved, by the proof, the audit or a leak
)

// Result is the outcome of one statement.
type Result struct {
	Statement string // StatementID
	Outcome   Outcome
	Why       string // of NotOffered
}

// ResultsEnv names the environment variable with the directory that Run writes
// its results to, a file for each run: COLUMN__VARIANT.tsv. Without it nothing is
// written.
const ResultsEnv = "NDKTEST_RESULTS"

// writeResults writes the results of a run where ResultsEnv says.
func writeResults(c Config, results []Result) error {
	dir := os.Getenv(ResultsEnv)
	if dir == "" || c.Column == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\t%s\n", c.Column, c.Variant)
	for _, r := range results {
		fmt.Fprintf(&b, "%s\t%s\t%s\n", r.Statement, r.Outcome, r.Why)
	}
	name := fileName(c.Column)
	if c.Variant != "" {
		name += "__" + fileName(c.Variant)
	}
	return os.WriteFile(filepath.Join(dir, name+".tsv"), []byte(b.String()), 0o666)
}

func fileName(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.':
			return r
		}
		return '_'
	}, s)
}

// ReadResults reads one file that Run wrote: the column, the variant and what
// was found.
func ReadResults(path string) (column, variant string, results []Result, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", "", nil, err
	}
	defer func() { _ = f.Close() }() // only read
	sc := bufio.NewScanner(f)
	for line := 1; sc.Scan(); line++ {
		text := sc.Text()
		if head, ok := strings.CutPrefix(text, "# "); ok {
			column, variant, _ = strings.Cut(head, "\t")
			continue
		}
		p := strings.SplitN(text, "\t", 3)
		if len(p) != 3 {
			return "", "", nil, fmt.Errorf("%s:%d: %d fields, want statement, outcome and reason", path, line, len(p))
		}
		switch o := Outcome(p[1]); o {
		case Pass, NotOffered, Failed:
			results = append(results, Result{p[0], o, p[2]})
		default:
			return "", "", nil, fmt.Errorf("%s:%d: outcome %q", path, line, p[1])
		}
	}
	if column == "" {
		return "", "", nil, fmt.Errorf("%s: no line that names the column", path)
	}
	return column, variant, results, sc.Err()
}
