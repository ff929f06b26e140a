package iwarp

import (
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// A responder that may send before it received does so, to an initiator that
// waits for that.
func TestSendBeforeReceive(t *testing.T) {
	client, server := pair(t, Config{}, Config{SendBeforeReceive: time.Millisecond}, 1<<16)
	must(t, client.qp.Receive("r", []ndk.SGE{client.sge(0, 64)}))
	must(t, server.qp.Send("s", []ndk.SGE{server.sge(0, 64)}, 0))
	if r := client.wait(); r.Status != ntstatus.Success || r.Bytes != 64 {
		t.Errorf("%v, %d bytes", r.Status, r.Bytes)
	}
	server.wait()
	// The initiator's first FPDU comes as it would have before.
	must(t, server.qp.Receive("r", nil))
	must(t, client.qp.Send("s", nil, 0))
	client.wait()
	server.wait()
	client.close()
	server.close()
}

// A connection that ends before its time takes the timer with it.
func TestSendBeforeReceiveEnds(t *testing.T) {
	client, server := pair(t, Config{}, Config{SendBeforeReceive: time.Hour}, 1<<16)
	must(t, server.qp.Send("s", nil, 0))
	client.close()
	server.close() // waits for whoever holds the QP
}
