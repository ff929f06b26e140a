package iwarp

import "testing"

// Before transfers the receiver reads no further than the next header, so that their
// payload goes where it belongs; before messages alone it reads what there is.
func TestCareful(t *testing.T) {
	var (
		message  = segment{ddp: ddpLast | ddpVersion, rdmap: rdmapVersion | opSend}
		response = segment{ddp: ddpTagged | ddpLast | ddpVersion, rdmap: rdmapVersion | opReadResponse}
	)
	q := &qp{pd: &pd{}}
	rx := newReceiver(q)
	see := func(n int, s segment, size int) {
		for range n {
			rx.observe(&s, size)
		}
	}
	for i, step := range []struct {
		does string
		do   func()
		want bool
	}{
		{"nothing to transfer to", func() {}, false},
		{"a Read of ours is under way", func() { q.reading.Store(1) }, true},
		{"and done, another is likely", func() { q.reading.Store(0); see(1, response, 1<<15) }, true},
		{"a few messages", func() { see(maxQuiet-1, message, 1000) }, true},
		{"one more", func() { see(1, message, 1000) }, false},
		{"the next Read is under way", func() { q.reading.Store(1) }, true},
		{"many messages while it is", func() { see(2*maxQuiet, message, 1000) }, true},
		{"its Response", func() { q.reading.Store(0); see(1, response, 1<<15) }, true},
		{"a stream with a CRC is read as it comes", func() { q.crc = true }, false},
	} {
		step.do()
		if got := rx.careful(); got != step.want {
			t.Errorf("step %d, %s: careful %v, want %v", i, step.does, got, step.want)
		}
	}
}
