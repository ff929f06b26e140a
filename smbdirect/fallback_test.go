package smbdirect

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// plainProvider opens adapters without fast registration.
type plainProvider struct{ ndk.Provider }

type plainAdapter struct{ ndk.Adapter }

func (p plainProvider) Open(ctx context.Context, local netip.Addr, min ndk.Version) (ndk.Adapter, error) {
	a, err := p.Provider.Open(ctx, local, min)
	return plainAdapter{a}, err
}

func (a plainAdapter) Info(ctx context.Context) (ndk.AdapterInfo, error) {
	i, err := a.Adapter.Info(ctx)
	i.FRMRPageCount = 0
	return i, err
}

// An adapter without fast registration: whole registrations, no remote
// invalidation, and a file through a buffer where the provider takes none.
func TestPlainAdapter(t *testing.T) {
	l := listener(t, Config{})
	d, err := NewDialer(plainProvider{provider(t)}, "plain", Config{Registrations: 1})
	if err != nil {
		t.Fatal(err)
	}
	client, server := dialTo(t, d, l)
	if client.RDMA().RemoteInvalidation() {
		t.Error("a normal region cannot be invalidated by the peer")
	}
	server.file = nil
	ctx := context.Background()
	content := pattern(70000, 1)
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mem := make([]byte, 100000)
	for range 3 {
		reg, err := client.RDMA().Register(ctx, mem, transport.PeerWrites)
		if err != nil {
			t.Fatal(err)
		}
		ds := reg.Descriptors()
		if len(ds) != 1 || ds[0].Length != 100000 {
			t.Fatalf("descriptors %+v", ds)
		}
		n, err := server.RDMA().WriteFile(ctx, f, 1000, len(mem), ds)
		if err != nil || n != 69000 {
			t.Fatalf("%d bytes, %v", n, err)
		}
		if err := server.Send(ctx, msg([]byte("done"))); err != nil {
			t.Fatal(err)
		}
		receive(t, client).Release()
		if !bytes.Equal(mem[:69000], content[1000:]) || !bytes.Equal(mem[69000:], make([]byte, 31000)) {
			t.Error("memory differs")
		}
		if err := reg.Deregister(ctx, 0, false); err != nil {
			t.Fatal(err)
		}
	}
	if s := server.Stats(); s.RDMABytesFromFile != 0 || s.RDMABytesWritten != 300000 {
		t.Errorf("stats %+v", s)
	}
	// A read error of the file leaves the connection alone.
	closed, _ := os.Open(path)
	closed.Close()
	reg, err := client.RDMA().Register(ctx, mem, transport.PeerWrites)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.RDMA().WriteFile(ctx, closed, 0, 10, reg.Descriptors()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed file: %v", err)
	}
	if err := server.Send(ctx, msg([]byte("alive"))); err != nil {
		t.Fatal(err)
	}
	receive(t, client).Release()
	client.Close()
	if err := reg.Deregister(ctx, 0, false); !errors.Is(err, net.ErrClosed) {
		t.Errorf("deregister on a dead connection: %v", err)
	}
}

// The same with the provider's own file transfers.
func TestWriteFileErrors(t *testing.T) {
	client, server := pair(t, Config{}, Config{})
	ctx := context.Background()
	reg, err := client.RDMA().Register(ctx, make([]byte, 5000), transport.PeerWrites)
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Deregister(ctx, 0, false)
	dir, err := os.Open(t.TempDir()) // cannot be read
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	ds := reg.Descriptors()
	if _, err := server.RDMA().WriteFile(ctx, dir, 0, 5000, ds); err == nil {
		t.Error("a directory was read")
	}
	if _, err := server.RDMA().WriteFile(ctx, dir, -1, 5000, ds); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("offset -1: %v", err)
	}
	if _, err := server.RDMA().WriteFile(ctx, dir, 0, 5001, ds); !errors.Is(err, transport.ErrDescriptors) {
		t.Errorf("too long: %v", err)
	}
}
