package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// [MS-SMB2] 3.2.4.4: when the connection is cut the open is claimed, with its locks and
// its lease, and nobody sees anything of it.
func TestReconnectClaimsOpens(t *testing.T) {
	for _, c := range []struct {
		name  string
		share string
		lc    linkConfig
		cfg   Config
		srv   func(*server.Config)
	}{
		{name: "3.1.1", share: "data"},
		{name: "3.0.2", share: "data", cfg: Config{MaxDialect: SMB302}},
		{name: "2.1", share: "data", cfg: Config{MaxDialect: SMB210}},
		{name: "encrypted", share: "sealed"},
		{name: "signed", share: "data", cfg: Config{Signing: SigningRequired}},
		{name: "persistent", share: "always"},
		{name: "RDMA", share: "data", lc: linkConfig{rdma: true}, srv: leaveSigning},
		{name: "RDMA, encrypted", share: "data", lc: linkConfig{rdma: true}, cfg: Config{Encryption: EncryptRequired}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHome(t, c.lc, c.srv)
			cfg := again(ReopenNever)
			cfg.MaxDialect, cfg.Signing, cfg.Encryption = c.cfg.MaxDialect, c.cfg.Signing, c.cfg.Encryption
			tell, up := events()
			cfg.Reconnect.OnEvent = tell
			sh := h.share(cfg, c.share)
			ctx := context.Background()
			var broken atomic.Int32
			l := sh.NewLease(LeaseOptions{Want: leaseAll, OnBreak: func(_ context.Context, b LeaseBreak) LeaseState {
				broken.Add(1)
				return b.To
			}})
			f, err := sh.CreateFile(ctx, "f", writable(l))
			must(t, err)
			plain, err := sh.OpenFile(ctx, "g", os.O_RDWR|os.O_CREATE, 0o666)
			must(t, err)
			data := random(200_000)
			_, err = f.WriteAt(data, 0)
			must(t, err)
			must(t, plain.Lock(ctx, 0, 10, LockOptions{}))
			generation := l.Generation()
			for range 3 {
				h.cut()
				e := <-up
				if e.Reclaimed != 2 || e.Reopened != 0 || e.Stale != 0 || e.Attempts < 1 || e.Err == nil {
					t.Fatalf("%+v", e)
				}
				got := make([]byte, len(data))
				if n, err := f.ReadAt(got, 0); n != len(got) || err != nil || !bytes.Equal(got, data) {
					t.Fatal(n, err)
				}
				_, err = f.WriteAt(data[:5000], 5000)
				must(t, err)
				copy(data[5000:], data[:5000])
				must(t, f.Sync(ctx))
				if _, err := sh.Stat(ctx, "f"); err != nil {
					t.Fatal(err)
				}
			}
			if l.State() != leaseAll || l.Generation() != generation || broken.Load() != 0 {
				t.Fatalf("state %v, generation %d, was %d, %d breaks", l.State(), l.Generation(), generation, broken.Load())
			}
			other, err := h.share(Config{}, c.share).OpenFile(ctx, "g", os.O_RDWR, 0)
			if c.share == "always" { // what is persistent has kept it to itself
				if err == nil {
					err = other.Lock(ctx, 0, 10, LockOptions{})
				}
			} else {
				must(t, err)
				err = other.Lock(ctx, 0, 10, LockOptions{})
			}
			if err == nil {
				t.Fatal("the lock was lost")
			}
			must(t, plain.Unlock(ctx, 0, 10))
			must(t, f.Close())
			must(t, plain.Close())
			if n := sh.Session().Stats().Reconnects; n != 3 {
				t.Fatalf("%d reconnections, want 3", n)
			}
		})
	}
}

// A server that was started again has no opens: what becomes of them is the policy's,
// and a file is opened again only if it is the same.
func TestReconnectToServerThatWasStartedAgain(t *testing.T) {
	for _, c := range []struct {
		name      string
		policy    ReopenPolicy
		meanwhile func(dir string) error
		io, sync  error // of the file after that
		event     ReconnectEvent
	}{
		{name: "never", policy: ReopenNever, io: ErrStale, sync: ErrStale, event: ReconnectEvent{Stale: 1}},
		{name: "the same", policy: ReopenSame, sync: ErrUncertain, event: ReconnectEvent{Reopened: 1}},
		{name: "trusting", policy: ReopenSameTrusting, event: ReconnectEvent{Reopened: 1}},
		{name: "removed", policy: ReopenSame, meanwhile: func(dir string) error { return os.Remove(dir + "/f") },
			io: ErrStale, sync: ErrStale, event: ReconnectEvent{Stale: 1}},
		{name: "another", policy: ReopenSame, meanwhile: func(dir string) error {
			if err := os.WriteFile(dir+"/other", []byte("other"), 0o666); err != nil {
				return err
			}
			return os.Rename(dir+"/other", dir+"/f")
		}, io: ErrStale, sync: ErrStale, event: ReconnectEvent{Stale: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHome(t, linkConfig{}, nil)
			cfg := again(c.policy)
			tell, up := events()
			cfg.Reconnect.OnEvent = tell
			sh := h.share(cfg, "data")
			ctx := context.Background()
			var got LeaseBreak
			broken := make(chan struct{}, 1)
			l := sh.NewLease(LeaseOptions{Want: leaseAll, OnBreak: func(_ context.Context, b LeaseBreak) LeaseState {
				if b.Lease.State() != 0 {
					t.Errorf("%v while the loss is told of", b.Lease.State())
				}
				got = b
				broken <- struct{}{}
				return b.To
			}})
			f, err := sh.CreateFile(ctx, "f", writable(l))
			must(t, err)
			_, err = f.WriteAt([]byte("before"), 0)
			must(t, err)
			generation := l.Generation()
			h.kill()
			if c.meanwhile != nil {
				must(t, c.meanwhile(h.dir))
			}
			h.start()
			e := <-up
			if e.Reclaimed != c.event.Reclaimed || e.Reopened != c.event.Reopened || e.Stale != c.event.Stale {
				t.Fatalf("%+v, want %+v", e, c.event)
			}
			<-broken
			if got.From != leaseAll || got.To != 0 || !got.Lost || l.Generation() == generation {
				t.Fatalf("%+v, generation %d", got, l.Generation())
			}
			if _, err := f.WriteAt([]byte("after"), 10); !errors.Is(err, c.io) {
				t.Fatalf("write: %v, want %v", err, c.io)
			}
			if err := f.Sync(ctx); !errors.Is(err, c.sync) {
				t.Fatalf("sync: %v, want %v", err, c.sync)
			}
			if c.io == nil {
				must(t, f.Sync(ctx))
				data, err := os.ReadFile(h.dir + "/f")
				if err != nil || string(data) != "before\x00\x00\x00\x00after" {
					t.Fatalf("%q, %v", data, err)
				}
				must(t, f.Close())
			} else if data, _ := os.ReadFile(h.dir + "/f"); bytes.Contains(data, []byte("after")) {
				t.Fatal("another file was written")
			}
			// The share works in any case.
			must(t, sh.WriteFile(ctx, "new", []byte("x"), 0o666))
		})
	}
}

// Locks that were lost with the server are not thought to be held.
func TestReconnectLosesLocks(t *testing.T) {
	h := newHome(t, linkConfig{}, nil)
	sh := h.share(again(ReopenSame), "data")
	ctx := context.Background()
	f, err := sh.Create(ctx, "f")
	must(t, err)
	must(t, f.Lock(ctx, 0, 1, LockOptions{}))
	must(t, f.Lock(ctx, 1, 1, LockOptions{}))
	h.kill()
	h.start()
	for name, call := range map[string]func() error{
		"write":  func() error { _, err := f.WriteAt([]byte("x"), 0); return err },
		"read":   func() error { _, err := f.ReadAt(make([]byte, 1), 0); return err },
		"lock":   func() error { return f.Lock(ctx, 2, 1, LockOptions{}) },
		"unlock": func() error { return f.Unlock(ctx, 0, 1) },
	} {
		if err := call(); !errors.Is(err, ErrLocksLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := f.Unlock(ctx, 1, 1); !errors.Is(err, ErrLocksLost) {
		t.Fatal(err)
	}
	must(t, f.Lock(ctx, 0, 1, LockOptions{}))
	_, err = f.WriteAt([]byte("x"), 0)
	must(t, err)
	must(t, f.Unlock(ctx, 0, 1))
	must(t, f.Close())
}

// What must not be done twice, and whose answer was lost, is not done twice; what was
// never sent is done.
func TestReconnectDoesNotRepeat(t *testing.T) {
	for _, c := range []struct {
		name string
		call func(ctx context.Context, sh *Share) error
		want error // if the answer was lost
	}{
		{"mkdir", func(ctx context.Context, sh *Share) error { return sh.Mkdir(ctx, "new") }, ErrUncertain},
		{"create new", func(ctx context.Context, sh *Share) error {
			f, err := sh.OpenFile(ctx, "new", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
			if err == nil {
				err = f.Close()
			}
			return err
		}, ErrUncertain},
		{"rename", func(ctx context.Context, sh *Share) error { return sh.Rename(ctx, "old", "other", false) }, ErrUncertain},
		{"remove", func(ctx context.Context, sh *Share) error { return sh.Remove(ctx, "old") }, ErrUncertain},
		{"stat", func(ctx context.Context, sh *Share) error { _, err := sh.Stat(ctx, "old"); return err }, nil},
		{"list", func(ctx context.Context, sh *Share) error { _, err := sh.ReadDir(ctx, ""); return err }, nil},
		{"open", func(ctx context.Context, sh *Share) error {
			f, err := sh.OpenFile(ctx, "old", os.O_RDWR|os.O_CREATE, 0o666)
			if err == nil {
				_, err = f.WriteAt([]byte("x"), 0)
				err = errors.Join(err, f.Close())
			}
			return err
		}, nil},
		{"statfs", func(ctx context.Context, sh *Share) error { _, err := sh.StatFS(ctx); return err }, nil},
		{"mount", func(ctx context.Context, sh *Share) error { _, err := sh.Session().Mount(ctx, "sealed"); return err }, nil},
	} {
		for _, when := range []string{"not sent", "request lost", "answer lost"} {
			t.Run(c.name+", "+when, func(t *testing.T) {
				h := newHome(t, linkConfig{}, nil)
				sh := h.share(again(ReopenSame), "data")
				must(t, os.WriteFile(h.dir+"/old", nil, 0o666))
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				defer cancel()
				want := c.want
				h.mu.Lock()
				l := h.links[0]
				h.mu.Unlock()
				switch when {
				case "request lost":
					l.onSend = func([]byte) { l.Close() } // it is seen before it arrives
				case "answer lost":
					l.peer.onSend = func([]byte) { l.Close() }
				default:
					want = nil
					h.kill()
					for sh.Session().generation.Load() == 0 {
						time.Sleep(100 * time.Microsecond)
					}
					time.AfterFunc(5*time.Millisecond, h.start)
				}
				if err := c.call(ctx, sh); !errors.Is(err, want) {
					t.Fatalf("%v, want %v", err, want)
				}
			})
		}
	}
}

// Under load, with the connection cut all the time and the server now and then replaced,
// every byte that was written is there, and what is read is what was written.
func TestReconnectUnderLoad(t *testing.T) {
	for _, c := range []struct {
		name   string
		lc     linkConfig
		change func(*server.Config)
	}{{"messages", linkConfig{}, nil}, {"RDMA", linkConfig{rdma: true}, leaveSigning}} {
		t.Run(c.name, func(t *testing.T) {
			h := newHome(t, c.lc, c.change)
			cfg := again(ReopenSameTrusting)
			cfg.Window, cfg.MaxIOSize = 3, 60_000
			sh := h.share(cfg, "data")
			ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
			defer cancel()
			stop := make(chan struct{})
			var cutter, workers sync.WaitGroup
			cutter.Go(func() {
				r := rand.New(rand.NewPCG(1, 2))
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					case <-time.After(time.Duration(5+r.IntN(10)) * time.Millisecond):
					}
					if i%5 == 4 {
						h.kill()
						h.start()
					} else {
						h.cut()
					}
				}
			})
			for i := range 4 {
				workers.Go(func() {
					r := rand.New(rand.NewPCG(uint64(i), 7))
					name := fmt.Sprint("f", i)
					f, err := sh.OpenFile(ctx, name, os.O_RDWR|os.O_CREATE, 0o666)
					if err != nil {
						t.Error(err)
						return
					}
					want := make([]byte, 300_000)
					if _, err := f.WriteAtContext(ctx, want, 0); err != nil {
						t.Error(err)
						return
					}
					for n := range 60 {
						off := r.IntN(len(want) - 100_000)
						p := want[off : off+1+r.IntN(100_000)]
						for j := range p {
							p[j] = byte(n + j)
						}
						if _, err := f.WriteAtContext(ctx, p, int64(off)); err != nil {
							t.Error(err)
							return
						}
						got := make([]byte, len(want))
						if k, err := f.ReadAtContext(ctx, got, 0); k != len(want) || err != nil || !bytes.Equal(got, want) {
							t.Errorf("read %d: %v", k, err)
							return
						}
						if _, err := sh.Stat(ctx, name); err != nil {
							t.Error(err)
							return
						}
					}
					if err := f.Sync(ctx); err != nil {
						t.Error(err)
					}
					if err := f.Close(); err != nil {
						t.Error(err)
					}
					if disk, err := os.ReadFile(filepath.Join(h.dir, name)); err != nil || !bytes.Equal(disk, want) {
						t.Error("other bytes on disk", err)
					}
				})
			}
			workers.Wait()
			close(stop)
			cutter.Wait()
			s := sh.Session()
			if s.Stats().Reconnects == 0 {
				t.Error("the connection was never made again")
			}
			if n := s.TransportStats().Registrations; n != 0 {
				t.Errorf("%d registrations left", n)
			}
		})
	}
}

// Calls wait for the server as long as they may, and the session ends when it has had
// its time, or is closed, or its user is not taken any more.
func TestReconnectEnds(t *testing.T) {
	t.Run("a call's time is over", func(t *testing.T) {
		h := newHome(t, linkConfig{}, nil)
		cfg := again(ReopenNever)
		cfg.Timeout = 50 * time.Millisecond
		sh := h.share(cfg, "data")
		h.kill()
		if _, err := sh.Stat(context.Background(), ""); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := sh.Stat(ctx, ""); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		h.start()
		for {
			if _, err := sh.Stat(context.Background(), ""); err == nil {
				break
			} else if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
		}
	})
	t.Run("the session is closed", func(t *testing.T) {
		h := newHome(t, linkConfig{}, nil)
		sh := h.share(again(ReopenNever), "data")
		h.kill()
		got := make(chan error)
		go func() { _, err := sh.Stat(context.Background(), ""); got <- err }()
		must(t, sh.Session().Close())
		if err := <-got; !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
		<-sh.Session().Done()
	})
	t.Run("it is given up", func(t *testing.T) {
		h := newHome(t, linkConfig{}, nil)
		cfg := again(ReopenNever)
		cfg.Reconnect.GiveUp = 20 * time.Millisecond
		sh := h.share(cfg, "data")
		h.kill()
		<-sh.Session().Done()
		if _, err := sh.Stat(context.Background(), ""); err == nil || sh.Session().Err() == nil {
			t.Fatal(err)
		}
	})
	t.Run("the user is not taken", func(t *testing.T) {
		h := newHome(t, linkConfig{}, nil)
		sh := h.share(again(ReopenNever), "data")
		h.kill()
		h.change = func(c *server.Config) { c.Users, _ = server.ParseUsers("ann%other") }
		h.start()
		<-sh.Session().Done()
		if err := sh.Session().Err(); !errors.Is(err, fs.ErrPermission) {
			t.Fatal(err)
		}
	})
	t.Run("the share is gone", func(t *testing.T) {
		h := newHome(t, linkConfig{}, nil)
		sh := h.share(again(ReopenSame), "data")
		f, err := sh.Create(context.Background(), "f")
		must(t, err)
		h.kill()
		h.change = func(c *server.Config) { c.Shares = c.Shares[1:] }
		h.start()
		if _, err := sh.Stat(context.Background(), ""); !errors.Is(err, ErrStale) || !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrStale) {
			t.Fatal(err)
		}
	})
	if _, err := New(context.Background(), &link{once: new(sync.Once), done: make(chan struct{})}, Config{Reconnect: ReconnectConfig{Enabled: true}}); !errors.Is(err, fs.ErrInvalid) {
		t.Error(err)
	}
}

// A LOCK whose answer was lost is known again by its LockSequence ([MS-SMB2] 3.3.5.14):
// there are not two locks, of which one would stay.
func TestReconnectLockOnce(t *testing.T) {
	h := newHome(t, linkConfig{}, nil)
	sh := h.share(again(ReopenNever), "data")
	ctx := context.Background()
	f, err := sh.Create(ctx, "f")
	must(t, err)
	h.mu.Lock()
	l := h.links[0]
	h.mu.Unlock()
	l.peer.onSend = func([]byte) { l.Close() }
	must(t, f.Lock(ctx, 0, 10, LockOptions{Shared: true}))
	must(t, f.Unlock(ctx, 0, 10))
	g, err := sh.OpenFile(ctx, "f", os.O_RDWR, 0)
	must(t, err)
	must(t, g.Lock(ctx, 0, 10, LockOptions{}))
	must(t, errors.Join(f.Close(), g.Close()))
}

// Directories are opened again whatever the policy: a listing goes on without a name
// twice, and who watches is told to look.
func TestReconnectDirectories(t *testing.T) {
	h := newHome(t, linkConfig{}, nil)
	sh := h.share(again(ReopenNever), "data")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	const many = 1200
	for i := range many {
		must(t, os.WriteFile(fmt.Sprintf("%s/a file with a name that takes quite some room in an answer %d", h.dir, i), nil, 0o666))
	}
	w, err := sh.Watch(ctx, "", WatchOptions{})
	must(t, err)
	d, err := sh.Open(ctx, "")
	must(t, err)
	names := map[string]bool{}
	for i := 0; ; i++ {
		es, err := d.ReadDirContext(ctx, 500)
		for _, e := range es {
			if names[e.Name()] {
				t.Fatalf("%s twice", e.Name())
			}
			names[e.Name()] = true
		}
		if err == io.EOF {
			break
		}
		must(t, err)
		switch i {
		case 1:
			h.cut()
		case 3:
			h.kill()
			h.start()
		}
	}
	if len(names) != many {
		t.Fatalf("%d names, want %d", len(names), many)
	}
	got := make(chan error)
	go func() {
		cs, err := w.Next(ctx)
		if len(cs) > 0 {
			err = fmt.Errorf("changes %v", cs)
		}
		got <- err
	}()
	for sh.Session().Stats().InFlight == 0 {
		time.Sleep(100 * time.Microsecond)
	}
	h.cut()
	must(t, <-got)
	go func() { _, err := w.Next(ctx); got <- err }()
	must(t, os.WriteFile(h.dir+"/new", nil, 0o666))
	for i := 0; ; i++ { // until it watches again
		select {
		case err := <-got:
			must(t, err)
		case <-time.After(time.Millisecond):
			must(t, os.WriteFile(fmt.Sprint(h.dir, "/new", i), nil, 0o666))
			continue
		}
		break
	}
	must(t, errors.Join(w.Close(), d.Close()))
}

// A copy on the server goes on with the key of the open that was claimed.
func TestReconnectCopies(t *testing.T) {
	h := newHome(t, linkConfig{}, nil)
	sh := h.share(again(ReopenNever), "data")
	ctx := context.Background()
	data := random(40 << 20)
	must(t, os.WriteFile(h.dir+"/f", data, 0o666))
	src, err := sh.Open(ctx, "f")
	must(t, err)
	dst, err := sh.Create(ctx, "g")
	must(t, err)
	h.mu.Lock()
	l := h.links[len(h.links)-1]
	h.mu.Unlock()
	n := 0
	l.onSend = func([]byte) {
		if n++; n == 8 {
			l.Close()
		}
	}
	if n, err := dst.CopyRange(ctx, 0, src, 0, int64(len(data))); n != int64(len(data)) || err != nil {
		t.Fatal(n, err)
	}
	must(t, errors.Join(src.Close(), dst.Close()))
	got, err := os.ReadFile(h.dir + "/g")
	must(t, err)
	if !bytes.Equal(got, data) {
		t.Fatal("other bytes")
	}
	if sh.Session().Stats().Reconnects != 1 {
		t.Fatal("nothing was cut")
	}
}

// A connection from which nothing comes any more is given up: at once by who waits for
// an answer, and by who only has a lease, which it would else believe in.
func TestReconnectFromSilence(t *testing.T) {
	for _, idle := range []bool{false, true} {
		t.Run(fmt.Sprintf("idle %v", idle), func(t *testing.T) {
			h := newHome(t, linkConfig{}, nil)
			cfg := again(ReopenNever)
			cfg.Channels.Stall = 20 * time.Millisecond
			tell, up := events()
			cfg.Reconnect.OnEvent = tell
			sh := h.share(cfg, "data")
			ctx := context.Background()
			l := sh.NewLease(LeaseOptions{Want: leaseAll})
			f, err := sh.CreateFile(ctx, "f", writable(l))
			must(t, err)
			h.mu.Lock()
			c := h.links[0]
			h.mu.Unlock()
			c.mute.Store(true)
			if !idle {
				_, err := f.WriteAt([]byte("x"), 0)
				must(t, err)
			}
			if e := <-up; e.Reclaimed != 1 || !errors.Is(e.Err, os.ErrDeadlineExceeded) {
				t.Fatalf("%+v", e)
			}
			if l.State() != leaseAll {
				t.Fatal(l.State())
			}
			must(t, f.Close())
		})
	}
}

// A session with several connections that loses all of them is made anew with as many.
func TestReconnectMakesChannelsAgain(t *testing.T) {
	m := newMultiSite(t, nil)
	cfg := again(ReopenNever)
	cfg.Reconnect.Dial = func(ctx context.Context) (transport.Conn, error) {
		c, err := m.plain.Dial(ctx, "")
		if err == nil {
			m.keep(c)
		}
		return c, err
	}
	sh := m.share(t, cfg)
	s := sh.Session()
	ctx := context.Background()
	f, err := sh.Create(ctx, "f")
	must(t, err)
	data := random(1 << 20)
	for i := range 3 {
		if n := len(s.Channels()); n != 2 {
			t.Fatalf("%d channels, want 2", n)
		}
		for _, rdma := range []bool{true, false} { // else one comes to the aid of the other
			m.refuseWith(rdma, errLinkClosed)
		}
		m.cut(true)
		m.cut(false)
		for s.generation.Load() <= uint64(i) {
			time.Sleep(100 * time.Microsecond)
		}
		for _, rdma := range []bool{true, false} {
			m.refuseWith(rdma, nil)
		}
		if n, err := f.WriteAt(data, int64(i)); n != len(data) || err != nil {
			t.Fatal(n, err)
		}
		got := make([]byte, len(data))
		if n, err := f.ReadAt(got, int64(i)); n != len(data) || err != nil || !bytes.Equal(got, data) {
			t.Fatal(n, err)
		}
		for len(s.Channels()) < 2 {
			time.Sleep(time.Millisecond)
		}
	}
	must(t, f.Close())
	if n := s.Stats().Reconnects; n != 3 {
		t.Fatalf("%d reconnections, want 3", n)
	}
}

// What others have done while the connection was cut is told of: the server has not
// kept the open from them, and its lease is lost.
func TestReconnectAfterOthersHadTheFile(t *testing.T) {
	h := newHome(t, linkConfig{}, nil)
	cfg := again(ReopenSame)
	var refuse atomic.Bool
	cfg.Reconnect.Dial = func(ctx context.Context) (transport.Conn, error) {
		if refuse.Load() {
			return nil, errLinkClosed
		}
		return h.Dial(ctx, "")
	}
	tell, up := events()
	cfg.Reconnect.OnEvent = tell
	sh := h.share(cfg, "data")
	ctx := context.Background()
	lost := make(chan LeaseBreak, 1)
	l := sh.NewLease(LeaseOptions{Want: leaseAll, OnBreak: func(_ context.Context, b LeaseBreak) LeaseState {
		lost <- b
		return b.To
	}})
	f, err := sh.CreateFile(ctx, "f", writable(l))
	must(t, err)
	refuse.Store(true)
	h.cut()
	for l.State() != 0 {
		time.Sleep(100 * time.Microsecond)
	}
	must(t, h.share(Config{}, "data").WriteFile(ctx, "f", []byte("theirs"), 0o666))
	refuse.Store(false)
	if e := <-up; e.Reopened != 1 {
		t.Fatalf("%+v", e)
	}
	if b := <-lost; b.From != leaseAll || !b.Lost {
		t.Fatalf("%+v", b)
	}
	got := make([]byte, 6)
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != "theirs" {
		t.Fatal(got, err)
	}
	must(t, f.Close())
}

// What the server has answered, and lost with its machine, before the writer looked at the
// answer: the next Sync tells of it.
func TestReconnectDoubtsWhatNobodyHasSeenYet(t *testing.T) {
	h := newHome(t, linkConfig{}, nil)
	cfg := again(ReopenSame)
	tell, up := events()
	cfg.Reconnect.OnEvent = tell
	sh := h.share(cfg, "data")
	ctx := context.Background()
	f, err := sh.Create(ctx, "f")
	must(t, err)
	must(t, f.Sync(ctx))
	data := random(streamChunk)
	n, err := f.ReadFrom(io.MultiReader(bytes.NewReader(data), readerFunc(func([]byte) (int, error) {
		// The first piece has been sent, and this is the next one.
		for sh.Session().Stats().InFlight > 0 {
			time.Sleep(100 * time.Microsecond)
		}
		h.kill()
		h.start()
		<-up
		return 0, io.EOF
	})))
	if n != streamChunk || err != nil {
		t.Fatal(n, err)
	}
	if err := f.Sync(ctx); !errors.Is(err, ErrUncertain) {
		t.Errorf("sync: %v", err)
	}
	must(t, f.Sync(ctx))
	must(t, f.Close())
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
