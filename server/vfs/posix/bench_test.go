//go:build linux

package posix

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

func benchFS(b *testing.B, cfg Config) (*FS, string) {
	b.Helper()
	root := b.TempDir()
	if err := os.Mkdir(filepath.Join(root, "d"), 0o755); err != nil {
		b.Fatal(err)
	}
	f, err := New(root, cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	return f, root
}

// BenchmarkCreateMany is one directory being filled with 10,000 files.
func BenchmarkCreateMany(b *testing.B) {
	const count = 10_000
	for b.Loop() {
		b.StopTimer()
		f, _ := benchFS(b, Config{})
		b.StartTimer()
		for i := range count {
			h, _, err := f.Open(b.Context(), fmt.Sprintf("d/file%05d.dat", i), vfs.OpenOptions{
				Access: rw, Disposition: vfs.OpenOrCreate, Kind: vfs.KindFile,
			})
			if err != nil {
				b.Fatal(err)
			}
			h.Close()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/count, "ns/file")
}

// BenchmarkOpenStatReadClose is what a client does to read a small file.
func BenchmarkOpenStatReadClose(b *testing.B) {
	f, root := benchFS(b, Config{})
	if err := os.WriteFile(filepath.Join(root, "d/f"), make([]byte, 4096), 0o644); err != nil {
		b.Fatal(err)
	}
	b.Run("process", func(b *testing.B) { openStatReadClose(b, f) })
	b.Run("user", func(b *testing.B) {
		for dir := root; dir != os.TempDir(); dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				b.Fatal(err)
			}
		}
		view, err := f.As(vfs.Credentials{UID: 12345, GID: 12345})
		if err != nil {
			b.Skip(err)
		}
		openStatReadClose(b, view)
	})
}

func openStatReadClose(b *testing.B, f vfs.FS) {
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		h, _, err := f.Open(b.Context(), "d/f", vfs.OpenOptions{Access: vfs.AccessRead})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := h.Stat(b.Context()); err != nil {
			b.Fatal(err)
		}
		if _, err := h.ReadAt(buf, 0); err != nil {
			b.Fatal(err)
		}
		h.Close()
	}
}

// BenchmarkCreateWriteClose is what a client does to copy small files in, as the
// server opens them: with the archive attribute, and described at once.
func BenchmarkCreateWriteClose(b *testing.B) {
	f, _ := benchFS(b, Config{})
	buf := make([]byte, 4096)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		h, _, err := f.Open(b.Context(), fmt.Sprint("d/", i), vfs.OpenOptions{
			Access: rw, Disposition: vfs.OpenOrCreate, Kind: vfs.KindFile, Attributes: vfs.AttrArchive,
		})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := h.Stat(b.Context()); err != nil {
			b.Fatal(err)
		}
		if _, err := h.WriteAt(buf, 0); err != nil {
			b.Fatal(err)
		}
		h.Close()
	}
}

// BenchmarkList is a directory of 10,000 files being listed with all that a client
// asks of each.
func BenchmarkList(b *testing.B) {
	const count = 10_000
	f, root := benchFS(b, Config{})
	for i := range count {
		h, _, err := f.Open(b.Context(), fmt.Sprintf("d/file%05d.dat", i), vfs.OpenOptions{
			Disposition: vfs.CreateNew, Attributes: vfs.AttrArchive,
		})
		if err != nil {
			b.Fatal(err, root)
		}
		h.Close()
	}
	b.ReportAllocs()
	buf := make([]vfs.DirEntry, 256)
	for b.Loop() {
		h, _, err := f.Open(b.Context(), "d", vfs.OpenOptions{Access: vfs.AccessRead})
		if err != nil {
			b.Fatal(err)
		}
		d, seen := h.(vfs.Dir), 0
		for cursor := vfs.CursorStart; ; {
			n, err := d.ReadDir(b.Context(), cursor, buf)
			if err == io.EOF {
				break
			}
			for _, e := range buf[:n] {
				if _, err := d.Lstat(b.Context(), e.Name); err != nil {
					b.Fatal(err)
				}
			}
			seen += n
			cursor = buf[n-1].Cursor
		}
		h.Close()
		if seen != count {
			b.Fatalf("%d entries are listed, want %d", seen, count)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/count, "ns/entry")
}
