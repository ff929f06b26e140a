package core

import "testing"

// FuzzReadDepths has the private data of a peer in front of both decisions about
// it: what is agreed on is within the limits of both, whoever wrote the numbers
// in which order.
func FuzzReadDepths(f *testing.F) {
	f.Add([]byte{0, 0, 0, 32, 0, 0, 0, 1}, uint8(32), uint8(32))
	f.Add([]byte{32, 0, 0, 0, 1, 0, 0, 0}, uint8(8), uint8(1))
	f.Add([]byte{0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0}, uint8(1), uint8(255))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0}, uint8(1), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, in, out uint8) {
		d, ok := ParseReadDepths(b)
		if ok != (len(b) >= ReadDepthsSize) || d.IRD > 255 || d.ORD > 255 {
			t.Fatalf("%+v, %v of %x", d, ok, b)
		}
		if !ok {
			return
		}
		reads, reply, ok := AcceptReadDepths(d, max(int(in), 1), max(int(out), 1))
		if ok != (d.IRD > 0 && d.ORD > 0) {
			t.Fatalf("accepted %v: %+v", ok, d)
		}
		if ok && (reads < 1 || reads > max(int(out), 1) || reads > int(d.IRD) || reply.IRD != reply.ORD || reply.IRD < 1 || reply.IRD > d.IRD) {
			t.Fatalf("%d reads, reply %+v to %+v with limits %d and %d", reads, reply, d, in, out)
		}
		if n := ReplyReadDepths(d, int(out)); n < 0 || n > int(out) {
			t.Fatalf("%d reads of %d after the reply %+v", n, out, d)
		}
	})
}
