package server

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// hubFS tells storages apart, and does nothing.
type hubFS struct {
	vfs.FS
	n int
}

// Watches that come and go while names change: none is left over, none misses that it
// has ended, and none gets more than it has room for.
func TestNotifyHubUnderLoad(t *testing.T) {
	srv := &Server{}
	h := &srv.notify
	stores := []vfs.FS{&hubFS{n: 1}, &hubFS{n: 2}}
	dirs := []string{".", "a", "a/b", "a/b/c", "d"}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { // ends after a number of rounds; the test waits
			rnd := rand.New(rand.NewPCG(1, uint64(i)))
			for range 300 {
				fsys := stores[rnd.IntN(len(stores))]
				name := dirs[rnd.IntN(len(dirs))]
				switch rnd.IntN(4) {
				case 0:
					o := &open{srv: srv, fs: fsys, name: name, isDir: true}
					w := &dirWatch{hub: h, fs: fsys, filter: 0xFFF, recursive: rnd.IntN(2) == 0, limit: 256}
					h.add(w, o)
					q := w.wait()
					if rnd.IntN(2) == 0 && w.leave(q) {
						q = w.wait()
					}
					for range 4 {
						h.changed(fsys, change{action: smb2.FileActionAdded, filter: smb2.FileNotifyChangeFileName, name: joinName(name, "x")})
					}
					size := 0
					w.end(ntstatus.NotifyCleanup)
					w.end(ntstatus.DeletePending)
					<-q.done
					for _, e := range q.events {
						size += e.wireSize()
					}
					if size > w.limit {
						t.Errorf("%d bytes for a buffer of %d", size, w.limit)
					}
					if q := w.wait(); q.status != ntstatus.NotifyCleanup {
						t.Errorf("after its end: %v", q.status)
					}
				case 1:
					h.changed(fsys, change{action: smb2.FileActionModified, filter: contentChange, name: joinName(name, fmt.Sprint(rnd.IntN(9)))})
				case 2:
					h.renamed(fsys, "a", "d/e", true)
				case 3:
					h.renamed(fsys, "d/e", "a", true)
				}
			}
		})
	}
	wg.Wait()
	if n := h.active.Load(); n != 0 || len(h.dirs) != 0 || len(h.recent) != 0 {
		t.Errorf("%d watches, %d directories, %d names are left", n, len(h.dirs), len(h.recent))
	}
}

// A watch sees what its directory contains, and with WATCH_TREE what is beneath, under
// the names they have there.
func TestNotifyHubWhoSees(t *testing.T) {
	srv := &Server{}
	h := &srv.notify
	fsys := &hubFS{}
	for _, c := range []struct {
		dir, name string
		tree      bool
		want      string // the name there; empty for none
	}{
		{".", "f", false, "f"},
		{".", "a/f", false, ""},
		{".", "a/f", true, "a/f"},
		{"a", "a/f", false, "f"},
		{"a", "a/b/f", false, ""},
		{"a", "a/b/f", true, "b/f"},
		{"a", "a", true, ""},
		{"a", "ab/f", true, ""},
		{"a/b", "a/f", true, ""},
	} {
		w := &dirWatch{hub: h, fs: fsys, filter: smb2.FileNotifyChangeSize, recursive: c.tree, limit: 1000}
		h.add(w, &open{srv: srv, fs: fsys, name: c.dir})
		h.changed(&hubFS{}, change{action: smb2.FileActionModified, filter: smb2.FileNotifyChangeSize, name: c.name})
		h.changed(fsys, change{action: smb2.FileActionModified, filter: smb2.FileNotifyChangeEA, name: c.name})
		h.changed(fsys, change{action: smb2.FileActionModified, filter: smb2.FileNotifyChangeSize | smb2.FileNotifyChangeEA, name: c.name})
		got := ""
		for _, e := range w.events {
			got += e.name
		}
		if got != c.want {
			t.Errorf("watch of %s, tree %v: %s is %q, want %q", c.dir, c.tree, c.name, got, c.want)
		}
		w.end(ntstatus.NotifyCleanup)
	}
}
