/* SPDX-License-Identifier: BSD-3-Clause */
/* Where frames of named ports go: the same decisions as in forward.c, in one domain each. */
#include <rte_branch_prediction.h>
#include <rte_ether.h>

#include "port/guest.h"
#include "switch/forward.h"
#include "switch/offload.h"
#include "switch/worker.h"
#include "uplink/uplink.h"
#include "uplink/vlan.h"

/* Where a frame goes. */
enum destination {
	TO_PORT,
	TO_UPLINK,
	TO_DOMAIN, /* to each port of the domain that is to get it, and to the uplink */
	TO_NOWHERE,
};

/* A decision. */
struct decision {
	enum destination where;
	struct guest *to;  /* of TO_PORT, else NULL */
	bool unknown;	   /* of TO_DOMAIN: nobody has the address */
	bool is_storm;	   /* to many or to an unknown address: it counts for the sender's limit */
	enum tx_drop why;  /* of TO_NOWHERE */
};

static struct decision
drop_for(enum tx_drop why)
{
	return (struct decision){ .where = TO_NOWHERE, .why = why };
}

static struct decision
to_uplink(const struct worker *w, bool is_storm)
{
	if (!w->sw->uplink->present)
		return drop_for(TX_DROP_NO_DESTINATION);
	return (struct decision){ .where = TO_UPLINK, .is_storm = is_storm };
}

/* Whether two ports may not reach each other. */
static bool
are_apart(const struct port_rules *a, const struct port_rules *b)
{
	return a->settings->isolated && b->settings->isolated;
}

static struct decision
decide(struct worker *w, const struct guest *from, const struct port_rules *mine, uint64_t key,
	uint16_t owner)
{
	const struct ports *ports = &w->sw->guests->ports;
	struct guest *to;

	if (unlikely(fdb_is_reserved(key)))
		return drop_for(TX_DROP_RESERVED_ADDRESS);
	if (unlikely(w->sw->cfg->vm2vm == VM2VM_UPLINK) || owner == FDB_UPLINK)
		return to_uplink(w, fdb_is_multicast(key) || owner == FDB_NONE);
	if (unlikely(owner == from->id))
		return drop_for(TX_DROP_TO_SELF);
	to = guests_get(w->sw->guests, owner);
	if (likely(to != NULL)) {
		const struct port_rules *theirs = port_rules(to->port);

		if (unlikely(are_apart(mine, theirs)))
			return drop_for(TX_DROP_ISOLATED);
		if (likely(port_has_domain(theirs, key_domain(key))))
			return (struct decision){ .where = TO_PORT, .to = to };
	} else if (owner < ID_MAX) { /* a static address: its guest is not there */
		return drop_for(TX_DROP_GUEST_STOPPED);
	}
	if (fdb_is_multicast(key))
		return (struct decision){ .where = TO_DOMAIN, .is_storm = true };
	if (__atomic_load_n(&ports->flood_unknown, __ATOMIC_RELAXED))
		return (struct decision){ .where = TO_DOMAIN, .unknown = true, .is_storm = true };
	return to_uplink(w, true);
}

/* How frames of a run are to look in a guest. */
static void
set_form(const struct port_rules *theirs, struct run *run)
{
	run->tag = port_tag(theirs, key_domain(run->key));
	run->retag = run->tag != 0 || (run->key & KEY_TAGGED);
}

/* Frames that cannot go to a port whose link is set down. Returns how many. */
static uint16_t
drop_at_link(struct worker *w, const struct guest *from, const struct guest *to, struct burst *b,
	const struct run *run)
{
	uint16_t n = forward_drop_run(w, from, b, run, TX_DROP_LINK_DOWN);

	w->counters.guest[to->id].rx_drop[RX_DROP_LINK_DOWN] += n;
	return n;
}

struct refusal
forward_refusal(struct guest *to, const struct port_rules *theirs, uint32_t len)
{
	if (unlikely(!theirs->settings->link_up))
		return (struct refusal){ RX_DROP_LINK_DOWN, TX_DROP_LINK_DOWN };
	if (unlikely(!limit_take_to(&to->limits, theirs->settings->rate_to / 8, len)))
		return (struct refusal){ RX_DROP_RATE, TX_DROP_RATE };
	return (struct refusal){ RX_DROP_MAX, TX_DROP_MAX };
}

/* A frame of a domain that is an mbuf, with or without a tag, to one port of it. It is used up. */
static void
mbuf_to_port(struct worker *w, struct guest *to, uint16_t domain, uint16_t priority,
	struct rte_mbuf *m)
{
	const struct port_rules *theirs = port_rules(to->port);
	struct refusal why = forward_refusal(to, theirs, rte_pktmbuf_pkt_len(m));

	if (likely(why.rx == RX_DROP_MAX) &&
			unlikely(output_retag(&m, port_tag(theirs, domain), priority) < 0))
		why = (struct refusal){ RX_DROP_NO_MBUF, TX_DROP_NO_MBUF };
	if (likely(why.rx == RX_DROP_MAX)) {
		output_mbuf(w, to, m);
		return;
	}
	w->counters.guest[to->id].rx_drop[why.rx]++;
	if (m->port < ID_MAX)
		w->counters.guest[m->port].tx_drop[why.tx]++;
	rte_pktmbuf_free(m);
}

/*
 * Whether a port gets a flooded frame of another, mine; NULL: of the uplink. While a reload has not
 * made the new set of the domain yet, a port may have left it.
 */
static bool
is_flooded(const struct port_rules *mine, const struct port_rules *theirs, uint16_t domain,
	bool unknown)
{
	return theirs->settings->link_up && (!unknown || theirs->settings->flood) &&
		likely(port_has_domain(theirs, domain)) &&
		(mine == NULL || !are_apart(mine, theirs));
}

unsigned int
forward_copies_to_domain(struct worker *w, const struct guest *from, const struct rte_mbuf *m,
	uint16_t domain, uint16_t priority, bool unknown)
{
	const struct guest_set *set = __atomic_load_n(&w->sw->guests->ports.domain[domain],
		__ATOMIC_ACQUIRE);
	const struct port_rules *mine = from != NULL ? port_rules(from->port) : NULL;
	unsigned int i, n = 0;

	for (i = 0; set != NULL && i < set->n; i++) {
		struct guest *to = set->guest[i];
		struct rte_mbuf *copy;

		if (to == from || !is_flooded(mine, port_rules(to->port), domain, unknown))
			continue;
		n++;
		copy = rte_pktmbuf_copy(m, w->sw->pool, 0, UINT32_MAX);
		if (copy == NULL) {
			w->counters.guest[to->id].rx_drop[RX_DROP_NO_MBUF]++;
			continue;
		}
		copy->port = from != NULL ? FROM_FLOOD : FROM_UPLINK;
		mbuf_to_port(w, to, domain, priority, copy);
	}
	return n;
}

void
forward_to_uplink_in_domain(struct worker *w, uint16_t domain, struct rte_mbuf *m)
{
	uint16_t sender = m->port;

	if (domain != DOMAIN_UNTAGGED && vlan_in_frame(m)) {
		vlan_replace(m, domain);
	} else if (domain != DOMAIN_UNTAGGED &&
			vlan_insert(&m, domain, w->sw->uplink->vlan_insert_hw) < 0) {
		drop_from_guest(w, sender, TX_DROP_NO_MBUF, m);
		return;
	}
	output_to_uplink(w, m);
}

/* A flooded frame that is an mbuf, to all that are to get it. It is used up. */
static void
flood_mbuf(struct worker *w, struct guest *from, struct rte_mbuf *m, uint16_t domain,
	uint16_t priority, bool unknown)
{
	unsigned int n = forward_copies_to_domain(w, from, m, domain, priority, unknown);

	if (w->sw->uplink->present) {
		forward_to_uplink_in_domain(w, domain, m);
	} else if (n == 0) {
		drop_from_guest(w, from->id, TX_DROP_NO_DESTINATION, m);
	} else {
		w->counters.guest[from->id].tx_ok++;
		rte_pktmbuf_free(m);
	}
}

/* A frame of a domain that is an mbuf, and not to be dropped. It is used up. */
static void
send_mbuf(struct worker *w, struct guest *from, struct rte_mbuf *m, const struct decision *d,
	uint16_t domain, uint16_t priority)
{
	m->port = from->id;
	if (d->where == TO_PORT)
		mbuf_to_port(w, d->to, domain, priority, m);
	else if (d->where == TO_DOMAIN)
		flood_mbuf(w, from, m, domain, priority, d->unknown);
	else if (d->where == TO_UPLINK)
		forward_to_uplink_in_domain(w, domain, m);
	else
		drop_from_guest(w, from->id, d->why, m);
}

/* Why a frame of the front end's may not be sent, TX_DROP_MAX: it may. */
static enum tx_drop
check_announcement(struct worker *w, struct guest *from, const struct port_rules *mine,
	const struct rte_ether_hdr *eth)
{
	bool unlearned = false;
	enum tx_drop why;

	if (mine->native == DOMAIN_NONE)
		return TX_DROP_VLAN_NOT_ALLOWED;
	if (!mine->settings->link_up)
		return TX_DROP_LINK_DOWN;
	if (!limit_take_frame(&from->limits.storm, mine->settings->storm))
		return TX_DROP_STORM;
	why = classify_source(w, from, mine, fdb_key(&eth->src_addr) | domain_key(mine->native),
		&unlearned);
	w->counters.guest[from->id].fdb_full += unlearned;
	return why;
}

void
forward_announcement(struct worker *w, struct guest *from, struct rte_mbuf *m)
{
	const struct port_rules *mine = port_rules(from->port);
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	enum tx_drop why = check_announcement(w, from, mine, eth);
	struct decision d;
	uint64_t key;

	if (why != TX_DROP_MAX) {
		drop_from_guest(w, from->id, why, m);
		return;
	}
	key = fdb_key(&eth->dst_addr) | domain_key(mine->native);
	d = decide(w, from, mine, key, fdb_lookup(w->sw->guests->fdb, key));
	send_mbuf(w, from, m, &d, mine->native, 0);
}

/*
 * Frames that ask for what a receiver does not accept, or some of a flood may not, are finished as
 * mbufs, one by one. Returns 1, or 0 if the frame is to wait.
 */
static uint16_t
finish_first(struct worker *w, struct guest *from, struct burst *b, uint16_t i,
	const struct decision *d)
{
	struct rte_mbuf *m;

	if (d->where == TO_PORT ? !output_has_room(w, d->to) : output_holds_floods(w))
		return 0;
	if (d->is_storm && !limit_take_frame(&from->limits.storm, b->rules->settings->storm)) {
		w->counters.guest[from->id].tx_drop[TX_DROP_STORM]++;
		return 1;
	}
	m = forward_copy_unfinished(w, from, b, i);
	if (m != NULL)
		send_mbuf(w, from, m, d, key_domain(b->key[i]), burst_priority(b, i));
	return 1;
}

/*
 * A run to a port that may have a limit, in the port's own form. from is NULL for a flood. Returns
 * how many are done with.
 */
static uint16_t
run_to_member(struct worker *w, const struct guest *from, struct guest *to, struct burst *b,
	struct run *run)
{
	const struct port_rules *theirs = port_rules(to->port);

	set_form(theirs, run);
	if (unlikely(theirs->settings->rate_to != 0))
		return forward_limited_run(w, from, to, b, run);
	return output_run(w, to, b, run);
}

/* A run to the ports of its domain, and to the NIC: the copy that the sender's counters follow. */
static uint16_t
flood_run(struct worker *w, struct guest *from, struct burst *b, struct run run, bool unknown)
{
	uint16_t domain = key_domain(run.key);
	const struct guest_set *set = __atomic_load_n(&w->sw->guests->ports.domain[domain],
		__ATOMIC_ACQUIRE);
	unsigned int i, others = 0;

	if (unlikely(output_holds_floods(w)))
		return 0;
	gather(b, b->limit);
	for (i = run.first; in_run(b, (uint16_t)i, &run); i++)
		;
	run.end = (uint16_t)i;
	run.sender = FROM_FLOOD;
	for (i = 0; set != NULL && i < set->n; i++) {
		const struct port_rules *theirs = port_rules(set->guest[i]->port);

		if (set->guest[i] == from || !is_flooded(b->rules, theirs, domain, unknown))
			continue;
		run_to_member(w, NULL, set->guest[i], b, &run);
		others++;
	}
	if (w->sw->uplink->present)
		return forward_run_to_uplink(w, from, 0, b, &run);
	if (others == 0)
		return forward_drop_run(w, from, b, &run, TX_DROP_NO_DESTINATION);
	w->counters.guest[from->id].tx_ok += (uint64_t)(run.end - run.first);
	return (uint16_t)(run.end - run.first);
}

/* A run to many, or to the uplink. Returns how many are done with. */
static uint16_t
spread_run(struct worker *w, struct guest *from, struct burst *b, struct run run,
	const struct decision *d)
{
	return d->where == TO_DOMAIN ? flood_run(w, from, b, run, d->unknown)
				     : forward_run_to_uplink(w, from, 0, b, &run);
}

/*
 * spread_run() for a sender that may have a limit: what is over it is dropped. Returns how many are
 * done with.
 */
static uint16_t
storm_control_run(struct worker *w, struct guest *from, struct burst *b, const struct run *run,
	const struct decision *d)
{
	uint64_t storm = b->rules->settings->storm;
	struct run part = *run;

	if (likely(storm == 0 || !d->is_storm))
		return spread_run(w, from, b, part, d);
	if (unlikely(d->where == TO_DOMAIN && output_holds_floods(w)))
		return 0;
	gather(b, b->limit);
	while (in_run(b, part.first, run)) {
		part.end = part.first;
		while (in_run(b, part.end, run) && limit_take_frame(&from->limits.storm, storm))
			part.end++;
		if (part.end > part.first)
			part.first = (uint16_t)(part.first + spread_run(w, from, b, part, d));
		if (unlikely(part.first < part.end)) {
			limit_return(&from->limits.storm, (uint64_t)(part.end - part.first));
			break;
		}
		if (in_run(b, part.first, run)) {
			w->counters.guest[from->id].tx_drop[TX_DROP_STORM]++;
			part.first++;
		}
	}
	return (uint16_t)(part.first - run->first);
}

/* A run to one port. Returns how many frames are done with. */
static uint16_t
run_to_port(struct worker *w, const struct guest *from, struct guest *to, struct burst *b,
	struct run *run)
{
	if (unlikely(!port_rules(to->port)->settings->link_up))
		return drop_at_link(w, from, to, b, run);
	return run_to_member(w, from, to, b, run);
}

/*
 * With --vm2vm 2: whether frames go by the NIC's switch, which keeps them from the wire. What comes
 * back cannot be told from what comes from outside but by its source. So not those of a burst with
 * sources that the FDB does not know as the sender's.
 */
static bool
is_by_nic(const struct worker *w, const struct burst *b, const struct guest *to, uint64_t key)
{
	uint16_t domain = key_domain(key);
	struct rte_ether_addr mac;

	if (b->nb_unlearned > 0 || !port_rules(to->port)->settings->link_up)
		return false;
	fdb_key_to_mac(key, &mac);
	return uplink_reaches(w->sw->uplink, to->id, &mac,
		domain == DOMAIN_UNTAGGED ? 0 : domain);
}

/* The run of frame i. Returns how many frames are done with; if not all, the others wait. */
static uint16_t
forward_run(struct worker *w, struct guest *from, struct burst *b, uint16_t i, bool *waits)
{
	uint16_t owner = find_owner(w->sw->guests->fdb, b, i), done;
	struct run run = { .first = i, .end = BURST_VIEWS, .key = b->key[i], .mask = UINT64_MAX,
		.sender = from->id, .vring = RINGS_MAX };
	struct decision d;

	if (unlikely(key_is_dropped(run.key)))
		return forward_drop_marked(w, from, b, &run);
	d = decide(w, from, b->rules, run.key, owner);
	if (unlikely(w->sw->uplink->loopback) && d.where == TO_PORT &&
			is_by_nic(w, b, d.to, run.key))
		d = to_uplink(w, false);
	if ((d.where == TO_PORT || d.where == TO_DOMAIN) && forward_must_finish(run.key, d.to)) {
		done = finish_first(w, from, b, i, &d);
		*waits = done == 0;
		return done;
	}
	if (likely(d.where == TO_PORT))
		done = run_to_port(w, from, d.to, b, &run);
	else if (d.where != TO_NOWHERE)
		done = storm_control_run(w, from, b, &run, &d);
	else
		done = forward_drop_run(w, from, b, &run, d.why);
	run.end = BURST_VIEWS;
	*waits = in_run(b, (uint16_t)(i + done), &run);
	return done;
}

uint16_t
forward_from_port(struct worker *w, struct guest *from, struct burst *b)
{
	const struct port_rules *rules = port_rules(from->port);
	bool waits = false, limited;
	uint16_t i = 0;

	burst_set_sender(b, w, from, rules);
	limited = forward_is_limited(rules);
	if (unlikely(limited))
		forward_limit_burst(b);
	if (unlikely(!rules->settings->link_up)) {
		w->counters.guest[from->id].tx_drop[TX_DROP_LINK_DOWN] += b->n;
		return b->n;
	}
	/* With the NIC's switch all sources are seen before the first decision. */
	if (unlikely(w->sw->uplink->loopback)) {
		gather(b, b->limit);
		read_keys(b, b->n);
	}
	while (i < b->n && !waits) {
		i = (uint16_t)(i + forward_run(w, from, b, i, &waits));
		gather(b, (uint16_t)(i + GATHER_AHEAD));
	}
	if (unlikely(b->nb_unlearned > 0))
		classify_count_unlearned(b, i);
	if (unlikely(limited))
		forward_charge(from, b, i);
	return i;
}
