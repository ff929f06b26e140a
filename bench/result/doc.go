// Package result holds what a bench measured: latencies as HDR histograms, bandwidth
// and IOPS over time, queue depths, the processor's time. What several jobs, or several
// runs of one, measured can be added up without loss, which percentiles alone could not.
//
// Latencies are in nanoseconds. A Latency keeps three digits of every value up to an
// hour (fio's bins keep two), and count, minimum, maximum, mean and deviation exactly.
//
// Nothing here locks: a Job belongs to who records into it, and Clone makes a copy for
// who looks on.
package result
