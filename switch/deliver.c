/* SPDX-License-Identifier: BSD-3-Clause */
#include <stddef.h>

#include "port/guest.h"
#include "switch/deliver.h"
#include "switch/mirror.h"
#include "switch/pipeline.h"
#include "switch/scatter.h"
#include "switch/spread.h"
#include "switch/worker.h"

/* Copy frames of a run into a virtqueue. Returns how many, and what the next one met. */
static uint16_t
fill_vring(const struct device *d, struct virtqueue *vq, struct burst *b, const struct run *run,
	enum vring_status *status)
{
	uint16_t available = UINT16_MAX, i = run->first, n;

	*status = VRING_OK;
	if (likely(!vq->packed)) {
		available = (uint16_t)(__atomic_load_n(&vq->avail->idx, __ATOMIC_ACQUIRE) -
			vq->last_avail_idx);
		if (unlikely(available > vq->size)) {
			*status = VRING_BROKEN;
			return 0;
		}
	}
	for (;;) {
		gather(b, (uint16_t)(i + GATHER_AHEAD));
		if (likely(!d->logging)) {
			n = pipeline_copy(d, vq, b, run, i, available);
			i = (uint16_t)(i + n);
			if (likely(!vq->packed))
				available = (uint16_t)(available - n);
		}
		if (likely(!in_run(b, i, run)))
			break;
		*status = scatter_frame(d, vq, b, i, run, available, &n);
		if (*status != VRING_OK)
			break;
		if (likely(!vq->packed))
			available = (uint16_t)(available - n);
		i++;
	}
	return (uint16_t)(i - run->first);
}

static void
publish_receivers(struct burst *b)
{
	struct receiver *to;

	for (to = b->receiver; to < b->receiver + b->nb_receivers; to++) {
		rte_spinlock_lock(&to->vq->lock);
		vring_publish(to->d, to->vq);
		rte_spinlock_unlock(&to->vq->lock);
	}
}

/* After a full fence. */
static void
notify_receivers(struct burst *b)
{
	struct receiver *to;

	for (to = b->receiver; to < b->receiver + b->nb_receivers; to++) {
		rte_spinlock_lock(&to->vq->lock);
		vring_notify(to->d, to->vq);
		rte_spinlock_unlock(&to->vq->lock);
		to->batch->touched = NULL;
	}
	b->nb_receivers = 0;
}

/* Note that a virtqueue has frames to be published. */
static inline void
note_receiver(struct burst *b, struct device *d, struct virtqueue *vq, struct batch *batch)
{
	if (likely(batch->touched == vq))
		return;
	if (unlikely(b->nb_receivers == RTE_DIM(b->receiver))) {
		publish_receivers(b);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		notify_receivers(b);
	}
	batch->touched = vq;
	b->receiver[b->nb_receivers++] = (struct receiver){ d, vq, batch };
}

/* What frames of a run ask for, all of them together. */
static inline uint8_t
run_asks(const struct burst *b, const struct run *run)
{
	uint8_t asks = 0;
	uint16_t i;

	if (likely(!b->has_asks))
		return 0;
	if (b->mbuf == NULL)
		return key_asks(run->key);
	for (i = run->first; i < b->n && i < run->end; i++)
		asks |= b->asks[i];
	return asks;
}

/* Copy a run into the virtqueue that it names. */
static inline uint16_t
deliver_to_vring(struct worker *w, struct guest *to, struct burst *b, const struct run *run,
	enum vring_status *status)
{
	struct device *d = to->device;
	struct virtqueue *vq = &d->vq[run->vring];
	uint16_t done;

	rte_spinlock_lock(&vq->lock);
	done = fill_vring(d, vq, b, run, status);
	rte_spinlock_unlock(&vq->lock);
	if (done > 0)
		note_receiver(b, d, vq, &w->to_guest[to->id]);
	if (unlikely(*status == VRING_BROKEN)) {
		guests_disable(w->sw->guests, to, GUEST_REPORT_BROKEN_RECEIVE);
		*status = VRING_DISABLED;
	}
	if (done > 0 && guest_is_mirrored(to))
		mirror_views(w->sw->mirror, b, run->first, done, run);
	return done;
}

/* pipeline_copy_by_flow(). Noting one virtqueue may publish others. */
static uint16_t
copy_by_flow(struct device *d, const struct spread *s, struct batch *batch, struct burst *b,
	const struct run *run, uint16_t first)
{
	struct lane lanes[QUEUE_PAIR_MAX];
	uint16_t n = pipeline_copy_by_flow(d, s, lanes, b, run, first), i;

	for (i = 0; i < s->n; i++) {
		if (lanes[i].vq != NULL)
			note_receiver(b, d, lanes[i].vq, batch);
	}
	return n;
}

/* Copy a run to a guest that has several virtqueues, each frame into that of its flow. */
static uint16_t
deliver_by_flow(struct worker *w, struct guest *to, struct burst *b, const struct run *run,
	enum vring_status *status)
{
	struct device *d = to->device;
	struct run one = *run;
	uint16_t n = 0;
	struct spread s;

	*status = VRING_PAUSED; /* for a moment, as messages change it, or for longer */
	spread_over(d, &s);
	if (s.n == 0)
		return 0;
	*status = VRING_OK;
	while (*status == VRING_OK) {
		if (likely(!d->logging))
			n = copy_by_flow(d, &s, &w->to_guest[to->id], b, run, one.first);
		if (n > 0 && guest_is_mirrored(to))
			mirror_views(w->sw->mirror, b, one.first, n, run);
		one.first = (uint16_t)(one.first + n);
		gather(b, (uint16_t)(one.first + GATHER_AHEAD));
		if (!in_run(b, one.first, run))
			break;
		one.end = (uint16_t)(one.first + 1);
		one.vring = s.vring[spread_choose(&s, b, one.first)];
		one.first = (uint16_t)(one.first + deliver_to_vring(w, to, b, &one, status));
	}
	return (uint16_t)(one.first - run->first);
}

uint16_t
deliver(struct worker *w, struct guest *to, struct burst *b, const struct run *run,
	enum vring_status *status)
{
	const struct device *d = to->device;
	struct run whole = *run;

	*status = VRING_PAUSED;
	if (device_is_paused(d))
		return 0;
	*status = VRING_DISABLED;
	if (device_is_disabled(d))
		return 0;
	*status = VRING_STOPPED;
	if (unlikely(!d->running))
		return 0;
	*status = VRING_UNABLE;
	if (unlikely(run_asks(b, run) & ~d->accepts))
		return 0;
	if (whole.vring == RINGS_MAX) {
		if (unlikely(spread_has_several(d)))
			return deliver_by_flow(w, to, b, run, status);
		whole.vring = spread_find_vring(d, b, run->first);
	}
	*status = VRING_PAUSED; /* for a moment, as messages change it, or for longer */
	if (unlikely(!spread_is_running(d, whole.vring)))
		return 0;
	return deliver_to_vring(w, to, b, &whole, status);
}

/* Give the sender back the chains of the first frames. */
static void
complete(struct burst *b, uint16_t done)
{
	struct virtqueue *vq = b->vq;
	struct vring_used_elem *ring = vq->used->ring;
	uint16_t at = vq->last_used_idx, next = vq->last_avail_idx;
	uint16_t mask = (uint16_t)(vq->size - 1), i;

	if (unlikely(vq->packed)) {
		for (i = 0; i < done; i++) {
			at = vring_write_used_packed(vq, at, b->id[i], 0, b->count[i]);
			next = vring_advance(vq, next, b->count[i]);
		}
		vq->last_avail_idx = next;
		vq->last_used_idx = at;
		return;
	}
	for (i = 0; i < done; i++)
		ring[(uint16_t)(at + i) & mask] = (struct vring_used_elem){ b->id[i], 0 };
	vq->last_avail_idx = (uint16_t)(next + done);
	vq->last_used_idx = (uint16_t)(at + done);
}

void
deliver_finish(struct burst *b, uint16_t done)
{
	/*
	 * Receivers first: stores become visible in order, and these are what somebody waits for.
	 */
	publish_receivers(b);
	if (b->vq != NULL) {
		complete(b, done);
		vring_publish(b->d, b->vq);
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	notify_receivers(b);
	if (b->vq != NULL)
		vring_notify(b->d, b->vq);
}
