/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>

#include <rte_branch_prediction.h>
#include <rte_ether.h>

#include "port/guest.h"
#include "switch/deliver.h"
#include "switch/forward.h"
#include "switch/offload.h"
#include "switch/received.h"
#include "uplink/vlan.h"
#include "switch/worker.h"
#include "uplink/uplink.h"

/* Where a frame of a guest goes. */
enum destination {
	TO_SENDER, /* its own */
	TO_GUEST,
	TO_UPLINK,
	TO_ALL,	    /* broadcast and multicast */
	TO_NOWHERE, /* nobody has the address, and there is no uplink */
};

static const struct rte_ether_hdr *
ether(const struct rte_mbuf *m)
{
	return rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
}

/* Whether the NIC's switch takes a frame to a guest. */
static bool
is_reached(const struct worker *w, const struct guest *to)
{
	struct rte_ether_addr mac;

	if (!w->sw->uplink->assigns_pools)
		return guest_is_registered(to);
	fdb_key_to_mac(to->mac, &mac);
	return uplink_reaches(w->sw->uplink, to->id, &mac, to->vlan);
}

/*
 * The decision, by destination and by who has it. A guest without a filter in the NIC cannot be
 * reached by way of it: its frames go straight to it. On TO_UPLINK *vlan is what a frame
 * without a VLAN gets.
 */
static enum destination
decide(struct worker *w, const struct guest *from, uint64_t key, uint16_t owner, struct guest **to,
	uint16_t *vlan)
{
	uint32_t mode = w->sw->cfg->vm2vm;

	*to = NULL;
	*vlan = from->vlan;
	if (unlikely(mode == VM2VM_UPLINK))
		return w->sw->uplink->present ? TO_UPLINK : TO_NOWHERE;
	if (unlikely(owner == from->id))
		return TO_SENDER;
	*to = guests_get(w->sw->guests, owner);
	if (likely(*to != NULL && (mode == VM2VM_SOFTWARE || !is_reached(w, *to))))
		return TO_GUEST;
	if (*to != NULL)
		*vlan = (*to)->vlan;
	else if (fdb_is_multicast(key))
		return TO_ALL;
	return w->sw->uplink->present ? TO_UPLINK : TO_NOWHERE;
}

/*
 * Send a frame to the NIC. vlan is what a frame without a VLAN gets, and with --vm2vm 2 a frame
 * with one too: it decides where the NIC's switch puts the frame. A priority tag names no VLAN.
 */
static void
send_to_uplink(struct worker *w, uint16_t vlan, struct rte_mbuf *m)
{
	uint16_t sender = m->port;

	if (!vlan_in_frame(m)) {
		if (vlan_insert(&m, vlan, w->sw->uplink->vlan_insert_hw) < 0) {
			drop_from_guest(w, sender, TX_DROP_NO_MBUF, m);
			return;
		}
	} else if (w->sw->cfg->vm2vm == VM2VM_HARDWARE || vlan_is_priority_tag(m)) {
		vlan_replace(m, vlan);
	}
	output_to_uplink(w, m);
}

/* Mbufs taken from a pool by the burst, and not used yet. */
struct fresh {
	struct rte_mbuf *m[BURST_MAX];
	uint16_t n;
};

/* An mbuf for a frame, of which there may be so many. NULL if the pool is empty. */
static inline struct rte_mbuf *
take_fresh(struct fresh *fresh, struct rte_mempool *pool, uint16_t want)
{
	want = RTE_MIN(want, (uint16_t)BURST_MAX);
	if (fresh->n == 0 && rte_pktmbuf_alloc_bulk(pool, fresh->m, want) == 0)
		fresh->n = want;
	return likely(fresh->n > 0) ? fresh->m[--fresh->n] : rte_pktmbuf_alloc(pool);
}

uint16_t
forward_run_to_uplink(struct worker *w, const struct guest *from, uint16_t vlan, struct burst *b,
	const struct run *run)
{
	struct fresh fresh = { .n = 0 };
	uint16_t i = run->first;
	struct rte_mbuf *m;

	for (;; i++) {
		gather(b, (uint16_t)(i + GATHER_AHEAD));
		if (!in_run(b, i, run))
			break;
		m = take_fresh(&fresh, w->sw->pool, (uint16_t)(b->limit - i));
		if (likely(m != NULL))
			m = burst_copy_into(b, i, m, UINT32_MAX);
		if (unlikely(m == NULL)) {
			w->counters.guest[from->id].tx_drop[TX_DROP_NO_MBUF]++;
			continue;
		}
		if (unlikely(burst_asks(b, i) != 0) &&
				offload_read_header(m, &b->header[i]) < 0) {
			drop_from_guest(w, from->id, TX_DROP_OFFLOAD, m);
			continue;
		}
		m->port = from->id;
		if (unlikely(b->rules != NULL))
			forward_to_uplink_in_domain(w, key_domain(run->key), m);
		else
			send_to_uplink(w, vlan, m);
	}
	rte_pktmbuf_free_bulk(fresh.m, fresh.n);
	return (uint16_t)(i - run->first);
}

uint16_t
forward_drop_run(struct worker *w, const struct guest *from, struct burst *b, const struct run *run,
	enum tx_drop why)
{
	uint16_t i;

	for (i = run->first; in_run(b, i, run); i++)
		w->counters.guest[from->id].tx_drop[why]++;
	return (uint16_t)(i - run->first);
}

uint16_t
forward_drop_marked(struct worker *w, const struct guest *from, struct burst *b,
	const struct run *run)
{
	uint16_t i;

	for (i = run->first; in_run(b, i, run); i++)
		w->counters.guest[from->id].tx_drop[b->why[i]]++;
	return (uint16_t)(i - run->first);
}

/*
 * Broadcast and multicast, to every other guest, with a MAC address or without, and to the NIC: the
 * copy that the sender's counters follow.
 */
static uint16_t
flood_run(struct worker *w, struct guest *from, struct burst *b, struct run run)
{
	const struct guest_set *all = __atomic_load_n(&w->sw->guests->shared, __ATOMIC_ACQUIRE);
	unsigned int i, others = 0;

	if (unlikely(output_holds_floods(w)))
		return 0;
	gather(b, b->limit);
	while (in_run(b, run.end, &(struct run){ .end = BURST_VIEWS, .key = run.key,
			.mask = run.mask }))
		run.end++;
	run.sender = FROM_FLOOD;
	for (i = 0; i < all->n; i++) {
		if (all->guest[i] == from)
			continue;
		output_run(w, all->guest[i], b, &run);
		others++;
	}
	if (w->sw->uplink->present)
		return forward_run_to_uplink(w, from, from->vlan, b, &run);
	if (others == 0)
		return forward_drop_run(w, from, b, &run, TX_DROP_NO_DESTINATION);
	w->counters.guest[from->id].tx_ok += (uint64_t)(run.end - run.first);
	return (uint16_t)(run.end - run.first);
}

/*
 * Flood a frame that is an mbuf. Each guest gets a copy, as software may have to finish it for
 * some.
 */
static void
flood_mbuf(struct worker *w, struct guest *from, struct rte_mbuf *m)
{
	const struct guest_set *all = __atomic_load_n(&w->sw->guests->shared, __ATOMIC_ACQUIRE);
	struct rte_mbuf *copy;
	unsigned int i, others = 0;

	for (i = 0; i < all->n; i++) {
		struct guest *to = all->guest[i];

		if (to == from)
			continue;
		others++;
		copy = rte_pktmbuf_copy(m, w->sw->pool, 0, UINT32_MAX);
		if (copy == NULL) {
			w->counters.guest[to->id].rx_drop[RX_DROP_NO_MBUF]++;
			continue;
		}
		copy->port = FROM_FLOOD;
		output_mbuf(w, to, copy);
	}
	if (w->sw->uplink->present) {
		send_to_uplink(w, from->vlan, m);
	} else if (others == 0) {
		drop_from_guest(w, from->id, TX_DROP_NO_DESTINATION, m);
	} else {
		w->counters.guest[from->id].tx_ok++;
		rte_pktmbuf_free(m);
	}
}

void
forward_mbuf(struct worker *w, struct guest *from, struct rte_mbuf *m)
{
	uint64_t key = fdb_key(&ether(m)->dst_addr);
	uint16_t vlan, owner = fdb_lookup(w->sw->guests->fdb, key);
	struct guest *to;

	m->port = from->id;
	switch (decide(w, from, key, owner, &to, &vlan)) {
	case TO_GUEST:
		output_mbuf(w, to, m);
		break;
	case TO_UPLINK:
		send_to_uplink(w, vlan, m);
		break;
	case TO_ALL:
		flood_mbuf(w, from, m);
		break;
	case TO_SENDER:
		drop_from_guest(w, from->id, TX_DROP_TO_SELF, m);
		break;
	case TO_NOWHERE:
		drop_from_guest(w, from->id, TX_DROP_NO_DESTINATION, m);
		break;
	}
}

/* What became of a run of frames. */
enum progress {
	RUN_DONE,
	RUN_WAITS, /* what is left of it waits in the virtqueue, and so does all after it */
};

bool
forward_must_finish(uint64_t key, const struct guest *to)
{
	uint8_t asks = key_asks(key);

	return unlikely(asks != 0) && (to == NULL || (asks & ~guest_accepts(to)) != 0);
}

struct rte_mbuf *
forward_copy_unfinished(struct worker *w, const struct guest *from, struct burst *b, uint16_t i)
{
	struct rte_mbuf *m = burst_copy(b, i, w->sw->pool, UINT32_MAX);

	if (m == NULL) {
		w->counters.guest[from->id].tx_drop[TX_DROP_NO_MBUF]++;
		return NULL;
	}
	m->port = from->id;
	if (offload_read_header(m, &b->header[i]) == 0)
		return m;
	drop_from_guest(w, from->id, TX_DROP_OFFLOAD, m);
	return NULL;
}

/*
 * The first frame of a run becomes an mbuf, to be finished. Returns 1, or 0 if it is to wait. to is
 * NULL for a flood.
 */
static uint16_t
finish_first(struct worker *w, struct guest *from, struct guest *to, struct burst *b, uint16_t i)
{
	struct rte_mbuf *m;

	if (to != NULL ? !output_has_room(w, to) : output_holds_floods(w))
		return 0;
	m = forward_copy_unfinished(w, from, b, i);
	if (m != NULL && to != NULL)
		output_mbuf(w, to, m);
	else if (m != NULL)
		flood_mbuf(w, from, m);
	return 1;
}

/* The run of frame *i, which becomes the first frame that is not done with. */
static enum progress
forward_run(struct worker *w, struct guest *from, struct burst *b, uint16_t *i)
{
	uint16_t vlan, owner = find_owner(w->sw->guests->fdb, b, *i), done;
	struct run run = { .first = *i, .end = BURST_VIEWS, .key = b->key[*i], .mask = UINT64_MAX,
		.sender = from->id, .vring = RINGS_MAX };
	enum destination where;
	struct guest *to;

	if (unlikely(key_is_dropped(run.key))) {
		*i = (uint16_t)(*i + forward_drop_marked(w, from, b, &run));
		return RUN_DONE;
	}
	where = decide(w, from, run.key, owner, &to, &vlan);
	if ((where == TO_GUEST || where == TO_ALL) && forward_must_finish(run.key, to)) {
		done = finish_first(w, from, to, b, *i);
		*i = (uint16_t)(*i + done);
		return done > 0 ? RUN_DONE : RUN_WAITS;
	}
	switch (where) {
	case TO_GUEST:
		done = output_run(w, to, b, &run);
		break;
	case TO_UPLINK:
		done = forward_run_to_uplink(w, from, vlan, b, &run);
		break;
	case TO_ALL:
		run.end = *i;
		done = flood_run(w, from, b, run);
		break;
	case TO_SENDER:
		done = forward_drop_run(w, from, b, &run, TX_DROP_TO_SELF);
		break;
	default:
		done = forward_drop_run(w, from, b, &run, TX_DROP_NO_DESTINATION);
		break;
	}
	run.end = BURST_VIEWS;
	*i = (uint16_t)(*i + done);
	return in_run(b, *i, &run) ? RUN_WAITS : RUN_DONE;
}

/* Count a frame that was dropped because of its source. Returns that it is done with. */
static uint16_t
drop_source(struct worker *w, const struct guest *g, int error)
{
	enum tx_drop why = error == -EINVAL ? TX_DROP_SOURCE_INVALID
		: error == -EAGAIN ? TX_DROP_NIC_REFUSED : TX_DROP_MAC_TAKEN;

	w->counters.guest[g->id].tx_drop[why]++;
	return 1;
}

/*
 * A guest that sends from several addresses may have its own after others in each burst: look
 * at all of n frames before it is taken for silent.
 */
static void
look_for_mac(const struct worker *w, struct guest *from, const struct burst *b, uint16_t n)
{
	uint16_t i;

	for (i = 1; i < n; i++) {
		const struct rte_ether_hdr *eth = (const void *)b->data[i];

		if (fdb_key(&eth->src_addr) == from->mac) {
			from->last_seen = w->now;
			return;
		}
	}
}

uint16_t
forward_from_guest(struct worker *w, struct guest *from, struct burst *b)
{
	enum progress progress = RUN_DONE;
	struct rte_ether_hdr header;
	uint16_t i = 0;
	int ret;

	memcpy(&header, b->data[0], sizeof(header));
	if (likely(fdb_key(&header.src_addr) == from->mac))
		from->last_seen = w->now;
	else if (w->now - from->last_seen >= ADDRESS_SILENCE)
		__atomic_store_n(&from->relearn, true, __ATOMIC_RELAXED);
	if (unlikely(guest_must_learn(from))) {
		from->last_seen = w->now;
		ret = guests_learn(w->sw->guests, from, &header.src_addr);
		if (ret < 0)
			return ret == -EINPROGRESS ? 0 : drop_source(w, from, ret);
	}
	while (i < b->n && progress == RUN_DONE) {
		progress = forward_run(w, from, b, &i);
		gather(b, (uint16_t)(i + GATHER_AHEAD));
	}
	if (unlikely(w->now - from->last_seen > ADDRESS_SILENCE / 2))
		look_for_mac(w, from, b, i);
	return i;
}

/* Whom a frame from the NIC is for. On NULL, why not is in *why. */
static struct guest *
guest_of(struct worker *w, const struct rte_mbuf *m, uint16_t pool_guest, enum uplink_drop *why)
{
	bool multicast;
	struct guest *g;
	uint16_t tci;

	*why = UPLINK_DROP_RUNT;
	if (rte_pktmbuf_data_len(m) < sizeof(struct rte_ether_hdr))
		return NULL;
	*why = UPLINK_DROP_UNTAGGED;
	if (!vlan_of_received(m, &tci) || (tci & VLAN_VID_MASK) == 0)
		return NULL;
	/* Below VLAN_TAG_BASE this wraps to an id that no guest has. */
	g = guests_get(w->sw->guests, (uint16_t)((tci & VLAN_VID_MASK) - VLAN_TAG_BASE));
	multicast = rte_is_multicast_ether_addr(&ether(m)->dst_addr);
	*why = UPLINK_DROP_NO_GUEST;
	if (g == NULL || g->port != NULL || (!multicast && !guest_is_registered(g)))
		return NULL;
	*why = UPLINK_DROP_WRONG_MAC;
	if (!multicast && fdb_key(&ether(m)->dst_addr) != g->mac)
		return NULL;
	*why = UPLINK_DROP_WRONG_POOL;
	if (pool_guest < ID_MAX && g->id != pool_guest)
		return NULL;
	*why = UPLINK_DROP_OWN;
	if (w->sw->uplink->loopback && guest_is_registered(g) &&
			fdb_key(&ether(m)->src_addr) == g->mac)
		return NULL;
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

/*
 * Packet sockets: what the kernel has left to a card is left to nobody. Returns false for a frame
 * without its end.
 */
static bool
finish_received(struct worker *w, struct rte_mbuf *m)
{
	struct port_link *link = &w->sw->uplink->link;

	if (link->if_index == 0 || likely(received_finish(m) == 0))
		return true;
	__atomic_store_n(&link->cut_seen, true, __ATOMIC_RELAXED);
	return false;
}

/* Whether a frame from the NIC belongs to a domain that a named port is in. */
static bool
is_for_ports(struct worker *w, const struct rte_mbuf *m)
{
	return rte_pktmbuf_data_len(m) >= sizeof(struct rte_ether_hdr) &&
		ports_have_domain(&w->sw->guests->ports, forward_uplink_domain(m));
}

/*
 * Whom a frame from the NIC is for, after it was made ready; NULL: it is for nobody, and was
 * counted, or *m is NULL and others have got it.
 */
static struct guest *
accept_from_uplink(struct worker *w, struct rte_mbuf **m, uint16_t pool_guest)
{
	enum uplink_drop why = UPLINK_DROP_CUT;
	struct guest *g;

	if (unlikely(w->sw->guests->ports.in_use) && is_for_ports(w, *m)) {
		g = finish_received(w, *m) ? forward_accept_for_port(w, m, &why) : NULL;
		if (g == NULL && why == UPLINK_DROP_MAX) {
			*m = NULL;
			return NULL;
		}
	} else {
		g = guest_of(w, *m, pool_guest, &why);
	}
	if (g != NULL && g->port == NULL && unlikely(set_tag(w, m) < 0)) {
		g = NULL;
		why = UPLINK_DROP_NO_ROOM;
	}
	if (g != NULL && g->port == NULL && !finish_received(w, *m)) {
		g = NULL;
		why = UPLINK_DROP_CUT;
	}
	if (g == NULL) {
		w->counters.uplink.rx_drop[why]++;
		return NULL;
	}
	(*m)->port = FROM_UPLINK;
	/* Flags of the receive side mean something else on the way out. */
	(*m)->ol_flags &= RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL;
	return g;
}

void
forward_from_uplink(struct worker *w, uint16_t pool_guest, struct rte_mbuf **frames, uint16_t n)
{
	struct guest *to[BURST_MAX], *g;
	struct run run = { .sender = FROM_UPLINK, .vring = RINGS_MAX };
	struct burst b;
	uint16_t i, good = 0;

	w->counters.uplink.rx += n;
	for (i = 0; i < n; i++) {
		g = accept_from_uplink(w, &frames[i], pool_guest);
		if (g == NULL) {
			rte_pktmbuf_free(frames[i]);
			continue;
		}
		to[good] = g;
		frames[good++] = frames[i];
	}
	burst_of_mbufs(&b, frames, good);
	for (; run.first < good; run.first = run.end) {
		for (run.end = run.first; run.end < good && to[run.end] == to[run.first]; run.end++)
			;
		output_run(w, to[run.first], &b, &run);
	}
	deliver_finish(&b, 0);
	rte_pktmbuf_free_bulk(frames, good);
}
