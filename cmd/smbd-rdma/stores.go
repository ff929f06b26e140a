package main

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/internal/smbconf"
	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
)

// storeKey says what a share holds, and how: shares and users that have the same share
// one file system, which is closed when nobody has it any more.
type storeKey struct {
	path          string
	share         string // of a share in memory, which is its own; nothing else then
	readOnly      bool
	caseSensitive bool
	noDOS         bool
	showDotFiles  bool
	snapshots     string
}

// stores are the file systems of shares. The zero value is ready.
type stores struct {
	mu      sync.Mutex
	m       map[storeKey]*store // guarded by mu
	opening sync.WaitGroup      // file systems that are being opened
}

type store struct {
	fs    vfs.FS
	err   error
	ready chan struct{} // closed when fs or err is there
	users int           // guarded by stores.mu
}

// get opens a file system, or finds it open or being opened. release gives it back; only
// its first call does something. Storage that hangs is waited for until ctx ends; however
// many ask for it, it is opened once.
func (s *stores) get(ctx context.Context, k storeKey, open func() (vfs.FS, error)) (fsys vfs.FS, release func(), err error) {
	s.mu.Lock()
	st := s.m[k]
	if st == nil {
		if s.m == nil {
			s.m = map[storeKey]*store{}
		}
		st = &store{ready: make(chan struct{})}
		s.m[k] = st
		s.opening.Add(1)
		go s.open(k, st, open) // ends with the system call that it is in; wait waits
	}
	st.users++
	s.mu.Unlock()
	release = s.releaser(k, st)
	select {
	case <-st.ready:
		err = st.err
	case <-ctx.Done():
		err = fmt.Errorf("%s%s does not answer: %w", k.path, k.share, ctx.Err())
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return st.fs, release, nil
}

// open opens a file system for who waits for it, and closes it if nobody does any more.
func (s *stores) open(k storeKey, st *store, open func() (vfs.FS, error)) {
	defer s.opening.Done()
	st.fs, st.err = open()
	s.mu.Lock()
	close(st.ready)
	s.mu.Unlock()
	s.leave(k, st, 0)
}

// wait returns when no file system is being opened any more, or ctx ends. get is not
// called any more.
func (s *stores) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { // ends when storage that hangs does, at the latest with the process
		s.opening.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// releaser is the release of one user of a store.
func (s *stores) releaser(k storeKey, st *store) func() {
	return sync.OnceFunc(func() { s.leave(k, st, 1) })
}

// leave takes users from a store, which goes with the last one, but not while it is being
// opened: who asks for it meanwhile is not to hang in a call of his own.
func (s *stores) leave(k storeKey, st *store, users int) {
	s.mu.Lock()
	st.users -= users
	last := false
	select {
	case <-st.ready:
		if last = st.users == 0 && s.m[k] == st; last {
			delete(s.m, k)
		}
	default:
	}
	s.mu.Unlock()
	if last && st.err == nil {
		_ = st.fs.Close() // nothing is written by it
	}
}

// borrow takes a file system that is open already, as get does; false if it is not.
func (s *stores) borrow(k storeKey) (fsys vfs.FS, release func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.m[k]
	if st == nil {
		return nil, nil, false
	}
	select {
	case <-st.ready:
	default:
		return nil, nil, false
	}
	if st.err != nil {
		return nil, nil, false
	}
	st.users++
	return st.fs, s.releaser(k, st), true
}

// keys are those of all file systems there are.
func (s *stores) keys() []storeKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.m))
}

// open opens what the share holds at a path, or finds it open.
func (sh *shareSettings) open(ctx context.Context, st *stores, path string) (fsys vfs.FS, release func(), err error) {
	k := sh.store(path)
	return st.get(ctx, k, func() (vfs.FS, error) {
		if isMemory(path) {
			return openMemory(path, sh.caseSensitive)
		}
		return posix.New(path, posix.Config{
			ReadOnly: k.readOnly, CaseSensitive: k.caseSensitive, NoDOSAttributes: k.noDOS, ShowDotFiles: k.showDotFiles, SnapshotDir: k.snapshots,
		})
	})
}

// store says what a share holds at a path. A share in memory is the same whatever else
// is said of it: what it holds is nowhere else.
func (sh *shareSettings) store(path string) storeKey {
	if isMemory(path) {
		return storeKey{path: memoryScheme, share: strings.ToUpper(sh.Name)}
	}
	return storeKey{
		path: path, readOnly: sh.ReadOnly && len(sh.WriteList) == 0, caseSensitive: sh.caseSensitive,
		noDOS: sh.NoDOSAttributes, showDotFiles: !sh.HideDotFiles, snapshots: sh.snapshots,
	}
}

// staticPath is the path of a share that is the same for all who connect.
func (sh *shareSettings) staticPath() string { return strings.ReplaceAll(sh.path, "%%", "%") }

// opener is the Share.Open of a share.
func (sh *shareSettings) opener(st *stores) func(context.Context, server.Client) (vfs.FS, func(), error) {
	settings := *sh
	return func(ctx context.Context, c server.Client) (vfs.FS, func(), error) {
		path := settings.path
		if smbconf.Dynamic(path) {
			who := variables(c)
			var ok bool
			if path, ok = who.Expand(path); !ok {
				return nil, nil, fmt.Errorf("path = %s: %w", settings.path, errPath)
			}
		} else {
			path = settings.staticPath()
		}
		return settings.open(ctx, st, path)
	}
}

// variables are the values of those that depend on who connects.
func variables(c server.Client) smbconf.Client {
	who := smbconf.Client{User: c.Account.Name, Session: strings.ToLower(c.User), Home: c.Account.Home, Domain: c.Domain, Share: c.Share, Dialect: dialectNames[c.Dialect]}
	if len(c.Account.Groups) > 0 {
		who.Group = c.Account.Groups[0]
	}
	if c.Addr != nil {
		who.Address = hostOf(c.Addr)
	}
	return who
}

// expand is the Share.Expand of shares with variables.
func expand(value string, c server.Client) (string, bool) {
	who := variables(c)
	return who.Expand(value)
}

// dialectNames are Samba's, for %R.
var dialectNames = map[uint16]string{
	server.Dialect202: "SMB2_02", server.Dialect210: "SMB2_10", server.Dialect300: "SMB3_00", server.Dialect302: "SMB3_02", server.Dialect311: "SMB3_11",
}

// errPath is a path that cannot be made for who connects.
var errPath = fmt.Errorf("no path for this user: %w", fs.ErrNotExist)
