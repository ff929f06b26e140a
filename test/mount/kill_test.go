//go:build mount

package mount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/test/mount/site"
)

// The server is killed by SIGKILL while programs write, and started again. What was
// acknowledged is there: data after fsync, names after close and rename. What comes
// while the server is away waits, or fails with an errno that says so; nothing hangs and
// no wrong byte is read, and afterwards the mount goes on, without being mounted anew.
func TestServerKilled(t *testing.T) {
	for _, c := range columns {
		if c.samba && !*long {
			continue // one smbd after the other takes its time
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			y := newYard(t)
			s := y.serve(c)
			m := y.mount(s, c, "mnt")
			workers := make([]*victim, 0, 6)
			for i := range 2 {
				for _, work := range []func(*victim, context.Context) error{(*victim).records, (*victim).saves, (*victim).reads} {
					workers = append(workers, &victim{dir: m.Dir, share: s.Share, id: fmt.Sprintf("%d-%d", i, len(workers)), work: work})
				}
			}
			for i, w := range []*victim{
				{work: (*victim).log, proof: (*victim).logged},
				{work: fio(), proof: (*victim).verified, slow: true},
				{work: sqlite("delete"), proof: (*victim).committed, slow: true},
				{work: sqlite("wal"), proof: (*victim).committed, slow: true},
			} {
				if i == 3 && len(c.loads) > 0 {
					continue // where a log that is mapped is not for a mount of these options
				}
				w.dir, w.share, w.id = m.Dir, s.Share, fmt.Sprint("program-", i)
				workers = append(workers, w)
			}
			kills := 3
			if *long {
				kills = 30
			}
			ctx, cancel := context.WithCancel(t.Context())
			var g errgroup.Group
			for _, w := range workers {
				g.Go(func() error { return w.run(ctx) })
			}
			y.within(time.Duration(kills)*30*time.Second, "killing and starting the server", func() error {
				defer cancel()
				for range kills {
					if err := waitFor(workers, 5, 20*time.Second); err != nil {
						return err
					}
					time.Sleep(rand.N(400 * time.Millisecond)) // whatever they are at
					s.Kill()
					if err := s.Start(); err != nil {
						return err
					}
				}
				return waitFor(workers, 5, 20*time.Second)
			})
			y.within(2*time.Minute, "the workers' ends", g.Wait)
			for _, w := range workers {
				proof := w.proof
				if proof == nil {
					proof = (*victim).check
				}
				y.within(time.Minute, w.id, func() error { return proof(w) })
			}
			y.unmount()
		})
	}
}

// waitFor waits until every worker has got n more things done, or one if it is slow.
func waitFor(workers []*victim, n int64, patience time.Duration) error {
	before := make([]int64, len(workers))
	for i, w := range workers {
		before[i] = w.done.Load()
	}
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		late := ""
		for i, w := range workers {
			if more := w.done.Load() - before[i]; more < n && !(w.slow && more > 0) {
				late = fmt.Sprintf("%s has done %d and then %d, last error: %v", w.id, before[i], w.done.Load()-before[i], w.last())
			}
		}
		if late == "" {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("no progress in %v: %s", patience, late)
		}
	}
}

// victim is a program that works while its server is killed.
type victim struct {
	dir, share, id string
	work           func(*victim, context.Context) error
	proof          func(*victim) error // that all is there; check without it
	slow           bool                // one thing takes it as long as many take others
	done           atomic.Int64

	mu    sync.Mutex
	saw   error             // the last errno that was put up with
	sure  map[string][]byte // content of names that was acknowledged
	maybe map[string][]byte // the one thing that was under way when it failed
}

func (v *victim) last() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.saw
}

func (v *victim) run(ctx context.Context) error {
	v.sure, v.maybe = map[string][]byte{}, map[string][]byte{}
	for ctx.Err() == nil {
		err := v.work(v, ctx)
		if err == nil {
			continue
		}
		if !interrupted(err) {
			return fmt.Errorf("%s: %w", v.id, err)
		}
		v.mu.Lock()
		v.saw = err
		v.mu.Unlock()
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

// interrupted is true of what a program may get while the server is away.
func interrupted(err error) bool {
	for _, e := range []unix.Errno{unix.EIO, unix.ETIMEDOUT, unix.ECONNRESET, unix.ECONNABORTED, unix.EHOSTDOWN, unix.ENOTCONN, unix.ESTALE, unix.EAGAIN, unix.ECONNREFUSED, unix.EBADF} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// records writes numbered files, synced before they are said to be there.
func (v *victim) records(ctx context.Context) error {
	name := fmt.Sprintf("%s-%d", v.id, v.done.Load()%50)
	data := bytes.Repeat(fmt.Appendf(nil, "%s %d\n", name, v.done.Load()), 1000+int(v.done.Load()))
	v.maybe[name] = data
	f, err := os.OpenFile(filepath.Join(v.dir, name), os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(data, 0); err != nil {
		return err
	}
	if err := f.Truncate(int64(len(data))); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	v.sure[name] = data
	delete(v.maybe, name)
	v.done.Add(1)
	return nil
}

// saves replaces one file by another, again and again, as editors do.
func (v *victim) saves(ctx context.Context) error {
	name := v.id + "-document"
	data := bytes.Repeat(fmt.Appendf(nil, "version %d\n", v.done.Load()), 500+int(v.done.Load()))
	temp := filepath.Join(v.dir, fmt.Sprintf("%s.%d", name, v.done.Load()))
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	v.maybe[name] = data
	if err := os.Rename(temp, filepath.Join(v.dir, name)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return unix.EIO // it was renamed, and the answer was lost
		}
		return err
	}
	v.sure[name] = data
	delete(v.maybe, name)
	v.done.Add(1)
	return nil
}

// reads reads what it has written at first, through one open file for all its life.
func (v *victim) reads(ctx context.Context) error {
	name := filepath.Join(v.dir, v.id)
	want := bytes.Repeat([]byte("0123456789abcdef"), 40_000)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return err
	} else if st.Size() != int64(len(want)) || v.done.Load() == 0 {
		if v.done.Load() > 0 {
			return fmt.Errorf("%s has %d bytes of %d", name, st.Size(), len(want))
		}
		if _, err := f.WriteAt(want, 0); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	p := make([]byte, 8192)
	for off := int64(0); ctx.Err() == nil; off = (off + 24_576) % int64(len(want)-len(p)) {
		_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // from the server, not from the cache
		if _, err := f.ReadAt(p, off); err != nil {
			return err
		}
		if !bytes.Equal(p, want[off:off+int64(len(p))]) {
			return fmt.Errorf("wrong bytes at %d of %s", off, name)
		}
		v.done.Add(1)
		time.Sleep(time.Millisecond)
	}
	return nil
}

// check compares what was acknowledged with what the server has.
func (v *victim) check() error {
	for _, dir := range []string{v.share, v.dir} {
		for name, want := range v.sure {
			got, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return fmt.Errorf("acknowledged and lost: %w", err)
			}
			next := v.maybe[name]
			if !bytes.Equal(got, want) && (next == nil || !partly(got, want, next)) {
				return fmt.Errorf("%s in %s: %d bytes that begin with %q, acknowledged were %d that begin with %q", name, dir, len(got), got[:min(20, len(got))], len(want), want[:20])
			}
		}
	}
	return nil
}

// partly is true of content that is partly the old, partly the new one, as writing over
// it may have left it.
func partly(got, old, new []byte) bool {
	for i, b := range got {
		if !(i < len(old) && old[i] == b || i < len(new) && new[i] == b || b == 0) {
			return false
		}
	}
	return true
}

// Loads whose server is killed end, whatever their status, and the mount is there for
// the next ones.
func TestServerKilledUnderLoads(t *testing.T) {
	if !*long {
		t.Skip("make mount-soak: each load is waited for")
	}
	for _, c := range columns {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			y := newYard(t)
			s := y.serve(c)
			m := y.mount(s, c, "mnt")
			local := filepath.Join(y.dir, "local")
			if err := os.Mkdir(local, 0o755); err != nil {
				t.Fatal(err)
			}
			for _, l := range loads {
				t.Run(l, func(t *testing.T) {
					y := &yard{t: t, dir: y.dir, mounts: y.mounts}
					done := make(chan error, 1)
					go func() { done <- command(4*time.Minute, filepath.Join("loads", l), m.Dir, local) }()
					time.Sleep(1500 * time.Millisecond)
					s.Kill()
					if err := s.Start(); err != nil {
						t.Fatal(err)
					}
					y.within(5*time.Minute, l, func() error {
						if err := <-done; err != nil {
							t.Logf("ended with: %v", err)
						}
						return nil
					})
					y.within(time.Minute, "afterwards", func() error { return works(m) })
				})
			}
			y.unmount()
		})
	}
}

// works is true of a mount on which files can be written and read.
func works(m *site.Mount) error {
	name := filepath.Join(m.Dir, "afterwards")
	if err := os.WriteFile(name, content(5), 0o666); err != nil {
		return err
	}
	got, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, content(5)) {
		return errors.New("what was written is not what is read")
	}
	return os.Remove(name)
}
