/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <string.h>

#include <rte_malloc.h>
#include <rte_rcu_qsbr.h>

#include "port/fdb.h"
#include "unit.h"

static struct fdb *fdb;
static struct rte_rcu_qsbr *rcu; /* nobody is to be waited for */

static int
create(void **state)
{
	if (fdb == NULL && start_eal(state) != 0)
		return -1;
	rcu = rte_zmalloc(NULL, rte_rcu_qsbr_get_memsize(1), RTE_CACHE_LINE_SIZE);
	rte_rcu_qsbr_init(rcu, 1);
	fdb = fdb_create(2 * GUEST_MAX);
	return fdb == NULL;
}

static int
destroy(void **state)
{
	(void)state;
	fdb_free(fdb);
	rte_free(rcu);
	return 0;
}

static void
test_key_is_the_address(void **state)
{
	struct rte_ether_hdr eth = { .dst_addr.addr_bytes = { 1, 2, 3, 4, 5, 6 },
		.src_addr.addr_bytes = { 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0xfa },
		.ether_type = 0xabcd };

	(void)state;
	assert_int_equal(fdb_key(&eth.dst_addr), 0x060504030201);
	assert_int_equal(fdb_key(&eth.src_addr), 0xfafbfcfdfeff);
}

static void
test_one_owner(void **state)
{
	int32_t position;

	(void)state;
	assert_int_equal(fdb_lookup(fdb, 7), FDB_NONE);
	assert_int_equal(fdb_add(fdb, 7, 3), 0);
	assert_int_equal(fdb_add(fdb, 7, 3), 0);
	assert_int_equal(fdb_add(fdb, 7, 4), -EEXIST);
	assert_int_equal(fdb_lookup(fdb, 7), 3);
	position = fdb_remove(fdb, 7);
	assert_true(position >= 0);
	assert_int_equal(fdb_lookup(fdb, 7), FDB_NONE);
	fdb_reclaim(fdb, position);
	assert_int_equal(fdb_add(fdb, 7, 4), 0);
	assert_int_equal(fdb_lookup(fdb, 7), 4);
	assert_true(fdb_remove(fdb, 1234) < 0);
	fdb_reclaim(fdb, -ENOENT);
	fdb_reclaim(fdb, fdb_remove(fdb, 7));
}

static void
test_bursts(void **state)
{
	uint64_t key[BURST_MAX];
	uint16_t guest[BURST_MAX], n, i;
	unsigned int mask;

	(void)state;
	for (i = 0; i < GUEST_MAX; i++)
		assert_int_equal(fdb_add(fdb, 1000 + i, i), 0);
	for (mask = 1; mask <= 64; mask++) { /* runs of equal keys of many lengths */
		for (n = 0; n <= BURST_MAX; n++) {
			for (i = 0; i < n; i++)
				key[i] = 1000 + (i / mask) * 9 % (GUEST_MAX + 20);
			fdb_lookup_burst(fdb, key, n, guest);
			for (i = 0; i < n; i++)
				assert_int_equal(guest[i], key[i] < 1000 + GUEST_MAX
						? key[i] - 1000 : FDB_NONE);
		}
	}
}

static void
test_room_for_coming_and_going(void **state)
{
	unsigned int turn;

	(void)state;
	for (turn = 0; turn < 100 * GUEST_MAX; turn++) {
		assert_int_equal(fdb_add(fdb, 5000 + turn, 1), 0);
		fdb_reclaim(fdb, fdb_remove(fdb, 5000 + turn));
	}
}

/* Whether fdb_changes() tells of what was done. */
static bool
has_changed(void)
{
	static uint32_t before;
	bool changed = fdb_changes(fdb) != before;

	before = fdb_changes(fdb);
	return changed;
}

static void
test_changes_are_told(void **state)
{
	const uint64_t key = 0x00a000000002;

	(void)state;
	has_changed();
	assert_int_equal(fdb_learn(fdb, key, 130, 8, 100), FDB_LEARN_NEW);
	assert_true(has_changed());
	assert_int_equal(fdb_learn(fdb, key, 130, 8, 150), FDB_LEARN_KNOWN);
	assert_int_equal(fdb_learn(fdb, key, 131, 8, 151), FDB_LEARN_TAKEN);
	assert_int_equal(fdb_learn(fdb, key + 256, 131, 0, 151), FDB_LEARN_FULL);
	assert_false(has_changed());
	assert_int_equal(fdb_learn(fdb, key, 131, 8, 170), FDB_LEARN_MOVED);
	assert_true(has_changed());
	assert_int_equal(fdb_set_static(fdb, key, 132), 0);
	assert_true(has_changed());
	fdb_reclaim(fdb, fdb_remove(fdb, key));
	assert_true(has_changed());
	assert_int_equal(fdb_add(fdb, key, 3), 0);
	assert_true(has_changed());
	assert_int_equal(fdb_add(fdb, key, 4), -EEXIST);
	assert_false(has_changed());
	fdb_reclaim(fdb, fdb_remove(fdb, key));
}

/* A worker in the middle of a round has the time at which it began. */
static void
test_seen_by_a_worker_whose_time_is_ahead(void **state)
{
	const uint64_t key = 0x00a000000003;

	(void)state;
	assert_int_equal(fdb_learn(fdb, key, 130, 1, 101), FDB_LEARN_NEW);
	assert_int_equal(fdb_learn(fdb, key, 131, 1, 100), FDB_LEARN_TAKEN);
	assert_false(fdb_evict_oldest(fdb, rcu, 130, 20, 100));
	assert_true(fdb_evict_oldest(fdb, rcu, 130, 20, 121));
}

/* It is called twice, and the second time the lock is not to be had. */
static bool
see_meanwhile(uint64_t key, uint16_t owner, uint32_t seen, void *arg)
{
	if (owner != 130)
		return false;
	*(enum fdb_learning *)arg = fdb_learn(fdb, key, 130, 1, seen + 1);
	assert_int_equal(fdb_learn(fdb, key, 131, 1, seen + 2), FDB_LEARN_TAKEN);
	return true;
}

/* A worker that cannot have the lock at once goes on with what it finds. */
static void
test_seen_while_another_thread_has_the_lock(void **state)
{
	enum fdb_learning own = FDB_LEARN_FULL;

	(void)state;
	assert_int_equal(fdb_learn(fdb, 0x00a000000004, 130, 1, 200), FDB_LEARN_NEW);
	assert_int_equal(fdb_flush(fdb, rcu, see_meanwhile, &own), 1);
	assert_int_equal(own, FDB_LEARN_KNOWN);
}

/* A port that may learn less than before keeps what was seen last, and its static addresses. */
static void
test_the_newest_stay(void **state)
{
	const uint64_t key = 0x00b000000000, fixed = 0x00b000000100, others = 0x00b000000200;
	uint64_t i;

	(void)state;
	for (i = 0; i < 10; i++)
		assert_int_equal(fdb_learn(fdb, key + (i << 16), 130, 16,
			300 + (uint32_t)(i * 7 % 10)), FDB_LEARN_NEW);
	assert_int_equal(fdb_learn(fdb, others, 131, 16, 1), FDB_LEARN_NEW);
	assert_int_equal(fdb_set_static(fdb, fixed, 130), 0);
	fdb_keep_newest(fdb, rcu, 130, 12);
	assert_int_equal(fdb_learned(fdb, 130), 10);
	fdb_keep_newest(fdb, rcu, 130, 4);
	assert_int_equal(fdb_learned(fdb, 130), 4);
	for (i = 0; i < 10; i++)
		assert_int_equal(fdb_lookup(fdb, key + (i << 16)), i * 7 % 10 < 6 ? FDB_NONE : 130);
	fdb_keep_newest(fdb, rcu, 130, 0);
	assert_int_equal(fdb_learned(fdb, 130), 0);
	assert_int_equal(fdb_lookup(fdb, fixed), 130);
	assert_int_equal(fdb_lookup(fdb, others), 131);
	fdb_reclaim(fdb, fdb_remove(fdb, fixed));
	assert_true(fdb_evict_oldest(fdb, rcu, 131, 0, 2));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_key_is_the_address),
		cmocka_unit_test(test_one_owner),
		cmocka_unit_test(test_bursts),
		cmocka_unit_test(test_changes_are_told),
		cmocka_unit_test(test_seen_by_a_worker_whose_time_is_ahead),
		cmocka_unit_test(test_seen_while_another_thread_has_the_lock),
		cmocka_unit_test(test_the_newest_stay),
		cmocka_unit_test(test_room_for_coming_and_going),
	};

	return cmocka_run_group_tests(tests, create, destroy);
}
