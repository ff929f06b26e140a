package main

import (
	"context"
	"fmt"
	"io/fs"
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
	share         string // of a share in memory, which is its own
	readOnly      bool
	caseSensitive bool
	noDOS         bool
	showDotFiles  bool
	snapshots     string
}

// stores are the file systems of shares. The zero value is ready.
type stores struct {
	mu sync.Mutex
	m  map[storeKey]*store // guarded by mu
}

type store struct {
	fs    vfs.FS
	err   error
	ready chan struct{} // closed when fs or err is there
	users int           // guarded by stores.mu
}

// get opens a file system, or finds it open. release gives it back; only its first call
// does something.
func (s *stores) get(k storeKey) (fsys vfs.FS, release func(), err error) {
	s.mu.Lock()
	st := s.m[k]
	first := st == nil
	if first {
		if s.m == nil {
			s.m = map[storeKey]*store{}
		}
		st = &store{ready: make(chan struct{})}
		s.m[k] = st
	}
	st.users++
	s.mu.Unlock()
	if first {
		st.fs, st.err = k.open()
		close(st.ready)
	}
	<-st.ready
	release = sync.OnceFunc(func() {
		s.mu.Lock()
		st.users--
		last := st.users == 0
		if last {
			delete(s.m, k)
		}
		s.mu.Unlock()
		if last && st.err == nil {
			_ = st.fs.Close() // nothing is written by it
		}
	})
	if st.err != nil {
		release()
		return nil, nil, st.err
	}
	return st.fs, release, nil
}

// all are the file systems there are, with where they are.
func (s *stores) all() map[string]vfs.FS {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]vfs.FS{}
	for k, st := range s.m {
		select {
		case <-st.ready:
			if st.err == nil {
				out[k.path] = st.fs
			}
		default:
		}
	}
	return out
}

func (k storeKey) open() (vfs.FS, error) {
	if isMemory(k.path) {
		return openMemory(k)
	}
	return posix.New(k.path, posix.Config{
		ReadOnly: k.readOnly, CaseSensitive: k.caseSensitive, NoDOSAttributes: k.noDOS, ShowDotFiles: k.showDotFiles, SnapshotDir: k.snapshots,
	})
}

// store says what a share holds at a path.
func (sh *shareSettings) store(path string) storeKey {
	k := storeKey{
		path: path, readOnly: sh.ReadOnly && len(sh.WriteList) == 0, caseSensitive: sh.caseSensitive,
		noDOS: sh.NoDOSAttributes, showDotFiles: !sh.HideDotFiles, snapshots: sh.snapshots,
	}
	if isMemory(path) {
		k.share, k.readOnly, k.snapshots = strings.ToUpper(sh.Name), false, ""
	}
	return k
}

// opener is the Share.Open of a share.
func (sh *shareSettings) opener(st *stores) func(context.Context, server.Client) (vfs.FS, func(), error) {
	settings := *sh
	return func(_ context.Context, c server.Client) (vfs.FS, func(), error) {
		path := settings.path
		if smbconf.Dynamic(path) {
			who := smbconf.Client{User: c.Account.Name, Session: strings.ToLower(c.User), Home: c.Account.Home, Domain: c.Domain, Share: c.Share, Dialect: dialectNames[c.Dialect]}
			if len(c.Account.Groups) > 0 {
				who.Group = c.Account.Groups[0]
			}
			if c.Addr != nil {
				who.Address = hostOf(c.Addr)
			}
			var ok bool
			if path, ok = who.Expand(path); !ok {
				return nil, nil, fmt.Errorf("path = %s: %w", settings.path, errPath)
			}
		} else {
			path = strings.ReplaceAll(path, "%%", "%")
		}
		return st.get(settings.store(path))
	}
}

// dialectNames are Samba's, for %R.
var dialectNames = map[uint16]string{
	server.Dialect202: "SMB2_02", server.Dialect210: "SMB2_10", server.Dialect300: "SMB3_00", server.Dialect302: "SMB3_02", server.Dialect311: "SMB3_11",
}

// errPath is a path that cannot be made for who connects.
var errPath = fmt.Errorf("no path for this user: %w", fs.ErrNotExist)
