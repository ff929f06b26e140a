package ndkhook_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"os"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/ndkhook"
)

// A trace of what a consumer does, and an audit that finds what it forgot.
func ExampleWrapProvider() {
	provider, err := iwarp.New(iwarp.Config{})
	if err != nil {
		log.Fatal(err)
	}
	p := ndkhook.WrapProvider(provider, ndkhook.Config{Name: "east", Audit: true, Trace: ndkhook.TraceTo(os.Stdout)})
	ctx := context.Background()
	a, err := p.Open(ctx, netip.Addr{}, ndk.Version12)
	if err != nil {
		log.Fatal(err)
	}
	if _, err = a.CreatePD(ctx); err != nil {
		log.Fatal(err)
	}
	for _, breach := range p.Audit() {
		fmt.Println(breach)
	}
	// Output:
	// east Open
	// east Open = Adapter 1
	// east Adapter 1 CreatePD
	// east Adapter 1 CreatePD = PD 1
	// east Adapter 1: never closed
	// east PD 1: never closed
}
