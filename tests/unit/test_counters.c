/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include "stats/counters.h"
#include "unit.h"

static void
test_totals_are_the_sum_of_the_reasons(void **state)
{
	struct guest_counters sum = { 0 }, row = { .tx_ok = 10, .rx_ok = 20 };
	struct guest_totals t;
	uint64_t tx = 0, rx = 0, i;

	(void)state;
	for (i = 0; i < TX_DROP_MAX; i++)
		tx += row.tx_drop[i] = 1 + i;
	for (i = 0; i < RX_DROP_MAX; i++)
		rx += row.rx_drop[i] = 100 + i;
	counters_add_guest(&sum, &row);
	counters_add_guest(&sum, &row);
	t = counters_totals(&sum);
	assert_int_equal(t.tx_ok, 20);
	assert_int_equal(t.rx_ok, 40);
	assert_int_equal(t.tx_dropped, 2 * tx);
	assert_int_equal(t.rx_dropped, 2 * rx);
	assert_int_equal(t.tx_total, t.tx_dropped + t.tx_ok);
	assert_int_equal(t.rx_total, t.rx_dropped + t.rx_ok);
}

static void
test_every_reason_has_name_and_text(void **state)
{
	unsigned int i, k;

	(void)state;
	for (i = 0; i < TX_DROP_MAX; i++) {
		assert_true(strlen(tx_drop_reason[i].name) > 0 &&
			strlen(tx_drop_reason[i].text) > 0);
		for (k = 0; k < i; k++)
			assert_string_not_equal(tx_drop_reason[i].name, tx_drop_reason[k].name);
	}
	assert_string_equal(tx_drop_reason[TX_DROP_MAC_TAKEN].name, "mac_taken");
	assert_string_equal(rx_drop_reason[RX_DROP_RING_FULL].name, "ring_full");
	assert_string_equal(uplink_drop_reason[UPLINK_DROP_WRONG_POOL].name, "wrong_pool");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_totals_are_the_sum_of_the_reasons),
		cmocka_unit_test(test_every_reason_has_name_and_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
