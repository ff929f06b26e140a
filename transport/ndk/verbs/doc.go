// Package verbs is the NDK provider over rdma-core: InfiniBand, RoCE and iWARP
// devices through libibverbs and librdmacm.
//
// It needs cgo and the build tag verbs; in other builds New says so. The libraries
// are opened when the first provider is made, not when the program starts, so the
// same binary runs where they are missing.
//
//	p, err := verbs.New(verbs.Config{})
//	if err != nil {
//		return err // no rdma-core, or a build without verbs
//	}
//	adapter, err := p.Open(ctx, netip.MustParseAddr("192.0.2.1"), ndk.Version21)
package verbs
