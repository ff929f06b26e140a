package server

import (
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// [MS-FSCC] 2.1.5.2.1: who needs another name, and that it is one that DOS can spell.
func TestShortName(t *testing.T) {
	for _, name := range []string{"a", "README.TXT", "readme.txt", "8letters.3ex", "A~1", "~$x.doc"} {
		if got := shortName(name); got != "" {
			t.Errorf("%q is short, and has the short name %q", name, got)
		}
	}
	for name, want := range map[string]struct{ head, tail string }{
		"torture_search.txt": {"TO", ".TXT"},
		"a b":                {"AB", ""},
		".profile":           {"PR", ""},
		"nine chars":         {"NI", ""},
		"x.html":             {"X_", ".HTM"},
		"two.dots.tar.gz":    {"TW", ".GZ"},
		"no extension.":      {"NO", ""},
		"ärger":              {"RG", ""},
		"日本語.テキスト":           {"__", ""},
	} {
		got := shortName(name)
		if !isShort(got) || !looksShort(got) || got[:2] != want.head || got[shortBase:] != want.tail {
			t.Errorf("%q has the short name %q, want %s????~?%s", name, got, want.head, want.tail)
		}
	}
	if shortName("Some Name.txt") != shortName("SOME nAME.TXT") || shortName("Ärger ist groß") != shortName("ärger ist groß") {
		t.Error("names that differ by case have different short names")
	}
	if shortName("some name.txt") == shortName("some game.txt") {
		t.Error("different names have the same short name")
	}
}

// A file is found by its short name in every place of a path, and a program that
// replaces it by this name gives the new one the name that it had.
func TestOpenByShortName(t *testing.T) {
	s, p := disk(t)
	s.mkdir("a long directory")
	s.write("a long directory/a long file.text", []byte("x"))
	alternate := func(name string) string {
		t.Helper()
		id := p.create(createRequest(name, smb2.FileOpen))
		defer p.close(id)
		b, st := p.query(id, smb2.InfoFile, uint8(smb2.ClassFileAlternateNameInformation), 0, 100)
		want(t, "alternate name", st, ntstatus.Success)
		m, err := smb2.ParseFileNameInformation(b)
		if err != nil {
			t.Fatal(err)
		}
		return m.FileName
	}
	d, f := alternate("a long directory"), alternate(`a long directory\a long file.text`)
	short := d + `\` + f
	req := createRequest(short, smb2.FileOpen)
	req.CreateOptions = smb2.FileDeleteOnClose
	p.close(p.create(req))
	if s.exists("a long directory/a long file.text") {
		t.Fatal("not deleted")
	}
	p.close(p.create(createRequest(short, smb2.FileCreate)))
	if !s.exists("a long directory/a long file.text") {
		t.Error("what was created by the short name does not have the long one")
	}
	// A name that is there is meant itself.
	s.write("a long directory/"+f, []byte("short"))
	b, _ := p.query(p.create(createRequest(short, smb2.FileOpen)), smb2.InfoFile, uint8(smb2.ClassFileNormalizedNameInformation), 0, 200)
	if m, err := smb2.ParseFileNameInformation(b); err != nil || m.FileName != `a long directory\`+f {
		t.Errorf("opened %q, %v", m.FileName, err)
	}
	st, _ := p.tryCreate(createRequest(`a long directory\ZZZZZZ~Z.ZZZ`, smb2.FileOpen))
	want(t, "a short name of nothing", st, ntstatus.ObjectNameNotFound)
}
