//go:build peers

package peers

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// What a client has kept back under its lease on our server is what programs of others
// read: it is written before they are answered. What they write then is what it reads,
// which it may cache no more.
func TestServerPeersSeeWhatIsCached(t *testing.T) {
	dir := t.TempDir()
	p := serveTCP(t, dir)
	run := func(t *testing.T, name string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	smbclient := func(t *testing.T, command string) {
		t.Helper()
		run(t, "smbclient", "//127.0.0.1/data", "-p", p, "-U", "tester%secret", "-c", command)
	}
	rclone := func(t *testing.T, from, to string) {
		t.Helper()
		obscured, err := exec.Command("rclone", "obscure", "secret").Output()
		if err != nil {
			t.Fatal(err)
		}
		remote := ":smb,host=127.0.0.1,port=" + p + ",user=tester,pass='" + strings.TrimSpace(string(obscured)) + "':data/"
		run(t, "rclone", "--config", os.DevNull, "--retries", "1", "copyto",
			strings.Replace(from, "data:", remote, 1), strings.Replace(to, "data:", remote, 1))
	}
	for _, c := range []struct {
		peer     string
		get, put func(t *testing.T, name, local string)
	}{
		{"smbclient",
			func(t *testing.T, name, local string) { smbclient(t, "get "+name+" "+local) },
			func(t *testing.T, name, local string) { smbclient(t, "put "+local+" "+name) }},
		{"rclone",
			func(t *testing.T, name, local string) { rclone(t, "data:"+name, local) },
			func(t *testing.T, name, local string) { rclone(t, local, "data:"+name) }},
	} {
		t.Run(c.peer, func(t *testing.T) {
			if _, err := exec.LookPath(c.peer); err != nil {
				t.Skipf("%s is not installed", c.peer)
			}
			ctx := t.Context()
			s, err := client.Dial(ctx, dialer(t), net.JoinHostPort("127.0.0.1", p), client.Config{User: "tester", Password: "secret"})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			sh, err := s.Mount(ctx, "data")
			if err != nil {
				t.Fatal(err)
			}
			const all = client.LeaseRead | client.LeaseWrite | client.LeaseHandle
			kept, breaks := "kept back for "+c.peer, make(chan client.LeaseBreak, 8)
			var f *client.File
			l := sh.NewLease(client.LeaseOptions{Want: all, OnBreak: func(ctx context.Context, b client.LeaseBreak) client.LeaseState {
				if b.From&^b.To&client.LeaseWrite != 0 {
					if _, err := f.WriteAtContext(ctx, []byte(kept), 0); err != nil {
						t.Error(err)
					}
				}
				breaks <- b
				return b.To
			}})
			name, local := "leased-by-"+c.peer, filepath.Join(t.TempDir(), "local")
			f, err = sh.CreateFile(ctx, name, client.CreateOptions{
				Access: client.AccessGenericRead | client.AccessGenericWrite, Disposition: client.OpenIf, Lease: l})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if l.State() != all {
				t.Fatalf("the lease is %v", l.State())
			}
			// As long as the file is to be, so that a peer that looks first asks for all of it.
			if err := f.Truncate(ctx, int64(len(kept))); err != nil {
				t.Fatal(err)
			}
			c.get(t, name, local)
			if b := <-breaks; b.From != all || b.To&client.LeaseWrite != 0 || b.Lost {
				t.Errorf("broken from %v to %v", b.From, b.To)
			}
			if got, err := os.ReadFile(local); err != nil || string(got) != kept {
				t.Errorf("%s reads %q, %v; want %q", c.peer, got, err, kept)
			}
			written := "written by " + c.peer
			if err := os.WriteFile(local, []byte(written), 0o644); err != nil {
				t.Fatal(err)
			}
			c.put(t, name, local)
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != written {
				t.Errorf("the file has %q, %v; want %q", got, err, written)
			}
			if l.State()&client.LeaseRead != 0 {
				if b := <-breaks; b.To&client.LeaseRead != 0 {
					t.Errorf("the client may still cache what %s has overwritten: %v", c.peer, b.To)
				}
			}
			b := make([]byte, len(written))
			if _, err := f.ReadAt(b, 0); err != nil || string(b) != written {
				t.Errorf("the client reads %q, %v; want %q", b, err, written)
			}
		})
	}
}
