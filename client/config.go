package client

import (
	"crypto/rand"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
)

// Dialect is a dialect revision of [MS-SMB2] 2.2.3.
type Dialect uint16

// The dialects. They are in order: a later one has the larger value.
const (
	SMB202 Dialect = 0x0202
	SMB210 Dialect = 0x0210
	SMB300 Dialect = 0x0300
	SMB302 Dialect = 0x0302
	SMB311 Dialect = 0x0311
)

// SigningMode says whether messages are signed.
type SigningMode uint8

const (
	// SigningIfRequired signs if the server requires it. The default. The set-up
	// of a session is protected all the same: by the preauthentication integrity
	// of 3.1.1, and by FSCTL_VALIDATE_NEGOTIATE_INFO before.
	SigningIfRequired SigningMode = iota
	// SigningRequired signs, and refuses a server that does not: no guests.
	SigningRequired
	// SigningOff does not sign, and refuses a server that requires it. What the
	// protocol itself wants signed (the TREE_CONNECT of dialect 3.1.1) still is.
	SigningOff
)

// EncryptionMode says whether messages are encrypted.
type EncryptionMode uint8

const (
	// EncryptIfRequired encrypts sessions and shares for which the server wants it.
	EncryptIfRequired EncryptionMode = iota
	// EncryptRequired encrypts everything, and refuses a server that can't.
	EncryptRequired
	// EncryptOff offers no cipher; a server that requires encryption refuses.
	EncryptOff
)

// Cipher is a CipherId of [MS-SMB2] 2.2.3.1.2.
type Cipher uint16

// The ciphers of SMB 3.
const (
	AES128CCM Cipher = 0x0001
	AES128GCM Cipher = 0x0002
	AES256CCM Cipher = 0x0003
	AES256GCM Cipher = 0x0004
)

// SigningAlgorithm is a SigningAlgorithmId of [MS-SMB2] 2.2.3.1.7.
type SigningAlgorithm uint16

// The signing algorithms.
const (
	HMACSHA256 SigningAlgorithm = 0x0000
	AESCMAC    SigningAlgorithm = 0x0001
	AESGMAC    SigningAlgorithm = 0x0002
)

// Defaults of Config.
const (
	DefaultRDMAThreshold = 4096 // the value of Windows
	DefaultMaxCredits    = 1024
	DefaultWindow        = 8
	DefaultReadAhead     = 2 << 20
	DefaultTimeout       = 60 * time.Second
	DefaultCancelGrace   = 5 * time.Second
)

// Config says who logs on and how. The zero value of every field has a meaning;
// a Config is copied on entry and never written to.
type Config struct {
	// User, Password and Domain are the NTLM credentials, at most 256 characters
	// each. An empty User logs on anonymously. Domain may be empty.
	User, Password, Domain string
	// Auth logs on in place of User, Password and Domain; nil means these, with NTLM.
	Auth Authenticator
	// Workstation is the client's name in NTLM; empty means the host name.
	Workstation string
	// ServerName is the server in UNC paths, \\ServerName\share, and in the NTLM
	// target name; empty means the host part of the address dialled.
	ServerName string

	// MinDialect and MaxDialect bound what is negotiated, both inclusive. Zero
	// means SMB202 and SMB311. A transport with an RDMA side has at least SMB300
	// ([MS-SMB2] 2.1).
	MinDialect, MaxDialect Dialect
	Signing                SigningMode
	Encryption             EncryptionMode
	// Ciphers are offered in this order; nil means AES-128-GCM, AES-128-CCM,
	// AES-256-GCM, AES-256-CCM. Dialects 3.0 and 3.0.2 have AES-128-CCM only.
	Ciphers []Cipher
	// SigningAlgorithms are offered in dialect 3.1.1 in this order; nil means
	// AES-GMAC, AES-CMAC, HMAC-SHA256.
	SigningAlgorithms []SigningAlgorithm
	// RDMATransforms are offered in dialect 3.1.1, for bytes of files that go by RDMA
	// in sessions that sign or encrypt; nil means RDMAEncryption and RDMASigning.
	// Without, and with servers that have none, those go inline.
	RDMATransforms []RDMATransform

	// RDMAThreshold is the length in bytes of a READ or WRITE from which it goes
	// by RDMA, if the connection has it. 0 means what suits the connection's adapter
	// (transport.Thresholder), or else DefaultRDMAThreshold; 1 means everything;
	// negative means nothing.
	RDMAThreshold int
	// MaxIOSize bounds one READ or WRITE request, in bytes, beside the server's
	// own limits. 0 means no further bound.
	MaxIOSize int
	// Window is how many requests of one ReadAt or WriteAt that is longer than
	// one request may take are in flight together: 1 to 64, 0 means DefaultWindow.
	Window int
	// ReadAhead is how many bytes of a file File.Read and File.WriteTo read before they are
	// asked for, where it is read from front to back: up to 64 MiB, in steps of 256 KiB. 0
	// means DefaultReadAhead, negative means none. ReadAt reads what it is asked for.
	// Over SMB Direct, where reads go straight to the caller's buffer, File.Read reads
	// nothing ahead and File.WriteTo 1 MiB.
	ReadAhead int
	// MaxCredits is how many credits the client asks the server for: 1 to 65535,
	// 0 means DefaultMaxCredits. A credit pays for 64 KiB in flight.
	MaxCredits int

	// POSIX says whether the POSIX extensions of dialect 3.1.1 are used.
	POSIX POSIXMode
	// Symlinks says how symbolic links, FIFOs, sockets and devices are made.
	Symlinks SymlinkForm

	// Timeout bounds a request whose context has no deadline, except those that
	// wait for somebody else (Lock with Wait, Watcher.Next). 0 means
	// DefaultTimeout, negative means no bound.
	Timeout time.Duration
	// Channels says how a session gets more connections; the zero value means that
	// it has one.
	Channels ChannelConfig
	// Reconnect says what is done when the last connection is lost; the zero value means
	// that the session ends.
	Reconnect ReconnectConfig
	// CancelGrace bounds how long a cancelled request waits for its answer where
	// giving it up costs something: memory that the server may reach by RDMA has to
	// be revoked, a lock may be granted after all, changes may be on their way. 0
	// means DefaultCancelGrace, negative means no wait.
	CancelGrace time.Duration
	// Logger gets what an operator acts on; nil means silence.
	Logger *slog.Logger
	// ClientGUID identifies the client machine; zero means a random one.
	ClientGUID [16]byte
}

// withDefaults returns a checked copy.
func (c Config) withDefaults() (Config, error) {
	bad := func(field string, v any, want string) (Config, error) {
		return c, fmt.Errorf("client: Config.%s %v is not %s: %w", field, v, want, fs.ErrInvalid)
	}
	for _, s := range []struct{ field, v string }{
		{"User", c.User}, {"Password", c.Password}, {"Domain", c.Domain}, {"Workstation", c.Workstation},
	} {
		if utf8.RuneCountInString(s.v) > 256 {
			return c, fmt.Errorf("client: Config.%s is longer than 256 characters: %w", s.field, fs.ErrInvalid)
		}
	}
	if c.MinDialect == 0 {
		c.MinDialect = SMB202
	}
	if c.MaxDialect == 0 {
		c.MaxDialect = SMB311
	}
	for _, d := range []struct {
		field string
		v     Dialect
	}{{"MinDialect", c.MinDialect}, {"MaxDialect", c.MaxDialect}} {
		if !slices.Contains(allDialects, d.v) {
			return bad(d.field, fmt.Sprintf("0x%04X", uint16(d.v)), "a dialect")
		}
	}
	if c.MinDialect > c.MaxDialect {
		return bad("MinDialect", c.MinDialect, "at most MaxDialect")
	}
	if c.Signing > SigningOff {
		return bad("Signing", c.Signing, "a SigningMode")
	}
	if c.Encryption > EncryptOff {
		return bad("Encryption", c.Encryption, "an EncryptionMode")
	}
	if c.Ciphers == nil {
		c.Ciphers = []Cipher{AES128GCM, AES128CCM, AES256GCM, AES256CCM}
	}
	c.Ciphers = slices.Clone(c.Ciphers)
	for _, v := range c.Ciphers {
		if smbcrypto.Cipher(v).KeySize() == 0 {
			return bad("Ciphers", v, "known")
		}
	}
	if c.SigningAlgorithms == nil {
		c.SigningAlgorithms = []SigningAlgorithm{AESGMAC, AESCMAC, HMACSHA256}
	}
	c.SigningAlgorithms = slices.Clone(c.SigningAlgorithms)
	for _, v := range c.SigningAlgorithms {
		if v > AESGMAC {
			return bad("SigningAlgorithms", v, "known")
		}
	}
	if c.RDMATransforms == nil {
		c.RDMATransforms = []RDMATransform{RDMAEncryption, RDMASigning}
	}
	c.RDMATransforms = slices.Clone(c.RDMATransforms)
	for _, v := range c.RDMATransforms {
		if v != RDMAEncryption && v != RDMASigning {
			return bad("RDMATransforms", v, "known")
		}
	}
	if c.MaxIOSize < 0 {
		return bad("MaxIOSize", c.MaxIOSize, "0 or more")
	}
	if c.MaxIOSize == 0 {
		c.MaxIOSize = math.MaxInt32
	}
	if c.POSIX > POSIXRequired {
		return bad("POSIX", c.POSIX, "a POSIXMode")
	}
	if c.Symlinks > SymlinkWSL {
		return bad("Symlinks", c.Symlinks, "a SymlinkForm")
	}
	if c.Window == 0 {
		c.Window = DefaultWindow
	}
	if c.Window < 1 || c.Window > maxWindow {
		return bad("Window", c.Window, "in 1..64")
	}
	switch {
	case c.ReadAhead == 0:
		c.ReadAhead = DefaultReadAhead
	case c.ReadAhead < 0:
		c.ReadAhead = 0
	case c.ReadAhead > 64<<20:
		return bad("ReadAhead", c.ReadAhead, "at most 64 MiB")
	}
	if c.MaxCredits == 0 {
		c.MaxCredits = DefaultMaxCredits
	}
	if c.MaxCredits < 1 || c.MaxCredits > 65535 {
		return bad("MaxCredits", c.MaxCredits, "in 1..65535")
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.CancelGrace == 0 {
		c.CancelGrace = DefaultCancelGrace
	}
	if err := c.Channels.setDefaults(); err != nil {
		return c, err
	}
	if err := c.Reconnect.setDefaults(); err != nil {
		return c, err
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.ClientGUID == ([16]byte{}) {
		rand.Read(c.ClientGUID[:]) // never fails: it ends the program first
	}
	return c, nil
}

// maxWindow is the largest Config.Window.
const maxWindow = 64

var allDialects = []Dialect{SMB202, SMB210, SMB300, SMB302, SMB311}

// String gives the usual name, such as "3.1.1".
func (d Dialect) String() string { return smb2.Dialect(d).String() }

// String gives the name of the specification, such as "AES-128-GCM".
func (c Cipher) String() string { return smbcrypto.Cipher(c).String() }

// String gives the name of the specification, such as "AES-GMAC".
func (a SigningAlgorithm) String() string { return smbcrypto.SigningAlgorithm(a).String() }
