package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
	benchreport "github.com/smbd-rdma/smbd-rdma/bench/report"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
	benchrun "github.com/smbd-rdma/smbd-rdma/bench/run"
	"github.com/smbd-rdma/smbd-rdma/bench/saved"
)

// exitInterrupted is the status of a bench that was told to end, as of shells.
const exitInterrupted = 130

func (a *app) benchCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench JOBFILE... | --name=JOB --OPTION=VALUE...",
		Short: "measure SMB Direct, SMB on TCP, raw RDMA and local files, in fio's words",
		Long: `Runs jobs as fio does, with its job files and its command line, and answers in
its forms. Engines are posix (and fio's names for local files), smb, smbdirect,
go-smb2, ndk-write, ndk-read, ndk-send (with bench peer at the other end) and null.

  --name=JOB --rw=MODE --bs=SIZE --size=SIZE --iodepth=N ...   a job, as in fio(1)
  --ioengine=smbdirect --server=HOST --share=SHARE --user=NAME%PASSWORD
  --output=FILE --output-format=normal,terse,json,json+        the answer
  --eta=always|never|auto, --status-interval=TIME              what is shown meanwhile
  --section=JOB, --readonly, --parse-only, --warnings-fatal    as in fio
  --allow-overwrite   write into files that were there before
  --repeat=N          run it all so often; the median run is reported
  --html=FILE, --plot=FILE    a report to look at in a browser, and a picture (SVG)

It exits with 0 if all jobs did what they were to do, 1 if one failed in its work,
2 if one could not begin or its storage is full, and 130 when it was interrupted:
what was measured until then is printed.`,
		Example: `  smbd-rdma bench job.fio
  smbd-rdma bench --name=seq --rw=read --bs=1m --size=1g --filename=/tmp/data
  smbd-rdma bench --ioengine=smbdirect --server=server --share=data --user=alice%secret \
      --name=rand --rw=randread --bs=4k --size=1g --iodepth=32 --runtime=30 --time_based`,
		DisableFlagParsing: true, // the words are fio's
		RunE: func(cmd *cobra.Command, args []string) error {
			args, err := a.ownFlags(args)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(args, func(s string) bool { return s == "-h" || s == "--help" || s == "-help" }) {
				return cmd.Help()
			}
			p, err := startProfile(a.profile)
			if err != nil {
				return err
			}
			if p != nil {
				defer p.Stop()
			}
			return a.bench(cmd.Context(), args)
		},
	}
	c.AddCommand(a.benchPeerCommand(), a.benchCompareCommand(), a.benchReportCommand())
	return c
}

// ownFlags carries out the flags that all commands have, which are no words of fio's,
// and returns the other arguments.
func (a *app) ownFlags(args []string) ([]string, error) {
	var rest []string
	for i := 0; i < len(args); i++ {
		name, value, has := strings.Cut(args[i], "=")
		var into *string
		switch name {
		case "--log-level":
			into = &a.logLevel
		case "--profile":
			into = &a.profile
		default:
			rest = append(rest, args[i])
			continue
		}
		if !has {
			if i++; i == len(args) {
				return nil, usagef("flag needs an argument: %s", name)
			}
			value = args[i]
		}
		*into = value
	}
	if err := a.level.UnmarshalText([]byte(a.logLevel)); err != nil {
		return nil, usagef("--log-level %q is not debug, info, warn or error", a.logLevel)
	}
	return rest, nil
}

// bench runs what a command line in fio's words asks for.
func (a *app) bench(ctx context.Context, args []string) error {
	plan, err := job.Parse(args, job.System())
	if err != nil {
		return usageError{err}
	}
	for _, n := range plan.Notes {
		fmt.Fprintf(a.stderr, "note: %s\n", n)
	}
	if plan.Settings.ParseOnly { // what there is nothing for here is refused as when it is run
		if _, err := benchrun.New(benchrun.Config{Plan: plan}); err != nil {
			return usageError{err}
		}
		return nil
	}
	env, err := a.benchEnv(plan)
	if err != nil {
		return err
	}
	out, closeOut := a.stdout, func() error { return nil }
	if name := plan.Settings.Output; name != "" {
		f, err := os.Create(name)
		if err != nil {
			return usagef("--output: %w", err)
		}
		out, closeOut = f, f.Close
	}
	b := &benchRun{a: a, plan: plan, out: out, command: benchCommand(args)}
	err = b.repeat(ctx, func(p *job.Plan) (*benchrun.Run, error) {
		return benchrun.New(benchrun.Config{Plan: p, Env: env, Logger: a.log, Profile: p.Settings.HTML != ""})
	})
	if cerr := closeOut(); cerr != nil {
		err = errors.Join(err, fmt.Errorf("--output: %w", cerr))
	}
	return err
}

// benchRun is a plan that is carried out, once or several times.
type benchRun struct {
	a    *app
	plan *job.Plan
	out  io.Writer
	runs [][]*result.Job // of each run, those of the jobs of the plan

	command string // for the report
}

// benchCommand is the command line as a report may show it.
func benchCommand(args []string) string {
	shown := []string{"smbd-rdma", "bench"}
	name := ""
	for _, arg := range args {
		n, v, found := strings.Cut(arg, "=")
		switch {
		case found && strings.HasPrefix(n, "-"):
			arg = n + "=" + job.WithoutSecret(strings.TrimLeft(n, "-"), v)
		case name != "":
			arg = job.WithoutSecret(name, arg)
		}
		if name = ""; !found && strings.HasPrefix(arg, "-") {
			name = strings.TrimLeft(arg, "-")
		}
		if strings.ContainsAny(arg, " \t\"'\\$") {
			arg = strconv.Quote(arg)
		}
		shown = append(shown, arg)
	}
	return strings.Join(shown, " ")
}

// repeat runs the plan as often as it says, and reports the run in the middle.
func (b *benchRun) repeat(ctx context.Context, begin func(*job.Plan) (*benchrun.Run, error)) error {
	plan := b.plan
	for range plan.Settings.Repeat {
		r, err := begin(plan)
		if err != nil {
			return usageError{err}
		}
		err = b.once(ctx, r)
		b.runs = append(b.runs, r.Results())
		if err != nil {
			b.runs = b.runs[len(b.runs)-1:] // which is the one to look at
			if err == error(exitCode(exitUsage)) && speed(b.runs[0]) == 0 {
				return err // nothing was measured
			}
			return errors.Join(b.last(b.runs[0]), err)
		}
		// What the first run was allowed to write, and did, is its own.
		again := *b.plan
		again.Settings.AllowOverwrite = true
		plan = &again
	}
	return b.last(b.median())
}

// median is the run in the middle by what it moved in a second; of an even number of
// runs the slower one.
func (b *benchRun) median() []*result.Job {
	runs := slices.Clone(b.runs)
	slices.SortStableFunc(runs, func(x, y []*result.Job) int { return cmp.Compare(speed(x), speed(y)) })
	return runs[(len(runs)-1)/2]
}

func speed(jobs []*result.Job) float64 {
	sum := 0.0
	for _, j := range jobs {
		for d := range j.Traffic {
			sum += j.Traffic[d].BytesPerSecond()
		}
	}
	return sum
}

// once carries out the plan and shows how it goes. Its error has an exit status.
func (b *benchRun) once(ctx context.Context, r *benchrun.Run) error {
	view := b.a.newBenchView(b.plan, r, b.status)
	err := r.Do(ctx)
	view.stop()
	if err == nil {
		return nil
	}
	code := 0
	for i, res := range r.Results() {
		if res.Error == nil || ctx.Err() != nil && errors.Is(res.Error, ctx.Err()) {
			continue
		}
		code = max(code, b.explain(b.plan.Jobs[i], res))
	}
	switch {
	case ctx.Err() != nil:
		fmt.Fprintf(b.a.stderr, "smbd-rdma bench: %v; this is what was measured so far\n", context.Cause(ctx))
		code = exitInterrupted
	case code == 0: // it is of no job
		return err
	}
	return exitCode(code)
}

// explain says what went wrong with a job, in one line, and returns the exit status: 2
// where it is the job's or the storage's state rather than I/O that failed.
func (b *benchRun) explain(j *job.Job, res *result.Job) int {
	e := &job.Error{File: j.File, Line: j.Line, Section: j.Name, Msg: res.Error.Error(), Err: res.Error}
	if errors.Is(res.Error, benchrun.ErrOverwrite) {
		e.Msg += " (--allow-overwrite)"
	}
	fmt.Fprintf(b.a.stderr, "smbd-rdma bench: %s\n", oneLine(e))
	switch {
	case errors.Is(res.Error, benchrun.ErrVerify):
		return exitFailed
	case res.Bytes() == 0 || errors.Is(res.Error, syscall.ENOSPC):
		return exitUsage
	}
	return exitFailed
}

// all are the runs that results are one of; those of a run that goes on are alone.
func (b *benchRun) all(results []*result.Job) [][]*result.Job {
	for _, run := range b.runs {
		if len(run) > 0 && run[0] == results[0] {
			return b.runs
		}
	}
	return nil
}

// report writes the answer in all forms that were asked for.
func (b *benchRun) report(results []*result.Job) error {
	for _, f := range b.plan.Settings.Formats {
		if err := b.write(b.out, f, results); err != nil {
			return err
		}
	}
	return nil
}

// last writes the answer, and what is to be looked at.
func (b *benchRun) last(results []*result.Job) error {
	err := b.report(results)
	s := b.plan.Settings
	if err != nil || s.HTML == "" && s.Plot == "" {
		return err
	}
	var text bytes.Buffer
	if err := b.write(&text, job.FormatJSONPlus, results); err != nil {
		return err
	}
	doc, err := saved.Read(&text)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	doc.Label = "this run"
	return drawDocuments([]*saved.Document{doc}, s.HTML, s.Plot)
}

// status writes the answer so far.
func (b *benchRun) status(results []*result.Job) {
	if err := b.report(results); err != nil {
		b.a.log.Warn("status", "err", err)
	}
}

func (b *benchRun) write(w io.Writer, f job.Format, results []*result.Job) error {
	err := benchreport.Write(w, f, benchreport.Input{Plan: b.plan, Results: results, Runs: b.all(results), Version: versionLine(),
		Command: b.command, Time: time.Now()})
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
