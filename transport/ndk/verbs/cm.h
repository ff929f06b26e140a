#ifndef VERBS_CM_H
#define VERBS_CM_H

#include <rdma/rdma_cma.h>
#include <stdint.h>
#include <sys/socket.h>

/*
 * What the connection manager says, without a pointer into its memory, so that
 * it is acknowledged before anybody looks at it. key is the context of the id,
 * or for a request that of the listener's; id is set for a request only.
 */
struct cm_event {
	uint64_t key;
	struct rdma_cm_id *id;
	int32_t event;
	int32_t status;
	uint8_t responder_resources;
	uint8_t initiator_depth;
	uint8_t private_len;
	uint8_t private_data[256];
};

struct cm_param {
	uint32_t qp_num;
	uint8_t responder_resources;
	uint8_t initiator_depth;
	uint8_t srq;
	uint8_t private_len;
	uint8_t private_data[256];
};

/* All return 0 or an errno value. */
int cm_open(struct rdma_event_channel **ch, int *poll_fd);
void cm_close(struct rdma_event_channel *ch);
int cm_next(struct rdma_event_channel *ch, struct cm_event *out);
int cm_create(struct rdma_event_channel *ch, uint64_t key, struct rdma_cm_id **id);
void cm_set_key(struct rdma_cm_id *id, uint64_t key);
int cm_destroy(struct rdma_cm_id *id);
int cm_share_addr(struct rdma_cm_id *id);
int cm_own_family(struct rdma_cm_id *id);
int cm_bind(struct rdma_cm_id *id, struct sockaddr_storage *a);
int cm_resolve_addr(struct rdma_cm_id *id, struct sockaddr_storage *dst, int timeout_ms);
int cm_resolve_route(struct rdma_cm_id *id, int timeout_ms);
int cm_connect(struct rdma_cm_id *id, struct cm_param *p);
int cm_accept(struct rdma_cm_id *id, struct cm_param *p);
int cm_establish(struct rdma_cm_id *id);
int cm_reject(struct rdma_cm_id *id, uint8_t *data, uint8_t len);
int cm_disconnect(struct rdma_cm_id *id);
int cm_notify_established(struct rdma_cm_id *id);
int cm_listen(struct rdma_cm_id *id, int backlog);
int cm_qp_attr(struct rdma_cm_id *id, int state, struct ibv_qp_attr *attr, int *mask);
void cm_addrs(struct rdma_cm_id *id, struct sockaddr_storage *local, struct sockaddr_storage *peer);
/* cm_device is the name of the device that the id is bound to, or NULL. */
const char *cm_device(struct rdma_cm_id *id);

#endif
