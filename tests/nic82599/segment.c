/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include "segment.h"

/* Offsets: RFC 791, RFC 8200, RFC 9293. */
#define IPV4_LENGTH 2
#define IPV4_ID 4
#define IPV4_CHECKSUM 10
#define IPV6_LENGTH 4
#define IPV6_HEADER 40
#define TCP_SEQUENCE 4
#define TCP_FLAGS 12 /* and 4 bits of the header's length */
#define TCP_CHECKSUM 16

static uint32_t
get(const uint8_t *at, unsigned int bytes)
{
	uint32_t value = 0;

	while (bytes-- > 0)
		value = value << 8 | *at++;
	return value;
}

static void
put(uint8_t *at, unsigned int bytes, uint32_t value)
{
	for (; bytes > 0; value >>= 8)
		at[--bytes] = (uint8_t)value;
}

uint32_t
checksum_add(uint32_t sum, const uint8_t *data, size_t len)
{
	for (; len > 1; data += 2, len -= 2) {
		sum += get(data, 2);
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return len > 0 ? sum + ((uint32_t)data[0] << 8) : sum;
}

void
checksum_put(uint32_t sum, uint8_t *field)
{
	sum = (sum & 0xffff) + (sum >> 16);
	put(field, 2, ~(sum + (sum >> 16)));
}

/* 7.2.4.7: the IPv4 identification counts up from segment to segment, and wraps around. */
static void
write_ip(const struct segmentation *s, uint8_t *ip, size_t payload, size_t i)
{
	size_t len = s->ip + s->tcp + payload;

	if (!s->is_ipv4) {
		put(ip + IPV6_LENGTH, 2, (uint32_t)(len - IPV6_HEADER));
		return;
	}
	put(ip + IPV4_LENGTH, 2, (uint32_t)len);
	put(ip + IPV4_ID, 2, get(ip + IPV4_ID, 2) + (uint32_t)i);
	put(ip + IPV4_CHECKSUM, 2, 0);
	checksum_put(checksum_add(0, ip, s->ip), ip + IPV4_CHECKSUM);
}

static void
write_tcp(const struct segmentation *s, uint8_t *tcp, size_t payload, size_t i, bool is_last)
{
	uint32_t flags = is_last ? s->last_flags : i == 0 ? s->first_flags : s->middle_flags;

	put(tcp + TCP_SEQUENCE, 4, get(tcp + TCP_SEQUENCE, 4) + (uint32_t)(i * s->mss));
	put(tcp + TCP_FLAGS, 2, get(tcp + TCP_FLAGS, 2) & (0xf000 | flags));
	/* The sum of the pseudo-header in the field lacks the length of the segment. */
	checksum_put(checksum_add((uint32_t)(s->tcp + payload), tcp, s->tcp + payload),
		tcp + TCP_CHECKSUM);
}

size_t
segment(const struct segmentation *s, const uint8_t *frame, size_t len, size_t i, uint8_t *out)
{
	size_t headers = s->mac + s->ip + s->tcp, from = headers + i * s->mss;
	size_t payload = len - from < s->mss ? len - from : s->mss;

	if (i > 0 && from >= len)
		return 0;
	memcpy(out, frame, headers);
	memcpy(out + headers, frame + from, payload);
	write_ip(s, out + s->mac, payload, i);
	write_tcp(s, out + s->mac + s->ip, payload, i, from + payload == len);
	return headers + payload;
}
