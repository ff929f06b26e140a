//go:build race

package tcp

// sync.Pool drops things at random under the race detector.
const raceEnabled = true
