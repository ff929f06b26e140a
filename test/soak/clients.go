package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"syscall"

	"github.com/hirochachacha/go-smb2"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// share is what a client of either make can do.
type share interface {
	create(name string, data []byte) error
	read(name string) ([]byte, error)
	rename(from, to string) error
	remove(name string) error
	mkdir(name string) error
	list(name string) (int, error)
	size(name string) (int64, error)
	close()
}

// client is one that works until ctx ends, each time with a new session after some
// rounds: even ones are of go-smb2, odd ones of this project.
func (s *site) client(ctx context.Context, i int, done *counters) error {
	rng := rand.New(rand.NewPCG(uint64(i), 1))
	dir := fmt.Sprintf("client-%03d", i)
	for ctx.Err() == nil {
		open := s.own
		if i%2 == 0 {
			open = s.other
		}
		sh, err := open(ctx)
		if err != nil {
			return err
		}
		done.sessions.Add(1)
		if err := sh.mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
			sh.close()
			return fmt.Errorf("mkdir: %w", err)
		}
		for range 50 {
			if ctx.Err() != nil {
				break
			}
			if err = round(sh, dir, rng, done); err != nil {
				break
			}
		}
		sh.close()
		if err != nil {
			return err
		}
	}
	return nil
}

// round makes a few files, looks at them in every way, and removes them.
func round(sh share, dir string, rng *rand.Rand, done *counters) error {
	const files = 4
	contents := make([][]byte, files)
	name := func(i int) string { return fmt.Sprintf("%s/file %d", dir, i) }
	for i := range contents {
		contents[i] = make([]byte, rng.IntN(1<<(8+rng.IntN(13))))
		for j := range contents[i] {
			contents[i][j] = byte(rng.Uint32())
		}
		if err := sh.create(name(i), contents[i]); err != nil {
			return fmt.Errorf("create: %w", err)
		}
	}
	if n, err := sh.list(dir); err != nil || n < files {
		return fmt.Errorf("list: %d of %d, %w", n, files, err)
	}
	for i := range contents {
		if n, err := sh.size(name(i)); err != nil || n != int64(len(contents[i])) {
			return fmt.Errorf("stat: %d of %d bytes, %w", n, len(contents[i]), err)
		}
		moved := name(i) + " moved"
		if err := sh.rename(name(i), moved); err != nil {
			return fmt.Errorf("rename: %w", err)
		}
		got, err := sh.read(moved)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if !bytes.Equal(got, contents[i]) {
			return fmt.Errorf("read: %d bytes that differ from the %d written", len(got), len(contents[i]))
		}
		if err := sh.remove(moved); err != nil {
			return fmt.Errorf("remove: %w", err)
		}
		done.operations.Add(6)
		done.bytes.Add(int64(len(got)))
	}
	return nil
}

// ownShare is by this project's client.
type ownShare struct {
	ctx  context.Context
	sess *client.Session
	sh   *client.Share
}

// own connects. What is begun is finished, so that no directory is left half done.
func (s *site) own(ctx context.Context) (share, error) {
	ctx = context.WithoutCancel(ctx)
	sess, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	sh, err := sess.Mount(ctx, "soak")
	if err != nil {
		sess.Close()
		return nil, err
	}
	return &ownShare{ctx, sess, sh}, nil
}

func (o *ownShare) create(name string, data []byte) error {
	return o.sh.WriteFile(o.ctx, name, data, 0o666)
}
func (o *ownShare) read(name string) ([]byte, error) { return o.sh.ReadFile(o.ctx, name) }
func (o *ownShare) rename(from, to string) error     { return o.sh.Rename(o.ctx, from, to, false) }
func (o *ownShare) remove(name string) error         { return o.sh.Remove(o.ctx, name) }
func (o *ownShare) mkdir(name string) error          { return o.sh.Mkdir(o.ctx, name) }
func (o *ownShare) list(name string) (int, error) {
	es, err := o.sh.ReadDir(o.ctx, name)
	return len(es), err
}
func (o *ownShare) close() { o.sess.Close() }
func (o *ownShare) size(name string) (int64, error) {
	st, err := o.sh.Stat(o.ctx, name)
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// otherShare is by go-smb2.
type otherShare struct {
	conn net.Conn
	sess *smb2.Session
	sh   *smb2.Share
}

func (s *site) other(ctx context.Context) (share, error) {
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		return nil, err
	}
	sess, err := (&smb2.Dialer{Initiator: &smb2.NTLMInitiator{User: "soak", Password: "secret"}}).Dial(conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	sh, err := sess.Mount("soak")
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &otherShare{conn, sess, sh}, nil
}

func (o *otherShare) create(name string, data []byte) error { return o.sh.WriteFile(name, data, 0o666) }
func (o *otherShare) read(name string) ([]byte, error)      { return o.sh.ReadFile(name) }
func (o *otherShare) rename(from, to string) error          { return o.sh.Rename(from, to) }
func (o *otherShare) remove(name string) error              { return o.sh.Remove(name) }
func (o *otherShare) mkdir(name string) error               { return o.sh.Mkdir(name, 0o777) }
func (o *otherShare) list(name string) (int, error) {
	es, err := o.sh.ReadDir(name)
	return len(es), err
}
func (o *otherShare) close() { _ = o.sess.Logoff(); o.conn.Close() }
func (o *otherShare) size(name string) (int64, error) {
	st, err := o.sh.Stat(name)
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// raiseDescriptors makes room for so many connections.
func raiseDescriptors(n uint64) error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	if l.Cur >= n {
		return nil
	}
	l.Cur = n
	l.Max = max(l.Max, n)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("%d descriptors: %w", n, err)
	}
	return nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
