package main

import (
	"log/slog"
	"net"

	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
)

// fabric is what all RDMA connections of a command have in common: who is told of
// what.
type fabric struct {
	log     *slog.Logger
	tap     *iwarp.Tap             // nil: nobody can see the traffic
	onDeath func(*smbdirect.Death) // nil: nobody is told
	// inlineData is smbdirect.Config.InlineData.
	inlineData bool
	// inherited are sockets for iwarp that a service manager has handed over.
	inherited []*net.TCPListener
}

func (f fabric) direct() smbdirect.Config {
	return smbdirect.Config{Logger: f.log, OnDeath: f.onDeath, InlineData: f.inlineData}
}

func (f fabric) iwarp() iwarp.Config {
	return iwarp.Config{Logger: f.log, Tap: f.tap, Inherited: f.inherited}
}

// fabric is that of a client command.
func (a *app) fabric() fabric { return fabric{log: a.log, tap: a.tap} }
