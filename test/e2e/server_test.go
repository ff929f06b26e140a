package e2e

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// liar makes a server say what it should not, from when it is armed on.
type liar struct {
	mu     sync.Mutex
	armed  smb2.Command                    // guarded by mu; answers to it are spoilt
	on     bool                            // guarded by mu
	tokens []uint32                        // guarded by mu: of the requests seen
	where  map[uint32]transport.Descriptor // guarded by mu: by token
	over   []transport.Descriptor          // guarded by mu: of the last answer, whose token is dead
	change func(l *liar, b []byte, m *transport.Message) [][]byte
	// after is called when the answer has gone.
	after func(l *liar, c transport.Conn)
}

type liarConn struct {
	transport.Conn
	l *liar
}

func (c *liarConn) Send(ctx context.Context, m *transport.Message) error {
	b := bytes.Join(m.Parts, nil)
	c.l.mu.Lock()
	// Of requests that failed, as those behind a lie may, there is nothing to tell.
	lie := c.l.on && len(b) >= smb2.HeaderSize+16 && smb2.Command(b[12]) == c.l.armed && bytes.Equal(b[8:12], make([]byte, 4))
	c.l.mu.Unlock()
	if !lie {
		return c.Conn.Send(ctx, m)
	}
	if m.HasInvalidate {
		c.l.mu.Lock()
		c.l.over = []transport.Descriptor{c.l.where[m.Invalidate]}
		c.l.mu.Unlock()
	}
	out := *m
	for _, msg := range c.l.change(c.l, b, &out) {
		out.Parts = [][]byte{msg}
		if err := c.Conn.Send(ctx, &out); err != nil {
			return err
		}
		out.HasInvalidate = false
	}
	if c.l.after != nil {
		c.l.after(c.l, c.Conn)
	}
	return nil
}

func (c *liarConn) RDMA() transport.RDMA {
	r := c.Conn.RDMA()
	if r == nil {
		return nil
	}
	return &liarRDMA{r, c.l}
}

type liarRDMA struct {
	transport.RDMA
	l *liar
}

func (r *liarRDMA) WriteFile(ctx context.Context, f *os.File, off int64, n int, remote []transport.Descriptor) (int, error) {
	r.l.mu.Lock()
	for _, d := range remote {
		r.l.where[d.Token] = d
		r.l.tokens = append(r.l.tokens, d.Token)
	}
	r.l.mu.Unlock()
	return r.RDMA.WriteFile(ctx, f, off, n, remote)
}

// Servers that lie about what they did: the client's call fails, or its data is
// right; the client never panics, and never lets the server touch what is not
// the server's.
func TestLyingServers(t *testing.T) {
	one := func(f func(b []byte)) func(*liar, []byte, *transport.Message) [][]byte {
		return func(_ *liar, b []byte, _ *transport.Message) [][]byte { f(b); return [][]byte{b} }
	}
	cut := func(n int) func(*liar, []byte, *transport.Message) [][]byte {
		return func(_ *liar, b []byte, _ *transport.Message) [][]byte { return [][]byte{b[:n]} }
	}
	same := one(func([]byte) {})
	const (
		fails = iota
		works
		either
	)
	const r, w = smb2.CommandRead, smb2.CommandWrite
	for _, c := range []struct {
		name    string
		schemes string
		cmd     smb2.Command
		change  func(*liar, []byte, *transport.Message) [][]byte
		after   func(*liar, transport.Conn)
		want    int
	}{
		{"DataRemaining 0xFFFFFFFF", "iwarp", r, one(func(b []byte) { le32(b, 72, 0xFFFFFFFF) }), nil, fails},
		{"DataRemaining one too large", "iwarp", r, one(func(b []byte) { le32(b, 72, 300_001) }), nil, fails},
		{"DataLength beyond the message", "tcp iwarp", r, one(func(b []byte) { le32(b, 68, 0xFFFFFFF0) }), nil, fails},
		{"DataOffset beyond the message", "tcp", r, one(func(b []byte) { b[66] = 255; le32(b, 68, 0x7FFFFFFF) }), nil, fails},
		{"DataOffset in the header", "tcp", r, one(func(b []byte) { b[66] = 8 }), nil, fails},
		{"more data than was asked for", "tcp", r, func(_ *liar, b []byte, _ *transport.Message) [][]byte {
			le32(b, 68, 300_000+4096)
			return [][]byte{append(b, make([]byte, 4096)...)}
		}, nil, fails},
		{"Count larger than the write", "tcp iwarp", w, one(func(b []byte) { le32(b, 68, 0xFFFFFFFF) }), nil, fails},
		{"MessageId of nobody", "tcp iwarp", r, one(func(b []byte) { le64(b, 24, 1<<40) }), nil, fails},
		{"MessageId 0", "tcp iwarp", w, one(func(b []byte) { le64(b, 24, 0) }), nil, fails},
		{"answered twice", "tcp iwarp", r, func(_ *liar, b []byte, _ *transport.Message) [][]byte { return [][]byte{b, b} }, nil, either},
		{"another command", "tcp iwarp", r, one(func(b []byte) { le16(b, 12, 5) }), nil, fails},
		{"a request", "tcp iwarp", r, one(func(b []byte) { b[16] &^= 1 }), nil, fails},
		{"StructureSize", "tcp iwarp", r, one(func(b []byte) { b[64] = 99 }), nil, fails},
		{"header StructureSize", "tcp iwarp", r, one(func(b []byte) { b[4] = 63 }), nil, fails},
		{"protocol id", "tcp iwarp", w, one(func(b []byte) { b[1] = 0 }), nil, fails},
		{"an encrypted message of nobody", "tcp iwarp", r, one(func(b []byte) { b[0] = 0xFD }), nil, fails},
		{"cut to 4 octets", "tcp iwarp", r, cut(4), nil, fails},
		{"cut to the header", "tcp iwarp", r, cut(64), nil, fails},
		{"cut to 66 octets", "tcp iwarp", w, cut(66), nil, fails},
		{"NextCommand 8", "tcp iwarp", r, one(func(b []byte) { le32(b, 20, 8) }), nil, fails},
		{"NextCommand beyond", "tcp iwarp", r, one(func(b []byte) { le32(b, 20, 0xFFFFFFF8) }), nil, fails},
		{"invalidates a token that there is not", "iwarp", r, func(_ *liar, b []byte, m *transport.Message) [][]byte {
			m.Invalidate, m.HasInvalidate = 0xBAD00BAD, true
			return [][]byte{b}
		}, nil, fails},
		{"invalidates nothing", "iwarp", r, func(_ *liar, b []byte, m *transport.Message) [][]byte {
			m.HasInvalidate = false
			return [][]byte{b}
		}, nil, works},
		{"invalidates another request's token", "iwarp", r, func(l *liar, b []byte, m *transport.Message) [][]byte {
			l.mu.Lock()
			defer l.mu.Unlock()
			for _, other := range l.tokens {
				if m.HasInvalidate && other != m.Invalidate {
					m.Invalidate = other
				}
			}
			return [][]byte{b}
		}, nil, either},
		{"writes to a token that is over", "iwarp", r, same, func(l *liar, c transport.Conn) {
			l.mu.Lock()
			to := l.over
			l.mu.Unlock()
			buf, err := c.RDMA().Lease(context.Background(), 1000)
			if err != nil {
				return // the client has ended it
			}
			defer buf.Release()
			for i := range buf.Bytes() {
				buf.Bytes()[i] = 0x66
			}
			_ = c.RDMA().Write(context.Background(), buf, 1000, to)
		}, either},
		{"the truth", "tcp iwarp", r, same, nil, works},
	} {
		for _, scheme := range []string{"tcp", "iwarp"} {
			if !bytes.Contains([]byte(c.schemes), []byte(scheme)) {
				continue
			}
			t.Run(c.name+"/"+scheme, func(t *testing.T) {
				l := &liar{where: map[uint32]transport.Descriptor{}, armed: c.cmd, change: c.change, after: c.after}
				s := newSite(t, options{
					wrap:   func(tc transport.Conn) transport.Conn { return &liarConn{tc, l} },
					server: func(c *server.Config) { c.Signing = server.PolicyOffered },
				})
				const size = 1_200_000 // four requests at a time
				content := octets(3, size)
				must(t, os.WriteFile(filepath.Join(s.dir, "f"), content, 0o644))
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				sh, err := mount(ctx, dialer(t, scheme), s.addr(scheme), client.Config{MaxIOSize: 300_000})
				must(t, err)
				defer sh.Session().Close()
				f, err := sh.OpenFile(ctx, "f", os.O_RDWR, 0)
				must(t, err)
				l.mu.Lock()
				l.on = true
				l.mu.Unlock()

				// What is beside the buffer is the caller's all the time, and so is
				// the buffer when the call has returned.
				mem := bytes.Repeat([]byte{stale}, size+2*4096)
				p := mem[4096:][:size:size]
				if c.cmd == w {
					copy(p, octets(4, size))
					_, err = f.WriteAtContext(ctx, p, 0)
				} else {
					_, err = f.ReadAtContext(ctx, p, 0)
					if err == nil && !bytes.Equal(p, content) {
						t.Error("the call succeeded with other octets than the file has")
					}
				}
				if c.want != either && (err != nil) != (c.want == fails) {
					t.Errorf("the call ends with %v", err)
				}
				if ctx.Err() != nil {
					t.Errorf("the call hung: %v", err)
				}
				for i := range p {
					p[i] = stale
				}
				_ = sh.Session().Echo(ctx) // lives or not; what is on its way comes
				sh.Session().Close()
				s.srv.Close()
				if n := bytes.Count(mem, []byte{stale}); n != len(mem) {
					t.Errorf("%d octets were changed that the server has no business with", len(mem)-n)
				}
				if st := sh.Session().TransportStats(); st.Registrations != 0 || st.LeasedBuffers != 0 {
					t.Errorf("left behind: %+v", st)
				}
			})
		}
	}
}
