package engine

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/pattern"
	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/server"
	vfs "github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// site is a server on TCP and on iWARP, and the Env of who goes there.
func site(t testing.TB) (*Env, map[job.Engine]string) {
	t.Helper()
	ctx := context.Background()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fsys, err := vfs.New(t.TempDir(), vfs.Config{})
	ok(err)
	users, err := server.ParseUsers("ann%secret")
	ok(err)
	srv, err := server.New(server.Config{Shares: []server.Share{{Name: "data", FS: fsys}}, Users: users, ServerName: "NAS", Signing: server.PolicyOffered})
	ok(err)
	rdma, err := iwarp.New(iwarp.Config{})
	ok(err)
	plain, err := tcp.Listen(ctx, "127.0.0.1:0", tcp.Config{})
	ok(err)
	direct, err := smbdirect.Listen(ctx, rdma, "iwarp", "127.0.0.1:0", smbdirect.Config{})
	ok(err)
	var served sync.WaitGroup
	for _, l := range []transport.Listener{plain, direct} {
		served.Go(func() { _ = srv.Serve(ctx, l) }) // ended by srv.Close
	}
	t.Cleanup(func() {
		srv.Close()
		served.Wait()
		fsys.Close()
	})
	env := &Env{
		Session: func(ctx context.Context, o *job.EngineOptions, on bool) (*client.Session, error) {
			var d transport.Dialer
			var err error
			if on {
				d, err = smbdirect.NewDialer(rdma, "iwarp", smbdirect.Config{})
			} else {
				d, err = tcp.NewDialer(tcp.Config{})
			}
			if err != nil {
				return nil, err
			}
			return client.Dial(ctx, d, o.Server, client.Config{User: o.User, Password: o.Password})
		},
		Stream: func(ctx context.Context, o *job.EngineOptions) (net.Conn, string, string, string, error) {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", o.Server)
			return c, "", o.User, o.Password, err
		},
	}
	return env, map[job.Engine]string{job.EngineSMB: plain.Addr().String(), job.EngineGoSMB2: plain.Addr().String(), job.EngineSMBDirect: direct.Addr().String()}
}

var fileEngines = []job.Engine{job.EnginePosix, job.EngineSMB, job.EngineSMBDirect, job.EngineGoSMB2}

// target is that of an engine, and the name of a file that is not there.
func target(t testing.TB, env *Env, addrs map[job.Engine]string, e job.Engine) (Target, string) {
	t.Helper()
	s := Spec{Engine: e, Remote: job.EngineOptions{Server: addrs[e], Share: "data", User: "ann", Password: "secret"}, Depth: 16, MaxSize: 1 << 20}
	tg, err := env.New(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tg.Close(); err != nil {
			t.Errorf("%s: %v", e, err)
		}
	})
	if e == job.EnginePosix {
		return tg, filepath.Join(t.TempDir(), "f")
	}
	return tg, "f-" + string(e)
}

// What every engine with files does, by itself and by its queue.
func TestTargets(t *testing.T) {
	env, addrs := site(t)
	for _, e := range fileEngines {
		t.Run(string(e), func(t *testing.T) {
			ctx := context.Background()
			tg, name := target(t, env, addrs, e)
			if _, err := tg.Stat(ctx, name); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("a file that is not there: %v", err)
			}
			if err := tg.Open(ctx, 0, name, OpenFlags{Read: true}); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("opened without Create: %v", err)
			}
			if err := tg.Open(ctx, 0, name, OpenFlags{Read: true, Write: true, Create: true, Exclusive: true}); err != nil {
				t.Fatal(err)
			}
			if err := tg.Open(ctx, 1, name, OpenFlags{Write: true, Create: true, Exclusive: true}); !errors.Is(err, fs.ErrExist) {
				t.Errorf("made twice: %v", err)
			}
			bufs, err := NewBuffers(4, 256<<10)
			if err != nil {
				t.Fatal(err)
			}
			defer bufs.Close()
			want := bufs.At(0)
			pattern.Fill(want, 1)
			u := Unit{Op: Write, Buf: want, Offset: 4096}
			if tg.Do(&u); u.Err != nil || u.N != len(want) {
				t.Fatal(u.N, u.Err)
			}
			for _, op := range []Op{Sync, DataSync} {
				if u := (Unit{Op: op}); true {
					if tg.Do(&u); u.Err != nil {
						t.Error(op, u.Err)
					}
				}
			}
			for _, c := range []struct{ off, size, n int }{{4096, 256 << 10, 256 << 10}, {4096 + 1000, 5000, 5000}, {4096 + 255<<10, 4096, 1024}, {1 << 20, 4096, 0}} {
				u := Unit{Op: Read, Buf: bufs.At(1)[:c.size], Offset: int64(c.off)}
				if tg.Do(&u); u.Err != nil || u.N != c.n || c.n > 0 && !slices.Equal(u.Buf[:c.n], want[c.off-4096:][:c.n]) {
					t.Errorf("%d bytes at %d: %d, %v", c.size, c.off, u.N, u.Err)
				}
			}
			if err := tg.Truncate(ctx, 0, 10_000); err != nil {
				t.Error(err)
			}
			if n, err := tg.Stat(ctx, name); n != 10_000 || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
			if u := (Unit{Op: Read, File: 7, Buf: want}); true {
				if tg.Do(&u); !errors.Is(u.Err, fs.ErrClosed) {
					t.Errorf("a file that is not open: %v", u.Err)
				}
			}
			if err := errors.Join(tg.Forget(0), tg.CloseFile(0), tg.Remove(ctx, name)); err != nil {
				t.Error(err)
			}
			if st := tg.Stats(); st.Name != string(e) || e == job.EngineSMBDirect && st.RDMABytes == 0 || e == job.EngineSMB && (st.InlineBytes == 0 || st.RDMABytes != 0) {
				t.Errorf("%+v", st)
			}
		})
	}
}

// The queue of local files brings what Do brings.
func TestQueueOfFiles(t *testing.T) {
	tg, name := target(t, new(Env), nil, job.EnginePosix)
	if err := tg.Open(context.Background(), 0, name, OpenFlags{Read: true, Write: true, Create: true}); err != nil {
		t.Fatal(err)
	}
	const depth, size = 8, 4096
	q, err := tg.(Queuer).Queue(depth, size)
	if err != nil {
		t.Fatal(err)
	}
	bufs, err := NewBuffers(2*depth, size)
	if err != nil {
		t.Fatal(err)
	}
	defer bufs.Close()
	us, out := make([]Unit, depth), make([]*Unit, depth)
	round := func(op Op, buf int) {
		t.Helper()
		all := make([]*Unit, depth)
		for i := range us {
			us[i] = Unit{Op: op, Slot: i, Offset: int64(i) * size, Buf: bufs.At(buf + i)}
			all[i] = &us[i]
		}
		if n, err := q.Submit(all); n != depth || err != nil {
			t.Fatal(n, err)
		}
		for n := 0; n < depth; {
			k, err := q.Reap(out, depth-n, -1)
			if err != nil {
				t.Fatal(err)
			}
			for _, u := range out[:k] {
				if u.Err != nil || u.N != size {
					t.Fatal(u.N, u.Err)
				}
			}
			n += k
		}
	}
	for i := range depth {
		pattern.Fill(bufs.At(i), uint64(i))
	}
	round(Write, 0)
	round(Read, depth)
	for i := range depth {
		if !slices.Equal(bufs.At(i), bufs.At(depth+i)) {
			t.Errorf("block %d is not what was written", i)
		}
	}
	us[0] = Unit{Op: Read, Slot: 0, Offset: depth * size, Buf: bufs.At(0)}
	if _, err := q.Submit([]*Unit{&us[0]}); err != nil {
		t.Fatal(err)
	}
	if n, err := q.Reap(out, 1, -1); n != 1 || err != nil || us[0].N != 0 || us[0].Err != nil {
		t.Errorf("behind the end: %d, %v, %d bytes, %v", n, err, us[0].N, us[0].Err)
	}
	if _, err := q.Submit([]*Unit{{Slot: depth}}); err == nil {
		t.Error("a slot that there is not is taken")
	}
	if n, err := q.Reap(out, 1, 0); n != 0 || err != nil {
		t.Errorf("nothing is under way: %d, %v", n, err)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

// An engine that the program has no way for is refused by name.
func TestNoWay(t *testing.T) {
	for _, e := range []job.Engine{job.EngineSMB, job.EngineGoSMB2, job.EngineNDKRead, "other"} {
		if _, err := new(Env).New(context.Background(), Spec{Engine: e}); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", e, err)
		}
	}
}
