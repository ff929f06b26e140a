package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"

	gosmb2 "github.com/hirochachacha/go-smb2"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/test/internal/sites"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// file is what the rows do with an open file. Its methods may run side by side.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
}

// share is a library's connection to a share.
type share interface {
	open(name string, flag int) (file, error)
	size(name string) (int64, error)
	mkdir(name string) error
	// list returns the number of entries.
	list(name string) (int, error)
	close()
}

// column is a library at one server, by one transport.
type column struct {
	name    string
	library string
	server  string // of a sites.Kind
	// dial is nil for the bare client, which is none.
	dial func(ctx context.Context, s *sites.Site, user string) (share, error)
}

// The columns, each of go-smb2's behind the one that it is compared with. The bare client's
// says what the server gives at most.
var columns = []column{
	{"smbd-rdma, TCP to Samba", "smbd-rdma", sites.Samba.Name, overTCP},
	{"go-smb2, TCP to Samba", "go-smb2", sites.Samba.Name, byGoSMB2},
	{"the same requests bare, TCP to Samba", "bare", sites.Samba.Name, nil},
	{"smbd-rdma, TCP to smbd-rdma", "smbd-rdma", sites.Own.Name, overTCP},
	{"go-smb2, TCP to smbd-rdma", "go-smb2", sites.Own.Name, byGoSMB2},
	{"smbd-rdma, SMB Direct to smbd-rdma", "smbd-rdma", sites.Own.Name, overRDMA},
}

// ours is a share by this project's library.
type ours struct {
	ctx   context.Context
	sess  *client.Session
	share *client.Share
}

func overTCP(ctx context.Context, s *sites.Site, user string) (share, error) {
	d, err := tcp.NewDialer(tcp.Config{})
	if err != nil {
		return nil, err
	}
	return dialOurs(ctx, d, s.Addr, s, user)
}

func overRDMA(ctx context.Context, s *sites.Site, user string) (share, error) {
	p, err := iwarp.New(iwarp.Config{})
	if err != nil {
		return nil, err
	}
	d, err := smbdirect.NewDialer(p, "iwarp", smbdirect.Config{})
	if err != nil {
		return nil, err
	}
	return dialOurs(ctx, d, s.RDMA, s, user)
}

func dialOurs(ctx context.Context, d transport.Dialer, addr string, s *sites.Site, user string) (share, error) {
	cfg := client.Config{User: user, Password: s.Password}
	if user == s.User {
		cfg.Signing = client.SigningRequired
	}
	sess, err := client.Dial(ctx, d, addr, cfg)
	if err != nil {
		return nil, err
	}
	sh, err := sess.Mount(ctx, s.Share)
	if err != nil {
		sess.Close()
		return nil, err
	}
	if guest := sess.Info().Guest; guest != (user == sites.Guest) {
		sess.Close()
		return nil, fmt.Errorf("user %s: guest is %v", user, guest)
	}
	return &ours{ctx, sess, sh}, nil
}

func (o *ours) open(name string, flag int) (file, error) {
	return o.share.OpenFile(o.ctx, name, flag, 0o666)
}

func (o *ours) size(name string) (int64, error) {
	st, err := o.share.Stat(o.ctx, name)
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (o *ours) mkdir(name string) error { return o.share.Mkdir(o.ctx, name) }

func (o *ours) list(name string) (int, error) {
	es, err := o.share.ReadDir(o.ctx, name)
	return len(es), err
}

func (o *ours) close() { o.sess.Close() }

// theirs is a share by go-smb2.
type theirs struct {
	conn  net.Conn
	sess  *gosmb2.Session
	share *gosmb2.Share
}

func byGoSMB2(ctx context.Context, s *sites.Site, user string) (share, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.Addr)
	if err != nil {
		return nil, err
	}
	d := gosmb2.Dialer{Initiator: &gosmb2.NTLMInitiator{User: user, Password: s.Password}}
	sess, err := d.DialContext(ctx, conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	sh, err := sess.Mount(s.Share)
	if err != nil {
		sess.Logoff()
		conn.Close()
		return nil, err
	}
	return &theirs{conn, sess, sh}, nil
}

func (t *theirs) open(name string, flag int) (file, error) {
	return t.share.OpenFile(name, flag, 0o666)
}

func (t *theirs) size(name string) (int64, error) {
	st, err := t.share.Stat(name)
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (t *theirs) mkdir(name string) error { return t.share.Mkdir(name, os.ModePerm) }

func (t *theirs) list(name string) (int, error) {
	es, err := t.share.ReadDir(name)
	return len(es), err
}

func (t *theirs) close() {
	_ = t.share.Umount()
	_ = t.sess.Logoff()
	_ = t.conn.Close()
}
