package server

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
)

// Dialects of [MS-SMB2] 2.2.3.
const (
	Dialect202 uint16 = 0x0202
	Dialect210 uint16 = 0x0210
	Dialect300 uint16 = 0x0300
	Dialect302 uint16 = 0x0302
	Dialect311 uint16 = 0x0311
)

// Policy says how much protection the server asks of a client.
type Policy uint8

const (
	// PolicyDefault is, for signing, PolicyRequired on connections without an RDMA
	// side and on those whose client can sign RDMA data ([MS-SMB2] 2.2.43), and
	// PolicyOffered for other clients of SMB Direct, which would have to keep their
	// data off RDMA; for encryption PolicyOffered. What signing RDMA data costs is
	// one pass over it at each end, and that files are not sent from the page cache.
	PolicyDefault Policy = iota
	// PolicyOffered leaves it to the client.
	PolicyOffered
	// PolicyRequired refuses clients that do not sign, or do not encrypt.
	PolicyRequired
	// PolicyDisabled does not offer it (encryption only: signing is part of every
	// dialect and cannot be refused).
	PolicyDisabled
	// PolicyDesired encrypts everything of clients that can (encryption only).
	PolicyDesired
)

// Interface is a network interface of this machine by which clients may reach
// the server, as FSCTL_QUERY_NETWORK_INTERFACE_INFO tells them, [MS-SMB2] 2.2.32.5.
type Interface struct {
	// Index tells one interface from another. 0 is left out of the answer.
	Index uint32
	// RSS says that several connections on it are worth their while, RDMA that
	// SMB Direct can be reached on it. An interface whose address offers both TCP
	// and RDMA is listed twice, once with RDMA and once without.
	RSS, RDMA bool
	// Speed is in bits a second; 0 is told to clients as 1 Gbit/s.
	Speed uint64
	// Addr is one address of it, without a zone. Loopback addresses are told only to
	// clients that came by one, and where there is no other.
	Addr netip.Addr
}

// Limits bound what peers can make the server hold. A zero field stands for the
// default named with it; each must be at least 1 and at most what is named.
type Limits struct {
	// Connections at a time; default 1024, at most 65536. One more takes the place
	// of the oldest on which nobody has logged on, and is refused if there is none.
	Connections      int
	SessionsPerConn  int // default 64, at most 65536
	TreesPerSession  int // default 256, at most 65536
	OpensPerSession  int // default 16384, at most 1<<20
	LocksPerOpen     int // default 4096, at most 65536
	AsyncPerConn     int // requests answered STATUS_PENDING; default 1024, at most 65536
	CreditsPerConn   int // held by a client; default 8192, at most 8192; at least 16
	ServingPerConn   int // credits' worth of requests served at a time; default 512, at most 8192; at least 16
	WatchesPerConn   int // directories that a session watches by CHANGE_NOTIFY; default 256, at most 65536
	CompoundElements int // requests in one message; default 64, at most 1024

	// DurableOpens are kept for clients whose connection was lost; default 16384, at
	// most 1<<20; DurableOpensPerUser are those of one user, default 4096. One more is
	// closed with its session.
	DurableOpens, DurableOpensPerUser int

	// MaxReadSize, MaxWriteSize and MaxTransactSize are what NEGOTIATE announces
	// for dialects with multi-credit operations, in bytes: default 8 MiB each;
	// 64 KiB to 8 MiB. A transport with smaller messages or transfers
	// lowers them for its connections.
	MaxReadSize, MaxWriteSize, MaxTransactSize int
}

// Config is what a server is made of. New copies it. The zero value of a field
// is its default.
type Config struct {
	// Shares are served beside IPC$. Names must differ.
	Shares []Share
	// Homes is a share that every user has under his own name, for nobody else; nil if
	// there is none. By its Name, too, everybody finds his own.
	Homes *Share
	// Comment is what listings of servers show.
	Comment string
	// Users knows who may log on; nil knows nobody.
	Users Users
	// Guest admits anonymous and unknown users as guests, to shares with Guest
	// set. Guests sign and encrypt nothing. Off by default.
	Guest bool

	// HostsAllow and HostsDeny say which addresses may connect at all. An entry is an
	// address, a network (10.0.0.0/8, 10.0.0.0/255.0.0.0, fe80::/10), the beginning
	// of an IPv4 address (10.0.), localhost or ALL; EXCEPT takes what follows from
	// what stands before. Names are refused, as they are not looked up. Who is on the
	// allow list may; else who is on the deny list may not; who is on neither may
	// unless there is an allow list alone. This machine itself may unless it is
	// denied and not allowed.
	HostsAllow, HostsDeny []string

	// ServerName is the NetBIOS-style name in NTLM challenges and share listings;
	// default is the host's name up to its first dot, in capitals, at most 15
	// characters.
	ServerName string
	// Domain is the NTLM target domain; default ServerName (a stand-alone server).
	Domain string
	// GUID identifies the server to clients; the zero GUID stands for a random one.
	// The SIDs of users are made of it, or of ServerName if it is zero: they have to
	// stay the same for access control lists to mean the same.
	GUID [16]byte
	// identity is what the machine's SID is made of.
	identity string
	// Logger gets what an operator acts on; nil discards it.
	Logger *slog.Logger

	// Audit is told of logons, of connects to shares, and of what is refused; nil is
	// not. It is called while the client waits, by many goroutines at a time.
	Audit func(AuditEvent)

	// Signing and Encryption are policies. PolicyDisabled and PolicyDesired are not of
	// signing.
	Signing    Policy
	Encryption Policy
	// Ciphers lists the CipherIds of [MS-SMB2] 2.2.3.1.2 in the order of
	// preference; default AES-128-GCM, AES-128-CCM, AES-256-GCM, AES-256-CCM.
	Ciphers []uint16
	// SigningAlgorithms lists the ids of 2.2.3.1.7 likewise; default AES-GMAC,
	// AES-CMAC, HMAC-SHA256.
	SigningAlgorithms []uint16

	// RDMATransforms lists the ids of 2.2.3.1.6 that clients may use for data that
	// goes by RDMA: 1 is encryption, 2 signing. Nil is both; an empty list is a
	// server that has none of it and does not answer the context.
	RDMATransforms []uint16

	// NoPOSIXExtensions does not offer the POSIX extensions of SMB 3.1.1, which Linux
	// asks for with the mount option posix.
	NoPOSIXExtensions bool

	// MinDialect and MaxDialect bound the dialects; defaults Dialect202 and
	// Dialect311. Connections with an RDMA side use Dialect300 at least.
	MinDialect, MaxDialect uint16

	// Limits bound what peers can make the server hold.
	Limits Limits

	// NegotiateTimeout closes a connection that has not negotiated; default 60 s.
	NegotiateTimeout time.Duration
	// AuthTimeout ends a session that has not finished authenticating; default 45 s.
	AuthTimeout time.Duration
	// BreakTimeout is how long a client has to answer when somebody else needs what it
	// caches ([MS-SMB2] 3.3.2.1, 3.3.2.5); after that it caches nothing. Default 35 s.
	BreakTimeout time.Duration
	// MaxDurableTimeout is the longest time for which an open is kept for a client
	// whose connection was lost, whatever it asks for; default 5 min, the most that
	// [MS-SMB2] 3.3.5.9.10 has. Negative: no open is durable, resilient or persistent.
	MaxDurableTimeout time.Duration
	// IdleTimeout closes a connection on which nothing was received for so long
	// and which has no open file; default 15 min. Negative: never.
	IdleTimeout time.Duration

	// Interfaces is asked for each FSCTL_QUERY_NETWORK_INTERFACE_INFO. Nil, and an
	// empty list, turn multichannel off.
	Interfaces func() []Interface
}

const (
	maxIOSize = 8 << 20
	minIOSize = 64 << 10
)

// copyConfig returns c with its defaults filled in, sharing nothing that the
// caller could change, or an error that names the field at fault.
func copyConfig(c Config) (Config, error) {
	bad := func(field string, got any, want string) error {
		return fmt.Errorf("server: Config.%s is %v, want %s", field, got, want)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.ServerName == "" {
		c.ServerName = DefaultName()
	}
	if n := len(utf16.Encode([]rune(c.ServerName))); n > 255 {
		return c, bad("ServerName", c.ServerName, "at most 255 characters")
	}
	if c.Domain == "" {
		c.Domain = c.ServerName
	}
	c.identity = foldName(c.ServerName)
	if c.GUID != [16]byte{} {
		c.identity = string(c.GUID[:])
	}
	if c.GUID == [16]byte{} {
		rand.Read(c.GUID[:]) // never fails: it ends the program first
		c.GUID[7] = c.GUID[7]&0x0F | 0x40
		c.GUID[8] = c.GUID[8]&0x3F | 0x80
	}
	if c.Signing >= PolicyDisabled {
		return c, bad("Signing", c.Signing, "PolicyDefault, PolicyOffered or PolicyRequired")
	}
	if c.Encryption > PolicyDesired {
		return c, bad("Encryption", c.Encryption, "a Policy")
	}
	if c.MinDialect == 0 {
		c.MinDialect = Dialect202
	}
	if c.MaxDialect == 0 {
		c.MaxDialect = Dialect311
	}
	if !knownDialect(c.MinDialect) {
		return c, bad("MinDialect", c.MinDialect, "a dialect of SMB 2 or 3")
	}
	if !knownDialect(c.MaxDialect) || c.MaxDialect < c.MinDialect {
		return c, bad("MaxDialect", c.MaxDialect, "a dialect of SMB 2 or 3 not below MinDialect")
	}
	if c.Encryption == PolicyRequired && c.MaxDialect < Dialect300 {
		return c, bad("Encryption", "PolicyRequired", "a MaxDialect that has encryption, 3.0 or later")
	}
	if c.Ciphers == nil {
		c.Ciphers = []uint16{uint16(smbcrypto.AES128GCM), uint16(smbcrypto.AES128CCM), uint16(smbcrypto.AES256GCM), uint16(smbcrypto.AES256CCM)}
	}
	c.Ciphers = append([]uint16(nil), c.Ciphers...)
	for _, id := range c.Ciphers {
		if id < uint16(smbcrypto.AES128CCM) || id > uint16(smbcrypto.AES256GCM) {
			return c, bad("Ciphers", c.Ciphers, "ids of 1 to 4")
		}
	}
	if c.SigningAlgorithms == nil {
		c.SigningAlgorithms = []uint16{uint16(smbcrypto.AESGMAC), uint16(smbcrypto.AESCMAC), uint16(smbcrypto.HMACSHA256)}
	}
	c.SigningAlgorithms = append([]uint16(nil), c.SigningAlgorithms...)
	for _, id := range c.SigningAlgorithms {
		if id > uint16(smbcrypto.AESGMAC) {
			return c, bad("SigningAlgorithms", c.SigningAlgorithms, "ids of 0 to 2")
		}
	}
	if c.RDMATransforms == nil {
		c.RDMATransforms = []uint16{uint16(smb2.RDMATransformEncryption), uint16(smb2.RDMATransformSigning)}
	}
	c.RDMATransforms = append([]uint16{}, c.RDMATransforms...)
	for _, id := range c.RDMATransforms {
		if id != uint16(smb2.RDMATransformEncryption) && id != uint16(smb2.RDMATransformSigning) {
			return c, bad("RDMATransforms", c.RDMATransforms, "ids of 1 and 2")
		}
	}
	if c.NegotiateTimeout == 0 {
		c.NegotiateTimeout = 60 * time.Second
	}
	if c.AuthTimeout == 0 {
		c.AuthTimeout = 45 * time.Second
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = 15 * time.Minute
	}
	if c.BreakTimeout == 0 {
		c.BreakTimeout = breakTimeout
	}
	if c.MaxDurableTimeout == 0 {
		c.MaxDurableTimeout = 5 * time.Minute
	}
	if c.NegotiateTimeout < 0 {
		return c, bad("NegotiateTimeout", c.NegotiateTimeout, "a positive time")
	}
	if c.BreakTimeout < 0 {
		return c, bad("BreakTimeout", c.BreakTimeout, "a positive time")
	}
	if c.AuthTimeout < 0 {
		return c, bad("AuthTimeout", c.AuthTimeout, "a positive time")
	}
	if err := c.Limits.fill(); err != nil {
		return c, err
	}
	_, err := newLive(&c)
	return c, err
}

// fill puts defaults in the place of zeros and checks the ranges.
func (l *Limits) fill() error {
	for _, f := range []struct {
		name          string
		v             *int
		def, min, max int
	}{
		{"Connections", &l.Connections, 1024, 1, 65536},
		{"SessionsPerConn", &l.SessionsPerConn, 64, 1, 65536},
		{"TreesPerSession", &l.TreesPerSession, 256, 1, 65536},
		{"OpensPerSession", &l.OpensPerSession, 16384, 1, 1 << 20},
		{"LocksPerOpen", &l.LocksPerOpen, 4096, 1, 65536},
		{"AsyncPerConn", &l.AsyncPerConn, 1024, 1, 65536},
		// What the client holds costs it nothing but a place in the window, four bits
		// each; what is served costs buffers and goroutines.
		{"CreditsPerConn", &l.CreditsPerConn, 8192, 16, 8192},
		{"ServingPerConn", &l.ServingPerConn, 512, 16, 8192},
		{"WatchesPerConn", &l.WatchesPerConn, 256, 1, 65536},
		{"CompoundElements", &l.CompoundElements, 64, 1, 1024},
		{"DurableOpens", &l.DurableOpens, 16384, 1, 1 << 20},
		{"DurableOpensPerUser", &l.DurableOpensPerUser, 4096, 1, 1 << 20},
		{"MaxReadSize", &l.MaxReadSize, maxIOSize, minIOSize, maxIOSize},
		{"MaxWriteSize", &l.MaxWriteSize, maxIOSize, minIOSize, maxIOSize},
		{"MaxTransactSize", &l.MaxTransactSize, 8 << 20, minIOSize, maxIOSize},
	} {
		if *f.v == 0 {
			*f.v = f.def
		}
		if *f.v < f.min || *f.v > f.max {
			return fmt.Errorf("server: Config.Limits.%s is %d, want %d to %d", f.name, *f.v, f.min, f.max)
		}
	}
	return nil
}

// DefaultName is the ServerName of a Config that has none.
func DefaultName() string {
	h, err := os.Hostname()
	h, _, _ = strings.Cut(h, ".")
	if err != nil || h == "" {
		return "SMBD-RDMA"
	}
	h = strings.ToUpper(h)
	return h[:min(len(h), 15)]
}

// foldName is the form in which names of shares and users are compared.
func foldName(s string) string { return strings.ToUpper(s) }

func knownDialect(d uint16) bool {
	switch d {
	case Dialect202, Dialect210, Dialect300, Dialect302, Dialect311:
		return true
	}
	return false
}
