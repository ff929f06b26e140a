package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/bench/engine"
	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// store is a Target in memory that does what a test tells it to.
type store struct {
	mu    sync.Mutex
	data  []byte // guarded by mu, as are the counts
	size  int64
	reads int
	write int
	// onWrite is told of the n-th write and says whether it is done; onRead may change
	// what the n-th read brings.
	onWrite func(n int, off int64, p []byte) bool
	onRead  func(n int, off int64, p []byte)
}

func newStore(size int64) *store { return &store{data: make([]byte, size)} }

func (s *store) Stat(context.Context, string) (int64, error) {
	if s.size == 0 {
		return 0, fs.ErrNotExist
	}
	return s.size, nil
}
func (s *store) Open(context.Context, int, string, engine.OpenFlags) error { return nil }
func (s *store) CloseFile(int) error                                       { return nil }
func (s *store) Truncate(_ context.Context, _ int, n int64) error          { s.size = n; return nil }
func (s *store) Remove(context.Context, string) error                      { return nil }
func (s *store) Forget(int) error                                          { return nil }
func (s *store) Stats() result.Engine                                      { return result.Engine{Name: "store"} }
func (s *store) Close() error                                              { return nil }

func (s *store) Do(u *engine.Unit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u.N, u.Err = len(u.Buf), nil
	switch u.Op {
	case engine.Read:
		copy(u.Buf, s.data[u.Offset:])
		if s.reads++; s.onRead != nil {
			s.onRead(s.reads, u.Offset, u.Buf)
		}
	case engine.Write:
		s.size = max(s.size, u.Offset+int64(len(u.Buf)))
		if s.write++; s.onWrite == nil || s.onWrite(s.write, u.Offset, u.Buf) {
			copy(s.data[u.Offset:], u.Buf)
		}
	}
}

// on runs a job on a store.
func on(t *testing.T, s engine.Target, j *job.Job) (*result.Job, error) {
	t.Helper()
	r, err := New(Config{Plan: &job.Plan{Jobs: []*job.Job{j}, Settings: job.Settings{AllowOverwrite: true}}})
	if err != nil {
		t.Fatal(err)
	}
	r.open = func(context.Context, engine.Spec) (engine.Target, error) { return s, nil }
	err = r.Do(t.Context())
	return r.Results()[0], err
}

// What a store does wrong behind the job's back is found out, by every method, and
// nothing is found where it does all right.
func TestVerifyFinds(t *testing.T) {
	const size, bs = 1 << 18, 4096
	older := make(map[int64][]byte)
	for _, c := range []struct {
		name  string
		bad   int64
		loops int
		store func(s *store)
		once  bool // pattern can't tell which write something was
	}{
		{"all right", 0, 1, func(*store) {}, false},
		{"all right, written twice", 0, 2, func(*store) {}, false},
		{"a flipped bit", 1, 1, func(s *store) {
			s.onRead = func(n int, _ int64, p []byte) {
				if n == 7 {
					p[3000] ^= 0x10
				}
			}
		}, false},
		{"a lost write", 1, 1, func(s *store) { s.onWrite = func(n int, _ int64, _ []byte) bool { return n != 9 } }, false},
		{"a write to another place", 2, 1, func(s *store) {
			s.onWrite = func(_ int, off int64, p []byte) bool { // by place: at a depth they come in any order
				if off == 8*bs {
					copy(s.data[9*bs:], p)
				}
				return off != 8*bs && off != 9*bs
			}
		}, true},
		{"a stale read", 1, 2, func(s *store) {
			clear(older)
			s.onWrite = func(_ int, off int64, _ []byte) bool {
				older[off] = append([]byte(nil), s.data[off:off+bs]...)
				return true
			}
			s.onRead = func(n int, off int64, p []byte) {
				if n == 5 {
					copy(p, older[off])
				}
			}
		}, true},
		{"a torn write", 1, 1, func(s *store) {
			s.onWrite = func(n int, off int64, p []byte) bool {
				if n == 3 {
					copy(s.data[off:], p[:512])
				}
				return n != 3
			}
		}, false},
	} {
		for _, method := range []job.VerifyMethod{job.VerifyCRC32C, job.VerifyMD5, job.VerifySHA256, job.VerifyXXHash, job.VerifyPattern} {
			for _, depth := range []int{1, 16} {
				if c.once && method == job.VerifyPattern {
					continue
				}
				t.Run(fmt.Sprint(c.name, "/", method, "/", depth), func(t *testing.T) {
					s := newStore(size)
					c.store(s)
					j := with(aJob("v", job.EngineNull, writes, bs, size), func(j *job.Job) {
						j.Verify, j.IODepth, j.Loops, j.ContinueOnError = method, depth, c.loops, job.ErrorVerify
						j.VerifyPattern = job.Pattern{Bytes: []byte("pattern")}
					})
					r, err := on(t, s, j)
					if r.Bad != c.bad || r.Verified != size/bs {
						t.Errorf("%d bad of %d blocks (%v), want %d of %d", r.Bad, r.Verified, r.Error, c.bad, size/bs)
					}
					if err != nil || (c.bad > 0) != errors.Is(r.Error, ErrVerify) {
						t.Errorf("errors %v, %v", err, r.Error)
					}
				})
			}
		}
	}
}

// verify_fatal ends at the first difference; without continue_on_error so does the job.
func TestVerifyFatal(t *testing.T) {
	for _, fatal := range []bool{false, true} {
		s := newStore(1 << 18)
		s.onWrite = func(n int, _ int64, _ []byte) bool { return n%2 == 0 }
		r, err := on(t, s, with(aJob("v", job.EngineNull, writes, 4096, 1<<18), func(j *job.Job) { j.Verify, j.VerifyFatal = job.VerifyCRC32C, fatal }))
		if !errors.Is(err, ErrVerify) || r.Bad != 1 {
			t.Errorf("fatal %v: %v, %d bad", fatal, err, r.Bad)
		}
	}
}

// verify_only checks what an earlier run wrote, and writes nothing; blocks that are met
// several times are what the last write made them.
func TestVerifyOnly(t *testing.T) {
	for _, c := range []struct {
		name  string
		rw    job.RW
		noMap bool
	}{{"sequential", writes, false}, {"random", job.RW{Writes: true, Random: true}, false}, {"without a map", job.RW{Writes: true, Random: true}, true}} {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(1 << 18)
			j := with(aJob("v", job.EngineNull, c.rw, 4096, 1<<18), func(j *job.Job) { j.Verify, j.NoRandomMap, j.IODepth = job.VerifySHA256, c.noMap, 8 })
			if _, err := on(t, s, j); err != nil {
				t.Fatal(err)
			}
			written := s.write
			j.VerifyOnly = true
			r, err := on(t, s, j)
			if err != nil || s.write != written || r.Verified == 0 || r.Verified > 64 || !c.noMap && r.Verified != 64 {
				t.Errorf("%v, %d writes, %d blocks", err, s.write-written, r.Verified)
			}
			s.data[5000] ^= 1
			s.data[100_000] ^= 1
			if _, err := on(t, s, j); !errors.Is(err, ErrVerify) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// A job that only reads verifies what it reads by the headers.
func TestVerifyOfReads(t *testing.T) {
	s := newStore(1 << 18)
	w := with(aJob("v", job.EngineNull, writes, 4096, 1<<18), func(j *job.Job) { j.Verify = job.VerifyCRC32C })
	if _, err := on(t, s, w); err != nil {
		t.Fatal(err)
	}
	r := with(aJob("v", job.EngineNull, randReads, 4096, 1<<18), func(j *job.Job) { j.Verify, j.IODepth = job.VerifyCRC32C, 4 })
	if res, err := on(t, s, r); err != nil || res.Verified != 64 {
		t.Errorf("%v, %d blocks", err, res.Verified)
	}
	s.data[70_000] ^= 1
	r.Files = []string{"there"}
	_, err := on(t, s, r)
	// fio's number is "illegal byte sequence".
	if !errors.Is(err, ErrVerify) || !errors.Is(err, syscall.EILSEQ) || !strings.Contains(err.Error(), "there at 69632: ") {
		t.Errorf("error %v", err)
	}
}
