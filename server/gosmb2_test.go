package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"

	gosmb2 "github.com/hirochachacha/go-smb2"

	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// overTCP serves dir as "data" and returns the address.
func overTCP(t *testing.T, dir string, change func(*server.Config)) string {
	t.Helper()
	fsys, err := posix.New(dir, posix.Config{})
	if err != nil {
		t.Fatal(err)
	}
	users, err := server.ParseUsers("ann%secret")
	if err != nil {
		t.Fatal(err)
	}
	cfg := server.Config{Shares: []server.Share{{Name: "data", FS: fsys}}, Users: users}
	if change != nil {
		change(&cfg)
	}
	srv, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tcp.Listen(t.Context(), "127.0.0.1:0", tcp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-served; !errors.Is(err, server.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
		fsys.Close()
	})
	return l.Addr().String()
}

// A client that shares no code with this project: go-smb2 over real TCP.
func TestGoSMB2(t *testing.T) {
	for _, c := range []struct {
		name    string
		dialect uint16
		change  func(*server.Config)
	}{
		{"2.0.2", 0x0202, nil},
		{"2.1", 0x0210, nil},
		{"3.0", 0x0300, nil},
		{"3.0.2", 0x0302, nil},
		{"3.1.1", 0x0311, nil},
		{"3.1.1, encrypted", 0x0311, func(c *server.Config) { c.Encryption = server.PolicyRequired }},
		{"3.0, encrypted", 0x0300, func(c *server.Config) { c.Encryption = server.PolicyRequired }},
		{"signing not required", 0x0311, func(c *server.Config) { c.Signing = server.PolicyOffered }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			addr := overTCP(t, dir, c.change)
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			d := &gosmb2.Dialer{
				Negotiator: gosmb2.Negotiator{SpecifiedDialect: c.dialect},
				Initiator:  &gosmb2.NTLMInitiator{User: "ann", Password: "secret"},
			}
			s, err := d.Dial(nc)
			if err != nil {
				t.Fatal(err)
			}
			share, err := s.Mount("data")
			if err != nil {
				t.Fatal(err)
			}
			content := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
			if err := share.Mkdir("d", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := share.WriteFile(`d\f`, content, 0o644); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "d", "f")); err != nil || !bytes.Equal(got, content) {
				t.Errorf("on disk: %d octets, %v", len(got), err)
			}
			if got, err := share.ReadFile(`d\f`); err != nil || !bytes.Equal(got, content) {
				t.Errorf("read back: %d octets, %v", len(got), err)
			}
			f, err := share.OpenFile(`d\f`, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Truncate(10); err != nil {
				t.Error(err)
			}
			if _, err := f.Seek(0, io.SeekEnd); err != nil {
				t.Error(err)
			}
			if _, err := f.Write([]byte("!")); err != nil {
				t.Error(err)
			}
			if err := f.Sync(); err != nil {
				t.Error(err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			if got, _ := os.ReadFile(filepath.Join(dir, "d", "f")); string(got) != "0123456789!" {
				t.Errorf("on disk: %q", got)
			}
			if err := share.Rename(`d\f`, `d\g`); err != nil {
				t.Error(err)
			}
			list, err := share.ReadDir("d")
			if err != nil || len(list) != 1 || list[0].Name() != "g" || list[0].Size() != 11 {
				t.Errorf("listing: %v, %v", list, err)
			}
			if _, err := share.Stat(`d\f`); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Stat of the old name: %v", err)
			}
			if err := share.Remove(`d\g`); err != nil {
				t.Error(err)
			}
			if err := share.Remove("d"); err != nil {
				t.Error(err)
			}
			names, err := s.ListSharenames()
			if err != nil || len(names) != 2 {
				t.Errorf("shares: %v, %v", names, err)
			}
			if err := share.Umount(); err != nil {
				t.Error(err)
			}
			if err := s.Logoff(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("wrong password", func(t *testing.T) {
		addr := overTCP(t, t.TempDir(), nil)
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		d := &gosmb2.Dialer{Initiator: &gosmb2.NTLMInitiator{User: "ann", Password: "x"}}
		var re *gosmb2.ResponseError
		if _, err := d.Dial(nc); !errors.As(err, &re) || re.Code != 0xC000006D {
			t.Errorf("got %v, want STATUS_LOGON_FAILURE", err)
		}
	})
}
