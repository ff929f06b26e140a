// Package model is a reference model of SMB Direct's credits, [MS-SMBD] 3.1: a
// bookkeeper that is told of everything that happens at the two ends of a
// connection and that says, after every event, which law was broken, if any. It
// shares no code with the engine that it judges but for the layout of messages.
//
//	m := model.New(model.End{Role: model.Initiator, ...}, model.End{Role: model.Acceptor, ...})
//	if err := m.Apply(&model.Event{At: now, End: model.A, Kind: model.Post, N: 1, Asked: 1, Size: 512}); err != nil {
//		return err // a *model.Violation
//	}
//
// # The books
//
// For the direction from one end to the other S is the number of Data Transfer
// messages sent, R received, G the credits granted, H those whose grant arrived,
// and P the receives posted and unused. C = H - S are the sender's send credits,
// O = G - R what the receiver has outstanding and N = P - O what it has posted
// and not announced. The [Law] values are rules about these, about what a sender
// may say, and about when something has to happen.
//
// # What an end owes
//
// An end with Foreign set is a peer of another make: what it sends is only judged
// by what the other end has to do about it, and it needs no events of its own. If
// a message is changed on the way ([Tamper]), the laws that compare the two
// ends fall silent, and those about each end by itself go on. An end without
// Prompt is a whole connection with goroutines: it never tells that it has done
// what it could (Rest), so laws about what is to be done at once do not apply.
//
// # Concurrency
//
// None: the caller orders events. A send is told before anybody can receive it, a
// post before the grant of its receive.
package model
