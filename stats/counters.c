/* SPDX-License-Identifier: BSD-3-Clause */
#include "stats/counters.h"

#define DROP_ROW(upper, lower, text) { #lower, text },

const struct drop_reason tx_drop_reason[TX_DROP_MAX] = { FOREACH_TX_DROP(DROP_ROW) };
const struct drop_reason rx_drop_reason[RX_DROP_MAX] = { FOREACH_RX_DROP(DROP_ROW) };
const struct drop_reason uplink_drop_reason[UPLINK_DROP_MAX] = { FOREACH_UPLINK_DROP(DROP_ROW) };

/* A row is nothing but uint64_t: add it up as an array. Relaxed loads, a worker is writing. */
static void
add_words(void *sum, const void *row, size_t size)
{
	const uint64_t *from = row;
	uint64_t *to = sum;
	size_t i;

	for (i = 0; i < size / sizeof(uint64_t); i++)
		to[i] += __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

void
counters_add_guest(struct guest_counters *sum, const struct guest_counters *row)
{
	add_words(sum, row, sizeof(*row));
}

void
counters_add_uplink(struct uplink_counters *sum, const struct uplink_counters *row)
{
	add_words(sum, row, sizeof(*row));
}

struct guest_totals
counters_totals(const struct guest_counters *c)
{
	struct guest_totals t = { .tx_ok = c->tx_ok, .rx_ok = c->rx_ok };
	unsigned int i;

	for (i = 0; i < TX_DROP_MAX; i++)
		t.tx_dropped += c->tx_drop[i];
	for (i = 0; i < RX_DROP_MAX; i++)
		t.rx_dropped += c->rx_drop[i];
	t.tx_total = t.tx_ok + t.tx_dropped;
	t.rx_total = t.rx_ok + t.rx_dropped;
	return t;
}
