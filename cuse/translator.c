/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/if_tun.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>

#include <rte_bitops.h>
#include <rte_common.h>

#include "cuse/cuse.h"
#include "cuse/descriptor.h"
#include "cuse/memory.h"
#include "cuse/translator.h"
#include "guest/vhost_user.h"

/* vhost-net has two rings: 0 is the guest's receive ring, 1 its transmit ring. */
#define RINGS 2

/* librte_vhost answers as soon as its thread comes to it; a guest that leaves takes some grace. */
#define REPLY_TIMEOUT_S 10

/* Lines about refused calls that one open of the device may write to the log. */
#define COMPLAINTS_MAX 10

/*
 * Features that are not for these callers: what they would need messages for that there is no
 * ioctl of (protocol features, migration's dirty log, more queues), and packed rings, whose index
 * does not fit what VHOST_SET_VRING_BASE says of split ones.
 */
#define HIDDEN_FEATURES                                                                            \
	(RTE_BIT64(VHOST_USER_F_PROTOCOL_FEATURES) | RTE_BIT64(VHOST_F_LOG_ALL) |                  \
		RTE_BIT64(VIRTIO_NET_F_MQ) | RTE_BIT64(VIRTIO_F_RING_PACKED))

struct front_end {
	const char *path;
	int sock;
	uint64_t features;    /* that can be had */
	bool owned;	      /* VHOST_SET_OWNER was called */
	bool running[RINGS];  /* the ring has a backend */
	unsigned int complaints;
	pid_t process;	      /* of the call in hand */
	const char *why;      /* it was refused, where the errno does not say enough */
};

static int
send_message(const struct front_end *fe, struct vhost_user_message *m, const int *fds, int nb_fds)
{
	char control[CMSG_SPACE(MEMORY_PIECES_MAX * sizeof(int))] = { 0 };
	struct iovec iov = { .iov_base = m, .iov_len = VHOST_USER_HEADER + m->size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;
	ssize_t n;

	if (nb_fds > 0) {
		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE((size_t)nb_fds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN((size_t)nb_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, (size_t)nb_fds * sizeof(int));
	}
	do
		n = sendmsg(fe->sock, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)iov.iov_len ? 0 : -EIO;
}

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
exchange(const struct front_end *fe, struct vhost_user_message *m, const int *fds, int nb_fds)
{
	uint32_t request = m->request;
	int ret;

	m->flags |= VHOST_USER_VERSION;
	ret = send_message(fe, m, fds, nb_fds);
	if (ret == 0)
		ret = receive_all(fe->sock, m, VHOST_USER_HEADER);
	if (ret == 0 && (m->request != request || m->size > sizeof(m->payload)))
		ret = -EIO;
	if (ret == 0)
		ret = receive_all(fe->sock, &m->payload, m->size);
	return ret;
}

/* The same for a message that has no reply of its own, but an acknowledgement. */
static int
tell(struct front_end *fe, struct vhost_user_message *m, const int *fds, int nb_fds)
{
	int ret;

	m->flags = VHOST_USER_NEED_REPLY;
	ret = exchange(fe, m, fds, nb_fds);
	if (ret < 0)
		fe->why = "the connection to librte_vhost is broken";
	else if (m->payload.u64 != 0) {
		fe->why = "librte_vhost refused it, see its own lines";
		ret = -EINVAL;
	}
	return ret;
}

static int
tell_u64(struct front_end *fe, enum vhost_user_request request, uint64_t value)
{
	struct vhost_user_message m = { .request = request, .size = sizeof(m.payload.u64),
		.payload.u64 = value };

	return tell(fe, &m, NULL, 0);
}

static int
ask_u64(const struct front_end *fe, enum vhost_user_request request, uint64_t *value)
{
	struct vhost_user_message m = { .request = request };
	int ret = exchange(fe, &m, NULL, 0);

	*value = m.payload.u64;
	return ret;
}

static int
hang_up(struct front_end *fe, int error)
{
	if (fe->sock >= 0)
		close(fe->sock);
	fe->sock = -1;
	return error;
}

/* Begin a new life as a vhost-user front end. */
static int
call_up(struct front_end *fe)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct timeval timeout = { .tv_sec = REPLY_TIMEOUT_S };
	uint64_t protocol;

	fe->owned = false;
	memset(fe->running, 0, sizeof(fe->running));
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", fe->path);
	fe->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fe->sock < 0)
		return -errno;
	setsockopt(fe->sock, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fe->sock, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	if (connect(fe->sock, (struct sockaddr *)&un, sizeof(un)) < 0)
		return hang_up(fe, -errno);
	if (ask_u64(fe, VHOST_USER_GET_FEATURES, &fe->features) < 0 ||
			ask_u64(fe, VHOST_USER_GET_PROTOCOL_FEATURES, &protocol) < 0 ||
			!(protocol & RTE_BIT64(VHOST_USER_PROTOCOL_F_REPLY_ACK)) ||
			tell_u64(fe, VHOST_USER_SET_PROTOCOL_FEATURES,
				RTE_BIT64(VHOST_USER_PROTOCOL_F_REPLY_ACK)) < 0)
		return hang_up(fe, -EIO);
	fe->features &= ~HIDDEN_FEATURES;
	return 0;
}

int
front_end_create(const char *socket, struct front_end **fe)
{
	int ret;

	*fe = calloc(1, sizeof(**fe));
	if (*fe == NULL)
		return -ENOMEM;
	(*fe)->path = socket;
	ret = call_up(*fe);
	if (ret < 0) {
		free(*fe);
		*fe = NULL;
	}
	return ret;
}

void
front_end_destroy(struct front_end *fe)
{
	hang_up(fe, 0);
	free(fe);
}

/* The ioctls, one function each. in and out are as long as their commands say. */

static int
do_get_features(struct front_end *fe, const void *in, void *out)
{
	(void)in;
	*(uint64_t *)out = fe->features;
	return 0;
}

static int
do_set_features(struct front_end *fe, const void *in, void *out)
{
	uint64_t features = *(const uint64_t *)in;

	(void)out;
	if (features & ~fe->features)
		return -EOPNOTSUPP;
	/* With protocol features rings start disabled: VHOST_NET_SET_BACKEND enables them. */
	return tell_u64(fe, VHOST_USER_SET_FEATURES,
		features | RTE_BIT64(VHOST_USER_F_PROTOCOL_FEATURES));
}

/* Of the backend features (VHOST_BACKEND_F_IOTLB_MSG_V2 and the like) there are none. */
static int
do_get_backend_features(struct front_end *fe, const void *in, void *out)
{
	(void)fe;
	(void)in;
	*(uint64_t *)out = 0;
	return 0;
}

static int
do_set_backend_features(struct front_end *fe, const void *in, void *out)
{
	(void)fe;
	(void)out;
	return *(const uint64_t *)in == 0 ? 0 : -EOPNOTSUPP;
}

static int
do_set_owner(struct front_end *fe, const void *in, void *out)
{
	struct vhost_user_message m = { .request = VHOST_USER_SET_OWNER };
	int ret;

	(void)in;
	(void)out;
	if (fe->owned)
		return -EBUSY;
	ret = tell(fe, &m, NULL, 0);
	fe->owned = ret == 0;
	return ret;
}

/* librte_vhost forgets the protocol features here, so the front end begins anew instead. */
static int
do_reset_owner(struct front_end *fe, const void *in, void *out)
{
	(void)in;
	(void)out;
	hang_up(fe, 0);
	return call_up(fe);
}

static int
do_set_mem_table(struct front_end *fe, const void *in, void *out)
{
	struct vhost_user_message m = { .request = VHOST_USER_SET_MEM_TABLE };
	struct vhost_user_memory memory = { 0 };
	struct memory_piece pieces[MEMORY_PIECES_MAX];
	int fds[MEMORY_PIECES_MAX];
	int n, i, ret;

	(void)out;
	n = memory_take(fe->process, in, pieces, &fe->why);
	if (n < 0)
		return n;
	memory.nregions = (uint32_t)n;
	for (i = 0; i < n; i++) {
		memory.region[i].guest_address = pieces[i].guest_address;
		memory.region[i].size = pieces[i].size;
		memory.region[i].user_address = pieces[i].caller_address;
		memory.region[i].mmap_offset = pieces[i].offset;
		fds[i] = pieces[i].fd;
	}
	m.size = (uint32_t)(offsetof(struct vhost_user_memory, region) +
		(size_t)n * sizeof(memory.region[0]));
	m.payload.memory = memory;
	ret = tell(fe, &m, fds, n);
	memory_release(pieces, n);
	return ret;
}

static int
do_set_vring_addr(struct front_end *fe, const void *in, void *out)
{
	struct vhost_user_message m = { .request = VHOST_USER_SET_VRING_ADDR,
		.size = sizeof(m.payload.address) };

	(void)out;
	memcpy(&m.payload.address, in, sizeof(m.payload.address));
	return tell(fe, &m, NULL, 0);
}

static int
set_state(struct front_end *fe, enum vhost_user_request request, const void *in)
{
	struct vhost_user_message m = { .request = request, .size = sizeof(m.payload.state) };

	memcpy(&m.payload.state, in, sizeof(m.payload.state));
	/* The kernel takes neither while the ring is in use. */
	if (fe->running[m.payload.state.index])
		return -EBUSY;
	return tell(fe, &m, NULL, 0);
}

static int
do_set_vring_num(struct front_end *fe, const void *in, void *out)
{
	const struct vhost_vring_state *state = in;

	(void)out;
	/* virtio 1.1, 2.6: a power of two, at most 32768 */
	if (state->num == 0 || state->num > 32768 || (state->num & (state->num - 1)) != 0)
		return -EINVAL;
	return set_state(fe, VHOST_USER_SET_VRING_NUM, in);
}

static int
do_set_vring_base(struct front_end *fe, const void *in, void *out)
{
	(void)out;
	if (((const struct vhost_vring_state *)in)->num > UINT16_MAX)
		return -EINVAL;
	return set_state(fe, VHOST_USER_SET_VRING_BASE, in);
}

/* The guest is stopped before this returns. */
static int
do_get_vring_base(struct front_end *fe, const void *in, void *out)
{
	struct vhost_user_message m = { .request = VHOST_USER_GET_VRING_BASE,
		.size = sizeof(m.payload.state) };
	int ret;

	memcpy(&m.payload.state, in, sizeof(m.payload.state));
	ret = exchange(fe, &m, NULL, 0);
	if (ret < 0 || m.size != sizeof(m.payload.state)) {
		fe->why = "the connection to librte_vhost is broken";
		return -EIO;
	}
	memcpy(out, &m.payload.state, sizeof(m.payload.state));
	return 0;
}

/* KICK, CALL or ERR: an eventfd, or -1 for none. */
static int
set_eventfd(struct front_end *fe, enum vhost_user_request request, const void *in)
{
	const struct vhost_vring_file *file = in;
	struct vhost_user_message m = { .request = request, .size = sizeof(m.payload.u64),
		.payload.u64 = file->index };
	int fd, ret;

	if (file->fd == VHOST_FILE_UNBIND) {
		m.payload.u64 |= VHOST_USER_NO_FD;
		return tell(fe, &m, NULL, 0);
	}
	fd = descriptor_take(fe->process, file->fd);
	if (fd < 0)
		return fd;
	if (descriptor_is_eventfd(fd))
		ret = tell(fe, &m, &fd, 1);
	else {
		fe->why = "the descriptor is no eventfd";
		ret = -EINVAL;
	}
	close(fd);
	return ret;
}

static int
do_set_vring_kick(struct front_end *fe, const void *in, void *out)
{
	(void)out;
	return set_eventfd(fe, VHOST_USER_SET_VRING_KICK, in);
}

static int
do_set_vring_call(struct front_end *fe, const void *in, void *out)
{
	(void)out;
	return set_eventfd(fe, VHOST_USER_SET_VRING_CALL, in);
}

static int
do_set_vring_err(struct front_end *fe, const void *in, void *out)
{
	(void)out;
	return set_eventfd(fe, VHOST_USER_SET_VRING_ERR, in);
}

/*
 * The tap that the kernel would pass frames to. Here it gives the guest no more than a name, which
 * is how people know it: QEMU's ifname, or libvirt's <target dev=>.
 */
static int
name_guest(struct front_end *fe, int caller_fd)
{
	struct ifreq ifr = { 0 };
	int fd = descriptor_take(fe->process, caller_fd);

	if (fd < 0)
		return fd;
	if (ioctl(fd, TUNGETIFF, &ifr) < 0)
		snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "no tap");
	close(fd);
	RTE_LOG(INFO, CUSE, "process %d starts its guest (%.*s)\n", fe->process, IFNAMSIZ,
		ifr.ifr_name);
	return 0;
}

static int
do_net_set_backend(struct front_end *fe, const void *in, void *out)
{
	const struct vhost_vring_file *file = in;
	bool on = file->fd != VHOST_FILE_UNBIND;
	struct vhost_user_message m = { .request = VHOST_USER_SET_VRING_ENABLE,
		.size = sizeof(m.payload.state),
		.payload.state = { .index = file->index, .num = on } };
	int ret = 0;

	(void)out;
	if (on && file->index == 0)
		ret = name_guest(fe, file->fd);
	if (ret == 0)
		ret = tell(fe, &m, NULL, 0);
	if (ret == 0)
		fe->running[file->index] = on;
	return ret;
}

/*
 * The table of what is known. needs_owner as the kernel's vhost has it. With has_index the
 * argument begins with the index of a ring.
 */
static const struct translation {
	unsigned int cmd;
	const char *name;
	bool needs_owner, has_index;
	int (*run)(struct front_end *fe, const void *in, void *out);
} translations[] = {
	{ VHOST_GET_FEATURES, "VHOST_GET_FEATURES", false, false, do_get_features },
	{ VHOST_SET_FEATURES, "VHOST_SET_FEATURES", false, false, do_set_features },
	{ VHOST_GET_BACKEND_FEATURES, "VHOST_GET_BACKEND_FEATURES", false, false,
	  do_get_backend_features },
	{ VHOST_SET_BACKEND_FEATURES, "VHOST_SET_BACKEND_FEATURES", false, false,
	  do_set_backend_features },
	{ VHOST_SET_OWNER, "VHOST_SET_OWNER", false, false, do_set_owner },
	{ VHOST_RESET_OWNER, "VHOST_RESET_OWNER", true, false, do_reset_owner },
	{ VHOST_SET_MEM_TABLE, "VHOST_SET_MEM_TABLE", true, false, do_set_mem_table },
	{ VHOST_SET_VRING_NUM, "VHOST_SET_VRING_NUM", true, true, do_set_vring_num },
	{ VHOST_SET_VRING_BASE, "VHOST_SET_VRING_BASE", true, true, do_set_vring_base },
	{ VHOST_GET_VRING_BASE, "VHOST_GET_VRING_BASE", true, true, do_get_vring_base },
	{ VHOST_SET_VRING_ADDR, "VHOST_SET_VRING_ADDR", true, true, do_set_vring_addr },
	{ VHOST_SET_VRING_KICK, "VHOST_SET_VRING_KICK", true, true, do_set_vring_kick },
	{ VHOST_SET_VRING_CALL, "VHOST_SET_VRING_CALL", true, true, do_set_vring_call },
	{ VHOST_SET_VRING_ERR, "VHOST_SET_VRING_ERR", true, true, do_set_vring_err },
	{ VHOST_NET_SET_BACKEND, "VHOST_NET_SET_BACKEND", true, true, do_net_set_backend },
};

static const struct translation *
find_translation(unsigned int cmd)
{
	unsigned int i;

	for (i = 0; i < RTE_DIM(translations); i++) {
		if (translations[i].cmd == cmd)
			return &translations[i];
	}
	return NULL;
}

int
front_end_sizes(unsigned int cmd, size_t *in, size_t *out)
{
	if (find_translation(cmd) == NULL)
		return -ENOTTY;
	*in = _IOC_DIR(cmd) & _IOC_WRITE ? _IOC_SIZE(cmd) : 0;
	*out = _IOC_DIR(cmd) & _IOC_READ ? _IOC_SIZE(cmd) : 0;
	return 0;
}

static int
translate(struct front_end *fe, const struct translation *t, pid_t thread, const void *in,
	void *out)
{
	if (fe->sock < 0)
		return -EIO;
	fe->process = descriptor_process(thread);
	if (fe->process < 0) {
		fe->why = "the calling process is not to be seen from here";
		return fe->process;
	}
	if (t->needs_owner && !fe->owned)
		return -EPERM;
	if (t->has_index && *(const uint32_t *)in >= RINGS)
		return -ENOBUFS;
	return t->run(fe, in, out);
}

int
front_end_ioctl(struct front_end *fe, pid_t thread, unsigned int cmd, const void *in, void *out)
{
	const struct translation *t = find_translation(cmd);
	int ret;

	fe->why = NULL;
	ret = translate(fe, t, thread, in, out);
	if (ret == -EIO) /* what became of the message nobody knows: the guest is to go */
		hang_up(fe, 0);
	if (ret < 0 && fe->complaints++ < COMPLAINTS_MAX)
		RTE_LOG(WARNING, CUSE, "%s of thread %d refused: %s%s%s%s\n", t->name, thread,
			strerror(-ret), fe->why != NULL ? ", " : "",
			fe->why != NULL ? fe->why : "",
			fe->complaints == COMPLAINTS_MAX ? " (the last line about this guest)" : "");
	return ret;
}
