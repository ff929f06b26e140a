// Package smbdirect runs SMB Direct, [MS-SMBD] 16.0, on any provider of the RDMA
// API in package ndk: it carries SMB2 messages and moves memory by RDMA Read and
// Write. Its Conn, Listener and Dialer implement those of package transport.
//
//	l, err := smbdirect.Listen(ctx, provider, "iwarp", "127.0.0.1:0", smbdirect.Config{})
//	if err != nil {
//		return err
//	}
//	defer l.Close()
//	conn, err := l.Accept(ctx) // negotiated already
//	if err != nil {
//		return err
//	}
//	defer conn.Close()
//	m, err := conn.Receive(ctx)
//
// # How it works
//
// The protocol itself is package core, a state machine. It and the queues of the
// adapter belong to one owner at a time: a caller who brings work becomes the
// owner if there is none and does it on the spot, so does the callback of the
// completion queue, and whoever finds an owner leaves what it has for that one to
// do (drive.go). A message so costs no change of goroutine at either end. Only
// the owner posts to the initiator queue, in the order of the calls: a message
// that is sent after Write returned follows the data, and a registration that is
// used in a message is made before the message leaves.
//
// A message is copied to and from registered buffers of the connection; data of
// RDMA transfers is not. Leased buffers come from a pool that all connections of
// a Listener or Dialer share; it grows to Config.Memory and then makes callers
// wait in the order in which they came.
//
// The token that a message invalidates goes with its last fragment.
//
// # Memory of a connection
//
// ReceiveCreditMax receives of the negotiated size and SendDepth send buffers:
// 255 x 1364 + 128 x 1364 bytes with a Windows or Linux peer, 255 x 2048 + 128 x
// 1364 at most with the default settings, which is below 0.7 MiB; with a software
// provider (160 + 64) x 4352 at most, which is below 1 MiB. It is reserved
// when the negotiation ends; with a software provider pages that were never
// used cost nothing. Before that a connection has one page.
//
// MaxReceiveSize is 2048 by default, not the 8192 of Windows ([MS-SMBD] 3.1.4.1
// note 3), to keep to that bound with a peer that likes large sends.
//
// # Concurrency
//
// As package transport states. Each Conn has one goroutine, which has its timers,
// goes on where callers leave off and takes it down; Close ends it and waits for
// it. A Listener has one for each connection that is being set up, ended and
// waited for by its Close. No two locks are held at a time, and none during a
// call of the provider that may block.
//
// # Contexts
//
// A context that ends while Send waits takes the message back if none of it was
// sent; otherwise Send returns at once, and the rest of it is sent from a copy, of which
// a connection has one at most. One that ends while Write, WriteFile
// or Read waits is obeyed until the first request is posted: after that the
// buffer belongs to the adapter, and the call waits for its completion or the end of the
// connection. Deregister ends the connection when its context has ended and
// Config.CloseTimeout after that too, as only that gives the memory back.
package smbdirect
