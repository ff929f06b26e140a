package smbdtest

import (
	_ "embed"
	"strings"
)

//go:embed rows.tsv
var rowsTSV string

// Row is one requirement of [MS-SMBD], or of [MS-SMB2] where it uses RDMA.
type Row struct {
	ID          string // "SD-24", "SM-11"
	Section     string
	Requirement string
	// Acceptor and Initiator say whom it applies to.
	Acceptor, Initiator bool
	// Reaction is what a violation of it by the other end leads to; "-" for none.
	Reaction string
	// Microsoft has the cases of Microsoft's suite that are about it.
	Microsoft []string
}

// Rows returns every requirement, in the order of the specification.
func Rows() []Row {
	var rows []Row
	for line := range strings.Lines(rowsTSV) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 6 {
			panic("smbdtest: rows.tsv: " + line)
		}
		if f[0] == "id" {
			continue
		}
		r := Row{ID: f[0], Section: f[1], Requirement: f[2], Reaction: f[4]}
		r.Acceptor, r.Initiator = f[3] != "initiator", f[3] != "acceptor"
		if f[5] != "-" {
			r.Microsoft = strings.Split(f[5], "; ")
		}
		rows = append(rows, r)
	}
	return rows
}
