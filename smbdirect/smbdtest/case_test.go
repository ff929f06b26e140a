package smbdtest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// runOne plays a case of a test's own against an acceptor of ours in virtual time.
func runOne(t *testing.T, upper Upper, run func(t *T, s *Stream)) (res Result) {
	f := fabrics[0]
	f.run(t, func(t *testing.T) {
		f.served(t, Case{Name: t.Name(), Role: Acceptor, Run: func(_ context.Context, t *T) {
			run(t, t.Establish(PeerConfig{}, Request()))
		}}, upper, func(r Result) { res = r })
	})
	return res
}

// An end that always has one more thing to say does not keep a case for ever.
func TestCaseWithoutEnd(t *testing.T) {
	empty, err := wire.DataTransfer{CreditsRequested: 1}.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	res := runOne(t, Echo{}, func(t *T, s *Stream) {
		s.Window = 0
		for {
			time.Sleep(time.Second)
			s.inbox = append(s.inbox, Message{Data: empty})
			if _, err := s.Fragment(t.Times.React); err != nil {
				return
			}
		}
	})
	if res.Outcome != Fail || !strings.Contains(res.Why, "it has no end: given up after 8m20s") {
		t.Errorf("%s: %s", res.Outcome, res.Why)
	}
}

type notThere struct{ Echo }

func (notThere) Open(t *T, _ *Stream) Talk {
	t.Skipf("not there")
	return nil
}

// What failed stays failed when the connection behind it is skipped.
func TestFailureIsNotSkipped(t *testing.T) {
	res := runOne(t, notThere{}, func(t *T, _ *Stream) { t.Errorf("the failure") })
	if res.Outcome != Fail || !strings.Contains(res.Why, "the failure") {
		t.Errorf("%s: %s", res.Outcome, res.Why)
	}
}

// A case that does nothing proves nothing.
func TestEmptyCase(t *testing.T) {
	res := RunCase(t.Context(), Target{}, Case{Role: Initiator, Run: func(context.Context, *T) {}})
	if res.Outcome != Fail || !strings.Contains(res.Why, "no step") {
		t.Errorf("%s: %s", res.Outcome, res.Why)
	}
}

// Times that are not told, as those of a server of others, are what the
// specification has: our acceptor keeps them with its defaults.
func TestTimesOfAnyServer(t *testing.T) {
	f := fabrics[0]
	f.timed = Times{Patience: time.Hour}
	for _, c := range Cases(Acceptor) {
		if c.Timers {
			t.Run(c.Name, func(t *testing.T) { f.run(t, func(t *testing.T) { f.acceptor(t, c) }) })
		}
	}
}
