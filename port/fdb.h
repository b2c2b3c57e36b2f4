/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PORT_FDB_H
#define PORT_FDB_H

/**
 * @file
 * The forwarding database: which guest has which MAC address.
 *
 * A MAC belongs to one guest, for as long as that guest lives; nothing ages. So the table is
 * written twice in the life of a guest and read for every frame: an rte_hash with lock-free
 * readers. Walking a list of guests, as vhost switches used to do, costs the more the more guests
 * there are; a hash looks a burst up at once, with the buckets prefetched.
 *
 * Frames of one burst mostly follow each other to the same destination, so a burst is looked up
 * by its runs of equal keys.
 *
 * Thread-safety: lookups run in workers without a lock. Writers lock each other out with a
 * spinlock that is only held for the table operation itself, so a worker may learn. Removal takes
 * two steps with a grace period between them (see fdb_remove()).
 */

#include <stdint.h>
#include <string.h>

#include <rte_bitops.h>
#include <rte_ether.h>

#include "main.h"

struct fdb;

/** fdb_lookup_burst()'s answer for an address that nobody has. */
#define FDB_NONE UINT16_MAX

/** The bits of a key that a lookup looks at; what a caller keeps in the others does not matter. */
#define FDB_KEY_MASK (RTE_BIT64(60) - 1)

/** Addresses looked up at once, rte_hash's limit (RTE_HASH_LOOKUP_BULK_MAX). */
#define FDB_BURST_MAX 64

/**
 * Make a lookup key of a MAC address.
 *
 * @param mac the address; the two bytes after it must be readable, as they are in every
 *   Ethernet header for both of its addresses
 * @return its six bytes as a number, the rest 0
 */
static inline uint64_t
fdb_key(const struct rte_ether_addr *mac)
{
	uint64_t key;

	memcpy(&key, mac, sizeof(key)); /* one load, aligned or not */
	return key & UINT64_C(0xffffffffffff);
}

/**
 * The way back from fdb_key().
 *
 * @param key a lookup key
 * @param[out] mac the address that it stands for
 */
static inline void
fdb_key_to_mac(uint64_t key, struct rte_ether_addr *mac)
{
	memcpy(mac->addr_bytes, &key, RTE_ETHER_ADDR_LEN);
}

/**
 * Create an empty database. Main thread.
 *
 * @return it, or NULL with rte_errno set
 */
struct fdb *fdb_create(void);

/**
 * Free it. Main thread, when no worker runs any more.
 *
 * @param fdb may be NULL
 */
void fdb_free(struct fdb *fdb);

/**
 * Give a MAC to a guest. Any thread.
 *
 * @param fdb the database
 * @param key the MAC, from fdb_key()
 * @param guest device id
 * @return 0, -EEXIST when another guest has it, -ENOSPC when the table is full
 */
int fdb_add(struct fdb *fdb, uint64_t key, uint16_t guest);

/**
 * Take a MAC out. New lookups do not find it; one that runs at this moment may still. Any thread.
 *
 * @param fdb the database
 * @param key the MAC, from fdb_key()
 * @return a position to hand to fdb_reclaim() when every worker has passed a quiescent state, or
 *   -ENOENT
 */
int32_t fdb_remove(struct fdb *fdb, uint64_t key);

/**
 * Make the memory of a removed entry available again. Any thread, after a grace period.
 *
 * @param fdb the database
 * @param position what fdb_remove() returned, when not negative
 */
void fdb_reclaim(struct fdb *fdb, int32_t position);

/**
 * Find the guests of a burst. Worker.
 *
 * @param fdb the database
 * @param keys MACs, from fdb_key()
 * @param n number of them, at most FDB_BURST_MAX
 * @param[out] guest a device id or FDB_NONE for each
 */
void fdb_lookup_burst(struct fdb *fdb, const uint64_t *keys, uint16_t n, uint16_t *guest);

/**
 * Find the guest of one MAC. Worker or, between removals, any thread.
 *
 * @param fdb the database
 * @param key the MAC, from fdb_key()
 * @return a device id or FDB_NONE
 */
uint16_t fdb_lookup(struct fdb *fdb, uint64_t key);

#endif /* PORT_FDB_H */
