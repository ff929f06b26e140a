package core

import (
	"strconv"
	"testing"
)

// A Linux peer spends all its credits while the user is behind, and a long message
// waits: what goes out of the reserve lends the peer a credit each time, and half of
// the reserve is there for the grants that are due when the user has caught up. Else
// neither end could ever send again.
func TestQuirkReserveWhileBehind(t *testing.T) {
	r := run1(t, append(append([]string(nil), toCIFS...), "hold on", "submit 1 173910", "submit 2 173910", "submit 3 173910", "submit 4 173910")...)
	for range 20 {
		r.command("done " + strconv.Itoa(r.e.sendsOut))
	}
	c := r.e.Connection()
	if c.SendCredits != linuxReserve {
		t.Fatalf("%d credits left, want %d: %+v", c.SendCredits, linuxReserve, c)
	}
	// The peer's own message takes its last credit; it grants nothing.
	lent, spent := 0, 0
	for range 600 {
		if r.e.granted() == 0 {
			break
		}
		r.sent = nil
		r.command("data req=255 n=8")
		r.command("done " + strconv.Itoa(r.e.sendsOut))
		spent++
		for _, a := range r.sent {
			if a.Header.CreditsGranted != 1 {
				t.Errorf("message of the peer %d: a grant of %d, want a loan of 1", spent, a.Header.CreditsGranted)
			}
			lent++
		}
	}
	// 8 to 4: the answers lent four credits, each of which came back spent.
	if c = r.e.Connection(); c.SendCredits != linuxReserve/2 || lent != linuxReserve/2 || r.e.granted() != 0 {
		t.Fatalf("%d credits left after %d loans, the peer has %d: %+v", c.SendCredits, lent, r.e.granted(), c)
	}
	r.sent = nil
	r.command("hold off")
	if len(r.sent) == 0 || r.sent[0].Header.CreditsGranted < 200 {
		t.Fatalf("the user has caught up, and the peer gets nothing: %+v", r.sent)
	}
	r.sent = nil
	r.command("data req=255 grant=251").command("done " + strconv.Itoa(r.e.sendsOut))
	if len(r.sent) < 100 {
		t.Errorf("%d fragments with 251 credits more", len(r.sent))
	}
}

// While there is no room for another receive nothing is lent, and that is not asked
// for again and again.
func TestQuirkReserveWithoutReceives(t *testing.T) {
	r := run1(t, append(append([]string(nil), toCIFS...), "hold on", "submit 1 173910", "submit 2 173910")...)
	r.command("posts 0")
	for range 20 {
		r.command("done " + strconv.Itoa(r.e.sendsOut))
	}
	for r.e.granted() > 0 && r.e.Connection().Role == Established {
		r.command("data req=255 n=8")
	}
	if c := r.e.Connection(); c.Role != Closed && c.SendCredits != linuxReserve {
		t.Errorf("%+v", c)
	}
}
