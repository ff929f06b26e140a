package client

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
)

// SDDL as Windows writes it is read and written the same, [MS-DTYP] 2.5.1.
func TestSDDL(t *testing.T) {
	for _, s := range []string{
		"",
		"O:BAG:SY",
		"O:S-1-22-1-1000G:S-1-22-2-100D:P(A;;FA;;;S-1-22-1-1000)(D;OICIIO;0x10002;;;WD)",
		"D:PAI(A;OICI;FR;;;BU)(A;ID;FX;;;AU)",
		"D:",
		"D:" + nullDACL,
		"O:BAD:AR(A;;GA;;;OW)S:P(AU;SAFA;FW;;;WD)(ML;;0x1;;;HI)",
		"D:(OA;;0x100;00299570-246d-11d0-a768-00aa006e0529;bf967aba-0de6-11d0-a285-00aa003049e2;AU)",
	} {
		sd, err := ParseSDDL(s)
		if err != nil {
			t.Errorf("%q: %v", s, err)
			continue
		}
		if got := sd.String(); got != s {
			t.Errorf("%q is written %q", s, got)
		}
	}
	for in, want := range map[string]Access{
		"GRGW": AccessGenericRead | AccessGenericWrite, "0x1200a9": 0x1200a9, "1": 1, "RCSDWDWO": 0x000F0000, "CCDCLCSWRPWPDTLOCR": 0x1FF, "": 0,
	} {
		sd, err := ParseSDDL("D:(A;;" + in + ";;;WD)")
		if err != nil || len(sd.DACL) != 1 || sd.DACL[0].Access != want {
			t.Errorf("rights %q: %+v, %v", in, sd, err)
		}
	}
	for _, s := range []string{
		"X", "O", "O:", "O:BAO:BA", "Q:BA", "O:DA", "D:(A;;FA;;;WD", "D:A;;FA;;;WD)", "D:(A;;FA;;WD)", "D:(Z;;FA;;;WD)",
		"D:(A;XX;FA;;;WD)", "D:(A;O;FA;;;WD)", "D:(A;;QQ;;;WD)", "D:(A;;0x100000000;;;WD)", "D:(A;;FA;;;)", "D:Q(A;;FA;;;WD)",
		"D:(A;;FA;00299570-246d-11d0-a768-00aa006e0529;;WD)", "D:(OA;;FA;0029;;WD)", "S:" + nullDACL, "D:" + nullDACL + "(A;;FA;;;WD)",
	} {
		if sd, err := ParseSDDL(s); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v, %v", s, sd, err)
		}
	}
}

func TestSecurityDescriptor(t *testing.T) {
	ctx := context.Background()
	sh := newSite(t, linkConfig{}, func(c *server.Config) { c.Shares[0].AdminUsers = []string{"ann"} }).mount(t, Config{})
	must(t, sh.WriteFile(ctx, "f", nil, 0o666))
	const dacl = "D:P(A;;FA;;;S-1-22-1-1234)(D;;FW;;;S-1-22-2-77)(A;;FR;;;WD)"
	sd, err := ParseSDDL("O:S-1-22-1-1234G:S-1-22-2-77" + dacl)
	must(t, err)
	must(t, sh.SetSecurityDescriptor(ctx, "f", SecurityPlain, sd))
	got, err := sh.SecurityDescriptor(ctx, "f", SecurityPlain)
	must(t, err)
	if got.Owner != UnixUser(1234) || got.Group != UnixGroup(77) || !got.HasDACL || got.Control&DACLProtected == 0 ||
		!slices.EqualFunc(got.DACL, sd.DACL, func(a, b ACE) bool { return a.Type == b.Type && a.Access == b.Access && a.Trustee == b.Trustee }) {
		t.Fatalf("%v", got)
	}
	f, err := sh.CreateFile(ctx, "f", CreateOptions{Access: AccessReadControl | AccessWriteDAC | AccessWriteOwner})
	must(t, err)
	if got, err := f.SecurityDescriptor(ctx, SecurityDACL); err != nil || got.String() != dacl || !got.Owner.IsZero() {
		t.Fatal(got, err)
	}
	all, err := ParseSDDL("D:(A;;FA;;;WD)")
	must(t, err)
	must(t, f.SetSecurityDescriptor(ctx, SecurityDACL, all))
	if got, err := f.SecurityDescriptor(ctx, SecurityPlain); err != nil || len(got.DACL) != 1 || got.Owner != UnixUser(1234) {
		t.Fatal(got, err)
	}
	must(t, f.Close())
	for what, err := range map[string]error{
		"no parts":      sh.SetSecurityDescriptor(ctx, "f", 0, sd),
		"unknown parts": sh.SetSecurityDescriptor(ctx, "f", 0x100, sd),
		"no owner":      sh.SetSecurityDescriptor(ctx, "f", SecurityOwner, all),
	} {
		if !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if sid, err := ParseSID("S-1-5-32-544"); err != nil || sid.String() != "S-1-5-32-544" {
		t.Error(sid, err)
	}
	if _, err := ParseSID("BA"); !errors.Is(err, fs.ErrInvalid) || (SID{}).String() != "" {
		t.Error(err)
	}
}

func TestStreams(t *testing.T) {
	ctx := context.Background()
	sh := newSite(t, linkConfig{}, inMemory(t)).mount(t, Config{})
	must(t, sh.WriteFile(ctx, "f", []byte("data"), 0o666))
	if list, err := sh.Streams(ctx, "f"); err != nil || len(list) != 0 {
		t.Fatal(list, err)
	}
	must(t, sh.WriteFile(ctx, "f:one", []byte("1"), 0o666))
	must(t, sh.WriteFile(ctx, "f:two", []byte("22"), 0o666))
	list, err := sh.Streams(ctx, "f")
	must(t, err)
	sizes := map[string]int64{}
	for _, s := range list {
		sizes[s.Name] = s.Size
	}
	if len(list) != 2 || sizes["one"] != 1 || sizes["two"] != 2 {
		t.Fatalf("%+v", list)
	}
	if got, err := sh.ReadFile(ctx, "f:two"); err != nil || string(got) != "22" {
		t.Fatal(got, err)
	}
	must(t, sh.Remove(ctx, "f:one"))
	if list, err := sh.Streams(ctx, "f"); err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if got, err := sh.ReadFile(ctx, "f"); err != nil || string(got) != "data" {
		t.Fatal(got, err)
	}
}

func TestSnapshots(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	then := filepath.Join(dir, ".snap", "@GMT-2020.01.02-03.04.05")
	must(t, os.MkdirAll(then, 0o777))
	must(t, os.WriteFile(filepath.Join(then, "f"), []byte("then"), 0o666))
	must(t, os.Mkdir(filepath.Join(dir, ".snap", "@GMT-2021.01.02-03.04.05"), 0o777))
	must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("now"), 0o666))
	sh := newSite(t, linkConfig{}, func(c *server.Config) {
		fsys, err := posix.New(dir, posix.Config{SnapshotDir: ".snap"})
		must(t, err)
		t.Cleanup(func() { fsys.Close() })
		c.Shares[0].FS = fsys
	}).mount(t, Config{})
	list, err := sh.Snapshots(ctx)
	want := []time.Time{time.Date(2021, 1, 2, 3, 4, 5, 0, time.UTC), time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)}
	if err != nil || !slices.Equal(list, want) {
		t.Fatal(list, err)
	}
	for at, content := range map[time.Time]string{want[1]: "then", {}: "now"} {
		f, err := sh.CreateFile(ctx, "f", CreateOptions{Snapshot: at})
		must(t, err)
		p := make([]byte, 10)
		if n, _ := f.ReadAt(p, 0); string(p[:n]) != content {
			t.Errorf("%v: %q, want %q", at, p[:n], content)
		}
		must(t, f.Close())
	}
	if _, err := sh.CreateFile(ctx, "f", CreateOptions{Snapshot: want[0]}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// Lists of snapshots that servers may send.
func TestSnapshotArray(t *testing.T) {
	array := func(total, returned, size uint32, names string) []byte {
		b := le.AppendUint32(le.AppendUint32(le.AppendUint32(nil, total), returned), size)
		return append(b, smb2.EncodeUTF16(names)...)
	}
	for _, c := range []struct {
		name string
		b    []byte
		want []string
		bad  bool
	}{
		{"none", array(0, 0, 2, "\x00\x00"), nil, false},
		{"two", array(2, 2, 10, "a\x00b\x00\x00"), []string{"a", "b"}, false},
		{"only counted", array(2, 0, 102, ""), nil, false},
		{"cut", array(1, 1, 2, "")[:11], nil, true},
		{"more than are there", array(9, 9, 10, "a\x00b\x00\x00"), nil, true},
		{"more than there are", array(1, 2, 10, "a\x00b\x00\x00"), nil, true},
		{"without an end", array(1, 1, 10, "abcdef"), nil, true},
		{"an empty name", array(2, 2, 10, "a\x00\x00\x00"), nil, true},
	} {
		m, err := smb2.ParseSnapshotArray(c.b)
		if (err != nil) != c.bad || !slices.Equal(m.Names, c.want) {
			t.Errorf("%s: %v, %v", c.name, m.Names, err)
		}
	}
}

// DFS is refused with an error that says so, where it is met.
func TestDFS(t *testing.T) {
	ctx := context.Background()
	for _, m := range []smb2.TreeConnectResponse{
		{ShareType: smb2.ShareTypeDisk, ShareFlags: smb2.ShareFlagDFS | smb2.ShareFlagDFSRoot},
		{ShareType: smb2.ShareTypeDisk, Capabilities: smb2.ShareCapDFS},
	} {
		f, l := newFake(t, linkConfig{})
		f.on[smb2.CommandTreeConnect] = func(f *fake, h smb2.Header, _ []byte) bool { h.TreeID = 7; f.reply(h, 0, &m); return true }
		s, err := f.start(l, Config{})
		must(t, err)
		if _, err := s.Mount(ctx, "root"); !errors.Is(err, ErrDFS) {
			t.Error(err)
		}
	}
	f, l := newFake(t, linkConfig{})
	f.on[smb2.CommandQueryInfo] = func(f *fake, h smb2.Header, _ []byte) bool { f.fail(h, ntstatus.PathNotCovered); return true }
	if _, err := f.open(l, Config{}).Stat(); !errors.Is(err, ErrDFS) || !errors.Is(err, ntstatus.PathNotCovered) {
		t.Error(err)
	}
}
