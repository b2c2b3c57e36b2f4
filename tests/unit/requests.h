/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames that ask for a checksum or segments, and whether what a receiver gets of one is right. For
 * fuzz_rings.c and system/offloads.c. All of it is worked out here, from RFC 791, 8200, 9293 and
 * 1071 and VIRTIO 1.1, 5.1.6: nothing is the switch's own.
 */
#ifndef TESTS_UNIT_REQUESTS_H
#define TESTS_UNIT_REQUESTS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "virtio_net_defs.h"

#ifndef MADE_MAX
#define MADE_MAX 1600u /* bytes of a frame */
#endif
#define BIT(n) (UINT64_C(1) << (n))

enum kind { PLAIN, TCP4, UDP4, TCP6, UDP6, TSO4, TSO6, KINDS };

/* A frame as it is sent. */
struct made {
	enum kind kind;
	struct virtio_net_hdr header;
	uint64_t needs; /* features of a receiver that gets it as it is */
	uint32_t len, l4, headers; /* bytes; where TCP or UDP begins; where its data begins */
	uint8_t f[MADE_MAX];
};

/* A frame as it was received. */
struct got {
	struct virtio_net_hdr header;
	uint16_t num_buffers;
	uint32_t len;
	uint8_t f[65536 + 64];
};

static inline void
put16(uint8_t *at, unsigned int value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static inline unsigned int
get16(const uint8_t *at)
{
	return (unsigned int)at[0] << 8 | at[1];
}

static inline uint32_t
get32(const uint8_t *at)
{
	return get16(at) << 16 | get16(at + 2);
}

/* RFC 1071, with all carries. */
static inline unsigned int
ones_sum(const uint8_t *data, uint32_t n, uint64_t sum)
{
	uint32_t i;

	for (i = 0; i + 1 < n; i += 2)
		sum += get16(data + i);
	if (n % 2)
		sum += (unsigned int)data[n - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (unsigned int)sum;
}

static inline bool
is_v6(enum kind kind)
{
	return kind == TCP6 || kind == UDP6 || kind == TSO6;
}

static inline bool
is_udp(enum kind kind)
{
	return kind == UDP4 || kind == UDP6;
}

static inline bool
is_tso(enum kind kind)
{
	return kind == TSO4 || kind == TSO6;
}

static inline uint32_t
checksum_at(enum kind kind)
{
	return is_udp(kind) ? 6 : 16;
}

/* The sum of the pseudo-header of n bytes of TCP or UDP. */
static inline unsigned int
pseudo_header(const uint8_t *f, enum kind kind, uint32_t n)
{
	uint64_t rest = n + (is_udp(kind) ? 17u : 6u);

	return is_v6(kind) ? ones_sum(f + 22, 32, rest) : ones_sum(f + 26, 8, rest);
}

static inline void
make_ip(struct made *m, uint16_t flow)
{
	uint8_t *ip = m->f + 14, protocol = is_udp(m->kind) ? 17 : 6;

	memset(ip, 0, m->l4 - 14);
	if (is_v6(m->kind)) {
		put16(m->f + 12, 0x86dd);
		ip[0] = 0x60;
		put16(ip + 4, m->len - m->l4);
		ip[6] = protocol;
		put16(ip + 8, 0x2001);
		put16(ip + 22, flow);
		put16(ip + 24, 0x2001);
		put16(ip + 38, 0x77);
		return;
	}
	put16(m->f + 12, 0x0800);
	ip[0] = 0x45;
	put16(ip + 2, m->len - 14);
	put16(ip + 4, flow * 7u);
	ip[8] = 64;
	ip[9] = protocol;
	put16(ip + 12, 0x0a00);
	put16(ip + 14, flow);
	put16(ip + 16, 0x0a01);
	put16(ip + 18, 0x77);
	put16(ip + 10, ~ones_sum(ip, 20, 0) & 0xffff);
}

/* TCP or UDP, its checksum partial, and the header that asks for the rest. */
static inline void
make_l4(struct made *m, uint16_t flow, uint16_t mss, bool ecn)
{
	uint8_t *l4 = m->f + m->l4;

	memset(l4, 0, m->headers - m->l4);
	put16(l4, flow * 3u);
	put16(l4 + 2, 5000);
	if (is_udp(m->kind)) {
		put16(l4 + 4, m->len - m->l4);
	} else {
		put16(l4 + 4, flow * 5u);
		put16(l4 + 6, 0xff00); /* the number goes over 2^32 now and then */
		l4[12] = (uint8_t)((m->headers - m->l4) / 4 << 4);
		l4[13] = 0x19 | (ecn ? 0x80 : 0); /* ACK, PSH, FIN; CWR */
		memset(l4 + 20, 1, m->headers - m->l4 - 20);
	}
	put16(l4 + checksum_at(m->kind), pseudo_header(m->f, m->kind, m->len - m->l4));
	m->header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	m->header.csum_start = (uint16_t)m->l4;
	m->header.csum_offset = (uint16_t)checksum_at(m->kind);
	m->needs = BIT(VIRTIO_NET_F_GUEST_CSUM);
	if (!is_tso(m->kind))
		return;
	m->header.gso_type = m->kind == TSO4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
	m->header.gso_size = mss;
	m->header.hdr_len = (uint16_t)m->headers;
	m->needs |= m->kind == TSO4 ? BIT(VIRTIO_NET_F_GUEST_TSO4) : BIT(VIRTIO_NET_F_GUEST_TSO6);
	if (ecn) {
		m->header.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
		m->needs |= BIT(VIRTIO_NET_F_GUEST_ECN);
	}
}

/* Make a frame; options are bytes of TCP's options, ecn that it has CWR. */
static inline void
make_frame(struct made *m, enum kind kind, const void *to, const void *from, uint16_t flow,
	uint8_t fill, uint32_t payload, uint16_t mss, uint32_t options, bool ecn)
{
	uint32_t k;

	m->kind = kind;
	m->header = (struct virtio_net_hdr){ 0 };
	m->needs = 0;
	memcpy(m->f, to, 6);
	memcpy(m->f + 6, from, 6);
	m->l4 = kind == PLAIN ? 14 : is_v6(kind) ? 54 : 34;
	m->headers = m->l4 + (kind == PLAIN ? 0 : is_udp(kind) ? 8 : 20 + options);
	m->len = m->headers + payload;
	for (k = 0; k < payload; k++)
		m->f[m->headers + k] = (uint8_t)(fill + k * 7 + k / 251);
	put16(m->f + 12, 0x88b5);
	if (kind == PLAIN)
		return;
	make_ip(m, flow);
	make_l4(m, flow, mss, ecn && is_tso(kind));
}

/* Whether a receiver with these features gets the frame as it was sent. */
static inline bool
goes_whole(const struct made *m, uint64_t features)
{
	return (m->needs & ~features) == 0;
}

/* Frames that it becomes for a receiver. */
static inline uint32_t
made_count(const struct made *m, uint64_t features)
{
	uint32_t payload = m->len - m->headers;

	if (!is_tso(m->kind) || goes_whole(m, features) || payload == 0)
		return 1;
	return (payload + m->header.gso_size - 1) / m->header.gso_size;
}

/* Whether the checksums of a frame without a request are right. */
static inline bool
is_finished(const struct got *g, const struct made *m)
{
	const struct virtio_net_hdr none = { 0 };

	if (memcmp(&g->header, &none, sizeof(none)) != 0 || g->len < m->headers ||
			(!is_v6(m->kind) && ones_sum(g->f + 14, 20, 0) != 0xffff))
		return false;
	return ones_sum(g->f + m->l4, g->len - m->l4,
		pseudo_header(g->f, m->kind, g->len - m->l4)) == 0xffff;
}

/* The k-th segment: its length, numbers, flags and data. */
static inline bool
is_segment(const struct got *g, const struct made *m, uint32_t k)
{
	uint32_t mss = m->header.gso_size, payload = m->len - m->headers, off = k * mss;
	uint32_t part = payload - off < mss ? payload - off : mss, i;
	uint8_t want[MADE_MAX], *l4 = want + m->l4;
	bool last = off + part == payload;

	memcpy(want, m->f, m->headers);
	if (g->len != m->headers + part || memcmp(g->f + m->headers, m->f + m->headers + off, part))
		return false;
	put16(want + (m->kind == TSO6 ? 18 : 16), g->len - (m->kind == TSO6 ? 54 : 14));
	if (m->kind == TSO4) {
		put16(want + 18, get16(want + 18) + k);
		put16(want + 24, 0);
		put16(want + 24, ~ones_sum(want + 14, 20, 0) & 0xffff);
	}
	i = get32(l4 + 4) + off;
	put16(l4 + 4, i >> 16);
	put16(l4 + 6, i & 0xffff);
	l4[13] = (uint8_t)((0x10 | (k == 0 ? m->f[m->l4 + 13] & 0x80 : 0)) | (last ? 0x09 : 0));
	put16(l4 + 16, get16(g->f + m->l4 + 16)); /* is_finished() has looked at it */
	return memcmp(want, g->f, m->headers) == 0;
}

/*
 * Whether this is the k-th frame that a receiver with these features gets of m. may_finish: that
 * the checksum was filled in before the receiver could do it is right too.
 */
static inline bool
is_right(const struct got *g, const struct made *m, uint32_t k, uint64_t features, bool may_finish)
{
	const uint32_t field = m->l4 + checksum_at(m->kind);

	if (m->kind == PLAIN || (goes_whole(m, features) && (g->header.flags != 0 || !may_finish)))
		return g->len == m->len && memcmp(g->f, m->f, m->len) == 0 &&
			memcmp(&g->header, &m->header, sizeof(m->header)) == 0;
	if (!is_finished(g, m))
		return false;
	if (is_tso(m->kind))
		return is_segment(g, m, k);
	return g->len == m->len && memcmp(g->f, m->f, field) == 0 &&
		memcmp(g->f + field + 2, m->f + field + 2, m->len - field - 2) == 0;
}

/*
 * Whether a receiver with these features may get such a header, whatever was asked for: nothing
 * that it did not negotiate, and nothing beyond the frame.
 */
static inline bool
is_allowed(const struct got *g, uint64_t features)
{
	const struct virtio_net_hdr *h = &g->header, none = { 0 };
	uint8_t type = h->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
	uint64_t needs = BIT(VIRTIO_NET_F_GUEST_CSUM);

	if (memcmp(h, &none, sizeof(none)) == 0)
		return true;
	if (h->flags != VIRTIO_NET_HDR_F_NEEDS_CSUM || h->csum_start < 14 ||
			(uint32_t)h->csum_start + h->csum_offset + 2 > g->len)
		return false;
	if (h->gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return !(needs & ~features) && h->gso_size == 0 && h->hdr_len == 0;
	needs |= type == VIRTIO_NET_HDR_GSO_TCPV4 ? BIT(VIRTIO_NET_F_GUEST_TSO4)
		: type == VIRTIO_NET_HDR_GSO_TCPV6 ? BIT(VIRTIO_NET_F_GUEST_TSO6) : UINT64_MAX;
	if (h->gso_type & VIRTIO_NET_HDR_GSO_ECN)
		needs |= BIT(VIRTIO_NET_F_GUEST_ECN);
	return !(needs & ~features) && h->gso_size >= 8 && h->hdr_len <= g->len &&
		h->hdr_len >= h->csum_start + 20 && h->csum_offset == 16;
}

#endif /* TESTS_UNIT_REQUESTS_H */
