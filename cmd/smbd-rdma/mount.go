package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/client/fuse"
	"github.com/smbd-rdma/smbd-rdma/client/kerberos"
)

// mountHelpers are the names by which mount(8) calls this binary.
var mountHelpers = []string{"mount.fuse.smbd-rdma", "mount.smbd-rdma"}

// helperArgs turns the command line of a mount helper into one of ours, and leaves
// others as they are: "SOURCE DIR [-sfnv] [-o LIST]" from mount(8), which knows a
// helper by its name, and "SOURCE DIR -o LIST" from mount.fuse3, which asks for dev and
// suid at the end of the list where nobody has asked for the opposite: mount(8) hands on
// neither of them, so that nobody has asked for them either.
func helperArgs(name string, args []string) []string {
	helper := false
	for _, h := range mountHelpers {
		helper = helper || filepath.Base(name) == h
	}
	if !helper && (len(args) == 0 || !isTarget(args[0])) {
		return args
	}
	out := []string{"mount"}
	if i := slices.Index(args, "-o"); !helper && i >= 0 && i+1 < len(args) {
		args = slices.Clone(args)
		args[i+1] = withoutDefaults(args[i+1])
	}
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case !helper || !strings.HasPrefix(a, "-"):
			out = append(out, a)
		case a == "-o" || a == "-t":
			if i++; i < len(args) && a == "-o" {
				out = append(out, a, args[i])
			}
		default: // -s sloppy, -n no mtab, -v verbose, -f fake
			if strings.Contains(a, "f") {
				out = append(out, "--fake")
			}
			if strings.Contains(a, "v") {
				out = append(out, "--verbose")
			}
		}
	}
	return out
}

// withoutDefaults takes away what mount.fuse3 adds to a list of options.
func withoutDefaults(list string) string {
	has := func(o string) bool { return slices.Contains(strings.Split(list, ","), o) }
	switch {
	case has("nodev") && has("nosuid"):
		return list
	case has("nodev"):
		return strings.TrimSuffix(list, ",suid")
	case has("nosuid"):
		return strings.TrimSuffix(list, ",dev")
	}
	return strings.TrimSuffix(list, ",dev,suid")
}

func (a *app) mountCommand() *cobra.Command {
	var list []string
	var foreground, verbose, fake, child, trace bool
	c := &cobra.Command{
		Use:   "mount //HOST/SHARE[/PATH] DIR [-o OPTION[,OPTION]...]",
		Short: "mount a share as a local directory, through FUSE",
		Long: `mount a share as a local directory, through FUSE

The options of -o are those of mount.cifs: user=, pass=, credentials=FILE, domain=,
port=, rdma[=iwarp|verbs|auto], ro, uid=, gid=, file_mode=, dir_mode=, vers=, sec=, sign,
seal, cache=strict|none|loose, actimeo=, rsize=, wsize=, nobrl, nolease, noperm,
nostrictsync, soft, hard, multichannel, max_channels=, posix, guest, writeback, ...
The password is taken from pass=, the file, PASSWD in the environment or the terminal.
Unmount with umount or fusermount3 -u, or end the process with SIGTERM.`,
		Example: `  smbd-rdma mount //server/data /mnt -o user=alice,rdma
  mount -t fuse.smbd-rdma //server/data /mnt -o credentials=/etc/smbd-rdma.cred`,
		Args: checkArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := parseShareTarget(args[0])
			if err != nil {
				return err
			}
			var o *mountOptions
			if child {
				if o, err = readMountOptions(); err != nil {
					return err
				}
			} else {
				if o, err = a.completeOptions(list); err != nil {
					return err
				}
			}
			if verbose && len(o.Ignored) > 0 {
				fmt.Fprintf(a.stderr, "options of no effect: %s\n", strings.Join(o.Ignored, ", "))
			}
			o.FS.Trace = trace
			dir, err := mountPoint(args[1])
			if err != nil || fake {
				return err
			}
			if foreground || trace || child {
				return a.mount(cmd.Context(), t, dir, o, child)
			}
			return a.mountInBackground(args[0], dir, o)
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&list, "options", "o", nil, "options, separated by commas")
	f.BoolVarP(&foreground, "foreground", "f", false, "stay in the foreground until unmounted")
	f.BoolVarP(&verbose, "verbose", "v", false, "say which options have no effect")
	f.BoolVar(&trace, "trace-fuse", false, "log each request of the kernel's; stays in the foreground")
	f.BoolVar(&fake, "fake", false, "check options and directory only")
	f.BoolVar(&child, "child", false, "")
	_ = f.MarkHidden("child") // there is such a flag
	_ = f.MarkHidden("fake")
	return c
}

// mountPoint checks that there is a directory to mount on.
func mountPoint(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	st, err := os.Stat(dir)
	if errors.Is(err, syscall.ENOTCONN) {
		return "", fmt.Errorf("%s: a mount there has lost its process; unmount it first: fusermount3 -u %s", dir, dir)
	}
	if err != nil {
		return "", err
	}
	if !st.IsDir() {
		return "", fmt.Errorf("%s: %w", dir, syscall.ENOTDIR)
	}
	return dir, nil
}

// completeOptions parses -o and gets what is missing from a file, the environment or
// the terminal.
func (a *app) completeOptions(list []string) (*mountOptions, error) {
	o, err := parseMountOptions(list)
	if err != nil {
		return nil, err
	}
	if o.Credentials != "" {
		u, p, d, err := readCredentials(o.Credentials)
		if err != nil {
			return nil, err
		}
		o.User, o.Password, o.HasPassword = u, p, true
		o.Domain = cmp.Or(d, o.Domain)
	}
	if o.Anonymous {
		o.User, o.Password, o.HasPassword = "", "", true
		return o, nil
	}
	if o.Kerberos {
		o.User, o.Password, o.HasPassword = "", "", true
		return o, nil
	}
	if o.User == "" { // as mount.cifs
		o.User = os.Getenv("USER")
	}
	if o.User == "" && !o.Guest {
		return nil, usagef("no user: use -o user=NAME, credentials=FILE, guest or sec=none")
	}
	if !o.HasPassword && !o.Guest {
		if o.Password, err = a.askPassword(o.User, "-o credentials=FILE, PASSWD in the environment, or -o guest"); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// Of the background process: where it reads its options, and where it says that the
// mount works.
const (
	optionsFD = 3
	readyFD   = 4
)

// readMountOptions takes over what the foreground process has found out.
func readMountOptions() (*mountOptions, error) {
	f := os.NewFile(optionsFD, "options")
	if f == nil {
		return nil, usagef("--child is for this program's own use")
	}
	defer f.Close()
	o := new(mountOptions)
	if err := json.NewDecoder(f).Decode(o); err != nil {
		return nil, usagef("--child is for this program's own use: %v", err)
	}
	return o, nil
}

// mountInBackground starts this program again, waits until the mount can be used or
// has failed, and leaves it running.
func (a *app) mountInBackground(source, dir string, o *mountOptions) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	in, inW, err := os.Pipe()
	if err != nil {
		return err
	}
	ready, readyW, err := os.Pipe()
	if err != nil {
		return errors.Join(err, in.Close(), inW.Close())
	}
	defer ready.Close()
	args := []string{"mount", source, dir, "--child"}
	if a.levelChosen {
		args = append(args, "--log-level", a.logLevel)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = withoutPassword(os.Environ())
	cmd.Dir = "/" // so that no file system is kept busy
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{in, readyW}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// What a script has open, a lock perhaps, is not to stay so as long as the mount does.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) // before Linux 5.11 it does
	err = cmd.Start()
	err = errors.Join(err, in.Close(), readyW.Close())
	if err != nil {
		return errors.Join(err, inW.Close())
	}
	_, werr := inW.Write(data) // less than a pipe holds, or read at once
	if err := errors.Join(werr, inW.Close()); err != nil {
		return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	said, err := io.ReadAll(ready)
	if err == nil && len(said) > 0 {
		return cmd.Process.Release()
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exitCode(exit.ExitCode()) // it has said why
	}
	return fmt.Errorf("the process of the mount has ended: %w", cmp.Or(err, io.ErrUnexpectedEOF))
}

func withoutPassword(env []string) []string {
	var out []string
	for _, e := range env {
		if !strings.HasPrefix(e, "PASSWD=") {
			out = append(out, e)
		}
	}
	return out
}

// mount mounts, and returns when it is unmounted.
func (a *app) mount(ctx context.Context, t target, dir string, o *mountOptions, background bool) error {
	sh, err := a.mountShare(ctx, t, o)
	if err != nil {
		return err
	}
	s := sh.Session()
	cfg := o.FS
	cfg.Source = "//" + t.host + "/" + t.share
	cfg.Root = strings.Trim(o.Prefix+"/"+t.path, "/")
	if cfg.Root != "" {
		cfg.Source += "/" + cfg.Root
	}
	cfg.Logger = a.log
	m, err := fuse.New(ctx, sh, dir, cfg)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	if background {
		a.goSilent()
	} else {
		fmt.Fprintf(a.stdout, "mounted %s on %s\n", cfg.Source, dir)
	}
	select {
	case <-m.Done():
	case <-ctx.Done():
		if err := m.Unmount(); errors.Is(err, syscall.EBUSY) {
			fmt.Fprintf(a.stderr, "%s is in use: it is unmounted, and this process ends when it is not used any more\n", dir)
			if err := m.Detach(); err != nil {
				return errors.Join(err, s.Close())
			}
		} else if err != nil {
			return errors.Join(err, s.Close())
		}
		m.Wait()
	}
	bye, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	if err := s.Logoff(bye); err != nil { // all is written by now
		a.log.Debug("log off", "err", err)
	}
	return nil
}

// mountShare connects to the share as the options say.
func (a *app) mountShare(ctx context.Context, t target, o *mountOptions) (*client.Share, error) {
	a.conn = connFlags{
		port: o.Port, transport: o.Transport, maxChannels: o.MaxChannels, sign: "if-required",
	}
	cfg := client.Config{
		User: o.User, Password: o.Password, Domain: o.Domain, ServerName: cmp.Or(o.ServerName, t.host),
		MinDialect: o.Min, MaxDialect: o.Max, MaxCredits: o.MaxCredits, Timeout: o.Timeout, Logger: a.log,
		// A program that is killed does not wait for a server that has its memory.
		CancelGrace: 300 * time.Millisecond,
	}
	if o.Kerberos {
		if o.KerberosCache != "" {
			if err := checkOwner(o.KerberosCache, o.KerberosUID); err != nil {
				return nil, err
			}
		}
		creds, err := kerberos.FromCache(o.KerberosCache, kerberos.Options{})
		if err != nil {
			return nil, err
		}
		cfg.Auth = creds // read anew for every connection; nothing to be closed but its keys
	}
	cfg.Reconnect = client.ReconnectConfig{Enabled: true, Reopen: client.ReopenSame, OnEvent: func(e client.ReconnectEvent) {
		if !e.Up {
			a.log.Warn("the connection is lost; trying to connect again", "server", t.host, "err", e.Err)
			return
		}
		a.log.Warn("connected again", "server", t.host, "after", e.Downtime.Round(time.Millisecond),
			"opens_claimed", e.Reclaimed, "opened_again", e.Reopened, "opens_lost", e.Stale)
	}}
	switch {
	case o.POSIX:
		cfg.POSIX = client.POSIXRequired
	case !o.NoPOSIX:
		cfg.POSIX = client.POSIXIfOffered
	}
	if o.Sign {
		cfg.Signing = client.SigningRequired
	}
	if o.Seal {
		cfg.Encryption = client.EncryptRequired
	}
	s, err := a.dialAs(ctx, cmp.Or(o.Address, t.host), cfg)
	if err != nil {
		return nil, err
	}
	sh, err := s.Mount(ctx, t.share)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return sh, nil
}

// goSilent is what a background process does once its mount works: it tells who
// waits, lets go of the terminal, and logs to the system's log from then on.
func (a *app) goSilent() {
	if w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_WARNING, "smbd-rdma mount"); err == nil {
		a.stderr = w
		*a.log = *slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: &a.level}))
	} else {
		a.stderr = io.Discard
		*a.log = *slog.New(slog.DiscardHandler)
	}
	if null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0); err == nil {
		_ = syscall.Dup3(int(null.Fd()), 2, 0) // what the runtime prints has nowhere to go
		null.Close()
	}
	ready := os.NewFile(readyFD, "ready")
	_, _ = ready.WriteString("mounted\n") // who has gone does not need to know
	ready.Close()
}
