package iwarp

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// counterOf is the CopyCounter of an end.
func counterOf(t *testing.T, e *end) ndk.CopyCounter {
	t.Helper()
	x, err := e.qp.Extension(ndk.CopyCounterExtension, ndk.Version{Major: 1})
	must(t, err)
	return x.(ndk.CopyCounter)
}

// TestBytesCopied holds the provider to its promise: no octet of a transfer is
// copied, whatever its length and whatever lies before and behind it in the
// stream; and where something must be copied, all of it is counted, once.
func TestBytesCopied(t *testing.T) {
	const size = 1 << 20
	rows := []struct {
		name   string
		cfg    Config
		length int
		// Octets copied by who sends and who receives, for each octet of payload.
		sends, receives, sendsFile uint64
	}{
		{"1MiB", Config{}, size, 0, 0, 0},
		{"odd", Config{}, 100<<10 + 301, 0, 0, 0},
		{"few", Config{}, 100, 0, 0, 0},
		{"CRC", Config{CRC: true}, size, 0, 1, 1},
		{"CRC/odd", Config{CRC: true}, 100<<10 + 301, 0, 1, 1},
	}
	path := filepath.Join(t.TempDir(), "file")
	content := bytes.Repeat([]byte("0123456789abcde\n"), size/16)
	must(t, os.WriteFile(path, content, 0o600))
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	const rounds = 3
	for _, row := range rows {
		c, s := pair(t, row.cfg, row.cfg, size)
		x, err := c.qp.Extension(ndk.FileWriterExtension, ndk.Version{Major: 1})
		must(t, err)
		ops := []struct {
			name          string
			post          func() error
			client, serve uint64
		}{
			{"Write", func() error {
				return c.qp.Write(nil, []ndk.SGE{c.sge(0, row.length)}, s.mr.Base(), s.mr.RemoteToken(), 0)
			}, row.sends, row.receives},
			{"Read", func() error {
				return c.qp.Read(nil, []ndk.SGE{c.sge(0, row.length)}, s.mr.Base(), s.mr.RemoteToken(), 0)
			}, row.receives, row.sends},
			{"WriteFile", func() error {
				return x.(ndk.FileWriter).WriteFile(nil, ndk.FileRange{File: f, Length: uint32(row.length)}, s.mr.Base(), s.mr.RemoteToken(), 0)
			}, row.sendsFile, row.receives},
		}
		for _, op := range ops {
			t.Run(row.name+"/"+op.name, func(t *testing.T) {
				cc, sc := counterOf(t, c), counterOf(t, s)
				c0, s0 := cc.BytesCopied(), sc.BytesCopied()
				clear(s.mem)
				copy(c.mem, content[7:]) // so that a Read brings something else
				if op.name == "Read" {
					copy(s.mem, content)
				}
				must(t, s.qp.Receive(nil, []ndk.SGE{s.sge(size-64, 64)}))
				for range rounds {
					must(t, op.post())
				}
				must(t, c.qp.Send(nil, []ndk.SGE{c.sge(0, 64)}, ndk.ReadFence))
				for range rounds + 1 {
					if r := c.wait(); r.Status != 0 {
						t.Fatal(r.Status)
					}
				}
				if r := s.wait(); r.Status != 0 || r.Bytes != 64 {
					t.Fatal(r)
				}
				want := content[:row.length]
				got := s.mem
				switch op.name {
				case "Read":
					got = c.mem
				case "Write":
					want = content[7:][:min(row.length, size-7)]
				}
				want = want[:min(len(want), size-64)] // behind it is the message
				if !bytes.Equal(got[:len(want)], want) {
					t.Error("the payload is not in place")
				}
				if n, want := cc.BytesCopied()-c0, rounds*op.client*uint64(row.length); n != want {
					t.Errorf("the client copied %d octets, want %d", n, want)
				}
				if n, want := sc.BytesCopied()-s0, rounds*op.serve*uint64(row.length); n != want {
					t.Errorf("the server copied %d octets, want %d", n, want)
				}
			})
		}
		c.close()
		s.close()
	}
}

// TestInlineWriteCountsAsCopied: its payload is taken at the post.
func TestInlineWriteCountsAsCopied(t *testing.T) {
	c, s := pair(t, Config{}, Config{}, 1<<16)
	defer s.close()
	defer c.close()
	must(t, c.qp.Write(nil, []ndk.SGE{{Inline: make([]byte, 200)}}, s.mr.Base(), s.mr.RemoteToken(), ndk.Inline))
	if r := c.wait(); r.Status != 0 {
		t.Fatal(r.Status)
	}
	if n := counterOf(t, c).BytesCopied(); n != 200 {
		t.Errorf("%d octets copied, want 200", n)
	}
}

// A file that goes out by copy shares the connection with Reads of the peer.
func TestCopiedFileBesideReads(t *testing.T) {
	const size, rounds = 1 << 20, 8
	c, s := pair(t, Config{CRC: true}, Config{CRC: true}, size)
	defer s.close()
	defer c.close()
	path := filepath.Join(t.TempDir(), "file")
	content := bytes.Repeat([]byte("0123456789abcde\n"), size/32)
	must(t, os.WriteFile(path, content, 0o600))
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	x, err := c.qp.Extension(ndk.FileWriterExtension, ndk.Version{Major: 1})
	must(t, err)
	must(t, s.qp.Receive(nil, nil))
	must(t, c.qp.Send(nil, nil, 0)) // lets the other side go
	c.wait()
	s.wait()
	for range rounds {
		must(t, x.(ndk.FileWriter).WriteFile(nil, ndk.FileRange{File: f, Length: size / 2}, s.mr.Base(), s.mr.RemoteToken(), 0))
		for range 4 {
			must(t, s.qp.Read(nil, []ndk.SGE{s.sge(size/2, 64)}, c.mr.Base(), c.mr.RemoteToken(), 0))
		}
		for range 4 {
			if r := s.wait(); r.Status != 0 {
				t.Fatal(r.Status)
			}
		}
		if r := c.wait(); r.Status != 0 || r.Bytes != size/2 {
			t.Fatal(r)
		}
	}
}
