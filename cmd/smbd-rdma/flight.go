package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/core"
)

const (
	// flightBurst deaths are told of at once, and then one for each flightPace:
	// peers can make connections die as fast as they can make them.
	flightBurst = 8
	flightPace  = 10 * time.Second
	// flightFiles is how many files there are at most in --flight-dir; the oldest is
	// written over.
	flightFiles = 64
)

// deaths counts the SMB Direct connections that died of an error, those among them
// that died in the negotiation, of which the server never hears.
type deaths struct {
	// Mistake: the peer broke a rule of [MS-SMBD]. Timeout: it was silent for too
	// long. Lost: the RDMA connection broke. Other is what is left.
	Mistake uint64 `json:"mistake"`
	Timeout uint64 `json:"timeout"`
	Lost    uint64 `json:"lost"`
	Other   uint64 `json:"other"`
}

func (n *deaths) count(d *smbdirect.Death) {
	var timeout *core.TimeoutError
	var lost *smbdirect.LostError
	_, _, mistake := d.Rule()
	switch {
	case mistake:
		n.Mistake++
	case errors.As(d.Cause, &timeout):
		n.Timeout++
	case errors.As(d.Cause, &lost):
		n.Lost++
	default:
		n.Other++
	}
}

// flightLog counts connections that died of an error and tells of them: in the log,
// or with the last events in a file. Its methods may be called by many goroutines.
type flightLog struct {
	log *slog.Logger
	dir string // empty: everything goes to the log
	now func() time.Time

	mu      sync.Mutex
	tokens  int       // guarded by mu, as all below
	filled  time.Time // when tokens were counted last
	skipped int       // deaths that nobody was told of since the last one
	written int       // files
	deaths  deaths    // all of them
}

func newFlightLog(log *slog.Logger, dir string) (*flightLog, error) {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("--flight-dir: %w", err)
		}
	}
	return &flightLog{log: log, dir: dir, now: time.Now, tokens: flightBurst}, nil
}

// counts returns what died so far.
func (f *flightLog) counts() deaths {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.deaths
}

// admit counts one more death, and reports whether to tell of it, how many were
// kept quiet about before it, and the file it goes to.
func (f *flightLog) admit(d *smbdirect.Death) (ok bool, skipped int, file string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deaths.count(d)
	now := f.now()
	if n := int(now.Sub(f.filled) / flightPace); n > 0 || f.filled.IsZero() {
		f.tokens = min(flightBurst, f.tokens+min(n, flightBurst))
		f.filled = now
	}
	if f.tokens == 0 {
		f.skipped++
		return false, 0, ""
	}
	f.tokens--
	skipped, f.skipped = f.skipped, 0
	if f.dir != "" {
		file = filepath.Join(f.dir, fmt.Sprintf("flight-%d-%02d.txt", os.Getpid(), f.written%flightFiles))
		f.written++
	}
	return true, skipped, file
}

// died is for smbdirect.Config.OnDeath.
func (f *flightLog) died(d *smbdirect.Death) {
	ok, skipped, file := f.admit(d)
	if !ok {
		return
	}
	attrs := []any{"peer", d.Remote, "provider", d.Provider, "lasted", d.Lasted.Round(time.Microsecond), "err", d.Cause,
		"send_credits", d.Stats.SendCredits, "receive_credits", d.Stats.ReceiveCredits, "rdma_outstanding", d.Stats.RDMAOutstanding}
	if section, field, ok := d.Rule(); ok {
		attrs = append(attrs, "section", "[MS-SMBD] "+section, "field", field)
	}
	if skipped > 0 {
		attrs = append(attrs, "not_told_of", skipped)
	}
	if file != "" {
		if err := os.WriteFile(file, []byte(flightText(d)), 0o600); err != nil {
			attrs = append(attrs, "flight_err", err)
			file = ""
		} else {
			attrs = append(attrs, "flight", file)
		}
	}
	if file == "" {
		attrs = append(attrs, "flight", d.Flight)
	}
	f.log.Warn("SMB Direct connection died", attrs...)
}

// flightText is a file about a death.
func flightText(d *smbdirect.Death) string {
	var b strings.Builder
	role := "acceptor"
	if d.Initiator {
		role = "initiator"
	}
	p, s := &d.Parameters, &d.Stats
	fmt.Fprintf(&b, "connection     %v to %v, %s, %s\n", d.Local, d.Remote, d.Provider, role)
	fmt.Fprintf(&b, "began          %s\n", d.Began.Format(time.RFC3339Nano))
	fmt.Fprintf(&b, "lasted         %v\n", d.Lasted.Round(time.Microsecond))
	fmt.Fprintf(&b, "died of        %v\n", d.Cause)
	if section, field, ok := d.Rule(); ok {
		fmt.Fprintf(&b, "rule           [MS-SMBD] %s, %s\n", section, field)
	}
	fmt.Fprintf(&b, "negotiated     send %d, receive %d, message out %d and in %d, read/write %d bytes; peer %q, %d reads\n",
		p.MaxSendSize, p.MaxReceiveSize, p.MaxFragmentedSendSize, p.MaxFragmentedRecvSize, p.MaxReadWriteSize, p.Peer, p.ReadLimit)
	fmt.Fprintf(&b, "credits        send %d, receive %d; granted %d, received %d; %d stalls of %v in all, %v at most\n",
		s.SendCredits, s.ReceiveCredits, s.CreditsGranted, s.CreditsReceived, s.CreditStalls, s.CreditStallTime, s.LongestCreditStall)
	fmt.Fprintf(&b, "messages       %d sends, %d receives\n", s.Sends, s.Receives)
	fmt.Fprintf(&b, "RDMA           %d writes of %d bytes, %d reads of %d bytes, %d under way\n",
		s.RDMAWrites, s.RDMABytesWritten, s.RDMAReads, s.RDMABytesRead, s.RDMAOutstanding)
	fmt.Fprintf(&b, "registrations  %d made, %d in use; %d tokens invalidated by the peer, %d by us\n\n",
		s.RegistrationsMade, s.Registrations, s.InvalidatedByPeer, s.InvalidatedLocally)
	b.WriteString("seconds, credits to send and to receive behind the event, event:\n")
	b.WriteString(d.Flight)
	return b.String()
}
