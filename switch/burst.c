/* SPDX-License-Identifier: BSD-3-Clause */
#include "switch/burst.h"

/* The header of a chain, and the frame behind it. */
static enum vring_status
take_header(struct burst *b, uint16_t i, struct iovec *segment, uint16_t *n)
{
	uint8_t header[VIRTIO_NET_HDR_LEN];
	uint64_t len = 0;
	uint16_t k;

	if (!chain_pull(segment, n, header, b->d->hdr_len))
		return VRING_RUNT;
	for (k = 0; k < *n; k++)
		len += segment[k].iov_len;
	if (len < RTE_ETHER_HDR_LEN)
		return VRING_RUNT;
	if (len > FRAME_MAX)
		return VRING_TOO_LONG;
	b->len[i] = (uint32_t)len;
	b->unfinished[i] = b->d->host_offloads && header_asks(header);
	if (b->unfinished[i])
		memcpy(&b->header[i], header, sizeof(b->header[i]));
	return VRING_OK;
}

/* There is one place for a frame of many segments: a second such frame ends the burst. */
static bool
keep_segments(struct burst *b, uint16_t i, const struct iovec *segment, uint16_t n)
{
	if (n > SEGMENTS_KEPT && b->long_frame < BURST_VIEWS)
		return false;
	if (n > SEGMENTS_KEPT)
		b->long_frame = i;
	memcpy(n > SEGMENTS_KEPT ? b->long_segment : b->segment[i], segment, n * sizeof(*segment));
	b->nb_segments[i] = n;
	return true;
}

enum vring_status
burst_gather_chain(struct burst *b, uint16_t i)
{
	struct iovec segment[SEGMENTS_MAX];
	struct chain chain;
	uint16_t n = 0, index = b->vq->packed ? b->index
					      : (uint16_t)(b->vq->last_avail_idx + i);
	enum vring_status status = chain_walk(b->d, b->vq, index, false, segment, &n,
		SEGMENTS_MAX, &chain);

	if (status == VRING_OK)
		status = take_header(b, i, segment, &n);
	if (status == VRING_EMPTY || status == VRING_BROKEN)
		return status;
	b->id[i] = chain.id; /* also of a frame that is to be dropped */
	b->count[i] = chain.count;
	if (status != VRING_OK)
		return status;
	if (!keep_segments(b, i, segment, n))
		return VRING_EMPTY;
	b->index = vring_advance(b->vq, index, chain.count);
	b->data[i] = segment[0].iov_base;
	if (segment[0].iov_len < RTE_ETHER_HDR_LEN) {
		b->data[i] = b->ether[i];
		burst_read(b, i, b->ether[i], RTE_ETHER_HDR_LEN);
	}
	return VRING_OK;
}

void
burst_of_vring(struct burst *b, struct device *d, struct virtqueue *vq)
{
	uint16_t waiting, i;

	b->d = d;
	b->vq = vq;
	b->mbuf = NULL;
	b->n = b->keyed = b->known = b->nb_receivers = 0;
	b->long_frame = BURST_VIEWS;
	b->status = VRING_OK;
	b->index = vq->last_avail_idx;
	b->limit = BURST_VIEWS;
	if (likely(!vq->packed)) {
		waiting = (uint16_t)(__atomic_load_n(&vq->avail->idx, __ATOMIC_ACQUIRE) -
			vq->last_avail_idx);
		b->limit = RTE_MIN(waiting, b->limit);
		if (unlikely(waiting > vq->size)) {
			b->status = VRING_BROKEN;
			b->limit = 0;
		}
		for (i = 0; i < b->limit; i++) {
			b->id[i] = chain_head(vq, (uint16_t)(vq->last_avail_idx + i));
			if (likely(b->id[i] < vq->size))
				rte_prefetch0(&vq->desc[b->id[i]]);
		}
	}
	gather(b, GATHER_AHEAD);
}

void
burst_of_mbufs(struct burst *b, struct rte_mbuf **frames, uint16_t n)
{
	uint16_t i;

	b->d = NULL;
	b->vq = NULL;
	b->mbuf = frames;
	b->limit = b->n = n;
	b->keyed = b->known = b->nb_receivers = 0;
	b->status = VRING_OK;
	for (i = 0; i < n; i++) {
		b->data[i] = rte_pktmbuf_mtod(frames[i], const uint8_t *);
		b->len[i] = rte_pktmbuf_pkt_len(frames[i]);
		b->nb_segments[i] = frames[i]->nb_segs;
		b->unfinished[i] = false;
	}
}

const struct iovec *
burst_segments(struct burst *b, uint16_t i)
{
	const struct rte_mbuf *m;
	uint16_t n = 0;

	if (b->mbuf == NULL)
		return b->nb_segments[i] > SEGMENTS_KEPT ? b->long_segment : b->segment[i];
	for (m = b->mbuf[i]; m != NULL && n < SEGMENTS_MAX; m = m->next)
		b->long_segment[n++] = (struct iovec){ rte_pktmbuf_mtod(m, void *),
			rte_pktmbuf_data_len(m) };
	b->nb_segments[i] = n;
	return b->long_segment;
}

uint32_t
burst_read(struct burst *b, uint16_t i, void *to, uint32_t len)
{
	const struct iovec one = { (void *)(uintptr_t)b->data[i], b->len[i] };
	const struct iovec *s = b->nb_segments[i] == 1 ? &one : burst_segments(b, i);
	uint32_t done = 0;
	uint16_t k;

	for (k = 0; k < b->nb_segments[i] && done < len; k++) {
		uint32_t part = RTE_MIN(len - done, (uint32_t)s[k].iov_len);

		memcpy((uint8_t *)to + done, s[k].iov_base, part);
		done += part;
	}
	return done;
}

/* Append bytes to a chain of mbufs, whose last is *last. Returns false if the pool is empty. */
static bool
append(struct rte_mbuf *m, struct rte_mbuf **last, struct rte_mempool *pool, const uint8_t *from,
	uint32_t len)
{
	while (len > 0) {
		uint32_t part = RTE_MIN(len, (uint32_t)rte_pktmbuf_tailroom(*last));

		if (part == 0) {
			struct rte_mbuf *more = rte_pktmbuf_alloc(pool);

			if (more == NULL)
				return false;
			(*last)->next = more;
			*last = more;
			m->nb_segs++;
			continue;
		}
		rte_memcpy(rte_pktmbuf_mtod_offset(*last, uint8_t *, (*last)->data_len), from, part);
		(*last)->data_len = (uint16_t)((*last)->data_len + part);
		m->pkt_len += part;
		from += part;
		len -= part;
	}
	return true;
}

struct rte_mbuf *
burst_copy(struct burst *b, uint16_t i, struct rte_mempool *pool, uint32_t max)
{
	const struct iovec one = { (void *)(uintptr_t)b->data[i], b->len[i] };
	const struct iovec *s = b->nb_segments[i] == 1 ? &one : burst_segments(b, i);
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool), *last = m;
	uint16_t k;

	if (m == NULL)
		return NULL;
	for (k = 0; k < b->nb_segments[i] && max > 0; k++) {
		uint32_t part = RTE_MIN(max, (uint32_t)s[k].iov_len);

		if (!append(m, &last, pool, s[k].iov_base, part)) {
			rte_pktmbuf_free(m);
			return NULL;
		}
		max -= part;
	}
	read_keys(b, (uint16_t)(i + 1));
	write_destination(rte_pktmbuf_mtod(m, void *), b->key[i]);
	return m;
}
