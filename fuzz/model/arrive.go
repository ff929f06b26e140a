package model

import (
	"bytes"
	"fmt"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// doom notes that the end has to end the connection.
func (e *end) doom(format string, args ...any) {
	e.doomed, e.why = true, fmt.Sprintf(format, args...)
}

// arrive is 3.1.5.5 to 3.1.5.8.
func (m *Model) arrive(e, o *end, ev *Event) {
	m.settleDelivery(e)
	if !m.forged {
		obey(len(o.onWire) > 0, OneReceive, "a message arrives that nobody sent")
		f := o.onWire[0]
		o.onWire = o.onWire[1:]
		obey(bytes.Equal(f.bytes, ev.Bytes), OneReceive, "another message arrives than the oldest on the way, of %d bytes", len(f.bytes))
		obey(f.hasToken == ev.HasToken && (!f.hasToken || f.token == ev.Token), Token, "token %#x (%v) arrives, %#x (%v) was sent", ev.Token, ev.HasToken, f.token, f.hasToken)
	}
	e.arrivedAt, e.probing = ev.At, false
	if e.Foreign {
		return
	}
	if e.phase != established {
		m.hearNegotiate(e, ev)
		return
	}
	obey(e.p > 0, OneReceive, "a message finds no receive")
	if why := e.forbidden(ev.Bytes); why != "" {
		e.p--
		e.doom("%s", why)
		m.stats.Forbidden++
		return
	}
	h, _ := parse(ev.Bytes)
	e.p--
	e.r++
	e.target = int(h.CreditsRequested)
	e.h = min(e.h+int64(h.CreditsGranted), e.s+1<<24) // sums stop there (SD-76)
	if h.Flags&wire.FlagResponseRequested != 0 {
		e.answer = true
		m.stats.Asked++
		m.stir(ev)
	}
	if ev.HasToken {
		e.token, e.hasToken = ev.Token, true // the last one wins (SD-78)
	}
	m.stats.Receives++
	if h.DataLength > 0 {
		e.payload = true
		m.stir(ev)
	}
	m.expect(e, h, ev.Bytes)
}

// forbidden says what is wrong with a Data Transfer message, 3.1.5.8; "" if
// nothing is.
func (e *end) forbidden(b []byte) string {
	h, ok := parse(b)
	end, length := uint64(h.DataOffset)+uint64(h.DataLength), uint64(h.DataLength)+uint64(h.RemainingDataLength)
	switch {
	case !ok:
		return fmt.Sprintf("%d bytes", len(b))
	case h.CreditsRequested == 0:
		return "CreditsRequested 0"
	case h.DataOffset&7 != 0:
		return fmt.Sprintf("DataOffset %d", h.DataOffset)
	case end > uint64(len(b)):
		return fmt.Sprintf("DataOffset %d and DataLength %d in %d bytes", h.DataOffset, h.DataLength, len(b))
	case length > uint64(e.MaxFragmentedSize):
		return fmt.Sprintf("a message of %d octets", length)
	case h.DataLength > 0 && h.DataOffset < wire.DataTransferSize:
		return "payload within the header"
	case e.outstanding() < 1:
		return "a message without a credit"
	case length == 0 || e.missing == 0:
		return ""
	case uint64(h.DataLength) > e.missing || uint64(h.RemainingDataLength) != e.missing-uint64(h.DataLength):
		return fmt.Sprintf("DataLength %d, RemainingDataLength %d; %d octets are missing", h.DataLength, h.RemainingDataLength, e.missing)
	}
	return ""
}

// expect computes what has to be delivered of a message.
func (m *Model) expect(e *end, h wire.DataTransfer, b []byte) {
	length := uint64(h.DataLength) + uint64(h.RemainingDataLength)
	if length == 0 {
		if e.missing > 0 {
			m.stats.Interleaved++
		}
		return
	}
	if e.missing == 0 {
		e.total, e.got = length, 0
	}
	d := &Event{Bytes: b[h.DataOffset : uint64(h.DataOffset)+uint64(h.DataLength)], Offset: uint32(e.got), Total: uint32(e.total), Last: h.RemainingDataLength == 0}
	e.missing = uint64(h.RemainingDataLength)
	e.got += uint64(h.DataLength)
	if d.Last {
		d.Token, d.HasToken = e.token, e.hasToken
		e.token, e.hasToken = 0, false
	}
	if e.Deliveries {
		e.delivery = d
	}
}

// settleDelivery checks that what came before was delivered.
func (m *Model) settleDelivery(e *end) {
	obey(e.delivery == nil, Octets, "a fragment was not delivered")
}

// deliver compares a delivery with what arrived, and a whole message with what
// was submitted across.
func (m *Model) deliver(e, o *end, ev *Event) {
	if e.Foreign {
		return
	}
	d := e.delivery
	obey(d != nil, Octets, "%d octets delivered of nothing", len(ev.Bytes))
	e.delivery = nil
	obey(bytes.Equal(d.Bytes, ev.Bytes), Octets, "%d octets delivered, %d arrived or others", len(ev.Bytes), len(d.Bytes))
	obey(d.Offset == ev.Offset && d.Total == ev.Total && d.Last == ev.Last, Octets, "at %d of %d, last %v; want %d of %d, %v", ev.Offset, ev.Total, ev.Last, d.Offset, d.Total, d.Last)
	obey(ev.HasToken == d.HasToken && (!d.HasToken || d.Token == ev.Token), Token, "token %#x (%v) delivered, %#x (%v) arrived", ev.Token, ev.HasToken, d.Token, d.HasToken)
	if m.forged {
		return
	}
	e.partial = append(e.partial, ev.Bytes...)
	if !ev.Last {
		return
	}
	obey(len(o.toCome) > 0, Octets, "a message is delivered that was not sent")
	q := o.toCome[0]
	o.toCome = o.toCome[1:]
	obey(bytes.Equal(q.data, e.partial), Octets, "message %d of %d octets is delivered with %d, or others", q.id, len(q.data), len(e.partial))
	obey(ev.HasToken == q.hasToken && (!q.hasToken || ev.Token == q.token), Token, "message %d: token %#x (%v) delivered, %#x (%v) submitted", q.id, ev.Token, ev.HasToken, q.token, q.hasToken)
	e.partial = e.partial[:0]
	m.stats.Delivered++
}
