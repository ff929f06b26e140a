package main

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
)

// warnOfRights says who can log on and as whom files are accessed, where somebody could
// believe otherwise.
func (a *app) warnOfRights(s *settings) {
	if _, err := os.Stat(s.users.file); len(s.users.flags) == 0 && errors.Is(err, fs.ErrNotExist) {
		a.log.Warn("there are no users yet: smbd-rdma passwd -a USER adds one", "file", s.users.file)
	}
	if os.Geteuid() != 0 {
		for _, sh := range s.shares {
			if sh.ForceUser != "" || sh.ForceGroup != "" || len(sh.AdminUsers) > 0 {
				a.log.Warn("force user, force group and admin users have no effect: the server does not run as root, and everybody accesses files as its user", "share", sh.Name)
			}
		}
		return
	}
	for name := range s.users.flags {
		unix, _ := s.users.users.Map(name, inGroup)
		if _, err := unixAccount(unix); errors.Is(err, fs.ErrNotExist) {
			a.log.Warn("a user of --user has no UNIX account: his files are accessed as root; \"username map\" or \"force user\" change that", "user", name)
		}
	}
}

// logLevelOf is Samba's log level as slog has them.
func logLevelOf(n int64) slog.Level {
	switch {
	case n <= 0:
		return slog.LevelWarn
	case n < 3:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}
