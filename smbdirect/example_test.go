package smbdirect_test

import (
	"context"
	"fmt"

	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
)

func Example() {
	ctx := context.Background()
	provider, err := iwarp.New(iwarp.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	l, err := smbdirect.Listen(ctx, provider, "iwarp", "127.0.0.1:0", smbdirect.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	go func() { // ends with the connection
		conn, err := l.Accept(ctx)
		if err != nil {
			return
		}
		defer conn.Close()
		m, err := conn.Receive(ctx)
		if err != nil {
			return
		}
		_ = conn.Send(ctx, &transport.Message{Parts: [][]byte{[]byte("you said "), m.Data}})
		m.Release()
		_, _ = conn.Receive(ctx) // until the other end closes
	}()

	d, err := smbdirect.NewDialer(provider, "iwarp", smbdirect.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	conn, err := d.Dial(ctx, l.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	if err := conn.Send(ctx, &transport.Message{Parts: [][]byte{[]byte("hello")}}); err != nil {
		fmt.Println(err)
		return
	}
	m, err := conn.Receive(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", m.Data)
	m.Release()
	// Output: you said hello
}
