//go:build verbs && linux && cgo

#include "cm.h"
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* rc makes an errno value of what librdmacm returns: 0, -1 with errno, or an
   errno value of either sign. */
static int rc(int r)
{
	if (r == 0)
		return 0;
	if (r == -1)
		return errno ? errno : EIO;
	return r < 0 ? -r : r;
}

int cm_open(struct rdma_event_channel **out, int *poll_fd)
{
	struct rdma_event_channel *ch = CM(rdma_create_event_channel)();
	int flags, err;

	if (!ch)
		return errno ? errno : ENODEV;
	flags = fcntl(ch->fd, F_GETFL);
	if (flags < 0 || fcntl(ch->fd, F_SETFL, flags | O_NONBLOCK) < 0)
		goto fail;
	/* The same open file under a descriptor of the poller's own, which may
	   close it without the channel's being closed. */
	*poll_fd = fcntl(ch->fd, F_DUPFD_CLOEXEC, 3);
	if (*poll_fd < 0)
		goto fail;
	*out = ch;
	return 0;
fail:
	err = errno;
	CM(rdma_destroy_event_channel)(ch);
	return err;
}

void cm_close(struct rdma_event_channel *ch)
{
	CM(rdma_destroy_event_channel)(ch);
}

int cm_next(struct rdma_event_channel *ch, struct cm_event *out)
{
	struct rdma_cm_event *e;
	int err = rc(CM(rdma_get_cm_event)(ch, &e));

	if (err)
		return err;
	out->event = e->event;
	out->status = e->status;
	out->id = NULL;
	if (e->event == RDMA_CM_EVENT_CONNECT_REQUEST) {
		out->key = (uintptr_t)e->listen_id->context;
		out->id = e->id;
	} else {
		out->key = (uintptr_t)e->id->context;
	}
	out->responder_resources = e->param.conn.responder_resources;
	out->initiator_depth = e->param.conn.initiator_depth;
	out->private_len = 0;
	if (e->param.conn.private_data && e->param.conn.private_data_len) {
		out->private_len = e->param.conn.private_data_len;
		memcpy(out->private_data, e->param.conn.private_data, out->private_len);
	}
	CM(rdma_ack_cm_event)(e);
	return 0;
}

int cm_create(struct rdma_event_channel *ch, uint64_t key, struct rdma_cm_id **id)
{
	return rc(CM(rdma_create_id)(ch, id, (void *)(uintptr_t)key, RDMA_PS_TCP));
}

void cm_set_key(struct rdma_cm_id *id, uint64_t key)
{
	id->context = (void *)(uintptr_t)key;
}

int cm_destroy(struct rdma_cm_id *id)
{
	return rc(CM(rdma_destroy_id)(id));
}

int cm_share_addr(struct rdma_cm_id *id)
{
	int one = 1;

	return rc(CM(rdma_set_option)(id, RDMA_OPTION_ID, RDMA_OPTION_ID_REUSEADDR, &one, sizeof(one)));
}

int cm_own_family(struct rdma_cm_id *id)
{
	int one = 1;

	return rc(CM(rdma_set_option)(id, RDMA_OPTION_ID, RDMA_OPTION_ID_AFONLY, &one, sizeof(one)));
}

int cm_bind(struct rdma_cm_id *id, struct sockaddr_storage *a)
{
	return rc(CM(rdma_bind_addr)(id, (struct sockaddr *)a));
}

int cm_resolve_addr(struct rdma_cm_id *id, struct sockaddr_storage *dst, int timeout_ms)
{
	return rc(CM(rdma_resolve_addr)(id, NULL, (struct sockaddr *)dst, timeout_ms));
}

int cm_resolve_route(struct rdma_cm_id *id, int timeout_ms)
{
	return rc(CM(rdma_resolve_route)(id, timeout_ms));
}

static struct rdma_conn_param conn_param(struct cm_param *p)
{
	struct rdma_conn_param c;

	memset(&c, 0, sizeof(c));
	c.private_data = p->private_len ? p->private_data : NULL;
	c.private_data_len = p->private_len;
	c.responder_resources = p->responder_resources;
	c.initiator_depth = p->initiator_depth;
	c.retry_count = 7;
	/* Without end: a receiver that has no buffer yet is waited for. */
	c.rnr_retry_count = 7;
	c.srq = p->srq;
	c.qp_num = p->qp_num;
	return c;
}

int cm_connect(struct rdma_cm_id *id, struct cm_param *p)
{
	struct rdma_conn_param c = conn_param(p);

	return rc(CM(rdma_connect)(id, &c));
}

int cm_accept(struct rdma_cm_id *id, struct cm_param *p)
{
	struct rdma_conn_param c = conn_param(p);

	return rc(CM(rdma_accept)(id, &c));
}

int cm_establish(struct rdma_cm_id *id)
{
	return rc(CM(rdma_establish)(id));
}

int cm_reject(struct rdma_cm_id *id, uint8_t *data, uint8_t len)
{
	return rc(CM(rdma_reject)(id, len ? data : NULL, len));
}

int cm_disconnect(struct rdma_cm_id *id)
{
	return rc(CM(rdma_disconnect)(id));
}

int cm_notify_established(struct rdma_cm_id *id)
{
	return rc(CM(rdma_notify)(id, IBV_EVENT_COMM_EST));
}

int cm_listen(struct rdma_cm_id *id, int backlog)
{
	return rc(CM(rdma_listen)(id, backlog));
}

int cm_qp_attr(struct rdma_cm_id *id, int state, struct ibv_qp_attr *attr, int *mask)
{
	memset(attr, 0, sizeof(*attr));
	attr->qp_state = state;
	return rc(CM(rdma_init_qp_attr)(id, attr, mask));
}

void cm_addrs(struct rdma_cm_id *id, struct sockaddr_storage *local, struct sockaddr_storage *peer)
{
	memcpy(local, &id->route.addr.src_storage, sizeof(*local));
	memcpy(peer, &id->route.addr.dst_storage, sizeof(*peer));
}

const char *cm_device(struct rdma_cm_id *id)
{
	return id->verbs ? vs_device_name(id->verbs->device) : NULL;
}
