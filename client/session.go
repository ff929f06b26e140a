package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// Session is one authenticated user on one connection of its own.
type Session struct {
	c      *conn
	cfg    Config
	server string
	neg    *negotiated

	guest, anonymous bool // written by logon, before anybody else has the Session

	validate sync.Mutex // held while the negotiation is validated
	valid    bool       // guarded by validate

	reauthMu sync.Mutex // held while the session is renewed
}

// Dial connects to addr, HOST:PORT as the dialer takes it, negotiates and logs on.
// Errors: those of the dialer, and those of New.
func Dial(ctx context.Context, d transport.Dialer, addr string, cfg Config) (*Session, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil { // some dialers know the port
		host = strings.Trim(addr, "[]")
	}
	if cfg.ServerName == "" {
		cfg.ServerName = host
	}
	if _, err := cfg.withDefaults(); err != nil {
		return nil, err
	}
	tr, err := d.Dial(ctx, addr)
	if err != nil {
		return nil, &Error{Op: "dial", Path: addr, Err: err}
	}
	return New(ctx, tr, cfg)
}

// New negotiates and logs on over a connection, which belongs to the session
// from then on: it is closed with it, and also if New fails. An error in cfg
// matches fs.ErrInvalid, a refused user fs.ErrPermission.
func New(ctx context.Context, tr transport.Conn, cfg Config) (*Session, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, errors.Join(err, tr.Close())
	}
	s := &Session{cfg: cfg, server: cfg.ServerName}
	if s.server == "" {
		if host, _, err := net.SplitHostPort(tr.RemoteAddr().String()); err == nil {
			s.server = host
		}
	}
	s.c = newConn(tr, &s.cfg)
	if s.neg, err = negotiate(ctx, s.c, &s.cfg, s.server); err != nil {
		s.c.close()
		return nil, wrap("negotiate", s.server, err)
	}
	if err := s.logon(ctx); err != nil {
		s.c.close()
		return nil, wrap("log on to", s.server, err)
	}
	if used, why := s.RDMAStatus(); !used && s.c.rdma != nil {
		s.cfg.Logger.Warn("RDMA is not used", "server", s.server, "why", why)
	}
	return s, nil
}

// do sends one request and waits for its answer, which is a success or one of the
// statuses in also. A session that has expired is renewed once.
func (s *Session) do(ctx context.Context, k *call, also ...ntstatus.Status) error {
	s.c.closeOrphans(ctx)
	for try := 0; ; try++ {
		seen := s.c.counters.reauths.Load()
		if err := s.c.start(ctx, k.self[:]); err != nil {
			return err
		}
		if err := s.c.wait(ctx, k); err != nil {
			return err
		}
		st := k.resp.Status
		if st == ntstatus.NetworkSessionExpired && try == 0 {
			k.dropAnswer()
			if err := s.reauth(ctx, seen); err != nil {
				return err
			}
			continue
		}
		if st == ntstatus.Success {
			return nil
		}
		for _, a := range also {
			if st == a {
				return nil
			}
		}
		return st
	}
}

// reauth renews an expired session, [MS-SMB2] 3.2.5.1.6, unless that was done
// since the number of renewals was seen.
func (s *Session) reauth(ctx context.Context, seen uint64) error {
	s.reauthMu.Lock()
	defer s.reauthMu.Unlock()
	if s.c.counters.reauths.Load() != seen {
		return nil
	}
	if err := s.logon(ctx); err != nil {
		return fmt.Errorf("renewing the expired session: %w", err)
	}
	s.c.counters.reauths.Add(1)
	return nil
}

// Echo asks the server for a sign of life.
func (s *Session) Echo(ctx context.Context) error {
	k := s.c.newCall(smb2.CommandEcho)
	defer k.free()
	if err := k.encode(&smb2.EchoRequest{}); err != nil {
		return wrap("echo", "", err)
	}
	return wrap("echo", "", s.do(ctx, k))
}

// Info is what was negotiated.
type Info struct {
	Dialect    Dialect
	ServerGUID [16]byte
	ServerName string // as in UNC paths
	// MaxRead and MaxWrite are the most bytes in one READ or WRITE request whose
	// data is in messages, MaxRDMA in one by RDMA, 0 without.
	MaxRead, MaxWrite, MaxTransact int
	MaxRDMA                        int
	// SigningRequiredByServer is what the server's NEGOTIATE says; Signed says that
	// this session signs, SigningAlgorithm with what it does or would.
	SigningRequiredByServer bool
	Signed                  bool
	SigningAlgorithm        SigningAlgorithm
	// Encrypted says that the whole session is; a share may be by itself. Cipher
	// is what was negotiated, 0 for none.
	Encrypted bool
	Cipher    Cipher
	// Guest: the server did not know the user. Anonymous: none was named.
	Guest, Anonymous bool
	MultiChannel     bool // the server's capability
	Local, Remote    string
	// RDMAProvider names the transport's RDMA provider, "" without one;
	// RemoteInvalidation says that answers revoke the server's access to memory.
	RDMAProvider       string
	RemoteInvalidation bool
}

// Info returns what was negotiated.
func (s *Session) Info() Info {
	n, sec := s.neg, s.c.sec.Load()
	i := Info{
		Dialect: n.dialect, ServerGUID: n.serverGUID, ServerName: s.server,
		MaxRead: s.maxRead(), MaxWrite: s.maxWrite(), MaxTransact: n.maxTransact,
		SigningRequiredByServer: n.serverMode&smb2.NegotiateSigningRequired != 0,
		Signed:                  sec.sign && !sec.encrypt, SigningAlgorithm: SigningAlgorithm(n.signing),
		Encrypted: sec.encrypt, Cipher: Cipher(n.cipher),
		Guest: s.guest, Anonymous: s.anonymous,
		MultiChannel: n.capabilities&smb2.GlobalCapMultiChannel != 0,
		Local:        s.c.tr.LocalAddr().String(), Remote: s.c.tr.RemoteAddr().String(),
	}
	if r := s.c.rdma; r != nil {
		i.MaxRDMA = min(r.MaxReadWriteSize(), n.maxRead, n.maxWrite, s.cfg.MaxIOSize)
		i.RDMAProvider = r.Provider()
		i.RemoteInvalidation = n.dialect >= SMB302 && r.RemoteInvalidation()
	}
	return i
}

// messageRoom is what is kept free in a message of the transport's largest size
// for the headers around a payload: transform, SMB2 header and body.
const messageRoom = 256

// maxRead and maxWrite are the most bytes in one READ or WRITE request inline.
func (s *Session) maxRead() int {
	return min(s.neg.maxRead, s.cfg.MaxIOSize, max(s.c.tr.MaxReceiveSize()-messageRoom, 1))
}

func (s *Session) maxWrite() int {
	return min(s.neg.maxWrite, s.cfg.MaxIOSize, max(s.c.tr.MaxSendSize()-messageRoom, 1))
}

// maxAnswer is the most bytes to ask for in an answer that costs one credit.
func (s *Session) maxAnswer() int {
	return min(65536, s.neg.maxTransact, max(s.c.tr.MaxReceiveSize()-messageRoom, 1))
}

// RDMAStatus says whether READ and WRITE of this session use RDMA, and if not,
// why, in words for the user.
func (s *Session) RDMAStatus() (used bool, why string) {
	sec := s.c.sec.Load()
	switch {
	case s.c.rdma == nil:
		return false, "the connection is not SMB Direct"
	case s.cfg.RDMAThreshold < 0:
		return false, "RDMAThreshold is negative"
	case sec.encrypt:
		return false, "the session is encrypted, and RDMA data can't be"
	case sec.sign && s.cfg.Signing == SigningRequired:
		return false, "signing is required here, and RDMA data can't be signed"
	case sec.sign:
		return false, "the server requires signing, and RDMA data can't be signed"
	}
	return true, ""
}

// Stats may be called at any time, also after Close.
func (s *Session) Stats() Stats { return s.c.stats() }

// TransportStats are those of the connection below.
func (s *Session) TransportStats() transport.Stats { return s.c.tr.Stats() }

// Done is closed when the connection has ended; Err then says why.
func (s *Session) Done() <-chan struct{} { return s.c.failedCh }

// Err is nil while the connection lives. After Close it is ErrClosed.
func (s *Session) Err() error { return s.c.failed() }

// Logoff ends the session on the server, which closes all its files, and then the
// connection as Close does.
func (s *Session) Logoff(ctx context.Context) error {
	k := s.c.newCall(smb2.CommandLogoff)
	defer k.free()
	err := k.encode(&smb2.LogoffRequest{})
	if err == nil {
		err = s.do(ctx, k)
	}
	s.c.close()
	return wrap("log off from", s.server, err)
}

// Close ends the connection without a word to the server, which then closes every
// file of it. It may be called at any time, more than once, and returns when the
// session's goroutines have ended. Calls under way fail with ErrClosed.
func (s *Session) Close() error {
	s.c.close()
	return nil
}

// NetworkInterface is one address of the server, [MS-SMB2] 2.2.32.5.
type NetworkInterface struct {
	Index     uint32 // equal for the addresses of one interface
	Addr      netip.Addr
	LinkSpeed uint64 // bits per second
	RSS, RDMA bool
}

// NetworkInterfaces asks the server for its addresses, by
// FSCTL_QUERY_NETWORK_INTERFACE_INFO ([MS-SMB2] 3.2.4.20.10). An error that
// matches errors.ErrUnsupported comes from servers without multichannel.
func (s *Session) NetworkInterfaces(ctx context.Context) ([]NetworkInterface, error) {
	const op = "query network interfaces"
	sh, err := s.Mount(ctx, "IPC$")
	if err != nil {
		return nil, err
	}
	defer sh.unmountQuietly(ctx)
	k, out, err := sh.ioctl(ctx, smb2.FsctlQueryNetworkInterfaceInfo, smb2.AnyFileID, nil, s.maxAnswer(), 0)
	if err != nil {
		return nil, wrap(op, s.server, err)
	}
	defer k.free()
	var list []NetworkInterface
	for e, err := range smb2.NetworkInterfaceInfos(out) {
		if err != nil {
			return nil, wrap(op, s.server, s.c.badBody(k.cmd, err))
		}
		list = append(list, NetworkInterface{
			Index: e.IfIndex, Addr: e.Addr, LinkSpeed: e.LinkSpeed,
			RSS: e.Capability&smb2.InterfaceRSSCapable != 0, RDMA: e.Capability&smb2.InterfaceRDMACapable != 0,
		})
	}
	return list, nil
}

// wrap makes an *Error of err, nil of nil.
func wrap(op, path string, err error) error {
	if err == nil {
		return nil
	}
	e := &Error{Op: op, Path: path, Err: err}
	if pe := (*ProtocolError)(nil); !errors.As(err, &pe) {
		errors.As(err, &e.Status)
	}
	return e
}
