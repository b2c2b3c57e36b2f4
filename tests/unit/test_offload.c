/* SPDX-License-Identifier: BSD-3-Clause */
/* Partial checksums and segmentation, against sums that are worked out here (RFC 1071). */
#include <errno.h>
#include <string.h>

#include "switch/offload.h"
#include "uplink/vlan.h"
#include "unit.h"

#define TCP 6
#define UDP 17
#define TCP_FIELD 16 /* offset of the checksum */
#define UDP_FIELD 6

static struct rte_mempool *pool, *odd_pool;

static int
create(void **state)
{
	if (start_eal(state) != 0)
		return -1;
	pool = rte_pktmbuf_pool_create("p", 255, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	/* 96 bytes of a frame each, so that headers and data are in several */
	odd_pool = rte_pktmbuf_pool_create("o", 1023, 0, 0, RTE_PKTMBUF_HEADROOM + 96, 0);
	return pool == NULL || odd_pool == NULL;
}

/* Every test ends with all mbufs back in the pools. */
static int
teardown(void **state)
{
	(void)state;
	return rte_mempool_avail_count(pool) != pool->size ||
		rte_mempool_avail_count(odd_pool) != odd_pool->size;
}

/* A frame under construction. */
struct bytes {
	uint8_t at[66000];
	uint32_t n;
};

static void
put(struct bytes *b, const void *data, uint32_t n)
{
	memcpy(b->at + b->n, data, n);
	b->n += n;
}

static void
put16(struct bytes *b, unsigned int value)
{
	put(b, (uint8_t[]){ (uint8_t)(value >> 8), (uint8_t)value }, 2);
}

static unsigned int
get16(const uint8_t *at)
{
	return (unsigned int)at[0] << 8 | at[1];
}

static void
set16(uint8_t *at, unsigned int value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static unsigned int
sum(const uint8_t *data, uint32_t n, unsigned int start)
{
	uint64_t total = start;
	uint32_t i;

	for (i = 0; i < n; i++)
		total += i % 2 ? data[i] : (unsigned int)data[i] << 8;
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return (unsigned int)total;
}

/* Sum of a pseudo-header of addresses of alen bytes each. */
static unsigned int
pseudo(const uint8_t *src, const uint8_t *dst, uint32_t alen, unsigned int proto, uint32_t len)
{
	return sum((uint8_t[]){ 0, (uint8_t)proto, (uint8_t)(len >> 24), (uint8_t)(len >> 16),
		(uint8_t)(len >> 8), (uint8_t)len }, 6, sum(src, alen, sum(dst, alen, 0)));
}

static const uint8_t src4[4] = { 192, 168, 77, 254 }, dst4[4] = { 192, 168, 77, 1 };
static const uint8_t src6[16] = { 0x20, 1, 0xd, 0xb8, [15] = 1 };
static const uint8_t dst6[16] = { 0x20, 1, 0xd, 0xb8, [15] = 2 };
static const uint8_t last6[16] = { 0x20, 1, 0xd, 0xb8, 0xab, 0xcd, [15] = 0x99 };

static void
put_ethernet(struct bytes *b, unsigned int tags, unsigned int ethertype)
{
	b->n = 0;
	put(b, "ddddddssssss", 12);
	if (tags == 2)
		put(b, "\x88\xa8\x00\x07", 4);
	if (tags > 0)
		put(b, "\x81\x00\x00\x08", 4);
	put16(b, ethertype);
}

static void
put_ipv4(struct bytes *b, unsigned int proto, uint32_t payload, const void *options, uint32_t n)
{
	uint32_t at = b->n;

	put(b, (uint8_t[]){ (uint8_t)(0x45 + n / 4), 0 }, 2);
	put16(b, 20 + n + payload);
	put(b, (uint8_t[]){ 0x12, 0xfe, 0x40, 0, 64, (uint8_t)proto, 0, 0 }, 8);
	put(b, src4, 4);
	put(b, dst4, 4);
	put(b, options, n);
	set16(b->at + at + 10, ~sum(b->at + at, 20 + n, 0) & 0xffff);
}

static void
put_ipv6(struct bytes *b, unsigned int next, const uint8_t *extensions, uint32_t n,
	uint32_t payload)
{
	put(b, "\x60\0\0\0", 4);
	put16(b, n + payload);
	put(b, (uint8_t[]){ (uint8_t)next, 64 }, 2);
	put(b, src6, 16);
	put(b, dst6, 16);
	put(b, extensions, n);
}

/* A TCP header with so many bytes of options (NOPs), or a UDP header; then data. */
static void
put_l4(struct bytes *b, unsigned int proto, uint32_t options, unsigned int flags, uint32_t data)
{
	uint32_t i;

	put(b, "\x30\x39\xd4\x31", 4);
	if (proto == UDP) {
		put16(b, 8 + data);
		put(b, "\0\0", 2);
	} else {
		put(b, "\xff\xff\xff\x00\0\0\0\1", 8); /* the sequence number wraps */
		put(b, (uint8_t[]){ (uint8_t)((5 + options / 4) << 4), (uint8_t)flags }, 2);
		put(b, "\x10\0\0\0\0\0", 6);
		for (i = 0; i < options; i++)
			put(b, "\1", 1);
	}
	for (i = 0; i < data; i++)
		put(b, (uint8_t[]){ (uint8_t)(i * 7 + (i >> 8)) }, 1);
}

static struct rte_mbuf *
chain_of(struct rte_mempool *from, const struct bytes *b)
{
	struct rte_mbuf *first = NULL, **end = &first, *m;
	uint32_t off, part;

	for (off = 0; off < b->n; off += part) {
		m = rte_pktmbuf_alloc(from);
		assert_non_null(m);
		part = RTE_MIN(b->n - off, (uint32_t)rte_pktmbuf_tailroom(m));
		memcpy(rte_pktmbuf_append(m, (uint16_t)part), b->at + off, part);
		*end = m;
		end = &m->next;
		if (m != first) {
			first->nb_segs++;
			first->pkt_len += part;
		}
	}
	return first;
}

static void
flatten(const struct rte_mbuf *m, struct bytes *b)
{
	uint32_t total = rte_pktmbuf_pkt_len(m);

	b->n = 0;
	for (; m != NULL; m = m->next)
		put(b, rte_pktmbuf_mtod(m, const void *), rte_pktmbuf_data_len(m));
	assert_int_equal(b->n, total);
}

static struct bytes want, got;

/* The frame in want has a partial checksum, and in_field in its field. */
static void
expect_finished(struct rte_mempool *from, uint32_t l4, unsigned int field, unsigned int pseudo_sum,
	unsigned int in_field, bool at_once)
{
	unsigned int right;
	struct rte_mbuf *m;

	set16(want.at + l4 + field, 0);
	right = ~sum(want.at + l4, want.n - l4, pseudo_sum) & 0xffff;
	if (right == 0 && field == UDP_FIELD)
		right = 0xffff;
	set16(want.at + l4 + field, in_field);
	m = chain_of(from, &want);
	m->ol_flags = RTE_MBUF_F_RX_L4_CKSUM_NONE;
	assert_int_equal(offload_accept(m), 0);
	assert_int_equal((m->ol_flags & OFFLOAD_FLAGS) == 0, at_once);
	if (!at_once) {
		assert_true(offload_exceeds(m, 0) && !offload_exceeds(m, OFFLOAD_CSUM));
		assert_int_equal(m->l2_len + m->l3_len, l4);
		assert_int_equal(offload_finish_checksum(m), 0);
	}
	assert_int_equal(m->ol_flags, at_once ? 0 : m->ol_flags & ~OFFLOAD_FLAGS);
	set16(want.at + l4 + field, right);
	flatten(m, &got);
	assert_int_equal(got.n, want.n);
	assert_memory_equal(got.at, want.at, want.n);
	rte_pktmbuf_free(m);
}

static void
test_plain_headers(void **state)
{
	static const unsigned int protos[] = { TCP, UDP };
	unsigned int i, tags, odd;

	(void)state;
	for (i = 0; i < 2; i++) {
		unsigned int proto = protos[i], field = proto == TCP ? TCP_FIELD : UDP_FIELD;
		uint32_t header = proto == TCP ? 20 : 8;

		for (tags = 0; tags < 3; tags++) {
			for (odd = 0; odd < 2; odd++) {
				uint32_t len = header + 300 + odd, l4;

				put_ethernet(&want, tags, 0x0800);
				put_ipv4(&want, proto, len, NULL, 0);
				l4 = want.n;
				put_l4(&want, proto, 0, 0x18, 300 + odd);
				expect_finished(pool, l4, field, pseudo(src4, dst4, 4, proto, len),
					0xdead, false);
				put_ethernet(&want, tags, 0x86dd);
				put_ipv6(&want, proto, NULL, 0, len);
				l4 = want.n;
				put_l4(&want, proto, 0, 0x18, 300 + odd);
				expect_finished(pool, l4, field, pseudo(src6, dst6, 16, proto, len),
					0xdead, false);
			}
		}
	}
}

/* Extension headers, of n bytes, that end with one that says what follows. */
static void
after_headers(unsigned int first, const uint8_t *extensions, uint32_t n, uint32_t last,
	const uint8_t *final_dst, struct rte_mempool *from)
{
	static const unsigned int protos[] = { TCP, UDP };
	static uint8_t copy[4096];
	unsigned int i;

	memcpy(copy, extensions, n);
	for (i = 0; i < 2; i++) {
		unsigned int proto = protos[i], sum6;
		uint32_t len = (proto == TCP ? 20 : 8) + 51, l4;

		copy[last] = (uint8_t)proto;
		put_ethernet(&want, 0, 0x86dd);
		put_ipv6(&want, first, copy, n, len);
		l4 = want.n;
		put_l4(&want, proto, 0, 0x18, 51);
		sum6 = pseudo(src6, final_dst, 16, proto, len);
		expect_finished(from, l4, proto == TCP ? TCP_FIELD : UDP_FIELD, sum6, sum6, true);
	}
}

static void
test_after_extension_headers(void **state)
{
	uint8_t options[8] = { 0, 0, 1, 4 }, several[40] = { 43, 0, 1, 4 };
	uint8_t routing[24] = { 0, 2, 4, 1 };
	static uint8_t huge[2048] = { 0, 255, 1, 200 };

	(void)state;
	after_headers(0, options, 8, 0, dst6, pool);  /* hop-by-hop */
	after_headers(60, options, 8, 0, dst6, pool); /* destination options */
	memcpy(routing + 8, last6, 16);
	after_headers(43, routing, 24, 0, last6, pool);
	/* hop-by-hop, routing, destination options */
	memcpy(several + 8, routing, 24);
	several[8] = 60;
	memcpy(several + 32, options, 8);
	after_headers(0, several, 40, 32, last6, pool);
	/* further than an mbuf's header lengths and its buffer reach: 9 bits and 2048 bytes */
	after_headers(0, huge, 2048, 0, dst6, pool);
	huge[1] = 63;
	after_headers(60, huge, 512, 0, dst6, pool);
	/* over mbufs of 96 bytes: TCP's field at 94 and 110, UDP's at 100 and 96 + 4 */
	after_headers(0, options, 8, 0, dst6, odd_pool);
	after_headers(43, routing, 24, 0, last6, odd_pool);
	after_headers(0, huge, 512, 0, dst6, odd_pool);
}

/* The two bytes of the field are in two mbufs. */
static void
test_field_across_mbufs(void **state)
{
	uint8_t options[8] = { UDP, 0, 1, 4 };
	uint32_t len = 8 + 50, l4;
	unsigned int sum6 = pseudo(src6, dst6, 16, UDP, len);
	struct rte_mbuf *m, *tail;

	(void)state;
	put_ethernet(&want, 0, 0x86dd);
	put_ipv6(&want, 60, options, 8, len);
	l4 = want.n;
	put_l4(&want, UDP, 0, 0, 50);
	set16(want.at + l4 + UDP_FIELD, sum6);
	m = chain_of(pool, &want);
	tail = rte_pktmbuf_alloc(pool);
	memcpy(rte_pktmbuf_append(tail, (uint16_t)(want.n - l4 - UDP_FIELD - 1)),
		want.at + l4 + UDP_FIELD + 1, want.n - l4 - UDP_FIELD - 1);
	rte_pktmbuf_trim(m, tail->data_len);
	rte_pktmbuf_chain(m, tail);
	m->ol_flags = RTE_MBUF_F_RX_L4_CKSUM_NONE;
	assert_int_equal(offload_accept(m), 0);
	flatten(m, &got);
	rte_pktmbuf_free(m);
	/* whole, its sum with the pseudo-header, which the field held, is all ones */
	assert_int_equal(sum(got.at + l4, got.n - l4, sum6), 0xffff);
	assert_memory_equal(got.at, want.at, l4 + UDP_FIELD);
}

/* A source route: the pseudo-header has its end for a destination (RFC 1122, 3.2.1.8). */
static void
test_after_ipv4_options(void **state)
{
	static const uint8_t route[8] = { 131, 7, 4, 10, 9, 8, 7, 0 };
	static const uint8_t final_dst[4] = { 10, 9, 8, 7 };
	uint32_t len = 8 + 21, l4;
	unsigned int sum4 = pseudo(src4, final_dst, 4, UDP, len);

	(void)state;
	put_ethernet(&want, 1, 0x0800);
	put_ipv4(&want, UDP, len, route, 8);
	l4 = want.n;
	put_l4(&want, UDP, 0, 0, 21);
	expect_finished(pool, l4, UDP_FIELD, sum4, sum4, true);
}

/* A sum of zero is written as all ones for UDP, as it is for TCP. */
static void
test_zero(void **state)
{
	uint8_t options[8] = { UDP, 0, 1, 4 };
	uint32_t l4;

	(void)state;
	put_ethernet(&want, 0, 0x0800);
	put_ipv4(&want, UDP, 8 + 2, NULL, 0);
	l4 = want.n;
	put_l4(&want, UDP, 0, 0, 2);
	set16(want.at + l4 + 8, 0);
	set16(want.at + l4 + 8,
		~sum(want.at + l4, 10, pseudo(src4, dst4, 4, UDP, 10)) & 0xffff);
	expect_finished(pool, l4, UDP_FIELD, pseudo(src4, dst4, 4, UDP, 10), 0, false);
	assert_int_equal(get16(want.at + l4 + UDP_FIELD), 0xffff);

	put_ethernet(&want, 0, 0x86dd);
	put_ipv6(&want, 60, options, 8, 8 + 2);
	l4 = want.n;
	put_l4(&want, UDP, 0, 0, 2);
	set16(want.at + l4 + 8, 0);
	set16(want.at + l4 + 8,
		~sum(want.at + l4, 10, pseudo(src6, dst6, 16, UDP, 10)) & 0xffff);
	expect_finished(pool, l4, UDP_FIELD, pseudo(src6, dst6, 16, UDP, 10),
		pseudo(src6, dst6, 16, UDP, 10), true);
	assert_int_equal(get16(want.at + l4 + UDP_FIELD), 0xffff);
}

/* The frame with a request is finished at once, and all that changes is the field. */
static void
expect_by_rule(uint32_t start, uint32_t offset, unsigned int right)
{
	const struct virtio_net_hdr h = { 1, 0, 0, 0, (uint16_t)start, (uint16_t)offset };
	struct rte_mbuf *m = chain_of(pool, &want);

	assert_int_equal(offload_read_header(m, &h), 0);
	assert_int_equal(m->ol_flags & OFFLOAD_FLAGS, 0);
	set16(want.at + start + offset, right);
	flatten(m, &got);
	assert_int_equal(got.n, want.n);
	assert_memory_equal(got.at, want.at, want.n);
	rte_pktmbuf_free(m);
}

/* The same in a tunnel, where only the header tells what is to be summed up. */
static void
test_zero_in_a_tunnel(void **state)
{
	/* VXLAN's header and an Ethernet header after UDP's, then IPv6 and UDP */
	const uint32_t start = 14 + 20 + 8 + 8 + 14 + 40;

	(void)state;
	put_ethernet(&want, 0, 0x0800);
	put_ipv4(&want, UDP, start + 8 + 20 - 34, NULL, 0);
	put_l4(&want, UDP, 0, 0, start + 20 - 34);
	set16(want.at + want.n - 2, 0);
	set16(want.at + want.n - 2, ~sum(want.at + start, want.n - start, 0) & 0xffff);
	expect_by_rule(start, UDP_FIELD, 0xffff);
}

/* One that is of the frame's TCP or UDP as little as their addresses are. */
static void
test_another_sum_than_that_of_its_protocol(void **state)
{
	static const unsigned int asked[][2] = { { 34, 4 }, { 34, TCP_FIELD + 2 },
		{ 36, TCP_FIELD }, { 14, 10 }, { 30, TCP_FIELD + 4 }, { 34 + 20, 0 } };
	unsigned int i, proto;

	(void)state;
	for (i = 0; i < 2 * RTE_DIM(asked); i++) {
		const unsigned int *at = asked[i / 2];

		proto = i % 2 ? UDP : TCP;
		put_ethernet(&want, 0, 0x0800);
		put_ipv4(&want, proto, 300, NULL, 0);
		put_l4(&want, proto, 0, 0x18, 300 - (proto == TCP ? 20 : 8));
		expect_by_rule(at[0], at[1], ~sum(want.at + at[0], want.n - at[0], 0) & 0xffff);
	}
}

static void
expect_refused(uint64_t flags, uint16_t mss)
{
	struct rte_mbuf *m = chain_of(pool, &want);

	m->ol_flags = flags;
	m->tso_segsz = mss;
	assert_int_equal(offload_accept(m), -EINVAL);
	rte_pktmbuf_free(m);
}

static void
test_what_cannot_be_finished(void **state)
{
	uint8_t options[8] = { UDP, 0, 1, 4 };
	static const uint8_t long_options[472] = { TCP, 58, 1, 200 };

	(void)state;
	put_ethernet(&want, 0, 0x0800);
	put_ipv4(&want, 132, 12 + 40, NULL, 0); /* SCTP has no such sum, but a CRC */
	put_l4(&want, TCP, 0, 0, 32);
	expect_refused(RTE_MBUF_F_RX_L4_CKSUM_NONE, 0);
	put_ethernet(&want, 0, 0x0800);
	put_ipv4(&want, TCP, 20 + 40, NULL, 0);
	put_l4(&want, TCP, 0, 0, 40);
	want.at[34 + 12] = 4 << 4; /* a TCP header of 16 bytes */
	expect_refused(RTE_MBUF_F_RX_L4_CKSUM_NONE, 0);
	want.at[34 + 12] = 15 << 4; /* one that is longer than the frame */
	want.n = 34 + 40;
	expect_refused(RTE_MBUF_F_RX_L4_CKSUM_NONE, 0);
	/* segmentation of what is not TCP */
	put_ethernet(&want, 0, 0x0800);
	put_ipv4(&want, UDP, 8 + 3000, NULL, 0);
	put_l4(&want, UDP, 0, 0, 3000);
	expect_refused(RTE_MBUF_F_RX_LRO | RTE_MBUF_F_RX_L4_CKSUM_NONE, 1000);
	put_ethernet(&want, 0, 0x86dd);
	put_ipv6(&want, UDP, NULL, 0, 8 + 3000);
	put_l4(&want, UDP, 0, 0, 3000);
	expect_refused(RTE_MBUF_F_RX_LRO | RTE_MBUF_F_RX_L4_CKSUM_NONE, 1000);
	/* headers of IPv6 longer than mbuf->l3_len can say */
	put_ethernet(&want, 0, 0x86dd);
	put_ipv6(&want, 0, long_options, sizeof(long_options), 20 + 3000);
	put_l4(&want, TCP, 0, 0, 3000);
	expect_refused(RTE_MBUF_F_RX_LRO | RTE_MBUF_F_RX_L4_CKSUM_NONE, 1000);
	/* the checksum would be beyond the end */
	put_ethernet(&want, 0, 0x86dd);
	put_ipv6(&want, 60, options, 8, 7);
	put_l4(&want, UDP, 0, 0, 0);
	want.n--;
	expect_refused(RTE_MBUF_F_RX_L4_CKSUM_NONE, 0);
}

/* What a frame that is segmented has between Ethernet and TCP. */
static const struct ip_kind {
	unsigned int version;
	const char *extensions;
	uint32_t n; /* bytes of these; the first is a hop-by-hop options header */
	const uint8_t *final_dst;
} ip4 = { 4, NULL, 0, dst4 }, ip6 = { 6, NULL, 0, dst6 },
  ip6_options = { 6, "\x06\0\1\4\0\0\0", 8, dst6 },
  ip6_routed = { 6, "\x2b\0\1\4\0\0\0\0" "\x06\2\4\1\0\0\0\0"
	"\x20\1\xd\xb8\xab\xcd\0\0\0\0\0\0\0\0\0\x99", 32, last6 };

static uint32_t
put_ip(const struct ip_kind *ip, unsigned int tags, uint32_t payload)
{
	put_ethernet(&want, tags, ip->version == 4 ? 0x0800 : 0x86dd);
	if (ip->version == 4) {
		put_ipv4(&want, TCP, payload, NULL, 0);
		return 20;
	}
	put_ipv6(&want, ip->n > 0 ? 0 : TCP, (const uint8_t *)ip->extensions, ip->n, payload);
	return 40 + ip->n;
}

/* Look at one segment: its headers, its sums. Its data goes to the end of all. */
static void
look_at_segment(const struct rte_mbuf *m, const struct ip_kind *kind, uint32_t l2, uint32_t l4,
	uint32_t headers, uint32_t off, bool last, unsigned int flags, unsigned int mss,
	struct bytes *all)
{
	const uint8_t *ip = got.at + l2, *tcp = got.at + l4;
	uint32_t len;

	flatten(m, &got);
	len = got.n - l4;
	if (kind->version == 4) {
		assert_int_equal(get16(ip + 2), got.n - l2);
		assert_int_equal(get16(ip + 4), (0x12fe + off / mss) & 0xffff);
		assert_int_equal(sum(ip, 20, 0), 0xffff);
		assert_int_equal(sum(tcp, len, pseudo(src4, dst4, 4, TCP, len)), 0xffff);
	} else {
		assert_int_equal(get16(ip + 4), got.n - l2 - 40);
		assert_memory_equal(ip + 6, want.at + l2 + 6, l4 - l2 - 6);
		assert_int_equal(sum(tcp, len, pseudo(src6, kind->final_dst, 16, TCP, len)),
			0xffff);
	}
	assert_int_equal((get16(tcp + 4) << 16 | get16(tcp + 6)), (uint32_t)(0xffffff00 + off));
	assert_int_equal(tcp[13], flags & ~((off > 0 ? 0x80u : 0) | (last ? 0 : 0x09u)));
	assert_int_equal(m->ol_flags & OFFLOAD_FLAGS, 0);
	assert_int_equal(m->port, 77);
	put(all, got.at + headers, got.n - headers);
}

/* Segment a frame, of whose segments a receiver takes at most so many at once. */
static void
segment_ip(struct rte_mempool *from, const struct ip_kind *ip, unsigned int tags, uint32_t options,
	uint32_t data, unsigned int mss, uint16_t takes)
{
	static struct bytes all;
	const unsigned int flags = 0xc0 | 0x18 | 0x01; /* CWR, ECE, PSH, ACK, FIN */
	const uint8_t tso = ip->version == 4 ? OFFLOAD_TSO4 : OFFLOAD_TSO6;
	uint32_t l2 = 14 + 4 * tags, l4, headers, off = 0;
	struct rte_mbuf *m, *out[BURST_MAX];
	bool done = false;
	int i, n;

	l4 = l2 + put_ip(ip, tags, 20 + options + data);
	headers = l4 + 20 + options;
	put_l4(&want, TCP, options, flags, data);
	if (ip->version == 6) /* as a sender leaves it */
		set16(want.at + l4 + TCP_FIELD,
			pseudo(src6, ip->final_dst, 16, TCP, 20 + options + data));
	m = chain_of(from, &want);
	m->ol_flags = RTE_MBUF_F_RX_LRO | RTE_MBUF_F_RX_L4_CKSUM_NONE;
	m->tso_segsz = (uint16_t)mss;
	m->port = 77;
	m->hash.usr = 12345; /* left by whoever had the mbuf before */
	assert_int_equal(offload_accept(m), 0);
	assert_int_equal(offload_needs(m), OFFLOAD_CSUM | OFFLOAD_ECN | tso);
	assert_int_equal(offload_has_extensions(m), ip->n > 0);
	all.n = 0;
	while (!done) {
		uint16_t taken;

		n = offload_segment(m, pool, out, BURST_MAX);
		assert_in_range(n, 1, BURST_MAX);
		taken = RTE_MIN((uint16_t)n, takes);
		for (i = 0; i < taken; i++) {
			bool last = off + mss >= data;

			look_at_segment(out[i], ip, l2, l4, headers, off, last, flags, mss, &all);
			assert_int_equal(got.n, headers + RTE_MIN(mss, data - off));
			off += RTE_MIN(mss, data - off);
		}
		rte_pktmbuf_free_bulk(out, (unsigned int)n);
		done = offload_advance(m, taken);
		assert_int_equal(done, off == data);
	}
	assert_int_equal(all.n, data);
	assert_memory_equal(all.at, want.at + headers, data);
	/* the frame itself is untouched */
	flatten(m, &got);
	assert_memory_equal(got.at, want.at, want.n);
	rte_pktmbuf_free(m);
}

static void
segment(struct rte_mempool *from, unsigned int tags, uint32_t options, uint32_t data,
	unsigned int mss, uint16_t takes)
{
	segment_ip(from, &ip4, tags, options, data, mss, takes);
	segment_ip(from, &ip6, tags, options, data, mss, takes);
}

static void
test_segments(void **state)
{
	static const unsigned int sizes[] = { 8, 36, 48, 216, 500, 511, 512, 536, 1448, 1460, 8948,
		40000 };
	unsigned int i;

	(void)state;
	for (i = 0; i < RTE_DIM(sizes); i++) {
		unsigned int mss = sizes[i];

		segment(pool, 0, 0, 1000, mss, BURST_MAX);
		segment(pool, 0, 12, 9999, mss, BURST_MAX);
		segment(pool, 1, 40, mss, mss, 1);
		segment(pool, 2, 0, mss + 1, mss, 1);
		segment(pool, 0, 0, RTE_MIN(65400u, 64 * mss), mss, 7);
		segment(pool, 0, 12, 65400, mss, BURST_MAX);
	}
}

static void
test_segments_after_extension_headers(void **state)
{
	static const struct ip_kind *const kinds[] = { &ip6_options, &ip6_routed };
	unsigned int i;

	(void)state;
	for (i = 0; i < RTE_DIM(kinds); i++) {
		segment_ip(pool, kinds[i], 0, 0, 1000, 48, BURST_MAX);
		segment_ip(pool, kinds[i], 1, 12, 65000, 1440, 7);
		segment_ip(pool, kinds[i], 2, 40, 9999, 8, 1);
	}
}

/* What a guest may be given of what another has asked for. */
static void
expect_header(struct virtio_net_hdr asked, uint8_t may_ask, uint8_t asks)
{
	const struct virtio_net_hdr untouched = { .flags = 0xaa };
	struct virtio_net_hdr h = untouched;
	bool tso = asks & (OFFLOAD_TSO4 | OFFLOAD_TSO6);

	assert_int_equal(offload_check_header(&asked, may_ask, want.at,
		RTE_MIN(want.n, (uint32_t)OFFLOAD_HEADERS_MAX), want.n, &h), asks);
	if (asks == 0 || asks == OFFLOAD_INVALID) {
		assert_memory_equal(&h, &untouched, sizeof(h));
		return;
	}
	assert_int_equal(h.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(h.gso_type, tso ? asked.gso_type : 0);
	assert_int_equal(h.gso_size, tso ? asked.gso_size : 0);
	assert_int_equal(h.hdr_len, tso ? asked.csum_start + 20 + 12 : 0);
	assert_int_equal(h.csum_start, asked.csum_start);
	assert_int_equal(h.csum_offset, asked.csum_offset);
}

static void
test_checked_headers_of_checksums(void **state)
{
	const uint8_t all = OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6 | OFFLOAD_ECN;
	struct virtio_net_hdr h;

	(void)state;
	put_ip(&ip4, 0, 20 + 12 + 3000);
	put_l4(&want, TCP, 12, 0x10, 3000);
	expect_header((struct virtio_net_hdr){ 0 }, all, 0);
	expect_header((struct virtio_net_hdr){ .flags = 2 }, all, 0); /* DATA_VALID is a device's */
	expect_header((struct virtio_net_hdr){ 3, 0, 777, 888, 34, 16 }, all, OFFLOAD_CSUM);
	expect_header((struct virtio_net_hdr){ 1, 0, 0, 0, 34, 16 }, OFFLOAD_CSUM, OFFLOAD_CSUM);
	expect_header((struct virtio_net_hdr){ 1, 0, 0, 0, 14, 0 }, all, OFFLOAD_CSUM);
	/* not in the Ethernet header: its destination is decided by */
	expect_header((struct virtio_net_hdr){ 1, 0, 0, 0, 13, 16 }, all, OFFLOAD_INVALID);
	expect_header((struct virtio_net_hdr){ 1, 0, 0, 0, 0, 0 }, all, OFFLOAD_INVALID);
	/* the field must be in the frame, the last two bytes at most */
	h = (struct virtio_net_hdr){ 1, 0, 0, 0, (uint16_t)(want.n - 10), 8 };
	expect_header(h, all, OFFLOAD_CSUM);
	h.csum_offset = 9;
	expect_header(h, all, OFFLOAD_INVALID);
	expect_header((struct virtio_net_hdr){ 1, 0, 0, 0, 0xffff, 0xffff }, all, OFFLOAD_INVALID);
	/* nor so far on that it would begin in the Ethernet header when a tag is put in */
	h = (struct virtio_net_hdr){ 1, 0, 0, 0, 0xfffb, 0 };
	want.n = 65535 + 14 + 4;
	expect_header(h, all, OFFLOAD_CSUM);
	h.csum_start++;
	expect_header(h, all, OFFLOAD_INVALID);
}

static void
test_checked_headers_of_segments(void **state)
{
	const uint8_t all = OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6 | OFFLOAD_ECN;
	const uint8_t t4 = OFFLOAD_CSUM | OFFLOAD_TSO4, t6 = OFFLOAD_CSUM | OFFLOAD_TSO6;
	struct virtio_net_hdr tso = { 1, VIRTIO_NET_HDR_GSO_TCPV4, 54, 1000, 34, 16 };
	struct virtio_net_hdr h;

	(void)state;
	put_ip(&ip4, 0, 20 + 12 + 3000);
	put_l4(&want, TCP, 12, 0x10, 3000);
	expect_header(tso, all, t4);
	expect_header(tso, t4, t4);
	expect_header(tso, t6, OFFLOAD_INVALID); /* not negotiated */
	expect_header(tso, OFFLOAD_CSUM, OFFLOAD_INVALID);
	tso.hdr_len = 0xffff; /* is not looked at */
	expect_header(tso, t4, t4);
	h = tso;
	h.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	expect_header(h, all, t4 | OFFLOAD_ECN);
	expect_header(h, t4, OFFLOAD_INVALID);
	h = tso;
	h.flags = 0; /* a segment without its checksum is none (5.1.6.2) */
	expect_header(h, all, OFFLOAD_INVALID);
	h = tso;
	h.gso_size = OFFLOAD_MSS_MIN - 1;
	expect_header(h, all, OFFLOAD_INVALID);
	h = tso;
	h.gso_type = VIRTIO_NET_HDR_GSO_TCPV6; /* the frame is another */
	expect_header(h, all, OFFLOAD_INVALID);
	for (h.gso_type = 2; h.gso_type < 128; h.gso_type++) {
		if (h.gso_type != VIRTIO_NET_HDR_GSO_TCPV6)
			expect_header(h, all, OFFLOAD_INVALID);
	}
	h = tso;
	h.csum_start = 35;
	expect_header(h, all, OFFLOAD_INVALID);
	h = tso;
	h.csum_offset = 6;
	expect_header(h, all, OFFLOAD_INVALID);
	want.n = 34 + 20 + 12 - 1; /* its header is not whole */
	expect_header(tso, all, OFFLOAD_INVALID);

	put_ip(&ip6_options, 1, 20 + 12 + 3000);
	put_l4(&want, TCP, 12, 0x10, 3000);
	h = (struct virtio_net_hdr){ 1, VIRTIO_NET_HDR_GSO_TCPV6, 0, 48, 14 + 4 + 48, 16 };
	expect_header(h, all, t6);
	h.csum_start = 14 + 4 + 40;
	expect_header(h, all, OFFLOAD_INVALID);
	put_ip(&ip4, 0, 8 + 3000);
	want.at[14 + 9] = UDP;
	put_l4(&want, UDP, 0, 0, 3000);
	h = tso;
	h.csum_offset = 6;
	expect_header(h, all, OFFLOAD_INVALID);
}

/* Tags of 802.1Q and of 802.1ad, one or two, in any order. */
static void
test_tags_of_either_kind(void **state)
{
	static const unsigned int types[] = { 0x8100, 0x88a8 };
	const uint8_t all = OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6;
	struct virtio_net_hdr h = { 1, VIRTIO_NET_HDR_GSO_TCPV4, 0, 1000, 0, 16 };
	unsigned int tags, i, j;
	struct rte_mbuf *m;

	(void)state;
	for (tags = 1; tags <= 2; tags++) {
		for (i = 0; i < 2 * tags; i++) {
			j = put_ip(&ip4, tags, 20 + 12 + 3000);
			put_l4(&want, TCP, 12, 0x10, 3000);
			set16(want.at + 12, types[i % 2]);
			set16(want.at + 8 + 4 * tags, types[tags == 1 ? i : i / 2]);
			h.csum_start = (uint16_t)(14 + 4 * tags + j);
			expect_header(h, all, OFFLOAD_CSUM | OFFLOAD_TSO4);
			m = chain_of(pool, &want);
			assert_int_equal(offload_read_header(m, &h), 0);
			assert_int_equal(m->l2_len, 14 + 4 * tags);
			rte_pktmbuf_free(m);
		}
	}
}

/* The payload's pieces have nothing to do with the segments. */
static void
test_segments_of_scattered_frames(void **state)
{
	(void)state;
	segment(odd_pool, 0, 0, 5000, 48, 5);
	segment(odd_pool, 1, 12, 5000, 216, BURST_MAX);
	segment(odd_pool, 0, 0, 5000, 97, 3);
	segment_ip(odd_pool, &ip4, 0, 40, 60000, 4096, BURST_MAX); /* headers must be in one */
}

/* What is left for a guest or NIC that takes nothing: all of it. */
static void
test_nothing_taken(void **state)
{
	struct rte_mbuf *m, *out[BURST_MAX];
	int n;

	(void)state;
	put_ethernet(&want, 0, 0x0800);
	put_ipv4(&want, TCP, 20 + 500, NULL, 0);
	put_l4(&want, TCP, 0, 0x10, 500);
	m = chain_of(pool, &want);
	m->ol_flags = RTE_MBUF_F_RX_LRO | RTE_MBUF_F_RX_L4_CKSUM_NONE;
	m->tso_segsz = 100;
	assert_int_equal(offload_accept(m), 0);
	for (n = 0; n < 3; n++) {
		assert_int_equal(offload_segment(m, pool, out, 5), 5);
		rte_pktmbuf_free_bulk(out, 5);
		assert_false(offload_advance(m, 0));
	}
	assert_int_equal(offload_segment(m, pool, out, 3), 3); /* no more than are wanted */
	rte_pktmbuf_free_bulk(out, 3);
	assert_true(offload_advance(m, 5));
	rte_pktmbuf_free(m);
}

/* A tag that a NIC is to insert goes with each segment. */
static void
test_segments_keep_the_tag_for_the_nic(void **state)
{
	struct rte_mbuf *m, *out[BURST_MAX];
	int i;

	(void)state;
	put_ethernet(&want, 0, 0x0800);
	put_ipv4(&want, TCP, 20 + 500, NULL, 0);
	put_l4(&want, TCP, 0, 0x10, 500);
	m = chain_of(pool, &want);
	m->ol_flags = RTE_MBUF_F_RX_LRO | RTE_MBUF_F_RX_L4_CKSUM_NONE;
	m->tso_segsz = 250;
	assert_int_equal(offload_accept(m), 0);
	assert_int_equal(vlan_insert(&m, 1003, true), 0);
	assert_int_equal(offload_segment(m, pool, out, BURST_MAX), 2);
	for (i = 0; i < 2; i++) {
		assert_true(out[i]->ol_flags & RTE_MBUF_F_TX_VLAN);
		assert_int_equal(out[i]->vlan_tci, 1003);
	}
	rte_pktmbuf_free_bulk(out, 2);
	rte_pktmbuf_free(m);
}

static void
test_an_empty_pool_and_no_mss(void **state)
{
	struct rte_mbuf *m, *out[BURST_MAX], *taken[255];
	unsigned int n;

	(void)state;
	put_ethernet(&want, 0, 0x0800);
	put_ipv4(&want, TCP, 20 + 9000, NULL, 0);
	put_l4(&want, TCP, 0, 0x10, 9000);
	m = chain_of(odd_pool, &want);
	m->ol_flags = RTE_MBUF_F_RX_LRO | RTE_MBUF_F_RX_L4_CKSUM_NONE;
	m->tso_segsz = OFFLOAD_MSS_MIN - 1;
	assert_int_equal(offload_accept(m), 0); /* whoever takes it whole may */
	assert_int_equal(offload_segment(m, pool, out, BURST_MAX), -EINVAL);
	m->tso_segsz = 4000; /* two mbufs each */
	n = rte_mempool_avail_count(pool) - 1;
	assert_int_equal(rte_pktmbuf_alloc_bulk(pool, taken, n), 0);
	assert_int_equal(offload_segment(m, pool, out, BURST_MAX), -ENOMEM);
	rte_pktmbuf_free_bulk(taken, 3);
	assert_int_equal(offload_segment(m, pool, out, BURST_MAX), 2); /* of three */
	rte_pktmbuf_free_bulk(out, 2);
	rte_pktmbuf_free_bulk(taken + 3, n - 3);
	rte_pktmbuf_free(m);
}

/* What main.c makes the pool large enough for. */
static void
test_mbufs_of_a_burst_of_segments(void **state)
{
	struct rte_mbuf *m, *out[BURST_MAX];
	unsigned int mss, used, most = 0;
	int n;

	static const uint8_t options[464] = { TCP, 57, 1, 200 };

	(void)state;
	put_ethernet(&want, 2, 0x86dd);
	put_ipv6(&want, 0, options, sizeof(options), 20 + 40 + 65000);
	put_l4(&want, TCP, 40, 0x10, 65000);
	m = chain_of(pool, &want);
	m->ol_flags = RTE_MBUF_F_RX_LRO | RTE_MBUF_F_RX_L4_CKSUM_NONE;
	m->tso_segsz = OFFLOAD_MSS_MIN;
	assert_int_equal(offload_accept(m), 0);
	used = pool->size - rte_mempool_avail_count(pool);
	for (mss = OFFLOAD_MSS_MIN; mss <= UINT16_MAX; mss += mss < 2500 ? 1 : 97) {
		m->tso_segsz = (uint16_t)mss;
		n = offload_segment(m, pool, out, BURST_MAX);
		most = RTE_MAX(most, pool->size - rte_mempool_avail_count(pool) - used);
		rte_pktmbuf_free_bulk(out, (unsigned int)n);
	}
	assert_in_range(most, OFFLOAD_MBUFS_MAX * 8 / 10, OFFLOAD_MBUFS_MAX);
	rte_pktmbuf_free(m);
}

int
main(void)
{
#define T(name) cmocka_unit_test_teardown(name, teardown)
	const struct CMUnitTest tests[] = {
		T(test_plain_headers),
		T(test_after_extension_headers),
		T(test_field_across_mbufs),
		T(test_after_ipv4_options),
		T(test_zero),
		T(test_zero_in_a_tunnel),
		T(test_another_sum_than_that_of_its_protocol),
		T(test_what_cannot_be_finished),
		T(test_segments),
		T(test_segments_after_extension_headers),
		T(test_checked_headers_of_checksums),
		T(test_checked_headers_of_segments),
		T(test_tags_of_either_kind),
		T(test_segments_of_scattered_frames),
		T(test_nothing_taken),
		T(test_segments_keep_the_tag_for_the_nic),
		T(test_an_empty_pool_and_no_mss),
		T(test_mbufs_of_a_burst_of_segments),
	};

	return cmocka_run_group_tests(tests, create, NULL);
}
