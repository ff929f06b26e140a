package smbdtest

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
)

// smb2Acceptor runs c, which speaks SMB2, against a server of ours. Afterwards
// nothing may be left in its share.
func (f fabric) smb2Acceptor(t *testing.T, c Case) {
	cfg, times := f.settings(c)
	p, host, underHost := f.open(t)
	peer, under := openAdapter(t, p, host), openAdapter(t, p, underHost)
	l, err := smbdirect.NewListener(context.Background(), under, f.name, underHost.String()+":0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	fsys, err := posix.New(dir, posix.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer fsys.Close()
	users, err := server.ParseUsers("ann%secret")
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server.New(server.Config{
		Shares: []server.Share{{Name: "data", FS: fsys}}, Users: users, ServerName: "NAS",
		Interfaces: func() []server.Interface {
			return []server.Interface{
				{Index: 2, Addr: underHost, Speed: 25_000_000_000, RSS: true},
				{Index: 2, Addr: underHost, Speed: 25_000_000_000, RDMA: true},
				{Index: 3, Addr: netip.MustParseAddr("fd00::7"), Speed: 1_000_000_000},
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	counted := &countingListener{Listener: l}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), counted) }() // ends with the server; waited for below
	defer func() {
		srv.Close()
		if err := <-served; !errors.Is(err, server.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("left in the share: %v, %v", left, err)
		}
	}()
	report(t, RunCase(context.Background(), Target{
		Provider: f.name,
		Adapter:  peer,
		Address:  netip.MustParseAddrPort(l.Addr().String()),
		Server:   "nas", Share: "data", User: "ann", Password: "secret",
		Times:  times,
		Probe:  Probe{Settled: counted.settled},
		Limits: Limits{ReceiveCreditMax: 255},
	}, c))
}
