package server

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
)

// openDir opens a directory of the share for listing and watching.
func (p *peer) openDir(name string) smb2.FileID {
	p.t.Helper()
	req := createRequest(name, smb2.FileOpenIf)
	req.CreateOptions = smb2.FileDirectoryFile
	return p.create(req)
}

func (p *peer) list(id smb2.FileID, class smb2.FileInfoClass, pattern string, flags uint8, room uint32) ([]smb2.DirectoryEntry, ntstatus.Status) {
	p.t.Helper()
	st, msg := p.doSized(smb2.CommandQueryDirectory, int(room), &smb2.QueryDirectoryRequest{
		FileInformationClass: class, FileID: id, FileName: smb2.EncodeUTF16(pattern), Flags: flags, OutputBufferLength: room,
	})
	if st != ntstatus.Success {
		return nil, st
	}
	resp, err := smb2.ParseQueryDirectoryResponse(msg)
	if err != nil {
		p.t.Fatal(err)
	}
	if len(resp.OutputBuffer) > int(room) {
		p.t.Errorf("%d octets of answer, asked for at most %d", len(resp.OutputBuffer), room)
	}
	var list []smb2.DirectoryEntry
	for e, err := range smb2.DirectoryEntries(resp.OutputBuffer, class) {
		if err != nil {
			p.t.Fatal(err)
		}
		list = append(list, e)
	}
	return list, st
}

func names(list []smb2.DirectoryEntry) []string {
	var ns []string
	for _, e := range list {
		ns = append(ns, e.FileName)
	}
	slices.Sort(ns)
	return ns
}

// [MS-SMB2] 3.3.5.18.
func TestQueryDirectory(t *testing.T) {
	s, p := disk(t)
	s.mkdir("d/sub")
	for _, n := range []string{"a.txt", "B.TXT", "c:d"} {
		s.write("d/"+n, []byte("12345"))
	}
	id := p.openDir("d")
	const both = smb2.ClassFileIDBothDirectoryInformation
	got, st := p.list(id, both, "*", 0, 65536)
	want(t, "listing", st, ntstatus.Success)
	if ns := names(got); !slices.Equal(ns, []string{".", "..", "B.TXT", "a.txt", "c\uf022d", "sub"}) {
		t.Errorf("names %q", ns)
	}
	for _, e := range got {
		if e.FileName == "a.txt" {
			info, err := os.Stat(filepath.Join(s.dir, "d", "a.txt"))
			if err != nil {
				t.Fatal(err)
			}
			if e.EndOfFile != 5 || e.AllocationSize < 5 || e.FileAttributes&smb2.FileAttributeDirectory != 0 || e.FileID == 0 ||
				e.LastWriteTime != smb2.FiletimeOf(info.ModTime()) {
				t.Errorf("entry %+v", e)
			}
		} else if !strings.Contains(e.FileName, "d") && e.FileName[0] == '.' && e.FileAttributes&smb2.FileAttributeDirectory == 0 {
			t.Errorf("%q is no directory", e.FileName)
		}
	}
	_, st = p.list(id, both, "*", 0, 65536)
	want(t, "listing on", st, ntstatus.NoMoreFiles)
	_, st = p.list(id, both, "zzz", 0, 65536)
	want(t, "another pattern without a restart", st, ntstatus.NoMoreFiles)
	got, st = p.list(id, smb2.ClassFileNamesInformation, "*.txt", smb2.QueryDirectoryRestartScans, 65536)
	want(t, "restart with a pattern", st, ntstatus.Success)
	if ns := names(got); !slices.Equal(ns, []string{"B.TXT", "a.txt"}) {
		t.Errorf("names %q", ns)
	}
	_, st = p.list(id, both, "zzz", smb2.QueryDirectoryReopen, 65536)
	want(t, "nothing matches", st, ntstatus.NoSuchFile)
	_, st = p.list(id, both, "a/b", smb2.QueryDirectoryRestartScans, 65536)
	want(t, "impossible pattern", st, ntstatus.ObjectNameInvalid)
	_, st = p.list(id, 5, "*", 0, 65536)
	want(t, "class that is none", st, ntstatus.InvalidInfoClass)
	_, st = p.list(id, both, "*", smb2.QueryDirectoryRestartScans, 100)
	want(t, "room for no entry", st, ntstatus.InfoLengthMismatch)
	// One after the other: every one exactly once, whatever the room.
	var all []smb2.DirectoryEntry
	flags := smb2.QueryDirectoryRestartScans | smb2.QueryDirectoryReturnSingleEntry
	for {
		got, st = p.list(id, both, "*", flags, 65536)
		if st != ntstatus.Success {
			break
		}
		if len(got) != 1 {
			t.Fatalf("%d entries, want one", len(got))
		}
		all = append(all, got...)
		flags = smb2.QueryDirectoryReturnSingleEntry
	}
	want(t, "end", st, ntstatus.NoMoreFiles)
	if len(all) != 6 {
		t.Errorf("%q one by one, want 6", names(all))
	}
	// A scan can go on behind any entry, by its index.
	at, next := all[3], all[4]
	st, msg := p.do(smb2.CommandQueryDirectory, &smb2.QueryDirectoryRequest{
		FileInformationClass: both, FileID: id, FileIndex: at.FileIndex,
		Flags: smb2.QueryDirectoryIndexSpecified, OutputBufferLength: 65536,
	})
	want(t, "from an index", st, ntstatus.Success)
	resp, err := smb2.ParseQueryDirectoryResponse(msg)
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range smb2.DirectoryEntries(resp.OutputBuffer, both) {
		if err != nil || e.FileName != next.FileName {
			t.Errorf("from index %d: %q, %v; want %q", at.FileIndex, e.FileName, err, next.FileName)
		}
		break
	}
	file := p.openFile("f")
	_, st = p.list(file, both, "*", 0, 65536)
	want(t, "listing a file", st, ntstatus.InvalidParameter)
	req := createRequest("d", smb2.FileOpen)
	req.DesiredAccess = smb2.FileReadAttributes
	_, st = p.list(p.create(req), both, "*", 0, 65536)
	want(t, "listing without the right", st, ntstatus.AccessDenied)
}

// A large directory comes whole, every name once, in answers that fit.
func TestQueryDirectoryLarge(t *testing.T) {
	s, p := disk(t)
	s.mkdir("d")
	const n = 10000
	for i := range n {
		if err := os.Mkdir(filepath.Join(s.dir, "d", fmt.Sprintf("entry-%05d", i)), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	id := p.openDir("d")
	seen := map[string]bool{}
	for {
		got, st := p.list(id, smb2.ClassFileIDFullDirectoryInformation, "*", 0, 65536)
		if st == ntstatus.NoMoreFiles {
			break
		}
		if st != ntstatus.Success {
			t.Fatal(st)
		}
		for _, e := range got {
			if seen[e.FileName] {
				t.Errorf("%q twice", e.FileName)
			}
			seen[e.FileName] = true
		}
	}
	if len(seen) != n+2 {
		t.Errorf("%d names, want %d", len(seen), n+2)
	}
}

func (p *peer) query(id smb2.FileID, typ smb2.InfoType, class uint8, add, room uint32) ([]byte, ntstatus.Status) {
	p.t.Helper()
	st, msg := p.do(smb2.CommandQueryInfo, &smb2.QueryInfoRequest{
		InfoType: typ, FileInfoClass: class, AdditionalInformation: add, OutputBufferLength: room, FileID: id,
	})
	if st != ntstatus.Success && st != ntstatus.BufferOverflow {
		if e, err := smb2.ParseErrorResponse(msg); err == nil {
			d, _ := e.Data(smb2.ErrorIDDefault)
			return d, st
		}
		return nil, st
	}
	resp, err := smb2.ParseQueryInfoResponse(msg)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.OutputBuffer, st
}

// [MS-SMB2] 3.3.5.20.1 and 3.3.5.20.2: the fixed part must fit, the rest is cut.
func TestQueryInfoLengths(t *testing.T) {
	_, p := disk(t)
	id := p.openFile("file.name")
	const f, v = smb2.InfoFile, smb2.InfoFilesystem
	for _, c := range []struct {
		typ   smb2.InfoType
		class uint8
		fixed uint32
		more  bool // there is a part that may be cut
	}{
		{f, uint8(smb2.ClassFileBasicInformation), 40, false},
		{f, uint8(smb2.ClassFileStandardInformation), 24, false},
		{f, uint8(smb2.ClassFileInternalInformation), 8, false},
		{f, uint8(smb2.ClassFileEaInformation), 4, false},
		{f, uint8(smb2.ClassFileAccessInformation), 4, false},
		{f, uint8(smb2.ClassFilePositionInformation), 8, false},
		{f, uint8(smb2.ClassFileModeInformation), 4, false},
		{f, uint8(smb2.ClassFileAlignmentInformation), 4, false},
		{f, uint8(smb2.ClassFileAllInformation), 104, true},
		{f, uint8(smb2.ClassFileStreamInformation), 32, true},
		{f, uint8(smb2.ClassFileCompressionInformation), 16, false},
		{f, uint8(smb2.ClassFileNetworkOpenInformation), 56, false},
		{f, uint8(smb2.ClassFileAttributeTagInformation), 8, false},
		{f, uint8(smb2.ClassFileIDInformation), 24, false},
		{f, uint8(smb2.ClassFileNormalizedNameInformation), 8, true},
		{v, uint8(smb2.ClassFileFsVolumeInformation), 24, true},
		{v, uint8(smb2.ClassFileFsSizeInformation), 24, false},
		{v, uint8(smb2.ClassFileFsDeviceInformation), 8, false},
		{v, uint8(smb2.ClassFileFsAttributeInformation), 16, true},
		{v, uint8(smb2.ClassFileFsControlInformation), 48, false},
		{v, uint8(smb2.ClassFileFsFullSizeInformation), 32, false},
		{v, uint8(smb2.ClassFileFsObjectIDInformation), 64, false},
		{v, uint8(smb2.ClassFileFsSectorSizeInformation), 28, false},
	} {
		name := fmt.Sprintf("type %d class %d", c.typ, c.class)
		whole, st := p.query(id, c.typ, c.class, 0, 4096)
		want(t, name, st, ntstatus.Success)
		if !c.more && len(whole) != int(c.fixed) {
			t.Errorf("%s: %d octets, want %d", name, len(whole), c.fixed)
		}
		_, st = p.query(id, c.typ, c.class, 0, c.fixed-1)
		want(t, name+" too short", st, ntstatus.InfoLengthMismatch)
		part, st := p.query(id, c.typ, c.class, 0, c.fixed)
		if !c.more {
			want(t, name+" in just enough", st, ntstatus.Success)
			continue
		}
		if len(whole) <= int(c.fixed) {
			want(t, name+" in just enough", st, ntstatus.Success)
		} else if st != ntstatus.BufferOverflow || len(part) > int(c.fixed) {
			t.Errorf("%s cut: got %v, %d octets; want STATUS_BUFFER_OVERFLOW, at most %d", name, st, len(part), c.fixed)
		}
	}
	_, st := p.query(id, f, 200, 0, 4096)
	want(t, "no such class", st, ntstatus.InvalidInfoClass)
	_, st = p.query(id, smb2.InfoQuota, 32, 0, 4096)
	want(t, "quota", st, ntstatus.NotSupported)
}

// [MS-FSA] 2.1.5.15.2: times of 0 stay, -1 and a time that was set do not follow
// the open's own writes.
func TestSetBasic(t *testing.T) {
	s, p := disk(t)
	s.write("f", []byte("12345"))
	req := createRequest("f", smb2.FileOpen)
	req.DesiredAccess |= smb2.FileWriteAttributes
	id := p.create(req)
	set := func(m smb2.FileBasicInformation) ntstatus.Status {
		b, _ := m.AppendBinary(nil)
		return p.set(id, smb2.ClassFileBasicInformation, b)
	}
	get := func() smb2.FileBasicInformation {
		b, _ := p.query(id, smb2.InfoFile, uint8(smb2.ClassFileBasicInformation), 0, 40)
		m, err := smb2.ParseFileBasicInformation(b)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	old := get()
	when := smb2.FiletimeOf(time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC))
	want(t, "setting", set(smb2.FileBasicInformation{
		LastWriteTime: when, ChangeTime: when + 10, FileAttributes: smb2.FileAttributeHidden,
	}), ntstatus.Success)
	now := get()
	if now.LastWriteTime != when || now.ChangeTime != when+10 || now.CreationTime != old.CreationTime ||
		now.LastAccessTime != old.LastAccessTime || now.FileAttributes != smb2.FileAttributeHidden {
		t.Errorf("got %+v after %+v", now, old)
	}
	st, _ := p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: id, Data: []byte("x")})
	want(t, "WRITE", st, ntstatus.Success)
	if got := get().LastWriteTime; got != when {
		t.Errorf("write time %v after a write, want %v", got.Time(), when.Time())
	}
	p.close(id)
	info, err := os.Stat(filepath.Join(s.dir, "f"))
	if err != nil || smb2.FiletimeOf(info.ModTime()) != when {
		t.Errorf("write time %v after CLOSE, %v; want %v", info.ModTime(), err, when.Time())
	}
	id = p.create(req)
	want(t, "-1", set(smb2.FileBasicInformation{LastWriteTime: smb2.FiletimeNoChange}), ntstatus.Success)
	want(t, "-3", set(smb2.FileBasicInformation{LastWriteTime: smb2.FiletimeResume - 1}), ntstatus.InvalidParameter)
	want(t, "a file as directory", set(smb2.FileBasicInformation{FileAttributes: smb2.FileAttributeDirectory}), ntstatus.InvalidParameter)
	st, _ = p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: id, Data: []byte("x")})
	want(t, "WRITE", st, ntstatus.Success)
	p.close(id)
	if info, _ := os.Stat(filepath.Join(s.dir, "f")); smb2.FiletimeOf(info.ModTime()) != when {
		t.Errorf("write time %v after -1, want %v", info.ModTime(), when.Time())
	}
}

func (p *peer) set(id smb2.FileID, class smb2.FileInfoClass, b []byte) ntstatus.Status {
	p.t.Helper()
	st, _ := p.do(smb2.CommandSetInfo, &smb2.SetInfoRequest{InfoType: smb2.InfoFile, FileInfoClass: uint8(class), FileID: id, Buffer: b})
	return st
}

func (p *peer) rename(id smb2.FileID, to string, replace bool) ntstatus.Status {
	p.t.Helper()
	b, _ := (&smb2.FileRenameInformation{FileName: to, ReplaceIfExists: replace}).AppendBinary(nil)
	return p.set(id, smb2.ClassFileRenameInformation, b)
}

// [MS-FSA] 2.1.5.15.11.
func TestRename(t *testing.T) {
	s, p := disk(t)
	s.mkdir("d/e")
	s.write("d/e/f", []byte("f"))
	s.write("g", []byte("g"))
	dir := p.openDir(`d`)
	f := p.openFile(`d\e\f`)
	want(t, "a directory with something open in it", p.rename(dir, "x", false), ntstatus.AccessDenied)
	want(t, "taken", p.rename(f, "g", false), ntstatus.ObjectNameCollision)
	g := p.openFile("g")
	want(t, "replacing what is open", p.rename(f, "g", true), ntstatus.AccessDenied)
	p.close(g)
	want(t, "into a missing directory", p.rename(f, `none\f`, false), ntstatus.ObjectPathNotFound)
	want(t, "onto a directory", p.rename(f, `d\e`, true), ntstatus.AccessDenied)
	want(t, "invalid name", p.rename(f, "a*b", false), ntstatus.ObjectNameInvalid)
	want(t, "to its own name", p.rename(f, `d\e\f`, false), ntstatus.Success)
	p.close(dir) // its DELETE access does not go with a rename within it
	want(t, "replacing", p.rename(f, "g", true), ntstatus.Success)
	if string(s.read("g")) != "f" || s.exists("d/e/f") {
		t.Error("not renamed")
	}
	b, _ := p.query(f, smb2.InfoFile, uint8(smb2.ClassFileNormalizedNameInformation), 0, 400)
	if m, err := smb2.ParseFileNameInformation(b); err != nil || m.FileName != "g" {
		t.Errorf("the open's name is %q, %v; want g", m.FileName, err)
	}
	want(t, "another case", p.rename(f, "G", false), ntstatus.Success)
	if !s.exists("G") {
		t.Error("spelling not changed")
	}
	// A directory takes the names of its open files along when the server is asked
	// to delete them later.
	dir = p.openDir("d")
	want(t, "an empty directory", p.rename(dir, "moved", false), ntstatus.Success)
	want(t, "into itself", p.rename(dir, `moved\e\x`, false), ntstatus.AccessDenied)
	want(t, "deleting it while it is not empty", p.set(dir, smb2.ClassFileDispositionInformation, []byte{1}), ntstatus.DirectoryNotEmpty)
	e := p.openDir(`moved\e`)
	want(t, "deleting an empty one", p.set(e, smb2.ClassFileDispositionInformation, []byte{1}), ntstatus.Success)
	st, _ := p.tryCreate(createRequest(`moved\e\new`, smb2.FileCreate))
	want(t, "creating in a directory to be deleted", st, ntstatus.DeletePending)
	want(t, "taking it back", p.set(e, smb2.ClassFileDispositionInformation, []byte{0}), ntstatus.Success)
	want(t, "and again", p.set(e, smb2.ClassFileDispositionInformation, []byte{1}), ntstatus.Success)
	p.close(e)
	if s.exists("moved/e") || !s.exists("moved") {
		t.Error("the wrong directory was deleted")
	}
}

// [MS-FSA] 2.1.5.15.7.
func TestLink(t *testing.T) {
	s, p := disk(t)
	s.write("f", []byte("f"))
	s.write("g", []byte("g"))
	f := p.openFile("f")
	link := func(to string, replace bool) ntstatus.Status {
		b, _ := (&smb2.FileLinkInformation{FileName: to, ReplaceIfExists: replace}).AppendBinary(nil)
		return p.set(f, smb2.ClassFileLinkInformation, b)
	}
	want(t, "a new name", link("h", false), ntstatus.Success)
	want(t, "taken", link("g", false), ntstatus.ObjectNameCollision)
	want(t, "replacing", link("g", true), ntstatus.Success)
	if string(s.read("g")) != "f" || string(s.read("h")) != "f" {
		t.Error("not linked")
	}
	b, _ := p.query(f, smb2.InfoFile, uint8(smb2.ClassFileStandardInformation), 0, 24)
	if m, err := smb2.ParseFileStandardInformation(b); err != nil || m.NumberOfLinks != 3 {
		t.Errorf("%d links, %v; want 3", m.NumberOfLinks, err)
	}
}

// linkless is storage on which links cannot be made, as where the kernel protects them.
type linkless struct{ *posix.FS }

func (linkless) Link(_ context.Context, oldname, newname string) error {
	return &os.LinkError{Op: "link", Old: oldname, New: newname, Err: syscall.EPERM}
}

// A link that cannot be made leaves what it was to replace.
func TestLinkThatFails(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Shares[0].FS = linkless{c.Shares[0].FS.(*posix.FS)} })
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	s.write("f", []byte("f"))
	s.write("g", []byte("g"))
	b, _ := (&smb2.FileLinkInformation{FileName: "g", ReplaceIfExists: true}).AppendBinary(nil)
	want(t, "replacing", p.set(p.openFile("f"), smb2.ClassFileLinkInformation, b), ntstatus.AccessDenied)
	if string(s.read("g")) != "g" {
		t.Errorf("what was to be replaced has %q", s.read("g"))
	}
}

// [MS-FSA] 2.1.5.15.5 and 2.1.5.15.1.
func TestSetEndOfFile(t *testing.T) {
	s, p := disk(t)
	s.write("f", []byte("12345"))
	f := p.openFile("f")
	size := func(n int64) []byte { return le.AppendUint64(nil, uint64(n)) }
	want(t, "cut", p.set(f, smb2.ClassFileEndOfFileInformation, size(2)), ntstatus.Success)
	want(t, "extend", p.set(f, smb2.ClassFileEndOfFileInformation, size(4)), ntstatus.Success)
	if got := s.read("f"); !bytes.Equal(got, []byte("12\x00\x00")) {
		t.Errorf("content %q", got)
	}
	want(t, "negative", p.set(f, smb2.ClassFileEndOfFileInformation, size(-1)), ntstatus.InvalidParameter)
	want(t, "too short", p.set(f, smb2.ClassFileEndOfFileInformation, make([]byte, 7)), ntstatus.InfoLengthMismatch)
	want(t, "allocating keeps the size", p.set(f, smb2.ClassFileAllocationInformation, size(1<<20)), ntstatus.Success)
	if n := len(s.read("f")); n != 4 {
		t.Errorf("size %d after allocation, want 4", n)
	}
	want(t, "allocating less cuts", p.set(f, smb2.ClassFileAllocationInformation, size(1)), ntstatus.Success)
	if n := len(s.read("f")); n != 1 {
		t.Errorf("size %d after allocation, want 1", n)
	}
	req := createRequest("f", smb2.FileOpen)
	req.DesiredAccess = smb2.FileReadData
	want(t, "without the right", p.set(p.create(req), smb2.ClassFileEndOfFileInformation, size(0)), ntstatus.AccessDenied)
}

// [MS-SMB2] 3.3.5.20.1 and 3.3.5.21.1 for extended attributes.
func TestExtendedAttributes(t *testing.T) {
	_, p := disk(t)
	req := createRequest("f", smb2.FileOpenIf)
	req.DesiredAccess |= smb2.FileReadEA | smb2.FileWriteEA
	f := p.create(req)
	query := func(room uint32) ([]smb2.FileFullEaInformation, ntstatus.Status) {
		b, st := p.query(f, smb2.InfoFile, uint8(smb2.ClassFileFullEaInformation), 0, room)
		var list []smb2.FileFullEaInformation
		for ea, err := range smb2.FileFullEaInformations(b) {
			if err != nil {
				return nil, st
			}
			list = append(list, ea)
		}
		return list, st
	}
	_, st := query(4096)
	if st == ntstatus.EANotSupported {
		t.Skip("the test's file system keeps no extended attributes")
	}
	want(t, "none", st, ntstatus.NoEAsOnFile)
	l := smb2.NewEntryList(nil, 4096)
	l.AppendEa(smb2.FileFullEaInformation{EaName: "one", EaValue: []byte("1")})
	l.AppendEa(smb2.FileFullEaInformation{EaName: "two", EaValue: []byte("22")})
	want(t, "setting", p.set(f, smb2.ClassFileFullEaInformation, l.Bytes()), ntstatus.Success)
	list, st := query(4096)
	want(t, "reading", st, ntstatus.Success)
	if len(list) != 2 || list[0].EaName != "one" || string(list[1].EaValue) != "22" {
		t.Errorf("got %+v", list)
	}
	list, st = query(16)
	want(t, "room for one", st, ntstatus.BufferOverflow)
	if len(list) != 1 || list[0].EaName != "one" {
		t.Errorf("got %+v", list)
	}
	list, st = query(16)
	want(t, "going on", st, ntstatus.Success)
	if len(list) != 1 || list[0].EaName != "two" {
		t.Errorf("got %+v", list)
	}
	l = smb2.NewEntryList(nil, 4096)
	l.AppendEa(smb2.FileFullEaInformation{EaName: "one"})
	want(t, "removing", p.set(f, smb2.ClassFileFullEaInformation, l.Bytes()), ntstatus.Success)
	if list, _ = query(4096); len(list) == 0 {
		list, _ = query(4096) // the enumeration had come to its end
	}
	if len(list) != 1 {
		t.Errorf("got %+v, want one", list)
	}
	bad := l.Bytes()
	bad[5] = 200
	want(t, "malformed", p.set(f, smb2.ClassFileFullEaInformation, bad), ntstatus.EAListInconsistent)
	l = smb2.NewEntryList(nil, 4096)
	l.AppendEa(smb2.FileFullEaInformation{EaName: "a:b", EaValue: []byte("1")})
	want(t, "bad name", p.set(f, smb2.ClassFileFullEaInformation, l.Bytes()), ntstatus.InvalidEAName)
}

// An entry that did not fit is given by the next request, with what the class of that one
// tells.
func TestListingInAnotherClass(t *testing.T) {
	s, p := disk(t)
	s.write("a", []byte("0123456789"))
	s.write("b", []byte("0123456789"))
	dir := p.openDir("")
	// As much as two entries take, of which each has 12 octets and its name: [MS-FSCC]
	// 2.4.28, aligned to 8.
	list, st := p.list(dir, smb2.ClassFileNamesInformation, "?", 0, 16+14)
	want(t, "listing names", st, ntstatus.Success)
	first := names(list)
	list, st = p.list(dir, smb2.ClassFileFullDirectoryInformation, "?", 0, 4096)
	want(t, "listing more", st, ntstatus.Success)
	if len(first) != 2 || len(list) != 1 {
		t.Fatalf("listed %q and then %q, want two of ., a and b, and the third", first, names(list))
	}
	if e := list[0]; e.EndOfFile != 10 || e.LastWriteTime == 0 || e.FileAttributes == 0 {
		t.Errorf("listed %+v", e)
	}
}
