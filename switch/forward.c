/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>

#include <rte_branch_prediction.h>
#include <rte_ether.h>

#include "switch/offload.h"
#include "switch/received.h"
#include "switch/vlan.h"
#include "switch/worker.h"

static const struct rte_ether_hdr *
ether(const struct rte_mbuf *m)
{
	return rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
}

static bool
is_runt(const struct rte_mbuf *m)
{
	return rte_pktmbuf_data_len(m) < sizeof(struct rte_ether_hdr);
}

/*
 * Send a frame to the NIC. vlan is what a frame without a VLAN gets, and with --vm2vm 2 a frame with
 * one too: it decides where the NIC's switch puts the frame. A priority tag names no VLAN.
 */
static void
to_uplink(struct worker *w, uint16_t sender, uint16_t vlan, struct rte_mbuf *m)
{
	struct uplink *up = w->sw->uplink;

	if (!up->present) {
		drop_from_guest(w, sender, TX_DROP_NO_DESTINATION, m);
		return;
	}
	if (!vlan_in_frame(m)) {
		if (vlan_insert(&m, vlan, up->vlan_insert_hw) < 0) {
			drop_from_guest(w, sender, TX_DROP_NO_MBUF, m);
			return;
		}
	} else if (w->sw->cfg->vm2vm == VM2VM_HARDWARE || vlan_is_priority_tag(m)) {
		vlan_replace(m, vlan);
	}
	output_to_uplink(w, m);
}

/*
 * Broadcast and multicast. All guests share one mbuf, which librte_vhost only copies from; what a
 * software offload would edit, and the tag for the NIC, need a copy of their own.
 */
static void
flood(struct worker *w, struct guest *from, struct rte_mbuf *m)
{
	const struct guest_set *all = __atomic_load_n(&w->sw->guests->all, __ATOMIC_ACQUIRE);
	struct rte_mbuf *copy;
	uint16_t copies = 0;
	unsigned int i;

	m->hash.usr = from->id; /* whom to hold back if it has to wait */
	for (i = 0; i < all->n; i++) {
		struct guest *to = all->guest[i];

		if (to == from || guests_find(w->sw->guests, to->id) != to)
			continue;
		copy = m;
		if (m->ol_flags & OFFLOAD_FLAGS) {
			copy = rte_pktmbuf_copy(m, w->sw->pool, 0, UINT32_MAX);
			if (copy == NULL) {
				w->counters.guest[to->id].rx_drop[RX_DROP_NO_MBUF]++;
				continue;
			}
		} else {
			rte_pktmbuf_refcnt_update(m, 1);
		}
		copy->port = FROM_FLOOD;
		output_to_guest(w, to, copy);
		copies++;
	}
	if (!w->sw->uplink->present) {
		if (copies == 0) {
			drop_from_guest(w, from->id, TX_DROP_NO_DESTINATION, m);
			return;
		}
		w->counters.guest[from->id].tx_ok++;
		rte_pktmbuf_free(m);
		return;
	}
	/* The wire's copy is the one that the sender's counter follows. */
	copy = m;
	if (copies > 0) {
		copy = rte_pktmbuf_copy(m, w->sw->pool, 0, UINT32_MAX);
		rte_pktmbuf_free(m);
		if (copy == NULL) {
			w->counters.guest[from->id].tx_drop[TX_DROP_NO_MBUF]++;
			return;
		}
	}
	copy->port = from->id;
	to_uplink(w, from->id, from->vlan, copy);
}

/*
 * Decide on frames of a registered guest that have the same destination; owner is who has it. One whose
 * filter does not stand yet cannot be reached by way of the NIC: its frames take the short way.
 */
static void
switch_run(struct worker *w, struct guest *from, uint16_t owner, struct rte_mbuf **frames,
	uint16_t n)
{
	struct guest *to;
	uint16_t i;

	if (unlikely(owner == from->id)) {
		for (i = 0; i < n; i++)
			drop_from_guest(w, from->id, TX_DROP_TO_SELF, frames[i]);
		return;
	}
	to = guests_get(w->sw->guests, owner);
	if (likely(to != NULL && (w->sw->cfg->vm2vm == VM2VM_SOFTWARE ||
			!guest_is_registered(to)))) {
		for (i = 0; i < n; i++)
			output_to_guest(w, to, frames[i]);
	} else if (unlikely(rte_is_multicast_ether_addr(&ether(frames[0])->dst_addr))) {
		for (i = 0; i < n; i++)
			flood(w, from, frames[i]);
	} else {
		for (i = 0; i < n; i++)
			to_uplink(w, from->id, to != NULL ? to->vlan : from->vlan, frames[i]);
	}
}

/*
 * What may be looked at further: long enough, and with the offloads understood. Returns how many
 * stay; the rest is counted and freed.
 */
static uint16_t
sift(struct worker *w, const struct guest *g, struct rte_mbuf **frames, uint16_t n)
{
	uint16_t i, kept = 0;

	for (i = 0; i < n; i++) {
		struct rte_mbuf *m = frames[i];

		if (unlikely(is_runt(m)))
			drop_from_guest(w, g->id, TX_DROP_RUNT, m);
		else if (unlikely(m->ol_flags != 0 && offload_accept(m) < 0))
			drop_from_guest(w, g->id, TX_DROP_OFFLOAD, m);
		else {
			m->port = g->id;
			frames[kept++] = m;
		}
	}
	return kept;
}

/*
 * The first frame of a guest. Returns whether the guest is registered now; if not, the frame waits, or
 * is counted and freed.
 */
static bool
learn(struct worker *w, struct guest *g, struct rte_mbuf *m)
{
	switch (guests_learn(w->sw->guests, g, &ether(m)->src_addr)) {
	case 0:
		return true;
	case -EINPROGRESS:
		g->first = m;
		return false;
	case -EINVAL:
		drop_from_guest(w, g->id, TX_DROP_SOURCE_INVALID, m);
		return false;
	case -EAGAIN:
		drop_from_guest(w, g->id, TX_DROP_NIC_REFUSED, m);
		return false;
	default:
		drop_from_guest(w, g->id, TX_DROP_MAC_TAKEN, m);
		return false;
	}
}

bool
forward_first(struct worker *w, struct guest *g)
{
	struct rte_mbuf *m = g->first;

	if (guest_is_pending(g))
		return false;
	g->first = NULL;
	if (g->registered)
		forward_from_guest(w, g, &m, 1);
	else
		drop_from_guest(w, g->id, TX_DROP_NIC_REFUSED, m);
	return true;
}

void
forward_from_guest(struct worker *w, struct guest *g, struct rte_mbuf **frames, uint16_t n)
{
	uint64_t key[BURST_MAX];
	uint16_t owner[BURST_MAX];
	uint16_t i, end;

	n = sift(w, g, frames, n);
	if (unlikely(!g->registered) && (n == 0 || !learn(w, g, frames[0])))
		return;
	if (w->sw->cfg->vm2vm == VM2VM_UPLINK) {
		for (i = 0; i < n; i++)
			to_uplink(w, g->id, g->vlan, frames[i]);
		return;
	}
	for (i = 0; i < n; i++)
		key[i] = fdb_key(&ether(frames[i])->dst_addr);
	fdb_lookup_burst(w->sw->guests->fdb, key, n, owner);
	for (i = 0; i < n; i = end) {
		for (end = (uint16_t)(i + 1); end < n && key[end] == key[i]; end++)
			;
		switch_run(w, g, owner[i], &frames[i], (uint16_t)(end - i));
	}
}

/* Whom a frame from the NIC is for. On NULL, why not is in *why. */
static struct guest *
guest_of(struct worker *w, const struct rte_mbuf *m, uint16_t pool_guest, enum uplink_drop *why)
{
	struct guest *g;
	uint16_t tci;

	if (is_runt(m)) {
		*why = UPLINK_DROP_RUNT;
		return NULL;
	}
	if (!vlan_of_received(m, &tci) || (tci & VLAN_VID_MASK) == 0) {
		*why = UPLINK_DROP_UNTAGGED;
		return NULL;
	}
	/* Below VLAN_TAG_BASE this wraps to an id that no guest has. */
	g = guests_find(w->sw->guests, (uint16_t)((tci & VLAN_VID_MASK) - VLAN_TAG_BASE));
	if (g == NULL) {
		*why = UPLINK_DROP_NO_GUEST;
		return NULL;
	}
	if (!rte_is_multicast_ether_addr(&ether(m)->dst_addr) &&
			fdb_key(&ether(m)->dst_addr) != g->mac) {
		*why = UPLINK_DROP_WRONG_MAC;
		return NULL;
	}
	if (pool_guest < GUEST_MAX && g->id != pool_guest) {
		*why = UPLINK_DROP_WRONG_POOL;
		return NULL;
	}
	if (w->sw->uplink->loopback && fdb_key(&ether(m)->src_addr) == g->mac) {
		*why = UPLINK_DROP_OWN;
		return NULL;
	}
	return g;
}

/*
 * Make a frame what the guest is to see: with its tag or without, whatever the NIC did with it.
 * Returns -ENOSPC when there is no room for the tag.
 */
static int
set_tag(const struct worker *w, struct rte_mbuf **m)
{
	if (w->sw->uplink->vlan_strip) {
		vlan_strip(*m);
		return 0;
	}
	if (likely(!((*m)->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED)))
		return 0;
	return vlan_insert(m, (*m)->vlan_tci, false);
}

void
forward_from_uplink(struct worker *w, uint16_t pool_guest, struct rte_mbuf **frames, uint16_t n)
{
	struct uplink_counters *count = &w->counters.uplink;
	struct port_link *link = &w->sw->uplink->link;
	enum uplink_drop why = UPLINK_DROP_NO_GUEST;
	struct guest *g;
	uint16_t i;

	count->rx += n;
	for (i = 0; i < n; i++) {
		g = guest_of(w, frames[i], pool_guest, &why);
		if (g != NULL && unlikely(set_tag(w, &frames[i]) < 0)) {
			g = NULL;
			why = UPLINK_DROP_NO_ROOM;
		}
		/* Packet sockets: what the kernel has left to a card is left to nobody. */
		if (g != NULL && link->if_index > 0 && unlikely(received_finish(frames[i]) < 0)) {
			__atomic_store_n(&link->cut_seen, true, __ATOMIC_RELAXED);
			g = NULL;
			why = UPLINK_DROP_CUT;
		}
		if (g == NULL) {
			count->rx_drop[why]++;
			rte_pktmbuf_free(frames[i]);
			continue;
		}
		frames[i]->port = FROM_UPLINK;
		/* Flags of the receive side mean something else on the way out. */
		frames[i]->ol_flags &= RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL;
		output_to_guest(w, g, frames[i]);
	}
}
