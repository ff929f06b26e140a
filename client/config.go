package client

import (
	"log/slog"
	"time"
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
	DefaultRDMAThreshold = 4096
	DefaultMaxCredits    = 1024
	DefaultWindow        = 8
	DefaultTimeout       = 60 * time.Second
	DefaultCancelGrace   = 5 * time.Second
)

// Config says who logs on and how. The zero value of every field has a meaning;
// a Config is copied on entry and never written to.
type Config struct {
	// User, Password and Domain are the NTLM credentials, at most 256 characters
	// each. An empty User logs on anonymously. Domain may be empty.
	User, Password, Domain string
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

	// RDMAThreshold is the length in bytes of a READ or WRITE from which it goes
	// by RDMA, if the connection has it. 0 means DefaultRDMAThreshold, the value
	// of Windows; 1 means everything; negative means nothing.
	RDMAThreshold int
	// MaxIOSize bounds one READ or WRITE request, in bytes, beside the server's
	// own limits. 0 means no further bound.
	MaxIOSize int
	// Window is how many requests of one ReadAt or WriteAt that is longer than
	// one request may take are in flight together: 1 to 64, 0 means DefaultWindow.
	Window int
	// MaxCredits is how many credits the client asks the server for: 1 to 65535,
	// 0 means DefaultMaxCredits. A credit pays for 64 KiB in flight.
	MaxCredits int

	// Timeout bounds a request whose context has no deadline, except those that
	// wait for somebody else (Lock with Wait, Watcher.Next). 0 means
	// DefaultTimeout, negative means no bound.
	Timeout time.Duration
	// CancelGrace bounds how long a cancelled request waits for its answer before
	// memory that the server may reach by RDMA is revoked. 0 means
	// DefaultCancelGrace, negative means no wait.
	CancelGrace time.Duration
	// Logger gets what an operator acts on; nil means silence.
	Logger *slog.Logger
	// ClientGUID identifies the client machine; zero means a random one.
	ClientGUID [16]byte
}
