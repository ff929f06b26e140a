package memory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// Config says how much a share may hold. The zero value is a good default.
type Config struct {
	// MaxBytes bounds the memory that files take, with their names and attributes,
	// in bytes. Zero means 1 GiB; at least 1 MiB.
	MaxBytes int64
	// MaxObjects bounds the number of files, directories and links. Zero means
	// 1,048,576.
	MaxObjects int64
	// CaseSensitive makes names that differ by case different names, as FS.CaseSensitive
	// does for a view.
	CaseSensitive bool
	// FileMask and DirMask are the permission bits that creation lets through.
	// Zero means 0755 for both.
	FileMask, DirMask fs.FileMode
}

const (
	defaultMaxBytes   = 1 << 30
	minMaxBytes       = 1 << 20
	defaultMaxObjects = 1 << 20

	// What things take besides their names and content, roughly.
	nodeCost   = 512
	dentryCost = 128
	streamCost = 256
	xattrCost  = 64

	blockSize = 4096
	nameMax   = 255
	targetMax = 4095
)

// FS is one share, or a view of it. Its methods are safe for concurrent use.
type FS struct {
	*store
	exact bool // case matters in names
	owner ids  // of what is created
}

var (
	_ vfs.FS        = (*FS)(nil)
	_ vfs.Linker    = (*FS)(nil)
	_ vfs.Symlinker = (*FS)(nil)
	_ vfs.Watcher   = (*FS)(nil)
	_ vfs.CaseView  = (*FS)(nil)
	_ vfs.OwnerView = (*FS)(nil)
)

// store is what an FS and its files have in common.
type store struct {
	cfg    Config
	base   *FS // that is no view
	dev    uint64
	closed atomic.Bool
	inos   atomic.Uint64 // the last inode number, or id of content, given out

	budget  budget
	objects atomic.Int64

	names    sync.RWMutex
	root     *node               // its tree is guarded by names
	watches  map[*watch]struct{} // guarded by names
	watching atomic.Int32        // how many watches there are
}

// devices numbers the shares of the process.
var devices atomic.Uint64

// New makes an empty share.
func New(cfg Config) (*FS, error) {
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = defaultMaxBytes
	}
	if cfg.MaxObjects == 0 {
		cfg.MaxObjects = defaultMaxObjects
	}
	if cfg.MaxBytes < minMaxBytes {
		return nil, fmt.Errorf("memory: MaxBytes is %d, must be at least %d", cfg.MaxBytes, minMaxBytes)
	}
	if cfg.MaxObjects < 0 {
		return nil, fmt.Errorf("memory: MaxObjects is %d, must not be negative", cfg.MaxObjects)
	}
	if m := (cfg.FileMask | cfg.DirMask) &^ fs.ModePerm; m != 0 {
		return nil, fmt.Errorf("memory: FileMask and DirMask take permission bits only, not %v", m)
	}
	if cfg.FileMask == 0 {
		cfg.FileMask = 0o755
	}
	if cfg.DirMask == 0 {
		cfg.DirMask = 0o755
	}
	s := &store{
		cfg:     cfg,
		dev:     1<<63 | devices.Add(1), // no device of the operating system's
		budget:  budget{max: cfg.MaxBytes},
		watches: make(map[*watch]struct{}),
	}
	root, err := s.newNode(fs.ModeDir, fs.ModePerm&cfg.DirMask, process)
	if err != nil {
		return nil, err
	}
	root.nlink.Store(1)
	s.root = root
	s.base = &FS{store: s, exact: cfg.CaseSensitive, owner: process}
	return s.base, nil
}

// CaseSensitive implements vfs.CaseView.
func (f *FS) CaseSensitive() vfs.FS {
	if f.exact {
		return f
	}
	return &FS{store: f.store, exact: true, owner: f.owner}
}

// OwnedBy implements vfs.OwnerView.
func (f *FS) OwnedBy(uid, gid uint32) vfs.FS {
	return &FS{store: f.store, exact: f.exact, owner: ids{uid, gid}}
}

// Base returns the FS that f is a view of; see vfs.Base.
func (f *FS) Base() vfs.FS { return f.base }

// budget counts memory.
type budget struct {
	max  int64
	used atomic.Int64
}

// take reserves n bytes or gives ENOSPC.
func (b *budget) take(n int64) error {
	for {
		used := b.used.Load()
		if n > b.max-used {
			return fmt.Errorf("the share's memory is full: %w", syscall.ENOSPC)
		}
		if b.used.CompareAndSwap(used, used+n) {
			return nil
		}
	}
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// begin starts an operation on name: the context must live, the name be valid and
// the FS open.
func (f *FS) begin(ctx context.Context, op, name string) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !vfs.ValidName(name):
		return &fs.PathError{Op: op, Path: name, Err: syscall.EINVAL}
	case f.closed.Load():
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrClosed}
	}
	return nil
}

// Close implements vfs.FS. That of a view does nothing.
func (f *FS) Close() error {
	if f != f.base || f.closed.Swap(true) {
		return nil
	}
	f.names.Lock()
	defer f.names.Unlock()
	for w := range f.watches {
		w.End(fs.ErrClosed)
		f.drop(w)
	}
	return nil
}

// Statfs implements vfs.FS.
func (f *FS) Statfs(ctx context.Context) (vfs.Statfs, error) {
	if err := f.begin(ctx, "statfs", vfs.Root); err != nil {
		return vfs.Statfs{}, err
	}
	free := uint64(max(f.budget.max-f.budget.used.Load(), 0)) / blockSize
	return vfs.Statfs{
		BlockSize:     blockSize,
		Total:         uint64(f.budget.max) / blockSize,
		Free:          free,
		Avail:         free,
		Files:         uint64(f.cfg.MaxObjects),
		FilesFree:     uint64(max(f.cfg.MaxObjects-f.objects.Load(), 0)),
		NameMax:       nameMax,
		TypeName:      "memory",
		ID:            f.dev,
		CaseSensitive: f.exact,
		Clones:        true,
		Sparse:        true,
		Xattrs:        true,
		Streams:       true,
		Attributes:    true,
	}, nil
}

// process is who objects belong to that no user has made.
var process = ids{uint32(os.Getuid()), uint32(os.Getgid())}

// ids are an owner.
type ids struct{ uid, gid uint32 }

// pathError wraps err unless it is wrapped or nil.
func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return err
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// linkError is pathError for two names.
func linkError(op, oldname, newname string, err error) error {
	if err == nil {
		return nil
	}
	return &os.LinkError{Op: op, Old: oldname, New: newname, Err: err}
}
