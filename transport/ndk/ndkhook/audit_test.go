package ndkhook

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

const ok = ntstatus.Success

var audited = Config{Audit: true}

func sge(n uint32) []ndk.SGE { return []ndk.SGE{{Addr: 4096, Length: n, Token: 2}} }

// Each row breaks one promise; the audit says so once, and nothing else.
func TestAuditNoticesEachBreach(t *testing.T) {
	for _, tc := range []struct {
		name   string
		breach func(r *rig)
		want   string
	}{
		{"a request completes twice", func(r *rig) {
			r.ok(r.qp.Send(1, nil, 0))
			r.fq.finish(0, ok)
			r.fq.finish(0, ok)
		}, "QP 1: Send #1 completed twice"},
		{"a receive never completes", func(r *rig) {
			r.ok(r.qp.Receive(1, sge(4)))
			r.fq.noFlush = true
		}, "QP 1: closed, and Receive #1 never completed"},
		{"a request never completes, and the consumer does not look", func(r *rig) {
			r.ok(r.qp.Read(1, sge(4), 0, 0, 0))
			r.fq.noFlush = true
			r.qp.Close()
			r.icq.Close()
		}, "QP 1: closed, and Read #1 never completed"},
		{"what is left at the close of the CQ is wrong", func(r *rig) {
			r.ok(r.qp.Send(1, nil, 0))
			r.fq.finish(0, ok)
			r.fq.finish(0, ok)
			r.qp.Close()
			r.icq.Close()
		}, "QP 1: Send #1 completed twice"},
		{"a refused post completes", func(r *rig) {
			var rc any
			r.fq.during = func(p fakePost) { rc = p.rc }
			r.fq.refuse = ndk.ErrQueueFull
			_ = r.qp.Write(1, nil, 0, 0, 0)
			e := ndk.ResultEx{Result: ndk.Result{QPContext: r.fq.ctx, RequestContext: rc}, Type: ndk.OpWrite}
			r.ficq.push(e)
		}, "QP 1: Write #1 completed though its post was refused"},
		{"a post completes and is refused then", func(r *rig) {
			r.fq.refuse = ndk.ErrQueueFull
			r.fq.during = func(p fakePost) {
				r.ficq.push(ndk.ResultEx{Result: ndk.Result{QPContext: r.fq.ctx, RequestContext: p.rc}, Type: p.op})
				r.drain()
			}
			_ = r.qp.Write(1, nil, 0, 0, 0)
		}, "QP 1: Write #1 completed though its post was refused with " + ndk.ErrQueueFull.Error()},
		{"initiator requests complete out of order", func(r *rig) {
			r.ok(r.qp.Send(1, nil, 0))
			r.ok(r.qp.Write(2, nil, 0, 0, 0))
			r.fq.finish(1, ok)
			r.fq.finish(0, ok)
		}, "QP 1: Write #2 completed before Send #1"},
		{"receives complete out of order", func(r *rig) {
			r.ok(r.qp.Receive(1, nil))
			r.ok(r.qp.Receive(2, nil))
			r.fq.finish(1, ok)
			r.fq.finish(0, ok)
		}, "QP 1: Receive #2 completed before Receive #1"},
		{"a silent request completes though it worked", func(r *rig) {
			r.ok(r.qp.Send(1, nil, ndk.SilentSuccess))
			r.fq.finish(0, ok)
		}, "QP 1: Send #1 worked, and completed though it is silent"},
		{"a silent request fails after a later one completed", func(r *rig) {
			r.ok(r.qp.Bind(1, nil, nil, 0, 0, ndk.SilentSuccess))
			r.ok(r.qp.Send(2, nil, 0))
			r.fq.finish(1, ok)
			r.fq.finish(0, ntstatus.Cancelled)
		}, "QP 1: Bind #1 completed after a later request"},
		{"the QPContext of another QP", func(r *rig) {
			other := r.newQP(nil)
			r.ok(r.qp.Send(1, nil, 0))
			e := r.fq.result(0, ok)
			e.QPContext = ndk.Unwrap(other).(*fakeQP).ctx
			r.fq.posts[0].over = true
			r.ficq.push(e)
			r.drain()
			other.Close()
		}, "CQ 2: Send #1 of QP 1 completed with the QPContext of QP 2"},
		{"no RequestContext", func(r *rig) {
			r.ficq.push(ndk.ResultEx{Result: ndk.Result{QPContext: r.fq.ctx}, Type: ndk.OpSend})
		}, "CQ 2: a completion with the RequestContext of no post: <nil>"},
		{"no QPContext", func(r *rig) {
			r.ok(r.qp.Send(1, nil, 0))
			e := r.fq.result(0, ok)
			e.QPContext = "mine"
			r.ficq.push(e)
			r.drain()
			r.fq.finish(0, ok)
		}, "CQ 2: a completion with the QPContext of no QP: string"},
		{"contexts at the close of the CQ", func(r *rig) {
			r.qp.Close()
			r.ficq.push(ndk.ResultEx{Result: ndk.Result{QPContext: 1, RequestContext: 2}})
			r.icq.Close()
		}, "CQ 2: a completion with a context that nobody gave: int, int"},
		{"a receive completes on the CQ of initiator requests", func(r *rig) {
			r.ok(r.qp.Receive(1, nil))
			r.ficq.push(r.fq.result(0, ok))
			r.fq.posts[0].over = true
			r.drain()
		}, "CQ 2: Receive #1 of QP 1 completed on the wrong CQ"},
		{"a Send completes on the CQ of receives", func(r *rig) {
			r.ok(r.qp.Send(1, nil, 0))
			r.frcq.push(r.fq.result(0, ok))
			r.fq.posts[0].over = true
		}, "CQ 1: Send #1 of QP 1 completed on the wrong CQ"},
		{"the type of another operation", func(r *rig) {
			r.ok(r.qp.FastRegister(1, nil, nil, 0, 0, 0, 0))
			e := r.fq.result(0, ok)
			e.Type = ndk.OpBind
			r.fq.posts[0].over = true
			r.ficq.push(e)
		}, "QP 1: FastRegister #1 completed with type Bind"},
		{"a provider error with success", func(r *rig) {
			r.ok(r.qp.Invalidate(1, nil, 0))
			e := r.fq.result(0, ok)
			e.ProviderError = 0x17
			r.fq.posts[0].over = true
			r.ficq.push(e)
		}, "QP 1: Invalidate #1 worked, with provider error 0x17"},
		{"a receive longer than its buffers", func(r *rig) {
			r.ok(r.qp.Receive(1, append(sge(100), sge(28)...)))
			e := r.fq.result(0, ok)
			e.Bytes = 129
			r.fq.posts[0].over = true
			r.frcq.push(e)
		}, "QP 1: Receive #1 of 128 bytes completed with 129"},
		{"more of a file than was asked for", func(r *rig) {
			w := must(r.qp.Extension(ndk.FileWriterExtension, ndk.Version{Major: 1})).(ndk.FileWriter)
			r.ok(w.WriteFile(1, ndk.FileRange{Length: 10}, 0, 0, 0))
			e := r.fq.result(0, ok)
			e.Bytes = 11
			r.fq.posts[0].over = true
			r.ficq.push(e)
		}, "QP 1: WriteFile #1 of 10 bytes completed with 11"},
		{"a poll returns more than there is room for", func(r *rig) {
			for i := range 3 {
				r.ok(r.qp.Receive(i, nil))
				r.fq.finish(i, ok)
			}
			r.frcq.excess = 1
			r.rcq.PollEx(make([]ndk.ResultEx, 3))
			r.frcq.excess = 0
			r.drain()
		}, "CQ 1: a poll for 3 returned 4"},
		{"a notification without an Arm", func(r *rig) {
			r.rcq.Arm(ndk.ArmAny)
			r.frcq.notify(ok)
			r.frcq.notify(ok)
		}, "CQ 1: notified without an Arm"},
		{"notifications overlap", func(r *rig) {
			r.rcq.Arm(ndk.ArmAny)
			r.rcq.Arm(ndk.ArmAny)
			r.onNotify = func() {
				r.onNotify = nil
				r.frcq.notify(ok)
			}
			r.frcq.notify(ok)
		}, "CQ 1: Notify runs twice at the same time"},
		{"a notification after Closed", func(r *rig) {
			r.rcq.Arm(ndk.ArmAny)
			r.qp.Close()
			r.rcq.Close()
			r.onNotify = func() {}
			r.frcq.notify(ok)
		}, "CQ 1: Notify after it was closed; CQ 1: closed while Notify ran"},
		{"Closed while a notification runs", func(r *rig) {
			r.rcq.Arm(ndk.ArmAny)
			r.qp.Close()
			r.onNotify = r.rcq.Close
			r.frcq.notify(ok)
		}, "CQ 1: closed while Notify ran"},
		{"notifications of an SRQ overlap", func(r *rig) {
			var f *fakeSRQ
			n := 0
			s := must(r.pd.CreateSRQ(r.ctx, ndk.SRQConfig{Depth: 4, Notify: func(ndk.Status) {
				if n++; n == 1 {
					f.notify(ok)
				}
			}}))
			f = ndk.Unwrap(s).(*fakeSRQ)
			f.notify(ok)
			s.Close()
		}, "SRQ 1: Notify runs twice at the same time"},
		{"a QP completes shared receives out of order", func(r *rig) {
			s := must(r.pd.CreateSRQ(r.ctx, ndk.SRQConfig{Depth: 4}))
			q := r.newQP(s)
			r.ok(s.Receive(1, nil))
			r.ok(s.Receive(2, nil))
			shared(r, s, q, 1)
			shared(r, s, q, 0)
			r.drain()
			q.Close()
			s.Close()
		}, "SRQ 1: QP 2 completed Receive #1 after one that was posted later"},
		{"a shared receive completes with a QP that does not share", func(r *rig) {
			s := must(r.pd.CreateSRQ(r.ctx, ndk.SRQConfig{Depth: 4}))
			r.ok(s.Receive(1, nil))
			shared(r, s, r.qp, 0)
			r.drain()
			s.Close()
		}, "CQ 1: Receive #1 of SRQ 1 completed with the QPContext of QP 1"},
		{"the end of a connection is told twice", func(r *rig) {
			c := must(r.a.CreateConnector(r.ctx))
			r.ok(c.CompleteConnectEx(r.ctx, func(uint32) {}))
			f := ndk.Unwrap(c).(*fakeConnector)
			f.event(0)
			f.event(0)
			c.Close()
		}, "Connector 1: told twice of the end of its connection"},
		{"the end of a connection is told after Closed", func(r *rig) {
			c := must(r.a.CreateConnector(r.ctx))
			r.ok(c.CompleteConnectEx(r.ctx, func(uint32) {}))
			c.Close()
			ndk.Unwrap(c).(*fakeConnector).event(0)
		}, "Connector 1: onDisconnect after it was closed; Connector 1: closed while onDisconnect ran"},
		{"a connect event before Listen", func(r *rig) {
			l := must(r.a.CreateListener(r.ctx, ndk.Connector.Close))
			ndk.Unwrap(l).(*fakeListener).onConnect(r.fa.connector())
			l.Close()
		}, "Listener 1: a connect event before Listen"},
		{"a connect event after Closed", func(r *rig) {
			l := must(r.a.CreateListener(r.ctx, ndk.Connector.Close))
			r.ok(l.Listen(r.ctx, here))
			l.Close()
			ndk.Unwrap(l).(*fakeListener).onConnect(r.fa.connector())
		}, "Listener 1: onConnect after it was closed; Listener 1: closed while onConnect ran"},
		{"an antecedent is closed before a successor that is in use", func(r *rig) {
			r.frcq.fire()
			r.rcq.Close()
		}, "CQ 1: closed before its Close; CQ 1: closed before its successor QP 1"},
		{"a CQ is closed before its QP", func(r *rig) {
			r.rcq.Close()
			r.frcq.fire()
		}, "CQ 1: closed before its successor QP 1"},
		{"a QP is closed before its connector", func(r *rig) {
			c := must(r.a.CreateConnector(r.ctx))
			r.ok(c.Connect(r.ctx, r.qp, here, here, ndk.ConnParams{}))
			r.qp.Close()
			r.fq.fire()
			c.Close()
		}, "QP 1: closed before its successor Connector 1"},
		{"a shared endpoint is closed before its connector", func(r *rig) {
			c := must(r.a.CreateConnector(r.ctx))
			e := must(r.a.CreateSharedEndpoint(r.ctx, here))
			r.ok(c.ConnectShared(r.ctx, r.qp, e, here, ndk.ConnParams{}))
			e.Close()
			ndk.Unwrap(e).(*fakeEndpoint).fire()
			c.Close()
		}, "SharedEndpoint 1: closed before its successor Connector 1"},
		{"an object is closed before its Close", func(r *rig) {
			m := must(r.pd.CreateMR(r.ctx, false))
			ndk.Unwrap(m).(*fakeMR).fire()
			m.Close()
		}, "MR 1: closed before its Close"},
		{"Adapter.Close does not wait", func(r *rig) {
			m := must(r.pd.CreateMR(r.ctx, false))
			r.qp.Close()
			r.drain()
			r.rcq.Close()
			r.icq.Close()
			r.pd.Close()
			r.fa.hasty = true
			r.a.Close()
			m.Close()
		}, "Adapter 1: Close returned before MR 1 was closed; Adapter 1: Close returned before PD 1 was closed"},
		{"Adapter.Close returns, and it is not closed", func(r *rig) {
			r.fa.stuck = true
		}, "Adapter 1: Close returned before it was closed"},
		{"a closed QP takes a request", func(r *rig) {
			r.qp.Close()
			r.ok(r.qp.Send(1, nil, ndk.SilentSuccess))
		}, "QP 1: took Send #1 after its Close"},
		{"a Close that does not end", func(r *rig) {
			m := must(r.pd.CreateMW(r.ctx))
			ndk.Unwrap(m).(*fakeMW).stuck = true
			m.Close()
		}, "Adapter 1: Close returned before MW 1 was closed; Adapter 1: Close returned before PD 1 was closed; Adapter 1: Close returned before it was closed; MW 1: its Close does not end"},
		{"the consumer forgets an object", func(r *rig) {
			ndk.Unwrap(must(r.pd.CreateMR(r.ctx, false))).(*fakeMR).release()
		}, "MR 1: never closed"},
		{"the consumer forgets the connector of an event", func(r *rig) {
			l := must(r.a.CreateListener(r.ctx, func(ndk.Connector) {}))
			r.ok(l.Listen(r.ctx, here))
			c := r.fa.connector()
			ndk.Unwrap(l).(*fakeListener).onConnect(c)
			l.Close()
			c.release()
		}, "Connector 1: never closed"},
		{"the consumer forgets a mapping", func(r *rig) {
			var kept, released ndk.LAM
			for _, l := range []*ndk.LAM{&kept, &released} {
				must(r.a.BuildLAM(r.ctx, nil, 0, l))
			}
			r.a.ReleaseLAM(&released)
		}, "1 mappings of BuildLAM not released"},
		{"the consumer forgets memory", func(r *rig) {
			for range 3 {
				_, free, err := r.a.Alloc(1)
				r.ok(err)
				if r.fa.freed == 0 {
					free()
					free()
				}
			}
		}, "2 allocations not freed"},
		{"the consumer posts twice at the same time", func(r *rig) {
			r.fq.during = func(fakePost) {
				r.fq.during = nil
				r.ok(r.qp.Send(2, nil, 0))
			}
			r.ok(r.qp.Send(1, nil, 0))
		}, "QP 1: the consumer posts twice at the same time to the initiator queue"},
		{"the consumer polls twice at the same time", func(r *rig) {
			r.frcq.gate, r.frcq.inside = make(chan struct{}), make(chan struct{})
			done := make(chan int)
			for range 2 {
				go func() { done <- r.rcq.Poll(make([]ndk.Result, 1)) }()
			}
			<-r.frcq.inside
			<-r.frcq.inside
			close(r.frcq.gate)
			<-done
			<-done
			r.frcq.gate = nil
		}, "CQ 1: the consumer polls twice at the same time"},
		{"the consumer goes round the layer", func(r *rig) {
			q := must(r.pd.CreateQP(r.ctx, ndk.QPConfig{ReceiveCQ: r.frcq, InitiatorCQ: r.icq}))
			q.Close()
		}, "QP 2: made with a CQ that does not come from this layer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, audited)
			tc.breach(r)
			if got := strings.Join(r.finish(), "; "); got != tc.want {
				t.Errorf("audit:\n got %s\nwant %s", got, tc.want)
			}
		})
	}
}

// shared completes receive i of s with q.
func shared(r *rig, s ndk.SRQ, q ndk.QP, i int) {
	fq := ndk.Unwrap(q).(*fakeQP)
	p := ndk.Unwrap(s).(*fakeSRQ).posts[i]
	fq.rcq.push(ndk.ResultEx{Result: ndk.Result{QPContext: fq.ctx, RequestContext: p.rc}, Type: ndk.OpReceive})
}

// Each row is unusual and right.
func TestAuditAllows(t *testing.T) {
	for _, tc := range []struct {
		name     string
		do       func(r *rig)
		unjudged uint64
	}{
		{"nothing", func(*rig) {}, 0},
		{"a completion that is polled before the post returns", func(r *rig) {
			r.fq.during = func(fakePost) {
				r.fq.finish(len(r.fq.posts)-1, ok)
				r.drain()
			}
			r.ok(r.qp.Send(1, nil, 0))
			r.ok(r.qp.Receive(2, nil))
		}, 0},
		{"silent requests that work, with and without a later completion", func(r *rig) {
			for range 3 {
				r.ok(r.qp.Send(1, nil, ndk.SilentSuccess))
			}
			r.ok(r.qp.Send(2, nil, 0))
			r.ok(r.qp.Send(3, nil, ndk.SilentSuccess))
			r.fq.finish(3, ok)
			r.drain()
			r.fq.noFlush = true
		}, 0},
		{"silent requests that fail", func(r *rig) {
			r.ok(r.qp.Send(1, nil, ndk.SilentSuccess))
			r.ok(r.qp.Send(2, nil, ndk.SilentSuccess))
			r.fq.finish(0, ntstatus.RemoteResources)
		}, 0},
		{"receives ahead of initiator requests, and the other way", func(r *rig) {
			r.ok(r.qp.Send(1, nil, 0))
			r.ok(r.qp.Receive(2, nil))
			r.ok(r.qp.Receive(3, nil))
			r.fq.finish(1, ok)
			r.drain()
			r.fq.finish(0, ok)
		}, 0},
		{"QPs of one CQ in any order", func(r *rig) {
			q := r.newQP(nil)
			r.ok(r.qp.Send(1, nil, 0))
			r.ok(q.Send(2, nil, 0))
			ndk.Unwrap(q).(*fakeQP).finish(0, ok)
			r.fq.finish(0, ok)
			r.drain()
			q.Close()
		}, 0},
		{"QPs of one SRQ in any order, and receives that nobody took", func(r *rig) {
			s := must(r.pd.CreateSRQ(r.ctx, ndk.SRQConfig{Depth: 4, Notify: func(ndk.Status) {}}))
			q1, q2 := r.newQP(s), r.newQP(s)
			for i := range 4 {
				r.ok(s.Receive(i, nil))
			}
			shared(r, s, q2, 1)
			shared(r, s, q1, 0)
			shared(r, s, q2, 2)
			ndk.Unwrap(s).(*fakeSRQ).notify(ok)
			r.drain()
			q1.Close()
			q2.Close()
			s.Close()
		}, 0},
		{"a refused post, and a request in its place", func(r *rig) {
			r.fq.refuse = ndk.ErrQueueFull
			_ = r.qp.Send(1, nil, 0)
			r.fq.refuse = nil
			r.ok(r.qp.Send(1, nil, 0))
			r.fq.finish(0, ok)
		}, 0},
		{"a receive with invalidation, and one that was too short", func(r *rig) {
			r.ok(r.qp.Receive(1, sge(8)))
			r.ok(r.qp.Receive(2, sge(8)))
			e := r.fq.result(0, ok)
			e.Type, e.Bytes, e.InvalidatedToken = ndk.OpReceiveAndInvalidate, 8, 9
			r.frcq.push(e)
			r.fq.posts[0].over = true
			e = r.fq.result(1, ntstatus.BufferOverflow)
			e.Bytes, e.ProviderError = 9, uint32(ndk.RuleReceiveSize)
			r.frcq.push(e)
			r.fq.posts[1].over = true
		}, 0},
		{"fewer notifications than Arms", func(r *rig) {
			for range 3 {
				r.rcq.Arm(ndk.ArmAny)
			}
			r.frcq.notify(ok)
			r.frcq.notify(ok)
		}, 0},
		{"an Arm within the notification", func(r *rig) {
			r.rcq.Arm(ndk.ArmAny)
			r.onNotify = func() {
				r.onNotify = nil
				r.rcq.Arm(ndk.ArmAny)
			}
			r.frcq.notify(ok)
			r.frcq.notify(ok)
		}, 0},
		{"antecedents first", func(r *rig) {
			m := must(r.pd.CreateMR(r.ctx, false))
			c := must(r.a.CreateConnector(r.ctx))
			r.ok(c.AcceptEx(r.ctx, r.qp, ndk.ConnParams{}, nil))
			r.pd.Close()
			r.rcq.Close()
			r.qp.Close()
			r.qp.Close()
			c.Close()
			m.Close()
		}, 0},
		{"a CQ that is closed before its QP takes the answer along", func(r *rig) {
			r.ok(r.qp.Receive(1, nil))
			r.ok(r.qp.Receive(2, nil))
			r.rcq.Close()
			r.ok(r.qp.Receive(3, nil))
			r.frcq.queue = nil
			r.fq.noFlush = true
		}, 3},
		{"a CQ that failed and said so", func(r *rig) {
			r.ok(r.qp.Receive(1, nil))
			r.rcq.Arm(ndk.ArmErrors)
			r.frcq.notify(ntstatus.InternalError)
			r.fq.noFlush = true
		}, 1},
		{"a CQ that may have overrun", func(r *rig) {
			for i := range rigDepth + 1 {
				r.ok(r.qp.Receive(i, nil))
			}
			r.fq.noFlush = true
		}, rigDepth + 1},
		{"a CQ that was resized and has not overrun", func(r *rig) {
			_ = r.rcq.Resize(r.ctx, 0)
			r.ok(r.rcq.Resize(r.ctx, rigDepth+1))
			for i := range rigDepth + 1 {
				r.ok(r.qp.Receive(i, nil))
			}
		}, 0},
		{"a CQ that an SRQ may have overrun", func(r *rig) {
			s := must(r.pd.CreateSRQ(r.ctx, ndk.SRQConfig{Depth: rigDepth - 1}))
			q := r.newQP(s)
			r.ok(s.Modify(r.ctx, rigDepth, 0))
			r.ok(r.qp.Receive(1, nil))
			r.fq.noFlush = true
			q.Close()
			s.Close()
		}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, audited)
			tc.do(r)
			if got := r.finish(); len(got) > 0 {
				t.Errorf("audit: %s; want nothing", strings.Join(got, "; "))
			}
			if got := r.a.Unjudged(); got != tc.unjudged {
				t.Errorf("unjudged: %d, want %d", got, tc.unjudged)
			}
		})
	}
}

// A CQ of the full depth of its queue has not overrun when a post is refused.
func TestRefusedPostIsNoOverrun(t *testing.T) {
	r := newRig(t, audited)
	for i := range rigDepth {
		r.ok(r.qp.Receive(i, nil))
	}
	r.fq.refuse = ndk.ErrQueueFull
	_ = r.qp.Receive(9, nil)
	r.fq.noFlush = true
	if got := r.finish(); len(got) != rigDepth {
		t.Errorf("audit: %s; want %d lost receives", strings.Join(got, "; "), rigDepth)
	}
}

// recorder is a Reporter.
type recorder []string

func (*recorder) Helper()                          {}
func (r *recorder) Errorf(format string, a ...any) { *r = append(*r, fmt.Sprintf(format, a...)) }

func TestReportsAreBounded(t *testing.T) {
	r := newRig(t, Config{Name: "east", Audit: true})
	for range maxReports + 7 {
		r.ficq.push(ndk.ResultEx{Result: ndk.Result{QPContext: r.fq.ctx}})
	}
	r.finish()
	var rec recorder
	r.a.Check(&rec)
	if len(rec) != maxReports+1 || rec[maxReports] != "east and 7 more" || !strings.HasPrefix(rec[0], "east CQ 2: ") {
		t.Errorf("%d reports, the first %q, the last %q", len(rec), rec[0], rec[len(rec)-1])
	}
}

// Without Audit there are no books, whatever else is on.
func TestNoAuditNoReports(t *testing.T) {
	r := newRig(t, Config{Trace: func(Event) {}, OnResult: func(*ndk.ResultEx) {}})
	r.ok(r.qp.Send(1, nil, 0))
	r.fq.finish(0, ok)
	r.fq.finish(0, ok)
	r.frcq.notify(ok)
	must(r.pd.CreateMR(r.ctx, false))
	if got := r.finish(); got != nil {
		t.Errorf("audit: %v", got)
	}
	if n := len(r.a.live); n > 0 {
		t.Errorf("%d objects kept", n)
	}
	if n := len(r.qp.(*qp).init.open); n > 0 {
		t.Errorf("%d requests kept", n)
	}
}

// The books do not grow: what is closed, completed and proved is forgotten.
func TestBooksForget(t *testing.T) {
	r := newRig(t, audited)
	for range 100 {
		must(r.pd.CreateMR(r.ctx, false)).Close()
		r.ok(r.qp.Send(1, nil, ndk.SilentSuccess))
		r.ok(r.qp.Send(1, nil, 0))
		r.fq.posts[len(r.fq.posts)-2].over = true
		r.fq.finish(len(r.fq.posts)-1, ok)
		r.drain()
	}
	q := r.newQP(nil)
	q.Close()
	r.drain()
	if got := r.a.Audit(); len(got) != 5 { // the adapter, PD, two CQs and a QP are open
		t.Errorf("audit: %s", strings.Join(got, "; "))
	}
	if n := len(r.a.live); n != 5 {
		t.Errorf("%d objects kept, want 5", n)
	}
	if n := len(r.qp.(*qp).init.open); n != 0 {
		t.Errorf("%d requests kept, want 0", n)
	}
	if n := len(r.icq.(*cq).lanes); n != 1 {
		t.Errorf("%d queues kept, want 1", n)
	}
	if got := r.finish(); len(got) > 0 {
		t.Errorf("audit: %s", strings.Join(got, "; "))
	}
}

// Close may come twice, also at the same time: what is left is polled once, before
// the provider hears of either.
func TestCloseOfCQTwiceAtOnce(t *testing.T) {
	r := newRig(t, audited)
	r.ok(r.qp.Send(1, nil, 0))
	r.qp.Close() // its Send is flushed, and nobody polls
	r.ficq.gate, r.ficq.inside = make(chan struct{}), make(chan struct{}, 4)
	done := make(chan struct{})
	for range 2 {
		go func() { // ends with Close
			r.icq.Close()
			done <- struct{}{}
		}()
	}
	<-r.ficq.inside
	for range 1000 { // of turns in which the other Close goes wrong, if it does
		runtime.Gosched()
	}
	if isClosed(r.ficq.Closed()) {
		t.Error("the provider's CQ is closed, and what it held not polled")
	}
	close(r.ficq.gate)
	<-done
	<-done
	r.rcq.Close()
	r.pd.Close()
	r.a.Close()
	if got := r.a.Audit(); len(got) > 0 {
		t.Errorf("audit: %s", strings.Join(got, "; "))
	}
	if n := r.a.Unjudged(); n > 0 {
		t.Errorf("%d requests unjudged", n)
	}
}
