package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/smbd-rdma/smbd-rdma/internal/pcap"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
)

// localTraceBuffer is what trace holds for its own file to take.
const localTraceBuffer = 64 << 20

// traceFlags are the flags of trace.
type traceFlags struct {
	pcap    string
	snaplen int
	socket  string
	conn    uint64
	forTime time.Duration
}

func (a *app) traceCommand() *cobra.Command {
	var f traceFlags
	c := &cobra.Command{
		Use:   "trace --pcap FILE [-- COMMAND ARGUMENT...]",
		Short: "write the SMB Direct traffic over iWARP of a command, or of a running server, for Wireshark",
		Long: `Writes what iwarp connections carry to a capture file: the MPA frames as they are
on the wire, in packets of TCP/IP made up around them with the addresses of the
connection, sequence numbers, handshake and FIN, so that Wireshark shows MPA, DDP,
RDMAP, SMB Direct and SMB2. It needs no privilege, and sees what a capture of the
network sees. Payload that goes from a file to the network without passing through
this process is read once more for the capture.

With a COMMAND, runs it as "smbd-rdma COMMAND" would and writes its connections.
Without one, asks a running server by its control socket for its connections, those
there are and those to come, until Ctrl-C, SIGTERM or --for. A reader or disk that is
too slow costs packets, never the server time; how many is said at the end.

Connections of the verbs provider are not traced: their messages do not pass through
TCP of this process (ibdump and tcpdump on rxe and siw can do that). TCP on port 445
is tcpdump's.

Wireshark and tshark take other protocols for it on ports 445 and 5445 unless run with
-o tcp.try_heuristic_first:TRUE. A capture of files has their content in it, and is
made for its owner's eyes only.`,
		Example: `  smbd-rdma trace --pcap out.pcap -- get //server/data/report.txt . -U alice%secret
  smbd-rdma trace --pcap out.pcap --snaplen 256 --for 10s
  smbd-rdma trace --pcap - --conn 17 | wireshark -o tcp.try_heuristic_first:TRUE -k -i -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.pcap == "":
				return usagef("no --pcap FILE")
			case f.snaplen < 0 || f.snaplen > pcap.MaxSnap:
				return usagef("--snaplen %d is not 0 to %d", f.snaplen, pcap.MaxSnap)
			case f.forTime < 0:
				return usagef("--for %v is negative", f.forTime)
			case len(args) == 0:
				return a.traceServer(cmd, f)
			case f.socket != "" || f.forTime != 0 || cmd.Flags().Changed("conn"):
				return usagef("--socket, --conn and --for go without a command")
			case f.pcap == "-":
				return usagef("--pcap - goes without a command, which prints to standard output")
			case args[0] == "trace":
				return usagef("trace does not trace itself")
			}
			return a.traceCommandLine(cmd.Context(), f, args)
		},
	}
	fs := c.Flags()
	fs.SetInterspersed(false) // the flags of the command are its own
	fs.StringVar(&f.pcap, "pcap", "", "file to write, in the format of libpcap; - is standard output")
	fs.IntVar(&f.snaplen, "snaplen", 0, "octets of each MPA frame to keep; 0 is all; Wireshark shows a frame that was cut as TCP only")
	fs.StringVar(&f.socket, "socket", "", "control socket of the server (default: that of the only server of this user)")
	fs.Uint64Var(&f.conn, "conn", 0, "only the connection with this ID, as status lists it (default all)")
	fs.DurationVar(&f.forTime, "for", 0, "how long; 0 is until it is interrupted")
	return c
}

// createPcap makes the file, which has the content of others in it.
func (a *app) createPcap(name string) (io.Writer, func() error, error) {
	if name == "-" {
		return a.stdout, func() error { return nil }, nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, nil, err
	}
	return f, f.Close, nil
}

// exitCode is the status of a command that has said what there was to say.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }

// traceCommandLine runs a command with a tap on its connections.
func (a *app) traceCommandLine(ctx context.Context, f traceFlags, args []string) error {
	w, closeFile, err := a.createPcap(f.pcap)
	if err != nil {
		return err
	}
	c, err := pcap.NewCapture(f.snaplen, localTraceBuffer)
	if err != nil {
		closeFile()
		return err
	}
	tap := iwarp.NewTap()
	detach := tap.Attach(newTapCapture(c, nil))
	written := make(chan error, 1)
	go func() { written <- c.Copy(context.Background(), w) }() // ended by End below
	sub := &app{stdin: a.stdin, stdout: a.stdout, stderr: a.stderr, tap: tap}
	code := sub.run(ctx, args)
	detach()
	c.End()
	err = errors.Join(<-written, closeFile())
	switch st := c.Stats(); {
	case err != nil:
		return fmt.Errorf("--pcap %s: %w", f.pcap, err)
	case code != exitDone:
		a.tellTraced(st)
		return exitCode(code)
	case st.Packets == 0:
		return errors.New("the command made no iwarp connection, and only those can be traced: see --transport iwarp of the command")
	default:
		a.tellTraced(st)
	}
	return nil
}

func (a *app) tellTraced(st pcap.Stats) {
	fmt.Fprintf(a.stderr, "%d packets written", st.Packets)
	if st.Dropped > 0 {
		fmt.Fprintf(a.stderr, ", %d dropped: what takes them is too slow (--snaplen makes them smaller)", st.Dropped)
	}
	fmt.Fprintln(a.stderr)
}

// traceServer has a server send a capture, until it is told to stop.
func (a *app) traceServer(cmd *cobra.Command, f traceFlags) error {
	c, err := dialControl(f.socket)
	if err != nil {
		return err
	}
	defer c.close()
	id := rand.Text()
	q := url.Values{"id": {id}, "snaplen": {strconv.Itoa(f.snaplen)}}
	if cmd.Flags().Changed("conn") {
		q.Set("conn", strconv.FormatUint(f.conn, 10))
	}
	// The end of ctx asks the server to stop, after which the rest still comes.
	reading, cancel := context.WithCancel(context.WithoutCancel(cmd.Context()))
	defer cancel()
	r, err := c.do(reading, "GET", "/trace?"+q.Encode())
	if err != nil {
		return err
	}
	defer r.Body.Close()
	w, closeFile, err := a.createPcap(f.pcap)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	if f.forTime > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, f.forTime)
		defer stop()
	}
	ended := make(chan struct{})
	stopped := make(chan struct{})
	go func() { // ends with the copy below, which is waited for
		defer close(stopped)
		select {
		case <-ctx.Done():
		case <-ended:
			return
		}
		wait, stop := context.WithTimeout(reading, 5*time.Second)
		defer stop()
		if r, err := c.do(wait, "POST", "/trace/stop?id="+id); err == nil {
			r.Body.Close()
		}
		select {
		case <-ended:
		case <-wait.Done():
			cancel() // the server does not get to its end
		}
	}()
	_, err = io.Copy(w, r.Body)
	close(ended)
	<-stopped
	if err = errors.Join(err, closeFile()); err != nil {
		return fmt.Errorf("--pcap %s: %w", f.pcap, err)
	}
	var st pcap.Stats
	st.Packets, _ = strconv.ParseUint(r.Trailer.Get(trailerPackets), 10, 64)
	st.Dropped, _ = strconv.ParseUint(r.Trailer.Get(trailerDropped), 10, 64)
	a.tellTraced(st)
	if cmd.Context().Err() == nil && ctx.Err() == nil {
		return errors.New("the server ended the capture")
	}
	return nil
}

// onlyIWARP is why a server refuses a capture.
const onlyIWARP = ", and only iwarp connections can be traced: tcpdump on the network device sees what goes by verbs on rxe and siw, and TCP"

// Trailers of a capture.
const (
	trailerPackets = "X-Packets"
	trailerDropped = "X-Dropped"
)

// trace streams a capture.
func (c *control) trace(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	snap, ok := number(w, r, "snaplen", 0, pcap.MaxSnap)
	if !ok {
		return
	}
	if len(id) < 8 || len(id) > 64 {
		http.Error(w, "id is to be 8 to 64 characters", http.StatusBadRequest)
		return
	}
	var keep func(*iwarp.TapConn) bool
	if r.URL.Query().Has("conn") {
		tc, ok := c.transport(w, r)
		if !ok {
			return
		}
		local, ok1 := tc.LocalAddr().(smbdirect.Addr)
		remote, ok2 := tc.RemoteAddr().(smbdirect.Addr)
		if !ok1 || !ok2 || local.Net != "iwarp" {
			http.Error(w, "the connection is not one of the iwarp provider"+onlyIWARP, http.StatusConflict)
			return
		}
		keep = func(x *iwarp.TapConn) bool {
			return same(x.Local, local.AddrPort) && same(x.Peer, remote.AddrPort)
		}
	} else if !c.hasIWARP() {
		http.Error(w, "the server has no iwarp listener"+onlyIWARP, http.StatusConflict)
		return
	}
	cp, err := pcap.NewCapture(int(snap), traceBuffer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	c.mu.Lock()
	full, twice := len(c.traces) >= maxTraces, c.traces[id] != nil
	if !full && !twice {
		c.traces[id] = cancel
	}
	c.mu.Unlock()
	if full || twice {
		http.Error(w, fmt.Sprintf("there are %d captures under way, which is the most, or one of that id", maxTraces), http.StatusServiceUnavailable)
		return
	}
	defer func() {
		c.mu.Lock()
		delete(c.traces, id)
		c.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "application/vnd.tcpdump.pcap")
	w.Header().Set("Trailer", trailerPackets+", "+trailerDropped)
	detach := c.tap.Attach(newTapCapture(cp, keep))
	defer detach()
	stopped := context.AfterFunc(ctx, func() {
		detach()
		cp.End() // Copy goes on to the end of what there is, or until the reader is gone
	})
	defer stopped()
	err = cp.Copy(context.Background(), w)
	detach()
	if err == nil {
		st := cp.Stats()
		w.Header().Set(trailerPackets, strconv.FormatUint(st.Packets, 10))
		w.Header().Set(trailerDropped, strconv.FormatUint(st.Dropped, 10))
	}
}

// stopTrace ends a capture.
func (c *control) stopTrace(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	cancel := c.traces[r.URL.Query().Get("id")]
	c.mu.Unlock()
	if cancel == nil {
		http.Error(w, "no such capture", http.StatusNotFound)
		return
	}
	cancel()
}

// hasIWARP reports whether there may be connections to trace.
func (c *control) hasIWARP() bool {
	for _, l := range c.srv.Status(maxStatusLimit).Listeners {
		if l.Scheme == "iwarp" {
			return true
		}
	}
	return false
}

// same compares addresses as IP has them.
func same(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && a.Addr().Unmap() == b.Addr().Unmap()
}

// tapCapture writes what a Tap shows to a capture. It implements iwarp.TapSink.
type tapCapture struct {
	c    *pcap.Capture
	keep func(*iwarp.TapConn) bool // nil: all
	born time.Time

	mu    sync.Mutex
	conns map[*iwarp.TapConn]*pcap.Conn // guarded by mu; nil for those that are not kept
}

func newTapCapture(c *pcap.Capture, keep func(*iwarp.TapConn) bool) *tapCapture {
	return &tapCapture{c: c, keep: keep, born: time.Now(), conns: map[*iwarp.TapConn]*pcap.Conn{}}
}

// Snap implements iwarp.TapSink.
func (t *tapCapture) Snap() int { return t.c.Snap() }

// Opened implements iwarp.TapSink.
func (t *tapCapture) Opened(c *iwarp.TapConn) { t.conn(c) }

// conn returns the connection in the capture, nil if it is not to be there. A new
// one begins with its handshake and startup frames, at the time of the capture's own
// beginning if it is older, so that the packets of the file are in order.
func (t *tapCapture) conn(c *iwarp.TapConn) *pcap.Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	x, ok := t.conns[c]
	if ok {
		return x
	}
	if t.keep == nil || t.keep(c) {
		at := c.Opened
		if at.Before(t.born) {
			at = t.born
		}
		x = t.c.Open(c.Local, c.Peer, c.Initiator, at)
		x.Vital(at, c.Initiator, c.Request)
		if len(c.Reply) > 0 {
			x.Vital(at, !c.Initiator, c.Reply)
		}
	}
	t.conns[c] = x
	return x
}

// Frame implements iwarp.TapSink.
func (t *tapCapture) Frame(c *iwarp.TapConn, f *iwarp.TapFrame) {
	if x := t.conn(c); x != nil {
		x.Data(f.At, f.Sent, f.Data, f.Len)
	}
}

// Closed implements iwarp.TapSink.
func (t *tapCapture) Closed(c *iwarp.TapConn) {
	t.mu.Lock()
	x := t.conns[c]
	delete(t.conns, c)
	t.mu.Unlock()
	if x != nil {
		x.Close(time.Now())
	}
}
