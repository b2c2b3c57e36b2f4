/* SPDX-License-Identifier: BSD-3-Clause */
#include <rte_branch_prediction.h>
#include <rte_ethdev.h>

#include "switch/offload.h"
#include "uplink/vlan.h"
#include "switch/worker.h"
#include "uplink/uplink.h"

void
output_to_uplink(struct worker *w, struct rte_mbuf *m)
{
	struct batch *b = &w->to_uplink;

	b->frame[b->n++] = m;
	w->buffered += m->nb_segs;
	if (b->n == BURST_MAX)
		output_flush_uplink(w);
}

/* The transmit queue of a frame that a guest sent. */
static uint16_t
queue_of(const struct worker *w, const struct rte_mbuf *m)
{
	return uplink_tx_queue(w->sw->uplink, w->index, m->port, vlan_priority(m));
}

/* What stopped the NIC's driver. */
enum transmit_stop {
	TRANSMIT_ALL,	 /* nothing: it took all frames */
	TRANSMIT_FULL,	 /* a full queue, as far as it tells */
	TRANSMIT_MISFIT, /* a frame whose offloads it cannot do */
};

/* Hand frames of one queue to the NIC. *sent: how many it took, from the first on. */
static enum transmit_stop
transmit(struct worker *w, uint16_t queue, struct rte_mbuf **frames, uint16_t n, uint16_t *sent)
{
	struct uplink *up = w->sw->uplink;
	uint16_t ready = n, now;

	for (*sent = 0; *sent < n; ready = (uint16_t)(n - *sent)) {
		/* Fills in pseudo-header checksums and the like where offloads are in use. */
		if (w->sw->finishes)
			ready = rte_eth_tx_prepare(up->port, queue, frames + *sent,
				(uint16_t)(n - *sent));
		if (ready == 0)
			return TRANSMIT_MISFIT;
		now = uplink_transmit(up, queue, frames + *sent, ready);
		*sent = (uint16_t)(*sent + now);
		if (now < ready)
			return TRANSMIT_FULL;
	}
	return TRANSMIT_ALL;
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
	uint16_t i, end;

	for (i = 0; i < n; i = end) {
		for (end = (uint16_t)(i + 1); end < n && sender[end] == sender[i]; end++)
			;
		w->counters.guest[sender[i]].tx_ok += (uint64_t)(end - i);
	}
	w->counters.uplink.tx_ok += n;
}

/*
 * Why the driver has not taken a frame: its queue was full, if it has one, or when it has taken
 * others after it, the frame itself.
 */
static enum tx_drop
why_untaken(const struct worker *w, bool was_full)
{
	return was_full && w->sw->uplink->link.has_queue ? TX_DROP_UPLINK_FULL
							 : TX_DROP_UPLINK_REFUSED;
}

/* Why a frame that the driver stopped at was dropped. */
static enum tx_drop
why_stopped(const struct worker *w, enum transmit_stop stop)
{
	return stop == TRANSMIT_MISFIT ? TX_DROP_OFFLOAD : why_untaken(w, true);
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
 * A frame of unsegmented TCP that the NIC cannot segment. It is counted as one frame, when all of
 * it has been taken.
 */
static void
transmit_segments(struct worker *w, uint16_t queue, struct rte_mbuf *m)
{
	struct rte_mbuf *out[BURST_MAX];
	enum transmit_stop stop;
	uint16_t sent;
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
		stop = transmit(w, queue, out, (uint16_t)n, &sent);
		rte_pktmbuf_free_bulk(out + sent, (unsigned int)(n - sent));
		if (stop != TRANSMIT_ALL) {
			drop_from_uplink(w, m, why_stopped(w, stop));
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
	uint16_t queue = queue_of(w, m), sender = m->port, sent;
	enum transmit_stop stop;

	if (m->ol_flags & RTE_MBUF_F_TX_TCP_SEG) {
		transmit_segments(w, queue, m);
		return;
	}
	if (offload_finish_checksum(m) < 0) {
		drop_from_uplink(w, m, TX_DROP_OFFLOAD);
		return;
	}
	stop = transmit(w, queue, &m, 1, &sent);
	if (stop == TRANSMIT_ALL)
		count_transmitted(w, &sender, 1);
	else
		drop_from_uplink(w, m, why_stopped(w, stop));
}

static void
drop_untaken(struct worker *w, struct rte_mbuf **frames, uint16_t n, bool was_full)
{
	uint16_t i;

	for (i = 0; i < n; i++)
		drop_from_uplink(w, frames[i], why_untaken(w, was_full));
}

/*
 * Frames that leave by one queue. One that the driver stops at must not cost those after it: they
 * are offered by themselves, unless the queue of a card is full.
 */
static void
transmit_run(struct worker *w, uint16_t queue, struct rte_mbuf **frames, uint16_t n)
{
	uint16_t sender[BURST_MAX];
	uint16_t i, done = 0, untaken = 0, sent;
	enum transmit_stop stop;

	for (i = 0; i < n; i++)
		sender[i] = frames[i]->port; /* the NIC's own once it took them */
	while (done < n) {
		stop = transmit(w, queue, frames + done, (uint16_t)(n - done), &sent);
		count_transmitted(w, &sender[done], sent);
		if (unlikely(untaken > 0) && (sent > 0 || stop == TRANSMIT_MISFIT)) {
			drop_untaken(w, frames + done - untaken, untaken, sent == 0);
			untaken = 0;
		}
		done = (uint16_t)(done + sent);
		if (likely(stop == TRANSMIT_ALL))
			break;
		/*
		 * One guest's odd frame must not cost the others theirs. It may be one whose MSS
		 * the NIC has no use for, or that has more segments than a driver makes (it says no
		 * more than that it took none).
		 */
		if (frames[done]->ol_flags &
				(stop == TRANSMIT_MISFIT ? OFFLOAD_FLAGS : RTE_MBUF_F_TX_TCP_SEG)) {
			drop_untaken(w, frames + done - untaken, untaken, true);
			untaken = 0;
			transmit_unfinished(w, frames[done++]);
		} else if (stop == TRANSMIT_MISFIT) {
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
	uint16_t i, from = 0;
	uint8_t offloads = 0;

	if ((can & RTE_ETH_TX_OFFLOAD_TCP_CKSUM) && (can & RTE_ETH_TX_OFFLOAD_UDP_CKSUM))
		offloads = OFFLOAD_CSUM;
	/*
	 * Not OFFLOAD_ECN: DPDK has no capability for it. CWR belongs in the first segment alone,
	 * and the 82599 for one leaves it in others too (datasheet, 8.2.3.9.3).
	 */
	if (offloads != 0 && (can & RTE_ETH_TX_OFFLOAD_TCP_TSO))
		offloads |= OFFLOAD_TSO4 | OFFLOAD_TSO6;
	fit_uplink(w, b);
	for (i = 0; i < b->n && w->sw->finishes; i++) {
		if (likely(!offload_exceeds(b->frame[i], offloads) &&
				!offload_has_extensions(b->frame[i])))
			continue;
		transmit_finished(w, &b->frame[from], (uint16_t)(i - from));
		transmit_unfinished(w, b->frame[i]);
		from = (uint16_t)(i + 1);
	}
	transmit_finished(w, &b->frame[from], (uint16_t)(b->n - from));
	b->n = 0;
}

