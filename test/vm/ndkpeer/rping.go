package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// rping: for each round the client sends where its data is, the server reads it
// and says so; the client sends where the answer goes, the server writes it there
// and says so. The messages are address, key and length, big-endian.
const rpingMessage = 16

func putAdvert(b []byte, addr uint64, key ndk.Token, n int) {
	binary.BigEndian.PutUint64(b, addr)
	binary.BigEndian.PutUint32(b[8:], uint32(key))
	binary.BigEndian.PutUint32(b[12:], uint32(n))
}

func advert(b []byte) (addr uint64, key ndk.Token, n int) {
	return binary.BigEndian.Uint64(b), ndk.Token(binary.BigEndian.Uint32(b[8:])), int(binary.BigEndian.Uint32(b[12:]))
}

// rpingEnd has the messages in and out, and data that the peer can reach.
type rpingEnd struct {
	*end
	in, out, data region
}

func newRping(ctx context.Context, a ndk.Adapter, size int) (r rpingEnd, err error) {
	if r.end, err = newEnd(ctx, a, 16); err != nil {
		return r, err
	}
	if r.in, err = r.region(rpingMessage, ndk.MRAllowLocalWrite); err != nil {
		return r, err
	}
	if r.out, err = r.region(rpingMessage, 0); err != nil {
		return r, err
	}
	if r.data, err = r.region(size, ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite|ndk.MRRDMAReadSink); err != nil {
		return r, err
	}
	return r, r.receive()
}

func (r rpingEnd) receive() error { return r.qp.Receive(nil, []ndk.SGE{r.in.sge(0, rpingMessage)}) }

func (r rpingEnd) send() error {
	if err := r.qp.Send(nil, []ndk.SGE{r.out.sge(0, rpingMessage)}, 0); err != nil {
		return err
	}
	return r.await(&r.sent, 1)
}

// next waits for a message, copies it and posts the receive anew.
func (r rpingEnd) next() (msg [rpingMessage]byte, err error) {
	if err := r.await(&r.received, 1); err != nil {
		return msg, err
	}
	copy(msg[:], r.in.mem)
	return msg, r.receive()
}

func rpingServer(ctx context.Context, a ndk.Adapter, o options) error {
	l, got, err := listen(ctx, a, o)
	if err != nil {
		return err
	}
	defer l.Close()
	r, err := newRping(ctx, a, o.size)
	defer r.close()
	if err != nil {
		return err
	}
	if err := r.accept(got); err != nil {
		return err
	}
	for round := range o.count {
		if err := r.serveRound(o.size); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return r.gone()
}

func (r rpingEnd) serveRound(size int) error {
	msg, err := r.next()
	if err != nil {
		return err
	}
	addr, key, n := advert(msg[:])
	if n > size {
		return fmt.Errorf("the client offers %d octets, more than the -size %d", n, size)
	}
	if err := r.qp.Read(nil, []ndk.SGE{r.data.sge(0, n)}, addr, key, 0); err != nil {
		return err
	}
	if err := r.await(&r.read, 1); err != nil {
		return err
	}
	if !bytes.HasPrefix(r.data.mem, []byte("rdma-ping-")) {
		return fmt.Errorf("read %q", r.data.mem[:min(n, 20)])
	}
	if err := r.send(); err != nil {
		return err
	}
	if msg, err = r.next(); err != nil {
		return err
	}
	addr, key, _ = advert(msg[:])
	if err := r.qp.Write(nil, []ndk.SGE{r.data.sge(0, n)}, addr, key, 0); err != nil {
		return err
	}
	if err := r.await(&r.written, 1); err != nil {
		return err
	}
	return r.send()
}

func rpingClient(ctx context.Context, a ndk.Adapter, o options) error {
	r, err := newRping(ctx, a, o.size)
	defer r.close()
	if err != nil {
		return err
	}
	start, err := r.region(o.size, ndk.MRAllowRemoteRead)
	if err != nil {
		return err
	}
	if err := r.connect(o.addr); err != nil {
		return err
	}
	for round := range o.count {
		if err := r.askRound(start, round); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return r.disconnect()
}

func (r rpingEnd) askRound(start region, round int) error {
	n := len(start.mem)
	text := fmt.Appendf(nil, "rdma-ping-%d: ", round)
	for i := range start.mem {
		start.mem[i] = 'A' + byte((i+round)%58)
	}
	copy(start.mem, text)
	start.mem[n-1] = 0 // the server echoes up to it
	clear(r.data.mem)
	for i, target := range []region{start, r.data} {
		putAdvert(r.out.mem, target.mr.Base(), target.mr.RemoteToken(), n)
		if err := r.send(); err != nil {
			return err
		}
		if _, err := r.next(); err != nil {
			return fmt.Errorf("answer %d: %w", i+1, err)
		}
	}
	if !bytes.Equal(start.mem, r.data.mem) {
		return errors.New("what came back differs")
	}
	return nil
}
