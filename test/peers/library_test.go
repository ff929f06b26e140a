//go:build peers

package peers

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hirochachacha/go-smb2"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// What a file has beside its data, on Samba's disk and through our library.
func TestLibrarySamba(t *testing.T) {
	ctx := t.Context()
	s := startSamba(t, "vfs objects = streams_xattr")
	sh := mountSamba(t, s, client.Config{}, "test")
	onDisk := func(name string) string { return filepath.Join(s.dir, "test", name) }
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	t.Run("holes", func(t *testing.T) {
		const mib = 1 << 20
		f, err := sh.Create(ctx, "sparse")
		must(t, err)
		defer f.Close()
		must(t, f.SetSparse(ctx, true))
		must(t, f.Truncate(ctx, 4*mib))
		_, err = f.WriteAt(random(1, 65536), 2*mib)
		must(t, err)
		want := []client.Range{{Offset: 2 * mib, Length: 65536}}
		if got, err := f.AllocatedRanges(ctx, 0, 4*mib); err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
		if at, err := f.SeekData(ctx, 0); at != 2*mib || err != nil {
			t.Error(at, err)
		}
		if at, err := f.SeekHole(ctx, 2*mib); at != 2*mib+65536 || err != nil {
			t.Error(at, err)
		}
		must(t, f.ZeroRange(ctx, 2*mib, 65536))
		if _, err := f.SeekData(ctx, 0); !errors.Is(err, syscall.ENXIO) {
			t.Error(err)
		}
	})

	t.Run("server-side copy", func(t *testing.T) {
		data := random(2, 20<<20+333)
		must(t, sh.WriteFile(ctx, "from", data, 0o666))
		in, err := sh.Open(ctx, "from")
		must(t, err)
		defer in.Close()
		out, err := sh.Create(ctx, "to")
		must(t, err)
		defer out.Close()
		before := sh.Session().Stats()
		if n, err := io.Copy(out, in); n != int64(len(data)) || err != nil {
			t.Fatal(n, err)
		}
		if st := sh.Session().Stats(); st.InlineBytesRead != before.InlineBytesRead {
			t.Error("the data came through the client")
		}
		if got, err := os.ReadFile(onDisk("to")); err != nil || !bytes.Equal(got, data) {
			t.Error(err)
		}
	})

	t.Run("extended attributes", func(t *testing.T) {
		must(t, sh.WriteFile(ctx, "ea", nil, 0o666))
		if list, err := sh.EAs(ctx, "ea"); err != nil || len(list) != 0 {
			t.Error(list, err)
		}
		if err := sh.SetEA(ctx, "ea", "color", []byte("red")); err != nil {
			t.Skipf("this file system keeps none: %v", err)
		}
		must(t, sh.SetEA(ctx, "ea", "long", bytes.Repeat([]byte("x"), 1000)))
		p := make([]byte, 10)
		// Samba has a NUL behind the value, as Windows' programs expect it.
		if n, err := syscall.Getxattr(onDisk("ea"), "user.color", p); err != nil || !strings.HasPrefix(string(p[:max(n, 0)]), "red") {
			if n, err = syscall.Getxattr(onDisk("ea"), "user.COLOR", p); err != nil {
				t.Error(n, err)
			}
		}
		if v, err := sh.EA(ctx, "ea", "color"); err != nil || string(v) != "red" {
			t.Errorf("%q, %v", v, err)
		}
		if list, err := sh.EAs(ctx, "ea"); err != nil || len(list) != 2 {
			t.Error(list, err)
		}
		must(t, sh.RemoveEA(ctx, "ea", "color"))
		if v, err := sh.EA(ctx, "ea", "color"); !errors.Is(err, syscall.ENODATA) {
			t.Errorf("%q, %v", v, err)
		}
	})

	t.Run("links", func(t *testing.T) {
		must(t, sh.WriteFile(ctx, "target", []byte("x"), 0o666))
		must(t, os.Symlink("target", onDisk("made here")))
		if got, err := sh.Readlink(ctx, "made here"); err != nil || got != "target" {
			// 4.17 follows links and tells of none; later versions do.
			if !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("%q, %v", got, err)
			}
		}
		if got, err := sh.ReadFile(ctx, "made here"); err != nil || string(got) != "x" {
			t.Errorf("%q, %v", got, err)
		}
		switch err := sh.Symlink(ctx, "target", "made by us"); {
		case errors.Is(err, errors.ErrUnsupported):
			if _, err := os.Lstat(onDisk("made by us")); !errors.Is(err, fs.ErrNotExist) {
				t.Error("what could not be a link is there:", err)
			}
		case err != nil:
			t.Error(err)
		default:
			if got, err := sh.Readlink(ctx, "made by us"); err != nil || got != "target" {
				t.Errorf("%q, %v", got, err)
			}
		}
		must(t, sh.Link(ctx, "target", "hard"))
		if fi, err := sh.Stat(ctx, "hard"); err != nil || fi.Links() != 2 {
			t.Error(fi, err)
		}
	})

	t.Run("security descriptor", func(t *testing.T) {
		must(t, sh.WriteFile(ctx, "acl", nil, 0o644))
		sd, err := sh.SecurityDescriptor(ctx, "acl", client.SecurityPlain)
		must(t, err)
		if sd.Owner.IsZero() || sd.Group.IsZero() || !sd.HasDACL || len(sd.DACL) == 0 {
			t.Errorf("%v", sd)
		}
		again, err := client.ParseSDDL(sd.String())
		if err != nil || again.String() != sd.String() {
			t.Errorf("%v is read as %v: %v", sd, again, err)
		}
		more := *sd
		everyone, err := client.ParseSDDL("D:(A;;FR;;;WD)")
		must(t, err)
		more.DACL = append(slices.Clone(sd.DACL), everyone.DACL...)
		must(t, sh.SetSecurityDescriptor(ctx, "acl", client.SecurityDACL, &more))
		if fi, err := os.Stat(onDisk("acl")); err != nil || fi.Mode()&0o004 == 0 {
			t.Error(fi.Mode(), err)
		}
	})

	t.Run("streams", func(t *testing.T) {
		must(t, sh.WriteFile(ctx, "base", []byte("data"), 0o666))
		if err := sh.WriteFile(ctx, "base:one", []byte("1"), 0o666); err != nil {
			t.Skipf("this file system keeps none: %v", err)
		}
		if list, err := sh.Streams(ctx, "base"); err != nil || len(list) != 1 || list[0].Name != "one" || list[0].Size != 1 {
			t.Error(list, err)
		}
		must(t, sh.Remove(ctx, "base:one"))
		if list, err := sh.Streams(ctx, "base"); err != nil || len(list) != 0 {
			t.Error(list, err)
		}
	})

	t.Run("file system", func(t *testing.T) {
		st, err := sh.StatFS(ctx)
		must(t, err)
		if st.BlockSize <= 0 || st.TotalBlocks == 0 || st.FSAttributes&client.FSSparse == 0 || st.SectorSize <= 0 {
			t.Errorf("%+v", st)
		}
		if list, err := sh.Snapshots(ctx); err == nil && len(list) != 0 || err != nil && !errors.Is(err, errors.ErrUnsupported) {
			t.Error(list, err)
		}
	})

	t.Run("read ahead", func(t *testing.T) {
		data := random(3, 5<<20)
		must(t, sh.WriteFile(ctx, "long", data, 0o666))
		f, err := sh.Open(ctx, "long")
		must(t, err)
		defer f.Close()
		if got, err := io.ReadAll(struct{ io.Reader }{f}); err != nil || !bytes.Equal(got, data) {
			t.Error(len(got), err)
		}
	})

	// Another make of client sees the same.
	t.Run("go-smb2", func(t *testing.T) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr)
		must(t, err)
		d := &smb2.Dialer{Initiator: &smb2.NTLMInitiator{User: sambaUser, Password: sambaPassword}}
		sess, err := d.DialContext(ctx, conn)
		must(t, err)
		defer sess.Logoff()
		theirs, err := sess.Mount("test")
		must(t, err)
		defer theirs.Umount()
		for _, name := range []string{"to", "sparse", "target", "long"} {
			ours, err := sh.Stat(ctx, name)
			must(t, err)
			fi, err := theirs.Stat(name)
			must(t, err)
			if fi.Size() != ours.Size() || !fi.ModTime().Equal(ours.ModTime()) || fi.Mode() != ours.Mode() {
				t.Errorf("%s: %v %d %v, go-smb2 has %v %d %v", name, ours.Mode(), ours.Size(), ours.ModTime(), fi.Mode(), fi.Size(), fi.ModTime())
			}
			a, err := sh.ReadFile(ctx, name)
			must(t, err)
			b, err := theirs.ReadFile(name)
			must(t, err)
			if !bytes.Equal(a, b) {
				t.Errorf("%s: not the same data", name)
			}
		}
	})
}
