package vfs

import "context"

// Watcher is an FS that can tell what changes.
type Watcher interface {
	// Watch begins to watch the directory dir. Changes made before it returns may
	// or may not be seen, all those made after it are. ctx limits the call, not
	// the watch.
	Watch(ctx context.Context, dir string, o WatchOptions) (Watch, error)
}

// WatchOptions says what to watch.
type WatchOptions struct {
	// Recursive includes everything beneath the directory. Changes within a
	// directory that has just appeared may be reported twice.
	Recursive bool
	// Changes is what to report; zero means everything.
	Changes Changes
	// QueueLen bounds the events waiting for Next. Zero means 1024; at most 65536.
	QueueLen int
}

// Changes is a set of kinds of change.
type Changes uint8

const (
	// ChangeFileName is a name of a non-directory that came, went or was changed.
	ChangeFileName Changes = 1 << iota
	// ChangeDirName is the same for a directory.
	ChangeDirName
	// ChangeData is content or size.
	ChangeData
	// ChangeMetadata is times, mode, owner, attributes or extended attributes.
	ChangeMetadata

	// ChangeAll is all of them.
	ChangeAll = ChangeFileName | ChangeDirName | ChangeData | ChangeMetadata
)

// EventAction is what happened to a name.
type EventAction uint8

const (
	// Added is a name that came into being or was moved in from outside.
	Added EventAction = iota + 1
	// Removed is a name that went or was moved out of what is watched.
	Removed
	// Modified is an object whose content or metadata changed.
	Modified
	// RenamedOld and RenamedNew are the two names of a rename within what is
	// watched. They come as a pair, one directly after the other.
	RenamedOld
	RenamedNew
)

// Event is one change.
type Event struct {
	Action EventAction
	// Change is the one kind of change it is.
	Change Changes
	// Name is relative to the watched directory, slash-separated.
	Name string
}

// Watch is a directory being watched. Events beyond the queue's bound are
// dropped, never waited for.
type Watch interface {
	// Next waits for events and moves as many as there are and fit into dst, which
	// must not be empty. A RenamedOld and its RenamedNew may come in two calls if
	// dst has one place left. Errors:
	//
	//	ErrOverflow     events were lost; the watch goes on, read the directory anew
	//	fs.ErrNotExist  the directory is gone; no more events will come
	//	fs.ErrClosed    the watch or its FS has been closed
	//	ctx.Err()       the context ended first; no event is lost by that
	//
	// Events already queued are delivered before the error. One Next at a time.
	Next(ctx context.Context, dst []Event) (int, error)

	// Close ends the watch and every Next. Closing twice does nothing.
	Close() error
}
