package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// settings are the same for everything that is run.
type settings struct {
	a, b     string // directories
	uid      int
	patience time.Duration
	on       chosen
	check    int // calls between comparisons of the trees
}

// pair is two trees, new and empty, and the actors in them.
type pair struct {
	dirs  [2]string
	acts  [2][actors]*remote
	stuck bool

	times    bool         // those that are set are compared
	unsynced [actors]bool // has written through a map
}

// newPair makes a directory called name in both places.
func (s *settings) newPair(name string) (*pair, error) {
	p := &pair{times: s.on["times"]}
	for i, at := range []string{s.a, s.b} {
		dir, err := filepath.Abs(filepath.Join(at, name))
		if err != nil {
			return nil, err
		}
		if err := os.Mkdir(dir, 0o777); err != nil {
			return nil, err
		}
		if s.uid >= 0 {
			_ = os.Chown(dir, s.uid, s.uid) // a mount has uid=
		}
		_ = os.Chmod(dir, 0o777)
		p.dirs[i] = dir
	}
	return p, p.start(s)
}

func (p *pair) start(s *settings) error {
	for i := range p.acts {
		for j := range p.acts[i] {
			r, err := startActor(p.dirs[i], s.uid, s.patience)
			if err != nil {
				p.stop()
				return err
			}
			p.acts[i][j] = r
		}
	}
	return nil
}

// do makes a call in both trees. An error means that there is no result.
func (p *pair) do(o op) (a, b result, err error) {
	if p.times && calls[o.Call].times {
		for i := range p.unsynced {
			if !p.unsynced[i] {
				continue
			}
			p.unsynced[i] = false
			if a, b, err = p.make(op{Call: "msync", Actor: i}); err != nil || !a.equal(b) {
				return a, b, err
			}
		}
	}
	if o.Call == "mwrite" {
		p.unsynced[o.Actor] = true
	}
	return p.make(o)
}

func (p *pair) make(o op) (a, b result, err error) {
	var acts [2]*remote
	for i := range acts {
		acts[i] = p.acts[i][o.Actor]
		if err := acts[i].send(o); err != nil {
			return a, b, fmt.Errorf("actor in %s: %w", p.dirs[i], err)
		}
	}
	var errs [2]error
	a, errs[0] = acts[0].answer()
	b, errs[1] = acts[1].answer()
	for i, err := range errs {
		if err != nil {
			p.stuck = p.stuck || errors.Is(err, errSilent)
			return a, b, fmt.Errorf("in %s: %w", p.dirs[i], err)
		}
	}
	return a, b, nil
}

// stop ends the actors.
func (p *pair) stop() {
	for i := range p.acts {
		for j, r := range p.acts[i] {
			if r != nil {
				r.stop()
				p.acts[i][j] = nil
			}
		}
	}
}

// remove deletes what is left of the trees.
func (p *pair) remove() error {
	p.stop()
	return errors.Join(os.RemoveAll(p.dirs[0]), os.RemoveAll(p.dirs[1]))
}

// parting is where two trees stopped being the same.
type parting struct {
	ops  []op // the last of which showed it
	a, b result
	err  error // instead of results
}

func (d *parting) last() op { return d.ops[len(d.ops)-1] }

// like is true of two partings that are likely the same mistake.
func (d *parting) like(e *parting) bool {
	return d.last().Call == e.last().Call && d.a.Errno == e.a.Errno && d.b.Errno == e.b.Errno && (d.err == nil) == (e.err == nil)
}

func (d *parting) String() string {
	if d.err != nil {
		return fmt.Sprintf("%v: %v", d.last(), d.err)
	}
	return fmt.Sprintf("%v: %s", d.last(), difference(d.a, d.b))
}

// replay makes calls in new trees, up to the first difference.
func (s *settings) replay(name string, ops []op) (*parting, error) {
	p, err := s.newPair(name)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	for i, o := range ops {
		a, b, err := p.do(o)
		if err != nil || !a.equal(b) {
			d := &parting{ops: ops[:i+1], a: a, b: b, err: err}
			if !p.stuck {
				_ = p.remove()
			}
			return d, nil
		}
	}
	return nil, p.remove()
}

// minimise looks for a short list of calls which parts trees as d does, until it finds
// none that is shorter or the time is over. It is nil where d's own list does not.
func (s *settings) minimise(name string, d *parting, until time.Time) (*parting, error) {
	runs := 0
	try := func(ops []op) (*parting, error) {
		runs++
		e, err := s.replay(fmt.Sprintf("%s-%d", name, runs), ops)
		if e != nil && !e.like(d) {
			e = nil
		}
		return e, err
	}
	best, err := try(d.ops)
	if best == nil || err != nil {
		return nil, err
	}
	for size := len(best.ops) / 2; size > 0 && time.Now().Before(until); {
		shorter := false
		// From the end, as what made the difference is mostly near it.
		for at := len(best.ops) - 1 - size; at > -size && time.Now().Before(until); at -= size {
			from := max(at, 0)
			ops := append(append([]op(nil), best.ops[:from]...), best.ops[min(at+size, len(best.ops)-1):]...)
			e, err := try(ops)
			if err != nil {
				return best, err
			}
			if e != nil {
				best, shorter = e, true
				at = min(at, len(best.ops)-1)
			}
		}
		if size > 1 || !shorter {
			size /= 2
		}
	}
	return best, nil
}
