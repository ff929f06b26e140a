package main

import (
	"context"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// rdma_client sends one message of 16 octets and rdma_server answers with one.
const rdmaMessage = 16

func newMessages(ctx context.Context, a ndk.Adapter, count, size int) (e *end, r region, err error) {
	if e, err = newEnd(ctx, a, max(count, 1)); err != nil {
		return e, r, err
	}
	if r, err = e.region(max(size, 1), ndk.MRAllowLocalWrite); err != nil {
		return e, r, err
	}
	for range count {
		if err = e.qp.Receive(nil, []ndk.SGE{r.sge(0, size)}); err != nil {
			return e, r, err
		}
	}
	return e, r, nil
}

func (e *end) sendAll(r region, count, size int) error {
	for range count {
		if err := e.qp.Send(nil, []ndk.SGE{r.sge(0, size)}, 0); err != nil {
			return err
		}
	}
	return e.await(&e.sent, count)
}

func rdmaServer(ctx context.Context, a ndk.Adapter, o options) error {
	l, got, err := listen(ctx, a, o)
	if err != nil {
		return err
	}
	defer l.Close()
	e, r, err := newMessages(ctx, a, 1, rdmaMessage)
	defer e.close()
	if err != nil {
		return err
	}
	if err := e.accept(got); err != nil {
		return err
	}
	if err := e.await(&e.received, 1); err != nil {
		return err
	}
	if err := e.sendAll(r, 1, rdmaMessage); err != nil {
		return err
	}
	return e.gone()
}

func rdmaClient(ctx context.Context, a ndk.Adapter, o options) error {
	e, r, err := newMessages(ctx, a, 1, rdmaMessage)
	defer e.close()
	if err != nil {
		return err
	}
	if err := e.connect(o.addr); err != nil {
		return err
	}
	if err := e.sendAll(r, 1, rdmaMessage); err != nil {
		return err
	}
	if err := e.await(&e.received, 1); err != nil {
		return err
	}
	return e.disconnect()
}

// ucmatose: the server sends first on every connection, then the client answers;
// the server disconnects.
func ucmatoseServer(ctx context.Context, a ndk.Adapter, o options) error {
	l, got, err := listen(ctx, a, o)
	if err != nil {
		return err
	}
	defer l.Close()
	var ends []*end
	var regions []region
	defer func() {
		for _, e := range ends {
			e.close()
		}
	}()
	for range o.connections {
		e, r, err := newMessages(ctx, a, o.count, o.size)
		ends, regions = append(ends, e), append(regions, r)
		if err != nil {
			return err
		}
		if err := e.accept(got); err != nil {
			return err
		}
	}
	for i, e := range ends {
		if err := e.sendAll(regions[i], o.count, o.size); err != nil {
			return err
		}
	}
	for _, e := range ends {
		if err := e.await(&e.received, o.count); err != nil {
			return err
		}
	}
	for _, e := range ends {
		if err := e.disconnect(); err != nil {
			return err
		}
	}
	return nil
}

func ucmatoseClient(ctx context.Context, a ndk.Adapter, o options) error {
	var ends []*end
	var regions []region
	defer func() {
		for _, e := range ends {
			e.close()
		}
	}()
	for range o.connections {
		e, r, err := newMessages(ctx, a, o.count, o.size)
		ends, regions = append(ends, e), append(regions, r)
		if err != nil {
			return err
		}
		if err := e.connect(o.addr); err != nil {
			return err
		}
	}
	for _, e := range ends {
		if err := e.await(&e.received, o.count); err != nil {
			return err
		}
	}
	for i, e := range ends {
		if err := e.sendAll(regions[i], o.count, o.size); err != nil {
			return err
		}
	}
	for _, e := range ends {
		if err := e.gone(); err != nil {
			return err
		}
	}
	return nil
}
