package dcerpc

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// people is a directory of a machine S-1-5-21-1-2-3 with users ann (1001) and bob
// (1002).
type people struct{}

var machine = NewSID(5, 21, 1, 2, 3)

func (people) Machine() SID { return machine }

func (people) Accounts() []Account {
	return []Account{
		{Principal: Principal{machine.child(1001), "NAS", "ann", KindUser}, FullName: "Ann A."},
		{Principal: Principal{machine.child(1002), "NAS", "bob", KindUser}, Disabled: true},
	}
}

func (people) Groups() []Principal {
	return []Principal{{machine.child(513), "NAS", "None", KindGroup}}
}

func (d people) all() (list []Principal) {
	for _, a := range d.Accounts() {
		list = append(list, a.Principal)
	}
	return append(list, d.Groups()...)
}

func (d people) ByName(domain, name string) (Principal, bool) {
	for _, p := range d.all() {
		if strings.EqualFold(p.Name, name) && (domain == "" || strings.EqualFold(domain, "NAS")) {
			return p, true
		}
	}
	return Principal{}, false
}

func (d people) BySID(s SID) (Principal, bool) {
	for _, p := range d.all() {
		if p.SID == s {
			return p, true
		}
	}
	return Principal{}, false
}

func peopleHandler(c Caller) *Handler {
	h := testHandler(Share{Name: "d", Comment: "c"})
	h.Directory, h.Caller = people{}, c
	h.Sessions = func() []Session {
		return []Session{{Client: "192.0.2.1", User: "ann", Opens: 2, Active: 60, Idle: 5}, {Client: "192.0.2.2", User: "bob"}}
	}
	h.Files = func() []File { return []File{{ID: 1, Access: 3, Path: `C:\d\f`, User: "ann"}} }
	h.Connections = func() []Connection {
		return []Connection{{ID: 1, Client: "192.0.2.1", User: "ann", Share: "d", Opens: 1}}
	}
	return h
}

func dial(t testing.TB, h *Handler, name string, iface Syntax) *Client {
	t.Helper()
	c, err := Dial(iface, overPipe(open(t, h, name), 4096))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// invoke makes a call whose parameters are in hex and returns what comes before the
// status, and that.
func invoke(t testing.TB, c *Client, opnum uint16, parts ...string) (*reader, ntstatus.Status) {
	t.Helper()
	stub, err := c.Call(opnum, unhex(t, strings.Join(parts, "")))
	if err != nil {
		t.Fatalf("opnum %d: %v", opnum, err)
	}
	end := &reader{b: stub, off: len(stub) - 4}
	return &reader{b: stub[:len(stub)-4]}, ntstatus.Status(end.u32())
}

func hexOf(h contextHandle) string { return fmt.Sprintf("%x", h[:]) }

func policy(t testing.TB, c *Client) string {
	t.Helper()
	r, st := invoke(t, c, 44, "00000000", "18000000", strings.Repeat("00", 20), "00000002")
	if st != ntstatus.Success {
		t.Fatalf("LsarOpenPolicy2: %v", st)
	}
	return hexOf(r.handle())
}

const hexEveryone = "01000000 0101000000000001 00000000"

// LsarLookupSids as clients send it, and the answer by hand from the IDL of [MS-LSAT]
// 2.2.12, 2.2.19 and 3.1.4.11.
func TestLookupSIDsVector(t *testing.T) {
	c := dial(t, peopleHandler(Caller{Name: "ann"}), "lsarpc", LSARPC)
	h := policy(t, c)
	stub, err := c.Call(15, unhex(t, h+"02000000 00000200 02000000 04000200 08000200"+hexEveryone+
		"05000000 0105000000000005 15000000 01000000 02000000 03000000 09000000"+
		"00000000 00000000 0100 0000 00000000"))
	if err != nil {
		t.Fatal(err)
	}
	want := unhex(t, "00000200 01000000 04000200 20000000"+ // one domain
		"01000000 0000 0000 00000000 08000200"+ // without a name
		"00000000 0100000000000001"+ // S-1-1
		"02000000 0c000200 02000000"+
		"0500 0000 1000 1000 10000200 00000000"+ // well-known, in domain 0
		"0800 0000 2000 2000 14000200 ffffffff"+ // unknown, in none
		"08000000 00000000 08000000 45007600650072007900 6f006e006500"+
		"10000000 00000000 10000000 53002d0031002d0035002d00320031002d0031002d0032002d0033002d003900"+
		"01000000 07010000") // STATUS_SOME_NOT_MAPPED
	if !bytes.Equal(stub, want) {
		t.Errorf("got  %x\nwant %x", stub, want)
	}
}

// Names are found with and without their domains, in any case.
func TestLookupNames(t *testing.T) {
	c := dial(t, peopleHandler(Caller{Name: "ann"}), "lsarpc", LSARPC)
	h := policy(t, c)
	for _, x := range []struct {
		name string
		sid  string
		kind Kind
	}{
		{"ann", "S-1-5-21-1-2-3-1001", KindUser},
		{`nas\BOB`, "S-1-5-21-1-2-3-1002", KindUser},
		{"bob@NAS", "S-1-5-21-1-2-3-1002", KindUser},
		{"Everyone", "S-1-1-0", KindWellKnown},
		{`BUILTIN\Administrators`, "S-1-5-32-544", KindAlias},
		{`NT AUTHORITY\system`, "S-1-5-18", KindWellKnown},
		{"NAS", "S-1-5-21-1-2-3", KindDomain},
		{`other\ann`, "", KindUnknown},
		{"", "", KindUnknown},
	} {
		w := &writer{b: unhex(t, h)}
		w.u32(1)
		w.u32(1)
		w.ustr(x.name)
		w.flush()
		w.u32(0)
		w.null()
		stub, err := c.Call(68, w.b) // LsarLookupNames3
		if err != nil {
			t.Fatal(err)
		}
		r := &reader{b: stub}
		r.pointer()
		if n := r.u32(); n > 0 { // domains
			r.pointer()
			r.u32()
			r.u32()
			u := r.ustring()
			r.pointer()
			r.text(u)
			r.sid()
		} else {
			r.pointer()
			r.u32()
		}
		r.u32()
		r.pointer()
		r.u32()
		kind, sid := Kind(r.u16()), SID("")
		there := r.pointer()
		r.u32()
		r.u32()
		if there {
			sid = r.sid()
		}
		mapped, st := r.u32(), ntstatus.Status(r.u32())
		if r.err != nil || kind != x.kind || sid.String() != x.sid || (mapped == 1) != (x.sid != "") || (st == ntstatus.Success) != (x.sid != "") {
			t.Errorf("%q is %v %q, %d mapped, %v (%v), want %v %q", x.name, kind, sid, mapped, st, r.err, x.kind, x.sid)
		}
	}
}

// What a stranger is told of users, and where handles do not fit.
func TestAccountsRefused(t *testing.T) {
	stranger := dial(t, peopleHandler(Caller{Stranger: true}), "lsarpc", LSARPC)
	if _, st := invoke(t, stranger, 44, "00000000", strings.Repeat("00", 28)); st != ntstatus.AccessDenied {
		t.Errorf("a stranger's LsarOpenPolicy2: %v", st)
	}
	stranger = dial(t, peopleHandler(Caller{Stranger: true}), "samr", SAMR)
	if _, st := invoke(t, stranger, 57, "00000000 00000002"); st != ntstatus.AccessDenied {
		t.Errorf("a stranger's SamrConnect2: %v", st)
	}

	c := dial(t, peopleHandler(Caller{Name: "ann"}), "lsarpc", LSARPC)
	none := strings.Repeat("00", 20)
	if _, st := invoke(t, c, 46, none, "0500"); st != ntstatus.InvalidHandle {
		t.Errorf("no handle: %v", st)
	}
	h := policy(t, c)
	if _, st := invoke(t, c, 46, h, "6300"); st != ntstatus.InvalidInfoClass {
		t.Errorf("a class that there is not: %v", st)
	}
	if _, st := invoke(t, c, 0, h); st != ntstatus.Success {
		t.Errorf("LsarClose: %v", st)
	}
	if _, st := invoke(t, c, 0, h); st != ntstatus.InvalidHandle {
		t.Errorf("LsarClose once more: %v", st)
	}
	for range maxHandles {
		policy(t, c)
	}
	if _, st := invoke(t, c, 44, "00000000", strings.Repeat("00", 28)); st != ntstatus.InsufficientResources {
		t.Errorf("one handle too many: %v", st)
	}
	// What only domain controllers may ask.
	if _, st := invoke(t, c, 77, "00000000 00000000"); st != ntstatus.AccessDenied {
		t.Errorf("LsarLookupNames4: %v", st)
	}
	for name, stub := range map[string]string{
		"array longer than the stub": none + "ffffffff 00000200 ffffffff",
		"array of another length":    none + "01000000 00000200 02000000 04000200" + hexEveryone,
		"null SID":                   none + "01000000 00000200 01000000 00000000",
		"SID of another length":      none + "01000000 00000200 01000000 04000200 02000000 0101000000000001 00000000",
		"SID cut short":              none + "01000000 00000200 01000000 04000200 02000000 0102000000000001 00000000",
	} {
		var fault Fault
		if _, err := c.Call(15, unhex(t, stub)); !errors.As(err, &fault) || fault != FaultBadStub {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// DsRolerGetPrimaryDomainInformation on the pipe of lsarpc, [MS-DSSP] 2.2.1.
func TestDomainRole(t *testing.T) {
	c := dial(t, peopleHandler(Caller{Stranger: true}), "lsarpc", DSSETUP)
	stub, err := c.Call(0, []byte{1, 0})
	want := unhex(t, "00000200 0100 0000 0200 0000 00000000 04000200 00000000 00000000"+strings.Repeat("00", 16)+
		"05000000 00000000 05000000 57004f0052004b000000 0000 00000000")
	if err != nil || !bytes.Equal(stub, want) {
		t.Errorf("got %x, %v\nwant %x", stub, err, want)
	}
	if _, st := invoke(t, c, 0, "0400"); WinError(st) != ErrorInvalidParam {
		t.Errorf("level 4: %d", st)
	}
}

// From the server to what a user may know of himself.
func TestSAM(t *testing.T) {
	c := dial(t, peopleHandler(Caller{Name: "ann"}), "samr", SAMR)
	handle := func(opnum uint16, parts ...string) string {
		t.Helper()
		r, st := invoke(t, c, opnum, parts...)
		if st != ntstatus.Success {
			t.Fatalf("opnum %d: %v", opnum, st)
		}
		if opnum == 64 {
			r.take(16)
		}
		return hexOf(r.handle())
	}
	server := handle(64, "00000000 20000000 01000000 01000000 03000000 00000000")

	w := &writer{b: unhex(t, server)}
	w.ustr("nas")
	w.flush()
	r, st := invoke(t, c, 5, fmt.Sprintf("%x", w.b))
	if r.pointer(); st != ntstatus.Success || r.sid() != machine {
		t.Errorf("SamrLookupDomainInSamServer: %v", st)
	}
	const hexMachine = "04000000 0104000000000005 15000000 01000000 02000000 03000000"
	if _, st := invoke(t, c, 7, server, "00000002", hexEveryone); st != ntstatus.NoSuchDomain {
		t.Errorf("opening another domain: %v", st)
	}
	domain := handle(7, server, "00000002", hexMachine)
	if _, st := invoke(t, c, 13, server, "00000000 00000000 ffff0000"); st != ntstatus.ObjectTypeMismatch {
		t.Errorf("users of a server: %v", st)
	}

	// One user at a time, as the client takes no more.
	names := map[uint32]string{}
	from := uint32(0)
	for {
		r, st := invoke(t, c, 13, domain, fmt.Sprintf("%02x000000", from), "00000000 64000000")
		from = r.u32()
		r.pointer()
		if n := r.u32(); n != 1 {
			t.Fatalf("%d users", n)
		}
		r.pointer()
		r.u32()
		rid := r.u32()
		names[rid] = r.ustr()
		if st != ntstatus.MoreEntries {
			break
		}
	}
	if len(names) != 2 || names[1001] != "ann" || names[1002] != "bob" {
		t.Errorf("users %v", names)
	}

	if _, st := invoke(t, c, 34, domain, "00000002 99000000"); st != ntstatus.NoSuchUser {
		t.Errorf("a user that there is not: %v", st)
	}
	bob := handle(34, domain, "00000002 ea030000")
	for class, want := range map[string]string{
		"1000": "00000200 1000 0000 11020000",                                                           // control: disabled, normal, password does not expire
		"0900": "00000200 0900 0000 01020000",                                                           // group 513
		"0700": "00000200 0700 0000 06000600 04000200 03000000 00000000 03000000" + "62006f006200 0000", // name
	} {
		stub, err := c.Call(36, unhex(t, bob+class))
		if err != nil || !bytes.Equal(stub, unhex(t, want+"00000000")) {
			t.Errorf("class %s: %x, %v, want %s", class, stub, err, want)
		}
	}
	r, st = invoke(t, c, 39, bob)
	if r.pointer(); st != ntstatus.Success || r.u32() != 1 {
		t.Errorf("SamrGetGroupsForUser: %v", st)
	}
	if _, st := invoke(t, c, 36, bob, "1200"); st != ntstatus.InvalidInfoClass { // passwords
		t.Errorf("class 18: %v", st)
	}
}

// Administrators see what others do, users see who is there, strangers nothing.
func TestWhoSeesOthers(t *testing.T) {
	enum := func(level uint32, before ...string) string {
		return "00000000" + strings.Join(before, "") + fmt.Sprintf("%02x%02x0000 %02x%02x0000", level&0xFF, level>>8, level&0xFF, level>>8) +
			"00000200 00000000 00000000 ffffffff 00000000"
	}
	for _, x := range []struct {
		what                  string
		opnum                 uint16
		stub                  string
		stranger, user, admin WinError
	}{
		{"sessions with names", 12, enum(10, "00000000", "00000000"), ErrorAccessDenied, 0, 0},
		{"sessions with all", 12, enum(502, "00000000", "00000000"), ErrorAccessDenied, ErrorAccessDenied, 0},
		{"sessions, a level that there is not", 12, "00000000 00000000 00000000 03000000 03000000 ffffffff 00000000", ErrorAccessDenied, ErrorAccessDenied, ErrorInvalidLevel},
		{"files", 9, enum(3, "00000000", "00000000"), ErrorAccessDenied, ErrorAccessDenied, 0},
		{"connections", 8, "00000000 00000200 02000000 00000000 02000000 64000000 01000000 01000000 00000200 00000000 00000000 ffffffff 00000000", ErrorAccessDenied, ErrorAccessDenied, 0},
		{"connections of nothing", 8, enum(1, "00000000"), ErrorAccessDenied, ErrorAccessDenied, ErrorInvalidParam},
		{"removing a share", 18, "00000000", ErrorAccessDenied, ErrorAccessDenied, ErrorAccessDenied},
	} {
		for caller, want := range map[Caller]WinError{{Stranger: true}: x.stranger, {Name: "ann"}: x.user, {Name: "root", Admin: true}: x.admin} {
			c := dial(t, peopleHandler(caller), "srvsvc", SRVSVC)
			if _, st := invoke(t, c, x.opnum, x.stub); WinError(st) != want {
				t.Errorf("%s, %+v: %d, want %d", x.what, caller, st, want)
			}
		}
	}
}

// Of sessions, users see their own: the answer of level 10 has one client, and its user.
func TestOwnSessions(t *testing.T) {
	for caller, want := range map[Caller][]string{
		{Name: "ANN"}: {"ann"}, {Name: "carl"}: nil, {Name: "root", Admin: true}: {"ann", "bob"},
	} {
		c := dial(t, peopleHandler(caller), "srvsvc", SRVSVC)
		r, _ := invoke(t, c, 12, "00000000 00000000 00000000 0a000000 0a000000 00000200 00000000 00000000 ffffffff 00000000")
		r.take(8)
		r.pointer()
		n := r.u32()
		if there := r.pointer(); there {
			r.u32()
		}
		r.take(int(n) * 16) // two pointers and two times each
		var users []string
		for range n {
			r.str()
			users = append(users, r.str())
		}
		if r.err != nil || !slices.Equal(users, want) {
			t.Errorf("%s sees %q, %v, want %q", caller.Name, users, r.err, want)
		}
	}
}

func FuzzAccounts(f *testing.F) {
	f.Add(uint8(0), uint16(44), unhex(f, "00000000"+strings.Repeat("00", 28)))
	f.Add(uint8(0), uint16(15), unhex(f, strings.Repeat("00", 4)+"0100000000000000"+strings.Repeat("00", 8)+"01000000 00000200 01000000 04000200"+hexEveryone))
	f.Add(uint8(0), uint16(14), unhex(f, strings.Repeat("00", 4)+"0100000000000000"+strings.Repeat("00", 8)+"01000000 01000000 06000600 04000200 03000000 00000000 03000000 61006e006e00"))
	f.Add(uint8(1), uint16(17), unhex(f, strings.Repeat("00", 4)+"0200000000000000"+strings.Repeat("00", 8)+"01000000 e8030000 00000000 01000000 06000600 04000200 03000000 00000000 03000000 61006e006e00"))
	f.Add(uint8(1), uint16(36), unhex(f, strings.Repeat("00", 4)+"0300000000000000"+strings.Repeat("00", 8)+"1500"))
	f.Add(uint8(2), uint16(12), unhex(f, "00000000 00000000 00000000 f6010000 f6010000 00000200 00000000 00000000 ffffffff 00000000"))
	f.Add(uint8(2), uint16(33), unhex(f, "00000000 02000000 00000000 02000000 64000000 09000000 00000000"))
	f.Add(uint8(3), uint16(2), unhex(f, "00000000 01000000 01000000 00000200 00000000 00000000 ffffffff 00000000"))
	f.Fuzz(func(t *testing.T, service uint8, opnum uint16, stub []byte) {
		names := []string{"lsarpc", "samr", "srvsvc", "wkssvc"}
		name := names[int(service)%len(names)]
		p := open(t, peopleHandler(Caller{Name: "ann", Admin: service&4 != 0}), name)
		// Something to name: a policy, a server, a domain and a user.
		p.open(object{kind: objectPolicy})
		p.open(object{kind: objectDomain, domain: machine})
		p.open(object{kind: objectUser, domain: machine, rid: 1001})
		op, ok := services[name][0].ops[opnum]
		if !ok {
			return
		}
		r, w := &reader{b: stub}, &writer{}
		op(p, r, w)
		if r.err == nil && len(w.later) > 0 {
			t.Error("something that was put off is not in the answer")
		}
		if len(w.b) > maxResponse {
			t.Errorf("%d bytes in answer to %d", len(w.b), len(stub))
		}
		if len(p.handles) > maxHandles {
			t.Errorf("%d handles", len(p.handles))
		}
	})
}

// A further context on a pipe, by alter_context, is for another interface that the pipe
// serves; calls name the one they are for. [C706] 12.6.4.1, [MS-RPCE] 3.3.1.5.6.
func TestAlterContext(t *testing.T) {
	p := open(t, peopleHandler(Caller{Name: "ann"}), "lsarpc")
	if _, err := Dial(LSARPC, overPipe(p, 4096)); err != nil {
		t.Fatal(err)
	}
	send := func(kind byte, id uint32, body []byte) (header, []byte) {
		t.Helper()
		out, _, err := p.Transact(finish(append(begin(nil, kind, flagFirst|flagLast, id), body...)), 4096)
		if err != nil {
			t.Fatal(err)
		}
		h, err := parseHeader(out)
		if err != nil || h.callID != id {
			t.Fatalf("answer %x, %v", out, err)
		}
		return h, out
	}
	alter := func(id uint32, ctx uint16, iface Syntax) result {
		t.Helper()
		b := unhex(t, "d016d016 00000000 01000000")
		b = append(b, byte(ctx), 0, 1, 0)
		h, out := send(typeAlter, id, appendSyntax(appendSyntax(b, iface), ndr))
		_, _, results, err := parseBindAck(out)
		if err != nil || h.kind != typeAlterResp || len(results) != 1 {
			t.Fatalf("alter_context: %x, %v", out, err)
		}
		return results[0]
	}
	if r := alter(2, 1, DSSETUP); r.result != resultAccept {
		t.Errorf("dssetup: %+v", r)
	}
	if r := alter(3, 2, SRVSVC); r.result != resultReject || r.reason != reasonAbstract {
		t.Errorf("srvsvc on the pipe of lsarpc: %+v", r)
	}
	// DsRolerGetPrimaryDomainInformation of level 1, and the same number of lsarpc:
	// LsarClose, whose parameters these are not.
	if h, out := send(typeRequest, 4, unhex(t, "02000000 0100 0000 0100")); h.kind != typeResponse {
		t.Errorf("call of dssetup: %x", out)
	}
	if h, out := send(typeRequest, 5, unhex(t, "02000000 0000 0000 0100")); h.kind != typeFault {
		t.Errorf("call of lsarpc: %x", out)
	}
	if h, _ := send(typeRequest, 6, unhex(t, "02000000 0200 0000 0100")); h.kind != typeFault {
		t.Error("call of a context that was refused")
	}
}
