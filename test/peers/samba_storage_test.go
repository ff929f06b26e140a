//go:build peers

package peers

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
)

// One directory, served by smbd and by the posix backend: what either keeps beside a
// file's content (streams, DOS attributes, creation time, extended attributes,
// security descriptors), the other finds.
func TestStorageSharedWithSamba(t *testing.T) {
	s := startSamba(t, "vfs objects = acl_xattr streams_xattr\n    map hidden = no\n    map system = no\n    map readonly = no")
	bin, err := exec.LookPath("smbclient")
	if err != nil {
		t.Skip("smbclient is not installed")
	}
	host, port, _ := net.SplitHostPort(s.addr)
	smbclient := func(commands ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), bin, "//"+host+"/test", "-p", port, "-U", sambaUser+"%"+sambaPassword,
			"-m", "SMB3", "-c", strings.Join(commands, ";")).CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", commands, err, out)
		}
		return string(out)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	local := t.TempDir()
	file := func(name, content string) string {
		t.Helper()
		name = filepath.Join(local, name)
		must(os.WriteFile(name, []byte(content), 0o644))
		return name
	}
	f, err := posix.New(filepath.Join(s.dir, "test"), posix.Config{})
	must(err)
	defer f.Close()
	ctx := t.Context()

	// Samba writes.
	stream := strings.Repeat("in a stream of Samba's ", 20)
	smbclient("put "+file("f", "content")+" f", "put "+file("s", stream)+" f:Zone.Identifier",
		"put "+file("e", "")+" f:empty", `setea f Author "an ea"`, "setmode f +hs-a")
	h, _, err := f.Open(ctx, "f", vfs.OpenOptions{Access: vfs.AccessRead | vfs.AccessWrite})
	must(err)
	defer h.Close()
	info, err := h.Stat(ctx)
	if err != nil || info.Attributes != vfs.AttrHidden|vfs.AttrSystem || info.Size != 7 {
		t.Errorf("Samba's file is %+v, %v; want hidden, system, and 7 bytes", info, err)
	}
	holder := h.(vfs.StreamHolder)
	list, err := holder.Streams(ctx)
	must(err)
	slices.SortFunc(list, func(a, b vfs.StreamInfo) int { return strings.Compare(a.Name, b.Name) })
	if len(list) != 2 || list[0].Name != "Zone.Identifier" || list[0].Size != int64(len(stream)) || list[1].Name != "empty" || list[1].Size != 0 {
		t.Errorf("Samba's streams are %+v", list)
	}
	z, _, err := holder.OpenStream(ctx, "zone.identifier", vfs.OpenOptions{Access: vfs.AccessRead | vfs.AccessWrite})
	must(err)
	defer z.Close()
	got := make([]byte, len(stream))
	if _, err := z.ReadAt(got, 0); err != nil || string(got) != stream {
		t.Errorf("Samba's stream reads %q, %v", got, err)
	}
	x := h.(vfs.Xattrer)
	names, err := x.ListXattr(ctx)
	if err != nil || !slices.Equal(names, []string{"Author"}) {
		t.Errorf("Samba's extended attributes are %q, %v", names, err)
	}
	// Samba's value ends in a NUL that it takes away again.
	if value, err := x.Xattr(ctx, "Author"); err != nil || strings.TrimRight(string(value), "\x00") != "an ea" {
		t.Errorf("Samba's extended attribute is %q, %v", value, err)
	}
	record, err := h.(vfs.SecurityHolder).SecurityRecord(ctx)
	if err != nil || len(record) < 64 || record[0] != 4 {
		t.Errorf("Samba's security record is %x, %v; want one of version 4", record, err)
	}

	// We write.
	if _, err := z.WriteAt([]byte("of ours"), int64(len(stream))); err != nil {
		t.Errorf("appending to Samba's stream: %v", err)
	}
	n, _, err := holder.OpenStream(ctx, "new", vfs.OpenOptions{Access: vfs.AccessWrite, Disposition: vfs.CreateNew})
	must(err)
	_, err = n.WriteAt([]byte("123"), 0)
	must(err)
	must(n.Close())
	must(holder.RemoveStream(ctx, "EMPTY"))
	birth := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	must(h.SetAttr(ctx, vfs.SetAttr{Set: vfs.SetAttributes | vfs.SetBirthTime | vfs.SetSparse, Attributes: vfs.AttrArchive | vfs.AttrHidden, BirthTime: birth, Sparse: true}))
	must(h.(vfs.SecurityHolder).SetSecurityRecord(ctx, record))
	all := smbclient("allinfo f")
	for _, want := range []string{
		`attributes: \S*HA\S* \(222\)`, `create_time:.* Feb +3 .*2001`,
		`stream: \[:Zone\.Identifier:\$DATA\], ` + "467 bytes", `stream: \[:new:\$DATA\], 3 bytes`,
	} {
		if !regexp.MustCompile(want).MatchString(all) {
			t.Errorf("Samba says of the file\n%s\nwhich lacks %q", all, want)
		}
	}
	if strings.Contains(all, "empty") {
		t.Errorf("Samba still has the stream that was removed:\n%s", all)
	}
	back := filepath.Join(local, "back")
	smbclient("get f:Zone.Identifier " + back)
	if b, err := os.ReadFile(back); err != nil || !bytes.Equal(b, []byte(stream+"of ours")) {
		t.Errorf("Samba reads %q, %v of the stream", b, err)
	}
}
