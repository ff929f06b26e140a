package ndktest

import (
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var queueTests = []test{
	{"NDK_FN_FLUSH/all", func(t *T) {
		s, p := t.Connected()
		for i := range 5 {
			s.must(s.QP.Receive(i, []ndk.SGE{s.SGE(0, 8)}))
		}
		for i := range 5 {
			s.must(s.QP.Send(i, nil, ndk.Defer|ndk.SilentSuccess))
		}
		s.QP.Flush()
		for i := range 5 {
			s.expect(s.Received(), i, ntstatus.Cancelled, ndk.OpReceive)
			s.expect(s.Done(), i, ntstatus.Cancelled, ndk.OpSend)
		}
		p.lost()
	}},
}

// exchangeBack makes sure that what s sent has arrived at o: o reads it from the
// stream before it answers a Read.
func (s *Side) exchangeBack(o *Side) {
	s.t.Helper()
	s.must(s.QP.Read("back", []ndk.SGE{s.SGE(memSize-8, 8)}, o.MR.Base(), o.MR.RemoteToken(), 0))
	s.expect(s.Done(), "back", ntstatus.Success, ndk.OpRead)
}
