package smbpasswd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The NT hash of "SecREt01", from smbpasswd(5)'s time; hashes here are only text.
const (
	hash  = "878D8014606CDA29677A44EFA1353FC7"
	sixty = "[U          ]:LCT-65F0A1B2:"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		line  string
		logon bool
		flags Flags
		bad   string
	}{
		{"alice:1000:" + noHash + ":" + hash + ":" + sixty, true, User, ""},
		{"alice:1000:" + noHash + ":" + strings.ToLower(hash) + ":" + sixty, true, User, ""},
		{"alice:1000:" + hash + ":" + hash, true, User, ""}, // the oldest form
		{"alice:1000:" + noHash + ":" + hash + ":[UD         ]:LCT-00000000:", false, User | Disabled, ""},
		{"alice:1000:" + noHash + ":" + hash + ":[NU         ]:LCT-00000000:", false, User | NoPassword, ""},
		{"host$:1000:" + noHash + ":" + hash + ":[W          ]:LCT-65F0A1B2:", false, Trust, ""},
		{"alice:1000:" + noHash + ":" + hash + ":[UX         ]:LCT-65F0A1B2:", true, User | NoExpiry, ""},
		{"alice:1000:" + noHash + ":" + hash + ":[           ]:LCT-65F0A1B2:", false, 0, ""},
		{"alice:1000:" + noHash + ":" + noHash + ":" + sixty, false, User | Disabled, ""},
		{"alice:1000:NO PASSWORDXXXXXXXXXXXXXXXXXXXXX:NO PASSWORDXXXXXXXXXXXXXXXXXXXXX:" + sixty, false, User | NoPassword, ""},
		{"with space:4294967295:" + noHash + ":" + hash + ":" + sixty, true, User, ""},
		{"alice", false, 0, "1 fields"},
		{":1:x:" + hash, false, 0, "user name"},
		{"alice:-1:x:" + hash, false, 0, "user id"},
		{"alice:4294967296:x:" + hash, false, 0, "user id"},
		{"alice:1:x:" + hash[1:], false, 0, "NT hash"},
		{"alice:1:x:" + hash + "00", false, 0, "NT hash"},
		{"alice:1:x:" + hash + ":[U", false, 0, "no end"},
		{"alice:1:x:" + hash + ":[U]:LCT-xyz", false, 0, "time"},
	} {
		l, bad, err := Parse(strings.NewReader("# comment\n\n" + c.line + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		if c.bad != "" {
			if len(bad) != 1 || !strings.Contains(bad[0].Error(), "line 3: ") || !strings.Contains(bad[0].Error(), c.bad) || l.Len() != 0 {
				t.Errorf("%s: %v, want %q", c.line, bad, c.bad)
			}
			if strings.Contains(fmt.Sprint(bad), hash) {
				t.Errorf("%s: the hash is told: %v", c.line, bad)
			}
			continue
		}
		name, _, _ := strings.Cut(c.line, ":")
		e := l.Find(strings.ToUpper(name))
		if e == nil || len(bad) > 0 || e.CanLogOn() != c.logon || e.Flags != c.flags {
			t.Errorf("%s: %+v (%v), want flags %x, logon %v", c.line, e, bad, c.flags, c.logon)
			continue
		}
		// What is written is read as the same.
		l2, bad, err := Parse(strings.NewReader(string(e.append(nil))))
		if err != nil || len(bad) > 0 || *l2.Find(name) != *e {
			t.Errorf("%s: written as %s (%v %v)", c.line, e.append(nil), err, bad)
		}
	}
}

func TestWritten(t *testing.T) {
	e := Entry{Name: "bob", UID: 7, HasHash: true, Hash: [16]byte{0xAB, 15: 0x01}, Flags: User | NoExpiry, Changed: time.Unix(0x65F0A1B2, 0)}
	const want = "bob:7:XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX:AB000000000000000000000000000001:[UX         ]:LCT-65F0A1B2:\n"
	if got := string(e.append(nil)); got != want {
		t.Errorf("written as\n%swant\n%s", got, want)
	}
}

func TestUpdate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "real")
	link := filepath.Join(dir, "smbpasswd")
	const kept = "# kept\n\nbroken\n"
	if err := os.WriteFile(path, []byte(kept+"old:1:"+noHash+":"+hash+":"+sixty+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", link); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	err := Update(ctx, link, func(l *List) error {
		if !l.Remove("OLD") || l.Remove("nobody") {
			t.Error("what is removed is not what there is")
		}
		return l.Put(Entry{Name: "new", UID: 2, Flags: User})
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if want := kept + "new:2:" + noHash + ":" + noHash + ":[U          ]:LCT-00000000:\n"; err != nil || string(b) != want {
		t.Errorf("the file (%v) is\n%s\nwant\n%s", err, b, want)
	}
	if fi, err := os.Lstat(path); err != nil || fi.Mode() != 0o600 {
		t.Errorf("mode %v (%v), want 0600", fi.Mode(), err)
	}
	if fi, err := os.Lstat(link); err != nil || fi.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link was replaced (%v)", err)
	}
	// An error leaves all as it was.
	stop := errors.New("stop")
	if l, _, err := Read(path); err != nil || l.Len() != 1 {
		t.Errorf("%d entries (%v)", l.Len(), err)
	} else {
		for e := range l.All() {
			if e.Name != "new" {
				t.Errorf("the entry is of %q", e.Name)
			}
		}
	}
	if err := Update(ctx, path, func(l *List) error { l.Remove("new"); return stop }); err != stop {
		t.Errorf("error %v", err)
	}
	for _, name := range []string{"", "a:b", "#a", " a", "a\nb", strings.Repeat("x", 256), "\xff"} {
		if err := Update(ctx, path, func(l *List) error { return l.Put(Entry{Name: name}) }); err == nil {
			t.Errorf("name %q is taken", name)
		}
	}
	if b2, err := os.ReadFile(path); err != nil || string(b2) != string(b) {
		t.Errorf("a change that failed left\n%s", b2)
	}
	if es, err := os.ReadDir(dir); err != nil || len(es) != 2 {
		t.Errorf("left behind: %v (%v)", es, err)
	}
}

func TestUpdatesExcludeEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "smbpasswd")
	var wg sync.WaitGroup
	const n = 20
	for i := range n {
		wg.Go(func() {
			err := Update(t.Context(), path, func(l *List) error {
				return l.Put(Entry{Name: fmt.Sprintf("user%d", i), Flags: User})
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	l, bad, err := Read(path)
	if err != nil || len(bad) > 0 || l.Len() != n {
		t.Fatalf("%d users of %d (%v %v)", l.Len(), n, bad, err)
	}
	// A lock of another program is waited for no longer than ctx.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Update(ctx, path, func(*List) error { t.Error("changed under a lock"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("alice:1000:" + noHash + ":" + hash + ":" + sixty)
	f.Fuzz(func(t *testing.T, s string) {
		l, _, err := Parse(strings.NewReader(s))
		if err != nil {
			return
		}
		for _, x := range l.lines {
			if x.entry == nil {
				continue
			}
			again, bad, err := Parse(strings.NewReader(string(x.entry.append(nil))))
			if err != nil || len(bad) > 0 || again.Find(x.entry.Name) == nil || again.Find(x.entry.Name).CanLogOn() != x.entry.CanLogOn() {
				t.Errorf("%+v is written so that it is not read (%v %v)", x.entry, err, bad)
			}
		}
	})
}

// Who has two lines is gone with the first: the second, perhaps of an old password, does
// not come in its place.
func TestRemoveOfTwo(t *testing.T) {
	two := "alice:1:" + noHash + ":" + hash + ":" + sixty + "\nbob:2:" + noHash + ":" + hash + ":" + sixty +
		"\n# alice: a comment\nAlice:1:" + noHash + ":" + strings.Repeat("0", 32) + ":" + sixty + "\n"
	path := filepath.Join(t.TempDir(), "smbpasswd")
	if err := os.WriteFile(path, []byte(two), 0o600); err != nil {
		t.Fatal(err)
	}
	err := Update(t.Context(), path, func(l *List) error {
		if !l.Remove("ALICE") {
			t.Error("alice is not there")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	l, bad, err := Read(path)
	if err != nil || len(bad) > 0 || l.Find("alice") != nil || l.Find("bob") == nil {
		t.Errorf("left are %d, alice is %+v (%v %v)", l.Len(), l.Find("alice"), bad, err)
	}
	if b, _ := os.ReadFile(path); !strings.Contains(string(b), "# alice: a comment\n") {
		t.Errorf("the comment is gone: %s", b)
	}
}
