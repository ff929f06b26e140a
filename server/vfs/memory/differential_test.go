//go:build linux

package memory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
)

// Random calls have the same outcome in RAM as in a directory of the operating
// system: errors, what was opened under which spelling, content, listings.
func TestAgainstPosix(t *testing.T) {
	for _, caseSensitive := range []bool{false, true} {
		for seed := range uint64(8) {
			t.Run(fmt.Sprintf("sensitive=%v/seed=%d", caseSensitive, seed), func(t *testing.T) {
				disk, err := posix.New(t.TempDir(), posix.Config{CaseSensitive: caseSensitive, ShowDotFiles: true})
				if err != nil {
					t.Fatal(err)
				}
				defer disk.Close()
				a := &player{fs: mustNew(t, Config{CaseSensitive: caseSensitive}), rng: rand.New(rand.NewPCG(seed, 1))}
				b := &player{fs: disk, rng: rand.New(rand.NewPCG(seed, 1))}
				if seed%2 == 1 { // with names beside each other that differ by case
					a.exact, b.exact = a.fs.(vfs.CaseView).CaseSensitive().(all), disk.CaseSensitive().(all)
				}
				defer a.closeAll()
				defer b.closeAll()
				for step := range 800 {
					if a.exact != nil && step%3 == 0 {
						a.fs, a.exact, b.fs, b.exact = a.exact, a.fs, b.exact, b.fs
					}
					inRAM, onDisk := a.step(t.Context()), b.step(t.Context())
					if inRAM != onDisk {
						t.Fatalf("step %d: in RAM\n%s\non disk\n%s", step, inRAM, onDisk)
					}
				}
				if inRAM, onDisk := a.tree(t.Context(), "."), b.tree(t.Context(), "."); inRAM != onDisk {
					t.Errorf("in the end, there is in RAM\n%s\non disk\n%s", inRAM, onDisk)
				}
			})
		}
	}
}

// player makes calls from random numbers and writes down what comes of them.
type player struct {
	fs, exact all // exact is another view of fs, or nil
	rng       *rand.Rand
	open      []vfs.File
}

type all interface {
	vfs.FS
	vfs.Linker
	vfs.Symlinker
}

func (p *player) closeAll() {
	for _, f := range p.open {
		f.Close()
	}
}

// name is one of few, so that calls meet.
func (p *player) name() string {
	names := []string{"a", "A", "b", "B", "ü", "Ü"}
	parts := make([]string, 1+p.rng.IntN(3))
	for i := range parts {
		parts[i] = names[p.rng.IntN(len(names))]
	}
	return strings.Join(parts, "/")
}

// outcome is an error as far as both have to agree.
func outcome(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, vfs.ErrOutside):
		return "outside"
	case errors.Is(err, vfs.ErrChanged):
		return "changed"
	case errors.Is(err, io.EOF):
		return "EOF"
	case errors.As(err, &errno):
		return errno.Error()
	}
	return err.Error()
}

func (p *player) step(ctx context.Context) string {
	name, other := p.name(), p.name()
	yes := p.rng.IntN(2) == 0
	kind := vfs.Kind(p.rng.IntN(3))
	n := p.rng.IntN(100)
	switch op := p.rng.IntN(12); op {
	case 0, 1, 2:
		o := vfs.OpenOptions{
			Access:      vfs.Access(p.rng.IntN(4)),
			Disposition: vfs.Disposition(p.rng.IntN(5)),
			Kind:        kind,
			NoFollow:    p.rng.IntN(4) == 0,
		}
		f, res, err := p.fs.Open(ctx, name, o)
		s := fmt.Sprintf("Open(%s, %+v) = %d %s, %s", name, o, res.Action, res.Name, outcome(err))
		if err != nil {
			return s
		}
		info, err := f.Stat(ctx)
		s += fmt.Sprintf("\n%v, %d bytes, %d names, %s", info.Mode.Type(), sizeOf(info), linksOf(info), outcome(err))
		if p.open = append(p.open, f); len(p.open) > 8 {
			s += ", Close: " + outcome(p.open[0].Close())
			p.open = p.open[1:]
		}
		return s
	case 3:
		return fmt.Sprintf("Mkdir(%s) = %s", name, outcome(p.fs.Mkdir(ctx, name, 0o777)))
	case 4:
		return fmt.Sprintf("Remove(%s, %d) = %s", name, kind, outcome(p.fs.Remove(ctx, name, kind)))
	case 5:
		// With two names there may be two things wrong, and either may be said.
		return fmt.Sprintf("Rename(%s, %s, %v) = %v", name, other, yes, p.fs.Rename(ctx, name, other, yes) == nil)
	case 6:
		return fmt.Sprintf("Link(%s, %s) = %v", name, other, p.fs.Link(ctx, name, other) == nil)
	case 7:
		target := []string{other, "../" + other, "../../" + other, "/" + other, "./" + other + "/.."}[p.rng.IntN(5)]
		err := p.fs.Symlink(ctx, target, name)
		got, rerr := p.fs.Readlink(ctx, name)
		return fmt.Sprintf("Symlink(%s, %s) = %s, Readlink = %s, %s", target, name, outcome(err), got, outcome(rerr))
	case 8:
		info, err := p.fs.Stat(ctx, name)
		link, lerr := p.fs.Lstat(ctx, name)
		return fmt.Sprintf("Stat(%s) = %v %d, %s; Lstat = %v %d, %s", name, info.Mode.Type(), sizeOf(info), outcome(err),
			link.Mode.Type(), sizeOf(link), outcome(lerr))
	case 9:
		id := vfs.FileID{}
		if yes {
			if info, err := p.fs.Lstat(ctx, other); err == nil {
				id = info.ID
			}
		}
		return fmt.Sprintf("RemoveIf(%s, as %s) = %s", name, other, outcome(p.fs.RemoveIf(ctx, name, id)))
	}
	if len(p.open) == 0 {
		return "nothing is open"
	}
	f := p.open[n%len(p.open)]
	return p.use(ctx, f, name, other, int64(n), yes)
}

// use does something with an open file.
func (p *player) use(ctx context.Context, f vfs.File, name, other string, n int64, yes bool) string {
	switch p.rng.IntN(4) {
	case 0:
		k, err := f.WriteAt([]byte(name), n)
		terr := error(nil)
		if yes {
			terr = f.Truncate(ctx, n+3)
		}
		return fmt.Sprintf("WriteAt = %d, %s, Truncate: %s", k, outcome(err), outcome(terr))
	case 1:
		return "content " + contentOf(f)
	}
	h, ok := f.(vfs.StreamHolder)
	if !ok {
		return "no streams"
	}
	if info, err := f.Stat(ctx); err != nil || info.Mode&fs.ModeSymlink != 0 {
		return "a link"
	}
	stream, to := name[:min(len(name), 1)], other[:min(len(other), 1)]
	if p.rng.IntN(2) == 0 {
		err := h.RenameStream(ctx, stream, to, yes)
		if n%4 == 0 {
			err = h.RemoveStream(ctx, to)
		}
		return fmt.Sprintf("Rename- or RemoveStream(%q, %q) = %s; %s", stream, to, outcome(err), streamsOf(ctx, h))
	}
	s, res, err := h.OpenStream(ctx, stream, vfs.OpenOptions{Access: vfs.AccessRead | vfs.AccessWrite, Disposition: vfs.Disposition(n % 5)})
	if err != nil {
		return fmt.Sprintf("OpenStream(%q) = %s", stream, outcome(err))
	}
	defer s.Close()
	_, werr := s.WriteAt([]byte(other), n)
	return fmt.Sprintf("OpenStream(%q) = %+v, WriteAt: %s, content %s; %s", stream, res, outcome(werr), contentOf(s), streamsOf(ctx, h))
}

func sizeOf(i vfs.Info) int64 { return i.Size }

// linksOf is not compared for directories, which the storage counts as it likes.
func linksOf(i vfs.Info) uint32 {
	if i.IsDir() {
		return min(i.Nlink, 1)
	}
	return i.Nlink
}

func contentOf(f vfs.File) string {
	b := make([]byte, 300)
	n, err := f.ReadAt(b, 0)
	return fmt.Sprintf("%q, %s", b[:n], outcome(err))
}

func streamsOf(ctx context.Context, h vfs.StreamHolder) string {
	list, err := h.Streams(ctx)
	var all []string
	for _, s := range list {
		all = append(all, fmt.Sprint(s.Name, " ", s.Size))
	}
	slices.Sort(all)
	return fmt.Sprintf("streams %q, %s", all, outcome(err))
}

// tree lists everything beneath a directory.
func (p *player) tree(ctx context.Context, name string) string {
	f, _, err := p.fs.Open(ctx, name, vfs.OpenOptions{Access: vfs.AccessRead, Kind: vfs.KindDir})
	if err != nil {
		return outcome(err)
	}
	defer f.Close()
	buf := make([]vfs.DirEntry, 100)
	n, err := f.(vfs.Dir).ReadDir(ctx, vfs.CursorStart, buf)
	var lines []string
	for _, e := range buf[:n] {
		full := vfs.Join(name, e.Name)
		line := fmt.Sprint(full, " ", e.Type)
		if e.Type.IsDir() {
			line += "\n" + p.tree(ctx, full)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + outcome(err)
}
