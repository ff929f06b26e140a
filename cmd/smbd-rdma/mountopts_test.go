package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/client/fuse"
)

// The options of mount.cifs(8) mean what they mean there.
func TestMountOptions(t *testing.T) {
	for _, c := range []struct {
		list string
		is   func(*mountOptions) bool
	}{
		{"user=OFFICE/ann%se%cret", func(o *mountOptions) bool {
			return o.User == "ann" && o.Domain == "OFFICE" && o.Password == "se%cret" && o.HasPassword
		}},
		{`username=OFFICE\ann,pass=`, func(o *mountOptions) bool { return o.User == "ann" && o.Domain == "OFFICE" && o.HasPassword }},
		{"pass=a=b", func(o *mountOptions) bool { return o.Password == "a=b" }},
		{"user,defaults,_netdev,nofail,x-systemd.automount", func(o *mountOptions) bool { return o.User == "" && len(o.Ignored) == 5 }},
		{"rdma", func(o *mountOptions) bool { return o.Transport == "rdma" }},
		{"rdma=iwarp", func(o *mountOptions) bool { return o.Transport == "iwarp" }},
		{"uid=7,noforceuid,gid=8", func(o *mountOptions) bool {
			return o.FS.UID == 7 && !o.FS.ForceUID && o.FS.GID == 8 && o.FS.ForceGID
		}},
		{"file_mode=0640,dir_mode=750", func(o *mountOptions) bool { return o.FS.FileMode == 0o640 && o.FS.DirMode == 0o750 }},
		{"vers=3.1.1", func(o *mountOptions) bool { return o.Min == client.SMB311 && o.Max == client.SMB311 }},
		{"vers=3", func(o *mountOptions) bool { return o.Min == client.SMB300 && o.Max == client.SMB311 }},
		{"sec=krb5i,cruid=5", func(o *mountOptions) bool {
			return o.Kerberos && o.Sign && o.KerberosCache == "/tmp/krb5cc_5" && o.KerberosUID == 5
		}},
		{"rsize=65536,wsize=131072", func(o *mountOptions) bool { return o.FS.MaxIO == 65536 }},
		{"cache=none", func(o *mountOptions) bool { return o.FS.Cache == fuse.CacheNone }},
		{"actimeo=0", func(o *mountOptions) bool { return o.FS.AttrTimeout < 0 }},
		{"actimeo=3,timeout=9", func(o *mountOptions) bool { return o.FS.AttrTimeout == 3*time.Second && o.Timeout == 9*time.Second }},
		{"ro,nobrl,nolease,nostrictsync,seal", func(o *mountOptions) bool {
			return o.FS.ReadOnly && o.FS.LocalLocks && o.FS.NoLeases && o.FS.NoSync && o.Seal
		}},
	} {
		if o, err := parseMountOptions([]string{c.list}); err != nil || !c.is(o) {
			t.Errorf("%s: %+v, %v", c.list, o, err)
		}
	}
}

// What is not understood, or would protect less than it says, is refused, and a
// password is in no message.
func TestMountOptionsThatAreRefused(t *testing.T) {
	for _, list := range []string{
		"bogus", "passwd=secret", "port=0", "port=secret1x", "ro=secret", "uid", "file_mode=9", "vers=1.0", "sec=krb5p", "cache=fast", "rdma=secret",
		"rw,user_id=0,remount", "multiuser", "cifsacl", "mfsymlinks", "rsize=1", "iocharset=latin1", "timeout=-1",
	} {
		_, err := parseMountOptions([]string{"pass=secret", list})
		if err == nil {
			t.Errorf("%s is accepted", list)
		} else if strings.HasPrefix(list, "pass") && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the message has the password: %v", list, err)
		}
	}
}

// A cache of tickets that somebody else has put there is not taken for the user's.
func TestWhoseTicketsTheyAre(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "krb5cc"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink("krb5cc", link)); err != nil {
		t.Fatal(err)
	}
	me := uint32(os.Geteuid())
	for _, c := range []struct {
		cache string
		uid   uint32
		want  error
	}{
		{file, me, nil},
		{file, me + 1, fs.ErrPermission},
		{link, me, fs.ErrPermission},
		{dir, me, fs.ErrPermission},
		{file + "0", me, fs.ErrNotExist},
	} {
		if err := checkOwner(c.cache, c.uid); !errors.Is(err, c.want) {
			t.Errorf("%s of user %d: %v, want %v", c.cache, c.uid, err, c.want)
		}
	}
}

// mount(8) and mount.fuse3 call the program in their own ways.
func TestHelperArgs(t *testing.T) {
	for _, c := range []struct{ name, args, want string }{
		{"smbd-rdma", "ls //s/d", "ls //s/d"},
		{"smbd-rdma", "//s/d /mnt -o ro", "mount //s/d /mnt -o ro"},
		{"/sbin/mount.smbd-rdma", "//s/d /mnt -sv -o ro,user=a", "mount //s/d /mnt --verbose -o ro,user=a"},
		{"/sbin/mount.fuse.smbd-rdma", "//s/d /mnt -t fuse.smbd-rdma -n -o ro", "mount //s/d /mnt -o ro"},
		{"smbd-rdma", "//s/d /mnt -o rw,user=a,dev,suid", "mount //s/d /mnt -o rw,user=a"}, // of mount.fuse3's own
		{"smbd-rdma", "//s/d /mnt -o rw,nodev,user=a,suid", "mount //s/d /mnt -o rw,nodev,user=a"},
		{"smbd-rdma", "//s/d /mnt -o nosuid,user=a,dev", "mount //s/d /mnt -o nosuid,user=a"},
		{"smbd-rdma", "//s/d /mnt -o user=a,suid", "mount //s/d /mnt -o user=a,suid"},
		{"smbd-rdma", "mount //s/d /mnt -o user=a,dev,suid", "mount //s/d /mnt -o user=a,dev,suid"},
		{"/sbin/mount.smbd-rdma", "//s/d /mnt -f", "mount //s/d /mnt --fake"},
	} {
		if got := helperArgs(c.name, strings.Fields(c.args)); !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%s %s: %q, want %q", c.name, c.args, got, c.want)
		}
	}
}
