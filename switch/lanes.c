/* SPDX-License-Identifier: BSD-3-Clause */
#include <rte_spinlock.h>

#include "switch/pipeline.h"

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
	lane->used = vq->last_used_idx;
	return true;
}

/* End with all that were begun with. */
static void
close_lanes(const struct spread *s, const struct lane *lanes)
{
	uint16_t i;

	for (i = 0; i < s->n; i++) {
		if (lanes[i].vq == NULL)
			continue;
		lanes[i].vq->last_avail_idx = lanes[i].index;
		lanes[i].vq->last_used_idx = lanes[i].used;
		rte_spinlock_unlock(&lanes[i].vq->lock);
	}
}

/* Find a buffer for frame i, the k-th of a run, in the virtqueue of its flow. */
static __rte_always_inline bool
find_in_lane(struct device *d, bool packed, const struct spread *s, struct lane *lanes,
	struct burst *b, uint16_t i, uint16_t k, struct edit e, struct lane **lane,
	struct target *t)
{
	uint16_t at = spread_choose(s, b, i);
	struct lane *l = &lanes[at];

	if (unlikely(l->vq == NULL) && !open_lane(l, &d->vq[s->vring[at]]))
		return false;
	if (l->left == 0 || !find_buffer(d, l->vq, packed, l->index,
			d->hdr_len + edited_len(b, i, e), k, t))
		return false;
	l->left--;
	l->index = packed ? vring_advance(l->vq, l->index, 1) : (uint16_t)(l->index + 1);
	*lane = l;
	return true;
}

/* pipeline_copy_by_flow() of one kind, into one kind of virtqueue. */
static __rte_always_inline uint16_t
copy_by_flow(struct device *d, const struct spread *s, bool packed, enum kind kind,
	struct lane *lanes, struct burst *b, const struct run *run, uint16_t first)
{
	uint16_t end = (uint16_t)(RTE_MIN(b->limit, run->end) - first), found = 0, k;
	const uint64_t key = run->key, mask = run->mask;
	const struct edit e = kind == KIND_ANY ? edit_of(run) : (struct edit){ 0, 0 };
	struct lane *lane_of[BURST_VIEWS];
	struct target t;

	for (k = 0; k < s->n; k++)
		lanes[k].vq = NULL;
	for (k = 0; k < end; k++) {
		uint16_t i = (uint16_t)(first + k);
		struct lane *l;

		gather(b, (uint16_t)(i + GATHER_AHEAD));
		for (; found < end && found <= k + FIND_AHEAD; found++) {
			uint16_t f = (uint16_t)(first + found);

			if (!is_next(b, f, kind, key, mask) || !find_in_lane(d, packed, s, lanes, b,
					f, found, e, &lane_of[found], &t))
				end = found;
		}
		if (k == end)
			break;
		/* As in pipeline.c, found may be end + 1. */
		write_frame(d, t.at[k], kind, b, i, run, e,
			next_buffer(d, b, &t, k, RTE_MIN(found, end), i, e));
		l = lane_of[k];
		if (packed)
			l->used = vring_write_used_packed(l->vq, l->used, t.id[k],
				d->hdr_len + edited_len(b, i, e), 1);
		else
			l->vq->used->ring[l->used++ & (l->vq->size - 1)] =
				(struct vring_used_elem){ t.id[k],
					d->hdr_len + edited_len(b, i, e) };
	}
	close_lanes(s, lanes);
	return k;
}

static __rte_noinline uint16_t
split_plain(struct device *d, const struct spread *s, struct lane *lanes, struct burst *b,
	const struct run *run, uint16_t first)
{
	return copy_by_flow(d, s, false, KIND_PLAIN, lanes, b, run, first);
}

static __rte_noinline uint16_t
split_of_ports(struct device *d, const struct spread *s, struct lane *lanes, struct burst *b,
	const struct run *run, uint16_t first)
{
	return copy_by_flow(d, s, false, KIND_OF_PORTS, lanes, b, run, first);
}

static __rte_noinline uint16_t
split_asking(struct device *d, const struct spread *s, struct lane *lanes, struct burst *b,
	const struct run *run, uint16_t first)
{
	return copy_by_flow(d, s, false, KIND_ASKING, lanes, b, run, first);
}

static __rte_noinline uint16_t
split_any(struct device *d, const struct spread *s, struct lane *lanes, struct burst *b,
	const struct run *run, uint16_t first)
{
	return copy_by_flow(d, s, false, KIND_ANY, lanes, b, run, first);
}

static __rte_noinline uint16_t
packed_any(struct device *d, const struct spread *s, struct lane *lanes, struct burst *b,
	const struct run *run, uint16_t first)
{
	return copy_by_flow(d, s, true, KIND_ANY, lanes, b, run, first);
}

typedef uint16_t copy_fn(struct device *d, const struct spread *s, struct lane *lanes,
	struct burst *b, const struct run *run, uint16_t first);

static copy_fn *const copy_of[] = { split_plain, split_of_ports, split_asking, split_any };

uint16_t
pipeline_copy_by_flow(struct device *d, const struct spread *s, struct lane *lanes, struct burst *b,
	const struct run *run, uint16_t first)
{
	return (d->packed ? packed_any : copy_of[kind_of(b, run)])(d, s, lanes, b, run, first);
}
