/* SPDX-License-Identifier: BSD-3-Clause */
#include <rte_common.h>
#include <rte_cycles.h>

#include "port/limit.h"

/* Make a bucket one of this limit, if it is another's. */
static void
fit(struct limit *l, uint64_t per_second, uint64_t least)
{
	struct rte_meter_srtcm_params params = { .cir = per_second,
		.cbs = RTE_MAX(limit_bucket(per_second), least) };

	if (likely(l->per_second == per_second))
		return;
	rte_meter_srtcm_profile_config(&l->profile, &params);
	rte_meter_srtcm_config(&l->meter, &l->profile);
	l->per_second = per_second;
	l->debt = 0;
}

static bool
take(struct limit *l, uint32_t n)
{
	return rte_meter_srtcm_color_blind_check(&l->meter, &l->profile, rte_rdtsc(), n) ==
		RTE_COLOR_GREEN;
}

void
limit_return(struct limit *l, uint64_t n)
{
	l->meter.tc = RTE_MIN(l->meter.tc + n, l->profile.cbs);
}

bool
limit_take_slow(struct limit *l, uint64_t per_second, uint32_t n, uint32_t most)
{
	fit(l, per_second, most);
	return take(l, n);
}

bool
limit_may_send_slow(struct limit *l, uint64_t per_second, uint32_t part_max)
{
	fit(l, per_second, part_max);
	while (l->debt > 0) {
		uint32_t part = (uint32_t)RTE_MIN(l->debt, (uint64_t)part_max);

		if (!take(l, part))
			return false;
		l->debt -= part;
	}
	return true;
}
