/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include "guest/buffers.h"

/* More than any frame: a buffer whose length is not known. */
#define UNKNOWN UINT32_MAX

/* Bits of a packed virtqueue's descriptor that say whose it is (VIRTIO 1.1, 2.7.1). */
#define PACKED_AVAIL (1 << VRING_PACKED_DESC_F_AVAIL)
#define PACKED_USED (1 << VRING_PACKED_DESC_F_USED)

/* Both kinds of descriptor are 16 bytes, with address and length at the same place. */
_Static_assert(sizeof(struct vring_desc) == sizeof(struct vring_packed_desc), "indirect tables");

/* A receive ring as it is now. The guest may change it at any time. */
struct view {
	const struct direct *d;
	struct rte_vhost_vring ring;
	uint16_t next;	/* index of the first buffer that is not used */
	bool wrap;	/* packed: what PACKED_AVAIL is in one that is there */
};

/* Bytes of an indirect table (VIRTIO 1.1, 2.6.5.3): the whole of it is one buffer. */
static uint32_t
indirect_length(const struct direct *d, uint64_t addr, uint32_t len)
{
	const struct vring_desc *table = direct_translate(d, addr, len);
	uint32_t i, n = len / sizeof(*table);
	uint64_t sum = 0;

	if (table == NULL || n > VIRTQUEUE_SIZE_MAX)
		return UNKNOWN;
	for (i = 0; i < n; i++) {
		struct vring_desc e;

		memcpy(&e, (const uint8_t *)table + i * sizeof(e), sizeof(e));
		sum += e.len;
	}
	return (uint32_t)RTE_MIN(sum, (uint64_t)UNKNOWN);
}

/* Bytes of the chain that the driver has made available as the n-th from now, 0: there is none. */
static uint32_t
split_length(struct view *v, uint16_t n)
{
	uint16_t mask = (uint16_t)(v->ring.size - 1), count;
	uint16_t at = (uint16_t)(v->next + n);
	uint64_t sum = 0;

	if ((uint16_t)(__atomic_load_n(&v->ring.avail->idx, __ATOMIC_ACQUIRE) - v->next) <= n)
		return 0;
	at = __atomic_load_n(&v->ring.avail->ring[at & mask], __ATOMIC_RELAXED);
	for (count = 0; count < v->ring.size; count++) {
		struct vring_desc e;

		if (at >= v->ring.size)
			return UNKNOWN;
		memcpy(&e, &v->ring.desc[at], sizeof(e));
		if (e.flags & VRING_DESC_F_INDIRECT)
			return indirect_length(v->d, e.addr, e.len);
		sum += e.len;
		if (!(e.flags & VRING_DESC_F_NEXT))
			break;
		at = e.next;
	}
	return (uint32_t)RTE_MIN(sum, (uint64_t)UNKNOWN);
}

/* The same of a packed ring; v->next moves to the descriptor after the chain. */
static uint32_t
packed_length(struct view *v)
{
	uint64_t sum = 0;
	uint16_t count, flags;

	for (count = 0; count < v->ring.size; count++) {
		const struct vring_packed_desc *desc = &v->ring.desc_packed[v->next];
		struct vring_packed_desc e;

		flags = __atomic_load_n(&desc->flags, __ATOMIC_ACQUIRE);
		if (count == 0 && (!!(flags & PACKED_AVAIL) != v->wrap ||
				!!(flags & PACKED_USED) == v->wrap))
			return 0;
		memcpy(&e, desc, sizeof(e));
		if (++v->next == v->ring.size) {
			v->next = 0;
			v->wrap = !v->wrap;
		}
		if (flags & VRING_DESC_F_INDIRECT)
			return indirect_length(v->d, e.addr, e.len);
		sum += e.len;
		if (!(flags & VRING_DESC_F_NEXT))
			break;
	}
	return (uint32_t)RTE_MIN(sum, (uint64_t)UNKNOWN);
}

/* Read where a ring is and how far it is used, if it is aligned and wholly in the guest's memory. */
static bool
open_view(struct view *v, const struct guest *g, uint16_t vring)
{
	bool packed = g->features & RTE_BIT64(VIRTIO_F_RING_PACKED);
	uint16_t used;

	v->d = g->direct;
	if (vring >= g->direct->nb_rings || !g->direct->ring[vring].in_memory ||
			rte_vhost_get_vhost_vring(g->vid, vring, &v->ring) < 0 ||
			rte_vhost_get_vring_base(g->vid, vring, &v->next, &used) < 0)
		return false;
	if (packed) {
		v->wrap = v->next >> 15;
		v->next &= INT16_MAX;
	}
	return !packed || v->next < v->ring.size;
}

enum guest_room
guest_room(const struct guest *g, struct direct_section *section, uint16_t vring, uint32_t len)
{
	bool packed = g->features & RTE_BIT64(VIRTIO_F_RING_PACKED);
	uint32_t need = len + g->direct->hdr_len, one;
	uint64_t room = 0;
	struct view v;
	uint16_t n;

	direct_enter(section); /* the ring stays where it is */
	if (direct_is_paused(g->direct) || !open_view(&v, g, vring))
		return GUEST_FULL;
	for (n = 0; n < v.ring.size && room < need; n++) {
		one = packed ? packed_length(&v) : split_length(&v, n);
		if (one == 0)
			return n == 0 ? GUEST_FULL : GUEST_SHORT;
		room += one;
		if (!g->mergeable)
			break;
	}
	return room < need ? GUEST_TOO_LONG : GUEST_FULL;
}
