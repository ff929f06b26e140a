package ndktest

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Config says what to test, and what is known of it that AdapterInfo has no
// field for. The package comment says which fields to begin with.
type Config struct {
	// Column is the provider and device as the coverage table heads its column,
	// "iwarp" or "verbs, siw"; a run without one is not in the table. Variant tells
	// several runs of one column apart.
	Column, Variant string

	// Open opens two adapters that can reach each other, of one provider or of
	// two; required. The suite closes them. It may have cleanups of its own, which
	// run after that.
	Open func(t testing.TB) (active, passive ndk.Adapter)
	// Provider is that of the active adapter; required. What it opens at Local is
	// one more instance of that adapter, which shares its addresses.
	Provider func(t testing.TB) ndk.Provider
	// OpenImpatient is Open with time limits of the provider's own for the steps
	// of a connection of at most a second; nil leaves out nothing, but statements
	// on IOTimeout wait for the limits of Open.
	OpenImpatient func(t testing.TB) (active, passive ndk.Adapter)

	// Listen is where passive ends listen, with port 0; the zero value is
	// 127.0.0.1. Listen6, if valid, is an address of the passive adapter of the
	// other family: IPv6, unless Listen is.
	Listen, Listen6 netip.AddrPort
	// Local is an address of the active adapter; the zero value is that of Listen.
	Local netip.Addr
	// Foreign is an address that neither adapter owns; the zero value is 192.0.2.1,
	// or 2001:db8::1 if Listen is IPv6.
	Foreign netip.Addr
	// NoRoute is a destination to which there is no way; the zero value is
	// 255.255.255.255, or ff0e::1 if Listen is IPv6, which nothing connects to.
	NoRoute netip.AddrPort
	// Elsewhere, if valid, is an address of the family of Local that the active
	// adapter reaches, and that is not one of the adapter which Provider opens at
	// Local, though one of the same machine.
	Elsewhere netip.Addr
	// Silent makes a destination that the active adapter can send to and that
	// never answers a connection request; nil if the test machine has none.
	Silent func(t testing.TB) netip.AddrPort
	// FullAddress makes an address of both adapters, preferably of the family of
	// Listen, at which every port that the provider may choose is taken, for as
	// long as the test runs; nil where a test cannot take as many. Other tests run
	// on the same machine: it is an address that only this one uses, or a part of
	// the range that only adapters of this test choose from.
	FullAddress func(t testing.TB) netip.Addr

	// SendMeansDelivered says that a Send completes only when the peer's adapter
	// has the message.
	SendMeansDelivered bool
	// AcceptWaits says that Accept ends only after the peer's CompleteConnect;
	// elsewhere it may end before.
	AcceptWaits bool
	// ReadyByRead says that the handshake of the transport takes a Read of the
	// active side, so that the passive side's inbound read limit is at least 1.
	ReadyByRead bool
	// CloseDropsRequests says that a request which arrives in the moment in which
	// the listener closes may get no answer, so that its Connect fails with
	// IOTimeout and not with ConnectionRefused.
	CloseDropsRequests bool
	// DataPadded says that private data comes padded to the field of the transport.
	DataPadded bool
	// Unpinned says that memory under a registration need not be resident, so that
	// a test can register more than the machine has.
	Unpinned bool

	// Exhaust makes the next calls of a function of the header, named as there
	// ("NDK_FN_CREATE_PD"), on a and on what was made from it, find no resources,
	// until restore. It returns nil for a function that it cannot do that to, and
	// is nil where a test has no way at all.
	Exhaust func(t testing.TB, a ndk.Adapter, function string) (restore func())
	// FailCQ and FailSRQ break a queue as an internal error of the adapter does;
	// nil where a test has no way to do that.
	FailCQ  func(ndk.CQ)
	FailSRQ func(ndk.SRQ)
	// Misuse, if set, returns what a noticed of the consumer's mistakes since the
	// last call.
	Misuse func(a ndk.Adapter) []string
	// ParseReason unpacks a disconnect reason that stands for a Terminate message
	// of iWARP (RFC 5040 §4.8): its layer, error type and error code, and whether
	// the end that tells the reason sent it. nil where reasons are no such thing.
	ParseReason func(reason uint32) (layer, etype, code uint8, local, ok bool)
	// Leaks, if set, is asked after each statement, when both adapters of its test
	// are closed, for what the provider still holds: tokens, pinned memory, ports.
	// What it returns fails the statement.
	Leaks func() []string

	// Lacks names what the device cannot do, with the reason, by statement
	// ("NDK_FN_BIND/4") or by row ("NDK_FN_BIND"). It is for what no field of
	// AdapterInfo tells: a test asks those itself. Each reason stands in the
	// coverage table.
	Lacks map[string]string
}

// patience bounds every wait; a test that needs it has failed.
const patience = 30 * time.Second

func (c Config) withDefaults() Config {
	if !c.Listen.IsValid() {
		c.Listen = netip.MustParseAddrPort("127.0.0.1:0")
	}
	if !c.Local.IsValid() {
		c.Local = c.Listen.Addr()
	}
	v6 := c.Listen.Addr().Is6()
	if !c.Foreign.IsValid() {
		if c.Foreign = netip.MustParseAddr("192.0.2.1"); v6 {
			c.Foreign = netip.MustParseAddr("2001:db8::1")
		}
	}
	if !c.NoRoute.IsValid() {
		if c.NoRoute = netip.MustParseAddrPort("255.255.255.255:5445"); v6 {
			c.NoRoute = netip.MustParseAddrPort("[ff0e::1]:5445")
		}
	}
	if c.OpenImpatient == nil {
		c.OpenImpatient = c.Open
	}
	return c
}

// T is the test of one statement. Its Config is the one that Run was given, with
// defaults for what was not set and, until [T.Bare], adapters that are audited.
type T struct {
	*testing.T
	Config
	bare Config // without the auditing layer
	why  string // of NotOffered
}

// NotOffered ends the test: the device lacks what the statement is about. The
// caller has checked that the adapter says so itself and refuses the call.
func (t *T) NotOffered(format string, args ...any) {
	t.Helper()
	t.why = fmt.Sprintf(format, args...)
	t.Skip("not offered: " + t.why)
}

// Sub runs a case of the statement as a test of its own. If one case is not
// offered, the statement as a whole is not.
func (t *T) Sub(name string, f func(t *T)) {
	t.Helper()
	t.Run(name, func(tt *testing.T) {
		sub := &T{T: tt, Config: t.Config, bare: t.bare}
		defer func() {
			switch {
			case sub.why == "" && tt.Skipped():
				tt.Error("skipped; a statement is proved, or not offered by the device")
			case t.why == "":
				t.why = sub.why
			}
		}()
		f(sub)
	})
}

// tests has, for each row, the proof of each of its statements: the first is that
// of statement 1.
var tests = map[string][]func(t *T){}

// row registers the proofs of the statements of a row, in their order.
func row(name string, proofs ...func(t *T)) struct{} {
	if tests[name] != nil {
		panic("ndktest: two proofs of " + name)
	}
	tests[name] = proofs
	return struct{}{}
}

// Run proves every statement of every row, each in a subtest named after row
// and number, and writes what it found where ResultsEnv says.
func Run(t *testing.T, c Config) {
	if c.Open == nil || c.Provider == nil {
		t.Fatal("Config.Open and Config.Provider are required")
	}
	c = c.withDefaults()
	rows := Rows()
	known := make(map[string]bool)
	for _, r := range rows {
		known[r.Name] = true
		for i := range r.Statements {
			known[StatementID(r.Name, i+1)] = true
		}
	}
	for l, why := range c.Lacks {
		if !known[l] || strings.TrimSpace(why) == "" {
			t.Errorf("Lacks has %q: %q; it wants the name of a row or statement and a reason", l, why)
		}
	}
	// What a process makes once, as the descriptor that it waits on, is no leak.
	t.Run("first use", func(tt *testing.T) { (&T{T: tt, Config: c, bare: c}).Connected() })
	var results []Result
	for _, r := range rows {
		t.Run(r.Name, func(t *testing.T) {
			for i := range r.Statements {
				if res := c.prove(t, r, i); res.Outcome != "" {
					results = append(results, res)
				}
			}
		})
	}
	// An extension of this project, which the header has no row for.
	t.Run("FileWriterExtension", func(tt *testing.T) { filesAreWritten(&T{T: tt, Config: c.audited(), bare: c}) })
	if err := writeResults(c, results); err != nil {
		t.Errorf("results: %v", err)
	}
}

// prove runs the test of statement i+1 of r. There is no outcome if it was not
// asked for.
func (c Config) prove(t *testing.T, r Row, i int) Result {
	id := StatementID(r.Name, i+1)
	res := Result{Statement: id}
	proofs := tests[r.Name]
	before := holding()
	ok := t.Run(fmt.Sprint(i+1), func(tt *testing.T) {
		if i >= len(proofs) || proofs[i] == nil {
			tt.Fatalf("%s has no proof: %s", id, r.Statements[i])
		}
		for _, l := range []string{id, r.Name} {
			if why := c.Lacks[l]; why != "" {
				res.Outcome, res.Why = NotOffered, why
				tt.Skip("not offered: " + why)
			}
		}
		st := &T{T: tt, Config: c.audited(), bare: c}
		defer func() {
			switch {
			case tt.Failed():
				res.Outcome, res.Why = Failed, ""
			case st.why != "":
				res.Outcome, res.Why = NotOffered, st.why
			case tt.Skipped():
				tt.Errorf("%s was skipped; a statement is proved, or not offered by the device", id)
			default:
				res.Outcome, res.Why = Pass, ""
			}
		}()
		proofs[i](st)
	})
	left := c.settled(before)
	for _, l := range left {
		t.Errorf("%s: left after everything was closed: %s", id, l)
	}
	if !ok || len(left) > 0 { // a failure in a cleanup counts too
		res.Outcome, res.Why = Failed, ""
	}
	return res
}
