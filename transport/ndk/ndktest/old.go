package ndktest

import (
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
}
