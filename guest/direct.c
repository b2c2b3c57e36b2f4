/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>

#include <rte_malloc.h>
#include <rte_vhost.h>

#include "guest/direct.h"

#define DIRECT_TEXT(upper, text) text,
const char *const direct_bar_text[DIRECT_BAR_MAX] = { FOREACH_DIRECT_BAR(DIRECT_TEXT) };

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
 * Lengths and alignments: VIRTIO 1.1, 2.6. librte_vhost keeps it to itself whether it found a ring to
 * be wholly in the guest's memory, so that is looked at here. The event index at the end of either
 * part counts always: it is there in every driver's layout.
 */
static bool
is_ring(const struct direct *d, const struct rte_vhost_vring *v)
{
	uint64_t n = v->size;

	return v->desc != NULL && v->avail != NULL && v->used != NULL && rte_is_power_of_2(v->size) &&
		v->size <= VIRTQUEUE_SIZE_MAX && is_inside(d, v->desc, 16 * n, 16) &&
		is_inside(d, v->avail, 6 + 2 * n, 2) && is_inside(d, v->used, 6 + 8 * n, 4);
}

static void
look_at_ring(struct direct *d, int vid, uint16_t vring)
{
	struct direct_ring *r = &d->ring[vring];
	struct rte_vhost_vring v;

	r->usable = false;
	r->callfd = -1;
	r->signalled_valid = false;
	r->once = true;
	r->skip = 0;
	if (rte_vhost_get_vhost_vring(vid, vring, &v) < 0 || !is_ring(d, &v)) {
		r->stale = false;
		return;
	}
	r->desc = v.desc;
	r->avail = v.avail;
	r->used = v.used;
	r->size = v.size;
	r->callfd = v.callfd;
	r->usable = d->bar == DIRECT_BAR_NONE;
	/* A worker that had just returned the ring may have left this undone for the pause. */
	if (r->stale && d->event_idx && r->callfd >= 0)
		eventfd_write(r->callfd, 1);
}

static enum direct_bar
find_bar(struct direct *d, int vid, uint64_t features)
{
	bool fits = copy_regions(d, vid);

	if (!d->wanted)
		return DIRECT_BAR_MODE;
	if (HAS(features, VIRTIO_F_RING_PACKED))
		return DIRECT_BAR_PACKED;
	if (HAS(features, VIRTIO_F_ACCESS_PLATFORM))
		return DIRECT_BAR_IOMMU;
	if (HAS(features, VHOST_F_LOG_ALL))
		return DIRECT_BAR_LOGGING;
	return fits ? DIRECT_BAR_NONE : DIRECT_BAR_MEMORY;
}

static void
look_at_guest(struct direct *d, int vid)
{
	uint64_t features = 0;
	uint16_t i;

	rte_vhost_get_negotiated_features(vid, &features);
	d->event_idx = HAS(features, VIRTIO_RING_F_EVENT_IDX);
	d->mergeable = HAS(features, VIRTIO_NET_F_MRG_RXBUF);
	d->host_offloads = features & VIRTIO_NET_HOST_OFFLOADS;
	d->hdr_len = d->mergeable || HAS(features, VIRTIO_F_VERSION_1) ? VIRTIO_NET_HDR_LEN
								       : VIRTIO_NET_HDR_LEN_LEGACY;
	d->bar = (uint8_t)find_bar(d, vid, features);
	for (i = 0; i < d->nb_rings; i++)
		look_at_ring(d, vid, i);
}

struct direct *
direct_create(int vid, bool wanted, bool shared)
{
	uint16_t i, n = rte_vhost_get_vring_num(vid);
	struct direct *d = rte_zmalloc("direct", sizeof(*d) + n * sizeof(d->ring[0]),
		RTE_CACHE_LINE_SIZE);

	if (d == NULL)
		return NULL;
	d->nb_rings = n;
	d->wanted = wanted;
	d->shared = shared;
	for (i = 0; i < n; i++)
		rte_spinlock_init(&d->ring[i].lock);
	look_at_guest(d, vid);
	/* These cannot change while the device runs. */
	d->never = d->bar == DIRECT_BAR_MODE || d->bar == DIRECT_BAR_PACKED ||
		d->bar == DIRECT_BAR_IOMMU;
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
	r->stale = true;
}

void
direct_pause(struct direct *d, int vid, struct rte_rcu_qsbr *sections)
{
	uint16_t i;

	if (d->pauses++ > 0)
		return;
	__atomic_store_n(&d->gave_up, false, __ATOMIC_RELAXED);
	__atomic_store_n(&d->paused, true, __ATOMIC_RELEASE);
	rte_rcu_qsbr_synchronize(sections, RTE_QSBR_THRID_INVALID);
	for (i = 0; i < d->nb_rings; i++) {
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
direct_lend_slow(struct direct *d, int vid, uint16_t vring)
{
	rte_spinlock_lock(&d->ring[vring].lock);
	hand_back(d, &d->ring[vring], vid, vring);
	d->ring[vring].lent++;
	rte_spinlock_unlock(&d->ring[vring].lock);
}

/*
 * librte_vhost tells the driver of used elements by what it remembers of the last time it did, which is
 * old when we have had the ring since. What it may therefore have kept silent about is told here,
 * once it has used an element and so remembers what is new.
 */
static void
notify_for_lent(const struct direct *d, struct direct_ring *r, int vid, uint16_t vring)
{
	uint16_t avail, used, old = r->next_used;

	if (rte_vhost_get_vring_base(vid, vring, &avail, &used) < 0 || used == old)
		return;
	r->stale = false;
	if (!d->event_idx || r->callfd < 0)
		return;
	r->next_used = used;
	r->shown = used;
	r->signalled = old;
	r->signalled_valid = true;
	show_and_tell(d, r);
}

void
direct_return_slow(struct direct *d, int vid, uint16_t vring, struct direct_section *s)
{
	struct direct_ring *r = &d->ring[vring];

	direct_enter(s);
	rte_spinlock_lock(&r->lock);
	r->lent--;
	if (r->stale && !direct_is_paused(d))
		notify_for_lent(d, r, vid, vring);
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
	r->signalled = r->next_used;
	r->ours = true;
	r->stale = false;
	return true;
}
