/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver's side of virtqueues in plain memory, split and packed (VIRTIO 1.1, 2.6 and 2.7), for
 * tests that play a guest. A buffer's id is its number: the entry that it begins at.
 */
#ifndef TESTS_UNIT_DRIVER_H
#define TESTS_UNIT_DRIVER_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "vhost/vring.h"

#define DRIVER_RING_MAX 1024u /* entries */
#define DRIVER_RING_BYTES 28672u

struct driver_ring {
	bool packed;
	uint16_t size;
	uint16_t next;			 /* of the next buffer; packed: bit 15 is the wrap bit */
	uint16_t seen;			 /* of the next used element; likewise */
	uint16_t in_use;		 /* entries that the device has, as far as is known */
	uint16_t count[DRIVER_RING_MAX]; /* packed: entries of each buffer */
	struct vring_desc *desc;	 /* or struct vring_packed_desc */
	struct vring_avail *avail;	 /* or driver_event */
	struct vring_used *used;	 /* or device_event */
};

/* A ring as after a reset, in DRIVER_RING_BYTES of memory. */
static inline void
driver_reset(struct driver_ring *r, uint8_t *memory, bool packed, uint16_t size)
{
	memset(memory, 0, DRIVER_RING_BYTES);
	r->packed = packed;
	r->size = size;
	r->next = r->seen = packed ? PACKED_WRAP : 0;
	r->in_use = 0;
	r->desc = (void *)memory;
	r->avail = (void *)(memory + 16 * DRIVER_RING_MAX);
	r->used = (void *)(memory + 18 * DRIVER_RING_MAX + 8);
}

/*
 * Go on from another place, as after a hand-over: the rest of a packed ring was used in the round
 * before (bits of both kinds as then), the part before it in this one.
 */
static inline void
driver_start_at(struct driver_ring *r, uint16_t at)
{
	struct vring_packed_desc *ring = (struct vring_packed_desc *)(void *)r->desc;
	const uint16_t both = 1 << VRING_PACKED_DESC_F_AVAIL | 1 << VRING_PACKED_DESC_F_USED;
	uint16_t i;

	r->next = r->seen = at;
	if (!r->packed) {
		r->avail->idx = r->used->idx = at;
		return;
	}
	for (i = 0; i < r->size; i++)
		ring[i].flags = (i < (at & PACKED_INDEX)) == !!(at & PACKED_WRAP) ? both : 0;
}

static inline uint16_t
driver_advance(const struct driver_ring *r, uint16_t at, uint16_t n)
{
	uint16_t index = (uint16_t)((at & PACKED_INDEX) + n);

	if (!r->packed)
		return (uint16_t)(at + n);
	if (index >= r->size) /* the wrap counter changes */
		return (uint16_t)((index - r->size) | (~at & PACKED_WRAP));
	return (uint16_t)(index | (at & PACKED_WRAP));
}

/*
 * Write entry i of a ring or table: packed ones have id and flags where split ones have flags and
 * next.
 */
static inline void
driver_write(void *table, uint32_t i, bool packed, uint64_t addr, uint32_t len, uint16_t flags,
	uint16_t next_or_id)
{
	struct vring_desc *e = (struct vring_desc *)table + i;

	e->addr = addr;
	e->len = len;
	e->next = packed ? flags : next_or_id;
	e->flags = packed ? next_or_id : flags;
}

/* Offer one entry of a packed ring; its flags are the last to be written. */
static inline void
driver_offer_packed(struct driver_ring *r, uint16_t at, uint64_t addr, uint32_t len, uint16_t flags,
	uint16_t id)
{
	struct vring_packed_desc *ring = (struct vring_packed_desc *)(void *)r->desc;
	struct vring_packed_desc *e = &ring[at & PACKED_INDEX];

	e->addr = addr;
	e->len = len;
	e->id = id;
	flags |= at & PACKED_WRAP ? 1 << VRING_PACKED_DESC_F_AVAIL : 1 << VRING_PACKED_DESC_F_USED;
	__atomic_store_n(&e->flags, flags, __ATOMIC_RELEASE);
}

/*
 * Offer len bytes from addr on, in n parts. With a table these are in it: table is its memory and
 * table_addr its address. Returns false when the ring has no room.
 */
static inline bool
driver_offer(struct driver_ring *r, uint64_t addr, uint32_t len, uint16_t n, bool write,
	void *table, uint64_t table_addr)
{
	uint16_t need = table != NULL ? 1 : n, head = (uint16_t)(r->next % r->size), flags, i;
	uint16_t id = r->packed ? r->next & PACKED_INDEX : head, at = table != NULL ? 0 : head;
	uint32_t part = len / n;

	if (r->size - r->in_use < need)
		return false;
	/* From the last to the first: a packed ring's first entry makes the others available. */
	for (i = n; i-- > 0; ) {
		uint64_t where = addr + (uint64_t)i * part;
		uint32_t bytes = i + 1 < n ? part : len - part * (n - 1u);

		flags = (uint16_t)((write ? VRING_DESC_F_WRITE : 0) |
			(i + 1 < n ? VRING_DESC_F_NEXT : 0));
		if (table != NULL)
			driver_write(table, i, r->packed, where, bytes,
				r->packed ? flags & VRING_DESC_F_WRITE : flags,
				r->packed ? (uint16_t)(0x5555 * i) : (uint16_t)(i + 1));
		else if (r->packed)
			driver_offer_packed(r, driver_advance(r, r->next, i), where, bytes, flags,
				id);
		else
			driver_write(r->desc, (at + 17u * i) % r->size, false, where, bytes, flags,
				(uint16_t)((at + 17u * (i + 1u)) % r->size));
	}
	if (table != NULL && r->packed)
		driver_offer_packed(r, r->next, table_addr, 16u * n, VRING_DESC_F_INDIRECT, id);
	else if (table != NULL)
		driver_write(r->desc, head, false, table_addr, 16u * n, VRING_DESC_F_INDIRECT, 0);
	if (r->packed) {
		r->count[id] = need;
		r->in_use = (uint16_t)(r->in_use + need);
		r->next = driver_advance(r, r->next, need);
		return true;
	}
	r->in_use++; /* in a split ring: of the available ring */
	r->avail->ring[head] = head;
	r->next++;
	__atomic_store_n(&r->avail->idx, r->next, __ATOMIC_RELEASE);
	return true;
}

/* Take the next used element. Returns false when there is none. */
static inline bool
driver_take(struct driver_ring *r, uint16_t *id, uint32_t *len)
{
	const struct vring_packed_desc *e = (void *)r->desc;
	bool wrap = r->seen & PACKED_WRAP;
	uint16_t flags, n = 1;

	if (r->packed) {
		e += r->seen & PACKED_INDEX;
		flags = __atomic_load_n(&e->flags, __ATOMIC_ACQUIRE);
		if (!(flags & (1 << VRING_PACKED_DESC_F_USED)) == wrap ||
				!(flags & (1 << VRING_PACKED_DESC_F_AVAIL)) == wrap)
			return false;
		*id = e->id;
		*len = e->len;
		n = r->count[*id % DRIVER_RING_MAX];
	} else {
		const struct vring_used_elem *u = &r->used->ring[r->seen % r->size];

		if (__atomic_load_n(&r->used->idx, __ATOMIC_ACQUIRE) == r->seen)
			return false;
		*id = (uint16_t)u->id;
		*len = u->len;
	}
	r->seen = driver_advance(r, r->seen, n);
	r->in_use = (uint16_t)(r->in_use - (n < r->in_use ? n : r->in_use));
	return true;
}

#endif /* TESTS_UNIT_DRIVER_H */
