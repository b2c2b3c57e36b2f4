/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>

#include <rte_ethdev.h>
#include <rte_gso.h>
#include <rte_ip.h>
#include <rte_net.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "switch/offload.h"

int
offload_accept(struct rte_mbuf *m)
{
	struct rte_net_hdr_lens lens = { 0 };
	uint64_t from = m->ol_flags & OFFLOAD_RX_FLAGS;
	uint32_t ptype;

	m->ol_flags &= ~(OFFLOAD_RX_FLAGS | RTE_MBUF_F_RX_IP_CKSUM_MASK);
	if (from == 0)
		return 0;
	ptype = rte_net_get_ptype(m, &lens, RTE_PTYPE_ALL_MASK);
	m->l2_len = lens.l2_len;
	m->l3_len = lens.l3_len;
	m->l4_len = lens.l4_len;
	if (RTE_ETH_IS_IPV4_HDR(ptype))
		m->ol_flags |= RTE_MBUF_F_TX_IPV4;
	else if (RTE_ETH_IS_IPV6_HDR(ptype))
		m->ol_flags |= RTE_MBUF_F_TX_IPV6;
	else
		return -EINVAL;
	/* The headers are edited in place further on. */
	if (m->l2_len + m->l3_len + m->l4_len > rte_pktmbuf_data_len(m))
		return -EINVAL;
	switch (ptype & RTE_PTYPE_L4_MASK) {
	case RTE_PTYPE_L4_TCP:
		if (m->l4_len < sizeof(struct rte_tcp_hdr))
			return -EINVAL;
		m->ol_flags |= RTE_MBUF_F_TX_TCP_CKSUM;
		break;
	case RTE_PTYPE_L4_UDP:
		m->ol_flags |= RTE_MBUF_F_TX_UDP_CKSUM;
		break;
	default:
		return -EINVAL;
	}
	if (!(from & RTE_MBUF_F_RX_LRO))
		return 0;
	if (m->tso_segsz < OFFLOAD_MSS_MIN || !(m->ol_flags & RTE_MBUF_F_TX_IPV4) ||
			(m->ol_flags & RTE_MBUF_F_TX_L4_MASK) != RTE_MBUF_F_TX_TCP_CKSUM)
		return -EINVAL;
	m->ol_flags |= RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_IP_CKSUM;
	return 0;
}

/* Fill in the TCP or UDP checksum, RFC 9293 3.1 and RFC 768, over the whole chain. */
static int
fill_checksum(struct rte_mbuf *m)
{
	uint16_t l4_off = (uint16_t)(m->l2_len + m->l3_len);
	void *ip = rte_pktmbuf_mtod_offset(m, void *, m->l2_len);
	bool udp = (m->ol_flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_UDP_CKSUM;
	size_t field_off = l4_off + (udp ? offsetof(struct rte_udp_hdr, dgram_cksum)
					 : offsetof(struct rte_tcp_hdr, cksum));
	unaligned_uint16_t *field = rte_pktmbuf_mtod_offset(m, unaligned_uint16_t *, field_off);

	if (field_off + sizeof(*field) > rte_pktmbuf_data_len(m))
		return -EINVAL;
	*field = 0;
	if (m->ol_flags & RTE_MBUF_F_TX_IPV4) {
		struct rte_ipv4_hdr *ip4 = ip;

		if (m->ol_flags & RTE_MBUF_F_TX_IP_CKSUM) {
			ip4->hdr_checksum = 0;
			ip4->hdr_checksum = rte_ipv4_cksum(ip4);
		}
		*field = rte_ipv4_udptcp_cksum_mbuf(m, ip4, l4_off);
	} else {
		*field = rte_ipv6_udptcp_cksum_mbuf(m, ip, l4_off);
	}
	m->ol_flags &= ~(OFFLOAD_FLAGS | RTE_MBUF_F_TX_IP_CKSUM);
	return 0;
}

static int
segment(struct rte_mbuf *m, struct rte_mempool *pool, struct rte_mempool *pieces_pool,
	struct rte_mbuf **out)
{
	struct rte_gso_ctx ctx = {
		.direct_pool = pool,
		.indirect_pool = pieces_pool,
		.gso_types = RTE_ETH_TX_OFFLOAD_TCP_TSO,
		.gso_size = (uint16_t)(m->l2_len + m->l3_len + m->l4_len + m->tso_segsz),
	};
	uint64_t flags = m->ol_flags & ~(uint64_t)RTE_MBUF_F_TX_TCP_SEG;
	uint16_t l2 = (uint16_t)m->l2_len, l3 = (uint16_t)m->l3_len, l4 = (uint16_t)m->l4_len;
	int i, n;

	/* Needs l2_len to be the whole of what stands before IP, tag included: it is. */
	n = rte_gso_segment(m, &ctx, out, OFFLOAD_SEGMENTS_MAX);
	if (n < 0) {
		rte_pktmbuf_free(m);
		return n;
	}
	if (n == 0) { /* it fits one segment as it is */
		m->ol_flags = flags;
		out[0] = m;
		return 1;
	}
	rte_pktmbuf_free(m); /* the pieces hold what they point into */
	for (i = 0; i < n; i++) {
		out[i]->port = m->port;
		out[i]->ol_flags = (out[i]->ol_flags & RTE_MBUF_F_INDIRECT) | flags;
		out[i]->l2_len = l2;
		out[i]->l3_len = l3;
		out[i]->l4_len = l4;
	}
	return n;
}

int
offload_finish(struct rte_mbuf *m, struct rte_mempool *pool, struct rte_mempool *pieces_pool,
	struct rte_mbuf **out)
{
	int i, n = 1;

	out[0] = m;
	if (m->ol_flags & RTE_MBUF_F_TX_TCP_SEG) {
		n = segment(m, pool, pieces_pool, out);
		if (n < 0)
			return n;
	}
	for (i = 0; i < n; i++) {
		if (fill_checksum(out[i]) < 0) {
			rte_pktmbuf_free_bulk(out, (unsigned int)n);
			return -EINVAL;
		}
	}
	return n;
}
