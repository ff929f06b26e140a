package core

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// run1 runs script lines on a new engine and returns what the last one led to.
func run1(t testing.TB, lines ...string) *rig {
	r := &rig{t: t}
	for _, l := range lines {
		r.out = nil
		r = r.command(l)
	}
	return r
}

// terminated returns the reason of a Terminate among the last actions.
func (r *rig) terminated() error {
	if r.e.Connection().Role == Closed {
		return r.e.Err()
	}
	return nil
}

// TestNegotiateRequestRows has a good and a bad value for each rule of 3.1.5.6.
func TestNegotiateRequestRows(t *testing.T) {
	for _, tc := range []struct {
		row, request string
		field        string // of the ProtocolError; "" if accepted
		response     string // expected part of the response; "" for none
	}{
		{"SD-15", "request len=0", "length", ""},
		{"SD-15", "request len=19", "length", ""},
		{"SD-16", "request len=20", "", "status=0x0"},
		{"SD-16", "request len=512", "", "status=0x0"},
		{"SD-17", "request req=0", "CreditsRequested", ""},
		{"SD-17", "request req=1", "", "grant=1 "},
		{"SD-17", "request req=65535", "", "grant=9 "},
		{"SD-19", "request recv=127", "MaxReceiveSize", ""},
		{"SD-19", "request recv=0", "MaxReceiveSize", ""},
		{"SD-19", "request recv=128", "", "pref=128 "},
		{"SD-19", "request recv=4294967295", "", "pref=1024 "},
		{"SD-20", "request frag=131071", "MaxFragmentedSize", ""},
		{"SD-20", "request frag=131072", "", "status=0x0"},
		{"SD-20", "request frag=4294967295", "", "status=0x0"},
		{"SD-21", "request pref=0", "", "recv=128 "},
		{"SD-21", "request pref=127", "", "recv=128 "},
		{"SD-21", "request pref=128", "", "recv=128 "},
		{"SD-21", "request pref=129", "", "recv=129 "},
		{"SD-22", "request pref=4294967295", "", "recv=1024 "},
		{"SD-24", "request min=0x100 max=0x200", "", "status=0x0"},
		{"SD-24", "request min=0x101 max=0x200", "MinVersion..MaxVersion", "response 0x100-0x100 v=0x0 req=0 grant=0 status=0xc00000bb rw=0 pref=0 recv=0 frag=0"},
		{"SD-24", "request min=0x0 max=0xff", "MinVersion..MaxVersion", "response 0x100-0x100 v=0x0 req=0 grant=0 status=0xc00000bb rw=0 pref=0 recv=0 frag=0"},
	} {
		t.Run(tc.row+" "+tc.request, func(t *testing.T) {
			r := run1(t, "new passive", tc.request)
			all := strings.Join(r.out, "\n") + " "
			if got := strings.Contains(all, "response"); got != (tc.response != "") || !strings.Contains(all, tc.response) {
				t.Errorf("actions %q, want a response with %q", all, tc.response)
			}
			checkViolation(t, r, "3.1.5.6", tc.field)
			if tc.field != "" {
				// SD-24, SD-79: nothing after it is answered.
				if r = r.command("request"); strings.Count(strings.Join(r.out, "\n")+" ", "response") > strings.Count(all, "response") {
					t.Error("a later message was answered")
				}
			}
		})
	}
}

func checkViolation(t *testing.T, r *rig, section, field string) {
	t.Helper()
	err := r.terminated()
	var pe *ProtocolError
	switch {
	case field == "" && err != nil:
		t.Errorf("terminated: %v", err)
	case field != "" && (!errors.As(err, &pe) || pe.Field != field || pe.Section != section):
		t.Errorf("terminated because of %v, want %s %s", err, section, field)
	}
}

// TestNegotiateResponseRows is the same for 3.1.5.7.
func TestNegotiateResponseRows(t *testing.T) {
	for _, tc := range []struct{ row, response, field, state string }{
		{"SD-29", "response len=31", "length", ""},
		{"SD-29", "response v=0x101", "NegotiatedVersion", ""},
		{"SD-29", "response v=0", "NegotiatedVersion", ""},
		{"SD-31", "response recv=127", "MaxReceiveSize", ""},
		{"SD-31", "response recv=128", "", ""},
		{"SD-31", "response frag=131071", "MaxFragmentedSize", ""},
		{"SD-33", "response grant=0", "CreditsGranted", ""},
		{"SD-33", "response req=0", "CreditsRequested", ""},
		{"SD-35", "response pref=1025", "PreferredSendSize", ""},
		{"SD-35", "response pref=1024", "", ""},
		{"SD-36", "response status=0xc00000bb v=0 req=0 grant=0 rw=0 pref=0 recv=0 frag=0", "Status", ""},
		{"SD-36", "response status=0xc000009a", "Status", ""},
	} {
		t.Run(tc.row+" "+tc.response, func(t *testing.T) {
			checkViolation(t, run1(t, "new active", "up", tc.response), "3.1.5.7", tc.field)
		})
	}
	err := run1(t, "new active", "up", "response status=0xc00000bb").terminated()
	if !errors.Is(err, ntstatus.NotSupported) {
		t.Errorf("SD-36: %v does not match the status", err)
	}
}

// SD-37: what the initiator takes over.
func TestSD37InitiatorAdopts(t *testing.T) {
	c := run1(t, "new active", "up", "response pref=64 recv=700 frag=200000 rw=8192 grant=7 req=3").e.Connection()
	want := c
	want.MaxReceiveSize, want.MaxSendSize, want.MaxFragmentedSendSize = 128, 700, 200000
	want.MaxReadWriteSize, want.SendCredits, want.ReceiveCreditTarget = 8192, 7, 3
	want.Role, want.Protocol, want.ReceiveCredits = Established, 0x100, 3
	if c != want {
		t.Errorf("got %+v\nwant %+v", c, want)
	}
	if c := run1(t, "new active", "up", "response rw=4294967295 recv=4294967295").e.Connection(); c.MaxReadWriteSize != 1048576 || c.MaxSendSize != 1024 {
		t.Errorf("own limits exceeded: %+v", c)
	}
}

// SD-12: the negotiation timers, 4 s and 5 s for an acceptor.
func TestSD12NegotiationTimer(t *testing.T) {
	if r := run1(t, "new passive", "wait 4s", "request"); r.terminated() != nil {
		t.Errorf("4 s: %v", r.terminated())
	}
	var te *TimeoutError
	for _, script := range [][]string{{"new passive", "wait 5s"}, {"new active", "up", "wait 120s"}} {
		if err := run1(t, script...).terminated(); !errors.As(err, &te) || te.Section != "3.1.6.1" || !te.Timeout() {
			t.Errorf("%v: %v", script, err)
		}
	}
	if r := run1(t, "new active", "up", "wait 119s", "response"); r.terminated() != nil {
		t.Errorf("119 s: %v", r.terminated())
	}
}

// established is an acceptor with a whole message size of 1024 and 131072 bytes.
var established = []string{"new passive", "request", "data grant=10"}

// TestDataTransferRows has messages for each rule of 3.1.5.8, after one another
// on a fresh connection.
func TestDataTransferRows(t *testing.T) {
	for _, tc := range []struct {
		row   string
		lines string // separated by ;
		field string // "" if accepted
		last  string // what the last line leads to, if it matters
	}{
		{"SD-01", "hex 0a000000 0000ffff 00000000 00000000 00000000", "", ""},
		{"SD-06", "data flags=0xfffe", "", ""},
		{"SD-60", "data req=0", "CreditsRequested", ""},
		{"SD-60", "data req=1", "", ""},
		{"SD-61", "data size=0", "length", ""},
		{"SD-61", "data size=19", "length", ""},
		{"SD-61", "data size=20", "", ""},
		{"SD-62", "data n=8 off=23", "DataOffset", ""},
		{"SD-62", "data n=8 off=25 size=64", "DataOffset", ""},
		{"SD-62", "data n=8 off=32 size=64", "", "deliver [0:8] of 8 last"},
		{"SD-63", "data n=8 off=32 size=32", "DataOffset + DataLength", ""},
		{"SD-63", "data n=8 off=0xfffffff8", "DataOffset + DataLength", ""},
		{"SD-63", "data n=8 length=9", "DataOffset + DataLength", ""},
		{"SD-63", "data n=8 length=0xffffffff", "DataOffset + DataLength", ""},
		{"SD-63", "data n=8 off=32 length=0xffffffe0", "DataOffset + DataLength", ""},
		{"2.2.3", "data n=8 off=16", "DataOffset", ""},
		{"SD-65", "data n=100 remaining=130972", "", "deliver [0:100] of 131072"},
		{"SD-65", "data n=100 remaining=130973", "DataLength + RemainingDataLength", ""},
		{"SD-65", "data n=100 remaining=0xffffffff", "DataLength + RemainingDataLength", ""},
		{"SD-65", "data remaining=131073", "DataLength + RemainingDataLength", ""},
		{"SD-65", "data remaining=131072", "", "deliver [0:0] of 131072"},
		{"SD-67", "data n=8 size=1024", "", "deliver [0:8] of 8 last"},
		{"SD-68", "data n=8 remaining=8;data n=8", "", "deliver [8:16] of 16 last"},
		{"SD-68", "data n=8 remaining=8;data n=9", "DataLength", ""},
		{"SD-68", "data n=8 remaining=8;data n=4 remaining=5", "RemainingDataLength", ""},
		{"SD-68", "data n=8 remaining=8;data n=4 remaining=3", "RemainingDataLength", ""},
		{"SD-69", "data n=8 remaining=8;data n=4", "RemainingDataLength", ""},
		{"SD-70", "data remaining=2;data n=1 remaining=1;data remaining=1;data n=1", "", "deliver [1:2] of 2 last"},
		{"SD-71", "data", "", ""},
		{"SD-71", "data n=1 remaining=1;data;data n=1", "", "deliver [1:2] of 2 last"},
		{"SD-79", "data req=0;data n=4", "CreditsRequested", ""},
	} {
		t.Run(tc.row+" "+tc.lines, func(t *testing.T) {
			r := run1(t, append(append([]string(nil), established...), strings.Split(tc.lines, ";")...)...)
			section := "3.1.5.8"
			if tc.row == "2.2.3" {
				section = tc.row
			}
			checkViolation(t, r, section, tc.field)
			if all := strings.Join(r.out, "; "); tc.last != "" && !strings.Contains(all, tc.last) {
				t.Errorf("got %q, want %q", all, tc.last)
			}
			if tc.row == "SD-79" && strings.Contains(strings.Join(r.out, "; "), "deliver") {
				t.Error("a message after the violation was delivered")
			}
		})
	}
}

// SD-41: a message beyond the credits.
func TestSD41NoCredit(t *testing.T) {
	r := run1(t, "new passive max=1", "request", "data")
	for range 3 {
		r.command("data")
	}
	checkViolation(t, r, "3.1.5.1", "messages without a credit")
}

// SD-14: a second negotiate message is judged as a Data Transfer message. The
// request of 4.1 has 1 as the low half of what is Flags there, and 1024 as
// RemainingDataLength: it starts a message.
func TestSD14SecondNegotiate(t *testing.T) {
	r := run1(t, "new passive", "request", "request")
	if got := strings.Join(r.out, ";"); !strings.Contains(got, "DataOffset + DataLength") || r.terminated() == nil {
		t.Errorf("got %q", got)
	}
}

// SD-76: grants add up and cannot wrap.
func TestSD76GrantsDoNotWrap(t *testing.T) {
	r := run1(t, established...)
	for range 70000 {
		r.command("data grant=65535 flags=1")
		r.command("done 1")
		r.out = nil
	}
	if c := r.e.Connection(); c.Role != Established || c.SendCredits > maxCredits || c.SendCredits < 65535 {
		t.Errorf("%+v", c)
	}
}

// SD-114: after the loss nothing works and nothing is sent.
func TestSD114Lost(t *testing.T) {
	r := run1(t, append(append([]string(nil), established...), "submit 1 5000", "lost", "done 2", "data n=5", "hold on", "hold off", "wait 1000s", "submit 2 5")...)
	if got := strings.Join(r.out, ";"); got != "error: "+ErrClosed.Error() {
		t.Errorf("got %q", got)
	}
}

// The golden messages go through the engine as they are.
func TestVectors(t *testing.T) {
	vec := func(name string) string {
		text, err := os.ReadFile(filepath.Join("..", "wire", "testdata", name+".hex"))
		if err != nil {
			t.Fatal(err)
		}
		var sb strings.Builder
		for line := range strings.Lines(string(text)) {
			if line[0] != '#' {
				sb.WriteString(strings.Join(strings.Fields(line), ""))
			}
		}
		if _, err := hex.DecodeString(sb.String()); err != nil {
			t.Fatal(err)
		}
		return "hex " + sb.String()
	}
	r := run1(t, "new passive max=11", vec("smbd-neg-req"))
	if got := strings.Join(r.out, ";"); !strings.Contains(got, "req=10 grant=10 status=0x0 rw=1048576 pref=1024 recv=1024 frag=131072") {
		t.Errorf("response: %s", got)
	}
	for _, tc := range []struct{ name, want string }{
		{"smbd-data-one", "deliver [0:108] of 108 last"},
		{"smbd-data-frag1", "deliver [0:104] of 128"},
		{"smbd-credit-grant", ""},
		{"smbd-data-frag2", "deliver [104:128] of 128 last"},
		{"smbd-keepalive", "post 14"},
	} {
		r.out = nil
		if r.command(vec(tc.name)); !strings.Contains(strings.Join(r.out, ";"), tc.want) && tc.name != "smbd-keepalive" {
			t.Errorf("%s: %q, want %q", tc.name, r.out, tc.want)
		}
	}
	if !strings.Contains(strings.Join(r.out, ";"), "send req=10") || r.terminated() != nil {
		t.Errorf("keepalive: %q", r.out)
	}
	if c := r.e.Connection(); c.SendCredits != 10+1+10-1 {
		t.Errorf("%d send credits", c.SendCredits)
	}
	r = run1(t, "new active max=11", "up", vec("smbd-neg-rsp"))
	if r.terminated() != nil || r.e.Connection().SendCredits != 10 {
		t.Errorf("response: %v", r.terminated())
	}
	checkViolation(t, run1(t, "new active", "up", vec("smbd-neg-rsp-fail")), "3.1.5.7", "Status")
}

func TestConfig(t *testing.T) {
	ok := Config{Role: Active}
	if _, err := New(ok); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*Config){
		"Role":                  func(c *Config) { c.Role = Established },
		"MaxSendSize":           func(c *Config) { c.MaxSendSize = 127 },
		"MaxReceiveSize":        func(c *Config) { c.MaxReceiveSize = 127 },
		"MaxFragmentedRecvSize": func(c *Config) { c.MaxFragmentedRecvSize = 131071 },
		"MaxReadWriteSize":      func(c *Config) { c.MaxReadWriteSize = 4097 },
		"SendDepth":             func(c *Config) { c.SendDepth = -1 },
		"QueueDepth":            func(c *Config) { c.QueueDepth = 1 << 21 },
		"KeepaliveInterval":     func(c *Config) { c.KeepaliveInterval = -1 },
	} {
		c := ok
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), "Config."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestBrokenContractPanics(t *testing.T) {
	for name, f := range map[string]func(*rig){
		"started twice":                  func(r *rig) { r.e.Start(0) },
		"1 receives posted, 0 asked for": func(r *rig) { r.e.Posted(0, 1) },
		"more sends completed":           func(r *rig) { r.e.SendCompleted(0, 5) },
	} {
		r := run1(t, "new passive")
		func() {
			defer func() {
				if p := recover(); !strings.Contains(fmt.Sprint(p), name) {
					t.Errorf("panic %v, want %q", p, name)
				}
			}()
			f(r)
		}()
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	r := run1(t, established...)
	msg := data(headerOf(10, 1, 8), 8)
	drain := func() {
		for a, ok := r.e.Next(); ok; a, ok = r.e.Next() {
			switch a.Kind {
			case PostReceives:
				r.e.Posted(r.now, a.Count)
			case SendData:
				r.e.SendCompleted(r.now, 1)
			}
		}
	}
	if n := testing.AllocsPerRun(1000, func() {
		_ = r.e.Submit(r.now, 1, 1500, 7, true)
		drain()
		_, _ = r.e.Received(r.now, msg, 0, false)
		drain()
		_, _ = r.e.Received(r.now, msg, 0, false)
		drain()
		r.now++
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if r.terminated() != nil {
		t.Error(r.terminated())
	}
}

// headerOf is the header of a message with n octets of payload.
func headerOf(req, grant uint16, n uint32) wire.DataTransfer {
	h := wire.DataTransfer{CreditsRequested: req, CreditsGranted: grant, DataLength: n}
	if n > 0 {
		h.DataOffset = wire.PayloadOffset
	}
	return h
}
