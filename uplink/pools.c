/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <string.h>

#include <rte_pmd_ixgbe.h>

#include "uplink/vmdq.h"

/* What both ways have in common: the default pool is everybody's, all others are nobody's yet. */
static void
assign_pools(struct uplink *up, struct uplink_plan *plan, uint16_t pools)
{
	up->assigns_pools = true;
	up->nb_pools = pools;
	up->mac_filters = (uint16_t)(RTE_MIN(plan->info.max_mac_addrs, POOL_MACS_MAX) - 1u);
	/* A guest without a pool sends by the default pool's queues, so these have many senders. */
	up->txq_shared = up->tx_by_pool;
	up->tx_default_pool = up->loopback;
	up->common = (struct uplink_queues){ .first = up->first_queue, .count = up->pool_queues };
	plan->guest_limit = GUEST_MAX;
	plan->conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_VLAN_FILTER;
}

/*
 * The driver sets what a pool accepts beside its filters for all pools, and only at start. So
 * either all accept untagged frames for their addresses, or none does.
 */
static int
plan_assigned(struct uplink *up, const struct config *cfg, struct uplink_plan *plan)
{
	struct rte_eth_vmdq_rx_conf *vmdq = &plan->conf.rx_adv_conf.vmdq_rx_conf;
	int ret = steering_vmdq.plan(up, cfg, plan);

	if (ret < 0)
		return ret;
	assign_pools(up, plan, (uint16_t)vmdq->nb_queue_pools);
	up->pools_untagged = cfg->has_untagged;
	vmdq->nb_pool_maps = 0;
	vmdq->rx_mode = up->pools_untagged ? RTE_ETH_VMDQ_ACCEPT_UNTAG : 0;
	vmdq->enable_default_pool = 1;
	vmdq->default_pool = 0;
	return 0;
}

static int
plan_assigned_dcb(struct uplink *up, const struct config *cfg, struct uplink_plan *plan)
{
	struct rte_eth_vmdq_dcb_conf *dcb = &plan->conf.rx_adv_conf.vmdq_dcb_conf;
	int ret = steering_dcb.plan(up, cfg, plan);

	if (ret < 0)
		return ret;
	assign_pools(up, plan, (uint16_t)dcb->nb_queue_pools);
	dcb->nb_pool_maps = 0;
	return 0;
}

/*
 * The driver gives the port's own address to all pools, and it is the default pool's. And all VLANs
 * have to pass, whether a pool is in them or not: the driver stops one when its last pool leaves.
 */
static int
open_filters(struct uplink *up)
{
	int ret = rte_eth_macaddr_get(up->port, &up->own_mac);
	uint16_t vlan;

	if (ret == 0)
		ret = rte_eth_dev_default_mac_addr_set(up->port, &up->own_mac);
	for (vlan = 0; vlan <= RTE_ETHER_MAX_VLAN_ID && ret == 0; vlan++)
		ret = rte_eth_dev_vlan_filter(up->port, vlan, 1);
	return ret;
}

static int
start_assigned(struct uplink *up)
{
	int ret = vmdq_started(up);

	return ret == 0 ? open_filters(up) : ret;
}

static int
start_assigned_dcb(struct uplink *up)
{
	int ret = steering_dcb.started(up);

	return ret == 0 ? open_filters(up) : ret;
}

unsigned int
uplink_find_mac(const struct uplink_filters *f, const struct rte_ether_addr *mac)
{
	unsigned int i;

	for (i = 0; i < f->nb_macs && !rte_is_same_ether_addr(&f->mac[i].mac, mac); i++)
		;
	return i;
}

unsigned int
uplink_find_vlan(const struct uplink_filters *f, uint16_t vlan)
{
	unsigned int i;

	for (i = 0; i < f->nb_vlans && f->vlan[i].vlan != vlan; i++)
		;
	return i;
}

/* The pools of an address in the NIC are to be these too. */
static void
add_mac(struct uplink *up, struct uplink_mac *has, uint64_t pools)
{
	uint64_t left;
	int ret;

	for (left = pools & ~has->pools; left != 0; left &= left - 1) {
		uint32_t pool = (uint32_t)__builtin_ctzll(left);

		ret = rte_eth_dev_mac_addr_add(up->port, &has->mac, up->first_pool + pool);
		if (ret == 0)
			has->pools |= RTE_BIT64(pool);
		else
			RTE_LOG(WARNING, UPLINK, "port %u: no MAC filter for " MAC_FMT ": %s\n",
				up->port, RTE_ETHER_ADDR_BYTES(&has->mac), strerror(-ret));
	}
}

/* A VLAN's pools in the NIC are to be these, and those of no others. */
static void
set_vlan(struct uplink *up, struct uplink_vlan *has, uint64_t pools)
{
	uint64_t left;
	int ret;

	for (left = pools ^ has->pools; left != 0; left &= left - 1) {
		uint64_t pool = left & -left;

		ret = rte_pmd_ixgbe_set_vf_vlan_filter(up->port, has->vlan, pool,
			(pools & pool) != 0);
		if (ret == 0)
			has->pools ^= pool;
		else
			RTE_LOG(WARNING, UPLINK, "port %u: no VLAN filter for VLAN %u: %d\n",
				up->port, has->vlan, ret);
	}
	if (has->pools == 0) /* the driver has stopped the VLAN */
		rte_eth_dev_vlan_filter(up->port, has->vlan, 1);
}

bool
uplink_reaches(const struct uplink *up, uint16_t guest, const struct rte_ether_addr *mac,
	uint16_t vlan)
{
	const struct uplink_filters *f = __atomic_load_n(&up->switches, __ATOMIC_ACQUIRE);
	uint16_t pool = uplink_pool(up, guest);
	unsigned int m, v;

	if (f == NULL || pool == 0)
		return false;
	m = uplink_find_mac(f, mac);
	v = uplink_find_vlan(f, vlan);
	return m < f->nb_macs && v < f->nb_vlans &&
		(f->mac[m].pools & f->vlan[v].pools & RTE_BIT64(pool)) != 0;
}

void
uplink_switch(struct uplink *up, const struct uplink_filters *want)
{
	struct uplink_filters *f = &up->switched[up->switches == &up->switched[0]];
	unsigned int i, w;

	f->nb_vlans = f->nb_macs = 0;
	for (i = 0; i < up->filters.nb_vlans; i++) {
		w = uplink_find_vlan(want, up->filters.vlan[i].vlan);
		if (w == want->nb_vlans)
			continue;
		f->vlan[f->nb_vlans] = up->filters.vlan[i];
		f->vlan[f->nb_vlans++].pools &= want->vlan[w].pools;
	}
	/* An address that loses a pool is in no filter for a moment. */
	for (i = 0; i < up->filters.nb_macs; i++) {
		w = uplink_find_mac(want, &up->filters.mac[i].mac);
		if (w < want->nb_macs && (up->filters.mac[i].pools & ~want->mac[w].pools) == 0)
			f->mac[f->nb_macs++] = up->filters.mac[i];
	}
	__atomic_store_n(&up->switches, f, __ATOMIC_RELEASE);
}

void
uplink_narrow(struct uplink *up, const struct uplink_filters *want)
{
	struct uplink_filters *set = &up->filters;
	unsigned int i, w;

	for (i = 0; i < set->nb_macs; ) {
		struct uplink_mac *has = &set->mac[i];
		uint64_t keep = 0;

		w = uplink_find_mac(want, &has->mac);
		if (w < want->nb_macs)
			keep = has->pools & want->mac[w].pools;
		if (keep != has->pools) { /* ethdev removes an address from all of its pools */
			rte_eth_dev_mac_addr_remove(up->port, &has->mac);
			has->pools = 0;
			add_mac(up, has, keep);
		}
		if (has->pools == 0)
			*has = set->mac[--set->nb_macs];
		else
			i++;
	}
	/* The default pool stays: guests without a pool may be in the VLAN. */
	for (i = 0; i < set->nb_vlans; i++) {
		struct uplink_vlan *has = &set->vlan[i];

		w = uplink_find_vlan(want, has->vlan);
		set_vlan(up, has, has->pools &
			(1 | (w < want->nb_vlans ? want->vlan[w].pools : 0)));
	}
}

/* A place for a VLAN. If all are taken, one that only the default pool is in makes room. */
static struct uplink_vlan *
take_vlan(struct uplink *up, uint16_t vlan)
{
	struct uplink_filters *set = &up->filters;
	unsigned int i;

	/* The driver keeps the first filter for VLAN 0. */
	if (vlan == 0 || set->nb_vlans + (uplink_find_vlan(set, 0) == set->nb_vlans) <
			POOL_VLANS_MAX) {
		set->vlan[set->nb_vlans] = (struct uplink_vlan){ .vlan = vlan };
		return &set->vlan[set->nb_vlans++];
	}
	for (i = 0; i < set->nb_vlans; i++) {
		if (set->vlan[i].pools != 1 || set->vlan[i].vlan == 0)
			continue;
		set_vlan(up, &set->vlan[i], 0);
		set->vlan[i] = (struct uplink_vlan){ .vlan = vlan };
		return &set->vlan[i];
	}
	return NULL;
}

void
uplink_widen(struct uplink *up, const struct uplink_filters *want)
{
	struct uplink_filters *set = &up->filters;
	unsigned int i, h;

	for (i = 0; i < want->nb_vlans; i++) {
		struct uplink_vlan *has;

		h = uplink_find_vlan(set, want->vlan[i].vlan);
		has = h < set->nb_vlans ? &set->vlan[h] : take_vlan(up, want->vlan[i].vlan);
		if (has != NULL)
			set_vlan(up, has, want->vlan[i].pools);
	}
	for (i = 0; i < want->nb_macs; i++) {
		h = uplink_find_mac(set, &want->mac[i].mac);
		if (h == up->mac_filters)
			continue;
		if (h == set->nb_macs)
			set->mac[set->nb_macs++] = (struct uplink_mac){ .mac = want->mac[i].mac };
		add_mac(up, &set->mac[h], want->mac[i].pools);
		if (set->mac[h].pools == 0) /* it was the last, and was refused */
			set->nb_macs--;
	}
}

void
uplink_give_pool(struct uplink *up, uint16_t guest, uint8_t pool)
{
	if (pool != 0)
		uplink_drain_pool(up, pool);
	__atomic_store_n(&up->pool_of[guest], pool, __ATOMIC_RELEASE);
}

const struct steering steering_assigned = {
	.name = "VMDQ",
	.is_promiscuous = true,
	.plan = plan_assigned,
	.started = start_assigned,
};

const struct steering steering_assigned_dcb = {
	.name = "VMDQ and DCB",
	.is_promiscuous = true,
	.plan = plan_assigned_dcb,
	.started = start_assigned_dcb,
};
