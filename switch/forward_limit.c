/* SPDX-License-Identifier: BSD-3-Clause */
/* What guests of named ports may send in a second, and be sent: forward.h. */
#include "port/guest.h"
#include "switch/burst.h"
#include "switch/forward.h"
#include "switch/worker.h"

bool
forward_is_limited(const struct port_rules *rules)
{
	return rules->settings->rate != 0 || rules->settings->frames != 0;
}

bool
forward_may_poll_port(struct guest *from)
{
	const struct port_settings *s = port_rules(from->port)->settings;

	return limit_may_send(&from->limits.bytes, s->rate / 8, LIMIT_PART) &&
		limit_may_send(&from->limits.frames, s->frames, 1);
}

/*
 * Frames that are taken at once from a guest with a limit: they are paid for afterwards, so no more
 * than its buckets could hold.
 */
void
forward_limit_burst(struct burst *b)
{
	const struct port_settings *s = b->rules->settings;
	uint64_t n = BURST_VIEWS;

	if (s->rate != 0)
		n = RTE_MIN(n, limit_bucket(s->rate / 8) / FRAME_MAX);
	if (s->frames != 0)
		n = RTE_MIN(n, limit_bucket(s->frames));
	burst_shorten(b, (uint16_t)RTE_MAX(n, UINT64_C(1)));
}

void
forward_charge(struct guest *from, const struct burst *b, uint16_t n)
{
	const struct port_settings *s = b->rules->settings;

	limit_sent(&from->limits.bytes, s->rate, burst_bytes(b, 0, n));
	limit_sent(&from->limits.frames, s->frames, n);
}

uint16_t
forward_limited_run(struct worker *w, const struct guest *from, struct guest *to, struct burst *b,
	const struct run *run)
{
	uint64_t rate = port_rules(to->port)->settings->rate_to / 8;
	struct run part = *run;

	for (;;) {
		part.end = part.first;
		while (in_run(b, part.end, run) &&
				limit_take_to(&to->limits, rate, b->len[part.end])) {
			part.end++;
			gather(b, (uint16_t)(part.end + GATHER_AHEAD));
		}
		if (part.end > part.first) {
			part.first = (uint16_t)(part.first + output_run(w, to, b, &part));
			if (part.first < part.end) {
				limit_return_to(&to->limits, burst_bytes(b, part.first, part.end));
				return (uint16_t)(part.first - run->first);
			}
		}
		part.first = part.end;
		if (!in_run(b, part.first, run))
			return (uint16_t)(part.first - run->first);
		if (from != NULL)
			w->counters.guest[from->id].tx_drop[TX_DROP_RATE]++;
		w->counters.guest[to->id].rx_drop[RX_DROP_RATE]++;
		part.first++;
	}
}
