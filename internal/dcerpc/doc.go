// Package dcerpc is DCE/RPC over named pipes, [C706] chapter 12 as [MS-RPCE] uses
// it, as far as browsing a file server and giving rights to files need it: the
// connection-oriented protocol version 5 with NDR 2.0, srvsvc ([MS-SRVS]), wkssvc
// ([MS-WKST]), lsarpc ([MS-LSAD], [MS-LSAT]) with dssetup ([MS-DSSP]), and samr
// ([MS-SAMR]). Everything is for looking: what would change the server is refused.
//
// A server opens a [Pipe] per open of a pipe name in its IPC$ share, and passes
// SMB2 WRITE, READ and FSCTL_PIPE_TRANSCEIVE on:
//
//	h := &dcerpc.Handler{Server: dcerpc.ServerInfo{Name: "NAS"}, Shares: list}
//	p, err := h.Open("srvsvc")               // ErrNoPipe if there is none
//	out, more, err := p.Transact(in, max)    // more is STATUS_BUFFER_OVERFLOW
//
// A client binds through a function that does the same from the other end:
//
//	c, err := dcerpc.Dial(dcerpc.SRVSVC, transact)
//	shares, err := c.ShareEnum("nas.example")
//
// Calls are answered at once, while the request is written, so a pipe needs no
// goroutine; its lock is held meanwhile, also where users are looked up, as its calls
// come one after the other anyhow. Authentication inside RPC is refused: the pipe has
// that of its SMB session. Everything that comes in is bounded: fragments by
// [MaxFragment], a request by 64 KiB, the presentation contexts of a pipe by 16, its
// context handles by 256, the names and SIDs of a lookup by 1024, replies by 8 MiB.
//
// A Pipe may be used by many goroutines at once, a [Client] by one at a time.
package dcerpc
