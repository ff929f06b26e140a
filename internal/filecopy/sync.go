package filecopy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// SyncOptions say what Sync takes for the same.
type SyncOptions struct {
	// Delete removes from the target what the source does not have: not what
	// Config.Filter leaves out, and nothing in a directory of which something has
	// failed. It lets files take the place of directories and the other way round.
	Delete bool
	// DryRun reports what would be done, and does nothing.
	DryRun bool
	// Checksum compares the bytes of files of the same size, instead of their times.
	Checksum bool
	// SizeOnly takes files of the same size for the same.
	SizeOnly bool
	// Window is how far times of the same file may be apart; those that differ by less
	// than 100 ns, which is how SMB counts, are the same in any case.
	Window time.Duration
}

// Sync makes the directory that the target is have what the source has, and copies
// only what is not the same. Failures are reported as Tree does.
func (c *Copier) Sync(ctx context.Context, o SyncOptions) error {
	c.sync = &o
	defer func() { c.sync = nil }()
	return c.Tree(ctx)
}

func sameTime(a, b time.Time, window time.Duration) bool {
	d := a.Sub(b).Abs()
	return d < 100*time.Nanosecond || d <= window
}

// lookAtTarget lists a directory of the target, unless that is vacant.
func (w *walk) lookAtTarget(n *node, vacant bool) error {
	n.there = make(map[string]Entry)
	n.inOneCase = make(map[string]string)
	err := fs.ErrNotExist
	if !vacant {
		err = w.c.to.List(w.long, n.rel, false, func(es []Entry) error {
			for _, e := range es {
				n.there[e.Name] = e
				n.inOneCase[folded(e.Name)] = e.Name
			}
			return nil
		})
	}
	switch {
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case w.c.sync.DryRun:
		return w.c.report(w.ctx, Result{Action: ActionMkdir, From: w.c.from.Path(n.rel), To: w.c.to.Path(n.rel), Planned: true})
	}
	return nil // it has just been made, or will be when there is something for it
}

// match takes what a name of the source is in the target from n.there.
func (w *walk) match(n *node, name string) (*Entry, error) {
	e, ok := n.there[name]
	if !ok {
		other, may := n.inOneCase[folded(name)]
		if e, ok = n.there[other]; !may || !ok {
			return nil, nil
		}
		// If they are one name there, this is it, and not one that is to be deleted.
		if folds, err := w.c.foldsCase(w); err != nil || !folds {
			return nil, err
		}
	}
	delete(n.there, e.Name)
	return &e, nil
}

// compare reports whether nothing more is to be done about an entry that the target
// has too.
func (w *walk) compare(rel string, e Entry, old *Entry) (done bool, err error) {
	o := w.c.sync
	switch {
	case e.Mode.IsDir() && old.Mode.IsDir():
		return false, nil
	case !e.Mode.IsDir() && !old.Mode.IsDir():
		if w.c.unchanged(e, old) {
			return true, w.c.report(w.ctx, Result{Action: ActionSkip, From: w.c.from.Path(rel), To: w.c.to.Path(rel), Size: e.Size})
		}
		return false, nil
	case !o.Delete:
		what := "a directory"
		if e.Mode.IsDir() {
			what = "no directory"
		}
		return true, w.failed(ActionCopy, rel, fmt.Errorf("%s: is %s, unlike %s", w.c.to.Path(rel), what, w.c.from.Path(rel)))
	}
	if err := w.delete(rel, *old); err != nil {
		return true, err
	}
	*old = Entry{Mode: fs.ModeIrregular} // nothing that a file is compared with
	return false, nil
}

// unchanged reports whether the times and sizes say that two files are the same.
func (c *Copier) unchanged(e Entry, old *Entry) bool {
	o := c.sync
	if !e.Mode.IsRegular() || !old.Mode.IsRegular() || e.Size != old.Size || o.Checksum {
		return false
	}
	return o.SizeOnly || sameTime(e.Mod, old.Mod, o.Window)
}

// syncOne does what is to be done about a file or link, unless that is to copy it.
func (c *Copier) syncOne(ctx context.Context, rel string, e Entry, old *Entry) (done bool, err error) {
	r := Result{Action: ActionCopy, From: c.from.Path(rel), To: c.to.Path(rel), Size: e.Size, Planned: c.sync.DryRun}
	link := e.Mode&fs.ModeSymlink != 0
	if link {
		r.Action = ActionLink
	}
	switch {
	case old == nil:
	case link && old.Mode&fs.ModeSymlink != 0:
		a, err1 := c.from.Readlink(ctx, rel)
		b, err2 := c.to.Readlink(ctx, rel)
		if err1 == nil && err2 == nil && a == b {
			r.Action, r.Planned = ActionSkip, false
			return true, c.report(ctx, r)
		}
	case !link && c.sync.Checksum && old.Mode.IsRegular() && old.Size == e.Size:
		start := time.Now()
		long, cancel := lingering(ctx)
		same, err := c.sameContent(long, ctx, rel, e.Size)
		cancel()
		switch {
		case err != nil:
			r.Err = err
			return true, c.report(ctx, r)
		case !same:
		case sameTime(e.Mod, old.Mod, c.sync.Window):
			r.Action, r.Planned = ActionSkip, false
			return true, c.report(ctx, r)
		default:
			r.Action = ActionTime
			if !r.Planned {
				r.Err = c.to.Chtimes(ctx, rel, e.Mod)
			}
			r.Took = time.Since(start)
			return true, c.report(ctx, r)
		}
	}
	if c.sync.DryRun {
		return true, c.report(ctx, r)
	}
	return false, nil
}

// deleteRest deletes what the target has and the source has not.
func (w *walk) deleteRest(n *node) error {
	if !w.c.sync.Delete || n.partly {
		return nil
	}
	names := make([]string, 0, len(n.there))
	for name := range n.there {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		e, rel := n.there[name], path.Join(n.rel, name)
		// What somebody else, or an earlier run, has not finished is theirs.
		if strings.HasPrefix(name, tempPrefix) || !w.c.cfg.Filter.takes(rel, e.Mode.IsDir()) {
			continue
		}
		if err := w.delete(rel, e); err != nil {
			return err
		}
	}
	n.there, n.inOneCase = nil, nil
	return nil
}

// delete removes a file, or a directory with all in it that the filter does not leave
// out, from the target.
func (w *walk) delete(rel string, e Entry) error {
	r := Result{Action: ActionDelete, To: w.c.to.Path(rel), Size: e.Size, Planned: w.c.sync.DryRun}
	if e.Mode.IsDir() && !w.c.cfg.Filter.empty() {
		kept, err := w.deleteTaken(rel)
		if err != nil || kept {
			return err
		}
	}
	if !r.Planned {
		r.Err = w.c.to.Remove(w.long, rel, e.Mode.IsDir())
	}
	return w.c.report(w.ctx, r)
}

// deleteTaken removes from a directory of the target what the filter takes, and reports
// whether it leaves something.
func (w *walk) deleteTaken(rel string) (kept bool, err error) {
	var all []Entry
	err = w.c.to.List(w.long, rel, true, func(es []Entry) error { all = es; return nil })
	if err != nil {
		return true, w.failed(ActionDelete, rel, err)
	}
	for _, e := range all {
		name := path.Join(rel, e.Name)
		if !w.c.cfg.Filter.takes(name, e.Mode.IsDir()) {
			kept = true
			continue
		}
		if e.Mode.IsDir() {
			k, err := w.deleteTaken(name)
			if err != nil {
				return true, err
			}
			if k {
				kept = true
				continue
			}
		}
		r := Result{Action: ActionDelete, To: w.c.to.Path(name), Size: e.Size, Planned: w.c.sync.DryRun}
		if !r.Planned {
			r.Err = w.c.to.Remove(w.long, name, false)
		}
		kept = kept || r.Err != nil
		if err := w.c.report(w.ctx, r); err != nil {
			return true, err
		}
	}
	return kept, nil
}
