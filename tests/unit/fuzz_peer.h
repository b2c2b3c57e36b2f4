/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest of fuzz_rings.c that looks at what it gets. PEER is the includer's.
 */
#ifndef TESTS_UNIT_FUZZ_PEER_H
#define TESTS_UNIT_FUZZ_PEER_H

#include "tests/unit/requests.h"
#include "tests/unit/fuzz_memory.h"

/* Frames that PEER got. */
static struct {
	uint64_t whole, segments, finished; /* of GOOD */
	uint64_t of_evil;		    /* with requests */
} asked;

static const uint8_t peer_mac[6] = { 2, 0, 0, 0, 0, PEER };

/* Where PEER's buffer of this number is. */
static uint32_t
peer_buffer(unsigned int ring, uint16_t id)
{
	uint32_t step = mem[PEER].buffer > BUFFER ? 2048 : BUFFER;

	return BUFFERS_OFF + ring / 2 * BUFFERS_RING + id * step % BUFFERS_RING;
}

/* PEER has room for n buffers in each ring. */
static void
make_room(uint32_t n)
{
	struct memory *p = &mem[PEER];
	unsigned int ring;

	for (ring = 0; ring < 2u * p->pairs; ring += 2) {
		struct driver_ring *r = &p->ring[ring];

		while (r->in_use < n)
			check(offer(p, ring, peer_buffer(ring, (r->next & PACKED_INDEX) % r->size),
				p->buffer, 1, false), "a ring of PEER is too small");
	}
}

/*
 * The next frame in a ring of PEER, if there is one: in the buffers that are next, as many as its
 * header says, and with a request that PEER negotiated.
 */
static bool
take_frame(unsigned int ring, struct got *g)
{
	struct memory *p = &mem[PEER];
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
		buffer = host(p, peer_buffer(ring, id));
		memcpy(&header, buffer, i == 0 ? sizeof(header) : 0);
		g->header = header.hdr;
		g->num_buffers = header.num_buffers;
		memcpy(g->f + g->len, buffer + skip, len - skip);
		g->len += len - skip;
	}
	check(g->num_buffers == 1 || p->features & BIT(VIRTIO_NET_F_MRG_RXBUF),
		"num_buffers is not 1");
	check(g->len >= 14 && (g->f[0] & 1 || memcmp(g->f, peer_mac, 6) == 0),
		"a frame for somebody else, or no frame");
	check(is_allowed(g, p->features), "a header that was not negotiated");
	return true;
}

/* What came from others than GOOD: right headers are all that can be said of it. */
static void
take_others(void)
{
	static struct got g;
	unsigned int ring;

	for (ring = 0; ring < 2u * mem[PEER].pairs; ring += 2) {
		while (take_frame(ring, &g))
			asked.of_evil += g.header.flags != 0;
	}
}

/* PEER got both frames, whole or in parts, each in one ring, the first one first. */
static void
expect(const struct made *made, bool may_finish)
{
	static struct got g;
	uint64_t features = mem[PEER].features;
	unsigned int in[2] = { RINGS, RINGS }, ring, i;
	uint32_t n[2] = { 0 };

	for (ring = 0; ring < 2u * mem[PEER].pairs; ring += 2) {
		while (take_frame(ring, &g)) {
			i = n[0] == made_count(&made[0], features) ||
				!is_right(&g, &made[0], n[0], features, may_finish);
			check(is_right(&g, &made[i], n[i], features, may_finish) &&
				n[i] < made_count(&made[i], features),
				"a frame between the others was altered, or is one too many");
			check(in[i] == RINGS || in[i] == ring, "one flow came in two rings");
			check(i == 1 || in[1] != ring, "a frame came after a later one");
			in[i] = ring;
			n[i]++;
			asked.whole += g.header.flags != 0;
			asked.segments += is_tso(made[i].kind) && g.header.flags == 0;
			asked.finished += !is_tso(made[i].kind) && made[i].kind != PLAIN &&
				g.header.flags == 0;
		}
	}
	for (i = 0; i < 2; i++)
		check(n[i] == made_count(&made[i], features),
			"a frame between the others was lost");
	check(made[0].kind != made[1].kind || in[0] == in[1], "one flow came in two rings");
}

/* Buffers that PEER needs for frames, if all come in one ring. */
static uint32_t
room_for(const struct made *made)
{
	const struct memory *p = &mem[PEER];
	uint32_t n = 0, i;

	for (i = 0; i < 2; i++) {
		uint32_t count = made_count(&made[i], p->features), each = made[i].len;

		if (count > 1)
			each = made[i].headers + made[i].header.gso_size;
		n += count * ((each + VIRTIO_NET_HDR_LEN + p->buffer - 1) / p->buffer);
	}
	return n;
}

#endif /* TESTS_UNIT_FUZZ_PEER_H */
