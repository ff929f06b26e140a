package filecopy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Links says what happens to symbolic links in a tree.
type Links uint8

const (
	// LinksToFiles copies the files that links lead to, and leaves out links to
	// directories, which may lead around in a circle, and those that lead nowhere.
	LinksToFiles Links = iota
	// LinksSkip leaves out all links.
	LinksSkip
	// LinksCopy makes links that say the same.
	LinksCopy
)

// Config says how files are copied. Zero means the defaults.
type Config struct {
	// Jobs is how many files are copied at a time, 1 to MaxJobs; 0 means DefaultJobs.
	Jobs int
	// Ranges is how many pieces of one file are in flight, 1 to MaxRanges; 0 means
	// DefaultRanges. All files together have MaxPieces.
	Ranges int
	// Continue keeps what has been copied of a file when it is interrupted, and goes on
	// from there if it finds that of the same source: of the same name, size and time.
	Continue bool
	// Verify reads each file back from both places and compares, before it gets its name.
	Verify bool
	// InPlace writes files under their own names, into what is there. It excludes Continue.
	InPlace bool
	Links   Links
	Filter  Filter
	// Flat leaves out the directories in a directory.
	Flat bool
	// Stop ends everything with the first failure; else what fails is reported, and the
	// rest is copied. A lost connection ends everything in any case.
	Stop bool
	// Report gets the result of each file; it is called by one goroutine at a time.
	// Nil means that failures are counted only.
	Report func(Result)
	// Progress sees what goes on; nil means nobody does.
	Progress Progress
}

// Limits and defaults of Config.
const (
	MaxJobs, DefaultJobs     = 64, 8
	MaxRanges, DefaultRanges = 64, 8
	// MaxPieces bounds the memory for bytes of files: that many times 1 MiB.
	MaxPieces = 128
)

// Progress is told what goes on. Its methods may be called by many goroutines.
type Progress interface {
	// Found says that a file of so many bytes is going to be copied.
	Found(size int64)
	// File says that one begins, and returns who is told of bytes done with, also
	// those that were there already, and, by a negative number, that it has ended.
	File(name string, size int64) func(n int64)
}

// Action is what was done with a file.
type Action string

// The actions.
const (
	ActionCopy   Action = "copy"
	ActionLink   Action = "link"
	ActionTime   Action = "time"   // Sync: only the time of modification was set
	ActionDelete Action = "delete" // Sync
	ActionSkip   Action = "skip"   // Sync: it is the same already
	ActionMkdir  Action = "mkdir"  // only where it has failed, or is planned
	ActionList   Action = "list"   // only where it has failed
)

// Result is what became of a file or directory.
type Result struct {
	Action Action
	// From and To are names as Place.Path gives them; From is empty for deletions.
	From, To string
	Size     int64
	// Bytes is how many of Size were moved: not those of holes, nor the Resumed ones,
	// which were there from an earlier run.
	Bytes, Resumed int64
	// SHA256 is of the whole file in both places, in hexadecimal, with Config.Verify.
	SHA256 string
	Took   time.Duration
	// Planned: nothing was done, as SyncOptions.DryRun wants.
	Planned bool
	Err     error
}

// Stats counts results.
type Stats struct {
	Files, Bytes, Resumed, Skipped, Deleted, Failed int64
}

// Copier copies from one place to another.
type Copier struct {
	from, to Place
	cfg      Config
	pieces   chan *[]byte // free buffers; nil where none was made yet
	sync     *SyncOptions // nil unless Sync runs

	mu    sync.Mutex // held while a result is reported
	stats Stats      // guarded by mu

	foldOnce sync.Once
	folds    bool
	foldErr  error
}

// New checks the configuration. The places are the caller's to close.
func New(from, to Place, c Config) (*Copier, error) {
	if c.Jobs == 0 {
		c.Jobs = DefaultJobs
	}
	if c.Ranges == 0 {
		c.Ranges = DefaultRanges
	}
	switch {
	case c.Jobs < 1 || c.Jobs > MaxJobs:
		return nil, fmt.Errorf("filecopy: Config.Jobs %d is not in 1 to %d: %w", c.Jobs, MaxJobs, fs.ErrInvalid)
	case c.Ranges < 1 || c.Ranges > MaxRanges:
		return nil, fmt.Errorf("filecopy: Config.Ranges %d is not in 1 to %d: %w", c.Ranges, MaxRanges, fs.ErrInvalid)
	case c.InPlace && c.Continue:
		return nil, fmt.Errorf("filecopy: Config.InPlace and Config.Continue exclude each other: %w", fs.ErrInvalid)
	case c.Links > LinksCopy:
		return nil, fmt.Errorf("filecopy: Config.Links %d is unknown: %w", c.Links, fs.ErrInvalid)
	}
	if err := c.Filter.check(); err != nil {
		return nil, err
	}
	if c.Progress == nil {
		c.Progress = noProgress{}
	}
	k := &Copier{from: from, to: to, cfg: c}
	k.pieces = make(chan *[]byte, min(MaxPieces, c.Jobs*c.Ranges))
	for range cap(k.pieces) {
		k.pieces <- nil
	}
	return k, nil
}

type noProgress struct{}

func (noProgress) Found(int64)                    {}
func (noProgress) File(string, int64) func(int64) { return func(int64) {} }

// Stats counts what has been reported so far.
func (c *Copier) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// report counts a result and hands it on. The error that it returns ends everything.
func (c *Copier) report(ctx context.Context, r Result) error {
	c.mu.Lock()
	switch {
	case r.Err != nil:
		c.stats.Failed++
	case r.Action == ActionSkip:
		c.stats.Skipped++
	case r.Action == ActionDelete:
		c.stats.Deleted++
	case r.Action == ActionCopy, r.Action == ActionLink:
		c.stats.Files++
	}
	c.stats.Bytes += r.Bytes
	c.stats.Resumed += r.Resumed
	if c.cfg.Report != nil {
		c.cfg.Report(r)
	}
	c.mu.Unlock()
	switch {
	case r.Err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case c.cfg.Stop || c.lost():
		return errReported
	}
	return nil
}

// errReported ends the work after a failure that Report has seen.
var errReported = errors.New("filecopy: ended by a failure")

func (c *Copier) lost() bool { return c.from.Lost() != nil || c.to.Lost() != nil }

// ended is what a run returns: nil after failures that have been reported.
func ended(err error) error {
	if errors.Is(err, errReported) {
		return nil
	}
	return err
}

// File copies the file that the place itself is to the file that the target itself is.
// A failure is reported, not returned: an error says that the work was cut short.
func (c *Copier) File(ctx context.Context) error {
	e, err := c.from.Stat(ctx, "", true)
	if err == nil && !e.Mode.IsRegular() {
		err = fmt.Errorf("%s: is not a file", c.from.Path(""))
	}
	if err != nil {
		return ended(c.report(ctx, Result{Action: ActionCopy, From: c.from.Path(""), To: c.to.Path(""), Err: err}))
	}
	c.cfg.Progress.Found(e.Size)
	return ended(c.copyFile(ctx, "", e))
}

// Tree copies the directory that the place is, with all in it, to the directory that
// the target is, which is made. Failures are reported, not returned: an error says that
// the work was cut short.
func (c *Copier) Tree(ctx context.Context) error {
	return c.walk(ctx, func(w *walk) error {
		e, err := c.from.Stat(w.long, "", true)
		if err != nil {
			return w.failed(ActionList, "", err)
		}
		return w.dir(nil, "", e, 0, false)
	})
}

// Some is Tree, but copies only what has these names in the directory that the place is.
func (c *Copier) Some(ctx context.Context, names []string) error {
	return c.walk(ctx, func(w *walk) error {
		n := &node{}
		n.left.Add(1)
		for _, name := range names {
			e, err := c.from.Stat(w.long, name, c.cfg.Links == LinksToFiles)
			if err != nil {
				err = w.failed(ActionCopy, name, err)
			} else {
				e.Name = name
				err = w.entry(n, e, 0)
			}
			if bad := (*listError)(nil); errors.As(err, &bad) {
				err = nil // given twice, copied once
			}
			if err != nil {
				return err
			}
		}
		return w.done(n)
	})
}

// walk runs a walk and waits for all that it has begun.
func (c *Copier) walk(ctx context.Context, work func(*walk) error) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.cfg.Jobs)
	long, cancel := lingering(gctx)
	defer cancel()
	w := &walk{c: c, g: g, ctx: gctx, long: long}
	err := work(w)
	if gerr := g.Wait(); gerr != nil { // a file's failure ends the walk by gctx
		err = gerr
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return ended(err)
}

// walk is one walk of the source. Files are copied by goroutines of its group, of which
// there are as many as Config.Jobs: the walk waits while they are busy.
type walk struct {
	c    *Copier
	g    *errgroup.Group
	ctx  context.Context // of the group: when it ends nothing more is begun
	long context.Context // of what is under way
}

// node is a directory of the target with something under way in it.
type node struct {
	up   *node
	rel  string
	mod  time.Time
	id   uint64
	left atomic.Int64 // what is under way, the listing among it
	made atomic.Bool  // it is there; set by the walk
	// names has two hashes of each of the names so far. Owned by the walk.
	names map[uint64]struct{}
	// there is what the target has and the source has not, as far as that is known;
	// with Sync only. Owned by the walk.
	there map[string]Entry
	// inOneCase has the names of there by what they are where case has no meaning.
	inOneCase map[string]string
	// partly says that something in it has failed. Owned by the walk.
	partly bool
}

// openDepth is to which depth directories stay open while those below are walked; from
// there on they are read as a whole.
const openDepth = 32

// maxDepth bounds the depth of a tree: names are at most 32,767 characters long.
const maxDepth = 1 << 14

// dir copies the directory rel of up. vacant says that the target has none, and is not
// to be asked.
func (w *walk) dir(up *node, rel string, e Entry, depth int, vacant bool) error {
	c := w.c
	if depth > maxDepth {
		return w.failed(ActionList, rel, fmt.Errorf("%s: deeper than %d directories", c.from.Path(rel), maxDepth))
	}
	for a := up; a != nil; a = a.up {
		if e.ID != 0 && e.ID == a.id { // a server follows links of its own
			return w.failed(ActionList, rel, fmt.Errorf("%s: is the same directory as %s, which it is in", c.from.Path(rel), c.from.Path(a.rel)))
		}
	}
	n := &node{up: up, rel: rel, mod: e.Mod, id: e.ID}
	n.left.Add(1)
	if up != nil {
		up.left.Add(1)
	}
	if len(c.cfg.Filter.Include) == 0 || rel == "" {
		if err := w.mkdir(n); err != nil {
			return w.failed(ActionMkdir, rel, err)
		}
	}
	if c.sync != nil {
		if err := w.lookAtTarget(n, vacant); err != nil {
			return w.failed(ActionList, rel, err)
		}
	}
	var fatal error
	err := c.from.List(w.long, rel, depth >= openDepth, func(es []Entry) error {
		for _, e := range es {
			if w.ctx.Err() != nil {
				fatal = context.Cause(w.ctx)
			} else {
				fatal = w.entry(n, e, depth)
			}
			if fatal != nil {
				return fatal
			}
		}
		return nil
	})
	if bad := (*listError)(nil); errors.As(fatal, &bad) {
		fatal, err = nil, bad.error
	}
	if fatal != nil {
		return fatal
	}
	if err != nil {
		n.partly = true
		if err := w.failed(ActionList, rel, err); err != nil {
			return err
		}
	}
	if c.sync != nil {
		if err := w.deleteRest(n); err != nil {
			return err
		}
	}
	return w.done(n)
}

// listError is a listing that is not gone on with.
type listError struct{ error }

// failed reports the failure of a directory.
func (w *walk) failed(a Action, rel string, err error) error {
	return w.c.report(w.ctx, Result{Action: a, From: w.c.from.Path(rel), To: w.c.to.Path(rel), Err: err})
}

// mkdir makes the directory of a node, unless it is made.
func (w *walk) mkdir(n *node) error {
	if n.made.Load() || w.c.sync != nil && w.c.sync.DryRun {
		return nil
	}
	if err := w.c.to.Mkdir(w.long, n.rel); err != nil {
		return err
	}
	for ; n != nil && !n.made.Load(); n = n.up {
		n.made.Store(true)
	}
	return nil
}

// done says that one thing in a directory is done with. The last sets its time.
func (w *walk) done(n *node) error {
	for ; n != nil && n.left.Add(-1) == 0; n = n.up {
		if n.rel == "" || !n.made.Load() || n.mod.IsZero() || w.ctx.Err() != nil {
			continue
		}
		if err := w.c.to.Chtimes(w.long, n.rel, n.mod); err != nil {
			if err := w.failed(ActionMkdir, n.rel, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry handles one entry of a directory.
func (w *walk) entry(n *node, e Entry, depth int) error {
	c := w.c
	rel := path.Join(n.rel, e.Name)
	if err := w.listed(n, e.Name); err != nil {
		return &listError{err}
	}
	if !c.cfg.Filter.takes(rel, e.Mode.IsDir()) {
		return nil
	}
	var old *Entry // what the target has by that name
	if c.sync != nil {
		var err error
		if old, err = w.match(n, e.Name); err != nil {
			n.partly = true
			return w.failed(ActionCopy, rel, err)
		}
	}
	if e.Mode.IsDir() && c.cfg.Flat {
		return nil
	}
	link := e.Mode&fs.ModeSymlink != 0
	if link && c.cfg.Links == LinksToFiles {
		t, err := c.from.Stat(w.long, rel, true)
		switch {
		case errors.Is(err, fs.ErrNotExist), err == nil && !t.Mode.IsRegular():
			return nil
		case err != nil:
			n.partly = true
			return w.failed(ActionCopy, rel, err)
		}
		t.Name, e, link = e.Name, t, false
	}
	if !e.Mode.IsDir() && !e.Mode.IsRegular() && !(link && c.cfg.Links == LinksCopy) {
		return nil // a device, a pipe, a link that is not wanted
	}
	if err := w.name(n, rel, e.Name); err != nil {
		n.partly = true
		return w.failed(ActionCopy, rel, err)
	}
	if old != nil {
		done, err := w.compare(rel, e, old)
		if done || err != nil {
			return err
		}
	}
	if e.Mode.IsDir() {
		return w.dir(n, rel, e, depth+1, c.sync != nil && (old == nil || !old.Mode.IsDir()))
	}
	if err := w.mkdir(n); err != nil {
		return w.failed(ActionMkdir, n.rel, err)
	}
	if !link {
		c.cfg.Progress.Found(e.Size)
	}
	n.left.Add(1)
	w.g.Go(func() error { // Copier.walk waits for it
		err := c.one(w.ctx, rel, e, old)
		if derr := w.done(n); err == nil {
			err = derr
		}
		return err
	})
	return nil
}

// one copies a file or a link.
func (c *Copier) one(ctx context.Context, rel string, e Entry, old *Entry) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if c.sync != nil {
		if done, err := c.syncOne(ctx, rel, e, old); done {
			return err
		}
	}
	if e.Mode&fs.ModeSymlink == 0 {
		return c.copyFile(ctx, rel, e)
	}
	start := time.Now()
	long, cancel := lingering(ctx)
	defer cancel()
	target, err := c.from.Readlink(long, rel)
	if err == nil {
		err = c.to.Symlink(long, target, rel)
	}
	return c.report(ctx, Result{Action: ActionLink, From: c.from.Path(rel), To: c.to.Path(rel), Took: time.Since(start), Err: err})
}
