/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BENCH_FRAME_H
#define BENCH_FRAME_H

/* The frames of bench/drain.c, each with its virtio-net header before it. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <linux/virtio_net.h>

#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_mbuf_core.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#define HEADER_LEN 12
#define ASKS_LEN 10 /* of these, all but num_buffers */
#define FRAME_MIN 60
#define FRAME_MAX 65535
#define FLOWS_MAX 16

#define L4_OFF (RTE_ETHER_HDR_LEN + sizeof(struct rte_ipv4_hdr))
#define TCP_OPTIONS 12 /* two NOPs and a time stamp, as between two Linux guests */
#define TSO_SEGMENT 1448
#define TSO_HEADERS (L4_OFF + sizeof(struct rte_tcp_hdr) + TCP_OPTIONS)

enum layout { SINGLE, CHAIN, TABLE };

/* What frames of a run are, and how they lie in the sender's memory: see bench/drain.c. */
struct kind {
	const char *name;
	enum layout layout;
	uint32_t first; /* bytes after the virtio-net header in the first of several descriptors */
	uint32_t piece; /* bytes in each of the others; 0: all the rest */
	uint8_t proto;	/* IPPROTO_TCP or IPPROTO_UDP; 0: no IP */
	uint32_t stamp; /* where a frame's stamp is */
	bool asks_csum, asks_tso, is_packed, is_flood;
	unsigned int flows; /* that a guest has */
};

/* Where nobody looks: in TCP the sequence numbers. */
#define STAMP_PLAIN RTE_ETHER_HDR_LEN
#define STAMP_TCP (L4_OFF + offsetof(struct rte_tcp_hdr, sent_seq))
#define STAMP_UDP (L4_OFF + sizeof(struct rte_udp_hdr))

static const struct kind kinds[] = {
	{ "plain", SINGLE, .stamp = STAMP_PLAIN, .flows = 1 },
	{ "chain", CHAIN, .stamp = STAMP_PLAIN, .flows = 1 },
	{ "indirect", TABLE, .stamp = STAMP_PLAIN, .flows = 1 },
	{ "flood", SINGLE, .stamp = STAMP_PLAIN, .is_flood = true, .flows = 1 },
	{ "packed", SINGLE, .stamp = STAMP_PLAIN, .is_packed = true, .flows = 1 },
	{ "csum", SINGLE, .proto = IPPROTO_TCP, .stamp = STAMP_TCP, .asks_csum = true, .flows = 1 },
	{ "tso", TABLE, TSO_HEADERS, 32768, IPPROTO_TCP, STAMP_TCP, .asks_csum = true,
	  .asks_tso = true, .flows = 1 },
	{ "tso-pages", TABLE, TSO_HEADERS, 4096, IPPROTO_TCP, STAMP_TCP, .asks_csum = true,
	  .asks_tso = true, .flows = 1 },
	{ "mq", SINGLE, .proto = IPPROTO_UDP, .stamp = STAMP_UDP, .flows = FLOWS_MAX },
};

/* In each frame; the turn at its end as well. */
struct stamp {
	uint32_t turn;
	uint16_t pair, index; /* where it is in the sender's memory */
};

/* A frame's virtio-net header, EtherType and bytes that differ from those of other frames. */
static inline void
frame_fill(const struct kind *kind, uint8_t *f, uint32_t len, unsigned int i)
{
	struct virtio_net_hdr_mrg_rxbuf header = { 0 };
	uint16_t ethertype = kind->proto > 0 ? RTE_BE16(RTE_ETHER_TYPE_IPV4) : RTE_BE16(0x88b5);
	unsigned int k;

	if (kind->asks_csum) {
		header.hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		header.hdr.csum_start = L4_OFF;
		header.hdr.csum_offset = offsetof(struct rte_tcp_hdr, cksum);
	}
	if (kind->asks_tso) {
		header.hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
		header.hdr.gso_size = TSO_SEGMENT;
		header.hdr.hdr_len = TSO_HEADERS;
	}
	memcpy(f - HEADER_LEN, &header, HEADER_LEN);
	memcpy(f + 2 * RTE_ETHER_ADDR_LEN, &ethertype, sizeof(ethertype));
	for (k = RTE_ETHER_HDR_LEN; k < len; k++)
		f[k] = (uint8_t)(i * 7 + k + k / 251);
}

/* IPv4 and what is in it. A checksum is left to others, with the sum of the pseudo-header there. */
static inline void
frame_write_ip(const struct kind *kind, uint8_t *f, uint32_t len, uint32_t from, uint32_t to,
	unsigned int flow)
{
	struct rte_ipv4_hdr *ip = (void *)(f + RTE_ETHER_HDR_LEN);
	rte_be16_t sport = rte_cpu_to_be_16((uint16_t)(40000 + flow)), dport = RTE_BE16(5201);

	*ip = (struct rte_ipv4_hdr){ .version_ihl = RTE_IPV4_VHL_DEF, .time_to_live = 64,
		.fragment_offset = RTE_BE16(RTE_IPV4_HDR_DF_FLAG), .next_proto_id = kind->proto,
		.total_length = rte_cpu_to_be_16((uint16_t)(len - RTE_ETHER_HDR_LEN)),
		.src_addr = rte_cpu_to_be_32(RTE_IPV4(10, 0, 0, 1) + from),
		.dst_addr = rte_cpu_to_be_32(RTE_IPV4(10, 0, 0, 1) + to) };
	ip->hdr_checksum = rte_ipv4_cksum(ip);
	if (kind->proto == IPPROTO_UDP) {
		struct rte_udp_hdr *udp = (void *)(f + L4_OFF);

		/* No checksum, RFC 768 */
		*udp = (struct rte_udp_hdr){ sport, dport,
			rte_cpu_to_be_16((uint16_t)(len - L4_OFF)), 0 };
	} else {
		static const uint8_t options[TCP_OPTIONS] = { 1, 1, 8, 10 };
		struct rte_tcp_hdr *tcp = (void *)(f + L4_OFF);
		uint8_t words = (sizeof(*tcp) + (kind->asks_tso ? TCP_OPTIONS : 0)) / 4;

		*tcp = (struct rte_tcp_hdr){ .src_port = sport, .dst_port = dport,
			.data_off = (uint8_t)(words << 4), .tcp_flags = RTE_TCP_ACK_FLAG,
			.rx_win = RTE_BE16(512), .cksum = rte_ipv4_phdr_cksum(ip, 0) };
		if (kind->asks_tso)
			memcpy(tcp + 1, options, sizeof(options));
	}
}

/*
 * Whether the beginning of a frame is as it was sent. In unsegmented TCP Linux and VIRTIO leave the
 * sum of the whole pseudo-header for a checksum; librte_vhost makes that one without the length,
 * which is what NICs want (rte_net_intel_cksum_prepare()): that is accepted as well.
 */
static inline bool
frame_is_same(const struct kind *kind, const uint8_t *f, const uint8_t *sent, uint32_t len)
{
	const uint32_t field = L4_OFF + offsetof(struct rte_tcp_hdr, cksum);
	const struct rte_ipv4_hdr *ip = (const void *)(sent + RTE_ETHER_HDR_LEN);
	uint16_t sum;

	if (!kind->asks_tso || len < TSO_HEADERS)
		return memcmp(f, sent, len) == 0;
	memcpy(&sum, f + field, sizeof(sum));
	return memcmp(f, sent, field) == 0 &&
		memcmp(f + field + 2, sent + field + 2, len - field - 2) == 0 &&
		(memcmp(&sum, sent + field, sizeof(sum)) == 0 ||
			sum == rte_ipv4_phdr_cksum(ip, RTE_MBUF_F_TX_TCP_SEG));
}

#endif /* BENCH_FRAME_H */
