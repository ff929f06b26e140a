package client

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// home is a server that can be cut off, and replaced by another with the same files.
type home struct {
	t      testing.TB
	dir    string
	lc     linkConfig
	change func(*server.Config)

	mu sync.Mutex
	// guarded by mu
	l     *linkListener
	stop  func()
	links []*link
}

func newHome(t testing.TB, lc linkConfig, change func(*server.Config)) *home {
	h := &home{t: t, dir: t.TempDir(), lc: lc, change: change}
	h.start()
	t.Cleanup(h.kill)
	return h
}

// start begins to serve.
func (h *home) start() {
	h.t.Helper()
	l := listenLink(h.lc)
	stop := serveDir(h.t, h.dir, l, h.change)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.l, h.stop = l, stop
}

// serveDir serves a directory, as "data", "sealed" and "always", until stop is called.
func serveDir(t testing.TB, dir string, l transport.Listener, change func(*server.Config)) (stop func()) {
	t.Helper()
	fsys, err := posix.New(dir, posix.Config{})
	must(t, err)
	users, err := server.ParseUsers("ann%secret")
	must(t, err)
	cfg := server.Config{Shares: []server.Share{{Name: "data", FS: fsys}, {Name: "sealed", FS: fsys, Encrypt: true},
		{Name: "always", FS: fsys, ContinuousAvailability: true}}, Users: users, ServerName: "NAS"}
	if change != nil {
		change(&cfg)
	}
	srv, err := server.New(cfg)
	must(t, err)
	served := make(chan struct{})
	go func() { // ended by stop
		defer close(served)
		_ = srv.Serve(context.Background(), l)
	}()
	return func() {
		srv.Close()
		<-served
		fsys.Close()
	}
}

// kill ends the server, with all that it knows of its clients.
func (h *home) kill() {
	h.mu.Lock()
	stop := h.stop
	h.l, h.stop = nil, nil
	h.mu.Unlock()
	h.cut()
	if stop != nil {
		stop()
	}
}

// cut ends all connections.
func (h *home) cut() {
	h.mu.Lock()
	links := h.links
	h.links = nil
	h.mu.Unlock()
	for _, l := range links {
		l.Close()
	}
}

func (h *home) Dial(ctx context.Context, _ string) (transport.Conn, error) {
	h.mu.Lock()
	l := h.l
	h.mu.Unlock()
	if l == nil {
		return nil, errLinkClosed
	}
	c, err := l.Dial(ctx, "")
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.links = append(h.links, c.(*link))
	h.mu.Unlock()
	return c, nil
}

func (h *home) Scheme() string { return "memory" }

// again is a configuration that makes sessions anew, quickly.
func again(policy ReopenPolicy) Config {
	return Config{Reconnect: ReconnectConfig{Enabled: true, MinDelay: time.Millisecond, MaxDelay: 10 * time.Millisecond, Reopen: policy}}
}

func (h *home) share(cfg Config, name string) *Share {
	h.t.Helper()
	cfg.User, cfg.Password = "ann", "secret"
	s, err := Dial(context.Background(), h, "nas:445", cfg)
	must(h.t, err)
	h.t.Cleanup(func() { s.Close() })
	sh, err := s.Mount(context.Background(), name)
	must(h.t, err)
	return sh
}

func events() (func(ReconnectEvent), <-chan ReconnectEvent) {
	c := make(chan ReconnectEvent, 100)
	return func(e ReconnectEvent) {
		if e.Up {
			c <- e
		}
	}, c
}
