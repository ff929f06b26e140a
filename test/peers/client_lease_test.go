//go:build peers

package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// What smbclient reads is what our client has kept back under its lease.
func TestClientSambaLeaseBreak(t *testing.T) {
	s := startSamba(t, "smb2 leases = yes\n    kernel oplocks = no")
	for _, d := range []client.Dialect{client.SMB210, client.SMB302, client.SMB311} {
		t.Run(d.String(), func(t *testing.T) {
			sh := mountSamba(t, s, client.Config{MaxDialect: d}, "test")
			ctx := t.Context()
			const want = client.LeaseRead | client.LeaseWrite | client.LeaseHandle
			breaks := make(chan client.LeaseBreak, 4)
			var f *client.File
			l := sh.NewLease(client.LeaseOptions{Want: want, OnBreak: func(ctx context.Context, b client.LeaseBreak) client.LeaseState {
				if b.From&^b.To&client.LeaseWrite != 0 {
					if _, err := f.WriteAtContext(ctx, []byte("kept back "+d.String()), 0); err != nil {
						t.Error(err)
					}
				}
				breaks <- b
				return b.To
			}})
			f, err := sh.CreateFile(ctx, "leased", client.CreateOptions{
				Access: client.AccessGenericRead | client.AccessGenericWrite, Disposition: client.OpenIf, Lease: l})
			if err != nil {
				t.Fatal(err)
			}
			if l.State() != want {
				t.Fatalf("state %v", l.State())
			}
			_, port, _ := net.SplitHostPort(s.addr)
			got := filepath.Join(t.TempDir(), "got")
			out, err := exec.Command("smbclient", "//127.0.0.1/test", "-p", port, "-U", sambaUser+"%"+sambaPassword,
				"-c", "get leased "+got).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if b := <-breaks; b.From != want || b.To&client.LeaseWrite != 0 || b.Lost {
				t.Fatalf("%v to %v", b.From, b.To)
			}
			if text, err := os.ReadFile(got); err != nil || string(text) != "kept back "+d.String() {
				t.Fatalf("%q, %v", text, err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// cutter is a way to a server that can be cut.
type cutter struct {
	l  net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn // guarded by mu
}

func newCutter(t *testing.T, to string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{l: l}
	c.wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, in, out)
			c.mu.Unlock()
			for _, p := range [][2]net.Conn{{in, out}, {out, in}} {
				c.wg.Go(func() {
					_, _ = io.Copy(p[0], p[1]) // ends with either
					p[0].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		l.Close()
		c.cut()
		c.wg.Wait()
	})
	return c
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.conns {
		x.Close()
	}
	c.conns = nil
}

// denied is how often smbd has logged that it does not give a durable open back, as its
// file is not as it was: it notes the file's times when a connection ends, and a read or
// write that is under way then changes them afterwards.
func (s *samba) denied(t *testing.T) int {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(s.dir, "log", "smbd.log"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(log, []byte("denying durable reconnect"))
}

// The connection to smbd is cut while data moves: the opens are claimed with their
// leases, and every byte is there. An open that smbd denies is stale, and said to be.
func TestClientSambaReconnect(t *testing.T) {
	s := startSamba(t, "smb2 leases = yes\n    kernel oplocks = no\n    kernel share modes = no\n    posix locking = no\n    durable handles = yes")
	for _, d := range []client.Dialect{client.SMB210, client.SMB302, client.SMB311} {
		t.Run(d.String(), func(t *testing.T) {
			c := newCutter(t, s.addr)
			up := make(chan client.ReconnectEvent, 100)
			sess, err := client.Dial(t.Context(), dialer(t), c.l.Addr().String(), client.Config{
				User: sambaUser, Password: sambaPassword, MaxDialect: d,
				Reconnect: client.ReconnectConfig{Enabled: true, MinDelay: time.Millisecond, OnEvent: func(e client.ReconnectEvent) {
					if e.Up {
						up <- e
					}
				}}})
			if err != nil {
				t.Fatal(err)
			}
			defer sess.Close()
			sh, err := sess.Mount(t.Context(), "test")
			if err != nil {
				t.Fatal(err)
			}
			opens := 0
			open := func() *client.File { // a new file: smbd asks the lost open's lease to give way, in vain
				opens++
				l := sh.NewLease(client.LeaseOptions{Want: client.LeaseRead | client.LeaseWrite | client.LeaseHandle,
					OnBreak: func(_ context.Context, b client.LeaseBreak) client.LeaseState {
						if !b.Lost {
							t.Errorf("break %v to %v", b.From, b.To)
						}
						return b.To
					}})
				f, err := sh.CreateFile(t.Context(), fmt.Sprintf("durable %v %d", d, opens), client.CreateOptions{
					Access: client.AccessGenericRead | client.AccessGenericWrite, Disposition: client.OpenIf, Lease: l})
				if err != nil {
					t.Fatal(err)
				}
				return f
			}
			f := open()
			data, got := random(7, 3<<20), make([]byte, 3<<20)
			reclaimed := 0
			for i := range 5 {
				denied := s.denied(t)
				cut := time.AfterFunc(time.Duration(i)*3*time.Millisecond, c.cut)
				_, err := f.WriteAt(data, int64(i))
				if err == nil {
					_, err = f.ReadAt(got, int64(i))
				}
				if err == nil && !bytes.Equal(got, data) {
					t.Fatal("other bytes")
				}
				if cut.Stop() {
					c.cut()
				}
				switch e := <-up; {
				case err == nil && e.Reclaimed == 1 && e.Stale+e.Reopened == 0:
					reclaimed++
				case (err == nil || errors.Is(err, client.ErrStale)) && e.Stale == 1 && s.denied(t) > denied:
					_ = f.Close() // which is lost
					f = open()
				default:
					t.Fatalf("cut %d: %v, %+v", i, err, e)
				}
			}
			if reclaimed < 2 {
				t.Fatalf("%d of 5 opens claimed", reclaimed)
			}
			if err := errors.Join(f.Sync(t.Context()), f.Close()); err != nil {
				t.Fatal(err)
			}
			if n := sess.Stats().Reconnects; n != 5 {
				t.Fatalf("%d reconnections", n)
			}
		})
	}
}

// smbd is killed and started again while data moves: the file is opened again, as it is
// the same, and every byte that was acknowledged is there.
func TestClientSambaKilled(t *testing.T) {
	s := startSamba(t, "")
	up := make(chan client.ReconnectEvent, 100)
	sess := dialSamba(t, s, client.Config{Reconnect: client.ReconnectConfig{
		Enabled: true, MinDelay: time.Millisecond, Reopen: client.ReopenSameTrusting, OnEvent: func(e client.ReconnectEvent) {
			if e.Up {
				up <- e
			}
		}}})
	sh, err := sess.Mount(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	f, err := sh.Create(t.Context(), "file")
	if err != nil {
		t.Fatal(err)
	}
	data := random(8, 8<<20)
	for i := range 3 {
		restarted := make(chan struct{})
		time.AfterFunc(time.Duration(i)*4*time.Millisecond, func() {
			defer close(restarted)
			s.end(syscall.SIGKILL)
			s.run(t)
		})
		if n, err := f.WriteAt(data, int64(i)); n != len(data) || err != nil {
			t.Fatal(n, err)
		}
		<-restarted
		got := make([]byte, len(data))
		if n, err := f.ReadAt(got, int64(i)); n != len(got) || err != nil || !bytes.Equal(got, data) {
			t.Fatal(n, err)
		}
		if e := <-up; e.Reopened != 1 || e.Stale != 0 {
			t.Fatalf("%+v", e)
		}
	}
	if err := errors.Join(f.Sync(t.Context()), f.Close()); err != nil {
		t.Fatal(err)
	}
	disk, err := os.ReadFile(filepath.Join(s.dir, "test", "file"))
	if err != nil || !bytes.Equal(disk[2:], data) {
		t.Fatal("other bytes on disk", err)
	}
}
