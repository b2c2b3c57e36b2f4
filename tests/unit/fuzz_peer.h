/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest of fuzz_rings.c that looks at what it gets. PEER is the includer's.
 */
#ifndef TESTS_UNIT_FUZZ_PEER_H
#define TESTS_UNIT_FUZZ_PEER_H

#include "tests/unit/requests.h"
#include "tests/unit/fuzz_receive.h"

/* Frames that PEER got. */
static struct {
	uint64_t whole, segments, finished; /* of GOOD */
	uint64_t of_evil;		    /* with requests */
} asked;

/* What came from others than GOOD: right headers are all that can be said of it. */
static void
take_others(void)
{
	static struct got g;
	unsigned int ring;

	for (ring = 0; ring < 2u * mem[PEER].pairs; ring += 2) {
		while (take_frame(PEER, ring, &g))
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
		while (take_frame(PEER, ring, &g)) {
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
