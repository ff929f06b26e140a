// Package report writes what a bench measured in fio's forms: the text for people, the
// semicolons of its terse form, and its JSON, which fio's own tools read.
//
// The JSON has fio's fields in fio's order, and beside them in each job "smbd_rdma" with
// what fio has no field for: the engine's negotiated facts, how bytes went, processor
// time per GiB of this process and the server, allocations, and the histograms in
// HdrHistogram's compressed form. Fields that have no meaning here (trims, the use of
// disks) are there and zero, or empty.
package report
