// Peerbench measures this project beside the programs that do the same, in one run on one
// machine, and writes docs/performance.md, with the command behind every figure:
//
//	go run ./test/peerbench [-runs 5] [-time 2s] [-quick] [-out docs/performance.md] [-html FILE]
//
// The loads are those of `smbd-rdma bench`, with this client and go-smb2 against this
// server and Samba; beside them stand fio on the same file, smbclient, and what carries
// bytes without being a file server: raw RDMA of the iwarp provider, ucx_perftest over
// TCP, iperf3. What is not installed is left out and said to be. What fails is said too, and
// the exit status is 1 then. Everything takes turns within each repetition, so that a slow
// minute of the machine meets all.
//
// Then the same client and server take turns with Linux's own, cifs.ko and ksmbd, in
// virtual machines with software RDMA devices (test/vm/guest-bench), where there is a kernel
// for them: $VM_KERNEL, or the one that `make vm-test` has built. It is run in the
// repository's root.
//
// $SMBD_RDMA_BIN (bin/smbd-rdma) is the program that is measured.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/page"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
	"github.com/smbd-rdma/smbd-rdma/bench/saved"
	"github.com/smbd-rdma/smbd-rdma/test/internal/sites"
)

// fileSize is that of the file which all loads go over, as fio says it and in bytes.
const (
	fileSize  = "512m"
	fileBytes = 512 << 20
)

// load is a kind of work.
type load struct {
	name, rw, bs string
	depth        int
	dir          result.Direction
	small        bool
}

var loads = []load{
	{"read 1 MiB in order, 8 in flight", "read", "1m", 8, result.Read, false},
	{"write 1 MiB in order, 8 in flight", "write", "1m", 8, result.Write, false},
	{"read 4 KiB at random, 32 in flight", "randread", "4k", 32, result.Read, true},
	{"write 4 KiB at random, 32 in flight", "randwrite", "4k", 32, result.Write, true},
}

// bench is everything that is measured.
type bench struct {
	bin, dir string
	runs     int
	time     time.Duration

	own, samba *sites.Site
	peer       *exec.Cmd
	peerAddr   string
	absent     []string

	rows []*row
	docs []*saved.Document // a document a run of each row that has one

	guests   []*guest
	noGuests string // why there are none
}

// row is one program at one load.
type row struct {
	load    string
	system  string
	command string // with names in place of ports and directories
	small   bool
	measure func(ctx context.Context, r *row) (*saved.Job, error)
	runs    []*saved.Job
	failed  error // the first run that did, if one has; those that have not are in runs
}

func main() {
	runs := flag.Int("runs", 5, "repetitions, of which medians are taken")
	each := flag.Duration("time", 2*time.Second, "how long a load lasts, in whole seconds")
	quick := flag.Bool("quick", false, "one run of a second: to see that all of it works")
	out := flag.String("out", "docs/performance.md", "the document")
	report := flag.String("html", "", "the report as a page, too")
	flag.Parse()
	if *quick {
		*runs, *each = 1, time.Second
	}
	if flag.NArg() > 0 || *runs < 1 || *each < time.Second || *each%time.Second != 0 {
		fmt.Fprintln(os.Stderr, "peerbench: -runs of 1 and more, -time of 1s and more in whole seconds, no arguments")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *runs, *each, *out, *report); err != nil {
		fmt.Fprintln(os.Stderr, "peerbench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, runs int, each time.Duration, out, report string) (err error) {
	b := &bench{bin: os.Getenv("SMBD_RDMA_BIN"), runs: runs, time: each}
	if b.bin == "" {
		b.bin = "bin/smbd-rdma"
	}
	if b.bin, err = filepath.Abs(b.bin); err != nil {
		return err
	}
	if _, err := os.Stat(b.bin); err != nil {
		return fmt.Errorf("%w: run make build first, or set SMBD_RDMA_BIN", err)
	}
	if b.dir, err = os.MkdirTemp("", "peerbench"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if err := os.Chmod(b.dir, 0o755); err != nil { // servers serve as other users
		return err
	}
	defer b.stop()
	if err := b.start(ctx); err != nil {
		return err
	}
	if err := b.plan(); err != nil {
		return err
	}
	failed := b.measure(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	b.stop() // what follows has the machine to itself
	// Who interrupts that has what was measured before.
	failed = errors.Join(failed, b.bootGuests(ctx), ctx.Err())
	var text bytes.Buffer
	b.write(&text)
	if err := os.WriteFile(out, text.Bytes(), 0o666); err != nil {
		return err
	}
	if report == "" || len(b.docs) == 0 {
		return failed
	}
	text.Reset()
	doc := saved.Join(b.docs)
	doc.Label = "make bench-peers"
	if err := page.Write(&text, []*saved.Document{doc}, page.Options{Title: "smbd-rdma beside its peers"}); err != nil {
		return err
	}
	return errors.Join(failed, os.WriteFile(report, text.Bytes(), 0o666))
}

// measure runs all rows by turns. One that fails is an error, and the others are measured all
// the same.
func (b *bench) measure(ctx context.Context) error {
	var failed []error
	for n := range b.runs {
		for i, r := range b.rows {
			fmt.Fprintf(os.Stderr, "\r\033[Krun %d of %d, %d of %d: %s, %s", n+1, b.runs, i+1, len(b.rows), r.system, r.load)
			syscall.Sync() // what the one before wrote is not written out in the time of this one
			j, err := r.measure(ctx, r)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err == nil:
				r.runs = append(r.runs, j)
			case r.failed == nil:
				r.failed = err
				failed = append(failed, fmt.Errorf("%s, %s: %w", r.system, r.load, err))
			}
		}
	}
	fmt.Fprint(os.Stderr, "\r\033[K")
	return errors.Join(failed...)
}

// start starts the servers, with a file of fileSize in the share of each.
func (b *bench) start(ctx context.Context) error {
	var err error
	if b.own, err = sites.Start(ctx, sites.Own, filepath.Join(b.dir, "own"), sites.Options{RDMA: true, Guests: true}); err != nil {
		return fmt.Errorf("smbd-rdma: %w", err)
	}
	switch b.samba, err = sites.Start(ctx, sites.Samba, filepath.Join(b.dir, "samba"), sites.Options{Guests: true}); {
	case errors.Is(err, sites.ErrAbsent):
		b.absent = append(b.absent, "samba")
		b.samba = nil
	case err != nil:
		return fmt.Errorf("samba: %w", err)
	}
	for _, s := range b.servers() {
		if err := b.fill(filepath.Join(b.dir, s, "share", "file")); err != nil {
			return err
		}
	}
	if err := b.fill(filepath.Join(b.dir, "file")); err != nil {
		return err
	}
	return b.startPeer(ctx)
}

func (b *bench) servers() []string {
	if b.samba == nil {
		return []string{"own"}
	}
	return []string{"own", "samba"}
}

// fill writes a file whose blocks are all there, as reading holes is another job.
func (b *bench) fill(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	piece := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for range fileBytes / len(piece) {
		if _, err := f.Write(piece); err != nil {
			return err
		}
	}
	if err := f.Chmod(0o666); err != nil {
		return err
	}
	return f.Sync()
}

// startPeer starts the other end of raw RDMA.
func (b *bench) startPeer(ctx context.Context) error {
	b.peer = exec.CommandContext(ctx, b.bin, "bench", "peer", "127.0.0.1:0")
	b.peer.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	b.peer.Stderr = os.Stderr
	out, err := b.peer.StdoutPipe()
	if err != nil {
		return err
	}
	if err := b.peer.Start(); err != nil {
		return err
	}
	buf := make([]byte, 256)
	n, err := out.Read(buf)
	if err != nil {
		return fmt.Errorf("bench peer: %w", err)
	}
	if _, addr, found := strings.Cut(strings.TrimSpace(string(buf[:n])), "iwarp://"); found {
		b.peerAddr = addr
		return nil
	}
	return fmt.Errorf("bench peer does not say where it listens: %q", buf[:n])
}

// stop ends the servers that run.
func (b *bench) stop() {
	if b.peer != nil && b.peer.Process != nil {
		_ = b.peer.Process.Signal(syscall.SIGTERM)
		_ = b.peer.Wait()
	}
	for _, s := range []*sites.Site{b.own, b.samba} {
		if s != nil {
			s.Stop()
		}
	}
	b.peer, b.own, b.samba = nil, nil, nil
}

// seconds is how long a load lasts.
func (b *bench) seconds() int { return int(b.time / time.Second) }

func (b *bench) add(r *row) { b.rows = append(b.rows, r) }

// plan says what is measured.
func (b *bench) plan() error {
	for _, l := range loads {
		direct := fmt.Sprintf("--rw=%s --bs=%s --iodepth=%d --size=%s --time_based --runtime=%d", l.rw, l.bs, l.depth, fileSize, b.seconds())
		engine := func(system, engine string, options ...string) {
			b.add(&row{load: l.name, system: system, small: l.small,
				command: strings.Join(append([]string{"smbd-rdma bench --name=x --ioengine=" + engine}, append(b.shown(options), direct)...), " "),
				measure: func(ctx context.Context, r *row) (*saved.Job, error) {
					return b.engine(ctx, r, append([]string{"--ioengine=" + engine}, append(options, strings.Fields(direct)...)...))
				}})
		}
		at := func(s *sites.Site, addr string) []string {
			return []string{"--server=" + addr, "--share=" + s.Share, "--user=" + sites.Guest + "%" + s.Password, "--filename=file", "--allow-overwrite"}
		}
		engine("this server, this client, SMB Direct (iwarp)", "smbdirect", at(b.own, b.own.RDMA)...)
		engine("this server, this client, TCP", "smb", at(b.own, b.own.Addr)...)
		engine("this server, go-smb2", "go-smb2", at(b.own, b.own.Addr)...)
		if b.samba != nil {
			engine("Samba, this client, TCP", "smb", at(b.samba, b.samba.Addr)...)
			engine("Samba, go-smb2", "go-smb2", at(b.samba, b.samba.Addr)...)
		}
		local := "--filename=" + filepath.Join(b.dir, "file")
		engine("no server: the local file, this bench", "posix", local, "--invalidate=0", "--allow-overwrite")
		b.addFio(l, direct, local)
		if raw, known := map[string]string{"read": "ndk-read", "write": "ndk-write", "randread": "ndk-read", "randwrite": "ndk-write"}[l.rw]; known {
			engine("no files: raw RDMA of the iwarp provider", raw, "--server="+b.peerAddr)
		}
		b.addOthers(l)
	}
	return nil
}

// shown is a list of options with names in place of what is of this run alone.
func (b *bench) shown(options []string) []string {
	pairs := []string{b.own.RDMA, "HOST", b.own.Addr, "HOST", b.peerAddr, "HOST", b.dir, "/DIR", sites.Guest + "%" + b.own.Password, "NAME%PASSWORD"}
	if b.samba != nil {
		pairs = append(pairs, b.samba.Addr, "SAMBA", sites.Guest+"%"+b.samba.Password, "NAME%PASSWORD")
	}
	names := strings.NewReplacer(pairs...)
	out := make([]string, 0, len(options))
	for _, o := range options {
		out = append(out, names.Replace(o))
	}
	return out
}

// engine runs a job of this project's bench.
func (b *bench) engine(ctx context.Context, r *row, args []string) (*saved.Job, error) {
	name := r.system + ": " + r.load
	return b.job(ctx, name, b.bin, append([]string{"bench", "--eta=never", "--name=" + name}, args...))
}

// job runs a program that writes fio's JSON of one job.
func (b *bench) job(ctx context.Context, name, program string, args []string) (*saved.Job, error) {
	out := filepath.Join(b.dir, "out.json")
	_ = os.Remove(out)
	cmd := exec.CommandContext(ctx, program, append(args, "--output-format=json+", "--output="+out)...)
	cmd.Dir = b.dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, text)
	}
	d, err := saved.Open(out)
	if err != nil {
		return nil, err
	}
	j, err := only(d)
	if err != nil {
		return nil, err
	}
	j.Name = name
	b.docs = append(b.docs, d)
	return j, nil
}

// only is the one job of a document, in one direction and without an error.
func only(d *saved.Document) (*saved.Job, error) {
	switch j := d.Jobs[0]; {
	case len(d.Jobs) != 1 || len(j.Directions()) > 1:
		return nil, fmt.Errorf("%d jobs, the first in %d directions", len(d.Jobs), len(j.Directions()))
	case j.Error != "":
		return nil, errors.New(j.Error)
	case len(j.Directions()) == 0:
		return nil, errors.New("no I/O was done in the time")
	default:
		return j, nil
	}
}

// median is the run in the middle by bandwidth.
func (r *row) median() *saved.Job {
	sorted := slices.Clone(r.runs)
	slices.SortFunc(sorted, func(x, y *saved.Job) int {
		switch a, b := bandwidth(x), bandwidth(y); {
		case a < b:
			return -1
		case a > b:
			return 1
		}
		return 0
	})
	return sorted[len(sorted)/2]
}

func bandwidth(j *saved.Job) float64 { return j.Traffic[j.Direction()].Bandwidth }
