package server

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// No spelling of a name leads out of the share, whether it is opened, created, renamed
// to or linked to; what is refused is refused before anything has been made.
func TestNoNameLeavesTheShare(t *testing.T) {
	s, p := disk(t)
	outside := filepath.Dir(s.dir)
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.mkdir("d")
	s.write("f", []byte("f"))
	if err := os.Symlink(outside, filepath.Join(s.dir, "out")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../secret", filepath.Join(s.dir, "d", "up")); err != nil {
		t.Fatal(err)
	}
	before := contents(t, outside)
	for _, name := range []string{
		`..\secret`, `../secret`, `d\..\..\secret`, `d/../../secret`, `d\../..\secret`, `.\..\secret`, `..`, `d\..\..`,
		`\..\secret`, `/../secret`, `\\..\secret`, `..\\secret`, `...\secret`, `. .\secret`, `.. \secret`, `d\.. \secret`,
		"..\x00\\secret", "d\x00/../../secret", `..:s\secret`, `..:s`, `d:s\..\..\secret`, `f:..\secret`, `f:../secret`,
		`f:s:$DATA\..\..\secret`, `d::$INDEX_ALLOCATION\..\..\secret`, `out\secret`, `out\new`, `d\up`, `d\up:s`,
		"\uf029\uf029\\secret", "\uf029.\\secret", ".\uf029\\secret", `d\` + "\uf05c..\\secret", "..\u2215secret", "..\uff0fsecret",
		secret, `C:\secret`, `\\?\C:\secret`, `\??\C:\secret`,
	} {
		for _, d := range []smb2.CreateDisposition{smb2.FileOpen, smb2.FileOpenIf, smb2.FileOverwriteIf, smb2.FileCreate} {
			st, resp := p.tryCreate(createRequest(name, d))
			if st == ntstatus.Success { // something in the share, then
				if d == smb2.FileOpen {
					if got := p.readAll(resp.FileID); got == "secret" {
						t.Errorf("%q is read", name)
					}
				}
				req := p.set(resp.FileID, smb2.ClassFileDispositionInformation, []byte{1})
				want(t, "deleting what "+name+" made", req, ntstatus.Success)
				p.close(resp.FileID)
			}
		}
		f := p.openFile("f")
		if p.rename(f, name, true) == ntstatus.Success {
			want(t, "renaming back from "+name, p.rename(f, "f", true), ntstatus.Success)
		}
		b, _ := (&smb2.FileLinkInformation{FileName: name}).AppendBinary(nil)
		p.set(f, smb2.ClassFileLinkInformation, b)
		p.close(f)
	}
	if after := contents(t, outside); after != before {
		t.Errorf("outside the share was\n%s\nand is\n%s", before, after)
	}
}

// contents describes what is beneath a directory, but for the share itself.
func contents(t *testing.T, dir string) (out string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out += e.Name()
		if !e.IsDir() {
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			out += "=" + string(b)
		}
		out += "\n"
	}
	return out
}
