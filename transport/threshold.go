package transport

// Thresholder is an optional part of an RDMA side that knows from which length on it pays
// to move data by RDMA; below it goes in messages. Where messages and RDMA take the same
// way, as with an adapter in software, messages cost less for longer.
type Thresholder interface {
	// Threshold is that length in bytes, at least 1.
	Threshold() int
}
