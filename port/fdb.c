/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdlib.h>

#include <rte_errno.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_malloc.h>
#include <rte_pause.h>
#include <rte_spinlock.h>

#include "port/fdb.h"
#include "thread.h"

/*
 * The value of an address: who has it in the lower 16 bits, whether it is static, and in the upper
 * half when it was seen. Of a guest without a named port it is the device id alone.
 */
#define STATIC RTE_BIT64(16)
#define SEEN_SHIFT 32

/* Tenths of a second for which whoever has sent from an address keeps it. */
#define HOLD 10

/* How often a worker tries to get the lock, which is held for a table operation. */
#define SPINS_MAX 1000

struct fdb {
	struct rte_hash *hash;
	rte_spinlock_t writer;
	uint32_t addresses;	   /* how many there can be */
	uint32_t changes;	   /* atomic, written under the lock */
	uint32_t learned[ID_MAX + 1]; /* how many each owner has, the uplink last */
};

static uint16_t
owner_of(uint64_t value)
{
	return (uint16_t)value;
}

static uint32_t
seen_at(uint64_t value)
{
	return (uint32_t)(value >> SEEN_SHIFT);
}

static uint64_t
make_value(uint16_t owner, uint32_t now)
{
	return owner | (uint64_t)now << SEEN_SHIFT;
}

/* After a change. Under the lock. */
static void
note_change(struct fdb *fdb)
{
	__atomic_store_n(&fdb->changes, fdb->changes + 1, __ATOMIC_RELEASE);
}

uint32_t
fdb_changes(const struct fdb *fdb)
{
	return __atomic_load_n(&fdb->changes, __ATOMIC_ACQUIRE);
}

struct fdb *
fdb_create(uint32_t addresses)
{
	struct rte_hash_parameters params = {
		.name = "fdb",
		.entries = addresses,
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
	fdb->addresses = addresses;
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
	if (rte_hash_lookup_data(fdb->hash, &key, &owner) >= 0) {
		ret = (uintptr_t)owner == guest ? 0 : -EEXIST;
	} else {
		ret = rte_hash_add_key_data(fdb->hash, &key, (void *)(uintptr_t)guest);
		note_change(fdb);
	}
	rte_spinlock_unlock(&fdb->writer);
	return ret;
}

int32_t
fdb_remove(struct fdb *fdb, uint64_t key)
{
	int32_t position;

	rte_spinlock_lock(&fdb->writer);
	position = rte_hash_del_key(fdb->hash, &key);
	note_change(fdb);
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

static bool
find(const struct fdb *fdb, uint64_t key, uint64_t *value)
{
	void *data;

	if (rte_hash_lookup_data(fdb->hash, &key, &data) < 0)
		return false;
	*value = (uintptr_t)data;
	return true;
}

static int
put(struct fdb *fdb, uint64_t key, uint64_t value)
{
	return rte_hash_add_key_data(fdb->hash, &key, (void *)(uintptr_t)value);
}

/* Where an owner's addresses are counted. */
static uint32_t *
count_of(struct fdb *fdb, uint16_t owner)
{
	return &fdb->learned[RTE_MIN(owner, (uint16_t)ID_MAX)];
}

/* fdb_learn() of an address that somebody has. Under the lock. */
static enum fdb_learning
see_again(struct fdb *fdb, uint64_t key, uint64_t value, uint16_t owner, uint32_t limit,
	uint32_t now)
{
	uint16_t before = owner_of(value);

	if (before == owner) {
		if (!(value & STATIC))
			put(fdb, key, make_value(owner, now));
		return FDB_LEARN_KNOWN;
	}
	if ((value & STATIC) || fdb_silence(seen_at(value), now) < HOLD)
		return FDB_LEARN_TAKEN;
	if (*count_of(fdb, owner) >= limit)
		return FDB_LEARN_FULL;
	--*count_of(fdb, before);
	++*count_of(fdb, owner);
	put(fdb, key, make_value(owner, now));
	note_change(fdb);
	return FDB_LEARN_MOVED;
}

/*
 * A worker does not wait for a thread that has lost its CPU while it holds the lock: there will be
 * another frame.
 */
static bool
lock_briefly(struct fdb *fdb)
{
	unsigned int i;

	for (i = 0; i < SPINS_MAX; i++) {
		if (rte_spinlock_trylock(&fdb->writer))
			return true;
		rte_pause();
	}
	return false;
}

/* fdb_learn() without the lock: whoever has the address keeps it, and a new one is not learned. */
static enum fdb_learning
see_only(const struct fdb *fdb, uint64_t key, uint16_t owner)
{
	uint64_t value;

	if (!find(fdb, key, &value))
		return FDB_LEARN_FULL;
	return owner_of(value) == owner ? FDB_LEARN_KNOWN : FDB_LEARN_TAKEN;
}

enum fdb_learning
fdb_learn(struct fdb *fdb, uint64_t key, uint16_t owner, uint32_t limit, uint32_t now)
{
	enum fdb_learning seen = FDB_LEARN_FULL;
	uint64_t value;

	/* Without the lock in the usual case. */
	if (find(fdb, key, &value) && owner_of(value) == owner &&
			((value & STATIC) || seen_at(value) == now))
		return FDB_LEARN_KNOWN;
	if (!lock_briefly(fdb))
		return see_only(fdb, key, owner);
	if (find(fdb, key, &value)) {
		seen = see_again(fdb, key, value, owner, limit, now);
	} else if (*count_of(fdb, owner) < limit && put(fdb, key, make_value(owner, now)) == 0) {
		++*count_of(fdb, owner);
		note_change(fdb);
		seen = FDB_LEARN_NEW;
	}
	rte_spinlock_unlock(&fdb->writer);
	return seen;
}

uint32_t
fdb_learned(struct fdb *fdb, uint16_t owner)
{
	return __atomic_load_n(count_of(fdb, owner), __ATOMIC_RELAXED);
}

int
fdb_set_static(struct fdb *fdb, uint64_t key, uint16_t owner)
{
	uint64_t value;
	int ret;

	rte_spinlock_lock(&fdb->writer);
	if (find(fdb, key, &value) && !(value & STATIC))
		--*count_of(fdb, owner_of(value));
	ret = put(fdb, key, owner | STATIC);
	note_change(fdb);
	rte_spinlock_unlock(&fdb->writer);
	return ret;
}

/* Addresses that are to be forgotten, and where they were, to be reclaimed. */
struct victims {
	struct victim {
		uint64_t key;
		uint32_t seen;
		int32_t position;
	} *at;
	uint32_t n, room;
	fdb_match_fn *match;
	void *arg;
};

/* Without memory the others are forgotten the next time. */
static bool
note_victim(uint64_t key, uint16_t owner, uint32_t seen, void *arg)
{
	struct victims *v = arg;

	if (!v->match(key, owner, seen, v->arg))
		return false;
	if (v->n == v->room) {
		uint32_t room = v->room > 0 ? 2 * v->room : 64;
		struct victim *more = realloc(v->at, room * sizeof(*more));

		if (more == NULL)
			return false;
		v->at = more;
		v->room = room;
	}
	v->at[v->n++] = (struct victim){ key, seen, -ENOENT };
	return true;
}

/* If it is still the same: a worker may have seen it again meanwhile. */
static void
forget_one(struct fdb *fdb, struct victims *v, struct victim *one)
{
	uint64_t value;

	rte_spinlock_lock(&fdb->writer);
	if (find(fdb, one->key, &value) && v->match(one->key, owner_of(value),
			value & STATIC ? 0 : seen_at(value), v->arg)) {
		one->position = rte_hash_del_key(fdb->hash, &one->key);
		if (!(value & STATIC))
			--*count_of(fdb, owner_of(value));
		note_change(fdb);
	}
	rte_spinlock_unlock(&fdb->writer);
}

/* Those that match still. Waits for a grace period. */
static void
forget_all(struct fdb *fdb, struct rte_rcu_qsbr *rcu, struct victims *v)
{
	uint32_t i;

	for (i = 0; i < v->n; i++)
		forget_one(fdb, v, &v->at[i]);
	if (v->n > 0)
		wait_for_workers(rcu);
	for (i = 0; i < v->n; i++)
		fdb_reclaim(fdb, v->at[i].position);
	free(v->at);
}

uint32_t
fdb_flush(struct fdb *fdb, struct rte_rcu_qsbr *rcu, fdb_match_fn *match, void *arg)
{
	struct victims v = { .match = match, .arg = arg };

	fdb_visit(fdb, note_victim, &v);
	forget_all(fdb, rcu, &v);
	return v.n;
}

static bool
is_learned_by(uint64_t key, uint16_t owner, uint32_t seen, void *arg)
{
	const uint16_t *wanted = arg;

	RTE_SET_USED(key);
	return owner == *wanted && seen != 0;
}

static int
older_first(const void *a, const void *b)
{
	uint32_t x = ((const struct victim *)a)->seen, y = ((const struct victim *)b)->seen;

	return (x > y) - (x < y);
}

void
fdb_keep_newest(struct fdb *fdb, struct rte_rcu_qsbr *rcu, uint16_t owner, uint32_t n)
{
	struct victims v = { .match = is_learned_by, .arg = &owner };

	fdb_visit(fdb, note_victim, &v);
	if (v.n > 0)
		qsort(v.at, v.n, sizeof(v.at[0]), older_first);
	v.n -= RTE_MIN(v.n, n);
	forget_all(fdb, rcu, &v);
}

/* The oldest address of an owner. */
struct oldest {
	uint16_t owner;
	uint64_t key;
	uint32_t seen; /* 0: none yet */
};

static bool
find_oldest(uint64_t key, uint16_t owner, uint32_t seen, void *arg)
{
	struct oldest *o = arg;

	if (owner == o->owner && seen != 0 && (o->seen == 0 || seen < o->seen)) {
		o->key = key;
		o->seen = seen;
	}
	return false;
}

static bool
is_oldest(uint64_t key, uint16_t owner, uint32_t seen, void *arg)
{
	const struct oldest *o = arg;

	return key == o->key && owner == o->owner && seen == o->seen;
}

bool
fdb_evict_oldest(struct fdb *fdb, struct rte_rcu_qsbr *rcu, uint16_t owner, uint32_t silence,
	uint32_t now)
{
	struct oldest o = { .owner = owner };
	struct victims v = { .match = is_oldest, .arg = &o };

	fdb_visit(fdb, find_oldest, &o);
	if (o.seen == 0 || fdb_silence(o.seen, now) < silence)
		return false;
	note_victim(o.key, owner, o.seen, &v);
	forget_all(fdb, rcu, &v);
	return v.n > 0;
}

void
fdb_visit(struct fdb *fdb, fdb_match_fn *visit, void *arg)
{
	const void *key;
	uint32_t next = 0;
	void *data;

	while (rte_hash_iterate(fdb->hash, &key, &data, &next) >= 0) {
		uint64_t k, value = (uintptr_t)data;

		memcpy(&k, key, sizeof(k));
		visit(k, owner_of(value), value & STATIC ? 0 : seen_at(value), arg);
	}
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
