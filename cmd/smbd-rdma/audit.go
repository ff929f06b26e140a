package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server"
)

// auditLog writes what the server audits: a line of JSON for each event to a file, or
// to the log.
type auditLog struct {
	log *slog.Logger

	mu     sync.Mutex
	path   string   // guarded by mu; empty for nowhere, "log" for the log
	f      *os.File // guarded by mu
	failed bool     // guarded by mu: a write has failed, and that was said
}

// open makes path the file to write to, opened anew so that the old one may have been
// moved away. On an error what there was stays.
func (l *auditLog) open(path string) error {
	var f *os.File
	if path != "" && path != "log" {
		var err error
		if f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
			return fmt.Errorf("audit: %w", err)
		}
	}
	l.mu.Lock()
	old := l.f
	l.path, l.f, l.failed = path, f, false
	l.mu.Unlock()
	if old != nil {
		return old.Close()
	}
	return nil
}

func (l *auditLog) event(e server.AuditEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.f != nil:
		b, err := json.Marshal(&e)
		if err == nil {
			_, err = l.f.Write(append(b, '\n'))
		}
		if err != nil && !l.failed {
			l.failed = true
			l.log.Error("audit: events are lost", "file", l.path, "err", err)
		}
	case l.path == "log":
		level := slog.LevelInfo
		if e.Status != ntstatus.Success {
			level = slog.LevelWarn
		}
		l.log.Log(context.Background(), level, "audit", "kind", e.Kind, "conn", e.Connection, "peer", e.Peer, "user", e.User, "account", e.Account,
			"share", e.Share, "name", e.Name, "missing", e.Missing, "status", e.Result)
	}
}

func (l *auditLog) close() error { return l.open("") }
