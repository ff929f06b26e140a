package ndkhook

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Config says what a layer does. The zero value does nothing. Its functions are
// called from any goroutine, also at the same time, must not block, and must not
// post or poll.
type Config struct {
	// Name tells adapters apart in traces and audits; it may be empty.
	Name string
	// Trace gets every event; nil traces nothing. See TraceTo.
	Trace func(Event)
	// Fault is asked before each call that returns an error. A result other than
	// nil is returned in place of the call. For a post it is a *ndk.PostError or
	// a Status; any other error is replaced by its Status.
	Fault func(Call) error
	// OnResult may change a completion before the consumer gets it. The audit
	// sees what the provider had made of it.
	OnResult func(*ndk.ResultEx)
	// Audit keeps the books that Adapter.Audit looks at.
	Audit bool
}

// ObjectID names an object of one wrapped adapter. Numbers count from 1 for each
// kind, in the order of creation.
type ObjectID struct {
	Kind   ndk.ObjectKind
	Number uint64
}

// String prints kind and number.
func (id ObjectID) String() string { return fmt.Sprintf("%v %d", id.Kind, id.Number) }

// Call is one call of a method, or of a callback.
type Call struct {
	Adapter string   // Config.Name
	Object  ObjectID // whose method it is; zero for Provider.Open
	// Func is the name of the method in package ndk, as "Send". Callbacks are
	// "Notify", "onConnect" and "onDisconnect".
	Func string

	// For posts and their completions only:

	Post           bool
	Request        uint64 // counts the posts of the queue from 1; 0 for Fault and with Fault alone
	RequestContext any    // the consumer's
	Flags          ndk.OpFlags
	Length         uint64 // bytes of the SGEs, of inline data, or of the file range
}

// String prints the call.
func (c Call) String() string {
	var b strings.Builder
	if c.Adapter != "" {
		b.WriteString(c.Adapter + " ")
	}
	if c.Object.Kind != ndk.ObjectUndefined {
		b.WriteString(c.Object.String() + " ")
	}
	b.WriteString(c.Func)
	if c.Post {
		if c.Request != 0 {
			fmt.Fprintf(&b, " #%d", c.Request)
		}
		fmt.Fprintf(&b, " len=%d", c.Length)
		if c.Flags != 0 {
			fmt.Fprintf(&b, " flags=%#x", uint32(c.Flags))
		}
	}
	return b.String()
}

// EventType says what happened.
type EventType uint8

// The types of event.
const (
	Called     EventType = iota + 1 // a method was called
	Returned                        // it returned; also when a fault took its place
	Completed                       // a completion was polled
	CalledBack                      // the provider runs a callback
)

// Event is one line of a trace. Polls have no events of their own.
type Event struct {
	Type   EventType
	Call   Call         // of Completed: the post
	Err    error        // of Returned
	New    ObjectID     // the object that was made; of CalledBack the connector handed out
	Result ndk.ResultEx // of Completed, as the consumer gets it
	Status ndk.Status   // of a CalledBack Notify
	Reason uint32       // of a CalledBack onDisconnect
}

// String prints the event.
func (e Event) String() string {
	switch e.Type {
	case Called:
		return e.Call.String()
	case Returned:
		switch {
		case e.Err != nil:
			return e.Call.String() + " = " + e.Err.Error()
		case e.New != ObjectID{}:
			return e.Call.String() + " = " + e.New.String()
		}
		return e.Call.String() + " = ok"
	case Completed:
		s := fmt.Sprintf("%v done: %v %v", e.Call, e.Result.Type, e.Result.Status)
		if e.Result.Type&ndk.OpReceive != 0 {
			s += fmt.Sprintf(" bytes=%d", e.Result.Bytes)
		}
		if e.Result.Type == ndk.OpReceiveAndInvalidate {
			s += fmt.Sprintf(" invalidated=%#x", uint32(e.Result.InvalidatedToken))
		}
		if e.Result.ProviderError != 0 {
			s += fmt.Sprintf(" provider error %#x", e.Result.ProviderError)
		}
		return s
	case CalledBack:
		s := e.Call.String() + " called back"
		switch e.Call.Func {
		case funcNotify:
			s += ": " + e.Status.String()
		case funcOnConnect:
			s += ": " + e.New.String()
		case funcOnDisconnect:
			s += fmt.Sprintf(": reason %#x", e.Reason)
		}
		return s
	}
	return fmt.Sprintf("event %d", e.Type)
}

const (
	funcNotify       = "Notify"
	funcOnConnect    = "onConnect"
	funcOnDisconnect = "onDisconnect"
)

// TraceTo returns a Trace that writes one line for each event to w, one at a
// time. Errors of w are ignored.
func TraceTo(w io.Writer) func(Event) {
	var mu sync.Mutex
	return func(e Event) {
		line := e.String() + "\n"
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.WriteString(w, line)
	}
}

// slowFault gives err the form of an error of a call that is not a post.
func slowFault(fn string, err error) error {
	if ne, ok := errors.AsType[*ndk.Error](err); ok && error(ne) == err {
		return err
	}
	st := ndk.StatusOf(err)
	if err == error(st) {
		return &ndk.Error{Op: fn, Status: st}
	}
	return &ndk.Error{Op: fn, Status: st, Err: err}
}

// postFault gives err the form of an error of a post.
func postFault(err error) error {
	if pe, ok := errors.AsType[*ndk.PostError](err); ok && error(pe) == err {
		return err
	}
	return ndk.StatusOf(err)
}
