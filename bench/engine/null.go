package engine

import (
	"context"
	"io/fs"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// null does nothing: what is measured is the generator. No file is there, and all
// can be opened.
type null struct{}

func newNull() *null { return new(null) }

func (n *null) Stat(_ context.Context, name string) (int64, error) {
	return 0, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}

func (*null) Open(context.Context, int, string, OpenFlags) error { return nil }
func (*null) CloseFile(int) error                                { return nil }
func (*null) Truncate(context.Context, int, int64) error         { return nil }
func (*null) Remove(context.Context, string) error               { return nil }
func (*null) Forget(int) error                                   { return nil }
func (*null) Do(u *Unit)                                         { u.N, u.Err = len(u.Buf), nil }
func (*null) Close() error                                       { return nil }
func (*null) Stats() result.Engine                               { return result.Engine{Name: "null"} }

// Queue keeps I/Os until they are asked for.
func (*null) Queue(depth, _ int) (Queue, error) {
	return &nullQueue{ring: make([]*Unit, depth)}, nil
}

type nullQueue struct {
	ring    []*Unit
	head, n int
}

func (q *nullQueue) Submit(us []*Unit) (int, error) {
	for i, u := range us {
		if q.n == len(q.ring) {
			return i, nil
		}
		at := q.head + q.n
		if at >= len(q.ring) {
			at -= len(q.ring)
		}
		u.N, u.Err = len(u.Buf), nil
		q.ring[at] = u
		q.n++
	}
	return len(us), nil
}

func (q *nullQueue) Reap(out []*Unit, _ int, _ time.Duration) (int, error) {
	n := min(q.n, len(out))
	for i := range n {
		out[i] = q.ring[q.head]
		if q.head++; q.head == len(q.ring) {
			q.head = 0
		}
	}
	q.n -= n
	return n, nil
}

func (q *nullQueue) Close() error { return nil }
