/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include "switch/copy.h"

#define LINE RTE_CACHE_LINE_SIZE

/* copy_lines(), in the instructions of the function that it is inlined into. */
static __rte_always_inline void
copy(uint8_t *to, const uint8_t *from, uint32_t len, struct copy_next next)
{
	uint32_t head = (uint32_t)(-(uintptr_t)to % LINE);

	if (head > 0) { /* up to the first whole line, and a part of that twice */
		memcpy(to, from, LINE);
		to += head;
		from += head;
		len -= head;
	}
	for (; len >= LINE; to += LINE, from += LINE, len -= LINE) {
		if (next.at < next.end) {
			prefetch_write(next.at);
			next.at += LINE;
		}
		memcpy(to, from, LINE);
	}
	if (len > 0)
		memcpy(to + len - LINE, from + len - LINE, LINE);
	fetch_all(next);
}

void
copy_on_any_cpu(uint8_t *to, const uint8_t *from, uint32_t len, struct copy_next next)
{
	copy(to, from, len, next);
}

copy_lines_fn *copy_lines = copy_on_any_cpu;

#ifdef RTE_ARCH_X86
/* A line is one load and one store. */
__attribute__((target("avx512f"))) static void
copy_by_avx512(uint8_t *to, const uint8_t *from, uint32_t len, struct copy_next next)
{
	copy(to, from, len, next);
}

RTE_INIT(select_copy)
{
	/*
	 * VBMI2 came with the CPUs that do not slow down for 64-byte registers, Ice Lake and Zen 4.
	 */
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vbmi2"))
		copy_lines = copy_by_avx512;
}
#endif
