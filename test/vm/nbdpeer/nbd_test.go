package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// memory is a backing in memory. With bad set everything fails.
type memory struct {
	mu    sync.Mutex
	p     []byte
	syncs int
	bad   bool
}

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bad {
		return 0, errors.New("bad")
	}
	return copy(p, m.p[off:]), nil
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bad {
		return 0, errors.New("bad")
	}
	return copy(m.p[off:], p), nil
}

func (m *memory) Sync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.syncs++
	return nil
}

func octets(s string) []byte {
	p, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return p
}

// What a client of the NBD protocol sends, and what has to come back, octet by
// octet, for an export of 16 octets (flags 0x010d).
func TestDialogue(t *testing.T) {
	const (
		hello  = "4e42444d41474943 49484156454f5054 0003"
		goOpt  = "00000003 49484156454f5054 00000007 00000006 00000000 0000"
		goDone = "0003e889045565a9 00000007 00000003 0000000c 0000 0000000000000010 010d" +
			"0003e889045565a9 00000007 00000001 00000000"
		request = "25609513"
		reply   = "67446698"
		cookie  = "0102030405060708"
		end     = request + "0000 0002" + cookie + "0000000000000000 00000000"
	)
	for name, c := range map[string]struct {
		send, want string
		bad        bool
		syncs      int
		memory     string
		broken     bool
	}{
		"go": {send: goOpt + end, want: hello + goDone},
		"export name, with zeroes": {send: "00000001 49484156454f5054 00000001 00000000" + end,
			want: hello + "0000000000000010 010d" + strings.Repeat("00", 124)},
		"an option it does not have": {send: "00000003 49484156454f5054 00000008 00000000" + goOpt[8:] + end,
			want: hello + "0003e889045565a9 00000008 80000001 00000000" + goDone},
		"abort": {send: "00000003 49484156454f5054 00000002 00000000", want: hello + "0003e889045565a9 00000002 00000001 00000000"},
		"write": {send: goOpt + request + "0000 0001" + cookie + "0000000000000004 00000002 beef" + end,
			want: hello + goDone + reply + "00000000" + cookie, memory: "00000000beef"},
		"write through": {send: goOpt + request + "0001 0001" + cookie + "0000000000000000 00000001 aa" + end,
			want: hello + goDone + reply + "00000000" + cookie, memory: "aa", syncs: 1},
		"read": {send: goOpt + request + "0000 0000" + cookie + "0000000000000000 00000003" + end,
			want: hello + goDone + reply + "00000000" + cookie + "000000"},
		"flush": {send: goOpt + request + "0000 0003" + cookie + "0000000000000000 00000000" + end,
			want: hello + goDone + reply + "00000000" + cookie, syncs: 1},
		"beyond the end": {send: goOpt + request + "0000 0000" + cookie + "000000000000000f 00000002" + end,
			want: hello + goDone + reply + "00000016" + cookie},
		"an offset that overflows": {send: goOpt + request + "0000 0001" + cookie + "ffffffffffffffff 00000002 beef" + end,
			want: hello + goDone + reply + "00000016" + cookie},
		"a failed write": {bad: true, send: goOpt + request + "0000 0001" + cookie + "0000000000000000 00000001 aa" + end,
			want: hello + goDone + reply + "00000005" + cookie},
		"a failed read": {bad: true, send: goOpt + request + "0000 0000" + cookie + "0000000000000000 00000001" + end,
			want: hello + goDone + reply + "00000005" + cookie},
		"no request":              {send: goOpt + strings.Repeat("11", 28), want: hello + goDone, broken: true},
		"a request of 32 MiB + 1": {send: goOpt + request + "0000 0001" + cookie + "0000000000000000 02000001", want: hello + goDone, broken: true},
		"an option of 4097":       {send: "00000003 49484156454f5054 00000007 00001001", want: hello, broken: true},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			m := &memory{p: make([]byte, 16), bad: c.bad}
			done := make(chan error, 1)
			go func() { done <- serve(ours, m, 16) }() // ends with theirs; done waits for it
			if err := theirs.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = theirs.Write(octets(c.send)) }() // ends with theirs
			got, err := io.ReadAll(theirs)
			theirs.Close()
			if err != nil {
				t.Fatalf("%v after %x", err, got)
			}
			if !bytes.Equal(got, octets(c.want)) {
				t.Errorf("got  %x\nwant %x", got, octets(c.want))
			}
			if err := <-done; (err != nil) != c.broken || c.broken && !errors.Is(err, errProtocol) {
				t.Errorf("serve: %v", err)
			}
			if want := octets(c.memory); !bytes.HasPrefix(m.p, want) || m.syncs != c.syncs {
				t.Errorf("memory %x, want it to begin with %x; %d syncs, want %d", m.p, want, m.syncs, c.syncs)
			}
		})
	}
}
