package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/core"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
)

// session logs on to a site over iwarp.
func (s *site) session() *client.Session {
	s.t.Helper()
	p, err := iwarp.New(iwarp.Config{})
	if err != nil {
		s.t.Fatal(err)
	}
	d, err := smbdirect.NewDialer(p, "iwarp", smbdirect.Config{})
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := d.Dial(s.t.Context(), "127.0.0.1:"+s.port["iwarp"])
	if err != nil {
		s.t.Fatal(err)
	}
	sess, err := client.New(s.t.Context(), c, client.Config{User: "alice", Password: "secret", ServerName: "127.0.0.1"})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { sess.Close() })
	return sess
}

// report is what status --json prints.
func (s *site) report() statusReport {
	s.t.Helper()
	code, out, errs := execute("status", "--json", "--socket", s.sock)
	if code != exitDone {
		s.t.Fatalf("status: %d, %s", code, errs)
	}
	var r statusReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		s.t.Fatalf("%v in %s", err, out)
	}
	return r
}

func (s *site) metrics() string {
	s.t.Helper()
	r, err := http.Get("http://127.0.0.1:" + s.port["http"] + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return string(b)
}

func TestStatusOfARunningServer(t *testing.T) {
	s := newSite(t)
	writeFile(t, filepath.Join(s.dir, "big"), strings.Repeat("0123456789abcdef", 1<<14))
	sess := s.session()
	share, err := sess.Mount(t.Context(), "data")
	if err != nil {
		t.Fatal(err)
	}
	f, err := share.Open(t.Context(), "big")
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<18)
	if _, err := io.ReadFull(f, buf); err != nil {
		t.Fatal(err)
	}
	r := s.report()
	if len(r.Connections) != 1 || len(r.Sessions) != 1 || len(r.Listeners) != 2 || r.PID != os.Getpid() {
		t.Fatalf("%+v", r)
	}
	c := r.Connections[0]
	st := c.Stats
	if c.Transport != "iwarp" || c.Provider != "iwarp" || c.Dialect != "3.1.1" || len(c.Users) != 1 || !strings.HasSuffix(c.Users[0], "alice") || !c.RemoteInvalidation {
		t.Errorf("connection %+v", c)
	}
	if st.SendCredits == 0 || st.ReceiveCredits == 0 || st.Sends == 0 || st.Receives == 0 || st.RDMABytesWritten != 1<<18 || st.RDMAWrites == 0 || st.CreditsGranted == 0 || st.CreditsReceived == 0 {
		t.Errorf("stats %+v", st)
	}
	if p := c.Parameters; p == nil || p.MaxSendSize != 4352 || p.MaxReadWriteSize != 8<<20 {
		t.Errorf("parameters %+v", p)
	}
	x := r.Sessions[0]
	if x.User != "alice" || len(x.Trees) != 1 || x.Trees[0].Share != "data" || x.OpenCount != 1 || len(x.Opens) != 1 || x.Opens[0].Name != "big" {
		t.Errorf("session %+v", x)
	}

	code, out, _ := execute("status", "--files", "--socket", s.sock)
	for _, want := range []string{"1 connections, 1 sessions, 1 trees, 1 open files", "256.0K/0", "alice", "iwarp", "3.1.1", "big", "SMB Direct"} {
		if code != exitDone || !strings.Contains(out, want) {
			t.Errorf("exit status %d, no %q in\n%s", code, want, out)
		}
	}
	code, out, _ = execute("status", "--socket", s.sock, "--flight", fmt.Sprint(c.ID))
	for _, want := range []string{"established: send 4352", "post Write of ", "receive negotiate message"} {
		if code != exitDone || !strings.Contains(out, want) {
			t.Errorf("exit status %d, no %q in\n%s", code, want, out)
		}
	}
	for _, bad := range []struct{ args, want string }{
		{"--flight 4711", "no connection 4711"},
		{"--limit -1", "--limit -1 is not"},
		{"--socket /nowhere/s", "no such file"},
	} {
		args := append([]string{"status", "--socket", s.sock}, strings.Fields(bad.args)...)
		if code, _, errs := execute(args...); code == exitDone || !strings.Contains(errs, bad.want) {
			t.Errorf("%s: %d, %q; want %q", bad.args, code, errs, bad.want)
		}
	}

	m := s.metrics()
	id := fmt.Sprintf(`conn="%d"`, c.ID)
	for _, want := range []string{
		`smbd_rdma_connection_rdma_bytes_total{by="us",` + id + `,direction="written"} 262144`,
		`smbd_rdma_connection_credits{` + id + `,kind="send"} `,
		`smbd_rdma_connection_credit_stall_seconds_total{` + id + `} 0`,
		`smbd_rdma_connection_negotiated_bytes{` + id + `,size="send"} 4352`,
		`smbd_rdma_transport_rdma_bytes_total{by="us",direction="written",transport="iwarp"} 262144`,
		`smbd_rdma_connections_unlisted 0`,
	} {
		if !strings.Contains(m, want) {
			t.Errorf("no %q in /metrics", want)
		}
	}
	f.Close()
	sess.Close()
	waitFor(t, "the connection to end", func() bool { return s.report().Totals.Connections == 0 })
	m = s.metrics()
	if strings.Contains(m, id) || !strings.Contains(m, `smbd_rdma_transport_rdma_bytes_total{by="us",direction="written",transport="iwarp"} 262144`) {
		t.Errorf("after the end of the connection: its own metrics %v, and the sums\n%s", strings.Contains(m, id), m)
	}
}

func TestControlSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "ctl")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	l, err := listenControl(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Lstat(path); err != nil || fi.Mode().Type() != fs.ModeSocket || fi.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v", fi, err)
	}
	if _, err := listenControl(path); !errors.Is(err, errSocketInUse) {
		t.Errorf("a second server: %v", err)
	}
	l.Close() // as a server that was killed: the socket stays
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	if l, err = listenControl(path); err != nil {
		t.Fatalf("in the place of one that nobody listens on: %v", err)
	}
	l.Close()
	file := filepath.Join(dir, "file")
	writeFile(t, file, "precious")
	if _, err := listenControl(file); err == nil {
		t.Error("a file was taken for a socket")
	}
	wantFile(t, file, "precious")
	if got := names(t, dir); len(got) != 2 {
		t.Errorf("left in the directory: %v", got)
	}
}

// Servers that are told nothing find places of their own, and status finds them.
func TestDefaultControlSockets(t *testing.T) {
	dir, err := os.MkdirTemp("", "run")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	if code, _, errs := execute("status"); code != exitFailed || !strings.Contains(errs, "no server of this user") {
		t.Errorf("without a server: %d, %q", code, errs)
	}
	a := newSite(t, "--control", "")
	stale := filepath.Join(dir, "smbd-rdma", "999999999.sock")
	if l, err := listenControl(stale); err != nil {
		t.Fatal(err)
	} else {
		l.Close()
	}
	if code, out, errs := execute("status"); code != exitDone || !strings.Contains(out, "0 connections") {
		t.Errorf("one server: %d, %q, %q", code, out, errs)
	}
	b := newSite(t, "--control", "")
	if _, err := os.Lstat(stale); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket of a server that is no more: %v", err)
	}
	if code, _, errs := execute("status"); code != exitUsage || !strings.Contains(errs, "there are 2 servers") {
		t.Errorf("two servers: %d, %q", code, errs)
	}
	none := newSite(t, "--control", "none")
	for _, s := range []*site{a, b, none} {
		if code, log := s.stop(); code != exitDone {
			t.Errorf("serve: %d, %s", code, log)
		}
	}
	if got := names(t, filepath.Join(dir, "smbd-rdma")); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

// Somebody else's directory in the place of ours is not used.
func TestControlDirOfOthers(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	if err := os.Mkdir(filepath.Join(dir, "smbd-rdma"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "smbd-rdma"), 0o777); err != nil { // whatever the umask
		t.Fatal(err)
	}
	if _, _, err := defaultControl(); err == nil || !strings.Contains(err.Error(), "only we can write") {
		t.Errorf("a directory that all can write to: %v", err)
	}
}

// deadly connects to the site as MPA revision 1 wants it and sends an SMB Direct
// message that is too short to be one.
func (s *site) deadly() {
	s.t.Helper()
	c, err := net.Dial("tcp", "127.0.0.1:"+s.port["iwarp"])
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	request := append([]byte("MPA ID Req Frame"), 0, 1, 0, 0)
	if _, err := c.Write(request); err != nil {
		s.t.Fatal(err)
	}
	reply := make([]byte, 20)
	if _, err := io.ReadFull(c, reply); err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint16(reply[18:]))); err != nil {
		s.t.Fatal(err)
	}
	// Untagged and last, Send, queue 0, message 1, offset 0; four octets of payload.
	fpdu := []byte{0, 22, 0x41, 0x43, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0}
	if _, err := c.Write(fpdu); err != nil {
		s.t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.Copy(io.Discard, c) // until it is dead
}

// A peer that breaks a rule leaves a file that names it, and a line that names the
// file; a client that behaves leaves none.
func TestFlightDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "flights")
	s := newSite(t, "--flight-dir", dir)
	s.do(exitDone, "iwarp", "ls", "//127.0.0.1/data")
	if got := names(t, dir); len(got) != 0 {
		t.Fatalf("a clean end left %v", got)
	}
	if r := s.report(); r.SMBDirectDeaths != (deaths{}) {
		t.Errorf("a clean end counts: %+v", r.SMBDirectDeaths)
	}
	s.deadly()
	waitFor(t, "the death to be counted", func() bool { return s.report().SMBDirectDeaths == deaths{Mistake: 1} })
	m := s.metrics()
	for _, want := range []string{
		`smbd_rdma_smbdirect_deaths_total{cause="mistake"} 1`, `smbd_rdma_smbdirect_deaths_total{cause="timeout"} 0`,
		`smbd_rdma_smbdirect_deaths_total{cause="lost"} 0`, `smbd_rdma_smbdirect_deaths_total{cause="other"} 0`,
		`smbd_rdma_connections_total{result="failed"} 0`,
	} {
		if !strings.Contains(m, want+"\n") {
			t.Errorf("no %q in /metrics", want)
		}
	}
	if code, out, _ := execute("status", "--socket", s.sock); code != exitDone || !strings.Contains(out, "died: 1 of a mistake of the peer, 0 of its silence, 0 lost, 0 of") {
		t.Errorf("status: %d\n%s", code, out)
	}
	_, log := s.stop()
	got := names(t, dir)
	if len(got) != 1 {
		t.Fatalf("files %v, log %s", got, log)
	}
	file := filepath.Join(dir, got[0])
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"rule           [MS-SMBD] 3.1.5.6, length\n", "receive negotiate message of 4 bytes: de ad be ef\n", "iwarp, acceptor\n", "end: "} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %q in\n%s", want, b)
		}
	}
	if !strings.Contains(log, "SMB Direct connection died") || !strings.Contains(log, file) || !strings.Contains(log, `section="[MS-SMBD] 3.1.5.6"`) {
		t.Errorf("log:\n%s", log)
	}
}

// waitFor waits for something that the server gets to soon.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// Every death is counted under what it was of, however the error was wrapped.
func TestDeathsAreCounted(t *testing.T) {
	var n deaths
	for _, c := range []struct {
		cause error
		want  deaths
	}{
		{&smbdirect.ProtocolError{Section: "3.1.5.8"}, deaths{Mistake: 1}},
		{fmt.Errorf("x: %w", &smbdirect.ProtocolError{Section: "3.1.5.8", Err: io.EOF}), deaths{Mistake: 2}},
		{&core.TimeoutError{Section: "3.1.6.2"}, deaths{Mistake: 2, Timeout: 1}},
		{&smbdirect.LostError{Err: io.EOF}, deaths{Mistake: 2, Timeout: 1, Lost: 1}},
		{errors.New("of boredom"), deaths{Mistake: 2, Timeout: 1, Lost: 1, Other: 1}},
	} {
		if n.count(&smbdirect.Death{Cause: c.cause}); n != c.want {
			t.Errorf("%v: %+v, want %+v", c.cause, n, c.want)
		}
	}
}

// Deaths are told of at a pace that a peer cannot raise, in a number of files that
// it cannot raise either.
func TestFlightLogIsBounded(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	f, err := newFlightLog(slog.New(slog.NewTextHandler(&out, nil)), dir)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_700_000_000, 0)
	f.now = func() time.Time { return now }
	d := &smbdirect.Death{Cause: errors.New("of boredom"), Flight: "events\n"}
	lines := func() int { return strings.Count(out.String(), "connection died") }
	for range 1000 {
		f.died(d)
	}
	if got := f.counts(); got != (deaths{Other: 1000}) { // all, told of or not
		t.Errorf("%+v of 1000 deaths", got)
	}
	if lines() != flightBurst || len(names(t, dir)) != flightBurst {
		t.Errorf("%d lines and %d files of 1000 deaths, want %d", lines(), len(names(t, dir)), flightBurst)
	}
	now = now.Add(flightPace)
	f.died(d)
	f.died(d)
	if lines() != flightBurst+1 || !strings.Contains(out.String(), fmt.Sprintf("not_told_of=%d", 1000-flightBurst)) {
		t.Errorf("%d lines, the last: %s", lines(), out.String()[strings.LastIndex(strings.TrimSpace(out.String()), "\n")+1:])
	}
	for range 200 {
		now = now.Add(flightPace)
		f.died(d)
	}
	if got := len(names(t, dir)); got != flightFiles {
		t.Errorf("%d files, want %d", got, flightFiles)
	}
	// Without a directory the events are in the log.
	out.Reset()
	g, err := newFlightLog(f.log, "")
	if err != nil {
		t.Fatal(err)
	}
	g.died(d)
	if !strings.Contains(out.String(), `flight="events\n"`) || !strings.Contains(out.String(), `err="of boredom"`) {
		t.Errorf("log: %s", out.String())
	}
}

// packets reads a capture: the TCP payload of each direction in order of sequence
// numbers, without gaps, by the address that sent it.
func packets(t *testing.T, file string) (streams map[string][]byte, conns int) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	streams = map[string][]byte{}
	next := map[string]uint32{}
	for {
		b, _, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return streams, conns
		}
		if err != nil {
			t.Fatal(err)
		}
		p := gopacket.NewPacket(b, r.LinkType(), gopacket.Default)
		x, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if !ok {
			t.Fatalf("no TCP: %v", p)
		}
		key := fmt.Sprintf("%d>%d", x.SrcPort, x.DstPort)
		if x.SYN {
			next[key] = x.Seq + 1
			if !x.ACK {
				conns++
			}
			continue
		}
		if x.Seq != next[key] {
			t.Fatalf("%s goes on at %d, want %d", key, x.Seq, next[key])
		}
		next[key] += uint32(len(x.Payload))
		if x.FIN {
			next[key]++
		}
		streams[key] = append(streams[key], x.Payload...)
	}
}

// A command under trace does what it does without, and its file has all of it.
func TestTraceOfACommand(t *testing.T) {
	s := newSite(t)
	content := strings.Repeat("what goes through the page cache ", 10_000)
	writeFile(t, filepath.Join(s.dir, "f"), content)
	dir := t.TempDir()
	out, got := filepath.Join(dir, "out.pcap"), filepath.Join(dir, "got")
	code, _, errs := execute("trace", "--pcap", out, "--", "get", "//127.0.0.1/data/f", got, "-U", "alice%secret", "--transport", "iwarp", "-p", s.port["iwarp"])
	if code != exitDone || !strings.Contains(errs, "packets written") || strings.Contains(errs, "dropped") {
		t.Fatalf("%d, %s", code, errs)
	}
	wantFile(t, got, content)
	streams, conns := packets(t, out)
	if conns == 0 || len(streams) != 2*conns {
		t.Fatalf("%d connections, %d streams", conns, len(streams))
	}
	var all []byte
	for _, b := range streams {
		all = append(all, b...)
	}
	if !bytes.Contains(all, []byte("MPA ID Req Frame")) || !bytes.Contains(all, []byte("MPA ID Rep Frame")) || !bytes.Contains(all, []byte(content[:50_000])) {
		t.Errorf("the capture of %d octets has not what went over the connection", len(all))
	}
	if fi, err := os.Stat(out); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", fi, err)
	}
	// A command that fails is not hidden, nor one that used another way.
	if code, _, errs := execute("trace", "--pcap", out, "--", "cat", "//127.0.0.1/data/nothing", "-U", "alice%secret", "--transport", "iwarp", "-p", s.port["iwarp"]); code != exitFailed || !strings.Contains(errs, "smbd-rdma cat: ") {
		t.Errorf("%d, %s", code, errs)
	}
	if code, _, errs := execute("trace", "--pcap", out, "--", "ls", "//127.0.0.1/data", "-U", "alice%secret", "--transport", "tcp", "-p", s.port["tcp"]); code != exitFailed || !strings.Contains(errs, "only those can be traced") {
		t.Errorf("%d, %s", code, errs)
	}
	for _, bad := range []struct{ args, want string }{
		{"trace", "no --pcap"},
		{"trace --pcap x --snaplen -1", "--snaplen -1"},
		{"trace --pcap - -- ls //h", "without a command"},
		{"trace --pcap x --for 1s -- ls //h", "without a command"},
		{"trace --pcap x -- trace --pcap y", "does not trace itself"},
		{"trace --pcap x --for -1s", "is negative"},
	} {
		if code, _, errs := execute(strings.Fields(bad.args)...); code != exitUsage || !strings.Contains(errs, bad.want) {
			t.Errorf("%s: %d, %q; want %q", bad.args, code, errs, bad.want)
		}
	}
}

// A trace of a running server has the connections there are, from their handshake
// on as if it had been there, and those to come.
func TestTraceOfAServer(t *testing.T) {
	s := newSite(t)
	writeFile(t, filepath.Join(s.dir, "f"), strings.Repeat("x", 100_000))
	sess := s.session()
	if _, err := sess.Mount(t.Context(), "data"); err != nil { // before the trace
		t.Fatal(err)
	}
	tracing := func(args ...string) (file string, stop func() string) {
		t.Helper()
		file = filepath.Join(t.TempDir(), "out.pcap")
		ctx, cancel := context.WithCancel(t.Context())
		var errs bytes.Buffer
		done := make(chan int, 1)
		go func() {
			done <- run(ctx, append([]string{"trace", "--pcap", file, "--socket", s.sock}, args...), strings.NewReader(""), io.Discard, &errs)
		}()
		for { // what begins the file is sent when the tap is on
			if fi, err := os.Stat(file); err == nil && fi.Size() >= 24 {
				break
			}
			select {
			case code := <-done:
				t.Fatalf("trace %q ended with %d: %s", args, code, errs.String())
			case <-time.After(time.Millisecond):
			}
		}
		return file, func() string {
			t.Helper()
			cancel()
			if code := <-done; code != exitDone {
				t.Fatalf("trace %q ended with %d: %s", args, code, errs.String())
			}
			return errs.String()
		}
	}
	id := fmt.Sprint(s.report().Connections[0].ID)
	all, stopAll := tracing()
	one, stopOne := tracing("--conn", id)
	s.do(exitDone, "iwarp", "get", "//127.0.0.1/data/f", filepath.Join(t.TempDir(), "f"))
	share, err := sess.Mount(t.Context(), "ro")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := fs.ReadFile(share.FS(), "f"); err != nil || len(b) != 100_000 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	said := stopAll()
	stopOne()
	if !strings.Contains(said, "packets written") || strings.Contains(said, "dropped") {
		t.Errorf("said %q", said)
	}
	streams, conns := packets(t, all)
	if conns != 2 || len(streams) != 4 {
		t.Errorf("%d connections with %d streams, want 2 with 4", conns, len(streams))
	}
	for key, b := range streams {
		if !bytes.HasPrefix(b, []byte("MPA ID Re")) {
			t.Errorf("%s begins with % x", key, b[:min(len(b), 20)])
		}
	}
	streams, conns = packets(t, one)
	if conns != 1 || len(streams) != 2 {
		t.Errorf("of one connection: %d connections with %d streams", conns, len(streams))
	}
	for _, bad := range []struct {
		args []string
		want string
	}{
		{[]string{"--conn", "4711"}, "no connection 4711"},
	} {
		if code, _, errs := execute(append([]string{"trace", "--pcap", filepath.Join(t.TempDir(), "x"), "--socket", s.sock}, bad.args...)...); code != exitFailed || !strings.Contains(errs, bad.want) {
			t.Errorf("%v: %d, %q; want %q", bad.args, code, errs, bad.want)
		}
	}
}

// What cannot be traced is refused with the reason, and no more is traced at a time
// than was said.
func TestTracesThatAreRefused(t *testing.T) {
	users := server.UserMap{}
	users.Add("a", "b")
	srv, err := server.New(server.Config{Users: users})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	get := func(c *control, query string) (int, string) {
		t.Helper()
		w := httptest.NewRecorder()
		c.handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/trace?"+query, nil))
		return w.Code, w.Body.String()
	}
	c := &control{srv: srv, tap: iwarp.NewTap(), flights: &flightLog{}, traces: map[string]context.CancelFunc{}}
	for _, bad := range []struct {
		query string
		code  int
		want  string
	}{
		{"id=12345678", http.StatusConflict, "no iwarp listener, and only iwarp connections can be traced: tcpdump"},
		{"id=1234567", http.StatusBadRequest, "8 to 64"},
		{"id=12345678&snaplen=-1", http.StatusBadRequest, "snaplen"},
		{"id=12345678&snaplen=99999999", http.StatusBadRequest, "snaplen"},
		{"id=12345678&conn=1", http.StatusNotFound, "no connection 1"},
		{"id=12345678&conn=x", http.StatusBadRequest, "conn"},
	} {
		if code, text := get(c, bad.query); code != bad.code || !strings.Contains(text, bad.want) {
			t.Errorf("%s: %d, %q; want %d, %q", bad.query, code, text, bad.code, bad.want)
		}
	}
	p, err := iwarp.New(iwarp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := smbdirect.Listen(t.Context(), p, "iwarp", "127.0.0.1:0", smbdirect.Config{})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(t.Context(), l) }()
	waitFor(t, "the listener", func() bool { return len(srv.Status(1).Listeners) == 1 })
	for i := range maxTraces {
		c.traces[fmt.Sprint("busy", i)] = func() {}
	}
	if code, text := get(c, "id=12345678"); code != http.StatusServiceUnavailable || !strings.Contains(text, "captures under way") {
		t.Errorf("one too many: %d, %q", code, text)
	}
	srv.Close()
	if err := <-served; !errors.Is(err, server.ErrServerClosed) {
		t.Error(err)
	}
}
