package client

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/server"
)

func TestPosixNegotiation(t *testing.T) {
	without := func(c *server.Config) { c.NoPOSIXExtensions = true }
	for _, c := range []struct {
		name   string
		mode   POSIXMode
		server func(*server.Config)
		want   bool
		err    error
	}{
		{"off", POSIXOff, nil, false, nil},
		{"if offered", POSIXIfOffered, nil, true, nil},
		{"if offered, not there", POSIXIfOffered, without, false, nil},
		{"required", POSIXRequired, nil, true, nil},
		{"required, not there", POSIXRequired, without, false, errors.ErrUnsupported},
	} {
		s := newSite(t, linkConfig{}, c.server)
		sess, err := Dial(context.Background(), s.d, s.addr, Config{User: "ann", Password: "secret", POSIX: c.mode})
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil {
			if got := sess.Info().POSIX; got != c.want {
				t.Errorf("%s: %v", c.name, got)
			}
			must(t, sess.Close())
		}
	}
	if _, err := (Config{POSIX: 3}).withDefaults(); !errors.Is(err, fs.ErrInvalid) {
		t.Error(err)
	}
}

// Permission bits, owners, names and removal are as on the server's disk.
func TestPosixFiles(t *testing.T) {
	ctx := context.Background()
	s := newSite(t, linkConfig{}, func(c *server.Config) { c.Shares[0].AdminUsers = []string{"ann"} })
	sh := s.mount(t, Config{POSIX: POSIXRequired})
	onDisk := func(name string) os.FileInfo {
		t.Helper()
		fi, err := os.Lstat(filepath.Join(s.dir, name))
		must(t, err)
		return fi
	}
	f, err := sh.OpenFile(ctx, "a", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	must(t, err)
	must(t, sh.MkdirPerm(ctx, "d", 0o750))
	must(t, sh.WriteFile(ctx, "A", nil, 0o604)) // another name than "a"
	must(t, sh.Link(ctx, "a", "d/hard"))
	must(t, sh.Symlink(ctx, "../a", "d/link"))
	must(t, syscall.Mkfifo(filepath.Join(s.dir, "fifo"), 0o600))
	for name, want := range map[string]fs.FileMode{
		"a": 0o640, "A": 0o604, "d": fs.ModeDir | 0o750, "d/link": fs.ModeSymlink | 0o777, "fifo": fs.ModeNamedPipe | 0o600,
	} {
		fi, err := sh.Lstat(ctx, name)
		must(t, err)
		st := onDisk(name).Sys().(*syscall.Stat_t)
		uid, gid, ok := fi.Owner()
		if fi.Mode() != want || onDisk(name).Mode() != want {
			t.Errorf("%s: %v, on disk %v, want %v", name, fi.Mode(), onDisk(name).Mode(), want)
		}
		if !ok || uid != st.Uid || gid != st.Gid || fi.FileID() != st.Ino || uint64(fi.Links()) != st.Nlink {
			t.Errorf("%s: %d %d %v, inode %d, %d links; on disk %+v", name, uid, gid, ok, fi.FileID(), fi.Links(), st)
		}
	}
	for _, dir := range []string{"", "d"} {
		es, err := sh.ReadDir(ctx, dir)
		must(t, err)
		for _, e := range es {
			fi, disk := e.(*FileInfo), onDisk(filepath.Join(dir, e.Name()))
			if fi.Mode() != disk.Mode() || fi.Links() != uint32(disk.Sys().(*syscall.Stat_t).Nlink) || fi.FileID() != disk.Sys().(*syscall.Stat_t).Ino {
				t.Errorf("listed %v with %d links, on disk %v", fi, fi.Links(), disk.Mode())
			}
		}
		if want := map[string]int{"": 4, "d": 2}[dir]; len(es) != want {
			t.Errorf("%q has %d entries, want %d", dir, len(es), want)
		}
	}
	if got, err := sh.Readlink(ctx, "d/link"); got != "../a" || err != nil {
		t.Error(got, err)
	}
	if fi, err := sh.Stat(ctx, "d/link"); err != nil || fi.FileID() != onDisk("a").Sys().(*syscall.Stat_t).Ino || fi.Links() != 2 {
		t.Error("through the link:", fi, err)
	}
	must(t, sh.Chmod(ctx, "d", 0o1770|fs.ModeSticky))
	if got := onDisk("d").Mode(); got != fs.ModeDir|fs.ModeSticky|0o770 {
		t.Error(got)
	}
	must(t, sh.Chmod(ctx, "a", 0o400))
	if got := onDisk("a").Mode(); got != 0o400 {
		t.Error(got)
	}
	if os.Getuid() == 0 {
		must(t, sh.Chown(ctx, "a", 12, 34))
		if fi, err := sh.Stat(ctx, "a"); err != nil {
			t.Error(err)
		} else if uid, gid, ok := fi.Owner(); uid != 12 || gid != 34 || !ok {
			t.Error(uid, gid, ok)
		}
		must(t, sh.Chown(ctx, "a", -1, 35))
		if st := onDisk("a").Sys().(*syscall.Stat_t); st.Uid != 12 || st.Gid != 35 {
			t.Error(st.Uid, st.Gid)
		}
	}
	// A name goes at once, and what is open can be replaced.
	must(t, sh.Remove(ctx, "a"))
	if _, err := sh.Lstat(ctx, "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := f.WriteAt([]byte("still there"), 0); err != nil {
		t.Error(err)
	}
	g, err := sh.Open(ctx, "A")
	must(t, err)
	must(t, sh.WriteFile(ctx, "b", []byte("new"), 0o666))
	must(t, sh.Rename(ctx, "b", "A", true))
	must(t, g.Close())
	must(t, f.Close())
	must(t, sh.Mkdir(ctx, "empty"))
	must(t, sh.Mkdir(ctx, "e2"))
	must(t, sh.Rename(ctx, "e2", "empty", true))
	h, err := sh.CreateFile(ctx, "A", CreateOptions{Access: AccessDelete | AccessWriteDAC | AccessReadControl})
	must(t, err)
	must(t, h.Chmod(ctx, 0o611))
	if got := onDisk("A").Mode(); got != 0o611 {
		t.Error(got)
	}
	must(t, h.Remove(ctx))
	must(t, h.Close())
	if _, err := os.Lstat(filepath.Join(s.dir, "A")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// Without the extensions a mode is the read-only attribute, and owners have no numbers.
func TestChmodWithoutPosix(t *testing.T) {
	ctx := context.Background()
	sh := newSite(t, linkConfig{}, nil).mount(t, Config{})
	must(t, sh.WriteFile(ctx, "f", nil, 0o666))
	must(t, sh.Mkdir(ctx, "d"))
	for _, mode := range []fs.FileMode{0o444, 0o444, 0o644, 0o644, 0o000} {
		must(t, sh.Chmod(ctx, "f", mode))
		must(t, sh.Chmod(ctx, "d", mode))
		fi, err := sh.Stat(ctx, "f")
		must(t, err)
		if ro := fi.Attributes()&AttrReadOnly != 0; ro != (mode&0o222 == 0) {
			t.Errorf("%v: read-only %v", mode, ro)
		}
		if _, _, ok := fi.Owner(); ok || fi.Device() != 0 {
			t.Error("an owner without the extensions")
		}
	}
	if err := sh.Chown(ctx, "f", 1, 1); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

// What was made writable for a while is read-only again, also when that was given up.
func TestWhileWritable(t *testing.T) {
	sh := newSite(t, linkConfig{}, nil).mount(t, Config{})
	must(t, sh.WriteFile(t.Context(), "f", nil, 0o666))
	must(t, sh.Chmod(t.Context(), "f", 0o444))
	readOnly := func() bool {
		fi, err := sh.Stat(t.Context(), "f")
		must(t, err)
		return fi.Attributes()&AttrReadOnly != 0
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := sh.WhileWritable(ctx, "f", func() error {
		if readOnly() {
			t.Error("it is not writable")
		}
		cancel()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) || !readOnly() {
		t.Errorf("%v, read-only %v", err, readOnly())
	}
}

// A server that answers with extensions that were not asked for, or others.
func TestPosixOfServers(t *testing.T) {
	for _, c := range []struct {
		name string
		mode POSIXMode
		data string
		bad  bool
	}{
		{"as it should", POSIXIfOffered, smb2.PosixExtensionsTag, false},
		{"not asked for", POSIXOff, smb2.PosixExtensionsTag, true},
		{"others", POSIXIfOffered, "0123456789abcdef", true},
	} {
		f, l := newFake(t, linkConfig{})
		f.contexts = func(cs []smb2.NegotiateContext) []smb2.NegotiateContext {
			return append(cs, smb2.NegotiateContext{Type: smb2.ContextPosixExtensions, Data: []byte(c.data)})
		}
		s, err := f.start(l, Config{POSIX: c.mode})
		var pe *ProtocolError
		if errors.As(err, &pe) != c.bad || err == nil && !s.Info().POSIX {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
