/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PORT_FDB_H
#define PORT_FDB_H

/**
 * @file
 * The forwarding database: which guest has which MAC address.
 *
 * A key is a domain and a MAC (port/domain.h). The table is written rarely and read for every
 * frame: an rte_hash with lock-free readers. Walking a list of guests, as vhost switches used to
 * do, costs the more the more guests there are; a hash looks a burst up at once, with the buckets
 * prefetched.
 *
 * The MAC of a guest without a named port is given to it by fdb_add(), and is its own until
 * fdb_remove(). Addresses of named ports, and of the uplink in their domains, are noted as they are
 * seen (fdb_learn()): they may move, and are forgotten when they were not seen for long. Those that
 * a port's settings name are static.
 *
 * Frames of one burst mostly follow each other to the same destination, so a burst is looked up
 * by its runs of equal keys.
 *
 * Thread-safety: lookups run in workers without a lock. Writers lock each other out with a
 * spinlock that is only held for the table operation itself, so a worker may learn. Removal takes
 * two steps with a grace period between them (see fdb_remove()).
 */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_bitops.h>
#include <rte_ether.h>

#include "main.h"

struct fdb;
struct rte_rcu_qsbr;

/** fdb_lookup_burst()'s answer for an address that nobody has. */
#define FDB_NONE UINT16_MAX

/** Its answer for an address that was seen at the uplink. */
#define FDB_UPLINK 0xfffe

/** The bits of a key that a lookup looks at; what a caller keeps in the others does not matter. */
#define FDB_KEY_MASK (RTE_BIT64(60) - 1)

/** Of these, the bits of the MAC. */
#define FDB_MAC_MASK (RTE_BIT64(48) - 1)

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

/** fdb_key() of an address that may be the last thing in its memory. */
static inline uint64_t
fdb_key_of(const struct rte_ether_addr *mac)
{
	uint64_t key = 0;

	memcpy(&key, mac, RTE_ETHER_ADDR_LEN);
	return key;
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

/** Whether a key's address is one of many, broadcast included. */
static inline bool
fdb_is_multicast(uint64_t key)
{
	return key & 1;
}

/** Whether it is for bridges alone, which do not forward it: IEEE 802.1Q-2018, table 8-1. */
static inline bool
fdb_is_reserved(uint64_t key)
{
	return (key & UINT64_C(0xf0ffffffffff)) == UINT64_C(0x0000c28001);
}

/**
 * Create an empty database. Main thread.
 *
 * @param addresses how many there can be
 * @return it, or NULL with rte_errno set
 */
struct fdb *fdb_create(uint32_t addresses);

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

/** What became of an address that was seen. */
enum fdb_learning {
	FDB_LEARN_KNOWN,
	FDB_LEARN_NEW,
	FDB_LEARN_MOVED, /**< it was another's */
	FDB_LEARN_TAKEN, /**< it is another's: a static one, or one that was seen there just now */
	FDB_LEARN_FULL,	/**< not learned: the owner, or the table, can have no more */
};

/**
 * A frame came from an address of a domain. Any thread, mostly workers.
 *
 * @param fdb the database
 * @param key domain and MAC
 * @param owner device id of the port, or FDB_UPLINK
 * @param limit how many addresses the owner may learn
 * @param now in tenths of a second, from any beginning
 * @return what it is now
 */
enum fdb_learning fdb_learn(struct fdb *fdb, uint64_t key, uint16_t owner, uint32_t limit,
	uint32_t now);

/**
 * Make an address static. Whoever has learned it loses it. Any thread.
 *
 * @param fdb the database
 * @param key domain and MAC
 * @param owner device id of the port
 * @return 0 or -ENOSPC
 */
int fdb_set_static(struct fdb *fdb, uint64_t key, uint16_t owner);

/**
 * A number that becomes another whenever an address has come, moved or gone, not when it was seen
 * again. Any thread.
 */
uint32_t fdb_changes(const struct fdb *fdb);

/** The time as fdb_learn() notes it, in tenths of a second. Any thread. */
static inline uint32_t
fdb_now(void)
{
	return (uint32_t)(rte_rdtsc() / (rte_get_tsc_hz() / 10));
}

/**
 * Tenths of a second since an address was seen. Each worker has a time of its own. It may be
 * earlier than when another worker saw the address: then the answer is 0.
 */
static inline uint32_t
fdb_silence(uint32_t seen, uint32_t now)
{
	return (int32_t)(now - seen) > 0 ? now - seen : 0;
}

/** How many addresses an owner has learned, device id or FDB_UPLINK. Any thread. */
uint32_t fdb_learned(struct fdb *fdb, uint16_t owner);

/**
 * Forget the address of an owner that was not seen for longest, if it was silent for long enough.
 * Any thread but workers; waits for a grace period.
 *
 * @param fdb the database
 * @param rcu of the workers
 * @param owner device id
 * @param silence how long, in tenths of a second
 * @param now in tenths of a second
 * @return whether there is room for another now
 */
bool fdb_evict_oldest(struct fdb *fdb, struct rte_rcu_qsbr *rcu, uint16_t owner, uint32_t silence,
	uint32_t now);

/**
 * Forget what an owner has learned, but for the addresses that were seen last. Any thread but
 * workers; waits for a grace period if there was something.
 *
 * @param fdb the database
 * @param rcu of the workers
 * @param owner device id
 * @param n how many stay
 */
void fdb_keep_newest(struct fdb *fdb, struct rte_rcu_qsbr *rcu, uint16_t owner, uint32_t n);

/** Whether an address is to be forgotten. seen: 0 for a static one. */
typedef bool fdb_match_fn(uint64_t key, uint16_t owner, uint32_t seen, void *arg);

/**
 * Forget addresses, and wait for a grace period if there were any. Any thread but workers.
 *
 * @param fdb the database
 * @param rcu of the workers
 * @param match called for each address, and again under the lock of the writers
 * @param arg passed to match
 * @return how many were forgotten
 */
uint32_t fdb_flush(struct fdb *fdb, struct rte_rcu_qsbr *rcu, fdb_match_fn *match, void *arg);

/**
 * Look at all addresses. Any thread but workers.
 *
 * @param fdb the database
 * @param visit called for each; its answer does not matter. What workers learn or move meanwhile
 *   it may miss
 * @param arg passed to visit
 */
void fdb_visit(struct fdb *fdb, fdb_match_fn *visit, void *arg);

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
