// Package ndktest is the conformance suite of transport/ndk: what a provider has
// to do to be one. It knows the adapters of a provider by the interfaces of package
// ndk alone, and runs the same on each.
//
// The NDK header has 90 entries. rows.tsv lists them, each with numbered
// statements about what holds for it: NDK_FN_SEND/4 is "a zero-SGE send delivers a
// zero-byte receive completion". "[cap X]" begins a statement on a capability that
// AdapterInfo has a flag for, "[nd2]" ends one that is from the older Network
// Direct interface, where the pages of the header say nothing, "[dec]" one that
// this project decided where both are silent. All of them bind. For each statement
// there is one proof, a function, and a subtest of that name.
//
// # A new provider
//
// Its test is one function:
//
//	func TestConformance(t *testing.T) {
//		provider := New()
//		open := func(t testing.TB) ndk.Adapter {
//			t.Helper()
//			a, err := provider.Open(context.Background(), netip.Addr{}, ndk.Version11)
//			if err != nil {
//				t.Fatal(err)
//			}
//			return a
//		}
//		ndktest.Run(t, ndktest.Config{
//			Column:   "mine",
//			Open:     func(t testing.TB) (active, passive ndk.Adapter) { return open(t), open(t) },
//			Provider: func(testing.TB) ndk.Provider { return provider },
//		})
//	}
//
// Open and Provider are required. The other fields of [Config] are for what
// AdapterInfo cannot tell; set them when a statement asks for it:
//
//   - Where things are. Listen and Local, if the adapters are not at 127.0.0.1;
//     Listen6 for the statements on both families of addresses; Foreign and NoRoute,
//     if the addresses meant for documentation mean something to this network;
//     Elsewhere, if the machine has an address beside the adapter's.
//   - How the transport is. SendMeansDelivered, AcceptWaits, ReadyByRead,
//     CloseDropsRequests, DataPadded and Unpinned each make statements stricter or
//     laxer, as the transport is. They are facts, found in its specification or its
//     source and not by trial.
//   - Ways to bring about what a consumer cannot: OpenImpatient and Silent for time
//     limits, FullAddress for ports that are used up, Exhaust for resources that
//     are, FailCQ and FailSRQ for internal errors. Without one of them a proof
//     proves the rest of its statement, or counts as not offered if nothing is left.
//   - Ways to look inside: Leaks, Misuse, ParseReason.
//   - Lacks, last of all: what this device cannot do though no field of AdapterInfo
//     says so, with the reason in a sentence. The table shows it. A lack of the
//     provider, or of the time to write it, is no such reason.
//
// What AdapterInfo says that the device lacks (MaxWindowSize 0, no FlagCQResize)
// needs no field: a proof checks that the call is refused as the header has it, and
// counts as not offered.
//
// # One statement
//
// The subtests of Run are ROW/NUMBER, below the name of the test that calls it.
// Each part of the pattern of -run matches anywhere in a name, so anchor it:
//
//	go test ./transport/ndk/mine -v -run '^TestConformance$/^NDK_FN_SEND$/^4$'
//
// To find the proof look for the row: the file that has
//
//	var _ = row("NDK_FN_SEND", sendUnconnected, sendTakesFlags, sendCompletes, sendEmpty, ...)
//
// names the proofs in the order of the statements, so sendEmpty is that of
// NDK_FN_SEND/4. What it calls besides the API is in side.go (two ends, and their
// completions), requests.go (regions, transfers, refusals) and handshake.go (the
// steps of a connection).
//
// Every proof opens adapters of its own, by Config.Open, makes on each a PD, two
// CQs, a QP and a registered buffer of 1 MiB ([T.Pair]), and mostly connects them
// ([T.Connected]). Everything is closed at its end, antecedents before successors,
// which is legal and must not block; Adapter.Close must return. No wait is longer
// than half a minute, and a proof that waits that long has failed: a hang is
// reported with the line that waits.
//
// A subtest "first use" comes before the rows; it is a connection that comes and
// goes, so that what a process makes once is not taken for a leak. After the rows
// "FileWriterExtension" is for an extension that the header does not have, and is
// skipped where a provider does not have it either.
//
// # What every test asks
//
// Each adapter is wrapped by the audit of package ndkhook. After each test it
// reports every request that did not complete exactly once, came out of order, on
// the wrong CQ or with the wrong context; every callback that ran twice at a time,
// unarmed or after the close of its object; and every object that nobody closed.
// So all objects that are passed to the provider are wrappers: a provider finds its
// own with ndk.Unwrap before it does anything else, and calls no method of what it
// was passed. [T.Bare] leaves the audit out, where allocations are counted.
//
// After each statement there must be no more goroutines and open files than before
// it; those that are about to end are waited for. Config.Leaks adds what only the
// provider can count. Goroutines and files are counted by process, so a package
// runs nothing else beside Run, and no two Runs at a time. The audit and the leaks
// count for the statement: it fails.
//
// # The order of things
//
// Rows lean on each other. This order brings them up one after another:
//
//  1. Open, Info, Close: NDK_FN_QUERY_ADAPTER_INFO, NDK_ADAPTER. Then what Pair
//     makes: NDK_FN_CREATE_PD, _CREATE_CQ, _CREATE_QP, _CREATE_MR, _REGISTER_MR.
//     Some of their statements need a connection, and wait for step 2.
//  2. Connections, with an empty message each way: NDK_FN_CREATE_LISTENER, _LISTEN,
//     _CONNECT_EVENT_CALLBACK, _CREATE_CONNECTOR, _CONNECT, _ACCEPT,
//     _COMPLETE_CONNECT, _REJECT, _GET_CONNECTION_DATA, the addresses, _DISCONNECT
//     and its event. From here on Connected works.
//  3. Data and completions: NDK_FN_SEND, _RECEIVE, _WRITE, _READ, _GET_CQ_RESULTS and
//     its Ex form, _ARM_CQ, _CQ_NOTIFICATION_CALLBACK, _FLUSH, NDK_SGE, NDK_RESULT.
//     Many proofs use a Read to know that what was sent before it has arrived, so
//     do not leave it for later.
//  4. Memory: the rows of tokens, NDK_FN_DEREGISTER_MR, _BUILD_LAM, _RELEASE_LAM,
//     _INITIALIZE_FAST_REGISTER_MR, _FAST_REGISTER, _INVALIDATE,
//     _SEND_AND_INVALIDATE, _CREATE_MW, _BIND.
//  5. Lifetimes: NDK_FN_CLOSE_OBJECT, _CLOSE_COMPLETION, _CREATE_COMPLETION,
//     _REQUEST_COMPLETION, and the rows of objects, NDK_QP and its like.
//  6. What a device may lack, and what is left: shared receive queues, shared
//     endpoints, NDK_FN_RESIZE_CQ, _CONTROL_CQ_INTERRUPT_MODERATION, the Ex forms,
//     the rows named _DISPATCH, which call every method with bad arguments and on
//     closed objects.
//
// Run it with -race and more than once: several proofs set calls against each other
// that may run at the same time.
//
// # The coverage table
//
// With the environment variable NDKTEST_RESULTS Run writes a file for each run to
// that directory: each statement that ran with pass, fail or not offered and the
// reason. So leave -run out beyond the name of the test. The command ndktable makes docs/ndk-coverage.md of the files, with a column for each Config.Column;
// `make ndk-table` does both, and is where a new provider's package and column are
// added. Several runs of a column, told apart by Config.Variant, are put together:
// a failure of one is one of the column, and what one of them offers is offered.
//
// # A new statement
//
// It goes to the end of those of its row in rows.tsv ("; " separates them), and its
// proof to the end of the call of row. A statement without a proof fails every
// provider, a proof without a statement the test of this package. A proof sets up
// what the statement talks about, does it, and looks at it from both ends; that
// something does not happen is proved by what is ordered behind it, never by a
// pause. It uses the API, AdapterInfo and Config, and nothing that only one
// provider has.
package ndktest
