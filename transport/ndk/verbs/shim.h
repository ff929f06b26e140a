// What Go calls: rdma-core through a table of functions that vs_load fills by
// dlopen, so that the binary needs neither library to start. Functions return 0
// or an errno; those that make something return it, or NULL with errno set.
#ifndef SMBD_RDMA_VERBS_SHIM_H
#define SMBD_RDMA_VERBS_SHIM_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

// Only names with an address of their own are here; what verbs.h has as an inline
// function over the context's operations needs no symbol.
#define IBV_SYMBOLS(X) \
	X(ibv_get_device_list) X(ibv_free_device_list) X(ibv_get_device_name) X(ibv_open_device) X(ibv_close_device) \
	X(ibv_query_device) X(_ibv_query_gid_ex) X(ibv_get_async_event) X(ibv_ack_async_event) X(ibv_event_type_str) \
	X(ibv_wc_status_str) X(ibv_alloc_pd) X(ibv_dealloc_pd) X(ibv_reg_mr) X(ibv_reg_mr_iova) X(ibv_dereg_mr) \
	X(ibv_create_comp_channel) X(ibv_destroy_comp_channel) X(ibv_create_cq) X(ibv_destroy_cq) X(ibv_resize_cq) \
	X(ibv_get_cq_event) X(ibv_ack_cq_events) X(ibv_create_qp) X(ibv_modify_qp) X(ibv_query_qp) X(ibv_destroy_qp) \
	X(ibv_create_srq) X(ibv_modify_srq) X(ibv_destroy_srq)
#define CM_SYMBOLS(X) \
	X(rdma_create_event_channel) X(rdma_destroy_event_channel) X(rdma_create_id) X(rdma_destroy_id) X(rdma_migrate_id) \
	X(rdma_bind_addr) X(rdma_resolve_addr) X(rdma_resolve_route) X(rdma_connect) X(rdma_establish) X(rdma_listen) \
	X(rdma_accept) X(rdma_reject) X(rdma_notify) X(rdma_disconnect) X(rdma_get_cm_event) X(rdma_ack_cm_event) \
	X(rdma_set_option) X(rdma_init_qp_attr) X(rdma_get_src_port) X(rdma_get_dst_port) X(rdma_event_str) \
	X(rdma_get_devices) X(rdma_free_devices)

// The parentheses around a name keep it from being taken for the macro that some
// of them are as well.
#define VS_FIELD(name) __typeof__(&(name)) f_##name;
struct vs_table {
	IBV_SYMBOLS(VS_FIELD)
	CM_SYMBOLS(VS_FIELD)
	int (*query_qp_data_in_order)(struct ibv_qp *, enum ibv_wr_opcode, uint32_t); // newer than the rest; may be NULL
	int (*query_port)(struct ibv_context *, uint8_t, void *);
};
extern struct vs_table vs_table;
#undef VS_FIELD
#define CM(name) (vs_table.f_##name) // a function of librdmacm

// vs_load opens both libraries. On failure it writes one line to msg.
int vs_load(char *msg, size_t size);

// Devices, ports, contexts.
struct ibv_device **vs_get_device_list(int *n);
void vs_free_device_list(struct ibv_device **list);
const char *vs_device_name(struct ibv_device *d);
struct ibv_context *vs_open_device(struct ibv_device *d);
int vs_close_device(struct ibv_context *ctx);
int vs_query_device(struct ibv_context *ctx, struct ibv_device_attr_ex *attr);
int vs_query_port(struct ibv_context *ctx, uint8_t port, struct ibv_port_attr *attr);
int vs_query_gid(struct ibv_context *ctx, uint8_t port, uint32_t index, struct ibv_gid_entry *e);
int vs_get_async_event(struct ibv_context *ctx, struct ibv_async_event *e);
void vs_ack_async_event(struct ibv_async_event *e);
const char *vs_event_type_str(enum ibv_event_type t);
const char *vs_wc_status_str(enum ibv_wc_status s);

// Protection domains, regions, windows.
struct ibv_pd *vs_alloc_pd(struct ibv_context *ctx);
int vs_dealloc_pd(struct ibv_pd *pd);
struct ibv_mr *vs_reg_mr(struct ibv_pd *pd, uint64_t addr, uint64_t length, uint64_t iova, int access);
int vs_dereg_mr(struct ibv_mr *mr);
struct ibv_mw *vs_alloc_mw2(struct ibv_pd *pd);
int vs_dealloc_mw(struct ibv_mw *mw);

// Completion queues.
struct ibv_comp_channel *vs_create_comp_channel(struct ibv_context *ctx);
int vs_destroy_comp_channel(struct ibv_comp_channel *c);
struct ibv_cq *vs_create_cq(struct ibv_context *ctx, int cqe, struct ibv_comp_channel *c);
int vs_destroy_cq(struct ibv_cq *cq);
int vs_resize_cq(struct ibv_cq *cq, int cqe);
int vs_moderate_cq(struct ibv_cq *cq, uint16_t count, uint16_t period);
// vs_poll_cq fetches up to n completions: how many, or -1. Calls for each request
// take addresses of C memory as numbers, since the check of pointers that are
// passed costs as much as they do.
int vs_poll_cq(uintptr_t cq, int n, uintptr_t wcs);
uint32_t vs_invalidated(struct ibv_wc *wc); // the key that a message invalidated
int vs_req_notify_cq(uintptr_t cq, int solicited_only);
int vs_get_cq_event(struct ibv_comp_channel *c); // takes and acknowledges one event; EAGAIN without one

// Queue pairs and shared receive queues.
struct ibv_qp *vs_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *attr);
int vs_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask);
int vs_query_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask, struct ibv_qp_init_attr *init);
int vs_destroy_qp(struct ibv_qp *qp);
int vs_in_order(struct ibv_qp *qp); // nonzero: the data of a Write lands in order

// vs_send is one initiator request, without the unions that Go cannot see into.
struct vs_send {
	uint64_t wr_id;
	uint64_t remote_addr; // Bind: of the window
	uint64_t length;      // Bind: of the window
	struct ibv_mw *mw;    // Bind
	struct ibv_mr *mr;    // Bind
	struct ibv_sge *sges;
	uint32_t rkey;        // remote token; the one to invalidate; Bind: the new one
	uint32_t access;      // Bind
	uint32_t opcode, flags;
	int32_t num_sge;
	struct ibv_send_wr wr; // filled by vs_post_sends
};

// vs_post_sends posts n requests as one chain. taken is how many the device took.
int vs_post_sends(uintptr_t qp, uintptr_t sends, int n, int *taken);
// vs_post_recv posts one receive to a QP, or to an SRQ if that is not 0.
int vs_post_recv(uintptr_t qp, uintptr_t srq, uint64_t wr_id, uintptr_t sges, int num_sge);
// vs_error_state moves a QP to the error state.
int vs_error_state(struct ibv_qp *qp);
struct ibv_srq *vs_create_srq(struct ibv_pd *pd, struct ibv_srq_init_attr *attr);
int vs_modify_srq(struct ibv_srq *srq, struct ibv_srq_attr *attr, int mask);
int vs_destroy_srq(struct ibv_srq *srq);


// vs_device_of writes the name of the device that owns a local address, which
// must be a complete sockaddr, and its port.
int vs_device_of(struct sockaddr *addr, char *name, size_t size, uint8_t *port);

#endif
