/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BENCH_RING_H
#define BENCH_RING_H

/*
 * The driver's side of a virtqueue, split (VIRTIO 1.1, 2.6) or packed (2.7), by plain stores. Its
 * buffers are known by ids below its size, which is a power of two; each element is one entry of
 * the ring, but for chains in a split one.
 */
#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_ring.h>

struct ring {
	struct vring_desc *desc; /* what each id stands for; packed: a copy of the driver's own */
	struct vring_avail *avail;
	struct vring_used *used;
	struct vring_packed_desc *packed; /* NULL: it is split */
	uint8_t *buffers;
	uint16_t size;
	/* Elements offered, of these published, and elements taken back, modulo 65536. */
	uint16_t avail_idx, published_idx, used_idx;
};

/* The wrap counter of an element in a packed virtqueue. */
static inline bool
ring_wrap(const struct ring *r, uint16_t idx)
{
	return (idx / r->size) % 2 == 0;
}

static inline struct vring_packed_desc *
ring_packed_desc(const struct ring *r, uint16_t idx)
{
	return &r->packed[idx % r->size];
}

/* Flags that make an element of a packed virtqueue available. */
static inline uint16_t
ring_packed_flags(const struct ring *r, uint16_t idx, uint16_t id)
{
	unsigned int bit = ring_wrap(r, idx) ? VRING_PACKED_DESC_F_AVAIL : VRING_PACKED_DESC_F_USED;

	return (uint16_t)(r->desc[id].flags | 1u << bit);
}

/* Have the device not notify the driver. */
static inline void
ring_silence(struct ring *r)
{
	if (r->packed == NULL)
		r->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	else
		((struct vring_packed_desc_event *)(void *)r->avail)->flags =
			VRING_PACKED_EVENT_FLAG_DISABLE;
}

/* Offer what desc[id] describes. The device sees it once it is published. */
static inline void
ring_offer(struct ring *r, uint16_t id)
{
	if (r->packed == NULL) {
		r->avail->ring[r->avail_idx % r->size] = id;
	} else {
		struct vring_packed_desc *p = ring_packed_desc(r, r->avail_idx);

		p->addr = r->desc[id].addr;
		p->len = r->desc[id].len;
		p->id = id;
		if (r->avail_idx != r->published_idx)
			p->flags = ring_packed_flags(r, r->avail_idx, id);
	}
	r->avail_idx++;
}

/* In a packed virtqueue the device stops at the first element until its flags are there. */
static inline void
ring_publish(struct ring *r)
{
	if (r->packed == NULL) {
		__atomic_store_n(&r->avail->idx, r->avail_idx, __ATOMIC_RELEASE);
	} else if (r->avail_idx != r->published_idx) {
		struct vring_packed_desc *p = ring_packed_desc(r, r->published_idx);

		__atomic_store_n(&p->flags, ring_packed_flags(r, r->published_idx, p->id),
			__ATOMIC_RELEASE);
	}
	r->published_idx = r->avail_idx;
}

/* Whether the device has used an element of a packed virtqueue. */
static inline bool
ring_is_used(const struct ring *r, uint16_t idx)
{
	uint16_t flags = __atomic_load_n(&ring_packed_desc(r, idx)->flags, __ATOMIC_ACQUIRE);
	bool wrap = ring_wrap(r, idx);

	return (flags >> VRING_PACKED_DESC_F_AVAIL) % 2 == wrap &&
		(flags >> VRING_PACKED_DESC_F_USED) % 2 == wrap;
}

/*
 * Elements that can be taken back. With a number that is waited for it may answer 0 until there are
 * as many: in a packed virtqueue it then looks at the last of them first, so that it does not read
 * what the device is writing.
 */
static inline uint16_t
ring_arrived(const struct ring *r, uint16_t wanted)
{
	uint16_t n = 0;

	if (r->packed == NULL)
		return (uint16_t)(__atomic_load_n(&r->used->idx, __ATOMIC_ACQUIRE) - r->used_idx);
	if (wanted > 0 && !ring_is_used(r, (uint16_t)(r->used_idx + wanted - 1)))
		return 0;
	while (n < r->size && ring_is_used(r, (uint16_t)(r->used_idx + n)))
		n++;
	return n;
}

/* Take one back, of those that have arrived. */
static inline struct vring_used_elem
ring_take(struct ring *r)
{
	uint16_t idx = r->used_idx++;

	if (r->packed == NULL)
		return r->used->ring[idx % r->size];
	return (struct vring_used_elem){ ring_packed_desc(r, idx)->id,
		ring_packed_desc(r, idx)->len };
}

#endif /* BENCH_RING_H */
