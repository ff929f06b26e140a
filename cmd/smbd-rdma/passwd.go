package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/smbd-rdma/smbd-rdma/internal/smbconf"
	"github.com/smbd-rdma/smbd-rdma/internal/smbpasswd"
	"github.com/smbd-rdma/smbd-rdma/server"
)

// passwdFlags are the flags of passwd, which are those of smbpasswd(8).
type passwdFlags struct {
	config, file                     string
	add, disable, enable, del, nopwd bool
	stdin                            bool
}

func (a *app) passwdCommand() *cobra.Command {
	var f passwdFlags
	c := &cobra.Command{
		Use:   "passwd [-a|-d|-e|-x|-n] USER",
		Short: "change the users who may log on and their passwords",
		Long: `Changes the file of users that the configuration names ("passdb backend", "smb
passwd file"), in Samba's smbpasswd format: sets the password of a user, which it
asks for twice, or with -s reads from standard input, two lines. A running server
sees the change at the next logon; sessions that are there stay.`,
		Example: `  smbd-rdma passwd -a alice
  smbd-rdma passwd -c /etc/smbd-rdma/smb.conf -d bob`,
		Args: checkArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return a.passwd(cmd.Context(), args[0], f) },
	}
	fs := c.Flags()
	fs.StringVarP(&f.config, "config", "c", "", "configuration file (default "+defaultConfig+", if it is there)")
	fs.StringVar(&f.file, "file", "", "the file of users, instead of the configuration's")
	fs.BoolVarP(&f.add, "add", "a", false, "add the user")
	fs.BoolVarP(&f.disable, "disable", "d", false, "disable the user")
	fs.BoolVarP(&f.enable, "enable", "e", false, "enable the user")
	fs.BoolVarP(&f.del, "delete", "x", false, "delete the user")
	fs.BoolVarP(&f.nopwd, "no-password", "n", false, "take the password away: the user cannot log on")
	fs.BoolVarP(&f.stdin, "stdin", "s", false, "read the password from standard input")
	c.MarkFlagsMutuallyExclusive("add", "disable", "enable", "delete", "no-password")
	return c
}

// passwdFile finds the file of users, and who they are for the operating system.
func (a *app) passwdFile(f passwdFlags) (file string, users *smbconf.UserMap, err error) {
	users = &smbconf.UserMap{}
	name := f.config
	if name == "" {
		if _, err := os.Stat(defaultConfig); errors.Is(err, fs.ErrNotExist) {
			return cmp.Or(f.file, smbconf.DefaultPasswdFile), users, nil
		}
		name = defaultConfig
	}
	c, err := a.loadConfig(name, false, func(smbconf.Problem) {}) // testparm shows them
	if err != nil {
		return "", nil, err
	}
	if m := c.Global.String("username map"); m != "" {
		if users, _, err = readUserMap(m); err != nil {
			return "", nil, err
		}
	}
	if f.file != "" {
		return f.file, users, nil
	}
	file, err = smbconf.PasswdFile(c.Global.String("passdb backend"), c.Global.String("smb passwd file"))
	return file, users, err
}

func (a *app) passwd(ctx context.Context, name string, f passwdFlags) error {
	if err := smbpasswd.CheckName(name); err != nil {
		return usageError{err}
	}
	file, users, err := a.passwdFile(f)
	if err != nil {
		return err
	}
	// Asked for before the file is locked.
	ask := !f.disable && !f.enable && !f.del && !f.nopwd
	if !f.add {
		l, _, err := smbpasswd.Read(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if l == nil || l.Find(name) == nil {
			return fmt.Errorf("%s has no user %q: -a adds one", file, name)
		}
	}
	var hash server.NTHash
	if ask {
		password, err := a.newPassword(f.stdin, name)
		if err != nil {
			return err
		}
		hash = server.HashPassword(password)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err = smbpasswd.Update(ctx, file, func(l *smbpasswd.List) error {
		old := l.Find(name)
		if old == nil {
			if !f.add {
				return fmt.Errorf("%s has no user %q: -a adds one", file, name)
			}
			old = &smbpasswd.Entry{Name: name, UID: a.uidOf(name, users), Flags: smbpasswd.User}
		}
		e := *old
		switch {
		case f.del:
			l.Remove(name)
			return nil
		case f.disable:
			e.Flags |= smbpasswd.Disabled
		case f.enable:
			if !e.HasHash {
				return fmt.Errorf("%q has no password: set one, which enables the user", name)
			}
			e.Flags &^= smbpasswd.Disabled
		case f.nopwd:
			e.Hash, e.HasHash = [16]byte{}, false
			e.Flags |= smbpasswd.NoPassword
			e.Changed = time.Now()
		default:
			e.Hash, e.HasHash, e.Changed = hash, true, time.Now()
			e.Flags = e.Flags&^(smbpasswd.NoPassword|smbpasswd.Disabled) | smbpasswd.User
		}
		return l.Put(e)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "%s: %s %s\n", file, done(f), printable(name))
	return nil
}

func done(f passwdFlags) string {
	switch {
	case f.del:
		return "deleted"
	case f.disable:
		return "disabled"
	case f.enable:
		return "enabled"
	case f.nopwd:
		return "took the password away from"
	case f.add:
		return "added"
	}
	return "changed the password of"
}

// uidOf is the UNIX user's id that smbpasswd files have, which only tells people
// something; that of nobody in particular for a user whom UNIX does not know.
func (a *app) uidOf(name string, users *smbconf.UserMap) uint32 {
	unix, _ := users.Map(name, inGroup)
	acc, err := unixAccount(unix)
	if err != nil {
		fmt.Fprintf(a.stderr, "note: there is no UNIX user %s: a server that runs as root admits the user only if \"username map\" leads to one\n", printable(name))
		return 65534
	}
	return acc.UID
}

var errNoPassword = errors.New("no password: a user without one cannot log on")

// newPassword asks for a password twice, or reads it from standard input.
func (a *app) newPassword(fromStdin bool, user string) (string, error) {
	var first, second string
	f, isFile := a.stdin.(*os.File)
	switch {
	case fromStdin:
		in := bufio.NewReader(a.stdin)
		for _, p := range []*string{&first, &second} {
			s, err := in.ReadString('\n')
			if err != nil && s == "" {
				return "", fmt.Errorf("-s: want the password on two lines of standard input: %w", err)
			}
			*p = strings.TrimRight(s, "\r\n")
		}
	case !isFile || !term.IsTerminal(int(f.Fd())):
		return "", usagef("standard input is not a terminal: -s reads the password from it")
	default:
		for _, q := range []struct {
			prompt string
			p      *string
		}{{"New password for " + printable(user) + ": ", &first}, {"Again: ", &second}} {
			fmt.Fprint(a.stderr, q.prompt)
			b, err := term.ReadPassword(int(f.Fd()))
			fmt.Fprintln(a.stderr)
			if err != nil {
				return "", err
			}
			*q.p = string(b)
		}
	}
	if subtle.ConstantTimeCompare([]byte(first), []byte(second)) != 1 {
		return "", errors.New("the passwords differ: nothing is changed")
	}
	if first == "" {
		return "", errNoPassword
	}
	return first, nil
}
