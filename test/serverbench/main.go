// Command serverbench measures this server beside Samba and, where it is there,
// DittoFS: TCP on loopback, one client program for all of them (this project's client
// library), the servers one after the other within each repetition, medians. It writes
// docs/server-performance.md.
//
//	go run ./test/serverbench                    the table
//	go run ./test/serverbench -runs 1 -rows read  a part of it, on the terminal
//
// Samba's smbd (Debian's samba) is looked for in the PATH and /usr/sbin. DittoFS is
// taken from the PATH or from $DITTOFS, the directory of its dfs and dfsctl.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/test/internal/sites"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "serverbench:", err)
		os.Exit(1)
	}
}

var kinds = []sites.Kind{sites.Own, sites.Samba, sites.DittoFS}

// sample is one measurement of a row: how much was done in how long, and what it cost.
type sample struct {
	rate float64 // in the row's unit
	cpu  float64 // seconds of the server for each unit of cost
}

func run() error {
	runs := flag.Int("runs", 5, "repetitions; the table has the medians")
	length := flag.Duration("time", 2*time.Second, "length of one measurement")
	pattern := flag.String("rows", "", "regular expression of the names of rows; the document is then left alone")
	only := flag.String("servers", "", "names of the servers, separated by commas")
	doc := flag.String("o", "docs/server-performance.md", "the document")
	bareFile := flag.String("serve-bare", "", "be the other end of the bare loop, for this file; used by the program itself")
	flag.Parse()
	if *bareFile != "" {
		return serveBare(*bareFile)
	}
	re, err := regexp.Compile(*pattern)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "serverbench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}

	var servers []*sites.Site
	defer func() {
		for _, s := range servers {
			s.Stop()
		}
	}()
	for _, k := range kinds {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), k.Name) {
			continue
		}
		s, err := sites.Start(ctx, k, filepath.Join(dir, k.Name), sites.Options{})
		if errors.Is(err, sites.ErrAbsent) {
			fmt.Printf("%s: %v\n", k.Name, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", k.Name, err)
		}
		servers = append(servers, s)
	}
	if len(servers) == 0 {
		return errors.New("no server to measure")
	}
	got := map[string]map[string][]sample{}
	for i := range *runs {
		for _, r := range rows {
			if !re.MatchString(r.name) {
				continue
			}
			if got[r.name] == nil {
				got[r.name] = map[string][]sample{}
			}
			for j := range servers {
				s := servers[(i+j)%len(servers)] // nobody is always the first
				x, err := measure(ctx, s, r, *length)
				if err != nil && (s.Name == kinds[0].Name || ctx.Err() != nil) {
					return fmt.Errorf("%s, %s: %w", s.Name, r.name, err)
				} else if err != nil {
					fmt.Printf("%d  %-10s %-34s %v\n", i+1, s.Name, r.name, err)
					continue
				}
				got[r.name][s.Name] = append(got[r.name][s.Name], x)
				fmt.Printf("%d  %-10s %-34s %12.1f %-8s %8.3f %s\n", i+1, s.Name, r.name, x.rate, r.unit, x.cpu, r.cost)
			}
			for _, l := range bareRows {
				if l.row != r.name {
					continue
				}
				x, err := measureBare(dir, l.write, l.inFlight, *length)
				if err != nil {
					return err
				}
				got[r.name][bareName] = append(got[r.name][bareName], x)
				fmt.Printf("%d  %-10s %-34s %12.1f %-8s %8.3f %s\n", i+1, bareName, r.name, x.rate, r.unit, x.cpu, r.cost)
			}
		}
	}
	table := render(got, servers, *runs) + renderBare(got)
	fmt.Print("\n", table)
	if *pattern != "" || *only != "" {
		return nil
	}
	return os.WriteFile(*doc, []byte(header+table), 0o644)
}

// measure makes a connection and carries a row out on it.
func measure(ctx context.Context, s *sites.Site, r row, length time.Duration) (sample, error) {
	d, err := tcp.NewDialer(tcp.Config{})
	if err != nil {
		return sample{}, err
	}
	sess, err := client.Dial(ctx, d, s.Addr, client.Config{User: s.User, Password: s.Password, Timeout: 2 * time.Minute})
	if err != nil {
		return sample{}, err
	}
	defer sess.Close()
	share, err := sess.Mount(ctx, s.Share)
	if err != nil {
		return sample{}, err
	}
	w := &work{ctx: ctx, share: share, length: length}
	if err := r.prepare(w); err != nil {
		return sample{}, err
	}
	cpu, err := s.CPU()
	if err != nil {
		return sample{}, err
	}
	began := time.Now()
	n, err := r.do(w)
	if err != nil {
		return sample{}, err
	}
	took := time.Since(began).Seconds()
	after, err := s.CPU()
	if err != nil {
		return sample{}, err
	}
	return sample{rate: n / took * r.scale, cpu: (after - cpu) / n * r.costScale}, nil
}

const header = `# The server beside Samba and DittoFS

Generated by ` + "`make bench-server`" + `: SMB 3.1.1 over TCP on loopback, no encryption, signing
only if a server insists, one client program for all (this project's client library), the
servers in turn within each repetition, each of them as it comes but for what makes it
serve a local directory (DittoFS: metadata and blocks in memory, as in its own conformance
runs; it has no such share). "CPU" is what the server's processes used, user and system.
Figures of different runs of a shared machine differ; the ratios of one run are what counts.

`

// median is that of one figure of the samples; 0 if there are none.
func median(s []sample, f func(sample) float64) float64 {
	if len(s) == 0 {
		return 0
	}
	v := make([]float64, len(s))
	for i := range s {
		v[i] = f(s[i])
	}
	slices.Sort(v)
	return v[len(v)/2]
}

func rate(x sample) float64 { return x.rate }
func cost(x sample) float64 { return x.cpu }

// render makes the table of medians.
func render(got map[string]map[string][]sample, servers []*sites.Site, runs int) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Medians of %d.\n\n| row | unit |", runs)
	for _, s := range servers {
		fmt.Fprintf(&b, " %s |", s.Name)
	}
	fmt.Fprint(&b, " of the best other | cost |")
	for _, s := range servers {
		fmt.Fprintf(&b, " CPU %s |", s.Name)
	}
	fmt.Fprint(&b, "\n| --- | --- |", strings.Repeat(" ---: |", len(servers)+1), " --- |", strings.Repeat(" ---: |", len(servers)), "\n")
	for _, r := range rows {
		if got[r.name] == nil {
			continue
		}
		fmt.Fprintf(&b, "| %s | %s |", r.name, r.unit)
		best := 0.0
		for _, s := range servers {
			m := median(got[r.name][s.Name], rate)
			if m == 0 {
				b.WriteString(" fails |")
				continue
			}
			fmt.Fprintf(&b, " %.0f |", m)
			if s.Name != kinds[0].Name {
				best = max(best, m)
			}
		}
		if own := got[r.name][kinds[0].Name]; own != nil && best > 0 {
			fmt.Fprintf(&b, " %.2f |", median(own, rate)/best)
		} else {
			b.WriteString(" |")
		}
		fmt.Fprintf(&b, " %s |", r.cost)
		for _, s := range servers {
			fmt.Fprintf(&b, " %.3f |", median(got[r.name][s.Name], cost))
		}
		b.WriteByte('\n')
	}
	return b.String()
}
