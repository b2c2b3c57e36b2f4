/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_pmd_ixgbe.h>

#include "uplink/vmdq.h"

/*
 * Steering by VMDQ: a pool of receive queues for each guest. The NIC selects the pool by MAC and
 * VLAN tag (82599 datasheet, 7.10.3). pool_map ties VLAN 1000 + i to pool i once, at start; a
 * guest's MAC is added to its pool when it has been learned.
 */

/*
 * Drivers whose pool i has the queues that the numbers say, the i-th share of them. Others may
 * count differently: an 82576 reports 16 queues for 8 pools, and without RSS only queue i serves
 * pool i.
 */
static const char *const known_layout[] = { "net_ixgbe", "net_i40e" };

static bool
knows_queues_of_pools(const struct rte_eth_dev_info *info)
{
	unsigned int i;

	if (info->vmdq_queue_num == info->max_vmdq_pools)
		return true;
	for (i = 0; i < RTE_DIM(known_layout); i++) {
		if (strcmp(info->driver_name, known_layout[i]) == 0)
			return true;
	}
	return false;
}

void
vmdq_layout(struct uplink *up, struct uplink_plan *plan, uint16_t pools)
{
	const struct rte_eth_dev_info *info = &plan->info;

	up->first_pool = info->vmdq_pool_base;
	plan->nb_rxq = info->max_rx_queues;
	plan->guest_limit = RTE_MIN(pools, (uint16_t)GUEST_MAX);
	/* The port's own MAC takes one of the filters. */
	if (info->max_mac_addrs > 0)
		plan->guest_limit = (uint16_t)RTE_MIN((uint32_t)plan->guest_limit,
			info->max_mac_addrs - 1);
	if (!knows_queues_of_pools(info)) {
		/* Listen to all queues, and let the check of MAC and VLAN decide. */
		up->common = (struct uplink_queues){ .first = 0, .count = plan->nb_rxq };
		return;
	}
	up->first_queue = info->vmdq_queue_base;
	up->pool_queues = info->vmdq_queue_num / pools;
}

void
vmdq_transmit_by_pool(struct uplink *up, struct uplink_plan *plan)
{
	up->tx_by_pool = true;
	plan->nb_txq = (uint16_t)(plan->info.vmdq_queue_base + plan->info.vmdq_queue_num);
}

int
vmdq_check_loopback(const struct uplink *up, const struct config *cfg,
	const struct uplink_plan *plan)
{
	if (cfg->vm2vm != VM2VM_HARDWARE || plan->has_loopback)
		return 0;
	fprintf(stderr, "vhost-switch: --vm2vm 2 needs a NIC that can switch between its VMDQ "
		"pools, but port %u (%s) cannot\n", up->port, plan->info.driver_name);
	return -ENOTSUP;
}

static int
plan_vmdq(struct uplink *up, const struct config *cfg, struct uplink_plan *plan)
{
	struct rte_eth_vmdq_rx_conf *vmdq = &plan->conf.rx_adv_conf.vmdq_rx_conf;
	const struct rte_eth_dev_info *info = &plan->info;
	uint16_t pools = RTE_MIN(info->max_vmdq_pools, (uint16_t)RTE_ETH_64_POOLS);
	uint16_t i;

	if (info->vmdq_queue_num < pools || pools == 0) {
		fprintf(stderr, "vhost-switch: -p needs a NIC with a queue for each VMDQ pool, "
			"but port %u (%s) has %u queues for %u pools\n", up->port,
			info->driver_name, info->vmdq_queue_num, pools);
		return -ENOTSUP;
	}
	if (vmdq_check_loopback(up, cfg, plan) < 0)
		return -ENOTSUP;
	vmdq_layout(up, plan, pools);
	plan->conf.rxmode.mq_mode = RTE_ETH_MQ_RX_VMDQ_ONLY;
	plan->conf.txmode.mq_mode = RTE_ETH_MQ_TX_VMDQ_ONLY;
	/* The NIC's switch tells a sender by its queue, and gives nothing back to it. */
	if (up->loopback)
		vmdq_transmit_by_pool(up, plan);
	vmdq->nb_queue_pools = (enum rte_eth_nb_pools)pools;
	vmdq->nb_pool_maps = (uint8_t)pools;
	/* Broadcast too, or ARP from outside never reaches a guest. */
	vmdq->rx_mode = RTE_ETH_VMDQ_ACCEPT_BROADCAST | RTE_ETH_VMDQ_ACCEPT_MULTICAST;
	for (i = 0; i < pools; i++) {
		vmdq->pool_map[i].vlan_id = (uint16_t)(VLAN_TAG_BASE + i);
		vmdq->pool_map[i].pools = RTE_BIT64(i);
	}
	return 0;
}

int
vmdq_started(struct uplink *up)
{
	int ret;

	/*
	 * The pools take multicast, but the port in front of them knows no address of it (82599
	 * datasheet, 7.1.1.1: the multicast table is empty).
	 */
	ret = rte_eth_allmulticast_enable(up->port);
	if (ret < 0 && ret != -ENOTSUP)
		RTE_LOG(WARNING, UPLINK, "port %u cannot take all multicast: %s\n", up->port,
			strerror(-ret));
	/*
	 * Each time, on or off: a run before may have left it on. Not by the configuration's
	 * enable_loop_back, which lets a sender's own frames come back to it (PFVMTXSW), and which
	 * there is not with DCB.
	 */
	ret = rte_pmd_ixgbe_set_tx_loopback(up->port, up->loopback);
	return up->loopback ? ret : 0;
}

int
vmdq_admit(struct uplink *up, uint16_t guest, const struct rte_ether_addr *mac)
{
	struct rte_ether_addr copy = *mac, own;
	int ret = rte_eth_macaddr_get(up->port, &own);

	if (ret < 0)
		return ret;
	/* A pool can be added to its filter, but never be removed again: ethdev keeps address 0. */
	if (rte_is_same_ether_addr(mac, &own))
		return -EADDRINUSE;
	return rte_eth_dev_mac_addr_add(up->port, &copy, (uint32_t)up->first_pool + guest);
}

void
vmdq_withdraw(struct uplink *up, uint16_t guest, const struct rte_ether_addr *mac)
{
	struct rte_ether_addr copy = *mac;
	int ret = rte_eth_dev_mac_addr_remove(up->port, &copy);

	if (ret < 0)
		RTE_LOG(WARNING, UPLINK, "(%u) cannot remove the guest's MAC from the NIC: %s\n",
			guest, strerror(-ret));
}

const struct steering steering_vmdq = {
	.name = "VMDQ",
	.plan = plan_vmdq,
	.started = vmdq_started,
	.admit = vmdq_admit,
	.withdraw = vmdq_withdraw,
};
