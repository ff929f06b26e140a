package engine

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func adapter(t testing.TB) ndk.Adapter {
	t.Helper()
	p, err := iwarp.New(iwarp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := p.Open(context.Background(), netip.MustParseAddr("127.0.0.1"), ndk.Version21)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// peer is an end that serves until the test is over.
func peer(t testing.TB) netip.AddrPort {
	t.Helper()
	a := adapter(t)
	ctx, stop := context.WithCancel(context.Background())
	at, done := make(chan netip.AddrPort, 1), make(chan error, 1)
	go func() {
		done <- ServeRaw(ctx, a, netip.MustParseAddrPort("127.0.0.1:0"), func(p netip.AddrPort) { at <- p })
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		a.Close()
	})
	select {
	case p := <-at:
		return p
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	return netip.AddrPort{}
}

func rawTarget(t testing.TB, e job.Engine, at netip.AddrPort, depth, size int) Target {
	t.Helper()
	return rawOf(t, Spec{Engine: e, Depth: depth, MaxSize: size}, at)
}

func rawOf(t testing.TB, s Spec, at netip.AddrPort) Target {
	t.Helper()
	env := &Env{Adapter: func(context.Context, *job.EngineOptions) (ndk.Adapter, netip.AddrPort, error) {
		return adapter(t), at, nil
	}}
	got, err := env.New(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

var rawEngines = []job.Engine{job.EngineNDKWrite, job.EngineNDKRead, job.EngineNDKSend}

// turn submits units that are free and reaps those that are done, until n are.
func turn(t testing.TB, q Queue, units []Unit, n int) {
	t.Helper()
	free := make([]*Unit, 0, len(units))
	for i := range units {
		free = append(free, &units[i])
	}
	out := make([]*Unit, len(units))
	for done := 0; done < n; {
		if k, err := q.Submit(free); err != nil || k != len(free) {
			t.Fatal(k, err)
		}
		free = free[:0]
		k, err := q.Reap(out, 1, -1)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range out[:k] {
			if u.N != len(u.Buf) || u.Err != nil {
				t.Fatalf("%d bytes of %d: %v", u.N, len(u.Buf), u.Err)
			}
		}
		done += k
		free = append(free, out[:k]...)
	}
}

func units(depth, size int, op Op) []Unit {
	us := make([]Unit, depth)
	for i := range us {
		us[i] = Unit{Op: op, Slot: i, Buf: make([]byte, size)}
	}
	return us
}

// Every I/O comes back once, at any depth and length, in both directions.
func TestRaw(t *testing.T) {
	at := peer(t)
	for _, e := range rawEngines {
		for _, c := range []struct{ depth, size int }{{1, 1}, {1, 4096}, {16, 4096}, {4, 1 << 20}, {64, 8}} {
			for _, op := range []Op{Read, Write} {
				target := rawTarget(t, e, at, c.depth, c.size)
				q, err := target.(Queuer).Queue(c.depth, c.size)
				if err != nil {
					t.Fatal(err)
				}
				turn(t, q, units(c.depth, c.size, op), 100)
				if err := q.Close(); err != nil {
					t.Errorf("%s: %v", e, err)
				}
				if err := target.Close(); err != nil {
					t.Errorf("%s: %v", e, err)
				}
			}
		}
	}
}

// Where an I/O goes: to the memory of its slot, or to its place in the job's files, of
// which the peer has memory; and what is written comes from that place of a file.
func TestRawPlaces(t *testing.T) {
	const size = 4096
	at := peer(t)
	content := make([]byte, 5*size) // block i has i in each byte
	for i := range content {
		content[i] = byte(i / size)
	}
	file := filepath.Join(t.TempDir(), "source")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	type io struct {
		slot, file int
		offset     int64
	}
	for _, c := range []struct {
		name   string
		remote job.EngineOptions
		io     io
		// Where the block is in the peer's memory, and what is in it.
		place int
		want  byte
	}{
		{"by slot", job.EngineOptions{}, io{slot: 1, offset: 3 * size}, size, 'm'},
		{"by slot, of a file", job.EngineOptions{Source: file}, io{slot: 1, offset: 3 * size}, size, 3},
		{"behind the end of the file, from its start again", job.EngineOptions{Source: file}, io{offset: 6 * size}, 0, 1},
		{"across the end of the file, its last block", job.EngineOptions{Source: file}, io{offset: 5*size - 1}, 0, 4},
		{"by offset", job.EngineOptions{PeerMemory: "size"}, io{slot: 1, offset: 3 * size}, 3 * size, 'm'},
		{"by offset in the second of two files", job.EngineOptions{PeerMemory: "size"}, io{file: 1, offset: size}, 5 * size, 'm'},
		{"across the end of memory", job.EngineOptions{PeerMemory: "size"}, io{file: 1, offset: 4*size - 1}, 7 * size, 'm'},
		{"by offset, of a file", job.EngineOptions{PeerMemory: "size", Source: file}, io{offset: 4 * size}, 4 * size, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rawOf(t, Spec{Engine: job.EngineNDKWrite, Remote: c.remote, Depth: 2, MaxSize: size, Size: 8 * size, Files: 2}, at).(*raw)
			defer r.Close()
			q, err := r.Queue(2, size)
			if err != nil {
				t.Fatal(err)
			}
			b := r.end.at(c.io.slot)
			for i := range b {
				b[i] = 'm'
			}
			out := make([]*Unit, 1)
			u := &Unit{Op: Write, Slot: c.io.slot, File: c.io.file, Offset: c.io.offset, Buf: make([]byte, size)}
			if _, err := q.Submit([]*Unit{u}); err != nil {
				t.Fatal(err)
			}
			if n, err := q.Reap(out, 1, -1); n != 1 || err != nil || u.Err != nil || u.N != size {
				t.Fatal(n, err, u.Err, u.N)
			}
			// What the peer then has is read back, from behind the Write.
			got := r.end.sge(0, size)
			if err := r.end.qp.Read(u, []ndk.SGE{got}, r.addr+uint64(c.place), r.token, 0); err != nil {
				t.Fatal(err)
			}
			q.(*rawQueue).n++
			if n, err := q.Reap(out, 1, -1); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			b = r.end.at(0)
			if i := slices.IndexFunc(b[1:size-1], func(x byte) bool { return x != c.want }); i >= 0 {
				t.Errorf("%d in the middle of the block, want %d", b[i+1], c.want)
			}
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What cannot be is said before anything is measured.
func TestRawRefused(t *testing.T) {
	small := filepath.Join(t.TempDir(), "small")
	if err := os.WriteFile(small, make([]byte, 4095), 0o600); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	at := peer(t)
	for _, c := range []struct {
		name, source string
		want         error
	}{
		{"a pipe", pipe, ErrRefused},
		{"a file that is not there", filepath.Join(t.TempDir(), "none"), fs.ErrNotExist},
		{"a file shorter than a block", small, ErrRefused},
		{"a directory", t.TempDir(), ErrRefused},
	} {
		env := &Env{Adapter: func(context.Context, *job.EngineOptions) (ndk.Adapter, netip.AddrPort, error) {
			return adapter(t), at, nil
		}}
		_, err := env.New(context.Background(), Spec{Engine: job.EngineNDKWrite, Remote: job.EngineOptions{Source: c.source}, Depth: 1, MaxSize: 4096})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// A Reap that has nothing to bring returns when its time is over, or at once.
func TestRawWaits(t *testing.T) {
	target := rawTarget(t, job.EngineNDKWrite, peer(t), 2, 64)
	defer target.Close()
	q, err := target.(Queuer).Queue(2, 64)
	if err != nil {
		t.Fatal(err)
	}
	us, out := units(2, 64, Write), make([]*Unit, 2)
	if _, err := q.Submit([]*Unit{&us[0]}); err != nil {
		t.Fatal(err)
	}
	got := 0
	for got == 0 {
		n, err := q.Reap(out, 1, time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		got += n
	}
	for _, wait := range []time.Duration{0, time.Microsecond, -1} {
		if n, err := q.Reap(out, 2, wait); n != 0 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

// A peer that goes away ends the wait, and so does Interrupt.
func TestRawInterrupted(t *testing.T) {
	target := rawTarget(t, job.EngineNDKSend, peer(t), 1, 64)
	defer target.Close()
	q, err := target.(Queuer).Queue(1, 64)
	if err != nil {
		t.Fatal(err)
	}
	target.(Interrupter).Interrupt()
	us, out := units(1, 64, Write), make([]*Unit, 1)
	_, err = q.Submit([]*Unit{&us[0]})
	for err == nil {
		var n int
		if n, err = q.Reap(out, 1, -1); n > 0 && err == nil {
			_, err = q.Submit([]*Unit{&us[0]})
		}
	}
}

func BenchmarkRaw(b *testing.B) {
	for _, e := range rawEngines {
		b.Run(string(e), func(b *testing.B) {
			target := rawTarget(b, e, peer(b), 32, 4096)
			defer target.Close()
			q, err := target.(Queuer).Queue(32, 4096)
			if err != nil {
				b.Fatal(err)
			}
			us := units(32, 4096, Write)
			b.ReportAllocs()
			b.ResetTimer()
			turn(b, q, us, b.N)
		})
	}
}
