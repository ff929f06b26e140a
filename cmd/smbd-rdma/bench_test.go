package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
	benchrun "github.com/smbd-rdma/smbd-rdma/bench/run"
)

// What is wrong is said in one line with file and line, and the status is 2.
func TestBenchMistakes(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	there := file("there", "precious")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{}, "there is no job"},
		{[]string{"--nmae=x"}, "the nearest is --name"},
		{[]string{file("option.fio", "[j]\n\niodpeth=4\n")}, "option.fio:3: [j] iodpeth=4: there is no such option; the nearest is iodepth"},
		{[]string{file("number.fio", "[j]\nbs=4x\n")}, `number.fio:2: [j] bs=4x: "4x" is not a number`},
		{[]string{filepath.Join(dir, "none.fio")}, "none.fio: cannot be read"},
		{[]string{file("over.fio", "[j]\nrw=write\nsize=4k\nfilename="+there+"\n")}, "over.fio:1: [j] " + there + ": the file was there before this run"},
		{[]string{file("smb.fio", "[j]\nioengine=smb\nserver=127.0.0.1:1\nshare=s\n")}, "smb.fio:1: [j] server 127.0.0.1:1:"},
		{[]string{file("cred.fio", "[j]\nioengine=smb\nserver=h\nshare=s\ncredentials="+dir+"/nothing\n")}, "cred.fio:1: [j] credentials="},
		{[]string{"--name=j", "--size=4k", "--filename=" + dir + "/new", "--output=" + dir + "/no/such"}, "--output: open"},
		{[]string{"--log-level=loud", "--name=j"}, "--log-level"},
		{[]string{"--parse-only", file("late.fio", "[j]\nverify_backlog=8\nrw=write\nverify=md5\nsize=4k\n")}, "late.fio:1: [j] verify_backlog=8: not offered here: what was written is read back at the end"},
		{[]string{"--parse-only", "--name=j", "--ioengine=null", "--size=50%"}, "command line: [j] --size=50%: not offered here: per cent of a file"},
		{[]string{"--parse-only", "--name=j", "--ioengine=null", "--size=1t", "--bs=1g", "--iodepth=64"}, "command line: [j] 64 buffers of 1073741824 bytes are more than 8589934592 bytes of memory"},
	} {
		code, stdout, stderr := execute(append([]string{"bench"}, c.args...)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: status %d, output %q and %q; want 2 and one line with %q", c.args, code, stdout, stderr, c.want)
		}
	}
	if b, _ := os.ReadFile(there); string(b) != "precious" {
		t.Errorf("the file that was there has %q", b)
	}
}

// The answer goes where it is to go, in the forms that were asked for.
func TestBenchOutput(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	code, stdout, stderr := execute("bench", "--name=j", "--rw=write", "--size=64k", "--filename="+dir+"/data", "--output="+out, "--output-format=json")
	if code != exitDone || stdout != "" || stderr != "" {
		t.Fatalf("status %d, %q, %q", code, stdout, stderr)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Jobs []struct {
			Jobname string
			Options map[string]string `json:"job options"`
			Write   struct {
				Bytes int64 `json:"io_bytes"`
				IOs   int64 `json:"total_ios"`
			}
		}
	}
	if err := json.Unmarshal(b, &doc); err != nil || len(doc.Jobs) != 1 {
		t.Fatalf("%v of %s", err, b)
	}
	if j := doc.Jobs[0]; j.Jobname != "j" || j.Options["size"] != "64k" || j.Write.Bytes != 65536 || j.Write.IOs != 16 {
		t.Errorf("got %+v, want 16 writes of 65536 bytes", j)
	}
}

// Files that the first run made are written again by the next.
func TestBenchRepeat(t *testing.T) {
	dir := t.TempDir()
	code, stdout, stderr := execute("bench", "--repeat=3", "--name=j", "--rw=write", "--size=64k", "--filename="+dir+"/data", "--output-format=normal")
	if code != exitDone || strings.Count(stdout, "j: (groupid=0") != 1 {
		t.Errorf("status %d, %q, %q", code, stdout, stderr)
	}
}

// Repetitions leave their figures in the answer, which can be compared at once.
func TestBenchRepeatsAreCompared(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		code, _, stderr := execute("bench", "--repeat=4", "--name=j", "--ioengine=null", "--rw=read", "--size=1m", "--output-format=json", "--output="+dir+"/"+name)
		if code != exitDone {
			t.Fatalf("status %d: %s", code, stderr)
		}
	}
	code, stdout, stderr := execute("bench", "compare", dir+"/a", dir+"/b")
	if code != exitDone || !strings.Contains(stdout, "n=4") || strings.Contains(stdout, "too few runs") {
		t.Errorf("status %d, %s, %s", code, stdout, stderr)
	}
}

// The command is in the answer, passwords are not.
func TestBenchCommand(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"a.fio", "--eta=never"}, "smbd-rdma bench a.fio --eta=never"},
		{[]string{"--user=bob%pw1", "--password=pw2", "--name=j 1"}, `smbd-rdma bench --user=bob%******** --password=******** "--name=j 1"`},
		{[]string{"--user", "DOM/bob%pw1", "--password", "pw2"}, "smbd-rdma bench --user DOM/bob%******** --password ********"},
		{[]string{"-user=bob%pw1", "--user=bob"}, "smbd-rdma bench -user=bob%******** --user=bob"},
	} {
		if got := benchCommand(c.args); got != c.want {
			t.Errorf("%q: %s", c.args, got)
		}
	}
}

// A run leaves a page and a picture, and so do answers that were saved, which can be
// compared.
func TestBenchSaved(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		code, _, stderr := execute("bench", "--name=seq", "--ioengine=null", "--rw=read", "--size=64m", "--output-format=json+", "--output="+dir+"/"+name+".json",
			"--html="+dir+"/"+name+".html", "--plot="+dir+"/"+name+".svg")
		if code != exitDone {
			t.Fatalf("status %d: %s", code, stderr)
		}
	}
	code, stdout, stderr := execute("bench", "compare", dir+"/a.json", dir+"/b.json")
	if code != exitDone || !strings.Contains(stdout, "seq") || !strings.Contains(stdout, "bandwidth") {
		t.Errorf("compare: status %d, %q, %q", code, stdout, stderr)
	}
	if code, _, stderr = execute("bench", "report", "--html="+dir+"/both.html", dir+"/a.json", dir+"/b.json"); code != exitDone {
		t.Errorf("report: status %d: %s", code, stderr)
	}
	for file, want := range map[string]string{"a.html": "<html", "both.html": "<html", "a.svg": "<svg"} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || !bytes.Contains(b, []byte(want)) {
			t.Errorf("%s: %v, %d bytes without %s", file, err, len(b), want)
		}
	}
	for _, args := range [][]string{{"compare", dir + "/a.json", dir + "/none.json"}, {"report", dir + "/a.json"}, {"compare", dir + "/a.json"}} {
		if code, _, stderr := execute(append([]string{"bench"}, args...)...); code != exitUsage || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: status %d, %q", args, code, stderr)
		}
	}
}

// The page of a run says where the processor's time went: with an engine that does
// nothing, into the bench itself.
func TestBenchProfile(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.html")
	code, _, stderr := execute("bench", "--name=idle", "--ioengine=null", "--rw=randread", "--norandommap", "--size=1t", "--number_ios=2000000", "--html="+page)
	b, err := os.ReadFile(page)
	if code != exitDone || err != nil {
		t.Fatalf("status %d: %s, %v", code, stderr, err)
	}
	_, parts, _ := strings.Cut(string(b), "<tr><th>idle</th><td>")
	// What the race detector does has no stack, and is of nobody.
	if !regexp.MustCompile(`^(generator|other) ([3-9][0-9]|100)\.[0-9] %`).MatchString(parts) {
		t.Errorf("%.200s", parts)
	}
}

// What was measured until an interruption is printed, and the status is 130.
func TestBenchInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var stdout, stderr bytes.Buffer
	watch := writerFunc(func(b []byte) (int, error) {
		if n, err := stderr.Write(b); err != nil || !strings.Contains(stderr.String(), "IOPS") {
			return n, err
		}
		cancel(errors.New("interrupt")) // when it has begun
		return len(b), nil
	})
	args := []string{"bench", "--name=j", "--ioengine=null", "--rw=randread", "--size=1g", "--time_based", "--runtime=1h", "--eta=always", "--eta-interval=250ms"}
	done := make(chan int)
	go func() { done <- run(ctx, args, strings.NewReader(""), &stdout, watch) }()
	select {
	case code := <-done:
		if code != exitInterrupted || !strings.Contains(stdout.String(), "read: IOPS=") || !strings.Contains(stderr.String(), "interrupt; this is what was measured so far") {
			t.Errorf("status %d, %q, %q", code, stdout.String(), stderr.String())
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// Engines move what a job says to and from a share, and say how.
func TestBenchEngines(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct{ engine, transport string }{{"smb", "tcp"}, {"smbdirect", "iwarp"}, {"go-smb2", "tcp"}} {
		t.Run(c.engine, func(t *testing.T) {
			args := []string{"bench", "--output-format=json", "--ioengine=" + c.engine, "--server=127.0.0.1:" + s.port[c.transport],
				"--share=data", "--user=alice%secret", "--directory=" + c.engine, "--bs=64k", "--iodepth=4", "--size=1m", "--verify=crc32c",
				"--name=w", "--rw=write", "--filename=f"}
			if err := os.Mkdir(filepath.Join(s.dir, c.engine), 0o700); err != nil {
				t.Fatal(err)
			}
			code, stdout, stderr := execute(args...)
			if code != exitDone {
				t.Fatalf("status %d: %s", code, stderr)
			}
			if st, err := os.Stat(filepath.Join(s.dir, c.engine, "f")); err != nil || st.Size() != 1<<20 {
				t.Errorf("%v of the file, %v", st, err)
			}
			if strings.Contains(stdout, "secret") {
				t.Error("the password is in the report")
			}
			code, _, stderr = execute(append(args, "--verify_only")...)
			if code != exitDone {
				t.Errorf("status %d of what has not changed: %s", code, stderr)
			}
			name := filepath.Join(s.dir, c.engine, "f")
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			data[777777] ^= 1
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
			code, _, stderr = execute(append(args, "--verify_only")...)
			if code != exitFailed || !strings.Contains(stderr, "verify") {
				t.Errorf("status %d of a bit that has changed: %s", code, stderr)
			}
		})
	}
}

// RDMA without SMB, with bench peer at the other end.
func TestBenchPeer(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	pr, pw := io.Pipe()
	ended := make(chan int, 1)
	var stderr bytes.Buffer
	go func() {
		ended <- run(ctx, []string{"bench", "peer", "127.0.0.1:0"}, strings.NewReader(""), pw, &stderr)
	}()
	line, err := bufio.NewReader(pr).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on iwarp://")
	if !ok {
		t.Fatalf("%q", line)
	}
	for _, c := range []struct{ engine, rw, want string }{
		{"ndk-write", "write", "issued rwts: total=0,256,0,0"}, {"ndk-read", "read", "issued rwts: total=256,0,0,0"}, {"ndk-send", "write", "issued rwts: total=0,256,0,0"},
	} {
		code, stdout, errs := execute("bench", "--ioengine="+c.engine, "--server="+addr, "--name=j", "--rw="+c.rw, "--bs=4k", "--size=1m", "--iodepth=8")
		if code != exitDone || !strings.Contains(stdout, c.want) {
			t.Errorf("%s: status %d, %s%s", c.engine, code, stdout, errs)
		}
	}
	cancel()
	if code := <-ended; code != exitDone {
		t.Errorf("peer ended with %d: %s", code, stderr.String())
	}
}

func TestServerAddr(t *testing.T) {
	for _, c := range []struct {
		text, host string
		port       int
		bad        bool
	}{
		{text: "server", host: "server"},
		{text: "server:445", host: "server", port: 445},
		{text: "192.0.2.1:5445", host: "192.0.2.1", port: 5445},
		{text: "2001:db8::1", host: "2001:db8::1"},
		{text: "[2001:db8::1]", host: "2001:db8::1"},
		{text: "[2001:db8::1]:445", host: "2001:db8::1", port: 445},
		{text: "server:http", bad: true},
		{text: "server:65536", bad: true},
		{text: "server:0", bad: true},
	} {
		host, port, err := serverAddr(c.text)
		if host != c.host || port != c.port || (err != nil) != c.bad {
			t.Errorf("%q: got %q, %d, %v", c.text, host, port, err)
		}
	}
}

// What the view shows is of the jobs that run now: what has ended, and the time before they
// began, has no part in it.
func TestBenchViewIsOfWhatRuns(t *testing.T) {
	begun := time.Now()
	r := rate{at: begun}
	ended := benchrun.Progress{Name: "a", State: benchrun.Ended, Bytes: [2]int64{1 << 30, 0}, IOs: [2]int64{1 << 18, 0}}
	runs := func(ran time.Duration, read, ios int64) []benchrun.Progress {
		return []benchrun.Progress{ended, {Name: "b", State: benchrun.Running, Ran: ran, Bytes: [2]int64{read, 0}, IOs: [2]int64{ios, 0}}, {Name: "c"}}
	}
	if got := r.line(begun.Add(10*time.Second), runs(2*time.Second, 20<<20, 400), new(result.Latency)); got != "b:  read 10.0 MiB/s 200 IOPS" {
		t.Errorf("first: %q", got)
	}
	if got := r.line(begun.Add(20*time.Second), runs(12*time.Second, 70<<20, 1400), new(result.Latency)); got != "b:  read 5.0 MiB/s 100 IOPS" {
		t.Errorf("then: %q", got)
	}
	results := make([]*result.Job, 3)
	for i := range results {
		results[i] = new(result.Job)
		results[i].Traffic[result.Read].Completion.Record(int64(i+1) * 1000)
	}
	plan := &job.Plan{Jobs: []*job.Job{{}, {}, {Stonewall: true}}}
	if l := latencies(plan, runs(time.Second, 0, 0), results); l.Count() != 1 || l.Max() != 2000 {
		t.Errorf("%d latencies to %d ns, of b alone there is one of 2000", l.Count(), l.Max())
	}
	// What waits for its turn takes its time after what runs; what runs beside it does not.
	rest := []benchrun.Progress{{State: benchrun.Running, Done: 0.5, Left: 3 * time.Second}, {Done: 1, State: benchrun.Ended}, {Left: 5 * time.Second}}
	if done, left := overall(plan, rest); done != 0.5 || left != 8*time.Second {
		t.Errorf("%v is done, %v left; want 0.5 and 8s", done, left)
	}
}

// Rates of the view have a unit of bytes, also where nothing moves.
func TestInUnits(t *testing.T) {
	for bytes, want := range map[float64]string{-5: "0 B", 0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 3 << 20: "3.0 MiB"} {
		if got := inUnits(bytes); got != want {
			t.Errorf("%v: %q, want %q", bytes, got, want)
		}
	}
}
