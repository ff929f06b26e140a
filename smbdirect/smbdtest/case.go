package smbdtest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Role is the end of a connection that a case tests.
type Role string

// The roles.
const (
	Acceptor  Role = "acceptor"
	Initiator Role = "initiator"
)

// Case is one conversation with an end under test.
type Case struct {
	// Name is that of Microsoft's case, if there is one, else one in the same form.
	Name string
	// Microsoft has the cases of Microsoft's suite that this one plays.
	Microsoft []string
	// Rows are those of rows.tsv that it proves.
	Rows []string
	// Spec is the section, "[MS-SMBD] 3.1.5.6".
	Spec string
	// Role is the end under test.
	Role Role
	// Timers says that it waits for timers of the end under test, so that own ends
	// get short ones.
	Timers bool
	// SMB2 says that it speaks SMB2 to the acceptor, and needs Target.Share.
	SMB2 bool
	// Doc says in a sentence what is done and expected.
	Doc string
	// Run plays the case. It runs on a goroutine of its own; ctx ends with it.
	Run func(ctx context.Context, t *T)
}

var registry []Case // in no order that means anything

// register adds cases. It is called while variables are initialised.
func register(cases ...Case) struct{} {
	for _, c := range cases {
		for _, have := range registry {
			if have.Name == c.Name && have.Role == c.Role {
				panic("smbdtest: two cases " + c.Name)
			}
		}
		if c.Name == "" || len(c.Rows) == 0 || c.Spec == "" || c.Doc == "" || c.Run == nil || c.Role != Acceptor && c.Role != Initiator {
			panic("smbdtest: incomplete case " + c.Name)
		}
		registry = append(registry, c)
	}
	return struct{}{}
}

// Cases returns the cases for one role, in the order of the rows.
func Cases(r Role) []Case {
	place := make(map[string]int)
	for i, row := range Rows() {
		place[row.ID] = i
	}
	var out []Case
	for _, c := range registry {
		if c.Role == r {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b Case) int { return place[a.Rows[0]] - place[b.Rows[0]] })
	return out
}

// Times are the time limits of the end under test, and how long it gets.
type Times struct {
	// Negotiate is its negotiation timer; 5 s for an acceptor, 120 s for an
	// initiator (SD-11, SD-10).
	Negotiate time.Duration
	// Keepalive is the time without messages after which it probes; 120 s.
	// KeepaliveAnswer is how long it waits for an answer then; 5 s.
	Keepalive, KeepaliveAnswer time.Duration
	// Credit is how long it waits for credits. 120 s is the most that it may, where
	// it is not known: then it may wait less.
	Credit time.Duration
	// React is how long it gets for what it has to do at once; 5 s. Quiet is how
	// long silence is watched where it has to do nothing; 1 s.
	React, Quiet time.Duration
	// Slack is how much earlier than a limit something is to be on time; 1 s.
	Slack time.Duration
	// Patience is the longest wait for a timer that a case begins; 30 s. With Slow
	// there is no limit.
	Patience time.Duration

	creditKnown bool // Credit was given
}

func (t Times) withDefaults(r Role) Times {
	set := func(v *time.Duration, def time.Duration) {
		if *v == 0 {
			*v = def
		}
	}
	if r == Initiator {
		set(&t.Negotiate, 120*time.Second)
	}
	set(&t.Negotiate, 5*time.Second)
	set(&t.Keepalive, 120*time.Second)
	set(&t.KeepaliveAnswer, 5*time.Second)
	t.creditKnown = t.Credit != 0
	set(&t.Credit, 120*time.Second)
	set(&t.React, 5*time.Second)
	set(&t.Quiet, time.Second)
	set(&t.Slack, time.Second)
	set(&t.Patience, 30*time.Second)
	return t
}

// Target says what is tested and how it is reached.
type Target struct {
	// Provider is the name of the provider, for results.
	Provider string
	// Adapter is that of our peers; it stays the caller's.
	Adapter ndk.Adapter
	// Address is where an acceptor under test listens.
	Address netip.AddrPort
	// Local is where our peers listen for an initiator under test, with port 0.
	Local netip.AddrPort
	// Dial lets the initiator under test connect to addr. Only own ends have it.
	Dial func(ctx context.Context, addr string) (transport.Conn, error)

	// OpenSMB2 opens a file as the SMB2 client under test. Only own ends have it.
	OpenSMB2 OpenSMB2

	// Upper is what the end under test has above SMB Direct.
	Upper Upper
	// Server, Share, User, Password and Domain are for cases that speak SMB2. Without
	// Share they are skipped.
	Server, Share, User, Password, Domain string
	// TCP is where the same server has SMB2 over TCP. Without it cases that compare
	// the two are skipped.
	TCP netip.AddrPort

	Times Times
	// Slow runs cases that wait longer than Times.Patience.
	Slow bool
	// Probe looks into the end under test; only own ends have it.
	Probe Probe
	// Limits are what is known of the settings of the end under test.
	Limits Limits
	// Log, if set, gets every step.
	Log func(format string, args ...any)
}

// Limits are settings of the end under test that no message tells.
type Limits struct {
	// ReceiveCreditMax is the most credits that it gives at a time; 0 is not known.
	ReceiveCreditMax int
}

// Probe has what only ends of this project let see.
type Probe struct {
	// Settled waits until nothing of earlier connections is left, and fails with
	// what is.
	Settled func(ctx context.Context) error
}

// Outcome is what a case found.
type Outcome string

// The outcomes.
const (
	Pass    Outcome = "pass"
	Fail    Outcome = "fail"
	Skipped Outcome = "skipped"
	// NotRun is that of a case before which the end under test did not answer, which
	// says nothing about the case.
	NotRun Outcome = "not run"
)

// Result is the outcome of one case.
type Result struct {
	Case    Case
	Outcome Outcome
	// Why is the reason of a skip, what was seen instead, or, of a case that passed,
	// what was left out of it.
	Why     string
	Elapsed time.Duration
	// Steps is the log.
	Steps []string
}

// Run runs the cases for role whose name or one of whose rows filter matches; nil
// matches all. each, if not nil, gets every result when it is there. It ends early
// with ctx. What an acceptor that an earlier case wedged does not answer says nothing
// about the case that meets it: cases before which it does not negotiate are not run.
func Run(ctx context.Context, tg Target, role Role, filter *regexp.Regexp, each func(Result)) []Result {
	var out []Result
	w := watch{tg: tg}
	for _, c := range Cases(role) {
		if ctx.Err() != nil {
			break
		}
		if !c.Match(filter) {
			continue
		}
		r := w.run(ctx, c)
		if each != nil {
			each(r)
		}
		out = append(out, r)
	}
	return out
}

// Match reports whether filter matches the name of c, one of its rows or one of
// Microsoft's names. nil matches.
func (c Case) Match(filter *regexp.Regexp) bool {
	if filter == nil || filter.MatchString(c.Name) {
		return true
	}
	for _, list := range [][]string{c.Rows, c.Microsoft} {
		for _, s := range list {
			if filter.MatchString(s) {
				return true
			}
		}
	}
	return false
}

// errTooLong ends a case whose waits, each of them bounded, find no end together: the
// end under test says something over and over.
var errTooLong = errors.New("smbdtest: the case is far beyond its time")

// limit is far above what a case takes.
func (t Times) limit(c Case) time.Duration {
	d := 100 * t.React
	if c.Timers {
		d += 3 * (t.Negotiate + t.Keepalive + t.KeepaliveAnswer + t.Credit)
	}
	return d
}

// RunCase runs one case, checks that nothing of it is left in an end that lets us
// see, and that an acceptor serves the next connection.
func RunCase(ctx context.Context, tg Target, c Case) Result {
	tg.Times = tg.Times.withDefaults(c.Role)
	limit := tg.Times.limit(c)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errTooLong)
	defer cancel()
	t := &T{Target: tg, Case: c, ctx: ctx, start: time.Now()}
	t.guard(func() {
		if c.SMB2 && tg.Share == "" {
			t.Skipf("needs a share")
		}
		c.Run(ctx, t)
		if len(t.steps) == 0 {
			t.Errorf("the case has no step")
		}
	})
	t.guard(t.cleanUp)
	if t.outcome != Skipped && ctx.Err() == nil {
		t.guard(t.after)
		t.guard(t.cleanUp)
	}
	switch err := context.Cause(ctx); {
	case errors.Is(err, errTooLong):
		t.Errorf("it has no end: given up after %v", limit)
	case err != nil:
		t.outcome, t.why = Skipped, []string{"interrupted: " + err.Error()}
	}
	if t.outcome == "" {
		t.outcome = Pass
		for _, s := range t.left {
			t.why = append(t.why, "left out: "+s)
		}
	}
	return Result{Case: c, Outcome: t.outcome, Why: strings.Join(t.why, "; "), Elapsed: time.Since(t.start), Steps: t.steps}
}

// T is one run of a case. Its methods are called on the goroutine of Run.
type T struct {
	Target
	Case    Case
	ctx     context.Context
	start   time.Time
	outcome Outcome
	why     []string
	left    []string // parts of the case that were left out
	steps   []string
	cleanup []func()
}

// guard runs f on a goroutine, so that Fatalf and Skipf can end it, and waits.
func (t *T) guard(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				t.Errorf("panic: %v\n%s", v, debug.Stack())
			}
		}()
		f()
	}()
	<-done
}

func (t *T) cleanUp() {
	for len(t.cleanup) > 0 {
		f := t.cleanup[len(t.cleanup)-1]
		t.cleanup = t.cleanup[:len(t.cleanup)-1]
		f()
	}
}

// Cleanup runs f after the case, the last one first.
func (t *T) Cleanup(f func()) { t.cleanup = append(t.cleanup, f) }

// Context ends with the case.
func (t *T) Context() context.Context { return t.ctx }

// Elapsed is the time since the case began.
func (t *T) Elapsed() time.Duration { return time.Since(t.start) }

// Logf notes a step.
func (t *T) Logf(format string, args ...any) {
	s := fmt.Sprintf("%8.3f  ", t.Elapsed().Seconds()) + fmt.Sprintf(format, args...)
	t.steps = append(t.steps, s)
	if t.Log != nil {
		t.Log("%s", s)
	}
}

// Errorf fails the case and goes on.
func (t *T) Errorf(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	t.outcome = Fail
	t.why = append(t.why, s)
	t.Logf("FAIL: %s", s)
}

// Fatalf fails the case and ends it.
func (t *T) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	runtime.Goexit()
}

// Must ends the case if err is not nil.
func (t *T) Must(what string, err error) {
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// Skipf ends the case with a reason, if it has not failed.
func (t *T) Skipf(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if t.outcome == "" {
		t.outcome, t.why = Skipped, append(t.why, s)
	}
	t.Logf("skipped: %s", s)
	runtime.Goexit()
}

// LeaveOut notes that a part of the case needs what the end under test has not.
func (t *T) LeaveOut(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	t.left = append(t.left, s)
	t.Logf("left out: %s", s)
}

// Waits skips the case if d is longer than the target's patience.
func (t *T) Waits(d time.Duration) {
	if !t.Slow && d > t.Times.Patience {
		t.Skipf("waits %v: run it with --slow", d.Round(time.Second))
	}
}

// after checks what holds behind every case.
func (t *T) after() {
	if settled := t.Probe.Settled; settled != nil {
		ctx, cancel := context.WithTimeout(t.ctx, requestTimeout)
		defer cancel()
		if err := settled(ctx); err != nil {
			t.Errorf("left behind: %v", err)
		}
	}
	if t.Case.Role == Acceptor && t.Upper != nil {
		outcome := t.outcome
		t.outcome = ""
		defer func() { // also where this ends early
			if t.outcome == "" || outcome == Fail {
				t.outcome = outcome
			}
		}()
		s := t.Establish(PeerConfig{}, Request())
		if err := exchange(t, s, t.Upper.Open(t, s), 0); err != nil {
			t.Errorf("the next connection is not served: %v", err)
		}
		s.Close()
	}
}

// Peer makes a Peer that the end of the case closes.
func (t *T) Peer(c PeerConfig) *Peer {
	p, err := NewPeer(t.ctx, t.Adapter, c)
	t.Must("peer", err)
	t.Cleanup(p.Close)
	p.stop = t.ctx.Done()
	return p
}

// Connect makes a connection to the acceptor under test with nothing sent. receives
// of size bytes are posted before.
func (t *T) Connect(c PeerConfig, receives, size int) *Stream {
	p := t.Peer(c)
	t.Must("post", p.PostReceives(receives, size))
	ctx, cancel := context.WithTimeout(t.ctx, 2*t.Times.React)
	defer cancel()
	err := p.Connect(ctx, t.Address)
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %v: %w", 2*t.Times.React, err)
	}
	t.Must("connect to "+t.Address.String(), err)
	t.Logf("connected to %v", t.Address)
	return NewStream(p)
}
