//go:build peers

package peers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

func dialer(t *testing.T) *tcp.Dialer {
	t.Helper()
	d, err := tcp.NewDialer(tcp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func dialSamba(t *testing.T, s *samba, cfg client.Config) *client.Session {
	t.Helper()
	if cfg.User == "" {
		cfg.User, cfg.Password = sambaUser, sambaPassword
	}
	sess, err := client.Dial(t.Context(), dialer(t), s.addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sess.Close() })
	return sess
}

func mountSamba(t *testing.T, s *samba, cfg client.Config, share string) *client.Share {
	t.Helper()
	sh, err := dialSamba(t, s, cfg).Mount(t.Context(), share)
	if err != nil {
		t.Fatal(err)
	}
	return sh
}

func random(seed uint64, n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	r.Read(p)
	return p
}

// Every dialect, way of signing and cipher, with a file that takes several requests.
func TestClientSambaProtection(t *testing.T) {
	s := startSamba(t, "")
	all := []client.Config{}
	for _, d := range []client.Dialect{client.SMB202, client.SMB210, client.SMB300, client.SMB302, client.SMB311} {
		all = append(all, client.Config{MinDialect: d, MaxDialect: d}, client.Config{MinDialect: d, MaxDialect: d, Signing: client.SigningRequired})
	}
	for _, d := range []client.Dialect{client.SMB300, client.SMB302, client.SMB311} {
		all = append(all, client.Config{MinDialect: d, MaxDialect: d, Encryption: client.EncryptRequired})
	}
	for _, c := range []client.Cipher{client.AES128CCM, client.AES128GCM, client.AES256CCM, client.AES256GCM} {
		all = append(all, client.Config{Encryption: client.EncryptRequired, Ciphers: []client.Cipher{c}})
	}
	for _, a := range []client.SigningAlgorithm{client.HMACSHA256, client.AESCMAC, client.AESGMAC} {
		all = append(all, client.Config{Signing: client.SigningRequired, SigningAlgorithms: []client.SigningAlgorithm{a}})
	}
	data := random(1, 5<<20+12345)
	for i, cfg := range all {
		cfg.Window = 3
		sess := dialSamba(t, s, cfg)
		info := sess.Info()
		name := info.Dialect.String()
		switch {
		case info.Encrypted:
			name += "-" + info.Cipher.String()
		case info.Signed:
			name += "-" + info.SigningAlgorithm.String()
		}
		t.Run(name, func(t *testing.T) {
			if cfg.MaxDialect != 0 && info.Dialect != cfg.MaxDialect {
				t.Fatalf("dialect %v, want %v", info.Dialect, cfg.MaxDialect)
			}
			if want := cfg.Encryption == client.EncryptRequired; info.Encrypted != want {
				t.Fatalf("encrypted: %v", info.Encrypted)
			}
			if want := cfg.Signing == client.SigningRequired; info.Signed != want {
				t.Fatalf("signed: %v", info.Signed)
			}
			sh, err := sess.Mount(t.Context(), "test")
			if err != nil {
				t.Fatal(err)
			}
			name := "prot" + string(rune('a'+i))
			if err := sh.WriteFile(t.Context(), name, data, 0o666); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(s.dir, "test", name))
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("on disk: %d bytes, %v", len(got), err)
			}
			got, err = sh.ReadFile(t.Context(), name)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("read back: %d bytes, %v", len(got), err)
			}
			if err := sh.Remove(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			if err := sess.Logoff(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestClientSambaOperations(t *testing.T) {
	s := startSamba(t, "")
	ctx := t.Context()
	sh := mountSamba(t, s, client.Config{}, "test")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	is := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
	}
	must(sh.Mkdir(ctx, "d"))
	is(sh.Mkdir(ctx, "d"), fs.ErrExist)
	must(sh.MkdirAll(ctx, "/d/e/f/g"))
	must(sh.MkdirAll(ctx, `d\e\f\g`))
	must(sh.WriteFile(ctx, "d/e/file", []byte("hello"), 0o666))
	is(sh.MkdirAll(ctx, "d/e/file"), syscall.ENOTDIR)
	fi, err := sh.Stat(ctx, "d/e/file")
	must(err)
	if fi.Name() != "file" || fi.Size() != 5 || fi.IsDir() || fi.Links() != 1 || fi.FileID() == 0 {
		t.Fatalf("stat: %v id %d links %d", fi, fi.FileID(), fi.Links())
	}
	_, err = sh.Stat(ctx, "nothing")
	is(err, fs.ErrNotExist)
	_, err = sh.Open(ctx, "nothing/in/here")
	is(err, fs.ErrNotExist)
	_, err = sh.Open(ctx, "../x")
	is(err, fs.ErrInvalid)
	_, err = sh.OpenFile(ctx, "d/e/file", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	is(err, fs.ErrExist)
	_, err = sh.OpenFile(ctx, "d", os.O_WRONLY, 0)
	is(err, syscall.EISDIR)

	when := time.Date(2020, 2, 29, 12, 34, 56, 789012300, time.UTC)
	must(sh.Chtimes(ctx, "d/e/file", time.Time{}, when))
	fi, err = sh.Stat(ctx, "d/e/file")
	must(err)
	if !fi.ModTime().Equal(when) {
		t.Fatalf("mtime %v, want %v", fi.ModTime(), when)
	}
	must(sh.Truncate(ctx, "d/e/file", 3))
	data, err := sh.ReadFile(ctx, "d/e/file")
	must(err)
	if string(data) != "hel" {
		t.Fatalf("%q", data)
	}
	must(sh.Rename(ctx, "d/e/file", "d/e/other", false))
	must(sh.WriteFile(ctx, "d/e/third", nil, 0o666))
	is(sh.Rename(ctx, "d/e/third", "d/e/other", false), fs.ErrExist)
	must(sh.Rename(ctx, "d/e/third", "d/e/other", true))
	must(sh.Link(ctx, "d/e/other", "d/e/linked"))
	must(sh.SetAttributes(ctx, "d/e/other", client.AttrReadOnly))
	fi, err = sh.Stat(ctx, "d/e/other")
	must(err)
	if fi.Attributes()&client.AttrReadOnly == 0 || fi.Mode().Perm() != 0o444 {
		t.Fatalf("attributes 0x%x", fi.Attributes())
	}
	must(sh.Remove(ctx, "d/e/other"))
	is(sh.Remove(ctx, "d"), syscall.ENOTEMPTY)

	for i := range 700 { // more than one QUERY_DIRECTORY answer holds
		must(os.WriteFile(filepath.Join(s.dir, "test", "d", "e", "a-name-that-takes-some-room-"+string(rune('0'+i/100))+string(rune('0'+i/10%10))+string(rune('0'+i%10))), nil, 0o666))
	}
	es, err := sh.ReadDir(ctx, "d/e")
	must(err)
	if len(es) != 702 || !slices.IsSortedFunc(es, func(a, b fs.DirEntry) int { return bytes.Compare([]byte(a.Name()), []byte(b.Name())) }) {
		t.Fatalf("%d entries", len(es))
	}
	_, err = sh.ReadDir(ctx, "d/e/linked")
	is(err, syscall.ENOTDIR)
	n := 0
	must(sh.WalkDir(ctx, "d", func(path string, d fs.DirEntry, err error) error { n++; return err }))
	if n != 1+1+702+1 {
		t.Fatalf("walked %d", n)
	}
	must(sh.RemoveAll(ctx, "d"))
	must(sh.RemoveAll(ctx, "d"))
	_, err = sh.Stat(ctx, "d")
	is(err, fs.ErrNotExist)
	st, err := sh.StatFS(ctx)
	must(err)
	if st.BlockSize <= 0 || st.TotalBlocks == 0 || st.FSType != "NTFS" {
		t.Fatalf("%+v", st)
	}
	must(sh.Unmount(ctx))
	_, err = sh.Stat(ctx, "x")
	if err == nil {
		t.Fatal("stat after unmount")
	}
}

func TestClientSambaFile(t *testing.T) {
	s := startSamba(t, "")
	ctx := t.Context()
	sh := mountSamba(t, s, client.Config{}, "test")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := sh.Create(ctx, "f")
	must(err)
	if f.CreateAction() != client.Created {
		t.Fatal(f.CreateAction())
	}
	data := random(2, 3<<20+17)
	n, err := f.ReadFrom(bytes.NewReader(data))
	must(err)
	if n != int64(len(data)) {
		t.Fatal(n)
	}
	must(f.Sync(ctx))
	if pos, err := f.Seek(-17, io.SeekEnd); err != nil || pos != 3<<20 {
		t.Fatal(pos, err)
	}
	var out bytes.Buffer
	_, err = f.WriteTo(&out)
	must(err)
	if !bytes.Equal(out.Bytes(), data[3<<20:]) {
		t.Fatal("tail differs")
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if m, err := io.Copy(&out, f); err != nil || m != n || !bytes.Equal(out.Bytes(), data) {
		t.Fatal(m, err)
	}
	p := make([]byte, 100)
	if m, err := f.ReadAt(p, n-10); m != 10 || err != io.EOF {
		t.Fatal(m, err)
	}
	if m, err := f.ReadAt(p, n); m != 0 || err != io.EOF {
		t.Fatal(m, err)
	}
	if m, err := f.ReadAt(p[:10], n-10); m != 10 || err != nil && err != io.EOF {
		t.Fatal(m, err)
	}
	if m, err := f.ReadAt(p, -1); m != 0 || !errors.Is(err, fs.ErrInvalid) {
		t.Fatal(m, err)
	}
	must(f.Truncate(ctx, 100))
	if fi, err := f.Stat(); err != nil || fi.Size() != 100 {
		t.Fatal(fi, err)
	}
	g, err := sh.OpenFile(ctx, "f", os.O_WRONLY|os.O_APPEND, 0)
	must(err)
	if _, err := g.Write([]byte("end")); err != nil {
		t.Fatal(err)
	}
	must(g.Close())
	if m, err := f.ReadAt(p[:3], 100); m != 3 || string(p[:3]) != "end" || err != nil && err != io.EOF {
		t.Fatal(m, err)
	}

	// Locks of two opens exclude each other; a waiting lock can be cancelled.
	g, err = sh.OpenFile(ctx, "f", os.O_RDWR, 0)
	must(err)
	must(f.Lock(ctx, 10, 5, client.LockOptions{}))
	if err := g.Lock(ctx, 12, 1, client.LockOptions{}); !errors.Is(err, syscall.EAGAIN) {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	if err := g.Lock(short, 12, 1, client.LockOptions{Wait: true}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	cancel()
	waited := make(chan error)
	go func() { waited <- g.Lock(ctx, 12, 1, client.LockOptions{Wait: true, Shared: true}) }()
	must(f.Unlock(ctx, 10, 5))
	must(<-waited)
	must(g.Close())
	must(f.Close())
	if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(p, 0); !errors.Is(err, fs.ErrClosed) {
		t.Fatal(err)
	}

	// Copies on the server.
	big := random(3, 20<<20+5)
	must(sh.WriteFile(ctx, "big", big, 0o666))
	before := sh.Session().Stats()
	if n, err := sh.CopyFile(ctx, "big", "copy"); err != nil || n != int64(len(big)) {
		t.Fatal(n, err)
	}
	if after := sh.Session().Stats(); after.InlineBytesRead != before.InlineBytesRead {
		t.Fatal("the copy went through the client")
	}
	got, err := os.ReadFile(filepath.Join(s.dir, "test", "copy"))
	if err != nil || !bytes.Equal(got, big) {
		t.Fatal(len(got), err)
	}
}

func TestClientSambaWatch(t *testing.T) {
	s := startSamba(t, "")
	ctx := t.Context()
	sh := mountSamba(t, s, client.Config{}, "test")
	w, err := sh.Watch(ctx, "", client.WatchOptions{Recursive: true})
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := w.Next(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if err := sh.Mkdir(ctx, "new"); err != nil {
		t.Fatal(err)
	}
	cs, err := w.Next(ctx)
	if err != nil || len(cs) == 0 || cs[0] != (client.Change{Action: client.ActionAdded, Name: "new"}) {
		t.Fatal(cs, err)
	}
	ended := make(chan error)
	go func() { _, err := w.Next(ctx); ended <- err }()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, fs.ErrClosed) {
		t.Fatal(err)
	}
}

func TestClientSambaSession(t *testing.T) {
	s := startSamba(t, "")
	ctx := t.Context()
	sess := dialSamba(t, s, client.Config{})
	list, err := sess.ListShares(ctx)
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	want := []client.ShareInfo{{Name: "IPC$", Type: client.ShareIPC | client.ShareHidden}, {Name: "sealed"}, {Name: "test", Comment: "a disk"}}
	list[0].Comment = ""
	if !slices.Equal(list, want) {
		t.Fatalf("%+v", list)
	}
	if err := sess.Echo(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := sess.Mount(ctx, "nope"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	// An encrypted share on a session that is not.
	sh, err := sess.Mount(ctx, "sealed")
	if err != nil {
		t.Fatal(err)
	}
	if !sh.Encrypted() || sess.Info().Encrypted {
		t.Fatal(sh.Encrypted(), sess.Info())
	}
	data := random(4, 1<<20)
	if err := sh.WriteFile(ctx, "x", data, 0o666); err != nil {
		t.Fatal(err)
	}
	if got, err := sh.ReadFile(ctx, "x"); err != nil || !bytes.Equal(got, data) {
		t.Fatal(len(got), err)
	}
	_, err = client.Dial(ctx, dialer(t), s.addr, client.Config{User: sambaUser, Password: "wrong"})
	if !errors.Is(err, fs.ErrPermission) {
		t.Fatal(err)
	}
	guest := dialSamba(t, s, client.Config{User: "nobody-we-know", Password: "x"})
	if !guest.Info().Guest {
		t.Fatal("not a guest")
	}
	if sh, err = guest.Mount(ctx, "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := sh.ReadDir(ctx, ""); err != nil {
		t.Fatal(err)
	}
	_, err = client.Dial(ctx, dialer(t), s.addr, client.Config{User: "nobody-we-know", Password: "x", Signing: client.SigningRequired})
	if !errors.Is(err, fs.ErrPermission) {
		t.Fatal(err)
	}
}

func TestClientSambaFS(t *testing.T) {
	s := startSamba(t, "")
	ctx := t.Context()
	sh := mountSamba(t, s, client.Config{}, "test")
	for name, size := range map[string]int{"a": 0, "b.txt": 10, "dir/c": 3000, "dir/sub/d ö": 3, "empty/.keep": 1} {
		if err := sh.MkdirAll(ctx, filepath.Dir(name)); err != nil {
			t.Fatal(err)
		}
		if err := sh.WriteFile(ctx, name, random(5, size), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := fstest.TestFS(sh.FS(), "a", "b.txt", "dir/c", "dir/sub/d ö", "empty/.keep"); err != nil {
		t.Fatal(err)
	}
}
