/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef UPLINK_POOLS_H
#define UPLINK_POOLS_H

/**
 * @file
 * Pools that are given to guests while the switch runs, and what the NIC puts into them.
 *
 * With named ports a guest's VLANs and addresses are not known at start: a port may have several,
 * they may be another port's too, and they change. So the default pool, pool 0, is everybody's. The
 * NIC puts there what no other pool has a filter for: broadcast, multicast, unknown addresses, and
 * all frames of guests without a pool. Another pool belongs to one guest, and has nothing but
 * unicast to that guest's addresses in its VLANs. So a frame lands in one pool, and wherever it
 * lands, the switch looks its guest up by domain and address: filters make the way shorter, and
 * never decide who gets a frame. They may be set late, or not at all.
 *
 * What the filters are to be is said as a whole (struct uplink_filters), in two steps. First
 * uplink_narrow() removes what is not in it, then uplink_widen() adds what is missing. So no state
 * between them has a VLAN or an address that neither the one before nor the one after has.
 *
 * With --vm2vm 2 the NIC's switch takes a frame of one guest to another where the filters say so
 * (82599 datasheet, 7.10.3.4). All others have to be copied in software, or they would leave by the
 * wire and be lost. So workers have a copy of the filters, with nothing in it that is about to be
 * removed. All guests send by the queues of the default pool: the NIC gives nothing back to the
 * pool that a frame came from, so floods, which are copied in software, come to nobody a second
 * time.
 *
 * This is for NICs of net_ixgbe, whose driver alone has a call for the VLANs of a pool that runs.
 *
 * Threads: all under the guest table's mutex, but for uplink_reaches().
 */

#include <stdbool.h>
#include <stdint.h>

#include <rte_ether.h>

/** VLAN filters of an 82599 (PFVLVF). The first is for VLAN 0, that is for priority tags. */
#define POOL_VLANS_MAX 64

/** MAC filters of an 82599 (RAL and RAH), the port's own address included. */
#define POOL_MACS_MAX 128

/** Which pools get what. Bit i is pool i. */
struct uplink_filters {
	unsigned int nb_vlans, nb_macs;
	struct uplink_vlan {
		uint16_t vlan;
		uint64_t pools; /**< with the default pool: while it is in, the VLAN stays known */
	} vlan[POOL_VLANS_MAX];
	struct uplink_mac {
		struct rte_ether_addr mac;
		uint64_t pools;
	} mac[POOL_MACS_MAX];
};

struct uplink;

/**
 * Whether the NIC's switch takes a guest's frames to its pool, so that they may be sent to the NIC
 * (--vm2vm 2 with pools that are assigned). A worker.
 *
 * @param up the uplink
 * @param guest device id of the guest that they are for
 * @param mac its address
 * @param vlan their VLAN on the uplink, 0: they have no tag
 */
bool uplink_reaches(const struct uplink *up, uint16_t guest, const struct rte_ether_addr *mac,
	uint16_t vlan);

/**
 * Find an address.
 *
 * @param f filters
 * @param mac the address
 * @return its place in f->mac, f->nb_macs if it is not there
 */
unsigned int uplink_find_mac(const struct uplink_filters *f, const struct rte_ether_addr *mac);

/** uplink_find_mac() for a VLAN, in f->vlan and f->nb_vlans. */
unsigned int uplink_find_vlan(const struct uplink_filters *f, uint16_t vlan);

/**
 * Let workers use what of the filters is wanted, with --vm2vm 2: before the others are removed, and
 * again when new ones have been added. A grace period must pass before the next call.
 *
 * @param up an uplink that assigns pools, of a NIC that switches
 * @param want what is to be there
 */
void uplink_switch(struct uplink *up, const struct uplink_filters *want);

/**
 * Remove the filters that are not wanted.
 *
 * @param up an uplink that assigns pools
 * @param want what is to be there
 */
void uplink_narrow(struct uplink *up, const struct uplink_filters *want);

/**
 * Add the filters that are missing. If the NIC refuses one, that is logged, and its frames come by
 * the default pool.
 *
 * @param up an uplink that assigns pools, after uplink_narrow()
 * @param want what is to be there
 */
void uplink_widen(struct uplink *up, const struct uplink_filters *want);

/**
 * Give a pool to a guest. It is emptied first.
 *
 * @param up an uplink that assigns pools
 * @param guest device id
 * @param pool a pool without filters that no worker polls, or 0: the guest has none any more, and
 *	its worker may poll the queues of the one before until a grace period has passed
 */
void uplink_give_pool(struct uplink *up, uint16_t guest, uint8_t pool);

#endif /* UPLINK_POOLS_H */
