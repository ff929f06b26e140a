package transport

import "context"

// TryRegisterer is an optional part of an RDMA side whose registrations are
// limited in number, so that Register may wait for others to end. Who holds
// registrations already must not wait for more: two who do so, each for what the
// other holds, wait for ever.
type TryRegisterer interface {
	// TryRegister is Register, except that it returns nil and no error at once
	// where Register would wait for another registration to end.
	TryRegister(ctx context.Context, p []byte, a Access) (Registration, error)
}
