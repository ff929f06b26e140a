package e2e

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// MPA startup, RFC 5044 §7.1: a bad frame costs the connection, and gets no Reply.
func TestBadStartup(t *testing.T) {
	w := newTown(t, options{})
	long := mpaRequest(0x10, 2, enhanced)
	binary.BigEndian.PutUint16(long[18:], 513)
	for _, c := range []struct {
		name  string
		bytes []byte
	}{
		{"nothing", nil},
		{"wrong key", append([]byte("MPA ID Rep Frame"), mpaRequest(0x10, 2, enhanced)[16:]...)},
		{"another protocol", []byte("GET / HTTP/1.1\r\nHost: nas\r\n\r\n")},
		{"direct hosting", prefixed(append([]byte("\xfeSMB"), make([]byte, 100)...))},
		{"one octet", []byte("X")},
		{"revision 3", mpaRequest(0x10, 3, enhanced)},
		{"revision 255", mpaRequest(0, 255, nil)},
		{"PD_Length 513", append(long, make([]byte, 600)...)},
		{"PD_Length 65535", append(mpaRequest(0, 1, nil)[:18], 0xFF, 0xFF, 1, 2, 3)},
		{"half a frame", mpaRequest(0x10, 2, enhanced)[:10]},
		{"private data missing", mpaRequest(0x10, 2, make([]byte, 100))[:60]},
		{"enhanced data of 2 octets", mpaRequest(0x10, 2, make([]byte, 2))},
		{"enhanced data missing", mpaRequest(0x10, 2, nil)},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := dialTCP(t, w.addr("iwarp"))
			_, err := conn.Write(c.bytes)
			must(t, err)
			_ = conn.CloseWrite() // what is not wrong yet is so by its end
			var got bytes.Buffer
			if _, err := got.ReadFrom(conn); isTimeout(err) {
				t.Fatal("the server did not end the connection")
			}
			// RFC 6581 §6: a Reply with the R bit may say no.
			if b := got.Bytes(); len(b) > 0 && (len(b) < 20 || b[16]&0x20 == 0) {
				t.Errorf("answered with %q", b)
			}
			conn.Close()
			w.check(t)
		})
	}
}

// A stream that comes one octet at a time is as good as any, on both transports.
func TestOneOctetAtATime(t *testing.T) {
	w := newTown(t, options{})
	t.Run("iwarp", func(t *testing.T) {
		conn := dialTCP(t, w.addr("iwarp"))
		r := &rawIWARP{t: t, c: conn}
		stream := append(mpaRequest(0x10, 2, enhanced), r.sendFrame(goodNegotiate)...)
		for i := range stream {
			must(t, r.write(stream[i:i+1]))
		}
		reply := make([]byte, 24+2+18+32+4) // Reply, and the FPDU of the Negotiate Response
		for n := 0; n < len(reply); {
			m, err := conn.Read(reply[n:])
			must(t, err)
			n += m
		}
		if string(reply[:16]) != "MPA ID Rep Frame" || !bytes.Equal(reply[24+2+18:][:6], []byte{0, 1, 0, 1, 0, 1}) {
			t.Errorf("answered with %x", reply)
		}
		conn.Close()
		w.check(t)
	})
	t.Run("tcp", func(t *testing.T) {
		p := newPeer(t, dialHosting(t, w.addr("tcp")))
		h := p.header(cmdNegotiate)
		for _, b := range prefixed(p.element(h, p.negotiateRequest())) {
			_, err := p.c.(*rawTCP).c.Write([]byte{b})
			must(t, err)
		}
		if st, err := p.status(); st != 0 || err != nil {
			t.Errorf("NEGOTIATE: %v, %v", st, err)
		}
		p.c.Close()
		w.check(t)
	})
}

// Each bad FPDU is answered with one Terminate that names the cause, RFC 5040
// §4.8, RFC 5041 §7, RFC 5044 §8.
func TestBadFPDUs(t *testing.T) {
	w := newTown(t, options{})
	const unknown = 0xDEAD0001
	for _, c := range []struct {
		name string
		crc  bool
		do   func(r *rawIWARP) []byte
		want [3]byte // layer, type, code
	}{
		{"ULPDU of 0 octets", false, func(r *rawIWARP) []byte { return r.frame(nil) }, [3]byte{2, 0, 3}},
		{"ULPDU of 13 octets", false, func(r *rawIWARP) []byte { return r.frame(untagged(opSend, 0, 0, 2, 0, true)[:13]) }, [3]byte{2, 0, 3}},
		{"untagged ULPDU of 17 octets", false, func(r *rawIWARP) []byte { return r.frame(untagged(opSend, 0, 0, 2, 0, true)[:17]) }, [3]byte{2, 0, 3}},
		{"bad CRC", true, func(r *rawIWARP) []byte {
			b := r.sendFrame(data(1, 1, 0, 0, 0, 0, nil))
			b[len(b)-1] ^= 1
			return b
		}, [3]byte{2, 0, 2}},
		{"payload changed under the CRC", true, func(r *rawIWARP) []byte {
			b := r.sendFrame(data(1, 1, 0, 0, 0, 0, nil))
			b[25] ^= 1
			return b
		}, [3]byte{2, 0, 2}},
		{"opcode 8", false, func(r *rawIWARP) []byte { return r.frame(untagged(0x48, 0, 0, 2, 0, true)) }, [3]byte{0, 2, 6}},
		{"opcode 15, tagged", false, func(r *rawIWARP) []byte { return r.frame(tagged(0x4F, 1, 1, true)) }, [3]byte{0, 2, 6}},
		{"RDMAP version 2", false, func(r *rawIWARP) []byte { return r.frame(untagged(0x83, 0, 0, 2, 0, true)) }, [3]byte{0, 2, 5}},
		{"DDP version 2, untagged", false, func(r *rawIWARP) []byte {
			b := untagged(opSend, 0, 0, 2, 0, true)
			b[0] = 0x42
			return r.frame(b)
		}, [3]byte{1, 2, 6}},
		{"DDP version 0, tagged", false, func(r *rawIWARP) []byte {
			b := tagged(opWrite, 1, 1, true, 1)
			b[0] = 0xC0
			return r.frame(b)
		}, [3]byte{1, 1, 4}},
		{"queue 3", false, func(r *rawIWARP) []byte { return r.frame(untagged(opSend, 0, 3, 1, 0, true)) }, [3]byte{1, 2, 1}},
		{"MSN too high", false, func(r *rawIWARP) []byte { return r.frame(untagged(opSend, 0, 0, 3, 0, true, 1)) }, [3]byte{1, 2, 3}},
		{"MSN again", false, func(r *rawIWARP) []byte { return r.frame(untagged(opSend, 0, 0, 1, 0, true, 1)) }, [3]byte{1, 2, 3}},
		{"MSN of Read Requests too high", false, func(r *rawIWARP) []byte {
			return r.frame(untagged(opReadReq, 0, 1, 2, 0, true, readRequest{}.append(nil)...))
		}, [3]byte{1, 2, 3}},
		{"MO 8 first", false, func(r *rawIWARP) []byte { return r.frame(untagged(opSend, 0, 0, 2, 8, true, 1)) }, [3]byte{1, 2, 4}},
		{"gap in MO", false, func(r *rawIWARP) []byte {
			return append(r.frame(untagged(opSend, 0, 0, 2, 0, false, 1, 2)), r.frame(untagged(opSend, 0, 0, 2, 3, true, 1))...)
		}, [3]byte{1, 2, 4}},
		{"longer than a receive", false, func(r *rawIWARP) []byte {
			return r.frame(untagged(opSend, 0, 0, 2, 0, true, make([]byte, 9000)...))
		}, [3]byte{1, 2, 5}},
		{"write to an unknown STag", false, func(r *rawIWARP) []byte { return r.frame(tagged(opWrite, unknown, 0, true, 1)) }, [3]byte{1, 1, 0}},
		{"write to STag 0", false, func(r *rawIWARP) []byte { return r.frame(tagged(opWrite, 0, 0, true, 1)) }, [3]byte{1, 1, 0}},
		{"read of an unknown STag", false, func(r *rawIWARP) []byte { return r.readFrame(readRequest{1, 0, 1, unknown, 0}) }, [3]byte{0, 1, 0}},
		{"read of STag 0, the whole address space", false, func(r *rawIWARP) []byte {
			return r.readFrame(readRequest{1, 0, 0xFFFFFFFF, 0, 0})
		}, [3]byte{0, 1, 0}},
		// The RFCs have no code for it: local catastrophic error of DDP.
		{"Read Response that nobody asked for", false, func(r *rawIWARP) []byte { return r.frame(tagged(opReadResp, 1, 1, true, 1)) }, [3]byte{1, 0, 0}},
		{"invalidates an unknown STag", false, func(r *rawIWARP) []byte {
			return r.frame(untagged(opSendInv, unknown, 0, 2, 0, true, data(1, 1, 0, 0, 0, 0, nil)...))
		}, [3]byte{0, 1, 9}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := dialDirect(t, w.addr("iwarp"), c.crc)
			must(t, d.write(c.do(d.rawIWARP)))
			if got := d.ended(); got == nil || *got != c.want {
				t.Errorf("Terminate says %v, want %v", got, c.want)
			}
			w.check(t)
		})
	}
}

// FPDUs that end before their length says, and a Terminate of the peer's: the
// connection ends.
func TestBrokenStreams(t *testing.T) {
	w := newTown(t, options{})
	for _, c := range []struct {
		name  string
		bytes []byte
	}{
		{"one octet of a length", []byte{0}},
		{"length 65535 and the end", []byte{0xFF, 0xFF}},
		{"half a header", []byte{0, 40, 0x41, 0x43, 0, 0}},
		{"half a payload", append([]byte{4, 0}, untagged(opSend, 0, 0, 2, 0, true, make([]byte, 100)...)...)},
		{"half a write", append([]byte{4, 0}, tagged(opWrite, 1, 0, true, make([]byte, 100)...)...)},
		{"Terminate", (&rawIWARP{}).frame(untagged(opTerminate, 0, 2, 1, 0, true, 0x11, 0, 0, 0))},
		{"Terminate of 1 octet", (&rawIWARP{}).frame(untagged(opTerminate, 0, 2, 1, 0, true, 0x11))},
		{"Terminate that claims headers", (&rawIWARP{}).frame(untagged(opTerminate, 0, 2, 1, 0, true, 0x11, 0, 0xE0, 0))},
	} {
		for _, reset := range []bool{false, true} {
			name := c.name + ", FIN"
			if reset {
				name = c.name + ", RST"
			}
			t.Run(name, func(t *testing.T) {
				d := dialDirect(t, w.addr("iwarp"), false)
				must(t, d.write(c.bytes))
				if reset {
					must(t, d.c.SetLinger(0))
					d.c.Close()
				} else {
					must(t, d.c.CloseWrite())
					closed(t, d.c)
				}
				w.check(t)
			})
		}
	}
}

// Messages that [MS-SMBD] forbids end the connection, 3.1.5.6 and 3.1.5.8.
func TestBadDirect(t *testing.T) {
	w := newTown(t, options{})
	eight := make([]byte, 8)
	for _, c := range []struct {
		name string
		msgs [][]byte // the first one is in the place of the Negotiate Request
	}{
		{"empty request", [][]byte{{}}},
		{"request of 19 octets", [][]byte{goodNegotiate[:19]}},
		{"request of 513 octets", [][]byte{append(bytes.Clone(goodNegotiate), make([]byte, 493)...)}},
		{"versions above 1.0", [][]byte{negotiateRequest(0x101, 0x200, 10, 1364, 8192, 1<<20)}},
		{"no credits requested", [][]byte{negotiateRequest(0x100, 0x100, 0, 1364, 8192, 1<<20)}},
		{"MaxReceiveSize 127", [][]byte{negotiateRequest(0x100, 0x100, 10, 1364, 127, 1<<20)}},
		{"MaxFragmentedSize 131071", [][]byte{negotiateRequest(0x100, 0x100, 10, 1364, 8192, 131071)}},
		{"a second request", [][]byte{goodNegotiate, goodNegotiate}},
		{"data of 19 octets", [][]byte{goodNegotiate, data(10, 10, 0, 0, 0, 0, nil)[:19]}},
		{"data asks for no credits", [][]byte{goodNegotiate, data(0, 10, 0, 0, 24, 8, eight)}},
		{"offset 20", [][]byte{goodNegotiate, data(10, 10, 0, 0, 20, 8, eight)}},
		{"offset 8, in the header", [][]byte{goodNegotiate, data(10, 10, 0, 0, 8, 8, eight)}},
		{"offset behind the message", [][]byte{goodNegotiate, data(10, 10, 0, 0, 32, 8, eight)}},
		{"offset 0xFFFFFFF8", [][]byte{goodNegotiate, data(10, 10, 0, 0, 0xFFFFFFF8, 8, eight)}},
		{"length 9 of 8", [][]byte{goodNegotiate, data(10, 10, 0, 0, 24, 9, eight)}},
		{"length 0xFFFFFFFF", [][]byte{goodNegotiate, data(10, 10, 0, 0, 24, 0xFFFFFFFF, eight)}},
		{"remaining above MaxFragmentedSize", [][]byte{goodNegotiate, data(10, 10, 0, 1<<20+64<<10, 24, 8, eight)}},
		{"remaining 0xFFFFFFFF", [][]byte{goodNegotiate, data(10, 10, 0, 0xFFFFFFFF, 24, 8, eight)}},
		{"remaining that grows", [][]byte{goodNegotiate, data(10, 10, 0, 16, 24, 8, eight), data(10, 0, 0, 16, 24, 8, eight)}},
		{"remaining that skips", [][]byte{goodNegotiate, data(10, 10, 0, 24, 24, 8, eight), data(10, 0, 0, 8, 24, 8, eight)}},
		{"more than remains", [][]byte{goodNegotiate, data(10, 10, 0, 4, 24, 8, eight), data(10, 0, 0, 0, 24, 8, eight)}},
		{"less than remains, and 0 remain", [][]byte{goodNegotiate, data(10, 10, 0, 9, 24, 8, eight), data(10, 0, 0, 0, 24, 8, eight)}},
		{"an SMB2 message of 8 octets", [][]byte{goodNegotiate, data(10, 10, 0, 0, 24, 8, eight)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := dialRaw(t, w.addr("iwarp"), false)
			for i, m := range c.msgs {
				if i == 1 {
					_, _, err := r.next() // the response to the negotiation
					must(t, err)
				}
				must(t, r.send(m))
			}
			r.ended()
			w.check(t)
		})
	}

	// 3.1.5.1: who sends without a credit is cut off. This peer gives none, so
	// that it gets none back.
	t.Run("overdrawn credits", func(t *testing.T) {
		d := dialDirect(t, w.addr("iwarp"), false)
		var burst []byte
		for range 256 { // of 255 granted
			burst = append(burst, d.sendFrame(data(255, 0, 0, 0, 0, 0, nil))...)
		}
		must(t, d.write(burst))
		d.ended()
		w.check(t)
	})
	t.Run("credits beyond 16 bits", func(t *testing.T) {
		d := dialDirect(t, w.addr("iwarp"), false)
		for range 8 {
			must(t, d.rawIWARP.send(data(0xFFFF, 0xFFFF, 0, 0, 0, 0, nil)))
		}
		p := newPeer(t, d)
		p.login()
		p.c.Close()
		w.check(t)
	})
}

// Direct hosting, [MS-SMB2] 2.1: frames of another kind end the connection.
func TestBadHosting(t *testing.T) {
	w := newTown(t, options{})
	for _, c := range []struct {
		name  string
		bytes []byte
	}{
		{"first octet 1", []byte{1, 0, 0, 64}},
		{"MPA", mpaRequest(0x10, 2, enhanced)},
		{"length 0xFFFFFF", []byte{0, 0xFF, 0xFF, 0xFF}},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n")},
		{"half a prefix and the end", []byte{0, 0}},
		{"half a message and the end", append([]byte{0, 0, 1, 0}, "\xfeSMB@\x00"...)},
		{"8 MiB promised, and the end", []byte{0, 0x80, 0, 0, 0xFE}},
		{"message of 4 octets", prefixed([]byte("\xfeSMB"))},
		{"message of 63 octets", prefixed(append([]byte("\xfeSMB\x40\x00"), make([]byte, 57)...))},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := dialTCP(t, w.addr("tcp"))
			_, err := conn.Write(c.bytes)
			must(t, err)
			_ = conn.CloseWrite()
			closed(t, conn)
			w.check(t)
		})
	}
}
