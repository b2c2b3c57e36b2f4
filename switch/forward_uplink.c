/* SPDX-License-Identifier: BSD-3-Clause */
/* Whom frames of the uplink are for, in the domains of named ports. */
#include <errno.h>

#include <rte_branch_prediction.h>
#include <rte_ether.h>

#include "port/guest.h"
#include "switch/forward.h"
#include "switch/output.h"
#include "switch/worker.h"
#include "uplink/uplink.h"
#include "uplink/vlan.h"

uint16_t
forward_uplink_domain(const struct rte_mbuf *m)
{
	uint16_t tci, vlan;

	if (!vlan_of_received(m, &tci) || (tci & VLAN_VID_MASK) == 0)
		return DOMAIN_UNTAGGED;
	vlan = tci & VLAN_VID_MASK;
	return vlan == DOMAIN_UNTAGGED ? DOMAIN_SHARED : vlan; /* a tag may not say 4095 */
}

/*
 * Whether a frame to a port was sent by another, and taken here by the NIC's switch. From the wire
 * comes nothing with such a source, unless somebody there pretends to be that port.
 */
static bool
is_from_nic_switch(struct worker *w, uint64_t source, uint16_t owner)
{
	uint16_t sender;

	if (likely(!w->sw->uplink->loopback) || owner >= ID_MAX)
		return false;
	sender = fdb_lookup(w->sw->guests->fdb, source);
	return sender < ID_MAX && sender != owner;
}

/* Whether a frame from the NIC comes from an address that may be there. */
static bool
see_uplink_source(struct worker *w, uint64_t key)
{
	if (likely(key == w->uplink_source))
		return true;
	if (fdb_learn(w->sw->guests->fdb, key, FDB_UPLINK, UPLINK_ADDRESS_MAX, w->now) ==
			FDB_LEARN_TAKEN)
		return false;
	w->uplink_source = key;
	return true;
}

/*
 * A frame of the uplink to one port. Returns the port's guest, NULL: it goes no further, *why says
 * why not, or is UPLINK_DROP_MAX: it was counted as one for the guest, and freed.
 */
static struct guest *
accept_for_guest(struct worker *w, struct rte_mbuf **m, struct guest *to, uint16_t domain,
	uint16_t priority, enum uplink_drop *why)
{
	const struct port_rules *theirs = port_rules(to->port);
	enum rx_drop refusal = forward_refusal(to, theirs, rte_pktmbuf_pkt_len(*m)).rx;

	if (unlikely(refusal != RX_DROP_MAX)) {
		w->counters.guest[to->id].rx_drop[refusal]++;
		*why = UPLINK_DROP_MAX;
		rte_pktmbuf_free(*m);
		return NULL;
	}
	*why = UPLINK_DROP_NO_ROOM;
	return output_retag(m, port_tag(theirs, domain), priority) < 0 ? NULL : to;
}

/*
 * Take the tag off a frame of the uplink. Returns its priority, or -EINVAL if there is another tag
 * under it.
 */
static int
take_tag(struct rte_mbuf *m)
{
	uint16_t tci = 0;
	bool tagged = vlan_of_received(m, &tci);

	if (vlan_in_frame(m) && !(m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED))
		vlan_remove(m);
	m->ol_flags &= RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL; /* what is left has no tag */
	return tagged && vlan_in_frame(m) ? -EINVAL : tci & (uint16_t)~VLAN_VID_MASK;
}

struct guest *
forward_accept_for_port(struct worker *w, struct rte_mbuf **m, enum uplink_drop *why)
{
	uint16_t domain = forward_uplink_domain(*m), owner;
	int priority = take_tag(*m);
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(*m, const struct rte_ether_hdr *);
	uint64_t key = fdb_key(&eth->dst_addr) | domain_key(domain);
	uint64_t source = fdb_key(&eth->src_addr) | domain_key(domain);
	bool multicast = fdb_is_multicast(key);
	struct guest *to;

	*why = UPLINK_DROP_VLAN_NOT_ALLOWED;
	if (priority < 0)
		return NULL;
	*why = UPLINK_DROP_SOURCE_INVALID;
	if (!rte_is_valid_assigned_ether_addr(&eth->src_addr))
		return NULL;
	owner = fdb_lookup(w->sw->guests->fdb, key);
	*why = UPLINK_DROP_OWN;
	if (!is_from_nic_switch(w, source, owner) && !see_uplink_source(w, source))
		return NULL;
	*why = UPLINK_DROP_RESERVED_ADDRESS;
	if (fdb_is_reserved(key))
		return NULL;
	*why = UPLINK_DROP_OUTSIDE;
	if (owner == FDB_UPLINK)
		return NULL;
	to = guests_get(w->sw->guests, owner);
	if (to != NULL && to->port != NULL && port_has_domain(port_rules(to->port), domain))
		return accept_for_guest(w, m, to, domain, (uint16_t)priority, why);
	*why = UPLINK_DROP_NO_GUEST;
	if (owner < ID_MAX) /* a static address: its guest is not there */
		return NULL;
	if (!multicast && !__atomic_load_n(&w->sw->guests->ports.flood_unknown, __ATOMIC_RELAXED))
		return NULL;
	if (forward_copies_to_domain(w, NULL, *m, domain, (uint16_t)priority, !multicast) == 0)
		return NULL;
	*why = UPLINK_DROP_MAX;
	rte_pktmbuf_free(*m);
	return NULL;
}
