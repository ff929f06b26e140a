//go:build !linux

package tcp

import (
	"errors"
	"net"
	"os"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

type (
	socket     struct{}
	rawSend    struct{}
	rawReceive struct{}
)

func (c *Conn) initRaw() {}

// LoadFile implements transport.FileLoader: files are read here.
func (c *Conn) LoadFile(*os.File, int64, int) (transport.Tail, error) { return nil, nil }

func (c *Conn) write(parts net.Buffers, tail transport.Tail) (int64, error) {
	if tail != nil {
		return 0, errors.ErrUnsupported
	}
	return writePlain(c.nc, parts)
}

func (c *Conn) read(p []byte) (int, error) { return c.nc.Read(p) }

func (c *Conn) readAhead() error { return c.readAheadPlain() }

// readPlaced is not called: there are no sockets that are used here.
func (c *Conn) readPlaced() error { return errors.ErrUnsupported }

func fillPipe(pipe *transport.Pipe, _ []byte) int {
	pipe.Over = true
	return 0
}
