/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdlib.h>

#include <rte_malloc.h>
#include <rte_vhost.h>

#include "guest/direct.h"
#include "main.h"

#define DIRECT_TEXT(upper, text) text,
const char *const direct_bar_text[DIRECT_BAR_MAX] = { FOREACH_DIRECT_BAR(DIRECT_TEXT) };

/* An index of a packed ring; bit 15 beside it is the wrap counter (VIRTIO 1.1, 2.7.1). */
#define PACKED_INDEX 0x7fff

/* Fewer than are written at once (librte_vhost's PACKED_BATCH_SIZE). */
#define PACKED_RECEIVE_MAX 3

#define HAS(features, bit) ((bool)((features) & RTE_BIT64(bit)))

static bool
copy_regions(struct direct *d, int vid)
{
	struct rte_vhost_memory *mem = NULL;
	uint32_t i;
	bool fits;

	d->nb_regions = 0;
	if (rte_vhost_get_mem_table(vid, &mem) < 0)
		return false;
	fits = mem->nregions <= VHOST_USER_REGIONS_MAX;
	for (i = 0; fits && i < mem->nregions; i++) {
		d->region[i] = (struct direct_region){
			.guest = mem->regions[i].guest_phys_addr,
			.size = mem->regions[i].size,
			.host = (uint8_t *)(uintptr_t)mem->regions[i].host_user_addr,
		};
	}
	if (fits)
		d->nb_regions = (uint8_t)mem->nregions;
	free(mem);
	return fits;
}

/* Whether a part of a ring lies in one region of the guest's memory. */
static bool
is_inside(const struct direct *d, const void *part, uint64_t len, uintptr_t align)
{
	const struct direct_region *r = d->region;
	unsigned int i;

	if ((uintptr_t)part % align != 0)
		return false;
	for (i = 0; i < d->nb_regions; i++, r++) {
		uint64_t off = (uintptr_t)part - (uintptr_t)r->host;

		if (off < r->size)
			return len <= r->size - off;
	}
	return false;
}

/*
 * Lengths and alignments: VIRTIO 1.1, 2.6 and 2.7. librte_vhost keeps it to itself whether it found a
 * ring to be wholly in the guest's memory, so that is looked at here. The event index at the end of
 * either part of a split ring counts always: it is there in every driver's layout.
 */
static bool
is_in_memory(const struct direct *d, const struct rte_vhost_vring *v)
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

/*
 * The rings are polled: tell the driver not to kick, which costs it a system call or an exit from
 * the VM for each burst. With event indices there is nothing to write into a split ring: it is
 * enough not to move the index that the driver waits for (VIRTIO 1.1, 2.6.10.1).
 */
static void
stop_kicks(const struct direct *d, const struct rte_vhost_vring *v)
{
	if (d->packed)
		__atomic_store_n(&v->device_event->flags, VRING_PACKED_EVENT_FLAG_DISABLE, __ATOMIC_RELAXED);
	else if (!d->event_idx)
		__atomic_store_n(&v->used->flags, VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
}

static void
send_notification(struct direct_ring *r)
{
	int callfd = __atomic_load_n(&r->callfd, __ATOMIC_RELAXED);

	if (callfd >= 0 && !notify_send(callfd))
		__atomic_store_n(&r->callfd, -1, __ATOMIC_RELAXED);
}

/* What a worker that found the guest paused left to control. */
static void
notify_of_rest(struct direct_ring *r, int vid, uint16_t vring)
{
	uint16_t avail, used;

	if (rte_vhost_get_vring_base(vid, vring, &avail, &used) < 0)
		return;
	if (used != r->signalled)
		send_notification(r);
	r->signalled = used;
	r->signalled_valid = false;
}

static void
look_at_ring(struct direct *d, int vid, uint16_t vring)
{
	struct direct_ring *r = &d->ring[vring];
	struct rte_vhost_vring v;

	r->usable = false;
	r->in_memory = false;
	__atomic_store_n(&r->callfd, notify_call(vid, vring), __ATOMIC_RELAXED);
	r->skip = 0;
	if (rte_vhost_get_vhost_vring(vid, vring, &v) < 0 || !is_in_memory(d, &v))
		return;
	r->desc = v.desc;
	r->avail = v.avail;
	r->used = v.used;
	r->size = v.size;
	r->in_memory = true;
	r->usable = d->bar == DIRECT_BAR_NONE;
	stop_kicks(d, &v);
	notify_of_rest(r, vid, vring);
}

/* Virtqueues that the guest has by now. */
static uint16_t
count_rings(const struct direct *d, int vid)
{
	return RTE_MIN(d->nb_rings, rte_vhost_get_vring_num(vid));
}

static enum direct_bar
find_bar(struct direct *d, int vid, uint64_t features)
{
	bool fits = copy_regions(d, vid);

	if (!d->wanted)
		return DIRECT_BAR_MODE;
	if (HAS(features, VIRTIO_F_RING_PACKED))
		return DIRECT_BAR_PACKED;
	if (HAS(features, VHOST_F_LOG_ALL))
		return DIRECT_BAR_LOGGING;
	return fits ? DIRECT_BAR_NONE : DIRECT_BAR_MEMORY;
}

static void
look_at_guest(struct direct *d, int vid)
{
	uint64_t features = 0;
	uint16_t i, n = count_rings(d, vid);

	rte_vhost_get_negotiated_features(vid, &features);
	d->event_idx = HAS(features, VIRTIO_RING_F_EVENT_IDX);
	d->mergeable = HAS(features, VIRTIO_NET_F_MRG_RXBUF);
	d->host_offloads = features & VIRTIO_NET_HOST_OFFLOADS;
	d->hdr_len = d->mergeable || HAS(features, VIRTIO_F_VERSION_1) ? VIRTIO_NET_HDR_LEN
								       : VIRTIO_NET_HDR_LEN_LEGACY;
	d->packed = HAS(features, VIRTIO_F_RING_PACKED);
	d->bar = (uint8_t)find_bar(d, vid, features);
	for (i = 0; i < n; i++)
		look_at_ring(d, vid, i);
}

struct direct *
direct_create(int vid, bool wanted, bool shared)
{
	uint16_t i, n = rte_vhost_get_vring_num(vid);
	uint64_t features = 0;
	struct direct *d;

	rte_vhost_get_negotiated_features(vid, &features);
	if (HAS(features, VIRTIO_NET_F_MQ)) /* more of them can come at any time */
		n = NOTIFY_RINGS_MAX;
	d = rte_zmalloc("direct", sizeof(*d) + n * sizeof(d->ring[0]), RTE_CACHE_LINE_SIZE);
	if (d == NULL)
		return NULL;
	d->nb_rings = n;
	d->wanted = wanted;
	d->shared = shared;
	for (i = 0; i < n; i++) {
		rte_spinlock_init(&d->ring[i].lock);
		d->ring[i].callfd = -1;
	}
	look_at_guest(d, vid);
	for (i = 0; i < n; i++)
		d->ring[i].used_before = d->ring[i].signalled;
	/* These cannot change while the device runs. */
	d->never = d->bar == DIRECT_BAR_MODE || d->bar == DIRECT_BAR_PACKED;
	return d;
}

static void
show_and_tell(const struct direct *d, struct direct_ring *r)
{
	direct_show(r);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	direct_tell(d, r);
}

/* Under the ring's lock. A worker may be in the middle of a burst whose last frames wait to be shown. */
static void
hand_back(const struct direct *d, struct direct_ring *r, int vid, uint16_t vring)
{
	if (!r->ours)
		return;
	show_and_tell(d, r);
	rte_vhost_set_vring_base(vid, vring, r->next_avail, r->next_used);
	r->ours = false;
}

void
direct_pause(struct direct *d, int vid, struct rte_rcu_qsbr *sections)
{
	uint16_t i, n = count_rings(d, vid);

	if (d->pauses++ > 0)
		return;
	__atomic_store_n(&d->gave_up, false, __ATOMIC_RELAXED);
	__atomic_fetch_add(&d->changes, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&d->paused, true, __ATOMIC_RELEASE);
	rte_rcu_qsbr_synchronize(sections, RTE_QSBR_THRID_INVALID);
	for (i = 0; i < n; i++) {
		rte_spinlock_lock(&d->ring[i].lock);
		hand_back(d, &d->ring[i], vid, i);
		rte_spinlock_unlock(&d->ring[i].lock);
	}
}

void
direct_resume(struct direct *d, int vid)
{
	if (--d->pauses > 0)
		return;
	look_at_guest(d, vid);
	__atomic_store_n(&d->paused, false, __ATOMIC_RELEASE);
}

void
direct_set_call(struct direct *d, int vid, uint16_t vring, int callfd, struct rte_rcu_qsbr *sections)
{
	struct direct_ring *r = &d->ring[vring];
	uint16_t avail, used;

	if (vring >= d->nb_rings)
		return;
	__atomic_store_n(&r->callfd, callfd, __ATOMIC_SEQ_CST);
	rte_rcu_qsbr_synchronize(sections, RTE_QSBR_THRID_INVALID);
	used = __atomic_load_n(&r->next_used, __ATOMIC_RELAXED);
	if (!__atomic_load_n(&r->ours, __ATOMIC_RELAXED) &&
			rte_vhost_get_vring_base(vid, vring, &avail, &used) < 0)
		return;
	if (used != r->used_before)
		send_notification(r);
	r->used_before = used;
}

void
direct_end(struct direct *d, int vid)
{
	uint16_t i, n = count_rings(d, vid);

	for (i = 0; i < n; i++) {
		if (d->ring[i].in_memory)
			notify_of_rest(&d->ring[i], vid, i);
	}
}

/*
 * How many frames librte_vhost may be given at once, whatever the guest writes into its ring
 * meanwhile: its lists of used elements are as long as the ring (lib/vhost/virtio_net.c, shadow_used_*).
 * - A split ring takes as many elements as its index says, one a frame, or without limit where
 *   received frames are spread over buffers; but one such frame takes fewer than the ring has.
 * - A packed ring checks each element. Four received frames would be written at once, by a length
 *   that is not held against the header's and is read twice (virtio_dev_rx_sync_batch_check()).
 */
static int
most_frames(const struct direct *d, const struct direct_ring *r, int vid, uint16_t vring)
{
	bool receives = vring % 2 == 0;
	uint16_t avail, used, waiting;

	if (rte_vhost_get_vring_base(vid, vring, &avail, &used) < 0)
		return 0;
	if (d->packed) {
		/* A frame spread over chains as long as the ring can move it beyond the end. */
		if ((avail & PACKED_INDEX) >= r->size || (used & PACKED_INDEX) >= r->size)
			return -EINVAL;
		return !receives ? BURST_MAX : d->mergeable ? 1 : PACKED_RECEIVE_MAX;
	}
	waiting = (uint16_t)(__atomic_load_n(&r->avail->idx, __ATOMIC_ACQUIRE) - avail);
	if (waiting > r->size)
		return -EINVAL;
	return receives && d->mergeable ? 1 : RTE_MIN(r->size, (uint16_t)BURST_MAX);
}

int
direct_lend(struct direct *d, int vid, uint16_t vring)
{
	struct direct_ring *r = &d->ring[vring];
	int most;

	if (vring >= d->nb_rings || direct_is_paused(d) || !r->in_memory)
		return 0;
	rte_spinlock_lock(&r->lock);
	hand_back(d, r, vid, vring);
	most = most_frames(d, r, vid, vring);
	if (most > 0)
		r->lent++;
	rte_spinlock_unlock(&r->lock);
	return most;
}

/* A place in a packed ring in two rounds of it: the wrap counter is 1 in the first. */
static uint32_t
packed_place(const struct direct_ring *r, uint16_t index)
{
	return (index & PACKED_INDEX) + (index & ~PACKED_INDEX ? 0 : r->size);
}

/* VIRTIO 1.1, 2.7.10 and 2.7.14. The indices are used ones, with the wrap counter in bit 15. */
static bool
packed_wants_notification(const struct direct *d, const struct direct_ring *r, uint16_t now,
	uint16_t old)
{
	const struct vring_packed_desc_event *event = (const void *)r->avail;
	uint16_t flags = __atomic_load_n(&event->flags, __ATOMIC_ACQUIRE);
	uint16_t place = __atomic_load_n(&event->off_wrap, __ATOMIC_RELAXED);
	uint32_t round = 2u * r->size, used;

	if (flags == VRING_PACKED_EVENT_FLAG_DISABLE)
		return false;
	if (!d->event_idx || flags != VRING_PACKED_EVENT_FLAG_DESC || !r->signalled_valid ||
			(place & PACKED_INDEX) >= r->size)
		return true;
	used = packed_place(r, now);
	return (used + round - packed_place(r, place) - 1) % round <
		(used + round - packed_place(r, old)) % round;
}

/* After a call of librte_vhost. */
static void
notify_of_used(const struct direct *d, struct direct_ring *r, int vid, uint16_t vring)
{
	uint16_t avail, used, old = r->signalled;

	if (rte_vhost_get_vring_base(vid, vring, &avail, &used) < 0 || used == old)
		return;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (d->packed) {
		r->signalled = used;
		if (packed_wants_notification(d, r, used, old))
			send_notification(r);
		r->signalled_valid = true;
		return;
	}
	r->next_used = used;
	r->shown = used;
	direct_tell(d, r);
}

void
direct_return(struct direct *d, int vid, uint16_t vring, struct direct_section *s)
{
	struct direct_ring *r = &d->ring[vring];

	direct_enter(s);
	rte_spinlock_lock(&r->lock);
	r->lent--;
	if (!direct_is_paused(d)) /* else direct_resume() or direct_end() does */
		notify_of_used(d, r, vid, vring);
	rte_spinlock_unlock(&r->lock);
}

bool
direct_take_slow(struct direct *d, int vid, uint16_t vring)
{
	struct direct_ring *r = &d->ring[vring];

	if (!r->usable || r->lent > 0)
		return false;
	if (rte_vhost_get_vring_base(vid, vring, &r->next_avail, &r->next_used) < 0)
		return false;
	r->shown = r->next_used;
	r->ours = true;
	return true;
}
