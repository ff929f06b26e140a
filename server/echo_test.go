package server

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// stage is a watch of a directory whose storage says what the test has it say, when the
// test has it say so.
type stage struct {
	*dirWatch
	queue *vfs.EventQueue
	// fetched is closed when changes are fetched again, which they may not be for long on
	// a machine that has other things to do.
	fetched chan struct{}
}

func (s *stage) Close() error { return nil }

func (s *stage) Next(ctx context.Context, dst []vfs.Event) (int, error) {
	<-s.fetched
	return s.queue.Next(ctx, dst)
}

func (s *stage) says(a vfs.EventAction, name string) {
	change := vfs.ChangeFileName
	if a == vfs.Modified {
		change = vfs.ChangeData
	}
	s.queue.Push(vfs.Event{Action: a, Change: change, Name: name})
}

func (s *stage) does(a smb2.NotifyAction, name string) {
	f := smb2.FileNotifyChangeFileName
	if a == smb2.FileActionModified {
		f = contentChange
	}
	s.hub.changed(s.fs, change{action: a, filter: f, name: name})
}

// What the storage says of what the server did is not passed on, however late either of
// them comes, and what local processes do is.
func TestEchoes(t *testing.T) {
	const little, long = time.Millisecond, 700 * time.Millisecond
	const added, removed, modified = smb2.FileActionAdded, smb2.FileActionRemoved, smb2.FileActionModified
	for _, c := range []struct {
		name string
		do   func(s *stage)
		want []string
		late bool // nothing is fetched until do closes fetched
	}{
		{"an echo at once", func(s *stage) {
			s.does(added, "f")
			s.says(vfs.Added, "f")
		}, []string{"1 f"}, false},
		{"an echo before the change is published", func(s *stage) {
			s.says(vfs.Added, "f")
			time.Sleep(little)
			s.does(added, "f")
		}, []string{"1 f"}, false},
		{"an echo that is fetched late", func(s *stage) {
			s.does(removed, "f")
			s.says(vfs.Removed, "f")
			time.Sleep(long)
			close(s.fetched)
		}, []string{"2 f"}, true},
		{"echoes that are fetched late of changes that are far apart", func(s *stage) {
			s.does(added, "f")
			s.says(vfs.Added, "f")
			time.Sleep(long)
			s.does(removed, "f")
			s.says(vfs.Removed, "f")
			time.Sleep(long)
			close(s.fetched)
		}, []string{"1 f", "2 f"}, true},
		{"a change that is published late", func(s *stage) {
			ticket := s.hub.underway.begin()
			s.says(vfs.Removed, "f")
			time.Sleep(long)
			s.does(removed, "f")
			s.hub.underway.end(ticket)
		}, []string{"2 f"}, false},
		{"a local change while a request takes for ever", func(s *stage) {
			ticket := s.hub.underway.begin()
			defer s.hub.underway.end(ticket)
			s.says(vfs.Removed, "f")
			time.Sleep(2 * echoPatience)
			s.does(added, "g") // behind it, then
		}, []string{"2 f", "1 g"}, false},
		{"a local change while requests follow each other closely", func(s *stage) {
			s.says(vfs.Removed, "f")
			ticket := s.hub.underway.begin()
			for range 4 {
				time.Sleep(echoTime / 2)
				next := s.hub.underway.begin()
				s.hub.underway.end(ticket)
				ticket = next
			}
			s.does(removed, "f") // another one, then: the local one has been told
			s.hub.underway.end(ticket)
		}, []string{"2 f", "2 f"}, false},
		{"the same by a local process, later", func(s *stage) {
			s.does(modified, "f")
			s.says(vfs.Modified, "f")
			time.Sleep(long)
			s.says(vfs.Modified, "f")
		}, []string{"3 f", "3 f"}, false},
		{"the same by a local process, later, without an echo before", func(s *stage) {
			time.Sleep(long)
			s.does(modified, "f")
			time.Sleep(long)
			s.says(vfs.Modified, "f")
		}, []string{"3 f", "3 f"}, false},
		{"the opposite by a local process, at once", func(s *stage) {
			s.does(added, "f")
			s.says(vfs.Added, "f")
			s.says(vfs.Removed, "f")
		}, []string{"1 f", "2 f"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, fsys := &Server{}, &hubFS{}
				queue, _, err := vfs.NewEventQueue(vfs.WatchOptions{})
				if err != nil {
					t.Fatal(err)
				}
				w := &dirWatch{hub: &srv.notify, fs: fsys, filter: allChanges, limit: 1000}
				w.hub.add(w, &open{srv: srv, fs: fsys, name: vfs.Root, isDir: true})
				ctx, cancel := context.WithCancel(t.Context())
				s := &stage{dirWatch: w, queue: queue, fetched: make(chan struct{})}
				if !c.late {
					close(s.fetched)
				}
				over := make(chan struct{})
				var got []string
				told := make(chan struct{})
				go func() { // ends with the watch
					defer close(told)
					for {
						q := w.wait()
						<-q.done
						if q.status != ntstatus.Success {
							return
						}
						for _, e := range q.events {
							got = append(got, fmt.Sprintf("%d %s", e.action, e.name))
						}
					}
				}()
				go func() { // ends with ctx
					defer close(over)
					w.pump(ctx, s, time.Now())
				}()
				synctest.Wait()
				c.do(s)
				time.Sleep(3 * time.Second)
				w.end(ntstatus.NotifyCleanup)
				cancel()
				<-over
				<-told
				if !slices.Equal(got, c.want) {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		})
	}
}
