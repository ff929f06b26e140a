package client

import (
	"context"
	"errors"
	"net/netip"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

var errNotYet = errors.New("client: not yet")

// Session is one authenticated user on one connection of its own.
type Session struct{}

// Dial connects to addr, HOST:PORT, negotiates and logs on.
func Dial(ctx context.Context, d transport.Dialer, addr string, cfg Config) (*Session, error) {
	return nil, errNotYet
}

// New negotiates and logs on over a connection, which belongs to the session
// from then on: it is closed with it, and also if New fails.
func New(ctx context.Context, conn transport.Conn, cfg Config) (*Session, error) {
	return nil, errNotYet
}

// Mount connects to a share of the server, by its name alone ([MS-SMB2] 3.2.4.2).
func (s *Session) Mount(ctx context.Context, share string) (*Share, error) { return nil, errNotYet }

// ShareType is the type of a share, [MS-SRVS] 2.2.2.4.
type ShareType uint32

const (
	ShareDisk    ShareType = 0
	SharePrinter ShareType = 1
	ShareDevice  ShareType = 2
	ShareIPC     ShareType = 3
	// ShareHidden is set beside one of the others in administrative shares.
	ShareHidden ShareType = 0x80000000
)

// ShareInfo is one share as the server lists it.
type ShareInfo struct {
	Name    string
	Type    ShareType
	Comment string
}

// ListShares lists the shares of the server, by NetrShareEnum of [MS-SRVS] over IPC$.
func (s *Session) ListShares(ctx context.Context) ([]ShareInfo, error) { return nil, errNotYet }

// NetworkInterface is one address of the server, [MS-SMB2] 2.2.32.5.
type NetworkInterface struct {
	Index     uint32 // equal for the addresses of one interface
	Addr      netip.Addr
	LinkSpeed uint64 // bits per second
	RSS, RDMA bool
}

// NetworkInterfaces asks the server for its addresses
// (FSCTL_QUERY_NETWORK_INTERFACE_INFO); dialect 3.0 and later.
func (s *Session) NetworkInterfaces(ctx context.Context) ([]NetworkInterface, error) {
	return nil, errNotYet
}

// Echo asks the server for a sign of life.
func (s *Session) Echo(ctx context.Context) error { return errNotYet }

// Info is what was negotiated.
type Info struct {
	Dialect     Dialect
	ServerGUID  [16]byte
	ServerName  string
	MaxRead     int // bytes in one READ: the server's limit and the transport's, inline
	MaxWrite    int
	MaxTransact int
	// MaxRDMA is the largest READ or WRITE by RDMA in bytes, 0 without.
	MaxRDMA int
	// SigningRequiredByServer is what the server's NEGOTIATE says; Signed says that
	// this session signs, SigningAlgorithm by what.
	SigningRequiredByServer bool
	Signed                  bool
	SigningAlgorithm        SigningAlgorithm
	// Encrypted says that the whole session is; a share may be by itself.
	Encrypted bool
	// Cipher is what was negotiated, 0 for none.
	Cipher Cipher
	// Guest and Anonymous: the server did not know the user, or was not told any.
	Guest, Anonymous bool
	MultiChannel     bool // the server's capability
	Local, Remote    string
	// RDMAProvider names the transport's RDMA provider, "" without one.
	RDMAProvider string
}

// Info returns what was negotiated.
func (s *Session) Info() Info { return Info{} }

// RDMAStatus says whether READ and WRITE of this session use RDMA, and if not,
// why, in words for the user.
func (s *Session) RDMAStatus() (used bool, why string) { return false, "" }

// Stats may be called at any time, also after Close.
func (s *Session) Stats() Stats { return Stats{} }

// TransportStats are those of the connection below.
func (s *Session) TransportStats() transport.Stats { return transport.Stats{} }

// Done is closed when the connection has ended, Err then says why.
func (s *Session) Done() <-chan struct{} { return nil }

// Err is nil while the connection lives.
func (s *Session) Err() error { return nil }

// Logoff ends the session on the server, and then the connection as Close does.
func (s *Session) Logoff(ctx context.Context) error { return errNotYet }

// Close ends the connection without a word to the server, which then closes every
// file of it. It may be called at any time, more than once, and returns when the
// session's goroutine has ended. Calls under way fail with ErrClosed.
func (s *Session) Close() error { return errNotYet }
