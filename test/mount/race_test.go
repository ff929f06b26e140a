//go:build mount

package mount

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Two mounts of one share are two computers. Each race runs on both at once.
func TestTwoMounts(t *testing.T) {
	for _, c := range columns {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			y := newYard(t)
			s := y.serve(c)
			mounts := [2]string{y.mount(s, c, "one").Dir, y.mount(s, c, "two").Dir}
			for _, r := range races {
				t.Run(r.name, func(t *testing.T) {
					if c.samba && r.notSamba != "" {
						t.Skip(r.notSamba)
					}
					y := &yard{t: t, dir: y.dir, mounts: y.mounts}
					y.within(time.Minute, r.name, func() error { return r.run(mounts, s.Share) })
				})
			}
			y.unmount()
		})
	}
}

// lag is how long what another client did may go unnoticed where no lease says it: the
// mount's actimeo is a second, and so is that of what it knows not to be there.
const lag = 5 * time.Second

var races = []struct {
	name string
	run  func(mounts [2]string, share string) error
	// notSamba says why Samba can't do it, whatever the mount does.
	notSamba string
}{
	{name: "exactly one creates", run: func(m [2]string, _ string) error {
		return exactlyOne(m, func(dir string, i int) error {
			f, err := os.OpenFile(filepath.Join(dir, fmt.Sprint("excl", i)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
			if err != nil {
				return err
			}
			return f.Close()
		}, unix.EEXIST)
	}},
	{name: "exactly one makes the directory", run: func(m [2]string, _ string) error {
		return exactlyOne(m, func(dir string, i int) error { return os.Mkdir(filepath.Join(dir, fmt.Sprint("dir", i)), 0o755) }, unix.EEXIST)
	}},
	{name: "exactly one renames away", run: func(m [2]string, share string) error {
		for i := range tries {
			if err := os.WriteFile(filepath.Join(share, fmt.Sprint("from", i)), []byte("x"), 0o666); err != nil {
				return err
			}
		}
		return exactlyOne(m, func(dir string, i int) error {
			return os.Rename(filepath.Join(dir, fmt.Sprint("from", i)), filepath.Join(dir, fmt.Sprint("to-", filepath.Base(dir), i)))
		}, unix.ENOENT)
	}},
	{name: "exactly one removes", run: func(m [2]string, share string) error {
		for i := range tries {
			if err := os.WriteFile(filepath.Join(share, fmt.Sprint("rm", i)), nil, 0o666); err != nil {
				return err
			}
		}
		return exactlyOne(m, func(dir string, i int) error { return os.Remove(filepath.Join(dir, fmt.Sprint("rm", i))) }, unix.ENOENT)
	}},
	{name: "exactly one renames without replacing", run: func(m [2]string, share string) error {
		for i := range tries {
			for _, d := range m {
				if err := os.WriteFile(filepath.Join(share, fmt.Sprint(filepath.Base(d), i)), nil, 0o666); err != nil {
					return err
				}
			}
		}
		return exactlyOne(m, func(dir string, i int) error {
			return unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, fmt.Sprint(filepath.Base(dir), i)), unix.AT_FDCWD, filepath.Join(dir, fmt.Sprint("target", i)), unix.RENAME_NOREPLACE)
		}, unix.EEXIST)
	}, notSamba: "smbd looks whether the new name is taken, and then renames: two of its processes may both do so"},
	{name: "nothing appended is lost", run: appends},
	{name: "fcntl locks keep others out", run: func(m [2]string, _ string) error {
		return counter(m, func(f *os.File, lock bool) error {
			l := unix.Flock_t{Type: unix.F_UNLCK, Len: 1}
			if lock {
				l.Type = unix.F_WRLCK
			}
			return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLKW, &l)
		})
	}},
	{name: "flock keeps others out", run: func(m [2]string, _ string) error {
		return counter(m, func(f *os.File, lock bool) error {
			if lock {
				return unix.Flock(int(f.Fd()), unix.LOCK_EX)
			}
			return unix.Flock(int(f.Fd()), unix.LOCK_UN)
		})
	}},
	{name: "what was closed is read", run: closeToOpen},
	{name: "what was synced is read by who has the file open", run: syncToRead},
	{name: "names come and go", run: names},
	{name: "who saves by rename replaces for all", run: saves},
	{name: "what the server's own processes do is seen", run: local},
}

const tries = 40

// exactlyOne lets both mounts do the same at once, many times: one succeeds, the other
// gets the errno.
func exactlyOne(m [2]string, do func(dir string, i int) error, loser unix.Errno) error {
	for i := range tries {
		var errs [2]error
		var wg sync.WaitGroup
		start := make(chan struct{})
		for j, dir := range m {
			wg.Go(func() {
				<-start
				errs[j] = do(dir, i)
			})
		}
		close(start)
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs[:]...), loser) {
			return fmt.Errorf("try %d: %v and %v", i, errs[0], errs[1])
		}
	}
	return nil
}

func appends(m [2]string, share string) error {
	const records, size = 200, 100
	var g errgroup.Group
	for j, dir := range m {
		g.Go(func() error {
			f, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
			if err != nil {
				return err
			}
			defer f.Close()
			for i := range records {
				if _, err := fmt.Fprintf(f, "%-*s\n", size-1, fmt.Sprint(j, " ", i)); err != nil {
					return err
				}
			}
			return f.Close()
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(share, "log"))
	if err != nil {
		return err
	}
	if len(b) != 2*records*size {
		return fmt.Errorf("%d bytes of %d", len(b), 2*records*size)
	}
	next := [2]int{}
	for r := range 2 * records {
		who, i, _ := strings.Cut(strings.TrimSpace(string(b[r*size:(r+1)*size])), " ")
		j, _ := strconv.Atoi(who)
		if i != fmt.Sprint(next[j]) {
			return fmt.Errorf("record %d is %q, not number %d of %d", r, b[r*size:r*size+10], next[j], j)
		}
		next[j]++
	}
	return nil
}

// counter counts in a file, reading and writing it under a lock.
func counter(m [2]string, lock func(f *os.File, lock bool) error) error {
	const times = 60
	name := fmt.Sprint("counter", time.Now().UnixNano())
	if err := os.WriteFile(filepath.Join(m[0], name), []byte("0"), 0o666); err != nil {
		return err
	}
	var g errgroup.Group
	for _, dir := range m {
		for range 2 {
			g.Go(func() error {
				f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
				if err != nil {
					return err
				}
				defer f.Close()
				for range times {
					if err := lock(f, true); err != nil {
						return fmt.Errorf("lock: %w", err)
					}
					b := make([]byte, 20)
					n, _ := f.ReadAt(b, 0)
					v, err := strconv.Atoi(string(b[:n]))
					if err != nil {
						return err
					}
					if _, err := f.WriteAt([]byte(fmt.Sprint(v+1)), 0); err != nil {
						return err
					}
					if err := lock(f, false); err != nil {
						return fmt.Errorf("unlock: %w", err)
					}
				}
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(m[1], name))
	if err != nil {
		return err
	}
	if string(b) != fmt.Sprint(4*times) {
		return fmt.Errorf("counted to %s, not to %d", b, 4*times)
	}
	return nil
}

func content(i int) []byte { return bytes.Repeat([]byte(fmt.Sprintf("%08d", i)), 500+37*i) }

func closeToOpen(m [2]string, _ string) error {
	for i := range 2 * tries {
		w, r := filepath.Join(m[i%2], "passed"), filepath.Join(m[(i+1)%2], "passed")
		if err := os.WriteFile(w, content(i), 0o666); err != nil {
			return err
		}
		got, err := os.ReadFile(r)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, content(i)) {
			return fmt.Errorf("version %d: the other mount reads %d bytes that begin with %q, of %d", i, len(got), got[:min(8, len(got))], len(content(i)))
		}
	}
	return nil
}

func syncToRead(m [2]string, _ string) error {
	var f [2]*os.File
	for i, dir := range m {
		var err error
		if f[i], err = os.OpenFile(filepath.Join(dir, "shared"), os.O_RDWR|os.O_CREATE, 0o666); err != nil {
			return err
		}
		defer f[i].Close()
	}
	for i := range tries {
		w, r := f[i%2], f[(i+1)%2]
		want := content(i % 7)[:4000]
		if _, err := w.WriteAt(want, 100); err != nil {
			return err
		}
		if err := w.Sync(); err != nil {
			return err
		}
		if err := eventually(func() error {
			got := make([]byte, len(want))
			if _, err := r.ReadAt(got, 100); err != nil {
				return err
			}
			if !bytes.Equal(got, want) {
				return fmt.Errorf("try %d: the other mount reads %q", i, got[:8])
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// eventually allows for lag.
func eventually(f func() error) error {
	for end := time.Now().Add(lag); ; time.Sleep(20 * time.Millisecond) {
		err := f()
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

func names(m [2]string, _ string) error {
	for i := range 4 {
		a, b := filepath.Join(m[i%2], "coming"), filepath.Join(m[(i+1)%2], "coming")
		if _, err := os.Stat(b); !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("before it is made: %v", err)
		}
		if err := os.Mkdir(a, 0o777); err != nil {
			return err
		}
		if err := eventually(func() error { _, err := os.Stat(b); return err }); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(a, "in"), []byte("x"), 0o666); err != nil {
			return err
		}
		if err := eventually(func() error {
			es, err := os.ReadDir(b)
			if err == nil && len(es) != 1 {
				err = fmt.Errorf("%d names", len(es))
			}
			return err
		}); err != nil {
			return err
		}
		if err := os.RemoveAll(b); err != nil {
			return err
		}
		if err := eventually(func() error {
			if _, err := os.Stat(a); !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("after it was removed: %v", err)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func saves(m [2]string, _ string) error {
	for i := range 10 {
		w, r := m[i%2], filepath.Join(m[(i+1)%2], "document")
		if err := os.WriteFile(filepath.Join(w, "document.new"), content(i), 0o666); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(w, "document.new"), filepath.Join(w, "document")); err != nil {
			return err
		}
		if err := eventually(func() error {
			got, err := os.ReadFile(r)
			if err == nil && !bytes.Equal(got, content(i)) {
				err = fmt.Errorf("version %d is not what the other mount reads", i)
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

func local(m [2]string, share string) error {
	for i := range 3 {
		name := fmt.Sprint("local", i)
		// What is read once is cached; the next reads have to see what follows.
		for v := range 3 {
			if err := os.WriteFile(filepath.Join(share, name), content(10*i+v), 0o666); err != nil {
				return err
			}
			for _, dir := range m {
				if err := eventually(func() error {
					got, err := os.ReadFile(filepath.Join(dir, name))
					if err == nil && !bytes.Equal(got, content(10*i+v)) {
						err = fmt.Errorf("version %d of %s is not what %s reads", v, name, filepath.Base(dir))
					}
					return err
				}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
