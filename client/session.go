package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// Session is one authenticated user, on a connection of its own or, with
// Config.Channels, on several.
type Session struct {
	cfg    Config
	server string
	calls  sync.Pool // of *call

	guest, anonymous atomic.Bool
	base             atomic.Pointer[security] // nil for guests: the keys of the session itself

	sequence atomic.Uint32 // Session.ChannelSequence, in its low 16 bits
	set      atomic.Pointer[channels]

	chanMu sync.Mutex
	dead   []*conn // guarded by chanMu: channels to be waited for
	past   Stats   // guarded by chanMu: of channels that are no more
	err    error   // guarded by chanMu: why the session has ended
	// done is closed when err is set and the last channel has gone.
	done chan struct{}
	// down is closed when there is a connection again, or never will be; nil while
	// there is one. guarded by chanMu
	down     chan struct{}
	reviving sync.WaitGroup // the goroutine that makes the session anew
	leaving  atomic.Bool    // it is not to be made anew any more
	reviveMu sync.Mutex     // held while it is made anew
	// When that was, and how long to wait if it does not last. guarded by reviveMu
	upAt  time.Time
	pause time.Duration

	openMu sync.Mutex
	// What is had again with the session, if it is made anew. guarded by openMu
	shares map[*Share]struct{}
	files  map[*File]struct{}

	aheads   sync.Map // of *File: those that have read ahead
	keeper   keeper
	counters sessionCounters

	sessionID atomic.Uint64 // of the latest
	// generation counts how often the session was made anew.
	generation atomic.Uint64
	ctx        context.Context // ended by Close
	cancel     context.CancelFunc

	leaseMu    sync.Mutex           // nests in conn.mu and chanMu
	leases     map[smb2.GUID]*Lease // guarded by leaseMu: those that opens or CREATEs use
	leasesDown bool                 // guarded by leaseMu: there is no connection
	breaks     breakQueue           // guarded by leaseMu
	leaseCond  *sync.Cond           // of leaseMu: a goroutine of breaks has ended

	reauthMu sync.Mutex // held while the session is renewed
	giveUpMu sync.Mutex // held while a silent channel is given up
}

// sessionCounters are those figures of Stats that belong to no connection.
type sessionCounters struct {
	reauths, replays, failovers, bindings, reconnects atomic.Uint64
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
	if cfg.Reconnect.Enabled && cfg.Reconnect.Dial == nil {
		cfg.Reconnect.Dial = func(ctx context.Context) (transport.Conn, error) { return d.Dial(ctx, addr) }
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
	if cfg.Reconnect.Enabled && cfg.Reconnect.Dial == nil {
		return nil, errors.Join(fmt.Errorf("client: Config.Reconnect has no Dial: %w", fs.ErrInvalid), tr.Close())
	}
	s := &Session{cfg: cfg, server: cfg.ServerName, done: make(chan struct{}),
		keeper: keeper{wake: make(chan struct{}, 1), first: make(chan struct{})}, leases: make(map[smb2.GUID]*Lease),
		shares: make(map[*Share]struct{}), files: make(map[*File]struct{})}
	s.leaseCond = sync.NewCond(&s.leaseMu)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if s.server == "" {
		if host, _, err := net.SplitHostPort(tr.RemoteAddr().String()); err == nil {
			s.server = host
		}
	}
	c := newConn(tr, s)
	if c.neg, err = negotiate(ctx, c, &s.cfg, s.server); err != nil {
		c.close()
		return nil, wrap("negotiate", s.server, err)
	}
	if err := s.logon(ctx, c, false); err != nil {
		c.close()
		return nil, wrap("log on to", s.server, err)
	}
	if err := s.join(c); err != nil {
		c.close()
		return nil, wrap("log on to", s.server, err)
	}
	if used, why := s.RDMAStatus(); !used && c.rdma != nil {
		s.cfg.Logger.Warn("RDMA is not used", "server", s.server, "why", why)
	} else if cost := c.dataPath(false).Cost(); used && cost != "" {
		s.cfg.Logger.Info(cost, "server", s.server)
	}
	s.startKeeper()
	return s, nil
}

// do sends one request and waits for its answer, which is a success or one of the
// statuses in also. A session that has expired is renewed once; a request whose
// channel is lost is sent again on another.
func (s *Session) do(ctx context.Context, k *call, also ...ntstatus.Status) error {
	return s.doOn(ctx, s.main(), k, also...)
}

func (s *Session) doOn(ctx context.Context, c *conn, k *call, also ...ntstatus.Status) error {
	c.closeOrphans(ctx)
	var r retry
	for renewed := false; ; {
		seen := s.counters.reauths.Load()
		err := c.start(ctx, k.self[:])
		if err == nil {
			err = c.wait(ctx, k)
		}
		if err != nil {
			if next := s.failover(ctx, c, &r, k); next != nil {
				c = next
				continue
			}
			if r.err != nil {
				return r.err
			}
			return err
		}
		st := k.resp.Status
		switch {
		case st == ntstatus.NetworkSessionExpired && !renewed:
			renewed = true
			k.dropAnswer()
			if err := s.reauth(ctx, seen); err != nil {
				return err
			}
			continue
		case s.busy(ctx, k, &r):
			k.dropAnswer()
			k.replay()
			continue
		}
		if st == ntstatus.Success || r.replays > 0 && k.repeated(st) {
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
	if s.counters.reauths.Load() != seen {
		return nil
	}
	var r retry
	for {
		c := s.main()
		err := s.logon(ctx, c, false)
		if err == nil {
			break
		}
		next := s.failover(ctx, c, &r)
		switch {
		case next != nil && next.generation != c.generation:
			return nil // it is another session by now
		case next == nil:
			return fmt.Errorf("renewing the expired session: %w", err)
		}
	}
	s.counters.reauths.Add(1)
	return nil
}

// Echo asks the server for a sign of life.
func (s *Session) Echo(ctx context.Context) error {
	k := s.newCall(smb2.CommandEcho)
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
	POSIX            bool // the POSIX extensions are used
	Local, Remote    string
	// RDMAProvider names the transport's RDMA provider, "" without one;
	// RemoteInvalidation says that answers revoke the server's access to memory.
	RDMAProvider       string
	RemoteInvalidation bool
	// RDMATransforms are those that were agreed on.
	RDMATransforms []RDMATransform
}

// Info returns what was negotiated: with several channels, on one of those that
// READ and WRITE use.
func (s *Session) Info() Info {
	c := s.best()
	n, sec := c.neg, c.sec.Load()
	i := Info{
		Dialect: n.dialect, ServerGUID: n.serverGUID, ServerName: s.server,
		MaxRead: c.maxRead(), MaxWrite: c.maxWrite(), MaxTransact: n.maxTransact,
		SigningRequiredByServer: n.serverMode&smb2.NegotiateSigningRequired != 0,
		Signed:                  sec.sign && !sec.encrypt, SigningAlgorithm: SigningAlgorithm(n.signing),
		Encrypted: sec.encrypt, Cipher: Cipher(n.cipher),
		Guest: s.guest.Load(), Anonymous: s.anonymous.Load(),
		MultiChannel: n.capabilities&smb2.GlobalCapMultiChannel != 0, POSIX: n.posix,
		Local: c.tr.LocalAddr().String(), Remote: c.tr.RemoteAddr().String(),
		RDMATransforms: slices.Clone(n.transforms),
	}
	if r := c.rdma; r != nil {
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
func (c *conn) maxRead() int {
	return min(c.neg.maxRead, c.sess.cfg.MaxIOSize, max(c.tr.MaxReceiveSize()-messageRoom, 1))
}

func (c *conn) maxWrite() int {
	return min(c.neg.maxWrite, c.sess.cfg.MaxIOSize, max(c.tr.MaxSendSize()-messageRoom, 1))
}

// maxAnswer is the most bytes to ask for in an answer that costs one credit.
func (s *Session) maxAnswer() int {
	c := s.main()
	return min(65536, c.neg.maxTransact, max(c.tr.MaxReceiveSize()-messageRoom, 1))
}

// TransportStats are those of a connection below, of the kind that READ and WRITE
// use.
func (s *Session) TransportStats() transport.Stats { return s.best().tr.Stats() }

// Done is closed when the last connection has ended; Err then says why.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is nil while the session lives. After Close it is ErrClosed.
func (s *Session) Err() error {
	s.chanMu.Lock()
	defer s.chanMu.Unlock()
	return s.err
}

// Logoff ends the session on the server, which closes all its files, and then the
// connections as Close does.
func (s *Session) Logoff(ctx context.Context) error {
	s.stopKeeper() // or it would bind channels to a session that is gone
	s.leaving.Store(true)
	k := s.newCall(smb2.CommandLogoff)
	defer k.free()
	k.session = s.current()
	err := k.encode(&smb2.LogoffRequest{})
	if err == nil && !s.isDown() { // else there is nobody to be told
		err = s.do(ctx, k)
	}
	if errors.Is(err, errSessionChanged) {
		err = nil // it has ended with its connection
	}
	_ = s.Close() // never fails
	return wrap("log off from", s.server, err)
}

// Close ends the connections without a word to the server, which then closes every
// file of the session, but those that are durable, see ReconnectConfig: of these it lets
// others have what they want, and closes them when their time is over. It may be called at any time, more than once, and returns
// when the session's goroutines have ended. Calls under way fail with ErrClosed.
func (s *Session) Close() error {
	s.end(ErrClosed)
	s.cancel()
	s.stopKeeper()
	s.reviving.Wait()
	for _, c := range s.set.Load().all { // who joined in the same moment
		c.close()
	}
	s.reap()
	s.closeBreaks()
	s.dropAheads()
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
	list, sh, err := s.queryInterfaces(ctx)
	if err != nil {
		return nil, wrap("query network interfaces", s.server, err)
	}
	sh.unmountQuietly(ctx)
	return list, nil
}

// queryInterfaces also returns the IPC$ share that it asked on.
func (s *Session) queryInterfaces(ctx context.Context) ([]NetworkInterface, *Share, error) {
	sh, err := s.mount(ctx, "IPC$")
	if err != nil {
		return nil, nil, err
	}
	list, err := sh.interfaces(ctx)
	if err != nil {
		sh.unmountQuietly(ctx)
		return nil, nil, err
	}
	return list, sh, nil
}

func (sh *Share) interfaces(ctx context.Context) ([]NetworkInterface, error) {
	protect := protection(0)
	if sh.s.base.Load() != nil {
		protect = protectSign // servers may refuse it unsigned, [MS-SMB2] 3.3.5.15.11
	}
	k, out, err := sh.ioctl(ctx, smb2.FsctlQueryNetworkInterfaceInfo, smb2.AnyFileID, nil, sh.s.maxAnswer(), protect)
	if err != nil {
		return nil, err
	}
	defer k.free()
	var list []NetworkInterface
	for e, err := range smb2.NetworkInterfaceInfos(out) {
		if err != nil {
			// Nothing depends on it: no reason to end a connection that nobody asked
			// to be more than one.
			return nil, fmt.Errorf("the server's list of interfaces: %w: %w", ntstatus.InvalidNetworkResponse, err)
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
	if errors.Is(err, ntstatus.PathNotCovered) && !errors.Is(err, ErrDFS) {
		err = fmt.Errorf("%w: %w", ErrDFS, err)
	}
	e := &Error{Op: op, Path: path, Err: err}
	if pe := (*ProtocolError)(nil); !errors.As(err, &pe) {
		errors.As(err, &e.Status)
	}
	return e
}
