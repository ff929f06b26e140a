package smbconf

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// load reads files that exist in memory only; the first is main.conf.
func load(t *testing.T, o Options, files map[string]string) *Config {
	t.Helper()
	o.Open = func(name string) (io.ReadCloser, error) {
		s, ok := files[name]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return io.NopCloser(strings.NewReader(s)), nil
	}
	c, err := Load("main.conf", o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func problems(c *Config) []string {
	var out []string
	for _, p := range c.Problems {
		out = append(out, p.String())
	}
	return out
}

func TestFormat(t *testing.T) {
	c := load(t, Options{}, map[string]string{"main.conf": `
work group = first   ; the second word is part of the value
# comment \
[ GLOBAL ] ; comment
	NetBIOS  Name = box
; another
  Server
[d a  ta]
	path = /srv/two  words \
   and more
	valid\
users = a, b;c "d e" @f
	Comment = x\
y
	writeable = TRUE
	create mode = 0664
	hide files = /*.tmp/.cache/
[e]
	path =
[D A TA]
	read only = 1
	available = maybe
`})
	want := []string{
		`main.conf:7: warning: "Server" is ignored: it is neither a section nor "name = value"`,
		`main.conf:22: error: available: "maybe" is not yes or no`,
	}
	if got := problems(c); !slices.Equal(got, want) {
		t.Errorf("problems are %q, want %q", got, want)
	}
	if len(c.Shares) != 2 {
		t.Fatalf("%d shares, want 2", len(c.Shares))
	}
	g, s := c.Global, c.Share("D A TA")
	for _, x := range [][2]string{
		{g.String("workgroup"), "first ; the second word is part of the value"},
		{g.String("netbios name"), "box"},
		{s.Name, "d a ta"},
		{s.String("path"), "/srv/two words and more"},
		{strings.Join(s.List("valid users"), "|"), "a|b|c|d e|@f"},
		{s.String("comment"), "xy"},
		{strings.Join(s.Patterns("hide files"), "|"), "*.tmp|.cache"},
		{c.Share("e").String("path"), ""},
	} {
		if x[0] != x[1] {
			t.Errorf("%q, want %q", x[0], x[1])
		}
	}
	if !s.Bool("read only") || s.Mode("create mask") != 0o664 || s.Mode("directory mask") != 0o755 || !s.Bool("available") {
		t.Error("the later read only, create mode and the defaults of others do not hold")
	}
	if v, ok := s.Lookup("create mask"); !ok || v.Pos != (Pos{"main.conf", 16}) {
		t.Errorf("create mask stands at %v (%v)", v.Pos, ok)
	}
}

func TestValues(t *testing.T) {
	for _, c := range []struct {
		line  string
		show  string // what is in force, by the name in the line; "" with a problem
		issue string // part of its text
	}{
		{"read only = no", "No", ""},
		{"writable = yes", "Yes", ""},
		{"write ok = off", "No", ""},
		{"readonly = 0", "", ""}, // looked up by another spelling below
		{"public = On", "Yes", ""},
		{"read only = perhaps", "", "not yes or no"},
		{"create mask = 777", "0777", ""},
		{"create mask = 0o777", "", "octal"},
		{"create mask = 10000", "", "octal"},
		{"smb2 max read = 1M", "1048576", ""},
		{"smb2 max read = 64K", "65536", ""},
		{"smb2 max read = 16M", "", "65536 to 8388608"},
		{"smb2 max read = -1", "", "octets"},
		{"smb2 max read = 9223372036854775807T", "", "octets"},
		{"smb2 max credits = 8193", "", "16 to 8192"},
		{"server min protocol = SMB3", "SMB3_11", ""},
		{"min protocol = smb2_10", "SMB2_10", ""},
		{"protocol = NT1", "", "not one of smb2_02, smb2_10,"},
		{"min protocol = SMB2", "SMB2_10", ""}, // as with Samba: 3.1.1 would shut out nearly everybody
		{"max protocol = SMB2", "SMB2_10", ""},
		{"min protocol = default", "SMB2_02", ""},
		{"max protocol = default", "SMB3_11", ""},
		{"min protocol = NT1", "", "there is no SMB1"},
		{"smb encrypt = yes", "if_required", ""},
		{"path = \"/srv/my data\"", "/srv/my data", ""},
		{"comment = \"quoted\" in part", "\"quoted\" in part", ""},
		{"comment = \"\"", "", ""},
		{"hide files = \"/.*/\"", "/.*/", ""},
		{"map to guest = Bad User", "bad user", ""},
		{"smb encrypt = mandatory", "required", ""},
		{"server signing = No", "disabled", ""},
		{"smb3 share cap:CONTINUOUS AVAILABILITY = yes", "Yes", ""},
		{"smb3 share cap : continuous availability = yes", "Yes", ""},
		{"interfaces = lo \"10.0.0.1;speed=1\"", `lo "10.0.0.1;speed=1"`, ""},
		{"comment = 100%% of %S", "100%% of sh", ""},
		{"comment = of %U", "of %U", ""},
		{"comment = of %q", "of %q", "%q has no meaning here"},
		{"volume = 100%% of %S", "100% of sh", ""},
		{"volume = %U", "%U", "%U has no meaning here"},
		{"valid users = %S, @%g %U", "sh @%g %U", ""},
		{"admin users = %H", "", "%H has no meaning here"},
		{"force user = %u", "%u", ""},
		{"hosts allow = %I", "", "%I has no meaning here"},
		{"smbd-rdma:durable time = 86401", "", "is not a number of 0 to 86400"},
		{"path = /home/%U/%S", "/home/%U/sh", ""},
		{"path = /home/%q", "", "%q has no meaning"},
		{"path = /home/%U/%q", "", "%q has no meaning"},
		{"path = /%$(SMBCONF_TEST)/x", "/value/x", ""},
		{"path = /%$(SMBCONF_NONE)/x", "", "%$(SMBCONF_NONE)"},
		{"level2 oplocks = yes", "", ""},
		{"level2 oplocks = no", "", "oplocks have level II"},
		{"fstype = Samba", "", "clients are told NTFS"},
		{"load printers = yes", "", "note"},
		{"pid directory = /x", "", "note"},
		{"preexec = /bin/true", "", "warning: \"preexec\" is not supported"},
		{"recycle:keeptree = yes", "", "there are no modules"},
		{"idmap config * : backend = tdb", "", "note"},
		{"raed only = yes", "", "unknown, to Samba too"},
		{"smbd-rdma:nothing = yes", "", "no parameter of this server"},
		{"workgroup = x", "", "belongs in [global]"},
	} {
		t.Setenv("SMBCONF_TEST", "value")
		name, _, _ := strings.Cut(c.line, " =")
		section := "[sh]"
		k, _ := lookup(name)
		global := k != nil && !k.Share && name != "workgroup"
		if global {
			section = "[global]"
		}
		cfg := load(t, Options{}, map[string]string{"main.conf": section + "\n" + c.line})
		s := cfg.Global
		if !global {
			s = cfg.Shares[0]
		}
		if c.show != "" {
			if got, ok := s.Show(name); !ok || got != c.show {
				t.Errorf("%s: shown as %q, want %q", c.line, got, c.show)
			}
		}
		got := strings.Join(problems(cfg), " ")
		if (got == "") != (c.issue == "") || !strings.Contains(got, c.issue) {
			t.Errorf("%s: problems %q, want %q", c.line, got, c.issue)
		}
	}
}

// What the server has of its own cannot be configured, and does not keep it from starting.
func TestSectionsOfTheServersOwn(t *testing.T) {
	for _, name := range []string{"printers", "print$", "IPC$"} {
		c := load(t, Options{}, map[string]string{"main.conf": "[" + name + "]\npath = /tmp\n[sh]\npath = /srv\n"})
		if got := strings.Join(problems(c), " "); !strings.Contains(got, "main.conf:1: warning: ["+name+"] is not supported") || c.Failed() {
			t.Errorf("[%s]: problems %q", name, got)
		}
		if len(c.Shares) != 1 || c.Shares[0].Name != "sh" {
			t.Errorf("[%s]: %d shares", name, len(c.Shares))
		}
	}
}

func TestGlobalIsTheDefaultOfShares(t *testing.T) {
	c := load(t, Options{}, map[string]string{"main.conf": `
[global]
	read only = no
	comment = share %S
	create mask = 0600
[a]
	path = /a
	create mask = 0640
[b]
	copy = a
	path = /b
[c]
	copy = nowhere
`})
	a, b := c.Share("a"), c.Share("b")
	if a.Bool("read only") || b.Bool("read only") || a.String("comment") != "share a" || b.String("comment") != "share b" ||
		b.Mode("create mask") != 0o640 || b.String("path") != "/b" || a.String("path") != "/a" {
		var out bytes.Buffer
		if err := c.Print(&out, false); err != nil {
			t.Error(err)
		}
		t.Errorf("in force is\n%s", out.String())
	}
	if got := problems(c); len(got) != 1 || got[0] != "main.conf:13: error: copy = nowhere: no such section stands before this one" {
		t.Errorf("problems: %q", got)
	}
}

func TestInclude(t *testing.T) {
	t.Setenv("SMBCONF_TEST", "two")
	c := load(t, Options{}, map[string]string{
		"main.conf": "[global]\ninclude = one.conf\ninclude = %$(SMBCONF_TEST).conf\ninclude = absent.conf\ninclude = %m.conf\ninclude = registry\nnetbios name = last",
		"one.conf":  "\nnetbios name = one\nbogus one = 1\n[x]\npath = /x",
		"two.conf":  "comment = of x",
	})
	want := []string{
		"main.conf:4: warning: include = absent.conf is skipped: there is no such file",
		"main.conf:5: warning: include = %m.conf is skipped: %m is not known before somebody connects",
		"main.conf:6: warning: include = registry is not supported: there is no registry",
		`main.conf:7: warning: "netbios name" is ignored: it belongs in [global]`,
		`one.conf:3: warning: "bogus one" is unknown, to Samba too`,
	}
	if got := problems(c); !slices.Equal(got, want) {
		t.Errorf("problems: %q", got)
	}
	if c.Global.String("netbios name") != "one" || c.Share("x").String("comment") != "of x" {
		t.Error("what was included does not hold")
	}
	if !slices.Equal(c.Files, []string{"main.conf", "one.conf", "two.conf"}) {
		t.Errorf("files: %q", c.Files)
	}
	for _, files := range []map[string]string{
		{"main.conf": "include = main.conf"},
		{"main.conf": "include = a\ninclude = a\n", "a": "include = b\ninclude = b", "b": "include = a"},
		{"main.conf": strings.Repeat("x", maxFileSize+1)},
		{"main.conf": strings.Repeat("include = a\n", maxFiles), "a": ""},
	} {
		_, err := Load("main.conf", Options{Open: func(n string) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(files[n])), nil
		}})
		if err == nil {
			t.Errorf("%.20q and so on is taken", files)
		}
	}
}

func TestStrict(t *testing.T) {
	files := map[string]string{"main.conf": "[global]\nbogus = 1\nload printers = no"}
	if c := load(t, Options{}, files); c.Failed() {
		t.Error("an unknown parameter is an error")
	}
	c := load(t, Options{Strict: true}, files)
	if got := problems(c); !c.Failed() || len(got) != 2 || !strings.Contains(got[0], "main.conf:2: error") || !strings.Contains(got[1], "note") {
		t.Errorf("strict: %q", got)
	}
}

func TestPrint(t *testing.T) {
	c := load(t, Options{}, map[string]string{"main.conf": `
[global]
	workgroup = W
	server min protocol = SMB2_02
	oplocks = no
[x]
	path = /x
	oplocks = no
	public = yes
	raed only = 1
`})
	var b bytes.Buffer
	if err := c.Print(&b, false); err != nil {
		t.Fatal(err)
	}
	const want = "# Global parameters\n[global]\n\toplocks = No\n\tworkgroup = W\n\n\n[x]\n\tguest ok = Yes\n\tpath = /x\n\n\n"
	if b.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	if err := c.Print(&b, true); err != nil || !strings.Contains(b.String(), "\tserver min protocol = SMB2_02\n") || !strings.Contains(b.String(), "\tread only = Yes\n") {
		t.Errorf("printed with all (%v)\n%s", err, b.String())
	}
	// What is printed says the same when it is read.
	again := load(t, Options{Strict: true}, map[string]string{"main.conf": b.String()})
	var b2 bytes.Buffer
	if err := again.Print(&b2, true); err != nil || b2.String() != b.String() || len(again.Problems) > 0 {
		t.Errorf("read again (%v, %q)\n%s", err, problems(again), b2.String())
	}
}

func TestClientVariables(t *testing.T) {
	c := Client{User: "unix", Session: "who", Group: "g", Home: "/home/u", Address: "::1", Domain: "D"}
	for _, x := range []struct {
		in, want string
		ok       bool
	}{
		{"/a/%U/%u", "/a/who/unix", true},
		{"%H/x%%", "/home/u/x%", true},
		{"/%I/%D/%g%G", "/::1/D/gg", true},
		{"/%m", "/__1", true},
		{"/%q", "", false},
		{"/100%", "/100%", true},
	} {
		if got, ok := c.Expand(x.in); ok != x.ok || ok && got != x.want {
			t.Errorf("%q is %q %v, want %q %v", x.in, got, ok, x.want, x.ok)
		}
	}
	for _, bad := range []string{"", ".", "..", "a/b", "/", "a\x00b"} {
		c := Client{Session: bad}
		if got, ok := c.Expand("/srv/%U"); ok {
			t.Errorf("user %q gives %q", bad, got)
		}
	}
}

// Every name means one thing, and the table is complete.
func TestTable(t *testing.T) {
	seen := map[string]string{}
	for i := range Keys {
		k := &Keys[i]
		for _, n := range append(append([]string{k.Name}, k.Synonyms...), k.Inverse...) {
			if seen[fold(n)] != "" {
				t.Errorf("%q is a name of %q and of %q", n, k.Name, seen[fold(n)])
			}
			seen[fold(n)] = k.Name
			if _, other := others()[fold(n)]; other {
				t.Errorf("%q is supported and not", n)
			}
		}
		if k.Text == "" || !slices.Contains(Groups, k.Group) || len(k.Fixed) > 0 != (k.Group == gFixed) {
			t.Errorf("%s: no text, or a group that is none", k.Name)
		}
		if len(k.Inverse) > 0 && k.Kind != Bool || (k.Kind == Enum) != (len(k.Words) > 0) {
			t.Errorf("%s: kind %v does not fit", k.Name, k.Kind)
		}
		if len(k.Fixed) == 0 {
			if c, err := k.canonical(k.Default); err != nil || c != k.Default {
				t.Errorf("%s: default %q is %q, %v", k.Name, k.Default, c, err)
			}
		}
		for _, f := range k.Fixed {
			if c, err := k.canonical(f); err != nil || c != f {
				t.Errorf("%s: fixed %q is %q, %v", k.Name, f, c, err)
			}
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("[global]\nworkgroup = x\ninclude = y\n[a]\npath=/%U\ncopy = a\n\\\n")
	f.Add("[s]\nvalid users = \"a b\" @c,;\ncreate mask = 0777\nhosts allow = ALL EXCEPT 1.\n")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Load("m", Options{Open: func(n string) (io.ReadCloser, error) {
			if n != "m" {
				return nil, fs.ErrNotExist
			}
			return io.NopCloser(strings.NewReader(s)), nil
		}})
		if err != nil {
			return
		}
		if err := c.Print(io.Discard, true); err != nil {
			t.Error(err)
		}
	})
}

// The files of Samba's users: nothing in them is an error.
func TestSambaFiles(t *testing.T) {
	names, err := filepath.Glob("testdata/*.conf")
	if err != nil || len(names) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, n := range names {
		want, err := os.ReadFile(strings.TrimSuffix(n, ".conf") + ".want")
		if err != nil {
			t.Fatal(err)
		}
		c, err := Load(n, Options{})
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, p := range c.Problems {
			b.WriteString(p.String() + "\n")
		}
		if err := c.Print(&b, false); err != nil {
			t.Fatal(err)
		}
		if b.String() != string(want) {
			t.Errorf("%s says\n%s\nwant\n%s", n, b.String(), want)
		}
	}
}
