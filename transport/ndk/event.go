package ndk

// Event turns a notification callback into a channel that a goroutine can wait
// on. Notifications that come before the last one was received are merged.
type Event struct{ c chan Status }

// NewEvent returns an event whose Notify is for CQConfig or SRQConfig.
func NewEvent() *Event { return &Event{c: make(chan Status, 1)} }

// Notify records st; a failure replaces a success that nobody received yet.
func (e *Event) Notify(st Status) {
	for {
		select {
		case e.c <- st:
			return
		default:
		}
		if !st.IsError() && !st.IsWarning() {
			return
		}
		select {
		case <-e.c:
		default:
		}
	}
}

// C delivers the notifications.
func (e *Event) C() <-chan Status { return e.c }
