// Command clientbench measures this project's client library beside go-smb2: over TCP to
// Samba and to this project's server, and over SMB Direct (iwarp) to the latter. All of it
// is on loopback, the columns one after the other within each repetition, medians. It
// writes docs/client-performance.md.
//
//	go run ./test/clientbench                    the tables
//	go run ./test/clientbench -runs 1 -rows read  a part of them, on the terminal
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/test/internal/sites"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "clientbench:", err)
		os.Exit(1)
	}
}

// sample is one measurement: how much was done in a second, and for each unit of cost
// the seconds of processor time; both in the row's units. allocs are for each call.
type sample struct{ rate, cpu, allocs float64 }

func run() error {
	runs := flag.Int("runs", 5, "repetitions; the tables have the medians")
	length := flag.Duration("time", 2*time.Second, "length of one measurement")
	rowPattern := flag.String("rows", "", "regular expression of the names of rows; the document is then left alone")
	columnPattern := flag.String("columns", "", "the same of columns")
	doc := flag.String("o", "docs/client-performance.md", "the document")
	profile := flag.String("cpuprofile", "", "file for a profile of what is measured")
	flag.Parse()
	wantRow, err := regexp.Compile(*rowPattern)
	if err != nil {
		return err
	}
	wantColumn, err := regexp.Compile(*columnPattern)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "clientbench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}

	servers := map[string]*sites.Site{}
	defer func() {
		for _, s := range servers {
			s.Stop()
		}
	}()
	var list []column
	for _, c := range columns {
		if wantColumn.MatchString(c.name) {
			list = append(list, c)
		}
	}
	for _, k := range []sites.Kind{sites.Samba, sites.Own} {
		s, err := sites.Start(ctx, k, filepath.Join(dir, k.Name), sites.Options{Guests: true, RDMA: k.Name == sites.Own.Name})
		if errors.Is(err, sites.ErrAbsent) {
			fmt.Printf("%s: %v\n", k.Name, err)
			continue
		} else if err != nil {
			return fmt.Errorf("%s: %w", k.Name, err)
		}
		servers[k.Name] = s
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	got := results{}
	for i := range *runs {
		for _, r := range rows {
			if !wantRow.MatchString(r.name) {
				continue
			}
			for j := range list {
				c := list[(i+j)%len(list)] // nobody is always the first
				s := servers[c.server]
				if _, ok := bareRows[r.name]; s == nil || c.dial == nil && !ok {
					continue
				}
				x, err := measure(ctx, c, s, r, *length)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", c.name, r.name, err)
				}
				got.add(r, c, x)
				fmt.Printf("%d  %-35s %-36s %10.1f %-8s %8.3f %-8s %8.1f allocations\n", i+1, c.name, r.name, x.rate, r.unit, x.cpu, r.cost, x.allocs)
			}
		}
	}
	tables := got.render(*runs)
	if s := servers[sites.Own.Name]; s != nil && wantRow.MatchString(withoutSMB) {
		raw, err := measureWithout(ctx, s, filepath.Join(dir, sites.Own.Name, "share"), *runs, *length)
		if err != nil {
			return fmt.Errorf("%s: %w", withoutSMB, err)
		}
		tables += renderWithout(raw)
	}
	fmt.Print("\n", tables)
	if *rowPattern != "" || *columnPattern != "" {
		return nil
	}
	return os.WriteFile(*doc, []byte(header+tables), 0o644)
}

// measure makes a connection and carries a row out on it.
func measure(ctx context.Context, c column, s *sites.Site, r row, length time.Duration) (sample, error) {
	if c.dial == nil {
		return measureBare(ctx, s, r, length)
	}
	user := sites.Guest
	if r.signed {
		user = s.User
	}
	sh, err := c.dial(ctx, s, user)
	if err != nil {
		return sample{}, err
	}
	defer sh.close()
	w := &work{share: sh, big: "big-" + user, length: length}
	if err := r.prepare(w); err != nil {
		return sample{}, err
	}
	if w.file != nil {
		defer w.file.Close()
	}
	runtime.GC() // what others have left is not this one's to clear away
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, err := used()
	if err != nil {
		return sample{}, err
	}
	began := time.Now()
	n, err := r.do(w)
	if err != nil {
		return sample{}, err
	}
	took := time.Since(began)
	end, err := used()
	if err != nil {
		return sample{}, err
	}
	runtime.ReadMemStats(&after)
	return sample{
		rate:   n / took.Seconds() * r.scale,
		cpu:    (end - cpu).Seconds() / n * r.costScale,
		allocs: float64(after.Mallocs-before.Mallocs) / float64(w.calls.Load()),
	}, nil
}

// used is the processor time of this process: the servers are others.
func used() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
