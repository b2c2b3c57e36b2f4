/* SPDX-License-Identifier: BSD-3-Clause */
#include <stddef.h>

#include "port/guest.h"
#include "switch/deliver.h"
#include "switch/edit.h"
#include "switch/mirror.h"
#include "switch/scatter.h"
#include "switch/spread.h"
#include "switch/worker.h"

/* Where frames go to: a buffer in one segment for each. */
struct target {
	uint16_t id[BURST_VIEWS];
	uint8_t *at[BURST_VIEWS];
};

/* Copy frame i into a buffer that is long enough. */
static __rte_always_inline void
copy_frame(uint8_t *to, struct burst *b, uint16_t i, bool has_rules, struct copy_next next)
{
	const struct iovec *s;
	uint8_t *at = to;
	uint16_t k;

	if (likely(b->nb_segments[i] == 1)) {
		copy_and_fetch(at, b->data[i], b->len[i], next);
	} else {
		s = burst_segments(b, i);
		for (k = 0; k < b->nb_segments[i]; k++) {
			memcpy(at, s[k].iov_base, s[k].iov_len);
			at += s[k].iov_len;
		}
	}
	if (has_rules)
		memcpy(to, b->head[i], RTE_ETHER_HDR_LEN);
	else
		write_destination(to, b->key[i]);
}

/* The same, with another tag or none, and a head that is as it was read. */
static void
copy_edited(uint8_t *to, struct burst *b, uint16_t i, const struct run *run, struct edit e,
	struct copy_next next)
{
	uint32_t skip, n = write_head(to, b, i, run, e, &skip);
	const struct iovec *s;
	uint16_t k;

	to += n;
	if (likely(b->nb_segments[i] == 1)) {
		copy_and_fetch(to, b->data[i] + skip, b->len[i] - skip, next);
		return;
	}
	s = burst_segments(b, i);
	for (k = 0; k < b->nb_segments[i]; k++) {
		uint32_t part = RTE_MIN(skip, (uint32_t)s[k].iov_len);

		memcpy(to, (const uint8_t *)s[k].iov_base + part, s[k].iov_len - part);
		to += s[k].iov_len - part;
		skip -= part;
	}
}

/*
 * Find a buffer for the k-th frame, which needs so much: the one at index, if it is simply long
 * enough. Prefetch its beginning.
 */
static inline bool
find_buffer(const struct device *d, const struct virtqueue *vq, bool packed, uint16_t index,
	uint32_t need, uint16_t k, struct target *t)
{
	struct vring_desc e;

	if (!packed)
		t->id[k] = chain_head(vq, index);
	if (unlikely(chain_single(vq, packed, index, true, &t->id[k], &e) != VRING_OK ||
			e.len < need))
		return false;
	t->at[k] = device_translate(d, e.addr, need);
	if (unlikely(t->at[k] == NULL))
		return false;
	prefetch_write(t->at[k]);
	if (need > RTE_CACHE_LINE_SIZE)
		prefetch_write(t->at[k] + RTE_CACHE_LINE_SIZE);
	return true;
}

/* Frames that copy_simple() is for. */
enum kind {
	KIND_PLAIN,    /* none may ask for anything, and they keep their tags */
	KIND_OF_PORTS, /* the same, of a burst with rules */
	KIND_ASKING,   /* they may ask for something, and keep their tags */
	KIND_ODD,      /* any */
};

/* The buffer after that of frame i, the k-th, if it is found: to be fetched meanwhile. */
static __rte_always_inline struct copy_next
next_buffer(const struct device *d, const struct burst *b, const struct target *t, uint16_t k,
	uint16_t found, uint16_t i, struct edit e)
{
	if (k + 1 >= found)
		return (struct copy_next){ NULL, NULL };
	return rest_of_buffer(t->at[k + 1], d->hdr_len + edited_len(b, (uint16_t)(i + 1), e));
}

/* Write frame i and its header into a buffer. */
static __rte_always_inline void
write_frame(const struct device *d, uint8_t *at, enum kind kind, struct burst *b, uint16_t i,
	const struct run *run, struct edit e, struct copy_next next)
{
	struct virtio_net_hdr moved;

	write_header(at, d->hdr_len, 1, kind == KIND_ASKING || kind == KIND_ODD
		? asks_of(b, i, e, &moved) : NULL);
	if (kind == KIND_ODD && run->retag)
		copy_edited(at + d->hdr_len, b, i, run, e, next);
	else
		copy_frame(at + d->hdr_len, b, i,
			kind == KIND_OF_PORTS || (kind != KIND_PLAIN && b->rules != NULL), next);
}

/*
 * Copy frames of a run into buffers that are simple, from the first on as long as they are. Returns
 * how many.
 */
static __rte_always_inline uint16_t
copy_simple(const struct device *d, struct virtqueue *vq, bool packed, enum kind kind,
	struct burst *b, const struct run *run, uint16_t first, uint16_t available)
{
	uint16_t end = RTE_MIN(available, (uint16_t)(RTE_MIN(b->limit, run->end) - first));
	uint16_t found = 0, index = vq->last_avail_idx, used = vq->last_used_idx, k;
	const uint64_t key = run->key, mask = run->mask;
	const bool odd = kind == KIND_ODD, asking = kind == KIND_ASKING;
	const struct edit e = odd ? edit_of(run) : (struct edit){ 0, 0 };
	struct target t;

	for (k = 0; k < end; k++) {
		uint16_t i = (uint16_t)(first + k);

		gather(b, (uint16_t)(i + GATHER_AHEAD));
		for (; found < end && found <= k + FIND_AHEAD; found++) {
			uint16_t f = (uint16_t)(first + found);

			if (odd || asking)
				read_keys(b, (uint16_t)(f + 1));
			else
				read_keys_of(b, (uint16_t)(f + 1), kind == KIND_OF_PORTS, false);
			if (f >= b->n || ((b->key[f] ^ key) & mask) != 0 ||
					!find_buffer(d, vq, packed, packed ? index
						: (uint16_t)(vq->last_avail_idx + found),
						d->hdr_len + edited_len(b, f, e), found, &t))
				end = found;
			else if (packed)
				index = vring_advance(vq, index, 1);
		}
		if (k == end)
			break;
		write_frame(d, t.at[k], kind, b, i, run, e, next_buffer(d, b, &t, k, found, i, e));
		if (packed)
			used = vring_write_used_packed(vq, used, t.id[k],
				d->hdr_len + edited_len(b, i, e), 1);
		else
			vq->used->ring[(uint16_t)(used + k) & (vq->size - 1)] =
				(struct vring_used_elem){ t.id[k],
					d->hdr_len + edited_len(b, i, e) };
	}
	vq->last_avail_idx = packed ? index : (uint16_t)(vq->last_avail_idx + k);
	vq->last_used_idx = packed ? used : (uint16_t)(used + k);
	return k;
}

/* One function for each kind, each without a look at what the others need. */
static __rte_noinline uint16_t
split_plain(const struct device *d, struct virtqueue *vq, struct burst *b, const struct run *run,
	uint16_t first, uint16_t available)
{
	return copy_simple(d, vq, false, KIND_PLAIN, b, run, first, available);
}

static __rte_noinline uint16_t
split_of_ports(const struct device *d, struct virtqueue *vq, struct burst *b, const struct run *run,
	uint16_t first, uint16_t available)
{
	return copy_simple(d, vq, false, KIND_OF_PORTS, b, run, first, available);
}

static __rte_noinline uint16_t
split_asking(const struct device *d, struct virtqueue *vq, struct burst *b, const struct run *run,
	uint16_t first, uint16_t available)
{
	return copy_simple(d, vq, false, KIND_ASKING, b, run, first, available);
}

static __rte_noinline uint16_t
split_odd(const struct device *d, struct virtqueue *vq, struct burst *b, const struct run *run,
	uint16_t first, uint16_t available)
{
	return copy_simple(d, vq, false, KIND_ODD, b, run, first, available);
}

static __rte_noinline uint16_t
packed_plain(const struct device *d, struct virtqueue *vq, struct burst *b, const struct run *run,
	uint16_t first, uint16_t available)
{
	return copy_simple(d, vq, true, KIND_PLAIN, b, run, first, available);
}

static __rte_noinline uint16_t
packed_of_ports(const struct device *d, struct virtqueue *vq, struct burst *b,
	const struct run *run, uint16_t first, uint16_t available)
{
	return copy_simple(d, vq, true, KIND_OF_PORTS, b, run, first, available);
}

static __rte_noinline uint16_t
packed_odd(const struct device *d, struct virtqueue *vq, struct burst *b, const struct run *run,
	uint16_t first, uint16_t available)
{
	return copy_simple(d, vq, true, KIND_ODD, b, run, first, available);
}

typedef uint16_t copy_fn(const struct device *d, struct virtqueue *vq, struct burst *b,
	const struct run *run, uint16_t first, uint16_t available);

static copy_fn *const copy_of[2][4] = {
	{ split_plain, split_of_ports, split_asking, split_odd },
	{ packed_plain, packed_of_ports, packed_odd, packed_odd },
};

static enum kind
kind_of(const struct burst *b, const struct run *run)
{
	if (unlikely(run->retag))
		return KIND_ODD;
	if (b->has_asks)
		return KIND_ASKING;
	return b->rules != NULL ? KIND_OF_PORTS : KIND_PLAIN;
}

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
			n = copy_of[vq->packed][kind_of(b, run)](d, vq, b, run, i, available);
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

/* One of the receive virtqueues that a run is spread over. */
struct lane {
	struct virtqueue *vq; /* locked; NULL: no frame is for it yet */
	uint16_t index;	      /* of the next buffer to be found */
	uint16_t left;	      /* buffers that are available */
};

/*
 * Lock a virtqueue and see how much room it has. Others are locked already, so this one is not
 * waited for. Returns false if another worker has it, or if it is broken.
 */
static bool
open_lane(struct lane *lane, struct virtqueue *vq)
{
	lane->left = UINT16_MAX;
	if (!rte_spinlock_trylock(&vq->lock))
		return false;
	if (!vq->packed)
		lane->left = (uint16_t)(__atomic_load_n(&vq->avail->idx, __ATOMIC_ACQUIRE) -
			vq->last_avail_idx);
	if (unlikely(!vq->packed && lane->left > vq->size)) {
		rte_spinlock_unlock(&vq->lock);
		return false;
	}
	lane->vq = vq;
	lane->index = vq->last_avail_idx;
	return true;
}

/* End with all that were begun with. Noting one may publish others, so all are unlocked first. */
static void
close_lanes(struct device *d, const struct spread *s, const struct lane *lanes,
	struct batch *batch, struct burst *b)
{
	uint16_t i;

	for (i = 0; i < s->n; i++) {
		if (lanes[i].vq == NULL)
			continue;
		lanes[i].vq->last_avail_idx = lanes[i].index;
		rte_spinlock_unlock(&lanes[i].vq->lock);
	}
	for (i = 0; i < s->n; i++) {
		if (lanes[i].vq != NULL)
			note_receiver(b, d, lanes[i].vq, batch);
	}
}

/* Find a buffer for frame i, the k-th of a run, in the virtqueue of its flow. */
static bool
find_in_lane(struct device *d, const struct spread *s, struct lane *lanes, struct burst *b,
	uint16_t i, uint16_t k, struct edit e, struct lane **lane, struct target *t)
{
	uint16_t at = spread_choose(s, b, i);
	struct lane *l = &lanes[at];

	if (unlikely(l->vq == NULL) && !open_lane(l, &d->vq[s->vring[at]]))
		return false;
	if (l->left == 0 || !find_buffer(d, l->vq, d->packed, l->index,
			d->hdr_len + edited_len(b, i, e), k, t))
		return false;
	l->left--;
	l->index = vring_advance(l->vq, l->index, 1);
	*lane = l;
	return true;
}

/* copy_simple() into the virtqueues of a guest that has several. */
static uint16_t
copy_by_flow(struct device *d, const struct spread *s, struct batch *batch, struct burst *b,
	const struct run *run, uint16_t first)
{
	uint16_t end = (uint16_t)(RTE_MIN(b->limit, run->end) - first), found = 0, k;
	struct lane lanes[QUEUE_PAIR_MAX], *lane_of[BURST_VIEWS];
	const struct edit e = edit_of(run);
	struct target t;

	for (k = 0; k < s->n; k++)
		lanes[k].vq = NULL;
	for (k = 0; k < end; k++) {
		uint16_t i = (uint16_t)(first + k);

		gather(b, (uint16_t)(i + GATHER_AHEAD));
		for (; found < end && found <= k + FIND_AHEAD; found++) {
			uint16_t f = (uint16_t)(first + found);

			if (!in_run(b, f, run) || !find_in_lane(d, s, lanes, b, f, found, e,
					&lane_of[found], &t))
				end = found;
		}
		if (k == end)
			break;
		write_frame(d, t.at[k], KIND_ODD, b, i, run, e,
			next_buffer(d, b, &t, k, found, i, e));
		vring_put_used(lane_of[k]->vq, t.id[k], d->hdr_len + edited_len(b, i, e), 1);
	}
	close_lanes(d, s, lanes, batch, b);
	return k;
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
