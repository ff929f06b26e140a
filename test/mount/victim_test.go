//go:build mount

package mount

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A program that was not run, or has done less than all, has been told nothing: what it
// would have written is not missed, however early or late the test ends.
func TestVictimsBelieved(t *testing.T) {
	fields := func(failure, written string) string {
		f := strings.Split("3;fio-3.33;x;0"+strings.Repeat(";0", 120), ";")
		f[4], f[46] = failure, written
		return strings.Join(f, ";")
	}
	works := map[string]func(*victim, context.Context) error{"fio": fio(), "sqlite3": sqlite("delete")}
	for _, c := range []struct {
		name, program, script string
		sure, putUpWith       bool
	}{
		{"fio wrote all", "fio", "echo 'fio: a warning'; echo '" + fields("0", "1024") + "'", true, false},
		{"fio said nothing", "fio", "exit 0", false, false},
		{"fio wrote less", "fio", "echo '" + fields("0", "1020") + "'", false, true},
		{"fio had an error and does not say so by its status", "fio", "echo '" + fields("5", "1024") + "'", false, true},
		{"fio failed", "fio", "echo 'fio: pid=1, err=5/file:x, func=xfer, error=Input/output error'; exit 1", false, true},
		{"SQLite committed", "sqlite3", "echo delete; echo committed", true, false},
		{"SQLite said nothing", "sqlite3", "exit 0", false, false},
		{"SQLite failed", "sqlite3", "echo delete; echo 'Runtime error: disk I/O error'; exit 1", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, c.program), fmt.Appendf(nil, "#!/bin/sh\n%s\n", c.script), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // the test ends, as what is done is begun
			v := &victim{dir: dir, share: dir, id: "x", sure: map[string][]byte{}}
			err := works[c.program](v, ctx)
			if sure := len(v.sure) == 1 && v.done.Load() == 1; sure != c.sure || sure != (err == nil) {
				t.Errorf("%d names are sure, error %v; want it to be sure: %v", len(v.sure), err, c.sure)
			}
			if got := interrupted(err); got != c.putUpWith {
				t.Errorf("error %v is put up with: %v, want %v", err, got, c.putUpWith)
			}
		})
	}
}
