/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_OUTPUT_H
#define SWITCH_OUTPUT_H

/**
 * @file
 * Frames to guests. All functions are a worker's.
 *
 * A frame is copied from where it lies into the guest's buffer at once (deliver.h). If the guest
 * has none, a frame of another guest waits in its sender's virtqueue. Frames that have no such
 * place are deferred as mbufs: from the NIC, flooded, and those that software has to finish. While
 * there are deferred frames for a guest, others join them, so that the order of each flow is kept.
 * Batches of deferred frames are offered again in each round, for as long as retry.h says.
 */

#include "stats/counters.h"
#include "switch/burst.h"
#include "switch/retry.h"

struct guest;
struct worker;

/** mbufs that may wait in batches before a worker empties them in the middle of a round. */
#define BUFFERED_MAX 1024

/** mbufs of these that may stay over to the next round. */
#define DEFERRED_MAX (BUFFERED_MAX / 2)

/**
 * Frames that may wait for a guest while a message changes it. A burst of eight senders: they come
 * from the uplink and by floods too, whose senders are not made to wait.
 */
#define BATCH_MAX (8 * BURST_MAX)

/** From so many on, those who flood are made to wait. */
#define BATCH_HOLD (BATCH_MAX / 2)

/** Frames on their way to one guest, or to the uplink. */
struct batch {
	struct guest *guest; /**< NULL: the uplink */
	uint64_t serial;     /**< of the guest, to know it again in the next round */
	struct retry retry;
	struct virtqueue *touched; /**< the guest's that is last in the burst's list of receivers */
	uint16_t n;
	bool listed; /**< in worker.dirty */
	struct rte_mbuf *frame[BATCH_MAX];
};

/**
 * Give a run of frames to a guest.
 *
 * @param w the worker
 * @param to the guest
 * @param b the burst; mbufs of it that are deferred become NULL
 * @param run frames of it
 * @return how many are done with: delivered, deferred or dropped, and counted. The others must wait
 *   in their virtqueue. Mbufs and flooded frames are always done with
 */
uint16_t output_run(struct worker *w, struct guest *to, struct burst *b, const struct run *run);

/** Whether a frame that has to become an mbuf may do so now, or is to wait in its virtqueue. */
bool output_has_room(struct worker *w, struct guest *to);

/**
 * Whether a flood is to wait in its virtqueue, since too much waits for a guest that is being
 * changed.
 */
bool output_holds_floods(const struct worker *w);

/**
 * Give a frame that is an mbuf another tag, or none.
 *
 * @param[in,out] m the frame, held by the caller alone
 * @param tag VLAN of the tag, 0: none
 * @param priority of the tag if there is none yet, as in TCI
 * @return 0, or -ENOSPC when there is no room in front of the frame
 */
int output_retag(struct rte_mbuf **m, uint16_t tag, uint16_t priority);

/** Put a frame into a guest's batch. It is used up. */
void output_mbuf(struct worker *w, struct guest *to, struct rte_mbuf *m);

/** Begin a round: find the guests of deferred frames again, or drop the frames. */
void output_resume(struct worker *w);

/** Send all that waits in batches; what a full guest does not take may stay. */
void output_flush(struct worker *w);

/** End: drop what stayed. */
void output_drop_all(struct worker *w);

/** Count a frame that a guest sent and that goes no further, and free it. */
void drop_from_guest(struct worker *w, uint16_t id, enum tx_drop why, struct rte_mbuf *m);

/** @name uplink_output.c: frames to the NIC. */
/**@{*/
/** Put a frame into the uplink's batch, tag and all. It is used up. */
void output_to_uplink(struct worker *w, struct rte_mbuf *m);

/** Send what waits for the uplink. */
void output_flush_uplink(struct worker *w);
/**@}*/

#endif /* SWITCH_OUTPUT_H */
