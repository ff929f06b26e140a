package core

import (
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// The time without credits counts from when a message has to wait until one of
// its fragments goes out or it is given up, and not while nothing waits.
func TestStallTime(t *testing.T) {
	r := newRig(t, Config{Role: Passive, SendCreditTarget: 2, ReceiveCreditMax: 8})
	r.e.Start(r.now)
	r.run()
	b, _ := wire.NegotiateRequest{MinVersion: 0x100, MaxVersion: 0x100, CreditsRequested: 4, PreferredSendSize: 1024, MaxReceiveSize: 1024, MaxFragmentedSize: 131072}.AppendBinary(nil)
	r.e.Received(r.now, b, 0, false)
	r.run()
	grant := func(n uint16) {
		t.Helper()
		b, _ := wire.DataTransfer{CreditsRequested: 4, CreditsGranted: n}.AppendBinary(nil)
		r.e.Received(r.now, b, 0, false)
		r.run()
	}
	want := func(w Stalls) {
		t.Helper()
		if got := r.e.Stalls(); got != w {
			t.Fatalf("%+v, want %+v", got, w)
		}
	}
	r.e.SendCompleted(r.now, 1)
	r.run()
	want(Stalls{})
	begin := r.now
	if err := r.e.Submit(r.now, 1, 100, 0, false); err != nil { // nobody has granted anything
		t.Fatal(err)
	}
	r.run()
	want(Stalls{Count: 1, Since: begin})
	r.now += 3 * time.Second
	grant(1)
	want(Stalls{Count: 1, Total: 3 * time.Second, Longest: 3 * time.Second})
	r.now += time.Second // nothing waits
	begin = r.now
	if err := r.e.Submit(r.now, 2, 100, 0, false); err != nil {
		t.Fatal(err)
	}
	r.run()
	if s := r.e.Stalls(); s.Since != begin || s.Count != 2 {
		t.Fatalf("%+v, want a second one since %v", s, begin)
	}
	r.now += time.Second
	if !r.e.Cancel(r.now, 2) {
		t.Fatal("nothing to cancel")
	}
	want(Stalls{Count: 2, Total: 4 * time.Second, Longest: 3 * time.Second})
}
