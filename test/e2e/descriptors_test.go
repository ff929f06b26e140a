package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// A server that has no descriptors left says so with the status for that, and for
// nothing else: no file that is there is said to be missing, what is open goes on, who
// comes meanwhile waits, and when there are descriptors again all is as it was.
func TestNoDescriptorsLeft(t *testing.T) {
	ctx := context.Background()
	const limit = 100
	c := startChild(t, childScheme+"=tcp", fmt.Sprint(childFiles, "=", limit))
	d := dialer(t, "tcp")
	sh, err := mount(ctx, d, c.addr, client.Config{})
	must(t, err)
	defer sh.Session().Close()
	content := octets(1, 10_000)
	for _, n := range []string{"kept", "there"} {
		must(t, sh.WriteFile(ctx, n, content, 0o666))
	}
	must(t, sh.Mkdir(ctx, "dir"))
	must(t, sh.WriteFile(ctx, "dir/in", content, 0o666))
	kept, err := sh.OpenFile(ctx, "kept", os.O_RDWR, 0o666)
	must(t, err)
	fits := func(what string, err error) {
		t.Helper()
		if err != nil && !errors.Is(err, ntstatus.TooManyOpenedFiles) {
			t.Errorf("%s without descriptors: %v, want success or %v", what, err, ntstatus.TooManyOpenedFiles)
		}
	}
	before := c.descriptors()

	for round := range 2 {
		var open []*client.File
		for {
			f, err := sh.Create(ctx, fmt.Sprintf("many%d", len(open)))
			if err != nil {
				fits("CREATE", err)
				break
			}
			if open = append(open, f); len(open) > limit {
				t.Fatal("there is no limit")
			}
		}
		t.Logf("%d files are open, %d descriptors", len(open), c.descriptors())
		free := func() {
			if n := len(open) - 1; n >= 0 {
				must(t, open[n].Close())
				open = open[:n]
			}
		}
		// From here on with none, then one, two, ... to spare: each place runs out once.
		for spare := range 5 {
			what := func(s string) string { return fmt.Sprintf("round %d, %d to spare: %s", round, spare, s) }
			_, err = kept.WriteAt(content, int64(spare)*1000)
			must(t, err)
			must(t, kept.Sync(ctx))
			_, err = kept.Stat()
			must(t, err)
			must(t, sh.Session().Echo(ctx))
			_, err = sh.Stat(ctx, "there")
			fits(what("Stat"), err)
			_, err = sh.Stat(ctx, "dir/in")
			fits(what("Stat in a directory"), err)
			_, err = sh.ReadDir(ctx, "dir")
			fits(what("ReadDir"), err)
			_, err = sh.ReadFile(ctx, "there:stream")
			if !errors.Is(err, ntstatus.ObjectNameNotFound) { // as it is
				fits(what("a stream that is not there"), err)
			}
			err = sh.Mkdir(ctx, "newdir")
			fits(what("Mkdir"), err)
			_, there := os.Lstat(filepath.Join(c.dir, "newdir"))
			switch {
			case err != nil && there == nil:
				t.Error(what("Mkdir failed, and made the directory"))
			case err == nil:
				for err = sh.Remove(ctx, "newdir"); errors.Is(err, ntstatus.TooManyOpenedFiles) && len(open) > 0; err = sh.Remove(ctx, "newdir") {
					free()
				}
				must(t, err)
				if _, there = os.Lstat(filepath.Join(c.dir, "newdir")); there == nil {
					t.Error(what("Remove succeeded, and the directory is there"))
				}
			}
			fits(what("WriteFile of a stream"), sh.WriteFile(ctx, "there:s", content[:10], 0o666))
			if err := sh.Rename(ctx, "there", "moved", false); err != nil {
				fits(what("Rename"), err)
			} else {
				for err = sh.Rename(ctx, "moved", "there", false); errors.Is(err, ntstatus.TooManyOpenedFiles) && len(open) > 0; err = sh.Rename(ctx, "moved", "there", false) {
					free()
				}
				must(t, err)
			}
			free()
		}
		// Fill up again; who comes now has to wait for a descriptor, and gets in.
		for {
			f, err := sh.Create(ctx, fmt.Sprintf("more%d", len(open)))
			if err != nil {
				break
			}
			open = append(open, f)
		}
		came := make(chan error, 1)
		go func() {
			late, err := mount(ctx, d, c.addr, client.Config{})
			if err == nil {
				_, err = late.ReadFile(ctx, "there")
				late.Session().Close()
			}
			came <- err
		}()
		for _, f := range open {
			must(t, f.Close())
		}
		select {
		case err := <-came:
			if err != nil {
				fits("who came meanwhile", err)
			}
		case <-time.After(patience):
			t.Fatal("who came while there were no descriptors is never let in")
		}
		// Deleting works, too, and everything was given back.
		for _, e := range []string{"many", "more"} {
			for i := range limit {
				if err := sh.Remove(ctx, fmt.Sprint(e, i)); err != nil && !errors.Is(err, ntstatus.ObjectNameNotFound) {
					t.Error(err)
				}
			}
		}
		if _, err := sh.ReadFile(ctx, "there"); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		await(t, func() error {
			if n := c.descriptors(); n > before+4 { // watches and caches of directories, that stay
				return fmt.Errorf("%d descriptors, there were %d", n, before)
			}
			return nil
		})
	}
	if b, err := sh.ReadFile(ctx, "kept"); err != nil || len(b) != 14_000 {
		t.Errorf("the file that was written all the time has %d octets, %v; want 14000", len(b), err)
	}
}

// What is to be deleted on CLOSE is, or CLOSE is what says that it is not.
func TestDeletionWithoutDescriptors(t *testing.T) {
	ctx := context.Background()
	const limit = 100
	c := startChild(t, childScheme+"=tcp", fmt.Sprint(childFiles, "=", limit))
	d := dialer(t, "tcp")
	sh, err := mount(ctx, d, c.addr, client.Config{})
	must(t, err)
	defer sh.Session().Close()
	must(t, sh.MkdirAll(ctx, "a/b"))
	f, err := sh.Create(ctx, "a/b/f")
	must(t, err)
	must(t, f.Close())
	// An open with DELETE, which is told to delete when there is no descriptor left.
	g, err := sh.CreateFile(ctx, "a/b/f", client.CreateOptions{Access: client.AccessDelete | client.AccessReadAttributes, Share: client.ShareAll, Disposition: client.OpenExisting, Options: client.OptDeleteOnClose})
	must(t, err)
	var open []*client.File
	for {
		f, err := sh.Create(ctx, fmt.Sprintf("many%d", len(open)))
		if err != nil {
			break
		}
		open = append(open, f)
	}
	closed := g.Close()
	for _, f := range open {
		must(t, f.Close())
	}
	_, err = sh.Stat(ctx, "a/b/f")
	switch {
	case closed == nil && !errors.Is(err, ntstatus.ObjectNameNotFound):
		t.Errorf("CLOSE succeeded, and the file that it was to delete is there: %v", err)
	case closed != nil && (err != nil || !errors.Is(closed, ntstatus.TooManyOpenedFiles)):
		t.Errorf("CLOSE: %v, the file: %v", closed, err)
	}
}
