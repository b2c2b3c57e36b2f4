/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_BURST_H
#define SWITCH_BURST_H

/**
 * @file
 * A burst of frames, as views: where each frame lies, what it asks for, and the key of its
 * destination.
 *
 * Frames lie in the memory of the guest that sends them, in the buffers of its transmit virtqueue,
 * or in mbufs. What decides about them and what copies them does not see the difference.
 *
 * A burst of a virtqueue is read by a software pipeline: each stage runs some frames ahead of the
 * next, so that what it needs has come into the cache. The stages, and how far the first ones are
 * when frame i is copied:
 *
 *     start     heads of chains are read, descriptors are prefetched      the whole burst
 *     tables    tables of indirect descriptors are prefetched            8 before gather
 *     gather    descriptors are read and checked, data is prefetched     i + GATHER_AHEAD
 *     look up   destinations are read, their owners are looked up        i + LOOKUP_AHEAD
 *     find      a buffer of the receiver is found and prefetched         i + FIND_AHEAD
 *     copy      into the buffer; the next one is prefetched meanwhile    i
 *     finish    used elements of sender and receivers, notifications      after the last
 *
 * The first three are in burst.c and this file, the others in deliver.c.
 *
 * Of each descriptor and of each destination address one reading is used, and what a decision
 * rested on is what the receiver gets. All functions are a worker's.
 */

#include <stdbool.h>
#include <stdint.h>

#include <rte_branch_prediction.h>
#include <rte_ether.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>

#include "port/fdb.h"
#include "switch/copy.h"
#include "vhost/chain.h"

/**
 * Frames taken at once from a virtqueue, and published to their receivers together. More than a
 * burst of mbufs, as there is no mbuf for each, and each time costs a memory fence and lines that
 * drivers poll.
 */
#define BURST_VIEWS 128

/** Segments of a frame that are kept for each frame; one frame of a burst may have more. */
#define SEGMENTS_KEPT 20

/** Longest frame: an IP packet of 64 KiB, after an Ethernet header with one tag. */
#define FRAME_MAX (65535 + 14 + 4)

/** Frames whose owners are looked up at once. */
#define LOOKUP_AHEAD 8

/**
 * Beside a key, in bits that the FDB does not look at: what the frame asks for in its virtio-net
 * header. So all frames of a run ask for the same.
 */
#define KEY_ASKS_SHIFT 60
_Static_assert(FDB_KEY_MASK >> KEY_ASKS_SHIFT == 0, "the bits are free");

/** mbuf->port of a frame on its way: the device id of its sender, or one of these. */
#define FROM_UPLINK 0xfffe
#define FROM_FLOOD 0xfffd /**< a guest's, counted as sent when it was handed out */
#define FROM_GONE 0xfffc  /**< of a guest that has left since */

struct batch;

/** A receive virtqueue that has frames of the burst, which its driver cannot see yet. */
struct receiver {
	struct device *d;
	struct virtqueue *vq;
	struct batch *batch;
};

/** A burst. */
struct burst {
	struct device *d;	/**< of the sender; NULL: frames are in mbufs */
	struct virtqueue *vq;	/**< its transmit virtqueue */
	struct rte_mbuf **mbuf; /**< frames in mbufs; NULL for one that was taken over */
	uint16_t limit;		/**< frames there are: chain heads of a split virtqueue are there */
	uint16_t n;	/**< of these, gathered and good: nb_segments, len, data are there */
	uint16_t keyed; /**< of these, those whose destination has been read: key is there */
	uint16_t known; /**< of these, those looked up: owner is there */
	uint16_t index; /**< packed: where the chain of frame n is */
	enum vring_status status; /**< of frame n, which is not good; VRING_OK: there is none */
	bool has_asks; /**< asks is there, and not 0 for one of them at least */
	uint16_t nb_receivers;
	uint16_t long_frame; /**< whose segments are in long_segment */
	struct receiver receiver[BURST_VIEWS];
	/* Field by field, as each stage walks one field of all of them. */
	uint16_t id[BURST_VIEWS];    /**< what a chain is given back by */
	uint16_t count[BURST_VIEWS]; /**< entries of it in a packed virtqueue */
	uint16_t owner[BURST_VIEWS];
	uint16_t nb_segments[BURST_VIEWS]; /**< 1: all in data and len */
	uint32_t len[BURST_VIEWS];
	const uint8_t *data[BURST_VIEWS]; /**< the Ethernet header, at least */
	uint64_t key[BURST_VIEWS];	  /**< destination MAC, read once, and asks */
	uint8_t asks[BURST_VIEWS];	  /**< OFFLOAD_* that header asks for, or OFFLOAD_INVALID */
	struct virtio_net_hdr header[BURST_VIEWS]; /**< checked; nothing else of it is passed on */
	uint8_t ether[BURST_VIEWS][16];	  /**< for data, if the first segment is shorter */
	struct iovec segment[BURST_VIEWS][SEGMENTS_KEPT];
	struct iovec long_segment[SEGMENTS_MAX];
};

/** Frames of a burst that have one destination. */
struct run {
	uint16_t first;
	uint16_t end;	 /**< it ends before this frame, or at the end of the burst, */
	uint64_t key;	 /**< or before a frame whose key differs in the bits of mask */
	uint64_t mask;	 /**< 0: keys do not matter */
	uint16_t sender; /**< device id, or FROM_FLOOD; of mbufs their own ports count */
	uint16_t vring;	 /**< receive virtqueue, RINGS_MAX: any */
};

/** Begin with frames in mbufs, each of at least an Ethernet header. At most BURST_VIEWS. */
void burst_of_mbufs(struct burst *b, struct rte_mbuf **frames, uint16_t n);

/**
 * Begin with what a transmit virtqueue has.
 *
 * @param[out] b the burst; n is 0 if there is nothing, or if the first frame is not good: status
 *   says which
 * @param d the device, not paused
 * @param vq its virtqueue
 */
void burst_of_vring(struct burst *b, struct device *d, struct virtqueue *vq);

/** Gather a frame whose descriptors are more than one, or not in a split virtqueue. */
enum vring_status burst_gather_chain(struct burst *b, uint16_t i);

/** The segments of a frame, nb_segments of them; until the next call for a frame of mbufs. */
const struct iovec *burst_segments(struct burst *b, uint16_t i);

/** Copy the beginning of a frame, as many bytes as it has of len. Returns how many. */
uint32_t burst_read(struct burst *b, uint16_t i, void *to, uint32_t len);

/**
 * Copy a frame into an mbuf, or a chain of them.
 *
 * @param b the burst
 * @param i the frame
 * @param pool where mbufs come from
 * @param max bytes at most; a longer frame is truncated
 * @return the mbuf, NULL if the pool is empty
 */
struct rte_mbuf *burst_copy(struct burst *b, uint16_t i, struct rte_mempool *pool, uint32_t max);

/**
 * Copy a frame into an mbuf that is there and empty, and into more of its pool if it is too long
 * for that.
 *
 * @param b the burst
 * @param i the frame
 * @param m the mbuf, which is freed if there are no more
 * @param max bytes at most; a longer frame is truncated
 * @return the mbuf, NULL if the pool is empty
 */
struct rte_mbuf *burst_copy_into(struct burst *b, uint16_t i, struct rte_mbuf *m, uint32_t max);

/** Whether a virtio-net header may ask for something: neither flags nor gso_type are 0. */
static inline bool
header_asks(const uint8_t *header)
{
	uint16_t front;

	_Static_assert(offsetof(struct virtio_net_hdr, gso_type) == 1, "the two are neighbours");
	memcpy(&front, header, sizeof(front));
	return front != 0;
}

/** Frame i asks for something: for what is in its header, which is there. */
static inline void
burst_note_asks(struct burst *b, uint16_t i, uint8_t asks)
{
	if (!b->has_asks)
		memset(b->asks, 0, sizeof(b->asks));
	b->asks[i] = asks;
	b->has_asks = true;
}

/**
 * Check what frame i asks for, and note that. Its len, data and segments are there.
 *
 * @param b a burst of a virtqueue
 * @param i the frame
 * @param header its virtio-net header, in memory that the guest may change
 */
void burst_check_header(struct burst *b, uint16_t i, const uint8_t *header);

/** What frame i asks for, OFFLOAD_* or OFFLOAD_INVALID. */
static inline uint8_t
burst_asks(const struct burst *b, uint16_t i)
{
	return unlikely(b->has_asks) ? b->asks[i] : 0;
}

/** What the frames of a key ask for. */
static inline uint8_t
key_asks(uint64_t key)
{
	return (uint8_t)(key >> KEY_ASKS_SHIFT);
}

/** Gather frame i. */
static inline enum vring_status
gather_one(struct burst *b, uint16_t i, bool packed)
{
	const struct device *d = b->d;
	const struct virtqueue *vq = b->vq;
	enum vring_status status;
	const uint32_t min = d->hdr_len + (uint32_t)RTE_ETHER_HDR_LEN;
	struct vring_desc e;
	const uint8_t *at;

	status = chain_single(vq, packed, b->index, false, &b->id[i], &e);
	if (packed && status == VRING_EMPTY)
		return status;
	if (unlikely(status != VRING_OK || e.len - min > FRAME_MAX - RTE_ETHER_HDR_LEN))
		return burst_gather_chain(b, i);
	at = device_translate(d, e.addr, e.len);
	if (unlikely(at == NULL))
		return burst_gather_chain(b, i);
	b->data[i] = at + d->hdr_len;
	b->len[i] = e.len - d->hdr_len;
	if (unlikely(d->may_ask != 0) && header_asks(at))
		burst_check_header(b, i, at);
	if (packed) {
		b->count[i] = 1;
		b->index = vring_advance(vq, b->index, 1);
	}
	/* Its ends, where senders have written last. The CPU fetches what is between by itself. */
	rte_prefetch0(b->data[i]);
	rte_prefetch0(b->data[i] + b->len[i] - 1);
	return VRING_OK;
}

/** gather() for one kind of virtqueue. */
static inline void
gather_vring(struct burst *b, uint16_t upto, bool packed)
{
	while (b->n < upto && b->n < b->limit) {
		enum vring_status status = gather_one(b, b->n, packed);

		if (unlikely(status != VRING_OK)) {
			b->status = status;
			b->limit = b->n;
			return;
		}
		b->n++;
	}
}

/** gather() for a packed virtqueue. */
void burst_gather_packed(struct burst *b, uint16_t upto);

/**
 * Gather frames up to this one. A burst ends at the first frame that is not good: its turn will
 * come, as the first of another burst.
 */
static inline void
gather(struct burst *b, uint16_t upto)
{
	if (b->n >= upto || b->n >= b->limit)
		return;
	if (unlikely(b->vq->packed))
		burst_gather_packed(b, upto);
	else
		gather_vring(b, upto, false);
}

/** Read the destinations of frames up to this one. */
static inline void
read_keys(struct burst *b, uint16_t upto)
{
	for (; b->keyed < upto && b->keyed < b->n; b->keyed++) {
		const uint8_t *data = b->data[b->keyed];

		b->key[b->keyed] = fdb_key((const struct rte_ether_addr *)data);
		b->key[b->keyed] |= (uint64_t)burst_asks(b, b->keyed) << KEY_ASKS_SHIFT;
	}
}

/** Whether frame i is gathered and belongs to a run. */
static inline bool
in_run(struct burst *b, uint16_t i, const struct run *run)
{
	read_keys(b, (uint16_t)(i + 1));
	return i < b->n && i < run->end && ((b->key[i] ^ run->key) & run->mask) == 0;
}

/** Whose the destination of frame i is. */
static inline uint16_t
find_owner(struct fdb *fdb, struct burst *b, uint16_t i)
{
	if (i >= b->known) {
		read_keys(b, (uint16_t)(i + LOOKUP_AHEAD));
		fdb_lookup_burst(fdb, &b->key[i], (uint16_t)(b->keyed - i), &b->owner[i]);
		b->known = b->keyed;
	}
	return b->owner[i];
}

/** The destination of a frame as it was read, written over what was copied. */
static inline void
write_destination(void *at, uint64_t key)
{
	memcpy(at, &key, RTE_ETHER_ADDR_LEN);
}

#endif /* SWITCH_BURST_H */
