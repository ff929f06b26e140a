//go:build peers

package peers

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// samba is a private smbd on a loopback port, with everything that it writes in a
// directory of its own.
type samba struct {
	dir  string // its files; dir/test is the share "test"
	addr string
	log  string
	end  func(syscall.Signal) // ends smbd, if it has not ended
}

const sambaUser, sambaPassword = "tester", "secret"

// startSamba runs smbd until the test ends. extra goes into [global]. It skips the
// test where there is no smbd or no right to run it.
func startSamba(t *testing.T, extra string) *samba {
	t.Helper()
	for _, tool := range []string{"smbd", "pdbedit"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs Samba: %v", err)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("smbd needs root")
	}
	account, err := user.Lookup("games")
	if err != nil {
		t.Skipf("needs an unprivileged account: %v", err)
	}
	uid, _ := strconv.Atoi(account.Uid)
	dir, err := os.MkdirTemp("", "samba-peer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chmod(dir, 0o755))
	for _, d := range []string{"private", "lock", "state", "cache", "run", "ncalrpc", "log", "test", "sealed"} {
		must(os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	must(os.Chmod(filepath.Join(dir, "private"), 0o700))
	for _, d := range []string{"test", "sealed"} {
		must(os.Chown(filepath.Join(dir, d), uid, -1))
	}
	must(os.WriteFile(filepath.Join(dir, "users.map"), []byte("games = "+sambaUser+` PEER\`+sambaUser+"\n"), 0o644))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	must(l.Close())
	conf := strings.NewReplacer("@DIR@", dir, "@PORT@", port, "@EXTRA@", extra).Replace(`[global]
    server role = standalone server
    workgroup = PEER
    netbios name = PEERSMBD
    disable netbios = yes
    smb ports = @PORT@
    interfaces = 127.0.0.1/8
    bind interfaces only = yes
    private dir = @DIR@/private
    lock directory = @DIR@/lock
    state directory = @DIR@/state
    cache directory = @DIR@/cache
    pid directory = @DIR@/run
    ncalrpc dir = @DIR@/ncalrpc
    usershare path =
    log file = @DIR@/log/smbd.log
    log level = 1
    load printers = no
    printing = bsd
    printcap name = /dev/null
    disable spoolss = yes
    passdb backend = tdbsam:@DIR@/private/passdb.tdb
    username map = @DIR@/users.map
    map to guest = bad user
    guest account = games
    obey pam restrictions = no
    server min protocol = SMB2_02
    ea support = yes
    store dos attributes = yes
    map archive = no
    @EXTRA@

[test]
    comment = a disk
    path = @DIR@/test
    read only = no
    guest ok = yes

[sealed]
    path = @DIR@/sealed
    read only = no
    smb encrypt = required
`)
	file := filepath.Join(dir, "smb.conf")
	must(os.WriteFile(file, []byte(conf), 0o644))
	add := exec.Command("pdbedit", "-s", file, "-a", "-t", "-u", "games")
	add.Stdin = strings.NewReader(sambaPassword + "\n" + sambaPassword + "\n")
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("pdbedit: %v\n%s", err, out)
	}
	s := &samba{dir: dir, addr: addr, log: filepath.Join(dir, "log", "smbd.log")}
	s.run(t)
	return s
}

// run starts smbd and waits until it listens.
func (s *samba) run(t *testing.T) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command("smbd", "--foreground", "--no-process-group", "-s", filepath.Join(s.dir, "smb.conf"))
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true} // smbd ends its whole group with it
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with smbd; end waits
	s.end = func(signal syscall.Signal) {
		select {
		case err := <-ended:
			ended <- err
			return // it was ended before: its number may be another's
		default:
		}
		who := cmd.Process.Pid
		if signal == syscall.SIGKILL {
			who = -who // those that serve connections too
		}
		_ = syscall.Kill(who, signal)
		<-ended
		ended <- nil
		// smbd leaves the RPC server that it has started, which has a file with its
		// process id beside smbd's.
		files, _ := filepath.Glob(filepath.Join(s.dir, "run", "*.pid"))
		for _, f := range files {
			text, _ := os.ReadFile(f)
			if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid != cmd.Process.Pid && pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGTERM)
			}
			os.Remove(f)
		}
	}
	t.Cleanup(func() { s.end(syscall.SIGTERM) })
	// smbd says nothing when it listens, so try until it does.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := net.DialTimeout("tcp", s.addr, time.Second)
		if err == nil {
			c.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("smbd ended: %v\n%s", err, out.String())
		case <-ctx.Done():
			t.Fatal(fmt.Errorf("smbd does not listen: %w", err))
		case <-tick.C:
		}
	}
}
