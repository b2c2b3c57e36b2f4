/* SPDX-License-Identifier: BSD-3-Clause */
#include "switch/edit.h"
#include "switch/scatter.h"

/* Segments of the buffers of one frame, and buffers, at most. */
#define BUFFERS_MAX SEGMENTS_MAX

/* Buffers of any shape, for one frame. */
struct buffers {
	uint16_t n, nb_segments;
	struct chain chain[BUFFERS_MAX];
	uint32_t len[BUFFERS_MAX]; /* bytes that are written to each */
	struct iovec segment[SEGMENTS_MAX];
};

/*
 * Take as many buffers as bytes need: one, or several where the guest merges them. Nothing of the
 * virtqueue changes.
 */
static enum vring_status
take_buffers(const struct device *d, const struct virtqueue *vq, uint16_t available, uint32_t left,
	struct buffers *to)
{
	uint16_t index = vq->last_avail_idx, entries = 0, before, k;
	enum vring_status status;

	for (to->n = to->nb_segments = 0; left > 0; to->n++) {
		uint64_t room = 0;

		if (to->n > 0 && (!d->mergeable || to->n == BUFFERS_MAX))
			return VRING_TOO_LONG;
		before = to->nb_segments;
		status = to->n == available ? VRING_EMPTY
			: chain_walk(d, vq, index, true, to->segment, &to->nb_segments,
				SEGMENTS_MAX, &to->chain[to->n]);
		/* A frame that needs more than a whole ring of buffers never fits. */
		if (status == VRING_EMPTY && to->n > 0)
			return entries == vq->size ? VRING_TOO_LONG : VRING_SHORT;
		if (status != VRING_OK)
			return status;
		for (k = before; k < to->nb_segments; k++)
			room += to->segment[k].iov_len;
		if (room == 0) /* VIRTIO 1.1, 5.1.6.3.1: a buffer holds a header at least */
			return VRING_BROKEN;
		to->len[to->n] = (uint32_t)RTE_MIN(room, (uint64_t)left);
		left -= to->len[to->n];
		entries = (uint16_t)(entries + to->chain[to->n].count);
		index = vring_advance(vq, index, to->chain[to->n].count);
	}
	return VRING_OK;
}

/* Write header and frame i into buffers. */
static void
fill_buffers(const struct device *d, const struct buffers *to, struct burst *b, uint16_t i,
	const struct run *run)
{
	uint8_t header[VIRTIO_NET_HDR_LEN], head[HEAD_LEN];
	struct virtio_net_hdr moved;
	struct edit e = edit_of(run);
	uint32_t skip = 0, n;
	const struct iovec one = { (void *)(uintptr_t)b->data[i], b->len[i] };
	const struct iovec *s = b->nb_segments[i] == 1 ? &one : burst_segments(b, i);
	uint32_t off = d->hdr_len;
	uint16_t k;

	write_header(header, d->hdr_len, to->n, asks_of(b, i, e, &moved));
	chain_scatter(d, to->segment, 0, header, d->hdr_len);
	if (run->retag) {
		n = write_head(head, b, i, run, e, &skip);
		chain_scatter(d, to->segment, off, head, n);
		off += n;
	}
	for (k = 0; k < b->nb_segments[i]; k++) {
		uint32_t part = RTE_MIN(skip, (uint32_t)s[k].iov_len);

		chain_scatter(d, to->segment, off, (const uint8_t *)s[k].iov_base + part,
			(uint32_t)s[k].iov_len - part);
		off += (uint32_t)s[k].iov_len - part;
		skip -= part;
	}
	if (run->retag)
		return;
	n = b->rules != NULL ? RTE_ETHER_HDR_LEN : RTE_ETHER_ADDR_LEN;
	if (b->rules != NULL)
		memcpy(head, b->head[i], RTE_ETHER_HDR_LEN);
	else
		write_destination(head, b->key[i]);
	chain_scatter(d, to->segment, d->hdr_len, head, n);
}

enum vring_status
scatter_frame(const struct device *d, struct virtqueue *vq, struct burst *b, uint16_t i,
	const struct run *run, uint16_t available, uint16_t *entries)
{
	struct buffers to;
	enum vring_status status = take_buffers(d, vq, available,
		d->hdr_len + edited_len(b, i, edit_of(run)), &to);
	uint16_t k;

	*entries = 0;
	if (status != VRING_OK)
		return status;
	fill_buffers(d, &to, b, i, run);
	for (k = 0; k < to.n; k++) {
		vring_put_used(vq, to.chain[k].id, to.len[k], to.chain[k].count);
		vq->last_avail_idx = vring_advance(vq, vq->last_avail_idx, to.chain[k].count);
		*entries = (uint16_t)(*entries + to.chain[k].count);
	}
	return VRING_OK;
}
