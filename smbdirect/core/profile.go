package core

import (
	"math/bits"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// Profile is what an engine and its user do differently for a kind of peer. It
// is chosen by what the peer says, in the private data of its connection and in
// the negotiation, never by configuration. Nothing else in this module knows peers
// by name.
type Profile struct {
	// Name is for logs: "any", "cifs.ko" or "ksmbd".
	Name string
	// MaxCreditsRequested bounds the CreditsRequested of our messages; 0 is no
	// bound.
	MaxCreditsRequested uint16
	// ReserveCredits is how many send credits are kept for messages that grant.
	ReserveCredits Credits
	// MaxFragmentedSize bounds the SMB2 messages to the peer in bytes, below what it
	// says; 0 is no bound.
	MaxFragmentedSize uint32
	// TransfersFitMessages bounds MaxReadWriteSize by what fits in one message to us,
	// for a peer that takes the one for the other; with Config.InlineData by what fits
	// in one to the peer, too.
	TransfersFitMessages bool
	// NoShortReads is for a peer that takes an answer to a READ which is shorter than
	// it asked for as the end of the file: what does not fit must be refused.
	NoShortReads bool
	// MinKeepaliveInterval and MinKeepaliveTimeout are floors for the settings.
	MinKeepaliveInterval, MinKeepaliveTimeout time.Duration
	// MaxDescriptors bounds the buffer descriptors in one request to the peer; 0
	// is no bound.
	MaxDescriptors int
}

// linuxReserve is for peers that spend their last credit without a grant, as both
// ends of Linux do: with long messages both ways we would be left without credits,
// as they are, and nobody could grant any more. Each credit in reserve gives the
// peer up to 255 to answer with, and it grants as soon as it has taken something.
const linuxReserve = 8

// The peers that need something of their own, Linux 6.12's.
var (
	profileAny = Profile{Name: "any"}

	// Linux's client keeps the receives of a message until it has all of it. Before
	// its MaxFragmentedSize was made half of what they hold it was 1 MiB, and a
	// message of that length never comes to an end: see clientProfile. It has 255
	// receives and tops up whenever it is asked for more than it has granted: a
	// target beyond that gets an empty message for each message of ours. It answers
	// a probe at once only while it has credits to give; else the answer waits for
	// its next message, and only its own idle timer of 120 s makes that sure to come.
	// What it would move by one RDMA transfer it asks for in one message, too, when
	// nothing goes by RDMA, for encryption without signing or below a threshold that is
	// set high. A message above the MaxFragmentedSize of the server it cannot send, and
	// tries again for ever, so it is told of no transfer that does not fit. An answer
	// that is cut short to fit its own MaxFragmentedSize it takes for the end of the
	// file, and the rest for zeros, where it reads into its page cache. Transfers that
	// fit there, too, cost all its mounts most of their speed to suit a few.
	profileCIFS = Profile{
		Name:                 "cifs.ko",
		MaxCreditsRequested:  255,
		ReserveCredits:       linuxReserve,
		TransfersFitMessages: true,
		NoShortReads:         true,
		MinKeepaliveInterval: 120 * time.Second,
		MinKeepaliveTimeout:  125 * time.Second,
	}

	// Linux's server grants no more than the 255 receives it has, and accounts
	// each descriptor of a request: one that needs more than its account ever
	// holds, which is nine, waits for ever.
	profileKSMBD = Profile{
		Name:                "ksmbd",
		MaxCreditsRequested: 255,
		ReserveCredits:      linuxReserve,
		MaxDescriptors:      8,
	}
)

// dataOverhead is more than what is around the data of a READ or WRITE in a message.
const dataOverhead = 4096

// transferFitting is the largest power of two, as the sizes of I/O usually are, that
// leaves room for what is around it in a message of n bytes, MinFragmentedSize or
// more. So it is at least the 64 KiB below which clients refuse a server, [MS-SMB2]
// 3.2.5.2.
func transferFitting(n uint32) uint32 { return 1 << (bits.Len32(n-dataOverhead) - 1) }

// What Linux says of itself: the size of its messages, and what half of 255
// receives of a size hold, which is its MaxFragmentedSize.
const linuxMessageSize = 1364

func linuxFragmentedSize(receiveSize uint32) uint64 { return 255 * uint64(receiveSize) / 2 }

// clientProfile knows cifs.ko by its request, and by read depths in the order of
// its host. Its settings can be changed, so each of three marks is enough: the
// order; its MaxFragmentedSize; messages as small to receive as to send, where
// Windows and we receive longer ones.
func clientProfile(r wire.NegotiateRequest, depths ReadDepths) Profile {
	if depths.HostOrder ||
		uint64(r.MaxFragmentedSize) == linuxFragmentedSize(linuxMessageSize) ||
		r.PreferredSendSize == linuxMessageSize && r.MaxReceiveSize == linuxMessageSize {
		p := profileCIFS
		p.MaxFragmentedSize = uint32(min(max(linuxFragmentedSize(r.MaxReceiveSize), MinFragmentedSize), 1<<31))
		return p
	}
	return profileAny
}

// serverProfile knows ksmbd by its response.
func serverProfile(r wire.NegotiateResponse) Profile {
	if uint64(r.MaxFragmentedSize) == linuxFragmentedSize(r.MaxReceiveSize) {
		return profileKSMBD
	}
	return profileAny
}

// What an initiator offers before it knows its peer suits them all: ksmbd refuses
// the least sizes of 3.1.5.6 themselves where the text allows them. (Of Windows
// servers comes [MaxPreferredSendSize].)
const (
	leastReceiveOffer    = MinMessageSize + 1
	leastFragmentedOffer = MinFragmentedSize + 1
)

// Offer is c with what an initiator raises that means to suit every peer.
func (c Config) Offer() Config {
	if c.Role == Active {
		c.MaxReceiveSize = max(c.MaxReceiveSize, leastReceiveOffer)
		c.MaxFragmentedRecvSize = max(c.MaxFragmentedRecvSize, leastFragmentedOffer)
	}
	return c
}
