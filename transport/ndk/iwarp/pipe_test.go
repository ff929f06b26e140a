package iwarp

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// newPipe is an empty pipe with room for so many pages.
func newPipe(t *testing.T, pages int) (r int, p *ndk.Pipe) {
	t.Helper()
	var fds [2]int
	must(t, unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK))
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	_, err := unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pages*os.Getpagesize())
	must(t, err)
	return fds[0], &ndk.Pipe{W: fds[1]}
}

// drained is what a pipe has.
func drained(t *testing.T, r int) []byte {
	t.Helper()
	var all []byte
	b := make([]byte, 1<<20)
	for {
		n, err := unix.Read(r, b)
		if err == unix.EAGAIN {
			return all
		}
		must(t, err)
		all = append(all, b[:n]...)
	}
}

// What a peer writes in order, from the beginning of a region that has a pipe, is in the
// pipe, and from where that ends on in memory; of one without, and after the registration,
// in memory alone.
func TestWritesIntoPipe(t *testing.T) {
	const size = 256 << 10
	type write struct{ at, n int }
	rows := []struct {
		name     string
		cfg      Config
		pages    int // of the pipe
		writes   []write
		in       int // octets in the pipe
		over     bool
		torn     bool
		fromFile bool
	}{
		{name: "one", pages: 256, writes: []write{{0, 200_000}}, in: 200_000},
		{name: "one, of a file", pages: 256, writes: []write{{0, 200_000}}, in: 200_000, fromFile: true},
		{name: "all", pages: 256, writes: []write{{0, size}}, in: size},
		{name: "three, one behind the other", pages: 256, writes: []write{{0, 5000}, {5000, 100_000}, {105_000, 3}}, in: 105_003},
		{name: "few octets", pages: 256, writes: []write{{0, 100}}, in: 100},
		{name: "none", pages: 256, writes: []write{{0, 0}}},
		{name: "behind a gap", pages: 256, writes: []write{{0, 100_000}, {100_001, 50_000}}, in: 100_000, over: true},
		{name: "behind a gap, which is filled", pages: 256, writes: []write{{50_000, 50_000}, {0, 50_000}}, over: true},
		{name: "once more", pages: 256, writes: []write{{0, 100_000}, {99_999, 10}}, in: 100_000, over: true, torn: true},
		{name: "once more from the beginning", pages: 256, writes: []write{{0, 100_000}, {0, 100_000}}, in: 100_000, over: true, torn: true},
		{name: "CRC", cfg: Config{CRC: true}, pages: 256, writes: []write{{0, 200_000}}, over: true},
	}
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(i * 7 / 5)
	}
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, content, 0o600))
	file, err := os.Open(path)
	must(t, err)
	defer file.Close()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			c, s := pair(t, row.cfg, row.cfg, size)
			defer s.close()
			defer c.close()
			copy(c.mem, content)
			mr, err := s.pd.CreateMR(context.Background(), false)
			must(t, err)
			defer mr.Close()
			x, err := mr.Extension(ndk.PipeExtension, ndk.Version{Major: 1})
			must(t, err)
			r, p := newPipe(t, row.pages)
			mem := make([]byte, size)
			register := func(to *ndk.Pipe) {
				x.(ndk.Piper).PipeTo(to)
				must(t, mr.Register(context.Background(), ndk.Memory{mem}, size, ndk.MRAllowRemoteWrite))
			}
			register(p)
			post := func(w write) {
				if row.fromFile {
					y, err := c.qp.Extension(ndk.FileWriterExtension, ndk.Version{Major: 1})
					must(t, err)
					must(t, y.(ndk.FileWriter).WriteFile(nil, ndk.FileRange{File: file, Offset: int64(w.at), Length: uint32(w.n)}, mr.Base()+uint64(w.at), mr.RemoteToken(), 0))
				} else {
					must(t, c.qp.Write(nil, []ndk.SGE{c.sge(w.at, w.n)}, mr.Base()+uint64(w.at), mr.RemoteToken(), 0))
				}
				if r := c.wait(); r.Status != 0 {
					t.Fatal(r.Status)
				}
			}
			// behind has everything received that came before.
			behind := func() {
				must(t, s.qp.Receive(nil, []ndk.SGE{s.sge(0, 64)}))
				must(t, c.qp.Send(nil, []ndk.SGE{c.sge(0, 64)}, 0))
				if r := c.wait(); r.Status != 0 {
					t.Fatal(r.Status)
				}
				if r := s.wait(); r.Status != 0 || r.Bytes != 64 {
					t.Fatal(r)
				}
			}
			behind() // so that the receiver has no transfer in its stage
			for _, w := range row.writes {
				post(w)
			}
			behind()
			must(t, mr.Deregister(context.Background()))
			got := drained(t, r)
			if p.N != row.in || p.Over != row.over || p.Torn != row.torn {
				t.Errorf("%+v, want %d octets, over %v, torn %v", *p, row.in, row.over, row.torn)
			}
			if !bytes.Equal(got, content[:row.in]) {
				t.Errorf("the pipe has %d octets, not the first %d of what was written", len(got), row.in)
			}
			end := 0
			for _, w := range row.writes {
				end = max(end, w.at+w.n)
				if from := max(w.at, row.in); from < w.at+w.n && !bytes.Equal(mem[from:w.at+w.n], content[from:w.at+w.n]) {
					t.Errorf("octets %d to %d are not in memory", from, w.at+w.n)
				}
			}

			register(nil)
			post(write{0, size})
			behind()
			must(t, mr.Deregister(context.Background()))
			if got := drained(t, r); len(got) > 0 || !bytes.Equal(mem, content) || p.N != row.in {
				t.Errorf("without a pipe: %d octets in it, in memory %v, %+v", len(got), bytes.Equal(mem, content), *p)
			}
		})
	}
}

// Where the pipe is full the rest is in memory.
func TestWritesIntoFullPipe(t *testing.T) {
	const size = 256 << 10
	c, s := pair(t, Config{}, Config{}, size)
	defer s.close()
	defer c.close()
	for i := range c.mem {
		c.mem[i] = byte(i * 7 / 5)
	}
	r, p := newPipe(t, 4)
	mr, err := s.pd.CreateMR(context.Background(), false)
	must(t, err)
	defer mr.Close()
	x, err := mr.Extension(ndk.PipeExtension, ndk.Version{Major: 1})
	must(t, err)
	x.(ndk.Piper).PipeTo(p)
	mem := make([]byte, size)
	must(t, mr.Register(context.Background(), ndk.Memory{mem}, size, ndk.MRAllowRemoteWrite))
	must(t, s.qp.Receive(nil, []ndk.SGE{s.sge(0, 64)}))
	must(t, c.qp.Write(nil, []ndk.SGE{c.sge(0, size)}, mr.Base(), mr.RemoteToken(), 0))
	must(t, c.qp.Send(nil, []ndk.SGE{c.sge(0, 64)}, 0))
	for _, e := range []*end{c, c, s} {
		if r := e.wait(); r.Status != 0 {
			t.Fatal(r.Status)
		}
	}
	must(t, mr.Deregister(context.Background()))
	got := drained(t, r)
	if p.N == 0 || p.N == size || !p.Over || p.Torn || !bytes.Equal(got, c.mem[:p.N]) {
		t.Errorf("%d octets, %+v", len(got), *p)
	}
	if !bytes.Equal(mem[p.N:], c.mem[p.N:]) {
		t.Error("the rest is not in memory")
	}
}

// No octet goes into a pipe that a peer may not write to memory: beyond the region, or
// after its end.
func TestPipeIsBoundedByRegion(t *testing.T) {
	const size = 64 << 10
	for _, row := range []struct {
		name  string
		n     int
		ended bool
	}{
		{"one too many", size + 1, false},
		{"after the end", 100, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, s := pair(t, Config{}, Config{}, 2*size)
			defer s.close()
			defer c.close()
			r, p := newPipe(t, 64)
			mr, err := s.pd.CreateMR(context.Background(), false)
			must(t, err)
			defer mr.Close()
			x, err := mr.Extension(ndk.PipeExtension, ndk.Version{Major: 1})
			must(t, err)
			x.(ndk.Piper).PipeTo(p)
			must(t, mr.Register(context.Background(), ndk.Memory{make([]byte, size)}, size, ndk.MRAllowRemoteWrite))
			base, token := mr.Base(), mr.RemoteToken()
			if row.ended {
				must(t, mr.Deregister(context.Background()))
			}
			must(t, s.qp.Receive(nil, []ndk.SGE{s.sge(0, 64)}))
			must(t, c.qp.Write(nil, []ndk.SGE{c.sge(0, row.n)}, base, token, 0))
			if r := s.wait(); r.Status == 0 {
				t.Fatal("the connection lives on")
			}
			mr.Close()
			<-mr.Closed()
			if got := drained(t, r); len(got) > size || len(got) != p.N {
				t.Errorf("%d octets are in the pipe, %+v", len(got), *p)
			}
		})
	}
}
