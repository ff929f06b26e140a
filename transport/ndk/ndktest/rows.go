package ndktest

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed rows.tsv
var rowsTSV string

// Row is one entry of the NDK header, with the statements that the suite proves
// of it.
type Row struct {
	Name       string   // as in the header: NDK_FN_SEND
	Kind       string   // function, callback-to-consumer, struct or enum
	Object     string   // the object it belongs to
	Does       string   // in one sentence
	Statements []string // numbered from 1
}

// Rows returns every entry of the header, in the order of the coverage table.
func Rows() []Row {
	var rows []Row
	for line := range strings.Lines(rowsTSV) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if f[0] == "name" {
			continue
		}
		rows = append(rows, Row{Name: f[0], Kind: f[1], Object: f[2], Does: f[3], Statements: strings.Split(f[4], "; ")})
	}
	return rows
}

// StatementID names a statement: the row and its number.
func StatementID(row string, n int) string { return fmt.Sprintf("%s/%d", row, n) }
