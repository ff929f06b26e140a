// Package run carries out a plan of jobs: groups and their order, ramps, rates, pauses,
// depths, what is verified, and what it all measured.
//
// A job has a goroutine for each I/O that it may have under way, which asks the job's one
// generator for the next I/O, carries it out and books it; of an engine that takes I/Os in
// one step and has their results in another the job has one goroutine in all. Run.Do
// starts them and returns after all have ended. Beside them is one that takes samples of
// bandwidth, twice a second.
//
// # What a latency is
//
// Submission is the time that an engine took to accept an I/O, Completion from there to
// its result, Total from when the I/O began. A job with a rate is an open loop: its I/Os
// are due at moments that do not depend on how earlier ones went, and Total is from the
// moment an I/O was due, also if that found no free place. What a stall of the server
// cost those that had to wait is in Total, therefore, and not left out.
//
// What is done in the ramp, in laying out files and in reading back to verify is not
// measured.
package run
