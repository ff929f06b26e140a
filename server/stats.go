package server

import (
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// commandCount is the number of commands, CommandServerToClientNotification not
// among them: clients do not send it.
const commandCount = int(smb2.CommandOplockBreak) + 1

// Stats says what a server did since New, and holds now.
type Stats struct {
	// Connections, Sessions, Trees and Opens: now.
	Connections int `json:"connections"`
	Sessions    int `json:"sessions"`
	Trees       int `json:"trees"`
	Opens       int `json:"opens"`
	// DetachedOpens are those that no session has: durable, resilient and persistent
	// ones whose client may come back.
	DetachedOpens int `json:"detached_opens"`
	// ConnectionsAccepted and ConnectionsRefused count since New; refused for the
	// limit or while shutting down.
	ConnectionsAccepted uint64 `json:"connections_accepted"`
	ConnectionsRefused  uint64 `json:"connections_refused"`
	// ConnectionsFailed counts those that the server ended for a client's mistake.
	ConnectionsFailed uint64 `json:"connections_failed"`
	// Panics counts panics of the server's that were recovered: each is a mistake in
	// the program, and is in the log with its stack.
	Panics uint64 `json:"panics"`
	// LogonFailures counts authentications that were refused.
	LogonFailures uint64 `json:"logon_failures"`

	// ReadInline and WriteInline are bytes of file data within messages, ReadRDMA
	// and WriteRDMA those that the server placed and fetched by RDMA.
	ReadInline  uint64 `json:"read_inline"`
	WriteInline uint64 `json:"write_inline"`
	ReadRDMA    uint64 `json:"read_rdma"`
	WriteRDMA   uint64 `json:"write_rdma"`
	// ReadFromFile is the part of ReadRDMA that went to the network from the file
	// itself, without passing through this process.
	ReadFromFile uint64 `json:"read_from_file"`
	// RDMASigned and RDMAEncrypted are the parts of ReadRDMA and WriteRDMA whose
	// payloads were signed and encrypted ([MS-SMB2] 2.2.43).
	RDMASigned    uint64 `json:"rdma_signed"`
	RDMAEncrypted uint64 `json:"rdma_encrypted"`
	// BytesCopied counts bytes of files that were copied from one buffer of this
	// process to another or lie in a message that travels through the socket's
	// buffers: all inline bytes, and of RDMA what the transports say they copied
	// (transport.Stats), which is nothing unless CRCs or markers are
	// on, or FPDUs are cut to the segments of an Ethernet.
	BytesCopied uint64 `json:"bytes_copied"`

	// Requests and Errors count requests, and answers with an error status, by the
	// name of the command as in [MS-SMB2] 2.2.1.
	Requests map[string]uint64 `json:"requests"`
	Errors   map[string]uint64 `json:"errors"`
}

// counters is Stats as it is counted.
type counters struct {
	accepted, refused, failed, panics, logonFailures atomic.Uint64
	readInline, writeInline, readRDMA, writeRDMA     atomic.Uint64
	readFromFile, copied                             atomic.Uint64
	rdmaSigned, rdmaEncrypted                        atomic.Uint64
	requests, errors                                 [commandCount]atomic.Uint64
}

// Stats returns what the server counted. It may be called at any time, also
// after Close.
func (s *Server) Stats() Stats {
	n := &s.count
	st := Stats{
		ConnectionsAccepted: n.accepted.Load(),
		ConnectionsRefused:  n.refused.Load(),
		ConnectionsFailed:   n.failed.Load(),
		Panics:              n.panics.Load(),
		LogonFailures:       n.logonFailures.Load(),
		ReadInline:          n.readInline.Load(),
		WriteInline:         n.writeInline.Load(),
		ReadRDMA:            n.readRDMA.Load(),
		WriteRDMA:           n.writeRDMA.Load(),
		ReadFromFile:        n.readFromFile.Load(),
		RDMASigned:          n.rdmaSigned.Load(),
		RDMAEncrypted:       n.rdmaEncrypted.Load(),
		DetachedOpens:       s.durables.len(),
		Requests:            map[string]uint64{},
		Errors:              map[string]uint64{},
	}
	for i := range commandCount {
		name := smb2.Command(i).String()
		if v := n.requests[i].Load(); v > 0 {
			st.Requests[name] = v
		}
		if v := n.errors[i].Load(); v > 0 {
			st.Errors[name] = v
		}
	}
	s.mu.Lock()
	st.Connections = len(s.conns)
	st.BytesCopied = n.copied.Load()
	for _, t := range s.ended {
		st.BytesCopied += t.BytesCopied
	}
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	sessions := make([]*session, 0, len(s.sessions))
	for _, sess := range s.sessions {
		sessions = append(sessions, sess)
	}
	s.mu.Unlock()
	for _, c := range conns { // those that end meanwhile are not in the sum above
		st.BytesCopied += c.tc.Stats().BytesCopied
	}
	for _, sess := range sessions {
		sess.mu.Lock()
		if sess.state == sessionValid {
			st.Sessions++
		}
		st.Trees += len(sess.trees)
		sess.mu.Unlock()
		st.Opens += sess.opens.len()
	}
	return st
}
