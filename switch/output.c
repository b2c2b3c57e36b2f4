/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <string.h>

#include <rte_branch_prediction.h>

#include "port/guest.h"
#include "switch/deliver.h"
#include "switch/offload.h"
#include "switch/spread.h"
#include "switch/worker.h"
#include "uplink/vlan.h"

/*
 * Most segments that a batch becomes in one round: 32 frames of 64 KiB at the MSS of Ethernet (45
 * segments each) leave at once. Frames with a smaller MSS wait for the next round.
 */
#define SEGMENTS_A_FLUSH 2048

/* What a frame is counted as that was not delivered. */
static const struct {
	enum rx_drop rx;
	enum tx_drop tx;
} drop_of[] = {
	[VRING_EMPTY] = { RX_DROP_RING_FULL, TX_DROP_GUEST_FULL },
	[VRING_SHORT] = { RX_DROP_RING_FULL, TX_DROP_GUEST_FULL },
	[VRING_PAUSED] = { RX_DROP_RING_FULL, TX_DROP_GUEST_FULL },
	[VRING_TOO_LONG] = { RX_DROP_TOO_LONG, TX_DROP_GUEST_TOO_LONG },
	[VRING_STOPPED] = { RX_DROP_GUEST_STOPPED, TX_DROP_GUEST_STOPPED },
	[VRING_DISABLED] = { RX_DROP_DISABLED, TX_DROP_GUEST_DISABLED },
	[VRING_UNABLE] = { RX_DROP_OFFLOAD, TX_DROP_OFFLOAD },
};

/* Count what became of a frame for its sender, unless that is the uplink or a flood. */
static void
count_sender(struct worker *w, uint16_t sender, bool sent, enum tx_drop why)
{
	if (sender >= ID_MAX)
		return;
	if (sent)
		w->counters.guest[sender].tx_ok++;
	else
		w->counters.guest[sender].tx_drop[why]++;
}

static uint16_t
sender_of(const struct burst *b, const struct run *run, uint16_t i)
{
	return b->mbuf != NULL ? b->mbuf[i]->port : run->sender;
}

/* Count frames of a run that a guest took. */
static inline void
count_delivered(struct worker *w, const struct guest *to, const struct burst *b,
	const struct run *run, uint16_t first, uint16_t n)
{
	uint16_t i;

	w->counters.guest[to->id].rx_ok += n;
	if (likely(b->mbuf == NULL && run->sender < ID_MAX)) {
		w->counters.guest[run->sender].tx_ok += n;
		w->counters.guest[run->sender].tx_direct += n;
		return;
	}
	for (i = first; i < first + n; i++)
		count_sender(w, sender_of(b, run, i), true, TX_DROP_GUEST_FULL);
}

/* Count a frame that a guest did not take. */
static void
count_dropped(struct worker *w, const struct guest *to, uint16_t sender, enum rx_drop rx,
	enum tx_drop tx)
{
	w->counters.guest[to->id].rx_drop[rx]++;
	count_sender(w, sender, false, tx);
}

void
drop_from_guest(struct worker *w, uint16_t id, enum tx_drop why, struct rte_mbuf *m)
{
	w->counters.guest[id].tx_drop[why]++;
	rte_pktmbuf_free(m);
}

static void
drop_mbuf(struct worker *w, const struct guest *to, struct rte_mbuf *m, enum rx_drop rx,
	enum tx_drop tx)
{
	count_dropped(w, to, m->port, rx, tx);
	rte_pktmbuf_free(m);
}

/* Whether frames are to wait for a guest that did not take them for this reason. */
static bool
may_wait(struct worker *w, const struct guest *to, enum vring_status status)
{
	struct retry *retry = &w->to_guest[to->id].retry;

	if (status == VRING_EMPTY || status == VRING_SHORT)
		return retry_full(retry, w->rounds, w->retry_timeout);
	if (status == VRING_PAUSED)
		return retry_paused(retry, w->rounds,
			__atomic_load_n(&to->device->changes, __ATOMIC_RELAXED), w->pause_timeout);
	return status == VRING_UNABLE; /* the next time somebody finishes them for it */
}

/* Whether what stopped one frame stops those after it in the run likewise. */
static bool
stops_all(const struct guest *to, enum vring_status status)
{
	if (status == VRING_EMPTY)
		return !spread_has_several(to->device);
	return status != VRING_TOO_LONG && status != VRING_SHORT;
}

/*
 * Deliver frames of a run, or drop those that are not to wait. Returns how many are done with, from
 * the first on.
 */
static uint16_t
send_run(struct worker *w, struct guest *to, struct burst *b, const struct run *run)
{
	struct run rest = *run;
	enum vring_status status;
	uint16_t n;

	while (in_run(b, rest.first, run)) {
		n = deliver(w, to, b, &rest, &status);
		count_delivered(w, to, b, run, rest.first, n);
		rest.first = (uint16_t)(rest.first + n);
		retry_taken(&w->to_guest[to->id].retry, n);
		if (likely(status == VRING_OK) || may_wait(w, to, status))
			break;
		do {
			count_dropped(w, to, sender_of(b, run, rest.first), drop_of[status].rx,
				drop_of[status].tx);
			rest.first++;
		} while (stops_all(to, status) && in_run(b, rest.first, run));
	}
	return (uint16_t)(rest.first - run->first);
}

static void flush_guest(struct worker *w, struct batch *batch);

/* Drop what waits for who is not there any more, or for to, whose port has changed. */
static void
drop_frames(struct worker *w, struct batch *batch, const struct guest *to)
{
	uint16_t i;

	for (i = 0; i < batch->n; i++)
		count_sender(w, batch->frame[i]->port, false, TX_DROP_GUEST_FULL);
	if (to != NULL && guest_serials_match(to->serial, batch->serial))
		w->counters.guest[to->id].rx_drop[RX_DROP_RING_FULL] += batch->n;
	rte_pktmbuf_free_bulk(batch->frame, batch->n);
	batch->n = 0;
}

/* Frames that a batch may have: more while a message changes its guest. */
static uint16_t
batch_limit(const struct batch *batch)
{
	return unlikely(retry_is_paused(&batch->retry)) ? BATCH_MAX : BURST_MAX;
}

/*
 * The batch of a guest, which may have been another guest's, or that of a port in another VLAN.
 */
static inline struct batch *
batch_of(struct worker *w, struct guest *to)
{
	struct batch *batch = &w->to_guest[to->id];
	uint64_t serial = __atomic_load_n(&to->serial, __ATOMIC_RELAXED);

	if (unlikely(batch->serial != serial)) {
		drop_frames(w, batch, to);
		batch->serial = serial;
		retry_reset(&batch->retry);
	}
	return batch;
}

void
output_mbuf(struct worker *w, struct guest *to, struct rte_mbuf *m)
{
	struct batch *batch = batch_of(w, to);

	if (batch->n >= batch_limit(batch)) {
		count_dropped(w, to, m->port, RX_DROP_RING_FULL, TX_DROP_GUEST_FULL);
		rte_pktmbuf_free(m);
		return;
	}
	if (!batch->listed) {
		batch->listed = true;
		batch->guest = to;
		w->dirty[w->n_dirty++] = to->id;
	}
	batch->frame[batch->n++] = m;
	w->buffered += m->nb_segs;
	if (batch->n >= BURST_MAX)
		flush_guest(w, batch);
}

bool
output_has_room(struct worker *w, struct guest *to)
{
	return batch_of(w, to)->n < BURST_MAX;
}

int
output_retag(struct rte_mbuf **m, uint16_t tag, uint16_t priority)
{
	if (vlan_in_frame(*m) && tag == 0)
		vlan_remove(*m);
	else if (vlan_in_frame(*m))
		vlan_replace(*m, tag);
	else if (tag != 0)
		return vlan_insert(m, tag | priority, false);
	return 0;
}

/* Defer a frame. An mbuf changes hands, a frame of a guest is copied. */
static void
defer(struct worker *w, struct guest *to, struct burst *b, const struct run *run, uint16_t i)
{
	struct rte_mbuf *m;

	if (b->mbuf != NULL) {
		m = b->mbuf[i];
		b->mbuf[i] = NULL;
	} else {
		m = burst_copy(b, i, w->sw->pool, UINT32_MAX);
		if (m == NULL) {
			count_dropped(w, to, run->sender, RX_DROP_NO_MBUF, TX_DROP_NO_MBUF);
			return;
		}
		m->port = run->sender;
		if (unlikely(burst_asks(b, i) != 0) &&
				offload_read_header(m, &b->header[i]) < 0) {
			drop_mbuf(w, to, m, RX_DROP_OFFLOAD, TX_DROP_OFFLOAD);
			return;
		}
		if (unlikely(run->retag) && output_retag(&m, run->tag, burst_priority(b, i)) < 0) {
			drop_mbuf(w, to, m, RX_DROP_NO_MBUF, TX_DROP_NO_MBUF);
			return;
		}
	}
	output_mbuf(w, to, m);
}

uint16_t
output_run(struct worker *w, struct guest *to, struct burst *b, const struct run *run)
{
	bool waits = b->mbuf == NULL && run->sender < ID_MAX;
	struct batch *batch = batch_of(w, to);
	struct run rest = *run;

	for (;;) {
		if (likely(batch->n == 0))
			rest.first = (uint16_t)(rest.first + send_run(w, to, b, &rest));
		if (likely(!in_run(b, rest.first, run)))
			break;
		if (waits && (batch->n == 0 || batch->n >= BURST_MAX))
			break;
		defer(w, to, b, run, rest.first++);
	}
	return (uint16_t)(rest.first - run->first);
}

/*
 * Offer at most BURST_VIEWS mbufs, that the guest can finish, to a virtqueue of it. Those that are
 * done with are freed; returns how many these are, from the first on.
 */
static uint16_t
send_mbufs(struct worker *w, struct guest *to, struct rte_mbuf **frames, uint16_t n, uint16_t vring)
{
	struct run run = { .end = n, .sender = FROM_GONE, .vring = vring };
	struct burst b;
	uint16_t i, done;

	burst_of_mbufs(&b, frames, n);
	for (i = 0; i < n; i++) {
		if (!(frames[i]->ol_flags & OFFLOAD_FLAGS))
			continue;
		burst_note_asks(&b, i, offload_needs(frames[i]));
		offload_write_header(frames[i], &b.header[i]);
	}
	done = send_run(w, to, &b, &run);
	deliver_finish(&b, 0);
	rte_pktmbuf_free_bulk(frames, done);
	return done;
}

/*
 * The same, each to the virtqueue of its flow. A virtqueue that is full does not stop the others.
 * What stays is moved to the front, in order within each flow; returns how many these are.
 */
static uint16_t
send_by_flow(struct worker *w, struct guest *to, struct rte_mbuf **frames, uint16_t n)
{
	struct rte_mbuf *part[BURST_VIEWS], *stay[BURST_VIEWS];
	uint16_t vring[BURST_VIEWS], left = 0, i, j, k, done;
	struct burst b;

	burst_of_mbufs(&b, frames, n);
	for (i = 0; i < n; i++)
		vring[i] = spread_find_vring(to->device, &b, i);
	for (i = 0; i < n; i++) {
		if (frames[i] == NULL)
			continue;
		for (j = i, k = 0; j < n; j++) {
			if (frames[j] != NULL && vring[j] == vring[i]) {
				part[k++] = frames[j];
				frames[j] = NULL;
			}
		}
		done = send_mbufs(w, to, part, k, vring[i]);
		while (done < k)
			stay[left++] = part[done++];
	}
	memcpy(frames, stay, left * sizeof(frames[0]));
	return left;
}

/* send_by_flow(), or simpler for a guest with one virtqueue. */
static uint16_t
send_finished(struct worker *w, struct guest *to, struct rte_mbuf **frames, uint16_t n)
{
	uint16_t done;

	if (n == 0)
		return 0;
	if (unlikely(spread_has_several(to->device)))
		return send_by_flow(w, to, frames, n);
	done = send_mbufs(w, to, frames, n, RINGS_MAX);
	memmove(frames, frames + done, (size_t)(n - done) * sizeof(frames[0]));
	return (uint16_t)(n - done);
}

static void
drop_unfinished(struct worker *w, const struct guest *to, struct rte_mbuf *m, int error)
{
	bool empty = error == -ENOMEM;

	drop_mbuf(w, to, m, empty ? RX_DROP_NO_MBUF : RX_DROP_OFFLOAD,
		empty ? TX_DROP_NO_MBUF : TX_DROP_OFFLOAD);
}

/*
 * Send a frame of unsegmented TCP in segments. It is counted as one frame, when all of it has been
 * taken. Returns whether it is done with; if not, the guest has no buffers or *budget, in segments,
 * is used up.
 */
static bool
send_segments(struct worker *w, struct guest *to, struct rte_mbuf *m, uint16_t *budget)
{
	struct rte_mbuf *out[BURST_MAX];
	enum vring_status status;
	struct burst b;
	uint16_t sent;
	int n;

	while (*budget > 0) {
		n = offload_segment(m, w->sw->pool, out, RTE_MIN(*budget, (uint16_t)BURST_MAX));
		if (n < 0) {
			drop_unfinished(w, to, m, n);
			return true;
		}
		burst_of_mbufs(&b, out, (uint16_t)n);
		sent = deliver(w, to, &b, &(struct run){ .end = (uint16_t)n, .vring = RINGS_MAX },
			&status);
		deliver_finish(&b, 0);
		rte_pktmbuf_free_bulk(out, (unsigned int)n);
		retry_taken(&w->to_guest[to->id].retry, sent);
		*budget = (uint16_t)(*budget - sent);
		if (offload_advance(m, sent)) {
			w->counters.guest[to->id].rx_ok++;
			count_sender(w, m->port, true, TX_DROP_GUEST_FULL);
			rte_pktmbuf_free(m);
			return true;
		}
		if (sent < n && may_wait(w, to, status))
			return false;
		if (sent < n) {
			drop_mbuf(w, to, m, drop_of[status].rx, drop_of[status].tx);
			return true;
		}
	}
	return false;
}

/* Complete checksums for a guest that cannot. */
static void
finish_checksums(struct worker *w, struct batch *batch)
{
	uint8_t accepts = guest_accepts(batch->guest);
	uint16_t i, n = 0;
	int ret;

	for (i = 0; i < batch->n; i++) {
		struct rte_mbuf *m = batch->frame[i];

		if (!(m->ol_flags & RTE_MBUF_F_TX_TCP_SEG) &&
				offload_exceeds(m, accepts)) {
			ret = offload_finish_checksum(m);
			if (ret < 0) {
				drop_unfinished(w, batch->guest, m, ret);
				continue;
			}
		}
		batch->frame[n++] = m;
	}
	batch->n = n;
}

/* How many frames there are from i on that the guest can finish; at most BURST_VIEWS. */
static uint16_t
count_finished(const struct batch *batch, uint16_t i)
{
	uint8_t accepts = guest_accepts(batch->guest);
	uint16_t n = 0;

	while (n < BURST_VIEWS && i + n < batch->n &&
			!offload_exceeds(batch->frame[i + n], accepts))
		n++;
	return n;
}

/* Offer all frames of a batch, in order. Those that stay move to the front. */
static void
flush_guest(struct worker *w, struct batch *batch)
{
	struct guest *to = batch->guest;
	uint16_t budget = SEGMENTS_A_FLUSH, i = 0, n, left = 0;

	if (w->sw->finishes)
		finish_checksums(w, batch);
	while (i < batch->n) {
		n = count_finished(batch, i);
		left = send_finished(w, to, &batch->frame[i], n);
		memmove(&batch->frame[i + n - left], &batch->frame[i],
			left * sizeof(batch->frame[0]));
		i = (uint16_t)(i + n - left);
		if (left > 0)
			break;
		if (i < batch->n && n < BURST_VIEWS) {
			if (!send_segments(w, to, batch->frame[i], &budget))
				break;
			i++;
		}
	}
	batch->n = (uint16_t)(batch->n - i);
	memmove(batch->frame, &batch->frame[i], batch->n * sizeof(batch->frame[0]));
	if (likely(w->deferred <= DEFERRED_MAX))
		return;
	while (batch->n > 0)
		drop_mbuf(w, to, batch->frame[--batch->n], RX_DROP_RING_FULL, TX_DROP_GUEST_FULL);
}

static uint32_t
count_mbufs(const struct batch *batch)
{
	uint32_t mbufs = 0;
	uint16_t i;

	for (i = 0; i < batch->n; i++)
		mbufs += batch->frame[i]->nb_segs;
	return mbufs;
}

void
output_flush(struct worker *w)
{
	uint16_t i, listed = 0;

	w->deferred = 0;
	for (i = 0; i < w->n_dirty; i++) {
		struct batch *batch = &w->to_guest[w->dirty[i]];

		if (batch->n > 0)
			flush_guest(w, batch);
		batch->listed = batch->n > 0;
		if (unlikely(batch->listed)) {
			w->deferred += count_mbufs(batch);
			w->dirty[listed++] = w->dirty[i];
		}
	}
	w->n_dirty = listed;
	w->buffered = w->deferred;
	if (w->to_uplink.n > 0)
		output_flush_uplink(w);
}

/* Drop what stayed for a guest that has left, and who has its id now, or whose port has changed. */
static void
drop_orphans(struct worker *w, struct batch *batch, const struct guest *to)
{
	drop_frames(w, batch, to);
	batch->listed = false;
}

/*
 * A guest that leaves is not to be found in one round of each worker at least, between the two
 * grace periods of leave_locked(); after that its id may be another's, for whom what it sent does
 * not count.
 */
static void
forget_senders(const struct worker *w, struct batch *batch)
{
	uint16_t i;

	for (i = 0; i < batch->n; i++) {
		if (batch->frame[i]->port < ID_MAX &&
				guests_get(w->sw->guests, batch->frame[i]->port) == NULL)
			batch->frame[i]->port = FROM_GONE;
	}
}

bool
output_holds_floods(const struct worker *w)
{
	uint16_t i;

	for (i = 0; i < w->n_dirty; i++) {
		const struct batch *batch = &w->to_guest[w->dirty[i]];

		if (batch->n >= BATCH_HOLD && retry_is_paused(&batch->retry))
			return true;
	}
	return false;
}

void
output_resume(struct worker *w)
{
	uint16_t i, listed = 0;

	for (i = 0; i < w->n_dirty; i++) {
		struct batch *batch = &w->to_guest[w->dirty[i]];
		struct guest *g = guests_get(w->sw->guests, w->dirty[i]);

		forget_senders(w, batch);
		if (g == NULL || __atomic_load_n(&g->serial, __ATOMIC_RELAXED) != batch->serial) {
			drop_orphans(w, batch, g);
			continue;
		}
		batch->guest = g;
		w->dirty[listed++] = w->dirty[i];
	}
	w->n_dirty = listed;
}

void
output_drop_all(struct worker *w)
{
	uint16_t i;

	for (i = 0; i < w->n_dirty; i++)
		drop_orphans(w, &w->to_guest[w->dirty[i]], NULL);
	w->n_dirty = 0;
}
