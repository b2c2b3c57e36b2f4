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
 * Behind a burst that was not full batches leave at once: the ring is empty then, so there is
 * time, and under load bursts are full. Then the worker reports a quiescent state. It uses no
 * guest beyond that point that it has not looked up anew.
 *
 * A full receive ring is the one reason for a frame to stay in its batch. The worker does not stand
 * still for it: it goes on with its rounds and offers the frames again in each, until the time of
 * all retries has passed. Who does not empty its ring delays nobody else.
 *
 * The rejected alternative is the drain timer of older vhost switches: batches kept across rounds
 * save a few calls under light load, and cost 50 us for a lone frame, a clock read a round, and
 * frames held for guests that have gone.
 *
 * Everything in struct worker belongs to its lcore, but for the counters, which others read.
 */

#include <rte_branch_prediction.h>
#include <rte_mempool.h>

#include "guest/guest.h"
#include "main.h"
#include "stats/counters.h"
#include "switch/mirror.h"
#include "uplink/uplink.h"

/** mbuf->port of a frame on its way: the device id of its sender, or one of these. */
#define FROM_UPLINK 0xfffe
#define FROM_FLOOD 0xfffd /**< a guest's, counted as sent when it was handed out */
#define FROM_GONE 0xfffc  /**< of a guest that has left since */

/** mbufs that may wait in batches before a worker empties them in the middle of a round. */
#define HELD_MAX 1024

/** mbufs of these that may stay over to the next round. */
#define KEPT_MAX (HELD_MAX / 2)

/**
 * How long frames wait for a guest whose front end changes the device, from the first message until
 * there is a receive ring again: it takes microseconds, but for a front end that does not bring it back.
 * Not less than what --rx-retry gives a full ring.
 */
#define PAUSE_MAX_MS 100

/** How many times that while one change follows another. */
#define PAUSES_MAX 5

/**
 * Frames that may wait for such a guest. A burst of eight senders: they come from the uplink and by
 * floods too, whose senders are not made to wait.
 */
#define BATCH_MAX (8 * BURST_MAX)

/** From so many on the senders of waiting frames are made to wait themselves. */
#define BATCH_HOLD (BATCH_MAX / 2)

/** What all workers share; constant while they run, but for stop. */
struct switch_ctx {
	const struct config *cfg;
	struct guests *guests;
	struct uplink *uplink;
	struct mirror *mirror; /**< present where a guest is mirrored */
	struct rte_mempool *pool;	 /**< mbufs with buffers */
	struct rte_rcu_qsbr *qsbr;
	struct rte_rcu_qsbr *sections; /**< workers at rings, see guest/direct.h */
	bool stop; /**< atomic */
};

/** Frames on their way to one destination. */
struct batch {
	struct guest *guest; /**< NULL: the uplink */
	uint64_t serial;     /**< of the guest, to know it again in the next round */
	uint64_t give_up_at; /**< TSC when frames that stayed are dropped; 0: none stayed */
	uint64_t pause_ends_at; /**< the same for a guest that changes; 0: it does not */
	uint64_t pauses_end_at; /**< that is not later than this */
	uint64_t waiting;    /**< TSC when frames in a sender's ring were last found to wait; 0: none do */
	uint64_t waited;     /**< TSC cycles that they have waited in all for a full ring */
	uint64_t waited_paused; /**< and for a guest that changes */
	uint64_t waited_change; /**< of that, for its last change */
	unsigned int changes; /**< of the guest, when frames last waited for that */
	uint16_t taken;	     /**< frames that the guest took since then, directly */
	uint16_t n;
	bool listed;  /**< in worker.dirty */
	bool touched; /**< in the list of the burst that is being switched directly */
	bool stalled; /**< the guest took nothing in spite of all retries: do not wait again */
	bool for_pause; /**< waiting is for a guest that changes */
	bool paused; /**< the frames stayed since the guest changes: BATCH_MAX may */
	struct rte_mbuf *frame[BATCH_MAX];
};

/** The guest takes frames: the next time it does not, wait for it as long as ever. Worker. */
static inline void
batch_patience_afresh(struct batch *b)
{
	b->stalled = false;
	b->paused = false;
	b->give_up_at = 0;
	b->pause_ends_at = 0;
	b->waiting = 0;
	b->waited = 0;
	b->waited_paused = 0;
	b->waited_change = 0;
	b->taken = 0;
}

/** One worker. */
struct worker {
	unsigned int index;
	unsigned int lcore;
	struct switch_ctx *sw;
	struct direct_section section;
	uint32_t held;	  /**< mbufs in batches */
	uint32_t kept;	  /**< mbufs that stayed in batches of full guests */
	uint64_t patience;	 /**< TSC cycles that a frame may stay for a full ring */
	uint64_t pause_patience; /**< and while the guest's front end sends a message */
	uint16_t n_dirty; /**< batches that may hold frames */
	uint16_t dirty[GUEST_MAX];
	bool holding;		   /**< held_back has one */
	bool held_back[GUEST_MAX]; /**< its frames wait for a guest that changes: take no more of it */
	/* Read by statistics. */
	uint64_t rounds;
	uint64_t cycles;      /**< TSC cycles in all rounds */
	uint64_t busy_cycles; /**< in those that moved a frame */
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
/** @param g the guest that sent them, which is one of this worker's; of one that is not registered, one */
void forward_from_guest(struct worker *w, struct guest *g, struct rte_mbuf **frames, uint16_t n);

/**
 * Go on with the frame of a guest that has waited for its filter.
 *
 * @param g a guest of this worker's, with a frame in first
 * @return false if the frame still waits: the guest is not to be polled
 */
bool forward_first(struct worker *w, struct guest *g);

/** @param pool_guest device id of the guest whose pool they came from, or GUEST_MAX: of none */
void forward_from_uplink(struct worker *w, uint16_t pool_guest, struct rte_mbuf **frames,
	uint16_t n);
/**@}*/

/** @name output.c: batches. Worker. */
/**@{*/
/** Begin a round: know the guests of frames that stayed again, or drop the frames. */
void output_resume(struct worker *w);

/** Send all that waits in batches; what a full guest does not take may stay. */
void output_flush(struct worker *w);

/** End: drop what stayed. */
void output_drop_all(struct worker *w);

/** Count and free a frame for whose guest there is no room. */
void output_drop_full(struct worker *w, const struct guest *g, struct rte_mbuf *m);

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
		b->serial = g->serial;
		w->dirty[w->n_dirty++] = g->id;
	} else if (unlikely(b->n >= BURST_MAX && (!b->paused || b->n == BATCH_MAX))) {
		output_drop_full(w, g, m);
		return;
	}
	b->frame[b->n++] = m;
	w->held += m->nb_segs;
	if (b->n >= BURST_MAX)
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
