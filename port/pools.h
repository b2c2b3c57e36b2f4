/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PORT_POOLS_H
#define PORT_POOLS_H

/**
 * @file
 * Who has which of the NIC's pools, and what its filters are to be, where pools are assigned while
 * the switch runs (uplink/pools.h).
 *
 * A named port has its pool from the reload that adds it on, connected or not, so it is known at
 * start which ports are steered by the NIC. A guest without a port has one while it is connected,
 * if one is left. Whoever has a pool keeps it as long as all of its VLANs have room in the NIC.
 *
 * The addresses in the filters are those that connected guests have in the FDB. Both lists are made
 * from the tables as a whole, whenever one of these has changed. That is simpler than to follow
 * each way in which an address may come, move and go, and nothing depends on when it is done:
 * frames without a filter come by the default pool.
 *
 * Two pools with the same address that are both in a VLAN would each get a copy of its frames. So
 * such an address is in no filter.
 *
 * Threads: under the guest table's mutex, but for pools_follow().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "main.h"

struct guests;

/** Why a guest has no pool. */
enum pool_reason {
	POOL_GIVEN, /**< it has one, or is not there */
	POOL_VLANS, /**< its VLANs have no room in the filters */
	POOL_UNTAGGED, /**< it has untagged frames on the uplink, which no pool accepts */
	POOL_TAKEN, /**< all are taken */
	POOL_REASON_MAX
};

/** What is remembered from one update to the next. */
struct pools {
	uint8_t why[ID_MAX]; /**< enum pool_reason of each guest */
	uint32_t fdb_changes; /**< what the addresses in the filters are from; atomic */
	bool full_logged;
};

/**
 * Bring pools and filters up to date with guests, ports and the FDB. Does nothing where pools are
 * not assigned. Under the mutex; may wait for grace periods.
 *
 * @param guests the table
 */
void pools_update(struct guests *guests);

/**
 * pools_update() if addresses have changed. Control loop, ten times a second or so; takes the
 * mutex.
 *
 * @param guests the table
 */
void pools_follow(struct guests *guests);

/**
 * Say by what a guest's frames from the uplink are steered: "vmdq pool 3", "software", or "none"
 * without an uplink. Under the mutex.
 *
 * @param guests the table
 * @param id device id
 * @param[out] text where it goes
 * @param size bytes of @p text; 16 are enough
 * @return @p text
 */
const char *pools_text(const struct guests *guests, uint16_t id, char *text, size_t size);

#endif /* PORT_POOLS_H */
