/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

/**
 * @file
 * The control loop: what the process does beside switching, while it runs.
 *
 * It sleeps in poll(2) until a worker has learned a guest's MAC, statistics are due, a link may
 * have changed or a signal came, and for a second at most. It runs on the main lcore, or in a
 * thread of its own when that lcore is a worker's.
 */

#include <stdbool.h>

#include "control/stats.h"

struct guests;
struct mirror;
struct uplink;

/** What the control loop serves. */
struct control {
	const struct config *cfg;
	struct guests *guests;
	struct uplink *uplink;
	struct mirror *mirror;
	const struct stats_source *stats;
	bool *stop;	/**< the workers'; atomic */
	int signal_fd;	/**< readable when the process is to end, or to read its settings again */
	int timer_fd;	/**< readable when statistics are due */
	struct stats_last last;
};

/**
 * Start the timer of --stats. Main thread.
 *
 * @param[in,out] control everything but its timer is filled in
 * @param stats_period seconds, 0: no statistics are printed
 * @return 0 or a negative errno
 */
int control_open(struct control *control, unsigned int stats_period);

/**
 * Run until a signal asks the process to end, then tell the workers to stop. Main thread, or one of
 * its own.
 *
 * @param control a struct control
 * @return control
 */
void *control_run(void *control);

#endif /* CONTROL_CONTROL_H */
