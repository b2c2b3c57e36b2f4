/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <string.h>

#include "port/guest.h"
#include "port/pools.h"
#include "thread.h"

/* Names in one log line; of the others their number is given. */
#define NAMES_MAX 8

/* VLANs that tags may name, which the filters have room for. */
#define VLANS_ROOM (POOL_VLANS_MAX - 1)

/* Who is to have which pool. */
struct assignment {
	uint8_t pool[ID_MAX];
	uint8_t why[ID_MAX];
	uint64_t taken;	       /* pools, the default pool included */
	struct vlan_set vlans; /* of all that have one; 0 is the untagged network */
};

/* The VLANs of a guest on the uplink. Returns false if nobody is there that is to have a pool. */
static bool
vlans_of(const struct guests *guests, uint16_t id, struct vlan_set *vlans)
{
	const struct port *p;
	uint16_t native = (uint16_t)(VLAN_TAG_BASE + id);

	*vlans = (struct vlan_set){ { 0 } };
	if (id >= GUEST_MAX) {
		p = &guests->ports.port[id - GUEST_MAX];
		if (!p->in_use || p->removed)
			return false;
		*vlans = p->rules->settings->trunk;
		native = p->rules->native == DOMAIN_UNTAGGED ? 0 : p->rules->native;
	} else if (guests->by_id[id] == NULL) {
		return false;
	}
	if (native != DOMAIN_NONE)
		vlans->word[native / 64] |= RTE_BIT64(native % 64);
	return true;
}

/* How many VLANs there are in two sets together. */
static unsigned int
count_vlans(const struct vlan_set *a, const struct vlan_set *b)
{
	unsigned int i, n = 0;

	for (i = 0; i < RTE_DIM(a->word); i++) /* the untagged network has a filter of its own */
		n += (unsigned int)__builtin_popcountll((a->word[i] | b->word[i]) &
			(i == 0 ? ~UINT64_C(1) : UINT64_MAX));
	return n;
}

/* Give a guest a pool: the one that it has, or a free one. */
static enum pool_reason
assign(const struct guests *guests, struct assignment *a, uint16_t id)
{
	const struct uplink *up = guests->uplink;
	uint64_t all = up->nb_pools < 64 ? RTE_BIT64(up->nb_pools) - 1 : UINT64_MAX;
	uint16_t pool = uplink_pool(up, id);
	struct vlan_set vlans;
	unsigned int i;

	if (!vlans_of(guests, id, &vlans))
		return POOL_GIVEN;
	if (vlan_set_has(&vlans, 0) && !up->pools_untagged)
		return POOL_UNTAGGED;
	if (count_vlans(&vlans, &a->vlans) > VLANS_ROOM)
		return POOL_VLANS;
	if (a->taken == all)
		return POOL_TAKEN;
	if (pool == 0)
		pool = (uint16_t)__builtin_ctzll(~a->taken);
	a->pool[id] = (uint8_t)pool;
	a->taken |= RTE_BIT64(pool);
	for (i = 0; i < RTE_DIM(vlans.word); i++)
		a->vlans.word[i] |= vlans.word[i];
	return POOL_GIVEN;
}

/* Those that have a pool come first, then named ports, then others. */
static void
assign_all(const struct guests *guests, struct assignment *a)
{
	const struct uplink *up = guests->uplink;
	unsigned int i;
	int turn;

	memset(a, 0, sizeof(*a));
	a->taken = 1;
	for (turn = 0; turn < 2; turn++) {
		for (i = 0; i < ID_MAX; i++) {
			uint16_t id = (uint16_t)((i + GUEST_MAX) % ID_MAX);

			if ((uplink_pool(up, id) != 0) == (turn == 0))
				a->why[id] = (uint8_t)assign(guests, a, id);
		}
	}
}

/* A pool is to get what has this VLAN. */
static void
want_vlan(struct uplink_filters *want, uint16_t vlan, uint8_t pool)
{
	unsigned int i = uplink_find_vlan(want, vlan);

	if (i == want->nb_vlans)
		want->vlan[want->nb_vlans++] = (struct uplink_vlan){ .vlan = vlan, .pools = 1 };
	want->vlan[i].pools |= RTE_BIT64(pool);
}

static void
want_vlans(const struct guests *guests, const struct assignment *a, struct uplink_filters *want)
{
	struct vlan_set vlans;
	unsigned int i;
	uint64_t left;
	uint16_t id;

	for (id = 0; id < ID_MAX; id++) {
		if (a->pool[id] == 0)
			continue;
		vlans_of(guests, id, &vlans);
		for (i = 0; i < RTE_DIM(vlans.word); i++) {
			for (left = vlans.word[i]; left != 0; left &= left - 1)
				want_vlan(want, (uint16_t)(64 * i + __builtin_ctzll(left)),
					a->pool[id]);
		}
	}
}

/* The addresses that are to be in filters. */
struct addresses {
	const struct guests *guests;
	const struct assignment *assignment;
	struct uplink_filters *want;
	bool only_set;	       /* those that are in a filter now: they come first */
	unsigned int left_out; /* for want of a filter */
};

static bool
want_address(uint64_t key, uint16_t owner, uint32_t seen, void *arg)
{
	struct addresses *a = arg;
	const struct uplink *up = a->guests->uplink;
	struct uplink_filters *want = a->want;
	struct rte_ether_addr mac;
	unsigned int i;

	RTE_SET_USED(seen);
	if (owner >= ID_MAX || a->assignment->pool[owner] == 0 ||
			a->guests->by_id[owner] == NULL)
		return false;
	fdb_key_to_mac(key, &mac);
	if (rte_is_same_ether_addr(&mac, &up->own_mac))
		return false;
	i = uplink_find_mac(want, &mac);
	if (i == want->nb_macs) {
		if (a->only_set && uplink_find_mac(&up->filters, &mac) == up->filters.nb_macs)
			return false;
		if (i == up->mac_filters) {
			a->left_out++;
			return false;
		}
		want->mac[want->nb_macs++] = (struct uplink_mac){ .mac = mac };
	}
	want->mac[i].pools |= RTE_BIT64(a->assignment->pool[owner]);
	return true;
}

/* Whether a frame to an address that these pools have could land in two of them. */
static bool
would_double(const struct uplink *up, const struct uplink_filters *want, uint64_t pools)
{
	unsigned int i;

	if ((pools & (pools - 1)) == 0)
		return false;
	if (up->pools_untagged) /* all of them get untagged frames */
		return true;
	for (i = 0; i < want->nb_vlans; i++) {
		uint64_t both = want->vlan[i].pools & pools;

		if (both & (both - 1))
			return true;
	}
	return false;
}

/*
 * With --vm2vm 2 the NIC keeps from the wire what is for an address in a filter, whatever its VLAN
 * is (82599 datasheet, 7.10.3.4). So one that is outside too, in another VLAN, is in no filter.
 */
static bool
leave_to_wire(uint64_t key, uint16_t owner, uint32_t seen, void *arg)
{
	struct uplink_filters *want = arg;
	struct rte_ether_addr mac;
	unsigned int i;

	RTE_SET_USED(seen);
	if (owner != FDB_UPLINK)
		return false;
	fdb_key_to_mac(key, &mac);
	i = uplink_find_mac(want, &mac);
	if (i < want->nb_macs)
		want->mac[i] = want->mac[--want->nb_macs];
	return false;
}

static void
want_addresses(struct guests *guests, const struct assignment *assignment,
	struct uplink_filters *want)
{
	struct addresses a = { .guests = guests, .assignment = assignment, .want = want };
	unsigned int i;

	__atomic_store_n(&guests->pools.fdb_changes, fdb_changes(guests->fdb), __ATOMIC_RELAXED);
	a.only_set = true;
	fdb_visit(guests->fdb, want_address, &a);
	a.only_set = false;
	fdb_visit(guests->fdb, want_address, &a);
	for (i = 0; i < want->nb_macs; ) {
		if (would_double(guests->uplink, want, want->mac[i].pools))
			want->mac[i] = want->mac[--want->nb_macs];
		else
			i++;
	}
	if (guests->uplink->loopback)
		fdb_visit(guests->fdb, leave_to_wire, want);
	if (a.left_out > 0 && !guests->pools.full_logged)
		RTE_LOG(INFO, UPLINK, "port %u: all %u MAC filters are in use, other addresses "
			"are steered in software\n", guests->uplink->port,
			guests->uplink->mac_filters);
	guests->pools.full_logged = a.left_out > 0;
}

/* One line for all ports that have no pool for this reason, and had none or another before. */
static void
log_reason(const struct guests *guests, const struct assignment *a, enum pool_reason why,
	const char *text)
{
	char names[NAMES_MAX * (PORT_NAME_SIZE + 2)], more[24] = "";
	unsigned int i, n = 0;
	size_t len = 0;

	for (i = 0; i < PORT_MAX; i++) {
		const struct port *p = &guests->ports.port[i];

		if (!p->in_use || a->why[p->id] != why || guests->pools.why[p->id] == why)
			continue;
		if (n++ < NAMES_MAX)
			len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%s",
				len > 0 ? ", " : "", p->name);
	}
	if (n > NAMES_MAX)
		snprintf(more, sizeof(more), " and %u more", n - NAMES_MAX);
	if (n > 0)
		RTE_LOG(INFO, UPLINK, "port%s %s%s: steered in software, %s\n", n > 1 ? "s" : "",
			names, more, text);
}

static void
log_reasons(struct guests *guests, const struct assignment *a)
{
	static const char *const text[POOL_REASON_MAX] = {
		[POOL_VLANS] = "the NIC's VLAN filters have no room for all VLANs",
		[POOL_UNTAGGED] = "the NIC's pools do not accept untagged frames",
		[POOL_TAKEN] = "all of the NIC's pools are taken",
	};
	unsigned int why;

	for (why = POOL_VLANS; why < POOL_REASON_MAX; why++)
		log_reason(guests, a, (enum pool_reason)why, text[why]);
	memcpy(guests->pools.why, a->why, sizeof(a->why));
}

/* Pools change hands: first all that are taken back, when nothing comes into them any more. */
static void
change_pools(struct guests *guests, const struct assignment *a)
{
	struct uplink *up = guests->uplink;
	bool taken_back = false;
	uint16_t id;

	for (id = 0; id < ID_MAX; id++) {
		if (uplink_pool(up, id) == 0 || uplink_pool(up, id) == a->pool[id])
			continue;
		if (!taken_back) /* what is in their queues is for their guests */
			wait_for_workers(guests->rcu);
		taken_back = true;
		uplink_give_pool(up, id, 0);
	}
	if (taken_back)
		wait_for_workers(guests->rcu);
	for (id = 0; id < ID_MAX; id++) {
		if (uplink_pool(up, id) != a->pool[id])
			uplink_give_pool(up, id, a->pool[id]);
	}
}

/* Workers know what of the filters is wanted, and nothing else any more. */
static void
let_switch(struct guests *guests, const struct uplink_filters *want)
{
	if (!guests->uplink->loopback)
		return;
	uplink_switch(guests->uplink, want);
	wait_for_workers(guests->rcu);
}

void
pools_update(struct guests *guests)
{
	struct uplink_filters want = { .nb_vlans = 0 };
	struct uplink *up = guests->uplink;
	struct assignment a;

	if (!up->assigns_pools)
		return;
	assign_all(guests, &a);
	want_vlans(guests, &a, &want);
	want_addresses(guests, &a, &want);
	let_switch(guests, &want);
	uplink_narrow(up, &want);
	change_pools(guests, &a);
	uplink_widen(up, &want);
	let_switch(guests, &want);
	log_reasons(guests, &a);
}

void
pools_follow(struct guests *guests)
{
	if (!guests->uplink->assigns_pools || fdb_changes(guests->fdb) ==
			__atomic_load_n(&guests->pools.fdb_changes, __ATOMIC_RELAXED))
		return;
	pthread_mutex_lock(&guests->mutex);
	pools_update(guests);
	pthread_mutex_unlock(&guests->mutex);
}

const char *
pools_text(const struct guests *guests, uint16_t id, char *text, size_t size)
{
	const struct uplink *up = guests->uplink;

	if (up->present && up->assigns_pools && uplink_pool(up, id) != 0)
		snprintf(text, size, "vmdq pool %u", uplink_pool(up, id));
	else
		snprintf(text, size, "%s", up->present ? "software" : "none");
	return text;
}
