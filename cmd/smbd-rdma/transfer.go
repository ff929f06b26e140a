package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/internal/filecopy"
)

// transferFlags are those of the commands that copy files.
type transferFlags struct {
	jobs, ranges     int
	proceed, verify  bool
	inPlace          bool
	include, exclude []string
	symlinks         string
	json, verbose    bool
}

func (f *transferFlags) register(c *cobra.Command) {
	fs := c.Flags()
	fs.IntVarP(&f.jobs, "jobs", "j", filecopy.DefaultJobs, fmt.Sprintf("files to copy at a time, 1 to %d", filecopy.MaxJobs))
	fs.IntVar(&f.jobs, "parallel", filecopy.DefaultJobs, "the same")
	fs.IntVar(&f.ranges, "ranges", filecopy.DefaultRanges, fmt.Sprintf("pieces of 1 MiB of one file to copy at a time, 1 to %d; %d of all files", filecopy.MaxRanges, filecopy.MaxPieces))
	fs.BoolVar(&f.proceed, "continue", false, "keep what is copied of a file when it is interrupted, and go on from there next time; pass over files that are there with the same size and time")
	fs.BoolVar(&f.verify, "verify", false, "read each file back from both ends and compare, before it gets its name")
	fs.BoolVar(&f.inPlace, "in-place", false, "write into the file that is there, which keeps its rights, links and streams, not into a new one that replaces it")
	fs.StringArrayVar(&f.include, "include", nil, "copy only files that match this pattern, or another --include")
	fs.StringArrayVar(&f.exclude, "exclude", nil, "do not copy what matches this pattern, with all below it")
	fs.StringVar(&f.symlinks, "symlinks", "files", "files: copy files that links lead to, skip: leave links out, copy: make links")
	fs.BoolVar(&f.json, "json", false, "print one JSON object for each file, and one at the end")
	fs.BoolVarP(&f.verbose, "verbose", "v", false, "print what is done, file by file")
	if p := fs.Lookup("parallel"); p != nil { // what it was called at first
		p.Hidden = true
	}
}

// config checks the flags.
func (f *transferFlags) config() (filecopy.Config, error) {
	c := filecopy.Config{
		Jobs: f.jobs, Ranges: f.ranges, Continue: f.proceed, Verify: f.verify, InPlace: f.inPlace,
		Filter: filecopy.Filter{Include: f.include, Exclude: f.exclude},
	}
	switch f.symlinks {
	case "files":
	case "skip":
		c.Links = filecopy.LinksSkip
	case "copy":
		c.Links = filecopy.LinksCopy
	default:
		return c, usagef("--symlinks %q is not files, skip or copy", f.symlinks)
	}
	switch {
	case f.jobs < 1 || f.jobs > filecopy.MaxJobs:
		return c, usagef("--jobs %d is not in 1 to %d", f.jobs, filecopy.MaxJobs)
	case f.ranges < 1 || f.ranges > filecopy.MaxRanges:
		return c, usagef("--ranges %d is not in 1 to %d", f.ranges, filecopy.MaxRanges)
	case f.inPlace && f.proceed:
		return c, usagef("--in-place and --continue exclude each other")
	case f.json && f.verbose:
		return c, usagef("--json and --verbose exclude each other")
	}
	if _, err := filecopy.New(nil, nil, c); err != nil { // the patterns
		return c, usageError{err}
	}
	return c, nil
}

// sessions are the shares that a command works on, by host.
type sessions struct {
	a      *app
	byHost map[string]*client.Session
	first  *client.Session
}

func (a *app) sessions() *sessions { return &sessions{a: a, byHost: map[string]*client.Session{}} }

// share mounts the share of a target. Targets of one host are on one session, so that
// the host can copy between them.
func (s *sessions) share(ctx context.Context, t target) (*client.Share, error) {
	host := strings.ToLower(t.host)
	if s.byHost[host] == nil {
		c, err := s.a.dial(ctx, t.host)
		if err != nil {
			return nil, err
		}
		s.byHost[host] = c
		if s.first == nil {
			s.first = c
		}
	}
	return s.byHost[host].Mount(ctx, t.share)
}

func (s *sessions) close() {
	for _, c := range s.byHost {
		c.Close()
	}
}

// rdma is how many bytes went by RDMA, and by which provider.
func (s *sessions) rdma() (n uint64, provider string) {
	for _, c := range s.byHost {
		st := c.Stats()
		n += st.RDMABytesRead + st.RDMABytesWritten
	}
	if s.first != nil {
		provider = s.first.Info().RDMAProvider
	}
	return n, provider
}

// fileReport is what --json says of a file. Fields are only ever added.
type fileReport struct {
	Type     string  `json:"type"`           // "file"
	Action   string  `json:"action"`         // copy, link, time, delete, skip, mkdir, list
	Status   string  `json:"status"`         // done, skipped, planned, failed
	From     string  `json:"from,omitempty"` // none of what is deleted
	To       string  `json:"to"`
	Size     int64   `json:"size"`
	Bytes    int64   `json:"bytes"`             // that were moved
	Resumed  int64   `json:"resumed,omitempty"` // that were there from an earlier run
	SHA256   string  `json:"sha256,omitempty"`  // with --verify
	Verified bool    `json:"verified,omitempty"`
	Seconds  float64 `json:"seconds"`
	Error    string  `json:"error,omitempty"`
}

// report is the last object of --json.
type report struct {
	Type      string  `json:"type"`    // "summary"
	Files     int64   `json:"files"`   // copied
	Bytes     int64   `json:"bytes"`   // moved
	Resumed   int64   `json:"resumed"` // bytes that were there
	Skipped   int64   `json:"skipped"` // files that were there
	Deleted   int64   `json:"deleted"`
	Failed    int64   `json:"failed"`
	Seconds   float64 `json:"seconds"`
	RDMABytes uint64  `json:"rdma_bytes"`
	Provider  string  `json:"provider,omitempty"`
}

// transfer is one run of a command that copies files.
type transfer struct {
	a        *app
	name     string // of the command
	flags    *transferFlags
	cfg      filecopy.Config
	sessions *sessions
	start    time.Time
	progress *progress
	failures failures
	out      *json.Encoder
	total    filecopy.Stats
}

func (a *app) newTransfer(ctx context.Context, name string, f *transferFlags, s *sessions) (*transfer, error) {
	cfg, err := f.config()
	if err != nil {
		return nil, err
	}
	t := &transfer{a: a, name: name, flags: f, sessions: s, start: time.Now(), out: json.NewEncoder(a.stdout)}
	t.progress = newProgress(a.stderr, name, -1)
	cfg.Progress = t.progress
	cfg.Report = func(r filecopy.Result) { t.report(ctx, r) }
	t.cfg = cfg
	return t, nil
}

// run copies between two places, which it closes.
func (t *transfer) run(from, to filecopy.Place, work func(*filecopy.Copier) error) error {
	c, err := filecopy.New(from, to, t.cfg)
	if err == nil {
		err = work(c)
		s := c.Stats()
		t.total.Files += s.Files
		t.total.Bytes += s.Bytes
		t.total.Resumed += s.Resumed
		t.total.Skipped += s.Skipped
		t.total.Deleted += s.Deleted
		t.total.Failed += s.Failed
	}
	return errors.Join(err, from.Close(), to.Close())
}

// report shows what became of a file. It is called by one goroutine at a time.
func (t *transfer) report(ctx context.Context, r filecopy.Result) {
	if r.Err != nil && ctx.Err() == nil { // else all that is under way fails, for one reason
		t.failures.add(r.Err)
	}
	status := "done"
	switch {
	case r.Err != nil:
		status = "failed"
	case r.Planned:
		status = "planned"
	case r.Action == filecopy.ActionSkip:
		status = "skipped"
	}
	switch {
	case t.flags.json:
		o := fileReport{
			Type: "file", Action: string(r.Action), Status: status, From: r.From, To: r.To, Size: r.Size, Bytes: r.Bytes,
			Resumed: r.Resumed, SHA256: r.SHA256, Verified: r.SHA256 != "", Seconds: r.Took.Seconds(),
		}
		if r.Err != nil {
			o.Error = oneLine(r.Err)
		}
		_ = t.out.Encode(&o) // as with other output, whoever does not want to read it does not
	case (t.flags.verbose || r.Planned) && r.Err == nil && (r.Action != filecopy.ActionSkip || t.flags.verbose):
		fmt.Fprintf(t.a.stdout, "%s\t%s\n", r.Action, t.a.shown(r.To))
	}
}

// finish says what was done. err is what has ended the work early.
func (t *transfer) finish(err error) error {
	t.progress.done()
	err = errors.Join(err, t.failures.print(t.a.stderr, t.name))
	r := report{
		Type: "summary", Files: t.total.Files, Bytes: t.total.Bytes, Resumed: t.total.Resumed, Skipped: t.total.Skipped,
		Deleted: t.total.Deleted, Failed: t.total.Failed, Seconds: time.Since(t.start).Seconds(),
	}
	r.RDMABytes, r.Provider = t.sessions.rdma()
	if t.flags.json {
		return errors.Join(err, t.out.Encode(&r))
	}
	t.a.log.Info("moved", "files", r.Files, "bytes", r.Bytes, "skipped", r.Skipped, "seconds", fmt.Sprintf("%.2f", r.Seconds),
		"MB/s", fmt.Sprintf("%.0f", float64(r.Bytes)/1e6/max(r.Seconds, 1e-9)), "rdma_bytes", r.RDMABytes)
	return err
}

// failures are what went wrong while the rest was done.
type failures struct {
	mu    sync.Mutex
	errs  []error // the first maxFailures; guarded by mu
	count int     // guarded by mu
}

// maxFailures bounds how many are named.
const maxFailures = 100

func (f *failures) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count++; f.count <= maxFailures {
		f.errs = append(f.errs, err)
	}
}

// print names them on w if they are several, and returns one error for all.
func (f *failures) print(w io.Writer, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch f.count {
	case 0:
		return nil
	case 1:
		return f.errs[0]
	}
	for _, err := range f.errs {
		fmt.Fprintf(w, "smbd-rdma %s: %s\n", name, oneLine(err))
	}
	return fmt.Errorf("%d files or directories failed", f.count)
}

func counted(n int64) string { return strconv.FormatInt(n, 10) }

func endsInSlash(s string) bool {
	return s != "" && (s[len(s)-1] == '/' || s[len(s)-1] == '\\')
}
