/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef VHOST_CHECK_H
#define VHOST_CHECK_H

/**
 * @file
 * What a front end may ask for.
 *
 * librte_vhost takes a good deal for granted: that a ring does not change its size while it is in
 * use, that new memory can be mapped before the old one is given up, that a ring got a size before
 * it is started, that an index lies in its ring. A front end that keeps to none of this would bring
 * down or hold up all guests. So each message is looked at here before librte_vhost sees it, and is
 * refused, with nothing changed, where it asks for what no honest front end does.
 *
 * What was agreed so far is kept here too, from the same messages; librte_vhost is not asked.
 *
 * The relay's thread only.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vhost/vhost_user.h"
#include "vhost/vring.h"

/**
 * Entries of all rings of a connection. librte_vhost keeps 48 bytes for each (shadow_used_split or
 * _packed, and batch_copy_elems): 3 MiB. It suffices for 128 queue pairs of QEMU's usual 256, or
 * for 32 pairs of 1024, the most that QEMU can give a ring.
 */
#define RING_ENTRIES_MAX 65536

struct connection;

/** A bit for each ring. */
struct ring_set {
	uint64_t word[RINGS_MAX / 64];
};

/** What a front end and the switch have agreed on so far. */
struct negotiated {
	uint64_t features;
	uint32_t rings;		     /**< one more than the highest that was spoken of */
	struct ring_set started;     /**< librte_vhost has looked at their addresses */
	struct ring_set enabled;
	uint16_t size[RINGS_MAX];    /**< 0: none since the ring was last stopped */
	uint16_t base[RINGS_MAX];    /**< of a packed ring: index, and wrap counter in bit 15 */
	bool has_memory;
	uint64_t mapped;	     /**< bytes of address space */
};

/**
 * Say what is offered to front ends. Main thread, before the relay runs.
 *
 * @param features virtio features
 * @param protocol_features the protocol's
 */
void check_offer(uint64_t features, uint64_t protocol_features);

/**
 * Look at a header, whose size is then known to be that of a message.
 *
 * @param m the header
 * @return NULL, or why the connection must end
 */
const char *check_header(const struct vhost_user_message *m);

/**
 * Look at a whole message.
 *
 * @param c the connection that it came by, with its descriptors
 * @return NULL, or why it is refused
 */
const char *check_message(const struct connection *c);

/**
 * Note what a message has changed. After librte_vhost carried it out.
 *
 * @param c the connection
 */
void check_done(struct connection *c);

/**
 * Forget what a connection took of what all share.
 *
 * @param n what was agreed
 */
void check_forget(struct negotiated *n);

/**
 * Whether librte_vhost answers a request by more than that it was carried out.
 *
 * @param request a request that check_message() lets pass
 */
bool check_has_reply(uint32_t request);

static inline bool
ring_set_has(const struct ring_set *s, uint32_t ring)
{
	return s->word[ring / 64] >> (ring % 64) & 1;
}

static inline void
ring_set_put(struct ring_set *s, uint32_t ring, bool in)
{
	uint64_t bit = UINT64_C(1) << (ring % 64);

	s->word[ring / 64] = in ? s->word[ring / 64] | bit : s->word[ring / 64] & ~bit;
}

/** The lowest ring of a set, RINGS_MAX when it is empty. */
static inline uint32_t
ring_set_first(const struct ring_set *s)
{
	uint32_t w;

	for (w = 0; w < RINGS_MAX / 64; w++) {
		if (s->word[w] != 0)
			return w * 64 + (uint32_t)__builtin_ctzll(s->word[w]);
	}
	return RINGS_MAX;
}

#endif /* VHOST_CHECK_H */
