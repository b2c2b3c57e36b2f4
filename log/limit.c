/* SPDX-License-Identifier: BSD-3-Clause */
#include "log/limit.h"

#define NS_PER_S 1000000000ull

/* While lines go on to be too many: often enough to be seen, too seldom to be a flood itself. */
#define REPORT_EVERY (10 * NS_PER_S)

/* Lines may flow again: two seconds' worth of them are in the bucket. */
#define FLOWING_S 2

/* Nanoseconds that one line costs. */
static uint64_t
cost(const struct line_limit *limit)
{
	return NS_PER_S / limit->per_s;
}

static void
refill(struct line_limit *limit, uint64_t now)
{
	uint64_t passed = now > limit->when ? now - limit->when : 0;

	limit->used = passed < limit->used ? limit->used - passed : 0;
	limit->when = now;
}

bool
line_limit_take(struct line_limit *limit, uint64_t now)
{
	refill(limit, now);
	if (limit->used + cost(limit) > limit->burst * cost(limit)) {
		if (limit->suppressed++ == 0)
			limit->reported = now;
		return false;
	}
	limit->used += cost(limit);
	return true;
}

uint32_t
line_limit_report(struct line_limit *limit, uint64_t now, bool last)
{
	uint64_t full = limit->burst * cost(limit);
	uint64_t flowing = full > FLOWING_S * NS_PER_S ? full - FLOWING_S * NS_PER_S : 0;
	uint32_t n = limit->suppressed;

	refill(limit, now);
	if (n == 0 || (!last && limit->used > flowing && now - limit->reported < REPORT_EVERY))
		return 0;
	limit->suppressed = 0;
	limit->reported = now;
	return n;
}
