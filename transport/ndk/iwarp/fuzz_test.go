package iwarp

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// What parses is built again and parses to the same.
func FuzzStartup(f *testing.F) {
	for _, n := range vectors(f, "mpa-*") {
		f.Add(vector(f, n))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, reply := range []bool{false, true} {
			s, err := parseStartup(b, reply)
			if err != nil {
				continue
			}
			out, err := s.AppendBinary(nil)
			if err != nil {
				t.Fatalf("%+v does not build: %v", s, err)
			}
			again, err := parseStartup(out, reply)
			if err != nil || !bytes.Equal(again.Private, s.Private) || again.Flags != s.Flags || again.RTR != s.RTR || again.IRD != s.IRD || again.ORD != s.ORD {
				t.Fatalf("%+v became %+v, %v", s, again, err)
			}
		}
	})
}

// Markers come out where they went in, whatever the position of the FPDU.
func FuzzMarkers(f *testing.F) {
	f.Add(uint16(0), []byte("hello"))
	f.Add(uint16(508), bytes.Repeat([]byte{1}, 600))
	f.Fuzz(func(t *testing.T, at uint16, ulpdu []byte) {
		if len(ulpdu) > 5000 {
			return
		}
		pos := uint64(at) &^ 3
		body := append([]byte{byte(len(ulpdu) >> 8), byte(len(ulpdu))}, ulpdu...)
		body = append(body, make([]byte, padLen(len(ulpdu)))...)
		out := appendMarked(nil, pos, body, true)
		var plain []byte
		for i := 0; i < len(out); i += 4 {
			if (pos+uint64(i))%markerSpacing != 0 {
				plain = append(plain, out[i:i+4]...)
			}
		}
		if !bytes.Equal(plain[:len(plain)-crcField], body) {
			t.Fatalf("%x became %x", body, plain)
		}
	})
}

func FuzzTerminate(f *testing.F) {
	for _, n := range vectors(f, "fpdu-term-*") {
		f.Add(vector(f, n)[lenField+untaggedLen:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, ok := parseTerminate(b)
		if ok && c.known() {
			if again, _ := parseTerminate(appendTerminate(nil, c, nil)); again != c {
				t.Fatalf("%v became %v", c, again)
			}
		}
	})
}

// Any stream behind a good Request ends the connection or is served; memory
// without a right stays as it is, and nothing is left behind.
func FuzzStream(f *testing.F) {
	for _, n := range vectors(f, "fpdu-*") {
		if b := vector(f, n); len(b) < 400 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, addr := serve(t, Config{LingerTimeout: 100 * time.Millisecond})
		for range 4 {
			must(t, s.qp.Receive(nil, []ndk.SGE{s.sge(0, 64)}))
		}
		c, err := net.Dial("tcp", addr.String())
		must(t, err)
		defer c.Close()
		req, _ := (&startup{Revision: 2, Flags: flagEnhanced, IRD: 2, ORD: 2}).AppendBinary(nil)
		_, _ = c.Write(req)
		must(t, <-s.accept)
		_, _ = c.Write(b)
		_ = c.(*net.TCPConn).CloseWrite()
		<-s.reason
		for i, v := range s.mem[64:] {
			if v != 0 {
				t.Fatalf("octet %d was written", i+64)
			}
		}
	})
}
