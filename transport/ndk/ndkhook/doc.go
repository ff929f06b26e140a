// Package ndkhook is a layer between a consumer and any provider of package ndk
// that traces calls, injects faults, and audits what the provider does with the
// requests and objects that it was given.
//
//	p := ndkhook.WrapProvider(provider, ndkhook.Config{Audit: true, Trace: ndkhook.TraceTo(os.Stderr)})
//	a, err := p.Open(ctx, local, ndk.Version21)
//	if err != nil {
//		return err
//	}
//	// ... use a, close all that was made, close a ...
//	for _, v := range p.Audit() {
//		log.Print(v)
//	}
//
// Everything that comes from a wrapped adapter is wrapped too, connectors of
// connect events and the FileWriter of a QP included. What is passed back to the
// provider is the wrapper, behind which it finds its own object with ndk.Unwrap.
// The layer plays the part of the owner of NDK_OBJECT_HEADER_RESERVED_BLOCK:
// its state sits around the object, the provider neither sees nor touches it.
//
// # Trace
//
// Config.Trace sees the begin and the end of each call, each completion when it
// is polled, and each callback. No event has payload or private data in it.
//
// # Faults
//
// Config.Fault is asked before each call that can fail, and its error is returned
// in place of the call. That of a post is a *ndk.PostError or a bare Status, as
// the interface has it. A post that is refused this way hands on what was
// deferred before it, as any refused post does. Config.OnResult changes
// completions on their way to the consumer.
//
// # Audit
//
// The audit holds the provider to these promises and reports each breach:
//
//   - an accepted request completes exactly once, or is silent and not
//     disproved by a completion of its own; a refused one never completes
//   - a silent request that worked has no completion
//   - completions of one queue come in the order of its posts; those of a
//     shared receive queue do for each of its QPs
//   - contexts come back by identity, on the right CQ and with the right type
//   - a receive that worked is no longer than its buffers
//   - callbacks of one CQ or SRQ do not overlap; a CQ notifies at most once
//     for each Arm, and a connector tells of its end at most once
//   - no callback starts or runs after its object is closed; an object is not
//     closed before its Close, before its successors, or after Adapter.Close
//
// and the consumer to these: it closes every object, releases every mapping,
// frees all that it allocated, and serialises its posts to one queue and its
// polls of one CQ.
//
// What became of the requests of a QP is known when its CQ was found empty after
// the QP was closed, by a poll of the consumer or by the layer when the CQ is
// closed after the QP. A CQ that is closed before its QP takes the answer with
// it, as does one that may have overrun; Unjudged counts such requests.
//
// # Concurrency
//
// A wrapper allows what the object behind it allows. The layer has locks for its
// books, none of which is held across a call to the provider, a callback, or a
// function of the Config. Of two calls of CQ.Close at the same time the second
// waits while the first polls what is left. With the audit on, each closing object has a goroutine
// that waits for Closed; Adapter.Close waits for them all. Lock order:
// none is held while another is taken.
//
// # Cost
//
// A wrapper of an empty Config passes posts and polls down as they are. With
// Fault alone a post does not allocate; with Trace, OnResult or Audit it makes
// one record.
package ndkhook
