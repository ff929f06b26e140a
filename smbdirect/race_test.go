//go:build race

package smbdirect

// sync.Pool drops things at random under the race detector.
const raceEnabled = true
