/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * What the copying alone costs that "drain" makes a switch do: the frames of as many guests, in as
 * much memory, written and compared by one core and copied by another, with no ring, no lookup and
 * no switch. Nothing that copies once can be faster on the machine, whatever it is built like.
 *
 *     build/bench/copy GUESTS-CPU SWITCH-CPU GUESTS FRAME-BYTES
 */

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <rte_pause.h>
#include <rte_prefetch.h>

#include "bench/timing.h"
#include "switch/copy.h"
#include "switch/burst.h"

#define RING 256
#define STRIDE 2048
#define HEADER_LEN 12
#define TURNS 400
#define WARM_UP 50

static unsigned int nb_guests, frame_len;
static uint8_t *tx, *rx; /* all guests' buffers */
static unsigned int go, done; /* turns; atomic */

static void
pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set) != 0) {
		fprintf(stderr, "cannot run on CPU %d\n", cpu);
		exit(EXIT_FAILURE);
	}
}

static uint8_t *
buffers(void)
{
	size_t len = RTE_ALIGN((size_t)nb_guests * RING * STRIDE, (size_t)2 << 20);
	uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED) {
		p = aligned_alloc((size_t)2 << 20, len);
		if (p == NULL || madvise(p, len, MADV_HUGEPAGE) != 0)
			exit(EXIT_FAILURE);
	}
	memset(p, 1, len);
	return p;
}

/* A buffer: its header, and the frame after it. */
static inline uint8_t *
at(uint8_t *base, unsigned int i)
{
	return base + (size_t)i * STRIDE;
}

static void
copy_burst(uint8_t *to, uint8_t *from)
{
	unsigned int i, gathered = 0, found = 0;
	uint32_t len = HEADER_LEN + frame_len;

	for (i = 0; i < BURST_VIEWS; i++) {
		struct copy_next next = { NULL, NULL };

		for (; gathered < BURST_VIEWS && gathered < i + GATHER_AHEAD; gathered++) {
			rte_prefetch0(at(from, gathered) + HEADER_LEN);
			rte_prefetch0(at(from, gathered) + len - 1);
		}
		for (; found < BURST_VIEWS && found <= i + FIND_AHEAD; found++) {
			prefetch_write(at(to, found));
			prefetch_write(at(to, found) + RTE_CACHE_LINE_SIZE);
		}
		if (i + 1 < BURST_VIEWS)
			next = rest_of_buffer(at(to, i + 1), len);
		memset(at(to, i), 0, HEADER_LEN);
		copy_and_fetch(at(to, i) + HEADER_LEN, at(from, i) + HEADER_LEN, frame_len, next);
	}
}

/* Plays the switch: as it polls guests in turns, a burst of each. */
static void *
copy_all(void *arg)
{
	unsigned int turn, first, g;

	pin(*(int *)arg);
	for (turn = 1; turn <= TURNS; turn++) {
		while (__atomic_load_n(&go, __ATOMIC_ACQUIRE) != turn)
			rte_pause();
		for (first = 0; first < RING; first += BURST_VIEWS)
			for (g = 0; g < nb_guests; g++)
				copy_burst(at(rx, (g ^ 1) * RING + first),
					at(tx, g * RING + first));
		__atomic_store_n(&done, turn, __ATOMIC_RELEASE);
	}
	return NULL;
}

int
main(int argc, char **argv)
{
	static uint64_t took[TURNS];
	unsigned int turn, i, n, bad = 0;
	pthread_t copier;
	int cpu;

	if (argc != 5 || (nb_guests = (unsigned int)atoi(argv[3])) == 0 || nb_guests % 2 != 0 ||
			(frame_len = (unsigned int)atoi(argv[4]) - 4) < 60 || frame_len > 1514) {
		fprintf(stderr, "usage: copy GUESTS-CPU SWITCH-CPU GUESTS FRAME-BYTES\n");
		return EXIT_FAILURE;
	}
	n = nb_guests * RING;
	pin(atoi(argv[1]));
	cpu = atoi(argv[2]);
	tx = buffers();
	rx = buffers();
	if (pthread_create(&copier, NULL, copy_all, &cpu) != 0)
		return EXIT_FAILURE;
	for (turn = 1; turn <= TURNS; turn++) {
		for (i = 0; i < n; i++) {
			uint8_t *f = at(tx, i) + HEADER_LEN;

			memcpy(f + 14, &turn, sizeof(turn));
			memcpy(f + frame_len - sizeof(turn), &turn, sizeof(turn));
		}
		took[turn - 1] = now_ns();
		__atomic_store_n(&go, turn, __ATOMIC_RELEASE);
		while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) != turn)
			rte_pause();
		took[turn - 1] = now_ns() - took[turn - 1];
		for (i = 0; i < n; i++)
			bad += memcmp(at(rx, i) + HEADER_LEN, at(tx, i ^ RING) + HEADER_LEN,
				frame_len) != 0;
	}
	pthread_join(copier, NULL);
	if (bad > 0) {
		fprintf(stderr, "%u wrong frames\n", bad);
		return EXIT_FAILURE;
	}
	sort_times(took + WARM_UP, TURNS - WARM_UP);
	printf("%u guests, %u bytes: %.1f ns a frame\n", nb_guests, frame_len + 4,
		(double)took[WARM_UP + (TURNS - WARM_UP) / 2] / n);
	return EXIT_SUCCESS;
}
