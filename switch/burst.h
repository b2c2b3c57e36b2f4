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
#include "switch/offload.h"
#include "vhost/chain.h"

/**
 * Frames taken at once from a virtqueue, and published to their receivers together. More than a
 * burst of mbufs, as there is no mbuf for each, and each time costs a memory fence and lines that
 * drivers poll.
 */
#define BURST_VIEWS 128

/** Segments of a frame that are kept for each frame; one frame of a burst may have more. */
#define SEGMENTS_KEPT 20

/** Frames whose owners are looked up at once. */
#define LOOKUP_AHEAD 8

/**
 * @name Beside a key, in bits that the FDB does not look at.
 * What the frame asks for in its virtio-net header, as a code, or that it is to be dropped; and for
 * frames of a named port whether there is a tag in the frame. So all frames of a run are alike.
 */
/**@{*/
#define KEY_CODE_SHIFT 60
#define KEY_TAGGED RTE_BIT64(63)
enum key_code {
	CODE_NOTHING,
	CODE_CSUM,
	CODE_TSO4,
	CODE_TSO6,
	CODE_TSO4_ECN,
	CODE_TSO6_ECN,
	CODE_DROP, /**< why says why */
	CODE_MASK
};
/**@}*/
_Static_assert(FDB_KEY_MASK >> KEY_CODE_SHIFT == 0 && CODE_MASK == 7, "the bits are free");

/** The virtio-net header of a frame, right before its data, was not read yet. */
#define ASKS_UNREAD 0xff

/** Bytes of a frame of a named port that are read once: addresses, a tag, the type after it. */
#define HEAD_LEN 18

/** Of these, the bytes that are read at once; all that counts of an untagged frame is there. */
#define HEAD_FIRST 16

/** mbuf->port of a frame on its way: the device id of its sender, or one of these. */
#define FROM_UPLINK 0xfffe
#define FROM_FLOOD 0xfffd /**< a guest's, counted as sent when it was handed out */
#define FROM_GONE 0xfffc  /**< of a guest that has left since */

struct batch;
struct guest;
struct port_rules;
struct worker;

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
	bool has_asks; /**< frames may ask for something: asks is there, else it is 0 for all */
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
	uint8_t asks[BURST_VIEWS];	  /**< OFFLOAD_* that header asks for, OFFLOAD_INVALID, or
					     ASKS_UNREAD as long as the key is not there */
	struct virtio_net_hdr header[BURST_VIEWS]; /**< checked; nothing else of it is passed on */
	uint8_t head[BURST_VIEWS][24]; /**< for data, if the first segment is shorter; with rules
					  HEAD_LEN bytes of the frame, of an untagged one
					  HEAD_FIRST, read once */
	uint16_t tci[BURST_VIEWS];  /**< with KEY_TAGGED: priority of the tag, as in TCI */
	uint8_t why[BURST_VIEWS];   /**< of CODE_DROP: enum tx_drop */
	struct iovec segment[BURST_VIEWS][SEGMENTS_KEPT];
	struct iovec long_segment[SEGMENTS_MAX];

	/* Of a guest of a named port. */
	const struct port_rules *rules; /**< of the sender's named port, NULL: it has none */
	struct worker *worker; /**< who polls it */
	struct guest *from;    /**< the sender */
	uint64_t native_key;   /**< domain of untagged frames, in a key */
	uint64_t source;       /**< key of the address that it sent from last */
	uint16_t nb_unlearned; /**< frames from sources that there was no room for */
	uint16_t unlearned[BURST_VIEWS]; /**< which these are */
};

/** Frames of a burst that have one destination. */
struct run {
	uint16_t first;
	uint16_t end;	 /**< it ends before this frame, or at the end of the burst, */
	uint64_t key;	 /**< or before a frame whose key differs in the bits of mask */
	uint64_t mask;	 /**< 0: keys do not matter */
	uint16_t sender; /**< device id, or FROM_FLOOD; of mbufs their own ports count */
	uint16_t vring;	 /**< receive virtqueue, RINGS_MAX: any */
	bool retag;	 /**< the frame's tag, if any, becomes tag, and its head is written again */
	uint16_t tag;	 /**< with retag: the VLAN of the tag, 0: none */
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

/** burst_check_header() of a frame that asks for a checksum alone. Returns false for another. */
static inline bool
note_checksum(struct burst *b, uint16_t i, const uint8_t *header)
{
	uint16_t offset, start;
	uint64_t front;

	memcpy(&front, header, sizeof(front));
	memcpy(&offset, header + sizeof(front), sizeof(offset));
	rte_compiler_barrier(); /* what is checked is the copy */
	start = (uint16_t)(front >> 48);
	if (unlikely((uint16_t)front != VIRTIO_NET_HDR_F_NEEDS_CSUM || !offload_may_begin(start) ||
			(uint32_t)start + offset + sizeof(uint16_t) > b->len[i]))
		return false;
	front = (uint64_t)start << 48 | VIRTIO_NET_HDR_F_NEEDS_CSUM;
	memcpy(&b->header[i], &front, sizeof(front));
	memcpy((uint8_t *)&b->header[i] + sizeof(front), &offset, sizeof(offset));
	burst_note_asks(b, i, OFFLOAD_CSUM);
	return true;
}

/** What frame i asks for, OFFLOAD_* or OFFLOAD_INVALID. */
static inline uint8_t
burst_asks(const struct burst *b, uint16_t i)
{
	return unlikely(b->has_asks) ? b->asks[i] : 0;
}

/** The code of what a frame asks for. */
static inline uint64_t
code_of_asks(uint8_t asks)
{
	static const uint8_t code[16] = { [OFFLOAD_CSUM] = CODE_CSUM,
		[OFFLOAD_CSUM | OFFLOAD_TSO4] = CODE_TSO4,
		[OFFLOAD_CSUM | OFFLOAD_TSO6] = CODE_TSO6,
		[OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_ECN] = CODE_TSO4_ECN,
		[OFFLOAD_CSUM | OFFLOAD_TSO6 | OFFLOAD_ECN] = CODE_TSO6_ECN,
		[OFFLOAD_TSO4 | OFFLOAD_TSO6] = CODE_DROP };

	return code[asks & 15];
}

/** Whether frames of a key are to be dropped. */
static inline bool
key_is_dropped(uint64_t key)
{
	return (key >> KEY_CODE_SHIFT & CODE_MASK) == CODE_DROP;
}

/** The priority of frame i, as in TCI, if it has a tag. */
static inline uint16_t
burst_priority(const struct burst *b, uint16_t i)
{
	return b->key[i] & KEY_TAGGED ? b->tci[i] : 0;
}

/** What the frames of a key ask for. */
static inline uint8_t
key_asks(uint64_t key)
{
	static const uint8_t asks[8] = { [CODE_CSUM] = OFFLOAD_CSUM,
		[CODE_TSO4] = OFFLOAD_CSUM | OFFLOAD_TSO4,
		[CODE_TSO6] = OFFLOAD_CSUM | OFFLOAD_TSO6,
		[CODE_TSO4_ECN] = OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_ECN,
		[CODE_TSO6_ECN] = OFFLOAD_CSUM | OFFLOAD_TSO6 | OFFLOAD_ECN };

	return asks[key >> KEY_CODE_SHIFT & CODE_MASK];
}

/**
 * Read what frame i asks for, which lies in one piece with its header. Not before its data, for
 * that has been prefetched.
 */
static inline void
read_asks(struct burst *b, uint16_t i)
{
	const uint8_t *header = b->data[i] - b->d->hdr_len;

	if (!header_asks(header))
		b->asks[i] = 0;
	else if (!note_checksum(b, i, header))
		burst_check_header(b, i, header);
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

/** Bytes of frames that are gathered, from the first one up to end. */
static inline uint64_t
burst_bytes(const struct burst *b, uint16_t first, uint16_t end)
{
	uint64_t bytes = 0;

	for (; first < end; first++)
		bytes += b->len[first];
	return bytes;
}

/** Leave all but the first frames of a burst, of which none was dealt with, in the virtqueue. */
static inline void
burst_shorten(struct burst *b, uint16_t most)
{
	b->limit = RTE_MIN(b->limit, most);
	b->n = RTE_MIN(b->n, most);
}

/** Frames of a burst are of a guest of a named port. */
void burst_set_sender(struct burst *b, struct worker *w, struct guest *from,
	const struct port_rules *rules);

/** read_head() for a frame that is not a usual one. */
void burst_classify(struct burst *b, uint16_t i);

/**
 * Read the head of a frame of a named port once: more decides about it than the destination. The
 * usual one is untagged, asks for nothing, and comes from the address that the one before came
 * from.
 */
static inline void
read_head(struct burst *b, uint16_t i, bool asks)
{
	const uint8_t *data = b->data[i];
	uint64_t first, second, source;

	memcpy(&first, data, sizeof(first));
	if (unlikely(b->len[i] < HEAD_LEN)) {
		burst_classify(b, i);
		return;
	}
	memcpy(&second, data + sizeof(first), sizeof(second));
	rte_compiler_barrier(); /* what is used from here on is what was read */
	memcpy(b->head[i], &first, sizeof(first));
	memcpy(b->head[i] + sizeof(first), &second, sizeof(second));
	source = ((first >> 48 | second << 16) & FDB_MAC_MASK) | b->native_key;
	if (likely(source == b->source && !(asks && b->has_asks) &&
			(uint16_t)(second >> 32) != RTE_BE16(RTE_ETHER_TYPE_VLAN)))
		b->key[i] = (first & FDB_MAC_MASK) | b->native_key;
	else
		burst_classify(b, i);
}

/** read_keys() of a burst with rules, or without; some frames of which may ask for something. */
static __rte_always_inline void
read_keys_of(struct burst *b, uint16_t upto, bool has_rules, bool asks)
{
	for (; b->keyed < upto && b->keyed < b->n; b->keyed++) {
		const uint8_t *data = b->data[b->keyed];

		if (asks && b->has_asks && b->asks[b->keyed] == ASKS_UNREAD)
			read_asks(b, b->keyed);
		if (has_rules) {
			read_head(b, b->keyed, asks);
			continue;
		}
		b->key[b->keyed] = fdb_key((const struct rte_ether_addr *)data);
		if (asks && b->has_asks)
			b->key[b->keyed] |= code_of_asks(b->asks[b->keyed]) << KEY_CODE_SHIFT;
	}
}

/** Read the destinations of frames up to this one. */
static inline void
read_keys(struct burst *b, uint16_t upto)
{
	if (b->rules != NULL)
		read_keys_of(b, upto, true, true);
	else
		read_keys_of(b, upto, false, true);
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
