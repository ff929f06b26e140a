// Package doctor answers the first question of everyone who set up SMB Direct: is
// RDMA used between this machine and a share, and if not, which step decided that
// and what has to change.
//
//	r := doctor.Run(ctx, doctor.Config{Host: "server", Share: "data", …})
//	r.Print(os.Stdout)
//	if !r.Used { … }
//
// Run walks the whole way as the client does: the name, the local RDMA devices and
// the route, the ports, the RDMA connection (MPA on iWARP, CM on RDMA devices), the
// negotiation of SMB Direct ([MS-SMBD] 3.1.5.2 to 3.1.5.4), that of SMB2 on both
// transports ([MS-SMB2] 3.2.4.2.2), the logon, the interfaces that the server lists
// ([MS-SMB2] 2.2.32.5), the share, what protection does to RDMA, whether a session
// that begins on TCP moves, and a timed write and read by each path, whose data is
// checked. Each step is a Step of the Report, and the first that forbids RDMA is the
// one that the verdict names.
//
// # Providers
//
// The package knows no provider: who calls hands in Fabrics, each with adapters to
// look at the way step by step, and a dialer for what the client itself does.
//
// # Limits
//
// Every step has a limit in time, a port that swallows everything costs PortTime,
// all ports together no more than that, and the whole Config.Timeout. A wrong
// password is tried once. What a server says ends up in a report of bounded size
// without characters that do something to a terminal, and passwords never do. The
// only thing that is written is a file of at most 16 MiB for each path, under a
// random name, that the server removes with the last handle.
//
// # Concurrency
//
// Run may be called by many goroutines. Its own end before it returns.
package doctor
