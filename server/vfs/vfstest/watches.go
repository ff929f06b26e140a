package vfstest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// patience ends a wait for an event that does not come; it delays only failures.
const patience = 20 * time.Second

func (s *suite) watch(dir string, o vfs.WatchOptions) vfs.Watch {
	s.Helper()
	wr, ok := s.fs.(vfs.Watcher)
	if !ok {
		s.unsupported("vfs.Watcher")
	}
	w, err := wr.Watch(s.ctx, dir, o)
	s.ok("Watch", err)
	s.Cleanup(func() {
		if err := w.Close(); err != nil {
			s.Errorf("closing the watch: %v", err)
		}
	})
	return w
}

// wantEvents waits for exactly these events, in order. To show that something
// makes no event, the caller makes another one after it. It takes no more than
// it wants.
func (s *suite) wantEvents(what string, w vfs.Watch, want ...vfs.Event) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	var got []vfs.Event
	buf := make([]vfs.Event, 4)
	for len(got) < len(want) {
		n, err := w.Next(ctx, buf[:min(len(buf), len(want)-len(got))])
		if err != nil {
			s.Fatalf("%s: %v after %v; want %v", what, err, got, want)
		}
		got = append(got, buf[:n]...)
	}
	if !slices.Equal(got, want) {
		s.Fatalf("%s: events are\n%v, want\n%v", what, got, want)
	}
}

func added(name string, c vfs.Changes) vfs.Event {
	return vfs.Event{Action: vfs.Added, Change: c, Name: name}
}

func removed(name string, c vfs.Changes) vfs.Event {
	return vfs.Event{Action: vfs.Removed, Change: c, Name: name}
}

func renamed(from, to string, c vfs.Changes) []vfs.Event {
	return []vfs.Event{
		{Action: vfs.RenamedOld, Change: c, Name: from},
		{Action: vfs.RenamedNew, Change: c, Name: to},
	}
}

const (
	fileName = vfs.ChangeFileName
	dirName  = vfs.ChangeDirName
)

func testWatch(s *suite) {
	s.mkdir("d")
	s.mkdir("d/sub")
	w := s.watch("d", vfs.WatchOptions{})
	names := s.watch("d", vfs.WatchOptions{Changes: fileName | dirName})
	f := s.create("d/f", "")
	s.wantEvents("creation", w, added("f", fileName))
	s.write(f, "x", 0)
	s.wantEvents("writing", w, vfs.Event{Action: vfs.Modified, Change: vfs.ChangeData, Name: "f"})
	s.ok("SetAttr", f.SetAttr(s.ctx, vfs.SetAttr{Set: vfs.SetMode, Mode: 0o600}))
	s.wantEvents("SetAttr", w, vfs.Event{Action: vfs.Modified, Change: vfs.ChangeMetadata, Name: "f"})
	s.put("d/sub/g", "below") // not watched
	s.put("elsewhere", "")
	s.mkdir("d/new")
	s.wantEvents("Mkdir, after changes elsewhere", w, added("new", dirName))
	s.ok("Remove", s.fs.Remove(s.ctx, "d/new", vfs.KindDir))
	s.wantEvents("removal", w, removed("new", dirName))
	// A second watch on the directory saw the same, as far as it asked.
	s.wantEvents("all of it", names, added("f", fileName), added("new", dirName), removed("new", dirName))

	_, err := s.fs.(vfs.Watcher).Watch(s.ctx, "missing", vfs.WatchOptions{})
	s.wantErr("Watch of nothing", err, fs.ErrNotExist)
	_, err = s.fs.(vfs.Watcher).Watch(s.ctx, "elsewhere", vfs.WatchOptions{})
	if err == nil {
		s.Error("Watch of a file succeeds")
	}
	for _, o := range []vfs.WatchOptions{{QueueLen: -1}, {QueueLen: 1 << 20}, {Changes: 0x80}} {
		_, err = s.fs.(vfs.Watcher).Watch(s.ctx, "d", o)
		s.wantErr(fmt.Sprintf("Watch with %+v", o), err, syscall.EINVAL)
	}
}

func testWatchRename(s *suite) {
	s.mkdir("d")
	s.mkdir("d/sub")
	s.mkdir("out")
	s.put("d/f", "")
	s.put("out/o", "")
	w := s.watch("d", vfs.WatchOptions{})
	out := s.watch("out", vfs.WatchOptions{})
	rename := func(from, to string) {
		s.Helper()
		s.ok("Rename", s.fs.Rename(s.ctx, from, to, true))
	}
	rename("d/f", "d/g")
	s.wantEvents("rename within", w, renamed("f", "g", fileName)...)
	rename("d/sub", "d/bus")
	s.wantEvents("rename of a directory", w, renamed("sub", "bus", dirName)...)
	rename("d/g", "out/g")
	s.put("d/g", "")
	s.wantEvents("move out, then creation of the same name", w, removed("g", fileName), added("g", fileName))
	s.wantEvents("move in", out, added("g", fileName))
	rename("out/o", "d/bus/o") // d/bus is not watched
	s.wantEvents("move out of what is watched", out, removed("o", fileName))
	rename("d/bus/o", "d/o")
	s.wantEvents("move in from what is not watched", w, added("o", fileName))
}

func testWatchRecursive(s *suite) {
	s.mkdir("d")
	s.mkdir("d/a")
	s.mkdir("d/a/b")
	s.mkdir("out")
	s.mkdir("out/x")
	s.mkdir("out/x/y")
	w := s.watch("d", vfs.WatchOptions{Recursive: true, Changes: fileName | dirName})
	s.put("d/a/b/f", "")
	s.wantEvents("creation below", w, added("a/b/f", fileName))
	s.mkdir("d/new")
	s.wantEvents("a new directory", w, added("new", dirName))
	s.put("d/new/f", "")
	s.wantEvents("creation in a new directory", w, added("new/f", fileName))
	rename := func(from, to string) {
		s.Helper()
		s.ok("Rename", s.fs.Rename(s.ctx, from, to, false))
	}
	rename("d/a/b/f", "d/new/g")
	s.wantEvents("rename between directories", w, renamed("a/b/f", "new/g", fileName)...)
	rename("d/a", "d/new/c")
	s.wantEvents("rename of a tree", w, renamed("a", "new/c", dirName)...)
	s.put("d/new/c/b/f", "")
	s.wantEvents("creation in a renamed tree", w, added("new/c/b/f", fileName))
	rename("d/new/c", "out/c")
	s.wantEvents("a tree moved out", w, removed("new/c", dirName))
	s.put("out/c/b/g", "") // no longer watched
	rename("out/x", "d/x")
	s.wantEvents("a tree moved in", w, added("x", dirName))
	s.put("d/x/y/f", "")
	s.wantEvents("creation in a tree moved in", w, added("x/y/f", fileName))

	// A tree made in one go is found whole, whenever the watch gets to it.
	want := map[string]bool{"t": true, "t/u": true, "t/u/v": true, "t/u/v/f": true}
	s.mkdir("d/t")
	s.mkdir("d/t/u")
	s.mkdir("d/t/u/v")
	s.put("d/t/u/v/f", "")
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	buf := make([]vfs.Event, 4)
	for len(want) > 0 {
		n, err := w.Next(ctx, buf)
		if err != nil {
			s.Fatalf("%v, while these have not been reported: %v", err, want)
		}
		for _, e := range buf[:n] {
			if e.Action != vfs.Added {
				s.Errorf("creating a tree made the event %+v", e)
			}
			delete(want, e.Name)
		}
	}
}

func testWatchFilter(s *suite) {
	f := s.create("f", "")
	changes := map[vfs.Changes]vfs.Event{
		vfs.ChangeFileName: added("g", vfs.ChangeFileName),
		vfs.ChangeDirName:  added("d", vfs.ChangeDirName),
		vfs.ChangeData:     {Action: vfs.Modified, Change: vfs.ChangeData, Name: "f"},
		vfs.ChangeMetadata: {Action: vfs.Modified, Change: vfs.ChangeMetadata, Name: "f"},
	}
	watches := make(map[vfs.Changes]vfs.Watch)
	for c := range changes {
		watches[c] = s.watch(vfs.Root, vfs.WatchOptions{Changes: c})
	}
	s.ok("SetAttr", f.SetAttr(s.ctx, vfs.SetAttr{Set: vfs.SetMode, Mode: 0o600}))
	s.write(f, "x", 0)
	s.put("g", "")
	s.mkdir("d")
	for c, want := range changes {
		s.wantEvents(fmt.Sprintf("filter %d", c), watches[c], want)
	}
}

func testWatchOverflow(s *suite) {
	w := s.watch(vfs.Root, vfs.WatchOptions{Changes: fileName | dirName, QueueLen: 4})
	last := s.watch(vfs.Root, vfs.WatchOptions{Changes: fileName | dirName})
	for i := range 10 {
		s.put(fmt.Sprint("f", i), "")
	}
	// The other watch says when all ten have been seen.
	for i := range 10 {
		s.wantEvents("without overflow", last, added(fmt.Sprint("f", i), fileName))
	}
	s.wantEvents("before the loss", w, added("f0", fileName), added("f1", fileName), added("f2", fileName), added("f3", fileName))
	_, err := w.Next(s.ctx, make([]vfs.Event, 1))
	s.wantErr("Next after a loss", err, vfs.ErrOverflow)
	s.put("after", "")
	s.wantEvents("after the loss", w, added("after", fileName))
}

func testWatchEnds(s *suite) {
	next := func(w vfs.Watch) <-chan error {
		c := make(chan error, 1)
		go func() { // ends with the watch, which the test ends
			_, err := w.Next(s.ctx, make([]vfs.Event, 1))
			c <- err
		}()
		return c
	}
	w := s.watch(vfs.Root, vfs.WatchOptions{})
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err := w.Next(ctx, make([]vfs.Event, 1))
	s.wantErr("Next with a context that has ended", err, context.Canceled)
	waiting := next(w)
	s.ok("Close", w.Close())
	s.wantErr("Next across Close", <-waiting, fs.ErrClosed)
	s.ok("second Close", w.Close())
	for range 2 {
		_, err = w.Next(s.ctx, make([]vfs.Event, 1))
		s.wantErr("Next after Close", err, fs.ErrClosed)
	}

	// The directory goes.
	s.mkdir("d")
	w = s.watch("d", vfs.WatchOptions{})
	s.ok("Remove", s.fs.Remove(s.ctx, "d", vfs.KindDir))
	waitCtx, cancelWait := context.WithTimeout(s.ctx, patience)
	defer cancelWait()
	_, err = w.Next(waitCtx, make([]vfs.Event, 1))
	s.wantErr("Next after the directory has gone", err, fs.ErrNotExist)

	// The FS goes.
	w = s.watch(vfs.Root, vfs.WatchOptions{Recursive: true})
	waiting = next(w)
	s.ok("Close of the FS", s.fs.Close())
	if err := <-waiting; !errors.Is(err, fs.ErrClosed) {
		s.Errorf("Next across the FS's Close: %v, want closed", err)
	}
	s.ok("Close after the FS", w.Close())
}
