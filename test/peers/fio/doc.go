// Package fio holds what `smbd-rdma bench` makes of job files against what fio makes of
// them. Its tests are built with -tags peers.
package fio
