package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/test/internal/sites"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// # The bare client
//
// What a server gives at most is found out by a client that does no work: it sends the
// requests that the library has sent for one call, over and over, with other MessageIds
// and offsets, as many at a time as the row has in flight, and throws the data of the
// answers away. One goroutine does all of it and writes what belongs together at once.

// bareRow is a row that it can do.
type bareRow struct {
	call     func(ctx context.Context, sh *client.Share, f *client.File) error // sends them
	command  uint16                                                            // the first of them
	inFlight int
	size     int // bytes of a READ or WRITE
	amount   int // how much one call does, in what the row counts
}

const (
	commandCreate = 5
	commandClose  = 6
	commandRead   = 8
	commandWrite  = 9
)

func reads(size int) func(context.Context, *client.Share, *client.File) error {
	return func(_ context.Context, _ *client.Share, f *client.File) error {
		_, err := f.ReadAt(make([]byte, size), 0)
		return err
	}
}

func writes(size int) func(context.Context, *client.Share, *client.File) error {
	return func(_ context.Context, _ *client.Share, f *client.File) error {
		_, err := f.WriteAt(make([]byte, size), 0)
		return err
	}
}

var bareRows = map[string]bareRow{
	"read 1 MiB, one after the other":     {reads(block), commandRead, 1, block, block},
	"read 1 MiB, 8 in flight":             {reads(block), commandRead, 8, block, block},
	"write 1 MiB, one after the other":    {writes(block), commandWrite, 1, block, block},
	"write 1 MiB, 8 in flight":            {writes(block), commandWrite, 8, block, block},
	"read 4 KiB at random, 32 in flight":  {reads(small), commandRead, depth, small, 1},
	"write 4 KiB at random, 32 in flight": {writes(small), commandWrite, depth, small, 1},
	"open and close": {func(ctx context.Context, sh *client.Share, f *client.File) error {
		g, err := sh.Open(ctx, f.Name())
		if err != nil {
			return err
		}
		return g.Close()
	}, commandCreate, 1, 0, 1},
	"stat": {func(ctx context.Context, sh *client.Share, f *client.File) error {
		_, err := sh.Stat(ctx, f.Name())
		return err
	}, commandCreate, 1, 0, 1},
}

// Where a message of direct TCP has what is looked at or changed here: behind 4 bytes with
// its length, the header ([MS-SMB2] 2.2.1.2), and the body.
const (
	frameHead     = 4
	atCharge      = frameHead + 6
	atStatus      = frameHead + 8
	atCommand     = frameHead + 12
	atCredits     = frameHead + 14
	atNext        = frameHead + 20
	atMessageID   = frameHead + 24
	bodyAt        = frameHead + 64
	atLength      = bodyAt + 4
	atOffset      = bodyAt + 8  // of READ and WRITE requests
	atCloseID     = bodyAt + 8  // the FileId of a CLOSE request
	atCreateID    = bodyAt + 64 // that of a CREATE response
	createAnswer  = bodyAt + 88 // the length of that without contexts
	patience      = 10 * time.Second
	recordedFrame = 2 << 20
)

var le = binary.LittleEndian

// recorder passes what a library and a server say to each other on, and keeps the last
// request of each command, of READs and WRITEs the last of the longest.
type recorder struct {
	up, down net.Conn
	both     sync.WaitGroup

	mu   sync.Mutex
	last map[uint16][]byte // guarded by mu
	next uint64            // guarded by mu; the first MessageId that was not used
}

// record waits for one connection and passes it on to addr. Both directions end when the
// recorder is stopped.
func record(l net.Listener, addr string) (*recorder, error) {
	down, err := l.Accept()
	if err != nil {
		return nil, err
	}
	up, err := net.Dial("tcp", addr)
	if err != nil {
		down.Close()
		return nil, err
	}
	r := &recorder{up: up, down: down, last: map[uint16][]byte{}}
	r.both.Go(func() { r.pass(up, down, r.note) })
	r.both.Go(func() { r.pass(down, up, func([]byte) {}) })
	return r, nil
}

func (r *recorder) pass(to, from net.Conn, look func(frame []byte)) {
	for {
		var head [frameHead]byte
		if _, err := io.ReadFull(from, head[:]); err != nil {
			return
		}
		n := frameHead + int(binary.BigEndian.Uint32(head[:]))
		if n < bodyAt || n > recordedFrame {
			return
		}
		b := make([]byte, n)
		copy(b, head[:])
		if _, err := io.ReadFull(from, b[frameHead:]); err != nil {
			return
		}
		look(b)
		if _, err := to.Write(b); err != nil {
			return
		}
	}
}

func (r *recorder) note(frame []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	command := le.Uint16(frame[atCommand:])
	if ioLength(frame) >= ioLength(r.last[command]) {
		r.last[command] = frame
	}
	for e := range elements(frame) {
		r.next = max(r.next, le.Uint64(e[atMessageID:])+charge(e))
	}
}

// ioLength is how many bytes a request reads or writes, 0 for others.
func ioLength(frame []byte) int {
	if len(frame) < atLength+4 {
		return 0
	}
	if c := le.Uint16(frame[atCommand:]); c != commandRead && c != commandWrite {
		return 0
	}
	return int(le.Uint32(frame[atLength:]))
}

// stop takes the connection to the server away from the library.
func (r *recorder) stop() error {
	past := time.Now()
	err := errors.Join(r.up.SetReadDeadline(past), r.down.SetReadDeadline(past))
	r.both.Wait()
	return errors.Join(err, r.up.SetReadDeadline(time.Time{}))
}

// elements yields the requests of a compound, each as if it had the frame's head.
func elements(frame []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for {
			next := int(le.Uint32(frame[atNext:]))
			if !yield(frame) || next == 0 || next > len(frame)-bodyAt {
				return
			}
			frame = frame[next:]
		}
	}
}

func charge(e []byte) uint64 { return max(1, uint64(le.Uint16(e[atCharge:]))) }

// measureBare is measure for the bare client.
func measureBare(ctx context.Context, s *sites.Site, r row, length time.Duration) (sample, error) {
	how := bareRows[r.name]
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return sample{}, err
	}
	defer l.Close()
	var rec *recorder
	var recErr error
	var accepted sync.WaitGroup
	accepted.Go(func() { rec, recErr = record(l, s.Addr) })
	d, err := tcp.NewDialer(tcp.Config{})
	if err != nil {
		return sample{}, err
	}
	sess, err := client.Dial(ctx, d, l.Addr().String(), client.Config{User: sites.Guest, Password: s.Password})
	l.Close() // record does not wait any more
	accepted.Wait()
	if recErr != nil {
		return sample{}, errors.Join(err, recErr)
	}
	defer rec.both.Wait()
	defer rec.up.Close()
	defer rec.down.Close()
	if err != nil {
		return sample{}, err
	}
	defer sess.Close()
	sh, err := sess.Mount(ctx, s.Share)
	if err != nil {
		return sample{}, err
	}
	f, err := sh.OpenFile(ctx, "big-"+sites.Guest, os.O_RDWR, 0)
	if err != nil {
		return sample{}, err
	}
	// What the library sends of a call may depend on how many there are.
	var calls errgroup.Group
	for range how.inFlight {
		calls.Go(func() error { return how.call(ctx, sh, f) })
	}
	if err := calls.Wait(); err != nil {
		return sample{}, err
	}
	if err := rec.stop(); err != nil {
		return sample{}, err
	}
	rec.down.Close() // the library is not waited for
	b := bare{conn: rec.up, in: bufio.NewReaderSize(rec.up, block), how: how,
		request: rec.last[how.command], closing: rec.last[commandClose], next: rec.next}
	if b.request == nil {
		return sample{}, fmt.Errorf("no command %d was sent", how.command)
	}
	parts, err := b.cut()
	if err != nil {
		return sample{}, err
	}
	cpu, err := used()
	if err != nil {
		return sample{}, err
	}
	began := time.Now()
	n, err := b.run(began.Add(length))
	if err != nil {
		return sample{}, err
	}
	took := time.Since(began)
	end, err := used()
	if err != nil {
		return sample{}, err
	}
	done := float64(n) * float64(how.amount) / float64(parts)
	return sample{rate: done / took.Seconds() * r.scale, cpu: (end - cpu).Seconds() / done * r.costScale}, nil
}

// bare is the client at work.
type bare struct {
	conn             net.Conn
	in               *bufio.Reader
	how              bareRow
	request, closing []byte
	next             uint64
	out              []byte
}

// cut has as many requests in flight as the library has for its calls, and returns how many
// one call is.
func (b *bare) cut() (parts int, err error) {
	if b.how.size == 0 {
		return 1, nil
	}
	length := ioLength(b.request)
	if length == 0 || b.how.size%length != 0 {
		return 0, fmt.Errorf("a call of %d bytes sends a request of %d", b.how.size, length)
	}
	parts = b.how.size / length
	b.how.inFlight, b.how.size = b.how.inFlight*parts, length
	return parts, nil
}

// run returns how many requests were answered by the end; of two that go together, one.
func (b *bare) run(end time.Time) (n int, err error) {
	if err := b.conn.SetDeadline(end.Add(patience)); err != nil {
		return 0, err
	}
	for range b.how.inFlight {
		b.ask(b.request)
	}
	for time.Now().Before(end) {
		if b.in.Buffered() < bodyAt && len(b.out) > 0 {
			if _, err := b.conn.Write(b.out); err != nil {
				return n, err
			}
			b.out = b.out[:0]
		}
		head, err := b.in.Peek(bodyAt)
		if err != nil {
			return n, err
		}
		size := frameHead + int(binary.BigEndian.Uint32(head))
		switch st := ntstatus.Status(le.Uint32(head[atStatus:])); {
		case st == ntstatus.Pending:
		case st != ntstatus.Success:
			return n, st
		case le.Uint16(head[atCommand:]) == commandCreate && le.Uint32(head[atNext:]) == 0 && size >= createAnswer:
			if head, err = b.in.Peek(atCreateID + 16); err != nil {
				return n, err
			}
			copy(b.closing[atCloseID:], head[atCreateID:])
			b.ask(b.closing)
		default:
			n++
			b.ask(b.request)
		}
		if _, err := b.in.Discard(size); err != nil {
			return n, err
		}
	}
	return n, nil
}

// ask appends a message to what is to be sent, with MessageIds of its own, at another
// place of the file, asking for the credits that it costs.
func (b *bare) ask(frame []byte) {
	start := len(b.out)
	b.out = append(b.out, frame...)
	for e := range elements(b.out[start:]) {
		le.PutUint64(e[atMessageID:], b.next)
		le.PutUint16(e[atCredits:], uint16(charge(e)))
		b.next += charge(e)
	}
	if b.how.size > 0 {
		le.PutUint64(b.out[start+atOffset:], uint64(rand.IntN(bigSize/b.how.size)*b.how.size))
	}
}
