package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// The server fetches a WRITE by RDMA Read, and the client's adapter answers it
// wrongly: a Terminate says so where it can, and nothing reaches the file.
func TestBadReadResponses(t *testing.T) {
	w := newTown(t, options{})
	content := octets(1, 1000)
	const token, size = 0x77, 40_000
	for _, c := range []struct {
		name   string
		answer func(r *rawIWARP, q readRequest)
		want   *[3]byte // nil: the client ends it itself
	}{
		{"to another STag", func(r *rawIWARP, q readRequest) { q.sink ^= 0x100; must(t, r.respond(q, make([]byte, q.size))) }, &[3]byte{1, 1, 0}},
		{"to another offset", func(r *rawIWARP, q readRequest) { q.sinkTO += 8; must(t, r.respond(q, make([]byte, q.size))) }, &[3]byte{1, 1, 1}},
		{"an octet too long", func(r *rawIWARP, q readRequest) { must(t, r.respond(q, make([]byte, q.size+1))) }, &[3]byte{1, 1, 1}},
		{"an octet too short", func(r *rawIWARP, q readRequest) { must(t, r.respond(q, make([]byte, q.size-1))) }, &[3]byte{1, 1, 1}},
		{"with a gap", func(r *rawIWARP, q readRequest) {
			must(t, r.write(append(r.frame(tagged(opReadResp, q.sink, q.sinkTO, false, 1, 2, 3)), r.frame(tagged(opReadResp, q.sink, q.sinkTO+4, false, 1))...)))
		}, &[3]byte{1, 1, 1}},
		{"by a Write to the sink", func(r *rawIWARP, q readRequest) {
			must(t, r.write(r.frame(tagged(opWrite, q.sink, q.sinkTO, true, make([]byte, 100)...))))
		}, &[3]byte{1, 1, 0}},
		{"by a Read of the sink", func(r *rawIWARP, q readRequest) {
			must(t, r.write(r.readFrame(readRequest{1, 0, 100, q.sink, q.sinkTO})))
		}, &[3]byte{0, 1, 0}},
		{"by half of it, and the end", func(r *rawIWARP, q readRequest) {
			must(t, r.write(r.frame(tagged(opReadResp, q.sink, q.sinkTO, false, make([]byte, 20_000)...))))
			must(t, r.c.CloseWrite())
		}, nil},
		{"by a Terminate", func(r *rawIWARP, q readRequest) { must(t, r.protest(0x01, 0)) }, nil},
		{"by silence, and the end", func(r *rawIWARP, q readRequest) { must(t, r.c.CloseWrite()) }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			must(t, os.WriteFile(filepath.Join(w.dir, "victim"), content, 0o644))
			w.over(t, "iwarp", func(t *testing.T, p *peer) {
				d := p.c.(*rawDirect)
				asked := false
				d.onRead = func(q readRequest) {
					if !asked {
						asked = true
						c.answer(d.rawIWARP, q)
					}
				}
				m := &smb2.WriteRequest{FileID: p.fid, Channel: smb2.ChannelRDMAV1, RemainingBytes: size, ChannelInfo: buffers(smb2.BufferDescriptor{Token: token, Length: size})}
				must(t, d.Send(p.element(p.header(smb2.CommandWrite), m)))
				if h, _, err := p.answer(); err == nil {
					t.Errorf("answered with %v", h.Status)
				}
				got := d.ended()
				if !asked {
					t.Error("the server did not read")
				}
				if c.want != nil && (got == nil || *got != *c.want) {
					t.Errorf("Terminate says %v, want %v", got, *c.want)
				}
			})
			if got := w.read("victim"); !bytes.Equal(got, content) {
				t.Error("the file was changed")
			}
		})
	}
}

// RFC 5040 §5.2: as many Reads as were agreed on may be under way, however fast
// the next one follows a Response; many more end the connection, or are served.
func TestReadDepth(t *testing.T) {
	w := newTown(t, options{})
	t.Run("as agreed", func(t *testing.T) {
		d := dialDirect(t, w.addr("iwarp"), false)
		const depth, total = 32, 20_000
		sent := 0
		ask := func() {
			sent++
			must(t, d.write(d.readFrame(readRequest{5, uint64(sent), 0, 0xBAD, 0}))) // of length 0: any STag will do
		}
		for sent < depth {
			ask()
		}
		for got := 1; got <= total; got++ {
			u, _, err := d.next()
			if err != nil {
				t.Fatalf("after %d Responses: %v %v", got-1, err, d.term)
			}
			if u[0] != 0xC1 || u[1] != opReadResp || binary.BigEndian.Uint64(u[6:]) != uint64(got) {
				t.Fatalf("Response %d is %x", got, u)
			}
			if sent < total {
				ask()
			}
		}
		d.c.Close()
		w.check(t)
	})
	t.Run("far more", func(t *testing.T) {
		d := dialDirect(t, w.addr("iwarp"), false)
		var burst []byte
		const total = 5000
		for range total {
			burst = append(burst, d.readFrame(readRequest{5, 0, 0, 0xBAD, 0})...)
		}
		_ = d.write(burst) // it may be cut off meanwhile
		for got := 0; got < total; got++ {
			if _, _, err := d.next(); errors.Is(err, errTerminated) {
				if want := [3]byte{1, 2, 2}; *d.term != want {
					t.Errorf("Terminate says %v, want %v", *d.term, want)
				}
				break
			} else if err != nil {
				t.Fatalf("after %d: %v", got, err)
			}
		}
		d.c.Close()
		w.check(t)
	})
}
