// Package smbdtest is the conformance suite of SMB Direct, [MS-SMBD]: peers that
// are odd or hostile, what each expects of the end under test, and the rows that
// this proves.
//
// A [Peer] is a raw end of a connection, in either role, on any adapter. It knows
// no rule of SMB Direct: it posts, sends and grants what it is told. A [Stream] is
// a Peer that keeps the rules by itself, so that a case has to say only where it
// breaks one. A [Case] is one conversation with the end under test and names the
// rows it proves; a [Target] says where that end is.
//
//	results := smbdtest.Run(ctx, smbdtest.Target{
//		Adapter:  adapter,
//		Address:  netip.MustParseAddrPort("192.0.2.1:5445"),
//		Upper:    smbdtest.Echo{},
//	}, regexp.MustCompile("SD-6"))
//	for _, r := range results {
//		fmt.Println(r.Case.Name, r.Outcome, r.Why)
//	}
//
// The cases that speak to an acceptor need nothing of it but SMB Direct with an
// upper layer that answers, so they run against any server: smbd-rdma conform does
// that. The tests of this package run them, and those for an initiator, against
// the ends of this project on the iwarp and sim providers.
//
// The specification is [MS-SMBD] and, for what the SMB2 layer does with RDMA,
// [MS-SMB2]. A row is named after rows.tsv of this package, "SD-24" or "SM-11".
//
// A Peer, a Stream and a T belong to one goroutine. Run runs one case at a time.
package smbdtest
