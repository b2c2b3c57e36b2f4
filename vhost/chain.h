/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef VHOST_CHAIN_H
#define VHOST_CHAIN_H

/**
 * @file
 * Descriptor chains of both kinds of virtqueues.
 *
 * Guests are not trusted. The guest can change a descriptor at any time: it is copied once, and
 * only the copy is used. Every address is looked up in the memory table of the guest that gave it,
 * and a chain that breaks the rules of VIRTIO is reported as such.
 */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#include <rte_atomic.h>
#include <rte_byteorder.h>
#include <rte_common.h>

#include "vhost/vring.h"

/** Segments of a frame in guest memory at most. A driver makes one for each page, and one more. */
#define SEGMENTS_MAX 512

/** What a virtqueue, or the device that it is of, has for a frame. */
enum vring_status {
	VRING_OK,
	VRING_EMPTY,	/**< no chain is available */
	VRING_SHORT,	/**< fewer buffers are available than the frame needs */
	VRING_TOO_LONG, /**< the frame is longer than what it may lie in, however long it waits */
	VRING_RUNT,	/**< the chain is shorter than the headers of a frame */
	VRING_BROKEN,	/**< the driver breaks the rules of virtio */
	VRING_PAUSED,	/**< a message is changing the device, or no virtqueue of it is enabled */
	VRING_STOPPED,	/**< the device does not run */
	VRING_UNABLE,	/**< since it was last changed it does not accept what the frame asks for */
	VRING_DISABLED, /**< the device is disabled */
};

/** A chain that was taken: what it is given back by. */
struct chain {
	uint16_t id;	/**< of its used element */
	uint16_t count; /**< entries that it takes in a packed virtqueue, 1 in a split one */
};

/**
 * Read a descriptor once. A table of indirect ones may be anywhere, so no alignment is taken for
 * granted.
 *
 * @param table where descriptors are
 * @param i which one
 * @return a copy of it
 */
static inline struct vring_desc
chain_descriptor(const void *table, uint32_t i)
{
	struct vring_desc copy;

	memcpy(&copy, (const uint8_t *)table + i * sizeof(copy), sizeof(copy));
	rte_compiler_barrier(); /* what is used from here on is the copy */
	return copy;
}

/** The head of a chain of a split virtqueue, by an index of its available ring. */
static inline uint16_t
chain_head(const struct virtqueue *vq, uint16_t index)
{
	return __atomic_load_n(&vq->avail->ring[index & (vq->size - 1)], __ATOMIC_RELAXED);
}

/** Whether a packed virtqueue's entry, of these flags, is available (VIRTIO 1.1, 2.7.1). */
static inline bool
chain_is_available(uint16_t flags, uint16_t index)
{
	bool avail = flags & (1 << VRING_PACKED_DESC_F_AVAIL);
	bool used = flags & (1 << VRING_PACKED_DESC_F_USED);

	return avail != used && avail == !!(index & PACKED_WRAP);
}

/**
 * Look for a chain of one descriptor that is not an indirect one. Any other chain_walk() deals
 * with.
 *
 * @param vq the virtqueue
 * @param packed whether it is packed
 * @param index packed: where the chain is
 * @param write whether the device is to write to it, or to read it
 * @param[in,out] id what it is given back by; split: its head
 * @param[out] e address and length
 * @return VRING_OK, VRING_EMPTY (packed only), VRING_BROKEN for another one
 */
static inline enum vring_status
chain_single(const struct virtqueue *vq, bool packed, uint16_t index, bool write, uint16_t *id,
	struct vring_desc *e)
{
	const uint16_t want = write ? VRING_DESC_F_WRITE : 0;

	if (packed) {
		const struct vring_packed_desc *desc = &vq->packed_desc[index & PACKED_INDEX];
		uint16_t flags = rte_le_to_cpu_16(__atomic_load_n(&desc->flags, __ATOMIC_ACQUIRE));

		if (!chain_is_available(flags, index))
			return VRING_EMPTY;
		*e = chain_descriptor(desc, 0);
		*id = e->flags; /* where a split one has its flags */
		flags &= VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE;
		return likely(flags == want) ? VRING_OK : VRING_BROKEN;
	}
	if (unlikely(*id >= vq->size))
		return VRING_BROKEN;
	*e = chain_descriptor(vq->desc, *id);
	return likely(e->flags == want) ? VRING_OK : VRING_BROKEN;
}

/**
 * Find where the memory of a chain is (VIRTIO 1.1, 2.6.5 and 2.7). Called by a worker.
 *
 * @param d the device, not paused
 * @param vq its virtqueue
 * @param index of the available ring, or of a packed virtqueue; of a split one it must be available
 * @param write whether the device is to write to the chain, or to read it
 * @param[out] segment segments are added here
 * @param[in,out] n how many there are
 * @param max how many there can be
 * @param[out] chain what it is given back by
 * @return VRING_OK, VRING_EMPTY (packed only), VRING_TOO_LONG when max is too small, VRING_BROKEN
 */
enum vring_status chain_walk(const struct device *d, const struct virtqueue *vq, uint16_t index,
	bool write, struct iovec *segment, uint16_t *n, uint16_t max, struct chain *chain);

/**
 * If a chain of a split virtqueue has a table of indirect descriptors, prefetch that. Called by a
 * worker.
 *
 * @param d the device, not paused
 * @param vq its virtqueue
 * @param head of the chain
 */
void chain_prefetch_table(const struct device *d, const struct virtqueue *vq, uint16_t head);

/**
 * Take bytes off the front of segments.
 *
 * @param segment the segments
 * @param[in,out] n how many there are
 * @param to where the bytes are copied to
 * @param len how many
 * @return false if there are fewer
 */
bool chain_pull(struct iovec *segment, uint16_t *n, void *to, uint32_t len);

/**
 * Copy bytes into segments that are long enough.
 *
 * @param d whose memory they are in
 * @param segment the segments
 * @param off where to begin, in bytes
 * @param from what to copy
 * @param len bytes
 */
void chain_scatter(const struct device *d, const struct iovec *segment, uint32_t off,
	const void *from, uint32_t len);

#endif /* VHOST_CHAIN_H */
