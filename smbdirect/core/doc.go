// Package core is the SMB Direct protocol, [MS-SMBD] 3.1, as a state machine
// without I/O, clock or goroutine: inputs are method calls, outputs are values.
//
// # Driving it
//
//	e, err := core.New(core.Config{Role: core.Passive})
//	if err != nil {
//		return err
//	}
//	e.Start(now)                   // and then, after this and every other input:
//	for a, ok := e.Next(); ok; a, ok = e.Next() {
//		switch a.Kind {
//		case core.PostReceives:    // post, then tell how many were posted
//			e.Posted(now, post(a.Count, a.Size))
//		case core.SendRequest:     // a.Request; an acceptor gets SendResponse
//		case core.SendData:        // a.Header, then a.Length octets of message a.ID
//		case core.ArmTimer:        // call TimerDue at a.At, forget an earlier timer
//		case core.Connected:       // tell the user
//		case core.Terminate:       // end the connection because of a.Err
//		}
//	}
//
// The caller's duties:
//
//  1. Actions are carried out in order, each before the next is taken.
//  2. Posted follows every PostReceives; a grant leaves the engine only after it.
//  3. Each completed receive goes to Received. A Delivery is copied out before
//     the next input; the receive buffer is free then.
//  4. Each send, of whatever kind, that was handed to the adapter and completed is counted by
//     SendCompleted. At most Config.SendDepth are under way.
//  5. now never goes back; it counts from any origin.
//
// A mistake of the peer is an output, Terminate with a [ProtocolError]; a breach
// of these duties panics.
//
// # Names
//
// Field names are those of [MS-SMBD] 3.1.1.1. Where the text has two for one
// thing, the data model's is used: the MaxFragmentSize of 3.1.5.8 is
// MaxFragmentedRecvSize.
//
// # Where the text is not followed to the letter
//
//   - 3.1.5.8 answers every received message with an empty grant, and such an
//     answer with another, for ever. Here a bare grant follows a message with
//     payload when at most half of the target is left to the peer, and an empty
//     message when at most one credit is left; with a target of 1 that grant
//     waits for [Config].GrantDelay.
//   - 3.1.5.8 answers SMB_DIRECT_RESPONSE_REQUESTED with a message that has the
//     flag again. Here the answer has Flags 0.
//   - An empty message between the fragments of another is tolerated (Linux
//     sends such), one with the wrong RemainingDataLength is not.
//   - Of ReceiveCreditMax receives the last is kept for the second rule of
//     3.1.5.9: a message that waits while one send credit is left must grant. A
//     maximum below 4 is kept whole, and may be exceeded by one in that case.
//   - The first grant of an initiator goes out after GrantDelay even if the user
//     sends nothing: an acceptor cannot say a word before.
//
// # Concurrency
//
// None: one goroutine at a time. No input allocates in steady state.
package core
