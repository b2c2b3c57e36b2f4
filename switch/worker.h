/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_WORKER_H
#define SWITCH_WORKER_H

/**
 * @file
 * A worker: the loop that moves frames, one on each worker lcore.
 *
 * A round of the loop takes one burst from every ring of the worker's guests and from its receive
 * queues of the uplink, decides for each burst at once where its frames go (forward.c), and puts
 * them into output batches, one a destination. A batch leaves when it is full, and whatever waits
 * leaves at the end of the round (output.c): no timer, and a lone frame does not wait for company.
 * Then the worker reports a quiescent state. It holds no frame and no guest at that point, so a
 * guest that was withdrawn is not touched after it.
 *
 * The rejected alternative is the drain timer of older vhost switches: batches kept across rounds
 * save a few calls under light load, and cost 50 us for a lone frame, a clock read a round, and
 * frames held for guests that have gone.
 *
 * Everything in struct worker belongs to its lcore, but for the counters, which others read.
 */

#include <rte_mempool.h>

#include "guest/guest.h"
#include "main.h"
#include "stats/counters.h"
#include "uplink/uplink.h"

/** mbuf->port of a frame on its way: the device id of its sender, or one of these. */
#define FROM_UPLINK 0xfffe
#define FROM_FLOOD 0xfffd /**< a guest's, counted as sent when it was handed out */

/** mbufs that may wait in batches before a worker empties them in the middle of a round. */
#define HELD_MAX 1024

/** What all workers share; constant while they run, but for stop. */
struct switch_ctx {
	const struct config *cfg;
	struct guests *guests;
	struct uplink *uplink;
	struct rte_mempool *pool;	 /**< mbufs with buffers */
	struct rte_mempool *pieces_pool; /**< mbufs that point into others, NULL without --tso */
	struct rte_rcu_qsbr *qsbr;
	bool stop; /**< atomic */
};

/** Frames on their way to one destination. */
struct batch {
	struct guest *guest; /**< NULL: the uplink */
	uint16_t n;
	bool listed;  /**< in worker.dirty */
	bool stalled; /**< the guest took nothing in spite of all retries: do not wait again */
	struct rte_mbuf *frame[BURST_MAX];
};

/** One worker. */
struct worker {
	unsigned int index;
	unsigned int lcore;
	struct switch_ctx *sw;
	uint32_t held;	  /**< mbufs in batches */
	uint16_t n_dirty; /**< batches that may hold frames */
	uint16_t dirty[GUEST_MAX];
	uint64_t rounds;      /**< read by telemetry */
	uint64_t busy_rounds; /**< those that moved a frame */
	struct batch to_uplink;
	struct batch to_guest[GUEST_MAX];
	struct counters counters;
} __rte_cache_aligned;

/**
 * The loop. Returns when switch_ctx.stop is set.
 *
 * @param arg the struct worker of this lcore
 * @return 0
 */
int worker_run(void *arg);

/** @name forward.c: where a burst goes. Worker. The frames are used up. */
/**@{*/
/** @param g the guest that sent them, which is one of this worker's */
void forward_from_guest(struct worker *w, struct guest *g, struct rte_mbuf **frames, uint16_t n);

/** @param pool_guest device id of the guest whose pool they came from, or GUEST_MAX: of none */
void forward_from_uplink(struct worker *w, uint16_t pool_guest, struct rte_mbuf **frames,
	uint16_t n);
/**@}*/

/** @name output.c: batches. Worker. */
/**@{*/
/** Send all that waits in batches. */
void output_flush(struct worker *w);

/** Send a batch that is full. */
void output_flush_guest(struct worker *w, struct batch *b);

/** Send what waits for the uplink. */
void output_flush_uplink(struct worker *w);

/** Put a frame into a guest's batch. */
static inline void
output_to_guest(struct worker *w, struct guest *g, struct rte_mbuf *m)
{
	struct batch *b = &w->to_guest[g->id];

	if (!b->listed) {
		b->listed = true;
		b->guest = g;
		w->dirty[w->n_dirty++] = g->id;
	}
	b->frame[b->n++] = m;
	w->held += m->nb_segs;
	if (b->n == BURST_MAX)
		output_flush_guest(w, b);
}

/** Put a frame into the uplink's batch, tag and all. */
static inline void
output_to_uplink(struct worker *w, struct rte_mbuf *m)
{
	struct batch *b = &w->to_uplink;

	b->frame[b->n++] = m;
	w->held += m->nb_segs;
	if (b->n == BURST_MAX)
		output_flush_uplink(w);
}

/** Count a frame that a guest sent and that goes no further, and free it. */
static inline void
drop_from_guest(struct worker *w, uint16_t id, enum tx_drop why, struct rte_mbuf *m)
{
	w->counters.guest[id].tx_drop[why]++;
	rte_pktmbuf_free(m);
}
/**@}*/

#endif /* SWITCH_WORKER_H */
