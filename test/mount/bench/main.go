// Command bench measures a mount beside the client library that it is made of and beside
// what the RDMA provider moves with nothing above it; and `ls -lR` of many files, the
// first time and again. Everything is on loopback, with the files in memory; the columns
// take turns within each repetition, and the tables have medians. It writes
// docs/mount-performance.md.
//
//	go run ./test/mount/bench                 the tables
//	go run ./test/mount/bench -runs 1 -o ""   on the terminal
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/test/mount/site"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

const (
	fileSize = 256 << 20
	piece    = 1 << 20
	inFlight = 8
	lsFiles  = 10_000
	lsDirs   = 100
)

// sample is one measurement: MB/s or seconds, and the processor time of the client side
// (the process that measures, or the mount's) for each GB or for the whole.
type sample struct{ value, cpu float64 }

// table has what was measured, by row and column.
type table struct {
	samples map[string]map[string][]sample
}

func (t *table) add(row, column string, s sample) {
	if t.samples[row] == nil {
		t.samples[row] = map[string][]sample{}
	}
	t.samples[row][column] = append(t.samples[row][column], s)
}

// median is of the values; NaN-free, ok is false if there are none.
func (t *table) median(row, column string) (m, low, high, cpu float64, ok bool) {
	var v, c []float64
	for _, s := range t.samples[row][column] {
		v, c = append(v, s.value), append(c, s.cpu)
	}
	if len(v) == 0 {
		return 0, 0, 0, 0, false
	}
	slices.Sort(v)
	slices.Sort(c)
	return v[len(v)/2], v[0], v[len(v)-1], c[len(c)/2], true
}

func run() error {
	runs := flag.Int("runs", 5, "repetitions; the tables have the medians")
	length := flag.Duration("time", 2*time.Second, "length of one measurement")
	doc := flag.String("o", "docs/mount-performance.md", "the document; \"\": the terminal")
	at := flag.String("dir", "/dev/shm", "where the server's files are")
	only := flag.String("rows", "", "measure what has this in its name")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp(*at, "mount-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	s, err := site.Own(dir)
	if err != nil {
		return err
	}
	defer s.Stop()
	if err := makeFiles(s.Share); err != nil {
		return err
	}
	raw, err := newRaw(dir)
	if err != nil {
		return err
	}
	b := &bench{server: s, raw: raw, dir: dir, length: *length}
	t := &table{samples: map[string]map[string][]sample{}}
	for i := range *runs {
		for _, m := range measurements {
			if !strings.Contains(m.row+" "+m.column, *only) {
				continue
			}
			v, err := m.measure(ctx, b)
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
			if err != nil {
				return fmt.Errorf("%s, %s: %w", m.row, m.column, err)
			}
			for j, name := range strings.Split(m.row, "; ") {
				t.add(name, m.column, v[j])
				fmt.Printf("%d: %s, %s: %.2f, CPU %.2f\n", i+1, name, m.column, v[j].value, v[j].cpu)
			}
		}
	}
	text := t.document(*runs, *length)
	if *doc == "" || *only != "" {
		fmt.Print(text)
		return nil
	}
	return os.WriteFile(*doc, []byte(text), 0o644)
}

// mostPipe is the kernel's setting, in bytes.
func mostPipe() string {
	b, err := os.ReadFile("/proc/sys/fs/pipe-max-size")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

func makeFiles(share string) error {
	p := make([]byte, piece)
	for i := range p {
		p[i] = byte(i * 7)
	}
	for _, name := range []string{"read", "write"} {
		f, err := os.Create(filepath.Join(share, name))
		if err != nil {
			return err
		}
		for range fileSize / piece {
			if _, err := f.Write(p); err != nil {
				return errors.Join(err, f.Close())
			}
		}
		if err := errors.Join(f.Chmod(0o666), f.Close()); err != nil {
			return err
		}
	}
	for d := range lsDirs {
		dir := filepath.Join(share, "many", fmt.Sprintf("directory-%03d", d))
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return err
		}
		for f := range lsFiles / lsDirs {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%04d", f)), p[:f], 0o666); err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	read   = "sequential read"
	write  = "sequential write"
	first  = "ls -lR, first"
	second = "ls -lR, again"

	colRaw      = "iwarp provider alone"
	colLibTCP   = "library, TCP"
	colLibRDMA  = "library, SMB Direct (iwarp)"
	colTCP      = "mount, TCP"
	colRDMA     = "mount, SMB Direct (iwarp)"
	colPagesTCP = "mount, TCP, through the page cache"
	colPages    = "mount, SMB Direct (iwarp), through the page cache"
	colLocal    = "the server's directory itself"
)

func (t *table) document(runs int, length time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# The mount's speed

Made by `+"`make bench-mount`"+`, which see: %d runs of %v each, medians (least to most), client and
server on one machine with %d processors over loopback, %s/%s. Such figures are for
comparing columns of one table; they say nothing about a network.

## %d requests of 1 MiB in flight

Each of %d threads reads or writes pieces of 1 MiB of a file of %d MiB which the server has
in memory. The mount is used past the page cache (O_DIRECT), and through it. CPU is that of the
client side alone: of the measuring process for the library, of the mount's process for the
mount, in seconds for each GB. "Share" is of the column that is named. The aim is that the mount has 0.8 of the library's
figure, and the library 0.9 of the provider's: rows that are short of it are to be worked on.

| | MB/s | CPU s/GB | share |
| --- | --- | --- | --- |
`, runs, length, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, inFlight, inFlight, fileSize>>20)
	for _, row := range []string{read, write} {
		for _, c := range []struct{ column, of, name string }{
			{colRaw, "", ""}, {colLibRDMA, colRaw, "the provider"}, {colRDMA, colLibRDMA, "the library"}, {colPages, colLibRDMA, "the library"},
			{colLibTCP, "", ""}, {colTCP, colLibTCP, "the library"}, {colPagesTCP, colLibTCP, "the library"},
		} {
			m, low, high, cpu, ok := t.median(row, c.column)
			if !ok {
				continue
			}
			share := ""
			if of, _, _, _, ok := t.median(row, c.of); ok {
				share = fmt.Sprintf("%.2f of %s", m/of, c.name)
			}
			used := fmt.Sprintf("%.2f", cpu)
			if c.column == colRaw {
				used = ""
			}
			fmt.Fprintf(&b, "| %s: %s | %.0f (%.0f to %.0f) | %s | %s |\n", row, c.column, m, low, high, used, share)
		}
	}
	fmt.Fprintf(&b, `
What a mount does and the library does not is the kernel's: it copies each byte once more,
between the program's memory or the page cache and the mount's, page by page. What is read by
TCP, or by SMB Direct on iWARP, is spared that: it goes from the socket through a pipe to the kernel, which copies it
once, as the library does. That takes pipes of 2 MiB: they are there for who has CAP_SYS_RESOURCE, or where
fs.pipe-max-size, here %s, allows them; else, for READs of 512 KiB and less. What is
signed, encrypted or has iWARP's CRC is looked at here first, and an adapter in hardware has it land in memory:
there the other copy is a fifth to a quarter of the mount's processor time when reading, as it is two fifths
when writing. Most of the rest is the library's. Client, server and the
measuring program share the processors here, so that the share follows from the sum of what
each uses. The library's figures are of octets that land in the same 8 MiB again and again,
most of which stay in the processors' caches. Through the page cache there is another copy, and pages to allocate
one by one: reading, that takes the program more processor time than the mount; and the
kernel has one write of a file under way at a time, unless it is mounted with writeback.

Writes are copied into the mount and from there into the network. Both by splice(2), with the
data going as pages from /dev/fuse through a pipe to the socket, and by vmsplice(2) from the
mount's memory, the kernel handles each page of 4 KiB by itself and in smaller sends: that
took a fifth more processor time than the copies, and was 10 to 25 per cent slower here, past
the page cache. What a program writes through the page cache comes one request
after the other, so that what each waits for counts, not the copies; nor did writeback
gain anything.

The server's files are in memory in pages of 4 KiB (tmpfs), each of which the network and the
pipe handle by itself. A file system that caches in larger ones, as ext4 does (option -dir), has the
library read twice as fast by TCP, which is what [client-performance.md](client-performance.md) shows;
the mount gains a quarter, as its programs' pages stay what they are.
`, mostPipe())
	fmt.Fprintf(&b, `
## ls -lR of %d files in %d directories

The first time on a mount that was just made; again at once; seconds, and CPU seconds of the
mount's process. How cifs.ko does the same is measured in a virtual machine (test/vm/guest-mount).

| | first | CPU | again | CPU |
| --- | --- | --- | --- | --- |
`, lsFiles, lsDirs)
	for _, c := range []string{colRDMA, colTCP, colLocal} {
		m, low, high, cpu, ok := t.median(first, c)
		n, low2, high2, cpu2, ok2 := t.median(second, c)
		if ok && ok2 {
			fmt.Fprintf(&b, "| %s | %.2f (%.2f to %.2f) | %.2f | %.2f (%.2f to %.2f) | %.2f |\n", c, m, low, high, cpu, n, low2, high2, cpu2)
		}
	}
	return b.String()
}
