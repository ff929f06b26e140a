package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/test/vm/way"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// connect logs on by a transport that wrap, which may be nil, changes.
func connect(ctx context.Context, o options, odd func(ndk.Provider) ndk.Provider, wrap func(transport.Conn) transport.Conn) (*client.Session, *client.File, error) {
	d, addr, err := way.To(o.provider, o.host, o.port, nil, odd)
	if err != nil {
		return nil, nil, err
	}
	conn, err := d.Dial(ctx, addr)
	if err != nil {
		return nil, nil, err
	}
	if wrap != nil {
		conn = wrap(conn)
	}
	s, err := client.New(ctx, conn, o.config())
	if err != nil {
		return nil, nil, err
	}
	share, err := s.Mount(ctx, o.share)
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	f, err := share.OpenFile(ctx, "quirk", os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	return s, f, nil
}

// exchange writes 1 MiB and reads it back.
func exchange(f *client.File, out io.Writer, what string) error {
	p := make([]byte, 1<<20)
	for i := range p {
		p[i] = byte(i * 7)
	}
	start := time.Now()
	if _, err := f.WriteAt(p, 0); err != nil {
		return fmt.Errorf("%s: WRITE after %.1fs: %w", what, time.Since(start).Seconds(), err)
	}
	q := make([]byte, len(p))
	if _, err := f.ReadAt(q, 0); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: READ after %.1fs: %w", what, time.Since(start).Seconds(), err)
	}
	if !bytes.Equal(p, q) {
		return fmt.Errorf("%s: what was read is not what was written", what)
	}
	fmt.Fprintf(out, "%s: 1 MiB written and read back\n", what)
	return nil
}

// descriptors: the buffer of each READ and WRITE is named in n pieces.
func descriptors(ctx context.Context, o options, out io.Writer) error {
	s, f, err := connect(ctx, o, nil, func(c transport.Conn) transport.Conn { return pieces{c, o.n} })
	if err != nil {
		return err
	}
	defer s.Close()
	return exchange(f, out, fmt.Sprintf("%d descriptors", o.n))
}

// pieces is a connection whose registrations have n descriptors.
type pieces struct {
	transport.Conn
	n int
}

// RDMA implements transport.Conn.
func (c pieces) RDMA() transport.RDMA { return piecesRDMA{c.Conn.RDMA(), c.n} }

type piecesRDMA struct {
	transport.RDMA
	n int
}

// Register implements transport.RDMA.
func (r piecesRDMA) Register(ctx context.Context, p []byte, a transport.Access) (transport.Registration, error) {
	reg, err := r.RDMA.Register(ctx, p, a)
	if err != nil {
		return nil, err
	}
	cut := &cutRegistration{Registration: reg}
	for _, d := range reg.Descriptors() {
		size := (d.Length/uint32(r.n) + 4095) &^ 4095
		for d.Length > 0 {
			part := d
			part.Length = min(part.Length, size)
			cut.ds = append(cut.ds, part)
			d.Offset += uint64(part.Length)
			d.Length -= part.Length
		}
	}
	return cut, nil
}

type cutRegistration struct {
	transport.Registration
	ds []transport.Descriptor
}

// Descriptors implements transport.Registration.
func (r *cutRegistration) Descriptors() []transport.Descriptor { return r.ds }

// compound: n goroutines ask for the attributes of a file, and their requests go
// as one message.
func compound(ctx context.Context, o options, out io.Writer) error {
	var m *merger
	s, f, err := connect(ctx, o, nil, func(c transport.Conn) transport.Conn {
		m = &merger{Conn: c}
		return m
	})
	if err != nil {
		return err
	}
	defer s.Close()
	m.start(o.n)
	errs := make(chan error, o.n)
	for range o.n {
		go func() { // ends with the answer or its time; errs waits for all
			_, err := f.Stat()
			errs <- err
		}()
	}
	for range o.n {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		return fmt.Errorf("compound of %d: %w", o.n, err)
	}
	if _, err := f.Stat(); err != nil {
		return fmt.Errorf("after a compound of %d: %w", o.n, err)
	}
	fmt.Fprintf(out, "compound of %d: answered\n", o.n)
	return nil
}

// merger is a connection that makes one compound of the next messages.
type merger struct {
	transport.Conn
	mu   sync.Mutex
	want int      // guarded by mu: messages to join, 0 for none
	held [][]byte // guarded by mu
}

func (m *merger) start(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n > 1 {
		m.want = n
	}
}

// Send implements transport.Conn. [MS-SMB2] 3.2.4.1.4: each request but the last
// is padded to 8 octets and says in NextCommand, at 20 of its header, where the
// next one begins.
func (m *merger) Send(ctx context.Context, msg *transport.Message) error {
	m.mu.Lock()
	if m.want == 0 {
		m.mu.Unlock()
		return m.Conn.Send(ctx, msg)
	}
	m.held = append(m.held, bytes.Join(msg.Parts, nil))
	if len(m.held) < m.want {
		m.mu.Unlock()
		return nil
	}
	var all []byte
	for i, p := range m.held {
		if i < len(m.held)-1 {
			p = append(p, make([]byte, -len(p)&7)...)
			binary.LittleEndian.PutUint32(p[20:], uint32(len(p)))
		}
		all = append(all, p...)
	}
	m.want, m.held = 0, nil
	m.mu.Unlock()
	return m.Conn.Send(ctx, &transport.Message{Parts: [][]byte{all}})
}

// noReads: a client that says in its MPA Request that it serves no RDMA Reads,
// though each WRITE is one.
func noReads(ctx context.Context, o options, out io.Writer) error {
	s, f, err := connect(ctx, o, func(p ndk.Provider) ndk.Provider { return noReadsProvider{p} }, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	return exchange(f, out, "IRD 0")
}

type noReadsProvider struct{ ndk.Provider }

// Open implements ndk.Provider.
func (p noReadsProvider) Open(ctx context.Context, local netip.Addr, v ndk.Version) (ndk.Adapter, error) {
	a, err := p.Provider.Open(ctx, local, v)
	if err != nil {
		return nil, err
	}
	return noReadsAdapter{a}, nil
}

type noReadsAdapter struct{ ndk.Adapter }

// CreateConnector implements ndk.Adapter.
func (a noReadsAdapter) CreateConnector(ctx context.Context) (ndk.Connector, error) {
	c, err := a.Adapter.CreateConnector(ctx)
	if err != nil {
		return nil, err
	}
	return noReadsConnector{c}, nil
}

type noReadsConnector struct{ ndk.Connector }

// Connect implements ndk.Connector.
func (c noReadsConnector) Connect(ctx context.Context, qp ndk.QP, src, dst netip.AddrPort, p ndk.ConnParams) error {
	p.InboundReadLimit, p.Private = 0, nil
	return c.Connector.Connect(ctx, qp, src, dst, p)
}
