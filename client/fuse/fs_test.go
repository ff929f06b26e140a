package fuse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

func TestMain(m *testing.M) {
	listingTime = 5 * time.Minute
	goleak.VerifyTestMain(m)
}

// nas is a server with the share data, which is dir.
type nas struct {
	dir, addr string
	dialer    transport.Dialer
	stop      func()
}

func newNAS(t *testing.T) *nas {
	t.Helper()
	return newSigningNAS(t, server.PolicyDefault)
}

func newSigningNAS(t *testing.T, signing server.Policy) *nas {
	t.Helper()
	l, err := tcp.Listen(t.Context(), "127.0.0.1:0", tcp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := tcp.NewDialer(tcp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return newNASOn(t, l, d, signing)
}

// newRDMANAS is one behind SMB Direct on iWARP.
func newRDMANAS(t *testing.T, signing server.Policy) *nas {
	t.Helper()
	p, err := iwarp.New(iwarp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := smbdirect.Listen(t.Context(), p, "iwarp", "127.0.0.1:0", smbdirect.Config{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := smbdirect.NewDialer(p, "iwarp", smbdirect.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return newNASOn(t, l, d, signing)
}

func newNASOn(t *testing.T, l transport.Listener, d transport.Dialer, signing server.Policy) *nas {
	t.Helper()
	dir := t.TempDir()
	fsys, err := posix.New(dir, posix.Config{})
	if err != nil {
		t.Fatal(err)
	}
	users, err := server.ParseUsers("ann%secret")
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server.New(server.Config{Shares: []server.Share{{Name: "data", FS: fsys}}, Users: users, ServerName: "NAS", Signing: signing})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { // ended by srv.Close below, which waits
		defer close(served)
		_ = srv.Serve(context.Background(), l)
	}()
	stop := sync.OnceFunc(func() {
		srv.Close()
		<-served
		fsys.Close()
	})
	t.Cleanup(stop)
	return &nas{dir, l.Addr().String(), d, stop}
}

func (s *nas) share(t *testing.T, cfg client.Config) *client.Share {
	t.Helper()
	cfg.User, cfg.Password = "ann", "secret"
	sess, err := client.Dial(t.Context(), s.dialer, s.addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sess.Close() })
	sh, err := sess.Mount(t.Context(), "data")
	if err != nil {
		t.Fatal(err)
	}
	return sh
}

// kernel asks a file system what Linux would, without a kernel.
type kernel struct {
	t    *testing.T
	fs   *filesystem
	stop func() // ends the mount's context
}

// kernels is one for each kind of server, and one without leases.
func kernels(t *testing.T, test func(*testing.T, *nas, *kernel)) {
	for _, c := range []struct {
		name   string
		client client.Config
		fs     Config
	}{
		{"plain SMB", client.Config{}, Config{}},
		{"POSIX extensions", client.Config{POSIX: client.POSIXRequired}, Config{}},
		{"no leases", client.Config{}, Config{NoLeases: true}},
		{"no server inodes", client.Config{}, Config{NoServerInodes: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newNAS(t)
			test(t, s, newKernel(t, s.share(t, c.client), c.fs))
		})
	}
}

func newKernel(t *testing.T, sh *client.Share, cfg Config) *kernel {
	t.Helper()
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	f, err := newFilesystem(t.Context(), sh, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	f.ctx = ctx
	go f.minding() // closeAll waits for them
	go f.lookingOut()
	t.Cleanup(func() {
		stop()
		f.closeAll()
	})
	return &kernel{t, f, stop}
}

func (k *kernel) ok(st gofuse.Status) {
	k.t.Helper()
	if st != gofuse.OK {
		k.t.Fatal(st)
	}
}

func head(id uint64) gofuse.InHeader { return gofuse.InHeader{NodeId: id} }

// find walks to a path, and gives errno.
func (k *kernel) find(path string) (id uint64, a gofuse.Attr, err syscall.Errno) {
	id = rootID
	for name := range strings.SplitSeq(path, "/") {
		var out gofuse.EntryOut
		h := head(id)
		if st := k.fs.Lookup(nil, &h, name, &out); st != gofuse.OK {
			return 0, a, syscall.Errno(st)
		}
		id, a = out.NodeId, out.Attr
	}
	return id, a, 0
}

// found is find for what is there.
func (k *kernel) found(path string) uint64 {
	k.t.Helper()
	id, _, err := k.find(path)
	if err != 0 {
		k.t.Fatal(path, err)
	}
	return id
}

// in is the directory of a path.
func (k *kernel) in(path string) (dir uint64, name string) {
	k.t.Helper()
	d, name := filepath.Split(path)
	if d == "" {
		return rootID, name
	}
	id, _, err := k.find(strings.TrimSuffix(d, "/"))
	if err != 0 {
		k.t.Fatal(d, err)
	}
	return id, name
}

func (k *kernel) create(path, content string) (id, fh uint64) {
	k.t.Helper()
	dir, name := k.in(path)
	var out gofuse.CreateOut
	k.ok(k.fs.Create(nil, &gofuse.CreateIn{InHeader: head(dir), Flags: syscall.O_RDWR | syscall.O_CREAT, Mode: syscall.S_IFREG | 0o644}, name, &out))
	if content != "" {
		n, st := k.fs.Write(nil, &gofuse.WriteIn{InHeader: head(out.NodeId), Fh: out.Fh}, []byte(content))
		if k.ok(st); int(n) != len(content) {
			k.t.Fatalf("%d bytes written of %d", n, len(content))
		}
	}
	return out.NodeId, out.Fh
}

func (k *kernel) read(fh uint64) string {
	k.t.Helper()
	r, st := k.fs.Read(nil, &gofuse.ReadIn{Fh: fh, Size: 4096}, make([]byte, 4096))
	k.ok(st)
	b, _ := r.Bytes(nil)
	defer r.Done()
	return string(b)
}

func (k *kernel) open(id uint64, flags uint32) uint64 {
	k.t.Helper()
	var out gofuse.OpenOut
	k.ok(k.fs.Open(nil, &gofuse.OpenIn{InHeader: head(id), Flags: flags}, &out))
	return out.Fh
}

func (k *kernel) close(fh uint64) { k.fs.Release(nil, &gofuse.ReleaseIn{Fh: fh}) }

func (k *kernel) unlink(path string) gofuse.Status {
	dir, name := k.in(path)
	h := head(dir)
	return k.fs.Unlink(nil, &h, name)
}

func (k *kernel) rmdir(path string) gofuse.Status {
	dir, name := k.in(path)
	h := head(dir)
	return k.fs.Rmdir(nil, &h, name)
}

func (k *kernel) rename(from, to string) gofuse.Status {
	d1, n1 := k.in(from)
	d2, n2 := k.in(to)
	return k.fs.Rename(nil, &gofuse.RenameIn{InHeader: head(d1), Newdir: d2}, n1, n2)
}

func (k *kernel) mkdir(path string) uint64 {
	k.t.Helper()
	dir, name := k.in(path)
	var out gofuse.EntryOut
	k.ok(k.fs.Mkdir(nil, &gofuse.MkdirIn{InHeader: head(dir), Mode: 0o755}, name, &out))
	return out.NodeId
}

// list are the names in a directory.
func (k *kernel) list(id uint64) []string {
	k.t.Helper()
	fh := k.opendir(id)
	defer k.fs.ReleaseDir(&gofuse.ReleaseIn{Fh: fh})
	var names []string
	for off := uint64(0); ; {
		out := gofuse.NewDirEntryList(make([]byte, 1024), off)
		k.ok(k.fs.ReadDirPlus(nil, &gofuse.ReadIn{Fh: fh, Offset: off}, out))
		if out.Offset == off {
			break
		}
		off = out.Offset
		es, _, err := gofuse.ParseDirLookupEntries(out.Bytes())
		if err != nil {
			k.t.Fatal(err)
		}
		for _, e := range es {
			if e.Name != "." && e.Name != ".." {
				names = append(names, e.Name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// A file that is deleted stays with who has it open; its name and its directory are
// free at once.
func TestUnlinkWhileOpen(t *testing.T) {
	kernels(t, func(t *testing.T, s *nas, k *kernel) {
		dir := k.mkdir("d")
		id, fh := k.create("d/f", "content")
		k.ok(k.unlink("d/f"))
		if _, _, err := k.find("d/f"); err != syscall.ENOENT {
			t.Errorf("lookup after unlink: %v, want ENOENT", err)
		}
		if got := k.list(dir); len(got) != 0 {
			t.Errorf("the directory lists %q", got)
		}
		var a gofuse.AttrOut
		k.ok(k.fs.GetAttr(nil, &gofuse.GetAttrIn{InHeader: head(id)}, &a))
		if a.Nlink != 0 || a.Size != 7 {
			t.Errorf("fstat: %d links, size %d; want 0 and 7", a.Nlink, a.Size)
		}
		if got := k.read(fh); got != "content" {
			t.Errorf("read %q", got)
		}
		_, again := k.create("d/f", "new")
		k.close(again)
		k.ok(k.unlink("d/f"))
		h := head(rootID)
		k.ok(k.fs.Rmdir(nil, &h, "d"))
		k.close(fh)
		if es, _ := os.ReadDir(s.dir); len(es) != 0 {
			t.Errorf("left on the server: %v", es)
		}
	})
}

// Who is in a directory that is removed sees when it last lost a name, and the times that
// he sets.
func TestTimesOfARemovedDirectory(t *testing.T) {
	kernels(t, func(t *testing.T, s *nas, k *kernel) {
		mtime := func(id uint64) time.Time {
			var a gofuse.AttrOut
			k.ok(k.fs.GetAttr(nil, &gofuse.GetAttrIn{InHeader: head(id)}, &a))
			return time.Unix(int64(a.Mtime), int64(a.Mtimensec))
		}
		set := func(id uint64, to time.Time) {
			in := gofuse.SetAttrIn{SetAttrInCommon: gofuse.SetAttrInCommon{InHeader: head(id), Valid: gofuse.FATTR_MTIME, Mtime: uint64(to.Unix())}}
			k.ok(k.fs.SetAttr(nil, &in, new(gofuse.AttrOut)))
		}
		old, older := time.Unix(1153748088, 0), time.Unix(1000000000, 0)
		id := k.mkdir("d")
		_, fh := k.create("d/f", "x")
		k.close(fh)
		set(id, old)
		if got := mtime(id); !got.Equal(old) {
			t.Errorf("set to %v, is %v", old, got)
		}
		k.ok(k.unlink("d/f"))
		h := head(rootID)
		k.ok(k.fs.Rmdir(nil, &h, "d"))
		if got := mtime(id); time.Since(got) > time.Hour {
			t.Errorf("a name was removed just now, its time is %v", got)
		}
		set(id, older)
		if got := mtime(id); !got.Equal(older) {
			t.Errorf("set to %v, is %v", older, got)
		}
	})
}

// pages is a kernel that has kept back what was written through a map.
type pages struct {
	silent
	write func()
}

func (p pages) InodeNotify(_ uint64, off, length int64) gofuse.Status {
	if off == 0 && length == 0 {
		p.write()
	}
	return gofuse.OK
}

// Where data are is asked for when the server has them.
func TestSeekDataBehindDirtyPages(t *testing.T) {
	kernels(t, func(t *testing.T, s *nas, k *kernel) {
		id, fh := k.create("f", "")
		size := gofuse.SetAttrIn{SetAttrInCommon: gofuse.SetAttrInCommon{InHeader: head(id), Valid: gofuse.FATTR_SIZE | gofuse.FATTR_FH, Fh: fh, Size: 1 << 20}}
		k.ok(k.fs.SetAttr(nil, &size, new(gofuse.AttrOut)))
		k.fs.kernel = pages{write: func() {
			_, st := k.fs.Write(nil, &gofuse.WriteIn{InHeader: head(id), Fh: fh, Offset: 512 << 10}, make([]byte, 4096))
			k.ok(st)
		}}
		var out gofuse.LseekOut
		k.ok(k.fs.Lseek(nil, &gofuse.LseekIn{InHeader: head(id), Fh: fh, Whence: unix.SEEK_DATA}, &out))
		if out.Offset > 512<<10 {
			t.Errorf("data at %d, want what was written at %d", out.Offset, 512<<10)
		}
		k.close(fh)
	})
}

// What is replaced by a rename stays with who has it open.
func TestRenameOverOpen(t *testing.T) {
	kernels(t, func(t *testing.T, s *nas, k *kernel) {
		_, fh := k.create("f", "old")
		_, g := k.create("g", "new")
		k.ok(k.rename("g", "f"))
		if got := k.read(fh) + k.read(g); got != "oldnew" {
			t.Errorf("read %q", got)
		}
		k.close(fh)
		k.close(g)
		if b, err := os.ReadFile(filepath.Join(s.dir, "f")); err != nil || string(b) != "new" {
			t.Errorf("on the server: %q, %v", b, err)
		}
		if got := k.list(rootID); !slices.Equal(got, []string{"f"}) {
			t.Errorf("listed: %q", got)
		}
	})
}

// A rename that fails has replaced nothing, whoever has the target open.
func TestRenameThatFails(t *testing.T) {
	kernels(t, func(t *testing.T, s *nas, k *kernel) {
		other := s.share(t, client.Config{})
		hold := func(name string, share client.ShareAccess) *client.File {
			t.Helper()
			f, err := other.CreateFile(t.Context(), name, client.CreateOptions{Access: client.AccessReadData, Share: share})
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		for _, c := range []struct {
			name string
			open func() (done func())
		}{
			{"nobody", func() func() { return func() {} }},
			{"this mount", func() func() {
				id, _, err := k.find("to")
				if err != 0 {
					t.Fatal(err)
				}
				fh := k.open(id, syscall.O_RDONLY)
				return func() {
					if got := k.read(fh); got != "old" {
						t.Errorf("what was open reads %q", got)
					}
					k.close(fh)
				}
			}},
			{"another client", func() func() {
				f := hold("to", client.ShareAll)
				return func() { f.Close() }
			}},
		} {
			for name, content := range map[string]string{"from": "new", "to": "old"} {
				_, fh := k.create(name, content)
				k.close(fh)
			}
			held := hold("from", client.ShareRead|client.ShareWrite) // and must keep its name
			done := c.open()
			if st := k.rename("from", "to"); st == gofuse.OK {
				t.Errorf("%s has the target open: it is replaced by what may not be renamed", c.name)
			}
			if got := k.list(rootID); !slices.Equal(got, []string{"from", "to"}) {
				t.Errorf("%s has the target open: listed %q", c.name, got)
			}
			done()
			held.Close()
			for name, want := range map[string]string{"from": "new", "to": "old"} {
				if b, err := os.ReadFile(filepath.Join(s.dir, name)); err != nil || string(b) != want {
					t.Errorf("%s has the target open: %s is %q, %v, want %q", c.name, name, b, err, want)
				}
			}
			k.ok(k.rename("from", "to"))
			k.ok(k.unlink("to"))
			if es, _ := os.ReadDir(s.dir); len(es) != 0 {
				t.Errorf("left on the server: %v", es)
			}
		}
	})
}

// Neither has one of a directory that cannot be moved.
func TestRenameOfABusyDirectory(t *testing.T) {
	kernels(t, func(t *testing.T, s *nas, k *kernel) {
		k.mkdir("d")
		k.mkdir("empty")
		_, fh := k.create("d/f", "x")
		k.close(fh)
		held, err := s.share(t, client.Config{}).CreateFile(t.Context(), "d/f", client.CreateOptions{Access: client.AccessReadData, Share: client.ShareRead})
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"d", "empty"}
		if k.rename("d", "empty") == gofuse.OK { // as with the POSIX extensions
			want = []string{"empty"}
		}
		if got := k.list(rootID); !slices.Equal(got, want) {
			t.Errorf("listed %q, want %q", got, want)
		}
		if err := held.Close(); err != nil {
			t.Error(err)
		}
	})
}

// rename(2) and its errors.
func TestRename(t *testing.T) {
	kernels(t, func(t *testing.T, s *nas, k *kernel) {
		k.mkdir("empty")
		k.mkdir("full")
		k.mkdir("d")
		for _, f := range []string{"full/x", "a", "b"} {
			_, fh := k.create(f, f)
			k.close(fh)
		}
		for _, c := range []struct {
			from, to string
			want     syscall.Errno
		}{
			{"d", "full", syscall.ENOTEMPTY},
			{"d", "a", syscall.ENOTDIR},
			{"a", "d", syscall.EISDIR},
			{"none", "a", syscall.ENOENT},
			{"d", "empty", 0},
			{"a", "b", 0},
			{"full", "other", 0},
		} {
			if st := k.rename(c.from, c.to); syscall.Errno(st) != c.want {
				t.Errorf("rename %s to %s: %v, want %v", c.from, c.to, st, c.want)
			}
		}
		if _, _, err := k.find("other/x"); err != 0 {
			t.Error("what was in a renamed directory:", err)
		}
		if b, err := os.ReadFile(filepath.Join(s.dir, "b")); err != nil || string(b) != "a" {
			t.Errorf("on the server: %q, %v", b, err)
		}
	})
}

// A directory is renamed although a file in it was open a moment ago.
func TestRenameAfterClose(t *testing.T) {
	kernels(t, func(t *testing.T, s *nas, k *kernel) {
		dir := k.mkdir("d")
		if err := os.WriteFile(filepath.Join(s.dir, "d/f"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		k.list(dir)
		id, _, err := k.find("d/f")
		if err != 0 {
			t.Fatal(err)
		}
		k.close(k.open(id, syscall.O_RDONLY))
		k.ok(k.rename("d", "e"))
		if _, _, err := k.find("e/f"); err != 0 {
			t.Error(err)
		}
	})
}

// Two mounts append to one file: nothing is lost.
func TestAppends(t *testing.T) {
	s := newNAS(t)
	const each = 20
	done := make(chan struct{}, 2)
	for i := range 2 {
		k := newKernel(t, s.share(t, client.Config{}), Config{})
		go func() {
			defer func() { done <- struct{}{} }()
			var out gofuse.CreateOut
			if st := k.fs.Create(nil, &gofuse.CreateIn{InHeader: head(rootID), Flags: syscall.O_WRONLY | syscall.O_CREAT | syscall.O_APPEND, Mode: 0o644}, "log", &out); st != gofuse.OK {
				t.Error(st)
				return
			}
			for n := range each {
				line := fmt.Appendf(nil, "mount %d line %02d\n", i, n)
				if w, st := k.fs.Write(nil, &gofuse.WriteIn{Fh: out.Fh, Flags: syscall.O_APPEND}, line); st != gofuse.OK || int(w) != len(line) {
					t.Errorf("write: %d, %v", w, st)
				}
			}
			k.close(out.Fh)
		}()
	}
	<-done
	<-done
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	slices.Sort(lines)
	var want []string
	for i := range 2 {
		for n := range each {
			want = append(want, fmt.Sprintf("mount %d line %02d", i, n))
		}
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got %q", lines)
	}
}

// A second listing and the attributes of all that is in it ask nobody, and what another
// client changes is seen at once.
func TestListingsUnderALease(t *testing.T) {
	s := newNAS(t)
	for i := range 50 {
		if err := os.WriteFile(filepath.Join(s.dir, fmt.Sprint("f", i)), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sh := s.share(t, client.Config{POSIX: client.POSIXRequired})
	k := newKernel(t, sh, Config{})
	look := func() (names int, requests uint64) {
		before := sh.Session().Stats().Requests
		list := k.list(rootID)
		for _, name := range list {
			if _, _, err := k.find(name); err != 0 {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, _, err := k.find("absent"); err != syscall.ENOENT {
			t.Errorf("absent: %v", err)
		}
		return len(list), sh.Session().Stats().Requests - before
	}
	look()
	if n, asked := look(); n != 50 || asked != 0 {
		t.Errorf("second time: %d names with %d requests, want 50 with none", n, asked)
	}
	other := s.share(t, client.Config{})
	if err := other.WriteFile(t.Context(), "new", []byte("y"), 0o644); err != nil {
		t.Fatal(err)
	}
	// The break is on its way: a request of ours comes behind it.
	if err := sh.Session().Echo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, asked := look(); n != 51 || asked == 0 {
		t.Errorf("after a change: %d names with %d requests, want 51 with some", n, asked)
	}
}

// What is open here, and was closed, is opened again without a round trip; and another
// client that wants to delete it does not wait for it.
func TestOpensUnderALease(t *testing.T) {
	s := newNAS(t)
	if err := os.WriteFile(filepath.Join(s.dir, "f"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	sh := s.share(t, client.Config{})
	k := newKernel(t, sh, Config{})
	id, _, errno := k.find("f")
	if errno != 0 {
		t.Fatal(errno)
	}
	k.close(k.open(id, syscall.O_RDONLY))
	before := sh.Session().Stats().Requests
	fh := k.open(id, syscall.O_RDONLY)
	if asked := sh.Session().Stats().Requests - before; asked != 0 {
		t.Errorf("the second open took %d requests", asked)
	}
	k.close(fh)
	if err := s.share(t, client.Config{}).Remove(t.Context(), "f"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "f")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("on the server: %v", err)
	}
}

// The mount itself, where this machine lets a test have one.
func TestMount(t *testing.T) {
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Skipf("no mount without /dev/fuse: %v", err)
	} else {
		f.Close()
	}
	s := newNAS(t)
	dir := t.TempDir()
	m, err := New(t.Context(), s.share(t, client.Config{POSIX: client.POSIXIfOffered}), dir, Config{
		Source: "//nas/data", UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), ForceUID: true, ForceGID: true})
	if err != nil {
		t.Skipf("this user cannot mount: %v", err)
	}
	defer func() {
		if err := m.Unmount(); err != nil {
			t.Error(err)
		}
	}()
	name := filepath.Join(dir, "a:b")
	content := strings.Repeat("0123456789", 100_000)
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != content {
		t.Errorf("read %d bytes, %v", len(b), err)
	}
	if b, err := os.ReadFile(filepath.Join(s.dir, "a:b")); err != nil || string(b) != content {
		t.Errorf("on the server: %d bytes, %v", len(b), err)
	}
	if err := os.Symlink("a:b", filepath.Join(dir, "link")); err != nil {
		t.Error(err)
	} else if to, err := os.Readlink(filepath.Join(dir, "link")); err != nil || to != "a:b" {
		t.Errorf("the link points to %q, %v", to, err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "a:b")); err != nil {
		t.Error(err)
	}
}

// failures counts what is logged of closes.
type failures struct {
	slog.Handler
	n atomic.Int32
}

func (f *failures) Enabled(context.Context, slog.Level) bool { return true }

func (f *failures) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "close" {
		f.n.Add(1)
	}
	return nil
}

// A mount whose server has gone waits for it once when it ends, not for every file.
func TestTheEndWithoutAServer(t *testing.T) {
	s := newNAS(t)
	log := &failures{Handler: slog.DiscardHandler}
	k := newKernel(t, s.share(t, client.Config{Timeout: 200 * time.Millisecond, Reconnect: client.ReconnectConfig{Enabled: true}}),
		Config{Logger: slog.New(log)})
	for i := range 20 {
		_, fh := k.create(fmt.Sprint("f", i), "x")
		if i%2 == 0 {
			k.close(fh)
			k.close(k.open(k.found(fmt.Sprint("f", i)), syscall.O_RDONLY)) // and stays open on the server
		}
	}
	s.stop()
	k.stop()
	k.fs.closeAll()
	if got := log.n.Load(); got > 2 { // by the minder and by closeAll, at once
		t.Errorf("%d closes were waited for", got)
	}
}

// Pages that a lease protects are the kernel's to keep from one open to the next, also
// when another right of the lease has gone and come back meanwhile: dropping them would
// have programs that share them through a map lose what they wrote.
func TestPagesAreKeptWhenOnlyTheRightToWriteWasLost(t *testing.T) {
	s := newNAS(t)
	k := newKernel(t, s.share(t, client.Config{}), Config{})
	id, first := k.create("f", "content")
	other, err := s.share(t, client.Config{}).Open(t.Context(), "f") // which has the lease to write broken
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var out gofuse.OpenOut
		k.ok(k.fs.Open(nil, &gofuse.OpenIn{InHeader: head(id), Flags: syscall.O_RDWR}, &out))
		if out.OpenFlags&gofuse.FOPEN_KEEP_CACHE == 0 || out.OpenFlags&gofuse.FOPEN_DIRECT_IO != 0 {
			t.Errorf("opened with flags %#x, want the pages to be kept", out.OpenFlags)
		}
		defer k.close(out.Fh)
	}
	k.close(first)
}
