package server

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/ntlm"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/spnego"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
)

// What the delays are after a number of failures.
func TestGuessSpacing(t *testing.T) {
	for _, c := range []struct {
		failures int
		want     time.Duration
	}{
		{0, 0}, {4, 0},
		{5, 100 * time.Millisecond}, {6, 200 * time.Millisecond}, {8, 800 * time.Millisecond},
		{10, 2 * time.Second}, {1000, 2 * time.Second},
	} {
		if got := (&guessEntry{failures: c.failures}).spacing(); got != c.want {
			t.Errorf("after %d failures %v, want %v", c.failures, got, c.want)
		}
	}
}

func TestGuessing(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var g guessTable
	slot := func(source, user string) time.Duration {
		t.Helper()
		wait, ok := g.slot(source, user, now)
		if !ok {
			return -1
		}
		return wait
	}
	for range 10 {
		g.failed("a", "ann", now)
	}
	// One after the other, however many come at once.
	for i, want := range []time.Duration{2 * time.Second, 4 * time.Second, 6 * time.Second} {
		if got := slot("a", "ann"); got != want {
			t.Errorf("attempt %d waits %v, want %v", i, got, want)
		}
	}
	if got := slot("a", "bob"); got != 8*time.Second {
		t.Errorf("another user from there waits %v", got)
	}
	if got := slot("b", "ann"); got != 0 {
		t.Errorf("the user from elsewhere waits %v", got)
	}
	for range 20 {
		slot("a", "ann")
	}
	if got := slot("a", "ann"); got != -1 {
		t.Errorf("an endless queue: the last waits %v", got)
	}
	// The right password helps the user, not others from there.
	g.succeeded("a", "ann", now)
	for range 3 {
		if got := slot("a", "ann"); got != 0 {
			t.Errorf("who has logged on from there waits %v", got)
		}
	}
	if got := slot("a", "bob"); got != -1 {
		t.Errorf("the source is forgotten: another user waits %v", got)
	}
	now = now.Add(30 * time.Second)
	slot("a", "bob")
	if got := slot("a", "bob"); got != 2*time.Second {
		t.Errorf("after the queue has gone an attempt waits %v", got)
	}
	now = now.Add(10 * guessHalf)
	slot("a", "bob")
	if got := slot("a", "bob"); got != 0 {
		t.Errorf("after ten minutes an attempt waits %v", got)
	}
}

// Names that are made up do not fill the memory, nor push out who guesses.
func TestGuessTableIsBounded(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var g guessTable
	for range 20 {
		g.failed("a", "ann", now)
	}
	for i := range 2 * maxGuesses {
		g.failed(fmt.Sprint(i), fmt.Sprint(i), now)
		g.succeeded("b", fmt.Sprint(i), now.Add(time.Duration(i)))
	}
	if len(g.sources) > maxGuesses || len(g.users) > maxGuesses || len(g.known) > maxGuesses {
		t.Errorf("%d sources, %d users, %d known", len(g.sources), len(g.users), len(g.known))
	}
	if g.sources[guessKey{source: "a"}] == nil || g.users[guessKey{"a", "ann"}] == nil {
		t.Error("who guesses most has been forgotten")
	}
}

// Over the wire: after a few wrong passwords each attempt waits for its turn, a right one
// too, and who comes from elsewhere does not.
func TestGuessingIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, memconn.Config{}, nil)
		try := func(password string) (time.Duration, ntstatus.Status) {
			p := s.dial()
			p.negotiate(smb2.DialectSMB311)
			start := time.Now()
			st := p.logon("ann", password)
			p.c.Close()
			return time.Since(start), st
		}
		const ms = time.Millisecond
		for i, wait := range []time.Duration{0, 0, 0, 0, 0, 100 * ms, 200 * ms, 400 * ms} {
			got, st := try("wrong")
			want(t, "a wrong password", st, ntstatus.LogonFailure)
			if got != wait {
				t.Errorf("attempt %d was answered after %v, want %v", i+1, got, wait)
			}
		}
		if got, st := try("secret"); st != ntstatus.Success || got != 800*ms {
			t.Errorf("the right password: %v after %v", st, got)
		}
	})
}

// Who shows again who he is, has to wait for that, and loses the channel meanwhile, is who
// he was: nothing has failed, and the session goes on by its other channel.
func TestReauthenticationOnALostChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var audited []AuditEvent
		s := newSite(t, memconn.Config{}, func(c *Config) {
			multichannel(c)
			c.Audit = func(e AuditEvent) {
				mu.Lock()
				defer mu.Unlock()
				audited = append(audited, e)
			}
		})
		p := s.login(smb2.DialectSMB311).mustConnect("data")
		id := p.openFile("f")
		q := p.bound()
		failures := s.srv.Stats().LogonFailures
		who := &ntlm.Client{User: "ann", Password: "secret", Domain: "NAS"}
		init := spnego.NewInitiator(q.neg.SecurityBuffer, who)
		q.sid = p.sid
		var in []byte
		for leg := range 2 {
			token, _, err := init.Step(in)
			if err != nil {
				t.Fatal(err)
			}
			if leg == 1 { // others have guessed at the password
				for _, c := range s.srv.allConns() {
					for range 20 {
						s.srv.guesses.failed(sourceOf(c.tc), foldName("ann"), time.Now())
					}
				}
			}
			h := q.header(smb2.CommandSessionSetup)
			h.TreeID = 0
			q.post(h, &smb2.SessionSetupRequest{SecurityMode: 1, SecurityBuffer: token})
			if leg == 1 {
				break
			}
			r, msg := q.answer()
			want(t, "the first leg", r.Status, ntstatus.MoreProcessingRequired)
			resp, err := smb2.ParseSessionSetupResponse(msg)
			if err != nil {
				t.Fatal(err)
			}
			in = resp.SecurityBuffer
		}
		synctest.Wait() // until it waits for its turn
		q.c.Close()
		synctest.Wait()
		st, _ := p.do(smb2.CommandClose, &smb2.CloseRequest{FileID: id})
		want(t, "CLOSE by the other channel", st, ntstatus.Success)
		mu.Lock()
		defer mu.Unlock()
		for _, e := range audited {
			if e.Status != ntstatus.Success {
				t.Errorf("audited as refused: %+v", e)
			}
		}
		if n := s.srv.Stats().LogonFailures; n != failures {
			t.Errorf("%d logons are counted as failed", n-failures)
		}
	})
}
