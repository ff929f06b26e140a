package server

import (
	"bytes"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/memory"
)

func (p *peer) basic(id smb2.FileID) smb2.FileBasicInformation {
	p.t.Helper()
	b, st := p.query(id, smb2.InfoFile, uint8(smb2.ClassFileBasicInformation), 0, 40)
	want(p.t, "basic information", st, ntstatus.Success)
	m, err := smb2.ParseFileBasicInformation(b)
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

// [MS-FSA] 2.1.5.10.30: compression is asked for by FSCTL alone, stays with the file, and
// is inherited unless the client does not want that.
func TestCompression(t *testing.T) {
	s, p := streamDisk(t)
	s.mkdir("d")
	s.write("f", nil)
	set := func(id smb2.FileID, format uint16) ntstatus.Status {
		_, st := p.fsctl(smb2.FsctlSetCompression, id, le.AppendUint16(nil, format), 0)
		return st
	}
	compressed := func(id smb2.FileID) bool {
		t.Helper()
		out, st := p.fsctl(smb2.FsctlGetCompression, id, nil, 2)
		want(t, "GET_COMPRESSION", st, ntstatus.Success)
		attr := p.basic(id).FileAttributes&smb2.FileAttributeCompressed != 0
		if len(out) != 2 || (le.Uint16(out) == 2) != attr { // COMPRESSION_FORMAT_LZNT1
			t.Errorf("format % x, attribute %v", out, attr)
		}
		return attr
	}
	f := p.openFile("f")
	if compressed(f) {
		t.Error("a file is compressed that nobody has asked for")
	}
	want(t, "unknown format", set(f, 0x42), ntstatus.InvalidParameter)
	want(t, "default format", set(f, 1), ntstatus.Success)
	p.close(f)
	if f = p.openFile("f"); !compressed(f) {
		t.Error("not compressed when it was opened again")
	}
	want(t, "none", set(f, 0), ntstatus.Success)
	req := createRequest("f", smb2.FileOpen)
	req.DesiredAccess = smb2.FileWriteAttributes | smb2.FileReadAttributes
	f = p.create(req)
	m := smb2.FileBasicInformation{FileAttributes: smb2.FileAttributeCompressed | smb2.FileAttributeHidden}
	b, _ := m.AppendBinary(nil)
	want(t, "by SET_INFO", p.set(f, smb2.ClassFileBasicInformation, b), ntstatus.Success)
	if compressed(f) {
		t.Error("SET_INFO compresses")
	}
	want(t, "without the right", set(f, 1), ntstatus.AccessDenied)

	dir := createRequest("d", smb2.FileOpen)
	dir.CreateOptions = smb2.FileDirectoryFile
	d := p.create(dir)
	want(t, "a directory", set(d, 2), ntstatus.Success)
	if !compressed(p.create(createRequest(`d\f`, smb2.FileCreate))) || !compressed(p.openDir(`d\sub`)) {
		t.Error("compression is not inherited")
	}
	req = createRequest(`d\g`, smb2.FileCreate)
	req.CreateOptions = smb2.FileNoCompression
	if compressed(p.create(req)) {
		t.Error("compression is inherited though the client does not want it")
	}
}

// [MS-FSA] 2.1.5.10.24: all of a file is valid.
func TestQueryFileRegions(t *testing.T) {
	s, p := disk(t)
	s.write("f", make([]byte, 1000))
	s.write("empty", nil)
	f, empty := p.openFile("f"), p.openFile("empty")
	in := func(off, n int64, usage uint32) []byte {
		b, _ := (&smb2.FileRegion{FileOffset: off, Length: n, Usage: usage}).AppendBinary(nil)
		return b
	}
	for _, c := range []struct {
		name string
		id   smb2.FileID
		in   []byte
		room uint32
		st   ntstatus.Status
		want []smb2.FileRegion
	}{
		{"all of it", f, nil, 100, ntstatus.Success, []smb2.FileRegion{{Length: 1000, Usage: 1}}},
		{"a part", f, in(100, 200, 1), 100, ntstatus.Success, []smb2.FileRegion{{FileOffset: 100, Length: 200, Usage: 1}}},
		{"over the end", f, in(900, 200, 3), 40, ntstatus.Success, []smb2.FileRegion{{FileOffset: 900, Length: 100, Usage: 3}}},
		{"behind the end", f, in(1000, 1, 1), 100, ntstatus.Success, nil},
		{"an empty file", empty, nil, 100, ntstatus.Success, []smb2.FileRegion{{}}},
		{"too far", f, in(math.MaxInt64, 1, 1), 100, ntstatus.InvalidParameter, nil},
		{"negative", f, in(-1, 1, 1), 100, ntstatus.InvalidParameter, nil},
		{"no length", f, in(0, 0, 1), 100, ntstatus.InvalidParameter, nil},
		{"ReFS's usage", f, in(0, 1, 2), 100, ntstatus.InvalidParameter, nil},
		{"short input", f, make([]byte, 23), 100, ntstatus.BufferTooSmall, nil},
		{"no room", f, nil, 39, ntstatus.BufferTooSmall, nil},
	} {
		out, st := p.fsctl(smb2.FsctlQueryFileRegions, c.id, c.in, c.room)
		want(t, c.name, st, c.st)
		if st != ntstatus.Success || len(c.want) == 0 {
			if len(out) != 0 {
				t.Errorf("%s: %d octets of output", c.name, len(out))
			}
			continue
		}
		m, err := smb2.ParseFileRegionOutput(out)
		if err != nil || m.Total != 1 || len(m.Regions) != 1 || m.Regions[0] != c.want[0] {
			t.Errorf("%s: %+v, %v; want %+v", c.name, m, err, c.want)
		}
	}
}

// [MS-FSA] 2.1.5.10.37 and 2.1.5.10.3: a link of any make, where nothing is lost by it.
func TestSetReparsePoint(t *testing.T) {
	s, p := disk(t)
	s.write("target", []byte("x"))
	s.mkdir("d")
	open := func(name string, d smb2.CreateDisposition) smb2.FileID {
		t.Helper()
		req := createRequest(name, d)
		req.DesiredAccess |= smb2.FileWriteAttributes
		req.CreateOptions = smb2.FileOpenReparsePoint
		return p.create(req)
	}
	windows := func(target string, flags uint32) []byte {
		b, _ := (&smb2.SymbolicLinkReparseBuffer{SubstituteName: target, PrintName: target, Flags: flags}).AppendBinary(nil)
		return b
	}
	other := func(tag smb2.ReparseTag, data []byte) []byte {
		b, _ := (&smb2.ReparseDataBuffer{ReparseTag: tag, Data: data}).AppendBinary(nil)
		return b
	}
	nfs := func(kind uint64, target string) []byte {
		return other(smb2.ReparseTagNFS, append(le.AppendUint64(nil, kind), smb2.EncodeUTF16(target)...))
	}
	for _, c := range []struct {
		name string
		in   []byte
		st   ntstatus.Status
		want string
	}{
		{"windows", windows(`..\d\a`, smb2.SymlinkFlagRelative), ntstatus.Success, "../d/a"},
		{"reserved characters", windows("a\uf022b", smb2.SymlinkFlagRelative), ntstatus.Success, "a:b"},
		{"nfs", nfs(smb2.NFSReparseLink, "target"), ntstatus.Success, "target"},
		{"wsl", other(smb2.ReparseTagLXSymlink, append([]byte{2, 0, 0, 0}, "a/b"...)), ntstatus.Success, "a/b"},
		{"a drive", windows(`\??\C:\x`, 0), ntstatus.IOReparseDataInvalid, ""},
		{"invalid name", windows(`a*b`, smb2.SymlinkFlagRelative), ntstatus.IOReparseDataInvalid, ""},
		{"empty", nfs(smb2.NFSReparseLink, ""), ntstatus.IOReparseDataInvalid, ""},
		{"NUL", nfs(smb2.NFSReparseLink, "a\x00b"), ntstatus.IOReparseDataInvalid, ""},
		{"device", nfs(0x524843, "\x01\x02"), ntstatus.NotSupported, ""},
		{"wsl of another version", other(smb2.ReparseTagLXSymlink, append([]byte{3, 0, 0, 0}, "a"...)), ntstatus.IOReparseDataInvalid, ""},
		{"mount point", other(smb2.ReparseTagMountPoint, make([]byte, 8)), ntstatus.NotSupported, ""},
		{"short", []byte{0, 0, 0, 0}, ntstatus.IOReparseDataInvalid, ""},
	} {
		id := open(c.name, smb2.FileCreate)
		_, st := p.fsctl(smb2.FsctlSetReparsePoint, id, c.in, 0)
		want(t, c.name, st, c.st)
		got, err := os.Readlink(filepath.Join(s.dir, c.name))
		if (err == nil) != (c.st == ntstatus.Success) || got != c.want {
			t.Errorf("%s: leads to %q, %v; want %q", c.name, got, err, c.want)
		}
		if link := p.basic(id).FileAttributes&smb2.FileAttributeReparsePoint != 0; link != (c.want != "") {
			t.Errorf("%s: told to be a link: %v", c.name, link)
		}
		if c.want != "" {
			if _, st = p.fsctl(smb2.FsctlGetReparsePoint, id, nil, 1000); st != ntstatus.Success {
				t.Errorf("%s: getting it: %v", c.name, st)
			}
		}
		p.close(id)
	}
	full := open("target", smb2.FileOpen)
	link := windows("x", smb2.SymlinkFlagRelative)
	_, st := p.fsctl(smb2.FsctlSetReparsePoint, full, link, 0)
	want(t, "a file with content", st, ntstatus.IOReparseDataInvalid)
	a, b := open("twice", smb2.FileCreate), open("twice", smb2.FileOpen)
	_, st = p.fsctl(smb2.FsctlSetReparsePoint, a, link, 0)
	want(t, "a file that is open twice", st, ntstatus.SharingViolation)
	p.close(a)
	p.close(b)
	if string(s.read("target")) != "x" || !s.exists("twice") {
		t.Error("something was lost")
	}
	id := open("nfs", smb2.FileOpen)
	_, st = p.fsctl(smb2.FsctlDeleteReparsePoint, id, other(smb2.ReparseTagNFS, nil), 0)
	want(t, "deleting another tag", st, ntstatus.IOReparseTagMismatch)
	_, st = p.fsctl(smb2.FsctlDeleteReparsePoint, id, other(smb2.ReparseTagSymlink, nil), 0)
	want(t, "deleting", st, ntstatus.Success)
	_, st = p.fsctl(smb2.FsctlDeleteReparsePoint, id, other(smb2.ReparseTagSymlink, nil), 0)
	want(t, "deleting again", st, ntstatus.NotAReparsePoint)
	if i, err := os.Lstat(filepath.Join(s.dir, "nfs")); err != nil || !i.Mode().IsRegular() {
		t.Errorf("left is %v, %v; want a file", i, err)
	}
	if string(s.read("target")) != "x" {
		t.Error("what the link led to has changed")
	}
}

// What a link takes the place of loses its descriptor: who may only write to it may not
// put something else there.
func TestLinkInThePlaceOfWhatStays(t *testing.T) {
	s, p := disk(t)
	s.mkdir("d")
	s.write("d/f", nil)
	self := smb2.SIDUnixUser(processUser().UID)
	for _, c := range []struct {
		name string
		mask smb2.AccessMask
	}{{"d/f", smb2.FileAllAccess &^ smb2.Delete}, {"d", smb2.FileGenericRead | smb2.FileExecute | smb2.WriteDAC}} {
		req := createRequest(c.name, smb2.FileOpen)
		req.DesiredAccess = smb2.WriteDAC
		id := p.create(req)
		sd := smb2.SecurityDescriptor{DACL: &smb2.ACL{ACEs: []smb2.ACE{{SID: self, Mask: c.mask}}}}
		want(t, "setting a DACL", p.setSecurityOf(id, sd, smb2.DACLSecurityInformation), ntstatus.Success)
		p.close(id)
	}
	req := createRequest("d/f", smb2.FileOpen)
	req.DesiredAccess = smb2.FileWriteData | smb2.FileWriteAttributes
	f := p.create(req)
	link, _ := (&smb2.SymbolicLinkReparseBuffer{SubstituteName: "x", PrintName: "x", Flags: smb2.SymlinkFlagRelative}).AppendBinary(nil)
	_, st := p.fsctl(smb2.FsctlSetReparsePoint, f, link, 0)
	want(t, "making a link of it", st, ntstatus.AccessDenied)
	if i, err := os.Lstat(filepath.Join(s.dir, "d/f")); err != nil || !i.Mode().IsRegular() {
		t.Errorf("there is %v, %v; want the file", i, err)
	}
}

// [MS-FSA] 2.1.5.10.4, on storage that can share blocks.
func TestDuplicateExtents(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) {
		fsys, err := memory.New(memory.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { fsys.Close() })
		c.Shares[0].FS = fsys
	})
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	src := p.create(createRequest("src", smb2.FileCreate))
	p.writeAll(src, strings.Repeat("0123456789abcdef", 512)) // 8 KiB
	size := func(id smb2.FileID, n int64) {
		t.Helper()
		want(t, "end of file", p.set(id, smb2.ClassFileEndOfFileInformation, le.AppendUint64(nil, uint64(n))), ntstatus.Success)
	}
	for _, c := range []struct {
		name         string
		m            smb2.DuplicateExtentsData
		before       int64 // the target's size
		st           ntstatus.Status
		begin, after string // what the target begins and ends with
	}{
		{"all of it", smb2.DuplicateExtentsData{ByteCount: 8192}, 8192, ntstatus.Success, "0123", "cdef"},
		{"one block to another place", smb2.DuplicateExtentsData{TargetFileOffset: 4096, ByteCount: 4096}, 8192, ntstatus.Success, "\x00\x00\x00\x00", "cdef"},
		{"behind the target's end", smb2.DuplicateExtentsData{ByteCount: 8192}, 5000, ntstatus.Success, "0123", "4567"},
		{"nothing", smb2.DuplicateExtentsData{}, 4096, ntstatus.Success, "\x00\x00\x00\x00", "\x00\x00\x00\x00"},
		{"behind the source's end", smb2.DuplicateExtentsData{SourceFileOffset: 4096, ByteCount: 8192}, 8192, ntstatus.NotSupported, "\x00\x00\x00\x00", "\x00\x00\x00\x00"},
		{"negative", smb2.DuplicateExtentsData{ByteCount: -1}, 4, ntstatus.InvalidParameter, "\x00\x00\x00\x00", "\x00\x00\x00\x00"},
		{"too far", smb2.DuplicateExtentsData{SourceFileOffset: math.MaxInt64, ByteCount: 4096}, 4, ntstatus.InvalidParameter, "\x00\x00\x00\x00", "\x00\x00\x00\x00"},
	} {
		dst := p.create(createRequest("dst", smb2.FileOverwriteIf))
		size(dst, c.before)
		c.m.SourceFileID = src
		in, _ := c.m.AppendBinary(nil)
		_, st := p.fsctl(smb2.FsctlDuplicateExtentsToFile, dst, in, 0)
		want(t, c.name, st, c.st)
		st, msg := p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: dst, Length: 10000})
		m, err := smb2.ParseReadResponse(msg)
		if st != ntstatus.Success || err != nil || int64(len(m.Data)) != c.before ||
			!strings.HasPrefix(string(m.Data), c.begin) || !strings.HasSuffix(string(m.Data), c.after) {
			t.Errorf("%s: %v, %v, %d octets from %.4q to %q", c.name, st, err, len(m.Data), m.Data, m.Data[max(len(m.Data)-4, 0):])
		}
		p.close(dst)
	}
	// Within a file, ranges must not overlap.
	in, _ := (&smb2.DuplicateExtentsData{SourceFileID: src, TargetFileOffset: 2048, ByteCount: 4096}).AppendBinary(nil)
	_, st := p.fsctl(smb2.FsctlDuplicateExtentsToFile, src, in, 0)
	want(t, "overlapping", st, ntstatus.NotSupported)
	in, _ = (&smb2.DuplicateExtentsData{SourceFileID: smb2.FileID{Volatile: 1}, ByteCount: 4096}).AppendBinary(nil)
	_, st = p.fsctl(smb2.FsctlDuplicateExtentsToFile, src, in, 0)
	want(t, "from a file that is not open", st, ntstatus.InvalidHandle)
	in, _ = (&smb2.DuplicateExtentsData{SourceFileID: src, ByteCount: 4096}).AppendBinary(nil)
	_, st = p.fsctl(smb2.FsctlDuplicateExtentsToFile, src, in[:39], 0)
	want(t, "short", st, ntstatus.BufferTooSmall)
}

// FIFOs and sockets, in the forms of [MS-FSCC] 2.1.2.6 (which Linux writes) and of the
// Subsystem for Linux, become what they stand for; devices do not.
func TestSpecialFiles(t *testing.T) {
	s, p := streamDisk(t)
	buffer := func(tag smb2.ReparseTag, data string) []byte {
		b, _ := (&smb2.ReparseDataBuffer{ReparseTag: tag, Data: []byte(data)}).AppendBinary(nil)
		return b
	}
	open := func(name string, d smb2.CreateDisposition) *smb2.CreateRequest {
		req := createRequest(name, d)
		req.DesiredAccess |= smb2.FileWriteAttributes | smb2.FileReadEA | smb2.FileWriteEA
		req.CreateOptions = smb2.FileOpenReparsePoint
		return req
	}
	for _, c := range []struct {
		name string
		in   []byte
		st   ntstatus.Status
		mode fs.FileMode
		tag  smb2.ReparseTag
	}{
		{"NFS FIFO", buffer(0x80000014, "FIFO\x00\x00\x00\x00"), ntstatus.Success, fs.ModeNamedPipe, 0x80000024},
		{"NFS socket", buffer(0x80000014, "SOCK\x00\x00\x00\x00"), ntstatus.Success, fs.ModeSocket, 0x80000023},
		{"WSL FIFO", buffer(0x80000024, ""), ntstatus.Success, fs.ModeNamedPipe, 0x80000024},
		{"WSL socket", buffer(0x80000023, ""), ntstatus.Success, fs.ModeSocket, 0x80000023},
		{"NFS character device", buffer(0x80000014, "CHR\x00\x00\x00\x00\x00\x01\x00\x00\x00\x03\x00\x00\x00"), ntstatus.NotSupported, 0, 0},
		{"NFS block device", buffer(0x80000014, "BLK\x00\x00\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00"), ntstatus.NotSupported, 0, 0},
		{"WSL device", buffer(0x80000025, ""), ntstatus.NotSupported, 0, 0},
		{"FIFO with more", buffer(0x80000014, "FIFO\x00\x00\x00\x00x"), ntstatus.NotSupported, 0, 0},
		{"NFS cut short", buffer(0x80000014, "FIFO"), ntstatus.IOReparseDataInvalid, 0, 0},
	} {
		req := open(c.name, smb2.FileCreate)
		if c.tag != 0 && strings.HasPrefix(c.name, "WSL") { // as Linux does with reparse=wsl
			req.Contexts, _ = smb2.AppendCreateContext(nil, smb2.CreateContextEABuffer, eaList("$LXMOD", "\xa4\x11\x00\x00"))
		}
		id := p.create(req)
		_, st := p.fsctl(smb2.FsctlSetReparsePoint, id, c.in, 0)
		want(t, c.name, st, c.st)
		info, err := os.Lstat(filepath.Join(s.dir, c.name))
		if err != nil || info.Mode().Type() != c.mode {
			t.Errorf("%s: is %v, %v; want %v", c.name, info.Mode(), err, c.mode)
		}
		p.close(id)
		if c.mode == 0 {
			continue
		}
		id = p.create(open(c.name, smb2.FileOpen))
		if a := p.basic(id).FileAttributes; a&smb2.FileAttributeReparsePoint == 0 {
			t.Errorf("%s: attributes %#x, want a reparse point", c.name, a)
		}
		out, st := p.fsctl(smb2.FsctlGetReparsePoint, id, nil, 100)
		want(t, c.name+": getting it", st, ntstatus.Success)
		if want := buffer(c.tag, ""); !bytes.Equal(out, want) {
			t.Errorf("%s: got %x, want %x", c.name, out, want)
		}
		list, _ := p.list(p.openDir(""), smb2.ClassFileFullDirectoryInformation, c.name, 0, 4096)
		if len(list) != 1 || list[0].EaSize != uint32(c.tag) {
			t.Errorf("%s: listed as %+v, want the tag %#x", c.name, list, c.tag)
		}
		plain := createRequest(c.name, smb2.FileOpen)
		st, _ = p.tryCreate(plain)
		want(t, c.name+": opening it", st, ntstatus.IOReparseTagNotHandled)
		want(t, c.name+": deleting it", p.set(id, smb2.ClassFileDispositionInformation, []byte{1}), ntstatus.Success)
		p.close(id)
		if s.exists(c.name) {
			t.Errorf("%s: is still there", c.name)
		}
	}
	id := p.create(open("full", smb2.FileCreate))
	p.writeAll(id, "x")
	_, st := p.fsctl(smb2.FsctlSetReparsePoint, id, buffer(0x80000024, ""), 0)
	want(t, "a file with content", st, ntstatus.IOReparseDataInvalid)
	p.close(id)
	dir := open("dir", smb2.FileCreate)
	dir.CreateOptions |= smb2.FileDirectoryFile
	_, st = p.fsctl(smb2.FsctlSetReparsePoint, p.create(dir), buffer(0x80000024, ""), 0)
	want(t, "a directory", st, ntstatus.IOReparseDataInvalid)
}
