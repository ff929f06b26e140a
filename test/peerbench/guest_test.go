package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/saved"
	"github.com/smbd-rdma/smbd-rdma/test/internal/sites"
)

// answer is fio's JSON of one job that has read so many bytes a second.
func answer(bandwidth int) string {
	return fmt.Sprintf(`{"fio version": "fio-3.33", "timestamp": 1, "jobs": [{"jobname": "x", "error": 0,
		"job options": {"rw": "read"},
		"read": {"io_bytes": %d, "bw_bytes": %d, "iops": 1, "runtime": 1000, "total_ios": 1}}]}`, bandwidth, bandwidth)
}

// A script that is interrupted leaves nobody behind: what it waits for is interrupted too, and
// then it cleans up.
func TestInterruptAll(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// As qemu, the machine ends by itself when it is interrupted; as test/vm/run, the script
	// cleans up however it ends: it may be interrupted before it waits, and then ends of that.
	cmd := exec.CommandContext(ctx, "bash", "-c", `trap 'echo cleaned up' EXIT
		bash -c 'trap "kill \$!; exit 0" INT; sleep 1000 & echo up; wait'
		:`)
	cmd.Stdout = w
	interruptAll(cmd)
	// What a shell starts in the background has SIGINT ignored, which bash cannot change. A
	// signal that is caught here is at its default there.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, os.Interrupt)
	defer signal.Stop(caught)
	err = cmd.Start()
	w.Close() // the command and what it has started have the others
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(r)
	if !lines.Scan() || lines.Text() != "up" {
		t.Errorf("%q, %v", lines.Text(), lines.Err())
	}
	cancel()
	if !lines.Scan() || lines.Text() != "cleaned up" || lines.Scan() {
		t.Errorf("%q, %v", lines.Text(), lines.Err())
	}
	_ = cmd.Wait() // which says that it was interrupted
}

func TestOpenGuest(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		// want are the systems, each with its runs, then what has failed; or the error.
		want []string
		err  string
	}{
		{"two systems", map[string]string{
			"machine.tsv": "kernel\t6.12.1\nprocessors\t2\n",
			"rows.tsv": "a1\tread\tSamba, cifs.ko, TCP\tone\nb1\tread\tksmbd, this client\ttwo\na2\tread\tSamba, cifs.ko, TCP\tone\n" +
				"-\trandread\tksmbd, cifs.ko, SMB Direct (rxe)\tmount: no\nb2\tread\tksmbd, this client\ttwo\n",
			"a1": answer(1), "b2": `{"fio version": "fio-3.33", "timestamp": 1, "jobs": [{"jobname": "x", "error": 0}]}`, "a2": answer(2), "b1": answer(3),
		}, []string{"Samba, cifs.ko, TCP: 2", "ksmbd, this client: 1",
			"ksmbd, cifs.ko, SMB Direct (rxe), read 4 KiB at random, 32 in flight: mount: no",
			"ksmbd, this client, read 1 MiB in order, 8 in flight: no I/O was done in the time"}, ""},
		{"nothing", map[string]string{"machine.tsv": "", "rows.tsv": ""}, nil, "nothing"},
		{"it did not come so far", map[string]string{"machine.tsv": ""}, nil, "rows.tsv"},
		{"half a line", map[string]string{"machine.tsv": "", "rows.tsv": "a1\tread\n"}, nil, "2 fields, not 4"},
		{"a load of another version", map[string]string{"machine.tsv": "", "rows.tsv": "a1\ttrim\tx\ty\n"}, nil, `the load "trim"`},
		{"a file elsewhere", map[string]string{"machine.tsv": "", "rows.tsv": "../a1\tread\tx\ty\n"}, nil, `the file "../a1"`},
		{"no time", map[string]string{"machine.tsv": "", "rows.tsv": "", "lists.tsv": "ours.first\t-1\n"}, nil, `the time "-1"`},
		{"no answer", map[string]string{"machine.tsv": "", "rows.tsv": "a1\tread\tx\ty\n", "a1": "{}"}, nil, "JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range c.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			g, err := openGuest("rxe", dir)
			if err != nil {
				if c.err == "" || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v, want one with %q", err, c.err)
				}
				return
			}
			var got []string
			for _, r := range g.rows {
				got = append(got, fmt.Sprintf("%s: %d", r.system, len(r.runs)))
			}
			if got = append(got, g.failed...); c.err != "" || !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q %s", got, c.want, c.err)
			}
		})
	}
}

// The document has each system's ratio to the base of its own guest, what could not be
// measured, and the commands.
func TestWriteGuests(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"machine.tsv": "kernel\t6.12.1\nprocessors\t2\n",
		"rows.tsv": "a\tread\tSamba, cifs.ko, TCP\tmount; bench\nb\tread\tksmbd, this client\tbench --ioengine=smbdirect\n-\tread\tksmbd, cifs.ko, TCP\tmount: no\n" +
			"a\tread\tthis server, cifs.ko\tmount; bench\nb\tread\tksmbd, this client\tbench --ioengine=smbdirect\n",
		"a": answer(20 << 20), "b": answer(30 << 20),
		"lists.tsv": "ours.first\t600\nours.first\t500\nours.first\t650\ncifs.first\t400\nours.again\t150\ncifs.again\t300\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	g, err := openGuest("siw", dir)
	if err != nil {
		t.Fatal(err)
	}
	var w bytes.Buffer
	(&bench{runs: 1, time: time.Second, guests: []*guest{g}}).writeGuests(&w)
	for _, want := range []string{
		"* The guest with siw: kernel 6.12.1, processors 2.\n",
		"## In a guest: read 1 MiB in order, 8 in flight\n",
		"| siw: Samba, cifs.ko, TCP | 21.0 MB/s (21.0 MB/s to 21.0 MB/s) | 1.00 |",
		"| siw: ksmbd, this client | 31.5 MB/s (31.5 MB/s to 31.5 MB/s) | 1.50 |",
		"| this mount | 6.00 (5.00 to 6.50) | 1.50 | 1.50 (1.50 to 1.50) | 0.50 |\n" +
			"| cifs.ko | 4.00 (4.00 to 4.00) | 1.00 | 3.00 (3.00 to 3.00) | 1.00 |\n",
		"Not measured beside siw: ksmbd, cifs.ko, TCP, read 1 MiB in order, 8 in flight: mount: no\n",
		// Of each system, also where another's reads the same; once, however many runs there are.
		"* Samba, cifs.ko, TCP, read 1 MiB in order, 8 in flight: `mount; bench`\n" +
			"* ksmbd, this client, read 1 MiB in order, 8 in flight: `bench --ioengine=smbdirect`\n" +
			"* this server, cifs.ko, read 1 MiB in order, 8 in flight: `mount; bench`\n",
	} {
		if !strings.Contains(w.String(), want) {
			t.Errorf("no %q in\n%s", want, w.String())
		}
	}
	w.Reset()
	(&bench{noGuests: "no kernel was given"}).writeGuests(&w)
	if !strings.Contains(w.String(), "Not measured: no kernel was given.\n") {
		t.Errorf("without a kernel: %s", w.String())
	}
}

// What fails is an error and is said in the document; the others are measured all the same.
func TestARowThatFails(t *testing.T) {
	l := loads[0]
	system := func(name string, bandwidths ...int) *row { // 0: it fails
		turn := 0
		return &row{load: l.name, system: name, measure: func(context.Context, *row) (*saved.Job, error) {
			turn++
			if bandwidths[turn-1] == 0 {
				return nil, errors.New("exit status 1\n/tmp/run7/file: no\tspace")
			}
			d, err := saved.Read(strings.NewReader(answer(bandwidths[turn-1])))
			if err != nil {
				return nil, err
			}
			return d.Jobs[0], nil
		}}
	}
	b := &bench{dir: "/tmp/run7", runs: 2, rows: []*row{system("one", 0, 0), system("Samba, go-smb2", 10e6, 10e6), system("two", 0, 20e6)}}
	err := b.measure(t.Context())
	if err == nil || strings.Count(err.Error(), "exit status 1") != 2 || !strings.Contains(err.Error(), "one, read 1 MiB in order") {
		t.Errorf("%v", err)
	}
	var w bytes.Buffer
	b.writeLoad(&w, l)
	want := `
| Samba, go-smb2 | 10.0 MB/s (10.0 MB/s to 10.0 MB/s) | 1.00 | | | |
| two | 20.0 MB/s (20.0 MB/s to 20.0 MB/s) | 2.00 | | | |

Not measured: one: exit status 1 /DIR/file: no space

Measured in 1 of 2 runs: two: exit status 1 /DIR/file: no space

`
	if !strings.HasSuffix(w.String(), want) {
		t.Errorf("%s\nwant it to end with%s", w.String(), want)
	}
	// Who interrupts it wants no more of it.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (&bench{runs: 2, rows: []*row{system("one", 0)}}).measure(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// Commands in the document have names for what is of one run alone, passwords among them.
func TestShown(t *testing.T) {
	b := &bench{dir: "/tmp/run7", peerAddr: "127.0.0.1:4", own: &sites.Site{RDMA: "127.0.0.1:1", Addr: "127.0.0.1:2", Password: "own"},
		samba: &sites.Site{Addr: "127.0.0.1:3", Password: "theirs"}}
	got := b.shown([]string{"--server=127.0.0.1:1", "--server=127.0.0.1:3", "--server=127.0.0.1:4", "--filename=/tmp/run7/file",
		"--user=" + sites.Guest + "%own", "--user=" + sites.Guest + "%theirs"})
	want := []string{"--server=HOST", "--server=SAMBA", "--server=HOST", "--filename=/DIR/file", "--user=NAME%PASSWORD", "--user=NAME%PASSWORD"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
