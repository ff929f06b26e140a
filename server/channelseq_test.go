package server

import (
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
)

// 3.3.5.2.10, case by case: after the numbers in before (under way unless ended),
// what becomes of one more.
func TestChannelSequence(t *testing.T) {
	for _, c := range []struct {
		name    string
		before  []uint16
		ended   []uint16
		n       uint16
		replay  bool
		ok      bool
		current uint16
	}{
		{"the same", []uint16{0}, nil, 0, false, true, 0},
		{"a newer one", []uint16{0}, nil, 1, false, true, 1},
		{"an older one", []uint16{1}, nil, 0, false, false, 1},
		{"newer by 0x7FFF", nil, nil, 0x7FFF, false, true, 0x7FFF},
		{"newer by 0x8000 is older", nil, nil, 0x8000, false, false, 0},
		{"around the end", []uint16{0x7000, 0xE000}, nil, 3, false, true, 3},
		{"replay, nothing old under way", []uint16{0}, []uint16{0}, 1, true, true, 1},
		{"replay while the old one is under way", []uint16{0}, nil, 1, true, false, 1},
		{"replay of the same number", []uint16{0}, nil, 0, true, true, 0},
		{"replay again, the old one still under way", []uint16{0, 1}, []uint16{1}, 1, true, false, 1},
		{"replay again, the old one done", []uint16{0, 1}, []uint16{1, 0}, 1, true, true, 1},
	} {
		var s channelSequence
		for _, n := range c.before {
			if ok, counted := s.begin(n, false); !ok || !counted {
				t.Fatalf("%s: %d is refused", c.name, n)
			}
		}
		for _, n := range c.ended {
			s.end(n)
		}
		ok, counted := s.begin(c.n, c.replay)
		if ok != c.ok || counted != c.ok || s.current != c.current {
			t.Errorf("%s: ok %v, counted %v, now at %d, want %v, %v, %d", c.name, ok, counted, s.current, c.ok, c.ok, c.current)
		}
	}
}

// An old number fails what changes something, and nothing else.
func TestChannelSequenceRequests(t *testing.T) {
	s := newSite(t, memconn.Config{RDMA: true}, nil)
	p := s.login(smb2.DialectSMB302).mustConnect("data")
	f := p.openFile("f")
	at := func(n uint16, cmd smb2.Command, m body) ntstatus.Status {
		h := p.header(cmd)
		h.ChannelSequence = n
		st, _ := p.doHeader(h, m)
		return st
	}
	write := &smb2.WriteRequest{FileID: f, Data: []byte("x")}
	want(t, "WRITE at 2", at(2, smb2.CommandWrite, write), ntstatus.Success)
	want(t, "WRITE at 1", at(1, smb2.CommandWrite, write), ntstatus.FileNotAvailable)
	want(t, "READ at 1", at(1, smb2.CommandRead, &smb2.ReadRequest{FileID: f, Length: 1}), ntstatus.Success)
	want(t, "IOCTL at 1", at(1, smb2.CommandIoctl, &smb2.IoctlRequest{FileID: f, CtlCode: smb2.FsctlGetCompression, Flags: 1,
		MaxOutputResponse: 2}), ntstatus.FileNotAvailable)
	want(t, "WRITE at 2 again", at(2, smb2.CommandWrite, write), ntstatus.Success)
}
