// Command mutate breaks the SMB Direct engine and the connection above it in one
// way after the other, and shows that a test fails each time: a test that can't
// fail, or a rule that none covers, is found this way.
//
//	mutate [-run REGEXP] [-v]
//
// Nothing in the tree is changed: the go command is given each broken file by
// -overlay. A mutation whose text is not in its file exactly once, or does not
// compile, is an error, so that the table keeps up with the code. It exits with 1
// if a mutation survives.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// mutation is one way to break the code.
type mutation struct {
	name string
	rule string // what it breaks: a row of the specification's, or a law
	file string
	old  string // occurs once in file
	new  string
	// pkgs are the packages whose tests are to notice, the likeliest first.
	pkgs []string
}

// limit is for the tests of one package: an engine that hangs is caught too.
const limit = 30 * time.Second

func main() {
	run := flag.String("run", "", "only mutations whose name matches")
	verbose := flag.Bool("v", false, "print what the failing test says")
	flag.Parse()
	re, err := regexp.Compile(*run)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(2)
	}
	tried, bad := 0, 0
	const row = "%-54s %-14s %4.0f s  %s\n"
	for i := range mutations {
		m := &mutations[i]
		if !re.MatchString(m.name) {
			continue
		}
		tried++
		start := time.Now()
		by, out, err := m.try()
		switch {
		case err != nil:
			by = "ERROR: " + err.Error()
			bad++
		case by == "":
			by = "SURVIVED"
			bad++
		}
		fmt.Printf(row, m.name, m.rule, time.Since(start).Seconds(), by)
		if *verbose || err != nil {
			fmt.Println(strings.TrimSpace(out))
		}
	}
	fmt.Printf("%d mutations, %d not caught\n", tried, bad)
	if bad > 0 || tried == 0 {
		os.Exit(1)
	}
}

// try runs the tests with the mutation in place and names the first that failed.
func (m *mutation) try() (by, out string, err error) {
	src, err := os.ReadFile(m.file)
	if err != nil {
		return "", "", err
	}
	if n := bytes.Count(src, []byte(m.old)); n != 1 {
		return "", "", fmt.Errorf("%s has %q %d times", m.file, m.old, n)
	}
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return "", "", err
	}
	defer os.RemoveAll(dir)
	broken := filepath.Join(dir, filepath.Base(m.file))
	if err := os.WriteFile(broken, bytes.Replace(src, []byte(m.old), []byte(m.new), 1), 0o600); err != nil {
		return "", "", err
	}
	abs, err := filepath.Abs(m.file)
	if err != nil {
		return "", "", err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {abs: broken}})
	if err != nil {
		return "", "", err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return "", "", err
	}
	if out, err := command(10*limit, "build", "-overlay", file, "./"+filepath.Dir(m.file)); err != nil {
		return "", out, errors.New("it does not compile")
	}
	for _, pkg := range m.pkgs {
		// The time is for the tests; what they need is built first.
		if out, err := command(10*limit, "test", "-overlay", file, "-vet=off", "-short", "-count=1", "-failfast",
			"-timeout", limit.String(), pkg); err != nil {
			if strings.Contains(out, "[build failed]") || strings.Contains(out, "[setup failed]") {
				return "", out, errors.New("the tests do not compile")
			}
			return pkg + " " + failed(out), out, nil
		}
	}
	return "", "", nil
}

func command(limit time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c := exec.CommandContext(ctx, "go", args...)
	c.WaitDelay = time.Second
	out, err := c.CombinedOutput()
	return string(out), err
}

var (
	failRE  = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	panicRE = regexp.MustCompile(`(?m)^panic: (.*)$`)
)

// failed is the innermost test that failed, or how the tests ended.
func failed(out string) string {
	if all := failRE.FindAllStringSubmatch(out, -1); len(all) > 0 {
		return all[len(all)-1][1]
	}
	if p := panicRE.FindStringSubmatch(out); p != nil {
		return "(panic: " + p[1] + ")"
	}
	return "(failed)"
}
