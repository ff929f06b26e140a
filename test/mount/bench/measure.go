package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/test/mount/site"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// bench is what the measurements share.
type bench struct {
	server *site.Server
	raw    *raw
	dir    string
	length time.Duration
	mounts int
}

// measurement fills a column of a row, or of several, whose names are divided by "; ".
type measurement struct {
	row, column string
	measure     func(ctx context.Context, b *bench) ([]sample, error)
}

var measurements = []measurement{
	{read, colRaw, func(ctx context.Context, b *bench) ([]sample, error) { return b.raw.measure(ctx, "read_bw") }},
	{write, colRaw, func(ctx context.Context, b *bench) ([]sample, error) { return b.raw.measure(ctx, "write_bw") }},
	{read, colLibRDMA, library(overRDMA, "read")},
	{write, colLibRDMA, library(overRDMA, "write")},
	{read, colRDMA, mounted("iwarp", "read", true)},
	{write, colRDMA, mounted("iwarp", "write", true)},
	{read, colPages, mounted("iwarp", "read", false)},
	{write, colPages, mounted("iwarp", "write", false)},
	{read, colLibTCP, library(overTCP, "read")},
	{write, colLibTCP, library(overTCP, "write")},
	{read, colTCP, mounted("tcp", "read", true)},
	{write, colTCP, mounted("tcp", "write", true)},
	{read, colPagesTCP, mounted("tcp", "read", false)},
	{write, colPagesTCP, mounted("tcp", "write", false)},
	{first + "; " + second, colRDMA, listed("iwarp")},
	{first + "; " + second, colTCP, listed("tcp")},
	{first + "; " + second, colLocal, func(ctx context.Context, b *bench) ([]sample, error) {
		return twice(ctx, filepath.Join(b.server.Share, "many"), func() float64 { return 0 })
	}},
}

// raw is ndkperf.
type raw struct{ bin string }

func newRaw(dir string) (*raw, error) {
	r := &raw{filepath.Join(dir, "ndkperf")}
	c := exec.Command("go", "build", "-o", r.bin, "./test/ndkperf")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build ./test/ndkperf: %w: %s", err, out)
	}
	return r, nil
}

func (r *raw) measure(ctx context.Context, test string) ([]sample, error) {
	port, err := site.FreePort()
	if err != nil {
		return nil, err
	}
	addr := "127.0.0.1:" + port
	server := exec.CommandContext(ctx, r.bin, "-provider", "iwarp", "-addr", addr, "server")
	out, err := server.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := server.Start(); err != nil {
		return nil, err
	}
	defer func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
	}()
	if _, err := out.Read(make([]byte, 100)); err != nil { // "ready"
		return nil, err
	}
	b, err := exec.CommandContext(ctx, r.bin, "-provider", "iwarp", "-addr", addr, "-size", fmt.Sprint(piece), "-n", "4000",
		"-depth", fmt.Sprint(inFlight), "-reads", fmt.Sprint(inFlight), test).Output()
	if err != nil {
		return nil, err
	}
	var name, unit string
	var size int
	var v float64
	if _, err := fmt.Sscan(string(b), &name, &size, &v, &unit); err != nil {
		return nil, fmt.Errorf("%q: %w", b, err)
	}
	return []sample{{value: v}}, nil
}

func overTCP(s *site.Server) (transport.Dialer, string, error) {
	d, err := tcp.NewDialer(tcp.Config{})
	return d, "127.0.0.1:" + s.Port, err
}

func overRDMA(s *site.Server) (transport.Dialer, string, error) {
	p, err := iwarp.New(iwarp.Config{})
	if err != nil {
		return nil, "", err
	}
	d, err := smbdirect.NewDialer(p, "iwarp", smbdirect.Config{})
	return d, "127.0.0.1:" + s.RDMAPort, err
}

// library measures the client library by as many goroutines as there are in flight.
func library(dialer func(*site.Server) (transport.Dialer, string, error), name string) func(context.Context, *bench) ([]sample, error) {
	return func(ctx context.Context, b *bench) ([]sample, error) {
		d, addr, err := dialer(b.server)
		if err != nil {
			return nil, err
		}
		sess, err := client.Dial(ctx, d, addr, client.Config{User: b.server.User, Password: b.server.Password})
		if err != nil {
			return nil, err
		}
		defer sess.Close()
		sh, err := sess.Mount(ctx, "share")
		if err != nil {
			return nil, err
		}
		f, err := sh.OpenFile(ctx, name, os.O_RDWR, 0o666)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		var next atomic.Int64
		var g errgroup.Group
		var before, after syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
			return nil, err
		}
		start := time.Now()
		for range inFlight {
			g.Go(func() error {
				p := make([]byte, piece)
				for time.Since(start) < b.length {
					off := (next.Add(1) - 1) % (fileSize / piece) * piece
					var err error
					if name == "read" {
						_, err = f.ReadAt(p, off)
					} else {
						_, err = f.WriteAt(p, off)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
		took := time.Since(start).Seconds()
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
			return nil, err
		}
		bytes := float64(next.Load() * piece)
		cpu := func(r *syscall.Rusage) float64 {
			return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
		}
		return []sample{{bytes / took / 1e6, (cpu(&after) - cpu(&before)) / (bytes / 1e9)}}, nil
	}
}

// mount mounts the share anew.
func (b *bench) mount(transport string) (*site.Mount, error) {
	b.mounts++
	return b.server.Mount(filepath.Join(b.dir, fmt.Sprint("mnt", b.mounts)), transport)
}

// mounted measures a mount by fio.
func mounted(transport, name string, direct bool) func(context.Context, *bench) ([]sample, error) {
	return func(ctx context.Context, b *bench) (_ []sample, err error) {
		m, err := b.mount(transport)
		if err != nil {
			return nil, err
		}
		defer func() {
			if e := m.Unmount(); err == nil {
				err = e
			}
		}()
		args := []string{"--name=bench", "--filename=" + filepath.Join(m.Dir, name), "--rw=" + name, "--bs=1m", "--size=" + fmt.Sprint(fileSize/inFlight),
			"--offset_increment=" + fmt.Sprint(fileSize/inFlight), "--numjobs=" + fmt.Sprint(inFlight), "--thread", "--group_reporting", "--ioengine=psync",
			"--output-format=json", "--time_based", "--runtime=" + fmt.Sprint(int(max(1, b.length.Seconds())))}
		if direct {
			args = append(args, "--direct=1")
		} else {
			// Each pass drops what is cached, else the second one would not reach the mount.
			args = append(args, "--invalidate=1", "--fadvise_hint=0", "--loops=1", "--end_fsync=1")
			args = without(args, "--time_based", "--runtime=")
		}
		before := m.CPU()
		out, err := exec.CommandContext(ctx, "fio", args...).Output()
		if err != nil {
			return nil, fmt.Errorf("fio: %w: %s", err, tail(out))
		}
		used := m.CPU() - before
		var r struct {
			Jobs []struct {
				Read, Write struct {
					Bytes   int64   `json:"io_bytes"`
					Rate    float64 `json:"bw_bytes"`
					Runtime int64   `json:"runtime"`
				}
			}
		}
		if i := bytes.IndexByte(out, '{'); i > 0 {
			out = out[i:]
		}
		if err := json.Unmarshal(out, &r); err != nil || len(r.Jobs) == 0 {
			return nil, fmt.Errorf("fio's report: %w: %s", err, tail(out))
		}
		v := r.Jobs[0].Read
		if name == "write" {
			v = r.Jobs[0].Write
		}
		return []sample{{v.Rate / 1e6, used / (float64(v.Bytes) / 1e9)}}, nil
	}
}

func without(args []string, prefixes ...string) []string {
	var out []string
	for _, a := range args {
		keep := true
		for _, p := range prefixes {
			keep = keep && !strings.HasPrefix(a, p)
		}
		if keep {
			out = append(out, a)
		}
	}
	return out
}

func tail(b []byte) []byte { return b[max(0, len(b)-500):] }

// listed measures ls on a new mount.
func listed(transport string) func(context.Context, *bench) ([]sample, error) {
	return func(ctx context.Context, b *bench) (_ []sample, err error) {
		m, err := b.mount(transport)
		if err != nil {
			return nil, err
		}
		defer func() {
			if e := m.Unmount(); err == nil {
				err = e
			}
		}()
		return twice(ctx, filepath.Join(m.Dir, "many"), m.CPU)
	}
}

func twice(ctx context.Context, dir string, cpu func() float64) ([]sample, error) {
	var out []sample
	for range 2 {
		before, start := cpu(), time.Now()
		b, err := exec.CommandContext(ctx, "ls", "-lR", dir).Output()
		if err != nil {
			return nil, fmt.Errorf("ls: %w", err)
		}
		out = append(out, sample{time.Since(start).Seconds(), cpu() - before})
		if n := bytes.Count(b, []byte(" file-")); n != lsFiles {
			return nil, fmt.Errorf("ls lists %d files of %d", n, lsFiles)
		}
	}
	return out, nil
}
