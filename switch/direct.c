/* SPDX-License-Identifier: BSD-3-Clause */
#include <stddef.h>
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_cycles.h>
#include <rte_ether.h>
#include <rte_prefetch.h>

#include "switch/copy.h"
#include "switch/direct.h"

/* Pieces of memory that a frame may lie in; one in more takes the ordinary way. */
#define PIECES_MAX 20

/* Descriptors in a chain: librte_vhost's limit too (BUF_VECTOR_MAX). */
#define CHAIN_MAX 256

/* A longer frame takes the ordinary way. */
#define FRAME_MAX 65535

/* Frames whose owners are looked up at once. */
#define LOOKUP_AHEAD 8

/* Polls for which a ring is left to the ordinary path once its frames were not for us. */
#define SKIP_POLLS 15

/* How a look at a ring ended. */
enum verdict {
	GOOD,
	ORDINARY, /* the ordinary path knows what to do */
	FULL,	  /* no buffer left */
	SHORT,	  /* fewer buffers left than it needs */
	PAUSED,	  /* its front end is changing the device */
	TOO_LONG, /* longer than the buffer */
	BROKEN,	  /* against the rules */
};

struct piece {
	uint8_t *at;
	uint32_t len;
};

/* A receive ring that has got frames of the burst, which its driver has not been shown. */
struct receiver {
	const struct direct *d;
	struct direct_ring *ring;
	struct batch *batch;
};

/* A burst of a transmit ring. Its frames are looked at in steps, each some way ahead of the next. */
struct burst {
	const struct direct *d;
	const struct direct_ring *ring;
	uint16_t limit; /* frames there are: head is there */
	uint16_t n;	/* of these, those looked at, all of them good: nb_pieces, len, data are there */
	uint16_t keyed; /* of these, those whose destination has been read: key is there */
	uint16_t known; /* of these, those looked up: owner is there */
	enum verdict verdict; /* of the first frame that is not good; it is none of the n */
	uint16_t nb_receivers;
	struct receiver receiver[DIRECT_BURST];
	/* Field by field, as each step walks one field of all of them. */
	uint16_t head[DIRECT_BURST];
	uint16_t owner[DIRECT_BURST];
	uint8_t nb_pieces[DIRECT_BURST]; /* 1: all in data and len */
	uint32_t len[DIRECT_BURST];
	const uint8_t *data[DIRECT_BURST]; /* behind the virtio-net header */
	uint64_t key[DIRECT_BURST];	   /* destination MAC, read once */
	struct piece piece[DIRECT_BURST][PIECES_MAX];
};

/* Where frames go to: a buffer in one piece for each. */
struct target {
	uint16_t head[DIRECT_BURST];
	uint8_t *at[DIRECT_BURST];
};

/*
 * A descriptor is in the guest's hands: read it once and use that. A table of indirect ones may be
 * anywhere, so no alignment is taken for granted.
 */
static inline struct vring_desc
read_desc(const struct vring_desc *table, uint32_t i)
{
	struct vring_desc copy;

	memcpy(&copy, (const uint8_t *)table + i * sizeof(copy), sizeof(copy));
	rte_compiler_barrier(); /* what is used from here on is the copy */
	return copy;
}

static inline uint16_t
read_head(const struct direct_ring *r, uint16_t index)
{
	return __atomic_load_n(&r->avail->ring[index & (r->size - 1)], __ATOMIC_RELAXED);
}

static inline void
write_used(struct direct_ring *r, uint16_t index, uint16_t head, uint32_t len)
{
	r->used->ring[index & (r->size - 1)] = (struct vring_used_elem){ head, len };
}

/* Add guest memory to pieces, one where it lies in one region. */
static enum verdict
add_pieces(const struct direct *d, uint64_t addr, uint32_t len, struct piece *piece, uint16_t *n,
	uint16_t max)
{
	while (len > 0) {
		uint32_t part = len;
		uint8_t *at = direct_translate(d, addr, 1);

		if (at == NULL)
			return BROKEN;
		while (part > 1 && direct_translate(d, addr, part) == NULL)
			part /= 2; /* across regions: rare, and any split will do */
		if (*n == max)
			return ORDINARY;
		piece[(*n)++] = (struct piece){ at, part };
		addr += part;
		len -= part;
	}
	return GOOD;
}

/*
 * Walk a descriptor chain (VIRTIO 1.1, 2.6.5), of buffers that the device writes or only such that
 * it reads, and add where they are to pieces.
 */
static enum verdict
walk(const struct direct *d, const struct direct_ring *r, uint16_t head, bool write,
	struct piece *piece, uint16_t *n, uint16_t max)
{
	const struct vring_desc *table = r->desc;
	uint32_t entries = r->size, at = head, count;
	enum verdict v = GOOD, now;

	for (count = 0; count < CHAIN_MAX; count++) {
		struct vring_desc e;

		if (at >= entries)
			return BROKEN;
		e = read_desc(table, at);
		if (e.flags & VRING_DESC_F_INDIRECT) { /* 2.6.5.3 */
			if (table != r->desc || (e.flags & VRING_DESC_F_NEXT))
				return BROKEN;
			entries = e.len / sizeof(*table);
			table = direct_translate(d, e.addr, e.len);
			if (table == NULL)
				return direct_translate(d, e.addr, 1) != NULL ? ORDINARY : BROKEN;
			at = 0;
			continue;
		}
		if (!(e.flags & VRING_DESC_F_WRITE) == write)
			return BROKEN;
		if (v == GOOD) {
			now = add_pieces(d, e.addr, e.len, piece, n, max);
			if (now == BROKEN)
				return BROKEN;
			v = now;
		}
		if (!(e.flags & VRING_DESC_F_NEXT))
			return v;
		at = e.next;
	}
	return BROKEN;
}

/* Take bytes off the front; they are all in the first piece, or are the whole of it. */
static bool
cut_header(struct piece *piece, uint16_t *n, uint32_t len)
{
	if (piece[0].len > len) {
		piece[0].at += len;
		piece[0].len -= len;
		return true;
	}
	if (piece[0].len < len || *n < 2)
		return false;
	(*n)--;
	memmove(piece, piece + 1, *n * sizeof(*piece));
	return true;
}

static bool
asks_for_something(const uint8_t *header)
{
	return header[offsetof(struct virtio_net_hdr, flags)] != 0 ||
		header[offsetof(struct virtio_net_hdr, gso_type)] != VIRTIO_NET_HDR_GSO_NONE;
}

/* Frame i of a burst, whose descriptors are more than one. */
static enum verdict
gather_chain(struct burst *b, uint16_t i)
{
	const struct direct *d = b->d;
	struct piece *piece = b->piece[i];
	uint64_t len = 0;
	uint16_t n = 0, k;
	enum verdict v = walk(d, b->ring, b->head[i], false, piece, &n, PIECES_MAX);

	if (v != GOOD)
		return v;
	if (n == 0 || piece[0].len < d->hdr_len)
		return ORDINARY;
	if (d->host_offloads && asks_for_something(piece[0].at))
		return ORDINARY;
	if (!cut_header(piece, &n, d->hdr_len) || piece[0].len < RTE_ETHER_HDR_LEN)
		return ORDINARY;
	for (k = 0; k < n; k++)
		len += piece[k].len;
	if (len > FRAME_MAX)
		return ORDINARY;
	b->data[i] = piece[0].at;
	b->len[i] = (uint32_t)len;
	b->nb_pieces[i] = (uint8_t)n;
	return GOOD;
}

/* Frame i of a burst. */
static inline enum verdict
gather_one(struct burst *b, uint16_t i)
{
	const struct direct *d = b->d;
	const struct direct_ring *r = b->ring;
	struct vring_desc e;
	const uint8_t *at;

	if (unlikely(b->head[i] >= r->size))
		return BROKEN;
	e = read_desc(r->desc, b->head[i]);
	if (unlikely(e.flags & (VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT)))
		return gather_chain(b, i);
	at = direct_translate(d, e.addr, e.len);
	if (unlikely(at == NULL || (e.flags & VRING_DESC_F_WRITE)))
		return gather_chain(b, i);
	if (unlikely(e.len < (uint32_t)(d->hdr_len + RTE_ETHER_HDR_LEN) || e.len > FRAME_MAX))
		return ORDINARY;
	if (d->host_offloads && asks_for_something(at))
		return ORDINARY;
	b->data[i] = at + d->hdr_len;
	b->len[i] = e.len - d->hdr_len;
	b->nb_pieces[i] = 1;
	/* Its ends, where senders have written last. The CPU fetches what is between by itself. */
	rte_prefetch0(b->data[i]);
	rte_prefetch0(b->data[i] + b->len[i] - 1);
	return GOOD;
}

/*
 * Look at frames up to this one. A burst ends at the first frame that is not good: its turn will
 * come, as the first of another burst.
 */
static inline void
gather(struct burst *b, uint16_t upto)
{
	while (b->n < upto && b->n < b->limit) {
		enum verdict v = gather_one(b, b->n);

		if (unlikely(v != GOOD)) {
			b->verdict = v;
			b->limit = b->n;
			return;
		}
		b->n++;
	}
}

/*
 * Begin with what a transmit ring has to offer. The verdict is that of the first frame: later ones get
 * theirs when their turn has come.
 */
static enum verdict
start_burst(const struct direct *d, const struct direct_ring *r, uint16_t waiting, struct burst *b)
{
	uint16_t i;

	b->n = 0;
	if (unlikely(waiting > r->size))
		return BROKEN;
	b->d = d;
	b->ring = r;
	b->keyed = b->known = b->nb_receivers = 0;
	b->verdict = GOOD;
	b->limit = RTE_MIN(waiting, (uint16_t)DIRECT_BURST);
	for (i = 0; i < b->limit; i++) {
		b->head[i] = read_head(r, (uint16_t)(r->next_avail + i));
		if (likely(b->head[i] < r->size))
			rte_prefetch0(&r->desc[b->head[i]]);
	}
	gather(b, GATHER_AHEAD);
	return b->n > 0 ? GOOD : b->verdict;
}

/* Read the destinations of frames up to this one. */
static inline void
read_keys(struct burst *b, uint16_t upto)
{
	for (; b->keyed < upto && b->keyed < b->n; b->keyed++)
		b->key[b->keyed] = fdb_key((const struct rte_ether_addr *)b->data[b->keyed]);
}

/* Whether frame i is there and has this destination. */
static inline bool
is_for(struct burst *b, uint16_t i, uint64_t key)
{
	read_keys(b, (uint16_t)(i + 1));
	return i < b->n && b->key[i] == key;
}

/* Whose the destination of frame i is. */
static inline uint16_t
find_owner(struct fdb *fdb, struct burst *b, uint16_t i)
{
	if (i >= b->known) {
		read_keys(b, (uint16_t)(i + LOOKUP_AHEAD));
		fdb_lookup_burst(fdb, &b->key[i], (uint16_t)(b->keyed - i), &b->owner[i]);
		b->known = b->keyed;
	}
	return b->owner[i];
}

static void
write_header(uint8_t *at, uint8_t len, uint16_t num_buffers)
{
	/*
	 * Two numbers of which num_buffers is the upper half of the second, and no struct: that the
	 * compiler would write to the stack by fields and read by words, and a CPU can hand a load
	 * only what one store has written, so it would wait until all stores before have reached
	 * the cache, those of the last frame among them.
	 */
	uint64_t front = 0;
	uint32_t back = (uint32_t)num_buffers << 16;

	_Static_assert(VIRTIO_NET_HDR_LEN == sizeof(front) + sizeof(back), "the whole header");
	memcpy(at, &front, sizeof(front));
	if (likely(len == VIRTIO_NET_HDR_LEN))
		memcpy(at + sizeof(front), &back, sizeof(back));
	else
		memset(at + sizeof(front), 0, VIRTIO_NET_HDR_LEN_LEGACY - sizeof(front));
}

/* The frame is in the sender's hands: what it was switched by is written over what was copied. */
static void
write_destination(uint8_t *at, uint64_t key)
{
	memcpy(at, &key, RTE_ETHER_ADDR_LEN);
}

/* Copy frame i into a buffer that is long enough. */
static inline void
copy_frame(uint8_t *to, const struct burst *b, uint16_t i, struct copy_next next)
{
	uint8_t *at = to;
	uint16_t k;

	if (likely(b->nb_pieces[i] == 1)) {
		copy_and_fetch(at, b->data[i], b->len[i], next);
	} else {
		for (k = 0; k < b->nb_pieces[i]; k++) {
			memcpy(at, b->piece[i][k].at, b->piece[i][k].len);
			at += b->piece[i][k].len;
		}
	}
	write_destination(to, b->key[i]);
}

/* Copy bytes into pieces, from an offset on. */
static void
scatter(const struct piece *piece, uint32_t off, const uint8_t *from, uint32_t len)
{
	while (len > 0) {
		uint32_t part;

		for (; off >= piece->len; piece++)
			off -= piece->len;
		part = RTE_MIN(len, piece->len - off);
		memcpy(piece->at + off, from, part);
		off += part;
		from += part;
		len -= part;
	}
}

/*
 * Deliver frame i into buffers of any shape: several pieces, several buffers where the guest
 * merges them. On GOOD *used buffers have been used.
 */
static enum verdict
deliver_slow(const struct direct *d, struct direct_ring *r, const struct burst *b, uint16_t i,
	uint16_t available, uint16_t *used)
{
	struct piece piece[PIECES_MAX * 4];
	uint8_t header[VIRTIO_NET_HDR_LEN];
	uint8_t address[RTE_ETHER_ADDR_LEN];
	uint32_t left = d->hdr_len + b->len[i], off = d->hdr_len;
	uint16_t n = 0, heads = 0, k, before;

	while (left > 0) {
		uint16_t head;
		uint64_t room = 0;
		enum verdict v;

		if (heads > 0 && !d->mergeable)
			return TOO_LONG;
		if (heads == available) /* of a ring of free buffers more than all are needed */
			return heads == 0 ? FULL : heads == r->size ? TOO_LONG : SHORT;
		head = read_head(r, (uint16_t)(r->next_avail + heads));
		if (head >= r->size)
			return BROKEN;
		before = n;
		v = walk(d, r, head, true, piece, &n, RTE_DIM(piece));
		if (v != GOOD)
			return v;
		for (k = before; k < n; k++)
			room += piece[k].len;
		if (room == 0) /* VIRTIO 1.1, 5.1.6.3.1: a buffer holds a header at least */
			return BROKEN;
		room = RTE_MIN(room, left);
		write_used(r, (uint16_t)(r->next_used + heads), head, (uint32_t)room);
		left -= (uint32_t)room;
		heads++;
	}
	write_header(header, d->hdr_len, heads);
	scatter(piece, 0, header, d->hdr_len);
	if (b->nb_pieces[i] == 1) {
		scatter(piece, off, b->data[i], b->len[i]);
	} else {
		for (k = 0; k < b->nb_pieces[i]; k++) {
			scatter(piece, off, b->piece[i][k].at, b->piece[i][k].len);
			off += b->piece[i][k].len;
		}
	}
	write_destination(address, b->key[i]);
	scatter(piece, d->hdr_len, address, sizeof(address));
	r->next_avail = (uint16_t)(r->next_avail + heads);
	r->next_used = (uint16_t)(r->next_used + heads);
	*used = heads;
	return GOOD;
}

/* The receiver's buffer for so many bytes, if it is simply one that is long enough. */
static inline uint8_t *
simple_buffer(const struct direct *d, const struct direct_ring *r, uint16_t head, uint32_t need)
{
	struct vring_desc e;

	if (unlikely(head >= r->size))
		return NULL;
	e = read_desc(r->desc, head);
	if (unlikely(e.flags != VRING_DESC_F_WRITE || e.len < need))
		return NULL;
	return direct_translate(d, e.addr, need);
}

/* Find a buffer for frame i, the k-th of the ring's, and fetch its beginning. */
static inline bool
find_buffer(const struct direct *d, const struct direct_ring *r, const struct burst *b, uint16_t i,
	uint16_t k, struct target *t)
{
	uint32_t need = d->hdr_len + b->len[i];

	t->head[k] = read_head(r, (uint16_t)(r->next_avail + k));
	t->at[k] = simple_buffer(d, r, t->head[k], need);
	if (unlikely(t->at[k] == NULL))
		return false;
	prefetch_write(t->at[k]);
	if (need > RTE_CACHE_LINE_SIZE)
		prefetch_write(t->at[k] + RTE_CACHE_LINE_SIZE);
	return true;
}

/*
 * Copy frames of the burst into buffers that are simple, from the first on as long as they are, and
 * have one destination. Returns how many.
 */
static inline uint16_t
copy_simple(const struct direct *d, struct direct_ring *r, struct burst *b, uint16_t first,
	uint16_t available)
{
	uint16_t found = 0, end = available, k;
	struct target t;

	for (k = 0; k < end; k++) {
		uint16_t i = (uint16_t)(first + k);
		struct copy_next next = { NULL, NULL };

		gather(b, (uint16_t)(i + GATHER_AHEAD));
		for (; found < end && found <= k + FIND_AHEAD; found++) {
			uint16_t f = (uint16_t)(first + found);

			if (!is_for(b, f, b->key[first]) || !find_buffer(d, r, b, f, found, &t))
				end = found;
		}
		if (k == end)
			break;
		if (k + 1 < found)
			next = rest_of_buffer(t.at[k + 1], d->hdr_len + b->len[i + 1]);
		write_header(t.at[k], d->hdr_len, 1);
		copy_frame(t.at[k] + d->hdr_len, b, i, next);
		write_used(r, (uint16_t)(r->next_used + k), t.head[k], d->hdr_len + b->len[i]);
	}
	r->next_avail = (uint16_t)(r->next_avail + k);
	r->next_used = (uint16_t)(r->next_used + k);
	return k;
}

/*
 * Copy frames of the burst into a receive ring, from the first on as long as they have one
 * destination. Returns how many, and why no more.
 */
static uint16_t
fill_ring(const struct direct *d, struct direct_ring *r, struct burst *b, uint16_t first,
	enum verdict *v)
{
	uint16_t available, i = first, n;

	available = (uint16_t)(__atomic_load_n(&r->avail->idx, __ATOMIC_ACQUIRE) - r->next_avail);
	*v = GOOD;
	if (unlikely(available > r->size)) {
		*v = BROKEN;
		return 0;
	}
	for (;;) {
		n = copy_simple(d, r, b, i, available);
		available = (uint16_t)(available - n);
		i = (uint16_t)(i + n);
		if (likely(!is_for(b, i, b->key[first])))
			break;
		*v = deliver_slow(d, r, b, i, available, &n);
		if (*v != GOOD)
			break;
		available = (uint16_t)(available - n);
		i++;
	}
	return (uint16_t)(i - first);
}

void
direct_switch_off(struct worker *w, struct guest *g, enum guest_report report)
{
	if (!__atomic_exchange_n(&g->direct->broken, true, __ATOMIC_RELAXED))
		guests_report(w->sw->guests, g, report);
}

#define NO_RING QUEUE_PAIR_MAX
#define SEVERAL_RINGS (QUEUE_PAIR_MAX + 1)

/* The queue pair of the one receive ring that is enabled, or one of the above. */
static uint16_t
single_ring(const struct guest *g)
{
	uint64_t low = __atomic_load_n(&g->rings->rx[0], __ATOMIC_RELAXED);
	uint64_t high = __atomic_load_n(&g->rings->rx[1], __ATOMIC_RELAXED);

	_Static_assert(QUEUE_PAIR_WORDS == 2, "one more word to look at");
	if (likely(high == 0 && low != 0 && (low & (low - 1)) == 0))
		return (uint16_t)__builtin_ctzll(low);
	return low == 0 && high == 0 ? NO_RING : SEVERAL_RINGS;
}

/* Copy a run of frames to its receiver. Returns how many, and why no more. */
static uint16_t
deliver(struct worker *w, struct guest *to, struct burst *b, uint16_t first, enum verdict *v)
{
	struct batch *batch = &w->to_guest[to->id];
	struct direct *d = to->direct;
	uint16_t vring = (uint16_t)(2 * single_ring(to));
	struct direct_ring *r;
	uint16_t done = 0;

	*v = ORDINARY;
	if (unlikely(__atomic_load_n(&d->broken, __ATOMIC_RELAXED)))
		return 0;
	if (direct_is_paused(d)) {
		if (!__atomic_load_n(&d->gave_up, __ATOMIC_RELAXED))
			*v = PAUSED;
		return 0;
	}
	if (unlikely(vring >= d->nb_rings)) {
		/* for a moment, as messages change it, or for longer */
		if (vring == 2 * NO_RING && !__atomic_load_n(&d->gave_up, __ATOMIC_RELAXED))
			*v = PAUSED;
		return 0;
	}
	r = &d->ring[vring];
	rte_spinlock_lock(&r->lock);
	if (likely(direct_take(d, to->vid, vring)))
		done = fill_ring(d, r, b, first, v);
	else if (direct_is_paused(d) || (r->usable && r->lent == 0)) /* or was, just now */
		*v = PAUSED;
	rte_spinlock_unlock(&r->lock);
	if (done > 0 && !batch->touched) {
		batch->touched = true;
		b->receiver[b->nb_receivers++] = (struct receiver){ d, r, batch };
	}
	if (unlikely(*v == BROKEN)) {
		direct_switch_off(w, to, GUEST_REPORT_BROKEN_RECEIVE);
		*v = ORDINARY;
	}
	return done;
}

/*
 * A receiver takes nothing. Its sender is made to wait, with the frames where they are and whatever
 * is behind them. So that a slow receiver does not slow down all that its senders do, the time is
 * added up until it has taken a burst; when it is up, nobody waits for it before it has. patience
 * is in TSC cycles. Returns whether to wait.
 */
static bool
wait_for_receiver(struct batch *batch, uint64_t patience)
{
	uint64_t now;

	if (batch->stalled)
		return false;
	now = rte_rdtsc();
	if (batch->waiting != 0 && !batch->for_pause)
		batch->waited += now - batch->waiting;
	batch->waiting = now;
	batch->for_pause = false;
	batch->stalled = batch->waited >= patience;
	return !batch->stalled;
}

/*
 * The same for a receiver whose front end changes it, with a time of its own: for each change, and
 * for all of them.
 */
static bool
wait_for_change(struct batch *batch, const struct direct *d, uint64_t patience)
{
	unsigned int changes = __atomic_load_n(&d->changes, __ATOMIC_RELAXED);
	uint64_t now, part = 0;

	if (batch->stalled)
		return false;
	now = rte_rdtsc();
	if (batch->waiting != 0 && batch->for_pause)
		part = now - batch->waiting;
	batch->waiting = now;
	batch->for_pause = true;
	batch->waited_paused += part;
	batch->waited_change = batch->changes == changes ? batch->waited_change + part : 0;
	batch->changes = changes;
	batch->stalled = batch->waited_change >= patience ||
		batch->waited_paused >= PAUSES_MAX * patience;
	return !batch->stalled;
}

/* It took n frames. */
static inline void
note_taken(struct batch *batch, uint16_t n)
{
	if (likely((batch->waiting | batch->waited | batch->waited_paused) == 0) || n == 0)
		return;
	batch->waiting = 0;
	batch->taken = (uint16_t)(batch->taken + n);
	if (batch->taken >= BURST_MAX)
		batch_patience_afresh(batch);
}

/*
 * Frames of the burst, from the first on as long as they have one destination. Returns how many are
 * done with: copied, or dropped and counted. Of the others *v is FULL if they are to wait, ORDINARY
 * if they are to take the ordinary way.
 */
static uint16_t
switch_run(struct worker *w, struct guest *from, struct guest *to, struct burst *b, uint16_t first,
	enum verdict *v)
{
	struct guest_counters *tx = &w->counters.guest[from->id], *rx = &w->counters.guest[to->id];
	struct batch *batch = &w->to_guest[to->id];
	uint64_t key = b->key[first];
	uint16_t i = first, n;

	*v = ORDINARY;
	if (unlikely(batch->n > 0)) { /* frames that came before these, and not without a limit */
		if (batch->n >= BURST_MAX && batch->serial == to->serial)
			*v = FULL;
		return 0;
	}
	if (unlikely(batch->serial != to->serial)) { /* was another guest's */
		batch->serial = to->serial;
		batch_patience_afresh(batch);
	}
	while (is_for(b, i, key)) {
		n = deliver(w, to, b, i, v);
		tx->tx_ok += n;
		tx->tx_direct += n;
		rx->rx_ok += n;
		i = (uint16_t)(i + n);
		note_taken(batch, n);
		if (likely(*v == GOOD) || *v == ORDINARY)
			break;
		if (*v == PAUSED) {
			/* librte_vhost would take none of them, or let the worker stand still. */
			*v = wait_for_change(batch, to->direct, w->pause_patience)
				? FULL : ORDINARY;
			if (*v == ORDINARY) /* nobody is to wait for the same message again */
				__atomic_store_n(&to->direct->gave_up, true, __ATOMIC_RELAXED);
			break;
		}
		if (*v == TOO_LONG) {
			rx->rx_drop[RX_DROP_TOO_LONG]++;
			tx->tx_drop[TX_DROP_GUEST_TOO_LONG]++;
			i++;
		} else if (*v == FULL || *v == SHORT) {
			/* as long as the ordinary path would hold them */
			if (wait_for_receiver(batch, w->patience)) {
				*v = FULL;
				break;
			}
			do {
				rx->rx_drop[RX_DROP_RING_FULL]++;
				tx->tx_drop[TX_DROP_GUEST_FULL]++;
				i++;
			} while (*v == FULL && is_for(b, i, key));
		}
	}
	return (uint16_t)(i - first);
}

/* Switch a burst. Returns how many of its frames are done with, from the first on; *v as above. */
static uint16_t
switch_burst(struct worker *w, struct guest *from, struct burst *b, enum verdict *v)
{
	struct guest *to;
	uint16_t i = 0;

	while (i < b->n) {
		uint64_t key;

		to = guests_find(w->sw->guests, find_owner(w->sw->guests->fdb, b, i));
		key = b->key[i];
		*v = ORDINARY;
		if (to == NULL || to == from || guest_is_mirrored(to))
			return i;
		i = (uint16_t)(i + switch_run(w, from, to, b, i, v));
		if (is_for(b, i, key))
			return i;
		gather(b, (uint16_t)(i + GATHER_AHEAD));
	}
	return i;
}

/*
 * The end of a burst, of which the first n frames are done with: give the sender its buffers back,
 * let the receivers see theirs, and tell the drivers, each once. Another worker may have lent a
 * receiver's ring to librte_vhost meanwhile; then nothing is left to show or to tell (guest/direct.h).
 */
static void
finish_burst(struct burst *b, struct direct_ring *ring, uint16_t n)
{
	struct receiver *to;
	uint16_t i;

	for (i = 0; i < n; i++)
		write_used(ring, (uint16_t)(ring->next_used + i), b->head[i], 0);
	ring->next_avail = (uint16_t)(ring->next_avail + n);
	ring->next_used = (uint16_t)(ring->next_used + n);
	for (to = b->receiver; to < b->receiver + b->nb_receivers; to++) {
		rte_spinlock_lock(&to->ring->lock);
		direct_show(to->ring);
		rte_spinlock_unlock(&to->ring->lock);
	}
	direct_show(ring);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (to = b->receiver; to < b->receiver + b->nb_receivers; to++) {
		rte_spinlock_lock(&to->ring->lock);
		direct_tell(to->d, to->ring);
		rte_spinlock_unlock(&to->ring->lock);
		to->batch->touched = false;
	}
	direct_tell(b->d, ring);
}

uint32_t
direct_poll(struct worker *w, struct guest *from, uint16_t pair, bool *ordinary)
{
	struct direct *d = from->direct;
	uint16_t vring = (uint16_t)(2 * pair + 1), waiting, done = 0;
	struct direct_ring *r = &d->ring[vring];
	struct burst b;
	enum verdict v;

	*ordinary = false;
	if (unlikely(__atomic_load_n(&d->broken, __ATOMIC_RELAXED)))
		return 0;
	*ordinary = true;
	if (d->never || guest_is_mirrored(from))
		return 0;
	direct_enter(&w->section);
	if (unlikely(!direct_take(d, from->vid, vring)))
		return 0;
	if (r->skip > 0) {
		r->skip--;
		return 0;
	}
	waiting = (uint16_t)(__atomic_load_n(&r->avail->idx, __ATOMIC_ACQUIRE) - r->next_avail);
	*ordinary = false;
	if (waiting == 0)
		return 0;
	v = start_burst(d, r, waiting, &b);
	if (unlikely(v == BROKEN)) {
		direct_switch_off(w, from, GUEST_REPORT_BROKEN_TRANSMIT);
		return 0;
	}
	if (unlikely(v == ORDINARY || !from->registered)) {
		r->skip = SKIP_POLLS;
		*ordinary = true;
		return 0;
	}
	done = switch_burst(w, from, &b, &v);
	if (done > 0)
		finish_burst(&b, r, done);
	*ordinary = done < b.n && v == ORDINARY;
	if (*ordinary && done == 0)
		r->skip = SKIP_POLLS;
	return done;
}

enum direct_bar
direct_bar_of(const struct guest *g)
{
	const struct direct *d = g->direct;

	if (__atomic_load_n(&d->broken, __ATOMIC_RELAXED))
		return DIRECT_BAR_BROKEN;
	if (__atomic_load_n(&d->paused, __ATOMIC_ACQUIRE))
		return DIRECT_BAR_PAUSED;
	if (d->bar != DIRECT_BAR_NONE)
		return (enum direct_bar)d->bar;
	if (guest_is_mirrored(g))
		return DIRECT_BAR_MIRRORED;
	return single_ring(g) < QUEUE_PAIR_MAX ? DIRECT_BAR_NONE : DIRECT_BAR_RINGS;
}
