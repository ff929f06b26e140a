// Package simulate runs SMB Direct engines against each other, and against peers
// of other makes, on a modelled link with a virtual clock, and asks the reference
// model (fuzz/model) after every event whether a law was broken.
//
//	s := simulate.Generate(seed)
//	r := simulate.Run(s)
//	if r.Err != nil {
//		s = simulate.Minimise(s, 2000) // a shorter one that breaks the same law
//	}
//
// A [Scenario] is plain data: the settings of both ends and a list of actions.
// Everything that is left to chance is drawn when it is made, so that running it
// again gives the same events, and a part of it is a scenario too. An end is an
// engine (smbdirect/core), or a peer that keeps only the rules that Linux keeps.
// Actions delay messages, complete sends late, let the clock run, refuse receives,
// hold, cancel, cut the connection, and change messages on the way.
//
// When the actions are over the link is let run: whatever was submitted is to
// arrive, unless an end gave a reason to end the connection; both ends are to be
// silent then, to probe each other after the keepalive interval, and to give up a
// peer that does not answer.
//
// Run is a pure function; nothing here has goroutines or state.
package simulate
