/* SPDX-License-Identifier: BSD-3-Clause */
/* Checksums that a kernel leaves to a card: which are completed, and which are not touched. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_mbuf.h>

#include "switch/received.h"
#include "unit.h"

#define DATA 99

static struct rte_mempool *pool;
static struct rte_mbuf *m;
static uint32_t ip_off, l4_off; /* of the frame that is being made */

static int
create(void **state)
{
	if (start_eal(state) != 0)
		return -1;
	pool = rte_pktmbuf_pool_create("p", 15, 0, 0, 2048, 0);
	return pool == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
	(void)state;
	rte_pktmbuf_free(m);
	m = NULL;
	return rte_mempool_avail_count(pool) != pool->size;
}

static uint8_t *
at(uint32_t off)
{
	return rte_pktmbuf_mtod_offset(m, uint8_t *, off);
}

static void
put16(uint32_t off, uint16_t value)
{
	at(off)[0] = (uint8_t)(value >> 8);
	at(off)[1] = (uint8_t)value;
}

static uint16_t
get16(uint32_t off)
{
	return (uint16_t)(at(off)[0] << 8 | at(off)[1]);
}

/* RFC 1071, by bytes: another way than the one that is tested. */
static uint16_t
ones(uint32_t sum, const uint8_t *data, uint32_t len)
{
	uint32_t i;

	for (i = 0; i < len; i++)
		sum += (i & 1) ? data[i] : (uint32_t)data[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* A frame of random bytes with its headers; extension: bytes of a destination options header. */
static void
make(bool v6, unsigned int tags, uint8_t protocol, uint32_t hdr_len, uint32_t extension)
{
	uint32_t i, len = hdr_len + DATA;

	rte_pktmbuf_free(m);
	m = rte_pktmbuf_alloc(pool);
	ip_off = 14 + 4 * tags;
	l4_off = ip_off + (v6 ? 40 : 20) + extension;
	rte_pktmbuf_append(m, (uint16_t)(l4_off + len));
	for (i = 0; i < m->data_len; i++)
		at(0)[i] = (uint8_t)(i * i + 7 * i);
	for (i = 0; i < tags; i++)
		put16(12 + 4 * i, i + 1 < tags ? 0x88a8 : 0x8100);
	put16(ip_off - 2, v6 ? 0x86dd : 0x0800);
	if (v6) {
		put16(ip_off + 4, (uint16_t)(extension + len));
		at(ip_off)[6] = extension > 0 ? IPPROTO_DSTOPTS : protocol;
		if (extension > 0) {
			at(ip_off + 40)[0] = protocol;
			at(ip_off + 40)[1] = (uint8_t)(extension / 8 - 1);
		}
	} else {
		at(ip_off)[0] = 0x45;
		put16(ip_off + 2, (uint16_t)(20 + len));
		put16(ip_off + 6, 0x4000);
		at(ip_off)[9] = protocol;
	}
}

static uint16_t
pseudo(bool v6, uint8_t protocol, uint32_t hdr_len)
{
	return ones(protocol + hdr_len + DATA, at(ip_off + (v6 ? 8 : 12)), v6 ? 32 : 8);
}

static void
test_what_is_unfinished_is_completed(void **state)
{
	unsigned int tags, v6, tcp, extension;

	(void)state;
	for (v6 = 0; v6 < 2; v6++)
	for (tags = 0; tags < 3; tags++)
	for (tcp = 0; tcp < 2; tcp++)
	for (extension = 0; extension <= 24 * v6; extension += 8) {
		uint8_t protocol = tcp ? IPPROTO_TCP : IPPROTO_UDP;
		uint32_t hdr_len = tcp ? 20 : 8, field;
		uint16_t sum;

		make(v6, tags, protocol, hdr_len, extension);
		field = l4_off + (tcp ? 16 : 6);
		sum = pseudo(v6, protocol, hdr_len);
		put16(field, sum);
		memset(rte_pktmbuf_append(m, 5), 0xee, 5); /* padding is none of it */
		assert_int_equal(received_finish(m), 0);
		assert_int_not_equal(get16(field), sum);
		assert_int_equal(ones(sum, at(l4_off), hdr_len + DATA), 0xffff);
		/* and what is finished stays */
		sum = get16(field);
		assert_int_equal(received_finish(m), 0);
		assert_int_equal(get16(field), sum);
	}
}

static void
test_what_is_right_by_chance_stays(void **state)
{
	uint16_t sum;

	(void)state;
	make(false, 1, IPPROTO_UDP, 8, 0);
	sum = pseudo(false, IPPROTO_UDP, 8);
	put16(l4_off + 6, sum);
	put16(l4_off + 8, 0);
	/* two bytes of data that make it right */
	put16(l4_off + 8, (uint16_t)~ones(sum, at(l4_off), 8 + DATA));
	assert_int_equal(ones(sum, at(l4_off), 8 + DATA), 0xffff);
	assert_int_equal(received_finish(m), 0);
	assert_int_equal(get16(l4_off + 6), sum);
}

static void
test_a_sum_of_zero_is_not_sent_by_udp(void **state)
{
	uint16_t sum;

	(void)state;
	make(false, 0, IPPROTO_UDP, 8, 0);
	sum = pseudo(false, IPPROTO_UDP, 8);
	put16(l4_off + 6, 0);
	put16(l4_off + 8, 0);
	put16(l4_off + 8, (uint16_t)~ones(sum, at(l4_off), 8 + DATA));
	put16(l4_off + 6, sum); /* unfinished, and what it becomes is 0 */
	assert_int_equal(received_finish(m), 0);
	assert_int_equal(get16(l4_off + 6), 0xffff);
}

static void
test_what_is_wrong_or_none_of_ours_stays(void **state)
{
	uint16_t sum;

	(void)state;
	make(false, 0, IPPROTO_UDP, 8, 0);
	sum = pseudo(false, IPPROTO_UDP, 8);
	put16(l4_off + 6, (uint16_t)(sum + 1)); /* a wrong one */
	assert_int_equal(received_finish(m), 0);
	assert_int_equal(get16(l4_off + 6), (uint16_t)(sum + 1));
	put16(l4_off + 6, 0); /* none at all, RFC 768 */
	assert_int_equal(received_finish(m), 0);
	assert_int_equal(get16(l4_off + 6), 0);
	put16(l4_off + 6, sum);
	put16(ip_off + 6, 0x2000); /* a fragment */
	assert_int_equal(received_finish(m), 0);
	assert_int_equal(get16(l4_off + 6), sum);
	put16(ip_off + 6, 0x4000);
	at(ip_off)[0] = 0x44; /* a header that cannot be */
	assert_int_equal(received_finish(m), 0);
	assert_int_equal(get16(l4_off + 6), sum);
	make(false, 0, IPPROTO_ICMP, 8, 0);
	put16(l4_off + 2, pseudo(false, IPPROTO_ICMP, 8));
	assert_int_equal(received_finish(m), 0);
	assert_int_equal(get16(l4_off + 2), pseudo(false, IPPROTO_ICMP, 8));
}

static void
test_a_frame_without_its_end(void **state)
{
	uint16_t len;

	(void)state;
	for (len = 1; len < 14 + 20 + 20 + DATA; len++) {
		make(false, 0, IPPROTO_TCP, 20, 0);
		put16(l4_off + 16, pseudo(false, IPPROTO_TCP, 20));
		rte_pktmbuf_trim(m, (uint16_t)(m->data_len - len));
		if (len >= 14) /* without an IP header nothing is known */
			assert_int_equal(received_finish(m), len < 34 ? 0 : -EBADMSG);
		make(true, 1, IPPROTO_TCP, 20, 8);
		rte_pktmbuf_trim(m, (uint16_t)(m->data_len - len));
		if (m->data_len >= 14)
			assert_int_equal(received_finish(m), m->data_len < 58 ? 0 : -EBADMSG);
	}
}

static void
test_several_segments(void **state)
{
	struct rte_mbuf *rest = rte_pktmbuf_alloc(pool);
	uint32_t head;
	uint16_t sum, all;

	(void)state;
	make(false, 0, IPPROTO_TCP, 20, 0);
	head = l4_off + 20 + 33; /* an odd number of bytes of the segment */
	sum = pseudo(false, IPPROTO_TCP, 20);
	put16(l4_off + 16, sum);
	all = m->data_len;
	memcpy(rte_pktmbuf_append(rest, (uint16_t)(all - head)), at(head), all - head);
	m->data_len = m->pkt_len = (uint16_t)head;
	assert_int_equal(rte_pktmbuf_chain(m, rest), 0);
	assert_int_equal(received_finish(m), 0);
	assert_int_equal(rte_pktmbuf_linearize(m), 0);
	assert_int_equal(ones(sum, at(l4_off), 20 + DATA), 0xffff);
}

static void
test_sctp(void **state)
{
	uint32_t crc = UINT32_MAX, i, k;
	const uint8_t *p;

	(void)state;
	make(false, 1, IPPROTO_SCTP, 12, 0);
	memset(at(l4_off + 8), 0, 4);
	for (i = 0; i < 12 + DATA; i++) { /* RFC 9260, appendix A, by bits */
		crc ^= at(l4_off)[i];
		for (k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	crc = ~crc;
	assert_int_equal(received_finish(m), 0);
	p = at(l4_off + 8);
	assert_int_equal(p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24, crc);
}

int
main(void)
{
#define T(name) cmocka_unit_test_teardown(name, teardown)
	const struct CMUnitTest tests[] = {
		T(test_what_is_unfinished_is_completed),
		T(test_what_is_right_by_chance_stays),
		T(test_a_sum_of_zero_is_not_sent_by_udp),
		T(test_what_is_wrong_or_none_of_ours_stays),
		T(test_a_frame_without_its_end),
		T(test_several_segments),
		T(test_sctp),
	};

	return cmocka_run_group_tests(tests, create, NULL);
}
