package main

import (
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress shows bytes done with, rate and time left on a terminal, and nothing in a
// pipe: a bar for all, and one for each large file. Its methods may be called by many
// goroutines. It is a filecopy.Progress.
type progress struct {
	p   *mpb.Progress
	bar *mpb.Bar

	known       bool // the total is; else it grows with what is found
	total       atomic.Int64
	found, left atomic.Int64 // files

	mu    sync.Mutex
	large int // bars of files; guarded by mu
}

const (
	// largeFile is the size in bytes from which a file has a bar.
	largeFile = 64 << 20
	// maxBars is how many files have one at a time.
	maxBars = 4
)

// newProgress shows a bar on w if it is a terminal. total is in bytes, negative if it is
// not known.
func newProgress(w io.Writer, title string, total int64) *progress {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &progress{}
	}
	p := &progress{p: mpb.New(mpb.WithOutput(f), mpb.WithWidth(40), mpb.WithRefreshRate(200*time.Millisecond)), known: total >= 0}
	p.bar = p.p.AddBar(max(total, 0),
		mpb.PrependDecorators(decor.Name(title+" "), decor.CountersKibiByte("% .1f / % .1f")),
		mpb.AppendDecorators(
			decor.AverageSpeed(decor.SizeB1024(0), "% .1f"),
			decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO, decor.WCSyncSpace), " done"),
			decor.Any(func(decor.Statistics) string { return p.files() }, decor.WCSyncSpace)),
		mpb.BarRemoveOnComplete(), mpb.BarPriority(1<<20),
	)
	return p
}

// files says how many are done of those found so far.
func (p *progress) files() string {
	found := p.found.Load()
	if found < 2 {
		return ""
	}
	return counted(found-p.left.Load()) + "/" + counted(found) + " files"
}

// Found implements filecopy.Progress.
func (p *progress) Found(size int64) {
	if p.bar == nil {
		return
	}
	p.found.Add(1)
	p.left.Add(1)
	if !p.known {
		p.bar.SetTotal(p.total.Add(size), false)
	}
}

// File implements filecopy.Progress.
func (p *progress) File(name string, size int64) func(int64) {
	if p.bar == nil {
		return func(int64) {}
	}
	var bar *mpb.Bar
	p.mu.Lock()
	if size >= largeFile && p.large < maxBars && (p.found.Load() > 1 || p.known) {
		p.large++
		bar = p.p.AddBar(size,
			mpb.PrependDecorators(decor.Name("  "+printable(filepath.Base(name))+" ", decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.Percentage()), mpb.BarRemoveOnComplete())
	}
	p.mu.Unlock()
	return func(n int64) {
		switch {
		case n >= 0:
			p.add(n)
			if bar != nil {
				bar.IncrInt64(n)
			}
		default:
			p.left.Add(-1)
			if bar != nil {
				bar.Abort(true)
				p.mu.Lock()
				p.large--
				p.mu.Unlock()
			}
		}
	}
}

// add counts n bytes.
func (p *progress) add(n int64) {
	if p.bar != nil {
		p.bar.IncrInt64(n)
	}
}

// done takes the bar away.
func (p *progress) done() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.p.Wait()
	}
}
