/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>

#include <rte_arp.h>
#include <rte_branch_prediction.h>
#include <rte_cycles.h>
#include <rte_rcu_qsbr.h>

#include "port/guest.h"
#include "switch/burst.h"
#include "switch/deliver.h"
#include "switch/forward.h"
#include "switch/mirror.h"
#include "switch/worker.h"
#include "uplink/uplink.h"

/*
 * Empty the batches before the end of the round: after a burst of n that was short, and when
 * unsegmented TCP (up to 32 mbufs a frame) fills them.
 */
static void
flush_early(struct worker *w, uint16_t n)
{
	if (n < BURST_MAX || unlikely(w->buffered >= BUFFERED_MAX))
		output_flush(w);
}

/*
 * Send a RARP request for a guest that has moved here, so that switches on the way learn where it
 * is. It counts as a frame of the guest.
 */
static void
announce(struct worker *w, struct guest *g, uint64_t key)
{
	struct rte_ether_hdr header = { 0 };
	struct rte_mbuf *m;

	fdb_key_to_mac(key, &header.src_addr);
	if (g->port == NULL && guest_must_learn(g) &&
			guests_learn(w->sw->guests, g, &header.src_addr) == -EINPROGRESS)
		return; /* until then */
	__atomic_compare_exchange_n(&g->device->announce, &key, 0, false, __ATOMIC_RELAXED,
		__ATOMIC_RELAXED);
	if (!guest_is_registered(g))
		return;
	if (key == g->mac) /* another source is not its address now */
		g->last_seen = w->now;
	m = rte_net_make_rarp_packet(w->sw->pool, &header.src_addr);
	if (m == NULL) {
		w->counters.guest[g->id].tx_drop[TX_DROP_NO_MBUF]++;
		return;
	}
	if (guest_is_mirrored(g))
		mirror_mbuf(w->sw->mirror, m);
	if (g->port == NULL)
		forward_mbuf(w, g, m);
	else
		forward_announcement(w, g, m);
}

/*
 * The first frame of a virtqueue is not good: it is dropped, or its guest is disabled. Returns
 * frames done.
 */
static uint16_t
drop_first(struct worker *w, struct guest *g, enum vring_status status)
{
	if (status == VRING_BROKEN)
		guests_disable(w->sw->guests, g, GUEST_REPORT_BROKEN_TRANSMIT);
	if (status != VRING_RUNT && status != VRING_TOO_LONG)
		return 0;
	w->counters.guest[g->id].tx_drop[status == VRING_RUNT ? TX_DROP_RUNT : TX_DROP_TOO_LONG]++;
	return 1;
}

/* Switch a burst of a transmit virtqueue. Returns how many frames were moved. */
static uint16_t
poll_vring(struct worker *w, struct guest *g, uint16_t pair)
{
	struct virtqueue *vq = &g->device->vq[VRING_TX(pair)];
	struct burst b;
	uint16_t done;

	burst_of_vring(&b, g->device, vq);
	if (b.n == 0 && likely(b.status == VRING_OK || b.status == VRING_EMPTY))
		return 0;
	if (unlikely(b.n == 0))
		done = drop_first(w, g, b.status);
	else
		done = g->port == NULL ? forward_from_guest(w, g, &b) : forward_from_port(w, g, &b);
	if (unlikely(guest_is_mirrored(g)) && b.n > 0)
		mirror_views(w->sw->mirror, &b, 0, done, NULL);
	deliver_finish(&b, done);
	if (w->n_dirty > 0 || w->to_uplink.n > 0)
		flush_early(w, done);
	return done;
}

/*
 * Poll a guest of a port that limits what it may send. Its queue pairs have their turn one after
 * another: the round after the limit was reached begins with the one that was not polled then.
 */
static uint32_t
poll_limited(struct worker *w, struct guest *g)
{
	uint16_t pair, first = g->next_pair, turn;
	uint32_t moved = 0;

	for (turn = 0; turn < 2; turn++) {
		FOREACH_PAIR(pair, g->device->tx) {
			if ((pair >= first) != (turn == 0))
				continue;
			g->next_pair = pair;
			if (!forward_may_poll_port(g))
				return moved;
			moved += poll_vring(w, g, pair);
		}
	}
	return moved;
}

static uint32_t
poll_guest(struct worker *w, struct guest *g)
{
	struct device *d = g->device;
	uint32_t moved = 0;
	uint64_t key;
	uint16_t pair;

	if (device_is_paused(d) || device_is_disabled(d) || unlikely(guest_must_wait(g)))
		return 0;
	key = __atomic_load_n(&d->announce, __ATOMIC_RELAXED);
	if (unlikely(key != 0))
		announce(w, g, key);
	if (g->port != NULL && unlikely(forward_is_limited(port_rules(g->port))))
		return poll_limited(w, g);
	FOREACH_PAIR(pair, d->tx) {
		if (unlikely(guest_must_wait(g)))
			break;
		moved += poll_vring(w, g, pair);
	}
	return moved;
}

/*
 * One burst from each queue, from the last to the first: the highest traffic class is served
 * first, and the lowest in each round too.
 */
static uint32_t
poll_queues(struct worker *w, struct uplink_queues queues, uint16_t pool_guest)
{
	struct rte_mbuf *frames[BURST_MAX];
	uint32_t moved = 0;
	uint16_t i, n;

	for (i = queues.count; i-- > 0;) {
		n = uplink_receive(w->sw->uplink, (uint16_t)(queues.first + i), frames);
		if (n == 0)
			continue;
		forward_from_uplink(w, pool_guest, frames, n);
		flush_early(w, n);
		moved += n;
	}
	return moved;
}

/* The next of the queues of the NIC's physical function. */
static struct uplink_queues
next_pf_queue(struct worker *w)
{
	struct uplink_queues queues = uplink_pf_queues(w->sw->uplink);

	if (queues.count > 0)
		queues = (struct uplink_queues){ (uint16_t)(w->rounds % queues.count), 1 };
	return queues;
}

static uint32_t
work_round(struct worker *w)
{
	const struct guest_set *mine =
		__atomic_load_n(&w->sw->guests->of_worker[w->index], __ATOMIC_ACQUIRE);
	bool uplink = w->sw->uplink->present;
	uint32_t moved = 0;
	unsigned int i;

	output_resume(w);
	for (i = 0; i < mine->n; i++) {
		struct guest *g = mine->guest[i];

		moved += poll_guest(w, g);
		if (uplink)
			moved += poll_queues(w, uplink_guest_queues(w->sw->uplink, g->id), g->id);
	}
	if (uplink && w->index == 0) {
		moved += poll_queues(w, uplink_common_queues(w->sw->uplink), ID_MAX);
		moved += poll_queues(w, next_pf_queue(w), ID_MAX);
	}
	output_flush(w);
	return moved;
}

/* Another tenth of a second has begun. */
static void
note_tenth(struct worker *w, uint64_t now)
{
	uint64_t tenth = rte_get_tsc_hz() / 10;

	w->now = (uint32_t)(now / tenth);
	w->next_tenth = (now / tenth + 1) * tenth;
	w->uplink_source = 0; /* so that the FDB sees it too, now and then */
}

/* Count a round, for whoever wants to know how busy the worker is. One look at the clock. */
static void
count_round(struct worker *w, uint64_t *began, bool moved)
{
	uint64_t now = rte_rdtsc();

	w->cycles += now - *began;
	if (moved)
		w->busy_cycles += now - *began;
	w->rounds++;
	*began = now;
	if (unlikely(now >= w->next_tenth))
		note_tenth(w, now);
}

int
worker_run(void *arg)
{
	struct worker *w = arg;
	struct switch_ctx *sw = w->sw;
	uint64_t began;

	w->retry_timeout = sw->cfg->rx_retry * (uint64_t)sw->cfg->rx_retry_num *
		sw->cfg->rx_retry_delay * rte_get_tsc_hz() / US_PER_S;
	w->pause_timeout = RTE_MAX(PAUSE_MAX_MS * rte_get_tsc_hz() / MS_PER_S, w->retry_timeout);
	rte_rcu_qsbr_thread_online(sw->rcu, w->index);
	began = rte_rdtsc();
	note_tenth(w, began); /* frames may have come before the first round */
	while (likely(!__atomic_load_n(&sw->stop, __ATOMIC_RELAXED))) {
		count_round(w, &began, work_round(w) > 0);
		rte_rcu_qsbr_quiescent(sw->rcu, w->index);
	}
	output_drop_all(w);
	notify_end();
	rte_rcu_qsbr_thread_offline(sw->rcu, w->index);
	return 0;
}
