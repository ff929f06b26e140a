//go:build !linux

package tcp

import (
	"errors"
	"os"

	"github.com/smbd-rdma/smbd-rdma/transport"
)

type tailSend struct{}

func (c *Conn) initRaw() {}

// LoadFile implements transport.FileLoader: files are read here.
func (c *Conn) LoadFile(*os.File, int64, int) (transport.Tail, error) { return nil, nil }

func (c *Conn) sendTail([][]byte, transport.Tail) (int64, error) {
	return 0, errors.ErrUnsupported
}
