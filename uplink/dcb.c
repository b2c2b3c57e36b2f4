/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "uplink/vmdq.h"

/*
 * Steering by VMDQ and DCB: a pool for each guest, and in it a queue for each traffic class, which
 * follows from the priority of a frame's tag: 16 pools of 8 classes or 32 of 4 (82599 datasheet,
 * 7.1.2.3 and 7.7).
 *
 * What differs from VMDQ alone comes from the ixgbe PMD. It leaves the pools' own settings
 * (PFVML2FLT) as they are after reset, so no pool takes broadcast or multicast. So pool 0 is made
 * the default pool: what no pool takes goes there, and its queues are polled as common ones, where
 * VLAN and MAC decide. Guest 0 is served from there as well.
 */

/*
 * Priority to class. With 8 classes, one each. With 4 the choice is the PMD's: it gives priorities
 * 4 to 7, in this order, the lowest classes that none of priorities 0 to 3 has. Were these four to
 * have a class each, the upper four would get classes 4 to 7, which do not exist and lose what is
 * put there. So the lower four share class 0, and only priority 7 gets a class too high.
 */
static const uint8_t class_of_8[PRIORITIES] = { 0, 1, 2, 3, 4, 5, 6, 7 };
static const uint8_t class_of_4[PRIORITIES] = { 0, 0, 0, 0, 1, 2, 3, 4 };

static int
plan_dcb(struct uplink *up, const struct config *cfg, struct uplink_plan *plan)
{
	struct rte_eth_vmdq_dcb_conf *rx = &plan->conf.rx_adv_conf.vmdq_dcb_conf;
	struct rte_eth_vmdq_dcb_tx_conf *tx = &plan->conf.tx_adv_conf.vmdq_dcb_tx_conf;
	const uint8_t *class_of = cfg->dcb == 8 ? class_of_8 : class_of_4;
	enum rte_eth_nb_pools pools = cfg->dcb == 8 ? RTE_ETH_16_POOLS : RTE_ETH_32_POOLS;
	const struct rte_eth_dev_info *info = &plan->info;
	unsigned int i;

	if (!plan->has_dcb || info->max_vmdq_pools < pools ||
			info->vmdq_queue_num != pools * cfg->dcb) {
		fprintf(stderr, "vhost-switch: --dcb %u needs a NIC with DCB and %u VMDQ pools of "
			"%u queues, but port %u (%s) has %u queues for %u pools%s\n", cfg->dcb,
			pools, cfg->dcb, up->port, info->driver_name, info->vmdq_queue_num,
			info->max_vmdq_pools, plan->has_dcb ? "" : " and no DCB");
		return -ENOTSUP;
	}
	if (vmdq_check_loopback(up, cfg, plan) < 0)
		return -ENOTSUP;
	vmdq_layout(up, plan, pools);
	if (up->common.count == 0)
		up->common = (struct uplink_queues){ .first = up->first_queue,
			.count = up->pool_queues };
	vmdq_transmit_by_pool(up, plan);

	plan->conf.rxmode.mq_mode = RTE_ETH_MQ_RX_VMDQ_DCB;
	rx->nb_queue_pools = pools;
	rx->enable_default_pool = 1;
	rx->default_pool = 0;
	rx->nb_pool_maps = (uint8_t)pools;
	for (i = 0; i < (unsigned int)pools; i++) {
		rx->pool_map[i].vlan_id = (uint16_t)(VLAN_TAG_BASE + i);
		rx->pool_map[i].pools = RTE_BIT64(i);
	}
	plan->conf.txmode.mq_mode = RTE_ETH_MQ_TX_VMDQ_DCB;
	tx->nb_queue_pools = pools;
	for (i = 0; i < PRIORITIES; i++) {
		rx->dcb_tc[i] = class_of[i];
		/* On the way out the switch chooses the queue: no class need be too high. */
		up->tx_class[i] = (uint8_t)RTE_MIN((uint32_t)class_of[i], cfg->dcb - 1);
		tx->dcb_tc[i] = up->tx_class[i];
	}
	return 0;
}

static int
start_dcb(struct uplink *up)
{
	if (up->pool_queues == 4)
		RTE_LOG(WARNING, UPLINK, "port %u: with 4 classes priorities 0 to 3 are class 0, "
			"4 is 1, 5 is 2, 6 is 3, and frames of priority 7 are lost in the NIC\n",
			up->port);
	return vmdq_started(up);
}

const struct steering steering_dcb = {
	.name = "VMDQ and DCB",
	.plan = plan_dcb,
	.started = start_dcb,
	.admit = vmdq_admit,
	.withdraw = vmdq_withdraw,
};
