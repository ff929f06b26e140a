// Command interoptable writes the tables of docs/interop.md from what the runs of
// test/vm/interop found, docs/interop/*.tsv: a line for each cell with column, row,
// outcome, figure and command, the last line of a cell being the one that counts.
// It drops the others from the files.
//
//	interoptable [-results docs/interop] [-o docs/interop.md]
//
// What is between the lines "<!-- NAME -->" and "<!-- end of NAME -->" is its own,
// for NAME matrix-server, matrix-client, quirks and commands.
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// cell is one line of results.
type cell struct{ column, row, outcome, figure, command string }

// column is a pair of ends and what is between them.
type column struct{ id, title string }

var (
	serverColumns = []column{{"server-rxe", "verbs, rxe"}, {"server-siw", "verbs, siw"}, {"server-iwarp", "iwarp, siw"}}
	clientColumns = []column{{"client-rxe", "verbs, rxe"}, {"client-siw", "verbs, siw"}, {"client-iwarp", "iwarp, siw"}}
	// The rows that every column has come first, in this order; others follow as
	// they were run.
	firstRows = []string{"mix", "tree", "sequential", "signing", "encryption", "encrypted", "refused", "cut", "killed"}
	rowTitles = map[string]string{
		"mix":        "random mix of 4 KiB to 1 MiB, 4 jobs, crc32c",
		"tree":       "tree of small files",
		"sequential": "sequential, crc32c",
		"signing":    "signing required",
		"encryption": "encryption of the client's choice",
		"encrypted":  "encryption required by the server",
		"refused":    "encryption, READs that do not fit are refused",
		"cut":        "connection cut in the middle",
		"killed":     "server killed and started again",
	}
)

func main() {
	results := flag.String("results", "docs/interop", "directory with the results")
	out := flag.String("o", "docs/interop.md", "the page")
	flag.Parse()
	if err := run(*results, *out); err != nil {
		fmt.Fprintln(os.Stderr, "interoptable:", err)
		os.Exit(1)
	}
}

func run(results, out string) error {
	files, err := filepath.Glob(filepath.Join(results, "*.tsv"))
	if err != nil {
		return err
	}
	slices.Sort(files)
	var cells []cell
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		cs, err := parse(text)
		if err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		if err := os.WriteFile(f, format(cs), 0o644); err != nil {
			return err
		}
		cells = append(cells, cs...)
	}
	page, err := os.ReadFile(out)
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"matrix-server": matrix(cells, serverColumns),
		"matrix-client": matrix(cells, clientColumns),
		"quirks":        list(cells, "quirks"),
		"commands":      commands(cells),
	} {
		if page, err = replace(page, name, text); err != nil {
			return fmt.Errorf("%s: %w", out, err)
		}
	}
	return os.WriteFile(out, page, 0o644)
}

// parse reads results and keeps the last line of each cell, where its first was.
func parse(text []byte) ([]cell, error) {
	var cells []cell
	s := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; s.Scan(); n++ {
		f := strings.Split(s.Text(), "\t")
		if len(f) != 5 {
			return nil, fmt.Errorf("line %d has %d fields, not 5", n, len(f))
		}
		c := cell{f[0], f[1], f[2], f[3], f[4]}
		i := slices.IndexFunc(cells, func(o cell) bool { return o.column == c.column && o.row == c.row })
		if i >= 0 {
			cells[i] = c
		} else {
			cells = append(cells, c)
		}
	}
	return cells, s.Err()
}

func format(cells []cell) []byte {
	var b bytes.Buffer
	for _, c := range cells {
		fmt.Fprintf(&b, "%s\t%s\t%s\t%s\t%s\n", c.column, c.row, c.outcome, c.figure, c.command)
	}
	return b.Bytes()
}

// matrix is a table with a line for each row that a column has.
func matrix(cells []cell, columns []column) string {
	rows := slices.Clone(firstRows)
	for _, c := range cells {
		if in(columns, c.column) && !slices.Contains(rows, c.row) {
			rows = append(rows, c.row)
		}
	}
	var b strings.Builder
	b.WriteString("| |")
	for _, c := range columns {
		fmt.Fprintf(&b, " %s |", c.title)
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(columns)) + "\n")
	for _, r := range rows {
		line, any := "", false
		for _, col := range columns {
			i := slices.IndexFunc(cells, func(c cell) bool { return c.column == col.id && c.row == r })
			if i < 0 {
				line += " not run |"
				continue
			}
			any = true
			line += fmt.Sprintf(" %s: %s |", bold(cells[i].outcome), escape(cells[i].figure))
		}
		if any {
			fmt.Fprintf(&b, "| %s |%s\n", title(r), line)
		}
	}
	return b.String()
}

// list is a table of one column's cells.
func list(cells []cell, column string) string {
	var b strings.Builder
	b.WriteString("| experiment | as expected | seen | command |\n| --- | --- | --- | --- |\n")
	for _, c := range cells {
		if c.column == column {
			fmt.Fprintf(&b, "| %s | %s | %s | `%s` |\n", escape(c.row), map[bool]string{true: "yes", false: "**no**"}[c.outcome == "pass"],
				escape(c.figure), escape(c.command))
		}
	}
	return b.String()
}

func commands(cells []cell) string {
	var b strings.Builder
	b.WriteString("| column | row | command |\n| --- | --- | --- |\n")
	for _, c := range cells {
		if c.column != "quirks" {
			fmt.Fprintf(&b, "| %s | %s | `%s` |\n", c.column, escape(c.row), escape(c.command))
		}
	}
	return b.String()
}

func in(columns []column, id string) bool {
	return slices.ContainsFunc(columns, func(c column) bool { return c.id == id })
}

func title(row string) string {
	if t, ok := rowTitles[row]; ok {
		return row + ": " + t
	}
	return "`" + escape(row) + "`"
}

func bold(outcome string) string {
	if outcome == "FAIL" {
		return "**FAIL**"
	}
	return outcome
}

// escape is text for a cell of a Markdown table.
func escape(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// replace puts text between the two marks of name.
func replace(page []byte, name, text string) ([]byte, error) {
	begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->\n"
	before, rest, ok := strings.Cut(string(page), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return nil, fmt.Errorf("no %q and %q", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return []byte(before + begin + text + end + after), nil
}
