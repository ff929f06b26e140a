//go:build !race

package smbdirect

const raceEnabled = false
