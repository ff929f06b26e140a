// Package client is an SMB 2 and 3 client, dialects 2.0.2 to 3.1.1, whose READ
// and WRITE go by RDMA straight between the server and the caller's buffer
// where the transport offers that (SMB Direct), and in messages where not.
//
//	d, err := tcp.NewDialer(tcp.Config{})
//	s, err := client.Dial(ctx, d, "server:445", client.Config{User: "ann", Password: "secret"})
//	defer s.Close()
//	share, err := s.Mount(ctx, "data")
//	f, err := share.Open(ctx, "dir/file")
//	n, err := f.ReadAt(p, 0)
//
// A [Session] is one authenticated user on one connection. A [Share] is a tree
// connect, with the operations of package os, each with a context. A [File] is
// an open: it is an io.ReaderAt, io.WriterAt, io.ReadWriteSeeker and fs.File.
// [Share.FS] is a share as fs.FS.
//
// # Names
//
// Names are relative to the root of the share and in UTF-8. Forward slashes and
// backslashes both separate; a leading separator is ignored; "" and "." name
// the root. Elements ".." are resolved before a name is sent, and a name that
// leaves the root is fs.ErrInvalid. Characters that [MS-FSCC] 2.1.5 forbids are
// left for the server to refuse, but a colon opens a named stream. Servers may list them as
// U+F001 to U+F029, and names come as they are listed. Symbolic links on which the server
// stops are followed within the share, forty of them at most.
//
// # What a file has
//
// Beside data and times: holes ([File.AllocatedRanges], [File.ZeroRange]), extended
// attributes ([Share.EAs]), named streams ([Share.Streams]), a security descriptor
// ([Share.SecurityDescriptor], [ParseSDDL]), earlier states ([Share.Snapshots]), and what
// it stands for if it is a reparse point ([Share.Readlink], [Share.Special]). With
// [POSIXMode] it has permission bits and an owner. io.Copy between two Files of a session
// is done by the server. docs/client.md has an overview, and a table for those who come
// from go-smb2.
//
// # Errors
//
// Operations on names and files fail with [*Error], which holds the NTSTATUS of
// the server and matches the errors of io/fs, io and syscall that mean the same,
// with errors.Is. When the connection is lost every call under way and to come
// fails with an error that matches net.ErrClosed and says why it was lost, unless
// Config.Reconnect has the session made anew. A server that breaks the protocol loses the connection:
// [*ProtocolError].
//
// # Channels
//
// With [ChannelConfig] a session has several connections, [MS-SMB2] 3.2.1.3: it
// begins on one, asks the server for its interfaces, and binds connections to the
// best of them, by default one to each RDMA interface. READ and WRITE go there at
// once; other requests stay on the oldest connection. The requests of a connection
// that dies, or is silent although it has some, are sent again on another, with a
// higher ChannelSequence and, where they change something, as replays: the server
// does not carry out late what came by the dead one, and callers see no error. The
// memory of a READ or WRITE is revoked before it is used again. LockSequence and
// CreateGuid keep a lock or a new file from being made twice, and while there are
// several channels an operation on a name that changes something is made of single
// requests rather than of a compound, because only these can be sent again. Two
// things can't: a listing that is cut starts over, without giving a name twice, and
// [Watcher.Next] returns that it may have missed something. [Session.Channels] and
// [Stats] tell what moved what.
//
// The requests that bind a connection are signed with the session's own key, and the
// AES-GMAC nonce of a message is made of its MessageId ([MS-SMB2] 3.1.4.1), which
// begins anew on every connection. Who can watch two bindings of one session sees a
// nonce twice, and can work out how to change messages on the session's first
// connection unnoticed. That is the specification's, and both ends have to follow it.
// Config.Encryption, or SigningAlgorithms without AESGMAC, keeps such an attacker out;
// messages and data on the connections that were bound have keys of their own.
//
// # Leases
//
// With a [Lease], made by [Share.NewLease] and named in CreateOptions.Lease, a program may
// cache what a file or directory holds: the server tells it before somebody else changes
// or sees that, and waits for what is kept back to be written. This package caches
// nothing by itself. One lease belongs to one file and all opens of it; what was cached is
// good while [Lease.State] allows it and [Lease.Generation] is the same. Notifications are
// taken in the order of their epochs, by whichever connection they come, however late or
// often; one may come before the answer that grants the lease. The acknowledgment is sent
// when LeaseOptions.OnBreak has returned. Oplocks are not asked for: a server without leases
// (dialect 2.0.2) grants none.
//
// # Reconnection
//
// With [ReconnectConfig] the loss of the last connection is not the end: the session is
// made anew, its shares are connected to, and its opens are claimed, which the server has
// kept with their locks and leases if they were durable. A server that was started again
// has kept nothing: files are then opened by their names, if ReopenPolicy allows it and
// they are provably the same, and directories always. A connection is also given up that
// is silent for twice ChannelConfig.Stall while an answer is due or a lease is held.
//
// What is sent again, in a new session: READ, WRITE (the same bytes at the same place),
// FLUSH, queries, opens of what may be there already, changes of an open that come to the
// same if made twice, and locks, which a server knows by their LockSequence. What is not,
// if it was sent: an open that must create, a rename, a link, and what is done with a name
// in one compound (Mkdir, Remove, Rename, Chtimes): these fail with [ErrUncertain]. An
// open that was lost fails with [ErrStale], one whose locks were with [ErrLocksLost].
//
// What Sync has acknowledged is on stable storage, and what was written and acknowledged
// is kept by a server's machine that goes on, also if the server's process is killed. With
// ReopenSame the next Sync after a server was started again fails once if there is
// something that the machine may have lost.
//
// # Contexts
//
// A context that ends stops the wait, and SMB2 CANCEL asks the server to stop
// too; what the server has begun may still happen. The caller's buffer is never
// touched after the call returned. Where it was given to the server for RDMA,
// that access is revoked first: the call waits for the answer up to
// Config.CancelGrace, because revoking memory that the server is about to use
// costs the connection. Lock and Watcher.Next wait so too; if they succeed
// meanwhile, that is the result. Methods without a context use context.Background. A
// request whose context has no deadline is bounded by Config.Timeout.
//
// # Concurrency
//
// All methods may be called by many goroutines at once, and their requests are
// in flight together, as far as the server's credits go ([MS-SMB2] 3.2.4.1.5).
// Only the file position (Read, Write, Seek) and the directory position (ReadDir)
// are one per File and serialise their users. Reading ahead (Config.ReadAhead) needs no
// goroutine: what was asked for is taken when it is read, or when the File is closed. A connection has a goroutine that
// receives and one that watches Config.Timeout, and a session with Config.Channels
// one that makes connections. OnBreak of leases is called by at most 32 goroutines, which
// live while there are breaks, and a session that has lost its connection has one that
// makes another. Close stops them and returns after they have ended. No lock is held across I/O but those of the two positions, of
// Watcher.Next, and of a renewal of the session.
//
// # Limits
//
// Not there: DFS referrals ([ErrDFS]), SMB1, compression of messages, oplocks, client-side
// caching but for what is read ahead. A session that signs or encrypts uses RDMA only with a server that has RDMA transforms ([MS-SMB2] 2.2.43);
// [Session.RDMAStatus] and [Share.DataPath] say what is done.
package client
