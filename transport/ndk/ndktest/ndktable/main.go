// Command ndktable writes the coverage table of the NDK header from the results
// of the conformance suite.
//
//	ndktable -results docs/ndk-coverage -columns 'iwarp;sim;verbs, rxe;verbs, siw' -o docs/ndk-coverage.md
//
// It exits with 1, after it wrote the table, if a statement failed or has no
// result in one of the columns.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk/ndktest"
)

func main() {
	results := flag.String("results", "", "directory with the result files of the suite")
	columns := flag.String("columns", "", "the columns, separated by semicolons")
	out := flag.String("o", "", "file to write; standard output if empty")
	flag.Parse()
	if *results == "" || *columns == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	text, problems, err := render(*results, strings.Split(*columns, ";"))
	if err == nil {
		if *out == "" {
			_, err = os.Stdout.WriteString(text)
		} else {
			err = os.WriteFile(*out, []byte(text), 0o666)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ndktable:", err)
		os.Exit(2)
	}
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, "ndktable:", p)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
}

// column has the outcome of each statement over all runs of a column: a failure
// counts most, and what only some configurations of a device offer it offers.
type column struct {
	name     string
	variants []string
	found    map[string]ndktest.Result
}

var severity = map[ndktest.Outcome]int{ndktest.NotOffered: 1, ndktest.Pass: 2, ndktest.Failed: 3}

func load(dir string, names []string) ([]*column, error) {
	cols := make([]*column, len(names))
	for i, n := range names {
		cols[i] = &column{name: strings.TrimSpace(n), found: make(map[string]ndktest.Result)}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.tsv"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	for _, f := range files {
		name, variant, results, err := ndktest.ReadResults(f)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(cols, func(c *column) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("%s: column %q is not one of -columns", f, name)
		}
		if variant != "" {
			cols[i].variants = append(cols[i].variants, variant)
		}
		for _, r := range results {
			if severity[r.Outcome] > severity[cols[i].found[r.Statement].Outcome] {
				cols[i].found[r.Statement] = r
			}
		}
	}
	return cols, nil
}

// render returns the table, and a line for each statement without a pass or a
// reason.
func render(dir string, names []string) (text string, problems []string, err error) {
	cols, err := load(dir, names)
	if err != nil {
		return "", nil, err
	}
	var b strings.Builder
	b.WriteString(`# Coverage of the NDK header

Every entry of ndkpi.h, and what the conformance suite (transport/ndk/ndktest)
found of it on each provider and device. Written by ` + "`make ndk-table`" + ` from the
suite's own results; do not edit. Each entry has numbered statements
(transport/ndk/ndktest/rows.tsv), each proved by the subtest ENTRY/NUMBER. A cell
counts the statements that passed, and names those that failed or that the device
does not offer; the reasons are below the table.

`)
	rows := ndktest.Rows()
	b.WriteString("| entry | kind | statements |")
	for _, c := range cols {
		b.WriteString(" " + c.name + " |")
	}
	b.WriteString("\n| --- | --- | ---: |" + strings.Repeat(" --- |", len(cols)) + "\n")
	totals := make([][3]int, len(cols))
	statements := 0
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %d |", r.Name, r.Kind, len(r.Statements))
		statements += len(r.Statements)
		for i, c := range cols {
			cell, counts, bad := c.cell(r)
			b.WriteString(" " + cell + " |")
			for k, n := range counts {
				totals[i][k] += n
			}
			problems = append(problems, bad...)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "| **all %d entries** | | **%d** |", len(rows), statements)
	for _, t := range totals {
		fmt.Fprintf(&b, " **pass %d, not offered %d, fail %d** |", t[0], t[1], t[2])
	}
	b.WriteString("\n")
	for _, c := range cols {
		if len(c.variants) > 0 {
			fmt.Fprintf(&b, "\n**%s** ran in %d variants: %s. A failure of one counts for the column; not offered is what none of them offers.\n", c.name, len(c.variants), strings.Join(c.variants, "; "))
		}
	}
	for _, c := range cols {
		c.reasons(&b, rows)
	}
	return b.String(), problems, nil
}

func (c *column) cell(r ndktest.Row) (text string, counts [3]int, problems []string) {
	var failed, lacking []string
	for i := range r.Statements {
		id := ndktest.StatementID(r.Name, i+1)
		switch res, ok := c.found[id]; {
		case !ok:
			failed = append(failed, fmt.Sprint(i+1))
			problems = append(problems, fmt.Sprintf("%s: %s has no result", c.name, id))
		case res.Outcome == ndktest.Pass:
			counts[0]++
		case res.Outcome == ndktest.NotOffered:
			lacking = append(lacking, fmt.Sprint(i+1))
		default:
			failed = append(failed, fmt.Sprint(i+1))
			problems = append(problems, fmt.Sprintf("%s: %s failed: %s", c.name, id, r.Statements[i]))
		}
	}
	counts[1], counts[2] = len(lacking), len(failed)
	var parts []string
	if counts[0] > 0 {
		parts = append(parts, fmt.Sprintf("pass %d", counts[0]))
	}
	if len(lacking) > 0 {
		parts = append(parts, "not offered: "+strings.Join(lacking, ", "))
	}
	if len(failed) > 0 {
		parts = append(parts, "**fail: "+strings.Join(failed, ", ")+"**")
	}
	return strings.Join(parts, "; "), counts, problems
}

// reasons writes why the device does not offer what it does not, statements with
// the same reason together.
func (c *column) reasons(b *strings.Builder, rows []ndktest.Row) {
	var order []string
	by := make(map[string][]string)
	for _, r := range rows {
		for i := range r.Statements {
			id := ndktest.StatementID(r.Name, i+1)
			if res := c.found[id]; res.Outcome == ndktest.NotOffered {
				if by[res.Why] == nil {
					order = append(order, res.Why)
				}
				by[res.Why] = append(by[res.Why], id)
			}
		}
	}
	if len(order) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## Not offered by %s\n\n", c.name)
	for _, why := range order {
		fmt.Fprintf(b, "- %s: %s\n", why, strings.Join(by[why], ", "))
	}
}
