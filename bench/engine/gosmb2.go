package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	smb2 "github.com/hirochachacha/go-smb2"

	"github.com/smbd-rdma/smbd-rdma/bench/result"
)

// goSMB2 does I/O on a share by another client library in Go, for comparison.
type goSMB2 struct {
	conn  net.Conn
	sess  *smb2.Session
	share *smb2.Share
	files []*smb2.File
	facts []result.Option
}

func newGoSMB2(ctx context.Context, e *Env, s Spec) (Target, error) {
	conn, domain, user, password, err := e.Stream(ctx, &s.Remote)
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", s.Remote.Server, err)
	}
	d := smb2.Dialer{Initiator: &smb2.NTLMInitiator{Domain: domain, User: user, Password: password}}
	d.Negotiator.RequireMessageSigning = s.Remote.Signing == "required"
	if s.Remote.Encryption == "required" {
		return nil, errors.Join(fmt.Errorf("encryption=required: %w", ErrRefused), conn.Close())
	}
	sess, err := d.DialContext(ctx, conn)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("server %s: %w", s.Remote.Server, err), conn.Close())
	}
	sh, err := sess.Mount(s.Remote.Share)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("share %s of server %s: %w", s.Remote.Share, s.Remote.Server, err), sess.Logoff(), conn.Close())
	}
	return &goSMB2{conn: conn, sess: sess, share: sh, facts: []result.Option{
		{Name: "server", Value: conn.RemoteAddr().String()}, {Name: "share", Value: s.Remote.Share}}}, nil
}

func (t *goSMB2) Stat(_ context.Context, name string) (int64, error) {
	st, err := t.share.Stat(name)
	if err != nil {
		return 0, err
	}
	if st.IsDir() {
		return 0, fmt.Errorf("%s is a directory", name)
	}
	return st.Size(), nil
}

func (t *goSMB2) Open(_ context.Context, i int, name string, f OpenFlags) error {
	if f.Direct || f.Sync || f.DataSync {
		return fmt.Errorf("direct=1 and sync=1: %w", ErrRefused)
	}
	flags := 0
	switch {
	case f.Read && f.Write:
		flags = os.O_RDWR
	case f.Write:
		flags = os.O_WRONLY
	}
	if f.Create {
		flags |= os.O_CREATE
	}
	if f.Exclusive {
		flags |= os.O_EXCL
	}
	file, err := t.share.OpenFile(name, flags, 0o644)
	if err != nil {
		return err
	}
	for len(t.files) <= i {
		t.files = append(t.files, nil)
	}
	if t.files[i] != nil {
		_ = t.files[i].Close()
	}
	t.files[i] = file
	return nil
}

func (t *goSMB2) CloseFile(i int) error {
	f := t.files[i]
	t.files[i] = nil
	if f == nil {
		return nil
	}
	return f.Close()
}

func (t *goSMB2) Truncate(_ context.Context, i int, size int64) error {
	return t.files[i].Truncate(size)
}

func (t *goSMB2) Remove(_ context.Context, name string) error { return t.share.Remove(name) }

// Forget does nothing: go-smb2 caches nothing.
func (*goSMB2) Forget(int) error { return nil }

func (t *goSMB2) Do(u *Unit) {
	u.N, u.Err = 0, nil
	if u.File >= len(t.files) || t.files[u.File] == nil {
		u.Err = errNotOpen
		return
	}
	f := t.files[u.File]
	switch u.Op {
	case Read:
		if u.N, u.Err = f.ReadAt(u.Buf, u.Offset); u.Err == io.EOF {
			u.Err = nil
		}
	case Write:
		u.N, u.Err = f.WriteAt(u.Buf, u.Offset)
	default:
		u.Err = f.Sync()
	}
}

// Interrupt ends the connection.
func (t *goSMB2) Interrupt() { _ = t.conn.Close() }

func (t *goSMB2) Stats() result.Engine { return result.Engine{Name: "go-smb2", Facts: t.facts} }

func (t *goSMB2) Close() error {
	var errs []error
	for i := range t.files {
		errs = append(errs, t.CloseFile(i))
	}
	errs = append(errs, t.share.Umount(), t.sess.Logoff())
	if err := t.conn.Close(); !errors.Is(err, net.ErrClosed) { // Logoff closes it, as a rule
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
