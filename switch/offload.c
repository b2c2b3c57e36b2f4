/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <string.h>

#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_net.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "switch/checksum.h"
#include "switch/offload.h"
#include "uplink/vlan.h"

/* The byte of a frame at an offset that it has, whatever mbuf of the chain that is in. */
static uint8_t *
byte_at(struct rte_mbuf *m, uint32_t off)
{
	for (; off >= rte_pktmbuf_data_len(m); m = m->next)
		off -= rte_pktmbuf_data_len(m);
	return rte_pktmbuf_mtod_offset(m, uint8_t *, off);
}

/* Most bytes of an IP header with what follows it up to TCP: mbuf->l3_len has nine bits. */
#define L3_MAX 511

/* Where TCP's header has its length, in words and the upper half of the byte (RFC 9293, 3.1). */
#define TCP_DATA_OFFSET 12

/* A checksum of zero means "none" to UDP, and stands as its equivalent (RFC 768). */
static uint16_t
complement(uint16_t sum, bool udp)
{
	return udp && sum == 0xffff ? sum : (uint16_t)~sum;
}

static uint32_t
field_offset(bool udp)
{
	return udp ? offsetof(struct rte_udp_hdr, dgram_cksum)
		   : offsetof(struct rte_tcp_hdr, cksum);
}

/*
 * Finish a partial checksum by virtio's own rule (VIRTIO 1.1, 5.1.6.2): the field holds the sum of
 * the pseudo-header, and the sum from start to the end of the frame is missing. A sum of zero is
 * written as its equivalent, whatever the protocol: it may be UDP in a tunnel, to which zero means
 * "none" and which IPv6 drops then (RFC 8200, 8.1); to any other both are the same.
 */
static int
finish_by_rule(struct rte_mbuf *m, uint32_t start, uint32_t field)
{
	uint8_t bytes[sizeof(uint16_t)];
	uint16_t sum;

	if (field + sizeof(sum) > rte_pktmbuf_pkt_len(m))
		return -EINVAL;
	sum = complement(checksum_fold(checksum_sum(m, start, UINT32_MAX)), true);
	memcpy(bytes, &sum, sizeof(sum));
	*byte_at(m, field) = bytes[0]; /* the two may be in two mbufs */
	*byte_at(m, field + 1) = bytes[1];
	return 0;
}

/* Find the headers of a frame, after any tags. */
static uint32_t
find_headers(const struct rte_mbuf *m, struct rte_net_hdr_lens *lens)
{
	struct rte_mbuf untagged = *m;
	uint32_t tags = vlan_skip_tags(&untagged);
	uint32_t ptype = rte_net_get_ptype(&untagged, lens, RTE_PTYPE_ALL_MASK);

	lens->l2_len = (uint8_t)(lens->l2_len + tags);
	return ptype;
}

/* Whether nothing stands between the fixed header of IP and that of TCP or UDP. */
static bool
is_plain(uint32_t ptype, const struct rte_net_hdr_lens *lens)
{
	return lens->l3_len == (RTE_ETH_IS_IPV4_HDR(ptype) ? sizeof(struct rte_ipv4_hdr)
							   : sizeof(struct rte_ipv6_hdr));
}

/* The flags of a frame whose checksum is to be finished further on; 0: not one that we know. */
static uint64_t
checksum_flags(uint32_t ptype, const struct rte_net_hdr_lens *lens)
{
	uint64_t flags = RTE_ETH_IS_IPV4_HDR(ptype) ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6;

	if (!RTE_ETH_IS_IPV4_HDR(ptype) && !RTE_ETH_IS_IPV6_HDR(ptype))
		return 0;
	switch (ptype & RTE_PTYPE_L4_MASK) {
	case RTE_PTYPE_L4_TCP:
		return lens->l4_len < sizeof(struct rte_tcp_hdr) ? 0
								 : flags | RTE_MBUF_F_TX_TCP_CKSUM;
	case RTE_PTYPE_L4_UDP:
		return flags | RTE_MBUF_F_TX_UDP_CKSUM;
	default:
		return 0;
	}
}

int
offload_accept(struct rte_mbuf *m)
{
	struct rte_net_hdr_lens lens = { 0 };
	uint64_t from = m->ol_flags & OFFLOAD_RX_FLAGS, flags;
	uint32_t ptype, l4_off;

	m->ol_flags &= ~(OFFLOAD_RX_FLAGS | RTE_MBUF_F_RX_IP_CKSUM_MASK);
	if (from == 0)
		return 0;
	ptype = find_headers(m, &lens);
	flags = checksum_flags(ptype, &lens);
	if (flags == 0)
		return -EINVAL;
	l4_off = (uint32_t)lens.l2_len + lens.l3_len;
	/*
	 * What a NIC and a guest are told of a frame has no word for extension headers of IPv6.
	 * Where more than the fixed header of IP is in front, only the sender knows the pseudo-
	 * header: with a routing header or a source route it has another destination (RFC 8200,
	 * 8.1).
	 */
	if (!(from & RTE_MBUF_F_RX_LRO) && !is_plain(ptype, &lens))
		return finish_by_rule(m, l4_off, l4_off + field_offset(
			(flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_UDP_CKSUM));
	/* The headers are edited in place further on. */
	if (l4_off + lens.l4_len > rte_pktmbuf_data_len(m))
		return -EINVAL;
	if (from & RTE_MBUF_F_RX_LRO) {
		if ((flags & RTE_MBUF_F_TX_L4_MASK) != RTE_MBUF_F_TX_TCP_CKSUM ||
				l4_off + lens.l4_len > OFFLOAD_HEADERS_MAX || lens.l3_len > L3_MAX)
			return -EINVAL;
		flags |= RTE_MBUF_F_TX_TCP_SEG;
		if (flags & RTE_MBUF_F_TX_IPV4)
			flags |= RTE_MBUF_F_TX_IP_CKSUM;
		m->hash.usr = 0; /* offload_segment() begins at the beginning */
	}
	m->ol_flags |= flags;
	m->l2_len = lens.l2_len;
	m->l3_len = lens.l3_len;
	m->l4_len = lens.l4_len;
	return 0;
}

/* Whether the frame is one that can be segmented as its header asks for, TCP over this IP. */
static bool
is_segmentable(const struct virtio_net_hdr *asked, bool v6, const uint8_t *front, uint32_t have)
{
	struct rte_mbuf m = { .buf_addr = (void *)(uintptr_t)front, .nb_segs = 1, .pkt_len = have,
		.data_len = (uint16_t)have };
	struct rte_net_hdr_lens lens = { 0 };
	uint32_t ptype = find_headers(&m, &lens);
	uint32_t l4_off = (uint32_t)lens.l2_len + lens.l3_len;

	return (v6 ? RTE_ETH_IS_IPV6_HDR(ptype) : RTE_ETH_IS_IPV4_HDR(ptype)) &&
		(ptype & RTE_PTYPE_L4_MASK) == RTE_PTYPE_L4_TCP &&
		lens.l4_len >= sizeof(struct rte_tcp_hdr) && lens.l3_len <= L3_MAX &&
		l4_off + lens.l4_len <= have && asked->csum_start == l4_off &&
		asked->csum_offset == field_offset(false);
}

uint8_t
offload_check_header(const struct virtio_net_hdr *asked, uint8_t may_ask, const uint8_t *front,
	uint32_t have, uint32_t len, struct virtio_net_hdr *header)
{
	uint8_t type = asked->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN, asks = OFFLOAD_CSUM;
	struct virtio_net_hdr checked = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.csum_start = asked->csum_start, .csum_offset = asked->csum_offset };

	if (!(asked->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return asked->gso_type == VIRTIO_NET_HDR_GSO_NONE ? 0 : OFFLOAD_INVALID;
	if (!offload_may_begin(asked->csum_start) ||
			(uint32_t)asked->csum_start + asked->csum_offset + sizeof(uint16_t) > len)
		return OFFLOAD_INVALID;
	if (asked->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		bool v6 = type == VIRTIO_NET_HDR_GSO_TCPV6;

		if ((!v6 && type != VIRTIO_NET_HDR_GSO_TCPV4) ||
				asked->gso_size < OFFLOAD_MSS_MIN ||
				!is_segmentable(asked, v6, front, have))
			return OFFLOAD_INVALID;
		asks |= v6 ? OFFLOAD_TSO6 : OFFLOAD_TSO4;
		if (asked->gso_type & VIRTIO_NET_HDR_GSO_ECN)
			asks |= OFFLOAD_ECN;
		checked.gso_type = asked->gso_type;
		checked.gso_size = asked->gso_size;
		checked.hdr_len = (uint16_t)(asked->csum_start +
			(front[asked->csum_start + TCP_DATA_OFFSET] >> 4) * 4u);
	}
	if (asks & ~may_ask)
		return OFFLOAD_INVALID;
	*header = checked;
	return asks;
}

int
offload_read_header(struct rte_mbuf *m, const struct virtio_net_hdr *header)
{
	uint8_t type = header->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
	struct rte_net_hdr_lens lens = { 0 };
	uint32_t l4;
	bool udp;

	if (type != VIRTIO_NET_HDR_GSO_NONE) {
		if ((type != VIRTIO_NET_HDR_GSO_TCPV4 && type != VIRTIO_NET_HDR_GSO_TCPV6) ||
				header->gso_size == 0)
			return -EINVAL;
		m->ol_flags |= RTE_MBUF_F_RX_LRO | RTE_MBUF_F_RX_L4_CKSUM_NONE;
		m->tso_segsz = header->gso_size;
		return offload_accept(m);
	}
	if (!(header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return 0;
	l4 = find_headers(m, &lens) & RTE_PTYPE_L4_MASK;
	udp = l4 == RTE_PTYPE_L4_UDP;
	if ((l4 != RTE_PTYPE_L4_TCP && !udp) || header->csum_offset != field_offset(udp) ||
			header->csum_start != (uint32_t)lens.l2_len + lens.l3_len)
		return finish_by_rule(m, header->csum_start,
			(uint32_t)header->csum_start + header->csum_offset);
	m->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_NONE;
	return offload_accept(m);
}

uint8_t
offload_needs(const struct rte_mbuf *m)
{
	const struct rte_tcp_hdr *tcp = rte_pktmbuf_mtod_offset(m, const struct rte_tcp_hdr *,
		m->l2_len + m->l3_len);
	uint8_t needs = OFFLOAD_CSUM;

	if (!(m->ol_flags & RTE_MBUF_F_TX_TCP_SEG))
		return needs;
	needs |= m->ol_flags & RTE_MBUF_F_TX_IPV6 ? OFFLOAD_TSO6 : OFFLOAD_TSO4;
	return tcp->tcp_flags & RTE_TCP_CWR_FLAG ? needs | OFFLOAD_ECN : needs;
}

/*
 * The sum of the pseudo-header of a frame's TCP or UDP, by the fixed header of IP: RFC 9293, 3.1
 * and RFC 8200, 8.1.
 */
static uint16_t
pseudo_sum(const struct rte_mbuf *m)
{
	const void *ip = rte_pktmbuf_mtod_offset(m, const void *, m->l2_len);

	return m->ol_flags & RTE_MBUF_F_TX_IPV4 ? rte_ipv4_phdr_cksum(ip, 0)
						: rte_ipv6_phdr_cksum(ip, 0);
}

void
offload_write_header(struct rte_mbuf *m, struct virtio_net_hdr *header)
{
	bool udp = (m->ol_flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_UDP_CKSUM;
	struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(m, struct rte_ipv4_hdr *, m->l2_len);
	uint32_t l4_off = (uint32_t)(m->l2_len + m->l3_len);

	*header = (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.csum_start = (uint16_t)(m->l2_len + m->l3_len),
		.csum_offset = (uint16_t)field_offset(udp) };
	if (m->ol_flags & RTE_MBUF_F_TX_TCP_SEG) {
		header->gso_type = m->ol_flags & RTE_MBUF_F_TX_IPV6 ? VIRTIO_NET_HDR_GSO_TCPV6
								    : VIRTIO_NET_HDR_GSO_TCPV4;
		if (offload_needs(m) & OFFLOAD_ECN)
			header->gso_type |= VIRTIO_NET_HDR_GSO_ECN;
		header->gso_size = m->tso_segsz;
		header->hdr_len = (uint16_t)(m->l2_len + m->l3_len + m->l4_len);
	}
	/*
	 * The pseudo-header: some senders leave something else in the field. After extension
	 * headers they alone know it.
	 */
	if (!offload_has_extensions(m))
		*rte_pktmbuf_mtod_offset(m, unaligned_uint16_t *, l4_off + field_offset(udp)) =
			pseudo_sum(m);
	if (m->ol_flags & RTE_MBUF_F_TX_IP_CKSUM) {
		ip->hdr_checksum = 0;
		ip->hdr_checksum = rte_ipv4_cksum(ip);
	}
}

int
offload_finish_checksum(struct rte_mbuf *m)
{
	uint32_t l4_off = (uint32_t)(m->l2_len + m->l3_len), sum;
	bool udp = (m->ol_flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_UDP_CKSUM;
	size_t field_off = l4_off + field_offset(udp);
	unaligned_uint16_t *field = rte_pktmbuf_mtod_offset(m, unaligned_uint16_t *, field_off);

	if (field_off + sizeof(*field) > rte_pktmbuf_data_len(m))
		return -EINVAL;
	/* The pseudo-header is summed up again: some senders leave something else in the field. */
	*field = 0;
	sum = checksum_sum(m, l4_off, UINT32_MAX) + pseudo_sum(m);
	*field = complement(checksum_fold(sum), udp);
	m->ol_flags &= ~(OFFLOAD_FLAGS | RTE_MBUF_F_TX_IP_CKSUM);
	return 0;
}

/* Where to go on reading in a chain of mbufs. */
struct cursor {
	const struct rte_mbuf *at;
	uint32_t off;
};

static void
copy_from(struct cursor *c, uint8_t *to, uint32_t len)
{
	while (len > 0) {
		uint32_t part = rte_pktmbuf_data_len(c->at) - c->off;

		if (part == 0) {
			*c = (struct cursor){ c->at->next, 0 };
			continue;
		}
		part = RTE_MIN(part, len);
		memcpy(to, rte_pktmbuf_mtod_offset(c->at, const uint8_t *, c->off), part);
		c->off += part;
		to += part;
		len -= part;
	}
}

/* A frame of the headers of m and the next len bytes of its payload. NULL: the pool is empty. */
static struct rte_mbuf *
copy_segment(const struct rte_mbuf *m, uint32_t headers, struct cursor *c, uint32_t len,
	struct rte_mempool *pool)
{
	struct rte_mbuf *first = rte_pktmbuf_alloc(pool), *last = first, *more;
	uint32_t part;

	if (first == NULL)
		return NULL;
	memcpy(rte_pktmbuf_append(first, (uint16_t)headers), rte_pktmbuf_mtod(m, const void *),
		headers);
	for (;;) {
		part = RTE_MIN(len, (uint32_t)rte_pktmbuf_tailroom(last));
		copy_from(c, rte_pktmbuf_mtod_offset(last, uint8_t *, rte_pktmbuf_data_len(last)),
			part);
		last->data_len = (uint16_t)(last->data_len + part);
		first->pkt_len += part;
		len -= part;
		if (len == 0)
			return first;
		more = rte_pktmbuf_alloc(pool);
		if (more == NULL) {
			rte_pktmbuf_free(first);
			return NULL;
		}
		last->next = more;
		last = more;
		first->nb_segs++;
	}
}

/* The segment that begins at this offset of the payload: its header of IPv4. */
static void
edit_ipv4(const struct rte_mbuf *m, struct rte_mbuf *segment, uint32_t off)
{
	struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(segment, struct rte_ipv4_hdr *,
		m->l2_len);

	ip->total_length = rte_cpu_to_be_16((uint16_t)(rte_pktmbuf_pkt_len(segment) - m->l2_len));
	ip->packet_id = rte_cpu_to_be_16(
		(uint16_t)(rte_be_to_cpu_16(ip->packet_id) + off / m->tso_segsz));
	ip->hdr_checksum = 0;
	ip->hdr_checksum = rte_ipv4_cksum(ip);
}

static void
edit_ipv6(const struct rte_mbuf *m, struct rte_mbuf *segment)
{
	struct rte_ipv6_hdr *ip = rte_pktmbuf_mtod_offset(segment, struct rte_ipv6_hdr *,
		m->l2_len);

	ip->payload_len = rte_cpu_to_be_16(
		(uint16_t)(rte_pktmbuf_pkt_len(segment) - m->l2_len - sizeof(*ip)));
}

/* Make the headers of a copy those of the segment that begins at this offset of the payload. */
static void
edit_headers(const struct rte_mbuf *m, struct rte_mbuf *segment, uint32_t off, bool last)
{
	struct rte_tcp_hdr *tcp = rte_pktmbuf_mtod_offset(segment, struct rte_tcp_hdr *,
		m->l2_len + m->l3_len);

	if (m->ol_flags & RTE_MBUF_F_TX_IPV4)
		edit_ipv4(m, segment, off);
	else
		edit_ipv6(m, segment);
	tcp->sent_seq = rte_cpu_to_be_32(rte_be_to_cpu_32(tcp->sent_seq) + off);
	if (off > 0) /* RFC 3168, 6.1.2: once for a reduced window */
		tcp->tcp_flags &= (uint8_t)~RTE_TCP_CWR_FLAG;
	if (!last)
		tcp->tcp_flags &= (uint8_t)~(RTE_TCP_FIN_FLAG | RTE_TCP_PSH_FLAG);
	segment->port = m->port;
	segment->vlan_tci = m->vlan_tci; /* where a NIC is to insert it */
	segment->l2_len = m->l2_len;
	segment->l3_len = m->l3_len;
	segment->ol_flags = m->ol_flags & (RTE_MBUF_F_TX_VLAN | RTE_MBUF_F_TX_IPV4 |
		RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_TCP_CKSUM);
}

/*
 * The checksum of a segment. After extension headers the field of the whole frame, which holds the
 * sum of the pseudo-header, tells all of that but the length.
 */
static int
finish_segment(const struct rte_mbuf *m, struct rte_mbuf *segment)
{
	uint32_t l4_off = (uint32_t)(m->l2_len + m->l3_len), sum;
	unaligned_uint16_t *field;

	if (!offload_has_extensions(m))
		return offload_finish_checksum(segment);
	field = rte_pktmbuf_mtod_offset(segment, unaligned_uint16_t *,
		l4_off + field_offset(false));
	/* One's complement: to subtract is to add what is inverted (RFC 1624, 3). */
	sum = checksum_sum(segment, l4_off, UINT32_MAX);
	sum += rte_cpu_to_be_16((uint16_t)(rte_pktmbuf_pkt_len(segment) - l4_off));
	sum += (uint16_t)~rte_cpu_to_be_16((uint16_t)(rte_pktmbuf_pkt_len(m) - l4_off));
	*field = complement(checksum_fold(sum), false);
	segment->ol_flags &= ~OFFLOAD_FLAGS;
	return 0;
}

static uint32_t
headers_of(const struct rte_mbuf *m)
{
	return (uint32_t)(m->l2_len + m->l3_len + m->l4_len);
}

int
offload_segment(const struct rte_mbuf *m, struct rte_mempool *pool, struct rte_mbuf **out,
	uint16_t max)
{
	uint32_t headers = headers_of(m), off = m->hash.usr;
	uint32_t payload = rte_pktmbuf_pkt_len(m) - headers;
	struct cursor c = { m, headers };
	uint16_t n = 0;

	if (m->tso_segsz < OFFLOAD_MSS_MIN)
		return -EINVAL;
	c.off += off;
	for (; c.at->next != NULL && c.off >= rte_pktmbuf_data_len(c.at); c.at = c.at->next)
		c.off -= rte_pktmbuf_data_len(c.at);
	do {
		uint32_t len = RTE_MIN(payload - off, (uint32_t)m->tso_segsz);

		out[n] = copy_segment(m, headers, &c, len, pool);
		if (out[n] == NULL)
			break;
		edit_headers(m, out[n], off, off + len == payload);
		if (finish_segment(m, out[n++]) < 0) {
			rte_pktmbuf_free_bulk(out, n);
			return -EINVAL;
		}
		off += len;
	} while (off < payload && n < max);
	return n > 0 ? n : -ENOMEM;
}

bool
offload_advance(struct rte_mbuf *m, uint16_t n)
{
	m->hash.usr += (uint32_t)n * m->tso_segsz;
	return n > 0 && m->hash.usr >= rte_pktmbuf_pkt_len(m) - headers_of(m);
}
