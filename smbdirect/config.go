package smbdirect

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/core"
)

// Ports of SMB Direct, [MS-SMBD] 1.9.
const (
	// DefaultIWARPPort is the TCP port on iWARP, where 445 belongs to direct
	// hosting.
	DefaultIWARPPort = 5445
	// DefaultPort is the port on InfiniBand and RoCE, whose port numbers are not
	// those of TCP.
	DefaultPort = 445
)

// MaxDescriptors is the largest number of buffer descriptors in one transfer:
// what fits into the 16-bit length of an SMB2 READ or WRITE.
const MaxDescriptors = 65535 / 16

// Config has the settings of a Listener or Dialer. A zero field stands for the
// default given with it. It is copied, never written to.
type Config struct {
	// ReceiveCreditMax bounds the messages that the peer may have on the way,
	// 1 to 65535; 255. Each costs MaxReceiveSize bytes. Where the adapter is software, and
	// neither this nor MaxSendSize, MaxReceiveSize and SendDepth is given, messages hold
	// 4 KiB of data with its headers, and there are fewer of them in as much memory: 160
	// of 4352 bytes received, 64 sent.
	ReceiveCreditMax int
	// SendCreditTarget is the number of credits asked of the peer, 1 to 65535;
	// 255. Linux is never asked for more than 255.
	SendCreditTarget int
	// MaxSendSize is the largest message sent, 128 to 8136 bytes; 1364. The peer
	// may lower it. 24 bytes of it are header. With less than 1029 a Dialer has no
	// connection with Linux's server, whose answer breaks [MS-SMBD] 3.1.5.3 then.
	MaxSendSize int
	// MaxReceiveSize is the largest message received, 128 bytes to 1 MiB; 2048. A
	// Dialer takes at least 129.
	MaxReceiveSize int
	// MaxFragmentedRecvSize is the largest SMB2 message received, 128 KiB, a Dialer
	// 1 byte more, to 16 MiB; 1 MiB and 64 KiB, which holds a MiB of payload with its headers: a
	// library that knows no RDMA sends that inline, see NetConn.
	MaxFragmentedRecvSize int
	// MaxReadWriteSize is the largest RDMA transfer, a multiple of 4 KiB up to
	// 64 MiB; 8 MiB. Linux's client is told of no more than fits in a message to us,
	// 1 MiB by default, as it takes the one for the other.
	MaxReadWriteSize int
	// InlineData says that clients are going to have their data in messages, not by
	// RDMA, as those that have to encrypt it; false. Linux's client is told of no
	// transfer then that does not fit in a message to it, 128 KiB with its settings.
	InlineData bool

	// NegotiateTimeout bounds the set-up of a connection; 120 s for a Dialer, 5 s
	// for a Listener.
	NegotiateTimeout time.Duration
	// KeepaliveInterval is the time without a message from the peer after which
	// it is probed; 120 s. KeepaliveTimeout is the time to answer; 5 s. Linux's
	// client gets at least 120 s and 125 s.
	KeepaliveInterval, KeepaliveTimeout time.Duration
	// CreditTimeout ends a connection whose peer gives no credits while messages
	// wait; 60 s.
	CreditTimeout time.Duration
	// TransferTimeout ends a connection on which RDMA Reads and Writes are under
	// way and none was completed for this time; 60 s. A peer that is awake but
	// answers no Read would keep leased buffers, which all connections share.
	TransferTimeout time.Duration
	// CloseTimeout bounds the graceful end of a connection; 1 s.
	CloseTimeout time.Duration

	// SendDepth is the number of messages that may be posted and not completed, 2
	// to 4096; 128.
	SendDepth int
	// TransferDepth is the number of RDMA Reads and Writes that may be posted and
	// not completed, 1 to 4096; 128.
	TransferDepth int
	// Registrations is the number of memory registrations in use at a time, 1 to
	// 4096; 128. A buffer that the adapter cannot register as one needs several.
	Registrations int
	// InboundReadLimit and OutboundReadLimit are the RDMA Reads that the peer and
	// we may have under way, 1 to 255; 32. Adapter and peer may lower them.
	InboundReadLimit, OutboundReadLimit int

	// Memory bounds the leased buffers of all connections of a Listener together,
	// or of each connection of a Dialer, in bytes, at least MaxReadWriteSize rounded
	// up to a power of two; 64 MiB.
	Memory int64
	// ReceiveBacklog is the number of bytes in messages that Receive has not
	// taken after which the peer gets no more credits; 4 MiB.
	ReceiveBacklog int

	// MaxPending bounds the connections of a Listener that are being set up; 256.
	// When there are more the oldest is dropped.
	MaxPending int
	// MaxConns bounds the open connections of a Listener; 4096, negative for no
	// limit. One above it is rejected.
	MaxConns int

	// OnDeath is told of each connection that died of an error, by a goroutine of
	// that connection before its Close returns; nil for nobody. A peer can make
	// connections die, so what it does must be bounded.
	OnDeath func(*Death)
	// Logger gets what an operator should know, and at level Debug why
	// connections died; nil discards it.
	Logger *slog.Logger

	plain bool // the messages' sizes and numbers were not given
}

// Messages of software, where each costs its header, a receive and a credit, however short
// it is: a READ or WRITE of 4 KiB is one, encrypted too, and not four.
const (
	softwareMessage = 4352 // 17/16 of 4 KiB, a multiple of a cache line
	softwareCredits = 160
	softwareSends   = 64
)

// software is c for a connection on an adapter in software.
func (c Config) software() Config {
	if c.plain {
		c.MaxSendSize, c.MaxReceiveSize = softwareMessage, softwareMessage
		c.ReceiveCreditMax, c.SendDepth = softwareCredits, softwareSends
	}
	return c
}

// check fills in defaults and returns an error that names a bad field.
func (c Config) check() (Config, error) {
	c.plain = c.MaxSendSize == 0 && c.MaxReceiveSize == 0 && c.ReceiveCreditMax == 0 && c.SendDepth == 0
	for _, f := range []struct {
		name       string
		v          *int
		def        int
		lo, hi, of int
	}{
		{"ReceiveCreditMax", &c.ReceiveCreditMax, 255, 1, 65535, 1},
		{"SendCreditTarget", &c.SendCreditTarget, 255, 1, 65535, 1},
		{"MaxSendSize", &c.MaxSendSize, 1364, core.MinMessageSize, core.MaxPreferredSendSize, 1},
		{"MaxReceiveSize", &c.MaxReceiveSize, 2048, core.MinMessageSize, 1 << 20, 1},
		{"MaxFragmentedRecvSize", &c.MaxFragmentedRecvSize, 1<<20 + 64<<10, core.MinFragmentedSize, 16 << 20, 1},
		{"MaxReadWriteSize", &c.MaxReadWriteSize, 8 << 20, 4096, 64 << 20, 4096},
		{"SendDepth", &c.SendDepth, 128, 2, 4096, 1},
		{"TransferDepth", &c.TransferDepth, 128, 1, 4096, 1},
		{"Registrations", &c.Registrations, 128, 1, 4096, 1},
		{"InboundReadLimit", &c.InboundReadLimit, 32, 1, 255, 1},
		{"OutboundReadLimit", &c.OutboundReadLimit, 32, 1, 255, 1},
		{"ReceiveBacklog", &c.ReceiveBacklog, 4 << 20, 1, 1 << 30, 1},
		{"MaxPending", &c.MaxPending, 256, 1, 1 << 16, 1},
	} {
		if *f.v == 0 {
			*f.v = f.def
		}
		if *f.v < f.lo || *f.v > f.hi || *f.v%f.of != 0 {
			return c, fmt.Errorf("smbdirect: Config.%s %d is not in %d..%d or not a multiple of %d", f.name, *f.v, f.lo, f.hi, f.of)
		}
	}
	for _, f := range []struct {
		name string
		v    *time.Duration
		def  time.Duration // 0: the engine has it
	}{
		{"NegotiateTimeout", &c.NegotiateTimeout, 0},
		{"KeepaliveInterval", &c.KeepaliveInterval, 120 * time.Second},
		{"KeepaliveTimeout", &c.KeepaliveTimeout, 5 * time.Second},
		{"CreditTimeout", &c.CreditTimeout, 60 * time.Second},
		{"TransferTimeout", &c.TransferTimeout, 60 * time.Second},
		{"CloseTimeout", &c.CloseTimeout, time.Second},
	} {
		if *f.v == 0 {
			*f.v = f.def
		}
		if *f.v < 0 {
			return c, fmt.Errorf("smbdirect: Config.%s %v is negative", f.name, *f.v)
		}
	}
	if c.Memory == 0 {
		c.Memory = 64 << 20
	}
	if least := int64(classSize(c.MaxReadWriteSize)); c.Memory < least || c.Memory > 1<<40 {
		return c, fmt.Errorf("smbdirect: Config.Memory %d is not in %d..%d", c.Memory, least, int64(1)<<40)
	}
	if c.MaxConns == 0 {
		c.MaxConns = 4096
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// engine is the part of c that the protocol engine needs.
func (c *Config) engine(role core.Role) core.Config {
	return core.Config{
		Role:                  role,
		ReceiveCreditMax:      uint16(c.ReceiveCreditMax),
		SendCreditTarget:      uint16(c.SendCreditTarget),
		MaxSendSize:           uint32(c.MaxSendSize),
		MaxReceiveSize:        uint32(c.MaxReceiveSize),
		MaxFragmentedRecvSize: uint32(c.MaxFragmentedRecvSize),
		MaxReadWriteSize:      uint32(c.MaxReadWriteSize),
		InlineData:            c.InlineData,
		NegotiateTimeout:      c.NegotiateTimeout,
		KeepaliveInterval:     c.KeepaliveInterval,
		KeepaliveTimeout:      c.KeepaliveTimeout,
		CreditTimeout:         c.CreditTimeout,
		SendDepth:             c.SendDepth,
		QueueDepth:            sendQueueDepth,
	}.Offer()
}

// negotiateTimeout is the time for a whole set-up, 3.1.4.1 and 3.1.7.2.
func (c *Config) negotiateTimeout(role core.Role) time.Duration {
	switch {
	case c.NegotiateTimeout > 0:
		return c.NegotiateTimeout
	case role == core.Active:
		return 120 * time.Second
	}
	return 5 * time.Second
}
