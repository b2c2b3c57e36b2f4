/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PORT_LIMIT_H
#define PORT_LIMIT_H

/**
 * @file
 * Limits of a named port: what its guest may send, and what may be sent to it.
 *
 * Token buckets of rte_meter. A guest over a limit of what it may send is not polled until it may
 * send again: what it has sent is paid for afterwards, so a burst is never cut, and the average is
 * the limit. What is over the other limits is dropped.
 *
 * A limit that is changed while the switch runs begins with a full bucket. Worker functions: of the
 * worker that polls the guest, but for limit_take_to().
 */

#include <stdbool.h>
#include <stdint.h>

#include <rte_branch_prediction.h>
#include <rte_meter.h>
#include <rte_spinlock.h>

#include "main.h"

/** A bucket. All 0 is one without a limit. */
struct limit {
	uint64_t per_second; /**< what it was filled for, 0: no limit */
	uint64_t debt;	     /**< sent and not paid for */
	struct rte_meter_srtcm_profile profile;
	struct rte_meter_srtcm meter;
};

/** All limits of a port's guest. */
struct limits {
	struct limit bytes, frames; /**< that it may send */
	struct limit storm;	    /**< frames to many or to unknown addresses */
	rte_spinlock_t lock;	    /**< of what follows */
	struct limit bytes_to;	    /**< that may be sent to it */
};

/** Bytes of a debt that are paid at once. */
#define LIMIT_PART 1500

/**
 * Parts of a second in which the limit allows what a bucket holds, for workers and guests that
 * share a CPU with others; but a bucket has room for one take.
 */
#define LIMIT_BUCKET_PART 5

/** What a bucket holds. */
static inline uint64_t
limit_bucket(uint64_t per_second)
{
	return per_second / LIMIT_BUCKET_PART;
}

/** Give back what was taken and then not sent. */
void limit_return(struct limit *l, uint64_t n);

/** What the functions below do where there is a limit, or was one. */
bool limit_take_slow(struct limit *l, uint64_t per_second, uint32_t n, uint32_t most);
bool limit_may_send_slow(struct limit *l, uint64_t per_second, uint32_t part_max);

/**
 * Take a frame from a bucket, or not.
 *
 * @param l the bucket
 * @param per_second the limit in frames as it is now, 0: none
 * @return whether there was one
 */
static inline bool
limit_take_frame(struct limit *l, uint64_t per_second)
{
	return likely(per_second == 0) || limit_take_slow(l, per_second, 1, 1);
}

/** Take bytes that are sent to a guest, or not; by any worker. */
static inline bool
limit_take_to(struct limits *l, uint64_t per_second, uint32_t n)
{
	bool ok;

	if (likely(per_second == 0))
		return true;
	rte_spinlock_lock(&l->lock);
	ok = limit_take_slow(&l->bytes_to, per_second, n, FRAME_MAX);
	rte_spinlock_unlock(&l->lock);
	return ok;
}

/** limit_return() of bytes that were taken by limit_take_to(). */
static inline void
limit_return_to(struct limits *l, uint64_t n)
{
	rte_spinlock_lock(&l->lock);
	limit_return(&l->bytes_to, n);
	rte_spinlock_unlock(&l->lock);
}

/** Whether all that was sent is paid for; part_max: how much is paid at once. */
static inline bool
limit_may_send(struct limit *l, uint64_t per_second, uint32_t part_max)
{
	return likely(per_second == 0) || limit_may_send_slow(l, per_second, part_max);
}

/** Note what was sent: it will be paid for. */
static inline void
limit_sent(struct limit *l, uint64_t per_second, uint64_t n)
{
	if (per_second != 0)
		l->debt += n;
}

#endif /* PORT_LIMIT_H */
