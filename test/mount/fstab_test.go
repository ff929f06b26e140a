//go:build mount

package mount

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/test/mount/site"
)

// /etc/fstab, mount(8) and umount(8), with mount.fuse3 of the package fuse3 and with a link
// to the program in /sbin, by root and by somebody else.
func TestFstab(t *testing.T) {
	for _, c := range columns[:2] {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			y := newYard(t)
			s := y.serve(c)
			port, rdma := s.Port, ""
			if c.transport != "tcp" {
				port, rdma = s.RDMAPort, ",rdma="+c.transport
			}
			closed, err := site.FreePort()
			if err != nil {
				t.Fatal(err)
			}
			at := func(name string) string { return filepath.Join(y.dir, name) }
			for _, d := range []string{"data", "a place", "wrong", "away", "theirs"} {
				if err := os.Mkdir(at(d), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			text := "username=" + s.User + "\npassword=" + s.Password + "\n"
			if err := errors.Join(
				os.Chown(at("theirs"), nobody, nobody),
				os.WriteFile(at("cred"), []byte(text), 0o600),
				os.WriteFile(at("cred.wrong"), []byte("username="+s.User+"\npassword=wrong\n"), 0o600),
				os.WriteFile(at("cred.theirs"), []byte(text), 0o600),
				os.Chown(at("cred.theirs"), nobody, nobody),
				os.MkdirAll(filepath.Join(s.Share, "a part"), 0o755),
				os.WriteFile(filepath.Join(s.Share, "a part", "f"), content(2), 0o644),
			); err != nil {
				t.Fatal(err)
			}
			w := newWorld(y, strings.NewReplacer("DIR", y.dir, "PORT", port+rdma, "CLOSED", closed+rdma).Replace(`# as a machine has it
//127.0.0.1/share           DIR/data       fuse.smbd-rdma  credentials=DIR/cred,port=PORT,uid=65534,gid=65533,file_mode=0640,noperm,_netdev,noauto,nofail,x-systemd.automount,x-systemd.idle-timeout=1min,x-systemd.mount-timeout=30  0  0
//127.0.0.1/share/a\040part DIR/a\040place fuse.smbd-rdma  credentials=DIR/cred,port=PORT,ro,noexec,_netdev,nofail  0  0
//127.0.0.1/share           DIR/wrong      fuse.smbd-rdma  credentials=DIR/cred.wrong,port=PORT,_netdev,noauto  0  0
//127.0.0.1/share           DIR/away       fuse.smbd-rdma  credentials=DIR/cred,port=CLOSED,timeout=5,_netdev,noauto  0  0
//127.0.0.1/share           DIR/theirs     fuse.smbd-rdma  credentials=DIR/cred.theirs,port=PORT,user,noauto,_netdev  0  0
`))

			// mount -a mounts what is not noauto, and once; as the machine does when it starts.
			w.must(0, "mount", "-a")
			w.must(0, "mount", "-a")
			source, options := w.mounted(at("a place"))
			if source != `//127.0.0.1/share/a\040part` || !hasAll(options, "ro", "noexec", "nosuid", "nodev") {
				t.Errorf("the second line has mounted %s with %s", source, options)
			}
			if n := strings.Count(w.table(), "\n"); n != 1 {
				t.Errorf("mount -a has mounted\n%s\nwant one", w.table())
			}
			if got, err := os.ReadFile(w.path(at("a place/f"))); err != nil || string(got) != string(content(2)) {
				t.Errorf("reading: %d bytes, %v", len(got), err)
			}
			if err := os.WriteFile(w.path(at("a place/f")), nil, 0o644); !errors.Is(err, unix.EROFS) {
				t.Errorf("writing on ro: %v, want EROFS", err)
			}

			// By the directory alone, and by a table of another name.
			w.must(0, "mount", "-T", at("fstab"), at("data"))
			if source, options := w.mounted(at("data")); source != "//127.0.0.1/share" || !hasAll(options, "rw", "nosuid", "nodev") {
				t.Errorf("the first line has mounted %s with %s", source, options)
			}
			file := w.path(at("data/new"))
			if err := os.WriteFile(file, content(3), 0o644); err != nil {
				t.Error(err)
			}
			var st unix.Stat_t
			if err := unix.Stat(file, &st); err != nil || st.Uid != 65534 || st.Gid != 65533 {
				t.Errorf("owner %d and group %d (%v), want those of uid= and gid=", st.Uid, st.Gid, err)
			}
			if n := len(w.processes()); n != 2 {
				t.Errorf("%d processes in the background, want 2", n)
			}
			w.refused("unmount", "mount", "-o", "remount,ro", at("data"))
			w.refused("LOGON_FAILURE", "mount", at("wrong"))
			w.refused("refused", "mount", at("away"))
			w.refused("BAD_NETWORK_NAME", "mount", "-t", "fuse.smbd-rdma", "-o", "credentials="+at("cred")+",port="+port+rdma, "//127.0.0.1/nosuch", at("away"))
			w.refused("frobnicate", "mount", "-t", "fuse.smbd-rdma", "-o", "frobnicate,credentials="+at("cred")+",port="+port+rdma, "//127.0.0.1/share", at("away"))
			w.refused("no password", "env", "-u", "PASSWD", "mount", "-t", "fuse.smbd-rdma", "-o", "user="+s.User+",port="+port+rdma, "//127.0.0.1/share", at("away"))

			// What was written is with the server when umount has returned.
			w.must(0, "umount", at("data"))
			if got, err := os.ReadFile(filepath.Join(s.Share, "new")); err != nil || string(got) != string(content(3)) {
				t.Errorf("the server has %d bytes, %v; written were %d", len(got), err, len(content(3)))
			}
			w.must(0, "umount", at("a place"))
			w.gone()

			// Somebody else, by the table and by himself; root can't look into that.
			theirs := at("theirs")
			himself := []string{"/usr/local/sbin/smbd-rdma", "mount", "//127.0.0.1/share", theirs, "-o", "credentials=" + at("cred.theirs") + ",port=" + port + rdma}
			for _, c := range []struct{ mount, unmount []string }{
				{[]string{"mount", theirs}, []string{"umount", theirs}},
				{himself, []string{"umount", theirs}},
				{himself, []string{"fusermount3", "-u", theirs}},
			} {
				w.must(nobody, c.mount...)
				if _, options := w.mounted(theirs); !hasAll(options, "nosuid", "nodev", "user_id=65534") {
					t.Errorf("%s: mounted with %s", c.mount[0], options)
				}
				if got := w.must(nobody, "sh", "-c", `cd "$1" && echo theirs >"$2" && cat "$2" && rm "$2"`, "sh", theirs, "file"); got != "theirs\n" {
					t.Errorf("%s: %q", c.mount[0], got)
				}
				if _, err := os.Stat(w.path(at("theirs/a part"))); !errors.Is(err, syscall.EACCES) {
					t.Errorf("root in a user's mount: %v, want EACCES", err)
				}
				w.must(nobody, c.unmount...)
				w.gone()
			}

			// Without the package fuse3: a link that mount(8) finds by the type.
			w.must(0, "mount", "--bind", at("sbin"), "/sbin")
			w.must(0, "mount", "-t", "smbd-rdma", "-o", "credentials="+at("cred")+",port="+port+rdma+",_netdev,nofail,x-systemd.automount", "//127.0.0.1/share", at("data"))
			if got, err := os.ReadFile(w.path(at("data/new"))); err != nil || string(got) != string(content(3)) {
				t.Errorf("reading: %d bytes, %v", len(got), err)
			}
			w.refused("unmount", "mount", "-t", "smbd-rdma", "-o", "remount,ro", "//127.0.0.1/share", at("data"))
			w.must(0, "umount", at("data"))
			w.gone()
		})
	}
}

// hasAll is true of a list of options that has all of these.
func hasAll(list string, options ...string) bool {
	for _, o := range options {
		if !strings.Contains(","+list+",", ","+o+",") {
			return false
		}
	}
	return true
}
