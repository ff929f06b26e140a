package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server"
)

func TestExtendedAttributes(t *testing.T) {
	ctx := context.Background()
	sh := newSite(t, linkConfig{}, inMemory(t)).mount(t, Config{})
	must(t, sh.WriteFile(ctx, "f", nil, 0o666))
	must(t, sh.Mkdir(ctx, "d"))
	f, err := sh.OpenFile(ctx, "f", os.O_RDWR, 0)
	must(t, err)
	if list, err := f.EAs(ctx); err != nil || len(list) != 0 {
		t.Fatal(list, err)
	}
	long := bytes.Repeat([]byte{0, 0xFF}, 1500)
	must(t, f.SetEA(ctx, "color", []byte("red")))
	must(t, sh.SetEA(ctx, "f", "long", long))
	must(t, sh.SetEA(ctx, "d", "kind", []byte("dir")))
	equal := func(a, b EA) bool { return a.Name == b.Name && bytes.Equal(a.Value, b.Value) }
	want := []EA{{"color", []byte("red")}, {"long", long}}
	for name, list := range map[string]func() ([]EA, error){
		"File":  func() ([]EA, error) { return f.EAs(ctx) },
		"Share": func() ([]EA, error) { return sh.EAs(ctx, "f") },
	} {
		if got, err := list(); err != nil || !slices.EqualFunc(got, want, equal) {
			t.Errorf("%s.EAs: %v, %v", name, got, err)
		}
	}
	if v, err := sh.EA(ctx, "d", "KIND"); err != nil || string(v) != "dir" { // case does not matter
		t.Fatal(v, err)
	}
	if v, err := f.EA(ctx, "long"); err != nil || !bytes.Equal(v, long) {
		t.Fatal(len(v), err)
	}
	must(t, f.RemoveEA(ctx, "color"))
	must(t, f.RemoveEA(ctx, "color")) // servers do not say whether there was one
	must(t, sh.RemoveEA(ctx, "f", "long"))
	for _, name := range []string{"color", "none"} {
		if v, err := f.EA(ctx, name); !errors.Is(err, syscall.ENODATA) {
			t.Error(v, err)
		}
		if v, err := sh.EA(ctx, "f", name); !errors.Is(err, syscall.ENODATA) {
			t.Error(v, err)
		}
	}
	for what, c := range map[string]struct{ got, want error }{
		"no name":       {f.SetEA(ctx, "", []byte("x")), fs.ErrInvalid},
		"long name":     {f.SetEA(ctx, strings.Repeat("n", 256), []byte("x")), fs.ErrInvalid},
		"NUL":           {sh.SetEA(ctx, "f", "a\x00b", []byte("x")), fs.ErrInvalid},
		"no value":      {f.SetEA(ctx, "e", nil), fs.ErrInvalid},
		"long value":    {f.SetEA(ctx, "e", make([]byte, 65536)), syscall.E2BIG},
		"no such file":  {sh.SetEA(ctx, "g", "e", []byte("x")), fs.ErrNotExist},
		"remove NUL":    {f.RemoveEA(ctx, "a\x00b"), fs.ErrInvalid},
		"remove no one": {sh.RemoveEA(ctx, "g", "e"), fs.ErrNotExist},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", what, c.got, c.want)
		}
	}
	must(t, f.Close())
}

// More attributes than one answer takes.
func TestManyAttributes(t *testing.T) {
	ctx := context.Background()
	sh := newSite(t, linkConfig{}, inMemory(t)).mount(t, Config{})
	must(t, sh.WriteFile(ctx, "f", nil, 0o666))
	value := random(2000)
	set := 0
	for i := range 40 { // 80 kB
		if err := sh.SetEA(ctx, "f", fmt.Sprintf("attribute%02d", i), value); errors.Is(err, syscall.E2BIG) {
			break // the storage has a limit of its own
		} else if err != nil {
			t.Fatal(err)
		}
		set++
	}
	got, err := sh.EAs(ctx, "f")
	if err != nil || len(got) != set {
		t.Fatalf("%d attributes, want %d: %v", len(got), set, err)
	}
}

func TestNoAttributes(t *testing.T) {
	ctx := context.Background()
	none := inMemory(t)
	sh := newSite(t, linkConfig{}, func(c *server.Config) { none(c); c.Shares[0].NoEAs = true }).mount(t, Config{})
	must(t, sh.WriteFile(ctx, "f", nil, 0o666))
	if list, err := sh.EAs(ctx, "f"); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(list, err)
	}
	if err := sh.SetEA(ctx, "f", "a", []byte("b")); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

// What an answer to a query of extended attributes may be, and what not.
func TestAttributesOfServers(t *testing.T) {
	entry := func(next uint32, flags, nameLen byte, valueLen uint16, rest string) []byte {
		b := le.AppendUint32(nil, next)
		b = append(b, flags, nameLen)
		return append(le.AppendUint16(b, valueLen), rest...)
	}
	for _, c := range []struct {
		name string
		st   ntstatus.Status
		list []byte
		want int
		lost bool // it costs the connection
		err  error
	}{
		{name: "one", list: entry(0, 0, 1, 1, "a\x00b"), want: 1},
		{name: "none, by status", st: ntstatus.NoEAsOnFile},
		{name: "none, as Samba says it", list: make([]byte, 4)},
		{name: "two", list: append(entry(12, 0, 1, 1, "a\x00b\x00"), entry(0, 0, 1, 1, "c\x00d")...), want: 2},
		{name: "next beyond the end", list: entry(200, 0, 1, 1, "a\x00b"), lost: true},
		{name: "next not aligned", list: append(entry(11, 0, 1, 1, "a\x00b"), entry(0, 0, 1, 1, "c\x00d")...), lost: true},
		{name: "value beyond the end", list: entry(0, 0, 1, 9, "a\x00b"), lost: true},
		{name: "name beyond the end", list: entry(0, 0, 99, 1, "a\x00b"), lost: true},
		{name: "NUL in the name", list: entry(0, 0, 3, 1, "a\x00c\x00b"), lost: true},
		{name: "no name", list: entry(0, 0, 0, 1, "\x00b"), lost: true},
		{name: "cut", list: entry(0, 0, 1, 1, "")[:6], lost: true},
		{name: "overflow with nothing", st: ntstatus.BufferOverflow, list: nil, err: ntstatus.InvalidNetworkResponse},
		{name: "overflow for ever", st: ntstatus.BufferOverflow, list: entry(0, 0, 1, 60000, "a\x00"+strings.Repeat("b", 60000)), err: syscall.E2BIG},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l := newFake(t, linkConfig{})
			f.on[smb2.CommandQueryInfo] = func(f *fake, h smb2.Header, _ []byte) bool {
				if c.st.IsError() {
					f.fail(h, c.st)
				} else {
					f.reply(h, c.st, &smb2.QueryInfoResponse{OutputBuffer: c.list})
				}
				return true
			}
			file := f.open(l, Config{})
			got, err := file.EAs(context.Background())
			var pe *ProtocolError
			if lost := errors.As(err, &pe); lost != c.lost || c.err != nil && !errors.Is(err, c.err) || !c.lost && c.err == nil && (err != nil || len(got) != c.want) {
				t.Fatalf("%d, %v", len(got), err)
			}
		})
	}
}
