package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// column is where a proof is shown.
type column int

const (
	engine column = iota
	api
	acceptorSim
	acceptorIWARP
	server
	initiatorSim
	initiatorIWARP
	client
	columns
)

var heads = [columns]string{"engine", "API", "acceptor, sim", "acceptor, iwarp", "server", "initiator, sim", "initiator, iwarp", "client"}

// cell is what the tests of a column say of a row.
type cell struct{ passed, failed, skipped int }

// results are the cells of each row, and the problems that are not of a row.
type results struct {
	cells    map[string]*[columns]cell
	failures []string
}

// event is a line of go test -json.
type event struct{ Action, Package, Test, Output string }

// rowName finds rows in the name of a test: SD-24, or SD24 in the name of a
// function.
var rowName = regexp.MustCompile(`S([DM])-?([0-9]{2,3})`)

// read takes the results of every test that has no subtests.
func read(r io.Reader) (*results, error) {
	type key struct{ pkg, test string }
	outcome := make(map[key]string)
	parents := make(map[key]bool)
	res := &results{cells: make(map[string]*[columns]cell)}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 16<<20)
	for line := 1; sc.Scan(); line++ {
		b := bytes.TrimSpace(sc.Bytes())
		if len(b) == 0 || b[0] != '{' {
			continue // of the build
		}
		var e event
		if err := json.Unmarshal(b, &e); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		switch e.Action {
		case "pass", "fail", "skip":
		default:
			continue
		}
		if e.Test == "" {
			if e.Action == "fail" {
				res.failures = append(res.failures, e.Package+" failed")
			}
			continue
		}
		outcome[key{e.Package, e.Test}] = e.Action
		if i := strings.LastIndexByte(e.Test, '/'); i >= 0 {
			parents[key{e.Package, e.Test[:i]}] = true
		}
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	if len(outcome) == 0 {
		return nil, fmt.Errorf("no result of a test: the input is to be that of go test -json")
	}
	for k, action := range outcome {
		if parents[k] {
			continue
		}
		if action == "fail" {
			res.failures = append(res.failures, k.pkg+": "+k.test+" failed")
		}
		col, ok := columnOf(k.pkg, k.test)
		if !ok {
			continue
		}
		for _, id := range rowsIn(k.test) {
			c := res.cells[id]
			if c == nil {
				c = new([columns]cell)
				res.cells[id] = c
			}
			switch action {
			case "pass":
				c[col].passed++
			case "fail":
				c[col].failed++
			case "skip":
				c[col].skipped++
			}
		}
	}
	slices.Sort(res.failures)
	return res, nil
}

// rowsIn returns the rows in the name of a test, each once.
func rowsIn(test string) (ids []string) {
	for _, m := range rowName.FindAllStringSubmatch(test, -1) {
		if id := "S" + m[1] + "-" + m[2]; !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// columnOf says where the proofs of a test go; ok is false for none.
func columnOf(pkg, test string) (column, bool) {
	parts := strings.Split(test, "/")
	role := func(name string, sim, iwarp column) (column, bool) {
		if !slices.Contains(parts, name) {
			return 0, false
		}
		if slices.Contains(parts, "sim") {
			return sim, true
		}
		return iwarp, slices.Contains(parts, "iwarp")
	}
	if c, ok := role("acceptor", acceptorSim, acceptorIWARP); ok {
		return c, true
	}
	if c, ok := role("initiator", initiatorSim, initiatorIWARP); ok {
		return c, true
	}
	dir := pkg[strings.LastIndex(pkg, "smbd-rdma/")+len("smbd-rdma/"):]
	switch {
	case dir == "smbdirect":
		return api, true
	case strings.HasPrefix(dir, "smbdirect/core"), strings.HasPrefix(dir, "smbdirect/wire"):
		return engine, true
	case dir == "server" || strings.HasPrefix(dir, "server/"):
		return server, true
	case dir == "client" || strings.HasPrefix(dir, "client/"):
		return client, true
	case dir == "internal/smb2" || dir == "internal/smbcrypto":
		return engine, true
	}
	return 0, false
}
