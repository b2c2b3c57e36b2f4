/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef UPLINK_VMDQ_H
#define UPLINK_VMDQ_H

/**
 * @file
 * What VMDQ with and without DCB have in common; for this room alone.
 */

#include "uplink/uplink.h"

/** Transmit descriptors a queue where each pool has its own: four bursts. */
#define TXD_POOL 128

/**
 * Lay out a port's queues and pools: where they begin, how many, who gets what.
 *
 * @param[in,out] up the uplink
 * @param[in,out] plan its info is read
 * @param pools number of pools
 */
void vmdq_layout(struct uplink *up, struct uplink_plan *plan, uint16_t pools);

/**
 * Have a guest's frames leave by its own pool's queues.
 *
 * @param[in,out] up the uplink
 * @param[in,out] plan the number of transmit queues is set
 */
void vmdq_transmit_by_pool(struct uplink *up, struct uplink_plan *plan);

/**
 * Refuse --vm2vm 2 where the NIC cannot switch between its pools.
 *
 * @param up the uplink
 * @param cfg the configuration
 * @param plan what the port can
 * @return 0, or -ENOTSUP after a line on stderr
 */
int vmdq_check_loopback(const struct uplink *up, const struct config *cfg,
	const struct uplink_plan *plan);

/** @name Members of struct steering. */
/**@{*/
int vmdq_started(struct uplink *up);
int vmdq_admit(struct uplink *up, uint16_t guest, const struct rte_ether_addr *mac);
void vmdq_withdraw(struct uplink *up, uint16_t guest, const struct rte_ether_addr *mac);
/**@}*/

#endif /* UPLINK_VMDQ_H */
