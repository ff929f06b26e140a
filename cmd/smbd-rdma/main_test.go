package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/smbd-rdma/smbd-rdma/server"
)

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// exec runs one command line.
func execute(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(context.Background(), args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// A mistake on the command line gets one line that says what is wrong, and 2.
func TestUsageErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		want string
	}{
		{"", "no command"},
		{"frobnicate", `unknown command "frobnicate"`},
		{"serve --no-such-flag", "unknown flag: --no-such-flag"},
		{"serve extra", "unknown command"},
		{"serve", "no share"},
		{"serve --share data", "is not of the form NAME=PATH"},
		{"serve --share data=" + file + " --user a%b", "is not a directory"},
		{"serve --share data=" + dir, "nobody could log on"},
		{"serve --share data=" + dir + " --user alice", "not of the form NAME%PASSWORD"},
		{"serve --share data=" + dir + " --user a%b --signing never", `--signing "never"`},
		{"serve --share data=" + dir + " --user a%b --encryption some", `--encryption "some"`},
		{"serve --share data=" + dir + " --user a%b --tcp none --rdma none", "nothing to listen on"},
		{"serve --share data=" + dir + " --user a%b --tcp none --rdma quic://:1", `provider "quic"`},
		{"serve --share data=" + dir + " --user a%b --tcp none --rdma :5445", "PROVIDER://ADDR"},
		{"ls", "accepts 1 arg(s)"},
		{"ls server/share", "is not of the form //HOST/SHARE/PATH"},
		{"ls ///share", "names no host"},
		{"ls //h/s/../t", `".." has no meaning`},
		{"cat //h", "names no share"},
		{"ls //h/s -p 70000 -U a%b", "--port 70000"},
		{"ls //h/s --transport quic -U a%b", `--transport "quic"`},
		{"ls //h/s -U a%b --rdma-threshold -1", "--rdma-threshold -1"},
		{"ls //h/s -U a%b --signing maybe", `--signing "maybe"`},
		{"ls //h/s -U a%b -A x", "exclude each other"},
		{"get //h/s/a //h/s/b -U a%b", "is not a local name"},
		{"put //h/s/a //h/s/b -U a%b", "is not a local name"},
		{"put " + dir + " //h/s/b -U a%b", "is a directory; use put -r"},
		{"put --jobs 0 " + dir + " //h/s/b", "--jobs 0"},
		{"put --parallel 65 " + dir + " //h/s/b", "--jobs 65"},
		{"get --ranges 65 //h/s/b", "--ranges 65"},
		{"get --in-place --continue //h/s/b", "exclude each other"},
		{"get --symlinks some //h/s/b", `--symlinks "some"`},
		{"get --exclude a[ //h/s/b", `"a[" is no pattern`},
		{"get a //h/s/b", "is not of the form //HOST/SHARE/PATH"},
		{"mget //h/s/a[", "does not end in a pattern"},
		{"cp //h/s/a b", "use get"},
		{"cp a //h/s/b", "use put"},
		{"sync a b", "is on a share"},
		{"sync --checksum --size-only //h/s/a b", "exclude each other"},
		{"sync //h/s/a //H/S/A/b", "are not apart"},
		{"sync " + file + " //h/s/a", "is not a directory"},
		{"touch --date yesterday //h/s/a", `--date "yesterday"`},
		{"setmode //h/s/a r", "is not of the form +rhsa-rhsa"},
		{"rmdir //h/s", "name something on it"},
		{"doctor //h", "names no share"},
		{"doctor //h/s -U a%b --transport tcp", "never uses RDMA"},
		{"doctor //h/s -U a%b --transport quic", `--transport "quic"`},
		{"doctor //h/s -U a%b --rdma-port 70000", "--rdma-port 70000"},
		{"doctor //h/s -U a%b --max-channels -1", "--max-channels -1"},
		{"ls //h/s -U a%b --max-channels 32", "--max-channels 32 is not 0 to 31"},
		{"demo --large 0", "--large 0"},
		{"demo --parallel 65", "--parallel 65"},
		{"version --log-level loud", `--log-level "loud"`},
		{"version --profile heap", `--profile "heap"`},
	} {
		t.Run(c.args, func(t *testing.T) {
			code, stdout, stderr := execute(strings.Fields(c.args)...)
			if code != exitUsage {
				t.Errorf("exit status %d, want %d", code, exitUsage)
			}
			if stdout != "" {
				t.Errorf("printed to standard output: %q", stdout)
			}
			if !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("standard error is %q, want one line with %q", stderr, c.want)
			}
		})
	}
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	for _, c := range (&app{}).rootCommand().Commands() {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		code, stdout, stderr := execute(c.Name(), "--help")
		if code != exitDone || !strings.Contains(stdout, "Examples:") || stderr != "" {
			t.Errorf("%s --help: exit status %d, %q on standard error, an example: %v",
				c.Name(), code, stderr, strings.Contains(stdout, "Examples:"))
		}
		if n := strings.Count(stdout, "\n"); n > 60 {
			t.Errorf("%s --help takes %d lines", c.Name(), n)
		}
	}
}

// Names come from servers, and must do nothing to a terminal.
func TestErrorsAreOneVisibleLine(t *testing.T) {
	got := oneLine(errors.New("open \x1b[2Jx\ty ü\u009b: no\nsuch\n"))
	if want := "open ?[2Jx?y ü?: no; such"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParseTarget(t *testing.T) {
	for _, c := range []struct {
		in   string
		want target
	}{
		{"//server", target{"server", "", ""}},
		{"//server/", target{"server", "", ""}},
		{"//server/data", target{"server", "data", ""}},
		{"//server/data/", target{"server", "data", ""}},
		{"//server/data/a/b", target{"server", "data", "a/b"}},
		{"//server/data//a/./b/", target{"server", "data", "a/b"}},
		{`\\server\data\a b\c`, target{"server", "data", "a b/c"}},
		{"smb://server/data/a%20b", target{"server", "data", "a b"}},
		{"//[::1]/data", target{"[::1]", "data", ""}},
	} {
		got, err := parseTarget(c.in)
		if err != nil || got != c.want {
			t.Errorf("parseTarget(%q) = %+v, %v; want %+v", c.in, got, err, c.want)
		}
	}
}

func TestConfigurationFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "smb.conf")
	text := `
# a comment
[global]
   Workgroup = lab
   netbios name = store
   server signing = mandatory
   smb encrypt = desired
   server min protocol = SMB3_00
   map to guest = never
   smb ports = 1445 2445
   deadtime = 5
   preexec = /bin/true
; another
[data]
   path = ` + dir + `
   read only = no
   comment = The data; all of it
   valid users = alice, bob
[gone]
   available = no
[printer]
   path = ` + dir + `
   printable = yes
[public]
   path = ` + dir + `
   browseable = no
   guest ok = yes
   vfs objects = acl_xattr
   smb3 share cap:CONTINUOUS AVAILABILITY = yes
`
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	a := &app{stderr: &log}
	a.log = newLogger(&log, slog.LevelInfo)
	s, err := a.settings(serveFlags{config: name, users: []string{"alice%secret"}})
	if err != nil {
		t.Fatal(err)
	}
	c := &s.server
	if c.ServerName != "STORE" || c.Domain != "LAB" || c.Signing != server.PolicyRequired ||
		c.Encryption != server.PolicyDesired || c.MinDialect != server.Dialect300 || c.Guest || c.IdleTimeout != 5*time.Minute ||
		strings.Join(s.tcp, " ") != ":1445 :2445" || !s.rdmaDevices {
		t.Errorf("[global] is %+v", s)
	}
	if len(s.shares) != 2 {
		t.Fatalf("%d shares, want 2", len(s.shares))
	}
	d, p := s.shares[0], s.shares[1]
	if d.Name != "data" || d.path != dir || d.ReadOnly || d.Comment != "The data; all of it" || strings.Join(d.Users, " ") != "alice bob" ||
		!d.EncryptionDesired || d.CreateMask != 0o744 || d.NoStreams {
		t.Errorf("[data] is %+v", d)
	}
	if p.Name != "public" || !p.ReadOnly || !p.Hidden || !p.Guest || !p.NoStreams || !p.ContinuousAvailability {
		t.Errorf("[public] is %+v", p)
	}
	if !strings.Contains(log.String(), "preexec") || !strings.Contains(log.String(), name+":12") {
		t.Errorf("the parameter that is not supported is not named in the log, with its line: %q", log.String())
	}
	for _, bad := range []string{"[data]\nread only = perhaps\npath = /\n", "[data]\ncomment = no path\n", "[data]\npath = data\n", "[global]\nserver signing = x\n",
		"[global]\nhosts allow = example.org\n[data]\npath = /\n", "[a/b]\npath = /\n", "[d]\npath = /\nvalid users = \"\"\n",
		"[global]\nserver min protocol = SMB3\nserver max protocol = SMB2_10\n[d]\npath = /\n", "[global]\nsmb ports = 70000\n[d]\npath = /\n",
		"[global]\nserver smb3 signing algorithms = -AES-128-GMAC -AES-128-CMAC\n[d]\npath = /\n", "[global]\nusername map = /nonexistent\n[d]\npath=/\n"} {
		if err := os.WriteFile(name, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := a.settings(serveFlags{config: name, users: []string{"a%b"}}); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}
