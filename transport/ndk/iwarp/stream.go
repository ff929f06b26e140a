package iwarp

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/socket"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// streamParams is what the startup frames agreed on.
type streamParams struct {
	conn     *net.TCPConn
	crc      bool
	markers  bool // the peer wants them in what we send
	ird, ord int
	passive  bool          // fenced until the first FPDU
	early    time.Duration // passive: lift the fence after that time; 0 never
	rtrSend  bool          // passive: an empty first Send is the ready-to-receive message
	rtr      RTR           // active: the kind to send; 0 is none
	noReads  bool          // ord is for the ready-to-receive message alone
}

// localSegment is the segment size taken for connections that stay on the
// machine: FPDUs of whole pages.
const localSegment = fileChunk + taggedLen + lenField + crcField + 2

// localSendBuffer bounds what is on its way on such a connection, in octets. There
// is no distance to fill, and what the kernel would let it grow to, megabytes, has
// left the caches before the receiver copies it: on two cores RDMA Reads of 1 MiB
// ran 1.6 times as fast with it, Writes 1.2 times.
const localSendBuffer = 256 << 10

// sameHost reports whether both ends of a connection are on this machine, as far
// as addresses tell.
func sameHost(c *net.TCPConn) bool {
	l, r := c.LocalAddr().(*net.TCPAddr), c.RemoteAddr().(*net.TCPAddr)
	return r.IP.IsLoopback() || r.IP.Equal(l.IP)
}

// longPast is a deadline that makes who waits for the socket look at once.
var longPast = time.Unix(1, 0)

// reserve takes the QP for a connector.
func (q *qp) reserve() ndk.Status {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.state == qpEnded || q.Closing():
		return ntstatus.InvalidDeviceState
	case q.state != qpIdle:
		return ntstatus.ConnectionActive
	}
	q.state = qpConnecting
	return ntstatus.Success
}

// unreserve gives it back after an attempt that failed.
func (q *qp) unreserve() {
	q.mu.Lock()
	if q.state == qpConnecting {
		q.state = qpIdle
	}
	q.mu.Unlock()
}

// start puts the QP into operation on a connection. It fails if the QP was ended
// meanwhile; the connection is then the caller's still.
func (q *qp) start(c *connector, p streamParams) ndk.Status {
	raw, err := p.conn.SyscallConn()
	if err != nil {
		return ntstatus.ConnectionAborted
	}
	cfg := &q.adapter.cfg
	emss := segmentSize(raw)
	if emss <= 0 {
		emss = 536 // RFC 9293 §3.7.1
	}
	if sameHost(p.conn) {
		// No segment is ever cut on this path, and every receiver takes FPDUs of
		// any length (RFC 5044 §5.2); what the kernel reports this early is half
		// of the first window.
		emss = localSegment
		if cfg.SendBuffer == 0 {
			_ = p.conn.SetWriteBuffer(localSendBuffer) // a refusal costs speed only
		}
	}
	emss = min(emss, cfg.MaxFPDU)
	sock, err := socket.New(p.conn)
	if err != nil {
		cfg.Logger.Warn("no descriptor for a connection", slog.Any("err", err))
		return ntstatus.InsufficientResources
	}
	if raw, err = sock.SyscallConn(); err != nil {
		_ = sock.Close()
		return ntstatus.ConnectionAborted
	}

	q.mu.Lock()
	defer q.mu.Unlock()
	if q.state != qpConnecting {
		_ = sock.Close()
		return ntstatus.ConnectionAborted
	}
	_ = p.conn.Close() // sock has the connection
	q.state = qpActive
	q.conn, q.raw, q.connector = sock, raw, c
	q.crc, q.markers, q.maxSeg = p.crc, p.markers, mulpdu(emss, p.markers)
	q.ird, q.ord, q.noReads = p.ird, p.ord, p.noReads || p.ord == 0
	q.jobs, q.reads = make([]readJob, 2*p.ird), make([]uint32, p.ord)
	q.sinkSTag = q.adapter.Random()
	q.fenced, q.rtrSend = p.passive, p.rtrSend
	if p.early > 0 {
		q.Retain() // for early, or for who stops it
		q.unfence = time.AfterFunc(p.early, q.early)
	}
	q.firstFPDU, q.txDone, q.ended = make(chan struct{}), make(chan struct{}), make(chan struct{})
	q.txFn, q.writeFn = q.transmit, q.writeBatch
	q.stepFn = func(fd uintptr) bool {
		q.stepped = q.step(fd)
		return true
	}
	q.initFile()
	if cfg.Tap != nil {
		reply := &c.frame
		if c.passive {
			reply = &c.ours
		}
		q.tapped = cfg.Tap.open(c, sock, reply, p.markers)
	}
	q.rx = newReceiver(q)
	q.rxPlacing = true
	q.who.mu.Lock()
	q.who.taken, q.who.shut = true, q.srq != nil // which a message may have to wait for
	q.who.mu.Unlock()
	q.Retain()
	c.Retain()
	go q.receive() // ends with the connection; QP and connector wait for it
	if p.rtr != 0 {
		q.sendRTR(p.rtr)
	}
	return ntstatus.Success
}

// sendRTR queues the ready-to-receive message (V2-14), under mu.
func (q *qp) sendRTR(kind RTR) {
	wr := q.slotLocked()
	wr.hidden, wr.flags = true, ndk.SilentSuccess
	q.own++
	switch {
	case kind&RTRWrite != 0:
		wr.op, wr.token = wrWrite, 1
	case kind&RTRRead != 0:
		wr.op, wr.token = wrRead, 1
	default:
		wr.op = wrSend
	}
	q.tail++
	q.kickLocked()
}

// accepted lifts the fence after the first good FPDU of the peer (MPA-11).
func (q *qp) accepted() {
	q.mu.Lock()
	q.fenced = false
	close(q.firstFPDU)
	q.kickLocked()
	q.mu.Unlock()
}

// early lifts the fence though the peer sent nothing yet.
func (q *qp) early() {
	q.mu.Lock()
	q.unfence = nil
	if q.fenced && q.state == qpActive {
		q.fenced = false
		q.kickLocked()
	}
	q.mu.Unlock()
	q.Release()
}

// keepFence stops the timer of early, at the end of the connection.
func (q *qp) keepFence() {
	q.mu.Lock()
	stopped := q.unfence != nil && q.unfence.Stop()
	q.unfence = nil
	q.mu.Unlock()
	if stopped {
		q.Release()
	}
}

// failLocked ends the connection with a Terminate, because of a mistake of the
// peer or of a request of ours. Only the first error counts (RDMAP-30).
func (q *qp) failLocked(c cause, o *offender) {
	if q.flushWanted || q.finSent {
		q.flushWanted = true
		return
	}
	q.flushWanted = true
	q.state = qpEnded
	q.term = appendTerminate(make([]byte, 0, maxTerminateLen), c, o)
	q.terminating = true
	q.reason = reason(c, true)
	// A fence that still stands at an error means that the first FPDU was bad.
	// Its sender is in full operation, which is what the fence waits for.
	q.fenced = false
	_ = q.conn.SetReadDeadline(longPast) // gets the receiver out of the buffers
	q.who.interrupt()
	_ = q.conn.SetWriteDeadline(time.Now().Add(q.adapter.cfg.LingerTimeout))
	q.kickLocked()
}

// terminated notes the Terminate of the peer: nothing more is sent, all work
// fails, and what the peer complained about is told to the oldest request
// (RDMAP-31).
func (q *qp) terminated(c cause, known bool) {
	q.adapter.cfg.Logger.Debug("terminate received", slog.String("cause", c.String()), slog.Bool("decoded", known))
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.flushWanted {
		return
	}
	q.state = qpEnded
	q.flushWanted = true
	q.stopTx = true
	if !known {
		c = causeLocal
	}
	q.reason = reason(c, false)
	if blamesRequest(c) {
		for s := q.head; s != q.tail; s++ {
			if wr := q.wr(s); !wr.done && !wr.hidden {
				wr.status, wr.perr = ntstatus.RemoteResources, q.reason
				break
			}
		}
	}
	_ = q.conn.SetWriteDeadline(longPast)
}

// blamesRequest reports whether the cause is a request of ours that reached for
// what the peer does not give.
func blamesRequest(c cause) bool {
	return c.layer == layerRDMAP && c.etype == 1 || c.layer == layerDDP && c.etype == 1 || c == causeNoBuffer || c == causeTooLong
}

// reasonTerminate marks a disconnect reason as made from a Terminate.
const (
	reasonTerminate = 1 << 24
	reasonLocal     = 1 << 23
)

func reason(c cause, local bool) uint32 {
	r := uint32(reasonTerminate) | uint32(c.layer)<<16 | uint32(c.etype)<<8 | uint32(c.code)
	if local {
		r |= reasonLocal
	}
	return r
}

// ParseReason unpacks the reason of a disconnect event: the layer, error type and
// code of the Terminate that ended the connection (RFC 5040 §4.8), and whether
// we sent it. ok is false for an end without Terminate.
func ParseReason(r uint32) (layer, etype, code uint8, local, ok bool) {
	if r&reasonTerminate == 0 {
		return 0, 0, 0, false, false
	}
	return uint8(r >> 16 & 0x0F), uint8(r >> 8), uint8(r), r&reasonLocal != 0, true
}

// receive is the goroutine of the receiver: it runs the stream and winds it up.
func (q *qp) receive() {
	err := q.stream()
	cfg := &q.adapter.cfg
	if err != io.EOF && err != errTerminated {
		cfg.Logger.Debug("connection ended", slog.Any("err", err))
	}

	q.mu.Lock()
	wasGraceful := false
	var pe *protocolError
	switch {
	case err == io.EOF:
		// The peer's half is closed: what was posted still goes out, as far as it
		// needs no answer, and then ours is.
		wasGraceful = true
		q.drain = true
		if q.state == qpActive {
			q.state = qpEnded
		}
		if q.fenced {
			q.stopTx = true
		}
		_ = q.conn.SetWriteDeadline(time.Now().Add(cfg.LingerTimeout))
	case err == errTerminated, err == errStopped:
	case errors.As(err, &pe):
		q.failLocked(pe.cause, pe.off)
	case !q.flushWanted:
		q.state = qpEnded
		q.flushWanted, q.stopTx, q.hardClose = true, true, true
		q.timedOut = errors.Is(err, os.ErrDeadlineExceeded)
		if q.reason == 0 && err == io.ErrUnexpectedEOF {
			q.reason = reason(causeMPALost, true) // MPA-35
		}
		_ = q.conn.SetWriteDeadline(longPast)
	}
	q.rxPlacing = false
	linger := !wasGraceful && !q.hardClose
	reason := q.reason
	local := q.connector.disconnecting()
	q.kickLocked()
	q.finishLocked() // unlocks

	q.connector.lost(local, reason)
	if linger {
		// A reset because of unread input would take the Terminate with it
		// (RDMAP-32).
		late := q.rx.discard(time.Now().Add(cfg.LingerTimeout))
		q.mu.Lock()
		q.drain = true
		q.timedOut = q.timedOut || late && err == errStopped
		q.kickLocked()
		q.mu.Unlock()
	}
	<-q.txDone
	_ = q.conn.Close()
	q.mu.Lock()
	q.finishLocked() // unlocks; what the transmitter is about to flush is done when ended says so
	q.rx.reduce()
	q.rx.small, q.rx.stage = nil, nil
	q.connector.forget()
	q.keepFence()
	if q.tapped != nil {
		q.tapped.close()
	}
	close(q.ended)
	q.connector.Release()
	q.Release()
}
