package ndktest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// What a FileWriter writes is what a Write of the file's bytes would write, with
// zeros for what is behind the end of the file.
func filesAreWritten(t *T) {
	s, p := t.Connected()
	x, err := s.QP.Extension(ndk.FileWriterExtension, ndk.Version{Major: 1})
	if err != nil {
		s.want(err, ntstatus.NotSupported, "Extension")
		t.Skip("the provider does not write from files")
	}
	w := x.(ndk.FileWriter)
	const size = 250001
	s.Fill(0, size, 77)
	name := filepath.Join(t.TempDir(), "f")
	s.must(os.WriteFile(name, s.Mem[:size], 0o600))
	f, err := os.Open(name)
	s.must(err)
	defer f.Close()
	for _, tc := range []struct{ off, n, real int }{
		{0, size, size}, {1, 70000, 70000}, {4096, 61440, 61440}, {0, 0, 0}, {100, 3, 3}, {size - 10, 20, 10}, {size, 5000, 0},
		{size - 70000, 200000, 70000}, {size + 5, 1, 0},
	} {
		t.Run(fmt.Sprintf("%d+%d", tc.off, tc.n), func(t *testing.T) {
			for i := range tc.n + 10 {
				p.Mem[i] = 0xAA
			}
			s.must(w.WriteFile("w", ndk.FileRange{File: f, Offset: int64(tc.off), Length: uint32(tc.n)}, p.MR.Base()+5, p.MR.RemoteToken(), 0))
			s.exchange(p)
			r := s.Done()
			s.expect(r, "w", ntstatus.Success, ndk.OpWrite)
			if r.Bytes != uint32(tc.real) {
				t.Errorf("%d bytes from the file, want %d", r.Bytes, tc.real)
			}
			p.equal(5, tc.real, s, tc.off)
			for i := tc.real; i < tc.n; i++ {
				if p.Mem[5+i] != 0 {
					t.Fatalf("byte %d behind the end of the file is %#x", i, p.Mem[5+i])
				}
			}
			if p.Mem[4] != 0xAA || p.Mem[5+tc.n] != 0xAA {
				t.Error("a byte beside the target was written")
			}
		})
	}
	for i := range 2 { // two in a row, and a Send right behind
		s.must(w.WriteFile(i, ndk.FileRange{File: f, Offset: int64(i), Length: 100001}, p.MR.Base()+uint64(i)*200000, p.MR.RemoteToken(), ndk.Defer))
	}
	s.exchange(p)
	for i := range 2 {
		s.expect(s.Done(), i, ntstatus.Success, ndk.OpWrite)
		p.equal(i*200000, 100001, s, i)
	}
}
