package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/saved"
)

// guest is what test/vm/guest-bench has measured in a virtual machine with one software
// RDMA device.
type guest struct {
	fabric  string // siw, rxe
	machine string
	rows    []*row
	failed  []string // what could not be measured, and why
	// lists are times of ls -lR in hundredths of a second, in order, by ours.first and so on.
	lists map[string][]int
}

// guestBase is the system that the others of a guest are compared with.
const guestBase = "Samba, cifs.ko, TCP"

// guestRuns is how many repetitions there are in a guest at most: they take minutes each.
const guestRuns = 3

// fabrics are the devices of guests; each is a machine of its own, as ksmbd serves one kind.
var fabrics = []string{"siw", "rxe"}

// kernel is that of the virtual machines, as test/vm/run looks for it; "" for none.
func kernel() string {
	if k := os.Getenv("VM_KERNEL"); k != "" {
		return k
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	k := filepath.Join(dir, "smbd-rdma", "bzImage")
	if _, err := os.Stat(k); err != nil {
		return ""
	}
	return k
}

// bootGuests measures in virtual machines. A machine that does not come up, or in which an
// end of this project's fails, is an error; what the others have measured is kept.
func (b *bench) bootGuests(ctx context.Context) error {
	k := kernel()
	if k == "" {
		b.noGuests = "no kernel was given: make vm-test builds one, or VM_KERNEL names it"
		return nil
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		b.noGuests = "qemu-system-x86 is not installed"
		return nil
	}
	var failed []error
	for _, f := range fabrics {
		dir := filepath.Join(b.dir, "guest-"+f)
		cmd := exec.CommandContext(ctx, "bash", "test/vm/run", "test/vm/guest-bench")
		cmd.Env = append(os.Environ(), "VM_KERNEL="+k, "VM_BENCH="+dir, "VM_ENV=BENCH_FABRIC BENCH_RUNS BENCH_TIME",
			"BENCH_FABRIC="+f, "BENCH_RUNS="+strconv.Itoa(min(b.runs, guestRuns)), "BENCH_TIME="+strconv.Itoa(b.seconds()))
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		interruptAll(cmd)
		err := cmd.Run()
		g, oerr := openGuest(f, dir)
		if oerr == nil {
			b.guests = append(b.guests, g)
		}
		if err = errors.Join(err, oerr); err != nil {
			failed = append(failed, fmt.Errorf("the virtual machine with %s: %w", f, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	switch {
	case len(b.guests) > 0:
	case ctx.Err() != nil:
		b.noGuests = "it was interrupted before that"
	default:
		b.noGuests = "the virtual machines have failed"
	}
	return errors.Join(failed...)
}

// interruptAll has a command, and what it has started, interrupted at the end of its context:
// test/vm/run waits for its machine, which ends then, and takes its directory away.
func interruptAll(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 30 * time.Second
}

// openGuest reads what a guest has left in a directory.
func openGuest(fabric, dir string) (*guest, error) {
	g := &guest{fabric: fabric}
	facts, err := table(filepath.Join(dir, "machine.tsv"), 2)
	if err != nil {
		return nil, err
	}
	var words []string
	for _, f := range facts {
		words = append(words, f[0]+" "+f[1])
	}
	g.machine = strings.Join(words, ", ")
	lines, err := table(filepath.Join(dir, "rows.tsv"), 4)
	if err != nil {
		return nil, err
	}
	type key struct{ load, system string }
	rows := make(map[key]*row)
	for _, f := range lines {
		file, rw, system, command := f[0], f[1], f[2], f[3]
		l, known := loadOf(rw)
		if !known {
			return nil, fmt.Errorf("rows.tsv has the load %q", rw)
		}
		if file == "-" {
			g.failed = append(g.failed, fmt.Sprintf("%s, %s: %s", system, l.name, command))
			continue
		}
		if file != filepath.Base(file) {
			return nil, fmt.Errorf("rows.tsv has the file %q", file)
		}
		d, err := saved.Open(filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		j, err := only(d)
		if err != nil { // one run of several, maybe
			g.failed = append(g.failed, fmt.Sprintf("%s, %s: %v", system, l.name, err))
			continue
		}
		// That of a client in the kernel is not the process's, and its neighbour's is not
		// comparable with it.
		j.ClientCPU = -1
		k := key{rw, system}
		if rows[k] == nil {
			rows[k] = &row{load: l.name, system: system, command: command, small: l.small}
			g.rows = append(g.rows, rows[k])
		}
		rows[k].runs = append(rows[k].runs, j)
	}
	if lines, err = table(filepath.Join(dir, "lists.tsv"), 2); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	g.lists = make(map[string][]int)
	for _, f := range lines {
		took, err := strconv.Atoi(f[1])
		if err != nil || took <= 0 {
			return nil, fmt.Errorf("lists.tsv has the time %q", f[1])
		}
		g.lists[f[0]] = append(g.lists[f[0]], took)
	}
	for _, l := range g.lists {
		slices.Sort(l)
	}
	if len(g.rows) == 0 {
		return nil, errors.New("it has measured nothing")
	}
	return g, nil
}

// table reads lines of so many fields with tabs between them.
func table(name string, fields int) ([][]string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var lines [][]string
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != fields {
			return nil, fmt.Errorf("%s: %q has %d fields, not %d", filepath.Base(name), line, len(f), fields)
		}
		lines = append(lines, f)
	}
	return lines, nil
}

func loadOf(rw string) (load, bool) {
	for _, l := range loads {
		if l.rw == rw {
			return l, true
		}
	}
	return load{}, false
}
