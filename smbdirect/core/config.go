package core

import (
	"fmt"
	"time"
)

// Limits of the specification.
const (
	// MinMessageSize is the least MaxReceiveSize of a peer, 3.1.5.6.
	MinMessageSize = 128
	// MinFragmentedSize is the least MaxFragmentedSize of a peer, 3.1.5.6.
	MinFragmentedSize = 131072
	// NegotiateReceiveSize is the size of the receive posted for a negotiate
	// message, 3.1.4.1 and 3.1.7.2.
	NegotiateReceiveSize = 512
	// MaxPreferredSendSize is the largest PreferredSendSize that Windows servers
	// take, 3.1.5.6 note 6.
	MaxPreferredSendSize = 8136
)

// Config has the settings of an engine. Zero values stand for the defaults given.
type Config struct {
	// Role is Active for the initiator or Passive for the acceptor.
	Role Role
	// ReceiveCreditMax bounds the receives posted for the peer, 1 to 65535; 255.
	ReceiveCreditMax uint16
	// SendCreditTarget is how many credits the peer is asked for, 1 to 65535;
	// 255. A [Profile] may lower it.
	SendCreditTarget uint16
	// MaxSendSize is the largest message to send, 128 to 8136 bytes; 1364.
	MaxSendSize uint32
	// MaxReceiveSize is the largest message to receive, 128 to 1 MiB; 8192.
	MaxReceiveSize uint32
	// MaxFragmentedRecvSize is the largest SMB2 message to receive, 131072 bytes
	// to 16 MiB; 1048576.
	MaxFragmentedRecvSize uint32
	// MaxReadWriteSize is the largest RDMA transfer in bytes, a multiple of
	// 4096; 8388608.
	MaxReadWriteSize uint32
	// InlineData says that the data of READ and WRITE is going to be in messages, as
	// where everything is encrypted; see [Profile].TransfersFitMessages.
	InlineData bool
	// NegotiateTimeout bounds the negotiation; 120 s for the initiator and 5 s
	// for the acceptor, 3.1.4.1 and 3.1.7.2.
	NegotiateTimeout time.Duration
	// KeepaliveInterval is the time without a message from the peer after which
	// it is probed; 120 s, 3.1.2.2.
	KeepaliveInterval time.Duration
	// KeepaliveTimeout is the time that the peer has to answer; 5 s, 3.1.5.1.
	KeepaliveTimeout time.Duration
	// CreditTimeout is how long something may wait for the peer's credits; 60 s.
	CreditTimeout time.Duration
	// GrantDelay holds back the grants that need not be prompt; 5 ms.
	GrantDelay time.Duration
	// SendDepth is the number of sends under way, 2 or more; 128.
	SendDepth int
	// QueueDepth is the number of messages that wait in SendQueue; 256.
	QueueDepth int
}

// check fills in defaults and returns an error that names a bad field.
func (c Config) check() (Config, error) {
	def16 := func(v *uint16, d uint16) {
		if *v == 0 {
			*v = d
		}
	}
	def32 := func(v *uint32, d uint32) {
		if *v == 0 {
			*v = d
		}
	}
	defTime := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	defInt := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def16(&c.ReceiveCreditMax, 255)
	def16(&c.SendCreditTarget, 255)
	def32(&c.MaxSendSize, 1364)
	def32(&c.MaxReceiveSize, 8192)
	def32(&c.MaxFragmentedRecvSize, 1<<20)
	def32(&c.MaxReadWriteSize, 8<<20)
	if c.Role == Active {
		defTime(&c.NegotiateTimeout, 120*time.Second)
	}
	defTime(&c.NegotiateTimeout, 5*time.Second)
	defTime(&c.KeepaliveInterval, 120*time.Second)
	defTime(&c.KeepaliveTimeout, 5*time.Second)
	defTime(&c.CreditTimeout, 60*time.Second)
	defTime(&c.GrantDelay, 5*time.Millisecond)
	defInt(&c.SendDepth, 128)
	defInt(&c.QueueDepth, 256)

	if c.Role != Active && c.Role != Passive {
		return c, fmt.Errorf("smbdirect/core: Config.Role %v is neither ACTIVE nor PASSIVE", c.Role)
	}
	for _, f := range []struct {
		name       string
		v, lo, hi  uint64
		multipleOf uint64
	}{
		{"MaxSendSize", uint64(c.MaxSendSize), MinMessageSize, MaxPreferredSendSize, 1},
		{"MaxReceiveSize", uint64(c.MaxReceiveSize), MinMessageSize, 1 << 20, 1},
		{"MaxFragmentedRecvSize", uint64(c.MaxFragmentedRecvSize), MinFragmentedSize, 16 << 20, 1},
		{"MaxReadWriteSize", uint64(c.MaxReadWriteSize), 4096, 1 << 30, 4096},
		{"SendDepth", uint64(c.SendDepth), 2, 1 << 20, 1},
		{"QueueDepth", uint64(c.QueueDepth), 1, 1 << 20, 1},
	} {
		if f.v < f.lo || f.v > f.hi || f.v%f.multipleOf != 0 {
			return c, fmt.Errorf("smbdirect/core: Config.%s %d is not in %d..%d, a multiple of %d", f.name, int64(f.v), f.lo, f.hi, f.multipleOf)
		}
	}
	for _, f := range []struct {
		name string
		v    time.Duration
	}{
		{"NegotiateTimeout", c.NegotiateTimeout}, {"KeepaliveInterval", c.KeepaliveInterval},
		{"KeepaliveTimeout", c.KeepaliveTimeout}, {"CreditTimeout", c.CreditTimeout}, {"GrantDelay", c.GrantDelay},
	} {
		if f.v < 0 {
			return c, fmt.Errorf("smbdirect/core: Config.%s %v is negative", f.name, f.v)
		}
	}
	return c, nil
}
