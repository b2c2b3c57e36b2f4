/* SPDX-License-Identifier: BSD-3-Clause */
/* TCP segmentation of the model of the 82599 (tests/nic82599/segment.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/nic82599/segment.h"

#define PAYLOAD 5000
#define FIN 0x001u
#define PSH 0x008u
#define ACK 0x010u
#define ECE 0x040u
#define CWR 0x080u
#define NS 0x100u

static const struct segmentation ipv4 = { 18, 24, 32, 1448, true, 0xff6, 0xff6, 0xf7f };
static const struct segmentation ipv6 = { 14, 48, 20, 999, false, 0xff6, 0xf76, 0xf7f };

static uint8_t frame[100 + PAYLOAD], out[100 + PAYLOAD];

/* One's complement sum, the plain way: 0 means that a checksum is right. */
static uint16_t
sum(uint64_t start, const uint8_t *data, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		start += (uint64_t)data[i] << (i % 2 ? 0 : 8);
	while (start >> 16)
		start = (start & 0xffff) + (start >> 16);
	return (uint16_t)~start;
}

static uint32_t
number(const uint8_t *at, unsigned int bytes)
{
	return bytes == 0 ? 0 : number(at, bytes - 1) << 8 | at[bytes - 1];
}

/* The sum of addresses and protocol. */
static uint64_t
pseudo(const struct segmentation *s, const uint8_t *ip)
{
	return (uint16_t)~sum(6, ip + (s->is_ipv4 ? 12 : 8), s->is_ipv4 ? 8 : 32);
}

static size_t
make(const struct segmentation *s, uint16_t flags, size_t payload)
{
	uint8_t *ip = frame + s->mac, *tcp = ip + s->ip;
	size_t i, len = s->mac + s->ip + s->tcp + payload;

	for (i = 0; i < len; i++)
		frame[i] = (uint8_t)(i * 7 + i / 256);
	memcpy(ip + 4, "\xff\xfe", 2); /* of IPv4 the identification */
	memcpy(tcp + 4, "\xff\xff\xff\x00", 4);
	tcp[12] = (uint8_t)(s->tcp / 4 << 4 | flags >> 8);
	tcp[13] = (uint8_t)flags;
	i = pseudo(s, ip);
	tcp[16] = (uint8_t)(i >> 8);
	tcp[17] = (uint8_t)i;
	return len;
}

static void
check_segment(const struct segmentation *s, size_t i, size_t n, size_t total, uint16_t flags)
{
	size_t headers = s->mac + s->ip + s->tcp, at = i * s->mss;
	size_t payload = total - at < s->mss ? total - at : s->mss;
	const uint8_t *ip = out + s->mac, *tcp = ip + s->ip, *was = frame + s->mac;

	assert_int_equal(n, headers + payload);
	assert_memory_equal(out, frame, s->mac);
	assert_memory_equal(out + headers, frame + headers + at, payload);
	if (s->is_ipv4) {
		assert_int_equal(number(ip + 2, 2), s->ip + s->tcp + payload);
		assert_int_equal(number(ip + 4, 2), (0xfffe + i) & 0xffff);
		assert_int_equal(sum(0, ip, s->ip), 0);
		assert_memory_equal(ip + 12, was + 12, s->ip - 12);
	} else {
		assert_int_equal(number(ip + 4, 2), s->ip - 40 + s->tcp + payload);
		assert_memory_equal(ip + 6, was + 6, s->ip - 6);
	}
	assert_int_equal(number(tcp + 4, 4), 0xffffff00 + (uint32_t)at);
	assert_int_equal(number(tcp + 12, 2), s->tcp / 4 << 12 | flags);
	assert_int_equal(sum(pseudo(s, ip) + s->tcp + payload, tcp, s->tcp + payload), 0);
	assert_memory_equal(tcp + 18, was + s->ip + 18, s->tcp - 18);
}

static void
check(const struct segmentation *s, size_t payload)
{
	size_t len = make(s, FIN | PSH | ACK | ECE | CWR | NS, payload), i, n;

	for (i = 0; (n = segment(s, frame, len, i, out)) > 0; i++) {
		bool is_last = (i + 1) * s->mss >= payload;
		uint16_t flags = ACK | ECE | NS;

		if (is_last)
			flags |= FIN | PSH;
		else if (i == 0 || s->is_ipv4) /* whose mask lets it pass */
			flags |= CWR;
		check_segment(s, i, n, payload, flags);
	}
	assert_int_equal(i, payload == 0 ? 1 : (payload + s->mss - 1) / s->mss);
}

static void
test_segments(void **state)
{
	static const size_t payloads[] = { 0, 1, 998, 999, 1000, 1448, 1449, 1998, 2896, 2897,
		PAYLOAD - 1, PAYLOAD };
	unsigned int i;

	(void)state;
	for (i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
		check(&ipv4, payloads[i]);
		check(&ipv6, payloads[i]);
	}
}

static void
test_checksum_of_everything(void **state)
{
	uint8_t field[2];
	size_t len;

	(void)state;
	memset(frame, 0xff, sizeof(frame));
	for (len = 0; len < 600; len++) {
		checksum_put(checksum_add(0xffff, frame, len), field);
		assert_int_equal(number(field, 2), sum(0xffff, frame, len));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_segments),
		cmocka_unit_test(test_checksum_of_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
