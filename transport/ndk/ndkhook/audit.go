package ndkhook

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// Reporter is the part of testing.TB that Check needs.
type Reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

// maxReports bounds the breaches that are kept; the rest is counted.
const maxReports = 100

// report collects breaches.
type report struct {
	name     string
	unjudged atomic.Uint64

	mu   sync.Mutex
	list []string // guarded by mu
	more int      // guarded by mu
}

func (r *report) add(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) == maxReports {
		r.more++
		return
	}
	r.list = append(r.list, r.prefix()+fmt.Sprintf(format, args...))
}

func (r *report) prefix() string {
	if r.name == "" {
		return ""
	}
	return r.name + " "
}

// Unjudged is the number of requests of closed QPs of which nothing can be
// said, because their CQ was closed before them or may have overrun.
func (a *Adapter) Unjudged() uint64 { return a.report.unjudged.Load() }

// Check reports what Audit returns.
func (a *Adapter) Check(t Reporter) {
	t.Helper()
	for _, s := range a.Audit() {
		t.Errorf("%s", s)
	}
}

// Audit returns the breaches so far, and what is open at this moment. It is
// meant for after the Close of the adapter, and empty without Config.Audit.
func (a *Adapter) Audit() []string {
	if !a.cfg.Audit {
		return nil
	}
	// Objects that are closed have a goroutine that is about to note it.
	var wait []chan struct{}
	a.mu.Lock()
	for o := range a.live {
		if o.closing.Load() && isClosed(o.closed) && o != &a.object {
			wait = append(wait, o.watched)
		}
	}
	a.mu.Unlock()
	for _, w := range wait {
		<-w
	}

	var open []*object
	leaks := make(map[*object]string)
	a.mu.Lock()
	for o := range a.live {
		switch {
		case !o.closing.Load():
			leaks[o] = "never closed"
		case isClosed(o.closed) || o.waits():
			continue
		default:
			leaks[o] = "its Close does not end"
		}
		open = append(open, o)
	}
	lams, alloc := len(a.lams), a.alloc
	a.mu.Unlock()
	slices.SortFunc(open, byID)

	r := &a.report
	r.mu.Lock()
	all := slices.Clone(r.list)
	if r.more > 0 {
		all = append(all, fmt.Sprintf("%sand %d more", r.prefix(), r.more))
	}
	r.mu.Unlock()
	for _, o := range open {
		all = append(all, fmt.Sprintf("%s%v: %s", r.prefix(), o.id, leaks[o]))
	}
	if lams > 0 {
		all = append(all, fmt.Sprintf("%s%d mappings of BuildLAM not released", r.prefix(), lams))
	}
	if alloc > 0 {
		all = append(all, fmt.Sprintf("%s%d allocations not freed", r.prefix(), alloc))
	}
	return all
}

// byID orders objects by kind and number.
func byID(x, y *object) int {
	return cmp.Or(cmp.Compare(x.id.Kind, y.id.Kind), cmp.Compare(x.id.Number, y.id.Number))
}

// waits reports whether a successor of o is open, under a.mu.
func (o *object) waits() bool {
	for c := range o.children {
		if !isClosed(c.closed) {
			return true
		}
	}
	return false
}

// beginClose notes the first Close of o, before it is handed down.
func (o *object) beginClose() {
	early := isClosed(o.closed) // before another Close at the same time can be handed down
	if !o.closing.CompareAndSwap(false, true) || !o.a.cfg.Audit {
		return
	}
	a := o.a
	if early {
		a.report.add("%v: closed before its Close", o.id)
	}
	a.mu.Lock()
	parents := slices.Clone(o.parents)
	a.mu.Unlock()
	for _, p := range parents {
		if p != &a.object && p.closing.Load() && isClosed(p.closed) {
			<-p.watched // so that it is noted while o is open; the goroutine is on its way
		}
	}
	if o == &a.object {
		return // finish does the rest
	}
	a.watchers.Add(1)
	go o.watch() // ends when o is closed, or by finish, which waits for it
}

// watch takes o out of the books when it is closed.
func (o *object) watch() {
	defer o.a.watchers.Done()
	defer close(o.watched)
	select {
	case <-o.closed:
	case <-o.a.quit:
	}
	if isClosed(o.closed) {
		o.gone()
	}
}

// gone notes that o is closed.
func (o *object) gone() {
	var early []ObjectID
	a := o.a
	a.mu.Lock()
	for c := range o.children {
		if !isClosed(c.closed) {
			early = append(early, c.id)
		}
	}
	delete(a.live, o)
	for _, p := range o.parents {
		delete(p.children, o)
	}
	a.mu.Unlock()
	for _, c := range early {
		a.report.add("%v: closed before its successor %v", o.id, c)
	}
}

// finish notes that the Close of the adapter returned.
func (a *Adapter) finish() {
	if !a.cfg.Audit {
		return
	}
	a.quitOnce.Do(func() {
		var open []*object
		a.mu.Lock()
		for o := range a.live {
			if o != &a.object && !isClosed(o.closed) {
				open = append(open, o)
			}
		}
		a.mu.Unlock()
		slices.SortFunc(open, byID)
		for _, o := range open {
			a.report.add("%v: Close returned before %v was closed", a.id, o.id)
		}
		if !isClosed(a.closed) {
			a.report.add("%v: Close returned before it was closed", a.id)
		}
		a.mu.Lock()
		delete(a.live, &a.object)
		a.mu.Unlock()
		close(a.quit)
	})
	a.watchers.Wait()
}
