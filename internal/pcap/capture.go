package pcap

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// MaxSnap is the largest number of octets of a packet that a capture keeps: more
// than any packet has.
const MaxSnap = 262144

// Stats counts packets.
type Stats struct {
	// Packets is how many were written, Dropped how many found no room.
	Packets, Dropped uint64
}

// Capture is a capture file in the making: packets go in at any time and out as
// fast as somebody takes them.
type Capture struct {
	snap, limit int
	wake        chan struct{} // there is something to take

	mu    sync.Mutex
	w     *pcapgo.Writer           // guarded by mu, as all below; to buf
	buf   *bytes.Buffer            // what nobody has taken
	pack  gopacket.SerializeBuffer // of one packet
	ended bool
	stats Stats
}

// NewCapture makes a capture that keeps at most snap octets of each packet's
// payload, the header of its IP packet apart (0: all of it), and holds about limit
// bytes that nobody has taken yet.
func NewCapture(snap, limit int) (*Capture, error) {
	if snap < 0 || limit <= 0 {
		return nil, fmt.Errorf("pcap: snap length %d and limit %d: want 0 or more, and 1 or more", snap, limit)
	}
	if snap == 0 || snap > MaxSnap-headers {
		snap = MaxSnap - headers
	}
	c := &Capture{snap: snap, limit: limit, wake: make(chan struct{}, 1), buf: new(bytes.Buffer), pack: gopacket.NewSerializeBuffer()}
	c.w = pcapgo.NewWriterNanos(toBuffer{c})
	if err := c.w.WriteFileHeader(MaxSnap, layers.LinkTypeEthernet); err != nil {
		return nil, fmt.Errorf("pcap: header: %w", err)
	}
	return c, nil
}

// toBuffer writes to what buf is now. c.mu is held.
type toBuffer struct{ c *Capture }

func (b toBuffer) Write(p []byte) (int, error) { return b.c.buf.Write(p) }

// Snap is how many octets of payload a packet keeps.
func (c *Capture) Snap() int { return c.snap }

// Stats returns what was counted so far.
func (c *Capture) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// End says that no more packets come: what is added from now on is gone.
func (c *Capture) End() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.signal()
}

func (c *Capture) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Copy writes the capture to w until End was called and all is written, ctx ends,
// or w fails. It is called once. w has what came before whenever Copy waits.
func (c *Capture) Copy(ctx context.Context, w io.Writer) error {
	out := new(bytes.Buffer)
	for {
		c.mu.Lock()
		out, c.buf = c.buf, out
		ended := c.ended
		c.mu.Unlock()
		if out.Len() > 0 {
			if _, err := w.Write(out.Bytes()); err != nil {
				return fmt.Errorf("pcap: %w", err)
			}
			out.Reset()
			if f, ok := w.(interface{ Flush() }); ok {
				f.Flush()
			}
			continue
		}
		if ended {
			return nil
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return fmt.Errorf("pcap: %w", context.Cause(ctx))
		}
	}
}

// put adds the packet p of which length octets were on the wire. vital packets may
// exceed the limit by as much again, as nothing of their connection can be decoded
// without them. c.mu is held.
func (c *Capture) put(at time.Time, p []byte, length int, vital bool) {
	room := c.limit
	if vital {
		room *= 2
	}
	if c.ended {
		return
	}
	if c.buf.Len()+len(p)+16 > room {
		c.stats.Dropped++
		return
	}
	// A buffer takes everything, and the lengths are in order.
	if c.w.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(p), Length: length}, p) == nil {
		c.stats.Packets++
	}
}
