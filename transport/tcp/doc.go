// Package tcp carries SMB2 messages over TCP: direct hosting, [MS-SMB2] 2.1.
//
// Every message has a prefix of four octets: a zero octet and the length of the
// message as a 24-bit big-endian number. The session-service frames of NetBIOS
// (RFC 1002 §4.3) that still reach port 445 are answered as far as manners ask:
// a keepalive is dropped, a session request gets a negative response and the
// connection ends, everything else ends it without a word. So does the first
// octet 0x4D, 'M': that is the MPA request of an iWARP client that tries SMB
// Direct here, and it goes on to another port as soon as it sees the connection
// closed.
//
//	l, err := tcp.Listen(ctx, "127.0.0.1:0", tcp.Config{})
//	if err != nil {
//		return err
//	}
//	defer l.Close()
//	conn, err := l.Accept(ctx)
//	if err != nil {
//		return err
//	}
//	defer conn.Close()
//	m, err := conn.Receive(ctx)
//
// # Memory
//
// Messages live in buffers of fixed size classes that are recycled by the
// Listener or Dialer. The memory for a message grows as its octets arrive: a
// peer that announces 8 MiB and sends nothing costs 64 KiB. A connection that
// waits for long holds half a KiB; while small messages follow each other closely it has up
// to 64 KiB to read ahead, and as much for answers that are sent together.
//
// # Concurrency
//
// As [transport.Conn] states. Waiting senders are served in the order in which
// they came. A Conn has a goroutine only while it sends the rest of a message whose
// sender has gone, and a Listener has one, which Close ends and waits for. Lock order: none, no lock is held across another.
//
// # Limits
//
// There is no TLS and no QUIC.
package tcp
