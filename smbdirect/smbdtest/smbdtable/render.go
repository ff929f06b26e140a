package main

import (
	"fmt"
	"strings"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/smbdtest"
)

// local says that a row is about what a connection does for its user, which is
// one code for both roles: the API's tests prove it for either.
func local(r smbdtest.Row) bool {
	for _, s := range []string{"1.9", "2.1;", "3.1.1.1", "3.1.4."} {
		if strings.Contains(r.Section, s) {
			return true
		}
	}
	return false
}

// proved reports whether a role that r applies to has a proof in one of cols.
func proved(c *[columns]cell, cols ...column) bool {
	for _, col := range cols {
		if c[col].passed > 0 {
			return true
		}
	}
	return false
}

// state is what the results say of a row: "", "FAIL", or which role is open.
func state(r smbdtest.Row, c *[columns]cell) string {
	for col := range columns {
		if c[col].failed > 0 {
			return "FAIL: " + heads[col]
		}
	}
	acceptor, initiator := []column{acceptorSim, acceptorIWARP, server}, []column{initiatorSim, initiatorIWARP, client}
	if local(r) {
		acceptor, initiator = append(acceptor, api), append(initiator, api)
	}
	var open []string
	if r.Acceptor && !proved(c, acceptor...) {
		open = append(open, "acceptor")
	}
	if r.Initiator && !proved(c, initiator...) {
		open = append(open, "initiator")
	}
	if len(open) > 0 {
		return "open: " + strings.Join(open, ", ")
	}
	return ""
}

// render returns the table, and a line for each row that failed or is open.
func render(rows []smbdtest.Row, res *results) (text string, problems []string) {
	var b strings.Builder
	b.WriteString(`# Coverage of SMB Direct

Every requirement of [MS-SMBD], and of [MS-SMB2] where it uses RDMA, and the tests
that prove it. Written by ` + "`make smbd-table`" + ` from the results of the tests; do not
edit. A test proves the rows that its name has, as
` + "`TestConformance/sim/acceptor/SD-24/...`" + `, and a cell says
where there are some that passed. The last line counts the rows of each column.

* engine: the codec and the state machine (smbdirect/wire, smbdirect/core, internal/smb2)
* API: two connections with each other (smbdirect); it counts for both roles in rows
  about what a connection does for its user
* acceptor, initiator: that end against raw peers (smbdirect/smbdtest), on the
  simulated provider in virtual time and on iWARP
* server, client: these packages' own tests

A row is open if a role that it applies to has no proof beside the engine's.

`)
	var marks, total int
	var sum [columns]int
	line := func(r smbdtest.Row) {
		c := res.cells[r.ID]
		if c == nil {
			c = new([columns]cell)
		}
		applies := "both"
		switch {
		case !r.Initiator:
			applies = "acceptor"
		case !r.Acceptor:
			applies = "initiator"
		}
		st := state(r, c)
		if st != "" {
			marks++
			problems = append(problems, r.ID+" "+st)
		}
		total++
		result := "proved"
		if st != "" {
			result = "**" + st + "**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |", r.ID, r.Section, escape(r.Requirement), applies, result)
		for col := range columns {
			text := ""
			switch {
			case c[col].failed > 0:
				text = "**FAIL**"
			case c[col].passed > 0:
				text = "yes"
				sum[col]++
			case c[col].skipped > 0:
				text = "skipped"
			}
			b.WriteString(" " + text + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString("| row | section | requirement | applies to | result |")
	for _, h := range heads {
		b.WriteString(" " + h + " |")
	}
	b.WriteString("\n| --- | --- | --- | --- | --- |" + strings.Repeat(" ---: |", int(columns)) + "\n")
	for _, r := range rows {
		line(r)
	}
	fmt.Fprintf(&b, "| **all %d rows** | | | | **%d proved, %d not** |", total, total-marks, marks)
	for _, n := range sum {
		fmt.Fprintf(&b, " **%d** |", n)
	}
	b.WriteString("\n")
	known := make(map[string]bool)
	for _, r := range rows {
		known[r.ID] = true
	}
	for id := range res.cells {
		if !known[id] {
			problems = append(problems, id+" is in the name of a test and is no row")
		}
	}
	return b.String(), append(problems, res.failures...)
}

// escape makes text fit into a cell of a table.
func escape(s string) string {
	return strings.NewReplacer("|", "\\|", "<", "&lt;", "*", "\\*").Replace(s)
}
