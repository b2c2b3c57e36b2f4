/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "uplink/uplink.h"

/*
 * Steering by VMDQ: a pool of receive queues for each guest. The NIC selects the pool by MAC and
 * VLAN tag (82599 datasheet, 7.10.3). pool_map ties VLAN 1000 + i to pool i once, at start; a
 * guest's MAC is added to its pool when it has been learned.
 *
 * Which of a pool's queues serves it differs between NICs (82576: without RSS, queue i alone
 * serves pool i, whatever the queue count says), so all of them are polled, and the switch checks
 * MAC and VLAN of what comes.
 */

static int
plan_vmdq(struct uplink *up, const struct config *cfg, struct uplink_plan *plan)
{
	struct rte_eth_vmdq_rx_conf *vmdq = &plan->conf.rx_adv_conf.vmdq_rx_conf;
	const struct rte_eth_dev_info *info = &plan->info;
	uint16_t pools = RTE_MIN(info->max_vmdq_pools, (uint16_t)RTE_ETH_64_POOLS);
	uint16_t i;

	if (info->vmdq_queue_num < pools || pools == 0) {
		fprintf(stderr, "vhost-switch: -p takes a NIC with a queue for each VMDQ pool, "
			"port %u (%s) has %u queues for %u pools\n", up->port, info->driver_name,
			info->vmdq_queue_num, pools);
		return -ENOTSUP;
	}
	if (cfg->dcb != 0 || cfg->vm2vm == VM2VM_HARDWARE) {
		fprintf(stderr, "vhost-switch: %s is not supported on port %u (%s)\n",
			cfg->dcb != 0 ? "--dcb" : "--vm2vm 2", up->port, info->driver_name);
		return -ENOTSUP;
	}
	up->pool_queues = info->vmdq_queue_num / info->max_vmdq_pools;
	if (up->pool_queues == 0)
		up->pool_queues = 1;
	up->first_queue = info->vmdq_queue_base;
	up->first_pool = info->vmdq_pool_base;
	plan->nb_rxq = info->max_rx_queues;
	plan->guest_limit = RTE_MIN(pools, (uint16_t)GUEST_MAX);

	plan->conf.rxmode.mq_mode = RTE_ETH_MQ_RX_VMDQ_ONLY;
	if (up->vlan_strip)
		plan->conf.rxmode.offloads |=
			RTE_ETH_RX_OFFLOAD_VLAN_STRIP & info->rx_offload_capa;
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

static void
drain(const struct uplink *up, uint16_t guest)
{
	struct uplink_queues queues = uplink_guest_queues(up, guest);
	struct rte_mbuf *frames[BURST_MAX];
	uint16_t q, n, left;

	for (q = queues.first; q < queues.first + queues.count; q++) {
		/* A ring full at most: what comes in meanwhile is caught by the check of VLAN. */
		for (left = up->nb_rxd; left >= BURST_MAX; left -= BURST_MAX) {
			n = uplink_receive(up, q, frames);
			rte_pktmbuf_free_bulk(frames, n);
			if (n == 0)
				break;
		}
	}
}

static int
admit_vmdq(struct uplink *up, uint16_t guest, const struct rte_ether_addr *mac)
{
	struct rte_ether_addr copy = *mac;

	return rte_eth_dev_mac_addr_add(up->port, &copy, (uint32_t)up->first_pool + guest);
}

static void
withdraw_vmdq(struct uplink *up, uint16_t guest, const struct rte_ether_addr *mac)
{
	struct rte_ether_addr copy = *mac;
	int ret = rte_eth_dev_mac_addr_remove(up->port, &copy);

	if (ret < 0)
		RTE_LOG(WARNING, UPLINK, "(%u) the NIC kept the guest's MAC: %s\n", guest,
			strerror(-ret));
	drain(up, guest);
}

const struct steering steering_vmdq = {
	.name = "VMDQ",
	.plan = plan_vmdq,
	.admit = admit_vmdq,
	.withdraw = withdraw_vmdq,
};
