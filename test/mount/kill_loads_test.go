//go:build mount

package mount

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Victims that are other people's programs, or keep one file open: what they were told to
// be safe is looked for in the server's own directory.

// log appends lines to one file that it keeps open, each few synced before they are said
// to be there. What failed it writes again, to the same place and by the same descriptor.
func (v *victim) log(ctx context.Context) error {
	name := v.id + ".log"
	f, err := os.OpenFile(filepath.Join(v.dir, name), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return err
	}
	defer f.Close()
	failed := 0
	for ctx.Err() == nil {
		at := len(v.sure[name])
		var lines []byte
		for i := range 1 + v.done.Load()%5 {
			line := fmt.Appendf(nil, "%s %d.%d ", v.id, v.done.Load(), i)
			lines = append(append(lines, line...), bytes.Repeat([]byte{'a' + byte(at%26)}, 700)...)
			lines = append(lines, '\n')
		}
		for i := 0; i < len(lines) && err == nil; i += 1000 {
			p := lines[i:min(i+1000, len(lines))]
			_, err = f.WriteAt(p, int64(at+i))
		}
		if err == nil {
			err = f.Sync()
		}
		if err != nil {
			if failed++; failed > 3 || !interrupted(err) {
				return err // by another descriptor, then
			}
			err = nil
			continue
		}
		failed = 0
		v.sure[name] = append(v.sure[name], lines...)
		v.done.Add(1)
	}
	return nil
}

// logged is log's proof: the server's file begins with all that was acknowledged.
func (v *victim) logged() error {
	name := v.id + ".log"
	got, err := os.ReadFile(filepath.Join(v.share, name))
	if err != nil {
		return err
	}
	want := v.sure[name]
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			return fmt.Errorf("%s: %d bytes were acknowledged, the server has %d, which differ from byte %d on", name, len(want), len(got), i)
		}
	}
	return nil
}

// fio writes files at random with checksums, and syncs: one after the other, so that none
// has what an earlier one has left. A run that says that it has written all of its file,
// without an error, has been told that all is there.
func fio() func(*victim, context.Context) error {
	tried := 0
	return func(v *victim, _ context.Context) error {
		tried++
		name := fmt.Sprintf("%s.%d", v.id, tried)
		out, err := v.runFio(v.dir, "--do_verify=0", name)
		if err == nil {
			err = wroteAll(out)
		}
		if err != nil {
			return err
		}
		v.sure[name] = nil
		v.done.Add(1)
		return nil
	}
}

// fioSize is how long a file of fio's is, in KiB.
const fioSize = 1024

// wroteAll is an error unless fio's terse answer, version 3, is that of one job which has
// written its file without an error.
func wroteAll(out []byte) error {
	const failure, written = 4, 46 // fields: the error, and KiB written
	for l := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(l), ";")
		if f[0] != "3" || len(f) <= written {
			continue
		}
		if f[failure] != "0" || f[written] != strconv.Itoa(fioSize) {
			return fmt.Errorf("%w: fio has written %s KiB of %d, with error %s", unix.EIO, f[written], fioSize, f[failure])
		}
		return nil
	}
	return fmt.Errorf("fio has said nothing of what it wrote: %s", tail(string(out)))
}

// runFio runs a job for each of the files, at once, and has what it says.
func (v *victim) runFio(dir string, more string, names ...string) ([]byte, error) {
	args := []string{"60", "fio", "--directory=" + dir, "--rw=randwrite", "--bs=4k", fmt.Sprintf("--size=%dk", fioSize), "--ioengine=psync", "--verify=crc32c", "--verify_fatal=1",
		"--verify_dump=0", "--verify_state_save=0", "--randseed=7", "--fsync=8", "--end_fsync=1", "--thread", "--minimal", more}
	for _, name := range names {
		args = append(args, "--name="+name, "--filename="+name)
	}
	return program(exec.Command("timeout", args...))
}

// verified is fio's proof.
func (v *victim) verified() error {
	names := slices.Sorted(maps.Keys(v.sure))
	if _, err := v.runFio(v.share, "--verify_only", names...); err != nil {
		return fmt.Errorf("acknowledged to fio and not there: %w\n%s", err, v.missing(names))
	}
	return nil
}

// missing says what of fio's files is not there, by the server's directory and by the mount.
func (v *victim) missing(names []string) string {
	var b strings.Builder
	for _, name := range names {
		for _, dir := range []string{v.share, v.dir} {
			p, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || len(p) != fioSize<<10 {
				fmt.Fprintf(&b, "%s in %s: %d bytes, %v\n", name, dir, len(p), err)
			}
			for off := 0; off+4096 <= len(p); off += 4096 {
				// Each block begins with FIO_HDR_MAGIC; its offset is 16 bytes behind that.
				magic, at := binary.NativeEndian.Uint16(p[off:]), binary.NativeEndian.Uint64(p[off+16:])
				if magic != 0xacca || at != uint64(off) {
					fmt.Fprintf(&b, "%s in %s: at %d is what begins with %#x and was written to %d\n", name, dir, off, magic, at)
				}
			}
		}
	}
	return b.String()
}

// sqlite adds rows and keeps a sum, in transactions.
func sqlite(mode string) func(*victim, context.Context) error {
	tried := 0
	return func(v *victim, _ context.Context) error {
		tried++
		text := fmt.Sprintf("PRAGMA journal_mode=%s; PRAGMA synchronous=FULL; BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS t(n INTEGER PRIMARY KEY, filling); "+
			"CREATE TABLE IF NOT EXISTS sum(id INTEGER PRIMARY KEY, n); INSERT OR IGNORE INTO sum VALUES (1, 0); "+
			"INSERT INTO t VALUES (%d, hex(randomblob(900))); UPDATE sum SET n = n + %d; COMMIT; SELECT 'committed';", mode, tried, tried)
		out, err := program(exec.Command("timeout", "60", "sqlite3", "-bail", "-cmd", ".timeout 20000", filepath.Join(v.dir, v.id+".db"), text))
		if err == nil && !strings.Contains(string(out), "committed\n") {
			err = fmt.Errorf("sqlite3 has not said that it has committed: %s", tail(string(out)))
		}
		if err != nil {
			return err
		}
		v.sure[strconv.Itoa(tried)] = nil
		v.done.Add(1)
		return nil
	}
}

// committed is sqlite's proof: by the server's own file every transaction that was said to
// be committed is there, and none in part.
func (v *victim) committed() error {
	out, err := exec.Command("sqlite3", filepath.Join(v.share, v.id+".db"), "PRAGMA integrity_check; SELECT (SELECT n FROM sum) - (SELECT sum(n) FROM t); SELECT n FROM t;").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	lines := strings.Fields(string(out))
	if len(lines) < 2 || lines[0] != "ok" || lines[1] != "0" {
		return fmt.Errorf("the database is damaged: %s", tail(string(out)))
	}
	there := map[string]bool{}
	for _, n := range lines[2:] {
		there[n] = true
	}
	for n := range v.sure {
		if !there[n] {
			return fmt.Errorf("transaction %s of %d was committed and is not there", n, len(v.sure))
		}
	}
	return nil
}

// program runs one, and has what it says. It may fail by what comes of the server's being away, which is EIO
// then, and by nothing else. SQLite calls the EIO of a read a malformed image: whether it
// is one, committed finds out. SIGBUS is the EIO of a page that is mapped, as that of a
// write-ahead log's index.
func program(cmd *exec.Cmd) ([]byte, error) {
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err == nil {
		return out, nil
	}
	var status *exec.ExitError
	if errors.As(err, &status) && status.Sys().(syscall.WaitStatus).Signal() == syscall.SIGBUS {
		return nil, fmt.Errorf("%w: of a page that is mapped", unix.EIO)
	}
	for _, words := range []string{"nput/output error", "disk I/O error", "Stale file handle", "Connection timed out", "unable to open database", "database is locked", "disk image is malformed", "locking protocol"} {
		if strings.Contains(string(out), words) {
			return nil, fmt.Errorf("%w: %s", unix.EIO, tail(string(out)))
		}
	}
	return nil, fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, tail(string(out)))
}
