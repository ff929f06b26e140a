package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/result"
	"github.com/smbd-rdma/smbd-rdma/bench/saved"
	"github.com/smbd-rdma/smbd-rdma/test/internal/sites"
)

// installed says whether a program is there, and notes those that are not.
func (b *bench) installed(program, pkg string) bool {
	if _, err := exec.LookPath(program); err == nil {
		return true
	}
	for _, a := range b.absent {
		if a == pkg {
			return false
		}
	}
	b.absent = append(b.absent, pkg)
	return false
}

// addFio adds fio on the same local file.
func (b *bench) addFio(l load, direct, local string) {
	if !b.installed("fio", "fio") {
		return
	}
	args := append([]string{"--ioengine=io_uring", local, "--invalidate=0"}, strings.Fields(direct)...)
	b.add(&row{load: l.name, system: "no server: the local file, fio", small: l.small,
		command: "fio --name=x --ioengine=io_uring --filename=/DIR/file --invalidate=0 " + direct,
		measure: func(ctx context.Context, r *row) (*saved.Job, error) {
			name := r.system + ": " + r.load
			return b.job(ctx, name, "fio", append([]string{"--name=" + name, "--eta=never"}, args...))
		}})
}

// addOthers adds the programs that carry bytes and have no JSON of fio's.
func (b *bench) addOthers(l load) {
	switch {
	case l.small:
		return
	case l.dir == result.Read:
		if b.samba != nil && b.installed("smbclient", "smbclient") {
			b.add(b.smbclient(l, "get file /dev/null"))
		}
		if b.installed("iperf3", "iperf3") {
			b.add(&row{load: l.name, system: "no files, no RDMA: iperf3, one stream",
				command: fmt.Sprintf("iperf3 -c HOST -t %d", b.seconds()), measure: b.iperf})
		}
	default:
		if b.samba != nil && b.installed("smbclient", "smbclient") {
			b.add(b.smbclient(l, "put file new"))
		}
		b.addUCX(l, "ucp_put_bw")
	}
}

// figure is a job of which only the bandwidth is known, in bytes a second.
func figure(dir result.Direction, bandwidth float64) *saved.Job {
	j := &saved.Job{ClientCPU: -1, ServerCPU: -1, Allocations: -1, RDMAPercent: -1}
	j.Traffic[dir] = saved.Traffic{Bytes: 1, IOs: 1, Bandwidth: bandwidth}
	return j
}

// smbclient copies the whole file once; its connecting is in the time.
func (b *bench) smbclient(l load, command string) *row {
	host, port, _ := net.SplitHostPort(b.samba.Addr)
	return &row{load: l.name, system: "Samba, smbclient", command: "smbclient //SAMBA/SHARE -c '" + command + "'",
		measure: func(ctx context.Context, _ *row) (*saved.Job, error) {
			cmd := exec.CommandContext(ctx, "smbclient", "-p", port, "-U", sites.Guest+"%"+b.samba.Password, "-m", "SMB3",
				"--option=client signing=disabled", "//"+host+"/"+b.samba.Share, "-c", command)
			cmd.Dir = b.dir
			start := time.Now()
			if text, err := cmd.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("%w\n%s", err, text)
			}
			return figure(l.dir, fileBytes/time.Since(start).Seconds()), nil
		}}
}

// port is one that nobody listened on just now.
func port() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, p, err := net.SplitHostPort(l.Addr().String())
	return p, err
}

// beside runs a client with a server of the same program, which ends with it.
func beside(ctx context.Context, env []string, program string, server, client []string) ([]byte, error) {
	s := exec.CommandContext(ctx, program, server...)
	s.Env = append(s.Environ(), env...)
	s.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := s.Start(); err != nil {
		return nil, err
	}
	defer func() {
		_ = s.Process.Signal(syscall.SIGTERM)
		_ = s.Wait()
	}()
	var text []byte
	var err error
	for range 50 { // until it listens
		time.Sleep(100 * time.Millisecond)
		var out, log bytes.Buffer
		c := exec.CommandContext(ctx, program, client...)
		c.Env = append(c.Environ(), env...)
		c.Stdout, c.Stderr = &out, &log
		if err = c.Run(); err == nil {
			return out.Bytes(), nil
		}
		text = append(out.Bytes(), log.Bytes()...)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("%s %q: %w\n%s", program, client, err, text)
}

func (b *bench) iperf(ctx context.Context, _ *row) (*saved.Job, error) {
	p, err := port()
	if err != nil {
		return nil, err
	}
	text, err := beside(ctx, nil, "iperf3", []string{"-s", "-B", "127.0.0.1", "-p", p},
		[]string{"-c", "127.0.0.1", "-p", p, "-t", strconv.Itoa(b.seconds()), "-J"})
	if err != nil {
		return nil, err
	}
	var answer struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(text, &answer); err != nil || answer.End.Received.Rate <= 0 {
		return nil, fmt.Errorf("iperf3 answers without a rate: %w", err)
	}
	return figure(result.Read, answer.End.Received.Rate/8), nil
}

// addUCX adds ucx_perftest over TCP, which keeps many operations under way by itself.
func (b *bench) addUCX(l load, test string) {
	if !b.installed("ucx_perftest", "ucx-utils") {
		return
	}
	args := []string{"-t", test, "-s", "1048576", "-n", "2000"}
	b.add(&row{load: l.name, system: "no files: ucx_perftest over TCP, " + test, command: "UCX_TLS=tcp ucx_perftest HOST " + strings.Join(args, " "),
		measure: func(ctx context.Context, _ *row) (*saved.Job, error) {
			p, err := port()
			if err != nil {
				return nil, err
			}
			text, err := beside(ctx, []string{"UCX_TLS=tcp", "UCX_NET_DEVICES=lo"}, "ucx_perftest", []string{"-p", p},
				append([]string{"127.0.0.1", "-p", p, "-f"}, args...))
			if err != nil {
				return nil, err
			}
			for line := range strings.Lines(string(text)) {
				// Iterations, three latencies, the bandwidth at the end and of all in MiB/s, two rates.
				if f := strings.Fields(line); len(f) == 8 && f[0] == "2000" {
					if mib, err := strconv.ParseFloat(f[5], 64); err == nil {
						return figure(l.dir, mib*(1<<20)), nil
					}
				}
			}
			return nil, fmt.Errorf("ucx_perftest answers without a final line:\n%s", text)
		}})
}
