package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// serveHTTP serves /metrics, of c and of this process, and /healthz, which says what
// healthy does, on addr or the sockets that were handed over, if there is one, until the
// function it returns is called. With profiles it serves those of net/http/pprof, too.
func (a *app) serveHTTP(addr string, sockets []*net.TCPListener, c prometheus.Collector, healthy func(context.Context) error, profiles bool) (stop func(), err error) {
	var listeners []net.Listener
	for _, l := range sockets {
		listeners = append(listeners, l)
	}
	if len(listeners) == 0 {
		if addr == "" {
			if profiles {
				return nil, usagef("--pprof: the profiles are served on the address of --http, which is not given")
			}
			return func() {}, nil
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("--http %s: %w", addr, err)
		}
		listeners = append(listeners, l)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), c)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if err := healthy(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	if profiles {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	h := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	var serving sync.WaitGroup
	for _, l := range listeners {
		serving.Go(func() { // ended by Shutdown in stop, which waits for it
			if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				a.log.Error("http", "err", err)
			}
		})
		fmt.Fprintf(a.stdout, "listening on http://%s\n", l.Addr())
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if h.Shutdown(ctx) != nil {
			h.Close()
		}
		serving.Wait()
	}, nil
}
