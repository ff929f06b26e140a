//go:build mount

package mount

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// A mount that no call tells from a local directory, but for what diff -list says.
func TestSameAsLocal(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "diff")
	if err := command(3*time.Minute, "go", "build", "-o", bin, "./diff"); err != nil {
		t.Fatal(err)
	}
	ops, patience := 3000, 2*time.Minute
	if *long {
		ops, patience = 100_000, 2*time.Hour
	}
	for _, c := range append(slices.Clone(columns), withoutPOSIX) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			y := newYard(t)
			s := y.serve(c)
			y.mount(s, c, "mnt", "uid=65534", "gid=65534")
			local := filepath.Join(y.dir, "local")
			if err := os.Mkdir(local, 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(local, 0o777); err != nil { // whatever the umask, as the share
				t.Fatal(err)
			}
			for _, run := range []struct{ seed, procs int }{{1, 1}, {100, 4}} {
				y.within(patience+time.Minute, fmt.Sprint("seed ", run.seed), func() error {
					return command(patience, bin, "-seed", fmt.Sprint(run.seed), "-ops", fmt.Sprint(ops/2), "-procs", fmt.Sprint(run.procs),
						"-a", local, "-b", filepath.Join(y.dir, "mnt"), "-minimise", "20s", "-without", c.without)
				})
			}
			y.unmount()
		})
	}
}
