package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// A listing of a share has every name once, in order, and what each is, whatever the
// directory takes: one answer, several, or a second beginning for the sake of the tags.
func TestReadDir(t *testing.T) {
	for _, c := range []struct {
		name  string
		files int
		link  string // a symbolic link that leads nowhere, which the server shows as such
	}{
		{"empty", 0, ""},
		{"of one answer", 100, ""},
		{"of two answers", 1000, ""},
		{"of many answers", 5000, ""},
		{"small with a link", 3, "link"},
		{"large with a link", 5000, "link"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, linkConfig{}, nil)
			must(t, os.Mkdir(filepath.Join(s.dir, "d"), 0o777))
			var want []string
			for i := range c.files {
				want = append(want, fmt.Sprintf("file-%05d", i))
				s.file(t, "d/"+want[i], make([]byte, i%7))
			}
			if c.link != "" {
				must(t, os.Symlink("nowhere", filepath.Join(s.dir, "d", c.link)))
				want = append(want, c.link)
			}
			sh := s.mount(t, Config{})
			es, err := sh.ReadDir(t.Context(), "d")
			must(t, err)
			var got []string
			for i, e := range es {
				got = append(got, e.Name())
				info, _ := e.Info()
				if e.Name() == c.link {
					if e.Type() != fs.ModeSymlink {
						t.Errorf("%s is %v, want a symbolic link", c.link, e.Type())
					}
				} else if e.Type() != 0 || info.Size() != int64(i%7) {
					t.Errorf("%s is %v of %d bytes, want a file of %d", e.Name(), e.Type(), info.Size(), i%7)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d names, want the %d from %q on", len(got), len(want), want[:min(3, len(want))])
			}
		})
	}
}

// A small directory takes two round trips; File.ReadDir asks for the identity too.
func TestReadDirCost(t *testing.T) {
	s := newSite(t, linkConfig{}, nil)
	s.file(t, "a", nil)
	s.file(t, "b", nil)
	sh := s.mount(t, Config{})
	before := sh.Session().TransportStats().MessagesSent
	es, err := sh.ReadDir(t.Context(), "")
	must(t, err)
	if n := sh.Session().TransportStats().MessagesSent - before; n != 2 || len(es) != 2 {
		t.Errorf("%d entries in %d messages, want 2 in 2", len(es), n)
	}
	f, err := sh.Open(t.Context(), "")
	must(t, err)
	defer f.Close()
	es, err = f.ReadDir(-1)
	must(t, err)
	for _, e := range es {
		if e.(*FileInfo).FileID() == 0 {
			t.Errorf("File.ReadDir does not tell the identity of %s", e.Name())
		}
	}
	for _, name := range []string{"a", "nothing"} {
		if _, err := sh.ReadDir(t.Context(), name); name == "a" && !errors.Is(err, ntstatus.NotADirectory) ||
			name == "nothing" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("listing %s: %v", name, err)
		}
	}
}

// A directory is opened and listed in one message, also where it is had again after a loss
// of the connection; and every name comes once, whenever that is lost.
func TestOpenDir(t *testing.T) {
	names := func(n int) (want []string) {
		for i := range n {
			want = append(want, fmt.Sprintf("a file with number %04d", i))
		}
		return want
	}
	list := func(t *testing.T, f *File, got []string, n int) []string {
		t.Helper()
		es, err := f.ReadDir(n)
		must(t, err)
		for _, e := range es {
			if e.(*FileInfo).FileID() == 0 {
				t.Errorf("the identity of %s is not told", e.Name())
			}
			got = append(got, e.Name())
		}
		return got
	}
	for _, c := range []struct {
		name     string
		files    int
		cut      string
		messages uint64
	}{
		{"small", 100, "", 1},
		{"small, the connection is lost before the answer", 100, "at once", 0},
		{"small, the connection is lost before it is read", 100, "opened", 0},
		{"large, the connection is lost when some is read", 3000, "opened", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHome(t, linkConfig{maxMessage: 70_000}, nil)
			must(t, os.Mkdir(filepath.Join(h.dir, "dir"), 0o777))
			want := names(c.files)
			for _, n := range want {
				must(t, os.WriteFile(filepath.Join(h.dir, "dir", n), nil, 0o666))
			}
			sh := h.share(again(0), "data")
			lease := sh.NewLease(LeaseOptions{Want: LeaseRead | LeaseHandle})
			before := sh.Session().TransportStats().MessagesSent
			if c.cut == "at once" {
				h.mu.Lock()
				l := h.links[0]
				h.mu.Unlock()
				l.mute.Store(true) // the server hears nothing
				time.AfterFunc(20*time.Millisecond, h.cut)
			}
			f, err := sh.OpenDir(t.Context(), "dir", CreateOptions{Lease: lease})
			must(t, err)
			defer f.Close()
			if f.Lease() != lease || lease.State()&LeaseRead == 0 {
				t.Errorf("the lease is %v, %v", f.Lease(), lease.State())
			}
			var got []string
			if c.cut == "opened" {
				got = list(t, f, got, 50)
				h.cut()
			}
			got = list(t, f, got, -1)
			if n := sh.Session().TransportStats().MessagesSent - before; c.messages != 0 && n != c.messages {
				t.Errorf("%d messages, want %d", n, c.messages)
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%d names, of which %d differ, want %d", len(got), len(slices.Compact(slices.Clone(got))), len(want))
			}
			// A directory that is not there, and what is none.
			if _, err := sh.OpenDir(t.Context(), "absent", CreateOptions{}); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("an absent one: %v", err)
			}
			if _, err := sh.OpenDir(t.Context(), "dir/"+want[0], CreateOptions{}); !errors.Is(err, ntstatus.NotADirectory) {
				t.Errorf("a file: %v", err)
			}
		})
	}
}

// A server that does not do the requests of a compound with the open is asked again.
func TestReadDirWithoutCompounds(t *testing.T) {
	f, l := newFake(t, linkConfig{})
	asked := 0
	f.on[smb2.CommandQueryDirectory] = func(f *fake, h smb2.Header, msg []byte) bool {
		switch asked++; asked {
		case 1, 2:
			f.fail(h, ntstatus.InvalidParameter)
		case 3:
			list := smb2.NewEntryList(nil, 4096)
			list.AppendDirectoryEntry(leanClass, &smb2.DirectoryEntry{FileName: "name"})
			f.reply(h, 0, &smb2.QueryDirectoryResponse{OutputBuffer: list.Bytes()})
		default:
			f.fail(h, ntstatus.NoMoreFiles)
		}
		return true
	}
	file := f.open(l, Config{})
	es, err := file.Share().ReadDir(context.Background(), "")
	if err != nil || len(es) != 1 || es[0].Name() != "name" {
		t.Errorf("%v, %v; want one entry", es, err)
	}
}

// Who gives up while the first answer to a listing is missing leaves nothing open.
func TestReadDirGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFake(t, linkConfig{})
		kept := hang(f, smb2.CommandQueryDirectory)
		file := f.open(l, Config{})
		opened := f.requests(smb2.CommandCreate)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := file.Share().ReadDir(ctx, ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("listing: %v", err)
		}
		if n := f.requests(smb2.CommandCreate) - opened; n != 1 {
			t.Fatalf("%d opens, want 1", n)
		}
		synctest.Wait() // for the fake, which is busy with the cancellations
		for range 2 {
			f.fail(<-kept, ntstatus.Cancelled)
		}
		must(t, file.Share().Session().Echo(context.Background())) // before which it is closed
		synctest.Wait()
		if n := f.requests(smb2.CommandClose); n != 1 {
			t.Errorf("%d files were closed, want the one of the listing", n)
		}
		file.Share().Session().Close()
	})
}

// Who gives up in the middle of a listing, and goes on later, misses nothing of what the
// server has passed over meanwhile.
func TestReadDirGivenUpMidway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFake(t, linkConfig{})
		asked := 0
		f.on[smb2.CommandQueryDirectory] = func(f *fake, h smb2.Header, msg []byte) bool {
			m, err := smb2.ParseQueryDirectoryRequest(msg)
			if err != nil {
				t.Error(err)
			}
			restart := m.Flags&smb2.QueryDirectoryRestartScans != 0
			switch asked++; {
			case asked == 1:
				f.reply(h, 0, entries(t, "a", "b"))
			case asked == 2: // "c" is in the answer that does not come
			case asked == 3 && restart:
				f.reply(h, 0, entries(t, "a", "b", "c"))
			default:
				f.fail(h, ntstatus.NoMoreFiles)
			}
			return true
		}
		file := f.open(l, Config{Reconnect: ReconnectConfig{Enabled: true,
			Dial: func(context.Context) (transport.Conn, error) { return nil, net.ErrClosed }}})
		defer file.Share().Session().Close()
		read := func() string {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			es, err := file.ReadDirContext(ctx, 1)
			if err != nil {
				if errors.Is(err, context.DeadlineExceeded) {
					return "given up"
				}
				return err.Error()
			}
			return es[0].Name()
		}
		for _, want := range []string{"a", "b", "given up", "c", "EOF"} {
			if got := read(); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
	})
}
