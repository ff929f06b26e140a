// Package pcap writes the payload of TCP connections that was seen in user space as
// packets of a capture file, so that Wireshark can open it: Ethernet, IPv4 or IPv6
// and TCP are made up around it, with the addresses, sequence numbers, three-way
// handshake and FINs that a TCP stack would have shown.
//
//	c, err := pcap.NewCapture(0, 8<<20)
//	conn := c.Open(local, remote, true, time.Now())
//	conn.Data(time.Now(), true, payload, len(payload))
//	conn.Close(time.Now())
//	c.End()
//	err = c.Copy(ctx, file)
//
// # Concurrency
//
// The methods of a [Capture] and its Conns may be called by many goroutines. Those
// that add packets never wait for who takes them: what does not fit the buffer is
// dropped and counted, and leaves a gap in the sequence numbers.
//
// # Limits
//
// TCP checksums of packets that were cut are those of what is there. The window scale
// is the only TCP option, and there are no retransmissions.
package pcap
