package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// The data of a long READ goes into the caller's memory and is not copied; that of a
// signed or encrypted one does not go there before it was checked.
func TestReadIsPlaced(t *testing.T) {
	for _, c := range []struct {
		name   string
		cfg    Config
		auth   bool
		placed bool
	}{
		{"plain", Config{}, false, true},
		{"in pieces", Config{MaxIOSize: 30_000}, false, true},
		{"signed", Config{Signing: SigningRequired}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l := newFake(t, linkConfig{})
			f.auth, f.data = c.auth, random(200_000)
			file := f.open(l, c.cfg)
			p := make([]byte, len(f.data))
			if n, err := file.ReadAt(p, 0); n != len(p) || err != nil || !bytes.Equal(p, f.data) {
				t.Fatalf("%d bytes, %v", n, err)
			}
			st := file.Share().Session().Stats()
			if st.InlineBytesRead != uint64(len(p)) || (st.BytesCopied == 0) != c.placed {
				t.Errorf("%d bytes came inline, and %d were copied", st.InlineBytesRead, st.BytesCopied)
			}
		})
	}
}

// Which messages have a place: what looks like an answer and is none to this question
// has not.
func TestPlaceFor(t *testing.T) {
	const room = 100_000
	for _, c := range []struct {
		name   string
		change func(h *smb2.Header, k *call, body []byte, n *int)
		at     int
	}{
		{"the answer", nil, smb2.ReadDataOffset},
		{"less than was asked for", func(_ *smb2.Header, _ *call, body []byte, n *int) {
			*n = smb2.ReadDataOffset + 99_999
			binary.LittleEndian.PutUint32(body[4:], 99_999)
		}, smb2.ReadDataOffset},
		{"with padding before the data", func(_ *smb2.Header, _ *call, body []byte, n *int) { body[2] += 8; *n += 8 }, smb2.ReadDataOffset + 8},
		{"more than was asked for", func(_ *smb2.Header, _ *call, body []byte, n *int) {
			*n = smb2.ReadDataOffset + 100_001
			binary.LittleEndian.PutUint32(body[4:], 100_001)
		}, 0},
		{"a length that is not the message's", func(_ *smb2.Header, _ *call, _ []byte, n *int) { *n-- }, 0},
		{"a length that wraps", func(_ *smb2.Header, _ *call, body []byte, _ *int) {
			binary.LittleEndian.PutUint32(body[4:], 0xFFFFFFFF)
		}, 0},
		{"data within the head", func(_ *smb2.Header, _ *call, body []byte, n *int) { body[2] = 64; *n -= 16 }, 0},
		{"an RDMA transform", func(_ *smb2.Header, _ *call, body []byte, _ *int) { body[12] = 1 }, 0},
		{"the wrong structure", func(_ *smb2.Header, _ *call, body []byte, _ *int) { body[0] = 9 }, 0},
		{"a request", func(h *smb2.Header, _ *call, _ []byte, _ *int) { h.Flags = 0 }, 0},
		{"an error", func(h *smb2.Header, _ *call, _ []byte, _ *int) { h.Status = ntstatus.EndOfFile }, 0},
		{"another command's", func(h *smb2.Header, _ *call, _ []byte, _ *int) { h.Command = smb2.CommandIoctl }, 0},
		{"a signed one", func(h *smb2.Header, _ *call, _ []byte, _ *int) { h.Flags |= smb2.FlagSigned }, 0},
		{"the first of a compound", func(h *smb2.Header, _ *call, _ []byte, _ *int) { h.NextCommand = 8 }, 0},
		{"to a question that was not asked", func(h *smb2.Header, _ *call, _ []byte, _ *int) { h.MessageID++ }, 0},
		{"to a question of another kind", func(_ *smb2.Header, k *call, _ []byte, _ *int) { k.cmd = smb2.CommandQueryInfo }, 0},
		{"to a question on its way", func(_ *smb2.Header, k *call, _ []byte, _ *int) { k.onWire = false }, 0},
		{"to a question that was given up", func(_ *smb2.Header, k *call, _ []byte, _ *int) { k.gone = true }, 0},
		{"to a signed question", func(_ *smb2.Header, k *call, _ []byte, _ *int) { k.signed = true }, 0},
		{"to an encrypted question", func(_ *smb2.Header, k *call, _ []byte, _ *int) { k.encrypted = true }, 0},
		{"to a question without memory", func(_ *smb2.Header, k *call, _ []byte, _ *int) { k.room = 0 }, 0},
		{"a second one", func(_ *smb2.Header, k *call, _ []byte, _ *int) { k.placed = 1 }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := &call{cmd: smb2.CommandRead, onWire: true}
			k.lend(make([]byte, room), nil)
			conn := &conn{pending: map[uint64]*call{7: k}}
			h := smb2.Header{Command: smb2.CommandRead, Flags: smb2.FlagServerToRedir, MessageID: 7}
			body, err := (&smb2.ReadResponse{DataLength: room}).AppendBinary(nil)
			must(t, err)
			n := smb2.ReadDataOffset + room
			if c.change != nil {
				c.change(&h, k, body, &n)
			}
			head := append(append(h.Append(nil), body...), make([]byte, 20)...)
			for cut := range len(head) {
				if at, to := conn.placeFor(head[:cut:cut], n); to != nil && cut < smb2.ReadDataOffset {
					t.Fatalf("%d octets are enough to place the data at %d", cut, at)
				} else if to != nil {
					k.placed = 0
				}
			}
			if at, to := conn.placeFor(head, n); at != c.at || (to != nil) != (c.at != 0) {
				t.Errorf("data at %d, placed %v, want %d", at, to != nil, c.at)
			}
		})
	}
}

// Who gives a READ up has his memory back at once, though its answer is just arriving;
// so has who loses the connection.
func TestReadGivenUpInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(s *Session, cancel func())
		want error
	}{
		{"context", func(_ *Session, cancel func()) { cancel() }, context.Canceled},
		{"connection", func(s *Session, _ func()) { _ = s.main().fail(errEnded) }, net.ErrClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l := newFake(t, linkConfig{patient: true})
			f.data = bytes.Repeat([]byte{1}, 100_000)
			f.on[smb2.CommandCancel] = func(*fake, smb2.Header, []byte) bool { return true }
			file := f.open(l, Config{})
			s := file.Share().Session()
			arriving, goOn, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
			l.midway = func() {
				close(arriving)
				<-goOn
			}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			p := make([]byte, len(f.data))
			go func() {
				defer close(over)
				if _, err := file.ReadAtContext(ctx, p, 0); !errors.Is(err, c.want) {
					t.Error(err)
				}
			}()
			<-arriving
			c.end(s, cancel)
			<-over
			if p[0] != 1 || p[len(p)-1] != 0 {
				t.Fatalf("begins with %d and ends with %d, want 1 and 0: half of it had come", p[0], p[len(p)-1])
			}
			clear(p)
			l.midway = nil
			close(goOn)
			if s.Err() == nil {
				must(t, s.Echo(context.Background())) // behind the rest of the answer
			} else {
				s.Close()
			}
			if !bytes.Equal(p, make([]byte, len(p))) {
				t.Error("the memory was written to after the call had returned")
			}
		})
	}
}

// piping is a connection with which the first registration for a pipe ends in that being
// as end leaves it; what the peer writes is in memory all the same.
type piping struct {
	*link
	end func(p *Pipe)
}

func (c piping) RDMA() transport.RDMA { return pipingRDMA{c.link.RDMA().(*linkRDMA), c.end} }

type pipingRDMA struct {
	*linkRDMA
	end func(p *Pipe)
}

func (r pipingRDMA) RegisterPiped(ctx context.Context, p []byte, pipe *transport.Pipe) (transport.Registration, error) {
	reg, err := r.Register(ctx, p, transport.PeerWrites)
	return pipingRegistration{reg, pipe, r.end}, err
}

type pipingRegistration struct {
	transport.Registration
	pipe *transport.Pipe
	end  func(p *Pipe)
}

func (r pipingRegistration) Deregister(ctx context.Context, token uint32, ok bool) error {
	err := r.Registration.Deregister(ctx, token, ok)
	r.end(r.pipe)
	return err
}

// What a pipe has is nothing to go by where the server has written to the same place twice.
func TestTornPipe(t *testing.T) {
	f, l := newFake(t, linkConfig{rdma: true})
	f.data = random(1 << 16)
	file := f.open(piping{l, func(p *Pipe) { p.N, p.Over, p.Torn = 1, true, true }}, Config{})
	p := make([]byte, len(f.data))
	if n, err := file.ReadAtContext(context.Background(), p, 0); n != len(p) || err != nil {
		t.Fatal("without a pipe:", n, err)
	}
	n, err := file.ReadAtPiped(context.Background(), p, 0, &Pipe{})
	if pe := (*ProtocolError)(nil); n != 0 || !errors.As(err, &pe) {
		t.Errorf("%d bytes, %v, want none and a ProtocolError", n, err)
	}
}

// A server that finds a file shorter than it was writes zeros by RDMA for what is missing, and
// says so. If the file has grown again when the rest is read, the pipe has the zeros in place
// of that.
func TestPipeHasMoreThanWasRead(t *testing.T) {
	data := random(1 << 16)
	for _, c := range []struct {
		name         string
		short, piped int
		spoilt       bool
	}{
		{"the whole", 1 << 16, 1 << 16, false},
		{"as much as was read", 40_000, 40_000, false},
		{"less than was read", 40_000, 1000, false},
		{"more than was read", 40_000, 1 << 16, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l := newFake(t, linkConfig{rdma: true})
			f.data = data[:c.short]
			file := f.open(piping{l, func(p *Pipe) {
				p.N, p.Over = c.piped, c.piped < len(data)
				f.mu.Lock()
				f.data = data // it has grown
				f.mu.Unlock()
			}}, Config{})
			p, pipe := make([]byte, len(data)), Pipe{}
			if n, err := file.ReadAtPiped(context.Background(), p, 0, &pipe); n != len(p) || err != nil {
				t.Fatal(n, err)
			}
			if pipe.Spoilt != c.spoilt || pipe.N != c.piped {
				t.Errorf("%+v, want spoilt %v", pipe, c.spoilt)
			}
			if !bytes.Equal(p, data) {
				t.Error("what is in memory is not what the file has")
			}
		})
	}
}

// A pipe is given to the request that asks for the beginning, again only while nothing is
// in it: what a first answer has left there is not the beginning of a second one.
func TestPipeOfTheBeginning(t *testing.T) {
	for _, c := range []struct {
		name            string
		issued          int
		path            DataPath
		pipe            *Pipe
		given, unusable bool
	}{
		{"none", 0, PathInline, nil, false, false},
		{"the beginning", 0, PathInline, &Pipe{}, true, false},
		{"behind it", 1000, PathInline, &Pipe{}, false, false},
		{"behind what is in it", 1000, PathInline, &Pipe{N: 1000}, false, false},
		{"once more", 0, PathInline, &Pipe{N: 1000}, false, true},
		{"by RDMA", 0, PathRDMA, &Pipe{}, true, false},
		{"by RDMA, to be verified here", 0, PathRDMASigned, &Pipe{}, false, false},
		{"by RDMA, to be decrypted here", 0, PathRDMAEncrypted, &Pipe{}, false, false},
		{"once more, by RDMA", 0, PathRDMA, &Pipe{N: 1000}, false, true},
		{"and again", 0, PathInline, &Pipe{Spoilt: true}, false, true},
	} {
		tr := transfer{pipe: c.pipe, issued: c.issued}
		if got := tr.pipeFor(&chunk{path: c.path}); (got != nil) != c.given || c.pipe != nil && c.pipe.Spoilt != c.unusable {
			t.Errorf("%s: given %v, %+v", c.name, got != nil, c.pipe)
		}
	}
}
