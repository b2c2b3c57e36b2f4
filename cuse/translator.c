/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/if_tun.h>
#include <linux/vhost.h>
#include <linux/virtio_net.h>

#include <rte_bitops.h>
#include <rte_common.h>

#include "cuse/backend.h"
#include "cuse/cuse.h"
#include "cuse/descriptor.h"
#include "cuse/memory.h"
#include "cuse/translator.h"

/* Lines about refused calls that one open of the device may write to the log. */
#define COMPLAINTS_MAX 10

/* What the kernel's vhost accepts at most by default (module parameter max_mem_regions). */
#define REGIONS_MAX 64

int
translator_create(const char *socket, struct translator **t)
{
	unsigned int i;
	int ret;

	*t = calloc(1, sizeof(**t));
	if (*t == NULL)
		return -ENOMEM;
	(*t)->path = socket;
	for (i = 0; i < RINGS; i++)
		(*t)->rings[i].kick = (*t)->rings[i].call = -1;
	backend_forget(*t);
	ret = backend_connect(*t);
	if (ret < 0) {
		free(*t);
		*t = NULL;
	}
	return ret;
}

void
translator_destroy(struct translator *t)
{
	backend_hang_up(t, 0);
	backend_forget(t);
	free(t);
}

/* The ioctls, one function each. in and out are as long as their commands say. */

static int
do_get_features(struct translator *t, const void *in, void *out)
{
	(void)in;
	*(uint64_t *)out = t->features;
	return 0;
}

static int
do_set_features(struct translator *t, const void *in, void *out)
{
	uint64_t features = *(const uint64_t *)in;
	int ret;

	(void)out;
	if (features & ~t->features)
		return -EOPNOTSUPP;
	ret = features == t->negotiated ? 0 : backend_detach_all(t);
	/* With protocol features rings start disabled: VHOST_NET_SET_BACKEND enables them. */
	if (ret == 0)
		ret = backend_send_u64(t, VHOST_USER_SET_FEATURES,
			features | RTE_BIT64(VHOST_USER_F_PROTOCOL_FEATURES));
	if (ret < 0)
		return ret;
	t->negotiated = features;
	return backend_resume(t);
}

/* Of the backend features (VHOST_BACKEND_F_IOTLB_MSG_V2 and the like) there are none. */
static int
do_get_backend_features(struct translator *t, const void *in, void *out)
{
	(void)t;
	(void)in;
	*(uint64_t *)out = 0;
	return 0;
}

static int
do_set_backend_features(struct translator *t, const void *in, void *out)
{
	(void)t;
	(void)out;
	return *(const uint64_t *)in == 0 ? 0 : -EOPNOTSUPP;
}

static int
do_set_owner(struct translator *t, const void *in, void *out)
{
	struct vhost_user_message m = { .request = VHOST_USER_SET_OWNER };
	int ret;

	(void)in;
	(void)out;
	if (t->owner != 0)
		return -EBUSY;
	ret = backend_send(t, &m, NULL, 0);
	if (ret == 0)
		t->owner = t->process;
	return ret;
}

/*
 * librte_vhost forgets the protocol features here, so a new connection takes the place of the old
 * one.
 */
static int
do_reset_owner(struct translator *t, const void *in, void *out)
{
	(void)in;
	(void)out;
	backend_hang_up(t, 0);
	backend_forget(t);
	t->has_table = true; /* the kernel leaves a table without regions */
	return backend_connect(t);
}

/* See what becomes of the rings with another table of memory, which is in t already. */
static int
check_rings(struct translator *t)
{
	unsigned int i;

	for (i = 0; i < RINGS; i++) {
		struct ring *r = &t->rings[i];

		if (t->nb_regions > 0 && r->running && !backend_is_reachable(t, i, &r->addr))
			return -EFAULT;
	}
	t->why = NULL;
	return 0;
}

/* Take those away that are not in guest memory any more. */
static int
detach_unreachable(struct translator *t)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < RINGS && ret == 0; i++) {
		if (!backend_is_reachable(t, i, &t->rings[i].addr))
			ret = backend_detach(t, i);
	}
	t->why = NULL;
	return ret;
}

static int
send_memory(struct translator *t)
{
	struct vhost_user_message m = { .request = VHOST_USER_SET_MEM_TABLE };
	struct vhost_user_memory memory = { .nregions = (uint32_t)t->nb_regions };
	int fds[MEMORY_REGIONS_MAX], i;

	/* Messages cannot have a table without regions. Without rings the old one is of no use. */
	if (t->nb_regions == 0)
		return 0;
	for (i = 0; i < t->nb_regions; i++) {
		memory.region[i].guest_address = t->regions[i].guest_address;
		memory.region[i].size = t->regions[i].size;
		memory.region[i].user_address = t->regions[i].caller_address;
		memory.region[i].mmap_offset = t->regions[i].offset;
		fds[i] = t->regions[i].fd;
	}
	m.size = (uint32_t)(offsetof(struct vhost_user_memory, region) +
		(size_t)t->nb_regions * sizeof(memory.region[0]));
	m.payload.memory = memory;
	return backend_send(t, &m, fds, t->nb_regions);
}

static int
do_set_mem_table(struct translator *t, const void *in, void *out)
{
	const struct vhost_memory *table = in;
	struct translator old = *t;
	int n, ret;

	(void)out;
	if (table->padding != 0)
		return -EOPNOTSUPP;
	if (table->nregions > REGIONS_MAX)
		return -E2BIG;
	n = memory_take(t->process, table, t->regions, &t->why);
	t->nb_regions = n;
	ret = n < 0 ? n : check_rings(t);
	if (ret == 0)
		ret = detach_unreachable(t);
	if (ret == 0)
		ret = send_memory(t);
	if (n > 0)
		memory_release(t->regions, n);
	if (ret < 0) {
		memcpy(t->regions, old.regions, sizeof(t->regions));
		t->nb_regions = old.nb_regions;
		return ret;
	}
	t->has_table = true;
	return backend_resume(t);
}

static int
do_set_vring_addr(struct translator *t, const void *in, void *out)
{
	struct vhost_vring_addr addr;
	struct ring *r;

	(void)out;
	memcpy(&addr, in, sizeof(addr));
	r = &t->rings[addr.index];
	if (addr.flags & ~(1U << VHOST_VRING_F_LOG))
		return -EOPNOTSUPP;
	/* virtio 1.1, 2.6: avail is aligned to 2 bytes, used to 4. The kernel ignores desc. */
	if (addr.avail_user_addr % 2 != 0 || addr.used_user_addr % 4 != 0 ||
			addr.log_guest_addr % 4 != 0)
		return -EINVAL;
	if (r->running && t->nb_regions > 0 && !backend_is_reachable(t, addr.index, &addr))
		return -EINVAL;
	r->addr = addr;
	return r->attached ? backend_send_address(t, addr.index) : 0;
}

static int
do_set_vring_num(struct translator *t, const void *in, void *out)
{
	const struct vhost_vring_state *state = in;
	struct ring *r = &t->rings[state->index];
	int ret;

	(void)out;
	if (r->running)
		return -EBUSY;
	/* virtio 1.1, 2.6: a power of two, at most 32768 */
	if (state->num == 0 || state->num > 32768 || (state->num & (state->num - 1)) != 0)
		return -EINVAL;
	ret = backend_detach(t, state->index);
	if (ret == 0)
		r->num = state->num;
	return ret;
}

static int
do_set_vring_base(struct translator *t, const void *in, void *out)
{
	const struct vhost_vring_state *state = in;
	struct ring *r = &t->rings[state->index];
	int ret;

	(void)out;
	if (r->running)
		return -EBUSY;
	if (state->num > UINT16_MAX)
		return -EINVAL;
	ret = backend_detach(t, state->index);
	if (ret == 0)
		r->base = state->num;
	return ret;
}

/* Of a ring without a backend, as clients ask it, librte_vhost has stopped when this returns. */
static int
do_get_vring_base(struct translator *t, const void *in, void *out)
{
	const struct vhost_vring_state *state = in;
	struct vhost_vring_state base = { .index = state->index };
	int ret = backend_detach(t, state->index);

	base.num = t->rings[state->index].base;
	memcpy(out, &base, sizeof(base));
	return ret == 0 ? backend_resume(t) : ret;
}

/* A descriptor of a ring or of the log: an own copy of an eventfd, or -1 for none. */
static int
take_eventfd(struct translator *t, int caller_fd, int *fd)
{
	*fd = -1;
	if (caller_fd == VHOST_FILE_UNBIND)
		return 0;
	*fd = descriptor_take_eventfd(t->process, caller_fd);
	if (*fd == -EINVAL)
		t->why = "the descriptor is not an eventfd";
	return *fd < 0 ? *fd : 0;
}

/* A descriptor of a ring, which the switch gets if the ring is attached. */
static int
set_eventfd(struct translator *t, const struct vhost_vring_file *file, int *place, uint32_t request)
{
	int fd, ret = take_eventfd(t, file->fd, &fd);

	if (ret < 0)
		return ret;
	replace_descriptor(place, fd);
	if (!t->rings[file->index].attached)
		return 0;
	return backend_send_eventfd(t, request, file->index, fd);
}

static int
do_set_vring_kick(struct translator *t, const void *in, void *out)
{
	const struct vhost_vring_file *file = in;

	(void)out;
	return set_eventfd(t, file, &t->rings[file->index].kick, VHOST_USER_SET_VRING_KICK);
}

static int
do_set_vring_call(struct translator *t, const void *in, void *out)
{
	const struct vhost_vring_file *file = in;

	(void)out;
	return set_eventfd(t, file, &t->rings[file->index].call, VHOST_USER_SET_VRING_CALL);
}

/* What the kernel would signal by this, an error in a ring, is in the log here. */
static int
do_set_vring_err(struct translator *t, const void *in, void *out)
{
	const struct vhost_vring_file *file = in;
	int fd, ret = take_eventfd(t, file->fd, &fd);

	(void)out;
	if (ret == 0)
		replace_descriptor(&fd, -1);
	return ret;
}

/* A log is for VHOST_F_LOG_ALL, which is not offered, so that nothing is ever written to it. */
static int
do_set_log_base(struct translator *t, const void *in, void *out)
{
	(void)t;
	(void)in;
	(void)out;
	return 0;
}

static int
do_set_log_fd(struct translator *t, const void *in, void *out)
{
	int caller_fd, fd, ret;

	(void)out;
	memcpy(&caller_fd, in, sizeof(caller_fd));
	ret = take_eventfd(t, caller_fd, &fd);
	if (ret == 0)
		replace_descriptor(&fd, -1);
	return ret;
}

/* How long to poll before waiting for a kick; workers always poll. QEMU's poll-us sets it. */
static int
do_set_vring_busyloop(struct translator *t, const void *in, void *out)
{
	const struct vhost_vring_state *state = in;

	(void)out;
	t->rings[state->index].busyloop = state->num;
	return 0;
}

static int
do_get_vring_busyloop(struct translator *t, const void *in, void *out)
{
	struct vhost_vring_state state = *(const struct vhost_vring_state *)in;

	state.num = t->rings[state.index].busyloop;
	memcpy(out, &state, sizeof(state));
	return 0;
}

/*
 * The tap that the kernel would pass frames to. Here it gives the guest no more than a name, which
 * is how people know it: QEMU's ifname, or libvirt's <target dev=>.
 */
static int
check_backend(struct translator *t, const struct vhost_vring_file *file, char name[IFNAMSIZ])
{
	const struct ring *r = &t->rings[file->index];
	int ret = descriptor_check_backend(t->process, file->fd, name);

	if (ret == -ENOTSOCK)
		t->why = "the backend is not a tap or a raw packet socket";
	if (ret == -EINVAL)
		t->why = "the backend is a tap without an interface";
	/* Without guest memory yet, the kernel sees no more than that there is a ring. */
	if (ret == 0 && (t->nb_regions > 0 || r->addr.used_user_addr == 0) &&
			!backend_is_reachable(t, file->index, &r->addr))
		ret = -EFAULT;
	return ret;
}

static int
do_net_set_backend(struct translator *t, const void *in, void *out)
{
	const struct vhost_vring_file *file = in;
	bool on = file->fd != VHOST_FILE_UNBIND;
	char name[IFNAMSIZ] = "";
	int ret;

	(void)out;
	if (!t->has_table) {
		t->why = "guest memory is not set";
		return -EFAULT;
	}
	ret = on ? check_backend(t, file, name) : 0;
	if (ret == 0)
		ret = backend_enable(t, file->index, on);
	if (ret < 0)
		return ret;
	if (on && file->index == 0)
		RTE_LOG(INFO, CUSE, "process %d starts its guest (%s)\n", t->process, name);
	t->rings[file->index].running = on;
	return 0;
}

/*
 * The table of what is known. needs_owner as the kernel's vhost has it. With has_index the
 * argument begins with the index of a ring.
 */
static const struct translation {
	unsigned int cmd;
	const char *name;
	bool needs_owner, has_index;
	int (*run)(struct translator *t, const void *in, void *out);
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
	{ VHOST_SET_LOG_BASE, "VHOST_SET_LOG_BASE", true, false, do_set_log_base },
	{ VHOST_SET_LOG_FD, "VHOST_SET_LOG_FD", true, false, do_set_log_fd },
	{ VHOST_SET_VRING_NUM, "VHOST_SET_VRING_NUM", true, true, do_set_vring_num },
	{ VHOST_SET_VRING_BASE, "VHOST_SET_VRING_BASE", true, true, do_set_vring_base },
	{ VHOST_GET_VRING_BASE, "VHOST_GET_VRING_BASE", true, true, do_get_vring_base },
	{ VHOST_SET_VRING_ADDR, "VHOST_SET_VRING_ADDR", true, true, do_set_vring_addr },
	{ VHOST_SET_VRING_KICK, "VHOST_SET_VRING_KICK", true, true, do_set_vring_kick },
	{ VHOST_SET_VRING_CALL, "VHOST_SET_VRING_CALL", true, true, do_set_vring_call },
	{ VHOST_SET_VRING_ERR, "VHOST_SET_VRING_ERR", true, true, do_set_vring_err },
	{ VHOST_SET_VRING_BUSYLOOP_TIMEOUT, "VHOST_SET_VRING_BUSYLOOP_TIMEOUT", true, true,
	  do_set_vring_busyloop },
	{ VHOST_GET_VRING_BUSYLOOP_TIMEOUT, "VHOST_GET_VRING_BUSYLOOP_TIMEOUT", true, true,
	  do_get_vring_busyloop },
	{ VHOST_NET_SET_BACKEND, "VHOST_NET_SET_BACKEND", true, true, do_net_set_backend },
};

static int
do_unknown(struct translator *t, const void *in, void *out)
{
	(void)t;
	(void)in;
	(void)out;
	return -ENOTTY;
}

/* The kernel takes whatever else there may be for the command of a ring. */
static const struct translation unknown = { 0, NULL, true, true, do_unknown };

static const struct translation *
find_translation(unsigned int cmd)
{
	unsigned int i;

	for (i = 0; i < RTE_DIM(translations); i++) {
		if (translations[i].cmd == cmd)
			return &translations[i];
	}
	return &unknown;
}

void
translator_sizes(unsigned int cmd, const void *header, size_t len, size_t *in, size_t *out)
{
	const struct vhost_memory *table = header;

	*in = _IOC_DIR(cmd) & _IOC_WRITE ? _IOC_SIZE(cmd) : 0;
	*out = _IOC_DIR(cmd) & _IOC_READ ? _IOC_SIZE(cmd) : 0;
	if (find_translation(cmd) == &unknown) {
		*in = sizeof(uint32_t); /* the index of a ring */
		*out = 0;
	} else if (cmd == VHOST_GET_VRING_BUSYLOOP_TIMEOUT) {
		*out = _IOC_SIZE(cmd); /* although its number says that it writes nothing */
	} else if (cmd == VHOST_SET_MEM_TABLE && len >= *in && table->nregions <= REGIONS_MAX) {
		*in += table->nregions * sizeof(table->regions[0]);
	}
}

static int
translate(struct translator *t, const struct translation *entry, pid_t thread, const void *in,
	void *out)
{
	if (t->sock < 0)
		return -EIO;
	t->process = descriptor_process(thread);
	if (t->process < 0) {
		t->why = "the calling process is not to be seen from here";
		return t->process;
	}
	if (entry->needs_owner && t->owner != t->process)
		return -EPERM;
	if (entry->has_index && *(const uint32_t *)in >= RINGS)
		return -ENOBUFS;
	return entry->run(t, in, out);
}

int
translator_ioctl(struct translator *t, pid_t thread, unsigned int cmd, const void *in, void *out)
{
	const struct translation *entry = find_translation(cmd);
	int ret;

	t->why = NULL;
	ret = translate(t, entry, thread, in, out);
	if (entry == &unknown)
		RTE_LOG(DEBUG, CUSE, "ioctl 0x%x is not known\n", cmd);
	else if (ret < 0 && t->complaints++ < COMPLAINTS_MAX)
		RTE_LOG(WARNING, CUSE, "%s of thread %d refused: %s%s%s%s\n", entry->name, thread,
			strerror(-ret), t->why != NULL ? ", " : "",
			t->why != NULL ? t->why : "",
			t->complaints == COMPLAINTS_MAX ? " (the last line about this guest)" : "");
	if (ret == -EIO) /* what became of the message nobody knows: the guest is to go */
		backend_hang_up(t, 0);
	return ret;
}
