/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guests made of plain memory, for fuzz_rings.c and fuzz_flows.c: each in two regions of their own
 * from malloc(), so that AddressSanitizer sees any step beside them. librte_vhost's calls are
 * wrapped. NB, and EVIL or MAY_BE_UNSEEN(), are the includer's.
 */
#ifndef TESTS_UNIT_FUZZ_MEMORY_H
#define TESTS_UNIT_FUZZ_MEMORY_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_vhost.h>

#include "tests/unit/driver.h"

#define PAIRS 4	    /* queue pairs of a guest at most */
#define RINGS (2 * PAIRS)
#define RING 64	    /* entries, of GOOD and PEER */
#define INDIRECT 64 /* entries of a table */
#define TABLES_RING 16
#define TABLES (RINGS * TABLES_RING)
#define BUFFER 512u
#define BUFFERS_RING 32768u /* bytes of PEER's receive buffers of one ring */
#define GUEST_BASE UINT64_C(0x40000000)
#define TABLES_OFF (RINGS * DRIVER_RING_BYTES)
#define BUFFERS_OFF (TABLES_OFF + TABLES * INDIRECT * 16u)
/* Virtqueues, tables of indirect descriptors, buffers; and buffers, which follow in the guest's
 * addresses and not in ours. */
#define LOW_SIZE (BUFFERS_OFF + PAIRS * BUFFERS_RING)
#ifndef HIGH_SIZE
#define HIGH_SIZE 32768u
#endif
#ifndef MAY_BE_UNSEEN /* used elements of a guest that a message is for */
#define MAY_BE_UNSEEN(id) ((id) == EVIL)
#endif

struct memory {
	struct driver_ring ring[RINGS];
	uint16_t pairs, buffer; /* bytes of each receive buffer, of PEER */
	uint8_t *low, *high;
	uint16_t last_avail[RINGS], last_used[RINGS]; /* what librte_vhost would remember */
	uint64_t features;
};

static struct memory mem[NB];
static uint64_t rng;

static uint64_t
next_random(uint64_t *state)
{
	*state ^= *state << 13; /* xorshift64: Marsaglia, Journal of Statistical Software 8 (14) */
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint32_t
below(uint32_t n)
{
	return (uint32_t)(next_random(&rng) >> 11) % n;
}

static void
check(bool right, const char *what)
{
	if (right)
		return;
	fprintf(stderr, "wrong: %s\n", what);
	abort();
}

/* librte_vhost, as far as vhost/vring.c asks it. */
int __wrap_rte_vhost_get_vring_base(int vid, uint16_t vring, uint16_t *avail, uint16_t *used);
int __wrap_rte_vhost_set_vring_base(int vid, uint16_t vring, uint16_t avail, uint16_t used);
int __wrap_rte_vhost_get_vhost_vring(int vid, uint16_t vring, struct rte_vhost_vring *v);
int __wrap_rte_vhost_get_mem_table(int vid, struct rte_vhost_memory **m);
int __wrap_rte_vhost_get_negotiated_features(int vid, uint64_t *features);
uint16_t __wrap_rte_vhost_get_vring_num(int vid);
void __wrap_rte_vhost_log_write(int vid, uint64_t addr, uint64_t len);

void
__wrap_rte_vhost_log_write(int vid, uint64_t addr, uint64_t len)
{
	check(addr >= GUEST_BASE && addr + len <= GUEST_BASE + LOW_SIZE + HIGH_SIZE,
		"memory was logged that is not there");
	(void)vid;
}

int
__wrap_rte_vhost_get_vring_base(int vid, uint16_t vring, uint16_t *avail, uint16_t *used)
{
	*avail = mem[vid].last_avail[vring];
	*used = mem[vid].last_used[vring];
	return 0;
}

int
__wrap_rte_vhost_set_vring_base(int vid, uint16_t vring, uint16_t avail, uint16_t used)
{
	check(MAY_BE_UNSEEN(vid) || mem[vid].ring[vring].seen == used,
		"used elements were handed over unseen");
	mem[vid].last_avail[vring] = avail;
	mem[vid].last_used[vring] = used;
	return 0;
}

int
__wrap_rte_vhost_get_vhost_vring(int vid, uint16_t vring, struct rte_vhost_vring *v)
{
	const struct driver_ring *r = &mem[vid].ring[vring];

	*v = (struct rte_vhost_vring){ .desc = r->desc, .avail = r->avail, .used = r->used,
		.callfd = -1, .kickfd = -1, .size = r->size };
	return 0;
}

int
__wrap_rte_vhost_get_mem_table(int vid, struct rte_vhost_memory **m)
{
	*m = calloc(1, sizeof(**m) + 2 * sizeof((*m)->regions[0]));
	(*m)->nregions = 2;
	(*m)->regions[0].guest_phys_addr = GUEST_BASE;
	(*m)->regions[0].host_user_addr = (uintptr_t)mem[vid].low;
	(*m)->regions[0].size = LOW_SIZE;
	(*m)->regions[1].guest_phys_addr = GUEST_BASE + LOW_SIZE;
	(*m)->regions[1].host_user_addr = (uintptr_t)mem[vid].high;
	(*m)->regions[1].size = HIGH_SIZE;
	return 0;
}

int
__wrap_rte_vhost_get_negotiated_features(int vid, uint64_t *features)
{
	*features = mem[vid].features;
	return 0;
}

uint16_t
__wrap_rte_vhost_get_vring_num(int vid)
{
	return (uint16_t)(2 * mem[vid].pairs);
}

static uint8_t *
host(struct memory *m, uint32_t off)
{
	return off < LOW_SIZE ? m->low + off : m->high + (off - LOW_SIZE);
}

/* Copy into a guest's memory, and out of it. */
static void
poke(struct memory *m, uint32_t off, const void *from, uint32_t len)
{
	uint32_t low = off < LOW_SIZE ? LOW_SIZE - off : 0;

	low = low < len ? low : len;
	memcpy(host(m, off), from, low);
	if (low < len)
		memcpy(host(m, off + low), (const uint8_t *)from + low, len - low);
}

/* A size of virtqueues: any that there can be. */
static uint16_t
any_size(bool packed)
{
	return (uint16_t)(packed ? 1 + below(DRIVER_RING_MAX) : 1u << below(11));
}

/* Virtqueues as after the guest's reset or, as often, in the middle of their numbers. */
static void
reset_rings(unsigned int id, uint64_t features, uint16_t size)
{
	struct memory *m = &mem[id];
	bool packed = features & RTE_BIT64(VIRTIO_F_RING_PACKED);
	unsigned int i;

	m->features = features | RTE_BIT64(VIRTIO_F_VERSION_1);
	m->pairs = (uint16_t)(1 + below(PAIRS));
	for (i = 0; i < 2u * m->pairs; i++) {
		struct driver_ring *r = &m->ring[i];
		uint16_t n = size > 0 ? size : any_size(packed), at = 0;

		driver_reset(r, m->low + i * DRIVER_RING_BYTES, packed, n);
		if (below(4) == 0)
			at = (uint16_t)below(n);
		else if (below(2)) /* the end is near */
			at = (uint16_t)(n - 1 - below(RTE_MIN(n, 8u)));
		if (below(2))
			driver_start_at(r, packed ? (uint16_t)(at | below(2) << 15)
				: (uint16_t)(UINT16_MAX - n + 1 + at));
		m->last_avail[i] = m->last_used[i] = r->next;
	}
}

static uint64_t
address(uint32_t off)
{
	return GUEST_BASE + off;
}

/* Offer a buffer of len bytes in so many parts. Returns false when the ring has no room. */
static bool
offer(struct memory *m, unsigned int ring, uint32_t off, uint32_t len, unsigned int parts,
	bool indirect)
{
	uint32_t slot = ring * TABLES_RING + m->ring[ring].next % TABLES_RING;
	uint32_t table = TABLES_OFF + slot * INDIRECT * 16;

	return driver_offer(&m->ring[ring], address(off), len, (uint16_t)parts, ring % 2 == 0,
		indirect ? host(m, table) : NULL, address(table));
}

#endif /* TESTS_UNIT_FUZZ_MEMORY_H */
