package main

import (
	"bufio"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	slots  = 10 // open files of an actor: six for data, two for flock, two for fcntl's locks
	actors = 2  // of a tree
)

// actor makes calls beneath root, in a process of its own.
type actor struct {
	root  string
	files [slots]*file
}

// file is an open file or directory, and a part of it that is mapped.
type file struct {
	fd     int
	mapped []byte
	at     int64 // where the map begins

	unsynced bool // it was written through the map
}

// actorMain is the process: a root, and a user and group unless they are negative, then
// calls from stdin until it ends.
func actorMain(root string, uid int) error {
	if uid >= 0 {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(uid), syscall.Setuid(uid)); err != nil {
			return fmt.Errorf("becoming user %d: %w", uid, err)
		}
	}
	unix.Umask(0)
	debug.SetPanicOnFault(true) // a map whose file has become shorter
	a := &actor{root: root}
	in, out := gob.NewDecoder(bufio.NewReader(os.Stdin)), gob.NewEncoder(os.Stdout)
	for {
		var o op
		if err := in.Decode(&o); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := out.Encode(a.do(o)); err != nil {
			return err
		}
	}
}

func (a *actor) do(o op) (r result) {
	defer func() {
		if p := recover(); p != nil {
			r = result{Errno: unix.EFAULT, Text: fmt.Sprint("fault: ", p)}
		}
	}()
	return calls[o.Call].do(a, o)
}

func (a *actor) path(p string) string { return a.root + "/" + p }

// fd is the descriptor of a slot; one that is never valid if nothing is open there.
func (a *actor) fd(slot int) int {
	if f := a.files[slot]; f != nil {
		return f.fd
	}
	return -1
}

func (a *actor) close(slot int) error {
	f := a.files[slot]
	if f == nil {
		return unix.EBADF
	}
	a.files[slot] = nil
	f.unmap()
	return unix.Close(f.fd)
}

func (f *file) unmap() {
	if f.mapped != nil {
		_ = unix.Munmap(f.mapped)
		f.mapped, f.unsynced = nil, false
	}
}

// errSilent is for an actor that does not answer.
var errSilent = errors.New("the call has not returned")

// remote is an actor as the parent sees it.
type remote struct {
	cmd      *exec.Cmd
	in       io.Closer
	enc      *gob.Encoder
	answers  chan result
	ended    chan struct{} // its reader
	patience time.Duration
}

func startActor(root string, uid int, patience time.Duration) (*remote, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), actorRoot+"="+root, fmt.Sprint(actorUser, "=", uid))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r := &remote{cmd: cmd, in: in, enc: gob.NewEncoder(in), answers: make(chan result, 1), ended: make(chan struct{}), patience: patience}
	go func() { // ends when the actor has; stop waits
		defer close(r.ended)
		defer close(r.answers)
		for d := gob.NewDecoder(bufio.NewReader(out)); ; {
			var v result
			if d.Decode(&v) != nil {
				return
			}
			r.answers <- v
		}
	}()
	return r, nil
}

const (
	actorRoot = "MOUNT_DIFF_ROOT"
	actorUser = "MOUNT_DIFF_USER"
)

func (r *remote) send(o op) error { return r.enc.Encode(o) }

func (r *remote) answer() (result, error) {
	t := time.NewTimer(r.patience)
	defer t.Stop()
	select {
	case v, ok := <-r.answers:
		if !ok {
			return result{}, errors.New("the actor has died")
		}
		return v, nil
	case <-t.C:
		return result{}, fmt.Errorf("%w after %v", errSilent, r.patience)
	}
}

// stop ends the actor, its files are closed by the system. One that is stuck in a call
// is left behind after a while.
func (r *remote) stop() {
	r.in.Close()
	select {
	case <-r.ended:
	case <-time.After(2 * time.Second):
		_ = r.cmd.Process.Kill()
		select {
		case <-r.ended:
		case <-time.After(5 * time.Second):
			fmt.Fprintf(os.Stderr, "process %d can't be ended, it is in a call\n", r.cmd.Process.Pid)
			return
		}
	}
	_ = r.cmd.Wait()
}
