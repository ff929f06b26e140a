//go:build peers

package peers

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// smbclientOn serves a directory in this process and returns a function that
// runs smbclient against it.
func smbclientOn(t *testing.T, dir string) func(user string, args ...string) (string, error) {
	t.Helper()
	bin, err := exec.LookPath("smbclient")
	if err != nil {
		t.Skip("smbclient is not installed")
	}
	port := serveTCP(t, dir)
	return func(user string, args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), bin, append([]string{"-p", port, "-U", user}, args...)...).CombinedOutput()
		return string(out), err
	}
}

// serveTCP serves a directory as the share data in this process, for tester with the
// password secret, and returns the port.
func serveTCP(t *testing.T, dir string) (port string) {
	t.Helper()
	users, err := server.ParseUsers("tester%secret")
	if err != nil {
		t.Fatal(err)
	}
	return serveUsers(t, dir, users)
}

// serveUsers is serveTCP for these users.
func serveUsers(t *testing.T, dir string, users server.Users) (port string) {
	t.Helper()
	fsys, err := posix.New(dir, posix.Config{})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server.New(server.Config{Shares: []server.Share{{Name: "data", FS: fsys, Comment: "The data"}}, Users: users})
	if err != nil {
		t.Fatal(err)
	}
	l, err := tcp.Listen(t.Context(), "127.0.0.1:0", tcp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-served; !errors.Is(err, server.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
		fsys.Close()
	})
	if _, port, err = net.SplitHostPort(l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	return port
}

// smbclient in every dialect, with every protection that the dialect has.
func TestServerSmbclientDialects(t *testing.T) {
	content := bytes.Repeat([]byte("some octets to carry there and back. "), 100_000)
	for _, d := range []string{"SMB2_02", "SMB2_10", "SMB3_00", "SMB3_02", "SMB3_11", "NT1"} {
		for _, prot := range []string{"sign", "encrypt"} {
			if prot == "encrypt" && !strings.HasPrefix(d, "SMB3") {
				continue
			}
			t.Run(d+" "+prot, func(t *testing.T) {
				dir, local := t.TempDir(), t.TempDir()
				run := smbclientOn(t, dir)
				if err := os.WriteFile(filepath.Join(local, "f"), content, 0o644); err != nil {
					t.Fatal(err)
				}
				args := []string{"--client-protection=" + prot, "--option=client min protocol=" + d}
				if d != "NT1" { // which only begins as SMB1: the multi-protocol negotiate
					args = append(args, "-m", d)
				}
				out, err := run("tester%secret", append(args, "//127.0.0.1/data", "-c",
					"lcd "+local+"; mkdir d; put f d/f; get d/f back; rename d/f g; del g; rmdir d; put f kept; ls")...)
				if err != nil || !strings.Contains(out, "kept") {
					t.Fatalf("%v: %s", err, out)
				}
				for _, name := range []string{filepath.Join(local, "back"), filepath.Join(dir, "kept")} {
					if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, content) {
						t.Errorf("%s: %d octets, %v", filepath.Base(name), len(got), err)
					}
				}
			})
		}
	}
}

func TestServerSmbclientRefusals(t *testing.T) {
	run := smbclientOn(t, t.TempDir())
	for _, c := range []struct{ user, share, want string }{
		{"tester%wrong", "data", "NT_STATUS_LOGON_FAILURE"},
		{"nobody%secret", "data", "NT_STATUS_LOGON_FAILURE"},
		{"%", "data", "NT_STATUS_LOGON_FAILURE"},
		{"tester%secret", "other", "NT_STATUS_BAD_NETWORK_NAME"},
	} {
		out, err := run(c.user, "//127.0.0.1/"+c.share, "-c", "ls")
		if err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s on %s: %v, %q, want %s", c.user, c.share, err, out, c.want)
		}
	}
	out, err := run("tester%secret", "-L", "127.0.0.1")
	if err != nil || !strings.Contains(out, "The data") || !strings.Contains(out, "IPC$") {
		t.Errorf("listing of shares: %v, %s", err, out)
	}
}
