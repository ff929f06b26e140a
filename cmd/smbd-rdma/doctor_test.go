package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/doctor"
	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// diagnosis is what --json prints, read by its documented names.
type diagnosis struct {
	Target    string `json:"target"`
	Used      *bool  `json:"rdma_used"`
	Verdict   string `json:"verdict"`
	DecidedBy string `json:"decided_by"`
	Reason    string `json:"reason"`
	Change    string `json:"change"`
	Steps     []struct {
		ID      string         `json:"id"`
		Title   string         `json:"title"`
		Outcome string         `json:"outcome"`
		Summary string         `json:"summary"`
		Change  string         `json:"change"`
		Values  map[string]any `json:"values"`
		Seconds *float64       `json:"seconds"`
	} `json:"steps"`
}

// value is a value of a step, nil without one.
func (d *diagnosis) value(step, name string) any {
	for _, s := range d.Steps {
		if s.ID == step {
			return s.Values[name]
		}
	}
	return nil
}

func (d *diagnosis) outcome(step string) string {
	for _, s := range d.Steps {
		if s.ID == step {
			return s.Outcome
		}
	}
	return ""
}

// examination is one situation: what doctor is to say of it. decided is "" if RDMA
// is used.
type examination struct {
	target  string // default //127.0.0.1/data
	args    []string
	decided string
	reason  string // a part of the reason, or of the verdict if RDMA is used
	change  string // a part of what to change
	steps   map[string]string
	values  map[string]any // "step name"
}

// secret is in no output.
const secret = "secret"

// examine runs doctor for people and for programs, and wants both to agree.
func (e examination) examine(t *testing.T) *diagnosis {
	t.Helper()
	target := e.target
	if target == "" {
		target = "//127.0.0.1/data"
	}
	args := slices.Concat([]string{"doctor", target}, e.args)
	if !slices.Contains(e.args, "-U") {
		args = append(args, "-U", "alice%"+secret)
	}
	want := exitDone
	if e.decided != "" {
		want = exitFailed
	}
	code, page, stderr := execute(args...)
	if code != want || stderr != "" {
		t.Fatalf("exit status %d, want %d; standard error %q, page:\n%s", code, want, stderr, page)
	}
	jsonCode, out, stderr := execute(append(args, "--json")...)
	var d diagnosis
	dec := json.NewDecoder(strings.NewReader(out))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil || jsonCode != want || stderr != "" {
		t.Fatalf("--json: exit status %d, %v, standard error %q\n%s", jsonCode, err, stderr, out)
	}
	flat := strings.Join(strings.Fields(page), " ")
	if strings.Contains(page+out, secret) {
		t.Errorf("the password is in the output:\n%s", page)
	}
	if d.Used == nil || *d.Used != (e.decided == "") || d.DecidedBy != e.decided {
		t.Errorf("rdma_used and decided_by %q: %s; want %q", d.DecidedBy, d.Verdict, e.decided)
	}
	head := "RDMA is used for " + d.Target + ": "
	if e.decided != "" {
		head = "RDMA is NOT used for " + d.Target + ": because " + e.decided + ": "
		if !strings.Contains(d.Reason, e.reason) || !strings.Contains(d.Change, e.change) || e.change == "" {
			t.Errorf("decided by %s because %q, want %q; to be changed %q, want %q", d.DecidedBy, d.Reason, e.reason, d.Change, e.change)
		}
		if !strings.Contains(flat, "To change that: "+e.change) && !strings.Contains(flat, e.change) {
			t.Errorf("the page does not say %q:\n%s", e.change, page)
		}
	} else if !strings.Contains(d.Verdict, e.reason) {
		t.Errorf("the verdict is %q, without %q", d.Verdict, e.reason)
	}
	if !strings.HasPrefix(d.Verdict, head) || !strings.HasPrefix(flat, head) {
		t.Errorf("the verdicts do not begin with %q:\n%s\n%s", head, d.Verdict, page)
	}
	for _, s := range d.Steps {
		if s.ID == "" || s.Title == "" || s.Summary == "" || s.Values == nil || s.Seconds == nil ||
			!slices.Contains([]string{"ok", "problem", "not possible", "not tried"}, s.Outcome) {
			t.Errorf("step: %+v", s)
		}
		if s.Outcome == "problem" && s.Change == "" {
			t.Errorf("%s is a problem, and nothing is to be changed: %s", s.ID, s.Summary)
		}
		if !strings.Contains(flat, s.Outcome+" "+s.ID+" ") {
			t.Errorf("the page has no line for %s, %s", s.ID, s.Outcome)
		}
	}
	for step, want := range e.steps {
		if got := d.outcome(step); got != want {
			t.Errorf("step %s: %q, want %q\n%s", step, got, want, page)
		}
	}
	for key, want := range e.values {
		step, name, _ := strings.Cut(key, " ")
		if got := d.value(step, name); got != want {
			t.Errorf("%s: %v, want %v", key, got, want)
		}
	}
	return &d
}

// closedPort is a TCP port of 127.0.0.1 that nobody listens on.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// service is a listener on 127.0.0.1 that has each connection handled; its port.
func service(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var conns []net.Conn
	var wg sync.WaitGroup
	wg.Go(func() { // ended by the listener's end
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() { // ended by the connection's end
				handle(c)
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// mpaReply is what an iWARP peer of revision 2 answers, with 16 as both read limits.
var mpaReply = append([]byte("MPA ID Rep Frame"), 0x10, 2, 0, 4, 0, 16, 0, 16)

// mpaAccept takes the request of an iWARP initiator; false if it is none.
func mpaAccept(c net.Conn) bool {
	head := make([]byte, 20)
	if _, err := io.ReadFull(c, head); err != nil || string(head[:16]) != "MPA ID Req Frame" {
		return false
	}
	if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint16(head[18:]))); err != nil {
		return false
	}
	_, err := c.Write(mpaReply)
	return err == nil
}

// The situations of our own server, by the flags of serve.
func TestDoctorOfOurServer(t *testing.T) {
	for _, c := range []struct {
		name  string
		serve []string
		examination
	}{
		{"SMB Direct", nil, examination{reason: "signed RDMA by iwarp", steps: map[string]string{
			"name": "ok", "devices": "ok", "route": "ok", "ports": "ok", "connect.iwarp": "ok", "smbdirect.iwarp": "ok", "dialect": "ok", "logon": "ok",
			"interfaces": "ok", "share": "ok", "protection": "ok", "move": "ok", "io.rdma": "ok", "io.inline": "ok", "io.tcp": "ok", "memory": "ok"},
			values: map[string]any{
				"connect.iwarp mpa_peer_revision": 2.0, "connect.iwarp mpa_peer_crc": false, "connect.iwarp mpa_peer_ird": 32.0,
				// [MS-SMBD] 6.1: IRD and ORD of 32, in network byte order.
				"connect.iwarp private_data":             "0000002000000020",
				"smbdirect.iwarp peer_max_receive_size":  1364.0, // no larger than what we send
				"smbdirect.iwarp version":                "0x0100",
				"smbdirect.iwarp peer_credits_requested": 255.0,
				"dialect smbdirect_dialect":              "3.1.1", "dialect tcp_dialect": "3.1.1",
				"protection data_path": "signed RDMA", "protection signed": true,
				"memory remote_invalidation": true, "memory registrations_left": 0.0,
				"io.inline bytes_written_by_rdma": 0.0, "io.tcp bytes_read_by_rdma": 0.0,
			}}},
		{"signing left to the client", []string{"--signing", "offered"}, examination{reason: ": RDMA by iwarp", values: map[string]any{
			"protection data_path": "RDMA", "protection signed": false, "protection signing_required_by_server": false}}},
		{"signing required", []string{"--signing", "required"}, examination{reason: "signed RDMA by iwarp", values: map[string]any{
			"protection signing_required_by_server": true, "protection data_path": "signed RDMA"}}},
		{"encryption required", []string{"--encryption", "required"}, examination{reason: "encrypted RDMA by iwarp", values: map[string]any{
			"protection encrypted": true, "protection data_path": "encrypted RDMA"}}},
		{"SMB Direct alone", []string{"--tcp", "none"}, examination{reason: "RDMA by iwarp", steps: map[string]string{"io.tcp": "not possible", "move": "ok", "io.rdma": "ok"}}},
		{"TCP alone", []string{"--rdma", "none"}, examination{decided: "ports", reason: "nobody listens on TCP port", change: "start SMB Direct on the server",
			steps: map[string]string{"logon": "ok", "share": "ok", "io.tcp": "ok", "io.rdma": "not possible", "connect.iwarp": "not possible", "interfaces": "problem"}}},
		{"a wrong password", nil, examination{args: []string{"-U", "alice%wrong"}, decided: "logon", reason: "STATUS_LOGON_FAILURE", change: "-U NAME%PASSWORD",
			steps: map[string]string{"dialect": "ok", "share": "not possible", "io.rdma": "not possible"}}},
		{"a share that is not there", nil, examination{target: "//127.0.0.1/absent", decided: "share", reason: "no share absent", change: "which lists data, ro"}},
		{"a read-only share with nothing to read", nil, examination{target: "//127.0.0.1/ro", reason: "no data was moved",
			steps: map[string]string{"io.rdma": "not possible", "io.tcp": "not possible"}}},
		{"to SMB Direct at once", nil, examination{args: []string{"--transport", "iwarp"}, reason: "RDMA by iwarp", steps: map[string]string{"move": "not tried", "connect.verbs": ""}}},
		{"no writing", nil, examination{args: []string{"--no-write"}, reason: "no data was moved", steps: map[string]string{"io.rdma": "not tried"}}},
		{"a threshold above every request", nil, examination{args: []string{"--rdma-threshold", "2000000"}, decided: "io.rdma",
			reason: "only 0 bytes written and 0 read by RDMA", change: "--rdma-threshold of at most 1 MiB"}},
		{"a directory that is not there", nil, examination{target: "//127.0.0.1/data/absent", decided: "io.rdma", reason: "OBJECT_PATH_NOT_FOUND", change: "server's log"}},
		{"a guest", []string{"--guest"}, examination{target: "//127.0.0.1/pub", args: []string{"-U", "stranger%x"}, reason: ": RDMA by iwarp",
			steps: map[string]string{"logon": "ok", "move": "ok"}, values: map[string]any{"logon guest": true}}},
		{"a guest who has to sign", []string{"--guest"}, examination{target: "//127.0.0.1/pub", args: []string{"-U", "stranger%x", "--signing", "required"},
			decided: "logon", reason: "signing is required", change: "guests can neither sign nor encrypt"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			serve := c.serve
			if slices.Contains(serve, "--guest") {
				serve = append(slices.Clone(serve), "--share", "pub="+t.TempDir()+",guest")
			}
			s := newSite(t, serve...)
			for _, scheme := range []string{"tcp", "iwarp"} {
				if s.port[scheme] == "" {
					s.port[scheme] = closedPort(t)
				}
			}
			ports := []string{"-p", s.port["tcp"], "--rdma-port", s.port["iwarp"]}
			if slices.Contains(c.args, "iwarp") {
				ports = []string{"-p", s.port["iwarp"]}
			}
			c.args = append(ports, c.args...)
			d := c.examine(t)
			if n := names(t, s.dir); len(n) != 0 {
				t.Errorf("the doctor left %v", n)
			}
			if o := d.outcome("io.rdma"); o == "ok" {
				w, r := d.value("io.rdma", "bytes_written").(float64), d.value("io.rdma", "bytes_read").(float64)
				if w < 1<<20 || r != w || d.value("io.rdma", "bytes_written_by_rdma") != w || d.value("io.rdma", "bytes_read_by_rdma") != r {
					t.Errorf("io.rdma: %v written, %v read; %v and %v by RDMA", w, r, d.value("io.rdma", "bytes_written_by_rdma"), d.value("io.rdma", "bytes_read_by_rdma"))
				}
			}
		})
	}
}

// A file that is there is read where nothing may be written, by every path.
func TestDoctorReadsWhereItMayNotWrite(t *testing.T) {
	s := newSite(t)
	data := strings.Repeat("something to read", 100_000)
	writeFile(t, filepath.Join(s.dir, "small"), "x")
	writeFile(t, filepath.Join(s.dir, "sub", "large"), data)
	for _, c := range []examination{
		{target: "//127.0.0.1/ro/sub"},
		{target: "//127.0.0.1/data/sub", args: []string{"--no-write"}},
	} {
		c.args = append(c.args, "-p", s.port["tcp"], "--rdma-port", s.port["iwarp"])
		c.reason = "read 1.6 MiB at "
		c.steps = map[string]string{"io.rdma": "ok", "io.inline": "ok", "io.tcp": "ok"}
		c.values = map[string]any{"io.rdma bytes_read_by_rdma": float64(len(data)), "io.rdma bytes_written": 0.0, "io.tcp bytes_read": float64(len(data)),
			"io.rdma file": "sub/large"}
		c.examine(t)
	}
	wantFile(t, filepath.Join(s.dir, "sub", "large"), data)
	if n := names(t, filepath.Join(s.dir, "sub")); !slices.Equal(n, []string{"large"}) {
		t.Errorf("the doctor left %v", n)
	}
}

// What is at the ports, where it is no server of ours.
func TestDoctorOfOtherServices(t *testing.T) {
	http := func(c net.Conn) {
		buf := make([]byte, 1)
		if _, err := c.Read(buf); err == nil {
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n400 Bad Request")
		}
	}
	silent := func(c net.Conn) { io.Copy(io.Discard, c) }
	hostile := func(c net.Conn) { // escape sequences, for ever
		for {
			if _, err := io.WriteString(c, "\x1b[2J\x1b]0;owned\a\xff\xfe"); err != nil {
				return
			}
		}
	}
	for _, c := range []struct {
		name   string
		handle func(net.Conn)
		examination
	}{
		{"nobody", nil, examination{decided: "ports", reason: "nobody listens", change: "see whether the server runs", steps: map[string]string{"dialect": "not possible", "logon": "not possible", "memory": "not possible"}}},
		{"HTTP", http, examination{decided: "connect.iwarp", reason: "is HTTP, no iWARP", change: "--rdma-port", steps: map[string]string{"ports": "ok", "dialect": "problem"}}},
		{"silence", silent, examination{decided: "connect.iwarp", reason: "takes connections and says nothing", change: "--rdma-port"}},
		{"what nobody knows", hostile, examination{decided: "connect.iwarp", reason: `its first octets are "\x1b[2J\x1b]0;owned\a`, change: "--rdma-port"}},
		{"a closed door", func(net.Conn) {}, examination{decided: "connect.iwarp", reason: "closes the connection without a word", change: "--rdma-port"}},
		{"SSH", func(c net.Conn) { io.WriteString(c, "SSH-2.0-OpenSSH_9.2p1\r\n"); silent(c) }, examination{decided: "connect.iwarp", reason: "is SSH, no iWARP", change: "--rdma-port"}},
		{"TLS", func(c net.Conn) { c.Write([]byte{0x15, 3, 1, 0, 2, 2, 10}); silent(c) }, examination{decided: "connect.iwarp", reason: "is TLS, no iWARP", change: "--rdma-port"}},
		{"iWARP that refuses", func(c net.Conn) {
			if head := make([]byte, 20); len(head) > 0 {
				io.ReadFull(c, head)
				c.Write(append([]byte("MPA ID Rep Frame"), 0x30, 2, 0, 4, 0, 0, 0, 0))
			}
			silent(c)
		}, examination{decided: "connect.iwarp", reason: "rejected by the peer", change: "log", values: map[string]any{"connect.iwarp mpa_peer_rejected": true}}},
		{"iWARP that is no SMB Direct", func(c net.Conn) {
			if mpaAccept(c) {
				c.Read(make([]byte, 64)) // and ends with the first message
			}
		}, examination{decided: "smbdirect.iwarp", reason: "no SMB Direct at", change: "whether it is an SMB server", steps: map[string]string{"connect.iwarp": "ok"},
			values: map[string]any{"connect.iwarp mpa_peer_ird": 16.0}}},
		{"iWARP that answers otherwise", func(c net.Conn) {
			if mpaAccept(c) {
				c.Read(make([]byte, 256))
				// RFC 5044 §4.3 and RFC 5041 §4.2: one untagged segment, a Send, with 4 octets.
				fpdu := []byte{0, 22, 0x41, 0x43, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 'w', 'h', 'a', 't', 0, 0, 0, 0}
				c.Write(fpdu)
				silent(c)
			}
		}, examination{decided: "smbdirect.iwarp", reason: "the answer is none of SMB Direct", change: "whether it is an SMB server"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // some of it waits
			port := closedPort(t)
			if c.handle != nil {
				port = service(t, c.handle)
			}
			c.args = append(c.args, "-p", port, "--rdma-port", port)
			c.examine(t)
		})
	}
}

// swallowing is a TCP port of 127.0.0.1 that nothing comes back from, as behind a
// firewall: the queue of a listener that accepts nobody is full.
func swallowing(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(sa.(*syscall.SockaddrInet4).Port)
	for range 16 {
		c, err := net.DialTimeout("tcp", "127.0.0.1:"+port, 300*time.Millisecond)
		if err != nil {
			return port
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Skip("this system's queue of connections does not fill")
	return ""
}

// A firewall is told from a closed port.
func TestDoctorBehindAFirewall(t *testing.T) {
	t.Parallel() // it waits
	port := swallowing(t)
	examination{args: []string{"-p", port, "--rdma-port", port}, decided: "ports", reason: "let nothing come back: a firewall",
		change: "through the firewalls", steps: map[string]string{"connect.iwarp": "not possible", "dialect": "not possible"}}.examine(t)
}

// stockServer is a server of this module with a configuration that serve does not
// offer: its ports.
func stockServer(t *testing.T, change func(*server.Config)) (tcpPort, rdmaPort string) {
	t.Helper()
	fsys, err := posix.New(t.TempDir(), posix.Config{})
	if err != nil {
		t.Fatal(err)
	}
	users := server.UserMap{}
	users.Add("alice", secret)
	cfg := server.Config{Users: users, Shares: []server.Share{{Name: "data", FS: fsys}, {Name: "sealed", FS: fsys, Encrypt: true}}}
	change(&cfg)
	srv, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p, err := iwarp.New(iwarp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	lt, err := tcp.Listen(t.Context(), "127.0.0.1:0", tcp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	lr, err := smbdirect.Listen(t.Context(), p, "iwarp", "127.0.0.1:0", smbdirect.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(context.Background(), lt) }) // ended by Close
	wg.Go(func() { _ = srv.Serve(context.Background(), lr) })
	t.Cleanup(func() {
		srv.Close()
		wg.Wait()
		fsys.Close()
	})
	port := func(a net.Addr) string { _, p, _ := net.SplitHostPort(a.String()); return p }
	return port(lt.Addr()), port(lr.Addr())
}

// lyingFS gives other octets with each handle.
type lyingFS struct {
	vfs.FS
	opens *atomic.Uint32
}

func (l lyingFS) Open(ctx context.Context, name string, o vfs.OpenOptions) (vfs.File, vfs.OpenResult, error) {
	f, r, err := l.FS.Open(ctx, name, o)
	if _, dir := f.(vfs.Dir); err != nil || dir {
		return f, r, err
	}
	return lyingFile{f, byte(l.opens.Add(1))}, r, nil
}

type lyingFile struct {
	vfs.File
	mask byte
}

func (f lyingFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if off == 0 && n > 1000 {
		p[1000] ^= f.mask
	}
	return n, err
}

// lying has the server keep nothing as it was.
func lying(c *server.Config) {
	for i := range c.Shares {
		c.Shares[i].FS = lyingFS{c.Shares[i].FS, new(atomic.Uint32)}
	}
}

// What was read is compared with what was written, and with what came by another
// path.
func TestDoctorVerifiesData(t *testing.T) {
	tcpPort, rdmaPort := stockServer(t, lying)
	ports := []string{"-p", tcpPort, "--rdma-port", rdmaPort}
	examination{args: ports, decided: "io.rdma", reason: "what was read at 0 is not what was written there", change: "the server's log",
		steps: map[string]string{"io.rdma": "problem", "io.inline": "problem", "io.tcp": "problem"}}.examine(t)
	local := filepath.Join(t.TempDir(), "f")
	writeFile(t, local, strings.Repeat("0123456789abcdef", 1000))
	if code, _, stderr := execute("put", local, "//127.0.0.1/data/f", "-U", "alice%"+secret, "-p", tcpPort, "--transport", "tcp", "--log-level", "error"); code != exitDone {
		t.Fatal(stderr)
	}
	examination{args: append(ports, "--no-write"), reason: "RDMA by iwarp",
		steps: map[string]string{"io.rdma": "ok", "io.inline": "problem", "io.tcp": "problem"}}.examine(t)
}

// What only other servers do: no RDMA transforms, and lists of interfaces that lead
// nowhere.
func TestDoctorOfOtherServers(t *testing.T) {
	lo := netip.MustParseAddr("127.0.0.1")
	listing := func(list ...server.Interface) func() []server.Interface {
		return func() []server.Interface { return list }
	}
	good := server.Interface{Index: 1, Addr: lo, Speed: 1e10, RSS: true, RDMA: true}
	plain := server.Interface{Index: 1, Addr: lo, Speed: 1e10}
	far := server.Interface{Index: 2, Addr: netip.MustParseAddr("127.0.0.2"), Speed: 1e10, RSS: true, RDMA: true}
	noTransforms := func(c *server.Config) {
		c.RDMATransforms = []uint16{}
		c.Interfaces = listing(plain, good)
	}
	for _, c := range []struct {
		name   string
		change func(*server.Config)
		examination
	}{
		{"signing required without transforms", func(c *server.Config) { noTransforms(c); c.Signing = server.PolicyRequired },
			examination{decided: "protection", reason: "the server requires signing", change: "do not require signing on the server"}},
		{"encryption required without transforms", func(c *server.Config) { noTransforms(c); c.Encryption = server.PolicyRequired },
			examination{decided: "protection", reason: "the session is encrypted", change: "do not require encryption on the server"}},
		{"an encrypted share without transforms", noTransforms,
			examination{target: "//127.0.0.1/sealed", decided: "protection", reason: "the share is encrypted", change: "do not require encryption for this share"}},
		{"signing required here", noTransforms,
			examination{args: []string{"--signing", "required"}, decided: "protection", reason: "signing is required here", change: "leave out --signing required"}},
		{"encryption required here", noTransforms,
			examination{args: []string{"--encrypt"}, decided: "protection", reason: "the session is encrypted", change: "leave out --encrypt"}},
		{"nothing required", noTransforms, examination{reason: ": RDMA by iwarp", steps: map[string]string{"interfaces": "ok", "move": "ok"}}},
		{"no multichannel", func(c *server.Config) {},
			examination{reason: "RDMA by iwarp", steps: map[string]string{"interfaces": "problem", "move": "ok"}, values: map[string]any{"interfaces multichannel": false}}},
		{"a list without RDMA", func(c *server.Config) { c.Interfaces = listing(plain) },
			examination{decided: "interfaces", reason: "lists 1 and none with RDMA", change: "have the server list its RDMA interfaces", steps: map[string]string{"io.rdma": "ok", "move": "problem"}}},
		{"a list with RDMA that can't be reached", func(c *server.Config) { c.Interfaces = listing(plain, far) },
			examination{decided: "interfaces", reason: "can't be reached at 127.0.0.2", change: "have the server listen for SMB Direct on an address that can be reached"}},
		{"the same, going to SMB Direct at once", func(c *server.Config) { c.Interfaces = listing(plain, far) },
			examination{args: []string{"--transport", "iwarp"}, reason: "RDMA by iwarp", steps: map[string]string{"interfaces": "problem", "move": "not tried"}}},
		{"one of two that can be reached", func(c *server.Config) { c.Interfaces = listing(plain, far, good) },
			examination{reason: "RDMA by iwarp", steps: map[string]string{"interfaces": "ok"}}},
		{"dialects before SMB Direct", func(c *server.Config) { c.MaxDialect = server.Dialect210 },
			examination{decided: "dialect", reason: "no SMB2 over SMB Direct", change: "allow SMB 3.0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tcpPort, rdmaPort := stockServer(t, c.change)
			c.args = append(c.args, "-p", tcpPort, "--rdma-port", rdmaPort)
			if slices.Contains(c.args, "iwarp") {
				c.args = []string{"--transport", "iwarp", "-p", rdmaPort}
			}
			c.examine(t)
		})
	}
}

// A name that is not there is the first step that can fail.
func TestDoctorOfANameThatIsNotThere(t *testing.T) {
	examination{target: "//no such host/data", args: []string{"-p", "1"}, decided: "name", reason: "no such host", change: "DNS"}.examine(t)
}

// The signal that ends the command ends the doctor.
func TestDoctorIsStopped(t *testing.T) {
	port := service(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs strings.Builder
	code := run(ctx, []string{"doctor", "//127.0.0.1/data", "-U", "a%b", "-p", port, "--rdma-port", port}, strings.NewReader(""), &out, &errs)
	if code != exitFailed || out.Len() != 0 || !strings.Contains(errs.String(), "context canceled") {
		t.Errorf("exit status %d, %q, %q", code, out.String(), errs.String())
	}
}

// docs/doctor.md names every step and value that there is.
func TestDoctorIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	d := examination{args: []string{"-p", s.port["tcp"], "--rdma-port", s.port["iwarp"]}}.examine(t)
	for _, st := range d.Steps {
		id := strings.NewReplacer("iwarp", "PROVIDER", "verbs", "PROVIDER").Replace(st.ID)
		if !strings.Contains(string(doc), "`"+id+"`") {
			t.Errorf("step %s is not documented", id)
		}
		for name := range st.Values {
			short := name
			for _, p := range []string{"mpa_ours_", "mpa_peer_", "smbdirect_", "tcp_"} {
				if rest, ok := strings.CutPrefix(name, p); ok && name != "tcp_port" && name != "smbdirect_tcp_ports" {
					short = rest
				}
			}
			if !strings.Contains(string(doc), "`"+short+"`") && !strings.Contains(string(doc), "`"+name+"`") {
				t.Errorf("value %s of %s is not documented", name, st.ID)
			}
		}
	}
	for _, o := range []doctor.Outcome{doctor.OK, doctor.Problem, doctor.NotPossible, doctor.NotTried} {
		if !strings.Contains(string(doc), "`"+string(o)+"`") {
			t.Errorf("outcome %s is not documented", o)
		}
	}
}
