// Package server is an SMB 2 and 3 file server, [MS-SMB2] 3.3: dialects 2.0.2 to
// 3.1.1, over any [transport.Conn]. Where the connection has an RDMA side, file
// data moves by it: the server writes READ's data into the client's memory and
// fetches WRITE's from there, and no octet of a file is copied from one buffer
// to another on the way ([Stats.BytesCopied] counts, and tests hold it to 0).
//
//	users, err := server.ParseUsers("ann%secret")
//	if err != nil {
//		return err
//	}
//	srv, err := server.New(server.Config{
//		Shares: []server.Share{{Name: "data", FS: fsys}},
//		Users:  users,
//	})
//	if err != nil {
//		return err
//	}
//	go srv.Serve(ctx, tcpListener)
//	go srv.Serve(ctx, rdmaListener)
//	...
//	err = srv.Shutdown(ctx)
//
// A share is a [vfs.FS]; server/vfs/posix serves a directory. Transports come
// from their own packages; the server does not know which it runs on, and asks
// only whether there is an RDMA side.
//
// # Safe by default
//
// Guests and anonymous users are refused, SMB1 is refused, NTLMv1 is refused.
// Signing is required, but for clients of SMB Direct without RDMA transforms
// ([MS-SMB2] 2.2.43), which do not let data be placed by RDMA when they must sign:
// see [PolicyDefault]. With transforms the data of a READ or WRITE by RDMA is signed
// or encrypted as its request is; it never goes with less. Encryption is the client's
// choice, or required for a share or for all. Attempts to log on from where passwords
// were guessed are answered one after the other, a few a second and then fewer; users
// who have logged on from there before are not held up by what others try. A client's
// mistake costs that client its connection at most. Every table, queue and buffer a
// client can fill has a bound, most of them in [Limits].
//
// # While it runs
//
// [Server.Reload] replaces the shares and who may connect, [Server.Status] shows what
// is there, [Server.CloseByID] and [Server.CloseShare] close some of it. Config.Audit
// is told of logons, connects and what is refused.
//
// # Concurrency
//
// A connection has one goroutine that receives, checks headers, credits and
// sequence numbers, decrypts, and serves NEGOTIATE and CANCEL. Every other
// message is served by a worker goroutine, the requests of a compound one after
// another; workers verify signatures, do the work and send the answer. Workers
// are kept for reuse, a few for each connection, and end with it. One janitor
// goroutine for the whole server closes connections that do not negotiate, log
// on or say anything. A directory that is watched or leased has a goroutine
// that hears what local processes do there, a connection one that sends breaks of
// oplocks and leases while there are some. Close and Shutdown wait for all of them.
// Lock order is with [Server].
//
// Requests that are being served and have not been answered STATUS_PENDING cost no
// more than Limits.ServingPerConn at a time. A connection that has reached that is
// not received from: a client that takes no answers is not listened to for long.
//
// A request that may wait (LOCK, CHANGE_NOTIFY, reading a pipe, and what has to wait
// for others to give up what they cache: CREATE, renaming, deleting) is first
// answered STATUS_PENDING; its context ends by CANCEL, LOGOFF, TREE_DISCONNECT
// and the end of the connection. Responses are sent whatever becomes of that
// context.
//
// A panic while a request is served costs the connection that it came by, and no other:
// it is in the log with its stack, and counted ([Stats.Panics]).
//
// # Files
//
// What a client opens is a file, a directory, or a named stream of either, where the
// storage has streams; each is shared, cached and locked by itself ([MS-FSCC] 2.1.5).
// Attributes, creation times, security descriptors and streams are the storage's to
// keep. The write time follows writes late, as it does on Windows and Samba, and a time
// that was set through a handle stays while the handle lives. Earlier states of a share
// (vfs.Snapshotter) are opened by their time. A name that DOS could not spell has a
// short one besides, made of it. Names that a share vetoes are not there, and names
// that it hides are hidden.
// A symbolic link is followed where it leads to something in the share, and to clients
// without the POSIX extensions listings show what that is, as an open does; who opens it
// with FILE_OPEN_REPARSE_POINT has the link. One name of a file with several may be
// deleted while others are open ([MS-FSA] 2.1.1.4).
// FIFOs, sockets and devices are reparse points to clients, who may make the first two;
// nothing is read from them or written to them by way of the server.
//
// # Memory
//
// Messages of up to 1 KiB are copied so that the transport's buffer is free at
// once; WRITE is written to the file from the message it came in. Requests,
// response bodies and READ buffers are pooled: an I/O of 1 MiB allocates nothing
// in the steady state, by RDMA or inline.
//
// # What there is not
//
// Compression on the wire, DFS, quotas, Kerberos and SMB over QUIC do not exist;
// persistent handles outlive their connections, not the server. A change time that
// a client sets is forgotten with the server or under many others. That a file is to
// be compressed is remembered with it; storage that cannot compress does not.
// FILE_NEED_EA is not kept, and short names are made up when they are asked for. A
// session may have several channels, with RDMA and without ([MS-SMB2] 3.3.5.5,
// binding); it lives as long as one of them. Its durable, resilient and persistent
// opens live on after that, for as long as was granted.
package server
