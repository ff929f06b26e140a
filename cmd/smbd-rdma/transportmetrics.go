package main

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// maxConnMetrics is how many connections have metrics of their own: each has some
// 30 time series. Those with the lowest IDs have; the sums are of all.
const maxConnMetrics = 256

// statDescs are the metrics of a transport.Stats.
type statDescs struct {
	messages, messageBytes           *prometheus.Desc
	smbdirect, creditsMoved, credits *prometheus.Desc
	stalls, stallTime, longestStall  *prometheus.Desc
	rdmaBytes, rdmaOps, outstanding  *prometheus.Desc
	fromFile, copied                 *prometheus.Desc
	registrations, registered        *prometheus.Desc
	leased, invalidations, keepalive *prometheus.Desc
}

// newStatDescs names them with a prefix; label tells one Stats from another.
func newStatDescs(prefix, of, label string) statDescs {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return desc(prefix+name, help+of, append([]string{label}, labels...)...)
	}
	return statDescs{
		messages:      d("messages_total", "SMB2 messages", "direction"),
		messageBytes:  d("message_bytes_total", "Bytes of SMB2 messages", "direction"),
		smbdirect:     d("smbdirect_messages_total", "Messages of SMB Direct, with those of the negotiation and empty ones", "direction"),
		creditsMoved:  d("credits_total", "Credits of SMB Direct granted to the peer and received from it", "direction"),
		credits:       d("credits", "Credits of SMB Direct now: to send, and those of the peer", "kind"),
		stalls:        d("credit_stalls_total", "Messages that waited for credits of the peer"),
		stallTime:     d("credit_stall_seconds_total", "Time during which a message waited for credits of the peer"),
		longestStall:  d("credit_stall_longest_seconds", "The longest wait for credits of the peer"),
		rdmaBytes:     d("rdma_bytes_total", "Bytes moved by RDMA Write and Read, by whose", "direction", "by"),
		rdmaOps:       d("rdma_operations_total", "RDMA Writes and Reads of ours", "direction"),
		outstanding:   d("rdma_outstanding", "RDMA operations of ours under way"),
		fromFile:      d("rdma_bytes_from_page_cache_total", "Bytes of our RDMA Writes that went out without passing through user space"),
		copied:        d("rdma_bytes_copied_total", "Bytes moved by RDMA that were copied in user space"),
		registrations: d("registrations_total", "Memory registrations made"),
		registered:    d("registrations", "Memory registrations in use"),
		leased:        d("leased_buffers", "Registered buffers in use"),
		invalidations: d("invalidations_total", "Tokens invalidated, by whom", "by"),
		keepalive:     d("keepalives_total", "Messages that asked for an answer at once", "direction"),
	}
}

// collect sends the metrics of s, which is that of value of the label.
func (d *statDescs) collect(ch chan<- prometheus.Metric, s *transport.Stats, value string) {
	emit := func(x *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(x, t, v, append([]string{value}, labels...)...)
	}
	count := func(x *prometheus.Desc, v uint64, labels ...string) {
		emit(x, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(x *prometheus.Desc, v int, labels ...string) {
		emit(x, prometheus.GaugeValue, float64(v), labels...)
	}
	count(d.messages, s.MessagesSent, "sent")
	count(d.messages, s.MessagesReceived, "received")
	count(d.messageBytes, s.BytesSent, "sent")
	count(d.messageBytes, s.BytesReceived, "received")
	count(d.smbdirect, s.Sends, "sent")
	count(d.smbdirect, s.Receives, "received")
	count(d.creditsMoved, s.CreditsGranted, "granted")
	count(d.creditsMoved, s.CreditsReceived, "received")
	gauge(d.credits, s.SendCredits, "send")
	gauge(d.credits, s.ReceiveCredits, "receive")
	count(d.stalls, s.CreditStalls)
	emit(d.stallTime, prometheus.CounterValue, s.CreditStallTime.Seconds())
	emit(d.longestStall, prometheus.GaugeValue, s.LongestCreditStall.Seconds())
	count(d.rdmaBytes, s.RDMABytesWritten, "written", "us")
	count(d.rdmaBytes, s.RDMABytesRead, "read", "us")
	if s.PeerBytesKnown {
		count(d.rdmaBytes, s.PeerBytesWritten, "written", "peer")
		count(d.rdmaBytes, s.PeerBytesRead, "read", "peer")
	}
	count(d.rdmaOps, s.RDMAWrites, "written")
	count(d.rdmaOps, s.RDMAReads, "read")
	gauge(d.outstanding, s.RDMAOutstanding)
	count(d.fromFile, s.RDMABytesFromFile)
	count(d.copied, s.BytesCopied)
	count(d.registrations, s.RegistrationsMade)
	gauge(d.registered, s.Registrations)
	gauge(d.leased, s.LeasedBuffers)
	count(d.invalidations, s.InvalidatedByPeer, "peer")
	count(d.invalidations, s.InvalidatedLocally, "us")
	count(d.keepalive, s.KeepalivesSent, "sent")
	count(d.keepalive, s.KeepalivesReceived, "received")
}

var (
	transportDescs = newStatDescs("transport_", ", of all connections there were and are, by transport.", "transport")
	connDescs      = newStatDescs("connection_", ", of a connection that is open.", "conn")
	descConnInfo   = desc("connection_info", "A connection that is open: 1, with what it is in the labels.", "conn", "transport", "provider", "remote", "dialect", "user", "peer")
	descConnSizes  = desc("connection_negotiated_bytes", "What the ends of an SMB Direct connection agreed on.", "conn", "size")
	descUnlisted   = desc("connections_unlisted", "Connections that are open and have no metrics of their own, as there are too many.")
)

// collectTransports sends the metrics of connections: the sums, and those of each
// that is open.
func collectTransports(ch chan<- prometheus.Metric, srv *server.Server) {
	st := srv.Status(maxConnMetrics)
	for scheme, s := range st.Transports {
		transportDescs.collect(ch, &s, scheme)
	}
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	for i := range st.Connections {
		c := &st.Connections[i]
		id, peer := strconv.FormatUint(c.ID, 10), ""
		if p := c.Parameters; p != nil {
			peer = p.Peer
			gauge(descConnSizes, p.MaxSendSize, id, "send")
			gauge(descConnSizes, p.MaxReceiveSize, id, "receive")
			gauge(descConnSizes, p.MaxFragmentedSendSize, id, "fragmented_send")
			gauge(descConnSizes, p.MaxFragmentedRecvSize, id, "fragmented_receive")
			gauge(descConnSizes, p.MaxReadWriteSize, id, "read_write")
		}
		users := strings.ToValidUTF8(strings.Join(c.Users, ","), "?")
		gauge(descConnInfo, 1, id, c.Transport, c.Provider, c.Remote, c.Dialect, users, peer)
		connDescs.collect(ch, &c.Stats, id)
	}
	gauge(descUnlisted, max(st.Totals.Connections-len(st.Connections), 0))
}
