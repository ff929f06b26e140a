package result

import "time"

// Part is whose the processor's time was.
type Part int

const (
	PartGenerator Part = iota // the bench itself: what the next I/O is, what the last one took
	PartEngine                // what makes an I/O of it
	PartClient                // this project's client, or another library
	PartSyscalls              // the kernel, on behalf of all
	PartRuntime               // Go's: goroutines, memory
	PartOther                 // the display, and what nobody is known of
	Parts
)

func (p Part) String() string {
	return [...]string{"generator", "engine", "client library", "system calls", "Go runtime", "other"}[p]
}

// Profile is the processor's time that was sampled, by part; zero if there is no profile.
type Profile [Parts]time.Duration

// Total is all of it.
func (p *Profile) Total() (sum time.Duration) {
	for _, d := range p {
		sum += d
	}
	return sum
}

// Merge adds another's.
func (p *Profile) Merge(o *Profile) {
	for i, d := range o {
		p[i] += d
	}
}
