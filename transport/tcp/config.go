package tcp

import (
	"fmt"
	"log/slog"
	"time"
)

// DefaultPort is the TCP port of direct hosting, [MS-SMB2] 2.1.
const DefaultPort = 445

// MaxMessageSize is the largest message that the 24-bit length of the prefix can
// announce.
const MaxMessageSize = 1<<24 - 1

// Defaults of Config.
const (
	// DefaultMaxReceiveSize holds 8 MiB of payload with every header around it.
	DefaultMaxReceiveSize = 8<<20 + 64<<10
	DefaultMaxConns       = 4096
	DefaultKeepAlive      = 60 * time.Second
)

// Config has the settings of a Listener, Dialer or Conn. The zero value is ready
// for use. It is copied, never written to.
type Config struct {
	// MaxReceiveSize is the largest message in bytes that the peer may send, 64
	// to MaxMessageSize; a longer one ends the connection before a byte of it is
	// read. 0 means DefaultMaxReceiveSize.
	MaxReceiveSize int
	// MaxConns is the number of open connections of one Listener; a connection
	// above it is closed as soon as it comes in. 0 means DefaultMaxConns,
	// negative no limit. Dialers do not look at it.
	MaxConns int
	// KeepAlive is the idle time after which TCP probes the peer. 0 means
	// DefaultKeepAlive, negative turns probes off.
	KeepAlive time.Duration
	// Logger gets what an operator should know; nil discards it.
	Logger *slog.Logger
}

// check fills in the defaults of a copy of c.
func (c Config) check() (Config, error) {
	if c.MaxReceiveSize == 0 {
		c.MaxReceiveSize = DefaultMaxReceiveSize
	}
	if c.MaxReceiveSize < 64 || c.MaxReceiveSize > MaxMessageSize {
		return c, fmt.Errorf("tcp: Config.MaxReceiveSize %d is not in 64..%d", c.MaxReceiveSize, MaxMessageSize)
	}
	if c.MaxConns == 0 {
		c.MaxConns = DefaultMaxConns
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = DefaultKeepAlive
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
