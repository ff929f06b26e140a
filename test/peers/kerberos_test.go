//go:build peers

package peers

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/client/kerberos"
)

const (
	peerRealm = "PEER.TEST"
	peerHost  = "nas.peer.test"
)

// realm is a private Kerberos realm: MIT's key distribution centre on a loopback port.
type realm struct {
	dir  string
	conf string // krb5.conf
	env  []string
}

// startRealm runs it until the test ends, with the user "tester" and the service
// cifs/nas.peer.test. It skips the test where there is none.
func startRealm(t *testing.T, enctypes string) *realm {
	t.Helper()
	for _, tool := range []string{"krb5kdc", "kdb5_util", "kadmin.local", "kinit"} {
		if _, err := exec.LookPath(tool); err != nil {
			if _, err := os.Stat("/usr/sbin/" + tool); err != nil {
				t.Skipf("needs krb5-kdc, krb5-admin-server and krb5-user of Debian: no %s", tool)
			}
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	r := &realm{dir: t.TempDir()}
	put := func(name, text string) string {
		t.Helper()
		file := filepath.Join(r.dir, name)
		text = strings.NewReplacer("@DIR@", r.dir, "@ADDR@", addr, "@REALM@", peerRealm, "@TYPES@", enctypes).Replace(text)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	r.conf = put("krb5.conf", `[libdefaults]
 default_realm = @REALM@
 dns_lookup_kdc = false
 dns_lookup_realm = false
 dns_canonicalize_hostname = false
 rdns = false
 udp_preference_limit = 1
 default_tkt_enctypes = @TYPES@
 default_tgs_enctypes = @TYPES@
 permitted_enctypes = @TYPES@ aes256-cts-hmac-sha1-96
[realms]
 @REALM@ = {
  kdc = @ADDR@
 }
[domain_realm]
 .peer.test = @REALM@
 peer.test = @REALM@
`)
	kdc := put("kdc.conf", `[kdcdefaults]
 kdc_listen = @ADDR@
 kdc_tcp_listen = @ADDR@
[realms]
 @REALM@ = {
  database_name = @DIR@/principal
  key_stash_file = @DIR@/stash
  acl_file = @DIR@/acl
  supported_enctypes = @TYPES@:normal
 }
`)
	r.env = append(os.Environ(), "KRB5_CONFIG="+r.conf, "KRB5_KDC_PROFILE="+kdc, "KRB5CCNAME=FILE:"+r.dir+"/cache")
	r.run(t, "", "kdb5_util", "create", "-s", "-P", "master", "-r", peerRealm)
	r.run(t, "", "kadmin.local", "addprinc", "-pw", sambaPassword, "+requires_preauth", sambaUser)
	// smbd without a domain wants none of the authorization data of Windows.
	r.run(t, "", "kadmin.local", "addprinc", "-randkey", "+no_auth_data_required", "cifs/"+peerHost)
	r.run(t, "", "kadmin.local", "ktadd", "-k", r.dir+"/service.keytab", "cifs/"+peerHost)
	cmd := exec.Command("/usr/sbin/krb5kdc", "-n")
	cmd.Env = r.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	for range 100 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return r
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("krb5kdc does not listen")
	return nil
}

func (r *realm) run(t *testing.T, in, name string, args ...string) {
	t.Helper()
	if path, err := exec.LookPath(name); err != nil || path == "" {
		name = "/usr/sbin/" + name
	}
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdin = r.env, strings.NewReader(in)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// Samba's smbd takes the tickets that a real centre gives to a password, a keytab and
// kinit's cache, in every dialect and however the session is protected.
func TestKerberosSamba(t *testing.T) {
	for _, types := range []string{"aes256-cts-hmac-sha1-96", "aes128-cts-hmac-sha256-128", "aes256-cts-hmac-sha384-192"} {
		t.Run(types, func(t *testing.T) {
			r := startRealm(t, types)
			t.Setenv("KRB5_CONFIG", r.conf) // for smbd
			s := startSamba(t, fmt.Sprintf("realm = %s\n    kerberos method = dedicated keytab\n    dedicated keytab file = FILE:%s/service.keytab\n", peerRealm, r.dir))
			o := kerberos.Options{ConfigFile: r.conf}
			r.run(t, sambaPassword+"\n", "kinit", sambaUser)
			r.run(t, "", "kadmin.local", "ktadd", "-norandkey", "-k", r.dir+"/user.keytab", sambaUser)
			for _, c := range []struct {
				name string
				from func() (*kerberos.Credentials, error)
			}{
				{"password", func() (*kerberos.Credentials, error) { return kerberos.FromPassword(sambaUser, sambaPassword, o) }},
				{"keytab", func() (*kerberos.Credentials, error) {
					return kerberos.FromKeytab(sambaUser+"@"+peerRealm, r.dir+"/user.keytab", o)
				}},
				{"cache", func() (*kerberos.Credentials, error) { return kerberos.FromCache("FILE:"+r.dir+"/cache", o) }},
			} {
				for _, cfg := range []client.Config{
					{Signing: client.SigningRequired},
					{Encryption: client.EncryptRequired},
					{Encryption: client.EncryptRequired, Ciphers: []client.Cipher{client.AES256GCM}},
					{Signing: client.SigningRequired, MaxDialect: client.SMB302},
					{Signing: client.SigningRequired, MaxDialect: client.SMB210},
				} {
					creds, err := c.from()
					if err != nil {
						t.Fatal(c.name, err)
					}
					cfg.Auth, cfg.ServerName = creds, peerHost
					sess, err := client.Dial(t.Context(), dialer(t), s.addr, cfg)
					if err != nil {
						log, _ := os.ReadFile(s.log)
						t.Fatalf("%s: %v\n%s", c.name, err, log)
					}
					if i := sess.Info(); i.Guest || i.Anonymous {
						t.Errorf("%s: %+v", c.name, i)
					}
					sh, err := sess.Mount(t.Context(), "test")
					if err == nil {
						err = sh.WriteFile(t.Context(), "file", random(1, 100_000), 0o666)
					}
					if err != nil {
						t.Errorf("%s: %v", c.name, err)
					}
					sess.Close()
					creds.Close()
				}
			}
			mountWithTicket(t, r, s)
			wrong, err := kerberos.FromPassword(sambaUser, "wrong", o)
			if err != nil {
				t.Fatal(err)
			}
			defer wrong.Close()
			if _, err := client.Dial(t.Context(), dialer(t), s.addr, client.Config{Auth: wrong, ServerName: peerHost}); err == nil {
				t.Error("a wrong password logs on")
			}
		})
	}
}

// mountWithTicket mounts the share with the ticket that kinit has got, where the command
// and FUSE are there.
func mountWithTicket(t *testing.T, r *realm, s *samba) {
	bin := os.Getenv("SMBD_RDMA_BIN")
	if _, err := os.Stat("/dev/fuse"); err != nil || bin == "" {
		t.Log("no mount: it needs SMBD_RDMA_BIN and /dev/fuse")
		return
	}
	_, port, _ := net.SplitHostPort(s.addr)
	dir := t.TempDir()
	cmd := exec.Command(bin, "mount", "//"+peerHost+"/test", dir, "-o", "sec=krb5i,ip=127.0.0.1,port="+port, "-f")
	cmd.Env = r.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n') // once it can be used, or the end
	if strings.HasPrefix(line, "mounted ") {
		if err := os.WriteFile(filepath.Join(dir, "mounted"), []byte("x"), 0o666); err != nil {
			t.Error(err)
		}
	} else {
		t.Errorf("mount says %q", line)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("mount: %v\n%s", err, said.String())
	}
	if _, err := os.Stat(filepath.Join(s.dir, "test", "mounted")); err != nil {
		t.Error(err)
	}
}
