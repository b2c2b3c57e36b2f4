/* SPDX-License-Identifier: BSD-3-Clause */
#include <rte_hash_crc.h>
#include <rte_ip.h>
#include <rte_net.h>

#include "switch/spread.h"
#include "uplink/vlan.h"

/* Bytes of a frame that tell its flow: Ethernet with two tags, IPv6 with options, ports. */
#define FLOW_BYTES 128

uint32_t
spread_hash_any(struct burst *b, uint16_t i)
{
	uint8_t bytes[FLOW_BYTES];
	uint32_t len = burst_read(b, i, bytes, sizeof(bytes));
	struct rte_mbuf m = { .buf_addr = bytes, .nb_segs = 1, .pkt_len = len,
		.data_len = (uint16_t)len };
	struct rte_net_hdr_lens lens = { 0 };
	uint32_t tags = vlan_skip_tags(&m);
	uint32_t ptype = rte_net_get_ptype(&m, &lens, RTE_PTYPE_L2_MASK | RTE_PTYPE_L3_MASK |
		RTE_PTYPE_L4_MASK);
	uint32_t l3 = tags + lens.l2_len, l4 = l3 + lens.l3_len, hash;
	uint32_t l4_type = ptype & RTE_PTYPE_L4_MASK;

	if (RTE_ETH_IS_IPV4_HDR(ptype) && l4 <= len)
		hash = rte_hash_crc(bytes + l3 + 12, 8, 0); /* RFC 791: addresses at 12 */
	else if (RTE_ETH_IS_IPV6_HDR(ptype) && l4 <= len)
		hash = rte_hash_crc(bytes + l3 + 8, 32, 0); /* RFC 8200: addresses at 8 */
	else
		hash = rte_hash_crc(bytes, 2 * RTE_ETHER_ADDR_LEN, 0);
	if ((l4_type == RTE_PTYPE_L4_TCP || l4_type == RTE_PTYPE_L4_UDP) && l4 + 4 <= len)
		hash = rte_hash_crc(bytes + l4, 4, hash);
	return hash;
}

void
spread_over(const struct device *d, struct spread *s)
{
	uint16_t pair;

	s->n = 0;
	FOREACH_PAIR(pair, d->rx)
		s->vring[s->n++] = VRING_RX(pair);
}

uint16_t
spread_find_vring(const struct device *d, struct burst *b, uint16_t i)
{
	uint64_t low = __atomic_load_n(&d->rx[0], __ATOMIC_RELAXED);
	uint64_t high = __atomic_load_n(&d->rx[1], __ATOMIC_RELAXED);
	struct spread s;

	_Static_assert(QUEUE_PAIR_WORDS == 2, "one more word to read");
	if (likely(high == 0 && low != 0 && (low & (low - 1)) == 0))
		return VRING_RX(__builtin_ctzll(low));
	spread_over(d, &s);
	return s.n == 0 ? RINGS_MAX : s.vring[spread_choose(&s, b, i)];
}

bool
spread_has_several(const struct device *d)
{
	uint64_t low = __atomic_load_n(&d->rx[0], __ATOMIC_RELAXED);

	return __atomic_load_n(&d->rx[1], __ATOMIC_RELAXED) != 0 || (low & (low - 1)) != 0;
}
