package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/smbd-rdma/smbd-rdma/server"
)

// serverCollector shows the server's Stats, and what became of SMB Direct
// connections, as Prometheus metrics.
type serverCollector struct {
	srv     *server.Server
	flights *flightLog
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("smbd_rdma_"+name, help, labels, nil)
}

var (
	descOpen      = desc("open", "What is open now.", "kind")
	descConns     = desc("connections_total", "Connections, by what became of them; failed: ended for a mistake in SMB2.", "result")
	descPanics    = desc("panics_total", "Panics of the server's that were recovered, as the log says: mistakes in the program.")
	descDeaths    = desc("smbdirect_deaths_total", "SMB Direct connections that died of an error: a mistake of the peer, its silence, a loss.", "cause")
	descLogons    = desc("logon_failures_total", "Authentications that were refused.")
	descBytes     = desc("file_bytes_total", "File bytes moved, by direction and path.", "direction", "path")
	descFromFile  = desc("file_bytes_from_page_cache_total", "File bytes read by RDMA that went out without passing through user space.")
	descCopied    = desc("file_bytes_copied_total", "File bytes copied from one user-space buffer to another.")
	descProtected = desc("file_bytes_rdma_protected_total", "File bytes moved by RDMA under a transform.", "transform")
	descRequests  = desc("requests_total", "Requests, by command.", "command")
	descErrors    = desc("errors_total", "Answers with an error status, by command.", "command")
)

// Describe implements prometheus.Collector.
func (c serverCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c serverCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.srv.Stats()
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(descOpen, st.Connections, "connection")
	gauge(descOpen, st.Sessions, "session")
	gauge(descOpen, st.Trees, "tree")
	gauge(descOpen, st.Opens, "file")
	gauge(descOpen, st.DetachedOpens, "detached_file")
	count(descConns, st.ConnectionsAccepted, "accepted")
	count(descConns, st.ConnectionsRefused, "refused")
	count(descConns, st.ConnectionsFailed, "failed")
	count(descPanics, st.Panics)
	died := c.flights.counts()
	count(descDeaths, died.Mistake, "mistake")
	count(descDeaths, died.Timeout, "timeout")
	count(descDeaths, died.Lost, "lost")
	count(descDeaths, died.Other, "other")
	count(descLogons, st.LogonFailures)
	count(descBytes, st.ReadInline, "read", "inline")
	count(descBytes, st.WriteInline, "write", "inline")
	count(descBytes, st.ReadRDMA, "read", "rdma")
	count(descBytes, st.WriteRDMA, "write", "rdma")
	count(descFromFile, st.ReadFromFile)
	count(descCopied, st.BytesCopied)
	count(descProtected, st.RDMASigned, "signed")
	count(descProtected, st.RDMAEncrypted, "encrypted")
	collectTransports(ch, c.srv)
	for cmd, v := range st.Requests {
		count(descRequests, v, cmd)
	}
	for cmd, v := range st.Errors {
		count(descErrors, v, cmd)
	}
}
