package smbdirect

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// deaths collects what OnDeath is told.
func deaths() (chan *Death, func(*Death)) {
	ch := make(chan *Death, 16)
	return ch, func(d *Death) { ch <- d }
}

// A peer that breaks a rule leaves a dump that names the rule and shows what it
// sent last.
func TestFlightOfAViolation(t *testing.T) {
	told, onDeath := deaths()
	l := listener(t, Config{OnDeath: onDeath})
	p, err := dialRaw(t, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.send(negRequest(nil)); err != nil {
		t.Fatal(err)
	}
	if p.next() == nil {
		t.Fatal("no answer to the negotiation")
	}
	c, err := l.Accept(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// 8 octets of a message of 17, and then as many again with 4 remaining: 3.1.5.8.
	for _, remaining := range []uint32{9, 4} {
		if err := p.send(dataMessage(wire.DataTransfer{CreditsRequested: 10, CreditsGranted: 3, RemainingDataLength: remaining, DataOffset: 24, DataLength: 8}, 8)); err != nil {
			t.Fatal(err)
		}
	}
	for p.next() != nil {
	}
	var d *Death
	select {
	case d = <-told:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody was told of the death")
	}
	section, field, ok := d.Rule()
	if !ok || section != "3.1.5.8" || field != "RemainingDataLength" {
		t.Errorf("rule %q, %q, %v; want RemainingDataLength of 3.1.5.8", section, field, ok)
	}
	if d.Provider != "iwarp" || d.Initiator || !d.Remote.IsValid() || d.Parameters.MaxReceiveSize != 1024 || d.Lasted <= 0 {
		t.Errorf("death of %+v", d)
	}
	if d.Stats.Receives != 3 || d.Stats.CreditsReceived != 6 || d.Stats.CreditsGranted < 10 {
		t.Errorf("receives %d, credits received %d and granted %d; want 3, 6 and 10 or more", d.Stats.Receives, d.Stats.CreditsReceived, d.Stats.CreditsGranted)
	}
	last := 0
	for _, want := range []string{
		"receive negotiate message of 20 bytes: 00 01 00 01 00 00 0a 00",
		"send negotiate message of 32 bytes",
		"established: send 1024, receive 1024",
		"receive 32 bytes: request 10, grant 3, payload 8 at 24, remaining 9",
		"receive 32 bytes: request 10, grant 3, payload 8 at 24, remaining 4",
		"end: ",
	} {
		i := strings.Index(d.Flight[last:], want)
		if i < 0 {
			t.Fatalf("no %q behind what comes before it in\n%s", want, d.Flight)
		}
		last += i
	}
	if !strings.Contains(d.Flight[last:], "3.1.5.8") {
		t.Errorf("the end does not name the section:\n%s", d.Flight[last:])
	}
}

// A message shorter than its header is shown as it is.
func TestFlightOfAShortMessage(t *testing.T) {
	told, onDeath := deaths()
	l := listener(t, Config{OnDeath: onDeath})
	p, err := dialRaw(t, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.send([]byte{0xde, 0xad, 0xbe, 0xef}); err != nil {
		t.Fatal(err)
	}
	for p.next() != nil {
	}
	select {
	case d := <-told:
		if section, _, ok := d.Rule(); !ok || section != "3.1.5.6" || !strings.Contains(d.Flight, "receive negotiate message of 4 bytes: de ad be ef\n") {
			t.Errorf("section %q of\n%s", section, d.Flight)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nobody was told of the death")
	}
}

// A connection that was closed, at either end, did not die.
func TestFlightOfACleanClose(t *testing.T) {
	told, onDeath := deaths()
	client, server := pair(t, Config{OnDeath: onDeath}, Config{OnDeath: onDeath})
	if err := client.Send(context.Background(), msg([]byte("bye"))); err != nil {
		t.Fatal(err)
	}
	receive(t, server).Release()
	client.Close()
	if _, err := server.Receive(context.Background()); !errors.Is(err, io.EOF) {
		t.Errorf("the end of the peer: %v, want io.EOF", err)
	}
	server.Close()
	select {
	case d := <-told:
		t.Errorf("a death: %v\n%s", d.Cause, d.Flight)
	default: // both connections have told what they had to
	}
}

// The recorder can be read while the connection lives, holds what was last, and
// is of no more than its size.
func TestFlightOfALiveConnection(t *testing.T) {
	client, server := pair(t, Config{}, Config{})
	for range 2 * recorderSize {
		if err := client.Send(context.Background(), msg([]byte("12345678"))); err != nil {
			t.Fatal(err)
		}
		receive(t, server).Release()
	}
	var sb strings.Builder
	if err := server.FlightRecorder(&sb); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(sb.String(), "\n"), "\n")
	if len(lines) != recorderSize+1 || !strings.HasSuffix(lines[0], " earlier events)") || !strings.Contains(sb.String(), "receive 32 bytes") {
		t.Errorf("%d lines, the first %q", len(lines), lines[0])
	}
	server.Close()
	sb.Reset()
	if err := server.FlightRecorder(&sb); err != nil || !strings.Contains(sb.String(), "end: closed by us") {
		t.Errorf("after close: %v\n%s", err, sb.String())
	}
}

func TestRecordingAllocatesNothing(t *testing.T) {
	client, _ := pair(t, Config{}, Config{})
	client.Close()
	l := &client.l // nobody else's any more
	b := make([]byte, 32)
	if n := testing.AllocsPerRun(1000, func() {
		l.noteMessage(evReceive, b)
		l.note(evComplete, 1, 2, 3, 4, 5)
	}); n != 0 {
		t.Errorf("%v allocations for two events", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	client, _ := pair(b, Config{}, Config{})
	client.Close()
	l := &client.l
	m := make([]byte, 32)
	b.ReportAllocs()
	for b.Loop() {
		l.noteMessage(evReceive, m)
	}
}

// What both ends count of the same traffic agrees.
func TestStatsOfBothEnds(t *testing.T) {
	client, server := pair(t, Config{}, Config{})
	ctx := context.Background()
	p := pattern(100_000, 1)
	r, err := client.RDMA().Register(ctx, p, transport.PeerReads|transport.PeerWrites)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Send(ctx, msg([]byte("go"))); err != nil { // the registration is ordered before it
		t.Fatal(err)
	}
	receive(t, server).Release()
	ds := append([]transport.Descriptor(nil), r.Descriptors()...)
	buf, err := server.RDMA().Lease(ctx, len(p))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := server.RDMA().Read(ctx, buf, len(p), ds); err != nil {
			t.Fatal(err)
		}
	}
	if err := server.RDMA().Write(ctx, buf, 50_000, ds); err != nil {
		t.Fatal(err)
	}
	buf.Release()
	if err := server.Send(ctx, &transport.Message{Parts: [][]byte{[]byte("done")}, Invalidate: ds[0].Token, HasInvalidate: true}); err != nil {
		t.Fatal(err)
	}
	m := receive(t, client)
	if err := r.Deregister(ctx, m.Invalidated, m.HasInvalidated); err != nil {
		t.Fatal(err)
	}
	m.Release()
	r2, err := client.RDMA().Register(ctx, p, transport.PeerWrites)
	if err != nil {
		t.Fatal(err)
	}
	if err := r2.Deregister(ctx, 0, false); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if _, err := server.Receive(ctx); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	server.Close()
	a, b := client.Stats(), server.Stats()
	for _, c := range []struct {
		what      string
		got, want uint64
	}{
		{"server's reads", b.RDMAReads, 3},
		{"server's writes", b.RDMAWrites, 1},
		{"server's bytes read", b.RDMABytesRead, 300_000},
		{"server's bytes written", b.RDMABytesWritten, 50_000},
		{"bytes that the server read, at the client", a.PeerBytesRead, 300_000},
		{"bytes that the server wrote, at the client", a.PeerBytesWritten, 50_000},
		{"the client's registrations", a.RegistrationsMade, uint64(len(ds)) + 1},
		{"invalidations by the server", a.InvalidatedByPeer, 1},
		{"invalidations by the client", a.InvalidatedLocally, 1},
		{"messages on the way to the server", a.Sends, b.Receives},
		{"messages on the way to the client", b.Sends, a.Receives},
		{"credits granted to the server", a.CreditsGranted, b.CreditsReceived},
		{"credits granted to the client", b.CreditsGranted, a.CreditsReceived},
		{"client's outstanding", uint64(a.RDMAOutstanding), 0},
		{"server's outstanding", uint64(b.RDMAOutstanding), 0},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", c.what, c.got, c.want)
		}
	}
	if !a.PeerBytesKnown || len(ds) != 1 {
		t.Errorf("peer bytes known: %v; %d descriptors", a.PeerBytesKnown, len(ds))
	}
}
