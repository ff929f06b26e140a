package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/smbd-rdma/smbd-rdma/"

// allowed has, for each directory, what of this module its package may import
// outside its tests. "x/..." means x and all below it. A directory that is not
// listed is judged by its nearest listed parent.
var allowed = map[string][]string{
	"ntstatus":                    {},
	"transport":                   {},
	"transport/tcp":               {"transport", "internal/socket"},
	"transport/ndk":               {"ntstatus"},
	"transport/ndk/internal/soft": {"ntstatus", "transport/ndk"},
	"transport/ndk/iwarp":         {"ntstatus", "internal/socket", "transport/ndk", "transport/ndk/internal/soft", "transport/ndk/iwarp/..."},
	"transport/ndk/verbs":         {"ntstatus", "transport/ndk", "transport/ndk/internal/soft", "transport/ndk/verbs/..."},
	"transport/ndk/sim":           {"ntstatus", "transport/ndk", "transport/ndk/internal/soft", "transport/ndk/sim/..."},
	"transport/ndk/ndkhook":       {"ntstatus", "transport/ndk"},
	"transport/ndk/ndktest":       {"ntstatus", "transport/ndk", "transport/ndk/ndkhook", "transport/ndk/ndktest/..."},
	"smbdirect/wire":              {"ntstatus"},
	"smbdirect/core":              {"ntstatus", "smbdirect/wire"},
	"smbdirect":                   {"ntstatus", "transport", "transport/ndk", "smbdirect/core", "smbdirect/wire"},
	"smbdirect/smbdtest":          {"ntstatus", "transport", "transport/ndk", "smbdirect", "smbdirect/wire", "smbdirect/smbdtest/...", "internal/smb2", "internal/smbcrypto", "internal/ntlm", "internal/spnego"},
	"internal/smb2":               {"ntstatus"},
	"internal/smbcrypto":          {"ntstatus"},
	"internal/ntlm":               {"ntstatus"},
	"internal/spnego":             {"ntstatus"},
	"internal/dcerpc":             {"ntstatus"},
	"internal/arch":               {},
	"internal/pcap":               {},
	"internal/socket":             {},
	"internal/ntacl":              {},
	"internal/smbconf":            {},
	"internal/smbpasswd":          {},
	"internal/filecopy":           {"ntstatus", "client"},
	"internal/doctor":             {"ntstatus", "transport", "transport/ndk", "smbdirect", "smbdirect/smbdtest", "smbdirect/wire", "client", "internal/smb2"},
	"server/vfs":                  {},
	"server/vfs/posix":            {"server/vfs", "server/vfs/posix/..."},
	"server/vfs/memory":           {"server/vfs"},
	"server/vfs/vfstest":          {"server/vfs"},
	"server":                      {"ntstatus", "transport", "server/vfs", "server/internal/...", "internal/smb2", "internal/smbcrypto", "internal/ntacl", "internal/ntlm", "internal/spnego", "internal/dcerpc"},
	"client":                      {"ntstatus", "transport", "client/internal/...", "internal/smb2", "internal/smbcrypto", "internal/ntlm", "internal/spnego", "internal/dcerpc"},
	"client/fuse":                 {"ntstatus", "client"},
	"client/kerberos":             {"ntstatus", "client"},
	"bench":                       {"ntstatus", "client", "transport", "bench/..."},
	"bench/engine":                {"ntstatus", "client", "transport", "transport/ndk", "bench/job", "bench/result"},
	"bench/pattern":               {},
	"bench/result":                {},
	"bench/report":                {"bench/job", "bench/result"},
	"bench/saved":                 {"bench/result"},
	"bench/compare":               {"bench/result", "bench/saved"},
	"bench/page":                  {"bench/result", "bench/saved"},
	"bench/job":                   {},
	"fuzz":                        {"ntstatus", "smbdirect/...", "internal/smb2", "transport", "transport/ndk", "transport/ndk/sim", "transport/ndk/ndkhook", "fuzz/..."},
	"fuzz/model":                  {"smbdirect/wire"},
	"fuzz/minimise":               {},
	"test":                        {"ntstatus", "transport/...", "smbdirect/...", "server/...", "client/...", "internal/...", "bench/...", "test/internal/...", "test/mount/site", "test/vm/way"},
	"cmd/smbd-rdma":               {"ntstatus", "transport/...", "smbdirect/...", "server/...", "client/...", "bench/...", "internal/pcap", "internal/doctor", "internal/filecopy", "internal/smbconf", "internal/smbpasswd", "cmd/smbd-rdma/..."},
}

func rule(dir string) ([]string, bool) {
	for d := dir; d != "."; d = path.Dir(d) {
		if r, ok := allowed[d]; ok {
			return r, true
		}
	}
	return nil, false
}

func permitted(rule []string, imp string) bool {
	for _, r := range rule {
		base, tree := strings.CutSuffix(r, "/...")
		if imp == base || tree && strings.HasPrefix(imp, base+"/") {
			return true
		}
	}
	return false
}

func TestPermitted(t *testing.T) {
	for _, c := range []struct {
		dir, imp string
		want     bool
	}{
		{"server", "transport", true},
		{"server", "smbdirect", false},
		{"server", "transport/ndk", false},
		{"server/vfs", "server", false},
		{"server/vfs/posix", "server/vfs", true},
		{"client", "server", false},
		{"smbdirect", "transport/ndk", true},
		{"smbdirect", "transport/ndk/iwarp", false},
		{"transport/ndk/iwarp", "smbdirect", false},
		{"internal/smb2", "internal/smbcrypto", false},
		{"cmd/smbd-rdma", "transport/ndk/iwarp", true},
		{"test/e2e", "smbdirect/wire", true},
	} {
		r, ok := rule(c.dir)
		if !ok || permitted(r, c.imp) != c.want {
			t.Errorf("%s may import %s: %v, want %v", c.dir, c.imp, !c.want, c.want)
		}
	}
	if _, ok := rule("somewhere/else"); ok {
		t.Error("a directory that nobody has listed has a rule")
	}
}

func TestImportsPointDownward(t *testing.T) {
	root := filepath.Join("..", "..")
	files := 0
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if name := d.Name(); rel != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		files++
		dir := path.Dir(rel)
		r, ok := rule(dir)
		if !ok {
			t.Errorf("%s: no import rule for %s; add one to the table", rel, dir)
			return nil
		}
		for _, spec := range f.Imports {
			imp, _ := strconv.Unquote(spec.Path.Value)
			if imp == "C" && dir != "transport/ndk/verbs" {
				t.Errorf("%s: cgo outside transport/ndk/verbs", rel)
			}
			own, ok := strings.CutPrefix(imp, module)
			if ok && own != dir && !permitted(r, own) {
				t.Errorf("%s may not import %s", rel, own)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Fatalf("only %d files looked at", files)
	}
}
