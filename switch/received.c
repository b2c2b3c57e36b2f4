/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <netinet/in.h>

#include <rte_ether.h>
#include <rte_hash_crc.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "switch/checksum.h"
#include "switch/received.h"
#include "uplink/vlan.h"

/* SCTP: its checksum is the last word of its header (RFC 9260, 3.1). */
#define SCTP_HDR_LEN 12
#define SCTP_CHECKSUM 8

/* Extension headers before the one of transport; more than the ones that RFC 8200, 4.1 lists. */
#define EXTENSIONS_MAX 8

/* Where things are in a frame. */
struct place {
	uint32_t transport; /* offset of the TCP, UDP or SCTP header */
	uint32_t len;	    /* bytes from there to the end of the IP packet */
	uint32_t pseudo;    /* sum of the pseudo-header, not folded */
	uint8_t protocol;
};

/* Header bytes, or NULL when they are not there in the first segment. */
static void *
header(const struct rte_mbuf *m, uint32_t off, uint32_t len)
{
	if (off + len > rte_pktmbuf_data_len(m))
		return NULL;
	return rte_pktmbuf_mtod_offset(m, void *, off);
}

/* The sum of a pseudo-header: RFC 9293, 3.1 and RFC 8200, 8.1. */
static uint32_t
pseudo_sum(const void *addresses, uint32_t size, uint8_t protocol, uint32_t len)
{
	return rte_raw_cksum(addresses, size) + rte_cpu_to_be_16(protocol) +
		rte_cpu_to_be_16((uint16_t)len);
}

/*
 * Returns 0, -EBADMSG when the packet's end is missing, -ENOENT when there is nothing to be done.
 */
static int
find_in_ipv4(const struct rte_mbuf *m, uint32_t off, struct place *at)
{
	const struct rte_ipv4_hdr *ip = header(m, off, sizeof(*ip));
	uint32_t len, hdr_len;

	if (ip == NULL)
		return -ENOENT;
	hdr_len = rte_ipv4_hdr_len(ip);
	len = rte_be_to_cpu_16(ip->total_length);
	if (off + len > rte_pktmbuf_pkt_len(m))
		return -EBADMSG;
	/* The kernel finishes a packet before it makes fragments of it. */
	if (hdr_len < sizeof(*ip) || len < hdr_len || (ip->fragment_offset &
			RTE_BE16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)))
		return -ENOENT;
	at->transport = off + hdr_len;
	at->len = len - hdr_len;
	at->protocol = ip->next_proto_id;
	at->pseudo = pseudo_sum(&ip->src_addr, 2 * sizeof(ip->src_addr), at->protocol, at->len);
	return 0;
}

/* Skip extension headers up to the one of transport. Returns its protocol, or IPPROTO_NONE. */
static uint8_t
skip_extensions(const struct rte_mbuf *m, uint8_t next, uint32_t *off)
{
	unsigned int i;

	for (i = 0; i < EXTENSIONS_MAX; i++) {
		const uint8_t *e;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_DSTOPTS && next != IPPROTO_ROUTING)
			return next;
		e = header(m, *off, 8);
		/* A packet that is still under way has another destination in its pseudo-header. */
		if (e == NULL || (next == IPPROTO_ROUTING && e[3] > 0))
			return IPPROTO_NONE;
		next = e[0];
		*off += 8 * (e[1] + 1U);
	}
	return IPPROTO_NONE;
}

static int
find_in_ipv6(const struct rte_mbuf *m, uint32_t off, struct place *at)
{
	const struct rte_ipv6_hdr *ip = header(m, off, sizeof(*ip));
	uint32_t end;

	if (ip == NULL)
		return -ENOENT;
	at->transport = off + (uint32_t)sizeof(*ip);
	end = at->transport + rte_be_to_cpu_16(ip->payload_len);
	if (end > rte_pktmbuf_pkt_len(m))
		return -EBADMSG;
	at->protocol = skip_extensions(m, ip->proto, &at->transport);
	if (at->transport > end)
		return -ENOENT;
	at->len = end - at->transport;
	at->pseudo = pseudo_sum(&ip->src_addr, 32, at->protocol, at->len); /* both addresses */
	return 0;
}

static int
find_transport(const struct rte_mbuf *m, struct place *at)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	rte_be16_t type = eth->ether_type;
	uint32_t off = sizeof(*eth);
	unsigned int i;

	for (i = 0; i < VLAN_TAGS_MAX && (type == RTE_BE16(RTE_ETHER_TYPE_VLAN) ||
			type == RTE_BE16(RTE_ETHER_TYPE_QINQ)); i++) {
		const struct rte_vlan_hdr *tag = header(m, off, sizeof(*tag));

		if (tag == NULL)
			return -ENOENT;
		type = tag->eth_proto;
		off += (uint32_t)sizeof(*tag);
	}
	if (type == RTE_BE16(RTE_ETHER_TYPE_IPV4))
		return find_in_ipv4(m, off, at);
	if (type == RTE_BE16(RTE_ETHER_TYPE_IPV6))
		return find_in_ipv6(m, off, at);
	return -ENOENT;
}

/* TCP and UDP; off is where the checksum is in the header. */
static void
finish_sum(struct rte_mbuf *m, const struct place *at, uint32_t off)
{
	unaligned_uint16_t *field = header(m, at->transport + off, sizeof(*field));
	uint16_t sum;

	if (field == NULL || at->len < off + sizeof(*field) || *field != checksum_fold(at->pseudo))
		return;
	if (checksum_fold(at->pseudo + checksum_sum(m, at->transport, at->len)) == 0xffff)
		return; /* right by chance, with the value that it would have were it unfinished */
	*field = 0;
	sum = (uint16_t)~checksum_fold(at->pseudo + checksum_sum(m, at->transport, at->len));
	*field = sum == 0 && at->protocol == IPPROTO_UDP ? 0xffff : sum; /* RFC 768 */
}

/* A CRC32c, which is 0 where it has been left to a card. */
static void
finish_crc(struct rte_mbuf *m, const struct place *at)
{
	unaligned_uint32_t *field = header(m, at->transport + SCTP_CHECKSUM, sizeof(*field));
	uint32_t off = at->transport, left = at->len, crc = UINT32_MAX;
	const struct rte_mbuf *seg;

	if (field == NULL || at->len < SCTP_HDR_LEN || *field != 0)
		return;
	for (seg = m; seg != NULL && left > 0; seg = seg->next) {
		uint32_t part;

		if (off >= rte_pktmbuf_data_len(seg)) {
			off -= rte_pktmbuf_data_len(seg);
			continue;
		}
		part = RTE_MIN(left, rte_pktmbuf_data_len(seg) - off);
		crc = rte_hash_crc(rte_pktmbuf_mtod_offset(seg, const void *, off), part, crc);
		left -= part;
		off = 0;
	}
	*field = rte_cpu_to_le_32(~crc);
}

int
received_finish(struct rte_mbuf *m)
{
	struct place at;
	int ret = find_transport(m, &at);

	if (ret < 0)
		return ret == -EBADMSG ? ret : 0;
	if (at.protocol == IPPROTO_TCP)
		finish_sum(m, &at, offsetof(struct rte_tcp_hdr, cksum));
	else if (at.protocol == IPPROTO_UDP)
		finish_sum(m, &at, offsetof(struct rte_udp_hdr, dgram_cksum));
	else if (at.protocol == IPPROTO_SCTP)
		finish_crc(m, &at);
	return 0;
}
