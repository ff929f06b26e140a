package server

import (
	"fmt"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// eaList is a FileFullEaInformation list of names and values in turn.
func eaList(nameValue ...string) []byte {
	l := smb2.NewEntryList(nil, 4096)
	for i := 0; i < len(nameValue); i += 2 {
		l.AppendEa(smb2.FileFullEaInformation{EaName: nameValue[i], EaValue: []byte(nameValue[i+1])})
	}
	return l.Bytes()
}

// [MS-FSA] 2.1.5.15.6: what is set, replaced and removed, in whatever spelling.
func TestSetEA(t *testing.T) {
	s, p := streamDisk(t)
	s.mkdir("d")
	s.write("d/f", nil)
	req := createRequest(`d\f`, smb2.FileOpen)
	req.DesiredAccess |= smb2.FileReadEA | smb2.FileWriteEA
	f := p.create(req)
	get := func() map[string]string {
		t.Helper()
		b, st := p.query(f, smb2.InfoFile, uint8(smb2.ClassFileFullEaInformation), 0, 4096)
		if st == ntstatus.NoEAsOnFile {
			return nil
		}
		want(t, "reading", st, ntstatus.Success)
		m := map[string]string{}
		for ea, err := range smb2.FileFullEaInformations(b) {
			if err != nil {
				t.Fatal(err)
			}
			m[ea.EaName] = string(ea.EaValue)
		}
		return m
	}
	for _, c := range []struct {
		name string
		list []byte
		st   ntstatus.Status
		want map[string]string
	}{
		{"two", eaList("One", "1", "two", "22"), ntstatus.Success, map[string]string{"One": "1", "two": "22"}},
		{"another spelling", eaList("ONE", "x"), ntstatus.Success, map[string]string{"One": "x", "two": "22"}},
		{"removed", eaList("TWO", ""), ntstatus.Success, map[string]string{"One": "x"}},
		{"what was not there", eaList("none", ""), ntstatus.Success, map[string]string{"One": "x"}},
		{"a bad name after a good one", eaList("good", "1", "a*b", "2"), ntstatus.InvalidEAName, map[string]string{"One": "x"}},
		{"what the storage keeps for itself", eaList("NTACL", "1"), ntstatus.AccessDenied, map[string]string{"One": "x"}},
		{"the same in another spelling", eaList("DosAttrib", "1"), ntstatus.AccessDenied, map[string]string{"One": "x"}},
		{"cut short", eaList("One", "y")[:9], ntstatus.EAListInconsistent, map[string]string{"One": "x"}},
	} {
		want(t, c.name, p.set(f, smb2.ClassFileFullEaInformation, c.list), c.st)
		if got := get(); len(got) != len(c.want) || got["One"] != c.want["One"] || got["two"] != c.want["two"] {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	// The size is the list's, for the open and in the listing: 8 octets, the name with
	// its NUL, and the value.
	b, _ := p.query(f, smb2.InfoFile, uint8(smb2.ClassFileEaInformation), 0, 4)
	if n := le.Uint32(b); n != 8+4+1 {
		t.Errorf("EaSize %d, want 13", n)
	}
	list, st := p.list(p.openDir("d"), smb2.ClassFileFullDirectoryInformation, "f", 0, 4096)
	if st != ntstatus.Success || len(list) != 1 || list[0].EaSize != 13 {
		t.Errorf("listed %+v, %v; want EaSize 13", list, st)
	}
}

// [MS-SMB2] 3.3.5.9.1: attributes come with CREATE, if the client knows what they are.
func TestCreateEA(t *testing.T) {
	s, p := streamDisk(t)
	s.write("old", nil)
	for _, c := range []struct {
		name string
		disp smb2.CreateDisposition
		opts smb2.CreateOptions
		st   ntstatus.Status
		set  bool
	}{
		{"new", smb2.FileCreate, 0, ntstatus.Success, true},
		{"old", smb2.FileOpen, 0, ntstatus.Success, false},
		{"old", smb2.FileOverwrite, 0, ntstatus.Success, true},
		{"ignorant", smb2.FileCreate, smb2.FileNoEAKnowledge, ntstatus.AccessDenied, false},
	} {
		req := createRequest(c.name, c.disp)
		req.DesiredAccess |= smb2.FileReadEA
		req.CreateOptions = c.opts
		req.Contexts, _ = smb2.AppendCreateContext(nil, smb2.CreateContextEABuffer, eaList("name", "value"))
		st, resp := p.tryCreate(req)
		want(t, c.name, st, c.st)
		if st != ntstatus.Success {
			continue
		}
		b, st := p.query(resp.FileID, smb2.InfoFile, uint8(smb2.ClassFileFullEaInformation), 0, 4096)
		if (st == ntstatus.Success) != c.set || c.set && string(b) != string(eaList("name", "value")) {
			t.Errorf("%s by disposition %d: %v, % x", c.name, c.disp, st, b)
		}
		p.close(resp.FileID)
	}
}

// [MS-FSA] 2.1.5.1.2: a file with an attribute that one has to know of is not for who says
// that he knows of none, until it is gone or set without the flag.
func TestNeedEA(t *testing.T) {
	s, p := streamDisk(t)
	s.write("f", nil)
	req := createRequest("f", smb2.FileOpen)
	req.DesiredAccess |= smb2.FileReadEA | smb2.FileWriteEA
	f := p.create(req)
	list := func(flags uint8, name, value string) []byte {
		l := smb2.NewEntryList(nil, 100)
		l.AppendEa(smb2.FileFullEaInformation{Flags: flags, EaName: name, EaValue: []byte(value)})
		return l.Bytes()
	}
	for _, c := range []struct {
		name  string
		set   []byte
		flags string // of those that are there, in order
		st    ntstatus.Status
	}{
		{"without the flag", list(0, "a", "1"), "0", ntstatus.Success},
		{"with it", list(smb2.FileNeedEA, "b", "2"), "0 80", ntstatus.AccessDenied},
		{"another", list(smb2.FileNeedEA, "A", "3"), "80 80", ntstatus.AccessDenied},
		{"the flag is taken away", list(0, "a", "4"), "0 80", ntstatus.AccessDenied},
		{"the attribute is removed", list(smb2.FileNeedEA, "B", ""), "0", ntstatus.Success},
	} {
		want(t, c.name, p.set(f, smb2.ClassFileFullEaInformation, c.set), ntstatus.Success)
		b, st := p.query(f, smb2.InfoFile, uint8(smb2.ClassFileFullEaInformation), 0, 4096)
		want(t, "reading", st, ntstatus.Success)
		var flags []string
		for ea, err := range smb2.FileFullEaInformations(b) {
			if err != nil {
				t.Fatal(err)
			}
			flags = append(flags, fmt.Sprintf("%x", ea.Flags))
		}
		if got := strings.Join(flags, " "); got != c.flags {
			t.Errorf("%s: flags are %s, want %s", c.name, got, c.flags)
		}
		for options, want := range map[smb2.CreateOptions]ntstatus.Status{0: ntstatus.Success, smb2.FileNoEAKnowledge: c.st} {
			req := createRequest("f", smb2.FileOpen)
			req.CreateOptions = options
			st, resp := p.tryCreate(req)
			if st != want {
				t.Errorf("%s: CREATE with the options %#x: %v, want %v", c.name, options, st, want)
			}
			if st == ntstatus.Success {
				p.close(resp.FileID)
			}
		}
	}
	want(t, "what the server keeps", p.set(f, smb2.ClassFileFullEaInformation, eaList("SMBD-RDMA.Need_EA", "a")), ntstatus.AccessDenied)
}
