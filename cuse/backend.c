/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>

#include <rte_bitops.h>

#include "cuse/backend.h"
#include "vhost/fds.h"

/* librte_vhost answers as soon as its thread comes to it; a guest that leaves takes some grace. */
#define REPLY_TIMEOUT_S 10

/*
 * Features that are not for these callers: what they would need messages for that there is no
 * ioctl of (protocol features, migration's dirty log, more queues), and packed rings, whose index
 * does not fit what VHOST_SET_VRING_BASE says of split ones.
 */
#define HIDDEN_FEATURES                                                                            \
	(RTE_BIT64(VHOST_USER_F_PROTOCOL_FEATURES) | RTE_BIT64(VHOST_F_LOG_ALL) |                  \
		RTE_BIT64(VIRTIO_NET_F_MQ) | RTE_BIT64(VIRTIO_F_RING_PACKED))

static int
receive_all(int sock, void *to, size_t len)
{
	ssize_t n;

	do
		n = recv(sock, to, len, MSG_WAITALL);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)len ? 0 : -EIO;
}

/*
 * Send a message of which request, size and payload are set, and wait for its reply, which is left
 * in m.
 */
static int
exchange(const struct translator *t, struct vhost_user_message *m, const int *fds, int nb_fds)
{
	uint32_t request = m->request;
	int ret;

	m->flags |= VHOST_USER_VERSION;
	ret = fds_send(t->sock, m, VHOST_USER_HEADER + m->size, fds, nb_fds, 0);
	if (ret == 0)
		ret = receive_all(t->sock, m, VHOST_USER_HEADER);
	if (ret == 0 && (m->request != request || m->size > sizeof(m->payload)))
		ret = -EIO;
	if (ret == 0)
		ret = receive_all(t->sock, &m->payload, m->size);
	return ret;
}

/* The same for a message that has no reply of its own, but an acknowledgement. */
int
backend_send(struct translator *t, struct vhost_user_message *m, const int *fds, int nb_fds)
{
	int ret;

	m->flags = VHOST_USER_NEED_REPLY;
	ret = exchange(t, m, fds, nb_fds);
	if (ret < 0)
		t->why = "the connection to librte_vhost is broken";
	else if (m->payload.u64 != 0) {
		t->why = "librte_vhost refused it, see its own lines";
		ret = -EINVAL;
	}
	return ret;
}

int
backend_send_u64(struct translator *t, enum vhost_user_request request, uint64_t value)
{
	struct vhost_user_message m = { .request = request, .size = sizeof(m.payload.u64),
		.payload.u64 = value };

	return backend_send(t, &m, NULL, 0);
}

static int
ask_u64(const struct translator *t, enum vhost_user_request request, uint64_t *value)
{
	struct vhost_user_message m = { .request = request };
	int ret = exchange(t, &m, NULL, 0);

	*value = m.payload.u64;
	return ret;
}

int
backend_hang_up(struct translator *t, int error)
{
	if (t->sock >= 0)
		close(t->sock);
	t->sock = -1;
	return error;
}

/* Replace a descriptor that is kept. */
void
replace_descriptor(int *stored, int fd)
{
	if (*stored >= 0)
		close(*stored);
	*stored = fd;
}

/* Forget all that the client said. */
void
backend_forget(struct translator *t)
{
	unsigned int i;

	t->owner = 0;
	t->negotiated = 0;
	t->nb_regions = 0;
	for (i = 0; i < RINGS; i++) {
		replace_descriptor(&t->rings[i].kick, -1);
		replace_descriptor(&t->rings[i].call, -1);
		t->rings[i] = (struct ring){ .num = 1, .kick = -1, .call = -1 };
	}
}

/* Begin a new life as a vhost-user front end. */
int
backend_connect(struct translator *t)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct timeval timeout = { .tv_sec = REPLY_TIMEOUT_S };
	uint64_t protocol;

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", t->path);
	t->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (t->sock < 0)
		return -errno;
	setsockopt(t->sock, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(t->sock, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	if (connect(t->sock, (struct sockaddr *)&un, sizeof(un)) < 0)
		return backend_hang_up(t, -errno);
	if (ask_u64(t, VHOST_USER_GET_FEATURES, &t->features) < 0 ||
			ask_u64(t, VHOST_USER_GET_PROTOCOL_FEATURES, &protocol) < 0 ||
			!(protocol & RTE_BIT64(VHOST_USER_PROTOCOL_F_REPLY_ACK)) ||
			backend_send_u64(t, VHOST_USER_SET_PROTOCOL_FEATURES,
				RTE_BIT64(VHOST_USER_PROTOCOL_F_REPLY_ACK)) < 0)
		return backend_hang_up(t, -EIO);
	t->features &= ~HIDDEN_FEATURES;
	return 0;
}

static int
send_state(struct translator *t, enum vhost_user_request request, unsigned int i, uint32_t value)
{
	struct vhost_user_message m = { .request = request, .size = sizeof(m.payload.state),
		.payload.state = { .index = i, .num = value } };

	return backend_send(t, &m, NULL, 0);
}

int
backend_send_address(struct translator *t, unsigned int i)
{
	struct vhost_user_message m = { .request = VHOST_USER_SET_VRING_ADDR,
		.size = sizeof(m.payload.address), .payload.address = t->rings[i].addr };

	/* Nothing is logged, since VHOST_F_LOG_ALL is not offered. */
	m.payload.address.index = i;
	m.payload.address.flags = 0;
	m.payload.address.log_guest_addr = 0;
	return backend_send(t, &m, NULL, 0);
}

int
backend_send_eventfd(struct translator *t, enum vhost_user_request request, unsigned int i, int fd)
{
	struct vhost_user_message m = { .request = request, .size = sizeof(m.payload.u64),
		.payload.u64 = fd < 0 ? i | VHOST_USER_NO_FD : i };

	return backend_send(t, &m, &fd, fd < 0 ? 0 : 1);
}

/* Whether an area of the client lies in one region of guest memory. */
static bool
is_in_memory(const struct translator *t, uint64_t address, uint64_t size)
{
	const struct memory_region *p;

	for (p = t->regions; p < t->regions + t->nb_regions; p++) {
		if (address >= p->caller_address && address - p->caller_address <= p->size &&
				size <= p->size - (address - p->caller_address))
			return true;
	}
	return false;
}

/* Whether a ring of these addresses can be reached; virtio 1.1, 2.6 has the sizes of its parts. */
bool
backend_is_reachable(struct translator *t, unsigned int i, const struct vhost_vring_addr *addr)
{
	uint64_t event = t->negotiated & RTE_BIT64(VIRTIO_RING_F_EVENT_IDX) ? 2 : 0;
	uint64_t num = t->rings[i].num;

	if (is_in_memory(t, addr->desc_user_addr, num * 16) &&
			is_in_memory(t, addr->avail_user_addr, 4 + num * 2 + event) &&
			is_in_memory(t, addr->used_user_addr, 4 + num * 8 + event))
		return true;
	t->why = "the ring is not in guest memory";
	return false;
}

/* Take a ring away from librte_vhost, and remember where it has come to. The device stops. */
int
backend_detach(struct translator *t, unsigned int i)
{
	struct vhost_user_message m = { .request = VHOST_USER_GET_VRING_BASE,
		.size = sizeof(m.payload.state), .payload.state.index = i };
	struct ring *r = &t->rings[i];

	if (!r->attached)
		return 0;
	if (exchange(t, &m, NULL, 0) < 0 || m.size != sizeof(m.payload.state)) {
		t->why = "the connection to librte_vhost is broken";
		return -EIO;
	}
	r->base = m.payload.state.num & UINT16_MAX;
	r->attached = false;
	return send_state(t, VHOST_USER_SET_VRING_ENABLE, i, 0);
}

/* Give a ring to librte_vhost. In this order; the kick makes it look where the ring is. */
static int
attach(struct translator *t, unsigned int i)
{
	struct ring *r = &t->rings[i];
	int ret;

	if (r->attached || t->nb_regions == 0)
		return 0; /* guest memory is yet to come */
	ret = send_state(t, VHOST_USER_SET_VRING_NUM, i, r->num);
	if (ret == 0)
		ret = send_state(t, VHOST_USER_SET_VRING_BASE, i, r->base);
	if (ret == 0)
		ret = backend_send_address(t, i);
	if (ret == 0)
		ret = backend_send_eventfd(t, VHOST_USER_SET_VRING_CALL, i, r->call);
	if (ret == 0)
		ret = backend_send_eventfd(t, VHOST_USER_SET_VRING_KICK, i, r->kick);
	r->attached = ret == 0;
	return ret;
}

/* Let a ring run, or rest. */
int
backend_enable(struct translator *t, unsigned int i, bool on)
{
	int ret = on ? attach(t, i) : 0;

	if (ret == 0 && t->rings[i].attached)
		ret = send_state(t, VHOST_USER_SET_VRING_ENABLE, i, on);
	return ret;
}

/* Take all rings away for a change that librte_vhost refuses while it has them. */
int
backend_detach_all(struct translator *t)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < RINGS && ret == 0; i++)
		ret = backend_detach(t, i);
	return ret;
}

/* And go on with those that have a backend. */
int
backend_resume(struct translator *t)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < RINGS && ret == 0; i++) {
		if (t->rings[i].running && !t->rings[i].attached)
			ret = backend_enable(t, i, true);
	}
	return ret;
}
