//go:build mount

package mount

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

var loads = []string{"fio", "dbench", "fs_mark", "git", "sqlite", "tar"}

// run runs a script of loads/ on a mount.
func load(t *testing.T, name, dir, local string, patience time.Duration) error {
	args := []string{dir, local}
	if *long {
		args = append(args, "long")
		patience *= 10
	}
	err := command(patience, filepath.Join("loads", name), args...)
	var status *exec.ExitError
	if errors.As(err, &status) && status.ExitCode() == 77 {
		t.Skip(err)
	}
	return err
}

// What other people's programs write is what they read.
func TestLoads(t *testing.T) {
	for _, c := range columns {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			y := newYard(t)
			m := y.mount(y.serve(c), c, "mnt", c.loads...)
			local := filepath.Join(y.dir, "local")
			if err := os.Mkdir(local, 0o755); err != nil {
				t.Fatal(err)
			}
			all := loads
			if *long { // its processes wait for each other for 10 s at most, which is short on a busy machine
				all = append(all[:len(all):len(all)], "mptest")
			}
			for _, l := range all {
				t.Run(l, func(t *testing.T) {
					if err := load(t, l, m.Dir, local, time.Minute); err != nil {
						t.Error(err)
					}
				})
			}
			y.unmount()
		})
	}
}
