package main

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bareRows are the rows that a bare loop of system calls can be held against: it knows no
// protocol, no names and no users, so that no file server can be expected to pass it by
// much on one connection.
var bareRows = []struct {
	row      string
	write    bool
	inFlight int
}{
	{rows[0].name, false, 1},
	{rows[1].name, false, 8},
	{rows[2].name, true, 1},
	{rows[3].name, true, 8},
}

// serveBare answers on one connection after the other, until it is killed: each byte 'r'
// by the next MiB of the file, with sendfile(2); a byte 'w' makes everything after it data
// for the file, of which each MiB is answered by a byte when it has been written.
func serveBare(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	if err := unix.Listen(l, 1); err != nil {
		return err
	}
	sa, err := unix.Getsockname(l)
	if err != nil {
		return err
	}
	a := sa.(*unix.SockaddrInet4)
	fmt.Println(netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)))
	p := make([]byte, block)
	for {
		c, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
		if err != nil {
			return err
		}
		if err := unix.SetsockoptInt(c, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return err
		}
		serveBareConn(c, int(f.Fd()), p) // its end is the client's
		unix.Close(c)
	}
}

func serveBareConn(c, f int, p []byte) {
	var off int64
	for {
		if n, _, err := unix.Recvfrom(c, p[:1], 0); n != 1 || err != nil {
			return
		}
		for write := p[0] == 'w'; write; off = (off + block) % bigSize {
			if err := receive(c, p); err != nil {
				return
			}
			if n, err := unix.Pwrite(f, p, off); n != len(p) || err != nil {
				return
			}
			if _, err := unix.Write(c, p[:1]); err != nil {
				return
			}
		}
		for left := block; left > 0; {
			n, err := unix.Sendfile(c, f, &off, left)
			if err == unix.EINTR {
				continue
			} else if n <= 0 || err != nil {
				return
			}
			left -= n
		}
		off %= bigSize
	}
}

// receive fills p. A signal to the thread, as the runtime sends them, makes a call end early.
func receive(c int, p []byte) error {
	for len(p) > 0 {
		n, _, err := unix.Recvfrom(c, p, unix.MSG_WAITALL)
		if err == unix.EINTR {
			continue
		} else if err != nil {
			return err
		} else if n == 0 {
			return syscall.ECONNRESET
		}
		p = p[n:]
	}
	return nil
}

// bare is a process of serveBare.
type bare struct {
	cmd  *exec.Cmd
	addr netip.AddrPort
}

func startBare(file string) (*bare, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-serve-bare", file)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b := &bare{cmd: cmd}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		b.addr, err = netip.ParseAddrPort(strings.TrimSpace(line))
	}
	if err != nil {
		b.stop()
		return nil, fmt.Errorf("bare: %w", err)
	}
	return b, nil
}

func (b *bare) stop() {
	b.cmd.Process.Kill()
	b.cmd.Wait()
}

// measure moves data for so long and returns MB/s and what it cost the serving process
// in seconds per GiB, which it learns when that has ended: b is used up.
func (b *bare) measure(write bool, inFlight int, length time.Duration) (sample, error) {
	defer b.stop()
	c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return sample{}, err
	}
	defer unix.Close(c)
	if err := unix.SetsockoptInt(c, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return sample{}, err
	}
	if err := unix.Connect(c, &unix.SockaddrInet4{Addr: b.addr.Addr().As4(), Port: int(b.addr.Port())}); err != nil {
		return sample{}, err
	}
	bufs := make([][]byte, inFlight)
	for i := range bufs {
		bufs[i] = make([]byte, block)
		for j := range bufs[i] {
			bufs[i][j] = byte(j)
		}
	}
	send := func(p []byte) error {
		for len(p) > 0 {
			n, err := unix.Write(c, p)
			if err == unix.EINTR {
				continue
			} else if err != nil {
				return err
			}
			p = p[n:]
		}
		return nil
	}
	began := time.Now()
	n := 0
	if write {
		err = send([]byte{'w'})
		var ack [1]byte
		for sent := 0; err == nil && time.Since(began) < length; n++ {
			for ; err == nil && sent < n+inFlight; sent++ {
				err = send(bufs[sent%inFlight])
			}
			if err == nil {
				err = receive(c, ack[:])
			}
		}
	} else {
		for range inFlight - 1 {
			if err == nil {
				err = send([]byte{'r'})
			}
		}
		for ; err == nil && time.Since(began) < length; n++ {
			if err = send([]byte{'r'}); err == nil {
				err = receive(c, bufs[n%inFlight])
			}
		}
	}
	took := time.Since(began).Seconds()
	if err != nil {
		return sample{}, fmt.Errorf("bare: %w", err)
	}
	b.stop()
	used := b.cmd.ProcessState.SystemTime() + b.cmd.ProcessState.UserTime()
	moved := float64(n) * block
	return sample{rate: moved / took * 1e-6, cpu: used.Seconds() / moved * (1 << 30)}, nil
}

// bareName is the bare loop's name among the samples.
const bareName = "bare loop"

// measureBare measures a new process of the bare loop on a file of its own in dir.
func measureBare(dir string, write bool, inFlight int, length time.Duration) (sample, error) {
	name := filepath.Join(dir, "bare")
	if _, err := os.Stat(name); err != nil {
		if err := fill(name); err != nil {
			return sample{}, err
		}
	}
	b, err := startBare(name)
	if err != nil {
		return sample{}, err
	}
	return b.measure(write, inFlight, length)
}

// fill makes a file of bigSize.
func fill(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	p := make([]byte, block)
	for i := range p {
		p[i] = byte(i)
	}
	for range bigSize / block {
		if _, err := f.Write(p); err != nil {
			return err
		}
	}
	return f.Close()
}

// renderBare says what the bare loop made of the rows that it has.
func renderBare(got map[string]map[string][]sample) string {
	var b strings.Builder
	for _, l := range bareRows {
		s, own := got[l.row][bareName], got[l.row][kinds[0].Name]
		if s == nil || own == nil {
			continue
		}
		if b.Len() == 0 {
			b.WriteString(`
A bare loop, which knows no protocol, no names and no users, shows what one connection of
this machine carries: reads are sendfile(2) of the same amount from the page cache into the
socket at the word of the other end, writes recv(2) and pwrite(2).

| row | bare loop, MB/s | smbd-rdma of it | CPU bare loop, s/GiB | CPU smbd-rdma of it |
| --- | ---: | ---: | ---: | ---: |
`)
		}
		fmt.Fprintf(&b, "| %s | %.0f | %.2f | %.3f | %.2f |\n", l.row, median(s, rate), median(own, rate)/median(s, rate),
			median(s, cost), median(own, cost)/median(s, cost))
	}
	return b.String()
}
