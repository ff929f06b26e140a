package fuse

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// signals is what pending signals mean to a thread that waits.
type signals uint8

const (
	signalUnknown signals = iota // none is pending, or it cannot be told
	signalNone                   // those that are pending do not end the program
	signalStops                  // one asks it to stop, and is caught
	signalKills                  // one ends it
)

// signalsOf asks what is pending for a thread.
func signalsOf(thread uint32) signals {
	if thread == 0 { // it is in no name space of processes that this one sees
		return signalUnknown
	}
	status, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(thread), 10) + "/status")
	if err != nil {
		return signalUnknown
	}
	return pendingIn(status)
}

// signalSet is one as proc(5) shows it: bit 0 is signal 1.
type signalSet uint64

func setOf(list ...syscall.Signal) (s signalSet) {
	for _, sig := range list {
		s |= 1 << (sig - 1)
	}
	return s
}

var (
	// askToStop are those by which somebody asks a program to stop.
	askToStop = setOf(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)
	// harmlessOnes do not end a program that does not catch them, signal(7).
	harmlessOnes = setOf(syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGURG, syscall.SIGWINCH,
		syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU)
)

// pendingIn reads the lines of /proc/PID/status that are about signals.
func pendingIn(status []byte) signals {
	var pending, blocked, ignored, caught signalSet
	for line := range bytes.Lines(status) {
		key, value, _ := bytes.Cut(line, []byte(":"))
		var set signalSet
		switch string(key) {
		case "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt":
			n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 16, 64)
			if err != nil {
				return signalUnknown
			}
			set = signalSet(n)
		}
		switch string(key) {
		case "SigPnd", "ShdPnd": // the thread's, and those of its process
			pending |= set
		case "SigBlk":
			blocked = set
		case "SigIgn":
			ignored = set
		case "SigCgt":
			caught = set
		}
	}
	// The kernel sends SIGKILL to all threads of a program that a signal ends.
	if pending&setOf(syscall.SIGKILL) != 0 {
		return signalKills
	}
	pending &^= blocked | ignored
	switch {
	case pending == 0:
		return signalUnknown
	case pending&^caught&^harmlessOnes != 0: // of one that is traced, or leaves a core
		return signalKills
	case pending&caught&askToStop != 0:
		return signalStops
	}
	return signalNone
}
