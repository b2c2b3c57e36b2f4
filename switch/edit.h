/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_EDIT_H
#define SWITCH_EDIT_H

/**
 * @file
 * What is written for a receiver and not copied: the virtio-net header, and the head of a frame
 * whose tag comes or goes. All functions are a worker's.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "switch/burst.h"

/** What happens to a frame's tag: bytes that are taken out after the addresses, and put in. */
struct edit {
	uint16_t out, in;
};

static inline struct edit
edit_of(const struct run *run)
{
	if (likely(!run->retag))
		return (struct edit){ 0, 0 };
	return (struct edit){ run->key & KEY_TAGGED ? RTE_VLAN_HLEN : 0,
		run->tag != 0 ? RTE_VLAN_HLEN : 0 };
}

/** Bytes of frame i as the receiver gets it. */
static inline uint32_t
edited_len(const struct burst *b, uint16_t i, struct edit e)
{
	return b->len[i] + e.in - e.out;
}

/**
 * The head of frame i as the receiver gets it, up to the type after the tag. Returns its length;
 * what follows begins at *skip of the frame.
 */
static inline uint32_t
write_head(uint8_t *at, const struct burst *b, uint16_t i, const struct run *run, struct edit e,
	uint32_t *skip)
{
	const uint32_t addresses = 2 * RTE_ETHER_ADDR_LEN;
	uint16_t tci = burst_priority(b, i) | run->tag;

	memcpy(at, b->head[i], addresses);
	if (e.in > 0)
		memcpy(at + addresses, (uint8_t[]){ 0x81, 0x00, (uint8_t)(tci >> 8), (uint8_t)tci },
			RTE_VLAN_HLEN);
	memcpy(at + addresses + e.in, b->head[i] + addresses + e.out, sizeof(rte_be16_t));
	*skip = addresses + e.out + (uint32_t)sizeof(rte_be16_t);
	return addresses + e.in + (uint32_t)sizeof(rte_be16_t);
}

/** What a frame asks for, which begins elsewhere if its tag comes or goes; NULL: nothing. */
static inline const struct virtio_net_hdr *
asks_of(const struct burst *b, uint16_t i, struct edit e, struct virtio_net_hdr *moved)
{
	if (burst_asks(b, i) == 0)
		return NULL;
	if (likely(e.in == e.out))
		return &b->header[i];
	*moved = b->header[i];
	moved->csum_start = (uint16_t)(moved->csum_start + e.in - e.out);
	if (moved->gso_type != VIRTIO_NET_HDR_GSO_NONE)
		moved->hdr_len = (uint16_t)(moved->hdr_len + e.in - e.out);
	return moved;
}

/** The virtio-net header of a frame; asks: what it asks for, NULL: nothing. */
static inline void
write_header(uint8_t *at, uint8_t len, uint16_t num_buffers, const struct virtio_net_hdr *asks)
{
	/*
	 * Two numbers of which num_buffers is the upper half of the second, and no struct: that the
	 * compiler would write to the stack by fields and read by words, and a CPU can hand a load
	 * only what one store has written, so it would wait until all stores before have reached
	 * the cache, those of the last frame among them.
	 */
	uint64_t front = 0;
	uint32_t back = (uint32_t)num_buffers << 16;

	_Static_assert(VIRTIO_NET_HDR_LEN == sizeof(front) + sizeof(back) &&
		offsetof(struct virtio_net_hdr, csum_offset) == sizeof(front), "the whole header");
	if (asks != NULL) {
		memcpy(&front, asks, sizeof(front));
		back |= asks->csum_offset;
	}
	memcpy(at, &front, sizeof(front));
	if (likely(len == VIRTIO_NET_HDR_LEN))
		memcpy(at + sizeof(front), &back, sizeof(back));
	else
		memcpy(at + sizeof(front), &back, VIRTIO_NET_HDR_LEN_LEGACY - sizeof(front));
}

#endif /* SWITCH_EDIT_H */
