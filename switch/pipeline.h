/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_PIPELINE_H
#define SWITCH_PIPELINE_H

/**
 * @file
 * The way of frames into buffers of one segment each: pipeline.c copies into one receive virtqueue,
 * lanes.c into several, and what they have in common is here. Each kind of frames has a function of
 * its own, without a look at what only other kinds need: that took a fifth of the time of short
 * frames. All functions are a worker's.
 */

#include <string.h>

#include "switch/burst.h"
#include "switch/copy.h"
#include "switch/edit.h"
#include "switch/spread.h"

/** Where frames go to: a buffer in one segment for each. */
struct target {
	uint16_t id[BURST_VIEWS];
	uint8_t *at[BURST_VIEWS];
};

/** Copy frame i into a buffer that is long enough. */
static __rte_always_inline void
copy_frame(uint8_t *to, struct burst *b, uint16_t i, bool has_rules, struct copy_next next)
{
	const struct iovec *s;
	uint8_t *at = to;
	uint16_t k;

	if (likely(b->nb_segments[i] == 1)) {
		copy_and_fetch(at, b->data[i], b->len[i], next);
	} else {
		s = burst_segments(b, i);
		for (k = 0; k < b->nb_segments[i]; k++) {
			memcpy(at, s[k].iov_base, s[k].iov_len);
			at += s[k].iov_len;
		}
	}
	if (has_rules)
		memcpy(to, b->head[i], RTE_ETHER_HDR_LEN);
	else
		write_destination(to, b->key[i]);
}

/** copy_frame() with another tag or none, and a head that is as it was read. */
void pipeline_copy_edited(uint8_t *to, struct burst *b, uint16_t i, const struct run *run,
	struct edit e, struct copy_next next);

/**
 * Find a buffer for the k-th frame, which needs so much: the one at index, if it is simply long
 * enough. Prefetch its beginning.
 */
static inline bool
find_buffer(const struct device *d, const struct virtqueue *vq, bool packed, uint16_t index,
	uint32_t need, uint16_t k, struct target *t)
{
	struct vring_desc e;

	if (!packed)
		t->id[k] = chain_head(vq, index);
	if (unlikely(chain_single(vq, packed, index, true, &t->id[k], &e) != VRING_OK ||
			e.len < need))
		return false;
	t->at[k] = device_translate(d, e.addr, need);
	if (unlikely(t->at[k] == NULL))
		return false;
	prefetch_write(t->at[k]);
	if (need > RTE_CACHE_LINE_SIZE)
		prefetch_write(t->at[k] + RTE_CACHE_LINE_SIZE);
	return true;
}

/** Frames that there is a function for. */
enum kind {
	KIND_PLAIN,    /**< none may ask for anything, and they keep their tags */
	KIND_OF_PORTS, /**< the same, of a burst with rules */
	KIND_ASKING,   /**< they may ask for something, and keep their tags */
	KIND_ANY,      /**< any */
};

/** The buffer after that of frame i, the k-th, if it is found: to be fetched meanwhile. */
static __rte_always_inline struct copy_next
next_buffer(const struct device *d, const struct burst *b, const struct target *t, uint16_t k,
	uint16_t found, uint16_t i, struct edit e)
{
	if (k + 1 >= found)
		return (struct copy_next){ NULL, NULL };
	return rest_of_buffer(t->at[k + 1], d->hdr_len + edited_len(b, (uint16_t)(i + 1), e));
}

/** Write frame i and its header into a buffer. */
static __rte_always_inline void
write_frame(const struct device *d, uint8_t *at, enum kind kind, struct burst *b, uint16_t i,
	const struct run *run, struct edit e, struct copy_next next)
{
	struct virtio_net_hdr moved;

	write_header(at, d->hdr_len, 1, kind == KIND_ASKING || kind == KIND_ANY
		? asks_of(b, i, e, &moved) : NULL);
	if (kind == KIND_ANY && run->retag)
		pipeline_copy_edited(at + d->hdr_len, b, i, run, e, next);
	else
		copy_frame(at + d->hdr_len, b, i,
			kind == KIND_OF_PORTS || (kind != KIND_PLAIN && b->rules != NULL), next);
}

/** Whether frame f, the next that was not looked at, is gathered and has the key of a run. */
static __rte_always_inline bool
is_next(struct burst *b, uint16_t f, enum kind kind, uint64_t key, uint64_t mask)
{
	if (kind == KIND_ANY || kind == KIND_ASKING)
		read_keys(b, (uint16_t)(f + 1));
	else
		read_keys_of(b, (uint16_t)(f + 1), kind == KIND_OF_PORTS, false);
	return f < b->n && ((b->key[f] ^ key) & mask) == 0;
}

/** Which kind the frames of a run are. */
static inline enum kind
kind_of(const struct burst *b, const struct run *run)
{
	if (unlikely(run->retag))
		return KIND_ANY;
	if (b->has_asks)
		return KIND_ASKING;
	return b->rules != NULL ? KIND_OF_PORTS : KIND_PLAIN;
}

/**
 * Copy frames of a run into buffers that are simple, from the first on as long as they are. Under
 * the virtqueue's lock.
 *
 * @param d the receiver's device, not paused, whose writes are not logged
 * @param vq its virtqueue
 * @param b the burst
 * @param run the run
 * @param first of its frames, the first one
 * @param available buffers that there are, of a split virtqueue
 * @return how many were copied
 */
uint16_t pipeline_copy(const struct device *d, struct virtqueue *vq, struct burst *b,
	const struct run *run, uint16_t first, uint16_t available);

/** One of the receive virtqueues that a run is spread over. */
struct lane {
	struct virtqueue *vq; /**< locked; NULL: no frame is for it yet */
	uint16_t index;	      /**< of the next buffer to be found */
	uint16_t left;	      /**< buffers that are available */
	uint16_t used;	      /**< of the next used element */
};

/**
 * pipeline_copy() into the virtqueues of a guest that has several, each frame into that of its
 * flow. Under no lock.
 *
 * @param d the receiver's device, not paused, whose writes are not logged
 * @param s its virtqueues, of each of which lanes has one
 * @param[out] lanes vq is a virtqueue that may have got frames, not locked any more, or NULL
 * @param b the burst
 * @param run the run
 * @param first of its frames, the first one
 * @return how many were copied
 */
uint16_t pipeline_copy_by_flow(struct device *d, const struct spread *s, struct lane *lanes,
	struct burst *b, const struct run *run, uint16_t first);

#endif /* SWITCH_PIPELINE_H */
