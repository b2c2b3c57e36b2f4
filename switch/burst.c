/* SPDX-License-Identifier: BSD-3-Clause */
#include "stats/counters.h"
#include "switch/burst.h"

/* Frames that burst_gather_packed() gathers beyond those asked for: fewer calls. */
#define GATHER_MORE 3

/* Frames by which tables of indirect descriptors are prefetched before they are read. */
#define TABLE_AHEAD 8

/*
 * Take the header off a chain: it has a segment of its own, as Linux sends it, or a part of one or
 * several.
 */
static bool
take_header(const struct device *d, struct iovec *segment, uint16_t *n, uint8_t *header)
{
	if (unlikely(*n < 2 || segment[0].iov_len != d->hdr_len))
		return chain_pull(segment, n, header, d->hdr_len);
	if (d->may_ask != 0)
		memcpy(header, segment[0].iov_base, VIRTIO_NET_HDR_LEN_LEGACY);
	--*n;
	segment[0] = segment[1];
	if (unlikely(*n > 1))
		memmove(segment + 1, segment + 2, (*n - 1u) * sizeof(*segment));
	return true;
}

/* Note a frame whose header is taken off. */
static enum vring_status
note_frame(struct burst *b, uint16_t i, const struct iovec *segment, uint16_t n,
	const uint8_t *header)
{
	uint64_t len = 0;
	uint16_t k;

	for (k = 0; k < n; k++)
		len += segment[k].iov_len;
	if (unlikely(len < RTE_ETHER_HDR_LEN))
		return VRING_RUNT;
	if (unlikely(len > FRAME_MAX))
		return VRING_TOO_LONG;
	b->len[i] = (uint32_t)len;
	b->nb_segments[i] = n;
	b->data[i] = segment[0].iov_base;
	rte_prefetch0(b->data[i]);
	rte_prefetch0(b->data[i] + segment[0].iov_len - 1);
	if (unlikely(segment[0].iov_len < RTE_MIN(len, (uint64_t)HEAD_LEN))) {
		b->data[i] = b->head[i];
		burst_read(b, i, b->head[i], HEAD_LEN);
	}
	if (!b->has_asks)
		return VRING_OK;
	b->asks[i] = 0;
	if (header_asks(header))
		burst_check_header(b, i, header);
	return VRING_OK;
}

/*
 * Walk a chain. There is one place for a frame of many segments: a second such frame ends the
 * burst. On VRING_EMPTY there is nothing to be given back.
 */
static enum vring_status
walk_chain(struct burst *b, uint16_t i, uint16_t index, struct iovec **segment, uint16_t *n,
	struct chain *chain)
{
	enum vring_status status;

	*n = 0;
	*segment = b->segment[i];
	status = chain_walk(b->d, b->vq, index, false, *segment, n, SEGMENTS_KEPT, chain);
	if (likely(status != VRING_TOO_LONG))
		return status;
	if (b->long_frame < i)
		return VRING_EMPTY;
	b->long_frame = i;
	*n = 0;
	*segment = b->long_segment;
	return chain_walk(b->d, b->vq, index, false, *segment, n, SEGMENTS_MAX, chain);
}

void
burst_check_header(struct burst *b, uint16_t i, const uint8_t *header)
{
	uint8_t front[OFFLOAD_HEADERS_MAX], asks;
	struct virtio_net_hdr asked;
	uint32_t have = 0;

	memcpy(&asked, header, sizeof(asked));
	rte_compiler_barrier(); /* what is checked is the copy */
	if (asked.gso_type != VIRTIO_NET_HDR_GSO_NONE)
		have = burst_read(b, i, front, sizeof(front));
	asks = offload_check_header(&asked, b->d->may_ask, front, have, b->len[i], &b->header[i]);
	burst_note_asks(b, i, asks);
	b->why[i] = TX_DROP_OFFLOAD; /* if it is OFFLOAD_INVALID */
}

enum vring_status
burst_gather_chain(struct burst *b, uint16_t i)
{
	uint16_t n, index = b->vq->packed ? b->index : (uint16_t)(b->vq->last_avail_idx + i);
	uint8_t header[VIRTIO_NET_HDR_LEN];
	struct iovec *segment;
	struct chain chain;
	enum vring_status status;

	if (!b->vq->packed && i + TABLE_AHEAD < b->limit)
		chain_prefetch_table(b->d, b->vq, b->id[i + TABLE_AHEAD]);
	status = walk_chain(b, i, index, &segment, &n, &chain);
	if (status == VRING_EMPTY || status == VRING_BROKEN)
		return status;
	b->id[i] = chain.id; /* also of a frame that is to be dropped */
	b->count[i] = chain.count;
	if (likely(status == VRING_OK) && unlikely(!take_header(b->d, segment, &n, header)))
		status = VRING_RUNT;
	if (likely(status == VRING_OK))
		status = note_frame(b, i, segment, n, header);
	if (likely(status == VRING_OK))
		b->index = vring_advance(b->vq, index, chain.count);
	return status;
}

void
burst_gather_packed(struct burst *b, uint16_t upto)
{
	gather_vring(b, (uint16_t)(upto + GATHER_MORE), true);
}

void
burst_of_vring(struct burst *b, struct device *d, struct virtqueue *vq)
{
	uint16_t waiting = BURST_VIEWS, i;

	b->n = 0;
	b->status = VRING_EMPTY;
	if (likely(!vq->packed)) {
		waiting = (uint16_t)(__atomic_load_n(&vq->avail->idx, __ATOMIC_ACQUIRE) -
			vq->last_avail_idx);
		if (waiting == 0)
			return;
	}
	b->d = d;
	b->vq = vq;
	b->mbuf = NULL;
	b->rules = NULL;
	b->keyed = b->known = b->nb_receivers = 0;
	b->has_asks = d->may_ask != 0;
	if (b->has_asks)
		memset(b->asks, ASKS_UNREAD, sizeof(b->asks));
	b->long_frame = BURST_VIEWS;
	b->index = vq->last_avail_idx;
	b->limit = RTE_MIN(waiting, (uint16_t)BURST_VIEWS);
	b->status = VRING_OK;
	if (unlikely(!vq->packed && waiting > vq->size)) {
		b->status = VRING_BROKEN;
		return;
	}
	for (i = 0; i < b->limit && likely(!vq->packed); i++) {
		b->id[i] = chain_head(vq, (uint16_t)(vq->last_avail_idx + i));
		if (likely(b->id[i] < vq->size))
			rte_prefetch0(&vq->desc[b->id[i]]);
	}
	for (i = 0; i < b->limit; i++)
		b->nb_segments[i] = 1;
	gather(b, GATHER_AHEAD);
}

void
burst_of_mbufs(struct burst *b, struct rte_mbuf **frames, uint16_t n)
{
	uint16_t i;

	b->d = NULL;
	b->vq = NULL;
	b->mbuf = frames;
	b->rules = NULL;
	b->limit = b->n = n;
	b->keyed = b->known = b->nb_receivers = 0;
	b->status = VRING_OK;
	b->has_asks = false;
	for (i = 0; i < n; i++) {
		b->data[i] = rte_pktmbuf_mtod(frames[i], const uint8_t *);
		b->len[i] = rte_pktmbuf_pkt_len(frames[i]);
		b->nb_segments[i] = frames[i]->nb_segs;
	}
}

const struct iovec *
burst_segments(struct burst *b, uint16_t i)
{
	const struct rte_mbuf *m;
	uint16_t n = 0;

	if (b->mbuf == NULL)
		return i == b->long_frame ? b->long_segment : b->segment[i];
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
append(struct rte_mbuf *m, struct rte_mbuf **last, const uint8_t *from, uint32_t len)
{
	while (len > 0) {
		uint32_t part = RTE_MIN(len, (uint32_t)rte_pktmbuf_tailroom(*last));

		if (part == 0) {
			struct rte_mbuf *more = rte_pktmbuf_alloc(m->pool);

			if (more == NULL)
				return false;
			(*last)->next = more;
			*last = more;
			m->nb_segs++;
			continue;
		}
		rte_memcpy(rte_pktmbuf_mtod_offset(*last, uint8_t *, (*last)->data_len), from,
			part);
		(*last)->data_len = (uint16_t)((*last)->data_len + part);
		m->pkt_len += part;
		from += part;
		len -= part;
	}
	return true;
}

/*
 * A frame of several segments, or one that an mbuf has no room for. Returns false if the pool is
 * empty.
 */
static bool
append_all(struct burst *b, uint16_t i, struct rte_mbuf *m, uint32_t max)
{
	const struct iovec one = { (void *)(uintptr_t)b->data[i], b->len[i] };
	const struct iovec *s = b->nb_segments[i] == 1 ? &one : burst_segments(b, i);
	struct rte_mbuf *last = m;
	uint16_t k;

	for (k = 0; k < b->nb_segments[i] && max > 0; k++) {
		uint32_t part = RTE_MIN(max, (uint32_t)s[k].iov_len);

		if (!append(m, &last, s[k].iov_base, part))
			return false;
		max -= part;
	}
	return true;
}

struct rte_mbuf *
burst_copy_into(struct burst *b, uint16_t i, struct rte_mbuf *m, uint32_t max)
{
	uint32_t len = RTE_MIN(max, b->len[i]);

	if (likely(b->nb_segments[i] == 1 && len <= rte_pktmbuf_tailroom(m))) {
		rte_memcpy(rte_pktmbuf_mtod(m, void *), b->data[i], len);
		m->data_len = (uint16_t)len;
		m->pkt_len = len;
	} else if (!append_all(b, i, m, max)) {
		rte_pktmbuf_free(m);
		return NULL;
	}
	if (likely(b->rules == NULL)) {
		read_keys(b, (uint16_t)(i + 1));
		write_destination(rte_pktmbuf_mtod(m, void *), b->key[i]);
	} else if (likely(i < b->keyed)) { /* a port that is down is not learned from */
		memcpy(rte_pktmbuf_mtod(m, void *), b->head[i], RTE_MIN(m->data_len,
			(uint16_t)(b->key[i] & KEY_TAGGED ? HEAD_LEN : RTE_ETHER_HDR_LEN)));
	}
	return m;
}

struct rte_mbuf *
burst_copy(struct burst *b, uint16_t i, struct rte_mempool *pool, uint32_t max)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

	return m != NULL ? burst_copy_into(b, i, m, max) : NULL;
}
