package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// spy is a dialer whose connections show what the client sends.
type spy struct {
	transport.Dialer
	mu   sync.Mutex
	msgs [][]byte // guarded by mu
}

type spyConn struct {
	transport.Conn
	s *spy
}

func (s *spy) Dial(ctx context.Context, addr string) (transport.Conn, error) {
	c, err := s.Dialer.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return spyConn{c, s}, nil
}

func (c spyConn) Send(ctx context.Context, m *transport.Message) error {
	c.s.mu.Lock()
	c.s.msgs = append(c.s.msgs, bytes.Join(m.Parts, nil))
	c.s.mu.Unlock()
	return c.Conn.Send(ctx, m)
}

// requests calls f for each request, with its place in its compound.
func (s *spy) requests(t *testing.T, f func(place int, h smb2.Header, msg []byte)) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.msgs {
		place := 0
		for el, err := range smb2.Compound(m) {
			must(t, err)
			h, err := smb2.ParseHeader(el)
			must(t, err)
			place++
			f(place, h, el)
		}
	}
	if len(s.msgs) == 0 {
		t.Fatal("nothing was sent")
	}
}

// everything does each kind of thing that a share has.
func everything(t *testing.T, sh *Share) {
	t.Helper()
	ctx := context.Background()
	data := random(3 << 20)
	must(t, sh.Mkdir(ctx, "d"))
	must(t, sh.MkdirAll(ctx, `d\e\f`))
	must(t, sh.WriteFile(ctx, `d\g`, data, 0o666))
	got, err := sh.ReadFile(ctx, `d\g`)
	must(t, err)
	if !bytes.Equal(got, data) {
		t.Error("what was read is not what was written")
	}
	_, err = sh.Stat(ctx, `d\g`)
	must(t, err)
	_, err = sh.ReadDir(ctx, "d")
	must(t, err)
	must(t, sh.Truncate(ctx, `d\g`, 12345))
	must(t, sh.Chtimes(ctx, `d\g`, time.Unix(1e9, 0), time.Unix(1e9, 0)))
	must(t, sh.Rename(ctx, `d\g`, `d\h`, true))
	_, err = sh.CopyFile(ctx, `d\h`, `d\i`)
	must(t, err)
	_, err = sh.StatFS(ctx)
	must(t, err)
	must(t, sh.Remove(ctx, `d\h`))
	must(t, sh.RemoveAll(ctx, "d"))
	if _, err := sh.Stat(ctx, `d`); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestQuirks looks at what servers other than ours are choosy about. The names
// begin with the subject of docs/interop.md, "Peer profiles".
func TestQuirks(t *testing.T) {
	t.Run("7 requests as ksmbd takes them", quirkRequests)
	t.Run("8 no channel where data is signed", quirkProtected)
}

// ksmbd on siw cannot send an answer of four pieces, hangs on more descriptors than
// nine, and takes a WRITE by RDMA with Length and DataOffset 0 alone.
func quirkRequests(t *testing.T) {
	s := newSite(t, linkConfig{rdma: true}, noTransforms)
	sp := &spy{Dialer: s.d}
	s.d = sp
	everything(t, s.mount(t, Config{}))
	reads, writes := 0, 0
	sp.requests(t, func(place int, h smb2.Header, msg []byte) {
		if place > 3 {
			t.Errorf("%v is the %dth request of a compound", h.Command, place)
		}
		var info []byte
		var at int
		switch h.Command {
		case smb2.CommandRead:
			m, err := smb2.ParseReadRequest(msg)
			must(t, err)
			if m.Channel == smb2.ChannelNone {
				return
			}
			reads++
			info, at = m.ChannelInfo, int(binary.LittleEndian.Uint16(msg[64+44:]))
			if m.Length == 0 || m.RemainingBytes != m.Length {
				t.Errorf("READ of %d with RemainingBytes %d", m.Length, m.RemainingBytes)
			}
		case smb2.CommandWrite:
			m, err := smb2.ParseWriteRequest(msg)
			must(t, err)
			if m.Channel == smb2.ChannelNone {
				return
			}
			writes++
			info, at = m.ChannelInfo, int(binary.LittleEndian.Uint16(msg[64+40:]))
			if off := binary.LittleEndian.Uint16(msg[64+2:]); m.Length != 0 || off != 0 || m.RemainingBytes == 0 {
				t.Errorf("WRITE with Length %d, DataOffset %d, RemainingBytes %d", m.Length, off, m.RemainingBytes)
			}
		default:
			return
		}
		ds, err := smb2.ParseBufferDescriptors(info)
		must(t, err)
		if at < 112 || ds.Len() > 8 {
			t.Errorf("%v: %d descriptors at %d", h.Command, ds.Len(), at)
		}
		for i := range ds.Len() {
			if ds.At(i).Length == 0 {
				t.Errorf("%v: descriptor %d is empty", h.Command, i)
			}
		}
	})
	if reads == 0 || writes == 0 {
		t.Errorf("%d READs and %d WRITEs by RDMA", reads, writes)
	}
}

// A READ with a channel in a signed session still gets its data by RDMA from
// ksmbd, and the signature does not cover it: from a server that knows no RDMA
// transforms nothing is asked for by RDMA then.
func quirkProtected(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		mode smb2.SecurityMode
		rdma bool
	}{
		{"we sign", Config{Signing: SigningRequired}, 0, false},
		{"it wants us to", Config{}, smb2.NegotiateSigningRequired, false},
		{"nobody signs", Config{}, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l := newFake(t, linkConfig{rdma: true})
			f.auth, f.mode, f.data = true, c.mode, random(1<<20)
			file := f.open(l, c.cfg)
			p := make([]byte, 1<<16)
			n, err := file.ReadAt(p, 0)
			must(t, err)
			if n != len(p) || !bytes.Equal(p, f.data[:n]) {
				t.Errorf("%d bytes read", n)
			}
			_, err = file.WriteAt(p, 0)
			must(t, err)
			st := file.sh.s.Stats()
			if byRDMA := st.RDMABytesRead > 0 && st.RDMABytesWritten > 0; byRDMA != c.rdma || !c.rdma && st.RDMABytesRead+st.RDMABytesWritten > 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}
