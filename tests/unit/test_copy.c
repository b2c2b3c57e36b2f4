/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>

#include "switch/copy.h"
#include "unit.h"

#define LEN_MAX 2200
#define MARGIN 64

static uint8_t *from, *to, *next;

static int
allocate(void **state)
{
	unsigned int i;

	(void)state;
	from = aligned_alloc(RTE_CACHE_LINE_SIZE, 4096);
	to = aligned_alloc(RTE_CACHE_LINE_SIZE, 4096);
	next = aligned_alloc(RTE_CACHE_LINE_SIZE, 4096);
	for (i = 0; from != NULL && i < 4096; i++)
		from[i] = (uint8_t)(i * 7 + i / 256);
	return from == NULL || to == NULL || next == NULL;
}

static int
release(void **state)
{
	(void)state;
	free(from);
	free(to);
	free(next);
	return 0;
}

/* Exactly these bytes are written, and none of what is only fetched. */
static void
check(uint32_t len, unsigned int at, unsigned int source, uint32_t ahead)
{
	struct copy_next then = { next + 3, next + 3 + ahead };
	unsigned int i;

	memset(to, 0xa5, 4096);
	memset(next, 0x5a, 4096);
	copy_and_fetch(to + MARGIN + at, from + source, len, then);
	assert_memory_equal(to + MARGIN + at, from + source, len);
	for (i = 0; i < MARGIN + at; i++)
		assert_int_equal(to[i], 0xa5);
	for (i = MARGIN + at + len; i < MARGIN + at + len + MARGIN; i++)
		assert_int_equal(to[i], 0xa5);
	for (i = 0; i < 4096; i++)
		assert_int_equal(next[i], 0x5a);
}

static void
check_all(void)
{
	static const unsigned int offset[] = { 0, 1, 12, 31, 52, 63 };
	unsigned int i, k;
	uint32_t len;

	for (len = 14; len < LEN_MAX; len += len < 600 ? 1 : 37)
		for (i = 0; i < RTE_DIM(offset); i++)
			for (k = 0; k < RTE_DIM(offset); k++)
				check(len, offset[i], offset[k],
					len % 5 == 0 ? 0 : (len * 3) % LEN_MAX);
}

static void
test_as_this_cpu_does(void **state)
{
	(void)state;
	check_all();
}

static void
test_as_any_cpu_does(void **state)
{
	copy_lines_fn *best = copy_lines;

	(void)state;
	copy_lines = copy_on_any_cpu;
	check_all();
	copy_lines = best;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_this_cpu_does),
		cmocka_unit_test(test_as_any_cpu_does),
	};

	return cmocka_run_group_tests(tests, allocate, release);
}
