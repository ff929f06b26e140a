package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
)

// control is the control socket of a server: HTTP with JSON on a Unix socket that
// only its owner can open.
//
//	GET  /status?limit=N             what the server is doing, a statusReport
//	GET  /flight?conn=ID             the flight recorder of a connection, text
//	GET  /trace?id=X[&snaplen=N][&conn=ID]
//	                                 a capture of the iwarp connections until it is
//	                                 stopped; the trailers tell how much was lost
//	POST /trace/stop?id=X            ends that capture
//	POST /close?KIND=ID              closes a connection, session, open or share
//	POST /reload                     reads the configuration again
type control struct {
	srv     *server.Server
	tap     *iwarp.Tap
	flights *flightLog
	reload  func(context.Context) error
	started time.Time

	mu     sync.Mutex
	traces map[string]context.CancelFunc // guarded by mu; by id
}

const (
	// maxTraces is how many captures a server makes at a time, each of at most
	// traceBuffer bytes that its reader has not taken.
	maxTraces   = 4
	traceBuffer = 16 << 20
	// statusLimit is how many entries of each kind `status` shows by default,
	// maxStatusLimit how many it may ask for.
	statusLimit    = 1000
	maxStatusLimit = 100_000
)

// statusReport is what /status answers.
type statusReport struct {
	PID     int       `json:"pid"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	Now     time.Time `json:"now"`
	server.Status
	SMBDirectDeaths deaths `json:"smbdirect_deaths"`
}

// rootControlDir is that of services, with RuntimeDirectory=smbd-rdma.
const rootControlDir = "/run/smbd-rdma"

// controlDir is where control sockets are by default.
func controlDir() string {
	if d := os.Getenv("XDG_RUNTIME_DIR"); d != "" && filepath.IsAbs(d) {
		return filepath.Join(d, "smbd-rdma")
	}
	if os.Geteuid() == 0 {
		return rootControlDir
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("smbd-rdma-%d", os.Geteuid()))
}

// controlDirs are where the servers of a user are looked for: those of the directory in
// which his own are first. A service of root's has no XDG_RUNTIME_DIR, which root has who
// logs on.
func controlDirs(euid int) []string {
	dirs := []string{controlDir()}
	if euid == 0 && dirs[0] != rootControlDir {
		dirs = append(dirs, rootControlDir)
	}
	return dirs
}

// errSocketInUse says that another server listens on the path.
var errSocketInUse = errors.New("another server listens there")

// listenControl listens on a Unix socket at path, which takes the place of one that
// nobody listens on any more. It is made in a directory that nobody else can enter
// and moved to path when its mode is set.
func listenControl(path string) (*net.UnixListener, error) {
	switch fi, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case fi.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s exists and is no socket", path)
	default:
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			c.Close()
			return nil, fmt.Errorf("%s: %w", path, errSocketInUse)
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".c")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	tmp := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it moves
	if err = os.Chmod(tmp, 0o600); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// defaultControl listens in the default directory under a name that no other server
// has.
func defaultControl() (*net.UnixListener, string, error) {
	dir := controlDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", err
	}
	if err := privateDir(dir); err != nil {
		return nil, "", err
	}
	sweep(dir)
	for i := 0; ; i++ {
		name := fmt.Sprintf("%d.sock", os.Getpid())
		if i > 0 {
			name = fmt.Sprintf("%d-%d.sock", os.Getpid(), i)
		}
		path := filepath.Join(dir, name)
		l, err := listenControl(path)
		if errors.Is(err, errSocketInUse) && i < 100 {
			continue
		}
		return l, path, err
	}
}

// privateDir checks that nobody else can put something into dir, which somebody
// may have made before us where all can.
func privateDir(dir string) error {
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !fi.IsDir() || !ok || int(st.Uid) != os.Geteuid() || fi.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is not a directory of ours that only we can write to", dir)
	}
	return nil
}

// sweep removes the sockets of servers that are no more.
func sweep(dir string) {
	names, _ := filepath.Glob(filepath.Join(dir, "*.sock")) // the pattern is good
	for _, n := range names {
		num, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(n), ".sock"), "-")
		pid, err := strconv.Atoi(num)
		if err != nil || pid <= 0 || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		os.Remove(n) // what cannot be removed is found dead by who asks it
	}
}

// serveControl serves the control socket of --control until the function it returns
// is called. Without one to be had by default, the server runs all the same.
func (a *app) serveControl(flag string, c *control) (stop func(), err error) {
	var l *net.UnixListener
	path := flag
	switch flag {
	case "none":
		return func() {}, nil
	case "":
		if l, path, err = defaultControl(); err != nil {
			a.log.Warn("no control socket: status and trace cannot ask this server; give --control PATH", "err", err)
			return func() {}, nil
		}
	default:
		if l, err = listenControl(path); err != nil {
			return nil, fmt.Errorf("--control: %w", err)
		}
	}
	ours, _ := os.Lstat(path)
	ctx, cancel := context.WithCancel(context.Background())
	h := &http.Server{
		Handler: c.handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	done := make(chan struct{})
	go func() { // ended by stop, which waits for it
		defer close(done)
		if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.log.Error("control socket", "err", err)
		}
	}()
	a.log.Info("control socket", "path", path)
	return func() {
		if fi, err := os.Lstat(path); err == nil && ours != nil && os.SameFile(fi, ours) {
			os.Remove(path)
		}
		cancel() // ends captures
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if h.Shutdown(ctx) != nil {
			h.Close()
		}
		<-done
	}, nil
}

func (c *control) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", c.status)
	mux.HandleFunc("GET /flight", c.flight)
	mux.HandleFunc("GET /trace", c.trace)
	mux.HandleFunc("POST /trace/stop", c.stopTrace)
	mux.HandleFunc("POST /close", c.closeSomething)
	mux.HandleFunc("POST /reload", c.reloadNow)
	return mux
}

// number is a number of the query, def if there is none. It answers for itself if
// it is out of range.
func number(w http.ResponseWriter, r *http.Request, key string, def, most uint64) (n uint64, ok bool) {
	s := r.URL.Query().Get(key)
	if s == "" {
		return def, true
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > most {
		http.Error(w, fmt.Sprintf("%s=%q is not a number up to %d", key, s, most), http.StatusBadRequest)
		return 0, false
	}
	return n, true
}

func (c *control) status(w http.ResponseWriter, r *http.Request) {
	limit, ok := number(w, r, "limit", statusLimit, maxStatusLimit)
	if !ok {
		return
	}
	rep := statusReport{
		PID: os.Getpid(), Version: versionLine(), Started: c.started, Now: time.Now(),
		Status: c.srv.Status(int(limit)), SMBDirectDeaths: c.flights.counts(),
	}
	w.Header().Set("Content-Type", "application/json")
	// Who asked may be gone, which is his business.
	_ = json.NewEncoder(w).Encode(&rep)
}

// transport is the connection that the query names.
func (c *control) transport(w http.ResponseWriter, r *http.Request) (transport.Conn, bool) {
	id, ok := number(w, r, "conn", 0, 1<<63)
	if !ok {
		return nil, false
	}
	tc, ok := c.srv.Transport(id)
	if !ok {
		http.Error(w, fmt.Sprintf("no connection %d; status lists those there are", id), http.StatusNotFound)
	}
	return tc, ok
}

func (c *control) flight(w http.ResponseWriter, r *http.Request) {
	tc, ok := c.transport(w, r)
	if !ok {
		return
	}
	f, ok := tc.(transport.FlightRecorder)
	if !ok {
		http.Error(w, "the connection is not one of SMB Direct: it has no flight recorder", http.StatusConflict)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_ = f.FlightRecorder(w)
}

// controlClient talks to the control socket of a server.
type controlClient struct {
	http *http.Client
	path string
}

// dialControl finds the server that --socket names, or the only one there is.
func dialControl(path string) (*controlClient, error) {
	if path == "" {
		dirs := controlDirs(os.Geteuid())
		var live []string
		for _, dir := range dirs {
			var err error
			if live, err = liveControls(dir); err != nil {
				return nil, err
			}
			if len(live) > 0 {
				break
			}
		}
		switch len(live) {
		case 0:
			return nil, fmt.Errorf("no server of this user has its control socket in %s: is one running, with --control? (--socket PATH names another)", strings.Join(dirs, " or "))
		case 1:
			path = live[0]
		default:
			return nil, usagef("there are %d servers: choose one by --socket: %s", len(live), strings.Join(live, " "))
		}
	}
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	return &controlClient{&http.Client{Transport: t}, path}, nil
}

// liveControls lists the sockets in dir that somebody listens on.
func liveControls(dir string) ([]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.sock"))
	if err != nil {
		return nil, err
	}
	var live []string
	for _, n := range names {
		c, err := net.DialTimeout("unix", n, time.Second)
		if err != nil {
			continue
		}
		c.Close()
		live = append(live, n)
	}
	return live, nil
}

func (c *controlClient) close() { c.http.CloseIdleConnections() }

// do sends a request. The body of the answer is the caller's to close, if there is
// no error.
func (c *controlClient) do(ctx context.Context, method, pathAndQuery string) (*http.Response, error) {
	q, err := http.NewRequestWithContext(ctx, method, "http://server"+pathAndQuery, nil)
	if err != nil {
		return nil, err
	}
	r, err := c.http.Do(q)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.path, errors.Unwrap(err))
	}
	if r.StatusCode != http.StatusOK {
		defer r.Body.Close()
		b := make([]byte, 1024)
		n, _ := r.Body.Read(b)
		if s := strings.TrimSpace(string(b[:n])); s != "" {
			return nil, errors.New(s)
		}
		return nil, fmt.Errorf("%s: %s", c.path, r.Status)
	}
	return r, nil
}
