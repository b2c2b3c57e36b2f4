/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_RETRY_H
#define SWITCH_RETRY_H

/**
 * @file
 * How long frames wait for a receiver that has no buffer (--rx-retry), or that a message is
 * changing.
 *
 * A worker has one of these for each guest. Whoever has frames for the guest, in a sender's
 * virtqueue or deferred in mbufs, tries again in each round and adds up the time. So that a slow
 * receiver does not slow down all that its senders do, that time ends only when the guest has taken
 * a burst; when it is up, nobody waits for the guest before it has. All functions are a worker's.
 */

#include <stdbool.h>
#include <stdint.h>

#include <rte_branch_prediction.h>
#include <rte_cycles.h>

#include "main.h"

/**
 * How long frames wait for a guest while a message changes it, from the first message until there
 * is a receive virtqueue again: that takes microseconds, unless a front end does not bring it back.
 * Not less than what --rx-retry gives a full virtqueue.
 */
#define PAUSE_MAX_MS 100

/** How many times that while one change follows another. */
#define PAUSES_MAX 5

struct retry {
	uint64_t wait_start;	/**< TSC when frames were last found to wait, 0: none do */
	uint64_t round;		/**< of the worker, then */
	uint64_t time_waited;	/**< TSC cycles that frames have waited for a full virtqueue */
	uint64_t time_waited_paused; /**< and while messages changed the guest */
	uint64_t time_waited_change; /**< of that, for the last change */
	unsigned int changes;	/**< of the guest, when frames last waited for one */
	uint16_t taken;		/**< frames that the guest took since then */
	bool for_pause;		/**< wait_start is of a change */
	bool exhausted;		/**< the time is up: do not wait */
};

/** The next time that the guest has no buffer, wait for the whole time. */
static inline void
retry_reset(struct retry *r)
{
	*r = (struct retry){ 0 };
}

/** Whether frames wait for a guest that is being changed. */
static inline bool
retry_is_paused(const struct retry *r)
{
	return r->wait_start != 0 && r->for_pause;
}

/**
 * The time since frames of the same kind were found to wait in the round before; they do so now.
 */
static inline uint64_t
retry_elapsed(struct retry *r, uint64_t round, bool for_pause)
{
	uint64_t now = rte_rdtsc(), part = 0;

	if (r->wait_start != 0 && r->for_pause == for_pause && round - r->round <= 1)
		part = now - r->wait_start;
	r->wait_start = now;
	r->round = round;
	r->for_pause = for_pause;
	return part;
}

/**
 * The guest has no buffer.
 *
 * @param r how long frames have waited for it so far
 * @param round number of the worker's round
 * @param timeout in TSC cycles
 * @return whether to wait
 */
static inline bool
retry_full(struct retry *r, uint64_t round, uint64_t timeout)
{
	if (!r->exhausted) {
		r->time_waited += retry_elapsed(r, round, false);
		r->exhausted = r->time_waited >= timeout;
	}
	if (r->exhausted)
		r->wait_start = 0;
	return !r->exhausted;
}

/**
 * A message is changing the guest. It has a time of its own, for each change, and for all of them.
 *
 * @param r how long frames have waited for it so far
 * @param round number of the worker's round
 * @param changes how often the guest was changed
 * @param timeout in TSC cycles
 * @return whether to wait
 */
static inline bool
retry_paused(struct retry *r, uint64_t round, unsigned int changes, uint64_t timeout)
{
	uint64_t part;

	if (!r->exhausted) {
		part = retry_elapsed(r, round, true);
		r->time_waited_paused += part;
		r->time_waited_change = r->changes == changes ? r->time_waited_change + part : 0;
		r->changes = changes;
		r->exhausted = r->time_waited_change >= timeout ||
			r->time_waited_paused >= PAUSES_MAX * timeout;
	}
	if (r->exhausted)
		r->wait_start = 0;
	return !r->exhausted;
}

/** The guest took n frames. */
static inline void
retry_taken(struct retry *r, uint16_t n)
{
	if (likely((r->wait_start | r->time_waited | r->time_waited_paused) == 0) || n == 0)
		return;
	r->wait_start = 0;
	r->taken = (uint16_t)(r->taken + n);
	if (r->taken >= BURST_MAX)
		retry_reset(r);
}

#endif /* SWITCH_RETRY_H */
