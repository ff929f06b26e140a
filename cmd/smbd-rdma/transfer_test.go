package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// lines are the objects that --json prints of files.
func fileLines(t *testing.T, out string) (files []fileReport) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for _, l := range lines[:len(lines)-1] {
		var f fileReport
		if err := json.Unmarshal([]byte(l), &f); err != nil || f.Type != "file" {
			t.Fatalf("%q: %v", l, err)
		}
		files = append(files, f)
	}
	return files
}

// What --json says of what goes well and of what does not.
func TestTransferJSON(t *testing.T) {
	s := newSite(t)
	local := t.TempDir()
	writeFile(t, filepath.Join(local, "t", "abc"), "abc")
	writeFile(t, filepath.Join(local, "t", "a:b"), "x")
	out, _ := s.do(exitFailed, "tcp", "put", "-r", "--verify", "--json", filepath.Join(local, "t"), "//127.0.0.1/data/t")
	files := fileLines(t, out)
	slices.SortFunc(files, func(a, b fileReport) int { return strings.Compare(a.From, b.From) })
	if len(files) != 2 {
		t.Fatalf("%s", out)
	}
	bad, good := files[0], files[1]
	if bad.Status != "failed" || !strings.Contains(bad.Error, "no colon") || bad.Action != "copy" {
		t.Errorf("%+v", bad)
	}
	if good.Status != "done" || good.To != "//127.0.0.1/data/t/abc" || good.Size != 3 || good.Bytes != 3 || !good.Verified ||
		good.SHA256 != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" { // FIPS 180-2, B.1
		t.Errorf("%+v", good)
	}
	if r := summary(t, out); r.Files != 1 || r.Failed != 1 || r.Bytes != 3 {
		t.Errorf("%+v", r)
	}
	out, _ = s.do(exitDone, "tcp", "sync", "--json", "--dry-run", "--delete", "//127.0.0.1/data/t", filepath.Join(local, "t"))
	statuses := map[string]string{}
	for _, f := range fileLines(t, out) {
		statuses[filepath.Base(f.To)] = f.Action + " " + f.Status
	}
	if len(statuses) != 2 || statuses["abc"] != "skip skipped" || statuses["a:b"] != "delete planned" {
		t.Errorf("%v", statuses)
	}
	wantFile(t, filepath.Join(local, "t", "a:b"), "x")
}

// smbclient's names, and where things go with them.
func TestCommandsOfSmbclient(t *testing.T) {
	s := newSite(t)
	local, root := t.TempDir(), "//127.0.0.1/data"
	for _, n := range []string{"a.txt", "B.TXT", "c.bin"} {
		writeFile(t, filepath.Join(local, "in", n), n)
	}
	writeFile(t, filepath.Join(local, "in", "d.txt", "deep"), "deep")
	in := func(n string) string { return filepath.Join(local, "in", n) }
	out := func(n string) string { return filepath.Join(local, "out", n) }
	if err := os.Mkdir(out(""), 0o777); err != nil {
		t.Fatal(err)
	}

	s.do(exitDone, "tcp", "md", root+"/x")
	s.do(exitDone, "tcp", "mput", "-r", in("a.txt"), in("B.TXT"), in("c.bin"), in("d.txt"), root+"/x")
	if l := names(t, filepath.Join(s.dir, "x")); !slices.Equal(l, []string{"B.TXT", "a.txt", "c.bin", "d.txt"}) {
		t.Errorf("mput: %v", l)
	}
	s.do(exitFailed, "tcp", "mput", in("a.txt"), in("B.TXT"), root+"/absent")
	s.do(exitDone, "tcp", "mget", root+"/x/*.txt", out(""))
	if l := names(t, out("")); !slices.Equal(l, []string{"B.TXT", "a.txt"}) {
		t.Errorf("mget: %v", l)
	}
	s.do(exitDone, "tcp", "mget", "-r", root+"/x/*.TXT", out(""))
	wantFile(t, out("d.txt/deep"), "deep")
	s.do(exitFailed, "tcp", "mget", root+"/x/*.none", out(""))
	s.do(exitDone, "tcp", "get", root+"/x/c.bin", root+"/x/a.txt", out(""))
	wantFile(t, out("c.bin"), "c.bin")

	s.do(exitDone, "tcp", "scopy", "-r", root+"/x", root+"/y")
	wantFile(t, filepath.Join(s.dir, "y", "d.txt", "deep"), "deep")
	s.do(exitDone, "tcp", "cp", root+"/x/c.bin", root+"/y/d.txt")
	wantFile(t, filepath.Join(s.dir, "y", "d.txt", "c.bin"), "c.bin")
	s.do(exitUsage, "tcp", "cp", "-r", root+"/x", root+"/X/inside")
	s.do(exitUsage, "tcp", "cp", "--in-place", root+"/x/c.bin", root+"/x/c.bin")

	stdout, _ := s.do(exitDone, "tcp", "du", "--json", root+"/x")
	var u usage
	if err := json.Unmarshal([]byte(stdout), &u); err != nil || u.Files != 4 || u.Directories != 1 || u.Bytes != 19 {
		t.Errorf("du: %v, %s", err, stdout)
	}
	stdout, _ = s.do(exitDone, "tcp", "volume", "--json", root)
	var free struct{ Size, Free, Available uint64 }
	if err := json.Unmarshal([]byte(stdout), &free); err != nil || free.Size == 0 || free.Free > free.Size || free.Available > free.Free {
		t.Errorf("df: %v, %s", err, stdout)
	}

	s.do(exitDone, "tcp", "touch", "--date", "2001-02-03T04:05:06Z", root+"/x/c.bin", root+"/x/new")
	for _, n := range []string{"c.bin", "new"} {
		if i, err := os.Stat(filepath.Join(s.dir, "x", n)); err != nil || i.ModTime().Unix() != 981173106 { // date -ud '2001-02-03 04:05:06' +%s
			t.Errorf("touch %s: %v %v", n, i, err)
		}
	}
	s.do(exitDone, "tcp", "touch", "--no-create", root+"/x/absent")
	s.do(exitFailed, "tcp", "allinfo", root+"/x/absent")
	s.do(exitDone, "tcp", "setmode", root+"/x/new", "+rh")
	var row fileRow
	stdout, _ = s.do(exitDone, "tcp", "allinfo", "--json", root+"/x/new")
	if err := json.Unmarshal([]byte(stdout), &row); err != nil || row.Attributes&3 != 3 {
		t.Errorf("setmode +rh: %v, %s", err, stdout)
	}
	s.do(exitDone, "tcp", "setmode", root+"/x/new", "+a-r-h")
	stdout, _ = s.do(exitDone, "tcp", "allinfo", "--json", root+"/x/new")
	if err := json.Unmarshal([]byte(stdout), &row); err != nil || row.Attributes&3 != 0 {
		t.Errorf("setmode -r-h: %v, %s", err, stdout)
	}

	s.do(exitDone, "tcp", "rename", root+"/x/new", root+"/x/old")
	s.do(exitDone, "tcp", "del", root+"/x/old")
	s.do(exitFailed, "tcp", "rd", root+"/x")
	s.do(exitFailed, "tcp", "rd", root+"/x/c.bin")
	s.do(exitDone, "tcp", "md", root+"/e")
	s.do(exitDone, "tcp", "rd", root+"/e")
	if stdout, _ = s.do(exitDone, "tcp", "dir", root); stdout != "x/\ny/\n" {
		t.Errorf("dir: %q", stdout)
	}
}

// Interrupted, put leaves nothing on the share, and get and put with --continue leave
// what the next one goes on from.
func TestInterruptedTransfers(t *testing.T) {
	for _, transport := range []string{"iwarp", "tcp"} {
		for _, proceed := range []bool{false, true} {
			for _, name := range []string{"put", "get"} {
				s := newSite(t)
				local := t.TempDir()
				from, to := local, s.dir
				args := []string{name, filepath.Join(local, "huge"), "//127.0.0.1/data/huge"}
				if name == "get" {
					from, to = to, from
					args = []string{name, "//127.0.0.1/data/huge", filepath.Join(local, "huge")}
				}
				data := strings.Repeat("no hole ", 128<<20/8)
				writeFile(t, filepath.Join(from, "huge"), data)
				if proceed {
					args = append(args, "--continue")
				}
				args = append(args, "-U", "alice%secret", "--transport", transport, "-p", s.port[transport], "--log-level", "error", "--json")
				ctx, cancel := context.WithCancelCause(context.Background())
				begun := make(chan struct{})
				go func() { // ends as soon as a good part is written
					defer close(begun)
					for {
						es, _ := os.ReadDir(to)
						for _, e := range es {
							if i, err := e.Info(); err == nil && i.Size() > 16<<20 {
								cancel(io.ErrClosedPipe)
								return
							}
						}
						runtime.Gosched()
					}
				}()
				var stdout, stderr bytes.Buffer
				code := run(ctx, args, strings.NewReader(""), &stdout, &stderr)
				<-begun
				what := strings.Join([]string{name, transport}, " ")
				if proceed {
					what += " --continue"
				}
				if code != exitFailed || stderr.String() != "smbd-rdma "+name+": "+io.ErrClosedPipe.Error()+"\n" {
					t.Errorf("%s: exit status %d, %q", what, code, stderr.String())
				}
				left := names(t, to)
				switch {
				case slices.Contains(left, "huge"):
					t.Errorf("%s: half a file has its name", what)
				case !proceed && len(left) > 0, proceed && len(left) != 2:
					t.Errorf("%s: left behind %v", what, left)
				}
				if proceed {
					code, out, errs := execute(args...)
					if code != exitDone || summary(t, out).Resumed == 0 {
						t.Errorf("%s again: %d, %s%s", what, code, out, errs)
					}
					wantFile(t, filepath.Join(to, "huge"), data)
					if left := names(t, to); len(left) != 1 {
						t.Errorf("%s again: left behind %v", what, left)
					}
				}
			}
		}
	}
}
