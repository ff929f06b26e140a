package verbs

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Config of a provider. The zero value is ready to use.
type Config struct {
	// Device is the name of the RDMA device to use, as "mlx5_0"; "" is the one
	// that owns the local address, and for an unspecified address the first one
	// with an active port.
	Device string
	// ResolveTimeout bounds the resolution of an address and that of a route,
	// each; 0 is 2 s. A shorter context wins.
	ResolveTimeout time.Duration
	// ConnectTimeout bounds the wait for the answer of the peer, and that of
	// Accept for its CompleteConnect; 0 is 30 s. A shorter context wins.
	ConnectTimeout time.Duration
	// DisconnectTimeout bounds the steps of the graceful end of a connection, that
	// the device sends what was posted and that the peer answers, each; 0 is 2 s.
	DisconnectTimeout time.Duration
	// Backlog is the number of requests that a listener keeps before they are
	// handed out; 0 is 128.
	Backlog int
	// Logger gets what fails in the device at level Warn or Error, its other
	// asynchronous events at Info, and those of a QP at Debug; nil discards them.
	Logger *slog.Logger
}

const (
	defaultResolveTimeout    = 2 * time.Second
	defaultConnectTimeout    = 30 * time.Second
	defaultDisconnectTimeout = 2 * time.Second
	defaultBacklog           = 128
	maxBacklog               = 65535
)

// withDefaults returns c with every zero replaced, or an error that names the
// field.
func (c Config) withDefaults() (Config, error) {
	for _, f := range []struct {
		name string
		v    *time.Duration
		def  time.Duration
	}{
		{"ResolveTimeout", &c.ResolveTimeout, defaultResolveTimeout},
		{"ConnectTimeout", &c.ConnectTimeout, defaultConnectTimeout},
		{"DisconnectTimeout", &c.DisconnectTimeout, defaultDisconnectTimeout},
	} {
		if *f.v < 0 {
			return c, fmt.Errorf("verbs: config %s is %v, want 0 or more", f.name, *f.v)
		}
		if *f.v == 0 {
			*f.v = f.def
		}
	}
	if c.Backlog < 0 || c.Backlog > maxBacklog {
		return c, fmt.Errorf("verbs: config Backlog is %d, want 0 to %d", c.Backlog, maxBacklog)
	}
	if c.Backlog == 0 {
		c.Backlog = defaultBacklog
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// DeviceInfo describes an RDMA device and what an adapter on it would report.
type DeviceInfo struct {
	Name          string          // as "mlx5_0"
	Driver        string          // vendor and part number, as "0x15b3:4119"
	Firmware      string          // as the device has it
	NetDevices    []string        // the network interfaces of its ports
	Addresses     []netip.Addr    // their addresses
	Active        bool            // a port is up
	MemoryWindows bool            // has windows of type 2; without them a fast registration is a system call
	Info          ndk.AdapterInfo // limits, flags, technology
}
