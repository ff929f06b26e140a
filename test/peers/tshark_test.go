//go:build peers

package peers

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tshark decodes what we send on loopback as MPA, DDP/RDMAP, SMB Direct and SMB2,
// and finds no malformed frame.
func TestTsharkDecodesLoopbackTraffic(t *testing.T) {
	served, work := t.TempDir(), t.TempDir()
	onOneProcessor(t) // with what it starts: two could write a capture on loopback in another order than TCP sent
	s := startBinServer(t, served)
	for name, size := range map[string]int{"small": 100, "page": 4096, "odd": 100_003, "large": 3 << 20} {
		if err := os.WriteFile(filepath.Join(work, name), []byte(strings.Repeat("0123456789abcdef", size/16+1)[:size]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pcap := filepath.Join(t.TempDir(), "loopback.pcapng")
	capture := exec.Command("tshark", "-i", "lo", "-f", "tcp port "+port(t, s.rdma), "-B", "64", "-w", pcap)
	errs, err := capture.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := capture.Start(); err != nil {
		t.Fatal(err)
	}
	started := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(errs)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "Capturing on") {
				started <- true
			}
		}
		io.Copy(io.Discard, errs)
	}()
	select {
	case <-started:
	case <-time.After(20 * time.Second):
		capture.Process.Kill()
		t.Fatal("tshark does not capture; it needs root or CAP_NET_RAW")
	}
	// The capture is ready when it has seen a connection of ours.
	deadline := time.Now().Add(20 * time.Second)
	for {
		ours(t, s, "ls", "//127.0.0.1/test")
		if i, err := os.Stat(pcap); err == nil && i.Size() > 10_000 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("tshark writes nothing")
		}
	}
	ours(t, s, "put", "-r", work, "//127.0.0.1/test/tree")
	ours(t, s, "get", "-r", "//127.0.0.1/test/tree", filepath.Join(work, "back"))
	ours(t, s, "ls", "-r", "//127.0.0.1/test")
	ours(t, s, "rm", "-r", "//127.0.0.1/test/tree")
	capture.Process.Signal(syscall.SIGINT)
	if err := capture.Wait(); err != nil {
		t.Fatalf("tshark: %v", err)
	}

	read := func(args ...string) string {
		c := exec.Command("tshark", append([]string{"-r", pcap, "-o", "tcp.try_heuristic_first:TRUE",
			"-o", "tcp.reassemble_out_of_order:TRUE"}, args...)...)
		out, err := c.Output() // without the warning that it runs as root
		if err != nil {
			t.Fatalf("tshark %q: %v", args, err)
		}
		return string(out)
	}
	protocols := read("-T", "fields", "-e", "frame.protocols")
	for _, p := range []string{"iwarp_mpa", "iwarp_ddp_rdmap", "smb_direct", "smb2"} {
		if !strings.Contains(protocols, p) {
			t.Errorf("no frame was decoded as %s", p)
		}
	}
	// A connection that the capture does not show as TCP carried it is not judged:
	// octets that are missing, or a port used again, which tshark takes for the
	// earlier connection's.
	judged := "!tcp.analysis.out_of_order && !tcp.analysis.retransmission"
	if unsound := strings.Fields(read("-Y", "tcp.analysis.reused_ports || tcp.analysis.lost_segment || tcp.analysis.ack_lost_segment",
		"-T", "fields", "-e", "tcp.stream")); len(unsound) > 0 {
		slices.Sort(unsound)
		unsound = slices.Compact(unsound) // a line for each frame
		t.Logf("not judged: the connections %v", unsound)
		judged += " && !(tcp.stream in {" + strings.Join(unsound, ",") + "})"
	}
	// Nor what tshark cannot judge: it knows fragments of SMB Direct by their frame, and
	// loses some where TCP carries several FPDUs in a segment, as it does when a machine
	// is slow. The traces of the other tests have a frame for each.
	const ambiguous = "(smb_direct.fragments || count(iwarp_mpa.ulpdulength) > 1)"
	if bad := read("-Y", "!"+ambiguous+" && (_ws.malformed || _ws.expert.severity == error) && "+judged, "-T", "fields", "-e", "frame.number",
		"-e", "tcp.stream", "-e", "tcp.seq", "-e", "tcp.len", "-e", "_ws.col.Info", "-e", "_ws.expert.message"); strings.TrimSpace(bad) != "" {
		t.Errorf("tshark finds fault with (frame, connection, sequence number, length):\n%s", tail(bad, 3000))
	}
	// Each kind of message was there: negotiation, RDMA WRITE, READ, SEND with invalidate.
	for what, filter := range map[string]string{
		"MPA request":              "iwarp_mpa.req",
		"MPA reply":                "iwarp_mpa.rep",
		"SMB Direct negotiation":   "smb_direct.negotiate_response",
		"RDMA WRITE":               "iwarp_rdma.opcode == 0",
		"RDMA READ request":        "iwarp_rdma.opcode == 1",
		"RDMA READ response":       "iwarp_rdma.opcode == 2",
		"SEND with invalidate":     "iwarp_rdma.opcode == 4 || iwarp_rdma.opcode == 6",
		"SMB2 READ by the channel": "smb2.cmd == 8",
	} {
		if strings.TrimSpace(read("-Y", "("+filter+") && "+judged, "-c", "100000", "-T", "fields", "-e", "frame.number")) == "" {
			t.Errorf("no %s (%s) in the capture", what, filter)
		}
	}
}

// onOneProcessor keeps the test's goroutine, and the programs that it starts, on one
// processor until the test ends.
func onOneProcessor(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	for cpu := range len(before) * 64 {
		if before.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.SchedSetaffinity(0, &before); err != nil {
			t.Error(err)
		}
		runtime.UnlockOSThread()
	})
}
