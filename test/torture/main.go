// Command torture runs Samba's smbtorture against a server of this project, one test
// in a process of its own, and writes docs/smbtorture.md: a row for each test, with
// what Samba and DittoFS make of it.
//
//	go run ./test/torture                        all tests, and the document
//	go run ./test/torture -run 'smb2\.lock\..*'  some of them, on the terminal
//	go run ./test/torture -check                 fails if a test that passed does not
//
// It needs smbtorture (Debian's samba-testsuite), and root for the tests that want two
// users of the system; it serves on loopback in a network namespace of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"time"
)

type options struct {
	run     *regexp.Regexp
	check   bool
	list    bool
	render  bool
	jobs    int
	binary  string
	keep    string
	results string
	doc     string
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

func run() error {
	var o options
	pattern := flag.String("run", "", "regular expression of the tests' whole names; the document is then left alone")
	flag.BoolVar(&o.check, "check", false, "run what has passed and takes less than a few seconds; fail if something does not pass any more")
	flag.BoolVar(&o.list, "list", false, "print the names of the tests")
	flag.BoolVar(&o.render, "render", false, "write the document from the last results, without running anything")
	flag.IntVar(&o.jobs, "j", runtime.NumCPU(), "tests at a time")
	flag.StringVar(&o.binary, "binary", "", "smbd-rdma to test (default: the one that go build makes of this tree)")
	flag.StringVar(&o.keep, "keep", "", "directory for the output of each test and the server's log")
	flag.StringVar(&o.results, "results", "test/torture/results.tsv", "the last results")
	flag.StringVar(&o.doc, "o", "docs/smbtorture.md", "the document")
	flag.Parse()
	if *pattern != "" {
		re, err := regexp.Compile("^(?:" + *pattern + ")$")
		if err != nil {
			return err
		}
		o.run = re
	}
	if o.jobs < 1 {
		return errors.New("-j must be at least 1")
	}
	if _, err := exec.LookPath("smbtorture"); err != nil {
		return errors.New("smbtorture is not installed: apt-get install samba-testsuite")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if inside, err := inNamespace(ctx); inside || err != nil {
		return err
	}

	peers, err := readPeers("test/torture/peers.tsv")
	if err != nil {
		return err
	}
	old, err := readResults(o.results)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if o.render {
		return writeDocument(o.doc, old, peers)
	}
	names, err := leafTests(ctx)
	if err != nil {
		return err
	}
	names = o.choose(names, old)
	if o.list {
		for _, n := range names {
			fmt.Println(n)
		}
		return nil
	}
	s, err := newSite(ctx, &o)
	if err != nil {
		return err
	}
	defer s.close()
	began := time.Now()
	results, err := s.runAll(ctx, names, func(n string) bool { return peers[n].passes() || old[n].Outcome == pass })
	if err != nil {
		return err
	}
	fmt.Printf("%v in %v\n", count(results), time.Since(began).Round(time.Second))
	switch {
	case o.check:
		return compare(results, old)
	case o.run != nil:
		return nil
	}
	if err := writeResults(o.results, results); err != nil {
		return err
	}
	return writeDocument(o.doc, results, peers)
}

// choose takes from all tests those to be run.
func (o *options) choose(names []string, old map[string]result) []string {
	var out []string
	for _, n := range names {
		switch {
		case o.run != nil && !o.run.MatchString(n), leftOut(n):
		case o.check && (old[n].Outcome != pass || old[n].Seconds > quick):
		default:
			out = append(out, n)
		}
	}
	return out
}

// quick is the time in seconds up to which a test is one of -check.
const quick = 4

// inNamespace runs this program again in a network namespace of its own if it is
// root's: some tests have the port 445 built in, which may be taken outside.
func inNamespace(ctx context.Context) (done bool, err error) {
	const mark = "SMBD_RDMA_TORTURE_NAMESPACE"
	if os.Getuid() != 0 || os.Getenv(mark) != "" {
		return false, nil
	}
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	args := append([]string{"-c", `ip link set lo up && exec "$0" "$@"`, self}, os.Args[1:]...)
	cmd := exec.CommandContext(ctx, "sh", args...)
	cmd.Env = append(os.Environ(), mark+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		os.Exit(max(exit.ExitCode(), 1))
	} else if err != nil {
		return false, fmt.Errorf("in a network namespace: %w", err)
	}
	return true, nil
}

// projectRoot is where go.mod is: the program is run from there.
func projectRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		return "", errors.New("run it from the root of the project")
	}
	return dir, nil
}
