/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_hash_crc.h>
#include <rte_net.h>

#include "guest/buffers.h"
#include "switch/direct.h"
#include "switch/offload.h"
#include "switch/vlan.h"
#include "switch/worker.h"

/*
 * Most segments that a batch becomes in one round: 32 frames of 64 KiB at the MSS of Ethernet (45
 * segments each) leave at once. Frames with a smaller MSS wait for the next round.
 */
#define SEGMENTS_A_FLUSH 2048

/* Count what became of a frame for its sender, if it waits for the outcome. */
static void
count_sender(struct worker *w, uint16_t sender, bool sent, enum tx_drop why)
{
	if (sender >= GUEST_MAX)
		return; /* from the uplink, or flooded */
	if (sent)
		w->counters.guest[sender].tx_ok++;
	else
		w->counters.guest[sender].tx_drop[why]++;
}

/* The same for n frames, of which the first were sent. */
static void
count_senders(struct worker *w, struct rte_mbuf **frames, uint16_t n, uint16_t sent,
	enum tx_drop why)
{
	uint16_t i;

	for (i = 0; i < n; i++)
		count_sender(w, frames[i]->port, i < sent, why);
}

/* Free all frames of a batch and count them for their senders. */
static void
drop_frames(struct worker *w, struct batch *b, enum tx_drop why)
{
	count_senders(w, b->frame, b->n, 0, why);
	rte_pktmbuf_free_bulk(b->frame, b->n);
	b->n = 0;
	b->give_up_at = 0;
}

void
output_drop_full(struct worker *w, const struct guest *g, struct rte_mbuf *m)
{
	w->counters.guest[g->id].rx_drop[RX_DROP_RING_FULL]++;
	count_senders(w, &m, 1, 0, TX_DROP_GUEST_FULL);
	rte_pktmbuf_free(m);
}

/* enqueue() under the ring's lock. Returns how many the ring took in as many calls as it needs. */
static uint16_t
enqueue_locked(struct worker *w, struct guest *g, uint16_t ring, struct rte_mbuf **frames, uint16_t n)
{
	uint16_t vring = (uint16_t)(2 * ring), sent = 0, now, part;
	int most;

	direct_enter(&w->section);
	most = direct_lend(g->direct, g->vid, vring);
	direct_leave(&w->section);
	if (unlikely(most <= 0)) {
		if (most < 0)
			direct_switch_off(w, g, GUEST_REPORT_BROKEN_RECEIVE);
		return 0;
	}
	do {
		part = (uint16_t)RTE_MIN(most, n - sent);
		now = rte_vhost_enqueue_burst(g->vid, vring, frames + sent, part);
		sent = (uint16_t)(sent + now);
	} while (now == part && sent < n && direct_lends_for_long(g->direct, vring));
	direct_return(g->direct, g->vid, vring, &w->section);
	return sent;
}

/*
 * Give frames to a guest by librte_vhost, which copies them. It may wait for a lock that control
 * holds while control waits for sections: this is outside of one, and so is waiting for another
 * worker that gives frames to the same ring.
 */
static uint16_t
enqueue(struct worker *w, struct guest *g, uint16_t ring, struct rte_mbuf **frames, uint16_t n)
{
	uint16_t sent = 0, now;

	direct_leave(&w->section);
	rte_spinlock_lock(&g->rx_lock[ring]);
	do {
		now = enqueue_locked(w, g, ring, frames + sent, (uint16_t)(n - sent));
		sent = (uint16_t)(sent + now);
	} while (now > 0 && sent < n && !direct_lends_for_long(g->direct, (uint16_t)(2 * ring)));
	rte_spinlock_unlock(&g->rx_lock[ring]);
	if (guest_is_mirrored(g))
		mirror_frames(w->sw->mirror, frames, sent);
	return sent;
}

static bool
is_switched_off(const struct guest *g)
{
	return __atomic_load_n(&g->direct->broken, __ATOMIC_RELAXED);
}

/*
 * Offer frames to one ring, in order. Those that are done with (taken, or longer than the guest's
 * buffers, or when it has been waited for, than those that it has now) are counted, and freed by the
 * caller; returns how many these are, from the first on.
 */
static uint16_t
send_ring(struct worker *w, struct batch *b, uint16_t ring, struct rte_mbuf **frames, uint16_t n)
{
	struct guest_counters *to = &w->counters.guest[b->guest->id];
	uint16_t done = 0, sent;
	enum guest_room room;

	while (done < n) {
		sent = enqueue(w, b->guest, ring, frames + done, (uint16_t)(n - done));
		to->rx_ok += sent;
		count_senders(w, frames + done, sent, sent, TX_DROP_GUEST_FULL);
		done = (uint16_t)(done + sent);
		if (likely(done == n))
			break;
		room = guest_room(b->guest, &w->section, (uint16_t)(2 * ring),
			rte_pktmbuf_pkt_len(frames[done]));
		if (likely(room == GUEST_FULL) || (room == GUEST_SHORT && !b->stalled))
			break;
		/* Let those after it try. */
		to->rx_drop[room == GUEST_SHORT ? RX_DROP_RING_FULL : RX_DROP_TOO_LONG]++;
		count_sender(w, frames[done++]->port, false,
			room == GUEST_SHORT ? TX_DROP_GUEST_FULL : TX_DROP_GUEST_TOO_LONG);
	}
	return done;
}

/* A number that is the same for all frames of a flow: addresses and, where there are, ports. */
static uint32_t
flow_hash(const struct rte_mbuf *m)
{
	struct rte_net_hdr_lens lens = { 0 };
	uint32_t ptype = rte_net_get_ptype(m, &lens, RTE_PTYPE_L2_MASK | RTE_PTYPE_L3_MASK |
		RTE_PTYPE_L4_MASK);
	const uint8_t *start = rte_pktmbuf_mtod(m, const uint8_t *);
	uint32_t hash = rte_hash_crc(start, 2 * RTE_ETHER_ADDR_LEN, 0);
	uint32_t l3 = lens.l2_len, l4 = l3 + lens.l3_len;

	if (RTE_ETH_IS_IPV4_HDR(ptype) && l4 <= rte_pktmbuf_data_len(m))
		hash = rte_hash_crc(start + l3 + 12, 8, hash); /* RFC 791: addresses at 12 */
	else if (RTE_ETH_IS_IPV6_HDR(ptype) && l4 <= rte_pktmbuf_data_len(m))
		hash = rte_hash_crc(start + l3 + 8, 32, hash); /* RFC 8200: addresses at 8 */
	switch (ptype & RTE_PTYPE_L4_MASK) {
	case RTE_PTYPE_L4_TCP:
	case RTE_PTYPE_L4_UDP:
		if (l4 + 4 <= rte_pktmbuf_data_len(m))
			hash = rte_hash_crc(start + l4, 4, hash);
	}
	return hash;
}

/* The enabled receive rings of a guest; at least one entry. */
static uint16_t
list_rings(const struct guest *g, uint16_t *rings)
{
	uint16_t ring, n = 0;

	FOREACH_RING(ring, g->rings->rx)
		rings[n++] = ring;
	if (n == 0) /* being stopped: librte_vhost takes nothing then */
		rings[n++] = 0;
	return n;
}

/*
 * Offer the first n frames of a batch, spread over the guest's rings by flow. What is done with is
 * freed; what is not is moved to the front, in order within each flow. Returns how many stay.
 */
static uint16_t
send_burst(struct worker *w, struct batch *b, struct rte_mbuf **frames, uint16_t n)
{
	uint16_t rings[QUEUE_PAIR_MAX], ring_of[BURST_MAX];
	struct rte_mbuf *part[BURST_MAX], *stay[BURST_MAX];
	uint16_t nb_rings = list_rings(b->guest, rings);
	uint16_t r, i, k, done, left = 0;

	if (likely(nb_rings == 1)) {
		done = send_ring(w, b, rings[0], frames, n);
		rte_pktmbuf_free_bulk(frames, done);
		if (likely(done == n))
			return 0;
		memmove(frames, frames + done, (size_t)(n - done) * sizeof(frames[0]));
		return (uint16_t)(n - done);
	}
	for (i = 0; i < n; i++)
		ring_of[i] = (uint16_t)(flow_hash(frames[i]) % nb_rings);
	for (r = 0; r < nb_rings; r++) {
		for (i = 0, k = 0; i < n; i++) {
			if (ring_of[i] == r)
				part[k++] = frames[i];
		}
		done = k > 0 ? send_ring(w, b, rings[r], part, k) : 0;
		rte_pktmbuf_free_bulk(part, done);
		while (done < k)
			stay[left++] = part[done++];
	}
	memcpy(frames, stay, left * sizeof(frames[0]));
	return left;
}

/*
 * The same for any number of frames: a burst after the other as long as all is done with. What was
 * not offered follows what stays.
 */
static uint16_t
send_finished(struct worker *w, struct batch *b, struct rte_mbuf **frames, uint16_t n)
{
	uint16_t done = 0, part, left;

	do {
		part = RTE_MIN((uint16_t)(n - done), (uint16_t)BURST_MAX);
		left = send_burst(w, b, frames + done, part);
		done = (uint16_t)(done + part);
	} while (left == 0 && done < n);
	if (unlikely(left + n - done > 0 && done > left)) {
		memmove(frames, frames + done - part, left * sizeof(frames[0]));
		memmove(frames + left, frames + done, (size_t)(n - done) * sizeof(frames[0]));
	}
	return (uint16_t)(left + n - done);
}

static void
drop_unfinished(struct worker *w, struct batch *b, struct rte_mbuf *m, int error)
{
	bool empty = error == -ENOMEM;

	w->counters.guest[b->guest->id].rx_drop[empty ? RX_DROP_NO_MBUF : RX_DROP_OFFLOAD]++;
	count_sender(w, m->port, false, empty ? TX_DROP_NO_MBUF : TX_DROP_OFFLOAD);
	rte_pktmbuf_free(m);
}

/*
 * Send a frame of unsegmented TCP in segments. It is counted as one frame, when all of it has been
 * taken. Returns whether it is done with; if not, the ring is full or *budget, in segments, is
 * used up.
 */
static bool
send_segments(struct worker *w, struct batch *b, struct rte_mbuf *m, uint16_t *budget)
{
	struct rte_mbuf *out[BURST_MAX];
	uint16_t rings[QUEUE_PAIR_MAX];
	uint16_t nb_rings = list_rings(b->guest, rings), sent;
	uint16_t ring = rings[nb_rings == 1 ? 0 : flow_hash(m) % nb_rings];
	bool is_long;
	int n;

	while (*budget > 0) {
		n = offload_segment(m, w->sw->pool, out, RTE_MIN(*budget, (uint16_t)BURST_MAX));
		if (n < 0) {
			drop_unfinished(w, b, m, n);
			return true;
		}
		sent = enqueue(w, b->guest, ring, out, (uint16_t)n);
		is_long = sent == 0 && guest_room(b->guest, &w->section, (uint16_t)(2 * ring),
			rte_pktmbuf_pkt_len(out[0])) == GUEST_TOO_LONG;
		rte_pktmbuf_free_bulk(out, (unsigned int)n);
		if (is_long) { /* as in send_ring() */
			w->counters.guest[b->guest->id].rx_drop[RX_DROP_TOO_LONG]++;
			count_sender(w, m->port, false, TX_DROP_GUEST_TOO_LONG);
			rte_pktmbuf_free(m);
			return true;
		}
		*budget = (uint16_t)(*budget - sent);
		if (offload_advance(m, sent)) {
			w->counters.guest[b->guest->id].rx_ok++;
			count_sender(w, m->port, true, TX_DROP_GUEST_FULL);
			rte_pktmbuf_free(m);
			return true;
		}
		if (sent < n)
			return false;
	}
	return false;
}

static bool
any_exceeds(const struct batch *b, bool csum, bool tso4)
{
	uint16_t i;

	for (i = 0; i < b->n; i++) {
		if (offload_exceeds(b->frame[i], csum, tso4))
			return true;
	}
	return false;
}

static void
drop_full(struct worker *w, struct batch *b)
{
	w->counters.guest[b->guest->id].rx_drop[RX_DROP_RING_FULL] += b->n;
	drop_frames(w, b, TX_DROP_GUEST_FULL);
}

/*
 * The guest's ring is full. Whether the frames may stay. A guest that took nothing in all that time is
 * not waited for again until it has taken a frame.
 */
static bool
may_stay(struct worker *w, struct batch *b, bool some_taken, uint64_t patience)
{
	uint64_t now = rte_rdtsc();

	if (some_taken)
		batch_patience_afresh(b);
	b->paused = false;
	if (b->give_up_at == 0 || b->give_up_at > now + patience)
		b->give_up_at = now + patience;
	if (!b->stalled && now < b->give_up_at && w->kept <= KEPT_MAX)
		return true;
	b->stalled = true;
	b->pause_ends_at = 0;
	return false;
}

/*
 * The guest's front end is changing the device, and its rings come back at once or never. The time of
 * a full ring begins when they have. As long as there are further changes that time begins again, but
 * PAUSES_MAX times at most: in the moments between them this worker may not have run.
 */
static void
stay_for_pause(struct worker *w, struct batch *b, bool some_taken, unsigned int changes)
{
	uint64_t now = rte_rdtsc();

	if (some_taken)
		batch_patience_afresh(b);
	b->paused = true;
	b->give_up_at = 0;
	if (b->pause_ends_at == 0)
		b->pauses_end_at = now + PAUSES_MAX * w->pause_patience;
	if (b->pause_ends_at == 0 || b->changes != changes)
		b->pause_ends_at = RTE_MIN(now + w->pause_patience, b->pauses_end_at);
	b->changes = changes;
	if (!b->stalled && now < b->pause_ends_at && w->kept <= KEPT_MAX)
		return;
	b->stalled = true;
	b->paused = false;
	b->pause_ends_at = 0;
	drop_full(w, b);
}

/* Whether a guest has no receive ring, or is about to have another. */
static bool
is_changing(const struct guest *g)
{
	uint64_t rings = 0;
	unsigned int i;

	for (i = 0; i < QUEUE_PAIR_WORDS; i++)
		rings |= __atomic_load_n(&g->rings->rx[i], __ATOMIC_RELAXED);
	return rings == 0 || direct_is_paused(g->direct);
}

/* Complete checksums for a guest that cannot. */
static void
finish_checksums(struct worker *w, struct batch *b)
{
	const struct guest *g = b->guest;
	uint16_t i, n = 0;
	int ret;

	for (i = 0; i < b->n; i++) {
		struct rte_mbuf *m = b->frame[i];

		if (!(m->ol_flags & RTE_MBUF_F_TX_TCP_SEG) &&
				offload_exceeds(m, g->offload_csum, g->offload_tso4)) {
			ret = offload_finish_checksum(m);
			if (ret < 0) {
				drop_unfinished(w, b, m, ret);
				continue;
			}
		}
		b->frame[n++] = m;
	}
	b->n = n;
}

/*
 * Send a batch with frames that the guest cannot finish. Frames leave in order, and those that are
 * left move to the front. Returns whether the guest took any; *busy: it may take more, but
 * this is enough for a round.
 */
static bool
send_unfinished(struct worker *w, struct batch *b, bool *busy)
{
	const struct guest *g = b->guest;
	uint16_t budget = SEGMENTS_A_FLUSH, i, from = 0, run, left = 0;
	bool taken = false, done = true;

	finish_checksums(w, b);
	for (i = 0; i <= b->n && left == 0 && done; i++) {
		if (i < b->n && !offload_exceeds(b->frame[i], g->offload_csum, g->offload_tso4))
			continue;
		run = (uint16_t)(i - from);
		left = run > 0 ? send_finished(w, b, &b->frame[from], run) : 0;
		taken = taken || left < run;
		memmove(b->frame, &b->frame[from], left * sizeof(b->frame[0]));
		from = i;
		if (left > 0 || i == b->n)
			break;
		done = send_segments(w, b, b->frame[i], &budget);
		from = (uint16_t)(i + done);
	}
	*busy = budget == 0;
	memmove(&b->frame[left], &b->frame[from], (size_t)(b->n - from) * sizeof(b->frame[0]));
	b->n = (uint16_t)(left + b->n - from);
	return taken || budget < SEGMENTS_A_FLUSH;
}

void
output_flush_guest(struct worker *w, struct batch *b)
{
	unsigned int changes = __atomic_load_n(&b->guest->direct->changes, __ATOMIC_ACQUIRE);
	bool taken, busy = false, unfinished;
	uint16_t n = b->n;

	if (unlikely(is_switched_off(b->guest))) {
		w->counters.guest[b->guest->id].rx_drop[RX_DROP_SWITCHED_OFF] += b->n;
		drop_frames(w, b, TX_DROP_GUEST_OFF);
		return;
	}
	/* librte_vhost would let the worker stand still until the message has been dealt with. */
	if (unlikely(is_changing(b->guest))) {
		stay_for_pause(w, b, false, changes);
		return;
	}
	unfinished = w->sw->cfg->tx_csum &&
		any_exceeds(b, b->guest->offload_csum, b->guest->offload_tso4);
	if (unlikely(unfinished)) {
		taken = send_unfinished(w, b, &busy);
	} else {
		b->n = send_finished(w, b, b->frame, n);
		taken = b->n < n;
	}
	if (likely(b->n == 0)) {
		batch_patience_afresh(b);
		return;
	}
	if (changes != __atomic_load_n(&b->guest->direct->changes, __ATOMIC_ACQUIRE)) {
		stay_for_pause(w, b, taken, changes); /* its ring had gone for a moment */
		return;
	}
	if (may_stay(w, b, taken, busy ? w->pause_patience : w->patience))
		return;
	if (b->guest->mergeable && !unfinished) /* the first may need more than the others */
		b->n = send_finished(w, b, b->frame, b->n);
	drop_full(w, b);
}

/* The transmit queue of a frame that a guest sent. */
static uint16_t
queue_of(const struct worker *w, const struct rte_mbuf *m)
{
	return uplink_tx_queue(w->sw->uplink, w->index, m->port, vlan_priority(m));
}

/*
 * Hand frames of one queue to the NIC. Returns how many it took, from the first on; when it stopped at a frame
 * whose offloads it cannot do, *misfit is set, else its queue is full.
 */
static uint16_t
transmit(struct worker *w, uint16_t queue, struct rte_mbuf **frames, uint16_t n, bool *misfit)
{
	struct uplink *up = w->sw->uplink;
	uint16_t sent = 0, ready = n, now;

	*misfit = false;
	while (sent < n) {
		/* Fills in pseudo-header checksums and the like where offloads are in use. */
		if (w->sw->cfg->tx_csum)
			ready = rte_eth_tx_prepare(up->port, queue, frames + sent,
				(uint16_t)(n - sent));
		if (ready == 0) {
			*misfit = true;
			break;
		}
		now = uplink_transmit(up, queue, frames + sent, ready);
		sent = (uint16_t)(sent + now);
		if (now < ready)
			break;
		ready = (uint16_t)(n - sent);
	}
	return sent;
}

static void
drop_from_uplink(struct worker *w, struct rte_mbuf *m, enum tx_drop why)
{
	w->counters.uplink.tx_drop++;
	drop_from_guest(w, m->port, why, m);
}

/* Count frames that the NIC took, by who sent them. */
static void
count_transmitted(struct worker *w, const uint16_t *sender, uint16_t n)
{
	uint16_t i;

	for (i = 0; i < n; i++)
		w->counters.guest[sender[i]].tx_ok++;
	w->counters.uplink.tx_ok += n;
}

/*
 * Why the driver has not taken a frame: its queue was full, if it has one, or when it has taken others
 * after it, the frame itself.
 */
static enum tx_drop
why_untaken(const struct worker *w, bool was_full)
{
	return was_full && w->sw->uplink->link.has_queue ? TX_DROP_UPLINK_FULL
							 : TX_DROP_UPLINK_REFUSED;
}

/* Segments: the last may be short, and the driver may want them in one piece. */
static bool
fit_segments(struct worker *w, struct rte_mbuf **frames, uint16_t n)
{
	const struct port_link *link = &w->sw->uplink->link;
	uint16_t i;

	for (i = 0; i < n; i++) {
		if (port_fit(link, link->driver_max, frames[i]) < 0)
			return false;
	}
	return true;
}

/*
 * A frame of unsegmented TCP that the NIC cannot segment. It is counted as one frame, when all of it
 * has been taken.
 */
static void
transmit_segments(struct worker *w, uint16_t queue, struct rte_mbuf *m)
{
	struct rte_mbuf *out[BURST_MAX];
	uint16_t sent;
	bool misfit;
	int n;

	do {
		n = offload_segment(m, w->sw->pool, out, BURST_MAX);
		if (n < 0) {
			drop_from_uplink(w, m, n == -ENOMEM ? TX_DROP_NO_MBUF : TX_DROP_OFFLOAD);
			return;
		}
		if (!fit_segments(w, out, (uint16_t)n)) {
			rte_pktmbuf_free_bulk(out, (unsigned int)n);
			drop_from_uplink(w, m, TX_DROP_UPLINK_TOO_LONG);
			return;
		}
		sent = transmit(w, queue, out, (uint16_t)n, &misfit);
		rte_pktmbuf_free_bulk(out + sent, (unsigned int)(n - sent));
		if (sent < n) {
			drop_from_uplink(w, m, misfit ? TX_DROP_OFFLOAD : why_untaken(w, true));
			return;
		}
	} while (!offload_advance(m, sent));
	count_transmitted(w, &m->port, 1);
	rte_pktmbuf_free(m);
}

/* One frame that the NIC cannot finish. */
static void
transmit_unfinished(struct worker *w, struct rte_mbuf *m)
{
	uint16_t queue = queue_of(w, m), sender = m->port;
	bool misfit;

	if (m->ol_flags & RTE_MBUF_F_TX_TCP_SEG)
		transmit_segments(w, queue, m);
	else if (offload_finish_checksum(m) < 0)
		drop_from_uplink(w, m, TX_DROP_OFFLOAD);
	else if (transmit(w, queue, &m, 1, &misfit) == 0)
		drop_from_uplink(w, m, misfit ? TX_DROP_OFFLOAD : why_untaken(w, true));
	else
		count_transmitted(w, &sender, 1);
}

static void
drop_untaken(struct worker *w, struct rte_mbuf **frames, uint16_t n, bool was_full)
{
	uint16_t i;

	for (i = 0; i < n; i++)
		drop_from_uplink(w, frames[i], why_untaken(w, was_full));
}

/*
 * Frames that leave by one queue. One that the driver stops at must not cost those after it: they are
 * offered by themselves, unless the queue of a card is full.
 */
static void
transmit_run(struct worker *w, uint16_t queue, struct rte_mbuf **frames, uint16_t n)
{
	uint16_t sender[BURST_MAX];
	uint16_t i, done = 0, untaken = 0, sent;
	bool misfit;

	for (i = 0; i < n; i++)
		sender[i] = frames[i]->port; /* the NIC's own once it took them */
	while (done < n) {
		sent = transmit(w, queue, frames + done, (uint16_t)(n - done), &misfit);
		count_transmitted(w, &sender[done], sent);
		if (unlikely(untaken > 0) && (sent > 0 || misfit)) {
			drop_untaken(w, frames + done - untaken, untaken, sent == 0);
			untaken = 0;
		}
		done = (uint16_t)(done + sent);
		if (likely(done == n))
			break;
		/*
		 * One guest's odd frame must not cost the others theirs. It may be one whose MSS the NIC
		 * has no use for, or that has more segments than a driver makes (it says no more than
		 * that it took none).
		 */
		if (frames[done]->ol_flags & (misfit ? OFFLOAD_FLAGS : RTE_MBUF_F_TX_TCP_SEG)) {
			drop_untaken(w, frames + done - untaken, untaken, true);
			untaken = 0;
			transmit_unfinished(w, frames[done++]);
		} else if (misfit) {
			drop_from_uplink(w, frames[done++], TX_DROP_OFFLOAD);
		} else {
			sent = w->sw->uplink->link.skips_frames ? 1 : (uint16_t)(n - done);
			untaken = (uint16_t)(untaken + sent);
			done = (uint16_t)(done + sent);
		}
	}
	drop_untaken(w, frames + n - untaken, untaken, true);
}

/* Frames that the NIC can finish, or that are finished. */
static void
transmit_finished(struct worker *w, struct rte_mbuf **frames, uint16_t n)
{
	uint16_t i, end, queue;

	if (likely(!w->sw->uplink->tx_by_pool)) {
		transmit_run(w, uplink_tx_queue(w->sw->uplink, w->index, 0, 0), frames, n);
		return;
	}
	for (i = 0; i < n; i = end) {
		queue = queue_of(w, frames[i]);
		for (end = (uint16_t)(i + 1); end < n && queue_of(w, frames[end]) == queue; end++)
			;
		transmit_run(w, queue, &frames[i], (uint16_t)(end - i));
	}
}

/*
 * Leave in the batch what the uplink can send, as its wire wants it. Drivers differ in what they do
 * with other frames, and a frame that waits for a link may wait for hours (uplink/link.h).
 */
static void
fit_uplink(struct worker *w, struct batch *b)
{
	const struct port_link *link = &w->sw->uplink->link;
	uint32_t frame_max = __atomic_load_n(&link->frame_max, __ATOMIC_RELAXED);
	uint16_t i, n = 0;

	for (i = 0; i < b->n; i++) {
		if (unlikely(frame_max == 0))
			drop_from_uplink(w, b->frame[i], TX_DROP_LINK_DOWN);
		else if (unlikely(port_fit(link, frame_max, b->frame[i]) < 0))
			drop_from_uplink(w, b->frame[i], TX_DROP_UPLINK_TOO_LONG);
		else
			b->frame[n++] = b->frame[i];
	}
	b->n = n;
}

void
output_flush_uplink(struct worker *w)
{
	struct batch *b = &w->to_uplink;
	uint64_t can = w->sw->uplink->tx_offloads;
	bool csum = (can & RTE_ETH_TX_OFFLOAD_TCP_CKSUM) && (can & RTE_ETH_TX_OFFLOAD_UDP_CKSUM);
	bool tso4 = csum && (can & RTE_ETH_TX_OFFLOAD_TCP_TSO);
	uint16_t i, from = 0;

	fit_uplink(w, b);
	if (unlikely(w->sw->cfg->tx_csum && any_exceeds(b, csum, tso4))) {
		for (i = 0; i < b->n; i++) {
			if (!offload_exceeds(b->frame[i], csum, tso4))
				continue;
			transmit_finished(w, &b->frame[from], (uint16_t)(i - from));
			transmit_unfinished(w, b->frame[i]);
			from = (uint16_t)(i + 1);
		}
	}
	transmit_finished(w, &b->frame[from], (uint16_t)(b->n - from));
	b->n = 0;
}

static uint32_t
count_mbufs(const struct batch *b)
{
	uint32_t mbufs = 0;
	uint16_t i;

	for (i = 0; i < b->n; i++)
		mbufs += b->frame[i]->nb_segs;
	return mbufs;
}

void
output_flush(struct worker *w)
{
	uint16_t i, listed = 0;

	w->kept = 0;
	for (i = 0; i < w->n_dirty; i++) {
		struct batch *b = &w->to_guest[w->dirty[i]];

		if (b->n > 0)
			output_flush_guest(w, b);
		b->listed = b->n > 0;
		if (unlikely(b->listed)) {
			w->kept += count_mbufs(b);
			w->dirty[listed++] = w->dirty[i];
		}
	}
	w->n_dirty = listed;
	w->held = w->kept;
	if (w->to_uplink.n > 0)
		output_flush_uplink(w);
}

/* Drop what stayed for a guest that has left; only its id is known any more. */
static void
drop_orphans(struct worker *w, struct batch *b)
{
	drop_frames(w, b, TX_DROP_GUEST_FULL);
	batch_patience_afresh(b);
	b->listed = false;
}

/*
 * A guest that leaves is not to be found in one round of each worker at least, between the two grace
 * periods of leave_locked(); after that its id may be another's, for whom what it sent does not count.
 */
static void
forget_senders(const struct worker *w, struct batch *b)
{
	uint16_t i;

	for (i = 0; i < b->n; i++) {
		if (b->frame[i]->port < GUEST_MAX &&
				guests_get(w->sw->guests, b->frame[i]->port) == NULL)
			b->frame[i]->port = FROM_GONE;
	}
}

/* Those whose frames wait for a guest that changes wait too, before there is no more room. */
static void
hold_senders_back(struct worker *w, const struct batch *b)
{
	uint16_t i;

	for (i = 0; i < b->n; i++) {
		uint32_t sender = b->frame[i]->port == FROM_FLOOD ? b->frame[i]->hash.usr
								  : b->frame[i]->port;

		if (sender < GUEST_MAX)
			w->held_back[sender] = true;
	}
}

void
output_resume(struct worker *w)
{
	uint16_t i, listed = 0;

	if (unlikely(w->holding)) {
		memset(w->held_back, 0, sizeof(w->held_back));
		w->holding = false;
	}
	for (i = 0; i < w->n_dirty; i++) {
		struct batch *b = &w->to_guest[w->dirty[i]];
		struct guest *g = guests_get(w->sw->guests, w->dirty[i]);

		forget_senders(w, b);
		if (g == NULL || g->serial != b->serial) {
			drop_orphans(w, b);
			continue;
		}
		b->guest = g;
		if (unlikely(b->paused && b->n >= BATCH_HOLD)) {
			hold_senders_back(w, b);
			w->holding = true;
		}
		w->dirty[listed++] = w->dirty[i];
	}
	w->n_dirty = listed;
}

void
output_drop_all(struct worker *w)
{
	uint16_t i;

	for (i = 0; i < w->n_dirty; i++)
		drop_orphans(w, &w->to_guest[w->dirty[i]]);
	w->n_dirty = 0;
}
