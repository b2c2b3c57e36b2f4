/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <rte_bitops.h>
#include <rte_common.h>
#include <rte_ether.h>

#include "vhost/check.h"
#include "vhost/connection.h"
#include "virtio_net_defs.h"

/*
 * Address space for guests' memory. User space has 128 TiB (47 bits): half of it stays for what
 * else the process maps, and one front end can take a quarter of the rest. The largest hosts have
 * less memory.
 */
#define MAPPED_MAX (UINT64_C(64) << 40)
#define MAPPED_PER_CONNECTION_MAX (UINT64_C(16) << 40)

void
check_offer(uint64_t features, uint64_t protocol_features)
{
	connections_shared()->features = features;
	connections_shared()->protocol_features = protocol_features;
}

static bool
any(const struct ring_set *s)
{
	return ring_set_first(s) != RINGS_MAX;
}

static bool
is_packed(const struct negotiated *n)
{
	return n->features & RTE_BIT64(VIRTIO_F_RING_PACKED);
}

static uint32_t
entries(const struct negotiated *n)
{
	uint32_t i, sum = 0;

	for (i = 0; i < n->rings; i++)
		sum += n->size[i];
	return sum;
}

/* The ring that a message is about. Returns false for one that is about none. */
static bool
find_ring(const struct vhost_user_message *m, uint32_t *ring)
{
	*ring = 0;
	switch (m->request) {
	case VHOST_USER_SET_VRING_KICK:
	case VHOST_USER_SET_VRING_CALL:
	case VHOST_USER_SET_VRING_ERR:
		*ring = (uint32_t)(m->payload.u64 & VHOST_USER_VRING);
		return true;
	case VHOST_USER_SET_VRING_NUM:
	case VHOST_USER_SET_VRING_BASE:
	case VHOST_USER_GET_VRING_BASE:
	case VHOST_USER_SET_VRING_ENABLE:
		*ring = m->payload.state.index;
		return true;
	case VHOST_USER_SET_VRING_ADDR:
		*ring = m->payload.address.index;
		return true;
	default:
		return false;
	}
}

bool
check_has_reply(uint32_t request)
{
	switch (request) {
	case VHOST_USER_GET_FEATURES:
	case VHOST_USER_GET_PROTOCOL_FEATURES:
	case VHOST_USER_GET_QUEUE_NUM:
	case VHOST_USER_GET_VRING_BASE:
	case VHOST_USER_GET_STATUS:
	case VHOST_USER_SET_LOG_BASE:
		return true;
	default:
		return false;
	}
}

/*
 * Bytes of a request's payload, UINT32_MAX for one that is not known. librte_vhost does not look,
 * and would take what is missing from an older message, of any front end.
 */
static uint32_t
payload_size(const struct vhost_user_message *m)
{
	switch (m->request) {
	case VHOST_USER_GET_FEATURES:
	case VHOST_USER_GET_PROTOCOL_FEATURES:
	case VHOST_USER_GET_QUEUE_NUM:
	case VHOST_USER_GET_STATUS:
	case VHOST_USER_SET_OWNER:
	case VHOST_USER_RESET_OWNER:
	case VHOST_USER_SET_LOG_FD:
		return 0;
	case VHOST_USER_SET_MEM_TABLE:
		return (uint32_t)(offsetof(struct vhost_user_memory, region) +
			(size_t)m->payload.memory.nregions * sizeof(struct vhost_user_region));
	case VHOST_USER_SET_LOG_BASE:
		return sizeof(struct vhost_user_log);
	case VHOST_USER_SET_VRING_ADDR:
		return sizeof(struct vhost_vring_addr);
	case VHOST_USER_SET_VRING_NUM:
	case VHOST_USER_SET_VRING_BASE:
	case VHOST_USER_GET_VRING_BASE:
	case VHOST_USER_SET_VRING_ENABLE:
		return sizeof(struct vhost_vring_state);
	case VHOST_USER_SET_FEATURES:
	case VHOST_USER_SET_VRING_KICK:
	case VHOST_USER_SET_VRING_CALL:
	case VHOST_USER_SET_VRING_ERR:
	case VHOST_USER_SET_PROTOCOL_FEATURES:
	case VHOST_USER_SEND_RARP:
	case VHOST_USER_NET_SET_MTU:
	case VHOST_USER_SET_STATUS:
		return sizeof(uint64_t);
	default:
		return UINT32_MAX;
	}
}

/* How many descriptors come with a message. */
static uint32_t
expected_fds(const struct vhost_user_message *m)
{
	switch (m->request) {
	case VHOST_USER_SET_MEM_TABLE:
		return m->payload.memory.nregions;
	case VHOST_USER_SET_LOG_BASE:
	case VHOST_USER_SET_LOG_FD:
		return 1;
	case VHOST_USER_SET_VRING_KICK:
	case VHOST_USER_SET_VRING_CALL:
	case VHOST_USER_SET_VRING_ERR:
		return m->payload.u64 & VHOST_USER_NO_FD ? 0 : 1;
	default:
		return 0;
	}
}

/* Whether bytes up to an end of a file can be mapped and are there. */
static const char *
check_file(int fd, uint64_t size, uint64_t offset)
{
	struct stat st;

	if (size == 0 || offset > UINT64_MAX - size)
		return "region size is zero or overflows";
	if (fds_kind(fd) != FDS_MEMORY || fstat(fd, &st) < 0)
		return "memory file is not on a local file system";
	if ((uint64_t)st.st_size < offset + size)
		return "region extends past the end of its file";
	return NULL;
}

/* Bytes that librte_vhost maps for a region: from the beginning of the file, in whole blocks. */
static uint64_t
mapped_length(const struct vhost_user_region *r, int fd)
{
	uint64_t len = r->mmap_offset + r->size;
	struct stat st;

	if (fstat(fd, &st) == 0 && st.st_blksize > 0)
		len = (len + (uint64_t)st.st_blksize - 1) / (uint64_t)st.st_blksize *
			(uint64_t)st.st_blksize;
	return len;
}

/* Map all regions as librte_vhost will, to see that it can: it unmaps the old ones first. */
static const char *
try_to_map(const struct vhost_user_memory *memory, const int *fds)
{
	void *at[VHOST_USER_REGIONS_MAX];
	uint64_t len[VHOST_USER_REGIONS_MAX];
	const char *why = NULL;
	uint32_t i;

	for (i = 0; i < memory->nregions; i++) {
		len[i] = mapped_length(&memory->region[i], fds[i]);
		at[i] = mmap(NULL, len[i], PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0);
		if (at[i] == MAP_FAILED) {
			why = "region cannot be mapped";
			break;
		}
	}
	while (i-- > 0)
		munmap(at[i], len[i]);
	return why;
}

static uint64_t
total_length(const struct vhost_user_memory *memory, const int *fds)
{
	uint64_t sum = 0, len;
	uint32_t i;

	for (i = 0; i < memory->nregions; i++) {
		len = mapped_length(&memory->region[i], fds[i]);
		sum = sum > UINT64_MAX - len ? UINT64_MAX : sum + len;
	}
	return sum;
}

static const char *
check_memory(const struct connection *c)
{
	/* a copy: the message is packed */
	struct vhost_user_memory memory = c->message.payload.memory;
	const char *why;
	uint64_t total;
	uint32_t i;

	for (i = 0; i < memory.nregions; i++) {
		const struct vhost_user_region *r = &memory.region[i];

		why = check_file(c->fds[i], r->size, r->mmap_offset);
		if (why != NULL)
			return why;
		if (r->guest_address > UINT64_MAX - r->size ||
				r->user_address > UINT64_MAX - r->size)
			return "region size is zero or overflows";
	}
	total = total_length(&memory, c->fds);
	if (total > MAPPED_PER_CONNECTION_MAX ||
			connections_shared()->mapped - c->negotiated.mapped + total > MAPPED_MAX)
		return "region cannot be mapped";
	return try_to_map(&memory, c->fds);
}

/*
 * librte_vhost maps a log from an offset, and then adds the offset again. No front end is known to
 * use one. The file must not shrink: bits of the log are set by whoever touches the guest's memory.
 */
static const char *
check_log(const struct connection *c)
{
	const char *why = check_file(c->fds[0], c->message.payload.log.size,
		c->message.payload.log.offset);
	int seals;

	if (why != NULL)
		return why;
	if (c->message.payload.log.offset != 0)
		return "offset of the dirty log is not zero";
	if (c->message.payload.log.size > MAPPED_PER_CONNECTION_MAX)
		return "dirty log cannot be mapped";
	seals = fcntl(c->fds[0], F_GET_SEALS);
	if ((seals < 0 || !(seals & F_SEAL_SHRINK)) &&
			fcntl(c->fds[0], F_ADD_SEALS, F_SEAL_SHRINK) < 0)
		return "file of the dirty log can be truncated";
	return NULL;
}

static const char *
check_features(const struct connection *c, uint64_t features)
{
	const struct negotiated *n = &c->negotiated;
	uint64_t changed = features ^ n->features;

	if (features & ~(connections_shared()->features & ~c->socket->not_offered))
		return "features were not offered";
	/* What librte_vhost keeps for a ring depends on its layout, from the time it has a size. */
	if (changed & RTE_BIT64(VIRTIO_F_RING_PACKED) && entries(n) > 0)
		return "ring layout changed while rings have a size";
	if (!any(&n->started))
		return NULL;
	if (changed & ~RTE_BIT64(VHOST_F_LOG_ALL))
		return "features changed while rings are in use";
	if (!(features & RTE_BIT64(VIRTIO_NET_F_MQ)) && n->rings > 2)
		return "more rings than negotiated";
	return NULL;
}

static const char *
check_size(const struct negotiated *n, uint32_t ring, uint32_t num)
{
	if (ring_set_has(&n->started, ring))
		return "ring size changed while the ring is in use";
	if (num == 0 || num > VIRTQUEUE_SIZE_MAX || (!is_packed(n) && !rte_is_power_of_2(num)))
		return "invalid ring size";
	if (entries(n) - n->size[ring] + num > RING_ENTRIES_MAX)
		return "too many ring entries in total";
	return NULL;
}

/* librte_vhost takes the place in a packed ring as it is. In a split one it wraps. */
static bool
is_in_ring(const struct negotiated *n, uint32_t ring, uint32_t base)
{
	return !is_packed(n) || n->size[ring] == 0 || (base & 0x7fff) < n->size[ring];
}

static const char *
check_base(const struct negotiated *n, uint32_t ring, uint32_t base)
{
	/*
	 * The upper half is the place in the used ring of a packed one; librte_vhost has one place.
	 */
	if ((!is_packed(n) && base > UINT16_MAX) || !is_in_ring(n, ring, base))
		return "base index is outside the ring";
	return NULL;
}

static const char *
check_kick(const struct connection *c, uint32_t ring)
{
	const struct negotiated *n = &c->negotiated;

	if (n->size[ring] == 0)
		return "ring size is not set";
	if (!is_in_ring(n, ring, n->base[ring]))
		return "base index is outside the ring";
	if (c->nb_fds > 0 && fds_kind(c->fds[0]) != FDS_EVENTFD)
		return "kick or error descriptor is not an eventfd";
	return NULL;
}

/* Workers write to it, and are to wait for nobody. */
static const char *
check_call(const struct connection *c)
{
	int flags;

	if (c->nb_fds == 0)
		return NULL;
	flags = fcntl(c->fds[0], F_GETFL);
	if (fds_kind(c->fds[0]) != FDS_EVENTFD || flags < 0 ||
			fcntl(c->fds[0], F_SETFL, flags | O_NONBLOCK) < 0)
		return "call descriptor is not an eventfd";
	return NULL;
}

const char *
check_header(const struct vhost_user_message *m)
{
	return m->size > sizeof(m->payload) ? "payload is longer than that of any request" : NULL;
}

/* What all messages have in common. */
static const char *
check_form(const struct connection *c)
{
	const struct vhost_user_message *m = &c->message;
	uint32_t size = payload_size(m), ring;

	if (size == UINT32_MAX) /* librte_vhost would act on some although it never offered to */
		return "request was not offered";
	if (m->request == VHOST_USER_SET_MEM_TABLE && (m->payload.memory.nregions == 0 ||
			m->payload.memory.nregions > VHOST_USER_REGIONS_MAX))
		return "no memory regions or too many";
	if (m->size != size)
		return "payload size does not match the request";
	if ((uint32_t)c->nb_fds != expected_fds(m))
		return "unexpected number of descriptors";
	if (find_ring(m, &ring) && ring >= RINGS_MAX)
		return "ring index out of range";
	return NULL;
}

const char *
check_message(const struct connection *c)
{
	const struct vhost_user_message *m = &c->message;
	struct vhost_vring_state state = m->payload.state;
	const char *why = c->failed ? "an earlier message failed" : check_form(c);

	if (why != NULL)
		return why;
	switch (m->request) {
	case VHOST_USER_SET_FEATURES:
		return check_features(c, m->payload.u64);
	case VHOST_USER_SET_MEM_TABLE:
		return check_memory(c);
	case VHOST_USER_SET_LOG_BASE:
		return check_log(c);
	case VHOST_USER_SET_VRING_NUM:
		return check_size(&c->negotiated, state.index, state.num);
	case VHOST_USER_SET_VRING_BASE:
		return check_base(&c->negotiated, state.index, state.num);
	case VHOST_USER_SET_VRING_ADDR:
		return c->negotiated.has_memory ? NULL : "guest memory is not set";
	case VHOST_USER_SET_VRING_KICK:
		return check_kick(c, (uint32_t)(m->payload.u64 & VHOST_USER_VRING));
	case VHOST_USER_SET_VRING_CALL:
		return check_call(c);
	case VHOST_USER_SET_VRING_ERR:
	case VHOST_USER_SET_LOG_FD:
		return c->nb_fds > 0 && fds_kind(c->fds[0]) != FDS_EVENTFD
			? "kick or error descriptor is not an eventfd" : NULL;
	case VHOST_USER_SET_PROTOCOL_FEATURES:
		return m->payload.u64 & ~connections_shared()->protocol_features
			? "features were not offered" : NULL;
	case VHOST_USER_NET_SET_MTU:
		return m->payload.u64 >= RTE_ETHER_MIN_MTU && m->payload.u64 <= UINT16_MAX
			? NULL : "invalid MTU";
	case VHOST_USER_SET_STATUS: /* virtio 1.1, 2.1: a byte */
		return m->payload.u64 <= UINT8_MAX ? NULL : "invalid device status";
	default:
		return NULL;
	}
}

/* librte_vhost frees rings that were not negotiated. */
static void
forget_ring(struct negotiated *n, uint32_t ring)
{
	n->size[ring] = 0;
	n->base[ring] = 0;
	ring_set_put(&n->started, ring, false);
	ring_set_put(&n->enabled, ring, false);
}

static void
set_features(struct negotiated *n, uint64_t features)
{
	n->features = features;
	if (features & RTE_BIT64(VIRTIO_NET_F_MQ))
		return;
	while (n->rings > 2)
		forget_ring(n, --n->rings);
}

static void
set_memory(struct connection *c)
{
	struct vhost_user_memory memory = c->message.payload.memory;
	uint64_t now = 0;
	uint32_t i;

	/* The descriptors have gone by now; what was mapped is this or less than a block more. */
	for (i = 0; i < memory.nregions; i++)
		now += memory.region[i].mmap_offset + memory.region[i].size;
	connections_shared()->mapped += now - c->negotiated.mapped;
	c->negotiated.mapped = now;
	c->negotiated.has_memory = true;
}

/* When librte_vhost looks at addresses: vhost_user_set_vring_kick() and _addr(). */
static void
note_start(struct negotiated *n, uint32_t request, uint32_t ring)
{
	if (request == VHOST_USER_SET_VRING_KICK) {
		ring_set_put(&n->started, ring, true);
		if (!(n->features & RTE_BIT64(VHOST_USER_F_PROTOCOL_FEATURES)))
			ring_set_put(&n->enabled, ring, true);
	} else if (ring_set_has(&n->enabled, ring)) {
		ring_set_put(&n->started, ring, true);
	}
}

void
check_done(struct connection *c)
{
	const struct vhost_user_message *m = &c->message;
	struct vhost_vring_state state = m->payload.state;
	struct negotiated *n = &c->negotiated;
	uint32_t ring;

	if (find_ring(m, &ring))
		n->rings = RTE_MAX(n->rings, ring + 1);
	switch (m->request) {
	case VHOST_USER_SET_OWNER:
		c->greeted = true;
		break;
	case VHOST_USER_SET_FEATURES:
		set_features(n, m->payload.u64);
		break;
	case VHOST_USER_SET_MEM_TABLE:
		set_memory(c);
		break;
	case VHOST_USER_SET_VRING_NUM:
		n->size[ring] = (uint16_t)state.num;
		break;
	case VHOST_USER_SET_VRING_BASE:
		n->base[ring] = (uint16_t)state.num;
		break;
	case VHOST_USER_SET_VRING_ADDR:
	case VHOST_USER_SET_VRING_KICK:
		note_start(n, m->request, ring);
		break;
	case VHOST_USER_SET_VRING_ENABLE:
		ring_set_put(&n->enabled, ring, state.num != 0);
		break;
	case VHOST_USER_GET_VRING_BASE: /* stops the ring, and frees what it needs for its size */
		n->size[ring] = 0;
		ring_set_put(&n->started, ring, false);
		break;
	default:
		break;
	}
}

void
check_forget(struct negotiated *n)
{
	connections_shared()->mapped -= n->mapped;
	memset(n, 0, sizeof(*n));
}
