// Command diff compares a mount with a local directory, call by call.
//
// A seeded generator makes system calls as programs do and as no sane program does;
// every call goes to the same place in both trees, and what it returns (errno, counts,
// bytes, names) has to be the same. Every so many calls, and at the end, the whole
// trees have to be the same: names, types, sizes, content, extended attributes.
//
//	go run ./test/mount/diff -seed 1 -ops 100000 -a /tmp/local -b /mnt/share
//
// At the first difference it prints the seed, the number of the call, and the shortest
// list of calls it could find that still shows a difference, then exits with status 1.
// -write FILE saves that list and -replay FILE runs one.
//
// # Who makes the calls
//
// The calls of a tree are made by two processes, the actors, with open files, maps and
// locks of their own, which the parent tells what to do. So a call that never returns is
// found out (-patience) and what one process sees of another's doing is judged too. Run
// by root the actors become another user (-uid), as root is above permissions that a
// server applies to everybody. With -procs N, N such pairs work at once, each pair
// beneath a directory of its own.
//
// # What SMB can't carry
//
// Two tables say what is not compared, each line with its reason: features (features.go)
// are kinds of calls that are not generated, as the trees would part for good; blanks
//
//	are values that are left out of a comparison. -list prints both.
package main
