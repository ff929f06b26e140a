package ndktest

import (
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var objectTests = []test{
	{"NDK_OBJECT_HEADER/kinds", func(t *T) {
		s, p := t.Connected()
		l, _, _ := p.listen()
		for want, o := range map[ndk.ObjectKind]ndk.Object{ndk.ObjectAdapter: s.A, ndk.ObjectQP: s.QP, ndk.ObjectCQ: s.RCQ,
			ndk.ObjectMR: s.MR, ndk.ObjectPD: s.PD, ndk.ObjectConnector: s.C, ndk.ObjectListener: l} {
			if o.Kind() != want {
				t.Errorf("kind %v, want %v", o.Kind(), want)
			}
			if o.Version() != s.Info.Version && o != ndk.Object(l) {
				t.Errorf("%v has version %v", o.Kind(), o.Version())
			}
		}
	}},
	{"NDK_FN_CLOSE_OBJECT/antecedents wait", func(t *T) {
		s, _ := t.Pair()
		pd, err := s.A.CreatePD(s.ctx)
		s.must(err)
		cq, err := s.A.CreateCQ(s.ctx, ndk.CQConfig{Depth: 4})
		s.must(err)
		q := s.QPConfig()
		q.ReceiveCQ, q.InitiatorCQ = cq, cq
		qp, err := pd.CreateQP(s.ctx, q)
		s.must(err)
		pd.Close()
		cq.Close()
		cq.Close() // twice is harmless
		for _, o := range []ndk.Object{pd, cq} {
			select {
			case <-o.Closed():
				t.Errorf("%v is closed while its QP is open", o.Kind())
			default:
			}
		}
		qp.Close()
		for _, o := range []ndk.Object{qp, pd, cq} {
			s.must(ndk.CloseWait(s.ctx, o))
		}
	}},
	{"NDK_FN_CLOSE_OBJECT/QP flushes", func(t *T) {
		s, _ := t.Connected()
		for i := range 5 {
			s.must(s.QP.Receive(i, []ndk.SGE{s.SGE(0, 8)}))
		}
		s.C.Close()
		s.must(ndk.CloseWait(s.ctx, s.QP))
		for i := range 5 {
			var r [1]ndk.ResultEx
			if s.RCQ.PollEx(r[:]) != 1 {
				t.Fatal("the QP is closed before its receives completed")
			}
			s.expect(r[0], i, ntstatus.Cancelled, ndk.OpReceive)
		}
	}},
}
