/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a notification costs: notify [ROUNDS]
 *
 * ROUNDS (100) of 5000 notifications each, by notify_send() and by eventfd_write(), which may
 * block; printed is the mean of the best round, in nanoseconds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "bench/timing.h"
#include "vhost/notify.h"
#include "main.h"

int log_type_config, log_type_data, log_type_uplink;

#define CALLS 5000

static bool
by_write(int callfd)
{
	return eventfd_write(callfd, 1) == 0;
}

static double
best_round(bool (*notify)(int), int callfd, unsigned int rounds)
{
	double best = 1e9;

	while (rounds-- > 0) {
		uint64_t began = now_ns();
		eventfd_t count;
		unsigned int i;

		for (i = 0; i < CALLS; i++)
			notify(callfd);
		best = RTE_MIN(best, (double)(now_ns() - began) / CALLS);
		eventfd_read(callfd, &count);
	}
	return best;
}

int
main(int argc, char **argv)
{
	unsigned int rounds = argc > 1 ? (unsigned int)atoi(argv[1]) : 100;
	int callfd = eventfd(0, EFD_NONBLOCK);

	printf("notify_send() %.0f ns, eventfd_write() %.0f ns\n",
		best_round(notify_send, callfd, rounds), best_round(by_write, callfd, rounds));
	return EXIT_SUCCESS;
}
