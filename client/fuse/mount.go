package fuse

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// Mount is a share that is mounted.
type Mount struct {
	dir    string
	fs     *filesystem
	kernel *device
	cancel context.CancelFunc
	served chan struct{} // closed when the kernel has let go
}

// New mounts a share on a directory, and serves the kernel until it is unmounted, by
// Unmount or by whoever else may. The share stays the caller's: it is to be closed
// after Wait has returned. ctx bounds the mounting alone.
func New(ctx context.Context, sh *client.Share, dir string, cfg Config) (*Mount, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("fuse: mount on %s: %w", dir, err)
	}
	alive, cancel := context.WithCancel(context.Background())
	f, err := newFilesystem(ctx, sh, cfg)
	if err != nil {
		cancel()
		return nil, err
	}
	f.ctx = alive
	m := &Mount{dir: dir, fs: f, cancel: cancel, served: make(chan struct{})}
	if m.kernel, err = newDevice(f, dir, f.options()); err != nil {
		cancel()
		return nil, fmt.Errorf("fuse: mount on %s: %w", dir, err)
	}
	go f.minding()    // ends with alive; Wait waits for it, through served
	go f.lookingOut() // likewise
	go func() {       // ends when the kernel has unmounted; Wait waits for it
		defer close(m.served)
		m.kernel.run()
		cancel()
		f.closeAll()
	}()
	if err := m.kernel.ready(dir); err != nil {
		err = fmt.Errorf("fuse: mount on %s: %w", dir, err)
		if busy := m.Unmount(); busy != nil { // somebody was quicker: it goes when he has left
			err = errors.Join(err, busy, m.Detach())
		}
		return nil, err
	}
	m.readAhead()
	return m, nil
}

// options are what go-fuse and the kernel are told.
func (f *filesystem) options() *gofuse.MountOptions {
	cfg := &f.cfg
	o := &gofuse.MountOptions{
		FsName: cfg.Source, Name: "smbd-rdma",
		AllowOther:    cfg.AllowOther,
		MaxWrite:      cfg.MaxIO,
		MaxBackground: cfg.Background,
		EnableLocks:   !cfg.LocalLocks,
		DisableXAttrs: cfg.NoXattrs,
		// Without it a mount of root's would need the setuid helper.
		DirectMount:      os.Geteuid() == 0,
		DirectMountFlags: unix.MS_NOSUID | unix.MS_NODEV,
		Debug:            cfg.Trace,
		Logger:           log.New(slogWriter{cfg.Logger}, "", 0),
	}
	if o.FsName == "" {
		o.FsName = "smbd-rdma"
	}
	if cfg.Trace {
		o.Logger = log.New(os.Stderr, "", log.Lmicroseconds)
	}
	if cfg.Writeback {
		o.ExtraCapabilities |= gofuse.CAP_WRITEBACK_CACHE
	}
	// Files that are read past the page cache can be mapped all the same.
	o.ExtraCapabilities |= gofuse.CAP_DIRECT_IO_ALLOW_MMAP | gofuse.CAP_ASYNC_DIO
	// There are no set-id bits and capabilities here for the kernel to ask for before
	// each write.
	o.ExtraCapabilities |= gofuse.CAP_HANDLE_KILLPRIV | gofuse.CAP_HANDLE_KILLPRIV_V2
	if !cfg.NoPermissionChecks {
		o.Options = append(o.Options, "default_permissions")
	}
	if cfg.ReadOnly {
		if o.DirectMount {
			o.DirectMountFlags |= unix.MS_RDONLY
		} else {
			o.Options = append(o.Options, "ro")
		}
	}
	for _, m := range cfg.MountOptions {
		if flag, ok := mountFlags[m]; ok && o.DirectMount {
			o.DirectMountFlags = o.DirectMountFlags&^flag.clear | flag.set
		} else {
			o.Options = append(o.Options, m)
		}
	}
	return o
}

// mountFlags are options that mount(2) takes as bits.
var mountFlags = map[string]struct{ set, clear uintptr }{
	"noexec": {set: unix.MS_NOEXEC}, "exec": {clear: unix.MS_NOEXEC},
	"nosuid": {set: unix.MS_NOSUID}, "suid": {clear: unix.MS_NOSUID},
	"nodev": {set: unix.MS_NODEV}, "dev": {clear: unix.MS_NODEV},
	"noatime": {set: unix.MS_NOATIME}, "atime": {clear: unix.MS_NOATIME},
	"nodiratime": {set: unix.MS_NODIRATIME}, "relatime": {set: unix.MS_RELATIME},
	"sync": {set: unix.MS_SYNCHRONOUS}, "dirsync": {set: unix.MS_DIRSYNC},
}

// slogWriter makes go-fuse's lines debug messages.
type slogWriter struct{ l *slog.Logger }

func (w slogWriter) Write(p []byte) (int, error) {
	w.l.Debug("fuse", "msg", strings.TrimSpace(string(p)))
	return len(p), nil
}

// readAhead makes the kernel read ahead in more than one request at once, where this
// process may say so.
func (m *Mount) readAhead() {
	if m.fs.cfg.ReadAhead < 0 {
		return
	}
	var st unix.Stat_t
	if err := unix.Stat(m.dir, &st); err != nil {
		return
	}
	name := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev))
	if err := os.WriteFile(name, []byte(strconv.Itoa(m.fs.cfg.ReadAhead/1024)), 0); err != nil {
		m.fs.cfg.Logger.Debug("the kernel's read-ahead stays as it is", "err", err)
	}
}

// Dir is where the share is mounted.
func (m *Mount) Dir() string { return m.dir }

// Done is closed when the share is not mounted any more.
func (m *Mount) Done() <-chan struct{} { return m.served }

// Wait returns when the share is not mounted any more, whoever has unmounted it, and
// everything that was written is with the server.
func (m *Mount) Wait() { <-m.served }

// Unmount unmounts: the kernel writes back what it has first. An error that matches
// syscall.EBUSY says that somebody uses the mount; it is unmounted lazily then if
// Detach is called.
func (m *Mount) Unmount() error {
	select {
	case <-m.served:
		return nil
	default:
	}
	err := unmount(m.dir, false)
	if err == nil {
		<-m.served
	}
	return err
}

// Detach takes the mount out of sight at once; who has something open there can go on
// with that, and when the last one has ended Done is closed.
func (m *Mount) Detach() error {
	select {
	case <-m.served:
		return nil
	default:
	}
	return unmount(m.dir, true)
}

// unmount asks the kernel, and where this process may not, fusermount3.
func unmount(dir string, lazy bool) error {
	flags := 0
	if lazy {
		flags = unix.MNT_DETACH
	}
	err := unix.Unmount(dir, flags)
	if err == nil || err == syscall.EBUSY || os.Geteuid() == 0 {
		return err
	}
	args := []string{"-u"}
	if lazy {
		args = append(args, "-z")
	}
	bin, err := fusermount()
	if err != nil {
		return err
	}
	out, err := exec.Command(bin, append(args, "--", dir)...).CombinedOutput()
	if err == nil {
		return nil
	}
	if strings.Contains(string(out), "busy") {
		return fmt.Errorf("%s: %w", strings.TrimSpace(string(out)), syscall.EBUSY)
	}
	return fmt.Errorf("%s: %s: %w", bin, strings.TrimSpace(string(out)), err)
}

// closeAll closes what the kernel has not: it forgets without a word when it unmounts.
func (f *filesystem) closeAll() {
	f.mu.Lock()
	handles, dirs := f.handles, f.dirs
	f.handles, f.dirs = map[uint64]*handle{}, map[uint64]*dirHandle{}
	f.mu.Unlock()
	for _, h := range handles {
		h.release()
	}
	<-f.minder.ended
	<-f.lookedOut
	f.aside.Wait()
	f.mu.Lock()
	listed := f.listedDirs
	f.listedDirs = nil
	f.mu.Unlock()
	for _, n := range listed {
		n.mu.Lock()
		l := n.cache.listing
		n.cache.listing = nil
		n.mu.Unlock()
		if l != nil {
			f.shut(l.file)
		}
	}
	for _, d := range dirs {
		_ = d.turn.lock(context.Background()) // nobody else is left
		if d.f != nil {
			f.shut(d.f)
			d.f = nil
		}
		d.turn.unlock()
	}
}
