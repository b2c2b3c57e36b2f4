/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef UPLINK_VLAN_H
#define UPLINK_VLAN_H

/**
 * @file
 * IEEE 802.1Q tags: reading, inserting, removing and replacing them.
 *
 * A tag is either in the frame, or beside it in mbuf->vlan_tci where a NIC has stripped it or is
 * going to insert it. Worker functions, on frames that nobody else holds (reference count 1).
 */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <rte_ether.h>
#include <rte_mbuf.h>

/** The 12 bits of a tag that name the VLAN (IEEE 802.1Q-2018, 9.6). */
#define VLAN_VID_MASK 0x0fff

/**
 * Does the frame itself begin with a tag?
 *
 * @param m a frame of at least an Ethernet header in its first segment
 */
static inline bool
vlan_in_frame(const struct rte_mbuf *m)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);

	return eth->ether_type == RTE_BE16(RTE_ETHER_TYPE_VLAN) &&
		rte_pktmbuf_data_len(m) >= sizeof(*eth) + sizeof(struct rte_vlan_hdr);
}

static inline struct rte_vlan_hdr *
vlan_header(const struct rte_mbuf *m)
{
	return rte_pktmbuf_mtod_offset(m, struct rte_vlan_hdr *, sizeof(struct rte_ether_hdr));
}

/**
 * Is the frame's tag a priority tag, which has VLAN 0 and names none (IEEE 802.1Q-2018, 9.6)?
 *
 * @param m a frame for which vlan_in_frame() holds
 */
static inline bool
vlan_is_priority_tag(const struct rte_mbuf *m)
{
	return !(vlan_header(m)->vlan_tci & RTE_BE16(VLAN_VID_MASK));
}

/**
 * Read the tag of a frame that a NIC received.
 *
 * @param m a frame of at least an Ethernet header in its first segment
 * @param[out] tci tag control information, host byte order
 * @return whether there is a tag
 */
static inline bool
vlan_of_received(const struct rte_mbuf *m, uint16_t *tci)
{
	if (m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) {
		*tci = m->vlan_tci;
		return true;
	}
	if (!vlan_in_frame(m))
		return false;
	*tci = rte_be_to_cpu_16(vlan_header(m)->vlan_tci);
	return true;
}

/**
 * Read the priority of a frame that goes to a NIC.
 *
 * @param m a frame of at least an Ethernet header in its first segment, tagged or with the tag
 *	beside it for the NIC to insert
 * @return 0 to 7 (IEEE 802.1Q-2018, 9.6: PCP)
 */
static inline unsigned int
vlan_priority(const struct rte_mbuf *m)
{
	if (m->ol_flags & RTE_MBUF_F_TX_VLAN)
		return m->vlan_tci >> 13;
	return vlan_in_frame(m) ? rte_be_to_cpu_16(vlan_header(m)->vlan_tci) >> 13 : 0;
}

/** A packet is looked for after so many tags at most. */
#define VLAN_TAGS_MAX 2

/**
 * Take a frame's tags off its front, of 802.1Q or 802.1ad, for rte_net_get_ptype(): that expects
 * two tags if the first is of 802.1ad, and one at most if not. The addresses are wrong afterwards;
 * the type and all that follows are right.
 *
 * @param m a frame of at least an Ethernet header in its first segment, or a view of one that
 *	belongs to the caller
 * @return bytes that it was moved by
 */
static inline uint32_t
vlan_skip_tags(struct rte_mbuf *m)
{
	uint32_t tags;

	for (tags = 0; tags < VLAN_TAGS_MAX; tags++) {
		rte_be16_t type = rte_pktmbuf_mtod(m, struct rte_ether_hdr *)->ether_type;

		if (type != RTE_BE16(RTE_ETHER_TYPE_VLAN) && type != RTE_BE16(RTE_ETHER_TYPE_QINQ))
			break;
		if (m->data_len < RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN)
			break;
		rte_pktmbuf_adj(m, RTE_VLAN_HLEN);
	}
	return tags * RTE_VLAN_HLEN;
}

/**
 * Replace the VLAN of a tagged frame, its priority stays.
 *
 * @param m a frame for which vlan_in_frame() holds
 * @param vlan the new VLAN
 */
static inline void
vlan_replace(struct rte_mbuf *m, uint16_t vlan)
{
	struct rte_vlan_hdr *vh = vlan_header(m);
	uint16_t tci = rte_be_to_cpu_16(vh->vlan_tci);

	vh->vlan_tci = rte_cpu_to_be_16((tci & (uint16_t)~VLAN_VID_MASK) | vlan);
}

/**
 * Put a tag on an untagged frame.
 *
 * @param[in,out] m the frame
 * @param vlan its VLAN; the priority is 0
 * @param by_nic leave it to the NIC's offload
 * @return 0, or -ENOSPC when there is no room in front of the frame
 */
static inline int
vlan_insert(struct rte_mbuf **m, uint16_t vlan, bool by_nic)
{
	(*m)->vlan_tci = vlan;
	if (by_nic) {
		(*m)->ol_flags |= RTE_MBUF_F_TX_VLAN;
		return 0;
	}
	return rte_vlan_insert(m); /* keeps mbuf->l2_len right for the checksum offloads */
}

/**
 * Take the tag out of a frame.
 *
 * @param m a frame for which vlan_in_frame() holds; its l2_len, if it has one, counts the tag
 */
static inline void
vlan_remove(struct rte_mbuf *m)
{
	uint8_t *data = rte_pktmbuf_mtod(m, uint8_t *);

	memmove(data + RTE_VLAN_HLEN, data, 2 * RTE_ETHER_ADDR_LEN);
	rte_pktmbuf_adj(m, RTE_VLAN_HLEN);
	if (m->l2_len >= RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN)
		m->l2_len -= RTE_VLAN_HLEN;
}

/**
 * Take the tag out of a received frame, if the NIC has not done so.
 *
 * @param m the frame
 */
static inline void
vlan_strip(struct rte_mbuf *m)
{
	if (!(m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED))
		rte_vlan_strip(m);
}

#endif /* UPLINK_VLAN_H */
