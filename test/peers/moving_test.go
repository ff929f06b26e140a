//go:build peers

package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUsersMoveFromSambaAndBack: users of Samba's own database, exported as
// docs/moving-from-samba.md says, log on here, and what is changed here Samba reads.
func TestUsersMoveFromSambaAndBack(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("pdbedit makes users for root alone")
	}
	const user = "games" // a user of UNIX without a password
	dir := t.TempDir()
	conf := func(backend string) string {
		t.Helper()
		name := filepath.Join(dir, strings.ReplaceAll(backend, "/", "_"))
		text := "[global]\npassdb backend = " + backend + "\n"
		for _, d := range []string{"private dir", "state directory", "cache directory", "lock directory"} {
			text += d + " = " + dir + "\n"
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	pdbedit := func(stdin string, args ...string) string {
		t.Helper()
		c := exec.CommandContext(t.Context(), "pdbedit", args...)
		c.Stdin = strings.NewReader(stdin)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("pdbedit %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	samba := conf("tdbsam:" + filepath.Join(dir, "passdb.tdb"))
	pdbedit("first\nfirst\n", "-s", samba, "-a", "-t", "-u", user)
	file := filepath.Join(dir, "smbpasswd")
	pdbedit("", "-s", samba, "-e", "smbpasswd:"+file)

	ours := filepath.Join(dir, "smb.conf")
	share := t.TempDir()
	if err := os.WriteFile(ours, []byte("[global]\npassdb backend = smbpasswd:"+file+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startBinServer(t, share, "-c", ours)
	logon := func(password string, want bool) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "smbclient", "//127.0.0.1/test", "-p", port(t, s.tcp), "-U", user+"%"+password, "-c", "volume").CombinedOutput()
		if (err == nil) != want {
			t.Errorf("logon with %q: %v, want %v\n%s", password, err, want, out)
		}
	}
	logon("first", true)
	logon("second", false)
	c := exec.CommandContext(t.Context(), binary(t), "passwd", "-c", ours, "-s", user)
	c.Stdin = strings.NewReader("second\nsecond\n")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("passwd: %v\n%s", err, out)
	}
	logon("first", false)
	logon("second", true)

	// A file that is ours alone, as pdbedit sees it: the hash is that of smbclient's
	// password, or it would not have come in.
	fresh := filepath.Join(dir, "fresh")
	c = exec.CommandContext(t.Context(), binary(t), "passwd", "--file", fresh, "-s", "-a", user)
	c.Stdin = strings.NewReader("second\nsecond\n")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("passwd -a: %v\n%s", err, out)
	}
	b, err := os.ReadFile(fresh)
	if err != nil {
		t.Fatal(err)
	}
	if got := pdbedit("", "-s", conf("smbpasswd:"+fresh), "-L", "-w"); strings.TrimSpace(got) != strings.TrimSpace(string(b)) {
		t.Errorf("pdbedit shows\n%swhat passwd wrote as\n%s", got, b)
	}
	t.Run("disabled by Samba", func(t *testing.T) {
		// Samba's own tool changes the file under the server.
		pdbedit("", "-s", conf("smbpasswd:"+fresh), "-u", user, "-c", "[D]")
		b, err := os.ReadFile(fresh)
		if err != nil || !strings.Contains(string(b), "[DU") && !strings.Contains(string(b), "[UD") {
			t.Fatalf("%s %v", b, err)
		}
		if err := os.Rename(fresh, file); err != nil {
			t.Fatal(err)
		}
		logon("second", false)
	})
}

// TestTestparmOfBoth: what our testparm prints Samba's reads without a complaint, and
// finds the same in it.
func TestTestparmOfBoth(t *testing.T) {
	dir := t.TempDir()
	share := filepath.Join(dir, "share")
	if err := os.Mkdir(share, 0o755); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "smb.conf")
	text := fmt.Sprintf(`[global]
	netbios name = box
	server min protocol = SMB3_00
	map to guest = bad user
	veto files = /.DS_Store/*.tmp/
	oplocks = off
[data]
	path = %s
	public = yes
	writable = 1
	create mode = 664
	force directory mode = 2770
	valid users = "night shift", @staff +wheel
	hosts allow = 192.168.7. EXCEPT 192.168.7.9
	smb encrypt = desired
	vfs objects = acl_xattr streams_xattr
	hide dot files = no
	comment = a   comment \
		of two lines
[copied]
	copy = data
	path = /
`, share)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	printed := command(t, dir, binary(t), "testparm", "-s", name)
	again := filepath.Join(dir, "again.conf")
	if err := os.WriteFile(again, []byte(printed), 0o600); err != nil {
		t.Fatal(err)
	}
	theirs := func(file, section, parameter string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "testparm", "-s", "--section-name="+section, "--parameter-name="+parameter, file).Output()
		if err != nil {
			t.Fatalf("testparm %s %s: %v", section, parameter, err)
		}
		return strings.TrimSpace(string(out))
	}
	out, err := exec.CommandContext(t.Context(), "testparm", "-s", again).CombinedOutput()
	if err != nil || strings.Contains(string(out), "nknown parameter") {
		t.Errorf("Samba's testparm says of what ours printed (%v)\n%s", err, out)
	}
	for _, section := range []string{"data", "copied"} {
		for _, p := range []string{
			"path", "guest ok", "read only", "create mask", "force directory mode", "comment", "hide dot files", "oplocks", "veto files", "browseable",
		} {
			mine := strings.TrimSpace(command(t, dir, binary(t), "testparm", "-s", "--section-name", section, "--parameter-name", p, name))
			a, b := theirs(name, section, p), theirs(again, section, p)
			if mine != a || a != b {
				t.Errorf("[%s] %s: %q here, %q with Samba, %q with Samba of what is printed", section, p, mine, a, b)
			}
		}
	}
}
