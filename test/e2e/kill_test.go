package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// saved is what a client that saves as editors do has been told: it writes a new file,
// flushes it, and renames it over the old one.
type saved struct {
	last int // version that was acknowledged with its rename; -1 before the first
}

func version(i int) []byte { return octets(byte(i), 100_000+i) }

func (v *saved) keep(ctx context.Context, sh *client.Share) error {
	for i := 0; ; i++ {
		f, err := sh.Create(ctx, "new")
		if err != nil {
			return err
		}
		_, err = f.WriteAtContext(ctx, version(i), 0)
		if err == nil {
			err = f.Sync(ctx)
		}
		if err = errors.Join(err, f.Close()); err == nil {
			err = sh.Rename(ctx, "new", "document", true)
		}
		if err != nil {
			return err
		}
		v.last = i
	}
}

// judge wants the last version that was acknowledged, or the one after it, whole.
func (v *saved) judge(dir string) error {
	got, err := os.ReadFile(filepath.Join(dir, "document"))
	if v.last < 0 && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, i := range []int{v.last, v.last + 1} {
		if i >= 0 && bytes.Equal(got, version(i)) {
			return nil
		}
	}
	return fmt.Errorf("the document has %d octets that are neither version %d nor the next one", len(got), v.last)
}

// streams are written whole and flushed, one after the other.
func keepStreams(ctx context.Context, sh *client.Share, acked *int) error {
	for i := 0; ; i++ {
		f, err := sh.Create(ctx, fmt.Sprintf("streams:s%d", i))
		if err != nil {
			return err
		}
		_, err = f.WriteAtContext(ctx, octets(byte(i), 500), 0)
		if err == nil {
			err = f.Sync(ctx)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		if *acked = i + 1; i == 20 { // so many fit in the attributes of any file system
			return nil
		}
	}
}

// The server is killed in the middle of writes: what was acknowledged and flushed is
// there, what was not is made of what was written and of nothing else, and a new server
// on the same directory gives it to who asks.
func TestKilledServer(t *testing.T) {
	ctx := context.Background()
	for _, scheme := range []string{"tcp", "iwarp"} {
		for round := range 3 {
			t.Run(fmt.Sprintf("%s/%d", scheme, round), func(t *testing.T) {
				c := startChild(t, childScheme+"="+scheme)
				d := dialer(t, scheme)
				sh, err := mount(ctx, d, c.addr, client.Config{})
				must(t, err)
				f, err := sh.Create(ctx, "f")
				must(t, err)
				other, err := mount(ctx, d, c.addr, client.Config{})
				must(t, err)

				l := &ledger{acked: map[int]byte{}, tried: map[int]byte{}}
				v := &saved{last: -1}
				var streams int
				enough := make(chan struct{})
				var once sync.Once
				var wg sync.WaitGroup
				for i := range 4 {
					wg.Go(func() {
						_ = l.keep(ctx, f, i, 4, func(acked int) bool {
							if acked > 5+10*round {
								once.Do(func() { close(enough) })
							}
							return acked < 200
						})
						once.Do(func() { close(enough) }) // or the test would wait for ever
					})
				}
				wg.Go(func() { _ = v.keep(ctx, other) })
				wg.Go(func() { _ = keepStreams(ctx, other, &streams) })
				<-enough
				c.kill()
				wg.Wait()
				sh.Session().Close()
				other.Session().Close()
				t.Logf("%d blocks, %d versions and %d streams were acknowledged", len(l.acked), v.last+1, streams)
				if len(l.acked) <= 5 {
					t.Fatal("the writers failed before the server was killed")
				}

				got, err := os.ReadFile(filepath.Join(c.dir, "f"))
				must(t, err)
				for i, seed := range l.acked {
					if lo, hi := min(i*block, len(got)), min((i+1)*block, len(got)); !bytes.Equal(got[lo:hi], octets(seed, block)) {
						t.Errorf("block %d was flushed, and is lost", i)
					}
				}
				for i, seed := range l.tried { // any part of it
					want := octets(seed, block)
					for k, b := range got[min(i*block, len(got)):min((i+1)*block, len(got))] {
						if b != 0 && b != want[k] {
							t.Errorf("block %d has what nobody wrote at %d", i, k)
							break
						}
					}
				}
				if err := v.judge(c.dir); err != nil {
					t.Error(err)
				}

				again := startChildOn(t, c.dir, childScheme+"="+scheme)
				sh, err = mount(ctx, d, again.addr, client.Config{})
				must(t, err)
				defer sh.Session().Close()
				for i := range streams {
					if b, err := sh.ReadFile(ctx, fmt.Sprintf("streams:s%d", i)); err != nil || !bytes.Equal(b, octets(byte(i), 500)) {
						t.Errorf("stream %d was flushed: now %d octets, %v", i, len(b), err)
					}
				}
				if b, err := sh.ReadFile(ctx, "f"); err != nil || !bytes.Equal(b, got) {
					t.Errorf("read from the new server: %d octets, %v", len(b), err)
				}
				must(t, sh.Remove(ctx, "f"))
				list, err := sh.ReadDir(ctx, "")
				must(t, err)
				for _, e := range list {
					if n := e.Name(); !strings.Contains(" new document streams ", " "+n+" ") {
						t.Errorf("the dead server has left %q", n)
					}
				}
				onDisk, err := os.ReadDir(c.dir)
				must(t, err)
				if len(onDisk) != len(list) {
					t.Errorf("the directory has %v, clients see %v", onDisk, list)
				}
			})
		}
	}
}
