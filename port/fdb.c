/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdlib.h>

#include <rte_errno.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_malloc.h>
#include <rte_spinlock.h>

#include "port/fdb.h"

struct fdb {
	struct rte_hash *hash;
	rte_spinlock_t writer;
};

struct fdb *
fdb_create(void)
{
	struct rte_hash_parameters params = {
		.name = "fdb",
		/* Twice the guests: entries of guests that left wait for their grace period. */
		.entries = 2 * GUEST_MAX,
		.key_len = sizeof(uint64_t),
		.hash_func = rte_hash_crc,
		.socket_id = SOCKET_ID_ANY,
		.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF,
	};
	struct fdb *fdb = rte_zmalloc("fdb", sizeof(*fdb), 0);

	if (fdb == NULL) {
		rte_errno = ENOMEM;
		return NULL;
	}
	rte_spinlock_init(&fdb->writer);
	fdb->hash = rte_hash_create(&params);
	if (fdb->hash == NULL) {
		rte_free(fdb);
		return NULL;
	}
	return fdb;
}

void
fdb_free(struct fdb *fdb)
{
	if (fdb == NULL)
		return;
	rte_hash_free(fdb->hash);
	rte_free(fdb);
}

int
fdb_add(struct fdb *fdb, uint64_t key, uint16_t guest)
{
	void *owner;
	int ret;

	rte_spinlock_lock(&fdb->writer);
	if (rte_hash_lookup_data(fdb->hash, &key, &owner) >= 0)
		ret = (uintptr_t)owner == guest ? 0 : -EEXIST;
	else
		ret = rte_hash_add_key_data(fdb->hash, &key, (void *)(uintptr_t)guest);
	rte_spinlock_unlock(&fdb->writer);
	return ret;
}

int32_t
fdb_remove(struct fdb *fdb, uint64_t key)
{
	int32_t position;

	rte_spinlock_lock(&fdb->writer);
	position = rte_hash_del_key(fdb->hash, &key);
	rte_spinlock_unlock(&fdb->writer);
	return position;
}

void
fdb_reclaim(struct fdb *fdb, int32_t position)
{
	if (position < 0)
		return;
	rte_spinlock_lock(&fdb->writer);
	rte_hash_free_key_with_position(fdb->hash, position);
	rte_spinlock_unlock(&fdb->writer);
}

uint16_t
fdb_lookup(struct fdb *fdb, uint64_t key)
{
	void *owner;

	key &= FDB_KEY_MASK;
	if (rte_hash_lookup_data(fdb->hash, &key, &owner) < 0)
		return FDB_NONE;
	return (uint16_t)(uintptr_t)owner;
}

void
fdb_lookup_burst(struct fdb *fdb, const uint64_t *keys, uint16_t n, uint16_t *guest)
{
	uint64_t run_key[FDB_BURST_MAX];
	const void *run[FDB_BURST_MAX];
	void *owner[FDB_BURST_MAX];
	uint8_t run_of[FDB_BURST_MAX];
	uint64_t hits = 0;
	uint16_t i, runs = 0;

	for (i = 0; i < n; i++) {
		uint64_t key = keys[i] & FDB_KEY_MASK;

		if (i == 0 || key != run_key[runs - 1]) {
			run_key[runs] = key;
			run[runs] = &run_key[runs];
			runs++;
		}
		run_of[i] = (uint8_t)(runs - 1);
	}
	if (runs == 1) {
		uint16_t only = fdb_lookup(fdb, keys[0]);

		for (i = 0; i < n; i++)
			guest[i] = only;
		return;
	}
	if (runs == 0 || rte_hash_lookup_bulk_data(fdb->hash, run, runs, &hits, owner) < 0)
		hits = 0;
	for (i = 0; i < n; i++)
		guest[i] = hits & RTE_BIT64(run_of[i]) ? (uint16_t)(uintptr_t)owner[run_of[i]]
						       : FDB_NONE;
}
