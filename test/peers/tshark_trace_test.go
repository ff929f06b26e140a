//go:build peers

package peers

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
)

// tsharkRead runs tshark on a capture of ours.
func tsharkRead(t *testing.T, pcap string, args ...string) string {
	t.Helper()
	c := exec.Command("tshark", append([]string{"-r", pcap, "-o", "tcp.try_heuristic_first:TRUE", "-o", "tcp.check_checksum:TRUE"}, args...)...)
	out, err := c.Output() // without the warning that it runs as root
	if err != nil {
		t.Fatalf("tshark %q: %v", args, err)
	}
	return string(out)
}

// tsharkCount is the number of frames that a filter shows.
func tsharkCount(t *testing.T, pcap, filter string) int {
	t.Helper()
	return len(strings.Fields(tsharkRead(t, pcap, "-Y", filter, "-T", "fields", "-e", "frame.number")))
}

// tsharkFaults is what tshark finds fault with.
func tsharkFaults(t *testing.T, pcap string) string {
	t.Helper()
	return strings.TrimSpace(tsharkRead(t, pcap, "-Y", "_ws.malformed || _ws.expert.severity >= warning",
		"-T", "fields", "-e", "frame.number", "-e", "_ws.col.Info", "-e", "_ws.expert.message"))
}

// transportStats are the sums of `status --json` for iwarp.
type transportStats struct {
	Sends        int `json:"sends"`
	Receives     int `json:"receives"`
	RDMAWrites   int `json:"rdma_writes"`
	RDMAReads    int `json:"rdma_reads"`
	BytesWritten int `json:"rdma_bytes_written"`
	BytesRead    int `json:"rdma_bytes_read"`
}

// iwarpStats asks the server, when its connections have ended.
func iwarpStats(t *testing.T, socket string) transportStats {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		out := command(t, "", binary(t), "status", "--json", "--socket", socket)
		var r struct {
			Totals     struct{ Connections int }
			Transports map[string]transportStats
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		if r.Totals.Connections == 0 {
			return r.Transports["iwarp"]
		}
		if time.Now().After(deadline) {
			t.Fatalf("connections are still open: %s", out)
		}
	}
}

// traceServer attaches to a server; stop returns what the command said.
func traceServer(t *testing.T, socket, pcap string, args ...string) (stop func() string) {
	t.Helper()
	var said bytes.Buffer
	c := exec.Command(binary(t), append([]string{"trace", "--pcap", pcap, "--socket", socket}, args...)...)
	c.Stderr = &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if i, err := os.Stat(pcap); err == nil && i.Size() >= 24 {
			break
		}
		if time.Now().After(deadline) {
			c.Process.Kill()
			c.Wait()
			t.Fatalf("trace does not begin: %s", said.String())
		}
	}
	return func() string {
		t.Helper()
		c.Process.Signal(syscall.SIGINT)
		if err := c.Wait(); err != nil {
			t.Fatalf("trace: %v: %s", err, said.String())
		}
		if strings.Contains(said.String(), "dropped") {
			t.Errorf("trace says: %s", said.String())
		}
		return said.String()
	}
}

func tracedServer(t *testing.T) (s *binServer, socket, work string) {
	t.Helper()
	run, err := os.MkdirTemp("", "ctl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	socket = filepath.Join(run, "s")
	s = startBinServer(t, t.TempDir(), "--control", socket)
	work = t.TempDir()
	for name, size := range map[string]int{"small": 100, "page": 4096, "odd": 100_003, "large": 3 << 20} {
		if err := os.WriteFile(filepath.Join(work, name), []byte(strings.Repeat("0123456789abcdef", size/16+1)[:size]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s, socket, work
}

func useServer(t *testing.T, s *binServer, work string) {
	t.Helper()
	ours(t, s, "put", "-r", work, "//127.0.0.1/test/tree")
	ours(t, s, "get", "-r", "//127.0.0.1/test/tree", filepath.Join(t.TempDir(), "back"))
	ours(t, s, "ls", "-r", "//127.0.0.1/test")
	ours(t, s, "rm", "-r", "//127.0.0.1/test/tree")
}

// A trace of a running server is one that tshark finds nothing wrong with, and has
// as many messages of SMB Direct, RDMA Writes and Read Requests as the server counted.
func TestTsharkAgreesWithTheStats(t *testing.T) {
	s, socket, work := tracedServer(t)
	pcap := filepath.Join(t.TempDir(), "server.pcap")
	stop := traceServer(t, socket, pcap)
	useServer(t, s, work)
	st := iwarpStats(t, socket)
	stop()
	if bad := tsharkFaults(t, pcap); bad != "" {
		t.Errorf("tshark finds fault with:\n%s", tail(bad, 3000))
	}
	port := port(t, s.rdma)
	for _, c := range []struct {
		what, filter string
		want         int
	}{
		{"SMB Direct messages of the server", "smb_direct && tcp.srcport == " + port, st.Sends},
		{"SMB Direct messages of clients", "smb_direct && tcp.dstport == " + port, st.Receives},
		{"Sends of the server", "iwarp_rdma.opcode in {3..6} && tcp.srcport == " + port, st.Sends},
		{"last segments of RDMA Writes", "iwarp_rdma.opcode == 0 && iwarp_ddp.last_flag == 1", st.RDMAWrites},
		{"Read Requests", "iwarp_rdma.opcode == 1", st.RDMAReads},
		{"last segments of Read Responses", "iwarp_rdma.opcode == 2 && iwarp_ddp.last_flag == 1", st.RDMAReads},
	} {
		if got := tsharkCount(t, pcap, c.filter); got != c.want || got == 0 {
			t.Errorf("%s: %d in the capture, %d counted", c.what, got, c.want)
		}
	}
	if most := 2 * (4<<20 + 200_000); st.BytesWritten < 3<<20 || st.BytesRead < 3<<20 || st.BytesWritten+st.BytesRead > most {
		t.Errorf("RDMA bytes %+v", st)
	}
}

// A trace of a command is one that tshark reads in full: names of files, and no
// gap in any stream.
func TestTsharkReadsATraceOfACommand(t *testing.T) {
	s, _, work := tracedServer(t)
	pcap := filepath.Join(t.TempDir(), "client.pcap")
	ours(t, s, "put", filepath.Join(work, "large"), "//127.0.0.1/test/large")
	out := filepath.Join(t.TempDir(), "large")
	c := exec.Command(binary(t), "trace", "--pcap", pcap, "--", "get", "//127.0.0.1/test/large", out,
		"-U", "tester%secret", "--transport", "iwarp", "-p", port(t, s.rdma))
	if b, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	if bad := tsharkFaults(t, pcap); bad != "" {
		t.Errorf("tshark finds fault with:\n%s", tail(bad, 3000))
	}
	if n := tsharkCount(t, pcap, `smb2.filename == "large"`); n == 0 {
		t.Error("no message with the name of the file")
	}
	// The octets of the file, by the lengths of the segments of RDMA Writes.
	sum := 0
	for _, f := range strings.Fields(tsharkRead(t, pcap, "-Y", "iwarp_rdma.opcode == 0", "-T", "fields", "-e", "iwarp_mpa.ulpdulength")) {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		sum += n - 14 // the tagged header
	}
	if sum < 3<<20 {
		t.Errorf("%d octets in RDMA Writes, want those of the file", sum)
	}
}

// A connection that was there before the trace is decoded too, and so is one whose
// frames are cut.
func TestTsharkReadsATraceBegunLate(t *testing.T) {
	s, socket, work := tracedServer(t)
	ours(t, s, "put", filepath.Join(work, "large"), "//127.0.0.1/test/large")
	p, err := iwarp.New(iwarp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := smbdirect.NewDialer(p, "iwarp", smbdirect.Config{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := d.Dial(t.Context(), "127.0.0.1:"+port(t, s.rdma))
	if err != nil {
		t.Fatal(err)
	}
	sess, err := client.New(t.Context(), conn, client.Config{User: "tester", Password: "secret", ServerName: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close()
	share, err := sess.Mount(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, snap := range []string{"0", "200"} {
		pcap := filepath.Join(t.TempDir(), "late.pcap")
		before := conn.Stats()
		stop := traceServer(t, socket, pcap, "--snaplen", snap)
		b, err := fs.ReadFile(share.FS(), "large")
		if err != nil || len(b) != 3<<20 {
			t.Fatalf("%d octets, %v", len(b), err)
		}
		after := conn.Stats()
		stop()
		if bad := tsharkFaults(t, pcap); bad != "" {
			t.Errorf("snaplen %s: tshark finds fault with:\n%s", snap, tail(bad, 3000))
		}
		for _, c := range []struct {
			what, filter string
			want         int
		}{
			{"handshakes", "tcp.flags.syn == 1 && tcp.flags.ack == 0", 1},
			{"MPA frames of the startup", "iwarp_mpa.req || iwarp_mpa.rep", 2},
			{"Sends of the client", "iwarp_rdma.opcode in {3..6} && tcp.dstport == " + port(t, s.rdma), int(after.Sends - before.Sends)},
			{"Sends of the server", "iwarp_rdma.opcode in {3..6} && tcp.srcport == " + port(t, s.rdma), int(after.Receives - before.Receives)},
			{"READ requests", "smb2.cmd == 8 && smb2.flags.response == 0", 1},
		} {
			got := tsharkCount(t, pcap, c.filter)
			if c.what == "READ requests" && got > 0 {
				continue // as many as the client's size makes of it
			}
			if got != c.want {
				t.Errorf("snaplen %s: %s: %d, want %d", snap, c.what, got, c.want)
			}
		}
		// The lengths on the wire are there whatever was kept: tshark takes a frame that
		// was cut for TCP only.
		field, filter, header := "iwarp_mpa.ulpdulength", "iwarp_rdma.opcode == 0", 14
		if snap != "0" {
			field, filter, header = "tcp.len", "frame.cap_len < frame.len && tcp.srcport == "+port(t, s.rdma), 0
		}
		sum, frames := 0, strings.Fields(tsharkRead(t, pcap, "-Y", filter, "-T", "fields", "-e", field))
		for _, f := range frames {
			n, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			sum += n - header
		}
		if most := 3<<20 + 24*len(frames); sum < 3<<20 || sum > most || snap == "0" && sum != 3<<20 {
			t.Errorf("snaplen %s: %d octets in RDMA Writes, want %d", snap, sum, 3<<20)
		}
	}
}
