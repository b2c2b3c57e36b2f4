/* SPDX-License-Identifier: BSD-3-Clause */
#include "switch/pipeline.h"

void
pipeline_copy_edited(uint8_t *to, struct burst *b, uint16_t i, const struct run *run, struct edit e,
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

/* pipeline_copy() of one kind, into one kind of virtqueue. */
static __rte_always_inline uint16_t
copy_simple(const struct device *d, struct virtqueue *vq, bool packed, enum kind kind,
	struct burst *b, const struct run *run, uint16_t first, uint16_t available)
{
	uint16_t end = RTE_MIN(available, (uint16_t)(RTE_MIN(b->limit, run->end) - first));
	uint16_t found = 0, index = vq->last_avail_idx, used = vq->last_used_idx, k;
	const uint64_t key = run->key, mask = run->mask;
	const struct edit e = kind == KIND_ANY ? edit_of(run) : (struct edit){ 0, 0 };
	struct target t;

	for (k = 0; k < end; k++) {
		uint16_t i = (uint16_t)(first + k);

		gather(b, (uint16_t)(i + GATHER_AHEAD));
		for (; found < end && found <= k + FIND_AHEAD; found++) {
			uint16_t f = (uint16_t)(first + found);

			if (!is_next(b, f, kind, key, mask) ||
					!find_buffer(d, vq, packed, packed ? index
						: (uint16_t)(vq->last_avail_idx + found),
						d->hdr_len + edited_len(b, f, e), found, &t))
				end = found;
			else if (packed)
				index = vring_advance(vq, index, 1);
		}
		if (k == end)
			break;
		/* found is end + 1 once a frame had no simple buffer; a break would be slower. */
		write_frame(d, t.at[k], kind, b, i, run, e,
			next_buffer(d, b, &t, k, RTE_MIN(found, end), i, e));
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
split_any(const struct device *d, struct virtqueue *vq, struct burst *b, const struct run *run,
	uint16_t first, uint16_t available)
{
	return copy_simple(d, vq, false, KIND_ANY, b, run, first, available);
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
packed_any(const struct device *d, struct virtqueue *vq, struct burst *b, const struct run *run,
	uint16_t first, uint16_t available)
{
	return copy_simple(d, vq, true, KIND_ANY, b, run, first, available);
}

typedef uint16_t copy_fn(const struct device *d, struct virtqueue *vq, struct burst *b,
	const struct run *run, uint16_t first, uint16_t available);

static copy_fn *const copy_of[2][4] = {
	{ split_plain, split_of_ports, split_asking, split_any },
	{ packed_plain, packed_of_ports, packed_any, packed_any },
};

uint16_t
pipeline_copy(const struct device *d, struct virtqueue *vq, struct burst *b, const struct run *run,
	uint16_t first, uint16_t available)
{
	return copy_of[vq->packed][kind_of(b, run)](d, vq, b, run, first, available);
}
