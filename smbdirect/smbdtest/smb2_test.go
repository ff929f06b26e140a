package smbdtest

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
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
	served, tcpServed := make(chan error, 1), make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), counted) }() // ends with the server; waited for below
	var hosted netip.AddrPort
	if f.name != "sim" { // which has no sockets in its world
		tl, err := tcp.Listen(context.Background(), "127.0.0.1:0", tcp.Config{})
		if err != nil {
			t.Fatal(err)
		}
		hosted = netip.MustParseAddrPort(tl.Addr().String())
		go func() { tcpServed <- srv.Serve(context.Background(), tl) }() // as the other
	} else {
		tcpServed <- server.ErrServerClosed
	}
	defer func() {
		srv.Close()
		if err := <-tcpServed; !errors.Is(err, server.ErrServerClosed) {
			t.Errorf("Serve over TCP: %v", err)
		}
		if err := <-served; !errors.Is(err, server.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("left in the share: %v, %v", left, err)
		}
	}()
	var upper Upper // of cases that do not speak SMB2 themselves
	if !c.SMB2 {
		upper = SMB2{}
	}
	report(t, RunCase(context.Background(), Target{
		Provider: f.name, Upper: upper,
		Adapter: peer,
		Address: netip.MustParseAddrPort(l.Addr().String()),
		Server:  "nas", Share: "data", User: "ann", Password: "secret", TCP: hosted,
		Times:  times,
		Probe:  Probe{Settled: counted.settled},
		Limits: Limits{ReceiveCreditMax: 255},
	}, c))
}

// openedSMB2 is a file that our client has open.
type openedSMB2 struct {
	*client.File
	s *client.Session
}

func (f openedSMB2) Close() error { return f.s.Close() }

// openSMB2 is OpenSMB2 with our client.
func openSMB2(ctx context.Context, c transport.Conn, o SMB2Config) (SMB2File, error) {
	if o.Threshold == 0 {
		o.Threshold = client.DefaultRDMAThreshold // whatever the adapter
	}
	cfg := client.Config{User: o.User, Password: o.Password, MinDialect: client.Dialect(o.Dialect),
		MaxDialect: client.Dialect(o.Dialect), RDMAThreshold: o.Threshold}
	if o.Sign {
		cfg.Signing = client.SigningRequired
	}
	if o.Encrypt {
		cfg.Encryption = client.EncryptRequired
	}
	s, err := client.New(ctx, c, cfg)
	if err != nil {
		return nil, err
	}
	sh, err := s.Mount(ctx, o.Share)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	f, err := sh.Create(ctx, o.Name)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return openedSMB2{f, s}, nil
}
