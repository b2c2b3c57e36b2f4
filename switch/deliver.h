/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_DELIVER_H
#define SWITCH_DELIVER_H

/**
 * @file
 * Frames of a burst into the receive virtqueues of guests: one copy each. All functions are a
 * worker's.
 */

#include "switch/burst.h"

struct guest;
struct worker;

/**
 * Copy a run of frames into the buffers of a guest. Its driver sees them at deliver_finish().
 *
 * @param w the worker
 * @param to the guest
 * @param b the burst
 * @param run frames of it
 * @param[out] status VRING_OK, or what the first frame that was not copied met
 * @return how many were copied, from the first on
 */
uint16_t deliver(struct worker *w, struct guest *to, struct burst *b, const struct run *run,
	enum vring_status *status);

/**
 * The end of a burst: give the sender its buffers back, let the receivers see theirs, and notify
 * the drivers, each once.
 *
 * @param b the burst
 * @param done how many of its frames nobody needs any more, from the first on
 */
void deliver_finish(struct burst *b, uint16_t done);

#endif /* SWITCH_DELIVER_H */
