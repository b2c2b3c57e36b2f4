/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guests of fuzz_memory.h that receive, and keep to the rules.
 */
#ifndef TESTS_UNIT_FUZZ_RECEIVE_H
#define TESTS_UNIT_FUZZ_RECEIVE_H

#include "tests/unit/requests.h"
#include "tests/unit/fuzz_memory.h"

/* Where a guest's receive buffer of this number is. */
static uint32_t
receive_buffer(unsigned int id, unsigned int ring, uint16_t number)
{
	uint32_t step = mem[id].buffer > BUFFER ? 2048 : BUFFER;

	return BUFFERS_OFF + ring / 2 * BUFFERS_RING + number * step % BUFFERS_RING;
}

/* A guest has room for n buffers in each ring. */
static void
make_room(unsigned int id, uint32_t n)
{
	struct memory *p = &mem[id];
	unsigned int ring;

	for (ring = 0; ring < 2u * p->pairs; ring += 2) {
		struct driver_ring *r = &p->ring[ring];

		while (r->in_use < n)
			check(offer(p, ring,
				receive_buffer(id, ring, (r->next & PACKED_INDEX) % r->size),
				p->buffer, 1, false), "a receive ring is too small");
	}
}

/*
 * The next frame in a ring of a guest, if there is one: in the buffers that are next, as many as
 * its header says, and with a request that the guest negotiated.
 */
static bool
take_frame(unsigned int to, unsigned int ring, struct got *g)
{
	const uint8_t mac[6] = { 2, 0, 0, 0, 0, (uint8_t)to };
	struct memory *p = &mem[to];
	struct virtio_net_hdr_mrg_rxbuf header;
	uint32_t len, skip = VIRTIO_NET_HDR_LEN;
	uint16_t id, i;

	g->len = 0;
	for (i = 0; i == 0 || i < g->num_buffers; i++, skip = 0) {
		struct driver_ring *r = &p->ring[ring];
		uint16_t at = (r->seen & PACKED_INDEX) % r->size;
		const uint8_t *buffer;

		check(i == 0 || len == p->buffer, "a buffer between others is not full");
		if (!driver_take(r, &id, &len)) {
			check(i == 0, "num_buffers is more than there are");
			return false;
		}
		check(id == at, "a buffer of the receiver was used out of turn");
		check(len > skip && len <= p->buffer, "a used length is wrong");
		buffer = host(p, receive_buffer(to, ring, id));
		memcpy(&header, buffer, i == 0 ? sizeof(header) : 0);
		g->header = header.hdr;
		g->num_buffers = header.num_buffers;
		memcpy(g->f + g->len, buffer + skip, len - skip);
		g->len += len - skip;
	}
	check(g->num_buffers == 1 || p->features & BIT(VIRTIO_NET_F_MRG_RXBUF),
		"num_buffers is not 1");
	check(g->len >= 14 && (g->f[0] & 1 || memcmp(g->f, mac, 6) == 0),
		"a frame for somebody else, or no frame");
	check(is_allowed(g, p->features), "a header that was not negotiated");
	return true;
}

/* What such a guest may get is written by another, with its header. Returns how many bytes. */
static uint32_t
write_frame(struct memory *m, uint32_t off, const struct made *frame)
{
	const struct virtio_net_hdr_mrg_rxbuf header = { .hdr = frame->header };

	poke(m, off, &header, VIRTIO_NET_HDR_LEN);
	poke(m, off + (uint32_t)VIRTIO_NET_HDR_LEN, frame->f, frame->len);
	return (uint32_t)VIRTIO_NET_HDR_LEN + frame->len;
}

#endif /* TESTS_UNIT_FUZZ_RECEIVE_H */
