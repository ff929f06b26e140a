package client

import (
	"context"
	"encoding/asn1"

	"github.com/smbd-rdma/smbd-rdma/internal/ntlm"
	"github.com/smbd-rdma/smbd-rdma/internal/spnego"
)

// Authenticator proves to servers who the user is: Config.Auth, in place of User and
// Password. Package client/kerberos has one. It may be called by many goroutines at once,
// as every connection and every renewal of a session asks it.
type Authenticator interface {
	// Start begins one authentication to a service, as "cifs/nas.example.com".
	Start(ctx context.Context, service string) (Mechanism, error)
}

// Mechanism is this end of one authentication, as GSS-API sees it (RFC 2743). It is for
// one goroutine at a time.
type Mechanism interface {
	// OID identifies the mechanism in SPNEGO.
	OID() asn1.ObjectIdentifier
	// Step consumes the server's token, empty when there is none yet, and returns the one
	// to send, empty if there is none. done means that this end needs no other token.
	Step(in []byte) (out []byte, done bool, err error)
	// Integrity reports whether GetMIC and VerifyMIC can be used; asked once done.
	Integrity() bool
	// GetMIC signs a message to the server.
	GetMIC(msg []byte) ([]byte, error)
	// VerifyMIC checks the signature of a message from the server.
	VerifyMIC(msg, mic []byte) error
	// SessionKey returns the key that both ends share once done.
	SessionKey() []byte
}

// mechanism begins one authentication.
func (s *Session) mechanism(ctx context.Context, workstation string) (spnego.Mechanism, error) {
	service := "cifs/" + s.server
	if s.cfg.Auth != nil {
		return s.cfg.Auth.Start(ctx, service)
	}
	m := &ntlm.Client{User: s.cfg.User, Password: s.cfg.Password, Domain: s.cfg.Domain, Workstation: workstation}
	if s.server != "" {
		m.TargetSPN = service
	}
	return m, nil
}
