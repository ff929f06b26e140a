package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// notifier tells systemd how the service is, sd_notify(3). The zero value tells nobody.
type notifier struct{ socket string }

// newNotifier takes the socket from the environment, which programs that we might start
// are not to inherit.
func newNotifier() notifier {
	s := os.Getenv("NOTIFY_SOCKET")
	os.Unsetenv("NOTIFY_SOCKET")
	return notifier{s}
}

// notify sends lines "NAME=VALUE".
func (n notifier) notify(lines ...string) error {
	if n.socket == "" {
		return nil
	}
	name := n.socket
	if name[0] == '@' { // in the abstract namespace
		name = "\x00" + name[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	defer c.Close()
	_, err = c.Write([]byte(strings.Join(lines, "\n")))
	return err
}

// reloading says that the configuration is being read again, which Type=notify-reload
// waits for READY=1 after.
func (n notifier) reloading() error {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return err
	}
	return n.notify("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", ts.Nano()/1000))
}

// watchdogInterval is how often systemd wants to hear from us: half of what it waits;
// 0 if it does not.
func watchdogInterval() time.Duration {
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 || usec > int64(time.Hour/time.Microsecond)*24 {
		return 0
	}
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	return time.Duration(usec) * time.Microsecond / 2
}

// firstInherited is the first descriptor that is handed over, SD_LISTEN_FDS_START.
const firstInherited = 3

// inheritedSockets are the sockets that systemd has opened for us, by the names that
// FileDescriptorName= gives them: tcp for SMB over TCP, iwarp for SMB Direct, http.
func inheritedSockets() (map[string][]*net.TCPListener, error) {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, v := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(v)
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil // not for us
	}
	n, err := strconv.ParseUint(count, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("LISTEN_FDS: %w", err)
	}
	out := map[string][]*net.TCPListener{}
	list := strings.Split(names, ":")
	for i := range int(n) {
		name := "tcp"
		if i < len(list) && list[i] != "" {
			name = list[i]
		}
		f := os.NewFile(uintptr(firstInherited+i), name)
		l, err := inheritedSocket(f)
		if err == nil && name != "tcp" && name != "iwarp" && name != "http" {
			err = errors.New("the name (FileDescriptorName=) is not tcp, iwarp or http")
		}
		if err != nil {
			return nil, fmt.Errorf("inherited socket %d, %q: %w", i, name, err)
		}
		out[name] = append(out[name], l)
	}
	return out, nil
}

func inheritedSocket(f *os.File) (*net.TCPListener, error) {
	defer f.Close() // FileListener has a copy
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	t, ok := l.(*net.TCPListener)
	if !ok {
		l.Close()
		return nil, errors.New("not a TCP socket")
	}
	return t, nil
}
