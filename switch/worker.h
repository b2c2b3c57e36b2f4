/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_WORKER_H
#define SWITCH_WORKER_H

/**
 * @file
 * A worker: the loop that moves frames, one on each worker lcore.
 *
 * A round of the loop takes one burst from every transmit virtqueue of the worker's guests and from
 * its receive queues of the uplink. For each burst it is decided at once where its frames go
 * (forward.c), and they are copied there (deliver.c). Frames that become mbufs, for the uplink and
 * where a copy has to wait, go into output batches, one for each destination (output.c,
 * uplink_output.c). A batch leaves when it is full, and whatever waits leaves at the end of the
 * round: no timer, and a lone frame does not wait for company. After a short burst batches leave at
 * once: the virtqueue is empty then, so there is time, and under load bursts are full. At the end
 * of a round the worker reports a quiescent state. It uses no guest after that point that it has
 * not looked up again.
 *
 * A full receive virtqueue is the one reason for a frame to wait. The worker does not stand still
 * for it: it goes on with its rounds and offers the frame again in each, until the time of all
 * retries has passed (retry.h).
 *
 * The rejected alternative is the drain timer of older vhost switches: batches kept across rounds
 * save a few calls under light load, and cost 50 us for a lone frame, a clock read a round, and
 * frames held for guests that have gone.
 *
 * Everything in struct worker belongs to its lcore, but for the counters, which others read.
 */

#include <rte_branch_prediction.h>
#include <rte_mempool.h>

#include "main.h"
#include "stats/counters.h"
#include "switch/output.h"

struct guests;
struct mirror;
struct rte_rcu_qsbr;
struct uplink;

/** What all workers share; constant while they run, but for stop. */
struct switch_ctx {
	const struct config *cfg;
	struct guests *guests;
	struct uplink *uplink;
	struct mirror *mirror; /**< present where a guest is mirrored */
	struct rte_mempool *pool;	 /**< mbufs with buffers */
	bool finishes; /**< guests may leave checksums and segments to others */
	struct rte_rcu_qsbr *rcu;
	bool stop; /**< atomic */
};

/** One worker. */
struct worker {
	unsigned int index;
	unsigned int lcore;
	struct switch_ctx *sw;
	uint32_t buffered; /**< mbufs in batches */
	uint32_t deferred; /**< mbufs that stayed in batches of full guests */
	uint64_t retry_timeout;	/**< TSC cycles that frames may wait for a full virtqueue */
	uint64_t pause_timeout; /**< and while a message changes the guest */
	uint32_t now;		/**< tenths of a second of the TSC */
	uint64_t next_tenth;	/**< TSC of the next one */
	uint64_t uplink_source; /**< key that a frame of the uplink came from last */
	uint16_t n_dirty; /**< batches that may hold frames */
	uint16_t dirty[ID_MAX];
	/* Read by statistics. */
	uint64_t rounds;
	uint64_t cycles;      /**< TSC cycles in all rounds */
	uint64_t busy_cycles; /**< in those that moved a frame */
	struct batch to_uplink;
	struct batch to_guest[ID_MAX];
	struct counters counters;
} __rte_cache_aligned;

/**
 * The loop. Returns when switch_ctx.stop is set.
 *
 * @param arg the struct worker of this lcore
 * @return 0
 */
int worker_run(void *arg);

#endif /* SWITCH_WORKER_H */
