//go:build verbs && linux && cgo

#define _GNU_SOURCE
#include "shim.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <stdio.h>

struct vs_table vs_table;

int vs_load(char *msg, size_t size)
{
	void *ibv = dlopen("libibverbs.so.1", RTLD_NOW | RTLD_GLOBAL);
	if (!ibv) {
		snprintf(msg, size, "libibverbs.so.1 not found: install libibverbs1 and librdmacm1");
		return ENOENT;
	}
	void *cm = dlopen("librdmacm.so.1", RTLD_NOW | RTLD_GLOBAL);
	if (!cm) {
		dlclose(ibv);
		snprintf(msg, size, "librdmacm.so.1 not found: install libibverbs1 and librdmacm1");
		return ENOENT;
	}
#define RESOLVE(lib, file, name) \
	if (!(vs_table.f_##name = (__typeof__(vs_table.f_##name))dlsym(lib, #name))) { \
		snprintf(msg, size, "%s has no %s: version 26 or later of rdma-core is needed", file, #name); \
		return ENOSYS; \
	}
#define RESOLVE_IBV(name) RESOLVE(ibv, "libibverbs.so.1", name)
#define RESOLVE_CM(name) RESOLVE(cm, "librdmacm.so.1", name)
	IBV_SYMBOLS(RESOLVE_IBV)
	CM_SYMBOLS(RESOLVE_CM)
	vs_table.query_qp_data_in_order = (__typeof__(vs_table.query_qp_data_in_order))dlsym(ibv, "ibv_query_qp_data_in_order");
	vs_table.query_port = (__typeof__(vs_table.query_port))dlsym(ibv, "ibv_query_port");
	return 0;
}

// failed gives the errno of a call that returned -1, or an errno itself.
static int failed(int rc)
{
	if (rc == 0)
		return 0;
	if (rc > 0)
		return rc;
	if (rc < -1)
		return -rc; // as some providers of libibverbs have it
	return errno ? errno : EIO;
}

struct ibv_device **vs_get_device_list(int *n) { return vs_table.f_ibv_get_device_list(n); }
void vs_free_device_list(struct ibv_device **list) { vs_table.f_ibv_free_device_list(list); }
const char *vs_device_name(struct ibv_device *d) { return vs_table.f_ibv_get_device_name(d); }

struct ibv_context *vs_open_device(struct ibv_device *d) { return vs_table.f_ibv_open_device(d); }
int vs_close_device(struct ibv_context *ctx) { return failed(vs_table.f_ibv_close_device(ctx)); }

int vs_query_device(struct ibv_context *ctx, struct ibv_device_attr_ex *attr)
{
	struct verbs_context *v = verbs_get_ctx_op(ctx, query_device_ex);
	memset(attr, 0, sizeof *attr);
	if (v) {
		int rc = v->query_device_ex(ctx, NULL, attr, sizeof *attr);
		if (rc != EOPNOTSUPP && rc != ENOSYS)
			return failed(rc);
	}
	memset(attr, 0, sizeof *attr);
	return failed(vs_table.f_ibv_query_device(ctx, &attr->orig_attr));
}

int vs_query_port(struct ibv_context *ctx, uint8_t port, struct ibv_port_attr *attr)
{
	struct verbs_context *v = verbs_get_ctx_op(ctx, query_port);
	memset(attr, 0, sizeof *attr);
	if (v)
		return failed(v->query_port(ctx, port, attr, sizeof *attr));
	return vs_table.query_port ? failed(vs_table.query_port(ctx, port, attr)) : EOPNOTSUPP;
}

int vs_query_gid(struct ibv_context *ctx, uint8_t port, uint32_t index, struct ibv_gid_entry *e)
{
	return failed(vs_table.f__ibv_query_gid_ex(ctx, port, index, e, 0, sizeof *e));
}

int vs_get_async_event(struct ibv_context *ctx, struct ibv_async_event *e) { return failed(vs_table.f_ibv_get_async_event(ctx, e)); }
void vs_ack_async_event(struct ibv_async_event *e) { vs_table.f_ibv_ack_async_event(e); }
const char *vs_event_type_str(enum ibv_event_type t) { return vs_table.f_ibv_event_type_str(t); }
const char *vs_wc_status_str(enum ibv_wc_status s) { return vs_table.f_ibv_wc_status_str(s); }

struct ibv_pd *vs_alloc_pd(struct ibv_context *ctx) { return vs_table.f_ibv_alloc_pd(ctx); }
int vs_dealloc_pd(struct ibv_pd *pd) { return failed(vs_table.f_ibv_dealloc_pd(pd)); }

struct ibv_mr *vs_reg_mr(struct ibv_pd *pd, uint64_t addr, uint64_t length, uint64_t iova, int access)
{
	void *p = (void *)(uintptr_t)addr;
	if (iova == addr)
		return (vs_table.f_ibv_reg_mr)(pd, p, length, access);
	return (vs_table.f_ibv_reg_mr_iova)(pd, p, length, iova, access);
}

int vs_dereg_mr(struct ibv_mr *mr) { return failed(vs_table.f_ibv_dereg_mr(mr)); }

struct ibv_mw *vs_alloc_mw2(struct ibv_pd *pd)
{
	if (!pd->context->ops.alloc_mw) {
		errno = EOPNOTSUPP;
		return NULL;
	}
	return ibv_alloc_mw(pd, IBV_MW_TYPE_2);
}

int vs_dealloc_mw(struct ibv_mw *mw) { return failed(ibv_dealloc_mw(mw)); }

struct ibv_comp_channel *vs_create_comp_channel(struct ibv_context *ctx) { return vs_table.f_ibv_create_comp_channel(ctx); }
int vs_destroy_comp_channel(struct ibv_comp_channel *c) { return failed(vs_table.f_ibv_destroy_comp_channel(c)); }

struct ibv_cq *vs_create_cq(struct ibv_context *ctx, int cqe, struct ibv_comp_channel *c)
{
	return vs_table.f_ibv_create_cq(ctx, cqe, NULL, c, 0);
}

int vs_destroy_cq(struct ibv_cq *cq) { return failed(vs_table.f_ibv_destroy_cq(cq)); }
int vs_resize_cq(struct ibv_cq *cq, int cqe) { return failed(vs_table.f_ibv_resize_cq(cq, cqe)); }

int vs_moderate_cq(struct ibv_cq *cq, uint16_t count, uint16_t period)
{
	struct ibv_modify_cq_attr attr = {
		.attr_mask = IBV_CQ_ATTR_MODERATE,
		.moderate = { .cq_count = count, .cq_period = period },
	};
	return failed(ibv_modify_cq(cq, &attr));
}

int vs_poll_cq(uintptr_t cq, int n, uintptr_t wcs)
{
	return ibv_poll_cq((struct ibv_cq *)cq, n, (struct ibv_wc *)wcs);
}

uint32_t vs_invalidated(struct ibv_wc *wc) { return wc->invalidated_rkey; }

int vs_req_notify_cq(uintptr_t cq, int solicited_only)
{
	return failed(ibv_req_notify_cq((struct ibv_cq *)cq, solicited_only));
}

int vs_get_cq_event(struct ibv_comp_channel *c)
{
	struct ibv_cq *cq;
	void *context;
	int rc = failed(vs_table.f_ibv_get_cq_event(c, &cq, &context));
	if (rc == 0)
		vs_table.f_ibv_ack_cq_events(cq, 1);
	return rc;
}

struct ibv_qp *vs_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *attr) { return vs_table.f_ibv_create_qp(pd, attr); }
int vs_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask) { return failed(vs_table.f_ibv_modify_qp(qp, attr, mask)); }

int vs_query_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask, struct ibv_qp_init_attr *init)
{
	return failed(vs_table.f_ibv_query_qp(qp, attr, mask, init));
}

int vs_destroy_qp(struct ibv_qp *qp) { return failed(vs_table.f_ibv_destroy_qp(qp)); }

int vs_in_order(struct ibv_qp *qp)
{
	return vs_table.query_qp_data_in_order ? vs_table.query_qp_data_in_order(qp, IBV_WR_RDMA_WRITE, 0) : 0;
}

int vs_post_sends(uintptr_t qp, uintptr_t sends, int n, int *taken)
{
	struct vs_send *s = (struct vs_send *)sends;
	for (int i = 0; i < n; i++) {
		struct ibv_send_wr *w = &s[i].wr;
		memset(w, 0, sizeof *w);
		w->wr_id = s[i].wr_id;
		w->next = i + 1 < n ? &s[i + 1].wr : NULL;
		w->sg_list = s[i].sges;
		w->num_sge = s[i].num_sge;
		w->opcode = s[i].opcode;
		w->send_flags = s[i].flags;
		switch (s[i].opcode) {
		case IBV_WR_RDMA_WRITE:
		case IBV_WR_RDMA_READ:
			w->wr.rdma.remote_addr = s[i].remote_addr;
			w->wr.rdma.rkey = s[i].rkey;
			break;
		case IBV_WR_SEND_WITH_INV:
			w->invalidate_rkey = s[i].rkey;
			w->wr.rdma.rkey = s[i].rkey; // where the provider of siw looks for it
			break;
		case IBV_WR_LOCAL_INV:
			w->invalidate_rkey = s[i].rkey;
			break;
		case IBV_WR_BIND_MW:
			w->bind_mw.mw = s[i].mw;
			w->bind_mw.rkey = s[i].rkey;
			w->bind_mw.bind_info.mr = s[i].mr;
			w->bind_mw.bind_info.addr = s[i].remote_addr;
			w->bind_mw.bind_info.length = s[i].length;
			w->bind_mw.bind_info.mw_access_flags = s[i].access;
			break;
		default:
			break;
		}
	}
	struct ibv_send_wr *bad = NULL;
	int rc = failed(ibv_post_send((struct ibv_qp *)qp, &s[0].wr, &bad));
	*taken = rc ? 0 : n;
	for (int i = 0; rc && bad && i < n; i++)
		if (bad == &s[i].wr)
			*taken = i;
	return rc;
}

int vs_post_recv(uintptr_t qp, uintptr_t srq, uint64_t wr_id, uintptr_t sges, int num_sge)
{
	struct ibv_recv_wr w = { .wr_id = wr_id, .sg_list = (struct ibv_sge *)sges, .num_sge = num_sge }, *bad = NULL;
	if (srq)
		return failed(ibv_post_srq_recv((struct ibv_srq *)srq, &w, &bad));
	return failed(ibv_post_recv((struct ibv_qp *)qp, &w, &bad));
}

int vs_error_state(struct ibv_qp *qp)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };
	return vs_modify_qp(qp, &attr, IBV_QP_STATE);
}

struct ibv_srq *vs_create_srq(struct ibv_pd *pd, struct ibv_srq_init_attr *attr) { return vs_table.f_ibv_create_srq(pd, attr); }
int vs_modify_srq(struct ibv_srq *srq, struct ibv_srq_attr *attr, int mask) { return failed(vs_table.f_ibv_modify_srq(srq, attr, mask)); }
int vs_destroy_srq(struct ibv_srq *srq) { return failed(vs_table.f_ibv_destroy_srq(srq)); }

int vs_device_of(struct sockaddr *addr, char *name, size_t size, uint8_t *port)
{
	struct rdma_cm_id *id;
	struct rdma_event_channel *ch = CM(rdma_create_event_channel)();
	if (!ch)
		return errno ? errno : ENODEV;
	int rc = failed(CM(rdma_create_id)(ch, &id, NULL, RDMA_PS_TCP));
	if (rc == 0) {
		rc = failed(CM(rdma_bind_addr)(id, addr));
		if (rc == 0 && !id->verbs)
			rc = ENODEV;
		if (rc == 0) {
			snprintf(name, size, "%s", vs_device_name(id->verbs->device));
			*port = id->port_num;
		}
		CM(rdma_destroy_id)(id);
	}
	CM(rdma_destroy_event_channel)(ch);
	return rc;
}
