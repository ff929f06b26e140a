package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// The parts of the NBD protocol (doc/proto.md of its project) that libnbd uses:
// the fixed newstyle handshake and simple replies.
const (
	magicServer  = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption  = 0x49484156454f5054 // "IHAVEOPT"
	magicAnswer  = 0x0003e889045565a9
	magicRequest = 0x25609513
	magicReply   = 0x67446698

	flagsHandshake = 1 | 2            // fixed newstyle, no zeroes
	flagsExport    = 1 | 4 | 8 | 1<<8 // has flags, FLUSH, FUA, several connections see one cache
	optExport      = 1
	optAbort       = 2
	optInfo        = 6
	optGo          = 7
	answerAck      = 1
	answerInfo     = 3
	answerUnsup    = 1<<31 | 1
	cmdRead        = 0
	cmdWrite       = 1
	cmdDisconnect  = 2
	cmdFlush       = 3
	cmdFlagFUA     = 1
	errnoIO        = 5
	errnoInvalid   = 22
	maxOption      = 4096
	maxRequest     = 32 << 20 // what the protocol lets a client assume
	requestsAtOnce = 64       // per connection
)

// backing is what an export is made of. All methods may be called at once.
type backing interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

var errProtocol = errors.New("nbd: the client breaks the protocol")

// serve speaks NBD on one connection until the client ends it, and closes it. It
// returns after the last request was answered.
func serve(conn net.Conn, b backing, size uint64) error {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 64<<10)
	if err := handshake(r, conn, size); err != nil {
		if errors.Is(err, errAborted) {
			return nil
		}
		return err
	}
	return transmit(r, conn, b, size)
}

var errAborted = errors.New("nbd: aborted by the client")

func handshake(r io.Reader, w io.Writer, size uint64) error {
	hello := binary.BigEndian.AppendUint64(nil, magicServer)
	hello = binary.BigEndian.AppendUint64(hello, magicOption)
	hello = binary.BigEndian.AppendUint16(hello, flagsHandshake)
	if _, err := w.Write(hello); err != nil {
		return err
	}
	var head [16]byte
	if _, err := io.ReadFull(r, head[:4]); err != nil {
		return err
	}
	noZeroes := binary.BigEndian.Uint32(head[:])&2 != 0
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		option, n := binary.BigEndian.Uint32(head[8:]), binary.BigEndian.Uint32(head[12:])
		if binary.BigEndian.Uint64(head[:]) != magicOption || n > maxOption {
			return fmt.Errorf("%w: option %d of %d bytes", errProtocol, option, n)
		}
		if _, err := io.CopyN(io.Discard, r, int64(n)); err != nil {
			return err
		}
		export := binary.BigEndian.AppendUint64(nil, size)
		export = binary.BigEndian.AppendUint16(export, flagsExport)
		var err error
		switch option {
		case optExport:
			if !noZeroes {
				export = append(export, make([]byte, 124)...)
			}
			_, err = w.Write(export)
			return err
		case optInfo, optGo:
			err = answer(w, option, answerInfo, append([]byte{0, 0}, export...))
			if err == nil {
				err = answer(w, option, answerAck, nil)
			}
			if option == optGo || err != nil {
				return err
			}
		case optAbort:
			_ = answer(w, option, answerAck, nil)
			return errAborted
		default:
			if err := answer(w, option, answerUnsup, nil); err != nil {
				return err
			}
		}
	}
}

func answer(w io.Writer, option, kind uint32, data []byte) error {
	m := binary.BigEndian.AppendUint64(nil, magicAnswer)
	m = binary.BigEndian.AppendUint32(m, option)
	m = binary.BigEndian.AppendUint32(m, kind)
	m = binary.BigEndian.AppendUint32(m, uint32(len(data)))
	_, err := w.Write(append(m, data...))
	return err
}

// transmit answers requests, each in its own goroutine, at most requestsAtOnce.
func transmit(r io.Reader, conn net.Conn, b backing, size uint64) error {
	var (
		wg      sync.WaitGroup
		writing sync.Mutex // one reply at a time on conn
		room    = make(chan struct{}, requestsAtOnce)
		head    [28]byte
	)
	defer wg.Wait()
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		flags, cmd := binary.BigEndian.Uint16(head[4:]), binary.BigEndian.Uint16(head[6:])
		cookie := binary.BigEndian.Uint64(head[8:])
		off, n := binary.BigEndian.Uint64(head[16:]), binary.BigEndian.Uint32(head[24:])
		if binary.BigEndian.Uint32(head[:]) != magicRequest || n > maxRequest {
			return fmt.Errorf("%w: request %d of %d bytes", errProtocol, cmd, n)
		}
		if cmd == cmdDisconnect {
			return nil
		}
		fits := off <= size && uint64(n) <= size-off
		buf := make([]byte, 0)
		if cmd == cmdRead && fits || cmd == cmdWrite {
			buf = make([]byte, n)
		}
		if cmd == cmdWrite {
			if _, err := io.ReadFull(r, buf); err != nil {
				return err
			}
		}
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			code := uint32(errnoInvalid)
			if fits {
				code = act(b, cmd, flags, buf, int64(off))
			}
			reply := binary.BigEndian.AppendUint32(make([]byte, 0, 16), magicReply)
			reply = binary.BigEndian.AppendUint32(reply, code)
			reply = binary.BigEndian.AppendUint64(reply, cookie)
			parts := net.Buffers{reply}
			if cmd == cmdRead && code == 0 {
				parts = append(parts, buf)
			}
			writing.Lock()
			defer writing.Unlock()
			_, _ = parts.WriteTo(conn) // a client that went away is seen by the reader
		})
	}
}

// act does one request and returns its error number.
func act(b backing, cmd, flags uint16, buf []byte, off int64) uint32 {
	var err error
	switch cmd {
	case cmdRead:
		var n int
		n, err = b.ReadAt(buf, off)
		if n == len(buf) {
			err = nil
		}
	case cmdWrite:
		if _, err = b.WriteAt(buf, off); err == nil && flags&cmdFlagFUA != 0 {
			err = b.Sync()
		}
	case cmdFlush:
		err = b.Sync()
	default:
		return errnoInvalid
	}
	if err != nil {
		return errnoIO
	}
	return 0
}
