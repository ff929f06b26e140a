package server

import (
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// AuditKind is what an AuditEvent is about.
type AuditKind string

const (
	AuditConnection AuditKind = "connection" // an address that may not connect
	AuditSession    AuditKind = "session"    // a logon, or one that was refused
	AuditTree       AuditKind = "tree"       // a connect to a share, or a refusal
	AuditAccess     AuditKind = "access"     // access to a file that was refused
)

// AuditEvent is what Config.Audit is told.
type AuditEvent struct {
	Time time.Time `json:"time"`
	Kind AuditKind `json:"kind"`
	// Connection is its ID in Status; 0 for an address that may not connect.
	Connection uint64 `json:"connection,omitempty"`
	Peer       string `json:"peer,omitempty"`
	// User is who the client says it is, Account the user of the operating system as
	// whom files are accessed, where there is one.
	User    string `json:"user,omitempty"`
	Account string `json:"account,omitempty"`
	Share   string `json:"share,omitempty"`
	// Name is the file's, and Missing the rights that it would have taken.
	Name    string `json:"name,omitempty"`
	Missing uint32 `json:"missing,omitempty"`
	// ReadOnly says that the share is read-only for the user.
	ReadOnly bool `json:"read_only,omitempty"`
	// Status is STATUS_SUCCESS, or why not.
	Status ntstatus.Status `json:"-"`
	Result string          `json:"result"` // Status by its name
}

// audit tells Config.Audit of an event on a connection, nil if it is none's.
func (s *Server) audit(c *conn, e AuditEvent) {
	if s.cfg.Audit == nil {
		return
	}
	e.Time, e.Result = time.Now(), e.Status.String()
	if c != nil {
		e.Connection, e.Peer = c.id, addrString(c.tc.RemoteAddr())
	}
	s.cfg.Audit(e)
}
