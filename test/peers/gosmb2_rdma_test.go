//go:build peers

package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	gosmb2 "github.com/hirochachacha/go-smb2"
	"golang.org/x/sync/errgroup"

	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
)

// go-smb2 knows TCP only. smbdirect.NetConn carries it over SMB Direct as it is.
func TestGoSMB2(t *testing.T) {
	for _, c := range []struct {
		name string
		dial func(t *testing.T, s *binServer) net.Conn
	}{
		{"SMB Direct", func(t *testing.T, s *binServer) net.Conn {
			p, err := iwarp.New(iwarp.Config{})
			if err != nil {
				t.Fatal(err)
			}
			d, err := smbdirect.NewDialer(p, "iwarp", smbdirect.Config{})
			if err != nil {
				t.Fatal(err)
			}
			c, err := d.Dial(context.Background(), s.rdma)
			if err != nil {
				t.Fatal(err)
			}
			return smbdirect.NetConn(c)
		}},
		{"TCP", func(t *testing.T, s *binServer) net.Conn {
			c, err := net.Dial("tcp", s.tcp)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s := startBinServer(t, dir)
			nc := c.dial(t, s)
			defer nc.Close()
			useGoSMB2(t, nc, dir)
		})
	}
}

func useGoSMB2(t *testing.T, nc net.Conn, dir string) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	d := &gosmb2.Dialer{Initiator: &gosmb2.NTLMInitiator{User: "tester", Password: "secret"}}
	s, err := d.Dial(nc)
	must(err)
	share, err := s.Mount("test")
	must(err)

	const size = 64 << 20
	content := make([]byte, size)
	for i := 0; i < size; i += 4 {
		v := uint32(i) * 2654435761
		content[i], content[i+1], content[i+2], content[i+3] = byte(v>>24), byte(v>>16), byte(v>>8), byte(i>>16)
	}
	f, err := share.Create("big")
	must(err)
	odd := []int{1, 4095, 65537, 1<<20 + 7, 333333, 2<<20 - 1}
	for at, i := 0, 0; at < size; i++ {
		n, err := f.Write(content[at:min(at+odd[i%len(odd)], size)])
		must(err)
		at += n
	}
	must(f.Close())
	onDisk, err := os.ReadFile(filepath.Join(dir, "big"))
	if must(err); !bytes.Equal(onDisk, content) {
		t.Errorf("%d octets on disk, and not what was written", len(onDisk))
	}
	f, err = share.Open("big")
	must(err)
	back := make([]byte, size)
	for at, i := 0, 0; at < size; i++ {
		n, err := io.ReadFull(f, back[at:min(at+odd[(i+3)%len(odd)], size)])
		must(err)
		at += n
	}
	if n, err := f.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after the end: %d, %v", n, err)
	}
	if !bytes.Equal(back, content) {
		t.Error("what was read is not what was written")
	}
	// All its 128 credits in use at a time, by reads of 16 credits and of one: it counts
	// itself richer than it is.
	for _, c := range []struct{ readers, size int }{{10, 1 << 20}, {200, 4096}} {
		var g errgroup.Group
		for i := range c.readers {
			g.Go(func() error {
				p := make([]byte, c.size)
				for j := range 20 {
					off := (i*20 + j) * c.size % size
					if _, err := f.ReadAt(p, int64(off)); err != nil {
						return err
					}
					if !bytes.Equal(p, content[off:off+len(p)]) {
						return fmt.Errorf("reader %d: %d octets at %d are not what was written", i, len(p), off)
					}
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatalf("%d readers of %d octets: %v", c.readers, c.size, err)
		}
	}
	must(f.Close())

	must(share.Mkdir("many", 0o755))
	for i := range 500 {
		must(os.WriteFile(filepath.Join(dir, "many", fmt.Sprintf("file-%03d", i)), []byte{byte(i)}, 0o644))
	}
	list, err := share.ReadDir("many")
	must(err)
	seen := map[string]bool{}
	for _, fi := range list {
		if seen[fi.Name()] = true; fi.Size() != 1 {
			t.Errorf("%s has %d octets", fi.Name(), fi.Size())
		}
	}
	if len(list) != 500 || !seen["file-000"] || !seen["file-499"] || len(seen) != 500 {
		t.Errorf("%d entries, %d names, want 500", len(list), len(seen))
	}

	must(share.Rename("big", "large"))
	if fi, err := share.Stat("large"); err != nil || fi.Size() != size {
		t.Errorf("stat of the new name: %v, %v", fi, err)
	}
	if _, err := share.Stat("big"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat of the old name: %v", err)
	}
	must(share.Remove("large"))
	if _, err := os.Stat(filepath.Join(dir, "large")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed, and on disk: %v", err)
	}

	// A deadline ends the receiver of the library, and with it what waits.
	must(nc.SetReadDeadline(time.Now().Add(-time.Second)))
	var te *gosmb2.TransportError // which wraps without Unwrap
	if _, err := share.Stat("many"); !errors.As(err, &te) || !errors.Is(te.Err, os.ErrDeadlineExceeded) {
		t.Errorf("stat after the deadline: %v", err)
	}
}
