// Package network runs whole SMB Direct connections, Dialer to Listener with all
// their goroutines, over the simulated network (transport/ndk/sim) under random
// applications and faults.
//
//	r := network.Run(network.Generate(seed))
//	if r.Err != nil {
//		return r.Err
//	}
//
// A tap between the connections and the provider tells the reference model
// (fuzz/model) of every receive that is posted and every message that is sent or
// arrives, so the laws about credits hold for what is really posted. Beside it the
// audit of ndkhook watches what is owed to each object. The applications check
// every octet of every message and of every RDMA transfer, that memory is left
// alone after Deregister, and that nothing is left behind.
//
// What is to happen comes from the seed; in which order goroutines run does not,
// so a seed that fails may have to be run several times ([Run] is cheap).
//
// # Concurrency
//
// Run starts goroutines and waits for all of them.
package network
