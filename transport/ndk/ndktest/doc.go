// Package ndktest is the conformance suite of transport/ndk. A provider runs it
// from a test of its own:
//
//	func TestConformance(t *testing.T) {
//		ndktest.Run(t, ndktest.Config{Open: openTwoAdapters})
//	}
//
// The subtests are named after the functions of the NDK header, with the number
// of the statement that each proves. What an adapter does not have is skipped
// only if its AdapterInfo says so. Every pair of ends that a test made is closed
// at its end, antecedents first, and Adapter.Close must return.
package ndktest
