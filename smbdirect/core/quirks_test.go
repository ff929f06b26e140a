package core

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// What peers say in their negotiation, as seen on the wire.
const (
	cifsRequest     = "request req=255 pref=1364 recv=1364 frag=173910"
	cifsOldRequest  = "request req=255 pref=1364 recv=1364 frag=1048576"
	cifsTuned       = "request req=7 pref=1000 recv=4096 frag=173910"
	windowsRequest  = "request req=255 pref=1364 recv=8192 frag=1048576"
	ourRequest      = "request req=255 pref=1364 recv=2048 frag=1114112"
	ksmbdResponse   = "response req=255 grant=254 rw=8388608 pref=1364 recv=1364 frag=173910"
	windowsResponse = "response req=255 grant=255 rw=8388608 pref=1364 recv=8192 frag=1048576"
	ourResponse     = "response req=255 grant=254 rw=8388608 pref=1364 recv=2048 frag=1114112"

	// Our defaults as an end.
	ourServer = "new passive max=255 target=255 send=1364 recv=2048 frag=1114112 rw=8388608"
	// Where the data is encrypted.
	inlineServer = ourServer + " inline=1"
	ourClient    = "new active max=255 target=255 send=1364 recv=2048 frag=1114112 rw=8388608"
)

// toCIFS and toKSMBD are connections that are established and have credits.
var (
	toCIFS  = []string{ourServer, cifsRequest, "data req=255 grant=255"}
	toKSMBD = []string{ourClient, "up", ksmbdResponse}
)

func after(setup []string, lines ...string) []string {
	return append(append([]string{}, setup...), lines...)
}

// SD-111, SD-112 and 2: the header of the private data, in both orders.
func TestQuirkReadDepths(t *testing.T) {
	for _, tc := range []struct {
		name, private string
		want          ReadDepths
		ok            bool
	}{
		{"network order", "0000001000000010", ReadDepths{IRD: 16, ORD: 16}, true},
		{"cifs.ko 6.12: order of its host", "2000000001000000", ReadDepths{IRD: 32, ORD: 1, HostOrder: true}, true},
		{"newer cifs.ko", "0000002000000001", ReadDepths{IRD: 32, ORD: 1}, true},
		{"absurd in either order", "0000800000000001", ReadDepths{IRD: 255, ORD: 1}, true},
		{"largest of RFC 6581", "00003fff00000001", ReadDepths{IRD: 255, ORD: 1}, true},
		{"all ones", "ffffffffffffffff", ReadDepths{IRD: 255, ORD: 255}, true},
		{"short", "00000010000000", ReadDepths{}, false},
		{"none", "", ReadDepths{}, false},
		{"more behind it", "000000000000000affff", ReadDepths{ORD: 10}, true},
	} {
		b, _ := hex.DecodeString(tc.private)
		if d, ok := ParseReadDepths(b); ok != tc.ok || d != tc.want {
			t.Errorf("%s: %+v, %v; want %+v", tc.name, d, ok, tc.want)
		}
	}
	for _, tc := range []struct {
		d       ReadDepths
		in, out int
		reads   int
		reply   uint32
		ok      bool
	}{
		{ReadDepths{IRD: 16, ORD: 16}, 32, 8, 8, 8, true},
		{ReadDepths{IRD: 4, ORD: 16}, 32, 8, 4, 4, true},
		{ReadDepths{IRD: 32, ORD: 1, HostOrder: true}, 32, 32, 32, 32, true},
		{ReadDepths{IRD: 255, ORD: 255}, 1, 32, 32, 1, true},
		{ReadDepths{IRD: 1, ORD: 1}, 0, 0, 0, 1, true},
		{ReadDepths{IRD: 0, ORD: 1}, 32, 32, 0, 0, false},
		{ReadDepths{IRD: 1, ORD: 0}, 32, 32, 0, 0, false},
	} {
		reads, reply, ok := AcceptReadDepths(tc.d, tc.in, tc.out)
		if reads != tc.reads || reply != (ReadDepths{IRD: tc.reply, ORD: tc.reply}) || ok != tc.ok {
			t.Errorf("accept %+v: %d, %+v, %v", tc.d, reads, reply, ok)
		}
	}
	for _, tc := range []struct {
		d           ReadDepths
		limit, want int
	}{
		{ReadDepths{IRD: 1, ORD: 8}, 32, 1}, // ksmbd: its own side first
		{ReadDepths{IRD: 8, ORD: 1}, 32, 1}, // the other way round
		{ReadDepths{}, 32, 32},              // nothing filled in
		{ReadDepths{IRD: 255, ORD: 255}, 8, 8},
	} {
		if got := ReplyReadDepths(tc.d, tc.limit); got != tc.want {
			t.Errorf("reply %+v: %d, want %d", tc.d, got, tc.want)
		}
	}
	b, err := ReadDepths{IRD: 32, ORD: 1}.AppendBinary(nil)
	if err != nil || hex.EncodeToString(b) != "0000002000000001" {
		t.Errorf("%x, %v", b, err)
	}
}

// SD-39 and 3: who is taken for whom.
func TestQuirkProfiles(t *testing.T) {
	for _, tc := range []struct {
		peer, want string
		script     []string
	}{
		{"cifs.ko", "cifs.ko", []string{ourServer, cifsRequest}},
		{"cifs.ko before its smaller fragmented size", "cifs.ko", []string{ourServer, cifsOldRequest}},
		{"cifs.ko with other settings", "cifs.ko", []string{ourServer, cifsTuned}},
		{"Windows client", "any", []string{ourServer, windowsRequest}},
		{"our client", "any", []string{ourServer, ourRequest}},
		{"ksmbd", "ksmbd", []string{ourClient, "up", ksmbdResponse}},
		{"ksmbd toward small messages", "ksmbd", []string{ourClient, "up", "response req=255 grant=254 pref=1364 recv=1100 frag=140250"}},
		{"Windows server", "any", []string{ourClient, "up", windowsResponse}},
		{"our server", "any", []string{ourClient, "up", ourResponse}},
	} {
		r := run1(t, tc.script...)
		if short := !r.e.Profile().NoShortReads; short == (tc.want == "cifs.ko") {
			t.Errorf("%s: it takes short READs: %v", tc.peer, short)
		}
		if got := r.e.Profile().Name; got != tc.want || r.terminated() != nil {
			t.Errorf("%s: profile %q, want %q (%v)", tc.peer, got, tc.want, r.terminated())
		}
	}
	// Every setting of cifs.ko changed: on iWARP its private data tells.
	for hostOrder, want := range map[bool]string{true: "cifs.ko", false: "any"} {
		r := run1(t, ourServer)
		r.e.PeerReadDepths(ReadDepths{IRD: 32, ORD: 1, HostOrder: hostOrder})
		if got := r.command("request req=7 pref=2000 recv=3000 frag=200000").e.Profile().Name; got != want {
			t.Errorf("host order %v: profile %q", hostOrder, got)
		}
	}
}

// 3: what an initiator offers before it knows its peer.
func TestQuirkOffer(t *testing.T) {
	least := Config{MaxReceiveSize: MinMessageSize, MaxFragmentedRecvSize: MinFragmentedSize}
	least.Role = Active
	if c := least.Offer(); c.MaxReceiveSize != 129 || c.MaxFragmentedRecvSize != 131073 {
		t.Errorf("initiator: %+v", c) // ksmbd refuses 128 and 131072
	}
	least.Role = Passive
	if c := least.Offer(); c.MaxReceiveSize != 128 || c.MaxFragmentedRecvSize != 131072 {
		t.Errorf("acceptor: %+v", c)
	}
	usual := Config{Role: Active, MaxReceiveSize: 2048, MaxFragmentedRecvSize: 1 << 20}
	if c := usual.Offer(); c != usual {
		t.Errorf("%+v", c)
	}
	// Windows servers refuse more than 8136 bytes.
	if _, err := New(Config{Role: Active, MaxSendSize: 8137}); err == nil {
		t.Error("a PreferredSendSize of 8137 is offered")
	}
}

// TestQuirks plays each peer as a script: the last line leads to want, or to
// nothing if that is "-". The names begin with the section of the quirk.
func TestQuirks(t *testing.T) {
	for _, tc := range []struct{ name, script, want string }{
		{"3 cifs.ko receives 1364 bytes whatever we like", "new passive max=255 target=255 send=8000 recv=8000 frag=1114112;" + cifsRequest,
			"response 0x100-0x100 v=0x100 req=255 grant=254 status=0x0 rw=1048576 pref=1364 recv=1364 frag=1114112"},
		{"3 transfers of cifs.ko fit in a message to us", ourServer + ";" + cifsRequest, "rw=1048576 pref=1364"},
		{"3 transfers of an older cifs.ko fit in a message to us", ourServer + ";" + cifsOldRequest, "rw=1048576 pref=1364"},
		{"3 transfers of cifs.ko fit in the shortest message to us", "new passive send=1364 recv=2048 frag=131072 rw=8388608;" + cifsRequest, "rw=65536 pref=1364"},
		{"3 data inline: transfers of cifs.ko fit in a message to it", inlineServer + ";" + cifsRequest, "rw=131072 pref=1364"},
		{"3 data inline: to an older one", inlineServer + ";" + cifsOldRequest, "rw=131072 pref=1364"},
		{"3 data inline: to it with other settings", inlineServer + ";request req=255 pref=1364 recv=1364 frag=1114112", "rw=131072 pref=1364"},
		{"3 data inline: in the longest message to it", inlineServer + ";request req=255 pref=1364 recv=8192 frag=173910", "rw=131072 pref=1364"},
		{"3 data inline: in the shortest message to it", inlineServer + ";request req=7 pref=1364 recv=1364 frag=131072", "rw=65536 pref=1364"},
		{"3 data inline: in the shortest message to us", "new passive send=1364 recv=2048 frag=131072 rw=8388608 inline=1;" + cifsRequest, "rw=65536 pref=1364"},
		{"3 transfers of others may be longer than a message", ourServer + ";" + windowsRequest, "rw=8388608 pref=1364"},
		{"3 data inline: those of others, too", inlineServer + ";" + windowsRequest, "rw=8388608 pref=1364"},
		{"3 messages to cifs.ko fit its receives", strings.Join(toCIFS, ";") + ";submit 1 1341", "id=1 [0:1340] remaining=1"},
		{"3 ksmbd asked for messages too small breaks its own rule", "new active;up;response pref=1024 recv=1024 frag=130560", "MaxFragmentedSize"},
		{"3 Windows server with less than is asked for", ourClient + ";up;response rw=1048576 pref=1364 recv=8192 frag=1048576 req=255 grant=10;state", "ESTABLISHED credits: send 10"},
		{"3 version refused by ksmbd", ourClient + ";up;response v=0 req=0 grant=0 status=0xc00000bb rw=0 pref=0 recv=0 frag=0", "Status"},

		{"4 cifs.ko is asked for 255 credits at most", "new passive max=255 target=1000;" + cifsRequest, "req=255 grant=254"},
		{"4 cifs.ko is asked for 255 credits at most, later too", "new passive max=255 target=1000;" + cifsRequest + ";data req=255 grant=2;submit 1 10", "send req=255"},
		{"4 ksmbd is asked for 255 credits at most", strings.Replace(ourClient, "target=255", "target=1000", 1) + ";up;" + ksmbdResponse + ";submit 1 10", "send req=255"},
		{"4 others get what is configured", "new passive max=255 target=1000;" + windowsRequest, "req=1000 grant=254"},
		{"4 first data message of cifs.ko without a grant", ourServer + ";" + cifsRequest + ";data req=255 n=100;submit 1 10", "-"},
		{"4 and the grant that follows it", ourServer + ";" + cifsRequest + ";data req=255 n=100;submit 1 10;data req=255 grant=255", "id=1 [0:10]"},
		{"4 our first message grants to ksmbd", strings.Join(toKSMBD, ";") + ";submit 1 10", "send req=255 grant=254 id=1"},
		{"4 ksmbd hears of credits though we say nothing", strings.Join(toKSMBD, ";") + ";wait 10ms", "send req=255 grant=254"},
		{"4 empty message of ksmbd after the first grant", strings.Join(toKSMBD, ";") + ";submit 1 10;data req=255", "-"},
		{"4 more granted than asked for", "new active target=1;up;response req=255 grant=254 pref=1024 recv=1364 frag=173910;state", "ESTABLISHED credits: send 254"},
		{"4 grants above the target add up", strings.Join(toCIFS, ";") + ";data req=255 grant=255;state", "send 510"},

		{"5 echo of a probe by cifs.ko is answered with flags 0", strings.Join(toCIFS, ";") + ";wait 120s;data req=255 flags=1", "send req=255 grant=1"},
		{"5 and its answer to that by nothing", strings.Join(toCIFS, ";") + ";wait 120s;data req=255 flags=1;data req=255", "-"},
		{"5 empty message of cifs.ko after 120 s, without the flag", strings.Join(toCIFS, ";") + ";wait 119s;data req=255", "-"},
		{"5 which is life enough", strings.Join(toCIFS, ";") + ";wait 119s;data req=255;wait 119s", "-"},

		{"6 header of a READ as a fragment of its own", strings.Join(toKSMBD, ";") + ";wait 10ms;data req=255 n=80 remaining=4176;data req=255 n=1340 remaining=2836", "deliver [80:1420] of 4256"},
		{"6 fragments as pages fall", strings.Join(toCIFS, ";") + ";data req=255 n=112 remaining=5000;data req=255 n=900 remaining=4100;data req=255 n=1 remaining=4099", "deliver [1012:1013] of 5112"},
		{"6 empty message between fragments", strings.Join(toKSMBD, ";") + ";wait 10ms;data req=255 n=80 remaining=20;data req=255 grant=200;data req=255 n=20", "deliver [80:100] of 100 last"},
		{"6 empty probe between fragments", strings.Join(toKSMBD, ";") + ";submit 1 10;data req=255 n=80 remaining=20;data req=255 flags=1;data req=255 n=20", "deliver [80:100] of 100 last"},
		{"6 the longest message that cifs.ko takes", strings.Join(toCIFS, ";") + ";submit 1 173910", "last"},
		{"6 longer than the receives of an older cifs.ko hold", ourServer + ";" + cifsOldRequest + ";data req=255 grant=255;submit 1 173911", "error: " + ErrTooLong.Error()},
		{"6 as long as they hold", ourServer + ";" + cifsOldRequest + ";data req=255 grant=255;submit 1 173910", "last"},
		{"6 with longer receives", ourServer + ";request req=255 pref=1364 recv=4096 frag=173910;data req=255 grant=255;submit 1 173910", "last"},
		{"6 Windows takes what it says", ourServer + ";" + windowsRequest + ";data req=255 grant=2000;submit 1 1048576", "last"},
		{"6 one longer is refused here", strings.Join(toCIFS, ";") + ";submit 1 173911", "error: " + ErrTooLong.Error()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := run1(t, strings.Split(tc.script, ";")...)
			got := strings.Join(r.out, "\n")
			if tc.want == "-" {
				for _, line := range r.out {
					if !strings.HasPrefix(line, "timer") && !strings.HasPrefix(line, "post") && !strings.HasPrefix(line, "deliver") {
						t.Errorf("got %q, want nothing", got)
					}
				}
			} else if !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// 5: cifs.ko answers a probe at once only while it has credits to give; its own
// timer of 120 s makes the answer sure. ksmbd answers at once.
func TestQuirkKeepalive(t *testing.T) {
	for _, tc := range []struct {
		peer     string
		setup    []string
		idle     time.Duration // until it is probed
		patience time.Duration // until it is given up
	}{
		{"cifs.ko", toCIFS, 120 * time.Second, 125 * time.Second},
		{"Windows client", []string{ourServer, windowsRequest, "data req=255 grant=255"}, 120 * time.Second, 5 * time.Second},
		{"ksmbd", after(toKSMBD, "wait 5ms", "data req=255"), 120 * time.Second, 5 * time.Second},
	} {
		r := run1(t, tc.setup...)
		r.out = nil
		if r.command(fmt.Sprintf("wait %v", tc.idle-time.Millisecond)); strings.Contains(strings.Join(r.out, "\n"), "flags=1") {
			t.Errorf("%s: probed early", tc.peer)
		}
		if r.command("wait 1ms"); !strings.Contains(strings.Join(r.out, "\n"), "flags=1") {
			t.Errorf("%s: not probed: %q", tc.peer, r.out)
		}
		if r.command(fmt.Sprintf("wait %v", tc.patience-time.Millisecond)); r.terminated() != nil {
			t.Errorf("%s: given up early: %v", tc.peer, r.terminated())
		}
		var te *TimeoutError
		if err := r.command("wait 1ms").terminated(); !errors.As(err, &te) || te.Section != "3.1.6.2" {
			t.Errorf("%s: %v", tc.peer, err)
		}
	}
	// The floors hold against the settings for cifs.ko, and for nobody else.
	for request, want := range map[string]time.Duration{cifsRequest: 120 * time.Second, windowsRequest: 2 * time.Second} {
		r := newRig(t, Config{Role: Passive, KeepaliveInterval: 2 * time.Second, KeepaliveTimeout: time.Second})
		r.e.Start(r.now)
		r.run()
		if got := r.command(request).e.Connection().KeepaliveInterval; got != want {
			t.Errorf("%s: interval %v, want %v", request, got, want)
		}
	}
}

// 4: Linux spends its last credit without a grant, after which both would be
// without: so it never gets so far while we can help it.
func TestQuirkGrantEarly(t *testing.T) {
	for name, setup := range map[string][]string{
		"cifs.ko": toCIFS, "ksmbd": after(toKSMBD, "submit 1 10"),
	} {
		r := run1(t, setup...)
		for i := range 1000 {
			if r.command("data req=255 n=10 grant=1"); r.terminated() != nil {
				t.Fatalf("%s: message %d: %v", name, i, r.terminated())
			}
			r.command(fmt.Sprintf("done %d", r.e.sendsOut))
			if left := r.e.granted(); left < 100 {
				t.Fatalf("%s: after %d messages it has %d credits", name, i+1, left)
			}
		}
	}
}

// 4: cifs.ko whose receives never meet our target answers each message of ours with
// an empty one. We do not answer those, so it ends there.
func TestQuirkEmptyMessagesDieOut(t *testing.T) {
	r := run1(t, toCIFS...)
	answers := 0
	r.sent = nil
	r.command("submit 1 10")
	for n := 0; n < len(r.sent); n++ {
		if answers++; answers > 300 {
			t.Fatal("the two go on for ever")
		}
		r.command("data req=255 grant=1")
	}
	if answers != 1 {
		t.Errorf("%d messages of ours for one", answers)
	}
}

// 4: ksmbd refills only when 31 credits or fewer are left, and grants 0 until then.
func TestQuirkLateRefill(t *testing.T) {
	r := run1(t, toKSMBD...)
	sent := 0
	for i := range 2000 {
		r.sent = nil
		r.command(fmt.Sprintf("submit %d 10", i+1))
		r.command(fmt.Sprintf("done %d", r.e.sendsOut))
		sent += len(r.sent)
		grant := 0
		if r.e.Connection().SendCredits <= 31 {
			grant = 220
		}
		r.command(fmt.Sprintf("data req=255 n=10 grant=%d", grant))
		r.out = nil
	}
	if r.terminated() != nil || r.e.Queued() != 0 || r.e.Stalls().Count != 0 || sent < 2000 {
		t.Errorf("%d messages sent, %d wait, %d waited: %v", sent, r.e.Queued(), r.e.Stalls(), r.terminated())
	}
}

// 6: an empty message between our fragments would spoil the peer's reassembly. A
// grant and an answer that are due in the middle ride on the next fragment.
func TestQuirkNothingBetweenFragments(t *testing.T) {
	r := run1(t, ourServer, cifsRequest, "data req=255 grant=2", "submit 1 6000")
	if got := strings.Join(r.out, "\n"); !strings.Contains(got, "[0:1340] remaining=4660") {
		t.Fatal(got)
	}
	for range 200 { // a grant comes due
		r.command("data req=255 n=1")
	}
	r.command("data req=255 flags=1")
	r.command("data req=255 grant=1")
	r.command("data req=255 grant=200")
	inside := false
	for _, a := range r.sent {
		if inside && a.Length == 0 {
			t.Errorf("empty message between fragments: %+v", a.Header)
		}
		inside = a.Length > 0 && !a.Last
	}
	if inside {
		t.Error("the message is not complete")
	}
	if d := (wire.DataTransfer{}); len(r.sent) < 5 || r.sent[len(r.sent)-1].Header == d {
		t.Errorf("%d messages", len(r.sent))
	}
}

// 4: Linux spends its last credit without a grant. Here it does the worst: with long
// messages both ways it spends all that it has, twice, before it gives anything for
// what it took, as the work that posts its receives runs late, and it takes a message
// only when that is complete. Neither end may be left without credits.
func TestQuirkLastCreditWithoutAGrant(t *testing.T) {
	for name, setup := range map[string][]string{"cifs.ko": toCIFS, "ksmbd": after(toKSMBD, "submit 1 10", "data req=255 grant=1")} {
		r := run1(t, setup...)
		r.command(fmt.Sprintf("done %d", r.e.sendsOut))
		r.sent = nil
		submitted, complete, seen, has := 0, 0, 0, int(r.e.granted())
		taken, owed, ready := 0, 0, 0 // its receives: of a message that is not complete; free; posted
		for turn := 0; complete < 40; turn++ {
			for r.e.Queued() < 4 {
				submitted++
				r.command(fmt.Sprintf("submit %d 172112", submitted+1))
			}
			for ; seen < len(r.sent); seen++ {
				has += int(r.sent[seen].Header.CreditsGranted)
				taken++
				if r.sent[seen].Last || r.sent[seen].Length == 0 {
					owed, taken = owed+taken, 0
				}
				if r.sent[seen].Last {
					complete++
				}
			}
			if has == 0 {
				t.Fatalf("%s: after %d messages neither end has credits: we %d, and it owes %d", name, complete, r.e.Connection().SendCredits, owed+ready)
			}
			r.command(fmt.Sprintf("data req=255 n=1340 grant=%d", ready))
			for ready, owed, has = owed, 0, has-1; has > 0; has-- {
				r.command("data req=255 n=1340")
			}
			if r.command(fmt.Sprintf("done %d", r.e.sendsOut)); r.terminated() != nil || turn > 1000 {
				t.Fatalf("%s: turn %d: %v", name, turn, r.terminated())
			}
		}
	}
}

// 4: a peer of that kind that never gives more than a few credits is not starved by
// what is kept for grants.
func TestQuirkReserveOfFewCredits(t *testing.T) {
	for _, window := range []int{1, 2, 8, 31, 32} {
		r := run1(t, ourServer, cifsRequest, fmt.Sprintf("data req=255 grant=%d", window), "submit 1 100000")
		for i := 0; len(r.sent) == 0 || !r.sent[len(r.sent)-1].Last; i++ {
			got := len(r.sent)
			r.command(fmt.Sprintf("done %d", r.e.sendsOut))
			r.command(fmt.Sprintf("data req=255 grant=%d", window-int(r.e.Connection().SendCredits)))
			if len(r.sent) == got || i > 1000 {
				t.Fatalf("window of %d: stopped after %d fragments", window, got)
			}
		}
	}
}
