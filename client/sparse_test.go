package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"syscall"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/memory"
)

// inMemory serves a share that has holes, clones, attributes and links whatever the
// machine's file system can.
func inMemory(t testing.TB) func(*server.Config) {
	t.Helper()
	fsys, err := memory.New(memory.Config{})
	must(t, err)
	return func(c *server.Config) { c.Shares[0].FS = fsys }
}

// A file of 4 MiB with data at 1 MiB and 3 MiB.
func TestHoles(t *testing.T) {
	const mib = 1 << 20
	ctx := context.Background()
	sh := newSite(t, linkConfig{}, inMemory(t)).mount(t, Config{})
	f, err := sh.Create(ctx, "f")
	must(t, err)
	must(t, f.SetSparse(ctx, true))
	must(t, f.Truncate(ctx, 4*mib))
	for _, off := range []int64{mib, 3 * mib} {
		if _, err := f.WriteAt(random(65536), off); err != nil {
			t.Fatal(err)
		}
	}
	want := []Range{{mib, 65536}, {3 * mib, 65536}}
	if got, err := f.AllocatedRanges(ctx, 0, 4*mib); err != nil || !slices.Equal(got, want) {
		t.Fatal(got, err)
	}
	if got, err := f.AllocatedRanges(ctx, mib+1000, 100); err != nil || !slices.Equal(got, []Range{{mib + 1000, 100}}) {
		t.Fatal(got, err)
	}
	for _, c := range []struct {
		off, data, hole int64
		dataErr         error
	}{
		{off: 0, data: mib, hole: 0},
		{off: mib, data: mib, hole: mib + 65536},
		{off: mib + 65536, data: 3 * mib, hole: mib + 65536},
		{off: 3*mib + 65535, data: 3*mib + 65535, hole: 3*mib + 65536},
		{off: 3*mib + 65536, dataErr: syscall.ENXIO, hole: 3*mib + 65536},
	} {
		if got, err := f.SeekData(ctx, c.off); !errors.Is(err, c.dataErr) || got != c.data {
			t.Errorf("SeekData(%d) = %d, %v; want %d, %v", c.off, got, err, c.data, c.dataErr)
		}
		if got, err := f.SeekHole(ctx, c.off); err != nil || got != c.hole {
			t.Errorf("SeekHole(%d) = %d, %v; want %d", c.off, got, err, c.hole)
		}
	}
	for _, off := range []int64{-1, 4 * mib} {
		if _, err := f.SeekData(ctx, off); !errors.Is(err, syscall.ENXIO) {
			t.Errorf("SeekData(%d): %v", off, err)
		}
		if _, err := f.SeekHole(ctx, off); !errors.Is(err, syscall.ENXIO) {
			t.Errorf("SeekHole(%d): %v", off, err)
		}
	}
	must(t, f.ZeroRange(ctx, 0, 2*mib))
	if got, err := f.AllocatedRanges(ctx, 0, 4*mib); err != nil || !slices.Equal(got, want[1:]) {
		t.Fatal(got, err)
	}
	must(t, f.ZeroRange(ctx, 3*mib, 8*mib))
	if fi, err := f.StatContext(ctx); err != nil || fi.Size() != 4*mib {
		t.Fatal("zeros behind the end:", fi, err)
	}
	must(t, f.Allocate(ctx, 8*mib))
	must(t, f.Allocate(ctx, mib)) // below the size: it is cut, as the specification says
	if fi, err := f.StatContext(ctx); err != nil || fi.Size() != mib {
		t.Fatal(fi, err)
	}
	for _, err := range []error{f.ZeroRange(ctx, -1, 1), f.ZeroRange(ctx, 1, -1), f.ZeroRange(ctx, 1, 1<<63-1), f.Allocate(ctx, -1)} {
		if !errors.Is(err, fs.ErrInvalid) {
			t.Error(err)
		}
	}
	must(t, f.Close())
}

// What an answer to FSCTL_QUERY_ALLOCATED_RANGES may be, and what not: it goes on after
// STATUS_BUFFER_OVERFLOW and ends whatever the server says.
func TestAllocatedRangesOfServers(t *testing.T) {
	type answer struct {
		st     ntstatus.Status
		ranges []smb2.AllocatedRange
	}
	more, last := ntstatus.BufferOverflow, ntstatus.Success
	for _, c := range []struct {
		name    string
		answers []answer
		want    []Range
		err     error
	}{
		{"in two parts", []answer{{more, []smb2.AllocatedRange{{FileOffset: 0, Length: 10}}}, {last, []smb2.AllocatedRange{{FileOffset: 20, Length: 10}}}},
			[]Range{{0, 10}, {20, 10}}, nil},
		{"touching", []answer{{more, []smb2.AllocatedRange{{FileOffset: 0, Length: 10}}}, {last, []smb2.AllocatedRange{{FileOffset: 10, Length: 10}}}},
			[]Range{{0, 20}}, nil},
		{"whole clusters", []answer{{last, []smb2.AllocatedRange{{FileOffset: 0, Length: 4096}}}}, []Range{{0, 1000}}, nil},
		{"overflow without a range", []answer{{more, nil}}, nil, ntstatus.InvalidNetworkResponse},
		{"not in order", []answer{{last, []smb2.AllocatedRange{{FileOffset: 500, Length: 10}, {FileOffset: 100, Length: 10}}}}, nil, ntstatus.InvalidNetworkResponse},
		{"the same for ever", []answer{{more, []smb2.AllocatedRange{{FileOffset: 0, Length: 0}}}}, nil, ntstatus.InvalidNetworkResponse},
		{"negative", []answer{{last, []smb2.AllocatedRange{{FileOffset: -5, Length: 10}}}}, nil, ntstatus.InvalidNetworkResponse},
		{"beyond what there is", []answer{{last, []smb2.AllocatedRange{{FileOffset: 1 << 62, Length: 1 << 62}}}}, nil, ntstatus.InvalidNetworkResponse},
		{"behind what was asked", []answer{{last, []smb2.AllocatedRange{{FileOffset: 1000, Length: 1}}}}, nil, ntstatus.InvalidNetworkResponse},
		{"refused", []answer{{ntstatus.InvalidDeviceRequest, nil}}, nil, errors.ErrUnsupported},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l := newFake(t, linkConfig{})
			n := 0
			f.on[smb2.CommandIoctl] = func(f *fake, h smb2.Header, _ []byte) bool {
				a := c.answers[min(n, len(c.answers)-1)]
				n++
				var out []byte
				for _, r := range a.ranges {
					out, _ = r.AppendBinary(out)
				}
				if a.st.IsError() {
					f.fail(h, a.st)
				} else {
					f.reply(h, a.st, &smb2.IoctlResponse{CtlCode: smb2.FsctlQueryAllocatedRanges, Output: out})
				}
				return true
			}
			got, err := f.open(l, Config{}).AllocatedRanges(context.Background(), 0, 1000)
			if !errors.Is(err, c.err) || err == nil && !slices.Equal(got, c.want) {
				t.Fatalf("%v, %v; want %v, %v", got, err, c.want, c.err)
			}
		})
	}
}

// Samba before 4.22 refuses to tell of some ranges when not all have room in the answer.
func TestRangesOfAServerThatTellsAllOrNone(t *testing.T) {
	const block, blocks = 64 << 10, 3000
	for _, c := range []struct {
		name string
		most int // ranges in an answer, whatever the client has room for
		err  error
	}{
		{"room in the second request", blocks, nil},
		{"room in parts", 100, nil},
		{"never room", 0, ntstatus.BufferTooSmall},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l := newFake(t, linkConfig{})
			f.on[smb2.CommandIoctl] = func(f *fake, h smb2.Header, msg []byte) bool {
				m, err := smb2.ParseIoctlRequest(msg)
				if err != nil {
					t.Error(err)
					return false
				}
				q, err := smb2.ParseAllocatedRange(m.Input)
				if err != nil {
					t.Error(err)
					return false
				}
				var out []byte // every second block from the second on
				for at := int64(block); at < 2*block*blocks; at += 2 * block {
					start, stop := max(at, q.FileOffset), min(at+block, q.FileOffset+q.Length)
					if start < stop {
						out, _ = (&smb2.AllocatedRange{FileOffset: start, Length: stop - start}).AppendBinary(out)
					}
				}
				if len(out) > int(m.MaxOutputResponse) || len(out) > 16*c.most {
					f.fail(h, ntstatus.BufferTooSmall)
				} else {
					f.reply(h, ntstatus.Success, &smb2.IoctlResponse{CtlCode: smb2.FsctlQueryAllocatedRanges, Output: out})
				}
				return true
			}
			var got []Range
			err := f.open(l, Config{}).ranges(context.Background(), 0, 2*block*blocks, rangeSize, func(r Range) bool {
				if n := len(got); n > 0 && got[n-1].Offset+got[n-1].Length == r.Offset {
					got[n-1].Length += r.Length // a part began in the middle of it
				} else {
					got = append(got, r)
				}
				return true
			})
			if !errors.Is(err, c.err) {
				t.Fatalf("%v, want %v", err, c.err)
			}
			if c.err != nil {
				return
			}
			if len(got) != blocks {
				t.Fatalf("%d ranges, want %d", len(got), blocks)
			}
			for i, r := range got {
				if want := (Range{int64(2*i+1) * block, block}); r != want {
					t.Fatalf("range %d is %v, want %v", i, r, want)
				}
			}
		})
	}
}

// io.Copy from one File of a session to another moves no data here, whichever of the two
// it asks first, and leaves both positions behind what was copied.
func TestCopyOnServer(t *testing.T) {
	ctx := context.Background()
	data := random(3<<20 + 77)
	for _, c := range []struct {
		name string
		copy func(dst, src *File) (int64, error)
		want int
	}{
		{"io.Copy", func(dst, src *File) (int64, error) { return io.Copy(dst, src) }, len(data) - 5},
		{"io.CopyN", func(dst, src *File) (int64, error) { return io.CopyN(dst, src, 100_000) }, 100_000},
		{"WriteTo", func(dst, src *File) (int64, error) { return src.WriteTo(dst) }, len(data) - 5},
		{"ReadFrom", func(dst, src *File) (int64, error) { return dst.ReadFrom(src) }, len(data) - 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			sh := newSite(t, linkConfig{}, nil).mount(t, Config{})
			must(t, sh.WriteFile(ctx, "src", data, 0o666))
			src, err := sh.Open(ctx, "src")
			must(t, err)
			dst, err := sh.Create(ctx, "dst")
			must(t, err)
			_, err = src.Seek(5, io.SeekStart)
			must(t, err)
			_, err = dst.Write([]byte("head"))
			must(t, err)
			before := sh.Session().Stats()
			if n, err := c.copy(dst, src); n != int64(c.want) || err != nil {
				t.Fatal(n, err)
			}
			if st := sh.Session().Stats(); st.InlineBytesRead != before.InlineBytesRead || st.InlineBytesWritten != before.InlineBytesWritten {
				t.Fatalf("data went through the client: %+v", st)
			}
			for f, want := range map[*File]int64{src: 5 + int64(c.want), dst: 4 + int64(c.want)} {
				if at, err := f.Seek(0, io.SeekCurrent); at != want || err != nil {
					t.Errorf("%s is at %d, want %d: %v", f.Name(), at, want, err)
				}
			}
			if got, err := sh.ReadFile(ctx, "dst"); err != nil || !bytes.Equal(got, append([]byte("head"), data[5:5+c.want]...)) {
				t.Fatal(err)
			}
			if _, err := io.Copy(src, src); !errors.Is(err, fs.ErrInvalid) {
				t.Error("a file into itself:", err)
			}
			must(t, src.Close())
			must(t, dst.Close())
		})
	}
}

// Storage is shared where the file system can, and what is left at the end is copied.
func TestClone(t *testing.T) {
	ctx := context.Background()
	sh := newSite(t, linkConfig{}, inMemory(t)).mount(t, Config{})
	st, err := sh.StatFS(ctx)
	must(t, err)
	if st.FSAttributes&FSClone == 0 || st.SectorSize == 0 {
		t.Fatalf("%+v", st)
	}
	data := random(20<<20 + 1234)
	must(t, sh.WriteFile(ctx, "src", data, 0o666))
	src, err := sh.Open(ctx, "src")
	must(t, err)
	dst, err := sh.Create(ctx, "dst")
	must(t, err)
	if n, err := dst.CopyRange(ctx, 0, src, 0, int64(len(data))); n != int64(len(data)) || err != nil {
		t.Fatal(n, err)
	}
	if got, err := sh.ReadFile(ctx, "dst"); err != nil || !bytes.Equal(got, data) {
		t.Fatal(err)
	}
	must(t, dst.CloneRange(ctx, 0, src, 65536, 65536))
	p := make([]byte, 65536)
	if _, err := dst.ReadAt(p, 0); err != nil || !bytes.Equal(p, data[65536:2*65536]) {
		t.Fatal(err)
	}
	if n, err := dst.CopyRange(ctx, 0, src, 0, int64(len(data))+1); n > int64(len(data)) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(n, err)
	}
	must(t, src.Close())
	must(t, dst.Close())
}
