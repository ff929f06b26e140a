package core

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// rig drives an engine and writes down what it does, a line for each action.
type rig struct {
	t       testing.TB
	e       *Engine
	now     time.Duration
	timer   time.Duration
	posts   int // receives that the adapter still takes; negative: any number
	out     []string
	sent    []Action
	noCheck bool
}

func newRig(t testing.TB, cfg Config) *rig {
	t.Helper()
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{t: t, e: e, now: time.Second, posts: -1}
}

func (r *rig) say(format string, args ...any) { r.out = append(r.out, fmt.Sprintf(format, args...)) }

// run carries out the actions.
func (r *rig) run() {
	for a, ok := r.e.Next(); ok; a, ok = r.e.Next() {
		switch a.Kind {
		case PostReceives:
			n := a.Count
			if r.posts >= 0 {
				n = min(n, r.posts)
				r.posts -= n
			}
			if n == a.Count {
				r.say("post %d x %d", n, a.Size)
			} else {
				r.say("post %d of %d x %d", n, a.Count, a.Size)
			}
			r.e.Posted(r.now, n)
		case SendRequest:
			q := a.Request
			r.say("request %#x-%#x req=%d pref=%d recv=%d frag=%d", q.MinVersion, q.MaxVersion, q.CreditsRequested, q.PreferredSendSize, q.MaxReceiveSize, q.MaxFragmentedSize)
		case SendResponse:
			q := a.Response
			r.say("response %#x-%#x v=%#x req=%d grant=%d status=%#x rw=%d pref=%d recv=%d frag=%d", q.MinVersion, q.MaxVersion, q.NegotiatedVersion,
				q.CreditsRequested, q.CreditsGranted, q.Status, q.MaxReadWriteSize, q.PreferredSendSize, q.MaxReceiveSize, q.MaxFragmentedSize)
		case SendData:
			s := fmt.Sprintf("send req=%d grant=%d", a.Header.CreditsRequested, a.Header.CreditsGranted)
			if a.Header.Flags != 0 {
				s += fmt.Sprintf(" flags=%d", a.Header.Flags)
			}
			if a.Length > 0 {
				s += fmt.Sprintf(" id=%d [%d:%d] remaining=%d", a.ID, a.Offset, a.Offset+a.Length, a.Header.RemainingDataLength)
				if a.Header.DataOffset != 24 || a.Header.DataLength != a.Length {
					r.t.Errorf("header %+v of a fragment of %d", a.Header, a.Length)
				}
			} else if a.Header.DataOffset != 0 || a.Header.DataLength != 0 || a.Header.RemainingDataLength != 0 {
				r.t.Errorf("header %+v of an empty message", a.Header) // SD-05
			}
			if a.Last {
				s += " last"
			}
			if a.HasInvalidate {
				s += fmt.Sprintf(" inv=%#x", a.Invalidate)
			}
			r.sent = append(r.sent, a)
			r.say("%s", s)
		case Connected:
			r.say("connected")
		case ArmTimer:
			r.timer = a.At
			r.say("timer %v", a.At-r.now)
		case Terminate:
			g := ""
			if a.Graceful {
				g = " gracefully"
			}
			r.say("terminate%s: %v", g, a.Err)
		default:
			r.t.Fatalf("action %+v", a)
		}
	}
	if !r.noCheck {
		r.e.check()
	}
}

// receive hands a message to the engine.
func (r *rig) receive(msg []byte, token uint32, has bool) (Delivery, bool) {
	d, ok := r.e.Received(r.now, msg, token, has)
	if ok {
		s := fmt.Sprintf("deliver [%d:%d] of %d", d.Offset, int(d.Offset)+len(d.Fragment), d.Total)
		if d.Last {
			s += " last"
		}
		if d.HasToken {
			s += fmt.Sprintf(" inv=%#x", d.Token)
		}
		r.say("%s", s)
	}
	r.run()
	return d, ok
}

// pass lets time go by and runs the timer at its times.
func (r *rig) pass(d time.Duration) {
	end := r.now + d
	for r.timer != 0 && r.timer <= end {
		r.now, r.timer = r.timer, 0
		r.e.TimerDue(r.now)
		r.run()
	}
	r.now = end
}

// data builds a Data Transfer message; the payload is n octets long whatever the
// header says.
func data(h wire.DataTransfer, n int) []byte {
	b, _ := h.AppendBinary(nil)
	return append(b, make([]byte, n)...)
}

// args reads words like key=value.
type args map[string]uint64

func parseArgs(t testing.TB, words []string) args {
	a := args{}
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		n, err := strconv.ParseUint(v, 0, 64)
		if !ok || err != nil {
			t.Fatalf("argument %q: %v", w, err)
		}
		a[k] = n
	}
	return a
}

func (a args) get(k string, def uint64) uint64 {
	if v, ok := a[k]; ok {
		return v
	}
	return def
}

// command runs one line of a script.
func (r *rig) command(line string) *rig {
	w := strings.Fields(line)
	switch w[0] {
	case "new":
		a := parseArgs(r.t, w[2:])
		cfg := Config{
			Role:                  map[string]Role{"active": Active, "passive": Passive}[w[1]],
			ReceiveCreditMax:      uint16(a.get("max", 10)),
			SendCreditTarget:      uint16(a.get("target", 10)),
			MaxSendSize:           uint32(a.get("send", 1024)),
			MaxReceiveSize:        uint32(a.get("recv", 1024)),
			MaxFragmentedRecvSize: uint32(a.get("frag", 131072)),
			MaxReadWriteSize:      uint32(a.get("rw", 1048576)),
			InlineData:            a.get("inline", 0) == 1,
			SendDepth:             int(a.get("depth", 1000)),
		}
		n := newRig(r.t, cfg)
		n.e.Start(n.now)
		n.run()
		return n
	case "up":
		r.e.ConnectionUp()
	case "posts":
		r.posts, _ = strconv.Atoi(w[1])
	case "request":
		a := parseArgs(r.t, w[1:])
		b, _ := wire.NegotiateRequest{
			MinVersion: uint16(a.get("min", 0x100)), MaxVersion: uint16(a.get("max", 0x100)), CreditsRequested: uint16(a.get("req", 10)),
			PreferredSendSize: uint32(a.get("pref", 1024)), MaxReceiveSize: uint32(a.get("recv", 1024)), MaxFragmentedSize: uint32(a.get("frag", 131072)),
		}.AppendBinary(nil)
		r.receive(append(b, make([]byte, 492)...)[:a.get("len", 20)], 0, false)
	case "response":
		a := parseArgs(r.t, w[1:])
		b, _ := wire.NegotiateResponse{
			MinVersion: 0x100, MaxVersion: 0x100, NegotiatedVersion: uint16(a.get("v", 0x100)), CreditsRequested: uint16(a.get("req", 10)),
			CreditsGranted: uint16(a.get("grant", 10)), Status: uint32(a.get("status", 0)), MaxReadWriteSize: uint32(a.get("rw", 1048576)),
			PreferredSendSize: uint32(a.get("pref", 1024)), MaxReceiveSize: uint32(a.get("recv", 1024)), MaxFragmentedSize: uint32(a.get("frag", 131072)),
		}.AppendBinary(nil)
		r.receive(b[:a.get("len", 32)], 0, false)
	case "data":
		a := parseArgs(r.t, w[1:])
		n := a.get("n", 0)
		h := wire.DataTransfer{
			CreditsRequested: uint16(a.get("req", 10)), CreditsGranted: uint16(a.get("grant", 0)), Flags: uint16(a.get("flags", 0)),
			RemainingDataLength: uint32(a.get("remaining", 0)), DataLength: uint32(n),
		}
		if n > 0 {
			h.DataOffset = 24
		}
		b := data(h, int(n))
		if off, ok := a["off"]; ok { // on the wire, behind the codec's back
			b[12], b[13], b[14], b[15] = byte(off), byte(off>>8), byte(off>>16), byte(off>>24)
		}
		if l, ok := a["length"]; ok {
			b[16], b[17], b[18], b[19] = byte(l), byte(l>>8), byte(l>>16), byte(l>>24)
		}
		if l, ok := a["size"]; ok {
			b = append(b, make([]byte, 4096)...)[:l]
		}
		inv, has := a["inv"]
		r.receive(b, uint32(inv), has)
	case "hex":
		b, err := hex.DecodeString(strings.Join(w[1:], ""))
		if err != nil {
			r.t.Fatal(err)
		}
		r.receive(b, 0, false)
	case "submit":
		a := parseArgs(r.t, w[3:])
		id, _ := strconv.ParseUint(w[1], 0, 64)
		n, _ := strconv.ParseUint(w[2], 0, 32)
		inv, has := a["inv"]
		if err := r.e.Submit(r.now, id, uint32(n), uint32(inv), has); err != nil {
			r.say("error: %v", err)
		}
		r.run()
	case "cancel":
		id, _ := strconv.ParseUint(w[1], 0, 64)
		r.say("cancelled %v", r.e.Cancel(r.now, id))
		r.run()
	case "done":
		n, _ := strconv.Atoi(w[1])
		r.e.SendCompleted(r.now, n)
		r.run()
	case "hold":
		r.e.Hold(r.now, w[1] == "on")
		r.run()
	case "wait":
		d, err := time.ParseDuration(w[1])
		if err != nil {
			r.t.Fatal(err)
		}
		r.pass(d)
	case "lost":
		r.e.Disconnected(fmt.Errorf("link is gone"))
		r.run()
	case "state":
		c := r.e.Connection()
		r.say("%v credits: send %d, receive %d of which new %d, target %d; keepalive %v", c.Role, c.SendCredits, c.ReceiveCredits, c.NewCredits, c.ReceiveCreditTarget, c.KeepaliveRequested)
	default:
		r.t.Fatalf("command %q", line)
	}
	r.run()
	return r
}

// TestScripts runs testdata/*.txt: a command on a line, what it must lead to on
// the lines after it, each with "> " before it; # starts a comment.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			r := &rig{t: t}
			var want []string
			at := ""
			compare := func() {
				t.Helper()
				if got := strings.Join(r.out, "\n> "); got != strings.Join(want, "\n> ") {
					t.Fatalf("%s:\n  got\n> %s\n  want\n> %s", at, got, strings.Join(want, "\n> "))
				}
			}
			for i, line := range strings.Split(string(text), "\n") {
				line = strings.TrimSpace(line)
				if line == "" || line[0] == '#' {
					continue
				}
				if s, ok := strings.CutPrefix(line, "> "); ok {
					want = append(want, s)
					continue
				}
				compare()
				at, want, r.out = fmt.Sprintf("%s:%d: %s", f, i+1, line), nil, nil
				r = r.command(line)
			}
			compare()
		})
	}
}
