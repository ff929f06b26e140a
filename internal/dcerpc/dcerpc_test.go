package dcerpc

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatalf("bad hex %q: %v", s, err)
	}
	return b
}

func testHandler(shares ...Share) *Handler {
	return &Handler{
		Server: ServerInfo{Name: "NAS", Comment: "files", Domain: "WORK"},
		Shares: func() []Share { return shares },
		Now: func() time.Time {
			return time.Date(2024, 2, 29, 13, 14, 15, 160e6, time.FixedZone("", 3600))
		},
	}
}

func open(t testing.TB, h *Handler, name string) *Pipe {
	t.Helper()
	p, err := h.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// overPipe gives a client a pipe, with reads of at most limit bytes.
func overPipe(p *Pipe, limit int) Transact {
	return func(in []byte) ([]byte, bool, error) {
		if len(in) > 0 {
			return p.Transact(in, limit)
		}
		b := make([]byte, limit)
		n, more, err := p.Read(b)
		return b[:n], more, err
	}
}

const (
	hexSRVSVC = "c84f324b7016d30112785a47bf6ee18803000000"
	hexNDR    = "045d888aeb1cc9119fe808002b10486002000000"
	hexNDR64  = "33057171babe37498319b5dbef9ccc3601000000"
	hexBTFN   = "2c1cb76c12984045030000000000000001000000"
)

// The three contexts that Windows 10 offers: NDR, NDR64 and bind time features.
// [MS-RPCE] 3.3.1.5.3: features are answered by negotiate_ack and a bitmask.
func TestBindOfWindows(t *testing.T) {
	p := open(t, testHandler(), `\PIPE\srvsvc`)
	ctx := func(id string, transfer string) string { return id + "0100" + hexSRVSVC + transfer }
	bindPDU := unhex(t, "05000b0310000000 a0000000 02000000 b810b810 00000000 03000000"+
		ctx("0000", hexNDR)+ctx("0100", hexNDR64)+ctx("0200", hexBTFN))
	out, more, err := p.Transact(bindPDU, 4096)
	if err != nil || more {
		t.Fatal(more, err)
	}
	want := unhex(t, "05000c0310000000 7400 0000 02000000 b810b810 01500000"+
		"0d00 5c504950455c73727673766300"+"00"+ // \PIPE\srvsvc and padding
		"03000000"+
		"00000000"+hexNDR+
		"02000200"+strings.Repeat("00", 20)+
		"03000000"+strings.Repeat("00", 20))
	binary.LittleEndian.PutUint16(want[8:], uint16(len(want)))
	if !bytes.Equal(out, want) {
		t.Errorf("got  %x\nwant %x", out, want)
	}
}

func TestBindRefused(t *testing.T) {
	for _, c := range []struct {
		name, iface, transfer string
		reason                uint16
	}{
		{"other interface", "98d0ff6b12a110369833 46c3f87e345a01000000", hexNDR, reasonAbstract},
		{"other version", "c84f324b7016d30112785a47bf6ee18804000000", hexNDR, reasonAbstract},
		{"NDR64 only", hexSRVSVC, hexNDR64, reasonTransfer},
	} {
		p := open(t, testHandler(), "srvsvc")
		out, _, err := p.Transact(unhex(t, "05000b0310000000 48000000 01000000 d016d016 00000000 01000000 00000100"+c.iface+c.transfer), 4096)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		_, _, results, err := parseBindAck(out)
		if err != nil || len(results) != 1 || results[0].result != resultReject || results[0].reason != c.reason {
			t.Errorf("%s: %+v, %v", c.name, results, err)
		}
		if _, err := Dial(Syntax{[16]byte(unhex(t, c.iface)), 9}, overPipe(open(t, testHandler(), "srvsvc"), 4096)); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: client got %v, want ErrRefused", c.name, err)
		}
	}
}

func TestBindWithAuthentication(t *testing.T) {
	p := open(t, testHandler(), "srvsvc")
	out, _, err := p.Transact(unhex(t, "05000b0310000000 4a000a00 01000000 d016d016 00000000 01000000 00000100"+hexSRVSVC+hexNDR+"0000"), 4096)
	if err != nil || len(out) < headerSize || out[2] != typeBindNak || out[headerSize] != 8 {
		t.Errorf("%x, %v", out, err)
	}
	if _, err := Dial(SRVSVC, overPipe(p, 4096)); err != nil {
		t.Errorf("bind after that: %v", err)
	}
}

// NetrShareEnum at level 1 as smbclient -L sends it, and the answer by hand from
// the IDL of [MS-SRVS] 2.2.4.23, 2.2.4.33 and 3.1.4.8.
func TestShareEnumVector(t *testing.T) {
	p := open(t, testHandler(Share{Name: "d", Comment: "ab"}, Share{Name: "IPC$", Type: ShareIPC | ShareSpecial}), "srvsvc")
	if _, err := Dial(SRVSVC, overPipe(p, 4096)); err != nil {
		t.Fatal(err)
	}
	request := unhex(t, "0500000310000000 54000000 05000000 3c000000 0000 0f00"+
		"00000200 04000000 00000000 04000000 5c005c0078000000"+ // ServerName "\\x"
		"01000000 01000000 04000200 00000000 00000000"+ // level, union, container
		"ffffffff 08000200 00000000")
	want := unhex(t, "0500020310000000 00000000 05000000 00000000 0000 0000"+
		"01000000 01000000"+
		"00000200 02000000 04000200 02000000"+ // container, array of 2
		"08000200 00000000 0c000200"+
		"10000200 03000080 14000200"+
		"02000000 00000000 02000000 64000000"+ // "d"
		"03000000 00000000 03000000 610062000000 0000"+ // "ab", padding
		"05000000 00000000 05000000 49005000430024000000 0000"+
		"01000000 00000000 01000000 0000 0000"+ // no comment
		"02000000 18000200 00000000"+ // total, resume handle
		"00000000")
	binary.LittleEndian.PutUint16(request[8:], uint16(len(request)))
	binary.LittleEndian.PutUint16(want[8:], uint16(len(want)))
	binary.LittleEndian.PutUint32(want[16:], uint32(len(want)-24))
	out, more, err := p.Transact(request, 4096)
	if err != nil || more || !bytes.Equal(out, want) {
		t.Errorf("%v, %v\ngot  %x\nwant %x", more, err, out, want)
	}
}

func TestClient(t *testing.T) {
	var many []Share
	for i := range 300 {
		many = append(many, Share{Name: fmt.Sprintf("share%03d", i), Type: uint32(i % 4), Comment: strings.Repeat("ü", i%50)})
	}
	for _, limit := range []int{16, 100, 1024, 65536} {
		c, err := Dial(SRVSVC, overPipe(open(t, testHandler(many...), "srvsvc"), limit))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			got, err := c.ShareEnum("nas")
			if err != nil {
				t.Fatalf("reads of %d: %v", limit, err)
			}
			if !slices.EqualFunc(got, many, func(a, b Share) bool {
				return a.Name == b.Name && a.Type == b.Type && a.Comment == b.Comment
			}) {
				t.Errorf("reads of %d: got %d shares: %+v", limit, len(got), got)
			}
		}
		if s, err := c.ShareInfo("", "SHARE041"); err != nil || s.Name != "share041" || s.Type != 1 || s.Comment != many[41].Comment {
			t.Errorf("ShareInfo: %+v, %v", s, err)
		}
		if _, err := c.ShareInfo("nas", "none"); !errors.Is(err, ErrorNoShare) {
			t.Errorf("ShareInfo of none: %v, want ErrorNoShare", err)
		}
		want := ServerInfo{Name: "NAS", Comment: "files", Platform: 500, VersionMajor: 10, Type: typeServer}
		if s, err := c.ServerInfo("nas"); err != nil || s != want {
			t.Errorf("ServerInfo: %+v, %v", s, err)
		}
	}
	c, _ := Dial(SRVSVC, overPipe(open(t, testHandler(), "srvsvc"), 4096))
	if got, err := c.ShareEnum(""); err != nil || len(got) != 0 {
		t.Errorf("no shares: %+v, %v", got, err)
	}
}

// callRaw makes a call and returns the stub.
func callRaw(t *testing.T, iface Syntax, h *Handler, name string, opnum uint16, put func(w *writer)) *reader {
	t.Helper()
	c, err := Dial(iface, overPipe(open(t, h, name), 1<<16))
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{}
	put(w)
	stub, err := c.Call(opnum, w.b)
	if err != nil {
		t.Fatal(err)
	}
	return &reader{b: stub}
}

// [MS-SRVS] 3.1.4.8: PreferedMaximumLength and ResumeHandle.
func TestShareEnumResumes(t *testing.T) {
	h := testHandler(Share{Name: "a"}, Share{Name: "b"}, Share{Name: "c"})
	// An entry at level 0 takes 4 bytes, its string 12 and 4: 20.
	for _, c := range []struct {
		preferred, resume uint32
		names             string
		total, next       uint32
		status            uint32
	}{
		{0xFFFFFFFF, 0, "abc", 3, 0, 0},
		{60, 0, "abc", 3, 0, 0},
		{59, 0, "ab", 3, 2, 234},
		{20, 1, "b", 2, 2, 234},
		{20, 2, "c", 1, 0, 0},
		{20, 3, "", 0, 0, 0},
		{20, 0xFFFFFFFF, "", 0, 0, 0},
		{19, 0, "", 3, 0, 234},
	} {
		r := callRaw(t, SRVSVC, h, "srvsvc", 15, func(w *writer) {
			w.null()
			w.u32(0)
			w.u32(0)
			w.pointer()
			w.u32(0)
			w.null()
			w.u32(c.preferred)
			w.pointer()
			w.u32(c.resume)
		})
		r.u32()
		r.u32()
		r.pointer()
		n := r.u32()
		names := ""
		if r.pointer() {
			r.u32()
			for range n {
				r.pointer()
			}
			for range n {
				names += r.str()
			}
		}
		total := r.u32()
		r.pointer()
		next, status := r.u32(), r.u32()
		if r.err != nil || names != c.names || total != c.total || next != c.next || status != c.status {
			t.Errorf("%+v: got %q, %d, %d, %d, %v", c, names, total, next, status, r.err)
		}
	}
}

// The other levels, read field by field as the IDL has them.
func TestShareGetInfoLevels(t *testing.T) {
	sd := []byte{1, 0, 4, 0x80, 9}
	h := testHandler(Share{Name: "d", Type: ShareDisk, Comment: "c", Path: `C:\d`, MaxUses: 7, CurrentUses: 2, Flags: 0x30, SecurityDescriptor: sd})
	for level, want := range map[uint32][]any{
		0:    {"d"},
		1:    {"d", uint32(0), "c"},
		2:    {"d", uint32(0), "c", uint32(0), uint32(7), uint32(2), `C:\d`, nil},
		501:  {"d", uint32(0), "c", uint32(0x30)},
		502:  {"d", uint32(0), "c", uint32(0), uint32(7), uint32(2), `C:\d`, nil, uint32(5), sd},
		503:  {"d", uint32(0), "c", uint32(0), uint32(7), uint32(2), `C:\d`, nil, "*", uint32(5), sd},
		1005: {uint32(0x30)},
	} {
		r := callRaw(t, SRVSVC, h, "srvsvc", 16, func(w *writer) { w.null(); w.str("d"); w.u32(level) })
		checkStruct(t, level, r, want)
	}
	for level, status := range map[uint32]WinError{3: ErrorInvalidLevel, 1006: ErrorInvalidLevel, 1: ErrorNoShare} {
		r := callRaw(t, SRVSVC, h, "srvsvc", 16, func(w *writer) { w.null(); w.str("e"); w.u32(level) })
		r.u32()
		if level != 3 && r.pointer() {
			t.Errorf("level %d: something for nothing", level)
		}
		if got := r.status(); got != status || r.off != len(r.b) {
			t.Errorf("level %d: %v, want %v", level, got, status)
		}
	}
}

// checkStruct reads a union arm with a pointer to a structure of these fields.
func checkStruct(t *testing.T, level uint32, r *reader, want []any) {
	t.Helper()
	if arm := r.u32(); arm != level || !r.pointer() {
		t.Errorf("level %d: union of %d", level, arm)
		return
	}
	for i, f := range want { // the structure
		switch f := f.(type) {
		case uint32:
			if v := r.u32(); v != f {
				t.Errorf("level %d, field %d: %#x, want %#x", level, i, v, f)
			}
		default:
			if r.pointer() != (f != nil) {
				t.Errorf("level %d, field %d: pointer to %v", level, i, f)
			}
		}
	}
	for i, f := range want { // what it points to
		switch f := f.(type) {
		case string:
			if v := r.str(); v != f {
				t.Errorf("level %d, field %d: %q, want %q", level, i, v, f)
			}
		case []byte:
			if n := r.u32(); int(n) != len(f) || !bytes.Equal(r.take(int(n)), f) {
				t.Errorf("level %d, field %d: %d bytes, want %x", level, i, n, f)
			}
		}
	}
	if err := r.status(); err != nil || r.off != len(r.b) {
		t.Errorf("level %d: %v, %d of %d bytes", level, err, r.off, len(r.b))
	}
}

func TestServerAndWkstaInfoLevels(t *testing.T) {
	h := testHandler()
	u := func(v uint32) any { return v }
	for level, want := range map[uint32][]any{
		100: {u(500), "NAS"},
		101: {u(500), "NAS", u(10), u(0), u(0x8003), "files"},
		102: {u(500), "NAS", u(10), u(0), u(0x8003), "files", u(0xFFFFFFFF), u(15), u(0), u(240), u(3000), u(0), `C:\`},
	} {
		checkStruct(t, level, callRaw(t, SRVSVC, h, "srvsvc", 21, func(w *writer) { w.optStr("x"); w.u32(level) }), want)
	}
	for level, want := range map[uint32][]any{
		100: {u(500), "NAS", "WORK", u(10), u(0)},
		101: {u(500), "NAS", "WORK", u(10), u(0), ""},
		102: {u(500), "NAS", "WORK", u(10), u(0), "", u(0)},
	} {
		checkStruct(t, level, callRaw(t, WKSSVC, h, "WKSSVC", 0, func(w *writer) { w.optStr("x"); w.u32(level) }), want)
	}
}

func TestRemoteTOD(t *testing.T) {
	r := callRaw(t, SRVSVC, testHandler(), "srvsvc", 28, func(w *writer) { w.null() })
	r.pointer()
	var got []uint32
	for range 12 {
		got = append(got, r.u32())
	}
	// 2024-02-29 12:14:15.16 UTC, a Thursday, an hour east of UTC.
	const unix = 1709208855
	ms := uint64(unix)*1000 + 160
	want := []uint32{unix, uint32(ms), 12, 14, 15, 16, 0xFFFFFFC4, 310, 29, 2, 2024, 4}
	if !slices.Equal(got, want) || r.status() != nil {
		t.Errorf("got %d, want %d", got, want)
	}
}

func TestFaults(t *testing.T) {
	c, err := Dial(SRVSVC, overPipe(open(t, testHandler(), "srvsvc"), 4096))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Call(57, nil); !errors.Is(err, FaultOpRange) {
		t.Errorf("unknown operation: %v", err)
	}
	if _, err := c.Call(15, []byte{0, 0, 0, 0}); !errors.Is(err, FaultBadStub) {
		t.Errorf("short stub: %v", err)
	}
	if _, err := c.ShareEnum(""); err != nil {
		t.Errorf("call after faults: %v", err)
	}
	p := open(t, testHandler(), "srvsvc")
	Dial(SRVSVC, overPipe(p, 4096))
	out, _, err := p.Transact(unhex(t, "0500000310000000 18000000 02000000 00000000 0700 0f00"), 4096)
	if err != nil || out[2] != typeFault || Fault(binary.LittleEndian.Uint32(out[24:])) != FaultContextMismatch {
		t.Errorf("unbound context: %x, %v", out, err)
	}
	if _, err := testHandler().Open("samr"); !errors.Is(err, ErrNoPipe) {
		t.Errorf("other pipe: %v", err)
	}
}

// A request may come in fragments, and fragments in any cut of writes.
func TestFragments(t *testing.T) {
	stub := unhex(t, "00000000 65000000") // NetrServerGetInfo, level 101
	frag := func(flags byte, stub []byte) []byte {
		b := begin(nil, typeRequest, flags, 3)
		b = append(b, 0, 0, 0, 0, 0, 0, 21, 0)
		return finish(append(b, stub...))
	}
	whole := slices.Concat(frag(flagFirst, stub[:3]), frag(0, nil), frag(0, stub[3:5]), frag(flagLast, stub[5:]))
	for step := 1; step <= len(whole); step++ {
		p := open(t, testHandler(), "srvsvc")
		Dial(SRVSVC, overPipe(p, 4096))
		for chunk := range slices.Chunk(whole, step) {
			if n, err := p.Write(chunk); err != nil || n != len(chunk) {
				t.Fatalf("step %d: %d, %v", step, n, err)
			}
		}
		b := make([]byte, 4096)
		n, more, err := p.Read(b)
		if err != nil || more || b[2] != typeResponse || n < 60 {
			t.Errorf("step %d: %x, %v, %v", step, b[:n], more, err)
		}
		if _, _, err := p.Read(b); !errors.Is(err, ErrEmpty) {
			t.Errorf("step %d: second answer: %v", step, err)
		}
	}
}

func TestTransactBusy(t *testing.T) {
	p := open(t, testHandler(), "srvsvc")
	Dial(SRVSVC, overPipe(p, 4096))
	call := unhex(t, "0500000310000000 20000000 02000000 00000000 0000 1500 00000000 65000000")
	if _, err := p.Write(call); err != nil {
		t.Fatal(err)
	}
	if all, first := p.Available(); all == 0 || all != first {
		t.Errorf("available %d, %d", all, first)
	}
	if _, _, err := p.Transact(call, 100); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
}

// [C706] 12.6: what ends an association.
func TestProtocolErrors(t *testing.T) {
	bindPDU := "05000b0310000000 48000000 01000000 d016d016 00000000 01000000 00000100" + hexSRVSVC + hexNDR
	for name, c := range map[string]struct {
		bound bool
		pdu   string
	}{
		"request before bind":    {false, "0500000310000000 18000000 02000000 00000000 0000 0f00"},
		"bind twice":             {true, bindPDU},
		"alter before bind":      {false, strings.Replace(bindPDU, "05000b", "05000e", 1)},
		"version 4":              {false, strings.Replace(bindPDU, "05000b", "04000b", 1)},
		"big endian":             {false, strings.Replace(bindPDU, "0310", "0300", 1)},
		"long fragment":          {true, "0500000310000000 d1160000 02000000"},
		"short fragment":         {true, "0500000310000000 0f000000 02000000"},
		"request of a response":  {true, "0500020310000000 18000000 02000000 00000000 0000 0f00"},
		"middle without a first": {true, "0500000010000000 18000000 02000000 00000000 0000 0f00"},
		"request too short":      {true, "0500000310000000 14000000 02000000 00000000"},
		"no contexts":            {false, "05000b0310000000 1c000000 01000000 d016d016 00000000 00000000"},
		"contexts cut off":       {false, "05000b0310000000 1c000000 01000000 d016d016 00000000 01000000"},
		"authenticated request":  {true, "0500000310000000 20000800 02000000 00000000 0000 0f00 0000000000000000"},
	} {
		p := open(t, testHandler(), "srvsvc")
		if c.bound {
			Dial(SRVSVC, overPipe(p, 4096))
		}
		if _, err := p.Write(unhex(t, c.pdu)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v, want ErrProtocol", name, err)
		}
		if _, err := p.Write(unhex(t, bindPDU)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: the pipe goes on: %v", name, err)
		}
	}
}

func TestRequestBounded(t *testing.T) {
	p := open(t, testHandler(), "srvsvc")
	Dial(SRVSVC, overPipe(p, 4096))
	b := begin(nil, typeRequest, flagFirst, 3)
	b = append(b, 0, 0, 0, 0, 0, 0, 15, 0)
	b = finish(append(b, make([]byte, 4096)...))
	var err error
	for n := 0; err == nil; n++ {
		if n > 17 {
			t.Fatal("no bound")
		}
		_, err = p.Write(b)
		b[3] = 0
	}
	if !errors.Is(err, ErrProtocol) {
		t.Errorf("got %v", err)
	}
}

// A client that writes calls and never reads is cut off, so that a few bytes of it
// can't fill the server's memory. One that reads may go on for ever.
func TestUnreadBounded(t *testing.T) {
	shares := make([]Share, 100)
	for i := range shares {
		shares[i] = Share{Name: fmt.Sprintf("share%d", i), Comment: strings.Repeat("x", 400)}
	}
	w := &writer{}
	w.null()
	for _, v := range []uint32{1, 1, 1, 0, 0, 0xFFFFFFFF, 0} {
		w.u32(v)
	}
	enum := begin(nil, typeRequest, flagFirst|flagLast, 3)
	enum = append(enum, 0, 0, 0, 0, 0, 0, 15, 0)
	enum = finish(append(enum, w.b...))
	for name, c := range map[string]struct {
		pdu  []byte
		pack int // PDUs in one Write
	}{
		"one by one": {enum, 1},
		"at once":    {enum, 20},
		"faults":     {unhex(t, "0500000310000000 18000000 02000000 00000000 0000 ffff"), 10000},
	} {
		p := open(t, testHandler(shares...), "srvsvc")
		Dial(SRVSVC, overPipe(p, 4096))
		// The answer that goes over the limit is still given: 100 shares.
		const limit = maxUnread + 100<<10
		var err error
		for all := 0; err == nil && all <= limit; all, _ = p.Available() {
			_, err = p.Write(bytes.Repeat(c.pdu, c.pack))
		}
		if !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v, want ErrProtocol", name, err)
		}
		if all, _ := p.Available(); all > limit {
			t.Errorf("%s: %d bytes wait to be read", name, all)
		}
	}
	p := open(t, testHandler(shares...), "srvsvc")
	Dial(SRVSVC, overPipe(p, 4096))
	b := make([]byte, MaxFragment)
	for i := range 50 {
		if _, err := p.Write(enum); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
		for {
			if _, _, err := p.Read(b); errors.Is(err, ErrEmpty) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if all, _ := p.Available(); all != 0 {
			t.Fatalf("%d bytes left", all)
		}
	}
}

func FuzzPipe(f *testing.F) {
	f.Add(unhex(f, "0500000310000000 20000000 02000000 00000000 0000 1500 00000000 65000000"))
	f.Add(unhex(f, "0500000310000000 54000000 05000000 3c000000 0000 0f00 00000200 04000000 00000000 04000000 5c005c0078000000"+
		"01000000 01000000 04000200 00000000 00000000 ffffffff 08000200 00000000"))
	f.Add(unhex(f, "05000e0310000000 48000000 01000000 d016d016 00000000 01000000 00000100"+hexSRVSVC+hexNDR))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := open(t, testHandler(Share{Name: "d", Comment: "c"}), "srvsvc")
		Dial(SRVSVC, overPipe(p, 4096))
		p.Write(b)
		for {
			buf := make([]byte, 300)
			n, more, err := p.Read(buf)
			if err != nil {
				break
			}
			if n == 0 || more != (n == len(buf)) && more {
				t.Fatalf("read %d, more %v", n, more)
			}
		}
	})
}

func FuzzClient(f *testing.F) {
	p := open(f, testHandler(Share{Name: "d", Comment: "c"}), "srvsvc")
	c, _ := Dial(SRVSVC, func(in []byte) ([]byte, bool, error) {
		out, more, err := p.Transact(in, 1<<16)
		f.Add(out)
		return out, more, err
	})
	c.ShareEnum("x")
	c.ServerInfo("x")
	c.ShareInfo("x", "d")
	f.Fuzz(func(t *testing.T, b []byte) {
		answer := func([]byte) ([]byte, bool, error) { return b, false, nil }
		Dial(SRVSVC, answer)
		for id := range uint32(4) {
			for _, call := range []func(*Client){
				func(c *Client) { c.ShareEnum("") },
				func(c *Client) { c.ShareInfo("", "d") },
				func(c *Client) { c.ServerInfo("") },
			} {
				call(&Client{transact: answer, fragment: minFragment, callID: id})
			}
		}
	})
}
