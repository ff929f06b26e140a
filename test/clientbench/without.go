package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/test/internal/sites"
)

// # Beside RDMA without SMB
//
// What the library makes of SMB Direct is set beside what the provider gives without SMB.
// All of it is done by the bench, whose engines they are, in processes of their own.

const withoutSMB = "beside RDMA without SMB"

const withoutHead = `
## Beside RDMA without SMB

1 MiB, 8 in flight, over SMB Direct (iwarp), by ` + "`smbd-rdma bench`" + `, whose words are in the table
(with ` + "`--bs=1m --iodepth=8 --size=1g --time_based`" + `, and the server or ` + "`bench peer`" + ` as another
process). What goes through a few buffers stays in the processors' caches, as perftest's does;
what a file server moves does not, and reads and writes go through the file system besides,
which for writes alone takes what the row of local writes says. The file is in the page cache.
A server has what a client writes from the provider in a buffer and writes it to the file, and
most of its processor time is then the file system's bookkeeping of pages: a write keeps what
"RDMA Write" throws away.

`

// without is a row of that table.
type without struct {
	name  string
	words []string
	write bool // what it is set beside is the library's write; else its read
}

var withoutRows = []without{
	{"library, read", []string{"--ioengine=smbdirect", "--rw=read"}, false},
	{"RDMA Write from the file to a few buffers", []string{"--ioengine=ndk-write", "--rw=write", "--source=FILE"}, false},
	{"RDMA Read of memory as long as the file", []string{"--ioengine=ndk-read", "--rw=read", "--peer_memory=size"}, false},
	{"RDMA Read of a few buffers", []string{"--ioengine=ndk-read", "--rw=read"}, false},
	{"library, write", []string{"--ioengine=smbdirect", "--rw=write"}, true},
	{"RDMA Write to memory as long as the file", []string{"--ioengine=ndk-write", "--rw=write", "--peer_memory=size"}, true},
	{"RDMA Write to a few buffers", []string{"--ioengine=ndk-write", "--rw=write"}, true},
	{"local writes to the file", []string{"--ioengine=posix", "--rw=write"}, true},
}

// measureWithout fills the table: bytes in a second, by row, of each run.
func measureWithout(ctx context.Context, s *sites.Site, share string, runs int, length time.Duration) (map[string][]float64, error) {
	name := "without"
	file := filepath.Join(share, name)
	if err := fillFile(file); err != nil {
		return nil, err
	}
	bin := os.Getenv("SMBD_RDMA_BIN")
	if bin == "" {
		bin = "bin/smbd-rdma"
	}
	peer, stop, err := startPeer(bin)
	if err != nil {
		return nil, err
	}
	defer stop()
	got := map[string][]float64{}
	for i := range runs {
		for j := range withoutRows {
			r := withoutRows[(i+j)%len(withoutRows)] // nobody is always the first
			args := []string{"bench", "--name=x", "--bs=1m", "--iodepth=8", "--size=1g", "--time_based",
				fmt.Sprintf("--runtime=%dms", length.Milliseconds()), "--invalidate=0", "--eta=never", "--output-format=json"}
			for _, w := range r.words {
				args = append(args, strings.Replace(w, "FILE", file, 1))
			}
			switch r.words[0] {
			case "--ioengine=smbdirect":
				args = append(args, "--server="+s.RDMA, "--share="+s.Share, "--user="+sites.Guest+"%"+s.Password, "--filename="+name, "--allow-overwrite")
			case "--ioengine=posix":
				args = append(args, "--filename="+file, "--allow-overwrite")
			default:
				args = append(args, "--server="+peer)
			}
			rate, err := bench(ctx, bin, args)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.name, err)
			}
			got[r.name] = append(got[r.name], rate)
			fmt.Printf("%d  %-45s %10.0f MB/s\n", i+1, r.name, rate/1e6)
		}
	}
	return got, nil
}

// fillFile makes a file of bigSize that everybody may write to.
func fillFile(name string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	p := make([]byte, block)
	for i := range p {
		p[i] = byte(i * i >> 4)
	}
	err = f.Chmod(0o666) // whatever the umask
	for n := 0; n < bigSize && err == nil; n += block {
		_, err = f.Write(p)
	}
	return errors.Join(err, f.Close())
}

var listening = regexp.MustCompile(`listening on iwarp://(\S+)`)

// startPeer starts the other end of the engines of ndk and returns where it is. stop ends
// it and waits for that.
func startPeer(bin string) (at string, stop func(), err error) {
	c := exec.Command(bin, "bench", "peer", "127.0.0.1:0")
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := c.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := c.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait()
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	m := listening.FindStringSubmatch(line)
	if m == nil {
		stop()
		return "", nil, errors.Join(fmt.Errorf("bench peer said %q", line), err)
	}
	return m[1], stop, nil
}

// bench runs one job and returns how many bytes it moved in a second.
func bench(ctx context.Context, bin string, args []string) (float64, error) {
	var stderr strings.Builder
	c := exec.CommandContext(ctx, bin, args...)
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return 0, fmt.Errorf("%w\n%s", err, stderr.String()) // without args, which have a password
	}
	type direction struct {
		Rate float64 `json:"bw_bytes"`
	}
	var answer struct {
		Jobs []struct{ Read, Write direction }
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return 0, err
	}
	if len(answer.Jobs) != 1 {
		return 0, fmt.Errorf("%d jobs in the answer", len(answer.Jobs))
	}
	j := answer.Jobs[0]
	return max(j.Read.Rate, j.Write.Rate), nil
}

// renderWithout makes the table of medians.
func renderWithout(got map[string][]float64) string {
	if len(got) == 0 {
		return ""
	}
	median := func(name string) float64 {
		v := slices.Sorted(slices.Values(got[name]))
		return v[len(v)/2]
	}
	var b strings.Builder
	b.WriteString(withoutHead + "| what | words of the bench | MB/s | the library's |\n| --- | --- | ---: | ---: |\n")
	for _, r := range withoutRows {
		own := "library, read"
		if r.write {
			own = "library, write"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %.0f | ", r.name, strings.Join(r.words, " "), median(r.name)/1e6)
		if r.name != own {
			fmt.Fprintf(&b, "%.2f of it ", median(own)/median(r.name))
		}
		b.WriteString("|\n")
	}
	return b.String()
}
