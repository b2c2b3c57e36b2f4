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
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_memcpy.h>

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
	for (; next.at < next.end; next.at += RTE_CACHE_LINE_SIZE)
		prefetch_write(next.at);
	rte_memcpy(to, from, len);
}

#endif /* SWITCH_COPY_H */
