/* SPDX-License-Identifier: BSD-3-Clause */
#include <netinet/in.h>
#include <stddef.h>

#include <rte_hash_crc.h>
#include <rte_ip.h>
#include <rte_net.h>

#include "port/guest.h"
#include "switch/deliver.h"
#include "switch/mirror.h"
#include "switch/worker.h"

/* Segments of the buffers of one frame, and buffers, at most. */
#define BUFFERS_MAX SEGMENTS_MAX

/* Bytes of a frame that tell its flow: Ethernet with two tags, IPv6 with options, ports. */
#define FLOW_BYTES 128

/* Where frames go to: a buffer in one segment for each. */
struct target {
	uint16_t id[BURST_VIEWS];
	uint8_t *at[BURST_VIEWS];
};

/* Buffers of any shape, for one frame. */
struct buffers {
	uint16_t n, nb_segments;
	struct chain chain[BUFFERS_MAX];
	uint32_t len[BUFFERS_MAX]; /* bytes that are written to each */
	struct iovec segment[SEGMENTS_MAX];
};

/* The virtio-net header of a frame; asks: what it asks for, NULL: nothing. */
static inline void
write_header(uint8_t *at, uint8_t len, uint16_t num_buffers, const struct virtio_net_hdr *asks)
{
	/*
	 * Two numbers of which num_buffers is the upper half of the second, and no struct: that the
	 * compiler would write to the stack by fields and read by words, and a CPU can hand a load
	 * only what one store has written, so it would wait until all stores before have reached
	 * the cache, those of the last frame among them.
	 */
	uint64_t front = 0;
	uint32_t back = (uint32_t)num_buffers << 16;

	_Static_assert(VIRTIO_NET_HDR_LEN == sizeof(front) + sizeof(back) &&
		offsetof(struct virtio_net_hdr, csum_offset) == sizeof(front), "the whole header");
	if (asks != NULL) {
		memcpy(&front, asks, sizeof(front));
		back |= asks->csum_offset;
	}
	memcpy(at, &front, sizeof(front));
	if (likely(len == VIRTIO_NET_HDR_LEN))
		memcpy(at + sizeof(front), &back, sizeof(back));
	else
		memcpy(at + sizeof(front), &back, VIRTIO_NET_HDR_LEN_LEGACY - sizeof(front));
}

/* Copy frame i into a buffer that is long enough. */
static __rte_always_inline void
copy_frame(uint8_t *to, struct burst *b, uint16_t i, struct copy_next next)
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
	write_destination(to, b->key[i]);
}

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
fill_buffers(const struct device *d, const struct buffers *to, struct burst *b, uint16_t i)
{
	uint8_t header[VIRTIO_NET_HDR_LEN], address[RTE_ETHER_ADDR_LEN];
	const struct iovec one = { (void *)(uintptr_t)b->data[i], b->len[i] };
	const struct iovec *s = b->nb_segments[i] == 1 ? &one : burst_segments(b, i);
	uint32_t off = d->hdr_len;
	uint16_t k;

	write_header(header, d->hdr_len, to->n, burst_asks(b, i) ? &b->header[i] : NULL);
	chain_scatter(d, to->segment, 0, header, d->hdr_len);
	for (k = 0; k < b->nb_segments[i]; k++) {
		chain_scatter(d, to->segment, off, s[k].iov_base, (uint32_t)s[k].iov_len);
		off += (uint32_t)s[k].iov_len;
	}
	write_destination(address, b->key[i]);
	chain_scatter(d, to->segment, d->hdr_len, address, sizeof(address));
}

/*
 * Deliver frame i into buffers of any shape. *entries: how many entries of the virtqueue these
 * were.
 */
static enum vring_status
deliver_slow(const struct device *d, struct virtqueue *vq, struct burst *b, uint16_t i,
	uint16_t available, uint16_t *entries)
{
	struct buffers to;
	enum vring_status status = take_buffers(d, vq, available, d->hdr_len + b->len[i], &to);
	uint16_t k;

	*entries = 0;
	if (status != VRING_OK)
		return status;
	fill_buffers(d, &to, b, i);
	for (k = 0; k < to.n; k++) {
		vring_put_used(vq, to.chain[k].id, to.len[k], to.chain[k].count);
		vq->last_avail_idx = vring_advance(vq, vq->last_avail_idx, to.chain[k].count);
		*entries = (uint16_t)(*entries + to.chain[k].count);
	}
	return VRING_OK;
}

/*
 * Find a buffer for frame i, the k-th of the virtqueue's: one that is simply long enough. Prefetch
 * its beginning. index is where it is, of a packed virtqueue.
 */
static inline bool
find_buffer(const struct device *d, const struct virtqueue *vq, bool packed, uint16_t index,
	const struct burst *b, uint16_t i, uint16_t k, struct target *t)
{
	uint32_t need = d->hdr_len + b->len[i];
	struct vring_desc e;

	if (!packed)
		t->id[k] = chain_head(vq, (uint16_t)(vq->last_avail_idx + k));
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

/*
 * Copy frames of a run into buffers that are simple, from the first on as long as they are. Some
 * of them may ask for something if asks is set. Returns how many.
 */
static __rte_always_inline uint16_t
copy_simple(const struct device *d, struct virtqueue *vq, bool packed, bool asks, struct burst *b,
	const struct run *run, uint16_t first, uint16_t available)
{
	uint16_t end = RTE_MIN(available, (uint16_t)(RTE_MIN(b->limit, run->end) - first));
	uint16_t found = 0, index = vq->last_avail_idx, k;
	struct target t;

	for (k = 0; k < end; k++) {
		uint16_t i = (uint16_t)(first + k);
		struct copy_next next = { NULL, NULL };

		gather(b, (uint16_t)(i + GATHER_AHEAD));
		for (; found < end && found <= k + FIND_AHEAD; found++) {
			uint16_t f = (uint16_t)(first + found);

			read_keys(b, (uint16_t)(f + 1));
			if (f >= b->n || ((b->key[f] ^ run->key) & run->mask) != 0 ||
					!find_buffer(d, vq, packed, index, b, f, found, &t))
				end = found;
			else if (packed)
				index = vring_advance(vq, index, 1);
		}
		if (k == end)
			break;
		if (k + 1 < found)
			next = rest_of_buffer(t.at[k + 1], d->hdr_len + b->len[i + 1]);
		write_header(t.at[k], d->hdr_len, 1,
			asks && b->asks[i] != 0 ? &b->header[i] : NULL);
		copy_frame(t.at[k] + d->hdr_len, b, i, next);
		if (packed)
			vring_put_used(vq, t.id[k], d->hdr_len + b->len[i], 1);
		else
			vq->used->ring[(uint16_t)(vq->last_used_idx + k) & (vq->size - 1)] =
				(struct vring_used_elem){ t.id[k], d->hdr_len + b->len[i] };
	}
	if (packed) {
		vq->last_avail_idx = vring_advance(vq, vq->last_avail_idx, k);
		return k;
	}
	vq->last_avail_idx = (uint16_t)(vq->last_avail_idx + k);
	vq->last_used_idx = (uint16_t)(vq->last_used_idx + k);
	return k;
}

/* One function for each kind, each without a look at what the others need. */
static __rte_noinline uint16_t
copy_split(const struct device *d, struct virtqueue *vq, struct burst *b, const struct run *run,
	uint16_t first, uint16_t available)
{
	return copy_simple(d, vq, false, false, b, run, first, available);
}

static __rte_noinline uint16_t
copy_split_asking(const struct device *d, struct virtqueue *vq, struct burst *b,
	const struct run *run, uint16_t first, uint16_t available)
{
	return copy_simple(d, vq, false, true, b, run, first, available);
}

static __rte_noinline uint16_t
copy_packed(const struct device *d, struct virtqueue *vq, struct burst *b, const struct run *run,
	uint16_t first)
{
	return copy_simple(d, vq, true, false, b, run, first, UINT16_MAX);
}

static __rte_noinline uint16_t
copy_packed_asking(const struct device *d, struct virtqueue *vq, struct burst *b,
	const struct run *run, uint16_t first)
{
	return copy_simple(d, vq, true, true, b, run, first, UINT16_MAX);
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
		if (unlikely(d->logging)) {
			gather(b, (uint16_t)(i + GATHER_AHEAD));
		} else if (likely(!vq->packed)) {
			n = likely(!b->has_asks) ? copy_split(d, vq, b, run, i, available)
				: copy_split_asking(d, vq, b, run, i, available);
			available = (uint16_t)(available - n);
			i = (uint16_t)(i + n);
		} else {
			n = likely(!b->has_asks) ? copy_packed(d, vq, b, run, i)
				: copy_packed_asking(d, vq, b, run, i);
			i = (uint16_t)(i + n);
		}
		if (likely(!in_run(b, i, run)))
			break;
		*status = deliver_slow(d, vq, b, i, available, &n);
		if (*status != VRING_OK)
			break;
		if (likely(!vq->packed))
			available = (uint16_t)(available - n);
		i++;
	}
	return (uint16_t)(i - run->first);
}

/* A number that is the same for all frames of a flow: addresses and, where there are, ports. */
static uint32_t
flow_hash(struct burst *b, uint16_t i)
{
	uint8_t bytes[FLOW_BYTES];
	uint32_t len = burst_read(b, i, bytes, sizeof(bytes));
	struct rte_mbuf m = { .buf_addr = bytes, .nb_segs = 1, .pkt_len = len,
		.data_len = (uint16_t)len };
	struct rte_net_hdr_lens lens = { 0 };
	uint32_t ptype = rte_net_get_ptype(&m, &lens, RTE_PTYPE_L2_MASK | RTE_PTYPE_L3_MASK |
		RTE_PTYPE_L4_MASK);
	uint32_t hash = rte_hash_crc(bytes, 2 * RTE_ETHER_ADDR_LEN, 0);
	uint32_t l3 = lens.l2_len, l4 = l3 + lens.l3_len, l4_type = ptype & RTE_PTYPE_L4_MASK;

	if (RTE_ETH_IS_IPV4_HDR(ptype) && l4 <= len)
		hash = rte_hash_crc(bytes + l3 + 12, 8, hash); /* RFC 791: addresses at 12 */
	else if (RTE_ETH_IS_IPV6_HDR(ptype) && l4 <= len)
		hash = rte_hash_crc(bytes + l3 + 8, 32, hash); /* RFC 8200: addresses at 8 */
	if ((l4_type == RTE_PTYPE_L4_TCP || l4_type == RTE_PTYPE_L4_UDP) && l4 + 4 <= len)
		hash = rte_hash_crc(bytes + l4, 4, hash);
	return hash;
}

/*
 * flow_hash() of the usual frame, without a look at what it might be instead: its headers are in
 * one piece, and are Ethernet, IPv4 without options, and TCP or UDP.
 */
static inline uint32_t
flow_hash_quick(struct burst *b, uint16_t i)
{
	const uint8_t *f = b->data[i];
	const struct rte_ipv4_hdr *ip = (const void *)(f + RTE_ETHER_HDR_LEN);
	uint32_t hash;

	if (b->nb_segments[i] != 1 || b->len[i] < RTE_ETHER_HDR_LEN + sizeof(*ip) + 4 ||
			((const struct rte_ether_hdr *)f)->ether_type !=
				RTE_BE16(RTE_ETHER_TYPE_IPV4) ||
			ip->version_ihl != RTE_IPV4_VHL_DEF ||
			(ip->fragment_offset &
				RTE_BE16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)) ||
			(ip->next_proto_id != IPPROTO_TCP && ip->next_proto_id != IPPROTO_UDP))
		return flow_hash(b, i);
	hash = rte_hash_crc(f, 2 * RTE_ETHER_ADDR_LEN, 0);
	hash = rte_hash_crc(&ip->src_addr, 8, hash);
	return rte_hash_crc(ip + 1, 4, hash);
}

/* The receive virtqueues of a device that flows are spread over. */
struct spread {
	uint16_t n;
	uint16_t vring[QUEUE_PAIR_MAX];
};

static void
spread_of(const struct device *d, struct spread *s)
{
	uint16_t pair;

	s->n = 0;
	FOREACH_PAIR(pair, d->rx)
		s->vring[s->n++] = VRING_RX(pair);
}

/* The virtqueue of frame i. The upper bits of the hash decide, by a multiplication. */
static inline uint16_t
vring_of_flow(const struct spread *s, struct burst *b, uint16_t i)
{
	return s->vring[(uint64_t)flow_hash_quick(b, i) * s->n >> 32];
}

uint16_t
deliver_vring(const struct device *d, struct burst *b, uint16_t i)
{
	uint64_t low = __atomic_load_n(&d->rx[0], __ATOMIC_RELAXED);
	uint64_t high = __atomic_load_n(&d->rx[1], __ATOMIC_RELAXED);
	struct spread s;

	_Static_assert(QUEUE_PAIR_WORDS == 2, "one more word to read");
	if (likely(high == 0 && low != 0 && (low & (low - 1)) == 0))
		return VRING_RX(__builtin_ctzll(low));
	spread_of(d, &s);
	return s.n == 0 ? RINGS_MAX : vring_of_flow(&s, b, i);
}

bool
deliver_has_several(const struct device *d)
{
	uint64_t low = __atomic_load_n(&d->rx[0], __ATOMIC_RELAXED);

	return __atomic_load_n(&d->rx[1], __ATOMIC_RELAXED) != 0 || (low & (low - 1)) != 0;
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
		mirror_views(w->sw->mirror, b, run->first, done);
	return done;
}

/* Copy a run to a guest that has several virtqueues: parts of it, each for one of them. */
static uint16_t
deliver_by_flow(struct worker *w, struct guest *to, struct burst *b, const struct run *run,
	enum vring_status *status)
{
	struct run part = *run;
	uint16_t next = RINGS_MAX;
	struct spread s;

	*status = VRING_PAUSED; /* for a moment, as messages change it, or for longer */
	spread_of(to->device, &s);
	if (s.n == 0)
		return 0;
	*status = VRING_OK;
	if (in_run(b, part.first, run))
		next = vring_of_flow(&s, b, part.first);
	while (next != RINGS_MAX && *status == VRING_OK) {
		part.vring = next;
		part.end = part.first;
		do {
			part.end++;
			gather(b, (uint16_t)(part.end + GATHER_AHEAD));
			next = in_run(b, part.end, run) ? vring_of_flow(&s, b, part.end)
							: RINGS_MAX;
		} while (next == part.vring);
		part.first = (uint16_t)(part.first + deliver_to_vring(w, to, b, &part, status));
	}
	return (uint16_t)(part.first - run->first);
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
		if (unlikely(deliver_has_several(d)))
			return deliver_by_flow(w, to, b, run, status);
		whole.vring = deliver_vring(d, b, run->first);
		*status = VRING_PAUSED; /* for a moment, as messages change it, or for longer */
		if (unlikely(whole.vring == RINGS_MAX))
			return 0;
	}
	return deliver_to_vring(w, to, b, &whole, status);
}

/* Give the sender back the chains of the first frames. */
static void
complete(struct burst *b, uint16_t done)
{
	struct virtqueue *vq = b->vq;
	struct vring_used_elem *ring = vq->used->ring;
	uint16_t at = vq->last_used_idx, mask = (uint16_t)(vq->size - 1), i;

	if (unlikely(vq->packed)) {
		for (i = 0; i < done; i++) {
			vring_put_used(vq, b->id[i], 0, b->count[i]);
			vq->last_avail_idx = vring_advance(vq, vq->last_avail_idx, b->count[i]);
		}
		return;
	}
	for (i = 0; i < done; i++)
		ring[(uint16_t)(at + i) & mask] = (struct vring_used_elem){ b->id[i], 0 };
	vq->last_avail_idx = (uint16_t)(vq->last_avail_idx + done);
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
