//go:build race

package fuse

// raceEnabled: pools forget what they are given at random.
const raceEnabled = true
