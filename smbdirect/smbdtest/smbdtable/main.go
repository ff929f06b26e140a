// Command smbdtable writes the coverage table of SMB Direct from the results of
// tests.
//
//	go test -json ./smbdirect/... ./server/... ./client/... | smbdtable -o docs/smbdirect-coverage.md
//
// A row of [MS-SMBD] or [MS-SMB2] is proved by each test or subtest that passed
// and has the row in its name: "TestConformance/sim/acceptor/SD-24/..." or
// "TestSD24Versions". Where it ran says for which role: see the head of the table.
//
// It exits with 1, after it wrote the table, if a test of a row failed or a role
// that a row applies to has no proof.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/smbdtest"
)

func main() {
	out := flag.String("o", "", "file to write; standard output if empty")
	flag.Parse()
	problems, err := run(flag.Args(), *out)
	if err != nil {
		fmt.Fprintln(os.Stderr, "smbdtable:", err)
		os.Exit(2)
	}
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, "smbdtable:", p)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
}

// run reads the results from files, or from standard input if there is none.
func run(files []string, out string) (problems []string, err error) {
	var in []io.Reader
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // only read
		in = append(in, f)
	}
	if len(in) == 0 {
		in = append(in, os.Stdin)
	}
	res, err := read(io.MultiReader(in...))
	if err != nil {
		return nil, err
	}
	text, problems := render(smbdtest.Rows(), res)
	if out == "" {
		_, err = os.Stdout.WriteString(text)
	} else {
		err = os.WriteFile(out, []byte(text), 0o666)
	}
	return problems, err
}
