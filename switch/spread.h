/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_SPREAD_H
#define SWITCH_SPREAD_H

/**
 * @file
 * Which receive virtqueue of a guest a frame goes to: always the same for the frames of a flow, so
 * that they stay in order. All functions are a worker's.
 */

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include <rte_hash_crc.h>
#include <rte_ip.h>

#include "switch/burst.h"

/** The receive virtqueues of a device that flows are spread over. */
struct spread {
	uint16_t n;
	uint16_t vring[QUEUE_PAIR_MAX];
};

/**
 * Which these are at the moment.
 *
 * @param d the device, not paused
 * @param[out] s none: n is 0
 */
void spread_over(const struct device *d, struct spread *s);

/**
 * A number that is the same for all frames of a flow: of addresses and, where there are, ports.
 *
 * @param b the burst
 * @param i the frame
 */
uint32_t spread_hash_any(struct burst *b, uint16_t i);

/**
 * spread_hash_any() of the usual frame, without a look at what it might be instead: its headers are
 * in one piece, and are Ethernet, IPv4 without options, and TCP or UDP.
 */
static inline uint32_t
spread_hash(struct burst *b, uint16_t i)
{
	const uint8_t *f = b->data[i];
	const struct rte_ipv4_hdr *ip = (const void *)(f + RTE_ETHER_HDR_LEN);
	uint64_t addresses;
	uint32_t ports;

	if (unlikely(b->nb_segments[i] != 1 ||
			b->len[i] < RTE_ETHER_HDR_LEN + sizeof(*ip) + sizeof(ports) ||
			((const struct rte_ether_hdr *)f)->ether_type !=
				RTE_BE16(RTE_ETHER_TYPE_IPV4) ||
			ip->version_ihl != RTE_IPV4_VHL_DEF ||
			(ip->fragment_offset &
				RTE_BE16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)) ||
			(ip->next_proto_id != IPPROTO_TCP && ip->next_proto_id != IPPROTO_UDP)))
		return spread_hash_any(b, i);
	memcpy(&addresses, &ip->src_addr, sizeof(addresses));
	memcpy(&ports, ip + 1, sizeof(ports));
	return rte_hash_crc_4byte(ports, rte_hash_crc_8byte(addresses, 0));
}

/**
 * The virtqueue for a frame: the upper bits of the hash decide, by a multiplication.
 *
 * @param s of at least one
 * @param b the burst
 * @param i the frame
 * @return which of s->vring[]
 */
static inline uint16_t
spread_choose(const struct spread *s, struct burst *b, uint16_t i)
{
	return (uint16_t)((uint64_t)spread_hash(b, i) * s->n >> 32);
}

/**
 * The receive virtqueue for a frame, by its flow if there are several.
 *
 * @param d the guest's device
 * @param b the burst
 * @param i the frame
 * @return index of a virtqueue, RINGS_MAX if none is running
 */
uint16_t spread_find_vring(const struct device *d, struct burst *b, uint16_t i);

/** Whether a guest has several receive virtqueues, for its flows to be spread over. */
bool spread_has_several(const struct device *d);

/**
 * Whether a receive virtqueue runs. One that was chosen for a frame may have been disabled since,
 * if the device was paused at the time.
 *
 * @param d the guest's device, not paused
 * @param vring its index, or RINGS_MAX
 */
static inline bool
spread_is_running(const struct device *d, uint16_t vring)
{
	return vring < RINGS_MAX && (__atomic_load_n(&d->rx[vring / 128], __ATOMIC_RELAXED) >>
		(vring / 2 % 64) & 1);
}

#endif /* SWITCH_SPREAD_H */
