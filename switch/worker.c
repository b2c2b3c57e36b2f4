/* SPDX-License-Identifier: BSD-3-Clause */
#include <rte_arp.h>
#include <rte_branch_prediction.h>
#include <rte_cycles.h>
#include <rte_rcu_qsbr.h>

#include "switch/direct.h"
#include "switch/worker.h"

/*
 * Empty the batches before the end of the round: behind a burst of n that was not full, and when
 * unsegmented TCP (up to 32 mbufs a frame) fills them.
 */
static void
flush_early(struct worker *w, uint16_t n)
{
	if (n < BURST_MAX || unlikely(w->held >= HELD_MAX))
		output_flush(w);
}

/*
 * Take frames that a guest sends, by librte_vhost: it waits for no lock here. Returns how many, at
 * most BURST_MAX.
 */
static uint16_t
dequeue(struct worker *w, struct guest *g, uint16_t ring, struct rte_mbuf **frames)
{
	uint16_t vring = (uint16_t)(2 * ring + 1), n;
	int most;

	direct_enter(&w->section);
	most = direct_lend(g->direct, g->vid, vring);
	if (unlikely(most <= 0)) {
		if (most < 0)
			direct_switch_off(w, g, GUEST_REPORT_BROKEN_TRANSMIT);
		return 0;
	}
	if (unlikely(!g->registered)) /* a frame of it may have to wait */
		most = 1;
	n = rte_vhost_dequeue_burst(g->vid, vring, w->sw->pool, frames, (uint16_t)most);
	direct_return(g->direct, g->vid, vring, &w->section);
	return n;
}

/* Send a RARP request for a guest that has moved here, so that switches on the way learn where it is. */
static void
announce(struct worker *w, struct guest *g)
{
	uint64_t key = __atomic_exchange_n(&g->rings->announce, 0, __ATOMIC_ACQUIRE);
	struct rte_ether_addr mac;
	struct rte_mbuf *m;

	fdb_key_to_mac(key, &mac);
	m = rte_net_make_rarp_packet(w->sw->pool, &mac);
	if (m == NULL) {
		w->counters.guest[g->id].tx_drop[TX_DROP_NO_MBUF]++;
		return;
	}
	if (guest_is_mirrored(g))
		mirror_frames(w->sw->mirror, &m, 1);
	forward_from_guest(w, g, &m, 1);
}

static uint32_t
poll_guest(struct worker *w, struct guest *g)
{
	struct rte_mbuf *frames[BURST_MAX];
	uint32_t moved = 0;
	bool ordinary;
	uint16_t ring, n;

	if (unlikely(g->first != NULL) && !forward_first(w, g))
		return 0;
	if (unlikely(__atomic_load_n(&g->rings->announce, __ATOMIC_RELAXED) != 0))
		announce(w, g);
	FOREACH_RING(ring, g->rings->tx) {
		moved += direct_poll(w, g, ring, &ordinary);
		if (!ordinary || unlikely(w->held_back[g->id]))
			continue;
		n = dequeue(w, g, ring, frames);
		if (n == 0)
			continue;
		if (guest_is_mirrored(g))
			mirror_frames(w->sw->mirror, frames, n);
		forward_from_guest(w, g, frames, n);
		flush_early(w, n);
		moved += n;
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
		moved += poll_queues(w, uplink_common_queues(w->sw->uplink), GUEST_MAX);
		moved += poll_queues(w, next_pf_queue(w), GUEST_MAX);
	}
	output_flush(w);
	direct_pass(&w->section);
	return moved;
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
}

int
worker_run(void *arg)
{
	struct worker *w = arg;
	struct switch_ctx *sw = w->sw;
	uint64_t began;

	w->patience = sw->cfg->rx_retry * (uint64_t)sw->cfg->rx_retry_num *
		sw->cfg->rx_retry_delay * rte_get_tsc_hz() / US_PER_S;
	w->pause_patience = RTE_MAX(PAUSE_MAX_MS * rte_get_tsc_hz() / MS_PER_S, w->patience);
	w->section = (struct direct_section){ .qsbr = sw->sections, .worker = w->index };
	rte_rcu_qsbr_thread_online(sw->qsbr, w->index);
	began = rte_rdtsc();
	while (likely(!__atomic_load_n(&sw->stop, __ATOMIC_RELAXED))) {
		count_round(w, &began, work_round(w) > 0);
		rte_rcu_qsbr_quiescent(sw->qsbr, w->index);
	}
	output_drop_all(w);
	direct_leave(&w->section);
	notify_end();
	rte_rcu_qsbr_thread_offline(sw->qsbr, w->index);
	return 0;
}
