//go:build linux

package posix

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

const (
	// snapshotLayout is the name of a snapshot, as clients write it in paths
	// ([MS-SMB2] 2.2.32.2).
	snapshotLayout = "@GMT-2006.01.02-15.04.05"
	// maxSnapshots bounds what is listed, and what is open.
	maxSnapshots = 4096
)

// snapshots are the earlier states that have been opened; each holds a
// descriptor.
type snapshots struct {
	mu     sync.Mutex
	open   map[time.Time]*FS // guarded by mu
	closed bool              // guarded by mu
}

// Snapshots implements vfs.Snapshotter.
func (f *FS) Snapshots(ctx context.Context) ([]time.Time, error) {
	if err := f.begin(ctx, "snapshots", vfs.Root); err != nil {
		return nil, err
	}
	defer f.root.release()
	if f.cfg.SnapshotDir == "" {
		return nil, nil
	}
	dir, err := f.snapshotDir()
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, pathError("snapshots", f.cfg.SnapshotDir, err)
	}
	defer unix.Close(dir)
	list, err := openDir(dir)
	if err != nil {
		return nil, pathError("snapshots", f.cfg.SnapshotDir, err)
	}
	defer unix.Close(list)
	var times []time.Time
	err = scanDir(list, func(d dirent) bool {
		if t, ok := snapshotTime(string(d.name)); ok {
			times = append(times, t)
		}
		return len(times) < maxSnapshots
	})
	slices.SortFunc(times, func(a, b time.Time) int { return b.Compare(a) })
	return times, pathError("snapshots", f.cfg.SnapshotDir, err)
}

// snapshotTime reads the name of a snapshot. Only one spelling will do.
func snapshotTime(name string) (time.Time, bool) {
	t, err := time.Parse(snapshotLayout, name)
	return t, err == nil && t.Format(snapshotLayout) == name
}

// snapshotDir opens the directory of snapshots.
func (f *FS) snapshotDir() (int, error) {
	if path.IsAbs(f.cfg.SnapshotDir) {
		return retry(func() (int, error) {
			return unix.Open(f.cfg.SnapshotDir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		})
	}
	return f.res.open(f.cfg.SnapshotDir, true)
}

// At implements vfs.Snapshotter.
func (f *FS) At(ctx context.Context, t time.Time) (vfs.FS, error) {
	name := t.UTC().Format(snapshotLayout)
	if err := f.begin(ctx, "snapshot", name); err != nil {
		return nil, err
	}
	defer f.root.release()
	if f.cfg.SnapshotDir == "" || t.Nanosecond() != 0 {
		return nil, pathError("snapshot", name, syscall.ENOENT)
	}
	snap, err := f.snapshot(t.UTC(), name)
	if err != nil {
		return nil, pathError("snapshot", name, err)
	}
	if f != f.base {
		return &FS{share: snap.share, as: f.as, exact: f.exact}, nil
	}
	return snap, nil
}

func (f *FS) snapshot(t time.Time, name string) (*FS, error) {
	s := &f.snaps
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fs.ErrClosed
	}
	dir, err := f.snapshotDir()
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	var fd int
	if path.IsAbs(f.cfg.SnapshotDir) {
		fd, err = retry(func() (int, error) {
			return unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		})
	} else {
		// By the whole name: a link stays beneath the root.
		fd, err = f.res.open(vfs.Join(f.cfg.SnapshotDir, name), true)
	}
	if err != nil {
		return nil, err
	}
	id, mode, err := idOf(fd, "")
	if err == nil && !mode.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	if old := s.open[t]; old != nil {
		if was, _, err := idOf(old.root.fd, ""); err == nil && was == id {
			unix.Close(fd)
			return old, nil
		}
		old.Close() // deleted meanwhile, and made again
		delete(s.open, t)
	}
	if len(s.open) >= maxSnapshots {
		unix.Close(fd)
		return nil, syscall.ENFILE
	}
	cfg := f.cfg
	cfg.ReadOnly, cfg.SnapshotDir = true, ""
	snap := newFS(fd, cfg)
	snap.res.openat2 = f.res.openat2
	if s.open == nil {
		s.open = make(map[time.Time]*FS)
	}
	s.open[t] = snap
	return snap, nil
}

func (s *snapshots) close() {
	s.mu.Lock()
	open := s.open
	s.open, s.closed = nil, true
	s.mu.Unlock()
	for _, snap := range open {
		snap.Close()
	}
}
