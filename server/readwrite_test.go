package server

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// octets is n octets that differ from place to place.
func octets(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8*13 + 1)
	}
	return b
}

// register makes memory of the client reachable and returns its descriptors as
// channel information.
func (p *peer) register(b []byte, a transport.Access) (transport.Registration, []byte) {
	p.t.Helper()
	g, err := p.c.RDMA().Register(p.s.ctx, b, a)
	if err != nil {
		p.t.Fatal(err)
	}
	return g, info(g.Descriptors()...)
}

func info(ds ...transport.Descriptor) []byte {
	var b []byte
	for _, d := range ds {
		b = smb2.BufferDescriptor{Offset: d.Offset, Token: d.Token, Length: d.Length}.Append(b)
	}
	return b
}

// 3.3.5.12 with SMB2_CHANNEL_NONE.
func TestReadInline(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	content := octets(200_000)
	s.write("f", content)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	f := p.openFile("f")
	dir := createRequest("", smb2.FileOpen)
	dir.DesiredAccess = smb2.FileReadData
	d := p.create(dir)
	writer := createRequest("f", smb2.FileOpen)
	writer.DesiredAccess = smb2.FileWriteData
	w := p.create(writer)
	size := uint64(len(content))
	for _, c := range []struct {
		name string
		m    smb2.ReadRequest
		st   ntstatus.Status
		n    int
	}{
		{"some", smb2.ReadRequest{FileID: f, Offset: 3, Length: 10}, 0, 10},
		{"all", smb2.ReadRequest{FileID: f, Length: 300_000}, 0, 200_000},
		{"the end", smb2.ReadRequest{FileID: f, Offset: size - 1, Length: 10}, 0, 1},
		{"MinimumCount met", smb2.ReadRequest{FileID: f, Offset: size - 9, Length: 10, MinimumCount: 9}, 0, 9},
		{"MinimumCount missed", smb2.ReadRequest{FileID: f, Offset: size - 9, Length: 10, MinimumCount: 10}, ntstatus.EndOfFile, 0},
		{"beyond the end", smb2.ReadRequest{FileID: f, Offset: size, Length: 1}, ntstatus.EndOfFile, 0},
		{"nothing at the end", smb2.ReadRequest{FileID: f, Offset: size}, 0, 0},
		{"nothing, at least 1", smb2.ReadRequest{FileID: f, MinimumCount: 1}, ntstatus.EndOfFile, 0},
		{"last offset", smb2.ReadRequest{FileID: f, Offset: math.MaxInt64 - 1, Length: 1}, ntstatus.EndOfFile, 0},
		{"end beyond all offsets", smb2.ReadRequest{FileID: f, Offset: math.MaxInt64, Length: 1}, ntstatus.InvalidParameter, 0},
		{"negative offset", smb2.ReadRequest{FileID: f, Offset: math.MaxInt64 + 1}, ntstatus.InvalidParameter, 0},
		{"offset -1", smb2.ReadRequest{FileID: f, Offset: math.MaxUint64, Length: 1}, ntstatus.InvalidParameter, 0},
		{"above MaxReadSize", smb2.ReadRequest{FileID: f, Length: 8<<20 + 1}, ntstatus.InvalidParameter, 0},
		{"unknown file", smb2.ReadRequest{FileID: smb2.FileID{Persistent: 1, Volatile: 2}, Length: 1}, ntstatus.FileClosed, 0},
		{"persistent part wrong", smb2.ReadRequest{FileID: smb2.FileID{Persistent: f.Persistent + 1, Volatile: f.Volatile}, Length: 1}, ntstatus.FileClosed, 0},
		{"directory", smb2.ReadRequest{FileID: d, Length: 1}, ntstatus.InvalidDeviceRequest, 0},
		{"no FILE_READ_DATA", smb2.ReadRequest{FileID: w, Length: 1}, ntstatus.AccessDenied, 0},
		{"RDMA without RDMA, SM-10", smb2.ReadRequest{FileID: f, Length: 1, Channel: smb2.ChannelRDMAV1, ChannelInfo: make([]byte, 16)}, ntstatus.InvalidParameter, 0},
		{"unknown channel, SM-09", smb2.ReadRequest{FileID: f, Length: 1, Channel: 4, ChannelInfo: make([]byte, 16)}, ntstatus.InvalidParameter, 0},
	} {
		st, msg := p.doSized(smb2.CommandRead, int(c.m.Length), &c.m)
		want(t, c.name, st, c.st)
		if st != ntstatus.Success || c.st != ntstatus.Success {
			continue
		}
		m, err := smb2.ParseReadResponse(msg)
		if err != nil || len(m.Data) != c.n || m.DataRemaining != 0 {
			t.Errorf("%s: %d octets, %d remaining, %v, want %d, 0", c.name, len(m.Data), m.DataRemaining, err, c.n)
			continue
		}
		if !bytes.Equal(m.Data, content[c.m.Offset:c.m.Offset+uint64(c.n)]) {
			t.Errorf("%s: wrong octets", c.name)
		}
	}
	if st := s.srv.Stats(); st.BytesCopied != st.ReadInline || st.ReadInline != 10+200_000+1+9 {
		t.Errorf("read inline %d, copied %d, want 200020 both", st.ReadInline, st.BytesCopied)
	}
}

// A reply that does not fit the transport's messages is cut short: a read may
// return less than was asked for.
func TestReadShortForSmallMessages(t *testing.T) {
	s := newSite(t, memconn.Config{RDMA: true, MaxMessage: 131072}, nil)
	content := octets(300_000)
	s.write("f", content)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	if p.neg.MaxReadSize != 8<<20 || p.neg.MaxTransactSize != 131072-reserve {
		t.Errorf("MaxReadSize %d, MaxTransactSize %d", p.neg.MaxReadSize, p.neg.MaxTransactSize)
	}
	f := p.openFile("f")
	st, msg := p.doSized(smb2.CommandRead, 300_000, &smb2.ReadRequest{FileID: f, Length: 300_000})
	want(t, "READ", st, ntstatus.Success)
	if m, err := smb2.ParseReadResponse(msg); err != nil || !bytes.Equal(m.Data, content[:131072-reserve]) {
		t.Errorf("%d octets, %v, want %d", len(m.Data), err, 131072-reserve)
	}
}

// To a client that takes a short answer for the end of the file nothing is cut short:
// a READ whose data is all there is answered, to the last octet that fits, and one that
// would be cut is refused, with one warning for all of a connection.
func TestReadRefusedForSmallMessages(t *testing.T) {
	const message = 131072
	fits := map[bool]int{
		false: message - smb2.HeaderSize - 16,
		true:  message - smb2.HeaderSize - 16 - smb2.TransformHeaderSize,
	}
	for _, encrypt := range []bool{false, true} {
		t.Run(fmt.Sprintf("encrypted=%v", encrypt), func(t *testing.T) {
			var log bytes.Buffer
			s := newSite(t, memconn.Config{RDMA: true, MaxMessage: message, NoShortReads: true}, func(c *Config) {
				c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
				if encrypt {
					c.Encryption = PolicyRequired
				}
			})
			content, most := octets(300_000), fits[encrypt]
			s.write("f", content)
			p := s.login(smb2.DialectSMB311).mustConnect("data")
			f := p.openFile("f")
			for _, c := range []struct {
				name   string
				off, n int
				got    int // -1: refused
			}{
				{"all that fits", 0, most, most},
				{"one more", 0, most + 1, -1},
				{"all", 0, 300_000, -1},
				{"the rest of the file, one more than fits", 300_000 - most - 1, 1 << 20, -1},
				{"the rest of the file, which fits", 300_000 - most, 1 << 20, most},
				{"a short rest", 299_990, 1 << 20, 10},
			} {
				st, msg := p.doSized(smb2.CommandRead, c.n, &smb2.ReadRequest{FileID: f, Offset: uint64(c.off), Length: uint32(c.n)})
				if c.got < 0 {
					want(t, c.name, st, ntstatus.InvalidParameter)
					continue
				}
				want(t, c.name, st, ntstatus.Success)
				if m, err := smb2.ParseReadResponse(msg); err != nil || !bytes.Equal(m.Data, content[c.off:c.off+c.got]) {
					t.Errorf("%s: %d octets, %v, want %d", c.name, len(m.Data), err, c.got)
				}
			}
			if n := strings.Count(log.String(), "rsize=65536"); n != 1 {
				t.Errorf("%d warnings:\n%s", n, &log)
			}
		})
	}
}

// A file's octets do not travel in the clear for a client that encrypts: without RDMA
// transforms, [MS-SMB2] 2.2.43, an encrypted request must not name a channel.
func TestNoRDMAForEncryptedRequests(t *testing.T) {
	s := newSite(t, memconn.Config{RDMA: true}, nil)
	s.write("f", octets(100))
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	f := p.openFile("f")
	p.seal = true
	buf := make([]byte, 100)
	g, ci := p.register(buf, transport.PeerWrites|transport.PeerReads)
	defer g.Deregister(s.ctx, 0, false)
	st, _ := p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: f, Length: 100, Channel: smb2.ChannelRDMAV1, ChannelInfo: ci})
	want(t, "READ", st, ntstatus.InvalidParameter)
	if !bytes.Equal(buf, make([]byte, 100)) {
		t.Error("READ has written to the buffer")
	}
	st, _ = p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: f, RemainingBytes: 100, Channel: smb2.ChannelRDMAV1, ChannelInfo: ci})
	want(t, "WRITE", st, ntstatus.InvalidParameter)
	if !bytes.Equal(s.read("f"), octets(100)) {
		t.Error("WRITE has changed the file")
	}
}

// 3.3.5.13 with SMB2_CHANNEL_NONE.
func TestWriteInline(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	s.write("ro", []byte("x"))
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	f := p.openFile("f")
	reader := createRequest("f", smb2.FileOpen)
	reader.DesiredAccess = smb2.FileReadData
	r := p.create(reader)
	appender := createRequest("f", smb2.FileOpen)
	appender.DesiredAccess = smb2.FileAppendData
	a := p.create(appender)
	dir := createRequest("", smb2.FileOpen)
	dir.DesiredAccess = smb2.FileWriteData
	d := p.create(dir)
	for _, c := range []struct {
		name  string
		m     smb2.WriteRequest
		st    ntstatus.Status
		after string
	}{
		{"begin", smb2.WriteRequest{FileID: f, Data: []byte("hello")}, 0, "hello"},
		{"within", smb2.WriteRequest{FileID: f, Offset: 1, Data: []byte("a")}, 0, "hallo"},
		{"write-through", smb2.WriteRequest{FileID: f, Offset: 5, Data: []byte("!"), Flags: 1}, 0, "hallo!"},
		{"unbuffered", smb2.WriteRequest{FileID: f, Offset: 5, Data: []byte("."), Flags: 2}, 0, "hallo."},
		{"nothing", smb2.WriteRequest{FileID: f, Offset: 100}, 0, "hallo."},
		{"append", smb2.WriteRequest{FileID: a, Offset: math.MaxUint64, Data: []byte("..")}, 0, "hallo..."},
		{"offset -1 of an open that need not append", smb2.WriteRequest{FileID: f, Offset: math.MaxUint64, Data: []byte("x")}, ntstatus.InvalidParameter, "hallo..."},
		{"negative offset", smb2.WriteRequest{FileID: f, Offset: 1 << 63}, ntstatus.InvalidParameter, "hallo..."},
		{"end beyond all offsets", smb2.WriteRequest{FileID: f, Offset: math.MaxInt64, Data: []byte("x")}, ntstatus.InvalidParameter, "hallo..."},
		{"no right to write", smb2.WriteRequest{FileID: r, Data: []byte("x")}, ntstatus.AccessDenied, "hallo..."},
		{"directory", smb2.WriteRequest{FileID: d, Data: []byte("x")}, ntstatus.InvalidDeviceRequest, "hallo..."},
		{"unknown file", smb2.WriteRequest{FileID: smb2.FileID{Volatile: 1}, Data: []byte("x")}, ntstatus.FileClosed, "hallo..."},
		{"RDMA without RDMA, SM-16", smb2.WriteRequest{FileID: f, Channel: 1, RemainingBytes: 16, ChannelInfo: make([]byte, 16)}, ntstatus.InvalidParameter, "hallo..."},
		{"transform, none negotiated, SM-26", smb2.WriteRequest{FileID: f, Channel: 3, RemainingBytes: 16, ChannelInfo: make([]byte, 64)}, ntstatus.InvalidParameter, "hallo..."},
	} {
		st, msg := p.do(smb2.CommandWrite, &c.m)
		want(t, c.name, st, c.st)
		if got := string(s.read("f")); got != c.after {
			t.Errorf("%s: file has %q, want %q", c.name, got, c.after)
		}
		if st == ntstatus.Success {
			if m, err := smb2.ParseWriteResponse(msg); err != nil || int(m.Count) != len(c.m.Data) {
				t.Errorf("%s: Count %d, %v, want %d", c.name, m.Count, err, len(c.m.Data))
			}
		}
	}

	// DataOffset above 0x100.
	h := p.header(smb2.CommandWrite)
	b := p.element(h, &smb2.WriteRequest{FileID: f, Data: make([]byte, 400)})
	b[smb2.HeaderSize+2], b[smb2.HeaderSize+3] = 0x08, 0x01
	b[smb2.HeaderSize+4], b[smb2.HeaderSize+5] = 8, 0
	p.use(h)
	p.transmit(p.protect(b))
	resp, _ := p.answer()
	want(t, "DataOffset 0x108", resp.Status, ntstatus.InvalidParameter)

	big := octets(8 << 20)
	st, _ := p.doSized(smb2.CommandWrite, len(big), &smb2.WriteRequest{FileID: f, Data: big})
	want(t, "8 MiB", st, ntstatus.Success)
	if !bytes.Equal(s.read("f"), big) {
		t.Error("8 MiB: wrong octets")
	}
	st, _ = p.do(smb2.CommandFlush, &smb2.FlushRequest{FileID: f})
	want(t, "FLUSH", st, ntstatus.Success)
	st, _ = p.do(smb2.CommandFlush, &smb2.FlushRequest{FileID: r})
	want(t, "FLUSH without the right to write, 3.3.5.11", st, ntstatus.AccessDenied)

	p.mustConnect("ro")
	ro := createRequest("ro", smb2.FileOpen)
	ro.DesiredAccess = smb2.FileReadData
	g := p.create(ro)
	st, _ = p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: g, Data: []byte("y")})
	want(t, "read-only share", st, ntstatus.AccessDenied)
}

// 3.3.5.12 with RDMA, SM-09 to SM-15 and SM-19. It runs over a file with a
// descriptor, and over one without.
func TestReadRDMA(t *testing.T) {
	for _, hide := range []bool{false, true} {
		name := map[bool]string{false: "from the file", true: "from a buffer"}[hide]
		t.Run(name, func(t *testing.T) { testReadRDMA(t, hide) })
	}
}

func testReadRDMA(t *testing.T, hide bool) {
	s := newSite(t, memconn.Config{RDMA: true}, func(c *Config) {
		if hide {
			c.Shares[0].FS = hideOS{c.Shares[0].FS}
		}
	})
	content := octets(1<<20 + 77)
	s.write("f", content)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	f := p.openFile("f")
	size := uint64(len(content))
	total := 0
	for _, c := range []struct {
		name string
		m    smb2.ReadRequest
		buf  int
		st   ntstatus.Status
		n    int
	}{
		{"1 MiB", smb2.ReadRequest{Length: 1 << 20}, 1 << 20, 0, 1 << 20},
		{"unaligned", smb2.ReadRequest{Offset: 77, Length: 1000}, 1000, 0, 1000},
		{"1 octet", smb2.ReadRequest{Length: 1}, 1, 0, 1},
		{"across the end, the rest of the buffer stays", smb2.ReadRequest{Offset: size - 100, Length: 5000}, 5000, 0, 100},
		{"buffer just large enough for what there is", smb2.ReadRequest{Offset: size - 100, Length: 5000}, 100, 0, 100},
		{"buffer larger than Length", smb2.ReadRequest{Length: 10}, 64, 0, 10},
		{"buffer too small, SM-15", smb2.ReadRequest{Length: 5000}, 4999, ntstatus.InvalidParameter, 0},
		{"at the end, SM-14", smb2.ReadRequest{Offset: size, Length: 1}, 16, ntstatus.EndOfFile, 0},
		{"below MinimumCount, SM-14", smb2.ReadRequest{Offset: size - 100, Length: 200, MinimumCount: 101}, 200, ntstatus.EndOfFile, 0},
		{"Length 0, SM-10", smb2.ReadRequest{}, 16, ntstatus.InvalidParameter, 0},
	} {
		for _, channel := range []smb2.Channel{smb2.ChannelRDMAV1, smb2.ChannelRDMAV1Invalidate} {
			buf := bytes.Repeat([]byte{0xEE}, c.buf)
			g, ci := p.register(buf, transport.PeerWrites)
			c.m.FileID, c.m.Channel, c.m.ChannelInfo, c.m.RemainingBytes = f, channel, ci, c.m.Length
			st, msg := p.doSized(smb2.CommandRead, int(c.m.Length), &c.m)
			want(t, c.name, st, c.st)
			// SM-12, SM-13: the first token, on errors too, and only where asked for.
			token := g.Descriptors()[0].Token
			if invalidate := channel == smb2.ChannelRDMAV1Invalidate; invalidate != (p.lastInv != nil) ||
				invalidate && *p.lastInv != token {
				t.Errorf("%s, channel %d: invalidated %v, want token %#x", c.name, channel, p.lastInv, token)
			}
			g.Deregister(s.ctx, 0, false)
			if !bytes.Equal(buf[:c.n], content[c.m.Offset:][:c.n]) || !bytes.Equal(buf[c.n:], bytes.Repeat([]byte{0xEE}, c.buf-c.n)) {
				t.Errorf("%s, channel %d: wrong octets in the buffer", c.name, channel)
			}
			if st != ntstatus.Success || c.st != ntstatus.Success {
				continue
			}
			total += c.n
			// SM-11: DataOffset 80, DataLength 0, DataRemaining n, nothing behind it.
			m, err := smb2.ParseReadResponse(msg)
			if err != nil || msg[66] != 80 || m.DataLength != 0 || m.DataRemaining != uint32(c.n) || len(msg) != 80 {
				t.Errorf("%s: DataOffset %d, %+v, %d octets, %v", c.name, msg[66], m, len(msg), err)
			}
		}
	}
	st := s.srv.Stats()
	if st.ReadRDMA != uint64(total) || st.BytesCopied != 0 {
		t.Errorf("by RDMA %d, copied %d, want %d and 0", st.ReadRDMA, st.BytesCopied, total)
	}
	if fromFile := st.ReadFromFile; (fromFile == st.ReadRDMA) == hide {
		t.Errorf("%d of %d from the file", fromFile, st.ReadRDMA)
	}

	// SM-19: as many descriptors as fit, in order.
	const n = 4095
	buf := make([]byte, n*3)
	g, _ := p.register(buf, transport.PeerWrites)
	base := g.Descriptors()[0]
	ds := make([]transport.Descriptor, n)
	for i := range ds {
		ds[i] = transport.Descriptor{Offset: base.Offset + uint64(i)*3, Token: base.Token, Length: 3}
	}
	status, _ := p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: f, Length: n * 3, Channel: 1, ChannelInfo: info(ds...)})
	want(t, "4095 descriptors", status, ntstatus.Success)
	if !bytes.Equal(buf, content[:n*3]) {
		t.Error("4095 descriptors: wrong octets")
	}
	for name, m := range map[string]smb2.ReadRequest{
		"no descriptor":      {Channel: 1, Length: 1},
		"half a descriptor":  {Channel: 1, Length: 1, ChannelInfo: make([]byte, 24)},
		"unknown channel":    {Channel: 9, Length: 1, ChannelInfo: info(base)},
		"transform in READ":  {Channel: 3, Length: 1, ChannelInfo: info(base)},
		"above MaxReadSize":  {Channel: 1, Length: 8<<20 + 1, ChannelInfo: info(base)},
		"end beyond offsets": {Channel: 1, Length: 2, Offset: math.MaxInt64, ChannelInfo: info(base)},
	} {
		m.FileID = f
		status, _ := p.doSized(smb2.CommandRead, int(m.Length), &m)
		want(t, name, status, ntstatus.InvalidParameter)
	}
	g.Deregister(s.ctx, 0, false)
}

// SM-09, SM-12: 3.0 knows no invalidation, and a connection without the ability
// does not invalidate.
func TestChannelByDialect(t *testing.T) {
	for _, c := range []struct {
		d       smb2.Dialect
		channel smb2.Channel
		st      ntstatus.Status
		inv     bool
	}{
		{smb2.DialectSMB300, 1, 0, false},
		{smb2.DialectSMB300, 2, ntstatus.InvalidParameter, false},
		{smb2.DialectSMB302, 1, 0, false},
		{smb2.DialectSMB302, 2, 0, true},
		{smb2.DialectSMB302, 3, ntstatus.InvalidParameter, false},
		{smb2.DialectSMB311, 2, 0, true},
	} {
		s := newSite(t, memconn.Config{RDMA: true}, nil)
		s.write("f", octets(100))
		p := s.login(c.d).mustConnect("data")
		f := p.openFile("f")
		for range 2 {
			buf := make([]byte, 100)
			g, ci := p.register(buf, transport.PeerWrites)
			st, _ := p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: f, Length: 100, Channel: c.channel, ChannelInfo: ci})
			want(t, c.d.String(), st, c.st)
			if (p.lastInv != nil) != c.inv {
				t.Errorf("%v, channel %d: invalidated %v, want %v", c.d, c.channel, p.lastInv != nil, c.inv)
			}
			g.Deregister(s.ctx, 0, false)
			g, ci = p.register(buf, transport.PeerReads)
			st, _ = p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: f, RemainingBytes: 100, Channel: c.channel, ChannelInfo: ci})
			want(t, c.d.String(), st, c.st)
			if (p.lastInv != nil) != c.inv {
				t.Errorf("%v, WRITE, channel %d: invalidated %v, want %v", c.d, c.channel, p.lastInv != nil, c.inv)
			}
			g.Deregister(s.ctx, 0, false)
		}
	}
}

// The token dies with every final answer, wherever the request failed: cifs.ko
// uses it again without looking.
func TestInvalidationOnErrors(t *testing.T) {
	s := newSite(t, memconn.Config{RDMA: true}, nil)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	f := p.openFile("f")
	for name, change := range map[string]func(*smb2.Header, *smb2.ReadRequest){
		"no such session": func(h *smb2.Header, m *smb2.ReadRequest) { h.SessionID++ },
		"no such tree":    func(h *smb2.Header, m *smb2.ReadRequest) { h.TreeID++ },
		"no such file":    func(h *smb2.Header, m *smb2.ReadRequest) { m.FileID.Volatile++ },
		"too few credits": func(h *smb2.Header, m *smb2.ReadRequest) { m.Length = 1 << 20 },
		"end of file":     func(h *smb2.Header, m *smb2.ReadRequest) {},
	} {
		g, ci := p.register(make([]byte, 16), transport.PeerWrites)
		h := p.header(smb2.CommandRead)
		m := smb2.ReadRequest{FileID: f, Length: 16, Channel: 2, ChannelInfo: ci}
		change(&h, &m)
		if st, _ := p.doHeader(h, &m); !st.IsError() {
			t.Errorf("%s: %v", name, st)
		}
		if p.lastInv == nil || *p.lastInv != g.Descriptors()[0].Token {
			t.Errorf("%s: invalidated %v, want %#x", name, p.lastInv, g.Descriptors()[0].Token)
		}
	}
}

// 3.3.5.13 with RDMA, SM-16 to SM-19.
func TestWriteRDMA(t *testing.T) {
	s := newSite(t, memconn.Config{RDMA: true}, nil)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	f := p.openFile("f")
	content := octets(1<<20 + 5)
	g, ci := p.register(content, transport.PeerReads)
	d := g.Descriptors()[0]
	part := func(off uint64, n uint32) transport.Descriptor {
		return transport.Descriptor{Offset: d.Offset + off, Token: d.Token, Length: n}
	}
	for _, c := range []struct {
		name string
		m    smb2.WriteRequest
		st   ntstatus.Status
		file []byte
	}{
		{"all", smb2.WriteRequest{RemainingBytes: uint32(len(content)), ChannelInfo: ci}, 0, content},
		{"part", smb2.WriteRequest{RemainingBytes: 10, ChannelInfo: ci, Flags: 1}, 0, content[:10]},
		{"two descriptors", smb2.WriteRequest{RemainingBytes: 8, ChannelInfo: info(part(100, 5), part(1, 3))}, 0,
			append(bytes.Clone(content[100:105]), content[1:4]...)},
		{"RemainingBytes 0, SM-16", smb2.WriteRequest{ChannelInfo: ci}, ntstatus.InvalidParameter, nil},
		{"no descriptor, SM-16", smb2.WriteRequest{RemainingBytes: 1}, ntstatus.InvalidParameter, nil},
		{"Length and data, SM-16", smb2.WriteRequest{RemainingBytes: 4, Data: []byte("data"), ChannelInfo: ci}, ntstatus.InvalidParameter, nil},
		{"above MaxWriteSize, SM-17", smb2.WriteRequest{RemainingBytes: 8<<20 + 1, ChannelInfo: info(part(0, 9<<20))}, ntstatus.InvalidParameter, nil},
		{"first descriptor empty, SM-17", smb2.WriteRequest{RemainingBytes: 4, ChannelInfo: info(part(0, 0), part(0, 9))}, ntstatus.InvalidParameter, nil},
		{"descriptors too short, SM-17", smb2.WriteRequest{RemainingBytes: 9, ChannelInfo: info(part(0, 4), part(4, 4))}, ntstatus.InvalidParameter, nil},
		{"half a descriptor, SM-19", smb2.WriteRequest{RemainingBytes: 1, ChannelInfo: ci[:8]}, ntstatus.InvalidParameter, nil},
		{"offset", smb2.WriteRequest{RemainingBytes: 1, Offset: math.MaxInt64, ChannelInfo: ci}, ntstatus.InvalidParameter, nil},
	} {
		if err := os.Truncate(filepath.Join(s.dir, "f"), 0); err != nil {
			t.Fatal(err)
		}
		c.m.FileID, c.m.Channel = f, smb2.ChannelRDMAV1
		st, msg := p.doSized(smb2.CommandWrite, int(c.m.RemainingBytes), &c.m)
		want(t, c.name, st, c.st)
		if got := s.read("f"); !bytes.Equal(got, c.file) {
			t.Errorf("%s: %d octets in the file, want %d", c.name, len(got), len(c.file))
		}
		if st == ntstatus.Success {
			// SM-18: Count, and zeros.
			if m, err := smb2.ParseWriteResponse(msg); err != nil || m.Count != c.m.RemainingBytes || !bytes.Equal(msg[72:80], make([]byte, 8)) {
				t.Errorf("%s: Count %d, %v, %x", c.name, m.Count, err, msg[72:])
			}
		}
	}
	if st := s.srv.Stats(); st.BytesCopied != 0 || st.WriteRDMA != uint64(len(content)+10+8) {
		t.Errorf("copied %d, by RDMA %d", st.BytesCopied, st.WriteRDMA)
	}
	if n := p.c.Stats().Registrations; n != 1 {
		t.Errorf("%d registrations, want 1", n)
	}

	// A token that is not there is the client's fault, and costs its connection.
	h := p.header(smb2.CommandWrite)
	d.Token++
	p.post(h, &smb2.WriteRequest{FileID: f, Channel: 1, RemainingBytes: 1, ChannelInfo: info(d)})
	for {
		m, err := p.c.Receive(s.ctx)
		if err != nil {
			break
		}
		m.Release()
	}
}

// A locked range is closed to others, by either path.
func TestReadWriteLockConflict(t *testing.T) {
	s := newSite(t, memconn.Config{RDMA: true}, nil)
	s.write("f", octets(100))
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	q := s.login(smb2.DialectSMB311).mustConnect("data")
	f, g := p.openFile("f"), q.openFile("f")
	st, _ := p.do(smb2.CommandLock, &smb2.LockRequest{FileID: f, Locks: []smb2.LockElement{
		{Offset: 10, Length: 10, Flags: smb2.LockFlagExclusiveLock | smb2.LockFlagFailImmediately}}})
	want(t, "LOCK", st, ntstatus.Success)
	_, ci := q.register(make([]byte, 100), transport.PeerReads|transport.PeerWrites)
	for _, c := range []struct {
		name string
		cmd  smb2.Command
		m    body
		st   ntstatus.Status
	}{
		{"READ beside", smb2.CommandRead, &smb2.ReadRequest{FileID: g, Length: 10}, 0},
		{"READ into", smb2.CommandRead, &smb2.ReadRequest{FileID: g, Length: 11}, ntstatus.FileLockConflict},
		{"READ by RDMA", smb2.CommandRead, &smb2.ReadRequest{FileID: g, Length: 11, Channel: 1, ChannelInfo: ci}, ntstatus.FileLockConflict},
		{"WRITE into", smb2.CommandWrite, &smb2.WriteRequest{FileID: g, Offset: 19, Data: []byte("x")}, ntstatus.FileLockConflict},
		{"WRITE by RDMA", smb2.CommandWrite, &smb2.WriteRequest{FileID: g, Offset: 19, RemainingBytes: 1, Channel: 1, ChannelInfo: ci}, ntstatus.FileLockConflict},
		{"WRITE beside", smb2.CommandWrite, &smb2.WriteRequest{FileID: g, Offset: 20, Data: []byte("x")}, 0},
	} {
		st, _ := q.do(c.cmd, c.m)
		want(t, c.name, st, c.st)
	}
}
