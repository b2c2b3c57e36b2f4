/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_byteorder.h>
#include <rte_vhost.h>

#include "thread.h"
#include "vhost/vring.h"

#define HAS(features, bit) ((bool)((features) & RTE_BIT64(bit)))

static void
refresh_regions(struct device *d)
{
	struct rte_vhost_memory *mem = NULL;
	uint32_t i;

	d->nb_regions = 0;
	/* librte_vhost reads its own without asking whether there is one. */
	if (!d->has_memory || rte_vhost_get_mem_table(d->vid, &mem) < 0)
		return;
	for (i = 0; i < mem->nregions && i < VHOST_USER_REGIONS_MAX; i++) {
		d->region[i] = (struct region){
			.guest = mem->regions[i].guest_phys_addr,
			.size = mem->regions[i].size,
			.host = (uint8_t *)(uintptr_t)mem->regions[i].host_user_addr,
		};
	}
	d->nb_regions = (uint8_t)i;
	free(mem);
}

/* The region that memory begins in, NULL: none. */
static const struct region *
find_region(const struct device *d, const void *host)
{
	unsigned int i;

	for (i = 0; i < d->nb_regions; i++) {
		if ((uintptr_t)host - (uintptr_t)d->region[i].host < d->region[i].size)
			return &d->region[i];
	}
	return NULL;
}

/* Whether a part of a virtqueue lies in one region of the guest's memory. */
static bool
is_inside(const struct device *d, const void *part, uint64_t len, uintptr_t align)
{
	const struct region *r = find_region(d, part);

	return r != NULL && (uintptr_t)part % align == 0 &&
		len <= r->size - ((uintptr_t)part - (uintptr_t)r->host);
}

/*
 * Lengths and alignments: VIRTIO 1.1, 2.6 and 2.7. librte_vhost keeps it to itself whether it found
 * a virtqueue to be wholly in the guest's memory. The event index at the end of either part of a
 * split virtqueue always counts: it is there in every driver's layout.
 */
static bool
is_in_memory(const struct device *d, const struct rte_vhost_vring *v)
{
	uint64_t n = v->size;

	if (v->desc == NULL || v->avail == NULL || v->used == NULL || n == 0 ||
			n > VIRTQUEUE_SIZE_MAX || !is_inside(d, v->desc, 16 * n, 16))
		return false;
	if (d->packed) /* 2.7.14: event suppression structures */
		return is_inside(d, v->driver_event, 4, 4) && is_inside(d, v->device_event, 4, 4);
	return rte_is_power_of_2(v->size) && is_inside(d, v->avail, 6 + 2 * n, 2) &&
		is_inside(d, v->used, 6 + 8 * n, 4);
}

void
device_log_write(const struct device *d, const void *host, uint64_t len)
{
	const struct region *r = find_region(d, host);

	if (r != NULL)
		rte_vhost_log_write(d->vid, r->guest + ((uintptr_t)host - (uintptr_t)r->host), len);
}

/*
 * The virtqueues are polled: tell the driver not to kick, which costs it a system call or an exit
 * from the VM for each burst. With event indices there is nothing to write into a split virtqueue:
 * it is enough not to move the index that the driver waits for (VIRTIO 1.1, 2.6.10.1).
 */
static void
stop_kicks(const struct device *d, struct virtqueue *vq)
{
	void *flags = vq->packed ? (void *)&vq->device_event->flags : (void *)&vq->used->flags;
	uint16_t value = vq->packed ? VRING_PACKED_EVENT_FLAG_DISABLE : VRING_USED_F_NO_NOTIFY;

	if (!vq->packed && d->event_idx)
		return;
	__atomic_store_n((uint16_t *)flags, value, __ATOMIC_RELAXED);
	if (d->logging)
		device_log_write(d, flags, sizeof(value));
}

static bool
has_indices(const struct virtqueue *vq)
{
	return !vq->packed || ((vq->last_avail_idx & PACKED_INDEX) < vq->size &&
		(vq->last_used_idx & PACKED_INDEX) < vq->size);
}

static void
refresh_ring(struct device *d, uint16_t vring)
{
	struct virtqueue *vq = &d->vq[vring];
	struct rte_vhost_vring v;

	vq->usable = false;
	__atomic_store_n(&vq->notify_fd, vq->callfd, __ATOMIC_RELAXED);
	if (rte_vhost_get_vhost_vring(d->vid, vring, &v) < 0 || !is_in_memory(d, &v) ||
			rte_vhost_get_vring_base(d->vid, vring, &vq->last_avail_idx,
				&vq->last_used_idx) < 0)
		return;
	vq->packed = d->packed;
	vq->size = v.size;
	vq->desc = v.desc;
	vq->avail = v.avail;
	vq->used = v.used;
	if (!has_indices(vq))
		return;
	vq->published = vq->last_used_idx;
	vq->signalled_used = vq->last_used_idx;
	vq->signalled_valid = false;
	vq->usable = true;
	stop_kicks(d, vq);
}

/* Which virtqueues workers are to use. */
static void
refresh_running(struct device *d)
{
	uint64_t bits[2][QUEUE_PAIR_WORDS] = { { 0 } };
	uint16_t i;

	for (i = 0; d->running && i < d->nb_rings; i++) {
		if (d->vq[i].usable && device_has_enabled(d, i))
			bits[i & 1][i / 128] |= RTE_BIT64(i / 2 % 64);
	}
	for (i = 0; i < QUEUE_PAIR_WORDS; i++) {
		__atomic_store_n(&d->rx[i], bits[0][i], __ATOMIC_RELAXED);
		__atomic_store_n(&d->tx[i], bits[1][i], __ATOMIC_RELAXED);
	}
}

/* Features of one direction as OFFLOAD_* bits: none of the others without checksums (5.1.3.1). */
static uint8_t
offloads(uint64_t features, unsigned int csum, unsigned int tso4, unsigned int tso6,
	unsigned int ecn)
{
	unsigned int bits = HAS(features, csum) * OFFLOAD_CSUM +
		HAS(features, tso4) * OFFLOAD_TSO4 + HAS(features, tso6) * OFFLOAD_TSO6 +
		HAS(features, ecn) * OFFLOAD_ECN;

	return (uint8_t)(bits & OFFLOAD_CSUM ? bits : 0);
}

static void
refresh_device(struct device *d)
{
	uint16_t i;

	d->features = 0;
	rte_vhost_get_negotiated_features(d->vid, &d->features);
	d->packed = HAS(d->features, VIRTIO_F_RING_PACKED);
	d->event_idx = HAS(d->features, VIRTIO_RING_F_EVENT_IDX);
	d->mergeable = HAS(d->features, VIRTIO_NET_F_MRG_RXBUF);
	d->may_ask = offloads(d->features, VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4,
		VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_ECN);
	d->accepts = offloads(d->features, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4,
		VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_ECN);
	d->logging = HAS(d->features, VHOST_F_LOG_ALL);
	d->hdr_len = d->mergeable || HAS(d->features, VIRTIO_F_VERSION_1) ?
		VIRTIO_NET_HDR_LEN : VIRTIO_NET_HDR_LEN_LEGACY;
	refresh_regions(d);
	d->nb_rings = RTE_MIN((uint16_t)RINGS_MAX, rte_vhost_get_vring_num(d->vid));
	for (i = 0; i < d->nb_rings; i++)
		refresh_ring(d, i);
	refresh_running(d);
}

void
device_open(struct device *d, int vid, const char *path, struct port *port,
	struct rte_rcu_qsbr *rcu)
{
	uint16_t i;

	memset(d, 0, offsetof(struct device, vq));
	d->vid = vid;
	d->path = path;
	d->port = port;
	d->rcu = rcu;
	for (i = 0; i < RINGS_MAX; i++) {
		d->vq[i] = (struct virtqueue){ .callfd = -1, .notify_fd = -1 };
		rte_spinlock_init(&d->vq[i].lock);
	}
}

static void
close_call(struct virtqueue *vq)
{
	if (vq->callfd >= 0)
		close(vq->callfd);
	vq->callfd = -1;
}

void
device_close(struct device *d)
{
	uint16_t i;

	__atomic_store_n(&d->announce, 0, __ATOMIC_RELAXED);
	for (i = 0; i < RINGS_MAX; i++)
		close_call(&d->vq[i]);
}

void
device_pause(struct device *d)
{
	uint16_t i;

	if (d->pauses++ > 0)
		return;
	__atomic_fetch_add(&d->changes, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&d->paused, true, __ATOMIC_RELEASE);
	wait_for_workers(d->rcu);
	for (i = 0; i < d->nb_rings; i++) {
		struct virtqueue *vq = &d->vq[i];

		if (vq->usable)
			rte_vhost_set_vring_base(d->vid, i, vq->last_avail_idx, vq->last_used_idx);
	}
}

void
device_resume(struct device *d)
{
	if (--d->pauses > 0)
		return;
	refresh_device(d);
	__atomic_store_n(&d->paused, false, __ATOMIC_RELEASE);
}

void
device_set_running(struct device *d, bool running)
{
	uint16_t i;

	device_pause(d);
	d->running = running;
	if (running && !__atomic_load_n(&d->memory_gone, __ATOMIC_RELAXED))
		__atomic_store_n(&d->disabled, false, __ATOMIC_RELAXED);
	device_resume(d);
	for (i = 0; running && i < d->nb_rings; i++)
		d->vq[i].used_before = d->vq[i].signalled_used;
}

void
device_enable_ring(struct device *d, uint16_t vring, bool enabled)
{
	uint64_t *word, bit = RTE_BIT64(vring / 2 % 64);

	if (vring >= RINGS_MAX)
		return;
	word = &d->enabled[vring & 1][vring / 128];
	device_pause(d);
	*word = enabled ? *word | bit : *word & ~bit;
	device_resume(d);
}

void
device_forget_absent(struct device *d)
{
	uint16_t i, n = RTE_MIN((uint16_t)RINGS_MAX, rte_vhost_get_vring_num(d->vid));

	for (i = n; i < RINGS_MAX; i++) {
		d->enabled[i & 1][i / 128] &= ~RTE_BIT64(i / 2 % 64);
		if (d->vq[i].callfd >= 0)
			device_set_call(d, i, -1);
	}
}

void
device_set_call(struct device *d, uint16_t vring, int callfd)
{
	struct virtqueue *vq = &d->vq[vring];
	uint16_t used;

	__atomic_store_n(&vq->notify_fd, callfd, __ATOMIC_SEQ_CST);
	wait_for_workers(d->rcu);
	used = __atomic_load_n(&vq->last_used_idx, __ATOMIC_RELAXED);
	if (vq->usable && used != vq->used_before && callfd >= 0 && !notify_send(callfd))
		__atomic_store_n(&vq->notify_fd, -1, __ATOMIC_RELAXED);
	vq->used_before = used;
	close_call(vq);
	vq->callfd = callfd;
}

/* Log used elements, each by itself: their number does not matter while a guest migrates. */
static void
log_used(const struct device *d, const struct virtqueue *vq, uint16_t from)
{
	for (; from != vq->last_used_idx; from = vring_advance(vq, from, 1)) {
		if (vq->packed)
			device_log_write(d, &vq->packed_desc[from & PACKED_INDEX],
				sizeof(vq->packed_desc[0]));
		else
			device_log_write(d, &vq->used->ring[from & (vq->size - 1)],
				sizeof(vq->used->ring[0]));
	}
	if (!vq->packed)
		device_log_write(d, &vq->used->idx, sizeof(vq->used->idx));
}

void
vring_publish_slow(const struct device *d, struct virtqueue *vq)
{
	uint16_t from = vq->published;

	if (vq->packed)
		__atomic_store_n(&vq->packed_desc[from & PACKED_INDEX].flags,
			rte_cpu_to_le_16(vq->first_flags), __ATOMIC_RELEASE);
	else
		__atomic_store_n(&vq->used->idx, vq->last_used_idx, __ATOMIC_RELEASE);
	vq->published = vq->last_used_idx;
	if (d->logging)
		log_used(d, vq, from);
}

/* A place in a packed virtqueue in two rounds of it: the wrap counter is 1 in the first. */
static uint32_t
packed_place(const struct virtqueue *vq, uint16_t index)
{
	return (index & PACKED_INDEX) + (index & PACKED_WRAP ? 0u : vq->size);
}

/* VIRTIO 1.1, 2.7.10 and 2.7.14. */
bool
vring_packed_wants_notification(const struct device *d, const struct virtqueue *vq, uint16_t old,
	bool valid)
{
	uint16_t flags = __atomic_load_n(&vq->driver_event->flags, __ATOMIC_ACQUIRE);
	uint16_t place = __atomic_load_n(&vq->driver_event->off_wrap, __ATOMIC_RELAXED);
	uint32_t round = 2u * vq->size, used = packed_place(vq, vq->published);

	if (flags == VRING_PACKED_EVENT_FLAG_DISABLE)
		return false;
	if (!valid || !d->event_idx || flags != VRING_PACKED_EVENT_FLAG_DESC ||
			(place & PACKED_INDEX) >= vq->size)
		return true;
	return (used + round - packed_place(vq, place) - 1) % round <
		(used + round - packed_place(vq, old)) % round;
}
