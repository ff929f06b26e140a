package fuse

import (
	"fmt"
	"io/fs"
	"log/slog"
	"time"
)

// CacheMode says when pages and attributes that the kernel has may be believed.
type CacheMode uint8

const (
	// CacheStrict caches what a lease of the server's protects, and else only
	// attributes for Config.AttrTimeout. The default.
	CacheStrict CacheMode = iota
	// CacheNone caches no data: every read and write goes to the server.
	CacheNone
	// CacheLoose believes cached data from one open to the next, until attributes
	// that are asked for anew say that the file has changed.
	CacheLoose
)

// Defaults of Config.
const (
	DefaultAttrTimeout = time.Second
	DefaultFileMode    = fs.FileMode(0o755)
	DefaultDirMode     = fs.FileMode(0o755)
	DefaultMaxIO       = 1 << 20
	DefaultBackground  = 32
)

// Config says how a share looks as a file system. The zero value of every field has a
// meaning; a Config is copied on entry.
type Config struct {
	// Root is the directory of the share that is mounted, "" for all of it.
	Root string
	// Source is what /proc/mounts shows as the device, as "//server/data".
	Source string

	// UID and GID own every file, unless the server tells who does (POSIX extensions).
	UID, GID uint32
	// ForceUID and ForceGID have the server not be asked who owns a file.
	ForceUID, ForceGID bool
	// FileMode and DirMode are permission bits of what has none of its own on the
	// server; 0 means DefaultFileMode and DefaultDirMode. A file with the read-only
	// attribute has no write bits.
	FileMode, DirMode fs.FileMode

	// ReadOnly refuses every change, with EROFS by the kernel.
	ReadOnly bool
	// AllowOther lets users other than the one who mounts in; the kernel wants root or
	// user_allow_other in /etc/fuse.conf for that.
	AllowOther bool
	// NoPermissionChecks leaves it to the server to say who may do what. Else the
	// kernel judges by owner and mode first.
	NoPermissionChecks bool
	// MountOptions go to the kernel as they are, such as "noexec" and "nosuid".
	MountOptions []string

	// AttrTimeout is how long attributes and names are believed without a lease, 0
	// means DefaultAttrTimeout, negative not at all.
	AttrTimeout time.Duration
	Cache       CacheMode
	// Writeback lets the kernel collect writes; what was not synced is then lost with
	// the client, as it is with a local disk.
	Writeback bool
	// NoLeases asks for none.
	NoLeases bool
	// LocalLocks keeps flock and fcntl locks on this machine.
	LocalLocks bool
	// NoSync does not ask the server to flush its own disks on fsync.
	NoSync bool
	// NoXattrs has the kernel not ask for extended attributes.
	NoXattrs bool
	// NoServerInodes numbers files here in place of taking the server's file ids.
	NoServerInodes bool

	// MaxIO is the most bytes in one request of the kernel's, 4096 to 1 MiB (more where
	// the kernel is told so in fs.fuse.max_pages_limit); 0 means DefaultMaxIO.
	MaxIO int
	// ReadAhead is how many bytes the kernel reads ahead, where this process may set
	// that (as root); 0 means eight requests, negative leaves the kernel's value.
	ReadAhead int
	// Background is how many requests of read-ahead and writeback there may be at once;
	// 0 means DefaultBackground.
	Background int

	// Logger gets what an operator acts on; nil means silence.
	Logger *slog.Logger
	// Trace logs each request of the kernel's, to standard error.
	Trace bool
}

func (c Config) withDefaults() (Config, error) {
	if c.FileMode == 0 {
		c.FileMode = DefaultFileMode
	}
	if c.DirMode == 0 {
		c.DirMode = DefaultDirMode
	}
	if (c.FileMode|c.DirMode)&^0o7777 != 0 {
		return c, fmt.Errorf("fuse: Config.FileMode %o or DirMode %o has more than permission bits: %w", c.FileMode, c.DirMode, fs.ErrInvalid)
	}
	switch {
	case c.AttrTimeout == 0:
		c.AttrTimeout = DefaultAttrTimeout
	case c.AttrTimeout < 0:
		c.AttrTimeout = 0
	}
	if c.Cache > CacheLoose {
		return c, fmt.Errorf("fuse: Config.Cache %d is not a CacheMode: %w", c.Cache, fs.ErrInvalid)
	}
	if c.MaxIO == 0 {
		c.MaxIO = DefaultMaxIO
	}
	if c.MaxIO < 4096 || c.MaxIO > 64<<20 {
		return c, fmt.Errorf("fuse: Config.MaxIO %d is not in 4096..64 MiB: %w", c.MaxIO, fs.ErrInvalid)
	}
	c.MaxIO &^= 4095
	if c.ReadAhead == 0 {
		c.ReadAhead = 8 * c.MaxIO
	}
	if c.Background == 0 {
		c.Background = DefaultBackground
	}
	if c.Background < 1 || c.Background > 65535 {
		return c, fmt.Errorf("fuse: Config.Background %d is not in 1..65535: %w", c.Background, fs.ErrInvalid)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
