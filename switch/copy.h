/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_COPY_H
#define SWITCH_COPY_H

/**
 * @file
 * How the bytes of a frame get from one guest's memory into another's.
 *
 * The instructions that move them are the smaller part of it. Each cache line of the receiver's
 * buffer has been read by another core and has to be taken over before it can be written, and a
 * core has a dozen or so of such requests under way at most. So the lines of the next buffer are
 * asked for one by one while those of this one are copied, which keeps requests under way all the
 * time, and no more of them than there is room for.
 */

#include <stdint.h>

#include <rte_common.h>
#include <rte_memcpy.h>

/**
 * @name The way of a frame through the caches
 * Its descriptor is read and its ends are fetched GATHER_AHEAD frames before it is copied; its
 * receiver's buffer is found FIND_AHEAD frames before, and the lines of that are taken over while
 * the frame before it is copied, FETCH_LINES of them. The CPU follows by itself where lines are
 * written in order; asking it for more of them than it can have under way holds up what it reads.
 * doc/performance.rst has what these are worth.
 */
/**@{*/
#define GATHER_AHEAD 12
#define FIND_AHEAD 4
#define FETCH_LINES 16
/**@}*/

/** Memory that is to be written soon: where the next line to ask for is, and where it ends. */
struct copy_next {
	uint8_t *at;
	uint8_t *end;
};

/**
 * Ask for a cache line to be written. Any thread.
 *
 * @param p in the line
 */
static inline void
prefetch_write(void *p)
{
#ifdef RTE_ARCH_X86
	/* What the compiler makes of __builtin_prefetch(p, 1) without -mprfchw is a read. */
	asm volatile("prefetchw %0" : : "m"(*(uint8_t *)p));
#else
	__builtin_prefetch(p, 1);
#endif
}

/**
 * Ask for all lines of such memory. Any thread.
 *
 * @param next the memory
 */
static inline void
fetch_all(struct copy_next next)
{
	for (; next.at < next.end; next.at += RTE_CACHE_LINE_SIZE)
		prefetch_write(next.at);
}

/**
 * What is worth fetching of a buffer after its first two lines, which are fetched when it is found.
 *
 * @param at the buffer
 * @param len bytes that will be written to it
 * @return it
 */
static inline struct copy_next
rest_of_buffer(uint8_t *at, uint32_t len)
{
	len = RTE_MIN(len, (uint32_t)(FETCH_LINES * RTE_CACHE_LINE_SIZE));
	return (struct copy_next){ at + 2 * RTE_CACHE_LINE_SIZE, at + len };
}

/** Shorter frames are copied by rte_memcpy(), which is inlined. At least a cache line. */
#define COPY_LINES_MIN 256

typedef void copy_lines_fn(uint8_t *to, const uint8_t *from, uint32_t len, struct copy_next next);

/** copy_and_fetch() for COPY_LINES_MIN bytes and more, as is best on this CPU; constant. */
extern copy_lines_fn *copy_lines;

/** The same on any CPU. */
copy_lines_fn copy_on_any_cpu;

/**
 * Copy bytes, and fetch what is to be written next on the way. Any thread.
 *
 * @param to where to
 * @param from where from; a guest may be writing there
 * @param len bytes
 * @param next what is to be written next
 */
static inline void
copy_and_fetch(uint8_t *to, const uint8_t *from, uint32_t len, struct copy_next next)
{
	if (len >= COPY_LINES_MIN) {
		copy_lines(to, from, len, next);
		return;
	}
	fetch_all(next);
	rte_memcpy(to, from, len);
}

#endif /* SWITCH_COPY_H */
