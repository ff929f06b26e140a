// Package pattern says where the next I/O goes, how long it is and what it writes: the
// random and sequential orders of fio's job files, its distributions, splits and mixes,
// the contents of buffers and the headers by which what was written is known again.
//
// Everything follows from a seed: two Generators of the same Config give the same I/Os.
// Nothing here does I/O, waits or locks, and nothing allocates once it is made.
package pattern
