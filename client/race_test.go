//go:build race

package client

// raceEnabled shortens what the race detector makes many times slower: copies of
// test links, AES-CCM, AES-CMAC.
const raceEnabled = true
